//! In which order a request is judged (RFC 3261 sections 8.2 and 16.3). Method: each request has every fault there is for
//! its method; the faults are mended one by one, in the order in which they must be found.

use super::{
    Input,
    bench::{ALICE, BOB, Bench, PADDING, SDP, TRUNK, udp},
};
use crate::wire::sip::{Message, Name};

const STRANGER: &str = "198.51.100.77:5060";
const TYPE: &str = "Content-Type: application/sdp\r\n";

/// A request that is mended by replacing parts of its text.
struct Request {
    text: String,
    serial: u32,
}

impl Request {
    fn new(text: &str) -> Self {
        let text = text.replace('\n', "\r\n").replacen("\r\n\r\n", &format!("\r\n{PADDING}\r\n"), 1);
        Self { text, serial: 0 }
    }

    /// The first fault is mended: `old` becomes `new`.
    fn mend(&mut self, old: &str, new: &str) {
        assert!(self.text.contains(old), "{old}");
        self.text = self.text.replacen(old, new, 1);
    }

    /// Sends it as a new transaction and returns its answer.
    fn answer(&mut self, b: &mut Bench) -> Message {
        self.serial += 1;
        let text = self.text.replace("BRANCH", &format!("z9hG4bK-order-{}", self.serial));
        b.input(Input::Received { flow: udp(STRANGER), bytes: text.into() });
        let at = b.sent.iter().position(|(flow, _)| *flow == udp(STRANGER)).expect("an answer");
        b.sent.remove(at).1
    }
}

/// What is mended by what; status and reason of the answer then; a header of the answer and a part of it.
type Row = (&'static str, &'static str, u16, &'static str, Option<(Name, &'static str)>);

/// Mends `request` row by row.
fn assert_order(b: &mut Bench, mut request: Request, rows: &[Row]) {
    for (old, new, status, reason, header) in rows {
        if !old.is_empty() {
            request.mend(old, new);
        }
        let answer = request.answer(b);
        assert_eq!((answer.status(), answer.reason_phrase()), (*status, *reason), "{new:?} for {old:?}");
        if let Some((name, part)) = header {
            let found = answer.header(*name).unwrap_or_default();
            assert!(found.contains(part), "{status}: {name:?} is {found:?}");
        }
        assert!(answer.to_tag().is_some(), "{status} without a tag");
    }
}

#[test]
fn an_invite_is_judged_by_line_method_scheme_contact_hops_path_extensions_body_answer_and_then_identity() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let request = Request::new(&format!(
        "INVITE http://example.com SIP/3.0\nVia: SIP/2.0/UDP {STRANGER};branch=BRANCH\nFrom: <sip:x@example.com>;tag=trunk\n\
         To: <sip:1002@pbx.example.com>\nCall-ID: trunk-call\nCSeq: 1 PUBLISH\nMax-Forwards: 00\nRequire: magic, more\n\
         Proxy-Require: magic\nContent-Type: text/plain\nContent-Encoding: gzip\nAccept: text/plain\nContent-Length: 5\n\n\
         hello"
    ));
    let contact = "Contact: <sip:x@198.51.100.77>\r\nCall-ID";
    let rows = [
        ("", "", 505, "Version Not Supported", None),
        ("SIP/3.0", "SIP/2.0", 400, "CSeq method does not match", None),
        ("INVITE http", "PUBLISH http", 405, "Method Not Allowed", Some((Name::Allow, "INVITE"))),
        ("PUBLISH http", "MAGIC http", 400, "CSeq method does not match", None),
        ("1 PUBLISH", "1 MAGIC", 501, "Not Implemented", Some((Name::Allow, "INVITE"))),
        ("MAGIC http", "INVITE http", 400, "CSeq method does not match", None),
        ("1 MAGIC", "1 INVITE", 416, "Unsupported URI Scheme", None),
        ("http://example.com", "sip:1002@pbx.example.com", 400, "Missing Contact header", None),
        ("Call-ID", contact, 483, "Too Many Hops", None),
        ("Max-Forwards: 00", "Max-Forwards: 1", 482, "Loop Detected", None),
        ("trunk-call", "another-call", 420, "Bad Extension", Some((Name::Unsupported, "magic, more, magic"))),
        ("Require: magic, more\r\n", "", 420, "Bad Extension", Some((Name::Unsupported, "magic"))),
        ("Proxy-Require: magic\r\n", "", 415, "Unsupported Media Type", None),
        ("gzip", "identity", 415, "Unsupported Media Type", Some((Name::Accept, "application/sdp"))),
        ("identity\r\n", "identity\r\nContent-Disposition: session;handling=optional\r\n", 406, "Not Acceptable", None),
        (
            "Accept: text/plain\r\n",
            "Accept: text/plain, Application/*;q=0.5\r\n",
            407,
            "Proxy Authentication Required",
            None,
        ),
    ];
    assert_order(&mut b, request, &rows);
}

