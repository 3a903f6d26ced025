//! The server under test: the real core and the real media workers, with an in-memory store and ports that exist only
//! as entries of a table. Does what the shell does, and nothing else.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use ringdown::{
    call::{CallDetail, Cdr, Core, DeviceSync, Input, InspectionRefusal, Notice, Output, Setup},
    config::{Config, Directory},
    media::{
        self, Worker,
        packet_io::{perform_outputs, relay_round},
        worker,
    },
    sip::{
        locate::{Question, Record, RecordType, Reply},
        registrar::{Binding, Change},
    },
    types::{CallId, ConnectionId, DropReason, Duration, Flow, Instant, Rng, Secret, Transport},
    wire::sip::frame::{Frame, Framer, PONG, is_keep_alive},
};

use crate::{
    net::{End, Happening, Net},
    packet_io::{SimulatedIo, Sockets},
};

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) bindings: Vec<Binding>,
    pub(crate) cdrs: Vec<Cdr>,
    /// Of calls that go on, by identifier.
    open_cdrs: HashMap<String, Cdr>,
}

impl Store {
    fn open(&mut self, cdr: Cdr) {
        self.open_cdrs.insert(cdr.id.clone(), cdr);
    }

    fn close(&mut self, cdr: Cdr) {
        self.open_cdrs.remove(&cdr.id);
        self.cdrs.push(cdr);
    }

    fn close_interrupted(&mut self, now: Instant) {
        let interrupted = self.open_cdrs.drain().map(|(_, cdr)| cdr.interrupted(now.unix_ms()));
        self.cdrs.extend(interrupted);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(binding) => {
                self.bindings.retain(|b| b.aor != binding.aor || !b.is_same(&binding));
                self.bindings.push(Arc::unwrap_or_clone(binding));
            }
            Change::Remove(binding) => self.bindings.retain(|b| b.aor != binding.aor || !b.is_same(&binding)),
        }
    }
}

/// A TCP or TLS connection as the shell keeps it.
#[derive(Debug)]
struct Stream {
    flow: Flow,
    framer: Framer,
}

/// A processor that relays so many packets a second for each worker, as its threads measure it. What comes beyond is lost, as in
/// the full buffer of a socket.
#[derive(Debug)]
struct Machine {
    packets_per_s: u32,
    workers: Vec<Busy>,
    lost: u64,
}

#[derive(Clone, Debug, Default)]
struct Busy {
    /// End of the second that is measured.
    until: Option<Instant>,
    packets: u32,
    /// When everything that has come so far is relayed.
    done_at: Instant,
}

/// What waits longer finds the buffer full.
const BUFFER: Duration = Duration::from_millis(250);

impl Machine {
    fn takes(&mut self, now: Instant, worker: u16) -> bool {
        let busy = &mut self.workers[usize::from(worker)];
        busy.until.get_or_insert(now + Duration::from_secs(1));
        let begins = busy.done_at.max(now);
        let takes = begins.since(now) <= BUFFER;
        if takes {
            busy.done_at = begins + Duration::from_secs(1) / self.packets_per_s;
            busy.packets += 1;
        }
        self.lost += u64::from(!takes);
        takes
    }

    fn next_at(&self) -> Option<Instant> {
        self.workers.iter().filter_map(|busy| busy.until).min()
    }

    /// What the workers have to tell.
    fn measured(&mut self, now: Instant) -> Vec<media::Event> {
        let mut events = Vec::new();
        for (worker, busy) in (0..).zip(&mut self.workers) {
            if busy.until.is_none_or(|until| until > now) {
                continue;
            }
            let permille = std::mem::take(&mut busy.packets) * 1_000 / self.packets_per_s;
            busy.until = (permille > 0).then(|| now + Duration::from_secs(1));
            let busy_permille = u16::try_from(permille.min(1_000)).expect("at most 1000");
            events.push(media::Event::Load { worker, busy_permille });
        }
        events
    }
}

