//! The telephones: each with a connection to the server and a socket for its voice, all driven by one thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ringdown::{
    phone::{Config, Event, Input, Media, Output, Phone},
    shell::{clock::Clock, tls},
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::srtp::Suite,
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{
    spread::Spread,
    voices::{Voice, Voices},
};

/// No answer takes longer than a transaction (64*T1) and the ringing of a telephone that answers at once.
const PATIENCE: Duration = Duration::from_secs(40);

/// Where the telephones register, and who they are.
pub(crate) struct Exchange {
    pub(crate) server: SocketAddr,
    pub(crate) domain: String,
    pub(crate) transport: Transport,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) local: IpAddr,
    pub(crate) suite: Suite,
    /// Name and password.
    pub(crate) accounts: Vec<(String, String)>,
}

/// How calls were set up.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetUps {
    pub(crate) tried: usize,
    pub(crate) established: usize,
    /// By status.
    pub(crate) refused: BTreeMap<u16, usize>,
    /// From the INVITE to the caller's ACK.
    pub(crate) time: Spread,
}

pub(crate) struct Phones {
    clock: Clock,
    rng: Rng,
    exchange: Exchange,
    lines: Vec<Line>,
    epoll: std::os::fd::OwnedFd,
    timers: BTreeSet<(Instant, usize)>,
    voices: Arc<Voices>,
    set_ups: SetUps,
}

struct Line {
    phone: Phone,
    wire: Wire,
    media: Arc<UdpSocket>,
    wake_at: Option<Instant>,
    state: State,
    dialled_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unregistered,
    Idle,
    Calling,
    Up,
    Ending,
}

pub(crate) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Phones {
    pub(crate) fn new(clock: Clock, exchange: Exchange, voices: Arc<Voices>, rng: Rng) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let (lines, timers, set_ups) = (Vec::new(), BTreeSet::new(), SetUps::default());
        Self { clock, rng, exchange, lines, epoll, timers, voices, set_ups }
    }

    /// Calls that are up at the caller.
    pub(crate) fn calls(&self) -> usize {
        self.lines.iter().step_by(2).filter(|line| line.state == State::Up).count()
    }

    /// Pairs of telephones that there can be.
    pub(crate) fn calls_max(&self) -> usize {
        self.exchange.accounts.len() / 2
    }

    /// Registers telephones until there are enough for so many calls.
    pub(crate) fn register(&mut self, calls: usize, rate: u32) -> Result<(), String> {
        while self.lines.len() < 2 * calls {
            let index = self.lines.len();
            self.connect().map_err(|error| format!("telephone {index}: {error}"))?;
            self.input(index, Input::Register);
            self.pace(rate);
        }
        self.until("a registration", |phones| phones.lines.iter().all(|line| line.state != State::Unregistered))
    }

    /// Sets up calls, or ends them, until there are so many.
    pub(crate) fn hold(&mut self, calls: usize, rate: u32) -> Result<SetUps, String> {
        self.set_ups = SetUps::default();
        self.register(calls.min(self.calls_max()), rate)?;
        for caller in (0..self.lines.len()).step_by(2) {
            let is_wanted = caller / 2 < calls;
            match self.lines[caller].state {
                State::Idle if is_wanted => self.dial(caller),
                State::Up if !is_wanted => self.hang_up(caller),
                State::Idle | State::Up | State::Unregistered | State::Calling | State::Ending => continue,
            }
            self.pace(rate);
        }
        self.until("the end of a call", |phones| {
            phones.lines.iter().all(|line| matches!(line.state, State::Idle | State::Up))
        })?;
        Ok(self.set_ups.clone())
    }

    /// Drives the telephones for a while.
    pub(crate) fn run(&mut self, time: Duration) -> Result<(), String> {
        let end = self.clock.now() + time;
        while self.clock.now() < end {
            self.turn(end)?;
        }
        Ok(())
    }

    fn until(&mut self, what: &str, is_met: impl Fn(&Self) -> bool) -> Result<(), String> {
        let end = self.clock.now() + PATIENCE;
        while !is_met(self) {
            if self.clock.now() >= end {
                return Err(format!("{what} takes longer than {PATIENCE:?}"));
            }
            self.turn(end)?;
        }
        Ok(())
    }

    /// The time between one beginning and the next.
    fn pace(&mut self, rate: u32) {
        let end = self.clock.now() + Duration::from_secs(1) / rate.max(1);
        while self.clock.now() < end {
            let _ = self.turn(end);
        }
    }

    /// One look at the connections and the clock, until `end` at the latest.
    fn turn(&mut self, end: Instant) -> Result<(), String> {
        let now = self.clock.now();
        let next = self.timers.first().map_or(end, |(at, _)| (*at).min(end));
        let wait = Timespec::try_from(next.since(now)).unwrap();
        let mut ready = Vec::with_capacity(256);
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&wait));
        for event in ready {
            let index = usize::try_from(event.data.u64()).unwrap();
            let mut buffer = [0; 8_192];
            loop {
                match self.lines[index].wire.read(&mut buffer) {
                    Ok(0) => return Err(format!("the server has closed the connection of telephone {index}")),
                    Ok(len) => self.input(index, Input::Received(Bytes::copy_from_slice(&buffer[..len]))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("telephone {index}: {error}")),
                }
            }
        }
        while let Some(&(at, index)) = self.timers.first().filter(|(at, _)| *at <= self.clock.now()) {
            self.timers.remove(&(at, index));
            self.lines[index].wake_at = None;
            self.input(index, Input::Timeout);
        }
        Ok(())
    }

    fn dial(&mut self, caller: usize) {
        let user = self.exchange.accounts[caller + 1].0.clone();
        self.set_ups.tried += 1;
        self.lines[caller].state = State::Calling;
        self.lines[caller].dialled_at = self.clock.now();
        self.input(caller, Input::Dial { user });
    }

    fn hang_up(&mut self, caller: usize) {
        for line in [caller, caller + 1] {
            self.lines[line].state = State::Ending;
            self.voices.end(u32::try_from(line).unwrap());
        }
        self.input(caller, Input::HangUp);
    }

    fn input(&mut self, index: usize, input: Input) {
        self.lines[index].phone.handle_input(self.clock.now(), input);
        loop {
            let line = &mut self.lines[index];
            match line.phone.poll_output() {
                // What cannot be sent is missed by a timer of the telephone.
                Output::Transmit(bytes) => drop(line.wire.write(&bytes)),
                Output::Event(event) => self.event(index, event),
                Output::Timeout(at) => {
                    if line.wake_at != at {
                        self.timers.extend(at.map(|at| (at, index)));
                        if let Some(before) = std::mem::replace(&mut line.wake_at, at) {
                            self.timers.remove(&(before, index));
                        }
                    }
                    return;
                }
            }
        }
    }

    fn event(&mut self, index: usize, event: Event) {
        let is_caller = index.is_multiple_of(2);
        let line = &mut self.lines[index];
        match event {
            Event::Registered => line.state = State::Idle,
            // Nobody here holds.
            Event::Ringing | Event::Held => {}
            Event::Established(media) => {
                line.state = State::Up;
                if is_caller {
                    self.set_ups.established += 1;
                    self.set_ups.time.add(self.clock.now().since(line.dialled_at));
                }
                self.speak(index, &media);
            }
            Event::Refused(refusal) => {
                if line.state == State::Calling {
                    *self.set_ups.refused.entry(refusal.status).or_default() += 1;
                    line.state = State::Idle;
                } else {
                    eprintln!("telephone {index} is refused: {} {}", refusal.status, refusal.phrase);
                }
            }
            Event::Ended => {
                self.voices.end(u32::try_from(index).unwrap());
                line.state = State::Idle;
            }
            Event::Fault(fault) => eprintln!("telephone {index}: the server broke a rule: {fault}"),
        }
    }

    fn speak(&mut self, index: usize, media: &Media) {
        let (speaker, listener) = media.voices(&mut self.rng);
        let own = u32::try_from(index).unwrap();
        let socket = Arc::clone(&self.lines[index].media);
        self.voices.begin(Voice { socket, remote: media.remote, speaker, listener, partner: own ^ 1, own });
    }

    fn connect(&mut self) -> io::Result<()> {
        let index = self.lines.len();
        let Exchange { server, domain, transport, ca, local, suite, accounts } = &self.exchange;
        let (wire, address) = Wire::open(*transport, *local, *server, ca.as_deref())?;
        let media = UdpSocket::bind((*local, 0))?;
        media.set_nonblocking(true)?;
        let (user, password) = accounts[index].clone();
        let config = Config {
            user,
            password: Secret::new(password),
            domain: domain.clone(),
            flow: Flow { transport: *transport, local: address, remote: *server, connection: ConnectionId(1) },
            media: media.local_addr()?,
            suite: *suite,
        };
        epoll::add(&self.epoll, wire.socket(), EventData::new_u64(index as u64), EventFlags::IN)?;
        let phone = Phone::new(config, self.rng.fork());
        let (state, dialled_at) = (State::Unregistered, self.clock.now());
        self.lines.push(Line { phone, wire, media: Arc::new(media), wake_at: None, state, dialled_at });
        Ok(())
    }
}

