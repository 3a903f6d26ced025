//! What a caller hears whose emergency call is refused (emergency RULES 5.1).

use ringdown::{
    types::{Duration, Transport},
    wire::{sip::Message, srtp::Suite},
};

use crate::{
    phone::State,
    tone::{assert_special_information_tone, mu_law},
    world::{Plan, World},
};

const GCM: &[Suite] = &[Suite::AeadAes256Gcm];

fn world(seed: u64) -> World {
    let plan = Plan::new(seed);
    World::new(&Plan { company: format!("{}[emergency]\nrefusal_tone = true\n", plan.company), ..plan })
}

/// A phone that dials 911 and is told where the tone comes from.
fn hearing(w: &mut World, phone: usize) -> usize {
    let call = w.dial(phone, "911");
    w.until("a provisional response", Duration::from_secs(1), |w| w.state(phone, call) == State::Ringing);
    let said = w.from_server.iter().rev().find(|(_, _, bytes)| bytes.starts_with(b"SIP/2.0 183 "));
    let progress = Message::parse(said.expect("a 183").2.clone()).expect("a response");
    let answer = progress.sdp().expect("an answer");
    let voice = &mut w.phones[phone].calls[call].voice;
    voice.sound = Some(Vec::new());
    voice.read_answer(&String::from_utf8_lossy(&answer)).expect("an answer to what was offered");
    call
}

/// The tone's frequencies, measured in what the phone has received and decrypted. Over every transport, encrypted and plain.
#[test]
fn a_refused_caller_hears_the_tone_once_and_then_the_refusal() {
    for (seed, transport, suites) in
        [(701, Transport::Udp, GCM), (702, Transport::Tcp, GCM), (703, Transport::Tls, GCM), (704, Transport::Udp, &[])]
    {
        let mut w = world(seed);
        let a = w.phone(1, transport, suites);
        w.register(a);
        let ac = hearing(&mut w, a);
        w.run(Duration::from_millis(20));
        assert_eq!(w.server.open_ports(), 2, "RTP and RTCP of one leg");
        w.until("the refusal", Duration::from_millis(1_200), |w| matches!(w.state(a, ac), State::Ended(_)));
        let refusal = w.response(a, ac);
        assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Emergency Calls Not Available"));
        w.run(Duration::from_secs(2));
        let sound = w.phones[a].calls[ac].voice.sound.take().expect("it listens");
        assert_special_information_tone(&sound.into_iter().map(mu_law).collect::<Vec<_>>());
        let wanted = suites.first().map_or("plain", |suite| suite.name());
        assert_eq!(w.phones[a].calls[ac].voice.suite, wanted);
        assert_eq!(w.server.open_ports(), 0);
        let record = w.server.store.cdrs.last().expect("a refused emergency call is recorded");
        assert_eq!((record.status, record.emergency), (403, true));
        w.finish();
    }
}

#[test]
fn a_caller_who_hangs_up_ends_the_tone() {
    let mut w = world(705);
    let a = w.registered(1, GCM);
    let ac = hearing(&mut w, a);
    w.run(Duration::from_millis(300));
    w.hang_up(a, ac);
    w.until("the end", Duration::from_millis(200), |w| matches!(w.state(a, ac), State::Ended(_)));
    assert_eq!(w.response(a, ac).status(), 487);
    let heard = |w: &World| w.phones[a].calls[ac].voice.sound.as_ref().map_or(0, Vec::len);
    w.run(Duration::from_millis(50));
    let before = heard(&w);
    assert!((1_600..4_000).contains(&before), "{before} samples");
    w.run(Duration::from_secs(2));
    assert_eq!((heard(&w), w.server.open_ports()), (before, 0));
    assert_eq!(w.server.store.cdrs.last().map(|record| record.status), Some(487));
    w.finish();
}
