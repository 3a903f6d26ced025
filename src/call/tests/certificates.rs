//! Connections whose peer has shown a client certificate, message by message.

use super::{
    bench::{BOB, Bench, CONFIG, SDP, TRUNK},
    flows::{register, tls},
};
use crate::{
    call::Input,
    types::{Flow, certificate::SubjectNames},
    wire::sip::{Message, Name, digest},
};

const DEVICE: (u64, &str) = (1, "198.51.100.40:49001");
const OTHER: (u64, &str) = (2, "198.51.100.41:49002");
/// Of the trunk below, and a server of its carrier elsewhere.
const HOST: (u64, &str) = (3, "203.0.113.7:49003");
const ELSEWHERE: (u64, &str) = (4, "198.51.100.42:49004");

const PARTNER: &str = "[tls]\nclient_ca = \"ca.pem\"\n[trunk.partner]\nhost = \"203.0.113.7\"\npstn = false\n\
                       client_name = \"sip.carrier.example\"\nnumbers = [\"+12025550100\"]\n";
const CONTACT: &str = "Contact: <sip:me@10.0.0.4;transport=tls>\n";

fn certified(b: &mut Bench, flow: (u64, &str), dns: &[&str], uris: &[&str]) {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    b.input(Input::Certified { flow: tls(flow), names: SubjectNames { dns: owned(dns), uris: owned(uris) } });
}

fn send_invite(b: &mut Bench, flow: Flow, uri: &str, from: &str, extra: &str) {
    let call_id = format!("call-{}", b.serial);
    b.request(flow, ("INVITE", uri), (&format!("{from};tag=c"), &format!("<{uri}>")), (&call_id, 1), (extra, SDP));
}

fn dial(b: &mut Bench, flow: Flow, uri: &str, from: &str) {
    b.sent.clear();
    send_invite(b, flow, uri, from, "");
}

fn answered(b: &mut Bench, flow: Flow) -> Message {
    b.take_response("INVITE", &flow.remote.to_string(), 200)
}

/// Calls with a user's password.
fn call_as(b: &mut Bench, flow: Flow, user: &str, uri: &str) {
    let from = format!("<sip:{user}@pbx.example.com>");
    send_invite(b, flow, uri, &from, "");
    let challenge = answered(b, flow);
    let challenges = challenge.lines(Name::ProxyAuthenticate);
    let answer = digest::answer(challenges, user, "secret", "INVITE", uri, b"", "cnonce", 1).unwrap();
    send_invite(b, flow, uri, &from, &format!("Proxy-Authorization: {answer}\n"));
}

#[test]
fn a_device_registers_as_a_user_of_its_certificate_with_the_password_and_as_nobody_else() {
    for (uri, status_of_alice) in [
        ("sip:bob@pbx.example.com", 403),
        ("sips:1002@pbx.example.com", 403),
        ("sip:gone@pbx.example.com", 403),
        ("sip:alice@pbx.example.com", 200),
        ("sip:bob@other.example", 200),
        ("sip:pbx.example.com", 200),
    ] {
        let mut b = Bench::new();
        certified(&mut b, DEVICE, &["phone-17.example"], &[uri]);
        let answer = register(&mut b, tls(DEVICE), "alice", CONTACT);
        assert_eq!(answer.status(), status_of_alice, "{uri}");
        let is_bound = b.core.bindings().iter().any(|binding| binding.flow == tls(DEVICE));
        assert_eq!(is_bound, status_of_alice == 200, "{uri}");
        assert_eq!(
            register(&mut b, tls(OTHER), "alice", CONTACT).status(),
            200,
            "another connection is not held to it"
        );
    }
    let mut b = Bench::new();
    certified(&mut b, DEVICE, &[], &["sip:bob@pbx.example.com"]);
    assert_eq!(register(&mut b, tls(DEVICE), "bob", CONTACT).status(), 200);
    let line = ("REGISTER", "sip:pbx.example.com");
    let bob = "<sip:bob@pbx.example.com>";
    b.request(tls(DEVICE), line, (&format!("{bob};tag=r"), bob), ("no-password", 1), ("", ""));
    assert_eq!(b.take_response("REGISTER", DEVICE.1, 200).status(), 401);
}

