//! Sending: claim an index, encrypt, append the tag, in place.

use std::fmt;

use crate::{types::DropReason, wire::rtp};

use super::{
    MasterKey, Suite,
    cm::rollover_counter,
    kdf::{Cipher, SessionKeys},
    srtcp::{self, INDEX_BYTES},
    streams::Streams,
};

/// One direction of one leg under one master key, sending: encrypts and tags. No index is ever used twice.
///
/// RTP keeps its sequence numbers, and the index follows from them; a duplicate is refused as replayed. Two of these
/// must never be made from one master key while a peer still uses it.
pub struct Outbound {
    /// Boxed, so that moving a leg copies no key.
    pub(super) keys: Box<SessionKeys>,
    pub(super) rtp: Streams,
    rtcp: Streams,
}

impl Outbound {
    pub fn new(suite: Suite, key: &MasterKey) -> Self {
        Self::from_session_keys(SessionKeys::derive(suite, key))
    }

    pub(super) fn from_session_keys(keys: SessionKeys) -> Self {
        Self { keys: Box::new(keys), rtp: Streams::new(), rtcp: Streams::new() }
    }

    /// Encrypts `packet[..len]` in place and appends the tag; `packet` must have room ([`super::TAG_ROOM_BYTES`]).
    /// Returns the new length.
    pub fn protect_rtp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        let cipher = &self.keys.rtp;
        check_room(packet, len, cipher.tag_bytes())?;
        let header = rtp::Header::parse(&packet[..len])?;
        let index = self.rtp.claim(header.ssrc, header.sequence)?;
        match cipher {
            Cipher::Cm(cm) => {
                cm.xor_key_stream(header.ssrc, index, &mut packet[header.bytes..len]);
                cm.append_tag(packet, len, &rollover_counter(index));
            }
            Cipher::Gcm(gcm) => {
                let (aad, body) = packet[..len].split_at_mut(header.bytes);
                let tag = gcm.seal(header.ssrc, index, aad, body);
                packet[len..len + tag.len()].copy_from_slice(&tag);
            }
        }
        Ok(len + cipher.tag_bytes())
    }

    /// The same for a compound RTCP packet; E flag and index are appended too.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        let cipher = &self.keys.rtcp;
        check_room(packet, len, cipher.tag_bytes() + INDEX_BYTES)?;
        let ssrc = srtcp::sender(&packet[..len])?;
        let index = self.rtcp.claim_next(ssrc)?;
        let word = srtcp::encrypted_trailer(index);
        match cipher {
            Cipher::Cm(cm) => {
                cm.xor_key_stream(ssrc, index, &mut packet[srtcp::HEADER_BYTES..len]);
                packet[len..len + INDEX_BYTES].copy_from_slice(&word);
                cm.append_tag(packet, len + INDEX_BYTES, &[]);
            }
            Cipher::Gcm(gcm) => {
                let (header, body) = packet[..len].split_at_mut(srtcp::HEADER_BYTES);
                let tag = gcm.seal(ssrc, index, &srtcp::gcm_aad(header, word), body);
                let tag_end = len + tag.len();
                packet[len..tag_end].copy_from_slice(&tag);
                packet[tag_end..tag_end + INDEX_BYTES].copy_from_slice(&word);
            }
        }
        Ok(len + cipher.tag_bytes() + INDEX_BYTES)
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
