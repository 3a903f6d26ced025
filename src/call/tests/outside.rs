//! Calls outside: how a trunk is told who calls whom, and what stops a user who calls too much.

use super::{
    ALICE_FROM,
    bench::{BOB, Bench, CONFIG, Leg, SDP, TRUNK, binding, udp, user},
    from_alice, invite,
    transfer::{assert_taken_on, escaped, replaces},
};
use crate::{
    call::{BarredView, Input},
    types::limits::ONWARD_CALLS_MAX,
    wire::sip::{Message, Name},
};

/// A stolen password calls this one.
const COSTLY: &str = "901144207946";

/// The bench's carrier with these keys, and these tables behind it.
fn bench(keys: &str, tables: &str) -> Bench {
    let carrier = CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}\n"));
    let dialing = "[dialing]\noutside_prefixes = [\"9\"]\n";
    let mut b = Bench::with(&format!("{carrier}{dialing}{tables}"));
    b.register(from_alice(1000, 1), "alice");
    b
}

fn call(b: &mut Bench, callee: &str, extra: &str) {
    invite(b, from_alice(1000, 1), &format!("sip:{callee}@pbx.example.com"), ALICE_FROM, extra);
}

/// The next final answer to Alice.
fn answer_to_alice(b: &mut Bench) -> (u16, String) {
    let answer = b.take_response("INVITE", &from_alice(1000, 1).remote.to_string(), 200);
    (answer.status(), answer.reason_phrase().to_owned())
}

/// Calls outside; the carrier says that it is busy. `false`: it was not asked.
fn busy_call(b: &mut Bench, callee: &str) -> bool {
    b.sent.clear();
    call(b, callee, "");
    let sent = b.find_request("INVITE", TRUNK);
    if let Some(sent) = &sent {
        b.answer(sent, 486, "t", "", "");
        assert_eq!(answer_to_alice(b).0, 486);
    }
    sent.is_some()
}

fn header(message: &Message, name: Name) -> String {
    message.header(name).unwrap_or_default().split(";tag=").next().unwrap_or_default().to_owned()
}

// Numbers and identities.

#[test]
fn a_trunk_is_told_numbers_in_its_form() {
    for (form, to, from) in [
        ("e164", "sip:+442079460123@203.0.113.5", "<sip:+12025551001@pbx.example.com;user=phone>"),
        ("e164-digits", "sip:442079460123@203.0.113.5", "<sip:12025551001@pbx.example.com;user=phone>"),
        ("national", "sip:011442079460123@203.0.113.5", "<sip:2025551001@pbx.example.com;user=phone>"),
    ] {
        let mut b = bench(&format!("number_form = \"{form}\""), "");
        call(&mut b, "9011442079460123", "");
        let sent = b.take_request("INVITE", TRUNK).1;
        assert_eq!(sent.request_uri(), format!("{to};user=phone"));
        assert_eq!((header(&sent, Name::From).as_str(), header(&sent, Name::PAssertedIdentity).as_str()), (from, from));
    }
}

#[test]
fn a_registered_trunk_sees_its_own_domain_and_perhaps_its_account() {
    let keys = "register = \"on\"\ndomain = \"ims.carrier.example\"\nfrom = \"account\"\n\
                identity = [\"P-Preferred-Identity\", \"Remote-Party-ID\"]";
    let mut b = bench(keys, "");
    call(&mut b, "92025550177", "");
    let sent = b.take_request("INVITE", TRUNK).1;
    assert_eq!(sent.request_uri(), "sip:+12025550177@ims.carrier.example;user=phone");
    assert_eq!(header(&sent, Name::From), "<sip:example-corp@ims.carrier.example>");
    let number = "<sip:+12025551001@ims.carrier.example;user=phone>";
    assert_eq!((sent.header(Name::PPreferredIdentity), sent.header(Name::PAssertedIdentity)), (Some(number), None));
    let remote_party = format!("{number};party=calling;screen=yes;privacy=off");
    assert_eq!(sent.header(Name::RemotePartyId), Some(remote_party.as_str()));
}

