//! One test per call flow. Each ends with [`World::finish`]: nothing left anywhere.

use std::net::SocketAddr;

use ringdown::{
    call::cdr::EndedBy,
    config::Directory,
    types::{DropReason, Duration, Transport},
    wire::{
        sip::{Message, Name},
        srtp::Suite,
    },
};

use crate::{
    net::{STORM, Weather},
    phone::{Answer, Registration, State},
    trunk,
    voice::{self, Voice},
    world::{COMPANY_ADDRESS, Plan, SERVER_IP, SIP, World, user},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];
const CM256: &[Suite] = &[Suite::AesCm256HmacSha1_80];
const GCM: &[Suite] = &[Suite::AeadAes256Gcm, Suite::AeadAes128Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Two registered phones.
fn pair(seed: u64) -> (World, usize, usize) {
    let mut w = World::new(&Plan::new(seed));
    let a = w.registered(1, CM);
    let b = w.registered(2, GCM);
    (w, a, b)
}

fn voice_of(w: &World, phone: usize, call: usize) -> &Voice {
    &w.phones[phone].calls[call].voice
}

/// How many different packets of the other each heard: (a of b, b of a).
fn heard(w: &World, (a, ac): (usize, usize), (b, bc): (usize, usize)) -> (usize, usize) {
    let id = |phone: usize, call: usize| (w.phones[phone].profile.id, u32::try_from(call).expect("few calls"));
    (voice_of(w, a, ac).heard_from(id(b, bc)), voice_of(w, b, bc).heard_from(id(a, ac)))
}

fn assert_talking(w: &mut World, a: (usize, usize), b: (usize, usize)) {
    let before = heard(w, a, b);
    w.run(s(2));
    let after = heard(w, a, b);
    assert!(after.0 > before.0 + 15 && after.1 > before.1 + 15, "heard {before:?}, two seconds later {after:?}");
}

fn final_status(w: &World, phone: usize, call: usize) -> u16 {
    w.response(phone, call).status()
}

fn until_ended(w: &mut World, phone: usize, call: usize) {
    w.until("the call to end", s(250), |w| matches!(w.state(phone, call), State::Ended(_)));
}

#[test]
fn a_call_carries_every_payload_both_ways_with_other_keys_and_suites_on_each_leg() {
    let (mut w, a, b) = pair(1);
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    assert_eq!(voice_of(&w, a, ac).suite, CM[0].name());
    assert_eq!(voice_of(&w, b, bc).suite, GCM[0].name());
    assert!(voice_of(&w, a, ac).reports_heard > 0, "no RTCP at the caller");
    assert!(voice_of(&w, b, bc).reports_heard > 0, "no RTCP at the callee");
    w.hang_up(a, ac);
    until_ended(&mut w, b, bc);
    assert!(w.phones[b].calls[bc].ended_by_peer);
    w.run(s(5));
    let cdr = w.server.store.cdrs.first().expect("a CDR").clone();
    assert_eq!(w.server.store.cdrs.len(), 1);
    assert_eq!(cdr.ended_by, EndedBy::Caller);
    assert_eq!(cdr.status, 200);
    let (la, lb) = (cdr.a.expect("the caller's leg"), cdr.b.expect("the callee's leg"));
    assert_eq!((la.suite.as_str(), lb.suite.as_str()), (CM[0].name(), GCM[0].name()));
    assert!(la.packets_received > 15 && lb.packets_received > 15, "{la:?} {lb:?}");
    assert!(la.packets_sent > 15 && lb.packets_sent > 15, "{la:?} {lb:?}");
    assert_eq!(la.packets_refused + lb.packets_refused, 0);
    w.finish();
}

#[test]
fn a_call_goes_on_when_sequence_numbers_roll_over() {
    for (seed, suite) in (200..).zip(Suite::ALL) {
        let mut w = World::new(&Plan::new(seed));
        let a = w.registered(1, &[suite]);
        let b = w.registered(2, &[suite]);
        // The first call of phone 0 and the second of phone 1 start close to the end of the sequence space.
        for _ in 0..2 {
            let (ac, bc) = w.connect(a, "1002", b);
            w.run(s(30));
            assert_talking(&mut w, (a, ac), (b, bc));
            let (a_heard, b_heard) = heard(&w, (a, ac), (b, bc));
            assert!(a_heard > 310 && b_heard > 310, "{a_heard} and {b_heard} of about 320 packets heard");
            w.hang_up(a, ac);
            until_ended(&mut w, b, bc);
        }
        w.finish();
    }
}

#[test]
fn every_suite_meets_every_other() {
    for (seed, one) in (100..).zip(Suite::ALL) {
        let mut w = World::new(&Plan::new(seed));
        let a = w.registered(1, &[one]);
        for (n, other) in (2..).zip(Suite::ALL) {
            let b = w.registered(n, &[other]);
            let (ac, bc) = w.connect(a, &format!("{}", 1000 + n), b);
            assert_talking(&mut w, (a, ac), (b, bc));
            w.hang_up(b, bc);
            until_ended(&mut w, a, ac);
        }
        w.finish();
    }
}

#[test]
fn tcp_and_tls_phones_call_each_other() {
    let mut w = World::new(&Plan::new(2));
    let a = w.phone(1, Transport::Tcp, CM);
    let b = w.phone(2, Transport::Tls, CM256);
    w.register(a);
    w.register(b);
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.hang_up(b, bc);
    until_ended(&mut w, a, ac);
    let (bc, ac) = w.connect(b, "1001", a);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn a_phone_whose_connection_broke_is_not_called_before_it_is_back() {
    let mut w = World::new(&Plan::new(3));
    let a = w.registered(1, CM);
    let b = w.phone(2, Transport::Tcp, CM);
    w.register(b);
    let connection = w.phones[b].connection.expect("a connection");
    w.net.cut(w.now, connection);
    w.run(ms(100));
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 480);
    w.run(s(5));
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn a_caller_whose_connection_breaks_is_not_rung_for_any_longer() {
    let mut w = World::new(&Plan::new(32));
    let a = w.phone(1, Transport::Tls, CM);
    w.register(a);
    let b = w.registered(2, CM);
    w.phones[b].profile.answer = Answer::Ring;
    w.dial(a, "1002");
    w.run(s(3));
    let connection = w.phones[a].connection.expect("a connection");
    w.net.cut(w.now, connection);
    w.run(ms(500));
    assert_eq!(w.state(b, 0), State::Ended(487), "the callee still rings");
    w.finish();
}

#[test]
fn a_cancelled_call_stops_ringing_and_is_487_to_the_caller() {
    let (mut w, a, b) = pair(4);
    w.phones[b].profile.answer = Answer::Ring;
    let ac = w.dial(a, "1002");
    w.run(s(3));
    assert_eq!(w.state(a, ac), State::Ringing);
    w.hang_up(a, ac);
    w.run(s(2));
    assert_eq!(w.state(a, ac), State::Ended(487));
    assert_eq!(w.state(b, 0), State::Ended(487));
    assert!(w.phones[b].calls[0].ended_by_peer);
    assert_eq!(w.server.store.cdrs.len(), 1);
    assert_eq!(w.server.store.cdrs[0].answer_ms, None);
    assert_eq!(w.server.store.cdrs[0].ended_by, EndedBy::Caller);
    w.finish();
}

#[test]
fn a_cancel_that_crosses_the_answer_leaves_no_half_call() {
    for offset in 0..40 {
        let mut w = World::new(&Plan::new(1000 + offset));
        w.net.weather = Weather { lost_per_mille: 0, doubled_per_mille: 0, delay_ms_min: 5, delay_ms_max: 30 };
        let a = w.registered(1, CM);
        let b = w.registered(2, CM);
        w.phones[b].profile.answer = Answer::After(ms(1000));
        let ac = w.dial(a, "1002");
        // The answer leaves the callee at about 1030 ms; the CANCEL leaves the caller between 960 and 1160.
        w.run(ms(960 + 5 * offset));
        w.hang_up(a, ac);
        w.run(s(10));
        assert!(matches!(w.state(a, ac), State::Ended(_)), "offset {offset}: {:?}", w.state(a, ac));
        assert!(matches!(w.state(b, 0), State::Ended(_)), "offset {offset}: {:?}", w.state(b, 0));
        assert_eq!(w.server.store.cdrs.len(), 1, "offset {offset}");
        w.finish();
    }
}

#[test]
fn a_call_rings_every_contact_and_the_first_answer_wins() {
    let mut w = World::new(&Plan::new(5));
    let a = w.registered(1, CM);
    let slow = w.registered(2, CM);
    let fast = w.registered(2, GCM);
    w.phones[slow].profile.answer = Answer::After(s(5));
    w.phones[fast].profile.answer = Answer::After(s(2));
    let (ac, bc) = w.connect(a, "1002", fast);
    w.run(s(5));
    assert_eq!(w.state(slow, 0), State::Ended(487), "the slow phone was cancelled");
    assert!(!w.phones[slow].calls[0].was_answered);
    assert_talking(&mut w, (a, ac), (fast, bc));
    assert!(voice_of(&w, slow, 0).heard.is_empty(), "the loser heard something");
    w.hang_up(fast, bc);
    until_ended(&mut w, a, ac);
    w.run(s(3));
    assert_eq!(w.server.store.cdrs.len(), 1);
    assert_eq!(w.server.store.cdrs[0].ended_by, EndedBy::Callee);
    w.finish();
}

#[test]
fn two_contacts_that_answer_at_once_leave_one_call() {
    for seed in 0..20 {
        let mut w = World::new(&Plan::new(2000 + seed));
        w.net.weather = Weather { lost_per_mille: 0, doubled_per_mille: 0, delay_ms_min: 2, delay_ms_max: 60 };
        let a = w.registered(1, CM);
        let b = w.registered(2, CM);
        let c = w.registered(2, CM);
        let ac = w.dial(a, "1002");
        w.run(s(10));
        assert_eq!(w.state(a, ac), State::Up);
        let up: Vec<usize> = [b, c].into_iter().filter(|p| w.state(*p, 0) == State::Up).collect();
        let [winner] = up[..] else { panic!("seed {seed}: up are {up:?}") };
        assert_talking(&mut w, (a, ac), (winner, 0));
        w.finish();
    }
}

#[test]
fn a_busy_contact_does_not_end_a_fork_and_busy_everywhere_is_486() {
    let mut w = World::new(&Plan::new(6));
    let a = w.registered(1, CM);
    let b = w.registered(2, CM);
    let c = w.registered(2, CM);
    w.phones[b].profile.answer = Answer::Refuse(486);
    let (ac, cc) = w.connect(a, "1002", c);
    assert_talking(&mut w, (a, ac), (c, cc));
    w.hang_up(a, ac);
    w.run(s(2));
    w.phones[c].profile.answer = Answer::Refuse(486);
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 486);
    w.finish();
}

#[test]
fn refusals_reach_the_caller_as_they_were_given() {
    let (mut w, a, b) = pair(7);
    for status in [480, 486, 603] {
        w.phones[b].profile.answer = Answer::Refuse(status);
        let ac = w.dial(a, "1002");
        until_ended(&mut w, a, ac);
        assert_eq!(final_status(&w, a, ac), status);
    }
    w.finish();
}

#[test]
fn a_phone_that_is_switched_off_is_not_waited_for_longer_than_a_transaction() {
    let (mut w, a, b) = pair(8);
    w.phones[b].profile.answer = Answer::Silent;
    let until = w.now + s(200);
    w.net.cut_off(w.phones[b].profile.ip, until);
    let ac = w.dial(a, "1002");
    let began = w.now;
    until_ended(&mut w, a, ac);
    assert!(matches!(final_status(&w, a, ac), 408 | 480), "{}", final_status(&w, a, ac));
    assert!(w.now.since(began) < s(40), "it took {:?}", w.now.since(began));
    w.net.heal();
    w.finish();
}

#[test]
fn a_call_that_nobody_answers_ends_with_408() {
    let (mut w, a, b) = pair(9);
    w.phones[b].profile.answer = Answer::Ring;
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 408);
    w.run(s(1));
    assert_eq!(w.state(b, 0), State::Ended(487), "the phone still rings");
    w.finish();
}

