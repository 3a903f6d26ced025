//! The store's own thread: the core hands it what must be on disk and goes on when it is.
//!
//! A failing disk must not end calls, and neither must one that hangs. What could not be written waits in a bounded backlog
//! and is tried again every second; meanwhile [`StoreHandle::is_healthy`] is false and nobody waits for an acknowledgement.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    call::Cdr,
    config::{Directory, Privacy},
    types,
};

use super::{
    Acknowledged, AuditEntry, Expired, Notice, Store, StoreError, Token,
    backlog::{AUDIT_WAITING_MAX, AuditPlace, Backlog, Numbers, Writes},
};

/// Jobs waiting for the thread; one above it is not done. What is to be written is no part of a job and waits all the same.
const JOBS_MAX: usize = 1_024;
/// Between looks at the database for another process's changes, and between tries after a failure.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// After a write, what comes waits this long for more: one flush of the disk costs more than writing many entries. A phone repeats
/// its REGISTER after half a second at the earliest, and whoever picks one up takes longer.
const GATHER_TIME: Duration = Duration::from_millis(20);
/// A disk that takes longer than this is treated like one that failed: phones must not wait for it.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(1);
/// Of the places for entries of the audit log, those that refusals may have: a disk that hangs must not make them bar orders.
const REFUSALS_WAITING_MAX: usize = AUDIT_WAITING_MAX / 10;

enum Job {
    /// Something waits in the backlog.
    Write,
    ReadCdrs {
        limit: u32,
        reply: oneshot::Sender<Result<Vec<Cdr>, StoreError>>,
    },
    Expire {
        now: types::Instant,
        privacy: Privacy,
    },
    Rate {
        call: String,
        user: String,
        rating: u8,
        reply: oneshot::Sender<Result<bool, StoreError>>,
    },
    Acknowledge {
        user: String,
        notice: Notice,
        time_ms: u64,
        recorded_by: String,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    ReadAcknowledged {
        version: String,
        user: Option<String>,
        reply: oneshot::Sender<Result<Acknowledged, StoreError>>,
    },
    End,
}

/// The core's and the admin API's end.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    jobs: SyncSender<Job>,
    backlog: Backlog,
    is_healthy: Arc<AtomicBool>,
    /// When the server last said that it lives, in milliseconds since the Unix epoch.
    alive_ms: Arc<AtomicU64>,
    /// As they were at the last look at the database.
    tokens: Arc<RwLock<Arc<[Token]>>>,
}

impl StoreHandle {
    /// Hands over one batch. `None`: there is nothing to wait for, because nobody waits for what is in it or the disk is known to
    /// fail.
    pub fn commit(&self, writes: Writes) -> Option<Written> {
        if writes.is_nothing() {
            return None;
        }
        let must_wait = writes.is_awaited() && self.is_healthy();
        let (done, acknowledged) = must_wait.then(oneshot::channel).unzip();
        if self.backlog.push(writes, done) {
            self.is_healthy.store(false, Ordering::Relaxed);
            error!("The disk has failed for so long that the oldest registrations or call detail records are lost.");
        }
        self.wake();
        acknowledged.map(|acknowledged| Written {
            acknowledged,
            until: Instant::now() + ACKNOWLEDGE_TIMEOUT,
            is_healthy: Arc::clone(&self.is_healthy),
        })
    }

    /// The server lives: what calls that a crash interrupts will be taken to have lasted to.
    pub fn note_alive(&self, now: types::Instant) {
        self.alive_ms.store(now.unix_ms(), Ordering::Relaxed);
    }

