//! Offers in early dialogs (RFC 3311): UPDATE before the call is answered.
//!
//! ```text
//! caller                     server                     branch
//!   |          183 (reliable, SDP) and PRACK on both legs  |
//!   |                          |  UPDATE (offer)           |
//!   |  UPDATE (offer)          |<--------------------------|
//!   |<-------------------------|                           |
//!   |  200 (answer)            |                           |
//!   |------------------------->|  200 (answer)             |
//!   |                          |-------------------------->|
//! ```
//!
//! Decisions
//! - Only the branch that the caller hears may change what they hear, and only once both legs have settled the offer of
//!   the INVITE by reliable responses. Until then the sender may try again later: the caller is told so by 500, a callee
//!   by 491 (section 5.2).
//! - A side that does not allow UPDATE can be offered nothing early: 504, as section 5.2 has it for what takes too long.
//! - A side that says nothing costs the other its answer no longer than [`UPDATE_MAX`]: later than its own timer F nobody
//!   would hear it. What the silent side accepts after all is put right.
//! - In an emergency nothing changes before the answer.

use super::{
    call::{Call, State},
    context::{ALLOW, Context, Pending, Side},
    in_dialog::{description, refuse_for_now},
    update::UPDATE_MAX,
};
use crate::{
    sip::session_timer::SessionTimer,
    types::Instant,
    wire::{
        sdp::Session,
        sip::{Message, Method},
    },
};

/// An offer on its way from one leg to the other.
#[derive(Debug)]
pub(super) struct EarlyUpdate {
    asker: Side,
    target: Side,
    /// `None`: the asker is gone or has its answer, and what the target says concerns the target alone.
    pending: Option<Pending>,
    offer: Session,
}

impl Call {
    /// The other end of an early dialog that may be offered something.
    fn early_partner(&self, side: Side) -> Option<Side> {
        let number = self.early.filter(|_| self.emergency.is_none())?;
        let branch = self.branches.get(&number)?;
        let tag = branch.leg.dialog.as_ref().map(|dialog| &dialog.id.remote_tag);
        if !self.provisionals.is_settled() || !tag.is_some_and(|tag| branch.is_settled_with(tag)) {
            return None;
        }
        match side {
            Side::A => Some(Side::B(number)),
            Side::B(from) => (from == number).then_some(Side::A),
        }
    }

    pub(super) fn early_offer(&mut self, ctx: &mut Context, side: Side, pending: Pending) {
        let is_own = self.early_update.as_ref().map(|update| update.asker == side);
        let Some(target) = self.early_partner(side).filter(|_| is_own.is_none()) else {
            let status = if is_own.unwrap_or(side == Side::A) { 500 } else { 491 };
            return refuse_for_now(ctx, &pending, status);
        };
        if let Some((name, value)) = SessionTimer::refusal(&pending.request) {
            return ctx.refuse_with(&pending, 422, "", &[(name, &value)]);
        }
        if self.leg_mut(target).is_none_or(|leg| !leg.allows_update) {
            return ctx.refuse(&pending, 504, "");
        }
        self.remember();
        let body = description(&pending.request).unwrap_or_default();
        let Some(leg) = self.leg_mut(side) else { return };
        match leg.negotiation.read_offer(&body) {
            Ok(offer) => self.pass_early_offer(ctx, EarlyUpdate { asker: side, target, pending: Some(pending), offer }),
            Err(fault) => {
                let warning = ctx.warning(fault.text());
                ctx.refuse_with(&pending, 488, "", &[("Warning", &warning)]);
            }
        }
    }

    fn pass_early_offer(&mut self, ctx: &mut Context, update: EarlyUpdate) {
        let (call, worker) = (self.id, self.worker);
        if let Some(branch) = self.early.and_then(|number| self.branches.get_mut(&number)) {
            branch.outdate_settled();
        }
        for side in [update.asker, update.target] {
            let has_ports =
                self.leg_mut(side).is_some_and(|leg| leg.open_media(ctx, call, side, worker, &update.offer));
            if !has_ports {
                return self.refuse_early_offer(ctx, update, 503, "No Media Port Free");
            }
        }
        let Some(leg) = self.leg_mut(update.target) else { return };
        let local = leg.local_media(ctx);
        match leg.negotiation.offer(&mut ctx.rng, &update.offer, &local) {
            Ok(offer) => {
                leg.modify(ctx, Method::Update, Some(offer));
                leg.client_deadline = Some(ctx.now + UPDATE_MAX);
                self.early_update = Some(Box::new(update));
            }
            Err(fault) => self.refuse_early_offer(ctx, update, 488, fault.text()),
        }
    }

    fn refuse_early_offer(&mut self, ctx: &mut Context, update: EarlyUpdate, status: u16, reason: &str) {
        if let Some(pending) = update.pending {
            if let Some(leg) = self.leg_mut(update.asker) {
                leg.negotiation.roll_back();
            }
            // RFC 4320 section 4.2.
            ctx.refuse(&pending, if status == 408 { 504 } else { status }, reason);
        }
        self.close_unused_media(ctx);
    }

    /// When [`Call::give_up_early_offer`] is due.
    pub(super) fn early_offer_deadline(&self) -> Option<Instant> {
        let target = self.early_update.as_ref().filter(|update| update.pending.is_some())?.target;
        match target {
            Side::A => self.a.client_deadline,
            Side::B(number) => self.branches.get(&number)?.leg.client_deadline,
        }
    }

