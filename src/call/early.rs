//! Early media and what the caller is told of it.
//!
//! Every branch has a media leg of its own. The caller hears the first branch that sends a session description before it
//! answers; if that one is left, another one that has. To the caller the first description is the answer, and it ignores
//! those of later responses (RFC 3261 section 13.2.1). So it is told the same one until its ACK; if somebody else has
//! answered by then and speaks differently, a re-INVITE says so.

use bytes::Bytes;

use super::{
    call::{Call, State},
    context::{Context, Side},
    fork::{Branch, Failure, Progress},
    in_dialog::description,
    provisional::Arrival,
};
use crate::{sip::offer_answer::is_same_media, wire::sip::Message};

impl Call {
    /// Reads the answer in a provisional response. Returns whether the caller is to hear this branch.
    pub(super) fn early_media(&mut self, ctx: &mut Context, number: u32, response: &Message, arrival: Arrival) -> bool {
        let Some(body) = description(response) else { return false };
        let Some(branch) = self.branches.get(&number) else { return false };
        if !branch.has_offered() || branch.settled_in(response).is_some() {
            return false;
        }
        let is_final = arrival == Arrival::Reliable;
        if branch.before_update.is_some() {
            return self.keep_for_its_dialog(number, response, is_final.then_some(body));
        }
        if let Err(text) = self.read_answer_of_b(ctx, number, &body) {
            if is_final {
                tracing::debug!(call = %self.id, reason = text, "The callee's early answer is unusable.");
                self.branch_left(ctx, number, Failure::new(488, "Not Acceptable Here"));
            }
            return false;
        }
        let Some(branch) = self.branches.get_mut(&number) else { return false };
        if is_final {
            branch.settle_in(response, body);
        }
        let is_heard = branch.progress != Progress::GivenUp && self.early.is_none_or(|early| early == number);
        if is_heard {
            self.early = Some(number);
        }
        is_heard
    }

    /// The answer for the caller while it hears this branch, with the media of both joined; `None`: it has one, or does not
    /// hear the branch any more.
    pub(super) fn early_answer(&mut self, ctx: &mut Context, number: u32) -> Option<String> {
        if self.early != Some(number) {
            return None;
        }
        let answer = self.settle_a(ctx, number).ok()??;
        if self.told.is_none() {
            self.told.clone_from(&self.branches[&number].leg.session);
        }
        Some(answer)
    }

    /// Reads a branch's answer.
    pub(super) fn read_answer_of_b(
        &mut self,
        ctx: &mut Context,
        number: u32,
        body: &Bytes,
    ) -> Result<(), &'static str> {
        let branch = self.branches.get_mut(&number).ok_or("the branch is gone")?;
        let (session, settled) = branch.leg.negotiation.read_answer(body).map_err(|fault| fault.text())?;
        branch.leg.session = Some(session);
        branch.leg.configure(ctx, &settled);
        branch.is_negotiated = true;
        Ok(())
    }

    /// Joins the caller with a branch and makes the answer for it: of what the branch said, unless the caller was told
    /// something already. `None`: it has that answer, or has itself answered.
    pub(super) fn settle_a(&mut self, ctx: &mut Context, number: u32) -> Result<Option<String>, &'static str> {
        let branch = self.branches.get(&number).ok_or("the branch is gone")?;
        let answer = if self.has_offer && !self.provisionals.is_settled() {
            let session = self.told.as_ref().or(branch.leg.session.as_ref()).ok_or("no answer was read")?;
            let local = self.a.local_media(ctx);
            let (answer, settled) =
                self.a.negotiation.answer(&mut ctx.rng, session, &local).map_err(|fault| fault.text())?;
            self.a.configure(ctx, &settled);
            Some(answer)
        } else {
            None
        };
        self.join_media(ctx, number);
        Ok(answer)
    }

    /// The caller hears this branch, unless it hears another already.
    pub(super) fn hear(&mut self, ctx: &mut Context, number: u32) {
        if self.early.is_none_or(|early| early == number) {
            self.early = Some(number);
            self.join_media(ctx, number);
        }
    }

    /// A branch is left; if the caller heard it, it hears another one that fits what it was told.
    pub(super) fn leave_early(&mut self, ctx: &mut Context, number: u32) {
        self.leave_early_update(ctx, number);
        if self.early.take_if(|early| *early == number).is_none() || self.state != State::Setup {
            return;
        }
        let fits = |branch: &Branch| match (&self.told, &branch.leg.session) {
            (Some(told), Some(session)) => is_same_media(told, session),
            (None, Some(_)) => true,
            (Some(_) | None, None) => false,
        };
        let is_heard = |branch: &Branch| branch.progress == Progress::Ringing && branch.is_negotiated && fits(branch);
        let next = self.branches.iter().find(|(_, branch)| is_heard(branch)).map(|(next, _)| *next);
        if let Some(next) = next {
            self.hear(ctx, next);
        }
    }

    /// The caller has acknowledged the answer, and may now be offered what holds since somebody else answered than it heard
    /// before.
    pub(super) fn correct_a(&mut self, ctx: &mut Context) {
        if self.catch_up(ctx) {
            return;
        }
        let (Some(told), State::Answered(number)) = (self.told.take(), self.state) else { return };
        let session = self.branches.get(&number).and_then(|branch| branch.leg.session.clone());
        let Some(session) = session.filter(|session| !is_same_media(&told, session)) else { return };
        self.pass_offer(ctx, Side::B(number), Side::A, &session);
        // Only this side is out of step: its answer goes no further.
        self.a.is_restoring = self.a.client_invite.is_some();
        self.join_media(ctx, number);
    }
}
