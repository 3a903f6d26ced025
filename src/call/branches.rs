//! The branches of a call: whom it tries, and what becomes of each INVITE.

use tracing::{debug, error, warn};

use super::{
    call::{Call, State},
    context::{Context, Owner, Side},
    emergency_call,
    fork::{Attempt, Branch, Failure, Progress, mapped},
    leg::Leg,
    outgoing::{self, with_offer},
    passed_headers::PassedHeaders,
    provisional::{Arrival, Received},
};
use crate::{
    policy::reach::Outcome,
    sip::{challenge::Authorization, dialog::Dialog},
    types::TxnId,
    wire::{
        sdp::Session,
        sip::{Message, Method, reason},
    },
};

impl Call {
    // Outwards: waves and branches.

    /// Tries what the plan holds next; with nothing left, the call fails.
    pub(super) fn next_wave(&mut self, ctx: &mut Context) {
        while let Some(wave) = self.plan.next_wave() {
            for attempt in wave {
                self.launch(ctx, attempt);
            }
            if self.has_live_branch() || self.waits_for_room.is_some() {
                return;
            }
        }
        if self.state == State::Setup && !self.plan.hunt.go_on() {
            let failure = self.plan.hunt.verdict().or_else(|| self.failure.clone());
            let failure = failure.unwrap_or_else(|| Failure::new(480, "Not Registered"));
            let failure = if self.emergency.is_some() { emergency_call::not_connected() } else { failure };
            self.fail(ctx, &failure, None);
        }
    }

    /// No port has become free in time.
    pub(super) fn give_up_waiting(&mut self, ctx: &mut Context) {
        self.waits_for_room = None;
        self.plan.give_up();
        self.note_failure(Failure::no_port());
        self.next_wave_if_idle(ctx);
    }

    pub(super) fn next_wave_if_idle(&mut self, ctx: &mut Context) {
        if self.state == State::Setup && !self.has_live_branch() && self.waits_for_room.is_none() {
            self.next_wave(ctx);
        }
    }

    fn has_live_branch(&self) -> bool {
        self.branches.values().any(|b| matches!(b.progress, Progress::Calling | Progress::Ringing))
    }

    pub(super) fn launch(&mut self, ctx: &mut Context, attempt: Attempt) {
        let number = self.next_branch;
        self.next_branch += 1;
        if let (Some(info), Attempt::Emergency { trunk, .. }) = (&mut self.emergency, &attempt) {
            info.show_to(ctx.trunks.trunk(*trunk));
        }
        match self.send_invite(ctx, number, &attempt) {
            Ok(branch) => {
                debug!(call = %self.id, branch = number, "INVITE sent.");
                if let Some(trunk) = attempt.trunk() {
                    self.cdr.trunk = Some(ctx.trunks.trunk(trunk).name.clone());
                    self.leaves(ctx, trunk);
                }
                self.branches.insert(number, Box::new(branch));
            }
            Err(failure) if self.may_wait_for_room(&failure) => {
                self.plan.retry(attempt);
                return self.wait_for_room(ctx);
            }
            Err(failure) => self.note_failure(failure),
        }
        if let (Some(info), Some(trunk)) = (&self.emergency, attempt.trunk()) {
            emergency_call::log_attempt(ctx, self.id, info, trunk, number);
        }
    }

    /// An INVITE has gone to a trunk: only then does a call outside count against anybody's limits. Emergency calls have none.
    fn leaves(&mut self, ctx: &mut Context, trunk: usize) {
        let Some(outside) = &mut self.plan.outside else { return };
        if let (None, Some(user)) = (outside.trunk.replace(trunk), &outside.user) {
            ctx.usage.begins(ctx.now, user, outside.destination);
        }
        ctx.usage.takes_trunk(ctx.now, trunk);
    }

