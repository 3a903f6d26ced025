//! The telephones' voices: a thread that sends the packets of each at its pace, and a thread that receives. A packet carries when
//! it was sent, so that its age at receipt is known.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use ringdown::{
    phone::{Listener, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX, Speaker},
    shell::clock::Clock,
    types::Instant,
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
};

use crate::spread::Spread;

/// Packets leave in steps of this; the voices are spread evenly over the time between two packets of one.
const TICK: Duration = Duration::from_millis(1);
/// What is on its way at the end of a window arrives within this time or is lost.
pub(crate) const STRAGGLERS: Duration = Duration::from_millis(500);
const HEAD_BYTES: usize = 16;

/// One end of a call.
pub(crate) struct Voice {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) remote: SocketAddr,
    pub(crate) speaker: Speaker,
    pub(crate) listener: Listener,
    /// Whom it must hear, and who it is.
    pub(crate) partner: u32,
    pub(crate) own: u32,
}

/// What a measurement found of the packets.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Not authentic, or of somebody else.
    pub(crate) wrong: u64,
    pub(crate) latency: Spread,
    pub(crate) time: Duration,
    /// Packets that left later than they should have, by more than the time between two.
    pub(crate) late: u64,
}

impl Heard {
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    pub(crate) fn packets_per_s(&self) -> f64 {
        self.sent as f64 / self.time.as_secs_f64()
    }
}

pub(crate) struct Voices {
    clock: Clock,
    mouths: Sender<Order<Mouth>>,
    ears: Sender<Order<Ear>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Packets that carry this number count; 0: none does.
    window: AtomicU64,
    sent: AtomicU64,
    late: AtomicU64,
    is_over: AtomicBool,
    heard: Mutex<(u64, u64, Spread)>,
}

enum Order<T> {
    Begin(u32, T),
    End(u32),
}

struct Mouth {
    socket: Arc<UdpSocket>,
    remote: SocketAddr,
    speaker: Speaker,
}

struct Ear {
    socket: Arc<UdpSocket>,
    listener: Listener,
    partner: u32,
}

impl Voices {
    /// `ptime`: milliseconds between two packets of a voice.
    pub(crate) fn start(clock: Clock, ptime: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let ((mouths, to_mouths), (ears, to_ears)) = (channel(), channel());
        let [own, other] = [(); 2].map(|()| Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || speak(clock, ptime, &to_mouths, &own)),
            std::thread::spawn(move || listen(clock, &to_ears, &other)),
        ];
        Self { clock, mouths, ears, shared, threads }
    }

    pub(crate) fn begin(&self, voice: Voice) {
        let Voice { socket, remote, speaker, listener, partner, own } = voice;
        self.begin_ear(own, Arc::clone(&socket), listener, partner);
        self.begin_mouth(own, socket, remote, speaker);
    }

    pub(crate) fn begin_ear(&self, own: u32, socket: Arc<UdpSocket>, listener: Listener, partner: u32) {
        // The threads live as long as this.
        let _ = self.ears.send(Order::Begin(own, Ear { socket, listener, partner }));
    }

    pub(crate) fn begin_mouth(&self, own: u32, socket: Arc<UdpSocket>, remote: SocketAddr, speaker: Speaker) {
        let _ = self.mouths.send(Order::Begin(own, Mouth { socket, remote, speaker }));
    }

    pub(crate) fn end(&self, own: u32) {
        let _ = self.mouths.send(Order::End(own));
        let _ = self.ears.send(Order::End(own));
    }

    /// Begins to count what is sent from now on.
    pub(crate) fn open(&self, window: u64) -> Instant {
        self.shared.sent.store(0, Ordering::Relaxed);
        self.shared.late.store(0, Ordering::Relaxed);
        *self.shared.heard.lock().unwrap() = (0, 0, Spread::default());
        self.shared.window.store(window, Ordering::SeqCst);
        self.clock.now()
    }

    /// Counts nothing any more. What was sent before may still arrive: see [`STRAGGLERS`].
    pub(crate) fn close(&self, opened: Instant) -> Duration {
        self.shared.window.store(0, Ordering::SeqCst);
        self.clock.now().since(opened)
    }

    pub(crate) fn heard(&self, time: Duration) -> Heard {
        let (received, wrong, latency) = self.shared.heard.lock().unwrap().clone();
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Heard { sent: count(&self.shared.sent), received, wrong, latency, time, late: count(&self.shared.late) }
    }
}

