//! Telephone keys as named events (RFC 4733).

use super::{Packet, Voice};

const PAYLOAD_TYPE: u8 = 101;
const KEYS: &str = "0123456789*#ABCD";
/// A hundred milliseconds at 8000 Hz.
const STEP: u16 = 800;

/// Keys that were heard, in order, and the time stamp of the last.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) heard: String,
    last: Option<u32>,
}

pub(super) fn is_key(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|b| b & 0x7f == PAYLOAD_TYPE)
}

impl Voice {
    /// One key: three packets while it is down and three that say that it is up again, under one time stamp.
    pub(crate) fn press(&mut self, key: char) -> Vec<Packet> {
        let event = KEYS.find(key).and_then(|at| u8::try_from(at).ok()).expect("a key of a telephone");
        let Some(settled) = self.settled.as_mut() else { return Vec::new() };
        let mut out = Vec::new();
        for n in 1..=6u16 {
            let (marker, end) = (if n == 1 { 0x80 } else { 0 }, if n > 3 { 0x80 } else { 0 });
            let mut packet = vec![0x80, marker | PAYLOAD_TYPE];
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(self.timestamp.to_be_bytes());
            packet.extend(self.ssrc.to_be_bytes());
            packet.extend([event, end | 10]);
            packet.extend((STEP * n.min(4)).to_be_bytes());
            self.sequence = self.sequence.wrapping_add(1);
            out.push(Packet { from: self.address, to: settled.rtp, bytes: settled.sending.rtp(packet) });
        }
        self.timestamp = self.timestamp.wrapping_add(u32::from(4 * STEP));
        out
    }

    /// A key counts once, when it is up again.
    pub(super) fn hear_key(&mut self, packet: &[u8]) {
        let [event, flags, ..] = packet[12..] else { return self.faults.push("an empty telephone event".into()) };
        let timestamp = packet[4..8].try_into().map_or(0, u32::from_be_bytes);
        if flags & 0x80 != 0 && self.keys.last != Some(timestamp) {
            self.keys.last = Some(timestamp);
            self.keys.heard.extend(KEYS.chars().nth(usize::from(event)));
        }
    }
}
