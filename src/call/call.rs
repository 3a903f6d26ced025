//! One call: the caller's leg, the branches tried, the answered leg. How it begins and is answered, its media and its
//! time; whom it tries is `branches`', what happens in its dialogs `in_dialog`'s, and how it ends `ending`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::{info, warn};

use super::{
    capacity::Weight,
    cdr::Cdr,
    context::{ALLOW, Context, Pending, Side},
    early_update::EarlyUpdate,
    emergency_call::{self, EmergencyInfo},
    failover::Failover,
    fork::{Branch, Failure, Outside, Plan, Progress},
    handover::{Handover, Part},
    in_dialog::Relayed,
    interface::{CallDetail, CallView, LegDetail, SilenceView},
    leg::{Device, Leg, Peer, ServerInvite},
    open_cdr::OpenCdr,
    outgoing,
    passed_headers::PassedHeaders,
    provisional::Provisionals,
    signature::Signed,
};
use crate::{
    media::{self, LegReport, Silence},
    policy::{emergency::Class, security::LegSecurity, stir::Verification},
    sip::{
        dialog::{Dialog, is_sips},
        registrar::Binding,
        session_timer::SessionTimer,
    },
    types::{CallId, Duration, Flow, Instant, LegId, TxnId, limits},
    wire::{dialog_info, sdp::Session, sip::Message},
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
    /// Whether the number is the caller's own, as far as this server has found out.
    pub verification: Option<Verification>,
    /// What a trunk's call was signed with, for where it goes on to.
    pub signed: Option<Arc<Signed>>,
}

