//! The acceptance list of the emergency specification (section 10), as far as it is a matter of messages. `tests/tidy` has the
//! whole list, with the test of each point.

use super::bench::{ALICE, BOB, Bench, CAROL, CONFIG, SDP, TRUNK, binding, udp, user};
use crate::{
    types::{ConnectionId, Flow, Transport},
    wire::sip::{Message, Name},
};

/// Carriers that connect over TCP and TLS, beside the one over UDP.
const OTHER_TRUNKS: [(Transport, &str); 2] =
    [(Transport::Tcp, "203.0.113.6:5060"), (Transport::Tls, "203.0.113.7:5061")];
const TRANSPORTS: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

fn config(more_of_emergency: &str) -> String {
    let secured = "[trunk.secured]\nhost = \"203.0.113.7\"\nport = 5061\ntransport = \"tls\"\nencryption = \"off\"\n\
                   numbers = [\"+12025550100\"]\npstn = false\n";
    CONFIG.replace("[trunk.carrier]", &format!("{more_of_emergency}\n[trunk.carrier]")) + secured
}

fn without_trunk() -> String {
    config("").replace("pstn = true", "pstn = false")
}

/// A peer at this address; each connection is its own.
fn flow(transport: Transport, remote: &str) -> Flow {
    let port = if transport == Transport::Tls { 5061 } else { 5060 };
    let connection = if transport.is_reliable() { ConnectionId(77) } else { ConnectionId::NONE };
    Flow { transport, local: format!("192.0.2.1:{port}").parse().unwrap(), connection, ..udp(remote) }
}

/// A server at which Alice's telephone is registered over this transport.
fn bench(config: &str, transport: Transport) -> Bench {
    let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
    let over_udp = transport == Transport::Udp;
    let bindings = if over_udp { vec![binding("alice", ALICE)] } else { Vec::new() };
    let mut b = Bench::with_users(config, users, bindings);
    if !over_udp {
        b.register(flow(transport, ALICE), "alice");
    }
    b
}

fn send(b: &mut Bench, flow: Flow, method: &str, number: &str, extra: &str) {
    let uri = format!("sip:{number}@pbx.example.com");
    let is_carrier = flow.remote.to_string().starts_with("203.");
    let caller = if is_carrier { "+14155550123@carrier.example" } else { "alice@pbx.example.com" };
    let (from, to) = (&*format!("<sip:{caller}>;tag=x"), format!("<{uri}>"));
    let (call_id, kind) = (
        format!("{method}-{number}-{}", b.serial),
        if method == "MESSAGE" { "Content-Type: text/plain\n" } else { "" },
    );
    let body = if method == "MESSAGE" { "help" } else { SDP };
    b.request(flow, (method, &uri), (from, &to), (&call_id, 1), (&format!("{kind}{extra}"), body));
}

fn header(message: &Message, name: Name) -> String {
    message.header(name).unwrap_or_default().to_owned()
}

