//! The program that a network card runs for each frame (eBPF, RFC 9669): a UDP datagram to one of our media ports, on the
//! queue of the worker that owns the port, goes to that worker's ring; everything else goes to the kernel. Written here instruction by
//! instruction, so that nobody needs a compiler for it; in C it would be about forty lines.
//!
//! Fragments, options, ICMP, ARP, neighbour discovery and link-local senders are the kernel's; so is a leg's packet on a
//! queue that is not its worker's, which reaches the leg through its socket.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::wire::frame::{
    ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_VLAN, ETHERNET_BYTES, IPV4_BYTES, IPV4_FRAGMENT, IPV4_WITHOUT_OPTIONS,
    IPV6_BYTES, PROTOCOL_UDP, UDP_BYTES, VLAN_BYTES, VLAN_MASK,
};

/// `enum xdp_action` of the kernel.
const XDP_PASS: i32 = 2;
/// The helper that hands a frame to a socket.
const BPF_REDIRECT_MAP: i32 = 51;
/// Fields of `struct xdp_md`.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_DATA_END: i16 = 4;
const CONTEXT_QUEUE: i16 = 16;

/// What the program looks for.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The interface's own: others' frames reach a card, too.
    pub(super) mac: [u8; 6],
    /// On the interface. Frames of others are nobody's here; only the kernel knows.
    pub(super) vlans: Vec<u16>,
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
    /// Queues, with the ports of the workers that read them.
    pub(super) queues: Vec<(u32, RangeInclusive<u16>)>,
}

impl Target {
    pub(super) fn new(
        mac: [u8; 6],
        vlans: Vec<u16>,
        addresses: &[IpAddr],
        queues: Vec<(u32, RangeInclusive<u16>)>,
    ) -> Self {
        let ipv4 = addresses.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None });
        let ipv6 = addresses.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None });
        Self { mac, vlans, ipv4, ipv6, queues }
    }
}

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u8,
    /// Destination below, source above.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What the program calls its registers. The first five are lost in a call, and carry its arguments.
#[derive(Clone, Copy)]
enum Register {
    /// What becomes of the frame.
    Verdict = 0,
    /// Of the call; the context before it.
    Argument1 = 1,
    /// The end of what was read of the frame; the queue at the end.
    Place = 2,
    End = 3,
    /// How far the next look at the frame goes.
    Reach = 4,
    Value = 5,
    Context = 6,
}

/// Places that are jumped to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Tagged,
    Untagged,
    Ipv4,
    Ipv6,
    Port,
    /// The test of this queue.
    Queue(usize),
    Redirect,
    Pass,
}

use Register::{Argument1, Context, End, Place, Reach, Value, Verdict};

/// The program for this target; `sockets` is the map of sockets by queue.
pub(super) fn program(target: &Target, sockets: BorrowedFd<'_>) -> Vec<Instruction> {
    let mut code = Assembler::default();
    code.copy(Context, Argument1);
    code.load_word(Place, Context, CONTEXT_DATA);
    code.load_word(End, Context, CONTEXT_DATA_END);
    ethernet(&mut code, target.mac, &target.vlans);
    if let Some(address) = target.ipv4 {
        ipv4(&mut code, address);
    }
    if let Some(address) = target.ipv6 {
        ipv6(&mut code, address);
    }
    ports(&mut code, &target.queues);
    code.label(Label::Redirect);
    // The queue is the second argument already.
    code.load_map(Argument1, sockets);
    code.set(End, XDP_PASS);
    code.call(BPF_REDIRECT_MAP);
    code.exit();
    code.label(Label::Pass);
    code.set(Verdict, XDP_PASS);
    code.exit();
    let known = [(Label::Ipv4, target.ipv4.is_some()), (Label::Ipv6, target.ipv6.is_some())];
    code.finish(|label| known.iter().all(|(of, is_known)| *of != label || *is_known))
}

