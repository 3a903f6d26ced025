//! One media worker: legs by slot, commands in, packets through, events out.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::SocketAddr,
};

use crate::types::{DropReason, Duration, Instant, LegId, reason::DropCounters, secret::wipe_stack};

use super::{
    command::{Command, Event},
    leg::{Leg, Legs},
    relay::{self, Datagram},
    tone::{Packet, Player},
};

/// How often legs are looked at that time alone may change; only while there is such a leg.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// RTP port or, without multiplexing, the RTCP port above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Rtp,
    Rtcp,
}

/// One socket of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub slot: u32,
    pub channel: Channel,
}

#[expect(clippy::large_enum_variant, reason = "nearly all that comes is commands, and they are few beside packets")]
#[derive(Debug)]
pub enum Input {
    Command(Command),
    /// The backend could not bind a slot asked for by [`Output::Bind`].
    BindFailed {
        slot: u32,
    },
    Timeout,
}

/// What the backend must do. Drain until `Timeout`.
#[derive(Debug)]
pub enum Output {
    /// Bind both ports of the slot on this address, and mark what they send. Ports that are bound on another address are
    /// closed, and those that are bound on this one stay.
    Bind {
        slot: u32,
        address: std::net::IpAddr,
        dscp: u8,
    },
    Unbind {
        slot: u32,
    },
    /// `connect()` the socket to its latched peer, or (`None`) let it hear everyone again.
    Connect {
        port: Port,
        remote: Option<SocketAddr>,
    },
    /// A packet of the worker's own making.
    Transmit {
        send: Send,
        packet: Box<Packet>,
    },
    Event(Event),
    Timeout(Option<Instant>),
}

/// A packet to send now, from the buffer [`Worker::receive`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    pub port: Port,
    pub to: SocketAddr,
    pub len: usize,
    /// The packet is plain RTP or RTCP: the backend wipes the buffer once it is sent.
    pub is_plain: bool,
}

/// All legs of one core.
pub struct Worker {
    worker: u16,
    legs: Legs,
    open: usize,
    /// By slot: legs that may open, whose ports are bound.
    ahead: BTreeMap<u32, LegId>,
    /// By slot: the tones that are being played.
    players: BTreeMap<u32, Player>,
    outputs: VecDeque<Output>,
    sweep_at: Option<Instant>,
    drops: DropCounters,
    packets_relayed: u64,
}

