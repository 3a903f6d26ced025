//! Step 4: who sends a request, proven by digest, by the connection of a registration or by a trunk's address or certificate.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use tracing::warn;

use super::{
    super::{
        admission::{device_caller, trunk_caller},
        call::Caller,
        context::Pending,
        identity,
        leg::Peer,
        outgoing::escaped_user,
        pbx,
    },
    Core,
};
use crate::{
    config::User,
    policy::{
        emergency::{self, Dialled, Ordinary, Source},
        routing::{self, Target},
        security,
    },
    sip::{
        auth::{Role, Verdict},
        transaction,
    },
    types::{Flow, Instant, limits},
    wire::sip::{Message, Name, NameAddr, Uri},
};

/// Who makes an emergency call.
pub(super) struct EmergencyCaller {
    pub caller: Caller,
    pub source: Source,
    /// On its credentials.
    pub verdict: Verdict,
    /// A header says which of the users of its connection it is: any of them could write it.
    pub is_named: bool,
}

impl Core {
    /// Who sends this INVITE; challenged or refused if nobody we know.
    pub(super) fn identify(&mut self, pending: &Pending) -> Option<Caller> {
        if let Some(trunk) = self.trunk_of(pending) {
            return Some(trunk_caller(trunk, &pending.request));
        }
        let is_private = identity::asks_for_privacy(&pending.request);
        if let Some(user) = self.owner_of_connection(&pending.flow) {
            return Some(Caller { is_private, ..self.caller_of(&user, &pending.request) });
        }
        match self.check(Role::Proxy, pending) {
            Verdict::Passed(name) => {
                let user = Arc::clone(self.ctx.directory.by_name(&name)?);
                if self.contradicts_certificate(&pending.flow, &user) {
                    self.ctx.refuse(pending, 403, "Certificate Of Another User");
                    return None;
                }
                Some(Caller { is_private, ..self.caller_of(&user, &pending.request) })
            }
            verdict => {
                self.challenge(pending, Role::Proxy, &verdict);
                None
            }
        }
    }

    fn caller_of(&self, user: &User, request: &Message) -> Caller {
        pbx::caller(&self.ctx.config, user, request).unwrap_or_else(|| device_caller(user))
    }

    /// Which trunk sends this INVITE. Connections from a trunk's address may also be telephones', behind the same NAT or on
    /// the same host: one that somebody has registered over, or on which a user of ours calls, is not the trunk's, unless
    /// it has proven that by a certificate.
    pub(super) fn trunk_of(&self, pending: &Pending) -> Option<usize> {
        if let Some(trunk) = self.ctx.trunks.certified_owner_of(&pending.flow) {
            return Some(trunk);
        }
        let user = Uri::parse(pending.request.request_uri()).and_then(|uri| uri.user_decoded());
        let trunk = self.ctx.trunks.owner_of_request(&pending.flow, user.as_deref())?;
        let is_telephone = || self.registrar.is_bound(&pending.flow) || self.is_from_user(&pending.request);
        (!(pending.flow.transport.is_reliable() && is_telephone())).then_some(trunk)
    }

    /// What a trunk's INVITE to the account that this server has registered is for: the number of ours that its headers name
    /// (P-Called-Party-ID of RFC 7315, else To), or the trunk's first. With the URI of that number. `None`: the Request-URI
    /// says it.
    pub(super) fn called_at_account(&self, trunk: usize, request: &Message) -> Option<(Ordinary, String)> {
        let account = self.ctx.trunks.account(trunk)?;
        let asked = Uri::parse(request.request_uri())?.user_decoded()?;
        if asked != account {
            return None;
        }
        let called_party = request.header_text("P-Called-Party-ID").and_then(NameAddr::parse);
        let user = |address: NameAddr<'_>| Uri::parse(address.uri)?.user_decoded().map(Cow::into_owned);
        let named = [called_party, request.to()].into_iter().flatten().filter_map(user);
        let first = self.ctx.trunks.trunk(trunk).numbers.first().cloned();
        let read = |number: String| {
            let uri = format!("sip:{}@{}", escaped_user(&number), self.ctx.config.server.domain);
            match emergency::classify(&uri, &self.site) {
                Dialled::Ordinary(dialled) => Some((dialled, uri)),
                Dialled::Emergency(_) | Dialled::Test(_) => None,
            }
        };
        let reaches_somebody = |(dialled, _): &(Ordinary, String)| {
            let target = routing::route(dialled, true, &self.ctx.config, &self.ctx.directory);
            !matches!(target, Target::Refuse(..)) || self.called_back(dialled).is_some()
        };
        named.filter_map(read).find(reaches_somebody).or_else(|| first.and_then(read))
    }

