//! The trunks' addresses and connections: where a trunk's requests go, and which requests are a trunk's.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use crate::{
    config::{Config, Trunk},
    types::{ConnectionId, Duration, Flow, Instant, Secret, Transport},
};

/// A host name is looked up again this often.
const RESOLVE_AGAIN: Duration = Duration::from_secs(300);
/// ... and this often while it has no address.
const RESOLVE_RETRY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Trunks {
    config: Arc<Config>,
    states: Vec<TrunkState>,
    passwords: HashMap<String, Secret<String>>,
    connections: u64,
}

#[derive(Debug, Default)]
struct TrunkState {
    addresses: Vec<SocketAddr>,
    /// When to look the host up (again); `None` for a literal address or while a lookup is under way.
    resolve_at: Option<Instant>,
    /// The TCP or TLS connection in use.
    flow: Option<Flow>,
}

/// How to reach a trunk now.
pub(super) enum Reach {
    Flow(Flow),
    /// Open this connection first.
    Connect(Flow),
    /// No address is known, or no listener of its IP family and transport exists.
    Unreachable,
}

impl Trunks {
    pub(super) fn new(now: Instant, config: Arc<Config>, passwords: HashMap<String, Secret<String>>) -> Self {
        let states = config.trunks.iter().map(|t| TrunkState::new(now, t)).collect();
        Self { config, states, passwords, connections: 0 }
    }

    pub(super) fn trunk(&self, index: usize) -> &Trunk {
        &self.config.trunks[index]
    }

    pub(super) fn password(&self, index: usize) -> Option<&Secret<String>> {
        self.passwords.get(&self.trunk(index).name)
    }

    /// Which enabled trunk sends on this flow. Over UDP the source must be the trunk's own address and port; a connection
    /// must come from its address over its transport, or be one we opened to it.
    pub(super) fn owner_of(&self, flow: &Flow) -> Option<usize> {
        let is_theirs = |(trunk, state): &(&Trunk, &TrunkState)| {
            let is_known = match flow.transport {
                Transport::Udp => state.addresses.contains(&flow.remote),
                Transport::Tcp | Transport::Tls => state.addresses.iter().any(|a| a.ip() == flow.remote.ip()),
            };
            let is_ours = state.flow.is_some_and(|f| f.connection == flow.connection && f.transport == flow.transport);
            trunk.is_enabled && trunk.transport == flow.transport && (is_known || is_ours)
        };
        self.config.trunks.iter().zip(&self.states).position(|pair| is_theirs(&pair))
    }

    /// The flow to a trunk, opening a connection where its transport has one and none is open.
    pub(super) fn reach(&mut self, index: usize, listeners: &[(Transport, SocketAddr)]) -> Reach {
        let transport = self.trunk(index).transport;
        if let Some(flow) = self.states[index].flow {
            return Reach::Flow(flow);
        }
        let listens = |remote: &SocketAddr| {
            let fits = |(t, a): &&(Transport, SocketAddr)| *t == transport && a.is_ipv4() == remote.is_ipv4();
            listeners.iter().find(fits).map(|(_, local)| (*remote, *local))
        };
        let pair = self.states[index].addresses.iter().find_map(listens);
        match (transport, pair) {
            (Transport::Udp, Some((remote, local))) => {
                Reach::Flow(Flow { transport, local, remote, connection: ConnectionId::NONE })
            }
            (Transport::Udp, None) => Reach::Unreachable,
            (Transport::Tcp | Transport::Tls, pair) => self.connect(index, pair.map(|(_, local)| local)),
        }
    }

    fn connect(&mut self, index: usize, local: Option<SocketAddr>) -> Reach {
        let transport = self.trunk(index).transport;
        let Some(&remote) = self.states[index].addresses.first() else { return Reach::Unreachable };
        self.connections += 1;
        let connection = ConnectionId::outbound(self.connections);
        let flow = Flow { transport, local: local.unwrap_or(remote), remote, connection };
        self.states[index].flow = Some(flow);
        Reach::Connect(flow)
    }

    pub(super) fn connection_failed(&mut self, connection: ConnectionId) {
        for state in &mut self.states {
            if state.flow.is_some_and(|f| f.connection == connection && connection != ConnectionId::NONE) {
                state.flow = None;
            }
        }
    }

    /// Hosts whose lookup is due; the index is the query number.
    pub(super) fn due(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, state) in self.states.iter_mut().enumerate() {
            if state.resolve_at.is_some_and(|at| at <= now) {
                state.resolve_at = None;
                due.push(index);
            }
        }
        due
    }

    /// A failed lookup keeps the addresses known so far: a broken DNS server must not cut a trunk off.
    pub(super) fn resolved(&mut self, now: Instant, index: usize, addresses: Vec<SocketAddr>) {
        let Some(state) = self.states.get_mut(index) else { return };
        if !addresses.is_empty() {
            state.addresses = addresses;
        }
        let pause = if state.addresses.is_empty() { RESOLVE_RETRY } else { RESOLVE_AGAIN };
        state.resolve_at = Some(now + pause);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.states.iter().filter_map(|s| s.resolve_at).min()
    }
}

impl TrunkState {
    fn new(now: Instant, trunk: &Trunk) -> Self {
        let literal = trunk.host.trim_matches(['[', ']']).parse().ok().map(|ip| SocketAddr::new(ip, trunk.port));
        Self {
            addresses: literal.into_iter().collect(),
            resolve_at: (literal.is_none() && trunk.is_enabled).then_some(now),
            flow: None,
        }
    }
}