pub(crate) struct Server {
    pub(crate) core: Core,
    pub(crate) workers: Vec<Worker>,
    pub(crate) store: Store,
    /// Everything the core sent since the world last looked.
    pub(crate) transmitted: Vec<(Instant, Flow, Bytes)>,
    pub(crate) sockets: Sockets,
    /// Posted to web servers.
    pub(crate) notices: Vec<Notice>,
    /// What became of each order to a user's devices.
    pub(crate) resynced: Vec<Vec<DeviceSync>>,
    /// What each look at a call showed.
    pub(crate) inspected: Vec<Result<Box<CallDetail>, InspectionRefusal>>,
    config: Arc<Config>,
    directory: Arc<Directory>,
    hosts: HashMap<String, IpAddr>,
    rng: Rng,
    ip: IpAddr,
    core_timeout: Option<Instant>,
    worker_timeouts: Vec<Option<Instant>>,
    /// The rings between core and workers: in order, a little late.
    commands: VecDeque<(Instant, u16, media::Command)>,
    events: VecDeque<(Instant, media::Event)>,
    resolved: VecDeque<(Instant, u64, Question, Reply)>,
    /// What the disk will have of calls that begin.
    opened: VecDeque<(Instant, CallId, Cdr)>,
    streams: HashMap<ConnectionId, Stream>,
    /// `None`: as fast as anybody likes.
    machine: Option<Machine>,
    spins: (Instant, u32),
}

impl Server {
    pub(crate) fn new(
        now: Instant,
        ip: IpAddr,
        config: Config,
        directory: Directory,
        hosts: HashMap<String, IpAddr>,
        mut rng: Rng,
    ) -> Self {
        let (config, directory) = (Arc::new(config), Arc::new(directory));
        let core = Core::new(now, setup(&config, &directory, Vec::new(), rng.fork()));
        let workers = start_workers(&config);
        let mut server = Self {
            core,
            worker_timeouts: vec![None; workers.len()],
            workers,
            store: Store::default(),
            transmitted: Vec::new(),
            sockets: Sockets::new(ip, &config),
            notices: Vec::new(),
            resynced: Vec::new(),
            inspected: Vec::new(),
            config,
            directory,
            hosts,
            rng,
            ip,
            core_timeout: None,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            resolved: VecDeque::new(),
            opened: VecDeque::new(),
            streams: HashMap::new(),
            machine: None,
            spins: (now, 0),
        };
        server.core_timeout = Some(now);
        server
    }

    /// Dies without a word and starts anew with what the store kept. Its host's connections must be cut by the caller.
    pub(crate) fn crash(&mut self, now: Instant) {
        // Emergency calls wait for no disk.
        for call in self.core.calls().iter().filter(|call| call.state == "answered" && !call.emergency) {
            assert!(self.store.open_cdrs.contains_key(&call.id), "nothing would be known of {call:?}");
        }
        self.store.close_interrupted(now);
        let bindings = self.store.bindings.clone();
        self.core = Core::new(now, setup(&self.config, &self.directory, bindings, self.rng.fork()));
        self.workers = start_workers(&self.config);
        self.core_timeout = Some(now);
        self.worker_timeouts.fill(None);
        self.commands.clear();
        self.events.clear();
        self.resolved.clear();
        self.opened.clear();
        self.sockets.clear();
        self.streams.clear();
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        let queued = [
            self.commands.front().map(|(at, ..)| *at),
            self.events.front().map(|(at, _)| *at),
            self.resolved.front().map(|(at, ..)| *at),
            self.opened.front().map(|(at, ..)| *at),
            self.core_timeout,
            self.machine.as_ref().and_then(Machine::next_at),
        ];
        queued.into_iter().chain(self.worker_timeouts.iter().copied()).flatten().min()
    }

    /// Nothing is left of any call: what every simulation ends with.
    pub(crate) fn assert_clean(&self) {
        assert!(self.core.is_idle(), "the core still holds {:?}", self.core.calls());
        let legs: Vec<usize> = self.workers.iter().map(Worker::len).collect();
        assert!(self.workers.iter().all(Worker::is_empty), "legs left per worker: {legs:?}");
        assert_eq!(self.open_ports(), 0, "ports left");
        assert!(self.commands.is_empty() && self.events.is_empty(), "commands or events left in the rings");
        assert!(self.store.open_cdrs.is_empty(), "a call is over without its record");
        assert_eq!(self.worker_timeouts.iter().flatten().count(), 0, "a worker's timer is left");
    }

