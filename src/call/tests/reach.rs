//! Whom a call rings: ring groups, forwarding, redirection by devices, and what emergencies make of it.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{
    call::Input,
    config::{Forwarding, User},
    types::{
        ConnectionId, Flow, Transport,
        limits::{BREADTH_MAX, FORWARD_HOPS_MAX, GROUP_FORK_WIDTH_MAX},
    },
    wire::sip::{Message, Name},
};

const CAROL: &str = "198.51.100.4:5060";
const FROM: &str = "<sip:+14155550123@203.0.113.5>";

fn group(strategy: &str) -> String {
    format!(
        "{CONFIG}[group.sales]\nextension = \"600\"\ndirect_line = \"+12025550160\"\n\
         members = [\"bob\", \"1003\"]\nring_s = 10\nstrategy = \"{strategy}\"\n"
    )
}

/// Alice, Bob with two devices, and Carol; Bob and Carol are sales.
fn office(strategy: &str) -> Bench {
    let users = [("alice", "1001"), ("bob", "1002"), ("carol", "1003")];
    let users = users.map(|(name, extension)| user(name, extension, &format!("+1202555{extension}")));
    let bindings = [("alice", ALICE), ("bob", BOB), ("bob", BOB_TOO), ("carol", CAROL)];
    Bench::with_users(&group(strategy), users, bindings.map(|(name, at)| binding(name, at)).to_vec())
}

/// The trunk calls this number of ours; each call has a name.
fn call(b: &mut Bench, number: &str, name: &str) {
    let uri = format!("sip:{number}@pbx.example.com");
    let (from, to) = (format!("{FROM};tag={name}"), format!("<{uri}>"));
    b.request(udp(TRUNK), ("INVITE", &uri), (&from, &to), (name, 1), ("", SDP));
}

const SALES: &str = "+12025550160";

/// The caller's final answer.
fn refusal(b: &mut Bench) -> (u16, String) {
    let response = b.take_response("INVITE", TRUNK, 200);
    (response.status(), response.reason_phrase().to_owned())
}

fn refuse(b: &mut Bench, at: &str, status: u16) {
    let invite = b.take_request("INVITE", at);
    b.answer(&invite, status, "refused", "", "");
    b.take_request("ACK", at);
}

/// The callee at `at` answers and the call is set up; the legs of trunk and callee.
fn connect(b: &mut Bench, at: &str) -> (Leg, Leg) {
    let invite = b.take_request("INVITE", at);
    b.accept(&invite, "callee", SDP);
    b.take_request("ACK", at);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    (trunk, Leg::of_callee(&invite, "callee"))
}

fn hang_up(b: &mut Bench, trunk: &Leg, callee: &str) {
    b.within(trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", callee);
    b.answer(&bye, 200, "", "", "");
    b.pass(40_000);
    b.sent.clear();
}

fn is_idle_line(b: &Bench, at: &str) -> bool {
    let at = at.parse().unwrap();
    b.sent.iter().all(|(flow, m): &(_, Message)| flow.remote != at || m.method_text() != "INVITE")
}

#[test]
fn a_group_that_rings_at_once_is_answered_by_the_first_and_named_as_callee() {
    let mut b = office("all");
    call(&mut b, SALES, "c");
    let (bob, bob_too) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    assert!(is_idle_line(&b, ALICE), "no member");
    let (trunk, _) = connect(&mut b, CAROL);
    for (line, invite) in [(BOB, bob), (BOB_TOO, bob_too)] {
        b.pass(1000);
        b.answer(&invite, 180, "late", "", "");
        b.take_request("CANCEL", line);
        b.answer(&invite, 487, "late", "", "");
    }
    let view = &b.core.calls()[0];
    assert_eq!((view.callee.as_str(), view.answered_by.as_deref()), ("sales", Some("carol")));
    hang_up(&mut b, &trunk, CAROL);
    let cdr = &b.cdrs[0];
    assert_eq!((cdr.callee.as_str(), cdr.answered_by.as_deref()), ("sales", Some("carol")));
    b.finish();
}

#[test]
fn one_member_who_declines_does_not_silence_the_others() {
    let mut b = office("all");
    call(&mut b, SALES, "c");
    let second = b.take_request("INVITE", BOB_TOO);
    b.answer(&second, 180, "second", "", "");
    refuse(&mut b, BOB, 603);
    b.take_request("CANCEL", BOB_TOO);
    b.answer(&second, 487, "second", "", "");
    assert!(b.sent.iter().all(|(_, m)| m.is_request() || m.status() < 200), "{}", b.told());
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}

#[test]
fn a_group_is_busy_only_if_every_member_is() {
    for (carol, expected) in [(486, (486, "All Members Busy")), (480, (480, "No Member Answers"))] {
        let mut b = office("all");
        call(&mut b, SALES, "c");
        refuse(&mut b, BOB, 480);
        refuse(&mut b, BOB_TOO, 486);
        refuse(&mut b, CAROL, carol);
        let (status, reason) = refusal(&mut b);
        assert_eq!((status, reason.as_str()), expected);
        b.finish();
    }
}

#[test]
fn members_ring_one_after_the_other_and_each_for_its_time() {
    let mut b = office("in_order");
    call(&mut b, SALES, "c");
    let (bob, bob_too) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&bob, 180, "bob", "", "");
    b.answer(&bob_too, 180, "too", "", "");
    b.pass(9_900);
    assert!(is_idle_line(&b, CAROL), "too early");
    b.pass(200);
    b.take_request("CANCEL", BOB);
    b.take_request("CANCEL", BOB_TOO);
    b.answer(&bob, 487, "bob", "", "");
    b.answer(&bob_too, 487, "too", "", "");
    let carol = b.take_request("INVITE", CAROL);
    b.answer(&carol, 180, "carol", "", "");
    b.pass(10_100);
    b.take_request("CANCEL", CAROL);
    b.answer(&carol, 487, "carol", "", "");
    assert_eq!(refusal(&mut b).0, 480);
    b.finish();
}

