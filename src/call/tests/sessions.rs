//! Session timers, message by message (RFC 4028).

use super::{
    bench::{ALICE, BOB, BOB_TOO, Bench, Leg, SDP, TRUNK, udp},
    {ALICE_FROM, BOBS_LINE, TRUNK_FROM, invite},
};
use crate::{
    types::Flow,
    wire::sip::{Message, Name},
};

/// The trunk calls Bob with these headers; his second device is busy. Returns the INVITE to the first.
fn calling(b: &mut Bench, asked: &str) -> (Flow, Message) {
    invite(b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, asked);
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "busy", "", "");
    b.take_request("ACK", BOB_TOO);
    b.take_request("INVITE", BOB)
}

/// The trunk talks to Bob; the headers are those of its INVITE, and of his 200.
fn connected(b: &mut Bench, asked: &str, answered: &str) -> (Leg, Leg) {
    let to_bob = calling(b, asked);
    b.answer(&to_bob, 200, "bob", &format!("Contact: <sip:peer@{BOB}>\n{answered}"), SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.sent.clear();
    (trunk, Leg::of_callee(&to_bob, "bob"))
}

fn session(message: &Message) -> &str {
    message.header(Name::SessionExpires).unwrap_or_default()
}

fn bob_refreshes(b: &mut Bench, bob: &Leg, cseq: u32) -> Message {
    b.within(bob, "INVITE", cseq, "Supported: timer\nSession-Expires: 600;refresher=uac\n", SDP);
    let ok = b.take_response("INVITE", BOB, 200);
    b.acknowledge(bob, cseq, "");
    ok
}

/// Both legs have heard BYE.
fn take_byes(b: &mut Bench) {
    for peer in [TRUNK, BOB] {
        let bye = b.take_request("BYE", peer);
        assert_eq!(bye.1.header(Name::Reason), Some("SIP;cause=408;text=\"Session Timer Expired\""));
        b.answer(&bye, 200, "", "", "");
    }
}

const PEER_REFRESHES: &str = "Supported: timer\nRequire: timer\nSession-Expires: 600;refresher=uas\n";
const WE_REFRESH: &str = "Supported: timer\nRequire: timer\nSession-Expires: 600;refresher=uac\n";

#[test]
fn each_leg_has_a_session_interval_of_its_own() {
    let mut b = Bench::new();
    let to_bob = calling(&mut b, "Supported: timer\nSession-Expires: 400\n");
    assert_eq!(session(&to_bob.1), "1800");
    assert!(to_bob.1.values(Name::Supported).any(|tag| tag == "timer"));
    b.answer(&to_bob, 200, "bob", &format!("Contact: <sip:peer@{BOB}>\n{PEER_REFRESHES}"), SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(session(&ok), "400;refresher=uac");
    assert_eq!(ok.header(Name::Require), Some("timer"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.sent.clear();
    b.pass(367_000);
    assert_eq!(b.told(), "", "nobody has to refresh but the peers");
    b.pass(2_000);
    take_byes(&mut b);
    b.finish();
}

#[test]
fn a_telephone_that_vanished_is_found_out_by_the_refresh_and_the_call_ends() {
    let mut b = Bench::new();
    let (trunk, _) = connected(&mut b, "", "");
    b.pass(900_500);
    let to_trunk = b.take_request("INVITE", TRUNK);
    b.accept(&to_trunk, "", SDP);
    b.take_request("ACK", TRUNK);
    let to_bob = b.take_request("INVITE", BOB).1;
    assert_eq!(session(&to_bob), "1800;refresher=uac");
    b.pass(33_000);
    let bye = b.take_request("BYE", &trunk.flow.remote.to_string());
    b.answer(&bye, 200, "", "", "");
    assert_eq!(b.core.live_calls(), 0);
    b.finish();
}

#[test]
fn our_refresh_repeats_the_description_that_the_peer_has() {
    let mut b = Bench::new();
    let first = calling(&mut b, "");
    b.answer(&first, 200, "bob", &format!("Contact: <sip:peer@{BOB}>\n{WE_REFRESH}"), SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    // What Bob refuses in between is not what he has.
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}a=inactive\r\n"));
    let refused = b.take_request("INVITE", BOB);
    assert_ne!(refused.1.body(), first.1.body());
    b.answer(&refused, 488, "", "", "");
    b.sent.clear();
    for _ in 0..2 {
        b.pass(300_000);
        let refresh = b.take_request("INVITE", BOB);
        assert_eq!(refresh.1.body(), first.1.body(), "RFC 4028 section 7.4");
        b.accept(&refresh, "", SDP);
        b.take_request("ACK", BOB);
        assert!(b.find_request("INVITE", TRUNK).is_none(), "the other leg hears nothing of it");
    }
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_peers_refresh_is_answered_here_and_keeps_the_call_alive() {
    let mut b = Bench::new();
    let asked = "Supported: timer\nSession-Expires: 3600\nMin-SE: 3600\n";
    let (trunk, bob) = connected(&mut b, asked, PEER_REFRESHES);
    for cseq in 1..5 {
        b.pass(500_000);
        assert_eq!(session(&bob_refreshes(&mut b, &bob, cseq)), "600;refresher=uac");
        assert!(b.find_request("INVITE", TRUNK).is_none(), "the trunk's leg has a timer of its own");
    }
    assert_eq!(b.core.live_calls(), 1);
    b.pass(570_000);
    assert_eq!(b.core.live_calls(), 0, "no refresh, no call");
    b.within(&trunk, "BYE", 9, "", "");
    b.finish();
}

#[test]
fn an_offer_that_changes_something_is_passed_on_even_if_it_refreshes() {
    let mut b = Bench::new();
    let (trunk, bob) = connected(&mut b, "", PEER_REFRESHES);
    let held = format!("{SDP}a=sendonly\r\n");
    b.within(&bob, "INVITE", 1, "Supported: timer\nSession-Expires: 600;refresher=uac\n", &held);
    let hold = b.take_request("INVITE", TRUNK);
    assert_eq!(session(&hold.1), "1800;refresher=uac");
    b.accept(&hold, "", &format!("{SDP}a=recvonly\r\n"));
    assert_eq!(session(&b.take_response("INVITE", BOB, 200)), "600;refresher=uac");
    b.acknowledge(&bob, 1, "");
    b.within(&trunk, "BYE", 9, "", "");
    b.finish();
}

#[test]
fn too_short_an_interval_is_422_with_ours_except_in_an_emergency() {
    let mut b = Bench::new();
    let short = "Supported: timer\nSession-Expires: 60\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, short);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.header(Name::MinSe)), (422, Some("90")));
    let (trunk, _) = connected(&mut b, "", PEER_REFRESHES);
    b.within(&trunk, "INVITE", 2, short, SDP);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.header(Name::MinSe)), (422, Some("90")));
    b.within(&trunk, "BYE", 3, "", "");
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, short);
    b.take_request("INVITE", TRUNK);
    b.finish();
}

#[test]
fn a_422_of_the_peer_is_followed_by_one_longer_offer() {
    let mut b = Bench::new();
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "");
    let other = b.take_request("INVITE", BOB_TOO);
    let too_small = |b: &mut Bench, request: &(Flow, Message), min| b.answer(request, 422, "no", min, "");
    too_small(&mut b, &other, "Min-SE: 900\n");
    assert!(b.find_request("INVITE", BOB_TOO).is_none(), "1800 is more than that");
    let first = b.take_request("INVITE", BOB);
    too_small(&mut b, &first, "Min-SE: 3600\n");
    let second = b.take_request("INVITE", BOB);
    assert_eq!((session(&second.1), second.1.header(Name::MinSe)), ("3600", Some("3600")));
    assert_eq!(second.1.cseq().map(|cseq| cseq.number), Some(2));
    assert_eq!(second.1.body(), first.1.body());
    too_small(&mut b, &second, "Min-SE: 7200\n");
    assert!(b.find_request("INVITE", BOB).is_none());
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 480, "the caller has no part in it");
    b.finish();
}

