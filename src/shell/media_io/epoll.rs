//! The portable backend: level-triggered epoll, one `recv` and one `send` per event.

use std::{
    iter,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{Timespec, epoll},
    io::{Errno, Result, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, connect_unspec, recvfrom, send,
        sendto, socket_with, sockopt,
    },
};
use zeroize::Zeroizing;

use super::{
    event_loop::{Carrier, ROUND_PACKETS_MAX, Woken},
    icmp,
};
use crate::{
    media::{
        packet_io::{CannotBind, PacketIo, Received},
        ports,
        worker::{Channel, Port, Send},
    },
    shell::dscp,
    types::{DropReason, Duration, Instant, limits::PACKET_BYTES_MAX},
};

/// Kernel buffer per socket: some 150 packets of audio, or one key frame of video. Bounds what a flood can occupy.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;
/// Errors taken from a socket before the next look at the others.
const ERRORS_PER_ROUND_MAX: usize = 32;
/// The epoll token of the command eventfd; no socket has it, since slots are 32 bits.
const WAKE_TOKEN: u64 = u64::MAX;
/// Of a queue that is read beside the sockets.
const QUEUE_TOKEN: u64 = u64::MAX - 1;

/// A worker's sockets, and the packets between one look at them and the next.
pub(super) struct Io {
    sockets: Sockets,
    ready: Vec<(u64, epoll::EventFlags)>,
    /// One per event, the only place where a packet ever is.
    buffers: Zeroizing<Vec<[u8; PACKET_BYTES_MAX]>>,
    datagrams: Vec<Datagram>,
}

struct Datagram {
    buffer: usize,
    port: Port,
    source: SocketAddr,
    len: usize,
}

impl Io {
    /// `slots` port pairs from `first_port` on; `wake` ends a wait, too.
    pub(super) fn new((first_port, slots): (u16, u32), wake: impl AsFd) -> Result<Self> {
        let sockets = Sockets::new(first_port, slots)?;
        epoll::add(&sockets.epoll, wake, epoll::EventData::new_u64(WAKE_TOKEN), epoll::EventFlags::IN)?;
        Ok(Self {
            sockets,
            ready: Vec::with_capacity(ROUND_PACKETS_MAX),
            buffers: Zeroizing::new(vec![[0; PACKET_BYTES_MAX]; ROUND_PACKETS_MAX]),
            datagrams: Vec::with_capacity(ROUND_PACKETS_MAX),
        })
    }

    /// A queue with packets ends a wait, too.
    pub(super) fn watch(&self, queue: impl AsFd) -> Result<()> {
        let token = epoll::EventData::new_u64(QUEUE_TOKEN);
        epoll::add(&self.sockets.epoll, queue, token, epoll::EventFlags::IN)
    }

    /// What the worker has left to send in the buffer of this packet.
    pub(super) fn sent_bytes(&mut self, number: usize, send: &Send) -> &mut [u8] {
        &mut self.buffers[self.datagrams[number].buffer][..send.len]
    }

    /// Sends bytes from a buffer elsewhere, which are wiped where they are plain.
    pub(super) fn send_bytes(&self, send: &Send, bytes: &mut [u8]) -> std::result::Result<(), DropReason> {
        let sent = self.sockets.send(send, bytes);
        if send.is_plain {
            bytes.fill(0);
        }
        sent.map_err(reason_of)
    }
}

impl Carrier for Io {
    fn wait(&mut self, timeout: Option<Duration>) -> Woken {
        self.sockets.wait(&mut self.ready, timeout);
        let by_core = self.ready.iter().any(|(token, _)| *token == WAKE_TOKEN);
        Woken { by_core, by_packets: self.ready.len() > usize::from(by_core) }
    }
}

impl PacketIo for Io {
    /// One packet of each socket that is ready.
    fn receive(&mut self, _now: Instant, mut lost: impl FnMut(Port, DropReason)) -> usize {
        self.datagrams.clear();
        let of_sockets = self.ready.drain(..).enumerate().filter(|(_, (token, _))| *token < QUEUE_TOKEN);
        for (buffer, (token, flags)) in of_sockets {
            let port = port_of(token);
            if flags.contains(epoll::EventFlags::ERR) {
                self.sockets.take_errors(port, |reason| lost(port, reason));
            }
            if let Some((len, source)) = self.sockets.receive(port, &mut self.buffers[buffer]) {
                self.datagrams.push(Datagram { buffer, port, source, len });
            }
        }
        self.datagrams.len()
    }

