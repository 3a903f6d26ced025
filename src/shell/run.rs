//! A running server: start-up in one order, service, drain, end.
//!
//! Start-up: configuration (already checked) → state folder → sandbox of the process (`cli::run`) → store → certificates →
//! listening sockets → media workers and their sandbox → core → ready. Whatever fails does so before the first message is
//! read.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle, JoinSet},
};
use tracing::{error, info, warn};

use crate::{
    call::{Core, Input, Setup, Which},
    config::{self, Config, Directory, NotifyTarget, Privacy, Problem},
    sip::registrar::Binding,
    types::{Rng, Secret, Transport},
};

use super::{
    admin::{self, Admin, EmergencyView},
    clock::Clock,
    core_task::{CoreTask, MAILBOX_MAX, Outside, Query, Stats, ToCore},
    entropy,
    failure::Failure,
    files,
    media_io::{Backend, MediaPlane},
    notifier::Notifier,
    resolve::{Names, Resolver},
    sandbox::{self, Missing},
    settings::{self, Settings},
    stir::{self, Certificates},
    store::{
        Account, Store, StoreError,
        thread::{self, StoreHandle},
    },
    systemd,
    tls::{self, Tls, web_client},
    transport::{Listeners, Transports, explain_bind_failure},
    udp_errors::UdpErrors,
    watch::Watch,
};

/// Users of the first start.
const FIRST_USERS: [&str; 2] = ["1001", "1002"];
/// Live calls may go on this long after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at whether calls are left.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// Trunks may take this long to say that this server is no longer registered there.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Peers may take this long to confirm that their call has ended: a BYE that is lost is sent again.
const HANG_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// What is still queued for peers at the very end may take this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that serves until [`Server::end`].
#[derive(Debug)]
pub struct Server {
    pub facts: Facts,
    clock: Clock,
    watch: Watch,
    tls: Arc<Tls>,
    certificates: Certificates,
    transports: Transports,
    listening: JoinSet<()>,
    to_core: mpsc::Sender<ToCore>,
    is_ready: Arc<AtomicBool>,
    /// How long an end waits for emergency calls.
    emergency_drain: Duration,
    privacy: Privacy,
    core: JoinHandle<Result<(), Failure>>,
    admin: JoinSet<()>,
    store: StoreHandle,
    store_thread: std::thread::JoinHandle<()>,
    /// Dropped last: the state folder is ours until then.
    _lock: files::Lock,
}

/// What an operator needs to know of a server that has started.
#[derive(Clone, Debug)]
pub struct Facts {
    pub domain: String,
    pub listeners: Vec<(Transport, SocketAddr)>,
    pub admin: Option<SocketAddr>,
    /// For other machines.
    pub admin_tls: Vec<SocketAddr>,
    /// The certificate that phones must trust; `None`: the operator's own is in use.
    pub ca_file: Option<PathBuf>,
    pub emergency: EmergencyView,
    /// What the kernel has not taken from this process although it should.
    pub missing: Vec<Missing>,
    /// Nobody can register yet.
    pub lacks_users: bool,
    /// Users and passwords made by the first start; empty on every other.
    pub first_accounts: Vec<(String, Secret<String>)>,
}

/// What the first start does for want of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUsers {
    /// Makes two, for whoever is shown their passwords.
    Make,
    /// Nobody would see the passwords, or too many.
    Leave,
}

