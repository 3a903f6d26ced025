//! Hold (RFC 3264 section 8.4): one side says that the media of a call rest in both directions. Keys stay as they are.

use crate::{
    sip::transaction,
    types::{Instant, TxnId},
    wire::sip::{Message, Method, ResponseBuilder, build::reason_phrase},
};

use super::{
    ALLOW, Call, Phone, describe,
    interface::{Event, Refusal},
    own_message,
};

impl Phone {
    /// No effect without an established call.
    pub(super) fn hold(&mut self, now: Instant) {
        match std::mem::replace(&mut self.call, Call::Idle) {
            Call::Up { mut dialog, own, .. } => {
                let (txn, branch) = self.table.reserve();
                let own = own.held();
                let invite = dialog
                    .request(Method::Invite, &self.via(&branch))
                    .header("Contact", self.contact())
                    .header("Allow", ALLOW)
                    .body(describe::CONTENT_TYPE, own.text().expose().as_bytes());
                self.call = Call::Holding { txn, dialog, own };
                self.start(now, txn, own_message(invite.finish()));
            }
            call => self.call = call,
        }
    }

    pub(super) const fn is_holding_with(&self, txn: TxnId) -> bool {
        matches!(self.call, Call::Holding { txn: invite, .. } if invite.0 == txn.0)
    }

    /// The final response to the INVITE of [`Phone::hold`]. Refused, the call goes on.
    pub(super) fn held(&mut self, result: Result<&Message, Refusal>) {
        let Call::Holding { dialog, own, .. } = std::mem::replace(&mut self.call, Call::Idle) else { return };
        let (ack, event) = match result {
            Ok(_) => {
                let (_, branch) = self.table.reserve();
                let ack = dialog.ack(dialog.local_cseq, &self.via(&branch)).finish();
                self.transmit(ack.clone());
                (Some(ack), Event::Held)
            }
            Err(refusal) => (None, Event::Refused(refusal)),
        };
        self.call = Call::Up { dialog, ack, own, answered: None };
        self.tell(event);
    }

    /// An INVITE within the call: whatever it offers, the media rest.
    pub(super) fn invited_again(&mut self, now: Instant, txn: TxnId, invite: &Message) {
        let Call::Up { own, answered, .. } = &mut self.call else {
            return self.respond(now, txn, invite, 491);
        };
        let Some(answer) = invite.sdp().and_then(|offer| own.answer_held(&offer)) else {
            return self.respond(now, txn, invite, 488);
        };
        *own = answer;
        *answered = Some(txn);
        let text = own.text();
        let response = ResponseBuilder::to(invite, 200, reason_phrase(200), "", self.config.flow.remote)
            .header("Contact", self.contact())
            .header("Allow", ALLOW)
            .body(describe::CONTENT_TYPE, text.expose().as_bytes())
            .finish();
        self.table.handle_input(now, transaction::Input::Respond { txn, status: 200, response });
    }
}
