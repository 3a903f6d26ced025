//! RTP header view (RFC 3550 section 5.1). Never looks into a payload: it may be encrypted.

use crate::types::DropReason;

/// RFC 3550 section 5.1; versions 0 and 1 are extinct.
pub const VERSION: u8 = 2;
const FIXED_BYTES: usize = 12;
const PAYLOAD_TYPE_MASK: u8 = 0x7f;

/// The header's fields, and how long it is. All of it is in clear under SRTP, so this is read before a tag is verified
/// and must not be trusted until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    pub sequence: u16,
    /// In units of the payload's clock.
    pub timestamp: u32,
    pub ssrc: u32,
    /// The payload ends with padding, whose last byte is its length: see [`payload`].
    pub has_padding: bool,
    /// Length with CSRC list and extension; at most the packet's length.
    pub bytes: usize,
}

impl Header {
    /// Reads the header at the start of an RTP or SRTP packet.
    ///
    /// # Errors
    /// `PacketTruncated` where the packet is shorter than its header says, `PacketNotMedia` for another version.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed = packet.first_chunk::<FIXED_BYTES>().ok_or(DropReason::PacketTruncated)?;
        let [flags, marker_and_type, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if flags >> 6 != VERSION {
            return Err(DropReason::PacketNotMedia);
        }
        Ok(Self {
            marker: marker_and_type & !PAYLOAD_TYPE_MASK != 0,
            payload_type: marker_and_type & PAYLOAD_TYPE_MASK,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            has_padding: flags & 0x20 != 0,
            bytes: header_bytes(packet, flags)?,
        })
    }
}

/// Fixed header, CSRC list, and extension with its own 4-byte header (RFC 3550 sections 5.1 and 5.3.1).
fn header_bytes(packet: &[u8], flags: u8) -> Result<usize, DropReason> {
    let mut bytes = FIXED_BYTES + usize::from(flags & 0x0f) * 4;
    if flags & 0x10 != 0 {
        let extension =
            packet.get(bytes..).and_then(|rest| rest.first_chunk::<4>()).ok_or(DropReason::PacketTruncated)?;
        bytes += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
    }
    if bytes <= packet.len() { Ok(bytes) } else { Err(DropReason::PacketTruncated) }
}

/// The payload of a plain RTP packet, without padding.
///
/// # Errors
/// As [`Header::parse`], and `PacketTruncated` for padding that is empty or longer than the payload.
pub fn payload(packet: &[u8]) -> Result<&[u8], DropReason> {
    let header = Header::parse(packet)?;
    let padded = &packet[header.bytes..];
    if !header.has_padding {
        return Ok(padded);
    }
    let padding_bytes = padded.last().map_or(0, |last| usize::from(*last));
    let payload_bytes = padded.len().checked_sub(padding_bytes).filter(|_| padding_bytes > 0);
    payload_bytes.map(|bytes| &padded[..bytes]).ok_or(DropReason::PacketTruncated)
}

/// Replaces the payload type of a packet that [`Header::parse`] accepted; the marker stays.
pub fn set_payload_type(packet: &mut [u8], payload_type: u8) {
    packet[1] = packet[1] & !PAYLOAD_TYPE_MASK | payload_type & PAYLOAD_TYPE_MASK;
}

/// Replaces the sequence number of a packet that [`Header::parse`] accepted.
pub fn set_sequence(packet: &mut [u8], sequence: u16) {
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: [u8; 16] = [0x80, 0xe0, 0x12, 0x34, 0, 0, 0, 1, 0xca, 0xfe, 0xba, 0xbe, 9, 8, 7, 6];

    fn with_flags(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = PLAIN[..12].to_vec();
        packet[0] |= flags;
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn a_plain_header_is_read_field_by_field() {
        let header = Header::parse(&PLAIN).unwrap();
        let expected = Header {
            marker: true,
            payload_type: 0x60,
            sequence: 0x1234,
            timestamp: 1,
            ssrc: 0xcafe_babe,
            has_padding: false,
            bytes: 12,
        };
        assert_eq!(header, expected);
        assert_eq!(payload(&PLAIN), Ok(&[9, 8, 7, 6][..]));
    }

    #[test]
    fn csrcs_and_extension_belong_to_the_header() {
        let packet = with_flags(0x12, &[1, 1, 1, 1, 2, 2, 2, 2, 0xbe, 0xde, 0, 1, 0x10, 0, 0, 0, 42]);
        assert_eq!(Header::parse(&packet).unwrap().bytes, 28);
        assert_eq!(payload(&packet), Ok(&[42][..]));
        for cut in 0..28 {
            assert_eq!(Header::parse(&packet[..cut]), Err(DropReason::PacketTruncated), "{cut} bytes");
        }
    }

    #[test]
    fn other_versions_are_not_media() {
        for first in [0x00, 0x40, 0xc0] {
            let mut packet = PLAIN;
            packet[0] = first;
            assert_eq!(Header::parse(&packet), Err(DropReason::PacketNotMedia));
        }
    }

    #[test]
    fn padding_is_cut_and_never_beyond_the_payload() {
        assert_eq!(payload(&with_flags(0x20, &[5, 0, 0, 3])), Ok(&[5][..]));
        assert_eq!(payload(&with_flags(0x20, &[0, 0, 3])), Ok(&[][..]));
        for bad in [&[][..], &[5, 0], &[0, 0, 4]] {
            assert_eq!(payload(&with_flags(0x20, bad)), Err(DropReason::PacketTruncated));
        }
    }

    #[test]
    fn a_new_payload_type_keeps_the_marker() {
        let mut packet = PLAIN;
        set_payload_type(&mut packet, 0x7f);
        assert_eq!(packet[1], 0xff);
        packet[1] = 0x60;
        set_payload_type(&mut packet, 8);
        assert_eq!(packet[1], 8);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(header.bytes <= bytes.len());
            }
            if let Ok(payload) = payload(&bytes) {
                prop_assert!(payload.len() + 12 <= bytes.len());
            }
        }
    }
}
