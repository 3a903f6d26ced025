//! Signatures of callers' numbers (RFC 8224): which certificates are known, which are being fetched, and which calls wait for one.
//! What a signature is worth is `policy::stir`'s.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    call::Caller,
    context::{Context, Pending},
    interface::{CertificateReply, Output},
};
use crate::{
    policy::stir::{self, Place, Verification, Verstat},
    types::{
        Duration, Instant, TxnId,
        limits::{
            CERTIFICATE_FETCHES_MAX, PASSPORT_AGE_S_MAX, SIGNATURES_SEEN_MAX, SIGNING_CERTIFICATES_MAX,
            VERIFICATIONS_WAITING_MAX,
        },
    },
    wire::passport::{Certificate, Passport},
};

/// What cannot be had is asked for again after this time.
const UNUSABLE_FOR: Duration = Duration::from_secs(60);
/// How long a signature is remembered: as long as it may be good.
const SEEN_FOR: Duration = Duration::from_secs(2 * PASSPORT_AGE_S_MAX);

#[derive(Debug, Default)]
pub(super) struct Verifications {
    /// By address.
    certificates: HashMap<String, Known>,
    /// Calls that wait, by the transaction of their INVITE.
    waiting: BTreeMap<TxnId, Waiting>,
    /// Good signatures and how they came first.
    seen: HashMap<[u8; 32], Arrival>,
    seen_since: VecDeque<(Instant, [u8; 32])>,
    last_query: u64,
}

/// What is known of the certificate at an address.
#[derive(Debug)]
enum Known {
    /// The number of the question.
    Asked(u64),
    Good(Box<Certificate>, Instant),
    Unusable(&'static str, Instant),
}

/// A call that waits for the certificate of its signature.
#[derive(Debug)]
pub(super) struct Waiting {
    pub pending: Pending,
    pub caller: Caller,
    /// What was called.
    pub uri: String,
    /// Tells its INVITE from others.
    pub key: String,
    pub signatures: Signatures,
    pub until: Instant,
}

/// PASSporTs whose claims fit their call.
#[derive(Debug)]
pub(super) struct Signatures {
    /// As `policy::stir` has found them: the caller's own first.
    pub chain: Vec<Passport>,
    pub arrival: Arrival,
}

/// By which way signatures came, and what they came with.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub trunk: usize,
    pub call_id: String,
    /// Which of the numbers that the last of them is for was called: digits.
    pub called: String,
}

impl Arrival {
    /// Whether it is the same call. A carrier whose INVITE was not answered, or with 503, sends it again from another of its
    /// servers, often with a new Call-ID, and a proxy that forks a call to several of our numbers keeps the Call-ID. Who has
    /// recorded a signature can be that caller for the rest of its minute, but only to whom that caller has called, and only
    /// by the trunk that has brought it anyway. By another trunk nothing tells a copy from the call, for a Call-ID is not signed.
    fn is_again(&self, earlier: &Self) -> bool {
        self.trunk == earlier.trunk && (self.call_id == earlier.call_id || self.called == earlier.called)
    }
}

impl Verifications {
    /// What the certificates make of a call's signatures. `None`: one is being fetched.
    pub(super) fn judge(&mut self, ctx: &mut Context, signatures: &Signatures) -> Option<Verification> {
        let verdicts: Vec<_> = signatures.chain.iter().map(|passport| self.verdict(ctx, passport)).collect();
        let failed = |verdict: &&Verification| verdict.verstat == Verstat::Failed;
        if let Some(verdict) = verdicts.iter().flatten().find(failed) {
            return Some(*verdict);
        }
        let verdicts = verdicts.into_iter().collect::<Option<Vec<_>>>()?;
        if let Some(unknown) = verdicts.iter().find(|verdict| verdict.verstat == Verstat::NoValidation) {
            return Some(*unknown);
        }
        let good = stir::all_good(*verdicts.first()?, verdicts.len() - 1);
        Some(self.once(ctx.now, signatures, good))
    }

    fn verdict(&mut self, ctx: &mut Context, passport: &Passport) -> Option<Verification> {
        let now = ctx.now;
        match self.certificates.get(&passport.url) {
            Some(Known::Good(certificate, until)) if *until > now => {
                Some(stir::judge(passport, certificate, now.unix_s()))
            }
            Some(Known::Unusable(reason, until)) if *until > now => Some(Verification::unknown(reason)),
            Some(Known::Asked(_)) => None,
            Some(Known::Good(..) | Known::Unusable(..)) | None => self.ask(ctx, &passport.url),
        }
    }

