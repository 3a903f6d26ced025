//! One call: the caller's leg, the branches tried, the answered leg. Set-up and ending; what happens in between is
//! `in_dialog`'s.

use std::collections::BTreeMap;

use tracing::{debug, info};

use super::{
    cdr::{Cdr, EndedBy},
    context::{ALLOW, Context, Owner, Pending, Side},
    credentials::Authorization,
    early_update::EarlyUpdate,
    emergency_call::{self, EmergencyInfo},
    failover::Failover,
    fork::{Attempt, Branch, Failure, Plan, Progress, mapped},
    handover::{Handover, Part},
    interface::CallView,
    leg::{Device, Leg, Peer, ServerInvite},
    outgoing::{self, with_offer},
    passed_headers::PassedHeaders,
    provisional::{Arrival, Provisionals, Received},
};
use crate::{
    media,
    policy::{reach::Outcome, security::LegSecurity},
    sip::{
        dialog::{Dialog, is_sips},
        session_timer::SessionTimer,
    },
    types::{CallId, Duration, Instant, LegId, TxnId, limits},
    wire::{
        dialog_info,
        sdp::Session,
        sip::{
            Message, Method,
            build::reason_phrase,
            reason::{self, COMPLETED_ELSEWHERE},
        },
    },
};

/// Who calls, as established by the server, never by the device.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub peer: Peer,
    /// User part shown to devices: extension, or the caller's number as the trunk gave it.
    pub user: String,
    /// Display name with its quotes; empty for none.
    pub display: String,
    /// E.164 number of a direct line, shown to trunks.
    pub direct_line: Option<String>,
    /// The callee is not to know who calls (RFC 3323).
    pub is_private: bool,
}

/// What a new call is made of.
pub(super) struct NewCall {
    pub id: CallId,
    /// Tells its INVITE from others; kept by the core while the call lives.
    pub key: String,
    pub pending: Pending,
    /// It came on the flow of a registration.
    pub is_registered: bool,
    pub caller: Caller,
    /// As dialled, for the record.
    pub callee: String,
    pub security: LegSecurity,
    pub worker: u16,
    pub plan: Plan,
    pub emergency: Option<EmergencyInfo>,
}

/// The same without the INVITE: what is left of it once the caller's leg is made.
pub(super) struct Parts {
    pub id: CallId,
    pub a: Leg,
    pub caller: Caller,
    pub callee: String,
    pub worker: u16,
    pub plan: Plan,
    pub emergency: Option<EmergencyInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Trying to reach the callee.
    Setup,
    /// The branch whose 200 won.
    Answered(u32),
    /// Over; waits for media reports and for cancelled branches to finish.
    Ended,
}

#[derive(Debug)]
pub(super) struct Call {
    pub id: CallId,
    pub key: String,
    pub state: State,
    pub a: Leg,
    /// Boxed, as the calls are: a tree node has room for eleven.
    pub branches: BTreeMap<u32, Box<Branch>>,
    pub caller: Caller,
    pub emergency: Option<EmergencyInfo>,
    /// Requests relayed between the legs, by the client transaction that carries them on: whose, and how many challenges
    /// to it were answered.
    pub relayed: BTreeMap<TxnId, (Side, Pending, u8)>,
    pub plan: Plan,
    pub failover: Failover,
    pub next_branch: u32,
    /// Why it ends, told to those who are being called (RFC 3326); may be empty.
    pub reason: String,
    /// The best failure so far.
    pub failure: Option<Failure>,
    /// The caller's INVITE had an offer, which we answer; otherwise the caller answers ours.
    pub has_offer: bool,
    /// The branch whose early media the caller hears.
    pub early: Option<u32>,
    /// What the caller was told in a provisional response, as the branch said it.
    pub told: Option<Session>,
    pub provisionals: Provisionals,
    pub early_update: Option<EarlyUpdate>,
    /// The branch whose 200 won; stays known after the end.
    pub winner: Option<u32>,
    /// Of the response that is being passed on.
    pub passed: PassedHeaders,
    ring_deadline: Instant,
    pub(super) cdr: Cdr,
    is_recorded: bool,
    /// Media worker of all legs of this call.
    pub worker: u16,
    /// The transfer that this call is part of now.
    pub transfer: Option<Part>,
    /// How many transfers led to this call.
    pub transfers: u8,
    /// Referred-By (RFC 3892) for the devices this call goes to.
    pub referred_by: Option<String>,
    /// One leg is being offered the media of another call, which it shall move to.
    pub handover: Option<Handover>,
    /// The deadline the core has set for this call.
    pub timer: Option<Instant>,
}

