//! The timers of transactions (RFC 3261 table 4, RFC 6026) and the queue they wait in.
//!
//! Timer C (section 16.6) is missing here because it is none of a transaction: how long a callee may ring is the call's
//! decision ([`limits::RING_S_MAX`](crate::types::limits::RING_S_MAX)), as is how long a re-INVITE may take.

use std::collections::BTreeSet;

use crate::types::{Duration, Instant, TxnId};

/// Estimate of the round-trip time (RFC 3261 section 17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// Longest interval between retransmissions of non-INVITE requests and INVITE responses (section 17.1.2.1).
pub(super) const T2: Duration = Duration::from_secs(4);
/// Longest time a message stays in the network (section 17.1.2.2).
pub(super) const T4: Duration = Duration::from_secs(5);
/// When either side gives up: 64*T1.
pub const T1_64: Duration = Duration::from_secs(32);
/// How long the user of the layer may take before the layer sends 100 (section 17.2.1).
pub(super) const TRYING_AFTER: Duration = Duration::from_millis(200);
/// The same for other requests: when timer E of the client has grown to T2, after 500 ms, 1 s and 2 s (RFC 4320 section 4.1).
pub(super) const NON_INVITE_TRYING_AFTER: Duration = Duration::from_millis(3_500);

/// Timers of an INVITE client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InviteClientTimer {
    /// When to send the INVITE again; unreliable transports only (section 17.1.1.2).
    A,
    /// When to give up waiting for any response (section 17.1.1.2).
    B,
    /// When to stop acknowledging retransmitted final responses; unreliable transports only (section 17.1.1.2).
    D,
    /// When to stop passing up retransmitted 2xx responses (RFC 6026 section 8.4).
    M,
    /// When to give up waiting for the final response of a cancelled INVITE (section 9.1).
    Cancel,
}

/// Timers of a non-INVITE client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NonInviteClientTimer {
    /// When to send the request again; unreliable transports only (section 17.1.2.2).
    E,
    /// When to give up waiting for a final response (section 17.1.2.2).
    F,
    /// When to stop absorbing retransmitted responses; unreliable transports only (section 17.1.2.2).
    K,
}

/// Timers of an INVITE server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum InviteServerTimer {
    /// When to send 100 because the user of the layer has not answered yet (section 17.2.1).
    Trying,
    /// When to send the 2xx again, on any transport (section 13.3.1.4).
    Success,
    /// When to send the final response again; unreliable transports only (section 17.2.1).
    G,
    /// When to give up waiting for the ACK of a final response (section 17.2.1).
    H,
    /// When to stop absorbing retransmitted ACKs; unreliable transports only (section 17.2.1).
    I,
    /// When to stop absorbing retransmitted INVITEs after a 2xx, and to give up waiting for its ACK (RFC 6026 section 8.7).
    L,
}

/// Timers of a non-INVITE server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NonInviteServerTimer {
    /// When to send 100 because the user of the layer has not answered yet (RFC 4320 section 4.1).
    Trying,
    /// When to stop answering retransmitted requests; unreliable transports only (section 17.2.2).
    J,
    /// When no answer is of use any more, because the client has given up (RFC 4320 section 4.2).
    Useless,
}

/// Any timer, with the kind of machine it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    InviteClient(InviteClientTimer),
    NonInviteClient(NonInviteClientTimer),
    InviteServer(InviteServerTimer),
    NonInviteServer(NonInviteServerTimer),
}

impl From<InviteClientTimer> for Timer {
    fn from(timer: InviteClientTimer) -> Self {
        Self::InviteClient(timer)
    }
}

impl From<NonInviteClientTimer> for Timer {
    fn from(timer: NonInviteClientTimer) -> Self {
        Self::NonInviteClient(timer)
    }
}

impl From<InviteServerTimer> for Timer {
    fn from(timer: InviteServerTimer) -> Self {
        Self::InviteServer(timer)
    }
}

impl From<NonInviteServerTimer> for Timer {
    fn from(timer: NonInviteServerTimer) -> Self {
        Self::NonInviteServer(timer)
    }
}

