//! The media threads and the rings to and from them.
//!
//! Each worker is a plain thread, pinned to a core, that owns its sockets, legs and packet buffer, and from which the kernel
//! takes everything else ([`sandbox::confine_media_thread`]). The core's task holds
//! the [`MediaPlane`]; commands go down and events come up over bounded rings, each with something that wakes its reader.

use std::{
    collections::{HashSet, VecDeque},
    io,
    ops::RangeInclusive,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::{error, info, warn};

mod counters;
mod epoll;
mod event_loop;
mod icmp;
mod load;
mod pulse;
mod wake;
pub mod xdp;

pub use counters::{Bypassed, Totals};

use self::{
    counters::Published,
    event_loop::{EventLoop, Rings},
    wake::{Noticed, Ready, Wake, notice},
};
use crate::{
    config::{Media, MediaBackend},
    media::{Command, Event, History, ports::Ports},
    shell::{
        clock::Clock,
        panics,
        sandbox::{self, Missing},
    },
    types::{
        Duration, LegId,
        limits::{MEDIA_COMMANDS_MAX, MEDIA_EVENTS_MAX},
    },
};

/// Room in a ring beyond [`MEDIA_COMMANDS_MAX`] for commands on legs that are already open: no call that has started may
/// fail to be closed because too many others start.
const RESERVED_COMMANDS: usize = 3 * MEDIA_COMMANDS_MAX;
/// A worker is woken at the latest when so many commands more are waiting.
const COMMANDS_PER_WAKE: usize = 1_024;

/// A worker does not take commands any more: its thread has ended or hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All media threads. Dropped, it ends them and waits until their sockets are closed and their keys wiped.
#[derive(Debug)]
pub struct MediaPlane {
    threads: Vec<Thread>,
    /// Of all workers.
    noticed: Noticed,
    /// Their end of it. They have it in tables of their own, so it is let go of here once they have ended.
    _ready: Ready,
    /// Legs whose `Open` found the ring full, until their `Close`.
    refused: HashSet<LegId>,
    /// Events that no worker sent.
    own_events: VecDeque<Event>,
    /// Whose queues the threads read; let go of after them.
    _card: Option<xdp::Card>,
}

/// What carries the packets.
#[derive(Debug, Default)]
pub struct Backend {
    /// How long a thread looks for the next packet without sleeping, after each.
    pub spin: Duration,
    /// Queues for the first workers; `None`: sockets alone.
    pub card: Option<xdp::Card>,
}

/// Totals of all workers, readable from anywhere.
#[derive(Clone, Debug)]
pub struct MediaCounters(Arc<[Arc<Published>]>);

#[derive(Debug)]
struct Thread {
    commands: Option<Producer<Command>>,
    /// Commands have been sent since it was last woken.
    is_to_wake: bool,
    wake: Wake,
    events: Consumer<Event>,
    published: Arc<Published>,
    /// What could not be taken from it.
    missing: Vec<Missing>,
    handle: Option<JoinHandle<()>>,
}

impl Backend {
    /// What the configuration names, and for how many workers; `workers` is how many there are with sockets alone. Queues that
    /// cannot be had are no failure: the log says why, and sockets do all.
    pub fn open(media: &Media, workers: u16) -> (Self, u16) {
        let sockets = Self { spin: spin(media), card: None };
        if media.backend == MediaBackend::Epoll {
            return (sockets, workers);
        }
        let workers_of_card = xdp_workers(media);
        match xdp::Card::open(media, workers_of_card) {
            Ok(card) => {
                let xdp::Card { interface, is_native, is_zero_copy, .. } = &card;
                let queues = media.xdp_queues.len();
                info!(interface, queues, is_native, is_zero_copy, "Media pass the kernel's network stack by (AF_XDP).");
                (Self { card: Some(card), ..sockets }, workers_of_card)
            }
            Err(xdp::Unavailable { cause, remedy }) => {
                warn!(cause, remedy, "Media go through the kernel's sockets (epoll), since AF_XDP cannot be had.");
                (sockets, workers)
            }
        }
    }
}

/// Workers where a card's queues are read: one for each, unless the configuration says how many.
pub fn xdp_workers(media: &Media) -> u16 {
    match media.workers {
        0 => u16::try_from(media.xdp_queues.len()).unwrap_or(u16::MAX),
        workers => workers,
    }
}

fn spin(media: &Media) -> Duration {
    Duration::from_micros(media.spin_us.into())
}

impl MediaPlane {
    /// Starts `workers` threads, which share `range` as [`Ports`] splits it. Must be called within the runtime.
    pub fn start(clock: Clock, range: &RangeInclusive<u16>, workers: u16, backend: Backend) -> io::Result<Self> {
        let ports = Ports::new(range, workers);
        let (ready, noticed) = notice()?;
        let Backend { spin, mut card } = backend;
        let mut lanes = card.as_mut().map_or_else(Vec::new, |card| std::mem::take(&mut card.lanes)).into_iter();
        let threads = (0..workers)
            .map(|worker| Thread::start(clock, spin, worker, ports.slots(worker), (ready.clone(), lanes.next())))
            .collect::<io::Result<_>>()?;
        Ok(Self { threads, noticed, _ready: ready, refused: HashSet::new(), own_events: VecDeque::new(), _card: card })
    }

    /// Hands a command to its worker, which takes it after the next [`MediaPlane::wake`] at the latest.
    ///
    /// An `Open` that finds [`MEDIA_COMMANDS_MAX`] commands waiting is answered with `Overrun`, its `Close` with `Closed`, and a
    /// `Bind` with nothing.
    pub fn send(&mut self, worker: u16, command: Command) -> Result<(), Full> {
        let thread = &mut self.threads[usize::from(worker)];
        match command {
            Command::Open { leg, .. } if thread.waiting() >= MEDIA_COMMANDS_MAX => {
                self.refused.insert(leg);
                self.own_events.push_back(Event::Overrun { leg });
                Ok(())
            }
            Command::Close { leg } if self.refused.remove(&leg) => {
                self.own_events.push_back(Event::Closed { leg, report: Box::default(), history: History::default() });
                Ok(())
            }
            // Opening binds, too.
            Command::Bind { .. } if thread.waiting() >= MEDIA_COMMANDS_MAX => Ok(()),
            command => thread.send(command),
        }
    }

    /// Wakes the workers that have been handed commands: once for all the commands of a turn, as waking costs more than
    /// most of them.
    pub fn wake(&mut self) {
        self.threads.iter_mut().for_each(Thread::wake);
    }

    /// The next event of any worker. Cancellation loses none. `None`: a worker's thread has ended.
    pub async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.take_event() {
                return Some(event);
            }
            if self.threads.iter().any(|thread| thread.events.is_abandoned()) {
                return None;
            }
            self.noticed.wait().await;
        }
    }

    /// Asks every worker whether it still turns. Returns those that have not answered since they were asked before.
    pub fn ask_pulse(&self) -> Vec<u16> {
        let late = self.threads.iter().zip(0..).filter(|(thread, _)| !thread.ask_pulse());
        late.map(|(_, worker)| worker).collect()
    }

    /// What could not be taken from the threads: each measure once.
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing: Vec<_> = self.threads.iter().flat_map(|thread| thread.missing.clone()).collect();
        missing.sort_by_key(|missing| missing.measure);
        missing.dedup_by_key(|missing| missing.measure);
        missing
    }

    pub fn counters(&self) -> MediaCounters {
        MediaCounters(self.threads.iter().map(|thread| Arc::clone(&thread.published)).collect())
    }

    fn take_event(&mut self) -> Option<Event> {
        let own = self.own_events.pop_front();
        own.or_else(|| self.threads.iter_mut().find_map(|thread| thread.events.pop().ok()))
    }
}

