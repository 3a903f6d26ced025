//! How the legs of a call do: what workers are told of it, what they report, and where it shows.

use super::bench::{BOB, Bench, Leg, SDP, TRUNK};
use crate::{
    call::InspectionRefusal,
    media::{self, BurstLoss, Codec, Delivery, Formats, LegReport, Silence, SilenceCause},
    types::LegId,
    wire::sdp,
};

/// Opus under two numbers.
const OPUS: &str = "v=0\r\no=- 1 2 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                    m=audio 4000 RTP/AVP 97 0\r\na=rtpmap:97 opus/48000/2\r\n";
const OPUS_TOO: &str = "v=0\r\no=- 1 2 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                        m=audio 4000 RTP/AVP 111 0\r\na=rtpmap:111 opus/48000/2\r\n";

/// The trunk talks to Bob. Their media legs, caller's first.
fn talking(b: &mut Bench) -> (Leg, [LegId; 2]) {
    let (trunk, _) = b.trunk_talks_to_bob();
    let (a, answered) = *b.joined.last().expect("media is joined");
    (trunk, [a, answered])
}

fn end(b: &mut Bench, trunk: &Leg) {
    b.within(trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.pass(400_000);
    assert!(b.core.is_idle(), "left: {:?}", b.core.calls());
}

fn report(b: &mut Bench, leg: LegId, report: LegReport) {
    b.input(crate::call::Input::Media(media::Event::Report { leg, report: Box::new(report) }));
}

fn call_id(b: &Bench) -> String {
    b.core.calls().first().expect("a call").id.clone()
}

fn inspect(b: &mut Bench, id: u64, call: &str) {
    b.input(crate::call::Input::Inspect { id, call: call.to_owned() });
}

#[test]
fn workers_know_what_either_number_for_a_codec_means() {
    let mut b = Bench::new();
    let (trunk, [a, bobs]) = talking(&mut b);
    b.within(&trunk, "INVITE", 2, "", OPUS);
    let to_bob = b.take_request("INVITE", BOB);
    b.accept(&to_bob, "bob", OPUS_TOO);
    b.take_request("ACK", BOB);
    b.take_response("INVITE", TRUNK, 200);
    b.acknowledge(&trunk, 2, "");
    let sections = |texts: [&str; 2]| {
        let sessions = texts.map(|text| sdp::parse(text.as_bytes()).unwrap());
        Formats::of(sessions.iter().flat_map(|session| &session.media))
    };
    // Each was told the other's numbers, and has told its own.
    assert_eq!(b.formats[&a], sections([OPUS_TOO, OPUS]));
    assert_eq!(b.formats[&bobs], sections([OPUS, OPUS_TOO]));
    b.within(&trunk, "BYE", 3, "", "");
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn only_the_audio_of_an_answered_call_is_watched_once_it_is_answered() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 183, "bob", &format!("Contact: <sip:peer@{BOB}>\n"), SDP);
    assert_eq!(b.watched, [], "early media may be anything");
    b.accept(&invite, "bob", SDP);
    let (a, bobs) = *b.joined.last().expect("media is joined");
    let mut watched = b.watched.clone();
    watched.sort_unstable();
    watched.dedup();
    assert_eq!(watched, [a.min(bobs), a.max(bobs)]);
}

/// Goal: a silence is counted, shown and recorded, and ends nothing, however long it lasts.
#[test]
fn a_silence_is_shown_counted_and_recorded_and_ends_no_call() {
    let mut b = Bench::new();
    let (trunk, [_, bobs]) = talking(&mut b);
    let call = call_id(&b);
    let silence = Silence { cause: SilenceCause::NotAuthentic, has_rtcp: true };
    b.input(crate::call::Input::Media(media::Event::Silent { leg: bobs, silence }));
    b.pass(600_000);
    assert_eq!(b.core.live_calls(), 1);

    inspect(&mut b, 1, &call);
    let asked = std::mem::take(&mut b.asked);
    for leg in asked {
        report(&mut b, leg, LegReport { silences: u32::from(leg == bobs), silent_ms: 9, ..LegReport::default() });
    }
    let (_, result) = b.inspected.pop().expect("a detail");
    let detail = result.unwrap();
    assert_eq!(detail.a.silence, None);
    let answered = detail.b.unwrap();
    let view = answered.silence.unwrap();
    assert_eq!((view.cause, view.rtcp, answered.record.silences), ("authentication", true, 1));

    b.input(crate::call::Input::Media(media::Event::Heard { leg: bobs }));
    inspect(&mut b, 2, &call);
    for leg in std::mem::take(&mut b.asked) {
        report(&mut b, leg, LegReport::default());
    }
    assert_eq!(b.inspected.pop().unwrap().1.unwrap().b.unwrap().silence, None);
    let silences: Vec<_> = b.core.counters().quality.silences().filter(|(_, count)| *count > 0).collect();
    assert_eq!(silences, [("authentication", 1)]);
    end(&mut b, &trunk);
    let record = b.cdrs[0].b.as_ref().unwrap();
    assert_eq!(record.silence_cause.as_deref(), Some("authentication"));
}

