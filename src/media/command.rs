//! What the core tells a worker, and what a worker tells the core. One way each; nobody waits.

use std::net::{IpAddr, SocketAddr};

use crate::{
    types::LegId,
    wire::{
        classify::Traffic,
        srtp::{MasterKey, Position, Suite},
    },
};

/// From the core to one worker. Commands for a generation that is no longer current are ignored.
#[derive(Debug)]
pub enum Command {
    /// Bind the slot's ports on `address` and listen. What they send is marked with `dscp` (RFC 2474). Nothing is relayed
    /// before `Configure` and `Connect`.
    Open { leg: LegId, address: IpAddr, dscp: u8 },
    /// Set or change what offer and answer settled. An unchanged key and suite keep their SRTP contexts; a changed one
    /// starts fresh, and the old receive key stays valid for two seconds. Datagrams need plain protection.
    Configure { leg: LegId, traffic: Traffic, remote: Remote, receive: Protection, send: Protection },
    /// Packets of each are relayed to the other (both on this worker, and of one kind of traffic). Replaces an earlier connection of either.
    Connect { a: LegId, b: LegId },
    /// Go on with the stream that a closed leg received under the same key.
    Resume { leg: LegId, position: Position },
    /// Close the ports, wipe the keys, report once more. Its peer stays open.
    Close { leg: LegId },
}

/// Where a peer's media goes and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where to send RTP, or datagrams, until an authenticated source latches; `None`: nothing is sent.
    pub rtp: Option<SocketAddr>,
    /// Where to send RTCP when not multiplexed; `None`: multiplexed on the RTP port.
    pub rtcp: Option<SocketAddr>,
    /// The peer wants to receive (its direction is sendrecv or recvonly).
    pub wants_media: bool,
    /// The peer may send (its direction is sendrecv or sendonly); its packets are dropped otherwise.
    pub may_send: bool,
}

/// Protection of one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    Plain,
    Srtp { suite: Suite, key: MasterKey, mki_bytes: usize },
}

/// From a worker to the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The ports could not be bound.
    OpenFailed { leg: LegId },
    /// First authenticated (or, for plain legs, accepted) packet.
    Flowing { leg: LegId },
    /// The leg is gone; its slot may be reused.
    Closed { leg: LegId, report: LegReport },
}

/// What a leg saw, for the CDR. Counts are of packets from and to this leg's peer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegReport {
    pub packets_received: u64,
    pub packets_sent: u64,
    /// By sequence numbers, RFC 3550 appendix A.3; over all SSRCs.
    pub packets_lost: u64,
    /// Interarrival jitter at the end, RFC 3550 appendix A.8, in milliseconds; 0 where the clock rate is unknown.
    pub jitter_ms: f64,
    /// Last round trip measured from the peer's reports, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Packets dropped for a failed tag, replay or foreign source.
    pub packets_refused: u64,
    /// How far the peer's stream has come, for a leg that goes on with it.
    pub position: Option<Position>,
}
