//! Media of the self-test: packets that carry their number, the time they were sent and a pattern, from one socket to
//! another, by way of the server or directly.
//!
//! Threads and blocking sockets: what is measured is the server, not the scheduling of tasks.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::{
    phone::{Listener, Media, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX, Speaker, direct},
    shell::clock::Clock,
    types::{Instant, Rng},
};

use super::{LOOPBACK, SUITES};

/// 4 s of voice, as phones send it.
const VOICE: Plan = Plan { packets: 200, interval: Duration::from_millis(20) };
/// Direct and relayed in turn, so that both meet the same load of the machine.
const LATENCY_BLOCKS: usize = 4;
const LATENCY_BLOCK: Plan = Plan { packets: 500, interval: Duration::from_micros(1_000_000 / LATENCY_PACKETS_PER_S) };
pub(super) const LATENCY_PACKETS_PER_S: u64 = 1_000;
/// A packet that has not come this long after the one before it is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// Of the pattern; as good as never in a ciphertext by chance.
const READABLE_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
const HEAD_BYTES: usize = 2 * NUMBER_BYTES;

type Payload = [u8; PAYLOAD_BYTES_MAX];

#[derive(Clone, Copy)]
struct Plan {
    packets: u64,
    interval: Duration,
}

/// The ways media can take.
pub(super) struct Lanes {
    clock: Clock,
    a_to_b: Lane,
    b_to_a: Lane,
    direct: Lane,
}

/// What was heard on them.
pub(super) struct Spoken {
    /// As voice.
    pub(super) from_a: Heard,
    pub(super) from_b: Heard,
    /// From A to B, for latency.
    pub(super) relayed: Heard,
    pub(super) direct: Heard,
}

/// Everything that arrived at one end of a lane.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Sent.
    pub(super) packets: u64,
    /// Authentic, bit for bit, in order.
    intact: u64,
    /// Anything else that arrived.
    broken: u64,
    /// Packets whose payload could be read without a key.
    readable: u64,
    latencies: Vec<Duration>,
}

/// Latency at the 50th, 99th and 99.9th percentile, in microseconds.
pub(super) struct Latencies(pub(super) [f64; 3]);

struct Lane {
    /// Makes this lane's pattern its own.
    mark: u8,
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    /// Where the speaker sends: the server's port, or the listener's.
    target: SocketAddr,
    speaker: Speaker,
    listener: Listener,
    /// Number of the next packet.
    next: u64,
}

impl Lanes {
    /// Between the media sockets of two phones in a call, and directly between two sockets of their own.
    pub(super) fn new(
        clock: Clock,
        [a, b]: [Arc<UdpSocket>; 2],
        media: &[Media; 2],
        rng: &mut Rng,
    ) -> io::Result<Self> {
        let [at_a, at_b] = media;
        let (a_speaker, a_listener) = at_a.voices(rng);
        let (b_speaker, b_listener) = at_b.voices(rng);
        let (speaker, listener) = direct(SUITES[0], rng);
        let (from, to) = (UdpSocket::bind((LOOPBACK, 0))?, UdpSocket::bind((LOOPBACK, 0))?);
        for socket in [&a, &b] {
            socket.set_read_timeout(Some(LOST_AFTER))?;
        }
        to.set_read_timeout(Some(LOST_AFTER))?;
        let target = to.local_addr()?;
        let lane = |mark, from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, target, speaker, listener| Lane {
            mark,
            from: Arc::clone(from),
            to: Arc::clone(to),
            target,
            speaker,
            listener,
            next: 0,
        };
        Ok(Self {
            clock,
            a_to_b: lane(1, &a, &b, at_a.remote, a_speaker, b_listener),
            b_to_a: lane(2, &b, &a, at_b.remote, b_speaker, a_listener),
            direct: lane(3, &Arc::new(from), &Arc::new(to), target, speaker, listener),
        })
    }

    /// Voice in both directions at once, then latency. Takes some 8 s.
    pub(super) fn speak(&mut self) -> io::Result<Spoken> {
        let Self { clock, a_to_b, b_to_a, direct } = self;
        let (from_a, from_b) = thread::scope(|scope| {
            let from_b = scope.spawn(|| b_to_a.carry(*clock, VOICE));
            (a_to_b.carry(*clock, VOICE), from_b.join().expect("sockets and ciphers do not panic"))
        });
        let (mut relayed, mut directly) = (Heard::default(), Heard::default());
        for _ in 0..LATENCY_BLOCKS {
            directly.add(direct.carry(*clock, LATENCY_BLOCK)?);
            relayed.add(a_to_b.carry(*clock, LATENCY_BLOCK)?);
        }
        Ok(Spoken { from_a: from_a?, from_b: from_b?, relayed, direct: directly })
    }
}

