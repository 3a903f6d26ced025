//! Hands out port pairs of each worker's own range, so that an SDP answer never waits for a worker.

use std::{collections::VecDeque, net::IpAddr, ops::RangeInclusive};

use crate::types::{Duration, Instant, LegId, limits};

/// Slots bound before a leg needs them, for each media address, divided among the workers: more than legs begin while a
/// worker takes its time to say that a port is somebody else's. Each costs two sockets.
const AHEAD: usize = 64;
/// ... of each worker, however many share them.
const AHEAD_MIN: usize = 8;
/// How long a slot rests whose ports another program had.
const REST: Duration = Duration::from_secs(60);
/// After a failure no more slots are bound ahead for so long: where every one fails, all would be tried at once.
const PAUSE: Duration = Duration::from_secs(1);

/// The core's view of all workers' ports. A slot is an even port and the odd one above it (RFC 3550 section 11); freed
/// slots are reused last, so that a late packet of an ended call finds a closed port for as long as possible.
///
/// A leg gets a slot that its worker was asked to bind some time before, and of which no failure was heard: by the time an
/// SDP names a port, that port is ours.
#[derive(Debug)]
pub struct Ports {
    shares: Vec<Share>,
    /// Slots of each worker that only urgent calls get.
    reserved: usize,
    /// Slots of each worker that are bound ahead, for each address.
    ahead: usize,
}

/// One worker's part of the range.
#[derive(Debug)]
struct Share {
    first_port: u16,
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    /// By address; the slot bound longest ago first.
    ahead: Vec<(IpAddr, VecDeque<u32>)>,
    /// Until when each could not be bound.
    resting: VecDeque<(Instant, u32)>,
    paused_until: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Free, or resting.
    #[default]
    Idle,
    /// Bound, or about to be.
    Ahead,
    Taken,
    /// Taken in vain; it rests afterwards, until then.
    Occupied(Instant),
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
        Self { shares, reserved: 0, ahead: 0 }
    }

    /// Keeps so many slots of each worker, at most half of them, for urgent calls.
    #[must_use]
    pub fn reserving(self, slots: usize) -> Self {
        Self { reserved: slots, ..self }
    }

    /// Has slots bound on these addresses before they are taken, by [`Ports::next_to_bind`].
    #[must_use]
    pub fn binding_ahead(mut self, addresses: &[IpAddr]) -> Self {
        self.ahead = (AHEAD / self.shares.len()).max(AHEAD_MIN);
        for share in &mut self.shares {
            share.ahead = addresses.iter().map(|address| (*address, VecDeque::new())).collect();
        }
        self
    }

    /// A slot on this worker, to listen on this address; `None`: exhausted, but for what is reserved.
    pub fn take(&mut self, worker: u16, address: IpAddr) -> Option<LegId> {
        let share = &self.shares[usize::from(worker)];
        let kept = self.reserved.min(share.slots.len() / 2);
        let has_more = share.available() > kept;
        has_more.then(|| self.take_but(worker, address, kept)).flatten()
    }

    /// The same for an urgent call; `None`: exhausted.
    pub fn take_reserved(&mut self, worker: u16, address: IpAddr) -> Option<LegId> {
        self.take_but(worker, address, 0)
    }

    /// `kept`: slots bound ahead that are left alone while there are others.
    fn take_but(&mut self, worker: u16, address: IpAddr, kept: usize) -> Option<LegId> {
        let share = &mut self.shares[usize::from(worker)];
        let index = share.pick(address, kept.min(self.ahead / 2))?;
        let slot = &mut share.slots[index as usize];
        // What was bound ahead is known to the worker by its number.
        if slot.state == State::Idle {
            slot.generation = slot.generation.wrapping_add(1);
        }
        slot.state = State::Taken;
        Some(LegId { worker, slot: index, generation: slot.generation })
    }

    /// Gives a slot back. Twice is a bug and panics.
    pub fn give_back(&mut self, leg: LegId) {
        let share = &mut self.shares[usize::from(leg.worker)];
        let slot = &mut share.slots[leg.slot as usize];
        let is_taken = matches!(slot.state, State::Taken | State::Occupied(_));
        assert!(is_taken && slot.generation == leg.generation, "a port pair was given back twice");
        match std::mem::take(&mut slot.state) {
            State::Occupied(until) => share.resting.push_back((until, leg.slot)),
            State::Idle | State::Ahead | State::Taken => share.free.push_back(leg.slot),
        }
    }

    /// The next slot to be bound ahead of its leg, and on which address. To be asked until `None`.
    pub fn next_to_bind(&mut self, now: Instant) -> Option<(LegId, IpAddr)> {
        let ahead = self.ahead;
        (0..).zip(&mut self.shares).find_map(|(worker, share)| {
            let (slot, generation, address) = share.next_to_bind(now, ahead)?;
            Some((LegId { worker, slot, generation }, address))
        })
    }

    /// The ports of this slot could not be bound: whether it is taken or not, it rests for a minute, in which it is the
    /// last to be taken. `false`: that was known, or is about an earlier user of the slot.
    pub fn failed(&mut self, now: Instant, leg: LegId) -> bool {
        let share = &mut self.shares[usize::from(leg.worker)];
        let slot = &mut share.slots[leg.slot as usize];
        if slot.generation != leg.generation {
            return false;
        }
        let until = now + REST;
        match slot.state {
            State::Idle | State::Occupied(_) => return false,
            State::Taken => slot.state = State::Occupied(until),
            State::Ahead => {
                slot.state = State::Idle;
                share.ahead.iter_mut().for_each(|(_, slots)| slots.retain(|index| *index != leg.slot));
                share.resting.push_back((until, leg.slot));
            }
        }
        share.paused_until = now + PAUSE;
        true
    }

    /// Nothing is bound ahead for this worker for a second.
    pub fn pause(&mut self, now: Instant, worker: u16) {
        self.shares[usize::from(worker)].paused_until = now + PAUSE;
    }

    /// The worker with the most free slots, the first of several.
    pub fn roomiest(&self) -> u16 {
        (0..self.workers()).rev().max_by_key(|worker| self.free(*worker)).unwrap_or_default()
    }

    /// Whether this worker has slots for a whole call, however many media sections it has.
    pub fn has_room(&self, worker: u16) -> bool {
        self.shares[usize::from(worker)].available() >= self.reserved + 2 * limits::MEDIA_SECTIONS_MAX
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
        self.shares[usize::from(worker)].available()
    }

    pub fn taken(&self) -> usize {
        self.shares.iter().map(|share| share.slots.len() - share.available()).sum()
    }
}

