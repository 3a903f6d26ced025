//! What the signalling core costs: CPU per registration refresh and per call, heap per contact and per call; and the memory
//! of a media leg, in the server and in the kernel.
//!
//! The whole core runs, as the server runs it, but without sockets, disk and media threads: its peers are written by
//! hand. Only time and allocations inside the core count. A refresh is REGISTER, 401, REGISTER with a digest of SHA-256, 200; a call is INVITE, 180,
//! 200, ACK and BYE through the B2BUA between two devices on TLS, with SDES keys and ports for both legs.
//!
//! `cargo bench --bench signalling` takes about half a minute, with `-- --quick` a second or two. With `-- --soak` it sets
//! up and ends a million calls, and stops with an error if one fails or anything of one is left. Counts do not depend on the
//! machine: each run, also that of `cargo test --all-targets`, holds them to their limits.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a benchmark prints, reads the clock, and may stop when anything fails"
)]

mod heap;
mod legs;
mod peers;

use std::time::Duration;

use peers::{Device, Exchange, Spent};

/// Between one event and the next, so that transactions and nonces grow old as they do in life.
const A_MOMENT: Duration = Duration::from_millis(1);

/// Of the challenge and of what follows it.
const REFRESH_ALLOCATIONS_MAX: u64 = 35;
const CALL_ALLOCATIONS_MAX: u64 = 420;
/// The answer, and what it takes to find and to forget it.
const ANSWERED_REQUEST_BYTES_MAX: u64 = 1_200;
/// Both of its legs, without their media legs.
const CALL_BYTES_MAX: u64 = 10_500;
/// With AES-CM both ways.
const LEG_BYTES_MAX: u64 = 2_048;

struct Plan {
    contacts: u32,
    calls: u32,
    /// Established at one time.
    calls_held: u32,
    legs: u16,
}

fn main() {
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let plan = if has("--quick") || !has("--bench") {
        Plan { contacts: 1_000, calls: 200, calls_held: 100, legs: 100 }
    } else {
        let calls = if has("--soak") { 1_000_000 } else { 20_000 };
        Plan { contacts: 100_000, calls, calls_held: 2_000, legs: 4_000 }
    };
    registrations(&plan);
    answered_requests(plan.contacts);
    calls(&plan);
    let Plan { legs, .. } = plan;
    let each = legs::heap_each(legs.into());
    println!("{legs} media legs: {each} bytes of heap each");
    assert!(each <= LEG_BYTES_MAX, "more than {LEG_BYTES_MAX}");
    println!("{legs} media legs: {} bytes of the kernel each, nothing received", legs::kernel_each(legs));
}

fn registrations(plan: &Plan) {
    let mut exchange = Exchange::new(plan.contacts);
    let mut devices: Vec<_> = (0..plan.contacts).map(Device::new).collect();
    let before = heap::bytes_in_use();
    for device in &mut devices {
        device.register(&mut exchange);
        exchange.pass(A_MOMENT);
    }
    exchange.pass(Duration::from_secs(60));
    let heap = heap::bytes_in_use().saturating_sub(before);
    println!("{} contacts: {} bytes of heap each", plan.contacts, heap / u64::from(plan.contacts));

    exchange.take_spent();
    for device in &mut devices {
        device.register(&mut exchange);
        exchange.pass(A_MOMENT);
    }
    let spent = exchange.take_spent();
    report("registration refresh, challenge included", plan.contacts, spent, REFRESH_ALLOCATIONS_MAX);
}

/// What is kept of an answered request over UDP until no copy of it can come any more (timer J). Of strangers nothing is.
fn answered_requests(count: u32) {
    let mut exchange = Exchange::new(1);
    let mut device = Device::over_udp(0);
    device.register(&mut exchange);
    exchange.pass(Duration::from_secs(60));
    let before = heap::bytes_in_use();
    for _ in 0..count {
        device.ask(&mut exchange);
    }
    let each = heap::bytes_in_use().saturating_sub(before) / u64::from(count);
    println!("{count} answered requests of a telephone over UDP: {each} bytes of heap each, for 32 s");
    assert!(each <= ANSWERED_REQUEST_BYTES_MAX, "more than {ANSWERED_REQUEST_BYTES_MAX}");
}

fn calls(plan: &Plan) {
    let mut exchange = Exchange::new(2 * plan.calls_held);
    let mut devices: Vec<_> = (0..2 * plan.calls_held).map(Device::new).collect();
    for device in &mut devices {
        device.register(&mut exchange);
    }
    // The first number of a region loads its plan.
    talk(&mut devices, 0, &mut exchange);
    exchange.take_spent();
    for number in 0..plan.calls {
        talk(&mut devices, number % plan.calls_held, &mut exchange);
    }
    report("call, from INVITE to the end of BYE", plan.calls, exchange.take_spent(), CALL_ALLOCATIONS_MAX);
    exchange.pass(Duration::from_secs(60));
    assert!(exchange.is_idle(), "nothing is left of the calls");

    let before = heap::bytes_in_use();
    for number in 0..plan.calls_held {
        let [a, b] = pair(&mut devices, number);
        a.call(b, &mut exchange);
    }
    exchange.pass(Duration::from_secs(60));
    let each = heap::bytes_in_use().saturating_sub(before) / u64::from(plan.calls_held);
    println!("{} calls: {each} bytes of heap each", plan.calls_held);
    assert!(each <= CALL_BYTES_MAX, "more than {CALL_BYTES_MAX}");
}

fn talk(devices: &mut [Device], number: u32, exchange: &mut Exchange) {
    let [a, b] = pair(devices, number);
    let call = a.call(b, exchange);
    a.hang_up(&call, exchange);
    exchange.pass(A_MOMENT);
}

fn pair(devices: &mut [Device], number: u32) -> [&mut Device; 2] {
    let first = 2 * number as usize;
    devices.get_disjoint_mut([first, first + 1]).unwrap()
}

fn report(what: &str, count: u32, Spent { time, allocations }: Spent, allocations_max: u64) {
    let (each, allocations) = ((time / count).as_secs_f64(), allocations / u64::from(count));
    let (micros, on_one_core) = (each * 1e6, 1.0 / each);
    println!("{what}: {micros:.1} us of CPU, {on_one_core:.0} a second on one core, {allocations} allocations");
    assert!(allocations <= allocations_max, "more than {allocations_max} allocations");
}
