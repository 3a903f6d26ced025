//! One leg: where its peer is, how it is protected, what it has delivered.

use std::{collections::VecDeque, mem, net::SocketAddr};

use crate::{
    types::{DropReason, Duration, Instant, LegId},
    wire::{classify::Traffic, rtp::Header},
};

use super::{
    command::{Event, LegReport, Protection, Remote, Rtcp},
    formats::Formats,
    latch::Latch,
    protection::{History, Receiving, Sending},
    quality::{Heard, Quality},
    silence::{Change, Watch},
    tone::{PACKET_BYTES, Packet},
    worker::{Channel, Output, Port, Send},
};

/// A connected socket hears only its peer. After this much silence it listens to everyone again, since the peer may
/// have moved, or somebody else's packets may be why it is not heard.
const CONNECTED_SILENCE_MAX: Duration = Duration::from_millis(200);

/// Laid out as declared: what each packet reads or writes comes first and close together, since with a thousand legs the
/// cache lines touched are what a packet costs.
#[repr(C, align(64))]
pub(super) struct Leg {
    pub(super) id: LegId,
    /// The slot of the leg whose packets are exchanged with this one's.
    pub(super) peer: Option<u32>,
    /// Whether the RTP socket is connected to the latched source. The RTCP socket never is: it is silent for seconds
    /// between reports.
    is_connected: bool,
    is_flowing: bool,
    pub(super) traffic: Traffic,
    pub(super) may_send: bool,
    wants_media: bool,
    wants_rtcp: bool,
    is_rtcp_muxed: bool,
    last_accepted: Instant,
    packets_received: u64,
    packets_sent: u64,
    /// Of the last packet that went to the peer.
    sent_payload_type: u8,
    sent_ssrc: u32,
    watch: Watch,
    formats: Formats,
    pub(super) rtp: Latch,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    pub(super) quality: Quality,
    /// Of the port for RTCP alone; no packet comes by it where RTCP is multiplexed.
    pub(super) rtcp: Latch,
    packets_refused: u64,
}

impl Leg {
    pub(super) fn new(id: LegId) -> Self {
        Self {
            id,
            peer: None,
            is_connected: false,
            is_flowing: false,
            traffic: Traffic::Rtp,
            may_send: false,
            wants_media: false,
            wants_rtcp: false,
            is_rtcp_muxed: true,
            last_accepted: Instant::default(),
            packets_received: 0,
            packets_sent: 0,
            sent_payload_type: 0,
            sent_ssrc: 0,
            watch: Watch::default(),
            formats: Formats::default(),
            rtp: Latch::by_address(None, None, None),
            sending: Sending::default(),
            receiving: Receiving::default(),
            quality: Quality::default(),
            rtcp: Latch::by_address(None, None, None),
            packets_refused: 0,
        }
    }

    /// Applies what offer and answer settled. A latch holds until signalling changes the address, how sources are trusted
    /// or what they send: a fax may come from elsewhere than the voice before it.
    ///
    /// Not inlined, so that what it leaves on the stack can be wiped by its caller.
    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    #[inline(never)]
    pub(super) fn configure(
        &mut self,
        now: Instant,
        traffic: Traffic,
        remote: Remote,
        formats: Formats,
        (receive, history): (Protection, Option<&History>),
        send: Protection,
        outputs: &mut VecDeque<Output>,
    ) {
        if self.formats != formats {
            self.formats = formats;
            self.quality.formats_changed();
        }
        let is_traffic_kept = mem::replace(&mut self.traffic, traffic) == traffic;
        self.receiving.configure(now, receive, history);
        self.sending.configure(send);
        (self.may_send, self.wants_media) = (remote.may_send, remote.wants_media);
        // Without an address and without media it is the hold of RFC 2543 (RFC 3264 section 8.4).
        self.wants_rtcp = remote.wants_media || remote.rtp.is_some();
        let rtcp = match remote.rtcp {
            Rtcp::Multiplexed => None,
            Rtcp::Port(address) => address.or_else(|| self.rtcp.signalled().filter(|_| is_traffic_kept)),
        };
        self.is_rtcp_muxed = remote.rtcp == Rtcp::Multiplexed;
        // Whoever says nothing of its address has not moved. A fax has no hold.
        let is_rtp_kept = is_traffic_kept && traffic == Traffic::Rtp;
        let rtp = remote.rtp.or_else(|| self.rtp.signalled().filter(|_| is_rtp_kept));
        let is_srtp = self.receiving.is_srtp();
        let latch = |signalled| match is_srtp {
            true => Latch::by_tag(signalled),
            false => Latch::by_address(signalled, remote.host, remote.network),
        };
        let [rtp, rtcp] = [rtp, rtcp].map(latch);
        if !is_traffic_kept || !self.rtp.agrees(&rtp) {
            self.rtp = rtp;
            self.disconnect(outputs);
        }
        if !is_traffic_kept || !self.rtcp.agrees(&rtcp) {
            self.rtcp = rtcp;
        }
        let change = self.watch.expect(now, self.is_expected());
        self.tell(change, outputs);
    }

