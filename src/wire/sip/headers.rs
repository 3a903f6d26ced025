//! Typed views of header values. All borrow from the message.

use super::{message::Method, scan};
use crate::types::limits::SIP_PARAMETERS_MAX;

/// `;name=value` parameters, read lazily. Names compare case-insensitively; quoted values come without quotes
/// when they hold no escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a> {
    /// From the first semicolon on, or empty.
    pub text: &'a str,
}

impl<'a> Params<'a> {
    /// `Some("")` for a parameter without a value.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.unwrap_or_default())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// In order; empty parameters (`;;`) are left out.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        self.pieces().filter(|piece| !piece.is_empty()).map(|piece| {
            let (name, value) = split_param(piece);
            (name, value.map(unquote_plain))
        })
    }

    /// The name of one of [`Params::pieces`].
    pub(super) fn name_of(piece: &str) -> &str {
        split_param(piece).0
    }

    /// The text between semicolons outside quotes, trimmed.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let text = rest.strip_prefix(';')?;
            let piece;
            (piece, rest) = text.split_at(piece_end(text.as_bytes()));
            Some(scan::trim(piece))
        })
    }
}

/// Whether `text` is a list of at most [`SIP_PARAMETERS_MAX`] `;name[=value]` (RFC 3261 section 25.1, `generic-param`). Values may be empty, except that
/// of `tag`: an empty tag would be taken for a missing one.
pub(super) fn is_param_list(text: &[u8]) -> bool {
    // Byte by byte, because there are hardly any.
    let blanks = |mut at: usize| {
        while let Some(b' ' | b'\t') = text.get(at) {
            at += 1;
        }
        at
    };
    let (mut at, mut count) = (blanks(0), 0);
    while at < text.len() {
        count += 1;
        let name = blanks(at + 1);
        let name_end = scan::skip(text, name, scan::TOKEN);
        if text[at] != b';' || name_end == name || count > SIP_PARAMETERS_MAX {
            return false;
        }
        at = blanks(name_end);
        let name = &text[name..name_end];
        if text.get(at) == Some(&b'=') {
            let value = blanks(at + 1);
            let value_end = match text.get(value) {
                Some(b'"') => scan::quoted_len(&text[value..]).map(|len| value + len),
                Some(_) | None => Some(scan::skip(text, value, scan::PARAM)),
            };
            match value_end {
                Some(end) if end > value || !name.eq_ignore_ascii_case(b"tag") => at = blanks(end),
                Some(_) | None => return false,
            }
        }
    }
    true
}

/// Index of the next semicolon outside quotes, or the length.
fn piece_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(skip) = scan::find(&text[at..], [b';', b'"']) {
        at += skip;
        if text[at] == b';' {
            return at;
        }
        match scan::quoted_len(&text[at..]) {
            Some(len) => at += len,
            None => break,
        }
    }
    text.len()
}

fn split_param(piece: &str) -> (&str, Option<&str>) {
    match scan::find(piece.as_bytes(), [b'=']) {
        Some(at) => (scan::trim(&piece[..at]), Some(scan::trim(&piece[at + 1..]))),
        None => (piece, None),
    }
}

/// Without its quotes, unless an escape in it would have to be undone.
fn unquote_plain(value: &str) -> &str {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => inner,
        _ => value,
    }
}

/// Splits a list header at its commas; those in quoted strings and angle brackets do not count
/// (RFC 3261 section 7.3.1). Values come trimmed; an empty line has one empty value.
pub(super) fn split_values(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = value_end(text.as_bytes());
        rest = text.get(end + 1..);
        Some(scan::trim(&text[..end]))
    })
}

/// Index of the next separating comma, or the length. An unclosed quote or bracket hides every later comma, so that the
/// broken value stays in one piece and is refused.
fn value_end(text: &[u8]) -> usize {
    // Most lines have one value.
    if scan::find(text, [b',']).is_none() {
        return text.len();
    }
    let mut at = 0;
    while let Some(skip) = scan::find(&text[at..], [b',', b'"', b'<']) {
        at += skip;
        let len = match text[at] {
            b',' => return at,
            b'<' => scan::find(&text[at..], [b'>']).map(|last| last + 1),
            _ => scan::quoted_len(&text[at..]),
        };
        match len {
            Some(len) => at += len,
            None => break,
        }
    }
    text.len()
}