#[test]
fn a2_each_row_of_the_decision_over_udp_tcp_and_tls() {
    for transport in TRANSPORTS {
        let (alice, stranger) =
            (flow(transport, ALICE), Flow { connection: ConnectionId(78), ..flow(transport, CAROL) });
        let stranger = if transport == Transport::Udp { flow(transport, CAROL) } else { stranger };
        // D1 and D5: nobody is asked who it is.
        for (row, from, at) in [("D1", alice, ALICE), ("D5", stranger, CAROL)] {
            let mut b = bench(&without_trunk(), transport);
            send(&mut b, from, "INVITE", "911", "");
            let refusal = b.take_response("INVITE", at, 200);
            let told = (refusal.status(), refusal.reason_phrase());
            assert_eq!(told, (403, "Emergency Calls Not Available"), "{row} {transport}");
        }
        // D2, D8 (no free slot) and D7.
        let mut b = bench(&config(""), transport);
        b.core.calls_max = 0;
        send(&mut b, alice, "INVITE", "911", "");
        let invite = b.take_request("INVITE", TRUNK);
        assert_eq!(header(&invite.1, Name::Priority), "emergency", "D2 {transport}");
        assert!(header(&invite.1, Name::From).contains("+12025551001"), "D2 {transport}");
        b.answer(&invite, 503, "psap", "", "");
        let failure = b.take_response("INVITE", ALICE, 300);
        let told = (failure.status(), failure.reason_phrase());
        assert_eq!(told, (503, "Emergency Call Not Connected"), "D7 {transport}");
        // D3: as the company, whoever it is.
        let mut b = bench(&config("site_networks = [\"198.51.100.0/24\"]"), transport);
        send(&mut b, stranger, "INVITE", "911", "");
        let invite = b.take_request("INVITE", TRUNK).1;
        assert!(header(&invite, Name::From).contains("+12025550100"), "D3 {transport}");
        assert!(b.sent.iter().all(|(_, m)| m.status() < 200), "D3 {transport}: a challenge");
        // D4: asked who it is, then refused.
        for more in ["", "unauthenticated = \"deny\"\nsite_networks = [\"198.51.100.0/24\"]"] {
            let mut b = bench(&config(more), transport);
            send(&mut b, stranger, "INVITE", "911", "");
            let challenge = b.take_response("INVITE", CAROL, 200);
            assert_eq!(challenge.status(), 407, "D4 {transport}");
            let lines = challenge.lines(Name::ProxyAuthenticate);
            let uri = "sip:911@pbx.example.com";
            let answer =
                crate::wire::sip::digest::answer(lines, "alice", "wrong", "INVITE", uri, SDP.as_bytes(), "c", 1);
            send(&mut b, stranger, "INVITE", "911", &format!("Proxy-Authorization: {}\n", answer.unwrap()));
            assert_eq!(b.take_response("INVITE", CAROL, 200).status(), 403, "D4 {transport}");
            assert!(b.find_request("INVITE", TRUNK).is_none(), "D4 {transport}");
        }
        // D9.
        let mut b = bench(&config(""), transport);
        send(&mut b, alice, "INVITE", "933", "");
        let invite = b.take_request("INVITE", TRUNK).1;
        assert!(invite.request_uri().starts_with("sip:933@"), "D9 {transport}");
        assert_eq!(header(&invite, Name::Priority), "normal", "D9 {transport}");
        // D10.
        for (row, config) in [("D10", config("")), ("D10 without a trunk", without_trunk())] {
            let mut b = bench(&config, transport);
            send(&mut b, alice, "MESSAGE", "911", "");
            assert_eq!(b.take_response("MESSAGE", ALICE, 200).status(), 403, "{row} {transport}");
        }
    }
    // D6.
    for (transport, trunk) in OTHER_TRUNKS.into_iter().chain([(Transport::Udp, TRUNK)]) {
        let mut b = bench(&config(""), Transport::Udp);
        send(&mut b, flow(transport, trunk), "INVITE", "911", "");
        assert_eq!(b.take_response("INVITE", trunk, 200).status(), 404, "D6 {transport}");
        assert!(b.sent.iter().all(|(_, m)| !m.is_request()), "D6 {transport}: it went out again");
    }
}

#[test]
fn a3_a_refusal_takes_no_time_at_full_load() {
    let mut b = bench(&without_trunk(), Transport::Udp);
    b.core.calls_max = 0;
    b.core.lower_limits(0, 0);
    for number in 0..2_000 {
        send(&mut b, udp("198.51.100.77:5060"), "INVITE", &format!("1{number:03}"), "");
    }
    b.sent.clear();
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    // Not one timer has run in between.
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 403);
}

#[test]
fn a6_a_rule_that_strips_a_9_does_not_alter_911() {
    let config = CONFIG.replace("[trunk.carrier]", "[dialing]\noutside_prefixes = [\"9\"]\n[trunk.carrier]");
    for dialled in ["911", "9911", "9-911", "9911%23"] {
        let mut b = bench(&config, Transport::Udp);
        send(&mut b, udp(ALICE), "INVITE", dialled, "");
        let invite = b.take_request("INVITE", TRUNK).1;
        assert!(invite.request_uri().starts_with("sip:911@"), "{dialled}: {}", invite.request_uri());
    }
}

#[test]
fn a8_a_dead_trunk_and_a_busy_one_cost_less_than_eight_seconds() {
    let trunk = |name: &str, host: &str| {
        format!(
            "[trunk.{name}]\nhost = \"{host}\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n\
             numbers = [\"+12025550100\"]\n"
        )
    };
    let config = format!("{CONFIG}{}{}", trunk("second", "203.0.113.8"), trunk("third", "203.0.113.9"));
    let mut b = bench(&config, Transport::Udp);
    let began = b.now;
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    let dead = b.take_request("INVITE", TRUNK);
    b.pass(1_999);
    assert!(b.find_request("INVITE", "203.0.113.8:5060").is_none(), "it may still answer");
    b.pass(1);
    let busy = b.take_request("INVITE", "203.0.113.8:5060");
    b.answer(&busy, 486, "busy", "", "");
    let third = b.take_request("INVITE", "203.0.113.9:5060");
    b.accept(&third, "psap", SDP);
    b.take_request("ACK", "203.0.113.9:5060");
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200);
    assert!(b.now.since(began).as_millis() < 8_000);
    // Whoever answers late is not connected too.
    b.accept(&dead, "late", SDP);
    b.take_request("ACK", TRUNK);
    b.take_request("BYE", TRUNK);
}

