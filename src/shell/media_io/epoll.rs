//! The portable backend: one thread per worker, level-triggered epoll, one `recv` and one `send` per event, in rounds.
//!
//! Owns the sockets and the packet buffers. Decides nothing: [`Worker`] does.

use std::{
    collections::VecDeque,
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
/// How stale published counters may be.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// When to try again to hand over events that found their ring full.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(10);
/// The epoll token of the command eventfd; no socket has it, since slots are 32 bits.
const WAKE_TOKEN: u64 = u64::MAX;

/// Everything one worker thread owns.
pub(super) struct Backend {
    clock: Clock,
    worker: Worker,
    sockets: Sockets,
    commands: Consumer<Command>,
    wake: Wake,
    events: Events,
    published: Arc<Published>,
    /// When to publish; `None`: nothing has changed.
    publish_at: Option<Instant>,
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
            worker: Worker::new(worker, slots),
            sockets,
            commands,
            wake,
            events: Events { ring: events, ready, backlog: VecDeque::new() },
            published,
            publish_at: None,
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
        }
    }

    /// Before each round, not only when woken: what a peer sends in answer to our signalling must find the leg as that
    /// signalling described it, and its command went into the ring first. Returns whether there was any.
    fn take_commands(&mut self, now: Instant, ready: &[epoll::Event]) -> bool {
        if ready.iter().any(|event| event.data.u64() == WAKE_TOKEN) {
            self.wake.clear();
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
            if self.sockets.send(&send, packet).is_err() {
                self.worker.send_failed(send.port);
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
        let backlog_at = (!self.events.hand_over()).then(|| now + BACKLOG_INTERVAL);
        [worker_at, self.publish_at, backlog_at].into_iter().flatten().min()
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

    /// One datagram; `None`: there was none, or an ICMP error of an earlier one, which this consumes.
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
        retry_on_intr(|| match is_connected {
            true => send(fd, bytes, SendFlags::empty()),
            false => sendto(fd, bytes, SendFlags::empty(), &packet.to),
        })?;
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
    bind(&fd, &address)?;
    Ok(fd)
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
    use super::*;

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