    fn received(&mut self, number: usize) -> Received<'_> {
        let Datagram { buffer, port, source, len } = self.datagrams[number];
        Received { port, source, buffer: &mut self.buffers[buffer], len }
    }

    fn send(&mut self, number: usize, send: &Send) -> std::result::Result<(), DropReason> {
        let packet = &mut self.buffers[self.datagrams[number].buffer][..send.len];
        let sent = self.sockets.send(send, packet);
        if send.is_plain {
            packet.fill(0);
        }
        sent.map_err(reason_of)
    }

    fn send_own(&mut self, send: &Send, packet: &mut [u8]) -> std::result::Result<(), DropReason> {
        self.send_bytes(send, packet)
    }

    /// Everything has left already.
    fn flush(&mut self) {}

    fn bind(&mut self, slot: u32, address: IpAddr, dscp: u8) -> std::result::Result<(), CannotBind> {
        self.sockets.bind(slot, address, dscp).map_err(|_| CannotBind)
    }

    fn unbind(&mut self, slot: u32) {
        self.sockets.unbind(slot);
    }

    fn connect(&mut self, port: Port, remote: Option<SocketAddr>) {
        self.sockets.connect(port, remote);
    }
}

/// A worker's sockets by slot, all in one epoll set.
struct Sockets {
    epoll: OwnedFd,
    first_port: u16,
    pairs: Vec<Option<Pair>>,
}

struct Pair {
    rtp: OwnedFd,
    rtcp: OwnedFd,
    /// Where both are bound.
    address: IpAddr,
    /// What the RTP socket is connected to.
    connected: Option<SocketAddr>,
}

impl Sockets {
    fn new(first_port: u16, slots: u32) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, first_port, pairs: (0..slots).map(|_| None).collect() })
    }

    /// Returns with the tokens of what is ready, after a signal or after `timeout`.
    fn wait(&self, ready: &mut Vec<(u64, epoll::EventFlags)>, timeout: Option<Duration>) {
        let timeout = timeout.map(|time| Timespec::try_from(time).expect("timers are minutes away at most"));
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); ROUND_PACKETS_MAX];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| (event.data.u64(), event.flags))),
            Err(Errno::INTR) => {}
            Err(error) => panic!("an epoll set and its buffer are valid: {error}"),
        }
    }

    fn bind(&mut self, slot: u32, address: IpAddr, dscp: u8) -> Result<()> {
        let place = &mut self.pairs[slot as usize];
        if let Some(pair) = place.as_ref().filter(|pair| pair.address == address) {
            return [&pair.rtp, &pair.rtcp].iter().try_for_each(|fd| dscp::mark(fd, address.is_ipv6(), dscp));
        }
        *place = None;
        let rtp_port = ports::rtp_port(self.first_port, slot);
        let [rtp, rtcp] = [(Channel::Rtp, rtp_port), (Channel::Rtcp, rtp_port + 1)].map(|(channel, port)| {
            let fd = udp_socket(SocketAddr::new(address, port), dscp)?;
            let token = epoll::EventData::new_u64(token_of(Port { slot, channel }));
            epoll::add(&self.epoll, &fd, token, epoll::EventFlags::IN)?;
            Ok(fd)
        });
        self.pairs[slot as usize] = Some(Pair { rtp: rtp?, rtcp: rtcp?, address, connected: None });
        Ok(())
    }

    /// Closing a socket also takes it out of the epoll set.
    fn unbind(&mut self, slot: u32) {
        self.pairs[slot as usize] = None;
    }

    /// A failure leaves the socket unconnected, which is slower but not wrong.
    fn connect(&mut self, port: Port, remote: Option<SocketAddr>) {
        let Some(pair) = &mut self.pairs[port.slot as usize] else { return };
        pair.connected = match remote {
            Some(remote) => connect(&pair.rtp, &remote).is_ok().then_some(remote),
            None => connect_unspec(&pair.rtp).map_or(pair.connected, |()| None),
        };
    }

    /// Empties a socket's queue of errors that earlier packets have met on their way.
    fn take_errors(&self, port: Port, count: impl FnMut(DropReason)) {
        let Some(pair) = &self.pairs[port.slot as usize] else { return };
        let errors = iter::from_fn(|| icmp::next(pair.fd(port.channel)));
        errors.take(ERRORS_PER_ROUND_MAX).for_each(count);
    }

    /// One datagram; `None`: there was none, or the notice of an error, which this consumes.
    ///
    /// The source is asked for even on a connected socket, since packets of others may have been queued before.
    fn receive(&self, port: Port, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let fd = self.pairs[port.slot as usize].as_ref()?.fd(port.channel);
        let (len, _, source) = retry_on_intr(|| recvfrom(fd, &mut *buffer, RecvFlags::empty())).ok()?;
        Some((len, SocketAddr::try_from(source?).ok()?))
    }

    fn send(&self, packet: &Send, bytes: &[u8]) -> Result<()> {
        let pair = self.pairs[packet.port.slot as usize].as_ref().ok_or(Errno::BADF)?;
        let fd = pair.fd(packet.port.channel);
        let is_connected = packet.port.channel == Channel::Rtp && pair.connected == Some(packet.to);
        let once = || {
            retry_on_intr(|| match is_connected {
                true => send(fd, bytes, SendFlags::empty()),
                false => sendto(fd, bytes, SendFlags::empty(), &packet.to),
            })
        };
        // The notice of an error that an earlier packet has met is given in the place of sending this one.
        once().or_else(|_| once())?;
        Ok(())
    }
}

