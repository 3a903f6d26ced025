//! One leg by itself against written descriptions; [`exchanges`] has what takes several of either.

mod datagrams;
mod exchanges;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;
use crate::wire::sdp::MediaKind;
use LegSecurity::{PlainOnly, SrtpOnly, SrtpPreferred};
use NegotiationFault::{AnswerMismatch, NoCommonSuite, NotEncrypted, NothingAccepted, OutOfTurn};

const SECURITIES: [LegSecurity; 3] = [SrtpOnly, SrtpPreferred, PlainOnly];

fn leg(security: LegSecurity) -> Leg {
    Leg::new(security, &mut rng())
}

/// Another one each time, so that no key comes twice.
fn rng() -> Rng {
    static SEED: AtomicU64 = AtomicU64::new(1);
    Rng::from_small_seed(SEED.fetch_add(1, Ordering::Relaxed))
}

/// A peer's description: session level, then these lines.
fn body(lines: &[&str]) -> String {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    lines.iter().fold(head.to_owned(), |text, line| text + line + "\r\n")
}

fn session(lines: &[&str]) -> Session {
    sdp::parse(body(lines).as_bytes()).unwrap()
}

fn local(ports: &[u16]) -> Vec<Option<LocalMedia>> {
    let address = "198.51.100.5".parse().unwrap();
    ports.iter().map(|port| (*port != 0).then_some(LocalMedia { address, port: *port })).collect()
}

/// A valid crypto line for `suite` whose key bytes are all `byte`.
fn crypto(tag: u32, suite: Suite, byte: u8) -> String {
    let key = MasterKey::new(suite, vec![byte; suite.key_bytes() + suite.salt_bytes()]).unwrap();
    let line = Crypto { tag, suite, suite_text: suite.name().into(), key, mki: None, is_weakened: false };
    let section = MediaSection {
        crypto: vec![line],
        ..sdp::parse(b"v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/SAVP 0\n").unwrap().media.remove(0)
    };
    let session = Session { origin_id: 0, origin_version: 0, bandwidth: Vec::new(), media: vec![section] };
    let text = sdp::print(&session, "192.0.2.1".parse().unwrap());
    text.lines().find(|line| line.starts_with("a=crypto:")).unwrap().to_owned()
}

/// What we sent, read back.
fn read(text: &str) -> Session {
    sdp::parse(text.as_bytes()).unwrap()
}

fn suites(section: &MediaSection) -> Vec<(u32, Suite)> {
    section.crypto.iter().map(|line| (line.tag, line.suite)).collect()
}

fn suite_of(protection: &Protection) -> Option<Suite> {
    match protection {
        Protection::Plain => None,
        Protection::Srtp { suite, .. } => Some(*suite),
    }
}

/// Our offer, read back, after which the leg waits for an answer.
fn offered(leg: &mut Leg, source: &[&str]) -> Session {
    read(&leg.offer(&mut rng(), &session(source), &local(&[20_000, 20_002, 20_004])).unwrap())
}

/// The line of our offer with this suite, with the peer's key in place of ours.
fn answer_line(offer: &Session, suite: Suite) -> String {
    let tag = offer.media[0].crypto.iter().find(|line| line.suite == suite).unwrap().tag;
    crypto(tag, suite, 0xb0)
}

// States

fn in_state(state: &str) -> Leg {
    let mut leg = leg(PlainOnly);
    match state {
        "Idle" => {}
        "Offered" => drop(offered(&mut leg, &["m=audio 4000 RTP/AVP 0"])),
        "OfferAnswered" => {
            offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
            leg.read_answer(body(&["m=audio 6000 RTP/AVP 0"]).as_bytes()).unwrap();
        }
        "Received" => drop(leg.read_offer(body(&["m=audio 6000 RTP/AVP 0"]).as_bytes()).unwrap()),
        "ReceivedAnswered" => {
            leg.read_offer(body(&["m=audio 6000 RTP/AVP 0"]).as_bytes()).unwrap();
            leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
        }
        other => panic!("no state {other}"),
    }
    assert_eq!(state_of(&leg), state);
    leg
}

