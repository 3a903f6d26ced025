//! The INVITEs this server sends: to a device, to a trunk, to a trunk in an emergency.

use std::fmt::Write;

use super::{
    call::{Call, Caller},
    context::{ALLOW, Context, Owner, Side},
    credentials::Authorization,
    diversion,
    emergency_call::{self, EmergencyInfo},
    fork::{Attempt, Failure},
    interface::Output,
    leg::{Device, Leg},
    provisional::RELIABLE,
    trunks::Reach,
};
use crate::{
    config::Trunk,
    policy::security::{self, leg_security},
    sip::{MAX_FORWARDS, dialog::is_sips},
    types::{CallId, Flow, TxnId},
    wire::sip::{Message, Name, RequestBuilder},
};

/// The leg an attempt needs: peer, flow, security.
pub(super) fn leg_for(
    ctx: &mut Context,
    id: (CallId, Side),
    attempt: &Attempt,
    caller: &Caller,
    emergency: Option<&EmergencyInfo>,
) -> Result<Leg, Failure> {
    let media = ctx.config.media.encryption;
    match attempt {
        Attempt::Contact { user, binding } => {
            let security = leg_security(security::Peer::Device, media);
            let mut leg = Leg::new(ctx, id, binding.flow, security, escaped_user(&caller.user));
            leg.is_secure = is_sips(&binding.contact);
            leg.device = Some(Device { user: user.clone(), instance: binding.instance.clone(), is_registered: true });
            Ok(leg)
        }
        Attempt::Trunk { index, .. } | Attempt::Emergency { trunk: index, .. } => {
            let flow = reach(ctx, *index)?;
            let trunk = ctx.trunks.trunk(*index);
            let security = leg_security(security::Peer::Trunk(trunk.encryption), media);
            let user = emergency.map_or_else(|| caller_number(trunk, caller), |info| info.callback.clone());
            let mut leg = Leg::new(ctx, id, flow, security, escaped_user(&user));
            leg.trunk = Some(*index);
            Ok(leg)
        }
    }
}

fn reach(ctx: &mut Context, trunk: usize) -> Result<Flow, Failure> {
    match ctx.trunks.reach(trunk, &ctx.listeners) {
        Reach::Flow(flow) => Ok(flow),
        Reach::Connect(flow) => {
            let server_name = ctx.trunks.trunk(trunk).host.clone();
            ctx.outputs.push_back(Output::Connect { flow, server_name });
            Ok(flow)
        }
        Reach::Unreachable => Err(Failure::new(502, "Trunk Unreachable")),
    }
}

/// The identity shown to a trunk: the caller's direct line, else the trunk's first number.
fn caller_number(trunk: &Trunk, caller: &Caller) -> String {
    caller.direct_line.clone().or_else(|| trunk.numbers.first().cloned()).unwrap_or_else(|| caller.user.clone())
}

/// What a trunk is shown in the place of an extension that has no outside number.
fn company_line(trunk: &Trunk) -> &str {
    trunk.numbers.first().map_or("anonymous", String::as_str)
}

/// One INVITE about to be sent.
pub(super) struct Invite<'a> {
    pub call: &'a Call,
    pub leg: &'a Leg,
    pub attempt: &'a Attempt,
    /// `None`: the callee is to offer (RFC 3261 section 13.2.1).
    pub offer: Option<&'a str>,
    pub cseq: u32,
    /// Header name and value, in answer to a challenge.
    pub authorization: Option<Authorization>,
}

