//! Text messages between users (RFC 3428).

use super::{ALICE_FROM, BOBS_LINE, Input, TRUNK_FROM, bench::*, from_alice, from_stream};
use crate::{
    types::{
        Flow, Transport,
        limits::{MESSAGE_BODY_BYTES_MAX, MESSAGES_PER_SENDER_MAX},
    },
    wire::sip::{Message, Name},
};

/// A MESSAGE without Contact, as RFC 3428 wants it.
fn text_from(b: &mut Bench, flow: Flow, uri: &str, from: &str, extra: &str, body: &str) {
    b.serial += 1;
    let serial = b.serial;
    let head = format!(
        "MESSAGE {uri} SIP/2.0\nVia: SIP/2.0/{} {};branch=z9hG4bK-{serial}\nMax-Forwards: 70\nFrom: {from};tag={serial}\n\
         To: <{uri}>\nCall-ID: message-{serial}\nCSeq: 1 MESSAGE\n{extra}Content-Type: text/plain\nContent-Length: {}\n\n",
        flow.transport.via_token(),
        flow.remote,
        body.len()
    );
    b.input(Input::Received { flow, bytes: format!("{}{body}", head.replace('\n', "\r\n")).into() });
}

/// Alice, registered over TCP, texts Bob. Returns her flow, her address, and what Bob's two devices got.
fn alice_texts_bob(b: &mut Bench) -> (Flow, String, [(Flow, Message); 2]) {
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    text_from(
        b,
        alice,
        "sip:1002@pbx.example.com",
        "\"Boss\" <sip:1002@pbx.example.com>",
        "Subject: Lunch\nX-Canary: 1\n",
        "Hi",
    );
    let sent = [b.take_request("MESSAGE", BOB), b.take_request("MESSAGE", BOB_TOO)];
    (alice, alice.remote.to_string(), sent)
}

#[test]
fn a_message_reaches_every_device_and_the_first_2xx_is_the_answer() {
    let mut b = Bench::new();
    let (_, alice, [first, second]) = alice_texts_bob(&mut b);
    for (_, message) in [&first, &second] {
        assert!(message.header(Name::From).is_some_and(|from| from.starts_with("<sip:1001@pbx.example.com>;tag=")));
        assert_eq!(message.header(Name::PAssertedIdentity), Some("<sip:1001@pbx.example.com>"));
        assert_eq!(message.header(Name::To), Some("<sip:bob@pbx.example.com>"));
        assert_eq!(message.header(Name::ContentType), Some("text/plain"));
        assert_eq!((message.header(Name::MaxForwards), message.header(Name::Subject)), (Some("69"), Some("Lunch")));
        assert_eq!(message.body(), "Hi");
        let text = String::from_utf8_lossy(message.bytes());
        for leak in ["Boss", "Canary", "198.51.100.77", "message-", "Contact"] {
            assert!(!text.contains(leak), "{leak} in {text}");
        }
    }
    assert_ne!(first.1.call_id(), second.1.call_id());
    b.answer(&first, 486, "x", "", "");
    assert!(b.sent.iter().all(|(_, m)| m.method_text() != "MESSAGE"), "one device is not the last word");
    b.answer(&second, 202, "y", "", "");
    assert_eq!(b.take_response("MESSAGE", &alice, 200).status(), 202);
    b.finish();
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut b = Bench::new();
    let (_, alice, [first, second]) = alice_texts_bob(&mut b);
    b.answer(&first, 200, "x", "", "");
    assert_eq!(b.take_response("MESSAGE", &alice, 200).status(), 200);
    b.answer(&second, 603, "y", "", "");
    b.pass(40_000);
    assert!(b.sent.iter().all(|(flow, _)| flow.remote.to_string() != alice), "{}", b.told());
    b.finish();
}

