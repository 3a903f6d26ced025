//! `check-sync`: telephones that are to fetch their configuration again.

use super::{ALICE_FROM, BOBS_LINE, Input, TRUNK_FROM, bench::*, from_stream, invite};
use crate::{
    call::{DeviceSync, SyncOutcome, SyncRefusal},
    types::{
        ConnectionId, Flow, Transport,
        limits::{RESYNC_ANSWER_S_MAX, RESYNCS_MAX},
    },
    wire::sip::Name,
};

fn resync(b: &mut Bench, id: u64, user: &str, is_reboot: bool) {
    b.input(Input::Resync { id, user: user.to_owned(), is_reboot });
}

/// The one report there is: for each device its address and what became of it.
fn report(b: &mut Bench) -> Vec<(String, SyncOutcome)> {
    let (_, result) = b.resynced.pop().expect("a report");
    assert!(b.resynced.is_empty(), "one order, one report");
    let line = |device: DeviceSync| (device.remote.to_string(), device.outcome);
    result.expect("devices").into_iter().map(line).collect()
}

const fn answered(status: u16, reason: &'static str) -> SyncOutcome {
    SyncOutcome::Answered { status, reason }
}

#[test]
fn every_device_of_the_user_and_no_other_is_told_and_each_answer_is_reported() {
    let mut b = Bench::new();
    resync(&mut b, 7, "bob", false);
    let (first, second) = (b.take_request("NOTIFY", BOB), b.take_request("NOTIFY", BOB_TOO));
    assert!(b.sent.is_empty(), "{}", b.told());
    let notify = &first.1;
    assert_eq!(notify.request_uri(), format!("sip:bob@{BOB}"));
    assert_eq!(notify.header(Name::Event), Some("check-sync;reboot=false"));
    assert_eq!(notify.header(Name::SubscriptionState), Some("terminated"));
    assert_eq!(notify.header(Name::To), Some("<sip:bob@pbx.example.com>"));
    assert!(notify.header(Name::From).is_some_and(|from| from.starts_with("<sip:pbx.example.com>;tag=")));
    assert!(notify.contact().is_some() && notify.body().is_empty());
    assert_ne!(notify.call_id(), second.1.call_id());
    b.answer(&first, 100, "", "", "");
    b.answer(&first, 200, "x", "", "");
    assert!(b.resynced.is_empty(), "one device is not all of them");
    b.answer(&second, 489, "y", "", "");
    assert_eq!(b.resynced.first().map(|(id, _)| *id), Some(7));
    let [bob, too] = [BOB, BOB_TOO].map(str::to_owned);
    assert_eq!(report(&mut b), [(bob, answered(200, "OK")), (too, answered(489, "Bad Event"))]);
    b.finish();
}

#[test]
fn a_reboot_is_asked_for_by_its_parameter() {
    let mut b = Bench::new();
    resync(&mut b, 1, "alice", true);
    let notify = b.take_request("NOTIFY", ALICE);
    assert_eq!(notify.1.header(Name::Event), Some("check-sync;reboot=true"));
    b.answer(&notify, 202, "x", "", "");
    assert_eq!(report(&mut b), [(ALICE.to_owned(), answered(202, "Accepted"))]);
    b.finish();
}

#[test]
fn a_silent_device_is_reported_in_time_and_its_late_answer_changes_nothing() {
    let mut b = Bench::new();
    resync(&mut b, 1, "bob", false);
    let (first, second) = (b.take_request("NOTIFY", BOB), b.take_request("NOTIFY", BOB_TOO));
    b.answer(&first, 200, "x", "", "");
    b.pass(RESYNC_ANSWER_S_MAX * 1000 - 1);
    assert!(b.resynced.is_empty(), "there was time left");
    b.pass(1);
    assert_eq!(report(&mut b).pop(), Some((BOB_TOO.to_owned(), SyncOutcome::NoAnswer)));
    b.answer(&second, 200, "y", "", "");
    assert!(b.resynced.is_empty());
    b.finish();
}

