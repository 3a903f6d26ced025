//! Offer/answer for a B2BUA (RFC 3264, 4568): what one leg said, turned into what the other leg is told.
//!
//! Each leg negotiates for itself. From the other leg come kinds, formats, directions and bandwidth; addresses, ports
//! and keys are always this leg's own, and no key is ever taken over. A leg never decides when to offer or answer:
//! the call does.
//!
//! ```text
//!            offer()                      read_answer()
//!   Idle ───────────────► Offered ───────────────────────► OfferAnswered
//!     │      read_offer()               answer()
//!     └─────────────────► Received ──────────────────────► ReceivedAnswered
//! ```
//!
//! From either answered state the next exchange begins as from `Idle`. `repeat()` is an `offer()` of what stands already. `roll_back()` leads from `Offered` and
//! `Received` back to `Idle` with everything as it was settled before.
//!
//! Decisions
//! - **Profiles offered.** `SrtpOnly`: `RTP/SAVP(F)`. `PlainOnly`: `RTP/AVP(F)`. `SrtpPreferred`: `RTP/AVP(F)` with
//!   `a=crypto`, which is what phones call optional SRTP: one m-line that a phone without SRTP also takes, where an
//!   `RTP/SAVP` line would cost it a 488 and a second attempt. The letter of RFC 4568 wants a secure profile; phones
//!   that read it so ignore the lines and answer plain, which `SrtpPreferred` allows and the call record shows.
//! - **Profiles answered.** The one offered, as RFC 3264 section 6 demands; whether SRTP is used depends on
//!   `a=crypto` alone. So an `RTP/AVP` offer with `a=crypto` satisfies `SrtpOnly`.
//! - **Re-offers** repeat the line in use, byte for byte, and no other: the same suite and key, so that contexts and
//!   rollover counters survive on both sides.
//! - **rtcp-mux** is offered unless the leg is `PlainOnly` (old trunk equipment refuses what it does not know), and
//!   answered exactly if offered (RFC 5761 section 5.1.1).
//! - **Fax and floor control** (`udptl`, `UDP/BFCP`) have no encryption here, so a leg offers and accepts them where it
//!   would take plain RTP: not on a leg that is `SrtpOnly`. Transport and attributes stay as the other side wrote them.
//! - **Hold** passes through as stated. `c=0.0.0.0` (RFC 2543) reads as a peer that does not receive.

mod formats;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use formats::retain_offered;

use crate::{
    policy::security::LegSecurity,
    types::{Rng, Secret},
    wire::{
        classify::Traffic,
        sdp::{self, Attribute, Attributes, Crypto, Direction, MediaSection, Profile, SdpFault, Session},
        srtp::{MasterKey, Suite},
    },
};

/// Suites as offered, strongest first: cipher and mode, then the length of the tag before the length of the key.
const SUITES: [Suite; 6] = [
    Suite::AeadAes256Gcm,
    Suite::AeadAes128Gcm,
    Suite::AesCm256HmacSha1_80,
    Suite::AesCm128HmacSha1_80,
    Suite::AesCm256HmacSha1_32,
    Suite::AesCm128HmacSha1_32,
];

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
    pub traffic: Traffic,
    /// Where the peer wants RTP, or datagrams; `None`: on hold by `c=0.0.0.0`, section rejected, or the peer named a host instead of
    /// an address, in which case only its own packets tell where it is.
    pub remote_rtp: Option<SocketAddr>,
    /// Separate RTCP address; `None`: multiplexed, no RTP at all, or no `remote_rtp`.
    pub remote_rtcp: Option<SocketAddr>,
    /// RTCP passes over the port of RTP, both ways (RFC 5761).
    pub has_rtcp_mux: bool,
    pub receive: Protection,
    pub send: Protection,
    /// As the peer stated it: `RecvOnly` means that the peer only listens. `Inactive` if the section is rejected.
    pub peer_direction: Direction,
}