    /// From now on the peer's silences are told.
    pub(super) fn watch(&mut self, now: Instant) {
        self.watch.begin(now, self.is_expected());
    }

    /// Whoever holds may send music or nothing; whoever is held only listens; and only one side of a fax has much to say.
    const fn is_expected(&self) -> bool {
        matches!(self.traffic, Traffic::Rtp) && self.may_send && self.wants_media
    }

    fn tell(&self, change: Option<Change>, outputs: &mut VecDeque<Output>) {
        let leg = self.id;
        match change {
            None => {}
            Some(Change::Silent(silence)) => outputs.push_back(Output::Event(Event::Silent { leg, silence })),
            Some(Change::Heard) => outputs.push_back(Output::Event(Event::Heard { leg })),
        }
    }

    /// Notes that an RTP packet of `len` bytes from `source` was accepted: latches, connects the socket, counts.
    pub(super) fn rtp_accepted(
        &mut self,
        now: Instant,
        source: SocketAddr,
        (header, len): (&Header, usize),
        outputs: &mut VecDeque<Output>,
    ) {
        let payload_bytes = len.saturating_sub(header.bytes + self.receiving.overhead_bytes());
        match self.quality.packet_received(now, header, payload_bytes, &self.formats) {
            Heard::Unsettled => self.watch.unsettled(),
            heard @ (Heard::Media | Heard::Silence) => {
                let change = self.watch.heard(now, heard == Heard::Silence);
                self.tell(change, outputs);
            }
        }
        self.datagram_accepted(now, source, outputs);
    }

    /// The part of it that holds for what is no RTP, too.
    pub(super) fn datagram_accepted(&mut self, now: Instant, source: SocketAddr, outputs: &mut VecDeque<Output>) {
        self.source_accepted(now, Channel::Rtp, source, outputs);
        self.packets_received += 1;
        if !self.is_flowing {
            self.is_flowing = true;
            outputs.push_back(Output::Event(Event::Flowing { leg: self.id }));
        }
    }

    fn source_accepted(&mut self, now: Instant, channel: Channel, source: SocketAddr, outputs: &mut VecDeque<Output>) {
        match channel {
            Channel::Rtcp => {
                self.rtcp.accepted(source);
            }
            Channel::Rtp => {
                self.last_accepted = now;
                let has_moved = self.rtp.accepted(source);
                let is_settled = has_moved || (!self.is_connected && self.rtp.remote() == Some(source));
                if is_settled && self.rtp.is_exclusive() {
                    self.is_connected = true;
                    outputs.push_back(Output::Connect { port: self.port(Channel::Rtp), remote: Some(source) });
                }
            }
        }
    }

    /// Notes that an RTCP packet was accepted.
    pub(super) fn rtcp_accepted(
        &mut self,
        now: Instant,
        channel: Channel,
        source: SocketAddr,
        outputs: &mut VecDeque<Output>,
    ) {
        self.source_accepted(now, channel, source, outputs);
        self.watch.rtcp_heard(now);
    }

    /// Notes that an RTP packet goes to the peer.
    pub(super) const fn rtp_sent(&mut self, header: &Header) {
        self.datagram_sent();
        (self.sent_payload_type, self.sent_ssrc) = (header.payload_type, header.ssrc);
    }

    /// The stream that goes to the peer; `None` before its first packet.
    pub(super) fn sent_ssrc(&self) -> Option<u32> {
        (self.packets_sent > 0).then_some(self.sent_ssrc)
    }

    /// A packet that was made here, protected for the peer.
    pub(super) fn play(&mut self, mut packet: Box<Packet>) -> Result<(Send, Box<Packet>), DropReason> {
        if self.traffic != Traffic::Rtp {
            return Err(DropReason::PacketNoPeer);
        }
        let to = self.rtp_destination()?;
        let header = Header::parse(&packet[..PACKET_BYTES])?;
        let len = self.sending.protect_rtp(&mut *packet, PACKET_BYTES)?;
        self.rtp_sent(&header);
        Ok((Send { port: self.port(Channel::Rtp), to, len, is_plain: self.sending.is_plain() }, packet))
    }

    /// Notes that what is no RTP goes to the peer.
    pub(super) const fn datagram_sent(&mut self) {
        self.packets_sent += 1;
    }

    pub(super) fn count_drop(&mut self, reason: DropReason) {
        self.watch.dropped(reason);
        let is_refusal = matches!(
            reason,
            DropReason::SrtpBadTag
                | DropReason::SrtpReplayed
                | DropReason::SrtcpNotEncrypted
                | DropReason::PacketForeignSource
        );
        self.packets_refused += u64::from(is_refusal);
    }

    /// Lets a silent socket hear everyone again, forgets keys whose time is over, and tells of a silence.
    pub(super) fn sweep(&mut self, now: Instant, outputs: &mut VecDeque<Output>) {
        self.receiving.expire(now);
        if now.since(self.last_accepted) >= CONNECTED_SILENCE_MAX {
            self.disconnect(outputs);
        }
        let change = self.watch.check(now);
        self.tell(change, outputs);
    }

    /// Whether time alone may change something.
    pub(super) fn needs_sweep(&self) -> bool {
        self.receiving.is_retiring() || self.is_connected || self.watch.is_waiting()
    }

