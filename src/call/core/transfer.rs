//! Transfers: REFER in a call (RFC 3515, 7647), to a new target or to the transferor's other call, and INVITE with Replaces
//! (RFC 3891).
//!
//! A transfer touches two calls: the one whose party stays, after which it is named, and the one that party comes to. Each
//! is a call like any other and knows nothing of the other one. Whenever either has moved, [`Core::advance`] looks at both
//! and does what is next; it never waits for anything.
//!
//! ```text
//!   target rings ──► target answers ──► the party that stays accepts its media ──► its leg moves ──► the old call ends
//!        │                 │                              │
//!        └── fails ────────┴────────── refuses ───────────┴──► the old call goes on, or ends if the transferor has left
//! ```

use super::{
    Call, Caller, Cdr, Class, Core, Dialled, EmergencyCall, EmergencyInfo, Notice, Origin, Outcome, Output, Peer,
    Pending, Plan, Refusal, Side, State, called_party, emergency, emergency_call, emergency_plan, invite_key, is_sips,
    limits, routing,
};
use crate::{
    call::{
        call::{NewCall, Parts},
        emergency_call::Early,
        fork::Failure,
        handover::{Part, Phase, resumed},
        leg::{Device, Leg},
        outgoing::{escaped_user, host},
        refer::{Referral, Replaces},
    },
    types::CallId,
};

/// One transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// In the call that gives it its name.
    transferor: Side,
    stays: Side,
    with: With,
    /// CSeq of the REFER, if its sender wants to be told how it goes.
    subscription: Option<u32>,
    /// The status it was told last.
    told: u16,
}

/// Whom the party that stays comes to.
#[derive(Clone, Copy, Debug)]
enum With {
    /// The target of a REFER, called anew.
    Target(CallId),
    /// The other party of another call of the transferor.
    Party { call: CallId, stays: Side },
    /// Whoever sent an INVITE with Replaces.
    Newcomer(CallId),
}

impl With {
    const fn call(self) -> CallId {
        match self {
            Self::Target(call) | Self::Newcomer(call) | Self::Party { call, .. } => call,
        }
    }
}

/// What is left to do for a transfer.
enum Next {
    Wait,
    Over,
}

fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { reason, ..Refusal::of(status) }
}

impl Core {
    // REFER.

    /// A REFER in the dialog of a leg. It is never passed on.
    pub(super) fn refer(&mut self, id: CallId, side: Side, pending: &Pending) {
        let Some(mut call) = self.calls.remove(&id) else { return self.ctx.refuse(pending, 481, "") };
        if call.admits(&mut self.ctx, side, pending)
            && let Err(refusal) = self.begin_transfer(&mut call, side, pending)
        {
            self.refuse(pending, &refusal);
        }
        self.keep(call);
    }

