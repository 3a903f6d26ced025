//! What the kernel knows of ways to peers: interfaces, routes and neighbours (rtnetlink(7)), and what a driver can do
//! (family `netdev`, Linux 6.3). Six questions and no crate: those that know all of netlink bring six more crates along.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
};

use rustix::{
    io::{Errno, Result, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::GENERIC,
        recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::types::Duration;

const HEADER_BYTES: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;

/// `struct ifinfomsg`, `rtmsg`, `ndmsg` and `genlmsghdr`.
const LINK_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
const NEIGHBOUR_BYTES: usize = 12;
const GENERIC_BYTES: usize = 4;

/// Attributes of a link, `linux/if_link.h`.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_PARENT: u16 = 5;
const LINK_INFO: u16 = 18;
const LINK_RX_QUEUES: u16 = 32;
const LINK_XDP: u16 = 43;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VLAN_ID: u16 = 1;
const XDP_ATTACHED: u16 = 2;
/// Flags of a link, netdevice(7).
const IS_UP: u32 = 1;
const IS_RUNNING: u32 = 0x40;

/// Attributes of a route, rtnetlink(7).
const ROUTE_TARGET: u16 = 1;
const ROUTE_SOURCE: u16 = 2;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRICS: u16 = 8;
const ROUTE_VIA: u16 = 18;
const ROUTE_ENCAPSULATION: u16 = 22;
const METRIC_MTU: u16 = 2;
const UNICAST: u8 = 1;

const NEIGHBOUR_TARGET: u16 = 1;
const NEIGHBOUR_ADDRESS: u16 = 2;
/// Of `linux/neighbour.h`: the address may be used; ARP or neighbour discovery is about to renew it if need be.
const NEIGHBOUR_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/// The neighbour is in use, whoever sends to it.
const NEIGHBOUR_USE: u8 = 1;

/// `linux/genetlink.h`, `linux/netdev.h`.
const GENERIC_CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_DEVICE: u8 = 1;
const DEVICE_INTERFACE: u16 = 1;
const DEVICE_FEATURES: u16 = 3;

/// The kernel answers at once; this is for one that does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Room for an interface with all its virtual functions.
const ANSWER_BYTES: usize = 64 * 1024;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) is_running: bool,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) rx_queues: u32,
    /// For a VLAN, the interface it is on and its number.
    pub(super) vlan: Option<(u32, u16)>,
    pub(super) has_program: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) interface: u32,
    /// `None`: the target is on the link.
    pub(super) gateway: Option<IpAddr>,
    /// Known to be smaller than the interface's.
    pub(super) mtu: Option<u32>,
}

/// What a driver can do for XDP (`enum netdev_xdp_act`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features(u64);

impl Features {
    /// Runs programs and hands frames to sockets.
    pub(super) const fn is_native(self) -> bool {
        self.0 & 0b11 == 0b11
    }

    pub(super) const fn has_zero_copy(self) -> bool {
        self.0 & 0b1000 != 0
    }
}

/// A socket to ask by, one question after the other.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    answer: Vec<u8>,
}

impl Netlink {
    pub(super) fn route_family() -> Result<Self> {
        Self::new(None)
    }

