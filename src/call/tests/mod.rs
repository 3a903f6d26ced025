//! Call flows that no well-behaved phone produces, message by message.

mod abuse;
mod acceptance;
mod bench;
mod certificates;
mod datagrams;
mod decision;
mod early;
mod early_updates;
mod emergency;
mod emergency_troubles;
mod failover;
mod flows;
mod headers;
mod identity;
mod inspection;
mod late_offer;
mod limits;
mod message;
mod open_cdr;
mod outside;
mod overload;
mod oversize;
mod pbx;
mod ports;
mod provisional;
mod quality;
mod reach;
mod reasons;
mod reflection;
mod refusal_tone;
mod resync;
mod sessions;
mod shutdown;
mod strangers;
mod streams;
mod subscription;
mod transfer;
mod transfer_features;
mod trunk_health;
mod trunk_registrations;
mod updates;
mod verification;

use std::net::SocketAddr;

use bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, udp};

use super::Input;
use crate::{
    media,
    types::{ConnectionId, Flow, Transport, limits::RELAYED_S_MAX},
    wire::sip::{Message, Name},
};

#[test]
fn a_call_between_trunk_and_device_begins_and_ends() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

// Answers to our INVITEs.

#[test]
fn a_200_of_another_dialog_than_the_180_is_the_one_acknowledged_and_ended() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 180, "early", "Contact: <sip:early@198.51.100.2>\n", "");
    let contact = "Contact: <sip:late@198.51.100.2>\nRecord-Route: <sip:198.51.100.2;lr>\n";
    b.answer(&invite, 200, "late", contact, SDP);
    let ack = b.take_request("ACK", BOB).1;
    assert_eq!((ack.to_tag(), ack.request_uri()), (Some("late"), "sip:late@198.51.100.2"));
    assert_eq!(ack.header(Name::Route), Some("<sip:198.51.100.2;lr>"));
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    assert_eq!(bye.1.to_tag(), Some("late"));
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_200_without_contact_makes_no_call() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&invite, 200, "bob", "", SDP);
    assert!(b.sent.iter().all(|(_, m)| m.status() != 200), "the caller was told of an answer");
    b.accept(&other, "too", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.answer(&invite, 200, "bob", "", SDP);
    assert_eq!(b.core.live_calls(), 1, "its repetition ended the call");
    assert!(b.find_request("BYE", BOB_TOO).is_none());
    b.finish();
}

#[test]
fn a_200_that_comes_again_after_a_re_invite_does_not_end_the_call() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    let first = b.take_request("ACK", BOB).1;
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "INVITE", 2, "", SDP);
    let again = b.take_request("INVITE", BOB);
    b.accept(&again, "", SDP);
    b.take_request("ACK", BOB);
    b.accept(&invite, "bob", SDP);
    let second = b.take_request("ACK", BOB).1;
    assert_eq!(second.header(Name::CSeq), first.header(Name::CSeq));
    assert!(b.find_request("BYE", BOB).is_none());
    assert_eq!(b.core.live_calls(), 1);
    b.finish();
}

#[test]
fn a_call_whose_invites_are_long_over_can_still_be_held_and_ended() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.accept(&invite, "bob", SDP);
    b.take_request("ACK", BOB);
    b.answer(&other, 487, "too", "", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.pass(60_000);
    b.sent.clear();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}a=sendonly\r\n"));
    let hold = b.take_request("INVITE", BOB);
    b.accept(&hold, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    assert_eq!(b.open_legs.len(), 2, "those of the device that lost are closed");
    b.within(&trunk, "BYE", 3, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_200_that_crosses_our_cancel_after_a_603_is_ended_and_not_connected_without_media() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "", "");
    b.answer(&second, 603, "too", "", "");
    b.take_request("CANCEL", BOB);
    b.accept(&first, "bob", SDP);
    b.take_request("ACK", BOB);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 603);
    b.finish();
}

// The end of a call.

