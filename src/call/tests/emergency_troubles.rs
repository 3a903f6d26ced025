//! Emergency calls in trouble: acknowledgements that never come, telephones that vanish, carriers that refuse encryption, and
//! calls that must not come between.

use super::bench::{ALICE, BOB, BOB_TOO, Bench, CAROL, CONFIG, Leg, SDP, TRUNK, binding, udp, user};
use crate::{
    call::{Input, notification::Outcome},
    media::{self, Silence, SilenceCause},
    types::Flow,
    wire::sip::{Message, Name},
};

const NOTIFY: &str = "notify = [\"https://desk.example.com/hook\"]\n";

fn bench(config: &str) -> Bench {
    let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
    Bench::with_users(config, users, vec![binding("alice", ALICE), binding("bob", BOB)])
}

fn dial(b: &mut Bench, from: &str, number: &str, extra: &str) {
    let uri = format!("sip:{number}@pbx.example.com");
    let call_id = format!("{number}-{}", b.serial);
    let (tag, to) = (format!("<sip:x@pbx.example.com>;tag={call_id}"), format!("<{uri}>"));
    b.request(udp(from), ("INVITE", &uri), (&tag, &to), (&call_id, 1), (extra, SDP));
}

/// Alice's emergency call is up: her leg, and the answering point's.
fn alice_is_helped(b: &mut Bench) -> (Leg, Leg) {
    dial(b, ALICE, "911", "");
    let invite = b.take_request("INVITE", TRUNK);
    b.accept(&invite, "psap", SDP);
    b.take_request("ACK", TRUNK);
    let alice = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&alice, 1, "");
    (alice, Leg::of_callee(&invite, "psap"))
}

fn assert_goes_on(b: &mut Bench) {
    assert!(b.find_request("BYE", ALICE).is_none() && b.find_request("BYE", TRUNK).is_none(), "{}", b.told());
    assert_eq!(b.core.emergency_calls(), 1);
}

fn hang_up(mut b: Bench, alice: &Leg, cseq: u32) {
    b.within(alice, "BYE", cseq, "", "");
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

fn body(message: &Message) -> String {
    String::from_utf8_lossy(&message.body()).into_owned()
}

// In the call (section 6).

#[test]
fn a_missing_ack_takes_nobody_from_an_answering_point() {
    for (side, offer) in [("psap", SDP), ("psap", ""), ("alice", SDP), ("alice", "")] {
        let mut b = bench(CONFIG);
        let (alice, psap) = alice_is_helped(&mut b);
        let (leg, other) = if side == "psap" { (&psap, ALICE) } else { (&alice, TRUNK) };
        b.within(leg, "INVITE", 2, "", offer);
        if let Some(passed) = b.find_request("INVITE", other) {
            b.accept(&passed, "", SDP);
        }
        assert_eq!(b.take_response("INVITE", &leg.flow.remote.to_string(), 200).status(), 200);
        b.pass(40_000);
        assert_goes_on(&mut b);
        // And it can be changed and ended as ever.
        b.sent.clear();
        b.within(&psap, "INVITE", 3, "", &format!("{SDP}a=sendonly\r\n"));
        let passed = b.take_request("INVITE", ALICE);
        b.accept(&passed, "", SDP);
        assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200, "{side} {offer:?}");
        b.acknowledge(&psap, 3, "");
        hang_up(b, &alice, 4);
    }
}

#[test]
fn a_missing_ack_of_the_very_first_answer_is_no_reason_either_where_both_descriptions_are_known() {
    let mut b = bench(CONFIG);
    dial(&mut b, ALICE, "911", "");
    let invite = b.take_request("INVITE", TRUNK);
    b.accept(&invite, "psap", SDP);
    let alice = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
    b.pass(40_000);
    assert_goes_on(&mut b);
    hang_up(b, &alice, 2);
}

#[test]
fn an_unusable_description_leaves_an_emergency_call_as_it_was() {
    let mut b = bench(CONFIG);
    let (alice, psap) = alice_is_helped(&mut b);
    b.within(&psap, "INVITE", 2, "", SDP);
    let passed = b.take_request("INVITE", ALICE);
    b.accept(&passed, "", "this is no session description");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 488);
    b.within(&psap, "ACK", 2, "", "");
    b.within(&psap, "INVITE", 3, "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&psap, 3, "nor is this");
    b.pass(40_000);
    assert_goes_on(&mut b);
    hang_up(b, &alice, 2);
}