impl Spoken {
    pub(super) fn is_unreadable_on_the_wire(&self) -> Result<String, String> {
        match [&self.from_a, &self.from_b, &self.relayed].map(|heard| heard.readable) {
            [0, 0, 0] => Ok("no payload could be read without a key".to_owned()),
            readable => Err(format!("{} payloads came in the clear", readable.iter().sum::<u64>())),
        }
    }
}

impl Heard {
    pub(super) fn all_intact(&self, way: &str) -> Result<String, String> {
        let Self { packets, intact, broken, .. } = self;
        if intact == packets && *broken == 0 {
            return Ok(format!("{way}, {intact} of {packets} payloads arrived intact and in order"));
        }
        Err(format!("{way}, {intact} of {packets} payloads arrived intact and in order, {broken} otherwise"))
    }

    fn add(&mut self, more: Self) {
        self.packets += more.packets;
        self.intact += more.intact;
        self.broken += more.broken;
        self.readable += more.readable;
        self.latencies.extend(more.latencies);
    }
}

impl Latencies {
    pub(super) fn of(heard: &Heard) -> Self {
        let mut sorted = heard.latencies.clone();
        sorted.sort_unstable();
        let at = |per_mille: usize| {
            let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
            sorted.get(rank - 1).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        Self([at(500), at(990), at(999)])
    }
}

impl Lane {
    /// Sends at its pace on a thread of its own, and listens on this one until all has come or the lane is silent.
    fn carry(&mut self, clock: Clock, plan: Plan) -> io::Result<Heard> {
        let Self { mark, from, to, target, speaker, listener, next } = self;
        let first = *next;
        *next += plan.packets;
        thread::scope(|scope| {
            let sender =
                scope.spawn(|| send(clock, plan, first, *mark, speaker, |packet| from.send_to(packet, *target)));
            let heard = receive(clock, plan, first, *mark, to, listener);
            sender.join().expect("sockets and ciphers do not panic")?;
            heard
        })
    }
}

fn send(
    clock: Clock,
    plan: Plan,
    first: u64,
    mark: u8,
    speaker: &mut Speaker,
    transmit: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let mut due = clock.now();
    for number in first..first + plan.packets {
        thread::sleep(due.since(clock.now()));
        due = due + plan.interval;
        let payload = payload(mark, number, clock);
        let len = speaker.speak(&payload, &mut packet).map_err(|reason| io::Error::other(reason.label()))?;
        transmit(&packet[..len])?;
    }
    Ok(())
}

fn receive(
    clock: Clock,
    plan: Plan,
    first: u64,
    mark: u8,
    socket: &UdpSocket,
    listener: &mut Listener,
) -> io::Result<Heard> {
    let mut heard = Heard { packets: plan.packets, ..Heard::default() };
    let mut next = first;
    let mut packet = [0; PACKET_BYTES_MAX];
    while next < first + plan.packets {
        let len = match socket.recv(&mut packet) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
            Err(error) => return Err(error),
        };
        let received = clock.now();
        let packet = &mut packet[..len];
        heard.readable += u64::from(is_readable(packet, mark, next));
        match listener.hear(packet).ok().and_then(|payload| read(payload, mark)) {
            Some((number, sent)) if number >= next => {
                heard.intact += 1;
                heard.latencies.push(received.since(sent));
                next = number + 1;
            }
            Some(_) | None => heard.broken += 1,
        }
    }
    Ok(heard)
}

