//! The SRTP contexts of a leg, one direction each, and when they are kept, replaced and forgotten.

use std::{mem, net::SocketAddr};

use crate::{
    types::{DropReason, Duration, Instant},
    wire::srtp::{self, Fingerprint, Inbound, MasterKey, Novelty, Outbound, Positions, Suite},
};

use super::{command::Protection, latch::Latch};

/// How long packets under a replaced key are still accepted: those under way when the new key was answered.
const RETIRING_KEY_LIFETIME: Duration = Duration::from_secs(2);

/// Replaced keys that are accepted at a time: what the present one refuses is tried under each.
const RETIRING_KEYS_MAX: usize = 2;
/// Keys that are remembered after that, in case a peer takes one back: what came under it must not come again.
const RETIRED_KEYS_MAX: usize = 16;
/// Tag checks beyond the first of a packet that may fail within a second. Then one must do: a flood that bears the peer's address
/// costs what any other does.
const FURTHER_CHECKS_PER_S_MAX: u8 = 100;

/// Where a packet comes from, beside where the peer is.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) now: Instant,
    pub(super) source: SocketAddr,
    pub(super) latch: &'a Latch,
}

/// How far a peer has come under each of its last keys: what came under them must not come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<Retired>);

/// What arrives from the peer.
#[derive(Default)]
pub(super) struct Receiving {
    mode: Option<Mode<Inbound>>,
    /// Boxed, since it is rarely there and would part what each packet needs.
    former: Option<Box<Former>>,
    further: FurtherChecks,
}

/// What goes to the peer. A key that was replaced must never come back: its contexts, and with them the indices it has
/// used, are gone.
#[derive(Default)]
pub(super) struct Sending {
    mode: Option<Mode<Outbound>>,
}

enum Mode<C> {
    Plain,
    Srtp(Keyed<C>),
}

/// SRTP contexts and the key they belong to.
#[repr(C)]
struct Keyed<C> {
    /// First, beside what else each packet needs.
    context: C,
    suite: Suite,
    key: MasterKey,
}

/// Keys that were replaced, each list from the first to the last.
#[derive(Default)]
struct Former {
    retiring: Vec<Retiring>,
    retired: History,
}

/// Replaced contexts that still open packets.
struct Retiring {
    keyed: Keyed<Inbound>,
    until: Instant,
}

/// What is left of a key whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Retired {
    suite: Suite,
    fingerprint: Fingerprint,
    heard: Positions,
}

/// Tag checks beyond the first of a packet that have failed in one second.
#[derive(Default)]
struct FurtherChecks {
    /// Of Unix time.
    second: u32,
    failed: u8,
}

impl Arrival<'_> {
    /// Whether the peer is known to be here, or may be anywhere.
    fn may_be_of_peer(&self) -> bool {
        self.latch.remote().is_none_or(|remote| remote == self.source)
    }
}

impl FurtherChecks {
    fn are_left(&mut self, now: Instant) -> bool {
        let second = u32::try_from(now.unix_s()).unwrap_or(u32::MAX);
        if second != self.second {
            *self = Self { second, failed: 0 };
        }
        self.failed < FURTHER_CHECKS_PER_S_MAX
    }

    /// Notes what one has come to. What a replay window refuses has cost none.
    const fn note(&mut self, refusal: DropReason) {
        if matches!(refusal, DropReason::SrtpBadTag) {
            self.failed += 1;
        }
    }
}

impl Receiving {
    /// An unchanged key and suite keep their contexts, and a key that returns goes on where it stood: what it has heard must
    /// not be forgotten. `history`: what another leg has heard of the peer.
    pub(super) fn configure(&mut self, now: Instant, protection: Protection, history: Option<&History>) {
        if let Some(history) = history {
            // What is known here came later.
            let retired = &mut self.former.get_or_insert_default().retired;
            let own = mem::replace(retired, history.clone());
            retired.append(own);
        }
        let replaced = match self.mode.take() {
            Some(Mode::Srtp(keyed)) => Some(keyed),
            Some(Mode::Plain) | None => None,
        };
        let Protection::Srtp { suite, key, mki } = protection else {
            self.retire(replaced, now);
            self.expire(now + RETIRING_KEY_LIFETIME);
            self.mode = Some(Mode::Plain);
            return;
        };
        let is_kept = replaced.as_ref().is_some_and(|keyed| keyed.is(suite, &key));
        let (kept, replaced) = if is_kept { (replaced, None) } else { (None, replaced) };
        let former = self.former.as_mut();
        let known = kept.or_else(|| former?.take(suite, &key));
        let heard = match known.is_some() && history.is_none() {
            true => None,
            false => self.former.as_ref().and_then(|former| former.retired.heard(suite, &key)),
        };
        let mut keyed = known.unwrap_or_else(|| Keyed { context: Inbound::new(suite, &key, None), suite, key });
        if let Some(heard) = heard {
            keyed.context.resume(heard);
        }
        keyed.context.set_mki(mki);
        self.mode = Some(Mode::Srtp(keyed));
        self.retire(replaced, now + RETIRING_KEY_LIFETIME);
    }

