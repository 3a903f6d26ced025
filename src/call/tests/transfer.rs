//! Transfers, message by message: REFER to a new target and to another call, INVITE with Replaces.

use super::{
    BOBS_LINE, TRUNK_FROM,
    bench::{ALICE, BOB, BOB_TOO, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, heard, udp, user},
    from_alice, invite,
};
use crate::{
    call::{Input, cdr::EndedBy, notification::Outcome},
    media::{self, History, Silence, SilenceCause},
    types::{Flow, limits},
    wire::sip::{Message, Name},
};

const ALICE_TCP: &str = "198.51.100.77:1000";
const HELD: &str = "v=0\r\no=- 1 2 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                    m=audio 4000 RTP/AVP 0\r\na=recvonly\r\n";

/// Alice, Bob with two devices, and Carol.
pub(super) fn office(config: &str) -> Bench {
    let users = [
        user("alice", "1001", "+12025551001"),
        user("bob", "1002", "+12025551002"),
        user("carol", "1003", "+12025551003"),
    ];
    let bindings = [("alice", ALICE), ("bob", BOB), ("bob", BOB_TOO), ("carol", CAROL)];
    Bench::with_users(config, users, bindings.map(|(name, at)| binding(name, at)).to_vec())
}

pub(super) fn header(message: &Message, name: Name) -> &str {
    message.header(name).unwrap_or_default()
}

fn body(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// The next NOTIFY to this address, answered: its subscription state and status line.
fn told(b: &mut Bench, to: &str) -> (String, String) {
    let notify = b.take_request("NOTIFY", to);
    b.answer(&notify, 200, "", "", "");
    assert!(header(&notify.1, Name::Event).starts_with("refer;id="));
    assert_eq!(header(&notify.1, Name::ContentType), "message/sipfrag;version=2.0");
    (header(&notify.1, Name::SubscriptionState).to_owned(), body(&notify.1).trim_end().to_owned())
}

pub(super) fn assert_told(b: &mut Bench, to: &str, line: &str) {
    let (state, status) = told(b, to);
    assert_eq!(status, line);
    let is_final = !line.starts_with("SIP/2.0 1");
    assert_eq!(state.starts_with("terminated;reason=noresource"), is_final, "{state}");
}

/// REFER in a dialog. Returns the final answer.
pub(super) fn refer(b: &mut Bench, leg: &Leg, cseq: u32, target: &str, extra: &str) -> Message {
    b.within(leg, "REFER", cseq, &format!("Refer-To: {target}\n{extra}"), "");
    b.take_response("REFER", &leg.flow.remote.to_string(), 200)
}

pub(super) fn assert_taken_on(b: &mut Bench, leg: &Leg, cseq: u32, target: &str) {
    assert_eq!(refer(b, leg, cseq, target, "").status(), 202);
    assert_told(b, &leg.flow.remote.to_string(), "SIP/2.0 100 Trying");
}

pub(super) fn hang_up(b: &mut Bench, at: &str) {
    let bye = b.take_request("BYE", at);
    b.answer(&bye, 200, "", "", "");
}

/// How many legs of all calls are shown as silent.
fn silent_legs(b: &mut Bench) -> usize {
    for (id, call) in (0..).zip(b.core.calls()) {
        b.input(Input::Inspect { id, call: call.id });
    }
    for leg in std::mem::take(&mut b.asked) {
        b.input(Input::Media(media::Event::Report { leg, report: Box::default() }));
    }
    let details = b.inspected.drain(..).map(|(_, detail)| detail.unwrap());
    details.flat_map(|detail| [Some(detail.a), detail.b]).flatten().filter(|leg| leg.silence.is_some()).count()
}

/// Somebody on a registered connection calls, and the device at `at` answers.
fn call(b: &mut Bench, from: Flow, extension: &str, at: &str, tag: &str) -> (Leg, Leg) {
    call_answered(b, from, extension, at, tag, |_| SDP.to_owned())
}

/// The same with another answer to our offer.
fn call_answered(
    b: &mut Bench,
    from: Flow,
    extension: &str,
    at: &str,
    tag: &str,
    answer: impl Fn(&Message) -> String,
) -> (Leg, Leg) {
    let uri = format!("sip:{extension}@pbx.example.com");
    invite(b, from, &uri, "<sip:somebody@pbx.example.com>", "");
    let sent = b.take_request("INVITE", at);
    if let Some(other) = b.find_request("INVITE", BOB_TOO) {
        b.answer(&other, 486, "too", "", "");
        b.take_request("ACK", BOB_TOO);
    }
    b.accept(&sent, tag, &answer(&sent.1));
    b.take_request("ACK", at);
    let ok = b.take_response("INVITE", &from.remote.to_string(), 200);
    assert_eq!(ok.status(), 200);
    assert!(header(&ok, Name::Supported).contains("replaces"));
    let caller = Leg::of_caller(from, &ok);
    b.acknowledge(&caller, 1, "");
    (caller, Leg::of_callee(&sent, tag))
}

/// Alice, on a connection, talks to Bob.
fn alice_talks_to_bob(b: &mut Bench) -> (Leg, Leg) {
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    let legs = call(b, alice, "1002", BOB, "bob");
    b.sent.clear();
    legs
}

fn parties(b: &Bench) -> Vec<(String, String, &'static str)> {
    b.core.calls().into_iter().map(|call| (call.caller, call.callee, call.state)).collect()
}

pub(super) fn replaces(leg: &Leg) -> String {
    let tag = |address: &str| address.split("tag=").nth(1).unwrap().to_owned();
    format!("{};to-tag={};from-tag={}", leg.call_id, tag(&leg.remote), tag(&leg.local))
}

pub(super) fn escaped(replaces: &str) -> String {
    replaces.replace(';', "%3B").replace('=', "%3D").replace('@', "%40")
}

// To a new target.

#[test]
fn a_callee_transfers_its_caller_to_a_colleague() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let talking = b.joined.clone();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(header(&to_carol.1, Name::From).starts_with("<sip:+14155550123@pbx.example.com>"));
    assert_eq!(header(&to_carol.1, Name::ReferredBy), "<sip:1002@pbx.example.com>");
    b.answer(&to_carol, 180, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 180 Ringing");
    assert!(b.find_request("INVITE", TRUNK).is_none() && b.find_request("BYE", BOB).is_none());
    b.accept(&to_carol, "carol", SDP);
    b.take_request("ACK", CAROL);
    let reoffer = b.take_request("INVITE", TRUNK);
    assert!(header(&reoffer.1, Name::PAssertedIdentity).is_empty(), "a trunk is not told who is who");
    assert!(b.find_request("BYE", BOB).is_none(), "the trunk has not accepted yet");
    b.accept(&reoffer, "", SDP);
    b.take_request("ACK", TRUNK);
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    hang_up(&mut b, BOB);
    assert_ne!(b.joined.last(), talking.last());
    assert_eq!(b.open_legs.len(), 2);
    assert_eq!(parties(&b), [("+14155550123".to_owned(), "1003".to_owned(), "answered")]);
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, CAROL);
    assert!(b.find_request("BYE", BOB).is_none());
    let [first, second] = &b.cdrs[..] else { panic!("{:?}", b.cdrs) };
    assert_eq!((first.callee.as_str(), first.ended_by), ("+12025551002", EndedBy::Transfer));
    assert_eq!(first.transferred_by, None);
    assert_eq!((first.a.is_some(), first.b.is_some()), (true, true));
    assert_eq!((second.callee.as_str(), second.ended_by), ("1003", EndedBy::Caller));
    assert_eq!(second.transferred_by.as_deref(), Some("1002"));
    b.finish();
}

