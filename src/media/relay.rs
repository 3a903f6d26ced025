//! The way of one packet from leg to leg. Read top to bottom, it is every check and every copy a packet meets.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    types::{DropReason, Instant, limits::PACKET_BYTES_MAX},
    wire::{
        classify::{Kind, Traffic, classify, is_stray_rtp},
        rtcp, rtp,
        srtp::{Novelty, TAG_ROOM_BYTES},
    },
};

use super::{
    leg::{Leg, Legs},
    protection::Arrival,
    worker::{Channel, Output, Port, Send},
};

/// One received datagram, in a buffer with room for what protection appends.
pub(super) struct Datagram<'a> {
    pub(super) now: Instant,
    pub(super) port: Port,
    pub(super) source: SocketAddr,
    pub(super) buffer: &'a mut [u8],
    pub(super) len: usize,
}

/// Relays one datagram. On success the packet to send lies in the buffer; after an error the buffer may hold plaintext, if not
/// of an RTP packet under AES-CM.
pub(super) fn relay(
    legs: &mut Legs,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    if datagram.len > datagram.buffer.len().min(PACKET_BYTES_MAX).saturating_sub(TAG_ROOM_BYTES) {
        return Err(DropReason::PacketOversized);
    }
    let (from, to) = legs.pair(datagram.port.slot).ok_or(DropReason::PacketNoLeg)?;
    if from.traffic == Traffic::Datagrams {
        return relay_datagram(from, to, outputs, datagram);
    }
    match (classify(&datagram.buffer[..datagram.len]), datagram.port.channel) {
        (Kind::Rtp, Channel::Rtp) => relay_rtp(from, to, outputs, datagram),
        (Kind::Rtcp, Channel::Rtp | Channel::Rtcp) => relay_rtcp(from, to, outputs, datagram),
        (Kind::Rtp, Channel::Rtcp) | (Kind::Stun | Kind::Dtls | Kind::Unknown, _) => Err(DropReason::PacketNotMedia),
    }
}

fn relay_rtp(
    from: &mut Leg,
    to: Option<&mut Leg>,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    let Datagram { now, source, buffer, len, .. } = datagram;
    from.admit(Channel::Rtp, source)?;
    let header = rtp::Header::parse(&buffer[..len])?;
    let novelty = match from.receiving.is_srtp() {
        true => Novelty::New,
        false if from.quality.is_copy(&header) => return Err(DropReason::PacketDuplicate),
        false => from.quality.novelty(&header),
    };

    // Whether the packet goes on is settled before it is opened, since between two SRTP legs it never lies open.
    let exit = match to {
        None => Err(DropReason::PacketNoPeer),
        Some(to) if to.traffic != from.traffic => Err(DropReason::PacketNoPeer),
        Some(_) if !from.may_send => Err(DropReason::PacketOnHold),
        Some(to) => to.rtp_destination().map(|address| (to, address)),
    };
    let received = (&header, len);
    let arrival = Arrival { now, source, latch: &from.rtp };
    let sent = match exit {
        Ok((to, address)) => {
            let protected = from.receiving.reprotect_rtp(arrival, (&mut to.sending, novelty), buffer, len)?;
            protected.map(|len| (to, address, len))
        }
        Err(reason) => {
            from.receiving.verify_rtp(arrival, buffer, len)?;
            Err(reason)
        }
    };

    // Only here is the packet known to be fresh and authentic, whether it can be sent on or not.
    from.rtp_accepted(now, source, received, outputs);
    let (to, address, len) = sent?;
    to.rtp_sent(&header);
    Ok(Send { port: to.port(Channel::Rtp), to: address, len, is_plain: to.sending.is_plain() })
}

/// Fax and floor control pass unread and unchanged.
fn relay_datagram(
    from: &mut Leg,
    to: Option<&mut Leg>,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    let Datagram { now, port, source, buffer, len } = datagram;
    if port.channel == Channel::Rtcp || is_stray_rtp(&buffer[..len]) {
        return Err(DropReason::PacketNotMedia);
    }
    from.admit(Channel::Rtp, source)?;
    if !from.receiving.is_plain() {
        return Err(DropReason::PacketNotMedia);
    }
    from.datagram_accepted(now, source, outputs);
    let to =
        to.filter(|to| to.traffic == Traffic::Datagrams && to.sending.is_plain()).ok_or(DropReason::PacketNoPeer)?;
    let address = to.rtp_destination()?;
    to.datagram_sent();
    Ok(Send { port: to.port(Channel::Rtp), to: address, len, is_plain: true })
}

fn relay_rtcp(
    from: &mut Leg,
    to: Option<&mut Leg>,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    let Datagram { now, port, source, buffer, len } = datagram;
    from.admit(port.channel, source)?;
    let latch = match port.channel {
        Channel::Rtp => &from.rtp,
        Channel::Rtcp => &from.rtcp,
    };
    let len = from.receiving.unprotect_rtcp(Arrival { now, source, latch }, buffer, len)?;
    rtcp::check(&buffer[..len])?;
    from.rtcp_accepted(now, port.channel, source, outputs);
    rtcp::renumber(&mut buffer[..len], |ssrc| from.sending.offset(ssrc));
    let ntp_middle = read_reports(now, from, &buffer[..len]);

    let to = to.filter(|to| to.traffic == Traffic::Rtp).ok_or(DropReason::PacketNoPeer)?;
    let (port, address) = to.rtcp_destination()?;
    let len = to.sending.protect_rtcp(buffer, len)?;
    if let Some(ntp_middle) = ntp_middle {
        to.quality.sender_report_sent(now, ntp_middle);
    }
    Ok(Send { port, to: address, len, is_plain: to.sending.is_plain() })
}

/// Takes the peer's reports for its quality. Returns the middle 32 bits of a sender
/// report's NTP timestamp, which the reports of whoever receives it will repeat (RFC 3550 section 6.4.1).
fn read_reports(now: Instant, from: &mut Leg, compound: &[u8]) -> Option<u32> {
    let sent = from.sent_ssrc();
    let mut ntp_middle = None;
    for packet in rtcp::packets(compound).flatten() {
        let blocks = match packet {
            rtcp::Packet::SenderReport(report) => {
                ntp_middle = u32::try_from(report.ntp >> 16 & 0xffff_ffff).ok();
                report.reports
            }
            rtcp::Packet::ReceiverReport(report) => report.reports,
            rtcp::Packet::ExtendedReport(report) => {
                report.voip_metrics().for_each(|metrics| from.quality.voip_metrics_received(metrics, sent));
                continue;
            }
            rtcp::Packet::SourceDescription(_) | rtcp::Packet::Goodbye(_) | rtcp::Packet::Other { .. } => continue,
        };
        for block in blocks {
            from.quality.report_block_received(now, &block, sent);
        }
    }
    ntp_middle
}

#[cfg(test)]
mod tests;
