//! Devices with several flows, behind proxies, and called by their GRUU, message by message.

use super::bench::{Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{
    call::Input,
    config::{Place, User, parse_address},
    types::{ConnectionId, Flow, Transport},
    wire::sip::{Message, Name, digest},
};

/// Bob's device over its first and second connection, his other device, and Alice's.
const FIRST: (u64, &str) = (1, "198.51.100.10:49001");
const SECOND: (u64, &str) = (2, "198.51.100.10:49002");
const OTHER: (u64, &str) = (3, "198.51.100.11:49003");
const ALICE: (u64, &str) = (4, "198.51.100.12:49004");
const PROXY: &str = "198.51.100.20:5060";

pub(super) fn tls((connection, remote): (u64, &str)) -> Flow {
    let local = "192.0.2.1:5061".parse().unwrap();
    Flow { transport: Transport::Tls, local, remote: remote.parse().unwrap(), connection: ConnectionId(connection) }
}

/// A REGISTER with these lines, with and without the password as asked.
pub(super) fn register(b: &mut Bench, flow: Flow, user: &str, lines: &str) -> Message {
    let ask = |b: &mut Bench, credentials: &str| {
        b.serial += 1;
        let head = format!(
            "REGISTER sip:pbx.example.com SIP/2.0\nVia: SIP/2.0/{} {};branch=z9hG4bK-{serial}\n\
             From: <sip:{user}@pbx.example.com>;tag=r\nTo: <sip:{user}@pbx.example.com>\n\
             Call-ID: {user}-{}\nCSeq: {serial} REGISTER\nMax-Forwards: 70\n{credentials}{lines}",
            flow.transport.via_token(),
            flow.remote,
            flow.remote,
            serial = b.serial,
        );
        b.receive(flow, &head, "");
        b.take_response("REGISTER", &flow.remote.to_string(), 200)
    };
    let challenge = ask(b, "");
    let challenges = challenge.lines(Name::WwwAuthenticate);
    let answer = digest::answer(challenges, user, "secret", "REGISTER", "sip:pbx.example.com", b"", "cnonce", 1);
    ask(b, &format!("Authorization: {}\n", answer.unwrap()))
}

fn flow_lines(instance: u32, reg_id: u32) -> String {
    format!(
        "Supported: outbound, path, gruu\n\
         Contact: <sip:bob@10.0.0.{instance};transport=tls>;reg-id={reg_id};+sip.instance=\"<urn:uuid:{instance}>\"\n"
    )
}

/// Bob has no contact but these flows.
fn bob_with(flows: &[((u64, &str), u32, u32)]) -> Bench {
    let mut b = Bench::new();
    assert_eq!(register(&mut b, tls(FIRST), "bob", "Contact: *\nExpires: 0\n").status(), 200);
    for &(flow, instance, reg_id) in flows {
        assert_eq!(register(&mut b, tls(flow), "bob", &flow_lines(instance, reg_id)).status(), 200);
    }
    b
}

fn fail(b: &mut Bench, flow: (u64, &str)) {
    b.input(Input::FlowFailed { flow: tls(flow) });
}

#[test]
fn a_device_with_two_flows_is_called_over_one_and_over_the_other_when_that_fails() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2)]);
    b.trunk_calls_bob();
    b.take_request("INVITE", SECOND.1);
    assert!(b.find_request("INVITE", FIRST.1).is_none(), "one device rang twice");
    fail(&mut b, SECOND);
    let invite = b.take_request("INVITE", FIRST.1);
    assert_eq!(b.core.bindings_len(), 2, "Alice's and the flow that is left");
    b.accept(&invite, "bob", SDP);
    b.take_request("ACK", FIRST.1);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", FIRST.1);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn with_its_last_flow_gone_a_device_is_unavailable() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2)]);
    b.trunk_calls_bob();
    fail(&mut b, SECOND);
    fail(&mut b, FIRST);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 480);
    b.finish();
}

#[test]
fn a_busy_device_is_not_tried_over_its_other_flow_and_its_neighbour_rings_on() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2), (OTHER, 2, 1)]);
    b.trunk_calls_bob();
    let (busy, other) = (b.take_request("INVITE", SECOND.1), b.take_request("INVITE", OTHER.1));
    b.answer(&busy, 486, "busy", "", "");
    assert!(b.find_request("INVITE", FIRST.1).is_none());
    b.answer(&other, 180, "other", "", "");
    fail(&mut b, FIRST);
    assert!(b.find_request("CANCEL", OTHER.1).is_none());
    b.answer(&other, 603, "other", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 603);
    b.finish();
}

