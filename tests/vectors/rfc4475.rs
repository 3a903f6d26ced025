//! RFC 4475, SIP torture test messages: all 49, byte for byte, in the order and with the names of the RFC.
//!
//! Each test asserts the fields that the RFC draws attention to and the verdict of the message layer. Where the RFC leaves
//! the choice to the element, the test says which one this server made.

use std::net::SocketAddr;

use bytes::Bytes;
use ringdown::wire::sip::{
    Fault, Message, Method, Name, NameAddr, ResponseBuilder, Uri, Via, digest,
    frame::{Frame, Framer},
    salvage, validate,
};

macro_rules! message {
    ($name:literal) => {
        Message::parse(Bytes::from_static(include_bytes!(concat!("rfc4475/", $name, ".dat")))).expect("an index")
    };
}

/// What a client of the server at 192.0.2.53 sees when the fault is answered.
fn answer(message: &Message, fault: Fault) -> Message {
    let source: SocketAddr = ([192, 0, 2, 53], 5060).into();
    Message::parse(ResponseBuilder::to(message, fault.status, fault.reason, "t1", source).finish()).expect("an index")
}

/// Asserts that the message is refused, and that the refusal reaches its sender as a response of the same transaction.
#[track_caller]
fn assert_refused(message: &Message, status: u16, reason: &str) {
    let fault = validate(message).expect_err("an invalid message");
    assert_eq!((fault.status, fault.reason), (status, reason));
    assert!(message.is_answerable());
    let answer = answer(message, fault);
    assert_eq!((answer.status(), answer.reason_phrase()), (status, reason));
    assert_eq!(answer.values(Name::Via).count(), message.values(Name::Via).count());
    let branch = |message: &Message| message.via().and_then(|via| via.branch().map(str::to_owned));
    assert_eq!(branch(&answer), branch(message));
    for name in [Name::From, Name::CallId, Name::CSeq] {
        assert_eq!(answer.header(name), message.header(name), "{name:?}");
    }
}

#[track_caller]
fn assert_valid(message: &Message) {
    assert_eq!(validate(message), Ok(()));
    if message.is_request() {
        let ok = answer(message, Fault { status: 200, reason: "OK" });
        assert_eq!(validate(&ok), Ok(()), "the response to a valid request is valid");
        assert_eq!(ok.cseq(), message.cseq());
    }
}

// 3.1.1 Valid messages

