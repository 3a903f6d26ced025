//! Step 4 for calls from trunks: whether the caller's number is verified, and the calls that wait until that is known.

use crate::{
    call::{
        admission::invite_key,
        call::Caller,
        context::Pending,
        interface::CertificateReply,
        leg::Peer,
        verification::{Arrival, Signature, Waiting},
    },
    policy::{
        emergency::{self, Dialled, Ordinary},
        number,
        stir::{self, Facts, Verification},
    },
    types::{Duration, TxnId},
    wire::{
        passport::{Fault, Passport},
        sip::Message,
    },
};

use super::Core;

impl Core {
    /// Notes what is known of a trunk's caller. `Some`: the certificate of this signature is on its way, and the call waits.
    pub(super) fn verify(&mut self, pending: &Pending, caller: &mut Caller, called: &Ordinary) -> Option<Signature> {
        let Peer::Trunk(trunk) = caller.peer else { return None };
        if !self.ctx.config.stir.verifies() {
            return None;
        }
        let verification = match self.signature(&pending.request, (trunk, caller), called) {
            Err(verification) => verification,
            Ok(signature) => match self.verifications.judge(&mut self.ctx, &signature) {
                Some(verification) => verification,
                // Answering points that call back wait for nothing, and a full server holds no call.
                None if self.rejection(&pending.request).is_some() || self.calls_back(&pending.request, called) => LATE,
                None => return Some(signature),
            },
        };
        self.note_verification(caller, verification);
        None
    }

    /// The one signature that can be verified, its claims being true, or why there is none.
    fn signature(
        &self,
        request: &Message,
        (trunk, caller): (usize, &Caller),
        called: &Ordinary,
    ) -> Result<Signature, Verification> {
        let values: Vec<_> = request.lines_text("Identity").collect();
        if values.is_empty() {
            return Err(Verification::unknown("the call is not signed"));
        }
        let parsed: Vec<_> = values.iter().map(|value| Passport::parse(value)).collect();
        let was_diverted = values.iter().any(|value| value.to_ascii_lowercase().contains("ppt=\"div\""));
        let passport = match parsed.iter().find_map(|passport| passport.as_ref().ok()) {
            Some(passport) => passport.clone(),
            None if parsed.iter().all(|fault| *fault == Err(Fault::Unsupported)) => {
                return Err(Verification::unknown("no signature is of a kind that is understood"));
            }
            None => return Err(Verification::failed("the signature is malformed")),
        };
        let forms = |text: &str| number::inbound_forms(text, self.site.region());
        let is_number = number::is_number(&caller.user);
        let (caller, called) = (is_number.then(|| forms(&caller.user)), forms(called.dialled()));
        let caller = caller.as_ref().map_or(&[][..], |forms| &forms[..]);
        let facts = Facts { now_s: self.ctx.now.unix_s(), caller, called: &called, was_diverted };
        let called = stir::judge_claims(&passport, &facts)?.to_owned();
        let arrival = Arrival { trunk, call_id: request.call_id().to_owned(), called };
        Ok(Signature { passport, arrival })
    }

    fn note_verification(&mut self, caller: &mut Caller, verification: Verification) {
        caller.verification = Some(verification);
        if let Some(count) = self.ctx.counters.verifications.get_mut(verification.verstat.index()) {
            *count += 1;
        }
    }

    /// Holds a call until the certificate is here, for so long as is configured.
    pub(super) fn await_certificate(&mut self, pending: Pending, caller: Caller, uri: String, signature: Signature) {
        let key = invite_key(&pending.request);
        let until = self.ctx.now + Duration::from_millis(self.ctx.config.stir.wait_ms.into());
        self.invite_keys.insert(key.clone());
        if let Err(waiting) = self.verifications.wait(Waiting { pending, caller, uri, key, signature, until }) {
            self.go_on(*waiting, LATE);
        }
    }

    pub(super) fn certificate_arrived(&mut self, query: u64, reply: CertificateReply) {
        for waiting in self.verifications.arrived(self.ctx.now, query, reply) {
            let verification = self.verifications.judge(&mut self.ctx, &waiting.signature);
            self.go_on(waiting, verification.unwrap_or(LATE));
        }
    }

    pub(super) fn end_late_verifications(&mut self) {
        while let Some(waiting) = self.verifications.late(self.ctx.now) {
            self.go_on(waiting, LATE);
        }
    }

    fn go_on(&mut self, waiting: Waiting, verification: Verification) {
        let Waiting { pending, mut caller, uri, key, .. } = waiting;
        self.invite_keys.remove(&key);
        self.note_verification(&mut caller, verification);
        match emergency::classify(&uri, &self.site) {
            Dialled::Ordinary(dialled) => self.admitted(pending, caller, &dialled, &uri),
            Dialled::Emergency(_) | Dialled::Test(_) => unreachable!("only ordinary calls wait"),
        }
    }

    /// Whoever sent an INVITE that waits no longer waits for its answer. `false`: there is none.
    pub(super) fn waiting_given_up(&mut self, txn: TxnId) -> bool {
        let Some(waiting) = self.verifications.give_up(txn) else { return false };
        self.invite_keys.remove(&waiting.key);
        self.ctx.refuse(&waiting.pending, 487, "");
        true
    }
}

const LATE: Verification = Verification::unknown("the certificate did not come in time");
