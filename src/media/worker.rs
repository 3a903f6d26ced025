//! One media worker: legs by slot, commands in, packets through, events out.

use std::net::SocketAddr;

use crate::types::{Instant, reason::DropCounters};

use super::command::{Command, Event};

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
}

/// All legs of one core.
pub struct Worker {}

impl Worker {
    /// `slots`: port pairs of this worker.
    pub fn new(worker: u16, slots: u32) -> Self {
        let _ = (worker, slots);
        todo!()
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        let _ = (now, input);
        todo!()
    }

    pub fn poll_output(&mut self) -> Output {
        todo!()
    }

    /// The hot path: one received datagram in `buffer[..len]`; on success the packet to send lies in the same buffer.
    /// No allocation, lock or log. After it, [`Worker::poll_output`] may have a `Connect` or `Event`: drain when
    /// [`Worker::has_output`].
    pub fn receive(
        &mut self,
        now: Instant,
        port: Port,
        source: SocketAddr,
        buffer: &mut [u8],
        len: usize,
    ) -> Option<Send> {
        let _ = (now, port, source, buffer, len);
        todo!()
    }

    pub fn has_output(&self) -> bool {
        todo!()
    }

    pub fn drops(&self) -> &DropCounters {
        todo!()
    }

    /// Open legs.
    pub fn len(&self) -> usize {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