    fn begin_transfer(&mut self, call: &mut Call, side: Side, pending: &Pending) -> Result<(), Refusal> {
        let referral = Referral::read(&pending.request)?;
        // A telephone that nobody knows is in a call only because emergency services call back.
        let is_unknown = |device: &Device| device.user.is_empty();
        if call.leg(side).and_then(|leg| leg.device.as_ref()).is_some_and(is_unknown) {
            return Err(refusal(403, "Not A User"));
        }
        if call.emergency.is_some() && (side != Side::A || referral.replaces.is_none()) {
            return Err(refusal(403, "Emergency Calls Are Not Transferred"));
        }
        let stays = call.opposite(side).ok_or_else(|| refusal(403, "Nobody To Transfer"))?;
        if call.leg(stays).is_none_or(|leg| leg.session.is_none()) {
            // Its offer or answer is still on the way.
            return Err(refusal(491, "Call Not Settled Yet"));
        }
        if let Some(replaces) = &referral.replaces {
            return self.join_calls(call, (side, stays), pending, &referral, replaces);
        }
        // As with every call, before identity, permissions and limits.
        match emergency::classify(&referral.uri, &self.site) {
            Dialled::Emergency(dialled) => {
                self.refer_to_emergency(call, (side, stays), pending, &referral, (Class::Emergency, &dialled))
            }
            Dialled::Test(dialled) => {
                self.refer_to_emergency(call, (side, stays), pending, &referral, (Class::Test, &dialled))
            }
            Dialled::Ordinary(dialled) => {
                self.may_transfer(call, call.transfers)?;
                let is_from_trunk = call.leg(side).is_some_and(|leg| leg.trunk.is_some());
                let target = routing::route(&dialled, is_from_trunk, &self.ctx.config, &self.ctx.directory);
                let (target, device) = self.device_target(&referral.uri, is_from_trunk, target);
                let transferor = call.leg(side).and_then(|leg| leg.device.as_ref()).map(|device| device.user.clone());
                let caller = call.party(&self.ctx, stays);
                let plan = self.plan(target, &referral.uri, is_sips(&referral.uri), transferor.as_deref(), &caller);
                let mut plan = plan.map_err(|(status, reason)| refusal(status, reason))?;
                plan.hunt.device = device;
                self.call_target(call, (side, stays), pending, &referral, plan, None);
                Ok(())
            }
        }
    }

    fn may_transfer(&self, call: &Call, transfers: u8) -> Result<(), Refusal> {
        if call.transfer.is_some() {
            return Err(refusal(491, "Transfer Under Way"));
        }
        if call.emergency.is_some() {
            return Ok(());
        }
        if transfers >= limits::TRANSFERS_MAX {
            return Err(refusal(403, "Too Many Transfers"));
        }
        if self.live_calls >= self.calls_max {
            return Err(refusal(503, "Too Many Calls"));
        }
        Ok(())
    }

    /// The party that stays calls an emergency number by somebody else's hand: a call of its own device like any other, and
    /// only such a device has a location that is true (emergency RULES 5, 10).
    fn refer_to_emergency(
        &mut self,
        call: &mut Call,
        (side, stays): (Side, Side),
        pending: &Pending,
        referral: &Referral,
        (class, dialled): (Class, &EmergencyCall),
    ) -> Result<(), Refusal> {
        let mut caller = call.party(&self.ctx, stays);
        // The line is the telephone's own (4.1), not one under which an earlier call was shown.
        if let Some(line) = self.own_line(&caller) {
            caller.direct_line = line;
        }
        let origin = Origin::of(pending, &caller);
        let early = Early { call: call.id, class, origin: &origin, dialled };
        emergency_call::log_detected(&self.ctx, &early);
        // Nor may a carrier, or whoever is behind it, make a user's telephone call for help.
        let is_of_device = call.leg(side).is_some_and(|leg| leg.device.is_some());
        if !is_of_device || !matches!(caller.peer, Peer::Device(_)) {
            if class == Class::Emergency {
                self.ctx.counters.emergency_refused += 1;
                emergency_call::log_refused(&self.ctx, &early);
                self.tell_desks(Notice::refused(&self.ctx, Outcome::Refused, &caller, dialled));
            }
            return Err(refusal(403, "No Location For Emergency Call"));
        }
        match self.decide(class, emergency::Source::AuthenticatedDevice, &caller, false) {
            emergency::Decision::Route(route) => {
                self.drop_transfer(call);
                let plan = emergency_plan(&route);
                let info = EmergencyInfo::new(class, dialled, route, origin);
                if class == Class::Emergency {
                    self.ctx.counters.emergency_routed += 1;
                    if let Some(device) = self.device_of(call, stays) {
                        self.expect_callback(&info, device);
                    }
                    self.make_slot(call.id, &info);
                }
                self.call_target(call, (side, stays), pending, referral, plan, Some(info));
                if let Some(part) = self.transfers.get(&call.id) {
                    self.tell_of_routed(part.with.call());
                }
            }
            emergency::Decision::Refuse => {
                self.ctx.counters.emergency_refused += 1;
                let (status, phrase) = emergency_call::refuse(&mut self.ctx, pending, &early);
                let cdr = Cdr::begin(&mut self.ctx, &caller, &dialled.dialled, true).refused(&self.ctx, status, phrase);
                self.ctx.outputs.push_back(Output::StoreCdr(Box::new(cdr)));
                self.tell_desks(Notice::refused(&self.ctx, Outcome::Refused, &caller, dialled));
            }
            emergency::Decision::Challenge | emergency::Decision::Loop | emergency::Decision::NoTest => {
                return Err(refusal(404, ""));
            }
        }
        Ok(())
    }

