//! What the phones say: payloads of one secret each, so that every piece of one gives it away, and RTCP reports with a name each
//! that is as secret.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    phone::{Listener, Media, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX, Speaker},
    shell::clock::Clock,
    types::{DropReason, Rng},
    wire::classify::{Kind, classify},
};

/// As phones send.
const INTERVAL: Duration = Duration::from_millis(20);
/// A packet that has not come after this time is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
pub(super) const SECRET_BYTES: usize = 32;
/// Between two reports. Telephones take seconds; so many a call would be few.
const PACKETS_PER_REPORT: u64 = 5;

type Payload = [u8; PAYLOAD_BYTES_MAX];

/// Two phones that talk until they are stopped.
pub(super) struct Speech {
    state: Arc<State>,
    thread: JoinHandle<io::Result<Said>>,
}

/// Shared with the thread that talks.
#[derive(Default)]
struct State {
    is_to_stop: AtomicBool,
    is_to_rest: AtomicBool,
    intact: AtomicU64,
    resting: AtomicU64,
}

/// What one phone says.
#[derive(Clone)]
pub(super) struct Secrets {
    pub(super) payload: [u8; SECRET_BYTES],
    /// Its canonical name in RTCP (RFC 7022), in text.
    pub(super) cname: String,
}

impl Secrets {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let name: [u8; SECRET_BYTES / 2] = rng.bytes();
        Self { payload: rng.bytes(), cname: name.iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

/// What both have said, and what of it came through bit for bit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) sent: u64,
    pub(super) intact: u64,
    pub(super) reports: u64,
    pub(super) intact_reports: u64,
}

/// One phone of them.
struct End {
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    speaker: Speaker,
    listener: Listener,
    payload: Payload,
    cname: String,
}

impl Speech {
    /// `secrets`: what A and B say.
    pub(super) fn start(
        clock: Clock,
        sockets: [Arc<UdpSocket>; 2],
        media: &[Media; 2],
        secrets: &[Secrets; 2],
        rng: &mut Rng,
    ) -> io::Result<Self> {
        let [a, b] = sockets;
        let mut end = |socket: Arc<UdpSocket>, media: &Media, secrets: &Secrets| {
            socket.set_read_timeout(Some(LOST_AFTER))?;
            let (speaker, listener) = media.voices(rng);
            let payload = std::array::from_fn(|at| secrets.payload[at % SECRET_BYTES]);
            let cname = secrets.cname.clone();
            Ok::<_, io::Error>(End { socket, target: media.remote, speaker, listener, payload, cname })
        };
        let mut ends = [end(a, &media[0], &secrets[0])?, end(b, &media[1], &secrets[1])?];
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new().name("phones".to_owned()).spawn(move || {
            let mut said = Said::default();
            for round in 0.. {
                if shared.is_to_stop.load(Ordering::Relaxed) {
                    break;
                }
                if shared.is_to_rest.load(Ordering::Relaxed) {
                    ends.iter_mut().try_for_each(mutter)?;
                    shared.resting.fetch_add(2, Ordering::Relaxed);
                    thread::sleep(INTERVAL);
                    continue;
                }
                said.intact += exchange(&mut ends, say)?;
                said.sent += 2;
                shared.intact.store(said.intact, Ordering::Relaxed);
                if round % PACKETS_PER_REPORT == 0 {
                    said.intact_reports += exchange(&mut ends, |from, to| report(clock, from, to))?;
                    said.reports += 2;
                }
                thread::sleep(INTERVAL);
            }
            Ok(said)
        })?;
        Ok(Self { state, thread })
    }

    /// Payloads that have come through so far, bit for bit.
    pub(super) fn intact(&self) -> u64 {
        self.state.intact.load(Ordering::Relaxed)
    }

    /// From now on both say what nobody is to hear.
    pub(super) fn rest(&self) {
        self.state.is_to_rest.store(true, Ordering::Relaxed);
    }

    /// Payloads that were sent since then.
    pub(super) fn resting(&self) -> u64 {
        self.state.resting.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) -> io::Result<Said> {
        self.state.is_to_stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("sockets and ciphers do not panic")
    }
}

/// A packet each way; how many came through.
fn exchange([a, b]: &mut [End; 2], mut send: impl FnMut(&mut End, &mut End) -> io::Result<bool>) -> io::Result<u64> {
    Ok(u64::from(send(a, b)?) + u64::from(send(b, a)?))
}

/// A packet to which nothing is answered.
fn mutter(end: &mut End) -> io::Result<()> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let spoken = end.speaker.speak(&end.payload, &mut packet);
    end.send(spoken, &packet)
}

fn say(from: &mut End, to: &mut End) -> io::Result<bool> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let spoken = from.speaker.speak(&from.payload, &mut packet);
    from.send(spoken, &packet)?;
    let Some(len) = to.receive(Kind::Rtp, &mut packet)? else { return Ok(false) };
    Ok(to.listener.hear(&mut packet[..len]).is_ok_and(|payload| payload == from.payload))
}

fn report(clock: Clock, from: &mut End, to: &mut End) -> io::Result<bool> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let reported = from.speaker.report(clock.now(), from.cname.as_bytes(), &mut packet);
    from.send(reported, &packet)?;
    let Some(len) = to.receive(Kind::Rtcp, &mut packet)? else { return Ok(false) };
    Ok(to.listener.hear_report(&mut packet[..len]).is_ok_and(|name| name == from.cname.as_bytes()))
}

impl End {
    fn send(&self, len: Result<usize, DropReason>, packet: &[u8]) -> io::Result<()> {
        let len = len.map_err(|reason| io::Error::other(reason.label()))?;
        self.socket.send_to(&packet[..len], self.target).map(drop)
    }

    /// `None`: nothing of this kind has come. One of another kind is late, and of no use any more.
    fn receive(&self, kind: Kind, packet: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.recv(packet) {
                Ok(len) if classify(&packet[..len]) == kind => return Ok(Some(len)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
