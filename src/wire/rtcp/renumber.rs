//! What a receiver says of sequence numbers, for a sender whose packets got others on their way.

use super::{
    EXTENDED_REPORT, HEADER_BYTES, RECEIVER_REPORT, REPORT_BLOCK_BYTES, SENDER_INFO_BYTES, SENDER_REPORT, SSRC_BYTES,
};

/// RFC 4585 section 6.2: transport layer feedback, and its generic NACK.
const TRANSPORT_FEEDBACK: u8 = 205;
const GENERIC_NACK: u8 = 1;
/// RFC 6679 section 5.1.
const ECN_FEEDBACK: u8 = 8;
/// RFC 8888 section 3.1: a sequence of streams, each with as many blocks of two bytes as it says, before a timestamp.
const CONGESTION_FEEDBACK: u8 = 11;
const STREAM_BYTES: usize = 8;
/// Blocks of extended reports that begin with an SSRC and the first and last number that they are about: RFC 3611 sections 4.1,
/// 4.2, 4.3 and 4.6, RFC 5725, RFC 7097, RFC 7509.
const BLOCKS_OF_NUMBERS: [u8; 7] = [1, 2, 3, 6, 10, 25, 33];
/// RFC 6776 section 4.1: behind SSRC and two bytes a number, and the first and last of an interval with their cycles.
const MEASUREMENT_INFORMATION: u8 = 14;
const MEASUREMENT_NUMBERS_BYTES: usize = 16;
/// In a report block (RFC 3550 section 6.4.1).
const HIGHEST_SEQUENCE_AT: usize = 8;

/// Takes `offset(ssrc)` off each sequence number that a compound names: the highest of report blocks and of ECN feedback
/// (RFC 6679), those that a NACK (RFC 4585) asks for, the first of congestion feedback (RFC 8888), and the ranges of extended
/// reports (RFC 3611). The compound must have passed [`super::check`].
///
/// What transport-wide congestion control counts is not the number in the RTP header, and other feedback names none.
pub fn renumber(compound: &mut [u8], offset: impl Fn(u32) -> u16) {
    let mut rest = compound;
    while let [flags, packet_type, high, low, ..] = *rest {
        let bytes = HEADER_BYTES + 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((packet, after)) = rest.split_at_mut_checked(bytes) else { return };
        rest = after;
        let padding_bytes = if flags & 0x20 == 0 { 0 } else { packet.last().map_or(0, |last| usize::from(*last)) };
        let body = HEADER_BYTES..bytes.saturating_sub(padding_bytes);
        let Some(body) = packet.get_mut(body) else { return };
        match (packet_type, flags & 0x1f) {
            (SENDER_REPORT, count) => reports(body, SSRC_BYTES + SENDER_INFO_BYTES, count, &offset),
            (RECEIVER_REPORT, count) => reports(body, SSRC_BYTES, count, &offset),
            (TRANSPORT_FEEDBACK, GENERIC_NACK) => nack(body, &offset),
            (TRANSPORT_FEEDBACK, ECN_FEEDBACK) => ecn_feedback(body, &offset),
            (TRANSPORT_FEEDBACK, CONGESTION_FEEDBACK) => congestion_feedback(body, &offset),
            (EXTENDED_REPORT, _) => extended_report(body, &offset),
            _ => {}
        }
    }
}

fn reports(body: &mut [u8], at: usize, count: u8, offset: &impl Fn(u32) -> u16) {
    let blocks = body.get_mut(at..).unwrap_or_default().chunks_exact_mut(REPORT_BLOCK_BYTES);
    for block in blocks.take(count.into()) {
        let offset = offset(word(block, 0));
        take_off_extended(block, HIGHEST_SEQUENCE_AT, offset);
    }
}

/// Sender, source, and pairs of a number and a mask of those after it.
fn nack(body: &mut [u8], offset: &impl Fn(u32) -> u16) {
    let Some((head, pairs)) = body.split_at_mut_checked(2 * SSRC_BYTES) else { return };
    let offset = offset(word(head, SSRC_BYTES));
    pairs.chunks_exact_mut(4).for_each(|pair| take_off(pair, 0, offset));
}

/// Sender, source, and the highest number with its cycles.
fn ecn_feedback(body: &mut [u8], offset: &impl Fn(u32) -> u16) {
    if body.len() >= 2 * SSRC_BYTES + 4 {
        let offset = offset(word(body, SSRC_BYTES));
        take_off_extended(body, 2 * SSRC_BYTES, offset);
    }
}

