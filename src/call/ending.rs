//! How a call ends, whole or branch by branch.

use tracing::info;

use super::{
    call::{Call, State},
    capacity::Rejection,
    cdr::EndedBy,
    context::{Context, SHUTTING_DOWN},
    emergency_call,
    fork::{Branch, Failure, Progress},
};
use crate::{
    policy::emergency::Class,
    wire::sip::{
        build::reason_phrase,
        reason::{self, COMPLETED_ELSEWHERE, PREEMPTION},
    },
};

impl Call {
    /// Refuses the caller's INVITE, where there is one, and ends the call.
    pub(super) fn fail(&mut self, ctx: &mut Context, failure: &Failure, warning: Option<&str>) {
        self.note_not_connected(ctx, failure);
        let tag = self.a.local_tag.clone();
        if let Some(invite) = self.a.server_invite.as_mut().filter(|i| !i.is_answered) {
            invite.is_answered = true;
            let pending = invite.pending.clone();
            let mut response = ctx.response(&pending, failure.status, &failure.reason, &tag);
            if let Some(text) = warning {
                response = response.header("Warning", ctx.warning(text));
            }
            if let Some(cause) = &failure.cause {
                response = response.header("Reason", cause);
            }
            if failure.status == 503 && self.emergency.is_none() {
                response = response.header("Retry-After", 5);
            }
            if let Some(info) = self.emergency.as_ref().filter(|_| failure.status == 503) {
                response = emergency_call::not_connected_response(ctx, info, response);
            }
            ctx.respond(pending.txn, failure.status, response.finish());
            ctx.counters.calls_refused += 1;
            if *failure == Failure::no_port() {
                ctx.counters.count_rejection(Rejection::MediaPorts);
            }
        }
        if self.reason.is_empty() {
            self.reason = reason::sip(failure.status, "");
        }
        self.finish(ctx, EndedBy::Server, failure.status, &failure.reason);
    }

    /// An emergency call that has not come through is counted, and the desks hear of it, whichever way it began (emergency
    /// RULES 7.1). Who has given up has not failed, and who only takes an emergency call over has not made one.
    fn note_not_connected(&mut self, ctx: &mut Context, failure: &Failure) {
        let is_emergency = self.emergency.as_ref().is_some_and(|info| info.class == Class::Emergency);
        if is_emergency && !self.takes_over && self.state == State::Setup && failure.status != 487 {
            ctx.counters.emergency_failed += 1;
            self.is_failure_untold = true;
        }
    }

    /// CANCEL from the caller (RFC 3261 section 9.2).
    pub(super) fn cancelled(&mut self, ctx: &mut Context) {
        if self.state == State::Setup {
            self.answer_a(ctx, 487, "", None);
            self.finish(ctx, EndedBy::Caller, 487, "");
        }
    }

    /// Ends an answered call from our side.
    pub(super) fn hang_up_both(&mut self, ctx: &mut Context, status: u16, reason: &str) {
        self.hang_up(ctx, EndedBy::Server, status, reason);
    }

    /// Ends this ordinary call in favour of an emergency call (emergency RULES 5.5).
    pub(super) fn preempt(&mut self, ctx: &mut Context) {
        let failure = Failure { cause: Some(PREEMPTION.to_owned()), ..Failure::new(503, "Preempted") };
        match self.state {
            State::Setup => {
                PREEMPTION.clone_into(&mut self.reason);
                self.fail(ctx, &failure, None);
            }
            State::Answered(_) => self.end_because(ctx, EndedBy::Server, (503, "Preempted"), PREEMPTION.to_owned()),
            State::Ended => {}
        }
    }

    /// Ends this call because the server ends.
    pub(super) fn shut_down(&mut self, ctx: &mut Context) {
        match self.state {
            State::Setup => self.fail(ctx, &Failure::new(503, SHUTTING_DOWN), None),
            State::Answered(_) => self.hang_up(ctx, EndedBy::Server, 503, SHUTTING_DOWN),
            State::Ended => {}
        }
    }

    /// A test call has lasted long enough, or rung too long.
    pub(super) fn end_test(&mut self, ctx: &mut Context) {
        match self.state {
            State::Setup => self.finish(ctx, EndedBy::Server, 408, ""),
            State::Answered(_) => self.hang_up(ctx, EndedBy::Server, 200, ""),
            State::Ended => {}
        }
    }

