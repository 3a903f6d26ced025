//! Limits on refused credentials. They count what was refused and nothing else, so a telephone with the right password
//! never meets them; what is above is dropped without an answer.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
};

use crate::types::{
    Duration, Instant,
    limits::{
        REFUSAL_ENTRIES_MAX, REFUSALS_PER_SOURCE_MAX, REFUSALS_PER_USER_MAX, REFUSALS_WINDOW_S, USER_NAME_CHARS_MAX,
    },
};

/// Who was refused how often.
#[derive(Debug)]
pub(super) struct Guard {
    /// By [`crate::types::Flow::source`].
    sources: Refusals<IpAddr>,
    /// By digest user name, whether there is such a user or not: otherwise silence would tell.
    users: Refusals<String>,
}

/// Whether a refusal was the one that reached a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub source: bool,
    pub user: bool,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self { sources: Refusals::new(REFUSALS_PER_SOURCE_MAX), users: Refusals::new(REFUSALS_PER_USER_MAX) }
    }

    /// Credentials for `user` from `source` were refused.
    pub(super) fn refused(&mut self, now: Instant, source: IpAddr, user: Option<String>) -> Reached {
        let countable = user.filter(|user| user.len() <= USER_NAME_CHARS_MAX);
        let user = countable.is_some_and(|user| self.users.count(now, user));
        Reached { source: self.sources.count(now, source), user }
    }

    pub(super) fn is_barred_source(&mut self, now: Instant, source: IpAddr) -> bool {
        self.sources.is_barred(now, &source)
    }

    pub(super) fn is_barred_user(&mut self, now: Instant, user: &str) -> bool {
        self.users.is_barred(now, user)
    }

    /// Lets every request skip looking for a user name while nobody is barred.
    pub(super) fn has_barred_user(&mut self, now: Instant) -> bool {
        self.users.has_barred(now)
    }
}

/// Counts by key; each key's window begins with its first refusal.
#[derive(Debug)]
struct Refusals<K> {
    counts: HashMap<K, u32>,
    /// When each key is forgotten, in order.
    ends: VecDeque<(Instant, K)>,
    barred: usize,
    max: u32,
}

impl<K: Clone + Eq + Hash> Refusals<K> {
    fn new(max: u32) -> Self {
        Self { counts: HashMap::new(), ends: VecDeque::new(), barred: 0, max }
    }

    /// `true` the one time that the key reaches the limit.
    fn count(&mut self, now: Instant, key: K) -> bool {
        self.forget(now);
        let count = match self.counts.get_mut(&key) {
            Some(count) => count,
            None => {
                if self.counts.len() >= REFUSAL_ENTRIES_MAX {
                    self.forget_oldest();
                }
                self.ends.push_back((now + Duration::from_secs(REFUSALS_WINDOW_S), key.clone()));
                self.counts.entry(key).or_default()
            }
        };
        *count = count.saturating_add(1);
        let is_reached = *count == self.max;
        self.barred += usize::from(is_reached);
        is_reached
    }

    fn is_barred<Q: Eq + Hash + ?Sized>(&mut self, now: Instant, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.has_barred(now) && self.counts.get(key).is_some_and(|count| *count >= self.max)
    }

    fn has_barred(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.barred > 0
    }

    fn forget(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.ends.pop_front() else { return };
        let was_barred = self.counts.remove(&key).is_some_and(|count| count >= self.max);
        self.barred -= usize::from(was_barred);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 3;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_is_barred_from_the_limit_to_the_end_of_its_window_and_is_told_of_once() {
        let mut refusals = Refusals::new(MAX);
        for n in 1..MAX {
            assert!(!refusals.count(at(u64::from(n)), 1));
            assert!(!refusals.is_barred(at(10), &1), "after {n}");
        }
        assert!(refusals.count(at(10), 1));
        assert!(!refusals.count(at(10), 1), "told of again");
        assert!(refusals.is_barred(at(REFUSALS_WINDOW_S), &1) && !refusals.is_barred(at(10), &2));
        assert!(!refusals.is_barred(at(REFUSALS_WINDOW_S + 1), &1), "its window began with its first refusal");
        assert_eq!((refusals.counts.len(), refusals.ends.len(), refusals.barred), (0, 0, 0));
    }

    #[test]
    fn a_name_that_no_user_can_have_takes_no_memory() {
        let mut guard = Guard::new();
        for length in [USER_NAME_CHARS_MAX, USER_NAME_CHARS_MAX + 1] {
            guard.refused(at(0), "192.0.2.1".parse().unwrap(), Some("a".repeat(length)));
        }
        assert_eq!(guard.users.counts.len(), 1);
    }

    #[test]
    fn the_oldest_is_forgotten_above_the_maximum_and_not_at_it() {
        let mut refusals = Refusals::new(1);
        for key in 0..REFUSAL_ENTRIES_MAX {
            refusals.count(at(0), key);
        }
        assert!(refusals.is_barred(at(1), &0));
        refusals.count(at(1), REFUSAL_ENTRIES_MAX);
        assert!(!refusals.is_barred(at(1), &0) && refusals.is_barred(at(1), &1));
        assert_eq!(refusals.barred, REFUSAL_ENTRIES_MAX);
    }
}
