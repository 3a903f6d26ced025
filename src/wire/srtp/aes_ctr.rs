//! AES in counter mode over a bare key schedule: no cipher object is built per packet.

use aes::{
    Aes128Enc, Aes256Enc,
    cipher::{BlockCipher, BlockEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16},
};
use ctr::{CtrCore, flavors::Ctr32BE};

/// An AES key schedule of either size, wiped on drop by the cipher crate.
#[expect(clippy::large_enum_variant, reason = "both are large, and each lives in a box with its salt and HMAC states")]
pub(super) enum Aes {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl Aes {
    /// `key` is 16 or 32 bytes long.
    pub(super) fn new(key: &[u8]) -> Self {
        const LENGTH: &str = "session and master keys are 16 or 32 bytes by construction";
        match key.len() {
            16 => Self::Aes128(Aes128Enc::new_from_slice(key).expect(LENGTH)),
            _ => Self::Aes256(Aes256Enc::new_from_slice(key).expect(LENGTH)),
        }
    }

    /// XORs the key stream that starts at counter block `counter` onto `data`.
    pub(super) fn xor_key_stream(&self, counter: u128, data: &mut [u8]) {
        match self {
            Self::Aes128(aes) => xor_key_stream(aes, counter, data),
            Self::Aes256(aes) => xor_key_stream(aes, counter, data),
        }
    }
}

/// Only the last 16 bits of a counter block count (RFC 3711 section 4.1.1), and they start at zero.
fn xor_key_stream<C: BlockEncrypt<BlockSize = U16> + BlockCipher>(aes: &C, counter: u128, data: &mut [u8]) {
    CtrCore::<&C, Ctr32BE>::inner_iv_init(aes, &counter.to_be_bytes().into()).apply_keystream_partial(data.into());
}
