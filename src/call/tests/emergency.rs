//! Emergency calls (house emergency specification), message by message.

use std::sync::Arc;

use super::bench::{ALICE, BOB, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{
    call::{Input, TestRefusal, notification::Outcome},
    config::{Directory, Place, User, parse_address},
    sip::registrar::Binding,
    types::Flow,
    wire::sip::{Message, Name, Uri},
};

const HOME: &str = "country = \"US\"\nA3 = \"Arlington\"\nRD = \"Sample\"\nHNO = \"7\"\nPC = \"22201\"\n";

/// Alice, whose direct line has a private address.
fn alice_at_home(is_shared: bool) -> User {
    let place = Place { private_address: Some(parse_address(HOME).unwrap()), is_shared };
    User { place, ..user("alice", "1001", "+12025551001") }
}

fn bob() -> User {
    user("bob", "1002", "+12025551002")
}

fn bench(alice: User) -> Bench {
    Bench::with_users(CONFIG, [alice, bob()], vec![binding("alice", ALICE), binding("bob", BOB)])
}

/// A user's device dials; its registered address stands for its password.
fn dial(b: &mut Bench, from: &str, number: &str, call_id: &str) {
    let uri = format!("sip:{number}@pbx.example.com");
    let (tag, to) = (format!("<sip:x@pbx.example.com>;tag={call_id}"), format!("<{uri}>"));
    b.request(udp(from), ("INVITE", &uri), (&tag, &to), (call_id, 1), ("", SDP));
}

/// What the trunk gets of an emergency call that it then declines, and that fails so.
fn emergency_invite(b: &mut Bench, from: &str, call_id: &str) -> Message {
    dial(b, from, "911", call_id);
    let invite: (Flow, Message) = b.take_request("INVITE", TRUNK);
    b.answer(&invite, 480, "psap", "", "");
    assert_eq!(b.take_response("INVITE", from, 300).status(), 503);
    b.pass(40_000);
    b.sent.clear();
    invite.1
}

fn body(invite: &Message) -> String {
    String::from_utf8_lossy(&invite.body()).into_owned()
}

#[test]
fn a_private_line_reports_its_own_address_and_the_companys_once_others_use_it_too() {
    let mut b = bench(alice_at_home(false));
    let at_home = body(&emergency_invite(&mut b, ALICE, "one"));
    assert!(at_home.contains(">Sample<") && !at_home.contains(">Example<"), "{at_home}");
    let of_bob = body(&emergency_invite(&mut b, BOB, "two"));
    assert!(of_bob.contains(">Example<") && !of_bob.contains("Sample"), "{of_bob}");
    b.input(Input::Directory(Arc::new(Directory::new([alice_at_home(true), bob()]))));
    let invite = emergency_invite(&mut b, ALICE, "three");
    let shared = body(&invite);
    assert!(shared.contains(">Example<") && !shared.contains("Sample"), "{shared}");
    assert!(invite.from().unwrap().uri.contains("+12025551001"), "called back on the direct line all the same");
    b.input(Input::Directory(Arc::new(Directory::new([alice_at_home(false), bob()]))));
    assert!(body(&emergency_invite(&mut b, ALICE, "four")).contains(">Sample<"), "and its own again");
    b.finish();
}

#[test]
fn an_emergency_invite_that_arrives_by_two_paths_is_one_call() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    dial(&mut b, ALICE, "911", "help");
    let help = b.take_request("INVITE", TRUNK);
    // Another branch, and so another transaction.
    dial(&mut b, ALICE, "911", "help");
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 482);
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.accept(&help, "psap", SDP);
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200, "the first goes on");
}

#[test]
fn an_emergency_invite_that_a_telephone_repeats_later_is_a_call() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    dial(&mut b, ALICE, "911", "help");
    b.take_request("INVITE", TRUNK);
    b.pass(2_500);
    b.sent.clear();
    // It has lost its connection, and found another way.
    dial(&mut b, ALICE, "911", "help");
    let again = b.take_request("INVITE", TRUNK);
    b.accept(&again, "psap", SDP);
    assert_eq!(b.take_response("INVITE", ALICE, 200).status(), 200);
}