/// Why negotiation failed; each is a 488 with this text in Warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationFault {
    Sdp(SdpFault),
    /// Encryption is required and the peer offers or answers none.
    NotEncrypted,
    NoCommonSuite,
    /// An answer that does not fit its offer (section count, unknown crypto tag), or an offer with fewer sections than
    /// the one before.
    AnswerMismatch,
    /// Every section was rejected.
    NothingAccepted,
    /// An offer while another is unanswered, or an answer to none.
    OutOfTurn,
}

impl NegotiationFault {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Sdp(fault) => fault.text(),
            Self::NotEncrypted => "Encryption (SRTP) is required here",
            Self::NoCommonSuite => "No common SRTP crypto suite",
            Self::AnswerMismatch => "The session description does not fit the one before it",
            Self::NothingAccepted => "No media section is acceptable",
            Self::OutOfTurn => "The session description comes out of turn",
        }
    }
}

impl From<SdpFault> for NegotiationFault {
    fn from(fault: SdpFault) -> Self {
        Self::Sdp(fault)
    }
}

/// The negotiation of one leg's dialog. Own keys stay the same across re-INVITEs while the suite does (so that SRTP
/// contexts and their rollover counters survive); the peer's keys are compared by the media plane.
///
/// As offerer: [`Leg::offer`], then [`Leg::read_answer`]. As answerer: [`Leg::read_offer`], then [`Leg::answer`].
/// A key that was in use and was given up never comes back, so no context can start anew under it.
#[derive(Debug)]
pub struct Leg {
    security: LegSecurity,
    origin_id: u64,
    origin_version: u64,
    /// The description sent last; a different one gets a higher version.
    sent: Option<Arc<Secret<String>>>,
    /// The description sent in the exchange that settled what stands; mostly the same.
    standing: Option<Arc<Secret<String>>>,
    /// In `o=` where no section has an address of its own.
    address: IpAddr,
    /// Our side of what is settled: ports, profile, multiplexing, and the one crypto line in use.
    ours: Vec<MediaSection>,
    settled: Vec<Settled>,
    exchange: Exchange,
    /// The next offer has new keys.
    renews_keys: bool,
    /// The peer is a carrier: it is offered nothing of [`FEEDBACK_ATTRIBUTES`] and no multiplexing unless it has spoken of them.
    is_carrier: bool,
    has_feedback: bool,
}

/// Attributes of browsers and video telephones (RFC 4585, RFC 8285), which carriers have been seen to refuse a call for.
const FEEDBACK_ATTRIBUTES: [&str; 3] = ["rtcp-fb", "extmap", "extmap-allow-mixed"];

/// What a leg had negotiated at some time ([`Leg::past`]).
#[derive(Clone, Debug)]
pub struct Past {
    origin_version: u64,
    sent: Option<Arc<Secret<String>>>,
    standing: Option<Arc<Secret<String>>>,
    ours: Vec<MediaSection>,
    settled: Vec<Settled>,
    exchange: Exchange,
}

/// Where the last exchange of this leg stands. Offers are kept after their answer, because a forked INVITE may be
/// answered again, and so may ours: in a provisional response and in the final one.
#[derive(Clone, Debug)]
enum Exchange {
    Idle,
    /// Our offer awaits the peer's answer.
    Offered(Vec<MediaSection>),
    /// The peer answered our offer, whose crypto lines are now those that a further answer may choose.
    OfferAnswered(Vec<MediaSection>),
    /// The peer's offer awaits our answer.
    Received(Vec<MediaSection>),
    ReceivedAnswered(Vec<MediaSection>),
}

/// One section after an answer.
struct Agreement {
    ours: MediaSection,
    settled: Settled,
}

impl Leg {
    pub fn new(security: LegSecurity, rng: &mut Rng) -> Self {
        // RFC 3264 section 5: a 64-bit signed integer.
        let origin_id = rng.u64() >> 1;
        Self {
            security,
            origin_id,
            origin_version: 0,
            sent: None,
            standing: None,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ours: Vec::new(),
            settled: Vec::new(),
            exchange: Exchange::Idle,
            renews_keys: false,
            is_carrier: false,
            has_feedback: false,
        }
    }

    /// The peer is a carrier.
    pub const fn keep_to_telephony(&mut self) {
        self.is_carrier = true;
    }