impl Pair {
    const fn fd(&self, channel: Channel) -> &OwnedFd {
        match channel {
            Channel::Rtp => &self.rtp,
            Channel::Rtcp => &self.rtcp,
        }
    }
}

fn udp_socket(address: SocketAddr, dscp: u8) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = socket_with(family, SocketType::DGRAM, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    sockopt::set_socket_recv_buffer_size(&fd, RECEIVE_BUFFER_BYTES)?;
    // Sent with DF; what is larger than the path is known to take is fragmented here, since this relay can make no packet
    // smaller and most of a picture is worth more than none.
    match address.is_ipv6() {
        true => sockopt::set_ipv6_mtu_discover(&fd, sockopt::Ipv6PathMtuDiscovery::WANT)?,
        false => sockopt::set_ip_mtu_discover(&fd, sockopt::Ipv4PathMtuDiscovery::WANT)?,
    }
    icmp::enable(&fd, address.is_ipv6())?;
    dscp::mark(&fd, address.is_ipv6(), dscp)?;
    bind(&fd, &address)?;
    Ok(fd)
}

const fn reason_of(error: Errno) -> DropReason {
    match error {
        Errno::MSGSIZE => DropReason::PathMtu,
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN => DropReason::PeerUnreachable,
        _ => DropReason::SendFailed,
    }
}

const fn token_of(port: Port) -> u64 {
    let channel = match port.channel {
        Channel::Rtp => 0,
        Channel::Rtcp => 1,
    };
    (port.slot as u64) << 1 | channel
}

