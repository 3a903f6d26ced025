//! The transaction table between a user that makes mistakes and peers that keep to nothing.

use std::collections::BTreeMap;

use ringdown::{
    sip::transaction::{Event, Input, Output, Table},
    types::{ConnectionId, Duration, Flow, Instant, Rng, Transport, TxnId},
    wire::sip::{Message, RequestBuilder, ResponseBuilder, validate},
};

use super::choices::Choices;

const METHODS: [&str; 8] = ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "PRACK", "UPDATE", "FOO"];
const STATUSES: [u16; 10] = [100, 180, 183, 200, 202, 302, 401, 487, 503, 699];
const TRANSACTIONS_MAX: usize = 8;
const STEPS_MAX: usize = 128;
/// 64*T1 behind each of: a CANCEL, a final response, its ACK.
const QUIET: Duration = Duration::from_secs(200);

/// What the target keeps of a transaction that the table has told of.
struct Known {
    message: Message,
    is_server: bool,
}

struct World {
    table: Table,
    now: Instant,
    known: BTreeMap<TxnId, Known>,
}

/// Each step is a choice of what comes in. At the end the user answers and cancels all, and nothing may be left.
pub fn transactions(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World::new();
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
    }
    let left: Vec<_> = world.known.iter().map(|(txn, known)| (*txn, known.is_server)).collect();
    for (txn, is_server) in left {
        match is_server {
            true => world.respond(txn, 500),
            false => world.input(Input::Cancel { txn, reason: String::new() }),
        }
    }
    world.pass(QUIET);
    assert!(world.known.is_empty(), "a transaction never ended");
    assert!(world.table.is_empty(), "the table keeps what nobody knows of");
    assert!(matches!(world.table.poll_output(), Output::Timeout(None)), "a timer runs for nothing");
}

impl World {
    fn new() -> Self {
        let now = Instant::from_unix_ms(1_700_000_000_000);
        Self { table: Table::new(Rng::from_small_seed(7), TRANSACTIONS_MAX), now, known: BTreeMap::new() }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(9) {
            0 | 1 => self.request(choices),
            2 => self.response(choices),
            3 => self.send(choices),
            4 => {
                let Some(txn) = self.one(choices, false) else { return };
                self.input(Input::Cancel { txn, reason: choices.text() });
            }
            5 => {
                let Some(txn) = self.one(choices, true) else { return };
                self.respond(txn, *choices.of(&STATUSES));
            }
            6 => {
                let Some(txn) = self.one(choices, true) else { return };
                self.input(Input::Acknowledged { txn });
            }
            7 => self.input(Input::FlowFailed { flow: flow(choices) }),
            _ => self.pass(Duration::from_millis(choices.time_ms())),
        }
    }

    fn one(&self, choices: &mut Choices<'_>, is_server: bool) -> Option<TxnId> {
        choices.one_of(self.known.iter().filter(|(_, known)| known.is_server == is_server).map(|(txn, _)| *txn))
    }

    /// Few branches, so that requests meet.
    fn request(&mut self, choices: &mut Choices<'_>) {
        let (method, flow) = (*choices.of(&METHODS), flow(choices));
        let branch = *choices.of(&["z9hG4bKa", "z9hG4bKb", "z9hG4bKc", "old"]);
        let tag = if choices.flag() { ";tag=t" } else { "" };
        let message = request(method, &format!("SIP/2.0/UDP 198.51.100.1;branch={branch}"), tag);
        match choices.flag() {
            true => self.input(Input::Urgent { flow, message }),
            false => self.input(Input::Received { flow, message }),
        }
    }

    fn response(&mut self, choices: &mut Choices<'_>) {
        let Some(txn) = self.one(choices, false) else { return };
        let status = *choices.of(&STATUSES);
        let (tag, flow) = (*choices.of(&["", "a", "b"]), flow(choices));
        let text = response(&self.known[&txn].message, status, tag);
        let message = match choices.below(8) {
            0 => parse(&text.replace(" INVITE", " CANCEL")),
            1 => parse(&text.replace("Via:", "Via: SIP/2.0/UDP x;branch=z9hG4bKx\r\nVia:")),
            _ => parse(&text),
        };
        self.input(Input::Received { flow, message });
    }