/// From, To, Contact, Route, ... (RFC 3261 section 20.10): `"Display" <uri>;params` or `uri;params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// As written, with its quotes if it had any; empty when absent.
    pub display: &'a str,
    pub uri: &'a str,
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// One value, not a list. Refuses what could be read in two ways: a display name with a bare comma, an unclosed quote
    /// or bracket, white space in the URI, a `?` in a URI without brackets. The URI itself is not looked into.
    pub fn parse(value: &'a str) -> Option<Self> {
        Self::split(value).filter(|address| scan::is_uri_text(address.uri))
    }

    /// As [`NameAddr::parse`], but for a caller that has the URI parsed next, which looks at its bytes anyway.
    pub(super) fn split(value: &'a str) -> Option<Self> {
        let value = scan::trim(value);
        let (display, addr) = split_display(value)?;
        let (uri, params) = match addr.strip_prefix('<') {
            Some(bracketed) => {
                let (uri, after) = bracketed.split_at(scan::find(bracketed.as_bytes(), [b'>'])?);
                (uri, scan::trim(&after[1..]))
            }
            None => {
                let (uri, params) = addr.split_at(scan::find(addr.as_bytes(), [b';']).unwrap_or(addr.len()));
                // RFC 3261 section 20.10: a URI with a comma or question mark must stand in angle brackets.
                if scan::find(uri.as_bytes(), [b'?', b',']).is_some() {
                    return None;
                }
                (scan::trim(uri), params)
            }
        };
        let name_addr = Self { display, uri, params: Params { text: params } };
        let has_params = params.is_empty() || params.starts_with(';');
        (has_params && !uri.is_empty() && is_param_list(params.as_bytes())).then_some(name_addr)
    }

    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag")
    }
}

/// Cuts a display name off, which needs an opening bracket behind it.
fn split_display(value: &str) -> Option<(&str, &str)> {
    let bytes = value.as_bytes();
    if bytes.first() == Some(&b'"') {
        let (display, addr) = value.split_at(scan::quoted_len(bytes)?);
        let addr = scan::trim(addr);
        return addr.starts_with('<').then_some((display, addr));
    }
    if bytes.first() == Some(&b'<') {
        return Some(("", value));
    }
    match scan::find(bytes, [b'<', b'"', b';']) {
        Some(at) if bytes[at] == b'<' => {
            let display = scan::trim(&value[..at]);
            // Wider than the grammar's tokens, because phones send parentheses and national letters unquoted; what
            // remains forbidden is what could separate values.
            (!display.contains([',', '>', '\\'])).then_some((display, &value[at..]))
        }
        Some(_) | None => Some(("", value)),
    }
}

/// One Via value (RFC 3261 section 20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, ... as written.
    pub transport: &'a str,
    /// IPv6 without its brackets.
    pub host: &'a str,
    pub port: Option<u16>,
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// `SIP/2.0/UDP host:port;params`, blanks around the slashes allowed. The protocol version is not judged: an answer to
    /// a request of another version still needs its Via.
    pub fn parse(value: &'a str) -> Option<Self> {
        let bytes = value.as_bytes();
        let blanks = |at| scan::skip(bytes, at, scan::BLANK);
        // `name / version / transport`: two tokens with a slash behind each, then one with a blank.
        let mut at = blanks(0);
        for _ in 0..2 {
            let slash = blanks(scan::skip(bytes, at, scan::TOKEN));
            if slash == at || bytes.get(slash) != Some(&b'/') {
                return None;
            }
            at = blanks(slash + 1);
        }
        let transport_end = scan::skip(bytes, at, scan::TOKEN);
        let (transport, rest) = (&value[at..transport_end], &value[transport_end..]);
        if transport.is_empty() || !rest.starts_with([' ', '\t']) {
            return None;
        }
        let (sent_by, params) = rest.split_at(scan::find(rest.as_bytes(), [b';']).unwrap_or(rest.len()));
        let (host, port) = split_sent_by(scan::trim(sent_by))?;
        let via = Self { transport, host, port, params: Params { text: params } };
        is_param_list(params.as_bytes()).then_some(via)
    }

    pub fn branch(&self) -> Option<&'a str> {
        self.params.get("branch")
    }

    /// Whether the sender asks for symmetric response routing (RFC 3581 section 3).
    pub fn wants_rport(&self) -> bool {
        self.params.has("rport")
    }

    /// The address that an upstream element saw this hop come from, with or without the brackets that some put around
    /// IPv6 (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<std::net::IpAddr> {
        let text = self.params.get("received")?;
        text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
    }
}

/// `host [ : port ]`; the brackets of IPv6 are taken off.
fn split_sent_by(sent_by: &str) -> Option<(&str, Option<u16>)> {
    let (host, after) = super::uri::split_host(sent_by)?;
    let after = scan::trim(after);
    let port = match after.strip_prefix(':') {
        Some(port) => Some(scan::number(scan::trim(port).as_bytes())?),
        None if after.is_empty() => None,
        None => return None,
    };
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    Some((host, port))
}

/// RFC 3261 section 20.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    pub number: u32,
    pub method: Method,
    pub method_text: &'a str,
}

impl<'a> CSeq<'a> {
    /// `None` for a number of more than 31 bits too (RFC 3261 section 8.1.1.5).
    pub fn parse(value: &'a str) -> Option<Self> {
        let value = scan::trim(value);
        let (number, method) = Self::split(value.as_bytes())?;
        let method_text = &value[value.len() - method.len()..];
        Some(Self { number, method: Method::from_bytes(method), method_text })
    }