fn congestion_feedback(body: &mut [u8], offset: &impl Fn(u32) -> u16) {
    let mut rest = body.get_mut(SSRC_BYTES..).unwrap_or_default();
    // The timestamp at the end is shorter than a stream.
    while let Some((stream, after)) = rest.split_at_mut_checked(STREAM_BYTES) {
        let offset = offset(word(stream, 0));
        take_off(stream, SSRC_BYTES, offset);
        let blocks = usize::from(u16::from_be_bytes([stream[6], stream[7]]));
        rest = after.get_mut((2 * blocks).next_multiple_of(4)..).unwrap_or_default();
    }
}

fn extended_report(body: &mut [u8], offset: &impl Fn(u32) -> u16) {
    let mut rest = body.get_mut(SSRC_BYTES..).unwrap_or_default();
    while let [block_type, _, high, low, ..] = *rest {
        let bytes = 4 * usize::from(u16::from_be_bytes([high, low]));
        let Some((block, after)) = rest[HEADER_BYTES..].split_at_mut_checked(bytes) else { return };
        rest = after;
        if BLOCKS_OF_NUMBERS.contains(&block_type) && bytes >= 2 * SSRC_BYTES {
            let offset = offset(word(block, 0));
            take_off(block, SSRC_BYTES, offset);
            take_off(block, SSRC_BYTES + 2, offset);
        } else if block_type == MEASUREMENT_INFORMATION && bytes >= MEASUREMENT_NUMBERS_BYTES {
            let offset = offset(word(block, 0));
            take_off(block, SSRC_BYTES + 2, offset);
            take_off_extended(block, SSRC_BYTES + 4, offset);
            take_off_extended(block, SSRC_BYTES + 8, offset);
        }
    }
}

