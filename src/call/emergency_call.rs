//! Emergency calls: what the trunk is sent, what the caller is told when it cannot be, and what is logged. The decisions
//! are `policy::emergency`'s; section numbers are those of the emergency RULES.

use std::{collections::BTreeSet, net::IpAddr};

use tracing::{error, warn};

use super::{
    call::Caller,
    context::{Context, Pending},
    fork::Failure,
    identity::Identity,
    outgoing::{escaped_user, trunk_host, with_offer},
};
use crate::{
    config::{Config, EmergencyRequestUri, Trunk},
    policy::emergency::{
        self, Class, EmergencyCall, Route,
        location::{self, Erl, Place},
        refusal::{self, Answer},
        texts::Language,
    },
    types::{CallId, Duration},
    wire::sip::{Message, Name, RequestBuilder, ResponseBuilder},
};

/// A trunk that answers nothing at all is given up after this time (5.3).
pub(super) const NO_RESPONSE: Duration = Duration::from_secs(2);
/// ... and one that says nothing but 100 after this (5.3).
pub(super) const NO_PROGRESS: Duration = Duration::from_secs(4);
/// ... but where nothing else is left to try, only after this: to give it up would be to fail for certain. By then it has been asked
/// five times over UDP, and some carriers say nothing but 100 until the answering point rings.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(12);

/// A test call without a telephone lasts so long: the carrier begins to read the address back.
pub(super) const TEST_TALK: Duration = Duration::from_secs(10);
/// How long an emergency call waits for the ports of an ordinary call that ends for it.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(2);

/// What makes a call an emergency (or test) call.
#[derive(Clone, Debug)]
pub(super) struct EmergencyInfo {
    pub class: Class,
    pub dialled: EmergencyCall,
    /// E.164; whom the answering point calls back (section 4), as the trunk was shown that is tried, or has answered.
    pub callback: String,
    /// The caller's line, or the company's number, which the trunk is shown that does not want another (4.4).
    own_callback: String,
    turn: u64,
    /// Whose address it is given.
    pub place: Place,
    pub origin: Origin,
}

/// Where an emergency call comes from, for the log.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The extension; `unknown` for a device that did not authenticate.
    pub aor: String,
    /// `+sip.instance` of the device, if it has one.
    pub device: Option<String>,
    pub source_ip: IpAddr,
    /// The device said where it is, which is not passed on (4.2).
    pub has_location: bool,
    /// What the telephone reads.
    pub language: Language,
}

impl Origin {
    pub(super) fn of(pending: &Pending, caller: &Caller) -> Self {
        let request = &pending.request;
        let device = request.contact().and_then(|contact| contact.params.get("+sip.instance").map(str::to_owned));
        let is_stated =
            [Name::Geolocation, Name::PAccessNetworkInfo].iter().any(|name| request.header(*name).is_some());
        Self {
            aor: caller.user.clone(),
            device,
            source_ip: pending.flow.remote.ip(),
            language: Language::accepted(request.lines_text("Accept-Language").flat_map(|line| line.split(','))),
            has_location: is_stated || has_location_body(request),
        }
    }
}

/// Whether the body says where its sender is (4.2).
pub(super) fn has_location_body(request: &Message) -> bool {
    let kind = request.header(Name::ContentType).unwrap_or_default().to_ascii_lowercase();
    let has_part = || kind.starts_with("multipart/") && memmem(&request.body(), b"application/pidf+xml");
    kind.starts_with("application/pidf+xml") || has_part()
}

fn memmem(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

impl EmergencyInfo {
    pub(super) fn new(class: Class, dialled: &EmergencyCall, route: Route, origin: Origin) -> Self {
        let Route { place, callback, turn, trunks: _ } = route;
        Self { class, dialled: dialled.clone(), own_callback: callback.clone(), callback, turn, place, origin }
    }

    /// The call goes to this trunk now.
    pub(super) fn show_to(&mut self, trunk: &Trunk) {
        location::callback_over(trunk, &self.place, &self.own_callback, self.turn).clone_into(&mut self.callback);
    }

    /// Every number that an answering point may be shown.
    pub(super) fn callbacks(&self, config: &Config) -> BTreeSet<String> {
        let trunks = emergency::eligible_trunks(config).into_iter().map(|index| &config.trunks[index]);
        let over = |trunk| location::callback_over(trunk, &self.place, &self.own_callback, self.turn).to_owned();
        trunks.map(over).chain([self.own_callback.clone()]).collect()
    }

    const fn priority(&self) -> &'static str {
        match self.class {
            Class::Emergency => "emergency",
            Class::Test => "normal",
        }
    }
}

