//! Requests inside an established call: BYE, re-INVITE (hold included), INFO, and the ACKs that belong to them.

use bytes::Bytes;

use super::{
    call::{Call, State},
    cdr::EndedBy,
    context::{ALLOW, Context, Owner, Pending, Side},
    emergency_call,
    fork::Failure,
    leg::{Leg, ServerInvite},
    update::UPDATE_MAX,
};
use crate::{
    sip::{offer_answer::NegotiationFault, session_timer::SessionTimer},
    types::{Duration, Instant, TxnId, limits::RELAYED_S_MAX},
    wire::{
        sdp::{Direction, Session},
        sip::{Message, Method, Name, reason},
    },
};

/// Requests of one call relayed at a time; a further one is answered 503.
const RELAYED_MAX: usize = 16;

/// A request on its way from one leg to the other, where a client transaction carries it on.
#[derive(Debug)]
pub(super) struct Relayed {
    pub from: Side,
    pub pending: Pending,
    /// How many challenges to it were answered.
    answers: u8,
    /// When its sender hears that nobody answers, shortly before it stops listening.
    deadline: Instant,
}

/// The session description of a message, if it has one that says anything.
pub(super) fn description(message: &Message) -> Option<Bytes> {
    message.sdp().filter(|body| !body.is_empty())
}

/// Refuses an offer that meets another one; 500 says when to come back (RFC 3261 section 14.2).
pub(super) fn refuse_for_now(ctx: &mut Context, pending: &Pending, status: u16) {
    let seconds = ctx.rng.below(11).to_string();
    let header = [("Retry-After", seconds.as_str())];
    ctx.refuse_with(pending, status, "", if status == 500 { &header } else { &[] });
}

impl Call {
    /// Whether a request that carries one of our dialog tags belongs to this call; refused if it does not.
    pub(super) fn admits(&mut self, ctx: &mut Context, side: Side, pending: &Pending) -> bool {
        let refusal = self.check(side, pending);
        if let Err((status, reason)) = refusal {
            ctx.refuse(pending, status, reason);
        }
        refusal.is_ok()
    }

    fn check(&mut self, side: Side, pending: &Pending) -> Result<(), (u16, &'static str)> {
        let has_ended = self.state == State::Ended;
        let Some(leg) = self.leg_mut(side) else { return Err((481, "")) };
        let is_ours = leg.dialog.as_ref().is_some_and(|d| {
            d.id.call_id == pending.request.call_id() && Some(d.id.remote_tag.as_str()) == pending.request.from_tag()
        });
        let is_over = has_ended && !(leg.owes_bye && pending.request.method() == Some(Method::Bye));
        if !is_ours || is_over {
            return Err((481, ""));
        }
        let in_order = leg.dialog.as_mut().is_some_and(|d| d.receive(&pending.request).is_ok());
        if !in_order {
            return Err((500, "CSeq Out Of Order"));
        }
        // The peer may have moved to a new connection; answers and later requests follow it.
        leg.flow = pending.flow;
        leg.note_abilities(&pending.request);
        Ok(())
    }

    /// A request of this call.
    pub(super) fn request(&mut self, ctx: &mut Context, side: Side, pending: Pending) {
        match pending.request.method() {
            Some(Method::Bye) => self.bye(ctx, side, &pending),
            Some(Method::Invite) => self.reinvite(ctx, side, pending),
            Some(Method::Message) if self.emergency.is_some() => emergency_call::refuse_text(ctx, &pending),
            Some(Method::Info | Method::Message) => self.relay(ctx, side, pending),
            Some(Method::Update) => self.update(ctx, side, pending),
            Some(Method::Prack) => self.prack(ctx, side, &pending),
            Some(Method::Options) => self.confirm(ctx, &pending),
            // We subscribe to nothing.
            Some(Method::Notify) => ctx.refuse(&pending, 481, ""),
            _ => ctx.refuse_with(&pending, 405, "", &[("Allow", ALLOW)]),
        }
    }

