//! The tone before the refusal of an emergency call (emergency RULES 5.1).

use super::bench::{ALICE, Bench, CONFIG, Leg, SDP, binding, udp, user};
use crate::{
    call::{Input, Which},
    media::{self, Law},
    types::{Flow, limits::REFUSAL_TONES_MAX},
    wire::sip::{Message, Name, digest},
};

const URI: &str = "sip:911@pbx.example.com";
/// Not the host that Alice's messages come from.
const ELSEWHERE: &str = SDP;
const STRANGER: &str = "198.51.100.77:5060";

fn config() -> String {
    let (without_trunk, _) = CONFIG.split_once("[trunk.carrier]").unwrap();
    format!("{without_trunk}refusal_tone = true\n")
}

fn bench() -> Bench {
    Bench::with_users(&config(), [user("alice", "1001", "+12025551001")], vec![binding("alice", ALICE)])
}

/// What Alice's telephone offers: media at its own address.
fn offer(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n{media}")
}

fn pcmu() -> String {
    offer("m=audio 4000 RTP/AVP 0\r\n")
}

fn dial(b: &mut Bench, flow: Flow, call_id: &str, extra: &str, body: &str) {
    let from = format!("<sip:alice@pbx.example.com>;tag={call_id}");
    b.request(flow, ("INVITE", URI), (&from, &format!("<{URI}>")), (call_id, 1), (extra, body));
}

fn sdp(message: &Message) -> String {
    String::from_utf8_lossy(&message.sdp().unwrap_or_default()).into_owned()
}

fn assert_refused(b: &mut Bench, to: &str) -> Message {
    let refusal = b.take_response("INVITE", to, 101);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Emergency Calls Not Available"));
    assert!(refusal.header(Name::Contact).is_none() && refusal.header(Name::Warning).is_some());
    refusal
}

#[test]
fn the_tone_comes_first_and_the_refusal_after_its_second() {
    let mut b = bench();
    dial(&mut b, udp(ALICE), "one", "", &pcmu());
    let progress = b.take_response("INVITE", ALICE, 101);
    assert_eq!((progress.status(), progress.header(Name::Contact).is_some()), (183, true));
    assert!(sdp(&progress).contains(" RTP/AVP 0\r\n"), "{}", sdp(&progress));
    let [(leg, tone)] = b.played[..] else { panic!("{:?}", b.played) };
    assert_eq!((tone.law, tone.payload_type, tone.sequence < 1 << 15), (Law::Mu, 0, true));
    assert_eq!(b.remotes[&leg].rtp, Some("198.51.100.1:4000".parse().unwrap()));
    assert_eq!(b.core.counters().emergency_refused, 1, "counted when it comes");
    b.pass(999);
    assert!(b.sent.is_empty() && b.cdrs.is_empty(), "{}", b.told());
    b.pass(1);
    let refusal = assert_refused(&mut b, ALICE);
    assert_eq!(refusal.to_tag(), progress.to_tag());
    assert_eq!(b.open_legs, []);
    assert_eq!((b.cdrs[0].status, b.cdrs[0].emergency, b.cdrs[0].end_ms - b.cdrs[0].start_ms), (403, true, 1_000));
    assert_eq!(b.core.counters().emergency_refused, 1);
    b.finish();
}

