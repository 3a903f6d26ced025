//! AES in counter mode, by AWS-LC over a bare key schedule.
//!
//! The schedule takes 244 bytes. The safe interfaces keep more, which counts where every leg has several: `aws-lc-rs` a
//! second schedule, to decrypt blocks, and the pure Rust ciphers room for a form without AES instructions.

#![expect(unsafe_code, reason = "AWS-LC is written in C and assembly")]

use aws_lc_sys::{AES_KEY, AES_ctr128_encrypt, AES_set_encrypt_key};
use zeroize::Zeroize;

use crate::types::Secret;

const BLOCK_BYTES: usize = 16;
const KEY_BYTES_MAX: usize = 32;
const LENGTH: &str = "session and master keys are 16 or 32 bytes by construction";

/// What makes a key stream from an AES key of 16 or 32 bytes.
pub(super) trait KeyStream {
    fn new(key: &[u8]) -> Self;

    /// XORs the key stream that starts at counter block `counter` onto `data`. Only the last 16 bits of a counter block
    /// count (RFC 3711 section 4.1.1), and they start at zero.
    fn xor_key_stream(&self, counter: u128, data: &mut [u8]);
}

/// A key with its schedule, ready for the next packet; wiped on drop.
pub(super) struct Aes(AES_KEY);

impl KeyStream for Aes {
    fn new(key: &[u8]) -> Self {
        let bits = u32::try_from(key.len() * 8).expect(LENGTH);
        let mut schedule = AES_KEY { rd_key: [0; 60], rounds: 0 };
        // SAFETY: it reads the bits of `key` if there are 128, 192 or 256, and else nothing; the schedule has room for each.
        let failed = unsafe { AES_set_encrypt_key(key.as_ptr(), bits, &raw mut schedule) };
        assert!(failed == 0, "{LENGTH}");
        Self(schedule)
    }

    fn xor_key_stream(&self, counter: u128, data: &mut [u8]) {
        let mut counter = counter.to_be_bytes();
        let mut last_block = [0_u8; BLOCK_BYTES];
        let mut used_of_block = 0;
        // SAFETY: it reads and writes `data.len()` bytes of `data`, which may be both at once, and one block each of the
        // counter and of the key stream; the schedule was made by `AES_set_encrypt_key` and is only read.
        unsafe {
            AES_ctr128_encrypt(
                data.as_ptr(),
                data.as_mut_ptr(),
                data.len(),
                &raw const self.0,
                counter.as_mut_ptr(),
                last_block.as_mut_ptr(),
                &raw mut used_of_block,
            );
        }
        last_block.zeroize();
    }
}

/// A key alone. Its schedule is made for each packet: that saves more memory than it costs time where packets are rare.
pub(super) struct AesKey {
    key: Secret<[u8; KEY_BYTES_MAX]>,
    bytes: u8,
}

impl KeyStream for AesKey {
    fn new(key: &[u8]) -> Self {
        let mut padded = [0; KEY_BYTES_MAX];
        padded[..key.len()].copy_from_slice(key);
        let own = Self { key: Secret::new(padded), bytes: u8::try_from(key.len()).expect(LENGTH) };
        padded.zeroize();
        own
    }

    fn xor_key_stream(&self, counter: u128, data: &mut [u8]) {
        Aes::new(&self.key.expose()[..usize::from(self.bytes)]).xor_key_stream(counter, data);
    }
}

impl Drop for Aes {
    fn drop(&mut self) {
        self.0.rd_key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::hex, *};

    /// NIST SP 800-38A sections F.5.1 and F.5.5; also where `data` ends within a block.
    #[test]
    fn key_streams_equal_sp_800_38a() {
        let counter = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff;
        let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        for (key, expected) in [
            ("2b7e151628aed2a6abf7158809cf4f3c", "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
            ),
        ] {
            let (aes, bare, expected) = (Aes::new(&hex(key)), AesKey::new(&hex(key)), hex(expected));
            for len in 0..=plain.len() {
                let [mut by_schedule, mut by_key] = [plain[..len].to_vec(), plain[..len].to_vec()];
                aes.xor_key_stream(counter, &mut by_schedule);
                bare.xor_key_stream(counter, &mut by_key);
                assert_eq!((&by_schedule[..], &by_key[..]), (&expected[..len], &expected[..len]));
            }
        }
    }
}
