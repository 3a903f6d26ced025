//! What is looked for: secrets in each form in which they could have been kept.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Of a longer secret, its ends are looked for apart: one may have been overwritten.
const PIECE_BYTES: usize = 16;
/// By so many bytes at its beginning a needle is told from others.
const START_BYTES: usize = 8;

/// Secrets with a name each, ready to be found in anything. There are hundreds, so that a text is gone through once for all.
pub(super) struct Needles {
    needles: Vec<Needle>,
    by_start: HashMap<[u8; START_BYTES], Vec<usize>>,
    /// Whether a needle begins with these two bytes.
    has_start: Box<[bool]>,
}

struct Needle {
    name: &'static str,
    form: &'static str,
    text: Vec<u8>,
}

impl Needles {
    pub(super) fn new() -> Self {
        let has_start = vec![false; 1 << u16::BITS].into_boxed_slice();
        Self { needles: Vec::new(), by_start: HashMap::new(), has_start }
    }

    /// Adds a secret as it is, backwards, as in a register of many bytes, in hexadecimal and in base64. At least 12 bytes, or
    /// chance would find it, too.
    pub(super) fn add(&mut self, name: &'static str, secret: &[u8]) {
        for piece in pieces(secret) {
            let hexadecimal: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
            let backwards = piece.iter().rev().copied().collect();
            for (form, text) in [
                ("raw", piece.to_vec()),
                ("backwards", backwards),
                ("hexadecimal", hexadecimal.to_ascii_uppercase().into_bytes()),
                ("hexadecimal", hexadecimal.into_bytes()),
            ] {
                self.push(Needle { name, form, text });
            }
            for text in base64_forms(piece) {
                self.push(Needle { name, form: "base64", text: text.into_bytes() });
            }
        }
    }

    fn push(&mut self, needle: Needle) {
        let start = needle.text.first_chunk().expect("needles are longer");
        self.by_start.entry(*start).or_default().push(self.needles.len());
        self.has_start[first_two(start)] = true;
        self.needles.push(needle);
    }

    pub(super) fn extend(&mut self, others: Self) {
        others.needles.into_iter().for_each(|needle| self.push(needle));
    }

    /// How many bytes two pieces of what is searched must share, so that nothing between them is missed.
    pub(super) fn overlap(&self) -> usize {
        self.needles.iter().map(|needle| needle.text.len()).max().map_or(0, |longest| longest - 1)
    }

    /// Name and form of each secret that stands in `text`, once.
    pub(super) fn find_in(&self, text: &[u8]) -> Vec<String> {
        let mut found: Vec<_> =
            self.found_in(text).map(|Needle { name, form, .. }| format!("{name} ({form})")).collect();
        found.sort();
        found.dedup();
        found
    }

    fn found_in<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a Needle> {
        let starts = text.windows(START_BYTES).enumerate().filter(|(_, start)| self.has_start[first_two(start)]);
        let candidates = starts.filter_map(|(at, start)| Some((at, self.by_start.get(start)?)));
        candidates.flat_map(move |(at, numbers)| {
            numbers
                .iter()
                .map(|number| &self.needles[*number])
                .filter(move |needle| text[at..].starts_with(&needle.text))
        })
    }
}

fn first_two(start: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([start[0], start[1]]))
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
        let backwards: Vec<u8> = SECRET.iter().rev().copied().collect();
        assert_eq!(found(&[b"x", &backwards[..]].concat()), ["payload (backwards)"]);
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
