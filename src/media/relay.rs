//! The way of one packet from leg to leg. Read top to bottom, it is every check and every copy a packet meets.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    types::{DropReason, Instant, limits::PACKET_BYTES_MAX},
    wire::{
        classify::{Kind, classify},
        srtp::TAG_ROOM_BYTES,
    },
};

use super::{
    leg::{Leg, Legs},
    quality::Arrival,
    rtcp,
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
    let arrival = read_header(&buffer[..len])?;

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
    from.rtp_accepted(now, source, arrival, outputs);
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
    let reports = rtcp::read(&buffer[..len], |block| {
        from.quality.report_block_received(now, block.last_sr, block.delay_since_last_sr);
    })?;
    from.source_accepted(now, port.channel, source, outputs);

    let to = to.ok_or(DropReason::PacketNoPeer)?;
    let (port, address) = to.rtcp_destination()?;
    let len = to.sending.protect_rtcp(buffer, len)?;
    if let Some(ntp_middle) = reports.sender_report_ntp_middle {
        to.quality.sender_report_sent(now, ntp_middle);
    }
    Ok(Send { port, to: address, len, is_plain: to.sending.is_plain() })
}

fn read_header(packet: &[u8]) -> Result<Arrival, DropReason> {
    let [_, marker_and_type, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3, ..] = *packet else {
        return Err(DropReason::PacketTruncated);
    };
    Ok(Arrival {
        payload_type: marker_and_type & 0x7f,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
    })
}