fn state_of(leg: &Leg) -> &'static str {
    match leg.exchange {
        Exchange::Idle => "Idle",
        Exchange::Offered(_) => "Offered",
        Exchange::OfferAnswered(_) => "OfferAnswered",
        Exchange::Received(_) => "Received",
        Exchange::ReceivedAnswered(_) => "ReceivedAnswered",
    }
}

/// Goal: every state under every operation. A refused operation changes neither state nor what is settled.
#[test]
fn every_state_under_every_operation() {
    type Operation = fn(&mut Leg) -> Result<(), NegotiationFault>;
    let operations: [Operation; 6] = [
        |leg| leg.read_offer(body(&["m=audio 7000 RTP/AVP 0"]).as_bytes()).map(drop),
        |leg| leg.offer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).map(drop),
        |leg| leg.read_answer(body(&["m=audio 7000 RTP/AVP 0"]).as_bytes()).map(drop),
        |leg| leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).map(drop),
        |leg| {
            leg.roll_back();
            Ok(())
        },
        |leg| leg.repeat().map(drop).ok_or(OutOfTurn),
    ];
    // read_offer, offer, read_answer, answer, roll_back, repeat
    let table = [
        ("Idle", ["Received", "Offered", "-", "-", "Idle", "-"]),
        ("Offered", ["-", "Offered", "OfferAnswered", "-", "Idle", "-"]),
        ("OfferAnswered", ["Received", "Offered", "OfferAnswered", "-", "OfferAnswered", "Offered"]),
        ("Received", ["-", "Offered", "-", "ReceivedAnswered", "Idle", "-"]),
        ("ReceivedAnswered", ["Received", "Offered", "-", "ReceivedAnswered", "ReceivedAnswered", "Offered"]),
    ];
    for (state, row) in table {
        for (i, expected) in row.into_iter().enumerate() {
            let mut leg = in_state(state);
            let settled = leg.settled().to_vec();
            let outcome = operations[i](&mut leg);
            if expected == "-" {
                assert_eq!((outcome, state_of(&leg)), (Err(OutOfTurn), state), "{state}, operation {i}");
                assert_eq!(leg.settled(), settled);
            } else {
                assert_eq!((outcome, state_of(&leg)), (Ok(()), expected), "{state}, operation {i}");
            }
        }
    }
}

#[test]
fn what_stands_is_repeated_byte_for_byte_and_answered_under_the_line_in_use() {
    let mut leg = leg(SrtpOnly);
    let first = leg.offer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
    let line = answer_line(&read(&first), Suite::AeadAes128Gcm);
    let answer = body(&["m=audio 6000 RTP/SAVP 0", &line]);
    leg.read_answer(answer.as_bytes()).unwrap();
    let settled = leg.settled().to_vec();
    // An offer that comes to nothing is not what stands.
    offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "a=sendonly"]);
    leg.roll_back();
    assert_eq!(leg.repeat().as_ref(), Some(&first));
    let other = answer_line(&read(&first), Suite::AesCm128HmacSha1_80);
    let changed = leg.read_answer(body(&["m=audio 6000 RTP/SAVP 0", &other]).as_bytes());
    assert_eq!(changed.map(drop), Err(AnswerMismatch));
    assert_eq!(leg.read_answer(answer.as_bytes()).map(|(_, settled)| settled), Ok(settled));
    let held = leg.offer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0", "a=sendonly"]), &local(&[20_000])).unwrap();
    assert_eq!(read(&held).origin_version, 3, "each description that differs has a version of its own");
}

#[test]
fn only_an_answer_settles_anything() {
    for (state, sections) in
        [("Idle", 0), ("Offered", 0), ("Received", 0), ("OfferAnswered", 1), ("ReceivedAnswered", 1)]
    {
        assert_eq!(in_state(state).settled().len(), sections, "{state}");
    }
}

