//! Ring groups and forwarding, whole: phones that are slow, away or declining, over a network that loses and delays.

use ringdown::{
    config::{Directory, Forwarding, User},
    types::{Duration, Rng},
    wire::srtp::Suite,
};

use crate::{
    net::{CALM, STORM},
    phone::{Answer, State},
    random,
    world::{Plan, USERS, World, user},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80];
const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A company with the ring group 600 of these users.
fn group(seed: u64, strategy: &str, members: &str) -> World {
    let mut plan = Plan::new(seed);
    plan.company +=
        &format!("[group.sales]\nextension = \"600\"\nmembers = [{members}]\nstrategy = \"{strategy}\"\nring_s = 8\n");
    World::new(&plan)
}

/// From now on this is what user `n` wants.
fn forward(w: &mut World, n: u32, forwarding: &Forwarding) {
    let wish = |i| if i == n { User { forwarding: forwarding.clone(), ..user(i) } } else { user(i) };
    w.server.set_directory(w.now, &mut w.net, Directory::new((1..=USERS).map(wish)));
}

fn to(target: &str) -> Option<String> {
    Some(target.to_owned())
}

/// Both hear each other.
fn assert_talking(w: &mut World, (a, ac): (usize, usize), b: usize) {
    w.until("both to be up", s(90), |w| {
        w.state(a, ac) == State::Up && w.phones[b].live_calls().any(|(_, c)| c.state == State::Up)
    });
    w.run(s(4));
    let bc = w.phones[b].live_calls().map(|(i, _)| i).last().expect("it is up");
    let id =
        |w: &World, phone: usize, call: usize| (w.phones[phone].profile.id, u32::try_from(call).expect("few calls"));
    let heard = |w: &World, phone: usize, call: usize, of| w.phones[phone].calls[call].voice.heard_from(of);
    let (by_a, by_b) = (heard(w, a, ac, id(w, b, bc)), heard(w, b, bc, id(w, a, ac)));
    assert!(by_a > 10 && by_b > 10, "heard {by_a} and {by_b} packets");
}

#[test]
fn whoever_of_a_group_answers_first_talks_and_nobody_else_rings_on() {
    for (seed, weather) in [(900, None), (901, Some(STORM)), (902, Some(STORM)), (903, Some(STORM))] {
        let mut w = group(seed, "all", "\"u2\", \"1003\", \"u4\"");
        if let Some(weather) = weather {
            w.net.weather = weather;
        }
        let a = w.registered(1, CM);
        let members = [2, 3, 4].map(|n| w.registered(n, GCM));
        w.phones[members[0]].profile.answer = Answer::Ring;
        w.phones[members[1]].profile.answer = Answer::After(s(3));
        w.phones[members[2]].profile.answer = Answer::Refuse(603);
        let ac = w.dial(a, "600");
        assert_talking(&mut w, (a, ac), members[1]);
        w.run(s(40));
        assert!(w.phones[members[0]].live_calls().next().is_none(), "it rings on");
        w.hang_up(a, ac);
        w.run(s(40));
        let cdr = &w.server.store.cdrs[0];
        assert_eq!((cdr.callee.as_str(), cdr.answered_by.as_deref()), ("sales", Some("u3")));
        w.finish();
    }
}

#[test]
fn a_group_in_order_passes_over_who_is_away_busy_or_slow() {
    let mut w = group(910, "in_order", "\"u2\", \"u3\", \"u4\", \"u5\"");
    let a = w.registered(1, CM);
    let (busy, slow, last) = (w.registered(3, CM), w.registered(4, GCM), w.registered(5, GCM));
    w.phones[busy].profile.answer = Answer::Refuse(486);
    w.phones[slow].profile.answer = Answer::Ring;
    let ac = w.dial(a, "600");
    w.run(s(7));
    assert!(w.phones[last].calls.is_empty(), "not yet its turn");
    assert_talking(&mut w, (a, ac), last);
    w.finish();
}

#[test]
fn an_unanswered_call_is_forwarded_and_talks_with_whom_it_reaches() {
    for (seed, weather) in [(920, None), (921, Some(STORM)), (922, Some(STORM))] {
        let mut w = World::new(&Plan::new(seed));
        if let Some(weather) = weather {
            w.net.weather = weather;
        }
        let (a, b, c) = (w.registered(1, CM), w.registered(2, CM), w.registered(3, GCM));
        w.phones[b].profile.answer = Answer::Ring;
        let wish = Forwarding { no_answer: to("1003"), no_answer_after_s: Some(6), ..Forwarding::default() };
        forward(&mut w, 2, &wish);
        let ac = w.dial(a, "1002");
        assert_talking(&mut w, (a, ac), c);
        w.run(s(40));
        assert!(w.phones[b].live_calls().next().is_none(), "the first phone rings on");
        w.finish();
    }
}

