//! Who may ask what: bearer tokens (RFC 6750) with a role, and the record of every order.
//!
//! Over loopback come this machine's programs, over TLS anybody. Whether the server lives may be asked by every program
//! of this machine; all else needs a token. This machine's operator has one without doing anything for it: the server
//! writes it to the state folder, where only its own user and root can read it. Users of the directory may ask what their own
//! emergency calls carry, and acknowledge the notice, with the passwords of their telephones (HTTP Digest, RFC 7616).

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::debug;

use crate::{
    call::{WebRequest, WebUser},
    config::{Config, Problem, Severity},
    shell::{
        core_task::Query,
        files,
        store::{AuditEntry, OPERATOR, Role, Token, USER_PREFIX},
    },
    types::{
        Instant, Rng, Secret,
        limits::{AUDIT_TEXT_BYTES_MAX, REFUSALS_WINDOW_S},
    },
};

use super::{ACKNOWLEDGE_PATH, Admin, EMERGENCY_PATH, ask, connections::Remote};

/// In the state folder.
const OPERATOR_FILE: &str = "admin.token";
/// What programs of this machine may see without a token. Names nobody.
const OPEN: [&str; 3] = ["/health", "/ready", "/metrics"];

/// What users may ask and say about themselves (RULES 8.2 and 8.3).
const FOR_USERS: [&str; 2] = [EMERGENCY_PATH, ACKNOWLEDGE_PATH];

/// Of the refused orders of one token, one in this time goes to the audit log; all are counted.
const REFUSAL_PAUSE: Duration = Duration::from_secs(10);

/// Requests that were refused.
#[derive(Debug, Default)]
pub struct Refusals {
    count: AtomicU64,
    /// When a refused order of a token last went to the audit log.
    recorded: Mutex<HashMap<String, Instant>>,
}

impl Refusals {
    /// Since the start.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this one of a token goes to the audit log.
    fn is_recorded(&self, token: &str, now: Instant) -> bool {
        // Whoever panicked left the map as whole as it was.
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.retain(|_, at| now.since(*at) < REFUSAL_PAUSE);
        let is_first = !recorded.contains_key(token);
        if is_first {
            recorded.insert(token.to_owned(), now);
        }
        is_first
    }
}

/// Which way a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Loopback,
    Tls,
}

/// What an order is about, as its handler has understood it; for the audit log.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject(Arc<OnceLock<String>>);

impl Subject {
    pub(super) fn is(&self, name: &str) {
        // An order has one.
        let _ = self.0.set(name.to_owned());
    }
}

/// Who asks or gives an order.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    Token(Token),
    /// A user of the directory, by name: asks and says what is about itself.
    User(String),
}

impl Asker {
    /// For the records.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Token(token) => token.name.clone(),
            Self::User(name) => format!("{USER_PREFIX}{name}"),
        }
    }

    /// Whether anything of this user is its business.
    pub(super) fn may_ask_about(&self, user: &str) -> bool {
        match self {
            Self::Token(_) => true,
            Self::User(name) => name == user,
        }
    }
}

/// Where the token of this machine's operator lies.
pub(super) fn operator_file(state_dir: &Path) -> PathBuf {
    state_dir.join(OPERATOR_FILE)
}

/// Makes the token of this machine's operator, anew at each start.
pub fn make_operator(state_dir: &Path, now: Instant, rng: &mut Rng) -> std::io::Result<Token> {
    let (token, shown) = Token::make(OPERATOR, Role::Admin, now, rng);
    files::write(&operator_file(state_dir), shown.expose().as_bytes())?;
    Ok(token)
}

/// An interface for other machines that nobody has a token for.
pub fn without_tokens(config: &Config, tokens: &[Token]) -> Option<Problem> {
    let is_closed = !config.admin.tls.is_empty() && tokens.is_empty();
    is_closed.then(|| Problem {
        severity: Severity::Warning,
        line: 0,
        key: "admin.tls".to_owned(),
        message: "nobody has a token, so every request from other machines is refused".to_owned(),
        remedy: "`ringdown token add --role read NAME`".to_owned(),
    })
}