impl MediaCounters {
    /// Every worker answered when it was last asked ([`MediaPlane::ask_pulse`]).
    pub fn are_alive(&self) -> bool {
        self.0.iter().all(|published| !published.pulse.is_late())
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for published in &*self.0 {
            published.add_to(&mut totals);
        }
        totals
    }
}

impl Thread {
    /// `share`: first port and number of slots; `lane`: the queue that it reads besides its sockets.
    fn start(
        clock: Clock,
        spin: Duration,
        worker: u16,
        share: (u16, u32),
        (ready, lane): (Ready, Option<xdp::Lane>),
    ) -> io::Result<Self> {
        let (commands, worker_commands) = RingBuffer::new(MEDIA_COMMANDS_MAX + RESERVED_COMMANDS);
        let (worker_events, events) = RingBuffer::new(MEDIA_EVENTS_MAX);
        let wake = Wake::new()?;
        let published = Arc::new(Published::default());
        let rings = Rings { commands: worker_commands, wake: wake.clone(), events: worker_events, ready };
        // Not the worker's: what it must not have.
        let outside = Arc::new(UnixStream::pair()?.0);
        let start = Start { clock, spin, worker, share, rings, published: Arc::clone(&published), lane };
        let (confined, missing) = sync_channel(1);
        let foreign = Arc::clone(&outside);
        let handle = std::thread::Builder::new().name(format!("media-{worker}")).spawn(move || {
            pin(worker);
            let missing = start.part_descriptors(foreign.as_fd());
            // Who started this thread waits for it, and is the one to close it.
            drop(foreign);
            let own_wake = start.rings.wake.clone();
            let run = match start.open() {
                Ok(run) => run,
                Err(error) => return drop(confined.send(Err(error))),
            };
            let missing = missing.into_iter().chain(sandbox::confine_media_thread(own_wake.as_fd())).collect();
            let _ = confined.send(Ok(missing));
            drop(confined);
            run();
        })?;
        let missing = missing.recv().map_err(|_| io::Error::other("a thread has ended before it began"))??;
        let (commands, handle) = (Some(commands), Some(handle));
        Ok(Self { commands, is_to_wake: false, wake, events, published, missing, handle })
    }

