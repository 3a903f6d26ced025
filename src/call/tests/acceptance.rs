//! The acceptance list of the emergency specification (section 10), as far as it is a matter of messages. `tests/tidy` has the
//! whole list, with the test of each point.

use super::bench::{ALICE, BOB, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{
    call::Input,
    config::calling::Money,
    media,
    types::{
        ConnectionId, Flow, Transport,
        limits::{REFUSALS_PER_SOURCE_MAX, REFUSALS_PER_USER_MAX},
    },
    wire::sip::{Message, Name, digest},
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
        // D8: what is kept for emergency calls, then the place of the newest ordinary call over a trunk.
        let mut b = bench(&config("reserved_calls = 1"), transport);
        b.core.calls_max = 1;
        let ordinary = busy_trunk(&mut b);
        for (id, is_preempted) in [("911", false), ("112", true)] {
            send(&mut b, alice, "INVITE", id, "");
            let invite = b.take_request("INVITE", TRUNK);
            assert_eq!(b.find_request("BYE", TRUNK).is_some(), is_preempted, "D8 {transport} {id}");
            b.accept(&invite, id, SDP);
            assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200, "D8 {transport} {id}");
        }
        let bye = b.take_request("BYE", &ordinary.remote.to_string()).1;
        assert_eq!(bye.header(Name::Reason), Some("preemption;cause=3;text=\"Generic Preemption\""), "D8 {transport}");
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
            let answer = digest::answer(lines, "alice", "wrong", "INVITE", uri, SDP.as_bytes(), "c", 1);
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
            for (from, at) in [(alice, ALICE), (stranger, CAROL)] {
                let mut b = bench(&config, transport);
                send(&mut b, from, "MESSAGE", "911", "");
                let refusal = b.take_response("MESSAGE", at, 200);
                assert_eq!(refusal.status(), 403, "{row} {transport} {at}");
                let text = String::from_utf8_lossy(&refusal.body()).into_owned();
                assert!(text.contains("not supported") && text.contains("voice call"), "{row} {transport}: {text}");
            }
        }
    }
    // D6.
    for (transport, trunk) in OTHER_TRUNKS.into_iter().chain([(Transport::Udp, TRUNK)]) {
        let mut b = bench(&config(""), Transport::Udp);
        send(&mut b, flow(transport, trunk), "INVITE", "911", "");
        assert_eq!(b.take_response("INVITE", trunk, 200).status(), 404, "D6 {transport}");
        assert!(b.sent.iter().all(|(_, m)| !m.is_request()), "D6 {transport}: it went out again");
        send(&mut b, flow(transport, trunk), "MESSAGE", "911", "");
        assert_eq!(b.take_response("MESSAGE", trunk, 200).status(), 403, "D10 {transport} of a trunk");
    }
}

