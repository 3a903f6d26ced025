//! The measure: a loop of `recvfrom` and `sendto` that forwards unchanged, under as many streams as the server has.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use ringdown::{phone, types::Rng, wire::srtp::Suite};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
};

use crate::voices::Voices;

/// How soon it notices that it is to end.
const LOOK_AROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A socket for each of two talkers a call, and the talkers.
pub(crate) struct Forwarder {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    pub(crate) fn start(ip: IpAddr, calls: usize, suite: Suite, voices: &Voices) -> std::io::Result<Self> {
        let mut rng = Rng::from_small_seed(3);
        let bind = || {
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let relays = (0..2 * calls).map(|_| bind()).collect::<std::io::Result<Vec<_>>>()?;
        let talkers = (0..2 * calls).map(|_| bind().map(Arc::new)).collect::<std::io::Result<Vec<_>>>()?;
        let addresses = |index: usize| talkers[index].local_addr();
        // A packet that comes to the socket of one goes to the other.
        let targets = (0..2 * calls).map(|index| addresses(index ^ 1)).collect::<std::io::Result<Vec<_>>>()?;
        for (own, (talker, relay)) in (0_u32..).zip(talkers.iter().zip(&relays)) {
            let (partner, (speaker, listener)) = (own ^ 1, phone::direct(suite, &mut rng));
            voices.begin_mouth(own, Arc::clone(talker), relay.local_addr()?, speaker);
            voices.begin_ear(partner, Arc::clone(&talkers[partner as usize]), listener, own);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || forward(&relays, &targets, &end));
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn forward(relays: &[UdpSocket], targets: &[SocketAddr], is_over: &AtomicBool) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (index, relay) in relays.iter().enumerate() {
        epoll::add(&epoll, relay, EventData::new_u64(index as u64), EventFlags::IN).unwrap();
    }
    let mut ready = Vec::with_capacity(64);
    let mut buffer = [0; 2_048];
    while !is_over.load(Ordering::Relaxed) {
        let _ = epoll::wait(&epoll, spare_capacity(&mut ready), Some(&LOOK_AROUND));
        for event in ready.drain(..) {
            let index = usize::try_from(event.data.u64()).unwrap();
            let Ok((len, _)) = relays[index].recv_from(&mut buffer) else { continue };
            let _ = relays[index ^ 1].send_to(&buffer[..len], targets[index]);
        }
    }
}
