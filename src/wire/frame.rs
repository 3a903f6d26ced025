//! UDP datagrams in Ethernet frames, as a network card carries them: IEEE 802.3 with at most one 802.1Q tag, IPv4 (RFC 791)
//! without options, IPv6 (RFC 8200) without extension headers, UDP (RFC 768). For the backend that passes the kernel by;
//! everything else in a frame is the kernel's.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
};

use crate::types::DropReason;

pub const ETHER_TYPE_IPV4: u16 = 0x0800;
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;
/// IEEE 802.1Q.
pub const ETHER_TYPE_VLAN: u16 = 0x8100;
/// RFC 768.
pub const PROTOCOL_UDP: u8 = 17;
/// Version 4 and a header of five words: no options.
pub const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
/// More fragments, or a place in a datagram behind its start (RFC 791 section 3.1).
pub const IPV4_FRAGMENT: u16 = 0x3fff;

pub const ETHERNET_BYTES: usize = 14;
pub const VLAN_BYTES: usize = 4;
pub const IPV4_BYTES: usize = 20;
pub const IPV6_BYTES: usize = 40;
pub const UDP_BYTES: usize = 8;
/// In front of a payload, at most.
pub const HEADERS_BYTES_MAX: usize = ETHERNET_BYTES + VLAN_BYTES + IPV6_BYTES + UDP_BYTES;

/// A datagram is sent whole or not at all (RFC 791 section 3.1): its identification then means nothing (RFC 6864).
const IPV4_DONT_FRAGMENT: u16 = 0x4000;
const HOPS_MAX: u8 = 64;
/// The upper bits of a tag are priority and eligibility.
pub const VLAN_MASK: u16 = 0x0fff;

/// A datagram that was found in a frame, intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: SocketAddr,
    pub target: SocketAddr,
    /// Where in the frame.
    pub payload: Range<usize>,
}

/// How a frame reaches the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    pub source: [u8; 6],
    pub target: [u8; 6],
    /// 802.1Q identifier, 12 bits.
    pub vlan: Option<u16>,
}

/// Finds the datagram in a frame. What stands behind it in the frame is padding.
///
/// A checksum that holds the sum of the pseudo-header alone counts as good: virtual network cards hand such datagrams from
/// one end to the other, for a real one to complete that never comes (`CHECKSUM_PARTIAL` in Linux).
///
/// # Errors
/// `PacketTruncated` where a length leads past its end, `PacketBadChecksum`, and `PacketNotMedia` for anything but an
/// unfragmented UDP datagram.
pub fn parse(frame: &[u8]) -> Result<Datagram, DropReason> {
    let (ether_type, start) = match word(frame, 12)? {
        ETHER_TYPE_VLAN => (word(frame, ETHERNET_BYTES + 2)?, ETHERNET_BYTES + VLAN_BYTES),
        ether_type => (ether_type, ETHERNET_BYTES),
    };
    let packet = frame.get(start..).ok_or(DropReason::PacketTruncated)?;
    let (source, target, udp) = match ether_type {
        ETHER_TYPE_IPV4 => ipv4(packet)?,
        ETHER_TYPE_IPV6 => ipv6(packet)?,
        _ => return Err(DropReason::PacketNotMedia),
    };
    let header = udp.first_chunk::<UDP_BYTES>().ok_or(DropReason::PacketTruncated)?;
    let [s0, s1, t0, t1, l0, l1, c0, c1] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let datagram = udp.get(..len).filter(|_| len >= UDP_BYTES).ok_or(DropReason::PacketTruncated)?;
    let pseudo = pseudo_header_sum(source, target, len);
    let checksum = u16::from_be_bytes([c0, c1]);
    // RFC 768: zero says that there is none, which IPv6 does not allow (RFC 8200 section 8.1).
    let has_none = checksum == 0 && source.is_ipv4();
    if !has_none && fold(pseudo + sum(datagram)) != 0xffff && checksum != fold(pseudo) {
        return Err(DropReason::PacketBadChecksum);
    }
    let headers = if source.is_ipv4() { IPV4_BYTES } else { IPV6_BYTES };
    let payload = start + headers + UDP_BYTES..start + headers + len;
    let at = |ip, port| SocketAddr::new(ip, u16::from_be_bytes(port));
    Ok(Datagram { source: at(source, [s0, s1]), target: at(target, [t0, t1]), payload })
}

