//! INVITEs without an offer (RFC 3261 section 13.2.1), message by message.

use super::{
    super::Input,
    bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, udp},
};
use crate::{
    media,
    types::Flow,
    types::limits,
    wire::sip::{Message, Name},
};

/// The trunk calls Bob without an offer.
fn trunk_asks_bob(b: &mut Bench) {
    b.request(
        udp(TRUNK),
        ("INVITE", "sip:+12025551002@pbx.example.com"),
        ("<sip:+14155550123@203.0.113.5>;tag=trunk", "<sip:+12025551002@pbx.example.com>"),
        ("trunk-call", 1),
        ("", ""),
    );
}

const OFFER: &str = "v=0\r\no=- 7 1 IN IP4 198.51.100.2\r\ns=-\r\nc=IN IP4 198.51.100.2\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 8 0\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n";
const ANSWER: &str = "v=0\r\no=- 9 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
                      m=audio 6000 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// Bob has offered in his 200, and the trunk has our offer: the trunk's leg and both INVITEs to Bob.
fn bob_has_offered(b: &mut Bench) -> (Leg, (Flow, Message), (Flow, Message)) {
    trunk_asks_bob(b);
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    assert!(invite.1.body().is_empty() && invite.1.header(Name::ContentType).is_none(), "we have nothing to offer");
    b.answer(&invite, 180, "bob", "", "");
    b.answer(&other, 180, "too", "", "");
    b.accept(&invite, "bob", OFFER);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    let offer = text(&ok);
    assert!(offer.contains("RTP/AVP 8 0") && offer.contains("192.0.2.1"), "{offer}");
    assert!(!offer.contains("198.51.100") && !offer.contains("crypto"), "{offer}");
    (Leg::of_caller(udp(TRUNK), &ok), invite, other)
}

