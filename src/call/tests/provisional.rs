//! Reliable provisional responses (RFC 3262), message by message.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, Leg, SDP, TRUNK, udp};
use crate::{
    types::{ConnectionId, Flow, Transport},
    wire::sip::{Message, Name},
};

const REQUIRED: &str = "Require: 100rel\n";
const SUPPORTED: &str = "Supported: 100rel\n";

/// The trunk calls Bob; both INVITEs to him.
fn call(b: &mut Bench, extra: &str, body: &str) -> [(Flow, Message); 2] {
    b.request(
        udp(TRUNK),
        ("INVITE", "sip:+12025551002@pbx.example.com"),
        ("<sip:+14155550123@203.0.113.5>;tag=trunk", "<sip:+12025551002@pbx.example.com>"),
        ("trunk-call", 1),
        (extra, body),
    );
    [b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO)]
}

/// Headers of a branch's reliable response.
fn reliable(rseq: u32) -> String {
    format!("Contact: <sip:peer@198.51.100.2>\nRequire: 100rel\nRSeq: {rseq}\n")
}

fn rseq(response: &Message) -> Option<u32> {
    let is_required = response.values(Name::Require).any(|tag| tag == "100rel");
    response.header(Name::RSeq).filter(|_| is_required).map(|value| value.parse().unwrap())
}

/// The caller acknowledges a response; the status it hears.
fn prack(b: &mut Bench, leg: &Leg, cseq: u32, response: &Message, body: &str) -> Message {
    let rack = format!("RAck: {} 1 INVITE\n", rseq(response).unwrap());
    b.within(leg, "PRACK", cseq, &rack, body);
    b.take_response("PRACK", &leg.flow.remote.to_string(), 200)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

fn responses(b: &Bench, status: u16) -> usize {
    b.sent.iter().filter(|(_, m)| !m.is_request() && m.status() == status).count()
}

// Towards the caller.

#[test]
fn a_caller_that_requires_it_hears_each_ringing_reliably_and_in_turn() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, REQUIRED, SDP);
    b.answer(&first, 180, "one", "", "");
    let ringing = b.take_response("INVITE", TRUNK, 101);
    let number = rseq(&ringing).unwrap();
    assert!(number > 0 && number <= i32::MAX.unsigned_abs(), "RFC 3262 section 3: {number}");
    b.answer(&second, 183, "two", "", "");
    assert_eq!(responses(&b, 183), 0, "the next waits for the PRACK");
    b.pass(1600);
    assert_eq!(responses(&b, 180), 2, "repeated after 500 and 1500 ms");
    assert!(b.sent.iter().filter(|(_, m)| m.status() == 180).all(|(_, m)| m.bytes() == ringing.bytes()));
    b.sent.clear();
    let trunk = Leg::of_caller(udp(TRUNK), &ringing);
    let wrong = number + 1;
    for (cseq, rack) in (2..).zip([
        format!("RAck: {wrong} 1 INVITE\n"),
        format!("RAck: {number} 2 INVITE\n"),
        format!("RAck: {number} 1 REGISTER\n"),
        format!("RAck: {number} 1 INVITE INVITE\n"),
        "RAck: x\n".to_owned(),
        String::new(),
    ]) {
        b.within(&trunk, "PRACK", cseq, &rack, "");
        assert_eq!(b.take_response("PRACK", TRUNK, 200).status(), 481, "{rack}");
    }
    assert_eq!(responses(&b, 183), 0);
    assert_eq!(prack(&mut b, &trunk, 10, &ringing, "").status(), 200);
    let progress = b.take_response("INVITE", TRUNK, 183);
    assert_eq!(rseq(&progress), Some(number + 1));
    assert_eq!(prack(&mut b, &trunk, 11, &ringing, "").status(), 481, "acknowledged before");
    assert_eq!(prack(&mut b, &trunk, 12, &progress, "").status(), 200);
    b.sent.clear();
    b.pass(10_000);
    assert_eq!(responses(&b, 183), 0, "no more repetitions");
    b.accept(&first, "one", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(rseq(&ok).is_none() && !ok.body().is_empty());
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 13, "", "");
    b.finish();
}

