//! The server's one clock. Everything below the shell gets its instants from here, as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::types::Instant;

/// The wall clock as read once at start, plus elapsed monotonic time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: std::time::Instant,
    started_unix: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the module that reads the clocks")]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: std::time::Instant::now(), started_unix: Instant::default() + unix }
    }

    /// Never goes back, however the wall clock is set.
    pub fn now(&self) -> Instant {
        self.started_unix + self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_begins_at_the_wall_clock_and_never_goes_back() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(first <= second);
        assert!(first.unix_s() > 1_700_000_000, "a date after 2023");
    }
}
