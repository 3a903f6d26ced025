//! What a relay adds to a packet's way, at shares of what it can do. The telephones' packets come at random times, as those of
//! telephones that know nothing of each other; the kernel notes when each arrives, so that it does not matter when this program looks.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use ringdown::{shell::media_io::Backend, types::Rng};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    time::{ClockId, clock_gettime},
};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::{
    CM,
    load::{Devices, Sealed},
    relays::{self, LOCALHOST, Relay, Ringdown, Simple},
    turns::{Plan, median},
};

/// Shares of the relay's time that its packets take, in per cent; the first is low.
const LOADS_PERCENT: [u32; 3] = [2, 25, 50];
/// The gap before the packets that tell what one costs.
const FIRST_GAP: Duration = Duration::from_micros(20);
/// Longer than the gaps at low load.
const SPIN: Duration = Duration::from_millis(2);
const STRAGGLERS: Duration = Duration::from_millis(100);

/// From socket to socket, or through a relay.
struct Way {
    name: String,
    relay: Option<Box<dyn Relay>>,
    ports: Vec<SocketAddr>,
    packets: Sealed,
    rounds: Vec<Round>,
}

/// Nanoseconds.
struct Round {
    p50: f64,
    p99: f64,
    lost_percent: f64,
}

pub(crate) fn compare(plan: &Plan) {
    let devices = Devices::deaf(plan.legs, LOCALHOST);
    let mut ears = Ears::new(&devices);
    let spinning = Backend { spin: SPIN, card: None };
    let ports = (0..devices.len()).map(|leg| devices.address(leg ^ 1)).collect();
    let direct = Way::new("no relay".to_owned(), None, ports, &devices);
    let mut ways = vec![
        direct,
        Way::through(Simple::bare(&devices, LOCALHOST), &devices),
        Way::through(Simple::bare_srtp(&devices, LOCALHOST, CM), &devices),
        Way::through(Ringdown::start(&devices, CM), &devices),
        Way::through(Ringdown::carried("ringdown, spinning".to_owned(), spinning, &devices, CM), &devices),
    ];
    relays::pin(1);
    let cost_ns = cost_ns(&mut ways[3], &devices, &mut ears, plan.slice);
    println!("a packet takes ringdown {cost_ns} ns; {} rounds of {:?}", plan.rounds, plan.slice);
    for percent in LOADS_PERCENT {
        let gap = Duration::from_nanos(cost_ns * 100 / u64::from(percent));
        ways.iter_mut().for_each(|way| way.rounds.clear());
        for _ in 0..plan.rounds {
            for way in &mut ways {
                let round = way.take_turn(&devices, &mut ears, gap, plan.slice);
                way.rounds.push(round);
            }
        }
        println!("at {percent} % load, {} packets/s:", Duration::from_secs(1).as_nanos() / gap.as_nanos());
        report(&ways);
    }
}

/// CPU time of a packet while others come between.
fn cost_ns(way: &mut Way, devices: &Devices, ears: &mut Ears, slice: Duration) -> u64 {
    let read = |way: &Way| way.relay.as_ref().map_or((0, 1), |relay| (relay.cpu_ns(), relay.relayed()));
    let before = read(way);
    way.take_turn(devices, ears, FIRST_GAP, slice);
    let after = read(way);
    (after.0 - before.0) / (after.1 - before.1).max(1)
}

impl Way {
    fn new(name: String, relay: Option<Box<dyn Relay>>, ports: Vec<SocketAddr>, devices: &Devices) -> Self {
        Self { name, relay, ports, packets: Sealed::new(devices, CM), rounds: Vec::new() }
    }

    fn through(relay: impl Relay + 'static, devices: &Devices) -> Self {
        let (name, ports) = (relay.name().to_owned(), relay.ports().to_vec());
        Self::new(name, Some(Box::new(relay)), ports, devices)
    }

    fn take_turn(&mut self, devices: &Devices, ears: &mut Ears, gap: Duration, slice: Duration) -> Round {
        let packets = usize::try_from(slice.as_nanos() / gap.as_nanos()).unwrap();
        let steps = packets / devices.len();
        let packets: Vec<_> = (0..steps.max(2)).flat_map(|_| self.packets.seal_bursts(1)).collect();
        let mut rng = Rng::from_small_seed(self.rounds.len() as u64);
        let mut sent = Vec::with_capacity(packets.len());
        let mut due = Instant::now();
        ears.begin(&packets);
        for (n, packet) in packets.iter().enumerate() {
            let leg = n % devices.len();
            // As long as telephones that know nothing of each other leave.
            let unit = (f64::from(rng.below(1 << 24)) + 1.0) / f64::from(1 << 24);
            due += gap.mul_f64(-unit.ln());
            while Instant::now() < due {
                ears.hear(devices);
            }
            sent.push(realtime_ns());
            devices.sockets()[leg].send_to(packet, self.ports[leg]).unwrap();
        }
        let end = Instant::now() + STRAGGLERS;
        while Instant::now() < end {
            ears.hear(devices);
        }
        ears.round(&sent)
    }