/// What the answering point asks of the telephone; its answer, or `None`.
fn asks_the_telephone(b: &mut Bench, psap: &Leg, answer: Option<u16>) {
    b.within(psap, "INFO", 2, "", "");
    let asked = b.take_request("INFO", ALICE);
    match answer {
        Some(status) => b.answer(&asked, status, "", "", ""),
        None => b.pass(33_000),
    }
}

fn alice_falls_silent(b: &mut Bench) {
    let silence = Silence { cause: SilenceCause::NoPackets, has_rtcp: false };
    let leg = b.open_legs[0];
    b.input(Input::Media(media::Event::Silent { leg, silence }));
}

#[test]
fn a_lost_telephone_frees_the_answering_point_which_calls_back() {
    for (answer, is_silent) in [(Some(481), false), (None, true)] {
        let mut b = bench(CONFIG);
        let (_, psap) = alice_is_helped(&mut b);
        // Longer than the window: it begins at the end.
        b.pass(40 * 60_000);
        if is_silent {
            alice_falls_silent(&mut b);
        }
        asks_the_telephone(&mut b, &psap, answer);
        let bye = b.take_request("BYE", TRUNK);
        b.answer(&bye, 200, "", "", "");
        assert_eq!(b.core.emergency_calls(), 0, "{answer:?}");
        b.pass(29 * 60_000);
        b.sent.clear();
        dial(&mut b, TRUNK, "+12025551001", "");
        b.take_request("INVITE", ALICE);
        b.finish();
    }
}

#[test]
fn a_telephone_that_is_heard_or_that_answers_is_not_lost_and_neither_is_a_carrier() {
    for (answer, is_silent) in [(None, false), (Some(405), true), (Some(480), true)] {
        let mut b = bench(CONFIG);
        let (alice, psap) = alice_is_helped(&mut b);
        if is_silent {
            alice_falls_silent(&mut b);
        }
        asks_the_telephone(&mut b, &psap, answer);
        assert_goes_on(&mut b);
        b.within(&alice, "INFO", 2, "", "");
        let asked = b.take_request("INFO", TRUNK);
        b.answer(&asked, 481, "", "", "");
        assert_goes_on(&mut b);
        hang_up(b, &alice, 3);
    }
}