    /// Our next offer has new keys instead of those in use, because the media goes to another place, where their contexts
    /// are not. If it fails, the old ones stay.
    pub const fn renew_keys(&mut self) {
        self.renews_keys = true;
    }

    /// Reads and checks the peer's offer: returns it for the other leg to copy formats from, without its keys and with
    /// port 0 in each section that this leg will reject. Fails without changing state.
    pub fn read_offer(&mut self, body: &[u8]) -> Result<Session, NegotiationFault> {
        match self.exchange {
            Exchange::Offered(_) | Exchange::Received(_) => return Err(NegotiationFault::OutOfTurn),
            Exchange::Idle | Exchange::OfferAnswered(_) | Exchange::ReceivedAnswered(_) => {}
        }
        let mut session = sdp::parse(body)?;
        // RFC 3264 section 8: a new description has at least as many sections as the one before.
        if session.media.len() < self.ours.len() {
            return Err(NegotiationFault::AnswerMismatch);
        }
        let mut fault = NegotiationFault::NothingAccepted;
        for section in &mut session.media {
            apply_legacy_hold(section);
            if !is_relayable(section) {
                section.port = 0;
            } else if let Err(security) = self.choose_protection(section, None) {
                section.port = 0;
                fault = security;
            }
        }
        if session.media.iter().all(|section| section.port == 0) {
            return Err(fault);
        }
        self.has_feedback = session.media.iter().any(has_feedback);
        self.exchange = Exchange::Received(session.media.clone());
        withhold_keys(&mut session);
        Ok(session)
    }

    /// Our offer on this leg: the formats of `source` (the other leg's offer), our addresses and keys. Sections that
    /// this leg does not carry ([`Leg::carries`]) and those whose `local` is `None` get port 0. An exchange that is still
    /// unanswered is given up. Fails without changing state if nothing is left to offer.
    pub fn offer(
        &mut self,
        rng: &mut Rng,
        source: &Session,
        local: &[Option<LocalMedia>],
    ) -> Result<String, NegotiationFault> {
        let count = source.media.len().max(self.ours.len());
        let sections: Vec<_> = (0..count)
            .map(|i| match (source.media.get(i), local.get(i).copied().flatten()) {
                (Some(section), Some(local)) if self.carries(section) => self.offer_section(rng, i, section, local),
                (Some(section), _) => rejected(section),
                // The other leg is a new one with fewer sections; ours may not disappear.
                (None, _) => rejected(&self.ours[i]),
            })
            .collect();
        if sections.iter().all(|section| section.port == 0) {
            let is_for_plain_legs = source.media.iter().any(is_relayable);
            return Err(if is_for_plain_legs {
                NegotiationFault::NotEncrypted
            } else {
                NegotiationFault::NothingAccepted
            });
        }
        self.exchange = Exchange::Offered(sections.clone());
        Ok(self.describe(sections, &source.bandwidth))
    }

    /// Offers what stands, byte for byte and so with the same version: nothing changes (RFC 4028 section 7.4). The
    /// peer's answer must keep to the crypto lines in use. `None` before the first answer, and while an offer of the peer
    /// waits for ours.
    pub fn repeat(&mut self) -> Option<String> {
        let standing = match self.exchange {
            Exchange::Received(_) => None,
            Exchange::Idle | Exchange::Offered(_) | Exchange::OfferAnswered(_) | Exchange::ReceivedAnswered(_) => {
                self.standing.clone()
            }
        }?;
        self.sent = Some(standing.clone());
        self.exchange = Exchange::Offered(self.ours.clone());
        Some(standing.expose().clone())
    }

