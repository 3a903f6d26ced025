//! A simulated phone's voice: its own small SDP writer and reader, and numbered RTP packets whose every byte the other
//! side can predict. Knows nothing of calls.

mod fax;
mod keys;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ringdown::{
    types::{DropReason, Instant, Rng},
    wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
};

/// Whose voice a packet carries: phone and call of that phone.
pub(crate) type Speaker = (u32, u32);

/// Stands in every payload, so that a search of logs and files would find it.
pub(crate) const CANARY: &[u8] = b"AUDIO-CANARY";

const PAYLOAD_BYTES: usize = 160;
const HEADER_BYTES: usize = 12;

/// A packet to send.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

enum Sending {
    Plain,
    Srtp { suite: Suite, key: MasterKey, context: Box<Outbound> },
}

enum Receiving {
    Plain,
    Srtp { suite: Suite, key: MasterKey, context: Box<Inbound> },
}

/// What offer and answer settled.
struct Settled {
    is_fax: bool,
    rtp: SocketAddr,
    rtcp: SocketAddr,
    /// We may send and the peer wants it.
    sends: bool,
    sending: Sending,
    receiving: Receiving,
}

/// One phone's media of one call.
pub(crate) struct Voice {
    /// Payload bytes that were heard, by speaker and packet number.
    pub(crate) heard: BTreeMap<Speaker, BTreeSet<u32>>,
    pub(crate) reports_heard: u32,
    pub(crate) sent: u32,
    /// Nothing leaves this phone, and it does not know.
    pub(crate) is_mute: bool,
    /// Every key the server ever offered or answered here.
    pub(crate) server_keys: BTreeSet<Vec<u8>>,
    /// What must never happen.
    pub(crate) faults: Vec<String>,
    /// Names of the suite in use, `plain`, or empty.
    pub(crate) suite: &'static str,
    /// Times a receive or send context had to be made anew.
    pub(crate) contexts_made: u32,
    /// Telephone keys that were heard.
    pub(crate) keys: keys::Keys,
    pub(crate) fax: fax::Fax,
    /// Codes of what was heard and no phone has said, where that is expected.
    pub(crate) sound: Option<Vec<u8>>,
    speaker: Speaker,
    address: SocketAddr,
    own: Vec<(Suite, MasterKey)>,
    has_mux: bool,
    is_holding: bool,
    version: u32,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    settled: Option<Settled>,
    /// Where the server's packets came from before; some may still be on their way.
    former: BTreeSet<SocketAddr>,
}

impl Voice {
    /// `suites`: in order of preference; none means plain RTP. `address`: even RTP port, RTCP one above.
    pub(crate) fn new(speaker: Speaker, address: SocketAddr, suites: &[Suite], has_mux: bool, rng: &mut Rng) -> Self {
        Self {
            heard: BTreeMap::new(),
            reports_heard: 0,
            sent: 0,
            is_mute: false,
            server_keys: BTreeSet::new(),
            faults: Vec::new(),
            suite: "",
            contexts_made: 0,
            keys: keys::Keys::default(),
            fax: fax::Fax::new(speaker),
            sound: None,
            speaker,
            address,
            own: suites.iter().map(|s| (*s, MasterKey::generate(*s, rng))).collect(),
            has_mux,
            is_holding: false,
            version: 0,
            ssrc: rng.u32(),
            // Every other call rolls over after 24 s. Not earlier: who has not heard a packet before a rollover cannot
            // know of it (RFC 3711 section 3.3.1).
            sequence: if (speaker.0 + speaker.1).is_multiple_of(2) { 65_300 } else { 100 },
            timestamp: rng.u32(),
            settled: None,
            former: BTreeSet::new(),
        }
    }

    pub(crate) const fn hold(&mut self, is_holding: bool) {
        self.is_holding = is_holding;
    }