/// Lets a request through, or says why not.
#[expect(clippy::disallowed_methods, reason = "an order outlives the connection that brought it")]
pub(super) async fn check(State((admin, door)): State<(Admin, Door)>, mut request: Request, next: Next) -> Response {
    let is_order = !request.method().is_safe();
    if door == Door::Loopback {
        let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
        if !host.is_some_and(is_own_host) {
            let why = "The admin API answers to an address or to localhost only.\n";
            return (StatusCode::FORBIDDEN, why).into_response();
        }
        if !is_order && OPEN.contains(&request.uri().path()) {
            return next.run(request).await;
        }
    }
    let asker = match shown(request.headers()).and_then(|shown| admin.token(shown)) {
        Some(token) => Asker::Token(token),
        None if FOR_USERS.contains(&request.uri().path()) => {
            let credentials = web_request(&request);
            match user(&admin, credentials).await {
                Ok(user) => Asker::User(user),
                Err(refusal) => return *refusal,
            }
        }
        None => {
            admin.refusals.add();
            debug!(?door, "A request without a known token was refused.");
            return unknown(Vec::new());
        }
    };
    let token = match &asker {
        Asker::Token(token) => Some((token.name.clone(), token.role == Role::Admin)),
        Asker::User(_) => None,
    };
    request.extensions_mut().insert(asker);
    if !is_order {
        return next.run(request).await;
    }
    // What users say of themselves is kept in a place of its own. In the audit log they could push orders out with it.
    let Some((name, may_order)) = token else {
        request.extensions_mut().insert(Subject::default());
        let response = next.run(request).await;
        if response.status() == StatusCode::FORBIDDEN {
            admin.refusals.add();
        }
        return response;
    };
    let action = action(&request);
    let (clock, actor) = (admin.clock, name.clone());
    let entry = move |subject: Option<String>, status: StatusCode| AuditEntry {
        time_ms: clock.now().unix_ms(),
        actor,
        action,
        subject,
        outcome: status.as_u16().to_string(),
        refused: !may_order,
    };
    if !may_order {
        admin.refusals.add();
        if admin.refusals.is_recorded(&name, admin.clock.now()) {
            admin.store.record_refusal(entry(None, StatusCode::FORBIDDEN));
        }
        return (StatusCode::FORBIDDEN, "This order needs a token with the role admin.\n").into_response();
    }
    // Before the order, so that none is carried out of which nothing would be known.
    let Some(place) = admin.store.audit_place() else {
        let why = "The audit log cannot take this order, so it is not carried out: the disk fails or hangs.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let subject = Subject::default();
    request.extensions_mut().insert(subject.clone());
    // A task of its own: whoever hangs up meanwhile ends neither the order nor its record.
    let order = async move {
        let response = next.run(request).await;
        admin.store.record(place, entry(subject.0.get().cloned().map(cut), response.status()));
        response
    };
    tokio::spawn(order).await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The order as this interface names it: what a client writes in a path is no part of it.
fn action(request: &Request) -> String {
    let path = request.extensions().get::<MatchedPath>().map_or("to no page of this interface", MatchedPath::as_str);
    cut(format!("{} {path}", request.method()))
}

/// What of a request tells which user sends it. `None`: nobody knows where it comes from.
fn web_request(request: &Request) -> Option<WebRequest> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let Remote(source) = *request.extensions().get()?;
    Some(WebRequest {
        source,
        method: request.method().to_string(),
        target: request.uri().to_string(),
        shown: Secret::new(request.headers().get_all(header::AUTHORIZATION).iter().filter_map(text).collect()),
        user_agent: request.headers().get(header::USER_AGENT).and_then(text).unwrap_or_default(),
    })
}

/// Which user of the directory this is, or what to answer.
async fn user(admin: &Admin, request: Option<WebRequest>) -> Result<String, Box<Response>> {
    let request = request.ok_or_else(|| Box::new(unknown(Vec::new())))?;
    let has_shown = !request.shown.expose().is_empty();
    let known = ask(admin, |reply| Query::WebUser { request, reply }).await;
    match known.map_err(|status| Box::new(status.into_response()))? {
        WebUser::Known(user) => Ok(user),
        WebUser::Unknown(challenges) => {
            if has_shown {
                admin.refusals.add();
                debug!("A request without a known token or password was refused.");
            }
            Err(Box::new(unknown(challenges)))
        }
        WebUser::Barred => {
            admin.refusals.add();
            let why = "Too many passwords from here or of this user were wrong. Try again later.\n";
            let wait = [(header::RETRY_AFTER, REFUSALS_WINDOW_S.to_string())];
            Err(Box::new((StatusCode::TOO_MANY_REQUESTS, wait, why).into_response()))
        }
    }
}

/// `challenges`: by which a user of the directory may prove itself, where one may ask at all.
fn unknown(challenges: Vec<String>) -> Response {
    let why = if challenges.is_empty() {
        "A token is needed: Authorization: Bearer TOKEN. `ringdown token add` makes one.\n"
    } else {
        "A token is needed, or the user name and password of a telephone (HTTP Digest).\n"
    };
    let mut response = (StatusCode::UNAUTHORIZED, why).into_response();
    let bearer = "Bearer realm=\"ringdown\"".to_owned();
    for challenge in challenges.into_iter().chain([bearer]).filter_map(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What a client says may be as long as it likes.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX));
    text
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn shown(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim_start())
}

/// A web page open on this machine can make a name of its own point to loopback (DNS rebinding) and read what it likes.
/// Its requests carry that name in `Host`; ours carry an address or `localhost`.
fn is_own_host(host: &str) -> bool {
    let name = host.parse::<Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(&name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
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

    #[test]
    fn a_token_is_read_from_bearer_credentials_only() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            shown(&headers).map(str::to_owned)
        };
        for (text, token) in [("Bearer x", Some("x")), ("bearer  x", Some("x")), ("Basic x", None), ("x", None)] {
            assert_eq!(of(text).as_deref(), token, "{text}");
        }
    }

    #[test]
    fn of_the_refused_orders_of_a_token_one_goes_to_the_audit_log_and_then_waits() {
        let refusals = Refusals::default();
        let at = |s: u64| Instant::from_unix_ms(1_000 * s);
        let told = [("a", 0), ("a", 0), ("b", 1), ("a", 9), ("a", 10), ("b", 10), ("b", 11)]
            .map(|(token, s)| refusals.is_recorded(token, at(s)));
        assert_eq!(told, [true, false, true, false, true, false, true]);
    }

    #[test]
    fn what_a_client_says_is_cut_between_characters() {
        let text = "\u{e9}".repeat(AUDIT_TEXT_BYTES_MAX);
        assert_eq!(cut(format!("a{text}")).len(), AUDIT_TEXT_BYTES_MAX - 1);
        assert_eq!(cut("POST /v1/unbar".to_owned()), "POST /v1/unbar");
    }
}
