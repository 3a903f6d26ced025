//! The SRTP contexts of a leg, one direction each, and when they are kept, replaced and forgotten.

use crate::{
    types::{DropReason, Duration, Instant},
    wire::srtp::{self, Inbound, MasterKey, Outbound, Positions, Suite},
};

use super::command::Protection;

/// How long packets under a replaced key are still accepted: those under way when the new key was answered.
const RETIRING_KEY_LIFETIME: Duration = Duration::from_secs(2);

/// What arrives from the peer.
#[derive(Default)]
pub(super) struct Receiving {
    mode: Option<Mode<Inbound>>,
    /// Boxed, since it is rarely there and would part what each packet needs.
    retiring: Option<Box<Retiring>>,
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

/// Replaced contexts that still open packets.
struct Retiring {
    keyed: Keyed<Inbound>,
    until: Instant,
}

impl Receiving {
    /// An unchanged key and suite keep their contexts, and so does a key that returns while it is retiring: its replay
    /// window must not be forgotten. `heard`: what came under it elsewhere, for a key that is new here.
    pub(super) fn configure(&mut self, now: Instant, protection: Protection, heard: Option<&Positions>) {
        let Protection::Srtp { suite, key, mki_bytes } = protection else {
            *self = Self { mode: Some(Mode::Plain), retiring: None };
            return;
        };
        let replaced = match self.mode.take() {
            Some(Mode::Srtp(mut keyed)) if keyed.is(suite, &key) => {
                keyed.context.set_mki_bytes(mki_bytes);
                self.mode = Some(Mode::Srtp(keyed));
                return;
            }
            Some(Mode::Srtp(keyed)) => Some(keyed),
            Some(Mode::Plain) | None => None,
        };
        let keyed = match self.retiring.take() {
            Some(mut retiring) if retiring.keyed.is(suite, &key) => {
                retiring.keyed.context.set_mki_bytes(mki_bytes);
                retiring.keyed
            }
            Some(_) | None => {
                let mut context = Inbound::new(suite, &key, mki_bytes);
                if let Some(heard) = heard {
                    context.resume(heard);
                }
                Keyed { suite, key, context }
            }
        };
        self.mode = Some(Mode::Srtp(keyed));
        self.retiring = replaced.map(|keyed| Box::new(Retiring { keyed, until: now + RETIRING_KEY_LIFETIME }));
    }

    /// Forgets a retiring key whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.retiring.as_ref().is_some_and(|retiring| retiring.until <= now) {
            self.retiring = None;
        }
    }

    /// Verifies and decrypts `buffer[..len]` in place; returns the plain packet's length.
    pub(super) fn unprotect_rtp(&mut self, now: Instant, buffer: &mut [u8], len: usize) -> Result<usize, DropReason> {
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

    pub(super) const fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    /// `plain`: what becomes of a packet that is not protected.
    fn unprotect<T>(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        plain: T,
        mut open: impl FnMut(&mut Inbound, &mut [u8]) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        match (&mut self.mode, &mut self.retiring) {
            (None, _) => Err(DropReason::PacketNoLeg),
            (Some(Mode::Plain), _) => Ok(plain),
            (Some(Mode::Srtp(keyed)), retiring) => match (open(&mut keyed.context, buffer), retiring) {
                // A refused packet is as it came, so that it can be tried again. One under the old key may be far behind
                // what has come under the new one.
                (Err(refusal @ (DropReason::SrtpBadTag | DropReason::SrtpReplayed)), Some(retiring))
                    if now < retiring.until =>
                {
                    let opened = open(&mut retiring.keyed.context, buffer);
                    opened.map_err(|second| if refusal == DropReason::SrtpReplayed { refusal } else { second })
                }
                (opened, _) => opened,
            },
        }
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
