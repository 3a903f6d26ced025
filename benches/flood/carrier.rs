//! The trunk that emergency calls go to: answers every INVITE at once, with plain audio that it does not listen to.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringdown::wire::sip::{Message, Method, ResponseBuilder};

/// RFC 3261 section 13.3.1.4: a 200 is repeated until it is acknowledged.
const REPEAT: Duration = Duration::from_millis(500);
const REPEATS_MAX: u32 = 20;
const LOOK_AROUND: Duration = Duration::from_millis(50);

pub(crate) struct Carrier {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Carrier {
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(LOOK_AROUND))?;
        // Its own media goes nowhere, but the port is there.
        let media = UdpSocket::bind((address.ip(), 0))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || serve(&socket, &media, &end));
        Ok(Self { is_over, thread: Some(thread) })
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A 200 that has no ACK yet.
struct Unacknowledged {
    answer: Bytes,
    to: SocketAddr,
    due: Instant,
    repeats: u32,
}

fn serve(socket: &UdpSocket, media: &UdpSocket, is_over: &AtomicBool) {
    let (own, port) = (socket.local_addr().unwrap(), media.local_addr().unwrap().port());
    let mut unacknowledged: HashMap<String, Unacknowledged> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    while !is_over.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer)
            && let Ok(message) = Message::parse(Bytes::copy_from_slice(&buffer[..len]))
        {
            let call = message.call_id().to_owned();
            match message.method() {
                Some(Method::Invite) => {
                    let answer = answer(&message, own, port, from);
                    let _ = socket.send_to(&answer, from);
                    let due = Instant::now() + REPEAT;
                    unacknowledged.insert(call, Unacknowledged { answer, to: from, due, repeats: 0 });
                }
                Some(Method::Ack) => _ = unacknowledged.remove(&call),
                Some(_) => _ = socket.send_to(&ResponseBuilder::to(&message, 200, "OK", "c", from).finish(), from),
                None => {}
            }
        }
        let now = Instant::now();
        unacknowledged.retain(|_, waiting| {
            if waiting.due <= now {
                let _ = socket.send_to(&waiting.answer, waiting.to);
                waiting.due = now + REPEAT;
                waiting.repeats += 1;
            }
            waiting.repeats < REPEATS_MAX
        });
    }
}

/// The same for each copy of an INVITE, so that no state is needed.
fn answer(invite: &Message, own: SocketAddr, port: u16, from: SocketAddr) -> Bytes {
    let ip: IpAddr = own.ip();
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         a=rtpmap:0 PCMU/8000\r\n"
    );
    ResponseBuilder::to(invite, 200, "OK", "c", from)
        .header("Contact", format_args!("<sip:{own}>"))
        .body("application/sdp", body.as_bytes())
        .finish()
}