    fn send(&mut self, command: Command) -> Result<(), Full> {
        let commands = self.commands.as_mut().ok_or(Full)?;
        commands.push(command).map_err(|_| Full)?;
        self.is_to_wake = true;
        // A turn may end thousands of calls: the worker begins before it is over.
        if self.waiting().is_multiple_of(COMMANDS_PER_WAKE) {
            self.wake();
        }
        Ok(())
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.is_to_wake) {
            self.wake.wake();
        }
    }

    fn ask_pulse(&self) -> bool {
        let has_answered = self.published.pulse.ask();
        self.wake.wake();
        has_answered
    }

    fn waiting(&self) -> usize {
        self.commands.as_ref().map_or(0, |ring| ring.buffer().capacity() - ring.slots())
    }
}

/// What a worker's thread begins with.
struct Start {
    clock: Clock,
    spin: Duration,
    worker: u16,
    share: (u16, u32),
    rings: Rings,
    published: Arc<Published>,
    lane: Option<xdp::Lane>,
}

impl Start {
    /// On its own thread. Who started it keeps open what both have.
    fn part_descriptors(&self, outside: BorrowedFd<'_>) -> Vec<Missing> {
        let of_lane = self.lane.iter().flat_map(xdp::Lane::descriptors);
        let kept: Vec<_> = [self.rings.wake.as_fd(), self.rings.ready.as_fd()].into_iter().chain(of_lane).collect();
        sandbox::part_descriptors(&kept, outside)
    }

