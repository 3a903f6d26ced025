//! SIP, SIPS, tel and other URIs (RFC 3261 section 19.1, RFC 3966).

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{headers::Params, scan};

/// A URI split into its parts, all borrowed and as written (percent-escapes untouched).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// `sip`, `sips`, `tel`, `urn`, ... as written.
    pub scheme: &'a str,
    /// SIP: the user part without password, parameters of the user part included (`911;phone-context=+1`).
    /// Other schemes: everything after the colon, up to `;` or `?`.
    pub user: Option<&'a str>,
    pub password: Option<&'a str>,
    /// SIP only; IPv6 keeps its brackets. Empty for other schemes.
    pub host: &'a str,
    pub port: Option<u16>,
    pub params: Params<'a>,
    /// What follows `?`, without it.
    pub headers: &'a str,
}

impl<'a> Uri<'a> {
    /// Any scheme is taken apart; only SIP's structure is checked. Letters beyond ASCII are let through, because people
    /// dial them. `None` without a scheme, with white space, quotes or angle brackets, or with a host or port that is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let colon = text.bytes().position(|b| b == b':')?;
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        if !scan::is_uri_text(text) {
            return None;
        }
        if is_sip_scheme(scheme) {
            Self::parse_sip(scheme, rest)
        } else if is_scheme(scheme) {
            Self::parse_other(scheme, rest)
        } else {
            None
        }
    }

    fn parse_sip(scheme: &'a str, rest: &'a str) -> Option<Self> {
        // The user part may hold `;`, `?` and `:`, so it is cut off first; no other part may hold a bare `@`.
        let (userinfo, rest) = match scan::split_once(rest, b'@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        let (user, password) = match userinfo.and_then(|info| scan::split_once(info, b':')) {
            Some((user, password)) => (Some(user), Some(password)),
            None => (userinfo, None),
        };
        let (host, rest) = split_host(rest)?;
        let (port, rest) = match rest.strip_prefix(':') {
            Some(rest) => {
                let (port, rest) = rest.split_at(scan::skip(rest.as_bytes(), 0, scan::HOST));
                (Some(scan::number(port.as_bytes())?), rest)
            }
            None => (None, rest),
        };
        let (params, headers) = split_headers(rest);
        let has_params = params.is_empty() || params.starts_with(';');
        (has_params && user.is_none_or(|user| !user.is_empty())).then_some(Self {
            scheme,
            user,
            password,
            host,
            port,
            params: Params { text: params },
            headers,
        })
    }

    fn parse_other(scheme: &'a str, rest: &'a str) -> Option<Self> {
        let (rest, headers) = split_headers(rest);
        let (opaque, params) = rest.split_at(scan::find(rest.as_bytes(), [b';']).unwrap_or(rest.len()));
        (!opaque.is_empty()).then_some(Self {
            scheme,
            user: Some(opaque),
            password: None,
            host: "",
            port: None,
            params: Params { text: params },
            headers,
        })
    }

    pub fn is_sip(&self) -> bool {
        is_sip_scheme(self.scheme)
    }

    /// Whether this is the `sip` URI of a domain itself, which is how a certificate names one (RFC 5922 section 7.1).
    pub fn is_domain(&self, domain: &str) -> bool {
        self.scheme.eq_ignore_ascii_case("sip") && self.user.is_none() && self.host.eq_ignore_ascii_case(domain)
    }

    /// The user part with percent-escapes decoded; `None` if it is absent or does not decode to UTF-8.
    pub fn user_decoded(&self) -> Option<Cow<'a, str>> {
        let user = self.user?;
        if scan::find(user.as_bytes(), [b'%']).is_none() {
            return Some(Cow::Borrowed(user));
        }
        String::from_utf8(percent_decode(user.as_bytes())?).ok().map(Cow::Owned)
    }

    /// The text of the URI without its headers, as a request to it carries it.
    pub fn without_headers(text: &'a str) -> &'a str {
        let headers = Self::parse(text).map_or("", |uri| uri.headers);
        text.strip_suffix(headers).map_or(text, |bare| bare.strip_suffix('?').unwrap_or(bare))
    }

    /// The first header of this name, decoded (RFC 3261 section 19.1.1); `None` if it is absent or does not decode to UTF-8.
    pub fn header(&self, name: &str) -> Option<String> {
        let fields = self.headers.split('&').filter_map(|field| field.split_once('='));
        let (_, value) = fields.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        String::from_utf8(percent_decode(value.as_bytes())?).ok()
    }

    /// The host as an IP address, brackets removed.
    pub fn host_ip(&self) -> Option<IpAddr> {
        match bracketed(self.host) {
            Some(inner) => parse_ipv6(inner).map(IpAddr::V6),
            None => self.host.parse().ok().map(IpAddr::V4),
        }
    }
}