    fn new(protocol: Option<rustix::net::Protocol>) -> Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0, answer: vec![0; ANSWER_BYTES] })
    }

    pub(super) fn link(&mut self, index: u32) -> Result<Link> {
        let mut body = [0; LINK_BYTES];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        self.ask(GET_LINK, 0, &body, &[]).and_then(|answer| read_link(answer).ok_or(Errno::BADMSG))
    }

    pub(super) fn link_named(&mut self, name: &str) -> Result<Link> {
        let name = [name.as_bytes(), &[0]].concat();
        let answer = self.ask(GET_LINK, 0, &[0; LINK_BYTES], &[(LINK_NAME, &name)])?;
        read_link(answer).ok_or(Errno::BADMSG)
    }

    /// The numbers of the VLANs on an interface.
    pub(super) fn vlans_on(&mut self, interface: u32) -> Result<Vec<u16>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(GET_LINK, REQUEST | DUMP, self.sequence, &[0; LINK_BYTES], &[]);
        retry_on_intr(|| send(&self.socket, &question, SendFlags::empty()))?;
        let mut vlans = Vec::new();
        loop {
            let (_, len) = retry_on_intr(|| recv(&self.socket, &mut self.answer[..], RecvFlags::empty()))?;
            let bytes = self.answer.get(..len).ok_or(Errno::MSGSIZE)?;
            if sequence_of(bytes) == Some(self.sequence) && read_vlans(bytes, interface, &mut vlans)? {
                return Ok(vlans);
            }
        }
    }

    /// The way that the kernel would send a datagram; `None`: it has none, or one that is not over a link alone.
    pub(super) fn route(&mut self, source: IpAddr, target: IpAddr) -> Option<Route> {
        let bits = if target.is_ipv4() { 32 } else { 128 };
        let mut body = [0; ROUTE_BYTES];
        body[..3].copy_from_slice(&[family(target), bits, bits]);
        let attributes = [(ROUTE_TARGET, &octets(target)[..]), (ROUTE_SOURCE, &octets(source))];
        read_route(self.ask(GET_ROUTE, 0, &body, &attributes).ok()?)
    }

    /// Tells the kernel that a neighbour is in use, so that it finds it and keeps an eye on it, as if it sent there itself.
    pub(super) fn use_neighbour(&mut self, interface: u32, ip: IpAddr) -> Result<()> {
        let body = neighbour(interface, ip, NEIGHBOUR_USE);
        self.ask(NEW_NEIGHBOUR, ACKNOWLEDGE | CREATE, &body, &[(NEIGHBOUR_TARGET, &octets(ip))]).map(drop)
    }

    /// Where frames for a neighbour go; `None`: not known yet, or not reachable.
    pub(super) fn neighbour(&mut self, interface: u32, ip: IpAddr) -> Option<[u8; 6]> {
        let body = neighbour(interface, ip, 0);
        read_neighbour(self.ask(GET_NEIGHBOUR, 0, &body, &[(NEIGHBOUR_TARGET, &octets(ip))]).ok()?)
    }

    /// `None`: the kernel cannot tell.
    pub(super) fn features(interface: u32) -> Option<Features> {
        let mut netlink = Self::new(Some(GENERIC)).ok()?;
        let body = [GET_FAMILY, 1, 0, 0];
        let answer = netlink.ask(GENERIC_CONTROL, 0, &body, &[(FAMILY_NAME, b"netdev\0")]).ok()?;
        let family = attributes(answer.body.get(GENERIC_BYTES..)?).find(|(kind, _)| *kind == FAMILY_ID)?.1;
        let family = u16::from_ne_bytes(family.try_into().ok()?);
        let body = [GET_DEVICE, 1, 0, 0];
        let answer = netlink.ask(family, 0, &body, &[(DEVICE_INTERFACE, &interface.to_ne_bytes())]).ok()?;
        let features = attributes(answer.body.get(GENERIC_BYTES..)?).find(|(kind, _)| *kind == DEVICE_FEATURES)?.1;
        Some(Features(u64::from_ne_bytes(features.try_into().ok()?)))
    }

    /// Sends a question and returns the one message that answers it.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Result<Answer<'_>> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(kind, REQUEST | flags, self.sequence, body, attributes);
        retry_on_intr(|| send(&self.socket, &question, SendFlags::empty()))?;
        loop {
            let (_, len) = retry_on_intr(|| recv(&self.socket, &mut self.answer[..], RecvFlags::empty()))?;
            let bytes = self.answer.get(..len).ok_or(Errno::MSGSIZE)?;
            // An answer that came late is to an earlier question.
            if sequence_of(bytes) == Some(self.sequence) {
                break;
            }
        }
        read_answer(&self.answer)
    }
}

/// A message that answers.
struct Answer<'a> {
    kind: u16,
    body: &'a [u8],
}

