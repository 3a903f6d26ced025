//! Accepting TCP and TLS connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tracing::warn;

use crate::{
    call::Input,
    shell::core_task::ToCore,
    types::{Flow, Transport, flow::source_of, limits::SEND_QUEUE_MAX},
};

use super::{
    Shared,
    connection::{self, BoxedStream},
    sources::Share,
    spawn, tls,
};

/// After a failed `accept` (usually no file descriptors left): not in a tight loop.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Accepts until the server ends.
pub(super) async fn accept(shared: Arc<Shared>, transport: Transport, local: SocketAddr, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.to_core.closed() => return,
        };
        match accepted {
            Ok((stream, remote)) => take(&shared, transport, local, remote, stream),
            Err(error) => {
                warn!(%local, %error, "A connection cannot be accepted.");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Starts the connection's task, or closes it at once where a limit is reached.
fn take(shared: &Arc<Shared>, transport: Transport, listening: SocketAddr, remote: SocketAddr, stream: TcpStream) {
    let Some(place) = Place::take(shared, transport, remote) else {
        shared.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return;
    };
    connection::tune(&stream);
    // Of a wildcard listener, the address that the peer really reached.
    let local = stream.local_addr().unwrap_or(listening);
    let flow = Flow { transport, local, remote, connection: shared.next_id() };
    spawn(run(Arc::clone(shared), flow, stream, place));
}

/// What one accepted connection takes of the limits, until it is dropped.
struct Place {
    _connection: OwnedSemaphorePermit,
    _of_source: Share,
    /// Until the handshake is over; none for TCP.
    handshake: Option<(OwnedSemaphorePermit, Share)>,
}

impl Place {
    fn take(shared: &Shared, transport: Transport, remote: SocketAddr) -> Option<Self> {
        let permit = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_owned().ok();
        let source = source_of(remote.ip());
        Some(Self {
            handshake: match transport {
                Transport::Tls => Some((permit(&shared.handshakes)?, shared.handshakes_of_sources.take(source)?)),
                Transport::Tcp | Transport::Udp => None,
            },
            _connection: permit(&shared.permits)?,
            _of_source: shared.sources.take(source)?,
        })
    }
}

async fn run(shared: Arc<Shared>, flow: Flow, stream: TcpStream, mut place: Place) {
    let (stream, names): (BoxedStream, _) = if flow.transport == Transport::Tls {
        // Boxed, so that its room is given back when it is over.
        let stream = Box::pin(tls::accept(&shared.tls, stream, flow.remote)).await;
        drop(place.handshake.take());
        let Some(stream) = stream else { return };
        let names = tls::client_names(&stream);
        (stream, names)
    } else {
        (Box::new(stream), None)
    };
    let (sender, queue) = mpsc::channel(SEND_QUEUE_MAX);
    shared.connections.insert(flow.connection, sender);
    if let Some(names) = names {
        shared.tell_core(ToCore::Input(Input::Certified { flow, names })).await;
    }
    connection::run(&shared, flow, stream, queue, connection::Opened::ByPeer).await;
    drop(place);
}