#[test]
fn where_nothing_else_is_left_a_silent_trunk_has_more_time_and_then_the_call_fails() {
    for says_trying in [false, true] {
        let mut b = bench(CONFIG, Transport::Udp);
        send(&mut b, udp(ALICE), "INVITE", "911", "");
        let sent = b.take_request("INVITE", TRUNK);
        if says_trying {
            b.pass(3_000);
            b.answer(&sent, 100, "", "", "");
        }
        b.pass(if says_trying { 8_900 } else { 11_900 });
        assert!(!b.told().contains("CANCEL") && !b.told().contains(" 503 "), "{}", b.told());
        b.pass(200);
        assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 503);
    }
    let mut b = bench(CONFIG, Transport::Udp);
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    let sent = b.take_request("INVITE", TRUNK);
    b.pass(7_000);
    b.answer(&sent, 180, "psap", "", "");
    // From now on it is not timed: the answering point may queue the call.
    b.pass(60_000);
    b.accept(&sent, "psap", SDP);
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200);
}

#[test]
fn a_trunk_that_is_believed_down_is_tried_after_those_that_are_up() {
    let second = "[trunk.second]\nhost = \"203.0.113.8\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n\
                  numbers = [\"+12025550100\"]\n";
    let mut b = bench(&format!("{CONFIG}{second}"), Transport::Udp);
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    b.take_request("INVITE", TRUNK);
    b.pass(2_000);
    let psap = b.take_request("INVITE", "203.0.113.8:5060");
    b.answer(&psap, 486, "psap", "", "");
    b.pass(5_000);
    b.sent.clear();
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    let psap = b.take_request("INVITE", "203.0.113.8:5060");
    assert!(b.find_request("INVITE", TRUNK).is_none(), "it was silent a moment ago");
    b.answer(&psap, 486, "psap", "", "");
    b.take_request("INVITE", TRUNK);
}

#[test]
fn a10_a_trunk_that_refuses_the_location_still_connects() {
    for status in [400, 413, 415, 424, 488, 513, 606] {
        let mut b = bench(CONFIG, Transport::Udp);
        send(&mut b, udp(ALICE), "INVITE", "911", "");
        let first = b.take_request("INVITE", TRUNK);
        assert!(header(&first.1, Name::ContentType).starts_with("multipart/mixed"));
        b.answer(&first, status, "psap", "", "");
        let again = b.take_request("INVITE", TRUNK);
        assert_eq!(header(&again.1, Name::ContentType), "application/sdp", "{status}");
        assert!(again.1.header(Name::Geolocation).is_none() && again.1.header(Name::GeolocationRouting).is_none());
        assert_eq!(header(&again.1, Name::Priority), "emergency");
        b.accept(&again, "psap", SDP);
        b.take_request("ACK", TRUNK);
        assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200, "{status}");
    }
}

#[test]
fn a13_a_callback_reaches_a_telephone_whose_user_does_not_want_to_be_disturbed() {
    let forwarding = crate::config::Forwarding { is_do_not_disturb: true, ..crate::config::Forwarding::default() };
    let alice = crate::config::User { direct_line: None, forwarding, ..user("alice", "1001", "") };
    let users = [alice, user("bob", "1002", "+12025550100")];
    let mut b = Bench::with_users(CONFIG, users, vec![binding("alice", ALICE), binding("bob", BOB)]);
    send(&mut b, udp(ALICE), "INVITE", "911", "");
    let psap = b.take_request("INVITE", TRUNK);
    b.answer(&psap, 487, "psap", "", "");
    b.pass(40_000);
    b.sent.clear();
    send(&mut b, udp(TRUNK), "INVITE", "+12025550100", "");
    b.take_request("INVITE", ALICE);
    assert!(b.find_request("INVITE", BOB).is_none(), "the one telephone that called");
}