#[test]
fn a_message_that_nobody_takes_is_refused_truthfully_and_in_time() {
    let mut b = Bench::new();
    let (_, alice, [first, second]) = alice_texts_bob(&mut b);
    b.answer(&first, 415, "x", "", "");
    b.answer(&second, 488, "y", "", "");
    assert_eq!(b.take_response("MESSAGE", &alice, 200).status(), 415);
    // Silence: answered before the sender's own timer F ends, and not with 408 (RFC 4320).
    b.sent.clear();
    text_from(&mut b, from_alice(1000, 1), "sip:1002@pbx.example.com", ALICE_FROM, "", "Hi");
    b.pass(31_500);
    assert_eq!(b.take_response("MESSAGE", &alice, 200).status(), 480);
    b.finish();
}

#[test]
fn nobody_unknown_sends_and_nobody_unregistered_receives() {
    let mut b = Bench::new();
    text_from(&mut b, udp(ALICE), "sip:1002@pbx.example.com", ALICE_FROM, "", "Hi");
    assert_eq!(b.take_response("MESSAGE", ALICE, 200).status(), 407);
    assert!(b.find_request("MESSAGE", BOB).is_none());
    let flow = from_alice(1000, 1);
    let alice = flow.remote.to_string();
    b.register(flow, "alice");
    for (uri, status) in [
        ("sip:1009@pbx.example.com", 404),
        ("sip:92025550177@pbx.example.com", 404),
        ("sip:bob@elsewhere.example", 404),
        ("mailto:bob@pbx.example.com", 416),
        ("sips:1002@pbx.example.com", 480),
    ] {
        text_from(&mut b, flow, uri, ALICE_FROM, "", "Hi");
        assert_eq!(b.take_response("MESSAGE", &alice, 200).status(), status, "{uri}");
    }
    assert!(b.find_request("MESSAGE", TRUNK).is_none());
    b.finish();
}

#[test]
fn a_message_to_an_emergency_number_says_to_call_instead_and_goes_nowhere() {
    let mut b = Bench::new();
    for uri in ["sip:911@pbx.example.com", "sip:9-1-1@pbx.example.com", "urn:service:sos"] {
        text_from(&mut b, udp(ALICE), uri, ALICE_FROM, "Require: x\n", "Help");
        let refusal = b.take_response("MESSAGE", ALICE, 200);
        assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Texting Not Supported"), "{uri}");
    }
    assert!(b.find_request("MESSAGE", TRUNK).is_none());
    b.finish();
}

#[test]
fn a_trunk_texts_direct_lines_and_its_caller_may_stay_anonymous() {
    let mut b = Bench::new();
    text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "Privacy: id\nSubject: from +14155550123\n", "Hi");
    let message = b.take_request("MESSAGE", BOB);
    assert!(!String::from_utf8_lossy(message.1.bytes()).contains("+1415"));
    b.answer(&message, 200, "x", "", "");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 200);
    text_from(&mut b, udp(TRUNK), "sip:1002@pbx.example.com", TRUNK_FROM, "", "Hi");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 404);
    b.finish();
}

#[test]
fn a_secure_message_reaches_devices_over_tls_only() {
    let mut b = Bench::new();
    let secure = Flow { transport: Transport::Tls, local: "192.0.2.1:5061".parse().unwrap(), ..from_stream(9) };
    b.register(secure, "bob");
    text_from(&mut b, udp(TRUNK), "sips:+12025551002@pbx.example.com", TRUNK_FROM, "", "Hi");
    let message = b.take_request("MESSAGE", "203.0.113.6:40000");
    assert!(b.find_request("MESSAGE", BOB).is_none());
    b.answer(&message, 200, "x", "", "");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 200);
}