#[test]
fn a_caller_transfers_its_callee_who_is_shown_the_new_partner() {
    let mut b = office(CONFIG);
    let (alice, bob) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "sip:1003@pbx.example.com");
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(header(&to_carol.1, Name::From).starts_with("<sip:1002@pbx.example.com>"));
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", BOB);
    assert_eq!(header(&reoffer.1, Name::PAssertedIdentity), "<sip:1003@pbx.example.com>");
    b.accept(&reoffer, "", SDP);
    assert_told(&mut b, ALICE_TCP, "SIP/2.0 200 OK");
    hang_up(&mut b, ALICE_TCP);
    assert_eq!(parties(&b), [("1002".to_owned(), "1003".to_owned(), "answered")]);
    // Both are in one call now, in either direction.
    let carol = Leg::of_callee(&to_carol, "carol");
    b.within(&carol, "INVITE", 1, "", SDP);
    let hold = b.take_request("INVITE", BOB);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", CAROL, 200).status(), 200);
    b.acknowledge(&carol, 1, "");
    b.within(&bob, "BYE", 1, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}

#[test]
fn a_party_on_hold_is_offered_to_the_target_as_one_that_talks() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&bob, "INVITE", 1, "", &format!("{SDP}a=sendonly\r\n"));
    let hold = b.take_request("INVITE", TRUNK);
    b.accept(&hold, "", HELD);
    assert_eq!(b.take_response("INVITE", BOB, 200).status(), 200);
    b.acknowledge(&bob, 1, "");
    assert_taken_on(&mut b, &bob, 2, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    assert!(body(&to_carol.1).contains("a=sendrecv"), "{}", body(&to_carol.1));
    b.accept(&to_carol, "carol", SDP);
    b.sent.retain(|(_, m)| m.method_text() != "ACK");
    let resume = b.take_request("INVITE", TRUNK);
    assert!(body(&resume.1).contains("a=sendrecv"), "{}", body(&resume.1));
    b.accept(&resume, "", SDP);
    hang_up(&mut b, BOB);
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}