impl Server {
    /// Starts everything. Must be called within a multi-threaded runtime. `missing`: what could not be taken from the
    /// process before. `udp_errors` are opened before, too.
    pub async fn start(
        settings: Settings,
        mut missing: Vec<Missing>,
        udp_errors: UdpErrors,
        first_users: FirstUsers,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let Settings { config, trunk_passwords, workers, warnings: _ } = settings;
        raise_file_limit();
        let lock = lock_state_folder(&config)?;
        let mut store = open_store(&config)?;
        close_interrupted(&mut store)?;
        let watch = Watch::over(tls::files(&config).chain(config.stir.files()));
        let tls = Arc::new(Tls::load(clock.now(), &config)?);
        let (to_core, mail) = mpsc::channel(MAILBOX_MAX);
        let names = Names::new(&config.dns.servers);
        let certificates = Certificates::load(&config, clock, to_core.clone(), names.clone())?;
        let signer = stir::signer(&config).map_err(Failure::Usage)?;
        let listeners = Listeners::bind(&config.sip, Arc::clone(&tls), clock, to_core.clone())?;
        let admin_listeners = AdminListeners::bind(&config).await?;
        let (backend, workers) = Backend::open(&config.media, workers);
        let media = MediaPlane::start(clock, &config.media.ports, workers, backend)
            .map_err(|e| Failure::Unavailable(format!("the media workers cannot start: {e}.")))?;
        missing.extend(media.missing());
        sandbox::accept(config.privacy.sandbox, &missing)?;

        let mut rng = entropy::rng();
        let first_accounts = match first_users {
            FirstUsers::Make => make_first_accounts(&mut store, &config, &mut rng)?,
            FirstUsers::Leave => Vec::new(),
        };
        let (directory, problems) = load_directory(&mut store, &config)?;
        log_warnings(&problems);
        let bindings = store.bindings(clock.now()).map_err(|e| store_failure(&e))?;
        warn_of_missing_tokens(&config, &store)?;
        warn_of_outside_telephones(&config, &bindings);
        let operator = admin::make_operator(&config.server.state_dir, clock.now(), &mut rng)
            .map_err(|e| Failure::Store(format!("the token of this machine's operator cannot be written: {e}.")))?;
        let gruu_key = store.gruu_key().map_err(|e| store_failure(&e))?;
        let facts = Facts {
            domain: config.server.domain.clone(),
            listeners: listeners.addresses(),
            admin: admin_listeners.plain.as_ref().and_then(|l| l.local_addr().ok()),
            admin_tls: admin_listeners.tls.iter().filter_map(|l| l.local_addr().ok()).collect(),
            ca_file: tls.ca_file(),
            emergency: EmergencyView::new(&config),
            missing,
            lacks_users: directory.is_empty(),
            first_accounts,
        };
        let setup = Setup {
            config: Arc::clone(&config),
            directory: Arc::new(directory),
            listeners: facts.listeners.clone(),
            workers,
            trunk_passwords,
            bindings,
            gruu_key,
            rng,
        };
        let privacy = config.privacy.clone();
        let emergency_drain = Duration::from_secs(60 * u64::from(config.emergency.drain_max_min));
        let posts_notices = config.emergency.notify.iter().any(|t| matches!(t, NotifyTarget::Https { .. }));
        let mut core = Core::new(clock.now(), setup);
        if let Some(signer) = signer {
            core.handle_input(clock.now(), Input::Signer(signer));
        }

        let on_directory = directory_watch(config, to_core.clone());
        let (store, store_thread) = thread::spawn(store, on_directory)
            .map_err(|e| Failure::Internal(format!("the store's thread cannot start: {e}.")))?;
        let notifier = Notifier::new(web_client(posts_notices), names.clone());
        let (transports, is_ready) = (listeners.transports(), Arc::new(AtomicBool::new(false)));
        let admin = Admin {
            to_core: to_core.clone(),
            store: store.clone(),
            media: media.counters(),
            udp_errors,
            transports: transports.clone(),
            is_ready: Arc::clone(&is_ready),
            emergency: facts.emergency.clone(),
            missing: facts.missing.clone().into(),
            notifier: notifier.clone(),
            clock,
            started: clock.now(),
            operator,
            refusals: Arc::default(),
        };
        let resolver = Resolver::new(to_core.clone(), names);
        let outside = Outside {
            clock,
            transports: transports.clone(),
            media,
            store: store.clone(),
            resolver,
            notifier,
            certificates: certificates.clone(),
        };
        let core = spawn(CoreTask::new(core, mail, outside).run());
        let admin = admin_listeners.serve(&tls, &admin);
        let listening = listeners.serve();
        Ok(Self {
            facts,
            clock,
            watch,
            tls,
            certificates,
            transports,
            listening,
            to_core,
            is_ready,
            emergency_drain,
            privacy,
            core,
            admin,
            store,
            store_thread,
            _lock: lock,
        })
    }