    /// Reads the peer's answer to our last offer. Fails without changing state. Returns it without its keys and without
    /// formats that were not offered. A further answer to the same offer (another branch of a fork, or a final
    /// response after a provisional one) replaces the first and must choose the same crypto line.
    pub fn read_answer(&mut self, body: &[u8]) -> Result<(Session, Vec<Settled>), NegotiationFault> {
        let mut offer = match &self.exchange {
            Exchange::Offered(offer) | Exchange::OfferAnswered(offer) => offer.clone(),
            Exchange::Idle | Exchange::Received(_) | Exchange::ReceivedAnswered(_) => {
                return Err(NegotiationFault::OutOfTurn);
            }
        };
        let mut session = sdp::parse(body)?;
        if session.media.len() != offer.len() {
            return Err(NegotiationFault::AnswerMismatch);
        }
        let mut agreements = Vec::with_capacity(offer.len());
        for (i, (ours, theirs)) in offer.iter_mut().zip(&mut session.media).enumerate() {
            let agreement = self.settle_answer(ours, theirs)?;
            // What a further answer may choose: the line in use, and nothing once that is given up.
            let was_encrypted = self.ours.get(i).is_some_and(|before| !before.crypto.is_empty());
            if was_encrypted || !agreement.ours.crypto.is_empty() {
                ours.crypto.clone_from(&agreement.ours.crypto);
            }
            agreements.push(agreement);
        }
        self.agree(agreements)?;
        self.standing.clone_from(&self.sent);
        self.exchange = Exchange::OfferAnswered(offer);
        withhold_keys(&mut session);
        Ok((session, self.settled.clone()))
    }

    /// Our answer to the peer's last offer, with the formats the other leg answered (`source`), and what is settled.
    /// May be called again for the same offer; our keys stay. Fails without changing state.
    pub fn answer(
        &mut self,
        rng: &mut Rng,
        source: &Session,
        local: &[Option<LocalMedia>],
    ) -> Result<(String, Vec<Settled>), NegotiationFault> {
        let offer = match &self.exchange {
            Exchange::Received(offer) | Exchange::ReceivedAnswered(offer) => offer.clone(),
            Exchange::Idle | Exchange::Offered(_) | Exchange::OfferAnswered(_) => {
                return Err(NegotiationFault::OutOfTurn);
            }
        };
        let agreements = (0..offer.len())
            .map(|i| match (source.media.get(i), local.get(i).copied().flatten()) {
                (Some(section), Some(local)) => self.answer_section(rng, i, &offer[i], section, local),
                (None, _) | (_, None) => Agreement::rejected(&offer[i]),
            })
            .collect();
        self.agree(agreements)?;
        self.exchange = Exchange::ReceivedAnswered(offer);
        let text = self.describe(self.ours.clone(), &source.bandwidth);
        self.standing.clone_from(&self.sent);
        Ok((text, self.settled.clone()))
    }

    /// Our answer that refuses every section of an offer, for a dialog that ends with it. `None`: the offer cannot be read.
    pub fn decline(&self, offer: &[u8]) -> Option<String> {
        let media = sdp::parse(offer).ok()?.media.iter().map(rejected).collect();
        let (origin_id, origin_version) = (self.origin_id, self.origin_version + 1);
        Some(sdp::print(&Session { origin_id, origin_version, bandwidth: Vec::new(), media }, self.address))
    }

    /// The offer in flight failed: back to what was settled before (RFC 3261 section 14.1). An exchange that was
    /// answered stands (RFC 6141 section 3.4).
    pub fn roll_back(&mut self) {
        self.renews_keys = false;
        match self.exchange {
            Exchange::Offered(_) | Exchange::Received(_) => self.exchange = Exchange::Idle,
            Exchange::Idle | Exchange::OfferAnswered(_) | Exchange::ReceivedAnswered(_) => {}
        }
    }

    /// Nobody can answer the last offer again: no INVITE or response that carried it, or its answer, is on its way. What
    /// was kept for that is forgotten.
    pub fn conclude(&mut self) {
        match self.exchange {
            Exchange::OfferAnswered(_) | Exchange::ReceivedAnswered(_) => self.exchange = Exchange::Idle,
            Exchange::Idle | Exchange::Offered(_) | Exchange::Received(_) => {}
        }
    }

    /// What holds in each dialog of a forked INVITE before a later exchange in one of them.
    pub fn past(&self) -> Past {
        Past {
            origin_version: self.origin_version,
            sent: self.sent.clone(),
            standing: self.standing.clone(),
            ours: self.ours.clone(),
            settled: self.settled.clone(),
            exchange: self.exchange.clone(),
        }
    }

