//! From a trunk's server that fails to its next one, within the same call (RFC 3263 section 4.3).

use super::{call::Call, context::Context, emergency_call, fork::Attempt, interface::Output};
use crate::{
    sip::locate::Target,
    types::{Duration, Flow, Instant, limits},
};

/// A server that answers nothing at all, not even 100, is given up after this time if there is another one, of its trunk or of
/// the next.
const NO_RESPONSE: Duration = Duration::from_secs(4);

/// A server that says 100 and nothing more is given up after this time if there is another one: its carrier may have lost what is
/// behind it. Calls abroad may be silent for half of it.
const NO_PROGRESS: Duration = Duration::from_secs(20);

/// The trunks' targets that a call has had trouble with.
#[derive(Debug, Default)]
pub(super) struct Failover(Vec<(usize, Target, Trouble)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Failed,
    /// It has said nothing to an emergency call, which tries it over another connection.
    Reconnected,
}

impl Failover {
    /// Those of one trunk that have failed.
    pub(super) fn of(&self, trunk: usize) -> Vec<Target> {
        let is_it = |(index, _, trouble): &&(usize, Target, Trouble)| *index == trunk && *trouble == Trouble::Failed;
        self.0.iter().filter(is_it).map(|(_, target, _)| *target).collect()
    }

    /// Whether a silent target may be tried once more over another connection.
    fn may_reconnect(&self, trunk: usize, target: Target) -> bool {
        !self.0.contains(&(trunk, target, Trouble::Reconnected))
    }
}

pub(super) const fn target_of(flow: &Flow) -> Target {
    Target { transport: flow.transport, address: flow.remote }
}

impl Call {
    /// How long a server that has said 100 may say nothing else.
    pub(super) const fn no_progress(&self) -> Duration {
        if self.emergency.is_some() { emergency_call::NO_PROGRESS } else { NO_PROGRESS }
    }

    /// When an attempt without any answer is given up.
    pub(super) fn silence_deadline(&self, ctx: &Context, attempt: &Attempt, flow: &Flow) -> Option<Instant> {
        if self.emergency.is_some() {
            return Some(ctx.now + emergency_call::NO_RESPONSE);
        }
        let trunk = attempt.trunk()?;
        let mut failed = self.failover.of(trunk);
        failed.push(target_of(flow));
        let is_last = self.plan.is_empty() && !self.may_go_on(ctx, trunk, &failed);
        (!is_last).then(|| ctx.now + NO_RESPONSE)
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

    /// Whether the trunk of an emergency call whose time is up has some more, because there is nothing else to try.
    pub(super) fn waits_on(&mut self, ctx: &Context, number: u32) -> bool {
        let Some(branch) = self.branches.get(&number).filter(|_| self.emergency.is_some()) else { return false };
        let until = branch.sent_at + emergency_call::LAST_CHANCE;
        let has_other_server = branch.trunk().is_some_and(|trunk| {
            let mut failed = self.failover.of(trunk);
            failed.push(target_of(&branch.leg.flow));
            self.may_go_on(ctx, trunk, &failed)
        });
        let may_reconnect = branch.trunk().is_some_and(|trunk| {
            let target = target_of(&branch.leg.flow);
            self.failover.may_reconnect(trunk, target)
                && ctx.trunks.has_older_connection(trunk, &target, branch.sent_at)
        });
        let is_last = self.plan.is_empty() && !has_other_server && !may_reconnect && ctx.now < until;
        if let Some(branch) = self.branches.get_mut(&number).filter(|_| is_last) {
            branch.deadline = Some(until);
        }
        is_last
    }

    /// A branch whose deadline has come is given up in favour of whatever is next.
    pub(super) fn note_server_silence(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get(&number) else { return };
        let has_tried = branch.deadline == Some(branch.sent_at + self.no_progress());
        if !has_tried && self.reconnects(ctx, number) {
            return;
        }
        self.next_server(ctx, number, if has_tried { Server::Stuck } else { Server::Down });
    }

    /// An emergency call whose connection says nothing tries the same server over another one, once: it may be the connection alone that
    /// is dead.
    fn reconnects(&mut self, ctx: &mut Context, number: u32) -> bool {
        let Some(branch) = self.branches.get(&number).filter(|_| self.emergency.is_some()) else { return false };
        let Some((attempt, trunk)) = branch.attempt.clone().and_then(|a| a.trunk().map(|trunk| (a, trunk))) else {
            return false;
        };
        let (target, sent_at) = (target_of(&branch.leg.flow), branch.sent_at);
        if !self.failover.may_reconnect(trunk, target) || !ctx.trunks.has_older_connection(trunk, &target, sent_at) {
            return false;
        }
        if let Some(flow) = ctx.trunks.leave_connection(trunk, target) {
            ctx.outputs.push_back(Output::Close { flow });
        }
        self.failover.0.push((trunk, target, Trouble::Reconnected));
        self.plan.retry(attempt);
        true
    }

    fn next_server(&mut self, ctx: &mut Context, number: u32, server: Server) {
        let Some(branch) = self.branches.get(&number) else { return };
        let Some((attempt, trunk)) = branch.attempt.clone().and_then(|a| a.trunk().map(|trunk| (a, trunk))) else {
            return;
        };
        let target = target_of(&branch.leg.flow);
        self.failover.0.push((trunk, target, Trouble::Failed));
        if server == Server::Down {
            ctx.trunks.target_failed(ctx.now, trunk, target);
        }
        let failed = self.failover.of(trunk);
        if !self.may_go_on(ctx, trunk, &failed) {
            return;
        }
        // In an emergency a second carrier is a better chance than a third server of the first, or a second behind which
        // the same trouble waits.
        if self.emergency.is_some() && (failed.len() > 1 || server == Server::Stuck) {
            self.plan.later(attempt);
        } else {
            self.plan.retry(attempt);
        }
    }

    fn may_go_on(&self, ctx: &Context, trunk: usize, failed: &[Target]) -> bool {
        failed.len() < limits::TRUNK_SERVERS_PER_CALL_MAX
            && ctx.trunks.has(trunk, |target| !failed.contains(target), &ctx.listeners)
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