    pub(super) fn hang_up(&mut self, ctx: &mut Context, ended_by: EndedBy, status: u16, reason: &str) {
        let told = if status < 300 { String::new() } else { reason::sip(status, reason) };
        self.end_because(ctx, ended_by, (status, reason), told);
    }

    /// `told`: the Reason of our BYEs, or empty.
    fn end_because(&mut self, ctx: &mut Context, ended_by: EndedBy, (status, reason): (u16, &str), told: String) {
        self.refuse_open_invites(ctx);
        self.reason = told;
        if let State::Answered(number) = self.state {
            self.a.bye_reason = Some(self.reason.clone()).filter(|reason| !reason.is_empty());
            self.a.bye(ctx);
            if let Some(branch) = self.branches.get_mut(&number) {
                branch.leg.bye_reason.clone_from(&self.a.bye_reason);
                branch.leg.bye(ctx);
            }
        }
        self.finish(ctx, ended_by, status, reason);
    }

    /// Ends everything that is still open. Safe to call twice.
    pub(super) fn finish(&mut self, ctx: &mut Context, ended_by: EndedBy, status: u16, reason: &str) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        self.plan.give_up();
        (self.waits_for_room, self.test_until) = (None, None);
        self.cdr.end(ctx, ended_by, status, if reason.is_empty() { reason_phrase(status) } else { reason });
        self.cancel_branches(ctx, None);
        self.refuse_relayed(ctx);
        if let Some(number) = self.early {
            self.leave_early_update(ctx, number);
        }
        for leg in std::iter::once(&self.a).chain(self.branches.values().map(|b| &b.leg)) {
            if let Some(txn) = leg.client_invite {
                ctx.cancel_because(txn, &self.reason);
            }
        }
        self.a.close_media(ctx);
        self.a.leave_dialog(ctx);
        for branch in self.branches.values_mut() {
            branch.leg.decline(ctx);
            branch.leg.close_media(ctx);
            if branch.progress == Progress::Over {
                branch.leg.leave_dialog(ctx);
            }
        }
        info!(call = %self.id, status, "Call ends.");
        if let Some(info) = &self.emergency {
            emergency_call::log_end(ctx, self.id, info, self.cdr.answer_ms.is_some(), status);
        }
    }

    // Branches.

    /// Cancels every branch that has no final answer, except one.
    pub(super) fn cancel_branches(&mut self, ctx: &mut Context, except: Option<u32>) {
        let others: Vec<u32> = self.branches.keys().copied().filter(|number| Some(*number) != except).collect();
        for number in others {
            self.cancel_branch(ctx, number);
        }
    }

    pub(super) fn cancel_where(&mut self, ctx: &mut Context, is_meant: impl Fn(&Branch) -> bool) {
        let meant: Vec<u32> = self.branches.iter().filter(|(_, b)| is_meant(b)).map(|(number, _)| *number).collect();
        for number in meant {
            self.cancel_branch(ctx, number);
        }
    }

    /// A branch that still has no final answer is not wanted any more, not even if its 200 is on its way.
    pub(super) fn cancel_branch(&mut self, ctx: &mut Context, number: u32) {
        let reason = match self.state {
            State::Answered(_) => COMPLETED_ELSEWHERE.to_owned(),
            State::Setup | State::Ended => self.reason.clone(),
        };
        let is_open = |b: &&mut Box<Branch>| !matches!(b.progress, Progress::Cancelled | Progress::Over);
        let Some(branch) = self.branches.get_mut(&number).filter(is_open) else { return };
        branch.progress = Progress::Cancelled;
        branch.deadline = None;
        branch.leg.bye_reason = Some(reason.clone()).filter(|reason| !reason.is_empty());
        ctx.cancel_because(branch.txn, &reason);
        branch.leg.close_media(ctx);
        self.leave_early(ctx, number);
        if let Some(response) = self.provisionals.take_held(number) {
            self.branch_answered(ctx, number, &response);
        }
    }

    /// Ends one branch that is not, or no longer, part of the call.
    pub(super) fn drop_branch(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        // A dialog that was confirmed (its 2xx is here) is ended by BYE; an early one dies with its transaction.
        let cseq = branch.invite.as_ref().and_then(|invite| invite.cseq());
        let is_confirmed = cseq.is_some_and(|c| branch.leg.has_acknowledged(c.number));
        if is_confirmed || branch.leg.owes_answer() {
            branch.leg.bye(ctx);
        }
        branch.leg.close_media(ctx);
        branch.leg.leave_dialog(ctx);
        self.provisionals.take_held(number);
        self.leave_early(ctx, number);
    }
}
