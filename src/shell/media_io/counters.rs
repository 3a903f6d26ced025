//! What the workers have counted, readable by others without stopping them.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

use super::pulse::Pulse;
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
    cpu_ns: AtomicU64,
    pub(super) pulse: Pulse,
}

/// All workers' totals since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub drops: DropCounters,
    pub packets_relayed: u64,
    /// Legs open now.
    pub legs: u64,
    /// CPU time of the worker threads, in nanoseconds: one that gains a second per second has reached its limit.
    pub cpu_ns: u64,
}

impl Published {
    /// Must be called on the worker's own thread, whose CPU time it reads.
    pub(super) fn publish(&self, worker: &Worker) {
        for reason in DropReason::ALL {
            self.drops[reason.index()].store(worker.drops().of(reason), Ordering::Relaxed);
        }
        self.packets_relayed.store(worker.packets_relayed(), Ordering::Relaxed);
        self.legs.store(worker.len() as u64, Ordering::Relaxed);
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
        self.cpu_ns.store(cpu_ns.cast_unsigned(), Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, totals: &mut Totals) {
        for reason in DropReason::ALL {
            totals.drops.count_many(reason, self.drops[reason.index()].load(Ordering::Relaxed));
        }
        totals.packets_relayed += self.packets_relayed.load(Ordering::Relaxed);
        totals.legs += self.legs.load(Ordering::Relaxed);
        totals.cpu_ns += self.cpu_ns.load(Ordering::Relaxed);
    }
}
