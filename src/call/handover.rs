//! Legs that move from one call to another: how every transfer ends (RFC 5589), and every INVITE with Replaces.
//!
//! The party that stays is offered the media of its new partner by a re-INVITE in the call it is in. Only when it has
//! accepted does its leg move, with its dialog, its media legs and their keys; until then everybody can stay where they
//! are. The transferor may hang up meanwhile: its leg then has left, and the other one waits.

use std::mem;

use super::{
    admission::device_caller,
    call::{Call, Caller, NewCall, Parts, State},
    cdr::{EndedBy, LegRecord},
    context::{Context, Owner, Side},
    fork::{Attempt, Branch, Failure, Outside, Progress},
    identity::Identity,
    leg::{Leg, Peer},
    pbx,
    provisional::Received,
};
use crate::{
    media::{Command, History},
    policy::security::LegSecurity,
    sip::offer_answer::{Protection, Settled},
    types::{CallId, Duration, Flow, Instant, LegId, TxnId, limits},
    wire::{
        sdp::{Direction, Session},
        sip::Message,
        srtp::{MasterKey, Suite},
    },
};

/// A call's part in a transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// The transfer, named after the call that was to be transferred.
    pub transfer: CallId,
    /// The leg that may hang up meanwhile.
    pub transferor: Option<Side>,
}

/// A leg that is offered the media of its new partner.
#[derive(Debug)]
pub(super) struct Handover {
    side: Side,
    pub phase: Phase,
    offer: Session,
    /// Of the partner's media legs.
    worker: u16,
    offers: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Offered,
    /// The peer had an offer of its own on the way: once more, then (RFC 3261 section 14.1).
    Waiting(Instant),
    Accepted,
    Refused(Failure),
}

/// A media leg that goes on with the peer of another one. Where the peer keeps its key (RFC 4568 section 6.4), it is not configured
/// before the other has told what it has heard, since it could not tell what is new from a copy; of another key it learns that
/// afterwards, for the peer may take it back.
#[derive(Debug)]
pub(super) struct Heir {
    pub former: LegId,
    pub media: LegId,
    suite: Suite,
    key: MasterKey,
    /// Of legs before the former one.
    pub history: History,
}

/// A leg between two calls, with the transaction whose 2xx may still be repeated.
pub(super) struct Moved {
    leg: Leg,
    invite: Option<TxnId>,
    /// Of a leg over a trunk: whose limits it counts against, if it leads outside, and whether emergency services call back over it.
    outside: Option<Outside>,
    is_callback: bool,
}

impl Moved {
    pub(super) const fn flow(&self) -> Flow {
        self.leg.flow
    }
}

/// What the party said last, but on hold for nobody: hold was agreed with the partner it had.
pub(super) fn resumed(session: &Session) -> Session {
    let mut session = session.clone();
    for section in session.media.iter_mut().filter(|section| section.port != 0) {
        section.direction = Direction::SendRecv;
    }
    session
}

impl Call {
    /// Who is at the other end of a leg, as others are shown it.
    pub(super) fn party(&self, ctx: &Context, side: Side) -> Caller {
        let Side::B(number) = side else { return self.caller.clone() };
        let branch = self.branches.get(&number);
        let device = branch.and_then(|b| b.leg.device.as_ref());
        if let Some(user) = device.and_then(|device| ctx.directory.by_name(&device.user)) {
            let party = pbx::party(&ctx.config, user).unwrap_or_else(|| device_caller(user));
            return Caller { is_private: branch.is_some_and(|b| b.leg.is_private), ..party };
        }
        let user = match branch.and_then(|b| b.attempt.as_ref()) {
            // Where a user forwards to is nobody's business.
            Some(Attempt::Trunk { number, .. }) if !self.plan.hunt.is_forwarded() => number.clone(),
            Some(Attempt::Trunk { .. } | Attempt::Contact { .. } | Attempt::Emergency { .. }) | None => {
                self.cdr.callee.clone()
            }
        };
        let is_private = branch.is_some_and(|b| b.leg.is_private);
        let peer = match (branch.and_then(|b| b.leg.trunk), device) {
            (Some(trunk), _) => Peer::Trunk(trunk),
            (None, Some(device)) => Peer::Device(device.user.clone()),
            (None, None) => Peer::Unknown,
        };
        Caller { peer, user, display: String::new(), direct_line: None, is_private, verification: None, signed: None }
    }

