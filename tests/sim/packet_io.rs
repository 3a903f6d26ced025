//! What carries the packets of the workers here: ports that exist only as entries of a table, and a network that takes what
//! is sent. The workers' rounds are those of the real server.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use ringdown::{
    config::Config,
    media::{
        packet_io::{CannotBind, PacketIo, Received},
        ports::Ports,
        worker::{Channel, Port, Send},
    },
    types::{DropReason, Instant, LegId, limits::PACKET_BYTES_MAX},
    wire::srtp::TAG_ROOM_BYTES,
};

/// More than a worker takes, so that it can refuse what is too large.
const BUFFER_BYTES: usize = PACKET_BYTES_MAX + TAG_ROOM_BYTES;

/// The media ports of all workers.
#[derive(Debug)]
pub(crate) struct Sockets {
    ip: IpAddr,
    ports: Ports,
    bound: HashMap<u16, Socket>,
    /// Slots whose ports could not be bound: the worker still unbinds them.
    unbound: HashSet<(u16, u32)>,
    /// Slots bound for legs that may come.
    pub(crate) ahead: HashSet<(u16, u32)>,
    /// The even ports that another process has.
    pub(crate) occupied: fn(u16) -> bool,
}

/// A bound media port.
#[derive(Debug)]
struct Socket {
    worker: u16,
    port: Port,
    /// The kernel's filter after `connect()`: only this peer is heard.
    connected: Option<SocketAddr>,
}

impl Sockets {
    pub(crate) fn new(ip: IpAddr, config: &Config) -> Self {
        let ports = Ports::new(&config.media.ports, config.media.workers);
        let (unbound, ahead) = (HashSet::new(), HashSet::new());
        Self { ip, ports, bound: HashMap::new(), unbound, ahead, occupied: |_| false }
    }

    /// The worker and port that hear this peer there.
    pub(crate) fn find(&self, to: SocketAddr, from: SocketAddr) -> Option<(u16, Port)> {
        let socket = self.bound.get(&to.port())?;
        let is_heard = socket.connected.is_none_or(|peer| peer == from);
        is_heard.then_some((socket.worker, socket.port))
    }

    /// Ports that a leg has, or has left behind.
    pub(crate) fn open(&self) -> usize {
        self.bound.values().filter(|socket| !self.ahead.contains(&(socket.worker, socket.port.slot))).count()
    }

    pub(crate) fn clear(&mut self) {
        self.bound.clear();
        self.unbound.clear();
        self.ahead.clear();
    }

    fn address_of(&self, worker: u16, port: Port) -> SocketAddr {
        let rtp = self.ports.rtp_port(LegId { worker, slot: port.slot, generation: 0 });
        let number = match port.channel {
            Channel::Rtp => rtp,
            Channel::Rtcp => rtp + 1,
        };
        SocketAddr::new(self.ip, number)
    }
}

/// One worker's view of them, for one round.
pub(crate) struct SimulatedIo<'a> {
    sockets: &'a mut Sockets,
    worker: u16,
    packet: Option<Packet>,
    /// Source, target and bytes of what was sent.
    pub(crate) sent: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

struct Packet {
    port: Port,
    source: SocketAddr,
    buffer: [u8; BUFFER_BYTES],
    len: usize,
}

impl<'a> SimulatedIo<'a> {
    pub(crate) const fn new(sockets: &'a mut Sockets, worker: u16) -> Self {
        Self { sockets, worker, packet: None, sent: Vec::new() }
    }

    /// A round in which this packet has come.
    pub(crate) fn with(self, port: Port, source: SocketAddr, bytes: &[u8]) -> Self {
        let mut buffer = [0; BUFFER_BYTES];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Self { packet: Some(Packet { port, source, buffer, len: bytes.len() }), ..self }
    }
}

impl PacketIo for SimulatedIo<'_> {
    fn receive(&mut self, _now: Instant, _lost: impl FnMut(Port, DropReason)) -> usize {
        self.packet.iter().count()
    }

    fn received(&mut self, _number: usize) -> Received<'_> {
        let Packet { port, source, buffer, len } = self.packet.as_mut().expect("one has come");
        Received { port: *port, source: *source, buffer, len: *len }
    }

    fn send(&mut self, _number: usize, send: &Send) -> Result<(), DropReason> {
        let packet = self.packet.as_ref().expect("one has come");
        let from = self.sockets.address_of(self.worker, send.port);
        self.sent.push((from, send.to, packet.buffer[..send.len].to_vec()));
        Ok(())
    }

    fn send_own(&mut self, send: &Send, packet: &mut [u8]) -> Result<(), DropReason> {
        let from = self.sockets.address_of(self.worker, send.port);
        self.sent.push((from, send.to, packet.to_vec()));
        Ok(())
    }

    fn flush(&mut self) {
        self.packet = None;
    }

    fn bind(&mut self, slot: u32, address: IpAddr, _dscp: u8) -> Result<(), CannotBind> {
        assert_eq!(address, self.sockets.ip, "media must be bound on the configured address");
        let rtp = self.sockets.address_of(self.worker, Port { slot, channel: Channel::Rtp }).port();
        if self.sockets.bound.contains_key(&rtp) {
            return Ok(());
        }
        if (self.sockets.occupied)(rtp) {
            self.sockets.unbound.insert((self.worker, slot));
            return Err(CannotBind);
        }
        self.sockets.unbound.remove(&(self.worker, slot));
        for channel in [Channel::Rtp, Channel::Rtcp] {
            let port = Port { slot, channel };
            let number = self.sockets.address_of(self.worker, port).port();
            let earlier = self.sockets.bound.insert(number, Socket { worker: self.worker, port, connected: None });
            assert!(earlier.is_none(), "port {number} bound twice");
        }
        Ok(())
    }

    fn unbind(&mut self, slot: u32) {
        if self.sockets.unbound.remove(&(self.worker, slot)) {
            return;
        }
        for channel in [Channel::Rtp, Channel::Rtcp] {
            let number = self.sockets.address_of(self.worker, Port { slot, channel }).port();
            assert!(self.sockets.bound.remove(&number).is_some(), "port {number} was not bound");
        }
    }

    fn connect(&mut self, port: Port, remote: Option<SocketAddr>) {
        let number = self.sockets.address_of(self.worker, port).port();
        self.sockets.bound.get_mut(&number).expect("a bound port").connected = remote;
    }
}