#[test]
fn a_flow_that_a_proxy_reports_as_failed_is_forgotten_and_the_next_is_tried_by_its_own_path() {
    let mut b = bob_with(&[]);
    for (reg_id, edge) in [(1, "one"), (2, "two")] {
        let lines = format!("Path: <sip:{edge}@edge.example.com;lr;ob>\n{}", flow_lines(1, reg_id));
        let answer = register(&mut b, udp(PROXY), "bob", &lines);
        assert_eq!((answer.status(), answer.header(Name::Require)), (200, Some("outbound")));
        assert_eq!(answer.header(Name::Path), Some(format!("<sip:{edge}@edge.example.com;lr;ob>").as_str()));
    }
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", PROXY);
    assert_eq!(invite.1.header(Name::Route), Some("<sip:two@edge.example.com;lr;ob>"));
    assert_eq!(invite.1.request_uri(), "sip:bob@10.0.0.1;transport=tls");
    b.answer(&invite, 430, "edge", "", "");
    let ack = b.take_request("ACK", PROXY).1;
    assert_eq!(ack.header(Name::Route), invite.1.header(Name::Route));
    let again = b.take_request("INVITE", PROXY);
    assert_eq!(again.1.header(Name::Route), Some("<sip:one@edge.example.com;lr;ob>"));
    assert_eq!(b.core.bindings_len(), 2, "Alice's and the flow that is left");
    b.answer(&again, 430, "edge", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 480);
    assert_eq!(b.core.bindings_len(), 1);
    b.finish();
}

#[test]
fn a_call_goes_on_over_the_other_flow_of_its_device() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2)]);
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", SECOND.1);
    b.accept(&invite, "bob", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    fail(&mut b, SECOND);
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", FIRST.1);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_connection_of_a_proxy_lets_nobody_call_without_a_password() {
    let mut b = bob_with(&[]);
    let lines = "Supported: path\nPath: <sip:edge.example.com;lr>\nContact: <sip:bob@10.0.0.1>\n";
    assert_eq!(register(&mut b, tls(OTHER), "bob", lines).status(), 200);
    assert_eq!(refusal(&mut b, OTHER, "sip:1001@pbx.example.com"), 407);
    b.finish();
}

/// Emergency RULES 5: whichever line of a telephone calls for help, it is one that has registered over this connection. Since any of
/// them could say that it is another, its call comes from the company's address (RULES 4.1).
#[test]
fn of_the_lines_of_one_telephone_the_one_that_calls_for_help_is_not_challenged_and_is_called_back() {
    const PREFERS_BOB: &str = "P-Preferred-Identity: <sip:bob@pbx.example.com>\n";
    const PATH: &str = "Supported: path\nPath: <sip:edge.example.com;lr>\n";
    let (alices, bobs) = (Some("+12025551001"), Some("+12025551002"));
    for (from, lines, paths, callback) in [
        ("alice@pbx.example.com", "", ["", ""], alices),
        ("1002@pbx.example.com", "", ["", ""], bobs),
        ("anonymous@anonymous.invalid", PREFERS_BOB, ["", ""], bobs),
        ("alice@pbx.example.com", PREFERS_BOB, ["", ""], bobs),
        ("anonymous@anonymous.invalid", "", ["", ""], None),
        ("alice@elsewhere.example", "", ["", ""], None),
        // Registered elsewhere.
        ("carol@pbx.example.com", "", ["", ""], None),
        ("alice@pbx.example.com", "", [PATH, PATH], None),
        ("alice@pbx.example.com", "", ["", PATH], None),
    ] {
        let users = [("alice", "1001"), ("bob", "1002"), ("carol", "1003")];
        let users = users.map(|(name, extension)| {
            let home = "country = \"US\"\nA3 = \"Arlington\"\nRD = \"Sample\"\nHNO = \"7\"\nPC = \"22201\"\n";
            let place = Place { private_address: Some(parse_address(home).unwrap()), is_shared: false };
            User { place, ..user(name, extension, &format!("+1202555{extension}")) }
        });
        let mut b = Bench::with_users(CONFIG, users, vec![binding("carol", CAROL)]);
        for (user, path) in ["alice", "bob"].into_iter().zip(paths) {
            let lines = format!("{path}Contact: <sip:{user}@10.0.0.1>\n");
            assert_eq!(register(&mut b, tls(OTHER), user, &lines).status(), 200);
        }
        let dialogue = (&*format!("<sip:{from}>;tag=a"), "<sip:911@pbx.example.com>");
        b.request(tls(OTHER), ("INVITE", "sip:911@pbx.example.com"), dialogue, ("help", 1), (lines, SDP));
        match callback {
            Some(callback) => {
                let (_, invite) = b.take_request("INVITE", TRUNK);
                assert!(invite.header(Name::From).unwrap().contains(callback), "{from} {lines}");
                let body = String::from_utf8_lossy(&invite.body()).into_owned();
                assert!(body.contains(">Example<") && !body.contains("Sample"), "{body}");
            }
            None => assert_eq!(b.take_response("INVITE", OTHER.1, 200).status(), 407, "{from} {paths:?}"),
        }
    }
}