#[test]
fn whatever_stands_in_the_way_of_the_tone_means_the_refusal_at_once() {
    let silent = config().replace("refusal_tone = true", "");
    let few_ports = config().replace("20000-20099", "20000-20003");
    let on_hold = format!("{}a=sendonly\r\n", pcmu());
    let nowhere = pcmu().replace("c=IN IP4 198.51.100.1", "c=IN IP4 0.0.0.0");
    let named = pcmu().replace("c=IN IP4 198.51.100.1", "c=IN IP4 phone.example.com");
    let opus = offer("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n");
    let wide = offer("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 PCMU/16000\r\n");
    let stereo = offer("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 PCMA/8000/2\r\n");
    let dtls = offer("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n");
    let (standard, plain) = (config(), pcmu());
    for (what, config, extra, body) in [
        ("no offer", &standard, "", ""),
        ("no description", &standard, "", "x"),
        ("a held offer", &standard, "", &on_hold),
        ("a held offer of RFC 2543", &standard, "", &nowhere),
        ("a host without an address", &standard, "", &named),
        ("no G.711", &standard, "", &opus),
        ("another clock", &standard, "", &wide),
        ("two channels", &standard, "", &stereo),
        ("another profile", &standard, "", &dtls),
        ("another host", &standard, "", ELSEWHERE),
        ("a reliable 183", &standard, "Require: 100rel\n", &plain),
        ("not configured", &silent, "", &plain),
    ] {
        let mut b = Bench::with_users(config, [user("alice", "1001", "+12025551001")], vec![binding("alice", ALICE)]);
        dial(&mut b, udp(ALICE), "one", extra, body);
        assert_refused(&mut b, ALICE);
        assert!(b.open_legs.is_empty() && b.played.is_empty() && b.cdrs.len() == 1, "{what}");
        b.finish();
    }
    let mut b = Bench::with_users(&few_ports, [user("alice", "1001", "+12025551001")], vec![binding("alice", ALICE)]);
    for call_id in ["one", "two"] {
        dial(&mut b, udp(ALICE), call_id, "", &pcmu());
        assert_eq!(b.take_response("INVITE", ALICE, 101).status(), 183);
    }
    dial(&mut b, udp(ALICE), "three", "", &pcmu());
    assert_refused(&mut b, ALICE);
    b.finish();
}

#[test]
fn a_stranger_hears_none_and_a_device_of_the_company_s_networks_does() {
    for (networks, is_heard) in [("", false), ("site_networks = [\"198.51.100.64/26\"]\n", true)] {
        let mut b = Bench::with(&format!("{}{networks}", config()));
        let body = pcmu().replace("c=IN IP4 198.51.100.1", "c=IN IP4 198.51.100.77");
        dial(&mut b, udp(STRANGER), "one", "", &body);
        assert_eq!(b.take_response("INVITE", STRANGER, 101).status(), if is_heard { 183 } else { 403 });
        b.pass(1_000);
        assert!(b.cdrs.is_empty(), "no record of strangers");
        b.finish();
    }
}

/// Packets go to another host than the INVITE came from only for who has proven to be a user.
#[test]
fn a_user_with_a_password_may_hear_elsewhere() {
    let mut b = bench();
    // The challenge of an ordinary call is good for any.
    let line = ("INVITE", "sip:1002@pbx.example.com");
    let (from, to) = ("<sip:alice@pbx.example.com>;tag=x", "<sip:1002@pbx.example.com>");
    b.request(udp(ALICE), line, (from, to), ("ordinary", 1), ("", ELSEWHERE));
    let challenge = b.take_response("INVITE", ALICE, 101);
    let lines = challenge.lines(Name::ProxyAuthenticate);
    let answer = digest::answer(lines, "alice", "secret", "INVITE", URI, ELSEWHERE.as_bytes(), "cnonce", 1);
    let credentials = format!("Proxy-Authorization: {}\n", answer.unwrap());
    dial(&mut b, udp(ALICE), "one", &credentials, ELSEWHERE);
    assert_eq!(b.take_response("INVITE", ALICE, 101).status(), 183);
    assert_eq!(b.remotes[&b.played[0].0].rtp, Some("198.51.100.9:4000".parse().unwrap()));
    b.pass(1_000);
    // Nobody has acknowledged the challenge.
    b.sent.retain(|(_, message)| message.status() != 407);
    assert_refused(&mut b, ALICE);
    b.finish();
}