#[test]
fn an_anonymous_caller_is_anonymous_in_every_header_but_those_that_ask_to_be_hidden() {
    let mut b = bench("identity = [\"P-Asserted-Identity\", \"Remote-Party-ID\"]", "");
    call(&mut b, "92025550177", "Privacy: id\n");
    let sent = b.take_request("INVITE", TRUNK).1;
    assert!(header(&sent, Name::From).contains("anonymous.invalid"));
    assert!(sent.contact().is_some_and(|contact| contact.uri.starts_with("sip:anonymous@")));
    assert_eq!(sent.header(Name::Privacy), Some("id"));
    assert!(sent.header(Name::PAssertedIdentity).is_some_and(|value| value.contains("+12025551001")));
    assert!(sent.header(Name::RemotePartyId).is_some_and(|value| value.ends_with(";privacy=full")));
}

#[test]
fn a_telephone_presents_its_own_numbers_and_no_other() {
    let tables = "[calling]\npresentation_numbers = [\"+12025550100\"]\n";
    for (preferred, shown) in [
        ("+12025550100", Some("+12025550100")),
        ("92025550100", Some("+12025550100")),
        ("+12025551001", Some("+12025551001")),
        ("1001", Some("+12025551001")),
        ("alice", Some("+12025551001")),
        ("+12025551002", None),
        ("+442079460123", None),
    ] {
        let mut b = bench("", tables);
        call(&mut b, "92025550177", &format!("P-Preferred-Identity: <sip:{preferred}@pbx.example.com>\n"));
        match (shown, b.find_request("INVITE", TRUNK)) {
            (Some(shown), Some((_, sent))) => assert!(header(&sent, Name::From).contains(shown), "{preferred}"),
            (None, None) => assert_eq!(answer_to_alice(&mut b), (403, "Caller Number Not Allowed".to_owned())),
            (_, sent) => panic!("{preferred}: {sent:?}"),
        }
    }
}

// Limits.

#[test]
fn a_stolen_password_gets_so_many_costly_calls_and_an_operator_may_lift_it() {
    let mut b = bench("", "[calling]\ncostly_calls_per_day = 5\n");
    for n in 0..5 {
        assert!(busy_call(&mut b, &format!("{COSTLY}{n}123")), "{n}");
    }
    for n in 0..20 {
        assert!(!busy_call(&mut b, &format!("{COSTLY}{n}23")), "{n}");
        assert_eq!(answer_to_alice(&mut b), (403, "Costly Calls Barred".to_owned()));
    }
    assert_eq!(b.core.barred(), [BarredView { user: "alice".to_owned(), costly_calls: 5 }]);
    assert_eq!(b.core.counters().limits_reached, [0, 0, 20, 0]);
    assert!(busy_call(&mut b, "92025550177"), "others may be called");
    b.input(Input::Unbar { user: "alice".to_owned() });
    assert!(b.core.barred().is_empty() && busy_call(&mut b, &format!("{COSTLY}0123")));
}

#[test]
fn a_trunk_at_its_limit_is_passed_by_with_an_alarm_and_the_caller_hears_why_where_there_is_no_other() {
    let mut b = bench("calls_per_minute = 1", "");
    assert!(busy_call(&mut b, "92025550177"));
    for reached in 1..=2 {
        assert!(!busy_call(&mut b, "92025550177"));
        assert_eq!(answer_to_alice(&mut b), (480, "Every Trunk Is At Its Limit".to_owned()));
        let counted = &b.core.counters().trunk_limits_reached;
        assert_eq!(counted.iter().collect::<Vec<_>>(), [(&("carrier".to_owned(), "calls_per_minute"), &reached)]);
    }
    b.sent.clear();
    call(&mut b, "911", "");
    b.take_request("INVITE", TRUNK);
    b.finish();
}

#[test]
fn a_day_later_costly_calls_are_possible_again() {
    let mut b = bench("", "[calling]\ncostly_calls_per_day = 1\n");
    assert!(busy_call(&mut b, &format!("{COSTLY}0123")));
    b.pass(86_000_000);
    b.register(from_alice(1000, 1), "alice");
    assert!(!busy_call(&mut b, &format!("{COSTLY}0123")));
    b.pass(400_000);
    assert!(busy_call(&mut b, &format!("{COSTLY}0123")));
}

