//! What an INVITE must be to become a call, and who its caller is. Reads one message and decides; the core asks and acts.

use super::{
    call::Caller,
    context::{ALLOW, SUPPORTED},
    identity,
    leg::Peer,
};
use crate::{
    config::User,
    policy::number,
    sip::{dialog::has_bounded_routes, registrar, session_timer::SessionTimer},
    types::limits::{BREADTH_MAX, CALLER_CHARS_MAX},
    wire::sip::{Message, Method, Name, NameAddr, Uri},
};

/// A final answer, with the header that tells the sender what would be accepted.
#[derive(Debug)]
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

    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason, header: None }
    }

    pub(super) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

/// The first thing that stands against a request outside a dialog, in the order of RFC 3261 sections 8.2.1 to 8.2.3 and
/// 16.3: method, scheme, hops left, extensions, body. Who sends it is asked afterwards, so that nobody gives credentials
/// for what would be refused anyway.
pub(super) fn inspect(request: &Message) -> Option<Refusal> {
    inspect_as(request, false)
}

/// As [`inspect`], for an INVITE that has come by two paths if it `is_merged` (RFC 3261 section 8.2.2.2).
pub(super) fn inspect_invite(request: &Message, is_merged: bool) -> Option<Refusal> {
    inspect_as(request, is_merged)
        .or_else(|| too_short_session(request))
        .or_else(|| unacceptable_body(request))
        .or_else(|| unacceptable_answer(request))
}

fn inspect_as(request: &Message, is_merged: bool) -> Option<Refusal> {
    // What is refused for its method is not looked at any further; the core does so.
    let is_served = ALLOW.split(", ").any(|method| method == request.method_text());
    // A request in a dialog has a target of our own making, and none beyond us.
    let is_outside = request.to_tag().is_none();
    if !is_served {
        return None;
    }
    if !is_outside {
        return required_extensions(request).or_else(|| recording(request));
    }
    unknown_scheme(request)
        .or_else(|| missing_contact(request))
        .or_else(|| no_hops_left(request))
        .or_else(|| no_breadth_left(request))
        .or_else(|| is_merged.then_some(Refusal::of(482)))
        .or_else(|| (!has_bounded_routes(request)).then(|| Refusal::bad("Record-Route Set Too Large")))
        .or_else(|| required_extensions(request))
        .or_else(|| recording(request))
}

/// RFC 3261 sections 8.2.2.1 and 10.3 step 5: an address-of-record is a SIP URI.
fn unknown_scheme(request: &Message) -> Option<Refusal> {
    let is_known = |uri: &Uri<'_>| uri.is_sip() || uri.scheme.eq_ignore_ascii_case("tel");
    if !Uri::parse(request.request_uri()).is_some_and(|uri| is_known(&uri)) {
        return Some(Refusal::of(416));
    }
    let is_sip = |to: NameAddr<'_>| Uri::parse(to.uri).is_some_and(|uri| uri.is_sip());
    let is_register = request.method() == Some(Method::Register);
    (is_register && !request.to().is_some_and(is_sip)).then(|| Refusal::bad("Address-Of-Record Is No SIP URI"))
}

/// RFC 3261 section 8.1.1.8. Clients of RFC 2543, whose branch has no magic cookie, are reached at their From.
fn missing_contact(request: &Message) -> Option<Refusal> {
    let is_missing = request.method() == Some(Method::Invite) && request.contact().is_none();
    let is_of_rfc_3261 = || request.via().and_then(|via| via.branch()).is_some_and(|b| b.starts_with("z9hG4bK"));
    (is_missing && is_of_rfc_3261()).then(|| Refusal::bad("Missing Contact header"))
}

/// RFC 3261 section 16.3 step 3. What ends here anyway needs no further hop.
fn no_hops_left(request: &Message) -> Option<Refusal> {
    let ends_here = matches!(request.method(), Some(Method::Options | Method::Register));
    let is_zero = |value: &str| value.bytes().all(|byte| byte == b'0');
    (!ends_here && request.header(Name::MaxForwards).is_some_and(is_zero)).then(|| Refusal::of(483))
}

/// RFC 5393 section 5.3.3.
fn no_breadth_left(request: &Message) -> Option<Refusal> {
    (allowed_breadth(request) == 0).then(|| Refusal::of(440))
}

/// Branches that the sender of a request allows it to have at a time, here and beyond, as far as this server goes along.
pub(super) fn allowed_breadth(request: &Message) -> usize {
    let stated = request.header_text("Max-Breadth").and_then(|value| value.trim().parse().ok());
    stated.unwrap_or(BREADTH_MAX).min(BREADTH_MAX)
}

/// RFC 4028 section 9.
fn too_short_session(request: &Message) -> Option<Refusal> {
    SessionTimer::refusal(request).map(|min_se| Refusal { header: Some(min_se), ..Refusal::of(422) })
}

