//! Accepting TCP and TLS connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, mpsc},
};
use tracing::warn;

use crate::types::{
    ConnectionId, Flow, Transport,
    flow::{network_of, source_of},
    limits::SEND_QUEUE_MAX,
};

use super::{
    Shared,
    connection::{self, BoxedStream, Opened},
    places::Place,
    sources::Share,
    spawn, tls,
};

/// After a failed `accept` (usually no file descriptors left): not in a tight loop.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Accepts until the server ends, and waits where too many connections have ended of whose end the core must still be told: there is no other
/// limit to them.
pub(super) async fn accept(shared: Arc<Shared>, transport: Transport, local: SocketAddr, listener: TcpListener) {
    loop {
        let task = Arc::clone(&shared.tasks).acquire_owned();
        let accepted = tokio::select! {
            accepted = async { (task.await, listener.accept().await) } => accepted,
            () = shared.to_core.closed() => return,
        };
        let (Ok(task), accepted) = accepted else { return };
        match accepted {
            Ok((stream, remote)) => take(&shared, (transport, local), remote, stream, task),
            Err(error) => {
                warn!(%local, %error, "A connection cannot be accepted.");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Starts the connection's task, or closes it at once where a limit is reached.
fn take(
    shared: &Arc<Shared>,
    (transport, listening): (Transport, SocketAddr),
    remote: SocketAddr,
    stream: TcpStream,
    task: OwnedSemaphorePermit,
) {
    let connection = shared.next_id();
    let room = Room::take(shared, transport, remote, connection);
    let closes_one = room.as_ref().is_none_or(Room::is_anothers);
    shared.refused.fetch_add(closes_one.into(), std::sync::atomic::Ordering::Relaxed);
    let Some(room) = room else { return };
    connection::tune(&stream);
    // Of a wildcard listener, the address that the peer really reached.
    let local = stream.local_addr().unwrap_or(listening);
    let flow = Flow { transport, local, remote, connection };
    spawn(run(Arc::clone(shared), flow, stream, room, task));
}

/// What one accepted connection takes of the limits, until it is dropped.
struct Room {
    place: Place,
    of_source: Share,
    /// Until the handshake is over; none for TCP.
    handshake: Option<(Place, Share)>,
}

impl Room {
    fn take(shared: &Shared, transport: Transport, remote: SocketAddr, connection: ConnectionId) -> Option<Self> {
        let (source, network) = (source_of(remote.ip()), network_of(remote.ip()));
        // What one source may have comes first: it must not take the places of others to no end.
        let of_source = shared.sources.take(source)?;
        let handshake = match transport {
            Transport::Tls => {
                let of_source = shared.handshakes_of_sources.take(source)?;
                Some((shared.handshakes.take(network, connection)?, of_source))
            }
            Transport::Tcp | Transport::Udp => None,
        };
        Some(Self { place: shared.places.take(network, connection)?, of_source, handshake })
    }

    fn is_anothers(&self) -> bool {
        self.place.is_anothers || self.handshake.as_ref().is_some_and(|(place, _)| place.is_anothers)
    }
}

/// `_task` is given back when the core has been told of the end.
async fn run(shared: Arc<Shared>, flow: Flow, stream: TcpStream, room: Room, _task: OwnedSemaphorePermit) {
    let Room { mut place, of_source: _of_source, handshake } = room;
    let (stream, names): (BoxedStream, _) = if let Some((mut handshake, _of_source)) = handshake {
        let stream = tokio::select! {
            // Boxed, so that its room is given back when it is over.
            stream = Box::pin(tls::accept(&shared.tls, stream, flow.remote)) => stream,
            () = handshake.lost() => None,
            () = place.lost() => None,
        };
        let Some(stream) = stream else { return };
        let names = tls::client_names(&stream);
        (stream, names)
    } else {
        (Box::new(stream), None)
    };
    let (sender, queue) = mpsc::channel(SEND_QUEUE_MAX);
    shared.connections.insert(flow.connection, sender);
    connection::run(&shared, flow, stream, queue, Opened::ByPeer { place, names }).await;
}
