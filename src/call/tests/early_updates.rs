//! Offers before the call is answered, message by message (RFC 3311).

use super::bench::{BOB, BOB_TOO, Bench, Leg, SDP, TRUNK, udp};
use crate::{
    types::Flow,
    types::limits::UPDATE_S_MAX,
    wire::sip::{Message, Name},
};

const ALLOWS: &str = "Allow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE\n";

fn held() -> String {
    format!("{SDP}a=sendonly\r\n")
}

fn listens() -> String {
    format!("{SDP}a=recvonly\r\n")
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// A call of the trunk to Bob, one of whose devices has answered early.
struct Early {
    trunk: Leg,
    bob: Leg,
    to_bob: (Flow, Message),
    to_other: (Flow, Message),
}

/// Both legs have settled the offer of the INVITE by reliable responses; each side allows what it says.
fn settled(b: &mut Bench, trunk_allows: &str, bob_allows: &str) -> Early {
    let uri = "sip:+12025551002@pbx.example.com";
    let identity = ("<sip:+14155550123@203.0.113.5>;tag=trunk", "<sip:+12025551002@pbx.example.com>");
    let extra = format!("Supported: 100rel\n{trunk_allows}");
    b.request(udp(TRUNK), ("INVITE", uri), identity, ("trunk-call", 1), (&extra, SDP));
    let (to_bob, to_other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&to_other, 180, "two", "", "");
    let reliable = format!("Contact: <sip:peer@{BOB}>\nRequire: 100rel\nRSeq: 7\n{bob_allows}");
    b.answer(&to_bob, 183, "one", &reliable, SDP);
    let prack = b.take_request("PRACK", BOB);
    b.answer(&prack, 200, "", "", "");
    let progress = b.take_response("INVITE", TRUNK, 183);
    let trunk = Leg::of_caller(udp(TRUNK), &progress);
    let rack = format!("RAck: {} 1 INVITE\n", progress.header(Name::RSeq).unwrap());
    b.within(&trunk, "PRACK", 2, &rack, "");
    assert_eq!(b.take_response("PRACK", TRUNK, 200).status(), 200);
    b.sent.clear();
    Early { bob: Leg::of_callee(&to_bob, "one"), trunk, to_bob, to_other }
}

/// Bob's first device answers; nothing is said of the session any more.
fn answered(b: &mut Bench, early: &Early) {
    b.accept(&early.to_bob, "one", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.status() == 200 && ok.body().is_empty());
    b.acknowledge(&early.trunk, 1, "");
    b.answer(&early.to_other, 487, "two", "", "");
    assert!(b.find_request("INVITE", TRUNK).is_none(), "nothing has to be put right");
    assert!(b.find_request("INVITE", BOB).is_none());
}

fn hung_up(mut b: Bench, early: &Early) {
    b.within(&early.trunk, "BYE", 50, "", "");
    b.take_request("BYE", BOB);
    b.finish();
}

#[test]
fn an_early_offer_of_either_side_reaches_the_other_and_the_call_is_answered_as_it_then_stands() {
    for from_trunk in [true, false] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        let (asker, asks, target) = if from_trunk { (&early.trunk, TRUNK, BOB) } else { (&early.bob, BOB, TRUNK) };
        b.within(asker, "UPDATE", 3, "", &held());
        let offer = b.take_request("UPDATE", target);
        assert!(text(&offer.1).contains("a=sendonly"));
        assert!(!text(&offer.1).contains("198.51.100.9"), "the addresses are ours");
        b.accept(&offer, "", &listens());
        let ok = b.take_response("UPDATE", asks, 200);
        assert!(ok.status() == 200 && text(&ok).contains("a=recvonly"));
        answered(&mut b, &early);
        // Later offers begin where the early one ended.
        b.within(&early.trunk, "INVITE", 4, "", SDP);
        let offer = b.take_request("INVITE", BOB);
        b.accept(&offer, "", SDP);
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
        b.acknowledge(&early.trunk, 4, "");
        hung_up(b, &early);
    }
}

#[test]
fn an_early_offer_that_is_refused_changes_nothing() {
    for (status, told) in [(488, 488), (405, 504), (302, 488), (408, 504)] {
        for from_trunk in [true, false] {
            let mut b = Bench::new();
            let early = settled(&mut b, ALLOWS, ALLOWS);
            let (asker, asks, target) = if from_trunk { (&early.trunk, TRUNK, BOB) } else { (&early.bob, BOB, TRUNK) };
            b.within(asker, "UPDATE", 3, "", &held());
            let offer = b.take_request("UPDATE", target);
            b.answer(&offer, status, "", "", "");
            assert_eq!(b.take_response("UPDATE", asks, 200).status(), told);
            answered(&mut b, &early);
            hung_up(b, &early);
        }
    }
}

