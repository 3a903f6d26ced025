//! The operating system's randomness, where every generator of the server gets its seed.

use crate::types::Rng;

/// Letters and digits that nobody mistakes for one another, on paper or on a phone's keypad.
const PASSWORD_ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// 16 characters of 31: 79 bits.
const PASSWORD_CHARS: usize = 16;

/// A fresh generator.
pub fn rng() -> Rng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("Linux gives randomness to every process that asks after boot");
    Rng::from_seed(seed)
}

/// A password for a phone, easy to type.
pub fn password(rng: &mut Rng) -> String {
    let len = u32::try_from(PASSWORD_ALPHABET.len()).expect("an alphabet of 31");
    (0..PASSWORD_CHARS)
        .map(|_| {
            let index = usize::try_from(rng.below(len)).expect("an index below 31");
            char::from(PASSWORD_ALPHABET[index])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_have_no_ambiguous_character() {
        let mut rng = rng();
        let (one, two) = (password(&mut rng), password(&mut rng));
        assert_ne!(one, two);
        assert_eq!(one.len(), PASSWORD_CHARS);
        assert!(!one.contains(['0', 'o', '1', 'l', 'i']));
    }
}
