//! Emergency calls through carriers that fail in every way: whatever they do, the caller is connected or hears that nobody could
//! be reached, never nothing (emergency specification, sections 5.3, 5.4 and 10).

use std::net::{IpAddr, Ipv4Addr};

use ringdown::{
    types::{Duration, Rng},
    wire::{sip::Name, srtp::Suite},
};

use crate::{
    net::CALM,
    phone::{Answer, State},
    random::any_weather,
    trunk,
    world::{Plan, World},
};

const SEEDS: u64 = 1_000;
/// Tests that share the seeds, and run side by side.
const SHARES: u64 = 4;
const CARRIERS_MAX: u8 = 4;

macro_rules! shares {
    ($($name:ident: $share:literal),*) => {
        mod an_emergency_call_is_connected_or_truthfully_refused_whatever_carriers_do {
            $(#[test] fn $name() { super::play($share); })*
        }
    };
}

shares!(first: 0, second: 1, third: 2, fourth: 3);

fn play(share: u64) {
    let (mut connected, mut refused) = (0, 0);
    for seed in (0..SEEDS).filter(|seed| seed % SHARES == share) {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(true) => connected += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("seed {seed} of the carriers failed"),
        }
    }
    assert!(connected > refused && refused > 0, "{connected} connected, {refused} refused: both must have been tried");
}

fn ip(carrier: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5 + carrier))
}

/// The usual carrier, and more of them with addresses for names.
fn company(carriers: u8, rng: &mut Rng) -> String {
    let mut text = trunk::CONFIG.to_owned();
    for carrier in 1..carriers {
        let encryption = if rng.below(2) == 0 { "off" } else { "preferred" };
        text += &format!(
            "[trunk.carrier-{carrier}]\nhost = \"{}\"\nport = 5060\ntransport = \"udp\"\nnumbers = [\"+12025550100\"]\n\
             encryption = \"{encryption}\"\n",
            ip(carrier)
        );
    }
    text
}

/// What a carrier does, and whether it takes the call in the end if it is left to itself and nothing is lost.
fn manner(rng: &mut Rng) -> (Answer, bool) {
    let ms = |ms: u32| Duration::from_millis(u64::from(ms));
    match rng.below(12) {
        0 | 1 => (Answer::After(ms(rng.below(6_000))), true),
        2 => (Answer::Unless("pidf", [400, 413, 415, 424, 513][rng.below(5) as usize]), true),
        3 => (Answer::Unless("a=crypto", 488), true),
        4 => (Answer::Silent, false),
        5 => (Answer::Late(ms(rng.below(11_000))), false),
        6 => (Answer::Refuse(302), false),
        7 => (Answer::Refuse([486, 600, 603][rng.below(3) as usize]), false),
        8 => (Answer::Refuse([403, 404, 480][rng.below(3) as usize]), false),
        9 => (Answer::Refuse([415, 424, 488, 606][rng.below(4) as usize]), false),
        _ => (Answer::Refuse([500, 502, 503, 504][rng.below(4) as usize]), false),
    }
}

/// One run; whether the call was connected.
fn run(seed: u64) -> bool {
    let mut rng = Rng::from_small_seed(seed ^ 0x0911);
    let carriers = 1 + u8::try_from(rng.below(u32::from(CARRIERS_MAX))).expect("few");
    let mut w = World::new(&Plan { company: company(carriers, &mut rng), ..Plan::new(seed) });
    let caller = w.registered(1, &[Suite::AesCm128HmacSha1_80]);
    let mut must_connect = false;
    let far_ends: Vec<usize> = (0..carriers)
        .map(|carrier| {
            let (answer, takes_it) = manner(&mut rng);
            must_connect |= takes_it;
            w.carrier(ip(carrier), answer)
        })
        .collect();
    let is_calm = rng.below(3) > 0;
    w.net.weather = if is_calm { CALM } else { any_weather(&mut rng) };
    let flaps = rng.below(4) == 0;
    must_connect &= is_calm && !flaps;
    let call = w.dial(caller, "911");
    if flaps {
        // A carrier changes its mind under way.
        w.run(Duration::from_millis(u64::from(rng.below(8_000))));
        let flapping = far_ends[rng.below(u32::from(carriers)) as usize];
        w.phones[flapping].profile.answer = manner(&mut rng).0;
    }
    let is_decided = |w: &World| matches!(w.state(caller, call), State::Up | State::Ended(_));
    w.until("an answer to a call for help", Duration::from_secs(120), is_decided);
    let is_connected = w.state(caller, call) == State::Up;
    assert!(is_connected || !must_connect, "a carrier was there that takes such calls");
    if is_connected {
        // The one that has answered hears the caller, and is heard.
        w.net.heal();
        w.run(Duration::from_secs(5));
        let heard_by = |phone: usize| w.phones[phone].calls.iter().map(|c| c.voice.heard.len()).sum::<usize>();
        assert_eq!(heard_by(caller), 1, "the caller hears one answering point");
        assert_eq!(far_ends.iter().filter(|far| heard_by(**far) > 0).count(), 1, "and is heard by one");
        w.hang_up(caller, call);
    } else if let Some(response) = &w.phones[caller].calls[call].response {
        assert_eq!((response.status(), response.reason_phrase()), (503, "Emergency Call Not Connected"));
        assert!(response.header(Name::Warning).is_some() && !response.body().is_empty());
    } else {
        assert!(!is_calm, "silence");
    }
    w.net.heal();
    w.run(Duration::from_secs(70));
    let [record] = &w.server.store.cdrs[..] else { panic!("{} records of one call", w.server.store.cdrs.len()) };
    assert!(record.emergency && (record.answer_ms.is_some() || !is_connected));
    w.finish();
    is_connected
}