#[test]
fn an_early_offer_to_a_side_without_update_is_504_and_one_too_many_waits() {
    let mut b = Bench::new();
    let early = settled(&mut b, "", ALLOWS);
    b.within(&early.bob, "UPDATE", 3, "", &held());
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 504);
    b.within(&early.trunk, "UPDATE", 3, "", &held());
    let offer = b.take_request("UPDATE", BOB);
    b.within(&early.trunk, "UPDATE", 4, "", SDP);
    let refusal = b.take_response("UPDATE", TRUNK, 200);
    assert!(refusal.status() == 500 && refusal.header(Name::RetryAfter).is_some());
    b.within(&early.bob, "UPDATE", 4, "", SDP);
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 491);
    b.accept(&offer, "", &listens());
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 200);
    answered(&mut b, &early);
    hung_up(b, &early);
}

#[test]
fn an_answer_of_the_call_that_overtakes_that_of_an_early_offer_does_no_harm() {
    for from_trunk in [true, false] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        let (asker, asks, target) = if from_trunk { (&early.trunk, TRUNK, BOB) } else { (&early.bob, BOB, TRUNK) };
        b.within(asker, "UPDATE", 3, "", &held());
        let offer = b.take_request("UPDATE", target);
        answered(&mut b, &early);
        b.within(&early.trunk, "INVITE", 4, "", SDP);
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 491, "one offer at a time");
        b.accept(&offer, "", &listens());
        assert!(text(&b.take_response("UPDATE", asks, 200)).contains("a=recvonly"));
        hung_up(b, &early);
    }
}

#[test]
fn a_caller_who_took_the_offer_of_a_branch_that_lost_is_put_right() {
    for is_late in [false, true] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        b.within(&early.bob, "UPDATE", 3, "", &held());
        let offer = b.take_request("UPDATE", TRUNK);
        b.accept(&early.to_other, "two", SDP);
        assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 487);
        b.take_request("CANCEL", BOB);
        b.answer(&early.to_bob, 487, "one", "", "");
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
        if is_late {
            b.acknowledge(&early.trunk, 1, "");
        }
        b.accept(&offer, "", &listens());
        if !is_late {
            b.acknowledge(&early.trunk, 1, "");
        }
        let correction = b.take_request("INVITE", TRUNK);
        assert!(text(&correction.1).contains("a=sendrecv"));
        b.accept(&correction, "", SDP);
        b.within(&early.trunk, "BYE", 50, "", "");
        b.take_request("BYE", BOB_TOO);
        b.finish();
    }
}

#[test]
fn an_early_offer_does_not_outlive_its_call() {
    for from_trunk in [true, false] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        let (asker, asks, target) = if from_trunk { (&early.trunk, TRUNK, BOB) } else { (&early.bob, BOB, TRUNK) };
        b.within(asker, "UPDATE", 3, "", &held());
        b.take_request("UPDATE", target);
        b.within(&early.trunk, "BYE", 4, "", "");
        assert_eq!(b.take_response("UPDATE", asks, 200).status(), 487);
        b.finish();
    }
}

#[test]
fn a_caller_whose_early_offer_loses_its_branch_may_try_again() {
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    b.within(&early.trunk, "UPDATE", 3, "", &held());
    b.take_request("UPDATE", BOB);
    b.answer(&early.to_bob, 486, "one", "", "");
    let refusal = b.take_response("UPDATE", TRUNK, 200);
    assert!(refusal.status() == 500 && refusal.header(Name::RetryAfter).is_some());
    b.accept(&early.to_other, "two", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&early.trunk, 1, "");
    b.within(&early.trunk, "BYE", 50, "", "");
    b.finish();
}

#[test]
fn a_side_that_says_nothing_keeps_the_other_waiting_no_longer_than_it_listens() {
    for from_trunk in [true, false] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        let (asker, asks, target) = if from_trunk { (&early.trunk, TRUNK, BOB) } else { (&early.bob, BOB, TRUNK) };
        b.within(asker, "UPDATE", 3, "", &held());
        b.take_request("UPDATE", target);
        b.pass(UPDATE_S_MAX * 1_000 - 1);
        let is_answered = |b: &Bench| b.sent.iter().any(|(_, m)| m.method_text() == "UPDATE" && m.status() >= 200);
        assert!(!is_answered(&b), "there was time left");
        b.pass(1);
        assert_eq!(b.take_response("UPDATE", asks, 200).status(), 504);
        b.pass(20_000);
        assert!(!is_answered(&b), "answered once");
        b.sent.clear();
        answered(&mut b, &early);
        hung_up(b, &early);
    }
}

#[test]
fn an_answered_call_does_not_forget_an_early_offer_without_an_answer() {
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    b.within(&early.trunk, "UPDATE", 3, "", &held());
    b.take_request("UPDATE", BOB);
    answered(&mut b, &early);
    b.pass(UPDATE_S_MAX * 1_000);
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 504);
    hung_up(b, &early);
}

