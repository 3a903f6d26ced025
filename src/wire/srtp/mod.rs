//! SRTP and SRTCP (RFC 3711, 6188, 7714): suites, key derivation, replay window, rollover counter, protect and
//! unprotect in place.

use crate::types::{DropReason, Secret};

/// Crypto suites, weakest first; names as registered for SDES (RFC 4568, 6188, 7714).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    AesCm128HmacSha1_32,
    AesCm128HmacSha1_80,
    AesCm256HmacSha1_32,
    AesCm256HmacSha1_80,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl Suite {
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1_32,
        Self::AesCm128HmacSha1_80,
        Self::AesCm256HmacSha1_32,
        Self::AesCm256HmacSha1_80,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// The registered name, as this server writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// Reads the registered name and the common misspelling `AES_CM_256_...`.
    pub fn from_name(name: &str) -> Option<Self> {
        let _ = name;
        todo!()
    }

    /// Bytes of the master key.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_32 | Self::AesCm128HmacSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AesCm256HmacSha1_32 | Self::AesCm256HmacSha1_80 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of the master salt.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_32
            | Self::AesCm128HmacSha1_80
            | Self::AesCm256HmacSha1_32
            | Self::AesCm256HmacSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// Master key and salt, concatenated as in an SDES `inline:` value; 28 to 46 bytes, wiped on drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey(Secret<Vec<u8>>);

impl MasterKey {
    /// `None` unless `bytes` is exactly `suite.key_bytes() + suite.salt_bytes()` long.
    pub fn new(suite: Suite, bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() == suite.key_bytes() + suite.salt_bytes()).then(|| Self(Secret::new(bytes)))
    }

    pub fn generate(suite: Suite, rng: &mut crate::types::Rng) -> Self {
        let mut bytes = vec![0; suite.key_bytes() + suite.salt_bytes()];
        rng.fill(&mut bytes);
        Self(Secret::new(bytes))
    }

    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// One direction of one leg under one master key, receiving: verifies and decrypts. Contexts per SSRC are created only
/// after a tag verifies; at most `SSRCS_PER_LEG_MAX` of them.
pub struct Inbound {}

/// One direction of one leg under one master key, sending: encrypts and tags. No index is ever used twice.
pub struct Outbound {}

impl Inbound {
    /// `mki_bytes`: length of the MKI the peer appends before the tag, 0 for none.
    pub fn new(suite: Suite, key: &MasterKey, mki_bytes: usize) -> Self {
        let _ = (suite, key, mki_bytes);
        todo!()
    }

    /// Verifies and decrypts one SRTP packet in place; returns the length of the plain RTP packet at the buffer's start.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let _ = packet;
        todo!()
    }

    /// The same for SRTCP. With encryption negotiated, an E flag of 0 is accepted only with a valid tag.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, DropReason> {
        let _ = packet;
        todo!()
    }
}

impl Outbound {
    pub fn new(suite: Suite, key: &MasterKey) -> Self {
        let _ = (suite, key);
        todo!()
    }

    /// Encrypts `packet[..len]` in place and appends the tag; `packet` must have room ([`TAG_ROOM_BYTES`]). Returns the
    /// new length.
    pub fn protect_rtp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        let _ = (packet, len);
        todo!()
    }

    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, DropReason> {
        let _ = (packet, len);
        todo!()
    }
}

/// Unprotects with `inbound` and protects with `outbound` in one step. Between two AES-CM legs the egress key stream
/// is applied before the ingress key stream is removed, so plaintext is never in memory.
pub fn transcrypt_rtp(
    inbound: &mut Inbound,
    outbound: &mut Outbound,
    packet: &mut [u8],
    len: usize,
) -> Result<usize, DropReason> {
    let _ = (inbound, outbound, packet, len);
    todo!()
}

/// Room a caller leaves behind a packet for tag, SRTCP index and E flag.
pub const TAG_ROOM_BYTES: usize = 32;
