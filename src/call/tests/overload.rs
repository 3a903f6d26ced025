//! Overload control (RFC 7339): a trunk that asks is told how much less it shall send.

use super::{BOBS_LINE, TRUNK_FROM, bench::*};
use crate::wire::sip::Message;

/// A call of the trunk, whose Via has these parameters.
fn call(b: &mut Bench, from: &str, parameters: &str, name: &str, uri: &str) {
    let head = format!(
        "INVITE {uri} SIP/2.0\nVia: SIP/2.0/UDP {from};branch=z9hG4bK-{name}{parameters}\nMax-Forwards: 70\n\
         From: {TRUNK_FROM};tag={name}\nTo: <{uri}>\nCall-ID: {name}\nCSeq: 1 INVITE\nContact: <sip:x@{from}>\n"
    );
    b.receive(udp(from), &head, SDP);
}

const ASKS: &str = ";oc;oc-algo=\"loss,rate\"";

/// Loss and validity as told; `None`: nothing was.
fn told(response: &Message) -> Option<(String, String)> {
    let via = response.via().expect("a Via");
    let value = |name| via.params.get(name).map(str::to_owned);
    Some((value("oc").filter(|oc| !oc.is_empty())?, value("oc-validity")?))
}

fn pair(loss: &str, validity: &str) -> Option<(String, String)> {
    Some((loss.to_owned(), validity.to_owned()))
}

#[test]
fn every_response_to_a_trunk_that_asks_says_what_holds_when_it_leaves() {
    let mut b = Bench::new();
    b.core.calls_max = 10;
    call(&mut b, TRUNK, ASKS, "first", BOBS_LINE);
    let invite = b.take_request("INVITE", BOB);
    b.pass(200);
    assert_eq!(told(&b.take_response("INVITE", TRUNK, 100)), pair("0", "0"), "the layer's own 100, too");
    for n in 1..9 {
        call(&mut b, TRUNK, "", &format!("more-{n}"), BOBS_LINE);
    }
    b.answer(&invite, 180, "bob", "", "");
    let ringing = b.take_response("INVITE", TRUNK, 180);
    assert_eq!(told(&ringing), pair("47", "1000"), "nine of ten");
    call(&mut b, TRUNK, ASKS, "tenth", BOBS_LINE);
    call(&mut b, TRUNK, ASKS, "eleventh", BOBS_LINE);
    let refusal = b.take_response("INVITE", TRUNK, 300);
    assert_eq!((refusal.status(), told(&refusal)), (503, pair("95", "1000")));
}

#[test]
fn whoever_does_not_ask_and_whoever_is_no_trunk_is_told_nothing() {
    let mut b = Bench::new();
    b.core.calls_max = 1;
    call(&mut b, TRUNK, "", "first", BOBS_LINE);
    b.pass(200);
    let trying = b.take_response("INVITE", TRUNK, 100);
    assert!(trying.via().is_some_and(|via| !via.params.has("oc")));
    call(&mut b, ALICE, ASKS, "stranger", BOBS_LINE);
    let challenge = b.take_response("INVITE", ALICE, 300);
    assert_eq!((challenge.status(), told(&challenge)), (407, None));
}
