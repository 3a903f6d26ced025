//! RTCP compound packets: views of SR, RR, SDES, BYE and report blocks (RFC 3550 section 6), and of the VoIP metrics of
//! extended reports (RFC 3611).
//! Borrows from the packet, copies nothing, and checks every length before it is used.

mod renumber;

use std::ops::RangeInclusive;

use crate::types::DropReason;

pub use renumber::renumber;

/// RFC 3550 section 6.4.1.
pub const VERSION: u8 = 2;
const HEADER_BYTES: usize = 4;
const REPORT_BLOCK_BYTES: usize = 24;
const SENDER_INFO_BYTES: usize = 20;
const SSRC_BYTES: usize = 4;

/// RFC 3550 section 12.1.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
/// RFC 3550 section 6.5.
const END_OF_ITEMS: u8 = 0;
const CNAME: u8 = 1;
/// RFC 3611 section 2.
const EXTENDED_REPORT: u8 = 207;
/// RFC 3611 section 4.7: block type, and length of what follows its first word.
const VOIP_METRICS: u8 = 7;
const VOIP_METRICS_BYTES: usize = 32;
/// Tenths of mean opinion scores (RFC 3611 section 4.7.5). 127 among others means "unavailable".
const SCORES: RangeInclusive<u8> = 10..=50;

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    SenderReport(SenderReport<'a>),
    ReceiverReport(ReceiverReport<'a>),
    SourceDescription(SourceDescription<'a>),
    Goodbye(Goodbye<'a>),
    ExtendedReport(ExtendedReport<'a>),
    /// Application-defined, feedback (RFC 4585) and later types: passed on unread.
    Other {
        packet_type: u8,
    },
}

/// RFC 3550 section 6.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport<'a> {
    pub ssrc: u32,
    /// 32.32 fixed point seconds since 1900, by the sender's clock.
    pub ntp: u64,
    /// The same moment in units of the payload's clock.
    pub rtp_timestamp: u32,
    pub packets: u32,
    /// Payload bytes.
    pub octets: u32,
    pub reports: Reports<'a>,
}

/// RFC 3550 section 6.4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    pub ssrc: u32,
    pub reports: Reports<'a>,
}

/// The report blocks of one SR or RR: an iterator of [`ReportBlock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports<'a>(&'a [u8]);

/// RFC 3550 section 6.4.1: what its sender received from one SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Since the previous report, in 1/256.
    pub fraction_lost: u8,
    /// Since the start; negative where duplicates outnumber losses. 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Extended: cycles in the upper half.
    pub highest_sequence: u32,
    /// Interarrival, in units of the payload's clock.
    pub jitter: u32,
    /// Middle 32 bits of the last SR's NTP time, 0 for none.
    pub last_sr: u32,
    /// Time since that SR came, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// RFC 3550 section 6.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceDescription<'a> {
    chunks: &'a [u8],
    count: u8,
}

/// RFC 3550 section 6.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye<'a> {
    ssrcs: &'a [u8],
    /// Text for people, in UTF-8 if the peer keeps to the RFC.
    pub reason: Option<&'a [u8]>,
}

/// RFC 3611 section 3. Blocks are not checked: one that does not fit ends the walk through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedReport<'a> {
    pub ssrc: u32,
    blocks: &'a [u8],
}

/// RFC 3611 section 4.7: how its sender hears one SSRC, as far as anything here needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VoipMetrics {
    pub ssrc: u32,
    /// Of the packets within bursts, those lost or discarded, in 256ths.
    pub burst_density: u8,
    /// Of the packets between bursts.
    pub gap_density: u8,
    /// Mean.
    pub burst_duration_ms: u16,
    pub gap_duration_ms: u16,
    /// Mean opinion scores, 10 to 50 tenths; `None`: unavailable.
    pub mos_listening: Option<u8>,
    pub mos_conversation: Option<u8>,
}

/// The packets of a plain compound in order. The first malformed one ends it with `RtcpMalformed`.
///
/// Version, length, padding and the counts of each known type are checked (RFC 3550 appendix A.2). The first packet need
/// not be a report: reduced-size RTCP (RFC 5506) is allowed.
pub const fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Is this a well-formed compound of at least one packet?
///
/// # Errors
/// `RtcpMalformed` otherwise.
pub fn check(compound: &[u8]) -> Result<(), DropReason> {
    if compound.is_empty() {
        return Err(DropReason::RtcpMalformed);
    }
    packets(compound).try_for_each(|packet| packet.map(|_| ()))
}