    /// A call to the target of a REFER on behalf of a party that is still in the call `from`.
    pub(super) fn referred(ctx: &mut Context, from: &Self, stays: Side, mut parts: Parts) -> Self {
        let session = from.leg(stays).and_then(|leg| leg.session.as_ref());
        parts.a.session = session.map(resumed);
        Self::of(ctx, parts)
    }

    /// The call of somebody who takes the place of a leg in another one. Over already, and the INVITE answered, if
    /// its offer is unusable.
    pub(super) fn taking_over(ctx: &mut Context, new: NewCall) -> Self {
        let mut call = Self::new(ctx, new);
        call.takes_over = true;
        if let Err((failure, warning)) = call.read_offer(ctx) {
            call.fail(ctx, &failure, warning.as_deref());
        }
        call
    }

    /// The call of two parties who were in two calls of one transferor. One of them has accepted the other's media already;
    /// `waits`: that other one.
    pub(super) fn joined(ctx: &mut Context, parts: Parts, legs: (Moved, Moved), waits: Side) -> Self {
        let mut call = Self::of(ctx, parts);
        call.adopt(ctx, Side::A, legs.0);
        call.adopt(ctx, Side::B(0), legs.1);
        call.connected(ctx, 0, None);
        call.join_media(ctx, 0);
        let accepted = call.opposite(waits).and_then(|side| call.leg(side));
        if let Some(session) = accepted.and_then(|leg| leg.session.clone()) {
            call.hand_over(ctx, waits, session, call.worker);
        }
        call
    }

    // The offer.

    /// Offers a leg the media of its new partner.
    pub(super) fn hand_over(&mut self, ctx: &mut Context, side: Side, offer: Session, worker: u16) {
        self.handover = Some(Box::new(Handover { side, phase: Phase::Offered, offer, worker, offers: 0 }));
        self.offer_handover(ctx);
    }

    /// Tells a peer, by a re-INVITE with what its partner says, the ports that its leg has from now on.
    pub(super) fn offer_new_ports(&mut self, ctx: &mut Context, side: Side) {
        let partner = self.opposite(side).and_then(|other| self.leg(other));
        if let Some(offer) = partner.and_then(|leg| leg.session.clone()) {
            self.hand_over(ctx, side, offer, self.worker);
        }
    }

    fn offer_handover(&mut self, ctx: &mut Context) {
        let Some(mut handover) = self.handover.take() else { return };
        let call = self.id;
        let Handover { side, worker, ref offer, .. } = *handover;
        if let Some(leg) = self.leg_mut(side) {
            leg.renew_media(worker);
            handover.phase = match leg.offer_partner(ctx, (call, side), worker, offer) {
                Ok(()) => Phase::Offered,
                Err(failure) => {
                    leg.restore_media(ctx);
                    Phase::Refused(failure)
                }
            };
            handover.offers += u8::from(handover.phase == Phase::Offered);
        }
        self.handover = Some(handover);
        self.end_refused_handover(ctx);
    }

    pub(super) fn is_handing_over(&self, side: Side) -> bool {
        self.handover.as_ref().is_some_and(|h| h.side == side && h.phase == Phase::Offered)
    }

