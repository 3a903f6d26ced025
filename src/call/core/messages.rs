//! Text messages: where one goes. Delivery is `call::message`'s.

use std::sync::Arc;

use super::{
    super::{
        admission,
        context::{Pending, SHUTTING_DOWN},
        emergency_call,
        leg::Peer,
        message,
    },
    Core,
};
use crate::{
    policy::{
        emergency::{self, Dialled},
        routing::{self, Target},
    },
    sip::{dialog::is_sips, registrar::Binding},
    types::Transport,
};

impl Core {
    /// A text message; to an emergency number the answer says what to do instead.
    pub(super) fn message(&mut self, pending: Pending) {
        match emergency::classify(pending.request.request_uri(), &self.site) {
            Dialled::Emergency(_) => emergency_call::refuse_text(&mut self.ctx, &pending),
            Dialled::Test(_) => self.ctx.refuse(&pending, 404, ""),
            Dialled::Ordinary(ordinary) => self.ordinary_message(pending, &ordinary),
        }
    }

    fn ordinary_message(&mut self, pending: Pending, dialled: &emergency::Ordinary) {
        let request = &pending.request;
        if let Some(refusal) = admission::inspect(request).or_else(|| message::unacceptable_body(request)) {
            return self.refuse(&pending, &refusal);
        }
        let Some(caller) = self.identify(&pending) else { return };
        if self.is_draining {
            return self.ctx.refuse_with(&pending, 503, SHUTTING_DOWN, &[("Retry-After", "30")]);
        }
        let is_from_trunk = matches!(caller.peer, Peer::Trunk(_));
        let is_secure = is_sips(pending.request.request_uri());
        let target = routing::route(dialled, is_from_trunk, &self.ctx.config, &self.ctx.directory);
        let (target, device) = self.device_target(pending.request.request_uri(), is_from_trunk, target);
        match target {
            Target::User(user) => {
                let is_meant = |b: &&Arc<Binding>| device.as_deref().is_none_or(|device| b.is_of_instance(device));
                let contacts = self.registrar.contacts(&user.name).filter(is_meant);
                let reachable = contacts.filter(|b| !is_secure || b.flow.transport == Transport::Tls);
                let contacts: Vec<_> = reachable.cloned().collect();
                self.messages.deliver(&mut self.ctx, pending, &caller, &contacts);
            }
            Target::Group(_) => self.ctx.refuse(&pending, 404, "No Texting To Groups"),
            Target::Outside(_) | Target::Onward { .. } => {
                self.ctx.refuse(&pending, 404, "No Texting To Outside Numbers")
            }
            Target::Refuse(status, reason) => self.ctx.refuse(&pending, status, reason),
        }
    }
}