#[test]
fn a_transferor_that_hangs_up_at_once_leaves_the_transfer_to_us() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    b.within(&bob, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", BOB, 200).status(), 200);
    assert!(b.find_request("BYE", TRUNK).is_none());
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 180 Ringing");
    // Nobody is there who could take this; the caller tries again later.
    b.within(&trunk, "INVITE", 2, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 491);
    b.within(&trunk, "INFO", 3, "", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 491);
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    assert!(b.find_request("BYE", BOB).is_none(), "it has hung up already");
    b.within(&bob, "OPTIONS", 3, "", "");
    assert_eq!(b.take_response("OPTIONS", BOB, 200).status(), 481);
    b.within(&Leg::of_callee(&to_carol, "carol"), "BYE", 1, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

#[test]
fn a_target_that_is_busy_leaves_the_transferor_its_call() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 486, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 486 Whatever");
    assert!(b.find_request("BYE", TRUNK).is_none() && b.find_request("BYE", BOB).is_none());
    // The call goes on, and so may transfers.
    b.within(&trunk, "INVITE", 2, "", SDP);
    let hold = b.take_request("INVITE", BOB);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    assert_taken_on(&mut b, &bob, 2, "<sip:1001@pbx.example.com>");
    let to_alice = b.take_request("INVITE", ALICE);
    b.accept(&to_alice, "alice", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    hang_up(&mut b, BOB);
    b.within(&trunk, "BYE", 3, "", "");
    hang_up(&mut b, ALICE);
    let ends: Vec<_> = b.cdrs.iter().map(|cdr| (cdr.callee.as_str(), cdr.status)).collect();
    assert_eq!(ends, [("1003", 486), ("+12025551002", 200), ("1001", 200)]);
    b.finish();
}

#[test]
fn when_the_target_fails_and_the_transferor_has_gone_the_party_is_told_by_bye() {
    let mut b = office(CONFIG);
    let (_, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    b.within(&bob, "BYE", 2, "", "");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 480, "carol", "", "");
    hang_up(&mut b, TRUNK);
    assert_told(&mut b, BOB, "SIP/2.0 480 Whatever");
    b.finish();
}

#[test]
fn a_target_that_nobody_answers_for_is_given_up_after_the_ringing_time() {
    let mut b = office(CONFIG);
    let (_, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 180 Ringing");
    b.pass(limits::RING_S_MAX * 1000);
    let cancel = b.take_request("CANCEL", CAROL);
    b.answer(&cancel, 200, "", "", "");
    b.answer(&to_carol, 487, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 408 Nobody Answered");
    b.within(&bob, "BYE", 2, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

#[test]
fn a_party_that_hangs_up_takes_the_ringing_target_along() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    let cancel = b.take_request("CANCEL", CAROL);
    b.answer(&cancel, 200, "", "", "");
    b.answer(&to_carol, 487, "carol", "", "");
    b.finish();
}

#[test]
fn a_party_that_refuses_the_new_media_stays_where_it_is() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.answer(&reoffer, 488, "", "", "");
    hang_up(&mut b, CAROL);
    assert_told(&mut b, BOB, "SIP/2.0 488 Whatever");
    b.within(&trunk, "INVITE", 2, "", SDP);
    let hold = b.take_request("INVITE", BOB);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    b.within(&trunk, "BYE", 3, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

/// An INVITE without its retransmissions.
fn take_invite(b: &mut Bench, to: &str) -> (Flow, Message) {
    let invite = b.take_request("INVITE", to);
    b.sent.retain(|(_, m)| m.bytes() != invite.1.bytes());
    invite
}

fn take_reoffer(b: &mut Bench) -> (Flow, Message) {
    take_invite(b, TRUNK)
}

#[test]
fn a_party_with_an_offer_of_its_own_on_the_way_is_offered_again() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    for _ in 1..limits::HANDOVER_OFFERS_MAX {
        let reoffer = take_reoffer(&mut b);
        b.answer(&reoffer, 491, "", "", "");
        assert!(b.find_request("INVITE", TRUNK).is_none(), "RFC 3261 section 14.1: not at once");
        b.pass(4_500);
    }
    let reoffer = take_reoffer(&mut b);
    b.accept(&reoffer, "", SDP);
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    hang_up(&mut b, BOB);
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}

#[test]
fn a_party_that_is_always_busy_with_its_own_offers_stays_where_it_is() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    for _ in 0..limits::HANDOVER_OFFERS_MAX {
        let reoffer = take_reoffer(&mut b);
        b.answer(&reoffer, 491, "", "", "");
        b.pass(4_500);
    }
    assert!(b.find_request("INVITE", TRUNK).is_none());
    hang_up(&mut b, CAROL);
    assert_told(&mut b, BOB, "SIP/2.0 491 Whatever");
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

#[test]
fn a_2xx_repeated_after_the_leg_has_moved_is_acknowledged_again() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    let first = b.take_request("ACK", TRUNK).1;
    b.accept(&reoffer, "", SDP);
    assert_eq!(b.take_request("ACK", TRUNK).1.bytes(), first.bytes());
    hang_up(&mut b, BOB);
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}

#[test]
fn a_transferor_that_wants_no_notify_gets_none() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let ok = refer(&mut b, &bob, 1, "<sip:1003@pbx.example.com>", "Refer-Sub: false\nSupported: norefersub\n");
    assert_eq!((ok.status(), ok.header_text("Refer-Sub")), (200, Some("false")));
    let to_carol = b.take_request("INVITE", CAROL);
    b.accept(&to_carol, "carol", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    hang_up(&mut b, BOB);
    assert!(b.find_request("NOTIFY", BOB).is_none());
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}

#[test]
fn a_target_outside_is_called_as_the_company_and_without_referrer() {
    let mut b = office(CONFIG);
    let (alice, _) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "<tel:+14155550177>");
    let to_trunk = b.take_request("INVITE", TRUNK).1;
    assert!(header(&to_trunk, Name::From).starts_with("<sip:+12025551002@pbx.example.com"), "Bob's direct line");
    assert!(header(&to_trunk, Name::ReferredBy).is_empty());
    b.within(&alice, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn what_cannot_be_referred_to_is_refused_and_changes_nothing() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    for (cseq, (target, status, reason)) in (1..).zip([
        ("<mailto:a@b>", 400, "Refer-To Is No Telephone Address"),
        ("<sip:1003@pbx.example.com>, <sip:1001@pbx.example.com>", 400, "One Refer-To Header Needed"),
        ("<sip:1999@pbx.example.com>", 404, "No Such Extension"),
        ("<sip:1003@elsewhere.example>", 404, "Not Our Domain"),
        ("<urn:service:counseling>", 404, "Not A Dialable Address"),
    ]) {
        let refusal = refer(&mut b, &bob, cseq, target, "");
        assert_eq!((refusal.status(), refusal.reason_phrase()), (status, reason), "{target}");
    }
    // A trunk may reach what its calls reach.
    let refusal = refer(&mut b, &trunk, 2, "<sip:1003@pbx.example.com>", "");
    assert_eq!((refusal.status(), refusal.reason_phrase()), (404, "No Such Direct Line"));
    // One at a time.
    assert_taken_on(&mut b, &bob, 10, "<sip:1003@pbx.example.com>");
    assert_eq!(refer(&mut b, &bob, 11, "<sip:1001@pbx.example.com>", "").status(), 491);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 603, "carol", "", "");
    b.within(&bob, "NOTIFY", 12, "Event: refer\nSubscription-State: active\n", "");
    assert_eq!(b.take_response("NOTIFY", BOB, 200).status(), 481, "we subscribe to nothing");
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_refer_outside_an_answered_call_is_refused() {
    let mut b = office(CONFIG);
    let stranger = ("<sip:x@y>;tag=x", "<sip:1003@pbx.example.com>");
    let line = ("REFER", "sip:1003@pbx.example.com");
    b.request(udp(TRUNK), line, stranger, ("refer", 1), ("Refer-To: <sip:1001@pbx.example.com>\n", ""));
    assert_eq!(b.take_response("REFER", TRUNK, 200).status(), 403);
    b.trunk_calls_bob();
    let ringing = b.take_request("INVITE", BOB);
    b.answer(&ringing, 180, "bob", "", "");
    let early = refer(&mut b, &Leg::of_callee(&ringing, "bob"), 1, "<sip:1003@pbx.example.com>", "");
    assert_eq!(early.status(), 403);
    assert!(b.find_request("INVITE", CAROL).is_none());
    b.finish();
}

/// Transfers the trunk back and forth. Returns whoever has it at last.
fn transferred(b: &mut Bench, times: u8) -> (Leg, Leg) {
    let (trunk, mut holder) = b.trunk_talks_to_bob();
    for turn in 0..times {
        let (extension, at) = if turn % 2 == 0 { ("1003", CAROL) } else { ("1001", ALICE) };
        let from = holder.flow.remote.to_string();
        assert_taken_on(b, &holder, 1, &format!("<sip:{extension}@pbx.example.com>"));
        let sent = b.take_request("INVITE", at);
        b.accept(&sent, "next", SDP);
        let reoffer = b.take_request("INVITE", TRUNK);
        b.accept(&reoffer, "", SDP);
        assert_told(b, &from, "SIP/2.0 200 OK");
        hang_up(b, &from);
        b.sent.clear();
        holder = Leg::of_callee(&sent, "next");
    }
    (trunk, holder)
}

#[test]
fn a_party_is_transferred_as_often_as_the_limit_says_and_no_more() {
    let mut b = office(CONFIG);
    let (trunk, holder) = transferred(&mut b, limits::TRANSFERS_MAX);
    let refusal = refer(&mut b, &holder, 1, "<sip:1002@pbx.example.com>", "");
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Too Many Transfers"));
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

// To the transferor's other call.

#[test]
fn two_calls_become_one_when_the_second_is_to_replace_itself() {
    let mut b = office(CONFIG);
    let (alice, bob) = alice_talks_to_bob(&mut b);
    let (second, carol) = call(&mut b, alice.flow, "1003", CAROL, "carol");
    let target = format!("<sip:1003@pbx.example.com?Replaces={}&Require=replaces>", escaped(&replaces(&second)));
    assert_taken_on(&mut b, &alice, 2, &target);
    let to_bob = b.take_request("INVITE", BOB);
    assert_eq!(header(&to_bob.1, Name::PAssertedIdentity), "<sip:1003@pbx.example.com>");
    assert!(b.find_request("BYE", ALICE_TCP).is_none(), "Bob has not accepted yet");
    b.accept(&to_bob, "", SDP);
    assert_told(&mut b, ALICE_TCP, "SIP/2.0 200 OK");
    hang_up(&mut b, ALICE_TCP);
    hang_up(&mut b, ALICE_TCP);
    let to_carol = b.take_request("INVITE", CAROL);
    assert_eq!(header(&to_carol.1, Name::PAssertedIdentity), "<sip:1002@pbx.example.com>");
    b.accept(&to_carol, "", SDP);
    b.take_request("ACK", CAROL);
    assert_eq!(parties(&b), [("1002".to_owned(), "1003".to_owned(), "answered")]);
    assert_eq!(b.open_legs.len(), 2);
    b.within(&carol, "INVITE", 1, "", SDP);
    let hold = b.take_request("INVITE", BOB);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", CAROL, 200).status(), 200);
    b.acknowledge(&carol, 1, "");
    b.within(&bob, "BYE", 1, "", "");
    hang_up(&mut b, CAROL);
    let records: Vec<_> = b
        .cdrs
        .iter()
        .map(|c| (c.caller.as_str(), c.callee.as_str(), c.ended_by, c.transferred_by.as_deref()))
        .collect();
    let expected = [
        ("1001", "1002", EndedBy::Transfer, None),
        ("1001", "1003", EndedBy::Transfer, None),
        ("1002", "1003", EndedBy::Caller, Some("1001")),
    ];
    assert_eq!(records, expected);
    b.finish();
}

/// Bob's first device was called by the trunk and then by Alice.
fn bob_has_two_callers(b: &mut Bench) -> ((Leg, Leg), (Leg, Leg)) {
    let first = b.trunk_talks_to_bob();
    (first, alice_talks_to_bob(b))
}

#[test]
fn two_callers_of_one_user_are_joined_even_if_the_user_hangs_up_at_once() {
    let mut b = office(CONFIG);
    let ((trunk, bob), (_, second)) = bob_has_two_callers(&mut b);
    let target = format!("<sip:1001@pbx.example.com?Replaces={}>", escaped(&replaces(&second)));
    assert_taken_on(&mut b, &bob, 1, &target);
    b.within(&bob, "BYE", 2, "", "");
    b.within(&second, "BYE", 1, "", "");
    let to_trunk = b.take_request("INVITE", TRUNK);
    b.accept(&to_trunk, "", SDP);
    let to_alice = b.take_request("INVITE", ALICE_TCP);
    assert_eq!(header(&to_alice.1, Name::PAssertedIdentity), "<sip:+14155550123@pbx.example.com>");
    b.answer(&to_alice, 491, "", "", "");
    b.pass(4_500);
    let to_alice = b.take_request("INVITE", ALICE_TCP);
    b.accept(&to_alice, "", SDP);
    assert!(b.find_request("BYE", BOB).is_none());
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, ALICE_TCP);
    b.finish();
}

/// An encrypted answer to our offer, always under the same key.
fn secure(offer: &Message) -> String {
    let offer = body(offer);
    let line = offer.lines().find(|line| line.contains(" AES_CM_128_HMAC_SHA1_80 ")).expect("our offer has that suite");
    let tag = line.strip_prefix("a=crypto:").and_then(|line| line.split(' ').next()).expect("a tag");
    let key = "inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";
    format!("{}a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 {key}\r\n", SDP.replace("RTP/AVP", "RTP/SAVP"))
}

/// The same under another key.
fn secure_anew(offer: &Message) -> String {
    secure(offer).replace("AAEC", "BBEC")
}

#[test]
fn a_leg_that_comes_from_another_worker_goes_on_with_its_stream() {
    assert_eq!(what_a_moved_leg_is_told(secure), [Some(Box::new(heard()))], "not before it knows what was heard");
}

#[test]
fn a_leg_that_comes_from_another_worker_with_a_new_key_is_heard_at_once_and_told_of_the_old_one() {
    assert_eq!(what_a_moved_leg_is_told(secure_anew), [None, Some(Box::new(heard()))]);
}

/// Carol answers so when she is offered the media of her new partner, on another worker.
fn what_a_moved_leg_is_told(again: fn(&Message) -> String) -> Vec<Option<Box<History>>> {
    let mut b = office(&CONFIG.replace("workers = 1", "workers = 2"));
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    // Carol is on one worker, Bob on the other, when each comes to talk to Alice.
    invite(&mut b, udp(TRUNK), "sip:+12025551003@pbx.example.com", TRUNK_FROM, "");
    let busy = b.take_request("INVITE", CAROL);
    b.accept(&busy, "busy", SDP);
    let other = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&other, 1, "");
    let (trunk, _) = b.trunk_talks_to_bob();
    let (first, carol) = call_answered(&mut b, alice, "1003", CAROL, "carol", secure);
    let bob = other_device(&mut b);
    let (_, second) = call(&mut b, bob, "1001", ALICE, "alice");
    let workers: Vec<u16> = b.open_legs[4..].iter().map(|leg| leg.worker).collect();
    assert_eq!(workers, [0, 0, 1, 1]);
    let silence = Silence { cause: SilenceCause::NoPackets, has_rtcp: false };
    b.input(Input::Media(media::Event::Silent { leg: b.open_legs[5], silence }));
    assert_eq!(silent_legs(&mut b), 1);
    let target = format!("<sip:1002@pbx.example.com?Replaces={}>", escaped(&replaces(&second)));
    assert_taken_on(&mut b, &first, 2, &target);
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 491, "", "", "");
    let kept: Vec<u16> = b.open_legs[4..].iter().map(|leg| leg.worker).collect();
    assert_eq!(kept, [0, 0, 1, 1], "what was offered in vain is given back");
    b.pass(4_500);
    let to_carol = take_invite(&mut b, CAROL);
    b.accept(&to_carol, "", &again(&to_carol.1));
    let to_bob = take_invite(&mut b, OTHER);
    b.accept(&to_bob, "", SDP);
    let workers: Vec<u16> = b.open_legs[4..].iter().map(|leg| leg.worker).collect();
    assert_eq!(workers, [1, 1]);
    let moved = b.open_legs[5];
    let told: Vec<_> =
        b.configured.iter().filter(|(leg, _)| *leg == moved).map(|(_, history)| history.clone()).collect();
    assert!(b.joined.last().is_some_and(|(a, b)| *a == moved || *b == moved));
    assert_eq!(silent_legs(&mut b), 0, "nobody knows yet what the leg in its place hears");
    for leg in [&other, &trunk] {
        b.within(leg, "BYE", 2, "", "");
    }
    b.within(&carol, "BYE", 1, "", "");
    b.finish();
    told
}

#[test]
fn calls_that_cannot_be_joined_stay_two() {
    let mut b = office(CONFIG);
    let ((trunk, bob), (alice, second)) = bob_has_two_callers(&mut b);
    let join = |b: &mut Bench, leg: &Leg, cseq, replaces: &str| {
        let refusal = refer(b, leg, cseq, &format!("<sip:1001@pbx.example.com?Replaces={}>", escaped(replaces)), "");
        (refusal.status(), refusal.reason_phrase().to_owned())
    };
    let unknown = "a;to-tag=1;from-tag=2";
    assert_eq!(join(&mut b, &bob, 1, unknown), (481, "No Such Call To Replace".to_owned()));
    assert_eq!(join(&mut b, &bob, 2, &replaces(&bob)), (481, "No Such Call To Replace".to_owned()), "itself");
    assert_eq!(join(&mut b, &bob, 3, &replaces(&second).replace("from-tag=", "from-tag=x")).0, 481);
    assert_eq!(join(&mut b, &bob, 4, &replaces(&alice)), (403, "Not Your Call".to_owned()));
    assert_eq!(join(&mut b, &trunk, 2, &replaces(&second)), (403, "Not Your Call".to_owned()));
    assert!(b.find_request("INVITE", TRUNK).is_none());
    // Refused by the party's telephone.
    let target = format!("<sip:1001@pbx.example.com?Replaces={}>", escaped(&replaces(&second)));
    assert_taken_on(&mut b, &bob, 5, &target);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.answer(&reoffer, 488, "", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 488 Whatever");
    assert_eq!(b.core.live_calls(), 2);
    // One at a time.
    assert_taken_on(&mut b, &second, 10, "<sip:1003@pbx.example.com>");
    assert_eq!(join(&mut b, &bob, 6, &replaces(&second)), (491, "Transfer Under Way".to_owned()));
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 486, "carol", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 486 Whatever");
    // Left by the other party.
    assert_taken_on(&mut b, &bob, 7, &target);
    let reoffer = b.take_request("INVITE", TRUNK);
    b.within(&alice, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    b.answer(&reoffer, 488, "", "", "");
    assert_told(&mut b, BOB, "SIP/2.0 480 Other Party Has Hung Up");
    b.within(&trunk, "BYE", 3, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

// INVITE with Replaces.

/// Bob's other device, on a connection of its own.
fn other_device(b: &mut Bench) -> Flow {
    let flow = from_alice(3000, 3);
    b.register(flow, "bob");
    flow
}

fn take_over(b: &mut Bench, flow: Flow, replaces: &str) {
    let extra = format!("Require: replaces\nReplaces: {replaces}\n");
    invite(b, flow, "sip:1001@pbx.example.com", "<sip:bob@pbx.example.com>", &extra);
}

const OTHER: &str = "198.51.100.77:3000";

#[test]
fn a_user_takes_a_call_over_to_another_device() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let flow = other_device(&mut b);
    take_over(&mut b, flow, &replaces(&bob));
    let reoffer = b.take_request("INVITE", TRUNK);
    assert!(b.find_request("BYE", BOB).is_none(), "the trunk has not accepted yet");
    b.accept(&reoffer, "", SDP);
    let ok = b.take_response("INVITE", OTHER, 200);
    assert_eq!(ok.status(), 200);
    let other = Leg::of_caller(flow, &ok);
    b.acknowledge(&other, 1, "");
    hang_up(&mut b, BOB);
    assert_eq!(parties(&b), [("1002".to_owned(), "+14155550123".to_owned(), "answered")]);
    assert_eq!(b.open_legs.len(), 2);
    b.within(&trunk, "INVITE", 2, "", SDP);
    let hold = b.take_request("INVITE", OTHER);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    b.within(&other, "BYE", 2, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

#[test]
fn who_may_not_take_a_call_over_is_refused_and_the_call_goes_on() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let (alice, flow) = (from_alice(1000, 1), other_device(&mut b));
    b.register(alice, "alice");
    let bobs = replaces(&bob);
    for (from, replaces, status) in [
        (alice, bobs.as_str(), 403),
        (alice, replaces(&trunk).as_str(), 403),
        (flow, replaces(&trunk).as_str(), 403),
        (flow, "nowhere;to-tag=1;from-tag=2", 481),
        (flow, format!("{bobs}x").as_str(), 481),
        (flow, format!("{bobs};early-only").as_str(), 486),
        (flow, "nonsense", 400),
        (flow, format!("{bobs}\nReplaces: {bobs}").as_str(), 400),
    ] {
        take_over(&mut b, from, replaces);
        assert_eq!(b.take_response("INVITE", &from.remote.to_string(), 200).status(), status, "{replaces}");
    }
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, &format!("Replaces: {bobs}\n"));
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 403);
    assert!(b.find_request("INVITE", TRUNK).is_none() && b.find_request("BYE", BOB).is_none());
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

#[test]
fn a_ringing_call_cannot_be_replaced() {
    let mut b = office(CONFIG);
    b.trunk_calls_bob();
    let ringing = b.take_request("INVITE", BOB);
    b.answer(&ringing, 180, "bob", "", "");
    let flow = other_device(&mut b);
    take_over(&mut b, flow, &replaces(&Leg::of_callee(&ringing, "bob")));
    assert_eq!(b.take_response("INVITE", OTHER, 200).status(), 481);
    b.finish();
}

#[test]
fn a_call_that_is_not_taken_over_after_all_goes_on_as_it_was() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let flow = other_device(&mut b);
    // The other party cannot.
    take_over(&mut b, flow, &replaces(&bob));
    let reoffer = b.take_request("INVITE", TRUNK);
    b.answer(&reoffer, 488, "", "", "");
    assert_eq!(b.take_response("INVITE", OTHER, 200).status(), 488);
    // The user does not want to any more.
    take_over(&mut b, flow, &replaces(&bob));
    let branch = b.sent_branch();
    let reoffer = b.take_request("INVITE", TRUNK);
    let serial = b.serial - 1;
    let cancelled = Leg {
        flow,
        local: format!("<sip:bob@pbx.example.com>;tag={serial}"),
        remote: "<sip:1001@pbx.example.com>".to_owned(),
        call_id: format!("call-{serial}"),
    };
    b.cancel(&cancelled, 1, &branch);
    b.accept(&reoffer, "", SDP);
    let back = b.take_request("INVITE", TRUNK);
    b.accept(&back, "", SDP);
    assert!(b.find_request("BYE", BOB).is_none() && b.find_request("BYE", TRUNK).is_none());
    b.within(&trunk, "BYE", 2, "", "");
    hang_up(&mut b, BOB);
    b.finish();
}

// Emergencies (emergency RULES, section 10).

#[test]
fn a_device_referred_to_an_emergency_number_calls_it_as_its_own() {
    let mut b = office(CONFIG);
    let (alice, bob) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "<sip:911@pbx.example.com>");
    let to_trunk = b.take_request("INVITE", TRUNK);
    assert_eq!(to_trunk.1.header(Name::Priority), Some("emergency"));
    assert!(header(&to_trunk.1, Name::From).contains("+12025551002"), "Bob's callback number");
    assert!(header(&to_trunk.1, Name::ReferredBy).is_empty());
    b.accept(&to_trunk, "psap", SDP);
    let reoffer = b.take_request("INVITE", BOB);
    b.accept(&reoffer, "", SDP);
    hang_up(&mut b, ALICE_TCP);
    // It is an emergency call now: nobody takes a leg of it away.
    for (cseq, target) in [(1, "<sip:1003@pbx.example.com>"), (2, "<sip:911@pbx.example.com>")] {
        assert_eq!(refer(&mut b, &bob, cseq, target, "").status(), 403);
        let psap = Leg::of_callee(&to_trunk, "psap");
        assert_eq!(refer(&mut b, &psap, cseq, target, "").status(), 403);
    }
    b.within(&bob, "BYE", 3, "", "");
    hang_up(&mut b, TRUNK);
    assert!(b.cdrs.iter().any(|cdr| cdr.emergency && cdr.caller == "1002"));
    b.finish();
}

/// A bench whose web desk is told of emergency calls.
fn office_with_desk() -> Bench {
    let notify = "notify = [\"https://desk.example.com/hook\"]";
    office(&CONFIG.replace("[emergency]", &format!("[emergency]\n{notify}")))
}

fn outcomes(b: &Bench) -> Vec<Outcome> {
    b.notices.iter().map(|notice| notice.outcome).collect()
}

#[test]
fn an_emergency_call_by_referral_that_fails_is_told_and_counted_once() {
    // The trunk's stream cannot even be opened where it has no address: the call fails before it is on its way.
    let unreachable = CONFIG.replace("203.0.113.5", "unknown.example").replace("port = 5060\n", "");
    let notify = "[emergency]\nnotify = [\"https://desk.example.com/hook\"]";
    let mut b = office(&unreachable.replace("[emergency]", notify));
    let (alice, _) = alice_talks_to_bob(&mut b);
    assert_eq!(refer(&mut b, &alice, 2, "<sip:911@pbx.example.com>", "").status(), 202);
    assert_eq!((outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Failed], 1));
    b.within(&alice, "BYE", 3, "", "");
    b.finish();

    let mut b = office_with_desk();
    let (alice, _) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "<sip:911@pbx.example.com>");
    let to_trunk = b.take_request("INVITE", TRUNK);
    assert_eq!(outcomes(&b), [Outcome::Routed]);
    b.answer(&to_trunk, 486, "psap", "", "");
    assert_eq!((outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Routed, Outcome::Failed], 1));
    b.within(&alice, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_referral_whose_party_hangs_up_is_no_failed_emergency_call() {
    let mut b = office_with_desk();
    let (alice, bob) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "<sip:911@pbx.example.com>");
    b.take_request("INVITE", TRUNK);
    b.within(&bob, "BYE", 1, "", "");
    assert_eq!((outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Routed], 0));
    b.finish();
}