#[test]
fn nobody_knocks_at_a_telephone_that_calls_for_help_but_the_answering_point() {
    let users = || [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
    let mut b = Bench::with_users(CONFIG, users(), vec![binding("alice", ALICE), binding("bob", BOB)]);
    alice_is_helped(&mut b);
    let trunk_dials = |b: &mut Bench, extra: &str| {
        b.sent.clear();
        dial(b, TRUNK, "+12025551001", extra);
    };
    // A callback is wanted, whether it says so or not: her line was shown to the answering point.
    trunk_dials(&mut b, "");
    b.take_request("INVITE", ALICE);
    // With a number that was not shown nobody gets through to that telephone.
    let config = CONFIG.replace(
        "[trunk.carrier]",
        "[group.all]\nextension = \"600\"\nmembers = [\"alice\"]\ndirect_line = \"+12025550160\"\n[trunk.carrier]",
    );
    let bindings =
        || vec![binding("alice", ALICE), binding("alice", CAROL), binding("bob", BOB), binding("bob", BOB_TOO)];
    let mut b = Bench::with_users(&config, users(), bindings());
    b.register(super::from_alice(1000, 1), "bob");
    alice_is_helped(&mut b);
    super::invite(&mut b, super::from_alice(1000, 1), "sip:1001@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    b.take_request("INVITE", CAROL);
    assert!(b.find_request("INVITE", ALICE).is_none(), "the one that calls for help");
    let mut b = Bench::with_users(&config, users(), vec![binding("alice", ALICE)]);
    b.register(super::from_alice(1000, 1), "bob");
    let (alice, _) = alice_is_helped(&mut b);
    let bob = super::from_alice(1000, 1).remote.to_string();
    for (number, status) in [("1001", 486), ("600", 486)] {
        super::invite(
            &mut b,
            super::from_alice(1000, 1),
            &format!("sip:{number}@pbx.example.com"),
            "<sip:bob@pbx.example.com>",
            "",
        );
        assert_eq!(b.take_response("INVITE", &bob, 200).status(), status, "{number}");
        assert!(b.find_request("INVITE", ALICE).is_none());
    }
    b.within(&alice, "BYE", 2, "", "");
    super::invite(&mut b, super::from_alice(1000, 1), "sip:1001@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    b.take_request("INVITE", ALICE);
}

// Carriers that refuse (5.3).

fn preferring(keys: &str) -> Bench {
    // The carrier's own setting, not that of the other trunk.
    let carrier = "password_file = \"unused\"\nnumbers = [\"+12025550100\"]\nencryption = ";
    let config = CONFIG.replace(&format!("{carrier}\"off\""), &format!("{carrier}\"preferred\"\n{keys}"));
    assert_ne!(config, CONFIG);
    bench(&config)
}

/// Whether an INVITE offers SRTP, and whether it has the location.
fn carries(invite: &(Flow, Message)) -> (bool, bool) {
    (body(&invite.1).contains("a=crypto"), body(&invite.1).contains("<ca:RD>Example</ca:RD>"))
}

#[test]
fn a_carrier_that_does_not_take_srtp_is_asked_for_rtp_before_the_location_is_given_up() {
    for (statuses, last) in [
        (&[488][..], (false, true)),
        (&[606], (false, true)),
        (&[488, 488], (false, false)),
        (&[488, 415], (false, false)),
        (&[424], (true, false)),
        (&[415, 488], (false, false)),
    ] {
        let mut b = preferring("");
        dial(&mut b, ALICE, "911", "");
        let mut invite = b.take_request("INVITE", TRUNK);
        assert_eq!(carries(&invite), (true, true));
        for status in statuses {
            b.answer(&invite, *status, "t", "", "");
            invite = b.take_request("INVITE", TRUNK);
        }
        assert_eq!(carries(&invite), last, "{statuses:?}");
        b.accept(&invite, "psap", SDP);
        let ok = b.take_response("INVITE", ALICE, 200);
        assert_eq!(ok.status(), 200);
        let alice = Leg::of_caller(udp(ALICE), &ok);
        b.acknowledge(&alice, 1, "");
        hang_up(b, &alice, 2);
    }
}

#[test]
fn each_trunk_is_asked_for_rtp_once_and_one_that_must_have_srtp_never() {
    let mut b = preferring("");
    dial(&mut b, ALICE, "911", "");
    let mut asked = 0;
    while let Some(invite) = b.find_request("INVITE", TRUNK) {
        b.answer(&invite, 488, "t", "", "");
        asked += 1;
    }
    assert_eq!(asked, 3, "with both, without SRTP, without either");
    let refusal = b.take_response("INVITE", ALICE, 200);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (503, "Emergency Call Not Connected"));
    b.finish();

    let carrier = "numbers = [\"+12025550100\"]\nencryption = \"off\"\npstn = true";
    let mut b = bench(&CONFIG.replace(carrier, &carrier.replace("off", "required")));
    dial(&mut b, ALICE, "911", "");
    for has_location in [true, false] {
        let invite = b.take_request("INVITE", TRUNK);
        assert_eq!(carries(&invite), (true, has_location));
        b.answer(&invite, 488, "t", "", "");
    }
    assert!(b.find_request("INVITE", TRUNK).is_none());
    b.finish();
}

#[test]
fn an_answer_whose_keys_fit_no_offer_is_followed_by_rtp() {
    let mut b = preferring("");
    dial(&mut b, ALICE, "911", "");
    let invite = b.take_request("INVITE", TRUNK);
    let line = "a=crypto:99 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";
    b.accept(&invite, "t", &format!("{SDP}{line}"));
    let bye = b.take_request("BYE", TRUNK);
    b.answer(&bye, 200, "", "", "");
    let plain = b.take_request("INVITE", TRUNK);
    assert_eq!(carries(&plain), (false, true));
    b.accept(&plain, "psap", SDP);
    let alice = Leg::of_caller(udp(ALICE), &b.take_response("INVITE", ALICE, 200));
    b.acknowledge(&alice, 1, "");
    hang_up(b, &alice, 2);
}

#[test]
fn an_ordinary_call_falls_back_to_rtp_as_well() {
    let mut b = preferring("");
    let flow = super::from_alice(1000, 1);
    b.register(flow, "alice");
    let call = |b: &mut Bench| {
        b.sent.clear();
        super::invite(b, flow, "sip:+12025550177@pbx.example.com", "<sip:alice@pbx.example.com>", "");
        b.take_request("INVITE", TRUNK)
    };
    let first = call(&mut b);
    b.answer(&first, 488, "t", "", "");
    let plain = b.take_request("INVITE", TRUNK);
    assert!(carries(&first).0 && !carries(&plain).0);
    b.answer(&plain, 488, "t", "", "");
    assert_eq!(b.take_response("INVITE", &flow.remote.to_string(), 200).status(), 488);
    let busy = call(&mut b);
    b.answer(&busy, 486, "t", "", "");
    assert!(b.find_request("INVITE", TRUNK).is_none(), "busy is no matter of encryption");
    b.finish();
}

#[test]
fn a_carrier_sees_the_callback_number_in_the_form_that_it_wants_of_every_call() {
    let keys = "register = \"on\"\ndomain = \"ims.carrier.example\"\nnumber_form = \"national\"\n";
    for (more, from) in [
        ("", "\"Example Corp\" <sip:2025551001@ims.carrier.example;user=phone>"),
        ("from = \"account\"\n", "\"Example Corp\" <sip:example-corp@ims.carrier.example>"),
    ] {
        let mut b = bench(&CONFIG.replace("[trunk.carrier]\n", &format!("[trunk.carrier]\n{keys}{more}")));
        b.sent.clear();
        dial(&mut b, ALICE, "911", "");
        let invite = b.take_request("INVITE", TRUNK).1;
        let shown = invite.header(Name::From).unwrap();
        assert_eq!(shown.split(";tag=").next(), Some(from));
        let asserted: Vec<_> = invite.values(Name::PAssertedIdentity).collect();
        let number = "\"Example Corp\" <sip:2025551001@ims.carrier.example;user=phone>";
        assert_eq!(asserted, [number, "<tel:+12025551001>"]);
    }
}

// Refusals (7.1).

/// Credentials of nobody, in answer to the challenge of an emergency call from this address.
fn fails_to_prove(b: &mut Bench, from: &str) -> u16 {
    dial(b, from, "911", "");
    let challenge = b.take_response("INVITE", from, 300);
    assert_eq!(challenge.status(), 407);
    let lines = challenge.lines(Name::ProxyAuthenticate);
    let uri = "sip:911@pbx.example.com";
    let wrong = crate::wire::sip::digest::answer(lines, "alice", "wrong", "INVITE", uri, b"", "cnonce", 1).unwrap();
    dial(b, from, "911", &format!("Proxy-Authorization: {wrong}\n"));
    b.take_response("INVITE", from, 300).status()
}

#[test]
fn a_call_refused_for_a_wrong_password_is_counted_and_told_unless_it_comes_from_anywhere() {
    let policy = format!("unauthenticated = \"deny\"\nsite_networks = [\"198.51.100.4/32\"]\n{NOTIFY}[trunk.carrier]");
    let mut b = bench(&CONFIG.replace("[trunk.carrier]", &policy));
    for (from, told) in [(CAROL, 1), ("198.51.100.66:5060", 0)] {
        b.notices.clear();
        let before = b.core.counters().emergency_refused;
        assert_eq!(fails_to_prove(&mut b, from), 403);
        assert_eq!(b.core.counters().emergency_refused, before + 1);
        assert_eq!(b.notices.iter().map(|notice| notice.outcome).collect::<Vec<_>>(), vec![Outcome::Denied; told]);
        assert!(b.cdrs.is_empty(), "no record of who is unknown");
    }
}
