//! A media worker: commands in any order, packets from anywhere, time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use ringdown::{
    config::Network,
    media::{
        Command, Event, Formats, Law, Protection, Remote, Rtcp, Tone, Worker,
        worker::{Channel, Input, Output, Port},
    },
    types::{Duration, Instant, LegId, Rng, limits::PACKET_BYTES_MAX},
    wire::{
        classify::Traffic,
        srtp::{MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
    },
};

use super::choices::Choices;

const SLOTS: u32 = 3;
const STEPS_MAX: usize = 256;
/// What phones say; stands nowhere in a packet that is encrypted.
const SPEECH: [u8; 32] = [0x5a; 32];
const SOURCES: [&str; 5] =
    ["203.0.113.1:4000", "203.0.113.1:4001", "203.0.113.2:4000", "10.0.0.9:4000", "[2001:db8::1]:4000"];

struct World {
    worker: Worker,
    now: Instant,
    /// Leg and the protection of what it is sent, by slot.
    open: BTreeMap<u32, (LegId, Option<Protection>)>,
    bound: BTreeSet<u32>,
    closed: usize,
    /// Senders by key.
    phones: BTreeMap<usize, Outbound>,
    sequence: u16,
}

/// Each step is a choice. No packet leaves in the clear towards a leg that is encrypted, none comes from or goes to a leg
/// that is not there, what is dropped is wiped, and each leg that was opened is reported closed once.
pub fn media(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World {
        worker: Worker::new(0, SLOTS),
        now: Instant::from_unix_ms(1_700_000_000_000),
        open: BTreeMap::new(),
        bound: BTreeSet::new(),
        closed: 0,
        phones: BTreeMap::new(),
        sequence: 0,
    };
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
    }
    let left: Vec<LegId> = world.open.values().map(|(leg, _)| *leg).collect();
    for leg in left {
        world.close(leg);
    }
    world.pass(Duration::from_secs(10));
    assert!(world.worker.is_empty() && world.bound.is_empty(), "a port stays bound");
    assert!(matches!(world.worker.poll_output(), Output::Timeout(None)), "a timer runs for nothing");
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(12) {
            0 => self.open(leg(choices)),
            1 | 2 => self.configure(leg(choices), choices),
            3 => {
                let (a, b) = (leg(choices), leg(choices));
                self.command(Command::Connect { a, b });
                // No leg is connected to itself: here it plays a tone.
                if a == b {
                    let tone = Tone { law: Law::A, payload_type: 8, ssrc: 9, sequence: 1, timestamp: 0 };
                    self.command(Command::Play { leg: a, tone });
                }
            }
            4 if choices.below(4) == 0 => self.close(leg(choices)),
            4 => self.input(Input::BindFailed { slot: leg(choices).slot }),
            5 => self.pass(Duration::from_millis(choices.time_ms() / 4)),
            6 => {
                let packet = choices.bytes().to_vec();
                self.receive(packet, false, choices);
            }
            _ => {
                let mut packet = self.speak(choices);
                let is_whole = choices.below(8) != 0;
                if !is_whole {
                    let at = choices.below(packet.len());
                    packet[at] ^= choices.byte();
                }
                self.receive(packet, is_whole, choices);
            }
        }
    }

    fn open(&mut self, leg: LegId) {
        let is_free = leg.slot < SLOTS && !self.open.contains_key(&leg.slot);
        if is_free {
            self.open.insert(leg.slot, (leg, None));
        }
        self.command(Command::Open { leg, address: Ipv4Addr::LOCALHOST.into(), dscp: 0 });
        assert_eq!(self.worker.len(), self.open.len());
    }

    fn configure(&mut self, leg: LegId, choices: &mut Choices<'_>) {
        let (receive, send) = (protection(choices, 0), protection(choices, KEYS));
        let address = |choices: &mut Choices<'_>| choices.flag().then(|| source(choices));
        let (rtp, rtcp) =
            (address(choices), if choices.flag() { Rtcp::Multiplexed } else { Rtcp::Port(address(choices)) });
        let traffic = if choices.below(8) == 0 { Traffic::Datagrams } else { Traffic::Rtp };
        let host = choices.flag().then(|| source(choices).ip());
        let network = choices.flag().then(|| Network { address: source(choices).ip(), prefix_bits: 24 });
        let remote =
            Remote { rtp, rtcp, host, network, wants_media: choices.below(8) != 0, may_send: choices.below(8) != 0 };
        if let Some((_, kept)) = self.open.get_mut(&leg.slot).filter(|(open, _)| *open == leg) {
            *kept = Some(send.clone());
        }
        let formats = Formats::default();
        self.command(Command::Configure { leg, traffic, remote, formats, receive, send, history: None });
        self.command(Command::Watch { leg });
    }

    fn close(&mut self, leg: LegId) {
        let (is_open, before) = (self.open.get(&leg.slot).is_some_and(|(open, _)| *open == leg), self.closed);
        if is_open {
            self.open.remove(&leg.slot);
        }
        self.command(Command::Close { leg });
        assert_eq!(self.closed - before, usize::from(is_open), "a leg is reported closed once");
    }

    /// RTP or RTCP of a phone, protected or not.
    fn speak(&mut self, choices: &mut Choices<'_>) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(u16::from(choices.byte() & 7));
        let (key, is_rtcp, ssrc) = (choices.below(KEYS + 1), choices.below(4) == 0, choices.byte() & 7);
        let mut packet = if is_rtcp {
            // A receiver report with one block, and a source description that says what nobody may read.
            let mut packet = vec![0x81, 201, 0, 7, 0, 0, 0, ssrc, 0, 0, 0, ssrc];
            packet.resize(32, 1);
            packet.extend([0x81, 202, 0, 10, 0, 0, 0, ssrc, 1, 32]);
            packet.extend(SPEECH);
            packet.extend([0, 0]);
            packet
        } else {
            let [high, low] = self.sequence.to_be_bytes();
            let mut packet = vec![0x80, choices.byte(), high, low, 0, 0, high, low, 0, 0, 0, ssrc];
            packet.extend(SPEECH);
            packet
        };
        if key < KEYS {
            let (suite, key_bytes) = suite_and_key(key);
            let phone = self.phones.entry(key).or_insert_with(|| Outbound::new(suite, &key_bytes));
            let len = packet.len();
            packet.resize(len + TAG_ROOM_BYTES, 0);
            let result =
                if is_rtcp { phone.protect_rtcp(&mut packet, len) } else { phone.protect_rtp(&mut packet, len) };
            packet.truncate(result.unwrap_or(len));
        }
        packet
    }

    /// `is_whole`: a phone's own, so that speech stands nowhere but in its payload.
    fn receive(&mut self, packet: Vec<u8>, is_whole: bool, choices: &mut Choices<'_>) {
        let channel = *choices.of(&[Channel::Rtp, Channel::Rtp, Channel::Rtp, Channel::Rtcp]);
        let port = Port { slot: leg(choices).slot, channel };
        let source = source(choices);
        let len = packet.len();
        let mut buffer = packet;
        buffer.resize(PACKET_BYTES_MAX, 0);
        let sent = self.worker.receive(self.now, port, source, &mut buffer, len);
        match sent {
            None => assert!(buffer[..len].iter().all(|byte| *byte == 0), "a dropped packet is not wiped"),
            Some(send) => {
                assert!(self.open.contains_key(&port.slot), "a packet of a leg that is not there is relayed");
                let to = self.open.get(&send.port.slot).expect("a packet goes to a leg that is there");
                let protection = to.1.as_ref().expect("a packet goes to a leg that is configured");
                let is_plain = *protection == Protection::Plain;
                assert_eq!(send.is_plain, is_plain, "a packet is protected otherwise than was agreed");
                let relayed = &buffer[..send.len];
                let may_show = is_plain || !is_whole;
                assert!(may_show || !relayed.windows(16).any(|part| SPEECH.starts_with(part)), "speech in the clear");
            }
        }
        self.drain();
    }

    fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    fn input(&mut self, input: Input) {
        self.worker.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.worker.poll_output() {
                Output::Bind { slot, .. } => drop(self.bound.insert(slot)),
                Output::Unbind { slot } => assert!(self.bound.remove(&slot), "slot {slot} is not bound"),
                Output::Connect { port, .. } => assert!(self.open.contains_key(&port.slot)),
                Output::Transmit { send, .. } => {
                    let (_, protection) = self.open.get(&send.port.slot).expect("a tone goes to a leg that is there");
                    assert_eq!(Some(send.is_plain), protection.as_ref().map(|sends| *sends == Protection::Plain));
                }
                Output::Event(Event::Closed { .. }) => self.closed += 1,
                Output::Event(event) => {
                    let leg = event.leg().expect("a worker without a clock says nothing of its load");
                    assert_eq!(self.open.get(&leg.slot).map(|(open, _)| *open), Some(leg));
                }
                Output::Timeout(_) => return,
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..10_000 {
            let Output::Timeout(at) = self.worker.poll_output() else { unreachable!("every input ends drained") };
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        panic!("the worker's timers do not let time pass");
    }
}

/// One slot that there is not, and few generations.
fn leg(choices: &mut Choices<'_>) -> LegId {
    let byte = choices.byte();
    LegId { worker: 0, slot: u32::from(byte & 3), generation: 1 + u32::from(byte >> 7) }
}

fn source(choices: &mut Choices<'_>) -> SocketAddr {
    choices.of(&SOURCES).parse().expect("an address")
}

const KEYS: usize = 2 * Suite::ALL.len();

fn suite_and_key(n: usize) -> (Suite, MasterKey) {
    let suite = Suite::ALL[n % Suite::ALL.len()];
    let seed = u64::try_from(n).expect("a few keys");
    (suite, MasterKey::generate(suite, &mut Rng::from_small_seed(seed)))
}

/// `first`: where the keys begin. Those of the server are its own, and no phone knows how to encrypt under them.
fn protection(choices: &mut Choices<'_>, first: usize) -> Protection {
    match choices.below(KEYS + 2) {
        n if n < KEYS => {
            let (suite, key) = suite_and_key(first + n);
            Protection::Srtp { suite, key, mki_bytes: 0 }
        }
        _ => Protection::Plain,
    }
}
