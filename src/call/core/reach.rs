//! Steps 5 and 6 for calls to people: who is registered, who talks, who has been idle longest; and the waves that come of
//! it.

use super::Core;
use crate::{
    call::{
        call::Call,
        fork::{Attempt, Plan},
        hunt::{Hunt, Request},
        leg::Peer,
    },
    config::User,
    policy::reach::{self, Outcome, Step},
    sip::registrar::Binding,
    types::{CallId, Transport, limits},
};

impl Core {
    pub(super) fn hunt_group(&self, index: usize) -> Plan {
        let group = &self.ctx.config.groups[index];
        let steps = reach::steps(group, &self.ctx.directory, |user| self.last_call_ends.get(&user.name).copied());
        Plan::hunt(Hunt::for_group(&group.name, steps))
    }

    /// Does what the call has asked for, until it rings somebody or is over.
    pub(super) fn serve(&mut self, call: &mut Call) {
        while let Some(request) = call.plan.hunt.take_request() {
            match request {
                Request::Ring(step) => self.ring(call, step),
            }
        }
    }

    fn ring(&mut self, call: &mut Call, step: Step) {
        let hunt = &mut call.plan.hunt;
        hunt.begin(step.users.clone(), step.ring.map(|ring| self.ctx.now + ring));
        let is_group = hunt.group().is_some();
        let mut attempts = Vec::new();
        for user in &step.users {
            if is_group && self.is_taken(call, user) {
                call.plan.hunt.note(&user.name, Outcome::Busy);
            } else {
                attempts.extend(self.contacts(user, call.a.is_secure));
            }
        }
        attempts.truncate(if is_group { limits::GROUP_FORK_WIDTH_MAX } else { limits::FORK_WIDTH_MAX });
        call.ring(&mut self.ctx, attempts);
    }

    /// Registered contacts as attempts. A sips URI asks for TLS all the way (RFC 3261 section 26.2.2).
    fn contacts(&self, user: &User, is_secure: bool) -> impl Iterator<Item = Attempt> {
        let is_reachable = move |b: &&Binding| !is_secure || b.flow.transport == Transport::Tls;
        let contact = |b: &Binding| Attempt::Contact { user: b.aor.clone(), binding: Box::new(b.clone()) };
        self.registrar.contacts(&user.name).filter(is_reachable).map(contact).take(limits::FORK_WIDTH_MAX)
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
}
