//! What goes into the core and what comes out: messages, media commands, records, and the views of the admin API.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use serde::Serialize;

use super::{
    capacity::Rejection,
    cdr::{Cdr, LegRecord},
    notification::Notice,
    quality_totals::QualityTotals,
};
use crate::{
    config::{Config, Directory, NotifyTarget},
    media,
    policy::{outside::LIMITS, stir::Place},
    sip::{
        locate,
        registrar::{Binding, Change},
    },
    types::{
        CallId, Duration, Flow, Instant, Private, Rng, Secret, Transport, certificate::SubjectNames,
        histogram::Histogram, reason::DropCounters,
    },
    wire::{
        passport::{Certificate, Signer},
        sip::frame::FrameError,
    },
};

/// What the core needs to know of the machine it runs on; all decided before it starts.
#[derive(Debug)]
pub struct Setup {
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    /// SIP listening addresses as bound, with their transport.
    pub listeners: Vec<(Transport, SocketAddr)>,
    pub workers: u16,
    /// Trunk passwords by trunk name, read from their files by the shell.
    pub trunk_passwords: HashMap<String, Secret<String>>,
    /// Bindings of the store.
    pub bindings: Vec<Binding>,
    /// Makes GRUUs; the same after a restart, so that they stay good.
    pub gruu_key: Secret<[u8; 32]>,
    pub rng: Rng,
}

/// Whose datagram something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Of a telephone or a host that this server knows.
    Known,
    /// Of a stranger who calls for help.
    Emergency,
    Stranger,
}

pub enum Input {
    /// One framed message (or datagram).
    Received {
        flow: Flow,
        bytes: Bytes,
    },
    /// A connection whose bytes cannot be cut into messages any more: nothing after `error` is read from it.
    Unframeable {
        flow: Flow,
        error: FrameError,
    },
    /// The connection closed or could not be opened, or a datagram could not be sent.
    FlowFailed {
        flow: Flow,
    },
    /// A keep-alive arrived on this connection.
    Alive {
        flow: Flow,
    },
    /// The peer of a new connection has proven to own a certificate with these names. Comes before the connection's first
    /// message.
    Certified {
        flow: Flow,
        names: SubjectNames,
    },
    /// The answer to [`Output::Resolve`]; each is answered once.
    Resolved {
        query: u64,
        question: locate::Question,
        reply: locate::Reply,
    },
    /// The answer to [`Output::FetchCertificate`]; each is answered once.
    Certificate {
        query: u64,
        reply: CertificateReply,
    },
    /// Other authorities vouch for certificates of signed calls from now on.
    AnchorsChanged,
    /// Calls to carriers are signed with this from now on.
    Signer(Signer),
    Media(media::Event),
    /// What [`Output::OpenCdr`] said of these calls is on disk, or the disk fails and nobody is to wait for it.
    CdrsOpened(Vec<CallId>),
    /// Users were added or removed.
    Directory(Arc<Directory>),
    /// An operator wants the devices of this user to fetch their configuration again; answered once, by
    /// [`Output::Resynced`] with this `id`.
    Resync {
        id: u64,
        user: String,
        is_reboot: bool,
    },
    /// An operator looks at a live call, by the identifier of its record; answered once, by [`Output::Inspected`] with this `id`.
    Inspect {
        id: u64,
        call: String,
    },
    /// An operator wants a call to the carrier's test number; answered once, by [`Output::TestCalled`] with this `id`.
    TestCall {
        id: u64,
    },
    /// An operator keeps new calls off a trunk, or lets them take it again. A name that no trunk has is ignored.
    DrainTrunk {
        trunk: String,
        is_draining: bool,
    },
    /// An operator lets a user call international and premium numbers again.
    Unbar {
        user: String,
    },
    /// Refuse new calls, keep live ones (SIGTERM).
    Drain,
    /// Take the registrations at trunks back: the end is near.
    Leave,
    /// End the calls that are still live, and tell both sides why; `Ordinary`: all but those of emergencies.
    EndCalls(Which),
    Timeout,
}

