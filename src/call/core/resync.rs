//! Telephones that fetch their configuration again: which ones. The asking is `call::resync`'s.

use super::{
    super::{
        call::Call,
        interface::{Output, SyncRefusal},
        leg::Peer,
    },
    Core,
};
use crate::{config::User, sip::registrar::Binding};

impl Core {
    /// Every device of a user, except while emergency services may need it.
    pub(super) fn resync(&mut self, id: u64, user: &str, is_reboot: bool) {
        let Some(user) = self.ctx.directory.by_name(user).cloned() else {
            return self.ctx.outputs.push_back(Output::Resynced { id, result: Err(SyncRefusal::NoSuchUser) });
        };
        let contacts: Vec<_> = self.registrar.contacts(&user.name).cloned().collect();
        let needed: Vec<bool> = contacts.iter().map(|binding| self.is_needed(&user, binding)).collect();
        self.resyncs.begin(&mut self.ctx, id, contacts.into_iter().zip(needed), is_reboot);
    }

    /// The device is in an emergency call or in the answering point's call back, or may be called back: a telephone that
    /// starts anew cannot be reached for a minute.
    fn is_needed(&self, user: &User, binding: &Binding) -> bool {
        let may_be_in = |call: &Call| match call.caller.peer {
            // Whoever makes an emergency call need not have said who it is.
            Peer::Unknown => call.a.flow.remote.ip() == binding.flow.remote.ip(),
            Peer::Device(_) | Peer::Trunk(_) => call.users().any(|name| name == user.name),
        };
        self.may_be_called_back(binding, user.direct_line.as_deref())
            || self.calls.values().any(|call| call.is_live() && call.is_urgent() && may_be_in(call))
    }
}