    /// Tells the service manager and `/ready`, once the operator has been told what only the first start says.
    pub fn set_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
        systemd::ready();
    }

    /// Ends with the failure of the core's task, or of one that serves a signalling socket or the admin interface. None ends by itself
    /// otherwise: a server that is deaf on one of its sockets must be started again.
    pub async fn failed(&mut self) -> Failure {
        failed(&mut self.core, &mut self.listening, &mut self.admin).await
    }

    /// As [`Server::reload_certificates`], if a file has changed.
    pub async fn reload_changed_certificates(&self) {
        if self.watch.look() {
            self.read_certificates().await;
        }
    }

    /// Deletes what is older than `[privacy]` says.
    pub fn delete_old_data(&self) {
        self.store.expire(self.clock.now(), self.privacy.clone());
    }

    /// Takes renewed certificate files into use, for new connections and new calls.
    pub async fn reload_certificates(&self) {
        self.watch.look();
        self.read_certificates().await;
    }

    async fn read_certificates(&self) {
        let wrong = [self.tls.reload(self.clock.now()), self.certificates.reload().await];
        let wrong: Vec<_> = wrong.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
        if wrong.is_empty() {
            info!("The certificates were reloaded.");
        } else {
            error!(
                failure = wrong.join("; "),
                "The certificates cannot be reloaded; the old ones stay in use. `ringdown check` says what is accepted."
            );
        }
    }

    /// Refuses new calls and returns when the last live one has ended or their time is up.
    pub async fn drain(&self) {
        self.is_ready.store(false, Ordering::Relaxed);
        systemd::stopping();
        // A mailbox without its task means that nothing is left to drain.
        let _ = self.to_core.send(ToCore::Input(Input::Drain)).await;
        self.end_calls().await;
        // Not before: until then answering points may call back over these registrations.
        let _ = self.to_core.send(ToCore::Input(Input::Leave)).await;
        if !self.none_within(LEAVE_TIMEOUT, |stats| stats.open_registrations).await {
            warn!("A trunk has not confirmed in time that this server is no longer registered there.");
        }
        // One may have begun meanwhile.
        self.end_emergency_calls(self.emergency_drain).await;
    }

    /// Waits for live calls, longer for those of emergencies.
    async fn end_calls(&self) {
        if self.none_within(DRAIN_TIMEOUT, |stats| stats.calls).await {
            return;
        }
        warn!("Calls were still live when the time to drain was up; all but emergency calls are ended.");
        let _ = self.to_core.send(ToCore::Input(Input::EndCalls(Which::Ordinary))).await;
        self.end_emergency_calls(self.emergency_drain.saturating_sub(DRAIN_TIMEOUT)).await;
    }

    async fn end_emergency_calls(&self, time: Duration) {
        if self.left(|stats| stats.urgent_calls).await == 0 {
            return;
        }
        warn!(target: "emergency", wait_s = time.as_secs(), "An emergency call is live; the end waits for it.");
        if !self.none_within(time, |stats| stats.urgent_calls).await {
            error!(target: "emergency", "An emergency call was still live when the time to drain was up.");
        }
    }

    /// Whether none of these is left within this time.
    async fn none_within(&self, time: Duration, count: impl Fn(&Stats) -> usize) -> bool {
        let drained = async {
            while self.left(&count).await > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        tokio::time::timeout(time, drained).await.is_ok()
    }

    /// Ends: calls that are still live are hung up, the last answers leave, every port closes, the store is written.
    pub async fn end(mut self) -> Result<(), Failure> {
        let _ = self.to_core.send(ToCore::Input(Input::EndCalls(Which::All))).await;
        if !self.none_within(HANG_UP_TIMEOUT, |stats| stats.open_calls).await {
            warn!("A peer has not confirmed in time that its call has ended.");
        }
        let _ = self.to_core.send(ToCore::Stop).await;
        let core = self.core.await;
        self.admin.shutdown().await;
        while self.listening.join_next().await.is_some() {}
        self.transports.close_all();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.transports.closed()).await;
        let store = end_store(self.store, self.store_thread).await;
        match core {
            Ok(result) => result.and(store),
            Err(panic) => Err(core_failed(&panic)),
        }
    }

    /// Ends after [`Server::failed`]: what the core had handed over is written.
    pub async fn end_failed(self) -> Result<(), Failure> {
        end_store(self.store, self.store_thread).await
    }

    async fn left(&self, count: impl Fn(&Stats) -> usize) -> usize {
        let (reply, answer) = oneshot::channel();
        let _ = self.to_core.send(ToCore::Query(Query::Stats(reply))).await;
        answer.await.map_or(0, |stats| count(&stats))
    }
}

async fn failed(
    core: &mut JoinHandle<Result<(), Failure>>,
    listening: &mut JoinSet<()>,
    admin: &mut JoinSet<()>,
) -> Failure {
    tokio::select! {
        // First: the signalling sockets end with it.
        biased;
        core = core => match core {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => Failure::Internal("the core's task has ended.".to_owned()),
            Err(panic) => core_failed(&panic),
        },
        Some(_) = listening.join_next() => Failure::Internal(
            "a task that serves a SIP socket has ended by a bug; the lines before this one say where.".to_owned(),
        ),
        Some(_) = admin.join_next() => Failure::Internal(
            "a task that serves the admin interface has ended by a bug; the lines before this one say where.".to_owned(),
        ),
    }
}