#[test]
fn wsinv_folds_and_blanks_wherever_the_grammar_has_them() {
    let message = message!("wsinv");
    assert_valid(&message);
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.user, uri.host, uri.params.has("unknownparam")), (Some("vivekg"), "chair-dnrc.example.com", true));
    assert_eq!(message.to().unwrap().uri, "sip:vivekg@chair-dnrc.example.com");
    assert_eq!(message.to_tag(), Some("1918181833n"));
    assert_eq!(message.from().unwrap().display, r#""J Rosenberg \\\"""#);
    assert_eq!((message.from().unwrap().uri, message.from_tag()), ("sip:jdrosen@example.com", Some("98asjd8")));
    assert_eq!(message.header(Name::MaxForwards), Some("0068"));
    assert_eq!((message.cseq().unwrap().number, message.cseq().unwrap().method), (9, Method::Invite));
    assert_eq!(message.body().len(), 150);
    assert_eq!(message.sdp(), Some(message.body()));
    assert_eq!(message.header(Name::Subject), Some(""));
    assert_eq!(message.header_text("newfangledheader").unwrap().split_whitespace().count(), 5);
    assert_eq!(message.header_text("UnknownHeaderWithUnusualValue"), Some(";;,,;;,;"));
    let vias: Vec<_> = message.values(Name::Via).map(|via| Via::parse(via).unwrap()).collect();
    let seen: Vec<_> = vias.iter().map(|via| (via.transport, via.host, via.branch().unwrap())).collect();
    assert_eq!(
        seen,
        [
            ("UDP", "192.0.2.2", "390skdjuw"),
            ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
            ("UDP", "192.168.255.111", "z9hG4bK30239"),
        ]
    );
    let contact = message.contact().unwrap();
    assert_eq!((contact.display, contact.uri), (r#""Quoted string \"\"""#, "sip:jdrosen@example.com"));
    assert_eq!((contact.params.get("newparam"), contact.params.get("q")), (Some("newvalue"), Some("0.33")));
    assert!(contact.params.has("secondparam"));
}

#[test]
fn intmeth_takes_every_byte_the_grammar_allows() {
    let message = message!("intmeth");
    assert_valid(&message);
    assert_eq!(message.method(), Some(Method::Other));
    assert_eq!(message.method_text(), "!interesting-Method0123456789_*+`.%indeed'~");
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!(uri.user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(uri.host, "example.com");
    assert_eq!(message.to().unwrap().display, "\"BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}\"");
    assert_eq!(message.from().unwrap().display, "token1~` token2'+_ token3*%!.-");
    assert_eq!(message.from_tag(), Some("_token~1'+`*%!-."));
    assert_eq!(message.from().unwrap().params.get("fromParam''~+*_!.-%"), Some("работающий"));
    assert_eq!(message.call_id(), "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(message.header_text("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電"));
}

#[test]
fn esc01_keeps_escapes_until_asked() {
    let message = message!("esc01");
    assert_valid(&message);
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.scheme, uri.host), ("sip", "example.net"), "no sips URI hides in the user part");
    assert_eq!(uri.user_decoded().unwrap(), "sips:user@example.com");
    assert_eq!(Uri::parse(message.from().unwrap().uri).unwrap().user_decoded().unwrap(), "I have spaces");
    assert_eq!(Uri::parse(message.to().unwrap().uri).unwrap().user_decoded().unwrap(), "user");
    let contact = Uri::parse(message.contact().unwrap().uri).unwrap();
    assert_eq!(contact.user_decoded().unwrap(), "caller");
    assert_eq!(contact.params.get("lr"), None, "escaped parameter names are not decoded for a look-up");
    assert_eq!(contact.params.get("%6C%72"), Some(""));
}

#[test]
fn escnull_may_carry_escaped_nul() {
    let message = message!("escnull");
    assert_valid(&message);
    let users: Vec<_> = message
        .values(Name::Contact)
        .map(|contact| NameAddr::parse(contact).unwrap().uri)
        .map(|uri| Uri::parse(uri).unwrap().user_decoded().unwrap().into_owned())
        .collect();
    assert_eq!(users, ["\0", "\0\0"]);
    assert_eq!(Uri::parse(message.to().unwrap().uri).unwrap().user_decoded().unwrap(), "null-\0-null");
}

#[test]
fn esc02_does_not_decode_what_is_no_escape() {
    let message = message!("esc02");
    assert_valid(&message);
    assert_eq!((message.method(), message.method_text()), (Some(Method::Other), "RE%47IST%45R"));
    assert_eq!(message.to().unwrap().display, "\"%Z%45\"");
    assert_eq!(message.via().unwrap().branch(), Some("z9hG4bK209%fzsnel234"));
    assert_eq!(message.values(Name::Contact).count(), 2);
    assert_eq!(message.header_text("C%6Fntact"), Some("<sip:alias2@host2.example.com>"));
}

#[test]
fn lwsdisp_needs_no_blank_before_the_bracket() {
    let message = message!("lwsdisp");
    assert_valid(&message);
    let from = message.from().unwrap();
    assert_eq!((from.display, from.uri, from.tag()), ("caller", "sip:caller@example.com", Some("323")));
}

#[test]
fn longreq_has_long_values_and_34_vias_in_every_spelling() {
    let message = message!("longreq");
    assert_valid(&message);
    assert_eq!(message.values(Name::Via).count(), 34);
    assert_eq!(message.via().unwrap().host, "sip33.example.com");
    let last = message.values(Name::Via).last().unwrap();
    let last = Via::parse(last).unwrap();
    assert_eq!((last.host, last.received()), ("host.example.com", Some("192.0.2.5".parse().unwrap())));
    assert!(message.to().unwrap().display.starts_with("\"I have a user name of extremeextreme"));
    assert_eq!(Uri::parse(message.to().unwrap().uri).unwrap().port, Some(6000));
    assert!(message.from_tag().unwrap().ends_with("82424"));
    assert!(message.call_id().starts_with("longreq.onereallyreally"));
    assert_eq!(message.body().len(), 150);
}

#[test]
fn dblreq_ends_where_content_length_says() {
    let message = message!("dblreq");
    assert_valid(&message);
    assert_eq!(message.method(), Some(Method::Register));
    assert_eq!(message.call_id(), "dblreq.0ha0isndaksdj99sdfafnl3lk233412");
    assert!(message.body().is_empty(), "a datagram's second message is discarded");

    let mut framer = Framer::new();
    framer.push(include_bytes!("rfc4475/dblreq.dat"));
    let mut next = || framer.poll().expect("a stream of two messages").expect("one more frame");
    let (Frame::Message(first), Frame::Pong, Frame::Message(second)) = (next(), next(), next()) else { panic!() };
    assert_eq!(first, message.bytes().slice(..first.len()));
    let second = Message::parse(second).unwrap();
    assert_valid(&second);
    assert_eq!((second.method(), second.body().len()), (Some(Method::Invite), 150));
}

#[test]
fn semiuri_keeps_the_semicolon_in_the_user_part() {
    let message = message!("semiuri");
    assert_valid(&message);
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.user, uri.host), (Some("user;par=u%40example.net"), "example.com"));
    assert!(!uri.params.has("par"));
    assert_eq!(uri.user_decoded().unwrap(), "user;par=u@example.net");
    assert_eq!(message.values(Name::Accept).count(), 6);
}