/// Calls that the end of the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Ordinary,
    All,
}

pub enum Output {
    Transmit {
        flow: Flow,
        bytes: Bytes,
    },
    /// Open a connection and call it `flow.connection`; transmits to it may follow at once and are queued by the shell.
    /// TLS is verified against `server_name`, by what the trunk with this index has in the configuration.
    Connect {
        flow: Flow,
        server_name: String,
        trunk: usize,
    },
    /// Close this connection; the core has forgotten it.
    Close {
        flow: Flow,
    },
    /// Ask DNS where a trunk is.
    Resolve {
        query: u64,
        question: locate::Question,
    },
    /// Fetch the certificate of a signed call, and see that it can be believed.
    FetchCertificate {
        query: u64,
        place: Place,
    },
    Media {
        worker: u16,
        command: media::Command,
    },
    /// To be on disk before the next `Transmit` leaves.
    StoreBinding(Change),
    /// A call begins; what its record would say if the server ended now. Answered once, by [`Input::CdrsOpened`].
    OpenCdr {
        call: CallId,
        cdr: Box<Cdr>,
    },
    /// The same call is answered.
    UpdateCdr(Box<Cdr>),
    /// A call is over, or was refused; takes the place of what was said of it before.
    StoreCdr(Box<Cdr>),
    Resynced {
        id: u64,
        result: Result<Vec<DeviceSync>, SyncRefusal>,
    },
    TestCalled {
        id: u64,
        result: Result<TestCall, TestRefusal>,
    },
    /// POST this notice to a web server; nothing is heard of it again.
    Notify {
        target: NotifyTarget,
        notice: Box<Notice>,
    },
    Inspected {
        id: u64,
        result: Result<Box<CallDetail>, InspectionRefusal>,
    },
    Timeout(Option<Instant>),
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received { flow, bytes } => write!(f, "Received({flow:?}, {} bytes)", bytes.len()),
            Self::Unframeable { flow, error } => write!(f, "Unframeable({flow:?}, {:?})", error.fault),
            Self::FlowFailed { flow } => write!(f, "FlowFailed({flow:?})"),
            Self::Alive { flow } => write!(f, "Alive({flow:?})"),
            Self::Certified { flow, names } => write!(f, "Certified({flow:?}, {names:?})"),
            Self::Resolved { query, question, reply } => write!(f, "Resolved({query}, {question:?}, {reply:?})"),
            Self::Certificate { query, reply } => write!(f, "Certificate({query}, {reply:?})"),
            Self::AnchorsChanged => f.write_str("AnchorsChanged"),
            Self::Signer(signer) => write!(f, "{signer:?}"),
            Self::Media(event) => write!(f, "Media({event:?})"),
            Self::CdrsOpened(calls) => write!(f, "CdrsOpened({calls:?})"),
            Self::Directory(directory) => write!(f, "Directory({} users)", directory.len()),
            Self::Resync { id, user, is_reboot } => write!(f, "Resync({id}, {user}, {is_reboot})"),
            Self::Inspect { id, call } => write!(f, "Inspect({id}, {call})"),
            Self::TestCall { id } => write!(f, "TestCall({id})"),
            Self::DrainTrunk { trunk, is_draining } => write!(f, "DrainTrunk({trunk}, {is_draining})"),
            Self::Unbar { user } => write!(f, "Unbar({user})"),
            Self::Drain => f.write_str("Drain"),
            Self::Leave => f.write_str("Leave"),
            Self::EndCalls(which) => write!(f, "EndCalls({which:?})"),
            Self::Timeout => f.write_str("Timeout"),
        }
    }
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transmit { flow, bytes } => write!(f, "Transmit({flow:?}, {} bytes)", bytes.len()),
            Self::Connect { flow, server_name, trunk: _ } => write!(f, "Connect({flow:?}, {server_name})"),
            Self::Close { flow } => write!(f, "Close({flow:?})"),
            Self::Resolve { query, question } => write!(f, "Resolve({query}, {question:?})"),
            Self::FetchCertificate { query, place } => write!(f, "FetchCertificate({query}, {place:?})"),
            Self::Media { worker, command } => write!(f, "Media({worker}, {command:?})"),
            Self::StoreBinding(change) => write!(f, "StoreBinding({change:?})"),
            Self::OpenCdr { call, cdr: _ } => write!(f, "OpenCdr({call:?})"),
            Self::UpdateCdr(cdr) => write!(f, "UpdateCdr({})", cdr.id),
            Self::StoreCdr(cdr) => write!(f, "StoreCdr({})", cdr.id),
            Self::Resynced { id, result } => write!(f, "Resynced({id}, {result:?})"),
            Self::TestCalled { id, result } => write!(f, "TestCalled({id}, {result:?})"),
            Self::Notify { target, notice } => write!(f, "Notify({target:?}, {:?})", notice.outcome),
            Self::Inspected { id, result } => write!(f, "Inspected({id}, {})", result.is_ok()),
            Self::Timeout(at) => write!(f, "Timeout({at:?})"),
        }
    }
}