    pub(super) fn confirm(&self, ctx: &mut Context, pending: &Pending) {
        let response = ctx.response(pending, 200, "", "").header("Allow", ALLOW).finish();
        ctx.respond(pending.txn, 200, response);
    }

    fn bye(&mut self, ctx: &mut Context, side: Side, pending: &Pending) {
        self.confirm(ctx, pending);
        if let Some(leg) = self.leg_mut(side) {
            leg.acknowledged(ctx);
            leg.owes_bye = false;
        }
        let reason = reason::passed_on(&pending.request);
        if self.transferor_left(ctx, side) {
            return;
        }
        match (self.state, side) {
            (State::Answered(number), Side::A) => {
                self.refuse_open_invites(ctx);
                if let Some(branch) = self.branches.get_mut(&number) {
                    branch.leg.bye_reason = reason;
                    branch.leg.bye(ctx);
                }
                self.finish(ctx, EndedBy::Caller, 200, "");
            }
            (State::Answered(number), Side::B(from)) if number == from => {
                self.refuse_open_invites(ctx);
                self.a.bye_reason = reason;
                self.a.bye(ctx);
                self.finish(ctx, EndedBy::Callee, 200, "");
            }
            // The caller gives up by BYE in an early dialog (RFC 3261 section 15).
            (State::Setup, Side::A) => {
                self.reason = reason.unwrap_or_default();
                self.cancelled(ctx);
            }
            // Both sides have hung up at once.
            (State::Ended, Side::A) => self.a.leave_dialog(ctx),
            (State::Ended, Side::B(_)) => {
                if let Some(leg) = self.leg_mut(side) {
                    leg.leave_dialog(ctx);
                }
            }
            // It has answered and hung up, and the 200 is still on its way.
            (State::Setup, Side::B(number)) => self.branch_left(ctx, number, Failure::new(480, "Callee Hung Up")),
            (State::Answered(_), Side::B(_)) => {}
        }
    }

    /// INVITEs of either side that wait for an answer get 487 (RFC 3261 section 15.1.2).
    pub(super) fn refuse_open_invites(&mut self, ctx: &mut Context) {
        let sides = [Some(Side::A), self.answered_side()];
        for side in sides.into_iter().flatten() {
            self.refuse_reinvite(ctx, side, 487, "");
        }
    }

    const fn answered_side(&self) -> Option<Side> {
        match self.state {
            State::Answered(number) => Some(Side::B(number)),
            State::Setup | State::Ended => None,
        }
    }

    /// The other leg of an answered call, if somebody is there: not while a transfer is under way.
    pub(super) fn opposite(&self, side: Side) -> Option<Side> {
        let other = match side {
            Side::A => self.answered_side(),
            Side::B(_) => (Some(side) == self.answered_side()).then_some(Side::A),
        };
        other.filter(|other| self.leg(*other).is_some_and(Leg::is_present))
    }

    // Re-INVITE (RFC 3261 section 14), and UPDATE with an offer.

    pub(super) fn reinvite(&mut self, ctx: &mut Context, side: Side, pending: Pending) {
        let other = self.opposite(side).filter(|_| self.handover.is_none());
        let Some(other) = other else { return ctx.refuse(&pending, 491, "") };
        if let Err(status) = self.may_reinvite(side, other) {
            return refuse_for_now(ctx, &pending, status);
        }
        if let Some((name, value)) = SessionTimer::refusal(&pending.request).filter(|_| self.emergency.is_none()) {
            return ctx.refuse_with(&pending, 422, "", &[(name, &value)]);
        }
        let offer = description(&pending.request);
        let leg = self.leg_mut(side).expect("its dialog was found");
        leg.server_invite = Some(Box::new(ServerInvite::new(pending)));
        let Some(body) = offer else { return self.offer_again(ctx, side, other) };
        let leg = self.leg_mut(side).expect("its dialog was found");
        match leg.negotiation.read_offer(&body) {
            Err(fault) => self.refuse_offer(ctx, side, fault.text()),
            Ok(session) => {
                let is_unchanged = leg.session.as_ref() == Some(&session);
                if let Some(invite) = &mut leg.server_invite {
                    invite.offer = Some(session.clone());
                }
                // While the answering point of an emergency call listens, hold stays between the device and us (house
                // emergency specification, section 6).
                let is_on_hold = self.emergency.is_some() && side == Side::A;
                if is_on_hold || is_unchanged && self.is_refresh(side) {
                    self.answer_reinvite(ctx, side, other);
                } else {
                    self.pass_offer(ctx, side, other, &session);
                }
            }
        }
    }

