//! Recognises the shapes that nearly every message has, in one pass over their bytes.
//!
//! Each function says yes only to what the full reader of [`super::headers`] and [`super::uri`] accepts too; no means that
//! the full reader has to look. It saves [`super::validate()`] from taking apart what it only wants to know to be well-formed.

use super::{
    headers::{is_param_list, is_param_list_of},
    scan,
};

/// One Via value with a branch, if any, that has more than the magic cookie: `SIP/2.0/UDP host:port;params`.
pub(super) fn is_via(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"SIP/2.0/") else { return false };
    let (transport, rest) = rest.split_at(scan::skip(rest, 0, scan::TOKEN));
    let [b' ', rest @ ..] = rest else { return false };
    let is_good_branch = |value: &[u8]| value.strip_prefix(b"z9hG4bK").is_some_and(|rest| !rest.is_empty());
    let is_good = |name: &[u8], value: &[u8]| !name.eq_ignore_ascii_case(b"branch") || is_good_branch(value);
    !transport.is_empty()
        && after_host(rest).and_then(after_port).is_some_and(|params| is_param_list_of(params, is_good))
}

/// One address, display name in quotes or none, SIP URI in angle brackets: `"Display" <sip:user@host>;params`.
pub(super) fn is_address(value: &[u8]) -> bool {
    let Some(rest) = after_display(value) else { return false };
    matches!(after_uri(rest), Some([b'>', params @ ..]) if is_param_list(params))
}

/// A SIP URI without headers.
pub(super) fn is_uri(text: &[u8]) -> bool {
    after_uri(text) == Some(b"")
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
    let host_len = scan::skip(text, 0, scan::HOST);
    let user_len = scan::skip(text, host_len, scan::USER);
    let rest = match text.get(user_len) {
        Some(b'@') if user_len > 0 => after_host(&text[user_len + 1..])?,
        _ if host_len > 0 && host_len == user_len => &text[host_len..],
        _ => return None,
    };
    match after_port(rest)? {
        [b';', params @ ..] => Some(&params[scan::skip(params, 0, scan::URI_REST)..]),
        rest => Some(rest),
    }
}

fn after_host(text: &[u8]) -> Option<&[u8]> {
    let len = scan::skip(text, 0, scan::HOST);
    (len > 0).then(|| &text[len..])
}

/// What follows `[:port]`.
fn after_port(text: &[u8]) -> Option<&[u8]> {
    let Some(text) = text.strip_prefix(b":") else { return Some(text) };
    let (port, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    scan::number::<u16>(port).map(|_| rest)
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

    #[test]
    fn ordinary_messages_need_no_full_reader() {
        for bytes in
            [&include_bytes!("../../../tests/vectors/invite.sip")[..], include_bytes!("../../../tests/vectors/ok.sip")]
        {
            let message = Message::parse(bytes.into()).unwrap();
            assert!(!message.is_request() || is_uri(message.request_uri().as_bytes()));
            assert!(message.lines(Name::Via).all(|line| is_via(line.as_bytes())));
            for name in [Name::From, Name::To, Name::Contact, Name::Route, Name::RecordRoute] {
                assert!(message.lines(name).all(|line| is_address(line.as_bytes())), "{name:?}");
            }
        }
    }

    #[test]
    fn a_user_may_be_a_number_with_a_plus_and_may_be_absent() {
        for address in ["<sip:+41445550100@h>", "\"A, \\\"B\\\"\"<sip:a+b%20@h:5060;lr> ;tag=1", "<sip:h>"] {
            assert!(is_address(address.as_bytes()), "{address}");
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
            assert!(!is_via(via.as_bytes()), "{via}");
        }
        for address in
            ["", "*", "<sip:>", "<sip:@h>", "<sip:a@>", "<sip:a@b@c>", "<sip:a@b?c=d>", "<tel:1>", "Ann <sip:a@b>"]
        {
            assert!(!is_address(address.as_bytes()), "{address}");
        }
        for address in
            ["<sip:a@b>, <sip:c@d>", "<sip:a@b", "\"a <sip:a@b>", "<sip:a@b>;tag=", "<sip:a@b>;;", "<sip:a@b:>"]
        {
            assert!(!is_address(address.as_bytes()), "{address}");
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_usual_via_is_one_that_the_full_reader_accepts(
            text in prop_oneof![pieces(""), pieces("SIP/2.0/UDP host"), pieces("SIP/2.0/UDP a;branch=z9hG4bK")],
        ) {
            if is_via(text.as_bytes()) {
                let values: Vec<_> = split_values(&text).map(Via::parse).collect();
                prop_assert!(matches!(values[..], [Some(via)] if via.branch() != Some("z9hG4bK")), "{text}: {values:?}");
            }
        }

        #[test]
        fn a_usual_address_is_one_that_the_full_reader_accepts(
            text in prop_oneof![pieces(""), pieces("<sip:a"), pieces("\"a\" <sip:host>;"), pieces("sip:a@b")],
        ) {
            if is_address(text.as_bytes()) {
                let values: Vec<_> = split_values(&text).collect();
                prop_assert_eq!(&values[..], [text.trim_matches([' ', '\t'])]);
                let uri = NameAddr::parse(&text).and_then(|address| Uri::parse(address.uri));
                prop_assert!(uri.is_some_and(|uri| uri.is_sip() && uri.headers.is_empty()), "{text}");
            }
            if is_uri(text.as_bytes()) {
                prop_assert!(Uri::parse(&text).is_some_and(|uri| uri.is_sip() && uri.headers.is_empty()), "{text}");
            }
        }
    }
}
