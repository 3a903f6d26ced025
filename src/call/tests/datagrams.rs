//! Calls with fax or floor control, message by message.

use super::{
    BOBS_LINE, TRUNK_FROM,
    bench::{BOB, BOB_TOO, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, udp},
    transfer::{assert_taken_on, assert_told, hang_up, office},
};
use crate::wire::sip::{Message, Name};

const FAX: &str = "v=0\r\no=- 1 2 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                   m=image 4006 udptl t38\r\na=T38FaxVersion:0\r\n";
/// What a room device has beside its audio: a picture, a second one for slides, and their floor.
const ROOM: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=content:main\r\na=label:11\r\n\
                    m=video 4004 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=content:slides\r\na=label:12\r\n\
                    m=application 4008 UDP/BFCP *\r\na=floorctrl:c-s\r\na=confid:1\r\na=userid:2\r\n\
                    a=floorid:1 mstrm:12\r\na=bfcpver:2\r\n";

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// Kinds and whether each section is in use.
fn sections(message: &Message) -> Vec<(String, bool)> {
    let text = text(message);
    let lines = text.lines().filter_map(|line| line.strip_prefix("m="));
    lines.map(|line| line.split(' ').collect::<Vec<_>>()).map(|words| (words[0].to_owned(), words[1] != "0")).collect()
}

fn invite(b: &mut Bench, body: &str) {
    let to = format!("<{BOBS_LINE}>");
    b.request(udp(TRUNK), ("INVITE", BOBS_LINE), (&format!("{TRUNK_FROM};tag=t"), &to), ("room", 1), ("", body));
}

