//! What senders that nobody knows take of the server: nothing that outlives the answer, and no turn before those who are known.

use super::bench::*;
use crate::{
    call::{Input, Standing},
    types::{ConnectionId, Flow, Transport},
    wire::sip::{Name, digest},
};

const STRANGER: &str = "203.0.113.77:5060";
const FROM: &str = "<sip:x@example.net>;tag=x";

fn over_tcp() -> Flow {
    Flow { transport: Transport::Tcp, connection: ConnectionId(77), ..udp(STRANGER) }
}

fn asks(b: &mut Bench, flow: Flow, method: &str, uri: &str) -> u16 {
    b.request(
        flow,
        (method, uri),
        (FROM, &format!("<{uri}>")),
        (&format!("stranger-{method}"), 1),
        ("Event: dialog\n", ""),
    );
    b.take_response(method, STRANGER, 200).status()
}

#[test]
fn nothing_is_left_of_a_stranger_who_has_his_answer() {
    let mut b = Bench::new();
    for flow in [udp(STRANGER), over_tcp()] {
        for (method, uri, status) in [
            ("INVITE", "sip:1001@pbx.example.com", 407),
            ("INVITE", "sip:911@pbx.example.com", 407),
            ("REGISTER", "sip:pbx.example.com", 401),
            ("OPTIONS", "sip:pbx.example.com", 200),
            ("SUBSCRIBE", "sip:1001@pbx.example.com", 407),
            ("BYE", "sip:1001@pbx.example.com", 481),
            ("PUBLISH", "sip:1001@pbx.example.com", 405),
        ] {
            assert_eq!(asks(&mut b, flow, method, uri), status, "{method} {uri}");
            assert!(b.core.is_idle(), "{method} {uri}");
        }
    }
    // A telephone that is registered may lose its answer, and is sent it again.
    b.request(udp(ALICE), ("OPTIONS", "sip:pbx.example.com"), (FROM, "<sip:pbx.example.com>"), ("alice", 1), ("", ""));
    assert!(!b.core.is_idle());
    b.finish();
}

#[test]
fn the_ack_for_a_strangers_refusal_is_no_stray_one() {
    let (without_trunk, _) = CONFIG.split_once("[trunk.carrier]").unwrap();
    for config in [CONFIG, without_trunk] {
        for uri in ["sip:1001@pbx.example.com", "sip:911@pbx.example.com"] {
            the_ack_is_known(config, uri);
        }
    }
}

fn the_ack_is_known(config: &str, uri: &str) {
    let mut b = Bench::with(config);
    let branch = b.request(udp(STRANGER), ("INVITE", uri), (FROM, &format!("<{uri}>")), ("one", 1), ("", SDP));
    let refusal = b.take_response("INVITE", STRANGER, 200);
    let before = b.core.counters().drops;
    let to = refusal.header(Name::To).unwrap();
    let ack = format!(
        "ACK {uri} SIP/2.0\nVia: SIP/2.0/UDP {STRANGER};branch={branch}\nMax-Forwards: 70\nFrom: {FROM}\nTo: {to}\n\
         Call-ID: one\nCSeq: 1 ACK\n"
    );
    b.receive(udp(STRANGER), &ack, "");
    assert_eq!(b.core.counters().drops, before, "{}", refusal.status());
    b.finish();
}

#[test]
fn a_datagram_is_known_by_its_sender_and_an_emergency_by_its_first_line() {
    let mut b = Bench::new();
    let invite = |user: &str| format!("INVITE sip:{user}@pbx.example.com SIP/2.0\r\n");
    let long = invite(&"9".repeat(3_000));
    for (from, bytes, standing) in [
        (ALICE, invite("1002"), Standing::Known),
        (TRUNK, "junk".to_owned(), Standing::Known),
        (STRANGER, invite("1002"), Standing::Stranger),
        (STRANGER, invite("911"), Standing::Emergency),
        (STRANGER, invite("9-1-1"), Standing::Emergency),
        (STRANGER, "INVITE urn:service:sos SIP/2.0\r\n".to_owned(), Standing::Emergency),
        (STRANGER, "INVITE sip:911@pbx.example.com".to_owned(), Standing::Emergency),
        (STRANGER, "REGISTER sip:911@pbx.example.com SIP/2.0\r\n".to_owned(), Standing::Stranger),
        (STRANGER, "INVITE \u{1}".to_owned(), Standing::Stranger),
        (STRANGER, "INVITE".to_owned(), Standing::Stranger),
        (STRANGER, String::new(), Standing::Stranger),
        (STRANGER, long, Standing::Stranger),
    ] {
        assert_eq!(b.core.standing(&udp(from), bytes.as_bytes()), standing, "{from} {bytes:.60}");
    }
    assert_eq!(b.core.standing(&udp(STRANGER), &[0xff; 20]), Standing::Stranger);
}

#[test]
fn who_has_shown_a_password_or_registers_is_known_on_that_connection() {
    let mut b = Bench::new();
    let flow = over_tcp();
    assert!(!b.core.is_known(&flow));
    b.register(flow, "alice");
    assert!(b.core.is_known(&flow));
    let other = Flow { connection: ConnectionId(78), ..flow };
    assert!(!b.core.is_known(&other), "the same address over another connection");
    b.input(Input::FlowFailed { flow });
}

/// A connection that carries an emergency call does not make room for others, whoever calls: the shell asks after each message
/// whether its sender is known.
#[test]
fn whose_emergency_call_is_taken_is_known_on_that_connection_and_who_is_refused_is_not() {
    let of_the_company = CONFIG.replace("[trunk.carrier]", "site_networks = [\"203.0.113.64/26\"]\n[trunk.carrier]");
    let (without_trunk, _) = CONFIG.split_once("[trunk.carrier]").unwrap();
    for (config, password, status, is_taken) in [
        (CONFIG, Some("secret"), 100, true),
        (&of_the_company, None, 100, true),
        (CONFIG, None, 407, false),
        (CONFIG, Some("guess"), 403, false),
        (without_trunk, None, 403, false),
    ] {
        let mut b = Bench::with(config);
        let flow = over_tcp();
        assert_eq!(calls_for_help(&mut b, flow, password), status, "{password:?}");
        assert_eq!((b.core.emergency_calls() == 1, b.core.is_known(&flow)), (is_taken, is_taken), "{status}");
    }
}

/// How a new connection's INVITE is answered; with a password, after the challenge.
fn calls_for_help(b: &mut Bench, flow: Flow, password: Option<&str>) -> u16 {
    let uri = "sip:911@pbx.example.com";
    let ask = |b: &mut Bench, cseq, credentials: &str| {
        let (from, to) = ("<sip:alice@pbx.example.com>;tag=x", format!("<{uri}>"));
        b.request(flow, ("INVITE", uri), (from, &to), ("help", cseq), (credentials, SDP));
        // The 100 comes after 200 ms.
        b.pass(250);
        b.take_response("INVITE", STRANGER, 100)
    };
    let answer = ask(b, 1, "");
    let Some(password) = password else { return answer.status() };
    let challenges = answer.lines(Name::ProxyAuthenticate);
    let proof = digest::answer(challenges, "alice", password, "INVITE", uri, SDP.as_bytes(), "cnonce", 1).unwrap();
    ask(b, 2, &format!("Proxy-Authorization: {proof}\n")).status()
}
