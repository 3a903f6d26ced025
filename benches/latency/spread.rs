//! How times are spread, to one part in 64.

use std::time::Duration;

const PARTS: u64 = 64;

/// Counts by microseconds: exact up to 64, then in 64 steps between one power of two and the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Spread {
    pub(crate) fn add(&mut self, time: Duration) {
        let index = index(u64::try_from(time.as_micros()).unwrap());
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
        self.max = self.max.max(time);
    }

    /// What this share, in thousandths, does not exceed, in milliseconds; not a number where nothing was counted.
    pub(crate) fn per_mille_ms(&self, per_mille: u64) -> f64 {
        let wanted = (self.total * per_mille).div_ceil(1_000);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= wanted && below > 0 {
                return upper(index as u64) as f64 / 1e3;
            }
        }
        f64::NAN
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max.as_secs_f64() * 1e3
    }
}

fn index(us: u64) -> usize {
    let shift = (us | 1).ilog2().saturating_sub(PARTS.ilog2());
    usize::try_from(u64::from(shift) * PARTS + (us >> shift)).unwrap()
}

/// The largest number of microseconds with this index.
fn upper(index: u64) -> u64 {
    let shift = (index / PARTS).saturating_sub(1);
    let part = index - shift * PARTS;
    ((part + 1) << shift) - 1
}