impl Share {
    fn new(first_port: u32, slots: u32) -> Self {
        Self {
            // An empty share may begin past the last port; it has no slot that could be asked for.
            first_port: u16::try_from(first_port).unwrap_or(u16::MAX),
            slots: vec![Slot::default(); slots as usize],
            free: (0..slots).collect(),
            ahead: Vec::new(),
            resting: VecDeque::new(),
            paused_until: Instant::default(),
        }
    }

    /// Slots that no leg has.
    fn available(&self) -> usize {
        let ahead: usize = self.ahead.iter().map(|(_, slots)| slots.len()).sum();
        self.free.len() + self.resting.len() + ahead
    }

    /// The slot whose ports are most likely ours: one bound on this address, one that nobody has tried, one bound on
    /// another address, and last one that has failed.
    fn pick(&mut self, address: IpAddr, kept: usize) -> Option<u32> {
        let own = self.ahead.iter().position(|(bound_on, _)| *bound_on == address);
        let has_more = own.is_some_and(|at| self.ahead[at].1.len() > kept);
        let bound = |share: &mut Self| own.and_then(|at| share.ahead[at].1.pop_front());
        if has_more {
            return bound(self);
        }
        let other = |share: &mut Self| share.ahead.iter_mut().find_map(|(_, slots)| slots.pop_front());
        let untried = self.free.pop_front().or_else(|| bound(self)).or_else(|| other(self));
        untried.or_else(|| self.resting.pop_front().map(|(_, slot)| slot))
    }

    /// Slot, generation and address; the slot is counted as bound.
    fn next_to_bind(&mut self, now: Instant, ahead: usize) -> Option<(u32, u32, IpAddr)> {
        while let Some((_, rested)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.free.push_back(rested);
        }
        if now < self.paused_until {
            return None;
        }
        // Each address has its part even of a small range.
        let most = ahead.min(self.slots.len() / self.ahead.len().max(1));
        let (address, slots) = self.ahead.iter_mut().find(|(_, slots)| slots.len() < most)?;
        let index = self.free.pop_front()?;
        slots.push_back(index);
        let slot = &mut self.slots[index as usize];
        *slot = Slot { generation: slot.generation.wrapping_add(1), state: State::Ahead };
        Some((index, slot.generation, *address))
    }
}

