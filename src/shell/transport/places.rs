//! Places for accepted connections, or for handshakes, of which there is a limited number. When all are taken, the next is made room for
//! by the source that has most of them without having proven who it is, the one that it has had longest first. So connections
//! that say nothing keep nobody out, and a flood of them closes its own, not those of others that have just connected.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use crate::types::ConnectionId;

#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
    is_emptied: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    unproven: Unproven,
    proven: BTreeSet<ConnectionId>,
}

/// The places of those who have proven nothing. Every change takes logarithmic time, whatever strangers do.
#[derive(Debug, Default)]
struct Unproven {
    /// By source (`network_of` its address); ids grow with time. Dropping the sender tells that the place is somebody else's.
    holders: BTreeMap<Holder, oneshot::Sender<()>>,
    /// How many each source has; one without any has no entry.
    counts: HashMap<IpAddr, usize>,
    /// Of each source that number and its oldest connection: whose turn it is to make room stands last.
    order: BTreeSet<(usize, Reverse<ConnectionId>, IpAddr)>,
}

type Holder = (IpAddr, ConnectionId);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    holder: Holder,
    /// `None`: its holder has proven himself.
    lost: Option<oneshot::Receiver<()>>,
    /// Somebody else's place was taken for it.
    pub(super) is_anothers: bool,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default(), is_emptied: Notify::new() })
    }

    #[cfg(test)]
    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// `source`: as `network_of` says. `None`: all are taken by those who have proven themselves.
    pub(super) fn take(self: &Arc<Self>, source: IpAddr, connection: ConnectionId) -> Option<Place> {
        let holder = (source, connection);
        let mut taken = self.taken();
        let is_full = taken.len() >= self.max;
        let (sender, lost) = oneshot::channel();
        taken.unproven.insert(holder, sender);
        // The newcomer counts: who has as many as anybody, and wants another, makes room for himself.
        if is_full && taken.unproven.pop() == Some(holder) {
            return None;
        }
        Some(Place { places: Arc::clone(self), holder, lost: Some(lost), is_anothers: is_full })
    }

    /// Whose connection this is, is known: it keeps its place.
    pub(super) fn prove(&self, source: IpAddr, connection: ConnectionId) {
        let mut taken = self.taken();
        if let Some(sender) = taken.unproven.remove((source, connection)) {
            // Nobody waits for what will not come any more.
            let _ = sender.send(());
            taken.proven.insert(connection);
        }
    }

    /// Waits until none is taken.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.is_emptied.notified();
            if self.taken().len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Each change is whole before anything can panic.
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn len(&self) -> usize {
        self.unproven.holders.len() + self.proven.len()
    }
}

impl Unproven {
    fn insert(&mut self, holder: Holder, sender: oneshot::Sender<()>) {
        let (source, _) = holder;
        self.leave_order(source);
        self.holders.insert(holder, sender);
        *self.counts.entry(source).or_default() += 1;
        self.enter_order(source);
    }

