//! Transfers among the other features of a call: forwarding, ring groups, session timers, UPDATE, early answers, privacy,
//! lamps.

use super::{
    ALICE_FROM, BOBS_LINE, TRUNK_FROM,
    bench::{BOB, BOB_TOO, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, udp, user},
    from_alice, invite,
    transfer::{assert_taken_on, assert_told, hang_up, header, office, refer},
};
use crate::{config::Forwarding, wire::sip::Name};

const CAROLS: &str = "<sip:1003@pbx.example.com>";
const DAVE: &str = "198.51.100.5:5060";
const ALICE_TCP: &str = "198.51.100.77:1000";

/// Bob has been transferring the trunk to Carol, and she has answered; the trunk's re-INVITE is next.
fn carol_answers(b: &mut Bench, bob: &Leg) -> Leg {
    assert_taken_on(b, bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    b.take_request("ACK", CAROL);
    Leg::of_callee(&to_carol, "carol")
}

/// The trunk takes Carol's media, and Bob is out.
fn trunk_moves_to_carol(b: &mut Bench, bob: &Leg) -> Leg {
    let carol = carol_answers(b, bob);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    b.take_request("ACK", TRUNK);
    assert_told(b, BOB, "SIP/2.0 200 OK");
    hang_up(b, BOB);
    carol
}

fn end(mut b: Bench, trunk: &Leg, at: &str) {
    b.within(trunk, "BYE", 9, "", "");
    hang_up(&mut b, at);
    b.finish();
}

#[test]
fn a_target_that_is_busy_and_forwards_is_reached_where_it_wants() {
    let forwarding = Forwarding { busy: Some("1004".to_owned()), ..Forwarding::default() };
    let users = [
        user("bob", "1002", "+12025551002"),
        crate::config::User { forwarding, ..user("carol", "1003", "+12025551003") },
        user("dave", "1004", "+12025551004"),
    ];
    let bindings = [("bob", BOB), ("bob", BOB_TOO), ("carol", CAROL), ("dave", DAVE)];
    let mut b = Bench::with_users(CONFIG, users, bindings.map(|(name, at)| binding(name, at)).to_vec());
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 486, "carol", "", "");
    let to_dave = b.take_request("INVITE", DAVE);
    assert!(header(&to_dave.1, Name::Diversion).contains("1003@pbx.example.com"));
    b.accept(&to_dave, "dave", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    hang_up(&mut b, BOB);
    end(b, &trunk, DAVE);
}

#[test]
fn a_ring_group_can_be_the_target_and_passes_over_who_talks_since_a_transfer() {
    let group =
        "[group.sales]\nextension = \"600\"\nmembers = [\"alice\", \"carol\"]\nring_s = 10\nstrategy = \"all\"\n";
    let mut b = office(&format!("{CONFIG}{group}"));
    let (_, bob) = b.trunk_talks_to_bob();
    let carol = trunk_moves_to_carol(&mut b, &bob);
    invite(&mut b, udp(BOB_TOO), "sip:600@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    b.sent.retain(|(flow, _)| flow.remote.to_string() != BOB_TOO);
    assert!(b.find_request("INVITE", CAROL).is_none(), "she has the receiver in hand");
    b.within(&carol, "BYE", 1, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

#[test]
fn the_session_timer_of_a_leg_goes_along_and_ends_the_new_call_if_the_peer_has_vanished() {
    let mut b = office(CONFIG);
    let asks = "Supported: timer\nSession-Expires: 400;refresher=uas\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, asks);
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.header(Name::SessionExpires), Some("400;refresher=uas"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    trunk_moves_to_carol(&mut b, &Leg::of_callee(&to_bob, "bob"));
    b.sent.clear();
    b.pass(201_000);
    let refresh = b.take_request("INVITE", TRUNK);
    assert!(refresh.1.header(Name::SessionExpires).is_some());
    b.answer(&refresh, 481, "", "", "");
    b.take_request("ACK", TRUNK);
    hang_up(&mut b, CAROL);
    b.take_request("BYE", TRUNK);
    b.finish();
}

#[test]
fn an_update_of_either_party_during_a_transfer_is_refused_for_now() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", &format!("Contact: <sip:peer@{CAROL}>\nAllow: UPDATE\n"), "");
    let carol = Leg::of_callee(&to_carol, "carol");
    b.within(&carol, "UPDATE", 1, "", SDP);
    assert_eq!(b.take_response("UPDATE", CAROL, 200).status(), 491);
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.within(&trunk, "UPDATE", 2, "", SDP);
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 491);
    b.within(&carol, "UPDATE", 2, "", SDP);
    assert_eq!(b.take_response("UPDATE", CAROL, 200).status(), 491);
    b.accept(&reoffer, "", SDP);
    hang_up(&mut b, BOB);
    // Now they are two in a call.
    b.within(&carol, "UPDATE", 3, "", SDP);
    let passed_on = b.take_request("INVITE", TRUNK);
    b.accept(&passed_on, "", SDP);
    assert_eq!(b.take_response("UPDATE", CAROL, 200).status(), 200);
    end(b, &trunk, CAROL);
}

#[test]
fn a_target_that_settles_its_answer_early_and_reliably_is_joined_all_the_same() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(to_carol.1.values(Name::Supported).any(|tag| tag == "100rel"));
    let reliable = format!("Contact: <sip:peer@{CAROL}>\nRequire: 100rel\nRSeq: 7\n");
    b.answer(&to_carol, 183, "carol", &reliable, SDP);
    let prack = b.take_request("PRACK", CAROL);
    b.answer(&prack, 200, "", "", "");
    b.accept(&to_carol, "carol", "");
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    hang_up(&mut b, BOB);
    assert_eq!(b.open_legs.len(), 2);
    end(b, &trunk, CAROL);
}

#[test]
fn a_party_whose_description_is_still_on_the_way_cannot_be_transferred_yet() {
    let mut b = office(CONFIG);
    b.request(
        udp(TRUNK),
        ("INVITE", BOBS_LINE),
        ("<sip:+14155550123@203.0.113.5>;tag=late", "<sip:+12025551002@pbx.example.com>"),
        ("late-offer", 1),
        ("", ""),
    );
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    let bob = Leg::of_callee(&to_bob, "bob");
    let answer = refer(&mut b, &bob, 1, CAROLS, "");
    assert_eq!((answer.status(), answer.reason_phrase()), (491, "Call Not Settled Yet"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, SDP);
    assert_taken_on(&mut b, &bob, 2, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 603, "carol", "", "");
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

#[test]
fn a_caller_without_a_name_stays_so_through_a_transfer_by_and_of_it() {
    let mut b = office(CONFIG);
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "Privacy: id\n");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", ALICE_TCP, 200);
    let (alice, bob) = (Leg::of_caller(alice, &ok), Leg::of_callee(&to_bob, "bob"));
    b.acknowledge(&alice, 1, "");
    // Of it: the target sees what Bob saw.
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(header(&to_carol.1, Name::From).contains("anonymous.invalid"));
    let text = String::from_utf8_lossy(to_carol.1.bytes()).into_owned();
    assert!(!text.contains("1001@"), "{text}");
    b.answer(&to_carol, 486, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 486 Whatever");
    // By it: nobody learns who referred.
    assert_taken_on(&mut b, &alice, 2, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(to_carol.1.header(Name::ReferredBy).is_none());
    b.answer(&to_carol, 486, "carol", "", "");
    b.within(&alice, "BYE", 3, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

#[test]
fn a_caller_is_told_which_user_has_answered_and_no_number_outside() {
    let mut b = office(CONFIG);
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", ALICE_TCP, 200);
    assert_eq!(header(&ok, Name::PAssertedIdentity), "<sip:1002@pbx.example.com>");
    let leg = Leg::of_caller(alice, &ok);
    b.acknowledge(&leg, 1, "");
    b.within(&leg, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    invite(&mut b, alice, "sip:+14155550199@pbx.example.com", ALICE_FROM, "");
    let out = b.take_request("INVITE", TRUNK);
    b.accept(&out, "out", SDP);
    let ok = b.take_response("INVITE", ALICE_TCP, 200);
    assert!(ok.header(Name::PAssertedIdentity).is_none());
    let leg = Leg::of_caller(alice, &ok);
    b.acknowledge(&leg, 1, "");
    b.within(&leg, "BYE", 2, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

/// What a NOTIFY of the dialog package says of the one dialog: Call-ID, tag of the telephone, our tag.
fn names(notify: &str) -> Option<[&str; 3]> {
    let value = |name: &str| {
        let start = notify.find(&format!(" {name}=\""))? + name.len() + 3;
        notify[start..].split('"').next()
    };
    Some([value("call-id")?, value("local-tag")?, value("remote-tag")?])
}

#[test]
fn telephones_of_one_user_share_its_line_and_take_each_others_calls_over() {
    let mut b = office(CONFIG);
    let other = from_alice(3000, 3);
    b.register(other, "bob");
    let at = other.remote.to_string();
    let watch = |b: &mut Bench, of: &str, call_id: &str| {
        let uri = format!("sip:{of}@pbx.example.com");
        let from = "<sip:bob@pbx.example.com>;tag=watch";
        b.request(other, ("SUBSCRIBE", &uri), (from, &format!("<{uri}>")), (call_id, 1), ("Event: dialog\n", ""));
        let notify = b.take_request("NOTIFY", &at);
        b.answer(&notify, 200, "", "", "");
        String::from_utf8_lossy(&notify.1.body()).into_owned()
    };
    let (trunk, bob) = b.trunk_talks_to_bob();
    let own = watch(&mut b, "1002", "own-line");
    let Some([call_id, local, remote]) = names(&own) else { panic!("{own}") };
    assert_eq!((call_id, bob.local.ends_with(&format!("tag={local}"))), (bob.call_id.as_str(), true));
    let replaces = format!("Replaces: {call_id};to-tag={remote};from-tag={local}\n");
    invite(&mut b, other, "sip:1002@pbx.example.com", "<sip:bob@pbx.example.com>", &replaces);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    let ok = b.take_response("INVITE", &at, 200);
    assert_eq!(ok.status(), 200);
    b.acknowledge(&Leg::of_caller(other, &ok), 1, "");
    hang_up(&mut b, BOB);
    // Nobody else learns the names.
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1003@pbx.example.com", ALICE_FROM, "");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    let carols = watch(&mut b, "1003", "other-line");
    assert!(carols.contains("<state>early</state>") && names(&carols).is_none(), "{carols}");
    drop(trunk);
}

const TIMED: &str = "Supported: timer\nRequire: timer\nSession-Expires: 400;refresher=uac\n";

#[test]
fn the_session_of_a_transferor_that_has_hung_up_ends_nothing() {
    let mut b = office(CONFIG);
    b.trunk_calls_bob();
    let (to_bob, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&other, 486, "busy", "", "");
    b.answer(&to_bob, 200, "bob", &format!("Contact: <sip:peer@{BOB}>\n{TIMED}"), SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    let bob = Leg::of_callee(&to_bob, "bob");
    // Shortly before the session is due, so that the target still rings when it is.
    b.pass(150_000);
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    b.within(&bob, "BYE", 2, "", "");
    b.sent.clear();
    b.pass(170_000);
    for method in ["INVITE", "UPDATE"] {
        assert!(b.find_request(method, BOB).is_none(), "a refresh for somebody who has gone");
    }
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    b.pass(500_000);
    assert_eq!(b.core.calls().len(), 1);
    end(b, &trunk, CAROL);
}

#[test]
fn a_target_that_hangs_up_before_the_party_has_come_is_reported_as_a_failure_and_the_party_comes_back() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let carol = carol_answers(&mut b, &bob);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.within(&carol, "BYE", 1, "", "");
    assert!(b.find_request("NOTIFY", BOB).is_none(), "the trunk's answer is still to come");
    b.accept(&reoffer, "", SDP);
    b.take_request("ACK", TRUNK);
    assert_told(&mut b, BOB, "SIP/2.0 480 Other Party Has Hung Up");
    let back = b.take_request("INVITE", TRUNK);
    b.accept(&back, "", SDP);
    b.take_request("ACK", TRUNK);
    // It talks to Bob as before.
    b.within(&bob, "INVITE", 2, "", SDP);
    let hold = b.take_request("INVITE", TRUNK);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", BOB, 200).status(), 200);
    b.acknowledge(&bob, 2, "");
    end(b, &trunk, BOB);
}

#[test]
fn an_answering_point_that_refuses_another_description_is_not_left() {
    for status in [488, 408, 481] {
        let mut b = office(CONFIG);
        let alice = from_alice(1000, 1);
        b.register(alice, "alice");
        invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "");
        let to_bob = b.take_request("INVITE", BOB);
        b.accept(&to_bob, "bob", SDP);
        let leg = Leg::of_caller(alice, &b.take_response("INVITE", ALICE_TCP, 200));
        b.acknowledge(&leg, 1, "");
        assert_taken_on(&mut b, &leg, 2, "<sip:911@pbx.example.com>");
        let help = b.take_request("INVITE", TRUNK);
        b.accept(&help, "psap", SDP);
        let reoffer = b.take_request("INVITE", BOB);
        b.accept(&reoffer, "", &format!("{SDP}a=recvonly\r\n"));
        hang_up(&mut b, ALICE_TCP);
        let other_description = b.take_request("INVITE", TRUNK);
        b.answer(&other_description, status, "", "", "");
        b.take_request("ACK", TRUNK);
        assert!(b.find_request("BYE", TRUNK).is_none() && b.find_request("BYE", BOB).is_none(), "{status}");
        b.within(&Leg::of_callee(&to_bob, "bob"), "BYE", 1, "", "");
        hang_up(&mut b, TRUNK);
        b.finish();
    }
}

#[test]
fn a_trunk_makes_nobodys_telephone_call_for_help() {
    let mut b = office(CONFIG);
    let (trunk, _) = b.trunk_talks_to_bob();
    let answer = refer(&mut b, &trunk, 2, "<sip:911@pbx.example.com>", "");
    assert_eq!((answer.status(), answer.reason_phrase()), (403, "No Location For Emergency Call"));
    assert!(b.find_request("INVITE", TRUNK).is_none());
    end(b, &trunk, BOB);
}

#[test]
fn a_caller_without_a_name_stays_so_when_somebody_takes_the_call_over() {
    let mut b = office(CONFIG);
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "Privacy: id\n");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let leg = Leg::of_caller(alice, &b.take_response("INVITE", ALICE_TCP, 200));
    b.acknowledge(&leg, 1, "");
    let other = from_alice(3000, 3);
    b.register(other, "bob");
    let bob = Leg::of_callee(&to_bob, "bob");
    let tag = |address: &str| address.split("tag=").nth(1).unwrap().to_owned();
    let replaces = format!("Replaces: {};to-tag={};from-tag={}\n", bob.call_id, tag(&bob.remote), tag(&bob.local));
    invite(&mut b, other, "sip:1002@pbx.example.com", "<sip:bob@pbx.example.com>", &replaces);
    let reoffer = b.take_request("INVITE", ALICE_TCP);
    b.accept(&reoffer, "", SDP);
    let ok = b.take_response("INVITE", "198.51.100.77:3000", 200);
    assert_eq!(ok.status(), 200);
    assert!(!String::from_utf8_lossy(ok.bytes()).contains("1001"), "{}", String::from_utf8_lossy(ok.bytes()));
}

#[test]
fn where_a_user_forwards_to_is_not_told_to_whom_it_is_transferred() {
    let forwarding = Forwarding { always: Some("+14155550199".to_owned()), ..Forwarding::default() };
    let users = [
        user("alice", "1001", "+12025551001"),
        user("bob", "1002", "+12025551002"),
        crate::config::User { forwarding, ..user("carol", "1003", "+12025551003") },
    ];
    let mut b = Bench::with_users(CONFIG, users, [("bob", BOB)].map(|(name, at)| binding(name, at)).to_vec());
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    invite(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let leg = Leg::of_caller(alice, &b.take_response("INVITE", ALICE_TCP, 200));
    b.acknowledge(&leg, 1, "");
    let bob = Leg::of_callee(&to_bob, "bob");
    assert_taken_on(&mut b, &bob, 1, CAROLS);
    let out = b.take_request("INVITE", TRUNK);
    b.accept(&out, "out", SDP);
    let reoffer = b.take_request("INVITE", ALICE_TCP);
    assert_eq!(header(&reoffer.1, Name::PAssertedIdentity), "<sip:1003@pbx.example.com>");
    b.accept(&reoffer, "", SDP);
}