    /// Goes on where `past` was: in another dialog of the same INVITE, which has not seen what came after. `false`, and
    /// nothing has changed, if one of our keys of then was given up since: it never comes back.
    pub fn return_to(&mut self, past: Past) -> bool {
        let is_in_use = |(i, before): (usize, &MediaSection)| {
            before.crypto.is_empty() || self.ours.get(i).is_some_and(|ours| ours.crypto == before.crypto)
        };
        if !past.ours.iter().enumerate().all(is_in_use) {
            return false;
        }
        let Past { origin_version, sent, standing, ours, settled, exchange } = past;
        *self = Self {
            origin_version,
            sent,
            standing,
            ours,
            settled,
            exchange,
            security: self.security,
            origin_id: self.origin_id,
            address: self.address,
            renews_keys: false,
            is_carrier: self.is_carrier,
            has_feedback: self.has_feedback,
        };
        true
    }

    /// What is settled now, one entry per section; empty before the first answer.
    pub fn settled(&self) -> &[Settled] {
        &self.settled
    }

    /// Whether this leg can have a section of the other leg, its protection being its own.
    pub fn carries(&self, section: &MediaSection) -> bool {
        is_relayable(section) && (section.traffic() == Some(Traffic::Rtp) || self.may_be_plain())
    }

    /// What it offers names keys, and would do without: a peer that refuses it may take a plain offer.
    pub fn offers_srtp_or_plain(&self) -> bool {
        self.security == LegSecurity::SrtpPreferred
    }

    fn may_be_plain(&self) -> bool {
        match self.security {
            LegSecurity::SrtpOnly => false,
            LegSecurity::SrtpPreferred | LegSecurity::PlainOnly => true,
        }
    }

