//! Receiving: verify, then decrypt, in place.

use std::fmt;

use crate::{
    types::{DropReason, limits::PACKET_BYTES_MAX},
    wire::rtp,
};

use super::{
    MasterKey, Suite,
    aes_ctr::{Aes, AesKey},
    cm::{Cm, rollover_counter},
    gcm::{self, Gcm},
    kdf::SessionKeys,
    srtcp::{self, HEADER_BYTES, INDEX_BYTES, Trailer},
    streams::{Cycle, Position, RtcpStreams, RtpStreams},
};

/// One direction of one leg under one master key, receiving: verifies and decrypts. Contexts per SSRC are created only
/// after a tag verifies; at most `SSRCS_PER_LEG_MAX` of them, and of `SSRCS_PER_KEY_MAX` SSRCs in all no packet passes twice.
///
/// A refused packet is left as it came, so another key may be tried on it.
pub struct Inbound {
    pub(super) keys: SessionKeys,
    pub(super) mki_bytes: usize,
    /// Where an SSRC begins that is new.
    pub(super) first_cycle: Cycle,
    pub(super) rtp: RtpStreams,
    rtcp: RtcpStreams,
}

impl Inbound {
    /// `mki_bytes`: length of the MKI the peer appends, 0 for none. It is skipped, not compared: there is one key.
    pub fn new(suite: Suite, key: &MasterKey, mki_bytes: usize) -> Self {
        Self::from_session_keys(SessionKeys::derive(suite, key), mki_bytes)
    }

    pub(super) fn from_session_keys(keys: SessionKeys, mki_bytes: usize) -> Self {
        Self { keys, mki_bytes, first_cycle: Cycle::First, rtp: RtpStreams::new(), rtcp: RtcpStreams::new() }
    }

    /// The peer appends another MKI, or none any more, under the same key.
    pub fn set_mki_bytes(&mut self, mki_bytes: usize) {
        self.mki_bytes = mki_bytes;
    }

    /// What an SRTP packet has beyond the RTP packet in it: tag and MKI.
    pub fn overhead_bytes(&self) -> usize {
        self.keys.rtp_tag_bytes() + self.mki_bytes
    }

    pub fn positions(&self) -> Positions {
        Positions { rtp: self.rtp.positions(), rtcp: self.rtcp.positions() }
    }

    /// Goes on from where another context of the same key stood. Whatever that one could have received counts as received.
    pub fn resume(&mut self, positions: &Positions) {
        self.rtp.resume(&positions.rtp);
        self.rtcp.resume(&positions.rtcp);
    }

    /// Whether a refused packet may be the first that is heard of its SSRC, with those before it lost before a wrap: its rollover
    /// counter is 1 then (RFC 3711 section 3.3.1). See [`Inbound::behind_wrap`].
    pub fn may_follow_wrap(&self, packet: &[u8]) -> bool {
        rtp::Header::parse(packet).is_ok_and(|header| self.rtp.may_follow_wrap(header.ssrc, header.sequence))
    }

    /// Opens a packet that [`Inbound::may_follow_wrap`], at the cost of one more tag check.
    pub fn behind_wrap<T>(&mut self, open: impl FnOnce(&mut Self) -> T) -> T {
        self.first_cycle = Cycle::Second;
        let opened = open(self);
        self.first_cycle = Cycle::First;
        opened
    }

    /// Verifies and decrypts one SRTP packet in place, by one tag check at most; returns the length of the plain RTP packet at
    /// the buffer's start.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let (mki_bytes, first) = (self.mki_bytes, self.first_cycle);
        match &self.keys {
            SessionKeys::Cm(keys) => {
                let verified = verify_rtp(&keys.rtp, (&mut self.rtp, first), packet, mki_bytes)?;
                keys.rtp.xor_key_stream(verified.ssrc, verified.index, &mut packet[verified.body()]);
                Ok(verified.end)
            }
            SessionKeys::Gcm(keys) => open_rtp(&keys.rtp, (&mut self.rtp, first), packet, mki_bytes),
        }
    }

    /// The same for a packet that is not to be read: with AES-CM it stays encrypted.
    pub fn verify_rtp(&mut self, packet: &mut [u8]) -> Result<(), DropReason> {
        let (mki_bytes, first) = (self.mki_bytes, self.first_cycle);
        match &self.keys {
            SessionKeys::Cm(keys) => verify_rtp(&keys.rtp, (&mut self.rtp, first), packet, mki_bytes).map(|_| ()),
            SessionKeys::Gcm(keys) => open_rtp(&keys.rtp, (&mut self.rtp, first), packet, mki_bytes).map(|_| ()),
        }
    }

    /// Verifies and decrypts SRTCP. With encryption negotiated, an E flag of 0 is accepted only with a valid tag.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        match &self.keys {
            SessionKeys::Cm(keys) => decrypt_rtcp(&keys.rtcp, &mut self.rtcp, packet, self.mki_bytes),
            SessionKeys::Gcm(keys) => open_rtcp(&keys.rtcp, &mut self.rtcp, packet, self.mki_bytes),
        }
    }
}

/// How far the streams of an [`Inbound`] have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub rtp: Vec<Position>,
    pub rtcp: Vec<Position>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("mki_bytes", &self.mki_bytes)
            .field("rtp_ssrcs", &self.rtp.len())
            .field("rtcp_ssrcs", &self.rtcp.len())
            .finish_non_exhaustive()
    }
}

/// An AES-CM packet whose tag verified. Its body is still encrypted.
#[derive(Clone, Copy)]
pub(super) struct Verified {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) index: u64,
    header_bytes: usize,
    /// Where the packet ends without tag and MKI.
    pub(super) end: usize,
}

