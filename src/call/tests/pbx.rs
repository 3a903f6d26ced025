//! A telephone system that registers once for many numbers (RFC 6140).

use super::{
    bench::{Bench, CONFIG, SDP, TRUNK, udp, user},
    flows::{register, tls},
};
use crate::{
    config::{Forwarding, User},
    wire::sip::Name,
};

const PBX: (u64, &str) = (1, "198.51.100.30:49001");
const BULK: &str = "Require: gin\nProxy-Require: gin\nContact: <sip:10.0.0.3:5060;transport=tls;bnc>\n";

const TABLE: &str = "[pbx.branch]\nuser = \"bob\"\nnumbers = [\"+12025550200\", \"+12025550201\"]\n";

/// Bob is a PBX with two numbers, and registered.
fn bench() -> Bench {
    let mut b = Bench::with(&format!("{CONFIG}{TABLE}"));
    assert_eq!(register(&mut b, tls(PBX), "bob", "Contact: *\nExpires: 0\n").status(), 200);
    let answer = register(&mut b, tls(PBX), "bob", BULK);
    assert_eq!(answer.status(), 200);
    assert!(answer.header(Name::Contact).unwrap().starts_with("<sip:10.0.0.3:5060;transport=tls;bnc>;expires="));
    b
}

#[test]
fn each_number_of_a_pbx_reaches_it_under_that_number() {
    for (dialled, number) in [
        ("+12025550201", "+12025550201"),
        ("2025550200", "+12025550200"),
        ("+1-202-555-0201", "+12025550201"),
        ("+12025551002", "+12025550200"), // Bob's own direct line is none of the PBX's numbers.
    ] {
        let mut b = bench();
        let uri = format!("sip:{dialled}@pbx.example.com");
        let line = ("<sip:+14155550123@203.0.113.5>;tag=t", format!("<{uri}>"));
        b.request(udp(TRUNK), ("INVITE", &uri), (line.0, &line.1), ("in", 1), ("", SDP));
        let invite = b.take_request("INVITE", PBX.1);
        assert_eq!(invite.1.request_uri(), format!("sip:{number}@10.0.0.3:5060;transport=tls"));
        assert_eq!(invite.1.header(Name::To), Some(format!("<sip:{number}@pbx.example.com>").as_str()));
        b.answer(&invite, 486, "busy", "", "");
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 486);
        b.finish();
    }
}

#[test]
fn a_pbx_calls_as_one_of_its_numbers_and_as_nobody_elses() {
    for (named, shown) in
        [("+12025550201", "+12025550201"), ("12025550201", "+12025550201"), ("+12025551001", "+12025550200")]
    {
        let mut b = bench();
        let from = format!("<sip:{named}@pbx.example.com>;tag=p");
        let uri = "sip:+14155550123@pbx.example.com";
        b.request(tls(PBX), ("INVITE", uri), (&from, "<sip:+14155550123@pbx.example.com>"), ("out", 1), ("", SDP));
        let invite = b.take_request("INVITE", TRUNK);
        let asserted = invite.1.header(Name::PAssertedIdentity).unwrap();
        assert!(asserted.contains(&format!("sip:{shown}@")), "{named}: {asserted}");
        b.answer(&invite, 486, "busy", "", "");
        b.take_response("INVITE", PBX.1, 200);
        b.finish();
    }
}

#[test]
fn only_a_pbx_registers_in_bulk_and_only_as_the_rfc_says() {
    let mut b = bench();
    assert_eq!(register(&mut b, tls(PBX), "alice", BULK).status(), 403);
    let refused = |b: &mut Bench, lines: &str| register(b, tls(PBX), "bob", lines).status();
    assert_eq!(refused(&mut b, "Contact: <sip:10.0.0.3;bnc>\n"), 400, "gin must be required");
    assert_eq!(refused(&mut b, "Require: gin\nContact: <sip:bob@10.0.0.3;bnc>\n"), 400, "a user where numbers go");
    assert_eq!(refused(&mut b, "Contact: <sip:bob@10.0.0.3>\n"), 200, "an ordinary contact");
    b.finish();
}