#[test]
fn a_member_who_picks_up_at_the_last_moment_has_the_call() {
    let mut b = office("in_order");
    call(&mut b, SALES, "c");
    let bob = b.take_request("INVITE", BOB);
    b.answer(&bob, 180, "bob", "", "");
    b.pass(10_100);
    b.take_request("CANCEL", BOB);
    let carol = b.take_request("INVITE", CAROL);
    b.answer(&carol, 180, "carol", "", "");
    b.accept(&bob, "bob", SDP);
    b.take_request("ACK", BOB);
    b.take_request("CANCEL", CAROL);
    b.answer(&carol, 487, "carol", "", "");
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(ok.status(), 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    hang_up(&mut b, &trunk, BOB);
    b.finish();
}

#[test]
fn the_member_who_has_been_idle_longest_is_first() {
    let mut b = office("longest_idle");
    call(&mut b, "+12025551002", "direct");
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    call(&mut b, SALES, "one");
    assert!(is_idle_line(&b, BOB), "Bob has just talked, Carol never");
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    call(&mut b, SALES, "two");
    assert!(is_idle_line(&b, CAROL));
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    b.finish();
}

#[test]
fn a_member_who_talks_or_is_not_there_is_passed_over() {
    let mut b = office("in_order");
    call(&mut b, "+12025551002", "direct");
    let (trunk, _) = connect(&mut b, BOB);
    b.sent.clear();
    call(&mut b, SALES, "sales");
    assert!(is_idle_line(&b, BOB), "Bob talks");
    refuse(&mut b, CAROL, 486);
    assert_eq!(refusal(&mut b), (486, "All Members Busy".to_owned()));
    hang_up(&mut b, &trunk, BOB);
    b.finish();

    let users = [user("bob", "1002", "+12025551002"), user("carol", "1003", "+12025551003")];
    let mut b = Bench::with_users(&group("in_order"), users, vec![binding("carol", CAROL)]);
    call(&mut b, SALES, "sales");
    refuse(&mut b, CAROL, 486);
    assert_eq!(refusal(&mut b), (480, "No Member Answers".to_owned()), "Bob is not busy");
    b.finish();
}

#[test]
fn as_many_contacts_of_a_group_ring_as_there_is_room_for_and_no_further_one() {
    for (members, rung) in [(4, 40), (5, GROUP_FORK_WIDTH_MAX)] {
        let name = |n: usize| format!("user{n}");
        let users = (0..members).map(|n| user(&name(n), &format!("{}", 2000 + n), &format!("+1202555{}", 2000 + n)));
        let devices = (0..members).flat_map(|n| (0..10).map(move |d| (n, d)));
        let bindings = devices.map(|(n, d)| binding(&name(n), &format!("198.51.100.{}:{}", n + 1, 6000 + d))).collect();
        let list = (0..members).map(|n| format!("\"{}\"", name(n))).collect::<Vec<_>>().join(",");
        let config = group("all").replace("\"bob\", \"1003\"", &list).replace("20000-20099", "20000-20199");
        let mut b = Bench::with_users(&config, users, bindings);
        call(&mut b, SALES, "c");
        let sent = b.sent.iter().filter(|(_, m)| m.is_request() && m.method_text() == "INVITE").count();
        assert_eq!(sent, rung, "{members} members");
        b.finish();
    }
}

// Forwarding.

const DAVE: &str = "198.51.100.5:5060";
const OUTSIDE: &str = "92025550177";

/// Alice, Bob, Carol and Dave with one device each, and what Alice and Bob want done with their calls.
fn forwarding(alice: Forwarding, bob: Forwarding) -> Bench {
    let people = [("alice", "1001"), ("bob", "1002"), ("carol", "1003"), ("dave", "1004")];
    let mut users = people.map(|(name, extension)| user(name, extension, &format!("+1202555{extension}")));
    (users[0].forwarding, users[1].forwarding) = (alice, bob);
    let bindings = [("alice", ALICE), ("bob", BOB), ("carol", CAROL), ("dave", DAVE)];
    let config =
        group("all").replace("[emergency]", "[dialing]\noutside_prefixes = [\"9\"]\nvoicemail = \"1004\"\n[emergency]");
    Bench::with_users(&config, users, bindings.map(|(name, at)| binding(name, at)).to_vec())
}

fn none() -> Forwarding {
    Forwarding::default()
}

fn to(target: &str) -> Option<String> {
    Some(target.to_owned())
}

const TO_ALICE: &str = "+12025551001";

fn values(message: &Message, name: Name) -> Vec<String> {
    message.values(name).map(str::to_owned).collect()
}

#[test]
fn a_forward_of_every_call_leaves_the_users_phone_alone_and_says_where_it_came_from() {
    let mut b = forwarding(Forwarding { always: to("1003"), ..none() }, none());
    call(&mut b, TO_ALICE, "c");
    assert!(is_idle_line(&b, ALICE));
    let invite = b.sent.iter().find(|(_, m)| m.is_request()).unwrap().1.clone();
    assert_eq!(values(&invite, Name::Diversion), ["<sip:1001@pbx.example.com>;reason=unconditional;counter=1"]);
    assert_eq!(
        values(&invite, Name::HistoryInfo),
        ["<sip:1001@pbx.example.com>;index=1", "<sip:1003@pbx.example.com;cause=302>;index=1.1;mp=1"]
    );
    assert_eq!(invite.header(Name::MaxForwards), Some("68"), "two hops");
    let (trunk, _) = connect(&mut b, CAROL);
    assert_eq!(b.core.calls()[0].answered_by.as_deref(), Some("carol"));
    hang_up(&mut b, &trunk, CAROL);
    assert_eq!((b.cdrs[0].callee.as_str(), b.cdrs[0].answered_by.as_deref()), (TO_ALICE, Some("carol")));
    b.finish();
}

#[test]
fn busy_declined_silent_and_absent_each_go_their_own_way() {
    let all = || Forwarding { busy: to("1002"), no_answer: to("1003"), unreachable: to("voicemail"), ..none() };
    for (status, at, reason) in [(486, BOB, "user-busy"), (603, BOB, "user-busy"), (503, DAVE, "unavailable")] {
        let mut b = forwarding(all(), none());
        call(&mut b, TO_ALICE, "c");
        refuse(&mut b, ALICE, status);
        let invite = b.take_request("INVITE", at);
        assert!(values(&invite.1, Name::Diversion)[0].contains(&format!("reason={reason};")), "{status}");
        b.accept(&invite, "x", SDP);
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200, "the refusal is not what the caller hears");
        b.finish();
    }
    let mut b = forwarding(Forwarding { no_answer_after_s: Some(7), ..all() }, none());
    call(&mut b, TO_ALICE, "c");
    let alice = b.take_request("INVITE", ALICE);
    b.answer(&alice, 180, "alice", "", "");
    b.pass(6_900);
    assert!(is_idle_line(&b, CAROL), "too early");
    b.pass(200);
    b.take_request("CANCEL", ALICE);
    b.answer(&alice, 487, "alice", "", "");
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}

