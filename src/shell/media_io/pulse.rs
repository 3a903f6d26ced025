//! Whether a worker's thread still turns: the core's task asks through its eventfd, and the thread answers in memory, which
//! costs nothing while nobody asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Questions to one worker, and its answers.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked: AtomicU64,
    answered: AtomicU64,
    is_late: AtomicBool,
}

impl Pulse {
    /// Asks again; the worker is to be woken afterwards. Returns whether it has answered what it was asked before.
    pub(super) fn ask(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let has_answered = self.answered.load(Ordering::Relaxed) == asked;
        self.is_late.store(!has_answered, Ordering::Relaxed);
        self.asked.store(asked.wrapping_add(1), Ordering::Relaxed);
        has_answered
    }

    /// Must be called on the worker's own thread.
    pub(super) fn answer(&self) {
        self.answered.store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Whether the last question found the one before it without an answer.
    pub(super) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_late_while_it_does_not_answer_and_no_longer() {
        let pulse = Pulse::default();
        assert!(pulse.ask(), "it was asked nothing before");
        assert!(!pulse.is_late());
        assert!(!pulse.ask() && pulse.is_late());
        assert!(!pulse.ask() && pulse.is_late());
        pulse.answer();
        assert!(pulse.ask() && !pulse.is_late());
    }
}
