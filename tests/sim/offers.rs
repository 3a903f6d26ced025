//! Calls without an offer, and sessions settled before the answer, whole: every kind of caller meets every kind of callee,
//! also over a network that loses and delays.

use ringdown::{types::Duration, wire::srtp::Suite};

use crate::{
    net::STORM,
    phone::{Answer, Call, State},
    world::{Plan, World},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80];
const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the caller says of reliable provisional responses.
const EXTRAS: [&[(&str, &str)]; 3] = [&[], &[("Supported", "100rel")], &[("Require", "100rel")]];

fn set_caller(w: &mut World, caller: usize, has_offer: bool, extra: &[(&'static str, &str)]) {
    let phone = &mut w.phones[caller];
    phone.calls_without_offer = !has_offer;
    phone.extra_headers = extra.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
}

/// Both are up and hear each other.
fn assert_talking(w: &mut World, (a, ac): (usize, usize), b: usize) {
    w.until("both to be up", s(90), |w| {
        let is_talking = |call: &Call| call.state == State::Up && call.voice.is_settled();
        w.state(a, ac) == State::Up && w.phones[b].live_calls().any(|(_, call)| is_talking(call))
    });
    w.run(s(4));
    let bc = w.phones[b].live_calls().map(|(i, _)| i).last().expect("it is up");
    let id =
        |w: &World, phone: usize, call: usize| (w.phones[phone].profile.id, u32::try_from(call).expect("few calls"));
    let heard = |phone: usize, call: usize, of| w.phones[phone].calls[call].voice.heard_from(of);
    let (by_a, by_b) = (heard(a, ac, id(w, b, bc)), heard(b, bc, id(w, a, ac)));
    assert!(by_a > 10 && by_b > 10, "heard {by_a} and {by_b} packets");
}

/// One call of each kind of caller to each kind of callee.
fn everyone_calls(seed: u64, in_storm: bool, mut prepare: impl FnMut(u64) -> (World, usize, usize, String)) {
    let kinds = EXTRAS.into_iter().flat_map(|extra| [(extra, true), (extra, false)]);
    let kinds = kinds.flat_map(|(extra, has_offer)| [(extra, has_offer, false), (extra, has_offer, true)]);
    for (seed, (extra, has_offer, settles_early)) in (seed..).zip(kinds) {
        let (mut w, a, b, number) = prepare(seed);
        w.note(&format!("{extra:?}, offer {has_offer}, early {settles_early}"));
        set_caller(&mut w, a, has_offer, extra);
        w.phones[b].settles_early = settles_early;
        if in_storm {
            w.net.weather = STORM;
        }
        let ac = w.dial(a, &number);
        assert_talking(&mut w, (a, ac), b);
        w.hang_up(if seed % 2 == 0 { a } else { b }, if seed % 2 == 0 { ac } else { 0 });
        w.run(s(40));
        assert!(matches!(w.state(a, ac), State::Ended(_)) && matches!(w.state(b, 0), State::Ended(_)));
        assert_eq!(w.server.store.cdrs.len(), 1);
        assert!(w.server.store.cdrs[0].answer_ms.is_some());
        w.finish();
    }
}

fn phones(seed: u64) -> (World, usize, usize, String) {
    let mut w = World::new(&Plan::new(seed));
    let (a, b) = (w.registered(1, CM), w.registered(2, GCM));
    (w, a, b, "1002".to_owned())
}

#[test]
fn every_kind_of_caller_reaches_every_kind_of_callee() {
    everyone_calls(6000, false, phones);
}

#[test]
fn every_kind_of_caller_reaches_every_kind_of_callee_in_a_storm() {
    for round in 0..5 {
        everyone_calls(6100 + 20 * round, true, phones);
    }
}

#[test]
fn trunks_call_and_are_called_in_every_way() {
    everyone_calls(6300, false, |seed| {
        let mut w = World::new(&Plan::with_trunk(seed));
        let (a, trunk) = (w.registered(1, GCM), w.trunk(Answer::After(s(1))));
        (w, a, trunk, "+14155550123".to_owned())
    });
    everyone_calls(6400, false, |seed| {
        let mut w = World::new(&Plan::with_trunk(seed));
        let (b, trunk) = (w.registered(1, GCM), w.trunk(Answer::Ring));
        (w, trunk, b, "+12025551001".to_owned())
    });
}

#[test]
fn emergency_calls_are_connected_whatever_the_caller_offers_or_requires() {
    everyone_calls(6500, false, |seed| {
        let mut w = World::new(&Plan::with_trunk(seed));
        let (a, trunk) = (w.registered(1, CM), w.trunk(Answer::After(s(1))));
        (w, a, trunk, "911".to_owned())
    });
}

#[test]
fn of_several_phones_that_settle_early_the_one_that_answers_talks() {
    for (seed, has_offer) in (6600..6620).zip([true, false].into_iter().cycle()) {
        let mut w = World::new(&Plan::new(seed));
        let a = w.registered(1, CM);
        let [refusing, slow, fast] = [CM, GCM, GCM].map(|suites| w.registered(2, suites));
        for phone in [refusing, slow, fast] {
            w.phones[phone].settles_early = true;
        }
        w.phones[refusing].profile.answer = Answer::Ring;
        w.phones[slow].profile.answer = Answer::After(s(9));
        w.phones[fast].profile.answer = Answer::After(s(4));
        set_caller(&mut w, a, has_offer, EXTRAS[1]);
        let ac = w.dial(a, "1002");
        w.run(s(2));
        w.hang_up(refusing, 0);
        assert_talking(&mut w, (a, ac), fast);
        assert!(matches!(w.state(slow, 0), State::Ended(487)), "{:?}", w.state(slow, 0));
        w.hang_up(a, ac);
        w.run(s(5));
        w.finish();
    }
}

#[test]
fn a_caller_that_gives_up_before_or_after_it_has_acknowledged_leaves_nothing() {
    for (seed, wait_ms) in (6700..).zip((0..1_600).step_by(50)) {
        for has_offer in [true, false] {
            let (mut w, a, b, number) = phones(seed);
            w.phones[b].settles_early = true;
            w.phones[b].profile.answer = Answer::After(Duration::from_millis(700));
            set_caller(&mut w, a, has_offer, EXTRAS[1]);
            let ac = w.dial(a, &number);
            w.run(Duration::from_millis(wait_ms));
            w.hang_up(a, ac);
            w.run(s(40));
            assert!(w.phones[a].live_calls().next().is_none() && w.phones[b].live_calls().next().is_none());
            w.finish();
        }
    }
}

#[test]
fn a_caller_that_is_cut_off_before_its_prack_or_ack_ends_the_call_on_the_other_side() {
    for (seed, has_offer) in (6800..).zip([true, false]) {
        for settles_early in [true, false] {
            let (mut w, a, b, number) = phones(seed);
            w.phones[b].settles_early = settles_early;
            set_caller(&mut w, a, has_offer, EXTRAS[1]);
            w.dial(a, &number);
            w.until("Bob to ring", s(5), |w| !w.phones[b].calls.is_empty());
            let until = w.now + s(100);
            w.net.cut_off(w.phones[a].profile.ip, until);
            w.run(s(70));
            assert!(matches!(w.state(b, 0), State::Ended(_)), "{:?}", w.state(b, 0));
            assert_eq!(w.server.core.live_calls(), 0);
            w.net.heal();
            w.run(s(40));
            w.finish();
        }
    }
}