#[test]
fn a_user_without_a_phone_is_unreachable_and_one_with_a_dead_phone_goes_to_no_answer() {
    let users = [
        User { forwarding: Forwarding { unreachable: to("bob"), ..none() }, ..user("alice", "1001", TO_ALICE) },
        User { forwarding: Forwarding { no_answer: to("bob"), ..none() }, ..user("carol", "1003", "+12025551003") },
        user("bob", "1002", "+12025551002"),
    ];
    let mut b = Bench::with_users(&group("all"), users, vec![binding("bob", BOB), binding("carol", CAROL)]);
    call(&mut b, TO_ALICE, "alice");
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    call(&mut b, "+12025551003", "carol");
    b.pass(20_100);
    let (trunk, _) = connect(&mut b, BOB);
    hang_up(&mut b, &trunk, BOB);
    b.finish();
}

#[test]
fn do_not_disturb_rings_nobody_and_goes_where_busy_goes() {
    let quiet = || Forwarding { is_do_not_disturb: true, ..none() };
    let mut b = forwarding(quiet(), none());
    call(&mut b, TO_ALICE, "c");
    assert!(is_idle_line(&b, ALICE));
    assert_eq!(refusal(&mut b), (480, "Do Not Disturb".to_owned()));
    b.finish();
    let mut b = forwarding(Forwarding { busy: to("1003"), no_answer: to("1002"), ..quiet() }, none());
    call(&mut b, TO_ALICE, "c");
    let invite = b.take_request("INVITE", CAROL);
    assert!(values(&invite.1, Name::Diversion)[0].contains("reason=do-not-disturb"));
    assert!(is_idle_line(&b, ALICE) && is_idle_line(&b, BOB));
    b.answer(&invite, 486, "carol", "", "");
    assert_eq!(refusal(&mut b).0, 486);
    b.finish();
}