#[test]
fn calls_at_once_are_counted_while_they_live() {
    let mut b = bench("", "[calling]\nconcurrent_calls = 1\n");
    call(&mut b, "92025550177", "");
    let sent = b.take_request("INVITE", TRUNK);
    call(&mut b, "92025550178", "");
    assert_eq!(answer_to_alice(&mut b), (403, "Too Many Outside Calls At Once".to_owned()));
    b.answer(&sent, 486, "t", "", "");
    assert!(busy_call(&mut b, "92025550179"));
}

#[test]
fn calls_within_a_minute_are_counted_and_denied_ones_are_not() {
    let mut b = bench("", "[calling]\ncalls_per_minute = 2\n");
    assert!(busy_call(&mut b, "92025550177") && busy_call(&mut b, "92025550177"));
    for _ in 0..3 {
        assert!(!busy_call(&mut b, "92025550177"));
    }
    b.pass(60_000);
    assert!(busy_call(&mut b, "92025550177"));
}

#[test]
fn a_helpline_is_reached_over_a_trunk_that_is_being_emptied_and_nothing_else_is() {
    let mut b = bench("", "");
    b.input(Input::DrainTrunk { trunk: "carrier".to_owned(), is_draining: true });
    assert!(!busy_call(&mut b, "92025550177"));
    assert_eq!(answer_to_alice(&mut b), (480, "Every Trunk Is Draining".to_owned()));
    assert!(busy_call(&mut b, "988"));
}

#[test]
fn a_call_that_never_leaves_counts_against_no_limit() {
    let mut b = bench("", "[calling]\ncalls_per_minute = 1\n");
    for _ in 0..3 {
        // No trunk has TLS.
        invite(&mut b, from_alice(1000, 1), "sips:92025550177@pbx.example.com", ALICE_FROM, "");
        assert!(answer_to_alice(&mut b).0 >= 400);
    }
    assert!(busy_call(&mut b, "92025550177"));
    assert!(!busy_call(&mut b, "92025550177"));
    assert_eq!(answer_to_alice(&mut b), (403, "Too Many Outside Calls A Minute".to_owned()));
}

/// Calls outside; the carrier answers, and the caller is told.
fn talk(b: &mut Bench, callee: &str) -> Leg {
    b.sent.clear();
    call(b, callee, "");
    let sent = b.take_request("INVITE", TRUNK);
    b.accept(&sent, callee, SDP);
    let alice = from_alice(1000, 1);
    let ok = b.take_response("INVITE", &alice.remote.to_string(), 200);
    let leg = Leg::of_caller(alice, &ok);
    b.acknowledge(&leg, 1, "");
    leg
}

#[test]
fn two_parties_outside_count_as_two_after_a_user_has_joined_them() {
    let mut b = bench("rates = { \"+\" = \"1\" }", "[calling]\nconcurrent_calls = 3\n");
    let (first, second) = (talk(&mut b, "92025550177"), talk(&mut b, "92025550178"));
    b.sent.clear();
    let target = format!("<sip:1@pbx.example.com?Replaces={}>", escaped(&replaces(&second)));
    assert_taken_on(&mut b, &first, 2, &target);
    for _ in 0..2 {
        let reoffer = b.take_request("INVITE", TRUNK);
        b.accept(&reoffer, "", SDP);
    }
    assert_eq!(b.core.trunks()[0].calls, 1);
    // One more is possible, and not two.
    call(&mut b, "92025550179", "");
    b.take_request("INVITE", TRUNK);
    call(&mut b, "92025550170", "");
    let refused = b.sent.iter().any(|(_, m)| m.reason_phrase() == "Too Many Outside Calls At Once");
    assert!(refused, "{}", b.told());
}

#[test]
fn what_was_spent_and_what_is_being_spent_counts() {
    let mut b = bench("rates = { \"+\" = \"1\" }", "[calling]\nspend_per_day = \"2\"\n");
    call(&mut b, "92025550177", "");
    let sent = b.take_request("INVITE", TRUNK);
    b.accept(&sent, "t", SDP);
    let alice = from_alice(1000, 1);
    let ok = b.take_response("INVITE", &alice.remote.to_string(), 200);
    b.acknowledge(&Leg::of_caller(alice, &ok), 1, "");
    b.pass(119_000);
    assert!(busy_call(&mut b, "92025550178"));
    b.sent.clear();
    b.pass(1_000);
    call(&mut b, "92025550178", "");
    assert_eq!(answer_to_alice(&mut b), (403, "Daily Spending Limit Reached".to_owned()));
}