    /// Number and method of a trimmed value.
    #[inline(always)]
    pub(super) fn split(value: &[u8]) -> Option<(u32, &[u8])> {
        let (number, method) = value.split_at(scan::find(value, [b' ', b'\t'])?);
        let number = scan::number(number).filter(|number| *number < 1 << 31)?;
        let method = scan::trim_start(method);
        scan::is_token(method).then_some((number, method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_respect_quotes_blanks_and_case() {
        let params = Params { text: " ;tag = a ; Lr;x=\"1;2\";y=\"\\\"\";;rport=".trim() };
        assert_eq!(params.get("TAG"), Some("a"));
        assert_eq!(params.get("lr"), Some(""));
        assert_eq!(params.get("x"), Some("1;2"));
        assert_eq!(params.get("y"), Some("\"\\\"\""), "an escape keeps its quotes");
        assert_eq!(params.get("rport"), Some(""));
        assert_eq!(params.get("2\""), None);
        assert_eq!(params.iter().count(), 5);
        assert!(!is_param_list(params.text.as_bytes()), "an empty parameter");
    }

    #[test]
    fn lists_split_at_commas_outside_quotes_and_brackets_only() {
        let list: Vec<_> = split_values(r#""a,\",b" <sip:x,y@z>;p="1,2" , <sip:b>,, c"#).collect();
        assert_eq!(list, [r#""a,\",b" <sip:x,y@z>;p="1,2""#, "<sip:b>", "", "c"]);
        assert_eq!(split_values("\"open, <sip:a>").count(), 1);
        assert_eq!(split_values("<sip:a, <sip:b").count(), 1);
        assert_eq!(split_values("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn name_addr_takes_every_form_of_the_grammar() {
        let cases = [
            ("<sip:a@b>", "", "sip:a@b", ""),
            ("sip:a@b;tag=1", "", "sip:a@b", ";tag=1"),
            ("sip:a@b", "", "sip:a@b", ""),
            ("Ann Bell <sip:a@b;lr>;tag=1", "Ann Bell", "sip:a@b;lr", ";tag=1"),
            ("Ann<sip:a@b>", "Ann", "sip:a@b", ""),
            (r#""<sip:x@y>" <sip:a@b>"#, r#""<sip:x@y>""#, "sip:a@b", ""),
            (r#""a\"<" <tel:+1> ; x"#, r#""a\"<""#, "tel:+1", "; x"),
            ("sip:a@b;x=\"<c>\"", "", "sip:a@b", ";x=\"<c>\""),
            ("<urn:service:sos?x>", "", "urn:service:sos?x", ""),
            ("*", "", "*", ""),
        ];
        for (value, display, uri, params) in cases {
            let expected = NameAddr { display, uri, params: Params { text: params } };
            assert_eq!(NameAddr::parse(value), Some(expected), "{value}");
        }
    }

    #[test]
    fn name_addr_refuses_what_could_be_read_in_two_ways() {
        for bad in [
            "",
            "<>",
            "Bell, Ann <sip:a@b>",
            "\"Ann <sip:a@b>",
            "\"Ann\" sip:a@b",
            "\"Ann\"",
            "<sip:a@b",
            "< sip:a@b >",
            "<sip:a@b>;tag=",
            "<sip:a@b>;;",
            "<sip:a@b> tag=1",
            "<sip:a@b>;tag=1, <sip:c@d>",
            "<sip:a@b>;tag=1 2",
            "sip:a@b?Route=c",
            "sip:a@b, sip:c@d",
            "<sip:a@b>;x=\"open",
        ] {
            assert_eq!(NameAddr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn via_takes_blanks_and_ipv6() {
        let via = Via::parse("SIP / 2.0 / UDP   [2001:db8::9:1] : 5061 ; rport ; branch = z9hG4bKa").unwrap();
        assert_eq!((via.transport, via.host, via.port), ("UDP", "2001:db8::9:1", Some(5061)));
        assert_eq!(via.branch(), Some("z9hG4bKa"));
        assert!(via.wants_rport());
        for received in ["[2001:db8::1]", "2001:db8::1"] {
            let text = format!("SIP/2.0/UDP host;received={received}");
            assert_eq!(Via::parse(&text).unwrap().received(), Some("2001:db8::1".parse().unwrap()));
        }
    }

    #[test]
    fn a_malformed_via_is_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 host",
            "SIP/2.0/UDP host:70000",
            "SIP/2.0/UDP host:",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP host;;",
            "SIP/2.0/UDP a b",
            "SIP/2.0/U(P host",
        ] {
            assert_eq!(Via::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn cseq_holds_31_bits_and_a_token() {
        let cseq = CSeq::parse("0009 \t INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method, cseq.method_text), (9, Method::Invite, "INVITE"));
        assert_eq!(CSeq::parse("2147483647 FOO").unwrap().method, Method::Other);
        for bad in ["", "1", "INVITE 1", "-1 INVITE", "2147483648 INVITE", "99999999999 INVITE", "1 A B"] {
            assert_eq!(CSeq::parse(bad), None, "{bad}");
        }
    }
}
