//! The floods: threads that send as fast as they are told to, or as they can, from many addresses of the loopback network.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ringdown::shell::tls;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with},
};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

/// Threads that send: as many as this machine has cores.
const SENDERS: usize = 2;
/// Addresses that each sends datagrams from.
const SOURCES: usize = 500;
/// Addresses that each connects from: no source may have more than its own share of connections.
const CALLING_SOURCES: usize = 32;
const TICK: Duration = Duration::from_millis(1);
/// What is behind its time by more than this is not made up for.
const BACKLOG: Duration = Duration::from_millis(20);
/// Connections that each sender holds open; the one it has held longest makes room. Descriptors are what bounds them.
const HELD_MAX: usize = 3_000;
/// Nobody waits longer for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// A record of a ClientHello that announces more than comes.
const BEGUN_HANDSHAKE: [u8; 9] = [22, 3, 1, 2, 0, 1, 0, 1, 252];
/// One in so many handshakes is gone through with; the rest is begun and left.
const COMPLETED_EACH: u64 = 4;
/// How long a sender asks for nonces to guess with.
const ASKING: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Junk,
    Invites,
    Emergencies,
    Registers,
    Handshakes,
    Connections,
    Rtp,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] =
        [Self::Junk, Self::Invites, Self::Emergencies, Self::Registers, Self::Handshakes, Self::Connections, Self::Rtp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Junk => "junk over UDP",
            Self::Invites => "INVITEs of strangers",
            Self::Emergencies => "911 of strangers",
            Self::Registers => "guessed REGISTERs",
            Self::Handshakes => "TLS handshakes",
            Self::Connections => "idle connections",
            Self::Rtp => "RTP to all ports",
        }
    }
}

/// What is flooded.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) sip: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) media_ports: RangeInclusive<u16>,
    pub(crate) ca: PathBuf,
    /// Whom strangers ask for.
    pub(crate) user: String,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) sent: u64,
    /// Datagrams that came back, or connections that the server went along with.
    pub(crate) answered: u64,
}

/// Floods for this time with up to so many a second.
pub(crate) fn flood(kind: Kind, target: &Target, rate: u32, time: Duration) -> Sent {
    let rate = rate / u32::try_from(SENDERS).unwrap();
    let of_each: Vec<Sent> = thread::scope(|scope| {
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| scope.spawn(move || send(kind, target, sender, rate, time))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    of_each
        .iter()
        .fold(Sent::default(), |sum, of| Sent { sent: sum.sent + of.sent, answered: sum.answered + of.answered })
}

fn send(kind: Kind, target: &Target, sender: usize, rate: u32, time: Duration) -> Sent {
    match kind {
        Kind::Junk => Datagrams::open(sender).flood(rate, time, |_, n, bytes| {
            let _ = write!(
                bytes,
                "INVITE sip:{n} SIP/2.0\r\nVia: \u{1}\u{2}{:>1$}",
                'x',
                usize::try_from(n % 900).unwrap()
            );
            target.sip
        }),
        Kind::Invites | Kind::Emergencies => {
            let user = if kind == Kind::Invites { &*target.user } else { "911" };
            let uri = format!("sip:{user}@{}", target.sip.ip());
            Datagrams::open(sender).flood(rate, time, |source, n, bytes| {
                request(bytes, "INVITE", &uri, source, sender, n, "");
                target.sip
            })
        }
        Kind::Registers => {
            let (uri, realm) = (format!("sip:{}", target.sip.ip()), target.sip.ip());
            let mut datagrams = Datagrams::open(sender);
            datagrams.ask_for_nonces(target, &uri);
            let nonces: Vec<_> = datagrams.sources.iter().map(|source| source.nonce.clone()).collect();
            datagrams.flood(rate, time, |source, n, bytes| {
                let nonce = &nonces[usize::try_from(n).unwrap() % nonces.len()];
                let user = 1_000_000 + n % 1_000;
                let credentials = format!(
                    "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
                     response=\"{n:032x}\", algorithm=MD5, qop=auth, cnonce=\"c\", nc={n:08x}\r\n"
                );
                request(bytes, "REGISTER", &uri, source, sender, n, &credentials);
                target.sip
            })
        }
        Kind::Handshakes => handshakes(target, sender, rate, time),
        Kind::Connections => connections(target, sender, rate, time),
        Kind::Rtp => {
            let ports = target.media_ports.clone();
            let count = u64::from(ports.end() - ports.start()) + 1;
            Datagrams::open(sender).flood(rate, time, |_, n, bytes| {
                bytes.extend_from_slice(&[0x80, 0, 0, 1]);
                bytes.resize(172, 7);
                let port = ports.start() + u16::try_from((n * SENDERS as u64 + sender as u64) % count).unwrap();
                (target.sip.ip(), port).into()
            })
        }
    }
}

/// What a stranger may send over and over; `n` makes each its own transaction.
fn request(bytes: &mut Vec<u8>, method: &str, uri: &str, own: SocketAddr, sender: usize, n: u64, lines: &str) {
    let _ = write!(
        bytes,
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{sender}-{n};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:user{n}@example.com>;tag={n}\r\nTo: <{uri}>\r\nCall-ID: flood-{sender}-{n}\r\nCSeq: 1 {method}\r\n\
         Contact: <sip:stranger@{own}>\r\nUser-Agent: a stranger with a name that is longer than that of most telephones, \
         so that whoever answers in full to those who have sent enough has nothing to hold back here\r\n\
         {lines}Content-Length: 0\r\n\r\n"
    );
}

/// Floods of one sender must not come from another's addresses.
fn address(sender: usize, index: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(index + 1).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 80 + u8::try_from(sender).unwrap(), high, low))
}

