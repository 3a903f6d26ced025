//! Master key identifiers (RFC 3711 section 3.1).

/// Longest identifier, in bytes (RFC 4568 section 6.1).
const MKI_BYTES_MAX: usize = 128;

/// By which each packet of a peer says under which of its master keys it is, 1 to 128 bytes. Behind one pointer, since hardly a
/// peer has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mki(Box<Value>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    bytes: [u8; MKI_BYTES_MAX],
    len: usize,
}

impl Mki {
    /// `None` unless `bytes` is 1 to 128 bytes long.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut value = Value { bytes: [0; MKI_BYTES_MAX], len: bytes.len() };
        value.bytes.get_mut(..bytes.len()).filter(|_| !bytes.is_empty())?.copy_from_slice(bytes);
        Some(Self(Box::new(value)))
    }

    /// An identifier of `len` bytes, most significant first, from the decimal number in a session description (RFC 4568 section
    /// 6.1). `None`: it is no number, or does not fit.
    pub fn from_decimal(number: &str, len: usize) -> Option<Self> {
        let mut bytes = [0; MKI_BYTES_MAX];
        let bytes = bytes.get_mut(..len)?;
        if number.is_empty() {
            return None;
        }
        for digit in number.chars() {
            let mut carry = digit.to_digit(10)?;
            for byte in bytes.iter_mut().rev() {
                let [.., high, low] = (u32::from(*byte) * 10 + carry).to_be_bytes();
                (*byte, carry) = (low, high.into());
            }
            if carry > 0 {
                return None;
            }
        }
        Self::new(bytes)
    }

    /// Nothing, where there is none.
    pub(super) fn bytes_of(mki: Option<&Self>) -> &[u8] {
        mki.map_or(&[], Self::bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0.bytes[..self.0.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_bytes_of_the_length_that_was_announced() {
        let longest = "9".repeat(308);
        for (number, len, expected) in [
            ("1", 4, Some(vec![0, 0, 0, 1])),
            ("0", 1, Some(vec![0])),
            ("00255", 1, Some(vec![255])),
            ("256", 1, None),
            ("66051", 3, Some(vec![1, 2, 3])),
            ("1296779569", 4, Some(b"MKI1".to_vec())),
            ("4294967296", 4, None),
            ("18446744073709551616", 9, Some([&[1][..], &[0; 8]].concat())),
            ("", 4, None),
            ("-1", 4, None),
            ("1e3", 4, None),
            ("1", 0, None),
            ("1", 129, None),
        ] {
            assert_eq!(Mki::from_decimal(number, len).map(|mki| mki.bytes().to_vec()), expected, "{number}:{len}");
        }
        assert!(Mki::from_decimal(&longest, 128).is_some());
        assert!(Mki::from_decimal(&longest, 127).is_none());
    }

    #[test]
    fn an_identifier_has_1_to_128_bytes() {
        for (len, is_one) in [(0, false), (1, true), (128, true), (129, false)] {
            assert_eq!(Mki::new(&vec![7; len]).map(|mki| mki.bytes().len()), is_one.then_some(len));
        }
    }
}