    /// Tells the thread that something waits.
    fn wake(&self) {
        match self.jobs.try_send(Job::Write) {
            // A thread that has so much to do looks at the backlog afterwards.
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                if self.is_healthy.swap(false, Ordering::Relaxed) {
                    error!(
                        "The store's thread has ended; registrations and call detail records are lost on a restart."
                    );
                }
            }
        }
    }

    /// The newest records, newest first; `None` if the thread is gone, busy or failing.
    pub async fn cdrs(&self, limit: u32) -> Option<Vec<Cdr>> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::ReadCdrs { limit, reply }).ok()?;
        tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, answer).await.ok()?.ok()?.ok()
    }

    /// A place in the audit log, to be had before an order is carried out. `None`: too many entries wait for the disk.
    pub fn audit_place(&self) -> Option<AuditPlace> {
        self.backlog.audit_place(AUDIT_WAITING_MAX)
    }

    /// Adds to the audit log what came of an order; nobody waits for it.
    pub fn record(&self, place: AuditPlace, entry: AuditEntry) {
        place.fill(entry);
        self.wake();
    }

    /// Adds a refusal, unless too many entries wait for the disk.
    pub fn record_refusal(&self, entry: AuditEntry) {
        if let Some(place) = self.backlog.audit_place(REFUSALS_WAITING_MAX) {
            self.record(place, entry);
        }
    }

    /// Deletes what is older than it may be by now, bit by bit.
    pub fn expire(&self, now: types::Instant, privacy: Privacy) {
        // A thread that is busy now is asked again within the hour.
        let _ = self.jobs.try_send(Job::Expire { now, privacy });
    }

    /// As [`Store::rate`]; `None` if the thread is gone, busy or failing.
    pub async fn rate(&self, call: String, user: String, rating: u8) -> Option<bool> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Rate { call, user, rating, reply }).ok()?;
        tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, answer).await.ok()?.ok()?.ok()
    }

    /// As [`Store::acknowledge`], of one user; `None` if the thread is gone, busy or failing.
    pub async fn acknowledge(
        &self,
        user: String,
        notice: Notice,
        time_ms: u64,
        recorded_by: String,
    ) -> Option<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::Acknowledge { user, notice, time_ms, recorded_by, reply }).ok()?;
        tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, answer).await.ok()?.ok()
    }

    /// As [`Store::acknowledged`]; `None` if the thread is gone, busy or failing.
    pub async fn acknowledged(&self, version: String, user: Option<String>) -> Option<Acknowledged> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(Job::ReadAcknowledged { version, user, reply }).ok()?;
        tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, answer).await.ok()?.ok()?.ok()
    }

    /// Of the admin interface; another process's changes are seen within seconds.
    pub fn tokens(&self) -> Arc<[Token]> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes the thread write what it has and end, however many handles are left. Blocks while the queue is full.
    pub fn end(&self) {
        // A thread that is gone has ended already.
        let _ = self.jobs.send(Job::End);
    }

    /// What is not on disk yet.
    pub fn waiting(&self) -> Numbers {
        self.backlog.waiting()
    }

    /// What never will be, because too much waited. Since the start.
    pub fn lost(&self) -> Numbers {
        self.backlog.lost()
    }

    /// The last write reached the disk in time.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Relaxed)
    }
}

/// The news that a batch is on disk.
#[derive(Debug)]
pub struct Written {
    acknowledged: oneshot::Receiver<()>,
    /// When it is taken for lost.
    until: Instant,
    is_healthy: Arc<AtomicBool>,
}

impl Written {
    /// Returns when the batch is on disk, or when that has failed or takes too long, which `is_healthy` then tells. May be
    /// given up and called again.
    pub async fn wait(&mut self) {
        if tokio::time::timeout_at(self.until, &mut self.acknowledged).await.is_err() {
            self.is_healthy.store(false, Ordering::Relaxed);
        }
    }

    /// Whether [`Self::wait`] would return at once. After that it may not be called any more.
    pub fn is_known(&mut self) -> bool {
        !matches!(self.acknowledged.try_recv(), Err(TryRecvError::Empty))
    }
}

/// Starts the thread. `on_directory` gets each new set of users that another process has stored.
pub fn spawn(
    store: Store,
    on_directory: impl FnMut(Directory) -> bool + Send + 'static,
) -> std::io::Result<(StoreHandle, JoinHandle<()>)> {
    let (jobs, receiver) = sync_channel(JOBS_MAX);
    let (is_healthy, backlog) = (Arc::new(AtomicBool::new(true)), Backlog::default());
    let tokens = Arc::new(RwLock::new(read_tokens(&store).unwrap_or_default()));
    let alive_ms = Arc::new(AtomicU64::new(0));
    let thread = Thread {
        store,
        tokens: Arc::clone(&tokens),
        has_failed: false,
        receiver,
        is_healthy: Arc::clone(&is_healthy),
        backlog: backlog.clone(),
        alive_ms: Arc::clone(&alive_ms),
        noted_alive_ms: 0,
        written_at: Instant::now(),
        expiring: None,
        journal: Journal::Clean,
        is_write_due: false,
        on_directory: Box::new(on_directory),
        is_directory_due: false,
    };
    let join = std::thread::Builder::new().name("store".to_owned()).spawn(move || thread.run())?;
    Ok((StoreHandle { jobs, backlog, is_healthy, alive_ms, tokens }, join))
}

