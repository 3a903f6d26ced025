//! The admin API: JSON and metrics over HTTP, on loopback, and over TLS for other machines. All of it only shows, but for
//! `/v1/resync`, which makes telephones fetch their configuration again, `/v1/trunks/drain`, which keeps new calls off a
//! trunk, `/v1/unbar`, which lets a user make costly calls again, `/v1/calls/ID/rating`, which adds to a record what a
//! user thinks of a call, and `/v1/emergency/acknowledge`, which records that a user has acknowledged the notice.
//!
//! Asks the core's task through its mailbox and answers 503 when it does not reply within a second. Shows who is
//! registered and who calls whom; never a credential, a key or a network address beyond the registered flow. Who may ask
//! is decided in `gate`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    extract::{FromRequest, Path as Segment, Query as Parameters, Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use crate::{
    call::{InspectionRefusal, LineView, SyncRefusal, TestCall, TestRefusal, WorkerLoads},
    config::{self, Config, TrunkLocation},
    policy::{
        emergency::{self, Site},
        explanation::Origin,
    },
    sip::registrar::Binding,
    types::{
        Instant,
        limits::{ADMIN_CDRS_MAX, CALLS_MAX, RESYNC_ANSWER_S_MAX, SIP_REQUEST_URI_BYTES_MAX},
    },
};

use super::{
    calendar,
    clock::Clock,
    core_task::{Query, Stats, ToCore},
    media_io::MediaCounters,
    notifier::Notifier,
    sandbox::{Measure, Missing},
    store::{Acknowledgement, Coverage, Notice, StoreError, Token, thread::StoreHandle},
    tls::Tls,
    transport::Transports,
    udp_errors::UdpErrors,
};

pub mod client;
mod connections;
mod gate;
mod metrics;

use gate::{Asker, Door, Subject};
pub use gate::{Refusals, make_operator, without_tokens};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The core reports by itself when devices have not answered.
const RESYNC_TIMEOUT: Duration = Duration::from_secs(RESYNC_ANSWER_S_MAX + 1);
const CDRS_DEFAULT: u32 = 100;
pub const RESYNC_PATH: &str = "/v1/resync";
pub const EMERGENCY_PATH: &str = "/v1/emergency";
const ACKNOWLEDGE_PATH: &str = "/v1/emergency/acknowledge";
pub const TEST_CALL_PATH: &str = "/v1/emergency/test-call";
/// The core ends a test call by itself before.
const TEST_CALL_TIMEOUT: Duration = Duration::from_secs(80);
pub const ROUTE_TEST_PATH: &str = "/v1/route-test";
pub const TRUNKS_PATH: &str = "/v1/trunks";
pub const BARRED_PATH: &str = "/v1/barred";
pub const UNBAR_PATH: &str = "/v1/unbar";
pub const DRAIN_PATH: &str = "/v1/trunks/drain";

/// What the handlers read from.
#[derive(Clone, Debug)]
pub struct Admin {
    pub to_core: mpsc::Sender<ToCore>,
    pub store: StoreHandle,
    pub media: MediaCounters,
    pub udp_errors: UdpErrors,
    pub transports: Transports,
    /// Serving, and not draining.
    pub is_ready: Arc<AtomicBool>,
    pub emergency: EmergencyView,
    /// Of the sandbox.
    pub missing: Arc<[Missing]>,
    pub notifier: Notifier,
    pub clock: Clock,
    pub started: Instant,
    /// Of this machine's operator.
    pub operator: Token,
    pub refusals: Arc<Refusals>,
}

impl Admin {
    /// The token that was shown.
    fn token(&self, shown: &str) -> Option<Token> {
        let tokens = self.store.tokens();
        let operator = Token::find(std::slice::from_ref(&self.operator), shown);
        Token::find(&tokens, shown).or(operator).cloned()
    }
}

