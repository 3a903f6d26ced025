//! The Reason header (RFC 3326) from leg to leg, message by message.

use super::{
    ALICE_FROM,
    bench::{ALICE, BOB, BOB_TOO, Bench, Leg, SDP, TRUNK, udp},
    from_alice, invite,
};
use crate::wire::sip::{Message, Name};

fn reason(message: &Message) -> Option<&str> {
    message.header(Name::Reason)
}

const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// The trunk calls Bob, both of whose devices ring, and go on ringing until they are heard of.
fn ringing(b: &mut Bench) -> (Leg, [(crate::types::Flow, Message); 2]) {
    b.trunk_calls_bob();
    let invites = [b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO)];
    for (invite, tag) in invites.iter().zip(["one", "two"]) {
        b.answer(invite, 180, tag, "", "");
    }
    (Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 180)), invites)
}

#[test]
fn a_device_that_did_not_answer_is_told_that_another_one_did() {
    let mut b = Bench::new();
    let (trunk, [one, two]) = ringing(&mut b);
    b.accept(&one, "one", SDP);
    assert_eq!(reason(&b.take_request("CANCEL", BOB_TOO).1), Some(ELSEWHERE));
    // It had answered just before.
    b.accept(&two, "two", SDP);
    assert_eq!(reason(&b.take_request("BYE", BOB_TOO).1), Some(ELSEWHERE));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(reason(&b.take_request("BYE", BOB).1), None, "who hangs up without a reason has none");
    b.finish();
}

#[test]
fn a_cancel_that_waits_for_the_first_response_keeps_its_reason() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (one, two) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.accept(&one, "one", SDP);
    assert!(b.find_request("CANCEL", BOB_TOO).is_none(), "RFC 3261 section 9.1");
    b.answer(&two, 180, "two", "", "");
    assert_eq!(reason(&b.take_request("CANCEL", BOB_TOO).1), Some(ELSEWHERE));
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_caller_who_gives_up_gives_the_reason_to_every_device() {
    let mut b = Bench::new();
    ringing(&mut b);
    let head = format!(
        "CANCEL sip:+12025551002@pbx.example.com SIP/2.0\nVia: SIP/2.0/UDP {TRUNK};branch={}\nMax-Forwards: 70\n\
         From: <sip:+14155550123@203.0.113.5>;tag=trunk\nTo: <sip:+12025551002@pbx.example.com>\nCall-ID: trunk-call\n\
         CSeq: 1 CANCEL\nReason: SIP;cause=200;text=\"x\", Q.850;cause=26;text=\"by 10.1.2.3\", X;cause=1\n",
        b.sent_branch()
    );
    b.receive(udp(TRUNK), &head, "");
    for device in [BOB, BOB_TOO] {
        let told = format!("{ELSEWHERE}, Q.850;cause=26");
        assert_eq!(reason(&b.take_request("CANCEL", device).1), Some(told.as_str()));
    }
    b.finish();
}

#[test]
fn a_device_that_declines_for_all_stops_the_others_saying_so() {
    let mut b = Bench::new();
    let (_, [one, _]) = ringing(&mut b);
    b.answer(&one, 603, "one", "", "");
    assert_eq!(reason(&b.take_request("CANCEL", BOB_TOO).1), Some("SIP;cause=603;text=\"Decline\""));
    b.finish();
}

#[test]
fn the_causes_of_a_bye_reach_the_other_leg_without_the_peers_words() {
    for from_trunk in [true, false] {
        let mut b = Bench::new();
        let (trunk, bob) = b.trunk_talks_to_bob();
        let (from, to) = if from_trunk { (&trunk, BOB) } else { (&bob, TRUNK) };
        let given = "Reason: Q.850;cause=16;text=\"Terminated by 10.1.2.3\"\nReason: SIP;cause=hurry\n";
        b.within(from, "BYE", 2, given, "");
        assert_eq!(reason(&b.take_request("BYE", to).1), Some("Q.850;cause=16"));
        b.finish();
    }
}

#[test]
fn a_bye_of_our_own_says_what_went_wrong() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    b.pass(33_000);
    for peer in [TRUNK, BOB] {
        assert_eq!(reason(&b.take_request("BYE", peer).1), Some("SIP;cause=408;text=\"No ACK\""));
    }
    b.finish();
}

// In responses (RFC 6432).

#[test]
fn a_caller_hears_why_the_network_behind_the_trunk_refuses_and_nothing_of_who_says_so() {
    for (status, told) in [(404, 404), (503, 502)] {
        let mut b = Bench::new();
        let alice = from_alice(1000, 1);
        b.register(alice, "alice");
        invite(&mut b, alice, "sip:92025550177@pbx.example.com", ALICE_FROM, "");
        let sent = b.take_request("INVITE", TRUNK);
        let early = "Reason: Q.850;cause=31;text=\"gw 10.1.2.3\"\n";
        b.answer(&sent, 183, "gateway", early, "");
        let progress = b.take_response("INVITE", &alice.remote.to_string(), 183);
        assert_eq!(reason(&progress), Some("Q.850;cause=31"));
        let given = "Reason: SIP;cause=503;text=\"x\", Q.850;cause=34;text=\"No circuit at 10.1.2.3\"\n";
        b.answer(&sent, status, "gateway", given, "");
        let refusal = b.take_response("INVITE", &alice.remote.to_string(), 200);
        assert_eq!((refusal.status(), reason(&refusal)), (told, Some("Q.850;cause=34")));
        b.finish();
    }
}

#[test]
fn the_cause_that_a_caller_hears_is_that_of_the_answer_it_hears() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (one, two) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&one, 486, "one", "", "");
    b.answer(&two, 480, "two", "Reason: Q.850;cause=18\n", "");
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), reason(&refusal)), (486, None));
    b.finish();
}

#[test]
fn an_emergency_call_that_fails_says_so_in_its_own_words_alone() {
    let mut b = Bench::new();
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, "");
    let plain = |b: &mut Bench| loop {
        let Some(sent) = b.find_request("INVITE", TRUNK) else { break };
        b.answer(&sent, 404, "gateway", "Reason: Q.850;cause=1\n", "");
    };
    plain(&mut b);
    b.pass(100);
    plain(&mut b);
    let refusal = b.take_response("INVITE", ALICE, 200);
    assert_eq!(refusal.status(), 503);
    let text = String::from_utf8_lossy(refusal.bytes()).into_owned();
    assert!(!text.contains("cause=1\r\n"), "{text}");
}