#[test]
fn a_device_that_cannot_take_an_emergency_call_over_is_no_failed_emergency_call() {
    let mut b = office_with_desk();
    let flow = other_device(&mut b);
    invite(&mut b, flow, "sip:911@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    let to_trunk = b.take_request("INVITE", TRUNK);
    b.accept(&to_trunk, "psap", SDP);
    let bob = Leg::of_caller(flow, &b.take_response("INVITE", OTHER, 200));
    b.acknowledge(&bob, 1, "");
    let again = from_alice(4000, 4);
    b.register(again, "bob");
    let extra = format!("Require: replaces\nReplaces: {}\n", replaces(&bob));
    let identity = ("<sip:bob@pbx.example.com>;tag=n", "<sip:1001@pbx.example.com>");
    b.request(again, ("INVITE", "sip:1001@pbx.example.com"), identity, ("newcomer", 1), (&extra, "no description"));
    assert_eq!(b.take_response("INVITE", "198.51.100.77:4000", 200).status(), 488);
    assert_eq!((outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Routed], 0));
    b.within(&bob, "BYE", 2, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}

/// Alice, on a connection, talks to the answering point and to Carol. Returns her legs and theirs.
fn alice_asks_carol_about_an_emergency(b: &mut Bench) -> ((Leg, Leg), (Leg, Leg)) {
    let flow = from_alice(1000, 1);
    b.register(flow, "alice");
    let emergency = call(b, flow, "911", TRUNK, "psap");
    (emergency, call(b, flow, "1003", CAROL, "carol"))
}

#[test]
fn an_answering_point_keeps_its_caller_until_the_caller_hangs_up() {
    for is_first in [true, false] {
        let mut b = office(CONFIG);
        let ((alice, psap), (second, carol)) = alice_asks_carol_about_an_emergency(&mut b);
        let (from, to) = if is_first { (&alice, &second) } else { (&second, &alice) };
        let target = format!("<sip:1003@pbx.example.com?Replaces={}>", escaped(&replaces(to)));
        assert_taken_on(&mut b, from, 2, &target);
        b.pass(20_000);
        assert!(b.find_request("INVITE", TRUNK).is_none() && b.find_request("INVITE", CAROL).is_none());
        b.within(&alice, "BYE", 3, "", "");
        assert!(b.find_request("BYE", TRUNK).is_none());
        let (first, then) = if is_first { (TRUNK, CAROL) } else { (CAROL, TRUNK) };
        for at in [first, then] {
            let reoffer = b.take_request("INVITE", at);
            b.accept(&reoffer, "", SDP);
        }
        assert_told(&mut b, ALICE_TCP, "SIP/2.0 200 OK");
        hang_up(&mut b, ALICE_TCP);
        assert!(b.core.calls().iter().any(|call| call.emergency && call.state == "answered"));
        // Its hold is still its own.
        b.sent.clear();
        b.within(&carol, "INVITE", 1, "", &format!("{SDP}a=sendonly\r\n"));
        assert_eq!(b.take_response("INVITE", CAROL, 200).status(), 200);
        assert!(b.find_request("INVITE", TRUNK).is_none());
        b.acknowledge(&carol, 1, "");
        b.within(&psap, "BYE", 1, "", "");
        hang_up(&mut b, CAROL);
        b.finish();
    }
}

#[test]
fn an_emergency_does_not_wait_for_another_transfer() {
    let mut b = office(CONFIG);
    let (alice, _) = alice_talks_to_bob(&mut b);
    assert_taken_on(&mut b, &alice, 2, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    b.answer(&to_carol, 180, "carol", "", "");
    assert_told(&mut b, ALICE_TCP, "SIP/2.0 180 Ringing");
    assert_taken_on(&mut b, &alice, 3, "<sip:112@pbx.example.com>");
    b.take_request("CANCEL", CAROL);
    b.take_request("INVITE", TRUNK);
    b.within(&alice, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn a_trunk_is_not_referred_to_an_emergency_number() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    let refusal = refer(&mut b, &bob, 1, "<sip:911@pbx.example.com>", "");
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "No Location For Emergency Call"));
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn without_a_trunk_the_referral_is_refused_with_the_explanation() {
    let mut b = office(&CONFIG.replace("pstn = true", "pstn = false"));
    let (alice, _) = alice_talks_to_bob(&mut b);
    let refusal = refer(&mut b, &alice, 2, "<sip:911@pbx.example.com>", "");
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Emergency Calls Not Available"));
    assert!(header(&refusal, Name::Warning).starts_with("399"));
    b.within(&alice, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn an_emergency_call_is_taken_over_by_its_own_user_only() {
    let mut b = office(CONFIG);
    let flow = other_device(&mut b);
    invite(&mut b, flow, "sip:911@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    let to_trunk = b.take_request("INVITE", TRUNK);
    b.accept(&to_trunk, "psap", SDP);
    let bob = Leg::of_caller(flow, &b.take_response("INVITE", OTHER, 200));
    b.acknowledge(&bob, 1, "");
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    take_over(&mut b, alice, &replaces(&bob));
    assert_eq!(b.take_response("INVITE", ALICE_TCP, 200).status(), 403);
    let again = from_alice(4000, 4);
    b.register(again, "bob");
    take_over(&mut b, again, &replaces(&bob));
    let reoffer = b.take_request("INVITE", TRUNK);
    b.accept(&reoffer, "", SDP);
    let ok = b.take_response("INVITE", "198.51.100.77:4000", 200);
    assert_eq!(ok.status(), 200);
    let bob = Leg::of_caller(again, &ok);
    b.acknowledge(&bob, 1, "");
    hang_up(&mut b, OTHER);
    assert!(b.core.calls().iter().all(|call| call.emergency || call.state == "ending"));
    b.within(&bob, "BYE", 2, "", "");
    hang_up(&mut b, TRUNK);
    b.finish();
}
