//! Two tables talk over a lossy network in virtual time.
//!
//! Goal: whatever the network loses, delays, duplicates or reorders, every transaction ends on both sides with a final
//! response, a time-out or a missing ACK that is reported, and nothing is left. Method: seeded runs; each message is lost
//! with probability `loss` per cent and delayed up to 400 ms. A failure names its seed.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::{
    types::{Duration, Flow, Instant, Rng, Transport, TxnId},
    wire::sip::{Message, Method, RequestBuilder, ResponseBuilder},
};

use super::{Event, Input, Output, Table, fixture};

/// What happens later.
#[derive(Debug)]
enum Due {
    Deliver(usize, Bytes),
    Respond { txn: TxnId, status: u16, request: Box<Message> },
    Cancel(TxnId),
    Acknowledge(TxnId),
}

/// How a client transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Final(u16),
    TimedOut,
}

struct World {
    seed: u64,
    now: Instant,
    rng: Rng,
    loss: u32,
    transport: Transport,
    /// 0 calls, 1 answers.
    tables: [Table; 2],
    wakes: [Option<Instant>; 2],
    network: BTreeMap<(Instant, u64), Due>,
    sent: u64,
    ends: HashMap<TxnId, End>,
    requests: HashMap<TxnId, Message>,
    /// Server INVITE transactions whose final response is not given yet.
    ringing: HashMap<TxnId, Message>,
    accepted: HashMap<String, TxnId>,
    settled: usize,
}

impl World {
    fn new(seed: u64, loss: u32, transport: Transport) -> Self {
        let mut rng = Rng::from_small_seed(seed);
        Self {
            seed,
            now: Instant::from_unix_ms(1_000),
            tables: [Table::new(rng.fork(), 10_000), Table::new(rng.fork(), 10_000)],
            rng,
            loss,
            transport,
            wakes: [None; 2],
            network: BTreeMap::new(),
            sent: 0,
            ends: HashMap::new(),
            requests: HashMap::new(),
            ringing: HashMap::new(),
            accepted: HashMap::new(),
            settled: 0,
        }
    }

    fn flow(&self, side: usize) -> Flow {
        fixture::flow(self.transport, ["192.0.2.2:5060", "192.0.2.1:5062"][side])
    }

    fn call(&mut self, method: Method, number: usize) {
        let (txn, branch) = self.tables[0].reserve();
        let name = method.as_str();
        let via = format!("SIP/2.0/{} 192.0.2.1:5062;branch={branch}", self.transport.via_token());
        let bytes = RequestBuilder::new(name, "sip:1002@example.com")
            .header("Via", via)
            .header("Max-Forwards", 70)
            .header("From", "<sip:1001@example.com>;tag=caller")
            .header("To", "<sip:1002@example.com>")
            .header("Call-ID", number)
            .header("CSeq", format!("1 {name}"))
            .finish();
        let request = Message::parse(bytes).unwrap();
        self.requests.insert(txn, request.clone());
        let flow = self.flow(0);
        self.feed(0, Input::Send { txn, flow, request });
        if method == Method::Invite && self.rng.below(3) == 0 {
            self.later(3_000, Due::Cancel(txn));
        }
    }

    fn later(&mut self, ms_max: u32, due: Due) {
        let delay = Duration::from_millis(u64::from(self.rng.below(ms_max)) + 1);
        self.sent += 1;
        self.network.insert((self.now + delay, self.sent), due);
    }

    /// UDP loses, delays and now and then doubles; TCP only delays.
    fn transmit(&mut self, from: usize, bytes: &Bytes) {
        let copies = match (self.transport, self.rng.below(100)) {
            (Transport::Udp, n) if n < self.loss => 0,
            (Transport::Udp, n) if n >= 95 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.later(400, Due::Deliver(1 - from, bytes.clone()));
        }
    }

    fn feed(&mut self, side: usize, input: Input) {
        self.tables[side].handle_input(self.now, input);
        loop {
            match self.tables[side].poll_output() {
                Output::Transmit { bytes, .. } => self.transmit(side, &bytes),
                Output::Event(event) if side == 0 => self.on_client_event(event),
                Output::Event(event) => self.on_server_event(event),
                Output::Dropped(_) => {}
                Output::Timeout(at) => {
                    self.wakes[side] = at;
                    break;
                }
            }
        }
    }

    fn on_client_event(&mut self, event: Event) {
        match event {
            Event::Response { txn, message } if message.status() >= 200 => {
                let end = End::Final(message.status());
                let before = self.ends.insert(txn, end);
                assert!(before.is_none_or(|before| before == end), "seed {}: {before:?} then {end:?}", self.seed);
                if message.status() < 300 && self.requests[&txn].method() == Some(Method::Invite) {
                    let (_, branch) = self.tables[0].reserve();
                    let via = format!("SIP/2.0/UDP 192.0.2.1:5062;branch={branch}");
                    let ack = RequestBuilder::new("ACK", "sip:1002@example.com")
                        .header("Via", via)
                        .header("From", "<sip:1001@example.com>;tag=caller")
                        .header("To", "<sip:1002@example.com>;tag=callee")
                        .header("Call-ID", message.call_id())
                        .header("CSeq", "1 ACK")
                        .finish();
                    self.transmit(0, &ack);
                }
            }
            Event::TimedOut { txn } => {
                let before = self.ends.insert(txn, End::TimedOut);
                assert_eq!(before, None, "seed {}: timed out after an end", self.seed);
            }
            Event::Response { .. } | Event::Terminated { .. } => {}
            Event::Request { .. }
            | Event::Cancelled { .. }
            | Event::Ack { .. }
            | Event::TransportFailed { .. }
            | Event::NotAcknowledged { .. } => panic!("seed {}: not a client's event: {event:?}", self.seed),
        }
    }

