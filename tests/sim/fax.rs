//! Calls that change from voice to fax (ITU-T T.38) and back, whole: between a trunk and telephones of every kind, asked for by
//! either side, taken, refused, and over a bad network.

use ringdown::{
    types::Duration,
    wire::{
        sip::{Message, Name},
        srtp::Suite,
    },
};

use crate::{
    net::STORM,
    phone::Answer,
    voice::Voice,
    world::{Plan, World},
};

const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A phone and its call.
type Seat = (usize, usize);

/// The device of user 1 with these suites, in a call that the trunk or the device has begun.
fn call(plan: &Plan, suites: &[Suite], is_from_trunk: bool) -> (World, Seat, Seat) {
    let mut w = World::new(plan);
    let (device, trunk) = (w.registered(1, suites), w.trunk(Answer::After(s(1))));
    let (d, t) = if is_from_trunk {
        let (t, d) = w.connect(trunk, "+12025551001", device);
        (d, t)
    } else {
        w.connect(device, "+14155550123", trunk)
    };
    w.run(s(1));
    (w, (device, d), (trunk, t))
}

fn voice(w: &World, (phone, call): Seat) -> &Voice {
    &w.phones[phone].calls[call].voice
}

/// The re-INVITE's final status.
fn ask(w: &mut World, (phone, call): Seat, is_fax: bool) -> u16 {
    w.act(phone, |p, now| p.fax(now, call, is_fax));
    w.until("an answer to the re-INVITE", s(60), |w| w.phones[phone].calls[call].reinvite_status.is_some());
    w.phones[phone].calls[call].reinvite_status.unwrap_or_default()
}

fn heard(w: &World, seats: [Seat; 2]) -> [(usize, usize); 2] {
    seats.map(|seat| {
        let voice = voice(w, seat);
        (voice.fax.heard, voice.heard.values().map(std::collections::BTreeSet::len).sum())
    })
}

/// In the next three seconds both hear the other: as a fax, or as a voice.
fn assert_flows(w: &mut World, seats: [Seat; 2], is_fax: bool) {
    w.run(s(1));
    let before = heard(w, seats);
    w.run(s(3));
    for ((fax, all), (fax_before, all_before)) in heard(w, seats).into_iter().zip(before) {
        let (fax, all) = (fax - fax_before, all - all_before);
        assert!(all > 15 && fax == if is_fax { all } else { 0 }, "{fax} packets of a fax among {all}");
    }
}

#[test]
fn voice_becomes_fax_and_voice_again_whoever_asks_and_whoever_called() {
    for (seed, suites) in (7000..).zip([&[][..], GCM]) {
        for (is_from_trunk, is_asked_by_trunk) in [(true, true), (true, false), (false, true), (false, false)] {
            let (mut w, device, trunk) = call(&Plan::with_trunk(seed).preferring(), suites, is_from_trunk);
            let seats = [device, trunk];
            let (asker, other) = if is_asked_by_trunk { (trunk, device) } else { (device, trunk) };
            assert_flows(&mut w, seats, false);
            let keys = voice(&w, device).server_keys.len();
            assert_eq!(ask(&mut w, asker, true), 200);
            assert_eq!((voice(&w, device).suite, voice(&w, trunk).suite), ("plain", "plain"));
            assert_flows(&mut w, seats, true);
            assert_eq!(ask(&mut w, other, false), 200);
            assert_flows(&mut w, seats, false);
            let has_new_keys = voice(&w, device).server_keys.len() > keys;
            assert!(suites.is_empty() || has_new_keys, "a key that was given up never comes back");
            w.hang_up(asker.0, asker.1);
            w.run(s(5));
            let cdr = w.server.store.cdrs.first().expect("a record");
            let legs = [&cdr.a, &cdr.b].map(|leg| leg.as_ref().expect("a leg"));
            assert!(legs.iter().all(|leg| leg.packets_received > 60 && leg.packets_sent > 60), "{legs:?}");
            w.finish();
        }
    }
}

#[test]
fn where_encryption_is_required_a_fax_is_refused_at_once_with_the_reason_and_the_voice_goes_on() {
    let (mut w, device, trunk) = call(&Plan::with_trunk(7100), GCM, true);
    let made = voice(&w, device).contexts_made;
    assert_eq!(ask(&mut w, trunk, true), 488);
    let refusal = w.from_server.iter().rev().find(|(_, _, bytes)| bytes.starts_with(b"SIP/2.0 488 "));
    let refusal = Message::parse(refusal.expect("a refusal").2.clone()).expect("a message");
    let warning = refusal.header(Name::Warning).expect("the reason");
    assert!(warning.contains("Encryption (SRTP) is required here"), "{warning}");
    assert_flows(&mut w, [device, trunk], false);
    assert_eq!(voice(&w, device).contexts_made, made, "its keys are the same");
    assert_eq!(ask(&mut w, device, true), 488, "nor may the device ask for one");
    assert_flows(&mut w, [device, trunk], false);
    w.finish();
}

#[test]
fn a_fax_that_the_other_side_refuses_leaves_the_voice_as_it_was() {
    for (seed, suites) in (7200..).zip([&[][..], GCM]) {
        let (mut w, device, trunk) = call(&Plan::with_trunk(seed).preferring(), suites, true);
        for (asker, other) in [(device, trunk), (trunk, device)] {
            w.phones[other.0].calls[other.1].voice.fax.is_welcome = false;
            let made = voice(&w, device).contexts_made;
            assert_eq!(ask(&mut w, asker, true), 488);
            assert_flows(&mut w, [device, trunk], false);
            assert_eq!(voice(&w, device).contexts_made, made);
            w.phones[other.0].calls[other.1].voice.fax.is_welcome = true;
        }
        assert_eq!(ask(&mut w, trunk, true), 200, "the refusals are forgotten");
        assert_flows(&mut w, [device, trunk], true);
        w.finish();
    }
}

#[test]
fn a_fax_is_agreed_on_over_a_bad_network_too() {
    for seed in 7300..7320 {
        let (mut w, device, trunk) = call(&Plan::with_trunk(seed).preferring(), GCM, seed % 2 == 0);
        w.net.weather = STORM;
        let asker = if seed % 3 == 0 { device } else { trunk };
        for is_fax in [true, false] {
            assert_eq!(ask(&mut w, asker, is_fax), 200, "seed {seed}");
            w.run(s(2));
        }
        w.net.heal();
        assert_flows(&mut w, [device, trunk], false);
        w.finish();
    }
}