#[test]
fn an_unknown_number_is_404_and_a_user_without_a_phone_480() {
    let (mut w, a, _) = pair(10);
    for (dialled, status) in [("1777", 404), ("nobody", 404), ("1005", 480), ("u5", 480)] {
        let ac = w.dial(a, dialled);
        until_ended(&mut w, a, ac);
        assert_eq!(final_status(&w, a, ac), status, "{dialled}");
    }
    w.finish();
}

#[test]
fn both_may_hang_up_at_once() {
    let (mut w, a, b) = pair(11);
    let (ac, bc) = w.connect(a, "1002", b);
    w.run(s(1));
    w.hang_up(a, ac);
    w.hang_up(b, bc);
    w.run(s(5));
    assert_eq!(w.server.store.cdrs.len(), 1);
    w.finish();
}

#[test]
fn hold_silences_the_held_side_and_resume_goes_on_with_the_same_keys() {
    let (mut w, a, b) = pair(12);
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    for _ in 0..2 {
        w.act(a, |p, now| p.hold(now, ac, true));
        w.run(s(2));
        assert_eq!(w.phones[a].calls[ac].reinvite_status, Some(200));
        let before = heard(&w, (a, ac), (b, bc));
        w.run(s(3));
        assert_eq!(heard(&w, (a, ac), (b, bc)).0, before.0, "the holder hears the held side");
        w.act(a, |p, now| p.hold(now, ac, false));
        w.run(s(2));
        assert_eq!(w.phones[a].calls[ac].reinvite_status, Some(200));
        assert_talking(&mut w, (a, ac), (b, bc));
    }
    for (phone, call) in [(a, ac), (b, bc)] {
        assert_eq!(voice_of(&w, phone, call).contexts_made, 2, "keys changed on hold");
    }
    // The callee may hold as well.
    w.act(b, |p, now| p.hold(now, bc, true));
    w.run(s(2));
    assert_eq!(w.phones[b].calls[bc].reinvite_status, Some(200));
    w.act(b, |p, now| p.hold(now, bc, false));
    w.run(s(2));
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn holds_that_cross_are_settled_by_491() {
    for seed in 0..10 {
        let (mut w, a, b) = pair(3000 + seed);
        let (ac, bc) = w.connect(a, "1002", b);
        w.run(s(1));
        w.act(a, |p, now| p.hold(now, ac, true));
        w.act(b, |p, now| p.hold(now, bc, true));
        w.run(s(20));
        for (phone, call) in [(a, ac), (b, bc)] {
            assert_eq!(w.phones[phone].calls[call].reinvite_status, Some(200));
            assert_eq!(w.state(phone, call), State::Up);
        }
        w.act(a, |p, now| p.hold(now, ac, false));
        w.run(s(10));
        w.act(b, |p, now| p.hold(now, bc, false));
        w.run(s(10));
        assert_talking(&mut w, (a, ac), (b, bc));
        w.finish();
    }
}

#[test]
fn a_storm_delays_a_call_and_nothing_else() {
    for seed in 0..10 {
        let mut w = World::new(&Plan::new(4000 + seed));
        w.net.weather = STORM;
        let a = w.registered(1, CM);
        let b = w.registered(2, GCM);
        let (ac, bc) = w.connect(a, "1002", b);
        w.run(s(10));
        let (a_heard, b_heard) = heard(&w, (a, ac), (b, bc));
        assert!(a_heard > 40 && b_heard > 40, "seed {seed}: {a_heard} and {b_heard} of about 100 heard");
        w.hang_up(b, bc);
        w.run(s(40));
        assert!(matches!(w.state(a, ac), State::Ended(_)));
        w.run(s(40));
        assert_eq!(w.server.store.cdrs.len(), 1);
        w.finish();
    }
}

#[test]
fn bindings_survive_a_crash_and_calls_do_not_haunt_the_new_server() {
    let (mut w, a, b) = pair(13);
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.crash();
    assert_eq!(w.server.core.bindings().len(), 2);
    let [cut] = &w.server.store.cdrs[..] else { panic!("{:?}", w.server.store.cdrs) };
    assert!(cut.ended_by == EndedBy::Interrupted && cut.answer_ms.is_some(), "{cut:?}");
    let before = heard(&w, (a, ac), (b, bc));
    w.run(s(3));
    assert_eq!(
        heard(&w, (a, ac), (b, bc)),
        before,
        "the old call's media is relayed by a server that has no such call"
    );
    w.hang_up(a, ac);
    w.hang_up(b, bc);
    w.run(s(5));
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn connections_end_with_a_crash_and_phones_on_them_come_back() {
    let mut w = World::new(&Plan::new(14));
    let a = w.registered(1, CM);
    let b = w.phone(2, Transport::Tls, CM);
    w.register(b);
    w.crash();
    w.run(s(10));
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

#[test]
fn a_binding_ends_when_it_is_not_refreshed_and_when_it_is_removed() {
    let (mut w, a, b) = pair(15);
    w.phones[b].refreshes = false;
    w.act(b, |p, now| p.register(now, 60));
    w.run(s(50));
    let (ac, _) = w.connect(a, "1002", b);
    w.hang_up(a, ac);
    w.run(s(20));
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 480);
    w.register(b);
    w.act(b, |p, now| p.unregister(now));
    w.run(s(2));
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 480);
    w.finish();
}

#[test]
fn a_wrong_password_registers_nothing() {
    let mut w = World::new(&Plan::new(16));
    let a = w.registered(1, CM);
    let b = w.phone(2, Transport::Udp, CM);
    w.phones[b].profile.password = Some("guessed".to_owned());
    w.phones[b].refreshes = false;
    w.act(b, |p, now| p.register(now, 600));
    w.run(s(5));
    assert!(matches!(w.phones[b].registration, Registration::Refused(401 | 403)), "{:?}", w.phones[b].registration);
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 480);
    assert!(w.server.core.counters().registrations_refused > 0);
    w.phones[b].profile.password = None;
    w.finish();
}

