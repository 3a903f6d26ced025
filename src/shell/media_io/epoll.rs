//! The portable backend: one thread per worker, level-triggered epoll, one `recv` and one `send` per event, in rounds.
//!
//! Owns the sockets and the packet buffers. Decides nothing: [`Worker`] does.

use std::{
    collections::VecDeque,
    iter,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use rtrb::{Consumer, Producer};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::{Errno, Result, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, connect_unspec, recvfrom, send,
        sendto, socket_with, sockopt,
    },
};
use zeroize::Zeroizing;

use super::{
    counters::Published,
    icmp,
    load::LoadMeter,
    wake::{Ready, Wake},
};
use crate::{
    media::{
        Command, Event, Worker, ports,
        worker::{Channel, Input, Output, Port, Send},
    },
    shell::{clock::Clock, dscp},
    types::{DropReason, Duration, Instant, limits::PACKET_BYTES_MAX},
};

/// Packets of a round, between two looks at the clock and the timers. More would not be relayed any cheaper, and the
/// first of them would wait longer.
const ROUND_EVENTS_MAX: usize = 32;
/// Kernel buffer per socket: some 150 packets of audio, or one key frame of video. Bounds what a flood can occupy.
const RECEIVE_BUFFER_BYTES: usize = 128 * 1024;
/// Errors taken from a socket before the next look at the others.
const ERRORS_PER_ROUND_MAX: usize = 32;
/// How stale published counters may be.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// When to try again to hand over events that found their ring full.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(10);
/// The epoll token of the command eventfd; no socket has it, since slots are 32 bits.
const WAKE_TOKEN: u64 = u64::MAX;

/// Everything one worker thread owns.
pub(super) struct Backend {
    clock: Clock,
    number: u16,
    worker: Worker,
    sockets: Sockets,
    commands: Consumer<Command>,
    wake: Wake,
    events: Events,
    published: Arc<Published>,
    /// When to publish; `None`: nothing has changed.
    publish_at: Option<Instant>,
    load: LoadMeter,
    round: Round,
}

/// The packets between one look at the sockets and the next.
struct Round {
    /// One per event, the only place where a packet ever is.
    buffers: Zeroizing<Vec<[u8; PACKET_BYTES_MAX]>>,
    received: Vec<Received>,
    /// With the number of the buffer that each lies in.
    to_send: Vec<(usize, Send)>,
}

struct Received {
    buffer: usize,
    port: Port,
    source: SocketAddr,
    len: usize,
}

/// The ends of the rings between core and worker that belong to the worker.
pub(super) struct Rings {
    pub(super) commands: Consumer<Command>,
    pub(super) wake: Wake,
    pub(super) events: Producer<Event>,
    pub(super) ready: Ready,
}

impl Backend {
    /// `slots` port pairs from `first_port` on, for worker number `worker`.
    pub(super) fn new(
        clock: Clock,
        worker: u16,
        (first_port, slots): (u16, u32),
        rings: Rings,
        published: Arc<Published>,
    ) -> Result<Self> {
        let Rings { commands, wake, events, ready } = rings;
        let sockets = Sockets::new(first_port, slots)?;
        epoll::add(&sockets.epoll, &wake, epoll::EventData::new_u64(WAKE_TOKEN), epoll::EventFlags::IN)?;
        Ok(Self {
            clock,
            number: worker,
            worker: Worker::new(worker, slots),
            sockets,
            commands,
            wake,
            events: Events { ring: events, ready, backlog: VecDeque::new() },
            published,
            publish_at: None,
            load: LoadMeter::default(),
            round: Round {
                buffers: Zeroizing::new(vec![[0; PACKET_BYTES_MAX]; ROUND_EVENTS_MAX]),
                received: Vec::with_capacity(ROUND_EVENTS_MAX),
                to_send: Vec::with_capacity(ROUND_EVENTS_MAX),
            },
        })
    }

    /// Works until the core lets go of the command ring; then closes all sockets and wipes keys and buffer by dropping
    /// them.
    pub(super) fn run(mut self) {
        let mut ready = Vec::with_capacity(ROUND_EVENTS_MAX);
        let (mut now, mut wake_at) = (self.clock.now(), None);
        while !(self.commands.is_abandoned() && self.commands.is_empty()) {
            self.sockets.wait(&mut ready, wake_at.map(|at: Instant| at.since(now)));
            now = self.clock.now();
            // Most rounds relay packets and nothing else: then the machine need not be asked what else there is.
            let mut is_due = wake_at.is_some_and(|at| at <= now);
            if !ready.is_empty() {
                is_due |= self.publish_at.is_none();
                self.publish_at.get_or_insert(now + PUBLISH_INTERVAL);
                self.load.begin(now);
            }
            if self.take_commands(now, &ready) {
                wake_at = self.perform_outputs(now);
            }
            self.receive(&ready);
            self.relay(now);
            self.send();
            ready.clear();
            if is_due || self.worker.has_output() {
                self.worker.handle_input(now, Input::Timeout);
                wake_at = self.perform_outputs(now);
            }
            self.load.add(self.clock.now().since(now));
        }
    }