    fn remove(&mut self, holder: Holder) -> Option<oneshot::Sender<()>> {
        let (source, _) = holder;
        if !self.holders.contains_key(&holder) {
            return None;
        }
        self.leave_order(source);
        let sender = self.holders.remove(&holder);
        if let Entry::Occupied(mut count) = self.counts.entry(source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.enter_order(source);
        sender
    }

    /// Takes the oldest place of the source that has most; of equals, of the one whose oldest is the oldest.
    fn pop(&mut self) -> Option<Holder> {
        let (_, Reverse(connection), source) = *self.order.last()?;
        self.remove((source, connection));
        Some((source, connection))
    }

    fn leave_order(&mut self, source: IpAddr) {
        if let Some(rank) = self.rank(source) {
            self.order.remove(&rank);
        }
    }

    fn enter_order(&mut self, source: IpAddr) {
        self.order.extend(self.rank(source));
    }

    /// `None`: the source has no place.
    fn rank(&self, source: IpAddr) -> Option<(usize, Reverse<ConnectionId>, IpAddr)> {
        let count = *self.counts.get(&source)?;
        let ((_, oldest), _) = self.holders.range((source, ConnectionId(0))..).next()?;
        Some((count, Reverse(*oldest), source))
    }
}

impl Place {
    /// Returns when the place is somebody else's, and never where its holder has proven himself.
    pub(super) async fn lost(&mut self) {
        if let Some(lost) = &mut self.lost
            && lost.await.is_err()
        {
            return;
        }
        self.lost = None;
        std::future::pending().await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if taken.unproven.remove(self.holder).is_none() {
            taken.proven.remove(&self.holder.1);
        }
        if taken.len() == 0 {
            self.places.is_emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use proptest::prelude::*;

    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId(n)
    }

    fn source(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    async fn is_ready(future: Pin<&mut impl Future<Output = ()>>) -> bool {
        tokio::select! {
            biased;
            () = future => true,
            () = std::future::ready(()) => false,
        }
    }

    async fn is_lost(place: &mut Place) -> bool {
        is_ready(pin!(place.lost())).await
    }

    #[tokio::test]
    async fn of_sources_with_one_each_the_oldest_that_has_proven_nothing_makes_room_and_nobody_else() {
        let places = Places::new(3);
        let [mut first, mut second, mut third] = [1, 2, 3].map(|n| places.take(source(n), id(n.into())).unwrap());
        assert!(!first.is_anothers && !third.is_anothers, "the maximum itself");
        places.prove(source(1), id(1));
        let mut fourth = places.take(source(4), id(4)).unwrap();
        assert!(fourth.is_anothers);
        assert!(is_lost(&mut second).await);
        for (n, place) in [(1, &mut first), (3, &mut third), (4, &mut fourth)] {
            assert!(!is_lost(place).await, "{n}");
        }
        drop(second);
        assert!(places.take(source(5), id(5)).unwrap().is_anothers, "its place is the fourth's");
    }

    /// Sources of those who connect one after the other, as many as there are places; then of one more, and which loses its place.
    #[test]
    fn the_source_with_most_makes_room_with_its_oldest() {
        for (takers, proven, next, loser) in [
            ("ab", "", 'c', Some(1)),
            ("abb", "", 'c', Some(2)),
            ("bba", "", 'c', Some(1)),
            ("abba", "", 'c', Some(1)),
            ("baab", "", 'c', Some(1)),
            ("caabb", "", 'd', Some(2)),
            // What is known to be somebody's does not count.
            ("aaabb", "12", 'c', Some(4)),
            ("aab", "1", 'c', Some(2)),
            ("aab", "123", 'c', None),
            // The next counts, too.
            ("ab", "", 'b', Some(2)),
            ("abb", "23", 'b', Some(1)),
            ("bb", "1", 'b', Some(2)),
            ("aabb", "", 'b', Some(3)),
        ] {
            let places = Places::new(takers.len());
            let source = |taker: char| source(u8::try_from(taker).unwrap());
            let connections = (1..).zip(takers.chars()).map(|(n, taker)| (source(taker), id(n)));
            let held: Vec<_> = connections.clone().map(|(source, id)| places.take(source, id).unwrap()).collect();
            for (n, taker) in (1..).zip(takers.chars()).filter(|(n, _)| proven.contains(&n.to_string())) {
                places.prove(source(taker), id(n));
            }
            let newcomer = places.take(source(next), id(100));
            let has_place = |(source, id): (IpAddr, ConnectionId)| {
                let taken = places.taken();
                taken.unproven.holders.contains_key(&(source, id)) || taken.proven.contains(&id)
            };
            let lost: Vec<_> = (1_u64..).zip(connections).filter(|(_, c)| !has_place(*c)).map(|(n, _)| n).collect();
            assert_eq!(lost, Vec::from_iter(loser), "{takers} {proven} {next}");
            assert_eq!(newcomer.is_some(), loser.is_some(), "{takers} {proven} {next}");
            drop((held, newcomer));
            let left = std::mem::take(&mut *places.taken());
            assert!(left.len() == 0 && left.unproven.counts.is_empty() && left.unproven.order.is_empty());
        }
    }

    #[tokio::test]
    async fn those_who_have_proven_themselves_keep_the_rest_out_until_one_leaves() {
        let places = Places::new(2);
        let [first, mut second] = [1, 2].map(|n| places.take(source(1), id(n)).unwrap());
        for n in [1, 2] {
            places.prove(source(1), id(n));
        }
        assert!(places.take(source(2), id(3)).is_none());
        assert!(!is_lost(&mut second).await, "not even once it was asked");
        assert!(!is_lost(&mut second).await, "nor again");
        drop(first);
        assert!(!places.take(source(2), id(4)).unwrap().is_anothers);
    }

    #[tokio::test]
    async fn it_is_told_when_the_last_has_left() {
        let places = Places::new(2);
        places.emptied().await;
        let [first, second] = [1, 2].map(|n| places.take(source(1), id(n)).unwrap());
        places.prove(source(1), id(2));
        let mut emptied = pin!(places.emptied());
        assert!(!is_ready(emptied.as_mut()).await);
        drop(first);
        assert!(!is_ready(emptied.as_mut()).await);
        drop(second);
        assert!(is_ready(emptied.as_mut()).await);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u8),
        /// Of the connections so far.
        Prove(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_u8).prop_map(Step::Take),
            1 => (0..40_usize).prop_map(Step::Prove),
            1 => (0..40_usize).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Whoever loses a place, is the oldest of a source that has at least as many as any other, the newcomer's included.
        #[test]
        fn who_loses_a_place_is_of_a_source_that_has_most(
            max in 1..8_usize,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let places = Places::new(max);
            let mut held: BTreeMap<u64, Place> = BTreeMap::new();
            for (n, step) in (1..).zip(steps) {
                let nth = |index: usize| held.keys().nth(index % held.len().max(1)).copied();
                let before: Vec<Holder> = places.taken().unproven.holders.keys().copied().collect();
                let is_full = places.taken().len() == max;
                match step {
                    Step::Take(of) => {
                        let place = places.take(source(of), id(n));
                        let waiting: Vec<_> = before.iter().copied().chain([(source(of), id(n))]).collect();
                        let lost: Vec<_> =
                            waiting.iter().filter(|h| !places.taken().unproven.holders.contains_key(*h)).collect();
                        prop_assert_eq!(lost.len(), usize::from(is_full));
                        if let [(loser, connection)] = lost[..] {
                            let count = |source: &IpAddr| waiting.iter().filter(|(s, _)| s == source).count();
                            prop_assert!(waiting.iter().all(|(other, _)| count(other) <= count(loser)));
                            prop_assert!(waiting.iter().all(|(s, c)| s != loser || connection <= c));
                            let equals = waiting.iter().filter(|(s, _)| count(s) == count(loser));
                            prop_assert!(equals.map(|(_, c)| c).all(|c| connection <= c), "of equals the oldest");
                            held.remove(&connection.0);
                        }
                        held.extend(place.map(|place| (n, place)));
                    }
                    Step::Prove(index) => {
                        if let Some(of) = nth(index) {
                            let (source, connection) = held[&of].holder;
                            places.prove(source, connection);
                        }
                    }
                    Step::Leave(index) => {
                        let of = nth(index);
                        held.retain(|key, _| Some(*key) != of);
                    }
                }
                prop_assert_eq!(places.taken().len(), held.len());
            }
        }
    }
}