#[test]
fn a_place_that_a_telephone_tells_during_the_call_goes_no_further() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    dial(&mut b, ALICE, "911", "help");
    let help = b.take_request("INVITE", TRUNK);
    b.accept(&help, "psap", SDP);
    let caller = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&caller, 1, "");
    for (cseq, kind, is_passed) in [(2, "application/pidf+xml", false), (3, "application/dtmf-relay", true)] {
        b.within(&caller, "INFO", cseq, &format!("Content-Type: {kind}\n"), "Signal=5");
        let info = b.take_request("INFO", TRUNK);
        assert_eq!(info.1.body().is_empty(), !is_passed, "{kind}");
        b.answer(&info, 200, "", "", "");
    }
}

#[test]
fn a_test_takes_no_place_that_is_kept_or_somebodys_and_counts_as_no_emergency() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    dial(&mut b, ALICE, "933", "test");
    let test = b.take_request("INVITE", TRUNK);
    b.answer(&test, 486, "", "", "");
    let counters = b.core.counters();
    assert_eq!((counters.emergency_routed, counters.emergency_attempts.len()), (0, 0));
    b.sent.clear();
    trunk_talks_to_alice(&mut b, "ordinary");
    b.core.calls_max = 1;
    dial(&mut b, BOB, "933", "again");
    assert_eq!(b.take_response("INVITE", BOB, 200).status(), 503);
    assert!(b.find_request("BYE", TRUNK).is_none() && b.find_request("INVITE", TRUNK).is_none());
    dial(&mut b, BOB, "911", "help");
    b.take_request("INVITE", TRUNK);
}

// What a trunk may want otherwise (4.4, 5.2).

/// What the carrier with these keys gets of Alice's call for help.
fn invite_of(keys: &str) -> Message {
    let config = CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}\n"));
    let users = [user("alice", "1001", "+12025551001"), bob()];
    let mut b = Bench::with_users(&config, users, vec![binding("alice", ALICE), binding("bob", BOB)]);
    emergency_invite(&mut b, ALICE, "help")
}

#[test]
fn a_carrier_that_wants_the_urn_gets_it_with_a_route_to_itself() {
    let invite = invite_of("request_uri = \"urn\"");
    assert_eq!(invite.request_uri(), "urn:service:sos");
    assert_eq!(invite.header(Name::Route), Some("<sip:203.0.113.5;lr>"));
    assert_eq!(invite.header(Name::To), Some("<urn:service:sos>"));
    assert_eq!(invite.header(Name::Priority), Some("emergency"));
    assert!(invite.header_text("Resource-Priority").is_none() && invite_of("").header(Name::Route).is_none());
}

#[test]
fn only_a_carrier_that_wants_resource_priority_gets_it() {
    let value =
        |invite: &Message| String::from_utf8_lossy(invite.bytes()).lines().any(|l| l == "Resource-Priority: esnet.1");
    assert!(value(&invite_of("resource_priority = true")) && !value(&invite_of("")));
}

#[test]
fn a_carrier_that_wants_the_location_in_a_header_gets_no_document() {
    let invite = invite_of("location = { header = \"X-Location-Id\", value = \"site-7\" }");
    assert_eq!(invite.header_text("X-Location-Id"), Some("site-7"));
    assert_eq!(invite.header(Name::ContentType), Some("application/sdp"));
    assert!(invite.header(Name::Geolocation).is_none());
    let retried = "location = { header = \"X-Location-Id\", value = \"site-7\" }";
    let config = CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{retried}\n"));
    let mut b = Bench::with_users(&config, [user("alice", "1001", "+12025551001")], vec![binding("alice", ALICE)]);
    dial(&mut b, ALICE, "911", "help");
    let refused = b.take_request("INVITE", TRUNK);
    b.answer(&refused, 424, "t", "", "");
    assert!(b.take_request("INVITE", TRUNK).1.header_text("X-Location-Id").is_none(), "once without location");
}

