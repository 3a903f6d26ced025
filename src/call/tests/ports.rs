//! Media ports that another program on the machine has: no call dies of one.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, udp};
use crate::{
    call::Input,
    media,
    types::{LegId, limits::OCCUPIED_PORTS_PER_CALL_MAX},
    wire::sip::Message,
};

fn fail(b: &mut Bench, leg: LegId) {
    b.input(Input::Media(media::Event::OpenFailed { leg }));
}

/// The port of the first m-line.
fn port(message: &Message) -> u16 {
    let body = message.sdp().unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let port = text.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next());
    port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port: {text}"))
}

/// Of a leg's slot; the bench has one worker.
fn port_of(leg: LegId) -> u16 {
    20_000 + 2 * u16::try_from(leg.slot).unwrap()
}

fn help(b: &mut Bench) {
    let dialled = ("INVITE", "sip:911@pbx.example.com");
    let to = "<sip:911@pbx.example.com>";
    b.request(udp(ALICE), dialled, ("<sip:alice@pbx.example.com>;tag=a", to), ("help", 1), ("", SDP));
}

#[test]
fn legs_get_ports_that_were_bound_before_and_whose_failure_was_not_heard() {
    let mut b = Bench::new();
    let bound = b.bound.clone();
    assert_eq!(bound.len(), 50, "the whole of a small range");
    for leg in &bound[..2] {
        fail(&mut b, *leg);
    }
    assert_eq!(b.core.counters().media_ports_occupied, 2);
    b.trunk_talks_to_bob();
    assert_eq!(b.open_legs[..], bound[2..4]);
    help(&mut b);
    assert_eq!(port(&b.take_request("INVITE", TRUNK).1), port_of(bound[6]), "after both of Bob's devices");
}

#[test]
fn a_callers_port_that_fails_is_replaced_before_it_is_told() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    let callers = b.open_legs[0];
    fail(&mut b, callers);
    // Told once more, by the worker that was asked to open it, too.
    fail(&mut b, callers);
    let replaced = *b.open_legs.last().unwrap();
    b.accept(&invite, "bob", SDP);
    b.answer(&other, 487, "too", "", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((ok.status(), port(&ok)), (200, port_of(replaced)));
    assert!(b.joined.iter().all(|(a, _)| *a == replaced));
    assert_eq!(b.core.counters().media_ports_occupied, 1);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_device_that_was_told_a_port_of_another_program_is_cancelled_and_called_anew_while_others_ring() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "", "");
    let leg = b.open_legs[1];
    fail(&mut b, leg);
    b.take_request("CANCEL", BOB);
    let again = b.take_request("INVITE", BOB);
    assert_ne!(port(&again.1), port(&first.1));
    assert!(b.find_request("CANCEL", BOB_TOO).is_none());
    // Its first answer comes late.
    b.accept(&first, "bob", SDP);
    b.take_request("ACK", BOB);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.accept(&again, "bob-again", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.answer(&second, 487, "too", "", "");
    b.finish();
}

#[test]
fn an_emergency_call_gets_past_occupied_ports_of_both_legs() {
    let mut b = Bench::new();
    help(&mut b);
    let first = b.take_request("INVITE", TRUNK);
    for leg in b.open_legs.clone() {
        fail(&mut b, leg);
    }
    let again = b.take_request("INVITE", TRUNK);
    b.answer(&first, 487, "psap", "", "");
    assert_eq!(port(&again.1), port_of(*b.open_legs.last().unwrap()));
    b.accept(&again, "psap", SDP);
    b.take_request("ACK", TRUNK);
    let ok = b.take_response("INVITE", ALICE, 200);
    assert_eq!((ok.status(), port(&ok)), (200, port_of(b.open_legs[0])));
    // What fails now is offered again.
    let psaps = b.open_legs[1];
    fail(&mut b, psaps);
    let reoffer = b.take_request("INVITE", TRUNK);
    assert_eq!(port(&reoffer.1), port_of(*b.open_legs.last().unwrap()));
    b.accept(&reoffer, "psap", SDP);
    b.take_request("ACK", TRUNK);
    assert_eq!(b.joined.last().map(|(_, psap)| *psap), b.open_legs.last().copied());
    for _ in 0..2 * OCCUPIED_PORTS_PER_CALL_MAX {
        let Some(leg) = b.open_legs.last().copied() else { break };
        fail(&mut b, leg);
    }
    assert_eq!(b.core.calls().len(), 1, "nobody is taken from an answering point");
}

#[test]
fn an_answered_call_is_offered_other_ports() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    let bobs = b.open_legs[1];
    fail(&mut b, bobs);
    let reoffer = b.take_request("INVITE", BOB);
    assert_eq!(port(&reoffer.1), port_of(*b.open_legs.last().unwrap()));
    b.accept(&reoffer, "", SDP);
    b.take_request("ACK", BOB);
    assert_eq!(b.joined.last().map(|(_, bob)| *bob), b.open_legs.last().copied());
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

/// A media thread that hangs, or has too much to do, says nothing of the ports.
#[test]
fn a_call_whose_worker_is_behind_is_offered_other_ports_and_none_is_taken_for_occupied() {
    let mut b = Bench::new();
    b.trunk_talks_to_bob();
    let bobs = b.open_legs[1];
    b.input(Input::Media(media::Event::Overrun { leg: bobs }));
    let reoffer = b.take_request("INVITE", BOB);
    assert_eq!(port(&reoffer.1), port_of(*b.open_legs.last().unwrap()));
    let counters = b.core.counters();
    assert_eq!((counters.media_legs_refused, counters.media_ports_occupied), (1, 0));
}

#[test]
fn as_many_occupied_ports_as_a_call_gets_past_end_nothing_and_one_more_ends_it() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    for _ in 0..OCCUPIED_PORTS_PER_CALL_MAX {
        let callers = b.open_legs[0];
        fail(&mut b, callers);
        b.open_legs.rotate_right(1);
        assert!(b.sent.iter().all(|(_, m)| m.status() < 300), "{}", b.told());
    }
    let callers = b.open_legs[0];
    fail(&mut b, callers);
    let refusal = b.take_response("INVITE", TRUNK, 300);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Media Port Unavailable"));
    for at in [BOB, BOB_TOO] {
        let invite = b.take_request("INVITE", at);
        b.answer(&invite, 487, "bob", "", "");
    }
    b.finish();
}

#[test]
fn a_range_that_is_all_occupied_is_tried_all_the_same() {
    let mut b = Bench::with(&CONFIG.replace("20000-20099", "20000-20015"));
    for leg in b.bound.clone() {
        fail(&mut b, leg);
    }
    b.trunk_talks_to_bob();
    assert_eq!(b.core.counters().media_ports_occupied, 8);
}
