//! What users and trunks have used of their limits on calls outside. What the limits are, `policy::outside` knows.

use std::collections::{HashMap, VecDeque};

use crate::{
    config::calling::Money,
    policy::{number::Destination, outside::Used},
    types::{Duration, Instant, limits::OUTSIDE_CALLS_COUNTED_MAX},
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// About the limits of one user, or of one trunk, the log speaks no more often than this.
const ALARM_EVERY: Duration = MINUTE;

#[derive(Debug, Default)]
pub(super) struct Usage {
    users: HashMap<String, Tally>,
    trunks: HashMap<usize, Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    /// Begins of calls, for as long as they count.
    recent: VecDeque<Instant>,
    costly: VecDeque<Instant>,
    /// Days since the Unix epoch.
    day: u64,
    spent: Money,
    alarmed_at: Option<Instant>,
}

impl Usage {
    pub(super) fn of_user(&self, now: Instant, user: &str) -> Used {
        self.users.get(user).map_or_else(Used::default, |tally| tally.used(now))
    }

    pub(super) fn of_trunk(&self, now: Instant, trunk: usize) -> Used {
        self.trunks.get(&trunk).map_or_else(Used::default, |tally| tally.used(now))
    }

    /// A user's call leaves.
    pub(super) fn begins(&mut self, now: Instant, user: &str, destination: Destination) {
        let tally = self.users.entry(user.to_owned()).or_default();
        count(&mut tally.recent, now, MINUTE);
        if destination >= Destination::International {
            count(&mut tally.costly, now, DAY);
        }
    }

    /// An INVITE of it goes to this trunk.
    pub(super) fn takes_trunk(&mut self, now: Instant, trunk: usize) {
        count(&mut self.trunks.entry(trunk).or_default().recent, now, MINUTE);
    }

    /// `user`: `None` where only the trunk's limits count.
    pub(super) fn spend(&mut self, now: Instant, user: Option<&str>, trunk: usize, cost: Money) {
        if let Some(user) = user {
            self.users.entry(user.to_owned()).or_default().spend(now, cost);
        }
        self.trunks.entry(trunk).or_default().spend(now, cost);
    }

    /// Whether it is time to tell somebody that a user is at a limit.
    pub(super) fn is_alarm_due(&mut self, now: Instant, user: &str) -> bool {
        self.users.entry(user.to_owned()).or_default().is_alarm_due(now)
    }

    /// The same for a trunk.
    pub(super) fn is_trunk_alarm_due(&mut self, now: Instant, trunk: usize) -> bool {
        self.trunks.entry(trunk).or_default().is_alarm_due(now)
    }

    /// The costly calls of a user count no more.
    pub(super) fn forgive(&mut self, user: &str) {
        if let Some(tally) = self.users.get_mut(user) {
            tally.costly.clear();
        }
    }

    /// Who has made costly calls in the last day, and how many.
    pub(super) fn costly(&self, now: Instant) -> impl Iterator<Item = (&str, usize)> {
        let counted = self.users.iter().map(move |(user, tally)| (user.as_str(), within(&tally.costly, now, DAY)));
        counted.filter(|(_, count)| *count > 0)
    }

    /// Users who are gone.
    pub(super) fn retain(&mut self, is_user: impl Fn(&str) -> bool) {
        self.users.retain(|user, _| is_user(user));
    }
}

impl Tally {
    fn used(&self, now: Instant) -> Used {
        Used {
            concurrent_calls: 0,
            calls_in_minute: within(&self.recent, now, MINUTE),
            costly_calls_in_day: within(&self.costly, now, DAY),
            spent_today: if self.day == day(now) { self.spent } else { Money::default() },
        }
    }

    fn is_alarm_due(&mut self, now: Instant) -> bool {
        let is_due = self.alarmed_at.is_none_or(|at| now.since(at) >= ALARM_EVERY);
        if is_due {
            self.alarmed_at = Some(now);
        }
        is_due
    }

    fn spend(&mut self, now: Instant, cost: Money) {
        if self.day != day(now) {
            (self.day, self.spent) = (day(now), Money::default());
        }
        self.spent = Money(self.spent.0.saturating_add(cost.0));
    }
}

const fn day(now: Instant) -> u64 {
    now.unix_s() / 86_400
}

fn count(begins: &mut VecDeque<Instant>, now: Instant, window: Duration) {
    while begins.front().is_some_and(|at| now.since(*at) >= window) || begins.len() >= OUTSIDE_CALLS_COUNTED_MAX {
        begins.pop_front();
    }
    begins.push_back(now);
}

fn within(begins: &VecDeque<Instant>, now: Instant, window: Duration) -> usize {
    begins.iter().rev().take_while(|at| now.since(**at) < window).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_unix_ms(1_700_000_000_000);

    #[test]
    fn calls_count_for_their_window_and_costly_ones_for_a_day() {
        let mut usage = Usage::default();
        for _ in 0..3 {
            usage.begins(START, "ann", Destination::International);
        }
        usage.begins(START, "ann", Destination::National);
        let counts = |usage: &Usage, now| {
            let used = usage.of_user(now, "ann");
            (used.calls_in_minute, used.costly_calls_in_day)
        };
        assert_eq!(counts(&usage, START), (4, 3));
        assert_eq!(counts(&usage, START + MINUTE), (0, 3));
        assert_eq!(counts(&usage, START + DAY), (0, 0));
        assert_eq!(usage.of_user(START, "bob"), Used::default());
        usage.forgive("ann");
        assert_eq!(counts(&usage, START), (4, 0));
    }

    #[test]
    fn spending_begins_anew_at_midnight() {
        let mut usage = Usage::default();
        let midnight = Instant::from_unix_ms(1_700_006_400_000);
        let before = Instant::from_unix_ms(1_700_006_399_999);
        usage.spend(before, Some("ann"), 0, Money(5));
        usage.spend(before, Some("ann"), 1, Money(7));
        assert_eq!(usage.of_user(before, "ann").spent_today, Money(12));
        assert_eq!(usage.of_trunk(before, 1).spent_today, Money(7));
        assert_eq!(usage.of_user(midnight, "ann").spent_today, Money(0));
        usage.spend(midnight, Some("ann"), 0, Money(1));
        assert_eq!(usage.of_user(midnight, "ann").spent_today, Money(1));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut usage = Usage::default();
        for _ in 0..=OUTSIDE_CALLS_COUNTED_MAX {
            usage.begins(START, "ann", Destination::National);
        }
        assert_eq!(usage.of_user(START, "ann").calls_in_minute, OUTSIDE_CALLS_COUNTED_MAX);
    }
}