/// What the configuration says of emergency calls (emergency RULES 8.1 and 8.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EmergencyView {
    pub available: bool,
    /// For programs: `ok` or `no-trunk`.
    pub reason: &'static str,
    /// For people.
    pub explanation: &'static str,
    pub region: String,
    /// Without prefixes.
    pub numbers: Vec<String>,
    pub test_numbers: Vec<String>,
    /// The company's address in one line.
    pub address: String,
    pub callback_numbers: Vec<String>,
    /// Those that carry them, in the order in which they are tried.
    pub trunks: Vec<String>,
    /// Of them, those to which the location goes by number, with the numbers for which, by the configuration, the carrier has the
    /// company's address.
    pub by_number: BTreeMap<String, Vec<String>>,
    pub notify: Vec<String>,
    /// For users, before a telephone is set up.
    pub notice: String,
    /// By which an acknowledgement names it.
    pub notice_version: String,
}

impl EmergencyView {
    pub fn new(config: &Config) -> Self {
        let available = emergency::is_available(config);
        let (reason, explanation) = if available {
            ("ok", "a PSTN trunk for emergency calls is configured")
        } else if config.trunks.iter().any(|t| t.is_enabled && t.reaches_pstn) {
            ("no-trunk", "no configured PSTN trunk carries emergency calls")
        } else {
            ("no-trunk", "no PSTN trunk is configured")
        };
        let site = Site::new(config, &[]);
        let trunks: Vec<_> =
            emergency::eligible_trunks(config).into_iter().map(|index| &config.trunks[index]).collect();
        let notice = Notice::new(emergency::refusal::notice(config));
        let by_number = trunks.iter().filter(|trunk| trunk.location == TrunkLocation::Elin);
        Self {
            available,
            reason,
            explanation,
            region: config.company.region.clone(),
            numbers: site.numbers().map(str::to_owned).collect(),
            test_numbers: site.test_numbers().map(str::to_owned).collect(),
            address: emergency::location::company_line(config),
            callback_numbers: config.emergency.callback_numbers.clone(),
            by_number: by_number.map(|trunk| (trunk.name.clone(), trunk.elins.clone())).collect(),
            trunks: trunks.iter().map(|trunk| trunk.name.clone()).collect(),
            notify: config.emergency.notify.iter().map(config::NotifyTarget::label).collect(),
            notice: notice.text,
            notice_version: notice.version,
        }
    }

    fn notice(&self) -> Notice {
        Notice { version: self.notice_version.clone(), text: self.notice.clone() }
    }

    /// In one line, for the log and the service manager (8.1).
    pub fn sentence(&self) -> String {
        let Self { region, numbers, address, callback_numbers, trunks, .. } = self;
        let numbers = numbers.join(", ");
        if !self.available {
            return format!("EMERGENCY CALLS ARE REFUSED: {} (region {region}: {numbers})", self.explanation);
        }
        format!(
            "Emergency calls are available. Region {region}: {numbers}. Location: {address}. Callback: {}. Trunks: {}.",
            callback_numbers.join(", "),
            trunks.join(", ")
        )
    }
}

/// Serves this machine's programs until it is dropped.
pub async fn serve(listener: TcpListener, admin: Admin) {
    match connections::serve(listener, None, router(admin, Door::Loopback)).await {}
}

/// Serves other machines until it is dropped.
pub async fn serve_tls(listener: TcpListener, tls: Arc<Tls>, admin: Admin) {
    match connections::serve(listener, Some(tls), router(admin, Door::Tls)).await {}
}

fn router(admin: Admin, door: Door) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/calls", get(calls))
        .route("/v1/calls/{id}", get(call))
        .route("/v1/calls/{id}/rating", post(rate))
        .route("/v1/registrations", get(registrations))
        .route("/v1/cdrs", get(cdrs))
        .route(EMERGENCY_PATH, get(emergency_view))
        .route(TEST_CALL_PATH, post(test_call))
        .route(ACKNOWLEDGE_PATH, post(acknowledge))
        .route(ROUTE_TEST_PATH, get(route_test))
        .route(TRUNKS_PATH, get(trunks))
        .route(RESYNC_PATH, post(resync))
        .route(DRAIN_PATH, post(drain_trunk))
        .route(BARRED_PATH, get(barred))
        .route(UNBAR_PATH, post(unbar))
        .layer(middleware::from_fn_with_state((admin.clone(), door), gate::check))
        .with_state(admin)
}