    /// Whether From names a user of this server. Nothing is gained by lying: such a request must be authenticated.
    fn is_from_user(&self, request: &Message) -> bool {
        let Some(uri) = request.from().and_then(|from| Uri::parse(from.uri)) else { return false };
        let user = uri.user_decoded().and_then(|user| self.ctx.directory.by_dialled(&user));
        user.is_some() && self.site.is_own_host(uri.host)
    }

    /// The user whose registration came over this very connection. A datagram's source can be forged, so UDP does not
    /// count here.
    fn owner_of_connection(&self, flow: &Flow) -> Option<Arc<User>> {
        flow.transport.is_reliable().then(|| self.owner_of(flow)).flatten()
    }

    fn owner_of(&self, flow: &Flow) -> Option<Arc<User>> {
        self.registrar.owner_of(flow).and_then(|name| self.ctx.directory.by_name(name)).cloned()
    }

    /// Whoever passes has heard the challenge, at the address that this comes from.
    pub(super) fn check(&mut self, role: Role, pending: &Pending) -> Verdict {
        let directory = Arc::clone(&self.ctx.directory);
        let lookup = |name: &str| directory.by_name(name).map(|user| &user.credential);
        let verdict = self.authenticator.check(self.ctx.now, role, &pending.request, lookup);
        if matches!(verdict, Verdict::Passed(_)) {
            self.sources.prove(self.ctx.now, &pending.flow);
            self.ctx.table.handle_input(self.ctx.now, transaction::Input::Identified { txn: pending.txn });
        }
        verdict
    }

    pub(super) fn challenge(&mut self, pending: &Pending, role: Role, verdict: &Verdict) {
        if *verdict == Verdict::Refused {
            self.note_refused(pending, role);
        }
        let (status, header) = match role {
            Role::Registrar => (401, "WWW-Authenticate"),
            Role::Proxy => (407, "Proxy-Authenticate"),
        };
        // A telephone system that registered itself answers for the phones behind it, whatever they are called.
        let registered = self.registrar.user_agent_of(&pending.flow);
        let answers = registered.or_else(|| pending.request.header(Name::UserAgent)).unwrap_or_default();
        let algorithms = security::digest_algorithms(answers);
        let challenge = self.authenticator.challenge(self.ctx.now, *verdict == Verdict::Stale);
        let tag = self.ctx.table.tag_of_refusal(&pending.request);
        let mut response = self.ctx.response(pending, status, "", &tag);
        for value in challenge.values(algorithms) {
            response = response.header(header, value);
        }
        let bytes = response.finish();
        self.ctx.respond(pending.txn, status, bytes);
    }

    /// Counts refused credentials, unless they come from where somebody is registered: a mistyped password in an office must
    /// not silence the office.
    pub(super) fn note_refused(&mut self, pending: &Pending, role: Role) {
        let user = self.authenticator.claimed_user(role, &pending.request);
        self.count_refused(self.ctx.now, pending.flow.source(), user);
    }