/// Leaves the place at the packet.
fn ethernet(code: &mut Assembler, mac: [u8; 6], vlans: &[u16]) {
    code.require(ETHERNET_BYTES);
    let [m0, m1, m2, m3, m4, m5] = mac;
    code.load_word(Value, Place, 0);
    code.unless_word(Value, i32::from_ne_bytes([m0, m1, m2, m3]), Label::Pass);
    code.load_half(Value, Place, 4);
    code.unless(Value, i32::from(u16::from_ne_bytes([m4, m5])), Label::Pass);
    code.load_half(Value, Place, 12);
    code.unless(Value, in_frame(ETHER_TYPE_VLAN), Label::Untagged);
    code.require(ETHERNET_BYTES + VLAN_BYTES);
    code.load_half(Value, Place, offset(ETHERNET_BYTES));
    code.and(Value, in_frame(VLAN_MASK));
    // Of no VLAN: the tag has a priority only (IEEE 802.1Q).
    code.if_equal(Value, 0, Label::Tagged);
    for vlan in vlans {
        code.if_equal(Value, in_frame(*vlan), Label::Tagged);
    }
    code.jump(Label::Pass);
    code.label(Label::Tagged);
    code.load_half(Value, Place, offset(ETHERNET_BYTES + 2));
    code.add(Place, VLAN_BYTES);
    code.label(Label::Untagged);
    code.add(Place, ETHERNET_BYTES);
    code.if_equal(Value, in_frame(ETHER_TYPE_IPV4), Label::Ipv4);
    code.if_equal(Value, in_frame(ETHER_TYPE_IPV6), Label::Ipv6);
    code.jump(Label::Pass);
}

/// Leaves the target port, as it stands in the frame, in the value.
fn ipv4(code: &mut Assembler, address: Ipv4Addr) {
    code.label(Label::Ipv4);
    code.require(IPV4_BYTES + UDP_BYTES);
    code.load_byte(Value, Place, 0);
    code.unless(Value, IPV4_WITHOUT_OPTIONS.into(), Label::Pass);
    code.load_byte(Value, Place, 9);
    code.unless(Value, PROTOCOL_UDP.into(), Label::Pass);
    code.load_half(Value, Place, 6);
    code.and(Value, in_frame(IPV4_FRAGMENT));
    code.unless(Value, 0, Label::Pass);
    code.load_word(Value, Place, 16);
    code.unless_word(Value, i32::from_ne_bytes(address.octets()), Label::Pass);
    code.load_half(Value, Place, offset(IPV4_BYTES + 2));
    code.jump(Label::Port);
}

/// The same. An extension header has another number than UDP.
fn ipv6(code: &mut Assembler, address: Ipv6Addr) {
    code.label(Label::Ipv6);
    code.require(IPV6_BYTES + UDP_BYTES);
    code.load_byte(Value, Place, 6);
    code.unless(Value, PROTOCOL_UDP.into(), Label::Pass);
    // fe80::/10: such an address means nothing without its interface.
    code.load_half(Value, Place, 8);
    code.and(Value, in_frame(0xffc0));
    code.if_equal(Value, in_frame(0xfe80), Label::Pass);
    for (n, word) in address.octets().as_chunks::<4>().0.iter().enumerate() {
        code.load_word(Value, Place, offset(24 + 4 * n));
        code.unless_word(Value, i32::from_ne_bytes(*word), Label::Pass);
    }
    code.load_half(Value, Place, offset(IPV6_BYTES + 2));
}

/// Goes on where the port belongs to the worker of the frame's queue, which is left where the place was.
fn ports(code: &mut Assembler, queues: &[(u32, RangeInclusive<u16>)]) {
    code.label(Label::Port);
    code.read_as_host_order(Value);
    code.load_word(Place, Context, CONTEXT_QUEUE);
    for (n, (queue, ports)) in queues.iter().enumerate() {
        code.unless_word(Place, queue.cast_signed(), Label::Queue(n));
        code.if_below(Value, i32::from(*ports.start()), Label::Pass);
        code.if_above(Value, i32::from(*ports.end()), Label::Pass);
        code.jump(Label::Redirect);
        code.label(Label::Queue(n));
    }
    code.jump(Label::Pass);
}

