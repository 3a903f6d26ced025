//! Limits of calls, at the largest number allowed and one above.

use super::{
    super::{Input, Rejection},
    BOBS_LINE,
    bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, SDP, TRUNK, binding, udp, user},
};
use crate::{media, types::limits::RING_S_MAX, wire::sip::Name};

fn invite(b: &mut Bench, from: &str, uri: &str, call_id: &str) {
    let addresses = (&*format!("<sip:+14155550123@203.0.113.5>;tag={call_id}"), &*format!("<{uri}>"));
    b.request(udp(from), ("INVITE", uri), addresses, (call_id, 1), ("", SDP));
}

#[test]
fn a_call_above_the_limit_is_refused_for_a_while_and_a_call_for_help_never() {
    let mut b = Bench::new();
    b.core.calls_max = 2;
    for call_id in ["first", "second"] {
        invite(&mut b, TRUNK, "sip:+12025551002@pbx.example.com", call_id);
        b.take_request("INVITE", BOB);
    }
    assert_eq!(b.core.live_calls(), 2);
    invite(&mut b, TRUNK, "sip:+12025551002@pbx.example.com", "third");
    let refusal = b.take_response("INVITE", TRUNK, 300);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Too Many Calls"));
    assert_eq!(refusal.header(Name::RetryAfter), Some("30"));
    assert!(b.find_request("INVITE", BOB).is_none());

    invite(&mut b, ALICE, "urn:service:sos", "help");
    b.take_request("INVITE", TRUNK);
    assert_eq!(b.core.live_calls(), 3);
}

#[test]
fn an_unanswered_call_rings_as_long_as_it_may_and_no_longer() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    for device in [BOB, BOB_TOO] {
        let invite = b.take_request("INVITE", device);
        b.answer(&invite, 180, device, "", "");
    }
    b.pass(RING_S_MAX * 1_000 - 1);
    assert_eq!(b.take_response("INVITE", TRUNK, 180).status(), 180);
    assert!(b.find_request("CANCEL", BOB).is_none(), "given up too soon");
    assert!(b.sent.iter().all(|(_, m)| m.status() < 300), "{}", b.told());
    b.pass(1);
    b.take_request("CANCEL", BOB);
    b.take_request("CANCEL", BOB_TOO);
    assert_eq!(b.take_response("INVITE", TRUNK, 300).status(), 408);
}

fn measured(b: &mut Bench, worker: u16, busy_permille: u16) {
    b.input(Input::Media(media::Event::Load { worker, busy_permille }));
}

#[test]
fn above_the_load_ordinary_calls_are_refused_until_it_is_a_tenth_lower() {
    let mut b = Bench::new();
    let seconds = [(799, false), (800, true), (720, true), (719, false), (799, false), (1_000, true)];
    for (n, (busy, is_refused)) in seconds.into_iter().enumerate() {
        measured(&mut b, 0, busy);
        assert_eq!(b.core.worker_loads().is_refusing, busy == 720, "it is an INVITE that finds the limit reached");
        b.sent.clear();
        invite(&mut b, TRUNK, BOBS_LINE, &format!("call-{n}"));
        assert_eq!(b.find_request("INVITE", BOB).is_none(), is_refused, "{busy}");
    }
    let refusal = b.take_response("INVITE", TRUNK, 300);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Media Overloaded"));
    assert_eq!(refusal.header(Name::RetryAfter), Some("30"));
    assert_eq!(b.core.counters().calls_rejected[Rejection::MediaLoad as usize], 3);
}

/// Goal: calls for help, what stays within a call, and what takes a dialog's place are no new load, or come before it.
#[test]
fn above_the_load_nothing_else_is_refused() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    measured(&mut b, 0, 1_000);
    invite(&mut b, TRUNK, BOBS_LINE, "refused");
    assert_eq!(b.take_response("INVITE", TRUNK, 300).status(), 503);
    invite(&mut b, ALICE, "urn:service:sos", "help");
    b.take_request("INVITE", TRUNK);
    b.within(&trunk, "INVITE", 2, "", SDP);
    b.take_request("INVITE", BOB);
    let to = format!("<{BOBS_LINE}>");
    let (line, from) = (("INVITE", BOBS_LINE), ("<sip:+14155550123@203.0.113.5>;tag=r", to.as_str()));
    b.request(udp(TRUNK), line, from, ("replaces", 1), ("Replaces: nobody;to-tag=x;from-tag=y\n", SDP));
    assert_ne!(b.take_response("INVITE", TRUNK, 300).status(), 503, "there is no such dialog");
}

#[test]
fn a_new_call_goes_to_the_worker_that_is_less_busy_or_where_both_are_alike_has_more_ports() {
    let config = CONFIG.replace("workers = 1", "workers = 2").replace("20000-20099", "20000-20399");
    let line = |n: u32| format!("+1202555200{n}");
    let users = (0..6).map(|n| user(&format!("u{n}"), &format!("200{n}"), &line(n)));
    let bindings = (0..6).map(|n| binding(&format!("u{n}"), &format!("198.51.100.{}:5060", 10 + n))).collect();
    let mut b = Bench::with_users(&config, users, bindings);
    let cases = [([0, 0], 0), ([0, 0], 1), ([20, 30], 0), ([100, 30], 1), ([790, 720], 1), ([900, 700], 1)];
    for ((busy, worker), n) in cases.into_iter().zip(0..) {
        measured(&mut b, 0, busy[0]);
        measured(&mut b, 1, busy[1]);
        let before = b.open_legs.len();
        invite(&mut b, TRUNK, &format!("sip:{}@pbx.example.com", line(n)), &format!("call-{n}"));
        assert_eq!(b.open_legs[before].worker, worker, "{busy:?}");
    }
}