/// See [`packets`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = split_packet(self.rest).and_then(|(head, body, rest)| Some((parse(head, body)?, rest)));
        self.rest = parsed.map_or(&[], |(_, rest)| rest);
        Some(parsed.map(|(packet, _)| packet).ok_or(DropReason::RtcpMalformed))
    }
}

/// First bytes of a packet's header.
#[derive(Clone, Copy)]
struct Head {
    count: u8,
    packet_type: u8,
}

/// Header, body without padding, and what follows the packet.
fn split_packet(compound: &[u8]) -> Option<(Head, &[u8], &[u8])> {
    let (&[flags, packet_type, high, low], after_header) = compound.split_first_chunk::<HEADER_BYTES>()?;
    let words = usize::from(u16::from_be_bytes([high, low]));
    let (mut body, rest) = after_header.split_at_checked(words * 4)?;
    if flags >> 6 != VERSION {
        return None;
    }
    if flags & 0x20 != 0 {
        // RFC 3550 section 6.4.1: only the last packet of a compound is padded, by a multiple of four.
        let padding_bytes = usize::from(*body.last()?);
        if !rest.is_empty() || padding_bytes == 0 || !padding_bytes.is_multiple_of(4) {
            return None;
        }
        body = &body[..body.len().checked_sub(padding_bytes)?];
    }
    Some((Head { count: flags & 0x1f, packet_type }, body, rest))
}

fn parse(head: Head, body: &[u8]) -> Option<Packet<'_>> {
    Some(match head.packet_type {
        SENDER_REPORT => Packet::SenderReport(sender_report(head.count, body)?),
        RECEIVER_REPORT => {
            let (ssrc, rest) = split_u32(body)?;
            Packet::ReceiverReport(ReceiverReport { ssrc, reports: Reports::take(head.count, rest)? })
        }
        SOURCE_DESCRIPTION => {
            let description = SourceDescription { chunks: body, count: head.count };
            let is_whole = description.chunks().count() == usize::from(head.count);
            Packet::SourceDescription(is_whole.then_some(description)?)
        }
        GOODBYE => Packet::Goodbye(goodbye(head.count, body)?),
        EXTENDED_REPORT => {
            let (ssrc, blocks) = split_u32(body)?;
            Packet::ExtendedReport(ExtendedReport { ssrc, blocks })
        }
        packet_type => Packet::Other { packet_type },
    })
}

fn sender_report(count: u8, body: &[u8]) -> Option<SenderReport<'_>> {
    let (ssrc, rest) = split_u32(body)?;
    let (info, rest) = rest.split_at_checked(SENDER_INFO_BYTES)?;
    let (ntp, info) = info.split_first_chunk()?;
    let (rtp_timestamp, info) = split_u32(info)?;
    let (packets, info) = split_u32(info)?;
    let (octets, _) = split_u32(info)?;
    let reports = Reports::take(count, rest)?;
    Some(SenderReport { ssrc, ntp: u64::from_be_bytes(*ntp), rtp_timestamp, packets, octets, reports })
}

impl SenderReport<'_> {
    /// The smallest compound that may be sent: this report, and a source description with its sender's canonical name (RFC 3550
    /// section 6.1). `None`: the name is longer than 255 bytes.
    pub fn with_cname(&self, cname: &[u8]) -> Option<Vec<u8>> {
        let name_bytes = u8::try_from(cname.len()).ok()?;
        let blocks = self.reports.0;
        let count = u8::try_from(blocks.len() / REPORT_BLOCK_BYTES).expect("five bits, as they were read");
        let info = [self.rtp_timestamp, self.packets, self.octets].map(u32::to_be_bytes).concat();
        let report = [&self.ssrc.to_be_bytes(), &self.ntp.to_be_bytes()[..], &info, blocks].concat();
        let mut chunk = [&self.ssrc.to_be_bytes()[..], &[CNAME, name_bytes], cname, &[END_OF_ITEMS]].concat();
        chunk.resize(chunk.len().next_multiple_of(4), END_OF_ITEMS);
        Some([print(count, SENDER_REPORT, &report), print(1, SOURCE_DESCRIPTION, &chunk)].concat())
    }
}

/// A packet with this body, whose length is a multiple of four (RFC 3550 section 6.4.1).
fn print(count: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
    let words = u16::try_from(body.len() / 4).expect("a report of 31 blocks, or a short name");
    [&[VERSION << 6 | count, packet_type][..], &words.to_be_bytes(), body].concat()
}

