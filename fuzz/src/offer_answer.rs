//! Two legs of a call in negotiation with peers that send any description in any order.

use std::collections::BTreeMap;

use ringdown::{
    policy::security::LegSecurity,
    sip::offer_answer::{Leg, LocalMedia, NegotiationFault, Protection, Settled},
    types::Rng,
    wire::{
        classify::Traffic,
        sdp::{self, Session},
        srtp::{MasterKey, Suite},
    },
};

use super::choices::Choices;

const STEPS_MAX: usize = 48;
const SECURITIES: [LegSecurity; 3] = [LegSecurity::SrtpOnly, LegSecurity::SrtpPreferred, LegSecurity::PlainOnly];
/// Stands in every key of the peers.
const PEER_KEY_BYTE: u8 = 0xb6;

/// One leg and what the target knows of it.
struct Side {
    leg: Leg,
    rng: Rng,
    security: LegSecurity,
    /// Our last description, read back.
    sent: Option<Session>,
    /// Every description of ours by its version.
    versions: BTreeMap<u64, String>,
    /// The peer's last offer as the other leg may see it.
    heard: Option<Session>,
}

/// The first choices are the security of the two legs; each further one is what a peer sends or the call asks for.
/// Whatever comes, what we say can be read, holds no key of a peer, and an encrypted leg never settles on plain RTP.
pub fn offer_answer(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut sides = [7, 8].map(|seed| {
        let security = *choices.of(&SECURITIES);
        let mut rng = Rng::from_small_seed(seed);
        let leg = Leg::new(security, &mut rng);
        Side { leg, rng, security, sent: None, versions: BTreeMap::new(), heard: None }
    });
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        let at = choices.below(2);
        let source = sides[1 - at].heard.clone();
        match choices.below(11) {
            0..3 => sides[at].hear_offer(&mut choices),
            3 => sides[at].offer(source, &mut choices),
            4 | 5 => sides[at].hear_answer(&mut choices),
            6 => sides[at].answer(source, &mut choices),
            7 => sides[at].leg.roll_back(),
            8 => sides[at].repeat(),
            9 => sides[at].leg.conclude(),
            _ => {
                let [one, two] = &mut sides;
                exchange(one, two, &mut choices);
            }
        }
        sides.iter().for_each(Side::check);
    }
}

impl Side {
    fn hear_offer(&mut self, choices: &mut Choices<'_>) {
        let body = body(choices, None);
        let before = self.leg.settled().to_vec();
        if let Ok(session) = self.leg.read_offer(&body) {
            assert!(session.media.iter().all(|section| section.crypto.is_empty()), "keys go to the other leg");
            self.heard = Some(session);
        }
        assert_eq!(self.leg.settled(), before, "an offer settles nothing");
        if let Some(declined) = self.leg.decline(&body) {
            let declined = sdp::parse(declined.as_bytes()).expect("a refusal can be read");
            assert!(declined.media.iter().all(|section| section.port == 0));
        }
    }

    fn offer(&mut self, source: Option<Session>, choices: &mut Choices<'_>) {
        let Some(source) = source else { return };
        match self.leg.offer(&mut self.rng, &source, &local(choices)) {
            Ok(text) => self.say(text),
            Err(fault) => assert!(matches!(fault, NegotiationFault::NotEncrypted | NegotiationFault::NothingAccepted)),
        }
    }

    fn repeat(&mut self) {
        let Some(text) = self.leg.repeat() else { return };
        self.say(text);
    }

    fn hear_answer(&mut self, choices: &mut Choices<'_>) {
        let body = body(choices, self.sent.as_ref());
        let before = self.leg.settled().to_vec();
        match self.leg.read_answer(&body) {
            Ok((session, settled)) => {
                assert_eq!(settled.len(), session.media.len());
                assert!(session.media.iter().all(|section| section.crypto.is_empty()), "keys go to the other leg");
            }
            Err(_) => assert_eq!(self.leg.settled(), before, "a failure settles something"),
        }
    }