/// `None`: they cannot be read, which the log says.
fn read_tokens(store: &Store) -> Option<Arc<[Token]>> {
    match store.tokens() {
        Ok(tokens) => Some(tokens.into()),
        Err(error) => {
            warn!(%error, "The tokens of the admin interface cannot be read.");
            None
        }
    }
}

/// Whether what was deleted for its age is still in the database's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Journal {
    Clean,
    Due,
    /// The same, and the log says so: another program reads the database.
    Kept,
}

struct Thread {
    store: Store,
    tokens: Arc<RwLock<Arc<[Token]>>>,
    /// The last try to write failed, which was told.
    has_failed: bool,
    receiver: Receiver<Job>,
    is_healthy: Arc<AtomicBool>,
    backlog: Backlog,
    alive_ms: Arc<AtomicU64>,
    noted_alive_ms: u64,
    /// When the last write ended.
    written_at: Instant,
    /// As of when, and after how long, rows are deleted; `None`: no more are old enough.
    expiring: Option<(types::Instant, Privacy)>,
    journal: Journal,
    /// Something was handed over since the last try to write.
    is_write_due: bool,
    on_directory: Box<dyn FnMut(Directory) -> bool + Send>,
    /// The last changed directory was not taken yet.
    is_directory_due: bool,
}