fn question(kind: u16, flags: u16, sequence: u32, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend(body);
    for (kind, value) in attributes {
        let len = u16::try_from(4 + value.len()).expect("attributes of ours are short");
        bytes.extend(len.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let len = u32::try_from(bytes.len()).expect("questions of ours are short");
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

fn sequence_of(bytes: &[u8]) -> Option<u32> {
    long(bytes, 8)
}

/// The first message; an error is one, too, and says zero where something has been done.
fn read_answer(bytes: &[u8]) -> Result<Answer<'_>> {
    let (len, kind) = (long(bytes, 0), short(bytes, 4));
    let (Some(len), Some(kind)) = (len.and_then(|len| usize::try_from(len).ok()), kind) else {
        return Err(Errno::BADMSG);
    };
    let body = bytes.get(HEADER_BYTES..len).ok_or(Errno::BADMSG)?;
    if kind != ERROR {
        return Ok(Answer { kind, body });
    }
    match long(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(Answer { kind, body: &[] }),
        Some(error) => Err(Errno::from_raw_os_error(error.wrapping_neg())),
        None => Err(Errno::BADMSG),
    }
}

/// Of a part of the list of all interfaces; returns whether it is the last.
fn read_vlans(mut bytes: &[u8], interface: u32, vlans: &mut Vec<u16>) -> Result<bool> {
    while !bytes.is_empty() {
        let answer = read_answer(bytes)?;
        if answer.kind == DONE {
            return Ok(true);
        }
        let len = (HEADER_BYTES + answer.body.len()).next_multiple_of(4);
        let vlan = read_link(answer).and_then(|link| link.vlan);
        vlans.extend(vlan.filter(|(parent, _)| *parent == interface).map(|(_, number)| number));
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(false)
}

fn read_link(answer: Answer<'_>) -> Option<Link> {
    if answer.kind != NEW_LINK {
        return None;
    }
    let (index, flags) = (long(answer.body, 4)?, long(answer.body, 8)?);
    let is_running = flags & (IS_UP | IS_RUNNING) == IS_UP | IS_RUNNING;
    let (mut mac, mut mtu, mut rx_queues, mut parent, mut vlan, mut has_program) = (None, None, 0, None, None, false);
    for (kind, value) in attributes(answer.body.get(LINK_BYTES..)?) {
        match kind {
            LINK_ADDRESS => mac = <[u8; 6]>::try_from(value).ok(),
            LINK_MTU => mtu = long(value, 0),
            LINK_RX_QUEUES => rx_queues = long(value, 0)?,
            LINK_PARENT => parent = long(value, 0),
            LINK_INFO => vlan = vlan_of(value),
            LINK_XDP => {
                has_program = attributes(value).any(|(kind, value)| kind == XDP_ATTACHED && value.first() != Some(&0));
            }
            _ => {}
        }
    }
    // Other kinds of links name a peer by what a VLAN names its parent by.
    Some(Link { index, is_running, mac: mac?, mtu: mtu?, rx_queues, vlan: parent.zip(vlan), has_program })
}

fn vlan_of(info: &[u8]) -> Option<u16> {
    let of_kind = |wanted: u16| attributes(info).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    of_kind(INFO_KIND).filter(|kind| kind.strip_suffix(&[0]).unwrap_or(kind) == b"vlan")?;
    let (_, id) = attributes(of_kind(INFO_DATA)?).find(|(kind, _)| *kind == VLAN_ID)?;
    short(id, 0)
}

fn read_route(answer: Answer<'_>) -> Option<Route> {
    if answer.kind != NEW_ROUTE || *answer.body.get(7)? != UNICAST {
        return None;
    }
    let (mut interface, mut gateway, mut mtu) = (None, None, None);
    for (kind, value) in attributes(answer.body.get(ROUTE_BYTES..)?) {
        match kind {
            ROUTE_INTERFACE => interface = long(value, 0),
            ROUTE_GATEWAY => gateway = Some(address(value)?),
            ROUTE_METRICS => {
                mtu = attributes(value).find(|(kind, _)| *kind == METRIC_MTU).and_then(|(_, value)| long(value, 0));
            }
            // A gateway of the other family, a tunnel.
            ROUTE_VIA | ROUTE_ENCAPSULATION => return None,
            _ => {}
        }
    }
    Some(Route { interface: interface?, gateway, mtu })
}

fn neighbour(interface: u32, ip: IpAddr, flags: u8) -> [u8; NEIGHBOUR_BYTES] {
    let mut body = [0; NEIGHBOUR_BYTES];
    body[0] = family(ip);
    body[4..8].copy_from_slice(&interface.to_ne_bytes());
    body[10] = flags;
    body
}

fn read_neighbour(answer: Answer<'_>) -> Option<[u8; 6]> {
    let is_valid = answer.kind == NEW_NEIGHBOUR && short(answer.body, 8)? & NEIGHBOUR_VALID != 0;
    let (_, mac) = attributes(answer.body.get(NEIGHBOUR_BYTES..)?).find(|(kind, _)| *kind == NEIGHBOUR_ADDRESS)?;
    mac.try_into().ok().filter(|_| is_valid)
}

/// Kind and value of each; what is cut off ends them.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// The upper bits say how the value is made.
    const KIND_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(short(bytes, 0)?), short(bytes, 2)?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND_MASK, value))
    })
}