    /// No timer runs at all; true only once every binding is gone.
    pub(crate) const fn has_core_timer(&self) -> bool {
        self.core_timeout.is_some()
    }

    /// Packets dropped by all workers for this reason.
    pub(crate) fn packets_dropped(&self, reason: DropReason) -> u64 {
        self.workers.iter().map(|w| w.drops().of(reason)).sum()
    }

    /// From now on each worker can relay only so many packets a second.
    pub(crate) fn limit_packets(&mut self, packets_per_s: u32) {
        let workers = vec![Busy::default(); self.workers.len()];
        self.machine = Some(Machine { packets_per_s, workers, lost: 0 });
    }

    /// Packets that no worker had time for.
    pub(crate) fn packets_lost(&self) -> u64 {
        self.machine.as_ref().map_or(0, |machine| machine.lost)
    }

    /// Those that a leg has, or has left behind.
    pub(crate) fn open_ports(&self) -> usize {
        self.sockets.open()
    }

    pub(crate) fn set_directory(&mut self, now: Instant, net: &mut Net, directory: Directory) {
        self.directory = Arc::new(directory);
        self.input(now, net, Input::Directory(Arc::clone(&self.directory)));
    }

    pub(crate) fn resync(&mut self, now: Instant, net: &mut Net, user: &str) {
        self.input(now, net, Input::Resync { id: 0, user: user.to_owned(), is_reboot: false });
    }

    pub(crate) fn inspect(&mut self, now: Instant, net: &mut Net, call: &str) {
        self.input(now, net, Input::Inspect { id: 0, call: call.to_owned() });
    }

    pub(crate) fn drain(&mut self, now: Instant, net: &mut Net) {
        self.input(now, net, Input::Drain);
    }

    pub(crate) fn arrive(&mut self, now: Instant, net: &mut Net, to: SocketAddr, what: Happening) {
        match what {
            Happening::Datagram { from, bytes } => self.datagram(now, net, from, to, bytes),
            Happening::Accepted { connection, transport, from } => {
                let flow = Flow { transport, local: to, remote: from, connection };
                self.streams.insert(connection, Stream { flow, framer: Framer::new() });
            }
            Happening::Bytes { connection, bytes } => self.stream(now, net, connection, &bytes),
            Happening::Closed { connection } => {
                if let Some(stream) = self.streams.remove(&connection) {
                    self.input(now, net, Input::FlowFailed { flow: stream.flow });
                }
            }
        }
    }

    /// Everything that is due now.
    pub(crate) fn wake(&mut self, now: Instant, net: &mut Net) {
        self.assert_progress(now);
        while let Some((at, worker, command)) = self.commands.pop_front() {
            if at > now {
                self.commands.push_front((at, worker, command));
                break;
            }
            match &command {
                media::Command::Bind { leg, .. } => drop(self.sockets.ahead.insert((worker, leg.slot))),
                media::Command::Open { leg, .. } => drop(self.sockets.ahead.remove(&(worker, leg.slot))),
                _ => {}
            }
            self.workers[usize::from(worker)].handle_input(now, worker::Input::Command(command));
            self.drain_worker(now, net, worker);
        }
        for event in self.machine.as_mut().map(|machine| machine.measured(now)).unwrap_or_default() {
            self.queue_event(now, event);
        }
        while let Some((at, event)) = self.events.pop_front() {
            if at > now {
                self.events.push_front((at, event));
                break;
            }
            self.input(now, net, Input::Media(event));
        }
        while let Some((at, query, question, reply)) = self.resolved.pop_front() {
            if at > now {
                self.resolved.push_front((at, query, question, reply));
                break;
            }
            self.input(now, net, Input::Resolved { query, question, reply });
        }
        while let Some((at, call, cdr)) = self.opened.pop_front() {
            if at > now {
                self.opened.push_front((at, call, cdr));
                break;
            }
            self.store.open(cdr);
            self.input(now, net, Input::CdrsOpened(vec![call]));
        }
        for worker in 0..self.workers.len() {
            if self.worker_timeouts[worker].is_some_and(|at| at <= now) {
                self.workers[worker].handle_input(now, worker::Input::Timeout);
                self.drain_worker(now, net, u16::try_from(worker).expect("few workers"));
            }
        }
        if self.core_timeout.is_some_and(|at| at <= now) {
            self.input(now, net, Input::Timeout);
        }
    }