#[test]
fn whoever_wants_to_record_is_told_that_nothing_here_does() {
    let mut b = Bench::new();
    let request = Request::new(&format!(
        "INVITE sip:1002@pbx.example.com SIP/2.0\nVia: SIP/2.0/UDP {STRANGER};branch=BRANCH\nFrom: <sip:x@example.com>;tag=1\n\
         To: <sip:1002@pbx.example.com>\nCall-ID: 1\nCSeq: 1 INVITE\nMax-Forwards: 70\nContact: <sip:x@198.51.100.77>;+sip.src\n\
         Require: siprec\nContent-Type: multipart/mixed;boundary=b\nContent-Length: 146\n\n\
         --b\nContent-Type: application/sdp\n\nv=0\n--b\nContent-Type: application/rs-metadata+xml\n\
         Content-Disposition: recording-session\n\n<x/>\n--b--\n"
    ));
    let reason = "This Server Does Not Record";
    let rows = [
        ("", "", 420, reason, Some((Name::Unsupported, "siprec"))),
        ("Require: siprec\r\n", "", 415, reason, Some((Name::Accept, "application/sdp"))),
        ("rs-metadata+xml", "xx-metadata+xml", 407, "Proxy Authentication Required", None),
    ];
    assert_order(&mut b, request, &rows);

    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "Record: on\n", "");
    assert_eq!(b.take_response("INFO", TRUNK, 403).reason_phrase(), reason);
    b.within(&trunk, "INFO", 3, "Record: off\n", "");
    b.take_request("INFO", BOB);
}

#[test]
fn a_register_is_judged_by_scheme_address_of_record_extensions_and_then_identity() {
    let request = Request::new(&format!(
        "REGISTER isbn:1 SIP/2.0\nVia: SIP/2.0/UDP {STRANGER};branch=BRANCH\nFrom: <sip:x@example.com>;tag=1\n\
         To: <http://example.com>\nCall-ID: 1\nCSeq: 1 REGISTER\nMax-Forwards: 0\nRequire: magic\nContent-Length: 0\n\n"
    ));
    let rows = [
        ("", "", 416, "Unsupported URI Scheme", None),
        ("isbn:1", "sip:pbx.example.com", 400, "Address-Of-Record Is No SIP URI", None),
        ("http://example.com", "sip:alice@pbx.example.com", 420, "Bad Extension", Some((Name::Unsupported, "magic"))),
        ("Require: magic\r\n", "", 401, "Unauthorized", None),
    ];
    assert_order(&mut Bench::new(), request, &rows);
}

#[test]
fn options_is_judged_by_scheme_and_extensions_and_needs_no_hop_and_no_identity() {
    let request = Request::new(&format!(
        "OPTIONS http://example.com SIP/2.0\nVia: SIP/2.0/UDP {STRANGER};branch=BRANCH\nFrom: <sip:x@example.com>;tag=1\n\
         To: <sip:x@example.com>\nCall-ID: 1\nCSeq: 1 OPTIONS\nMax-Forwards: 0\nProxy-Require: magic\nContent-Length: 0\n\n"
    ));
    let rows = [
        ("", "", 416, "Unsupported URI Scheme", None),
        ("http://example.com", "sips:pbx.example.com", 420, "Bad Extension", Some((Name::Unsupported, "magic"))),
        ("Proxy-Require: magic\r\n", "", 200, "OK", Some((Name::Accept, "application/sdp"))),
    ];
    assert_order(&mut Bench::new(), request, &rows);
}

/// Emergency rules 1: nothing that would only make a call odd may stop one for help.
#[test]
fn an_emergency_call_is_not_judged_by_any_of_it() {
    let mut b = Bench::new();
    let text = format!(
        "INVITE urn:service:sos SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK-help\r\nFrom: <sip:a@example.com>;tag=1\r\n\
         To: <urn:service:sos>\r\nCall-ID: help\r\nCSeq: 1 INVITE\r\nMax-Forwards: 0\r\nRequire: magic\r\n\
         Accept: text/plain\r\n{TYPE}Content-Length: {}\r\n\r\n{SDP}",
        SDP.len()
    );
    b.input(Input::Received { flow: udp(ALICE), bytes: text.into() });
    b.take_request("INVITE", TRUNK);
    assert!(b.sent.iter().all(|(_, m)| m.status() < 300), "{}", b.told());
}

/// RFC 2543 had no branch with a magic cookie and needed no Contact; its clients are reached at their From.
#[test]
fn only_a_caller_of_rfc_2543_needs_no_contact() {
    let mut b = Bench::new();
    let text = |branch: &str| {
        format!(
            "INVITE sip:+12025551002@pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP {TRUNK}{branch}\r\n\
             From: <sip:+14155550123@203.0.113.5>\r\nTo: <sip:+12025551002@pbx.example.com>\r\nCall-ID: old{branch}\r\n\
             CSeq: 1 INVITE\r\n{TYPE}Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )
    };
    b.input(Input::Received { flow: udp(TRUNK), bytes: text(";branch=z9hG4bK-new").into() });
    assert_eq!(b.take_response("INVITE", TRUNK, 300).reason_phrase(), "Missing Contact header");
    b.input(Input::Received { flow: udp(TRUNK), bytes: text("").into() });
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.pass(40_000);
    let bye = b.take_request("BYE", TRUNK).1;
    assert_eq!(bye.request_uri(), "sip:+14155550123@203.0.113.5", "nobody acknowledged, so the call was ended");
}