    /// The crypto line of the peer's offer to take; `None`: the section is plain.
    fn choose_protection<'a>(
        &self,
        offer: &'a MediaSection,
        in_use: Option<Suite>,
    ) -> Result<Option<&'a Crypto>, NegotiationFault> {
        match offer.traffic() {
            Some(Traffic::Datagrams) if self.may_be_plain() => Ok(None),
            Some(Traffic::Datagrams) => Err(NegotiationFault::NotEncrypted),
            Some(Traffic::Rtp) | None => choose_crypto(offer, self.security, in_use),
        }
    }

    /// Whether the section is settled and not rejected.
    pub fn is_in_use(&self, section: usize) -> bool {
        self.ours.get(section).is_some_and(|ours| ours.port != 0)
    }

    /// Our side of what is settled for a section: the formats its peer may send.
    pub fn section(&self, section: usize) -> Option<&MediaSection> {
        self.ours.get(section)
    }

    fn offer_section(&self, rng: &mut Rng, i: usize, source: &MediaSection, local: LocalMedia) -> MediaSection {
        if source.traffic() == Some(Traffic::Datagrams) {
            return datagrams(source, local);
        }
        let before = self.ours.get(i);
        let was_muxed = before.is_some_and(|ours| ours.has_rtcp_mux);
        let is_bare = self.is_carrier && !self.has_feedback;
        let in_use =
            before.filter(|ours| !ours.crypto.is_empty()).map(|ours| (ours.profile.is_secure(), ours.crypto.clone()));
        let (is_secure, crypto) = match in_use {
            Some((is_secure, _)) if self.renews_keys => (is_secure, fresh_lines(rng)),
            Some(in_use) => in_use,
            None => match self.security {
                LegSecurity::PlainOnly => (false, Vec::new()),
                LegSecurity::SrtpPreferred => (false, fresh_lines(rng)),
                LegSecurity::SrtpOnly => (true, fresh_lines(rng)),
            },
        };
        MediaSection {
            kind: source.kind.clone(),
            port: local.port,
            profile: Profile::rtp(is_secure, source.profile.has_feedback() && !is_bare),
            formats: source.formats.clone(),
            address: Some(local.address),
            direction: source.direction,
            rtcp: None,
            has_rtcp_mux: was_muxed || self.security != LegSecurity::PlainOnly && !is_bare,
            crypto,
            bandwidth: source.bandwidth.clone(),
            attributes: if is_bare { without_feedback(&source.attributes) } else { source.attributes.clone() },
        }
    }

    /// One section of the peer's answer (`theirs`, whose formats are reduced to those offered) to ours.
    fn settle_answer(&self, ours: &MediaSection, theirs: &mut MediaSection) -> Result<Agreement, NegotiationFault> {
        if theirs.kind != ours.kind {
            return Err(NegotiationFault::AnswerMismatch);
        }
        if theirs.port == 0 {
            return Ok(Agreement::rejected(ours));
        }
        if ours.port == 0 || theirs.traffic() != ours.traffic() {
            return Err(NegotiationFault::AnswerMismatch);
        }
        apply_legacy_hold(theirs);
        retain_offered(theirs, ours);
        if theirs.formats.is_empty() {
            return Err(NegotiationFault::AnswerMismatch);
        }
        if theirs.traffic() == Some(Traffic::Datagrams) {
            return Ok(Agreement::new(ours.clone(), theirs, None));
        }
        let line = match theirs.crypto.as_slice() {
            [] if self.security == LegSecurity::SrtpOnly || ours.profile.is_secure() || theirs.profile.is_secure() => {
                return Err(NegotiationFault::NotEncrypted);
            }
            [] => None,
            // RFC 4568 section 5.1.2: exactly one line, which is one of those offered.
            [theirs] => {
                let line = ours.crypto.iter().find(|line| line.tag == theirs.tag && line.suite == theirs.suite);
                Some(line.filter(|_| !theirs.is_weakened).ok_or(NegotiationFault::AnswerMismatch)?)
            }
            [_, _, ..] => return Err(NegotiationFault::AnswerMismatch),
        };
        let mut agreed = ours.clone();
        agreed.crypto = line.cloned().into_iter().collect();
        agreed.has_rtcp_mux = ours.has_rtcp_mux && theirs.has_rtcp_mux;
        Ok(Agreement::new(agreed, theirs, theirs.crypto.first()))
    }

    fn answer_section(
        &self,
        rng: &mut Rng,
        i: usize,
        offer: &MediaSection,
        source: &MediaSection,
        local: LocalMedia,
    ) -> Agreement {
        let mut accepted = source.clone();
        retain_offered(&mut accepted, offer);
        let is_accepted = offer.port != 0 && source.port != 0 && !accepted.formats.is_empty();
        let in_use = self.ours.get(i).and_then(|ours| ours.crypto.first()).map(|line| line.suite);
        let (true, Ok(chosen)) = (is_accepted, self.choose_protection(offer, in_use)) else {
            return Agreement::rejected(offer);
        };
        let ours = MediaSection {
            kind: offer.kind.clone(),
            port: local.port,
            profile: offer.profile.clone(),
            formats: accepted.formats,
            address: Some(local.address),
            direction: answer_direction(offer.direction, source.direction),
            rtcp: None,
            has_rtcp_mux: offer.has_rtcp_mux && offer.traffic() == Some(Traffic::Rtp),
            crypto: chosen.map(|chosen| self.answer_line(rng, i, chosen)).into_iter().collect(),
            bandwidth: accepted.bandwidth,
            attributes: accepted.attributes,
        };
        Agreement::new(ours, offer, chosen)
    }

    /// Tag and spelling are the peer's (RFC 4568 section 5.1.2); the key is the one in use if the suite stays.
    fn answer_line(&self, rng: &mut Rng, i: usize, chosen: &Crypto) -> Crypto {
        let in_use = self.ours.get(i).and_then(|ours| ours.crypto.first()).filter(|line| line.suite == chosen.suite);
        let key = match in_use {
            Some(line) => line.key.clone(),
            None => MasterKey::generate(chosen.suite, rng),
        };
        Crypto {
            tag: chosen.tag,
            suite: chosen.suite,
            suite_text: chosen.suite_text.clone(),
            key,
            mki_bytes: 0,
            is_weakened: false,
        }
    }

    /// Settles all sections, unless none was accepted.
    fn agree(&mut self, agreements: Vec<Agreement>) -> Result<(), NegotiationFault> {
        if agreements.iter().all(|agreement| agreement.ours.port == 0) {
            return Err(NegotiationFault::NothingAccepted);
        }
        self.renews_keys = false;
        self.settled = agreements.iter().map(|a| a.settled.clone()).collect();
        self.ours = agreements.into_iter().map(|a| a.ours).collect();
        Ok(())
    }

    /// Prints our description and raises the version of `o=` if it differs from the one sent last (RFC 3264 section 8).
    fn describe(&mut self, media: Vec<MediaSection>, bandwidth: &[String]) -> String {
        self.address = media.iter().find_map(|section| section.address).unwrap_or(self.address);
        let mut session = Session {
            origin_id: self.origin_id,
            origin_version: self.origin_version,
            bandwidth: bandwidth.to_vec(),
            media,
        };
        let unchanged = sdp::print(&session, self.address);
        if self.sent.as_ref().is_some_and(|sent| *sent.expose() == unchanged) {
            return unchanged;
        }
        self.origin_version += 1;
        session.origin_version = self.origin_version;
        let text = sdp::print(&session, self.address);
        self.sent = Some(Arc::new(Secret::new(text.clone())));
        text
    }
}

