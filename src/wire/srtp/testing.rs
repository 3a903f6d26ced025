//! Shared by this layer's unit tests.

use std::cell::Cell;

thread_local! {
    static TAG_CHECKS: Cell<u32> = const { Cell::new(0) };
}

/// Notes that a tag is compared.
pub(super) fn count_tag_check() {
    TAG_CHECKS.set(TAG_CHECKS.get() + 1);
}

/// Tags that this thread has compared so far.
pub fn tag_checks() -> u32 {
    TAG_CHECKS.get()
}

/// Bytes of a hexadecimal string; blanks are ignored.
pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