/// What came of fetching a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateReply {
    /// One that an authority of the operator vouches for; it may be kept for this time.
    Found { certificate: Box<Certificate>, ttl: Duration },
    /// Why there is none.
    Unusable(&'static str),
}

/// A live call as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallView {
    pub id: String,
    pub caller: String,
    pub callee: String,
    /// `setup`, `ringing`, `answered`, `ending`.
    pub state: &'static str,
    pub start_ms: u64,
    pub answer_ms: Option<u64>,
    pub emergency: bool,
    pub trunk: Option<String>,
    /// The user, or the outside number, that answered.
    pub answered_by: Option<String>,
    /// The user whose transfer made this call.
    pub transferred_by: Option<String>,
    pub a_suite: Option<String>,
    pub b_suite: Option<String>,
}

/// The same with how its legs do now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallDetail {
    #[serde(flatten)]
    pub call: CallView,
    pub a: LegDetail,
    /// The leg that has answered.
    pub b: Option<LegDetail>,
}

/// What the leg's record would say if the call ended now, and whether its peer is silent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LegDetail {
    #[serde(flatten)]
    pub record: LegRecord,
    pub silence: Option<SilenceView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SilenceView {
    /// When it was noticed, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// `no_packets`, `authentication`, `payload_type`, `source`, `replay` or `too_many_ssrcs`.
    pub cause: &'static str,
    /// RTCP still came.
    pub rtcp: bool,
}

/// Why a call is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectionRefusal {
    NoSuchCall,
    /// As many looks as there may be wait for their workers.
    TooMany,
}

/// What of emergency calling only a running server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyState {
    /// Of each trunk for emergency calls, in their order: `up`, `draining`, `down`.
    pub trunk_states: Vec<&'static str>,
    /// Of the user that was asked for.
    pub of_user: Option<LineView>,
    /// Since the start.
    pub last_test: Option<TestCall>,
}

/// What became of a call to the carrier's test number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestCall {
    pub time_ms: u64,
    pub dialed: String,
    pub is_answered: bool,
    /// The one that answered, or the last that was tried.
    pub trunk: Option<String>,
    /// Of the end: 200 where it was answered.
    pub status: u16,
    pub reason: String,
    pub setup_ms: Option<u64>,
}

/// Why no test call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestRefusal {
    /// No trunk carries emergency calls.
    NoTrunk,
    /// No number to test with is known, and no trunk takes the URN.
    NoTestNumber,
    /// One is being made.
    UnderWay,
}

/// What one user's emergency calls carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineView {
    /// The user's own address in one line, which nobody else is shown. `None`: the company's.
    pub private_address: Option<Private<String>>,
    pub callback: Option<String>,
}

/// A request over HTTP of somebody who may be a user of the directory.
#[derive(Debug)]
pub struct WebRequest {
    pub source: IpAddr,
    pub method: String,
    /// As it was sent.
    pub target: String,
    /// Its Authorization lines.
    pub shown: Secret<Vec<String>>,
    pub user_agent: String,
}

