//! UPDATE, and modifications that are refused, late or challenged, message by message.

use super::{
    CHALLENGE, VIDEO, alice_calls_outside,
    bench::{ALICE, BOB, Bench, Leg, SDP, TRUNK, udp},
    credentials, invite, {ALICE_FROM, BOBS_LINE, TRUNK_FROM},
};
use crate::wire::sip::{Message, Name};

const ALLOWS: &str = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\n";

/// The trunk talks to Bob, who allows UPDATE; the trunk does not.
fn bob_allows_update(b: &mut Bench) -> (Leg, Leg) {
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&bob, "OPTIONS", 1, ALLOWS, "");
    b.sent.clear();
    (trunk, bob)
}

fn held() -> String {
    format!("{SDP}a=sendonly\r\n")
}

fn listens() -> String {
    format!("{SDP}a=recvonly\r\n")
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

#[test]
fn an_update_without_offer_moves_the_target_and_stays_on_its_leg() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    let moved = Leg { flow: udp("198.51.100.7:5070"), ..bob };
    b.within(&moved, "UPDATE", 1, "Supported: timer\nSession-Expires: 300;refresher=uac\n", "");
    let ok = b.take_response("UPDATE", "198.51.100.7:5070", 200);
    assert_eq!(ok.status(), 200);
    assert_eq!(ok.header(Name::SessionExpires), Some("300;refresher=uac"));
    assert!(ok.header(Name::Contact).is_some() && ok.body().is_empty());
    assert!(b.find_request("UPDATE", TRUNK).is_none() && b.find_request("INVITE", TRUNK).is_none());
    b.within(&trunk, "INFO", 2, "", "");
    assert_eq!(b.take_request("INFO", "198.51.100.7:5070").1.request_uri(), "sip:peer@198.51.100.7:5070");
    b.pass(269_000);
    assert_eq!(b.core.live_calls(), 0, "the session that the UPDATE set has expired");
    b.finish();
}

#[test]
fn an_offer_in_an_update_reaches_a_peer_that_allows_update_as_one_and_others_as_a_re_invite() {
    let mut b = Bench::new();
    let (trunk, bob) = bob_allows_update(&mut b);
    b.within(&trunk, "UPDATE", 2, "", &held());
    let offer = b.take_request("UPDATE", BOB);
    assert!(text(&offer.1).contains("a=sendonly"));
    b.accept(&offer, "", &listens());
    assert!(b.find_request("ACK", BOB).is_none(), "an UPDATE has none");
    let ok = b.take_response("UPDATE", TRUNK, 200);
    assert!(ok.status() == 200 && text(&ok).contains("a=recvonly"));

    b.within(&bob, "UPDATE", 2, "", SDP);
    let offer = b.take_request("INVITE", TRUNK);
    b.accept(&offer, "", SDP);
    b.take_request("ACK", TRUNK);
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 200);

    b.within(&trunk, "INVITE", 3, "", &held());
    b.take_request("INVITE", BOB);
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn a_peer_that_refuses_the_method_it_allows_gets_a_re_invite() {
    let mut b = Bench::new();
    let (trunk, _) = bob_allows_update(&mut b);
    b.within(&trunk, "UPDATE", 2, "", &held());
    let offer = b.take_request("UPDATE", BOB);
    b.answer(&offer, 405, "", "", "");
    let offer = b.take_request("INVITE", BOB);
    b.accept(&offer, "", &listens());
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 200);
    b.pass(900_000);
    assert!(b.find_request("UPDATE", BOB).is_none(), "nor is it refreshed by one");
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_peer_that_allows_update_is_refreshed_by_one_without_offer() {
    let mut b = Bench::new();
    let (trunk, _) = bob_allows_update(&mut b);
    b.pass(900_000);
    let refresh = b.take_request("UPDATE", BOB);
    assert!(refresh.1.body().is_empty());
    assert_eq!(refresh.1.header(Name::SessionExpires), Some("1800;refresher=uac"));
    b.answer(&refresh, 200, "", "", "");
    assert!(b.find_request("INVITE", BOB).is_none());
    b.pass(10_000);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn offers_that_meet_are_refused_as_rfc_3311_section_5_2_says() {
    let mut b = Bench::new();
    let (trunk, bob) = bob_allows_update(&mut b);
    b.within(&trunk, "UPDATE", 2, "", &held());
    let offer = b.take_request("UPDATE", BOB);
    b.within(&trunk, "UPDATE", 3, "", SDP);
    let refusal = b.take_response("UPDATE", TRUNK, 200);
    let seconds: u32 = refusal.header(Name::RetryAfter).and_then(|s| s.parse().ok()).expect("a time to come back");
    assert!(refusal.status() == 500 && seconds <= 10);
    b.within(&bob, "UPDATE", 2, "", SDP);
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 491);
    b.answer(&offer, 491, "", "", "");
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 491, "whoever asked waits and tries again");
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn before_the_answer_an_update_may_move_the_target_but_not_offer() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let to_bob = b.take_request("INVITE", BOB);
    b.answer(&to_bob, 183, "bob", &format!("Contact: <sip:peer@{BOB}>\n"), SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 183));
    let bob = Leg::of_callee(&to_bob, "bob");
    b.within(&trunk, "UPDATE", 2, "", SDP);
    let refusal = b.take_response("UPDATE", TRUNK, 200);
    assert!(refusal.status() == 500 && refusal.header(Name::RetryAfter).is_some());
    b.within(&bob, "UPDATE", 1, "", SDP);
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 491);
    for (leg, peer, cseq) in [(&trunk, TRUNK, 3), (&bob, BOB, 2)] {
        b.within(leg, "UPDATE", cseq, "", "");
        assert_eq!(b.take_response("UPDATE", peer, 200).status(), 200);
    }
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn an_update_in_an_emergency_is_answered_and_shortens_nothing() {
    let mut b = Bench::new();
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, "");
    let sent = b.take_request("INVITE", TRUNK);
    b.accept(&sent, "psap", SDP);
    let alice = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&alice, 1, "");
    b.sent.clear();
    b.within(&alice, "UPDATE", 2, "Supported: timer\nSession-Expires: 30\n", &held());
    assert_eq!(b.take_response("UPDATE", ALICE, 200).status(), 200);
    b.within(&alice, "UPDATE", 3, "Supported: timer\nSession-Expires: 30\n", "");
    assert_eq!(b.take_response("UPDATE", ALICE, 200).status(), 200);
    assert!(b.find_request("UPDATE", TRUNK).is_none() && b.find_request("INVITE", TRUNK).is_none(), "{}", b.told());
    b.pass(200_000);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&alice, "BYE", 4, "", "");
    b.finish();
}