    fn send(&mut self, choices: &mut Choices<'_>) {
        let method = *choices.of(&["INVITE", "BYE", "OPTIONS", "REGISTER"]);
        let (txn, branch) = self.table.reserve();
        let message = request(method, &format!("SIP/2.0/UDP 192.0.2.1;branch={branch}"), "");
        self.known.insert(txn, Known { message: message.clone(), is_server: false });
        self.input(Input::Send { txn, flow: flow(choices), request: message });
    }

    fn respond(&mut self, txn: TxnId, status: u16) {
        let response = response(&self.known[&txn].message, status, "us").into();
        self.input(Input::Respond { txn, status, response });
    }

    fn input(&mut self, input: Input) {
        self.table.handle_input(self.now, input);
        for _ in 0..1_000 {
            match self.table.poll_output() {
                Output::Transmit { bytes, .. } => {
                    let message = Message::parse(bytes).expect("what the table sends can be indexed");
                    assert_eq!(validate(&message), Ok(()), "{:?}", message.bytes());
                }
                Output::Event(event) => self.event(event),
                Output::Dropped(_) => {}
                Output::Timeout(_) => return,
            }
        }
        panic!("the table never falls silent");
    }

    /// Nobody hears of a transaction before it begins or after it ended.
    fn event(&mut self, event: Event) {
        match event {
            Event::Request { txn, message, .. } => {
                assert!(self.known.insert(txn, Known { message, is_server: true }).is_none(), "{txn:?} began twice");
            }
            Event::Terminated { txn } => assert!(self.known.remove(&txn).is_some(), "{txn:?} ended twice"),
            Event::Cancelled { txn, .. } | Event::NotAcknowledged { txn } => assert!(self.known[&txn].is_server),
            Event::Response { txn, .. } | Event::TimedOut { txn } => assert!(!self.known[&txn].is_server),
            Event::TransportFailed { txn } => assert!(self.known.contains_key(&txn)),
            Event::Ack { .. } => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Output::Timeout(at) = self.table.poll_output() else { unreachable!("every input ends drained") };
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        panic!("the table's timers do not let time pass");
    }
}

fn flow(choices: &mut Choices<'_>) -> Flow {
    let (transport, remote, connection) = *choices.of(&[
        (Transport::Udp, "198.51.100.1:5060", ConnectionId::NONE),
        (Transport::Udp, "198.51.100.2:5060", ConnectionId::NONE),
        (Transport::Tcp, "198.51.100.1:40000", ConnectionId(1)),
        (Transport::Tls, "198.51.100.1:40001", ConnectionId::NONE),
    ]);
    let local = "192.0.2.1:5060".parse().expect("an address");
    Flow { transport, local, remote: remote.parse().expect("an address"), connection }
}

fn request(method: &str, via: &str, to_params: &str) -> Message {
    let request = RequestBuilder::new(method, "sip:1002@example.com")
        .header("Via", via)
        .header("Max-Forwards", 70)
        .header("From", "<sip:1001@example.com>;tag=f")
        .header("To", format_args!("<sip:1002@example.com>{to_params}"))
        .header("Call-ID", "one")
        .header("CSeq", format_args!("1 {method}"));
    Message::parse(request.finish()).expect("a request")
}

fn response(request: &Message, status: u16, tag: &str) -> String {
    let source = "198.51.100.1:5060".parse().expect("an address");
    let bytes = ResponseBuilder::to(request, status, "Any", tag, source).finish();
    String::from_utf8(bytes.to_vec()).expect("a copy of text")
}

fn parse(text: &str) -> Message {
    Message::parse(text.to_owned().into()).expect("a response")
}
