//! What a forger gains by naming somebody else as the source of a datagram: nothing.

use bytes::Bytes;

use super::bench::{ALICE, Bench, PADDING, SDP, TRUNK, binding, udp, user};
use crate::{
    call::{Input, Output},
    types::DropReason,
    wire::sip::{Message, Name, digest},
};

const VICTIM: &str = "198.51.100.50:5060";
/// Until nothing is sent again (RFC 3261 section 17.2.1, timer H).
const ALL_OVER_MS: u64 = 64_000;

/// A request as short as it can be, with these further lines and this body.
fn request(method: &str, uri: &str, serial: u32, lines: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {VICTIM};branch=z9hG4bK{serial}\r\nFrom: <sip:a@x>;tag=1\r\nTo: <{uri}>\r\n\
         Call-ID: {serial}\r\nCSeq: 1 {method}\r\nMax-Forwards: 9\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    text.into_bytes()
}

/// Everything that anybody may send without being anybody.
fn every_kind() -> Vec<(String, Vec<u8>)> {
    let offer = SDP.replace('\n', "\r\n");
    let kind = "Content-Type: application/sdp\r\n";
    let methods = [
        "OPTIONS",
        "REGISTER",
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "NOTIFY",
        "BYE",
        "CANCEL",
        "ACK",
        "PRACK",
        "UPDATE",
        "REFER",
        "INFO",
        "PUBLISH",
        "UNHEARDOF",
    ];
    let uris = [
        "sip:pbx.example.com",
        "sip:1001@pbx.example.com",
        "sip:911@pbx.example.com",
        "urn:service:sos",
        "tel:+12025551001",
    ];
    let event = format!("Event: dialog\r\nContact: <sip:a@{VICTIM}>\r\n");
    let mut kinds = Vec::new();
    for method in methods {
        for uri in uris {
            let further = [("", ""), (kind, &*offer), ("Require: nothing-known\r\n", ""), (&*event, ""), (PADDING, "")];
            for (lines, body) in further {
                let serial = u32::try_from(kinds.len()).unwrap() + 1;
                kinds.push((format!("{method} {uri} {lines}"), request(method, uri, serial, lines, body)));
            }
        }
    }
    let good = String::from_utf8(request("OPTIONS", "sip:pbx.example.com", 9_000, "", "")).unwrap();
    for (what, from, to) in [
        ("no Call-ID", "Call-ID: 9000\r\n", ""),
        ("no CSeq", "CSeq: 1 OPTIONS\r\n", ""),
        ("no hops", "Max-Forwards: 9", "Max-Forwards: 0"),
        ("another version", "SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        ("another scheme", "sip:pbx.example.com SIP", "xyz:pbx SIP"),
        ("a body that is not there", "Content-Length: 0", "Content-Length: 900"),
        ("two Call-IDs", "Call-ID: 9000\r\n", "Call-ID: 9000\r\nCall-ID: 9001\r\n"),
    ] {
        assert!(good.contains(from), "{what}");
        kinds.push((what.to_owned(), good.replacen(from, to, 1).into_bytes()));
    }
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    kinds.push(("STUN".to_owned(), stun));
    kinds
}

/// Bytes that leave for the victim from now until all is over. Nobody there answers.
fn sent_to_victim(b: &mut Bench, datagram: &[u8]) -> usize {
    let input = Input::Received { flow: udp(VICTIM), bytes: Bytes::copy_from_slice(datagram) };
    b.core.handle_input(b.now, input);
    let (end, mut bytes) = (b.now + std::time::Duration::from_millis(ALL_OVER_MS), 0);
    loop {
        match b.core.poll_output() {
            Output::Transmit { flow, bytes: sent } if flow.remote.ip() == udp(VICTIM).remote.ip() => {
                bytes += sent.len()
            }
            Output::Timeout(Some(at)) if at <= end => {
                b.now = at;
                b.core.handle_input(at, Input::Timeout);
            }
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    b.now = end;
    bytes
}

#[test]
fn no_kind_of_request_makes_the_server_send_more_than_it_got() {
    let mut answered = 0;
    for (what, datagram) in every_kind() {
        let mut b = Bench::new();
        let sent = sent_to_victim(&mut b, &datagram);
        assert!(sent <= datagram.len(), "{what}: {sent} bytes for {}", datagram.len());
        answered += usize::from(sent > 0);
        // As often as somebody asks, together: the credit of one request is spent once.
        let repeated: usize = (0..5).map(|_| sent_to_victim(&mut b, &datagram)).sum();
        assert!(
            sent + repeated <= 6 * datagram.len(),
            "{what}: {sent} and {repeated} bytes for 6 times {}",
            datagram.len()
        );
    }
    assert!(answered > 100, "only {answered} were answered at all");
}

/// Goal: a telephone with the shortest REGISTER there is gets in all the same. Method: it repeats what is not answered, as
/// every telephone does over UDP (RFC 3261 section 17.1.2).
#[test]
fn a_telephone_whose_requests_are_short_registers_after_it_has_repeated_them() {
    let mut b = Bench::with_users(super::bench::CONFIG, [user("alice", "1001", "+12025551001")], vec![]);
    let uri = "sip:pbx.example.com";
    let first = request("REGISTER", uri, 1, "Contact: <sip:a@198.51.100.50>\r\n", "");
    let first = String::from_utf8(first).unwrap().replace(&format!("To: <{uri}>"), "To: <sip:alice@pbx.example.com>");
    let ask = |b: &mut Bench, text: &str| -> (u32, Message) {
        for asked in 1..=5 {
            b.input(Input::Received { flow: udp(VICTIM), bytes: Bytes::from(text.to_owned()) });
            if let Some((_, answer)) = b.sent.pop() {
                return (asked, answer);
            }
        }
        panic!("no answer to {text}");
    };
    let (asked, challenge) = ask(&mut b, &first);
    assert!((2..=3).contains(&asked) && challenge.status() == 401, "{asked} times");
    assert_eq!(b.core.counters().drops.of(DropReason::SipUnproven), u64::from(asked) - 1);
    let lines = challenge.lines(Name::WwwAuthenticate);
    let answer = digest::answer(lines, "alice", "secret", "REGISTER", uri, b"", "c", 1).unwrap();
    let second = first
        .replace("z9hG4bK1", "z9hG4bK2")
        .replace("CSeq: 1", "CSeq: 2")
        .replace("Max-Forwards", &format!("Authorization: {answer}\r\nMax-Forwards"));
    let (asked, ok) = ask(&mut b, &second);
    assert_eq!((asked, ok.status()), (1, 200), "what answers a challenge has heard it");
    // From now on it is known, and answered at once, however short it is.
    let (asked, ok) = ask(&mut b, &String::from_utf8(request("OPTIONS", uri, 3, "", "")).unwrap());
    assert_eq!((asked, ok.status()), (1, 200));
}

#[test]
fn who_is_registered_or_a_trunk_is_answered_however_short_the_question() {
    let mut b =
        Bench::with_users(super::bench::CONFIG, [user("alice", "1001", "+12025551001")], vec![binding("alice", ALICE)]);
    for (serial, peer) in [(1, ALICE), (2, TRUNK)] {
        let text = request("OPTIONS", "sip:pbx.example.com", serial, "", "");
        b.input(Input::Received { flow: udp(peer), bytes: Bytes::from(text) });
        assert_eq!(b.take_response("OPTIONS", peer, 200).status(), 200);
    }
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    b.core.handle_input(b.now, Input::Received { flow: udp(ALICE), bytes: Bytes::from(stun) });
    let answered = std::iter::from_fn(|| match b.core.poll_output() {
        Output::Timeout(_) => None,
        output => Some(output),
    });
    let is_stun = |output: Output| matches!(output, Output::Transmit { bytes, .. } if bytes[..2] == [1, 1]);
    assert!(answered.into_iter().any(is_stun), "a keep-alive of a telephone is answered");
}
