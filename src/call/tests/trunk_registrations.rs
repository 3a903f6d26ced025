//! This server registered at a trunk: what it sends where, and which calls come of it.

use super::{
    ALICE_FROM,
    bench::{ALICE, BOB, Bench, CONFIG, SDP, TRUNK, udp},
    from_alice, invite,
};
use crate::{
    call::{Input, RegistrationView, TrunkView},
    sip::locate::{Record, RecordType, Reply},
    types::{Duration, Flow, Transport},
    wire::sip::{Message, Name, NameAddr, Uri},
};

const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n\", qop=\"auth\"\n";

/// The bench's carrier with these further keys.
fn config(keys: &str) -> String {
    CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}\n"))
}

fn bench(keys: &str) -> Bench {
    Bench::with(&config(keys))
}

/// Takes the last REGISTER of this account, and those before it.
fn take_register(b: &mut Bench, user: &str) -> (Flow, Message) {
    let is_it = |m: &Message| m.method_text() == "REGISTER" && contact_user(m).as_deref() == Some(user);
    let last = b.sent.iter().rfind(|(_, m)| m.is_request() && is_it(m)).cloned().expect("a REGISTER");
    b.sent.retain(|(_, m)| !is_it(m));
    last
}

/// Registers with the password, for so many seconds.
fn register(b: &mut Bench, expires_s: u32) -> Message {
    let first = take_register(b, "example-corp");
    b.answer(&first, 401, "r", CHALLENGE, "");
    let second = take_register(b, "example-corp");
    let contact = second.1.header(Name::Contact).unwrap_or_default().to_owned();
    b.answer(&second, 200, "r", &format!("Contact: {contact};expires={expires_s}\n"), "");
    second.1
}

fn carrier(b: &Bench) -> TrunkView {
    b.core.trunks().into_iter().find(|trunk| trunk.name == "carrier").unwrap()
}

fn registration(b: &Bench) -> RegistrationView {
    carrier(b).registration.unwrap()
}

fn contact_user(register: &Message) -> Option<String> {
    let uri = register.contact().and_then(|contact| Uri::parse(contact.uri))?;
    uri.user_decoded().map(|user| user.into_owned())
}

#[test]
fn a_trunk_is_up_once_this_server_is_registered_there() {
    let mut b = bench("register = \"on\"\ndomain = \"ims.carrier.example\"");
    assert_eq!((carrier(&b).state, registration(&b).state), ("down", "registering"));
    let sent = register(&mut b, 600);
    assert_eq!(sent.request_uri(), "sip:ims.carrier.example");
    assert_eq!(sent.header(Name::To), Some("<sip:example-corp@ims.carrier.example>"));
    assert_eq!(contact_user(&sent).as_deref(), Some("example-corp"));
    let credentials = sent.header(Name::Authorization).unwrap();
    assert!(credentials.contains("uri=\"sip:ims.carrier.example\"") && !credentials.contains("trunk-secret"));
    let until_ms = b.now.unix_ms() + 600_000;
    assert_eq!(registration(&b), RegistrationView { state: "registered", at_ms: Some(until_ms), status: None });
    assert_eq!(carrier(&b).state, "up");
    b.pass(541_000);
    let refresh = b.take_request("REGISTER", TRUNK);
    assert!(refresh.1.header(Name::Authorization).is_some_and(|value| value.contains("nc=00000002")));
    b.pass(60_000);
    assert_eq!(carrier(&b).state, "down", "nobody answers, and the time is over");
}

#[test]
fn a_refused_registration_is_tried_again_later_and_shown_with_its_status() {
    let mut b = bench("register = \"on\"");
    let first = b.take_request("REGISTER", TRUNK);
    b.answer(&first, 403, "r", "", "");
    let RegistrationView { state, at_ms, status } = registration(&b);
    assert_eq!((state, status, carrier(&b).state), ("failed", Some(403), "down"));
    assert!((15_000..=30_000).contains(&(at_ms.unwrap() - b.now.unix_ms())));
    b.pass(30_000);
    register(&mut b, 3_600);
    assert_eq!(carrier(&b).state, "up");
    b.finish();
}

