//! What a connection's bytes may be taken for: one message after the other, as far as each says itself, and nothing else.
//!
//! A second request is hidden where another reader of the same bytes might look for the end of the first one: behind the
//! smaller of two lengths, behind a line feed, in a body. It must be answered where it is a message, and nowhere else.

use ringdown::{
    types::limits::{SIP_BODY_BYTES_MAX, SIP_MESSAGE_BYTES_MAX},
    wire::sip::Message,
};

use crate::{
    COMPANY,
    common::server::{ALICE, Ringdown},
    torture::{Wire, dropped, options},
};

/// OPTIONS whose header section ends with `fields`, an empty line and `rest`.
fn request(id: &str, fields: &str, rest: &str) -> String {
    let whole = options(id);
    let head = whole.strip_suffix("Content-Length: 0\r\n\r\n").expect("its last header");
    format!("{head}{fields}\r\n{rest}")
}

/// Everything the server says until it closes the connection, or until it has answered what is sent last.
fn said(server: &Ringdown, stream: &[u8], piece: usize) -> (Vec<(String, u16)>, bool) {
    let mut wire = Wire::tcp(server);
    stream.chunks(piece).for_each(|piece| wire.send(piece));
    wire.send(options("last").as_bytes());
    let mut answers = Vec::new();
    while let Some(answer) = wire.hear() {
        if answer.call_id() == "last" {
            return (answers, true);
        }
        answers.push((answer.call_id().to_owned(), answer.status()));
    }
    (answers, false)
}

#[test]
fn a_request_hidden_behind_an_odd_content_length_is_read_only_where_the_length_says() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE]);
    let hidden = options("hidden");
    let len = hidden.len();
    // The fields; whether the hidden request is a message of its own (behind a length of 0) or the body.
    let good = [
        ("Content-Length: 0\r\n".to_owned(), true),
        ("Content-Length : 0\r\n".to_owned(), true),
        ("Content-Length\t:\t0\r\n".to_owned(), true),
        ("content-length:0\r\n".to_owned(), true),
        ("l: 0\r\n".to_owned(), true),
        ("Content-Length:\r\n 0\r\n".to_owned(), true),
        ("Content-Length: 000\r\n".to_owned(), true),
        ("Content-Length: 0\r\nL:0\r\nContent-Length : 0 \r\n".to_owned(), true),
        ("X-Content-Length: 7\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(), true),
        (format!("Subject: x\r\n Content-Length: {len}\r\nContent-Length: 0\r\n"), true),
        (format!("Subject: x\r\n Content-Length: 0\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n"), false),
        (format!("Content-Type: message/sip\r\nl : {len}\r\nContent-Length:{len}\r\n"), false),
    ];
    for (fields, is_own) in good {
        let stream = request("first", &fields, &hidden);
        for piece in [1, 17, stream.len()] {
            let expected = [("first".to_owned(), 200), ("hidden".to_owned(), 200)];
            let expected = if is_own { &expected[..] } else { &expected[..1] };
            assert_eq!(said(&server, stream.as_bytes(), piece), (expected.to_vec(), true), "{fields:?} by {piece}");
        }
    }
    let bad = [
        format!("Content-Length: 0\r\nContent-Length: {len}\r\n"),
        format!("Content-Length: {len}\r\nl: 0\r\n"),
        format!("Content-Length: 0\r\nContent-Length : {len}\r\n"),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: +0\r\n".to_owned(),
        "Content-Length: 0x0\r\n".to_owned(),
        "Content-Length: 0 0\r\n".to_owned(),
        "Content-Length: 0, 0\r\n".to_owned(),
        "Content-Length: 0;x\r\n".to_owned(),
        "Content-Length: \"0\"\r\n".to_owned(),
        "Content-Length:\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Content-Length: ٠\r\n".to_owned(),
        "Content-Length: 0\n".to_owned(),
        format!("Subject: x\nContent-Length: {len}\r\nContent-Length: 0\r\n"),
        format!("Subject: x\rContent-Length: {len}\r\nContent-Length: 0\r\n"),
        "Content-Length: 0\r\r\n".to_owned(),
        "Content-Length\r\n: 0\r\n".to_owned(),
        "Content-Length 0\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n".to_owned(),
        " Content-Length: 0\r\n".to_owned(),
        "\"Content-Length\": 0\r\n".to_owned(),
    ];
    for fields in bad {
        let stream = request("first", &fields, &hidden);
        for piece in [1, 17, stream.len()] {
            let (answers, is_open) = said(&server, stream.as_bytes(), piece);
            assert_eq!((answers, is_open), (vec![("first".to_owned(), 400)], false), "{fields:?} by {piece}");
        }
    }
    for length in [SIP_BODY_BYTES_MAX + 1, usize::MAX] {
        let stream = request("first", &format!("Content-Length: {length}\r\n"), &hidden);
        let answer = said(&server, stream.as_bytes(), stream.len());
        assert_eq!(answer, (vec![("first".to_owned(), 513)], false), "{length}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_wherever_the_stream_is_cut() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE]);
    let ids: Vec<String> = (0..5).map(|n| format!("pipelined-{n}")).collect();
    let stream: String = ids
        .iter()
        .map(|id| format!("\r\n{}", request(id, "Content-Length: 4\r\nContent-Type: a/b\r\n", "\r\n\r\n")))
        .collect();
    let expected: Vec<_> = ids.iter().map(|id| (id.clone(), 200)).collect();
    for cut in (1..stream.len()).step_by(7).chain([1, stream.len()]) {
        assert_eq!(said(&server, stream.as_bytes(), cut), (expected.clone(), true), "pieces of {cut}");
    }
}

/// A request of exactly this many bytes.
fn of_size(id: &str, bytes: usize) -> String {
    const LINE: usize = 1_000;
    let line = |bytes: usize| format!("X: {}\r\n", "x".repeat(bytes - "X: \r\n".len()));
    let missing = bytes - request(id, "Content-Length: 0\r\n", "").len();
    let lines = line(LINE + missing % LINE) + &line(LINE).repeat(missing / LINE - 1);
    request(id, &format!("Content-Length: 0\r\n{lines}"), "")
}

#[test]
fn the_largest_datagram_and_the_largest_stream_message_are_answered_and_a_larger_one_is_counted() {
    /// Of IPv4: 65,535 less the headers of IP and UDP.
    const DATAGRAM_BYTES_MAX: usize = 65_507;
    let server = Ringdown::started("preferred", COMPANY, &[ALICE]);
    let status = |mut wire: Wire, text: String| {
        wire.send(text.as_bytes());
        wire.hear().map(|answer: Message| (answer.call_id().to_owned(), answer.status()))
    };
    let datagram = of_size("datagram", DATAGRAM_BYTES_MAX);
    assert_eq!(status(Wire::udp(&server), datagram), Some(("datagram".to_owned(), 200)));
    let largest = of_size("stream", SIP_MESSAGE_BYTES_MAX);
    assert_eq!(status(Wire::tcp(&server), largest), Some(("stream".to_owned(), 200)));
    assert_eq!(dropped(&server, "sip_oversized"), 0);
    assert_eq!(status(Wire::tcp(&server), of_size("stream", SIP_MESSAGE_BYTES_MAX + 1)), None);
    assert_eq!(dropped(&server, "sip_oversized"), 1);
    assert_eq!(status(Wire::tcp(&server), options("afterwards")), Some(("afterwards".to_owned(), 200)));
}
