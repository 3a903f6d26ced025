//! Offer/answer for a B2BUA (RFC 3264, 4568): what one leg said, turned into what the other leg is told.

use std::net::{IpAddr, SocketAddr};

use crate::{
    policy::security::LegSecurity,
    types::Rng,
    wire::{
        sdp::{Direction, SdpFault, Session},
        srtp::{MasterKey, Suite},
    },
};

/// Where one media section of ours listens on one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    pub address: IpAddr,
    /// RTP; RTCP is one above unless multiplexed.
    pub port: u16,
}

/// Protection of one direction of one section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    Plain,
    Srtp { suite: Suite, key: MasterKey, mki_bytes: usize },
}

/// What offer and answer settled for one media section of one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Where the peer wants RTP; `None`: on hold by `c=0.0.0.0`, or section rejected.
    pub remote_rtp: Option<SocketAddr>,
    /// Separate RTCP address; `None`: multiplexed.
    pub remote_rtcp: Option<SocketAddr>,
    pub receive: Protection,
    pub send: Protection,
    /// As the peer stated it: `RecvOnly` means that the peer only listens.
    pub peer_direction: Direction,
}

/// Why negotiation failed; each is a 488 with this text in Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationFault {
    Sdp(SdpFault),
    /// Encryption is required and the peer offers or answers none.
    NotEncrypted,
    NoCommonSuite,
    /// An answer that does not fit its offer (section count, unknown crypto tag).
    AnswerMismatch,
    /// Every section was rejected.
    NothingAccepted,
}

impl NegotiationFault {
    pub const fn text(self) -> &'static str {
        todo!()
    }
}

/// The negotiation of one leg's dialog. Own keys stay the same across re-INVITEs while the suite does (so that SRTP
/// contexts and their rollover counters survive); the peer's keys are compared by the media plane.
///
/// As offerer: [`Leg::offer`], then [`Leg::read_answer`]. As answerer: [`Leg::read_offer`], then [`Leg::answer`].
#[derive(Debug)]
pub struct Leg {}

impl Leg {
    pub fn new(security: LegSecurity, rng: Rng) -> Self {
        let _ = (security, rng);
        todo!()
    }

    /// Reads and checks the peer's offer: returns it for the other leg to copy formats from. Fails without changing state.
    pub fn read_offer(&mut self, body: &[u8]) -> Result<Session, NegotiationFault> {
        let _ = body;
        todo!()
    }

    /// Our offer on this leg: the formats of `source` (the other leg's offer), our addresses and keys. Sections this
    /// server cannot relay (neither RTP audio nor video) and those whose `local` is `None` get port 0.
    pub fn offer(&mut self, source: &Session, local: &[Option<LocalMedia>]) -> String {
        let _ = (source, local);
        todo!()
    }

    /// Reads the peer's answer to our last offer.
    pub fn read_answer(&mut self, body: &[u8]) -> Result<(Session, Vec<Settled>), NegotiationFault> {
        let _ = body;
        todo!()
    }

    /// Our answer to the peer's last offer, with the formats the other leg answered (`source`), and what is settled.
    pub fn answer(
        &mut self,
        source: &Session,
        local: &[Option<LocalMedia>],
    ) -> Result<(String, Vec<Settled>), NegotiationFault> {
        let _ = (source, local);
        todo!()
    }

    /// The offer in flight failed: back to what was settled before (RFC 3261 section 14.1).
    pub fn roll_back(&mut self) {
        todo!()
    }

    /// What is settled now, one entry per section; empty before the first answer.
    pub fn settled(&self) -> &[Settled] {
        todo!()
    }
}