#[test]
fn a_carrier_that_knows_places_by_number_is_shown_one_that_calls_its_caller_back() {
    let keys = "location = \"elin\"\nelins = [\"+12025550150\", \"+12025550151\"]";
    let config = CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}\n"));
    let other = "[trunk.other]\nhost = \"203.0.113.20\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n\
                 numbers = [\"+12025550100\"]\n";
    let users = [alice_at_home(false), bob()];
    let mut b =
        Bench::with_users(&format!("{config}{other}"), users, vec![binding("alice", ALICE), binding("bob", BOB)]);
    let shown = |invite: &Message| Uri::parse(invite.from().unwrap().uri).unwrap().user.unwrap().to_owned();
    dial(&mut b, BOB, "911", "help");
    let by_number = b.take_request("INVITE", TRUNK);
    assert_eq!(by_number.1.header(Name::ContentType), Some("application/sdp"));
    assert!(by_number.1.contact().unwrap().uri.contains("+12025550150"), "{}", by_number.1.contact().unwrap().uri);
    assert_eq!(shown(&by_number.1), "+12025550150", "bob's own line is not registered there");
    b.answer(&by_number, 503, "t", "", "");
    let by_document = b.take_request("INVITE", "203.0.113.20:5060");
    assert_eq!(shown(&by_document.1), "+12025551002", "and is shown where the location goes along");
    b.answer(&by_document, 503, "t", "", "");
    b.take_response("INVITE", BOB, 300);
    b.sent.clear();
    // Nobody's direct line, and the answering point that was shown it reaches the one who called.
    psap_calls(&mut b, "+12025550150", "back");
    b.take_request("INVITE", BOB);
    b.sent.clear();
    dial(&mut b, ALICE, "911", "at-home");
    assert_eq!(shown(&b.take_request("INVITE", TRUNK).1), "+12025551001", "a private line keeps its own");
}

// Capacity (5.5).

/// An INVITE of the trunk to Alice that she answers.
fn trunk_talks_to_alice(b: &mut Bench, call_id: &str) {
    let uri = "sip:+12025551001@pbx.example.com";
    let (from, to) = (format!("<sip:+14155550123@203.0.113.5>;tag={call_id}"), format!("<{uri}>"));
    b.request(udp(TRUNK), ("INVITE", uri), (&from, &to), (call_id, 1), ("", SDP));
    let invite = b.take_request("INVITE", ALICE);
    b.accept(&invite, "alice", SDP);
    b.take_request("ACK", ALICE);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    b.acknowledge(&Leg::of_caller(udp(TRUNK), &ok), 1, "");
}

/// Both parties of the call that ended for another are told why.
fn assert_preempted(b: &mut Bench) {
    for party in [TRUNK, ALICE] {
        let bye = b.take_request("BYE", party);
        assert_eq!(bye.1.header(Name::Reason), Some("preemption;cause=3;text=\"Generic Preemption\""));
        b.answer(&bye, 200, "", "", "");
    }
}

#[test]
fn ports_kept_for_emergency_calls_are_for_them_alone_and_the_newest_trunk_call_makes_room_for_more() {
    let config = CONFIG.replace("20000-20099", "20000-20009");
    let mut b = Bench::with_users(
        &config,
        [user("alice", "1001", "+12025551001"), bob()],
        vec![binding("alice", ALICE), binding("bob", BOB)],
    );
    // Five slots, two of which are kept: half of them at most.
    trunk_talks_to_alice(&mut b, "first");
    dial(&mut b, BOB, "1001", "ordinary");
    let challenge = b.take_response("INVITE", BOB, 300);
    assert_eq!(challenge.status(), 407, "who calls is asked before there is a call");
    dial(&mut b, TRUNK, "+12025551002", "second");
    assert_eq!(b.take_response("INVITE", TRUNK, 300).status(), 503, "no port for an ordinary call");

    dial(&mut b, BOB, "911", "help");
    let help = b.take_request("INVITE", TRUNK);
    assert_eq!(b.open_legs.len(), 4);
    assert!(b.find_request("BYE", TRUNK).is_none(), "what was kept is enough");
    b.accept(&help, "psap", SDP);
    b.take_request("ACK", TRUNK);

    dial(&mut b, BOB, "112", "more-help");
    assert_preempted(&mut b);
    let more = b.take_request("INVITE", TRUNK);
    assert!(more.1.request_uri().starts_with("sip:911@"));
    b.accept(&more, "psap-2", SDP);
    b.take_request("ACK", TRUNK);
    assert_eq!(b.core.calls().len(), 2, "two emergency calls are left");
    assert!(b.core.calls().iter().all(|call| call.emergency));
}