impl Caller {
    /// The user whose device calls.
    pub(super) fn user_name(&self) -> Option<&str> {
        match &self.peer {
            Peer::Device(name) => Some(name),
            Peer::Trunk(_) | Peer::Unknown => None,
        }
    }
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

/// What few calls have lies behind a pointer: there are thousands of calls.
#[derive(Debug)]
pub(super) struct Call {
    pub id: CallId,
    pub key: String,
    pub state: State,
    pub a: Leg,
    /// Boxed, as the calls are: a tree node has room for eleven.
    pub branches: BTreeMap<u32, Box<Branch>>,
    pub caller: Caller,
    pub emergency: Option<Box<EmergencyInfo>>,
    /// Requests relayed between the legs, by the client transaction that carries them on.
    pub relayed: BTreeMap<TxnId, Relayed>,
    pub plan: Plan,
    /// The caller's leg leads outside: it was the callee's in the call that a transfer took it from.
    pub a_outside: Option<Box<Outside>>,
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
    pub early_update: Option<Box<EarlyUpdate>>,
    /// The branch whose 200 won; stays known after the end.
    pub winner: Option<u32>,
    /// Of the response that is being passed on.
    pub passed: PassedHeaders,
    ring_deadline: Instant,
    /// An emergency call that found no media port: until when it waits for the end of an ordinary call.
    pub waits_for_room: Option<Instant>,
    /// Media ports of other programs that it has met.
    occupied_ports: u8,
    /// A test call without a telephone: when it ends by itself.
    pub test_until: Option<Instant>,
    /// An emergency call that has failed: the desks do not know yet.
    pub is_failure_untold: bool,
    /// It is to take the place of a leg in another call.
    pub takes_over: bool,
    pub(super) cdr: Cdr,
    pub(super) open_cdr: OpenCdr,
    is_recorded: bool,
    /// Media worker of all legs of this call.
    pub worker: u16,
    /// As what it was counted last among that worker's calls.
    pub weight: Weight,
    /// The transfer that this call is part of now.
    pub transfer: Option<Part>,
    /// How many transfers led to this call.
    pub transfers: u8,
    /// Referred-By (RFC 3892) for the devices this call goes to.
    pub referred_by: Option<String>,
    /// One leg is being offered the media of another call, which it shall move to.
    pub handover: Option<Box<Handover>>,
    /// The deadline the core has set for this call.
    pub timer: Option<Instant>,
}

/// What a call costs beside its texts, its branches and its media: mimalloc hands out no size between this and 3 KiB.
const _: () = assert!(size_of::<Call>() <= 2_560);

impl Call {
    /// Reads the caller's offer, if it has one, takes its ports and tries the first wave. On failure the INVITE is
    /// answered, and the call is over at once.
    pub(super) fn start(ctx: &mut Context, new: NewCall) -> Self {
        let mut call = Self::new(ctx, new);
        match call.read_offer(ctx) {
            Ok(()) => call.next_wave(ctx),
            Err((failure, _)) if call.may_wait_for_room(&failure) => call.wait_for_room(ctx),
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
        if a.trunk.is_some() {
            a.negotiation.keep_to_telephony();
        }
        a.is_private = caller.is_private;
        a.enter(ctx, id, Side::A);
        a.note_abilities(&pending.request);
        let provisionals = Provisionals::new(&pending.request);
        a.server_invite = Some(Box::new(ServerInvite::new(pending)));
        let parts = Parts { id, a, caller, callee, worker, plan, emergency };
        Self { key, provisionals, ..Self::of(ctx, parts) }
    }

    /// A call whose caller's leg is there, or will be moved here from another call.
    pub(super) fn of(ctx: &mut Context, parts: Parts) -> Self {
        let Parts { id, mut a, caller, callee, worker, plan, emergency } = parts;
        a.is_urgent = is_urgent(&plan, emergency.as_ref());
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
            emergency: emergency.map(Box::new),
            relayed: BTreeMap::new(),
            plan,
            a_outside: None,
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
            waits_for_room: None,
            occupied_ports: 0,
            test_until: None,
            is_failure_untold: false,
            takes_over: false,
            cdr,
            open_cdr: OpenCdr::default(),
            is_recorded: false,
            worker,
            weight: Weight::Nothing,
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
        self.a.session = Some(session);
        self.has_offer = true;
        if !self.open_media_of_a(ctx) {
            return Err((Failure::no_port(), None));
        }
        Ok(())
    }

    fn open_media_of_a(&mut self, ctx: &mut Context) -> bool {
        let Some(session) = self.a.session.clone().filter(|_| self.has_offer) else { return true };
        self.a.open_media(ctx, self.id, Side::A, self.worker, &session)
    }

    // An emergency call on a machine without a free port (emergency RULES 5.5).

    pub(super) fn may_wait_for_room(&self, failure: &Failure) -> bool {
        let is_emergency = self.emergency.as_deref().is_some_and(|info| info.class == Class::Emergency);
        is_emergency && self.state == State::Setup && *failure == Failure::no_port()
    }

    /// The core makes room.
    pub(super) fn wait_for_room(&mut self, ctx: &Context) {
        self.waits_for_room = self.waits_for_room.or(Some(ctx.now + emergency_call::ROOM_WAIT));
    }

    /// A port of its worker is free again.
    pub(super) fn room_made(&mut self, ctx: &mut Context) {
        if self.waits_for_room.is_some() && self.open_media_of_a(ctx) {
            let waited_until = self.waits_for_room.take();
            self.next_wave(ctx);
            // Still the same wait, where the port was not enough.
            self.waits_for_room = self.waits_for_room.and(waited_until);
        }
    }

    pub(super) fn connected(&mut self, ctx: &mut Context, number: u32, sdp: Option<&str>) {
        self.state = State::Answered(number);
        self.winner = Some(number);
        if let (Some(outside), Some(trunk)) = (&mut self.plan.outside, self.branches[&number].leg.trunk) {
            outside.trunk = Some(trunk);
        }
        let trunk =
            self.branches[&number].leg.trunk.or_else(|| self.a.trunk.filter(|_| self.a.server_invite.is_none()));
        self.cdr.trunk = trunk.map(|trunk| ctx.trunks.trunk(trunk).name.clone());
        self.cdr.answer_ms = Some(ctx.now.unix_ms());
        self.cdr.answered_by = self.branches[&number].party().map(str::to_owned);
        self.test_until = self.test_until.map(|_| ctx.now + emergency_call::TEST_TALK);
        self.plan.give_up();
        self.cancel_branches(ctx, Some(number));
        self.close_unused_media(ctx);
        self.a.watch(ctx);
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.leg.watch(ctx);
        }
        // What a reliable response has settled is not said again (RFC 6337).
        let is_new = !self.provisionals.has_settled;
        self.answer_a(ctx, 200, "", sdp.filter(|_| is_new));
        ctx.counters.calls_answered += 1;
        info!(call = %self.id, "Call answered.");
        if let Some(info) = &self.emergency {
            let setup_ms = ctx.now.unix_ms().saturating_sub(self.cdr.start_ms);
            emergency_call::connected(ctx, self.id, info, self.cdr.trunk.as_deref(), setup_ms);
            self.note_attempt(ctx, number, 200);
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

    // Media and time.

    pub(super) fn media_event(&mut self, ctx: &mut Context, side: Side, event: &media::Event) {
        match event {
            media::Event::Flowing { .. } | media::Event::Report { .. } | media::Event::Load { .. } => {}
            media::Event::Silent { leg, silence } => self.fell_silent(ctx, side, *leg, *silence),
            media::Event::Heard { leg } => self.is_heard(side, *leg),
            media::Event::OpenFailed { leg } | media::Event::Overrun { leg } => self.media_failed(ctx, side, *leg),
            media::Event::Closed { leg: closed, report, history } => {
                if let Some(leg) = self.leg_mut(side) {
                    leg.media_closed(ctx, *closed, report, history);
                }
            }
        }
    }

    /// Nothing comes from this side that the other could hear. It ends no call: whoever waits hangs up, and an emergency
    /// service listens to silence too.
    fn fell_silent(&mut self, ctx: &mut Context, side: Side, media: LegId, silence: Silence) {
        let opposite = self.opposite(side).and_then(|side| self.leg(side));
        let is_one_way = opposite.is_none_or(|leg| leg.silences.is_empty());
        let Some(leg) = self.leg_mut(side) else { return };
        leg.silences.push((media, ctx.now, silence));
        leg.record.silence_cause = Some(silence.cause.label().to_owned());
        ctx.counters.quality.count_silence(silence.cause);
        let (cause, rtcp, name) = (silence.cause.label(), silence.has_rtcp, side_name(side));
        if is_one_way {
            warn!(call = %self.id, leg = name, cause, rtcp, "One-way audio: this leg is silent, the other is heard.");
        } else {
            warn!(call = %self.id, leg = name, cause, rtcp, "Silence: neither leg is heard.");
        }
    }

    fn is_heard(&mut self, side: Side, media: LegId) {
        if self.leg_mut(side).is_some_and(|leg| leg.is_heard_by(media)) {
            info!(call = %self.id, leg = side_name(side), "The silence of this leg is over.");
        }
    }

    /// Another program has the ports of a media leg. Other ports take their place: at once where the peer has not been told,
    /// by another INVITE or re-INVITE where it has.
    fn media_failed(&mut self, ctx: &mut Context, side: Side, media: LegId) {
        let (call, worker) = (self.id, self.worker);
        let Some(leg) = self.leg_mut(side) else { return };
        if !leg.lose_media(ctx, media) {
            return;
        }
        let untold = leg.open_offer().cloned();
        let is_quiet = leg.is_quiet();
        self.occupied_ports = self.occupied_ports.saturating_add(1);
        if self.occupied_ports > limits::OCCUPIED_PORTS_PER_CALL_MAX {
            return self.port_unavailable(ctx, side);
        }
        let is_open = |number: &u32| self.branches.get(number).is_some_and(|branch| branch.is_open());
        match (untold, self.state, side) {
            (Some(offer), ..) => {
                let leg = self.leg_mut(side).expect("it was there");
                if !leg.open_media(ctx, call, side, worker, &offer) {
                    self.port_unavailable(ctx, side);
                }
            }
            (None, State::Setup, Side::B(number)) if is_open(&number) => self.invite_anew(ctx, number),
            (None, State::Answered(_), _) if is_quiet && self.transfer.is_none() && self.handover.is_none() => {
                self.offer_new_ports(ctx, side);
            }
            (None, ..) => self.port_unavailable(ctx, side),
        }
    }

    fn port_unavailable(&mut self, ctx: &mut Context, side: Side) {
        let failure = Failure::new(503, "Media Port Unavailable");
        match (self.state, side) {
            (State::Setup, Side::A) => self.fail(ctx, &failure, None),
            (State::Setup, Side::B(number)) => self.branch_left(ctx, number, failure),
            // Nobody is taken from an answering point (emergency RULES, section 6).
            (State::Answered(_), _) if self.emergency.is_some() => {}
            (State::Answered(_), _) => self.hang_up_both(ctx, failure.status, &failure.reason),
            (State::Ended, _) => {}
        }
    }

    pub(super) fn timed_out(&mut self, ctx: &mut Context) {
        self.give_up_early_offer(ctx);
        self.give_up_relayed(ctx);
        self.give_up_late(ctx);
        self.sessions_due(ctx);
        self.repeat_handover(ctx);
        if self.test_until.is_some_and(|until| until <= ctx.now) {
            self.test_until = None;
            return self.end_test(ctx);
        }
        if self.state != State::Setup {
            return;
        }
        if self.ring_deadline <= ctx.now && self.emergency.is_none() {
            return self.fail(ctx, &Failure::new(408, "Nobody Answered"), None);
        }
        self.repeat_provisional(ctx);
        if self.waits_for_room.is_some_and(|until| until <= ctx.now) {
            return self.give_up_waiting(ctx);
        }
        let late: Vec<u32> =
            self.branches.iter().filter(|(_, b)| b.deadline.is_some_and(|d| d <= ctx.now)).map(|(n, _)| *n).collect();
        for number in late {
            if self.waits_on(ctx, number) {
                continue;
            }
            self.note_server_silence(ctx, number);
            self.stop_waiting(ctx, number);
            self.note_failure(Failure::new(408, "Trunk Does Not Answer"));
        }
        self.plan.hunt.alert_if_due(ctx.now);
        if self.plan.hunt.deadline.is_some_and(|d| d <= ctx.now) {
            self.stop_ringing(ctx);
        }
        self.next_wave_if_idle(ctx);
    }

    /// When [`Call::timed_out`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.state != State::Setup {
            let others = [self.handover_deadline(), self.early_offer_deadline(), self.relayed_deadline()];
            let own = [self.sessions_deadline(), self.answers_deadline(), self.test_until];
            let deadlines = own.into_iter().chain(others);
            return deadlines.flatten().min();
        }
        // An emergency call rings as long as the caller waits: the answering point may queue it.
        let ring = self.emergency.is_none().then_some(self.ring_deadline);
        let branches = self.branches.values().filter_map(|b| b.deadline);
        let others = [
            ring,
            self.test_until,
            self.waits_for_room,
            self.plan.hunt.deadline,
            self.plan.hunt.alert_at,
            self.provisionals.deadline(),
            self.early_offer_deadline(),
        ];
        branches.chain(others.into_iter().flatten()).min()
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
        self.cdr.a = Some(Box::new(self.a.record.clone()));
        self.cdr.b = winner.map(|b| Box::new(b.leg.record.clone())).or_else(|| self.cdr.b.take());
        Some(self.cdr.clone())
    }

