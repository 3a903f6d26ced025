//! Limits of calls, at the largest number allowed and one above.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, SDP, TRUNK, udp};
use crate::{types::limits::RING_S_MAX, wire::sip::Name};

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
