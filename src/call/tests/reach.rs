//! Whom a call rings: ring groups.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{types::limits::GROUP_FORK_WIDTH_MAX, wire::sip::Message};

const CAROL: &str = "198.51.100.4:5060";
const FROM: &str = "<sip:+14155550123@203.0.113.5>";

fn group(strategy: &str) -> String {
    format!(
        "{CONFIG}[group.sales]\nextension = \"600\"\ndirect_line = \"+12025550160\"\n\
         members = [\"bob\", \"1003\"]\nring_s = 10\nstrategy = \"{strategy}\"\n"
    )
}

/// Alice, Bob with two devices, and Carol; Bob and Carol are sales.
fn office(strategy: &str) -> Bench {
    let users = [("alice", "1001"), ("bob", "1002"), ("carol", "1003")];
    let users = users.map(|(name, extension)| user(name, extension, &format!("+1202555{extension}")));
    let bindings = [("alice", ALICE), ("bob", BOB), ("bob", BOB_TOO), ("carol", CAROL)];
    Bench::with_users(&group(strategy), users, bindings.map(|(name, at)| binding(name, at)).to_vec())
}

/// The trunk calls this number of ours; each call has a name.
fn call(b: &mut Bench, number: &str, name: &str) {
    let uri = format!("sip:{number}@pbx.example.com");
    let (from, to) = (format!("{FROM};tag={name}"), format!("<{uri}>"));
    b.request(udp(TRUNK), ("INVITE", &uri), (&from, &to), (name, 1), ("", SDP));
}

const SALES: &str = "+12025550160";

/// The caller's final answer.
fn refusal(b: &mut Bench) -> (u16, String) {
    let response = b.take_response("INVITE", TRUNK, 200);
    (response.status(), response.reason_phrase().to_owned())
}

fn refuse(b: &mut Bench, at: &str, status: u16) {
    let invite = b.take_request("INVITE", at);
    b.answer(&invite, status, "refused", "", "");
    b.take_request("ACK", at);
}

/// The callee at `at` answers and the call is set up; the legs of trunk and callee.
fn connect(b: &mut Bench, at: &str) -> (Leg, Leg) {
    let invite = b.take_request("INVITE", at);
    b.accept(&invite, "callee", SDP);
    b.take_request("ACK", at);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    (trunk, Leg::of_callee(&invite, "callee"))
}

fn hang_up(b: &mut Bench, trunk: &Leg, callee: &str) {
    b.within(trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", callee);
    b.answer(&bye, 200, "", "", "");
    b.pass(40_000);
    b.sent.clear();
}

fn is_idle_line(b: &Bench, at: &str) -> bool {
    let at = at.parse().unwrap();
    b.sent.iter().all(|(flow, m): &(_, Message)| flow.remote != at || m.method_text() != "INVITE")
}

#[test]
fn a_group_that_rings_at_once_is_answered_by_the_first_and_named_as_callee() {
    let mut b = office("all");
    call(&mut b, SALES, "c");
    let (bob, bob_too) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    assert!(is_idle_line(&b, ALICE), "no member");
    let (trunk, _) = connect(&mut b, CAROL);
    for (line, invite) in [(BOB, bob), (BOB_TOO, bob_too)] {
        b.pass(1000);
        b.answer(&invite, 180, "late", "", "");
        b.take_request("CANCEL", line);
        b.answer(&invite, 487, "late", "", "");
    }
    let view = &b.core.calls()[0];
    assert_eq!((view.callee.as_str(), view.answered_by.as_deref()), ("sales", Some("carol")));
    hang_up(&mut b, &trunk, CAROL);
    let cdr = &b.cdrs[0];
    assert_eq!((cdr.callee.as_str(), cdr.answered_by.as_deref()), ("sales", Some("carol")));
    b.finish();
}

#[test]
fn one_member_who_declines_does_not_silence_the_others() {
    let mut b = office("all");
    call(&mut b, SALES, "c");
    let second = b.take_request("INVITE", BOB_TOO);
    b.answer(&second, 180, "second", "", "");
    refuse(&mut b, BOB, 603);
    b.take_request("CANCEL", BOB_TOO);
    b.answer(&second, 487, "second", "", "");
    assert!(b.sent.iter().all(|(_, m)| m.is_request() || m.status() < 200), "{}", b.told());
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}

#[test]
fn a_group_is_busy_only_if_every_member_is() {
    for (carol, expected) in [(486, (486, "All Members Busy")), (480, (480, "No Member Answers"))] {
        let mut b = office("all");
        call(&mut b, SALES, "c");
        refuse(&mut b, BOB, 480);
        refuse(&mut b, BOB_TOO, 486);
        refuse(&mut b, CAROL, carol);
        let (status, reason) = refusal(&mut b);
        assert_eq!((status, reason.as_str()), expected);
        b.finish();
    }
}

#[test]
fn members_ring_one_after_the_other_and_each_for_its_time() {
    let mut b = office("in_order");
    call(&mut b, SALES, "c");
    let (bob, bob_too) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&bob, 180, "bob", "", "");
    b.answer(&bob_too, 180, "too", "", "");
    b.pass(9_900);
    assert!(is_idle_line(&b, CAROL), "too early");
    b.pass(200);
    b.take_request("CANCEL", BOB);
    b.take_request("CANCEL", BOB_TOO);
    b.answer(&bob, 487, "bob", "", "");
    b.answer(&bob_too, 487, "too", "", "");
    let carol = b.take_request("INVITE", CAROL);
    b.answer(&carol, 180, "carol", "", "");
    b.pass(10_100);
    b.take_request("CANCEL", CAROL);
    b.answer(&carol, 487, "carol", "", "");
    assert_eq!(refusal(&mut b).0, 480);
    b.finish();
}

