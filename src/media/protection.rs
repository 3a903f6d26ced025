//! The SRTP contexts of a leg, one direction each, and when they are kept, replaced and forgotten.

use crate::{
    types::{DropReason, Duration, Instant},
    wire::srtp::{self, Fingerprint, Inbound, MasterKey, Outbound, Positions, Suite},
};

use super::command::Protection;

/// How long packets under a replaced key are still accepted: those under way when the new key was answered.
const RETIRING_KEY_LIFETIME: Duration = Duration::from_secs(2);

/// Replaced keys that are accepted at a time: what is forged is tried under each.
const RETIRING_KEYS_MAX: usize = 2;
/// Keys that are remembered after that, in case a peer takes one back: what came under it must not come again. A leg that goes on
/// on another worker brings the positions of its present key only.
const RETIRED_KEYS_MAX: usize = 16;

/// What arrives from the peer.
#[derive(Default)]
pub(super) struct Receiving {
    mode: Option<Mode<Inbound>>,
    /// Boxed, since it is rarely there and would part what each packet needs.
    former: Option<Box<Former>>,
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
    retired: Vec<Retired>,
}

/// Replaced contexts that still open packets.
struct Retiring {
    keyed: Keyed<Inbound>,
    until: Instant,
}

/// What is left of a key whose time is over.
struct Retired {
    suite: Suite,
    fingerprint: Fingerprint,
    heard: Positions,
}

impl Receiving {
    /// An unchanged key and suite keep their contexts, and a key that returns goes on where it stood: what it has heard must
    /// not be forgotten. `heard`: what came under it elsewhere, for a key that is new here.
    pub(super) fn configure(&mut self, now: Instant, protection: Protection, heard: Option<&Positions>) {
        let replaced = match self.mode.take() {
            Some(Mode::Srtp(keyed)) => Some(keyed),
            Some(Mode::Plain) | None => None,
        };
        let Protection::Srtp { suite, key, mki_bytes } = protection else {
            self.retire(replaced, now);
            self.expire(now + RETIRING_KEY_LIFETIME);
            self.mode = Some(Mode::Plain);
            return;
        };
        let is_kept = replaced.as_ref().is_some_and(|keyed| keyed.is(suite, &key));
        let (kept, replaced) = if is_kept { (replaced, None) } else { (None, replaced) };
        let former = self.former.as_mut();
        let mut keyed = kept.or_else(|| former?.take(suite, &key)).unwrap_or_else(|| {
            let mut context = Inbound::new(suite, &key, mki_bytes);
            let retired = self.former.as_ref().and_then(|former| former.heard(suite, &key));
            if let Some(heard) = retired.or(heard) {
                context.resume(heard);
            }
            Keyed { suite, key, context }
        });
        keyed.context.set_mki_bytes(mki_bytes);
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
    pub(super) fn verify_rtp(&mut self, now: Instant, buffer: &mut [u8], len: usize) -> Result<(), DropReason> {
        self.unprotect(now, &mut buffer[..len], (), Inbound::verify_rtp)
    }

    /// Verifies and decrypts `buffer[..len]` in place; returns the plain packet's length.
    fn unprotect_rtp(&mut self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        self.unprotect(now, &mut buffer[..len], len, Inbound::unprotect_rtp)
    }

    /// The same for RTCP.
    pub(super) fn unprotect_rtcp(&mut self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        self.unprotect(now, &mut buffer[..len], len, Inbound::unprotect_rtcp)
    }

    /// Takes an RTP packet from this peer's protection to another's; between two SRTP legs without plaintext where the
    /// suites allow it. The inner error: this peer's packet is good, but cannot be sent to the other.
    pub(super) fn reprotect_rtp(
        &mut self,
        now: Instant,
        sending: &mut Sending,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<Result<usize, DropReason>, DropReason> {
        if let (Some(Mode::Srtp(_)), Some(Mode::Srtp(out))) = (&self.mode, &mut sending.mode) {
            let out = &mut out.context;
            let transcrypt = |inbound: &mut Inbound, buffer: &mut [u8]| srtp::transcrypt_rtp(inbound, out, buffer, len);
            return self.unprotect(now, buffer, Ok(len), transcrypt);
        }
        let len = self.unprotect_rtp(now, buffer, len)?;
        Ok(sending.relay_rtp(buffer, len))
    }

    pub(super) fn positions(&self) -> Positions {
        match &self.mode {
            Some(Mode::Srtp(keyed)) => keyed.context.positions(),
            Some(Mode::Plain) | None => Positions::default(),
        }
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
        now: Instant,
        buffer: &mut [u8],
        plain: T,
        mut open: impl FnMut(&mut Inbound, &mut [u8]) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        match (&mut self.mode, &mut self.former) {
            (None, _) => Err(DropReason::PacketNoLeg),
            (Some(Mode::Plain), _) => Ok(plain),
            (Some(Mode::Srtp(keyed)), former) => match (open(&mut keyed.context, buffer), former) {
                // A refused packet is as it came, so that it can be tried again. One under the old key may be far behind
                // what has come under the new one.
                (Err(refusal @ (DropReason::SrtpBadTag | DropReason::SrtpReplayed)), Some(former)) => {
                    former.open(now, refusal, |inbound| open(inbound, buffer))
                }
                (opened, _) => opened,
            },
        }
    }
}

impl Former {
    /// A key that is taken back in time.
    fn take(&mut self, suite: Suite, key: &MasterKey) -> Option<Keyed<Inbound>> {
        let at = self.retiring.iter().position(|retiring| retiring.keyed.is(suite, key))?;
        Some(self.retiring.remove(at).keyed)
    }

    /// What had come under a key when its time was over.
    fn heard(&self, suite: Suite, key: &MasterKey) -> Option<&Positions> {
        let of_key = (suite, key.fingerprint());
        let retired = self.retired.iter().find(|retired| (retired.suite, retired.fingerprint) == of_key);
        retired.map(|retired| &retired.heard)
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
        let (fingerprint, heard) = (keyed.key.fingerprint(), keyed.context.positions());
        // What it says now holds more than what it said before.
        self.retired.retain(|retired| (retired.suite, retired.fingerprint) != (keyed.suite, fingerprint));
        if self.retired.len() == RETIRED_KEYS_MAX {
            self.retired.remove(0);
        }
        self.retired.push(Retired { suite: keyed.suite, fingerprint, heard });
    }

    /// Opens what the present key refuses for this reason.
    fn open<T>(
        &mut self,
        now: Instant,
        mut refusal: DropReason,
        mut open: impl FnMut(&mut Inbound) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        for retiring in self.retiring.iter_mut().filter(|retiring| now < retiring.until) {
            match open(&mut retiring.keyed.context) {
                Ok(opened) => return Ok(opened),
                Err(other) if refusal == DropReason::SrtpBadTag => refusal = other,
                Err(_) => {}
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

    /// Takes on a packet of the other side's that is known to be no copy.
    pub(super) fn relay_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
        match &mut self.mode {
            None => Err(DropReason::PacketNoPeer),
            Some(Mode::Plain) => Ok(len),
            Some(Mode::Srtp(keyed)) => keyed.context.relay_rtp(buffer, len),
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