#[test]
fn a_call_for_the_account_goes_to_the_number_that_its_headers_name() {
    for (to, extra, callee) in [
        ("<sip:+12025551002@carrier.example>", "", BOB),
        ("<sip:2025551001@carrier.example>", "", ALICE),
        ("<sip:+12025551001@carrier.example>", "P-Called-Party-ID: <sip:+12025551002@carrier.example>\n", BOB),
        ("<sip:example-corp@carrier.example>", "", ALICE),
        ("<sip:911@carrier.example>", "", ALICE),
    ] {
        let text = config("register = \"on\"")
            .replace("numbers = [\"+12025550100\"]\nencryption", "numbers = [\"+12025551001\"]\nencryption");
        let mut b = Bench::with(&text);
        let registered = register(&mut b, 600);
        let uri = NameAddr::parse(registered.header(Name::Contact).unwrap()).unwrap().uri.to_owned();
        b.request(udp(TRUNK), ("INVITE", &uri), ("<sip:+14155550123@x>;tag=t", to), ("c", 1), (extra, SDP));
        b.take_request("INVITE", callee);
        let calls = b.core.calls();
        assert_eq!(calls.len(), 1, "{to}");
        assert!(calls[0].callee.starts_with("+120255510") || calls[0].callee == "2025551001", "{calls:?}");
    }
}

#[test]
fn a_call_for_a_number_needs_no_account() {
    let mut b = bench("register = \"on\"");
    register(&mut b, 600);
    b.trunk_calls_bob();
    b.take_request("INVITE", BOB);
}

#[test]
fn of_two_accounts_at_one_host_the_called_one_is_the_trunk() {
    let second = "[trunk.second]\nhost = \"203.0.113.5\"\nport = 5060\ntransport = \"udp\"\nregister = \"on\"\n\
                  user = \"branch\"\npassword_file = \"unused\"\nnumbers = [\"+12025551002\"]\n";
    let mut b = Bench::with(&(config("register = \"on\"") + second));
    register(&mut b, 600);
    let branch = take_register(&mut b, "branch");
    b.answer(&branch, 200, "r", "", "");
    let identity = ("<sip:+14155550123@x>;tag=t", "<sip:branch@carrier>");
    b.request(udp(TRUNK), ("INVITE", "sip:branch@192.0.2.1"), identity, ("c", 1), ("", SDP));
    b.take_request("INVITE", BOB);
    let calls: Vec<_> = b.core.trunks().into_iter().map(|trunk| (trunk.name, trunk.calls)).collect();
    assert!(calls.contains(&("second".to_owned(), 1)) && calls.contains(&("carrier".to_owned(), 0)), "{calls:?}");
}

#[test]
fn all_numbers_are_registered_by_one_contact_without_a_user() {
    let mut b = bench("register = \"bulk\"");
    let register = b.take_request("REGISTER", TRUNK);
    assert_eq!(register.1.header(Name::Contact), Some("<sip:192.0.2.1:5060;transport=udp;bnc>"));
    assert_eq!(register.1.header(Name::Require), Some("gin"));
    b.answer(&register, 200, "r", "Contact: <sip:192.0.2.1:5060;transport=udp;bnc>;expires=600\n", "");
    assert_eq!(carrier(&b).state, "up");
    b.trunk_calls_bob();
    b.take_request("INVITE", BOB);
}

#[test]
fn the_end_takes_the_registration_back() {
    let mut b = bench("register = \"on\"");
    register(&mut b, 600);
    b.input(Input::Drain);
    assert!(b.find_request("REGISTER", TRUNK).is_none(), "answering points may still call back");
    b.input(Input::Leave);
    assert_eq!(b.core.open_registrations(), 1);
    let last = b.take_request("REGISTER", TRUNK);
    assert_eq!((last.1.header(Name::Expires), contact_user(&last.1).as_deref()), (Some("0"), Some("example-corp")));
    b.answer(&last, 200, "r", "", "");
    assert_eq!((b.core.open_registrations(), registration(&b).state), (0, "left"));
    b.finish();
}

