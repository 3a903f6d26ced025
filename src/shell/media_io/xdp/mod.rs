//! The backend that passes the kernel's network stack by (AF_XDP), beside the sockets of the portable one.
//!
//! Each worker reads and writes one queue of a network card: a frame with a packet of one of its legs is relayed where it
//! lies and leaves with new headers. Every port has its socket all the same: it keeps the port ours, takes what the card's
//! program leaves to the kernel (fragments, packets on another worker's queue, other interfaces), hears what the network says
//! of packets, and sends where no way over the card is known or a packet is too large for it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    ops::{Range, RangeInclusive},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    io::Errno,
    thread::{CapabilitySet, capabilities},
};

mod bpf;
mod netlink;
mod paths;
mod program;
mod queue;

use self::{
    bpf::Mode,
    netlink::{Link, Netlink},
    paths::{Answering, Asking, Path},
    program::Target,
    queue::{FRAME_BYTES, Frame, Queue},
};
use super::{
    counters::Bypassed,
    epoll,
    event_loop::{Carrier, ROUND_PACKETS_MAX, Woken},
    wake::Ready,
};
use crate::{
    config::Media,
    media::{
        packet_io::{CannotBind, PacketIo, Received},
        ports::{self, Ports},
        worker::{Channel, Port, Send},
    },
    types::{DropReason, Duration, Instant, limits::PACKET_BYTES_MAX},
    wire::frame::{self, Datagram, HEADERS_BYTES_MAX, write_headers},
};

/// How old what is known of a path may be, while packets take it.
const PATH_AGE_MAX: Duration = Duration::from_secs(2);
/// Packets that the kernel has not taken are offered again after this time.
const SENDING_WAIT: Duration = Duration::from_millis(1);
/// Ethernet carries no shorter frame (IEEE 802.3), and not every driver pads.
const FRAME_BYTES_MIN: usize = 60;

/// Why the card's queues cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub cause: String,
    /// What the operator can do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}.", self.cause, self.remedy)
    }
}

/// The queues of a card, read from now on. Dropped, it leaves everything to the kernel again.
#[derive(Debug)]
pub struct Card {
    pub interface: String,
    /// Whether the program runs in the driver.
    pub is_native: bool,
    /// Whether the driver reads and writes our memory itself, on every queue.
    pub is_zero_copy: bool,
    /// One per worker, from the first on.
    pub(super) lanes: Vec<Lane>,
    /// What a worker has in its own table, too: let go of here once it has ended.
    _shared: Vec<(Arc<OwnedFd>, Ready)>,
    _program: OwnedFd,
    _sockets: OwnedFd,
}

/// What one worker gets of a card.
pub(super) struct Lane {
    queue: Queue,
    asking: Asking,
}