#[test]
fn an_outside_target_gets_numbers_of_the_company_and_no_extension() {
    let mut b = forwarding(Forwarding { always: to(OUTSIDE), ..none() }, none());
    call(&mut b, TO_ALICE, "c");
    let invite = b.take_request("INVITE", TRUNK);
    assert_eq!(invite.1.request_uri(), "sip:+12025550177@203.0.113.5;user=phone");
    assert_eq!(
        values(&invite.1, Name::Diversion),
        ["<sip:+12025551001@pbx.example.com;user=phone>;reason=unconditional;counter=1"]
    );
    let identity = invite.1.header(Name::PAssertedIdentity).unwrap();
    assert!(identity.contains("+12025551001"), "on behalf of Alice: {identity}");
    assert!(!String::from_utf8_lossy(invite.1.bytes()).contains("1001@198"), "no device");
    b.accept(&invite, "far", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    assert_eq!(b.core.calls()[0].answered_by.as_deref(), Some("+12025550177"));
    b.finish();
}

#[test]
fn a_circle_is_cut_with_482_and_a_busy_answer_within_it_is_not_hidden() {
    let always = |target| Forwarding { always: to(target), ..none() };
    let mut b = forwarding(always("1002"), always("alice"));
    call(&mut b, TO_ALICE, "c");
    assert_eq!(refusal(&mut b), (482, "Forwarding Loop".to_owned()));
    assert!(is_idle_line(&b, ALICE) && is_idle_line(&b, BOB));
    b.finish();
    let busy = |target| Forwarding { busy: to(target), ..none() };
    let mut b = forwarding(busy("1002"), busy("1001"));
    call(&mut b, TO_ALICE, "c");
    refuse(&mut b, ALICE, 486);
    refuse(&mut b, BOB, 486);
    assert_eq!(refusal(&mut b).0, 486);
    assert!(is_idle_line(&b, ALICE), "once is enough");
    b.finish();
}

#[test]
fn a_call_is_forwarded_as_often_as_the_limit_says_and_not_once_more() {
    for (users, status) in [(FORWARD_HOPS_MAX + 1, 200), (FORWARD_HOPS_MAX + 2, 483)] {
        let chain = (0..users).map(|n| {
            let always = (n + 1 < users).then(|| format!("{}", 2001 + n));
            let number = format!("{}", 2000 + n);
            User {
                forwarding: Forwarding { always, ..none() },
                ..user(&format!("u{n}"), &number, &format!("+1202555{number}"))
            }
        });
        let mut b = Bench::with_users(&group("all"), chain, vec![binding(&format!("u{}", users - 1), BOB)]);
        call(&mut b, "+12025552000", "c");
        if status == 200 {
            let invite = b.take_request("INVITE", BOB);
            assert_eq!(values(&invite.1, Name::Diversion).len(), FORWARD_HOPS_MAX);
            assert_eq!(
                values(&invite.1, Name::HistoryInfo)[FORWARD_HOPS_MAX].matches(".1").count(),
                2 * FORWARD_HOPS_MAX - 1
            );
            b.accept(&invite, "x", SDP);
        }
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), status);
        b.finish();
    }
}

#[test]
fn forwards_before_the_call_came_here_count_too() {
    for (earlier, status) in [(FORWARD_HOPS_MAX - 1, 181), (FORWARD_HOPS_MAX, 483)] {
        let mut b = forwarding(Forwarding { always: to("1003"), ..none() }, none());
        let uri = format!("sip:{TO_ALICE}@pbx.example.com");
        let diversion = format!("Diversion: <sip:+1@x>;reason=unknown;counter={earlier}\n");
        b.request(
            udp(TRUNK),
            ("INVITE", &uri),
            (&format!("{FROM};tag=x"), &format!("<{uri}>")),
            ("c", 1),
            (&diversion, SDP),
        );
        if let Some(invite) = b.find_request("INVITE", CAROL) {
            b.answer(&invite, 180, "carol", "", "");
        }
        assert_eq!(b.take_response("INVITE", TRUNK, 180).status(), status);
        b.finish();
    }
}