    /// A user's direct line, if it has one; `None`: a telephone system, whose lines are many, or no user.
    fn own_line(&self, caller: &Caller) -> Option<Option<String>> {
        let Peer::Device(name) = &caller.peer else { return None };
        let user = self.ctx.directory.by_name(name).filter(|_| self.ctx.config.pbx_of(name).is_none())?;
        Some(user.direct_line.clone())
    }

    /// Calls the target for the party that stays.
    fn call_target(
        &mut self,
        call: &mut Call,
        (transferor, stays): (Side, Side),
        pending: &Pending,
        referral: &Referral,
        plan: Plan,
        emergency: Option<EmergencyInfo>,
    ) {
        let (id, ctx) = (self.next_id(), &mut self.ctx);
        let callee = called_party(&referral.uri);
        let (Some(leg), Some(flow)) = (call.leg(transferor), call.leg(stays).map(|leg| leg.flow)) else { return };
        referral.accept(ctx, leg, pending);
        let mut a = Leg::absent(ctx, (id, Side::A), flow);
        a.is_secure = is_sips(&referral.uri);
        let caller = call.party(ctx, stays);
        let parts = Parts { id, a, caller, callee, worker: call.worker, plan, emergency };
        let mut target = Call::referred(ctx, call, stays, parts);
        let referrer = call.party(ctx, transferor);
        let address = format!("<sip:{}@{}>", escaped_user(&referrer.user), host(&ctx.config.server.domain));
        target.referred_by = Some(address).filter(|_| !referrer.is_private);
        target.transfers = call.transfers.saturating_add(1);
        target.cdr.transferred_by = Some(referrer.user);
        target.transfer = Some(Part { transfer: call.id, transferor: None });
        call.transfer = Some(Part { transfer: call.id, transferor: Some(transferor) });
        let with = With::Target(id);
        let mut transfer = Transfer { transferor, stays, with, subscription: referral.subscription, told: 0 };
        self.tell(&mut transfer, call, &Failure::new(100, ""));
        self.transfers.insert(call.id, transfer);
        target.next_wave(&mut self.ctx);
        self.keep_new(target);
    }

    /// REFER to another call of the same user: its other party and that of this call come together.
    fn join_calls(
        &mut self,
        call: &mut Call,
        (transferor, stays): (Side, Side),
        pending: &Pending,
        referral: &Referral,
        replaces: &Replaces,
    ) -> Result<(), Refusal> {
        let user = call.leg(transferor).and_then(|leg| leg.device.as_ref()).map(|device| device.user.clone());
        let user = user.ok_or_else(|| refusal(403, "Not Your Call"))?;
        let (mut other, other_side) = self.take_replaced(replaces)?;
        let verdict = self.may_join(call, &other, other_side, replaces, &user);
        if let Ok(other_stays) = verdict {
            if let Some(leg) = call.leg(transferor) {
                referral.accept(&mut self.ctx, leg, pending);
            }
            call.transfer = Some(Part { transfer: call.id, transferor: Some(transferor) });
            other.transfer = Some(Part { transfer: call.id, transferor: Some(other_side) });
            let with = With::Party { call: other.id, stays: other_stays };
            let mut transfer = Transfer { transferor, stays, with, subscription: referral.subscription, told: 0 };
            self.tell(&mut transfer, call, &Failure::new(100, ""));
            self.transfers.insert(call.id, transfer);
        }
        self.keep(other);
        verdict.map(|_| ())
    }