impl Wire {
    pub(crate) fn open(
        transport: Transport,
        local: IpAddr,
        server: SocketAddr,
        ca: Option<&std::path::Path>,
    ) -> io::Result<(Self, SocketAddr)> {
        if transport == Transport::Udp {
            let socket = UdpSocket::bind((local, 0))?;
            socket.connect(server)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            return Ok((Self::Udp(socket), address));
        }
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let address = stream.local_addr()?;
        if transport == Transport::Tcp {
            stream.set_nonblocking(true)?;
            return Ok((Self::Tcp(stream), address));
        }
        let ca = ca.ok_or_else(|| io::Error::other("TLS needs --ca"))?;
        let client = tls::client_of(ca).map_err(io::Error::other)?;
        let connection = ClientConnection::new(client, ServerName::from(server.ip())).map_err(io::Error::other)?;
        let mut secure = StreamOwned::new(connection, stream);
        while secure.conn.is_handshaking() {
            secure.conn.complete_io(&mut secure.sock)?;
        }
        secure.sock.set_nonblocking(true)?;
        Ok((Self::Tls(Box::new(secure)), address))
    }

    pub(crate) fn socket(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(secure) => secure.sock.as_fd(),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            // A server that is not there yet, or not any more, is noticed by the telephone's timers.
            Self::Udp(socket) => socket.recv(buffer).map_err(|error| match error.kind() {
                ErrorKind::ConnectionRefused => ErrorKind::WouldBlock.into(),
                _ => error,
            }),
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(secure) => secure.read(buffer),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(bytes).map(|_| ()),
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Tls(secure) => secure.write_all(bytes).and_then(|()| secure.flush()),
        }
    }
}