impl Invite<'_> {
    /// Returns the transaction and the request as sent.
    pub(super) fn send(self, ctx: &mut Context, owner: Owner) -> (TxnId, Message) {
        ctx.send(self.leg.flow, owner, |ctx, via| self.build(ctx, via))
    }

    fn build(&self, ctx: &mut Context, via: &str) -> RequestBuilder {
        let (request_uri, to, from) = self.parties(ctx);
        let mut request = RequestBuilder::new("INVITE", &request_uri)
            .header("Via", via)
            .header("Max-Forwards", self.max_forwards())
            .header("From", format_args!("{from};tag={}", self.leg.local_tag))
            .header("To", to)
            .header("Call-ID", &self.leg.call_id)
            .header("CSeq", format_args!("{} INVITE", self.cseq))
            .header("Contact", self.leg.contact(ctx))
            .header("Allow", ALLOW);
        if self.call.offers_reliability() {
            request = request.header("Supported", RELIABLE);
        }
        if let Some((name, value)) = &self.authorization {
            request = request.header(name, value.expose());
        }
        if self.call.emergency.is_none() {
            request = request.header("Max-Breadth", self.call.plan.branch_breadth);
            let company_line = self.attempt.trunk().map(|trunk| company_line(ctx.trunks.trunk(trunk)));
            let domain = host(&ctx.config.server.domain);
            request = diversion::add(request, self.call.plan.hunt.stops(), &domain, company_line);
        }
        match (self.attempt, &self.call.emergency) {
            (Attempt::Emergency { trunk, has_location }, Some(info)) => {
                emergency_call::complete(ctx, info, *trunk, *has_location, request, self.offer)
            }
            (Attempt::Trunk { .. }, _) => with_offer(request.header("P-Asserted-Identity", &from), self.offer),
            (Attempt::Contact { .. } | Attempt::Emergency { .. }, _) => with_offer(request, self.offer),
        }
    }

    /// Request-URI, To and From (without tag).
    fn parties(&self, ctx: &Context) -> (String, String, String) {
        let domain = host(&ctx.config.server.domain);
        let caller = &self.call.caller;
        match self.attempt {
            Attempt::Contact { user, binding } => {
                let from = format!("{}<sip:{}@{domain}>", spaced(&caller.display), escaped_user(&caller.user));
                (binding.contact.clone(), format!("<sip:{}@{domain}>", escaped_user(user)), from)
            }
            Attempt::Trunk { index, number } => {
                let trunk = ctx.trunks.trunk(*index);
                let uri = format!("sip:{}@{};user=phone", escaped_user(number), trunk_host(trunk));
                let from = format!("<sip:{}@{domain};user=phone>", escaped_user(&caller_number(trunk, caller)));
                (uri.clone(), format!("<{uri}>"), from)
            }
            Attempt::Emergency { trunk, .. } => {
                let info = self.call.emergency.as_ref().expect("an emergency attempt belongs to an emergency call");
                emergency_call::parties(ctx, info, *trunk)
            }
        }
    }

    /// One less than the caller's, and one for each forward: a call that loops through this server dies out. An emergency call came from no trunk,
    /// so it cannot have looped.
    fn max_forwards(&self) -> u8 {
        if self.call.emergency.is_some() {
            return MAX_FORWARDS;
        }
        let invite = self.call.a.server_invite.as_ref().map(|i| &i.pending.request);
        let received = invite.and_then(|i| i.header(Name::MaxForwards)).and_then(|v| v.parse::<u8>().ok());
        let forwards = u8::try_from(self.call.plan.hunt.stops().len()).unwrap_or(u8::MAX).max(1);
        received.unwrap_or(MAX_FORWARDS).saturating_sub(forwards).min(MAX_FORWARDS)
    }
}

/// An INVITE whose body is the offer alone, if there is one.
pub(super) fn with_offer(request: RequestBuilder, offer: Option<&str>) -> RequestBuilder {
    match offer {
        Some(offer) => request.body("application/sdp", offer.as_bytes()),
        None => request,
    }
}

/// `host` or `host:port` of a trunk's URIs.
pub(super) fn trunk_host(trunk: &Trunk) -> String {
    let name = host(&trunk.host);
    if trunk.port == trunk.transport.default_port() { name } else { format!("{name}:{}", trunk.port) }
}

/// An IPv6 address in brackets, anything else as it is.
pub(super) fn host(name: &str) -> String {
    if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name.to_owned() }
}

fn spaced(display: &str) -> String {
    if display.is_empty() { String::new() } else { format!("{display} ") }
}

/// Escapes what may not stand in a SIP user part (RFC 3261 section 25.1).
pub(super) fn escaped_user(user: &str) -> String {
    let mut out = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'!'
            | b'~'
            | b'*'
            | b'\''
            | b'('
            | b')'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_parts_are_escaped_and_hosts_bracketed() {
        assert_eq!(escaped_user("+12025550100"), "+12025550100");
        assert_eq!(escaped_user("a b@c;d\r\n"), "a%20b%40c%3Bd%0D%0A");
        assert_eq!(host("2001:db8::1"), "[2001:db8::1]");
        assert_eq!(host("pbx.example.com"), "pbx.example.com");
    }
}