#[test]
fn a_member_who_picks_up_at_the_last_moment_has_the_call() {
    let mut b = office("in_order");
    call(&mut b, SALES, "c");
    let bob = b.take_request("INVITE", BOB);
    b.answer(&bob, 180, "bob", "", "");
    b.pass(10_100);
    b.take_request("CANCEL", BOB);
    let carol = b.take_request("INVITE", CAROL);
    b.answer(&carol, 180, "carol", "", "");
    b.accept(&bob, "bob", SDP);
    b.take_request("ACK", BOB);
    b.take_request("CANCEL", CAROL);
    b.answer(&carol, 487, "carol", "", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    hang_up(&mut b, &trunk, BOB);
    b.finish();
}

#[test]
fn the_member_who_has_been_idle_longest_is_first() {
    let mut b = office("longest_idle");
    call(&mut b, "+12025551002", "direct");
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    call(&mut b, SALES, "one");
    assert!(is_idle_line(&b, BOB), "Bob has just talked, Carol never");
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    call(&mut b, SALES, "two");
    assert!(is_idle_line(&b, CAROL));
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    b.finish();
}

#[test]
fn a_member_who_talks_or_is_not_there_is_passed_over() {
    let mut b = office("in_order");
    call(&mut b, "+12025551002", "direct");
    let (trunk, _) = connect(&mut b, BOB);
    b.sent.clear();
    call(&mut b, SALES, "sales");
    assert!(is_idle_line(&b, BOB), "Bob talks");
    refuse(&mut b, CAROL, 486);
    assert_eq!(refusal(&mut b), (486, "All Members Busy".to_owned()));
    hang_up(&mut b, &trunk, BOB);
    b.finish();

    let users = [user("bob", "1002", "+12025551002"), user("carol", "1003", "+12025551003")];
    let mut b = Bench::with_users(&group("in_order"), users, vec![binding("carol", CAROL)]);
    call(&mut b, SALES, "sales");
    refuse(&mut b, CAROL, 486);
    assert_eq!(refusal(&mut b), (480, "No Member Answers".to_owned()), "Bob is not busy");
    b.finish();
}

#[test]
fn as_many_contacts_of_a_group_ring_as_there_is_room_for_and_no_further_one() {
    for (members, rung) in [(4, 40), (5, GROUP_FORK_WIDTH_MAX)] {
        let name = |n: usize| format!("user{n}");
        let users = (0..members).map(|n| user(&name(n), &format!("{}", 2000 + n), &format!("+1202555{}", 2000 + n)));
        let devices = (0..members).flat_map(|n| (0..10).map(move |d| (n, d)));
        let bindings = devices.map(|(n, d)| binding(&name(n), &format!("198.51.100.{}:{}", n + 1, 6000 + d))).collect();
        let list = (0..members).map(|n| format!("\"{}\"", name(n))).collect::<Vec<_>>().join(",");
        let config = group("all").replace("\"bob\", \"1003\"", &list).replace("20000-20099", "20000-20199");
        let mut b = Bench::with_users(&config, users, bindings);
        call(&mut b, SALES, "c");
        let sent = b.sent.iter().filter(|(_, m)| m.is_request() && m.method_text() == "INVITE").count();
        assert_eq!(sent, rung, "{members} members");
        b.finish();
    }
}
