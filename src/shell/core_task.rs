//! The one task that owns [`Core`]: feeds it what sockets, workers, timers and operators have for it, and does what it
//! says.
//!
//! One turn of the loop is: take everything that waits (at most `BATCH_MAX`), hand it to the core, collect its outputs, and let
//! them go. Only what the core says in the same breath as it changes a binding is held until that change is on disk. So a phone
//! is never told something that a crash could undo. Of a call that begins, the core is told when the disk has it, and keeps an
//! answer as long. Datagrams of senders that nobody knows wait
//! for all others (`strangers`), a few in each turn.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Interval, MissedTickBehavior},
};
use tracing::{error, info};

use crate::{
    call::{
        BarredView, CallDetail, CallView, Core, Counters, DeviceSync, EmergencyState, Input, InspectionRefusal, Output,
        Standing, SyncRefusal, TestCall, TestRefusal, TrunkView, WebRequest, WebUser, WorkerLoads,
    },
    media,
    policy::explanation::Origin,
    sip::registrar::Binding,
    types::{CallId, Flow, Instant, Transport},
};

use super::{
    clock::Clock,
    failure::Failure,
    held::{Held, Outgoing, Released},
    media_io::MediaPlane,
    notifier::Notifier,
    resolve::Resolver,
    stir::Certificates,
    store::{Writes, thread::StoreHandle},
    strangers::{Kind, Strangers},
    systemd,
    transport::Transports,
};

/// Messages waiting for the core; beyond it, receiving waits.
pub const MAILBOX_MAX: usize = 4_096;
/// Messages of one turn.
const BATCH_MAX: usize = 256;
/// Datagrams of strangers that are served in one turn: they must not keep everybody else waiting.
const STRANGERS_PER_TURN: usize = 32;
/// How often media workers are asked whether they turn, unless a service manager wants to know more often, and the store is told
/// that the server lives.
const PULSE_INTERVAL: Duration = Duration::from_secs(10);

/// What reaches the core's task.
#[derive(Debug)]
pub enum ToCore {
    Input(Input),
    /// Nothing more can be read from this connection: close it after the answers that are due.
    CloseFlow(Flow),
    Query(Query),
    /// End the task after this turn.
    Stop,
}

/// A question of the admin API. Who asks may have given up meanwhile.
#[derive(Debug)]
pub enum Query {
    Stats(oneshot::Sender<Stats>),
    Calls(oneshot::Sender<Vec<CallView>>),
    /// One live call, with what its media legs report now.
    Call {
        id: String,
        reply: oneshot::Sender<InspectionResult>,
    },
    Registrations(oneshot::Sender<Vec<Arc<Binding>>>),
    /// As seen by this user, or by the operator.
    Emergency {
        user: Option<String>,
        reply: oneshot::Sender<Option<EmergencyState>>,
    },
    /// What would become of a call now: the steps of the decision, one a line, if there is such a user or trunk.
    RouteTest {
        origin: Origin,
        number: String,
        reply: oneshot::Sender<Option<String>>,
    },
    /// Who sends a request over HTTP.
    WebUser {
        request: WebRequest,
        reply: oneshot::Sender<WebUser>,
    },
    /// Calls the carrier's test number. The answer takes as long as the call.
    TestCall(oneshot::Sender<Result<TestCall, TestRefusal>>),
    Trunks(oneshot::Sender<Vec<TrunkView>>),
    /// Keeps new calls off a trunk, or lets them take it again. The answer is all trunks as they are then.
    DrainTrunk {
        trunk: String,
        is_draining: bool,
        reply: oneshot::Sender<Vec<TrunkView>>,
    },
    Barred(oneshot::Sender<Vec<BarredView>>),
    /// Lets a user call international and premium numbers again. The answer is who is barred then.
    Unbar {
        user: String,
        reply: oneshot::Sender<Vec<BarredView>>,
    },
    /// Makes a user's devices fetch their configuration again. The answer takes as long as they do.
    Resync {
        user: String,
        is_reboot: bool,
        reply: oneshot::Sender<SyncResult>,
    },
}

pub type SyncResult = Result<Vec<DeviceSync>, SyncRefusal>;
pub type InspectionResult = Result<Box<CallDetail>, InspectionRefusal>;