/// Without the panic's message, which may hold anything: see [`super::panics`].
fn core_failed(error: &JoinError) -> Failure {
    let how = if error.is_panic() { "by a bug; the lines before this one say where" } else { "because it was stopped" };
    Failure::Internal(format!("the core has failed {how}."))
}

/// Waits until everything is on disk.
async fn end_store(store: StoreHandle, thread: std::thread::JoinHandle<()>) -> Result<(), Failure> {
    let ended = tokio::task::spawn_blocking(move || {
        store.end();
        thread.join()
    });
    match ended.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Failure::Internal("the store's thread has failed.".to_owned())),
    }
}

/// A leg takes two sockets: the default soft limit of 1024 files would end at some 250 calls.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        warn!(%error, "The limit of open files cannot be raised.");
    }
}

/// Creates the state folder where there is none.
pub fn create_state_folder(config: &Config) -> Result<(), Failure> {
    let folder = &config.server.state_dir;
    files::create_folder(folder).map_err(|e| {
        Failure::Store(format!("{}: {e}. Set server.state_dir to a folder that ringdown may create.", folder.display()))
    })
}

fn lock_state_folder(config: &Config) -> Result<files::Lock, Failure> {
    create_state_folder(config)?;
    let folder = &config.server.state_dir;
    files::lock(&folder.join("lock")).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => Failure::Unavailable(format!(
            "another ringdown uses the state folder {}. Stop it or set another server.state_dir.",
            folder.display()
        )),
        _ => Failure::Store(format!("{}: {e}. The state folder must belong to this user.", folder.display())),
    })
}

/// The database of this configuration, for its domain.
pub fn open_store(config: &Config) -> Result<Store, Failure> {
    let config::Server { domain: _, state_dir, seal_key } = &config.server;
    let mut store = Store::open(state_dir, seal_key.as_deref()).map_err(|e| store_failure(&e))?;
    store.claim_domain(&config.server.domain).map_err(|e| store_failure(&e))?;
    Ok(store)
}

/// Only for the server itself: to others, its calls go on.
fn close_interrupted(store: &mut Store) -> Result<(), Failure> {
    let calls = store.close_interrupted().map_err(|e| store_failure(&e))?;
    if !calls.is_empty() {
        let emergency = calls.iter().filter(|call| call.emergency).count();
        warn!(
            calls = calls.len(),
            emergency,
            "The server has ended without notice during calls: their records end when it was last known to live."
        );
    }
    Ok(())
}

