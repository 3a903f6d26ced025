//! The phone's session description: one audio section with one `a=crypto` line, so that the suite of a leg is certain.

use std::net::SocketAddr;

use crate::{
    types::{Rng, Secret},
    wire::{
        sdp::{self, Attributes, Crypto, Direction, MediaKind, MediaSection, Profile, Session},
        srtp::{MasterKey, Suite},
    },
};

use super::Media;

pub(super) const CONTENT_TYPE: &str = "application/sdp";
/// PCMU (RFC 3551 section 6): every server relays it.
const FORMAT: &str = "0";

/// What this phone says about its media.
#[derive(Clone)]
pub(super) struct Description {
    address: SocketAddr,
    crypto: Crypto,
    direction: Direction,
    origin_id: u64,
    origin_version: u64,
}

impl Description {
    pub(super) fn offer(suite: Suite, address: SocketAddr, rng: &mut Rng) -> Self {
        Self::new(1, suite, suite.name(), address, rng)
    }

    /// The answer to a peer's offer, and what both agree on. `None`: the offer has no such audio section or suite.
    pub(super) fn answer(offer: &[u8], suite: Suite, address: SocketAddr, rng: &mut Rng) -> Option<(Self, Media)> {
        let (theirs, remote) = read_active(offer, suite)?;
        // RFC 4568 section 5.1.2: tag and suite as offered, a key of our own.
        let own = Self::new(theirs.tag, suite, &theirs.suite_text, address, rng);
        let media = own.media(&theirs, remote);
        Some((own, media))
    }

    /// `None`: the answer does not take the one line that was offered.
    pub(super) fn read_answer(&self, answer: &[u8]) -> Option<Media> {
        let (theirs, remote) = read_active(answer, self.crypto.suite)?;
        (theirs.tag == self.crypto.tag).then(|| self.media(&theirs, remote))
    }

    /// The next description of the same call, in which media rest.
    pub(super) fn held(&self) -> Self {
        Self { direction: Direction::Inactive, origin_version: self.origin_version + 1, ..self.clone() }
    }

    /// The same as an answer. `None`: the offer has no such audio section or suite.
    pub(super) fn answer_held(&self, offer: &[u8]) -> Option<Self> {
        let (_, Crypto { tag, suite_text, .. }, _) = read(offer, self.crypto.suite)?;
        let held = self.held();
        Some(Self { crypto: Crypto { tag, suite_text, ..held.crypto }, ..held })
    }

    /// Secret, because it holds the key.
    pub(super) fn text(&self) -> Secret<String> {
        let section = MediaSection {
            kind: MediaKind::Audio,
            port: self.address.port(),
            profile: Profile::Savp,
            formats: [FORMAT].into_iter().collect(),
            address: Some(self.address.ip()),
            direction: self.direction,
            rtcp: None,
            has_rtcp_mux: true,
            crypto: vec![self.crypto.clone()],
            bandwidth: Vec::new(),
            attributes: Attributes::default(),
        };
        let Self { origin_id, origin_version, .. } = *self;
        let session = Session { origin_id, origin_version, bandwidth: Vec::new(), media: vec![section] };
        Secret::new(sdp::print(&session, self.address.ip()))
    }

    fn new(tag: u32, suite: Suite, suite_text: &str, address: SocketAddr, rng: &mut Rng) -> Self {
        let crypto = Crypto {
            tag,
            suite,
            suite_text: suite_text.to_owned().into(),
            key: MasterKey::generate(suite, rng),
            mki_bytes: 0,
            is_weakened: false,
        };
        // RFC 8866 section 5.2: a number that fits 63 bits.
        Self { address, crypto, direction: Direction::SendRecv, origin_id: rng.u64() >> 1, origin_version: 1 }
    }

    fn media(&self, theirs: &Crypto, remote: SocketAddr) -> Media {
        Media {
            remote,
            suite: self.crypto.suite,
            send: self.crypto.key.clone(),
            receive: theirs.key.clone(),
            receive_mki_bytes: theirs.mki_bytes,
        }
    }
}

/// What [`read`] gives where media flow both ways.
fn read_active(body: &[u8], suite: Suite) -> Option<(Crypto, SocketAddr)> {
    let (direction, crypto, remote) = read(body, suite)?;
    (direction == Direction::SendRecv).then_some((crypto, remote))
}

/// Which way media flow, the line with this suite in a description's first section, and where its owner receives.
fn read(body: &[u8], suite: Suite) -> Option<(Direction, Crypto, SocketAddr)> {
    let section = sdp::parse(body).ok()?.media.into_iter().next()?;
    let is_usable = section.kind == MediaKind::Audio && section.port != 0;
    let remote = SocketAddr::new(section.address?, section.port);
    let crypto = section.crypto.into_iter().find(|line| line.suite == suite && !line.is_weakened)?;
    is_usable.then_some((section.direction, crypto, remote))
}