/// The core's totals and present numbers.
#[derive(Clone, Debug)]
pub struct Stats {
    pub counters: Counters,
    pub calls: usize,
    /// These, and calls whose last requests have no answer yet.
    pub open_calls: usize,
    pub bindings: usize,
    pub subscriptions: usize,
    pub trunks: Vec<TrunkView>,
    pub barred: usize,
    /// Registrations at trunks on their way.
    pub open_registrations: usize,
    pub emergency_calls: usize,
    /// These, and calls back of emergency services.
    pub urgent_calls: usize,
    pub loads: WorkerLoads,
}

/// The core and everything its outputs go to.
#[derive(Debug)]
pub struct CoreTask {
    core: Core,
    mail: mpsc::Receiver<ToCore>,
    outside: Outside,
    batch: Batch,
    /// Wait until nobody else does.
    strangers: Strangers,
    /// Waits for the disk.
    held: Held,
    /// Who waits for what devices say, by number; the core answers each, and has a limit.
    resyncs: HashMap<u64, oneshot::Sender<SyncResult>>,
    /// Who waits for what workers report, likewise.
    inspections: HashMap<u64, oneshot::Sender<InspectionResult>>,
    /// Who waits for a test call; the core makes one at a time.
    test_calls: HashMap<u64, oneshot::Sender<Result<TestCall, TestRefusal>>>,
    last_order: u64,
    /// When the core wants a `Timeout`.
    wake_at: Option<Instant>,
    /// Which workers did not answer when they were last asked.
    late_workers: Vec<u16>,
}

/// What the core's outputs go to.
#[derive(Debug)]
pub struct Outside {
    pub clock: Clock,
    pub transports: Transports,
    pub media: MediaPlane,
    pub store: StoreHandle,
    pub resolver: Resolver,
    pub notifier: Notifier,
    pub certificates: Certificates,
}

/// Outputs of one turn.
#[derive(Debug, Default)]
struct Batch {
    writes: Writes,
    outgoing: Vec<Outgoing>,
    /// Which of `outgoing` say what changes of bindings among `writes` hold.
    dependent: Vec<Range<usize>>,
    /// Calls that begin with `writes`.
    opened: Vec<CallId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    GoOn,
    Stop,
}

impl CoreTask {
    pub fn new(core: Core, mail: mpsc::Receiver<ToCore>, outside: Outside) -> Self {
        let (batch, held) = (Batch::default(), Held::default());
        Self {
            core,
            mail,
            outside,
            batch,
            strangers: Strangers::default(),
            held,
            resyncs: HashMap::new(),
            inspections: HashMap::new(),
            test_calls: HashMap::new(),
            last_order: 0,
            wake_at: None,
            late_workers: Vec::new(),
        }
    }

    /// Runs until [`ToCore::Stop`]. Ending drops the media plane, and with it every media socket and key.
    pub async fn run(mut self) -> Result<(), Failure> {
        let mut letters = Vec::with_capacity(BATCH_MAX);
        let mut pulse = pulse(systemd::watchdog_interval().map_or(PULSE_INTERVAL, |wanted| wanted.min(PULSE_INTERVAL)));
        self.drain()?;
        loop {
            self.finish_batch()?;
            let now = self.outside.clock.now();
            tokio::select! {
                _ = self.mail.recv_many(&mut letters, BATCH_MAX) => {}
                event = self.outside.media.next_event() => self.input(Input::Media(event.ok_or_else(worker_ended)?))?,
                () = sleep(self.wake_at.map(|at| at.since(now))) => self.input(Input::Timeout)?,
                released = self.held.next() => self.release(released)?,
                _ = pulse.tick() => self.take_pulse(),
                () = tokio::task::yield_now(), if !self.strangers.is_empty() => {}
            }
            for letter in letters.drain(..) {
                if self.open(letter)? == Turn::Stop {
                    return self.end().await;
                }
            }
            self.serve_strangers()?;
        }
    }

    /// The service manager is told that the server lives while every media worker answers. That this task turns, and with it
    /// signalling, is shown by the telling.
    fn take_pulse(&mut self) {
        self.outside.store.note_alive(self.outside.clock.now());
        let late = self.outside.media.ask_pulse();
        if late.is_empty() {
            systemd::ping_watchdog();
        }
        if late == self.late_workers {
            return;
        }
        if late.is_empty() {
            info!("Every media worker answers again.");
        } else {
            error!(workers = ?late, "Media workers do not answer: the service manager is not told any more that the server lives.");
        }
        self.late_workers = late;
    }