    /// A machine that asks to be woken in the same instant for ever would hang the server.
    fn assert_progress(&mut self, now: Instant) {
        if self.spins.0 == now {
            self.spins.1 += 1;
            assert!(self.spins.1 < 10_000, "a timer asks for {now:?} again and again");
        } else {
            self.spins = (now, 0);
        }
    }

    fn datagram(&mut self, now: Instant, net: &mut Net, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if self.config.sip.udp.contains(&to) {
            if !is_keep_alive(&bytes) {
                let flow = Flow { transport: Transport::Udp, local: to, remote: from, connection: ConnectionId::NONE };
                self.input(now, net, Input::Received { flow, bytes: bytes.into() });
            }
            return;
        }
        let Some((worker, port)) = self.sockets.find(to, from) else { return };
        if self.machine.as_mut().is_some_and(|machine| !machine.takes(now, worker)) {
            return;
        }
        let mut io = SimulatedIo::new(&mut self.sockets, worker).with(port, from, &bytes);
        let machine = &mut self.workers[usize::from(worker)];
        relay_round(now, machine, &mut io, &mut Vec::new());
        let has_output = machine.has_output();
        for (from, to, bytes) in io.sent {
            net.datagram(now, from, to, &bytes);
        }
        if has_output {
            self.drain_worker(now, net, worker);
        }
    }

    fn stream(&mut self, now: Instant, net: &mut Net, connection: ConnectionId, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&connection) else { return };
        stream.framer.push(bytes);
        let flow = stream.flow;
        while let Some(stream) = self.streams.get_mut(&connection) {
            match stream.framer.poll() {
                Ok(Some(Frame::Message(bytes))) => self.input(now, net, Input::Received { flow, bytes }),
                Ok(Some(Frame::Ping)) => {
                    self.send_stream(now, net, &flow, PONG);
                    self.input(now, net, Input::Alive { flow });
                }
                Ok(Some(Frame::Pong)) => self.input(now, net, Input::Alive { flow }),
                Ok(None) => return,
                Err(error) => {
                    self.input(now, net, Input::Unframeable { flow, error });
                    self.close(now, net, connection);
                    self.input(now, net, Input::FlowFailed { flow });
                }
            }
        }
    }

    fn input(&mut self, now: Instant, net: &mut Net, input: Input) {
        self.core.handle_input(now, input);
        self.drain_core(now, net);
    }

    fn drain_core(&mut self, now: Instant, net: &mut Net) {
        let mut failed = Vec::new();
        for _ in 0..100_000 {
            match self.core.poll_output() {
                Output::Transmit { flow, bytes } => {
                    self.transmitted.push((now, flow, bytes.clone()));
                    if flow.transport.is_reliable() {
                        if !self.streams.contains_key(&flow.connection) {
                            failed.push(flow);
                            continue;
                        }
                        self.send_stream(now, net, &flow, &bytes);
                    } else {
                        net.datagram(now, flow.local, flow.remote, &bytes);
                    }
                }
                Output::Connect { flow, server_name: _, trunk: _ } => {
                    let from = SocketAddr::new(self.ip, self.ephemeral_port());
                    net.connect(now, flow.transport, from, flow.remote, Some(flow.connection));
                    self.streams.insert(flow.connection, Stream { flow, framer: Framer::new() });
                }
                Output::Close { flow } => self.close(now, net, flow.connection),
                Output::Resolve { query, question } => {
                    let found = self.hosts.get(&question.name).filter(|_| question.record_type == RecordType::A);
                    let reply = found.map_or(Reply::Absent, |ip| Reply::Found {
                        records: vec![Record::Address(*ip)],
                        ttl: Duration::from_secs(300),
                    });
                    self.resolved.push_back((now + Duration::from_millis(3), query, question, reply));
                }
                Output::Media { worker, command } => {
                    let last = self.commands.back().map_or(now, |(at, ..)| *at);
                    let at = last.max(now + self.ring_delay());
                    self.commands.push_back((at, worker, command));
                }
                Output::StoreBinding(change) => self.store.apply(change),
                Output::OpenCdr { call, cdr } => {
                    let last = self.opened.back().map_or(now, |(at, ..)| *at);
                    let at = last.max(now + Duration::from_millis(u64::from(self.rng.below(30))));
                    self.opened.push_back((at, call, *cdr));
                }
                Output::UpdateCdr(cdr) => match self.opened.iter_mut().find(|(_, _, waiting)| waiting.id == cdr.id) {
                    Some((_, _, waiting)) => *waiting = *cdr,
                    None => self.store.open(*cdr),
                },
                Output::StoreCdr(cdr) => {
                    self.opened.retain(|(_, _, waiting)| waiting.id != cdr.id);
                    self.store.close(*cdr);
                }
                Output::Inspected { result, .. } => self.inspected.push(result),
                Output::TestCalled { .. } | Output::FetchCertificate { .. } => {}
                Output::Notify { notice, .. } => self.notices.push(*notice),
                Output::Resynced { result, .. } => self.resynced.push(result.expect("the user exists")),
                Output::Timeout(at) => {
                    self.core_timeout = at;
                    for flow in failed {
                        self.input(now, net, Input::FlowFailed { flow });
                    }
                    return;
                }
            }
        }
        panic!("poll_output never returned Timeout");
    }

    fn drain_worker(&mut self, now: Instant, net: &mut Net, index: u16) {
        let worker = usize::from(index);
        let mut told = Vec::new();
        let mut io = SimulatedIo::new(&mut self.sockets, index);
        let timeout = perform_outputs(now, &mut self.workers[worker], &mut io, |event| told.push(event));
        for (from, to, bytes) in io.sent {
            net.datagram(now, from, to, &bytes);
        }
        self.worker_timeouts[worker] = timeout;
        for event in told {
            self.queue_event(now, event);
        }
    }

    fn queue_event(&mut self, now: Instant, event: media::Event) {
        let last = self.events.back().map_or(now, |(at, _)| *at);
        let at = last.max(now + self.ring_delay());
        self.events.push_back((at, event));
    }

    fn send_stream(&mut self, now: Instant, net: &mut Net, flow: &Flow, bytes: &[u8]) {
        net.send(now, flow.connection, end_of(flow.connection), bytes);
    }

    fn close(&mut self, now: Instant, net: &mut Net, connection: ConnectionId) {
        self.streams.remove(&connection);
        net.close(now, connection, end_of(connection));
    }

    fn ring_delay(&mut self) -> Duration {
        Duration::from_micros(u64::from(self.rng.below(2_000)))
    }

    fn ephemeral_port(&mut self) -> u16 {
        49_152 + u16::try_from(self.rng.below(16_000)).expect("below 16000")
    }
}