    fn answer(&mut self, source: Option<Session>, choices: &mut Choices<'_>) {
        let Some(source) = source else { return };
        let before = self.leg.settled().to_vec();
        match self.leg.answer(&mut self.rng, &source, &local(choices)) {
            Ok((text, settled)) => {
                self.say(text);
                let sent = self.sent.as_ref().expect("it was just said");
                assert_eq!(settled.len(), sent.media.len());
                let offered = self.heard.as_ref().expect("what is answered was heard");
                assert_eq!(sent.media.len(), offered.media.len(), "an answer has the sections of its offer");
                for (ours, theirs) in sent.media.iter().zip(&offered.media) {
                    assert_eq!((&ours.kind, &ours.profile), (&theirs.kind, &theirs.profile));
                    assert!(ours.port == 0 || ours.crypto.len() <= 1);
                }
            }
            Err(_) => assert_eq!(self.leg.settled(), before, "a failure settles something"),
        }
    }

    /// A description is either one that was sent before, byte for byte, or has a version above all others.
    fn say(&mut self, text: String) {
        let peer_key = sdp::inline_key(&peer_key(Suite::AesCm128HmacSha1_80)).expose().clone();
        assert!(!text.contains(&peer_key[8..32]), "a peer's key goes out");
        let session = sdp::parse(text.as_bytes()).expect("what we say can be read");
        assert!(self.sent.as_ref().is_none_or(|before| session.origin_id == before.origin_id));
        let newest = self.versions.last_key_value().map(|(version, _)| *version);
        match self.versions.get(&session.origin_version) {
            Some(before) => assert_eq!(*before, text, "two descriptions have one version"),
            None => assert!(newest < Some(session.origin_version), "a new description has an old version"),
        }
        self.versions.insert(session.origin_version, text);
        self.sent = Some(session);
    }

    fn check(&self) {
        for (n, settled) in self.leg.settled().iter().enumerate() {
            if !self.leg.is_in_use(n) {
                continue;
            }
            if settled.traffic == Traffic::Datagrams {
                assert!(self.security != LegSecurity::SrtpOnly, "a leg that must be encrypted has plain datagrams");
                continue;
            }
            let is_plain = [&settled.receive, &settled.send].map(|protection| *protection == Protection::Plain);
            assert_eq!(is_plain[0], is_plain[1], "one direction is plain");
            match self.security {
                LegSecurity::SrtpOnly => assert!(!is_plain[0], "a leg that must be encrypted is plain"),
                LegSecurity::PlainOnly => assert!(is_plain[0]),
                LegSecurity::SrtpPreferred => {}
            }
            assert!(settled.receive != settled.send || is_plain[0], "both directions have one key");
        }
    }
}

/// Two legs of ours as each other's peers: what one settles the other settles too.
fn exchange(one: &mut Side, two: &mut Side, choices: &mut Choices<'_>) {
    let Some(source) = one.heard.clone().or_else(|| two.heard.clone()) else { return };
    let Ok(text) = one.leg.offer(&mut one.rng, &source, &local(choices)) else { return };
    one.say(text.clone());
    let Ok(heard) = two.leg.read_offer(text.as_bytes()) else { return };
    two.heard = Some(heard.clone());
    let Ok((text, theirs)) = two.leg.answer(&mut two.rng, &heard, &local(choices)) else { return };
    two.say(text.clone());
    // A suite given up by one in an exchange with its other peer may be missing.
    let Ok((_, ours)) = one.leg.read_answer(text.as_bytes()) else { return };
    let protections = |settled: &Settled| (settled.receive.clone(), settled.send.clone());
    for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(one.leg.is_in_use(n), two.leg.is_in_use(n), "one side has a section that the other has refused");
        let (receive, send) = protections(ours);
        assert_eq!((send, receive), protections(theirs), "the two sides settle on different keys");
    }
}

fn local(choices: &mut Choices<'_>) -> Vec<Option<LocalMedia>> {
    let address = *choices.of(&["192.0.2.1".parse().expect("an address"), "2001:db8::1".parse().expect("an address")]);
    (0..choices.below(4))
        .map(|n| choices.below(8).checked_sub(1).map(|_| LocalMedia { address, port: port(n) }))
        .collect()
}