#[test]
fn a_user_who_was_removed_is_neither_called_nor_served() {
    let (mut w, a, b) = pair(17);
    w.server.set_directory(w.now, &mut w.net, Directory::new((3..=9).chain([1]).map(user)));
    w.run(s(1));
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 404);
    let bc = w.dial(b, "1001");
    w.run(s(10));
    assert_eq!(w.phones[a].calls.len(), 1, "the removed user reached a phone");
    assert!(matches!(w.state(b, bc), State::Ended(400..)));
    w.phones[b].profile.password = None;
    w.finish();
}

#[test]
fn a_draining_server_keeps_its_calls_and_takes_no_new_one() {
    let (mut w, a, b) = pair(18);
    let c = w.registered(3, CM);
    let (ac, bc) = w.connect(a, "1002", b);
    w.server.drain(w.now, &mut w.net);
    let cc = w.dial(c, "1001");
    until_ended(&mut w, c, cc);
    assert_eq!(final_status(&w, c, cc), 503);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.hang_up(b, bc);
    until_ended(&mut w, a, ac);
    w.finish();
}

#[test]
fn a_call_without_a_free_port_is_503_with_retry_after_and_the_next_one_works() {
    let mut w = World::new(&Plan::new(19).media("20000-20003", 1));
    let a = w.registered(1, CM);
    let b = w.registered(2, CM);
    let c = w.registered(3, CM);
    let (ac, bc) = w.connect(a, "1002", b);
    let cc = w.dial(c, "1001");
    until_ended(&mut w, c, cc);
    let refusal = w.response(c, cc);
    assert_eq!(refusal.status(), 503);
    assert!(refusal.header(Name::RetryAfter).is_some_and(|v| v.parse::<u32>().is_ok()), "no Retry-After");
    assert_talking(&mut w, (a, ac), (b, bc));
    w.hang_up(a, ac);
    w.run(s(5));
    let (cc, ac) = w.connect(c, "1001", a);
    assert_talking(&mut w, (c, cc), (a, ac));
    w.finish();
}