#[test]
fn a_call_forwarded_to_a_number_of_a_pbx_reaches_it_under_that_number() {
    let forwarding = Forwarding { always: Some("+12025550201".to_owned()), ..Forwarding::default() };
    let users = [User { forwarding, ..user("alice", "1001", "+12025551001") }, user("bob", "1002", "+12025551002")];
    let mut b = Bench::with_users(&format!("{CONFIG}{TABLE}"), users, Vec::new());
    assert_eq!(register(&mut b, tls(PBX), "bob", BULK).status(), 200);
    let uri = "sip:+12025551001@pbx.example.com";
    let from = "<sip:+14155550123@203.0.113.5>;tag=t";
    b.request(udp(TRUNK), ("INVITE", uri), (from, &format!("<{uri}>")), ("in", 1), ("", SDP));
    let invite = b.take_request("INVITE", PBX.1);
    assert_eq!(invite.1.request_uri(), "sip:+12025550201@10.0.0.3:5060;transport=tls");
    b.answer(&invite, 486, "busy", "", "");
    b.take_response("INVITE", TRUNK, 200);
    b.finish();
}

#[test]
fn a_text_to_a_number_of_a_pbx_reaches_it_under_that_number() {
    let mut b = bench();
    let uri = "sip:+12025550201@pbx.example.com";
    let from = "<sip:+14155550123@203.0.113.5>;tag=t";
    b.request(udp(TRUNK), ("MESSAGE", uri), (from, &format!("<{uri}>")), ("text", 1), ("", ""));
    let message = b.take_request("MESSAGE", PBX.1);
    assert_eq!(message.1.request_uri(), "sip:+12025550201@10.0.0.3:5060;transport=tls");
    assert_eq!(message.1.header(Name::To), Some("<sip:+12025550201@pbx.example.com>"));
    b.answer(&message, 200, "t", "", "");
    assert_eq!(b.take_response("MESSAGE", TRUNK, 200).status(), 200);
    b.finish();
}

#[test]
fn emergency_services_are_shown_the_number_a_pbx_calls_from_and_reach_it_past_do_not_disturb() {
    let forwarding = Forwarding { is_do_not_disturb: true, ..Forwarding::default() };
    let bob = User { direct_line: None, forwarding, ..user("bob", "1002", "+12025551002") };
    let mut b = Bench::with_users(&format!("{CONFIG}{TABLE}"), [bob], Vec::new());
    assert_eq!(register(&mut b, tls(PBX), "bob", BULK).status(), 200);
    let call_back = |b: &mut Bench, name: &str| {
        let uri = "sip:+12025550201@pbx.example.com";
        let from = format!("<sip:+12025550911@203.0.113.5>;tag={name}");
        b.request(udp(TRUNK), ("INVITE", uri), (&from, &format!("<{uri}>")), (name, 1), ("", SDP));
        b.find_request("INVITE", PBX.1)
    };
    assert!(call_back(&mut b, "before").is_none(), "do not disturb");
    b.sent.clear();
    let (from, to) = ("<sip:+12025550201@pbx.example.com>;tag=p", "<sip:911@pbx.example.com>");
    b.request(tls(PBX), ("INVITE", "sip:911@pbx.example.com"), (from, to), ("sos", 1), ("", SDP));
    let sos = b.take_request("INVITE", TRUNK);
    assert!(sos.1.lines(Name::PAssertedIdentity).all(|identity| identity.contains("+12025550201")));
    assert!(call_back(&mut b, "after").is_some(), "an answering point calls back");
}

#[test]
fn a_phone_behind_a_pbx_is_asked_for_what_the_pbx_can_answer() {
    let mut b = bench();
    let (pbx, other) = ("198.51.100.30:5060", "198.51.100.31:5060");
    let lines = format!("User-Agent: kamailio (5.6.3 (x86_64/linux))\n{}", BULK.replace("tls", "udp"));
    assert_eq!(register(&mut b, udp(pbx), "bob", &lines).status(), 200);
    for (source, algorithms) in [(pbx, ["MD5"].as_slice()), (other, &["SHA-256", "MD5"])] {
        let from = format!("<sip:+12025550201@pbx.example.com>;tag={source}");
        let (uri, agent) = ("sip:+14155550123@pbx.example.com", "User-Agent: A phone\n");
        b.request(udp(source), ("INVITE", uri), (&from, &format!("<{uri}>")), (source, 1), (agent, SDP));
        let challenge = b.take_response("INVITE", source, 200);
        let asked = challenge.lines(Name::ProxyAuthenticate).filter_map(|line| line.split("algorithm=").nth(1));
        let asked: Vec<_> = asked.filter_map(|rest| rest.split(',').next()).collect();
        assert_eq!(asked, algorithms, "{source}");
        assert!(b.find_request("INVITE", TRUNK).is_none());
    }
    b.finish();
}