    /// What carries its packets, which only this thread has from the beginning, and its loop.
    fn open(self) -> io::Result<Box<dyn FnOnce()>> {
        let Self { clock, spin, worker, share, rings, published, lane } = self;
        let sockets = epoll::Io::new(share, &rings.wake)?;
        Ok(match lane {
            None => {
                let event_loop = EventLoop::new(clock, worker, sockets, share.1, rings, published, spin);
                Box::new(|| event_loop.run())
            }
            Some(lane) => {
                let io = xdp::Io::new(sockets, lane, share)?;
                let event_loop = EventLoop::new(clock, worker, io, share.1, rings, published, spin);
                Box::new(|| event_loop.run())
            }
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.commands = None;
        self.wake.wake();
        // A media thread cannot write to the log itself. What it panicked with may hold anything and stays unsaid.
        if let Some(Err(_)) = self.handle.take().map(JoinHandle::join) {
            error!(panic = panics::take_untold(), "A media thread has failed.");
        }
    }
}

/// Puts the calling thread on one of the cores the process may use. Not being allowed to costs speed only.
fn pin(worker: u16) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
    if let Some(&core) = cores.get(usize::from(worker) % cores.len().max(1)) {
        let mut one = CpuSet::new();
        one.set(core);
        let _ = sched_setaffinity(None, &one);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    use super::*;
    use crate::{
        media::{Formats, Protection, Remote, Rtcp},
        types::{DropReason, Rng},
        wire::{
            classify::Traffic,
            srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
        },
    };

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// An even start of `count` ports that nobody uses.
    pub(super) fn free_ports(count: u16) -> RangeInclusive<u16> {
        use std::sync::atomic::{AtomicU16, Ordering};
        static NEXT: AtomicU16 = AtomicU16::new(0);
        loop {
            let spread = u16::try_from(std::process::id() % 400).unwrap() * 32;
            let start = 42_000 + (spread + NEXT.fetch_add(count, Ordering::Relaxed)) % 16_000;
            let range = start..=start + count - 1;
            if range.clone().all(|port| UdpSocket::bind((LOCALHOST, port)).is_ok()) {
                return range;
            }
        }
    }

    /// A device with a socket, and the keys of both its directions.
    struct Device {
        socket: UdpSocket,
        suite: Suite,
        sends: MasterKey,
        receives: MasterKey,
        outbound: Outbound,
        inbound: Inbound,
        sequence: u16,
    }

    impl Device {
        fn new(suite: Suite, seed: u64) -> Self {
            let mut rng = Rng::from_small_seed(seed);
            let (sends, receives) = (MasterKey::generate(suite, &mut rng), MasterKey::generate(suite, &mut rng));
            let (outbound, inbound) = (Outbound::new(suite, &sends), Inbound::new(suite, &receives, 0));
            Self { socket: device_socket(), suite, sends, receives, outbound, inbound, sequence: 0 }
        }

        fn configure(&self, leg: LegId) -> Command {
            let rtp = Some(self.socket.local_addr().unwrap());
            Command::Configure {
                leg,
                traffic: Traffic::Rtp,
                remote: Remote {
                    rtp,
                    rtcp: Rtcp::Multiplexed,
                    host: None,
                    network: None,
                    wants_media: true,
                    may_send: true,
                },
                formats: Formats::default(),
                receive: Protection::Srtp { suite: self.suite, key: self.sends.clone(), mki_bytes: 0 },
                send: Protection::Srtp { suite: self.suite, key: self.receives.clone(), mki_bytes: 0 },
                history: None,
            }
        }

        fn speak(&mut self, port: u16, payload: &[u8; 160]) {
            self.sequence += 1;
            let mut packet = vec![0x80, 0];
            packet.extend(self.sequence.to_be_bytes());
            packet.extend([0; 8]);
            packet.extend(payload);
            packet.resize(172 + TAG_ROOM_BYTES, 0);
            let len = self.outbound.protect_rtp(&mut packet, 172).unwrap();
            self.socket.send_to(&packet[..len], (LOCALHOST, port)).unwrap();
        }

        /// The payload of the next packet, if one comes.
        fn hear(&mut self) -> Option<Vec<u8>> {
            let mut packet = [0; 2_048];
            let (len, _) = self.socket.recv_from(&mut packet).ok()?;
            let len = self.inbound.unprotect_rtp(&mut packet[..len]).expect("under this device's key");
            Some(packet[12..len].to_vec())
        }
    }

    fn device_socket() -> UdpSocket {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    }

    struct Call {
        plane: MediaPlane,
        ports: Ports,
        legs: [LegId; 2],
        devices: [Device; 2],
    }

    impl Call {
        fn start() -> Self {
            let range = free_ports(8);
            let mut plane = MediaPlane::start(Clock::start(), &range, 1, Backend::default()).unwrap();
            let mut ports = Ports::new(&range, 1);
            let legs = [ports.take(0, LOCALHOST).unwrap(), ports.take(0, LOCALHOST).unwrap()];
            let devices = [Device::new(Suite::AesCm128HmacSha1_80, 1), Device::new(Suite::AeadAes256Gcm, 2)];
            for (leg, device) in legs.iter().zip(&devices) {
                plane.send(0, Command::Open { leg: *leg, address: LOCALHOST, dscp: 46 }).unwrap();
                plane.send(0, device.configure(*leg)).unwrap();
            }
            plane.send(0, Command::Connect { a: legs[0], b: legs[1] }).unwrap();
            plane.wake();
            Self { plane, ports, legs, devices }
        }

        /// Speaks until the other side hears, since the ports are bound by and by.
        fn carries(&mut self, from: usize, to: usize, fill: u8) {
            let port = self.ports.rtp_port(self.legs[from]);
            let heard = (0..50).find_map(|_| {
                self.devices[from].speak(port, &[fill; 160]);
                self.devices[to].hear()
            });
            assert_eq!(heard, Some(vec![fill; 160]));
        }
    }

    /// The next event of a leg.
    async fn event(plane: &mut MediaPlane) -> Event {
        plane.wake();
        let next = async {
            loop {
                let event = plane.next_event().await.expect("workers run");
                if event.leg().is_some() {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), next).await.expect("an event within five seconds")
    }

    /// Goal: a worker that has much to do says so, and when it has nothing to do any more says that and then is silent.
    #[tokio::test]
    async fn a_busy_worker_tells_its_load_and_its_end() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        let port = call.ports.rtp_port(call.legs[0]);
        let mut told = async |is_wanted: fn(u16) -> bool, packets: usize| {
            for _ in 0..200 {
                (0..packets).for_each(|_| call.devices[0].speak(port, &[7; 160]));
                let next = tokio::time::timeout(Duration::from_millis(50), call.plane.next_event());
                if let Ok(Some(Event::Load { worker: 0, busy_permille })) = next.await
                    && is_wanted(busy_permille)
                {
                    return;
                }
            }
            panic!("not within ten seconds");
        };
        told(|busy| busy > 0, 200).await;
        told(|busy| busy == 0, 0).await;
    }

    #[tokio::test]
    async fn a_call_over_real_sockets_flows_is_counted_and_leaves_nothing_behind() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        call.carries(1, 0, 2);
        assert_eq!(event(&mut call.plane).await, Event::Flowing { leg: call.legs[0] });
        assert_eq!(event(&mut call.plane).await, Event::Flowing { leg: call.legs[1] });

        let counters = call.plane.counters();
        std::thread::sleep(Duration::from_millis(400));
        let totals = counters.totals();
        assert!(totals.packets_relayed >= 2 && totals.legs == 2 && totals.cpu_ns > 0, "{totals:?}");
        assert_eq!(totals.drops.of(DropReason::SrtpBadTag), 0);

        for leg in call.legs {
            call.plane.send(0, Command::Close { leg }).unwrap();
            let Event::Closed { leg: closed, report, .. } = event(&mut call.plane).await else { panic!("closed") };
            assert_eq!(closed, leg);
            assert!(report.packets_received >= 1 && report.packets_sent >= 1, "{report:?}");
            for port in [call.ports.rtp_port(leg), call.ports.rtp_port(leg) + 1] {
                UdpSocket::bind((LOCALHOST, port)).expect("the port is free again");
            }
        }
    }

    #[tokio::test]
    async fn a_device_that_moves_to_another_socket_is_heard_and_followed() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        std::thread::sleep(Duration::from_millis(500));
        call.devices[0].socket = device_socket();
        for fill in 2..5 {
            call.carries(0, 1, fill);
        }
        call.carries(1, 0, 9);
    }