#[test]
fn a_call_whose_ports_cannot_be_bound_fails_with_an_answer() {
    let mut w = World::new(&Plan::new(20));
    w.server.sockets.occupied = |_| true;
    let (a, b) = (w.registered(1, CM), w.registered(2, GCM));
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert!(matches!(w.state(a, ac), State::Ended(500..=599)) || w.phones[a].calls[ac].ended_by_peer);
    w.run(s(5));
    assert!(w.phones[b].live_calls().next().is_none(), "the callee is left behind");
    w.server.sockets.occupied = |_| false;
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    w.finish();
}

/// Also those that another process takes after they were found to be free.
#[test]
fn no_call_dies_of_media_ports_that_another_process_has() {
    let mut w = World::new(&Plan::new(23));
    w.server.sockets.occupied = |port| port % 4 == 0;
    let (a, b) = (w.registered(1, CM), w.registered(2, GCM));
    for round in 0..40 {
        if round == 20 {
            w.server.sockets.occupied = |port| port % 4 == 2;
        }
        let (ac, bc) = w.connect(a, "1002", b);
        assert_talking(&mut w, (a, ac), (b, bc));
        w.hang_up(a, ac);
        w.run(s(5));
    }
    w.finish();
}

#[test]
fn an_offer_without_encryption_is_488_with_a_warning() {
    let mut w = World::new(&Plan::new(21));
    let a = w.registered(1, &[]);
    let b = w.registered(2, CM);
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 488);
    assert!(w.response(a, ac).header(Name::Warning).is_some(), "no Warning");
    assert!(w.phones[b].calls.is_empty(), "the callee was rung");
    w.finish();
}