#[test]
fn the_four_streams_of_a_content_share_pass_with_their_floor() {
    let mut b = Bench::new();
    invite(&mut b, &format!("{SDP}{ROOM}"));
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "busy", "", "");
    let offer = b.take_request("INVITE", BOB);
    let all = ["audio", "video", "video", "application"].map(|kind| (kind.to_owned(), true));
    assert_eq!(sections(&offer.1), all);
    for line in ["UDP/BFCP *", "a=floorctrl:c-s", "a=confid:1", "a=userid:2", "a=floorid:1 mstrm:12", "a=bfcpver:2"] {
        assert!(text(&offer.1).contains(&format!("{line}\r\n")), "{line} in {}", text(&offer.1));
    }
    b.accept(&offer, "bob", &format!("{SDP}{ROOM}").replace("c-s", "s-only"));
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((ok.status(), sections(&ok)), (200, all.to_vec()));
    assert!(text(&ok).contains("a=floorctrl:s-only"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    assert_eq!((b.open_legs.len(), b.joined.len()), (8, 4), "each stream with its like");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn an_encrypted_room_device_is_offered_all_but_the_floor() {
    let mut b = Bench::with(&CONFIG.replace("\"preferred\"", "\"required\""));
    invite(&mut b, &format!("{SDP}{ROOM}"));
    let offer = b.take_request("INVITE", BOB);
    let expected = [("audio", true), ("video", true), ("video", true), ("application", false)];
    assert_eq!(sections(&offer.1), expected.map(|(kind, is_used)| (kind.to_owned(), is_used)));
    b.finish();
}

#[test]
fn a_call_that_is_nothing_but_a_fax_reaches_who_may_be_plain_and_is_488_for_who_may_not() {
    let mut b = Bench::new();
    invite(&mut b, FAX);
    assert_eq!(sections(&b.take_request("INVITE", BOB).1), [("image".to_owned(), true)]);
    b.finish();

    let mut b = Bench::with(&CONFIG.replace("\"preferred\"", "\"required\""));
    invite(&mut b, FAX);
    assert!(b.find_request("INVITE", BOB).is_none());
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 488);
    assert!(b.open_legs.is_empty());
    b.finish();
}

#[test]
fn a_change_to_fax_and_one_that_is_refused_keep_the_ports_there_are() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    let ports = b.open_legs.clone();
    b.within(&trunk, "INVITE", 2, "", FAX);
    let offer = b.take_request("INVITE", BOB);
    b.answer(&offer, 488, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 488);
    assert_eq!(b.open_legs, ports);
    b.within(&bob, "INVITE", 1, "", FAX);
    let offer = b.take_request("INVITE", TRUNK);
    assert_eq!(sections(&offer.1), [("image".to_owned(), true)]);
    b.accept(&offer, "", FAX);
    assert_eq!(sections(&b.take_response("INVITE", BOB, 200)), [("image".to_owned(), true)]);
    b.acknowledge(&bob, 1, "");
    assert_eq!(b.open_legs, ports);
    // A refresh repeats it.
    b.within(&trunk, "INVITE", 3, "", FAX);
    assert_eq!(sections(&b.take_request("INVITE", BOB).1), [("image".to_owned(), true)]);
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

/// Bob's encrypted device answers with the key that stands in every test's offer.
fn encrypted_call() -> (Bench, Leg) {
    let mut b = Bench::with(&CONFIG.replace("\"preferred\"", "\"required\""));
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    let crypto = text(&invite.1).lines().find(|line| line.contains("AES_CM_128_HMAC_SHA1_80")).map(str::to_owned);
    let crypto = crypto.expect("a crypto line");
    let (line, _) = crypto.split_once("inline:").expect("a key");
    let answer = SDP.replace("RTP/AVP", "RTP/SAVP") + line + "inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n";
    b.accept(&invite, "bob", &answer);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.sent.clear();
    (b, trunk)
}

#[test]
fn a_change_to_fax_that_one_leg_cannot_carry_is_refused_with_the_reason_and_the_other_party_hears_nothing() {
    for method in ["INVITE", "UPDATE"] {
        let (mut b, trunk) = encrypted_call();
        let ports = b.open_legs.len();
        b.within(&trunk, method, 2, "", FAX);
        let refusal = b.take_response(method, TRUNK, 200);
        assert_eq!(refusal.status(), 488, "{method}");
        assert!(refusal.header(Name::Warning).is_some_and(|warning| warning.contains("Encryption")), "{method}");
        assert!(b.find_request("INVITE", BOB).is_none() && b.find_request("UPDATE", BOB).is_none());
        assert_eq!(b.open_legs.len(), ports);
        // Hold works as ever.
        b.within(&trunk, "INVITE", 3, "", &format!("{SDP}a=sendonly\r\n"));
        assert!(text(&b.take_request("INVITE", BOB).1).contains("a=sendonly"));
        b.within(&trunk, "BYE", 4, "", "");
        b.finish();
    }
}

#[test]
fn a_callee_may_offer_a_fax_and_the_caller_answers_it_in_its_ack() {
    let mut b = Bench::new();
    invite(&mut b, "");
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "busy", "", "");
    let asked = b.take_request("INVITE", BOB);
    b.accept(&asked, "bob", FAX);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(sections(&ok), [("image".to_owned(), true)]);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, FAX);
    assert_eq!(sections(&b.take_request("ACK", BOB).1), [("image".to_owned(), true)]);
    assert_eq!((b.open_legs.len(), b.joined.len()), (2, 1));
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_fax_is_handed_over_to_the_target_of_a_transfer() {
    let mut b = office(CONFIG);
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", FAX);
    let offer = b.take_request("INVITE", BOB);
    b.accept(&offer, "", FAX);
    b.acknowledge(&trunk, 2, "");
    b.sent.clear();
    assert_taken_on(&mut b, &bob, 1, "<sip:1003@pbx.example.com>");
    let to_carol = b.take_request("INVITE", CAROL);
    assert_eq!(sections(&to_carol.1), [("image".to_owned(), true)]);
    b.accept(&to_carol, "carol", FAX);
    let reoffer = b.take_request("INVITE", TRUNK);
    assert_eq!(sections(&reoffer.1), [("image".to_owned(), true)]);
    b.accept(&reoffer, "", FAX);
    assert_told(&mut b, BOB, "SIP/2.0 200 OK");
    hang_up(&mut b, BOB);
    assert_eq!(b.open_legs.len(), 2);
    b.within(&trunk, "BYE", 3, "", "");
    hang_up(&mut b, CAROL);
    b.finish();
}
