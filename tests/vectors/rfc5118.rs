//! RFC 5118, SIP torture test messages for IPv6: all 12, in the order and with the names of the RFC.
//!
//! The Content-Length of the three messages with a body is that of the RFC's listing, which does not count the bytes it
//! prints: what it comes to is asserted too, and the SDP is looked at with the length corrected.

use std::net::IpAddr;

use bytes::Bytes;
use ringdown::wire::sip::{Fault, Message, Name, Uri, Via, validate};

macro_rules! message {
    ($name:literal) => {
        Message::parse(Bytes::from_static(include_bytes!(concat!("rfc5118/", $name, ".sip")))).expect("an index")
    };
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

fn corrected(text: &str, printed: &str, actual: &str) -> Message {
    let (printed, actual) = (format!("Content-Length: {printed}\r\n"), format!("Content-Length: {actual}\r\n"));
    assert!(text.contains(&printed));
    Message::parse(text.replace(&printed, &actual).into()).expect("an index")
}

#[test]
fn ipv6_good_has_references_in_uri_via_and_contact() {
    let message = message!("ipv6-good");
    assert_eq!(validate(&message), Ok(()));
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.host, uri.host_ip(), uri.port), ("[2001:db8::10]", ip("2001:db8::10"), None));
    assert_eq!((message.via().unwrap().host, message.via().unwrap().port), ("2001:db8::9:1", None));
    assert_eq!(Uri::parse(message.contact().unwrap().uri).unwrap().host_ip(), ip("2001:db8::1"));
}

#[test]
fn ipv6_bad_lacks_the_brackets() {
    let fault = Fault { status: 400, reason: "Malformed Request-URI" };
    assert_eq!(validate(&message!("ipv6-bad")), Err(fault));
}

#[test]
fn port_ambiguous_is_part_of_the_address() {
    let message = message!("port-ambiguous");
    assert_eq!(validate(&message), Ok(()));
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.host_ip(), uri.port), (ip("2001:db8::10:5070"), None));
}

#[test]
fn port_unambiguous_stands_behind_the_bracket() {
    let message = message!("port-unambiguous");
    assert_eq!(validate(&message), Ok(()));
    let uri = Uri::parse(message.request_uri()).unwrap();
    assert_eq!((uri.host_ip(), uri.port), (ip("2001:db8::10"), Some(5070)));
}

#[test]
fn via_received_is_read_with_and_without_brackets() {
    for message in [message!("via-received-param-with-delim"), message!("via-received-param-no-delim")] {
        assert_eq!(validate(&message), Ok(()));
        assert_eq!(message.via().unwrap().received(), ip("2001:db8::9:255"));
    }
}

#[test]
fn ipv6_in_sdp_stands_without_brackets() {
    let fault = Fault { status: 400, reason: "Body is shorter than Content-Length" };
    assert_eq!(validate(&message!("ipv6-in-sdp")), Err(fault));
    let message = corrected(include_str!("rfc5118/ipv6-in-sdp.sip"), "268", "251");
    assert_eq!(validate(&message), Ok(()));
    let sdp = message.sdp().unwrap();
    assert!(std::str::from_utf8(&sdp).unwrap().contains("c=IN IP6 2001:db8::20\r\n"));
    assert!(sdp.ends_with(b"H263-1998/90000\r\n"));
}

#[test]
fn mult_ip_in_header_mixes_both_versions() {
    let message = message!("mult-ip-in-header");
    assert_eq!(validate(&message), Ok(()));
    let vias: Vec<_> = message.values(Name::Via).map(|via| Via::parse(via).unwrap()).collect();
    let seen: Vec<_> = vias.iter().map(|via| (via.host, via.port, via.received())).collect();
    assert_eq!(
        seen,
        [("2001:db8::9:1", Some(6050), None), ("192.0.2.1", None, None), ("2001:db8::9:255", None, ip("192.0.2.200")),]
    );
}

#[test]
fn mult_ip_in_sdp_is_cut_at_its_content_length() {
    let message = message!("mult-ip-in-sdp");
    assert_eq!(validate(&message), Ok(()));
    assert_eq!(message.body().len(), 181);
    let message = corrected(include_str!("rfc5118/mult-ip-in-sdp.sip"), "181", "189");
    assert_eq!(validate(&message), Ok(()));
    assert!(message.sdp().unwrap().ends_with(b"H263-1998/90000\r\n"));
}

#[test]
fn ipv4_mapped_ipv6_is_read_everywhere() {
    let message = message!("ipv4-mapped-ipv6");
    assert_eq!(validate(&message), Ok(()));
    let via = message.via().unwrap();
    assert_eq!((via.host, via.port), ("::ffff:192.0.2.10", Some(19823)));
    let contact = message.contact().unwrap();
    assert_eq!(contact.display, "\"T. desk phone\"");
    assert_eq!(Uri::parse(contact.uri).unwrap().host_ip(), ip("::ffff:192.0.2.2"));
    let message = corrected(include_str!("rfc5118/ipv4-mapped-ipv6.sip"), "236", "245");
    assert!(message.sdp().unwrap().ends_with(b"H263-1998/90000\r\n"));
}

/// RFC 5118 section 4.10: "an implementation must tolerate both of the above constructs".
#[test]
fn ipv6_abnf_bug_with_three_colons_means_two() {
    for message in [message!("ipv6-bug-abnf-3-colons"), message!("ipv6-correct-abnf-2-colons")] {
        assert_eq!(validate(&message), Ok(()));
        assert_eq!(Uri::parse(message.request_uri()).unwrap().host_ip(), ip("2001:db8::192.0.2.1"));
        assert_eq!(Uri::parse(message.to().unwrap().uri).unwrap().host_ip(), ip("2001:db8::192.0.2.1"));
    }
}
