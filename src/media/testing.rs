//! A worker without a network, and phones to talk through it, for the tests of this folder.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::{
    types::{DropReason, Instant, LegId, Rng, limits::PACKET_BYTES_MAX},
    wire::{
        classify::Traffic,
        sdp,
        srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
    },
};

use super::{
    command::{Command, Event, LegReport, Protection, Remote, Rtcp},
    formats::Formats,
    protection::History,
    worker::{Channel, Input, Output, Port, Send, Worker},
};

pub(super) const SUITE: Suite = Suite::AesCm128HmacSha1_80;
/// 20 ms of G.711.
pub(super) const PAYLOAD_BYTES: usize = 160;

pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn leg(slot: u32) -> LegId {
    LegId { worker: 0, slot, generation: 1 }
}

pub(super) const fn rtp(slot: u32) -> Port {
    Port { slot, channel: Channel::Rtp }
}

pub(super) const fn rtcp(slot: u32) -> Port {
    Port { slot, channel: Channel::Rtcp }
}

/// A multiplexed peer that sends and receives.
pub(super) fn remote(address: &str) -> Remote {
    Remote {
        rtp: Some(at(address)),
        rtcp: Rtcp::Multiplexed,
        host: None,
        network: None,
        wants_media: true,
        may_send: true,
    }
}

/// G.711 and comfort noise.
pub(super) fn formats() -> Formats {
    let body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0 13\r\n";
    Formats::of(&sdp::parse(body).unwrap().media)
}

pub(super) fn srtp(suite: Suite, seed: u64) -> Protection {
    let key = MasterKey::generate(suite, &mut Rng::from_small_seed(seed));
    Protection::Srtp { suite, key, mki_bytes: 0 }
}

/// A worker under virtual time, and everything it has asked for.
pub(super) struct Rig {
    pub(super) worker: Worker,
    pub(super) now: Instant,
    pub(super) timeout: Option<Instant>,
    pub(super) bound: BTreeSet<u32>,
    pub(super) connects: Vec<(Port, Option<SocketAddr>)>,
    pub(super) events: Vec<Event>,
    /// What the worker has sent of its own.
    pub(super) transmitted: Vec<(Instant, Send, Vec<u8>)>,
}

