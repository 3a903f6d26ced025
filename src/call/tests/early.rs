//! Early media of several branches, message by message.

use super::bench::{BOB, BOB_TOO, Bench, Leg, TRUNK, udp};
use crate::{
    types::Flow,
    wire::sip::{Message, Name},
};

const CONTACT: &str = "Contact: <sip:peer@198.51.100.2>\n";

/// A description with these formats.
fn sdp(formats: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\n"
    )
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

/// The trunk calls Bob with PCMU and PCMA; both INVITEs to him.
fn call(b: &mut Bench, extra: &str) -> [(Flow, Message); 2] {
    b.request(
        udp(TRUNK),
        ("INVITE", "sip:+12025551002@pbx.example.com"),
        ("<sip:+14155550123@203.0.113.5>;tag=trunk", "<sip:+12025551002@pbx.example.com>"),
        ("trunk-call", 1),
        (extra, &sdp("0 8")),
    );
    [b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO)]
}

/// The legs that the caller's was joined with, each by its place in the order of opening.
fn joined(b: &Bench) -> Vec<usize> {
    let place = |leg| b.open_legs.iter().position(|open| *open == leg).unwrap();
    b.joined.iter().map(|(_, with)| place(*with)).collect()
}

#[test]
fn the_caller_hears_the_first_branch_and_when_that_fails_the_other() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, "");
    b.answer(&first, 183, "one", CONTACT, &sdp("0"));
    let told = b.take_response("INVITE", TRUNK, 183);
    assert!(text(&told).contains("RTP/AVP 0\r\n"), "{}", text(&told));
    b.answer(&second, 183, "two", CONTACT, &sdp("0"));
    assert!(b.take_response("INVITE", TRUNK, 183).body().is_empty(), "the second is not heard");
    assert_eq!(joined(&b), [1]);
    b.answer(&first, 486, "one", "", "");
    assert_eq!(b.joined.last(), Some(&(b.open_legs[0], b.open_legs[1])), "the second is heard now");
    b.accept(&second, "two", &sdp("0"));
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(text(&ok), text(&told), "nothing new");
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn another_branch_that_speaks_differently_does_not_replace_early_media_unheard() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, "");
    b.answer(&first, 183, "one", CONTACT, &sdp("0"));
    b.answer(&second, 183, "two", CONTACT, &sdp("8"));
    let count = b.joined.len();
    b.answer(&first, 486, "one", "", "");
    assert_eq!(b.joined.len(), count, "the caller cannot know these packets");
    b.accept(&second, "two", &sdp("8"));
    b.take_response("INVITE", TRUNK, 200);
    assert_eq!(b.joined.len(), count + 1);
    b.finish();
}

#[test]
fn a_different_answer_than_the_early_one_is_offered_after_the_ack() {
    for (extra, is_reliable) in [("", false), ("Supported: 100rel\n", true)] {
        let mut b = Bench::new();
        let [first, second] = call(&mut b, extra);
        b.answer(&first, 183, "one", CONTACT, &sdp("0"));
        let told = b.take_response("INVITE", TRUNK, 183);
        let trunk = Leg::of_caller(udp(TRUNK), &told);
        if is_reliable {
            let rack = format!("RAck: {} 1 INVITE\n", told.header(Name::RSeq).unwrap());
            b.within(&trunk, "PRACK", 2, &rack, "");
            assert_eq!(b.take_response("PRACK", TRUNK, 200).status(), 200);
        }
        b.accept(&second, "two", &sdp("8"));
        let ok = b.take_response("INVITE", TRUNK, 200);
        let repeated = if is_reliable { String::new() } else { text(&told) };
        assert_eq!(text(&ok), repeated, "the first answer is the answer (RFC 3261 section 13.2.1)");
        assert!(b.find_request("INVITE", TRUNK).is_none(), "not before its ACK");
        b.acknowledge(&trunk, 1, "");
        let offer = b.take_request("INVITE", TRUNK);
        assert!(text(&offer.1).contains("RTP/AVP 8\r\n"), "{}", text(&offer.1));
        b.accept(&offer, "", &sdp("8"));
        b.take_request("ACK", TRUNK);
        assert!(b.find_request("INVITE", BOB_TOO).is_none() && b.find_request("INVITE", TRUNK).is_none());
        assert_eq!(b.joined.last(), Some(&(b.open_legs[0], b.open_legs[1])));
        b.within(&trunk, "BYE", 3, "", "");
        let bye = b.take_request("BYE", BOB_TOO);
        b.answer(&bye, 200, "", "", "");
        b.finish();
    }
}

#[test]
fn an_announcement_before_the_answer_of_the_same_branch_is_corrected_too() {
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "");
    b.answer(&first, 183, "one", CONTACT, &format!("{}a=sendonly\r\n", sdp("0")));
    assert!(text(&b.take_response("INVITE", TRUNK, 183)).contains("a=sendonly"));
    b.accept(&first, "one", &sdp("0"));
    let ok = b.take_response("INVITE", TRUNK, 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    let offer = b.take_request("INVITE", TRUNK);
    assert!(text(&offer.1).contains("a=sendrecv"), "else the caller stays mute");
    // It refuses; the call goes on with what it has.
    b.answer(&offer, 488, "", "", "");
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn a_second_branch_is_heard_even_where_a_reliable_response_has_settled_the_first() {
    let mut b = Bench::new();
    let [first, second] = call(&mut b, "Supported: 100rel\n");
    b.answer(&first, 183, "one", CONTACT, &sdp("0"));
    let told = b.take_response("INVITE", TRUNK, 183);
    let trunk = Leg::of_caller(udp(TRUNK), &told);
    b.within(&trunk, "PRACK", 2, &format!("RAck: {} 1 INVITE\n", told.header(Name::RSeq).unwrap()), "");
    b.answer(&first, 486, "one", "", "");
    b.answer(&second, 183, "two", CONTACT, &sdp("0"));
    assert_eq!(b.joined.last(), Some(&(b.open_legs[0], b.open_legs[1])), "the second is heard");
    assert_eq!(b.joined.len(), 2);
}

#[test]
fn headers_of_the_callee_pass_with_reliable_responses_and_with_a_200_that_had_to_wait() {
    const ALERT: &str = "Alert-Info: <urn:alert:service:call-waiting>\n";
    let mut b = Bench::new();
    let [first, _] = call(&mut b, "Require: 100rel\n");
    b.answer(&first, 183, "one", &format!("{CONTACT}{ALERT}"), &sdp("0"));
    let told = b.take_response("INVITE", TRUNK, 183);
    assert!(told.header(Name::RSeq).is_some() && told.header(Name::AlertInfo).is_some());
    b.answer(&first, 180, "one", &format!("{CONTACT}{ALERT}"), "");
    let trunk = Leg::of_caller(udp(TRUNK), &told);
    b.within(&trunk, "PRACK", 2, &format!("RAck: {} 1 INVITE\n", told.header(Name::RSeq).unwrap()), "");
    let waited = b.take_response("INVITE", TRUNK, 180);
    assert!(waited.header(Name::RSeq).is_some() && waited.header(Name::AlertInfo).is_some());
}
