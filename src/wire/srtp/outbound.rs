//! Sending: claim an index, encrypt, append the tag, in place.

use std::fmt;

use crate::{types::DropReason, wire::rtp};

use super::{
    MasterKey, Suite,
    cm::rollover_counter,
    kdf::SessionKeys,
    srtcp::{self, INDEX_BYTES},
    streams::{Novelty, RtcpStreams, RtpStreams, sequence_of},
};

/// One direction of one leg under one master key, sending: encrypts and tags. No index is ever used twice.
///
/// RTP keeps its sequence numbers, and the index follows from them; a duplicate is refused as replayed. Relayed RTP keeps
/// them as long as it goes on where it stood. Two of these must never be made from one master key while a peer still uses it.
pub struct Outbound {
    pub(super) keys: SessionKeys,
    pub(super) rtp: RtpStreams,
    rtcp: RtcpStreams,
}

impl Outbound {
    pub fn new(suite: Suite, key: &MasterKey) -> Self {
        Self::from_session_keys(SessionKeys::derive(suite, key))
    }

    pub(super) fn from_session_keys(keys: SessionKeys) -> Self {
        Self { keys, rtp: RtpStreams::new(), rtcp: RtcpStreams::new() }
    }

    /// Encrypts `packet[..len]` in place and appends the tag; `packet` must have room ([`super::TAG_ROOM_BYTES`]).
    /// Returns the new length.
    pub fn protect_rtp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        self.seal_rtp(packet, len, RtpStreams::claim)
    }

    /// The same for a packet of somebody else's. Where its sequence number does not go on from what was sent before under its
    /// SSRC, since its sender has begun anew or was on hold for long, it gets another one if it is new, and so do those that
    /// follow it; otherwise it is refused as a copy.
    pub fn relay_rtp(&mut self, packet: &mut [u8], len: usize, novelty: Novelty) -> Result<usize, DropReason> {
        self.seal_rtp(packet, len, |streams, ssrc, sequence| streams.claim_relayed(ssrc, sequence, novelty))
    }

    /// By how much the sequence numbers of a relayed stream have changed: what its receiver says of them is about numbers that
    /// its sender does not know.
    pub fn offset(&self, ssrc: u32) -> u16 {
        self.rtp.offset(ssrc)
    }

    fn seal_rtp(
        &mut self,
        packet: &mut [u8],
        len: usize,
        claim: impl Fn(&mut RtpStreams, u32, u16) -> Result<u64, DropReason>,
    ) -> Result<usize, DropReason> {
        let tag_bytes = self.keys.rtp_tag_bytes();
        check_room(packet, len, tag_bytes)?;
        let header = rtp::Header::parse(&packet[..len])?;
        let index = claim(&mut self.rtp, header.ssrc, header.sequence)?;
        rtp::set_sequence(packet, sequence_of(index));
        match &self.keys {
            SessionKeys::Cm(keys) => {
                keys.rtp.xor_key_stream(header.ssrc, index, &mut packet[header.bytes..len]);
                keys.rtp.append_tag(packet, len, &rollover_counter(index));
            }
            SessionKeys::Gcm(keys) => {
                let (aad, body) = packet[..len].split_at_mut(header.bytes);
                let tag = keys.rtp.seal(header.ssrc, index, aad, body);
                packet[len..len + tag.len()].copy_from_slice(&tag);
            }
        }
        Ok(len + tag_bytes)
    }

    /// The same for a compound RTCP packet; E flag and index are appended too.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        let tag_bytes = self.keys.rtcp_tag_bytes();
        check_room(packet, len, tag_bytes + INDEX_BYTES)?;
        let ssrc = srtcp::sender(&packet[..len])?;
        let index = self.rtcp.claim_next(ssrc)?;
        let word = srtcp::encrypted_trailer(index);
        match &self.keys {
            SessionKeys::Cm(keys) => {
                keys.rtcp.xor_key_stream(ssrc, index, &mut packet[srtcp::HEADER_BYTES..len]);
                packet[len..len + INDEX_BYTES].copy_from_slice(&word);
                keys.rtcp.append_tag(packet, len + INDEX_BYTES, &[]);
            }
            SessionKeys::Gcm(keys) => {
                let (header, body) = packet[..len].split_at_mut(srtcp::HEADER_BYTES);
                let tag = keys.rtcp.seal(ssrc, index, &srtcp::gcm_aad(header, word), body);
                let tag_end = len + tag.len();
                packet[len..tag_end].copy_from_slice(&tag);
                packet[tag_end..tag_end + INDEX_BYTES].copy_from_slice(&word);
            }
        }
        Ok(len + tag_bytes + INDEX_BYTES)
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("rtp_ssrcs", &self.rtp.len())
            .field("rtcp_ssrcs", &self.rtcp.len())
            .finish_non_exhaustive()
    }
}