impl Drop for Voices {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn speak(clock: Clock, ptime: u16, orders: &Receiver<Order<Mouth>>, shared: &Shared) {
    let mut ticks: Vec<HashMap<u32, Mouth>> = (0..ptime).map(|_| HashMap::new()).collect();
    let place = |own: u32| own as usize % usize::from(ptime);
    let packet_time = TICK * u32::from(ptime);
    let mut due = clock.now();
    for tick in (0..usize::from(ptime)).cycle() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        for order in orders.try_iter() {
            match order {
                Order::Begin(own, mouth) => _ = ticks[place(own)].insert(own, mouth),
                Order::End(own) => _ = ticks[place(own)].remove(&own),
            }
        }
        std::thread::sleep(due.since(clock.now()));
        let window = shared.window.load(Ordering::SeqCst);
        let is_late = clock.now().since(due) > packet_time;
        let sent = ticks[tick].iter_mut().filter_map(|(own, mouth)| say(clock, window, *own, mouth)).count();
        if window != 0 {
            shared.sent.fetch_add(sent as u64, Ordering::SeqCst);
            shared.late.fetch_add(if is_late { sent as u64 } else { 0 }, Ordering::SeqCst);
        }
        due = due + TICK;
    }
}

/// `None`: the socket takes no more, which is this machine's limit and not the server's.
fn say(clock: Clock, window: u64, own: u32, mouth: &mut Mouth) -> Option<()> {
    let (mut payload, mut packet) = ([0x55; PAYLOAD_BYTES_MAX], [0; PACKET_BYTES_MAX]);
    payload[..8].copy_from_slice(&clock.now().unix_ns().to_be_bytes());
    payload[8..12].copy_from_slice(&own.to_be_bytes());
    payload[12..HEAD_BYTES].copy_from_slice(&u32::try_from(window).unwrap().to_be_bytes());
    let len = mouth.speaker.speak(&payload, &mut packet).unwrap();
    mouth.socket.send_to(&packet[..len], mouth.remote).ok().map(|_| ())
}

fn listen(clock: Clock, orders: &Receiver<Order<Ear>>, shared: &Shared) {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut ears = HashMap::new();
    let mut ready = Vec::with_capacity(256);
    let wait = Timespec::try_from(TICK).unwrap();
    while !shared.is_over.load(Ordering::Relaxed) {
        for order in orders.try_iter() {
            match order {
                Order::Begin(own, ear) => {
                    epoll::add(&epoll, &*ear.socket, EventData::new_u64(own.into()), EventFlags::IN).unwrap();
                    ears.insert(own, ear);
                }
                Order::End(own) => {
                    if let Some(ear) = ears.remove(&own) {
                        epoll::delete(&epoll, &*ear.socket).unwrap();
                    }
                }
            }
        }
        let _ = epoll::wait(&epoll, spare_capacity(&mut ready), Some(&wait));
        let mut heard = shared.heard.lock().unwrap();
        for event in ready.drain(..) {
            let own = u32::try_from(event.data.u64()).unwrap();
            let Some(ear) = ears.get_mut(&own) else { continue };
            let (received, wrong, latency) = &mut *heard;
            hear(clock, ear, shared.window.load(Ordering::SeqCst), |age| match age {
                Some(age) => {
                    *received += 1;
                    latency.add(age);
                }
                None => *wrong += 1,
            });
        }
    }
}

/// Everything that waits. A packet of no window, or of an earlier one, does not count.
fn hear(clock: Clock, ear: &mut Ear, window: u64, mut count: impl FnMut(Option<Duration>)) {
    let mut packet = [0; 2_048];
    while let Ok(len) = ear.socket.recv(&mut packet) {
        let now = clock.now();
        let Ok(payload) = ear.listener.hear(&mut packet[..len]) else {
            count(None);
            continue;
        };
        let [sent, own, sent_in] = [0..8, 8..12, 12..HEAD_BYTES].map(|range| number(payload.get(range)));
        if own != u64::from(ear.partner) {
            count(None);
        } else if sent_in != 0 && (window == 0 || window == sent_in) {
            count(Some(now.since(Instant::from_unix_ns(sent))));
        }
    }
}

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.unwrap_or_default().iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