#[test]
fn a_bye_that_overtakes_the_callees_200_ends_its_branch_and_no_other() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "Contact: <sip:bob@198.51.100.2>\n", "");
    b.within(&Leg::of_callee(&first, "bob"), "BYE", 1, "", "");
    assert_eq!(b.take_response("BYE", BOB, 200).status(), 200);
    // It had answered before, and the 200 was late.
    b.accept(&first, "bob", SDP);
    assert!(b.sent.iter().all(|(_, m)| m.is_request() || m.status() < 200), "{}", b.told());
    b.accept(&second, "too", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.finish();
}

#[test]
fn a_caller_who_says_bye_early_gets_a_487_of_the_dialog_it_knows() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let first = b.take_request("INVITE", BOB);
    b.answer(&first, 180, "bob", "", "");
    let ringing = b.take_response("INVITE", TRUNK, 180);
    b.within(&Leg::of_caller(udp(TRUNK), &ringing), "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.to_tag()), (487, ringing.to_tag()));
    b.take_request("CANCEL", BOB);
    b.finish();
}

/// A call that Bob has answered and whose caller has not yet acknowledged it.
fn unacknowledged() -> (Bench, Leg, Leg) {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    (b, trunk, Leg::of_callee(&invite, "bob"))
}

#[test]
fn no_bye_is_sent_before_the_caller_has_acknowledged_the_200() {
    for has_ack in [true, false] {
        let (mut b, trunk, bob) = unacknowledged();
        b.within(&bob, "BYE", 1, "", "");
        assert_eq!(b.take_response("BYE", BOB, 200).status(), 200);
        b.pass(400);
        assert!(b.find_request("BYE", TRUNK).is_none(), "RFC 3261 section 15");
        if has_ack {
            b.acknowledge(&trunk, 1, "");
        } else {
            b.pass(33_000);
        }
        let bye = b.take_request("BYE", TRUNK);
        b.answer(&bye, 200, "", "", "");
        b.finish();
    }
}

#[test]
fn a_caller_who_hangs_up_without_an_ack_is_not_sent_the_200_again() {
    let (mut b, trunk, bob) = unacknowledged();
    b.within(&bob, "BYE", 1, "", "");
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    b.sent.clear();
    b.pass(33_000);
    assert!(b.sent.iter().all(|(flow, _)| flow.remote != trunk.flow.remote), "{}", b.told());
    b.finish();
}

#[test]
fn a_re_invite_that_overtakes_the_ack_is_491_and_the_call_goes_on() {
    let (mut b, trunk, bob) = unacknowledged();
    b.within(&trunk, "INVITE", 2, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 491);
    b.within(&bob, "INVITE", 1, "", SDP);
    assert_eq!(b.take_response("INVITE", BOB, 200).status(), 491, "nor is the caller offered anything yet");
    b.acknowledge(&trunk, 1, "");
    b.pass(40_000);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

// Re-INVITEs.

const VIDEO: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";

#[test]
fn a_refused_re_invite_leaves_no_port_open_and_no_trace_in_later_offers() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}{VIDEO}"));
    let offer = b.take_request("INVITE", BOB);
    assert_eq!(b.open_legs.len(), 4);
    b.answer(&offer, 488, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 488);
    assert_eq!(b.open_legs.len(), 2, "ports of the refused video");
    b.within(&bob, "INVITE", 1, "", "");
    let ok = b.take_response("INVITE", BOB, 200);
    assert_eq!(ok.status(), 200);
    assert!(!String::from_utf8_lossy(&ok.body()).contains("video"), "what was refused is offered");
    b.acknowledge(&bob, 1, SDP);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_section_that_the_callee_refuses_costs_no_port() {
    let mut b = Bench::new();
    let to = "<sip:+12025551001@pbx.example.com>";
    let identity = ("<sip:+14155550123@203.0.113.5>;tag=trunk", to);
    let offer = format!("{SDP}{VIDEO}");
    b.request(udp(TRUNK), ("INVITE", "sip:+12025551001@pbx.example.com"), identity, ("c", 1), ("", &offer));
    let invite = b.take_request("INVITE", ALICE);
    assert_eq!(b.open_legs.len(), 4);
    b.accept(&invite, "alice", &format!("{SDP}m=video 0 RTP/AVP 96\r\n"));
    assert_eq!(b.open_legs.len(), 2);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn an_ack_that_owes_an_answer_and_has_none_does_not_block_later_offers() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    b.within(&trunk, "INVITE", 3, "", SDP);
    let offer = b.take_request("INVITE", BOB);
    b.accept(&offer, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 3, "");
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn a_re_invite_that_is_never_answered_does_not_outlive_its_call() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", SDP);
    let offer = b.take_request("INVITE", BOB);
    b.answer(&offer, 180, "", "", "");
    b.within(&trunk, "BYE", 3, "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.take_request("CANCEL", BOB);
    b.accept(&offer, "", SDP);
    b.take_request("ACK", BOB);
    b.finish();
}

#[test]
fn a_re_invite_is_answered_when_the_server_ends_the_call() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}{VIDEO}"));
    b.take_request("INVITE", BOB);
    let leg = b.open_legs[3];
    b.input(Input::Media(media::Event::OpenFailed { leg }));
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.take_request("BYE", TRUNK);
    b.take_request("BYE", BOB);
    b.finish();
}