/// 16 bits as they read in memory that the network wrote.
fn in_frame(value: u16) -> i32 {
    i32::from(value.to_be())
}

fn offset(bytes: usize) -> i16 {
    i16::try_from(bytes).expect("headers are short")
}

/// Instructions with jumps whose distance is known at the end.
#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    labels: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label)>,
}

/// Classes and operations (RFC 9669 sections 4 and 5).
mod opcode {
    pub(super) const LOAD_64: u8 = 0x18;
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const LOAD_HALF: u8 = 0x69;
    pub(super) const LOAD_BYTE: u8 = 0x71;
    pub(super) const ADD: u8 = 0x07;
    pub(super) const AND: u8 = 0x57;
    pub(super) const SET: u8 = 0xb7;
    pub(super) const COPY: u8 = 0xbf;
    pub(super) const TO_BIG_ENDIAN: u8 = 0xdc;
    pub(super) const JUMP: u8 = 0x05;
    pub(super) const IF_EQUAL: u8 = 0x15;
    pub(super) const IF_ABOVE: u8 = 0x25;
    pub(super) const IF_ABOVE_REGISTER: u8 = 0x2d;
    pub(super) const IF_DIFFERENT: u8 = 0x55;
    pub(super) const IF_DIFFERENT_WORD: u8 = 0x56;
    pub(super) const IF_BELOW: u8 = 0xa5;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
    /// As the source of [`LOAD_64`]: the number is a descriptor of a map.
    pub(super) const MAP: u8 = 1;
}

impl Assembler {
    fn push(&mut self, code: u8, to: Register, from: u8, offset: i16, immediate: i32) {
        self.instructions.push(Instruction { code, registers: to as u8 | from << 4, offset, immediate });
    }