#[test]
fn an_emergency_call_that_finds_every_slot_taken_ends_the_newest_trunk_call() {
    let config = CONFIG.replace("[trunk.carrier]", "reserved_calls = 1\n[trunk.carrier]");
    let mut b = Bench::with_users(
        &config,
        [user("alice", "1001", "+12025551001"), bob()],
        vec![binding("alice", ALICE), binding("bob", BOB)],
    );
    b.core.calls_max = 1;
    trunk_talks_to_alice(&mut b, "first");
    dial(&mut b, BOB, "911", "help");
    let help = b.take_request("INVITE", TRUNK);
    assert!(b.find_request("BYE", TRUNK).is_none(), "one slot is kept for emergency calls");
    b.accept(&help, "psap", SDP);
    b.take_request("ACK", TRUNK);
    dial(&mut b, BOB, "911", "more-help");
    assert_preempted(&mut b);
    b.take_request("INVITE", TRUNK);
}

#[test]
fn a_call_for_help_goes_without_its_picture_where_there_is_no_port_for_that() {
    for (ports, video) in [("20000-20003", "m=video 0 "), ("20000-20099", "m=video 2")] {
        let config = CONFIG.replace("20000-20099", ports);
        let mut b = Bench::with_users(&config, [bob()], vec![binding("bob", BOB)]);
        let uri = "sip:911@pbx.example.com";
        let offer = format!("{SDP}m=video 4002 RTP/AVP 31\r\n");
        let line = ("<sip:bob@pbx.example.com>;tag=v", "<sip:911@pbx.example.com>");
        b.request(udp(BOB), ("INVITE", uri), line, ("video", 1), ("", &offer));
        let help = b.take_request("INVITE", TRUNK).1;
        let sent = body(&help);
        assert!(sent.contains("m=audio 2") && sent.contains(video), "{sent}");
    }
}

#[test]
fn an_emergency_call_for_which_no_port_becomes_free_fails_with_an_explanation() {
    let config = CONFIG.replace("20000-20099", "20000-20003");
    let mut b = Bench::with_users(&config, [user("alice", "1001", "+12025551001"), bob()], vec![binding("bob", BOB)]);
    dial(&mut b, BOB, "911", "help");
    let help = b.take_request("INVITE", TRUNK);
    b.accept(&help, "psap", SDP);
    b.take_request("ACK", TRUNK);
    dial(&mut b, BOB, "911", "more-help");
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.pass(1_999);
    assert!(b.sent.iter().all(|(_, m)| m.status() < 300), "given up too soon: {}", b.told());
    b.pass(2);
    let failed = b.take_response("INVITE", BOB, 300);
    assert_eq!((failed.status(), failed.reason_phrase()), (503, "Emergency Call Not Connected"));
    assert_eq!(b.core.calls().len(), 1, "the first goes on");
}

// Callback (6.3).

/// Emergency calls without a direct line: the company's number is shown, which is Bob's.
fn with_callback_number(more: &str, users: Vec<User>, bindings: Vec<Binding>) -> Bench {
    let numbers = "callback_numbers = [\"+12025551002\"]";
    let config = CONFIG.replace("callback_numbers = [\"+12025550100\"]", &format!("{numbers}\n{more}"));
    Bench::with_users(&config, users, bindings)
}

fn extension_only(name: &str, extension: &str) -> User {
    User { direct_line: None, ..user(name, extension, "") }
}

/// An emergency call that the trunk declines, and that is over.
fn call_for_help(b: &mut Bench, from: &str, call_id: &str) {
    emergency_invite(b, from, call_id);
}

fn psap_calls(b: &mut Bench, number: &str, call_id: &str) {
    dial(b, TRUNK, number, call_id);
}

const BOBS_LINE: &str = "+12025551002";

#[test]
fn a_callback_rings_the_one_telephone_that_called_then_others_of_its_user_then_whose_the_number_is() {
    let users = vec![extension_only("alice", "1001"), bob()];
    let bindings = vec![binding("alice", ALICE), binding("alice", CAROL), binding("bob", BOB)];
    let mut b = with_callback_number("", users, bindings);
    call_for_help(&mut b, CAROL, "help");
    psap_calls(&mut b, BOBS_LINE, "back");
    let first = b.take_request("INVITE", CAROL);
    assert!(b.find_request("INVITE", ALICE).is_none() && b.find_request("INVITE", BOB).is_none(), "{}", b.told());
    b.answer(&first, 480, "carol", "", "");
    let second = b.take_request("INVITE", ALICE);
    assert!(b.find_request("INVITE", BOB).is_none());
    b.answer(&second, 486, "alice", "", "");
    let third = b.take_request("INVITE", BOB);
    b.accept(&third, "bob", SDP);
    b.take_request("ACK", BOB);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
}

