//! Session keys from a master key (RFC 3711 section 4.3; RFC 6188 section 3; RFC 7714 section 11).
//!
//! The key derivation rate is zero, as everywhere in the field: one set of session keys serves every SSRC of a
//! direction and is derived once.

use zeroize::Zeroizing;

use super::{
    MasterKey, Suite,
    aes_ctr::{Aes, AesKey, KeyStream},
    cm::{self, Cm, counter_salt},
    gcm::{self, Gcm},
};

/// The transforms of one direction, keyed. They lie behind one pointer, so that moving a leg copies no key schedule.
pub(super) enum SessionKeys {
    Cm(Box<CmKeys>),
    Gcm(Box<GcmKeys>),
}

pub(super) struct CmKeys {
    pub(super) rtp: Cm<Aes>,
    /// Few packets beside those of RTP.
    pub(super) rtcp: Cm<AesKey>,
}

pub(super) struct GcmKeys {
    pub(super) rtp: Gcm,
    pub(super) rtcp: Gcm,
}

impl SessionKeys {
    pub(super) fn derive(suite: Suite, master: &MasterKey) -> Self {
        let prf = Prf::new(suite, master);
        let cm = |rtp_tag_bytes| {
            let rtp = prf.cm(RTP_LABELS, rtp_tag_bytes);
            Self::Cm(Box::new(CmKeys { rtp, rtcp: prf.cm(RTCP_LABELS, RTCP_HMAC_TAG_BYTES) }))
        };
        match suite {
            Suite::AesCm128HmacSha1_32 | Suite::AesCm256HmacSha1_32 => cm(4),
            Suite::AesCm128HmacSha1_80 | Suite::AesCm256HmacSha1_80 => cm(10),
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => {
                Self::Gcm(Box::new(GcmKeys { rtp: prf.gcm(RTP_LABELS), rtcp: prf.gcm(RTCP_LABELS) }))
            }
        }
    }

    pub(super) fn rtp_tag_bytes(&self) -> usize {
        match self {
            Self::Cm(keys) => keys.rtp.tag_bytes(),
            Self::Gcm(_) => gcm::TAG_BYTES,
        }
    }

    pub(super) fn rtcp_tag_bytes(&self) -> usize {
        match self {
            Self::Cm(keys) => keys.rtcp.tag_bytes(),
            Self::Gcm(_) => gcm::TAG_BYTES,
        }
    }
}

/// Encryption key, authentication key, salt (RFC 3711 sections 4.3.1 and 4.3.2).
pub(super) const RTP_LABELS: [u8; 3] = [0, 1, 2];
pub(super) const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// Tags of SRTCP stay 80 bits long for the `_32` suites (RFC 3711 section 5.2, RFC 4568 section 6.2.2).
const RTCP_HMAC_TAG_BYTES: u8 = 10;

/// The AES-CM pseudo-random function under one master key (RFC 3711 section 4.3.3).
pub(super) struct Prf {
    aes: Aes,
    salt: Zeroizing<u128>,
    key_bytes: usize,
}

impl Prf {
    pub(super) fn new(suite: Suite, master: &MasterKey) -> Self {
        let (key, master_salt) = master.expose().split_at(suite.key_bytes());
        // RFC 7714 section 11: a 12-byte salt is filled up with zeros on the right.
        let mut salt = Zeroizing::new([0; cm::SALT_BYTES]);
        salt[..master_salt.len()].copy_from_slice(master_salt);
        Self { aes: Aes::new(key), salt: Zeroizing::new(counter_salt(&salt)), key_bytes: key.len() }
    }

    fn cm<K: KeyStream>(&self, labels: [u8; 3], tag_bytes: u8) -> Cm<K> {
        let auth_key = self.derive::<{ cm::AUTH_KEY_BYTES }>(labels[1]);
        Cm::new(&self.derive::<32>(labels[0])[..self.key_bytes], &self.derive(labels[2]), &auth_key[..], tag_bytes)
    }

    fn gcm(&self, labels: [u8; 3]) -> Gcm {
        Gcm::new(&self.derive::<32>(labels[0])[..self.key_bytes], *self.derive::<{ gcm::SALT_BYTES }>(labels[2]))
    }

    pub(super) fn derive<const N: usize>(&self, label: u8) -> Zeroizing<[u8; N]> {
        let mut out = Zeroizing::new([0; N]);
        // RFC 3711 section 4.3.1: the label stands left of the 48-bit index, which is 0.
        self.aes.xor_key_stream(*self.salt ^ (u128::from(label) << 64), &mut out[..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::hex, *};

    fn prf(suite: Suite, master: &str) -> Prf {
        Prf::new(suite, &MasterKey::new(suite, hex(master)).unwrap())
    }

    /// RFC 3711 appendix B.3; the SRTCP values follow from the same algorithm with labels 3 to 5.
    #[test]
    fn session_keys_of_a_128_bit_master_equal_rfc_3711() {
        let prf = prf(Suite::AesCm128HmacSha1_80, "e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
        assert_eq!(prf.derive::<16>(0)[..], hex("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(prf.derive::<14>(2)[..], hex("30cbbc08863d8c85d49db34a9ae1"));
        let auth = "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbcee049646c43d9327ad175578ef722709863\
                    71c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e474035766b68642c59bbfc2f34db60dbdfb2";
        assert_eq!(prf.derive::<94>(1)[..], hex(auth)[..94]);
        assert_eq!(prf.derive::<16>(3)[..], hex("4c1aa45a81f73d61c800bbb00fbb1eaa"));
        assert_eq!(prf.derive::<20>(4)[..], hex("8d54534feb49ae8e7993a6bd0b844fc323a93dfd"));
        assert_eq!(prf.derive::<14>(5)[..], hex("9581c7ad87b3e530bf3e4454a8b3"));
    }

    /// RFC 6188 section 7.2.
    #[test]
    fn session_keys_of_a_256_bit_master_equal_rfc_6188() {
        let prf = prf(
            Suite::AesCm256HmacSha1_80,
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6 3b04803de51ee7c96423ab5b78d2",
        );
        assert_eq!(prf.derive::<32>(0)[..], hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"));
        assert_eq!(prf.derive::<14>(2)[..], hex("fa31791685ca444a9e07c6c64e93"));
        assert_eq!(prf.derive::<20>(1)[..], hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"));
    }

    #[test]
    fn srtcp_tags_are_80_bits_long_for_the_32_bit_suites_too() {
        let mut rng = crate::types::Rng::from_small_seed(1);
        let expected = [(4, 10), (10, 10), (4, 10), (10, 10), (16, 16), (16, 16)];
        for (suite, tag_bytes) in Suite::ALL.into_iter().zip(expected) {
            let keys = SessionKeys::derive(suite, &MasterKey::generate(suite, &mut rng));
            assert_eq!((keys.rtp_tag_bytes(), keys.rtcp_tag_bytes()), tag_bytes, "{suite:?}");
        }
    }
}
