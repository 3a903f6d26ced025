//! What the two legs of a call say of several streams, message by message: numbers of their own for one codec, and addresses of
//! two families.

use super::{
    BOBS_LINE, TRUNK_FROM,
    bench::{BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, binding, udp, user},
};
use crate::{media::Rtcp, wire::sip::Message};

const BOB_V6: &str = "[2001:db8::2]:5060";

fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

fn invite(b: &mut Bench, body: &str) {
    let to = format!("<{BOBS_LINE}>");
    b.request(udp(TRUNK), ("INVITE", BOBS_LINE), (&format!("{TRUNK_FROM};tag=t"), &to), ("streams", 1), ("", body));
}

fn with_types(codec: u8, events: u8) -> String {
    SDP.replace("RTP/AVP 0", &format!("RTP/AVP {codec} {events}"))
        + &format!("a=rtpmap:{codec} opus/48000/2\r\na=rtpmap:{events} telephone-event/48000\r\n")
}

/// RFC 3264 section 5.1: each side says under which numbers it wants to receive, and they need not be the same. The relay
/// changes none in packets, so each must hear the other's.
#[test]
fn each_side_is_told_the_payload_types_that_the_other_wants() {
    let mut b = Bench::new();
    invite(&mut b, &with_types(96, 101));
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "busy", "", "");
    let offer = b.take_request("INVITE", BOB);
    assert!(text(&offer.1).contains(" 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/48000\r\n"));
    b.accept(&offer, "bob", &with_types(97, 102));
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(text(&ok).contains(" 97 102\r\na=rtpmap:97 opus/48000/2\r\na=rtpmap:102 telephone-event/48000\r\n"));
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    // The same the other way round, as Bob offers what he has.
    b.sent.clear();
    b.within(&Leg::of_callee(&offer, "bob"), "INVITE", 1, "", &(with_types(97, 102) + "a=sendonly\r\n"));
    let hold = b.take_request("INVITE", TRUNK);
    assert!(text(&hold.1).contains(" 97 102\r\n"));
    b.accept(&hold, "", &(with_types(96, 101) + "a=recvonly\r\n"));
    assert!(text(&b.take_response("INVITE", BOB, 200)).contains(" 96 101\r\n"));
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn voice_and_picture_with_rtcp_ports_of_their_own_pass_from_ipv4_to_ipv6() {
    let config = CONFIG.replace("[\"192.0.2.1\"]", "[\"192.0.2.1\", \"2001:db8::1\"]");
    let users = [user("bob", "1002", "+12025551002")];
    let mut b = Bench::with_users(&config, users, vec![binding("bob", BOB_V6)]);
    let rtcp =
        "a=rtcp:4100\r\nm=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=rtcp:4102 IN IP4 198.51.100.8\r\n";
    invite(&mut b, &format!("{SDP}{rtcp}"));
    let offer = b.take_request("INVITE", BOB_V6);
    let said = text(&offer.1);
    assert!(said.contains("c=IN IP6 2001:db8::1\r\n") && !said.contains("IP4") && !said.contains("a=rtcp:"), "{said}");
    let answer = "v=0\r\no=- 1 1 IN IP6 2001:db8::2\r\ns=-\r\nc=IN IP6 2001:db8::2\r\nt=0 0\r\nm=audio 7000 RTP/AVP 0\r\n\
                  m=video 7002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=rtcp:7103\r\n";
    b.accept(&offer, "bob", answer);
    let ok = b.take_response("INVITE", TRUNK, 200);
    let said = text(&ok);
    assert!(said.contains("c=IN IP4 192.0.2.1\r\n") && !said.contains("IP6") && !said.contains("a=rtcp:"), "{said}");
    let at = |rtp: &str, rtcp: &str| (Some(rtp.parse().unwrap()), Rtcp::Port(Some(rtcp.parse().unwrap())));
    let remotes: Vec<_> = b.open_legs.iter().map(|leg| b.remotes[leg]).map(|r| (r.rtp, r.rtcp)).collect();
    let expected = [
        at("198.51.100.9:4000", "198.51.100.9:4100"),
        at("198.51.100.9:4002", "198.51.100.8:4102"),
        at("[2001:db8::2]:7000", "[2001:db8::2]:7001"),
        at("[2001:db8::2]:7002", "[2001:db8::2]:7103"),
    ];
    assert_eq!(remotes, expected);
    assert_eq!(b.joined.len(), 2);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}