    fn send_invite(&mut self, ctx: &mut Context, number: u32, attempt: &Attempt) -> Result<Branch, Failure> {
        let mut leg = outgoing::leg_for(
            ctx,
            (self.id, Side::B(number)),
            attempt,
            &self.caller,
            self.emergency.as_deref(),
            &self.failover,
        )?;
        leg.is_urgent = self.is_urgent();
        let offer = match &self.a.session {
            Some(session) => Some(self.offer_for_branch(ctx, number, &mut leg, session)?),
            None => None,
        };
        let offer = offer.as_deref();
        if let Some(flow) = outgoing::stream_for_large(ctx, self, &leg, attempt, offer) {
            leg.follow(flow);
        }
        let invite = outgoing::Invite { call: self, leg: &leg, attempt, offer, cseq: 1, authorization: None };
        let (txn, invite) = invite.send(ctx, Owner::Branch(self.id, number));
        let deadline = self.silence_deadline(ctx, attempt, &leg.flow);
        Ok(Branch {
            leg,
            attempt: Some(attempt.clone()),
            txn,
            invite: Some(Box::new(invite)),
            progress: Progress::Calling,
            sent_at: ctx.now,
            deadline,
            is_negotiated: false,
            received: Received::default(),
            settled: Vec::new(),
            before_update: None,
            is_behind: false,
            offered: None,
            prack: None,
        })
    }

    fn offer_for_branch(
        &self,
        ctx: &mut Context,
        number: u32,
        leg: &mut Leg,
        session: &Session,
    ) -> Result<String, Failure> {
        if !leg.open_media(ctx, self.id, Side::B(number), self.worker, session) {
            leg.close_media(ctx);
            return Err(Failure::no_port());
        }
        let local = leg.local_media(ctx);
        leg.negotiation.offer(&mut ctx.rng, session, &local).map_err(|fault| {
            debug!(call = %self.id, branch = number, reason = fault.text(), "Nothing to offer to a callee.");
            leg.close_media(ctx);
            Failure::new(488, "Not Acceptable Here")
        })
    }

    /// The next attempt begins; who answers this one at the last moment is still welcome.
    pub(super) fn stop_waiting(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        branch.deadline = None;
        branch.progress = Progress::GivenUp;
        ctx.cancel(branch.txn);
        self.note_attempt(ctx, number, 408);
        self.leave_early(ctx, number);
    }

    pub(super) fn note_failure(&mut self, failure: Failure) {
        self.failure = Some(match self.failure.take() {
            Some(earlier) => earlier.better_of(failure),
            None => failure,
        });
    }

    // Back: responses to our INVITEs.

    /// A response to a branch's INVITE.
    pub(super) fn branch_response(&mut self, ctx: &mut Context, number: u32, response: &Message) {
        self.note_server_answer(ctx, number, response.status());
        self.passed = PassedHeaders::of_answer(response);
        match response.status() {
            100 => self.branch_trying(number),
            101..200 => self.branch_ringing(ctx, number, response),
            200..300 => self.branch_answered(ctx, number, response),
            401 | 407 if self.show_password(ctx, number, response) => {}
            300..=302 if self.deflect(ctx, number, response) => {}
            422 if self.offer_longer_session(ctx, number, response) => {}
            status => self.branch_refused(ctx, number, status, response.reason_phrase()),
        }
        self.passed = PassedHeaders::default();
    }

    fn branch_trying(&mut self, number: u32) {
        let no_progress = self.no_progress();
        if let Some(branch) =
            self.branches.get_mut(&number).filter(|b| b.progress == Progress::Calling && b.deadline.is_some())
        {
            // The trunk lives, and has a little longer to say more than 100.
            branch.deadline = Some(branch.sent_at + no_progress);
        }
    }