fn family(ip: IpAddr) -> u8 {
    u8::try_from(if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).expect("2 or 10")
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(|octets| Ipv4Addr::from(octets).into());
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(kind: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        question(kind, 0, 7, body, attributes)
    }

    /// `value` as nested attributes.
    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        question(0, 0, 0, &[], attributes).split_off(HEADER_BYTES)
    }

    fn link_body(flags: u32) -> [u8; LINK_BYTES] {
        let mut body = [0; LINK_BYTES];
        body[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body
    }

    #[test]
    fn the_vlans_of_an_interface_are_found_among_all_links() {
        let link = |kind: &[u8], parent: u32, number: u16| {
            let info = nested(&[(INFO_KIND, kind), (INFO_DATA, &nested(&[(VLAN_ID, &number.to_ne_bytes())]))]);
            let (parent, mtu) = (parent.to_ne_bytes(), 1_500_u32.to_ne_bytes());
            let attributes: [(u16, &[u8]); 4] =
                [(LINK_ADDRESS, &[2, 0, 0, 0, 0, 1]), (LINK_MTU, &mtu), (LINK_PARENT, &parent), (LINK_INFO, &info)];
            answer(NEW_LINK, &link_body(0), &attributes)
        };
        let first = [link(b"vlan\0", 3, 100), link(b"vlan\0", 4, 101), link(b"macvlan\0", 3, 102)].concat();
        let mut vlans = Vec::new();
        assert_eq!(read_vlans(&first, 3, &mut vlans), Ok(false), "more follows");
        let last = [link(b"vlan\0", 3, 7), answer(DONE, &[0; 4], &[])].concat();
        assert_eq!(read_vlans(&last, 3, &mut vlans), Ok(true));
        assert_eq!(vlans, [100, 7]);
        let refused = answer(ERROR, &(-1_i32).to_ne_bytes(), &[]);
        assert_eq!(read_vlans(&refused, 3, &mut vlans), Err(Errno::PERM));
        for len in 1..last.len() {
            let _ = read_vlans(&last[..len], 3, &mut vlans);
        }
    }

    #[test]
    fn a_vlan_is_told_from_a_virtual_pair_that_names_its_peer() {
        let mac = [2, 0, 0, 0, 0, 1];
        let base: [(u16, &[u8]); 3] =
            [(LINK_ADDRESS, &mac), (LINK_MTU, &1_500_u32.to_ne_bytes()), (LINK_PARENT, &2_u32.to_ne_bytes())];
        let expected =
            Link { index: 3, is_running: true, mac, mtu: 1_500, rx_queues: 0, vlan: None, has_program: false };
        for (info, vlan) in [
            (nested(&[(INFO_KIND, b"veth\0")]), None),
            (
                nested(&[(INFO_KIND, b"vlan\0"), (INFO_DATA, &nested(&[(VLAN_ID, &100_u16.to_ne_bytes())]))]),
                Some((2, 100)),
            ),
        ] {
            let attributes = [&base[..], &[(LINK_INFO, &info)]].concat();
            let bytes = answer(NEW_LINK, &link_body(IS_UP | IS_RUNNING), &attributes);
            let link = read_answer(&bytes).map(read_link).unwrap();
            assert_eq!(link, Some(Link { vlan, ..expected.clone() }));
        }
        let xdp = nested(&[(XDP_ATTACHED, &[1])]);
        let attributes = [&base[..], &[(LINK_XDP, &xdp)]].concat();
        let bytes = answer(NEW_LINK, &link_body(IS_UP), &attributes);
        let link = read_link(read_answer(&bytes).unwrap()).unwrap();
        assert!(link.has_program && !link.is_running);
    }

    #[test]
    fn a_route_through_a_gateway_a_tunnel_and_no_unicast_are_told_apart() {
        let body = |kind| {
            let mut body = [0; ROUTE_BYTES];
            body[7] = kind;
            body
        };
        let out = 4_u32.to_ne_bytes();
        let metrics = nested(&[(METRIC_MTU, &1_400_u32.to_ne_bytes())]);
        let read = |kind, attributes: &[(u16, &[u8])]| {
            let bytes = answer(NEW_ROUTE, &body(kind), attributes);
            read_route(read_answer(&bytes).unwrap())
        };
        let interface = (ROUTE_INTERFACE, &out[..]);
        assert_eq!(read(UNICAST, &[interface]), Some(Route { interface: 4, gateway: None, mtu: None }));
        let six: Ipv6Addr = "fe80::1".parse().unwrap();
        for (octets, gateway) in [(&[192, 0, 2, 1][..], "192.0.2.1"), (&six.octets(), "fe80::1")] {
            let route = read(UNICAST, &[interface, (ROUTE_GATEWAY, octets), (ROUTE_METRICS, &metrics)]);
            let gateway = Some(gateway.parse().unwrap());
            assert_eq!(route, Some(Route { interface: 4, gateway, mtu: Some(1_400) }));
        }
        assert_eq!(read(UNICAST, &[interface, (ROUTE_ENCAPSULATION, &[])]), None);
        assert_eq!(read(UNICAST, &[interface, (ROUTE_VIA, &[0; 18])]), None);
        // Local, unreachable.
        assert_eq!((read(2, &[interface]), read(7, &[interface])), (None, None));
    }

    #[test]
    fn a_neighbour_counts_while_its_address_may_be_used() {
        for (state, is_valid) in [(0x01, false), (0x02, true), (0x04, true), (0x20, false), (0x80, true), (0, false)] {
            let mut body = [0; NEIGHBOUR_BYTES];
            body[8] = state;
            let bytes = answer(NEW_NEIGHBOUR, &body, &[(NEIGHBOUR_ADDRESS, &[2, 0, 0, 0, 0, 9])]);
            let mac = read_neighbour(read_answer(&bytes).unwrap());
            assert_eq!(mac.is_some(), is_valid, "state {state:#x}");
        }
    }

    #[test]
    fn the_kernel_answers_what_it_is_asked() {
        let mut netlink = Netlink::route_family().unwrap();
        assert_eq!(netlink.link_named("no-such-link").err(), Some(Errno::NODEV));
        let loopback = netlink.link_named("lo").unwrap();
        assert_eq!(netlink.link(loopback.index).unwrap(), loopback);
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(netlink.route(localhost, localhost), None, "a way to oneself leads over no link");
        assert_eq!(netlink.neighbour(loopback.index, "192.0.2.77".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let mut bytes = bytes;
            if let Some(header) = bytes.first_chunk_mut::<6>() {
                header[..4].copy_from_slice(&150_u32.to_ne_bytes());
                let kind = [NEW_LINK, NEW_ROUTE, NEW_NEIGHBOUR][usize::try_from(kind).unwrap()];
                header[4..].copy_from_slice(&kind.to_ne_bytes());
            }
            let read = || read_answer(&bytes);
            let _ = (read().map(read_link), read().map(read_route), read().map(read_neighbour));
        }
    }
}