    /// Glare and overlapping re-INVITEs (RFC 3261 sections 14.1 and 14.2): one at a time in either direction on either leg,
    /// each until its ACK.
    fn may_reinvite(&mut self, side: Side, other: Side) -> Result<(), u16> {
        let is_busy = |leg: &mut Leg| leg.client_invite.is_some() || leg.server_invite.is_some();
        let is_other_busy = self.leg_mut(other).is_some_and(is_busy);
        let leg = self.leg_mut(side).expect("its dialog was found");
        if leg.server_invite.as_ref().is_some_and(|i| !i.is_answered) {
            return Err(500);
        }
        if is_busy(leg) || is_other_busy || self.early_update.is_some() {
            return Err(491);
        }
        Ok(())
    }

    fn refuse_offer(&mut self, ctx: &mut Context, side: Side, text: &str) {
        let warning = ctx.warning(text);
        let Some(leg) = self.leg_mut(side) else { return };
        let Some(invite) = leg.server_invite.take_if(|i| !i.is_answered) else { return };
        leg.negotiation.roll_back();
        ctx.refuse_with(&invite.pending, 488, "", &[("Warning", &warning)]);
    }

    /// Offers to the other leg what this one offered.
    pub(super) fn pass_offer(&mut self, ctx: &mut Context, side: Side, other: Side, session: &Session) {
        let call = self.id;
        let worker = self.worker;
        for each in [side, other] {
            let leg = self.leg_mut(each).expect("both legs of an answered call are there");
            if !leg.open_media(ctx, call, each, worker, session) {
                self.refuse_reinvite(ctx, side, 503, "No Media Port Free");
                self.close_unused_media(ctx);
                return;
            }
        }
        if let Err(fault) = self.offer(ctx, other, session) {
            self.refuse_offer(ctx, side, fault.text());
            self.close_unused_media(ctx);
        }
    }

    /// Sends a re-INVITE with this session, or an UPDATE where the other side sent one.
    fn offer(&mut self, ctx: &mut Context, side: Side, session: &Session) -> Result<(), NegotiationFault> {
        let is_update = self.is_for_update(side);
        let leg = self.leg_mut(side).expect("both legs of an answered call are there");
        let local = leg.local_media(ctx);
        let offer = leg.negotiation.offer(&mut ctx.rng, session, &local)?;
        let method = if is_update && leg.allows_update { Method::Update } else { Method::Invite };
        leg.modify(ctx, method, Some(offer));
        if is_update {
            leg.client_deadline = Some(ctx.now + UPDATE_MAX);
        }
        Ok(())
    }

    /// A re-INVITE without offer: ours goes into the 200, and the answer comes with the ACK.
    fn offer_again(&mut self, ctx: &mut Context, side: Side, other: Side) {
        let Some(session) = self.session_towards(side, other) else {
            return self.refuse_reinvite(ctx, side, 488, "");
        };
        let leg = self.leg_mut(side).expect("its dialog was found");
        let local = leg.local_media(ctx);
        match leg.negotiation.offer(&mut ctx.rng, &session, &local) {
            Ok(offer) => self.accept_reinvite(ctx, side, &offer),
            Err(fault) => self.refuse_offer(ctx, side, fault.text()),
        }
    }