#[test]
fn a_forward_leads_to_a_group_whose_members_do_not_send_it_on() {
    let mut b = forwarding(Forwarding { busy: to("600"), ..none() }, Forwarding { busy: to("1004"), ..none() });
    call(&mut b, TO_ALICE, "c");
    refuse(&mut b, ALICE, 486);
    refuse(&mut b, BOB, 486);
    refuse(&mut b, CAROL, 486);
    assert_eq!(refusal(&mut b), (486, "All Members Busy".to_owned()));
    assert!(is_idle_line(&b, DAVE));
    b.finish();
}

#[test]
fn a_member_who_is_not_to_be_disturbed_or_has_left_is_passed_over() {
    for bob in [Forwarding { is_do_not_disturb: true, ..none() }, Forwarding { always: to("1004"), ..none() }] {
        let mut b = forwarding(none(), bob);
        call(&mut b, SALES, "c");
        assert!(is_idle_line(&b, BOB) && is_idle_line(&b, DAVE));
        refuse(&mut b, CAROL, 486);
        assert_eq!(refusal(&mut b).0, 480);
        b.finish();
    }
}

// Redirection by a device.

fn redirect(b: &mut Bench, at: &str, contact: &str) {
    let invite = b.take_request("INVITE", at);
    b.answer(&invite, 302, "moved", &format!("Contact: {contact}\n"), "");
    b.take_request("ACK", at);
}

#[test]
fn a_phone_that_says_302_sends_the_call_to_whom_its_user_could_dial() {
    let mut b = forwarding(none(), none());
    call(&mut b, TO_ALICE, "c");
    redirect(&mut b, ALICE, "<sip:1009@pbx.example.com>;q=0.1, <sip:1003@pbx.example.com;transport=udp>;q=0.9");
    let invite = b.take_request("INVITE", CAROL);
    assert_eq!(values(&invite.1, Name::Diversion), ["<sip:1001@pbx.example.com>;reason=deflection;counter=1"]);
    redirect_again(&mut b, &invite);
    b.finish();
}

/// Carol sends the call back to Alice.
fn redirect_again(b: &mut Bench, invite: &(Flow, Message)) {
    b.answer(invite, 302, "moved", "Contact: <sip:alice@pbx.example.com>\n", "");
    b.take_request("ACK", CAROL);
    assert_eq!(refusal(b), (482, "Forwarding Loop".to_owned()));
}

#[test]
fn a_redirection_to_strangers_an_emergency_number_or_nowhere_is_not_followed() {
    for contact in [
        "<sip:1003@elsewhere.example>",
        "<sip:911@pbx.example.com>",
        "<tel:+1911>",
        "<urn:service:sos>",
        "<sip:933@pbx.example.com>",
        "<sip:1009@pbx.example.com>",
        "<sip:198.51.100.4>",
    ] {
        let mut b = forwarding(none(), none());
        call(&mut b, TO_ALICE, "c");
        redirect(&mut b, ALICE, contact);
        assert_eq!(refusal(&mut b).0, 480, "{contact}");
        assert!(b.find_request("INVITE", TRUNK).is_none() && is_idle_line(&b, CAROL), "{contact}");
        b.finish();
    }
}

#[test]
fn what_a_member_of_a_group_redirects_stays_in_the_group() {
    let mut b = forwarding(none(), none());
    call(&mut b, SALES, "c");
    redirect(&mut b, BOB, "<sip:1004@pbx.example.com>");
    assert!(is_idle_line(&b, DAVE));
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}

// Emergencies.

#[test]
fn a_forward_to_an_emergency_number_that_was_stored_all_the_same_is_not_followed() {
    for target in ["911", "9911", "933", "*67911"] {
        let mut b = forwarding(Forwarding { always: to(target), ..none() }, none());
        call(&mut b, TO_ALICE, "c");
        assert_eq!(refusal(&mut b), (480, "Forwarded To An Emergency Number".to_owned()), "{target}");
        assert!(b.find_request("INVITE", TRUNK).is_none(), "{target}");
        b.finish();
    }
}

fn alice_calls_911(b: &mut Bench) {
    let (uri, from) = ("sip:911@pbx.example.com", "<sip:alice@pbx.example.com>;tag=e");
    b.request(udp(ALICE), ("INVITE", uri), (from, &format!("<{uri}>")), ("emergency", 1), ("", SDP));
}

