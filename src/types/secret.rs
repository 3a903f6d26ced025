//! Values that must never be printed.
//!
//! [`Secret`] holds keys, passwords and PINs and is wiped when dropped. [`Private`] holds personal data, such as the
//! private address of a direct line. Both print `[redacted]`, so that a `?value` in a log line leaks nothing.

use std::hint::black_box;

use zeroize::Zeroize;

/// Key material. Wiped on drop, printed as `[redacted]`, read only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Personal data that may be used for its purpose but never logged, exported or shown by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Private<T>(T);

impl<T> Private<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Every call is a place to review.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> std::fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// More than what makes keys, or derives contexts from them, uses.
const STACK_BYTES: usize = 32 * 1024;

/// Overwrites what functions that have returned left on the stack: a secret wipes itself where it ends, but not the places
/// from which it was moved there. To be called beside them; they must not be inlined into the caller, whose own frame stays.
#[inline(never)]
pub fn wipe_stack() {
    // Mutable, or the compiler would keep the zeros among its constants.
    let mut used = [0_u8; STACK_BYTES];
    black_box(&mut used);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_the_value() {
        assert_eq!(format!("{:?}", Secret::new(*b"hunter2")), "[redacted]");
        assert_eq!(format!("{:?}", Private::new("1 Example Road")), "[redacted]");
    }
}
