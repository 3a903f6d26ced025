//! The phone's media: what a call has settled, and SRTP and SRTCP packets with a payload or name of the caller's choice.

use std::net::SocketAddr;

use crate::{
    types::{DropReason, Instant, Rng},
    wire::{
        rtcp, rtp, sdp,
        srtp::{Inbound, MasterKey, Mki, Outbound, Suite, TAG_ROOM_BYTES},
    },
};

/// Fixed RTP header (RFC 3550 section 5.1).
const HEADER_BYTES: usize = 12;
/// 20 ms at 8 kHz, one byte each: what a phone sends 50 times a second.
const SAMPLES_PER_PACKET: u32 = 160;
pub const PAYLOAD_BYTES_MAX: usize = 160;
/// Room that [`Speaker::speak`] needs.
pub const PACKET_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX + TAG_ROOM_BYTES;

/// What offer and answer settled.
#[derive(Clone, Debug)]
pub struct Media {
    /// Where to send.
    pub remote: SocketAddr,
    pub suite: Suite,
    /// Protects what this phone sends.
    pub send: MasterKey,
    /// Protects what this phone receives.
    pub receive: MasterKey,
    pub(super) receive_mki: Option<Mki>,
}

impl Media {
    /// Both directions of this side of the call. Once per call: a second speaker would use the key's packet indices again.
    pub fn voices(&self, rng: &mut Rng) -> (Speaker, Listener) {
        (
            Speaker::new(self.suite, &self.send, rng),
            Listener(Inbound::new(self.suite, &self.receive, self.receive_mki.clone())),
        )
    }

    /// Whether one of this call's keys stands in `text`, raw or as in `a=crypto`.
    pub fn has_key_in(&self, text: &[u8]) -> bool {
        let contains = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
        [&self.send, &self.receive]
            .into_iter()
            .any(|key| contains(key.expose()) || contains(sdp::inline_key(key).expose().as_bytes()))
    }
}

/// One stream of packets.
#[derive(Debug)]
pub struct Speaker {
    outbound: Outbound,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// Sent so far, and the bytes of their payloads.
    packets: u32,
    octets: u32,
}

impl Speaker {
    fn new(suite: Suite, key: &MasterKey, rng: &mut Rng) -> Self {
        Self {
            outbound: Outbound::new(suite, key),
            ssrc: rng.u32(),
            // Far from the wrap, before which a lost packet could make the receiver miss it (RFC 3711 section 3.3.1).
            sequence: u16::try_from(rng.below(1 << 15)).expect("a number below 2^15"),
            timestamp: rng.u32(),
            packets: 0,
            octets: 0,
        }
    }

    /// Writes the next packet and returns its length. `payload` is at most [`PAYLOAD_BYTES_MAX`] long.
    pub fn speak(&mut self, payload: &[u8], packet: &mut [u8; PACKET_BYTES_MAX]) -> Result<usize, DropReason> {
        let len = HEADER_BYTES + payload.len();
        packet[..2].copy_from_slice(&[rtp::VERSION << 6, 0]);
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..HEADER_BYTES].copy_from_slice(&self.ssrc.to_be_bytes());
        packet[HEADER_BYTES..len].copy_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(SAMPLES_PER_PACKET);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        self.outbound.protect_rtp(packet, len)
    }

    /// Writes a sender report with the canonical name of this phone (RFC 3550 section 6.5.1) and returns its length.
    ///
    /// # Errors
    /// The name is too long for the packet.
    pub fn report(
        &mut self,
        now: Instant,
        cname: &[u8],
        packet: &mut [u8; PACKET_BYTES_MAX],
    ) -> Result<usize, DropReason> {
        let report = rtcp::SenderReport {
            ssrc: self.ssrc,
            ntp: ntp(now),
            rtp_timestamp: self.timestamp,
            packets: self.packets,
            octets: self.octets,
            reports: rtcp::Reports::default(),
        };
        let compound = report.with_cname(cname).ok_or(DropReason::PacketOversized)?;
        packet.get_mut(..compound.len()).ok_or(DropReason::PacketOversized)?.copy_from_slice(&compound);
        self.outbound.protect_rtcp(packet, compound.len())
    }
}

/// Verifies and decrypts what is received.
#[derive(Debug)]
pub struct Listener(Inbound);

impl Listener {
    /// The payload of a packet, which is decrypted in place.
    pub fn hear<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], DropReason> {
        let len = self.0.unprotect_rtp(packet)?;
        rtp::payload(&packet[..len])
    }

    /// The canonical name in a report, which is decrypted in place.
    pub fn hear_report<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a [u8], DropReason> {
        let len = self.0.unprotect_rtcp(packet)?;
        let mut names = rtcp::packets(&packet[..len]).filter_map(|packet| match packet {
            Ok(rtcp::Packet::SourceDescription(description)) => description.chunks().find_map(|chunk| chunk.cname),
            Ok(_) | Err(_) => None,
        });
        names.next().ok_or(DropReason::RtcpMalformed)
    }
}

/// Seconds since 1900, 32.32 (RFC 3550 section 4).
fn ntp(now: Instant) -> u64 {
    const SECONDS_BEFORE_1970: u64 = 2_208_988_800;
    let (seconds, ns) = (now.unix_ns() / 1_000_000_000, now.unix_ns() % 1_000_000_000);
    ((seconds + SECONDS_BEFORE_1970) << 32) | ((ns << 32) / 1_000_000_000)
}

/// A speaker and the listener that hears it without a server in between: what a relay is measured against.
pub fn direct(suite: Suite, rng: &mut Rng) -> (Speaker, Listener) {
    let key = MasterKey::generate(suite, rng);
    (Speaker::new(suite, &key, rng), Listener(Inbound::new(suite, &key, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_sent_and_by_whom_and_hides_both() {
        let name = b"a name of some length @192.0.2.1";
        let now = Instant::from_unix_ms(1_700_000_000_500);
        for suite in Suite::ALL {
            let (mut speaker, mut listener) = direct(suite, &mut Rng::from_small_seed(1));
            let mut packet = [0; PACKET_BYTES_MAX];
            for _ in 0..3 {
                speaker.speak(&[7; 20], &mut packet).unwrap();
            }
            let len = speaker.report(now, name, &mut packet).unwrap();
            assert!(packet[..len].windows(8).all(|window| !name.starts_with(window)), "{suite:?}");
            let mut forged = packet;
            forged[len - 1] ^= 1;
            listener.hear_report(&mut forged[..len]).unwrap_err();
            assert_eq!(listener.hear_report(&mut packet[..len]), Ok(&name[..]), "{suite:?}");
            let Some(Ok(rtcp::Packet::SenderReport(report))) = rtcp::packets(&packet[..60]).next() else {
                panic!("no sender report")
            };
            assert_eq!((report.packets, report.octets), (3, 60));
            assert_eq!(report.ntp, (3_908_988_800 << 32) | (1 << 31));
            assert_eq!(speaker.report(now, &[b'x'; 256], &mut packet), Err(DropReason::PacketOversized));
            assert_eq!(speaker.report(now, &[b'x'; 160], &mut packet), Err(DropReason::PacketOversized));
        }
    }
}