#[test]
fn a_device_behind_a_broken_connection_is_reported_at_once() {
    let mut b = Bench::new();
    let flow = Flow { connection: ConnectionId(5), ..from_stream(5) };
    b.register(flow, "alice");
    resync(&mut b, 1, "alice", false);
    let to_alice = b.take_request("NOTIFY", ALICE);
    b.answer(&to_alice, 200, "x", "", "");
    b.take_request("NOTIFY", &flow.remote.to_string());
    b.input(Input::FlowFailed { flow });
    let outcomes = report(&mut b);
    assert!(outcomes.contains(&(flow.remote.to_string(), SyncOutcome::NoConnection)), "{outcomes:?}");
    b.finish();
}

#[test]
fn the_request_takes_the_registered_path_to_the_device() {
    let path = vec!["<sip:edge.example.com;lr>".to_owned()];
    let behind = crate::sip::registrar::Binding { path: path.clone(), ..binding("alice", ALICE) };
    let mut b = Bench::with_users(CONFIG, [user("alice", "1001", "+12025551001")], vec![behind]);
    resync(&mut b, 1, "alice", false);
    let (flow, notify) = b.take_request("NOTIFY", ALICE);
    assert_eq!(flow.transport, Transport::Udp);
    assert_eq!(notify.lines(Name::Route).collect::<Vec<_>>(), path);
}

#[test]
fn a_user_without_devices_has_an_empty_report_and_nobody_none() {
    let mut b = Bench::with_users(CONFIG, [user("alice", "1001", "+12025551001")], Vec::new());
    resync(&mut b, 1, "alice", false);
    assert_eq!(report(&mut b), []);
    resync(&mut b, 2, "eve", false);
    assert_eq!(b.resynced, [(2, Err(SyncRefusal::NoSuchUser))]);
    b.finish();
}

#[test]
fn as_many_are_asked_at_a_time_as_the_limit_says() {
    let mut b = Bench::new();
    for id in 0..RESYNCS_MAX as u64 {
        resync(&mut b, id, "alice", false);
    }
    assert!(b.resynced.is_empty());
    b.sent.clear();
    resync(&mut b, 1_000, "alice", false);
    assert_eq!(b.resynced, [(1_000, Err(SyncRefusal::TooMany))]);
    assert!(b.sent.is_empty(), "a device was asked all the same");
}

#[test]
fn a_device_in_an_emergency_call_or_waiting_for_the_call_back_is_not_disturbed() {
    let mut b = Bench::new();
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, "");
    let call = b.take_request("INVITE", TRUNK);
    let withheld = |b: &mut Bench, id| {
        resync(b, id, "alice", true);
        assert_eq!(report(b), [(ALICE.to_owned(), SyncOutcome::Emergency)]);
        assert!(b.find_request("NOTIFY", ALICE).is_none());
    };
    withheld(&mut b, 1);
    // Others may be asked.
    resync(&mut b, 2, "bob", true);
    b.take_request("NOTIFY", BOB);
    b.take_request("NOTIFY", BOB_TOO);
    b.answer(&call, 486, "t", "", "");
    b.pass(60_000);
    b.resynced.clear();
    withheld(&mut b, 3);
    b.pass(30 * 60_000);
    resync(&mut b, 4, "alice", true);
    b.take_request("NOTIFY", ALICE);
}

#[test]
fn a_device_that_answers_the_call_back_is_not_disturbed() {
    let mut b = Bench::with(&CONFIG.replace("[emergency]", "[emergency]\ncallback_window_min = 1"));
    invite(&mut b, udp(BOB), "sip:911@pbx.example.com", "<sip:bob@pbx.example.com>", "");
    let help = b.take_request("INVITE", TRUNK);
    b.answer(&help, 486, "psap", "", "");
    b.sent.clear();
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "Priority: psap-callback\n");
    let ringing = b.take_request("INVITE", BOB);
    b.accept(&ringing, "bob", SDP);
    let psap = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&psap, 1, "");
    // Nobody is expected to call back any more, but they talk.
    b.pass(61_000);
    resync(&mut b, 1, "bob", true);
    let [bob, too] = [BOB, BOB_TOO].map(|address| (address.to_owned(), SyncOutcome::Emergency));
    assert_eq!(report(&mut b), [bob, too]);
    assert!(b.find_request("NOTIFY", BOB).is_none());
}

#[test]
fn an_ordinary_call_keeps_no_device_from_being_asked() {
    let mut b = Bench::new();
    b.trunk_talks_to_bob();
    resync(&mut b, 1, "bob", false);
    b.take_request("NOTIFY", BOB);
    b.take_request("NOTIFY", BOB_TOO);
}