impl Agreement {
    /// `theirs` is the peer's section and `line` its crypto line in use, under which we receive.
    fn new(ours: MediaSection, theirs: &MediaSection, line: Option<&Crypto>) -> Self {
        let remote_rtp =
            theirs.address.filter(|ip| !ip.is_unspecified()).map(|address| SocketAddr::new(address, theirs.port));
        let traffic = ours.traffic().unwrap_or_default();
        let has_rtcp_mux = traffic == Traffic::Rtp && ours.has_rtcp_mux;
        let has_rtcp_port = traffic == Traffic::Rtp && !has_rtcp_mux;
        let remote_rtcp = remote_rtp.filter(|_| has_rtcp_port).and_then(|rtp| rtcp_address(rtp, theirs));
        let settled = Settled {
            traffic,
            remote_rtp,
            remote_rtcp,
            has_rtcp_mux,
            receive: protection(line),
            send: protection(ours.crypto.first()),
            peer_direction: theirs.direction,
        };
        Self { ours, settled }
    }

    fn rejected(section: &MediaSection) -> Self {
        let settled = Settled {
            traffic: Traffic::default(),
            remote_rtp: None,
            remote_rtcp: None,
            has_rtcp_mux: false,
            receive: Protection::Plain,
            send: Protection::Plain,
            peer_direction: Direction::Inactive,
        };
        Self { ours: rejected(section), settled }
    }
}

/// Whether two descriptions say the same of the media: kinds, formats, directions, bandwidth. Addresses, ports and keys
/// are each leg's own and do not count.
pub fn is_same_media(one: &Session, other: &Session) -> bool {
    let bare = |session: &Session| {
        let section = |section: &MediaSection| MediaSection {
            port: section.port.min(1),
            profile: Profile::Avp,
            address: None,
            rtcp: None,
            has_rtcp_mux: false,
            crypto: Vec::new(),
            ..section.clone()
        };
        let media = session.media.iter().map(section).collect();
        let session = Session { origin_id: 0, origin_version: 0, bandwidth: session.bandwidth.clone(), media };
        sdp::print(&session, Ipv4Addr::UNSPECIFIED.into())
    };
    bare(one) == bare(other)
}

/// One line for each suite, each with a key of its own.
fn fresh_lines(rng: &mut Rng) -> Vec<Crypto> {
    (1..)
        .zip(SUITES)
        .map(|(tag, suite)| Crypto {
            tag,
            suite,
            suite_text: suite.name().into(),
            key: MasterKey::generate(suite, rng),
            mki_bytes: 0,
            is_weakened: false,
        })
        .collect()
}

/// What this server can relay, and in use.
fn is_relayable(section: &MediaSection) -> bool {
    section.traffic().is_some() && section.port != 0 && !section.formats.is_empty()
}

/// Fax or floor control as the other side described it, at our address.
fn datagrams(source: &MediaSection, local: LocalMedia) -> MediaSection {
    MediaSection {
        port: local.port,
        address: Some(local.address),
        rtcp: None,
        has_rtcp_mux: false,
        crypto: Vec::new(),
        ..source.clone()
    }
}