    /// What the plane has counted, once `is_enough`.
    fn totals(plane: &MediaPlane, mut is_enough: impl FnMut(&Totals) -> bool) -> Totals {
        let end = Duration::from_secs(5);
        let counters = plane.counters();
        let polls = end.as_millis() / 20;
        let found = (0..polls).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            Some(counters.totals()).filter(&mut is_enough)
        });
        found.unwrap_or_else(|| panic!("not within {end:?}: {:?}", counters.totals()))
    }

    #[tokio::test]
    async fn a_device_that_is_gone_is_noticed_by_name_and_holds_up_nobody() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        call.carries(1, 0, 2);
        let gone = call.devices[1].socket.local_addr().unwrap();
        call.devices[1].socket = device_socket();
        let before = call.plane.counters().totals();
        let port = call.ports.rtp_port(call.legs[0]);
        for fill in 0..50 {
            call.devices[0].speak(port, &[fill; 160]);
            std::thread::sleep(Duration::from_millis(2));
        }
        let after = totals(&call.plane, |totals| totals.packets_relayed >= before.packets_relayed + 50);
        assert!(after.drops.of(DropReason::PeerUnreachable) > 0, "{after:?}");
        assert_eq!(after.drops.of(DropReason::SendFailed), 0, "{after:?}");
        // It comes back where it was.
        call.devices[1].socket = UdpSocket::bind(gone).unwrap();
        call.devices[1].socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        call.carries(0, 1, 3);
        call.carries(1, 0, 4);
    }

    /// A plain device with sockets for pictures and for RTCP of its own.
    struct Camera {
        rtp: UdpSocket,
        rtcp: UdpSocket,
    }

    impl Camera {
        fn new(ip: IpAddr) -> Self {
            let [rtp, rtcp] = [(); 2].map(|()| {
                let socket = UdpSocket::bind((ip, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                socket
            });
            Self { rtp, rtcp }
        }

        fn remote(&self) -> Remote {
            let [rtp, rtcp] = [&self.rtp, &self.rtcp].map(|socket| socket.local_addr().ok());
            Remote { rtp, rtcp: Rtcp::Port(rtcp), host: None, network: None, wants_media: true, may_send: true }
        }
    }

    /// Every packet arrives at the other side's socket of the same kind, in order and unchanged.
    fn assert_passes(from: &UdpSocket, to_server: (IpAddr, u16), at: &UdpSocket, packets: &[Vec<u8>]) {
        let mut bytes = [0; 2_048];
        let (first, rest) = packets.split_first().unwrap();
        // The ports are bound by and by, so the first is sent until it arrives; what comes twice is relayed once.
        let arrived = (0..50).find_map(|_| {
            from.send_to(first, to_server).unwrap();
            at.recv(&mut bytes).ok().map(|len| bytes[..len].to_vec())
        });
        assert!(arrived.as_ref() == Some(first), "the first packet does not arrive as it was");
        while at.recv(&mut bytes).is_ok() {}
        for packet in rest {
            from.send_to(packet, to_server).unwrap();
        }
        for (n, packet) in (1..).zip(rest) {
            let len = at.recv(&mut bytes).unwrap();
            assert!(bytes[..len] == **packet, "packet {n} is another or not as it was");
        }
    }

    #[tokio::test]
    async fn bursts_of_large_pictures_and_their_rtcp_pass_between_ipv4_and_ipv6_on_ports_of_their_own() {
        let range = free_ports(8);
        let mut plane = MediaPlane::start(Clock::start(), &range, 1, Backend::default()).unwrap();
        let mut ports = Ports::new(&range, 1);
        let ips = [LOCALHOST, IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
        let legs = ips.map(|_| ports.take(0, LOCALHOST).unwrap());
        let cameras = ips.map(Camera::new);
        for ((leg, address), camera) in legs.into_iter().zip(ips).zip(&cameras) {
            let (traffic, remote, formats) = (Traffic::Rtp, camera.remote(), Formats::default());
            let (receive, send) = (Protection::Plain, Protection::Plain);
            plane.send(0, Command::Open { leg, address, dscp: 34 }).unwrap();
            plane.send(0, Command::Configure { leg, traffic, remote, formats, receive, send, history: None }).unwrap();
        }
        plane.send(0, Command::Connect { a: legs[0], b: legs[1] }).unwrap();
        plane.wake();
        // A key frame: forty packets at once, as large as Ethernet takes.
        let picture = |n: u8| [&[0x80, 0xe0, 0, n, 0, 0, 0, 1, 0, 0, 0, 9][..], &[n; 1_440]].concat();
        let pictures: Vec<_> = (0..40).map(picture).collect();
        let report = vec![[&[0x80, 200, 0, 6][..], &[7; 24]].concat()];
        for (from, to) in [(0, 1), (1, 0)] {
            let port = ports.rtp_port(legs[from]);
            assert_passes(&cameras[from].rtp, (ips[from], port), &cameras[to].rtp, &pictures);
            assert_passes(&cameras[from].rtcp, (ips[from], port + 1), &cameras[to].rtcp, &report);
        }
        assert_eq!(plane.counters().totals().drops.of(DropReason::SendFailed), 0);
    }

    #[tokio::test]
    async fn a_foreign_sender_is_not_relayed_to_anyone() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        let stranger = device_socket();
        let port = call.ports.rtp_port(call.legs[0]);
        stranger.send_to(&[0x80; 182], (LOCALHOST, port)).unwrap();
        assert_eq!(call.devices[1].hear(), None);
        call.carries(0, 1, 2);
    }

    #[tokio::test]
    async fn dropping_the_plane_ends_its_threads_and_closes_their_sockets() {
        let mut call = Call::start();
        call.carries(0, 1, 1);
        let counters = call.plane.counters();
        drop(call.plane);
        assert_eq!(Arc::strong_count(&counters.0[0]), 1, "the thread has let go of everything");
        for leg in call.legs {
            UdpSocket::bind((LOCALHOST, call.ports.rtp_port(leg))).expect("the port is free again");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_fails_to_open_and_still_closes() {
        let range = free_ports(2);
        let _holder = UdpSocket::bind((LOCALHOST, *range.end())).unwrap();
        let mut plane = MediaPlane::start(Clock::start(), &range, 1, Backend::default()).unwrap();
        let leg = Ports::new(&range, 1).take(0, LOCALHOST).unwrap();
        plane.send(0, Command::Open { leg, address: LOCALHOST, dscp: 46 }).unwrap();
        assert_eq!(event(&mut plane).await, Event::OpenFailed { leg });
        UdpSocket::bind((LOCALHOST, *range.start())).expect("the other port of the pair is not kept");
        plane.send(0, Command::Close { leg }).unwrap();
        assert_eq!(event(&mut plane).await, Event::Closed { leg, report: Box::default(), history: History::default() });
    }

    #[test]
    fn a_card_has_a_worker_for_each_queue_unless_the_configuration_says_how_many() {
        for (keys, workers) in [("", 1), ("xdp_queues = [4, 0, 7]", 3), ("xdp_queues = [4, 0]\nworkers = 5", 5)] {
            let text = format!("[media]\n{keys}\n[company]\nname = \"x\"\nregion = \"US\"\n");
            assert_eq!(xdp_workers(&crate::config::parse(&text).unwrap().0.media), workers, "{keys}");
        }
    }

    #[tokio::test]
    async fn ports_bound_ahead_are_ours_until_their_leg_closes_or_the_plane_ends() {
        let range = free_ports(4);
        let mut plane = MediaPlane::start(Clock::start(), &range, 1, Backend::default()).unwrap();
        let mut ports = Ports::new(&range, 1).binding_ahead(&[LOCALHOST]);
        while let Some((leg, address)) = ports.next_to_bind(crate::types::Instant::default()) {
            plane.send(0, Command::Bind { leg, address }).unwrap();
        }
        let leg = ports.take(0, LOCALHOST).unwrap();
        plane.send(0, Command::Open { leg, address: LOCALHOST, dscp: 46 }).unwrap();
        plane.send(0, Command::Close { leg }).unwrap();
        assert_eq!(event(&mut plane).await, Event::Closed { leg, report: Box::default(), history: History::default() });
        let are_free = || range.clone().map(|port| UdpSocket::bind((LOCALHOST, port)).is_ok()).collect::<Vec<_>>();
        assert_eq!(are_free(), [true, true, false, false]);
        drop(plane);
        assert_eq!(are_free(), [true; 4]);
    }

    /// A plane whose one worker never takes a command, and that worker's ends of the rings.
    fn stalled() -> (MediaPlane, Consumer<Command>, (Producer<Event>, Ready)) {
        let (commands, worker_commands) = RingBuffer::new(MEDIA_COMMANDS_MAX + RESERVED_COMMANDS);
        let (worker_events, events) = RingBuffer::new(MEDIA_EVENTS_MAX);
        let (wake, published) = (Wake::new().unwrap(), Arc::default());
        let (commands, missing) = (Some(commands), Vec::new());
        let thread = Thread { commands, is_to_wake: false, wake, events, published, missing, handle: None };
        let (ready, noticed) = notice().unwrap();
        let (refused, own_events) = (HashSet::new(), VecDeque::new());
        let plane =
            MediaPlane { threads: vec![thread], noticed, _ready: ready.clone(), refused, own_events, _card: None };
        (plane, worker_commands, (worker_events, ready))
    }

    #[tokio::test]
    async fn an_open_above_the_limit_fails_and_commands_on_open_legs_still_pass() {
        let (mut plane, commands, _events) = stalled();
        let leg = |slot: usize| LegId { worker: 0, slot: u32::try_from(slot).unwrap(), generation: 1 };
        for slot in 0..=MEDIA_COMMANDS_MAX {
            plane.send(0, Command::Open { leg: leg(slot), address: LOCALHOST, dscp: 46 }).unwrap();
        }
        plane.send(0, Command::Bind { leg: leg(0), address: LOCALHOST }).unwrap();
        assert_eq!(commands.slots(), MEDIA_COMMANDS_MAX, "it opens nothing, and binds nothing ahead");
        assert_eq!(event(&mut plane).await, Event::Overrun { leg: leg(MEDIA_COMMANDS_MAX) });
        for slot in 0..=MEDIA_COMMANDS_MAX {
            plane.send(0, Command::Close { leg: leg(slot) }).unwrap();
        }
        assert_eq!(commands.slots(), 2 * MEDIA_COMMANDS_MAX);
        let report = Box::default();
        assert_eq!(
            event(&mut plane).await,
            Event::Closed { leg: leg(MEDIA_COMMANDS_MAX), report, history: History::default() }
        );
        while plane.send(0, Command::Close { leg: leg(0) }).is_ok() {}
        assert_eq!(commands.slots(), MEDIA_COMMANDS_MAX + RESERVED_COMMANDS);
    }

    #[tokio::test]
    async fn the_end_of_a_worker_thread_is_noticed() {
        let (mut plane, _commands, events) = stalled();
        let waiting = tokio::time::timeout(Duration::from_millis(20), plane.next_event());
        assert!(waiting.await.is_err(), "a running worker has nothing to say");
        drop(events);
        assert_eq!(plane.next_event().await, None);
    }
}
