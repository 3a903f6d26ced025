//! Fax (`m=image`, UDPTL) and floor control (`m=application`, BFCP over UDP), beside audio and in its place.

use super::*;

const AUDIO: &str = "m=audio 4000 RTP/AVP 0";
const FAX: [&str; 3] = ["m=image 4002 UDPTL t38", "a=T38FaxVersion:3", "a=T38FaxRateManagement:transferredTCF"];
const FLOOR: [&str; 4] = ["m=application 4004 UDP/BFCP *", "a=floorctrl:c-s", "a=confid:7", "a=floorid:1 mstrm:10"];

/// A leg that talks.
fn talking(security: LegSecurity) -> Leg {
    let mut leg = leg(security);
    let offer = offered(&mut leg, &[AUDIO]);
    let lines = match security {
        PlainOnly => vec!["m=audio 6000 RTP/AVP 0".to_owned()],
        SrtpOnly => vec!["m=audio 6000 RTP/SAVP 0".to_owned(), answer_line(&offer, Suite::AeadAes128Gcm)],
        SrtpPreferred => vec!["m=audio 6000 RTP/AVP 0".to_owned(), answer_line(&offer, Suite::AeadAes128Gcm)],
    };
    leg.read_answer(body(&lines.iter().map(String::as_str).collect::<Vec<_>>()).as_bytes()).unwrap();
    leg
}

#[test]
fn fax_and_floor_control_are_offered_as_written_where_plain_rtp_would_be_and_nowhere_else() {
    let source = session(&[&[AUDIO][..], &FAX, &FLOOR].concat());
    for (security, expected) in [(PlainOnly, [20_002, 20_004]), (SrtpPreferred, [20_002, 20_004]), (SrtpOnly, [0, 0])] {
        let text = leg(security).offer(&mut rng(), &source, &local(&[20_000, 20_002, 20_004])).unwrap();
        let offer = read(&text);
        assert_eq!([offer.media[1].port, offer.media[2].port], expected, "{security:?}");
        assert!(offer.media[1..].iter().all(|section| section.crypto.is_empty() && !section.has_rtcp_mux));
        assert!(text.contains("UDPTL t38") && text.contains("UDP/BFCP *"), "{text}");
        for attribute in FAX[1..].iter().chain(&FLOOR[1..]) {
            assert_eq!(text.contains(attribute), security != SrtpOnly, "{attribute}, {security:?}");
        }
    }
}

#[test]
fn a_fax_alone_is_refused_where_encryption_is_required_and_changes_nothing() {
    let mut leg = talking(SrtpOnly);
    let settled = leg.settled().to_vec();
    assert_eq!(leg.offer(&mut rng(), &session(&FAX), &local(&[20_000])), Err(NotEncrypted));
    assert_eq!(leg.read_offer(body(&FAX).as_bytes()), Err(NotEncrypted));
    assert_eq!((leg.settled(), state_of(&leg)), (&settled[..], "OfferAnswered"));
    let none = leg.offer(&mut rng(), &session(&["m=message 4000 TCP/MSRP *"]), &local(&[20_000]));
    assert_eq!(none, Err(NothingAccepted));
}

#[test]
fn audio_becomes_a_fax_in_its_place_and_audio_again_under_new_keys() {
    for security in [PlainOnly, SrtpPreferred] {
        let mut leg = talking(security);
        let before = leg.settled()[0].clone();
        let seen = leg.read_offer(body(&FAX).as_bytes()).unwrap();
        assert_eq!(seen.media[0].port, 4002);
        let (text, settled) = leg.answer(&mut rng(), &session(&FAX), &local(&[20_000])).unwrap();
        assert!(text.contains("m=image 20000 UDPTL t38\r\n"), "{text}");
        let expected = Settled {
            traffic: Traffic::Datagrams,
            remote_rtp: Some("192.0.2.1:4002".parse().unwrap()),
            remote_rtcp: None,
            has_rtcp_mux: false,
            receive: Protection::Plain,
            send: Protection::Plain,
            peer_direction: Direction::SendRecv,
        };
        assert_eq!(settled, [expected]);

        let offer = offered(&mut leg, &[AUDIO]);
        assert_eq!(offer.media[0].kind, MediaKind::Audio);
        assert_eq!(offer.media[0].crypto.is_empty(), security == PlainOnly);
        for line in &offer.media[0].crypto {
            assert!(!matches!(&before.send, Protection::Srtp { key, .. } if *key == line.key), "a key came back");
        }
    }
}

#[test]
fn a_refused_fax_leaves_audio_and_its_keys_as_they_were() {
    for security in [PlainOnly, SrtpPreferred] {
        let mut leg = talking(security);
        let (settled, standing) = (leg.settled().to_vec(), leg.repeat());
        leg.roll_back();
        let offer = offered(&mut leg, &FAX);
        assert_eq!((offer.media[0].port, offer.media[0].traffic()), (20_000, Some(Traffic::Datagrams)));
        leg.roll_back();
        assert_eq!((leg.settled().to_vec(), leg.repeat()), (settled, standing), "{security:?}");
    }
}

#[test]
fn an_answer_of_another_kind_than_the_offer_is_no_answer() {
    for (source, answer) in [
        (&FAX[..], "m=audio 6000 RTP/AVP 0"),
        (&[AUDIO][..], "m=image 6000 udptl t38"),
        (&FAX[..], "m=image 6000 RTP/AVP 96"),
        (&FAX[..], "m=image 6000 udptl t37"),
    ] {
        let mut leg = leg(PlainOnly);
        offered(&mut leg, source);
        assert_eq!(leg.read_answer(body(&[answer]).as_bytes()).map(drop), Err(AnswerMismatch), "{answer}");
    }
}

#[test]
fn a_fax_is_answered_in_any_spelling_of_its_transport() {
    let mut leg = leg(PlainOnly);
    offered(&mut leg, &FAX);
    let (_, settled) = leg.read_answer(body(&["m=image 6000 udptl T38"]).as_bytes()).unwrap();
    assert_eq!(settled[0].remote_rtp, Some("192.0.2.1:6000".parse().unwrap()));
}
