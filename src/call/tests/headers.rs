//! Topology hiding: a canary stands in every header of every message of one leg, and none may reach the other.

use super::{ALICE_FROM, Input, bench::*, from_alice};
use crate::wire::sip::{Message, Name};

/// What a proxy before the sender adds to a request.
const VIA: &str = "Via: SIP/2.0/UDP canary-via.example;branch=z9hG4bKcanary\n";

/// Headers with a canary in each, and those that may pass, marked `welcome`.
const HEADERS: &str = "Record-Route: <sip:canary@10.77.0.1;lr>\n\
    User-Agent: canary\nServer: canary\nOrganization: canary\nReply-To: <sip:canary@10.77.0.1>\nIn-Reply-To: canary\n\
    P-Asserted-Identity: <sip:canary@10.77.0.1>\nP-Preferred-Identity: <sip:canary@10.77.0.1>\n\
    Remote-Party-ID: <sip:canary@10.77.0.1>\nP-Access-Network-Info: canary\nP-Charging-Vector: icid-value=canary\n\
    Diversion: <sip:canary@10.77.0.1>\nHistory-Info: <sip:canary@10.77.0.1>;index=1\nReferred-By: <sip:canary@10.77.0.1>\n\
    Geolocation: <sip:canary@10.77.0.1>\nDate: Sat, 13 Nov 2010 23:29:00 GMT\nTimestamp: 1\nError-Info: <sip:canary@10.77.0.1>\n\
    Warning: 399 canary \"canary\"\nContent-Disposition: canary\nContent-Language: canary\nMIME-Version: 1.0\n\
    User-to-User: canary\nIdentity: canary\nX-Canary: canary\nSession-ID: canary\nRecv-Info: canary\nAllow-Events: canary\n\
    Authentication-Info: nextnonce=\"canary\"\nCall-Info: <http://10.77.0.1/canary>\nAlert-Info: <http://10.77.0.1/canary>\n\
    Call-Info: <https://welcome.example/>\nAlert-Info: <urn:alert:source:external>\nAccept-Language: welcome\n\
    Subject: welcome\n";

/// Neither a canary nor any of `others`, except in the headers of a response that are the request's own.
fn assert_clean(message: &Message, others: &[&str]) {
    let text = String::from_utf8_lossy(message.bytes()).into_owned();
    let echoed = ["Via:", "From:", "To:", "Call-ID:", "Record-Route:"];
    let is_echo = |line: &str| !message.is_request() && echoed.iter().any(|name| line.starts_with(name));
    for line in text.lines().filter(|line| !is_echo(line)) {
        for canary in ["canary", "Canary", "10.77.0.1", "198.51.100.9"].iter().chain(others) {
            assert!(!line.contains(canary), "{canary} in\n{text}");
        }
    }
}

/// Names of the headers that may pass and did.
fn passed(message: &Message) -> Vec<&'static str> {
    let has = |name: &&str| message.all().any(|(written, _, value)| written == *name && !value.is_empty());
    ["Call-Info", "Alert-Info", "Accept-Language", "Subject"].into_iter().filter(has).collect()
}

#[test]
fn nothing_of_one_leg_reaches_the_other_but_what_is_listed() {
    let mut b = Bench::new();
    let alice = from_alice(1000, 1);
    let address = alice.remote.to_string();
    b.register(alice, "alice");
    let from = "\"canary\" <sip:alice@pbx.example.com>;tag=canary";
    let to = ("INVITE", "sip:1002@pbx.example.com");
    let headers = format!("{VIA}{HEADERS}");
    b.request(alice, to, (from, "\"canary\" <sip:1002@pbx.example.com>"), ("canary-call", 1), (&headers, SDP));
    let invite = b.take_request("INVITE", BOB);
    assert_clean(&invite.1, &["198.51.100.77"]);
    assert_eq!(passed(&invite.1), ["Call-Info", "Alert-Info", "Accept-Language", "Subject"]);

    let answer = format!("Contact: <sip:canary@10.77.0.1>\n{HEADERS}");
    for (status, body) in [(180, ""), (200, SDP)] {
        b.answer(&invite, status, "bob-canary", &answer, body);
        let answer = b.take_response("INVITE", &address, status);
        assert_eq!(answer.status(), status);
        assert_clean(&answer, &["198.51.100.2", "bob-canary"]);
        assert!(answer.to_tag().is_some_and(|tag| tag != "bob-canary"));
        assert_eq!(passed(&answer), ["Call-Info", "Alert-Info"]);
    }
}

#[test]
fn a_refusal_passes_its_status_and_no_header() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    for device in [BOB, BOB_TOO] {
        let invite = b.take_request("INVITE", device);
        b.answer(&invite, 486, "bob-canary", HEADERS, "");
    }
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), passed(&refusal)), (486, vec![]));
    assert_clean(&refusal, &["198.51.100.2", "bob-canary", "welcome"]);
    b.finish();
}

#[test]
fn info_passes_with_its_body_and_nothing_else() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    let body = "Signal=5\r\nDuration=160\r\n";
    for (leg, peer, other) in [(&trunk, TRUNK, BOB), (&bob, BOB, TRUNK)] {
        let Leg { flow, local, remote, call_id } = leg;
        let head = format!(
            "INFO sip:us@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK-info-{peer}\n{VIA}Max-Forwards: 70\n\
             From: {local}\nTo: {remote}\nCall-ID: {call_id}\nCSeq: 9 INFO\n{HEADERS}\
             Content-Type: application/dtmf-relay\nContent-Length: {}\n\n",
            body.len()
        );
        let bytes = format!("{}{body}", head.replace('\n', "\r\n")).into();
        b.input(Input::Received { flow: *flow, bytes });
        let info = b.take_request("INFO", other);
        assert_clean(&info.1, &[peer.trim_end_matches(":5060"), "welcome"]);
        assert_eq!(info.1.header(Name::ContentType), Some("application/dtmf-relay"));
        assert_eq!(info.1.body(), body.as_bytes());
        b.answer(&info, 200, "", HEADERS, "");
        let ok = b.take_response("INFO", peer, 200);
        assert_eq!(ok.status(), 200);
        assert_clean(&ok, &[other.trim_end_matches(":5060"), "welcome"]);
    }
    b.within(&trunk, "BYE", 10, &format!("{VIA}{HEADERS}"), "");
    assert_clean(&b.take_request("BYE", BOB).1, &["203.0.113.5", "welcome"]);
    b.finish();
}

#[test]
fn an_emergency_call_passes_no_header_of_the_device() {
    let mut b = Bench::new();
    let to = ("INVITE", "sip:911@pbx.example.com");
    b.request(udp(ALICE), to, (&format!("{ALICE_FROM};tag=x"), ALICE_FROM), ("canary-call", 1), (HEADERS, SDP));
    let sent = b.take_request("INVITE", TRUNK).1;
    assert_clean(&sent, &["198.51.100.1", "welcome"]);
    assert_eq!(sent.header(Name::Priority), Some("emergency"));
}