#[test]
fn the_callees_offer_reaches_the_caller_and_the_answer_in_its_ack_the_callee() {
    let mut b = Bench::new();
    let (trunk, invite, other) = bob_has_offered(&mut b);
    assert!(b.find_request("ACK", BOB).is_none(), "the ACK must carry the answer");
    b.take_request("CANCEL", BOB_TOO);
    b.answer(&other, 487, "too", "", "");
    // Bob says it again until he is acknowledged.
    b.accept(&invite, "bob", OFFER);
    assert!(b.find_request("ACK", BOB).is_none());
    assert!(b.joined.is_empty());
    b.acknowledge(&trunk, 1, ANSWER);
    let ack = b.take_request("ACK", BOB).1;
    let answer = text(&ack);
    assert!(answer.contains("RTP/AVP 8\r\n") && answer.contains("192.0.2.1"), "{answer}");
    assert!(!answer.contains("203.0.113"), "{answer}");
    assert_eq!((b.joined.len(), b.open_legs.len()), (1, 2));
    // A 200 that was on its way is answered with the same ACK.
    b.accept(&invite, "bob", OFFER);
    assert_eq!(b.take_request("ACK", BOB).1.bytes(), ack.bytes());
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn an_ack_without_a_usable_answer_ends_both_sides_and_says_why() {
    for (body, reason) in [("", "No Answer In ACK"), ("nonsense", "cannot be read"), (SDP, "does not fit")] {
        let mut b = Bench::new();
        let (trunk, ..) = bob_has_offered(&mut b);
        let body = if body == SDP { &body.replace("AVP 0", "AVP 9") } else { body };
        b.acknowledge(&trunk, 1, body);
        let ack = b.take_request("ACK", BOB).1;
        assert!(
            text(&ack).contains("m=audio 0 RTP/AVP"),
            "an offer is answered, if only with a refusal: {}",
            text(&ack)
        );
        for peer in [TRUNK, BOB] {
            let bye = b.take_request("BYE", peer);
            let said = bye.1.header(Name::Reason).unwrap_or_default();
            assert!(said.starts_with("SIP;cause=488;text=\"") && said.contains(reason), "{said}");
            b.answer(&bye, 200, "", "", "");
        }
        assert!(b.joined.is_empty());
        b.finish();
    }
}

#[test]
fn a_caller_who_never_acknowledges_ends_the_call_on_both_sides() {
    let mut b = Bench::new();
    bob_has_offered(&mut b);
    b.sent.clear();
    b.pass(10_000);
    assert!(b.sent.iter().filter(|(flow, m)| flow.remote == udp(TRUNK).remote && m.status() == 200).count() > 3);
    b.pass(23_000);
    assert!(text(&b.take_request("ACK", BOB).1).contains("m=audio 0"));
    b.take_request("BYE", BOB);
    b.take_request("BYE", TRUNK);
    b.finish();
}

#[test]
fn a_caller_who_hangs_up_before_its_ack_leaves_no_callee_behind() {
    let mut b = Bench::new();
    let (trunk, ..) = bob_has_offered(&mut b);
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    assert!(text(&b.take_request("ACK", BOB).1).contains("m=audio 0"));
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn of_two_devices_that_offer_the_first_is_heard_and_the_other_refused_and_ended() {
    let mut b = Bench::new();
    let (trunk, _, other) = bob_has_offered(&mut b);
    b.take_request("CANCEL", BOB_TOO);
    b.accept(&other, "too", OFFER);
    assert!(text(&b.take_request("ACK", BOB_TOO).1).contains("m=audio 0"));
    let bye = b.take_request("BYE", BOB_TOO);
    b.answer(&bye, 200, "", "", "");
    b.acknowledge(&trunk, 1, ANSWER);
    b.take_request("ACK", BOB);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_200_of_a_further_dialog_is_answered_with_a_refusal_and_ended() {
    let mut b = Bench::new();
    let (trunk, invite, _) = bob_has_offered(&mut b);
    b.accept(&invite, "elsewhere", OFFER);
    let ack = b.take_request("ACK", BOB).1;
    assert_eq!(ack.to_tag(), Some("elsewhere"));
    assert!(text(&ack).contains("m=audio 0"));
    let bye = b.take_request("BYE", BOB);
    assert_eq!(bye.1.to_tag(), Some("elsewhere"));
    b.answer(&bye, 200, "", "", "");
    b.acknowledge(&trunk, 1, ANSWER);
    assert_eq!(b.take_request("ACK", BOB).1.to_tag(), Some("bob"));
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_callee_whose_200_has_no_usable_offer_is_ended_and_the_next_is_heard() {
    for offer in ["", "nonsense"] {
        let mut b = Bench::new();
        trunk_asks_bob(&mut b);
        let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
        b.accept(&invite, "bob", offer);
        b.take_request("ACK", BOB);
        let bye = b.take_request("BYE", BOB);
        b.answer(&bye, 200, "", "", "");
        b.accept(&other, "too", OFFER);
        let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
        b.acknowledge(&trunk, 1, ANSWER);
        assert!(text(&b.take_request("ACK", BOB_TOO).1).contains("AVP 8"));
        b.within(&trunk, "BYE", 2, "", "");
        b.finish();
    }
}

#[test]
fn a_port_that_cannot_be_bound_is_replaced_before_its_answer_and_ports_without_end_end_the_call_after_the_callers_ack()
{
    let mut b = Bench::new();
    let (trunk, ..) = bob_has_offered(&mut b);
    for _ in 0..limits::OCCUPIED_PORTS_PER_CALL_MAX {
        let leg = b.open_legs[0];
        b.input(Input::Media(media::Event::OpenFailed { leg }));
        b.open_legs.rotate_right(1);
        assert!(b.find_request("ACK", BOB).is_none() && b.open_legs.len() == 2, "{}", b.told());
    }
    let leg = b.open_legs[0];
    b.input(Input::Media(media::Event::OpenFailed { leg }));
    assert!(text(&b.take_request("ACK", BOB).1).contains("m=audio 0"));
    b.take_request("BYE", BOB);
    assert!(b.find_request("BYE", TRUNK).is_none(), "RFC 3261 section 15");
    b.acknowledge(&trunk, 1, ANSWER);
    b.take_request("BYE", TRUNK);
    b.finish();
}

#[test]
fn an_encrypting_leg_answers_and_offers_its_own_keys() {
    let mut b = Bench::with(&CONFIG.replace("encryption = \"preferred\"", "encryption = \"required\""));
    trunk_asks_bob(&mut b);
    let (plain, secure) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.accept(&plain, "bob", OFFER);
    b.take_request("ACK", BOB);
    b.take_request("BYE", BOB);
    let key = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
    let line = format!("a=crypto:3 AES_CM_128_HMAC_SHA1_80 {key}\r\n");
    b.accept(&secure, "too", &format!("{}{line}", OFFER.replace("RTP/AVP", "RTP/SAVP")));
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(text(&ok).contains("RTP/AVP 8 0") && !text(&ok).contains("crypto"), "{}", text(&ok));
    b.acknowledge(&Leg::of_caller(udp(TRUNK), &ok), 1, ANSWER);
    let answer = text(&b.take_request("ACK", BOB_TOO).1);
    assert!(answer.contains("RTP/SAVP 8\r\n") && answer.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 "), "{answer}");
    assert!(!answer.contains(key));
    b.within(&Leg::of_caller(udp(TRUNK), &ok), "BYE", 2, "", "");
    b.finish();
}

#[test]
fn an_emergency_call_without_an_offer_goes_out_with_its_location_and_is_connected() {
    let mut b = Bench::new();
    let from = "<sip:alice@pbx.example.com>;tag=a";
    let (uri, to) = ("sip:911@pbx.example.com", "<sip:911@pbx.example.com>");
    b.request(udp(ALICE), ("INVITE", uri), (from, to), ("help", 1), ("", ""));
    let invite = b.take_request("INVITE", TRUNK);
    assert!(invite.1.sdp().is_none());
    assert_eq!(invite.1.header(Name::ContentType), Some("application/pidf+xml"));
    let id = invite.1.header_text("Content-ID").unwrap_or_default();
    let reference = invite.1.header(Name::Geolocation).unwrap_or_default();
    assert_eq!(reference.trim_matches(['<', '>']).strip_prefix("cid:"), Some(id.trim_matches(['<', '>'])));
    assert!(text(&invite.1).contains("Washington"));
    // A refusal that may be the location's fault.
    b.answer(&invite, 415, "no", "", "");
    let again = b.take_request("INVITE", TRUNK);
    assert!(again.1.body().is_empty());
    b.sent.clear();
    b.accept(&again, "psap", &OFFER.replace("AVP 8 0", "AVP 0"));
    let ok = b.take_response("INVITE", ALICE, 200);
    assert_eq!(ok.status(), 200);
    let alice = Leg::of_caller(udp(ALICE), &ok);
    b.acknowledge(&alice, 1, SDP);
    assert!(text(&b.take_request("ACK", TRUNK).1).contains("AVP 0"));
    assert_eq!(b.joined.len(), 1);
    b.within(&alice, "BYE", 2, "", "");
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_call_to_a_trunk_that_asks_for_the_password_stays_without_offer() {
    let mut b = Bench::new();
    let tcp = Flow { transport: crate::types::Transport::Tcp, connection: crate::types::ConnectionId(1), ..udp(ALICE) };
    b.register(tcp, "alice");
    let uri = "sip:92025550177@pbx.example.com";
    b.request(tcp, ("INVITE", uri), ("<sip:alice@pbx.example.com>;tag=a", "<sip:out>"), ("out", 1), ("", ""));
    let bare = b.take_request("INVITE", TRUNK);
    b.answer(&bare, 407, "t", "Proxy-Authenticate: Digest realm=\"c\", nonce=\"one\", qop=\"auth\"\n", "");
    let shown = b.take_request("INVITE", TRUNK);
    assert!(shown.1.header(Name::ProxyAuthorization).is_some() && shown.1.body().is_empty());
    b.sent.clear();
    b.accept(&shown, "t", ANSWER);
    let alice = Leg::of_caller(tcp, &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&alice, 1, &ANSWER.replace("203.0.113.5", "198.51.100.1"));
    let ack = b.take_request("ACK", TRUNK).1;
    assert_eq!(ack.header(Name::ProxyAuthorization), shown.1.header(Name::ProxyAuthorization));
    assert!(text(&ack).contains("AVP 8"));
    b.within(&alice, "BYE", 2, "", "");
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}
