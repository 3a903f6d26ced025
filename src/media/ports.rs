//! Hands out port pairs of each worker's own range, so that an SDP answer never waits for a worker.

use std::{collections::VecDeque, ops::RangeInclusive};

use crate::types::{LegId, limits};

/// The core's view of all workers' ports. A slot is an even port and the odd one above it (RFC 3550 section 11); freed
/// slots are reused last, so that a late packet of an ended call finds a closed port for as long as possible.
#[derive(Debug)]
pub struct Ports {
    shares: Vec<Share>,
    /// Slots of each worker that only urgent calls get.
    reserved: usize,
}

/// One worker's part of the range.
#[derive(Debug)]
struct Share {
    first_port: u16,
    slots: Vec<Slot>,
    free: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    is_taken: bool,
}

impl Ports {
    /// Splits `range` evenly over `workers`, of which there must be at least one; the first workers get what is left
    /// over. An odd port at the start and an even one at the end of the range stay unused.
    pub fn new(range: &RangeInclusive<u16>, workers: u16) -> Self {
        assert!(workers > 0, "ports need a worker");
        let mut next = u32::from(*range.start()).next_multiple_of(2);
        let slots = (u32::from(*range.end()) + 1).saturating_sub(next) / 2;
        let workers = u32::from(workers);
        let shares = (0..workers)
            .map(|worker| {
                let count = slots / workers + u32::from(worker < slots % workers);
                let share = Share::new(next, count);
                next += 2 * count;
                share
            })
            .collect();
        Self { shares, reserved: 0 }
    }

    /// Keeps so many slots of each worker, at most half of them, for urgent calls.
    #[must_use]
    pub fn reserving(self, slots: usize) -> Self {
        Self { reserved: slots, ..self }
    }

    /// A slot on this worker; `None`: exhausted, but for what is reserved.
    pub fn take(&mut self, worker: u16) -> Option<LegId> {
        let share = &self.shares[usize::from(worker)];
        let has_more = share.free.len() > self.reserved.min(share.slots.len() / 2);
        has_more.then(|| self.take_reserved(worker)).flatten()
    }

    /// The same for an urgent call; `None`: exhausted.
    pub fn take_reserved(&mut self, worker: u16) -> Option<LegId> {
        let share = &mut self.shares[usize::from(worker)];
        let index = share.free.pop_front()?;
        let slot = &mut share.slots[index as usize];
        slot.is_taken = true;
        slot.generation = slot.generation.wrapping_add(1);
        Some(LegId { worker, slot: index, generation: slot.generation })
    }

    /// Gives a slot back. Twice is a bug and panics.
    pub fn give_back(&mut self, leg: LegId) {
        let share = &mut self.shares[usize::from(leg.worker)];
        let slot = &mut share.slots[leg.slot as usize];
        assert!(slot.is_taken && slot.generation == leg.generation, "a port pair was given back twice");
        slot.is_taken = false;
        share.free.push_back(leg.slot);
    }

    /// The worker with the most free slots.
    pub fn roomiest(&self) -> u16 {
        let mut best = 0;
        for (worker, share) in (0..).zip(&self.shares) {
            if share.free.len() > self.free(best) {
                best = worker;
            }
        }
        best
    }

    /// Whether this worker has slots for a whole call, however many media sections it has.
    pub fn has_room(&self, worker: u16) -> bool {
        self.shares[usize::from(worker)].free.len() >= self.reserved + 2 * limits::MEDIA_SECTIONS_MAX
    }

    /// The RTP port of a leg; RTCP without multiplexing is one above.
    pub fn rtp_port(&self, leg: LegId) -> u16 {
        rtp_port(self.shares[usize::from(leg.worker)].first_port, leg.slot)
    }

    /// First port and number of slots of a worker: what its thread is started with.
    pub fn slots(&self, worker: u16) -> (u16, u32) {
        let share = &self.shares[usize::from(worker)];
        (share.first_port, u32::try_from(share.slots.len()).expect("there are fewer slots than ports"))
    }

    pub fn workers(&self) -> u16 {
        u16::try_from(self.shares.len()).expect("made for a number of this size")
    }

