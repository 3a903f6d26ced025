//! The trunks' addresses and connections: where a trunk's requests go, and which requests are a trunk's.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use tracing::{info, warn};

use crate::{
    config::{Config, Register, Trunk},
    policy::{certificate::names_domain, outside::Standing},
    sip::locate::{self, Destination, Health, Listed, Question, Reply, Target},
    types::{ConnectionId, Duration, Flow, Instant, Rng, Secret, Transport, certificate::SubjectNames, limits},
};

#[derive(Debug)]
pub(super) struct Trunks {
    config: Arc<Config>,
    states: Vec<TrunkState>,
    passwords: HashMap<String, Secret<String>>,
    connections: u64,
    /// When each connection that we opened was last heard of, at first when it was opened.
    heard_at: HashMap<ConnectionId, Instant>,
    /// The last connection of them that was lost, with its time: what becomes of its requests is decided next.
    lost: Option<(ConnectionId, Instant)>,
    /// Connections that new requests keep away from.
    left: Vec<Left>,
    /// Open connections whose peer has proven to be a trunk's by its certificate.
    certified: HashMap<ConnectionId, usize>,
}

/// A connection that may be dead. The calls on it stay: if its peer is only slow, they lose nothing.
#[derive(Debug)]
struct Left {
    trunk: usize,
    flow: Flow,
    look_at: Instant,
}

/// By then the requests that a connection carries outside calls have ended (RFC 3261 section 17.1.2.2).
const LOOK_EVERY: Duration = Duration::from_secs(32);

#[derive(Debug)]
struct TrunkState {
    /// Empty for a trunk that is not in use.
    servers: locate::List,
    health: Health,
    /// The TCP or TLS connections in use.
    flows: HashMap<Target, Flow>,
    /// Where this server is registered: calls go there, too.
    home: Option<Target>,
    /// The way through it that its registrar has told (RFC 3608).
    service_route: Vec<String>,
    /// An operator keeps new calls off it.
    is_draining: bool,
    /// As last logged.
    condition: Option<Condition>,
}

/// What can be expected of a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Up,
    /// Its calls go on, and it gets no new one but for emergencies.
    Draining,
    /// None of its servers is known to answer, or this server should be registered there and is not.
    Down,
    /// Not in use.
    Off,
}

