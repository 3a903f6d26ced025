//! Datagrams whose source may be forged. An answer to one hits whomever it names, so a source that has not shown that it hears
//! us is never sent more bytes than came in its name, retransmissions included: nobody gains by forging. (RFC 9000 section
//! 8.1 has the same rule for QUIC, with three times as many.) What is held back is asked for again, as over UDP everything is,
//! and by then there is credit for it.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
};

use crate::types::{
    Duration, Flow, FlowKey, Instant,
    limits::{DATAGRAM_CREDIT_BYTES_MAX, DATAGRAM_SOURCES_MAX, PROVEN_S},
};

/// What is known of sources that nobody is registered from.
#[derive(Debug)]
pub(super) struct Sources {
    /// Bytes that came and were not answered with as many, by [`Flow::source`].
    credits: Recent<IpAddr, usize>,
    /// When each address, or the peer of each connection, last showed that it had heard us.
    proven: Recent<FlowKey, Instant>,
}

impl Sources {
    pub(super) fn new(max: usize) -> Self {
        Self { credits: Recent::new(max), proven: Recent::new(max) }
    }

    /// A datagram came in the name of this source.
    pub(super) fn heard(&mut self, flow: &Flow, bytes: usize) {
        let credit = self.credits.entry(flow.source());
        *credit = credit.saturating_add(bytes).min(DATAGRAM_CREDIT_BYTES_MAX);
    }

    /// Whether so many bytes may be sent there; then they are spent.
    pub(super) fn spend(&mut self, flow: &Flow, bytes: usize) -> bool {
        let credit = self.credits.find(&flow.source()).filter(|credit| **credit >= bytes);
        credit.map(|credit| *credit -= bytes).is_some()
    }

    /// What came from there holds something that had been sent there: the nonce of a challenge, or a tag of ours.
    pub(super) fn prove(&mut self, now: Instant, flow: &Flow) {
        if let Some(key) = flow.key() {
            *self.proven.entry(key) = now;
        }
    }

    pub(super) fn is_proven(&mut self, now: Instant, flow: &Flow) -> bool {
        let proven = flow.key().and_then(|key| self.proven.find(&key));
        proven.is_some_and(|at| now.since(*at) < Duration::from_secs(PROVEN_S))
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self::new(DATAGRAM_SOURCES_MAX)
    }
}

/// A table with a maximum; what was entered first makes room.
#[derive(Debug)]
struct Recent<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { values: HashMap::new(), order: VecDeque::new(), max }
    }

    fn find(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key)
    }

    fn entry(&mut self, key: K) -> &mut V {
        if !self.values.contains_key(&key) {
            if self.order.len() >= self.max
                && let Some(first) = self.order.pop_front()
            {
                self.values.remove(&first);
            }
            self.order.push_back(key);
        }
        self.values.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnectionId, Transport};

    fn flow(remote: &str) -> Flow {
        let local = "192.0.2.1:5060".parse().unwrap();
        Flow { transport: Transport::Udp, local, remote: remote.parse().unwrap(), connection: ConnectionId::NONE }
    }

    #[test]
    fn no_more_leaves_than_came_from_any_port_of_the_source() {
        let mut sources = Sources::new(2);
        let (here, there) = (flow("198.51.100.7:5060"), flow("198.51.100.7:1024"));
        assert!(!sources.spend(&here, 1), "nothing came");
        sources.heard(&here, 100);
        assert!(!sources.spend(&here, 101));
        assert!(sources.spend(&there, 60) && sources.spend(&here, 40) && !sources.spend(&here, 1));
        sources.heard(&there, usize::MAX);
        assert!(sources.spend(&here, DATAGRAM_CREDIT_BYTES_MAX) && !sources.spend(&here, 1));
    }

    #[test]
    fn the_first_source_is_forgotten_above_the_maximum_and_not_at_it() {
        let mut sources = Sources::new(2);
        for n in 1..=2 {
            sources.heard(&flow(&format!("198.51.100.{n}:5060")), 10);
        }
        assert!(sources.spend(&flow("198.51.100.1:5060"), 1));
        sources.heard(&flow("198.51.100.3:5060"), 10);
        assert!(!sources.spend(&flow("198.51.100.1:5060"), 1), "and with it what was sent in its name");
        assert!(sources.spend(&flow("198.51.100.2:5060"), 10));
    }

    #[test]
    fn an_address_is_proven_for_its_time_and_its_port_alone() {
        let mut sources = Sources::new(2);
        let (now, here) = (Instant::from_unix_ms(1_700_000_000_000), flow("198.51.100.7:5060"));
        sources.prove(now, &here);
        assert!(sources.is_proven(now + Duration::from_secs(PROVEN_S - 1), &here));
        assert!(!sources.is_proven(now + Duration::from_secs(PROVEN_S), &here));
        assert!(!sources.is_proven(now, &flow("198.51.100.7:5061")));
    }
}