#[test]
fn a_body_at_its_limit_passes_and_one_byte_more_is_413() {
    let mut b = Bench::new();
    let send = |b: &mut Bench, bytes: usize| {
        text_from(b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "", &"x".repeat(bytes));
    };
    send(&mut b, MESSAGE_BODY_BYTES_MAX);
    assert_eq!(b.take_request("MESSAGE", BOB).1.body().len(), MESSAGE_BODY_BYTES_MAX);
    b.sent.clear();
    send(&mut b, MESSAGE_BODY_BYTES_MAX + 1);
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 413);
    assert!(b.find_request("MESSAGE", BOB).is_none());
    text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "Require: x\n", "x");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 420);
    text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "Content-Encoding: gzip\n", "x");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 415);
    text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "", "");
    assert!(b.take_request("MESSAGE", BOB).1.body().is_empty());
    b.finish();
}

#[test]
fn one_sender_has_only_so_many_messages_on_their_way() {
    let mut b = Bench::new();
    let alice = from_alice(1000, 1);
    b.register(alice, "alice");
    for _ in 0..=MESSAGES_PER_SENDER_MAX {
        text_from(&mut b, alice, "sip:1002@pbx.example.com", ALICE_FROM, "", "Hi");
    }
    let refusal = b.take_response("MESSAGE", &alice.remote.to_string(), 200);
    assert_eq!((refusal.status(), refusal.header(Name::RetryAfter)), (503, Some("5")));
    let delivered = b.sent.iter().filter(|(flow, m)| m.is_request() && flow.remote == udp(BOB).remote).count();
    assert_eq!(delivered, MESSAGES_PER_SENDER_MAX);
    text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "", "Hi");
    assert!(b.find_request("MESSAGE", BOB).is_some(), "another sender is not held up");
    b.finish();
}

#[test]
fn the_server_has_only_so_many_messages_on_their_way() {
    let mut b = Bench::new();
    b.core.lower_limits(2, 1);
    for status in [None, None, Some(503)] {
        text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "", "Hi");
        let refusal = b.sent.iter().find(|(_, m)| m.status() >= 200).map(|(_, m)| m.status());
        assert_eq!(refusal, status);
    }
    b.finish();
}

#[test]
fn a_message_within_a_call_passes_to_the_other_leg() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "MESSAGE", 2, "", "body");
    let message = b.take_request("MESSAGE", BOB);
    assert_eq!(message.1.body(), "body");
    assert_eq!(message.1.header(Name::Contact), None);
    b.answer(&message, 200, "", "", "");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 200);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

// Loops (RFC 3261 section 16.3, RFC 5393).

#[test]
fn a_message_that_has_come_too_far_goes_no_further() {
    let mut b = Bench::new();
    let send = |b: &mut Bench, hops: &str| {
        b.serial += 1;
        let serial = b.serial;
        let head = format!(
            "MESSAGE {BOBS_LINE} SIP/2.0\nVia: SIP/2.0/UDP {TRUNK};branch=z9hG4bK-{serial}\n{hops}From: {TRUNK_FROM};tag=1\n\
             To: <{BOBS_LINE}>\nCall-ID: far-{serial}\nCSeq: 1 MESSAGE\n"
        );
        b.receive(udp(TRUNK), &head, "");
    };
    for (hops, status) in [("Max-Forwards: 0\n", 483), ("Max-Forwards: 70\nMax-Breadth: 0\n", 440)] {
        send(&mut b, hops);
        assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), status);
        assert!(b.find_request("MESSAGE", BOB).is_none());
    }
    send(&mut b, "Max-Forwards: 1\n");
    assert_eq!(b.take_request("MESSAGE", BOB).1.header(Name::MaxForwards), Some("0"));
}

#[test]
fn the_devices_of_a_receiver_share_the_breadth_that_the_sender_allows() {
    for (allowed, sent, each) in [("", 2, "30"), ("Max-Breadth: 7\n", 2, "3"), ("Max-Breadth: 1\n", 1, "1")] {
        let mut b = Bench::new();
        text_from(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, allowed, "Hi");
        let out: Vec<_> = b.sent.iter().filter(|(_, m)| m.is_request()).collect();
        assert_eq!(out.len(), sent, "{allowed}");
        assert!(out.iter().all(|(_, m)| m.header_text("Max-Breadth") == Some(each)), "{allowed}");
    }
}