    fn branch_ringing(&mut self, ctx: &mut Context, number: u32, response: &Message) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        if self.state != State::Setup || matches!(branch.progress, Progress::Cancelled | Progress::Over) {
            return;
        }
        if let (Some(_), Some(invite)) = (response.to_tag(), &branch.invite) {
            branch.leg.enter_dialog(ctx, self.id, Side::B(number), invite, response);
            branch.leg.note_abilities(response);
        }
        let is_given_up = branch.progress == Progress::GivenUp;
        if !is_given_up {
            branch.progress = Progress::Ringing;
            branch.deadline = None;
        }
        match self.provisional_arrived(ctx, number, response) {
            Arrival::Ignored => {}
            Arrival::Offer => self.offered_early(ctx, number, response),
            arrival @ (Arrival::Unreliable | Arrival::Reliable) => {
                let is_heard = self.early_media(ctx, number, response, arrival);
                if !is_given_up {
                    self.tell_ringing(ctx, response.status(), is_heard.then_some(number));
                }
            }
        }
    }

    /// A 2xx to a branch's INVITE.
    pub(super) fn branch_answered(&mut self, ctx: &mut Context, number: u32, response: &Message) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        let cseq = response.cseq().map_or(0, |c| c.number);
        if branch.leg.has_acknowledged(cseq) || branch.leg.owes_answer() {
            return self.answered_again(ctx, number, cseq, response);
        }
        if branch.progress != Progress::Cancelled && self.is_answer_held(number, response) {
            return;
        }
        let Some(branch) = self.branches.get_mut(&number) else { return };
        let Some(invite) = &branch.invite else { return };
        if !branch.leg.confirm_dialog(ctx, self.id, Side::B(number), invite, response) {
            return self.branch_refused(ctx, number, 502, "Answer Without Contact");
        }
        branch.leg.session_timer.answered(ctx.now, response);
        branch.leg.note_abilities(response);
        if branch.has_offered() || branch.settled_in(response).is_some() {
            branch.leg.acknowledge(ctx, cseq);
        } else {
            branch.leg.acknowledge_later(response);
        }
        let was_cancelled = branch.progress == Progress::Cancelled;
        branch.progress = Progress::Over;
        branch.deadline = None;
        if self.state == State::Setup && !was_cancelled {
            self.connect(ctx, number, response);
        } else {
            // It crossed our CANCEL, or the caller's hang-up.
            self.drop_branch(ctx, number);
        }
    }

    /// A retransmitted 200 gets its ACK again; a 200 of a further dialog (a proxy forked) is acknowledged and ended.
    fn answered_again(&mut self, ctx: &mut Context, number: u32, cseq: u32, response: &Message) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        let ours = branch.leg.dialog.as_ref().map(|d| d.id.remote_tag.as_str());
        if response.to_tag() == ours {
            // One that waits for its answer is acknowledged with it.
            if !branch.leg.owes_answer() {
                branch.leg.acknowledge(ctx, cseq);
            }
            return;
        }
        let invite = branch.invite.as_ref();
        let Some(mut stray) = invite.and_then(|invite| Dialog::uac(invite, response)) else { return };
        stray.local_cseq = branch.leg.dialog.as_ref().map_or(stray.local_cseq, |d| d.local_cseq.max(stray.local_cseq));
        let offer = response.sdp().filter(|_| !branch.has_offered());
        let answer = offer.and_then(|offer| branch.leg.negotiation.decline(&offer));
        let flow = branch.leg.flow;
        let via = ctx.ack_via(&flow);
        ctx.transmit(flow, with_offer(stray.ack(cseq, &via), answer.as_deref()).finish());
        ctx.send(flow, Owner::Nobody, |_, via| stray.request(Method::Bye, via));
    }

    fn connect(&mut self, ctx: &mut Context, number: u32, response: &Message) {
        let branch = &self.branches[&number];
        let settled = branch.settled_in(response).cloned();
        let is_settled = settled.is_some();
        self.recall(number, response);
        let branch = &self.branches[&number];
        let body = settled.or_else(|| response.sdp()).unwrap_or_default();
        let negotiated = if branch.has_offered() {
            // Some answer in an unreliable response, and not again.
            let is_read = branch.is_negotiated && body.is_empty();
            let read = if is_read { Ok(()) } else { self.read_answer_of_b(ctx, number, &body) };
            read.and_then(|()| self.settle_a(ctx, number))
        } else if is_settled {
            self.settle_a(ctx, number)
        } else if self.a.session.is_some() {
            let read = self.read_offer_of_b(ctx, number, &body);
            read.and_then(|()| self.answer_in_ack(ctx, number)).map(|()| None)
        } else {
            self.offer_for_a(ctx, number, &body).map(Some)
        };
        match negotiated {
            Ok(sdp) => self.connected(ctx, number, sdp.as_deref()),
            Err(text) => {
                let mut unusable = None;
                if let Some(branch) = self.branches.get_mut(&number) {
                    branch.leg.bye_reason = Some(reason::sip(488, ""));
                    let is_srtp_optional = branch.has_offered() && branch.leg.negotiation.offers_srtp_or_plain();
                    unusable = branch.attempt.clone().filter(|_| is_srtp_optional && self.emergency.is_some());
                }
                self.drop_branch(ctx, number);
                if let Some(attempt) = unusable {
                    self.try_without_srtp(ctx, attempt, 200);
                }
                self.note_answer_of_nobody(number);
                self.note_failure(Failure::new(488, "Not Acceptable Here"));
                debug!(call = %self.id, reason = text, "The callee's session description is unusable.");
                self.next_wave_if_idle(ctx);
            }
        }
    }

    /// Answers a 401 or 407 of a trunk. `false`: not possible, or refused already.
    fn show_password(&mut self, ctx: &mut Context, number: u32, response: &Message) -> bool {
        let Some(mut branch) = self.branches.remove(&number) else { return false };
        let is_asked = self.may_invite_again(&branch) && branch.leg.is_challenged(response);
        let authorization = is_asked.then(|| branch.authorization(ctx)).flatten();
        let is_shown = authorization.is_some();
        if is_shown {
            self.invite_again(ctx, number, &mut branch, authorization);
        }
        self.branches.insert(number, branch);
        is_shown
    }

    fn may_invite_again(&self, branch: &Branch) -> bool {
        self.state == State::Setup && branch.is_open()
    }

    /// Answers a 422 by an INVITE with a longer session interval (RFC 4028 section 7.4). `false`: not possible, or done
    /// already.
    fn offer_longer_session(&mut self, ctx: &mut Context, number: u32, response: &Message) -> bool {
        let Some(mut branch) = self.branches.remove(&number) else { return false };
        let is_longer = self.may_invite_again(&branch) && branch.leg.session_timer.may_retry(response);
        if is_longer {
            let authorization = branch.authorization(ctx);
            self.invite_again(ctx, number, &mut branch, authorization);
        }
        self.branches.insert(number, branch);
        is_longer
    }

    /// Sends a branch's INVITE again, with these credentials.
    fn invite_again(&self, ctx: &mut Context, number: u32, branch: &mut Branch, authorization: Option<Authorization>) {
        let (Some(sent), Some(attempt)) = (branch.invite.clone(), &branch.attempt) else { return };
        let offer = sent.sdp();
        let offer = offer.as_deref().map(String::from_utf8_lossy);
        let again = outgoing::Invite {
            call: self,
            leg: &branch.leg,
            attempt,
            offer: offer.as_deref(),
            cseq: sent.cseq().map_or(1, |c| c.number) + 1,
            authorization,
        };
        let (txn, invite) = again.send(ctx, Owner::Branch(self.id, number));
        (branch.txn, branch.invite) = (txn, Some(Box::new(invite)));
        // It was answered, and has its time anew.
        branch.sent_at = ctx.now;
        if branch.progress == Progress::Calling {
            branch.deadline = self.silence_deadline(ctx, attempt, &branch.leg.flow);
        }
    }

    /// A final response from 300 up, or a status that stands for a transport failure or timeout.
    pub(super) fn branch_refused(&mut self, ctx: &mut Context, number: u32, status: u16, reason: &str) {
        let Some(branch) = self.branches.get(&number).filter(|b| b.progress != Progress::Over) else { return };
        let is_unexpected = branch.is_open();
        if is_unexpected {
            self.note_attempt(ctx, number, status);
        }
        let has_rung = branch.progress == Progress::Ringing;
        let is_unheard = branch.progress == Progress::Calling;
        let attempt = branch.attempt.clone();
        let is_srtp_optional = branch.has_offered() && branch.leg.negotiation.offers_srtp_or_plain();
        let reason = reason.to_owned();
        self.retire_branch(ctx, number);
        if self.state != State::Setup {
            return;
        }
        if is_unheard {
            self.note_server_failure(ctx, number, status);
        }
        if is_unexpected {
            let is_trunk = attempt.as_ref().is_some_and(|attempt| attempt.trunk().is_some());
            self.note_failure(Failure { cause: self.passed.cause(), ..mapped(status, &reason, is_trunk) });
            if let Some(user) = attempt.as_ref().and_then(Attempt::user) {
                self.plan.hunt.note(user, Outcome::of(status, has_rung));
            }
            self.after_refusal(ctx, attempt, status, (has_rung, is_srtp_optional));
        }
        self.next_wave_if_idle(ctx);
    }

    /// Of an emergency call: what became of one trunk.
    pub(super) fn note_attempt(&self, ctx: &mut Context, number: u32, status: u16) {
        let trunk = self.branches.get(&number).and_then(|branch| branch.trunk());
        if let (Some(info), Some(trunk)) = (&self.emergency, trunk) {
            emergency_call::attempt_ended(ctx, self.id, info, (trunk, number), status);
        }
    }

    /// Ends a branch whose INVITE has its final answer.
    pub(super) fn retire_branch(&mut self, ctx: &mut Context, number: u32) {
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.progress = Progress::Over;
            branch.deadline = None;
        }
        self.drop_branch(ctx, number);
    }

    /// What a refusal means for the rest of the plan. `is_srtp_optional`: it may have been for the SRTP that was offered.
    fn after_refusal(
        &mut self,
        ctx: &mut Context,
        attempt: Option<Attempt>,
        status: u16,
        (has_rung, is_srtp_optional): (bool, bool),
    ) {
        match attempt {
            // First, since what else such an answer may be about, the location, is worth more than encryption (emergency RULES 5.3).
            Some(attempt @ (Attempt::Emergency { .. } | Attempt::Trunk { .. }))
                if is_srtp_optional && !has_rung && matches!(status, 488 | 606) =>
            {
                self.try_without_srtp(ctx, attempt, status);
            }
            Some(Attempt::Emergency { trunk, has_location: true, is_plain })
                if emergency_call::may_be_the_location(status) =>
            {
                error!(target: "emergency", call = %self.id, trunk = %ctx.trunks.trunk(trunk).name, sip_code = status,
                    "The trunk refused the call with its location; trying once without.");
                self.plan.retry(Attempt::Emergency { trunk, has_location: false, is_plain });
            }
            Some(Attempt::Emergency { .. }) | None => {}
            Some(Attempt::Trunk { index, .. }) => {
                // Another trunk helps when this one is in trouble, not when the callee has spoken or may have heard it ring.
                let is_of_trunk = matches!(status, 401 | 407 | 408 | 430 | 500..600)
                    || ctx.trunks.trunk(index).failover_codes.contains(&status);
                if has_rung || !is_of_trunk {
                    self.plan.give_up();
                }
            }
            // One device has spoken for the whole user, but not for other members of a group.
            Some(Attempt::Contact { binding }) => {
                if status >= 600 {
                    self.reason = reason::sip(status, "");
                    self.cancel_where(ctx, |b| b.user() == Some(&binding.aor));
                    self.reason.clear();
                }
            }
        }
    }

    /// A trunk that need not have SRTP has not taken it: it is asked once more for plain RTP, which the call's record will show.
    fn try_without_srtp(&mut self, ctx: &Context, attempt: Attempt, status: u16) {
        let trunk = attempt.trunk().map(|trunk| ctx.trunks.trunk(trunk).name.as_str());
        if self.emergency.is_some() {
            error!(target: "emergency", call = %self.id, trunk, sip_code = status,
                "The trunk refused the call with SRTP; trying once with RTP.");
        } else {
            warn!(call = %self.id, trunk, status, "The trunk refused the call with SRTP; trying once with RTP.");
        }
        self.plan.retry(attempt.without_srtp());
    }

    /// A branch that is of no use any more, although its INVITE has no final answer yet.
    pub(super) fn branch_left(&mut self, ctx: &mut Context, number: u32, failure: Failure) {
        self.cancel_branch(ctx, number);
        self.note_answer_of_nobody(number);
        self.note_failure(failure);
        self.next_wave_if_idle(ctx);
    }

    /// The INVITE of a branch named a port that is not ours: it is cancelled, and another one follows at once.
    pub(super) fn invite_anew(&mut self, ctx: &mut Context, number: u32) {
        let attempt = self.branches.get(&number).and_then(|branch| branch.attempt.clone());
        self.cancel_branch(ctx, number);
        if let Some(attempt) = attempt.filter(|_| self.state == State::Setup) {
            self.launch(ctx, attempt);
        }
        self.next_wave_if_idle(ctx);
    }

    /// Somebody was there, and yet no call came of it: the user is not unreachable.
    fn note_answer_of_nobody(&mut self, number: u32) {
        if let Some(user) = self.branches.get(&number).and_then(|branch| branch.user()) {
            self.plan.hunt.note(user, Outcome::NoAnswer);
        }
    }

    /// Nothing more can come to a branch's INVITE. Of a conversation only the branch that won stays.
    pub(super) fn branch_over(&mut self, ctx: &mut Context, number: u32, txn: TxnId) {
        let is_lost = matches!(self.state, State::Answered(winner) if winner != number);
        let Some(branch) = self.branches.get_mut(&number).filter(|b| b.txn == txn && b.progress == Progress::Over)
        else {
            return;
        };
        branch.forget_invite();
        if is_lost && branch.leg.is_settled() && !branch.leg.has_open_media() {
            branch.leg.leave_dialog(ctx);
            self.branches.remove(&number);
        }
    }
}