/// Asks the core; 503 if it is too busy, hangs or has ended.
async fn ask<T>(admin: &Admin, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Result<T, StatusCode> {
    ask_within(ANSWER_TIMEOUT, admin, query).await
}

async fn ask_within<T>(
    time: Duration,
    admin: &Admin,
    query: impl FnOnce(oneshot::Sender<T>) -> Query,
) -> Result<T, StatusCode> {
    let (reply, answer) = oneshot::channel();
    admin.to_core.try_send(ToCore::Query(query(reply))).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    match tokio::time::timeout(time, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

#[derive(Debug, Serialize)]
struct Health {
    core: bool,
    store: bool,
    /// Call detail records that wait for the disk, and those that were lost because too many waited.
    cdrs_waiting: u64,
    cdrs_lost: u64,
    /// Every media worker answers.
    media: bool,
    /// By measure: whether it is in force. One that is not makes nobody unhealthy: the operator has allowed it.
    sandbox: BTreeMap<&'static str, bool>,
    /// `null`: the core does not answer. That new calls are refused makes nobody unhealthy: those there are go on.
    capacity: Option<CapacityView>,
}

/// How full the server is.
#[derive(Debug, Serialize)]
struct CapacityView {
    calls: usize,
    calls_max: usize,
    /// Of each media worker.
    media_load_percent: Vec<f64>,
    media_load_max_percent: f64,
    /// New calls are refused because of that load.
    refusing: bool,
}

impl CapacityView {
    fn new(stats: &Stats) -> Self {
        let WorkerLoads { busy_permille, max_permille, is_refusing } = &stats.loads;
        Self {
            calls: stats.calls,
            calls_max: CALLS_MAX,
            media_load_percent: busy_permille.iter().map(|permille| f64::from(*permille) / 10.0).collect(),
            media_load_max_percent: f64::from(*max_permille) / 10.0,
            refusing: *is_refusing,
        }
    }
}

async fn health(State(admin): State<Admin>) -> (StatusCode, Json<Health>) {
    let is_in_force = |measure: Measure| admin.missing.iter().all(|missing| missing.measure != measure);
    let stats = ask(&admin, Query::Stats).await.ok();
    let health = Health {
        core: stats.is_some(),
        store: admin.store.is_healthy(),
        cdrs_waiting: admin.store.waiting().cdrs,
        cdrs_lost: admin.store.lost().cdrs,
        media: admin.media.are_alive(),
        sandbox: Measure::ALL.into_iter().map(|measure| (measure.label(), is_in_force(measure))).collect(),
        capacity: stats.as_ref().map(CapacityView::new),
    };
    (status(health.core && health.store && health.media), Json(health))
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

/// A live call by the identifier of its record, with the quality of its legs up to now.
async fn call(State(admin): State<Admin>, Segment(id): Segment<String>) -> Result<Response, StatusCode> {
    match ask(&admin, |reply| Query::Call { id, reply }).await? {
        Ok(detail) => Ok(Json(detail).into_response()),
        Err(InspectionRefusal::NoSuchCall) => Err(StatusCode::NOT_FOUND),
        Err(InspectionRefusal::TooMany) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// What a user thinks of a call that is over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rating {
    user: String,
    rating: u8,
}

/// 404: there is no record of such a call in which this user took part.
async fn rate(
    State(admin): State<Admin>,
    Extension(subject): Extension<Subject>,
    Segment(id): Segment<String>,
    Order(Rating { user, rating }): Order<Rating>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    subject.is(&format!("{user}, call {id}"));
    if !(1..=5).contains(&rating) {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, "A rating is a whole number from 1 (bad) to 5 (excellent).\n"));
    }
    match admin.store.rate(id, user, rating).await {
        Some(true) => Ok(StatusCode::NO_CONTENT),
        Some(false) => Err((StatusCode::NOT_FOUND, "There is no record of a call of this user by this name.\n")),
        None => Err((StatusCode::SERVICE_UNAVAILABLE, "The store does not answer in time.\n")),
    }
}

async fn registrations(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    let bindings = ask(&admin, Query::Registrations).await?;
    Ok(Json(bindings.iter().map(|binding| RegistrationView::new(binding)).collect::<Vec<_>>()).into_response())
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

/// An order in JSON. What is wrong with it is said without repeating any of it.
struct Order<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Order<T> {
    type Rejection = (StatusCode, &'static str);

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        match Json::from_request(request, state).await {
            Ok(Json(order)) => Ok(Self(order)),
            Err(rejection) => Err((rejection.status(), "The body is not this order, as application/json.\n")),
        }
    }
}

/// What to do, and for whom.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResyncOrder {
    pub user: String,
    pub reboot: bool,
}

/// Answers with what each device said. A web page cannot give this order from a browser on this machine: the media type
/// that [`Order`] asks for makes the browser ask first whether the page may, and nothing here says yes.
async fn resync(
    State(admin): State<Admin>,
    Extension(subject): Extension<Subject>,
    Order(order): Order<ResyncOrder>,
) -> Result<Response, StatusCode> {
    let ResyncOrder { user, reboot } = order;
    subject.is(&user);
    let query = |reply| Query::Resync { user, is_reboot: reboot, reply };
    match ask_within(RESYNC_TIMEOUT, &admin, query).await? {
        Ok(devices) => Ok(Json(devices).into_response()),
        Err(SyncRefusal::NoSuchUser) => Err(StatusCode::NOT_FOUND),
        Err(SyncRefusal::TooMany) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Nothing is to be said; an order all the same, so that no web page can give it: a body of this media type needs the
/// server's leave first, which it never gives.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TestCallOrder {}

async fn test_call(
    State(admin): State<Admin>,
    Order(TestCallOrder {}): Order<TestCallOrder>,
) -> Result<Response, StatusCode> {
    match ask_within(TEST_CALL_TIMEOUT, &admin, Query::TestCall).await? {
        Ok(result) => Ok(Json(result).into_response()),
        Err(TestRefusal::NoTrunk | TestRefusal::NoTestNumber) => Err(StatusCode::NOT_FOUND),
        Err(TestRefusal::UnderWay) => Err(StatusCode::CONFLICT),
    }
}

/// That a user has acknowledged a notice, by the version that was shown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgeOrder {
    user: String,
    notice: String,
}

/// 409: another notice holds by now. No web page can give this order: see [`resync`].
async fn acknowledge(
    State(admin): State<Admin>,
    Extension(subject): Extension<Subject>,
    Extension(asker): Extension<Asker>,
    Order(AcknowledgeOrder { user, notice }): Order<AcknowledgeOrder>,
) -> Result<StatusCode, (StatusCode, &'static str)> {
    if !asker.may_ask_about(&user) {
        return Err((StatusCode::FORBIDDEN, "A user acknowledges for itself only.\n"));
    }
    subject.is(&user);
    if notice != admin.emergency.notice_version {
        let why = "This is not the notice that holds now: show the one of GET /v1/emergency.\n";
        return Err((StatusCode::CONFLICT, why));
    }
    let time_ms = admin.clock.now().unix_ms();
    match admin.store.acknowledge(user, admin.emergency.notice(), time_ms, asker.label()).await {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Some(Err(StoreError::NoSuchUser(_))) => Err((StatusCode::NOT_FOUND, "There is no such user.\n")),
        Some(Err(_)) | None => Err((StatusCode::SERVICE_UNAVAILABLE, "The store does not answer in time.\n")),
    }
}

#[derive(Debug, Deserialize)]
struct EmergencyParameters {
    /// The name of a user: what its calls carry is shown, too.
    user: Option<String>,
}

/// The configuration's part, and what the core adds, if it answers.
#[derive(Debug, Serialize)]
struct EmergencyReply<'a> {
    #[serde(flatten)]
    view: &'a EmergencyView,
    /// Users who have acknowledged the notice; `null` where the store does not say.
    acknowledged: Option<Coverage>,
    /// The user's; `null`: never, or no user is named.
    acknowledgement: Option<AcknowledgementView>,
    /// `up`, `draining` or `down` for each trunk; `null` where the core does not say.
    trunk_states: Option<Vec<&'static str>>,
    /// `company` or `private`.
    erl: &'static str,
    /// Where the answering point calls back: the user's direct line, or one of the company's numbers.
    callback: Option<String>,
    last_test_call: Option<TestCall>,
}

/// What a user has acknowledged last: the notice that holds now, or an earlier one.
#[derive(Debug, Serialize)]
struct AcknowledgementView {
    notice: String,
    is_current: bool,
    time: String,
    recorded_by: String,
}

impl AcknowledgementView {
    fn new(acknowledgement: Acknowledgement, current: &str) -> Self {
        let Acknowledgement { notice, time_ms, recorded_by, .. } = acknowledgement;
        Self { is_current: notice == current, notice, time: calendar::rfc3339(time_ms), recorded_by }
    }
}

/// The reply to a user of the directory: nothing of other users (but who has recorded its acknowledgement), and nothing of the trunks.
#[derive(Debug, Serialize)]
struct OwnEmergencyReply<'a> {
    available: bool,
    reason: &'static str,
    explanation: &'static str,
    region: &'a str,
    numbers: &'a [String],
    test_numbers: &'a [String],
    erl: &'static str,
    /// The user's private one, or the company's.
    address: &'a str,
    callback: Option<String>,
    notice: &'a str,
    notice_version: &'a str,
    acknowledgement: Option<AcknowledgementView>,
}

async fn own_emergency_view(admin: &Admin, user: String) -> Result<Response, StatusCode> {
    let EmergencyView { available, reason, explanation, region, numbers, test_numbers, address, .. } = &admin.emergency;
    let version = &admin.emergency.notice_version;
    let known = admin.store.acknowledged(version.clone(), Some(user.clone())).await;
    let state = ask(admin, |reply| Query::Emergency { user: Some(user), reply }).await?;
    let line = state.and_then(|state| state.of_user).ok_or(StatusCode::NOT_FOUND)?;
    let reply = OwnEmergencyReply {
        available: *available,
        reason,
        explanation,
        region,
        numbers,
        test_numbers,
        erl: erl(Some(&line)),
        address: line.private_address.as_ref().map_or(address.as_str(), |own| own.expose().as_str()),
        callback: line.callback.clone().filter(|_| *available),
        notice: &admin.emergency.notice,
        notice_version: version,
        acknowledgement: known
            .and_then(|known| known.of_user)
            .map(|acknowledgement| AcknowledgementView::new(acknowledgement, version)),
    };
    Ok(Json(reply).into_response())
}

fn erl(line: Option<&LineView>) -> &'static str {
    if line.is_some_and(|line| line.private_address.is_some()) { "private" } else { "company" }
}

/// A private address is shown to its user only, and to the operator by `ringdown user address`.
async fn emergency_view(
    State(admin): State<Admin>,
    Extension(asker): Extension<Asker>,
    Parameters(parameters): Parameters<EmergencyParameters>,
) -> Result<Response, StatusCode> {
    let user = parameters.user;
    if let Asker::User(own) = &asker {
        let is_own = user.is_none_or(|user| asker.may_ask_about(&user));
        return if is_own { own_emergency_view(&admin, own.clone()).await } else { Err(StatusCode::FORBIDDEN) };
    }
    let is_of_user = user.is_some();
    let version = &admin.emergency.notice_version;
    let known = admin.store.acknowledged(version.clone(), user.clone()).await;
    let state = match ask(&admin, |reply| Query::Emergency { user, reply }).await {
        Ok(Some(state)) => Some(state),
        Ok(None) => return Err(StatusCode::NOT_FOUND),
        Err(status) if is_of_user => return Err(status),
        // Whether emergency calls can be made is known without the core.
        Err(_) => None,
    };
    let of_user = state.as_ref().and_then(|state| state.of_user.clone());
    let reply = EmergencyReply {
        view: &admin.emergency,
        acknowledged: known.as_ref().map(|known| known.coverage),
        acknowledgement: known
            .and_then(|known| known.of_user)
            .map(|acknowledgement| AcknowledgementView::new(acknowledgement, version)),
        trunk_states: state.as_ref().map(|state| state.trunk_states.clone()),
        erl: erl(of_user.as_ref()),
        callback: match of_user {
            Some(line) => line.callback,
            None => admin.emergency.callback_numbers.first().cloned(),
        },
        last_test_call: state.and_then(|state| state.last_test),
    };
    Ok(Json(reply).into_response())
}

/// Who calls, and what is dialled.
#[derive(Debug, Deserialize)]
struct RouteTestParameters {
    /// Name or extension of a user; or else a trunk that brings the call.
    from: Option<String>,
    trunk: Option<String>,
    number: String,
}

#[derive(Debug, Serialize)]
struct RouteTestReply {
    steps: Vec<String>,
}

/// What would become of a call now. 404: there is no such user or trunk.
async fn route_test(
    State(admin): State<Admin>,
    Parameters(parameters): Parameters<RouteTestParameters>,
) -> Result<Response, (StatusCode, &'static str)> {
    let RouteTestParameters { from, trunk, number } = parameters;
    let origin = match (from, trunk) {
        (Some(user), None) => Origin::User(user),
        (None, Some(trunk)) => Origin::Trunk(trunk),
        (Some(_), Some(_)) | (None, None) => {
            return Err((StatusCode::BAD_REQUEST, "Who calls is wanted: from=USER, or trunk=NAME.\n"));
        }
    };
    if number.len() > SIP_REQUEST_URI_BYTES_MAX {
        return Err((StatusCode::BAD_REQUEST, "No number is so long.\n"));
    }
    let explained = ask(&admin, |reply| Query::RouteTest { origin, number, reply }).await;
    let explained = explained.map_err(|status| (status, "The server is too busy to say.\n"))?;
    let text = explained.ok_or((StatusCode::NOT_FOUND, "There is no such user or trunk.\n"))?;
    Ok(Json(RouteTestReply { steps: text.lines().map(str::to_owned).collect() }).into_response())
}

async fn trunks(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    Ok(Json(ask(&admin, Query::Trunks).await?).into_response())
}

/// Which trunk, and whether it shall be drained.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    pub trunk: String,
    pub drain: bool,
}