    pub(super) fn handover_accepted(&mut self, ctx: &mut Context, side: Side, response: &Message) {
        let body = response.sdp().unwrap_or_default();
        let is_kept = self.is_kept();
        let Some(leg) = self.leg_mut(side) else { return };
        let before = leg.negotiation.settled().to_vec();
        match leg.negotiation.read_answer(&body) {
            Ok((session, settled)) => {
                leg.session = Some(session);
                leg.replace_media(ctx, &before);
                leg.configure(ctx, &settled);
                self.handover_is(Phase::Accepted);
            }
            Err(_) if is_kept => {
                leg.negotiation.roll_back();
                leg.restore_media(ctx);
            }
            // The peer holds the new description, we cannot use it: there is no common state to go back to.
            Err(_) => self.hang_up_both(ctx, 488, ""),
        }
        if self.transfer.is_none() {
            self.handover = None;
            self.close_unused_media(ctx);
            if let State::Answered(number) = self.state {
                self.join_media(ctx, number);
            }
        }
    }

    /// Nobody is taken from an answering point because a description was refused: what was settled stays (emergency RULES,
    /// section 6).
    const fn is_kept(&self) -> bool {
        self.transfer.is_none() && self.emergency.is_some()
    }

    pub(super) fn handover_refused(&mut self, ctx: &mut Context, side: Side, status: u16, reason: &str) {
        let wait = Duration::from_millis(match side {
            // RFC 3261 section 14.1: the owner of the Call-ID waits longer.
            Side::A => 10 * u64::from(ctx.rng.below(200)),
            Side::B(_) => 2_100 + 10 * u64::from(ctx.rng.below(190)),
        });
        let Some(leg) = self.leg_mut(side) else { return };
        leg.client_invite = None;
        leg.negotiation.roll_back();
        leg.restore_media(ctx);
        let offers = self.handover.as_ref().map_or(0, |h| h.offers);
        match status {
            408 | 481 if !self.is_kept() || self.is_dialog_lost(side, status) => self.hang_up_both(ctx, status, reason),
            491 | 500 if offers < limits::HANDOVER_OFFERS_MAX => self.handover_is(Phase::Waiting(ctx.now + wait)),
            300..=399 | 401 | 407 => self.handover_is(Phase::Refused(Failure::new(488, ""))),
            _ => self.handover_is(Phase::Refused(Failure::new(status, reason))),
        }
        self.end_refused_handover(ctx);
        self.close_unused_media(ctx);
    }

    /// Without a transfer there is nobody to go back to.
    fn end_refused_handover(&mut self, ctx: &mut Context) {
        if let (None, Some(Phase::Refused(failure))) = (self.transfer, self.handover.as_ref().map(|h| h.phase.clone()))
        {
            self.handover = None;
            if !self.is_kept() {
                self.hang_up_both(ctx, failure.status, &failure.reason);
            }
        }
    }

    fn handover_is(&mut self, phase: Phase) {
        if let Some(handover) = &mut self.handover {
            handover.phase = phase;
        }
    }

    pub(super) fn handover_deadline(&self) -> Option<Instant> {
        match self.handover.as_ref()?.phase {
            Phase::Waiting(at) => Some(at),
            Phase::Offered | Phase::Accepted | Phase::Refused(_) => None,
        }
    }

    /// Offers once more what the peer had no time for, unless it is still busy.
    pub(super) fn repeat_handover(&mut self, ctx: &mut Context) {
        if self.handover_deadline().is_none_or(|at| at > ctx.now) {
            return;
        }
        let side = self.handover.as_ref().map_or(Side::A, |h| h.side);
        if self.leg(side).is_some_and(Leg::is_quiet) {
            self.offer_handover(ctx);
        } else {
            self.handover_is(Phase::Waiting(ctx.now + Duration::from_secs(1)));
        }
    }

    // The move.

