//! Whether one more call fits, and on which media worker. The reckoning is `call::capacity`'s.

use std::cmp::Reverse;

use super::{
    super::{
        call::{Call, State},
        capacity::{Rejection, Weight},
        context::{Pending, SHUTTING_DOWN},
    },
    Core,
};
use crate::wire::sip::{Message, Name};

/// Of a 503 before anything was tried.
const RETRY_AFTER_S: &str = "30";

/// Phrase of the 503.
pub(super) const fn reason(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::ShuttingDown => SHUTTING_DOWN,
        Rejection::Calls => "Too Many Calls",
        Rejection::MediaLoad => "Media Overloaded",
        Rejection::MediaPorts => "No Media Port Free",
    }
}

impl Core {
    /// Why an ordinary call cannot be taken now.
    pub(super) fn rejection(&mut self, invite: &Message) -> Option<Rejection> {
        match self.present_rejection() {
            Some(Rejection::MediaLoad) | None if invite.header(Name::Replaces).is_some() => None,
            Some(Rejection::MediaLoad) | None => {
                let worker = self.least_loaded();
                (!self.capacity.admits(worker)).then_some(Rejection::MediaLoad)
            }
            rejection @ Some(_) => rejection,
        }
    }

    /// The same as far as it can be told without an INVITE, and without remembering that there was one.
    pub(super) fn present_rejection(&self) -> Option<Rejection> {
        if self.is_draining {
            Some(Rejection::ShuttingDown)
        } else if self.live_calls >= self.calls_max {
            Some(Rejection::Calls)
        } else {
            (!self.capacity.would_admit(self.least_loaded())).then_some(Rejection::MediaLoad)
        }
    }

    pub(super) fn reject(&mut self, pending: &Pending, rejection: Rejection) {
        self.ctx.counters.count_rejection(rejection);
        self.ctx.refuse_with(pending, 503, reason(rejection), &[("Retry-After", RETRY_AFTER_S)]);
    }

    /// The media worker for a call, of those that have ports for a whole one.
    pub(super) fn least_loaded(&self) -> u16 {
        let ports = &self.ctx.ports;
        let workers = (0..ports.workers()).filter(|worker| ports.has_room(*worker));
        let least_loaded = workers.min_by_key(|worker| (self.capacity.level(*worker), Reverse(ports.free(*worker))));
        least_loaded.unwrap_or_else(|| ports.roomiest())
    }

    /// Counts a call that has acted as what it is now.
    pub(super) fn weigh(&mut self, call: &mut Call) {
        let weight = match call.state {
            State::Setup => Weight::Setup,
            State::Answered(_) => Weight::Answered,
            State::Ended => Weight::Nothing,
        };
        let before = std::mem::replace(&mut call.weight, weight);
        self.capacity.weigh(call.worker, before, weight);
    }
}
