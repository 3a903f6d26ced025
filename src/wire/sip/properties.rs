//! Properties of the whole SIP layer: nothing panics, framing agrees with indexing, printing agrees with parsing.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{
    digest,
    frame::{Frame, Framer},
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

    #[test]
    fn frames_do_not_depend_on_cuts(bytes in sip_like(), size in 1usize..40) {
        let all = |size: usize| {
            let mut framer = Framer::new();
            let mut found = Vec::new();
            for piece in bytes.chunks(size) {
                framer.push(piece);
                while let Some(frame) = framer.poll().transpose() {
                    found.push(frame);
                }
            }
            found
        };
        prop_assert_eq!(all(size), all(usize::MAX));
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