/// The operator's mistakes end with 64, a database that others hold with 69, a broken one with 74.
pub fn store_failure(error: &StoreError) -> Failure {
    let text = format!("{error}");
    match error {
        StoreError::OtherDomain { .. }
        | StoreError::Taken(_)
        | StoreError::NoSuchUser(_)
        | StoreError::UsersFull
        | StoreError::BadTokenName(_)
        | StoreError::TokenExists(_)
        | StoreError::NoSuchToken(_)
        | StoreError::TokensFull => Failure::Usage(text),
        StoreError::InUse => Failure::Unavailable(text),
        StoreError::File { .. }
        | StoreError::BadKeyFile { .. }
        | StoreError::NamedKey { .. }
        | StoreError::OpenKeyFile { .. }
        | StoreError::KeyMissing { .. }
        | StoreError::WrongKey
        | StoreError::Damaged { .. }
        | StoreError::DamagedAddress { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::Sqlite(_) => Failure::Store(text),
    }
}

/// On an empty store, after every port is ours: their passwords can be shown only once.
fn make_first_accounts(
    store: &mut Store,
    config: &Config,
    rng: &mut Rng,
) -> Result<Vec<(String, Secret<String>)>, Failure> {
    if store.had_users().map_err(|e| store_failure(&e))? {
        return Ok(Vec::new());
    }
    let made: Vec<_> = FIRST_USERS.iter().map(|n| ((*n).to_owned(), Secret::new(entropy::password(rng)))).collect();
    let accounts: Vec<_> = made
        .iter()
        .map(|(name, password)| Account::new(name, name, None, password.clone()).expect("our own names are plain"))
        .collect();
    store.add_users(&config.server.domain, &accounts).map_err(|e| store_failure(&e))?;
    Ok(made)
}

/// The users and the warnings they cause, unless one of them would make an emergency number ambiguous.
pub fn load_directory(store: &mut Store, config: &Config) -> Result<(Directory, Vec<Problem>), Failure> {
    let directory = store.directory().map_err(|e| store_failure(&e))?;
    let mut problems = config::check_directory(config, &directory);
    problems.extend(config::check_members(config, &directory));
    settings::refuse_errors(&problems)?;
    Ok((directory, problems))
}

/// Emergency calls report the company's address, wherever the telephone is.
fn warn_of_outside_telephones(config: &Config, bindings: &[Binding]) {
    let networks = &config.emergency.site_networks;
    let is_outside = |b: &&Binding| networks.iter().all(|network| !network.contains(b.flow.remote.ip()));
    let users: BTreeSet<_> = bindings.iter().filter(is_outside).map(|binding| binding.aor.as_str()).collect();
    if !networks.is_empty() && !users.is_empty() {
        let users = users.into_iter().collect::<Vec<_>>().join(", ");
        warn!(target: "emergency", users, "Telephones outside emergency.site_networks report the company's address, too.");
    }
}

fn log_warnings(problems: &[Problem]) {
    for problem in problems {
        warn!(problem = %settings::sentence(problem), "Something will not work as it should.");
    }
}

/// What the store's thread does with users that another process has changed. `false`: not now, because the core has much to
/// do; it may be waiting for this very thread.
fn directory_watch(config: Arc<Config>, to_core: mpsc::Sender<ToCore>) -> impl FnMut(Directory) -> bool + Send {
    move |directory| {
        let Ok(place) = to_core.try_reserve() else {
            // A core that has ended needs no users.
            return to_core.is_closed();
        };
        let problems = config::check_directory(&config, &directory);
        if let Err(failure) = settings::refuse_errors(&problems) {
            error!(%failure, "The changed users are not taken into use.");
            return true;
        }
        log_warnings(&problems);
        // A member who is gone is passed over: nothing may keep a removed user alive.
        log_warnings(&config::check_members(&config, &directory));
        info!(users = directory.len(), "The user directory was reloaded.");
        place.send(ToCore::Input(Input::Directory(Arc::new(directory))));
        true
    }
}

/// Bound, not yet served.
struct AdminListeners {
    plain: Option<TcpListener>,
    tls: Vec<TcpListener>,
}

impl AdminListeners {
    async fn bind(config: &Config) -> Result<Self, Failure> {
        let bind = async |key: &str, address: SocketAddr| {
            let bound = TcpListener::bind(address).await;
            bound.map_err(|e| explain_bind_failure(key, "admin API", address, &e))
        };
        let mut listeners = Self { plain: None, tls: Vec::new() };
        if let Some(address) = config.admin.listen {
            listeners.plain = Some(bind("admin.listen", address).await?);
        }
        for address in &config.admin.tls {
            listeners.tls.push(bind("admin.tls", *address).await?);
        }
        Ok(listeners)
    }

    fn serve(self, tls: &Arc<Tls>, admin: &Admin) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(listener) = self.plain {
            tasks.spawn(admin::serve(listener, admin.clone()));
        }
        for listener in self.tls {
            tasks.spawn(admin::serve_tls(listener, Arc::clone(tls), admin.clone()));
        }
        tasks
    }
}

fn warn_of_missing_tokens(config: &Config, store: &Store) -> Result<(), Failure> {
    let tokens = store.tokens().map_err(|e| store_failure(&e))?;
    log_warnings(admin::without_tokens(config, &tokens).as_slice());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this module starts the core's task")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nobody goes on feeding the watchdog for a server that hears nothing any more.
    #[tokio::test]
    async fn a_socket_that_nobody_serves_any_more_ends_the_server_and_the_core_comes_first() {
        let mut deaf = JoinSet::new();
        deaf.spawn(async { panic!("a bug") });
        deaf.spawn(std::future::pending());
        let failure = failed(&mut spawn(std::future::pending()), &mut deaf, &mut JoinSet::new()).await;
        assert!(failure.code() == 70 && failure.to_string().contains("SIP socket"), "{failure}");

        let (mut served, mut admin) = (JoinSet::new(), JoinSet::new());
        served.spawn(std::future::pending());
        admin.spawn(std::future::pending());
        admin.spawn(async { panic!("a bug") });
        let failure = failed(&mut spawn(std::future::pending()), &mut served, &mut admin).await;
        assert!(failure.code() == 70 && failure.to_string().contains("admin interface"), "{failure}");

        let mut ended = JoinSet::new();
        ended.spawn(async {});
        let mut core = spawn(async { Err(Failure::Internal("a media worker has ended.".to_owned())) });
        while !core.is_finished() {
            tokio::task::yield_now().await;
        }
        let failure = failed(&mut core, &mut ended, &mut admin).await;
        assert!(failure.to_string().contains("media worker"), "{failure}");
    }
}