#[test]
fn the_last_of_several_callers_on_one_number_is_called_back_first() {
    let users = vec![extension_only("alice", "1001"), bob(), extension_only("carol", "1003")];
    let bindings = vec![binding("alice", ALICE), binding("bob", BOB), binding("carol", CAROL)];
    let mut b = with_callback_number("", users, bindings);
    for (from, call_id) in [(ALICE, "one"), (CAROL, "two"), (ALICE, "three"), (CAROL, "four")] {
        call_for_help(&mut b, from, call_id);
    }
    psap_calls(&mut b, BOBS_LINE, "back");
    for telephone in [CAROL, ALICE, BOB] {
        let invite = b.take_request("INVITE", telephone);
        assert!(b.find_request("INVITE", telephone).is_none(), "once each");
        b.answer(&invite, 480, "tag", "", "");
    }
    assert_eq!(b.take_response("INVITE", TRUNK, 300).status(), 480);
    b.finish();
}

#[test]
fn several_callback_numbers_are_handed_out_in_turn() {
    let numbers = "callback_numbers = [\"+12025550100\", \"+12025550101\"]";
    let config = CONFIG.replace("callback_numbers = [\"+12025550100\"]", numbers);
    let users = [extension_only("alice", "1001"), extension_only("bob", "1002")];
    let mut b = Bench::with_users(&config, users, vec![binding("alice", ALICE), binding("bob", BOB)]);
    let shown = |invite: &Message| Uri::parse(invite.from().unwrap().uri).unwrap().user.unwrap().to_owned();
    let of_alice = shown(&emergency_invite(&mut b, ALICE, "one"));
    let of_bob = shown(&emergency_invite(&mut b, BOB, "two"));
    assert_eq!([of_alice.as_str(), of_bob.as_str()], ["+12025550100", "+12025550101"]);
    // Nobody's direct line, and still the way back to the one who called.
    psap_calls(&mut b, &of_alice, "back");
    b.take_request("INVITE", ALICE);
    psap_calls(&mut b, &of_bob, "back-too");
    b.take_request("INVITE", BOB);
}

#[test]
fn after_twenty_seconds_without_an_answer_the_desks_ring_too() {
    let users = vec![extension_only("alice", "1001"), bob(), extension_only("desk", "1003")];
    let bindings = vec![binding("alice", ALICE), binding("bob", BOB), binding("desk", CAROL)];
    let mut b = with_callback_number("notify = [\"sip:desk@pbx.example.com\"]", users, bindings);
    call_for_help(&mut b, ALICE, "help");
    psap_calls(&mut b, BOBS_LINE, "back");
    let ringing = b.take_request("INVITE", ALICE);
    b.answer(&ringing, 180, "alice", "", "");
    b.pass(19_999);
    assert!(b.find_request("INVITE", CAROL).is_none(), "too soon");
    b.pass(1);
    let desk = b.take_request("INVITE", CAROL);
    assert!(b.find_request("CANCEL", ALICE).is_none(), "the telephone that called goes on ringing");
    b.accept(&desk, "desk", SDP);
    b.take_request("ACK", CAROL);
    b.take_request("CANCEL", ALICE);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
}

#[test]
fn where_nobody_can_be_called_back_the_desks_ring_at_once() {
    let users = vec![extension_only("alice", "1001"), bob(), extension_only("desk", "1003")];
    let bindings = vec![binding("alice", ALICE), binding("desk", CAROL)];
    let mut b = with_callback_number("notify = [\"sip:1003@pbx.example.com\"]", users, bindings);
    call_for_help(&mut b, ALICE, "help");
    psap_calls(&mut b, BOBS_LINE, "back");
    let ringing = b.take_request("INVITE", ALICE);
    b.answer(&ringing, 480, "alice", "", "");
    b.take_request("INVITE", CAROL);
}