    /// Takes a leg out of this call. What the other side asked of it, or it of the other side, is over.
    pub(super) fn release(&mut self, ctx: &mut Context, side: Side) -> Option<Moved> {
        self.relayed.retain(|_, relayed| {
            if relayed.from == side {
                ctx.refuse(&relayed.pending, 500, "Call Transferred");
            }
            relayed.from != side
        });
        let record = |leg: &Leg| LegRecord {
            transport: leg.record.transport.clone(),
            suite: leg.record.suite.clone(),
            ..LegRecord::default()
        };
        let is_trunk = self.leg(side).is_some_and(|leg| leg.trunk.is_some());
        let outside = match side {
            Side::A => self.a_outside.as_deref().cloned(),
            Side::B(_) => self.plan.outside.clone().filter(|_| is_trunk),
        };
        let is_callback = is_trunk && self.plan.hunt.is_callback;
        match side {
            Side::A => {
                let absent = Leg::absent(ctx, (self.id, side), self.a.flow);
                let leg = mem::replace(&mut self.a, absent);
                self.a.record = record(&leg);
                Some(Moved { invite: leg.last_invite, leg, outside, is_callback })
            }
            Side::B(number) => {
                let Branch { leg, txn, .. } = *self.branches.remove(&number)?;
                self.cdr.b = Some(Box::new(record(&leg)));
                Some(Moved { invite: leg.last_invite.or(Some(txn)), leg, outside, is_callback })
            }
        }
    }

    /// Puts a leg into this call.
    pub(super) fn adopt(&mut self, ctx: &mut Context, side: Side, moved: Moved) {
        let Moved { mut leg, invite, outside, is_callback } = moved;
        match side {
            Side::A => self.a_outside = outside.map(Box::new),
            Side::B(_) => self.plan.outside = outside,
        }
        self.plan.hunt.is_callback |= is_callback;
        leg.move_to(ctx, (self.id, side));
        // Its 2xx may come again, and is acknowledged again.
        if let Some(owner) = invite.and_then(|txn| ctx.owners.get_mut(&txn)) {
            *owner = Owner::Reinvite(self.id, side);
        }
        if let (None, Some(trunk)) = (&self.cdr.trunk, leg.trunk) {
            self.cdr.trunk = Some(ctx.trunks.trunk(trunk).name.clone());
        }
        match side {
            Side::A => self.a = leg,
            Side::B(number) => {
                self.next_branch = number + 1;
                self.branches.insert(number, Box::new(Branch::joined(leg, ctx.now)));
            }
        }
    }

    /// The target of a REFER has answered and the party that stays has come: they talk.
    pub(super) fn connect_target(&mut self, ctx: &mut Context, number: u32, moved: Moved) {
        self.adopt(ctx, Side::A, moved);
        self.join_media(ctx, number);
        let target = self.leg(Side::B(number)).and_then(|leg| leg.session.as_ref());
        let offer = self.a.session.as_ref().zip(target).filter(|(a, b)| !is_same_media(a, b)).map(|(a, _)| a.clone());
        match offer {
            Some(offer) => self.hand_over(ctx, Side::B(number), offer, self.worker),
            None => self.close_unused_media(ctx),
        }
    }

    /// The party that an INVITE with Replaces reaches has come: the INVITE is answered.
    pub(super) fn answer_newcomer(&mut self, ctx: &mut Context, moved: Moved) {
        self.adopt(ctx, Side::B(0), moved);
        match self.settle_a(ctx, 0) {
            Ok(answer) => self.connected(ctx, 0, answer.as_deref()),
            Err(text) => {
                if let Some(branch) = self.branches.get_mut(&0) {
                    branch.leg.bye(ctx);
                }
                self.fail(ctx, &Failure::new(488, "Not Acceptable Here"), Some(text));
            }
        }
    }

    // The transferor.

    /// It may hang up while the transfer is under way: the party that stays is not told.
    pub(super) fn transferor_left(&mut self, ctx: &mut Context, side: Side) -> bool {
        let is_transferor = self.transfer.is_some_and(|part| part.transferor == Some(side));
        let Some(stays) = self.opposite(side).filter(|_| is_transferor) else { return false };
        self.refuse_open_invites(ctx);
        let open = self.leg(stays).and_then(|leg| leg.client_invite);
        if let Some(txn) = open.filter(|_| !self.is_handing_over(stays)) {
            ctx.cancel(txn);
        }
        if let Some(leg) = self.leg_mut(side) {
            leg.close_media(ctx);
            leg.leave_dialog(ctx);
            leg.has_left = true;
        }
        true
    }