#[test]
fn transports_known_and_unknown_are_kept() {
    let message = message!("transports");
    assert_valid(&message);
    let seen: Vec<_> = message.values(Name::Via).map(|via| Via::parse(via).unwrap().transport).collect();
    assert_eq!(seen, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
}

#[test]
fn mpart01_carries_binary_parts() {
    let message = message!("mpart01");
    assert_valid(&message);
    assert_eq!(message.method(), Some(Method::Message));
    assert_eq!(message.body().len(), 553);
    assert!(std::str::from_utf8(&message.body()).is_err());
    assert_eq!(message.sdp(), None, "none of its parts is a session description");
    assert!(message.via().unwrap().wants_rport());
    assert!(message.header_text("Identity").unwrap().ends_with("UA="));
}

#[test]
fn unreason_has_a_reason_phrase_in_utf8() {
    let message = message!("unreason");
    assert_valid(&message);
    assert_eq!(message.status(), 200);
    assert_eq!(message.reason_phrase(), "= 2**3 * 5**2 но сто девяносто девять - простое");
    assert_eq!((message.method_text(), message.body().len()), ("INVITE", 154));
}

#[test]
fn noreason_may_have_none() {
    let message = message!("noreason");
    assert_valid(&message);
    assert_eq!((message.status(), message.reason_phrase()), (100, ""));
}

// 3.1.2 Invalid messages

#[test]
fn badinv01_has_separators_with_nothing_between() {
    assert_refused(&message!("badinv01"), 400, "Malformed Via header");
}

#[test]
fn clerr_promises_more_than_the_datagram_holds() {
    let message = message!("clerr");
    assert_refused(&message, 400, "Body is shorter than Content-Length");
    assert!(message.body().is_empty());
    let mut framer = Framer::new();
    framer.push(include_bytes!("rfc4475/clerr.dat"));
    assert_eq!(framer.poll(), Ok(None), "on a stream the rest may still come");
}

#[test]
fn ncl_has_a_negative_length() {
    assert_refused(&message!("ncl"), 400, "Content-Length is not a valid number");
    let mut framer = Framer::new();
    framer.push(include_bytes!("rfc4475/ncl.dat"));
    let error = framer.poll().unwrap_err();
    assert_eq!(error.fault.reason, "Content-Length is not a valid number");
    let head = salvage(&error.head.unwrap()).expect("an answer is possible before closing");
    assert_eq!(head.call_id(), "ncl.0ha0isndaksdj2193423r542w35");
}

#[test]
fn scalar02_numbers_are_out_of_range() {
    assert_refused(&message!("scalar02"), 400, "Malformed Max-Forwards header");
    let bytes = include_str!("rfc4475/scalar02.dat").replace("Max-Forwards: 300", "Max-Forwards: 30");
    assert_refused(&Message::parse(bytes.into()).unwrap(), 400, "Malformed CSeq header");
}

#[test]
fn scalarlg_response_is_dropped() {
    let message = message!("scalarlg");
    assert_eq!(validate(&message).unwrap_err().reason, "Malformed CSeq header");
    assert_eq!((message.status(), message.cseq(), message.is_answerable()), (503, None, false));
}

#[test]
fn quotbal_has_an_open_quote() {
    let message = message!("quotbal");
    assert_refused(&message, 400, "Malformed To header");
    assert_eq!(message.to(), None);
}

#[test]
fn ltgtruri_has_brackets_around_its_request_uri() {
    assert_refused(&message!("ltgtruri"), 400, "Malformed Request-URI");
}

#[test]
fn lwsruri_has_a_blank_in_its_request_uri() {
    assert_refused(&message!("lwsruri"), 400, "Malformed Request-URI");
}

#[test]
fn lwsstart_has_two_blanks_between_the_parts() {
    let message = message!("lwsstart");
    assert_refused(&message, 400, "Malformed request line");
    assert_eq!((message.method(), message.request_uri()), (Some(Method::Invite), "sip:user@example.com"));
}

#[test]
fn trws_has_blanks_behind_the_version() {
    assert_refused(&message!("trws"), 400, "Malformed request line");
}

#[test]
fn escruri_has_headers_in_its_request_uri() {
    assert_refused(&message!("escruri"), 400, "Headers in Request-URI");
}

/// The element may also ignore the header; refusing keeps a sender with a broken clock from going unnoticed.
#[test]
fn baddate_is_not_in_gmt() {
    assert_refused(&message!("baddate"), 400, "Date is not in GMT");
}

#[test]
fn regbadct_needs_brackets_around_its_contact() {
    let message = message!("regbadct");
    assert_refused(&message, 400, "Malformed Contact header");
    assert_eq!(message.contact(), None);
}

#[test]
fn badaspec_has_blanks_inside_the_brackets() {
    assert_refused(&message!("badaspec"), 400, "Malformed To header");
}

#[test]
fn baddn_has_a_comma_in_an_unquoted_display_name() {
    assert_refused(&message!("baddn"), 400, "Malformed From header");
}

#[test]
fn badvers_is_answered_in_version_2() {
    let message = message!("badvers");
    assert_refused(&message, 505, "Version Not Supported");
    assert!(answer(&message, validate(&message).unwrap_err()).bytes().starts_with(b"SIP/2.0 505 "));
}

#[test]
fn mismatch01_has_another_method_in_cseq() {
    assert_refused(&message!("mismatch01"), 400, "CSeq method does not match");
}

/// 501 would do as well; the mismatch is found before the method is judged.
#[test]
fn mismatch02_has_an_unknown_method_and_another_in_cseq() {
    let message = message!("mismatch02");
    assert_eq!((message.method(), message.cseq().unwrap().method), (Some(Method::Other), Method::Invite));
    assert_refused(&message, 400, "CSeq method does not match");
}

#[test]
fn bigcode_response_is_dropped() {
    let message = message!("bigcode");
    assert_eq!(message.status(), 0, "not 5, which its low 32 bits would give");
    assert_eq!(validate(&message).unwrap_err().reason, "Malformed status line");
}

// 3.2 Transaction layer semantics

#[test]
fn badbranch_has_a_magic_cookie_and_nothing_behind_it() {
    assert_refused(&message!("badbranch"), 400, "Via branch has no identifier");
}

// 3.3 Application layer semantics

#[test]
fn insuf_lacks_headers_and_is_told_so() {
    let message = message!("insuf");
    assert_refused(&message, 400, "Missing From header");
    let answer = answer(&message, validate(&message).unwrap_err());
    assert_eq!((answer.header(Name::To), answer.header(Name::CallId)), (None, None));
}

/// The core answers 416.
#[test]
fn unkscm_scheme_is_not_for_the_message_layer_to_judge() {
    let message = message!("unkscm");
    assert_valid(&message);
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.scheme, uri.user, uri.is_sip()), ("nobodyKnowsThisScheme", Some("totallyopaquecontent"), false));
}