    pub(crate) const fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    pub(crate) fn own_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.own.iter().map(|(_, key)| key.expose())
    }

    /// Numbers heard from this speaker.
    pub(crate) fn heard_from(&self, speaker: Speaker) -> usize {
        self.heard.get(&speaker).map_or(0, BTreeSet::len)
    }

    pub(crate) fn offer(&mut self) -> String {
        if self.fax.is_wanted {
            return self.print_fax();
        }
        let direction = if self.is_holding { "sendonly" } else { "sendrecv" };
        let own: Vec<_> = self.own.iter().enumerate().map(|(i, (suite, key))| (i + 1, *suite, key.clone())).collect();
        self.print(self.has_mux, direction, &own)
    }

    /// The answer to the server's offer; `None`: nothing in it that this phone can do.
    pub(crate) fn answer(&mut self, offer: &str) -> Option<String> {
        let offer = self.read(offer)?;
        if offer.is_fax {
            return self.answer_fax(&offer);
        }
        let direction = match (offer.direction, self.is_holding) {
            ("sendrecv", false) => "sendrecv",
            ("sendrecv" | "recvonly", _) => "sendonly",
            ("sendonly", false) => "recvonly",
            _ => "inactive",
        };
        let mut lines = Vec::new();
        let (sending, receiving) = if self.own.is_empty() {
            if offer.is_secure {
                return None;
            }
            (None, None)
        } else {
            let theirs = |s: &Suite| offer.crypto.iter().find(|c| c.1 == *s);
            let (own, crypto) = self.own.iter().find_map(|(s, key)| Some(((*s, key.clone()), theirs(s)?)))?;
            lines.push((crypto.0, own.0, own.1.clone()));
            (Some(own), Some((crypto.1, crypto.2.clone())))
        };
        let sends = matches!(direction, "sendrecv" | "sendonly");
        let has_mux = offer.has_mux && self.has_mux;
        self.settle(&offer, sends, has_mux, sending, receiving);
        Some(self.print(has_mux, direction, &lines))
    }

    pub(crate) fn read_answer(&mut self, answer: &str) -> Result<(), String> {
        let answer = self.read(answer).ok_or("the answer is not usable SDP")?;
        if answer.is_fax != self.fax.is_wanted {
            return Err("one asked for a fax and the other for a voice".into());
        }
        if answer.is_fax {
            self.settle(&answer, true, true, None, None);
            return Ok(());
        }
        let (sending, receiving) = if self.own.is_empty() {
            if answer.is_secure {
                return Err("a plain offer was answered with SRTP".into());
            }
            (None, None)
        } else {
            let [(tag, suite, key)] = answer.crypto.as_slice() else {
                return Err(format!("{} crypto lines in the answer, wanted one", answer.crypto.len()));
            };
            let own = tag.checked_sub(1).and_then(|i| self.own.get(i)).ok_or("an answer with a foreign crypto tag")?;
            if own.0 != *suite {
                return Err("the answer's suite is not the one offered under its tag".into());
            }
            if own.1 == *key {
                return Err("the server answered with the phone's own key".into());
            }
            (Some(own.clone()), Some((*suite, key.clone())))
        };
        let has_mux = answer.has_mux && self.has_mux;
        self.settle(&answer, matches!(answer.direction, "sendrecv" | "recvonly"), has_mux, sending, receiving);
        Ok(())
    }

    /// The next voice packet, and now and then a report.
    pub(crate) fn speak(&mut self) -> Vec<Packet> {
        let payload = payload(self.speaker, self.sent);
        if self.settled.as_ref().is_some_and(|settled| settled.is_fax) {
            return self.speak_fax(payload);
        }
        let Some(settled) = self.settled.as_mut().filter(|s| s.sends) else { return Vec::new() };
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        let mut out = vec![Packet { from: self.address, to: settled.rtp, bytes: settled.sending.rtp(packet) }];
        if self.sent % 20 == 3 {
            let report = sender_report(self.ssrc, self.timestamp, self.sent);
            let from = if settled.rtcp == settled.rtp { self.address } else { above(self.address) };
            out.push(Packet { from, to: settled.rtcp, bytes: settled.sending.rtcp(report) });
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(160);
        self.sent += 1;
        if self.is_mute { Vec::new() } else { out }
    }

    pub(crate) fn hear(&mut self, now: Instant, from: SocketAddr, mut bytes: Vec<u8>) {
        let Some(settled) = self.settled.as_mut() else { return };
        let is_report = bytes.get(1).is_some_and(|b| (192..=223).contains(b));
        let want = if is_report { settled.rtcp } else { settled.rtp };
        if from != want && self.former.contains(&from) {
            return;
        }
        if from != want {
            self.faults.push(format!("a packet came from {from}, wanted {want}"));
            return;
        }
        if settled.is_fax || fax::read(&bytes).is_some() {
            return self.hear_fax(&bytes);
        }
        match settled.receiving.open(&mut bytes, is_report) {
            Ok(len) => bytes.truncate(len),
            // The network doubled it.
            Err(DropReason::SrtpReplayed) => return,
            Err(reason) => {
                let (at, seq) = (now.unix_ms(), u16::from_be_bytes([bytes[2], bytes[3]]));
                self.faults.push(format!("at {at} packet {seq} from the server did not verify: {reason:?}"));
                return;
            }
        }
        if is_report {
            self.reports_heard += 1;
        } else if keys::is_key(&bytes) {
            self.hear_key(&bytes);
        } else if let Some((speaker, number)) = bytes.get(HEADER_BYTES..).and_then(read_payload) {
            if speaker == self.speaker {
                self.faults.push("the phone hears itself".into());
            }
            self.heard.entry(speaker).or_default().insert(number);
        } else if let Some(sound) = &mut self.sound {
            sound.extend_from_slice(&bytes[HEADER_BYTES..]);
        } else {
            self.faults.push("a payload arrived changed".into());
        }
    }

    fn settle(
        &mut self,
        peer: &Description,
        sends: bool,
        has_mux: bool,
        sending: Option<(Suite, MasterKey)>,
        receiving: Option<(Suite, MasterKey)>,
    ) {
        let old = self.settled.take();
        let rtcp = if has_mux { peer.rtp } else { above(peer.rtp) };
        if let Some(old) = old.as_ref().filter(|old| old.rtp != peer.rtp || old.rtcp != rtcp) {
            self.former.extend([old.rtp, old.rtcp]);
        }
        let (old_sending, old_receiving) = old.map_or((None, None), |s| (Some(s.sending), Some(s.receiving)));
        let mut made = 0;
        let sending = sending.map_or(Sending::Plain, |(suite, key)| match old_sending {
            Some(Sending::Srtp { suite: s, key: k, context }) if s == suite && k == key => {
                Sending::Srtp { suite, key, context }
            }
            _ => {
                made += 1;
                Sending::Srtp { context: Box::new(Outbound::new(suite, &key)), suite, key }
            }
        });
        let receiving = receiving.map_or(Receiving::Plain, |(suite, key)| match old_receiving {
            Some(Receiving::Srtp { suite: s, key: k, context }) if s == suite && k == key => {
                Receiving::Srtp { suite, key, context }
            }
            _ => {
                made += 1;
                Receiving::Srtp { context: Box::new(Inbound::new(suite, &key, None)), suite, key }
            }
        });
        self.contexts_made += made;
        self.suite = match &receiving {
            Receiving::Plain => "plain",
            Receiving::Srtp { suite, .. } => suite.name(),
        };
        let is_silenced = peer.rtp.ip().is_unspecified() || peer.rtp.port() == 0;
        self.settled = Some(Settled {
            is_fax: peer.is_fax,
            rtp: peer.rtp,
            rtcp,
            sends: sends && !is_silenced,
            sending,
            receiving,
        });
    }

    fn print(&mut self, has_mux: bool, direction: &str, crypto: &[(usize, Suite, MasterKey)]) -> String {
        self.version += 1;
        let (ip, port, version) = (self.address.ip(), self.address.port(), self.version);
        let profile = if crypto.is_empty() { "RTP/AVP" } else { "RTP/SAVP" };
        let lines: String = crypto
            .iter()
            .map(|(tag, suite, key)| {
                format!("a=crypto:{tag} {} inline:{}\r\n", suite.name(), STANDARD.encode(key.expose()))
            })
            .collect();
        let mux = if has_mux { "a=rtcp-mux\r\n" } else { "" };
        format!(
            "v=0\r\no=phone {ssrc} {version} IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
             m=audio {port} {profile} 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-15\r\na=ptime:20\r\n{lines}{mux}a={direction}\r\n",
            ssrc = self.ssrc,
        )
    }

    fn read(&mut self, text: &str) -> Option<Description> {
        let description = Description::read(text)?;
        for (_, suite, key) in &description.crypto {
            self.server_keys.insert(key.expose().to_vec());
            if self.own.iter().any(|(_, own)| own.expose() == key.expose()) {
                self.faults.push(format!("the server sent the phone its own {} key", suite.name()));
            }
        }
        Some(description)
    }
}

