//! Strangers: guessed passwords, scanners, and INVITEs that nobody ends.

use bytes::Bytes;

use super::bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, SDP, TRUNK, udp};
use crate::{
    call::{Input, Output},
    types::{
        DropReason, Flow,
        limits::{REFUSALS_PER_SOURCE_MAX, REFUSALS_PER_USER_MAX, REFUSALS_WINDOW_S},
    },
    wire::sip::{Message, Name, digest},
};

const STRANGER: &str = "198.51.100.50:5060";
/// Nobody has guessed here.
const OTHER: &str = "198.51.100.51:5060";

/// A REGISTER for this user with these further lines; the answer, if there is one.
fn register(b: &mut Bench, from: &str, user: &str, lines: &str) -> Option<Message> {
    b.serial += 1;
    let head = format!(
        "REGISTER sip:pbx.example.com SIP/2.0\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{serial}\n\
         From: <sip:{user}@pbx.example.com>;tag=r\nTo: <sip:{user}@pbx.example.com>\nCall-ID: guess\n\
         CSeq: {serial} REGISTER\nMax-Forwards: 70\nContact: <sip:{user}@{from}>\n{lines}",
        serial = b.serial
    );
    b.receive(udp(from), &head, "");
    let is_answer = |(flow, m): &(Flow, Message)| !m.is_request() && flow.remote == udp(from).remote;
    let at = b.sent.iter().position(is_answer)?;
    Some(b.sent.remove(at).1)
}

/// Tries this password, with a challenge got elsewhere.
fn guess(b: &mut Bench, from: &str, user: &str, password: &str) -> Option<Message> {
    let challenge = register(b, BOB, user, "").expect("a registered source is always answered");
    let challenges = challenge.lines(Name::WwwAuthenticate);
    let answer = digest::answer(challenges, user, password, "REGISTER", "sip:pbx.example.com", b"", "cnonce", 1);
    register(b, from, user, &format!("Authorization: {}\n", answer.unwrap()))
}

fn dropped(b: &Bench, reason: DropReason) -> u64 {
    b.core.counters().drops.of(reason)
}

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let told = |user: &str| {
        let mut b = Bench::new();
        let answer = guess(&mut b, STRANGER, user, "wrong").expect("an answer");
        let line = |(name, known, value): (&str, Name, &str)| match known {
            Name::WwwAuthenticate => format!("{name}: {}", value.len()),
            Name::To => format!("{name}: {}", value.split(";tag=").next().unwrap()),
            _ => format!("{name}: {value}"),
        };
        let head = format!("{} {}", answer.status(), answer.reason_phrase());
        std::iter::once(head).chain(answer.all().map(line)).collect::<Vec<_>>().join("\n").replace(user, "USER")
    };
    let known = told("alice");
    assert!(known.starts_with("401 "), "{known}");
    assert_eq!(known, told("mallory"));
}

#[test]
fn a_source_is_answered_up_to_the_limit_on_refused_credentials_and_not_above() {
    let mut b = Bench::new();
    for n in 0..REFUSALS_PER_SOURCE_MAX {
        // Asking without credentials is no offence.
        assert_eq!(register(&mut b, STRANGER, "alice", "").map(|m| m.status()), Some(401));
        assert_eq!(guess(&mut b, STRANGER, &format!("user-{n}"), "wrong").map(|m| m.status()), Some(401), "{n}");
    }
    assert_eq!(guess(&mut b, STRANGER, "alice", "secret").map(|m| m.status()), None, "not even if it is right");
    assert_eq!(register(&mut b, STRANGER, "alice", "").map(|m| m.status()), None);
    assert_eq!(dropped(&b, DropReason::SipBarredSource), 2);
    assert_eq!(guess(&mut b, "198.51.100.51:5060", "alice", "secret").map(|m| m.status()), Some(200), "its neighbour");
    b.pass(REFUSALS_WINDOW_S * 1000);
    assert_eq!(guess(&mut b, STRANGER, "alice", "secret").map(|m| m.status()), Some(200), "it is forgiven");
}

#[test]
fn where_somebody_is_registered_no_password_silences_anybody() {
    let mut b = Bench::new();
    for _ in 0..=REFUSALS_PER_SOURCE_MAX.max(REFUSALS_PER_USER_MAX) {
        assert_eq!(guess(&mut b, ALICE, "bob", "wrong").map(|m| m.status()), Some(401));
    }
    assert_eq!(guess(&mut b, STRANGER, "bob", "secret").map(|m| m.status()), Some(200), "nor does it lock out Bob");
}

#[test]
fn one_users_password_cannot_be_guessed_from_many_sources() {
    let mut b = Bench::new();
    let source = |n: u32| format!("198.51.100.{}:5060", 100 + n);
    for n in 0..REFUSALS_PER_USER_MAX {
        assert_eq!(guess(&mut b, &source(n), "alice", "wrong").map(|m| m.status()), Some(401), "{n}");
    }
    assert_eq!(guess(&mut b, STRANGER, "alice", "secret").map(|m| m.status()), None);
    assert_eq!(dropped(&b, DropReason::SipBarredUser), 1);
    assert_eq!(guess(&mut b, STRANGER, "bob", "secret").map(|m| m.status()), Some(200), "another user");
    assert_eq!(guess(&mut b, ALICE, "alice", "secret").map(|m| m.status()), Some(200), "a registered source");
}

