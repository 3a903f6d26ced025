//! CPU time per relayed packet: ringdown's media worker with SRTP on both legs, beside a bare `recvfrom` + `sendto` loop
//! and a naive tokio relay (one task per socket), which forward the same packets unchanged.
//!
//! 1000 legs in 500 calls each get a 172-byte RTP packet every 20 ms over loopback, from a load generator on another core.
//! The relays take turns, so that whatever else the machine does hits all of them; each runs in one thread pinned to the
//! same core (rtpengine in a process of its own, with one worker), and only its CPU time counts. The median over the rounds is printed.
//!
//! `cargo bench --bench relay` takes under a minute, `cargo bench --bench relay -- --quick` a few seconds. As root, `-- --veth`
//! compares ringdown's two backends instead, over virtual cards: there AF_XDP copies each packet, and no driver saves an interrupt.
//! `-- --rtpengine` adds Debian's rtpengine (`rtpengine-daemon`) in user space, which re-encrypts as ringdown does, and takes a
//! minute more.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark prints, reads the clock, and may stop when anything fails"
)]

mod load;
#[path = "../../tests/common/namespace.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod namespace;
mod relays;
mod rtpengine;
mod veth;

use std::{sync::Arc, time::Duration};

use ringdown::wire::srtp::Suite;

use load::{Devices, Sealed};
use relays::{Relay, Ringdown, Simple};
use rtpengine::Rtpengine;

/// Descriptors for everything that is neither a device nor a relay socket.
const OTHER_DESCRIPTORS: u64 = 100;
/// Per leg: its device, a socket of the two simple relays each, and two of each of ringdown's.
const DESCRIPTORS_PER_LEG: u64 = 9;

struct Plan {
    legs: usize,
    rounds: usize,
    slice: Duration,
}

/// One relay's turn.
struct Turn {
    relayed: u64,
    sent: u64,
    received: u64,
    cpu_ns: u64,
}

fn main() {
    let plan = plan();
    if std::env::args().any(|argument| argument == "--veth") {
        return veth::compare(&plan);
    }
    let devices = Arc::new(Devices::start(plan.legs, relays::LOCALHOST));
    let mut contenders = contenders(&devices);
    // The relays have taken the first core; the load must not disturb them there.
    relays::pin(1);
    println!("{} legs, {} rounds of {:?} for each relay, 50 packets/s a leg", plan.legs, plan.rounds, plan.slice);
    let mut turns: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds {
        for ((relay, packets), turns) in contenders.iter_mut().zip(&mut turns) {
            turns.push(turn(&**relay, packets, &devices, plan.slice));
        }
    }
    report(&contenders, &turns);
    if let [.., ours, theirs] = &turns[..]
        && contenders.last().is_some_and(|(relay, _)| relay.name() == rtpengine::NAME)
    {
        println!("{} takes {:.2} times ringdown's CPU between the same suites", rtpengine::NAME, ratio(theirs, ours));
    }
}

/// As many legs as the descriptor limit allows, up to 1000.
fn plan() -> Plan {
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let is_quick = has("--quick") || !has("--bench");
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let affordable = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_LEG;
    let (legs, rounds, slice) = if is_quick { (100, 1, 300) } else { (1_000, 20, 400) };
    let legs = usize::try_from(affordable).unwrap_or(usize::MAX).min(legs) / 20 * 20;
    Plan { legs, rounds, slice: Duration::from_millis(slice) }
}

/// The relays with the packets they get: the bare loop first, to which the others are compared.
fn contenders(devices: &Arc<Devices>) -> Vec<(Box<dyn Relay>, Sealed)> {
    let (cm, gcm) = ([Suite::AesCm128HmacSha1_80; 2], [Suite::AeadAes128Gcm; 2]);
    let mut all: Vec<(Box<dyn Relay>, Sealed)> = vec![
        (Box::new(Simple::bare(devices)), Sealed::new(devices, cm)),
        (Box::new(Ringdown::start(devices, cm)), Sealed::new(devices, cm)),
        (Box::new(Simple::tokio(devices)), Sealed::new(devices, cm)),
        (Box::new(Ringdown::start(devices, gcm)), Sealed::new(devices, gcm)),
        (Box::new(Ringdown::start(devices, rtpengine::SUITES)), Sealed::new(devices, rtpengine::SUITES)),
    ];
    if !std::env::args().any(|argument| argument == "--rtpengine") {
        return all;
    }
    match Rtpengine::start(devices) {
        Some(relay) => all.push((Box::new(relay), Sealed::new(devices, rtpengine::SUITES))),
        None => println!("rtpengine is not installed: apt-get install --no-install-recommends rtpengine-daemon"),
    }
    all
}

/// Packets flow for a moment before they count: a relay that was silent while others had their turn looks addresses up
/// anew, which a call in progress never does.
const WARM_UP: Duration = Duration::from_millis(200);

fn turn(relay: &dyn Relay, packets: &mut Sealed, devices: &Devices, time: Duration) -> Turn {
    let (warm_up, slice) = (packets.seal(WARM_UP), packets.seal(time));
    let relayed = relay.relayed();
    settle(relay, relayed + devices.send(&warm_up, relay.ports()));
    let (relayed, cpu_ns, received) = (relay.relayed(), relay.cpu_ns(), devices.received());
    let sent = devices.send(&slice, relay.ports());
    settle(relay, relayed + sent);
    if let Some(keys) = relay.sample_keys() {
        devices.check_samples(keys);
    }
    Turn {
        relayed: relay.relayed() - relayed,
        sent,
        received: devices.received() - received,
        cpu_ns: relay.cpu_ns() - cpu_ns,
    }
}

/// Waits until everything sent is relayed (or lost), and for the CPU time that the relay publishes when it is idle.
fn settle(relay: &dyn Relay, expected: u64) {
    let give_up = std::time::Instant::now() + Duration::from_secs(1);
    while relay.relayed() < expected && std::time::Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(80));
}

fn report(contenders: &[(Box<dyn Relay>, Sealed)], turns: &[Vec<Turn>]) {
    let bare = &turns[0];
    println!("{:<44} {:>10} {:>8} {:>14} {:>8}", "relay", "packets", "lost", "CPU ns/packet", "ratio");
    for ((relay, _), turns) in contenders.iter().zip(turns) {
        let own = per_packet(turns);
        let relayed: u64 = turns.iter().map(|turn| turn.relayed).sum();
        let sent: u64 = turns.iter().map(|turn| turn.sent).sum();
        let received: u64 = turns.iter().map(|turn| turn.received).sum();
        let lost = 100.0 * (1.0 - received as f64 / sent as f64);
        let ratio = ratio(turns, bare);
        println!("{:<44} {relayed:>10} {lost:>7.2}% {:>14.0} {ratio:>8.2}", relay.name(), median(own));
    }
}

/// Median of what each round's packet cost one relay, beside what it cost another in the same round.
fn ratio(turns: &[Turn], others: &[Turn]) -> f64 {
    median(per_packet(turns).iter().zip(per_packet(others)).map(|(own, other)| own / other).collect())
}

fn per_packet(turns: &[Turn]) -> Vec<f64> {
    turns.iter().map(|turn| turn.cpu_ns as f64 / turn.relayed.max(1) as f64).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