impl Call {
    /// Reads the caller's offer, if it has one, takes its ports and tries the first wave. On failure the INVITE is
    /// answered, and the call is over at once.
    pub(super) fn start(ctx: &mut Context, new: NewCall) -> Self {
        let mut call = Self::new(ctx, new);
        match call.read_offer(ctx) {
            Ok(()) => call.next_wave(ctx),
            Err((failure, warning)) => call.fail(ctx, &failure, warning.as_deref()),
        }
        call
    }

    pub(super) fn new(ctx: &mut Context, new: NewCall) -> Self {
        let NewCall { id, key, pending, is_registered, caller, callee, security, worker, plan, emergency } = new;
        let mut a = Leg::new(ctx, (id, Side::A), pending.flow, security, outgoing::escaped_user(&callee));
        a.is_secure = is_sips(pending.request.request_uri());
        a.session_timer = SessionTimer::new(emergency.is_none());
        a.dialog = Dialog::uas(&pending.request, &a.local_tag);
        a.device = match &caller.peer {
            Peer::Device(user) => {
                let instance = pending.request.contact().and_then(|c| c.params.get("+sip.instance")).map(str::to_owned);
                Some(Device { user: user.clone(), instance, is_registered })
            }
            Peer::Trunk(_) | Peer::Unknown => None,
        };
        a.trunk = match caller.peer {
            Peer::Trunk(trunk) => Some(trunk),
            Peer::Device(_) | Peer::Unknown => None,
        };
        a.enter(ctx, id, Side::A);
        a.note_abilities(&pending.request);
        let provisionals = Provisionals::new(&pending.request);
        a.server_invite = Some(ServerInvite::new(pending));
        let parts = Parts { id, a, caller, callee, worker, plan, emergency };
        Self { key, provisionals, ..Self::of(ctx, parts) }
    }

    /// A call whose caller's leg is there, or will be moved here from another call.
    pub(super) fn of(ctx: &mut Context, parts: Parts) -> Self {
        let Parts { id, a, caller, callee, worker, plan, emergency } = parts;
        ctx.counters.calls += 1;
        let cdr = Cdr::begin(ctx, &caller, plan.hunt.group().unwrap_or(&callee), emergency.is_some());
        info!(call = %id, emergency = emergency.is_some(), "Call begins.");
        Self {
            id,
            key: String::new(),
            state: State::Setup,
            a,
            branches: BTreeMap::new(),
            caller,
            emergency,
            relayed: BTreeMap::new(),
            plan,
            failover: Failover::default(),
            next_branch: 0,
            reason: String::new(),
            failure: None,
            has_offer: false,
            early: None,
            told: None,
            provisionals: Provisionals::default(),
            early_update: None,
            winner: None,
            passed: PassedHeaders::default(),
            ring_deadline: ctx.now + Duration::from_secs(limits::RING_S_MAX),
            cdr,
            is_recorded: false,
            worker,
            transfer: None,
            transfers: 0,
            referred_by: None,
            handover: None,
            timer: None,
        }
    }

