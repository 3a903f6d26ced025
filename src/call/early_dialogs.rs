//! Several early dialogs of one branch, where somebody behind it has forked the INVITE: an offer in the first of them (UPDATE,
//! RFC 3311) changes that one alone. If another one answers, what held before comes back, and whatever the caller has
//! changed since is offered anew.

use bytes::Bytes;

use super::{
    call::{Call, State},
    context::{Context, Side},
    fork::Branch,
};
use crate::{sip::offer_answer::Past, wire::sip::Message};

/// What holds in the early dialogs of a branch other than the first.
#[derive(Debug)]
pub(super) struct BeforeUpdate {
    past: Past,
    /// The caller has changed the first one since.
    is_by_caller: bool,
}

impl Call {
    /// To be called before an offer changes the first early dialog of the branch that the caller hears.
    pub(super) fn remember(&mut self) {
        let branch = self.early.and_then(|number| self.branches.get_mut(&number));
        let Some(branch) = branch.filter(|branch| branch.has_offered()) else { return };
        let past = branch.leg.negotiation.past();
        branch.before_update.get_or_insert_with(|| Box::new(BeforeUpdate { past, is_by_caller: false }));
    }

    /// An offer of the caller's holds in the first early dialog of this branch.
    pub(super) fn changed_by_caller(&mut self, number: u32) {
        if let Some(before) = self.branches.get_mut(&number).and_then(|branch| branch.before_update.as_mut()) {
            before.is_by_caller = true;
        }
    }

    /// An answer in a provisional response, when an offer has changed another dialog: nobody hears this one, but a reliable
    /// one (`answer`) holds if its dialog is answered. Returns whether the caller hears it.
    pub(super) fn keep_for_its_dialog(&mut self, number: u32, response: &Message, answer: Option<Bytes>) -> bool {
        if let Some((branch, answer)) = self.branches.get_mut(&number).zip(answer) {
            branch.settle_in(response, answer);
        }
        false
    }

    /// The dialog of this 2xx goes on from before the offers in another one.
    pub(super) fn recall(&mut self, number: u32, response: &Message) {
        let Some(branch) = self.branches.get_mut(&number) else { return };
        if branch.is_changed(response) {
            return;
        }
        let Some(BeforeUpdate { past, is_by_caller }) = branch.before_update.take().map(|before| *before) else {
            return;
        };
        branch.is_behind = branch.leg.negotiation.return_to(past) && is_by_caller;
    }

    /// Offers to a callee who is behind what the caller says now. `false`: there is nothing to offer.
    pub(super) fn catch_up(&mut self, ctx: &mut Context) -> bool {
        let State::Answered(number) = self.state else { return false };
        let is_behind = self.branches.get_mut(&number).is_some_and(|branch| std::mem::take(&mut branch.is_behind));
        let Some(session) = self.a.session.clone().filter(|_| is_behind) else { return false };
        self.pass_offer(ctx, Side::A, Side::B(number), &session);
        let Some(branch) = self.branches.get_mut(&number) else { return false };
        // Nobody waits for the answer.
        branch.leg.is_restoring = branch.leg.client_invite.is_some();
        branch.leg.is_restoring
    }
}

impl Branch {
    /// Whether an offer has changed what a reliable response had settled in this response's dialog.
    fn is_changed(&self, response: &Message) -> bool {
        self.settled_in(response).is_some_and(Bytes::is_empty)
    }
}
