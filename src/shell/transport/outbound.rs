//! Connections that the core asks for.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::net::sockopt;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};
use tracing::warn;

use crate::{
    shell::dscp,
    types::{Flow, Transport},
};

use super::{
    Shared,
    connection::{self, BoxedStream, Opened},
    tls,
};

/// TCP and TLS handshakes together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that has vanished without a word is noticed this long after the first byte that it does not acknowledge.
const UNACKNOWLEDGED_MS_MAX: u32 = 20_000;

/// Opens the connection and serves it to its end.
pub(super) async fn open(
    shared: Arc<Shared>,
    flow: Flow,
    server_name: String,
    trunk: usize,
    queue: mpsc::Receiver<Bytes>,
) {
    let establish = Box::pin(establish(&shared, &flow, &server_name, trunk));
    let established = tokio::time::timeout(CONNECT_TIMEOUT, establish).await;
    match established.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => connection::run(&shared, flow, stream, queue, Opened::ByUs).await,
        Err(error) => {
            warn!(transport = %flow.transport, server_name, %error, "A connection cannot be opened.");
            connection::fail(&shared, flow).await;
        }
    }
}

async fn establish(shared: &Shared, flow: &Flow, server_name: &str, trunk: usize) -> io::Result<BoxedStream> {
    let stream = connect(flow, shared.dscp).await?;
    if flow.transport != Transport::Tls {
        return Ok(Box::new(stream));
    }
    let stream = tls::connect(shared.tls.client_config(trunk), stream, server_name).await?;
    Ok(Box::new(stream))
}

/// From the address the peer knows us by, where that is one of the network.
async fn connect(flow: &Flow, dscp: u8) -> io::Result<TcpStream> {
    let socket = if flow.remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    dscp::mark(&socket, flow.remote.is_ipv6(), dscp)?;
    let local = flow.local.ip();
    if !local.is_unspecified() && !local.is_loopback() && local.is_ipv4() == flow.remote.is_ipv4() {
        socket.bind((local, 0).into())?;
    }
    let stream = socket.connect(flow.remote).await?;
    connection::tune(&stream);
    // Best effort, too. Retransmission alone takes about a quarter of an hour to find out.
    let _ = sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS_MAX);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::types::ConnectionId;

    #[tokio::test]
    async fn a_connection_is_marked_and_ends_soon_when_nothing_is_acknowledged() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let local: SocketAddr = ip.parse().unwrap();
            let listener = TcpListener::bind(local).await.unwrap();
            let remote = listener.local_addr().unwrap();
            let flow = Flow { transport: Transport::Tcp, local, remote, connection: ConnectionId::NONE };
            let stream = connect(&flow, 26).await.unwrap();
            assert_eq!(dscp::of(&stream, remote.is_ipv6()), 26, "{ip}");
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED_MS_MAX, "{ip}");
        }
    }
}