// Towards the trunk (5.2).

/// Request-URI, To and From (without tag) of the INVITE.
pub(super) fn parties(ctx: &Context, info: &EmergencyInfo, trunk: usize) -> (String, String, String) {
    let trunk = ctx.trunks.trunk(trunk);
    let digits = format!("sip:{}@{};user=phone", escaped_user(&info.dialled.digits), trunk_host(trunk));
    let uri = match trunk.request_uri {
        EmergencyRequestUri::Digits => digits,
        EmergencyRequestUri::Urn => info.dialled.urn.clone(),
    };
    let from = Identity::of_number(&ctx.config, trunk, &info.callback).from;
    (uri.clone(), format!("<{uri}>"), format!("\"{}\" {from}", company_name(ctx)))
}

/// Whatever the device calls itself.
fn company_name(ctx: &Context) -> String {
    ctx.config.company.name.replace(['"', '\\'], "'")
}

/// Adds identity, priority, location and body to an INVITE.
pub(super) fn complete(
    ctx: &mut Context,
    info: &EmergencyInfo,
    trunk: usize,
    has_location: bool,
    request: RequestBuilder,
    offer: Option<&str>,
) -> RequestBuilder {
    let trunk = ctx.trunks.trunk(trunk).clone();
    let identity = Identity::of_number(&ctx.config, &trunk, &info.callback);
    let request = identity.assert_callback(request, &company_name(ctx), &info.callback);
    let mut request = request.header("Priority", info.priority());
    if trunk.request_uri == EmergencyRequestUri::Urn {
        request = request.header("Route", format_args!("<sip:{};lr>", trunk_host(&trunk)));
    }
    if trunk.has_resource_priority {
        request = request.header("Resource-Priority", "esnet.1");
    }
    if !has_location {
        return with_offer(request, offer);
    }
    let config = ctx.config.clone();
    match location::erl(&config, &trunk, &info.place, &info.callback, ctx.now, &mut ctx.rng) {
        Erl::ByNumber => with_offer(request, offer),
        Erl::Header { name, value } => with_offer(request.header(&name, value), offer),
        Erl::Document { content_id, body } => {
            let request = request
                .header("Accept", "application/sdp, application/pidf+xml")
                .header("Geolocation", format_args!("<cid:{content_id}>"))
                .header("Geolocation-Routing", "yes");
            let Some(offer) = offer else {
                return request
                    .header("Content-ID", format_args!("<{content_id}>"))
                    .header("Content-Disposition", LOCATION_DISPOSITION)
                    .body("application/pidf+xml", body.as_bytes());
            };
            let boundary = ctx.rng.token(24);
            request.header("MIME-Version", "1.0").body(
                &format!("multipart/mixed;boundary={boundary}"),
                multipart(&boundary, offer, &content_id, &body).as_bytes(),
            )
        }
    }
}

/// A location that the peer does not understand is no reason to refuse the call.
const LOCATION_DISPOSITION: &str = "by-reference;handling=optional";

/// SDP first, then the location (RFC 5621, RFC 6442).
fn multipart(boundary: &str, offer: &str, content_id: &str, location: &str) -> String {
    format!(
        "--{boundary}\r\nContent-Type: application/sdp\r\nContent-Disposition: session;handling=required\r\n\r\n{offer}\r\n\
         --{boundary}\r\nContent-Type: application/pidf+xml\r\nContent-ID: <{content_id}>\r\n\
         Content-Disposition: {LOCATION_DISPOSITION}\r\n\r\n{location}\r\n--{boundary}--\r\n"
    )
}

/// Answers after which the same trunk is tried once more without the location (5.3).
pub(super) const fn may_be_the_location(status: u16) -> bool {
    matches!(status, 400 | 413 | 415 | 424 | 488 | 513 | 606)
}

