//! AES in counter mode over a bare key schedule: no cipher object is built per packet.

use aes::{
    Aes128Enc, Aes256Enc,
    cipher::{BlockEncrypt, KeyInit, consts::U16, inout::InOutBuf},
};

/// An AES key schedule of either size, wiped on drop by the cipher crate.
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

const BLOCK_BYTES: usize = 16;
/// Eight blocks go through the AES unit at once, which hides its latency.
const STRIDE_BYTES: usize = 8 * BLOCK_BYTES;

fn xor_key_stream<C: BlockEncrypt<BlockSize = U16>>(aes: &C, mut counter: u128, data: &mut [u8]) {
    for stride in data.chunks_mut(STRIDE_BYTES) {
        let mut key_stream = [0; STRIDE_BYTES];
        let used = stride.len().next_multiple_of(BLOCK_BYTES);
        for block in key_stream[..used].chunks_exact_mut(BLOCK_BYTES) {
            block.copy_from_slice(&counter.to_be_bytes());
            counter = counter.wrapping_add(1);
        }
        let (blocks, _) = InOutBuf::from(&mut key_stream[..used]).into_chunks::<U16>();
        aes.encrypt_blocks_inout(blocks);
        for (byte, key) in stride.iter_mut().zip(&key_stream) {
            *byte ^= key;
        }
    }
}