#[test]
fn a_callback_comes_to_a_telephone_that_nobody_knew_where_its_call_came_from() {
    let more = "site_networks = [\"198.51.100.0/24\"]";
    let mut b = with_callback_number(more, vec![bob()], vec![binding("bob", BOB)]);
    call_for_help(&mut b, CAROL, "help");
    psap_calls(&mut b, BOBS_LINE, "back");
    let invite = b.take_request("INVITE", CAROL);
    b.accept(&invite, "stranger", SDP);
    b.take_request("ACK", CAROL);
    let ok = b.take_response("INVITE", TRUNK, 200);
    b.acknowledge(&Leg::of_caller(udp(TRUNK), &ok), 1, "");
    b.within(&Leg::of_caller(udp(TRUNK), &ok), "BYE", 2, "", "");
    let bye = b.take_request("BYE", CAROL);
    b.answer(&bye, 200, "", "", "");
    assert_eq!(b.cdrs.last().unwrap().answered_by, None);
    b.finish();
}

#[test]
fn the_window_of_a_callback_is_as_long_as_configured() {
    let users = vec![extension_only("alice", "1001"), bob()];
    let bindings = vec![binding("alice", ALICE), binding("bob", BOB)];
    let mut b = with_callback_number("callback_window_min = 5", users, bindings);
    call_for_help(&mut b, ALICE, "help");
    b.pass(4 * 60_000);
    psap_calls(&mut b, BOBS_LINE, "within");
    let ringing = b.take_request("INVITE", ALICE);
    b.answer(&ringing, 480, "alice", "", "");
    let ringing = b.take_request("INVITE", BOB);
    b.answer(&ringing, 480, "bob", "", "");
    b.pass(60_000);
    b.sent.clear();
    psap_calls(&mut b, BOBS_LINE, "later");
    assert!(b.find_request("INVITE", ALICE).is_none());
    b.take_request("INVITE", BOB);
}

// Notification (7.1).

const NOTIFY: &str = "notify = [\"sip:desk@pbx.example.com\", \"https://desk.example.com/hook\"]";