/// The core answers 416.
#[test]
fn novelsc_scheme_is_registered_but_means_no_call() {
    let message = message!("novelsc");
    assert_valid(&message);
    assert_eq!(Uri::parse(message.request_uri()).unwrap().scheme, "soap.beep");
}

#[test]
fn unksm2_has_other_schemes_in_to_from_and_contact() {
    let message = message!("unksm2");
    assert_valid(&message);
    assert_eq!(message.to().unwrap().uri, "isbn:2983792873");
    assert_eq!((message.from().unwrap().uri, message.from_tag()), ("http://www.example.com", Some("3234233")));
    assert_eq!(message.contact().unwrap().uri, "name:John_Smith");
}

/// The core answers 420 and lists the extensions in Unsupported.
#[test]
fn bext01_requires_extensions_that_the_core_refuses() {
    let message = message!("bext01");
    assert_valid(&message);
    let required: Vec<_> = message.values(Name::Require).collect();
    assert_eq!(required, ["nothingSupportsThis", "nothingSupportsThisEither"]);
    assert_eq!(message.values(Name::ProxyRequire).count(), 2);
}

/// The core answers 415.
#[test]
fn invut_has_a_body_of_unknown_type() {
    let message = message!("invut");
    assert_valid(&message);
    assert_eq!(message.header(Name::ContentType), Some("application/unknownformat"));
    assert_eq!((message.sdp(), message.body().len()), (None, 40));
}