fn goodbye(count: u8, body: &[u8]) -> Option<Goodbye<'_>> {
    let (ssrcs, rest) = body.split_at_checked(usize::from(count) * SSRC_BYTES)?;
    let reason = match rest.split_first() {
        Some((&length, text)) => Some(text.get(..usize::from(length))?),
        None => None,
    };
    Some(Goodbye { ssrcs, reason })
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*word), rest))
}

impl<'a> Reports<'a> {
    /// `count` blocks at the start of `bytes`; profile-specific extensions may follow (RFC 3550 section 6.4.3).
    fn take(count: u8, bytes: &'a [u8]) -> Option<Self> {
        bytes.get(..usize::from(count) * REPORT_BLOCK_BYTES).map(Self)
    }
}

impl Iterator for Reports<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_first_chunk::<REPORT_BLOCK_BYTES>()?;
        self.0 = rest;
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        Some(ReportBlock {
            ssrc: word(0),
            fraction_lost: block[4],
            // The 24-bit number is shifted to the top and back, which repeats its sign.
            cumulative_lost: i32::from_be_bytes([block[5], block[6], block[7], 0]) >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        })
    }
}

impl ExtendedReport<'_> {
    pub fn voip_metrics(&self) -> impl Iterator<Item = VoipMetrics> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let (&[block_type, _, high, low], after_head) = rest.split_first_chunk()?;
            let (body, after) = after_head.split_at_checked(usize::from(u16::from_be_bytes([high, low])) * 4)?;
            rest = after;
            Some((block_type, body))
        })
        .filter(|(block_type, _)| *block_type == VOIP_METRICS)
        .filter_map(|(_, body)| body.first_chunk().map(voip_metrics))
    }
}

fn voip_metrics(body: &[u8; VOIP_METRICS_BYTES]) -> VoipMetrics {
    let half = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let score = |at: usize| Some(body[at]).filter(|tenths| SCORES.contains(tenths));
    VoipMetrics {
        ssrc: u32::from_be_bytes([body[0], body[1], body[2], body[3]]),
        burst_density: body[6],
        gap_density: body[7],
        burst_duration_ms: half(8),
        gap_duration_ms: half(10),
        mos_listening: score(22),
        mos_conversation: score(23),
    }
}

/// What one SSRC says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    pub ssrc: u32,
    /// The canonical name, often `user@host`: personal data. The RFC demands one in every chunk.
    pub cname: Option<&'a [u8]>,
}

impl<'a> SourceDescription<'a> {
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'a>> + use<'a> {
        let mut rest = self.chunks;
        (0..self.count).map_while(move |_| {
            let (chunk, after) = split_chunk(rest)?;
            rest = after;
            Some(chunk)
        })
    }
}

/// RFC 3550 section 6.5: items end with a zero byte, and a chunk at a multiple of four.
fn split_chunk(chunks: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let (ssrc, mut items) = split_u32(chunks)?;
    let mut cname = None;
    loop {
        let (&kind, after_kind) = items.split_first()?;
        if kind == END_OF_ITEMS {
            let used = chunks.len() - after_kind.len();
            let rest = chunks.get(used.next_multiple_of(4)..)?;
            return Some((Chunk { ssrc, cname }, rest));
        }
        let (&length, after_length) = after_kind.split_first()?;
        let (text, after_text) = after_length.split_at_checked(length.into())?;
        if kind == CNAME {
            cname = Some(text);
        }
        items = after_text;
    }
}