// Towards the caller.

/// 403 at once (5.1). Returns status and reason phrase.
pub(super) fn refuse(ctx: &mut Context, pending: &Pending, early: &Early<'_>) -> (u16, &'static str) {
    log_refused(ctx, early);
    let tag = ctx.table.tag_of_refusal(&pending.request);
    answer_refused(ctx, pending, early.origin.language, early.dialled, &tag)
}

/// The 403 of a refused call, with this tag of ours. Returns status and reason phrase.
pub(super) fn answer_refused(
    ctx: &mut Context,
    pending: &Pending,
    language: Language,
    dialled: &EmergencyCall,
    tag: &str,
) -> (u16, &'static str) {
    let answer = refusal::answer(refusal::Failure::NotAvailable, dialled, &ctx.config.server.domain, language);
    let response = ctx.response(pending, answer.status, answer.phrase, tag);
    let bytes = explained(response, &answer).finish();
    ctx.respond(pending.txn, answer.status, bytes);
    (answer.status, answer.phrase)
}

/// D10: a text message to an emergency number.
pub(super) fn refuse_text(ctx: &mut Context, pending: &Pending) {
    let text = "Texting an emergency number is not supported. Make a voice call instead.";
    let tag = ctx.table.tag_of_refusal(&pending.request);
    let response = ctx.response(pending, 403, "Texting Not Supported", &tag);
    let response = response.header("Warning", ctx.warning(text)).body("text/plain;charset=UTF-8", text.as_bytes());
    ctx.respond(pending.txn, 403, response.finish());
}

/// D7: what the caller hears when every trunk failed (5.4).
pub(super) fn not_connected() -> Failure {
    Failure::new(503, "Emergency Call Not Connected")
}

/// Completes that answer.
pub(super) fn not_connected_response(
    ctx: &Context,
    info: &EmergencyInfo,
    response: ResponseBuilder,
) -> ResponseBuilder {
    let answer =
        refusal::answer(refusal::Failure::NotConnected, &info.dialled, &ctx.config.server.domain, info.origin.language);
    explained(response, &answer)
}

fn explained(mut response: ResponseBuilder, answer: &Answer) -> ResponseBuilder {
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.content_type, answer.body.as_bytes())
}

// The log: target `emergency`, never sampled (7.2).

/// One line of the log. What is `None` is left out.
macro_rules! note {
    ($level:ident, $stage:literal, $ctx:expr, $call:expr, $info:expr, { $($field:ident = $value:expr),* }, $text:literal) => {{
        let EmergencyInfo { class, dialled, callback, place, origin, .. } = $info;
        let call: Option<CallId> = $call;
        $level!(target: "emergency", stage = $stage, call = call.map(tracing::field::display), aor = origin.aor,
            device = origin.device, source_ip = %origin.source_ip, dialed = dialled.dialled, class = ?class,
            region = $ctx.config.company.region, erl = place.label(), callback,
            location_stripped = origin.has_location, $($field = $value,)* $text)
    }};
}

/// The same of a call that has no callback number and no location, because it goes nowhere or has not been decided upon.
macro_rules! note_early {
    ($level:ident, $stage:literal, $ctx:expr, $early:expr, { $($field:ident = $value:expr),* }, $text:literal) => {{
        let Early { call, class, origin, dialled } = $early;
        $level!(target: "emergency", stage = $stage, %call, aor = origin.aor, device = origin.device,
            source_ip = %origin.source_ip, dialed = dialled.dialled, class = ?class, region = $ctx.config.company.region,
            location_stripped = origin.has_location, $($field = $value,)* $text)
    }};
}

/// A call for help as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Early<'a> {
    pub call: CallId,
    pub class: Class,
    pub origin: &'a Origin,
    pub dialled: &'a EmergencyCall,
}

pub(super) fn log_detected(ctx: &Context, early: &Early<'_>) {
    note_early!(warn, "detected", ctx, early, {}, "Emergency number dialled.");
}

pub(super) fn log_refused(ctx: &Context, early: &Early<'_>) {
    note_early!(error, "refused", ctx, early, { sip_code = 403 }, "Emergency call refused.");
}

