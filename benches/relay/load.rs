//! The load: devices that send paced packets, sealed beforehand, and a thread that receives what is relayed to them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ringdown::{
    types::Rng,
    wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
};

/// 20 ms of G.711 with its RTP header.
const PACKET_BYTES: usize = 172;
/// Milliseconds between two packets of a leg: 50 a second.
pub(crate) const PTIME_MS: usize = 20;
/// The devices whose last packets are opened after each turn, to be sure that the relay did what it is measured for: both sides
/// of a call.
pub(crate) const SAMPLED: [usize; 2] = [0, 1];

pub(crate) type SampleKeys = [(Suite, MasterKey); SAMPLED.len()];
type Samples = Arc<Mutex<[Vec<u8>; SAMPLED.len()]>>;

/// The keys of a leg: what its device sends under, and what it receives under.
pub(crate) fn keys(suite: Suite, leg: usize) -> (MasterKey, MasterKey) {
    let mut rng = Rng::from_small_seed(leg as u64 * 8 + suite as u64);
    (MasterKey::generate(suite, &mut rng), MasterKey::generate(suite, &mut rng))
}

/// One socket per leg. Devices 2n and 2n + 1 are in a call.
pub(crate) struct Devices {
    sockets: Arc<Vec<UdpSocket>>,
    received: Arc<AtomicU64>,
    samples: Samples,
}

impl Devices {
    /// With a thread that receives.
    pub(crate) fn start(legs: usize, ip: IpAddr) -> Self {
        let devices = Self::deaf(legs, ip);
        let (sockets, received) = (Arc::clone(&devices.sockets), Arc::clone(&devices.received));
        let samples = Arc::clone(&devices.samples);
        std::thread::spawn(move || receive(&sockets, &received, &samples));
        devices
    }

    /// Nobody receives, unless the caller does.
    pub(crate) fn deaf(legs: usize, ip: IpAddr) -> Self {
        let sockets = (0..legs).map(|_| UdpSocket::bind((ip, 0)).unwrap()).collect();
        Self { sockets: Arc::new(sockets), received: Arc::default(), samples: Samples::default() }
    }

    pub(crate) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn address(&self, leg: usize) -> SocketAddr {
        self.sockets[leg].local_addr().unwrap()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Sends packet after packet of each leg to its port, one in `ptime_ms`, in even steps of a millisecond; returns how many.
    pub(crate) fn send(&self, packets: &[Vec<Vec<u8>>], ports: &[SocketAddr], ptime_ms: usize) -> u64 {
        let start = Instant::now();
        let per_tick = self.len() / ptime_ms;
        let (mut tick, mut sent) = (0_u32, 0);
        for step in packets {
            for legs in step.chunks(per_tick).enumerate() {
                let due = start + Duration::from_millis(1) * tick;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for (offset, packet) in legs.1.iter().enumerate() {
                    let leg = legs.0 * per_tick + offset;
                    sent += u64::from(self.sockets[leg].send_to(packet, ports[leg]).is_ok());
                }
                tick += 1;
            }
        }
        sent
    }

    /// Opens the last packet relayed to each of them.
    pub(crate) fn check_samples(&self, keys: &SampleKeys) {
        for (mut packet, (suite, key)) in self.samples.lock().unwrap().clone().into_iter().zip(keys) {
            let len = Inbound::new(*suite, key, None).unprotect_rtp(&mut packet).expect("sealed for this device");
            assert_eq!(packet[12..len], [0x55; PACKET_BYTES - 12], "the payload came through");
        }
    }
}

/// Takes what has come once a millisecond, and never blocks on a socket: a relay's real receivers are other machines, so
/// its `send` must not have to wake anyone.
fn receive(sockets: &[UdpSocket], received: &AtomicU64, samples: &Samples) {
    crate::relays::pin(1);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (index, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket, EventData::new_u64(index as u64), EventFlags::IN).unwrap();
    }
    let mut ready = Vec::with_capacity(64);
    let mut buffer = [0; 2_048];
    loop {
        let _ = epoll::wait(&epoll, spare_capacity(&mut ready), Some(&Timespec::default()));
        if ready.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        for event in ready.drain(..) {
            let index = usize::try_from(event.data.u64()).unwrap();
            let Ok(len) = sockets[index].recv(&mut buffer) else { continue };
            received.fetch_add(1, Ordering::Relaxed);
            if let Some(sampled) = SAMPLED.iter().position(|sampled| *sampled == index) {
                buffer[..len].clone_into(&mut samples.lock().unwrap()[sampled]);
            }
        }
    }
}

/// What the devices send to one relay: each leg's stream goes on from turn to turn.
pub(crate) struct Sealed {
    outbound: Vec<Outbound>,
    sequence: u16,
}

impl Sealed {
    /// With the suites of even and odd legs.
    pub(crate) fn new(devices: &Devices, suites: [Suite; 2]) -> Self {
        let outbound = |leg: usize| Outbound::new(suites[leg % 2], &keys(suites[leg % 2], leg).0);
        let outbound = (0..devices.len()).map(outbound).collect();
        Self { outbound, sequence: 0 }
    }

    /// The packets of `time`: for each `ptime_ms` one of every leg.
    pub(crate) fn seal(&mut self, time: Duration, ptime_ms: usize) -> Vec<Vec<Vec<u8>>> {
        let steps = usize::try_from(time.as_millis()).unwrap() / ptime_ms;
        (0..steps).map(|_| self.seal_step()).collect()
    }

    /// So many packets of each leg, those of a leg one behind the other.
    pub(crate) fn seal_bursts(&mut self, packets: u16) -> Vec<Vec<u8>> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(packets);
        let burst = |leg, outbound: &mut Outbound| {
            (1..=packets).flat_map(|n| seal(outbound, leg, first.wrapping_add(n))).collect()
        };
        (0..).zip(&mut self.outbound).map(|(leg, outbound)| burst(leg, outbound)).collect()
    }

    fn seal_step(&mut self) -> Vec<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        (0..).zip(&mut self.outbound).map(|(leg, outbound)| seal(outbound, leg, sequence)).collect()
    }
}

fn seal(outbound: &mut Outbound, leg: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x55; PACKET_BYTES + TAG_ROOM_BYTES];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet[8..12].copy_from_slice(&leg.to_be_bytes());
    let len = outbound.protect_rtp(&mut packet, PACKET_BYTES).unwrap();
    packet.truncate(len);
    packet
}