    /// The failure comes with the text of its Warning header, where it has one.
    pub(super) fn read_offer(&mut self, ctx: &mut Context) -> Result<(), (Failure, Option<String>)> {
        let invite = self.a.server_invite.as_ref().map(|i| i.pending.request.clone());
        let body = invite.as_ref().and_then(Message::sdp).unwrap_or_default();
        if body.is_empty() {
            return Ok(());
        }
        let not_acceptable = |text: &str| (Failure::new(488, "Not Acceptable Here"), Some(text.to_owned()));
        let session = self.a.negotiation.read_offer(&body).map_err(|fault| not_acceptable(fault.text()))?;
        if !self.a.open_media(ctx, self.id, Side::A, self.worker, &session) {
            return Err((Failure::new(503, "No Media Port Free"), None));
        }
        self.a.session = Some(session);
        self.has_offer = true;
        Ok(())
    }

    // Outwards: waves, branches.

    /// Tries what the plan holds next; with nothing left, the call fails.
    pub(super) fn next_wave(&mut self, ctx: &mut Context) {
        while let Some(wave) = self.plan.next_wave() {
            for attempt in wave {
                self.launch(ctx, attempt);
            }
            if self.has_live_branch() {
                return;
            }
        }
        if self.state == State::Setup && !self.plan.hunt.go_on() {
            let failure = self.plan.hunt.verdict().or_else(|| self.failure.clone());
            let failure = failure.unwrap_or_else(|| Failure::new(480, "Not Registered"));
            let failure = if self.emergency.is_some() { emergency_call::not_connected(&failure) } else { failure };
            self.fail(ctx, &failure, None);
        }
    }

    fn has_live_branch(&self) -> bool {
        self.branches.values().any(|b| matches!(b.progress, Progress::Calling | Progress::Ringing))
    }

    pub(super) fn launch(&mut self, ctx: &mut Context, attempt: Attempt) {
        let number = self.next_branch;
        self.next_branch += 1;
        match self.send_invite(ctx, number, &attempt) {
            Ok(branch) => {
                debug!(call = %self.id, branch = number, "INVITE sent.");
                if let Some(trunk) = attempt.trunk() {
                    self.cdr.trunk = Some(ctx.trunks.trunk(trunk).name.clone());
                }
                self.branches.insert(number, Box::new(branch));
            }
            Err(failure) => self.note_failure(failure),
        }
        if let (Some(info), Some(trunk)) = (&self.emergency, attempt.trunk()) {
            emergency_call::log_attempt(ctx, self.id, info, trunk, number);
        }
    }