#[test]
fn do_not_disturb_set_while_the_server_runs_holds_for_the_next_call_and_until_it_is_off() {
    let mut w = World::new(&Plan::new(930));
    let (a, b) = (w.registered(1, CM), w.registered(2, CM));
    forward(&mut w, 2, &Forwarding { is_do_not_disturb: true, ..Forwarding::default() });
    let ac = w.dial(a, "1002");
    w.until("the refusal", s(5), |w| w.state(a, ac) == State::Ended(480));
    assert!(w.phones[b].calls.is_empty(), "it rang");
    forward(&mut w, 2, &Forwarding::default());
    let ac = w.dial(a, "1002");
    assert_talking(&mut w, (a, ac), b);
    w.finish();
}

#[test]
fn two_users_who_forward_to_each_other_are_a_loop() {
    let mut w = World::new(&Plan::new(940));
    let (a, b, c) = (w.registered(1, CM), w.registered(2, CM), w.registered(3, CM));
    let wish = |n| match n {
        2 => User { forwarding: Forwarding { always: to("1003"), ..Forwarding::default() }, ..user(2) },
        3 => User { forwarding: Forwarding { always: to("u2"), ..Forwarding::default() }, ..user(3) },
        _ => user(n),
    };
    w.server.set_directory(w.now, &mut w.net, Directory::new((1..=USERS).map(wish)));
    let ac = w.dial(a, "1002");
    w.until("the refusal", s(5), |w| w.state(a, ac) == State::Ended(482));
    assert!(w.phones[b].calls.is_empty() && w.phones[c].calls.is_empty());
    w.finish();
}

const RUNS: u64 = 12;

/// What somebody wants done with calls, and what their telephone does with them.
fn any_wish(rng: &mut Rng) -> Forwarding {
    let any_target = |rng: &mut Rng| match rng.below(12) {
        n @ 0..=4 => Some(format!("{}", 1001 + n)),
        5 => to("600"),
        6 => to("1009"),
        _ => None,
    };
    Forwarding {
        always: any_target(rng).filter(|_| rng.below(3) == 0),
        busy: any_target(rng),
        no_answer: any_target(rng),
        no_answer_after_s: Some(5 + u16::try_from(rng.below(4)).expect("small")),
        unreachable: any_target(rng),
        is_do_not_disturb: rng.below(8) == 0,
    }
}

fn any_answer(rng: &mut Rng) -> Answer {
    match rng.below(8) {
        0 => Answer::Refuse(486),
        1 => Answer::Refuse(603),
        2 => Answer::Silent,
        3 => Answer::Ring,
        _ => Answer::After(Duration::from_millis(u64::from(rng.below(9_000)))),
    }
}

/// Goal: whatever people want done with their calls, and however they chase each other round, every call is whole or gone.
/// Method: everybody's wishes and telephones are drawn anew, under any weather; then the network heals.
#[test]
fn whatever_people_want_done_with_their_calls_every_call_is_whole_or_gone() {
    for seed in 0..RUNS {
        let mut rng = Rng::from_small_seed(seed ^ 0x5eed);
        let strategy = ["all", "in_order", "longest_idle"][usize::try_from(rng.below(3)).expect("small")];
        let mut w = group(9_000 + seed, strategy, "\"u1\", \"u2\", \"1003\"");
        let phones: Vec<usize> = (1..=5).map(|n| w.registered(n, if n % 2 == 0 { CM } else { GCM })).collect();
        w.net.weather = random::any_weather(&mut rng);
        for _ in 0..12 {
            let wishes: Vec<Forwarding> = (1..=5).map(|_| any_wish(&mut rng)).collect();
            let wish = |n: u32| {
                let wish = usize::try_from(n - 1).ok().and_then(|i| wishes.get(i));
                User { forwarding: wish.cloned().unwrap_or_default(), ..user(n) }
            };
            w.server.set_directory(w.now, &mut w.net, Directory::new((1..=USERS).map(wish)));
            for &phone in &phones {
                w.phones[phone].profile.answer = any_answer(&mut rng);
            }
            let who = phones[usize::try_from(rng.below(5)).expect("small")];
            if w.phones[who].live_calls().count() < 2 {
                let whom = if rng.below(3) == 0 { "600".to_owned() } else { format!("{}", 1001 + rng.below(6)) };
                w.dial(who, &whom);
            }
            w.run(Duration::from_millis(u64::from(rng.below(15_000))));
            let live: Vec<usize> = w.phones[who].live_calls().map(|(i, _)| i).collect();
            if let Some(call) = live.first().filter(|_| rng.below(2) == 0) {
                w.hang_up(who, *call);
            }
        }
        w.net.weather = CALM;
        w.run(s(250));
        random::assert_whole_or_gone(&mut w);
        random::hang_up_all(&mut w);
        w.run(s(40));
        random::assert_one_record_per_call(&w);
        w.finish();
    }
}