#[test]
fn an_offer_that_fails_leaves_what_was_settled_and_its_key() {
    let mut leg = leg(SrtpOnly);
    let first = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
    let line = answer_line(&first, Suite::AeadAes128Gcm);
    leg.read_answer(body(&["m=audio 6000 RTP/SAVP 0", &line]).as_bytes()).unwrap();
    let settled = leg.settled().to_vec();

    let held = offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "a=sendonly"]);
    leg.roll_back();
    assert_eq!(leg.settled(), settled);
    let again = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
    assert_eq!(again.media[0].crypto, held.media[0].crypto);
    assert_eq!(suites(&again.media[0]), [(2, Suite::AeadAes128Gcm)]);

    leg.roll_back();
    leg.read_offer(body(&["m=audio 7000 RTP/SAVP 0", &crypto(9, Suite::AesCm128HmacSha1_80, 7)]).as_bytes()).unwrap();
    leg.roll_back();
    assert_eq!(leg.settled(), settled);
}

// Offers

#[test]
fn an_encrypted_offer_lists_all_suites_strongest_first_each_with_its_own_key() {
    let offer = offered(&mut leg(SrtpOnly), &["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96"]);
    let mut keys = HashSet::new();
    for section in &offer.media {
        assert_eq!(section.profile, Profile::Savp);
        let expected: Vec<_> = (1..).zip(SUITES).collect();
        assert_eq!(suites(section), expected);
        for line in &section.crypto {
            assert_eq!(line.suite_text, line.suite.name());
            assert!(keys.insert(line.key.expose().to_vec()), "each line has a key of its own");
        }
    }
    assert_eq!(keys.len(), 12);
}

#[test]
fn profile_crypto_and_mux_of_an_offer_follow_the_policy_and_the_feedback_of_the_source() {
    for (security, source, profile, lines, mux) in [
        (SrtpOnly, "RTP/AVP", Profile::Savp, 6, true),
        (SrtpOnly, "RTP/SAVP", Profile::Savp, 6, true),
        (SrtpOnly, "RTP/AVPF", Profile::Savpf, 6, true),
        (SrtpPreferred, "RTP/SAVP", Profile::Avp, 6, true),
        (SrtpPreferred, "RTP/SAVPF", Profile::Avpf, 6, true),
        (PlainOnly, "RTP/SAVP", Profile::Avp, 0, false),
        (PlainOnly, "RTP/SAVPF", Profile::Avpf, 0, false),
    ] {
        let offer = offered(&mut leg(security), &[&format!("m=audio 4000 {source} 0")]);
        let section = &offer.media[0];
        let found = (section.profile.clone(), section.crypto.len(), section.has_rtcp_mux);
        assert_eq!(found, (profile, lines, mux), "{security:?} from {source}");
    }
}

#[test]
fn an_offer_carries_the_source_s_media_and_our_addresses_only() {
    let text = leg(PlainOnly).offer(
        &mut rng(),
        &session(&[
            "m=audio 4000 RTP/AVP 96 0",
            "b=AS:64",
            "a=rtpmap:96 opus/48000/2",
            "a=candidate:1 1 UDP 1 10.1.2.3 4000 typ host",
            "a=rtcp:4001 IN IP4 10.1.2.3",
            "a=sendonly",
        ]),
        &local(&[20_000]),
    );
    let text = text.unwrap();
    for expected in ["c=IN IP4 198.51.100.5", "m=audio 20000 RTP/AVP 96 0", "b=AS:64", "a=rtpmap:96 opus", "a=sendonly"]
    {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    for leak in ["10.1.2.3", "192.0.2.1", "candidate", "4000 "] {
        assert!(!text.contains(leak), "{leak} in {text}");
    }
}

#[test]
fn sections_that_cannot_be_relayed_are_kept_with_port_zero() {
    let source = session(&[
        "m=audio 4000 RTP/AVP 0",
        "m=application 4002 UDP/TLS/BFCP *",
        "m=audio 4004 UDP/TLS/RTP/SAVPF 0",
        "m=image 4006 TCP t38",
        "m=video 0 RTP/AVP 96",
        "m=video 4008 RTP/AVP 97",
        "m=video 4010 RTP/AVP 98",
    ]);
    let local = local(&[20_000, 20_002, 20_004, 20_006, 20_008, 0]);
    let text = leg(PlainOnly).offer(&mut rng(), &source, &local).unwrap();
    let m_lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        m_lines,
        [
            "m=audio 20000 RTP/AVP 0",
            "m=application 0 UDP/TLS/BFCP *",
            "m=audio 0 UDP/TLS/RTP/SAVPF 0",
            "m=image 0 TCP t38",
            "m=video 0 RTP/AVP 96",
            "m=video 0 RTP/AVP 97",
            "m=video 0 RTP/AVP 98",
        ]
    );
}

