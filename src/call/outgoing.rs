//! The INVITEs this server sends: to a device, to a trunk, to a trunk in an emergency.

use std::fmt::Write;

use super::{
    call::{Call, Caller},
    context::{ALLOW, Context, Owner, PRODUCT, Side},
    diversion,
    emergency_call::{self, EmergencyInfo},
    failover::{Failover, target_of},
    fork::{Attempt, Failure},
    identity::Identity,
    interface::Output,
    leg::{Device, Leg, Peer},
    passed_headers::PassedHeaders,
    pbx,
    provisional::RELIABLE,
    signature,
    trunks::Reach,
};
use crate::{
    config::{Config, Trunk},
    policy::{
        emergency::table,
        number,
        security::{self, LegSecurity, leg_security},
    },
    sip::{
        MAX_FORWARDS,
        challenge::Authorization,
        dialog::is_sips,
        locate::Target,
        session_timer::{OPTION_TAG, SessionTimer},
    },
    types::{CallId, Flow, Transport, TxnId, limits},
    wire::sip::{Message, Method, Name, RequestBuilder},
};

/// The leg an attempt needs: peer, flow, security.
pub(super) fn leg_for(
    ctx: &mut Context,
    id: (CallId, Side),
    attempt: &Attempt,
    caller: &Caller,
    emergency: Option<&EmergencyInfo>,
    failover: &Failover,
) -> Result<Leg, Failure> {
    let media = ctx.config.media.encryption;
    match attempt {
        Attempt::Contact { binding } => {
            let security = leg_security(security::Peer::Device, media);
            let contact_user = Identity::to_device(&ctx.config, caller).contact_user;
            let mut leg = Leg::new(ctx, id, binding.flow, security, contact_user);
            leg.is_secure = is_sips(&binding.contact);
            let (user, instance) = (binding.aor.clone(), binding.instance.clone());
            leg.device = Some(Device { user, instance, is_registered: true });
            Ok(leg)
        }
        Attempt::Trunk { index, .. } | Attempt::Emergency { trunk: index, .. } => {
            let flow = reach(ctx, *index, failover)?;
            let trunk = ctx.trunks.trunk(*index);
            let security = match leg_security(security::Peer::Trunk(trunk.encryption), media) {
                LegSecurity::SrtpPreferred if attempt.is_plain() => LegSecurity::PlainOnly,
                security => security,
            };
            let contact_user = emergency.map_or_else(
                || Identity::to_trunk(&ctx.config, trunk, caller).contact_user,
                |info| escaped_user(&info.callback),
            );
            let mut leg = Leg::new(ctx, id, flow, security, contact_user);
            leg.trunk = Some(*index);
            leg.negotiation.keep_to_telephony();
            leg.session_timer = SessionTimer::new(emergency.is_none());
            Ok(leg)
        }
    }
}

fn reach(ctx: &mut Context, trunk: usize, failover: &Failover) -> Result<Flow, Failure> {
    let flow = reach_one_of(ctx, trunk, |target| !failover.has_failed(trunk, target))
        .or_else(|| reach_one_of(ctx, trunk, |target| failover.has_another_chance(trunk, target)));
    flow.ok_or_else(|| Failure::new(502, "Trunk Unreachable"))
}

/// The flow to a target of the trunk that will do.
pub(super) fn reach_one_of(ctx: &mut Context, trunk: usize, will_do: impl Fn(&Target) -> bool) -> Option<Flow> {
    match ctx.trunks.reach(ctx.now, trunk, will_do, &ctx.listeners, &mut ctx.rng) {
        Reach::Flow(flow) => Some(flow),
        Reach::Connect(flow) => {
            let server_name = ctx.trunks.server_name(trunk, &target_of(&flow)).to_owned();
            ctx.outputs.push_back(Output::Connect { flow, server_name, trunk });
            Some(flow)
        }
        Reach::Unreachable => None,
    }
}

/// The stream that an INVITE too large for a datagram takes instead, where DNS names one of the trunk for the address
/// family of the leg's media (RFC 3261 section 18.1.1).
pub(super) fn stream_for_large(
    ctx: &mut Context,
    call: &Call,
    leg: &Leg,
    attempt: &Attempt,
    offer: Option<&str>,
) -> Option<Flow> {
    let trunk = attempt.trunk().filter(|_| leg.flow.transport == Transport::Udp)?;
    let is_v4 = leg.flow.remote.is_ipv4();
    let will_do = |target: &Target| {
        target.transport.is_reliable() && target.address.is_ipv4() == is_v4 && !call.failover.has_failed(trunk, target)
    };
    let invite = Invite { call, leg, attempt, offer, cseq: 1, authorization: None };
    if !ctx.trunks.has(trunk, will_do, &ctx.listeners) || invite.len(ctx) <= limits::SIP_DATAGRAM_BYTES_MAX {
        return None;
    }
    reach_one_of(ctx, trunk, will_do)
}

/// The identity shown to a trunk: the caller's direct line, else the trunk's first number. What is behind a trunk of our own is
/// shown the number that another trunk has shown, whether the call goes straight there, is forwarded or transferred.
pub(super) fn caller_number(trunk: &Trunk, caller: &Caller) -> String {
    if !trunk.reaches_pstn && matches!(caller.peer, Peer::Trunk(_)) {
        return caller.user.clone();
    }
    caller.direct_line.clone().or_else(|| trunk.numbers.first().cloned()).unwrap_or_else(|| caller.user.clone())
}

