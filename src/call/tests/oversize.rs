//! What peers say may be large, and much of it goes into requests of ours: none of that ends the server.

use super::{
    ALICE_FROM, BOBS_LINE, TRUNK_FROM,
    bench::{BOB, Bench, Leg, SDP, TRUNK, udp},
    from_alice, invite,
};
use crate::{
    types::{
        DropReason,
        limits::{CALLER_CHARS_MAX, DIALOG_NAME_BYTES_MAX, PASSED_HEADERS_MAX, ROUTES_BYTES_MAX, ROUTES_MAX},
    },
    wire::sip::{Message, Name},
};

const ALICE_AT: &str = "198.51.100.77:1000";

fn routes(count: usize, name: &str) -> String {
    let values = vec![format!("<sip:{name}.example.com;lr>"); count].join(",");
    format!("Record-Route: {values}\n")
}

/// The trunk's INVITE to Bob as it arrives there.
fn passed(b: &mut Bench, from: &str, extra: &str) -> Message {
    invite(b, udp(TRUNK), BOBS_LINE, from, extra);
    b.take_request("INVITE", BOB).1
}

#[test]
fn so_many_lines_pass_from_leg_to_leg_and_no_more() {
    for lines in [PASSED_HEADERS_MAX, PASSED_HEADERS_MAX + 1, 110] {
        let mut b = Bench::new();
        let at_bob = passed(&mut b, TRUNK_FROM, &"Subject:\n".repeat(lines));
        assert_eq!(at_bob.lines(Name::Subject).count(), PASSED_HEADERS_MAX.min(lines));
    }
}

#[test]
fn a_caller_with_an_endless_number_is_shown_as_anonymous() {
    for (chars, is_shown) in [(CALLER_CHARS_MAX, true), (CALLER_CHARS_MAX + 1, false), (7_900, false)] {
        let mut b = Bench::new();
        let number = "#".repeat(chars);
        let at_bob = passed(&mut b, &format!("<sip:{number}@203.0.113.5>"), "");
        assert_eq!(at_bob.header(Name::From).unwrap().contains("%23"), is_shown, "{chars}");
        assert_eq!(at_bob.header(Name::From).unwrap().contains("anonymous@"), !is_shown, "{chars}");
    }
}

#[test]
fn a_route_set_that_no_request_could_carry_is_refused_or_cut() {
    let mut b = Bench::new();
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    for (extra, status) in [
        (routes(ROUTES_MAX, "proxy"), 200),
        (routes(ROUTES_MAX + 1, "proxy"), 400),
        (routes(1, &"a".repeat(ROUTES_BYTES_MAX)), 400),
        (routes(120, "p"), 400),
    ] {
        let id = format!("routes-{}", extra.len());
        let uri = "sip:alice@pbx.example.com";
        let headers = format!("Event: dialog\n{extra}");
        let from = format!("{ALICE_FROM};tag={id}");
        b.request(alice, ("SUBSCRIBE", uri), (&from, &format!("<{uri}>")), (&id, 1), (&headers, ""));
        assert_eq!(b.take_response("SUBSCRIBE", ALICE_AT, 200).status(), status, "{} bytes", extra.len());
    }
    // A callee's answer cannot be refused.
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    b.answer(&to_bob, 200, "bob", &format!("Contact: <sip:peer@{BOB}>\n{}", routes(120, "p")), SDP);
    let ack = b.take_request("ACK", BOB).1;
    assert_eq!(ack.lines(Name::Route).count(), ROUTES_MAX);
}

#[test]
fn a_dialog_with_endless_names_is_not_named_to_lamps() {
    for (bytes, is_named) in [(DIALOG_NAME_BYTES_MAX, true), (DIALOG_NAME_BYTES_MAX + 1, false), (7_900, false)] {
        let mut b = Bench::new();
        let alice = from_alice(1000, 1);
        b.register(alice, "alice");
        let uri = "sip:1002@pbx.example.com";
        let from = format!("{ALICE_FROM};tag={}", "t".repeat(bytes));
        b.request(alice, ("INVITE", uri), (&from, &format!("<{uri}>")), (&"\"".repeat(bytes), 1), ("", SDP));
        let ringing = b.take_request("INVITE", BOB);
        b.answer(&ringing, 180, "bob", "", "");
        let own = "sip:alice@pbx.example.com";
        let watch = format!("{ALICE_FROM};tag=watch");
        b.request(alice, ("SUBSCRIBE", own), (&watch, &format!("<{own}>")), ("watch", 1), ("Event: dialog\n", ""));
        let notify = b.take_request("NOTIFY", ALICE_AT).1;
        let text = String::from_utf8_lossy(&notify.body()).into_owned();
        assert!(text.contains("<state>early</state>"), "{text}");
        assert_eq!(text.contains("call-id="), is_named, "{bytes}");
    }
}

#[test]
fn a_request_that_grows_too_large_is_answered_513_and_the_call_goes_on() {
    let mut b = Bench::new();
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    let contact =
        format!("Contact: <sip:{}@{BOB}>\n{}", "x".repeat(8_100), routes(1, &"a".repeat(ROUTES_BYTES_MAX - 40)));
    b.answer(&to_bob, 200, &"t".repeat(8_100), &contact, SDP);
    let ok = b.take_response("INVITE", ALICE_AT, 200);
    let leg = Leg::of_caller(alice, &ok);
    b.acknowledge(&leg, 1, "");
    b.within(&leg, "INFO", 2, &format!("Content-Type: text/{}\n", "z".repeat(8_100)), &"y".repeat(32_760));
    assert_eq!(b.take_response("INFO", ALICE_AT, 200).status(), 513);
    assert_eq!(b.core.counters().drops.of(DropReason::SipUnsendable), 1);
    b.within(&leg, "INFO", 3, "", "y");
    b.take_request("INFO", BOB);
    assert_eq!(b.core.live_calls(), 1);
}