    /// The side of the other call that stays.
    fn may_join(
        &self,
        call: &Call,
        other: &Call,
        side: Side,
        replaces: &Replaces,
        user: &str,
    ) -> Result<Side, Refusal> {
        let stays = replaceable(other, side, replaces, user)?;
        if other.emergency.is_some() && side != Side::A {
            return Err(refusal(403, "Emergency Calls Are Not Transferred"));
        }
        self.may_transfer(call, call.transfers.max(other.transfers))?;
        self.may_transfer(other, other.transfers)?;
        Ok(stays)
    }

    /// The call whose leg a Replaces names, out of the map. A call cannot replace itself: it is not in there just now.
    fn take_replaced(&mut self, replaces: &Replaces) -> Result<(Box<Call>, Side), Refusal> {
        let found = self.ctx.dialogs.get(&replaces.to_tag).copied();
        let call = found.and_then(|(id, side)| Some((self.calls.remove(&id)?, side)));
        call.ok_or_else(|| refusal(481, "No Such Call To Replace"))
    }

    // INVITE with Replaces.

    /// Somebody wants to take the place of a leg: of its own user's only.
    pub(super) fn replace(&mut self, pending: Pending, caller: Caller) {
        match self.replaced(&pending, &caller) {
            Ok((call, side, stays)) => self.begin_replacement(call, (side, stays), pending, caller),
            Err(refusal) => {
                self.ctx.counters.calls_refused += 1;
                self.refuse(&pending, &refusal);
            }
        }
    }

    fn replaced(&mut self, pending: &Pending, caller: &Caller) -> Result<(Box<Call>, Side, Side), Refusal> {
        let replaces = Replaces::read(&pending.request)?;
        let Peer::Device(user) = &caller.peer else { return Err(refusal(403, "Not Your Call")) };
        let (call, side) = self.take_replaced(&replaces)?;
        let verdict = replaceable(&call, side, &replaces, user)
            .and_then(|stays| self.may_transfer(&call, call.transfers).map(|()| stays));
        match verdict {
            Ok(stays) => Ok((call, side, stays)),
            Err(refusal) => {
                self.keep(call);
                Err(refusal)
            }
        }
    }

    fn begin_replacement(
        &mut self,
        mut call: Box<Call>,
        (transferor, stays): (Side, Side),
        pending: Pending,
        caller: Caller,
    ) {
        let id = self.next_id();
        self.invites.insert(pending.txn, (id, Side::A));
        let key = invite_key(&pending.request);
        self.invite_keys.insert(key.clone());
        let new = NewCall {
            id,
            key,
            is_registered: self.registrar.is_bound(&pending.flow),
            security: self.caller_security(&caller, call.emergency.is_some()),
            callee: call.party(&self.ctx, stays).user,
            pending,
            caller,
            worker: call.worker,
            plan: Plan::default(),
            emergency: call.emergency.as_deref().cloned(),
        };
        let stays_private = call.party(&self.ctx, stays).is_private;
        let mut newcomer = Call::taking_over(&mut self.ctx, new);
        if stays_private {
            newcomer.a.contact_user = "anonymous".to_owned();
        }
        newcomer.transfers = call.transfers.saturating_add(1);
        newcomer.cdr.transferred_by = Some(newcomer.caller.user.clone());
        newcomer.transfer = Some(Part { transfer: call.id, transferor: None });
        call.transfer = Some(Part { transfer: call.id, transferor: Some(transferor) });
        let transfer = Transfer { transferor, stays, with: With::Newcomer(id), subscription: None, told: 0 };
        self.transfers.insert(call.id, transfer);
        self.keep_new(newcomer);
        self.keep(call);
    }

    // Where media can meet.