#[test]
fn a_re_invite_accepted_although_it_was_cancelled_is_taken_back() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}a=inactive\r\n"));
    let hold = b.take_request("INVITE", BOB);
    let branch = b.sent_branch();
    b.cancel(&trunk, 2, &branch);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.accept(&hold, "", &format!("{SDP}a=inactive\r\n"));
    let resume = b.take_request("INVITE", BOB);
    assert!(!String::from_utf8_lossy(&resume.1.body()).contains("inactive"));
    b.accept(&resume, "", SDP);
    assert!(b.find_request("INVITE", BOB).is_none(), "once is enough");
    b.within(&trunk, "INVITE", 3, "", SDP);
    b.take_request("INVITE", BOB);
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

// Who may send what.

/// An INVITE from outside any dialog with these identities and headers.
fn invite(b: &mut Bench, flow: Flow, uri: &str, from: &str, extra: &str) {
    let to = format!("<{uri}>");
    let from = format!("{from};tag={}", b.serial);
    let call_id = format!("call-{}", b.serial);
    b.request(flow, ("INVITE", uri), (&from, &to), (&call_id, 1), (extra, SDP));
}

const TRUNK_FROM: &str = "<sip:+14155550123@203.0.113.5>";
const ALICE_FROM: &str = "<sip:alice@pbx.example.com>";
const BOBS_LINE: &str = "sip:+12025551002@pbx.example.com";

#[test]
fn a_required_extension_is_420_and_named_except_in_an_emergency() {
    let mut b = Bench::new();
    let extra = "Require: x-one, timer\nProxy-Require: sec-agree\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, extra);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(refusal.status(), 420);
    assert_eq!(refusal.values(Name::Unsupported).collect::<Vec<_>>(), ["x-one", "sec-agree"]);
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "Require: x\n", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 420);
    b.request(udp(ALICE), ("OPTIONS", "sip:pbx.example.com"), (ALICE_FROM, ALICE_FROM), ("o", 1), (extra, ""));
    assert_eq!(b.take_response("OPTIONS", ALICE, 200).status(), 420);
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, extra);
    b.take_request("INVITE", TRUNK);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn an_invite_without_contact_is_400() {
    let mut b = Bench::new();
    let head = format!(
        "INVITE {BOBS_LINE} SIP/2.0\nVia: SIP/2.0/UDP {TRUNK};branch=z9hG4bKx\nMax-Forwards: 70\n\
         From: {TRUNK_FROM};tag=x\nTo: <{BOBS_LINE}>\nCall-ID: x\nCSeq: 1 INVITE\n"
    );
    b.receive(udp(TRUNK), &head, SDP);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (400, "Missing Contact header"));
    // Sent again, it is answered the same, and the ACK of either is no stray one.
    b.receive(udp(TRUNK), &head, SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).to_tag(), refusal.to_tag());
    let tag = format!("To: <{BOBS_LINE}>;tag={}", refusal.to_tag().unwrap());
    let ack = head.replace("INVITE", "ACK").replace(&format!("To: <{BOBS_LINE}>"), &tag);
    let before = b.core.counters().drops;
    b.receive(udp(TRUNK), &ack, "");
    assert_eq!(b.core.counters().drops, before);
    b.finish();
}

