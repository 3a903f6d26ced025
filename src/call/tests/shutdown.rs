//! The end of the server, as its calls meet it.

use super::bench::{ALICE, BOB, Bench, CONFIG, SDP, TRUNK, binding, udp, user};
use crate::{
    call::{Input, Which},
    wire::sip::Name,
};

const REASON: Option<&str> = Some("SIP;cause=503;text=\"Shutting Down\"");

fn bench() -> Bench {
    let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
    Bench::with_users(CONFIG, users, vec![binding("alice", ALICE), binding("bob", BOB)])
}

/// Alice's registered address stands for her password.
fn alice_calls_911(b: &mut Bench) {
    let (uri, from) = ("sip:911@pbx.example.com", "<sip:alice@pbx.example.com>;tag=e");
    b.request(udp(ALICE), ("INVITE", uri), (from, &format!("<{uri}>")), ("emergency", 1), ("", SDP));
}

#[test]
fn both_sides_of_a_live_call_are_told_why_it_ends_and_its_record_says_so() {
    let mut b = Bench::new();
    b.trunk_talks_to_bob();
    b.input(Input::EndCalls(Which::Ordinary));
    assert_eq!((b.core.live_calls(), b.core.open_calls()), (0, 1));
    for peer in [TRUNK, BOB] {
        let bye = b.take_request("BYE", peer);
        assert_eq!(bye.1.header(Name::Reason), REASON, "to {peer}");
        b.answer(&bye, 200, "", "", "");
    }
    assert_eq!(b.core.open_calls(), 0);
    b.finish();
}

#[test]
fn a_call_that_rings_is_refused_and_its_telephone_stops_ringing() {
    let mut b = bench();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 180, "bob", "", "");
    b.input(Input::EndCalls(Which::All));
    assert_eq!(b.take_response("INVITE", TRUNK, 300).status(), 503);
    let cancel = b.take_request("CANCEL", BOB);
    b.answer(&cancel, 200, "", "", "");
    b.answer(&invite, 487, "bob", "", "");
    b.finish();
}

/// Goal: a server that ends is still good for an emergency call, until nobody can wait any longer.
#[test]
fn an_emergency_call_begins_while_the_server_drains_and_only_the_very_end_ends_it() {
    let mut b = bench();
    b.input(Input::Drain);
    alice_calls_911(&mut b);
    let invite = b.take_request("INVITE", TRUNK);
    b.accept(&invite, "psap", SDP);
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200);
    b.input(Input::EndCalls(Which::Ordinary));
    assert_eq!(b.core.live_calls(), 1, "an emergency call is no ordinary one");
    b.input(Input::EndCalls(Which::All));
    assert_eq!(b.core.live_calls(), 0);
    b.pass(64_000);
    b.finish();
}
