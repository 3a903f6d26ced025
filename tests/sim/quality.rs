//! How well calls are heard: silences that are noticed, and what records and looks at a live call say.

use ringdown::{
    call::{CallDetail, InspectionRefusal},
    types::Duration,
    wire::srtp::Suite,
};

use crate::{
    phone::State,
    world::{Plan, World},
};

const CM: &[Suite] = &[Suite::AesCm128HmacSha1_80];
const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two phones that talk: (phone, call) of each.
fn talking(w: &mut World) -> [(usize, usize); 2] {
    let (a, b) = (w.registered(1, CM), w.registered(2, GCM));
    let (ac, bc) = w.connect(a, "1002", b);
    w.run(s(2));
    [(a, ac), (b, bc)]
}

/// What the admin API shows of the only call.
fn look(w: &mut World) -> Box<CallDetail> {
    let call = w.server.core.calls().first().expect("a call").id.clone();
    let result = w.look(&call);
    result.expect("the call is live")
}

/// Goal: whoever stops speaking in an answered call is noticed within two seconds, with the cause, and ends nothing.
/// Method: one phone is muted on its way, so that not even reports leave it.
#[test]
fn one_way_audio_is_noticed_within_two_seconds_and_ends_no_call() {
    let mut w = World::new(&Plan::new(301));
    let [(a, ac), (b, bc)] = talking(&mut w);
    assert_eq!(look(&mut w).b.and_then(|leg| leg.silence), None);
    w.phones[b].calls[bc].voice.is_mute = true;
    w.run(s(2));
    let detail = look(&mut w);
    assert_eq!(detail.a.silence, None, "the other is heard");
    let silence = detail.b.and_then(|leg| leg.silence).expect("a silence");
    assert_eq!(silence.cause, "no_packets");
    w.run(s(120));
    assert_eq!((w.state(a, ac), w.state(b, bc)), (State::Up, State::Up));
    w.phones[b].calls[bc].voice.is_mute = false;
    w.run(s(1));
    let answered = look(&mut w).b.expect("a leg");
    assert_eq!((answered.silence, answered.record.silences), (None, 1));
    w.hang_up(a, ac);
    w.run(s(5));
    let cdr = w.server.store.cdrs[0].clone();
    let (a, b) = (cdr.a.expect("a leg"), cdr.b.expect("a leg"));
    assert_eq!((a.silences, b.silences, b.silence_cause.as_deref()), (0, 1, Some("no_packets")));
    assert!((121_000..123_000).contains(&b.silent_ms), "{} ms", b.silent_ms);
    w.finish();
}

/// The same of an emergency call: nothing but the people ends it.
#[test]
fn a_silent_emergency_call_goes_on() {
    let mut w = World::new(&Plan::with_trunk(302));
    let t = w.trunk(crate::phone::Answer::After(Duration::from_millis(300)));
    let a = w.registered(1, CM);
    let (ac, tc) = w.connect(a, "911", t);
    w.run(s(1));
    for (phone, call) in [(a, ac), (t, tc)] {
        w.phones[phone].calls[call].voice.is_mute = true;
    }
    w.run(s(2));
    let detail = look(&mut w);
    assert!(detail.a.silence.is_some() && detail.b.is_some_and(|leg| leg.silence.is_some()));
    w.run(s(900));
    assert_eq!((w.state(a, ac), w.state(t, tc)), (State::Up, State::Up));
    w.finish();
}

#[test]
fn nobody_is_missed_on_hold_or_before_the_answer() {
    let mut w = World::new(&Plan::new(303));
    let [(a, ac), (b, bc)] = talking(&mut w);
    w.act(a, |p, now| p.hold(now, ac, true));
    w.run(s(1));
    for (phone, call) in [(a, ac), (b, bc)] {
        w.phones[phone].calls[call].voice.is_mute = true;
    }
    w.run(s(60));
    let detail = look(&mut w);
    assert_eq!((detail.a.silence, detail.b.and_then(|leg| leg.silence)), (None, None));
    w.act(a, |p, now| p.hold(now, ac, false));
    w.run(s(3));
    let detail = look(&mut w);
    assert!(detail.a.silence.is_some() && detail.b.is_some_and(|leg| leg.silence.is_some()));
    w.finish();
}

#[test]
fn a_record_says_how_each_leg_was_heard() {
    let mut w = World::new(&Plan::new(304));
    let [(a, ac), _] = talking(&mut w);
    w.run(s(20));
    w.hang_up(a, ac);
    w.run(s(5));
    let cdr = w.server.store.cdrs[0].clone();
    for leg in [cdr.a, cdr.b].map(|leg| leg.expect("a leg")) {
        assert_eq!((leg.codec.as_deref(), leg.packets_lost, leg.bursts.as_ref()), (Some("PCMU"), 0, None));
        assert!(leg.mos.is_some_and(|mos| mos > 4.3), "{leg:?}");
        assert_eq!((leg.far, leg.silences, leg.silence_cause), (None, 0, None));
    }
    w.finish();
}

#[test]
fn a_call_that_is_over_is_not_shown() {
    let mut w = World::new(&Plan::new(305));
    let [(a, ac), _] = talking(&mut w);
    let call = look(&mut w).call.id.clone();
    w.hang_up(a, ac);
    w.run(s(5));
    assert_eq!(w.look(&call), Err(InspectionRefusal::NoSuchCall));
    w.finish();
}