fn port(section: usize) -> u16 {
    20_000 + 2 * u16::try_from(section).expect("few sections")
}

/// A description: any text, or one that fits `offer`, or one made of choices.
fn body(choices: &mut Choices<'_>, offer: Option<&Session>) -> Vec<u8> {
    let kind = choices.below(16);
    if kind == 0 {
        return choices.bytes().to_vec();
    }
    let mut text = "v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\n".to_owned();
    text += *choices.of(&["c=IN IP4 198.51.100.1\r\n", "c=IN IP6 2001:db8::9\r\n", "c=IN IP4 0.0.0.0\r\n", ""]);
    text += "t=0 0\r\n";
    let sections = offer.map_or_else(|| choices.below(4), |offer| offer.media.len() + usize::from(kind == 1));
    for n in 0..sections.min(8) {
        text += &section(choices, offer.and_then(|offer| offer.media.get(n)));
    }
    text.into_bytes()
}

fn section(choices: &mut Choices<'_>, offer: Option<&sdp::MediaSection>) -> String {
    let kind = *choices.of(&["audio", "audio", "audio", "video", "application", "image"]);
    let profiles = ["RTP/AVP", "RTP/SAVP", "RTP/SAVPF", "RTP/AVPF", "UDP/TLS/RTP/SAVPF", "udptl", "UDP/BFCP"];
    let profile = *choices.of(&profiles);
    let port = *choices.of(&[4_000, 4_000, 4_000, 0, 65_535]);
    let formats = *choices.of(&["0 8 101", "0", "96 97", "8 101"]);
    let mut text = match offer {
        // As in the offer, so that answers get through.
        Some(offer) if choices.below(8) != 0 => {
            let kind = match &offer.kind {
                sdp::MediaKind::Audio => "audio",
                sdp::MediaKind::Video => "video",
                sdp::MediaKind::Other(kind) => kind,
            };
            let profile = match &offer.profile {
                sdp::Profile::Other(text) => text,
                profile if profile.is_secure() => "RTP/SAVP",
                _ => "RTP/AVP",
            };
            format!("m={kind} {port} {profile} {}\r\n", offer.formats.iter().collect::<Vec<_>>().join(" "))
        }
        Some(_) | None => format!("m={kind} {port} {profile} {formats}\r\n"),
    };
    for _ in 0..choices.below(4) {
        let tag = u32::try_from(choices.below(8)).expect("a few");
        let suite = *choices.of(&Suite::ALL);
        let offered = offer.and_then(|offer| choices.one_of(offer.crypto.iter().map(|line| (line.tag, line.suite))));
        let (tag, suite) = offered.filter(|_| choices.below(8) != 0).unwrap_or((tag, suite));
        text += &crypto(tag, suite);
        text += *choices.of(&["\r\n", "\r\n", "\r\n", "|2^20|1:4\r\n", " UNENCRYPTED_SRTP\r\n", " KDR=3\r\n", "x\r\n"]);
        if choices.below(4) != 0 {
            break;
        }
    }
    for _ in 0..choices.below(4) {
        text += *choices.of(&[
            "a=sendonly\r\n",
            "a=recvonly\r\n",
            "a=inactive\r\n",
            "a=rtcp-mux\r\n",
            "a=rtcp:4005\r\n",
            "a=rtcp:4005 IN IP4 198.51.100.7\r\n",
            "a=rtpmap:96 opus/48000/2\r\n",
            "a=fmtp:101 0-15\r\n",
            "c=IN IP4 198.51.100.2\r\n",
            "b=AS:64\r\n",
        ]);
    }
    text
}

fn peer_key(suite: Suite) -> MasterKey {
    MasterKey::new(suite, vec![PEER_KEY_BYTE; suite.key_bytes() + suite.salt_bytes()])
        .expect("a key of the right length")
}

fn crypto(tag: u32, suite: Suite) -> String {
    format!("a=crypto:{tag} {} inline:{}", suite.name(), sdp::inline_key(&peer_key(suite)).expose())
}