impl Verified {
    pub(super) const fn body(&self) -> std::ops::Range<usize> {
        self.header_bytes..self.end
    }
}

/// RFC 3711 section 3.3: header and body, MKI, tag. The tag covers header, body and rollover counter.
pub(super) fn verify_rtp(
    cm: &Cm<Aes>,
    (streams, first): (&mut RtpStreams, Cycle),
    packet: &mut [u8],
    mki_bytes: usize,
) -> Result<Verified, DropReason> {
    check_size(packet)?;
    let header = rtp::Header::parse(packet)?;
    let tag_at = end_before(packet.len(), cm.tag_bytes(), header.bytes)?;
    let end = end_before(tag_at, mki_bytes, header.bytes)?;
    let (front, tag) = packet.split_at_mut(tag_at);
    let index = streams.admit(header.ssrc, header.sequence, first, |index| {
        cm.verify(&mut front[..end], &rollover_counter(index), tag)
    })?;
    Ok(Verified { ssrc: header.ssrc, sequence: header.sequence, index, header_bytes: header.bytes, end })
}

/// RFC 7714 section 8: header, sealed body (its tag is its end), MKI. The header is additional data.
fn open_rtp(
    gcm: &Gcm,
    (streams, first): (&mut RtpStreams, Cycle),
    packet: &mut [u8],
    mki_bytes: usize,
) -> Result<usize, DropReason> {
    check_size(packet)?;
    let header = rtp::Header::parse(packet)?;
    let tag_end = end_before(packet.len(), mki_bytes, header.bytes)?;
    let end = end_before(tag_end, gcm::TAG_BYTES, header.bytes)?;
    let (aad, sealed) = packet[..tag_end].split_at_mut(header.bytes);
    streams.admit(header.ssrc, header.sequence, first, |index| gcm.open(header.ssrc, index, aad, sealed))?;
    Ok(end)
}

/// RFC 3711 section 3.4: packet, E flag and index, MKI, tag. The tag covers packet, flag and index.
fn decrypt_rtcp(
    cm: &Cm<AesKey>,
    streams: &mut RtcpStreams,
    packet: &mut [u8],
    mki_bytes: usize,
) -> Result<usize, DropReason> {
    check_size(packet)?;
    let ssrc = srtcp::sender(packet)?;
    let tag_at = end_before(packet.len(), cm.tag_bytes(), HEADER_BYTES)?;
    let word_end = end_before(tag_at, mki_bytes, HEADER_BYTES)?;
    let end = end_before(word_end, INDEX_BYTES, HEADER_BYTES)?;
    let trailer = Trailer::read(packet[end..word_end].try_into().expect(TRAILER_LENGTH));

    let (front, tag) = packet.split_at_mut(tag_at);
    streams
        .admit_at(ssrc, trailer.index, |_| cm.verify(&mut front[..word_end], &[], tag))
        .map_err(|reason| trailer.name_cleartext(reason))?;
    if trailer.is_encrypted {
        cm.xor_key_stream(ssrc, trailer.index, &mut packet[HEADER_BYTES..end]);
    }
    Ok(end)
}

/// RFC 7714 section 9: packet, tag, E flag and index, MKI. Header, flag and index are additional data; without
/// encryption the whole packet is.
fn open_rtcp(gcm: &Gcm, streams: &mut RtcpStreams, packet: &mut [u8], mki_bytes: usize) -> Result<usize, DropReason> {
    check_size(packet)?;
    let ssrc = srtcp::sender(packet)?;
    let word_end = end_before(packet.len(), mki_bytes, HEADER_BYTES)?;
    let tag_end = end_before(word_end, INDEX_BYTES, HEADER_BYTES)?;
    let end = end_before(tag_end, gcm::TAG_BYTES, HEADER_BYTES)?;
    let word = packet[tag_end..word_end].try_into().expect(TRAILER_LENGTH);
    let trailer = Trailer::read(word);

    let admitted = if trailer.is_encrypted {
        let (header, sealed) = packet[..tag_end].split_at_mut(HEADER_BYTES);
        let aad = srtcp::gcm_aad(header, word);
        streams.admit_at(ssrc, trailer.index, |index| gcm.open(ssrc, index, &aad, sealed))
    } else {
        // The additional data is packet and word in one piece, so the word takes the tag's place meanwhile.
        let mut tag: [u8; gcm::TAG_BYTES] = packet[end..tag_end].try_into().expect("GCM tags are 16 bytes");
        packet[end..end + INDEX_BYTES].copy_from_slice(&word);
        let aad = &packet[..end + INDEX_BYTES];
        let admitted = streams.admit_at(ssrc, trailer.index, |index| gcm.open(ssrc, index, aad, &mut tag));
        packet[end..tag_end].copy_from_slice(&tag);
        admitted
    };
    admitted.map_err(|reason| trailer.name_cleartext(reason))?;
    Ok(end)
}

const TRAILER_LENGTH: &str = "E flag and index are 4 bytes";

const fn check_size(packet: &[u8]) -> Result<(), DropReason> {
    if packet.len() > PACKET_BYTES_MAX { Err(DropReason::PacketOversized) } else { Ok(()) }
}

/// Where the part before the last `bytes` of `end` ends; that must not reach into the first `header_bytes`.
fn end_before(end: usize, bytes: usize, header_bytes: usize) -> Result<usize, DropReason> {
    end.checked_sub(bytes).filter(|end| *end >= header_bytes).ok_or(DropReason::PacketTruncated)
}