    fn open(&mut self, letter: ToCore) -> Result<Turn, Failure> {
        match letter {
            ToCore::Input(Input::Received { flow, bytes }) if flow.transport == Transport::Udp => {
                self.open_datagram(flow, bytes)?;
            }
            ToCore::Input(Input::Received { flow, bytes }) => {
                self.input(Input::Received { flow, bytes })?;
                if self.core.is_known(&flow) {
                    self.outside.transports.prove(&flow);
                }
            }
            ToCore::Input(input) => self.input(input)?,
            ToCore::CloseFlow(flow) => {
                self.batch.outgoing.push(Outgoing::Close(flow.connection));
                self.input(Input::FlowFailed { flow })?;
            }
            ToCore::Query(query) => self.answer(query)?,
            ToCore::Stop => return Ok(Turn::Stop),
        }
        Ok(Turn::GoOn)
    }

    fn open_datagram(&mut self, flow: Flow, bytes: Bytes) -> Result<(), Failure> {
        let kind = match self.core.standing(&flow, &bytes) {
            Standing::Known => return self.input(Input::Received { flow, bytes }),
            Standing::Emergency => Kind::Emergency,
            Standing::Stranger => Kind::Other,
        };
        if self.strangers.push(kind, (flow, bytes)).is_some() {
            self.core.note_overload();
        }
        Ok(())
    }

    fn serve_strangers(&mut self) -> Result<(), Failure> {
        for _ in 0..STRANGERS_PER_TURN {
            let Some((flow, bytes)) = self.strangers.pop() else { break };
            self.input(Input::Received { flow, bytes })?;
        }
        Ok(())
    }

    fn input(&mut self, input: Input) -> Result<(), Failure> {
        self.core.handle_input(self.outside.clock.now(), input);
        self.drain()
    }

    /// Takes what the core says to one input.
    fn drain(&mut self) -> Result<(), Failure> {
        let (first, changes_before) = (self.batch.outgoing.len(), self.batch.writes.changes.len());
        self.take_outputs()?;
        if self.batch.writes.changes.len() > changes_before {
            self.batch.dependent.push(first..self.batch.outgoing.len());
        }
        Ok(())
    }