/// Alice or another calls this URI.
fn dial(b: &mut Bench, from: (u64, &str), uri: &str) {
    let line = ("<sip:alice@pbx.example.com>;tag=a", "<sip:bob@pbx.example.com>");
    let call_id = format!("call-{}", b.serial);
    b.request(tls(from), ("INVITE", uri), line, (&call_id, 1), ("", SDP));
}

/// ... and is refused with this status.
fn refusal(b: &mut Bench, from: (u64, &str), uri: &str) -> u16 {
    dial(b, from, uri);
    b.take_response("INVITE", from.1, 200).status()
}

fn gruu(answer: &Message, name: &str) -> String {
    let contact = answer.header(Name::Contact).unwrap();
    let value = contact.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {contact}"));
    value.split('"').next().unwrap().to_owned()
}

#[test]
fn a_gruu_reaches_exactly_its_device() {
    let mut b = bob_with(&[(OTHER, 2, 1)]);
    let answer = register(&mut b, tls(FIRST), "bob", &flow_lines(1, 1));
    register(&mut b, tls(ALICE), "alice", "Contact: <sip:alice@10.0.0.9>\n");
    for name in ["pub-gruu", "temp-gruu"] {
        dial(&mut b, ALICE, &gruu(&answer, name));
        let invite = b.take_request("INVITE", FIRST.1);
        assert!(b.find_request("INVITE", OTHER.1).is_none(), "{name} rang the other device");
        b.answer(&invite, 486, "busy", "", "");
        b.take_request("ACK", FIRST.1);
        assert_eq!(b.take_response("INVITE", ALICE.1, 200).status(), 486);
    }
    fail(&mut b, FIRST);
    assert_eq!(refusal(&mut b, ALICE, &gruu(&answer, "pub-gruu")), 480, "the device is not there");
    assert_eq!(refusal(&mut b, ALICE, &gruu(&answer, "temp-gruu")), 404, "the address is no more");
    assert_eq!(refusal(&mut b, ALICE, "sip:carol@pbx.example.com;gr=urn:uuid:1"), 404);
    assert!(b.find_request("INVITE", OTHER.1).is_none());
    b.finish();
}

#[test]
fn a_register_may_require_what_is_supported_and_nothing_else() {
    let mut b = bob_with(&[]);
    let contact = "Contact: <sip:bob@10.0.0.1>\n";
    let lines = format!("Require: path, outbound, gruu\n{contact}");
    assert_eq!(register(&mut b, tls(FIRST), "bob", &lines).status(), 200);
    let head = "REGISTER sip:pbx.example.com SIP/2.0\nVia: SIP/2.0/TLS 198.51.100.10:49001;branch=z9hG4bK-require\n\
                From: <sip:bob@pbx.example.com>;tag=r\nTo: <sip:bob@pbx.example.com>\nCall-ID: require\n\
                CSeq: 1 REGISTER\nMax-Forwards: 70\nRequire: path, foo\n";
    b.receive(tls(FIRST), head, "");
    let refused = b.take_response("REGISTER", FIRST.1, 200);
    assert_eq!((refused.status(), refused.header(Name::Unsupported)), (420, Some("foo")));
    b.finish();
}

