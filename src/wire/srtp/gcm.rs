//! AES-GCM as SRTP uses it (RFC 7714), on `aws-lc-rs`.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use smallvec::SmallVec;

use crate::types::{Secret, limits::PACKET_BYTES_MAX};

pub(super) const TAG_BYTES: usize = 16;
pub(super) const SALT_BYTES: usize = 12;

/// Session key and salt of RTP or of RTCP. AWS-LC wipes the key schedule when it frees it.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: Secret<[u8; SALT_BYTES]>,
}

impl Gcm {
    /// `key` is 16 or 32 bytes long.
    pub(super) fn new(key: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, key).expect("session keys are 16 or 32 bytes by construction");
        Self { key: LessSafeKey::new(key), salt: Secret::new(salt) }
    }

    /// Verifies and decrypts `sealed`, ciphertext followed by the tag, in place. If false, `sealed` is as it was: another
    /// index or another key may be tried on it.
    pub(super) fn open(&self, ssrc: u32, index: u64, aad: &[u8], sealed: &mut [u8]) -> bool {
        #[cfg(test)]
        super::testing::count_tag_check();
        // AWS-LC overwrites what fails to verify, so the ciphertext is kept on the stack meanwhile.
        let mut kept = SmallVec::<[u8; PACKET_BYTES_MAX]>::new();
        kept.extend_from_slice(sealed);
        let is_authentic = self.key.open_in_place(self.nonce(ssrc, index), Aad::from(aad), sealed).is_ok();
        if !is_authentic {
            sealed.copy_from_slice(&kept);
        }
        is_authentic
    }

    /// Encrypts `plain` in place; returns the tag.
    pub(super) fn seal(&self, ssrc: u32, index: u64, aad: &[u8], plain: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), plain)
            .expect("GCM seals up to 64 GiB, and a packet is smaller");
        tag.as_ref().try_into().expect("GCM tags are 16 bytes")
    }

    /// RFC 7714 sections 8.1 and 9.1. `index` is the 48-bit packet index, or the 31-bit SRTCP index.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; SALT_BYTES];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in nonce.iter_mut().zip(self.salt.expose()) {
            *byte ^= salt;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7714 section 16.1 and 17.1: the IVs printed there.
    #[test]
    fn nonces_equal_rfc_7714() {
        let gcm = Gcm::new(&[0; 16], *b"Quid pro quo");
        let rtp = [0x51, 0x75, 0x3c, 0x65, 0x80, 0xc2, 0x72, 0x6f, 0x20, 0x71, 0x84, 0x14];
        assert_eq!(gcm.nonce(0x5501_a0b2, 0xf17b).as_ref(), &rtp);
        let rtcp = [0x51, 0x75, 0x24, 0x05, 0x52, 0x03, 0x72, 0x6f, 0x20, 0x71, 0x70, 0xbb];
        assert_eq!(gcm.nonce(0x4d61_7273, 0x5d4).as_ref(), &rtcp);
    }

    #[test]
    fn a_refused_packet_is_left_as_it_came() {
        let gcm = Gcm::new(&[3; 32], [4; 12]);
        let mut sealed = *b"sixteen octets, and a tag of 16.";
        assert!(!gcm.open(1, 2, b"header", &mut sealed));
        assert_eq!(&sealed, b"sixteen octets, and a tag of 16.");
    }
}
