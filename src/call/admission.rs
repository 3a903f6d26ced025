//! What an INVITE must be to become a call, and who its caller is. Reads one message and decides; the core asks and acts.

use super::{call::Caller, context::SUPPORTED, leg::Peer};
use crate::{
    config::User,
    wire::sip::{Message, Name, NameAddr, Uri},
};

/// A final answer, with the header that tells the sender what would be accepted.
pub(super) struct Refusal {
    pub status: u16,
    /// Empty: the standard phrase.
    pub reason: &'static str,
    pub header: Option<(&'static str, String)>,
}

impl Refusal {
    pub(super) const fn of(status: u16) -> Self {
        Self { status, reason: "", header: None }
    }

    fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

/// What must hold before anything else is looked at (RFC 3261 section 8.2).
pub(super) fn acceptable(request: &Message) -> Result<(), Refusal> {
    let uri = Uri::parse(request.request_uri());
    let is_known_scheme = uri.is_some_and(|u| u.is_sip() || u.scheme.eq_ignore_ascii_case("tel"));
    if !is_known_scheme {
        return Err(Refusal::of(416));
    }
    if request.contact().is_none() {
        return Err(Refusal { reason: "Missing Contact header", ..Refusal::of(400) });
    }
    if request.header(Name::MaxForwards).is_some_and(|v| v.trim() == "0") {
        return Err(Refusal::of(483));
    }
    if request.header_text("Max-Breadth").is_some_and(|v| v.trim() == "0") {
        return Err(Refusal::of(440));
    }
    if let Some(refusal) = required_extensions(request) {
        return Err(refusal);
    }
    if request.header(Name::ContentEncoding).is_some_and(|v| !v.eq_ignore_ascii_case("identity")) {
        return Err(Refusal::of(415).with("Accept-Encoding", "identity"));
    }
    if !request.body().is_empty() && request.sdp().is_none() {
        return Err(Refusal::of(415).with("Accept", "application/sdp"));
    }
    Ok(())
}

/// RFC 3261 sections 8.2.2.3 and 16.3.
pub(super) fn required_extensions(request: &Message) -> Option<Refusal> {
    let is_unknown = |tag: &&str| !SUPPORTED.split(", ").any(|known| known.eq_ignore_ascii_case(tag));
    let required = request.values(Name::Require).chain(request.values(Name::ProxyRequire));
    let unknown: Vec<_> = required.filter(is_unknown).collect();
    (!unknown.is_empty()).then(|| Refusal::of(420).with("Unsupported", unknown.join(", ")))
}

/// Tells one INVITE from another whatever path it took: Call-ID, From tag, CSeq (RFC 3261 section 8.2.2.2).
pub(super) fn invite_key(request: &Message) -> String {
    let cseq = request.cseq().map_or(0, |c| c.number);
    format!("{} {} {cseq}", request.call_id(), request.from_tag().unwrap_or_default())
}

pub(super) fn device_caller(user: &User) -> Caller {
    Caller {
        peer: Peer::Device(user.name.clone()),
        user: user.extension.clone(),
        display: String::new(),
        direct_line: user.direct_line.clone(),
    }
}

/// The number a trunk presents: P-Asserted-Identity before From, unless the caller wants it withheld (RFC 3325 section 7).
pub(super) fn trunk_caller(trunk: usize, request: &Message) -> Caller {
    let privacy = request.lines(Name::Privacy).flat_map(|line| line.split([';', ',']));
    let is_withheld = privacy.map(str::trim).any(|kind| kind.eq_ignore_ascii_case("id"));
    let asserted = request.values(Name::PAssertedIdentity).find_map(NameAddr::parse).filter(|_| !is_withheld);
    let identity = asserted.or_else(|| request.from());
    let user =
        identity.and_then(|i| Uri::parse(i.uri)).and_then(|u| u.user_decoded().map(std::borrow::Cow::into_owned));
    Caller {
        peer: Peer::Trunk(trunk),
        user: user.unwrap_or_else(|| "anonymous".to_owned()),
        display: identity.map_or_else(String::new, |i| i.display.to_owned()),
        direct_line: None,
    }
}

/// What was dialled, for the record: the user part, or the whole URI where it has none.
pub(super) fn called_party(request_uri: &str) -> String {
    let user = Uri::parse(request_uri).and_then(|u| u.user_decoded().map(std::borrow::Cow::into_owned));
    user.unwrap_or_else(|| request_uri.to_owned())
}