impl Lane {
    /// What its worker needs.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.queue.as_fd(), self.asking.notice().as_fd()]
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Card {
    /// Takes the queues that the configuration names, for the workers that share its ports, of which there are at least as many.
    ///
    /// # Errors
    /// The first thing that is missing; see [`missing`] for all at once.
    pub fn open(media: &Media, workers: u16) -> Result<Self, Unavailable> {
        let interface = media.xdp_interface.as_deref().unwrap_or_default();
        let link = find_link(interface)?;
        let mut queues =
            media.xdp_queues.iter().map(|_| Queue::new()).collect::<Result<Vec<_>, _>>().map_err(no_queue)?;
        let map = create_map(media)?;
        let program = load(media, &link, workers, &map)?;
        let (attached, mode) = attach(&program, &link)?;
        for (queue, &number) in queues.iter_mut().zip(&media.xdp_queues) {
            queue.bind(link.index, number.into(), mode).map_err(no_queue)?;
            if media.spin_us > 0 {
                queue.prefer_busy_poll(super::spin(media));
            }
            bpf::set_socket(map.as_fd(), number.into(), queue.as_fd()).map_err(|error| not_permitted(&error))?;
        }
        let asking = Answering::start(link.index, queues.len()).map_err(|error| cannot_ask(&error))?;
        let lanes: Vec<_> = queues.into_iter().zip(asking).map(|(queue, asking)| Lane { queue, asking }).collect();
        Ok(Self {
            interface: interface.to_owned(),
            is_native: mode == Mode::Native,
            is_zero_copy: lanes.iter().all(|lane| lane.queue.is_zero_copy()),
            _shared: lanes.iter().map(|lane| (lane.queue.socket(), lane.asking.notice().clone())).collect(),
            lanes,
            _program: attached,
            _sockets: map,
        })
    }
}

/// Everything that keeps this machine from reading the card's queues, found out without touching the card; and how it would
/// be read.
pub fn missing(media: &Media, workers: u16) -> Result<&'static str, Vec<Unavailable>> {
    let mut missing = Vec::new();
    let link = find_link(media.xdp_interface.as_deref().unwrap_or_default()).map_err(|it| missing.push(it)).ok();
    if let Some(link) = &link {
        missing.extend(missing_of_link(media, link));
    }
    missing.extend(missing_capabilities());
    if let Err(error) = Queue::new() {
        missing.push(no_queue(error));
    }
    let program = create_map(media).and_then(|map| match &link {
        Some(link) => load(media, link, workers, &map).map(drop),
        None => Ok(()),
    });
    missing.extend(program.err());
    if !missing.is_empty() {
        return Err(missing);
    }
    let features = link.and_then(|link| Netlink::features(link.index));
    Ok(match features {
        Some(features) if features.has_zero_copy() => "in the driver, without a copy",
        Some(features) if features.is_native() => {
            "in the driver, with a copy of each packet: the driver has no zero-copy"
        }
        Some(_) => "with a copy, in front of the kernel's stack: the driver does not run programs",
        None => "as the driver allows: this kernel does not tell beforehand",
    })
}

fn find_link(interface: &str) -> Result<Link, Unavailable> {
    let cannot = |error: Errno| match error {
        Errno::NODEV => Unavailable {
            cause: format!("there is no interface {interface}"),
            remedy: "Name one of this machine in media.xdp_interface, as `ip link` shows them",
        },
        Errno::BADMSG => Unavailable {
            cause: format!("the interface {interface} is not Ethernet"),
            remedy: "Name an Ethernet interface in media.xdp_interface",
        },
        error => cannot_ask(&error.into()),
    };
    Netlink::route_family().and_then(|mut netlink| netlink.link_named(interface)).map_err(cannot)
}

fn missing_of_link(media: &Media, link: &Link) -> impl Iterator<Item = Unavailable> {
    let program = link.has_program.then(|| Unavailable {
        cause: "the interface has an XDP program already".to_owned(),
        remedy: "It may be that of a running ringdown; end the other one (`ip link set dev INTERFACE xdp off`)",
    });
    let beyond = media.xdp_queues.iter().find(|queue| u32::from(**queue) >= link.rx_queues.max(1));
    let queue = beyond.map(|queue| Unavailable {
        cause: format!("the interface has no queue {queue}: it has {}", link.rx_queues),
        remedy: "Name queues of the interface in media.xdp_queues: `ethtool -l` counts them",
    });
    program.into_iter().chain(queue)
}

fn missing_capabilities() -> Option<Unavailable> {
    let own = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let has = |wanted: CapabilitySet| own.intersects(wanted | CapabilitySet::SYS_ADMIN);
    let wanted = [
        ("CAP_NET_ADMIN", own.contains(CapabilitySet::NET_ADMIN)),
        ("CAP_NET_RAW", own.contains(CapabilitySet::NET_RAW)),
        ("CAP_BPF", has(CapabilitySet::BPF)),
    ];
    let missing: Vec<_> = wanted.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect();
    (!missing.is_empty()).then(|| Unavailable {
        cause: format!("{} is missing", missing.join(", ")),
        remedy: "Run as root, or grant them (AmbientCapabilities in the systemd unit)",
    })
}

