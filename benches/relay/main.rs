//! CPU time per relayed packet: ringdown's media worker with SRTP on both legs, beside a bare `recvfrom` + `sendto` loop that
//! forwards the same packets unchanged, the same loop with the same cryptography, and a naive tokio relay (one task per socket)
//! that forwards unchanged.
//!
//! 1000 legs in 500 calls each get a 172-byte RTP packet every 20 ms over loopback, from a load generator on another core.
//! The relays take turns, so that whatever else the machine does hits all of them; each runs in one thread pinned to the
//! same core (rtpengine in a process of its own, with one worker), and only its CPU time counts. The median over the rounds is printed.
//!
//! ```sh
//! cargo bench --bench relay                   # under a minute; with `--quick` a few seconds
//! cargo bench --bench relay -- --rtpengine    # beside Debian's rtpengine (`rtpengine-daemon`), which re-encrypts as ringdown does
//! cargo bench --bench relay -- --many         # 5000 legs beside 1000
//! cargo bench --bench relay -- --latency      # what a relay adds to a packet's way
//! cargo bench --bench relay -- --overload     # twice as many packets as it can relay
//! cargo bench --bench relay -- --veth         # as root: AF_XDP and sockets over virtual cards; AF_XDP copies each packet there
//! ```

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark prints, reads the clock, and may stop when anything fails"
)]

mod latency;
mod load;
mod many;
#[path = "../../tests/common/namespace.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod namespace;
mod overload;
mod relays;
mod rtpengine;
mod turns;
mod veth;

use std::{sync::Arc, time::Duration};

use ringdown::wire::srtp::Suite;

use load::{Devices, PTIME_MS, Sealed};
use relays::{LOCALHOST, Ringdown, Simple};
use rtpengine::Rtpengine;
use turns::{Contender, Plan, report};

/// Descriptors for everything that is neither a device nor a relay socket.
const OTHER_DESCRIPTORS: u64 = 100;
/// Per leg: its device, a socket of the four simple relays each, and two of each of ringdown's.
const DESCRIPTORS_PER_LEG: u64 = 9;
/// Tags of 80 bits on one leg and of 32 on the other: what rtpengine re-encrypts, too.
pub(crate) const CM: [Suite; 2] = rtpengine::SUITES;
const GCM: [Suite; 2] = [Suite::AeadAes128Gcm; 2];

fn main() {
    let plan = plan();
    let modes = ["--veth", "--many", "--latency", "--overload"];
    match modes.into_iter().find(|mode| has(mode)) {
        Some("--veth") => veth::compare(&plan),
        Some("--many") => many::compare(&plan),
        Some("--latency") => latency::compare(&plan),
        Some(_) => overload::compare(&plan),
        None => compare(&plan),
    }
}

fn has(wanted: &str) -> bool {
    std::env::args().any(|argument| argument == wanted)
}

/// As many legs as the descriptor limit allows, up to 1000.
fn plan() -> Plan {
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    let is_quick = has("--quick") || !has("--bench");
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let affordable = limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_LEG;
    let (legs, rounds, slice) = if is_quick { (100, 1, 300) } else { (1_000, 20, 400) };
    let legs = usize::try_from(affordable).unwrap_or(usize::MAX).min(legs) / 20 * 20;
    Plan { legs, rounds, slice: Duration::from_millis(slice) }
}

fn compare(plan: &Plan) {
    let devices = Arc::new(Devices::start(plan.legs, LOCALHOST));
    let sealed = |suites| Sealed::new(&devices, suites);
    let mut contenders = vec![
        Contender::new(Simple::bare(&devices, LOCALHOST), sealed(CM), PTIME_MS),
        Contender::new(Simple::tokio(&devices, LOCALHOST), sealed(CM), PTIME_MS),
        Contender::new(Simple::bare_srtp(&devices, LOCALHOST, CM), sealed(CM), PTIME_MS),
        Contender::new(Ringdown::start(&devices, CM), sealed(CM), PTIME_MS),
        Contender::new(Simple::bare_srtp(&devices, LOCALHOST, GCM), sealed(GCM), PTIME_MS),
        Contender::new(Ringdown::start(&devices, GCM), sealed(GCM), PTIME_MS),
    ];
    if has("--rtpengine") {
        match Rtpengine::start(&devices) {
            Some(relay) => contenders.push(Contender::new(relay, sealed(CM), PTIME_MS)),
            None => println!("rtpengine is not installed: apt-get install --no-install-recommends rtpengine-daemon"),
        }
    }
    // The relays have taken the first core; the load must not disturb them there.
    relays::pin(1);
    println!("{} legs, {} rounds of {:?} for each relay, 50 packets/s a leg", plan.legs, plan.rounds, plan.slice);
    for _ in 0..plan.rounds {
        contenders.iter_mut().for_each(|contender| contender.take_turn(&devices, plan.slice));
    }
    report(&contenders.iter().collect::<Vec<_>>());
    let [_, tokio, bare_cm, cm, bare_gcm, gcm, theirs @ ..] = &contenders[..] else { unreachable!() };
    println!("ringdown takes {:.2} times what the loop with the same AES-CM takes", cm.ratio(bare_cm));
    println!("ringdown takes {:.2} times what the loop with the same AES-GCM takes", gcm.ratio(bare_gcm));
    println!("ringdown with AES-CM takes {:.2} times what tokio takes", cm.ratio(tokio));
    if let [rtpengine] = theirs {
        println!("ringdown with AES-CM takes {:.2} times what rtpengine takes", cm.ratio(rtpengine));
    }
}