    /// The target has been silent for too long: whoever asked hears so (RFC 3311 section 5.2).
    pub(super) fn give_up_early_offer(&mut self, ctx: &mut Context) {
        if self.early_offer_deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        let waiting = self.early_update.as_mut().and_then(|update| Some((update.asker, update.pending.take()?)));
        let Some((asker, pending)) = waiting else { return };
        if let Some(leg) = self.leg_mut(asker) {
            leg.negotiation.roll_back();
        }
        ctx.refuse(&pending, 504, "");
    }

    /// Takes the offer that waits for this side, which has answered or refused.
    pub(super) fn take_early_update(&mut self, side: Side) -> Option<EarlyUpdate> {
        self.early_update.take_if(|update| update.target == side).map(|update| *update)
    }

    pub(super) fn early_offer_accepted(&mut self, ctx: &mut Context, mut update: EarlyUpdate, response: &Message) {
        let body = response.sdp().unwrap_or_default();
        let Some(leg) = self.leg_mut(update.target) else { return };
        match leg.negotiation.read_answer(&body) {
            Ok((session, settled)) => {
                leg.session = Some(session.clone());
                leg.configure(ctx, &settled);
                match update.pending.take() {
                    Some(pending) => self.answer_early_offer(ctx, update, &pending, &session),
                    None => match update.target {
                        Side::A => self.correct_early(ctx, update),
                        Side::B(number) => self.bring_back(ctx, number),
                    },
                }
            }
            Err(fault) => {
                leg.negotiation.roll_back();
                self.refuse_early_offer(ctx, update, 488, fault.text());
            }
        }
    }

    fn answer_early_offer(&mut self, ctx: &mut Context, update: EarlyUpdate, pending: &Pending, session: &Session) {
        let Some(leg) = self.leg_mut(update.asker) else { return };
        let local = leg.local_media(ctx);
        match leg.negotiation.answer(&mut ctx.rng, session, &local) {
            Ok((answer, settled)) => {
                leg.session = Some(update.offer.clone());
                leg.configure(ctx, &settled);
                let contact = leg.contact(ctx);
                let response = ctx.response(pending, 200, "", "").header("Contact", contact).header("Allow", ALLOW);
                let response = leg.accept_session(ctx.now, &pending.request, response);
                ctx.respond(pending.txn, 200, response.body("application/sdp", answer.as_bytes()).finish());
                let (number, told) = match (update.asker, update.target) {
                    (Side::A, Side::B(number)) => {
                        self.changed_by_caller(number);
                        (number, session.clone())
                    }
                    (Side::B(number), _) => (number, update.offer),
                    (Side::A, Side::A) => return,
                };
                self.told = self.told.is_some().then_some(told);
                self.join_media(ctx, number);
                self.close_unused_media(ctx);
            }
            Err(fault) => {
                let pending = Some(pending.clone());
                self.refuse_early_offer(ctx, EarlyUpdate { pending, ..update }, 488, fault.text());
            }
        }
    }

    /// A branch has taken an offer of the caller's that does not hold any more: it is offered what does.
    fn bring_back(&mut self, ctx: &mut Context, number: u32) {
        let Some(offer) = self.a.session.clone() else { return };
        let Some(branch) = self.branches.get_mut(&number) else { return };
        let leg = &mut branch.leg;
        if std::mem::take(&mut leg.is_restoring) {
            return;
        }
        let local = leg.local_media(ctx);
        let Ok(sdp) = leg.negotiation.offer(&mut ctx.rng, &offer, &local) else { return };
        leg.modify(ctx, Method::Update, Some(sdp));
        leg.is_restoring = true;
        let target = Side::B(number);
        self.early_update = Some(Box::new(EarlyUpdate { asker: Side::A, target, pending: None, offer }));
    }

    /// The caller has taken the offer of a branch that is gone; it is offered what holds now once its ACK is here.
    fn correct_early(&mut self, ctx: &mut Context, update: EarlyUpdate) {
        self.told = Some(update.offer);
        if self.a.server_invite.is_none() {
            self.correct_a(ctx);
        }
    }

    pub(super) fn early_offer_refused(&mut self, ctx: &mut Context, update: EarlyUpdate, status: u16, reason: &str) {
        let status = match status {
            300..=399 | 401 | 407 | 422 => 488,
            405 | 501 => 504,
            status => status,
        };
        self.refuse_early_offer(ctx, update, status, reason);
    }

    /// A branch, or the whole call, is left while an offer is on its way.
    pub(super) fn leave_early_update(&mut self, ctx: &mut Context, number: u32) {
        let is_part = |update: &EarlyUpdate| [update.asker, update.target].contains(&Side::B(number));
        let Some(mut update) = self.early_update.take_if(|update| is_part(update)) else { return };
        let Some(pending) = update.pending.take() else { return self.early_update = Some(update) };
        match update.asker {
            Side::A if self.state != State::Ended => {
                self.a.negotiation.roll_back();
                refuse_for_now(ctx, &pending, 500);
            }
            Side::A => ctx.refuse(&pending, 487, ""),
            Side::B(_) => {
                ctx.refuse(&pending, 487, "");
                self.early_update = Some(update);
            }
        }
    }
}