#[test]
fn a_text_takes_the_path_to_its_device_and_a_gruu_chooses_one() {
    let mut b = bob_with(&[(OTHER, 2, 1)]);
    let path = "<sip:edge.example.com;lr;ob>";
    let answer = register(&mut b, tls(FIRST), "bob", &format!("Path: {path}\n{}", flow_lines(1, 1)));
    register(&mut b, tls(ALICE), "alice", "Contact: <sip:alice@10.0.0.9>\n");
    let from = ("<sip:alice@pbx.example.com>;tag=a", "<sip:bob@pbx.example.com>");
    b.request(tls(ALICE), ("MESSAGE", &gruu(&answer, "temp-gruu")), from, ("text", 1), ("", ""));
    let text = b.take_request("MESSAGE", FIRST.1);
    assert_eq!(text.1.header(Name::Route), Some(path));
    assert!(b.find_request("MESSAGE", OTHER.1).is_none(), "it is for one device");
    b.answer(&text, 200, "x", "", "");
    assert_eq!(b.take_response("MESSAGE", ALICE.1, 200).status(), 200);
    b.finish();
}

#[test]
fn a_subscription_goes_on_over_the_other_flow_of_its_device_and_ends_with_the_last() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2)]);
    let from = ("<sip:bob@pbx.example.com>;tag=b", "<sip:alice@pbx.example.com>");
    let line = ("SUBSCRIBE", "sip:alice@pbx.example.com");
    b.request(tls(SECOND), line, from, ("lamp", 1), ("Event: dialog\n", ""));
    let first = b.take_request("NOTIFY", SECOND.1);
    b.answer(&first, 200, "", "", "");
    b.pass(2_000);
    fail(&mut b, SECOND);
    b.request(
        udp(TRUNK),
        ("INVITE", "sip:+12025551001@pbx.example.com"),
        ("<sip:+14155550123@203.0.113.5>;tag=trunk", "<sip:+12025551001@pbx.example.com>"),
        ("trunk-call", 1),
        ("", SDP),
    );
    let invite = b.take_request("INVITE", super::ALICE);
    b.answer(&invite, 180, "alice", "", "");
    let ringing = b.take_request("NOTIFY", FIRST.1);
    b.answer(&ringing, 200, "", "", "");
    fail(&mut b, FIRST);
    assert_eq!(b.core.subscriptions_len(), 0);
}

/// Its own keep-alives, which a device was asked for, are all that shows a silent flow to be alive.
#[test]
fn a_flow_that_is_not_kept_alive_is_closed_and_its_device_called_over_the_other() {
    let mut b = bob_with(&[(FIRST, 1, 1), (SECOND, 1, 2)]);
    b.pass(100_000);
    b.input(Input::Alive { flow: tls(FIRST) });
    b.pass(49_000);
    assert_eq!(b.closed, []);
    b.pass(1_000);
    assert_eq!(b.closed, [tls(SECOND)]);
    assert_eq!(b.core.bindings_len(), 2, "Alice's and the flow that is left");
    b.trunk_calls_bob();
    b.take_request("INVITE", FIRST.1);
    b.pass(99_000);
    assert_eq!(b.closed, [tls(SECOND)]);
}

#[test]
fn a_contact_that_is_no_flow_may_be_silent() {
    let mut b = Bench::new();
    assert_eq!(register(&mut b, tls(FIRST), "bob", "Contact: <sip:bob@10.0.0.1;transport=tls>\n").status(), 200);
    b.pass(1_000_000);
    assert_eq!(b.closed, []);
    assert!(b.core.bindings().iter().any(|binding| binding.flow == tls(FIRST)));
}

#[test]
fn no_flow_is_closed_during_a_call_and_a_silent_one_is_after_it() {
    let mut b = bob_with(&[(FIRST, 1, 1)]);
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", FIRST.1);
    b.accept(&invite, "bob", SDP);
    b.take_request("ACK", FIRST.1);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.pass(400_000);
    assert_eq!(b.closed, []);
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", FIRST.1);
    b.answer(&bye, 200, "", "", "");
    b.pass(149_000);
    assert_eq!(b.closed, [], "the answer was heard");
    b.pass(152_000);
    assert_eq!(b.closed, [tls(FIRST)]);
    b.finish();
}