    /// What of the way is not there without a relay, in each round.
    fn added(&self, direct: &Self, of: fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().zip(&direct.rounds).map(|(own, direct)| of(own) - of(direct)).collect()
    }
}

fn report(ways: &[Way]) {
    let [direct, relays @ ..] = ways else { unreachable!() };
    let of = |of: fn(&Round) -> f64| median(direct.rounds.iter().map(of).collect()) / 1_000.0;
    println!("  {:<44} p50 {:>7.1} µs  p99 {:>7.1} µs", direct.name, of(|round| round.p50), of(|round| round.p99));
    for way in relays {
        let columns: [fn(&Round) -> f64; 2] = [|round| round.p50, |round| round.p99];
        let [p50, p99] = columns.map(|of| {
            let added = way.added(direct, of);
            let to = |other: &Way| {
                median(added.iter().zip(other.added(direct, of)).map(|(own, other)| own / other).collect())
            };
            format!("{:>7.1} µs ({:.2}; {:.2})", median(added.clone()) / 1_000.0, to(&relays[0]), to(&relays[1]))
        });
        let lost = way.rounds.iter().map(|round| round.lost_percent).fold(0.0, f64::max);
        println!("  {:<44} p50 {p50}  p99 {p99}  lost {lost:.2} % at most", way.name);
    }
    println!("  (added to no relay; beside the bare loop and beside the same loop with the same cryptography)");
}

/// Whoever listens on all devices.
struct Ears {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    legs: usize,
    /// The sequence number that the first packets of this turn have.
    first: u16,
    /// When each packet arrived, in the order of sending; 0: not yet.
    arrived_ns: Vec<u64>,
}

impl Ears {
    fn new(devices: &Devices) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for (index, socket) in devices.sockets().iter().enumerate() {
            setsockopt(socket, ReceiveTimestampns, &true).unwrap();
            socket.set_nonblocking(true).unwrap();
            epoll::add(&epoll, socket, EventData::new_u64(index as u64), EventFlags::IN).unwrap();
        }
        Self { epoll, ready: Vec::with_capacity(64), legs: devices.len(), first: 0, arrived_ns: Vec::new() }
    }

    fn begin(&mut self, packets: &[Vec<u8>]) {
        self.first = sequence(&packets[0]);
        self.arrived_ns = vec![0; packets.len()];
    }

    /// Takes one packet, if there is one.
    fn hear(&mut self, devices: &Devices) {
        let Some(event) = self.ready.pop() else {
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&Timespec::default()));
            return;
        };
        let socket = &devices.sockets()[usize::try_from(event.data.u64()).unwrap()];
        let (mut packet, mut space) = ([0; 2_048], nix::cmsg_space!(nix::sys::time::TimeSpec));
        let mut parts = [std::io::IoSliceMut::new(&mut packet)];
        let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)
        else {
            return;
        };
        let stamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
            _ => None,
        });
        let stamp = stamp.expect("the kernel notes when a packet comes");
        // A stream keeps its SSRC and sequence numbers through a relay.
        let leg = u32::from_be_bytes(packet[8..12].try_into().unwrap()) as usize;
        let step = usize::from(sequence(&packet).wrapping_sub(self.first));
        if let Some(arrived) = self.arrived_ns.get_mut(step * self.legs + leg) {
            *arrived = (stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec()).cast_unsigned();
        }
    }

    /// The first quarter looks up addresses and fills caches.
    fn round(&self, sent_ns: &[u64]) -> Round {
        let warm_up = sent_ns.len() / 4;
        let ways = self.arrived_ns.iter().zip(sent_ns).skip(warm_up);
        let mut ages: Vec<_> =
            ways.filter(|(arrived, _)| **arrived > 0).map(|(arrived, sent)| arrived - sent).collect();
        ages.sort_unstable();
        let at = |percent: usize| ages[(ages.len() - 1) * percent / 100] as f64;
        let lost = sent_ns.len() - warm_up - ages.len();
        Round { p50: at(50), p99: at(99), lost_percent: 100.0 * lost as f64 / (sent_ns.len() - warm_up) as f64 }
    }
}

fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

/// The clock of the kernel's notes.
fn realtime_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    (now.tv_sec * 1_000_000_000 + now.tv_nsec).cast_unsigned()
}
