//! A device with several flows: when the one a branch was sent on has failed, the branch goes on over the next
//! (RFC 5626 section 5.3). The device is never called over two at once.

use std::sync::Arc;

use super::{
    call::{Call, State},
    context::Context,
    fork::Attempt,
};
use crate::{
    sip::{dialog::is_sips, registrar::Binding},
    types::Transport,
};

impl Call {
    /// The binding of a branch that is still wanted, if its device can have other flows.
    pub(super) fn binding_of_branch(&self, number: u32) -> Option<&Arc<Binding>> {
        let branch = self.branches.get(&number).filter(|_| self.state == State::Setup)?;
        branch.binding().filter(|binding| branch.is_open() && binding.instance.is_some())
    }

    /// Whether this flow may still be tried: it was not yet, and it is as secure as the call.
    pub(super) fn may_try(&self, flow: &Binding) -> bool {
        let is_it = |tried: &Arc<Binding>| tried.is_same(flow) && tried.flow.key() == flow.flow.key();
        let is_tried = self.branches.values().filter_map(|branch| branch.binding()).any(is_it);
        let must_be_secure = self.a.server_invite.as_ref().is_some_and(|i| is_sips(i.pending.request.request_uri()));
        !is_tried && (!must_be_secure || flow.flow.transport == Transport::Tls)
    }

    /// Sends the INVITE of a branch again, over another flow of its device.
    pub(super) fn change_flow(&mut self, ctx: &mut Context, number: u32, binding: Arc<Binding>) {
        self.retire_branch(ctx, number);
        self.launch(ctx, Attempt::contact(binding));
        self.next_wave_if_idle(ctx);
    }
}