    /// The media worker of a new call: that of a call which one of its people is in already, so that the two can be joined
    /// with every port and key as it is; otherwise the least loaded.
    pub(super) fn worker_for(&self, caller: &Caller, plan: &Plan) -> u16 {
        let caller = match &caller.peer {
            Peer::Device(user) => Some(user.as_str()),
            Peer::Trunk(_) | Peer::Unknown => None,
        };
        let legs =
            caller.into_iter().chain(plan.hunt.first_user()).filter_map(|user| self.ctx.device_legs.get(user)?.first());
        let mut workers = legs.filter_map(|(id, _)| self.calls.get(id)).map(|call| call.worker);
        let shared = workers.find(|worker| self.ctx.ports.has_room(*worker) && self.capacity.is_below_limit(*worker));
        shared.unwrap_or_else(|| self.least_loaded())
    }

    // What is next.

    /// Looks at the calls of every transfer that has moved.
    pub(super) fn advance_transfers(&mut self) -> bool {
        let Some(id) = self.moved.pop_first() else { return false };
        if let Some(transfer) = self.transfers.remove(&id) {
            self.advance(id, transfer);
        }
        true
    }

    fn advance(&mut self, id: CallId, mut transfer: Transfer) {
        let Some(mut from) = self.calls.remove(&id) else { return };
        let Some(mut to) = self.calls.remove(&transfer.with.call()) else { return self.put(from) };
        let next = match transfer.with {
            With::Target(_) => self.advance_target(&mut transfer, &mut from, &mut to),
            With::Party { stays, .. } => self.advance_party(&mut transfer, &mut from, &mut to, stays),
            With::Newcomer(_) => self.advance_newcomer(&transfer, &mut from, &mut to),
        };
        match next {
            Next::Wait => _ = self.transfers.insert(id, transfer),
            Next::Over => (from.transfer, to.transfer) = (None, None),
        }
        self.put(from);
        self.put(to);
    }

    fn advance_target(&mut self, transfer: &mut Transfer, from: &mut Call, to: &mut Call) -> Next {
        if from.state == State::Ended {
            to.give_up(&mut self.ctx, &Failure::new(487, ""));
            return Next::Over;
        }
        let number = match to.state {
            State::Setup => {
                self.tell(transfer, from, &Failure::new(to.progress(), ""));
                return Next::Wait;
            }
            State::Ended => return self.target_ended(transfer, from, &to.ending()),
            State::Answered(number) => number,
        };
        match from.handover.as_ref().map(|handover| handover.phase.clone()) {
            None => {
                let offer = to.leg(Side::B(number)).and_then(|leg| leg.session.clone());
                let partner = to.party(&self.ctx, Side::B(number));
                if let (Some(offer), Some(leg)) = (offer, from.leg_mut(transfer.stays).filter(|leg| leg.is_quiet())) {
                    leg.show(&self.ctx, &partner);
                    from.hand_over(&mut self.ctx, transfer.stays, offer, to.worker);
                }
                Next::Wait
            }
            Some(Phase::Offered | Phase::Waiting(_)) => Next::Wait,
            Some(Phase::Refused(failure)) => {
                to.give_up(&mut self.ctx, &failure);
                self.failed(transfer, from, &failure)
            }
            Some(Phase::Accepted) => {
                self.tell(transfer, from, &Failure::new(200, ""));
                to.transfer = None;
                if let Some(moved) = from.release(&mut self.ctx, transfer.stays) {
                    to.connect_target(&mut self.ctx, number, moved);
                }
                from.end_by_transfer(&mut self.ctx);
                Next::Over
            }
        }
    }