/// The one section of a body that matters: audio, or a fax in its place.
struct Description {
    is_fax: bool,
    rtp: SocketAddr,
    is_secure: bool,
    /// Tag, suite, key.
    crypto: Vec<(usize, Suite, MasterKey)>,
    direction: &'static str,
    has_mux: bool,
}

impl Description {
    fn read(text: &str) -> Option<Self> {
        let value = |prefix: &str| text.lines().find_map(|l| l.strip_prefix(prefix)).map(str::trim);
        let address: IpAddr = value("c=IN IP4 ").or_else(|| value("c=IN IP6 "))?.parse().ok()?;
        let is_fax = value("m=image ").is_some_and(|line| !line.starts_with("0 "));
        let (kind, wanted) = if is_fax { ("m=image ", "t38") } else { ("m=audio ", "0") };
        let mut media = value(kind)?.split(' ');
        let port: u16 = media.next()?.parse().ok()?;
        let profile = media.next()?;
        if !media.any(|format| format == wanted) || is_fax != (profile == "udptl") {
            return None;
        }
        let crypto = text.lines().filter_map(|l| l.strip_prefix("a=crypto:")).filter_map(read_crypto).collect();
        let direction = ["sendrecv", "sendonly", "recvonly", "inactive"]
            .into_iter()
            .find(|d| text.lines().any(|l| l.trim() == format!("a={d}")))
            .unwrap_or("sendrecv");
        Some(Self {
            is_fax,
            rtp: SocketAddr::new(address, port),
            is_secure: profile.contains("SAVP"),
            crypto,
            direction,
            has_mux: text.lines().any(|l| l.trim() == "a=rtcp-mux"),
        })
    }
}

