//! Signalling sockets: bytes of peers to the core, bytes of the core to peers.
//!
//! Owns every listening socket and connection. Knows where a message ends and nothing else about it. Receiving waits for
//! the core (the kernel's buffers then fill and push back); sending never does: a peer that does not read loses its
//! connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use dashmap::DashMap;
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
};

use crate::{
    config,
    types::{
        ConnectionId, Flow, Transport,
        flow::network_of,
        limits::{
            CONNECTIONS_ENDING_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX, SEND_QUEUE_MAX, TLS_HANDSHAKES_MAX,
            TLS_HANDSHAKES_PER_SOURCE_MAX,
        },
    },
};

use super::{clock::Clock, core_task::ToCore, failure::Failure, tls::Tls};

mod bind;
mod connection;
mod outbound;
mod places;
mod sources;
mod tcp;
mod tls;
mod udp;

pub use bind::explain_bind_failure;
use places::Places;
pub(super) use sources::Sources;
pub(super) use tls::connect as connect_tls;

/// The peer cannot be reached over this flow (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowGone;

/// All signalling sockets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    udp: Vec<(SocketAddr, UdpSocket)>,
    /// Every open or opening connection; the task of each owns its socket and the receiving end of this queue. Removing
    /// an entry closes the connection once its queue is written.
    connections: DashMap<ConnectionId, mpsc::Sender<Bytes>>,
    next_connection: AtomicU64,
    places: Arc<Places>,
    sources: Arc<Sources>,
    /// One for each accepted connection, until the core has been told of its end.
    tasks: Arc<Semaphore>,
    handshakes: Arc<Places>,
    handshakes_of_sources: Arc<Sources>,
    /// Connections closed because one of the limits was reached.
    refused: AtomicU64,
    to_core: mpsc::Sender<ToCore>,
    tls: Arc<Tls>,
    dscp: u8,
}

/// Bound, not yet read from.
#[derive(Debug)]
pub struct Listeners {
    transports: Transports,
    tcp: Vec<(SocketAddr, TcpListener)>,
    tls: Vec<(SocketAddr, TcpListener)>,
}

impl Listeners {
    /// Binds every configured address; port 0 takes any free one. Must be called within the runtime.
    pub fn bind(
        sip: &config::Sip,
        tls: Arc<Tls>,
        clock: Clock,
        to_core: mpsc::Sender<ToCore>,
    ) -> Result<Self, Failure> {
        let udp = bind::udp(&sip.udp, sip.dscp)?;
        let shared = Shared {
            udp,
            connections: DashMap::new(),
            // Ids of an earlier run, kept in stored bindings, must never name a connection of this one.
            next_connection: AtomicU64::new(clock.now().unix_ns()),
            places: Places::new(connections_max()),
            tasks: Arc::new(Semaphore::new(connections_max() + CONNECTIONS_ENDING_MAX)),
            sources: Sources::new(CONNECTIONS_PER_SOURCE_MAX),
            handshakes: Places::new(TLS_HANDSHAKES_MAX),
            handshakes_of_sources: Sources::new(TLS_HANDSHAKES_PER_SOURCE_MAX),
            refused: AtomicU64::new(0),
            to_core,
            tls,
            dscp: sip.dscp,
        };
        Ok(Self {
            transports: Transports(Arc::new(shared)),
            tcp: bind::tcp(Transport::Tcp, &sip.tcp, sip.dscp)?,
            tls: bind::tcp(Transport::Tls, &sip.tls, sip.dscp)?,
        })
    }

    /// Addresses as bound.
    pub fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        let udp = self.transports.0.udp.iter().map(|(address, _)| (Transport::Udp, *address));
        let tcp = self.tcp.iter().map(|(address, _)| (Transport::Tcp, *address));
        let tls = self.tls.iter().map(|(address, _)| (Transport::Tls, *address));
        udp.chain(tcp).chain(tls).collect()
    }

    pub fn transports(&self) -> Transports {
        self.transports.clone()
    }

    /// Starts receiving. Each listening socket has a task that ends when the core takes no more messages.
    pub fn serve(self) -> JoinSet<()> {
        let shared = &self.transports.0;
        let mut tasks = JoinSet::new();
        for index in 0..shared.udp.len() {
            tasks.spawn(udp::receive(Arc::clone(shared), index));
        }
        for (local, listener) in self.tcp {
            tasks.spawn(tcp::accept(Arc::clone(shared), Transport::Tcp, local, listener));
        }
        for (local, listener) in self.tls {
            tasks.spawn(tcp::accept(Arc::clone(shared), Transport::Tls, local, listener));
        }
        tasks
    }
}

impl Transports {
    /// Sends or queues without waiting. A datagram the kernel has no room for is lost, as datagrams are.
    pub fn transmit(&self, flow: &Flow, bytes: Bytes) -> Result<(), FlowGone> {
        match flow.transport {
            Transport::Udp => udp::send(&self.0, flow, &bytes),
            Transport::Tcp | Transport::Tls => self.0.queue(flow.connection, bytes),
        }
    }

    /// Opens `flow.connection` to the trunk with this index. What is transmitted to it meanwhile waits; a failure reaches the core as `FlowFailed`.
    pub fn connect(&self, flow: Flow, server_name: String, trunk: usize) {
        let (sender, queue) = mpsc::channel(SEND_QUEUE_MAX);
        self.0.connections.insert(flow.connection, sender);
        spawn(outbound::open(Arc::clone(&self.0), flow, server_name, trunk, queue));
    }

    /// This connection is that of somebody whom the core knows: it does not make room for others.
    pub fn prove(&self, flow: &Flow) {
        self.0.places.prove(network_of(flow.remote.ip()), flow.connection);
    }

    /// Closes a connection after what is queued for it.
    pub fn close(&self, connection: ConnectionId) {
        self.0.connections.remove(&connection);
    }

    pub fn close_all(&self) {
        self.0.connections.clear();
    }

    pub fn connections(&self) -> usize {
        self.0.connections.len()
    }

    pub fn connections_refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Waits until every accepted connection is closed.
    pub async fn closed(&self) {
        self.0.places.emptied().await;
    }
}

impl Shared {
    fn queue(&self, connection: ConnectionId, bytes: Bytes) -> Result<(), FlowGone> {
        let sent = self.connections.get(&connection).ok_or(FlowGone)?.try_send(bytes);
        sent.map_err(|_| {
            // Full: the peer does not read. Closed: its task is ending.
            self.connections.remove(&connection);
            FlowGone
        })
    }

    fn next_id(&self) -> ConnectionId {
        const ACCEPTED: u64 = u64::MAX >> 1;
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed) & ACCEPTED)
    }

    /// `false`: the server is ending.
    async fn tell_core(&self, message: ToCore) -> bool {
        self.to_core.send(message).await.is_ok()
    }
}

/// Calls need descriptors, too: two for each media section.
fn connections_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 2).unwrap_or(usize::MAX).min(CONNECTIONS_MAX)
}

#[expect(clippy::disallowed_methods, reason = "the transports own the tasks of their sockets")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests;