/// The core answers 401: the scheme of its Authorization is none it knows.
#[test]
fn regaut01_authorization_is_of_an_unknown_scheme() {
    let message = message!("regaut01");
    assert_valid(&message);
    let value = message.header(Name::Authorization).unwrap();
    assert_eq!(value, "NoOneKnowsThisScheme opaque-data=here");
    assert_eq!(digest::Response::parse(value), None);
}

#[test]
fn multi01_repeats_singular_headers() {
    assert_refused(&message!("multi01"), 400, "Multiple CSeq headers");
}

#[test]
fn mcl01_lengths_differ() {
    let message = message!("mcl01");
    assert_refused(&message, 400, "Content-Length headers differ");
    assert!(message.body().is_empty());
    let mut framer = Framer::new();
    framer.push(include_bytes!("rfc4475/mcl01.dat"));
    assert_eq!(framer.poll().unwrap_err().fault, validate(&message).unwrap_err(), "one rule for both");
}

#[test]
fn bcast_response_names_a_broadcast_address() {
    let message = message!("bcast");
    assert_valid(&message);
    assert_eq!(message.via().unwrap().host, "192.0.2.198");
    assert!(message.lines(Name::Via).nth(1).unwrap().contains("255.255.255.255"));
    assert!(!message.is_answerable());
}

#[test]
fn zeromf_is_valid_and_goes_no_further() {
    let message = message!("zeromf");
    assert_valid(&message);
    assert_eq!((message.method(), message.header(Name::MaxForwards)), (Some(Method::Options), Some("0")));
}

#[test]
fn cparam01_parameter_belongs_to_the_header() {
    let message = message!("cparam01");
    assert_valid(&message);
    let contact = message.contact().unwrap();
    assert_eq!(contact.uri, "sip:+19725552222@gw1.example.net");
    assert!(contact.params.has("unknownparam"));
}

#[test]
fn cparam02_parameter_belongs_to_the_uri() {
    let message = message!("cparam02");
    assert_valid(&message);
    let contact = message.contact().unwrap();
    assert_eq!(contact.params.iter().count(), 0);
    assert!(Uri::parse(contact.uri).unwrap().params.has("unknownparam"));
}

#[test]
fn regescrt_keeps_the_escaped_header_in_the_contact() {
    let message = message!("regescrt");
    assert_valid(&message);
    assert_eq!(message.lines(Name::Route).count(), 0, "it is no header of this request");
    assert_eq!(Uri::parse(message.contact().unwrap().uri).unwrap().headers, "Route=%3Csip:sip.example.com%3E");
}

/// The core answers 406: it cannot describe sessions in that type.
#[test]
fn sdp01_accepts_only_a_type_nobody_knows() {
    let message = message!("sdp01");
    assert_valid(&message);
    assert_eq!(message.values(Name::Accept).collect::<Vec<_>>(), ["text/nobodyKnowsThis"]);
    assert_eq!(message.sdp().unwrap().len(), 150);
}

// 3.4 Backward compatibility

#[test]
fn inv2543_has_no_branch_tag_max_forwards_or_length() {
    let message = message!("inv2543");
    assert_valid(&message);
    assert_eq!((message.via().unwrap().branch(), message.from_tag(), message.to_tag()), (None, None, None));
    assert_eq!(message.header(Name::MaxForwards), None);
    assert_eq!(message.to().unwrap().params.get("user"), Some("phone"));
    assert_eq!(message.sdp().unwrap().len(), 105, "the body ends with the datagram");
}

#[test]
fn every_message_of_the_rfc_is_here() {
    let source = include_str!("rfc4475.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/rfc4475");
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names.len(), 49);
    for name in names {
        let name = name.file_stem().unwrap().to_str().unwrap();
        assert!(source.contains(&format!("message!(\"{name}\")")), "{name} has no test");
    }
}