/// A URI as it may stand in a Request-URI: without its headers (RFC 3261 section 19.1.1, table 1). What is no URI stays as
/// it is.
pub fn without_headers(text: &str) -> &str {
    let Some(uri) = Uri::parse(text) else { return text };
    let rest = &text[..text.len() - uri.headers.len()];
    rest.strip_suffix('?').unwrap_or(rest)
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

const fn is_sip_scheme(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips")
}

fn split_headers(rest: &str) -> (&str, &str) {
    scan::split_once(rest, b'?').unwrap_or((rest, ""))
}

/// Cuts `host` off the front of `host[:port]...`: a name, an IPv4 address, or an IPv6 reference with its brackets.
pub(super) fn split_host(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('[') {
        let (host, rest) = text.split_at(scan::find(text.as_bytes(), [b']'])? + 1);
        return parse_ipv6(bracketed(host)?).map(|_| (host, rest));
    }
    let len = scan::skip(text.as_bytes(), 0, scan::HOST);
    (len > 0).then(|| text.split_at(len))
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// Reads `:::` before an embedded IPv4 address as `::`, which the grammar of RFC 3261 produces by mistake and RFC 5118
/// section 4.10 wants tolerated.
fn parse_ipv6(text: &str) -> Option<Ipv6Addr> {
    if let Some((left, ipv4)) = text.split_once(":::")
        && ipv4.parse::<Ipv4Addr>().is_ok()
    {
        return format!("{left}::{ipv4}").parse().ok();
    }
    text.parse().ok()
}

/// `None` where a percent sign is not followed by two hexadecimal digits.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let (high, low) = (hex_digit(*bytes.next()?)?, hex_digit(*bytes.next()?)?);
            out.push(high << 4 | low);
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_uri_loses_the_headers_of_a_uri_and_nothing_else() {
        for (text, bare) in [
            ("sip:a@x?Subject=b&Priority=c", "sip:a@x"),
            ("sip:a?b:c?d@x;lr?e", "sip:a?b:c?d@x;lr"),
            ("sip:a?b@x", "sip:a?b@x"),
            ("sip:x?", "sip:x"),
            ("no uri?", "no uri?"),
        ] {
            assert_eq!(without_headers(text), bare);
        }
    }

    #[test]
    fn a_sip_uri_comes_apart() {
        let uri = Uri::parse("SIPS:alice;x=1:secret@[2001:db8::1]:5061;transport=tcp;lr?Subject=a&b=c").unwrap();
        assert!(uri.is_sip());
        assert_eq!((uri.scheme, uri.user, uri.password), ("SIPS", Some("alice;x=1"), Some("secret")));
        assert_eq!((uri.host, uri.port), ("[2001:db8::1]", Some(5061)));
        assert_eq!(uri.host_ip(), Some("2001:db8::1".parse().unwrap()));
        assert_eq!((uri.params.get("Transport"), uri.params.has("lr")), (Some("tcp"), true));
        assert_eq!(uri.headers, "Subject=a&b=c");
    }

    #[test]
    fn headers_of_a_uri_are_read_and_cut_off() {
        let text =
            "sip:carol?x@pbx.example.com;transport=tcp?Subject=a&replaces=one%40two%3Bto-tag%3D1&bad=%ff&worse=%2";
        let uri = Uri::parse(text).unwrap();
        assert_eq!(uri.header("Replaces").as_deref(), Some("one@two;to-tag=1"));
        assert_eq!((uri.header("Subject").as_deref(), uri.header("Require")), (Some("a"), None));
        assert_eq!((uri.header("bad"), uri.header("worse")), (None, None));
        assert_eq!(Uri::without_headers(text), "sip:carol?x@pbx.example.com;transport=tcp");
        assert_eq!(Uri::without_headers("sip:carol?x@pbx.example.com"), "sip:carol?x@pbx.example.com");
        assert_eq!(Uri::without_headers("sip:carol@pbx.example.com?"), "sip:carol@pbx.example.com");
    }

    #[test]
    fn a_host_needs_neither_user_nor_port() {
        let uri = Uri::parse("sip:192.0.2.1").unwrap();
        assert_eq!((uri.user, uri.host, uri.port), (None, "192.0.2.1", None));
        assert_eq!(uri.host_ip(), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(Uri::parse("sip:example.com").unwrap().host_ip(), None);
    }

    #[test]
    fn other_schemes_keep_their_text() {
        let tel = Uri::parse("tel:+1-201-555-0123;phone-context=example.com").unwrap();
        assert_eq!(tel.user, Some("+1-201-555-0123"));
        assert_eq!(tel.params.get("phone-context"), Some("example.com"));
        assert_eq!((tel.is_sip(), tel.host), (false, ""));
        assert_eq!(Uri::parse("urn:service:sos.fire").unwrap().user, Some("service:sos.fire"));
        assert_eq!(Uri::parse("soap.beep://192.0.2.103:3002").unwrap().user, Some("//192.0.2.103:3002"));
    }

    #[test]
    fn escapes_are_decoded_only_on_demand() {
        let uri = Uri::parse("sip:sips%3Auser%40example.com@example.net").unwrap();
        assert_eq!(uri.user, Some("sips%3Auser%40example.com"));
        assert_eq!(uri.user_decoded().unwrap(), "sips:user@example.com");
        assert_eq!(Uri::parse("sip:%00@h").unwrap().user_decoded().unwrap(), "\0");
        for broken in ["sip:%@h", "sip:%4@h", "sip:%zz@h", "sip:%ff@h", "sip:%+1@h"] {
            assert_eq!(Uri::parse(broken).unwrap().user_decoded(), None, "{broken}");
        }
        assert_eq!(Uri::parse("sip:９１１@h").unwrap().user_decoded().unwrap(), "９１１");
    }

    #[test]
    fn broken_uris_are_refused() {
        for bad in [
            "",
            "example.com",
            ":a",
            "sip:",
            "sip:@h",
            "sip::pw@h",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b:",
            "sip:a@b:x",
            "sip:a@b:65536",
            "sip:a b@c",
            "<sip:a@b>",
            "sip:2001:db8::10",
            "sip:[2001:db8::10",
            "sip:[2001:db8::g]",
            "sip:[::1]x",
            "sip:[]",
            "1sip:a",
            "tel:",
        ] {
            assert_eq!(Uri::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_third_colon_is_tolerated_before_ipv4_only() {
        let host_ip = |text: &str| Uri::parse(text).and_then(|uri| uri.host_ip());
        assert_eq!(host_ip("sip:[2001:db8:::192.0.2.1]"), Some("2001:db8::192.0.2.1".parse().unwrap()));
        assert_eq!(host_ip("sip:[2001:db8:::1]"), None);
        assert_eq!(host_ip("sip:[2001:db8::::192.0.2.1]"), None);
        assert_eq!(host_ip("sip:[2001::db8:::192.0.2.1]"), None);
    }
}
