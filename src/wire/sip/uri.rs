//! SIP, SIPS, tel and other URIs (RFC 3261 section 19.1, RFC 3966).

use super::headers::Params;

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
    pub fn parse(text: &'a str) -> Option<Self> {
        let _ = text;
        todo!()
    }

    pub fn is_sip(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("sip") || self.scheme.eq_ignore_ascii_case("sips")
    }

    /// The user part with percent-escapes decoded; `None` if it is absent or does not decode to UTF-8.
    pub fn user_decoded(&self) -> Option<std::borrow::Cow<'a, str>> {
        todo!()
    }

    /// The host as an IP address, brackets removed.
    pub fn host_ip(&self) -> Option<std::net::IpAddr> {
        todo!()
    }
}
