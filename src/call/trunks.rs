//! The trunks' addresses and connections: where a trunk's requests go, and which requests are a trunk's.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use crate::{
    config::{Config, Trunk},
    policy::certificate::names_domain,
    sip::locate::{self, Destination, Health, Locator, Question, Reply, Target},
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport, certificate::SubjectNames},
};

#[derive(Debug)]
pub(super) struct Trunks {
    config: Arc<Config>,
    states: Vec<TrunkState>,
    passwords: HashMap<String, Secret<String>>,
    connections: u64,
    /// Open connections whose peer has proven to be a trunk's by its certificate.
    certified: HashMap<ConnectionId, usize>,
}

#[derive(Debug)]
struct TrunkState {
    /// `None` for a trunk that is not in use.
    locator: Option<Locator>,
    health: Health,
    /// The TCP or TLS connections in use.
    flows: HashMap<Target, Flow>,
}

/// How to reach a trunk now.
#[derive(Debug, PartialEq, Eq)]
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
        Self { config, states, passwords, connections: 0, certified: HashMap::new() }
    }

    pub(super) fn trunk(&self, index: usize) -> &Trunk {
        &self.config.trunks[index]
    }

    pub(super) fn password(&self, index: usize) -> Option<&Secret<String>> {
        self.passwords.get(&self.trunk(index).name)
    }

    /// The peer of this connection has proven these names.
    pub(super) fn certified(&mut self, connection: ConnectionId, names: &SubjectNames) {
        let is_named = |trunk: &Trunk| trunk.client_name.as_ref().is_some_and(|name| names_domain(names, name));
        if let Some(trunk) = self.config.trunks.iter().position(|trunk| trunk.is_enabled && is_named(trunk)) {
            self.certified.insert(connection, trunk);
        }
    }

    /// Which trunk the peer of this connection has proven to be by its certificate.
    pub(super) fn certified_owner_of(&self, flow: &Flow) -> Option<usize> {
        self.certified.get(&flow.connection).copied()
    }

    /// Which enabled trunk sends on this flow. Over UDP the source must be the trunk's own address and port; a connection
    /// must come from its address over its transport, or be one we opened to it. The address of a trunk that proves itself
    /// by a certificate counts for nothing.
    pub(super) fn owner_of(&self, flow: &Flow) -> Option<usize> {
        let is_theirs = |target: &Target| match flow.transport {
            Transport::Udp => target.address == flow.remote,
            Transport::Tcp | Transport::Tls => target.address.ip() == flow.remote.ip(),
        };
        let by_address = || {
            self.states.iter().enumerate().position(|(index, state)| {
                self.trunk(index).client_name.is_none()
                    && state.targets().any(|target| target.transport == flow.transport && is_theirs(target))
                    || state.flows.values().any(|f| f.connection == flow.connection && f.transport == flow.transport)
            })
        };
        self.certified_owner_of(flow).or_else(by_address)
    }

    /// The flow to the trunk's best target of those that will do: one that is not in trouble, if there is one. Opens a
    /// connection where the transport has one and none is open.
    pub(super) fn reach(
        &mut self,
        now: Instant,
        index: usize,
        will_do: impl Fn(&Target) -> bool,
        listeners: &[(Transport, SocketAddr)],
        rng: &mut Rng,
    ) -> Reach {
        let state = &mut self.states[index];
        let mut targets = state.locator.as_ref().map_or_else(Vec::new, |locator| locator.order(rng));
        targets.retain(|target| will_do(target) && is_usable(target, listeners));
        let healthy = targets.iter().find(|target| !state.health.is_skipped(now, target));
        let Some(&target) = healthy.or_else(|| targets.first()) else { return Reach::Unreachable };
        if let Some(flow) = state.flows.get(&target) {
            return Reach::Flow(*flow);
        }
        let Target { transport, address: remote } = target;
        let local = listener_for(&target, listeners).unwrap_or(remote);
        if transport == Transport::Udp {
            return Reach::Flow(Flow { transport, local, remote, connection: ConnectionId::NONE });
        }
        self.connections += 1;
        let flow = Flow { transport, local, remote, connection: ConnectionId::outbound(self.connections) };
        state.flows.insert(target, flow);
        Reach::Connect(flow)
    }

    /// Whether the trunk has a target that will do.
    pub(super) fn has(
        &self,
        index: usize,
        will_do: impl Fn(&Target) -> bool,
        listeners: &[(Transport, SocketAddr)],
    ) -> bool {
        self.states[index].targets().any(|target| will_do(target) && is_usable(target, listeners))
    }

    /// Whether one of its servers is not known to be in trouble.
    pub(super) fn is_believed_up(&self, now: Instant, index: usize) -> bool {
        let state = &self.states[index];
        state.targets().any(|target| !state.health.is_skipped(now, target))
    }

    pub(super) fn target_failed(&mut self, now: Instant, index: usize, target: Target) {
        self.states[index].health.failed(now, target);
    }

    pub(super) fn target_answered(&mut self, index: usize, target: Target) {
        self.states[index].health.answered(target);
    }

    pub(super) fn connection_failed(&mut self, connection: ConnectionId) {
        self.certified.remove(&connection);
        for state in &mut self.states {
            state.flows.retain(|_, flow| flow.connection != connection);
        }
    }

    pub(super) fn resolved(&mut self, now: Instant, index: usize, question: Question, reply: Reply) {
        let Some(state) = self.states.get_mut(index) else { return };
        let Some(locator) = &mut state.locator else { return };
        locator.handle_input(now, locate::Input::Answered { question, reply });
        state.health.retain(|target| locator.targets().any(|wanted| wanted == target));
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        for locator in self.states.iter_mut().filter_map(|state| state.locator.as_mut()) {
            locator.handle_input(now, locate::Input::Timeout);
        }
    }

    /// Drain until `Timeout`. The number tells whose question it is.
    pub(super) fn poll_output(&mut self) -> (u64, locate::Output) {
        let mut next = None;
        for (index, state) in (0_u64..).zip(&mut self.states) {
            match state.locator.as_mut().map(Locator::poll_output) {
                Some(locate::Output::Timeout(at)) => next = [next, at].into_iter().flatten().min(),
                Some(ask @ locate::Output::Ask(_)) => return (index, ask),
                None => {}
            }
        }
        (0, locate::Output::Timeout(next))
    }
}

/// A datagram needs a socket of the address's family; a connection makes its own.
fn is_usable(target: &Target, listeners: &[(Transport, SocketAddr)]) -> bool {
    target.transport != Transport::Udp || listener_for(target, listeners).is_some()
}

fn listener_for(target: &Target, listeners: &[(Transport, SocketAddr)]) -> Option<SocketAddr> {
    let fits = |(t, a): &&(Transport, SocketAddr)| *t == target.transport && a.is_ipv4() == target.address.is_ipv4();
    listeners.iter().find(fits).map(|(_, local)| *local)
}

impl TrunkState {
    fn new(now: Instant, trunk: &Trunk) -> Self {
        let destination = Destination { host: trunk.host.clone(), port: trunk.port, transport: trunk.transport };
        let locator = trunk.is_enabled.then(|| Locator::new(now, destination));
        Self { locator, health: Health::default(), flows: HashMap::new() }
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.locator.iter().flat_map(Locator::targets)
    }
}