impl Condition {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Off => "off",
        }
    }
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
        Self {
            config,
            states,
            passwords,
            connections: 0,
            heard_at: HashMap::new(),
            lost: None,
            left: Vec::new(),
            certified: HashMap::new(),
        }
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
        self.certified_owner_of(flow).or_else(|| self.owners_by_address(flow).next())
    }

    /// The same for a request to this user part: of several trunks at one address, the one that has registered it.
    pub(super) fn owner_of_request(&self, flow: &Flow, user: Option<&str>) -> Option<usize> {
        let has_registered = |index: &usize| user.is_some() && self.account(*index) == user;
        let by_account = || self.owners_by_address(flow).find(has_registered);
        self.certified_owner_of(flow).or_else(by_account).or_else(|| self.owner_of(flow))
    }

    fn owners_by_address(&self, flow: &Flow) -> impl Iterator<Item = usize> {
        let is_theirs = |target: &Target| match flow.transport {
            Transport::Udp => target.address == flow.remote,
            Transport::Tcp | Transport::Tls => target.address.ip() == flow.remote.ip(),
        };
        let is_owner = move |&index: &usize| {
            let state = &self.states[index];
            self.trunk(index).client_name.is_none()
                && state.targets().any(|target| target.transport == flow.transport && is_theirs(target))
                || self.flows_to(index).any(|f| f.connection == flow.connection && f.transport == flow.transport)
        };
        (0..self.states.len()).filter(is_owner)
    }

    /// The connections that we have opened to it.
    fn flows_to(&self, index: usize) -> impl Iterator<Item = &Flow> {
        let left = self.left.iter().filter(move |left| left.trunk == index).map(|left| &left.flow);
        self.states[index].flows.values().chain(left)
    }

    /// The user part of the one Contact that this server registers at a trunk.
    pub(super) fn account(&self, index: usize) -> Option<&str> {
        let trunk = self.trunk(index);
        trunk.user.as_deref().filter(|_| trunk.register == Register::Account)
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
        let mut targets = state.servers.order(rng);
        targets.retain(|target| will_do(target) && is_usable(target, listeners));
        let is_healthy = |target: &&Target| !state.health.is_skipped(now, target);
        let at_home = targets.iter().find(|target| Some(**target) == state.home).filter(is_healthy);
        let healthy = at_home.or_else(|| targets.iter().find(is_healthy));
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
        self.heard_at.insert(flow.connection, now);
        Reach::Connect(flow)
    }

    /// Anything has come over this flow.
    pub(super) fn heard(&mut self, now: Instant, flow: &Flow) {
        if let Some(heard_at) = self.heard_at.get_mut(&flow.connection) {
            *heard_at = now;
        }
    }

    /// Whether this is a connection that was open before, and nothing has come over it since, if only the notice that its peer does not
    /// know it: the peer may have forgotten it, and take another one. Never so of datagrams.
    pub(super) fn is_unheard(&self, flow: &Flow, since: Instant) -> bool {
        let lost = self.lost.filter(|(connection, _)| *connection == flow.connection).map(|(_, heard_at)| heard_at);
        self.heard_at.get(&flow.connection).copied().or(lost).is_some_and(|heard_at| heard_at < since)
    }

    /// A request that went over this flow then has no answer. If the flow is a connection that may be dead, the next one opens
    /// another: TCP alone would notice when nothing was acknowledged for long. `true`: that may be it, and the server well.
    pub(super) fn unanswered(&mut self, now: Instant, trunk: usize, flow: &Flow, sent_at: Instant) -> bool {
        if !self.is_unheard(flow, sent_at) {
            return false;
        }
        let in_use = self.states[trunk].flows.extract_if(|_, f| f.connection == flow.connection);
        self.left.extend(in_use.map(|(_, flow)| Left { trunk, flow, look_at: now + LOOK_EVERY }));
        true
    }

    pub(super) fn is_left(&self, flow: &Flow) -> bool {
        self.left.iter().any(|left| left.flow.connection == flow.connection)
    }

    /// The next connection to be closed if no call is on it any more; if one is, it is named again after a while.
    pub(super) fn next_left(&mut self, now: Instant) -> Option<Flow> {
        let left = self.left.iter_mut().find(|left| left.look_at <= now)?;
        left.look_at = now + LOOK_EVERY;
        Some(left.flow)
    }

    /// When that is.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.left.iter().map(|left| left.look_at).min()
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

    /// Whether one of its targets is in no trouble.
    pub(super) fn has_healthy(&self, now: Instant, index: usize, listeners: &[(Transport, SocketAddr)]) -> bool {
        self.has(index, |target| !self.is_skipped(now, index, target), listeners)
    }

    /// Whether other targets go before this one.
    pub(super) fn is_skipped(&self, now: Instant, index: usize, target: &Target) -> bool {
        self.states[index].health.is_skipped(now, target)
    }

    /// Those that can be used, each with whether it is in trouble.
    pub(super) fn targets(&self, index: usize, listeners: &[(Transport, SocketAddr)]) -> Vec<(Target, bool)> {
        let state = &self.states[index];
        let usable = state.targets().filter(|target| is_usable(target, listeners));
        usable.map(|target| (*target, state.health.is_in_trouble(target))).collect()
    }

    /// Whom the certificate of the server at this address must name.
    pub(super) fn server_name(&self, index: usize, target: &Target) -> &str {
        self.states[index].servers.host_of(target).unwrap_or(&self.trunk(index).host)
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// `None`: this server is not registered there.
    pub(super) fn set_home(&mut self, index: usize, home: Option<Target>, service_route: &[String]) {
        let state = &mut self.states[index];
        state.home = home;
        if state.service_route != service_route {
            state.service_route = service_route.to_vec();
        }
    }

    /// The Route of a request to this server of the trunk: only the registrar knows the way that it has told.
    pub(super) fn service_route(&self, index: usize, target: Target) -> &[String] {
        let state = &self.states[index];
        if state.home == Some(target) { &state.service_route } else { &[] }
    }

    /// `false`: there is no such trunk.
    pub(super) fn set_draining(&mut self, name: &str, is_draining: bool) -> bool {
        let index = self.config.trunks.iter().position(|trunk| trunk.name == name);
        if let Some(index) = index {
            self.states[index].is_draining = is_draining;
        }
        index.is_some()
    }

    pub(super) fn condition(&self, index: usize, listeners: &[(Transport, SocketAddr)]) -> Condition {
        let (trunk, state) = (self.trunk(index), &self.states[index]);
        if !trunk.is_enabled {
            Condition::Off
        } else if state.is_draining {
            Condition::Draining
        } else if self.is_away(index) || self.targets(index, listeners).iter().all(|(_, is_in_trouble)| *is_in_trouble)
        {
            Condition::Down
        } else {
            Condition::Up
        }
    }

    /// One that has failed has its place again when its servers have another chance: without OPTIONS nothing else would tell that it
    /// is back.
    pub(super) fn standing(&self, now: Instant, index: usize, listeners: &[(Transport, SocketAddr)]) -> Standing {
        let is_draining = self.trunk(index).is_enabled && self.states[index].is_draining;
        Standing { is_draining, is_down: !self.is_promising(now, index, listeners) }
    }

    /// Whether it can be expected to answer, and no operator keeps calls off it.
    pub(super) fn is_believed_up(&self, now: Instant, index: usize, listeners: &[(Transport, SocketAddr)]) -> bool {
        self.standing(now, index, listeners) == Standing::default()
    }

    fn is_promising(&self, now: Instant, index: usize, listeners: &[(Transport, SocketAddr)]) -> bool {
        !self.is_away(index) && self.has_healthy(now, index, listeners)
    }

    /// This server should be registered there and is not.
    fn is_away(&self, index: usize) -> bool {
        self.trunk(index).register != Register::Off && self.states[index].home.is_none()
    }

    /// Logs what has changed.
    pub(super) fn note_conditions(&mut self, listeners: &[(Transport, SocketAddr)]) {
        for index in 0..self.states.len() {
            let condition = self.condition(index, listeners);
            let earlier = self.states[index].condition.replace(condition);
            let trunk = &self.config.trunks[index].name;
            match condition {
                _ if earlier.is_none_or(|earlier| earlier == condition) => {}
                Condition::Down => warn!(trunk, "The trunk is down."),
                Condition::Up | Condition::Draining | Condition::Off => {
                    info!(trunk, condition = condition.as_str(), "The trunk has changed.");
                }
            }
        }
    }

    pub(super) fn target_failed(&mut self, now: Instant, index: usize, target: Target) {
        self.states[index].health.failed(now, target);
    }

    pub(super) fn target_answered(&mut self, index: usize, target: Target) {
        self.states[index].health.answered(target);
    }

    pub(super) fn connection_failed(&mut self, connection: ConnectionId) {
        self.certified.remove(&connection);
        self.lost = self.heard_at.remove(&connection).map(|heard_at| (connection, heard_at));
        self.left.retain(|left| left.flow.connection != connection);
        for state in &mut self.states {
            state.flows.retain(|_, flow| flow.connection != connection);
        }
    }

    /// Returns which trunk the question was about.
    pub(super) fn resolved(&mut self, now: Instant, query: u64, question: Question, reply: Reply) -> Option<usize> {
        let query = usize::try_from(query).ok()?;
        let (index, server) = (query / limits::TRUNK_SERVERS_MAX, query % limits::TRUNK_SERVERS_MAX);
        let TrunkState { servers, health, .. } = self.states.get_mut(index)?;
        servers.answered(now, server, locate::Input::Answered { question, reply });
        health.retain(|target| servers.targets().any(|wanted| wanted == target));
        Some(index)
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.states.iter_mut().for_each(|state| state.servers.timeout(now));
    }

    /// Drain until `Timeout`. The number tells whose question it is.
    pub(super) fn poll_output(&mut self) -> (u64, locate::Output) {
        let mut next = None;
        for (index, state) in self.states.iter_mut().enumerate() {
            match state.servers.poll_output() {
                (_, locate::Output::Timeout(at)) => next = [next, at].into_iter().flatten().min(),
                (server, ask @ locate::Output::Ask(_)) => {
                    let query = index * limits::TRUNK_SERVERS_MAX + server;
                    return (u64::try_from(query).unwrap_or(u64::MAX), ask);
                }
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
        let listed = |host: &str, port, priority, weight| Listed {
            destination: Destination { host: host.to_owned(), port, transport: trunk.transport },
            priority,
            weight,
        };
        let servers: Vec<_> = match trunk.servers.as_slice() {
            [] => vec![listed(&trunk.host, trunk.port, 0, 0)],
            several => several.iter().map(|s| listed(&s.host, s.port.or(trunk.port), s.priority, s.weight)).collect(),
        };
        Self {
            servers: locate::List::new(now, if trunk.is_enabled { servers } else { Vec::new() }),
            health: Health::default(),
            flows: HashMap::new(),
            home: None,
            service_route: Vec::new(),
            is_draining: false,
            condition: None,
        }
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.servers.targets()
    }
}
