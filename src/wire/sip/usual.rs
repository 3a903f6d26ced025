//! Recognises the shapes that nearly every message has, in one pass over their bytes.
//!
//! Each function says yes only to what the full reader of [`super::headers`] and [`super::uri`] accepts too; no means that
//! the full reader has to look. It saves [`super::validate()`] from taking apart what it only wants to know to be well-formed.

use super::{message::Excerpt, scan};
use crate::types::limits::SIP_PARAMETERS_MAX;

/// One Via value with a branch, if any, that has more than the magic cookie: `SIP/2.0/UDP host:port;params`.
pub(super) fn is_via(value: Excerpt<'_>) -> bool {
    let Some(rest) = value.bytes.strip_prefix(b"SIP/2.0/") else { return false };
    let (transport, rest) = rest.split_at(scan::skip(rest, 0, scan::TOKEN));
    let [b' ', rest @ ..] = rest else { return false };
    let is_good_branch = |value: &[u8]| value.strip_prefix(b"z9hG4bK").is_some_and(|rest| !rest.is_empty());
    let is_good = |name: &[u8], value: &[u8]| !name.eq_ignore_ascii_case(b"branch") || is_good_branch(value);
    let params = after_host(rest).and_then(after_port).and_then(|rest| within(value, rest));
    !transport.is_empty() && params.is_some_and(|params| are_params(params, is_good))
}

/// One address, display name in quotes or none, SIP URI in angle brackets: `"Display" <sip:user@host>;params`.
pub(super) fn is_address(value: Excerpt<'_>) -> bool {
    let Some(addr) = after_display(value.text()) else { return false };
    let Some([b'>', rest @ ..]) = after_uri(&value.bytes[value.len - addr.len()..]) else { return false };
    within(value, rest).is_some_and(|params| are_params(params, |_, _| true))
}

/// A SIP URI without headers.
pub(super) fn is_uri(text: Excerpt<'_>) -> bool {
    after_uri(text.bytes).and_then(|rest| within(text, rest)) == Some(b"")
}

/// What of `rest`, with which the message ends, is of the value. `None`: the value ends before.
fn within<'a>(value: Excerpt<'_>, rest: &'a [u8]) -> Option<&'a [u8]> {
    rest.get(..(value.len + rest.len()).checked_sub(value.bytes.len())?)
}

/// What follows the opening angle bracket.
fn after_display(value: &[u8]) -> Option<&[u8]> {
    let addr = match value {
        [b'"', ..] => value.get(scan::quoted_len(value)?..)?,
        _ => value,
    };
    addr.strip_prefix(b"<").or_else(|| addr.strip_prefix(b" <"))
}

/// What follows `sip:[user@]host[:port][;params]`.
fn after_uri(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"sip:")?;
    let user_len = scan::skip(text, 0, scan::USER);
    let rest = match text.get(user_len) {
        Some(b'@') if user_len > 0 => after_host(&text[user_len + 1..])?,
        Some(b'@') => return None,
        _ => after_host(text)?,
    };
    match after_port(rest)? {
        [b';', params @ ..] => Some(&params[scan::skip_long(params, 0, scan::URI_REST)..]),
        rest => Some(rest),
    }
}

fn after_host(text: &[u8]) -> Option<&[u8]> {
    let len = scan::skip_long(text, 0, scan::HOST);
    (len > 0).then(|| &text[len..])
}

