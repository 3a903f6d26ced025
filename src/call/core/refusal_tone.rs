//! Step 5 for emergency calls that are refused: at once, or after a tone.

use super::{
    super::{
        call::Caller,
        cdr::Cdr,
        context::Pending,
        emergency_call::{self, Early},
        leg::Peer,
        notification::{Notice, Outcome},
        refusal_tone::{Refused, Terms},
    },
    Core,
};
use crate::{
    policy::emergency::Source,
    sip::auth::Verdict,
    types::{CallId, TxnId},
    wire::sip::Method,
};

impl Core {
    /// D1 and D5.
    pub(super) fn refuse_emergency(
        &mut self,
        pending: Pending,
        (caller, source, verdict): (&Caller, Source, &Verdict),
        early: &Early<'_>,
    ) {
        let dialled = early.dialled;
        self.ctx.counters.emergency_refused += 1;
        emergency_call::log_refused(&self.ctx, early);
        let cdr = (caller.peer != Peer::Unknown).then(|| Cdr::begin(&mut self.ctx, caller, &dialled.dialled, true));
        let is_connected = pending.flow.transport.is_reliable();
        let refused = Refused { pending, dialled: dialled.clone(), language: early.origin.language, cdr };
        let is_proven =
            source == Source::AuthenticatedDevice && (is_connected || matches!(verdict, Verdict::Passed(_)));
        self.answer_refused(early.call, refused, (caller, source), is_proven);
        // Anybody anywhere can send such a call: strangers are not to make the desk's telephones ring.
        if source != STRANGER {
            self.tell_desks(Notice::refused(&self.ctx, Outcome::Refused, caller, dialled));
        }
    }

    /// The end of D4: whoever it is has not shown it, and does not come from where nobody needs to. At once, without a tone.
    pub(super) fn deny_emergency(&mut self, pending: &Pending, (caller, source): (&Caller, Source), early: &Early<'_>) {
        self.ctx.counters.emergency_refused += 1;
        emergency_call::refuse(&mut self.ctx, pending, early);
        if source != STRANGER {
            self.tell_desks(Notice::refused(&self.ctx, Outcome::Denied, caller, early.dialled));
        }
    }

    fn answer_refused(&mut self, id: CallId, refused: Refused, (caller, source): (&Caller, Source), is_proven: bool) {
        let worker = self.least_loaded();
        // Nor are strangers to have packets sent, or ports taken.
        let may_hear = self.ctx.config.emergency.refusal_tone
            && source != STRANGER
            && !self.is_draining
            && self.capacity.is_below_limit(worker);
        let refused = if may_hear {
            let terms = Terms { id, worker, security: self.caller_security(caller, true), is_proven };
            match self.refusal_tones.begin(&mut self.ctx, terms, refused) {
                Ok(()) => return,
                Err(refused) => *refused,
            }
        } else {
            refused
        };
        let tag = self.ctx.table.tag_of_refusal(&refused.pending.request);
        refused.answer(&mut self.ctx, &tag);
    }

    /// A request within the early dialog of a tone: BYE ends it (RFC 3261 section 15), anything else comes too late.
    pub(super) fn within_tone(&mut self, invite: TxnId, pending: &Pending) {
        let is_bye = pending.request.method() == Some(Method::Bye);
        self.ctx.refuse(pending, if is_bye { 200 } else { 481 }, "");
        if is_bye {
            self.refusal_tones.give_up(&mut self.ctx, invite);
        }
    }
}

/// Nobody that we know, from somewhere else than the company's own networks.
const STRANGER: Source = Source::UnauthenticatedDevice { in_site_networks: false };
