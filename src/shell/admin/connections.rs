//! Connections to the admin interface: bounded in number and in time, over TLS where strangers could come.

use std::{
    convert::Infallible,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::{
    shell::{tls::Tls, transport::Sources},
    types::{
        flow::source_of,
        limits::{ADMIN_CONNECTIONS_MAX, ADMIN_CONNECTIONS_PER_SOURCE_MAX},
    },
};

/// Who does not finish a handshake, or the head of a request, in this time is cut off.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// No answer takes longer, and who comes more often connects again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// The kernel has no descriptor for a connection: it may have one soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const HEAD_BYTES_MAX: usize = 16_384;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub IpAddr);

/// Serves until it is dropped, and every connection with it. Without `tls` as plain HTTP.
pub(super) async fn serve(listener: TcpListener, tls: Option<Arc<Tls>>, router: Router) -> Infallible {
    let permits = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let sources = Sources::new(ADMIN_CONNECTIONS_PER_SOURCE_MAX);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let permit = Arc::clone(&permits).acquire_owned().await;
        let Ok((stream, remote)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(share) = sources.take(source_of(remote.ip())) else { continue };
        let connection = connection(stream, remote, tls.clone(), router.clone());
        connections.spawn(async move {
            // Whatever was not answered by then never will be.
            let _ = timeout(CONNECTION_TIMEOUT, connection).await;
            drop((permit, share));
        });
    }
}

async fn connection(stream: TcpStream, remote: SocketAddr, tls: Option<Arc<Tls>>, router: Router) {
    let router = router.layer(Extension(Remote(remote.ip())));
    let Some(tls) = tls else { return answer(stream, router).await };
    let handshake = TlsAcceptor::from(tls.admin_config()).accept(stream);
    match timeout(OPENING_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => answer(stream, router).await,
        Ok(Err(error)) => debug!(%remote, %error, "A TLS handshake with the admin interface failed."),
        Err(_) => {}
    }
}

/// Answers requests until the peer is done.
fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router) -> impl Future<Output = ()> + Send {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(OPENING_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    async {
        // A broken connection says nothing that its end does not.
        let _ = connection.await;
    }
}