    /// Its record is not written yet. What lives longer than that only waits for transactions.
    pub(super) const fn is_live(&self) -> bool {
        !self.is_recorded
    }

    /// An emergency call, or the answering point's call back.
    pub(super) fn is_urgent(&self) -> bool {
        is_urgent(&self.plan, self.emergency.as_deref())
    }

    /// A branch to this contact is on its way.
    pub(super) fn rings(&self, binding: &Binding) -> bool {
        let is_it = |b: &Arc<Binding>| b.aor == binding.aor && b.is_same(binding);
        self.branches.values().any(|branch| branch.is_open() && branch.binding().is_some_and(is_it))
    }

    /// One of its parties is reached over a trunk.
    pub(super) fn has_trunk(&self) -> bool {
        self.a.trunk.is_some() || self.branches.values().any(|branch| branch.leg.trunk.is_some())
    }

    /// Nothing is left to do: the record is written, no INVITE of ours is open and no BYE is owed.
    pub(super) fn is_over(&self) -> bool {
        let are_settled = self.branches.values().all(|b| b.progress == Progress::Over && b.leg.is_settled());
        self.is_recorded && self.a.is_settled() && are_settled
    }

    /// Where its legs are reached.
    pub(super) fn flows(&self) -> impl Iterator<Item = &Flow> {
        std::iter::once(&self.a.flow).chain(self.branches.values().map(|branch| &branch.leg.flow))
    }