#[test]
fn a_message_with_a_fault_is_400_with_its_name_and_noise_is_dropped() {
    let mut w = World::new(&Plan::new(22));
    let stranger: SocketAddr = "198.51.100.200:5060".parse().expect("an address");
    let message = "OPTIONS sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.200;branch=z9hG4bK1\r\n\
                   Max-Forwards: 70\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:pbx.example.com>\r\nCSeq: 1 OPTIONS\r\n\
                   Content-Length: 0\r\n\r\n";
    w.inject(stranger, SIP, message.as_bytes());
    w.run(s(1));
    assert!(w.strays.is_empty(), "more was sent to the stranger than came from it");
    w.inject(stranger, SIP, message.as_bytes());
    w.run(s(1));
    let answer = Message::parse(w.strays.pop().expect("an answer").1).expect("a message");
    assert_eq!(answer.status(), 400);
    assert!(answer.reason_phrase().to_ascii_lowercase().contains("call-id"), "{:?}", answer.reason_phrase());
    for noise in [b"\0\x01\x02garbage".as_slice(), b"INVITE", b"\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n", &[0xff; 1500]] {
        w.inject(stranger, SIP, noise);
    }
    w.run(s(1));
    assert!(w.strays.is_empty(), "noise was answered");
    w.finish();
}