    fn accept_reinvite(&mut self, ctx: &mut Context, side: Side, sdp: &str) {
        let Some(leg) = self.leg_mut(side) else { return };
        let contact = leg.contact(ctx);
        let Some(invite) = leg.server_invite.as_mut().filter(|i| !i.is_answered) else { return };
        invite.is_answered = true;
        let is_update = invite.is_update();
        let pending = invite.pending.clone();
        let response = ctx.response(&pending, 200, "", "").header("Contact", contact).header("Allow", ALLOW);
        let response = leg.accept_session(ctx.now, &pending.request, response);
        ctx.respond(pending.txn, 200, response.body("application/sdp", sdp.as_bytes()).finish());
        if is_update {
            leg.server_invite = None;
        }
    }

    pub(super) fn refuse_reinvite(&mut self, ctx: &mut Context, side: Side, status: u16, reason: &str) {
        let Some(leg) = self.leg_mut(side) else { return };
        if let Some(invite) = leg.server_invite.take_if(|i| !i.is_answered) {
            leg.negotiation.roll_back();
            // RFC 4320 section 4.2: only an INVITE may be answered 408.
            let status = if status == 408 && invite.is_update() { 504 } else { status };
            ctx.refuse(&invite.pending, status, reason);
        }
    }

    /// A response to a re-INVITE of ours towards `side`.
    pub(super) fn reinvite_response(&mut self, ctx: &mut Context, side: Side, response: &Message) {
        let cseq = response.cseq().map_or(0, |c| c.number);
        let has_ended = self.state == State::Ended;
        let is_up = self.opposite(side).is_some();
        let Some(leg) = self.leg_mut(side) else { return };
        match response.status() {
            ..200 => {}
            200..300 if leg.has_acknowledged(cseq) => leg.acknowledge(ctx, cseq),
            200..300 => {
                if let Some(dialog) = &mut leg.dialog {
                    dialog.refresh(response);
                }
                leg.note_abilities(response);
                if leg.client_method == Method::Invite {
                    leg.acknowledge(ctx, cseq);
                }
                leg.client_invite = None;
                leg.session_timer.answered(ctx.now, response);
                if std::mem::take(&mut leg.is_refreshing) {
                    self.refreshed(ctx, side, response);
                } else {
                    self.reinvite_accepted(ctx, side, response);
                }
            }
            401 | 407 if !has_ended && leg.is_challenged(response) => leg.reinvite_again(ctx),
            405 | 501 if is_up && leg.client_method == Method::Update => self.reinvite_instead(ctx, side),
            422 if !has_ended && leg.session_timer.may_retry(response) => leg.reinvite_again(ctx),
            status => {
                leg.session_timer.heard(ctx.now);
                self.reinvite_failed(ctx, side, status, response.reason_phrase());
            }
        }
    }

    /// A response to our BYE, or a status that stands for none.
    pub(super) fn bye_response(&mut self, ctx: &mut Context, side: Side, status: u16, response: Option<&Message>) {
        if let Some(leg) = self.leg_mut(side) {
            leg.bye_response(ctx, status, response);
        }
    }

    fn reinvite_accepted(&mut self, ctx: &mut Context, side: Side, response: &Message) {
        if self.is_handing_over(side) {
            return self.handover_accepted(ctx, side, response);
        }
        if let Some(update) = self.take_early_update(side) {
            return self.early_offer_accepted(ctx, update, response);
        }
        let Some(other) = self.opposite(side) else { return };
        let body = response.sdp().unwrap_or_default();
        let leg = self.leg_mut(side).expect("it just answered");
        match leg.negotiation.read_answer(&body) {
            Ok((session, settled)) => {
                leg.session = Some(session);
                leg.configure(ctx, &settled);
                self.pass_answer(ctx, other, side);
            }
            Err(fault) => {
                self.refuse_offer(ctx, other, fault.text());
                self.lose_common_state(ctx, side);
            }
        }
    }