fn create_map(media: &Media) -> Result<OwnedFd, Unavailable> {
    let last = media.xdp_queues.iter().max().copied().unwrap_or_default();
    bpf::create_socket_map(u32::from(last) + 1).map_err(|error| not_permitted(&error))
}

fn load(media: &Media, link: &Link, workers: u16, map: &OwnedFd) -> Result<OwnedFd, Unavailable> {
    let ports = Ports::new(&media.ports, workers);
    let queues = (0..).zip(&media.xdp_queues).map(|(worker, queue)| (u32::from(*queue), range(ports.slots(worker))));
    let vlans = Netlink::route_family().and_then(|mut netlink| netlink.vlans_on(link.index));
    let vlans = vlans.map_err(|error| cannot_ask(&error.into()))?;
    let target = Target::new(link.mac, vlans, &media.addresses, queues.collect());
    bpf::load(&program::program(&target, map.as_fd())).map_err(|error| not_permitted(&error))
}

/// The ports of a worker.
fn range((first, slots): (u16, u32)) -> RangeInclusive<u16> {
    match slots.checked_sub(1) {
        Some(last) => first..=ports::rtp_port(first, last) + 1,
        // No port is in it.
        None => RangeInclusive::new(1, 0),
    }
}

/// In the driver where it can, else in front of the kernel's stack.
fn attach(program: &OwnedFd, link: &Link) -> Result<(OwnedFd, Mode), Unavailable> {
    let native = bpf::attach(program.as_fd(), link.index, Mode::Native).map(|link| (link, Mode::Native));
    let generic = |error| match error {
        Errno::BUSY => Err(error),
        _ => bpf::attach(program.as_fd(), link.index, Mode::Generic).map(|link| (link, Mode::Generic)),
    };
    native.or_else(generic).map_err(|error| match error {
        Errno::BUSY | Errno::EXIST => Unavailable {
            cause: "the interface has an XDP program already".to_owned(),
            remedy: "It may be that of a running ringdown; end the other one (`ip link set dev INTERFACE xdp off`)",
        },
        error => Unavailable {
            cause: format!("the program cannot be attached to the interface: {error}"),
            remedy: "Needed: Linux 5.9 or later and CAP_NET_ADMIN",
        },
    })
}

fn no_queue(error: Errno) -> Unavailable {
    let (cause, remedy) = queue::explain(error);
    Unavailable { cause: format!("{cause}: {error}"), remedy }
}

fn not_permitted(error: &Errno) -> Unavailable {
    Unavailable {
        cause: format!("the kernel takes no program for the card: {error}"),
        remedy: "Needed: Linux 5.9 or later, CAP_BPF and CAP_NET_ADMIN, and a container that allows bpf",
    }
}

fn cannot_ask(error: &io::Error) -> Unavailable {
    Unavailable {
        cause: format!("the kernel cannot be asked for ways to peers (netlink): {error}"),
        remedy: "Whatever filters system calls here must allow sockets of AF_NETLINK",
    }
}

/// A worker's sockets and queue.
pub(super) struct Io {
    sockets: epoll::Io,
    queue: Queue,
    asking: Asking,
    first_port: u16,
    legs: Vec<Option<Leg>>,
    /// Packets of the round that came through sockets; those of the queue are numbered from there on.
    from_sockets: usize,
    packets: Vec<Packet>,
    now: Instant,
    bypassed: Bypassed,
}

/// What a bound slot has of its own.
struct Leg {
    address: IpAddr,
    dscp: u8,
    /// What its RTP socket is connected to.
    connected: Option<SocketAddr>,
    way: Option<Way>,
}

