//! What is derived from a master key, one by one, for whoever shows that nothing of it is kept.

use crate::types::Secret;

use super::{
    MasterKey, Suite, cm, gcm,
    hmac::HmacSha1,
    kdf::{Prf, RTCP_LABELS, RTP_LABELS},
};

/// A secret of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSecret {
    /// Of AES, 16 or 32 bytes (RFC 3711 section 4.3.1).
    EncryptionKey,
    /// 14 bytes, or 12 of AES-GCM.
    Salt,
    /// Of HMAC-SHA1, 20 bytes.
    AuthenticationKey,
    /// Of SHA-1 after the inner or the outer block of that key (RFC 2104), as words of the processor: all five, and the first
    /// four in the order in which instructions for SHA-1 have them.
    HmacState,
}

/// Calls `see` with each secret of RTP and RTCP under a master key.
pub fn session_secrets(suite: Suite, master: &MasterKey, mut see: impl FnMut(SessionSecret, &[u8])) {
    let prf = Prf::new(suite, master);
    for [key, auth_key, salt] in [RTP_LABELS, RTCP_LABELS] {
        see(SessionSecret::EncryptionKey, &prf.derive::<32>(key)[..suite.key_bytes()]);
        if matches!(suite, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm) {
            see(SessionSecret::Salt, &prf.derive::<{ gcm::SALT_BYTES }>(salt)[..]);
            continue;
        }
        see(SessionSecret::Salt, &prf.derive::<{ cm::SALT_BYTES }>(salt)[..]);
        let auth_key = prf.derive::<{ cm::AUTH_KEY_BYTES }>(auth_key);
        see(SessionSecret::AuthenticationKey, &auth_key[..]);
        for state in HmacSha1::new(&auth_key[..]).states() {
            let [a, b, c, d, _] = *state.expose();
            for words in [&state.expose()[..], &[d, c, b, a]] {
                let bytes: Secret<Vec<u8>> = Secret::new(words.iter().flat_map(|word| word.to_ne_bytes()).collect());
                see(SessionSecret::HmacState, bytes.expose());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::hex, *};

    /// RFC 3711 appendix B.3 for RTP; the other values are those of the derivation's own test.
    #[test]
    fn every_secret_of_rtp_and_rtcp_is_shown() {
        let suite = Suite::AesCm128HmacSha1_80;
        let master = hex("e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6");
        let mut seen = Vec::new();
        session_secrets(suite, &MasterKey::new(suite, master).unwrap(), |kind, bytes| {
            seen.push((kind, bytes.to_vec()))
        });
        let of = |wanted| {
            seen.iter().filter(|(kind, _)| *kind == wanted).map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            of(SessionSecret::EncryptionKey),
            [hex("c61e7a93744f39ee10734afe3ff7a087"), hex("4c1aa45a81f73d61c800bbb00fbb1eaa")]
        );
        assert_eq!(of(SessionSecret::Salt), [hex("30cbbc08863d8c85d49db34a9ae1"), hex("9581c7ad87b3e530bf3e4454a8b3")]);
        let auth_keys =
            [hex("cebe321f6ff7716b6fd4ab49af256a156d38baa4"), hex("8d54534feb49ae8e7993a6bd0b844fc323a93dfd")];
        assert_eq!(of(SessionSecret::AuthenticationKey), auth_keys);
        assert_eq!(
            of(SessionSecret::HmacState).iter().map(Vec::len).collect::<Vec<_>>(),
            [20, 16, 20, 16, 20, 16, 20, 16]
        );
    }

    #[test]
    fn lengths_are_those_of_the_suite() {
        for suite in Suite::ALL {
            let master = MasterKey::generate(suite, &mut crate::types::Rng::from_small_seed(1));
            let mut count = 0;
            session_secrets(suite, &master, |kind, bytes| {
                count += 1;
                match kind {
                    SessionSecret::EncryptionKey => assert_eq!(bytes.len(), suite.key_bytes(), "{suite:?}"),
                    SessionSecret::Salt => assert_eq!(bytes.len(), suite.salt_bytes(), "{suite:?}"),
                    SessionSecret::AuthenticationKey => assert_eq!(bytes.len(), 20),
                    SessionSecret::HmacState => assert!([16, 20].contains(&bytes.len())),
                }
            });
            assert_eq!(count, if suite.salt_bytes() == gcm::SALT_BYTES { 4 } else { 14 });
        }
    }
}
