//! Which headers of one leg's messages the other leg sees. Every message is written anew for its leg, so what is not
//! listed here does not pass: no Via, Contact, Call-ID, Record-Route, User-Agent, Server, Organization or address of one
//! side reaches the other.
//!
//! Telephones act on some of these headers by themselves: they answer without being asked (`answer-after`, `info=`), fetch
//! what a URI names, or jump the queue. Of such values only the harmless forms pass.

use super::{call::Caller, leg::Peer};
use crate::{
    types::limits::{PASSED_HEADERS_BYTES_MAX, PASSED_HEADERS_MAX},
    wire::sip::{Message, Name, NameAddr, RequestBuilder, ResponseBuilder, reason},
};

/// How a value must look in order to pass.
#[derive(Clone, Copy)]
enum Rule {
    /// As it is.
    Any,
    /// The caller's own words: not if it wants privacy (RFC 3323 section 5.3).
    Personal,
    /// RFC 3261 section 20.26; `emergency` is for the emergency service and those it calls back (RFC 7090).
    Priority,
    /// URIs without parameters: a URN of RFC 7462, a web address by name, or the name of a ring.
    Ring,
    /// URIs with at most a `purpose` (RFC 3261 section 20.9): a web address by name.
    Information,
}

/// Initial INVITE.
const INVITE: [(&str, Rule); 5] = [
    ("Accept-Language", Rule::Any),
    ("Alert-Info", Rule::Ring),
    ("Call-Info", Rule::Information),
    ("Priority", Rule::Priority),
    ("Subject", Rule::Personal),
];

/// Responses to it below 300.
const ANSWER: [(&str, Rule); 2] = [("Alert-Info", Rule::Ring), ("Call-Info", Rule::Information)];

/// MESSAGE (RFC 3428).
const MESSAGE: [(&str, Rule); 4] = [
    ("Content-Language", Rule::Any),
    ("Expires", Rule::Any),
    ("Priority", Rule::Priority),
    ("Subject", Rule::Personal),
];

/// Purposes of Call-Info that only show something (RFC 3261 section 20.9).
const PURPOSES: [&str; 3] = ["icon", "info", "card"];

/// What passes of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PassedHeaders(Vec<(&'static str, String)>);

impl PassedHeaders {
    pub(super) fn of_invite(invite: &Message, caller: &Caller) -> Self {
        Self::of(invite, &INVITE, Some(caller))
    }

    pub(super) fn of_message(message: &Message, caller: &Caller) -> Self {
        Self::of(message, &MESSAGE, Some(caller))
    }

    pub(super) fn of_answer(answer: &Message) -> Self {
        let mut passed = Self::of(answer, &ANSWER, None);
        passed.0.extend(reason::q850(answer).map(|cause| ("Reason", cause)));
        passed
    }

    /// Why the network behind a branch answers as it does (RFC 6432), in a value of Reason.
    pub(super) fn cause(&self) -> Option<String> {
        self.0.iter().find(|(name, _)| *name == "Reason").map(|(_, cause)| cause.clone())
    }