    /// Answers whoever asked for the re-INVITE. If nobody waits any more (its CANCEL crossed the 2xx), the other leg is
    /// brought back to what this one has.
    fn pass_answer(&mut self, ctx: &mut Context, side: Side, source: Side) {
        let was_restoring = self.leg_mut(source).is_some_and(|l| std::mem::take(&mut l.is_restoring));
        let leg = self.leg_mut(side).expect("both legs of an answered call are there");
        if leg.server_invite.as_ref().is_some_and(|i| !i.is_answered) {
            return self.answer_reinvite(ctx, side, source);
        }
        if let Some(session) = leg.session.clone().filter(|_| !was_restoring)
            && self.offer(ctx, source, &session).is_ok()
            && let Some(leg) = self.leg_mut(source)
        {
            leg.is_restoring = true;
        }
        if was_restoring && side == Side::A {
            self.correct_a(ctx);
        }
        self.close_unused_media(ctx);
    }

    /// Answers the re-INVITE of `side` with what `source` last said.
    /// What `side` hears of the session that the leg `source` has.
    fn session_towards(&mut self, side: Side, source: Side) -> Option<Session> {
        let mut session = self.leg_mut(source)?.session.clone()?;
        // A device's hold is not the answering point's business (emergency RULES, section 6).
        if self.emergency.is_some() && side != Side::A {
            session.media.iter_mut().for_each(|section| section.direction = Direction::SendRecv);
        }
        Some(session)
    }

    fn answer_reinvite(&mut self, ctx: &mut Context, side: Side, source: Side) {
        let Some(session) = self.session_towards(side, source) else { return };
        let leg = self.leg_mut(side).expect("both legs of an answered call are there");
        let local = leg.local_media(ctx);
        match leg.negotiation.answer(&mut ctx.rng, &session, &local) {
            Ok((answer, settled)) => {
                leg.session = leg.server_invite.as_mut().and_then(|i| i.offer.take()).or_else(|| leg.session.take());
                leg.configure(ctx, &settled);
                self.accept_reinvite(ctx, side, &answer);
                self.close_unused_media(ctx);
                if let State::Answered(number) = self.state {
                    self.join_media(ctx, number);
                }
            }
            Err(fault) => self.refuse_offer(ctx, side, fault.text()),
        }
    }

    /// The other side keeps what was settled before; so do we (RFC 3261 section 14.1).
    pub(super) fn reinvite_failed(&mut self, ctx: &mut Context, side: Side, status: u16, reason: &str) {
        if self.is_handing_over(side) {
            return self.handover_refused(ctx, side, status, reason);
        }
        let other = self.opposite(side);
        if let Some(leg) = self.leg_mut(side) {
            leg.client_invite = None;
            leg.is_restoring = false;
            leg.negotiation.roll_back();
            if std::mem::take(&mut leg.is_refreshing) {
                return self.refresh_failed(ctx, side, status);
            }
        }
        if let Some(update) = self.take_early_update(side) {
            return self.early_offer_refused(ctx, update, status, reason);
        }
        let Some(other) = other else { return };
        if self.is_dialog_lost(side, status) {
            self.refuse_reinvite(ctx, other, 480, "");
            return self.hang_up_both(ctx, status, "");
        }
        let failure = match status {
            401 | 407 | 422 | 300..=399 => Failure::new(488, ""),
            // RFC 3261 section 16.7: a 503 would say that this server is overloaded.
            430 | 503 => Failure::new(500, ""),
            _ => Failure::new(status, reason),
        };
        self.refuse_reinvite(ctx, other, failure.status, &failure.reason);
        self.close_unused_media(ctx);
    }

    /// Whether this answer to a request of ours, or 408 for none, means that there is nobody any more on that side (RFC 3261
    /// section 12.2.1.2). In an emergency only the device can be lost: when it says so, or neither answers nor is heard (emergency
    /// RULES 6.2).
    pub(super) fn is_dialog_lost(&self, side: Side, status: u16) -> bool {
        let is_heard = self.leg(side).is_none_or(|leg| leg.silences.is_empty());
        match (status, &self.emergency) {
            (408 | 481, None) => true,
            (481, Some(_)) => side == Side::A,
            (408, Some(_)) => side == Side::A && !is_heard,
            _ => false,
        }
    }

