//! What SRTCP adds to a packet: E flag and index (RFC 3711 section 3.4).

use crate::{types::DropReason, wire::rtcp};

/// First header word and sender's SSRC: never encrypted.
pub(super) const HEADER_BYTES: usize = 8;
/// E flag and 31-bit index.
pub(super) const INDEX_BYTES: usize = 4;
const E_FLAG: u32 = 1 << 31;

/// The SSRC of the first packet names the context.
pub(super) fn sender(packet: &[u8]) -> Result<u32, DropReason> {
    let Some((&[first, .., a, b, c, d], _)) = packet.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DropReason::PacketTruncated);
    };
    if first >> 6 != rtcp::VERSION {
        return Err(DropReason::PacketNotMedia);
    }
    Ok(u32::from_be_bytes([a, b, c, d]))
}

/// E flag and index of one packet.
#[derive(Clone, Copy)]
pub(super) struct Trailer {
    pub(super) is_encrypted: bool,
    pub(super) index: u64,
}

impl Trailer {
    pub(super) fn read(bytes: [u8; INDEX_BYTES]) -> Self {
        let word = u32::from_be_bytes(bytes);
        Self { is_encrypted: word & E_FLAG != 0, index: (word & !E_FLAG).into() }
    }

    /// A bad tag behind a cleared E flag is most likely a peer that sends plain RTCP, and is counted as that.
    pub(super) fn name_cleartext(self, reason: DropReason) -> DropReason {
        if reason == DropReason::SrtpBadTag && !self.is_encrypted { DropReason::SrtcpNotEncrypted } else { reason }
    }
}

/// E flag set, and `index`, which is below 2^31.
pub(super) fn encrypted_trailer(index: u64) -> [u8; INDEX_BYTES] {
    let index = u32::try_from(index).expect("streams end SRTCP at 2^31 packets");
    (E_FLAG | index).to_be_bytes()
}

/// Additional data of an encrypted packet under GCM (RFC 7714 section 9.2): header, E flag and index.
pub(super) fn gcm_aad(header: &[u8], trailer: [u8; INDEX_BYTES]) -> [u8; HEADER_BYTES + INDEX_BYTES] {
    let mut aad = [0; HEADER_BYTES + INDEX_BYTES];
    aad[..HEADER_BYTES].copy_from_slice(header);
    aad[HEADER_BYTES..].copy_from_slice(&trailer);
    aad
}