    pub(super) fn has_left(&self, side: Side) -> bool {
        self.leg(side).is_some_and(|leg| leg.has_left)
    }

    /// Its other party is in another call now.
    pub(super) fn end_by_transfer(&mut self, ctx: &mut Context) {
        self.handover = None;
        self.transfer = None;
        self.hang_up(ctx, EndedBy::Transfer, 200, "");
    }

    /// There is no transfer any more: the call goes on, unless the transferor has left it.
    pub(super) fn stay(&mut self, ctx: &mut Context, failure: &Failure) {
        let transferor = self.transfer.take().and_then(|part| part.transferor);
        if let Some(side) = self.handover.take().map(|handover| handover.side)
            && let Some(other) = self.opposite(side)
        {
            let partner = self.party(ctx, other);
            if let Some(leg) = self.leg_mut(side) {
                leg.show(ctx, &partner);
            }
        }
        if transferor.is_some_and(|side| self.has_left(side)) {
            self.hang_up_both(ctx, failure.status, &failure.reason);
        }
    }

    /// Whom the party that stays was to talk to has gone, and it holds the description of that one: it is offered the
    /// transferor's again, if that is still there.
    pub(super) fn come_back(&mut self, ctx: &mut Context, side: Side, failure: &Failure) {
        let transferor = self.opposite(side).and_then(|other| self.leg(other));
        let offer = transferor.and_then(|leg| leg.session.as_ref()).map(resumed);
        self.stay(ctx, failure);
        if let Some(offer) = offer.filter(|_| self.state != State::Ended) {
            self.hand_over(ctx, side, offer, self.worker);
        }
    }

    /// Forgets a transfer under way, and what the party that stays was offered for it.
    pub(super) fn drop_handover(&mut self, ctx: &mut Context) {
        self.transfer = None;
        let side = self.handover.take().map(|handover| handover.side);
        let Some(leg) = side.and_then(|side| self.leg_mut(side)) else { return };
        leg.restore_media(ctx);
        if let Some(txn) = leg.client_invite {
            ctx.cancel(txn);
        }
    }

    /// Nobody needs this call any more, whether its target rings or has answered.
    pub(super) fn give_up(&mut self, ctx: &mut Context, failure: &Failure) {
        match self.state {
            State::Setup => self.fail(ctx, failure, None),
            State::Answered(_) | State::Ended => self.hang_up_both(ctx, failure.status, &failure.reason),
        }
    }

    /// The provisional status that stands for how far the call has come.
    pub(super) fn progress(&self) -> u16 {
        if self.branches.values().any(|b| b.progress == Progress::Ringing) { 180 } else { 100 }
    }

    /// Why it ended, as its record says; that somebody hung up is a failure to whoever was to come.
    pub(super) fn ending(&self) -> Failure {
        match self.cdr.status {
            200..300 => Failure::new(480, "Other Party Has Hung Up"),
            status => Failure::new(status, self.cdr.reason.clone()),
        }
    }
}

impl Branch {
    /// A leg that comes answered from another call.
    fn joined(leg: Leg, now: Instant) -> Self {
        Self {
            leg,
            attempt: None,
            txn: TxnId(0),
            invite: None,
            progress: Progress::Over,
            sent_at: now,
            deadline: None,
            is_negotiated: true,
            received: Received::default(),
            settled: Vec::new(),
            before_update: None,
            is_behind: false,
            offered: None,
            prack: None,
        }
    }
}