#[test]
fn without_a_prack_the_call_ends_with_504_after_64_t1() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, REQUIRED, SDP);
    b.answer(&first, 180, "one", "", "");
    b.pass(31_900);
    assert_eq!(responses(&b, 180), 7, "at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s");
    b.sent.clear();
    b.pass(200);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 504);
    b.take_request("CANCEL", BOB);
    b.finish();
}

#[test]
fn a_200_may_overtake_a_ringing_without_session_description() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, REQUIRED, SDP);
    b.answer(&first, 180, "one", "", "");
    let ringing = b.take_response("INVITE", TRUNK, 101);
    b.accept(&first, "one", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.sent.clear();
    b.pass(100);
    assert_eq!(prack(&mut b, &trunk, 2, &ringing, "").status(), 200, "a PRACK that crossed it");
    b.acknowledge(&trunk, 1, "");
    b.pass(40_000);
    assert_eq!(responses(&b, 180), 0);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_caller_that_supports_it_hears_early_media_reliably_and_the_200_waits_for_its_prack() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, SUPPORTED, SDP);
    b.answer(&first, 180, "one", "", "");
    assert_eq!(rseq(&b.take_response("INVITE", TRUNK, 101)), None, "it can do without");
    b.answer(&first, 183, "one", "", SDP);
    let early = b.take_response("INVITE", TRUNK, 183);
    assert!(rseq(&early).is_some() && text(&early).contains("m=audio"));
    b.accept(&first, "one", SDP);
    b.accept(&second, "two", SDP);
    b.accept(&first, "one", SDP);
    assert_eq!(responses(&b, 200), 0, "RFC 3262 section 3");
    assert_eq!(b.core.live_calls(), 1);
    let trunk = Leg::of_caller(udp(TRUNK), &early);
    assert_eq!(prack(&mut b, &trunk, 2, &early, "").status(), 200);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.body().is_empty(), "it was said reliably");
    b.take_request("ACK", BOB);
    b.take_request("ACK", BOB_TOO);
    b.take_request("BYE", BOB_TOO);
    b.acknowledge(&trunk, 1, "");
    assert!(b.find_request("BYE", BOB).is_none());
    b.within(&trunk, "BYE", 3, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_caller_that_cancels_while_the_200_waits_leaves_no_callee_behind() {
    for is_cancelled in [true, false] {
        let mut b = Bench::new();
        let [first, _] = call(&mut b, SUPPORTED, SDP);
        let branch = b.sent_branch();
        b.answer(&first, 183, "one", "", SDP);
        let early = b.take_response("INVITE", TRUNK, 183);
        b.accept(&first, "one", SDP);
        if is_cancelled {
            let trunk = Leg::of_caller(udp(TRUNK), &early);
            b.cancel(&Leg { remote: "<sip:+12025551002@pbx.example.com>".to_owned(), ..trunk }, 1, &branch);
            assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
        } else {
            b.sent.clear();
            b.pass(33_000);
            assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 504);
        }
        b.take_request("ACK", BOB);
        let bye = b.take_request("BYE", BOB);
        b.answer(&bye, 200, "", "", "");
        b.finish();
    }
}

#[test]
fn a_caller_that_knows_nothing_of_it_hears_ringing_as_ever() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "", SDP);
    b.answer(&first, 183, "one", "", SDP);
    let early = b.take_response("INVITE", TRUNK, 183);
    assert!(early.header(Name::RSeq).is_none() && early.header(Name::Require).is_none());
    let trunk = Leg::of_caller(udp(TRUNK), &early);
    b.within(&trunk, "PRACK", 2, "RAck: 1 1 INVITE\n", "");
    assert_eq!(b.take_response("PRACK", TRUNK, 200).status(), 481);
    b.accept(&first, "one", SDP);
    assert!(!b.take_response("INVITE", TRUNK, 200).body().is_empty());
    b.finish();
}

#[test]
fn a_new_offer_in_a_prack_is_answered_or_refused() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, SUPPORTED, SDP);
    b.answer(&first, 183, "one", "", SDP);
    let early = b.take_response("INVITE", TRUNK, 183);
    let trunk = Leg::of_caller(udp(TRUNK), &early);
    let answer = prack(&mut b, &trunk, 2, &early, &SDP.replace("4000", "4010"));
    assert_eq!(answer.status(), 200);
    assert!(text(&answer).contains("m=audio 2") && text(&answer).contains("AVP 0"), "{}", text(&answer));

    let mut b = Bench::new();
    let [first, _] = call(&mut b, SUPPORTED, SDP);
    b.answer(&first, 183, "one", "", SDP);
    let early = b.take_response("INVITE", TRUNK, 183);
    let refusal = prack(&mut b, &trunk, 2, &early, "nonsense");
    assert_eq!(refusal.status(), 488);
    assert!(refusal.header(Name::Warning).is_some_and(|w| w.contains("cannot be read")));
    // It was acknowledged all the same.
    b.accept(&first, "one", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.finish();
}