// Modifications that come to nothing.

#[test]
fn a_refused_re_invite_changes_neither_leg() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    let ports = b.open_legs.clone();
    for (cseq, status) in (2..).zip([488, 403, 500, 606]) {
        b.within(&trunk, "INVITE", cseq, "", &format!("{}{VIDEO}", held()));
        let offer = b.take_request("INVITE", BOB);
        b.answer(&offer, status, "", "", "");
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), status);
        b.sent.clear();
        assert_eq!(b.open_legs, ports, "RFC 6141 section 3.4");
    }
    // What each side is offered next is what stood before.
    for (cseq, leg, peer) in [(10, &trunk, TRUNK), (10, &bob, BOB)] {
        b.within(leg, "INVITE", cseq, "", "");
        let offer = text(&b.take_response("INVITE", peer, 200));
        assert!(offer.contains("a=sendrecv") && !offer.contains("video"), "{offer}");
        b.acknowledge(leg, cseq, SDP);
    }
    b.within(&trunk, "BYE", 11, "", "");
    b.finish();
}

#[test]
fn a_re_invite_without_a_final_answer_is_given_up_and_the_call_goes_on() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &held());
    let offer = b.take_request("INVITE", BOB);
    b.answer(&offer, 180, "", "", "");
    b.pass(179_000);
    assert!(b.find_request("CANCEL", BOB).is_none());
    b.pass(1_000);
    let cancel = b.take_request("CANCEL", BOB);
    b.answer(&cancel, 200, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 408);
    b.answer(&offer, 487, "", "", "");
    b.pass(40_000);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&bob, "INVITE", 1, "", &held());
    b.take_request("INVITE", TRUNK);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn an_update_that_waits_for_a_person_is_504_before_its_sender_gives_up() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "UPDATE", 2, "", &held());
    let offer = b.take_request("INVITE", BOB);
    b.answer(&offer, 180, "", "", "");
    b.pass(20_000);
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 504);
    b.take_request("CANCEL", BOB);
    b.accept(&offer, "", &listens());
    let back = b.take_request("INVITE", BOB);
    assert!(text(&back.1).contains("a=sendrecv"), "what came too late is taken back");
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn an_info_that_the_trunk_challenges_is_sent_again_with_the_password() {
    let mut b = Bench::new();
    let (flow, to_trunk) = alice_calls_outside(&mut b);
    let address = flow.remote.to_string();
    b.accept(&to_trunk, "t", SDP);
    let alice = Leg::of_caller(flow, &b.take_response("INVITE", &address, 200));
    b.acknowledge(&alice, 1, "");
    b.within(&alice, "INFO", 2, "", "");
    let bare = b.take_request("INFO", TRUNK);
    b.answer(&bare, 407, "", CHALLENGE, "");
    let again = b.take_request("INFO", TRUNK);
    assert!(credentials(&again.1).contains("nonce=\"one\""));
    b.answer(&again, 200, "", "", "");
    assert_eq!(b.take_response("INFO", &address, 200).status(), 200);

    b.within(&alice, "INFO", 3, "", "");
    for _ in 0..2 {
        let info = b.take_request("INFO", TRUNK);
        b.answer(&info, 407, "", CHALLENGE, "");
    }
    assert!(b.find_request("INFO", TRUNK).is_none(), "the password is wrong");
    assert_eq!(b.take_response("INFO", &address, 200).status(), 500);
    b.within(&alice, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn an_info_that_nobody_answers_is_never_answered_408() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "", "");
    let info = b.take_request("INFO", BOB);
    b.pass(3_400);
    assert!(b.sent.iter().all(|(flow, _)| flow.remote != trunk.flow.remote), "RFC 4320 section 4.1");
    b.pass(200);
    assert_eq!(b.take_response("INFO", TRUNK, 100).status(), 100);
    b.answer(&info, 408, "", "", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 504);
    b.pass(60_000);
    assert!(b.sent.iter().all(|(flow, _)| flow.remote != trunk.flow.remote), "RFC 4320 section 4.2");
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_server_says_that_it_takes_updates() {
    let mut b = Bench::new();
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "");
    let to_bob = b.take_request("INVITE", BOB).1;
    assert!(to_bob.values(Name::Allow).any(|method| method == "UPDATE"));
    b.finish();
}
