//! Trunks with several servers: which one a call goes to, and what happens when one is in trouble.

use super::{ALICE_FROM, from_alice, invite};
use crate::{
    call::{
        Input,
        tests::bench::{Bench, CONFIG, SDP, udp},
    },
    sip::locate::{Record, RecordType, Reply},
    types::{Duration, Flow, Transport},
    wire::sip::Message,
};

const FIRST: &str = "203.0.113.11:5060";
const SECOND: &str = "203.0.113.12:5060";
const THIRD: &str = "203.0.113.13:5060";
/// The other trunk that carries emergency calls.
const OTHER: &str = "203.0.113.20:5060";

/// A trunk `carrier` behind three SRV records, over this transport, and a second one for emergencies.
fn config(transport: &str) -> String {
    let carrier = format!("host = \"carrier.example\"\ntransport = \"{transport}\"");
    let other = "[trunk.zz-other]\nhost = \"203.0.113.20\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n\
                 numbers = [\"+12025550100\"]\n";
    let text = CONFIG.replace("host = \"203.0.113.5\"\nport = 5060\ntransport = \"udp\"", &carrier);
    assert_ne!(text, CONFIG);
    format!("{text}{other}")
}

/// Answers every question: SRV with these hosts by priority, whose addresses are 203.0.113.NUMBER.
fn serve(b: &mut Bench, hosts: &[u8]) {
    while !b.questions.is_empty() {
        for (query, question) in std::mem::take(&mut b.questions) {
            let records = match question.record_type {
                RecordType::Srv => hosts.iter().map(|n| srv(*n)).collect(),
                RecordType::A => address(&question.name).into_iter().collect(),
                RecordType::Naptr => vec![naptr(1, "SIP+D2U", "_sip._udp"), naptr(2, "SIP+D2T", "_sip._tcp")],
                RecordType::Aaaa => Vec::new(),
            };
            let reply = if records.is_empty() {
                Reply::Absent
            } else {
                Reply::Found { records, ttl: Duration::from_secs(3_600) }
            };
            b.input(Input::Resolved { query, question, reply });
        }
    }
}

fn srv(number: u8) -> Record {
    Record::Srv { priority: number.into(), weight: 1, port: 5060, target: format!("{number}.carrier.example.") }
}

/// UDP first.
fn naptr(order: u16, service: &str, label: &str) -> Record {
    let replacement = format!("{label}.carrier.example.");
    Record::Naptr { order, preference: 0, flags: "s".to_owned(), service: service.to_owned(), replacement }
}

fn address(name: &str) -> Option<Record> {
    let number: u8 = name.split('.').next()?.parse().ok()?;
    Some(Record::Address([203, 0, 113, number].into()))
}

fn bench(transport: &str, hosts: &[u8]) -> Bench {
    let mut b = Bench::with(&config(transport));
    serve(&mut b, hosts);
    b.register(from_alice(1000, 1), "alice");
    b
}

fn call_outside(b: &mut Bench) {
    invite(b, from_alice(1000, 1), "sip:92025550177@pbx.example.com", ALICE_FROM, "");
}

fn call_911(b: &mut Bench) {
    invite(b, from_alice(1000, 1), "sip:911@pbx.example.com", ALICE_FROM, "");
}

fn answer_to_alice(b: &mut Bench, from: u16) -> Message {
    b.take_response("INVITE", &from_alice(1000, 1).remote.to_string(), from)
}

/// No INVITE has gone to any of these.
fn nothing_at(b: &mut Bench, places: &[&str]) {
    for place in places {
        assert!(b.find_request("INVITE", place).is_none(), "an INVITE went to {place}");
    }
}

