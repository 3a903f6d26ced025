//! What the phones say: payloads of one secret each, so that every piece of one gives it away.

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
    types::Rng,
};

/// As phones send.
const INTERVAL: Duration = Duration::from_millis(20);
/// A packet that has not come after this time is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
pub(super) const SECRET_BYTES: usize = 32;

type Payload = [u8; PAYLOAD_BYTES_MAX];

/// Two phones that talk until they are stopped.
pub(super) struct Speech {
    stop: Arc<AtomicBool>,
    intact: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<u64>>,
}

/// One phone of them.
struct End {
    socket: Arc<UdpSocket>,
    target: SocketAddr,
    speaker: Speaker,
    listener: Listener,
    payload: Payload,
}

impl Speech {
    /// `secrets`: what A and B say.
    pub(super) fn start(
        sockets: [Arc<UdpSocket>; 2],
        media: &[Media; 2],
        secrets: &[[u8; SECRET_BYTES]; 2],
        rng: &mut Rng,
    ) -> io::Result<Self> {
        let [a, b] = sockets;
        let mut end = |socket: Arc<UdpSocket>, media: &Media, secret: &[u8; SECRET_BYTES]| {
            socket.set_read_timeout(Some(LOST_AFTER))?;
            let (speaker, listener) = media.voices(rng);
            let payload = std::array::from_fn(|at| secret[at % SECRET_BYTES]);
            Ok::<_, io::Error>(End { socket, target: media.remote, speaker, listener, payload })
        };
        let mut ends = [end(a, &media[0], &secrets[0])?, end(b, &media[1], &secrets[1])?];
        let (stop, intact) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_to_stop, count) = (Arc::clone(&stop), Arc::clone(&intact));
        let thread = thread::Builder::new().name("phones".to_owned()).spawn(move || {
            let mut sent = 0;
            while !is_to_stop.load(Ordering::Relaxed) {
                count.fetch_add(exchange(&mut ends)?, Ordering::Relaxed);
                sent += 2;
                thread::sleep(INTERVAL);
            }
            Ok(sent)
        })?;
        Ok(Self { stop, intact, thread })
    }

    /// Payloads that have come through so far, bit for bit.
    pub(super) fn intact(&self) -> u64 {
        self.intact.load(Ordering::Relaxed)
    }

    /// How many were sent, and how many came through.
    pub(super) fn end(self) -> io::Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.join().expect("sockets and ciphers do not panic")?;
        Ok((sent, self.intact.load(Ordering::Relaxed)))
    }
}

/// A packet each way.
fn exchange([a, b]: &mut [End; 2]) -> io::Result<u64> {
    Ok(u64::from(say(a, b)?) + u64::from(say(b, a)?))
}

fn say(from: &mut End, to: &mut End) -> io::Result<bool> {
    let mut packet = [0; PACKET_BYTES_MAX];
    let spoken = from.speaker.speak(&from.payload, &mut packet);
    let len = spoken.map_err(|reason| io::Error::other(reason.label()))?;
    from.socket.send_to(&packet[..len], from.target)?;
    match to.socket.recv(&mut packet) {
        Ok(len) => Ok(to.listener.hear(&mut packet[..len]).is_ok_and(|payload| payload == from.payload)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error),
    }
}
