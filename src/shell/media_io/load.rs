//! How busy a media thread is: the share of a second in which it does not wait for packets.
//!
//! Not its CPU time: what others take from its processor counts as well, since it delays packets just the same.

use crate::types::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// Adds up the rounds of a window. A thread that has nothing to do has no window and needs no timer.
#[derive(Debug, Default)]
pub(super) struct LoadMeter {
    window: Option<Window>,
    /// What the core knows.
    told_permille: u16,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    busy: Duration,
}

impl LoadMeter {
    /// There is something to do.
    pub(super) fn begin(&mut self, now: Instant) {
        self.window.get_or_insert(Window { began: now, busy: Duration::ZERO });
    }

    /// A round is over.
    pub(super) fn add(&mut self, round: Duration) {
        if let Some(window) = &mut self.window {
            window.busy += round;
        }
    }

    /// When a window ends.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.window.as_ref().map(|window| window.began + WINDOW)
    }

    /// Ends the window if it is due; returns what the core does not know yet and is to be told now, in thousandths.
    pub(super) fn measure(&mut self, now: Instant, can_tell: bool) -> Option<u16> {
        let window = self.window.take_if(|window| window.began + WINDOW <= now)?;
        let share = window.busy.as_nanos() * 1_000 / now.since(window.began).as_nanos().max(1);
        let permille = u16::try_from(share.min(1_000)).expect("at most 1000");
        let is_new = permille != self.told_permille;
        if permille > 0 || (is_new && !can_tell) {
            // So that its end is noticed, too.
            self.begin(now);
        }
        (is_new && can_tell).then(|| {
            self.told_permille = permille;
            permille
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Instant {
        Instant::from_unix_ms(1_700_000_000_000 + ms)
    }

    #[test]
    fn what_is_told_is_the_share_of_a_second_and_nothing_while_nothing_happens() {
        let mut meter = LoadMeter::default();
        meter.add(Duration::from_millis(700));
        assert_eq!((meter.due_at(), meter.measure(at(0), true)), (None, None), "nothing has begun");
        meter.begin(at(0));
        meter.begin(at(500));
        assert_eq!(meter.due_at(), Some(at(1_000)));
        meter.add(Duration::from_millis(100));
        meter.add(Duration::from_millis(150));
        assert_eq!(meter.measure(at(999), true), None);
        assert_eq!(meter.measure(at(1_000), true), Some(250));
        // The next one begins at once, and lasts longer when the thread is late.
        meter.add(Duration::from_millis(500));
        assert_eq!(meter.measure(at(3_000), true), None, "told already");
        meter.add(Duration::from_millis(1_600));
        assert_eq!(meter.measure(at(4_000), true), Some(1_000), "a round may have begun before the window");
        assert_eq!(meter.measure(at(5_000), true), Some(0), "the end is told");
        assert_eq!((meter.due_at(), meter.measure(at(6_000), true)), (None, None), "and then it sleeps");
    }

    #[test]
    fn what_could_not_be_told_is_told_later_even_when_nothing_happens_any_more() {
        let mut meter = LoadMeter::default();
        meter.begin(at(0));
        meter.add(Duration::from_millis(300));
        assert_eq!(meter.measure(at(1_000), true), Some(300));
        assert_eq!(meter.measure(at(2_000), false), None);
        assert_eq!(meter.due_at(), Some(at(3_000)));
        assert_eq!(meter.measure(at(3_000), true), Some(0));
        assert_eq!(meter.due_at(), None);
    }
}
