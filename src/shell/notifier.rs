//! Web servers that are told of emergency calls (emergency RULES 7.1): a POST of JSON over TLS, three times at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::{
    Request,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use serde::Serialize;
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::TlsConnector;
use tracing::{debug, error};

use crate::{
    call::Notice,
    config::NotifyTarget,
    types::{Secret, limits::POSTS_MAX},
};

use super::{calendar, resolve::Names};

/// Before each attempt.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(10)];
/// A server that has not answered by then has failed.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const PRODUCT: &str = concat!("ringdown/", env!("CARGO_PKG_VERSION"));

/// Posts notices, each in a task of its own.
#[derive(Clone, Debug)]
pub struct Notifier {
    tls: Arc<ClientConfig>,
    names: Names,
    permits: Arc<Semaphore>,
    failures: Arc<AtomicU64>,
}

#[derive(Debug, Serialize)]
struct Body<'n> {
    event: &'static str,
    time: String,
    #[serde(flatten)]
    notice: &'n Notice,
}

/// Where to, in the parts that are needed.
#[derive(Debug)]
struct Place {
    host: String,
    port: u16,
    path: Secret<String>,
}

impl Notifier {
    pub fn new(tls: Arc<ClientConfig>, names: Names) -> Self {
        Self { tls, names, permits: Arc::new(Semaphore::new(POSTS_MAX)), failures: Arc::default() }
    }

    /// Notices that no attempt could deliver.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns at once. What fails in the end is logged and counted.
    #[expect(clippy::disallowed_methods, reason = "this module owns the tasks of its posts")]
    pub fn post(&self, target: NotifyTarget, notice: &Notice) {
        let label = target.label();
        let NotifyTarget::Https { host, port, path } = target else { return };
        let body = Body { event: "emergency-call", time: calendar::rfc3339(notice.time.unix_ms()), notice };
        let body = serde_json::to_string(&body).expect("a notice has only plain fields");
        let (notifier, place) = (self.clone(), Place { host, port, path });
        tokio::spawn(async move {
            if let Err(why) = notifier.deliver(&place, &body).await {
                notifier.failures.fetch_add(1, Ordering::Relaxed);
                error!(target: "emergency", stage = "notify", desk = label, why,
                    "A desk could not be told of an emergency call.");
            }
        });
    }

    async fn deliver(&self, place: &Place, body: &str) -> Result<(), String> {
        let _permit = self.permits.try_acquire().map_err(|_| "too many notices are on their way".to_owned())?;
        let mut last = String::new();
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let attempt = tokio::time::timeout(ATTEMPT_TIMEOUT, self.attempt(place, body));
            match attempt.await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(()) => return Ok(()),
                Err(why) => {
                    debug!(host = place.host, why, "A notice was not taken.");
                    last = why;
                }
            }
        }
        Err(last)
    }

    async fn attempt(&self, place: &Place, body: &str) -> Result<(), String> {
        let Place { host, port, path } = place;
        let bare = host.trim_matches(['[', ']']);
        let name = ServerName::try_from(bare.to_owned()).map_err(|e| e.to_string())?;
        let addresses = self.names.addresses(bare, *port).await?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, stream).await.map_err(|e| e.to_string())?;
        let request = Request::post(path.expose())
            .header(HOST, format!("{host}:{port}"))
            .header(USER_AGENT, PRODUCT)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .map_err(|_| "the path is no part of a URL".to_owned())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let status = tokio::select! {
            biased;
            response = sender.send_request(request) => response.map_err(|e| e.to_string())?.status(),
            end = connection => {
                let why = end.err().map_or_else(|| "closed".to_owned(), |e| e.to_string());
                return Err(format!("the connection ended before an answer: {why}"));
            }
        };
        if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
    }
}