impl Thread {
    fn run(mut self) {
        let mut polled_at = Instant::now();
        let mut goes_on = true;
        while goes_on {
            goes_on = match self.receiver.recv_timeout(POLL_INTERVAL) {
                Ok(job) => self.take_all(job),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if goes_on && self.is_write_due {
                // Not woken by each of them.
                std::thread::sleep(GATHER_TIME.saturating_sub(self.written_at.elapsed()));
                goes_on = self.receiver.try_recv().map_or(true, |job| self.take_all(job));
                self.write();
            }
            if polled_at.elapsed() >= POLL_INTERVAL {
                polled_at = Instant::now();
                self.retry();
                self.note_alive();
                self.reload();
                self.expire();
                self.empty_journal();
            }
        }
        self.retry();
        let Numbers { bindings, cdrs } = self.backlog.waiting();
        let audit_entries = self.backlog.audit_waiting();
        if bindings + cdrs > 0 || audit_entries > 0 {
            error!(bindings, cdrs, audit_entries, "The store ends with unwritten records.");
        }
    }

    /// Takes this job and those that wait behind it, so that they share one transaction. `false`: it was the last.
    fn take_all(&mut self, first: Job) -> bool {
        let further: Vec<Job> = self.receiver.try_iter().take(JOBS_MAX).collect();
        std::iter::once(first).chain(further).all(|job| self.take(job))
    }

    fn take(&mut self, job: Job) -> bool {
        match job {
            Job::Write => self.is_write_due = true,
            Job::ReadCdrs { limit, reply } => {
                self.retry();
                // A reader that has gone away needs no answer.
                drop(reply.send(self.store.cdrs(0, limit)));
            }
            Job::Expire { now, privacy } => self.expiring = Some((now, privacy)),
            Job::Rate { call, user, rating, reply } => {
                // The record may be among what waits.
                self.retry();
                drop(reply.send(self.store.rate(&call, &user, rating)));
            }
            Job::Acknowledge { user, notice, time_ms, recorded_by, reply } => {
                drop(reply.send(self.store.acknowledge(&[user], &notice, time_ms, &recorded_by)));
            }
            Job::ReadAcknowledged { version, user, reply } => {
                drop(reply.send(self.store.acknowledged(&version, user.as_deref())));
            }
            Job::End => return false,
        }
        true
    }

    fn retry(&mut self) {
        if !self.backlog.is_empty() || !self.is_healthy.load(Ordering::Relaxed) {
            self.write();
        }
    }

    /// Those who wait for what could not be written learn it by the end of their channel.
    fn write(&mut self) {
        self.is_write_due = false;
        let mut batch = self.backlog.take();
        let open_cdrs = batch.open_cdrs.values();
        let committed = self.store.commit(batch.changes.make_contiguous(), open_cdrs, batch.cdrs.make_contiguous());
        // What is written a second time, after this failed, is the same.
        let result = committed.and_then(|()| self.store.record(batch.audit.make_contiguous()));
        self.written_at = Instant::now();
        let was_healthy = self.is_healthy.swap(result.is_ok(), Ordering::Relaxed);
        let had_failed = std::mem::replace(&mut self.has_failed, result.is_err());
        match result {
            Ok(()) => {
                self.backlog.written();
                // The core may have stopped waiting; the change is on disk all the same.
                for done in batch.done {
                    let _ = done.send(());
                }
                if !was_healthy {
                    info!("The store works again; everything that waited is on disk.");
                }
            }
            Err(error) => {
                self.backlog.put_back(batch);
                if !had_failed {
                    error!(%error, "The store fails; calls go on, and writing is tried again every second.");
                }
            }
        }
    }

    /// That the disk fails is what the next commit reports.
    fn note_alive(&mut self) {
        let alive_ms = self.alive_ms.load(Ordering::Relaxed);
        if alive_ms > self.noted_alive_ms && !self.has_failed {
            self.noted_alive_ms = alive_ms;
            let _ = self.store.note_alive(types::Instant::from_unix_ms(alive_ms));
        }
    }

    /// A part at a time, so that nobody waits long.
    fn expire(&mut self) {
        let Some((now, privacy)) = self.expiring.take() else { return };
        match self.store.expire(now, &privacy) {
            Ok(expired) => {
                let Expired { records, audit_entries, bindings } = expired;
                if !expired.is_nothing() {
                    self.journal = self.journal.max(Journal::Due);
                    info!(records, audit_entries, bindings, "Data was deleted for its age.");
                }
                self.expiring = expired.is_partial().then_some((now, privacy));
            }
            Err(error) => warn!(%error, "Old data cannot be deleted; it is tried again within the hour."),
        }
    }

    /// Nobody who reads the database may keep for ever what is to be gone.
    fn empty_journal(&mut self) {
        if self.journal == Journal::Clean {
            return;
        }
        match (self.store.forget_expired(), self.journal) {
            (Ok(true), Journal::Kept) => {
                info!("What was deleted for its age is gone from ringdown.db-wal, too.");
                self.journal = Journal::Clean;
            }
            (Ok(true), _) => self.journal = Journal::Clean,
            (Ok(false), Journal::Due) => {
                warn!(
                    "Another program reads the database, and for it what was deleted for its age stays in ringdown.db-wal; \
                     emptying that is tried again every second."
                );
                self.journal = Journal::Kept;
            }
            // That the disk fails is what the next commit reports.
            (Ok(false) | Err(_), _) => {}
        }
    }

    fn reload(&mut self) {
        // That the disk cannot be read is what the next commit reports.
        if !self.store.has_changed().unwrap_or(false) && !self.is_directory_due {
            return;
        }
        if let Some(tokens) = read_tokens(&self.store) {
            *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        }
        match self.store.directory() {
            Ok(directory) => self.is_directory_due = !(self.on_directory)(directory),
            Err(error) => warn!(%error, "The changed user directory cannot be read; the old one stays."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        shell::store::Account,
        sip::registrar::{Binding, Change},
        types::Secret,
    };

    fn set(binding: &Binding) -> Writes {
        Writes { changes: vec![Change::Set(binding.clone().into())], ..Writes::default() }
    }

    fn over(cdr: Cdr) -> Writes {
        Writes { cdrs: vec![cdr], ..Writes::default() }
    }

    /// A year and a day later.
    async fn expire_all(handle: &StoreHandle) {
        let privacy = crate::config::parse("[company]\nname = \"x\"\nregion = \"US\"\n").unwrap().0.privacy;
        handle.expire(types::Instant::from_unix_ms(366 * 86_400_000), privacy);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if handle.cdrs(10).await.unwrap().is_empty() {
                break;
            }
        }
    }

    /// Goal: a call that a crash interrupts is taken to have lasted until its server was last known to live. Method: a store that is
    /// left as a crash leaves it.
    #[tokio::test]
    async fn a_call_that_is_interrupted_has_lasted_until_the_server_was_last_known_to_live() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let begun = Writes { begun: vec![crate::shell::store::tests::cdr(1_000)], ..Writes::default() };
        handle.commit(begun).unwrap().wait().await;
        let answer = Cdr { answer_ms: Some(3_000), ..crate::shell::store::tests::cdr(1_000) };
        let answered = Writes { answered: vec![answer.clone()], ..Writes::default() };
        assert!(handle.commit(answered).is_none(), "nobody waits for an answer to be known");
        handle.note_alive(types::Instant::from_unix_ms(64_500));
        let reader = rusqlite::Connection::open(dir.path().join("ringdown.db")).unwrap();
        let is_noted = || reader.query_row("SELECT value FROM meta WHERE key = 'alive_ms'", [], |row| row.get(0));
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if is_noted() == Ok(64_500_i64) {
                break;
            }
        }
        drop(handle);
        join.join().unwrap();
        let damaged = "INSERT INTO open_cdrs(id, record) VALUES ('damaged', '{')";
        rusqlite::Connection::open(dir.path().join("ringdown.db")).unwrap().execute(damaged, []).unwrap();
        let mut store = Store::open(dir.path(), None).unwrap();
        assert_eq!(store.cdrs(0, 10).unwrap(), []);
        let interrupted = answer.interrupted(64_500);
        assert_eq!((interrupted.end_ms, interrupted.duration_s), (64_500, 61));
        assert_eq!(store.close_interrupted().unwrap(), std::slice::from_ref(&interrupted));
        assert_eq!((store.cdrs(0, 10).unwrap(), store.close_interrupted().unwrap()), (vec![interrupted], vec![]));
    }