    /// In the order of the list; what would exceed [`PASSED_HEADERS_MAX`] or [`PASSED_HEADERS_BYTES_MAX`] is left out.
    fn of(message: &Message, list: &[(&'static str, Rule)], caller: Option<&Caller>) -> Self {
        let mut passed = Vec::new();
        let mut left = PASSED_HEADERS_BYTES_MAX;
        for &(name, rule) in list {
            let known = Name::from_bytes(name.as_bytes());
            // A header without a `Name` of its own is told by its text.
            let is_it = |written: &str| known != Name::Other || written.eq_ignore_ascii_case(name);
            let lines = message.all().filter(|(written, found, _)| *found == known && is_it(written));
            for (_, _, line) in lines {
                let fits = |value: &String| passed.len() < PASSED_HEADERS_MAX && value.len() <= left;
                let Some(value) = rule.passed(line, caller).filter(fits) else { continue };
                left -= value.len();
                passed.push((name, value));
            }
        }
        Self(passed)
    }

    pub(super) fn add_to_request(&self, request: RequestBuilder) -> RequestBuilder {
        self.0.iter().fold(request, |request, (name, value)| request.header(name, value))
    }

    pub(super) fn add_to_response(&self, response: ResponseBuilder) -> ResponseBuilder {
        self.0.iter().fold(response, |response, (name, value)| response.header(name, value))
    }
}

impl Rule {
    /// What passes of one header line.
    fn passed(self, line: &str, caller: Option<&Caller>) -> Option<String> {
        let is_private = caller.is_some_and(|caller| caller.is_private);
        match self {
            Self::Any => Some(line.to_owned()),
            Self::Personal => (!is_private).then(|| line.to_owned()),
            Self::Priority => {
                let is_trusted = caller.is_some_and(|caller| matches!(caller.peer, Peer::Trunk(_)));
                let is_ordinary = ["non-urgent", "normal", "urgent"].iter().any(|p| line.eq_ignore_ascii_case(p));
                (is_trusted || is_ordinary).then(|| line.to_owned())
            }
            Self::Ring => joined(line, |value| ring(value.uri)),
            Self::Information if is_private => None,
            Self::Information => joined(line, information),
        }
    }
}

/// The values of one line that `keep` lets through.
fn joined(line: &str, keep: impl Fn(NameAddr<'_>) -> Option<String>) -> Option<String> {
    let values: Vec<_> = split(line).filter_map(NameAddr::parse).filter_map(keep).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// At commas. One within angle brackets tears its URI in two, and neither half is an address.
fn split(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').filter(|value| !value.trim().is_empty())
}

fn ring(uri: &str) -> Option<String> {
    let is_name =
        uri.strip_prefix("Bellcore-dr").is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()));
    let is_urn = uri.get(..10).is_some_and(|prefix| prefix.eq_ignore_ascii_case("urn:alert:"));
    (is_name || is_urn || is_web_address(uri)).then(|| format!("<{uri}>"))
}

fn information(value: NameAddr<'_>) -> Option<String> {
    let uri = value.uri;
    if !is_web_address(uri) {
        return None;
    }
    match value.params.get("purpose") {
        None => Some(format!("<{uri}>")),
        Some(purpose) => {
            let known = PURPOSES.into_iter().find(|known| purpose.eq_ignore_ascii_case(known))?;
            Some(format!("<{uri}>;purpose={known}"))
        }
    }
}

/// `http` or `https` at a host that is named, not numbered: an address says where one side's network is, and to the other
/// side it means something else.
fn is_web_address(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once("://") else { return false };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    let last = host.rsplit('.').next().unwrap_or_default();
    // What follows the colon may be a password, and the host then comes after it.
    let is_port = port.bytes().all(|b| b.is_ascii_digit());
    is_web && is_name && is_port && host.contains('.') && last.starts_with(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn caller(peer: Peer, is_private: bool) -> Caller {
        Caller {
            peer,
            user: String::new(),
            display: String::new(),
            direct_line: None,
            is_private,
            verification: None,
            signed: None,
        }
    }

    /// What passes of an INVITE with these header lines, as lines.
    fn passed(headers: &str, caller: &Caller) -> String {
        let text = format!("INVITE sip:1@a SIP/2.0\r\n{}\r\n", headers.replace('\n', "\r\n"));
        let invite = Message::parse(Bytes::from(text)).unwrap();
        let passed = PassedHeaders::of_invite(&invite, caller);
        passed.0.into_iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    fn from_device(headers: &str) -> String {
        passed(headers, &caller(Peer::Device("ann".into()), false))
    }

    #[test]
    fn listed_headers_pass_in_any_spelling_and_no_others() {
        let sent = "s: Lunch\nACCEPT-LANGUAGE: da, en\nAccept-Languages: x\nOrganization: x\nUser-Agent: x\nPriority: Urgent\n";
        assert_eq!(from_device(sent), "Accept-Language: da, en\nPriority: Urgent\nSubject: Lunch\n");
    }

    #[test]
    fn what_makes_a_telephone_answer_or_reveals_an_address_does_not_pass() {
        for value in [
            "<sip:pbx.example.com>;answer-after=0",
            "<http://10.0.0.5/a.png>",
            "<http://a@example.com/>",
            "<http://[2001:db8::1]/>",
            "<http://2130706433/>",
            "<http://0x7f.0.0.0x1/>",
            "<http://localhost/>",
            "<cid:1@192.0.2.1>",
            "<https://example.com/a>;purpose=impp",
            "Auto Answer",
        ] {
            assert_eq!(from_device(&format!("Call-Info: {value}\n")), "", "{value}");
        }
        for value in
            ["info=alert-autoanswer", "<sip:a@b>", "<http://127.0.0.1/>;info=x", "Bellcore-dr12", "Ring-Answer"]
        {
            assert_eq!(from_device(&format!("Alert-Info: {value}\n")), "", "{value}");
        }
        let info = "Call-Info: <sip:x>, <https://example.com:8443/a?b>;purpose=ICON;answer-after=0\n";
        assert_eq!(from_device(info), "Call-Info: <https://example.com:8443/a?b>;purpose=icon\n");
        let ring = "Alert-Info: <urn:alert:service:call-waiting>;info=alert-autoanswer, Bellcore-dr2\n";
        assert_eq!(from_device(ring), "Alert-Info: <urn:alert:service:call-waiting>, <Bellcore-dr2>\n");
    }

    #[test]
    fn a_caller_with_privacy_keeps_its_words_and_a_device_cannot_claim_an_emergency() {
        let sent = "Subject: from Ann\nCall-Info: <https://example.com/ann>\nPriority: emergency\n";
        assert_eq!(passed(sent, &caller(Peer::Device("ann".into()), true)), "");
        assert_eq!(passed(sent, &caller(Peer::Trunk(0), true)), "Priority: emergency\n");
    }

    #[test]
    fn headers_pass_up_to_their_limit() {
        let subject = |bytes: usize| format!("Subject: {}\n", "x".repeat(bytes));
        assert_eq!(from_device(&subject(PASSED_HEADERS_BYTES_MAX)), subject(PASSED_HEADERS_BYTES_MAX));
        assert_eq!(from_device(&subject(PASSED_HEADERS_BYTES_MAX + 1)), "");
    }
}
