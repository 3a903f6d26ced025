//! Emergency calls through carriers that refuse, delay, redirect, flap or say nothing (emergency specification 5.3): Alice, a
//! baresip that encrypts, must hear the answering point, which is a SIPp that sends back what it hears: it finds no address to send
//! to in a description that comes beside a location.

use std::thread;

use crate::{
    A_HZ, B_HZ, Baresip, HEARD_S_MIN, Setup, Sipp, TALK, Wanted, assert_heard,
    common::server::{ALICE, Ringdown},
    sipp, trunk,
};

/// What an answering point must get: SDP first, then the company's address, in one INVITE.
pub(crate) fn assert_has_location(messages: &str) {
    for text in ["INVITE sip:911@", "Priority: emergency", "Geolocation: <cid:", "<ca:RD>Example</ca:RD>"] {
        assert!(messages.contains(text), "no {text:?} in {messages}");
    }
}

fn without_location(messages: &str) -> bool {
    messages.split("\nINVITE sip:911@").skip(1).any(|invite| {
        let ends = invite.find("\n---").unwrap_or(invite.len());
        !invite[..ends].contains("pidf")
    })
}

/// Alice dials 911, talks to whoever answers and hangs up.
fn is_helped(server: &Ringdown, answering: Sipp) -> String {
    let mut alice = Baresip::start(server, &Setup::new(ALICE, A_HZ, false));
    alice.dial("911");
    alice.wait_established();
    thread::sleep(TALK);
    alice.hang_up();
    let messages = answering.wait_done();
    server.wait_no_calls();
    assert_heard("alice", &alice.recording(), Wanted::whole(A_HZ, HEARD_S_MIN));
    messages
}

/// The first carrier does as `scenario` says, so the call goes on to the second, with its location.
fn the_next_carrier_helps(scenario: &'static str, status: u16) {
    let first = sipp::Setup { keys: vec![("status", status.to_string())], ..sipp::Setup::new(scenario, A_HZ) };
    let second = sipp::Setup { echoes: true, ..sipp::Setup::new("trunk_answers_with_echo.xml", B_HZ) };
    let other = trunk(second.ip).split("[trunk.carrier]").nth(1).map(|keys| format!("[trunk.other]{keys}"));
    let server = Ringdown::started("required", &(trunk(first.ip) + &other.expect("a trunk")), &[ALICE]);
    let (refusing, answering) = (Sipp::start(&server, &first), Sipp::start(&server, &second));
    assert_has_location(&is_helped(&server, answering));
    assert_has_location(&refusing.wait_done());
}

#[test]
fn a_carrier_that_is_in_trouble_is_followed_by_the_next_one() {
    the_next_carrier_helps("carrier_refuses.xml", 503);
}

#[test]
fn a_carrier_that_declines_is_followed_by_the_next_one() {
    the_next_carrier_helps("carrier_refuses.xml", 603);
}

#[test]
fn a_carrier_that_redirects_is_not_followed_but_the_next_one_is() {
    the_next_carrier_helps("carrier_refuses.xml", 302);
}

#[test]
fn a_carrier_that_rings_and_then_fails_is_followed_by_the_next_one() {
    the_next_carrier_helps("carrier_flaps.xml", 480);
}

#[test]
fn a_carrier_that_says_nothing_is_followed_by_the_next_one() {
    the_next_carrier_helps("carrier_is_silent.xml", 0);
}

/// The only carrier, with these calls of this scenario.
fn the_carrier_helps(scenario: &'static str, status: u16, calls: u32, encryption: &str) -> String {
    let keys = vec![("status", status.to_string())];
    let setup = sipp::Setup { keys, calls, echoes: true, ..sipp::Setup::new(scenario, B_HZ) };
    let config = trunk(setup.ip).replace("encryption = \"off\"", &format!("encryption = \"{encryption}\""));
    let server = Ringdown::started("required", &config, &[ALICE]);
    let answering = Sipp::start(&server, &setup);
    let messages = is_helped(&server, answering);
    assert_has_location(&messages);
    messages
}

#[test]
fn a_carrier_that_takes_no_location_is_asked_again_without() {
    for status in [415, 424, 488] {
        let messages = the_carrier_helps("carrier_refuses_location.xml", status, 2, "off");
        assert!(without_location(&messages), "{status}: {messages}");
    }
}

#[test]
fn a_carrier_that_refuses_srtp_is_asked_for_rtp_and_keeps_the_location() {
    let messages = the_carrier_helps("carrier_refuses_srtp.xml", 488, 2, "preferred");
    assert!(messages.contains("a=crypto:") && !without_location(&messages), "{messages}");
}

#[test]
fn a_carrier_that_answers_an_offer_of_srtp_with_rtp_is_talked_to_in_rtp() {
    let messages = the_carrier_helps("trunk_answers_with_echo.xml", 0, 1, "preferred");
    assert!(messages.contains("a=crypto:") && !without_location(&messages), "{messages}");
}

#[test]
fn a_carrier_that_is_slow_to_ring_has_its_time() {
    let messages = the_carrier_helps("carrier_is_late.xml", 0, 1, "off");
    assert!(!without_location(&messages));
}