#[test]
fn an_emergency_passes_every_limit_and_every_block() {
    let tables = "[calling]\nallow = []\nblocked_prefixes = [\"+\"]\nconcurrent_calls = 1\ncalls_per_minute = 1\n";
    let mut b = bench("allow = []\nblocked_prefixes = [\"+\"]\nconcurrent_calls = 1\ncalls_per_minute = 1", tables);
    for _ in 0..3 {
        call(&mut b, "92025550177", "");
        assert_eq!(answer_to_alice(&mut b).0, 403);
        call(&mut b, "911", "");
        let sent = b.take_request("INVITE", TRUNK);
        b.accept(&sent, "psap", SDP);
        assert_eq!(answer_to_alice(&mut b).0, 200);
    }
}

#[test]
fn a_trunk_at_its_limit_is_passed_over() {
    let other = "[trunk.zz-other]\nhost = \"203.0.113.20\"\nport = 5060\ntransport = \"udp\"\n\
                 numbers = [\"+12025550100\"]\n";
    let mut b = bench("concurrent_calls = 1", other);
    call(&mut b, "92025550177", "");
    b.take_request("INVITE", TRUNK);
    call(&mut b, "92025550178", "");
    b.take_request("INVITE", "203.0.113.20:5060");
}

#[test]
fn a_forwarded_call_counts_for_the_user_who_forwards() {
    let mut bob = user("bob", "1002", "+12025551002");
    bob.forwarding.always = Some(format!("{COSTLY}0123"));
    let users = [user("alice", "1001", "+12025551001"), bob];
    let tables = "[dialing]\noutside_prefixes = [\"9\"]\n[calling]\ncostly_calls_per_day = 2\n";
    let mut b = Bench::with_users(&format!("{CONFIG}{tables}"), users, vec![binding("bob", BOB)]);
    for is_let_out in [true, true, false] {
        let to = "<sip:+12025551002@pbx.example.com>";
        let call_id = format!("c{}", b.serial);
        let from = ("<sip:+14155550123@203.0.113.5>;tag=t", to);
        b.request(udp(TRUNK), ("INVITE", "sip:+12025551002@pbx.example.com"), from, (&call_id, 1), ("", SDP));
        let sent = b.find_request("INVITE", TRUNK);
        assert_eq!(sent.is_some(), is_let_out);
        if let Some(sent) = sent {
            b.answer(&sent, 486, "t", "", "");
        }
    }
    assert_eq!(b.core.barred(), [BarredView { user: "bob".to_owned(), costly_calls: 2 }]);
}

// On to another trunk (the inbound map).

const BRANCH: &str = "203.0.113.30:5060";

/// Numbers of ours behind a trunk that is a telephone system, and behind the carrier itself.
fn bench_with_map(keys: &str) -> Bench {
    let tables = format!(
        "[trunk.branch]\nhost = \"203.0.113.30\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n{keys}\n\
         [inbound.branch]\nnumbers = [\"+12025553*\"]\nto = \"trunk:branch\"\n\
         [inbound.back]\nnumbers = [\"+12025554*\"]\nto = \"trunk:carrier\"\n\
         [inbound.bob]\nnumbers = [\"+12025553111\"]\nto = \"user:bob\"\n"
    );
    bench("", &tables)
}

/// An INVITE of the trunk at `from`; returns its Call-ID.
fn trunk_calls(b: &mut Bench, from: &str, number: &str, extra: &str) -> String {
    let uri = format!("sip:{number}@pbx.example.com");
    let call_id = format!("call-{}", b.serial);
    let identity = (format!("<sip:+14155550123@203.0.113.5>;tag={call_id}"), format!("<{uri}>"));
    b.request(udp(from), ("INVITE", &uri), (&identity.0, &identity.1), (&call_id, 1), (extra, SDP));
    call_id
}

fn answer_to(b: &mut Bench, to: &str) -> (u16, String) {
    let answer = b.take_response("INVITE", to, 300);
    (answer.status(), answer.reason_phrase().to_owned())
}