pub(super) fn log_loop(ctx: &Context, early: &Early<'_>, trunk: Option<&str>) {
    note_early!(warn, "loop", ctx, early, { trunk = trunk, sip_code = 404 }, "An emergency number came in from a trunk.");
}

pub(super) fn log_attempt(ctx: &Context, call: CallId, info: &EmergencyInfo, trunk: usize, attempt: u32) {
    let trunk = &ctx.trunks.trunk(trunk).name;
    note!(warn, "attempt", ctx, Some(call), info, { trunk = trunk, attempt = attempt },
        "Emergency call sent to a trunk.");
}

/// What a trunk answered in the end, or 408 where it did not in time.
pub(super) fn attempt_ended(
    ctx: &mut Context,
    call: CallId,
    info: &EmergencyInfo,
    (trunk, attempt): (usize, u32),
    status: u16,
) {
    let trunk = ctx.trunks.trunk(trunk).name.clone();
    note!(warn, "attempt", ctx, Some(call), info, { trunk = trunk, attempt = attempt, sip_code = status },
        "A trunk has answered an emergency call.");
    if info.class == Class::Emergency {
        *ctx.counters.emergency_attempts.entry((trunk, status)).or_default() += 1;
    }
}

pub(super) fn connected(ctx: &mut Context, call: CallId, info: &EmergencyInfo, trunk: Option<&str>, setup_ms: u64) {
    note!(warn, "connected", ctx, Some(call), info, { trunk = trunk, setup_ms = setup_ms }, "Emergency call connected.");
    if info.class == Class::Emergency {
        ctx.counters.emergency_setup.0.observe(Duration::from_millis(setup_ms).as_secs_f64());
    }
}

pub(super) fn log_end(ctx: &Context, call: CallId, info: &EmergencyInfo, was_answered: bool, status: u16) {
    if was_answered {
        note!(warn, "ended", ctx, Some(call), info, { sip_code = status }, "Emergency call ended.");
    } else {
        note!(error, "failed", ctx, Some(call), info, { sip_code = status }, "Emergency call without an answer.");
    }
}

/// `aor`: who calls; `dialled`: the number, which an answering point was shown or marks as one.
pub(super) fn log_callback(ctx: &Context, call: CallId, (trunk, aor): (usize, &str), pending: &Pending, dialled: &str) {
    let trunk = &ctx.trunks.trunk(trunk).name;
    warn!(target: "emergency", stage = "callback", %call, aor, source_ip = %pending.flow.remote.ip(), dialed = dialled,
        class = ?Class::Emergency, region = ctx.config.company.region, callback = dialled, trunk,
        "Emergency services call back.");
}

pub(super) fn log_preempted(ctx: &Context, ended: CallId, needed_for: CallId, info: &EmergencyInfo) {
    note!(
        warn,
        "preempted",
        ctx,
        Some(needed_for),
        info,
        { ended = ended.to_string() },
        "An ordinary call was ended to make room for an emergency call."
    );
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        call::leg::Peer,
        types::{ConnectionId, Flow, Transport, TxnId},
    };

    #[test]
    fn a_location_that_a_telephone_states_anywhere_is_noticed() {
        let address = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, local: address, remote: address, connection: ConnectionId::NONE };
        let caller = Caller {
            peer: Peer::Unknown,
            user: "unknown".to_owned(),
            display: String::new(),
            direct_line: None,
            is_private: false,
            verification: None,
            signed: None,
        };
        for (head, is_stated) in [
            ("", false),
            ("Geolocation-Routing: yes\r\n", false),
            ("Geolocation: <cid:me@here>\r\n", true),
            ("P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=1\r\n", true),
            ("Content-Type: application/pidf+xml\r\n", true),
        ] {
            let text = format!("INVITE sip:911@a SIP/2.0\r\nContact: <sip:a@a>\r\n{head}\r\n");
            let request = Message::parse(Bytes::from(text)).unwrap();
            let pending = Pending { txn: TxnId(0), flow, request };
            assert_eq!(Origin::of(&pending, &caller).has_location, is_stated, "{head}");
        }
    }
}
