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
    /// Good signatures and the calls that they came with.
    seen: HashMap<[u8; 32], String>,
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
    pub passport: Passport,
    pub until: Instant,
}

impl Verifications {
    /// What the certificate makes of a PASSporT whose claims fit its call. `None`: it is being fetched.
    pub(super) fn judge(&mut self, ctx: &mut Context, passport: &Passport, call_id: &str) -> Option<Verification> {
        let now = ctx.now;
        match self.certificates.get(&passport.url) {
            Some(Known::Good(certificate, until)) if *until > now => {
                let verification = stir::judge(passport, certificate, now.unix_s());
                let is_good = verification.verstat == Verstat::Passed;
                Some(if is_good { self.once(now, passport, call_id, verification) } else { verification })
            }
            Some(Known::Unusable(reason, until)) if *until > now => Some(Verification::unknown(reason)),
            Some(Known::Asked(_)) => None,
            Some(Known::Good(..) | Known::Unusable(..)) | None => self.ask(ctx, &passport.url),
        }
    }

    /// A signature is good for one call: whoever records it cannot call with it (RFC 8224 section 12.1).
    fn once(&mut self, now: Instant, passport: &Passport, call_id: &str, good: Verification) -> Verification {
        while let Some(&(since, fingerprint)) = self.seen_since.front()
            && (now.since(since) > SEEN_FOR || self.seen_since.len() >= SIGNATURES_SEEN_MAX)
        {
            self.seen_since.pop_front();
            self.seen.remove(&fingerprint);
        }
        match self.seen.get(&passport.fingerprint()) {
            Some(earlier) if earlier == call_id => good,
            Some(_) => Verification::failed("the signature came with another call before"),
            None => {
                self.seen.insert(passport.fingerprint(), call_id.to_owned());
                self.seen_since.push_back((now, passport.fingerprint()));
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
        let meant = self.waiting.iter().filter(|(_, waiting)| waiting.passport.url == url);
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