    /// CANCEL of a re-INVITE (RFC 3261 section 9.1): what was settled stays.
    pub(super) fn reinvite_cancelled(&mut self, ctx: &mut Context, side: Side, reason: &str) {
        self.refuse_reinvite(ctx, side, 487, "");
        let Some(other) = self.opposite(side) else { return };
        if let Some(txn) = self.leg_mut(other).and_then(|l| l.client_invite) {
            ctx.cancel_because(txn, reason);
        }
    }

    /// Nothing more can come to a re-INVITE or UPDATE of ours.
    pub(super) fn reinvite_over(&mut self, side: Side, txn: TxnId) {
        if let Some(leg) = self.leg_mut(side).filter(|leg| leg.last_invite == Some(txn)) {
            leg.invite_over();
        }
    }

    // ACK.

    /// An ACK for a 2xx of ours.
    pub(super) fn ack(&mut self, ctx: &mut Context, side: Side, ack: &Message) {
        let cseq = ack.cseq().map_or(0, |c| c.number);
        let Some(leg) = self.leg_mut(side) else { return };
        if leg.server_invite.as_ref().is_none_or(|invite| invite.cseq != cseq) {
            return;
        }
        let Some(invite) = leg.acknowledged(ctx) else { return };
        if leg.owes_bye {
            return leg.bye_if_owed(ctx);
        }
        if let Some(number) = self.awaits_answer() {
            self.answered_in_ack(ctx, number, description(ack));
        } else if description(&invite.pending.request).is_none() {
            self.read_late_answer(ctx, side, ack);
        }
        self.correct_a(ctx);
        if let Some(leg) = self.leg_mut(side).filter(|leg| leg.is_quiet()) {
            leg.negotiation.conclude();
        }
    }

    /// The answer to the offer in our 2xx. An ACK without one leaves what was settled before.
    fn read_late_answer(&mut self, ctx: &mut Context, side: Side, ack: &Message) {
        let Some(leg) = self.leg_mut(side) else { return };
        let Some(body) = description(ack) else { return leg.negotiation.roll_back() };
        match leg.negotiation.read_answer(&body) {
            Ok((session, settled)) => {
                leg.session = Some(session);
                leg.configure(ctx, &settled);
            }
            Err(_) => self.lose_common_state(ctx, side),
        }
    }

    /// The peer holds a description that we cannot use: there is no common state to go back to.
    fn lose_common_state(&mut self, ctx: &mut Context, side: Side) {
        if self.emergency.is_none() {
            return self.hang_up_both(ctx, 488, "");
        }
        // Nobody is taken from an answering point for that: what was settled stays (emergency RULES, section 6).
        if let Some(leg) = self.leg_mut(side) {
            leg.negotiation.roll_back();
        }
        self.close_unused_media(ctx);
    }

    /// No ACK came for a 2xx of ours: the session ends (RFC 3261 section 13.3.1.4), unless people talk to an answering point
    /// in it (emergency RULES, section 6).
    pub(super) fn not_acknowledged(&mut self, ctx: &mut Context, side: Side) {
        let is_kept = self.emergency.is_some() && self.opposite(side).is_some();
        let Some(leg) = self.leg_mut(side) else { return };
        leg.server_invite = None;
        leg.bye_if_owed(ctx);
        // Where our 2xx held the first offer, there is nothing without its answer.
        if !is_kept || leg.negotiation.settled().is_empty() {
            return self.hang_up_both(ctx, 408, "No ACK");
        }
        leg.negotiation.roll_back();
        self.correct_a(ctx);
    }

    // INFO, and MESSAGE within a call.

