//! How much the media workers can still take, by how busy they say they are.
//!
//! Decisions
//! - What counts is measured: the share of a second in which a worker did not wait for packets, which also sees what other
//!   threads and other machines on the same processor take away.
//! - Calls that are not answered yet make no packets and will. They are counted with what an answered call took when a worker
//!   was last busy enough to tell: packets that come one by one cost more than many at once, so few calls seem dearer than
//!   they are. Before that nobody knows, and they count nothing.
//! - Refusing begins at the limit and ends a tenth below it, so that it does not begin again with the next call.
//! - What takes the place of a dialog there is (Replaces), and what stays within calls (REFER), adds nothing and is let in.

use tracing::{info, warn};

const PERMILLE_PER_PERCENT: u32 = 10;
/// New calls are taken again below this share of the limit.
const RESUME_PERCENT: u32 = 90;
/// What calls cost is learnt while a worker is at least so busy.
const TELLING_PERMILLE: u16 = 150;
/// Workers whose loads differ by less are equal: they differ by more from one second to the next.
const LEVEL_PERMILLE: u32 = 50;

/// Why an ordinary call is refused with 503 that any other time would be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    ShuttingDown,
    /// `limits::CALLS_MAX`.
    Calls,
    /// `media.load_max_percent`.
    MediaLoad,
    /// `media.ports`.
    MediaPorts,
}

impl Rejection {
    pub const ALL: [Self; 4] = [Self::ShuttingDown, Self::Calls, Self::MediaLoad, Self::MediaPorts];

    /// Of the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::Calls => "calls",
            Self::MediaLoad => "media_load",
            Self::MediaPorts => "media_ports",
        }
    }
}

/// As what a call counts among the calls of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Nothing,
    /// Its people do not talk yet.
    Setup,
    Answered,
}

/// The workers' loads as an operator sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerLoads {
    /// Thousandths, of each worker.
    pub busy_permille: Vec<u16>,
    pub max_permille: u32,
    pub is_refusing: bool,
}

/// What is known of all media workers.
#[derive(Debug)]
pub(super) struct Capacity {
    workers: Vec<Load>,
    cost: Cost,
    max_permille: u32,
    is_refusing: bool,
}

/// What is known of one.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    busy_permille: u16,
    /// Its answered calls when that was measured.
    measured: u32,
    setup: u32,
    answered: u32,
}

/// So many answered calls took so much of the workers' time, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    permille: i64,
    calls: i64,
}

impl Capacity {
    pub(super) fn new(workers: u16, max_percent: u16) -> Self {
        let max_permille = u32::from(max_percent) * PERMILLE_PER_PERCENT;
        let workers = vec![Load::default(); usize::from(workers)];
        Self { workers, cost: Cost::default(), max_permille, is_refusing: false }
    }

    /// What a worker says of its last second.
    pub(super) fn measured(&mut self, worker: u16, busy_permille: u16) {
        let Some(load) = self.workers.get_mut(usize::from(worker)) else { return };
        (load.busy_permille, load.measured) = (busy_permille, load.answered);
        if busy_permille >= TELLING_PERMILLE {
            self.cost = Cost::of(&self.workers);
        }
        if self.is_refusing {
            self.admits(self.lowest());
        }
    }

    /// A call of this worker begins to count as something else.
    pub(super) fn weigh(&mut self, worker: u16, before: Weight, now: Weight) {
        let load = &mut self.workers[usize::from(worker)];
        if let Some(count) = load.count(before) {
            *count -= 1;
        }
        if let Some(count) = load.count(now) {
            *count += 1;
        }
    }

    /// Whether a call that goes to this worker may be taken. Where it may not, none may until the load is clearly below the
    /// limit.
    pub(super) fn admits(&mut self, worker: u16) -> bool {
        let expected = self.expected_permille(worker);
        let is_refusing = !self.would_admit(worker);
        if is_refusing != self.is_refusing {
            let (load_percent, limit_percent) =
                (expected / PERMILLE_PER_PERCENT, self.max_permille / PERMILLE_PER_PERCENT);
            match is_refusing {
                true => warn!(load_percent, limit_percent, "New calls are refused: the media threads are too busy."),
                false => info!(load_percent, limit_percent, "New calls are taken again."),
            }
        }
        self.is_refusing = is_refusing;
        !is_refusing
    }

    /// What [`Self::admits`] would say.
    pub(super) fn would_admit(&self, worker: u16) -> bool {
        !refuses(self.is_refusing, self.expected_permille(worker), self.max_permille)
    }

    pub(super) fn is_below_limit(&self, worker: u16) -> bool {
        !refuses(false, self.expected_permille(worker), self.max_permille)
    }

    /// Of workers on the same level none is busier in a way that matters.
    pub(super) fn level(&self, worker: u16) -> u32 {
        self.expected_permille(worker) / LEVEL_PERMILLE
    }

    /// How much of the limit is used, and the limit: of the least loaded worker.
    pub(super) fn used(&self) -> (usize, usize) {
        let as_size = |permille: u32| usize::try_from(permille).unwrap_or(usize::MAX);
        match self.has_limit() {
            true => (as_size(self.expected_permille(self.lowest())), as_size(self.max_permille)),
            false => (0, 1),
        }
    }

    pub(super) fn view(&self) -> WorkerLoads {
        WorkerLoads {
            busy_permille: self.workers.iter().map(|load| load.busy_permille).collect(),
            max_permille: self.max_permille,
            is_refusing: self.is_refusing,
        }
    }