#[test]
fn a_look_at_a_call_waits_for_all_its_legs_and_shows_what_they_report() {
    let mut b = Bench::new();
    let (trunk, [a, bobs]) = talking(&mut b);
    let call = call_id(&b);
    inspect(&mut b, 7, &call);
    let mut asked = std::mem::take(&mut b.asked);
    asked.sort_unstable();
    assert_eq!(asked, [a.min(bobs), a.max(bobs)]);
    let received = Delivery {
        packets_expected: 100,
        packets_lost: 4,
        jitter_ms: 3.456,
        bursts: Some(BurstLoss { burst_loss: 0.5, burst_ms: 120.0, gap_loss: 0.01, gap_ms: 9_000.0 }),
        mos: Some(4.123),
        codec: Some(Codec::Pcmu),
    };
    let sent = Some(Delivery { packets_lost: 2, mos: Some(3.5), ..Delivery::default() });
    report(&mut b, a, LegReport { packets_received: 96, received, sent, ..LegReport::default() });
    assert_eq!(b.inspected.len(), 0, "the other leg has not reported");
    report(&mut b, bobs, LegReport::default());
    let (id, result) = b.inspected.pop().unwrap();
    let detail = result.unwrap();
    assert_eq!((id, &detail.call.id, detail.call.state), (7, &call, "answered"));
    let leg = detail.a.record;
    assert_eq!((leg.packets_received, leg.packets_lost, leg.jitter_ms), (96, 4, 3.46));
    assert_eq!((leg.codec.as_deref(), leg.mos), (Some("PCMU"), Some(4.12)));
    assert_eq!(leg.bursts.map(|bursts| (bursts.burst_loss_percent, bursts.burst_ms)), Some((50.0, 120.0)));
    assert_eq!(leg.far.map(|far| (far.packets_lost, far.mos)), Some((2, Some(3.5))));
    end(&mut b, &trunk);
    assert_eq!(b.cdrs[0].a.as_ref().unwrap().packets_received, 0, "a look adds nothing to the record");
}

#[test]
fn a_call_that_ends_meanwhile_or_never_was_is_not_found() {
    let mut b = Bench::new();
    let (trunk, _) = talking(&mut b);
    let call = call_id(&b);
    inspect(&mut b, 1, &call);
    end(&mut b, &trunk);
    inspect(&mut b, 2, &call);
    inspect(&mut b, 3, "");
    let refusals: Vec<_> = b.inspected.drain(..).map(|(id, result)| (id, result.err())).collect();
    let gone = Some(InspectionRefusal::NoSuchCall);
    assert_eq!(refusals, [(1, gone), (2, gone), (3, gone)]);
}

#[test]
fn the_last_look_there_is_room_for_waits_and_one_more_is_refused() {
    let max = u64::try_from(crate::types::limits::INSPECTIONS_MAX).unwrap();
    let mut b = Bench::new();
    let (trunk, legs) = talking(&mut b);
    let call = call_id(&b);
    for id in 1..=max {
        inspect(&mut b, id, &call);
    }
    assert_eq!(b.inspected.len(), 0);
    inspect(&mut b, max + 1, &call);
    assert_eq!(
        b.inspected.pop().map(|(id, result)| (id, result.err())),
        Some((max + 1, Some(InspectionRefusal::TooMany)))
    );
    for leg in legs {
        report(&mut b, leg, LegReport::default());
    }
    assert_eq!(b.inspected.len() as u64, max, "one report serves all who wait for it");
    end(&mut b, &trunk);
}