/// Whether a peer has spoken of what carriers mostly do not know.
fn has_feedback(section: &MediaSection) -> bool {
    let is_feedback = |(name, _): Attribute<'_>| FEEDBACK_ATTRIBUTES.contains(&name);
    section.has_rtcp_mux || section.profile.has_feedback() || section.attributes.iter().any(is_feedback)
}

fn without_feedback(attributes: &Attributes) -> Attributes {
    attributes.iter().filter(|(name, _)| !FEEDBACK_ATTRIBUTES.contains(name)).collect()
}

/// The same section refused: its m-line with port 0 (RFC 3264 section 6).
fn rejected(section: &MediaSection) -> MediaSection {
    MediaSection {
        kind: section.kind.clone(),
        port: 0,
        profile: section.profile.clone(),
        formats: section.formats.clone(),
        address: None,
        direction: Direction::Inactive,
        rtcp: None,
        has_rtcp_mux: false,
        crypto: Vec::new(),
        bandwidth: Vec::new(),
        attributes: Attributes::default(),
    }
}

/// The line of the peer's offer to take: of the suite in use if it is offered again, so that a hold changes no key,
/// otherwise the strongest that is not weakened. `None`: plain RTP.
fn choose_crypto(
    offer: &MediaSection,
    security: LegSecurity,
    in_use: Option<Suite>,
) -> Result<Option<&Crypto>, NegotiationFault> {
    let usable = |suite: &Suite| offer.crypto.iter().find(|line| line.suite == *suite && !line.is_weakened);
    let chosen = in_use.iter().chain(&SUITES).find_map(usable);
    match security {
        LegSecurity::PlainOnly if offer.profile.is_secure() => Err(NegotiationFault::NoCommonSuite),
        LegSecurity::PlainOnly => Ok(None),
        LegSecurity::SrtpOnly | LegSecurity::SrtpPreferred if chosen.is_some() => Ok(chosen),
        LegSecurity::SrtpOnly | LegSecurity::SrtpPreferred if offer.profile.is_secure() => {
            Err(NegotiationFault::NoCommonSuite)
        }
        LegSecurity::SrtpOnly if !offer.crypto.is_empty() => Err(NegotiationFault::NoCommonSuite),
        LegSecurity::SrtpOnly => Err(NegotiationFault::NotEncrypted),
        LegSecurity::SrtpPreferred => Ok(None),
    }
}

/// The other side's direction, reduced to what the offer allows (RFC 3264 section 6.1).
const fn answer_direction(offer: Direction, source: Direction) -> Direction {
    Direction::new(source.sends() && offer.receives(), source.receives() && offer.sends())
}

/// RFC 3264 section 8.4: `0.0.0.0` is the hold of RFC 2543, and means that the peer receives neither RTP nor RTCP.
fn apply_legacy_hold(section: &mut MediaSection) {
    if section.address.is_some_and(|address| address.is_unspecified()) {
        section.direction = Direction::new(section.direction.sends(), false);
    }
}

/// `a=rtcp` (RFC 3605), else one port above RTP (RFC 3550 section 11).
fn rtcp_address(rtp: SocketAddr, theirs: &MediaSection) -> Option<SocketAddr> {
    match theirs.rtcp {
        Some((port, Some(address))) => Some(SocketAddr::new(address, port)),
        Some((port, None)) => Some(SocketAddr::new(rtp.ip(), port)),
        None => rtp.port().checked_add(1).map(|port| SocketAddr::new(rtp.ip(), port)),
    }
}

fn protection(line: Option<&Crypto>) -> Protection {
    line.map_or(Protection::Plain, |line| Protection::Srtp {
        suite: line.suite,
        key: line.key.clone(),
        mki_bytes: line.mki_bytes,
    })
}

/// The other leg has no use for this peer's keys, so it never sees them.
fn withhold_keys(session: &mut Session) {
    for section in &mut session.media {
        section.crypto = Vec::new();
    }
}

#[cfg(test)]
mod tests;