impl<'a> Goodbye<'a> {
    /// Who leaves.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.ssrcs.as_chunks().0.iter().map(|ssrc| u32::from_be_bytes(*ssrc))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet with its length written for it.
    fn packet(flags: u8, packet_type: u8, body: &[u8]) -> Vec<u8> {
        let words = u16::try_from(body.len() / 4).unwrap();
        let mut out = vec![0x80 | flags, packet_type];
        out.extend_from_slice(&words.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    const BLOCK: [u32; 6] = [0xcafe_babe, 0x40ff_fffe, 0x0001_0007, 160, 0x1234_5678, 0x0001_0000];

    #[test]
    fn a_sender_report_is_read_field_by_field() {
        let mut body = vec![7, 0xe000_0001, 0x8000_0000, 160, 10, 1_600];
        body.extend_from_slice(&BLOCK);
        let bytes = packet(1, SENDER_REPORT, &words(&body));
        let Some(Ok(Packet::SenderReport(report))) = packets(&bytes).next() else { panic!("an SR") };
        assert_eq!((report.ssrc, report.ntp, report.rtp_timestamp), (7, 0xe000_0001_8000_0000, 160));
        assert_eq!((report.packets, report.octets), (10, 1_600));
        let expected = ReportBlock {
            ssrc: 0xcafe_babe,
            fraction_lost: 0x40,
            cumulative_lost: -2,
            highest_sequence: 0x0001_0007,
            jitter: 160,
            last_sr: 0x1234_5678,
            delay_since_last_sr: 0x0001_0000,
        };
        assert_eq!(report.reports.collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_compound_is_walked_in_order() {
        let mut bytes = packet(0, RECEIVER_REPORT, &words(&[7]));
        bytes.extend(packet(1, SOURCE_DESCRIPTION, b"\0\0\0\x07\x01\x03a@b\x00\0\0"));
        bytes.extend(packet(2, GOODBYE, b"\0\0\0\x07\0\0\0\x08\x03bye"));
        bytes.extend(packet(1, 205, &words(&[7, 8, 9])));
        let kinds: Vec<_> = packets(&bytes).map(Result::unwrap).collect();
        let [Packet::ReceiverReport(rr), Packet::SourceDescription(sdes), Packet::Goodbye(bye), other] = &kinds[..]
        else {
            panic!("RR, SDES, BYE and feedback")
        };
        assert_eq!((rr.ssrc, rr.reports.count()), (7, 0));
        assert_eq!(sdes.chunks().collect::<Vec<_>>(), [Chunk { ssrc: 7, cname: Some(b"a@b") }]);
        assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [7, 8]);
        assert_eq!(bye.reason, Some(&b"bye"[..]));
        assert_eq!(*other, Packet::Other { packet_type: 205 });
        assert_eq!(check(&bytes), Ok(()));
    }

    /// RFC 3611 section 4.7, with a score each, after a block of another type.
    fn extended_report(listening: u8, conversation: u8) -> Vec<u8> {
        let mut body = words(&[7, 0x0400_0002, 1, 2, 0x0700_0008, 0xcafe_babe]);
        body.extend([5, 3, 128, 64, 0, 120, 0x23, 0x28, 0, 80, 0, 40, 0xe0, 0xb0, 20, 16]);
        body.extend([90, 127, listening, conversation, 0x30, 0, 0, 60, 0, 80, 0, 120]);
        packet(0, EXTENDED_REPORT, &body)
    }

    #[test]
    fn voip_metrics_are_read_field_by_field() {
        let expected = VoipMetrics {
            ssrc: 0xcafe_babe,
            burst_density: 128,
            gap_density: 64,
            burst_duration_ms: 120,
            gap_duration_ms: 9_000,
            mos_listening: Some(42),
            mos_conversation: Some(39),
        };
        let read = |bytes: &[u8]| match packets(bytes).next() {
            Some(Ok(Packet::ExtendedReport(report))) => (report.ssrc, report.voip_metrics().collect::<Vec<_>>()),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(&extended_report(42, 39)), (7, vec![expected]));
        for score in [127, 0, 9, 51, 255] {
            let (_, metrics) = read(&extended_report(score, score));
            assert_eq!((metrics[0].mos_listening, metrics[0].mos_conversation), (None, None), "{score}");
        }
    }

    #[test]
    fn an_extended_report_passes_with_blocks_that_do_not_fit() {
        for blocks in [&[0x0700_0009, 1][..], &[0x0700_0000], &[0x0700_0007, 1, 2, 3, 4, 5, 6, 7]] {
            let bytes = packet(0, EXTENDED_REPORT, &words(&[&[7], blocks].concat()));
            assert_eq!(check(&bytes), Ok(()));
            let Some(Ok(Packet::ExtendedReport(report))) = packets(&bytes).next() else { panic!("XR") };
            assert_eq!(report.voip_metrics().count(), 0, "{blocks:08x?}");
        }
        assert_eq!(check(&packet(0, EXTENDED_REPORT, &[])), Err(DropReason::RtcpMalformed));
    }

    #[test]
    fn every_truncation_of_a_compound_is_malformed_unless_it_ends_between_packets() {
        let first = packet(0, RECEIVER_REPORT, &words(&[7]));
        let mut bytes = first.clone();
        bytes.extend(packet(1, SOURCE_DESCRIPTION, b"\0\0\0\x07\x01\x03a@b\x00\0\0"));
        for cut in 0..bytes.len() {
            let expected = if cut == first.len() { Ok(()) } else { Err(DropReason::RtcpMalformed) };
            assert_eq!(check(&bytes[..cut]), expected, "{cut} bytes");
        }
    }

    #[test]
    fn padding_is_allowed_at_the_end_of_the_last_packet_only() {
        let padded = packet(0x20, RECEIVER_REPORT, &words(&[7, 4]));
        assert_eq!(check(&padded), Ok(()));
        let mut inside = padded.clone();
        inside.extend(packet(0, RECEIVER_REPORT, &words(&[7])));
        assert_eq!(check(&inside), Err(DropReason::RtcpMalformed));
        for padding in [0, 3, 12, 255] {
            let bad = packet(0x20, RECEIVER_REPORT, &words(&[7, padding]));
            assert_eq!(check(&bad), Err(DropReason::RtcpMalformed), "{padding}");
        }
    }

    #[test]
    fn counts_beyond_the_packet_are_malformed() {
        let bad = [
            packet(1, SENDER_REPORT, &words(&[7, 0, 0, 0, 0, 0])),
            packet(0, SENDER_REPORT, &words(&[7, 0, 0, 0, 0])),
            packet(1, RECEIVER_REPORT, &words(&[7])),
            packet(2, SOURCE_DESCRIPTION, b"\0\0\0\x07\x01\x03a@b\x00\0\0"),
            packet(1, SOURCE_DESCRIPTION, b"\0\0\0\x07\x01\xff\0\0"),
            packet(2, GOODBYE, &words(&[7])),
            packet(0, GOODBYE, b"\x09bye"),
        ];
        for bytes in bad {
            assert_eq!(check(&bytes), Err(DropReason::RtcpMalformed), "{bytes:02x?}");
        }
        let mut old_version = packet(0, RECEIVER_REPORT, &words(&[7]));
        old_version[0] = 0x40;
        assert_eq!(check(&old_version), Err(DropReason::RtcpMalformed));
    }

    #[test]
    fn the_first_malformed_packet_ends_the_walk() {
        let mut bytes = packet(1, RECEIVER_REPORT, &words(&[7]));
        bytes.extend(packet(0, RECEIVER_REPORT, &words(&[7])));
        assert_eq!(packets(&bytes).collect::<Vec<_>>(), [Err(DropReason::RtcpMalformed)]);
    }

    #[test]
    fn a_report_with_a_name_is_the_smallest_compound_and_is_read_as_it_was_written() {
        let block = words(&[7, 8, 9, 10, 11, 12]);
        for (blocks, name) in [(&[][..], "a"), (&block, "user@192.0.2.1"), (&[&block[..], &block].concat(), "")] {
            let report = SenderReport {
                ssrc: 7,
                ntp: 8 << 32,
                rtp_timestamp: 9,
                packets: 10,
                octets: 11,
                reports: Reports(blocks),
            };
            let compound = report.with_cname(name.as_bytes()).unwrap();
            let read: Vec<_> = packets(&compound).map(Result::unwrap).collect();
            let [Packet::SenderReport(first), Packet::SourceDescription(second)] = read[..] else { panic!("{read:?}") };
            assert_eq!(first, report);
            let chunks: Vec<_> = second.chunks().collect();
            assert_eq!(chunks, [Chunk { ssrc: 7, cname: Some(name.as_bytes()) }]);
        }
        let nobody =
            SenderReport { ssrc: 7, ntp: 0, rtp_timestamp: 0, packets: 0, octets: 0, reports: Reports::default() };
        assert!(nobody.with_cname(&[b'x'; 255]).is_some() && nobody.with_cname(&[b'x'; 256]).is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 200_u8..208) {
            for packet in packets(&bytes).flatten() {
                read_all(packet);
            }
            // The same with a header that leads deeper.
            if let [flags, packet_type, high, low, ..] = &mut bytes[..] {
                (*flags, *packet_type, *high) = (*flags & 0x1f | 0x80, kind, 0);
                *low %= 32;
            }
            for packet in packets(&bytes).flatten() {
                read_all(packet);
            }
        }
    }

    fn read_all(packet: Packet<'_>) {
        match packet {
            Packet::SenderReport(report) => drop(report.reports.collect::<Vec<_>>()),
            Packet::ReceiverReport(report) => drop(report.reports.collect::<Vec<_>>()),
            Packet::SourceDescription(description) => drop(description.chunks().collect::<Vec<_>>()),
            Packet::Goodbye(goodbye) => drop(goodbye.ssrcs().collect::<Vec<_>>()),
            Packet::ExtendedReport(report) => drop(report.voip_metrics().collect::<Vec<_>>()),
            Packet::Other { .. } => {}
        }
    }
}