fn port_of(token: u64) -> Port {
    let slot = u32::try_from(token >> 1).expect("a token is a 32-bit slot and one bit");
    Port { slot, channel: if token & 1 == 0 { Channel::Rtp } else { Channel::Rtcp } }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsRawFd as _};

    use super::{super::tests::free_ports, *};

    const RTP: Port = Port { slot: 0, channel: Channel::Rtp };
    const RTCP: Port = Port { slot: 0, channel: Channel::Rtcp };

    /// The sockets of one slot on loopback.
    fn sockets(ip: &str, dscp: u8) -> Sockets {
        let mut sockets = Sockets::new(*free_ports(2).start(), 1).unwrap();
        sockets.bind(0, ip.parse().unwrap(), dscp).unwrap();
        sockets
    }

    /// What one look at the sockets gives, taken as a round takes it: the errors of the socket that has any.
    fn errors(sockets: &Sockets) -> Vec<(Port, DropReason)> {
        let mut ready = Vec::with_capacity(ROUND_PACKETS_MAX);
        sockets.wait(&mut ready, Some(Duration::from_millis(200)));
        let mut errors = Vec::new();
        for (token, flags) in ready {
            let port = port_of(token);
            assert!(flags.contains(epoll::EventFlags::ERR));
            sockets.take_errors(port, |reason| errors.push((port, reason)));
            assert_eq!(sockets.receive(port, &mut [0; 64]), None);
        }
        errors
    }

    #[test]
    fn both_sockets_of_a_slot_are_marked() {
        for (ip, mark) in [("127.0.0.1", 46), ("::1", 46), ("127.0.0.1", 34), ("::1", 0)] {
            let sockets = sockets(ip, mark);
            let pair = sockets.pairs[0].as_ref().unwrap();
            for fd in [&pair.rtp, &pair.rtcp] {
                assert_eq!(dscp::of(fd, ip == "::1"), mark, "{ip}");
            }
        }
    }

    #[test]
    fn ports_that_are_bound_stay_bound_and_are_marked_anew_and_move_to_another_address() {
        let mut sockets = sockets("127.0.0.1", 0);
        let ports = |ip: &str| [0, 1].map(|n| UdpSocket::bind((ip, sockets.first_port + n)).is_err());
        assert_eq!((ports("127.0.0.1"), ports("::1")), ([true; 2], [false; 2]));
        let rtp = sockets.pairs[0].as_ref().unwrap().rtp.as_raw_fd();
        sockets.bind(0, "127.0.0.1".parse().unwrap(), 46).unwrap();
        let pair = sockets.pairs[0].as_ref().unwrap();
        assert_eq!((pair.rtp.as_raw_fd(), dscp::of(&pair.rtp, false), dscp::of(&pair.rtcp, false)), (rtp, 46, 46));
        sockets.bind(0, "::1".parse().unwrap(), 34).unwrap();
        let ports = |ip: &str| [0, 1].map(|n| UdpSocket::bind((ip, sockets.first_port + n)).is_err());
        assert_eq!((ports("127.0.0.1"), ports("::1")), ([false; 2], [true; 2]));
        assert_eq!(dscp::of(&sockets.pairs[0].as_ref().unwrap().rtp, true), 34);
    }

    #[test]
    fn a_closed_port_is_noticed_on_sockets_that_are_not_connected_and_wakes_nobody_again() {
        for ip in ["127.0.0.1", "::1"] {
            let sockets = sockets(ip, 0);
            let closed = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
            for port in [RTP, RTCP] {
                for _ in 0..3 {
                    let packet = Send { port, to: closed, len: 4, is_plain: true };
                    assert_eq!(sockets.send(&packet, b"late"), Ok(()), "an earlier error does not cost a packet");
                }
                let found = errors(&sockets);
                assert_eq!(found, [(port, DropReason::PeerUnreachable); 3], "{ip}");
                assert_eq!(errors(&sockets), [], "{ip}: nothing is left to wake for");
            }
        }
    }

    #[test]
    fn a_packet_that_is_too_large_is_counted_once_and_the_next_one_leaves() {
        for ip in ["127.0.0.1", "::1"] {
            let sockets = sockets(ip, 0);
            let peer = UdpSocket::bind((ip, 0)).unwrap();
            let packet = Send { port: RTP, to: peer.local_addr().unwrap(), len: 4, is_plain: true };
            let error = sockets.send(&packet, &[0; 70_000]).unwrap_err();
            assert_eq!(reason_of(error), DropReason::PathMtu);
            assert_eq!(sockets.send(&packet, b"next"), Ok(()));
            assert_eq!(errors(&sockets), [], "{ip}: it was told to the sender already");
            assert_eq!(errors(&sockets), [], "{ip}");
            let mut bytes = [0; 8];
            assert_eq!(peer.recv(&mut bytes).map(|len| &bytes[..len]).unwrap(), b"next");
        }
    }

    #[test]
    fn every_error_of_sending_has_a_name() {
        for (error, reason) in [
            (Errno::MSGSIZE, DropReason::PathMtu),
            (Errno::CONNREFUSED, DropReason::PeerUnreachable),
            (Errno::NETUNREACH, DropReason::PeerUnreachable),
            (Errno::HOSTUNREACH, DropReason::PeerUnreachable),
            (Errno::NOBUFS, DropReason::SendFailed),
            (Errno::AGAIN, DropReason::SendFailed),
        ] {
            assert_eq!(reason_of(error), reason, "{error}");
        }
    }

    #[test]
    fn tokens_name_ports() {
        for slot in [0, 1, u32::MAX] {
            for channel in [Channel::Rtp, Channel::Rtcp] {
                let port = Port { slot, channel };
                assert_eq!(port_of(token_of(port)), port);
                assert!(token_of(port) < QUEUE_TOKEN && QUEUE_TOKEN < WAKE_TOKEN);
            }
        }
    }
}