/// Who that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebUser {
    /// The name in the directory.
    Known(String),
    /// To be asked by these WWW-Authenticate lines.
    Unknown(Vec<String>),
    /// Too many credentials from this source or for this user were refused.
    Barred,
}

/// A user who has made as many international and premium calls as a day allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BarredView {
    pub user: String,
    /// Within the last 24 hours.
    pub costly_calls: usize,
}

/// A trunk as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrunkView {
    pub name: String,
    /// `up`, `draining`, `down`, `off`.
    pub state: &'static str,
    /// `None`: this server does not register there.
    pub registration: Option<RegistrationView>,
    /// Where DNS and the configuration say that it is.
    pub servers: Vec<ServerView>,
    /// Live calls over it.
    pub calls: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistrationView {
    /// `registering`, `registered`, `failed`, `left`.
    pub state: &'static str,
    /// End of a registration, or the next attempt after a failure, in milliseconds since the Unix epoch.
    pub at_ms: Option<u64>,
    /// Of the last failure, while it failed: the registrar's, or 408 or 503 for none.
    pub status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerView {
    pub transport: &'static str,
    pub address: SocketAddr,
    /// It answered last, or was not asked yet.
    pub up: bool,
}

/// What became of asking one device to fetch its configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceSync {
    pub transport: &'static str,
    pub remote: SocketAddr,
    pub user_agent: String,
    #[serde(flatten)]
    pub outcome: SyncOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum SyncOutcome {
    Answered {
        status: u16,
        /// The usual one for the status: what a device writes there is nobody's business.
        reason: &'static str,
    },
    NoAnswer,
    /// The device has not come back since its connection broke.
    NoConnection,
    /// It was not asked: it is in an emergency call, or emergency services may call it back.
    Emergency,
}

/// Why no device was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncRefusal {
    NoSuchUser,
    /// As many as may be asked at a time have not answered yet.
    TooMany,
}

/// Totals since start, for metrics.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub drops: DropCounters,
    pub requests: u64,
    pub responses: u64,
    /// Messages sent over UDP that may not arrive in one piece, for want of a stream to the same place.
    pub datagrams_large: u64,
    pub calls: u64,
    pub calls_answered: u64,
    pub calls_refused: u64,
    /// By what was used up, in the order of [`Rejection::ALL`].
    pub calls_rejected: [u64; Rejection::ALL.len()],
    pub registrations_refused: u64,
    pub contacts_displaced: u64,
    /// Media ports that could not be bound: another program has them.
    pub media_ports_occupied: u64,
    /// Media legs whose worker was too far behind to be asked to open them.
    pub media_legs_refused: u64,
    pub emergency_refused: u64,
    pub emergency_routed: u64,
    pub emergency_failed: u64,
    /// Calls outside denied at a limit, in the order of [`crate::policy::outside::LIMITS`].
    pub limits_reached: [u64; LIMITS.len()],
    /// Calls outside that passed a trunk by because it was at a limit, by trunk and limit.
    pub trunk_limits_reached: BTreeMap<(String, &'static str), u64>,
    /// Final answers of trunks to emergency calls, by trunk and status; 408 also where none came in time.
    pub emergency_attempts: BTreeMap<(String, u16), u64>,
    pub emergency_setup: SetupTimes,
    pub emergency_notify_failures: u64,
    /// Calls from trunks by what is known of the caller's number, in the order of [`crate::policy::stir::Verstat::ALL`].
    pub verifications: [u64; 3],
    pub quality: QualityTotals,
}

impl Counters {
    pub(super) const fn count_rejection(&mut self, rejection: Rejection) {
        self.calls_rejected[rejection as usize] += 1;
    }
}

/// How long emergency calls took from the INVITE to the answer, in seconds.
#[derive(Clone, Debug)]
pub struct SetupTimes(pub Histogram);

impl Default for SetupTimes {
    fn default() -> Self {
        Self(Histogram::new(&[0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    }
}
