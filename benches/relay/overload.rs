//! More packets than a relay can take: what it still relays at twice the load at which it has no time left.

use std::{
    io::IoSlice,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::{
    CM,
    load::{Devices, Sealed},
    relays::{self, LOCALHOST, Relay, Ringdown, Simple},
    turns::Plan,
    veth::Side,
};

/// Of one leg, handed to the kernel at once: one system call a packet would be more than the sender's processor can do.
const BURST_PACKETS: u16 = 8;
/// What the queues of more sockets hold would last too long.
const LEGS_MAX: usize = 200;
const FIRST_PACKETS_PER_SECOND: f64 = 60_000.0;
const STEP: f64 = 1.25;
/// Who relays less of what comes has no time left.
const SATURATED: f64 = 0.97;
/// The queues fill before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(2);

/// Packets a second.
struct Flow {
    sent: f64,
    relayed: f64,
}

pub(crate) fn compare(plan: &Plan) {
    let legs = plan.legs.min(LEGS_MAX);
    println!("relay: packets/s relayed of those sent at saturation; at twice as many; one beside the other");
    {
        let devices = Devices::start(legs, LOCALHOST);
        measure(&Simple::bare(&devices, LOCALHOST), &mut Sealed::new(&devices, CM), &devices);
        measure(&Ringdown::start(&devices, CM), &mut Sealed::new(&devices, CM), &devices);
    }
    for backend in ["epoll", "xdp"] {
        let Some(mut side) = Side::ringdown(legs, backend) else { return };
        let relay = &*side.contender.relay;
        measure(relay, &mut side.contender.packets, &side.devices);
    }
}

fn measure(relay: &dyn Relay, packets: &mut Sealed, devices: &Devices) {
    relays::pin(1);
    let mut wanted = FIRST_PACKETS_PER_SECOND;
    let mut best: Option<Flow> = None;
    let saturated = loop {
        let flow = offer(wanted, relay, packets, devices);
        let is_saturated = flow.relayed < SATURATED * flow.sent;
        // The sender has its limits, too.
        let is_all = flow.sent < 0.9 * wanted;
        if best.as_ref().is_none_or(|best| best.relayed < flow.relayed) {
            best = Some(flow);
        }
        if is_saturated || is_all {
            break is_saturated;
        }
        wanted *= STEP;
    };
    let best = best.unwrap();
    if !saturated {
        println!("{}: {:.0} of {:.0}: the sender can no more", relay.name(), best.relayed, best.sent);
        return;
    }
    let twice = offer(2.0 * best.relayed, relay, packets, devices);
    println!(
        "{}: {:.0} of {:.0}; {:.0} of {:.0}; {:.2}",
        relay.name(),
        best.relayed,
        best.sent,
        twice.relayed,
        twice.sent,
        twice.relayed / best.relayed
    );
}

fn offer(packets_per_second: f64, relay: &dyn Relay, packets: &mut Sealed, devices: &Devices) -> Flow {
    let gap = Duration::from_secs_f64(f64::from(BURST_PACKETS) / packets_per_second);
    let bursts = usize::try_from((WARM_UP + TIME).as_nanos() / gap.as_nanos()).unwrap();
    let rounds: Vec<_> = (0..bursts / devices.len()).map(|_| packets.seal_bursts(BURST_PACKETS)).collect();
    let targets: Vec<_> = relay.ports().iter().map(|port| SockaddrStorage::from(*port)).collect();
    let start = Instant::now();
    let (mut sent, mut begun) = (0, None);
    for (n, (leg, burst)) in rounds.iter().flat_map(|round| round.iter().enumerate()).enumerate() {
        let due = start + gap.mul_f64(n as f64);
        while Instant::now() < due {
            std::hint::spin_loop();
        }
        if begun.is_none() && start.elapsed() >= WARM_UP {
            begun = Some((Instant::now(), relay.relayed(), sent));
        }
        let segment = u16::try_from(burst.len()).unwrap() / BURST_PACKETS;
        let (parts, control) = ([IoSlice::new(burst)], [ControlMessage::UdpGsoSegments(&segment)]);
        let socket = devices.sockets()[leg].as_raw_fd();
        if sendmsg(socket, &parts, &control, MsgFlags::empty(), Some(&targets[leg])).is_ok() {
            sent += u64::from(BURST_PACKETS);
        }
    }
    let (begun, relayed, sent_before) = begun.expect("it takes longer");
    let (time, relayed) = (begun.elapsed().as_secs_f64(), relay.relayed() - relayed);
    // The queues run empty before the next load.
    std::thread::sleep(Duration::from_millis(500));
    Flow { sent: (sent - sent_before) as f64 / time, relayed: relayed as f64 / time }
}