#[test]
fn a_call_to_a_number_of_the_map_goes_on_to_the_trunk_behind_which_it_is() {
    let mut b = bench_with_map("pstn = false\nnumber_form = \"national\"");
    trunk_calls(&mut b, TRUNK, "2025553001", "");
    let sent = b.take_request("INVITE", BRANCH);
    assert_eq!(sent.1.request_uri(), "sip:2025553001@203.0.113.30;user=phone");
    assert_eq!(header(&sent.1, Name::From), "<sip:4155550123@pbx.example.com;user=phone>", "who calls");
    assert_eq!(sent.1.header(Name::MaxForwards), Some("69"));
    b.accept(&sent, "branch", SDP);
    b.take_request("ACK", BRANCH);
    let ok = b.take_response("INVITE", TRUNK, 200);
    let trunk = Leg::of_caller(udp(TRUNK), &ok);
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BRANCH);
    b.answer(&bye, 200, "", "", "");
    let cdr = b.cdrs.last().unwrap();
    assert_eq!((cdr.trunk.as_deref(), cdr.answered_by.as_deref()), (Some("branch"), Some("+12025553001")));
    assert!(b.core.barred().is_empty());
    trunk_calls(&mut b, TRUNK, "+12025553111", "");
    b.take_request("INVITE", BOB);
}

#[test]
fn no_call_goes_back_to_its_trunk_or_past_the_limits_of_the_next_one() {
    let mut b = bench_with_map("pstn = false\nconcurrent_calls = 1\nblocked_prefixes = [\"+120255530\"]");
    trunk_calls(&mut b, TRUNK, "+12025554001", "");
    assert_eq!(answer_to(&mut b, TRUNK), (482, "Loop Detected".to_owned()));
    trunk_calls(&mut b, BRANCH, "+12025553101", "");
    assert_eq!(answer_to(&mut b, BRANCH), (482, "Loop Detected".to_owned()));
    trunk_calls(&mut b, TRUNK, "+12025553001", "");
    assert_eq!(answer_to(&mut b, TRUNK), (503, "Trunk May Not Carry This Call".to_owned()), "blocked there");
    trunk_calls(&mut b, TRUNK, "+12025553101", "");
    b.take_request("INVITE", BRANCH);
    trunk_calls(&mut b, TRUNK, "+12025553102", "");
    assert_eq!(answer_to(&mut b, TRUNK), (503, "Trunk May Not Carry This Call".to_owned()), "one at a time");
    trunk_calls(&mut b, TRUNK, "911", "");
    assert_eq!(answer_to(&mut b, TRUNK).0, 404);
    trunk_calls(&mut b, TRUNK, "+442079460123", "");
    assert_eq!(answer_to(&mut b, TRUNK), (404, "No Such Direct Line".to_owned()), "no number of ours");
}

#[test]
fn a_carrier_that_a_call_goes_on_to_is_shown_the_number_that_was_called() {
    let mut b = bench_with_map("pstn = false");
    trunk_calls(&mut b, BRANCH, "+12025554001", "");
    let sent = b.take_request("INVITE", TRUNK).1;
    assert_eq!(sent.request_uri(), "sip:+12025554001@203.0.113.5;user=phone");
    assert_eq!(header(&sent, Name::From), "<sip:+12025554001@pbx.example.com;user=phone>");
}

#[test]
fn a_call_that_comes_back_again_and_again_ends_although_nobody_counts_its_hops() {
    let mut b = bench_with_map("pstn = false");
    for _ in 0..ONWARD_CALLS_MAX {
        trunk_calls(&mut b, TRUNK, "+12025553001", "");
        b.take_request("INVITE", BRANCH);
    }
    trunk_calls(&mut b, TRUNK, "+12025553001", "");
    assert_eq!(answer_to(&mut b, TRUNK), (482, "Loop Detected".to_owned()));
    assert!(b.find_request("INVITE", BRANCH).is_none());
}

#[test]
fn what_goes_on_over_a_trunk_with_prices_counts_for_that_trunk() {
    let mut b = bench_with_map("pstn = false\nrates = { \"+\" = \"1\" }\nspend_per_day = \"1\"");
    trunk_calls(&mut b, TRUNK, "+12025553001", "");
    let sent = b.take_request("INVITE", BRANCH);
    b.accept(&sent, "branch", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    b.acknowledge(&Leg::of_caller(udp(TRUNK), &ok), 1, "");
    b.pass(61_000);
    trunk_calls(&mut b, TRUNK, "+12025553002", "");
    assert_eq!(answer_to(&mut b, TRUNK).0, 503);
}