/// What is known of the way to a leg's peer.
struct Way {
    target: IpAddr,
    asked_at: Instant,
    /// `None`: packets go through the kernel.
    path: Option<Path>,
}

/// One of the round, in its frame until it is sent.
struct Packet {
    frame: Option<Frame>,
    payload: Range<usize>,
    port: Port,
    source: SocketAddr,
}

impl Io {
    pub(super) fn new(sockets: epoll::Io, lane: Lane, (first_port, slots): (u16, u32)) -> rustix::io::Result<Self> {
        let Lane { queue, asking } = lane;
        sockets.watch(&queue)?;
        Ok(Self {
            sockets,
            queue,
            asking,
            first_port,
            legs: (0..slots).map(|_| None).collect(),
            from_sockets: 0,
            packets: Vec::with_capacity(ROUND_PACKETS_MAX),
            now: Instant::default(),
            bypassed: Bypassed::default(),
        })
    }

    fn take_answers(&mut self) {
        while let Some(answer) = self.asking.answer() {
            let leg = self.legs.get_mut(answer.slot as usize).and_then(Option::as_mut);
            if let Some(way) = leg.and_then(|leg| leg.way.as_mut()).filter(|way| way.target == answer.target) {
                way.path = answer.path;
            }
        }
    }

    /// What a frame carries for one of our legs. Others' packets end here, as they would at a socket.
    fn packet(&mut self, frame: Frame, place: Range<usize>, lost: &mut impl FnMut(Port, DropReason)) -> Option<Packet> {
        let bytes = &self.queue.bytes(&frame)[place.clone()];
        let found = frame::parse(bytes);
        let port = found.as_ref().ok().and_then(|found| self.port_of(found.target.port()));
        match (found, port) {
            (Ok(Datagram { source, target, payload }), Some(port)) if self.hears(port, source, target.ip()) => {
                let payload = place.start + payload.start..place.start + payload.end;
                Some(Packet { frame: Some(frame), payload, port, source })
            }
            (found, _) => {
                if let Err(reason) = found {
                    // Of no leg: where it says it goes may be the damage.
                    lost(Port { slot: u32::MAX, channel: Channel::Rtp }, reason);
                }
                self.queue.bytes(&frame)[place].fill(0);
                self.queue.release(frame);
                None
            }
        }
    }

    fn port_of(&self, number: u16) -> Option<Port> {
        let offset = number.checked_sub(self.first_port)?;
        let channel = if offset.is_multiple_of(2) { Channel::Rtp } else { Channel::Rtcp };
        Some(Port { slot: u32::from(offset / 2), channel })
    }

    /// As the port's socket would: on its own address and, while it is connected, from its peer.
    fn hears(&self, port: Port, source: SocketAddr, target: IpAddr) -> bool {
        let leg = self.legs.get(port.slot as usize).and_then(Option::as_ref);
        leg.is_some_and(|leg| {
            let is_from_peer = leg.connected.is_none_or(|peer| peer == source);
            leg.address == target && (is_from_peer || port.channel == Channel::Rtcp)
        })
    }

    /// The way to a packet's target, with the address and the mark of its leg. Asks for what is not known or has grown old.
    fn path(&mut self, send: &Send) -> Option<(Path, IpAddr, u8)> {
        let leg = self.legs.get_mut(send.port.slot as usize)?.as_mut()?;
        let target = send.to.ip();
        if target.is_ipv4() != leg.address.is_ipv4() {
            return None;
        }
        let is_known = leg.way.as_ref().is_some_and(|way| way.target == target);
        // A leg has one way, that of its RTP.
        if !is_known && leg.way.is_some() && send.port.channel == Channel::Rtcp {
            return None;
        }
        let way = match &mut leg.way {
            Some(way) if is_known => {
                if self.now.since(way.asked_at) >= PATH_AGE_MAX {
                    way.asked_at = self.now;
                    self.asking.ask(send.port.slot, leg.address, target);
                }
                way
            }
            way => {
                self.asking.ask(send.port.slot, leg.address, target);
                way.insert(Way { target, asked_at: self.now, path: None })
            }
        };
        way.path.map(|path| (path, leg.address, leg.dscp))
    }

