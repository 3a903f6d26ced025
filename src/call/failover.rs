//! From a trunk's server that fails to its next one, within the same call (RFC 3263 section 4.3).

use super::{call::Call, context::Context, emergency_call, fork::Attempt};
use crate::{
    sip::locate::Target,
    types::{Duration, Flow, Instant, limits},
};

/// A server that answers nothing at all, not even 100, is given up after this time if there is another one, of its trunk or of
/// the next.
const NO_RESPONSE: Duration = Duration::from_secs(4);

/// ... and one that says nothing but 100 after this: the system behind it may be dead.
const NO_PROGRESS: Duration = Duration::from_secs(20);

/// The trunks' targets that have failed a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Failover(Vec<Failed>);

#[derive(Clone, Copy, Debug)]
struct Failed {
    trunk: usize,
    target: Target,
    /// Over a connection that may be dead: it has one more chance, over another connection, when nothing else is left of its
    /// trunk.
    is_unheard: bool,
}

impl Failover {
    pub(super) fn has_failed(&self, trunk: usize, target: &Target) -> bool {
        self.failures_of(trunk, target).next().is_some()
    }

    pub(super) fn has_another_chance(&self, trunk: usize, target: &Target) -> bool {
        let mut failures = self.failures_of(trunk, target);
        failures.next().is_some_and(|failed| failed.is_unheard) && failures.next().is_none()
    }

    fn failures_of(&self, trunk: usize, target: &Target) -> impl Iterator<Item = &Failed> {
        self.0.iter().filter(move |failed| failed.trunk == trunk && failed.target == *target)
    }

    /// What is left of a trunk.
    fn rest(&self, ctx: &Context, trunk: usize) -> Rest {
        let has = |will_do: &dyn Fn(&Target) -> bool| ctx.trunks.has(trunk, will_do, &ctx.listeners);
        let tried = self.0.iter().filter(|failed| failed.trunk == trunk).count();
        if tried >= limits::TRUNK_SERVERS_PER_CALL_MAX {
            Rest::Nothing
        } else if has(&|target| !self.has_failed(trunk, target)) {
            Rest::Server { is_second: tried == 1 }
        } else if has(&|target| self.has_another_chance(trunk, target)) {
            Rest::Connection
        } else {
            Rest::Nothing
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Server {
        is_second: bool,
    },
    /// Another connection to a server that was silent on an old one.
    Connection,
    Nothing,
}

pub(super) const fn target_of(flow: &Flow) -> Target {
    Target { transport: flow.transport, address: flow.remote }
}

impl Call {
    /// How long after its INVITE a server may say nothing but 100.
    pub(super) const fn no_progress(&self) -> Duration {
        if self.emergency.is_some() { emergency_call::NO_PROGRESS } else { NO_PROGRESS }
    }

    /// When an attempt without any answer is given up.
    pub(super) fn silence_deadline(&self, ctx: &Context, attempt: &Attempt, flow: &Flow) -> Option<Instant> {
        if self.emergency.is_some() {
            return Some(ctx.now + emergency_call::NO_RESPONSE);
        }
        let trunk = attempt.trunk()?;
        let is_last = self.plan.is_empty() && self.rest_without(ctx, trunk, flow, ctx.now) == Rest::Nothing;
        (!is_last).then(|| ctx.now + NO_RESPONSE)
    }

    /// What would be left of a trunk without the server to which a request went then.
    fn rest_without(&self, ctx: &Context, trunk: usize, flow: &Flow, sent_at: Instant) -> Rest {
        let mut failover = self.failover.clone();
        let is_unheard = ctx.trunks.is_unheard(flow, sent_at);
        failover.0.push(Failed { trunk, target: target_of(flow), is_unheard });
        failover.rest(ctx, trunk)
    }

    /// Any answer but 503 ends what was held against a server.
    pub(super) fn note_server_answer(&self, ctx: &mut Context, number: u32, status: u16) {
        let Some(branch) = self.branches.get(&number) else { return };
        if let Some(trunk) = branch.trunk().filter(|_| status != 503) {
            ctx.trunks.target_answered(trunk, target_of(&branch.leg.flow));
        }
    }

    /// A branch whose server had said nothing but 100 has failed with this status. Timeouts, transport failures and 503
    /// speak of the server, not of the callee. After any other provisional response the call may have rung, so then this
    /// is not asked.
    pub(super) fn note_server_failure(&mut self, ctx: &mut Context, number: u32, status: u16) {
        if matches!(status, 408 | 503) {
            self.next_server(ctx, number, Server::Down);
        }
    }

    /// Whether the trunk of a call whose time is up has some more, because there is nothing else to try.
    pub(super) fn waits_on(&mut self, ctx: &Context, number: u32) -> bool {
        let Some(branch) = self.branches.get(&number) else { return false };
        let until = self.emergency.is_some().then(|| branch.sent_at + emergency_call::LAST_CHANCE);
        let rest = branch.trunk().map(|trunk| self.rest_without(ctx, trunk, &branch.leg.flow, branch.sent_at));
        let is_last = self.plan.is_empty()
            && rest.is_none_or(|rest| rest == Rest::Nothing)
            && until.is_none_or(|until| ctx.now < until);
        if let Some(branch) = self.branches.get_mut(&number).filter(|_| is_last) {
            branch.deadline = until;
        }
        is_last
    }

    /// A branch whose deadline has come is given up in favour of whatever is next.
    pub(super) fn note_server_silence(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get(&number) else { return };
        let has_tried = branch.deadline == Some(branch.sent_at + self.no_progress());
        self.next_server(ctx, number, if has_tried { Server::Stuck } else { Server::Down });
    }

    fn next_server(&mut self, ctx: &mut Context, number: u32, server: Server) {
        let Some(branch) = self.branches.get(&number) else { return };
        let Some((attempt, trunk)) = branch.attempt.clone().and_then(|a| a.trunk().map(|trunk| (a, trunk))) else {
            return;
        };
        let (flow, sent_at) = (branch.leg.flow, branch.sent_at);
        let target = target_of(&flow);
        let is_unheard = ctx.trunks.unanswered(ctx.now, trunk, &flow, sent_at);
        self.failover.0.push(Failed { trunk, target, is_unheard });
        // What may be the connection's fault is not held against the server.
        if server == Server::Down && !self.failover.has_another_chance(trunk, &target) {
            ctx.trunks.target_failed(ctx.now, trunk, target);
        }
        match self.failover.rest(ctx, trunk) {
            Rest::Nothing => {}
            Rest::Connection => self.plan.later(attempt),
            // In an emergency a second carrier is a better chance than a third server of the first, or a second behind which
            // the same trouble waits.
            Rest::Server { is_second } if self.emergency.is_some() && (!is_second || server == Server::Stuck) => {
                self.plan.later(attempt);
            }
            Rest::Server { .. } => self.plan.retry(attempt),
        }
    }
}

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// It does not answer, or not now: other calls keep away from it.
    Down,
    /// It has answered 100 and gets no further.
    Stuck,
}
