//! Whom a leg shows as its sender (RFC 3323, RFC 3325): what this server knows of it, never what a device claims.
//!
//! From and P-Asserted-Identity of everything sent are written here from a [`Caller`], which authentication made.
//! P-Asserted-Identity and Remote-Party-ID of devices are not read at all, and P-Preferred-Identity only to choose among the
//! numbers that their user may present. Configured trunks are in the trust domain: theirs is read, and they are told who an
//! anonymous caller is, with `Privacy: id`, in the form and the headers that each is configured for.

use super::{
    call::{Call, Caller},
    context::{Context, Side},
    leg::Peer,
    outgoing::{caller_number, escaped_user, host, number_for},
};
use crate::{
    config::{Config, FromAddress, IdentityHeader, Register, Trunk},
    policy::{emergency::table, number},
    types::limits::DISPLAY_NAME_CHARS_MAX,
    wire::sip::{Message, Name, RequestBuilder, ResponseBuilder, Uri},
};

/// From of a caller who asked for privacy (RFC 3323 section 4.1.1.3).
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

const ANONYMOUS_USER: &str = "anonymous";

/// A sender as one peer is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// From without its tag.
    pub from: String,
    /// User part of the Contact, escaped.
    pub contact_user: String,
    asserted: Option<String>,
    /// A telephone is told by a second P-Asserted-Identity whether the number is the caller's own (3GPP TS 24.229 section
    /// 7.2A.20). One that knows nothing of it shows the first.
    verified: Option<String>,
    /// Where that stands.
    headers: Vec<IdentityHeader>,
    is_private: bool,
}

impl Identity {
    /// As another user's device sees it: not at all, if the caller wants so.
    pub(super) fn to_device(config: &Config, caller: &Caller) -> Self {
        let user = escaped_user(&caller.user);
        let address = format!("{}<sip:{user}@{}>", spaced(&quoted(&caller.display)), host(&config.server.domain));
        if caller.is_private {
            return Self { from: ANONYMOUS.to_owned(), contact_user: ANONYMOUS_USER.to_owned(), ..Self::hidden() };
        }
        let headers = vec![IdentityHeader::Asserted];
        let verified = caller.verification.and_then(|verification| {
            let number = number::to_e164(&caller.user, table::region(&config.company.region)?, &[]);
            let verstat = verification.verstat.as_str();
            number::is_e164(&number).then(|| format!("<tel:{number};verstat={verstat}>"))
        });
        let asserted = Some(address.clone());
        Self { from: address, contact_user: user, asserted, verified, headers, is_private: false }
    }

    /// As a trunk sees it: by a number that is the company's.
    pub(super) fn to_trunk(config: &Config, trunk: &Trunk, caller: &Caller) -> Self {
        let shown = Self::of_number(config, trunk, &caller_number(trunk, caller));
        if !caller.is_private {
            return shown;
        }
        Self { from: ANONYMOUS.to_owned(), contact_user: ANONYMOUS_USER.to_owned(), is_private: true, ..shown }
    }

    /// A number of ours, E.164, as a trunk sees it.
    pub(super) fn of_number(config: &Config, trunk: &Trunk, number: &str) -> Self {
        let number = number_for(config, trunk, number);
        let user = escaped_user(&number);
        // A registrar knows its customers under its own domain.
        let is_registered = trunk.register != Register::Off;
        let domain = host(if is_registered { trunk.domain() } else { &config.server.domain });
        let address = format!("<sip:{user}@{domain};user=phone>");
        let account = trunk.user.as_ref().filter(|_| trunk.from == FromAddress::Account);
        let from = account.map(|account| format!("<sip:{}@{domain}>", escaped_user(account)));
        Self {
            from: from.unwrap_or_else(|| address.clone()),
            contact_user: user,
            asserted: Some(address),
            verified: None,
            headers: trunk.identity.clone(),
            is_private: false,
        }
    }

    /// Nothing is told.
    const fn hidden() -> Self {
        Self {
            from: String::new(),
            contact_user: String::new(),
            asserted: None,
            verified: None,
            headers: Vec::new(),
            is_private: true,
        }
    }

    /// P-Asserted-Identity; `None`: the peer is told nothing.
    pub(super) fn asserted(self) -> Option<String> {
        self.asserted
    }

    /// Adds what goes beside From.
    pub(super) fn assert(&self, request: RequestBuilder) -> RequestBuilder {
        let Some(asserted) = &self.asserted else { return request };
        let verified = self.verified.iter();
        let privacy = if self.is_private { "full" } else { "off" };
        let request = self.headers.iter().fold(request, |request, header| match header {
            IdentityHeader::Asserted => request.header("P-Asserted-Identity", asserted),
            IdentityHeader::Preferred => request.header("P-Preferred-Identity", asserted),
            IdentityHeader::RemoteParty => {
                let value = format_args!("{asserted};party=calling;screen=yes;privacy={privacy}");
                request.header("Remote-Party-ID", value)
            }
        });
        let request = verified.fold(request, |request, address| request.header("P-Asserted-Identity", address));
        if self.is_private { request.header("Privacy", "id") } else { request }
    }

    /// Adds what goes beside the From of an emergency call: P-Asserted-Identity in any case, as SIP and as tel URI, and what else
    /// the trunk is configured for. `name`: the company's; `callback`: the number, E.164.
    pub(super) fn assert_callback(mut self, request: RequestBuilder, name: &str, callback: &str) -> RequestBuilder {
        self.headers.retain(|header| *header != IdentityHeader::Asserted);
        let request = match &self.asserted {
            Some(asserted) => request.header("P-Asserted-Identity", format_args!("\"{name}\" {asserted}")),
            None => request,
        };
        self.assert(request.header("P-Asserted-Identity", format_args!("<tel:{callback}>")))
    }
}