#[test]
fn in_an_emergency_only_what_is_required_is_reliable_and_a_missing_prack_ends_nothing() {
    for (extra, is_reliable) in [(SUPPORTED, false), (REQUIRED, true)] {
        let mut b = Bench::new();
        let (uri, to) = ("sip:911@pbx.example.com", "<sip:911@pbx.example.com>");
        let from = "<sip:alice@pbx.example.com>;tag=a";
        b.request(udp(ALICE), ("INVITE", uri), (from, to), ("help", 1), (extra, SDP));
        let invite = b.take_request("INVITE", TRUNK);
        b.answer(&invite, 183, "psap", &reliable(1), SDP);
        b.take_request("PRACK", TRUNK);
        let early = b.take_response("INVITE", ALICE, 183);
        assert_eq!(rseq(&early).is_some(), is_reliable);
        b.accept(&invite, "psap", "");
        if is_reliable {
            assert_eq!(responses(&b, 200), 0);
            b.sent.clear();
            b.pass(32_100);
        }
        let alice = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
        b.acknowledge(&alice, 1, "");
        assert_eq!(b.core.live_calls(), 1);
        b.within(&alice, "BYE", 2, "", "");
        let bye = b.take_request("BYE", TRUNK);
        b.answer(&bye, 200, "", "", "");
        b.finish();
    }
}

// Towards the branches.

#[test]
fn reliable_responses_are_acknowledged_once_in_order_and_each_in_its_own_dialog() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "", SDP);
    assert!(first.1.values(Name::Supported).any(|tag| tag == "100rel"));
    b.answer(&first, 180, "one", &reliable(7), "");
    let prack = b.take_request("PRACK", BOB).1;
    assert_eq!((prack.header(Name::RAck), prack.header(Name::CSeq)), (Some("7 1 INVITE"), Some("2 PRACK")));
    assert_eq!((prack.to_tag(), prack.request_uri()), (Some("one"), "sip:peer@198.51.100.2"));
    b.take_response("INVITE", TRUNK, 180);
    b.answer(&first, 180, "one", &reliable(7), "");
    b.answer(&first, 183, "one", &reliable(9), SDP);
    assert!(b.find_request("PRACK", BOB).is_none(), "repeated, and out of order");
    assert_eq!(responses(&b, 180) + responses(&b, 183), 0, "{}", b.told());
    b.answer(&first, 183, "one", &reliable(8), SDP);
    assert_eq!(b.take_request("PRACK", BOB).1.header(Name::RAck), Some("8 1 INVITE"));
    // A proxy of Bob's has forked.
    b.answer(&first, 180, "two", &reliable(1), "");
    let prack = b.take_request("PRACK", BOB).1;
    assert_eq!((prack.header(Name::RAck), prack.to_tag()), (Some("1 1 INVITE"), Some("two")));
    b.accept(&first, "two", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    assert_eq!((bye.1.header(Name::CSeq), bye.1.to_tag()), (Some("5 BYE"), Some("two")), "higher than any PRACK");
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_response_that_is_not_reliable_needs_no_prack() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "", SDP);
    for extra in ["RSeq: 1\n", "Require: 100rel\n", "Require: 100rel\nRSeq: 0\n", "Require: 100rel\nRSeq: x\n"] {
        b.answer(&first, 180, "one", extra, "");
        assert_eq!(b.take_response("INVITE", TRUNK, 180).status(), 180);
    }
    assert!(b.find_request("PRACK", BOB).is_none());
    b.answer(&first, 486, "one", "", "");
    b.finish();
}