    /// How many of its two parties are on this trunk, or are to be.
    pub(super) fn parties_on(&self, trunk: usize) -> usize {
        let is_in_use = |number: u32, branch: &Branch| {
            (branch.progress != Progress::Over || self.winner == Some(number)) && branch.leg.trunk == Some(trunk)
        };
        let has_callee = self.branches.iter().any(|(number, branch)| is_in_use(*number, branch));
        usize::from(self.a.trunk == Some(trunk)) + usize::from(has_callee)
    }

    /// The legs that have left for outside, a party each, and for how long they have talked here.
    pub(super) fn outside(&self, now: Instant) -> impl Iterator<Item = (&Outside, u64)> {
        let end_ms = if self.state == State::Ended { self.cdr.end_ms } else { now.unix_ms() };
        let talked_ms = self.cdr.answer_ms.map_or(0, |answer_ms| end_ms.saturating_sub(answer_ms));
        let legs = [self.a_outside.as_deref(), self.plan.outside.as_ref()].into_iter().flatten();
        legs.filter(|outside| outside.trunk.is_some()).map(move |outside| (outside, talked_ms))
    }

    /// Users whose devices are in this call.
    pub(super) fn users(&self) -> impl Iterator<Item = &str> {
        let legs = std::iter::once(&self.a).chain(self.branches.values().map(|b| &b.leg));
        legs.filter_map(|leg| leg.device.as_ref().map(|device| device.user.as_str()))
    }