    /// Puts a packet ready for the card; `None`: it must go through the kernel.
    fn send_past_kernel(&mut self, number: usize, send: &Send) -> Option<Result<(), DropReason>> {
        let (path, address, dscp) = self.path(send)?;
        let ip_bytes = if address.is_ipv6() { frame::IPV6_BYTES } else { frame::IPV4_BYTES };
        if ip_bytes + frame::UDP_BYTES + send.len > path.mtu {
            return None;
        }
        let (frame, start) = self.frame_of(number, send)?;
        let addresses = (SocketAddr::new(address, self.number_of(send.port)), send.to);
        let payload = start..start + send.len;
        let bytes = self.queue.bytes(&frame);
        let Some(begin) = write_headers(bytes, payload.clone(), &path.ethernet, addresses, dscp) else {
            self.queue.release(frame);
            return Some(Err(DropReason::SendFailed));
        };
        let end = payload.end.max(begin + FRAME_BYTES_MIN);
        bytes[payload.end..end].fill(0);
        self.queue.send(frame, begin..end, send.is_plain);
        self.bypassed.sent += 1;
        Some(Ok(()))
    }

    /// A frame that holds the packet behind room for headers, and where.
    fn frame_of(&mut self, number: usize, send: &Send) -> Option<(Frame, usize)> {
        if let Some(packet) = number.checked_sub(self.from_sockets) {
            let Packet { frame, payload, .. } = &mut self.packets[packet];
            return frame.take().map(|frame| (frame, payload.start));
        }
        let frame = self.queue.take()?;
        let bytes = self.sockets.sent_bytes(number, send);
        self.queue.bytes(&frame)[HEADERS_BYTES_MAX..HEADERS_BYTES_MAX + send.len].copy_from_slice(bytes);
        if send.is_plain {
            bytes.fill(0);
        }
        Some((frame, HEADERS_BYTES_MAX))
    }

    fn number_of(&self, port: Port) -> u16 {
        let rtp = ports::rtp_port(self.first_port, port.slot);
        match port.channel {
            Channel::Rtp => rtp,
            Channel::Rtcp => rtp + 1,
        }
    }
}

impl Carrier for Io {
    fn wait(&mut self, timeout: Option<Duration>) -> Woken {
        self.queue.poll(timeout == Some(Duration::ZERO));
        let timeout = match self.queue.is_sending() {
            true => Some(timeout.map_or(SENDING_WAIT, |timeout| timeout.min(SENDING_WAIT))),
            false => timeout,
        };
        let woken = self.sockets.wait(timeout);
        Woken { by_packets: woken.by_packets || self.queue.has_received(), ..woken }
    }

    fn bypassed(&self) -> Bypassed {
        self.bypassed
    }
}

impl PacketIo for Io {
    fn receive(&mut self, now: Instant, mut lost: impl FnMut(Port, DropReason)) -> usize {
        self.now = now;
        self.take_answers();
        self.from_sockets = self.sockets.receive(now, &mut lost);
        for _ in 0..ROUND_PACKETS_MAX {
            let Some((frame, place)) = self.queue.receive() else { break };
            let packet = self.packet(frame, place, &mut lost);
            self.packets.extend(packet);
        }
        self.bypassed.received += self.packets.len() as u64;
        self.from_sockets + self.packets.len()
    }