    /// A signature is good for one call: whoever records it cannot call with it (RFC 8224 section 12.1).
    /// The last counts: those before it lead elsewhere, too, if their call was sent on to several numbers.
    fn once(&mut self, now: Instant, signatures: &Signatures, good: Verification) -> Verification {
        let Signatures { chain, arrival } = signatures;
        let Some(fingerprint) = chain.last().map(Passport::fingerprint) else { return good };
        while let Some(&(since, oldest)) = self.seen_since.front()
            && (now.since(since) > SEEN_FOR || self.seen_since.len() >= SIGNATURES_SEEN_MAX)
        {
            self.seen_since.pop_front();
            self.seen.remove(&oldest);
        }
        match self.seen.get(&fingerprint) {
            Some(earlier) if arrival.is_again(earlier) => good,
            Some(_) => Verification::failed("the signature came with another call before"),
            None => {
                self.seen.insert(fingerprint, arrival.clone());
                self.seen_since.push_back((now, fingerprint));
                good
            }
        }
    }

    fn ask(&mut self, ctx: &mut Context, url: &str) -> Option<Verification> {
        let hosts = &ctx.config.stir.hosts;
        let place = Place::parse(url).filter(|place| hosts.is_empty() || hosts.contains(&place.host));
        let Some(place) = place else {
            return Some(Verification::unknown("no certificate is fetched from there"));
        };
        let asked = self.certificates.values().filter(|known| matches!(known, Known::Asked(_))).count();
        if asked >= CERTIFICATE_FETCHES_MAX {
            return Some(Verification::unknown("too many certificates are being fetched"));
        }
        self.make_place(ctx.now);
        self.last_query += 1;
        self.certificates.insert(url.to_owned(), Known::Asked(self.last_query));
        ctx.outputs.push_back(Output::FetchCertificate { query: self.last_query, place });
        None
    }

    /// The one that is of use for the shortest time goes.
    fn make_place(&mut self, now: Instant) {
        let ends = |known: &Known| match known {
            Known::Asked(_) => None,
            Known::Good(_, until) | Known::Unusable(_, until) => Some(*until),
        };
        self.certificates.retain(|_, known| ends(known).is_none_or(|until| until > now));
        while self.certificates.len() >= SIGNING_CERTIFICATES_MAX {
            let shortest = self.certificates.iter().filter_map(|(url, known)| Some((ends(known)?, url))).min();
            let Some(url) = shortest.map(|(_, url)| url.clone()) else { return };
            self.certificates.remove(&url);
        }
    }

    /// What was said of certificates holds no longer. Answers that are on their way are those of the new authorities.
    pub(super) fn forget(&mut self) {
        self.certificates.retain(|_, known| matches!(known, Known::Asked(_)));
    }

    /// Takes the answer to a question. Returns the calls that waited for it, and may go on.
    pub(super) fn arrived(&mut self, now: Instant, query: u64, reply: CertificateReply) -> Vec<Waiting> {
        let asked = self.certificates.iter_mut().find(|(_, known)| matches!(known, Known::Asked(q) if *q == query));
        let Some((url, known)) = asked else { return Vec::new() };
        *known = match reply {
            CertificateReply::Found { certificate, ttl } => Known::Good(certificate, now + ttl),
            CertificateReply::Unusable(reason) => Known::Unusable(reason, now + UNUSABLE_FOR),
        };
        let url = url.clone();
        let is_meant = |waiting: &Waiting| waiting.signatures.chain.iter().any(|passport| passport.url == url);
        let meant = self.waiting.iter().filter(|(_, waiting)| is_meant(waiting));
        let meant: Vec<TxnId> = meant.map(|(txn, _)| *txn).collect();
        meant.into_iter().filter_map(|txn| self.waiting.remove(&txn)).collect()
    }

    /// `Err`: as many wait as may; it goes on at once.
    pub(super) fn wait(&mut self, waiting: Waiting) -> Result<(), Box<Waiting>> {
        if self.waiting.len() >= VERIFICATIONS_WAITING_MAX {
            return Err(Box::new(waiting));
        }
        self.waiting.insert(waiting.pending.txn, waiting);
        Ok(())
    }

    pub(super) fn holds(&self, txn: TxnId) -> bool {
        self.waiting.contains_key(&txn)
    }

    /// The caller has given up, or cannot be answered any more.
    pub(super) fn give_up(&mut self, txn: TxnId) -> Option<Waiting> {
        self.waiting.remove(&txn)
    }

    /// One whose time is up.
    pub(super) fn late(&mut self, now: Instant) -> Option<Waiting> {
        let late = self.waiting.iter().find(|(_, waiting)| waiting.until <= now).map(|(txn, _)| *txn)?;
        self.waiting.remove(&late)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