#[test]
fn a_stranger_cannot_put_a_packet_into_a_call_nor_take_it_over() {
    let (mut w, a, b) = pair(23);
    let (ac, bc) = w.connect(a, "1002", b);
    assert_talking(&mut w, (a, ac), (b, bc));
    let stranger: SocketAddr = "198.51.100.200:4000".parse().expect("an address");
    let mut forged = vec![0x80, 0, 0x12, 0x34, 0, 0, 0, 1, 9, 9, 9, 9];
    forged.extend(voice::payload((77, 0), 1));
    for port in 20_000..20_200 {
        for _ in 0..3 {
            w.inject(stranger, SocketAddr::new(SERVER_IP, port), &forged);
        }
    }
    // The same from the callee's own address: only the tag gives it away.
    let own = SocketAddr::new(w.phones[b].profile.ip, 30_000);
    for port in (20_000..20_200).step_by(2) {
        w.inject(own, SocketAddr::new(SERVER_IP, port), &forged);
    }
    w.run(s(1));
    assert!(w.strays.is_empty(), "media went to the stranger");
    assert_talking(&mut w, (a, ac), (b, bc));
    assert!(w.server.packets_dropped(DropReason::SrtpBadTag) > 0);
    let of_stranger = |c: &Voice| c.heard.keys().any(|speaker| speaker.0 == 77);
    assert!(!of_stranger(voice_of(&w, a, ac)) && !of_stranger(voice_of(&w, b, bc)));
    w.finish();
}

#[test]
fn an_emergency_call_without_a_trunk_is_refused_at_once_with_the_reason_and_reaches_nobody() {
    let (mut w, a, b) = pair(24);
    let numbers = ["911", "112", "9911", "+911", "9-1-1", "sip:%39%31%31@pbx.example.com", "urn:service:sos.police"];
    for dialled in numbers {
        let ac = w.dial(a, dialled);
        let began = w.now;
        until_ended(&mut w, a, ac);
        assert!(w.now.since(began) < ms(100), "{dialled} took {:?}", w.now.since(began));
        let refusal = w.response(a, ac);
        assert_eq!(refusal.status(), 403, "{dialled}");
        assert_eq!(refusal.reason_phrase(), "Emergency Calls Not Available");
        let record = w.server.store.cdrs.last().expect("a refused emergency call is recorded");
        assert_eq!((record.status, record.reason.as_str()), (403, "Emergency Calls Not Available"));
        assert!(refusal.header(Name::Warning).is_some_and(|v| v.starts_with("399 ")), "{dialled}");
        assert_eq!(
            refusal.header(Name::Reason),
            Some("Q.850;cause=63;text=\"Service or option not available\""),
            "{dialled}"
        );
        assert!(refusal.header(Name::ContentType).is_some_and(|v| v.starts_with("text/plain")));
        assert!(!refusal.body().is_empty());
        assert!(refusal.header(Name::Contact).is_none() && refusal.header(Name::RetryAfter).is_none());
    }
    w.run(s(5));
    assert!(w.phones[b].calls.is_empty() && w.strays.is_empty());
    assert_eq!(w.server.core.counters().emergency_refused, u64::try_from(numbers.len()).expect("few"));
    assert_eq!(w.server.open_ports(), 0);
    // The same number as part of a longer one is no emergency.
    let ac = w.dial(a, "9110");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 404);
    w.finish();
}

