//! Flows that must be heard of: a device that was told a Flow-Timer and says nothing for longer has no working connection
//! any more, whatever TCP still believes (RFC 5626 section 4.4).

use std::collections::{BTreeSet, HashMap};

use crate::types::{
    ConnectionId, Duration, Flow, Instant,
    limits::{FLOW_TIMER_GRACE_S, FLOW_TIMER_S},
};

/// From the last sign of life to the end of a flow.
const SILENCE_MAX: Duration = Duration::from_secs(FLOW_TIMER_S as u64 + FLOW_TIMER_GRACE_S);

/// Open connections that are to be kept alive by their device.
#[derive(Debug, Default)]
pub(super) struct KeepAlives {
    watched: HashMap<ConnectionId, Watched>,
    /// When each is looked at next.
    looks: BTreeSet<(Instant, ConnectionId)>,
}

#[derive(Debug)]
struct Watched {
    flow: Flow,
    heard_at: Instant,
    look_at: Instant,
}

impl KeepAlives {
    /// The device was told to keep this flow alive.
    pub(super) fn watch(&mut self, now: Instant, flow: Flow) {
        let look_at = now + SILENCE_MAX;
        let is_new = self.watched.insert(flow.connection, Watched { flow, heard_at: now, look_at });
        if let Some(Watched { look_at, .. }) = is_new {
            self.looks.remove(&(look_at, flow.connection));
        }
        self.looks.insert((look_at, flow.connection));
    }

    /// Anything has arrived. This costs no more than finding the flow: whether it is late is seen when its time has come.
    pub(super) fn heard(&mut self, now: Instant, flow: &Flow) {
        if let Some(watched) = self.watched.get_mut(&flow.connection) {
            watched.heard_at = now;
        }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if let Some(Watched { look_at, .. }) = self.watched.remove(&connection) {
            self.looks.remove(&(look_at, connection));
        }
    }

    /// The next flow that has been silent for too long. One that is not forgotten then has as much time again.
    pub(super) fn next_silent(&mut self, now: Instant) -> Option<Flow> {
        loop {
            let &(at, connection) = self.looks.first().filter(|(at, _)| *at <= now)?;
            self.looks.remove(&(at, connection));
            let watched = self.watched.get_mut(&connection).expect("what is looked at is watched");
            let is_silent = watched.heard_at + SILENCE_MAX <= now;
            watched.look_at = if is_silent { now } else { watched.heard_at } + SILENCE_MAX;
            self.looks.insert((watched.look_at, connection));
            if is_silent {
                return Some(watched.flow);
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Transport;

    fn flow(connection: u64) -> Flow {
        let address = "192.0.2.1:5061".parse().unwrap();
        Flow { transport: Transport::Tls, local: address, remote: address, connection: ConnectionId(connection) }
    }

    fn at(s: u64) -> Instant {
        Instant::from_unix_ms(1_700_000_000_000) + Duration::from_secs(s)
    }

    #[test]
    fn a_flow_is_silent_when_its_timer_and_the_grace_are_over_and_not_before() {
        let mut flows = KeepAlives::default();
        flows.watch(at(0), flow(1));
        flows.watch(at(0), flow(2));
        assert_eq!(flows.next_silent(at(149)), None);
        flows.heard(at(149), &flow(1));
        flows.heard(at(149), &flow(3));
        assert_eq!(flows.next_timeout(), Some(at(150)));
        assert_eq!(flows.next_silent(at(150)), Some(flow(2)));
        assert_eq!(flows.next_silent(at(150)), None);
        flows.forget(ConnectionId(2));
        assert_eq!(flows.next_timeout(), Some(at(299)));
        assert_eq!(flows.next_silent(at(299)), Some(flow(1)));
        assert_eq!(flows.next_silent(at(300)), None, "as much time again");
        assert_eq!(flows.next_silent(at(449)), Some(flow(1)));
        flows.forget(ConnectionId(1));
        assert_eq!((flows.next_timeout(), flows.watched.len()), (None, 0));
    }

    #[test]
    fn a_refresh_watches_a_flow_once() {
        let mut flows = KeepAlives::default();
        flows.watch(at(0), flow(1));
        flows.watch(at(100), flow(1));
        assert_eq!(flows.looks.len(), 1);
        assert_eq!(flows.next_silent(at(249)), None);
        assert_eq!(flows.next_silent(at(250)), Some(flow(1)));
    }
}
