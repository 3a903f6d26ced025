//! TLS handshakes, in both directions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tracing::debug;

use crate::{
    shell::tls::{Tls, certificate::names_of},
    types::certificate::SubjectNames,
};

/// A peer that does not finish its handshake in this time is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// `None`: the peer failed or was too slow.
pub(super) async fn accept(
    tls: &Tls,
    stream: TcpStream,
    remote: SocketAddr,
) -> Option<Box<server::TlsStream<TcpStream>>> {
    let handshake = TlsAcceptor::from(tls.server_config()).accept(stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            debug!(%remote, %error, "A TLS handshake failed.");
            None
        }
        Err(_) => None,
    }
}

/// What a client's certificate names; `None` for a client without one.
pub(super) fn client_names(stream: &server::TlsStream<TcpStream>) -> Option<SubjectNames> {
    stream.get_ref().1.peer_certificates()?.first().and_then(names_of)
}

/// The peer must prove `server_name`, a DNS name or an address.
pub(in crate::shell) async fn connect(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    server_name: &str,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let bare = server_name.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(std::io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