fn read_crypto(line: &str) -> Option<(usize, Suite, MasterKey)> {
    let mut words = line.trim().split(' ');
    let tag = words.next()?.parse().ok()?;
    let name = words.next()?;
    let suite = Suite::ALL.into_iter().find(|s| s.name() == name)?;
    let key = words.next()?.strip_prefix("inline:")?.split('|').next()?;
    Some((tag, suite, MasterKey::new(suite, STANDARD.decode(key).ok()?)?))
}

impl Sending {
    fn rtp(&mut self, packet: Vec<u8>) -> Vec<u8> {
        self.seal(packet, Outbound::protect_rtp)
    }

    fn rtcp(&mut self, packet: Vec<u8>) -> Vec<u8> {
        self.seal(packet, Outbound::protect_rtcp)
    }

    fn seal(
        &mut self,
        mut packet: Vec<u8>,
        protect: fn(&mut Outbound, &mut [u8], usize) -> Result<usize, DropReason>,
    ) -> Vec<u8> {
        if let Self::Srtp { context, .. } = self {
            let len = packet.len();
            packet.resize(len + TAG_ROOM_BYTES, 0);
            let len = protect(context, &mut packet, len).expect("a packet of our own");
            packet.truncate(len);
        }
        packet
    }
}

impl Receiving {
    fn open(&mut self, packet: &mut [u8], is_report: bool) -> Result<usize, DropReason> {
        match self {
            Self::Plain => Ok(packet.len()),
            Self::Srtp { context, .. } if is_report => context.unprotect_rtcp(packet),
            Self::Srtp { context, .. } => context.unprotect_rtp(packet),
        }
    }
}