    #[tokio::test]
    async fn a_batch_is_on_disk_when_it_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let binding = crate::shell::store::tests::binding("alice", "sip:a@192.0.2.1");
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        handle.commit(set(&binding)).unwrap().wait().await;
        let mut second = Store::open(dir.path(), None).unwrap();
        assert_eq!(second.bindings(types::Instant::from_unix_ns(0)).unwrap(), [binding]);
        drop(handle);
        join.join().unwrap();
    }

    #[tokio::test]
    async fn records_of_many_batches_share_a_transaction_and_are_there_for_who_asks() {
        const BATCHES: u32 = 200;
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let log_bytes = || std::fs::metadata(dir.path().join("ringdown.db-wal")).unwrap().len();
        let before = log_bytes();
        for n in 0..BATCHES {
            let written = handle.commit(over(crate::shell::store::tests::cdr(u64::from(n))));
            assert!(written.is_none(), "nobody waits for records");
        }
        assert_eq!(handle.cdrs(1_000).await.unwrap().len(), BATCHES as usize);
        // Each transaction appends two pages or more.
        let most = u64::from(BATCHES) * 4_096 / 2;
        assert!(log_bytes() - before < most, "{} bytes for {BATCHES} batches", log_bytes() - before);
        drop(handle);
        join.join().unwrap();
    }

    #[tokio::test]
    async fn users_added_by_another_process_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (send, mut directories) = tokio::sync::mpsc::channel(4);
        let mut store = Store::open(dir.path(), None).unwrap();
        store.directory().unwrap();
        let (handle, join) = spawn(store, move |d| send.try_send(d).is_ok()).unwrap();
        let mut other = Store::open(dir.path(), None).unwrap();
        let account = Account::new("alice", "1001", None, Secret::new("password".to_owned())).unwrap();
        other.add_users("example.test", &[account]).unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(5), directories.recv()).await.unwrap().unwrap();
        assert!(seen.by_name("alice").is_some());
        drop(handle);
        join.join().unwrap();
    }

    #[tokio::test]
    async fn tokens_of_another_process_are_noticed_and_orders_are_recorded() {
        use crate::shell::store::{Role, audit::tests::entry};
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        assert!(handle.tokens().is_empty());
        let mut other = Store::open(dir.path(), None).unwrap();
        let now = types::Instant::from_unix_ns(0);
        let (token, _) = Token::make("a", Role::Read, now, &mut crate::shell::entropy::rng());
        other.add_token(&token).unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !handle.tokens().is_empty() {
                break;
            }
        }
        assert_eq!(*handle.tokens(), [token]);
        handle.record(handle.audit_place().unwrap(), entry(7));
        handle.record_refusal(entry(8));
        drop(handle);
        join.join().unwrap();
        assert_eq!(other.audit(0, 10).unwrap(), [entry(8), entry(7)]);
    }

    #[tokio::test]
    async fn old_records_go_while_the_store_is_at_work_and_ratings_meet_those_not_yet_written() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let mut call = crate::shell::store::tests::cdr(1);
        call.a = Some(Box::default());
        handle.commit(over(call.clone()));
        assert_eq!(handle.rate(call.id.clone(), "alice".to_owned(), 4).await, Some(true));
        assert_eq!(handle.rate(call.id, "bob".to_owned(), 4).await, Some(false));
        expire_all(&handle).await;
        assert_eq!(handle.cdrs(10).await.unwrap(), []);
        drop(handle);
        join.join().unwrap();
    }

    /// Goal: what is deleted for its age is gone from the disk, too, as soon as nobody reads there, and meanwhile nobody waits.
    #[tokio::test]
    async fn what_a_reader_keeps_in_the_journal_goes_when_the_reader_does() {
        const CANARY: &str = "old-caller-canary";
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let call = Cdr { caller: CANARY.to_owned(), ..crate::shell::store::tests::cdr(1) };
        handle.commit(over(call));
        assert_eq!(handle.cdrs(10).await.unwrap().len(), 1);
        let reader = rusqlite::Connection::open(dir.path().join("ringdown.db")).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM cdrs;").unwrap();
        expire_all(&handle).await;
        let is_kept = || {
            std::fs::read_dir(dir.path()).unwrap().any(|entry| {
                let content = std::fs::read(entry.unwrap().path()).unwrap();
                content.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
            })
        };
        let binding = crate::shell::store::tests::binding("alice", "sip:a@192.0.2.1");
        handle.commit(set(&binding)).unwrap().wait().await;
        assert!(handle.is_healthy() && is_kept(), "the reader is in nobody's way");
        reader.execute_batch("COMMIT").unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !is_kept() {
                break;
            }
        }
        assert!(!is_kept());
        drop(handle);
        join.join().unwrap();
    }

    #[tokio::test]
    async fn changed_users_whom_nobody_has_time_for_are_told_again() {
        let dir = tempfile::tempdir().unwrap();
        let (send, mut directories) = tokio::sync::mpsc::channel(4);
        let mut store = Store::open(dir.path(), None).unwrap();
        store.directory().unwrap();
        let mut is_first = true;
        let on_directory = move |directory| !std::mem::take(&mut is_first) && send.try_send(directory).is_ok();
        let (handle, join) = spawn(store, on_directory).unwrap();
        let mut other = Store::open(dir.path(), None).unwrap();
        let account = Account::new("alice", "1001", None, Secret::new("password".to_owned())).unwrap();
        other.add_users("example.test", &[account]).unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(10), directories.recv()).await.unwrap().unwrap();
        assert!(seen.by_name("alice").is_some());
        drop(handle);
        join.join().unwrap();
    }

    #[tokio::test]
    async fn a_failing_disk_turns_health_red_and_the_change_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let binding = crate::shell::store::tests::binding("alice", "sip:a@192.0.2.1");
        let blocker = rusqlite::Connection::open(dir.path().join("ringdown.db")).unwrap();
        blocker.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let started = Instant::now();
        handle.commit(set(&binding)).unwrap().wait().await;
        assert!(started.elapsed() < Duration::from_secs(3), "the core waited for the disk");
        assert!(!handle.is_healthy());
        assert!(handle.commit(set(&binding)).is_none(), "nobody waits for a failing disk");
        let begun = Writes { begun: vec![crate::shell::store::tests::cdr(1)], ..Writes::default() };
        assert!(handle.commit(begun).is_none(), "no call waits for one, either");
        assert!(handle.commit(over(crate::shell::store::tests::cdr(1))).is_none());
        assert_eq!(handle.waiting(), Numbers { bindings: 2, cdrs: 1 });
        blocker.execute_batch("COMMIT").unwrap();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if handle.is_healthy() {
                break;
            }
        }
        assert!(handle.is_healthy());
        drop(handle);
        join.join().unwrap();
        let bindings = Store::open(dir.path(), None).unwrap().bindings(types::Instant::from_unix_ns(0)).unwrap();
        assert_eq!(bindings, [binding]);
    }

    /// Goal: a disk that hangs loses no record, however many turns the core makes meanwhile. Method: another process's
    /// transaction stands for the disk; while it is open, a write hangs.
    #[tokio::test]
    async fn records_of_a_disk_that_hangs_wait_and_are_written_when_it_goes_on() {
        const TURNS: u64 = 2 * JOBS_MAX as u64;
        let dir = tempfile::tempdir().unwrap();
        let (handle, join) = spawn(Store::open(dir.path(), None).unwrap(), |_| true).unwrap();
        let blocker = rusqlite::Connection::open(dir.path().join("ringdown.db")).unwrap();
        blocker.execute_batch("BEGIN EXCLUSIVE").unwrap();
        for n in 0..TURNS {
            handle.commit(over(crate::shell::store::tests::cdr(n)));
        }
        assert_eq!((handle.waiting().cdrs, handle.lost().cdrs), (TURNS, 0));
        blocker.execute_batch("COMMIT").unwrap();
        handle.end();
        join.join().unwrap();
        assert_eq!(Store::open(dir.path(), None).unwrap().cdrs(0, u32::MAX).unwrap().len() as u64, TURNS);
    }
}