/// The RTP port of a slot in a range that begins at `first_port`.
pub fn rtp_port(first_port: u16, slot: u32) -> u16 {
    u16::try_from(u32::from(first_port) + 2 * slot).expect("slots end with the port range")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::Ipv4Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SIX: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn at(s: u64) -> Instant {
        Instant::from_unix_ms(1_000 * (1_700_000_000 + s))
    }

    #[test]
    fn ranges_of_workers_are_even_and_disjoint() {
        let mut ports = Ports::new(&(20_001..=20_012), 2);
        let mut seen = HashSet::new();
        for worker in 0..2 {
            while let Some(leg) = ports.take(worker, HERE) {
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
        let (a, b) = (ports.take(0, HERE).unwrap(), ports.take(0, HERE).unwrap());
        assert_eq!((ports.take(0, HERE), ports.taken()), (None, 2));
        ports.give_back(b);
        ports.give_back(a);
        assert_eq!(ports.taken(), 0);
        assert_eq!(ports.take(0, HERE).map(|leg| leg.slot), Some(b.slot), "first freed, first reused");
    }

    #[test]
    fn successive_users_of_a_slot_differ_in_generation() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let first = ports.take(0, HERE).unwrap();
        ports.give_back(first);
        let second = ports.take(0, HERE).unwrap();
        assert_eq!(first.slot, second.slot);
        assert_ne!(first.generation, second.generation);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_panics() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let leg = ports.take(0, HERE).unwrap();
        ports.give_back(leg);
        ports.give_back(leg);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_an_earlier_generation_panics() {
        let mut ports = Ports::new(&(10_000..=10_001), 1);
        let leg = ports.take(0, HERE).unwrap();
        ports.give_back(leg);
        ports.take(0, HERE).unwrap();
        ports.give_back(leg);
    }

    #[test]
    fn the_roomiest_worker_has_the_most_free_slots() {
        let mut ports = Ports::new(&(10_000..=10_007), 2);
        assert_eq!(ports.roomiest(), 0);
        ports.take(0, HERE).unwrap();
        assert_eq!(ports.roomiest(), 1);
        ports.take(1, HERE).unwrap();
        ports.take(1, HERE).unwrap();
        assert_eq!(ports.roomiest(), 0);
    }

    #[test]
    fn what_is_reserved_is_for_urgent_calls_and_at_most_half_of_a_worker() {
        let mut ports = Ports::new(&(10_000..=10_015), 2).reserving(2);
        for _ in 0..2 {
            ports.take(0, HERE).unwrap();
        }
        assert_eq!(ports.take(0, HERE), None);
        assert!(ports.take(1, HERE).is_some(), "each worker has its own");
        let urgent = ports.take_reserved(0, HERE).unwrap();
        assert!(ports.take_reserved(0, HERE).is_some());
        assert_eq!(ports.take_reserved(0, HERE), None);
        ports.give_back(urgent);
        assert_eq!(ports.take(0, HERE), None, "what comes back is reserved first");
        let mut small = Ports::new(&(10_000..=10_003), 1).reserving(100);
        assert!(small.take(0, HERE).is_some());
        assert_eq!(small.take(0, HERE), None);
    }

    /// One worker with so many slots, and those that it was told to bind.
    fn ahead(slots: u16, addresses: &[IpAddr]) -> (Ports, Vec<(LegId, IpAddr)>) {
        let mut ports = Ports::new(&(10_000..=9_999 + 2 * slots), 1).binding_ahead(addresses);
        let bound = bind(&mut ports, at(0));
        (ports, bound)
    }

    fn bind(ports: &mut Ports, now: Instant) -> Vec<(LegId, IpAddr)> {
        std::iter::from_fn(|| ports.next_to_bind(now)).collect()
    }

    #[test]
    fn a_leg_gets_the_slot_bound_longest_ago_on_its_address_and_another_is_bound() {
        let (mut ports, bound) = ahead(500, &[HERE, SIX]);
        assert_eq!((bound.len(), ports.taken()), (2 * AHEAD, 0), "what is bound ahead is nobody's yet");
        let of = |address| bound.iter().filter(move |(_, on)| *on == address).map(|(leg, _)| *leg);
        assert_eq!((of(HERE).count(), of(SIX).count()), (AHEAD, AHEAD));
        let taken = ports.take(0, SIX);
        assert_eq!((taken, ports.taken()), (of(SIX).next(), 1));
        let next = bind(&mut ports, at(0));
        assert_eq!(next.iter().map(|(_, on)| *on).collect::<Vec<_>>(), [SIX]);
        ports.give_back(taken.unwrap());
        assert_eq!(bind(&mut ports, at(0)), []);
    }

    #[test]
    fn a_port_of_another_program_is_passed_over_for_a_minute_and_then_tried_again() {
        let (mut ports, bound) = ahead(100, &[HERE]);
        assert!(ports.failed(at(0), bound[0].0) && !ports.failed(at(0), bound[0].0), "it is counted once");
        assert_eq!(ports.take(0, HERE), Some(bound[1].0));
        assert_eq!(bind(&mut ports, at(0)), [], "all may fail");
        assert_eq!(bind(&mut ports, at(1)).len(), 2);
        let rest: Vec<_> = std::iter::from_fn(|| ports.take(0, HERE)).collect();
        assert_eq!((rest.len(), rest.last().map(|leg| leg.slot)), (99, Some(bound[0].0.slot)), "better than none");

        let (mut ports, bound) = ahead(3, &[HERE]);
        assert!(ports.failed(at(0), bound[1].0));
        assert_eq!(bind(&mut ports, at(59)), []);
        let again: Vec<_> = bind(&mut ports, at(60)).iter().map(|(leg, _)| leg.slot).collect();
        assert_eq!(again, [bound[1].0.slot]);
    }

    #[test]
    fn a_port_that_fails_its_leg_rests_when_it_is_given_back() {
        let mut ports = Ports::new(&(10_000..=10_003), 1);
        let (a, b) = (ports.take(0, HERE).unwrap(), ports.take(0, HERE).unwrap());
        assert!(ports.failed(at(0), a) && !ports.failed(at(0), a));
        assert!(!ports.failed(at(0), LegId { generation: 7, ..b }), "of an earlier user");
        ports.give_back(a);
        ports.give_back(b);
        assert_eq!(ports.taken(), 0);
        assert_eq!(ports.take(0, HERE).map(|leg| leg.slot), Some(b.slot));
        assert_eq!(ports.take(0, HERE).map(|leg| leg.slot), Some(a.slot));
    }

    #[test]
    fn ordinary_calls_leave_urgent_ones_slots_that_are_bound() {
        let (ports, bound) = ahead(100, &[HERE]);
        let mut ports = ports.reserving(4);
        let ordinary: Vec<_> = (0..AHEAD).map(|_| ports.take(0, HERE).unwrap()).collect();
        assert!(bound[..AHEAD - 4].iter().map(|(leg, _)| leg).eq(&ordinary[..AHEAD - 4]));
        assert!(bound[AHEAD - 4..].iter().all(|(leg, _)| !ordinary.contains(leg)));
        assert_eq!(ports.take_reserved(0, HERE), Some(bound[AHEAD - 4].0));
    }

    #[test]
    fn a_small_range_is_bound_in_equal_parts_and_all_of_it_can_be_taken() {
        let (mut ports, bound) = ahead(4, &[HERE, SIX]);
        assert_eq!(bound.iter().filter(|(_, on)| *on == HERE).count(), 2);
        assert_eq!((bound.len(), std::iter::from_fn(|| ports.take(0, HERE)).count()), (4, 4));
        assert_eq!((ports.taken(), bind(&mut ports, at(0))), (4, Vec::new()));
    }

    #[test]
    fn many_workers_share_what_is_bound_ahead() {
        for (workers, each) in [(1, AHEAD), (4, AHEAD / 4), (32, AHEAD_MIN)] {
            let mut ports = Ports::new(&(10_000..=29_999), workers).binding_ahead(&[HERE]);
            let bound = bind(&mut ports, at(0));
            for worker in 0..workers {
                assert_eq!(bound.iter().filter(|(leg, _)| leg.worker == worker).count(), each);
            }
        }
    }

    #[test]
    fn the_range_may_end_with_the_last_port() {
        let mut ports = Ports::new(&(65_534..=65_535), 3);
        assert_eq!(ports.take(0, HERE).map(|leg| ports.rtp_port(leg)), Some(65_534));
        assert_eq!((ports.take(1, HERE), ports.take(2, HERE)), (None, None));
    }
}