impl Rig {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            worker: Worker::new(0, slots),
            now: Instant::from_unix_ms(1_700_000_000_000),
            timeout: None,
            bound: BTreeSet::new(),
            connects: Vec::new(),
            events: Vec::new(),
            transmitted: Vec::new(),
        }
    }

    /// Two connected legs in slots 0 and 1, with their phones.
    pub(super) fn call(a: Protection, b: Protection) -> (Self, Phone, Phone) {
        let mut rig = Self::new(4);
        let phones = [(0, a, "203.0.113.1:4000"), (1, b, "203.0.113.2:4000")].map(|(slot, protection, address)| {
            let phone = Phone::new(slot, protection, address);
            rig.open(slot);
            rig.configure(&phone);
            phone
        });
        rig.command(Command::Connect { a: leg(0), b: leg(1) });
        let [a, b] = phones;
        (rig, a, b)
    }

    pub(super) fn open(&mut self, slot: u32) {
        self.command(Command::Open { leg: leg(slot), address: IpAddr::V4(Ipv4Addr::LOCALHOST), dscp: 0 });
    }

    pub(super) fn configure(&mut self, phone: &Phone) {
        self.configure_heir(phone, None);
    }

    /// Its packets before these were heard by another leg.
    pub(super) fn configure_heir(&mut self, phone: &Phone, history: Option<Box<History>>) {
        let Phone { slot, traffic, remote, .. } = *phone;
        let (receive, send) = (phone.sends.clone(), phone.receives.clone());
        let formats = formats();
        self.command(Command::Configure { leg: leg(slot), traffic, remote, formats, receive, send, history });
    }

    pub(super) fn close(&mut self, slot: u32) -> Option<LegReport> {
        self.close_for_heir(slot).map(|(report, _)| report)
    }

    pub(super) fn close_for_heir(&mut self, slot: u32) -> Option<(LegReport, Box<History>)> {
        self.command(Command::Close { leg: leg(slot) });
        match self.events.last().cloned() {
            Some(Event::Closed { leg: closed, report, history }) if closed == leg(slot) => {
                Some((*report, Box::new(history)))
            }
            _ => None,
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.input(Input::Command(command));
    }

    pub(super) fn input(&mut self, input: Input) {
        self.worker.handle_input(self.now, input);
        self.drain();
    }

    /// Lets time pass, timers included.
    pub(super) fn advance(&mut self, ms: u64) {
        let end = Instant::from_unix_ns(self.now.unix_ns() + ms * 1_000_000);
        while let Some(due) = self.timeout.filter(|due| *due <= end) {
            self.now = due;
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// One datagram through the worker; what it sends, and the bytes.
    pub(super) fn receive(&mut self, port: Port, source: SocketAddr, datagram: &[u8]) -> Option<(Send, Vec<u8>)> {
        let mut buffer = [0xee; PACKET_BYTES_MAX];
        buffer[..datagram.len()].copy_from_slice(datagram);
        let send = self.worker.receive(self.now, port, source, &mut buffer, datagram.len());
        self.drain();
        if send.is_none() {
            assert!(buffer[..datagram.len()].iter().all(|byte| *byte == 0), "a dropped datagram is wiped");
        }
        send.map(|send| (send, buffer[..send.len].to_vec()))
    }

    /// Asserts that the datagram is dropped, for this reason and no other.
    pub(super) fn refuses(&mut self, reason: DropReason, port: Port, source: SocketAddr, datagram: &[u8]) {
        let mut expected = self.worker.drops().clone();
        expected.count(reason);
        assert_eq!(self.receive(port, source, datagram), None);
        assert_eq!(self.worker.drops(), &expected, "expected {reason:?}");
    }

    fn drain(&mut self) {
        loop {
            match self.worker.poll_output() {
                Output::Bind { slot, .. } => drop(self.bound.insert(slot)),
                Output::Unbind { slot } => assert!(self.bound.remove(&slot), "slot {slot} is not bound"),
                Output::Connect { port, remote } => self.connects.push((port, remote)),
                Output::Transmit { send, packet } => {
                    self.transmitted.push((self.now, send, packet[..send.len].to_vec()))
                }
                Output::Event(event) => self.events.push(event),
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
            }
        }
    }
}

/// The far end of a leg.
pub(super) struct Phone {
    pub(super) slot: u32,
    pub(super) address: SocketAddr,
    pub(super) traffic: Traffic,
    pub(super) remote: Remote,
    pub(super) sends: Protection,
    pub(super) receives: Protection,
    outbound: Option<Outbound>,
    inbound: Option<Inbound>,
    pub(super) sequence: u16,
    pub(super) ssrc: u32,
}

impl Phone {
    /// Sends under `sends`, and receives under another key of the same suite.
    pub(super) fn new(slot: u32, sends: Protection, address: &str) -> Self {
        let receives = match &sends {
            Protection::Plain => Protection::Plain,
            Protection::Srtp { suite, .. } => srtp(*suite, 1_000 + u64::from(slot)),
        };
        let (outbound, inbound) = (outbound(&sends), inbound(&receives));
        let remote = remote(address);
        Self {
            slot,
            address: at(address),
            traffic: Traffic::Rtp,
            remote,
            sends,
            receives,
            outbound,
            inbound,
            sequence: 100,
            ssrc: slot,
        }
    }

    pub(super) fn rekey(&mut self, sends: Protection) {
        self.outbound = outbound(&sends);
        self.sends = sends;
    }

    /// The next RTP packet, protected, every payload byte `fill`.
    pub(super) fn rtp(&mut self, fill: u8) -> Vec<u8> {
        self.rtp_of(0, fill)
    }

    /// The same of another payload type.
    pub(super) fn rtp_of(&mut self, payload_type: u8, fill: u8) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = plain_rtp(self.ssrc, self.sequence, fill);
        packet[1] = payload_type;
        let len = packet.len();
        if let Some(outbound) = &mut self.outbound {
            packet.resize(len + TAG_ROOM_BYTES, 0);
            let len = outbound.protect_rtp(&mut packet, len).unwrap();
            packet.truncate(len);
        }
        packet
    }

    pub(super) fn rtcp(&mut self, mut compound: Vec<u8>) -> Vec<u8> {
        let len = compound.len();
        if let Some(outbound) = &mut self.outbound {
            compound.resize(len + TAG_ROOM_BYTES, 0);
            let len = outbound.protect_rtcp(&mut compound, len).unwrap();
            compound.truncate(len);
        }
        compound
    }

    /// Opens an RTP packet relayed to this phone.
    pub(super) fn hears(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        if let Some(inbound) = &mut self.inbound {
            let len = inbound.unprotect_rtp(&mut packet).expect("relayed under this phone's key");
            packet.truncate(len);
        }
        packet
    }

    pub(super) fn hears_rtcp(&mut self, mut compound: Vec<u8>) -> Vec<u8> {
        if let Some(inbound) = &mut self.inbound {
            let len = inbound.unprotect_rtcp(&mut compound).expect("relayed under this phone's key");
            compound.truncate(len);
        }
        compound
    }
}

/// A G.711 packet. A phone's SSRC is its slot, unless it says otherwise.
pub(super) fn plain_rtp(ssrc: u32, sequence: u16, fill: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([fill; PAYLOAD_BYTES]);
    packet
}

/// A sender report, with a report block if `block` has its `(last_sr, delay_since_last_sr)`.
pub(super) fn sender_report(slot: u32, ntp: u64, block: Option<(u32, u32)>) -> Vec<u8> {
    let mut packet = vec![0x80 | u8::from(block.is_some()), 200, 0, if block.is_some() { 12 } else { 6 }];
    packet.extend(slot.to_be_bytes());
    packet.extend(ntp.to_be_bytes());
    packet.extend([0; 12]);
    if let Some((last_sr, delay)) = block {
        packet.extend([0; 16]);
        packet.extend(last_sr.to_be_bytes());
        packet.extend(delay.to_be_bytes());
    }
    packet
}

fn outbound(protection: &Protection) -> Option<Outbound> {
    match protection {
        Protection::Plain => None,
        Protection::Srtp { suite, key, .. } => Some(Outbound::new(*suite, key)),
    }
}

fn inbound(protection: &Protection) -> Option<Inbound> {
    match protection {
        Protection::Plain => None,
        Protection::Srtp { suite, key, .. } => Some(Inbound::new(*suite, key, 0)),
    }
}