struct Source {
    socket: UdpSocket,
    address: SocketAddr,
    nonce: String,
}

/// A sender's sockets.
struct Datagrams {
    sources: Vec<Source>,
    epoll: std::os::fd::OwnedFd,
    answered: u64,
}

impl Datagrams {
    fn open(sender: usize) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let source = |index: usize| {
            let socket = UdpSocket::bind((address(sender, index), 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            epoll::add(&epoll, &socket, EventData::new_u64(index as u64), EventFlags::IN).unwrap();
            let address = socket.local_addr().unwrap();
            Source { socket, address, nonce: "guess".to_owned() }
        };
        let sources = (0..SOURCES).map(source).collect();
        Self { sources, epoll, answered: 0 }
    }

    /// `make` writes a datagram and says where it goes.
    fn flood(mut self, rate: u32, time: Duration, make: impl Fn(SocketAddr, u64, &mut Vec<u8>) -> SocketAddr) -> Sent {
        let (mut pace, mut bytes, mut sent) = (Pace::new(rate, time), Vec::new(), 0);
        let mut n = 0;
        while let Some(count) = pace.next() {
            for _ in 0..count {
                let source = &self.sources[usize::try_from(n).unwrap() % SOURCES];
                bytes.clear();
                let to = make(source.address, n, &mut bytes);
                n += 1;
                // A port that nobody listens to is told of at the next call: that is none of this one's.
                sent += u64::from(source.socket.send_to(&bytes, to).is_ok());
            }
            self.hear(|_, _| ());
        }
        Sent { sent, answered: self.answered }
    }

    /// Takes some of what waits.
    fn hear(&mut self, mut take: impl FnMut(&mut Source, &[u8])) {
        let mut ready = Vec::with_capacity(64);
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&Timespec::default()));
        let mut buffer = [0; 2_048];
        for event in ready {
            let source = &mut self.sources[usize::try_from(event.data.u64()).unwrap()];
            while let Ok(len) = source.socket.recv(&mut buffer) {
                self.answered += 1;
                take(source, &buffer[..len]);
            }
        }
    }

    /// Who guesses must answer a challenge.
    fn ask_for_nonces(&mut self, target: &Target, uri: &str) {
        for index in 0..SOURCES {
            let mut bytes = Vec::new();
            let padding = format!("Subject: {}\r\n", "x".repeat(600));
            request(&mut bytes, "REGISTER", uri, self.sources[index].address, index, u64::MAX, &padding);
            let _ = self.sources[index].socket.send_to(&bytes, target.sip);
        }
        let end = Instant::now() + ASKING;
        while Instant::now() < end {
            self.hear(|source, answer| {
                let text = String::from_utf8_lossy(answer);
                let nonce = text.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
                if let Some(nonce) = nonce {
                    nonce.clone_into(&mut source.nonce);
                }
            });
            thread::sleep(TICK);
        }
        self.answered = 0;
    }
}

