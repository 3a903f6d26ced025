//! This server's own registrations at trunks: over which flow each goes, and what their standing means for the trunk. What is
//! sent when, `sip::registration` says.

use tracing::{info, warn};

use super::{
    context::{Context, Owner},
    failover::target_of,
    outgoing::{escaped_user, host, reach_one_of},
};
use crate::{
    config::{Register, Trunk},
    sip::registration::{Account, Input, Output, Registration, State},
    types::{ConnectionId, Flow, Instant},
    wire::sip::Message,
};

#[derive(Debug, Default)]
pub(super) struct TrunkRegistrations(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    trunk: usize,
    machine: Registration,
    /// Of the last REGISTER, and when it left.
    flow: Option<Flow>,
    sent_at: Instant,
    /// As last logged.
    is_registered: bool,
}

impl TrunkRegistrations {
    pub(super) fn new(ctx: &mut Context) -> Self {
        let entry = |ctx: &mut Context, trunk: usize| {
            let account = account(ctx, trunk)?;
            let machine = Registration::new(account, ctx.rng.fork());
            Some(Entry { trunk, machine, flow: None, sent_at: ctx.now, is_registered: false })
        };
        Self((0..ctx.trunks.len()).filter_map(|trunk| entry(ctx, trunk)).collect())
    }

    /// Sends what is due. Returns whether anything was.
    pub(super) fn advance(&mut self, ctx: &mut Context) -> bool {
        let mut has_sent = false;
        for entry in &mut self.0 {
            entry.look_after_flow(ctx);
            if entry.machine.poll_output() == Output::Register {
                entry.send(ctx);
                has_sent = true;
            }
            entry.note_standing(ctx);
        }
        has_sent
    }

    /// A response, or a status that stands for none.
    pub(super) fn response(&mut self, ctx: &mut Context, trunk: usize, status: u16, response: Option<&Message>) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.trunk == trunk) {
            entry.response(ctx, status, response);
        }
    }

    pub(super) fn connection_failed(&mut self, now: Instant, connection: ConnectionId) {
        for entry in self.0.iter_mut().filter(|entry| entry.flow.is_some_and(|flow| flow.connection == connection)) {
            entry.machine.handle_input(now, Input::FlowLost);
        }
    }

    /// DNS has told something of a trunk.
    pub(super) fn resolved(&mut self, ctx: &Context, trunk: usize) {
        let is_reachable = !ctx.trunks.targets(trunk, &ctx.listeners).is_empty();
        for entry in self.0.iter_mut().filter(|entry| entry.trunk == trunk && is_reachable) {
            entry.machine.handle_input(ctx.now, Input::Reachable);
        }
    }

    /// Takes all of them back.
    pub(super) fn leave(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|entry| entry.machine.handle_input(now, Input::Leave));
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.0.iter_mut().for_each(|entry| entry.machine.handle_input(now, Input::Timeout));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let timer = |entry: &Entry| match entry.machine.poll_output() {
            Output::Timeout(at) => at,
            Output::Register => None,
        };
        self.0.iter().filter_map(timer).min()
    }

    /// Requests that have no answer.
    pub(super) fn open(&self) -> usize {
        self.0.iter().filter(|entry| entry.machine.is_busy()).count()
    }

    /// `None`: this server does not register at the trunk.
    pub(super) fn state(&self, now: Instant, trunk: usize) -> Option<State> {
        self.0.iter().find(|entry| entry.trunk == trunk).map(|entry| entry.machine.state(now))
    }
}

impl Entry {
    /// A registration at a server that does not answer any more, or over a connection that may be dead, brings no call: it moves
    /// to one that does.
    fn look_after_flow(&mut self, ctx: &Context) {
        let Some(flow) = self.flow.filter(|_| self.is_registered) else { return };
        let is_lost = ctx.trunks.is_skipped(ctx.now, self.trunk, &target_of(&flow))
            && ctx.trunks.has_healthy(ctx.now, self.trunk, &ctx.listeners);
        if is_lost || ctx.trunks.is_left(&flow) {
            self.machine.handle_input(ctx.now, Input::FlowLost);
        }
    }

    fn send(&mut self, ctx: &mut Context) {
        let Some(flow) = reach_one_of(ctx, self.trunk, |_| true) else {
            return self.machine.handle_input(ctx.now, Input::Unreachable);
        };
        (self.flow, self.sent_at) = (Some(flow), ctx.now);
        let contact = contact(ctx, &flow, ctx.trunks.trunk(self.trunk));
        let machine = &mut self.machine;
        ctx.send(flow, Owner::Registration(self.trunk), |_, via| machine.request(via, &contact));
    }

    fn response(&mut self, ctx: &mut Context, status: u16, response: Option<&Message>) {
        let Some(flow) = self.flow.filter(|_| status >= 200) else { return };
        let target = target_of(&flow);
        let is_of_server = response.is_none() || status == 503;
        if is_of_server {
            // What may be the connection's fault is not held against the server.
            if !ctx.trunks.unanswered(ctx.now, self.trunk, &flow, self.sent_at) {
                ctx.trunks.target_failed(ctx.now, self.trunk, target);
            }
        } else {
            ctx.trunks.target_answered(self.trunk, target);
        }
        let is_alternative_known = is_of_server && ctx.trunks.has_healthy(ctx.now, self.trunk, &ctx.listeners);
        let input = match response.filter(|_| !is_alternative_known) {
            Some(response) => Input::Response(response),
            None => Input::Failed { status, is_alternative_known },
        };
        self.machine.handle_input(ctx.now, input);
        if let State::Failed { status, .. } = self.machine.state(ctx.now) {
            warn!(trunk = ctx.trunks.trunk(self.trunk).name, status, "A registration at a trunk has failed.");
        }
    }

    /// Calls follow the registration.
    fn note_standing(&mut self, ctx: &mut Context) {
        let is_registered = matches!(self.machine.state(ctx.now), State::Registered { .. });
        let home = self.flow.as_ref().map(target_of).filter(|_| is_registered);
        ctx.trunks.set_home(self.trunk, home, self.machine.service_route());
        if is_registered && !self.is_registered {
            info!(trunk = ctx.trunks.trunk(self.trunk).name, "Registered at a trunk.");
        }
        self.is_registered = is_registered;
    }
}

/// `None`: nothing is registered at this trunk.
fn account(ctx: &Context, index: usize) -> Option<Account> {
    let trunk = ctx.trunks.trunk(index);
    let user = trunk.user.as_ref().filter(|_| trunk.is_enabled && trunk.register != Register::Off)?;
    let domain = host(trunk.domain());
    Some(Account {
        address_of_record: format!("sip:{}@{domain}", escaped_user(user)),
        registrar: format!("sip:{domain}"),
        is_bulk: trunk.register == Register::Bulk,
        expires_s: trunk.register_expires_s.into(),
        credentials: ctx.trunks.password(index).map(|password| (user.clone(), password.clone())),
    })
}

/// A bulk registration's names no user (RFC 6140 section 5.2).
fn contact(ctx: &Context, flow: &Flow, trunk: &Trunk) -> String {
    match (trunk.register, &trunk.user) {
        (Register::Bulk, _) => {
            format!("<sip:{};transport={};bnc>", ctx.reachable(flow), flow.transport.uri_token())
        }
        (Register::Account | Register::Off, user) => {
            ctx.contact(flow, &escaped_user(user.as_deref().unwrap_or_default()), false)
        }
    }
}