#[test]
fn an_emergency_call_of_a_user_with_every_forward_goes_out_as_it_is() {
    let alice = Forwarding { always: to("1003"), is_do_not_disturb: true, ..none() };
    let mut b = forwarding(alice, none());
    alice_calls_911(&mut b);
    let invite = b.take_request("INVITE", TRUNK);
    assert!(invite.1.header(Name::Diversion).is_none() && invite.1.header(Name::HistoryInfo).is_none());
    b.answer(&invite, 302, "psap", "Contact: <sip:1003@pbx.example.com>\n", "");
    assert!(is_idle_line(&b, CAROL), "a redirection is not followed");
    b.finish();
}

#[test]
fn emergency_services_that_call_back_ring_past_do_not_disturb_and_forwarding() {
    let alice = || Forwarding { always: to("1003"), is_do_not_disturb: true, ..none() };
    let mut b = forwarding(alice(), none());
    call(&mut b, TO_ALICE, "before");
    assert!(is_idle_line(&b, ALICE), "an ordinary call");
    b.sent.clear();
    alice_calls_911(&mut b);
    let emergency = b.take_request("INVITE", TRUNK);
    b.answer(&emergency, 486, "psap", "", "");
    b.pass(29 * 60 * 1000);
    b.sent.clear();
    call(&mut b, TO_ALICE, "within");
    let ringing = b.take_request("INVITE", ALICE);
    assert!(is_idle_line(&b, CAROL));
    b.answer(&ringing, 486, "alice", "", "");
    assert_eq!(refusal(&mut b).0, 486);
    b.pass(2 * 60 * 1000);
    b.sent.clear();
    call(&mut b, TO_ALICE, "later");
    assert!(is_idle_line(&b, ALICE), "half an hour is over");
    b.finish();

    let mut b = forwarding(alice(), none());
    let telephone = Flow { transport: Transport::Tcp, connection: ConnectionId(1), ..udp("198.51.100.77:1000") };
    b.register(telephone, "dave");
    let marked = |b: &mut Bench, flow: Flow, number: &str, call_id: &str| {
        b.sent.clear();
        let uri = format!("sip:{number}@pbx.example.com");
        let from = format!("{FROM};tag={call_id}");
        let identity = (&*from, &*format!("<{uri}>"));
        b.request(flow, ("INVITE", &uri), identity, (call_id, 1), ("Priority: psap-callback\n", SDP));
        b.find_request("INVITE", ALICE).is_some()
    };
    assert!(!marked(&mut b, udp(TRUNK), TO_ALICE, "nothing-expected"), "nobody has called for help");
    alice_calls_911(&mut b);
    let emergency = b.take_request("INVITE", TRUNK);
    b.answer(&emergency, 486, "psap", "", "");
    assert!(!marked(&mut b, telephone, "+12025551009", "telephone"), "only a trunk can say so");
    assert!(marked(&mut b, udp(TRUNK), "+12025551009", "psap"), "whatever number it has found");
    b.pass(31 * 60 * 1000);
    assert!(!marked(&mut b, udp(TRUNK), "+12025551009", "later"), "half an hour is over");
    b.finish();
}

#[test]
fn emergency_services_that_call_back_pass_the_limit_of_calls_and_a_drain() {
    let mut b = forwarding(none(), none());
    alice_calls_911(&mut b);
    let emergency = b.take_request("INVITE", TRUNK);
    b.answer(&emergency, 486, "psap", "", "");
    b.pass(60_000);
    b.sent.clear();
    b.core.calls_max = 0;
    b.input(Input::Drain);
    call(&mut b, "+12025551003", "other");
    assert_eq!(refusal(&mut b).0, 503);
    call(&mut b, TO_ALICE, "back");
    let ringing = b.take_request("INVITE", ALICE);
    b.answer(&ringing, 486, "alice", "", "");
    assert_eq!(refusal(&mut b).0, 486);
    b.finish();
}

// Breadth (RFC 5393).

#[test]
fn branches_share_the_breadth_that_the_caller_allows() {
    for (allowed, rung, each) in [("", 2, "30"), ("Max-Breadth: 7\n", 2, "3"), ("Max-Breadth: 1\n", 1, "1")] {
        let mut b = Bench::new();
        let uri = "sip:+12025551002@pbx.example.com";
        let identity = (&*format!("{FROM};tag=x"), &*format!("<{uri}>"));
        b.request(udp(TRUNK), ("INVITE", uri), identity, ("c", 1), (allowed, SDP));
        let sent: Vec<_> = b.sent.iter().filter(|(_, m)| m.method_text() == "INVITE" && m.is_request()).collect();
        assert_eq!(sent.len(), rung, "{allowed}");
        assert!(sent.iter().all(|(_, m)| m.header_text("Max-Breadth") == Some(each)), "{allowed}");
        if rung == 1 {
            let first = [BOB, BOB_TOO].into_iter().find_map(|at| Some((at, b.find_request("INVITE", at)?)));
            let (at, invite) = first.expect("it was sent to one of them");
            b.answer(&invite, 486, "first", "", "");
            let other = if at == BOB { BOB_TOO } else { BOB };
            assert!(b.find_request("INVITE", other).is_some(), "the other one rings afterwards");
        }
        b.finish();
    }
}

