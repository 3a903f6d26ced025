//! Transfers among phones that hear each other.

use ringdown::{
    call::cdr::EndedBy,
    types::{Duration, Transport},
    wire::srtp::Suite,
};

use crate::{
    net::STORM,
    phone::{Answer, State},
    world::{Plan, World},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80];
const CM256: &[Suite] = &[Suite::AesCm256HmacSha1_80];
const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Three registered phones with three suites.
fn three(plan: &Plan) -> (World, [usize; 3]) {
    let mut w = World::new(plan);
    let phones = [w.registered(1, CM), w.registered(2, GCM), w.registered(3, CM256)];
    (w, phones)
}

fn heard(w: &World, (to, call): (usize, usize), (from, of): (usize, usize)) -> usize {
    let speaker = (w.phones[from].profile.id, u32::try_from(of).expect("few calls"));
    w.phones[to].calls[call].voice.heard_from(speaker)
}

/// Each hears the other, and whoever is third hears neither any more.
fn assert_talking(w: &mut World, a: (usize, usize), b: (usize, usize)) {
    let before = (heard(w, a, b), heard(w, b, a));
    w.run(s(2));
    let after = (heard(w, a, b), heard(w, b, a));
    assert!(after.0 > before.0 + 15 && after.1 > before.1 + 15, "heard {before:?}, two seconds later {after:?}");
}

fn until_up(w: &mut World, phone: usize) -> usize {
    w.until("the target to answer", s(30), |w| w.phones[phone].live_calls().any(|(_, c)| c.state == State::Up));
    w.phones[phone].live_calls().last().expect("it is up").0
}

fn until_ended(w: &mut World, phone: usize, call: usize) {
    w.until("the transferor to be released", s(60), |w| matches!(w.state(phone, call), State::Ended(_)));
}

fn news(w: &World, phone: usize, call: usize) -> Vec<&str> {
    w.phones[phone].calls[call].news.iter().map(String::as_str).collect()
}

