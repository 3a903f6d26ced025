//! The seam between a [`Worker`] and what carries its packets: the kernel's sockets, the rings of a network card, or a
//! simulated network. What a round does is written here once, for all of them.

use std::net::{IpAddr, SocketAddr};

use crate::types::{DropReason, Instant, secret::wipe_stack};

use super::{
    command::Event,
    worker::{Input, Output, Port, Send, Worker},
};

/// What a worker's packets come and go by. It owns the buffers and decides nothing.
pub trait PacketIo {
    /// Takes in what is there, a round at most; its packets are numbered from 0. `lost` hears of packets that did not arrive:
    /// those sent before, and those that came damaged.
    fn receive(&mut self, now: Instant, lost: impl FnMut(Port, DropReason)) -> usize;

    /// A packet of the round.
    fn received(&mut self, number: usize) -> Received<'_>;

    /// Sends what the worker has left in the buffer of this packet; what is plain is wiped once it has left.
    fn send(&mut self, number: usize, send: &Send) -> Result<(), DropReason>;

    /// Sends a packet of the worker's own making.
    fn send_own(&mut self, send: &Send, packet: &mut [u8]) -> Result<(), DropReason>;

    /// The end of a round: what was only put ready leaves, and packets that were not sent are let go of.
    fn flush(&mut self);

    /// Both ports of a slot, and their mark. Those that are bound on this address stay, on another they are closed.
    fn bind(&mut self, slot: u32, address: IpAddr, dscp: u8) -> Result<(), CannotBind>;

    fn unbind(&mut self, slot: u32);

    /// From now on the port hears this peer only, or (`None`) everyone. Failing costs speed only.
    fn connect(&mut self, port: Port, remote: Option<SocketAddr>);
}

/// A packet in its buffer, which has room for what protection appends.
#[derive(Debug)]
pub struct Received<'a> {
    pub port: Port,
    pub source: SocketAddr,
    pub buffer: &'a mut [u8],
    pub len: usize,
}

/// A port of the slot is in use, or its address is not of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotBind;

/// Receives, relays and sends what is there. `to_send` is empty before and after; it is kept for its memory.
///
/// All packets take one step before any takes the next, so that the code and tables of a step stay in the cache for
/// all of them: relayed one by one, each costs about a tenth more.
pub fn relay_round(now: Instant, worker: &mut Worker, io: &mut impl PacketIo, to_send: &mut Vec<(usize, Send)>) {
    let count = io.receive(now, |port, reason| worker.packet_lost(port, reason));
    for number in 0..count {
        let Received { port, source, buffer, len } = io.received(number);
        to_send.extend(worker.receive(now, port, source, buffer, len).map(|send| (number, send)));
    }
    // Without optimisation, functions that decrypt leave copies on the stack.
    if cfg!(debug_assertions) && count > 0 {
        wipe_stack();
    }
    for (number, send) in to_send.drain(..) {
        if let Err(reason) = io.send(number, &send) {
            worker.packet_lost(send.port, reason);
        }
    }
    io.flush();
}

/// Does what the worker asks for; returns when it must be looked at again.
pub fn perform_outputs(
    now: Instant,
    worker: &mut Worker,
    io: &mut impl PacketIo,
    mut tell: impl FnMut(Event),
) -> Option<Instant> {
    loop {
        match worker.poll_output() {
            Output::Bind { slot, address, dscp } => {
                if io.bind(slot, address, dscp).is_err() {
                    worker.handle_input(now, Input::BindFailed { slot });
                }
            }
            Output::Unbind { slot } => io.unbind(slot),
            Output::Connect { port, remote } => io.connect(port, remote),
            Output::Transmit { send, mut packet } => {
                if let Err(reason) = io.send_own(&send, &mut packet[..send.len]) {
                    worker.packet_lost(send.port, reason);
                }
            }
            Output::Event(event) => tell(event),
            Output::Timeout(at) => return at,
        }
    }
}
