//! Whom to tell of an emergency call (emergency RULES 7.1). The telling is `call::notification`'s.

use super::{
    super::{
        call::Call,
        interface::Output,
        notification::{Notice, Outcome},
    },
    Core, State,
};
use crate::{config::NotifyTarget, policy::emergency::Class, types::CallId};

impl Core {
    /// Of a call that has just been sent to a trunk, or has just failed.
    pub(super) fn tell_of_call(&mut self, call: &Call, outcome: Outcome) {
        if let Some(info) = call.emergency.as_ref().filter(|info| info.class == Class::Emergency) {
            let notice = Notice::of_call(&self.ctx, outcome, &call.cdr.id, &call.caller, info);
            self.tell_desks(notice);
        }
    }

    pub(super) fn tell_of_routed(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(&id) {
            if call.state != State::Ended {
                self.tell_of_call(&call, Outcome::Routed);
            }
            self.calls.insert(id, call);
        }
    }

    pub(super) fn tell_desks(&mut self, notice: Notice) {
        let desks: Vec<_> = self.desks().map(|(target, telephones)| (target.label(), telephones)).collect();
        for (desk, telephones) in desks {
            self.notifications.send(&mut self.ctx, &notice, desk, &telephones);
        }
        let config = self.ctx.config.clone();
        for target in config.emergency.notify.iter().filter(|target| matches!(target, NotifyTarget::Https { .. })) {
            self.ctx.outputs.push_back(Output::Notify { target: target.clone(), notice: Box::new(notice.clone()) });
        }
    }
}
