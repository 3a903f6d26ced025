//! What the core tells a worker, and what a worker tells the core. One way each; nobody waits.

use std::net::{IpAddr, SocketAddr};

use super::{
    formats::{Codec, Formats},
    protection::History,
    tone::Law,
};
use crate::{
    config::Network,
    types::LegId,
    wire::{
        classify::Traffic,
        srtp::{MasterKey, Suite},
    },
};

/// From the core to one worker. Commands for a generation that is no longer current are ignored.
#[derive(Debug)]
pub enum Command {
    /// Bind the slot's ports on `address`, for an `Open` with the same leg that may come; what arrives before is dropped.
    Bind { leg: LegId, address: IpAddr },
    /// Bind the slot's ports on `address` and listen, if they are not bound there already. What they send is marked with
    /// `dscp` (RFC 2474). Nothing is relayed before `Configure` and `Connect`.
    Open { leg: LegId, address: IpAddr, dscp: u8 },
    /// Set or change what offer and answer settled. An unchanged key and suite keep their SRTP contexts; a changed one
    /// starts fresh, and the last two receive keys stay valid for two seconds each. Datagrams need plain protection. `history`: what
    /// another leg, closed since, has received of the same peer; contexts under the same keys go on from there.
    Configure {
        leg: LegId,
        traffic: Traffic,
        remote: Remote,
        formats: Formats,
        receive: Protection,
        send: Protection,
        history: Option<Box<History>>,
    },
    /// Packets of each are relayed to the other (both on this worker, and of one kind of traffic). Replaces an earlier
    /// connection of either.
    Connect { a: LegId, b: LegId },
    /// From now on the peer is expected to be heard whenever it may send and wants to hear: tell of its silences.
    Watch { leg: LegId },
    /// Report now, and go on.
    Report { leg: LegId },
    /// Send the special information tone once, for a second, to where the peer of a configured leg hears. It ends with the leg.
    Play { leg: LegId, tone: Tone },
    /// Close the ports, wipe the keys, report once more. Its peer stays open.
    Close { leg: LegId },
}

/// Where a peer's media goes and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where to send RTP, or datagrams, until an authenticated source latches; `None`: nothing is sent.
    pub rtp: Option<SocketAddr>,
    pub rtcp: Rtcp,
    /// The host its signalling comes from; `None`: through a proxy, which may stand anywhere.
    pub host: Option<IpAddr>,
    /// From where else its plain packets may come.
    pub network: Option<Network>,
    /// The peer wants to receive (its direction is sendrecv or recvonly).
    pub wants_media: bool,
    /// The peer may send (its direction is sendrecv or sendonly); its packets are dropped otherwise.
    pub may_send: bool,
}

/// Where a peer's RTCP goes and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp {
    /// The port of RTP (RFC 5761).
    Multiplexed,
    /// A port of its own; `None`: where it is will be known when an authenticated packet comes from there.
    Port(Option<SocketAddr>),
}

/// The RTP stream of a tone; what must be random in it is given (RFC 3550 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone {
    pub law: Law,
    pub payload_type: u8,
    pub ssrc: u32,
    /// Of the first packet. Far from the wrap, before which a lost packet could make the receiver miss it (RFC 3711 section
    /// 3.3.1).
    pub sequence: u16,
    /// Of the first packet, in samples.
    pub timestamp: u32,
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
    /// The ports could not be bound, ahead or for the leg.
    OpenFailed { leg: LegId },
    /// Too many commands wait for the worker: it was not even handed the one that opens this leg.
    Overrun { leg: LegId },
    /// First authenticated (or, for plain legs, accepted) packet.
    Flowing { leg: LegId },
    /// Nothing that its peer could play has come from a watched leg for almost two seconds. Once for each silence.
    Silent { leg: LegId, silence: Silence },
    /// The silence is over: the peer is heard again, or is not expected to be.
    Heard { leg: LegId },
    /// The answer to [`Command::Report`]; none comes for a leg that is closed.
    Report { leg: LegId, report: Box<LegReport> },
    /// The leg is gone; its slot may be reused. `history`: for a leg that goes on with the peer.
    Closed { leg: LegId, report: Box<LegReport>, history: History },
    /// Of the last second, this worker spent so much not waiting for packets, in thousandths. Told when it has changed.
    Load { worker: u16, busy_permille: u16 },
}

impl Event {
    /// `None`: it is about the worker itself.
    pub const fn leg(&self) -> Option<LegId> {
        match self {
            Self::OpenFailed { leg }
            | Self::Overrun { leg }
            | Self::Flowing { leg }
            | Self::Silent { leg, .. }
            | Self::Heard { leg }
            | Self::Report { leg, .. }
            | Self::Closed { leg, .. } => Some(*leg),
            Self::Load { .. } => None,
        }
    }
}

/// Why a peer is not heard, as far as its packets tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    pub cause: SilenceCause,
    /// RTCP still comes: the peer lives, and the way from it is open.
    pub has_rtcp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceCause {
    NoPackets,
    /// Packets come whose tags do not verify.
    NotAuthentic,
    /// Packets come with payload types that were not settled.
    WrongPayloadType,
    /// Plain packets come from an address that was not signalled.
    WrongSource,
    /// Packets come again, or begin anew under a key that has come further.
    Replayed,
    /// Packets come of more SSRCs than one key may have.
    TooManySsrcs,
}

impl SilenceCause {
    pub const ALL: [Self; 6] = [
        Self::NoPackets,
        Self::NotAuthentic,
        Self::WrongPayloadType,
        Self::WrongSource,
        Self::Replayed,
        Self::TooManySsrcs,
    ];

    /// The label of metric and record.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoPackets => "no_packets",
            Self::NotAuthentic => "authentication",
            Self::WrongPayloadType => "payload_type",
            Self::WrongSource => "source",
            Self::Replayed => "replay",
            Self::TooManySsrcs => "too_many_ssrcs",
        }
    }
}

/// What a leg saw, for the CDR. Counts are of packets from and to this leg's peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LegReport {
    pub packets_received: u64,
    pub packets_sent: u64,
    /// Packets dropped for a failed tag, replay or foreign source.
    pub packets_refused: u64,
    /// What came from the peer, as seen here.
    pub received: Delivery,
    /// What went to the peer, as the peer reports it; `None`: it reports nothing.
    pub sent: Option<Delivery>,
    /// Last round trip measured from the peer's reports, in milliseconds.
    pub round_trip_ms: Option<f64>,
    pub silences: u32,
    /// Their sum, one that has not ended included.
    pub silent_ms: u64,
}

/// How well one direction of a leg delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delivery {
    pub packets_expected: u64,
    /// By sequence numbers, RFC 3550 appendix A.3; over all SSRCs.
    pub packets_lost: u64,
    /// Interarrival jitter at the end, RFC 3550 appendix A.8, in milliseconds; 0 where the clock rate is unknown.
    pub jitter_ms: f64,
    /// `None`: nothing was lost, or nobody knows.
    pub bursts: Option<BurstLoss>,
    /// Mean opinion score of a conversation, 1 to 5; `None` where it would have to be guessed.
    pub mos: Option<f64>,
    /// Of the last packet; `None` where it was not settled.
    pub codec: Option<Codec>,
}

/// How loss is spread (RFC 3611 section 4.7.2, with a `Gmin` of 16). Ratios are 0 to 1, durations means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BurstLoss {
    pub burst_loss: f64,
    pub burst_ms: f64,
    pub gap_loss: f64,
    pub gap_ms: f64,
}
