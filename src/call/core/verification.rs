//! Step 4 for calls from trunks: whether the caller's number is verified, and the calls that wait until that is known.

use crate::{
    call::{
        admission::invite_key,
        call::Caller,
        context::Pending,
        interface::CertificateReply,
        leg::Peer,
        signature::Signed,
        verification::{Arrival, Signatures, Waiting},
    },
    policy::{
        emergency::{self, Dialled, Ordinary},
        stir::{self, Verification},
    },
    types::{Duration, TxnId, limits::PASSPORTS_MAX},
    wire::passport::Fault,
};

use super::Core;

impl Core {
    /// Notes what is known of a trunk's caller. `Some`: a certificate of these signatures is on its way, and the call waits.
    pub(super) fn verify(&mut self, pending: &Pending, caller: &mut Caller, called: &Ordinary) -> Option<Signatures> {
        let Peer::Trunk(trunk) = caller.peer else { return None };
        caller.signed = Signed::of(&pending.request, called.dialled());
        if !self.ctx.config.stir.verifies() {
            return None;
        }
        let call_id = pending.request.call_id();
        let verification = match self.signatures(caller, (trunk, call_id)) {
            Err(verification) => verification,
            Ok(signatures) => match self.verifications.judge(&mut self.ctx, &signatures) {
                Some(verification) => verification,
                // Answering points that call back wait for nothing, and a full server holds no call.
                None if self.rejection(&pending.request).is_some() || self.calls_back(&pending.request, called) => LATE,
                None => return Some(signatures),
            },
        };
        self.note_verification(caller, verification);
        None
    }

    /// The signatures that can be verified, their claims being true, or why there are none.
    fn signatures(&self, caller: &Caller, (trunk, call_id): (usize, &str)) -> Result<Signatures, Verification> {
        let signed = caller.signed.as_ref().ok_or(Verification::unknown("the call is not signed"))?;
        if signed.identities.len() > PASSPORTS_MAX {
            return Err(Verification::unknown("the call has too many signatures"));
        }
        let (passports, faults) = signed.read();
        if passports.is_empty() {
            return Err(if faults.contains(&Fault::Malformed) {
                Verification::failed("the signature is malformed")
            } else {
                Verification::unknown("no signature is of a kind that is understood")
            });
        }
        let chain = signed.chain(&passports, caller, self.site.region()).map_err(|verification| {
            // What is not understood may be what leads here (`div-o`).
            let may_lead = verification.reason == stir::ANOTHER_CALLEE && faults.contains(&Fault::Unsupported);
            if may_lead { Verification::unknown(stir::ANOTHER_CALLEE) } else { verification }
        })?;
        if let Some(verification) = chain.judge(self.ctx.now.unix_s()) {
            return Err(verification);
        }
        let arrival = Arrival { trunk, call_id: call_id.to_owned(), called: chain.called.to_owned() };
        let chain = chain.passports.into_iter().cloned().collect();
        Ok(Signatures { chain, arrival })
    }

    fn note_verification(&mut self, caller: &mut Caller, verification: Verification) {
        caller.verification = Some(verification);
        if let Some(count) = self.ctx.counters.verifications.get_mut(verification.verstat.index()) {
            *count += 1;
        }
    }

    /// Holds a call until the certificates are here, for so long as is configured.
    pub(super) fn await_certificates(&mut self, pending: Pending, caller: Caller, uri: String, signatures: Signatures) {
        let key = invite_key(&pending.request);
        let until = self.ctx.now + Duration::from_millis(self.ctx.config.stir.wait_ms.into());
        self.invite_keys.insert(key.clone());
        self.hold(Waiting { pending, caller, uri, key, signatures, until });
    }

    fn hold(&mut self, waiting: Waiting) {
        if let Err(waiting) = self.verifications.wait(waiting) {
            self.go_on(*waiting, LATE);
        }
    }

    pub(super) fn certificate_arrived(&mut self, query: u64, reply: CertificateReply) {
        for waiting in self.verifications.arrived(self.ctx.now, query, reply) {
            match self.verifications.judge(&mut self.ctx, &waiting.signatures) {
                Some(verification) => self.go_on(waiting, verification),
                None => self.hold(waiting),
            }
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