#[test]
fn a_side_that_accepts_too_late_is_put_right() {
    // The callee at once.
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    b.within(&early.trunk, "UPDATE", 3, "", &held());
    let offer = b.take_request("UPDATE", BOB);
    b.pass(UPDATE_S_MAX * 1_000);
    assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 504);
    b.sent.clear();
    b.accept(&offer, "", &listens());
    let back = b.take_request("UPDATE", BOB);
    assert!(text(&back.1).contains("a=sendrecv"), "{}", text(&back.1));
    b.accept(&back, "", SDP);
    assert!(b.find_request("UPDATE", BOB).is_none(), "once is enough");
    answered(&mut b, &early);
    hung_up(b, &early);
    // The caller when it has acknowledged the answer.
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    b.within(&early.bob, "UPDATE", 3, "", &held());
    let offer = b.take_request("UPDATE", TRUNK);
    b.pass(UPDATE_S_MAX * 1_000);
    assert_eq!(b.take_response("UPDATE", BOB, 200).status(), 504);
    b.sent.clear();
    b.accept(&offer, "", &listens());
    b.accept(&early.to_bob, "one", "");
    b.take_response("INVITE", TRUNK, 200);
    b.acknowledge(&early.trunk, 1, "");
    let correction = b.take_request("INVITE", TRUNK);
    assert!(text(&correction.1).contains("a=sendrecv"));
    b.accept(&correction, "", SDP);
    b.answer(&early.to_other, 487, "two", "", "");
    hung_up(b, &early);
}

// A proxy behind Bob's address has forked the INVITE: two early dialogs of one branch.

/// The second dialog, settled by a reliable response too.
fn second_dialog(b: &mut Bench, early: &Early) {
    let reliable = format!("Contact: <sip:second@{BOB}>\nRequire: 100rel\nRSeq: 1\n{ALLOWS}");
    b.answer(&early.to_bob, 183, "second", &reliable, SDP);
    let prack = b.take_request("PRACK", BOB);
    assert_eq!(prack.1.to_tag(), Some("second"));
    b.answer(&prack, 200, "", "", "");
    b.sent.clear();
}

/// Whoever rings in the second dialog answers, and nothing is said of the session. The trunk has acknowledged.
fn second_answers(b: &mut Bench, early: &Early) {
    b.answer(&early.to_bob, 200, "second", &format!("Contact: <sip:second@{BOB}>\n{ALLOWS}"), "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.status() == 200 && ok.body().is_empty(), "{}", ok.status());
    assert_eq!(b.take_request("ACK", BOB).1.to_tag(), Some("second"));
    b.acknowledge(&early.trunk, 1, "");
    b.answer(&early.to_other, 487, "two", "", "");
}

#[test]
fn a_dialog_that_an_early_offer_of_the_caller_has_not_reached_is_offered_it_when_it_answers() {
    for comes_late in [false, true] {
        let mut b = Bench::new();
        let early = settled(&mut b, ALLOWS, ALLOWS);
        if !comes_late {
            second_dialog(&mut b, &early);
        }
        b.within(&early.trunk, "UPDATE", 3, "", &held());
        let offer = b.take_request("UPDATE", BOB);
        assert_eq!(offer.1.to_tag(), Some("one"));
        b.accept(&offer, "", &listens());
        assert_eq!(b.take_response("UPDATE", TRUNK, 200).status(), 200);
        if comes_late {
            second_dialog(&mut b, &early);
        }
        second_answers(&mut b, &early);
        let offer = b.take_request("INVITE", BOB);
        assert_eq!(offer.1.to_tag(), Some("second"));
        assert!(text(&offer.1).contains("a=sendonly"), "the caller holds: {}", text(&offer.1));
        b.accept(&offer, "", &listens());
        assert!(b.find_request("INVITE", TRUNK).is_none(), "it has what holds");
        assert!(b.find_request("INVITE", BOB).is_none(), "once is enough");
        hung_up(b, &early);
    }
}

#[test]
fn a_caller_whom_the_first_dialog_put_on_hold_is_put_right_when_the_second_answers() {
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    second_dialog(&mut b, &early);
    b.within(&early.bob, "UPDATE", 3, "", &held());
    let offer = b.take_request("UPDATE", TRUNK);
    b.accept(&offer, "", &listens());
    assert!(text(&b.take_response("UPDATE", BOB, 200)).contains("a=recvonly"));
    second_answers(&mut b, &early);
    let correction = b.take_request("INVITE", TRUNK);
    assert!(text(&correction.1).contains("a=sendrecv"), "{}", text(&correction.1));
    b.accept(&correction, "", SDP);
    assert!(b.find_request("INVITE", BOB).is_none());
    hung_up(b, &early);
}

#[test]
fn a_dialog_that_answers_for_the_first_time_goes_on_from_the_invite() {
    let mut b = Bench::new();
    let early = settled(&mut b, ALLOWS, ALLOWS);
    b.within(&early.bob, "UPDATE", 3, "", &held());
    let offer = b.take_request("UPDATE", TRUNK);
    b.accept(&offer, "", &listens());
    b.take_response("UPDATE", BOB, 200);
    b.accept(&early.to_bob, "third", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    assert!(b.find_request("BYE", BOB).is_none(), "its answer is usable");
    b.acknowledge(&early.trunk, 1, "");
    assert!(text(&b.take_request("INVITE", TRUNK).1).contains("a=sendrecv"));
    b.answer(&early.to_other, 487, "two", "", "");
    hung_up(b, &early);
}