#[test]
fn an_answer_in_a_reliable_response_is_final_in_its_dialog() {
    for (tag, is_corrected) in [("one", false), ("two", true)] {
        let mut b = Bench::new();
        let offer = SDP.replace("AVP 0", "AVP 0 8");
        let [first, _] = call(&mut b, "", &offer);
        b.answer(&first, 183, "one", &reliable(1), SDP);
        b.accept(&first, tag, &SDP.replace("AVP 0", "AVP 8"));
        let ok = b.take_response("INVITE", TRUNK, 200);
        assert!(text(&ok).contains("RTP/AVP 0\r\n"));
        let trunk = Leg::of_caller(udp(TRUNK), &ok);
        b.acknowledge(&trunk, 1, "");
        assert_eq!(b.find_request("INVITE", TRUNK).is_some(), is_corrected, "{tag}");
        b.within(&trunk, "BYE", 2, "", "");
        b.finish();
    }
}

#[test]
fn of_several_early_dialogs_of_a_branch_the_one_that_answers_counts() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "", &SDP.replace("AVP 0", "AVP 0 8"));
    b.answer(&first, 183, "one", &reliable(1), SDP);
    b.answer(&first, 183, "two", &reliable(1), &SDP.replace("AVP 0", "AVP 8"));
    b.accept(&first, "one", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(text(&ok).contains("RTP/AVP 0\r\n"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    assert!(b.find_request("INVITE", TRUNK).is_none(), "what the caller was told is what holds");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_branch_whose_final_early_answer_is_unusable_is_cancelled() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, "", SDP);
    b.answer(&second, 486, "two", "", "");
    b.answer(&first, 183, "one", &reliable(1), "nonsense");
    b.take_request("PRACK", BOB);
    b.take_request("CANCEL", BOB);
    b.answer(&first, 487, "one", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 486);
    b.finish();
}

#[test]
fn a_trunk_that_challenges_a_prack_is_shown_the_password_once() {
    const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"one\", qop=\"auth\"\n";
    let mut b = Bench::new();
    let flow = Flow { transport: Transport::Tcp, connection: ConnectionId(1), ..udp(ALICE) };
    b.register(flow, "alice");
    let uri = "sip:92025550177@pbx.example.com";
    b.request(flow, ("INVITE", uri), ("<sip:alice@pbx.example.com>;tag=a", "<sip:out>"), ("out", 1), ("", SDP));
    let invite = b.take_request("INVITE", TRUNK);
    b.answer(&invite, 183, "t", &reliable(3), SDP);
    let bare = b.take_request("PRACK", TRUNK);
    assert!(bare.1.header(Name::ProxyAuthorization).is_none());
    b.answer(&bare, 407, "", CHALLENGE, "");
    let shown = b.take_request("PRACK", TRUNK);
    assert!(shown.1.header(Name::ProxyAuthorization).is_some_and(|value| value.contains("nonce=\"one\"")));
    assert_eq!((shown.1.header(Name::RAck), shown.1.header(Name::CSeq)), (bare.1.header(Name::RAck), Some("3 PRACK")));
    b.answer(&shown, 407, "", &CHALLENGE.replace("one", "two"), "");
    assert!(b.find_request("PRACK", TRUNK).is_none(), "the password is wrong");
    b.accept(&invite, "t", "");
    let alice = Leg::of_caller(flow, &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&alice, 1, "");
    b.within(&alice, "BYE", 2, "", "");
    let bye = b.take_request("BYE", TRUNK);
    assert_eq!(bye.1.header(Name::CSeq), Some("4 BYE"));
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

// Without an offer of the caller.

const OFFER: &str = "v=0\r\no=- 7 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 8 0\r\n";
const ANSWER: &str = "v=0\r\no=- 9 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
                      m=audio 6000 RTP/AVP 8\r\n";

#[test]
fn an_early_offer_of_the_callee_is_answered_in_the_callers_prack() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, SUPPORTED, "");
    assert!(first.1.values(Name::Supported).any(|tag| tag == "100rel"));
    b.answer(&first, 183, "one", &reliable(5), OFFER);
    let early = b.take_response("INVITE", TRUNK, 183);
    assert!(text(&early).contains("RTP/AVP 8 0") && rseq(&early).is_some());
    assert!(b.find_request("PRACK", BOB).is_none(), "the answer is still to come");
    // The other one offers, too, and must wait: it will say so again.
    b.answer(&second, 183, "two", &reliable(1), OFFER);
    assert!(b.find_request("PRACK", BOB_TOO).is_none());
    let trunk = Leg::of_caller(udp(TRUNK), &early);
    assert_eq!(prack(&mut b, &trunk, 2, &early, ANSWER).status(), 200);
    let to_first = b.take_request("PRACK", BOB).1;
    assert_eq!(to_first.header(Name::RAck), Some("5 1 INVITE"));
    assert!(text(&to_first).contains("RTP/AVP 8\r\n") && !text(&to_first).contains("203.0.113"));
    assert_eq!(b.joined.len(), 1);
    b.answer(&second, 183, "two", &reliable(1), OFFER);
    assert!(text(&b.take_request("PRACK", BOB_TOO).1).contains("RTP/AVP 8\r\n"));
    assert_eq!(b.joined.len(), 1, "the caller hears the first");
    b.accept(&second, "two", "");
    assert!(b.take_request("ACK", BOB_TOO).1.body().is_empty());
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.body().is_empty());
    b.acknowledge(&trunk, 1, "");
    assert_eq!(b.joined.len(), 2);
    assert_eq!(b.open_legs.len(), 2);
    b.within(&trunk, "BYE", 3, "", "");
    let bye = b.take_request("BYE", BOB_TOO);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_callee_that_offers_in_its_200_after_the_caller_has_answered_another_gets_its_answer_at_once() {
    for (offer, is_common) in [(OFFER, true), (&OFFER.replace("8 0", "0"), false)] {
        let mut b = Bench::new();
        let [first, second] = call(&mut b, SUPPORTED, "");
        b.answer(&first, 183, "one", &reliable(5), OFFER);
        let early = b.take_response("INVITE", TRUNK, 183);
        let trunk = Leg::of_caller(udp(TRUNK), &early);
        // The 200 may even come before the caller has answered.
        b.accept(&second, "two", offer);
        assert_eq!(prack(&mut b, &trunk, 2, &early, ANSWER).status(), 200);
        let ack = text(&b.take_request("ACK", BOB_TOO).1);
        if is_common {
            assert!(ack.contains("RTP/AVP 8\r\n"), "{ack}");
            assert!(b.take_response("INVITE", TRUNK, 200).body().is_empty());
            b.acknowledge(&trunk, 1, "");
        } else {
            assert!(ack.contains("m=audio 0"), "{ack}");
            b.take_request("BYE", BOB_TOO);
            assert_eq!(responses(&b, 200), 0, "the first still rings");
            b.accept(&first, "one", "");
            b.take_response("INVITE", TRUNK, 200);
            b.acknowledge(&trunk, 1, "");
        }
        b.within(&trunk, "BYE", 3, "", "");
        b.finish();
    }
}

