//! The whole server process under the load of SIPp on loopback: CPU per registration refresh, beside Debian's Kamailio in the
//! same run, and CPU, set-up time and leftovers of calls.
//!
//! A refresh is a REGISTER with a digest of MD5 (all that SIPp can) and its 200, from a device that keeps its nonce or from one that is
//! challenged each time; ringdown has it on disk before it answers, Kamailio keeps it in memory. A call is INVITE, 200, ACK, BYE, 200 from a trunk to a device through the B2BUA, with two media
//! legs opened and closed. What counts is the CPU time of the server's threads, kernel included, as the kernel accounts it.
//! The contenders take turns, and the median over the rounds is printed.
//!
//! `cargo bench --bench load` takes about three minutes, with `-- --quick` some seconds. It needs the Debian packages
//! `sip-tester` and `kamailio`; without the second ringdown is measured alone.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark prints, reads the clock, and may stop when anything fails"
)]

mod servers;
mod sipp;

use std::time::{Duration, Instant};

use servers::{Kamailio, Ringdown, Server};
use sipp::{Answerer, Run};

struct Plan {
    rounds: usize,
    /// Refreshes a second, one of these in each round.
    refresh_rates: &'static [u32],
    refresh_time_s: u32,
    calls: u32,
    /// Calls a second.
    call_rate: u32,
}

fn main() {
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let plan = if has("--quick") || !has("--bench") {
        Plan { rounds: 1, refresh_rates: &[200], refresh_time_s: 1, calls: 100, call_rate: 100 }
    } else {
        // Half of 3,000 calls a second.
        Plan { rounds: 5, refresh_rates: &[1_000, 6_000], refresh_time_s: 4, calls: 100_000, call_rate: 1_500 }
    };
    if !servers::is_installed("sipp") {
        println!("SIPp is not installed: apt-get install --no-install-recommends sip-tester");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ringdown = Ringdown::start(folder.path());
    registrations(&plan, &ringdown);
    calls(&plan, &ringdown);
}

fn registrations(plan: &Plan, ringdown: &Ringdown) {
    let kamailio = servers::is_installed("kamailio").then(|| Kamailio::start(ringdown.folder()));
    for (device, &rate) in DEVICES.iter().flat_map(|device| plan.refresh_rates.iter().map(move |rate| (device, rate))) {
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..plan.rounds {
            turns[0].push(refresh(ringdown, device, rate, plan.refresh_time_s));
            turns[1].extend(kamailio.as_ref().map(|k| refresh(k, device, rate, plan.refresh_time_s)));
        }
        let ratio = median(turns[0].iter().zip(&turns[1]).map(|(own, other)| own / other).collect());
        let [own, other] = turns.map(median);
        let Device { what, .. } = device;
        println!(
            "{rate} registration refreshes a second, {what}: ringdown {own:.1} us of CPU each, Kamailio {other:.1} us, ratio {ratio:.2}"
        );
    }
}

/// How a device refreshes its registration.
struct Device {
    what: &'static str,
    scenario: &'static str,
    /// By one run of the scenario. A challenge is counted to the refresh it is for.
    refreshes: u32,
}

const DEVICES: [Device; 2] = [
    Device { what: "one challenge in 50", scenario: "refresh.xml", refreshes: 50 },
    Device { what: "each after a challenge", scenario: "register.xml", refreshes: 1 },
];

/// Microseconds of CPU for each.
fn refresh(server: &dyn Server, device: &Device, rate: u32, seconds: u32) -> f64 {
    let before = server.cpu();
    let (rate, count) = (rate / device.refreshes, rate * seconds / device.refreshes);
    let run = Run { scenario: device.scenario, from: servers::DEVICES, to: server.ip(), rate, count };
    run.finish(server.folder());
    micros(server.cpu() - before) / f64::from(count * device.refreshes)
}

fn calls(plan: &Plan, ringdown: &Ringdown) {
    let devices = servers::USERS;
    Run { scenario: "register.xml", from: servers::DEVICES, to: ringdown.ip(), rate: 100, count: devices }
        .finish(ringdown.folder());
    let answerer = Answerer::start(ringdown.folder());
    // What the machine and SIPp themselves take, with no server between.
    let to = servers::DEVICES;
    let call = Run { scenario: "call.xml", from: servers::TRUNK, to, rate: plan.call_rate, count: plan.calls / 10 };
    let direct_ms = call.finish(ringdown.folder());
    let rested = ringdown.leftovers();
    let before = ringdown.cpu();
    let run = Run { to: ringdown.ip(), count: plan.calls, ..call };
    let setup_ms = run.finish(ringdown.folder());
    let each = micros(ringdown.cpu() - before) / f64::from(plan.calls);
    let Plan { calls, call_rate, .. } = plan;
    let on_one_core = 1e6 / each;
    println!(
        "{calls} calls, {call_rate} a second: {each:.0} us of CPU each, {on_one_core:.0} a second on one core, none failed"
    );
    for (what, times) in [("through the server", &setup_ms), ("from SIPp to SIPp", &direct_ms)] {
        println!("set-up {what}: p50 {} ms, p99 {} ms", percentile(times, 50), percentile(times, 99));
    }
    drop(answerer);
    ringdown.wait_idle(&rested);
    println!("afterwards: no call, no media leg, no descriptor more than before, every record kept, and no timer runs");
}

/// Waits for what a server does until `limit`.
fn wait_for(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn micros(cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn percentile(sorted: &[u32], percent: usize) -> u32 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0)
}
