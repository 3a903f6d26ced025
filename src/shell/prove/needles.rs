//! What is looked for: secrets in each form in which they could have been kept.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;

/// Of a longer secret, its ends are looked for apart: one may have been overwritten.
const PIECE_BYTES: usize = 16;

/// Secrets with a name each, ready to be found in anything.
pub(super) struct Needles(Vec<Needle>);

struct Needle {
    name: &'static str,
    form: &'static str,
    finder: Finder<'static>,
}

impl Needles {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a secret as it is, in hexadecimal and in base64. At least 12 bytes, or chance would find it, too.
    pub(super) fn add(&mut self, name: &'static str, secret: &[u8]) {
        let mut push = |form, text: &[u8]| {
            let finder = Finder::new(text).into_owned();
            self.0.push(Needle { name, form, finder });
        };
        for piece in pieces(secret) {
            push("raw", piece);
            let hexadecimal: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
            push("hexadecimal", hexadecimal.to_ascii_uppercase().as_bytes());
            push("hexadecimal", hexadecimal.as_bytes());
            for text in base64_forms(piece) {
                push("base64", text.as_bytes());
            }
        }
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many bytes two pieces of what is searched must share, so that nothing between them is missed.
    pub(super) fn overlap(&self) -> usize {
        self.0.iter().map(|needle| needle.finder.needle().len()).max().map_or(0, |longest| longest - 1)
    }

    /// Name and form of each secret that stands in `text`, once.
    pub(super) fn find_in(&self, text: &[u8]) -> Vec<String> {
        let found = self.0.iter().filter(|needle| needle.finder.find(text).is_some());
        let mut found: Vec<_> = found.map(|Needle { name, form, .. }| format!("{name} ({form})")).collect();
        found.sort();
        found.dedup();
        found
    }
}

fn pieces(secret: &[u8]) -> Vec<&[u8]> {
    if secret.len() < 2 * PIECE_BYTES {
        return vec![&secret[..secret.len().min(PIECE_BYTES)]];
    }
    vec![&secret[..PIECE_BYTES], &secret[secret.len() - PIECE_BYTES..]]
}

/// At each of the three ways in which bytes can lie in what is encoded; only digits that no neighbour has a part in.
fn base64_forms(secret: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|before: usize| {
        let encoded = STANDARD.encode([&vec![0; before], secret].concat());
        encoded[[0, 2, 3][before]..(before + secret.len()) * 8 / 6].to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"sixteen bytes are one piece, and sixteen";

    fn found(text: &[u8]) -> Vec<String> {
        let mut needles = Needles::new();
        needles.add("payload", SECRET);
        needles.find_in(text)
    }

    #[test]
    fn a_secret_is_found_in_every_form_and_at_every_place() {
        let hexadecimal: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found(&[b"x", SECRET].concat()), ["payload (raw)"]);
        assert_eq!(found(hexadecimal.as_bytes()), ["payload (hexadecimal)"]);
        assert_eq!(found(hexadecimal.to_ascii_uppercase().as_bytes()), ["payload (hexadecimal)"]);
        for before in ["", "a", "ab", "abc"] {
            let text = STANDARD.encode([before.as_bytes(), SECRET, b" and more"].concat());
            assert_eq!(found(text.as_bytes()), ["payload (base64)"], "behind {before:?}");
        }
    }

    #[test]
    fn either_end_of_a_secret_is_enough_and_less_is_not() {
        assert_eq!(found(&SECRET[..16]), ["payload (raw)"]);
        assert_eq!(found(&SECRET[SECRET.len() - 16..]), ["payload (raw)"]);
        assert_eq!(found(&SECRET[..15]), Vec::<String>::new());
        assert_eq!(found(b""), Vec::<String>::new());
    }
}