fn text_of(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

#[test]
fn desks_are_told_while_the_call_rings_and_again_when_it_fails() {
    let users = vec![user("alice", "1001", "+12025551001"), bob(), extension_only("desk", "1003")];
    let mut b = with_callback_number(NOTIFY, users, vec![binding("alice", ALICE), binding("desk", CAROL)]);
    dial(&mut b, ALICE, "9-1-1", "help");
    let invite = b.take_request("INVITE", TRUNK);
    b.answer(&invite, 180, "psap", "", "");
    let message = b.take_request("MESSAGE", CAROL);
    assert_eq!(message.1.header(Name::ContentType), Some("text/plain;charset=UTF-8"));
    let text = text_of(&message.1);
    for part in [
        "alice (extension 1001) has dialed 911",
        "it is being connected",
        "2023-11-14T22:13:20Z",
        "+12025551001",
        "Location given: Example Corp, 500 Example, Washington, DC 20001, US",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    b.answer(&message, 200, "desk", "", "");
    let [notice] = b.notices.as_slice() else { panic!("{:?}", b.notices) };
    assert_eq!(notice.call.as_ref(), Some(&b.core.calls()[0].id));
    assert_eq!((notice.outcome, notice.dialed.as_str()), (Outcome::Routed, "911"));
    assert_eq!((notice.user.as_deref(), notice.extension.as_deref()), (Some("alice"), Some("1001")));
    assert_eq!((notice.erl.as_str(), notice.callback.as_deref()), ("company", Some("+12025551001")));
    assert_eq!(notice.address.as_deref(), Some("Example Corp, 500 Example, Washington, DC 20001, US"));
    b.answer(&invite, 503, "psap", "", "");
    assert!(text_of(&b.take_request("MESSAGE", CAROL).1).contains("it could not be connected"));
    assert_eq!(b.notices.len(), 2);
    assert_eq!(b.core.counters().emergency_notify_failures, 0);
}

#[test]
fn desks_are_told_of_a_refused_call_and_not_of_a_test() {
    let config = CONFIG
        .replace("pstn = true", "pstn = false")
        .replace("callback_numbers = [\"+12025550100\"]", &format!("callback_numbers = [\"+12025550100\"]\n{NOTIFY}"));
    let users = [user("alice", "1001", "+12025551001"), extension_only("desk", "1003")];
    let mut b = Bench::with_users(&config, users, vec![binding("alice", ALICE), binding("desk", CAROL)]);
    dial(&mut b, ALICE, "933", "test");
    dial(&mut b, ALICE, "911", "help");
    assert!(text_of(&b.take_request("MESSAGE", CAROL).1).contains("it was refused"));
    assert!(b.find_request("MESSAGE", CAROL).is_none(), "a test");
    dial(&mut b, "198.51.100.66:5060", "911", "stranger");
    assert!(b.find_request("MESSAGE", CAROL).is_none(), "anybody anywhere could send that");
    assert_eq!(b.notices.len(), 1);
}

#[test]
fn a_refusal_is_in_the_language_of_the_telephone() {
    let mut b = Bench::with(&CONFIG.replace("pstn = true", "pstn = false"));
    let identity = ("<sip:x@pbx.example.com>;tag=x", "<sip:112@pbx.example.com>");
    let extra = "Accept-Language: ja, fr-CA;q=0.9, en;q=0.1\n";
    b.request(udp(ALICE), ("INVITE", "sip:112@pbx.example.com"), identity, ("help", 1), (extra, SDP));
    let refusal = b.take_response("INVITE", ALICE, 300);
    assert_eq!(refusal.header(Name::ContentLanguage), Some("fr"));
    assert!(text_of(&refusal).starts_with("Les appels d'urgence sont impossibles"), "{}", text_of(&refusal));
    assert!(refusal.header(Name::Warning).is_some_and(|warning| warning.contains("Utilisez un mobile")));
}

/// The outcomes that the web desk was told.
fn told_outcomes(b: &Bench) -> Vec<Outcome> {
    b.notices.iter().map(|notice| notice.outcome).collect()
}

#[test]
fn a_call_that_fails_at_once_is_counted_and_told_once_and_a_test_is_not() {
    let users = || vec![user("alice", "1001", "+12025551001"), bob(), extension_only("desk", "1003")];
    let mut b = with_callback_number(NOTIFY, users(), vec![binding("alice", ALICE), binding("desk", CAROL)]);
    let invite = |b: &mut Bench, number: &str, body: &str| {
        let uri = format!("sip:{number}@pbx.example.com");
        let to = format!("<{uri}>");
        b.request(udp(ALICE), ("INVITE", &uri), ("<sip:x@pbx.example.com>;tag=x", &to), (number, 1), ("", body));
    };
    invite(&mut b, "911", "this is no session description");
    assert_eq!(b.take_response("INVITE", ALICE, 300).status(), 488);
    assert_eq!((told_outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Failed], 1));
    invite(&mut b, "933", "neither is this");
    assert_eq!(b.take_response("INVITE", ALICE, 300).status(), 488);
    assert_eq!((b.notices.len(), b.core.counters().emergency_failed), (1, 1));
    b.finish();
}

#[test]
fn a_caller_who_gives_up_is_no_failure() {
    let users = vec![user("alice", "1001", "+12025551001"), bob(), extension_only("desk", "1003")];
    let mut b = with_callback_number(NOTIFY, users, vec![binding("alice", ALICE), binding("desk", CAROL)]);
    dial(&mut b, ALICE, "911", "help");
    let branch = b.sent_branch();
    let to_trunk = b.take_request("INVITE", TRUNK);
    b.answer(&to_trunk, 180, "psap", "", "");
    let caller = Leg {
        flow: udp(ALICE),
        local: "<sip:x@pbx.example.com>;tag=help".to_owned(),
        remote: "<sip:911@pbx.example.com>".to_owned(),
        call_id: "help".to_owned(),
    };
    b.cancel(&caller, 1, &branch);
    assert_eq!(b.take_response("INVITE", ALICE, 300).status(), 487);
    assert_eq!((told_outcomes(&b), b.core.counters().emergency_failed), (vec![Outcome::Routed], 0));
    b.finish();
}

#[test]
fn a_private_address_is_not_told_to_the_desks() {
    let users = vec![alice_at_home(false), bob(), extension_only("desk", "1003")];
    let mut b = with_callback_number(NOTIFY, users, vec![binding("alice", ALICE), binding("desk", CAROL)]);
    dial(&mut b, ALICE, "911", "help");
    let text = text_of(&b.take_request("MESSAGE", CAROL).1);
    assert!(text.contains("the private address of this direct line") && !text.contains("Sample"), "{text}");
    assert_eq!((b.notices[0].erl.as_str(), &b.notices[0].address), ("private alice", &None));
}

#[test]
fn a_desk_that_cannot_be_told_is_counted_and_delays_nothing() {
    let users = vec![user("alice", "1001", "+12025551001"), bob(), extension_only("desk", "1003")];
    let mut b = with_callback_number(NOTIFY, users, vec![binding("alice", ALICE)]);
    dial(&mut b, ALICE, "911", "help");
    b.take_request("INVITE", TRUNK);
    assert_eq!(b.core.counters().emergency_notify_failures, 1, "no telephone is registered there");
    let users = vec![user("alice", "1001", "+12025551001"), bob(), extension_only("desk", "1003")];
    let bindings = vec![binding("alice", ALICE), binding("desk", BOB), binding("desk", CAROL)];
    let mut b = with_callback_number(NOTIFY, users, bindings);
    dial(&mut b, ALICE, "911", "help");
    b.take_request("INVITE", TRUNK);
    let (first, second) = (b.take_request("MESSAGE", BOB), b.take_request("MESSAGE", CAROL));
    b.answer(&first, 488, "one", "", "");
    assert_eq!(b.core.counters().emergency_notify_failures, 0);
    b.answer(&second, 415, "two", "", "");
    assert_eq!(b.core.counters().emergency_notify_failures, 1);
}

// Test calls by order (2.6).

#[test]
fn an_operator_can_have_the_test_number_called_and_hears_who_answered() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    b.input(Input::TestCall { id: 1 });
    let invite = b.take_request("INVITE", TRUNK);
    assert!(invite.1.request_uri().starts_with("sip:933@"));
    assert_eq!(invite.1.header(Name::Priority), Some("normal"));
    assert!(body(&invite.1).contains(">Example<"), "the address that is to be read back");
    b.input(Input::TestCall { id: 2 });
    assert_eq!(b.tested, [Err(TestRefusal::UnderWay)]);
    b.pass(1_500);
    b.accept(&invite, "psap", SDP);
    b.take_request("ACK", TRUNK);
    b.pass(9_999);
    assert!(b.find_request("BYE", TRUNK).is_none(), "too soon");
    b.pass(1);
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 200, "", "", "");
    let Ok(tested) = b.tested.pop().unwrap() else { panic!("it was made") };
    assert_eq!((tested.trunk.as_deref(), tested.is_answered, tested.setup_ms), (Some("carrier"), true, Some(1_500)));
    assert_eq!(b.core.emergency(None).unwrap().last_test, Some(tested));
    assert!(b.notices.is_empty() && b.core.counters().emergency_routed == 0, "no emergency");
    b.finish();
}

#[test]
fn a_test_call_that_nobody_answers_is_given_up_and_one_without_a_trunk_is_not_made() {
    let mut b = bench(user("alice", "1001", "+12025551001"));
    b.input(Input::TestCall { id: 1 });
    let invite = b.take_request("INVITE", TRUNK);
    b.answer(&invite, 180, "psap", "", "");
    b.pass(60_000);
    let cancel = b.take_request("CANCEL", TRUNK);
    b.answer(&cancel, 200, "", "", "");
    b.answer(&invite, 487, "psap", "", "");
    let Ok(tested) = b.tested.pop().unwrap() else { panic!("it was made") };
    assert_eq!((tested.is_answered, tested.status), (false, 408));
    b.finish();

    let mut b = Bench::with(&CONFIG.replace("pstn = true", "pstn = false"));
    b.input(Input::TestCall { id: 1 });
    assert_eq!(b.tested, [Err(TestRefusal::NoTrunk)]);
    let mut b = Bench::with(&CONFIG.replace("[trunk.carrier]", "test_numbers = []\n[trunk.carrier]"));
    b.input(Input::TestCall { id: 1 });
    assert_eq!(b.tested, [Err(TestRefusal::NoTestNumber)]);
}