#[test]
fn a_telephone_that_cannot_encrypt_and_a_call_that_has_looped_reach_the_emergency_service() {
    let mut b = Bench::with(&CONFIG.replace("\"preferred\"", "\"required\""));
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, "");
    let sent = b.take_request("INVITE", TRUNK).1;
    assert_eq!(sent.header(Name::MaxForwards), Some("70"));
    b.finish();
}

/// TCP from the address of the trunk named `stream`.
fn from_stream(connection: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: ConnectionId(connection),
        remote: "203.0.113.6:40000".parse().unwrap(),
        ..udp(TRUNK)
    }
}

#[test]
fn a_telephone_at_a_trunks_address_is_a_telephone() {
    let mut b = Bench::new();
    let flow = from_stream(1);
    let peer = "203.0.113.6:40000";
    invite(&mut b, flow, "sip:1002@pbx.example.com", ALICE_FROM, "");
    assert_eq!(b.take_response("INVITE", peer, 200).status(), 407, "not yet registered");
    b.register(flow, "alice");
    invite(&mut b, flow, "sip:1002@pbx.example.com", "<sip:whoever@elsewhere.example>", "");
    let sent = b.take_request("INVITE", BOB).1;
    assert!(sent.header(Name::From).is_some_and(|from| from.starts_with("<sip:1001@pbx.example.com>")));
    invite(&mut b, flow, "sip:911@pbx.example.com", ALICE_FROM, "");
    b.take_request("INVITE", TRUNK);
    // The trunk itself, on a connection of its own.
    b.sent.clear();
    invite(&mut b, from_stream(2), BOBS_LINE, TRUNK_FROM, "");
    let sent = b.take_request("INVITE", BOB).1;
    assert!(sent.header(Name::From).is_some_and(|from| from.contains("+14155550123")));
    invite(&mut b, from_stream(2), "sip:1002@pbx.example.com", TRUNK_FROM, "");
    assert_eq!(b.take_response("INVITE", peer, 200).status(), 404);
}

#[test]
fn a_caller_who_asks_the_carrier_for_privacy_has_it_from_us_too() {
    let mut b = Bench::new();
    let asserted = "P-Asserted-Identity: \"Ann\" <sip:+14155550123@203.0.113.5>\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, "<sip:a@203.0.113.5>", asserted);
    assert!(b.take_request("INVITE", BOB).1.header(Name::From).is_some_and(|from| from.starts_with("\"Ann\"")));
    let anonymous = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
    invite(&mut b, udp(TRUNK), BOBS_LINE, anonymous, &format!("{asserted}Privacy: user;id\n"));
    let (_, sent) = b.sent.iter().rfind(|(flow, m)| m.is_request() && flow.remote == udp(BOB).remote).unwrap();
    let text = String::from_utf8_lossy(sent.bytes());
    assert!(!text.contains("+1415") && !text.contains("Ann"), "{text}");
}

#[test]
fn a_secure_call_reaches_devices_over_tls_only() {
    let mut b = Bench::new();
    let secure = Flow { transport: Transport::Tls, local: "192.0.2.1:5061".parse().unwrap(), ..from_stream(9) };
    b.register(secure, "bob");
    invite(&mut b, udp(TRUNK), "sips:+12025551002@pbx.example.com", TRUNK_FROM, "");
    let to_bob = b.take_request("INVITE", "203.0.113.6:40000");
    assert!(b.find_request("INVITE", BOB).is_none());
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.header(Name::Contact).is_some_and(|contact| contact.starts_with("<sips:")), "RFC 3261 section 12.1.1");
}