#[test]
fn a_server_that_says_nothing_is_passed_over_for_this_call_and_the_next_ones() {
    let mut b = bench("udp", &[11, 12]);
    call_outside(&mut b);
    b.take_request("INVITE", FIRST);
    nothing_at(&mut b, &[SECOND]);
    b.pass(3_900);
    nothing_at(&mut b, &[SECOND]);
    b.pass(200);
    let second = b.take_request("INVITE", SECOND);
    b.accept(&second, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
    b.sent.clear();
    call_outside(&mut b);
    b.take_request("INVITE", SECOND);
    nothing_at(&mut b, &[FIRST]);
    // Half a minute after its failure the first one has another chance.
    b.pass(31_000);
    b.sent.clear();
    call_outside(&mut b);
    b.take_request("INVITE", FIRST);
}

#[test]
fn a_503_leads_to_the_next_server_at_once_and_a_busy_callee_to_none() {
    let mut b = bench("udp", &[11, 12]);
    call_outside(&mut b);
    let first = b.take_request("INVITE", FIRST);
    b.answer(&first, 503, "t", "", "");
    let second = b.take_request("INVITE", SECOND);
    assert_eq!(second.1.request_uri(), first.1.request_uri());
    b.answer(&second, 486, "t", "", "");
    assert_eq!(answer_to_alice(&mut b, 200).status(), 486);
    b.finish();
}

#[test]
fn a_call_that_may_have_rung_is_not_sent_to_another_server() {
    let mut b = bench("udp", &[11, 12]);
    call_outside(&mut b);
    let first = b.take_request("INVITE", FIRST);
    b.answer(&first, 180, "t", "", "");
    b.pass(10_000);
    b.answer(&first, 503, "t", "", "");
    nothing_at(&mut b, &[SECOND]);
    b.finish();
}

#[test]
fn a_server_that_has_said_100_is_waited_for_and_not_for_ever() {
    let mut b = bench("udp", &[11]);
    call_outside(&mut b);
    let first = b.take_request("INVITE", FIRST);
    b.answer(&first, 100, "", "", "");
    b.pass(19_900);
    nothing_at(&mut b, &[OTHER]);
    b.pass(200);
    let other = b.take_request("INVITE", OTHER);
    b.take_request("CANCEL", FIRST);
    // The last one has all the time that there is.
    b.answer(&other, 100, "", "", "");
    b.pass(60_000);
    b.accept(&other, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
}

/// A call over a connection to the first server, which has ended again.
fn use_connection(b: &mut Bench) -> Flow {
    call_outside(b);
    let sent = b.take_request("INVITE", FIRST);
    b.answer(&sent, 486, "t", "", "");
    b.pass(100);
    b.sent.clear();
    sent.0
}

/// A trunk over TCP with one server, and none but this.
fn lone_bench() -> Bench {
    let mut b = Bench::with(config("tcp").split("[trunk.zz-other]").next().unwrap());
    serve(&mut b, &[11]);
    b.register(from_alice(1000, 1), "alice");
    b
}

#[test]
fn an_emergency_call_over_a_connection_that_has_died_without_a_word_is_repeated_over_another() {
    let mut b = lone_bench();
    let old = use_connection(&mut b);
    call_911(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0, old);
    b.pass(2_050);
    b.sent.retain(|(flow, _)| *flow != old);
    let fresh = b.take_request("INVITE", FIRST);
    assert_ne!(fresh.0.connection, old.connection);
    b.accept(&fresh, "psap", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
    // Nothing more goes over the old one, which is closed when it carries nothing any more.
    b.sent.clear();
    call_911(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0, fresh.0);
}

#[test]
fn a_connection_that_its_peer_does_not_know_any_more_is_replaced_at_once() {
    let mut b = lone_bench();
    let old = use_connection(&mut b);
    call_911(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0, old);
    b.input(Input::FlowFailed { flow: old });
    let fresh = b.take_request("INVITE", FIRST);
    assert_ne!(fresh.0.connection, old.connection);
    b.accept(&fresh, "psap", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
}

#[test]
fn an_ordinary_call_has_the_same_second_chance() {
    let mut b = lone_bench();
    let old = use_connection(&mut b);
    call_outside(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0, old);
    b.pass(4_050);
    b.sent.retain(|(flow, _)| *flow != old);
    let fresh = b.take_request("INVITE", FIRST);
    assert_ne!(fresh.0.connection, old.connection);
    b.answer(&fresh, 486, "t", "", "");
    b.pass(70_000);
    assert_eq!(b.closed, [old]);
    // A silent server is no reason to open a third one for the same call.
    b.sent.clear();
    call_911(&mut b);
    for _ in 0..2 {
        b.pass(2_050);
    }
    let mut used: Vec<_> = b.sent.iter().filter(|(_, m)| m.method_text() == "INVITE" && m.is_request()).collect();
    used.retain(|(flow, _)| flow.remote.to_string() == FIRST);
    assert_eq!(used.len(), 2);
}

#[test]
fn in_an_emergency_other_trunks_come_before_a_second_connection() {
    let mut b = bench("tcp", &[11]);
    let old = use_connection(&mut b);
    call_911(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0, old);
    b.pass(2_050);
    let other = b.take_request("INVITE", OTHER);
    b.answer(&other, 503, "t", "", "");
    b.sent.retain(|(flow, _)| *flow != old);
    assert_ne!(b.take_request("INVITE", FIRST).0.connection, old.connection);
}

#[test]
fn a_connection_that_is_heard_of_is_kept_however_slow_one_answer_is() {
    let mut b = lone_bench();
    let flow = use_connection(&mut b);
    call_outside(&mut b);
    let slow = b.take_request("INVITE", FIRST);
    b.pass(3_000);
    b.input(Input::Alive { flow });
    b.pass(10_000);
    assert!(b.find_request("CANCEL", FIRST).is_none());
    b.accept(&slow, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
    b.pass(100_000);
    assert!(b.closed.is_empty());
}

#[test]
fn a_call_that_rings_over_a_silent_connection_stays_and_new_ones_take_another() {
    let mut b = lone_bench();
    call_outside(&mut b);
    let ringing = b.take_request("INVITE", FIRST);
    b.answer(&ringing, 180, "t", "", "");
    b.pass(100);
    b.sent.clear();
    call_911(&mut b);
    b.pass(2_050);
    b.sent.retain(|(flow, _)| *flow != ringing.0);
    let fresh = b.take_request("INVITE", FIRST);
    b.answer(&fresh, 180, "psap", "", "");
    b.pass(70_000);
    assert!(b.closed.is_empty(), "a call is on it");
    b.sent.clear();
    b.accept(&ringing, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
}

#[test]
fn the_only_server_of_the_only_trunk_has_all_its_time() {
    let mut b = Bench::with(config("udp").split("[trunk.zz-other]").next().unwrap());
    serve(&mut b, &[11]);
    b.register(from_alice(1000, 1), "alice");
    call_outside(&mut b);
    let first = b.take_request("INVITE", FIRST);
    b.pass(20_000);
    assert!(b.find_request("CANCEL", FIRST).is_none());
    b.accept(&first, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
}

#[test]
fn a_silent_trunk_is_followed_by_the_next_one_within_seconds() {
    let mut b = bench("udp", &[11]);
    call_outside(&mut b);
    b.take_request("INVITE", FIRST);
    b.pass(3_900);
    nothing_at(&mut b, &[OTHER]);
    b.pass(200);
    let other = b.take_request("INVITE", OTHER);
    b.accept(&other, "t", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
    // The next call begins where somebody answers.
    b.sent.clear();
    call_outside(&mut b);
    b.take_request("INVITE", OTHER);
    nothing_at(&mut b, &[FIRST]);
}

#[test]
fn a_connection_that_cannot_be_opened_leads_to_the_next_server() {
    let mut b = bench("tcp", &[11, 12]);
    call_outside(&mut b);
    let (flow, _) = b.take_request("INVITE", FIRST);
    b.input(Input::FlowFailed { flow });
    let (second, _) = b.take_request("INVITE", SECOND);
    assert_eq!(second.transport, Transport::Tcp);
    // Its own requests are the trunk's, from this connection and from any other of that address.
    let own = Flow { remote: "203.0.113.12:40000".parse().unwrap(), ..second };
    for flow in [second, own] {
        let from = "<sip:+14155550123@carrier.example>";
        invite(&mut b, flow, "sip:+12025551002@pbx.example.com", from, "");
        b.take_request("INVITE", super::BOB);
        b.take_request("INVITE", super::BOB_TOO);
    }
}

#[test]
fn a_trunk_all_of_whose_servers_have_failed_is_still_tried() {
    let mut b = bench("udp", &[11, 12]);
    for _ in 0..2 {
        call_outside(&mut b);
        for server in [FIRST, SECOND] {
            let sent = b.take_request("INVITE", server);
            b.answer(&sent, 503, "t", "", "");
        }
        let last = b.take_request("INVITE", OTHER);
        b.answer(&last, 503, "t", "", "");
        assert_eq!(answer_to_alice(&mut b, 200).status(), 502);
    }
    b.finish();
}

#[test]
fn one_call_tries_a_bounded_number_of_servers() {
    let mut b = bench("udp", &[11, 12, 13, 14, 15]);
    call_outside(&mut b);
    for server in [FIRST, SECOND, THIRD, "203.0.113.14:5060"] {
        let sent = b.take_request("INVITE", server);
        b.answer(&sent, 503, "t", "", "");
    }
    nothing_at(&mut b, &["203.0.113.15:5060"]);
    b.take_request("INVITE", OTHER);
}

#[test]
fn an_emergency_call_tries_a_second_server_then_the_next_trunk_then_the_rest() {
    let mut b = bench("udp", &[11, 12, 13]);
    call_911(&mut b);
    for (server, later) in [(FIRST, &[SECOND, OTHER, THIRD][..]), (SECOND, &[OTHER, THIRD]), (OTHER, &[THIRD])] {
        b.take_request("INVITE", server);
        b.pass(1_950);
        nothing_at(&mut b, later);
        b.pass(60);
    }
    let third = b.take_request("INVITE", THIRD);
    b.accept(&third, "psap", SDP);
    assert_eq!(answer_to_alice(&mut b, 200).status(), 200);
}

#[test]
fn an_emergency_call_starts_where_earlier_calls_found_a_server_alive() {
    let mut b = bench("udp", &[11, 12]);
    call_outside(&mut b);
    let sent = b.take_request("INVITE", FIRST);
    b.answer(&sent, 503, "t", "", "");
    b.sent.clear();
    call_911(&mut b);
    b.take_request("INVITE", SECOND);
    nothing_at(&mut b, &[FIRST]);
}

#[test]
fn dns_without_an_answer_leaves_a_trunk_where_it_was() {
    let mut b = bench("udp", &[11]);
    b.pass(3_700_000);
    assert!(!b.questions.is_empty(), "the records are past their time");
    for reply in [Reply::Failed, Reply::Absent] {
        for (query, question) in std::mem::take(&mut b.questions) {
            b.input(Input::Resolved { query, question, reply: reply.clone() });
        }
        b.register(from_alice(1000, 1), "alice");
        call_outside(&mut b);
        let sent = b.take_request("INVITE", FIRST);
        b.answer(&sent, 486, "t", "", "");
        b.pass(40_000);
    }
    // The same from the trunk's side.
    invite(&mut b, udp(FIRST), "sip:+12025551002@pbx.example.com", "<sip:+14155550123@carrier.example>", "");
    b.take_request("INVITE", super::BOB);
}

#[test]
fn an_invite_too_large_for_a_datagram_takes_a_stream_and_a_small_one_does_not() {
    let mut b = bench("auto", &[11]);
    call_outside(&mut b);
    assert_eq!(b.take_request("INVITE", FIRST).0.transport, Transport::Udp);
    call_911(&mut b);
    let (stream, invite) = b.take_request("INVITE", FIRST);
    assert_eq!(stream.transport, Transport::Tcp);
    assert!(invite.bytes().len() > 1_300, "it carries the location");
    let text = String::from_utf8_lossy(invite.bytes()).into_owned();
    assert!(text.contains("Via: SIP/2.0/TCP ") && text.contains(";transport=tcp>"), "{text}");
    assert_eq!(b.core.counters().datagrams_large, 0);
    // Where there is no stream after all, the datagram is sent and counted.
    b.input(Input::FlowFailed { flow: stream });
    assert_eq!(b.take_request("INVITE", FIRST).0.transport, Transport::Udp);
    assert_eq!(b.core.counters().datagrams_large, 1);
}

#[test]
fn a_secure_call_goes_nowhere_rather_than_over_anything_but_tls() {
    let mut b = bench("udp", &[11]);
    let caller = from_alice(1000, 1);
    for callee in ["sips:1002@pbx.example.com", "sips:92025550177@pbx.example.com"] {
        invite(&mut b, caller, callee, ALICE_FROM, "");
        assert_eq!(answer_to_alice(&mut b, 200).status(), 480, "RFC 5630 section 5.3");
        nothing_at(&mut b, &[super::BOB, super::BOB_TOO, FIRST, OTHER]);
    }
    b.finish();
}

#[test]
fn an_invite_that_shows_the_password_has_its_own_time() {
    let mut b = bench("udp", &[11]);
    call_911(&mut b);
    let first = b.take_request("INVITE", FIRST);
    b.pass(1_500);
    b.sent.clear();
    b.answer(&first, 407, "t", "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"n\"\n", "");
    let second = b.take_request("INVITE", FIRST);
    b.pass(1_900);
    nothing_at(&mut b, &[OTHER]);
    assert!(b.find_request("CANCEL", FIRST).is_none());
    b.answer(&second, 180, "t", "", "");
    b.pass(10_000);
    assert_eq!(answer_to_alice(&mut b, 180).status(), 180);
    nothing_at(&mut b, &[OTHER]);
}