#[test]
fn a_scanner_hears_nothing() {
    let mut b = Bench::new();
    for agent in ["friendly-scanner", "sipcli/v1.8"] {
        assert!(register(&mut b, STRANGER, "alice", &format!("User-Agent: {agent}\n")).is_none());
        let line = ("<sip:x@y>;tag=s", "<sip:1001@pbx.example.com>");
        let extra = format!("User-Agent: {agent}\n");
        b.request(udp(STRANGER), ("OPTIONS", "sip:pbx.example.com"), line, (agent, 1), (&extra, ""));
        b.request(udp(STRANGER), ("INVITE", "sip:1001@pbx.example.com"), line, (agent, 2), (&extra, SDP));
    }
    assert!(b.sent.is_empty(), "{}", b.told());
    assert_eq!(dropped(&b, DropReason::SipScanner), 6);
    assert!(b.core.is_idle());
    assert_eq!(register(&mut b, STRANGER, "alice", "User-Agent: Phone/1\n").map(|m| m.status()), Some(401));
}

#[test]
fn who_has_guessed_calls_for_help_from_the_companys_sites_and_elsewhere_hears_that_it_cannot() {
    for (more, is_routed) in [("", false), ("site_networks = [\"198.51.100.0/24\"]\n", true)] {
        let config = CONFIG.replace("[trunk.carrier]", &format!("{more}[trunk.carrier]"));
        let mut b = Bench::with(&config);
        for n in 0..REFUSALS_PER_SOURCE_MAX {
            guess(&mut b, STRANGER, &format!("user-{n}"), "wrong");
        }
        b.sent.clear();
        let challenge = register(&mut b, BOB, "alice", "").expect("a registered source is always answered");
        let (challenges, uri) = (challenge.lines(Name::WwwAuthenticate), "sip:911@pbx.example.com");
        let answer = digest::answer(challenges, "alice", "secret", "INVITE", uri, SDP.as_bytes(), "cnonce", 1);
        let (line, extra) = (("<sip:x@y>;tag=s", "<sip:911@pbx.example.com>"), answer.unwrap());
        b.request(udp(STRANGER), ("INVITE", uri), line, ("x", 1), (&format!("Proxy-Authorization: {extra}\n"), SDP));
        assert_eq!(b.find_request("INVITE", TRUNK).is_some(), is_routed, "a right password tells a guesser nothing");
        if !is_routed {
            assert_eq!(b.take_response("INVITE", STRANGER, 200).status(), 403);
        }
    }
}

#[test]
fn no_limit_and_no_name_stops_an_emergency_call() {
    let mut b = Bench::new();
    for n in 0..REFUSALS_PER_SOURCE_MAX {
        guess(&mut b, STRANGER, &format!("user-{n}"), "wrong");
    }
    let line = ("<sip:x@y>;tag=s", "<sip:911@pbx.example.com>");
    b.request(udp(STRANGER), ("INVITE", "sip:1001@pbx.example.com"), line, ("ordinary", 1), ("", SDP));
    assert!(b.sent.is_empty(), "{}", b.told());
    for agent in ["Phone/1", "friendly-scanner"] {
        let extra = format!("User-Agent: {agent}\n");
        b.request(udp(STRANGER), ("INVITE", "sip:911@pbx.example.com"), line, (agent, 1), (&extra, SDP));
        assert_eq!(b.take_response("INVITE", STRANGER, 200).status(), 403, "{agent}: it is told, not left alone");
        b.request(udp(OTHER), ("INVITE", "sip:911@pbx.example.com"), line, (agent, 2), (&extra, SDP));
        assert_eq!(b.take_response("INVITE", OTHER, 200).status(), 407, "{agent}");
    }
}

/// Goal: a flood costs what its messages cost and leaves nothing. Method: every INVITE is challenged and nobody
/// acknowledges; what is sent is counted, not kept.
#[test]
fn fifty_thousand_abandoned_invites_of_strangers_leave_nothing_once_they_are_answered() {
    const INVITES: u64 = 50_000;
    let mut b = Bench::new();
    b.pass(1000);
    let (mut sent, mut received) = (0, 0);
    let mut drain = |b: &mut Bench| loop {
        match b.core.poll_output() {
            Output::Transmit { bytes, .. } => sent += bytes.len(),
            Output::Timeout(_) => break,
            other => panic!("{other:?}"),
        }
    };
    for n in 0..INVITES {
        let text = format!(
            "INVITE sip:1001@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.50;branch=z9hG4bK-{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:x@y>;tag={n}\r\nTo: <sip:1001@pbx.example.com>\r\nCall-ID: {n}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:x@198.51.100.50>\r\nContent-Length: 0\r\n\r\n"
        );
        received += text.len();
        b.core.handle_input(b.now, Input::Received { flow: udp(STRANGER), bytes: Bytes::from(text) });
        drain(&mut b);
    }
    assert!(b.core.is_idle(), "something is left of them");
    assert!(sent > 0 && sent <= received, "{sent} bytes for {received}");
}

#[test]
fn nobody_silences_a_trunk_by_forging_its_address() {
    let mut b = Bench::new();
    for n in 0..=REFUSALS_PER_SOURCE_MAX {
        guess(&mut b, TRUNK, &format!("user-{n}"), "wrong");
    }
    b.sent.clear();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    for invite in [&first, &second] {
        b.answer(invite, 486, "busy", "", "");
    }
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 486);
}