    fn retire(&mut self, keyed: Option<Keyed<Inbound>>, until: Instant) {
        if let Some(keyed) = keyed {
            self.former.get_or_insert_default().retire(Retiring { keyed, until });
        }
    }

    /// Forgets retiring keys whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(former) = &mut self.former {
            former.expire(now);
        }
    }

    /// Verifies `buffer[..len]`, which goes no further.
    pub(super) fn verify_rtp(&mut self, from: Arrival<'_>, buffer: &mut [u8], len: usize) -> Result<(), DropReason> {
        self.unprotect(from, &mut buffer[..len], (), Inbound::may_follow_wrap, Inbound::verify_rtp)
    }

    /// Verifies and decrypts `buffer[..len]` in place; returns the plain packet's length.
    fn unprotect_rtp(&mut self, from: Arrival<'_>, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        self.unprotect(from, &mut buffer[..len], len, Inbound::may_follow_wrap, Inbound::unprotect_rtp)
    }

    /// The same for RTCP, whose packets carry their index.
    pub(super) fn unprotect_rtcp(
        &mut self,
        from: Arrival<'_>,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, DropReason> {
        self.unprotect(from, &mut buffer[..len], len, |_, _| false, Inbound::unprotect_rtcp)
    }

    /// Takes an RTP packet from this peer's protection to another's; between two SRTP legs without plaintext where the
    /// suites allow it. `novelty`: of a plain packet; what is encrypted shows it by its tag. The inner error: this peer's packet
    /// is good, but cannot be sent to the other.
    pub(super) fn reprotect_rtp(
        &mut self,
        from: Arrival<'_>,
        (sending, novelty): (&mut Sending, Novelty),
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Result<usize, DropReason>, DropReason> {
        if let (Some(Mode::Srtp(_)), Some(Mode::Srtp(out))) = (&self.mode, &mut sending.mode) {
            let out = &mut out.context;
            let transcrypt = |inbound: &mut Inbound, buffer: &mut [u8]| srtp::transcrypt_rtp(inbound, out, buffer, len);
            return self.unprotect(from, buffer, Ok(len), Inbound::may_follow_wrap, transcrypt);
        }
        let len = self.unprotect_rtp(from, buffer, len)?;
        Ok(sending.relay_rtp(buffer, len, novelty))
    }

    /// For a leg that goes on with this peer elsewhere.
    pub(super) fn history(&self) -> History {
        let mut history = self.former.as_ref().map_or_else(History::default, |former| former.retired.clone());
        let retiring = self.former.iter().flat_map(|former| &former.retiring).map(|retiring| &retiring.keyed);
        let present = match &self.mode {
            Some(Mode::Srtp(keyed)) => Some(keyed),
            Some(Mode::Plain) | None => None,
        };
        retiring.chain(present).for_each(|keyed| history.add(keyed.suite, &keyed.key, keyed.context.positions()));
        history
    }

    /// What a packet of the peer has beyond the RTP packet in it.
    pub(super) fn overhead_bytes(&self) -> usize {
        match &self.mode {
            Some(Mode::Srtp(keyed)) => keyed.context.overhead_bytes(),
            Some(Mode::Plain) | None => 0,
        }
    }

    pub(super) const fn is_configured(&self) -> bool {
        self.mode.is_some()
    }

    pub(super) const fn is_srtp(&self) -> bool {
        matches!(self.mode, Some(Mode::Srtp(_)))
    }

    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.mode, Some(Mode::Plain))
    }

    pub(super) fn is_retiring(&self) -> bool {
        self.former.as_ref().is_some_and(|former| !former.retiring.is_empty())
    }

    /// `plain`: what becomes of a packet that is not protected.
    fn unprotect<T>(
        &mut self,
        from: Arrival<'_>,
        buffer: &mut [u8],
        plain: T,
        may_follow_wrap: impl Fn(&Inbound, &[u8]) -> bool,
        mut open: impl FnMut(&mut Inbound, &mut [u8]) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        let inbound = match &mut self.mode {
            None => return Err(DropReason::PacketNoLeg),
            Some(Mode::Plain) => return Ok(plain),
            Some(Mode::Srtp(keyed)) => &mut keyed.context,
        };
        let refusal = match open(inbound, buffer) {
            // A refused packet is as it came, so that it can be tried again; but strangers' are not worth it.
            Err(refusal @ (DropReason::SrtpBadTag | DropReason::SrtpUnknownMki | DropReason::SrtpReplayed))
                if from.may_be_of_peer() =>
            {
                refusal
            }
            opened => return opened,
        };
        let is_first = refusal == DropReason::SrtpBadTag && may_follow_wrap(inbound, buffer);
        if is_first && self.further.are_left(from.now) {
            match inbound.behind_wrap(|inbound| open(inbound, buffer)) {
                Err(DropReason::SrtpBadTag) => self.further.note(DropReason::SrtpBadTag),
                opened => return opened,
            }
        }
        match &mut self.former {
            Some(former) => former.open(from.now, &mut self.further, refusal, |inbound| open(inbound, buffer)),
            None => Err(refusal),
        }
    }
}