    fn received(&mut self, number: usize) -> Received<'_> {
        let Some(number) = number.checked_sub(self.from_sockets) else { return self.sockets.received(number) };
        let Packet { frame, payload, port, source } = &self.packets[number];
        let frame = frame.as_ref().expect("it is not sent yet");
        let end = FRAME_BYTES.min(payload.start + PACKET_BYTES_MAX);
        let buffer = &mut self.queue.bytes(frame)[payload.start..end];
        Received { port: *port, source: *source, buffer, len: payload.len() }
    }

    fn send(&mut self, number: usize, send: &Send) -> Result<(), DropReason> {
        if let Some(sent) = self.send_past_kernel(number, send) {
            return sent;
        }
        match number.checked_sub(self.from_sockets) {
            None => self.sockets.send(number, send),
            Some(number) => {
                let Packet { frame, payload, .. } = &self.packets[number];
                let frame = frame.as_ref().expect("it is not sent yet");
                let bytes = &mut self.queue.bytes(frame)[payload.start..payload.start + send.len];
                self.sockets.send_bytes(send, bytes)
            }
        }
    }

    /// Few enough to go through the kernel.
    fn send_own(&mut self, send: &Send, packet: &mut [u8]) -> Result<(), DropReason> {
        self.sockets.send_bytes(send, packet)
    }

    fn flush(&mut self) {
        for packet in self.packets.drain(..) {
            if let Some(frame) = packet.frame {
                self.queue.release(frame);
            }
        }
        self.queue.kick();
        self.asking.notify();
    }

    fn bind(&mut self, slot: u32, address: IpAddr, dscp: u8) -> Result<(), CannotBind> {
        self.legs[slot as usize] = None;
        self.sockets.bind(slot, address, dscp)?;
        self.legs[slot as usize] = Some(Leg { address, dscp, connected: None, way: None });
        Ok(())
    }

    fn unbind(&mut self, slot: u32) {
        self.sockets.unbind(slot);
        self.legs[slot as usize] = None;
    }

    fn connect(&mut self, port: Port, remote: Option<SocketAddr>) {
        self.sockets.connect(port, remote);
        if let Some(leg) = &mut self.legs[port.slot as usize] {
            leg.connected = remote;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// A configuration with these keys of `[media]`.
    fn media(keys: &str) -> Media {
        let text = format!("[media]\n{keys}\n[company]\nname = \"x\"\nregion = \"US\"\n");
        config::parse(&text).unwrap().0.media.clone()
    }

    #[test]
    fn the_program_is_told_all_ports_of_each_worker() {
        let of = |ports: &RangeInclusive<u16>, workers: u16| -> Vec<_> {
            let ports = Ports::new(ports, workers);
            (0..workers).map(|worker| range(ports.slots(worker))).collect()
        };
        assert_eq!(of(&(20_000..=20_007), 1), [20_000..=20_007]);
        assert_eq!(of(&(20_001..=20_008), 1), [20_002..=20_007]);
        assert_eq!(of(&(20_000..=20_009), 2), [20_000..=20_005, 20_006..=20_009]);
        assert_eq!(of(&(65_532..=65_535), 2), [65_532..=65_533, 65_534..=65_535]);
        assert!(of(&(20_000..=20_003), 3)[2].is_empty());
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_with_the_remedy() {
        let wanted = media("backend = \"xdp\"\nxdp_interface = \"nowhere0\"");
        let opened = Card::open(&wanted, 1).unwrap_err();
        assert_eq!(opened.cause, "there is no interface nowhere0");
        let all = missing(&wanted, 1).unwrap_err();
        assert_eq!(all[0], opened);
        assert!(all.iter().all(|it| !it.remedy.is_empty() && it.to_string().ends_with('.')), "{all:?}");
    }

    #[test]
    fn every_way_to_have_no_queue_is_explained() {
        let errors = [Errno::AFNOSUPPORT, Errno::PERM, Errno::NOBUFS, Errno::BUSY, Errno::INVAL, Errno::IO];
        let mut causes: Vec<_> = errors.into_iter().map(|error| no_queue(error).cause).collect();
        causes.sort();
        causes.dedup();
        assert_eq!(causes.len(), errors.len(), "{causes:?}");
    }
}
