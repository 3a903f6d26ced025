//! Room for emergency calls on a machine that has none (emergency RULES 5.5): what is kept free for them, and which ordinary
//! call ends when that is used up too.

use super::{
    super::{
        call::Call,
        emergency_call::{self, EmergencyInfo},
    },
    Core, State,
};
use crate::{config::Config, policy::emergency, types::CallId};

/// Ports that each worker keeps for emergency calls: two for each.
pub(super) fn reserved_ports(config: &Config, workers: u16) -> usize {
    let is_needed = emergency::is_available(config);
    let calls = config.emergency.reserved_calls.div_ceil(workers.max(1));
    if is_needed { 2 * usize::from(calls) } else { 0 }
}

impl Core {
    /// Before an emergency call begins: the slots of ordinary calls, and those kept for emergency calls, may all be taken.
    pub(super) fn make_slot(&mut self, id: CallId, info: &EmergencyInfo) {
        let slots = self.calls_max.saturating_add(usize::from(self.ctx.config.emergency.reserved_calls));
        if self.live_calls >= slots {
            self.preempt((id, info), None);
        }
    }

    /// A call that waits for a port gets those of one ordinary call after the other.
    pub(super) fn make_room_for(&mut self, call: &Call) {
        let Some(info) = call.emergency.as_deref().filter(|_| call.waits_for_room.is_some()) else {
            self.waiting.remove(&call.id);
            return;
        };
        let ends = self.waiting.get(&call.id).copied().flatten();
        let is_still_ending = ends.and_then(|id| self.calls.get(&id)).is_some_and(|call| call.is_live());
        if !is_still_ending {
            let ends = self.preempt((call.id, info), Some(call.worker));
            self.waiting.insert(call.id, ends);
        }
    }

    /// A media port of this worker is free again.
    pub(super) fn room_made(&mut self, worker: u16) {
        let waiting: Vec<CallId> = self.waiting.keys().copied().collect();
        for id in waiting {
            if self.calls.get(&id).is_some_and(|call| call.worker == worker) {
                self.with_call(id, Call::room_made);
            }
        }
    }

    /// Ends the newest ordinary call over a trunk, or where there is none the newest ordinary call.
    fn preempt(&mut self, (needed_for, info): (CallId, &EmergencyInfo), worker: Option<u16>) -> Option<CallId> {
        let may_end = |call: &&Call| {
            call.state != State::Ended && !call.is_urgent() && worker.is_none_or(|worker| call.worker == worker)
        };
        let newest_first = || self.calls.values().rev().map(|call| &**call).filter(may_end);
        let id = newest_first().find(|call| call.has_trunk()).or_else(|| newest_first().next())?.id;
        emergency_call::log_preempted(&self.ctx, id, needed_for, info);
        self.with_call(id, Call::preempt);
        Some(id)
    }
}
