//! How long a thread looks for the next packet without sleeping: only as long as that finds any.

use crate::types::{Duration, Instant};

/// After so many waits in a row that found nothing, there are none until two packets come that near to each other.
const VAIN_MAX: u8 = 16;

pub(super) struct Spin {
    time: Duration,
    until: Instant,
    /// When packets came last.
    last: Instant,
    /// Waits in a row that found nothing.
    vain: u8,
}

impl Spin {
    /// `time`: after each packet; zero for never.
    pub(super) fn new(time: Duration) -> Self {
        Self { time, until: Instant::default(), last: Instant::default(), vain: 0 }
    }

    /// Whether to go on without sleeping.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Packets have come.
    pub(super) fn found(&mut self, now: Instant) {
        let is_near = now.since(self.last) <= self.time;
        self.vain = if is_near { 0 } else { self.vain.saturating_add(1) };
        self.last = now;
        if self.vain < VAIN_MAX {
            self.until = now + self.time;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_micros(500);

    fn at(us: u64) -> Instant {
        Instant::from_unix_ns(1_700_000_000_000_000_000 + us * 1_000)
    }

    #[test]
    fn a_thread_spins_after_packets_that_come_soon_after_each_other() {
        let mut spin = Spin::new(TIME);
        assert!(!spin.is_on(at(0)));
        for n in 0..1_000 {
            spin.found(at(n * 400));
            assert!(spin.is_on(at(n * 400 + 499)) && !spin.is_on(at(n * 400 + 500)));
        }
    }

    #[test]
    fn what_is_in_vain_ends_and_begins_again_when_packets_come_sooner() {
        let mut spin = Spin::new(TIME);
        let spins = |spin: &mut Spin, us| {
            spin.found(at(us));
            spin.is_on(at(us))
        };
        let in_vain = (0..100).filter(|n| spins(&mut spin, n * 20_000)).count();
        assert_eq!(in_vain, usize::from(VAIN_MAX) - 1);
        assert!(spins(&mut spin, 99 * 20_000 + 500), "the second of two");
        // A few that come late do not end it.
        for n in 0..50 {
            assert!(spins(&mut spin, 3_000_000 + n * 20_000) && spins(&mut spin, 3_000_000 + n * 20_000 + 100));
        }
    }

    #[test]
    fn without_a_time_there_is_none() {
        let mut spin = Spin::new(Duration::ZERO);
        for _ in 0..2 {
            spin.found(at(0));
            assert!(!spin.is_on(at(0)));
        }
    }
}