fn take_off(bytes: &mut [u8], at: usize, offset: u16) {
    let number = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_sub(offset);
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// The same of a number with its cycles before it.
fn take_off_extended(bytes: &mut [u8], at: usize, offset: u16) {
    let number = word(bytes, at);
    let (cycles, sequence) = (number >> 16, number & 0xffff);
    let back = sequence.wrapping_sub(offset.into()) & 0xffff;
    // A number that lies before a wrap is of the cycle before.
    let cycles = if back > sequence { cycles.saturating_sub(1) } else { cycles };
    bytes[at..at + 4].copy_from_slice(&(cycles << 16 | back).to_be_bytes());
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(flags: u8, packet_type: u8, words: &[u32]) -> Vec<u8> {
        let length = u16::try_from(words.len()).unwrap().to_be_bytes();
        let body = words.iter().flat_map(|word| word.to_be_bytes());
        [0x80 | flags, packet_type].into_iter().chain(length).chain(body).collect()
    }

    /// SSRC 8 was sent with numbers that are 0x100 too high, SSRC 9 with its own.
    fn offset(ssrc: u32) -> u16 {
        if ssrc == 8 { 0x100 } else { 0 }
    }

    #[test]
    fn numbers_of_the_stream_are_taken_back_wherever_they_stand_and_nothing_else() {
        let block = |ssrc, highest| [ssrc, 0x0400_0002, highest, 80, 0x0908_0102, 8];
        let sender_info = [8, 0x0102_0304, 8, 8, 8, 8];
        for (before, after) in [
            (
                packet(2, RECEIVER_REPORT, &[&[7], &block(8, 0x0003_0120)[..], &block(9, 0x0003_0120)].concat()),
                packet(2, RECEIVER_REPORT, &[&[7], &block(8, 0x0003_0020)[..], &block(9, 0x0003_0120)].concat()),
            ),
            // The sender's number lies before a wrap that the receiver has seen, and one that it has not.
            (
                packet(1, SENDER_REPORT, &[&sender_info[..], &block(8, 0x0001_0020)].concat()),
                packet(1, SENDER_REPORT, &[&sender_info[..], &block(8, 0x0000_ff20)].concat()),
            ),
            (
                packet(1, SENDER_REPORT, &[&sender_info[..], &block(8, 0x0000_0020)].concat()),
                packet(1, SENDER_REPORT, &[&sender_info[..], &block(8, 0x0000_ff20)].concat()),
            ),
            // RFC 4585 section 6.2.1, the second one padded.
            (packet(1, 205, &[7, 8, 0x0164_0003, 0x0001_0000]), packet(1, 205, &[7, 8, 0x0064_0003, 0xff01_0000])),
            (packet(0x21, 205, &[7, 8, 0x0164_0003, 4]), packet(0x21, 205, &[7, 8, 0x0064_0003, 4])),
            (packet(1, 205, &[7, 9, 0x0164_0003]), packet(1, 205, &[7, 9, 0x0164_0003])),
            // Transport-wide congestion control, PLI, APP: no numbers of RTP headers.
            (packet(15, 205, &[7, 8, 0x0164_0003, 5]), packet(15, 205, &[7, 8, 0x0164_0003, 5])),
            (packet(1, 206, &[7, 8, 0x0164_0003]), packet(1, 206, &[7, 8, 0x0164_0003])),
            // RFC 6679, with a number before a wrap. RFC 8888: three blocks of one stream and one of another.
            (packet(8, 205, &[7, 8, 0x0002_0020, 8, 8, 0, 0, 0]), packet(8, 205, &[7, 8, 0x0001_ff20, 8, 8, 0, 0, 0])),
            (
                packet(
                    11,
                    205,
                    &[7, 8, 0x0164_0003, 0x8000_8001, 0x8002_0000, 9, 0x0164_0001, 0x8000_0000, 0x0164_0003],
                ),
                packet(
                    11,
                    205,
                    &[7, 8, 0x0064_0003, 0x8000_8001, 0x8002_0000, 9, 0x0164_0001, 0x8000_0000, 0x0164_0003],
                ),
            ),
            // RFC 6776, RFC 5725, RFC 7097, RFC 7509.
            (
                packet(0, EXTENDED_REPORT, &[7, 0x0e00_0007, 8, 0x0120, 0x0001_0140, 0x0002_0020, 1, 2, 3]),
                packet(0, EXTENDED_REPORT, &[7, 0x0e00_0007, 8, 0x0020, 0x0001_0040, 0x0001_ff20, 1, 2, 3]),
            ),
            (
                packet(0, EXTENDED_REPORT, &[7, 0x0a00_0002, 8, 0x0110_0120, 0x1900_0002, 8, 0x0110_0120]),
                packet(0, EXTENDED_REPORT, &[7, 0x0a00_0002, 8, 0x0010_0020, 0x1900_0002, 8, 0x0010_0020]),
            ),
            (
                packet(0, EXTENDED_REPORT, &[7, 0x2100_0003, 8, 0x0110_0120, 0x0110_0120]),
                packet(0, EXTENDED_REPORT, &[7, 0x2100_0003, 8, 0x0010_0020, 0x0110_0120]),
            ),
            // RFC 3611: loss, copies, times, statistics; reference time, VoIP metrics.
            (
                packet(0, EXTENDED_REPORT, &[7, 0x0100_0003, 8, 0x0110_0120, 0x4000_0000, 0x0200_0002, 8, 0x0110_0120]),
                packet(0, EXTENDED_REPORT, &[7, 0x0100_0003, 8, 0x0010_0020, 0x4000_0000, 0x0200_0002, 8, 0x0010_0020]),
            ),
            (
                packet(0, EXTENDED_REPORT, &[7, 0x0300_0002, 8, 0x0110_0120, 0x0600_0002, 9, 0x0110_0120]),
                packet(0, EXTENDED_REPORT, &[7, 0x0300_0002, 8, 0x0010_0020, 0x0600_0002, 9, 0x0110_0120]),
            ),
            (
                packet(0, EXTENDED_REPORT, &[7, 0x0400_0002, 8, 0x0110_0120, 0x0700_0002, 8, 0x0110_0120]),
                packet(0, EXTENDED_REPORT, &[7, 0x0400_0002, 8, 0x0110_0120, 0x0700_0002, 8, 0x0110_0120]),
            ),
        ] {
            // Behind another packet, as well as alone.
            for prefix in [vec![], packet(1, 203, &[8])] {
                let mut compound = [&prefix[..], &before].concat();
                renumber(&mut compound, offset);
                assert_eq!(compound, [&prefix[..], &after].concat());
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_and_what_was_well_formed_stays_so(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let kinds = [(200, None), (201, None), (205, None), (205, Some(8)), (205, Some(11)), (207, None)];
            for kind in kinds.into_iter().map(Some).chain([None]) {
                let mut before = bytes.clone();
                if let (Some((packet_type, format)), [first, second, ..]) = (kind, &mut before[..]) {
                    (*first, *second) = (0x80 | format.unwrap_or(*first & 0x3f), packet_type);
                }
                let mut after = before.clone();
                renumber(&mut after, |_| 0x0101);
                prop_assert_eq!(super::super::check(&after), super::super::check(&before));
                renumber(&mut before, |_| 0);
            }
        }
    }
}
