//! What the workers have counted, readable by others without stopping them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    media::Worker,
    types::{DropReason, reason::DropCounters},
};

/// One worker's totals, published a few times a second.
#[derive(Debug, Default)]
pub(super) struct Published {
    drops: [AtomicU64; DropReason::ALL.len()],
    packets_relayed: AtomicU64,
    legs: AtomicU64,
}

/// All workers' totals since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub drops: DropCounters,
    pub packets_relayed: u64,
    /// Legs open now.
    pub legs: u64,
}

impl Published {
    pub(super) fn publish(&self, worker: &Worker) {
        for reason in DropReason::ALL {
            self.drops[reason.index()].store(worker.drops().of(reason), Ordering::Relaxed);
        }
        self.packets_relayed.store(worker.packets_relayed(), Ordering::Relaxed);
        self.legs.store(worker.len() as u64, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, totals: &mut Totals) {
        for reason in DropReason::ALL {
            totals.drops.count_many(reason, self.drops[reason.index()].load(Ordering::Relaxed));
        }
        totals.packets_relayed += self.packets_relayed.load(Ordering::Relaxed);
        totals.legs += self.legs.load(Ordering::Relaxed);
    }
}