/// Refuses before an index is claimed: a claimed one is always used.
pub(super) const fn check_room(packet: &[u8], len: usize, added_bytes: usize) -> Result<(), DropReason> {
    match packet.len().checked_sub(added_bytes) {
        Some(len_max) if len <= len_max => Ok(()),
        _ => Err(DropReason::PacketOversized),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Inbound, gcm::Gcm, kdf::GcmKeys, testing::hex},
        *,
    };

    /// RFC 7714 gives session keys, not a master key; RTP and RTCP share them there.
    fn session_keys(key_bytes: usize) -> SessionKeys {
        let key: Vec<u8> = (0..32).take(key_bytes).collect();
        let gcm = || Gcm::new(&key, *b"Quid pro quo");
        SessionKeys::Gcm(Box::new(GcmKeys { rtp: gcm(), rtcp: gcm() }))
    }

    fn with_room(packet: &[u8]) -> Vec<u8> {
        let mut buffer = packet.to_vec();
        buffer.resize(packet.len() + super::super::TAG_ROOM_BYTES, 0);
        buffer
    }

    /// RFC 7714 sections 16.1.1 and 16.2.1.
    #[test]
    fn rtp_packets_equal_rfc_7714() {
        let mut plain = hex("8040f17b8041f8d35501a0b2");
        plain.extend_from_slice(b"Gallia est omnis divisa in partes tres");
        let sealed = [
            (
                16,
                "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833\
                 899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                32,
                "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b\
                 7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ];
        for (key_bytes, sealed) in sealed {
            let mut buffer = with_room(&plain);
            let len =
                Outbound::from_session_keys(session_keys(key_bytes)).protect_rtp(&mut buffer, plain.len()).unwrap();
            assert_eq!(buffer[..len], hex(sealed));
            let mut inbound = Inbound::from_session_keys(session_keys(key_bytes), 0);
            assert_eq!(inbound.unprotect_rtp(&mut buffer[..len]), Ok(plain.len()));
            assert_eq!(buffer[..plain.len()], plain);
        }
    }

    const RTCP_PLAIN: &str =
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

    /// RFC 7714 section 17.1; the 256-bit packet follows from the same algorithm.
    #[test]
    fn encrypted_rtcp_packets_equal_rfc_7714() {
        let plain = hex(RTCP_PLAIN);
        let sealed = [
            (
                16,
                "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9\
                 275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
            ),
            (
                32,
                "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b\
                 6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
            ),
        ];
        for (key_bytes, sealed) in sealed {
            let mut outbound = Outbound::from_session_keys(session_keys(key_bytes));
            for _ in 0..0x5d4 {
                outbound.rtcp.claim_next(0x4d61_7273).unwrap();
            }
            let mut buffer = with_room(&plain);
            let len = outbound.protect_rtcp(&mut buffer, plain.len()).unwrap();
            assert_eq!(buffer[..len], hex(sealed));
            let mut inbound = Inbound::from_session_keys(session_keys(key_bytes), 0);
            assert_eq!(inbound.unprotect_rtcp(&mut buffer[..len]), Ok(plain.len()));
            assert_eq!(buffer[..plain.len()], plain);
        }
    }

    /// RFC 7714 section 17.2: tagged only. Accepted with its tag, and with no bit of it changed.
    #[test]
    fn tagged_only_rtcp_packets_equal_rfc_7714() {
        for (key_bytes, tag) in [(16, "841dd9683dd78ec92ae58790125f62b3"), (32, "91db4afbfeee5a978fab4393ed2615fe")] {
            let plain = hex(RTCP_PLAIN);
            let packet = hex(&format!("{RTCP_PLAIN}{tag}000005d4"));
            let mut inbound = Inbound::from_session_keys(session_keys(key_bytes), 0);
            for bit in 0..packet.len() * 8 {
                let mut flipped = packet.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let before = flipped.clone();
                assert!(inbound.unprotect_rtcp(&mut flipped).is_err(), "bit {bit}");
                assert_eq!(flipped, before, "a refused packet is left as it came");
            }
            let mut accepted = packet.clone();
            assert_eq!(inbound.unprotect_rtcp(&mut accepted), Ok(plain.len()));
            assert_eq!(accepted, packet);
        }
    }

    #[test]
    fn a_packet_without_room_claims_no_index() {
        let mut outbound = Outbound::from_session_keys(session_keys(16));
        let mut packet = with_room(&hex("8040f17b8041f8d35501a0b2aabbccdd"));
        assert_eq!(outbound.protect_rtp(&mut packet[..31], 16), Err(DropReason::PacketOversized));
        assert_eq!(outbound.protect_rtp(&mut packet[..31], 32), Err(DropReason::PacketOversized));
        assert_eq!(outbound.protect_rtp(&mut packet[..32], 16), Ok(32));
        assert_eq!(outbound.protect_rtcp(&mut packet[..35], 16), Err(DropReason::PacketOversized));
    }

    #[test]
    fn debug_prints_no_key() {
        let outbound = Outbound::from_session_keys(session_keys(16));
        assert_eq!(format!("{outbound:?}"), "Outbound { rtp_ssrcs: 0, rtcp_ssrcs: 0, .. }");
        let inbound = Inbound::from_session_keys(session_keys(16), 4);
        assert_eq!(format!("{inbound:?}"), "Inbound { mki_bytes: 4, rtp_ssrcs: 0, rtcp_ssrcs: 0, .. }");
    }
}
