//! Which suites exist, and the master key of one direction.

use crate::types::{Rng, Secret};

use super::hmac::HmacSha1;

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

    /// Reads the registered name and the common misspelling `AES_CM_256_...`, in any case (RFC 4568 section 9.1 is ABNF).
    pub fn from_name(name: &str) -> Option<Self> {
        const MISSPELT: [(&str, Suite); 2] = [
            ("AES_CM_256_HMAC_SHA1_32", Suite::AesCm256HmacSha1_32),
            ("AES_CM_256_HMAC_SHA1_80", Suite::AesCm256HmacSha1_80),
        ];
        let registered = Self::ALL.into_iter().map(|suite| (suite.name(), suite));
        registered.chain(MISSPELT).find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, suite)| suite)
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
pub struct MasterKey(Secret<Box<[u8]>>);

impl MasterKey {
    /// `None` unless `bytes` is exactly `suite.key_bytes() + suite.salt_bytes()` long.
    pub fn new(suite: Suite, bytes: Vec<u8>) -> Option<Self> {
        // Wiped itself: to become a box, a vector with room to spare would move.
        let bytes = Secret::new(bytes);
        let is_whole = bytes.expose().len() == suite.key_bytes() + suite.salt_bytes();
        is_whole.then(|| Self(Secret::new(bytes.expose().as_slice().into())))
    }

    pub fn generate(suite: Suite, rng: &mut Rng) -> Self {
        let mut bytes = vec![0; suite.key_bytes() + suite.salt_bytes()].into_boxed_slice();
        rng.fill_secret(&mut bytes);
        Self(Secret::new(bytes))
    }

    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// By which the key is known again once it is gone, and which tells nothing of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(HmacSha1::new(self.expose()).digest(&mut [], &[]))
    }
}

/// See [`MasterKey::fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 20]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_both_spellings_of_256_are_known() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_name(suite.name()), Some(suite));
            assert_eq!(Suite::from_name(&suite.name().to_lowercase()), Some(suite));
        }
        assert_eq!(Suite::from_name("AES_CM_256_HMAC_SHA1_80"), Some(Suite::AesCm256HmacSha1_80));
        assert_eq!(Suite::from_name("AES_CM_256_HMAC_SHA1_32"), Some(Suite::AesCm256HmacSha1_32));
        assert_eq!(Suite::from_name("AES_192_CM_HMAC_SHA1_80"), None);
        assert_eq!(Suite::from_name("F8_128_HMAC_SHA1_80"), None);
        assert_eq!(Suite::from_name(""), None);
    }

    #[test]
    fn a_master_key_has_exactly_the_length_of_its_suite() {
        let lengths = [30, 30, 46, 46, 28, 44];
        for (suite, length) in Suite::ALL.into_iter().zip(lengths) {
            assert!(MasterKey::new(suite, vec![7; length]).is_some());
            assert!(MasterKey::new(suite, vec![7; length - 1]).is_none());
            assert!(MasterKey::new(suite, vec![7; length + 1]).is_none());
        }
    }

    #[test]
    fn generated_keys_fit_their_suite_and_differ() {
        let mut rng = Rng::from_small_seed(1);
        for suite in Suite::ALL {
            let (one, two) = (MasterKey::generate(suite, &mut rng), MasterKey::generate(suite, &mut rng));
            assert!(MasterKey::new(suite, one.expose().to_vec()).is_some());
            assert_ne!(one, two);
            assert_eq!(format!("{one:?}"), "MasterKey([redacted])");
        }
    }
}