    /// What a lamp tells of the call of one side's device: nothing before it rings. `is_own`: the lamp is its user's.
    pub(super) fn lamp(&self, side: Side, is_own: bool) -> Option<dialog_info::Dialog> {
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
        let is_short = |Dialog { id, .. }: &&Dialog| {
            [&id.call_id, &id.local_tag, &id.remote_tag].iter().all(|name| name.len() <= limits::DIALOG_NAME_BYTES_MAX)
        };
        let dialog = self.leg(side)?.dialog.as_ref().filter(|_| is_own).filter(is_short);
        let names = dialog.map(|Dialog { id, .. }| dialog_info::Names {
            call_id: id.call_id.clone(),
            local_tag: id.remote_tag.clone(),
            remote_tag: id.local_tag.clone(),
        });
        Some(dialog_info::Dialog { id: format!("{}-{leg}", self.id), direction, state, names })
    }

    /// Media legs that have not reported their end, of every leg that is shown.
    pub(super) fn media_legs(&self) -> BTreeSet<LegId> {
        let b = self.answered_leg();
        std::iter::once(&self.a).chain(b).flat_map(|leg| leg.open_media.iter().copied()).collect()
    }

    fn answered_leg(&self) -> Option<&Leg> {
        self.winner.and_then(|number| self.leg(Side::B(number)))
    }

    /// With what its media legs have just reported.
    pub(super) fn detail(&self, reports: &[(Side, LegReport)]) -> CallDetail {
        let detail = |leg: &Leg| {
            let mut record = leg.record.clone();
            reports.iter().filter(|(side, _)| *side == leg.id.1).for_each(|(_, report)| record.add(report));
            let silence = leg.silences.first().map(|&(_, since, Silence { cause, has_rtcp })| SilenceView {
                since_ms: since.unix_ms(),
                cause: cause.label(),
                rtcp: has_rtcp,
            });
            LegDetail { record, silence }
        };
        CallDetail { call: self.view(), a: detail(&self.a), b: self.answered_leg().map(detail) }
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
            transferred_by: self.cdr.transferred_by.clone(),
            a_suite: suite(&self.a),
            b_suite: b.and_then(|b| suite(&b.leg)),
        }
    }
}

fn is_urgent(plan: &Plan, emergency: Option<&EmergencyInfo>) -> bool {
    emergency.is_some_and(|info| info.class == Class::Emergency) || !plan.hunt.obeys_wishes()
}

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::A => "a",
        Side::B(_) => "b",
    }
}