/// RFC 3261 section 8.2.3.
fn unacceptable_body(request: &Message) -> Option<Refusal> {
    if request.header(Name::ContentEncoding).is_some_and(|v| !v.eq_ignore_ascii_case("identity")) {
        return Some(Refusal::of(415).with("Accept-Encoding", "identity"));
    }
    let parameters = request.header(Name::ContentDisposition).into_iter().flat_map(|value| value.split(';').skip(1));
    let is_optional = parameters.map(str::trim).any(|p| p.eq_ignore_ascii_case("handling=optional"));
    let is_unknown = !request.body().is_empty() && request.sdp().is_none();
    (is_unknown && !is_optional).then(|| Refusal::of(415).with("Accept", "application/sdp"))
}

/// RFC 3261 sections 20.1 and 21.4.7: what answers an INVITE is a session description.
fn unacceptable_answer(request: &Message) -> Option<Refusal> {
    request.header(Name::Accept)?;
    let mut ranges = request.values(Name::Accept).map(|value| value.split(';').next().unwrap_or_default().trim());
    let includes_sdp =
        |range: &str| ["application/sdp", "application/*", "*/*"].iter().any(|r| range.eq_ignore_ascii_case(r));
    (!ranges.any(includes_sdp)).then(|| Refusal::of(406))
}

/// RFC 3261 sections 8.2.2.3 and 16.3: a REGISTER may require other extensions than the rest.
fn required_extensions(request: &Message) -> Option<Refusal> {
    let is_known = |tag: &str| match request.method() {
        Some(Method::Register) => registrar::EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(tag)),
        Some(_) | None => SUPPORTED.split(", ").any(|known| known.eq_ignore_ascii_case(tag)),
    };
    let required = request.values(Name::Require).chain(request.values(Name::ProxyRequire));
    let unknown: Vec<_> = required.filter(|tag| !is_known(tag)).collect();
    let is_recording = unknown.iter().any(|tag| tag.eq_ignore_ascii_case("siprec"));
    let reason = if is_recording { NO_RECORDING } else { "" };
    (!unknown.is_empty()).then(|| Refusal { reason, ..Refusal::of(420).with("Unsupported", unknown.join(", ")) })
}

/// The phrase of every refusal to record, or to hand media to whoever does.
const NO_RECORDING: &str = "This Server Does Not Record";

/// What asks for it without requiring `siprec` (RFC 7866): the metadata of a recording session, and the button of telephones
/// that send INFO with `Record: on`.
fn recording(request: &Message) -> Option<Refusal> {
    if request.has_recording_metadata() {
        let refusal = Refusal::of(415).with("Accept", "application/sdp");
        return Some(Refusal { reason: NO_RECORDING, ..refusal });
    }
    let button = request.header_text("Record").filter(|_| request.method() == Some(Method::Info));
    let is_on = button.is_some_and(|value| value.trim().eq_ignore_ascii_case("on"));
    is_on.then(|| Refusal { reason: NO_RECORDING, ..Refusal::of(403) })
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
        is_private: false,
        verification: None,
        signed: None,
    }
}

/// The number a trunk presents: P-Asserted-Identity before From, unless the caller wants it withheld (RFC 3325 section 7).
pub(super) fn trunk_caller(trunk: usize, request: &Message) -> Caller {
    let is_private = identity::asks_for_privacy(request);
    let identity = asserted_identity(request).filter(|_| !is_private).or_else(|| request.from());
    let user = identity.and_then(|identity| stated_user(&identity));
    let user = user.filter(|user| user.chars().count() <= CALLER_CHARS_MAX);
    Caller {
        peer: Peer::Trunk(trunk),
        user: user.unwrap_or_else(|| "anonymous".to_owned()),
        display: identity.map_or_else(String::new, |i| i.display.to_owned()),
        direct_line: None,
        is_private,
        verification: None,
        signed: None,
    }
}

fn asserted_identity(request: &Message) -> Option<NameAddr<'_>> {
    request.values(Name::PAssertedIdentity).find_map(NameAddr::parse)
}

/// The number that the trunk vouches for, whether or not the callee may see it (RFC 3325 section 9.1).
pub(super) fn asserted_number(request: &Message) -> Option<String> {
    stated_user(&asserted_identity(request)?).filter(|user| number::is_number(user))
}

/// Of a number, the digits alone.
fn stated_user(identity: &NameAddr<'_>) -> Option<String> {
    let user = Uri::parse(identity.uri)?.user_decoded()?.into_owned();
    Some(number::of_user_part(&user).unwrap_or(user))
}

/// What was dialled, for the record: the user part, or the whole URI where it has none.
pub(super) fn called_party(request_uri: &str) -> String {
    let user = Uri::parse(request_uri).and_then(|u| u.user_decoded().map(std::borrow::Cow::into_owned));
    user.unwrap_or_else(|| request_uri.to_owned())
}