/// Answers with the trunk as it is then. No web page can give this order: see [`resync`].
async fn drain_trunk(
    State(admin): State<Admin>,
    Extension(subject): Extension<Subject>,
    Order(order): Order<DrainOrder>,
) -> Result<Response, StatusCode> {
    let name = order.trunk.clone();
    subject.is(&name);
    let query = |reply| Query::DrainTrunk { trunk: order.trunk, is_draining: order.drain, reply };
    let trunks = ask(&admin, query).await?;
    let trunk = trunks.into_iter().find(|trunk| trunk.name == name).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(trunk).into_response())
}

async fn barred(State(admin): State<Admin>) -> Result<Response, StatusCode> {
    Ok(Json(ask(&admin, Query::Barred).await?).into_response())
}

/// Who may make costly calls again.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UnbarOrder {
    pub user: String,
}

/// Answers with who is barred then. No web page can give this order: see [`resync`].
async fn unbar(
    State(admin): State<Admin>,
    Extension(subject): Extension<Subject>,
    Order(order): Order<UnbarOrder>,
) -> Result<Response, StatusCode> {
    subject.is(&order.user);
    let query = |reply| Query::Unbar { user: order.user, reply };
    Ok(Json(ask(&admin, query).await?).into_response())
}

#[cfg(test)]
mod tests;