#[test]
fn an_emergency_call_of_a_stranger_without_a_trunk_is_refused_without_a_challenge() {
    let mut w = World::new(&Plan::new(25));
    let a = w.phone(1, Transport::Udp, CM);
    w.phones[a].profile.password = None;
    let ac = w.dial(a, "911");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 403);
    assert_eq!(w.response(a, ac).reason_phrase(), "Emergency Calls Not Available");
    let challenges = w.from_server.iter().filter(|(_, _, b)| b.starts_with(b"SIP/2.0 40")).count();
    assert_eq!(challenges, 1, "something but the 403 was sent first");
    // An ordinary call of the same stranger is challenged.
    let ac = w.dial(a, "1002");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 407);
    w.finish();
}

#[test]
fn an_emergency_call_goes_to_the_trunk_with_the_companys_address() {
    let mut w = World::new(&Plan::with_trunk(26));
    let t = w.trunk(Answer::After(ms(500)));
    let a = w.registered(1, CM);
    let b = w.registered(2, CM);
    w.phones[a].extra_headers =
        vec![("Geolocation", "<cid:elsewhere@phone>".to_owned()), ("P-Preferred-Identity", "<sip:fake@x>".to_owned())];
    let (ac, tc) = w.connect(a, "911", t);
    let invite = w.phones[t].calls[tc].invite.clone().expect("an INVITE");
    assert!(invite.request_uri().starts_with("sip:911@"), "{}", invite.request_uri());
    assert!(invite.request_uri().contains(";user=phone"));
    assert_eq!(invite.header(Name::Priority), Some("emergency"));
    assert!(invite.header(Name::From).is_some_and(|v| v.contains("+12025551001")), "the caller's direct line");
    let geolocation = invite.header(Name::Geolocation).expect("Geolocation");
    assert!(!geolocation.contains("elsewhere"), "the phone's own location was forwarded");
    assert_eq!(invite.header(Name::GeolocationRouting), Some("yes"));
    assert!(invite.header(Name::PPreferredIdentity).is_none());
    for name in [Name::Privacy, Name::Diversion, Name::HistoryInfo] {
        assert!(invite.header(name).is_none(), "{name:?}");
    }
    let parts = trunk::parts(&invite);
    let [(sdp, _), (pidf, document)] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    assert!(sdp.starts_with("application/sdp") && pidf.starts_with("application/pidf+xml"), "{sdp} {pidf}");
    for (element, value) in COMPANY_ADDRESS {
        assert!(
            document.contains(&format!(":{element}>{value}</")) || document.contains(&format!("<{element}>{value}</")),
            "no {element} in {document}"
        );
    }
    let cid = geolocation.trim_start_matches("<cid:").split('>').next().unwrap_or_default();
    assert!(String::from_utf8_lossy(&invite.body()).contains(&format!("<{cid}>")), "no part has Content-ID {cid}");
    assert_talking(&mut w, (a, ac), (t, tc));
    assert!(w.phones[b].calls.is_empty());
    w.hang_up(t, tc);
    until_ended(&mut w, a, ac);
    w.run(s(5));
    assert!(w.server.store.cdrs[0].emergency);
    assert_eq!(w.server.store.cdrs[0].trunk.as_deref(), Some("carrier"));
    assert_eq!(w.server.core.counters().emergency_routed, 1);
    w.finish();
}

#[test]
fn an_emergency_number_from_the_trunk_is_404_and_never_goes_back() {
    let mut w = World::new(&Plan::with_trunk(27));
    let t = w.trunk(Answer::After(ms(500)));
    w.registered(1, CM);
    let tc = w.dial(t, "911");
    until_ended(&mut w, t, tc);
    assert_eq!(final_status(&w, t, tc), 404);
    w.run(s(5));
    assert_eq!(w.phones[t].calls.len(), 1, "the emergency call came back to the trunk");
    w.finish();
}