// Devices that come back.

fn from_alice(port: u16, connection: u64) -> Flow {
    let remote = SocketAddr::new("198.51.100.77".parse().unwrap(), port);
    Flow { transport: Transport::Tcp, connection: ConnectionId(connection), remote, ..udp(TRUNK) }
}

#[test]
fn the_call_of_a_device_that_lost_its_connection_does_not_go_to_its_neighbour() {
    let mut b = Bench::new();
    let (own, neighbour) = (from_alice(1000, 1), from_alice(2000, 2));
    b.register(own, "alice");
    b.register(neighbour, "alice");
    invite(&mut b, own, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let leg = Leg::of_caller(own, &b.take_response("INVITE", "198.51.100.77:1000", 200));
    b.acknowledge(&leg, 1, "");
    b.input(Input::FlowFailed { flow: own });
    b.sent.clear();
    b.within(&Leg::of_callee(&to_bob, "bob"), "BYE", 1, "", "");
    assert!(b.find_request("BYE", "198.51.100.77:2000").is_none());
}

#[test]
fn a_device_that_registers_over_a_new_connection_takes_its_calls_along() {
    let mut b = Bench::new();
    let (old, other, new) = (from_alice(1000, 1), from_stream(2), from_alice(2000, 3));
    b.register(old, "alice");
    invite(&mut b, udp(TRUNK), "sip:+12025551001@pbx.example.com", TRUNK_FROM, "");
    let ringing = b.take_request("INVITE", &old.remote.to_string());
    b.accept(&ringing, "alice", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    // A call of hers as caller.
    invite(&mut b, old, "sip:1002@pbx.example.com", ALICE_FROM, "");
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", SDP);
    let alice = Leg::of_caller(old, &b.take_response("INVITE", &old.remote.to_string(), 200));
    b.acknowledge(&alice, 1, "");
    b.input(Input::FlowFailed { flow: old });
    b.register(other, "alice");
    b.register(new, "alice");
    b.sent.clear();
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_request("BYE", &new.remote.to_string()).0, new);
    b.within(&Leg::of_callee(&to_bob, "bob"), "INVITE", 1, "", SDP);
    assert_eq!(b.take_request("INVITE", &new.remote.to_string()).0, new);
    let left = Leg { flow: new, ..alice };
    b.within(&left, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn another_device_of_the_same_user_takes_no_call() {
    let mut b = Bench::new();
    let flow = from_alice(1000, 1);
    b.register(flow, "alice");
    invite(&mut b, udp(TRUNK), "sip:+12025551001@pbx.example.com", TRUNK_FROM, "");
    let ringing = b.take_request("INVITE", &flow.remote.to_string());
    b.accept(&ringing, "alice", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.register(from_alice(2000, 2), "alice");
    b.within(&trunk, "BYE", 2, "", "");
    b.take_request("BYE", &flow.remote.to_string());
    b.finish();
}

// Trunks that ask for the password.

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"one\", algorithm=MD5, qop=\"auth\"\n";

/// Alice, registered over TCP, calls outside. Returns the INVITE the trunk got.
fn alice_calls_outside(b: &mut Bench) -> (Flow, (Flow, Message)) {
    let flow = from_alice(1000, 1);
    b.register(flow, "alice");
    invite(b, flow, "sip:92025550177@pbx.example.com", ALICE_FROM, "");
    (flow, b.take_request("INVITE", TRUNK))
}

fn credentials(message: &Message) -> &str {
    message.header(Name::ProxyAuthorization).unwrap_or_default()
}

#[test]
fn a_trunk_that_challenges_is_shown_the_password_in_every_request_of_the_dialog() {
    let mut b = Bench::new();
    let (flow, bare) = alice_calls_outside(&mut b);
    assert_eq!(credentials(&bare.1), "");
    b.answer(&bare, 407, "t", CHALLENGE, "");
    let first = b.take_request("INVITE", TRUNK);
    assert!(credentials(&first.1).contains("nonce=\"one\""));
    b.answer(&first, 407, "t", &CHALLENGE.replace("one", "two").replace("MD5", "MD5, stale=true"), "");
    let second = b.take_request("INVITE", TRUNK);
    assert!(credentials(&second.1).contains("nonce=\"two\""), "a stale nonce is no wrong password");
    b.sent.clear();
    b.accept(&second, "t", SDP);
    let ack = b.take_request("ACK", TRUNK).1;
    assert_eq!(credentials(&ack), credentials(&second.1), "RFC 3261 section 22.1");
    let alice = Leg::of_caller(flow, &b.take_response("INVITE", &flow.remote.to_string(), 200));
    b.acknowledge(&alice, 1, "");

    b.within(&alice, "INVITE", 2, "", SDP);
    let reoffer = b.take_request("INVITE", TRUNK);
    assert!(credentials(&reoffer.1).contains("nc=00000002"));
    b.answer(&reoffer, 407, "", &CHALLENGE.replace("one", "three"), "");
    let reoffer = b.take_request("INVITE", TRUNK);
    assert!(credentials(&reoffer.1).contains("nonce=\"three\""));
    b.accept(&reoffer, "", SDP);
    assert_eq!(b.take_response("INVITE", &flow.remote.to_string(), 200).status(), 200);
    b.acknowledge(&alice, 2, "");

    b.within(&alice, "BYE", 3, "", "");
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 407, "", &CHALLENGE.replace("one", "four"), "");
    let bye = b.take_request("BYE", TRUNK);
    assert!(credentials(&bye.1).contains("nonce=\"four\""));
    b.answer(&bye, 407, "", &CHALLENGE.replace("one", "five"), "");
    assert!(b.find_request("BYE", TRUNK).is_none(), "the password is wrong");
    b.finish();
}

#[test]
fn a_trunk_that_refuses_the_password_is_not_asked_again() {
    let mut b = Bench::new();
    let (flow, bare) = alice_calls_outside(&mut b);
    b.answer(&bare, 407, "t", CHALLENGE, "");
    let first = b.take_request("INVITE", TRUNK);
    b.answer(&first, 407, "t", CHALLENGE, "");
    assert!(b.find_request("INVITE", TRUNK).is_none());
    assert_eq!(b.take_response("INVITE", &flow.remote.to_string(), 200).status(), 502);
    b.finish();
}

// What counts as a call.

#[test]
fn a_call_that_only_waits_for_a_dead_contact_is_neither_counted_nor_shown() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (answering, _dead) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.accept(&answering, "bob", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    assert_eq!((b.core.live_calls(), b.core.calls().len()), (1, 1));
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!((b.core.live_calls(), b.core.calls().len()), (0, 0), "the INVITE to the dead contact goes on");
    assert!(!b.core.is_idle());
    b.finish();
}

#[test]
fn a_503_of_the_other_side_is_never_passed_on_as_ours() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "", "");
    let info = b.take_request("INFO", BOB);
    b.answer(&info, 503, "", "", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 500);
    b.within(&trunk, "INVITE", 3, "", SDP);
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 503, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 500);
    b.within(&trunk, "ACK", 3, "", "");
    b.within(&trunk, "BYE", 4, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn who_asks_the_other_side_something_hears_in_time_that_nobody_answers() {
    // It says 408 itself, which may not be passed on (RFC 4320 section 4.2).
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "", "");
    let info = b.take_request("INFO", BOB);
    b.answer(&info, 408, "", "", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 504);
    // It says nothing.
    b.within(&trunk, "INFO", 3, "", "");
    let info = b.take_request("INFO", BOB);
    b.pass(RELAYED_S_MAX * 1_000 - 1);
    assert!(b.sent.iter().all(|(_, m)| m.status() < 200), "there was time left");
    b.pass(1);
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 504);
    b.answer(&info, 200, "", "", "");
    assert!(b.sent.iter().all(|(_, m)| m.status() < 200), "answered once");
    assert_eq!(b.core.live_calls(), 1, "the call goes on");
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}
