//! AES-CM with HMAC-SHA1 (RFC 3711 section 4): key stream and tag are separate steps, so that a relay can put one key
//! stream on before it takes the other off.

use crate::types::Secret;

use super::{aes_ctr::KeyStream, hmac::HmacSha1};

pub(super) const SALT_BYTES: usize = 14;
pub(super) const AUTH_KEY_BYTES: usize = 20;

/// Session key, salt and authentication key of RTP or of RTCP.
pub(super) struct Cm<K> {
    aes: K,
    mac: HmacSha1,
    /// In the first 14 bytes, as in a counter block.
    salt: Secret<[u8; 16]>,
    tag_bytes: u8,
}

impl<K: KeyStream> Cm<K> {
    /// `key` is 16 or 32 bytes long, `tag_bytes` at most 20.
    pub(super) fn new(key: &[u8], salt: &[u8; SALT_BYTES], auth_key: &[u8], tag_bytes: u8) -> Self {
        let salt = Secret::new(counter_salt(salt).to_be_bytes());
        Self { aes: K::new(key), mac: HmacSha1::new(auth_key), salt, tag_bytes }
    }

    pub(super) fn tag_bytes(&self) -> usize {
        self.tag_bytes.into()
    }

    /// XORs the packet's key stream onto `body`: encrypts plain bytes, decrypts encrypted ones.
    pub(super) fn xor_key_stream(&self, ssrc: u32, index: u64, body: &mut [u8]) {
        // RFC 3711 section 4.1.1.
        let counter = u128::from_be_bytes(*self.salt.expose()) ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
        self.aes.xor_key_stream(counter, body);
    }

    /// Does `tag` authenticate `portion` followed by `suffix`?
    pub(super) fn verify(&self, portion: &mut [u8], suffix: &[u8], tag: &[u8]) -> bool {
        #[cfg(test)]
        super::testing::count_tag_check();
        self.mac.verify(portion, suffix, tag)
    }

    /// Writes the tag of `packet[..end]` followed by `suffix` behind it; returns the new length. The caller has checked
    /// that there is room.
    pub(super) fn append_tag(&self, packet: &mut [u8], end: usize, suffix: &[u8]) -> usize {
        let (portion, room) = packet.split_at_mut(end);
        let digest = self.mac.digest(portion, suffix);
        let tag_bytes = self.tag_bytes();
        room[..tag_bytes].copy_from_slice(&digest[..tag_bytes]);
        end + tag_bytes
    }
}

/// A 14-byte salt where a counter block has it (RFC 3711 section 4.1.1: `k_s * 2^16`).
pub(super) fn counter_salt(salt: &[u8; SALT_BYTES]) -> u128 {
    let mut block = [0; 16];
    block[..SALT_BYTES].copy_from_slice(salt);
    u128::from_be_bytes(block)
}

/// What the RTP tag covers beyond the packet (RFC 3711 section 4.2): the rollover counter, upper 32 bits of the index.
pub(super) fn rollover_counter(index: u64) -> [u8; 4] {
    let [_, _, roc @ .., _, _] = index.to_be_bytes();
    roc
}

#[cfg(test)]
mod tests {
    use super::{super::aes_ctr::Aes, *};

    /// RFC 3711 appendix B.2.
    #[test]
    fn key_stream_equals_rfc_3711() {
        let key = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.to_be_bytes();
        let salt = std::array::from_fn(|i| 0xf0 + u8::try_from(i).unwrap());
        let cm = Cm::<Aes>::new(&key, &salt, &[0; 20], 10);

        let mut stream = vec![0; 0xff02 * 16];
        cm.xor_key_stream(0, 0, &mut stream);
        let block = |n: usize| u128::from_be_bytes(stream[n * 16..][..16].try_into().unwrap());
        assert_eq!(block(0), 0xe03e_ad09_35c9_5e80_e166_b16d_d92b_4eb4);
        assert_eq!(block(1), 0xd235_1316_2b02_d0f7_2a43_a2fe_4a5f_97ab);
        assert_eq!(block(2), 0x41e9_5b3b_b0a2_e8dd_4779_01e4_fca8_94c0);
        assert_eq!(block(0xfeff), 0xec8c_df73_9860_7cb0_f2d2_1675_ea9e_a1e4);
        assert_eq!(block(0xff00), 0x362b_7c3c_6773_5163_18a0_77d7_fc50_73ae);
        assert_eq!(block(0xff01), 0x6a2c_c378_7889_374f_beb4_c81b_17ba_6c44);
    }

    #[test]
    fn the_rollover_counter_is_the_upper_half_of_the_index() {
        assert_eq!(rollover_counter(0x1234_5678_9abc), [0x12, 0x34, 0x56, 0x78]);
    }
}
