//! From a trunk's server that fails to its next one, within the same call (RFC 3263 section 4.3).

use super::{call::Call, context::Context, emergency_call, fork::Attempt};
use crate::{
    sip::locate::Target,
    types::{Duration, Flow, Instant, limits},
};

/// A server that answers nothing at all, not even 100, is given up after this time if there is another one, of its trunk or of
/// the next.
const NO_RESPONSE: Duration = Duration::from_secs(4);

/// The trunks' targets that have failed a call.
#[derive(Debug, Default)]
pub(super) struct Failover(Vec<(usize, Target)>);

impl Failover {
    /// Those of one trunk.
    pub(super) fn of(&self, trunk: usize) -> Vec<Target> {
        self.0.iter().filter(|(index, _)| *index == trunk).map(|(_, target)| *target).collect()
    }
}

pub(super) const fn target_of(flow: &Flow) -> Target {
    Target { transport: flow.transport, address: flow.remote }
}

impl Call {
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
        let is_last = self.plan.is_empty() && !has_other_server && ctx.now < until;
        if let Some(branch) = self.branches.get_mut(&number).filter(|_| is_last) {
            branch.deadline = Some(until);
        }
        is_last
    }

    /// A branch whose deadline has come is given up in favour of whatever is next.
    pub(super) fn note_server_silence(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get(&number) else { return };
        let has_tried =
            self.emergency.is_some() && branch.deadline == Some(branch.sent_at + emergency_call::NO_PROGRESS);
        self.next_server(ctx, number, if has_tried { Server::Stuck } else { Server::Down });
    }

    fn next_server(&mut self, ctx: &mut Context, number: u32, server: Server) {
        let Some(branch) = self.branches.get(&number) else { return };
        let Some((attempt, trunk)) = branch.attempt.clone().and_then(|a| a.trunk().map(|trunk| (a, trunk))) else {
            return;
        };
        let target = target_of(&branch.leg.flow);
        self.failover.0.push((trunk, target));
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
