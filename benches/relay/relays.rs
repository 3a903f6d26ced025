//! The relays that are compared. Each lives in one named thread, pinned to the first core.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ringdown::{
    media::{Command, Formats, Protection, Remote, Rtcp, ports::Ports},
    shell::{
        clock::Clock,
        media_io::{Backend, MediaCounters, MediaPlane},
    },
    types::limits::PACKET_BYTES_MAX,
    wire::{
        classify::Traffic,
        sdp,
        srtp::{Inbound, Outbound, Suite, transcrypt_rtp},
    },
};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    net::{RecvFlags, SendFlags, recvfrom, sendto},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, Timespec, clock_gettime},
};
use tokio::runtime::Runtime;

use crate::load::{Devices, SAMPLED, SampleKeys, keys};

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What the telephones have agreed on.
const G711: &[u8] =
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/SAVP 0\r\n";
const BATCH_EVENTS_MAX: usize = 64;
/// Far fewer than a worker's ring has room for.
const LEGS_AT_ONCE: usize = 200;

pub(crate) trait Relay {
    fn name(&self) -> &str;
    /// Where each leg's device sends to.
    fn ports(&self) -> &[SocketAddr];
    fn relayed(&self) -> u64;
    /// CPU time of the relay's thread, up to a tenth of a second old.
    fn cpu_ns(&self) -> u64;
    /// What the sampled devices get their packets under, where the relay terminates SRTP.
    fn sample_keys(&self) -> Option<&SampleKeys>;
}

/// The worker of ringdown, as the server runs it.
pub(crate) struct Ringdown {
    name: String,
    sample_keys: SampleKeys,
    ports: Vec<SocketAddr>,
    counters: MediaCounters,
    /// Keeps the thread.
    _plane: MediaPlane,
    /// What the plane's notices are registered with; nobody waits for them.
    _runtime: Runtime,
}

impl Ringdown {
    /// With the suites of even and odd legs.
    pub(crate) fn start(devices: &Devices, suites: [Suite; 2]) -> Self {
        let name = format!("ringdown, {} to {}", short(suites[0]), short(suites[1]));
        Self::carried(name, Backend::default(), devices, suites)
    }

    /// The same with its packets carried by `backend`.
    pub(crate) fn carried(name: String, backend: Backend, devices: &Devices, suites: [Suite; 2]) -> Self {
        let range = free_ports(2 * u16::try_from(devices.len()).unwrap());
        Self::at(name, LOCALHOST, &range, backend, devices, suites)
    }

    /// The same on this address and these ports, with these packets carried by `backend`.
    pub(crate) fn at(
        name: String,
        ip: IpAddr,
        range: &RangeInclusive<u16>,
        backend: Backend,
        devices: &Devices,
        suites: [Suite; 2],
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let mut plane = {
            let _entered = runtime.enter();
            MediaPlane::start(Clock::start(), range, 1, backend).unwrap()
        };
        let mut slots = Ports::new(range, 1);
        let formats = Formats::of(&sdp::parse(G711).expect("a session description").media);
        let legs: Vec<_> = (0..devices.len()).map(|_| slots.take(0, ip).unwrap()).collect();
        for (index, leg) in legs.iter().copied().enumerate() {
            let rtp = Some(devices.address(index));
            let (rtcp, network) = (Rtcp::Multiplexed, None);
            let remote = Remote { rtp, rtcp, host: None, network, wants_media: true, may_send: true };
            let suite = suites[index % 2];
            let (receive, send) = keys(suite, index);
            let [receive, send] = [receive, send].map(|key| Protection::Srtp { suite, key, mki_bytes: 0 });
            let (traffic, formats) = (Traffic::Rtp, formats.clone());
            plane.send(0, Command::Open { leg, address: ip, dscp: 0 }).unwrap();
            plane.send(0, Command::Configure { leg, traffic, remote, formats, receive, send, history: None }).unwrap();
            // A leg that finds the ring full is refused.
            if index % LEGS_AT_ONCE == 0 {
                plane.wake();
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        for call in legs.chunks_exact(2) {
            plane.send(0, Command::Connect { a: call[0], b: call[1] }).unwrap();
        }
        plane.wake();
        let ports = legs.iter().map(|leg| SocketAddr::new(ip, slots.rtp_port(*leg))).collect();
        // The commands need no answer; the first packets must not come before they are carried out.
        std::thread::sleep(Duration::from_millis(500));
        let sample_keys = SAMPLED.map(|leg| (suites[leg % 2], keys(suites[leg % 2], leg).1));
        Self { name, sample_keys, ports, counters: plane.counters(), _plane: plane, _runtime: runtime }
    }
}

fn short(suite: Suite) -> &'static str {
    match suite {
        Suite::AesCm128HmacSha1_80 => "AES-CM-128/80",
        Suite::AesCm128HmacSha1_32 => "AES-CM-128/32",
        other => other.name(),
    }
}

impl Relay for Ringdown {
    fn name(&self) -> &str {
        &self.name
    }

    fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    fn relayed(&self) -> u64 {
        self.counters.totals().packets_relayed
    }

    fn cpu_ns(&self) -> u64 {
        self.counters.totals().cpu_ns
    }

    fn sample_keys(&self) -> Option<&SampleKeys> {
        Some(&self.sample_keys)
    }
}

/// A relay that forwards from each socket to the device of the other leg.
pub(crate) struct Simple {
    name: String,
    sample_keys: Option<SampleKeys>,
    ports: Vec<SocketAddr>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    relayed: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Counts {
    fn publish_cpu(&self) {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        self.cpu_ns.store((cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec).cast_unsigned(), Ordering::Relaxed);
    }
}

impl Simple {
    /// `recvfrom` and `sendto` under level-triggered epoll, one each per event: as little as a socket relay can do.
    pub(crate) fn bare(devices: &Devices, ip: IpAddr) -> Self {
        let unchanged = |_, _: &mut [u8], len| Some(len);
        let run = move |sockets, targets, counts: &Arc<Counts>| bare_loop(sockets, targets, counts, unchanged);
        Self::start("bare recvfrom + sendto loop".to_owned(), devices, ip, run)
    }

    /// The same loop with SRTP on both legs: ringdown's own, and nothing else of what a relay has to see to.
    pub(crate) fn bare_srtp(devices: &Devices, ip: IpAddr, suites: [Suite; 2]) -> Self {
        let suite = |leg| suites[leg % 2];
        let mut inbound: Vec<_> =
            (0..devices.len()).map(|leg| Inbound::new(suite(leg), &keys(suite(leg), leg).0, 0)).collect();
        let mut outbound: Vec<_> =
            (0..devices.len()).map(|leg| Outbound::new(suite(leg), &keys(suite(leg), leg).1)).collect();
        let change = move |leg: usize, packet: &mut [u8], len| {
            transcrypt_rtp(&mut inbound[leg], &mut outbound[leg ^ 1], packet, len).ok()?.ok()
        };
        let run = move |sockets, targets, counts: &Arc<Counts>| bare_loop(sockets, targets, counts, change);
        let sample_keys = Some(SAMPLED.map(|leg| (suite(leg), keys(suite(leg), leg).1)));
        let name = format!("the same loop, {} to {}", short(suites[0]), short(suites[1]));
        Self { sample_keys, ..Self::start(name, devices, ip, run) }
    }

    /// What one writes first with tokio: a task per socket.
    pub(crate) fn tokio(devices: &Devices, ip: IpAddr) -> Self {
        Self::start("tokio, one task per socket".to_owned(), devices, ip, tokio_tasks)
    }