/// Number, time and pattern.
fn payload(mark: u8, number: u64, clock: Clock) -> Payload {
    let mut payload = pattern(mark, number);
    payload[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
    payload[NUMBER_BYTES..HEAD_BYTES].copy_from_slice(&clock.now().unix_ns().to_be_bytes());
    payload
}

/// Number and time of a payload of this lane whose every byte is as it was sent.
fn read(payload: &[u8], mark: u8) -> Option<(u64, Instant)> {
    let (number, rest) = payload.split_first_chunk::<NUMBER_BYTES>()?;
    let (time, rest) = rest.split_first_chunk::<NUMBER_BYTES>()?;
    let number = u64::from_be_bytes(*number);
    let is_intact = *rest == pattern(mark, number)[HEAD_BYTES..];
    is_intact.then(|| (number, Instant::from_unix_ns(u64::from_be_bytes(*time))))
}

fn is_readable(packet: &[u8], mark: u8, number: u64) -> bool {
    let pattern = pattern(mark, number);
    let needle = &pattern[HEAD_BYTES..HEAD_BYTES + READABLE_BYTES];
    packet.windows(READABLE_BYTES).any(|window| window == needle)
}

/// Another one for each lane and packet: a linear congruential generator (Knuth's MMIX), its upper bytes.
fn pattern(mark: u8, number: u64) -> Payload {
    let mut state = number ^ u64::from(mark) << 56;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [byte, ..] = state.to_be_bytes();
        byte
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Plan = Plan { packets: 20, interval: Duration::from_micros(100) };

    fn now() -> Clock {
        Clock::start()
    }

    /// A lane that is not relayed, and the listener's socket.
    fn lane(mark: u8) -> Lane {
        let socket = || Arc::new(UdpSocket::bind((LOOPBACK, 0)).unwrap());
        let (from, to) = (socket(), socket());
        to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (speaker, listener) = direct(SUITES[0], &mut Rng::from_small_seed(u64::from(mark)));
        Lane { mark, target: to.local_addr().unwrap(), from, to, speaker, listener, next: 0 }
    }

    #[test]
    fn everything_sent_is_heard_in_order_and_in_every_block() {
        let mut lane = lane(1);
        for _ in 0..2 {
            let heard = lane.carry(now(), SHORT).unwrap();
            assert_eq!((heard.packets, heard.intact, heard.broken, heard.readable), (20, 20, 0, 0));
            assert_eq!(heard.latencies.len(), 20);
            assert!(heard.all_intact("a to b").is_ok());
        }
    }

    #[test]
    fn lost_packets_and_those_of_another_key_or_lane_fail_the_check() {
        let mut deaf = lane(1);
        deaf.to = Arc::clone(&lane(2).to);
        assert!(deaf.carry(now(), SHORT).unwrap().all_intact("lost").is_err());

        let (mut one, mut other) = (lane(1), lane(2));
        std::mem::swap(&mut one.listener, &mut other.listener);
        let heard = one.carry(now(), SHORT).unwrap();
        assert_eq!((heard.intact, heard.broken), (0, 20), "another key");

        one.listener = lane(1).listener;
        one.speaker = lane(1).speaker;
        let heard = receive_of(&mut one, 2);
        assert_eq!((heard.intact, heard.broken), (0, 20), "the pattern of another lane");
    }

    /// What a lane hears that expects the pattern `mark`.
    fn receive_of(lane: &mut Lane, mark: u8) -> Heard {
        let Lane { from, to, target, speaker, listener, .. } = lane;
        send(now(), SHORT, 0, 1, speaker, |packet| from.send_to(packet, *target)).unwrap();
        receive(now(), SHORT, 0, mark, to, listener).unwrap()
    }

    #[test]
    fn a_payload_is_intact_or_nothing() {
        let good = payload(1, 7, now());
        assert_eq!(read(&good, 1).map(|(number, _)| number), Some(7));
        for at in (0..NUMBER_BYTES).chain(HEAD_BYTES..good.len()) {
            let mut bad = good;
            bad[at] ^= 1;
            assert!(read(&bad, 1).is_none(), "byte {at}");
        }
        assert!(read(&good[..good.len() - 1], 1).is_none());
        assert!(read(&[], 1).is_none());
    }

    #[test]
    fn a_payload_in_the_clear_is_noticed() {
        let mut packet = vec![0x80; 12];
        packet.extend_from_slice(&payload(1, 7, now()));
        assert!(is_readable(&packet, 1, 7));
        assert!(!is_readable(&packet, 1, 8) && !is_readable(&packet, 2, 7), "another packet's pattern");
        let spoken = |readable| Spoken {
            from_a: Heard::default(),
            from_b: Heard { readable, ..Heard::default() },
            relayed: Heard::default(),
            direct: Heard::default(),
        };
        assert!(spoken(0).is_unreadable_on_the_wire().is_ok());
        assert!(spoken(1).is_unreadable_on_the_wire().is_err());
    }

    #[test]
    fn percentiles_are_the_smallest_values_that_enough_others_do_not_exceed() {
        let latencies = (1..=1_000).rev().map(Duration::from_micros).collect();
        let percentiles = Latencies::of(&Heard { latencies, ..Heard::default() }).0;
        assert_eq!(percentiles.map(f64::round), [500.0, 990.0, 999.0]);
        assert!(Latencies::of(&Heard::default()).0[0].is_nan(), "nothing was heard");
    }
}