    fn on_server_event(&mut self, event: Event) {
        match event {
            Event::Request { txn, message, .. } if message.method() == Some(Method::Invite) => {
                self.ringing.insert(txn, message.clone());
                let status = [200, 486][self.rng.below(2) as usize];
                if self.rng.below(2) == 0 {
                    self.later(500, Due::Respond { txn, status: 180, request: Box::new(message.clone()) });
                }
                self.later(5_000, Due::Respond { txn, status, request: Box::new(message) });
            }
            Event::Request { txn, message, .. } => {
                self.later(1_000, Due::Respond { txn, status: 200, request: Box::new(message) });
            }
            Event::Cancelled { txn, .. } => {
                if let Some(request) = self.ringing.get(&txn).cloned() {
                    self.later(1, Due::Respond { txn, status: 487, request: Box::new(request) });
                }
            }
            Event::Ack { message, .. } => {
                if let Some(&txn) = self.accepted.get(message.call_id()) {
                    self.later(1, Due::Acknowledge(txn));
                }
            }
            Event::NotAcknowledged { .. } => {}
            Event::Terminated { txn } => {
                self.settled += 1;
                assert!(!self.ringing.contains_key(&txn), "seed {}: ended without an answer", self.seed);
            }
            Event::Response { .. } | Event::TimedOut { .. } | Event::TransportFailed { .. } => {
                panic!("seed {}: not a server's event: {event:?}", self.seed)
            }
        }
    }

    fn run(&mut self) {
        let give_up = self.now + Duration::from_secs(300);
        while let Some(next) =
            self.network.keys().next().map(|key| key.0).into_iter().chain(self.wakes.into_iter().flatten()).min()
        {
            assert!(next <= give_up, "seed {}: does not come to rest", self.seed);
            self.now = self.now.max(next);
            for side in 0..2 {
                if self.wakes[side].is_some_and(|at| at <= self.now) {
                    self.feed(side, Input::Timeout);
                }
            }
            while let Some(entry) = self.network.first_entry().filter(|entry| entry.key().0 <= self.now) {
                match entry.remove() {
                    Due::Deliver(side, bytes) => {
                        let (flow, message) = (self.flow(side), Message::parse(bytes).unwrap());
                        self.feed(side, Input::Received { flow, message });
                    }
                    Due::Cancel(txn) => self.feed(0, Input::Cancel { txn, reason: String::new() }),
                    Due::Acknowledge(txn) => self.feed(1, Input::Acknowledged { txn }),
                    Due::Respond { txn, status, request } => self.respond(txn, status, &request),
                }
            }
        }
    }

    fn respond(&mut self, txn: TxnId, status: u16, request: &Message) {
        if request.method() == Some(Method::Invite) && !self.ringing.contains_key(&txn) {
            return;
        }
        if status >= 200 {
            self.ringing.remove(&txn);
        }
        if status == 200 {
            self.accepted.insert(request.call_id().to_owned(), txn);
        }
        let response = ResponseBuilder::to(request, status, "Whatever", "callee", self.flow(1).remote).finish();
        self.feed(1, Input::Respond { txn, status, response });
    }
}

#[test]
fn every_transaction_ends_on_both_sides_and_leaves_nothing() {
    for seed in 0..60 {
        let transport = if seed % 3 == 0 { Transport::Tcp } else { Transport::Udp };
        let loss = [0, 10, 30, 60, 100][usize::try_from(seed % 5).unwrap()];
        let mut world = World::new(seed, loss, transport);
        for number in 0..20 {
            let method = if number % 2 == 0 { Method::Invite } else { Method::Options };
            world.call(method, number);
        }
        world.run();
        assert_eq!(world.ends.len(), 20, "seed {seed}: a client transaction has no end: {:?}", world.ends);
        assert_eq!(world.tables.each_ref().map(Table::len), [0, 0], "seed {seed}: transactions are left");
        if transport.is_reliable() || loss == 0 {
            let is_answered = |end: &End| matches!(end, End::Final(_));
            assert!(world.ends.values().all(is_answered), "seed {seed}: {:?}", world.ends);
            assert_eq!(world.settled, 20, "seed {seed}");
        } else if loss == 100 {
            assert!(world.ends.values().all(|&end| end == End::TimedOut), "seed {seed}: {:?}", world.ends);
            assert_eq!(world.settled, 0, "seed {seed}: nothing can have arrived");
        }
    }
}