/// The running timers of one transaction, as they stand in the [`Queue`]. No machine runs more than two at a time.
#[derive(Debug, Default)]
pub(super) struct Running([Option<(Timer, Instant)>; 2]);

impl Running {
    fn insert(&mut self, timer: Timer, at: Instant) {
        let free = self.0.iter_mut().find(|place| place.is_none());
        *free.expect("a third timer of a transaction has a place") = Some((timer, at));
    }

    fn take(&mut self, timer: Timer) -> Option<Instant> {
        let is_it = |place: &&mut Option<_>| place.is_some_and(|(running, _)| running == timer);
        self.0.iter_mut().find(is_it)?.take().map(|(_, at)| at)
    }
}

/// When timers are due. Each operation takes logarithmic time, and a cleared timer leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeSet<(Instant, TxnId, Timer)>,
    /// What tests count instead of time.
    #[cfg(test)]
    pub(super) operations: usize,
}

impl Queue {
    /// Starts a timer, or moves it if it runs.
    pub(super) fn set(&mut self, txn: TxnId, running: &mut Running, timer: Timer, at: Instant) {
        self.clear(txn, running, timer);
        running.insert(timer, at);
        self.due.insert((at, txn, timer));
    }

    pub(super) fn clear(&mut self, txn: TxnId, running: &mut Running, timer: Timer) {
        #[cfg(test)]
        {
            self.operations += 1;
        }
        if let Some(at) = running.take(timer) {
            self.due.remove(&(at, txn, timer));
        }
    }

    /// Clears every timer of a transaction.
    pub(super) fn clear_all(&mut self, txn: TxnId, running: &mut Running) {
        for (timer, _) in running.0.into_iter().flatten() {
            self.clear(txn, running, timer);
        }
    }

    /// The earliest timer that is due at `now`. It is to be cleared.
    pub(super) fn due(&self, now: Instant) -> Option<(TxnId, Timer)> {
        self.due.first().filter(|(at, ..)| *at <= now).map(|&(_, txn, timer)| (txn, timer))
    }

    /// When the earliest timer is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Timer = Timer::InviteClient(InviteClientTimer::A);
    const B: Timer = Timer::InviteClient(InviteClientTimer::B);
    const J: Timer = Timer::NonInviteServer(NonInviteServerTimer::J);

    /// A queue and three transactions, of which each is found at its number.
    #[derive(Default)]
    struct Timers {
        queue: Queue,
        running: [Running; 4],
    }

    impl Timers {
        fn set(&mut self, txn: u8, timer: Timer, at_ms: u64) {
            self.queue.set(TxnId(txn.into()), &mut self.running[usize::from(txn)], timer, at(at_ms));
        }

        fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Timer)> {
            let (TxnId(txn), timer) = self.queue.due(at(now_ms))?;
            self.queue.clear(TxnId(txn), &mut self.running[usize::try_from(txn).unwrap()], timer);
            Some((txn, timer))
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_unix_ms(ms)
    }

    #[test]
    fn timers_fire_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(1, B, 30);
        timers.set(2, A, 10);
        assert_eq!(timers.queue.first(), Some(at(10)));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(30), Some((2, A)));
        assert_eq!(timers.pop_due(30), Some((1, B)));
        assert_eq!(timers.pop_due(99), None);
        assert_eq!(timers.queue.first(), None);
    }

    #[test]
    fn setting_a_running_timer_moves_it() {
        let mut timers = Timers::default();
        timers.set(1, A, 10);
        timers.set(1, A, 20);
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(20), Some((1, A)));
        assert_eq!(timers.pop_due(99), None);
    }

    #[test]
    fn clearing_a_transaction_leaves_its_neighbours() {
        let mut timers = Timers::default();
        for txn in 1..=3 {
            timers.set(txn, A, 10);
            timers.set(txn, J, 20);
        }
        timers.queue.clear_all(TxnId(2), &mut timers.running[2]);
        let left: Vec<_> = std::iter::from_fn(|| timers.pop_due(99)).map(|(txn, _)| txn).collect();
        assert_eq!(left, [1, 3, 1, 3]);
    }
}