    fn branch(&mut self, code: u8, register: Register, from: u8, immediate: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(code, register, from, 0, immediate);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.instructions.len()));
    }

    /// The frame must have so many bytes from the place on. The kernel's verifier accepts no look at it without.
    fn require(&mut self, bytes: usize) {
        self.copy(Reach, Place);
        self.add(Reach, bytes);
        self.branch(opcode::IF_ABOVE_REGISTER, Reach, End as u8, 0, Label::Pass);
    }

    fn load_word(&mut self, to: Register, from: Register, offset: i16) {
        self.push(opcode::LOAD_WORD, to, from as u8, offset, 0);
    }

    fn load_half(&mut self, to: Register, from: Register, offset: i16) {
        self.push(opcode::LOAD_HALF, to, from as u8, offset, 0);
    }

    fn load_byte(&mut self, to: Register, from: Register, offset: i16) {
        self.push(opcode::LOAD_BYTE, to, from as u8, offset, 0);
    }

    fn load_map(&mut self, to: Register, map: BorrowedFd<'_>) {
        self.push(opcode::LOAD_64, to, opcode::MAP, 0, map.as_raw_fd());
        // The upper half of the number.
        self.instructions.push(Instruction { code: 0, registers: 0, offset: 0, immediate: 0 });
    }

    fn copy(&mut self, to: Register, from: Register) {
        self.push(opcode::COPY, to, from as u8, 0, 0);
    }

    fn set(&mut self, to: Register, value: i32) {
        self.push(opcode::SET, to, 0, 0, value);
    }

    fn add(&mut self, to: Register, bytes: usize) {
        self.push(opcode::ADD, to, 0, 0, i32::from(offset(bytes)));
    }

    fn and(&mut self, to: Register, mask: i32) {
        self.push(opcode::AND, to, 0, 0, mask);
    }

    /// Of 16 bits from a frame.
    fn read_as_host_order(&mut self, register: Register) {
        self.push(opcode::TO_BIG_ENDIAN, register, 0, 0, 16);
    }

    fn jump(&mut self, to: Label) {
        self.branch(opcode::JUMP, Verdict, 0, 0, to);
    }

    fn if_equal(&mut self, register: Register, value: i32, to: Label) {
        self.branch(opcode::IF_EQUAL, register, 0, value, to);
    }

    fn if_above(&mut self, register: Register, value: i32, to: Label) {
        self.branch(opcode::IF_ABOVE, register, 0, value, to);
    }

    fn if_below(&mut self, register: Register, value: i32, to: Label) {
        self.branch(opcode::IF_BELOW, register, 0, value, to);
    }

    fn unless(&mut self, register: Register, value: i32, to: Label) {
        self.branch(opcode::IF_DIFFERENT, register, 0, value, to);
    }

    /// Compares 32 bits: of 64, the value would be extended by its sign.
    fn unless_word(&mut self, register: Register, value: i32, to: Label) {
        self.branch(opcode::IF_DIFFERENT_WORD, register, 0, value, to);
    }

    fn call(&mut self, helper: i32) {
        self.push(opcode::CALL, Verdict, 0, 0, helper);
    }

    fn exit(&mut self) {
        self.push(opcode::EXIT, Verdict, 0, 0, 0);
    }

    /// Jumps to what `is_known` denies go to the kernel.
    fn finish(mut self, is_known: impl Fn(Label) -> bool) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let label = if is_known(label) { label } else { Label::Pass };
            let (_, target) = self.labels.iter().find(|(of, _)| *of == label).expect("every label is set");
            let distance = target.checked_sub(at + 1).expect("the program has no loop");
            self.instructions[at].offset = i16::try_from(distance).expect("the program is short");
        }
        self.instructions
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        types::DropReason,
        wire::frame::{Ethernet, HEADERS_BYTES_MAX, parse, write_headers},
    };

    const MAC: [u8; 6] = [2, 0, 0xff, 0xfe, 0, 2];
    const QUEUES: [(u32, RangeInclusive<u16>); 3] = [(0, 20_000..=20_999), (1, 21_000..=21_999), (7, 50_000..=65_535)];

    /// Where context, frame and map lie in the memory of [`run`].
    const CONTEXT: u64 = 0x1000;
    const FRAME: u64 = 0x10_0000;
    const MAP: u64 = 0x70_0000;
    /// `XDP_REDIRECT`.
    const REDIRECTED: u64 = 4;

    /// Runs a program as RFC 9669 says, on a frame that came in on this queue. Panics where it looks beyond the frame, where the
    /// kernel would not even load it.
    fn run(program: &[Instruction], frame: &[u8], queue: u32) -> u64 {
        let mut registers = [0_u64; 11];
        registers[1] = CONTEXT;
        let load = |at: u64, size: usize| -> u64 {
            let field = |at: u64| match at - CONTEXT {
                0 => FRAME,
                4 => FRAME + frame.len() as u64,
                16 => u64::from(queue),
                other => panic!("the context has no field at {other}"),
            };
            if at < FRAME {
                assert_eq!(size, 4);
                return field(at);
            }
            let at = usize::try_from(at - FRAME).unwrap();
            let bytes = frame.get(at..at + size).unwrap_or_else(|| panic!("{size} bytes at {at} of {}", frame.len()));
            match *bytes {
                [a] => a.into(),
                [a, b] => u16::from_ne_bytes([a, b]).into(),
                [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]).into(),
                _ => unreachable!("no other size is asked for"),
            }
        };
        let mut at = 0;
        for _ in 0..program.len() {
            let Instruction { code, registers: names, offset, immediate } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let near = |base: u64| base.wrapping_add_signed(i64::from(offset));
            let (value, wide) = (registers[to], i64::from(immediate).cast_unsigned());
            at += 1;
            let mut jumps = false;
            match code {
                opcode::LOAD_64 => {
                    assert_eq!(from, usize::from(opcode::MAP));
                    registers[to] = MAP;
                    at += 1;
                }
                opcode::LOAD_WORD => registers[to] = load(near(registers[from]), 4),
                opcode::LOAD_HALF => registers[to] = load(near(registers[from]), 2),
                opcode::LOAD_BYTE => registers[to] = load(near(registers[from]), 1),
                opcode::ADD => registers[to] = value.wrapping_add(wide),
                opcode::AND => registers[to] = value & wide,
                opcode::SET => registers[to] = wide,
                opcode::COPY => registers[to] = registers[from],
                opcode::TO_BIG_ENDIAN => registers[to] = u64::from(u16::try_from(value).unwrap().to_be()),
                opcode::JUMP => jumps = true,
                opcode::IF_EQUAL => jumps = value == wide,
                opcode::IF_ABOVE => jumps = value > wide,
                opcode::IF_ABOVE_REGISTER => jumps = value > registers[from],
                opcode::IF_DIFFERENT => jumps = value != wide,
                opcode::IF_DIFFERENT_WORD => jumps = value & 0xffff_ffff != u64::from(immediate.cast_unsigned()),
                opcode::IF_BELOW => jumps = value < wide,
                opcode::CALL => {
                    assert_eq!((immediate, registers[1], registers[3]), (BPF_REDIRECT_MAP, MAP, XDP_PASS as u64));
                    assert_eq!(registers[2], u64::from(queue));
                    registers[0] = REDIRECTED;
                }
                opcode::EXIT => return registers[0],
                other => panic!("{other:#x} is no instruction of ours"),
            }
            if jumps {
                at += usize::try_from(offset).unwrap();
            }
        }
        panic!("the program does not end");
    }

    fn target(addresses: &[&str]) -> Target {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Target::new(MAC, vec![7, 300], &addresses, QUEUES.to_vec())
    }

    fn ours() -> Vec<Instruction> {
        program(&target(&["203.0.113.1", "2001:db8::ffff:1"]), std::io::stdin().as_fd())
    }

    fn frame(source: &str, to: &str, vlan: Option<u16>) -> Vec<u8> {
        let mut buffer = [&[0; HEADERS_BYTES_MAX][..], b"voice"].concat();
        let (place, end) = (HEADERS_BYTES_MAX, buffer.len());
        let ethernet = Ethernet { source: [2, 0, 0, 0, 0, 1], target: MAC, vlan };
        let addresses = (source.parse().unwrap(), to.parse().unwrap());
        let start = write_headers(&mut buffer, place..end, &ethernet, addresses, 46).unwrap();
        buffer.split_off(start)
    }

    #[test]
    fn a_packet_of_a_leg_goes_to_the_worker_that_reads_its_queue_and_on_any_other_queue_to_the_kernel() {
        let (four, six) = ("203.0.113.1", "[2001:db8::ffff:1]");
        for (ours_is, vlan) in
            [(four, None), (six, None), (four, Some(7)), (six, Some(7)), (four, Some(300)), (four, Some(0))]
        {
            let from = if ours_is.starts_with('[') { "[2001:db8::2]:9" } else { "192.0.2.1:9" };
            for (port, owner) in [
                (19_999, None),
                (20_000, Some(0)),
                (20_999, Some(0)),
                (21_000, Some(1)),
                (22_000, None),
                (50_000, Some(7)),
                (65_535, Some(7)),
            ] {
                let frame = frame(from, &format!("{ours_is}:{port}"), vlan);
                for queue in [0, 1, 2, 7] {
                    let expected = if owner == Some(queue) { REDIRECTED } else { XDP_PASS as u64 };
                    assert_eq!(run(&ours(), &frame, queue), expected, "{ours_is}:{port} on queue {queue}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_ours_goes_to_the_kernel() {
        let (four, six) = (
            || frame("192.0.2.1:9", "203.0.113.1:20000", None),
            || frame("[2001:db8::2]:9", "[2001:db8::ffff:1]:20000", None),
        );
        let spoilt = |mut frame: Vec<u8>, at: usize, byte: u8| {
            frame[at] = byte;
            frame
        };
        let mut frames = vec![
            frame("192.0.2.1:9", "203.0.113.2:20000", None),
            frame("[2001:db8::2]:9", "[2001:db8::ffff:2]:20000", None),
            frame("[fe80::2]:9", "[2001:db8::ffff:1]:20000", None),
            frame("[febf::2]:9", "[2001:db8::ffff:1]:20000", None),
            // Of another machine; to everyone; ARP; options; more fragments; a later fragment; TCP; a second tag.
            spoilt(four(), 5, 9),
            spoilt(four(), 0, 0xff),
            spoilt(four(), 13, 6),
            spoilt(four(), 14, 0x46),
            spoilt(four(), 20, 0x20),
            spoilt(four(), 21, 1),
            spoilt(four(), 23, 6),
            spoilt(frame("192.0.2.1:9", "203.0.113.1:20000", Some(7)), 16, 0x81),
            // Of VLANs that the interface is not in.
            frame("192.0.2.1:9", "203.0.113.1:20000", Some(8)),
            frame("192.0.2.1:9", "203.0.113.1:20000", Some(0x107)),
            // Hop-by-hop options, a fragment.
            spoilt(six(), 20, 0),
            spoilt(six(), 20, 44),
        ];
        for whole in [four(), six()] {
            let headers = whole.len() - b"voice".len();
            frames.extend((0..headers).map(|len| whole[..len].to_vec()));
        }
        for frame in frames {
            assert_eq!(run(&ours(), &frame, 0), XDP_PASS as u64, "{frame:02x?}");
        }
    }

    #[test]
    fn a_tag_may_have_a_priority() {
        for (vlan, expected) in [(7, REDIRECTED), (8, XDP_PASS as u64)] {
            let mut frame = frame("192.0.2.1:9", "203.0.113.1:20000", Some(vlan));
            frame[14] |= 0xe0;
            assert_eq!(run(&ours(), &frame, 0), expected, "{vlan}");
        }
    }

    #[test]
    fn a_family_without_an_address_is_the_kernels() {
        let frames = [
            ("203.0.113.1", frame("192.0.2.1:9", "203.0.113.1:20000", None)),
            ("2001:db8::ffff:1", frame("[2001:db8::2]:9", "[2001:db8::ffff:1]:20000", None)),
        ];
        for (ip, _) in &frames {
            let program = program(&target(&[ip]), std::io::stdin().as_fd());
            for (of, frame) in &frames {
                let expected = if ip == of { REDIRECTED } else { XDP_PASS as u64 };
                assert_eq!(run(&program, frame, 0), expected, "{of} with {ip}");
            }
        }
    }

    proptest! {
        /// Goal: whatever the program takes from the kernel can be read, or was damaged on its way. Method: valid frames with
        /// bytes changed and cut off.
        #[test]
        fn what_is_taken_is_a_datagram_to_one_of_our_ports(
            is_ipv6: bool,
            vlan in proptest::option::of(proptest::prop_oneof![Just(7_u16), 0_u16..4_096]),
            changes in proptest::collection::vec((0_usize..70, any::<u8>()), 0..4),
            len in 0_usize..80,
        ) {
            let (from, to) = if is_ipv6 {
                ("[2001:db8::2]:9", "[2001:db8::ffff:1]:20000")
            } else {
                ("192.0.2.1:9", "203.0.113.1:20000")
            };
            let mut frame = frame(from, to, vlan);
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(len);
            if run(&ours(), &frame, 0) == REDIRECTED {
                match parse(&frame) {
                    Ok(found) => prop_assert!(QUEUES[0].1.contains(&found.target.port())),
                    Err(reason) => prop_assert!(matches!(
                        reason,
                        DropReason::PacketBadChecksum | DropReason::PacketTruncated | DropReason::PacketNotMedia
                    )),
                }
            }
        }
    }
}