#[test]
fn the_id_stays_and_the_version_rises_with_each_change_only() {
    let mut leg = leg(PlainOnly);
    let first = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
    leg.read_answer(body(&["m=audio 6000 RTP/AVP 0"]).as_bytes()).unwrap();
    let same = offered(&mut leg, &["m=audio 9999 RTP/AVP 0"]);
    let held = offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "a=inactive"]);
    let versions = [&first, &same, &held].map(|session| session.origin_version);
    assert_eq!(versions, [1, 1, 2]);
    assert!([same.origin_id, held.origin_id].iter().all(|id| *id == first.origin_id));
    assert!(i64::try_from(first.origin_id).is_ok());
}

#[test]
fn a_source_with_fewer_sections_never_shortens_our_description() {
    let mut leg = leg(PlainOnly);
    offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96"]);
    leg.read_answer(body(&["m=audio 6000 RTP/AVP 0", "m=video 6002 RTP/AVP 96"]).as_bytes()).unwrap();
    let offer = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
    assert_eq!(offer.media.iter().map(|section| section.port).collect::<Vec<_>>(), [20_000, 0]);
    assert_eq!(offer.media[1].kind, MediaKind::Video);
}

// Answers read

#[test]
fn each_suite_can_be_answered_and_each_direction_has_its_own_key() {
    for suite in SUITES {
        for (security, profile) in [(SrtpOnly, "RTP/SAVP"), (SrtpPreferred, "RTP/AVP"), (SrtpPreferred, "RTP/SAVP")] {
            let mut leg = leg(security);
            let offer = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
            let answer = body(&[&format!("m=audio 6000 {profile} 0"), &answer_line(&offer, suite)]);
            let (session, settled) = leg.read_answer(answer.as_bytes()).unwrap();
            assert!(session.media[0].crypto.is_empty(), "the other leg sees no key");
            let ours = offer.media[0].crypto.iter().find(|line| line.suite == suite).unwrap();
            assert_eq!(settled[0].send, Protection::Srtp { suite, key: ours.key.clone(), mki: None });
            assert_eq!(suite_of(&settled[0].receive), Some(suite));
            assert_ne!(settled[0].send, settled[0].receive);
            assert_eq!(settled[0].remote_rtp, Some("192.0.2.1:6000".parse().unwrap()));
        }
    }
}

#[test]
fn an_answer_without_encryption_is_taken_only_where_policy_allows() {
    for (security, profile, outcome) in [
        (SrtpOnly, "RTP/SAVP", Err(NotEncrypted)),
        (SrtpOnly, "RTP/AVP", Err(NotEncrypted)),
        (SrtpPreferred, "RTP/SAVP", Err(NotEncrypted)),
        (SrtpPreferred, "RTP/AVP", Ok(None)),
        (PlainOnly, "RTP/AVP", Ok(None)),
    ] {
        let mut leg = leg(security);
        offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
        let answer = body(&[&format!("m=audio 6000 {profile} 0")]);
        let settled = leg.read_answer(answer.as_bytes()).map(|(_, settled)| suite_of(&settled[0].send));
        assert_eq!(settled, outcome, "{security:?}, {profile}");
    }
}