    /// The same, of `user` if one was named.
    pub(super) fn count_refused(&mut self, now: Instant, source: IpAddr, user: Option<String>) {
        if self.registrar.is_source(source) {
            return;
        }
        let known = user.as_deref().and_then(|name| self.ctx.directory.by_name(name)).cloned();
        let reached = self.guard.refused(now, source, user);
        if reached.source {
            warn!(%source, window_s = limits::REFUSALS_WINDOW_S, "Too many refused credentials; the source is not answered.");
        }
        if let Some(user) = known.filter(|_| reached.user) {
            warn!(
                user = user.name,
                window_s = limits::REFUSALS_WINDOW_S,
                "Too many refused credentials for one user; only registered sources are answered."
            );
        }
    }

    /// Whether too many credentials from this source were refused, and nobody is registered there and no trunk is.
    fn has_guessed(&mut self, flow: &Flow) -> bool {
        let source = flow.source();
        let is_known = self.registrar.is_source(source) || self.ctx.trunks.owner_of(flow).is_some();
        !is_known && self.guard.is_barred_source(self.ctx.now, source)
    }

    /// Of several users who have registered over this flow themselves, as the lines of one telephone do, the one that
    /// P-Preferred-Identity or From names. Over a flow of a proxy nobody has.
    fn named_owner_of(&self, pending: &Pending) -> Option<Arc<User>> {
        let Pending { flow, request, .. } = pending;
        let registered = self.registrar.users_on(flow);
        let mut bindings = registered.iter().filter_map(|user| self.registrar.binding_on(user, flow));
        if bindings.any(|binding| binding.is_proxied) {
            return None;
        }
        let preferred = request.values(Name::PPreferredIdentity).find_map(NameAddr::parse);
        let mut named = [preferred, request.from()].into_iter().flatten().filter_map(|address| {
            let uri = Uri::parse(address.uri).filter(|uri| self.site.is_own_host(uri.host))?;
            self.ctx.directory.by_dialled(&uri.user_decoded()?)
        });
        named.find(|user| registered.contains(&user.name)).cloned()
    }

    /// A device counts as authenticated by digest or by the flow of its own registration: nobody is challenged twice
    /// in an emergency. A server at the edge may be a trunk by its certificate and bring telephones over the same
    /// connection: whoever has registered there and calls as a user is one.
    pub(super) fn emergency_caller(&mut self, pending: &Pending) -> EmergencyCaller {
        let in_site_networks = self.is_in_site_networks(&pending.flow);
        let has_guessed = self.has_guessed(&pending.flow) && !in_site_networks;
        // Who has guessed passwords does not go on by calling for help (RULES 5.5).
        let verdict = if has_guessed { Verdict::Refused } else { self.check(Role::Proxy, pending) };
        let by_password = match &verdict {
            Verdict::Passed(name) => self.ctx.directory.by_name(name).cloned(),
            Verdict::Missing | Verdict::Stale | Verdict::Refused => None,
        };
        let is_telephone =
            by_password.is_some() || self.registrar.is_bound(&pending.flow) && self.is_from_user(&pending.request);
        if let Some(trunk) = self.trunk_of(pending).filter(|_| !is_telephone) {
            let caller = trunk_caller(trunk, &pending.request);
            return EmergencyCaller { caller, source: Source::Trunk, verdict, is_named: false };
        }
        let own = by_password.or_else(|| self.owner_of(&pending.flow));
        let is_named = own.is_none();
        if let Some(user) = own.or_else(|| self.named_owner_of(pending)) {
            let caller = self.caller_of(&user, &pending.request);
            return EmergencyCaller { caller, source: Source::AuthenticatedDevice, verdict, is_named };
        }
        let caller = Caller {
            peer: Peer::Unknown,
            user: "unknown".into(),
            display: String::new(),
            direct_line: None,
            is_private: false,
            verification: None,
            signed: None,
        };
        EmergencyCaller { caller, source: Source::UnauthenticatedDevice { in_site_networks }, verdict, is_named: false }
    }
}