    /// Passes a request with its body to the other leg and its answer back.
    fn relay(&mut self, ctx: &mut Context, side: Side, pending: Pending) {
        let Some(other) = self.opposite(side) else { return ctx.refuse(&pending, 491, "") };
        if self.relayed.len() >= RELAYED_MAX {
            return ctx.refuse_with(&pending, 503, "Too Many Requests At Once", &[("Retry-After", "1")]);
        }
        let deadline = ctx.now + Duration::from_secs(RELAYED_S_MAX);
        self.pass_on(ctx, other, Relayed { from: side, pending, answers: 0, deadline });
    }

    fn pass_on(&mut self, ctx: &mut Context, other: Side, relayed: Relayed) {
        let call = self.id;
        let request = &relayed.pending.request;
        let method = request.method().expect("only requests are relayed");
        let content_type = request.header(Name::ContentType).unwrap_or_default().to_owned();
        let body = request.body();
        // What a telephone says of its place goes no further (emergency RULES 4.2).
        let tells_place = self.emergency.is_some() && emergency_call::has_location_body(request);
        let leg = self.leg_mut(other).expect("both legs of an answered call are there");
        let body = (!body.is_empty() && !tells_place).then_some((content_type.as_str(), &body[..]));
        if let Some(txn) = leg.request(ctx, method, Owner::Relayed(call), body) {
            self.relayed.insert(txn, relayed);
        }
    }

    /// When [`Call::give_up_relayed`] is due.
    pub(super) fn relayed_deadline(&self) -> Option<Instant> {
        self.relayed.values().map(|relayed| relayed.deadline).min()
    }

    /// Answers what the other leg has not answered in time; later it would not be heard (RFC 4320 section 4.2).
    pub(super) fn give_up_relayed(&mut self, ctx: &mut Context) {
        let now = ctx.now;
        let late: Vec<_> = self.relayed.extract_if(.., |_, relayed| relayed.deadline <= now).collect();
        for (_, Relayed { from, pending, .. }) in late {
            ctx.refuse(&pending, 504, "");
            self.end_if_lost(ctx, self.opposite(from), 408);
        }
    }

    /// The other leg's final answer to a relayed request.
    pub(super) fn relayed_response(
        &mut self,
        ctx: &mut Context,
        txn: TxnId,
        status: u16,
        reason: &str,
        response: Option<&Message>,
    ) {
        if status < 200 {
            return;
        }
        let Some(relayed) = self.relayed.remove(&txn) else { return };
        let Relayed { from, ref pending, answers, .. } = relayed;
        let other = self.opposite(from);
        let challenged = other.filter(|other| {
            let leg = self.leg_mut(*other).expect("both legs of an answered call are there");
            response.is_some_and(|response| leg.takes_challenge(response, answers))
        });
        if let Some(other) = challenged {
            return self.pass_on(ctx, other, Relayed { answers: answers + 1, ..relayed });
        }
        let asked = status;
        let (status, reason) = match status {
            // A challenge is ours to answer, and a 503 would say that this server is overloaded.
            401 | 407 | 430 | 503 => (500, ""),
            // RFC 4320 section 4.2.
            408 => (504, ""),
            status => (status, reason),
        };
        let response = ctx.response(pending, status, reason, "").finish();
        ctx.respond(pending.txn, status, response);
        self.end_if_lost(ctx, other, asked);
    }

    /// The answering point is not kept waiting for a telephone that has gone. What an ordinary call's party answers to such a
    /// request is the other party's business.
    fn end_if_lost(&mut self, ctx: &mut Context, side: Option<Side>, status: u16) {
        if self.emergency.is_some() && side.is_some_and(|side| self.is_dialog_lost(side, status)) {
            self.hang_up_both(ctx, status, "");
        }
    }

    /// The call ends before the other leg answered.
    pub(super) fn refuse_relayed(&mut self, ctx: &mut Context) {
        for (_, Relayed { pending, .. }) in std::mem::take(&mut self.relayed) {
            ctx.refuse(&pending, 481, "");
        }
    }
}