    fn advance_party(&mut self, transfer: &mut Transfer, from: &mut Call, to: &mut Call, other: Side) -> Next {
        let gone = Failure::new(480, "Other Party Has Hung Up");
        let phase = from.handover.as_ref().map(|handover| handover.phase.clone());
        match (from.state, to.state, phase) {
            (State::Ended, _, _) => {
                to.stay(&mut self.ctx, &gone);
                Next::Over
            }
            (_, State::Ended, _) => self.target_ended(transfer, from, &gone),
            (_, _, None) => {
                self.offer_party(transfer, from, to, other);
                Next::Wait
            }
            (_, _, Some(Phase::Offered | Phase::Waiting(_))) => Next::Wait,
            (_, _, Some(Phase::Refused(failure))) => {
                to.stay(&mut self.ctx, &failure);
                self.failed(transfer, from, &failure)
            }
            (_, _, Some(Phase::Accepted)) if !is_quiet(to, other) || !is_quiet(from, transfer.stays) => Next::Wait,
            (_, _, Some(Phase::Accepted)) => {
                self.join(transfer, from, to, other);
                Next::Over
            }
        }
    }

    fn offer_party(&mut self, transfer: &Transfer, from: &mut Call, to: &mut Call, other: Side) {
        let is_caller_free = [&*from, &*to].into_iter().all(|call| call.emergency.is_none() || call.has_left(Side::A));
        let (here, there) = (from.party(&self.ctx, transfer.stays), to.party(&self.ctx, other));
        let (Some(leg), Some(partner)) = (from.leg_mut(transfer.stays), to.leg_mut(other)) else { return };
        let Some(offer) = partner.session.as_ref().map(resumed) else { return };
        // An answering point keeps its caller until the caller hangs up (emergency RULES 10).
        if is_caller_free && leg.is_quiet() && partner.is_quiet() {
            leg.show(&self.ctx, &there);
            partner.show(&self.ctx, &here);
            from.hand_over(&mut self.ctx, transfer.stays, offer, to.worker);
        }
    }

    /// Makes one call of the two.
    fn join(&mut self, transfer: &mut Transfer, from: &mut Call, to: &mut Call, other: Side) {
        let id = self.next_id();
        let (here, there) = (from.party(&self.ctx, transfer.stays), to.party(&self.ctx, other));
        let emergency = from.emergency.as_deref().or(to.emergency.as_deref()).cloned();
        // An answering point stays the callee.
        let is_callee = from.emergency.is_some();
        let referrer = from.party(&self.ctx, transfer.transferor).user;
        self.tell(transfer, from, &Failure::new(200, ""));
        let ctx = &mut self.ctx;
        if let (Some(a), Some(b)) = (from.release(ctx, transfer.stays), to.release(ctx, other)) {
            let (caller, callee) = if is_callee { (there, here.user) } else { (here, there.user) };
            let legs = if is_callee { (b, a) } else { (a, b) };
            let waits = if is_callee { Side::A } else { Side::B(0) };
            let absent = Leg::absent(ctx, (id, Side::A), legs.0.flow());
            let parts = Parts { id, a: absent, caller, callee, worker: to.worker, plan: Plan::default(), emergency };
            let mut joined = Call::joined(ctx, parts, legs, waits);
            joined.transfers = from.transfers.max(to.transfers).saturating_add(1);
            joined.cdr.transferred_by = Some(referrer);
            from.end_by_transfer(ctx);
            to.end_by_transfer(ctx);
            self.keep_new(joined);
        }
    }

