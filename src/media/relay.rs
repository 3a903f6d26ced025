//! The way of one packet from leg to leg. Read top to bottom, it is every check and every copy a packet meets.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    types::{DropReason, Instant, limits::PACKET_BYTES_MAX},
    wire::{
        classify::{Kind, classify},
        rtcp, rtp,
        srtp::TAG_ROOM_BYTES,
    },
};

use super::{
    leg::{Leg, Legs},
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

/// Relays one datagram. On success the packet to send lies in the buffer; after an error the buffer may hold plaintext.
pub(super) fn relay(
    legs: &mut Legs,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    if datagram.len + TAG_ROOM_BYTES > datagram.buffer.len().min(PACKET_BYTES_MAX) {
        return Err(DropReason::PacketOversized);
    }
    let (from, to) = legs.pair(datagram.port.slot).ok_or(DropReason::PacketNoLeg)?;
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
    let remote = from.remote.ok_or(DropReason::PacketNoLeg)?;
    if !from.admits(Channel::Rtp, source) {
        return Err(DropReason::PacketForeignSource);
    }
    let header = rtp::Header::parse(&buffer[..len])?;

    // Whether the packet goes on is settled before it is opened, since between two SRTP legs it never lies open.
    let exit = match to {
        None => Err(DropReason::PacketNoPeer),
        Some(_) if !remote.may_send => Err(DropReason::PacketOnHold),
        Some(to) => to.rtp_destination().map(|address| (to, address)),
    };
    let (exit, len) = match exit {
        Ok((to, address)) => {
            let len = from.receiving.reprotect_rtp(now, &mut to.sending, buffer, len)?;
            (Ok((to, address)), len)
        }
        Err(reason) => (Err(reason), from.receiving.unprotect_rtp(now, buffer, len)?),
    };

    // Only here is the packet known to be fresh and authentic.
    from.rtp_accepted(now, source, &header, outputs);
    let (to, address) = exit?;
    to.packets_sent += 1;
    Ok(Send { port: to.port(Channel::Rtp), to: address, len, is_plain: to.sending.is_plain() })
}

fn relay_rtcp(
    from: &mut Leg,
    to: Option<&mut Leg>,
    outputs: &mut VecDeque<Output>,
    datagram: Datagram<'_>,
) -> Result<Send, DropReason> {
    let Datagram { now, port, source, buffer, len } = datagram;
    from.remote.ok_or(DropReason::PacketNoLeg)?;
    if !from.admits(port.channel, source) {
        return Err(DropReason::PacketForeignSource);
    }
    let len = from.receiving.unprotect_rtcp(now, buffer, len)?;
    rtcp::check(&buffer[..len])?;
    from.source_accepted(now, port.channel, source, outputs);
    let ntp_middle = read_reports(now, from, &buffer[..len]);

    let to = to.ok_or(DropReason::PacketNoPeer)?;
    let (port, address) = to.rtcp_destination()?;
    let len = to.sending.protect_rtcp(buffer, len)?;
    if let Some(ntp_middle) = ntp_middle {
        to.quality.sender_report_sent(now, ntp_middle);
    }
    Ok(Send { port, to: address, len, is_plain: to.sending.is_plain() })
}

/// Takes the peer's reports for its quality. Returns the middle 32 bits of a sender report's NTP timestamp, which the
/// reports of whoever receives it will repeat (RFC 3550 section 6.4.1).
fn read_reports(now: Instant, from: &mut Leg, compound: &[u8]) -> Option<u32> {
    let mut ntp_middle = None;
    for packet in rtcp::packets(compound).flatten() {
        let blocks = match packet {
            rtcp::Packet::SenderReport(report) => {
                ntp_middle = u32::try_from(report.ntp >> 16 & 0xffff_ffff).ok();
                report.reports
            }
            rtcp::Packet::ReceiverReport(report) => report.reports,
            rtcp::Packet::SourceDescription(_) | rtcp::Packet::Goodbye(_) | rtcp::Packet::Other { .. } => continue,
        };
        for block in blocks {
            from.quality.report_block_received(now, block.last_sr, block.delay_since_last_sr);
        }
    }
    ntp_middle
}