#[test]
fn a_breadth_above_the_limit_is_lowered_to_it_and_none_is_440() {
    for (allowed, told) in [(BREADTH_MAX, BREADTH_MAX), (BREADTH_MAX + 1, BREADTH_MAX)] {
        let mut b = forwarding(none(), none());
        let uri = format!("sip:{TO_ALICE}@pbx.example.com");
        let identity = (&*format!("{FROM};tag=x"), &*format!("<{uri}>"));
        b.request(udp(TRUNK), ("INVITE", &uri), identity, ("c", 1), (&format!("Max-Breadth: {allowed}\n"), SDP));
        let invite = b.take_request("INVITE", ALICE);
        assert_eq!(invite.1.header_text("Max-Breadth"), Some(told.to_string().as_str()));
        for (name, none) in [("d", "0"), ("e", "00")] {
            b.request(udp(TRUNK), ("INVITE", &uri), identity, (name, 1), (&format!("Max-Breadth: {none}\n"), SDP));
            assert_eq!(refusal(&mut b).0, 440);
        }
        b.finish();
    }
}

#[test]
fn an_emergency_call_is_not_measured() {
    let mut b = forwarding(none(), none());
    let (uri, from) = ("sip:911@pbx.example.com", "<sip:alice@pbx.example.com>;tag=e");
    b.request(udp(ALICE), ("INVITE", uri), (from, &format!("<{uri}>")), ("e", 1), ("Max-Breadth: 0\n", SDP));
    assert_eq!(b.take_request("INVITE", TRUNK).1.header_text("Max-Breadth"), None);
    b.finish();
}

#[test]
fn a_callee_who_answers_unusably_is_not_unreachable() {
    let forwarding = Forwarding { unreachable: Some("1003".to_owned()), ..Forwarding::default() };
    let alice = User { forwarding, ..user("alice", "1001", "+12025551001") };
    let users = [alice, user("carol", "1003", "+12025551003")];
    let bindings = [("alice", ALICE), ("carol", CAROL)].map(|(name, at)| binding(name, at));
    let mut b = Bench::with_users(CONFIG, users, bindings.to_vec());
    call(&mut b, "+12025551001", "c");
    let invite = b.take_request("INVITE", ALICE);
    b.accept(&invite, "callee", "v=0\r\nnonsense\r\n");
    assert!(is_idle_line(&b, CAROL), "she was there");
    assert_eq!(refusal(&mut b).0, 488);
}

// What the caller and the next callee are told of the way.