impl History {
    /// What it says of a key replaces what it has said before. Of too many keys the first is forgotten.
    pub fn add(&mut self, suite: Suite, key: &MasterKey, heard: Positions) {
        self.push(Retired { suite, fingerprint: key.fingerprint(), heard });
    }

    /// Adds what has come later.
    pub fn append(&mut self, later: Self) {
        later.0.into_iter().for_each(|retired| self.push(retired));
    }

    fn push(&mut self, new: Retired) {
        self.0.retain(|retired| (retired.suite, retired.fingerprint) != (new.suite, new.fingerprint));
        if self.0.len() == RETIRED_KEYS_MAX {
            self.0.remove(0);
        }
        self.0.push(new);
    }

    fn heard(&self, suite: Suite, key: &MasterKey) -> Option<&Positions> {
        let of_key = (suite, key.fingerprint());
        let retired = self.0.iter().find(|retired| (retired.suite, retired.fingerprint) == of_key);
        retired.map(|retired| &retired.heard)
    }
}

impl Former {
    /// A key that is taken back in time.
    fn take(&mut self, suite: Suite, key: &MasterKey) -> Option<Keyed<Inbound>> {
        let at = self.retiring.iter().position(|retiring| retiring.keyed.is(suite, key))?;
        Some(self.retiring.remove(at).keyed)
    }

    fn retire(&mut self, retiring: Retiring) {
        if self.retiring.len() == RETIRING_KEYS_MAX {
            let first = self.retiring.remove(0);
            self.forget(first);
        }
        self.retiring.push(retiring);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(at) = self.retiring.iter().position(|retiring| retiring.until <= now) {
            let over = self.retiring.remove(at);
            self.forget(over);
        }
    }

    fn forget(&mut self, Retiring { keyed, .. }: Retiring) {
        self.retired.add(keyed.suite, &keyed.key, keyed.context.positions());
    }

    /// Opens what the present key refuses for this reason: it may be far behind what has come under that.
    fn open<T>(
        &mut self,
        now: Instant,
        further: &mut FurtherChecks,
        mut refusal: DropReason,
        mut open: impl FnMut(&mut Inbound) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        for retiring in self.retiring.iter_mut().filter(|retiring| now < retiring.until) {
            if !further.are_left(now) {
                break;
            }
            let other = match open(&mut retiring.keyed.context) {
                Ok(opened) => return Ok(opened),
                Err(other) => other,
            };
            further.note(other);
            if refusal != DropReason::SrtpReplayed {
                refusal = other;
            }
        }
        Err(refusal)
    }
}

impl Sending {
    /// An unchanged key and suite keep their contexts, so that no index is used twice.
    pub(super) fn configure(&mut self, protection: Protection) {
        let Protection::Srtp { suite, key, .. } = protection else {
            self.mode = Some(Mode::Plain);
            return;
        };
        if !matches!(&self.mode, Some(Mode::Srtp(keyed)) if keyed.is(suite, &key)) {
            let context = Outbound::new(suite, &key);
            self.mode = Some(Mode::Srtp(Keyed { suite, key, context }));
        }
    }

    /// Takes on a packet of the other side's.
    pub(super) fn relay_rtp(&mut self, buffer: &mut [u8], len: usize, novelty: Novelty) -> Result<usize, DropReason> {
        match &mut self.mode {
            None => Err(DropReason::PacketNoPeer),
            Some(Mode::Plain) => Ok(len),
            Some(Mode::Srtp(keyed)) => keyed.context.relay_rtp(buffer, len, novelty),
        }
    }

    /// By how much the sequence numbers of what is relayed to the peer have changed.
    pub(super) fn offset(&self, ssrc: u32) -> u16 {
        match &self.mode {
            Some(Mode::Srtp(keyed)) => keyed.context.offset(ssrc),
            Some(Mode::Plain) | None => 0,
        }
    }

    /// A packet that was made here.
    pub(super) fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        match &mut self.mode {
            None => Err(DropReason::PacketNoPeer),
            Some(Mode::Plain) => Ok(len),
            Some(Mode::Srtp(keyed)) => keyed.context.protect_rtp(buffer, len),
        }
    }

    pub(super) fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        match &mut self.mode {
            None => Err(DropReason::PacketNoPeer),
            Some(Mode::Plain) => Ok(len),
            Some(Mode::Srtp(keyed)) => keyed.context.protect_rtcp(buffer, len),
        }
    }

    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.mode, Some(Mode::Plain))
    }
}

impl<C> Keyed<C> {
    fn is(&self, suite: Suite, key: &MasterKey) -> bool {
        self.suite == suite && self.key == *key
    }
}