/// An ordinary call of the trunk to Bob, who has answered it; Bob's flow.
fn busy_trunk(b: &mut Bench) -> Flow {
    let bob = Flow { connection: ConnectionId(79), ..flow(Transport::Tcp, BOB) };
    b.register(bob, "bob");
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    b.acknowledge(&Leg::of_caller(udp(TRUNK), &ok), 1, "");
    b.sent.clear();
    bob
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

/// Alice's telephone, from where ordinary calls are made, and another that knows her password.
const OFFICE: &str = "198.51.100.10:5060";
const ELSEWHERE: &str = "198.51.100.88:5060";
/// Guesses passwords; at the company's own site.
const GUESSER: &str = "192.168.7.7:5060";

fn with_password(b: &mut Bench, flow: Flow, number: &str, password: &str) {
    let before = b.serial;
    send(b, flow, "INVITE", number, "");
    let challenge = b.sent.iter().find(|(_, m)| !m.is_request() && m.status() == 407).map(|(_, m)| m.clone());
    let Some(challenge) = challenge else { return assert!(b.serial > before) };
    b.sent.clear();
    let (lines, uri) = (challenge.lines(Name::ProxyAuthenticate), format!("sip:{number}@pbx.example.com"));
    let answer = digest::answer(lines, "alice", password, "INVITE", &uri, SDP.as_bytes(), "c", 1).unwrap();
    send(b, flow, "INVITE", number, &format!("Proxy-Authorization: {answer}\n"));
}

fn answer_to(b: &mut Bench, at: &str) -> (u16, String) {
    let answer = b.take_response("INVITE", at, 200);
    b.sent.clear();
    (answer.status(), answer.reason_phrase().to_owned())
}

/// A server whose every limit is exhausted, one after the other, each shown by what it refuses.
fn exhausted() -> Bench {
    let limits = "concurrent_calls = 1\ncalls_per_minute = 1\nspend_per_day = \"1\"\n";
    let calling = format!(
        "[calling]\nallow = [\"international\"]\nblocked_prefixes = [\"+49\"]\ncostly_calls_per_day = 1\n{limits}"
    );
    let config = CONFIG
        .replace("20000-20099", "20000-20007")
        .replace("[trunk.carrier]\n", &format!("[trunk.carrier]\nrates = {{ \"+\" = \"60\" }}\n{limits}"))
        .replace("[trunk.carrier]", "reserved_calls = 0\nsite_networks = [\"192.168.0.0/16\"]\n[trunk.carrier]");
    let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
    let mut b = Bench::with_users(&format!("{config}{calling}"), users, vec![binding("bob", BOB)]);
    let (office, trunk) = (flow(Transport::Tcp, OFFICE), udp(TRUNK));
    b.register(office, "alice");
    // Two calls over the carrier: one of the user's, and one to Bob.
    send(&mut b, office, "INVITE", "+442079460123", "");
    let costly = b.take_request("INVITE", TRUNK);
    b.accept(&costly, "callee", SDP);
    assert_eq!(answer_to(&mut b, OFFICE).0, 200);
    b.pass(20_000);
    send(&mut b, trunk, "INVITE", "+12025551002", "");
    let ringing = b.take_request("INVITE", BOB);
    b.accept(&ringing, "bob", SDP);
    assert_eq!(answer_to(&mut b, TRUNK).0, 200);
    let refused = |b: &mut Bench, number: &str| {
        send(b, office, "INVITE", number, "");
        answer_to(b, OFFICE).1
    };
    assert_eq!(refused(&mut b, "+12025550177"), "Outside Numbers Not Allowed");
    assert_eq!(refused(&mut b, "+4930123456"), "Number Blocked");
    assert_eq!(refused(&mut b, "+442079460124"), "Costly Calls Barred");
    for used in [b.core.used_by("alice"), b.core.used_on(0)] {
        assert!(
            used.concurrent_calls >= 1 && used.calls_in_minute >= 1 && used.spent_today >= Money(1_000_000),
            "{used:?}"
        );
    }
    assert_eq!(refused(&mut b, "1002"), "No Media Port Free");
    b.input(Input::Media(media::Event::Load { worker: 0, busy_permille: 1_000 }));
    assert_eq!(refused(&mut b, "1002"), "Media Overloaded");
    b.core.calls_max = 2;
    assert_eq!(refused(&mut b, "1002"), "Too Many Calls");
    b.core.calls_max = 0;
    b.core.lower_limits(0, 0);
    b.input(Input::Drain);
    assert_eq!(refused(&mut b, "1002"), "Shutting Down");
    // A source at the company's site has guessed too often, and for this user.
    for n in 0..REFUSALS_PER_USER_MAX.max(REFUSALS_PER_SOURCE_MAX) {
        let other = format!("192.168.8.{n}:5060");
        let from = if n < REFUSALS_PER_SOURCE_MAX { GUESSER } else { &other };
        with_password(&mut b, udp(from), "1002", "wrong");
        b.sent.clear();
    }
    for from in [GUESSER, ELSEWHERE] {
        with_password(&mut b, udp(from), "1002", "secret");
        let told = b.sent.iter().map(|(_, m)| m.status()).collect::<Vec<_>>();
        assert!(told.iter().all(|status| *status == 407), "{from}: {told:?}");
        b.sent.clear();
    }
    b
}

#[test]
fn a9_with_every_limit_exhausted_at_once_an_emergency_call_connects() {
    let by_connection = |b: &mut Bench| {
        send(b, flow(Transport::Tcp, OFFICE), "INVITE", "911", "");
        OFFICE
    };
    let by_password = |b: &mut Bench| {
        with_password(b, udp(ELSEWHERE), "911", "secret");
        ELSEWHERE
    };
    let by_place = |b: &mut Bench| {
        send(b, udp(GUESSER), "INVITE", "911", "");
        GUESSER
    };
    let callers: [fn(&mut Bench) -> &'static str; 3] = [by_connection, by_password, by_place];
    for (n, call) in callers.into_iter().enumerate() {
        let mut b = exhausted();
        let caller = call(&mut b);
        let bye = b.take_request("BYE", TRUNK).1;
        assert_eq!(bye.header(Name::Reason), Some("preemption;cause=3;text=\"Generic Preemption\""), "{n}");
        let help = b.take_request("INVITE", TRUNK);
        assert!(help.1.request_uri().starts_with("sip:911@"), "{n}");
        b.accept(&help, "psap", SDP);
        b.take_request("ACK", TRUNK);
        assert_eq!(b.take_response("INVITE", caller, 200).status(), 200, "{n}");
    }
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
