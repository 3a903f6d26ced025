//! Hands out port pairs of each worker's own range, so that an SDP answer never waits for a worker.

use std::ops::RangeInclusive;

use crate::types::LegId;

/// The core's view of all workers' ports. A slot is an even port and the odd one above it; freed slots are reused last.
#[derive(Debug)]
pub struct Ports {}

impl Ports {
    /// Splits `range` evenly over `workers`.
    pub fn new(range: &RangeInclusive<u16>, workers: u16) -> Self {
        let _ = (range, workers);
        todo!()
    }

    /// The worker with the most free slots.
    pub fn least_loaded(&self) -> u16 {
        todo!()
    }

    /// A slot on this worker; `None`: exhausted.
    pub fn take(&mut self, worker: u16) -> Option<LegId> {
        let _ = worker;
        todo!()
    }

    /// Gives a slot back. Twice is a bug and panics.
    pub fn give_back(&mut self, leg: LegId) {
        let _ = leg;
        todo!()
    }

    /// The RTP port of a leg; RTCP without multiplexing is one above.
    pub fn rtp_port(&self, leg: LegId) -> u16 {
        let _ = leg;
        todo!()
    }

    pub fn taken(&self) -> usize {
        todo!()
    }
}