/// A trunk behind two SRV records over TCP, the first one preferred.
fn two_servers() -> Bench {
    let text = config("register = \"on\"").replace(
        "host = \"203.0.113.5\"\nport = 5060\ntransport = \"udp\"",
        "host = \"carrier.example\"\ntransport = \"tcp\"",
    );
    let mut b = Bench::with(&text);
    assert!(b.find_request("REGISTER", FIRST).is_none(), "no address is known");
    while !b.questions.is_empty() {
        for (query, question) in std::mem::take(&mut b.questions) {
            let host =
                |n: u16| Record::Srv { priority: n, weight: 0, port: 5060, target: format!("{n}.carrier.example.") };
            let number = question.name.split('.').next().and_then(|n| n.parse::<u8>().ok());
            let records = match (question.record_type, number) {
                (RecordType::Srv, _) => vec![host(11), host(12)],
                (RecordType::A, Some(n)) => vec![Record::Address([203, 0, 113, n].into())],
                _ => Vec::new(),
            };
            let reply = if records.is_empty() {
                Reply::Absent
            } else {
                Reply::Found { records, ttl: Duration::from_secs(3_600) }
            };
            b.input(Input::Resolved { query, question, reply });
        }
    }
    b
}

const FIRST: &str = "203.0.113.11:5060";
const SECOND: &str = "203.0.113.12:5060";

#[test]
fn a_registrar_that_cannot_be_reached_gives_way_to_the_next_server_which_then_gets_the_calls() {
    let mut b = two_servers();
    let first = b.take_request("REGISTER", FIRST);
    b.input(Input::FlowFailed { flow: first.0 });
    let second = b.take_request("REGISTER", SECOND);
    assert_eq!(second.1.call_id(), first.1.call_id());
    b.answer(&second, 200, "r", "Expires: 3600\n", "");
    // The first has another chance by now, but the registration stands at the second.
    b.pass(40_000);
    b.register(from_alice(1000, 1), "alice");
    invite(&mut b, from_alice(1000, 1), "sip:92025550177@pbx.example.com", ALICE_FROM, "");
    assert_eq!(b.take_request("INVITE", SECOND).0, second.0, "over the same connection");
}

#[test]
fn calls_take_the_service_route_of_the_server_that_told_it_and_of_no_other() {
    let routes = |invite: &Message| invite.values(Name::Route).map(str::to_owned).collect::<Vec<_>>();
    for dialled in ["92025550177", "911"] {
        let mut b = two_servers();
        let register = b.take_request("REGISTER", FIRST);
        let route = "Service-Route: <sip:p1.carrier.example;lr>, <sip:p2.carrier.example;lr>\n";
        b.answer(&register, 200, "r", &format!("Expires: 3600\n{route}"), "");
        b.register(from_alice(1000, 1), "alice");
        invite(&mut b, from_alice(1000, 1), &format!("sip:{dialled}@pbx.example.com"), ALICE_FROM, "");
        let sent = b.take_request("INVITE", FIRST);
        assert_eq!(routes(&sent.1), ["<sip:p1.carrier.example;lr>", "<sip:p2.carrier.example;lr>"], "{dialled}");
        b.answer(&sent, 503, "x", "", "");
        let ack = b.take_request("ACK", FIRST).1;
        assert_eq!(routes(&ack), routes(&sent.1), "{dialled}");
        assert_eq!(routes(&b.take_request("INVITE", SECOND).1), <[&str; 0]>::default(), "{dialled}");
    }
}

#[test]
fn a_connection_that_closes_takes_the_registration_along_and_calls_on_the_new_one_are_the_trunks() {
    let mut b = two_servers();
    let first = b.take_request("REGISTER", FIRST);
    b.answer(&first, 200, "r", "Expires: 3600\n", "");
    assert_eq!(carrier(&b).state, "up");
    b.input(Input::FlowFailed { flow: first.0 });
    assert_eq!(carrier(&b).state, "down");
    b.pass(1_100);
    let again = b.take_request("REGISTER", FIRST);
    assert_ne!(again.0.connection, first.0.connection);
    b.answer(&again, 200, "r", "Expires: 3600\n", "");
    let flow = Flow { transport: Transport::Tcp, ..again.0 };
    let identity = ("<sip:+14155550123@x>;tag=t", "<sip:+12025551002@carrier.example>");
    b.request(flow, ("INVITE", "sip:example-corp@192.0.2.1"), identity, ("c", 1), ("", SDP));
    b.take_request("INVITE", BOB);
}
