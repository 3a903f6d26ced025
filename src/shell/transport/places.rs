//! Places for accepted connections, or for handshakes, of which there is a limited number. When all are taken, whoever has had
//! one longest without proving who he is makes room for the next: connections that say nothing keep nobody out.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    /// Ids grow with time. Dropping the sender tells that the place is somebody else's.
    unproven: BTreeMap<ConnectionId, oneshot::Sender<()>>,
    proven: BTreeSet<ConnectionId>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    connection: ConnectionId,
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

    /// `None`: all are taken by those who have proven themselves.
    pub(super) fn take(self: &Arc<Self>, connection: ConnectionId) -> Option<Place> {
        let mut taken = self.taken();
        let is_full = taken.len() >= self.max;
        if is_full {
            taken.unproven.pop_first()?;
        }
        let (sender, lost) = oneshot::channel();
        taken.unproven.insert(connection, sender);
        Some(Place { places: Arc::clone(self), connection, lost: Some(lost), is_anothers: is_full })
    }

    /// Whose connection this is, is known: it keeps its place.
    pub(super) fn prove(&self, connection: ConnectionId) {
        let mut taken = self.taken();
        if let Some(sender) = taken.unproven.remove(&connection) {
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
        self.unproven.len() + self.proven.len()
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
        taken.unproven.remove(&self.connection);
        taken.proven.remove(&self.connection);
        if taken.len() == 0 {
            self.places.is_emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use super::*;

    fn id(n: u64) -> ConnectionId {
        ConnectionId(n)
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
    async fn the_oldest_that_has_proven_nothing_makes_room_and_nobody_else() {
        let places = Places::new(3);
        let [mut first, mut second, mut third] = [1, 2, 3].map(|n| places.take(id(n)).unwrap());
        assert!(!first.is_anothers && !third.is_anothers, "the maximum itself");
        places.prove(id(1));
        let mut fourth = places.take(id(4)).unwrap();
        assert!(fourth.is_anothers);
        assert!(is_lost(&mut second).await);
        for (n, place) in [(1, &mut first), (3, &mut third), (4, &mut fourth)] {
            assert!(!is_lost(place).await, "{n}");
        }
        drop(second);
        assert!(places.take(id(5)).unwrap().is_anothers, "its place is the fourth's");
    }

    #[tokio::test]
    async fn those_who_have_proven_themselves_keep_the_rest_out_until_one_leaves() {
        let places = Places::new(2);
        let [first, mut second] = [1, 2].map(|n| places.take(id(n)).unwrap());
        for n in [1, 2] {
            places.prove(id(n));
        }
        assert!(places.take(id(3)).is_none());
        assert!(!is_lost(&mut second).await, "not even once it was asked");
        assert!(!is_lost(&mut second).await, "nor again");
        drop(first);
        assert!(!places.take(id(4)).unwrap().is_anothers);
    }

    #[tokio::test]
    async fn it_is_told_when_the_last_has_left() {
        let places = Places::new(2);
        places.emptied().await;
        let [first, second] = [1, 2].map(|n| places.take(id(n)).unwrap());
        places.prove(id(2));
        let mut emptied = pin!(places.emptied());
        assert!(!is_ready(emptied.as_mut()).await);
        drop(first);
        assert!(!is_ready(emptied.as_mut()).await);
        drop(second);
        assert!(is_ready(emptied.as_mut()).await);
    }
}
