//! One timeline for the whole server.
//!
//! [`Instant`] counts nanoseconds since the Unix epoch, but on a monotonic clock: the shell reads the wall clock once
//! at start and adds elapsed monotonic time from then on. A step of the wall clock therefore never moves a timer, and
//! a call detail record can still be given a date. The simulation simply makes instants up.

pub use std::time::Duration;

/// A point on the server's monotonic timeline, in nanoseconds since the Unix epoch as read at process start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// `ns`: nanoseconds since the Unix epoch.
    pub const fn from_unix_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// `ms`: milliseconds since the Unix epoch.
    pub const fn from_unix_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    pub const fn unix_ns(self) -> u64 {
        self.0
    }

    pub const fn unix_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    pub const fn unix_s(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        let ns = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}