/// Begins handshakes; goes through with some of them, and then leaves.
fn handshakes(target: &Target, sender: usize, rate: u32, time: Duration) -> Sent {
    let client = tls::client_of(&target.ca).unwrap();
    let (mut answered, mut held) = (0, VecDeque::new());
    let sent = each_connection(target.tls, sender, Pace::new(rate, time), |n, mut stream| {
        if n % COMPLETED_EACH == 0 {
            answered += u64::from(shake_hands(&client, &mut stream, target.tls).is_ok());
        } else if stream.write_all(&BEGUN_HANDSHAKE).is_ok() {
            hold(&mut held, stream);
        }
    });
    Sent { sent, answered }
}

/// Opens one connection after the other and hands each over with its number. Returns how many there were.
fn each_connection(to: SocketAddr, sender: usize, mut pace: Pace, mut with: impl FnMut(u64, TcpStream)) -> u64 {
    let (mut n, mut sent) = (0, 0);
    while let Some(count) = pace.next() {
        for _ in 0..count {
            if pace.is_over() {
                break;
            }
            n += 1;
            if let Ok(stream) = open(address(sender, usize::try_from(n).unwrap() % CALLING_SOURCES), to) {
                sent += 1;
                with(n, stream);
            }
        }
    }
    sent
}

fn shake_hands(client: &Arc<ClientConfig>, stream: &mut TcpStream, server: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let name = ServerName::from(server.ip());
    let mut connection = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(stream)?;
    }
    Ok(())
}

/// Opens connections and says nothing, or no more than half a line.
fn connections(target: &Target, sender: usize, rate: u32, time: Duration) -> Sent {
    let mut held = VecDeque::new();
    let sent = each_connection(target.sip, sender, Pace::new(rate, time), |n, mut stream| {
        if n % 2 == 0 {
            let _ = stream.write_all(b"OPTIONS sip:x SIP/2.0\r\nVia: ");
        }
        hold(&mut held, stream);
    });
    // Of those that are still held, whether the server has them, too.
    let is_open = |stream: &mut TcpStream| matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    Sent { sent, answered: held.iter_mut().filter_map(|stream| is_open(stream).then_some(1)).sum() }
}

fn hold(held: &mut VecDeque<TcpStream>, stream: TcpStream) {
    if held.len() >= HELD_MAX {
        held.pop_front();
    }
    held.push_back(stream);
}

/// From this address, without waiting until the connection stands.
fn open(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    match connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// How many are due, tick by tick.
struct Pace {
    rate: u32,
    begun: Instant,
    end: Instant,
    /// Up to when those that were due are done.
    done: Duration,
}

impl Pace {
    fn new(rate: u32, time: Duration) -> Self {
        let begun = Instant::now();
        Self { rate, begun, end: begun + time, done: Duration::ZERO }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn next(&mut self) -> Option<u64> {
        let due = self.begun + self.done + TICK;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if self.is_over() {
            return None;
        }
        let elapsed = self.begun.elapsed();
        let from = self.done.max(elapsed.saturating_sub(BACKLOG));
        self.done = elapsed;
        let count = |time: Duration| u64::try_from(time.as_nanos() * u128::from(self.rate) / 1_000_000_000).unwrap();
        Some(count(elapsed) - count(from))
    }
}