/// What follows `[:port]`.
fn after_port(text: &[u8]) -> Option<&[u8]> {
    let Some(text) = text.strip_prefix(b":") else { return Some(text) };
    let (port, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    // Of five digits, no more than the largest; of fewer, any.
    let is_port = match port {
        [a, b, c, d, e] => [*a, *b, *c, *d, *e] <= *b"65535",
        _ => matches!(port.len(), 1..5),
    };
    is_port.then_some(rest)
}

/// `;name[=value]` without blanks, all of whose names and values, quotes included, satisfy `is_good`. The value after an equals
/// sign is not empty.
#[inline(always)]
fn are_params(text: &[u8], is_good: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let (mut at, mut count) = (0, 0);
    while let Some(b';') = text.get(at) {
        let name_at = at + 1;
        at = scan::skip(text, name_at, scan::TOKEN);
        let (name, mut value) = (&text[name_at..at], &text[at..at]);
        if let Some([b'=', rest @ ..]) = text.get(at..) {
            let len = match rest {
                [b'"', ..] => scan::quoted_len(rest).unwrap_or(0),
                _ => scan::skip_long(rest, 0, scan::PARAM),
            };
            if len == 0 {
                return false;
            }
            value = &rest[..len];
            at += 1 + len;
        }
        count += 1;
        if name.is_empty() || count > SIP_PARAMETERS_MAX || !is_good(name, value) {
            return false;
        }
    }
    at == text.len()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        super::{
            Message, Name, Uri,
            headers::{NameAddr, Via, split_values},
        },
        *,
    };

    fn alone(text: &str) -> Excerpt<'_> {
        Excerpt { bytes: text.as_bytes(), len: text.len() }
    }

    #[test]
    fn ordinary_messages_need_no_full_reader() {
        for bytes in
            [&include_bytes!("../../../tests/vectors/invite.sip")[..], include_bytes!("../../../tests/vectors/ok.sip")]
        {
            let message = Message::parse(bytes.into()).unwrap();
            assert!(message.request_line().is_none_or(|(_, uri)| is_uri(uri)));
            for (name, value) in message.known() {
                match name {
                    Name::Via => assert!(is_via(value)),
                    Name::From | Name::To | Name::Contact | Name::Route | Name::RecordRoute => {
                        assert!(is_address(value), "{name:?}");
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_user_may_be_a_number_with_a_plus_and_may_be_absent() {
        for address in ["<sip:+41445550100@h>", "\"A, \\\"B\\\"\"<sip:a+b%20@h:5060;lr>;tag=1", "<sip:h>"] {
            assert!(is_address(alone(address)), "{address}");
        }
    }

    #[test]
    fn what_needs_a_closer_look_is_left_to_the_full_reader() {
        for via in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP [::1]",
            "SIP/2.0/UDP h:65536",
            "SIP/2.0/UDP h;branch=z9hG4bK",
            "SIP/2.0/UDP h;branch=\"z9hG4bK1\"",
            "SIP/2.0/UDP h, SIP/2.0/UDP i",
        ] {
            assert!(!is_via(alone(via)), "{via}");
        }
        for address in
            ["", "*", "<sip:>", "<sip:@h>", "<sip:a@>", "<sip:a@b@c>", "<sip:a@b?c=d>", "<tel:1>", "Ann <sip:a@b>"]
        {
            assert!(!is_address(alone(address)), "{address}");
        }
        for address in
            ["<sip:a@b>, <sip:c@d>", "<sip:a@b", "\"a <sip:a@b>", "<sip:a@b>;tag=", "<sip:a@b>;;", "<sip:a@b:>"]
        {
            assert!(!is_address(alone(address)), "{address}");
        }
    }

    /// Text made of what the grammars of addresses and Via give a meaning to.
    fn pieces(start: &'static str) -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "sip:",
            "SIP/2.0/UDP ",
            "<",
            ">",
            "\"",
            "\\",
            " ",
            "\t",
            ";",
            ":",
            ",",
            "@",
            "?",
            "=",
            "a",
            "host.example",
            "5060",
            "99999",
            "tag",
            "branch",
            "z9hG4bK",
            "%41",
            "é",
            "[::1]",
            "\u{7f}",
            ";tag=1",
            "a@b>",
        ]);
        vec(piece, 0..10).prop_map(move |pieces| format!("{start}{}", pieces.concat()))
    }

    /// What may stand behind it.
    fn after() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "",
            "\r\nTo: <sip:a@host.example>;tag=1\r\nCSeq: 1 INVITE\r\n",
            " \t\r\nMax-Forwards: 70\r\n\r\nv=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
            "host.example:5060;branch=z9hG4bK1>;tag=1, <sip:a@b>",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_usual_via_is_one_that_the_full_reader_accepts(
            text in prop_oneof![pieces(""), pieces("SIP/2.0/UDP host"), pieces("SIP/2.0/UDP a;branch=z9hG4bK")],
            after in after(),
        ) {
            let bytes = [&text, after].concat();
            if is_via(Excerpt { bytes: bytes.as_bytes(), len: text.len() }) {
                let values: Vec<_> = split_values(&text).map(Via::parse).collect();
                prop_assert!(matches!(values[..], [Some(via)] if via.branch() != Some("z9hG4bK")), "{text}: {values:?}");
            }
        }

        #[test]
        fn a_usual_address_is_one_that_the_full_reader_accepts(
            text in prop_oneof![pieces(""), pieces("<sip:a"), pieces("\"a\" <sip:host>;"), pieces("sip:a@b")],
            after in after(),
        ) {
            let bytes = [&text, after].concat();
            let excerpt = Excerpt { bytes: bytes.as_bytes(), len: text.len() };
            if is_address(excerpt) {
                let values: Vec<_> = split_values(&text).collect();
                prop_assert_eq!(&values[..], [text.trim_matches([' ', '\t'])]);
                let uri = NameAddr::parse(&text).and_then(|address| Uri::parse(address.uri));
                prop_assert!(uri.is_some_and(|uri| uri.is_sip() && uri.headers.is_empty()), "{text}");
            }
            if is_uri(excerpt) {
                prop_assert!(Uri::parse(&text).is_some_and(|uri| uri.is_sip() && uri.headers.is_empty()), "{text}");
            }
        }
    }
}
