//! Emergency calls: what the trunk is sent, what the caller is told when it cannot be, and what is logged. The decisions
//! are `policy::emergency`'s; section numbers are those of the emergency RULES.

use tracing::{error, warn};

use super::{
    call::Caller,
    context::{Context, Pending},
    fork::Failure,
    leg::Peer,
    outgoing::{escaped_user, host, trunk_host, with_offer},
};
use crate::{
    config::EmergencyRequestUri,
    policy::emergency::{
        Class, EmergencyCall,
        location::{self, Erl},
        refusal::{self, Answer},
    },
    types::{CallId, Duration},
    wire::sip::{RequestBuilder, ResponseBuilder},
};

/// A trunk that answers nothing at all is given up after this time (5.3).
pub(super) const NO_RESPONSE: Duration = Duration::from_secs(2);
/// ... and one that says nothing but 100 after this (5.3).
pub(super) const NO_PROGRESS: Duration = Duration::from_secs(4);

/// What makes a call an emergency (or test) call.
#[derive(Clone, Debug)]
pub(super) struct EmergencyInfo {
    pub class: Class,
    pub dialled: EmergencyCall,
    /// E.164; whom the answering point calls back (section 4).
    pub callback: String,
}

impl EmergencyInfo {
    /// `as_company`: the caller is not authenticated, so nothing of its own is shown (D3).
    pub(super) fn new(
        ctx: &mut Context,
        class: Class,
        dialled: &EmergencyCall,
        caller: &Caller,
        as_company: bool,
    ) -> Self {
        let is_known = matches!(caller.peer, Peer::Device(_)) && !as_company;
        let line = caller.direct_line.as_deref().filter(|_| is_known);
        let turn = ctx.counters.emergency_routed;
        let callback = location::callback(&ctx.config, line, turn).unwrap_or_default().to_owned();
        Self { class, dialled: dialled.clone(), callback }
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
    (uri.clone(), format!("<{uri}>"), identity(ctx, info))
}

/// The company's name and the callback number, whatever the device calls itself.
fn identity(ctx: &Context, info: &EmergencyInfo) -> String {
    let name = ctx.config.company.name.replace(['"', '\\'], "'");
    let domain = host(&ctx.config.server.domain);
    format!("\"{name}\" <sip:{}@{domain};user=phone>", escaped_user(&info.callback))
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
    let mut request = request
        .header("P-Asserted-Identity", identity(ctx, info))
        .header("P-Asserted-Identity", format_args!("<tel:{}>", info.callback))
        .header("Priority", info.priority());
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
    match location::erl(&config, &trunk, &info.callback, ctx.now, &mut ctx.rng) {
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

/// D1 and D5: 403 at once (5.1). Returns status and reason phrase.
pub(super) fn refuse(ctx: &mut Context, pending: &Pending, dialled: &EmergencyCall) -> (u16, &'static str) {
    let answer = refusal::answer(refusal::Failure::NotAvailable, dialled, &ctx.config.server.domain);
    let tag = ctx.tag();
    let response = ctx.response(pending, answer.status, answer.phrase, &tag);
    let bytes = explained(response, &answer).finish();
    ctx.respond(pending.txn, answer.status, bytes);
    error!(target: "emergency", stage = "refused", dialed = dialled.dialled, sip_code = answer.status,
        "Emergency call refused: no PSTN trunk is configured.");
    (answer.status, answer.phrase)
}

/// D10: a text message to an emergency number.
pub(super) fn refuse_text(ctx: &mut Context, pending: &Pending) {
    let text = "Texting an emergency number is not supported. Make a voice call instead.";
    let tag = ctx.tag();
    let response = ctx.response(pending, 403, "Texting Not Supported", &tag);
    let response = response.header("Warning", ctx.warning(text)).body("text/plain;charset=UTF-8", text.as_bytes());
    ctx.respond(pending.txn, 403, response.finish());
}

/// D7: what the caller hears when every trunk failed (5.4).
pub(super) fn not_connected(last: &Failure) -> Failure {
    error!(target: "emergency", stage = "failed", sip_code = last.status, "Every trunk failed.");
    Failure::new(503, "Emergency Call Not Connected")
}

/// Completes that answer.
pub(super) fn not_connected_response(
    ctx: &Context,
    info: &EmergencyInfo,
    response: ResponseBuilder,
) -> ResponseBuilder {
    let answer = refusal::answer(refusal::Failure::NotConnected, &info.dialled, &ctx.config.server.domain);
    explained(response, &answer)
}

fn explained(mut response: ResponseBuilder, answer: &Answer) -> ResponseBuilder {
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.content_type, answer.body.as_bytes())
}

// The log: target `emergency`, never sampled (7.2).

pub(super) fn log_detected(pending: &Pending, caller: &Caller, dialled: &EmergencyCall, class: Class) {
    warn!(target: "emergency", stage = "detected", aor = caller.user, source_ip = %pending.flow.remote.ip(),
        dialed = dialled.dialled, class = ?class, "Emergency number dialled.");
}

pub(super) fn log_attempt(ctx: &Context, call: CallId, info: &EmergencyInfo, trunk: usize, attempt: u32) {
    warn!(target: "emergency", stage = "attempt", %call, trunk = ctx.trunks.trunk(trunk).name, attempt, erl = "company",
        callback = info.callback, "Emergency call sent to a trunk.");
}

pub(super) fn log_stage(call: CallId, info: &EmergencyInfo, stage: &str) {
    warn!(target: "emergency", stage, %call, dialed = info.dialled.dialled, "Emergency call.");
}