impl Heir {
    /// `None`: what the former leg hears is not encrypted.
    fn new(former: LegId, media: LegId, before: &Settled) -> Option<Self> {
        match &before.receive {
            Protection::Plain => None,
            Protection::Srtp { suite, key, .. } => {
                Some(Self { former, media, suite: *suite, key: key.clone(), history: History::default() })
            }
        }
    }

    pub(super) fn has_key_of(&self, settled: &Settled) -> bool {
        matches!(&settled.receive, Protection::Srtp { suite, key, .. } if *suite == self.suite && *key == self.key)
    }
}

impl Leg {
    /// A place for a leg that is in another call.
    pub(super) fn absent(ctx: &mut Context, id: (CallId, Side), flow: Flow) -> Self {
        Self::new(ctx, id, flow, LegSecurity::PlainOnly, String::new())
    }

    /// Makes room for media legs on another worker, with keys of their own: a worker's contexts cannot move. The present
    /// ones stay until the peer has accepted.
    fn renew_media(&mut self, worker: u16) {
        if self.media.iter().flatten().any(|leg| leg.worker != worker) {
            let sections = self.media.len();
            self.former_media = mem::replace(&mut self.media, vec![None; sections]);
            self.negotiation.renew_keys();
        }
    }

    /// Sends the peer a re-INVITE with the media of its new partner.
    fn offer_partner(
        &mut self,
        ctx: &mut Context,
        (call, side): (CallId, Side),
        worker: u16,
        offer: &Session,
    ) -> Result<(), Failure> {
        if !self.open_media(ctx, call, side, worker, offer) {
            return Err(Failure::new(503, "No Media Port Free"));
        }
        let local = self.local_media(ctx);
        let text = self.negotiation.offer(&mut ctx.rng, offer, &local);
        self.reinvite(ctx, text.map_err(|_| Failure::new(488, "Not Acceptable Here"))?);
        Ok(())
    }

    /// The peer has accepted: the former media legs close. Where it kept its key, its streams go on with their rollover
    /// counters and replay windows, which the new leg learns from what the former has heard.
    fn replace_media(&mut self, ctx: &mut Context, before: &[Settled]) {
        let former = mem::take(&mut self.former_media);
        for ((former, new), before) in former.iter().zip(&self.media).zip(before) {
            let (Some(former), Some(new)) = (*former, *new) else { continue };
            let mut has_waited = false;
            for heir in self.heirs.iter_mut().filter(|heir| heir.media == former) {
                heir.media = new;
                has_waited |= heir.has_key_of(before);
            }
            // One that has waited has heard nothing.
            self.heirs.extend(Heir::new(former, new, before).filter(|_| !has_waited));
        }
        close(ctx, former);
    }

    /// The peer keeps what it had.
    fn restore_media(&mut self, ctx: &mut Context) {
        if !self.former_media.is_empty() {
            let former = mem::take(&mut self.former_media);
            close(ctx, mem::replace(&mut self.media, former));
        }
    }

    /// Shows who is at the other end from now on (RFC 3325, in the spirit of RFC 4916); devices only.
    pub(super) fn show(&mut self, ctx: &Context, partner: &Caller) {
        let identity = Identity::to_device(&ctx.config, partner);
        self.partner = self.device.as_ref().and_then(|_| identity.asserted());
    }
}

fn close(ctx: &mut Context, legs: Vec<Option<LegId>>) {
    for leg in legs.into_iter().flatten() {
        ctx.command(leg, Command::Close { leg });
    }
}

/// Whether two answers settle the same: neither side may send what the other cannot take.
fn is_same_media(a: &Session, b: &Session) -> bool {
    a.media.len() == b.media.len()
        && a.media.iter().zip(&b.media).all(|(a, b)| {
            let [ours, theirs] = [a, b].map(|section| section.formats.iter().collect::<Vec<_>>());
            let is_same_set = ours.len() == theirs.len() && ours.iter().all(|format| theirs.contains(format));
            is_same_set && a.direction == Direction::SendRecv && (a.port == 0) == (b.port == 0)
        })
}