#[test]
fn a_caller_hears_that_the_call_is_forwarded_and_not_to_whom() {
    let mut b = forwarding(Forwarding { busy: to("1003"), ..none() }, none());
    call(&mut b, TO_ALICE, "c");
    assert!(b.sent.iter().all(|(_, m)| m.status() != 181), "it is not forwarded yet");
    refuse(&mut b, ALICE, 486);
    let forwarded = b.take_response("INVITE", TRUNK, 181);
    assert_eq!((forwarded.status(), forwarded.reason_phrase()), (181, "Call Is Being Forwarded"));
    let text = String::from_utf8_lossy(forwarded.bytes()).into_owned();
    for hidden in ["1003", "carol", "198.51.100", "Diversion", "History-Info"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}

/// The trunk calls Alice; somebody had forwarded the call before.
fn call_with_history(b: &mut Bench, more: &str) {
    let uri = format!("sip:{TO_ALICE}@pbx.example.com");
    let (from, to) = (format!("{FROM};tag=h"), format!("<{uri}>"));
    let history = "Diversion: <sip:+12025550199@10.9.9.9>;reason=no-answer;counter=1\n\
                   History-Info: <sip:+12025550199@10.9.9.9>;index=1\n\
                   History-Info: <sip:+12025551001@10.9.9.9;cause=408>;index=1.1;mp=1\n";
    b.request(udp(TRUNK), ("INVITE", &uri), (&from, &to), ("h", 1), (&format!("{history}{more}"), SDP));
}

const EARLIER: [&str; 2] = [
    "<sip:+12025550199@pbx.example.com;user=phone>;index=1",
    "<sip:+12025551001@pbx.example.com;user=phone;cause=408>;index=1.1;mp=1",
];

#[test]
fn a_device_is_told_who_had_forwarded_a_trunks_call_and_forwards_of_ours_follow_that() {
    let earlier = "<sip:+12025550199@pbx.example.com;user=phone>;reason=no-answer;counter=1";
    let mut b = forwarding(Forwarding { busy: to("1003"), ..none() }, none());
    call_with_history(&mut b, "");
    let invite = b.take_request("INVITE", ALICE);
    assert_eq!(values(&invite.1, Name::Diversion), [earlier]);
    assert_eq!(values(&invite.1, Name::HistoryInfo), EARLIER);
    b.answer(&invite, 486, "alice", "", "");
    let invite = b.take_request("INVITE", CAROL).1;
    let ours = "<sip:1001@pbx.example.com>;reason=user-busy;counter=1";
    assert_eq!(values(&invite, Name::Diversion), [ours, earlier], "the last one first");
    let [first, second] = EARLIER;
    let ours = [
        "<sip:1001@pbx.example.com?Reason=SIP%3Bcause%3D486>;index=1.1.1",
        "<sip:1003@pbx.example.com;cause=486>;index=1.1.1.1;mp=1.1.1",
    ];
    assert_eq!(values(&invite, Name::HistoryInfo), [first, second, ours[0], ours[1]]);
}

#[test]
fn whoever_wants_no_history_told_has_none_told_and_a_device_cannot_make_one_up() {
    let mut b = forwarding(none(), none());
    call_with_history(&mut b, "Privacy: history\n");
    let invite = b.take_request("INVITE", ALICE).1;
    assert!(invite.header(Name::Diversion).is_none() && invite.header(Name::HistoryInfo).is_none());
    let flow = Flow { transport: Transport::Tcp, connection: ConnectionId(9), ..udp("198.51.100.88:40000") };
    b.register(flow, "alice");
    let (from, to) = ("<sip:alice@pbx.example.com>;tag=d", "<sip:1003@pbx.example.com>");
    let made_up = "Diversion: <sip:+12025550199@x>;reason=no-answer\nHistory-Info: <sip:+12025550199@x>;index=1\n";
    b.request(flow, ("INVITE", "sip:1003@pbx.example.com"), (from, to), ("d", 1), (made_up, SDP));
    let invite = b.take_request("INVITE", CAROL).1;
    assert!(invite.header(Name::Diversion).is_none() && invite.header(Name::HistoryInfo).is_none());
}

// Loops.

/// Alice's calls go to an outside number whose carrier brings them back. Returns how often they went out, and the status that
/// ended it. `keeps`: what the carrier leaves in a call.
fn rounds(keeps: &[(&str, Name)]) -> (usize, u16) {
    let mut b = forwarding(Forwarding { always: to("92025550177"), ..none() }, none());
    let mut headers = String::from("Max-Forwards: 20\n");
    for round in 0..20 {
        let uri = format!("sip:{TO_ALICE}@pbx.example.com");
        let head = format!(
            "INVITE {uri} SIP/2.0\nVia: SIP/2.0/UDP {TRUNK};branch=z9hG4bK-round-{round}\nFrom: {FROM};tag={round}\n\
             To: <{uri}>\nCall-ID: round-{round}\nCSeq: 1 INVITE\nContact: <sip:x@{TRUNK}>\n{headers}"
        );
        b.receive(udp(TRUNK), &head, SDP);
        let Some((_, out)) = b.find_request("INVITE", TRUNK) else {
            return (round, b.take_response("INVITE", TRUNK, 300).status());
        };
        let kept = |(text, name): &(_, _)| out.lines(*name).map(|v| format!("{text}: {v}\n")).collect::<String>();
        headers = keeps.iter().map(kept).collect();
    }
    panic!("it goes on for ever");
}

#[test]
fn a_call_that_its_carrier_brings_back_dies_out() {
    let (hops, way) = (("Max-Forwards", Name::MaxForwards), ("Diversion", Name::Diversion));
    assert_eq!(rounds(&[hops, way]), (FORWARD_HOPS_MAX, 483));
    // Each round is two hops here: to the user, and from there out again.
    assert_eq!(rounds(&[hops]), (10, 483));
}

#[test]
fn a_contact_whose_connection_a_restart_has_cut_is_unreachable_at_once() {
    let forwarding = Forwarding { unreachable: to("1003"), ..none() };
    let alice = User { forwarding, ..user("alice", "1001", TO_ALICE) };
    let mut restored = binding("alice", ALICE);
    restored.flow = Flow { transport: Transport::Tls, connection: ConnectionId::NONE, ..restored.flow };
    let users = [alice, user("carol", "1003", "+12025551003")];
    let mut b = Bench::with_users(CONFIG, users, vec![restored, binding("carol", CAROL)]);
    call(&mut b, TO_ALICE, "c");
    let (trunk, _) = connect(&mut b, CAROL);
    hang_up(&mut b, &trunk, CAROL);
    b.finish();
}