#[test]
fn answers_that_do_not_fit_their_offer_change_nothing() {
    let gcm = Suite::AeadAes256Gcm;
    let cm = Suite::AesCm128HmacSha1_80;
    let m = "m=audio 6000 RTP/SAVP 0";
    let weakened = crypto(1, gcm, 1) + " UNENCRYPTED_SRTP";
    for (what, lines, fault) in [
        ("too few sections", vec![m, &*crypto(1, gcm, 1)], AnswerMismatch),
        (
            "too many sections",
            vec![m, &crypto(1, gcm, 1), "m=video 0 RTP/SAVP 96", "m=video 0 RTP/SAVP 96"],
            AnswerMismatch,
        ),
        ("another kind", vec!["m=video 6000 RTP/SAVP 96", &crypto(1, gcm, 1), "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        ("no RTP", vec!["m=audio 6000 udptl 0", "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        ("a tag not offered", vec![m, &crypto(7, gcm, 1), "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        ("another suite under the tag", vec![m, &crypto(1, cm, 1), "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        ("a weakened suite", vec![m, &weakened, "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        ("two lines", vec![m, &crypto(1, gcm, 1), &crypto(4, cm, 1), "m=video 0 RTP/SAVP 96"], AnswerMismatch),
        (
            "no format offered",
            vec!["m=audio 6000 RTP/SAVP 8", &crypto(1, gcm, 1), "m=video 0 RTP/SAVP 96"],
            AnswerMismatch,
        ),
        ("no key", vec![m, "m=video 0 RTP/SAVP 96"], NotEncrypted),
        ("nothing accepted", vec!["m=audio 0 RTP/SAVP 0", "m=video 0 RTP/SAVP 96"], NothingAccepted),
        ("no SDP", vec!["nonsense"], NegotiationFault::Sdp(SdpFault::NotSdp)),
    ] {
        let mut leg = leg(SrtpOnly);
        offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96"]);
        assert_eq!(leg.read_answer(body(&lines).as_bytes()), Err(fault), "{what}");
        assert_eq!((state_of(&leg), leg.settled()), ("Offered", &[][..]), "{what}");
    }
}

#[test]
fn a_section_we_refused_may_not_be_answered_and_crypto_needs_an_offer_of_it() {
    let mut leg = leg(PlainOnly);
    offered(&mut leg, &["m=audio 4000 RTP/AVP 0", "m=image 4002 TCP t38"]);
    let revived = body(&["m=audio 6000 RTP/AVP 0", "m=image 6002 TCP t38"]);
    assert_eq!(leg.read_answer(revived.as_bytes()), Err(AnswerMismatch));
    let encrypted = body(&["m=audio 6000 RTP/AVP 0", &crypto(1, Suite::AeadAes256Gcm, 1), "m=image 0 TCP t38"]);
    assert_eq!(leg.read_answer(encrypted.as_bytes()), Err(AnswerMismatch));
}

#[test]
fn the_rtcp_address_is_muxed_stated_or_one_above() {
    for (security, lines, rtcp) in [
        (SrtpPreferred, vec!["m=audio 6000 RTP/AVP 0", "a=rtcp-mux"], None),
        (SrtpPreferred, vec!["m=audio 6000 RTP/AVP 0"], Some("192.0.2.1:6001")),
        (SrtpPreferred, vec!["m=audio 6000 RTP/AVP 0", "a=rtcp:6100"], Some("192.0.2.1:6100")),
        (SrtpPreferred, vec!["m=audio 6000 RTP/AVP 0", "a=rtcp:6100 IN IP4 192.0.2.8"], Some("192.0.2.8:6100")),
        (SrtpPreferred, vec!["m=audio 65535 RTP/AVP 0"], None),
        (SrtpPreferred, vec!["m=audio 6000 RTP/AVP 0", "c=IN IP4 phone.example.com"], None),
        (PlainOnly, vec!["m=audio 6000 RTP/AVP 0", "a=rtcp-mux"], Some("192.0.2.1:6001")),
    ] {
        let mut leg = leg(security);
        offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
        let (_, settled) = leg.read_answer(body(&lines).as_bytes()).unwrap();
        assert_eq!(settled[0].remote_rtcp, rtcp.map(|text| text.parse().unwrap()), "{lines:?}");
        let is_muxed = security != PlainOnly && lines.contains(&"a=rtcp-mux");
        assert_eq!(settled[0].has_rtcp_mux, is_muxed, "an address that nobody knows is something else: {lines:?}");
    }
}

#[test]
fn a_further_answer_replaces_the_first_under_the_same_line_only() {
    let mut leg = leg(SrtpPreferred);
    let offer = offered(&mut leg, &["m=audio 4000 RTP/AVP 0"]);
    let gcm = answer_line(&offer, Suite::AeadAes256Gcm);
    let cm = answer_line(&offer, Suite::AesCm128HmacSha1_80);
    let answered = |port: u16, lines: &[&str]| body(&[&[&*format!("m=audio {port} RTP/AVP 0")], lines].concat());

    // Announcement in the clear, then the callee, encrypted.
    leg.read_answer(answered(6000, &[]).as_bytes()).unwrap();
    leg.read_answer(answered(6002, &[&gcm]).as_bytes()).unwrap();
    let (_, settled) = leg.read_answer(answered(6004, &[&gcm]).as_bytes()).unwrap();
    assert_eq!(settled[0].remote_rtp.map(|rtp| rtp.port()), Some(6004));
    assert_eq!(suite_of(&settled[0].send), Some(Suite::AeadAes256Gcm));

    assert_eq!(leg.read_answer(answered(6006, &[&cm]).as_bytes()), Err(AnswerMismatch));
    assert_eq!(leg.settled(), settled);
    // A key that was given up does not come back.
    leg.read_answer(answered(6008, &[]).as_bytes()).unwrap();
    assert_eq!(leg.read_answer(answered(6010, &[&gcm]).as_bytes()), Err(AnswerMismatch));
}

// Offers read

#[test]
fn which_offers_each_policy_takes() {
    let good = crypto(1, Suite::AesCm128HmacSha1_80, 1);
    let weak = crypto(1, Suite::AesCm128HmacSha1_80, 1) + " UNENCRYPTED_SRTP";
    let cm = Some(Suite::AesCm128HmacSha1_80);
    for (security, profile, line, outcome) in [
        (SrtpOnly, "RTP/SAVP", &*good, Ok(cm)),
        (SrtpOnly, "RTP/AVP", &good, Ok(cm)),
        (SrtpOnly, "RTP/AVP", "", Err(NotEncrypted)),
        (SrtpOnly, "RTP/AVP", &weak, Err(NoCommonSuite)),
        (SrtpOnly, "RTP/SAVP", &weak, Err(NoCommonSuite)),
        (SrtpOnly, "RTP/SAVP", "a=crypto:1 F8_128_HMAC_SHA1_80 inline:AAAA", Err(NoCommonSuite)),
        (SrtpOnly, "RTP/SAVP", "", Err(NoCommonSuite)),
        (SrtpPreferred, "RTP/SAVP", &good, Ok(cm)),
        (SrtpPreferred, "RTP/AVP", &good, Ok(cm)),
        (SrtpPreferred, "RTP/AVP", "", Ok(None)),
        (SrtpPreferred, "RTP/AVP", &weak, Ok(None)),
        (SrtpPreferred, "RTP/SAVP", &weak, Err(NoCommonSuite)),
        (PlainOnly, "RTP/SAVP", &good, Err(NoCommonSuite)),
        (PlainOnly, "RTP/AVP", &good, Ok(None)),
        (PlainOnly, "RTP/AVP", "", Ok(None)),
    ] {
        let mut leg = leg(security);
        let offer = body(&[&format!("m=audio 6000 {profile} 0"), line]);
        let read_offer = leg.read_offer(offer.as_bytes());
        assert_eq!(read_offer.as_ref().map(drop).err().copied(), outcome.err(), "{security:?} {profile} {line}");
        if let Ok(expected) = outcome {
            assert!(read_offer.unwrap().media[0].crypto.is_empty(), "the other leg sees no key");
            let (text, settled) =
                leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
            assert!(text.contains(&format!("m=audio 20000 {profile} 0")), "the profile offered: {text}");
            assert_eq!((suite_of(&settled[0].send), suite_of(&settled[0].receive)), (expected, expected));
            assert_eq!(text.matches("a=crypto").count(), usize::from(expected.is_some()));
        } else {
            assert_eq!(state_of(&leg), "Idle");
        }
    }
}

#[test]
fn the_strongest_line_is_answered_with_its_tag_its_spelling_and_a_key_of_ours() {
    let misspelt = crypto(5, Suite::AesCm256HmacSha1_80, 5).replace("AES_256_CM", "AES_CM_256");
    let lines = [
        "m=audio 6000 RTP/SAVP 0".to_owned(),
        crypto(3, Suite::AesCm128HmacSha1_80, 3),
        crypto(4, Suite::AesCm256HmacSha1_32, 4),
        misspelt,
        crypto(6, Suite::AeadAes256Gcm, 6) + " UNAUTHENTICATED_SRTP",
    ];
    let mut leg = leg(SrtpOnly);
    leg.read_offer(body(&lines.each_ref().map(String::as_str)).as_bytes()).unwrap();
    let (text, settled) = leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
    let answer = read(&text);
    let [line] = answer.media[0].crypto.as_slice() else { panic!("exactly one line: {text}") };
    assert_eq!((line.tag, &*line.suite_text), (5, "AES_CM_256_HMAC_SHA1_80"));
    assert_eq!(settled[0].send, Protection::Srtp { suite: line.suite, key: line.key.clone(), mki: None });
    let theirs = MasterKey::new(line.suite, vec![5; 46]).unwrap();
    assert_eq!(settled[0].receive, Protection::Srtp { suite: line.suite, key: theirs, mki: None });
}

#[test]
fn the_peer_s_mki_is_expected_and_none_is_sent() {
    let line = crypto(1, Suite::AesCm128HmacSha1_80, 1) + "|2^20|1:4";
    let mut leg = leg(SrtpOnly);
    leg.read_offer(body(&["m=audio 6000 RTP/SAVP 0", &line]).as_bytes()).unwrap();
    let (text, settled) = leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
    assert!(!text.contains('|'));
    let Protection::Srtp { mki: received, .. } = &settled[0].receive else { panic!("encrypted") };
    let Protection::Srtp { mki: sent, .. } = &settled[0].send else { panic!("encrypted") };
    assert_eq!((received, sent), (&Mki::new(&[0, 0, 0, 1]), &None));
}

#[test]
fn sections_this_leg_rejects_are_not_shown_to_the_other() {
    let line = crypto(1, Suite::AeadAes128Gcm, 1);
    let offer = body(&["m=audio 6000 RTP/SAVP 0", &line, "m=video 6002 RTP/AVP 96", "m=image 6004 udptl t38"]);
    let mut leg = leg(SrtpOnly);
    let seen = leg.read_offer(offer.as_bytes()).unwrap();
    assert_eq!(seen.media.iter().map(|section| section.port).collect::<Vec<_>>(), [6000, 0, 0]);
    let source = session(&["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96", "m=image 4004 udptl t38"]);
    let (text, settled) = leg.answer(&mut rng(), &source, &local(&[20_000, 20_002, 20_004])).unwrap();
    let m_lines: Vec<_> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(m_lines, ["m=audio 20000 RTP/SAVP 0", "m=video 0 RTP/AVP 96", "m=image 0 udptl t38"]);
    assert_eq!(settled[1].peer_direction, Direction::Inactive);
    assert_eq!((settled[1].remote_rtp, settled[2].remote_rtp), (None, None));
}

#[test]
fn an_offer_with_nothing_to_relay_is_refused() {
    for lines in [
        vec!["m=image 6000 TCP t38"],
        vec!["m=audio 0 RTP/AVP 0"],
        vec!["m=audio 6000 UDP/TLS/RTP/SAVPF 0"],
        vec!["m=text 6000 RTP/AVP 98"],
    ] {
        assert_eq!(leg(SrtpPreferred).read_offer(body(&lines).as_bytes()), Err(NothingAccepted), "{lines:?}");
    }
}

#[test]
fn a_new_offer_may_add_sections_but_not_lose_any() {
    let one = body(&["m=audio 6000 RTP/AVP 0"]);
    let two = body(&["m=audio 6000 RTP/AVP 0", "m=video 6002 RTP/AVP 96"]);
    let mut leg = leg(PlainOnly);
    for offer in [&one, &two] {
        let seen = leg.read_offer(offer.as_bytes()).unwrap();
        leg.answer(&mut rng(), &seen, &local(&[20_000, 20_002])).unwrap();
    }
    assert_eq!(leg.read_offer(one.as_bytes()), Err(AnswerMismatch));
    assert_eq!((state_of(&leg), leg.settled().len()), ("ReceivedAnswered", 2));
}

// Answers written

#[test]
fn an_answer_has_only_formats_of_its_offer() {
    let mut leg = leg(PlainOnly);
    leg.read_offer(body(&["m=audio 6000 RTP/AVP 0 8"]).as_bytes()).unwrap();
    let source = session(&["m=audio 4000 RTP/AVP 8 9", "a=rtpmap:9 G722/8000"]);
    let (text, _) = leg.answer(&mut rng(), &source, &local(&[20_000])).unwrap();
    assert!(text.contains("m=audio 20000 RTP/AVP 8\r\n") && !text.contains("G722"), "{text}");
}

#[test]
fn an_answer_that_accepts_nothing_is_a_fault_and_may_be_tried_again() {
    let mut leg = leg(PlainOnly);
    leg.read_offer(body(&["m=audio 6000 RTP/AVP 0"]).as_bytes()).unwrap();
    let good = session(&["m=audio 4000 RTP/AVP 0"]);
    for (source, ports) in [
        (&good, &[0][..]),
        (&good, &[]),
        (&session(&["m=audio 0 RTP/AVP 0"]), &[20_000]),
        (&session(&["m=audio 4000 RTP/AVP 8"]), &[20_000]),
    ] {
        assert_eq!(leg.answer(&mut rng(), source, &local(ports)), Err(NothingAccepted));
    }
    assert!(leg.settled().is_empty());
    assert!(leg.answer(&mut rng(), &good, &local(&[20_000])).is_ok());
}

/// What the other leg is offered, which has a mind of its own about multiplexing.
fn leg_that_offers(seen: &Session) -> String {
    let text = leg(PlainOnly).offer(&mut rng(), seen, &local(&[20_002])).unwrap();
    assert!(!text.contains("a=rtcp-mux"), "{text}");
    text
}

#[test]
fn mux_is_answered_exactly_if_offered() {
    for security in SECURITIES {
        for (line, is_muxed) in [
            ("a=rtcp-mux", true),
            // Required (RFC 8858), with and without what must stand beside it.
            ("a=rtcp-mux\r\na=rtcp-mux-only", true),
            ("a=rtcp-mux-only", true),
            ("a=rtcp:6000\r\na=rtcp-mux\r\na=rtcp-mux-only", true),
            ("a=ptime:20", false),
            ("a=rtcp:6001", false),
        ] {
            let mut leg = leg(security);
            let offer = ["m=audio 6000 RTP/AVP 0", line, &crypto(1, Suite::AeadAes128Gcm, 1)];
            let seen = leg.read_offer(body(&offer).as_bytes()).unwrap();
            let to_other = leg_that_offers(&seen);
            assert!(!to_other.contains("rtcp-mux-only") && !to_other.contains("a=rtcp:"), "{to_other}");
            let (text, settled) =
                leg.answer(&mut rng(), &session(&["m=audio 4000 RTP/AVP 0"]), &local(&[20_000])).unwrap();
            assert_eq!(text.contains("a=rtcp-mux\r\n"), is_muxed, "{line}");
            assert!(!text.contains("rtcp-mux-only"), "an answer never has it: {text}");
            assert_eq!(settled[0].remote_rtcp.is_none(), is_muxed);
        }
    }
}