    /// Slots of this worker that nobody has, those that are reserved included.
    pub fn free(&self, worker: u16) -> usize {
        self.shares[usize::from(worker)].free.len()
    }

    pub fn taken(&self) -> usize {
        self.shares.iter().map(|share| share.slots.len() - share.free.len()).sum()
    }
}

impl Share {
    fn new(first_port: u32, slots: u32) -> Self {
        Self {
            // An empty share may begin past the last port; it has no slot that could be asked for.
            first_port: u16::try_from(first_port).unwrap_or(u16::MAX),
            slots: vec![Slot::default(); slots as usize],
            free: (0..slots).collect(),
        }
    }
}

/// The RTP port of a slot in a range that begins at `first_port`.
pub fn rtp_port(first_port: u16, slot: u32) -> u16 {
    u16::try_from(u32::from(first_port) + 2 * slot).expect("slots end with the port range")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ranges_of_workers_are_even_and_disjoint() {
        let mut ports = Ports::new(&(20_001..=20_012), 2);
        let mut seen = HashSet::new();
        for worker in 0..2 {
            while let Some(leg) = ports.take(worker) {
                let port = ports.rtp_port(leg);
                assert_eq!(port % 2, 0);
                assert!((20_002..=20_010).contains(&port), "{port}");
                assert!(seen.insert(port), "{port} was handed out twice");
            }
        }
        assert_eq!(seen.len(), 5, "20012 has no odd port above it, 20001 none below");
        assert_eq!((ports.slots(0), ports.slots(1)), ((20_002, 3), (20_008, 2)));
    }

    #[test]
    fn exhaustion_is_none_and_heals() {
        let mut ports = Ports::new(&(10_000..=10_003), 1);
        let (a, b) = (ports.take(0).unwrap(), ports.take(0).unwrap());
        assert_eq!((ports.take(0), ports.taken()), (None, 2));
        ports.give_back(b);
        ports.give_back(a);
        assert_eq!(ports.taken(), 0);
        assert_eq!(ports.take(0).map(|leg| leg.slot), Some(b.slot), "first freed, first reused");
    }

    #[test]
    fn successive_users_of_a_slot_differ_in_generation() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let first = ports.take(0).unwrap();
        ports.give_back(first);
        let second = ports.take(0).unwrap();
        assert_eq!(first.slot, second.slot);
        assert_ne!(first.generation, second.generation);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_panics() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let leg = ports.take(0).unwrap();
        ports.give_back(leg);
        ports.give_back(leg);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_an_earlier_generation_panics() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let leg = ports.take(0).unwrap();
        ports.give_back(leg);
        ports.take(0).unwrap();
        ports.give_back(leg);
    }

    #[test]
    fn the_roomiest_worker_has_the_most_free_slots() {
        let mut ports = Ports::new(&(10_000..=10_007), 2);
        assert_eq!(ports.roomiest(), 0);
        ports.take(0).unwrap();
        assert_eq!(ports.roomiest(), 1);
        ports.take(1).unwrap();
        ports.take(1).unwrap();
        assert_eq!(ports.roomiest(), 0);
    }

    #[test]
    fn what_is_reserved_is_for_urgent_calls_and_at_most_half_of_a_worker() {
        let mut ports = Ports::new(&(10_000..=10_015), 2).reserving(2);
        for _ in 0..2 {
            ports.take(0).unwrap();
        }
        assert_eq!(ports.take(0), None);
        assert!(ports.take(1).is_some(), "each worker has its own");
        let urgent = ports.take_reserved(0).unwrap();
        assert!(ports.take_reserved(0).is_some());
        assert_eq!(ports.take_reserved(0), None);
        ports.give_back(urgent);
        assert_eq!(ports.take(0), None, "what comes back is reserved first");
        let mut small = Ports::new(&(10_000..=10_003), 1).reserving(100);
        assert!(small.take(0).is_some());
        assert_eq!(small.take(0), None);
    }

    #[test]
    fn the_range_may_end_with_the_last_port() {
        let mut ports = Ports::new(&(65_534..=65_535), 3);
        assert_eq!(ports.take(0).map(|leg| ports.rtp_port(leg)), Some(65_534));
        assert_eq!((ports.take(1), ports.take(2)), (None, None));
    }
}
