//! Properties of the whole SIP layer: nothing panics, framing agrees with indexing, printing agrees with parsing.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    digest,
    frame::{Frame, FrameError, Framer},
    message::{Message, Name},
    *,
};

/// Bytes made of the pieces that SIP gives a meaning to, so that they get past the first check.
fn sip_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "INVITE sip:a@b SIP/2.0\r\n",
            "SIP/2.0 200 OK\r\n",
            "Via: SIP/2.0/UDP h:5060;branch=z9hG4bK1\r\n",
            "From: \"A\" <sip:a@b>;tag=1\r\n",
            "t: <sip:a@[::1]>\r\n",
            "i: x\r\n",
            "CSeq: 1 INVITE\r\n",
            "l: 3\r\n",
            "Content-Length:",
            "Content-Type: multipart/mixed;boundary=x\r\n",
            "--x\r\n",
            "c: application/sdp\r\n",
            "Contact: ",
            "\r\n",
            "\r\n ",
            "\r",
            "\n",
            "\"",
            "\\",
            "<",
            ">",
            "sip:",
            "[",
            "]",
            ";",
            ",",
            ":",
            "@",
            "=",
            "%",
            " ",
            "\0",
            "é",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A message whose header section says in every odd way how long its body is, with more bytes behind it.
fn odd_lengths() -> impl Strategy<Value = Vec<u8>> {
    let name =
        prop::sample::select(vec!["Content-Length", "l", "L", "content-LENGTH", "X", "Content-Length-", "\"l\""]);
    let blank = prop::sample::select(vec!["", " ", "\t", "\r\n ", " \r\n\t ", "\r\n", "\n ", "\r"]);
    let value =
        prop::sample::select(vec!["0", "3", "03", "5", "-1", "+3", "3 3", "3,3", "", "0x3", "99999999999999999999"]);
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\r\n"]);
    let line = (name, blank.clone(), blank.clone(), value, blank, end)
        .prop_map(|(name, a, b, value, c, end)| format!("{name}{a}:{b}{value}{c}{end}"));
    let plain = prop::sample::select(vec!["l: 3\r\n", "Content-Length: 3\r\n", "X: l: 0\r\n", "no colon\r\n"]);
    let line = prop_oneof![line, plain.prop_map(str::to_owned)];
    let rest = prop::sample::select(vec!["", "abc", "abcde", "\r\n\r\n", "abcA b SIP/2.0\r\nl: 0\r\n\r\n"]);
    let start = prop::sample::select(vec!["A b SIP/2.0\r\n", "A b SIP/2.0\r\n l: 0\r\n", "l: 3\r\n"]);
    (start, vec(line, 0..4), rest)
        .prop_map(|(start, lines, rest)| format!("{start}{}\r\n{rest}", lines.concat()).into())
}

/// All frames of a stream, and the error that ended it.
fn frames(pieces: &[&[u8]]) -> Vec<Result<Frame, FrameError>> {
    let mut framer = Framer::new();
    let mut found = Vec::new();
    for piece in pieces {
        framer.push(piece);
        while let Some(frame) = framer.poll().transpose() {
            found.push(frame);
        }
    }
    found
}

fn read_everything(message: &Message) {
    let _ = validate(message);
    let _ = (message.method_text(), message.request_uri(), message.reason_phrase(), message.status());
    let _ = (message.via(), message.from_tag(), message.to_tag(), message.contact(), message.call_id(), message.cseq());
    let _ = (message.body(), message.sdp(), message.is_answerable(), format!("{message:?}"));
    for (name, known, value) in message.all() {
        let _ = (message.header_text(name), message.values(known).count());
        read_value(value);
    }
    let source = "[2001:db8::1]:5060".parse().unwrap();
    if message.is_request() {
        let response = ResponseBuilder::to(message, 200, "OK", "tag", source).body("a/b", b"x").finish();
        let response = Message::parse(response).expect("a response to an indexed request can be indexed");
        assert_eq!(response.lines(Name::Via).count(), message.lines(Name::Via).count());
        assert_eq!(&response.body()[..], b"x");
    }
}