/// A number as this trunk wants it written.
pub(super) fn number_for(config: &Config, trunk: &Trunk, number: &str) -> String {
    match table::region(&config.company.region) {
        Some(region) => number::written(number, trunk.number_form, region),
        None => number.to_owned(),
    }
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

    /// Its bytes, as near as can be told before it has a branch.
    fn len(&self, ctx: &mut Context) -> usize {
        let via = ctx.ack_via(&self.leg.flow);
        self.build(ctx, &via).header("User-Agent", PRODUCT).finish().len()
    }

    fn build(&self, ctx: &mut Context, via: &str) -> RequestBuilder {
        let (request_uri, to, from) = self.parties(ctx);
        let mut request =
            RequestBuilder::new("INVITE", &request_uri).header("Via", via).header("Max-Forwards", self.max_forwards());
        for hop in self.route(ctx) {
            request = request.header("Route", hop);
        }
        let mut request = request
            .header("From", format_args!("{from};tag={}", self.leg.local_tag))
            .header("To", to)
            .header("Call-ID", &self.leg.call_id)
            .header("CSeq", format_args!("{} INVITE", self.cseq))
            .header("Contact", self.leg.contact(ctx))
            .header("Allow", ALLOW);
        let session = self.leg.session_headers(Method::Invite);
        let extensions = [(self.call.offers_reliability(), RELIABLE), (!session.is_empty(), OPTION_TAG)];
        let offered: Vec<_> =
            extensions.into_iter().filter_map(|(is_offered, tag)| is_offered.then_some(tag)).collect();
        if !offered.is_empty() {
            request = request.header("Supported", offered.join(", "));
        }
        for (name, value) in session {
            request = request.header(name, value);
        }
        if let Some((name, value)) = &self.authorization {
            request = request.header(name, value.expose());
        }
        if self.call.emergency.is_none() {
            request = request.header("Max-Breadth", self.call.plan.branch_breadth);
            let company_line = self.attempt.trunk().map(|trunk| company_line(ctx.trunks.trunk(trunk)));
            let domain = host(&ctx.config.server.domain);
            let hunt = &self.call.plan.hunt;
            request = diversion::add(request, &hunt.earlier, hunt.stops(), &domain, company_line);
        }
        match (self.attempt, &self.call.emergency) {
            (Attempt::Emergency { trunk, has_location, .. }, Some(info)) => {
                emergency_call::complete(ctx, info, *trunk, *has_location, request, self.offer)
            }
            (Attempt::Trunk { index, number, .. }, _) => {
                let identity = Identity::to_trunk(&ctx.config, ctx.trunks.trunk(*index), &self.call.caller);
                let request = signature::add(ctx, self.call, *index, number, identity.assert(request));
                with_offer(self.passed_headers().add_to_request(request), self.offer)
            }
            (Attempt::Contact { .. } | Attempt::Emergency { .. }, _) => {
                if let Some(referrer) = &self.call.referred_by {
                    request = request.header("Referred-By", referrer);
                }
                let identity = Identity::to_device(&ctx.config, &self.call.caller);
                with_offer(self.passed_headers().add_to_request(identity.assert(request)), self.offer)
            }
        }
    }

    /// The proxies on the way to a device (RFC 3327 section 5.3) or through a carrier that we are registered at (RFC 3608).
    fn route<'r>(&'r self, ctx: &'r Context) -> &'r [String] {
        match self.attempt {
            Attempt::Contact { binding } => &binding.path,
            Attempt::Trunk { index: trunk, .. } | Attempt::Emergency { trunk, .. } => {
                ctx.trunks.service_route(*trunk, target_of(&self.leg.flow))
            }
        }
    }

    /// What the callee sees of the caller's own INVITE.
    fn passed_headers(&self) -> PassedHeaders {
        let invite = self.call.a.server_invite.as_ref().map(|i| &i.pending.request);
        invite.map(|invite| PassedHeaders::of_invite(invite, &self.call.caller)).unwrap_or_default()
    }

    /// Request-URI, To and From (without tag).
    fn parties(&self, ctx: &Context) -> (String, String, String) {
        let domain = host(&ctx.config.server.domain);
        let caller = &self.call.caller;
        match self.attempt {
            Attempt::Contact { binding } => {
                let from = Identity::to_device(&ctx.config, caller).from;
                let (uri, called) = pbx::address_of(&ctx.config, binding, self.call.plan.hunt.line());
                (uri, format!("<sip:{}@{domain}>", escaped_user(called)), from)
            }
            Attempt::Trunk { index, number, .. } => {
                let trunk = ctx.trunks.trunk(*index);
                let number = number_for(&ctx.config, trunk, number);
                let uri = format!("sip:{}@{};user=phone", escaped_user(&number), trunk_host(trunk));
                let from = Identity::to_trunk(&ctx.config, trunk, caller).from;
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

/// Host part of a trunk's URIs: the carrier's domain, or `host` or `host:port`.
pub(super) fn trunk_host(trunk: &Trunk) -> String {
    if let Some(domain) = &trunk.domain {
        return host(domain);
    }
    let name = host(&trunk.host);
    let usual = trunk.transport.unwrap_or(Transport::Udp).default_port();
    trunk.port.filter(|port| *port != usual).map_or_else(|| name.clone(), |port| format!("{name}:{port}"))
}

/// An IPv6 address in brackets, anything else as it is.
pub(super) fn host(name: &str) -> String {
    if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name.to_owned() }
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
