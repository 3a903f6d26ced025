//! Steps 5 and 6 for calls to people: who is registered, who talks, who has been idle longest, where a user's calls go
//! instead; and the plans that come of it.

use std::sync::Arc;

use tracing::{info, warn};

use super::{Core, callback::is_same_device};
use crate::{
    call::{
        call::{Call, Caller, State},
        context::Side,
        diversion::Party,
        fork::{Attempt, Failure, Plan},
        hunt::{Hunt, Request},
        leg::Peer,
        outgoing::escaped_user,
        pbx,
    },
    config::User,
    policy::{
        emergency::Class,
        reach::{self, Arrival, Forward, Outcome, Step},
        routing::Target,
    },
    sip::registrar::Binding,
    types::{CallId, Transport, limits},
};

impl Core {
    /// What a target means in attempts, or the final answer. `dialled`: the URI that led to it. `payer`: the user whose
    /// limits a call outside counts against.
    pub(super) fn plan(
        &mut self,
        target: Target,
        dialled: &str,
        is_secure: bool,
        payer: Option<&str>,
        caller: &Caller,
    ) -> Result<Plan, (u16, &'static str)> {
        match target {
            Target::User(_) | Target::Group(_) => {
                Ok(self.hunt_for(&target, dialled).map_or_else(Plan::default, Plan::hunt))
            }
            Target::Outside(number) => self.plan_outside(&number, is_secure, payer),
            Target::Onward { trunk, number } => self.plan_onward(trunk, &number, is_secure, caller),
            Target::Refuse(status, reason) => Err((status, reason)),
        }
    }

    /// `None`: the target is not of ours.
    fn hunt_for(&self, target: &Target, dialled: &str) -> Option<Hunt> {
        match target {
            Target::User(user) => {
                let number = pbx::called_number(&self.ctx.config, &user.name, dialled);
                Some(Hunt::for_user(Arc::clone(user)).by_number(number))
            }
            Target::Group(index) => {
                let group = &self.ctx.config.groups[*index];
                let last_call_end = |user: &User| self.last_call_ends.get(&user.name).copied();
                let steps = reach::steps(group, &self.ctx.directory, last_call_end);
                Some(Hunt::for_group(group, steps))
            }
            Target::Outside(_) | Target::Onward { .. } | Target::Refuse(..) => None,
        }
    }

    /// Does what the call has asked for, until it rings somebody or is over.
    pub(super) fn serve(&mut self, call: &mut Call) {
        while let Some(request) = call.plan.hunt.take_request() {
            match request {
                Request::Ring(step) if call.plan.hunt.group().is_some() => self.ring_members(call, &step),
                Request::Ring(step) => self.ring_user(call, step),
                Request::Forward(forward) => self.forward(call, &forward),
                Request::Alert => self.ring_desks(call),
            }
        }
    }

    fn ring_user(&mut self, call: &mut Call, step: Step) {
        let Some(user) = step.users.first() else { return };
        let arrival = if call.plan.hunt.obeys_wishes() { reach::arrival(user) } else { Arrival::Ring(None) };
        match arrival {
            Arrival::Ring(ring) => {
                let attempts = self.free_contacts(call, user);
                call.plan.hunt.begin(step.users, ring.map(|ring| self.ctx.now + ring));
                call.ring(&mut self.ctx, attempts);
            }
            Arrival::Forward(forward) => call.plan.hunt.ask_forward(forward),
            Arrival::Refuse(status, reason) => call.cannot_go_on(&mut self.ctx, Failure::new(status, reason)),
        }
    }

    fn ring_members(&mut self, call: &mut Call, step: &Step) {
        let obeys_wishes = call.plan.hunt.obeys_wishes();
        call.plan.hunt.begin(step.users.clone(), step.ring.map(|ring| self.ctx.now + ring));
        let mut attempts = Vec::new();
        for user in &step.users {
            if obeys_wishes && self.is_taken(call, user) {
                call.plan.hunt.note(&user.name, Outcome::Busy);
            } else if !obeys_wishes || reach::takes_group_calls(user) {
                attempts.extend(self.free_contacts(call, user));
            }
        }
        attempts.truncate(limits::GROUP_FORK_WIDTH_MAX);
        call.ring(&mut self.ctx, attempts);
    }