impl Call {
    /// Completes our 2xx to a user's device: which user has answered (RFC 3325 section 9.1). A number outside is not told,
    /// since it may be one that a user forwards to.
    pub(super) fn name_answerer(&self, ctx: &Context, response: ResponseBuilder) -> ResponseBuilder {
        let Some(number) = self.winner.filter(|_| self.a.device.is_some()) else { return response };
        let party = self.party(ctx, Side::B(number));
        let answerer = matches!(party.peer, Peer::Device(_)).then(|| Identity::to_device(&ctx.config, &party));
        match answerer.and_then(Identity::asserted) {
            Some(asserted) => response.header("P-Asserted-Identity", asserted),
            None => response,
        }
    }
}

/// Whether the sender does not want the callee to know who it is: a Privacy header (RFC 3323 section 4.2, RFC 3325 section
/// 9.3), or an anonymous From. The headers that `header` is about are never passed on, so it costs no more than `user` does.
pub(super) fn asks_for_privacy(request: &Message) -> bool {
    let kinds = || request.lines(Name::Privacy).flat_map(|line| line.split([';', ','])).map(str::trim);
    let has = |wanted: &str| kinds().any(|kind| kind.eq_ignore_ascii_case(wanted));
    let asked = ["id", "user", "header"].into_iter().any(has);
    asked && !has("none") || is_anonymous(request)
}

/// RFC 3323 section 4.1.1.3.
pub(super) fn is_anonymous(request: &Message) -> bool {
    let host = request.from().and_then(|from| Uri::parse(from.uri)).map(|uri| uri.host);
    host.is_some_and(|host| host.eq_ignore_ascii_case("anonymous.invalid"))
}

/// A display name as a quoted string of its own: whatever it holds, nothing in it can be taken for an address, a parameter
/// or a second value (RFC 3261 section 25.1). Empty for an empty name.
fn quoted(display: &str) -> String {
    let inner = display.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(display);
    let mut out = String::with_capacity(inner.len() + 2);
    let mut letters = inner.chars();
    let mut left = DISPLAY_NAME_CHARS_MAX;
    while let Some(letter) = letters.next().filter(|_| left > 0) {
        let letter = if letter == '\\' { letters.next().unwrap_or(' ') } else { letter };
        if letter.is_control() {
            continue;
        }
        if matches!(letter, '"' | '\\') {
            out.push('\\');
        }
        out.push(letter);
        left -= 1;
    }
    let name = out.trim();
    if name.is_empty() { String::new() } else { format!("\"{name}\"") }
}

fn spaced(display: &str) -> String {
    if display.is_empty() { String::new() } else { format!("{display} ") }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::sip::NameAddr;

    #[test]
    fn a_display_name_stays_a_display_name_whatever_it_holds() {
        for (written, read) in [
            (r#""Ann""#, r#""Ann""#),
            ("Ann Bell", r#""Ann Bell""#),
            ("", ""),
            (r#""""#, ""),
            (r#"" ""#, ""),
            (r#""Ann \"A\" \\ B""#, r#""Ann \"A\" \\ B""#),
            (r#""\<sip:1001@pbx.example.com>""#, r#""<sip:1001@pbx.example.com>""#),
            (r#""1001\" <sip:1001@pbx.example.com>;tag=x,\"""#, r#""1001\" <sip:1001@pbx.example.com>;tag=x,\"""#),
            (r#""open\"#, r#""\"open""#),
            ("Ann (Sales) <", r#""Ann (Sales) <""#),
            ("Zo\u{eb}\u{7}\u{85}", "\"Zo\u{eb}\""),
        ] {
            let quoted = quoted(written);
            assert_eq!(quoted, read, "{written}");
            let value = format!("{}<sip:+14155550123@pbx.example.com>", spaced(&quoted));
            let address = NameAddr::parse(&value).unwrap_or_else(|| panic!("{value} is no address"));
            assert_eq!(address.uri, "sip:+14155550123@pbx.example.com", "{written}");
            assert_eq!(address.display, quoted, "{written}");
        }
    }

    #[test]
    fn a_display_name_is_cut_at_its_limit() {
        let letters = |count: usize| "\u{eb}".repeat(count);
        assert_eq!(quoted(&letters(DISPLAY_NAME_CHARS_MAX)).chars().count(), DISPLAY_NAME_CHARS_MAX + 2);
        assert_eq!(quoted(&letters(DISPLAY_NAME_CHARS_MAX + 1)), quoted(&letters(DISPLAY_NAME_CHARS_MAX)));
    }

    #[test]
    fn privacy_is_asked_for_by_header_or_by_an_anonymous_from() {
        let request = |from: &str, privacy: &str| {
            let text = format!("INVITE sip:1@a SIP/2.0\r\nFrom: {from}\r\n{privacy}\r\n");
            Message::parse(Bytes::from(text)).unwrap()
        };
        for (privacy, is_asked) in [
            ("", false),
            ("Privacy: none\r\n", false),
            ("Privacy: session\r\n", false),
            ("Privacy: ID\r\n", true),
            ("Privacy: user; header;critical\r\n", true),
            ("Privacy: session\r\nPrivacy: header\r\n", true),
            ("Privacy: id;none\r\n", false),
            ("Privacy: idle\r\n", false),
        ] {
            assert_eq!(asks_for_privacy(&request("<sip:ann@a>;tag=1", privacy)), is_asked, "{privacy}");
        }
        assert!(asks_for_privacy(&request("\"x\" <sip:anonymous@Anonymous.Invalid>;tag=1", "")));
        assert!(!asks_for_privacy(&request("\"<sip:a@anonymous.invalid>\" <sip:ann@a>;tag=1", "")));
    }
}