impl Worker {
    /// `slots`: port pairs of this worker.
    pub fn new(worker: u16, slots: u32) -> Self {
        Self {
            worker,
            legs: Legs::new(slots),
            open: 0,
            ahead: BTreeMap::new(),
            players: BTreeMap::new(),
            outputs: VecDeque::with_capacity(16),
            sweep_at: None,
            drops: DropCounters::default(),
            packets_relayed: 0,
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Command(command) => self.handle_command(now, command),
            Input::BindFailed { slot } => {
                let open = self.legs.at(slot).map(|leg| leg.id);
                if let Some(leg) = open.or_else(|| self.ahead.remove(&slot)) {
                    self.outputs.push_back(Output::Event(Event::OpenFailed { leg }));
                }
            }
            Input::Timeout => {
                if self.sweep_at.is_some_and(|at| at <= now) {
                    self.sweep(now);
                }
                self.play(now);
            }
        }
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.next_timeout()))
    }

    /// The hot path: one received datagram in `buffer[..len]`; on success the packet to send lies in the same buffer,
    /// otherwise the datagram is wiped. The buffer should be [`PACKET_BYTES_MAX`] long.
    ///
    /// No allocation, lock or log. After it, [`Worker::poll_output`] may have a `Connect` or `Event`: drain when
    /// [`Worker::has_output`].
    ///
    /// [`PACKET_BYTES_MAX`]: crate::types::limits::PACKET_BYTES_MAX
    pub fn receive(
        &mut self,
        now: Instant,
        port: Port,
        source: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Option<Send> {
        let datagram = Datagram { now, port, source, buffer: &mut *buffer, len };
        let relayed = relay::relay(&mut self.legs, &mut self.outputs, datagram);
        if self.has_output() {
            self.arm_sweep(now);
        }
        match relayed {
            Ok(send) => {
                self.packets_relayed += 1;
                Some(send)
            }
            Err(reason) => {
                let end = len.min(buffer.len());
                buffer[..end].fill(0);
                self.count_drop(port, reason);
                None
            }
        }
    }

    /// What [`Worker::receive`] gave from this port could not be sent, or did not arrive, for this reason; or what came to
    /// this port came damaged.
    pub fn packet_lost(&mut self, port: Port, reason: DropReason) {
        self.count_drop(port, reason);
    }

    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Packets given back by [`Worker::receive`], RTP and RTCP.
    pub fn packets_relayed(&self) -> u64 {
        self.packets_relayed
    }

    /// Open legs.
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Bind { leg, address } => {
                if leg.worker == self.worker && self.legs.is_free(leg.slot) {
                    self.ahead.insert(leg.slot, leg);
                    self.outputs.push_back(Output::Bind { slot: leg.slot, address, dscp: 0 });
                }
            }
            Command::Open { leg, address, dscp } => {
                if leg.worker == self.worker && self.legs.insert(Leg::new(leg)) {
                    self.open += 1;
                    self.ahead.remove(&leg.slot);
                    self.outputs.push_back(Output::Bind { slot: leg.slot, address, dscp });
                }
            }
            Command::Configure { leg, traffic, remote, formats, receive, send, history } => {
                if let Some(leg) = self.legs.get(leg) {
                    leg.configure(
                        now,
                        traffic,
                        remote,
                        formats,
                        (receive, history.as_deref()),
                        send,
                        &mut self.outputs,
                    );
                    // Keys were derived, and contexts came over the stack, with whatever lay between their fields.
                    wipe_stack();
                    self.arm_sweep(now);
                }
            }
            Command::Watch { leg } => {
                if let Some(leg) = self.legs.get(leg) {
                    leg.watch(now);
                    self.arm_sweep(now);
                }
            }
            Command::Report { leg } => {
                if let Some(leg) = self.legs.get(leg) {
                    let (leg, report) = (leg.id, Box::new(leg.report(now)));
                    self.outputs.push_back(Output::Event(Event::Report { leg, report }));
                }
            }
            Command::Play { leg, tone } => {
                if self.legs.get(leg).is_some() {
                    self.players.insert(leg.slot, Player::new(now, tone));
                    self.play(now);
                }
            }
            Command::Connect { a, b } => self.legs.join(a, b),
            Command::Close { leg } => self.close(now, leg),
        }
    }

    fn close(&mut self, now: Instant, id: LegId) {
        if let Some(leg) = self.legs.remove(id) {
            self.open -= 1;
            self.players.remove(&id.slot);
            self.outputs.push_back(Output::Unbind { slot: id.slot });
            let (report, history) = (Box::new(leg.report(now)), leg.receiving.history());
            self.outputs.push_back(Output::Event(Event::Closed { leg: id, report, history }));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut is_needed = false;
        for leg in self.legs.iter_mut() {
            leg.sweep(now, &mut self.outputs);
            is_needed |= leg.needs_sweep();
        }
        self.sweep_at = is_needed.then(|| now + SWEEP_INTERVAL);
    }

    /// Sends the packets of tones that are due. Where the peer does not hear, a tone goes on all the same.
    fn play(&mut self, now: Instant) {
        for (slot, player) in &mut self.players {
            let Some(leg) = self.legs.at(*slot) else { continue };
            while let Some(packet) = player.packet_due(now) {
                match leg.play(Box::new(packet)) {
                    Ok((send, packet)) => self.outputs.push_back(Output::Transmit { send, packet }),
                    Err(reason) => self.drops.count(reason),
                }
            }
        }
        self.players.retain(|_, player| player.due().is_some());
    }

    fn next_timeout(&self) -> Option<Instant> {
        let tones = self.players.values().filter_map(Player::due);
        tones.chain(self.sweep_at).min()
    }

    fn arm_sweep(&mut self, now: Instant) {
        self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
    }

    fn count_drop(&mut self, port: Port, reason: DropReason) {
        self.drops.count(reason);
        if let Some(leg) = self.legs.at(port.slot) {
            leg.count_drop(reason);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("worker", &self.worker).field("open", &self.open).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        media::{
            command::{Protection, Remote, Rtcp, Silence, SilenceCause},
            testing::*,
        },
        wire::classify::Traffic,
    };

    #[test]
    fn a_leg_is_bound_reported_and_unbound_once() {
        let mut rig = Rig::new(2);
        rig.open(1);
        rig.open(1);
        assert_eq!((rig.worker.len(), rig.bound.contains(&1)), (1, true));
        assert!(rig.close(1).is_some());
        rig.close(1);
        assert_eq!((rig.worker.len(), rig.bound.len(), rig.events.len()), (0, 0, 1));
    }

    #[test]
    fn a_port_in_use_is_reported_and_the_leg_still_closes() {
        let mut rig = Rig::new(1);
        rig.open(0);
        rig.input(Input::BindFailed { slot: 0 });
        assert_eq!(rig.events, [Event::OpenFailed { leg: leg(0) }]);
        assert!(rig.close(0).is_some());
        rig.input(Input::BindFailed { slot: 0 });
        rig.input(Input::BindFailed { slot: 77 });
        assert_eq!(rig.events.len(), 2);
    }

    /// What a worker has been told to bind, each time it was.
    fn binds(rig: &mut Rig, command: Command) -> usize {
        rig.worker.handle_input(rig.now, Input::Command(command));
        let mut binds = 0;
        loop {
            match rig.worker.poll_output() {
                Output::Bind { slot, .. } => {
                    rig.bound.insert(slot);
                    binds += 1;
                }
                Output::Timeout(_) => return binds,
                Output::Unbind { .. } | Output::Connect { .. } | Output::Transmit { .. } | Output::Event(_) => {}
            }
        }
    }

    #[test]
    fn a_slot_bound_ahead_drops_what_it_hears_until_its_leg_opens() {
        let mut rig = Rig::new(2);
        let (address, dscp) = (std::net::Ipv4Addr::LOCALHOST.into(), 46);
        assert_eq!(binds(&mut rig, Command::Bind { leg: leg(0), address }), 1);
        assert_eq!(rig.worker.len(), 0, "it is no leg");
        let mut a = Phone::new(0, srtp(SUITE, 1), "203.0.113.1:4000");
        let packet = a.rtp(1);
        rig.refuses(DropReason::PacketNoLeg, rtp(0), a.address, &packet);
        // Its code point is not known before.
        assert_eq!(binds(&mut rig, Command::Open { leg: leg(0), address, dscp }), 1);
        for strange in [leg(0), leg(7), LegId { worker: 1, ..leg(1) }] {
            assert_eq!(binds(&mut rig, Command::Bind { leg: strange, address }), 0, "{strange:?}");
        }
        rig.configure(&a);
        rig.refuses(DropReason::PacketNoPeer, rtp(0), a.address, &packet);
        assert!(rig.close(0).is_some());
    }

    #[test]
    fn a_port_in_use_is_reported_before_there_is_a_leg_and_once() {
        let mut rig = Rig::new(1);
        rig.command(Command::Bind { leg: leg(0), address: std::net::Ipv4Addr::LOCALHOST.into() });
        rig.input(Input::BindFailed { slot: 0 });
        rig.input(Input::BindFailed { slot: 0 });
        assert_eq!(rig.events, [Event::OpenFailed { leg: leg(0) }]);
    }

    #[test]
    fn commands_of_other_generations_workers_and_slots_are_ignored() {
        let (mut rig, mut a, b) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        for stranger in [
            LegId { generation: 0, ..leg(0) },
            LegId { generation: 2, ..leg(0) },
            LegId { worker: 1, ..leg(0) },
            leg(3),
            leg(4_000_000_000),
        ] {
            rig.command(Command::Connect { a: stranger, b: leg(1) });
            let (traffic, receive, send) = (Traffic::Datagrams, Protection::Plain, Protection::Plain);
            let (remote, formats) = (remote("192.0.2.1:1"), formats());
            rig.command(Command::Configure { leg: stranger, traffic, remote, formats, receive, send, history: None });
            rig.command(Command::Watch { leg: stranger });
            rig.command(Command::Report { leg: stranger });
            rig.command(Command::Close { leg: stranger });
        }
        rig.command(Command::Connect { a: leg(0), b: leg(0) });
        assert_eq!((rig.worker.len(), rig.events.len()), (2, 0));
        let packet = a.rtp(1);
        assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, b.address);
    }

    #[test]
    fn an_open_on_a_slot_in_use_does_not_disturb_its_leg() {
        let (mut rig, mut a, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        let next = LegId { generation: 2, ..leg(0) };
        rig.command(Command::Open { leg: next, address: std::net::Ipv4Addr::LOCALHOST.into(), dscp: 0 });
        let packet = a.rtp(1);
        assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    }

    #[test]
    fn closing_one_leg_parts_the_other_and_leaves_it_open() {
        let (mut rig, _, mut b) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        rig.close(0);
        let packet = b.rtp(1);
        rig.refuses(DropReason::PacketNoPeer, rtp(1), b.address, &packet);
        assert_eq!(rig.worker.len(), 1);
    }

    #[test]
    fn flowing_is_told_once() {
        let (mut rig, mut a, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        for _ in 0..3 {
            let packet = a.rtp(1);
            rig.receive(rtp(0), a.address, &packet).unwrap();
        }
        assert_eq!(rig.events, [Event::Flowing { leg: leg(0) }]);
    }

    #[test]
    fn a_silent_leg_hears_everyone_again_and_is_reconnected_when_it_speaks() {
        let (mut rig, mut a, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        for _ in 0..20 {
            let packet = a.rtp(1);
            rig.receive(rtp(0), a.address, &packet).unwrap();
            rig.advance(20);
        }
        assert_eq!(rig.connects, [(rtp(0), Some(a.address))], "while packets come, nothing changes");
        rig.advance(300);
        assert_eq!(rig.connects.last(), Some(&(rtp(0), None)));
        assert_eq!(rig.timeout, None, "with no connected leg the worker sleeps");
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
        assert_eq!(rig.connects.last(), Some(&(rtp(0), Some(a.address))));
        assert_eq!(rig.connects.len(), 3);
    }

    #[test]
    fn an_idle_worker_has_no_timer() {
        let (mut rig, mut a, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        rig.advance(10_000);
        assert_eq!(rig.timeout, None);
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
        assert!(rig.timeout.is_some());
        rig.close(0);
        rig.close(1);
        rig.advance(1_000);
        assert_eq!(rig.timeout, None);
    }

    /// Goal: a watched peer that falls silent is told of within two seconds, once, with the cause; and when it is heard again.
    #[test]
    fn a_silence_of_a_watched_peer_is_told_within_two_seconds_once_and_with_its_end() {
        let (mut rig, mut a, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        rig.advance(5_000);
        rig.command(Command::Watch { leg: leg(0) });
        rig.advance(1_700);
        assert_eq!(rig.events, []);
        rig.advance(300);
        let none = Silence { cause: SilenceCause::NoPackets, has_rtcp: false };
        assert_eq!(rig.events, [Event::Silent { leg: leg(0), silence: none }]);
        rig.advance(60_000);
        assert_eq!((rig.events.len(), rig.timeout), (1, None), "told once, and then the worker sleeps");

        let packet = a.rtp(1);
        assert!(rig.receive(rtp(0), a.address, &packet).is_some());
        assert_eq!(rig.events[1..], [Event::Heard { leg: leg(0) }, Event::Flowing { leg: leg(0) }]);
        rig.advance(2_000);
        assert_eq!(rig.events.len(), 4, "the next silence is told again");
        let report = rig.close(0).unwrap();
        assert_eq!((report.silences, report.silent_ms), (2, 62_000 + 2_000));
    }

    #[test]
    fn the_cause_of_a_silence_is_named() {
        let strange = || at("203.0.113.1:9999");
        let forged = |phone: &mut Phone| {
            let mut packet = phone.rtp(1);
            packet[20] ^= 1;
            packet
        };
        let unsettled = |phone: &mut Phone| phone.rtp_of(77, 1);
        let good = |phone: &mut Phone| phone.rtp(1);
        type Speak<'a> = &'a dyn Fn(&mut Phone) -> Vec<u8>;
        let begins_anew = |phone: &mut Phone| {
            phone.rekey(phone.sends.clone());
            phone.sequence = 0;
            phone.rtp(1)
        };
        let cases: [(Protection, Speak<'_>, bool, SilenceCause); 4] = [
            (srtp(SUITE, 1), &begins_anew, false, SilenceCause::Replayed),
            (srtp(SUITE, 1), &forged, false, SilenceCause::NotAuthentic),
            (srtp(SUITE, 1), &unsettled, false, SilenceCause::WrongPayloadType),
            (Protection::Plain, &good, true, SilenceCause::WrongSource),
        ];
        for (protection, speak, is_strange, cause) in cases {
            let (mut rig, mut a, _) = Rig::call(protection, srtp(SUITE, 2));
            a.sequence = 20_000;
            let packet = a.rtp(1);
            rig.receive(rtp(0), a.address, &packet).unwrap();
            rig.command(Command::Watch { leg: leg(0) });
            for _ in 0..100 {
                rig.advance(20);
                let source = if is_strange { strange() } else { a.address };
                let packet = speak(&mut a);
                rig.receive(rtp(0), source, &packet);
            }
            let silence = Silence { cause, has_rtcp: false };
            assert_eq!(rig.events[1..], [Event::Silent { leg: leg(0), silence }]);
        }
    }

    #[test]
    fn who_is_on_hold_or_sends_comfort_noise_is_not_silent() {
        let (mut rig, mut a, mut b) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        for slot in [0, 1] {
            rig.command(Command::Watch { leg: leg(slot) });
        }
        a.remote.wants_media = false;
        rig.configure(&a);
        let packet = b.rtp_of(13, 1);
        rig.receive(rtp(1), b.address, &packet);
        rig.advance(10_000);
        assert_eq!(rig.events, [Event::Flowing { leg: leg(1) }]);
        a.remote.wants_media = true;
        rig.configure(&a);
        rig.advance(2_000);
        assert!(matches!(rig.events[1..], [Event::Silent { leg: silent, .. }] if silent == leg(0)), "{:?}", rig.events);
        rig.advance(14_000);
        assert!(matches!(rig.events[2..], [Event::Silent { leg: silent, .. }] if silent == leg(1)), "{:?}", rig.events);
    }

    #[test]
    fn a_leg_reports_when_it_is_asked_and_goes_on() {
        let (mut rig, mut a, b) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
        rig.events.clear();
        rig.command(Command::Report { leg: leg(0) });
        let [Event::Report { leg: reporting, report }] = &rig.events[..] else { panic!("{:?}", rig.events) };
        assert_eq!((*reporting, report.packets_received, report.received.packets_expected), (leg(0), 1, 1));
        let packet = a.rtp(1);
        assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, b.address);
    }

    #[test]
    fn a_packet_that_did_not_arrive_is_counted_by_cause() {
        let (mut rig, _, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        for reason in [DropReason::SendFailed, DropReason::PathMtu, DropReason::PeerUnreachable] {
            rig.worker.packet_lost(rtp(0), reason);
            rig.worker.packet_lost(rtp(77), reason);
            assert_eq!(rig.worker.drops().of(reason), 2);
        }
        assert_eq!(rig.close(0).map(|report| report.packets_refused), Some(0), "the peer has refused nothing");
    }

    #[test]
    fn debug_shows_no_key_and_no_address() {
        let (rig, _, _) = Rig::call(srtp(SUITE, 1), srtp(SUITE, 2));
        assert_eq!(format!("{:?}", rig.worker), "Worker { worker: 0, open: 2, .. }");
    }

    /// One step of a random run over three slots.
    #[derive(Clone, Debug)]
    enum Step {
        Open {
            slot: u32,
            generation: u32,
        },
        Configure {
            slot: u32,
            generation: u32,
            key: u64,
            is_plain: bool,
            is_muxed: bool,
            directions: u8,
            traffic: Traffic,
        },
        Watch {
            slot: u32,
            generation: u32,
        },
        Connect {
            a: u32,
            b: u32,
        },
        Close {
            slot: u32,
            generation: u32,
        },
        BindFailed {
            slot: u32,
        },
        Advance {
            ms: u64,
        },
        Packet {
            slot: u32,
            key: u64,
            is_rtcp: bool,
            port: u16,
        },
        Noise {
            slot: u32,
            is_rtcp_port: bool,
            bytes: Vec<u8>,
        },
    }

    fn traffic() -> impl Strategy<Value = Traffic> {
        prop_oneof![4 => Just(Traffic::Rtp), 1 => Just(Traffic::Datagrams)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let (slot, generation, key) = (|| 0_u32..4, || 1_u32..4, || 0_u64..3);
        prop_oneof![
            2 => (slot(), generation()).prop_map(|(slot, generation)| Step::Open { slot, generation }),
            3 => (slot(), generation(), key(), any::<bool>(), any::<bool>(), 0_u8..4, traffic()).prop_map(
                |(slot, generation, key, is_plain, is_muxed, directions, traffic)| {
                    Step::Configure { slot, generation, key, is_plain, is_muxed, directions, traffic }
                }
            ),
            1 => (slot(), generation()).prop_map(|(slot, generation)| Step::Watch { slot, generation }),
            2 => (slot(), slot()).prop_map(|(a, b)| Step::Connect { a, b }),
            1 => (slot(), generation()).prop_map(|(slot, generation)| Step::Close { slot, generation }),
            1 => slot().prop_map(|slot| Step::BindFailed { slot }),
            1 => (0_u64..3_000).prop_map(|ms| Step::Advance { ms }),
            6 => (slot(), key(), any::<bool>(), 1_u16..4).prop_map(|(slot, key, is_rtcp, port)| {
                Step::Packet { slot, key, is_rtcp, port }
            }),
            2 => (slot(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)).prop_map(
                |(slot, is_rtcp_port, bytes)| Step::Noise { slot, is_rtcp_port, bytes }
            ),
        ]
    }

    /// What must hold whatever comes: no panic, and exactly one `Closed` for each leg that was opened.
    #[derive(Default)]
    struct Books {
        open: BTreeMap<u32, LegId>,
        opened: usize,
    }

    fn perform(rig: &mut Rig, phones: &mut [Phone], books: &mut Books, step: Step) {
        let id = |slot, generation| LegId { worker: 0, slot, generation };
        match step {
            Step::Open { slot, generation } => {
                let leg = id(slot, generation);
                if slot < 3 && !books.open.contains_key(&slot) {
                    books.open.insert(slot, leg);
                    books.opened += 1;
                }
                rig.command(Command::Open { leg, address: std::net::Ipv4Addr::LOCALHOST.into(), dscp: 0 });
            }
            Step::Configure { slot, generation, key, is_plain, is_muxed, directions, traffic } => {
                let rtcp = if is_muxed { Rtcp::Multiplexed } else { Rtcp::Port(Some(at("127.0.0.1:9"))) };
                let (wants_media, may_send) = (directions & 1 != 0, directions & 2 != 0);
                let remote =
                    Remote { rtp: Some(at("127.0.0.1:8")), rtcp, host: None, network: None, wants_media, may_send };
                let receive = if is_plain { Protection::Plain } else { srtp(SUITE, key) };
                let send = srtp(SUITE, 100 + u64::from(slot) + 10 * key);
                let (leg, formats) = (id(slot, generation), formats());
                rig.command(Command::Configure { leg, traffic, remote, formats, receive, send, history: None });
            }
            Step::Watch { slot, generation } => rig.command(Command::Watch { leg: id(slot, generation) }),
            Step::Connect { a, b } => {
                let current = |slot| books.open.get(&slot).copied().unwrap_or_else(|| id(slot, 1));
                rig.command(Command::Connect { a: current(a), b: current(b) });
            }
            Step::Close { slot, generation } => {
                let leg = id(slot, generation);
                if books.open.get(&slot) == Some(&leg) {
                    books.open.remove(&slot);
                }
                rig.command(Command::Close { leg });
            }
            Step::BindFailed { slot } => rig.input(Input::BindFailed { slot }),
            Step::Advance { ms } => rig.advance(ms),
            Step::Packet { slot, key, is_rtcp, port } => {
                let phone = &mut phones[usize::try_from(key).unwrap()];
                let packet = if is_rtcp { phone.rtcp(sender_report(7, 9 << 16, Some((9, 0)))) } else { phone.rtp(1) };
                rig.receive(rtp(slot), SocketAddr::new([127, 0, 0, 1].into(), port), &packet);
            }
            Step::Noise { slot, is_rtcp_port, bytes } => {
                let port = if is_rtcp_port { rtcp(slot) } else { rtp(slot) };
                rig.receive(port, at("127.0.0.1:8"), &bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn any_order_of_commands_and_packets_is_survived(steps in prop::collection::vec(step(), 1..120)) {
            let mut rig = Rig::new(3);
            let mut books = Books::default();
            let mut phones = [0, 1, 2].map(|key| Phone::new(0, srtp(SUITE, key), "127.0.0.1:8"));
            for step in steps {
                perform(&mut rig, &mut phones, &mut books, step);
                prop_assert_eq!(rig.worker.len(), books.open.len());
                prop_assert!(rig.bound.iter().eq(books.open.keys()));
            }
            for leg in std::mem::take(&mut books.open).into_values() {
                rig.command(Command::Close { leg });
            }
            rig.advance(5_000);
            let closed = rig.events.iter().filter(|event| matches!(event, Event::Closed { .. })).count();
            prop_assert_eq!(closed, books.opened);
            prop_assert!(rig.worker.is_empty() && rig.bound.is_empty() && rig.timeout.is_none());
        }
    }
}