#[test]
fn a_prack_that_owes_an_answer_and_has_none_ends_the_call() {
    for body in ["", "nonsense"] {
        let mut b = Bench::new();
        let [first, _] = call(&mut b, SUPPORTED, "");
        b.answer(&first, 183, "one", &reliable(5), OFFER);
        let early = b.take_response("INVITE", TRUNK, 183);
        let trunk = Leg::of_caller(udp(TRUNK), &early);
        assert_eq!(prack(&mut b, &trunk, 2, &early, body).status(), 200);
        let refusal = b.take_response("INVITE", TRUNK, 200);
        assert_eq!(refusal.status(), 488);
        assert!(refusal.header(Name::Warning).is_some());
        b.take_request("CANCEL", BOB);
        b.answer(&first, 487, "one", "", "");
        b.finish();
    }
}

#[test]
fn a_caller_who_could_not_answer_early_is_spared_early_offers() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "", "");
    assert!(first.1.values(Name::Supported).all(|tag| tag != "100rel"));
    b.answer(&first, 183, "one", "", OFFER);
    assert!(b.take_response("INVITE", TRUNK, 183).body().is_empty(), "no offer outside a reliable response");
    b.accept(&first, "one", OFFER);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, ANSWER);
    assert!(text(&b.take_request("ACK", BOB).1).contains("AVP 8"));
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_caller_that_requires_it_and_offers_nothing_hears_no_ringing_before_there_is_an_offer() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, REQUIRED, "");
    b.answer(&first, 180, "one", "", "");
    assert_eq!(responses(&b, 180), 0, "RFC 3261 section 13.2.1");
    b.answer(&first, 183, "one", &reliable(1), OFFER);
    assert!(rseq(&b.take_response("INVITE", TRUNK, 183)).is_some());
    b.answer(&first, 486, "one", "", "");
    b.finish();
}
