//! One media worker: legs by slot, commands in, packets through, events out.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use crate::types::{DropReason, Duration, Instant, LegId, reason::DropCounters};

use super::{
    command::{Command, Event},
    leg::{Leg, Legs},
    relay::{self, Datagram},
};

/// How often legs are looked at that time alone may change; only while there is such a leg.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// RTP port or, without multiplexing, the RTCP port above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Rtp,
    Rtcp,
}

/// One socket of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Port {
    pub slot: u32,
    pub channel: Channel,
}

#[derive(Debug)]
pub enum Input {
    Command(Command),
    /// The backend could not bind a slot asked for by [`Output::Bind`].
    BindFailed {
        slot: u32,
    },
    Timeout,
}

/// What the backend must do. Drain until `Timeout`.
#[derive(Debug)]
pub enum Output {
    /// Bind both ports of the slot on this address.
    Bind {
        slot: u32,
        address: std::net::IpAddr,
    },
    Unbind {
        slot: u32,
    },
    /// `connect()` the socket to its latched peer, or (`None`) let it hear everyone again.
    Connect {
        port: Port,
        remote: Option<SocketAddr>,
    },
    Event(Event),
    Timeout(Option<Instant>),
}

/// A packet to send now, from the buffer [`Worker::receive`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    pub port: Port,
    pub to: SocketAddr,
    pub len: usize,
    /// The packet is plain RTP or RTCP: the backend wipes the buffer once it is sent.
    pub is_plain: bool,
}

/// All legs of one core.
pub struct Worker {
    worker: u16,
    legs: Legs,
    open: usize,
    outputs: VecDeque<Output>,
    sweep_at: Option<Instant>,
    drops: DropCounters,
    packets_relayed: u64,
}

impl Worker {
    /// `slots`: port pairs of this worker.
    pub fn new(worker: u16, slots: u32) -> Self {
        Self {
            worker,
            legs: Legs::new(slots),
            open: 0,
            outputs: VecDeque::with_capacity(16),
            sweep_at: None,
            drops: DropCounters::default(),
            packets_relayed: 0,
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Command(command) => self.handle_command(now, command),
            Input::BindFailed { slot } => {
                if let Some(leg) = self.legs.at(slot) {
                    let leg = leg.id;
                    self.outputs.push_back(Output::Event(Event::OpenFailed { leg }));
                }
            }
            Input::Timeout => {
                if self.sweep_at.is_some_and(|at| at <= now) {
                    self.sweep(now);
                }
            }
        }
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or(Output::Timeout(self.sweep_at))
    }

    /// The hot path: one received datagram in `buffer[..len]`; on success the packet to send lies in the same buffer,
    /// otherwise the datagram is wiped. The buffer should be [`PACKET_BYTES_MAX`] long.
    ///
    /// No allocation, lock or log. After it, [`Worker::poll_output`] may have a `Connect` or `Event`: drain when
    /// [`Worker::has_output`].
    ///
    /// [`PACKET_BYTES_MAX`]: crate::types::limits::PACKET_BYTES_MAX
    pub fn receive(
        &mut self,
        now: Instant,
        port: Port,
        source: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Option<Send> {
        let datagram = Datagram { now, port, source, buffer: &mut *buffer, len };
        let relayed = relay::relay(&mut self.legs, &mut self.outputs, datagram);
        if self.has_output() {
            self.arm_sweep(now);
        }
        match relayed {
            Ok(send) => {
                self.packets_relayed += 1;
                Some(send)
            }
            Err(reason) => {
                let end = len.min(buffer.len());
                buffer[..end].fill(0);
                self.count_drop(port, reason);
                None
            }
        }
    }

    /// The backend could not send what [`Worker::receive`] gave it from this port.
    pub fn send_failed(&mut self, port: Port) {
        self.count_drop(port, DropReason::SendFailed);
    }

    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// Packets given back by [`Worker::receive`], RTP and RTCP.
    pub fn packets_relayed(&self) -> u64 {
        self.packets_relayed
    }

    /// Open legs.
    pub fn len(&self) -> usize {
        self.open
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Open { leg, address } => {
                if leg.worker == self.worker && self.legs.insert(Leg::new(leg)) {
                    self.open += 1;
                    self.outputs.push_back(Output::Bind { slot: leg.slot, address });
                }
            }
            Command::Configure { leg, remote, receive, send } => {
                if let Some(leg) = self.legs.get(leg) {
                    leg.configure(now, remote, receive, send, &mut self.outputs);
                    self.arm_sweep(now);
                }
            }
            Command::Connect { a, b } => self.legs.join(a, b),
            Command::Close { leg } => self.close(leg),
        }
    }

    fn close(&mut self, id: LegId) {
        if let Some(leg) = self.legs.remove(id) {
            self.open -= 1;
            self.outputs.push_back(Output::Unbind { slot: id.slot });
            self.outputs.push_back(Output::Event(Event::Closed { leg: id, report: leg.report() }));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut is_needed = false;
        for leg in self.legs.iter_mut() {
            leg.sweep(now, &mut self.outputs);
            is_needed |= leg.needs_sweep();
        }
        self.sweep_at = is_needed.then(|| now + SWEEP_INTERVAL);
    }

    fn arm_sweep(&mut self, now: Instant) {
        self.sweep_at.get_or_insert(now + SWEEP_INTERVAL);
    }

    fn count_drop(&mut self, port: Port, reason: DropReason) {
        self.drops.count(reason);
        if let Some(leg) = self.legs.at(port.slot) {
            leg.count_drop(reason);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("worker", &self.worker).field("open", &self.open).finish_non_exhaustive()
    }
}