    /// Registered contacts as attempts. A sips URI asks for TLS all the way (RFC 3261 section 26.2.2).
    fn contacts(&self, call: &Call, user: &User) -> impl Iterator<Item = Attempt> {
        let (is_secure, device) = (call.a.is_secure, call.plan.hunt.device.clone());
        let is_meant = move |b: &Binding| device.as_deref().is_none_or(|device| b.is_of_instance(device));
        let is_reachable = move |b: &&Arc<Binding>| is_meant(b) && (!is_secure || b.flow.transport == Transport::Tls);
        self.registrar.contacts(&user.name).filter(is_reachable).cloned().map(Attempt::contact)
    }

    /// Those whose telephones are in no emergency call, where nothing may knock (emergency RULES, section 6). With nobody else
    /// left the user is busy.
    fn free_contacts(&self, call: &mut Call, user: &User) -> Vec<Attempt> {
        let is_callback = !call.plan.hunt.obeys_wishes();
        let is_free = |attempt: &Attempt| match attempt {
            Attempt::Contact { binding } => is_callback || !self.calls_for_help(binding),
            Attempt::Trunk { .. } | Attempt::Emergency { .. } => true,
        };
        let (free, engaged): (Vec<_>, Vec<_>) = self.contacts(call, user).partition(is_free);
        if free.is_empty() && !engaged.is_empty() {
            call.plan.hunt.note(&user.name, Outcome::Busy);
            call.note_failure(Failure::new(486, "Busy Here"));
        }
        free
    }

    /// Whether this telephone makes an emergency call.
    fn calls_for_help(&self, binding: &Binding) -> bool {
        let is_emergency = |call: &Call| {
            let is_real = call.emergency.as_ref().is_some_and(|info| info.class == Class::Emergency);
            is_real && call.state != State::Ended
        };
        let is_here = |(id, side): &(CallId, Side)| {
            let call = self.calls.get(id).filter(|call| is_emergency(call));
            call.and_then(|call| self.device_of(call, *side)).is_some_and(|device| is_same_device(&device, binding))
        };
        self.ctx.device_legs.get(&binding.aor).is_some_and(|legs| legs.iter().any(is_here))
    }

    /// Whether a member has the receiver in hand: in another call, or as the caller of this one.
    fn is_taken(&self, call: &Call, user: &User) -> bool {
        let talks = |(id, side): &(CallId, _)| self.calls.get(id).is_some_and(|other| other.is_talking(*side));
        call.caller.peer == Peer::Device(user.name.clone())
            || self.ctx.device_legs.get(&user.name).is_some_and(|legs| legs.iter().any(talks))
    }

    /// Remembers when the users of a call that has ended became idle.
    pub(super) fn note_idle(&mut self, call: &Call) {
        for user in call.talkers() {
            self.last_call_ends.insert(user.to_owned(), self.ctx.now);
        }
    }

    // Forwarding.

    fn forward(&mut self, call: &mut Call, forward: &Forward) {
        match self.forwarded(call, forward) {
            Ok(plan) => {
                info!(call = %call.id, cause = ?forward.cause, "Call forwarded.");
                let line = call.plan.hunt.line().map(str::to_owned);
                call.follow(&mut self.ctx, forward.cause, line, plan);
            }
            Err(failure) => call.cannot_go_on(&mut self.ctx, failure),
        }
    }

    /// The plan for a forwarding target, unless the call has been there or has come a long way already.
    fn forwarded(&mut self, call: &Call, forward: &Forward) -> Result<Plan, Failure> {
        let target = reach::target(&forward.target, &self.ctx.config, &self.ctx.directory, &self.site);
        let Some(target) = target else {
            warn!(target: "emergency", stage = "forward", call = %call.id, cause = ?forward.cause,
                "A forward to an emergency number is not followed.");
            return Err(Failure::new(480, "Forwarded To An Emergency Number"));
        };
        let dialled = format!("sip:{}@{}", escaped_user(&forward.target), self.ctx.config.server.domain);
        let hunt = &call.plan.hunt;
        let payer = match hunt.party() {
            Some(Party::Extension(extension)) => self.ctx.directory.by_dialled(extension).map(|user| user.name.clone()),
            Some(Party::Number(_)) | None => None,
        };
        let plan = self.plan(target, &dialled, call.a.is_secure, payer.as_deref(), &call.caller);
        let plan = plan.map_err(|_| Failure::new(480, "Forwarded To Nobody"))?;
        if plan.hunt.party().is_some_and(|party| hunt.has_been_at(party)) {
            return Err(Failure::new(482, "Forwarding Loop"));
        }
        if hunt.hops() >= limits::FORWARD_HOPS_MAX {
            return Err(Failure::new(483, "Forwarded Too Often"));
        }
        Ok(plan)
    }
}