    /// Before each round, not only when woken: what a peer sends in answer to our signalling must find the leg as that
    /// signalling described it, and its command went into the ring first. Returns whether there was any.
    fn take_commands(&mut self, now: Instant, ready: &[epoll::Event]) -> bool {
        if ready.iter().any(|event| event.data.u64() == WAKE_TOKEN) {
            self.wake.clear();
            self.published.pulse.answer();
        }
        let mut is_any = false;
        while let Ok(command) = self.commands.pop() {
            self.worker.handle_input(now, Input::Command(command));
            is_any = true;
        }
        is_any
    }

    /// First step of a round: one packet of each socket.
    ///
    /// All packets take one step before any takes the next, so that the code and tables of a step stay in the cache for
    /// all of them: relayed one by one, each costs about a tenth more.
    fn receive(&mut self, ready: &[epoll::Event]) {
        for (buffer, event) in ready.iter().enumerate().filter(|(_, event)| event.data.u64() != WAKE_TOKEN) {
            let port = port_of(event.data.u64());
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::ERR) {
                self.sockets.take_errors(port, |reason| self.worker.send_failed(port, reason));
            }
            if let Some((len, source)) = self.sockets.receive(port, &mut self.round.buffers[buffer]) {
                self.round.received.push(Received { buffer, port, source, len });
            }
        }
    }

    /// Second step: from one leg's protection to the other's.
    fn relay(&mut self, now: Instant) {
        for Received { buffer, port, source, len } in self.round.received.drain(..) {
            let send = self.worker.receive(now, port, source, &mut self.round.buffers[buffer], len);
            self.round.to_send.extend(send.map(|send| (buffer, send)));
        }
    }

    /// Third step.
    fn send(&mut self) {
        for (buffer, send) in self.round.to_send.drain(..) {
            let packet = &mut self.round.buffers[buffer][..send.len];
            if let Err(error) = self.sockets.send(&send, packet) {
                self.worker.send_failed(send.port, reason_of(error));
            }
            if send.is_plain {
                packet.fill(0);
            }
        }
    }

    /// Does what the worker asks for; returns when it must be looked at again.
    fn perform_outputs(&mut self, now: Instant) -> Option<Instant> {
        let worker_at = loop {
            match self.worker.poll_output() {
                Output::Bind { slot, address, dscp } => {
                    if self.sockets.bind(slot, address, dscp).is_err() {
                        self.worker.handle_input(now, Input::BindFailed { slot });
                    }
                }
                Output::Unbind { slot } => self.sockets.unbind(slot),
                Output::Connect { port, remote } => self.sockets.connect(port, remote),
                Output::Event(event) => self.events.backlog.push_back(event),
                Output::Timeout(at) => break at,
            }
        };
        if self.publish_at.is_some_and(|at| at <= now) {
            self.published.publish(&self.worker);
            self.publish_at = None;
        }
        // A core that takes no events is told only what it must not miss.
        let can_tell = self.events.backlog.is_empty();
        if let Some(busy_permille) = self.load.measure(now, can_tell) {
            self.events.backlog.push_back(Event::Load { worker: self.number, busy_permille });
        }
        let backlog_at = (!self.events.hand_over()).then(|| now + BACKLOG_INTERVAL);
        [worker_at, self.publish_at, self.load.due_at(), backlog_at].into_iter().flatten().min()
    }
}

/// The way up to the core. The ring is declared, and so dropped, before the last notice is given: that is how the core
/// learns of the end of the thread, even of a panic.
struct Events {
    ring: Producer<Event>,
    ready: Ready,
    backlog: VecDeque<Event>,
}

impl Events {
    /// `false`: the ring is full, try again.
    fn hand_over(&mut self) -> bool {
        if self.backlog.is_empty() {
            return true;
        }
        while let Some(event) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(event)) = self.ring.push(event) {
                self.backlog.push_front(event);
                break;
            }
        }
        self.ready.notify();
        self.backlog.is_empty()
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
    /// What the RTP socket is connected to.
    connected: Option<SocketAddr>,
}

impl Sockets {
    fn new(first_port: u16, slots: u32) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, first_port, pairs: (0..slots).map(|_| None).collect() })
    }

    /// Returns with what is ready, after a signal or after `timeout`.
    fn wait(&self, ready: &mut Vec<epoll::Event>, timeout: Option<Duration>) {
        let timeout = timeout.map(|time| Timespec::try_from(time).expect("timers are minutes away at most"));
        match epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("an epoll set and its buffer are valid: {error}"),
        }
    }

    fn bind(&mut self, slot: u32, address: IpAddr, dscp: u8) -> Result<()> {
        let rtp_port = ports::rtp_port(self.first_port, slot);
        let [rtp, rtcp] = [(Channel::Rtp, rtp_port), (Channel::Rtcp, rtp_port + 1)].map(|(channel, port)| {
            let fd = udp_socket(SocketAddr::new(address, port), dscp)?;
            let token = epoll::EventData::new_u64(token_of(Port { slot, channel }));
            epoll::add(&self.epoll, &fd, token, epoll::EventFlags::IN)?;
            Ok(fd)
        });
        self.pairs[slot as usize] = Some(Pair { rtp: rtp?, rtcp: rtcp?, connected: None });
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
    use std::net::UdpSocket;

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
        let mut ready = Vec::with_capacity(ROUND_EVENTS_MAX);
        sockets.wait(&mut ready, Some(Duration::from_millis(200)));
        let mut errors = Vec::new();
        for event in ready {
            let (port, flags) = (port_of(event.data.u64()), event.flags);
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
                assert_ne!(token_of(port), WAKE_TOKEN);
            }
        }
    }
}
