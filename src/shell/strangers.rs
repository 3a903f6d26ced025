//! Datagrams of senders that the core knows nothing of, which wait until nobody else does.
//!
//! A flood takes what time is left over, and not that of telephones in use, calls and trunks. Among strangers each source has
//! its turn (stochastic fairness queueing, McKenney 1990: sources share a fixed number of queues), so a flood from few addresses
//! keeps few others waiting, and what is too much is dropped where most waits. Emergency calls have queues of their own, which
//! alternate with the others: neither waits behind a flood of the other kind.
//!
//! Connections do not wait here: their inputs must keep their order, and each holds no more than one message.

use std::{
    array,
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
};

use bytes::Bytes;

use crate::types::{
    Flow,
    limits::{STRANGERS_BYTES_MAX, STRANGERS_WAITING_MAX},
};

/// What is known of a datagram by its first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Emergency,
    Other,
}

pub(super) type Datagram = (Flow, Bytes);

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    emergencies: Queues,
    others: Queues,
    /// Whose turn it is.
    is_turn_of_others: bool,
}

impl Strangers {
    /// Returns what was dropped for it, which may be itself.
    #[must_use]
    pub(super) fn push(&mut self, kind: Kind, datagram: Datagram) -> Option<Datagram> {
        match kind {
            Kind::Emergency => self.emergencies.push(datagram),
            Kind::Other => self.others.push(datagram),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Datagram> {
        self.is_turn_of_others = !self.is_turn_of_others;
        let (first, second) = match self.is_turn_of_others {
            true => (&mut self.others, &mut self.emergencies),
            false => (&mut self.emergencies, &mut self.others),
        };
        first.pop().or_else(|| second.pop())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.emergencies.len + self.others.len == 0
    }
}

/// Sources whose hashes agree share a queue.
const QUEUES: usize = 256;

#[derive(Debug)]
struct Queues {
    queues: [VecDeque<Datagram>; QUEUES],
    /// Those with datagrams, in the order of their turns.
    turns: VecDeque<usize>,
    len: usize,
    bytes: usize,
    /// Nobody outside knows which sources share a queue.
    hasher: RandomState,
}

impl Default for Queues {
    fn default() -> Self {
        Self {
            queues: array::from_fn(|_| VecDeque::new()),
            turns: VecDeque::new(),
            len: 0,
            bytes: 0,
            hasher: RandomState::new(),
        }
    }
}

impl Queues {
    fn push(&mut self, datagram: Datagram) -> Option<Datagram> {
        let index = self.queue_of(&datagram.0);
        if self.queues[index].is_empty() {
            self.turns.push_back(index);
        }
        self.len += 1;
        self.bytes += datagram.1.len();
        self.queues[index].push_back(datagram);
        let is_too_much = self.len > STRANGERS_WAITING_MAX || self.bytes > STRANGERS_BYTES_MAX;
        if is_too_much { self.shorten() } else { None }
    }

    fn pop(&mut self) -> Option<Datagram> {
        let index = self.turns.pop_front()?;
        let datagram = self.take(index);
        if !self.queues[index].is_empty() {
            self.turns.push_back(index);
        }
        datagram
    }

    /// Drops the oldest where most wait: whoever sent it has sent it again by now, or does not wait for it.
    fn shorten(&mut self) -> Option<Datagram> {
        let longest = self.turns.iter().copied().max_by_key(|index| self.queues[*index].len())?;
        let datagram = self.take(longest);
        if self.queues[longest].is_empty() {
            self.turns.retain(|index| *index != longest);
        }
        datagram
    }

    fn take(&mut self, index: usize) -> Option<Datagram> {
        let datagram = self.queues[index].pop_front()?;
        self.len -= 1;
        self.bytes -= datagram.1.len();
        Some(datagram)
    }

    fn queue_of(&self, flow: &Flow) -> usize {
        usize::try_from(self.hasher.hash_one(flow.source()) % QUEUES as u64).expect("one of few")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnectionId, Transport};

    fn datagram(source: &str, n: usize) -> Datagram {
        let local = "192.0.2.1:5060".parse().unwrap();
        let remote = format!("{source}:5060").parse().unwrap();
        let flow = Flow { transport: Transport::Udp, local, remote, connection: ConnectionId::NONE };
        (flow, Bytes::from(n.to_string()))
    }

    /// The numbers that are left, in their order.
    fn drain(strangers: &mut Strangers) -> Vec<usize> {
        std::iter::from_fn(|| strangers.pop())
            .map(|(_, bytes)| str::from_utf8(&bytes).unwrap().parse().unwrap())
            .collect()
    }

    /// A source that shares no queue with this one.
    fn other_than(strangers: &Strangers, source: &str) -> String {
        let queue = |source: &str| strangers.others.queue_of(&datagram(source, 0).0);
        let mut candidates = (1..=254).map(|n| format!("198.51.100.{n}"));
        candidates.find(|other| queue(other) != queue(source)).expect("one of so many")
    }

    #[test]
    fn each_source_has_its_turn_and_keeps_its_order() {
        let mut strangers = Strangers::default();
        let other = other_than(&strangers, "192.0.2.7");
        for n in 1..=4 {
            assert_eq!(strangers.push(Kind::Other, datagram("192.0.2.7", n)), None);
        }
        for n in [10, 11] {
            assert_eq!(strangers.push(Kind::Other, datagram(&other, n)), None);
        }
        assert_eq!(drain(&mut strangers), [1, 10, 2, 11, 3, 4]);
        assert!(strangers.is_empty());
    }

    #[test]
    fn emergency_calls_and_others_alternate() {
        let mut strangers = Strangers::default();
        for n in 1..=3 {
            assert_eq!(strangers.push(Kind::Other, datagram("192.0.2.7", n)), None);
            assert_eq!(strangers.push(Kind::Emergency, datagram("192.0.2.7", 10 * n)), None);
        }
        assert_eq!(strangers.push(Kind::Other, datagram("192.0.2.7", 4)), None);
        assert_eq!(drain(&mut strangers), [1, 10, 2, 20, 3, 30, 4]);
    }

    #[test]
    fn what_is_too_much_is_dropped_from_whoever_sends_most() {
        let mut strangers = Strangers::default();
        let other = other_than(&strangers, "192.0.2.7");
        for n in 0..STRANGERS_WAITING_MAX {
            assert_eq!(strangers.push(Kind::Other, datagram("192.0.2.7", n)), None, "the maximum itself");
        }
        assert_eq!(strangers.push(Kind::Other, datagram(&other, 1_000_000)), Some(datagram("192.0.2.7", 0)));
        assert_eq!(strangers.push(Kind::Emergency, datagram(&other, 1_000_001)), None, "a flood of another kind");
        let left = drain(&mut strangers);
        assert_eq!(left.len(), STRANGERS_WAITING_MAX + 1);
        assert!(left[..3].contains(&1_000_000) && left[..2].contains(&1_000_001), "{:?}", &left[..3]);
    }

    #[test]
    fn large_datagrams_are_bounded_by_their_bytes() {
        let mut strangers = Strangers::default();
        let large = || (datagram("192.0.2.7", 0).0, Bytes::from(vec![0; 65_000]));
        let dropped = (0..1_000).filter(|_| strangers.push(Kind::Other, large()).is_some()).count();
        assert_eq!(dropped, 1_000 - STRANGERS_BYTES_MAX / 65_000);
        let kept = std::iter::from_fn(|| strangers.pop()).count();
        assert_eq!((kept, strangers.others.bytes), (STRANGERS_BYTES_MAX / 65_000, 0));
        assert!(strangers.others.turns.is_empty());
    }
}