    /// No call is counted.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.iter().all(|load| load.setup == 0 && load.answered == 0)
    }

    const fn has_limit(&self) -> bool {
        has_limit(self.max_permille)
    }

    fn lowest(&self) -> u16 {
        let workers = (0..).zip(&self.workers).map(|(worker, _)| worker);
        workers.min_by_key(|worker| self.expected_permille(*worker)).unwrap_or(0)
    }

    fn expected_permille(&self, worker: u16) -> u32 {
        self.workers.get(usize::from(worker)).map_or(0, |load| expected(load, self.cost))
    }
}

impl Load {
    const fn count(&mut self, weight: Weight) -> Option<&mut u32> {
        match weight {
            Weight::Nothing => None,
            Weight::Setup => Some(&mut self.setup),
            Weight::Answered => Some(&mut self.answered),
        }
    }
}

impl Cost {
    fn of(workers: &[Load]) -> Self {
        let sum = |what: fn(&Load) -> u32| workers.iter().map(|load| i64::from(what(load))).sum();
        Self { permille: sum(|load| load.busy_permille.into()), calls: sum(|load| load.measured) }
    }
}

/// Thousandths of its time that a worker will be busy when all its calls are answered, as far as is known; may be above
/// 1000.
fn expected(load: &Load, cost: Cost) -> u32 {
    let more = i64::from(load.setup) + i64::from(load.answered) - i64::from(load.measured);
    let change = (more * cost.permille).checked_div(cost.calls).unwrap_or(0);
    u32::try_from((i64::from(load.busy_permille) + change).max(0)).unwrap_or(u32::MAX)
}

/// Whether new calls are refused from now on.
const fn refuses(is_refusing: bool, expected_permille: u32, max_permille: u32) -> bool {
    let from = if is_refusing { max_permille * RESUME_PERCENT / 100 } else { max_permille };
    has_limit(max_permille) && expected_permille >= from
}

/// A worker that is busy all the time is not busier than that.
const fn has_limit(max_permille: u32) -> bool {
    max_permille < 100 * PERMILLE_PER_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_refused_from_the_limit_on_until_the_load_is_a_tenth_lower() {
        for (is_refusing, expected, max, refused) in [
            (false, 0, 800, false),
            (false, 799, 800, false),
            (false, 800, 800, true),
            (true, 800, 800, true),
            (true, 720, 800, true),
            (true, 719, 800, false),
            (false, 9, 10, false),
            (false, 10, 10, true),
            (true, 9, 10, true),
            (true, 8, 10, false),
            (false, 1_000, 1_000, false),
            (true, 3_000, 1_000, false),
        ] {
            assert_eq!(refuses(is_refusing, expected, max), refused, "{is_refusing} {expected} {max}");
        }
    }

    #[test]
    fn a_call_to_come_counts_as_much_as_an_answered_one() {
        let unknown = Cost::default();
        let four = Cost { permille: 800, calls: 200 };
        for (busy_permille, measured, setup, answered, cost, wanted) in [
            (0, 0, 500, 0, unknown, 0),
            (300, 0, 500, 20, unknown, 300),
            // As it was measured.
            (400, 100, 0, 100, four, 400),
            // Ringing, and answered since.
            (400, 100, 50, 100, four, 600),
            (400, 100, 25, 125, four, 600),
            (0, 0, 500, 0, four, 2_000),
            // Ended since.
            (400, 100, 0, 50, four, 200),
            (100, 100, 0, 0, four, 0),
        ] {
            let load = Load { busy_permille, measured, setup, answered };
            assert_eq!(expected(&load, cost), wanted, "{load:?} {cost:?}");
        }
    }

    /// So many answered calls on this worker.
    fn answer(capacity: &mut Capacity, worker: u16, calls: u32) {
        for _ in 0..calls {
            capacity.weigh(worker, Weight::Nothing, Weight::Setup);
            capacity.weigh(worker, Weight::Setup, Weight::Answered);
        }
    }

    #[test]
    fn what_a_call_costs_is_learnt_only_while_a_worker_is_busy_enough() {
        let mut capacity = Capacity::new(2, 80);
        answer(&mut capacity, 0, 10);
        capacity.measured(0, TELLING_PERMILLE - 1);
        answer(&mut capacity, 1, 100);
        assert_eq!(capacity.used(), (0, 800), "nobody knows yet");
        capacity.measured(0, TELLING_PERMILLE);
        assert_eq!(capacity.used(), (150, 800), "15 thousandths each");
        capacity.measured(0, 20);
        capacity.measured(1, 20);
        answer(&mut capacity, 0, 10);
        assert_eq!((capacity.level(0), capacity.level(1)), (3, 0), "it stays known");
    }

    #[test]
    fn one_worker_with_room_is_enough_and_each_counts_its_own_calls() {
        let mut capacity = Capacity::new(2, 80);
        answer(&mut capacity, 0, 100);
        capacity.measured(0, 900);
        assert_eq!((capacity.used(), capacity.is_below_limit(0), capacity.is_below_limit(1)), ((0, 800), false, true));
        assert!(capacity.level(1) < capacity.level(0));
        assert!(capacity.admits(1));
        assert!(!capacity.admits(0));
        assert!(capacity.view().is_refusing);
        // The next second, of the other.
        capacity.measured(1, 100);
        assert!(!capacity.view().is_refusing);
        assert!(!capacity.is_empty());
        for _ in 0..100 {
            capacity.weigh(0, Weight::Answered, Weight::Nothing);
        }
        assert!(capacity.is_empty());
        capacity.measured(7, 1_000);
        assert_eq!(capacity.view().busy_permille, [900, 100], "there is no such worker");
    }

    #[test]
    fn a_hundred_percent_refuses_nothing() {
        let mut capacity = Capacity::new(1, 100);
        capacity.measured(0, 1_000);
        assert!(capacity.admits(0));
        assert_eq!(capacity.used(), (0, 1));
    }
}