const fn above(rtp: SocketAddr) -> SocketAddr {
    SocketAddr::new(rtp.ip(), rtp.port().wrapping_add(1))
}

/// The whole payload follows from speaker and number.
pub(crate) fn payload(speaker: Speaker, number: u32) -> [u8; PAYLOAD_BYTES] {
    let mut out = [0; PAYLOAD_BYTES];
    let mix = |hash: u32, word: u32| (hash ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15);
    let seed = [speaker.0, speaker.1, number].into_iter().fold(17, mix);
    for (i, b) in (0u32..).zip(out.iter_mut()) {
        *b = mix(seed, i).to_le_bytes()[0];
    }
    out[..12].copy_from_slice(CANARY);
    out[12..16].copy_from_slice(&speaker.0.to_be_bytes());
    out[16..20].copy_from_slice(&speaker.1.to_be_bytes());
    out[20..24].copy_from_slice(&number.to_be_bytes());
    out
}

/// Speaker and number, if not one byte differs from what that speaker sent.
pub(crate) fn read_payload(bytes: &[u8]) -> Option<(Speaker, u32)> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let (speaker, number) = ((word(12)?, word(16)?), word(20)?);
    (bytes == payload(speaker, number)).then_some((speaker, number))
}

/// SR and SDES (RFC 3550 sections 6.4.1 and 6.5).
fn sender_report(ssrc: u32, timestamp: u32, packets: u32) -> Vec<u8> {
    let mut out = vec![0x80, 200, 0, 6];
    for word in [ssrc, 0x8000_0000, 0, timestamp, packets, packets.wrapping_mul(160)] {
        out.extend(word.to_be_bytes());
    }
    out.extend([0x81, 202, 0, 3]);
    out.extend(ssrc.to_be_bytes());
    out.extend([1, 5, b'p', b'h', b'o', b'n', b'e', 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(suites: &[Suite]) -> Voice {
        Voice::new((1, 2), "10.0.0.1:4000".parse().expect("an address"), suites, true, &mut Rng::from_small_seed(1))
    }

    #[test]
    fn one_changed_byte_of_a_payload_is_noticed() {
        let mut bytes = payload((3, 4), 5);
        assert_eq!(read_payload(&bytes), Some(((3, 4), 5)));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert_eq!(read_payload(&bytes), None, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(read_payload(&bytes[..100]), None);
    }

    #[test]
    fn an_offer_reads_back() {
        let suites = [Suite::AeadAes256Gcm, Suite::AesCm128HmacSha1_80];
        let mut v = voice(&suites);
        v.hold(true);
        let read = Description::read(&v.offer()).expect("our own text");
        assert_eq!(read.rtp, "10.0.0.1:4000".parse().expect("an address"));
        assert_eq!(read.crypto.iter().map(|c| (c.0, c.1)).collect::<Vec<_>>(), [(1, suites[0]), (2, suites[1])]);
        assert!(read.is_secure && read.has_mux);
        assert_eq!(read.direction, "sendonly");
    }

    #[test]
    fn a_plain_phone_refuses_srtp_and_an_srtp_phone_refuses_plain() {
        let secure = voice(&[Suite::AesCm128HmacSha1_80]).offer();
        let plain = voice(&[]).offer();
        assert!(voice(&[]).answer(&secure).is_none());
        assert!(voice(&[Suite::AesCm128HmacSha1_80]).answer(&plain).is_none());
        assert!(voice(&[]).answer(&plain).is_some());
    }
}
