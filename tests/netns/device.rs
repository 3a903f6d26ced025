//! A telephone: the small one of the library over TCP, with a media socket of its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ringdown::{
    phone::{Config, Event, Input, Listener, Media, Output, Phone},
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::srtp::{Outbound, Suite, TAG_ROOM_BYTES},
};

use crate::{
    common::{process::wait_for, server::Account},
    network::Namespace,
};

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// Nothing more comes after this.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) struct Device {
    phone: Phone,
    stream: TcpStream,
    media: UdpSocket,
}

impl Device {
    pub(crate) fn connect(at: &Namespace, server: SocketAddr, domain: &str, account: &Account, suite: Suite) -> Self {
        let (stream, media) = at.enter(|| {
            let stream = TcpStream::connect_timeout(&server, PATIENCE).expect("the server listens");
            (stream, UdpSocket::bind((at.ip(), 0)).expect("a free port"))
        });
        stream.set_read_timeout(Some(LOOK)).expect("a valid timeout");
        let local = stream.local_addr().expect("it is connected");
        let config = Config {
            user: account.user.to_owned(),
            password: Secret::new(account.password.to_owned()),
            domain: domain.to_owned(),
            flow: Flow { transport: Transport::Tcp, local, remote: server, connection: ConnectionId(1) },
            media: media.local_addr().expect("it is bound"),
            suite,
        };
        let seed = u64::from(local.port());
        Self { phone: Phone::new(config, Rng::from_small_seed(seed)), stream, media }
    }

    pub(crate) fn register(&mut self) {
        self.input(Input::Register);
        let event = self.wait();
        assert!(matches!(event, Event::Registered), "{event:?}");
    }

    /// Calls the other one, which answers; what each has settled.
    pub(crate) fn call(&mut self, other: &mut Self, number: &str) -> [Media; 2] {
        self.input(Input::Dial { user: number.to_owned() });
        let (mut ours, mut theirs) = (None, None);
        wait_for("the call to be answered", PATIENCE, || {
            for (device, media) in [(&mut *self, &mut ours), (&mut *other, &mut theirs)] {
                match device.look() {
                    Some(Event::Established(settled)) => *media = Some(settled),
                    Some(Event::Ringing) | None => {}
                    Some(event) => panic!("{event:?}"),
                }
            }
            Some([ours.clone()?, theirs.clone()?])
        })
    }

    pub(crate) fn hang_up(&mut self, other: &mut Self) {
        self.input(Input::HangUp);
        let mut ended = [false; 2];
        wait_for("the end of the call", PATIENCE, || {
            for (device, is_ended) in [&mut *self, &mut *other].into_iter().zip(&mut ended) {
                *is_ended |= matches!(device.look(), Some(Event::Ended));
            }
            (ended == [true; 2]).then_some(())
        });
    }

    fn input(&mut self, input: Input) {
        self.phone.handle_input(now(), input);
    }

    fn wait(&mut self) -> Event {
        wait_for("an answer of the server", PATIENCE, || self.look())
    }

    /// Sends what there is to send, and reads what has come.
    fn look(&mut self) -> Option<Event> {
        loop {
            let at = match self.phone.poll_output() {
                Output::Transmit(bytes) => {
                    self.stream.write_all(&bytes).expect("the server reads");
                    continue;
                }
                Output::Event(Event::Fault(fault)) => panic!("the server broke a rule: {fault}"),
                Output::Event(event) => return Some(event),
                Output::Timeout(at) => at,
            };
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the server has closed the connection"),
                Ok(len) => self.input(Input::Received(Bytes::copy_from_slice(&buffer[..len]))),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if at.is_some_and(|at| at <= now()) {
                        self.input(Input::Timeout);
                    }
                    return None;
                }
                Err(e) => panic!("the connection fails: {e}"),
            }
        }
    }

    pub(crate) const fn media(&self) -> &UdpSocket {
        &self.media
    }
}

fn now() -> Instant {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    Instant::from_unix_ns(u64::try_from(since.as_nanos()).expect("it is not that late"))
}

/// One side's audio in a call.
pub(crate) struct Voice {
    outbound: Outbound,
    listener: Listener,
    /// Where the server listens.
    pub(crate) server: SocketAddr,
    sequence: u16,
}

impl Voice {
    pub(crate) fn new(media: &Media) -> Self {
        let (_, listener) = media.voices(&mut Rng::from_small_seed(1));
        let outbound = Outbound::new(media.suite, &media.send);
        Self { outbound, listener, server: media.remote, sequence: 1_000 }
    }

    /// The next packet, whose payload begins with its number.
    pub(crate) fn speak(&mut self, payload_bytes: usize) -> Vec<u8> {
        self.sequence += 1;
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 160).to_be_bytes());
        packet.extend(*b"ssrc");
        packet.extend(payload(self.sequence, payload_bytes));
        let len = packet.len();
        packet.resize(len + TAG_ROOM_BYTES, 0);
        let len = self.outbound.protect_rtp(&mut packet, len).expect("a new number");
        packet.truncate(len);
        packet
    }

    /// The numbers of so many packets, and of none more. Each must be authentic and as it was said.
    pub(crate) fn hear(&mut self, socket: &UdpSocket, packets: usize) -> Vec<u16> {
        let mut heard = Vec::new();
        let mut buffer = [0; 2_048];
        while heard.len() < packets {
            socket.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
            let len = socket.recv(&mut buffer);
            let len = len.unwrap_or_else(|e| panic!("{} of {packets} packets have come: {e}", heard.len()));
            heard.push(self.open(&mut buffer[..len]));
        }
        assert_eq!(self.overhear(socket), None, "more than {packets} packets have come");
        heard
    }

    /// The number of the next packet, if one comes.
    pub(crate) fn overhear(&mut self, socket: &UdpSocket) -> Option<u16> {
        let mut buffer = [0; 2_048];
        socket.set_read_timeout(Some(QUIET)).expect("a valid timeout");
        socket.recv(&mut buffer).ok().map(|len| self.open(&mut buffer[..len]))
    }

    fn open(&mut self, packet: &mut [u8]) -> u16 {
        let heard = self.listener.hear(packet).expect("what the server sends is authentic and new");
        let sequence = u16::from_be_bytes([heard[0], heard[1]]);
        assert!(heard == payload(sequence, heard.len()), "packet {sequence} is not as it was said");
        sequence
    }
}

fn payload(sequence: u16, bytes: usize) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    [high, low].into_iter().chain(std::iter::repeat(low)).take(bytes).collect()
}
