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
    drops: Drops,
    packets_relayed: AtomicU64,
    legs: AtomicU64,
    cpu_ns: AtomicU64,
    bypassed_received: AtomicU64,
    bypassed_sent: AtomicU64,
    pub(super) pulse: Pulse,
}

/// One for each reason.
#[derive(Debug)]
struct Drops([AtomicU64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// Packets that have passed the kernel's network stack by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bypassed {
    pub received: u64,
    pub sent: u64,
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
    pub bypassed: Bypassed,
}

impl Published {
    /// Must be called on the worker's own thread, whose CPU time it reads.
    pub(super) fn publish(&self, worker: &Worker, bypassed: Bypassed) {
        for reason in DropReason::ALL {
            self.drops.0[reason.index()].store(worker.drops().of(reason), Ordering::Relaxed);
        }
        self.packets_relayed.store(worker.packets_relayed(), Ordering::Relaxed);
        self.legs.store(worker.len() as u64, Ordering::Relaxed);
        self.bypassed_received.store(bypassed.received, Ordering::Relaxed);
        self.bypassed_sent.store(bypassed.sent, Ordering::Relaxed);
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec;
        self.cpu_ns.store(cpu_ns.cast_unsigned(), Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, totals: &mut Totals) {
        for reason in DropReason::ALL {
            totals.drops.count_many(reason, self.drops.0[reason.index()].load(Ordering::Relaxed));
        }
        totals.packets_relayed += self.packets_relayed.load(Ordering::Relaxed);
        totals.legs += self.legs.load(Ordering::Relaxed);
        totals.cpu_ns += self.cpu_ns.load(Ordering::Relaxed);
        totals.bypassed.received += self.bypassed_received.load(Ordering::Relaxed);
        totals.bypassed.sent += self.bypassed_sent.load(Ordering::Relaxed);
    }
}