    fn take_outputs(&mut self) -> Result<(), Failure> {
        loop {
            match self.core.poll_output() {
                Output::Transmit { flow, bytes } => self.batch.outgoing.push(Outgoing::Transmit { flow, bytes }),
                Output::Connect { flow, server_name, trunk } => {
                    self.batch.outgoing.push(Outgoing::Connect { flow, server_name, trunk });
                }
                Output::Close { flow } => self.batch.outgoing.push(Outgoing::Close(flow.connection)),
                Output::Resolve { query, question } => self.outside.resolver.resolve(query, question),
                Output::FetchCertificate { query, place } => self.outside.certificates.fetch(query, place),
                Output::Media { worker, command } => self.command(worker, command)?,
                Output::StoreBinding(change) => self.batch.writes.changes.push(change),
                Output::OpenCdr { call, cdr } => {
                    self.batch.writes.begun.push(*cdr);
                    self.batch.opened.push(call);
                }
                Output::UpdateCdr(cdr) => self.batch.writes.answered.push(*cdr),
                Output::StoreCdr(cdr) => self.batch.writes.cdrs.push(*cdr),
                Output::Resynced { id, result } => {
                    if let Some(reply) = self.resyncs.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Output::TestCalled { id, result } => {
                    if let Some(reply) = self.test_calls.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Output::Notify { target, notice } => self.outside.notifier.post(target, &notice),
                Output::Inspected { id, result } => {
                    if let Some(reply) = self.inspections.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Output::Timeout(at) => {
                    self.wake_at = at;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self, worker: u16, command: media::Command) -> Result<(), Failure> {
        self.outside.media.send(worker, command).map_err(|_| worker_ended())
    }

    /// Media first, then the network; what cannot be sent goes back to the core, whose outputs are the next batch.
    fn finish_batch(&mut self) -> Result<(), Failure> {
        loop {
            self.outside.media.wake();
            let Batch { writes, dependent, outgoing, opened } = std::mem::take(&mut self.batch);
            let mut is_settled = true;
            let outgoing = match self.outside.store.commit(writes) {
                Some(written) => self.held.hold(written, outgoing, &dependent, opened),
                // Everything leaves, and in the order in which the core said it.
                None => {
                    is_settled = opened.is_empty();
                    self.tell_opened(opened)?;
                    outgoing
                }
            };
            for outgoing in self.held.queue(outgoing) {
                if let Some(flow) = self.send(outgoing) {
                    self.input(Input::FlowFailed { flow })?;
                    is_settled = false;
                }
            }
            if is_settled {
                return Ok(());
            }
        }
    }

    /// The disk has what these say.
    fn release(&mut self, released: Released) -> Result<(), Failure> {
        self.batch.outgoing.extend(released.outgoing);
        self.tell_opened(released.opened)
    }

    fn tell_opened(&mut self, opened: Vec<CallId>) -> Result<(), Failure> {
        if opened.is_empty() { Ok(()) } else { self.input(Input::CdrsOpened(opened)) }
    }

    /// Lets go of everything that is held, as soon as the disk allows.
    async fn end(&mut self) -> Result<(), Failure> {
        self.finish_batch()?;
        while !self.held.is_empty() {
            let released = self.held.next().await;
            self.release(released)?;
            self.finish_batch()?;
        }
        Ok(())
    }

    /// The flow, if it has failed.
    fn send(&self, outgoing: Outgoing) -> Option<Flow> {
        match outgoing {
            Outgoing::Transmit { flow, bytes } => {
                return self.outside.transports.transmit(&flow, bytes).err().map(|_| flow);
            }
            Outgoing::Connect { flow, server_name, trunk } => self.outside.transports.connect(flow, server_name, trunk),
            Outgoing::Close(connection) => self.outside.transports.close(connection),
        }
        None
    }

    fn answer(&mut self, query: Query) -> Result<(), Failure> {
        match query {
            Query::Stats(reply) => {
                let stats = Stats {
                    counters: self.core.counters(),
                    calls: self.core.live_calls(),
                    open_calls: self.core.open_calls(),
                    bindings: self.core.bindings_len(),
                    subscriptions: self.core.subscriptions_len(),
                    trunks: self.core.trunks(),
                    barred: self.core.barred().len(),
                    open_registrations: self.core.open_registrations(),
                    emergency_calls: self.core.emergency_calls(),
                    urgent_calls: self.core.urgent_calls(),
                    loads: self.core.worker_loads(),
                };
                let _ = reply.send(stats);
            }
            Query::Calls(reply) => drop(reply.send(self.core.calls())),
            Query::Call { id: call, reply } => {
                self.last_order += 1;
                self.inspections.insert(self.last_order, reply);
                self.input(Input::Inspect { id: self.last_order, call })?;
            }
            Query::Registrations(reply) => drop(reply.send(self.core.bindings())),
            Query::Emergency { user, reply } => drop(reply.send(self.core.emergency(user.as_deref()))),
            Query::RouteTest { origin, number, reply } => drop(reply.send(self.core.explain(&origin, &number))),
            Query::WebUser { request, reply } => {
                let now = self.outside.clock.now();
                let _ = reply.send(self.core.web_user(now, &request));
            }
            Query::TestCall(reply) => {
                self.last_order += 1;
                self.test_calls.insert(self.last_order, reply);
                self.input(Input::TestCall { id: self.last_order })?;
            }
            Query::Trunks(reply) => drop(reply.send(self.core.trunks())),
            Query::DrainTrunk { trunk, is_draining, reply } => {
                self.input(Input::DrainTrunk { trunk, is_draining })?;
                let _ = reply.send(self.core.trunks());
            }
            Query::Barred(reply) => drop(reply.send(self.core.barred())),
            Query::Unbar { user, reply } => {
                self.input(Input::Unbar { user })?;
                let _ = reply.send(self.core.barred());
            }
            Query::Resync { user, is_reboot, reply } => {
                self.last_order += 1;
                self.resyncs.insert(self.last_order, reply);
                self.input(Input::Resync { id: self.last_order, user, is_reboot })?;
            }
        }
        Ok(())
    }
}

/// The media threads never end by themselves.
fn worker_ended() -> Failure {
    Failure::Internal("a media worker has ended; the log says why. Calls cannot go on without it.".to_owned())
}

fn pulse(period: Duration) -> Interval {
    let mut pulse = tokio::time::interval(period);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse
}

async fn sleep(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
