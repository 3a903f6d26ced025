//! The one source of randomness. The shell seeds it from the operating system, the simulation from its seed.

use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use super::{Secret, secret::wipe_stack};

/// The generator makes four blocks of sixteen words (RFC 8439 section 2.3) at once.
const WORDS_AHEAD: u128 = 4 * 16;

/// A cryptographically strong generator (ChaCha20): keys, tags, branches and nonces all come from here.
pub struct Rng(ChaCha20Rng);

impl Rng {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// For simulations only: 64 bits are guessable.
    pub fn from_small_seed(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// An independent generator, seeded from this one.
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..n`; `n` must not be zero. The bias is below 2^-32.
    pub fn below(&mut self, n: u32) -> u32 {
        let wide = u64::from(self.u32()) * u64::from(n);
        u32::try_from(wide >> 32).expect("a 32-bit product's upper half fits")
    }

    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// As [`Rng::fill`], with what cannot be computed again from the generator as it is afterwards: it goes on from a new
    /// seed, and what it had made and not handed out is gone.
    pub fn fill_secret(&mut self, out: &mut [u8]) {
        self.fill_on_the_stack(out);
        wipe_stack();
    }

    /// Not inlined, so that its frame and those below are where [`wipe_stack`] has its own.
    #[inline(never)]
    fn fill_on_the_stack(&mut self, out: &mut [u8]) {
        // What is at hand was made earlier, and lies on the stack of whoever asked for something else then.
        self.0.set_word_pos(self.0.get_word_pos() + WORDS_AHEAD);
        self.fill(out);
        let seed = Secret::new(self.bytes());
        *self = Self::from_seed(*seed.expose());
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// `len` lower-case hexadecimal digits, at most 64: a token in every SIP grammar, 4 bits of entropy each.
    pub fn token(&mut self, len: usize) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut raw = [0; 32];
        let raw = &mut raw[..len.div_ceil(2)];
        self.fill(raw);
        let mut token = String::with_capacity(len);
        token.extend(
            raw.iter().flat_map(|b| [b >> 4, b & 15]).take(len).map(|digit| char::from(HEX[usize::from(digit)])),
        );
        token
    }
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_nowhere_in_the_generator_and_the_next_one_is_another() {
        let mut rng = Rng::from_small_seed(1);
        let mut secrets = [[0; 30]; 3];
        for secret in &mut secrets {
            rng.fill_secret(secret);
            let state = rng.0.clone();
            // The generator's state as a whole is its seed, stream and place; from them the past must not follow.
            let mut past = ChaCha20Rng::from_seed(state.get_seed());
            let mut again = [0; 30];
            past.fill_bytes(&mut again);
            assert_ne!(again, *secret);
            assert_eq!(state.get_word_pos(), 0, "what was made before is still there");
        }
        assert!(secrets[0] != secrets[1] && secrets[1] != secrets[2]);
    }

    #[test]
    fn a_secret_is_made_of_nothing_that_was_there_before_it_was_asked_for() {
        let (mut rng, mut other) = (Rng::from_small_seed(1), Rng::from_small_seed(1));
        // Both have made their first blocks, and used a word of them.
        assert_eq!(rng.u32(), other.u32());
        let there: [u8; 4 * WORDS_AHEAD as usize - 4] = other.bytes();
        let mut secret = [0; 16];
        rng.fill_secret(&mut secret);
        assert!(!there.windows(secret.len()).any(|window| window == secret));
    }
}
