//! Random runs: people do anything at any time in bad weather; then the network heals, and what is left is judged.

mod disasters;

use std::collections::BTreeMap;

use ringdown::{
    call::Cdr,
    types::{Duration, Rng, Transport},
};

use crate::{
    net::{CALM, STORM, Weather},
    phone::{Answer, Phone, Registration, State},
    voice::Speaker,
    world::{Plan, SETTLE, World, extension},
};

use ringdown::wire::srtp::Suite;

use disasters::Disasters;

const SEEDS_DEFAULT: u64 = 2_000;

/// Tests that share the seeds, and run side by side.
const SHARES: u64 = 8;

macro_rules! shares {
    ($($name:ident: $share:literal),*) => {
        /// After any confusion every call is whole or gone, and nothing is left.
        mod every_call_is_whole_or_gone {
            $(#[test] fn $name() { super::play($share); })*
        }
    };
}

shares!(first: 0, second: 1, third: 2, fourth: 3, fifth: 4, sixth: 5, seventh: 6, eighth: 7);

fn play(share: u64) {
    if let Some(seed) = number("RINGDOWN_SIM_SEED") {
        if seed % SHARES == share {
            run(seed);
        }
        return;
    }
    let seeds = (0..number("RINGDOWN_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT)).filter(|seed| seed % SHARES == share);
    let (mut runs, mut answered, mut transferred) = (0, 0, 0);
    for seed in seeds {
        let Ok((talked, moved)) = std::panic::catch_unwind(|| run(seed)) else {
            panic!("seed {seed} failed. Replay with:\nRINGDOWN_SIM_SEED={seed} cargo test --locked --test sim random")
        };
        runs += 1;
        answered += talked;
        transferred += moved;
    }
    // Runs in which nobody talks would prove nothing.
    assert!(answered >= 2 * runs, "hardly a call was answered");
    assert!(transferred >= runs / 4, "hardly a call was transferred");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}

/// One run; returns how many calls were answered, and how many came of a transfer.
fn run(seed: u64) -> (usize, usize) {
    let mut rng = Rng::from_small_seed(seed ^ 0x5eed);
    let has_trunk = seed.is_multiple_of(3);
    let mut w = World::new(&if has_trunk { Plan::with_trunk(seed) } else { Plan::new(seed) });
    let phones = populate(&mut w, &mut rng);
    if has_trunk {
        let trunk = w.trunk(any_answer(&mut rng));
        any_offers(&mut w.phones[trunk], &mut rng);
    }
    let storm = any_weather(&mut rng);
    w.net.weather = storm;
    w.note(&format!("seed {seed}: {storm:?}"));
    let deeds = 30 + rng.below(40);
    let mut disasters = Disasters::draw(seed, deeds, &mut rng);
    for deed in 0..deeds {
        disasters.strike(&mut w, &mut rng, deed);
        act(&mut w, &mut rng, phones, has_trunk);
        w.run(Duration::from_millis(u64::from(rng.below(3_000))));
    }
    w.net.heal();
    w.run(SETTLE);
    // Whoever was transferred to somebody who does not answer waits until that telephone has rung long enough.
    stop_ringing(&mut w);
    disasters.settle(&mut w);
    resume_all(&mut w);
    assert_whole_or_gone(&mut w);
    hang_up_all(&mut w);
    w.run(SETTLE);
    if disasters.keeps_records() {
        assert_one_record_per_call(&w);
    }
    let answered = w.phones.iter().flat_map(|p| &p.calls).filter(|c| c.is_caller && c.was_answered).count();
    let is_transferred = |c: &&Cdr| c.answer_ms.is_some() && c.transferred_by.is_some();
    let transferred = w.server.store.cdrs.iter().filter(is_transferred).count();
    w.finish();
    (answered, transferred)
}

fn populate(w: &mut World, rng: &mut Rng) -> usize {
    let phones = 3 + rng.below(4);
    for n in 1..=phones {
        // Some users have two phones.
        let user = if rng.below(4) == 0 { 1 + rng.below(n) } else { n };
        let transport = [Transport::Udp, Transport::Udp, Transport::Tcp, Transport::Tls][index(rng, 4)];
        let first = Suite::ALL[index(rng, 6)];
        let second = Suite::ALL[index(rng, 6)];
        let suites = if first == second { vec![first] } else { vec![first, second] };
        let phone = w.phone(user, transport, &suites);
        w.phones[phone].profile.answer = any_answer(rng);
        any_offers(&mut w.phones[phone], rng);
        w.register(phone);
    }
    usize::try_from(phones).expect("few phones")
}

fn index(rng: &mut Rng, n: u32) -> usize {
    usize::try_from(rng.below(n)).expect("small")
}

fn any_answer(rng: &mut Rng) -> Answer {
    match rng.below(10) {
        0 => Answer::Refuse(486),
        1 => Answer::Refuse(480),
        2 => Answer::Ring,
        _ => Answer::After(Duration::from_millis(u64::from(rng.below(4_000)))),
    }
}

/// How a phone offers, and what it says and asks of reliable provisional responses.
fn any_offers(phone: &mut Phone, rng: &mut Rng) {
    phone.calls_without_offer = rng.below(4) == 0;
    phone.settles_early = rng.below(2) == 0;
    if let Some(header) = ["Supported", "Require"].get(index(rng, 4)) {
        phone.extra_headers.push((header, "100rel".to_owned()));
    }
}

pub(crate) fn any_weather(rng: &mut Rng) -> Weather {
    match rng.below(4) {
        0 => CALM,
        1 => Weather { lost_per_mille: 0, doubled_per_mille: 200, delay_ms_min: 1, delay_ms_max: 400 },
        2 => Weather { lost_per_mille: 100, doubled_per_mille: 20, delay_ms_min: 5, delay_ms_max: 60 },
        _ => STORM,
    }
}

fn act(w: &mut World, rng: &mut Rng, phones: usize, has_trunk: bool) {
    let who = index(rng, u32::try_from(w.phones.len()).expect("few phones"));
    let is_trunk = who >= phones;
    let live: Vec<usize> = w.phones[who].live_calls().map(|(i, _)| i).collect();
    let any_call = |rng: &mut Rng| live.get(index(rng, u32::try_from(live.len().max(1)).expect("few"))).copied();
    match rng.below(15) {
        0..=3 if live.len() < 2 => {
            let whom = 1 + rng.below(7);
            let number = match rng.below(10) {
                0 => "911".to_owned(),
                1 if has_trunk => "+14155550123".to_owned(),
                _ if is_trunk => format!("+1202555{}", 1000 + whom),
                _ => extension(whom),
            };
            w.dial(who, &number);
        }
        4 | 5 => {
            if let Some(call) = any_call(rng) {
                w.hang_up(who, call);
            }
        }
        6 => {
            if let Some(call) = any_call(rng) {
                let is_holding = w.phones[who].calls[call].is_held_by_us;
                w.act(who, |p, now| p.hold(now, call, !is_holding));
            }
        }
        7 => {
            if let Some(call) = any_call(rng) {
                w.act(who, |p, now| p.accept(now, call));
            }
        }
        8 => {
            let until = w.now + Duration::from_millis(u64::from(500 + rng.below(6_000)));
            let host = w.phones[who].profile.ip;
            w.note(&format!("phone {who} is cut off"));
            w.net.cut_off(host, until);
        }
        9 => {
            if let Some(connection) = w.phones[who].connection.filter(|_| !is_trunk && rng.below(3) == 0) {
                w.note(&format!("the connection of phone {who} breaks"));
                w.net.cut(w.now, connection);
            }
        }
        10 if !is_trunk => w.act(who, |p, now| p.register(now, 600)),
        // Both ends of everything at once.
        11 if rng.below(4) == 0 => hang_up_all(w),
        12 if !is_trunk => {
            if let Some(call) = any_call(rng) {
                w.act(who, |p, now| p.transfer(now, call, &extension(1 + rng.below(7))));
            }
        }
        13 if !is_trunk => {
            if let [first, second] = live[..] {
                w.act(who, |p, now| p.join(now, first, second));
            }
        }
        14 if !is_trunk => {
            let is_mine =
                |p: &&Phone| p.profile.user == w.phones[who].profile.user && p.profile.id != w.phones[who].profile.id;
            let call = |p: &Phone| p.live_calls().find(|(_, c)| c.state == State::Up).map(|(call, _)| p.replaces(call));
            if let Some(replaces) = w.phones[..phones].iter().filter(is_mine).find_map(call) {
                w.act(who, |p, now| p.take_over(now, &replaces));
            }
        }
        _ => {}
    }
}

fn stop_ringing(w: &mut World) {
    for phone in 0..w.phones.len() {
        let ringing = w.phones[phone].live_calls().filter(|(_, c)| c.state == State::Ringing);
        for call in ringing.map(|(i, _)| i).collect::<Vec<_>>() {
            w.hang_up(phone, call);
        }
    }
}

fn resume_all(w: &mut World) {
    for phone in 0..w.phones.len() {
        let held: Vec<usize> = w.phones[phone].live_calls().filter(|(_, c)| c.is_held_by_us).map(|(i, _)| i).collect();
        for call in held {
            w.act(phone, |p, now| p.hold(now, call, false));
        }
    }
    w.run(Duration::from_secs(30));
}

pub(crate) fn hang_up_all(w: &mut World) {
    for phone in 0..w.phones.len() {
        let live: Vec<usize> = w.phones[phone].live_calls().map(|(i, _)| i).collect();
        for call in live {
            w.hang_up(phone, call);
        }
    }
}

/// How many packets each call has heard of each other.
fn heard(w: &World) -> BTreeMap<(Speaker, Speaker), usize> {
    let calls = w.phones.iter().flat_map(|p| (0..).zip(&p.calls).map(|(call, c)| ((p.profile.id, call), c)));
    calls.flat_map(|(me, c)| c.voice.heard.iter().map(move |(them, packets)| ((me, *them), packets.len()))).collect()
}

/// Each call that is up hears exactly one other call that is up, and that one hears it. Earlier it may have heard somebody
/// else, who spoke before the answer and then lost.
pub(crate) fn assert_whole_or_gone(w: &mut World) {
    let before = heard(w);
    w.run(Duration::from_secs(5));
    let mut now = heard(w);
    now.retain(|who, packets| before.get(who) != Some(packets));
    let heard_by = |me: Speaker| now.keys().filter(move |(by, _)| *by == me).map(|(_, whom)| *whom).collect::<Vec<_>>();
    let mut legs = 0;
    for phone in 0..w.phones.len() {
        let up: Vec<usize> =
            w.phones[phone].live_calls().filter(|(_, c)| c.state == State::Up).map(|(i, _)| i).collect();
        for call in up {
            legs += 1;
            let me = (w.phones[phone].profile.id, u32::try_from(call).expect("few calls"));
            let partners = heard_by(me);
            let [partner] = partners[..] else { panic!("{me:?} is up and hears {partners:?}") };
            let (p, c) = (usize::try_from(partner.0).expect("small"), usize::try_from(partner.1).expect("small"));
            let other = &w.phones[p].calls[c];
            assert_eq!(other.state, State::Up, "{me:?} is up but its partner {partner:?} is not");
            assert_eq!(heard_by(partner), [me], "{partner:?} hears somebody else");
        }
    }
    let answered = w.server.core.calls().iter().filter(|c| c.state == "answered").count();
    assert_eq!(legs, 2 * answered, "legs up at phones, against calls of the server");
}

/// One CDR with an answer for each call whose caller got a 200. A caller who gave up without any final response cannot
/// know whether it was answered.
pub(crate) fn assert_one_record_per_call(w: &World) {
    let calls = || w.phones.iter().flat_map(|p| &p.calls).filter(|c| c.is_caller && !c.is_takeover);
    let answered = calls().filter(|c| c.was_answered).count();
    let unknown = calls().filter(|c| c.response.is_none()).count();
    let is_dialled = |c: &&Cdr| c.answer_ms.is_some() && c.transferred_by.is_none();
    let recorded = w.server.store.cdrs.iter().filter(is_dialled).count();
    assert!(
        (answered..=answered + unknown).contains(&recorded),
        "{answered} calls were answered (and perhaps {unknown} more), {recorded} CDRs have an answer"
    );
    assert!(w.phones.iter().all(|p| p.registration != Registration::Refused(403)), "a good password was refused");
}
