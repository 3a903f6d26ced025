//! Accepting TCP and TLS connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, mpsc},
};
use tracing::warn;

use crate::types::{Flow, Transport, limits::SEND_QUEUE_MAX};

use super::{Shared, connection, spawn, tls};

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

/// Starts the connection's task, or closes it at once where `CONNECTIONS_MAX` are open.
fn take(shared: &Arc<Shared>, transport: Transport, listening: SocketAddr, remote: SocketAddr, stream: TcpStream) {
    let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
        shared.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        return;
    };
    connection::tune(&stream);
    // Of a wildcard listener, the address that the peer really reached.
    let local = stream.local_addr().unwrap_or(listening);
    let flow = Flow { transport, local, remote, connection: shared.next_id() };
    spawn(run(Arc::clone(shared), flow, stream, permit));
}

async fn run(shared: Arc<Shared>, flow: Flow, stream: TcpStream, permit: OwnedSemaphorePermit) {
    if flow.transport == Transport::Tls {
        if let Some(stream) = tls::accept(&shared.tls, stream).await {
            serve(shared, flow, stream, permit).await;
        }
    } else {
        serve(shared, flow, stream, permit).await;
    }
}

async fn serve<S: connection::Stream>(shared: Arc<Shared>, flow: Flow, stream: S, permit: OwnedSemaphorePermit) {
    let (sender, queue) = mpsc::channel(SEND_QUEUE_MAX);
    shared.connections.insert(flow.connection, sender);
    connection::run(&shared, flow, stream, queue, connection::Opened::ByPeer).await;
    drop(permit);
}