    /// Whether a packet from `source` may go on to the tag check.
    pub(super) fn admit(&self, channel: Channel, source: SocketAddr) -> Result<(), DropReason> {
        let latch = match channel {
            Channel::Rtp => &self.rtp,
            Channel::Rtcp => &self.rtcp,
        };
        match latch.admits(source) {
            true => Ok(()),
            false if !self.receiving.is_configured() => Err(DropReason::PacketNoLeg),
            false => Err(DropReason::PacketForeignSource),
        }
    }

    /// Where the peer hears RTP, or datagrams.
    pub(super) fn rtp_destination(&self) -> Result<SocketAddr, DropReason> {
        if !self.wants_media {
            let is_held = self.receiving.is_configured();
            return Err(if is_held { DropReason::PacketOnHold } else { DropReason::PacketNoPeer });
        }
        self.rtp.destination().ok_or(DropReason::PacketNoPeer)
    }

    /// Where the peer hears RTCP, and from which of our ports. RTCP goes on while media is on hold (RFC 3264 section
    /// 8.4).
    pub(super) fn rtcp_destination(&self) -> Result<(Port, SocketAddr), DropReason> {
        if !self.wants_rtcp {
            let is_held = self.receiving.is_configured();
            return Err(if is_held { DropReason::PacketOnHold } else { DropReason::PacketNoPeer });
        }
        let (channel, latch) = match self.is_rtcp_muxed {
            true => (Channel::Rtp, &self.rtp),
            false => (Channel::Rtcp, &self.rtcp),
        };
        latch.destination().map(|address| (self.port(channel), address)).ok_or(DropReason::PacketNoPeer)
    }

    pub(super) const fn port(&self, channel: Channel) -> Port {
        Port { slot: self.id.slot, channel }
    }

    pub(super) fn report(&self, now: Instant) -> LegReport {
        LegReport {
            packets_received: self.packets_received,
            packets_sent: self.packets_sent,
            packets_refused: self.packets_refused,
            received: self.quality.received(),
            sent: self.quality.sent(self.packets_sent, self.formats.find(self.sent_payload_type), self.sent_ssrc()),
            round_trip_ms: self.quality.round_trip_ms(),
            silences: self.watch.silences(),
            silent_ms: self.watch.silent_ms(now),
        }
    }

    fn disconnect(&mut self, outputs: &mut VecDeque<Output>) {
        if mem::take(&mut self.is_connected) {
            outputs.push_back(Output::Connect { port: self.port(Channel::Rtp), remote: None });
        }
    }
}

/// What a leg costs while nobody speaks, but for its keys' cipher tables and its sockets.
const _: () = assert!(size_of::<Leg>() <= 1_024);

/// Legs by slot.
#[derive(Default)]
pub(super) struct Legs(Vec<Option<Box<Leg>>>);

impl Legs {
    pub(super) fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| None).collect())
    }

    /// Whether there is such a slot, and no leg in it.
    pub(super) fn is_free(&self, slot: u32) -> bool {
        self.0.get(slot as usize).is_some_and(Option::is_none)
    }

    /// `false`: there is no such slot, or it is in use.
    pub(super) fn insert(&mut self, leg: Leg) -> bool {
        match self.0.get_mut(leg.id.slot as usize) {
            Some(slot @ None) => {
                *slot = Some(Box::new(leg));
                true
            }
            Some(Some(_)) | None => false,
        }
    }

    /// Takes the leg out and parts it from its peer.
    pub(super) fn remove(&mut self, id: LegId) -> Option<Box<Leg>> {
        self.part(id);
        self.0.get_mut(id.slot as usize)?.take_if(|leg| leg.id == id)
    }

    /// Makes two legs each other's peer. Nothing happens unless both are there and distinct.
    pub(super) fn join(&mut self, a: LegId, b: LegId) {
        if a == b || self.get(a).is_none() || self.get(b).is_none() {
            return;
        }
        for (leg, peer) in [(a, b), (b, a)] {
            self.part(leg);
            self.get(leg).expect("both were found").peer = Some(peer.slot);
        }
    }

    pub(super) fn get(&mut self, id: LegId) -> Option<&mut Leg> {
        self.at(id.slot).filter(|leg| leg.id == id)
    }

    pub(super) fn at(&mut self, slot: u32) -> Option<&mut Leg> {
        self.0.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The leg of a slot and its peer.
    pub(super) fn pair(&mut self, slot: u32) -> Option<(&mut Leg, Option<&mut Leg>)> {
        let Some(peer) = self.at(slot)?.peer else {
            return Some((self.at(slot)?, None));
        };
        let [leg, peer] = self.0.get_disjoint_mut([slot as usize, peer as usize]).ok()?;
        Some((leg.as_deref_mut()?, peer.as_deref_mut()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.0.iter_mut().flatten().map(|leg| &mut **leg)
    }

    fn part(&mut self, id: LegId) {
        let peer = self.get(id).and_then(|leg| leg.peer.take());
        if let Some(other) = peer.and_then(|slot| self.at(slot)) {
            other.peer = None;
        }
    }
}