/// The shell numbers the connections it accepts; the core's own have the top bit.
const fn end_of(connection: ConnectionId) -> End {
    if connection.0 >> 63 == 1 { End::Opener } else { End::Acceptor }
}

fn setup(config: &Arc<Config>, directory: &Arc<Directory>, bindings: Vec<Binding>, rng: Rng) -> Setup {
    let listeners =
        [(Transport::Udp, &config.sip.udp), (Transport::Tcp, &config.sip.tcp), (Transport::Tls, &config.sip.tls)]
            .into_iter()
            .flat_map(|(transport, addresses)| addresses.iter().map(move |a| (transport, *a)))
            .collect();
    let trunk_passwords = config
        .trunks
        .iter()
        .filter(|t| t.password_file.is_some())
        .map(|t| (t.name.clone(), Secret::new(crate::trunk::PASSWORD.to_owned())))
        .collect();
    Setup {
        config: Arc::clone(config),
        directory: Arc::clone(directory),
        listeners,
        workers: config.media.workers,
        trunk_passwords,
        bindings,
        gruu_key: Secret::new([7; 32]),
        rng,
    }
}

fn start_workers(config: &Config) -> Vec<Worker> {
    // The port range is halves of even-odd pairs; what does not divide evenly stays unused.
    let pairs = (u32::from(*config.media.ports.end()) + 1 - u32::from(*config.media.ports.start())) / 2;
    let slots = pairs / u32::from(config.media.workers);
    (0..config.media.workers).map(|w| Worker::new(w, slots)).collect()
}