#[test]
fn a_refresh_refused_as_too_short_is_sent_again_longer() {
    let mut b = Bench::new();
    let (trunk, _) = connected(&mut b, "Supported: timer\nSession-Expires: 1800\n", WE_REFRESH);
    b.pass(300_000);
    let refresh = b.take_request("INVITE", BOB);
    b.answer(&refresh, 422, "", "Min-SE: 1200\n", "");
    let refresh = b.take_request("INVITE", BOB);
    assert_eq!(session(&refresh.1), "1200;refresher=uac");
    b.answer(&refresh, 200, "", "Contact: <sip:b@x>\nRequire: timer\nSession-Expires: 1200;refresher=uac\n", SDP);
    b.pass(599_000);
    assert!(b.find_request("INVITE", BOB).is_none());
    b.pass(2_000);
    b.take_request("INVITE", BOB);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_refresh_that_meets_the_peers_own_offer_is_tried_again_within_4_s() {
    for (peer, after_ms, within_ms) in [(BOB, 2_100, 4_000), (TRUNK, 0, 2_000)] {
        let mut b = Bench::new();
        let (trunk, _) = connected(&mut b, "Supported: timer\nSession-Expires: 600;refresher=uas\n", WE_REFRESH);
        b.pass(300_000);
        let refresh = b.take_request("INVITE", peer);
        b.answer(&refresh, 491, "", "", "");
        b.sent.clear();
        b.pass(after_ms);
        let is_again =
            |b: &Bench| b.sent.iter().any(|(f, m)| f.remote == udp(peer).remote && m.method_text() == "INVITE");
        assert!(after_ms == 0 || !is_again(&b), "RFC 3261 section 14.1");
        b.pass(within_ms - after_ms);
        assert!(is_again(&b));
        b.within(&trunk, "BYE", 3, "", "");
        b.finish();
    }
}

#[test]
fn a_refusal_of_a_refresh_ends_nothing_before_the_session_expires() {
    let mut b = Bench::new();
    let (trunk, _) = connected(&mut b, "Supported: timer\nSession-Expires: 1800\n", WE_REFRESH);
    b.pass(300_000);
    let mut tries = 0;
    while b.core.live_calls() > 0 {
        if let Some(refresh) = b.find_request("INVITE", BOB) {
            b.answer(&refresh, 500, "", "", "");
            tries += 1;
        }
        b.pass(1_000);
    }
    assert_eq!(tries, 4, "at half the interval, then after each eighth");
    take_byes(&mut b);
    drop(trunk);
    b.finish();
}

#[test]
fn an_emergency_call_is_not_ended_by_a_timer() {
    let mut b = Bench::new();
    let asked = "Supported: timer\nSession-Expires: 90;refresher=uac\n";
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, asked);
    let sent = b.take_request("INVITE", TRUNK);
    assert_eq!(session(&sent.1), "", "the trunk is asked for nothing");
    b.answer(&sent, 200, "psap", &format!("Contact: <sip:peer@{TRUNK}>\nSession-Expires: 90;refresher=uac\n"), SDP);
    let ok = b.take_response("INVITE", ALICE, 200);
    assert_eq!(session(&ok), "90;refresher=uac");
    let alice = Leg::of_caller(udp(ALICE), &ok);
    b.acknowledge(&alice, 1, "");
    b.sent.clear();
    b.pass(45_000);
    b.take_request("INVITE", TRUNK);
    b.pass(3_600_000);
    assert_eq!(b.core.live_calls(), 1);
    assert!(b.sent.iter().all(|(_, m)| m.method_text() != "BYE"));
    b.within(&alice, "BYE", 2, "", "");
    b.finish();
}
