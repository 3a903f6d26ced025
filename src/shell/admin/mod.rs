//! The admin API: read-only JSON and metrics over HTTP, on loopback.
//!
//! Asks the core's task through its mailbox and answers 503 when it does not reply within a second. Shows who is
//! registered and who calls whom; never a credential, a key or a network address beyond the registered flow.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query as Parameters, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use crate::{
    config::Config,
    policy::emergency,
    sip::registrar::Binding,
    types::{Instant, limits::ADMIN_CDRS_MAX},
};

use super::{
    calendar,
    core_task::{Query, ToCore},
    media_io::MediaCounters,
    store::thread::StoreHandle,
    transport::Transports,
};

mod metrics;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const CDRS_DEFAULT: u32 = 100;

/// What the handlers read from.
#[derive(Clone, Debug)]
pub struct Admin {
    pub to_core: mpsc::Sender<ToCore>,
    pub store: StoreHandle,
    pub media: MediaCounters,
    pub transports: Transports,
    /// Serving, and not draining.
    pub is_ready: Arc<AtomicBool>,
    pub emergency: EmergencyView,
    pub started: Instant,
}

/// Whether emergency calls can be made, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EmergencyView {
    pub available: bool,
    pub reason: &'static str,
    /// Trunks that carry them, in order of the file.
    pub trunks: Vec<String>,
}

impl EmergencyView {
    pub fn new(config: &Config) -> Self {
        let available = emergency::is_available(config);
        let carries = |t: &&crate::config::Trunk| t.is_enabled && t.reaches_pstn && t.carries_emergency;
        let reason = if available {
            "a PSTN trunk for emergency calls is configured"
        } else if config.trunks.iter().any(|t| t.is_enabled && t.reaches_pstn) {
            "no configured PSTN trunk carries emergency calls"
        } else {
            "no PSTN trunk is configured"
        };
        Self { available, reason, trunks: config.trunks.iter().filter(carries).map(|t| t.name.clone()).collect() }
    }
}

/// Serves until the listener's task is dropped.
pub async fn serve(listener: TcpListener, admin: Admin) {
    // Only ends with an error of the listener itself, which the log of axum's own retries already shows.
    let _ = axum::serve(listener, router(admin)).await;
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/calls", get(calls))
        .route("/v1/registrations", get(registrations))
        .route("/v1/cdrs", get(cdrs))
        .route("/v1/emergency", get(emergency_view))
        .layer(middleware::from_fn(refuse_foreign_hosts))
        .with_state(admin)
}

/// A web page open on this machine can make a name of its own point to loopback (DNS rebinding) and read what it likes.
/// Its requests carry that name in `Host`; ours carry an address or `localhost`.
async fn refuse_foreign_hosts(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    if host.is_some_and(is_own_host) {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "The admin API answers to an address or to localhost only.\n").into_response()
    }
}

fn is_own_host(host: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if is_port(port) && !(bare.contains(':') && !bare.ends_with(']')) => bare,
        Some(_) | None => host,
    };
    let address = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']')).unwrap_or(bare);
    bare.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Asks the core; 503 if it is too busy, hangs or has ended.
async fn ask<T>(admin: &Admin, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, StatusCode> {
    let (reply, answer) = oneshot::channel();
    admin.to_core.try_send(ToCore::Query(query(reply))).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

#[derive(Debug, Serialize)]
struct Health {
    core: bool,
    store: bool,
}

async fn health(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    let health = Health { core: ask(&admin, Query::Stats).await.is_ok(), store: admin.store.is_healthy() };
    (status(health.core && health.store), Json(health))
}

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, Json<Ready>) {
    let ready = admin.is_ready.load(Ordering::Relaxed);
    (status(ready), Json(Ready { ready }))
}

const fn status(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    let stats = ask(&admin, Query::Stats).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::render(&admin, stats)).into_response())
}

async fn calls(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    Ok(Json(ask(&admin, Query::Calls).await?).into_response())
}

async fn registrations(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    let bindings = ask(&admin, Query::Registrations).await?;
    Ok(Json(bindings.iter().map(RegistrationView::new).collect::<Vec<_>>()).into_response())
}

/// One binding as an operator needs it: the contact's own URI may hold addresses of a home network and stays out.
#[derive(Debug, Serialize)]
struct RegistrationView<'a> {
    user: &'a str,
    transport: &'static str,
    remote: String,
    expires: String,
    user_agent: &'a str,
}

impl<'a> RegistrationView<'a> {
    fn new(binding: &'a Binding) -> Self {
        Self {
            user: &binding.aor,
            transport: binding.flow.transport.uri_token(),
            remote: binding.flow.remote.to_string(),
            expires: calendar::rfc3339(binding.expires_at.unix_ms()),
            user_agent: &binding.user_agent,
        }
    }
}

#[derive(Debug, Deserialize)]
struct CdrParameters {
    limit: Option<u32>,
}

async fn cdrs(
    State(admin): State<Admin>,
    Parameters(parameters): Parameters<CdrParameters>,
) -> Result<Response, StatusCode> {
    let limit = parameters.limit.unwrap_or(CDRS_DEFAULT).min(ADMIN_CDRS_MAX);
    let cdrs = admin.store.cdrs(limit).await.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(cdrs).into_response())
}

async fn emergency_view(State(admin): State<Admin>) -> Json<EmergencyView> {
    Json(admin.emergency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_own_hosts() {
        for own in ["127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "localhost", "LOCALHOST:1"] {
            assert!(is_own_host(own), "{own}");
        }
        for foreign in ["evil.test", "evil.test:8080", "127.0.0.1.evil.test", "localhost.evil.test:80", "", ":80"] {
            assert!(!is_own_host(foreign), "{foreign}");
        }
    }
}