    fn send_invite(&mut self, ctx: &mut Context, number: u32, attempt: &Attempt) -> Result<Branch, Failure> {
        let mut leg = outgoing::leg_for(
            ctx,
            (self.id, Side::B(number)),
            attempt,
            &self.caller,
            self.emergency.as_ref(),
            &self.failover,
        )?;
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
            invite: Some(invite),
            progress: Progress::Calling,
            sent_at: ctx.now,
            deadline,
            is_negotiated: false,
            received: Received::default(),
            settled: Vec::new(),
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
            return Err(Failure::new(503, "No Media Port Free"));
        }
        Ok(leg.negotiation.offer(session, &leg.local_media(ctx)))
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
        if let Some(branch) =
            self.branches.get_mut(&number).filter(|b| b.progress == Progress::Calling && b.deadline.is_some())
        {
            // The trunk lives; in an emergency it has a little longer to say more than 100.
            branch.deadline = self.emergency.is_some().then(|| branch.sent_at + emergency_call::NO_PROGRESS);
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
                if let Some(branch) = self.branches.get_mut(&number) {
                    branch.leg.bye_reason = Some(reason::sip(488, ""));
                }
                self.drop_branch(ctx, number);
                self.note_answer_of_nobody(number);
                self.note_failure(Failure::new(488, "Not Acceptable Here"));
                debug!(call = %self.id, reason = text, "The callee's session description is unusable.");
                self.next_wave_if_idle(ctx);
            }
        }
    }

    pub(super) fn connected(&mut self, ctx: &mut Context, number: u32, sdp: Option<&str>) {
        self.state = State::Answered(number);
        self.winner = Some(number);
        let trunk =
            self.branches[&number].leg.trunk.or_else(|| self.a.trunk.filter(|_| self.a.server_invite.is_none()));
        self.cdr.trunk = trunk.map(|trunk| ctx.trunks.trunk(trunk).name.clone());
        self.cdr.answer_ms = Some(ctx.now.unix_ms());
        self.cdr.answered_by = self.branches[&number].party().map(str::to_owned);
        self.plan.give_up();
        self.cancel_branches(ctx, Some(number));
        self.close_unused_media(ctx);
        // What a reliable response has settled is not said again (RFC 6337).
        let is_new = !self.provisionals.has_settled;
        self.answer_a(ctx, 200, "", sdp.filter(|_| is_new));
        ctx.counters.calls_answered += 1;
        info!(call = %self.id, "Call answered.");
        if let Some(info) = &self.emergency {
            emergency_call::log_stage(self.id, info, "connected");
        }
    }

    /// Gives back the ports of sections that only one offer, now settled or refused, had asked for.
    pub(super) fn close_unused_media(&mut self, ctx: &mut Context) {
        let State::Answered(number) = self.state else { return };
        self.a.close_unused_media(ctx);
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.leg.close_unused_media(ctx);
        }
    }

    /// Joins each section of the caller's leg with the same section of the branch.
    pub(super) fn join_media(&self, ctx: &mut Context, number: u32) {
        let b = &self.branches[&number].leg;
        for (a, b) in self.a.media.iter().zip(&b.media) {
            if let (Some(a), Some(b)) = (*a, *b) {
                ctx.command(a, media::Command::Connect { a, b });
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
        (branch.txn, branch.invite) = (txn, Some(invite));
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
        let has_rung = branch.progress == Progress::Ringing;
        let is_unheard = branch.progress == Progress::Calling;
        let attempt = branch.attempt.clone();
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
            self.note_failure(mapped(status, &reason, is_trunk));
            if let Some(user) = attempt.as_ref().and_then(Attempt::user) {
                self.plan.hunt.note(user, Outcome::of(status, has_rung));
            }
            self.after_refusal(ctx, attempt, status);
        }
        self.next_wave_if_idle(ctx);
    }

    /// Ends a branch whose INVITE has its final answer.
    pub(super) fn retire_branch(&mut self, ctx: &mut Context, number: u32) {
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.progress = Progress::Over;
            branch.deadline = None;
        }
        self.drop_branch(ctx, number);
    }

    /// What a refusal means for the rest of the plan.
    fn after_refusal(&mut self, ctx: &mut Context, attempt: Option<Attempt>, status: u16) {
        match attempt {
            Some(Attempt::Emergency { trunk, has_location: true }) if emergency_call::may_be_the_location(status) => {
                tracing::error!(target: "emergency", call = %self.id, trunk = %ctx.trunks.trunk(trunk).name, sip_code = status,
                    "The trunk refused the call with its location; trying once without.");
                self.plan.retry(Attempt::Emergency { trunk, has_location: false });
            }
            Some(Attempt::Emergency { .. }) | None => {}
            Some(Attempt::Trunk { .. }) => {
                // Another trunk helps when this one is in trouble, not when the callee has spoken.
                if !matches!(status, 401 | 407 | 408 | 430 | 500..600) {
                    self.plan.give_up();
                }
            }
            // One device has spoken for the whole user, but not for other members of a group.
            Some(Attempt::Contact { user, .. }) => {
                if status >= 600 {
                    self.reason = reason::sip(status, "");
                    self.cancel_where(ctx, |b| b.user() == Some(&user));
                    self.reason.clear();
                }
            }
        }
    }

    /// A branch that is of no use any more, although its INVITE has no final answer yet.
    pub(super) fn branch_left(&mut self, ctx: &mut Context, number: u32, failure: Failure) {
        self.cancel_branch(ctx, number);
        self.note_answer_of_nobody(number);
        self.note_failure(failure);
        self.next_wave_if_idle(ctx);
    }

    /// Somebody was there, and yet no call came of it: the user is not unreachable.
    fn note_answer_of_nobody(&mut self, number: u32) {
        if let Some(user) = self.branches.get(&number).and_then(|branch| branch.user()) {
            self.plan.hunt.note(user, Outcome::NoAnswer);
        }
    }

    pub(super) fn next_wave_if_idle(&mut self, ctx: &mut Context) {
        if self.state == State::Setup && !self.has_live_branch() {
            self.next_wave(ctx);
        }
    }

    // Towards the caller.

    /// A response to the caller's INVITE, with our Contact and the SDP if there is one.
    pub(super) fn answer_a(&mut self, ctx: &mut Context, status: u16, reason: &str, sdp: Option<&str>) {
        let contact = self.a.contact(ctx);
        let tag = self.a.local_tag.clone();
        let Some(invite) = self.a.server_invite.as_mut().filter(|i| !i.is_answered) else { return };
        invite.is_answered = status >= 200;
        let pending = invite.pending.clone();
        let mut response = ctx.response(&pending, status, reason, &tag).header("Contact", contact);
        if status >= 200 {
            response = response.header("Allow", ALLOW);
        }
        if status < 300 {
            response = self.passed.add_to_response(response);
        }
        if status == 200 {
            response = self.a.accept_session(ctx.now, &pending.request, response);
            response = self.name_answerer(ctx, response);
        }
        if let Some(sdp) = sdp {
            response = response.body("application/sdp", sdp.as_bytes());
        }
        ctx.respond(pending.txn, status, response.finish());
    }

    /// Refuses the caller's INVITE and ends the call.
    pub(super) fn fail(&mut self, ctx: &mut Context, failure: &Failure, warning: Option<&str>) {
        let tag = self.a.local_tag.clone();
        if let Some(invite) = self.a.server_invite.as_mut().filter(|i| !i.is_answered) {
            invite.is_answered = true;
            let pending = invite.pending.clone();
            let mut response = ctx.response(&pending, failure.status, &failure.reason, &tag);
            if let Some(text) = warning {
                response = response.header("Warning", ctx.warning(text));
            }
            if failure.status == 503 && self.emergency.is_none() {
                response = response.header("Retry-After", 5);
            }
            if let Some(info) = self.emergency.as_ref().filter(|_| failure.status == 503) {
                response = emergency_call::not_connected_response(ctx, info, response);
                ctx.counters.emergency_failed += 1;
            }
            ctx.respond(pending.txn, failure.status, response.finish());
            ctx.counters.calls_refused += 1;
        }
        self.reason = reason::sip(failure.status, "");
        self.finish(ctx, EndedBy::Server, failure.status, &failure.reason);
    }

    // Endings.

    /// CANCEL from the caller (RFC 3261 section 9.2).
    pub(super) fn cancelled(&mut self, ctx: &mut Context) {
        if self.state == State::Setup {
            self.answer_a(ctx, 487, "", None);
            self.finish(ctx, EndedBy::Caller, 487, "");
        }
    }

    /// Ends everything that is still open. Safe to call twice.
    pub(super) fn finish(&mut self, ctx: &mut Context, ended_by: EndedBy, status: u16, reason: &str) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        self.plan.give_up();
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
            emergency_call::log_stage(self.id, info, if self.cdr.answer_ms.is_some() { "ended" } else { "failed" });
        }
    }

    /// Cancels every branch that has no final answer, except one.
    pub(super) fn cancel_branches(&mut self, ctx: &mut Context, except: Option<u32>) {
        let others: Vec<u32> = self.branches.keys().copied().filter(|number| Some(*number) != except).collect();
        for number in others {
            self.cancel_branch(ctx, number);
        }
    }

    fn cancel_where(&mut self, ctx: &mut Context, is_meant: impl Fn(&Branch) -> bool) {
        let meant: Vec<u32> = self.branches.iter().filter(|(_, b)| is_meant(b)).map(|(number, _)| *number).collect();
        for number in meant {
            self.cancel_branch(ctx, number);
        }
    }

    /// A branch that still has no final answer is not wanted any more, not even if its 200 is on its way.
    fn cancel_branch(&mut self, ctx: &mut Context, number: u32) {
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
        let cseq = branch.invite.as_ref().and_then(Message::cseq);
        let is_confirmed = cseq.is_some_and(|c| branch.leg.has_acknowledged(c.number));
        if is_confirmed || branch.leg.owes_answer() {
            branch.leg.bye(ctx);
        }
        branch.leg.close_media(ctx);
        branch.leg.leave_dialog(ctx);
        self.provisionals.take_held(number);
        self.leave_early(ctx, number);
    }

    // Media and time.

    pub(super) fn media_event(&mut self, ctx: &mut Context, side: Side, event: &media::Event) {
        match event {
            media::Event::Flowing { .. } => {}
            media::Event::OpenFailed { leg } => self.media_failed(ctx, side, *leg),
            media::Event::Closed { leg: closed, report } => {
                if let Some(leg) = self.leg_mut(side) {
                    leg.media_closed(ctx, *closed, report);
                }
            }
        }
    }

    /// The ports could not be bound: somebody else on this machine has them.
    fn media_failed(&mut self, ctx: &mut Context, side: Side, leg: LegId) {
        tracing::error!(call = %self.id, port = ctx.ports.rtp_port(leg), "A media port could not be bound.");
        match (self.state, side) {
            (State::Setup, Side::A) => self.fail(ctx, &Failure::new(503, "Media Port Unavailable"), None),
            (State::Setup, Side::B(number)) => {
                self.branch_left(ctx, number, Failure::new(503, "Media Port Unavailable"));
            }
            (State::Answered(_), _) => self.hang_up_both(ctx, 503, "Media Port Unavailable"),
            (State::Ended, _) => {}
        }
    }

    /// Ends an answered call from our side.
    pub(super) fn hang_up_both(&mut self, ctx: &mut Context, status: u16, reason: &str) {
        self.hang_up(ctx, EndedBy::Server, status, reason);
    }

    pub(super) fn hang_up(&mut self, ctx: &mut Context, ended_by: EndedBy, status: u16, reason: &str) {
        self.refuse_open_invites(ctx);
        self.reason = if status < 300 { String::new() } else { reason::sip(status, reason) };
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

    pub(super) fn timed_out(&mut self, ctx: &mut Context) {
        self.give_up_late(ctx);
        self.sessions_due(ctx);
        self.repeat_handover(ctx);
        if self.state != State::Setup {
            return;
        }
        if self.ring_deadline <= ctx.now && self.emergency.is_none() {
            return self.fail(ctx, &Failure::new(408, "Nobody Answered"), None);
        }
        self.repeat_provisional(ctx);
        let late: Vec<u32> =
            self.branches.iter().filter(|(_, b)| b.deadline.is_some_and(|d| d <= ctx.now)).map(|(n, _)| *n).collect();
        for number in late {
            self.note_server_silence(ctx, number);
            self.stop_waiting(ctx, number);
            self.note_failure(Failure::new(408, "Trunk Does Not Answer"));
        }
        if self.plan.hunt.deadline.is_some_and(|d| d <= ctx.now) {
            self.stop_ringing(ctx);
        }
        self.next_wave_if_idle(ctx);
    }

    /// The next attempt begins; who answers this one at the last moment is still welcome.
    pub(super) fn stop_waiting(&mut self, ctx: &mut Context, number: u32) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        branch.deadline = None;
        branch.progress = Progress::GivenUp;
        ctx.cancel(branch.txn);
        self.leave_early(ctx, number);
    }

    /// When [`Call::timed_out`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.state != State::Setup {
            let deadlines = [self.sessions_deadline(), self.answers_deadline(), self.handover_deadline()];
            return deadlines.into_iter().flatten().min();
        }
        // An emergency call rings as long as the caller waits: the answering point may queue it.
        let ring = self.emergency.is_none().then_some(self.ring_deadline);
        let branches = self.branches.values().filter_map(|b| b.deadline);
        branches.chain(ring).chain(self.plan.hunt.deadline).chain(self.provisionals.deadline()).min()
    }

    // For the core.

    pub(super) fn leg(&self, side: Side) -> Option<&Leg> {
        match side {
            Side::A => Some(&self.a),
            Side::B(number) => self.branches.get(&number).map(|b| &b.leg),
        }
    }

    pub(super) fn leg_mut(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::A => Some(&mut self.a),
            Side::B(number) => self.branches.get_mut(&number).map(|b| &mut b.leg),
        }
    }

    /// The record, once the call is over and every media leg has reported.
    pub(super) fn take_record(&mut self) -> Option<Cdr> {
        let is_open = self.a.has_open_media() || self.branches.values().any(|b| b.leg.has_open_media());
        if self.state != State::Ended || is_open || self.is_recorded {
            return None;
        }
        self.is_recorded = true;
        let winner = self.winner.and_then(|number| self.branches.get(&number));
        self.cdr.a = Some(self.a.record.clone());
        self.cdr.b = winner.map(|b| b.leg.record.clone()).or_else(|| self.cdr.b.take());
        Some(self.cdr.clone())
    }

    /// Its record is not written yet. What lives longer than that only waits for transactions.
    pub(super) const fn is_live(&self) -> bool {
        !self.is_recorded
    }

    /// Nothing is left to do: the record is written, no INVITE of ours is open and no BYE is owed.
    pub(super) fn is_over(&self) -> bool {
        let are_settled = self.branches.values().all(|b| b.progress == Progress::Over && b.leg.is_settled());
        self.is_recorded && self.a.is_settled() && are_settled
    }

    /// Users whose devices are in this call.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        let legs = std::iter::once(&self.a).chain(self.branches.values().map(|b| &b.leg));
        legs.filter_map(|leg| leg.device.as_ref().map(|device| device.user.as_str()))
    }

    /// What the user of one side's device is told of the call by a lamp: nothing before it rings.
    pub(super) fn lamp(&self, side: Side) -> Option<dialog_info::Dialog> {
        let state = match (self.state, side) {
            (State::Setup, Side::A) if self.branches.values().any(|b| b.is_ringing()) => dialog_info::State::Early,
            (State::Setup, Side::B(number)) if self.branches.get(&number).is_some_and(|b| b.is_ringing()) => {
                dialog_info::State::Early
            }
            (State::Answered(_), Side::A) => dialog_info::State::Confirmed,
            (State::Answered(winner), Side::B(number)) if winner == number => dialog_info::State::Confirmed,
            (State::Setup | State::Answered(_) | State::Ended, _) => return None,
        };
        let (leg, direction) = match side {
            Side::A => (0, dialog_info::Direction::Initiator),
            Side::B(number) => (number.saturating_add(1), dialog_info::Direction::Recipient),
        };
        Some(dialog_info::Dialog { id: format!("{}-{leg}", self.id), direction, state })
    }

    pub(super) fn view(&self) -> CallView {
        let (state, b) = match self.state {
            State::Setup if self.branches.values().any(|b| b.progress == Progress::Ringing) => ("ringing", None),
            State::Setup => ("setup", None),
            State::Answered(number) => ("answered", self.branches.get(&number)),
            State::Ended => ("ending", None),
        };
        let suite = |leg: &Leg| (!leg.record.suite.is_empty()).then(|| leg.record.suite.clone());
        CallView {
            id: self.cdr.id.clone(),
            caller: self.cdr.caller.clone(),
            callee: self.cdr.callee.clone(),
            state,
            start_ms: self.cdr.start_ms,
            answer_ms: self.cdr.answer_ms,
            emergency: self.cdr.emergency,
            trunk: self.cdr.trunk.clone(),
            answered_by: self.cdr.answered_by.clone(),
            a_suite: suite(&self.a),
            b_suite: b.and_then(|b| suite(&b.leg)),
        }
    }
}
