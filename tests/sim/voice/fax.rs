//! A fax in the place of the voice (ITU-T T.38 over UDPTL): its section, and packets that the other side can predict.

use super::{Description, Packet, Speaker, Voice, payload, read_payload};

/// What of the fax has been agreed and heard.
#[derive(Debug)]
pub(crate) struct Fax {
    /// What this phone offers next is a fax.
    pub(crate) is_wanted: bool,
    /// This phone takes a fax that it is offered.
    pub(crate) is_welcome: bool,
    /// Packets heard, one by one.
    pub(crate) heard: usize,
    sequence: u16,
}

impl Fax {
    /// Every other fax is a long one: its sequence numbers soon begin like RTP does.
    pub(super) const fn new(speaker: Speaker) -> Self {
        let is_long = (speaker.0 + speaker.1).is_multiple_of(2);
        Self { is_wanted: false, is_welcome: true, heard: 0, sequence: if is_long { 0x7ff8 } else { 0 } }
    }
}

/// What a packet says, if it is one of a fax: a primary packet of the payload's length and no redundancy.
pub(super) fn read(bytes: &[u8]) -> Option<(Speaker, u32)> {
    let [_, _, 0x80, 160, payload @ .., 0, 0] = bytes else { return None };
    read_payload(payload)
}

impl Voice {
    pub(super) fn print_fax(&mut self) -> String {
        self.version += 1;
        let (ip, port, version, ssrc) = (self.address.ip(), self.address.port(), self.version, self.ssrc);
        format!(
            "v=0\r\no=phone {ssrc} {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=image {port} udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"
        )
    }

    /// `None`: no fax is welcome here.
    pub(super) fn answer_fax(&mut self, offer: &Description) -> Option<String> {
        if !self.fax.is_welcome {
            return None;
        }
        self.settle(offer, true, true, None, None);
        Some(self.print_fax())
    }

    pub(super) fn speak_fax(&mut self, payload: [u8; super::PAYLOAD_BYTES]) -> Vec<Packet> {
        let Some(settled) = &self.settled else { return Vec::new() };
        let sequence = self.fax.sequence.to_be_bytes();
        let bytes = [&sequence[..], &[0x80, 160], &payload, &[0, 0]].concat();
        self.fax.sequence = self.fax.sequence.wrapping_add(1);
        self.sent += 1;
        vec![Packet { from: self.address, to: settled.rtp, bytes }]
    }

    /// While the two sides change over, the last of the voice comes to the fax and the first of the fax to the voice.
    pub(super) fn hear_fax(&mut self, bytes: &[u8]) {
        let is_fax = self.settled.as_ref().is_some_and(|settled| settled.is_fax);
        if let Some((speaker, number)) = read(bytes).filter(|_| is_fax) {
            if speaker == self.speaker {
                self.faults.push("the fax hears itself".into());
            }
            self.fax.heard += usize::from(self.heard.entry(speaker).or_default().insert(number));
        }
    }
}

#[test]
fn a_packet_reads_back_and_a_changed_one_does_not() {
    let mut bytes = [&[0, 7, 0x80, 160][..], &payload((3, 4), 5), &[0, 0]].concat();
    assert_eq!(read(&bytes), Some(((3, 4), 5)));
    bytes[30] ^= 1;
    assert_eq!(read(&bytes), None);
}