#[test]
fn a_device_calls_as_a_user_of_its_certificate_and_is_held_to_it_as_long_as_the_connection_lasts() {
    let mut b = Bench::new();
    certified(&mut b, DEVICE, &[], &["sip:bob@pbx.example.com"]);
    call_as(&mut b, tls(DEVICE), "alice", "sip:1002@pbx.example.com");
    let refusal = answered(&mut b, tls(DEVICE));
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Certificate Of Another User"));
    assert!(b.find_request("INVITE", BOB).is_none());
    call_as(&mut b, tls(DEVICE), "bob", "sip:1002@pbx.example.com");
    b.take_request("INVITE", BOB);
    b.input(Input::FlowFailed { flow: tls(DEVICE) });
    b.sent.clear();
    call_as(&mut b, tls(DEVICE), "alice", "sip:1002@pbx.example.com");
    b.take_request("INVITE", BOB);
}

#[test]
fn an_emergency_call_is_not_held_to_a_certificate() {
    let mut b = Bench::new();
    certified(&mut b, DEVICE, &[], &["sip:bob@pbx.example.com"]);
    call_as(&mut b, tls(DEVICE), "alice", "sip:911@pbx.example.com");
    assert_eq!(b.take_request("INVITE", TRUNK).1.request_uri(), "sip:911@203.0.113.5;user=phone");
}

#[test]
fn a_telephone_behind_an_edge_server_that_is_a_trunk_reaches_help() {
    let mut b = Bench::with(&format!("{CONFIG}{PARTNER}"));
    certified(&mut b, ELSEWHERE, &["sip.carrier.example"], &[]);
    dial(&mut b, tls(ELSEWHERE), "sip:911@pbx.example.com", "<sip:+14155550123@203.0.113.7>");
    assert_eq!(answered(&mut b, tls(ELSEWHERE)).status(), 404, "an emergency number from the carrier is a loop");
    let path = format!("Supported: path\nPath: <sip:{};transport=tls;lr>\n{CONTACT}", ELSEWHERE.1);
    assert_eq!(register(&mut b, tls(ELSEWHERE), "alice", &path).status(), 200);
    b.sent.clear();
    call_as(&mut b, tls(ELSEWHERE), "alice", "sip:911@pbx.example.com");
    assert_eq!(b.take_request("INVITE", TRUNK).1.request_uri(), "sip:911@203.0.113.5;user=phone");
    dial(&mut b, tls(ELSEWHERE), "sip:911@pbx.example.com", "<sip:+14155550123@203.0.113.7>");
    assert_eq!(answered(&mut b, tls(ELSEWHERE)).status(), 404, "still the carrier");
}

#[test]
fn a_trunk_with_a_client_name_is_known_by_it_wherever_it_is_and_by_its_address_no_more() {
    let bobs_line = "sip:+12025551002@pbx.example.com";
    // A call of ours that the carrier returns: the address it shows is a user's.
    let from = "<sip:+12025551001@pbx.example.com>";
    let mut b = Bench::with(&format!("{CONFIG}{PARTNER}"));
    send_invite(&mut b, tls(HOST), bobs_line, "<sip:+14155550123@203.0.113.7>", "");
    assert_eq!(answered(&mut b, tls(HOST)).status(), 407, "the trunk's address without its certificate");

    certified(&mut b, OTHER, &["carrier.example"], &["sip:sip.carrier.example.evil.example"]);
    send_invite(&mut b, tls(OTHER), bobs_line, from, "");
    assert_eq!(answered(&mut b, tls(OTHER)).status(), 407, "another name");

    certified(&mut b, ELSEWHERE, &["other.example"], &["sip:sip.carrier.example"]);
    send_invite(&mut b, tls(ELSEWHERE), bobs_line, from, "");
    b.take_request("INVITE", BOB);
    send_invite(&mut b, tls(ELSEWHERE), "sip:1001@pbx.example.com", from, "");
    assert_eq!(answered(&mut b, tls(ELSEWHERE)).status(), 404, "a trunk reaches direct lines only");

    b.input(Input::FlowFailed { flow: tls(ELSEWHERE) });
    b.sent.clear();
    send_invite(&mut b, tls(ELSEWHERE), bobs_line, from, "");
    assert_eq!(answered(&mut b, tls(ELSEWHERE)).status(), 407, "the certificate was the connection's");
}

#[test]
fn a_trunk_that_is_not_in_use_is_known_by_nothing() {
    let mut b = Bench::with(&format!("{CONFIG}{PARTNER}enabled = false\n"));
    certified(&mut b, ELSEWHERE, &["sip.carrier.example"], &[]);
    send_invite(&mut b, tls(ELSEWHERE), "sip:+12025551002@pbx.example.com", "<sip:+14155550123@203.0.113.7>", "");
    assert_eq!(answered(&mut b, tls(ELSEWHERE)).status(), 407);
}
