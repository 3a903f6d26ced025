//! Keyed tags: proof that a value was made by this process. The only user of HMAC-SHA256 (RFC 2104, FIPS 180-4).

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const BLOCK_BYTES: usize = 64;

/// HMAC-SHA256 of `data`, cut to its first 128 bits (RFC 2104 section 5).
pub fn tag(key: &[u8; 32], data: &[u8]) -> [u8; 16] {
    let inner = Sha256::new().chain_update(pad(key, 0x36)).chain_update(data).finalize();
    let outer = Sha256::new().chain_update(pad(key, 0x5c)).chain_update(inner).finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&outer[..16]);
    out
}

/// Compares in a time that depends on the lengths alone.
pub fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn pad(key: &[u8; 32], filler: u8) -> [u8; BLOCK_BYTES] {
    let mut block = [filler; BLOCK_BYTES];
    for (byte, k) in block.iter_mut().zip(key) {
        *byte ^= k;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HMAC fills short keys with zeros, so the RFC's shorter keys can be written as 32 bytes.
    fn key(short: &[u8]) -> [u8; 32] {
        let mut key = [0; 32];
        key[..short.len()].copy_from_slice(short);
        key
    }

    #[test]
    fn tags_are_those_of_rfc_4231() {
        let cases: [(&[u8], &[u8], u128); 3] = [
            (&[0x0b; 20], b"Hi There", 0xb034_4c61_d8db_3853_5ca8_afce_af0b_f12b),
            (b"Jefe", b"what do ya want for nothing?", 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7),
            (&[0x0c; 20], b"Test With Truncation", 0xa3b6_1674_7310_0ee0_6e0c_796c_2955_552b),
        ];
        for (short, data, expected) in cases {
            assert_eq!(u128::from_be_bytes(tag(&key(short), data)), expected);
        }
    }

    #[test]
    fn equality_needs_every_byte_and_the_length() {
        assert!(is_equal(b"abc", b"abc"));
        assert!(!is_equal(b"abc", b"abd"));
        assert!(!is_equal(b"abc", b"ab"));
    }
}
