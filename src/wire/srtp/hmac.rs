//! HMAC-SHA1 (RFC 2104) from precomputed states: the two key blocks are hashed once per key, not once per packet.

use inout::InOutBuf;
use sha1::digest::consts::U64;
use subtle::ConstantTimeEq;

use crate::types::Secret;

const BLOCK_BYTES: usize = 64;
const DIGEST_BYTES: usize = 20;
/// FIPS 180-4 section 5.3.1.
const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// SHA-1 states after the inner and the outer key block.
pub(super) struct HmacSha1 {
    inner: Secret<[u32; 5]>,
    outer: Secret<[u32; 5]>,
}

impl HmacSha1 {
    /// `key` is at most one block long; SRTP's is 20 bytes (RFC 3711 section 5.2).
    pub(super) fn new(key: &[u8]) -> Self {
        let state_after = |pad: u8| {
            let mut block = zeroize::Zeroizing::new([pad; BLOCK_BYTES]);
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
            }
            let mut state = INITIAL;
            absorb(&mut state, &mut block[..]);
            Secret::new(state)
        };
        Self { inner: state_after(0x36), outer: state_after(0x5c) }
    }

    /// After the inner and after the outer key block.
    pub(super) const fn states(&self) -> [&Secret<[u32; 5]>; 2] {
        [&self.inner, &self.outer]
    }

    /// The full digest of `message` followed by `suffix` (at most 4 bytes). `message` is only read; it is mutable
    /// because that is how its blocks are viewed without a copy.
    pub(super) fn digest(&self, message: &mut [u8], suffix: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut state = *self.inner.expose();
        let message_bytes = message.len() + suffix.len();
        let tail = absorb(&mut state, message);

        let mut last = [0; 2 * BLOCK_BYTES];
        let used = tail.len() + suffix.len();
        last[..tail.len()].copy_from_slice(tail);
        last[tail.len()..used].copy_from_slice(suffix);
        let end = if used + PADDING_BYTES_MIN <= BLOCK_BYTES { BLOCK_BYTES } else { 2 * BLOCK_BYTES };
        finish(&mut state, &mut last[..end], used, message_bytes);

        let mut block = [0; BLOCK_BYTES];
        write_state(&state, &mut block);
        let mut state = *self.outer.expose();
        finish(&mut state, &mut block, DIGEST_BYTES, DIGEST_BYTES);

        let mut digest = [0; DIGEST_BYTES];
        write_state(&state, &mut digest);
        digest
    }

    /// Compares in constant time with a tag truncated on the right (RFC 3711 section 4.2).
    pub(super) fn verify(&self, message: &mut [u8], suffix: &[u8], tag: &[u8]) -> bool {
        self.digest(message, suffix)[..tag.len()].ct_eq(tag).into()
    }
}

/// The bit that ends a message and its length (FIPS 180-4 section 5.1.1).
const PADDING_BYTES_MIN: usize = 1 + size_of::<u64>();

/// Hashes the whole blocks of `bytes`; returns what is left over.
fn absorb<'a>(state: &mut [u32; 5], bytes: &'a mut [u8]) -> &'a [u8] {
    let (blocks, tail) = InOutBuf::from(bytes).into_chunks::<U64>();
    sha1::compress(state, blocks.get_in());
    tail.into_out()
}

/// Pads `blocks`, of which `used` bytes are message, and hashes them. One key block went before `message_bytes`.
fn finish(state: &mut [u32; 5], blocks: &mut [u8], used: usize, message_bytes: usize) {
    let bits = (BLOCK_BYTES as u64 + message_bytes as u64) * 8;
    blocks[used] = 0x80;
    let length_at = blocks.len() - size_of::<u64>();
    blocks[length_at..].copy_from_slice(&bits.to_be_bytes());
    absorb(state, blocks);
}

fn write_state(state: &[u32; 5], out: &mut [u8]) {
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::hex, *};

    /// RFC 2202 section 3, test cases 1, 2 and 3.
    #[test]
    fn digests_equal_rfc_2202() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (&[0x0b; 20], b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
            (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (&[0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        ];
        for (key, message, expected) in cases {
            let mac = HmacSha1::new(key);
            let expected = hex(expected);
            assert_eq!(mac.digest(&mut message.to_vec(), &[]), expected[..]);
            let (start, suffix) = message.split_at(message.len() - 4);
            assert_eq!(mac.digest(&mut start.to_vec(), suffix), expected[..]);
        }
    }

    /// Around every block edge, the split into message and suffix changes nothing, and each length has its own digest.
    #[test]
    fn a_suffix_is_part_of_the_message_at_every_length() {
        let mac = HmacSha1::new(&[9; 20]);
        let mut seen = std::collections::HashSet::new();
        for length in 4..200 {
            let message = vec![0x5a; length];
            let whole = mac.digest(&mut message.clone(), &[]);
            assert_eq!(mac.digest(&mut message[..length - 4].to_vec(), &message[length - 4..]), whole);
            assert!(mac.verify(&mut message.clone(), &[], &whole[..4]));
            assert!(!mac.verify(&mut message.clone(), &[1], &whole[..4]));
            assert!(seen.insert(whole));
        }
    }
}