    fn start(
        name: String,
        devices: &Devices,
        ip: IpAddr,
        run: impl FnOnce(Vec<UdpSocket>, Vec<SocketAddr>, &Arc<Counts>) + Send + 'static,
    ) -> Self {
        let sockets: Vec<_> = (0..devices.len()).map(|_| bind(ip)).collect();
        let ports = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        // A packet of leg n goes to the device of the other leg of its call.
        let targets = (0..devices.len()).map(|leg| devices.address(leg ^ 1)).collect();
        let counts = Arc::new(Counts::default());
        let thread_counts = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name(name.clone());
        let work = move || {
            pin(0);
            run(sockets, targets, &thread_counts);
        };
        thread.spawn(work).unwrap();
        Self { name, sample_keys: None, ports, counts }
    }
}

impl Relay for Simple {
    fn name(&self) -> &str {
        &self.name
    }

    fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    fn relayed(&self) -> u64 {
        self.counts.relayed.load(Ordering::Relaxed)
    }

    fn cpu_ns(&self) -> u64 {
        self.counts.cpu_ns.load(Ordering::Relaxed)
    }

    fn sample_keys(&self) -> Option<&SampleKeys> {
        self.sample_keys.as_ref()
    }
}

/// `change` gets each packet with its leg, the packet's length, and room behind it; it returns the new length.
fn bare_loop(
    sockets: Vec<UdpSocket>,
    targets: Vec<SocketAddr>,
    counts: &Arc<Counts>,
    mut change: impl FnMut(usize, &mut [u8], usize) -> Option<usize>,
) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (leg, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket, EventData::new_u64(leg as u64), EventFlags::IN).unwrap();
    }
    let idle = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut ready = Vec::with_capacity(BATCH_EVENTS_MAX);
    let mut buffer = [0; PACKET_BYTES_MAX];
    loop {
        let _ = epoll::wait(&epoll, spare_capacity(&mut ready), Some(&idle));
        if ready.is_empty() {
            counts.publish_cpu();
        }
        for event in ready.drain(..) {
            let leg = usize::try_from(event.data.u64()).unwrap();
            let Ok((len, _, _)) = recvfrom(&sockets[leg], &mut buffer, RecvFlags::empty()) else { continue };
            let Some(len) = change(leg, &mut buffer, len) else { continue };
            let _ = sendto(&sockets[leg ^ 1], &buffer[..len], SendFlags::empty(), &targets[leg]);
            counts.relayed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn tokio_tasks(sockets: Vec<UdpSocket>, targets: Vec<SocketAddr>, counts: &Arc<Counts>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sockets: Vec<_> =
            sockets.into_iter().map(|socket| Arc::new(tokio::net::UdpSocket::from_std(socket).unwrap())).collect();
        for (leg, target) in targets.into_iter().enumerate() {
            let (from, to, counts) = (Arc::clone(&sockets[leg]), Arc::clone(&sockets[leg ^ 1]), Arc::clone(counts));
            tokio::task::spawn(async move {
                let mut buffer = [0; PACKET_BYTES_MAX];
                loop {
                    let Ok((len, _)) = from.recv_from(&mut buffer).await else { continue };
                    let _ = to.send_to(&buffer[..len], target).await;
                    counts.relayed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            counts.publish_cpu();
        }
    });
}

fn bind(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// An even start of `count` ports below the ephemeral range that nobody uses.
pub(crate) fn free_ports(count: u16) -> RangeInclusive<u16> {
    let is_free = |port| UdpSocket::bind((LOCALHOST, port)).is_ok();
    let ranges = (10_000..=32_000 - count).step_by(200).map(|start| start..=start + count - 1);
    ranges.into_iter().find(|range| range.clone().all(is_free)).expect("a free range of ports")
}

/// Puts the calling thread on the `n`th core the process may use, or the last.
pub(crate) fn pin(n: usize) {
    let allowed = sched_getaffinity(None).unwrap();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut one = CpuSet::new();
    one.set(cores[n.min(cores.len() - 1)]);
    sched_setaffinity(None, &one).unwrap();
}