/// Addresses and what the packet carries.
fn ipv4(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), DropReason> {
    let header = packet.first_chunk::<IPV4_BYTES>().ok_or(DropReason::PacketTruncated)?;
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & IPV4_FRAGMENT != 0;
    if header[0] != IPV4_WITHOUT_OPTIONS || is_fragment || header[9] != PROTOCOL_UDP {
        return Err(DropReason::PacketNotMedia);
    }
    if fold(sum(header)) != 0xffff {
        return Err(DropReason::PacketBadChecksum);
    }
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let carried = packet.get(IPV4_BYTES..len).ok_or(DropReason::PacketTruncated)?;
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    Ok((address(12), address(16), carried))
}

fn ipv6(packet: &[u8]) -> Result<(IpAddr, IpAddr, &[u8]), DropReason> {
    let header = packet.first_chunk::<IPV6_BYTES>().ok_or(DropReason::PacketTruncated)?;
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_UDP {
        return Err(DropReason::PacketNotMedia);
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let carried = packet.get(IPV6_BYTES..IPV6_BYTES + len).ok_or(DropReason::PacketTruncated)?;
    let address = |at: usize| -> IpAddr {
        let octets = header[at..].first_chunk::<16>().expect("both addresses lie in the header");
        Ipv6Addr::from(*octets).into()
    };
    Ok((address(8), address(24), carried))
}

/// How many bytes [`write_headers`] puts in front of a payload.
const fn headers_bytes(ethernet: &Ethernet, is_ipv6: bool) -> usize {
    let vlan = if ethernet.vlan.is_some() { VLAN_BYTES } else { 0 };
    ETHERNET_BYTES + vlan + if is_ipv6 { IPV6_BYTES } else { IPV4_BYTES } + UDP_BYTES
}

/// Writes the headers of a datagram in front of its payload; returns where the frame now starts. `dscp`: code point, 6 bits.
/// `None`: the addresses are of two families, the datagram is too large for IP, or there is no room.
pub fn write_headers(
    buffer: &mut [u8],
    payload: Range<usize>,
    ethernet: &Ethernet,
    (source, target): (SocketAddr, SocketAddr),
    dscp: u8,
) -> Option<usize> {
    let headers = headers_bytes(ethernet, source.is_ipv6());
    let start = payload.start.checked_sub(headers)?;
    let udp_bytes = UDP_BYTES + payload.len();
    let frame = buffer.get_mut(start..payload.end)?;
    let (link, packet) = frame.split_at_mut(headers - UDP_BYTES - ip_bytes(source.is_ipv6()));
    let (ip, udp) = packet.split_at_mut(ip_bytes(source.is_ipv6()));
    match (source.ip(), target.ip()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => write_ipv4(ip, source, target, udp_bytes, dscp)?,
        (IpAddr::V6(source), IpAddr::V6(target)) => write_ipv6(ip, source, target, udp_bytes, dscp)?,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    write_udp(udp, source, target);
    let ether_type = if source.is_ipv6() { ETHER_TYPE_IPV6 } else { ETHER_TYPE_IPV4 };
    write_ethernet(link, ethernet, ether_type);
    Some(start)
}

const fn ip_bytes(is_ipv6: bool) -> usize {
    if is_ipv6 { IPV6_BYTES } else { IPV4_BYTES }
}

fn write_ethernet(link: &mut [u8], ethernet: &Ethernet, ether_type: u16) {
    let types = link.len() - 2;
    link[..6].copy_from_slice(&ethernet.target);
    link[6..12].copy_from_slice(&ethernet.source);
    if let Some(vlan) = ethernet.vlan {
        link[12..14].copy_from_slice(&ETHER_TYPE_VLAN.to_be_bytes());
        link[14..16].copy_from_slice(&(vlan & VLAN_MASK).to_be_bytes());
    }
    link[types..].copy_from_slice(&ether_type.to_be_bytes());
}

fn write_ipv4(header: &mut [u8], source: Ipv4Addr, target: Ipv4Addr, udp_bytes: usize, dscp: u8) -> Option<()> {
    let len = u16::try_from(IPV4_BYTES + udp_bytes).ok()?;
    header[..2].copy_from_slice(&[IPV4_WITHOUT_OPTIONS, dscp << 2]);
    header[2..4].copy_from_slice(&len.to_be_bytes());
    header[4..6].fill(0);
    header[6..8].copy_from_slice(&IPV4_DONT_FRAGMENT.to_be_bytes());
    header[8..12].copy_from_slice(&[HOPS_MAX, PROTOCOL_UDP, 0, 0]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&target.octets());
    let checksum = !fold(sum(header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn write_ipv6(header: &mut [u8], source: Ipv6Addr, target: Ipv6Addr, udp_bytes: usize, dscp: u8) -> Option<()> {
    let len = u16::try_from(udp_bytes).ok()?;
    // Version, traffic class and no flow label.
    header[..4].copy_from_slice(&[0x60 | dscp >> 2, dscp << 6, 0, 0]);
    header[4..6].copy_from_slice(&len.to_be_bytes());
    header[6..8].copy_from_slice(&[PROTOCOL_UDP, HOPS_MAX]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&target.octets());
    Some(())
}

fn write_udp(datagram: &mut [u8], source: SocketAddr, target: SocketAddr) {
    let len = datagram.len();
    datagram[..2].copy_from_slice(&source.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&target.port().to_be_bytes());
    let field = u16::try_from(len).expect("the IP header has taken the length");
    datagram[4..6].copy_from_slice(&field.to_be_bytes());
    datagram[6..8].fill(0);
    let checksum = !fold(pseudo_header_sum(source.ip(), target.ip(), len) + sum(datagram));
    // A sum of zero is sent as all ones, since zero says that there is none.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 768 and RFC 8200 section 8.1: addresses, protocol and length are protected, too.
fn pseudo_header_sum(source: IpAddr, target: IpAddr, udp_bytes: usize) -> u64 {
    let addresses = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => sum(&source.octets()) + sum(&target.octets()),
        (IpAddr::V6(source), IpAddr::V6(target)) => sum(&source.octets()) + sum(&target.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    addresses + u64::from(PROTOCOL_UDP) + udp_bytes as u64
}

/// RFC 1071, four bytes at a time; to be folded. An odd byte at the end counts as if a zero followed.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(last));
    total
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded until it fits")
}

fn word(bytes: &[u8], at: usize) -> Result<u16, DropReason> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(DropReason::PacketTruncated)?;
    Ok(u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ETHERNET: Ethernet = Ethernet { source: [2, 0, 0, 0, 0, 1], target: [2, 0, 0, 0, 0, 2], vlan: None };

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// A frame with this payload.
    fn frame(ethernet: &Ethernet, source: SocketAddr, target: SocketAddr, payload: &[u8], dscp: u8) -> Vec<u8> {
        let mut buffer = [&[0xee; HEADERS_BYTES_MAX][..], payload].concat();
        let end = buffer.len();
        let start = write_headers(&mut buffer, HEADERS_BYTES_MAX..end, ethernet, (source, target), dscp).unwrap();
        buffer.split_off(start)
    }

    fn ipv4_frame() -> Vec<u8> {
        frame(&ETHERNET, at("192.168.0.1:4000"), at("192.168.0.199:20000"), b"voice", 46)
    }

    fn ipv6_frame() -> Vec<u8> {
        frame(&ETHERNET, at("[2001:db8::1]:4000"), at("[2001:db8::2]:20000"), b"voice", 46)
    }

    /// RFC 1071 section 1, literally.
    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut total = 0_u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) * 256 + pair.get(1).map_or(0, |low| u32::from(*low));
            total = (total & 0xffff) + (total >> 16);
        }
        u16::try_from(total).unwrap()
    }

    #[test]
    fn a_frame_is_written_byte_by_byte_as_the_standards_say() {
        // Header of IPv4 with a checksum that was worked out by hand elsewhere: ones' complement of 0x479e.
        let plain = frame(&ETHERNET, at("192.168.0.1:1"), at("192.168.0.199:2"), &[0; 87], 0);
        let expected = "0200000000020200000000010800450000730000400040 11b861c0a80001c0a800c7 00010002005f";
        let expected: Vec<u8> = expected
            .replace(' ', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(plain[..expected.len()], expected);
        let tagged = Ethernet { vlan: Some(100), ..ETHERNET };
        let tagged = frame(&tagged, at("[2001:db8::1]:1"), at("[2001:db8::2]:2"), b"x", 46);
        assert_eq!(tagged[12..26], [0x81, 0, 0, 100, 0x86, 0xdd, 0x6b, 0x80, 0, 0, 0, 9, 17, 64]);
    }

    #[test]
    fn each_fault_of_a_frame_has_a_name() {
        type Spoil = fn(&mut Vec<u8>);
        let ipv4: [(Spoil, DropReason); 12] = [
            (|f| f[12] = 0x88, DropReason::PacketNotMedia),
            (|f| f[14] = 0x46, DropReason::PacketNotMedia),
            (|f| f[14] = 0x65, DropReason::PacketNotMedia),
            (|f| f[20] = 0x20, DropReason::PacketNotMedia),
            (|f| f[21] = 1, DropReason::PacketNotMedia),
            (|f| f[23] = 6, DropReason::PacketNotMedia),
            (|f| f[22] = 63, DropReason::PacketBadChecksum),
            (|f| f[41] ^= 1, DropReason::PacketBadChecksum),
            (|f| *f.last_mut().unwrap() ^= 1, DropReason::PacketBadChecksum),
            (|f| f[34] ^= 1, DropReason::PacketBadChecksum),
            (|f| f[39] = 7, DropReason::PacketTruncated),
            (|f| f[39] = 14, DropReason::PacketTruncated),
        ];
        for (n, (spoil, reason)) in ipv4.into_iter().enumerate() {
            let mut frame = ipv4_frame();
            spoil(&mut frame);
            assert_eq!(parse(&frame), Err(reason), "fault {n}");
        }
        let ipv6: [(Spoil, DropReason); 5] = [
            (|f| f[14] = 0x45, DropReason::PacketNotMedia),
            (|f| f[20] = 0, DropReason::PacketNotMedia),
            (|f| f[20] = 44, DropReason::PacketNotMedia),
            (|f| f[60..62].fill(0), DropReason::PacketBadChecksum),
            (|f| f[19] += 1, DropReason::PacketTruncated),
        ];
        for (n, (spoil, reason)) in ipv6.into_iter().enumerate() {
            let mut frame = ipv6_frame();
            spoil(&mut frame);
            assert_eq!(parse(&frame), Err(reason), "fault {n} of IPv6");
        }
        for whole in [ipv4_frame(), ipv6_frame()] {
            for len in 0..whole.len() {
                assert!(parse(&whole[..len]).is_err(), "{len} bytes of {}", whole.len());
            }
        }
    }

    #[test]
    fn a_datagram_without_a_checksum_one_of_a_virtual_card_and_one_with_padding_are_taken() {
        let expected = parse(&ipv4_frame()).unwrap();
        let mut without = ipv4_frame();
        without[40..42].fill(0);
        let partial = |mut frame: Vec<u8>, at: usize| {
            let Datagram { source, target, payload } = parse(&frame).unwrap();
            let pseudo = fold(pseudo_header_sum(source.ip(), target.ip(), payload.len() + UDP_BYTES));
            frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
            frame
        };
        let padded = [&ipv4_frame()[..], &[0xaa; 13]].concat();
        for frame in [without, partial(ipv4_frame(), 40), padded] {
            assert_eq!(parse(&frame).as_ref(), Ok(&expected));
        }
        assert_eq!(parse(&partial(ipv6_frame(), 60)), parse(&ipv6_frame()));
    }

    #[test]
    fn what_has_no_room_or_no_form_is_not_written() {
        let (four, six) = (at("192.0.2.1:1"), at("[2001:db8::1]:1"));
        let mut buffer = vec![0; 66_000];
        let mut write =
            |payload: Range<usize>, source, target| write_headers(&mut buffer, payload, &ETHERNET, (source, target), 0);
        assert_eq!(write(42..50, four, four), Some(0));
        assert_eq!(write(41..50, four, four), None);
        assert_eq!(write(62..50_000, six, six), Some(0));
        assert_eq!(write(61..70, six, six), None);
        assert_eq!(write(100..110, four, six), None);
        assert_eq!(write(100..110, six, four), None);
        assert_eq!(write(100..66_001, four, four), None);
        assert_eq!(write(100..100 + 65_507, four, four), Some(58));
        assert_eq!(write(100..100 + 65_508, four, four), None);
        assert_eq!(write(100..100 + 65_528, six, six), None);
    }

    fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let four = any::<(Ipv4Addr, u16, Ipv4Addr, u16)>()
            .prop_map(|(a, p, b, q)| (SocketAddr::from((a, p)), SocketAddr::from((b, q))));
        let six = any::<(Ipv6Addr, u16, Ipv6Addr, u16)>()
            .prop_map(|(a, p, b, q)| (SocketAddr::from((a, p)), SocketAddr::from((b, q))));
        prop_oneof![four, six]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            (source, target) in addresses(),
            payload in proptest::collection::vec(any::<u8>(), 0..1_500),
            vlan in proptest::option::of(0_u16..4_096),
            dscp in 0_u8..64,
        ) {
            let bytes = frame(&Ethernet { vlan, ..ETHERNET }, source, target, &payload, dscp);
            let found = parse(&bytes).unwrap();
            prop_assert_eq!((found.source, found.target), (source, target));
            prop_assert_eq!(&bytes[found.payload], &payload[..]);
        }

        #[test]
        fn a_flipped_bit_behind_the_link_header_is_noticed(
            (source, target) in addresses(),
            payload in proptest::collection::vec(any::<u8>(), 1..64),
            place in any::<prop::sample::Index>(),
            bit in 0_u32..8,
        ) {
            let mut bytes = frame(&ETHERNET, source, target, &payload, 46);
            let at = ETHERNET_BYTES + place.index(bytes.len() - ETHERNET_BYTES);
            bytes[at] ^= 1_u8 << bit;
            // Neither traffic class, flow label nor hop limit of IPv6 is covered by a checksum.
            let is_uncovered = source.is_ipv6() && matches!(at - ETHERNET_BYTES, 0..=3 | 7);
            // By chance the field may now say that there is no checksum, or no whole one.
            let says_so = |found: Datagram| {
                let field = word(&bytes, found.payload.start - 2).unwrap();
                let pseudo = pseudo_header_sum(found.source.ip(), found.target.ip(), found.payload.len() + UDP_BYTES);
                field == 0 || field == fold(pseudo)
            };
            prop_assert!(is_uncovered || parse(&bytes).map_or(true, says_so));
        }

        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_usize..4) {
            let mut bytes = bytes;
            // Most of all bytes are no IP at all: bring them further in.
            let beginnings: [&[u8]; 3] = [&[8, 0, 0x45], &[0x86, 0xdd, 0x60], &[0x81, 0, 0, 1, 8, 0, 0x45]];
            if let Some(beginning) = beginnings.get(kind)
                && let Some(place) = bytes.get_mut(12..12 + beginning.len())
            {
                place.copy_from_slice(beginning);
            }
            if let Ok(found) = parse(&bytes) {
                prop_assert!(bytes.get(found.payload).is_some());
            }
        }

        #[test]
        fn the_fast_sum_is_the_slow_one(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (fast, slow) = (fold(sum(&bytes)), slow_sum(&bytes));
            // Zero has two forms.
            prop_assert!(fast == slow || fast % 0xffff == slow % 0xffff);
        }
    }
}