#[test]
fn a_call_to_the_outside_goes_over_the_trunk_in_plain_rtp() {
    let mut w = World::new(&Plan::with_trunk(28));
    let t = w.trunk(Answer::After(ms(500)));
    let a = w.registered(1, GCM);
    for dialled in ["+14155550123", "914155550123"] {
        let (ac, tc) = w.connect(a, dialled, t);
        let invite = w.phones[t].calls[tc].invite.clone().expect("an INVITE");
        assert!(invite.request_uri().starts_with("sip:+14155550123@"), "{}", invite.request_uri());
        assert!(invite.header(Name::Geolocation).is_none());
        assert_talking(&mut w, (a, ac), (t, tc));
        assert_eq!(voice_of(&w, t, tc).suite, "plain");
        assert_eq!(voice_of(&w, a, ac).suite, GCM[0].name());
        w.hang_up(a, ac);
        until_ended(&mut w, t, tc);
    }
    w.run(s(5));
    let leg = w.server.store.cdrs[0].b.clone().expect("the trunk's leg");
    assert_eq!(leg.suite, "plain");
    w.finish();
}

#[test]
fn the_trunk_reaches_direct_lines_and_nothing_else() {
    let mut w = World::new(&Plan::with_trunk(29));
    let t = w.trunk(Answer::After(ms(500)));
    let a = w.registered(1, CM);
    let (tc, ac) = w.connect(t, "+12025551001", a);
    assert_talking(&mut w, (a, ac), (t, tc));
    assert_eq!(voice_of(&w, a, ac).suite, CM[0].name());
    w.hang_up(a, ac);
    until_ended(&mut w, t, tc);
    for dialled in ["+14155550123", "+12025559999"] {
        let tc = w.dial(t, dialled);
        until_ended(&mut w, t, tc);
        assert_eq!(final_status(&w, t, tc), 404, "{dialled}");
    }
    assert_eq!(w.phones[t].calls.len(), 3, "a call came back to the trunk");
    w.finish();
}

#[test]
fn a_trunk_that_refuses_or_is_silent_is_told_to_the_caller_truthfully() {
    let mut w = World::new(&Plan::with_trunk(30));
    let t = w.trunk(Answer::Refuse(486));
    let a = w.registered(1, CM);
    let ac = w.dial(a, "+14155550123");
    until_ended(&mut w, a, ac);
    assert_eq!(final_status(&w, a, ac), 486);
    w.phones[t].profile.answer = Answer::Refuse(503);
    let ac = w.dial(a, "+14155550123");
    until_ended(&mut w, a, ac);
    assert!(matches!(final_status(&w, a, ac), 500..=599), "{}", final_status(&w, a, ac));
    let until = w.now + s(300);
    w.net.cut_off(trunk::IP, until);
    let ac = w.dial(a, "+14155550123");
    let began = w.now;
    until_ended(&mut w, a, ac);
    assert!(matches!(final_status(&w, a, ac), 408 | 480 | 500..=599), "{}", final_status(&w, a, ac));
    assert!(w.now.since(began) < s(40));
    w.net.heal();
    w.finish();
}

#[test]
fn a_stranger_at_another_address_is_no_trunk() {
    let mut w = World::new(&Plan::with_trunk(31));
    let a = w.registered(1, CM);
    let x = w.phone(9, Transport::Udp, &[]);
    w.phones[x].profile.password = None;
    w.phones[x].profile.user = "+14155550199".to_owned();
    let xc = w.dial(x, "+12025551001");
    until_ended(&mut w, x, xc);
    assert_eq!(final_status(&w, x, xc), 407);
    assert!(w.phones[a].calls.is_empty());
    w.finish();
}

#[test]
fn a_call_outlives_its_session_timers_and_ends_when_a_phone_has_vanished() {
    let (mut w, a, b) = pair(77);
    let (ac, bc) = w.connect(a, "1002", b);
    w.run(s(1_000));
    assert_talking(&mut w, (a, ac), (b, bc));
    let ip = w.phones[b].profile.ip;
    let until = w.now + s(2_000);
    w.net.cut_off(ip, until);
    w.until("the caller to hear that nobody is there", s(940), |w| matches!(w.state(a, ac), State::Ended(_)));
    assert!(w.phones[a].calls[ac].ended_by_peer);
    w.run(s(1));
    let cdr = w.server.store.cdrs.first().expect("a CDR");
    assert_eq!((cdr.ended_by, cdr.status), (EndedBy::Server, 408));
    w.net.heal();
    w.finish();
}