#[test]
fn whoever_is_transferred_by_its_callee_or_its_caller_hears_the_target_and_is_heard() {
    for (seed, is_by_caller) in [(600, true), (601, false)] {
        let (mut w, [a, b, c]) = three(&Plan::new(seed));
        let (ac, bc) = w.connect(a, "1002", b);
        let ((transferor, call), party) = if is_by_caller { ((a, ac), (b, bc)) } else { ((b, bc), (a, ac)) };
        w.act(transferor, |p, now| p.hold(now, call, true));
        w.run(s(2));
        w.act(transferor, |p, now| p.transfer(now, call, "1003"));
        let cc = until_up(&mut w, c);
        until_ended(&mut w, transferor, call);
        assert_eq!(w.phones[transferor].calls[call].refer_status, Some(202));
        assert_eq!(news(&w, transferor, call), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
        assert_talking(&mut w, party, (c, cc));
        assert_eq!(heard(&w, (c, cc), (transferor, call)), 0);
        // The new call is a call like any other.
        w.act(c, |p, now| p.hold(now, cc, true));
        w.run(s(2));
        w.act(c, |p, now| p.hold(now, cc, false));
        w.run(s(2));
        assert_talking(&mut w, party, (c, cc));
        w.hang_up(c, cc);
        until_ended(&mut w, party.0, party.1);
        w.run(s(2));
        let ends: Vec<_> = w.server.store.cdrs.iter().map(|cdr| cdr.ended_by).collect();
        assert_eq!(ends, [EndedBy::Transfer, EndedBy::Callee]);
        let second = &w.server.store.cdrs[1];
        assert!(second.a.as_ref().is_some_and(|leg| leg.packets_received > 40), "{second:?}");
        w.finish();
    }
}

#[test]
fn a_transferor_that_hangs_up_at_once_leaves_the_party_to_its_target() {
    let (mut w, [a, b, c]) = three(&Plan::new(602));
    let (ac, bc) = w.connect(a, "1002", b);
    w.act(b, |p, now| p.transfer(now, bc, "1003"));
    w.run(Duration::from_millis(200));
    w.hang_up(b, bc);
    let cc = until_up(&mut w, c);
    assert_talking(&mut w, (a, ac), (c, cc));
    assert_eq!(news(&w, b, bc).last(), Some(&"SIP/2.0 200 OK"));
    w.finish();
}

#[test]
fn a_transfer_to_a_busy_phone_leaves_everybody_where_they_were() {
    let (mut w, [a, b, c]) = three(&Plan::new(603));
    w.phones[c].profile.answer = Answer::Refuse(486);
    let (ac, bc) = w.connect(a, "1002", b);
    w.act(b, |p, now| p.transfer(now, bc, "1003"));
    w.run(s(3));
    assert_eq!(news(&w, b, bc).last(), Some(&"SIP/2.0 486 Busy Here"));
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn the_other_parties_of_two_calls_hear_each_other_whichever_side_they_called_from() {
    for (seed, first_calls, second_calls) in
        [(610, true, true), (611, true, false), (612, false, true), (613, false, false)]
    {
        let (mut w, [a, b, c]) = three(&Plan::new(seed));
        let connect = |w: &mut World, calls: bool, whom: &str, other: usize| {
            if calls {
                w.connect(a, whom, other)
            } else {
                let (oc, ac) = w.connect(other, "1001", a);
                (ac, oc)
            }
        };
        let (first, bc) = connect(&mut w, first_calls, "1002", b);
        w.act(a, |p, now| p.hold(now, first, true));
        w.run(s(2));
        let (second, cc) = connect(&mut w, second_calls, "1003", c);
        w.run(s(2));
        let keys = |w: &World| (w.phones[b].calls[bc].voice.contexts_made, w.phones[c].calls[cc].voice.contexts_made);
        let before = keys(&w);
        w.act(a, |p, now| p.join(now, first, second));
        until_ended(&mut w, a, first);
        until_ended(&mut w, a, second);
        w.run(s(2));
        assert_eq!(news(&w, a, first), ["SIP/2.0 100 Trying", "SIP/2.0 200 OK"]);
        assert_talking(&mut w, (b, bc), (c, cc));
        assert_eq!(keys(&w), before, "the keys changed");
        w.hang_up(b, bc);
        until_ended(&mut w, c, cc);
        w.finish();
    }
}

#[test]
fn calls_whose_media_is_on_different_workers_are_joined_under_new_keys() {
    let mut w = World::new(&Plan::new(620));
    let phones: Vec<usize> = (1..=5).map(|n| w.registered(n, CM)).collect();
    let [a, b, c, d, e] = phones[..] else { unreachable!("five phones") };
    // b is busy on one worker, d on the other, when each calls a.
    w.connect(b, "1005", e);
    let (first, bc) = {
        let (bc, first) = w.connect(b, "1001", a);
        (first, bc)
    };
    w.connect(d, "1003", c);
    let (dc, second) = w.connect(d, "1001", a);
    w.run(s(1));
    let before = w.phones[b].calls[bc].voice.contexts_made;
    w.act(a, |p, now| p.join(now, first, second));
    until_ended(&mut w, a, second);
    w.run(s(2));
    assert_talking(&mut w, (b, bc), (d, dc));
    assert!(w.phones[b].calls[bc].voice.contexts_made > before, "both were on one worker: the test proves nothing");
    w.finish();
}

#[test]
fn a_call_moves_to_another_phone_of_its_user() {
    let (mut w, [a, b, _]) = three(&Plan::new(630));
    let (ac, bc) = w.connect(a, "1002", b);
    let other = w.phone(2, Transport::Tls, CM256);
    w.register(other);
    let replaces = w.phones[b].replaces(bc);
    let oc = w.act(other, |p, now| p.take_over(now, &replaces));
    until_ended(&mut w, b, bc);
    assert_eq!(w.state(other, oc), State::Up);
    assert_talking(&mut w, (a, ac), (other, oc));
    w.finish();
}

#[test]
fn transfers_in_a_storm_end_with_two_who_talk_or_with_nobody() {
    for seed in 640..670 {
        let (mut w, [a, b, c]) = three(&Plan::new(seed));
        let (ac, bc) = w.connect(a, "1002", b);
        w.net.weather = STORM;
        if seed % 2 == 0 {
            w.act(a, |p, now| p.transfer(now, ac, "1003"));
        } else {
            let second = w.dial(a, "1003");
            w.run(s(10));
            w.act(a, |p, now| p.join(now, ac, second));
        }
        w.run(Duration::from_millis(seed * 37 % 1_500));
        if seed % 3 == 0 {
            w.hang_up(a, ac);
        }
        w.run(s(40));
        w.net.heal();
        w.run(s(100));
        let up = |w: &World, phone: usize| w.phones[phone].live_calls().filter(|(_, c)| c.state == State::Up).count();
        let ends = [up(&w, a), up(&w, b), up(&w, c)];
        let answered = w.server.core.calls().iter().filter(|c| c.state == "answered").count();
        assert_eq!(ends.iter().sum::<usize>(), 2 * answered, "seed {seed}: {ends:?} and {answered} calls");
        if ends == [0, 1, 1] {
            let cc = w.phones[c].live_calls().last().expect("it is up").0;
            assert_talking(&mut w, (b, bc), (c, cc));
        }
        w.finish();
    }
}
