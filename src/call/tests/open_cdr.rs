//! What a crash would leave of a call, message by message: the disk has it before anybody is told of an answer.

use super::{
    bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, udp},
    from_alice,
    transfer::{office, replaces},
};
use crate::call::Cdr;

/// The only call that goes on.
fn open(b: &Bench) -> &Cdr {
    let mut open = b.open_cdrs.values();
    let cdr = open.next().expect("a call goes on");
    assert!(open.next().is_none(), "{:?}", b.open_cdrs);
    cdr
}

#[test]
fn the_disk_has_a_call_from_its_beginning_with_its_answer_and_until_its_record_takes_its_place() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    assert_eq!((open(&b).caller.as_str(), open(&b).answer_ms), ("+14155550123", None));
    let invite = b.take_request("INVITE", BOB);
    b.pass(2_000);
    b.accept(&invite, "bob", SDP);
    let answered = open(&b).clone();
    assert_eq!((answered.answered_by.as_deref(), answered.end_ms), (Some("bob"), answered.start_ms));
    assert_eq!(answered.answer_ms, Some(answered.start_ms + 2_000));
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.pass(60_500);
    b.within(&trunk, "BYE", 2, "", "");
    assert!(b.open_cdrs.is_empty() && b.cdrs.len() == 1);
    assert_eq!((b.cdrs[0].id.as_str(), b.cdrs[0].duration_s), (answered.id.as_str(), 60));
}

#[test]
fn an_answer_that_is_faster_than_the_disk_waits_for_it_on_both_sides() {
    let mut b = Bench::new();
    b.is_disk_slow = true;
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 180, "bob", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 180).status(), 180, "nobody waits for that");
    b.accept(&invite, "bob", SDP);
    b.accept(&invite, "bob", SDP);
    let is_200 = |b: &Bench| b.sent.iter().any(|(_, m)| !m.is_request() && m.status() == 200);
    assert!(!is_200(&b) && b.find_request("ACK", BOB).is_none(), "{}", b.told());
    assert_eq!(open(&b).answer_ms, None);
    b.disk_writes();
    b.take_request("ACK", BOB);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    assert!(open(&b).answer_ms.is_some());
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_caller_who_gives_up_while_the_answer_waits_leaves_nothing() {
    let mut b = Bench::new();
    b.is_disk_slow = true;
    b.trunk_calls_bob();
    let branch = b.sent_branch();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&other, 486, "busy", "", "");
    b.accept(&invite, "bob", SDP);
    let to = "<sip:+12025551002@pbx.example.com>".to_owned();
    let local = "<sip:+14155550123@203.0.113.5>;tag=trunk".to_owned();
    let trunk = Leg { flow: udp(TRUNK), local, remote: to, call_id: "trunk-call".to_owned() };
    b.cancel(&trunk, 1, &branch);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.take_request("ACK", BOB);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.disk_writes();
    assert_eq!((b.cdrs.len(), b.cdrs[0].answer_ms, b.open_cdrs.len()), (1, None, 0));
    b.finish();
}

#[test]
fn a_device_that_takes_a_call_over_waits_for_the_disk_like_everybody() {
    let mut b = office(CONFIG);
    let (_, bob) = b.trunk_talks_to_bob();
    let flow = from_alice(3000, 3);
    b.register(flow, "bob");
    b.is_disk_slow = true;
    let extra = format!("Require: replaces\nReplaces: {}\n", replaces(&bob));
    super::invite(&mut b, flow, "sip:1001@pbx.example.com", "<sip:bob@pbx.example.com>", &extra);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    let is_told =
        |b: &Bench| b.sent.iter().any(|(to, m)| to.remote == flow.remote && !m.is_request() && m.status() >= 200);
    assert!(!is_told(&b), "{}", b.told());
    b.disk_writes();
    assert_eq!(b.take_response("INVITE", "198.51.100.77:3000", 200).status(), 200);
}

#[test]
fn an_emergency_call_is_known_from_its_beginning_and_waits_for_no_disk() {
    let mut b = office(CONFIG);
    b.is_disk_slow = true;
    let (uri, to) = ("sip:911@pbx.example.com", "<sip:911@pbx.example.com>");
    let from = "<sip:alice@pbx.example.com>;tag=help";
    b.request(udp(ALICE), ("INVITE", uri), (from, to), ("help", 1), ("", SDP));
    assert!(open(&b).emergency);
    let invite = b.take_request("INVITE", TRUNK);
    b.accept(&invite, "psap", SDP);
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200);
    assert!(open(&b).answer_ms.is_some() && open(&b).trunk.as_deref() == Some("carrier"));
}