#[test]
fn the_callers_first_g711_of_one_section_is_taken_under_the_callers_number_and_protection() {
    const CRYPTO: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    let late = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
    for (body, wanted, law, payload_type) in [
        (offer("m=audio 4000 RTP/AVP 8 0 101\r\n"), "m=audio PORT RTP/AVP 8\r\n", Law::A, 8),
        (
            offer("m=audio 4000 RTP/AVP 96 97 0\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97 pcma/8000/1\r\n"),
            "m=audio PORT RTP/AVP 97\r\n",
            Law::A,
            97,
        ),
        (offer(&format!("{late}m=audio 4000 RTP/AVP 0\r\n")), "m=video 0 RTP/AVP 96\r\n", Law::Mu, 0),
        (offer(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}")), "m=audio PORT RTP/SAVP 0\r\n", Law::Mu, 0),
    ] {
        let mut b = bench();
        dial(&mut b, udp(ALICE), "one", "", &body);
        let progress = b.take_response("INVITE", ALICE, 101);
        let answer = sdp(&progress);
        let port = answer.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(answer.contains(&wanted.replace("PORT", port)), "{answer}");
        assert_eq!(answer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80"), body.contains("a=crypto"), "{answer}");
        assert_eq!((b.open_legs.len(), b.played[0].1.law, b.played[0].1.payload_type), (1, law, payload_type));
        b.pass(1_000);
        assert_refused(&mut b, ALICE);
        b.finish();
    }
}

#[test]
fn a_caller_who_hangs_up_ends_it_by_cancel_and_by_bye() {
    for is_bye in [false, true] {
        let mut b = bench();
        dial(&mut b, udp(ALICE), "one", "", &pcmu());
        let branch = b.sent_branch();
        let progress = b.take_response("INVITE", ALICE, 101);
        let alice = Leg::of_caller(udp(ALICE), &progress);
        b.within(&alice, "UPDATE", 2, "", "");
        assert_eq!(b.take_response("UPDATE", ALICE, 200).status(), 481);
        assert_eq!(b.open_legs.len(), 1, "the tone goes on");
        let method = if is_bye { "BYE" } else { "CANCEL" };
        if is_bye {
            b.within(&alice, "BYE", 3, "", "");
        } else {
            b.cancel(&Leg { remote: format!("<{URI}>"), ..alice }, 1, &branch);
        }
        assert_eq!(b.take_response(method, ALICE, 200).status(), 200);
        let end = b.take_response("INVITE", ALICE, 101);
        assert_eq!((end.status(), end.to_tag()), (487, progress.to_tag()));
        assert_eq!((b.open_legs.len(), b.cdrs[0].status), (0, 487));
        b.finish();
    }
}

#[test]
fn ports_that_cannot_be_had_and_the_end_of_the_server_end_it_at_once() {
    for is_shutdown in [false, true] {
        let mut b = bench();
        dial(&mut b, udp(ALICE), "one", "", &pcmu());
        assert_eq!(b.take_response("INVITE", ALICE, 101).status(), 183);
        let leg = b.open_legs[0];
        b.input(match is_shutdown {
            true => Input::EndCalls(Which::All),
            false => Input::Media(media::Event::OpenFailed { leg }),
        });
        assert_refused(&mut b, ALICE);
        b.finish();
    }
}

#[test]
fn a_draining_server_plays_none() {
    let mut b = bench();
    b.input(Input::Drain);
    dial(&mut b, udp(ALICE), "one", "", &pcmu());
    assert_refused(&mut b, ALICE);
    b.finish();
}

#[test]
fn a_repeated_invite_is_told_the_same_and_hears_no_second_tone() {
    let mut b = bench();
    dial(&mut b, udp(ALICE), "one", "", &pcmu());
    let first = b.take_response("INVITE", ALICE, 101);
    b.serial -= 1;
    dial(&mut b, udp(ALICE), "one", "", &pcmu());
    let again = b.take_response("INVITE", ALICE, 101);
    assert_eq!((again.status(), again.to_tag(), b.played.len()), (183, first.to_tag(), 1));
    b.finish();
}

#[test]
fn the_last_tone_there_is_room_for_is_played_and_a_further_caller_is_answered_at_once() {
    let mut b = bench();
    for n in 0..=REFUSAL_TONES_MAX {
        dial(&mut b, udp(ALICE), &format!("call-{n}"), "", &pcmu());
        let wanted = if n < REFUSAL_TONES_MAX { 183 } else { 403 };
        assert_eq!(b.take_response("INVITE", ALICE, 101).status(), wanted, "{n}");
    }
    assert_eq!(b.open_legs.len(), REFUSAL_TONES_MAX);
    b.pass(1_000);
    assert_eq!(b.open_legs.len(), 0);
    b.finish();
}