    fn advance_newcomer(&mut self, transfer: &Transfer, from: &mut Call, to: &mut Call) -> Next {
        if from.state == State::Ended {
            to.give_up(&mut self.ctx, &Failure::new(603, "Replaced Call Has Ended"));
            return Next::Over;
        }
        if to.state == State::Ended {
            from.stay(&mut self.ctx, &to.ending());
            return Next::Over;
        }
        match from.handover.as_ref().map(|handover| handover.phase.clone()) {
            None => {
                let Some(offer) = to.a.session.clone() else {
                    let failure = Failure::new(488, "INVITE Without Offer");
                    to.give_up(&mut self.ctx, &failure);
                    from.stay(&mut self.ctx, &failure);
                    return Next::Over;
                };
                if let Some(leg) = from.leg_mut(transfer.stays).filter(|leg| leg.is_quiet()) {
                    leg.show(&self.ctx, &to.caller);
                    from.hand_over(&mut self.ctx, transfer.stays, offer, to.worker);
                }
                Next::Wait
            }
            Some(Phase::Offered | Phase::Waiting(_)) => Next::Wait,
            Some(Phase::Refused(failure)) => {
                to.give_up(&mut self.ctx, &failure);
                from.stay(&mut self.ctx, &failure);
                Next::Over
            }
            // As every answer.
            Some(Phase::Accepted) if !to.may_be_answered() => Next::Wait,
            Some(Phase::Accepted) => {
                to.transfer = None;
                if let Some(moved) = from.release(&mut self.ctx, transfer.stays) {
                    to.answer_newcomer(&mut self.ctx, moved);
                }
                from.end_by_transfer(&mut self.ctx);
                Next::Over
            }
        }
    }

    /// Whom the party was to come to has gone.
    fn target_ended(&mut self, transfer: &mut Transfer, from: &mut Call, failure: &Failure) -> Next {
        match from.handover.as_ref().map(|handover| &handover.phase) {
            // The answer is still to come, and with it the party's media is where nobody is.
            Some(Phase::Offered) => Next::Wait,
            Some(Phase::Accepted) => {
                self.tell(transfer, from, failure);
                from.come_back(&mut self.ctx, transfer.stays, failure);
                Next::Over
            }
            Some(Phase::Waiting(_) | Phase::Refused(_)) | None => self.failed(transfer, from, failure),
        }
    }

    /// The transferor keeps its call, or the party that stays is told that there is nobody.
    fn failed(&mut self, transfer: &mut Transfer, from: &mut Call, failure: &Failure) -> Next {
        self.tell(transfer, from, failure);
        from.stay(&mut self.ctx, failure);
        Next::Over
    }

    /// An emergency call does not wait for another transfer.
    fn drop_transfer(&mut self, call: &mut Call) {
        let Some(transfer) = self.transfers.remove(&call.id) else { return };
        if let Some(mut to) = self.calls.remove(&transfer.with.call()) {
            let failure = Failure::new(487, "");
            match transfer.with {
                With::Target(_) | With::Newcomer(_) => to.give_up(&mut self.ctx, &failure),
                With::Party { .. } => to.stay(&mut self.ctx, &failure),
            }
            to.transfer = None;
            self.put(to);
        }
        call.drop_handover(&mut self.ctx);
    }

    /// Sends the transferor a NOTIFY, if it wants one and does not know yet.
    fn tell(&mut self, transfer: &mut Transfer, call: &mut Call, news: &Failure) {
        if let Some(subscription) = transfer.subscription.filter(|_| transfer.told != news.status) {
            transfer.told = news.status;
            if let Some(leg) = call.leg_mut(transfer.transferor) {
                leg.notify(&mut self.ctx, subscription, news.status, &news.reason);
            }
        }
    }
}

fn is_quiet(call: &Call, side: Side) -> bool {
    call.leg(side).is_some_and(Leg::is_quiet)
}

/// Whether this user may have this leg replaced (RFC 3891 section 3). Returns the side that stays.
fn replaceable(call: &Call, side: Side, replaces: &Replaces, user: &str) -> Result<Side, Refusal> {
    let leg =
        call.leg(side).filter(|leg| replaces.names(leg)).ok_or_else(|| refusal(481, "No Such Call To Replace"))?;
    if leg.device.as_ref().is_none_or(|device| device.user != user) {
        return Err(refusal(403, "Not Your Call"));
    }
    match call.state {
        State::Setup => Err(refusal(481, "Call Not Yet Answered")),
        State::Ended => Err(refusal(603, "Replaced Call Has Ended")),
        State::Answered(_) if replaces.is_early_only => Err(refusal(486, "Call Is Answered")),
        State::Answered(_) => call.opposite(side).ok_or_else(|| refusal(491, "Transfer Under Way")),
    }
}