fn read_value(value: &str) {
    if let Some(uri) = Uri::parse(value) {
        let _ = (uri.user_decoded(), uri.host_ip(), uri.params.iter().count());
    }
    if let Some(address) = NameAddr::parse(value) {
        let _ = (address.tag(), address.params.iter().count(), Uri::parse(address.uri));
    }
    if let Some(via) = Via::parse(value) {
        let _ = (via.branch(), via.received(), via.wants_rport());
    }
    let _ = (CSeq::parse(value), Params { text: value }.iter().count());
    if let Some(response) = digest::Response::parse(value) {
        let _ = response.matches(&digest::Credential::derive("u", "r", "p"), "INVITE", b"");
    }
    let _ = digest::answer([value].into_iter(), "u", "p", "INVITE", "sip:a", b"", "c", 1);
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9.!%*_+`'~-]{1,12}"
}

/// A header value as it comes back from the index: any text, blanks at the ends excepted.
fn value() -> impl Strategy<Value = String> {
    "\\PC{0,40}".prop_map(|text| text.trim_matches([' ', '\t']).to_owned())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop_oneof![sip_like(), vec(any::<u8>(), 0..200)]) {
        match Message::parse(bytes.clone().into()) {
            Ok(message) => read_everything(&message),
            Err(_) => {
                if let Some(message) = salvage(&bytes) {
                    prop_assert!(message.is_answerable());
                    read_everything(&message);
                }
            }
        }
        let mut framer = Framer::new();
        framer.push(&bytes);
        while let Ok(Some(_)) = framer.poll() {}
    }

    #[test]
    fn arbitrary_values_never_panic(text in prop_oneof![".{0,60}", "[a\"<>;,:@=\\[\\]\\\\/ ?%*]{0,40}"]) {
        read_value(&text);
        read_value(&format!("Digest {text}"));
        read_value(&format!("sip:{text}"));
        read_value(&format!("SIP/2.0/UDP {text}"));
    }

    #[test]
    fn whatever_the_framer_cuts_the_index_reads_to_the_same_end(bytes in sip_like()) {
        let mut framer = Framer::new();
        framer.push(&bytes);
        while let Ok(Some(frame)) = framer.poll() {
            let Frame::Message(frame) = frame else { continue };
            let Ok(message) = Message::parse(frame.clone()) else { continue };
            if message.index_fault.is_none() {
                let body = message.body();
                prop_assert!(frame.ends_with(&body));
                prop_assert!(frame[..frame.len() - body.len()].ends_with(b"\r\n\r\n"));
            }
        }
    }

    /// One rule for both: what the index takes for a message and its body, the framer cuts at the same byte; what the
    /// framer refuses, the index refuses, too, or it has no Content-Length, which only a stream needs.
    #[test]
    fn whatever_the_index_accepts_the_framer_cuts_at_the_same_byte(bytes in prop_oneof![odd_lengths(), sip_like()]) {
        let first = frames(&[&bytes]).into_iter().find(|frame| !matches!(frame, Ok(Frame::Ping | Frame::Pong)));
        let Ok(message) = Message::parse(bytes.clone().into()) else { return Ok(()) };
        let is_short = message.index_fault.is_some_and(|fault| fault.reason == "Body is shorter than Content-Length");
        match (first, message.header(Name::ContentLength)) {
            (Some(Ok(Frame::Message(frame))), _) if message.index_fault.is_none() => {
                prop_assert!(frame.ends_with(&message.body()));
                let again = Message::parse(frame).expect("the same header section");
                prop_assert_eq!(again.body(), message.body());
            }
            (Some(Ok(_)), _) => prop_assert!(message.index_fault.is_some()),
            (Some(Err(error)), None) => prop_assert!(
                message.index_fault.is_some() || error.fault.reason == "Missing Content-Length header"
            ),
            (Some(Err(_)), Some(_)) => prop_assert!(message.index_fault.is_some()),
            (None, _) => prop_assert!(is_short || message.index_fault.is_some()),
        }
    }

    #[test]
    fn frames_do_not_depend_on_cuts(
        bytes in prop_oneof![sip_like(), odd_lengths(), vec(odd_lengths(), 2..4).prop_map(|all| all.concat())],
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let whole = frames(&[&bytes]);
        prop_assert_eq!(&frames(&pieces), &whole);
        prop_assert_eq!(&frames(&bytes.chunks(1).collect::<Vec<_>>()), &whole);
    }

    #[test]
    fn what_is_printed_is_parsed(
        method in token(),
        user in token(),
        headers in vec((token(), value()), 0..20),
        body in vec(any::<u8>(), 0..200),
    ) {
        let uri = format!("sip:{user}@example.com");
        let is_writable = |name: &str| Name::from_bytes(name.as_bytes()) != Name::ContentLength;
        let mut builder = RequestBuilder::new(&method, &uri);
        for (name, value) in &headers {
            builder = builder.header(name, value);
        }
        let message = Message::parse(builder.body("a/b", &body).finish()).unwrap();
        prop_assert_eq!((message.method_text(), message.request_uri()), (&*method, &*uri));
        let printed: Vec<_> = headers.iter().filter(|(name, _)| is_writable(name)).collect();
        prop_assert_eq!(message.all().count(), printed.len() + 2);
        for ((name, _, value), (expected_name, expected)) in message.all().zip(printed) {
            prop_assert_eq!((name, value), (&**expected_name, &**expected));
        }
        prop_assert_eq!(message.index_fault, None);
        prop_assert_eq!(message.body(), Bytes::from(body));
    }

    #[test]
    fn no_text_can_start_a_header_of_its_own(name in ".{1,10}", text in "[\\r\\n\\x00:a ]{0,30}") {
        let bytes = RequestBuilder::new(&text, &text).header(&name, &text).header("Last", &text).finish();
        let is_length = Name::from_bytes(name.as_bytes()) == Name::ContentLength;
        let message = Message::parse(bytes.clone()).unwrap();
        prop_assert!(bytes.ends_with(b"\r\nContent-Length: 0\r\n\r\n"));
        prop_assert_eq!(bytes.windows(2).filter(|pair| pair == b"\r\n").count(), if is_length { 4 } else { 5 });
        prop_assert!(message.header_text("Last").is_some());
    }
}
