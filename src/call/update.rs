//! UPDATE (RFC 3311), and the limit on how long any modification of a session may take.
//!
//! Decisions
//! - An UPDATE without offer concerns its leg alone: it moves the target or refreshes the session, and is answered here.
//! - An offer goes to the other leg as an UPDATE where an UPDATE brought it and the peer allows one, else as a re-INVITE.
//! - A 491 of the other side is passed on to whoever asked: each side waits as long as its own leg's Call-ID demands (RFC
//!   3261 section 14.1), which differs on both ends of a leg, so the next attempts do not meet again.

use super::{
    call::{Call, State},
    context::{ALLOW, Context, Pending, Side},
    in_dialog::description,
    leg::Leg,
};
use crate::{
    sip::session_timer::SessionTimer,
    types::{Duration, Instant, limits},
    wire::sip::reason,
};

/// How long an UPDATE may wait for the other side.
pub(super) const UPDATE_MAX: Duration = Duration::from_secs(limits::UPDATE_S_MAX);

impl Call {
    pub(super) fn update(&mut self, ctx: &mut Context, side: Side, pending: Pending) {
        let has_offer = description(&pending.request).is_some();
        match (self.state, side) {
            (State::Setup, _) if has_offer => self.early_offer(ctx, side, pending),
            (State::Answered(_), _) if has_offer => self.reinvite(ctx, side, pending),
            (State::Setup | State::Answered(_) | State::Ended, _) => self.refresh_target(ctx, side, &pending),
        }
    }

    /// Answers an UPDATE without offer.
    fn refresh_target(&mut self, ctx: &mut Context, side: Side, pending: &Pending) {
        if let Some((name, value)) = SessionTimer::refusal(&pending.request).filter(|_| self.emergency.is_none()) {
            return ctx.refuse_with(pending, 422, "", &[(name, &value)]);
        }
        let Some(leg) = self.leg_mut(side) else { return };
        let contact = leg.contact(ctx);
        let response = ctx.response(pending, 200, "", "").header("Contact", contact).header("Allow", ALLOW);
        let response = leg.accept_session(ctx.now, &pending.request, response);
        ctx.respond(pending.txn, 200, response.finish());
    }

    /// Whether an UPDATE of the other side waits for what `side` says.
    pub(super) fn is_for_update(&mut self, side: Side) -> bool {
        let asker =
            self.opposite(side).and_then(|other| self.leg_mut(other)).and_then(|leg| leg.server_invite.as_ref());
        asker.is_some_and(|asker| !asker.is_answered && asker.is_update())
    }

    /// The peer allows UPDATE and then refuses it: the same as a re-INVITE.
    pub(super) fn reinvite_instead(&mut self, ctx: &mut Context, side: Side) {
        let Some(leg) = self.leg_mut(side) else { return };
        leg.allows_update = false;
        leg.client_invite = None;
        let deadline = leg.client_deadline;
        match leg.offer.take() {
            Some(offer) => {
                leg.reinvite(ctx, offer.expose().clone());
                leg.client_deadline = deadline;
            }
            None => self.refresh(ctx, side),
        }
    }

    // How long it may take.

    /// When [`Call::give_up_late`] is due.
    pub(super) fn answers_deadline(&self) -> Option<Instant> {
        let State::Answered(number) = self.state else { return None };
        let b = self.branches.get(&number).map(|branch| &branch.leg);
        let deadline = |leg: &Leg| leg.client_deadline.filter(|_| leg.client_invite.is_some());
        [deadline(&self.a), b.and_then(deadline)].into_iter().flatten().min()
    }

    /// Cancels an INVITE of ours in the dialog that is not answered; whoever asked for it hears so.
    pub(super) fn give_up_late(&mut self, ctx: &mut Context) {
        let State::Answered(number) = self.state else { return };
        for (side, other) in [(Side::A, Side::B(number)), (Side::B(number), Side::A)] {
            let Some(leg) = self.leg_mut(side) else { continue };
            let is_late = leg.client_deadline.is_some_and(|at| at <= ctx.now);
            if let Some(txn) = leg.client_invite.filter(|_| is_late) {
                leg.client_deadline = None;
                ctx.cancel_because(txn, &reason::sip(408, ""));
                self.refuse_reinvite(ctx, other, 408, "");
            }
        }
    }
}
