//! Subscriptions to events (RFC 6665), as their subscribers see them.

use std::sync::Arc;

use super::{ALICE_FROM, BOBS_LINE, Input, TRUNK_FROM, bench::*, from_alice, from_stream, invite};
use crate::{
    config::Directory,
    types::{
        Flow,
        limits::{LAMP_DIALOGS_MAX, SUBSCRIPTIONS_PER_USER_MAX},
    },
    wire::sip::{Message, Name},
};

const BOB_URI: &str = "sip:1002@pbx.example.com";
const ALICE_URI: &str = "sip:alice@pbx.example.com";

/// Alice, registered over TCP: her flow and address.
fn alice(b: &mut Bench) -> (Flow, String) {
    let flow = from_alice(1000, 1);
    b.register(flow, "alice");
    (flow, flow.remote.to_string())
}

/// A SUBSCRIBE outside a dialog; returns the final answer.
fn subscribe(b: &mut Bench, flow: Flow, uri: &str, event: &str, expires_s: u32) -> Message {
    let from = format!("{ALICE_FROM};tag=s{}", b.serial);
    let call_id = format!("subscription-{}", b.serial);
    let headers = format!("Event: {event}\nExpires: {expires_s}\n");
    b.request(flow, ("SUBSCRIBE", uri), (&from, &format!("<{uri}>")), (&call_id, 1), (&headers, ""));
    b.take_response("SUBSCRIBE", &flow.remote.to_string(), 200)
}

/// Subscribes with success and accepts the first NOTIFY. Returns the dialog and the NOTIFY.
fn subscribed(b: &mut Bench, flow: Flow, uri: &str, event: &str) -> (Leg, Message) {
    let ok = subscribe(b, flow, uri, event, 3600);
    assert_eq!((ok.status(), ok.header(Name::Expires)), (200, Some("3600")));
    let notify = accept_notify(b, flow);
    assert_eq!(notify.from_tag(), ok.to_tag(), "in the dialog");
    (Leg::of_caller(flow, &ok), notify)
}

fn accept_notify(b: &mut Bench, flow: Flow) -> Message {
    let notify = b.take_request("NOTIFY", &flow.remote.to_string());
    b.answer(&notify, 200, "", "", "");
    notify.1
}

fn state(notify: &Message) -> &str {
    notify.header(Name::SubscriptionState).unwrap_or_default()
}

fn body(notify: &Message) -> String {
    String::from_utf8(notify.body().to_vec()).unwrap()
}

fn is_silent(b: &Bench) -> bool {
    b.sent.iter().all(|(_, message)| message.method_text() != "NOTIFY")
}

/// A SUBSCRIBE within the dialog; returns the final answer.
fn again(b: &mut Bench, leg: &Leg, cseq: u32, event: &str, expires_s: u32) -> Message {
    b.within(leg, "SUBSCRIBE", cseq, &format!("Event: {event}\nExpires: {expires_s}\n"), "");
    b.take_response("SUBSCRIBE", &leg.flow.remote.to_string(), 200)
}

// Lamps.

#[test]
fn a_lamp_follows_the_call_of_another_user_and_names_nobody() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    let (leg, first) = subscribed(&mut b, flow, BOB_URI, "dialog;id=7");
    assert_eq!(state(&first), "active;expires=3600");
    assert_eq!(first.header(Name::Event), Some("dialog;id=7"));
    assert_eq!(first.header(Name::ContentType), Some("application/dialog-info+xml"));
    let start = "version=\"0\" state=\"full\" entity=\"sip:1002@pbx.example.com\">\r\n</dialog-info>";
    assert!(body(&first).contains(start), "{}", body(&first));

    b.pass(2_000);
    b.trunk_calls_bob();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&other, 486, "busy", "", "");
    assert!(is_silent(&b), "nothing rings yet");
    b.answer(&invite, 180, "bob", "", "");
    let ringing = accept_notify(&mut b, flow);
    assert!(body(&ringing).contains("version=\"1\" state=\"partial\""));
    assert!(body(&ringing).contains("direction=\"recipient\">\r\n    <state>early</state>"));
    assert!(!String::from_utf8_lossy(ringing.bytes()).contains("4155550123"), "the caller is not named");

    b.accept(&invite, "bob", SDP);
    assert!(is_silent(&b), "at most one a second");
    b.pass(1_000);
    let talking = accept_notify(&mut b, flow);
    assert!(body(&talking).contains("version=\"2\"") && body(&talking).contains("<state>confirmed</state>"));

    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.pass(2_000);
    b.within(&trunk, "BYE", 2, "", "");
    let over = accept_notify(&mut b, flow);
    assert!(body(&over).contains("version=\"3\"") && body(&over).contains("<state>terminated</state>"));
    b.pass(10_000);
    assert!(is_silent(&b));
    assert_eq!(again(&mut b, &leg, 2, "dialog;id=7", 0).status(), 200);
    assert_eq!(state(&accept_notify(&mut b, flow)), "terminated;reason=timeout");
    b.finish();
}

#[test]
fn what_begins_and_ends_while_a_notification_waits_is_never_told() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    subscribed(&mut b, flow, BOB_URI, "dialog");
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 180, "bob", "", "");
    let other = b.take_request("INVITE", BOB_TOO);
    b.answer(&other, 486, "busy", "", "");
    b.answer(&invite, 486, "bob", "", "");
    b.pass(5_000);
    assert!(is_silent(&b));
}

#[test]
fn who_subscribes_during_a_call_sees_it_at_once() {
    let mut b = Bench::new();
    b.trunk_talks_to_bob();
    let (flow, _) = alice(&mut b);
    let (_, notify) = subscribed(&mut b, flow, BOB_URI, "dialog");
    assert!(body(&notify).contains("state=\"full\"") && body(&notify).contains("<state>confirmed</state>"));
    // Her own, as the caller.
    invite(&mut b, flow, BOB_URI, ALICE_FROM, "");
    let (_, notify) = subscribed(&mut b, flow, ALICE_URI, "dialog");
    assert!(!body(&notify).contains("<dialog "), "nothing rings yet");
    let ringing = b.take_request("INVITE", BOB_TOO);
    b.answer(&ringing, 180, "bob", "", "");
    b.pass(1_000);
    let (first, second) = (accept_notify(&mut b, flow), accept_notify(&mut b, flow));
    assert!([first, second].iter().any(|n| body(n).contains("direction=\"initiator\">\r\n    <state>early")));
}

#[test]
fn a_lamp_is_told_of_so_many_calls_and_no_more() {
    let mut b = Bench::with(&CONFIG.replace("20000-20099", "20000-20999"));
    let (flow, _) = alice(&mut b);
    for serial in 0..=LAMP_DIALOGS_MAX {
        invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, "");
        let ringing = b.take_request("INVITE", BOB);
        b.answer(&ringing, 180, "bob", "", "");
        if serial + 1 >= LAMP_DIALOGS_MAX {
            let (_, notify) = subscribed(&mut b, flow, BOB_URI, "dialog");
            assert_eq!(body(&notify).matches("<dialog ").count(), LAMP_DIALOGS_MAX);
        }
    }
}

#[test]
fn a_change_while_a_notify_is_unanswered_waits_for_its_answer() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    subscribe(&mut b, flow, BOB_URI, "dialog", 3600);
    let first = b.take_request("NOTIFY", &address);
    b.trunk_talks_to_bob();
    b.pass(3_000);
    assert!(is_silent(&b), "one at a time");
    b.answer(&first, 200, "", "", "");
    assert!(body(&accept_notify(&mut b, flow)).contains("<state>confirmed</state>"));
}

// Who may, and what is refused.

#[test]
fn strangers_are_challenged_and_only_users_subscribe() {
    let mut b = Bench::new();
    assert_eq!(subscribe(&mut b, udp(ALICE), BOB_URI, "dialog", 3600).status(), 407);
    assert_eq!(subscribe(&mut b, udp(TRUNK), BOB_URI, "dialog", 3600).status(), 403);
    assert!(is_silent(&b));
    b.finish();
}

#[test]
fn what_cannot_be_subscribed_to_is_refused_by_name() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    for (uri, event, expires_s, status) in [
        (BOB_URI, "presence", 3600, 489),
        (BOB_URI, "dialog", 59, 423),
        ("sip:1009@pbx.example.com", "dialog", 3600, 404),
        ("sip:911@pbx.example.com", "dialog", 3600, 404),
        ("sip:1002@elsewhere.example", "dialog", 3600, 404),
        (BOB_URI, "reg", 3600, 403),
        (BOB_URI, "message-summary", 3600, 403),
    ] {
        let refusal = subscribe(&mut b, flow, uri, event, expires_s);
        assert_eq!(refusal.status(), status, "{uri} {event}");
        match status {
            489 => assert_eq!(refusal.header_text("Allow-Events"), Some("dialog, message-summary, reg")),
            423 => assert_eq!(refusal.header(Name::MinExpires), Some("60")),
            _ => {}
        }
    }
    let unknown =
        Leg { flow, local: format!("{ALICE_FROM};tag=x"), remote: "<sip:a@b>;tag=y".into(), call_id: "z".into() };
    assert_eq!(again(&mut b, &unknown, 2, "dialog", 3600).status(), 481);
    assert!(is_silent(&b));
    let options = ("OPTIONS", "sip:pbx.example.com");
    b.request(flow, options, (&format!("{ALICE_FROM};tag=o"), ALICE_FROM), ("o", 1), ("", ""));
    assert!(b.take_response("OPTIONS", &address, 200).header_text("Allow-Events").is_some());
    b.finish();
}

#[test]
fn another_user_cannot_refresh_a_subscription() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    let (leg, _) = subscribed(&mut b, flow, BOB_URI, "dialog");
    let theirs = from_stream(2);
    b.register(theirs, "bob");
    assert_eq!(again(&mut b, &Leg { flow: theirs, ..leg }, 2, "dialog", 0).status(), 403);
    assert_eq!(b.core.subscriptions_len(), 1);
}

#[test]
fn a_user_has_so_many_subscriptions_and_no_more() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    for _ in 0..SUBSCRIPTIONS_PER_USER_MAX {
        assert_eq!(subscribe(&mut b, flow, BOB_URI, "dialog", 60).status(), 200);
    }
    assert_eq!(subscribe(&mut b, flow, BOB_URI, "dialog", 60).status(), 403);
    assert_eq!(b.core.subscriptions_len(), SUBSCRIPTIONS_PER_USER_MAX);
    b.finish();
}

#[test]
fn the_server_has_so_many_subscriptions_and_no_more() {
    let mut b = Bench::new();
    b.core.lower_limits(1, 2);
    let (flow, _) = alice(&mut b);
    assert_eq!(subscribe(&mut b, flow, BOB_URI, "dialog", 60).status(), 200);
    assert_eq!(subscribe(&mut b, flow, BOB_URI, "dialog", 60).status(), 200);
    let refusal = subscribe(&mut b, flow, BOB_URI, "dialog", 60);
    assert_eq!((refusal.status(), refusal.header(Name::RetryAfter)), (503, Some("60")));
    b.finish();
}

// Life and end.

#[test]
fn a_refresh_prolongs_and_shows_the_full_state_again() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    let (leg, _) = subscribed(&mut b, flow, BOB_URI, "dialog");
    b.pass(3_500_000);
    b.register(flow, "alice");
    let ok = again(&mut b, &leg, 2, "dialog", 9_000);
    assert_eq!((ok.status(), ok.header(Name::Expires)), (200, Some("7200")));
    let notify = accept_notify(&mut b, flow);
    assert_eq!(state(&notify), "active;expires=7200");
    assert!(body(&notify).contains("version=\"1\" state=\"full\""));
    assert_eq!(again(&mut b, &leg, 1, "dialog", 3600).status(), 500, "out of order");
    assert_eq!(again(&mut b, &leg, 3, "reg", 3600).status(), 481, "another subscription");
    b.pass(200_000);
    assert!(is_silent(&b), "it lives on");
}

#[test]
fn a_subscription_that_is_not_refreshed_ends_with_a_last_word() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    assert_eq!(subscribe(&mut b, flow, BOB_URI, "dialog", 60).status(), 200);
    accept_notify(&mut b, flow);
    b.pass(59_000);
    assert!(is_silent(&b));
    b.pass(1_000);
    assert_eq!(state(&accept_notify(&mut b, flow)), "terminated;reason=timeout");
    assert_eq!(b.core.subscriptions_len(), 0);
    b.finish();
}

#[test]
fn a_fetch_shows_the_state_once() {
    let mut b = Bench::new();
    b.trunk_talks_to_bob();
    let (flow, _) = alice(&mut b);
    let ok = subscribe(&mut b, flow, BOB_URI, "dialog", 0);
    assert_eq!((ok.status(), ok.header(Name::Expires)), (200, Some("0")));
    let notify = accept_notify(&mut b, flow);
    assert_eq!(state(&notify), "terminated;reason=timeout");
    assert!(body(&notify).contains("confirmed"));
    assert_eq!(b.core.subscriptions_len(), 0);
}

#[test]
fn a_subscriber_who_does_not_take_a_notify_is_gone() {
    for status in [481, 404, 500] {
        let mut b = Bench::new();
        let (flow, address) = alice(&mut b);
        subscribe(&mut b, flow, BOB_URI, "dialog", 3600);
        let notify = b.take_request("NOTIFY", &address);
        b.answer(&notify, status, "", if status == 481 { "Retry-After: 1\n" } else { "" }, "");
        assert_eq!(b.core.subscriptions_len(), 0, "{status}");
        b.finish();
    }
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    subscribe(&mut b, flow, BOB_URI, "dialog", 3600);
    b.pass(33_000);
    assert_eq!(b.core.subscriptions_len(), 0, "silence");
    b.finish();
}

#[test]
fn a_subscriber_who_asks_for_time_is_told_later() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    subscribe(&mut b, flow, BOB_URI, "dialog", 3600);
    let notify = b.take_request("NOTIFY", &address);
    b.answer(&notify, 503, "", "Retry-After: 20 (busy)\n", "");
    b.pass(19_000);
    assert!(is_silent(&b));
    b.pass(1_000);
    assert!(body(&accept_notify(&mut b, flow)).contains("state=\"full\""));
    assert_eq!(b.core.subscriptions_len(), 1);
}

#[test]
fn a_subscription_ends_when_its_device_disappears() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    subscribed(&mut b, flow, BOB_URI, "dialog");
    b.input(Input::FlowFailed { flow });
    assert_eq!(b.core.subscriptions_len(), 0, "the connection closed");
    assert!(is_silent(&b), "there is nowhere to say it");

    let flow = Flow { connection: crate::types::ConnectionId(2), ..flow };
    b.register(flow, "alice");
    subscribed(&mut b, flow, BOB_URI, "dialog");
    b.pass(3_600_000);
    b.sent.clear();
    b.pass(3_600_000);
    assert_eq!(b.core.subscriptions_len(), 0, "its registration ran out");
    assert!(b.sent.iter().all(|(to, _)| to.remote.to_string() == address));
}

#[test]
fn a_device_that_unregisters_is_told_that_its_subscription_is_over() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    subscribed(&mut b, flow, BOB_URI, "dialog");
    let line = ("REGISTER", "sip:pbx.example.com");
    b.request(
        flow,
        line,
        ("<sip:alice@pbx.example.com>;tag=r", "<sip:alice@pbx.example.com>"),
        ("registration", 900),
        ("Expires: 0\n", ""),
    );
    let challenge = b.take_response("REGISTER", &address, 401);
    let lines = challenge.lines(Name::WwwAuthenticate);
    let answer = crate::wire::sip::digest::answer(lines, "alice", "secret", "REGISTER", line.1, b"", "c", 1).unwrap();
    let headers = format!("Authorization: {answer}\nExpires: 0\n");
    b.request(
        flow,
        line,
        ("<sip:alice@pbx.example.com>;tag=r", "<sip:alice@pbx.example.com>"),
        ("registration", 901),
        (&headers, ""),
    );
    assert_eq!(b.take_response("REGISTER", &address, 200).status(), 200);
    assert_eq!(state(&accept_notify(&mut b, flow)), "terminated;reason=deactivated");
    assert_eq!(b.core.subscriptions_len(), 0);
    b.finish();
}

#[test]
fn a_subscription_ends_with_its_user_and_shows_nothing_more() {
    let mut b = Bench::new();
    let (flow, _) = alice(&mut b);
    subscribed(&mut b, flow, BOB_URI, "dialog");
    subscribed(&mut b, flow, ALICE_URI, "dialog");
    b.input(Input::Directory(Arc::new(Directory::new([user("alice", "1001", "+12025551001")]))));
    let notify = accept_notify(&mut b, flow);
    assert_eq!((state(&notify), notify.body().len()), ("terminated;reason=noresource", 0));
    assert_eq!(b.core.subscriptions_len(), 1);
    b.input(Input::Directory(Arc::new(Directory::new([]))));
    let notify = accept_notify(&mut b, flow);
    assert_eq!((state(&notify), notify.body().len()), ("terminated;reason=rejected", 0));
    assert_eq!(b.core.subscriptions_len(), 0);
    b.finish();
}

// The other packages.

/// The voice mail system reports a mailbox.
fn report(b: &mut Bench, flow: Flow, uri: &str, event: &str, body: &str) -> u16 {
    b.serial += 1;
    let serial = b.serial;
    let head = format!(
        "NOTIFY {uri} SIP/2.0\nVia: SIP/2.0/UDP {};branch=z9hG4bK-{serial}\nMax-Forwards: 70\nFrom: {TRUNK_FROM};tag={serial}\n\
         To: <{uri}>\nCall-ID: report-{serial}\nCSeq: 1 NOTIFY\nContact: <sip:vm@203.0.113.5>\nEvent: {event}\n\
         Subscription-State: active\nContent-Type: application/simple-message-summary\nContent-Length: {}\n\n",
        flow.remote,
        body.len()
    );
    b.input(Input::Received { flow, bytes: format!("{}{body}", head.replace('\n', "\r\n")).into() });
    b.take_response("NOTIFY", &flow.remote.to_string(), 200).status()
}

#[test]
fn a_mailbox_reported_by_a_trunk_reaches_its_own_user_only() {
    let mut b = Bench::new();
    let flow = from_stream(3);
    b.register(flow, "bob");
    let (_, first) = subscribed(&mut b, flow, "sip:bob@pbx.example.com", "message-summary");
    assert!(first.body().is_empty(), "nothing is known yet");
    b.pass(6_000);
    let waiting = "Messages-Waiting: yes\r\nMessage-Account: sip:1002@vm.internal\r\nVoice-Message: 2/8 (0/2)\r\n";
    assert_eq!(report(&mut b, udp(TRUNK), BOBS_LINE, "message-summary", waiting), 200);
    let notify = accept_notify(&mut b, flow);
    assert_eq!(body(&notify), "Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n");
    assert_eq!(notify.header(Name::ContentType), Some("application/simple-message-summary"));
    b.pass(6_000);
    assert_eq!(report(&mut b, udp(TRUNK), "sip:1002@pbx.example.com", "message-summary", waiting), 200);
    assert!(is_silent(&b), "no news");
    let (_, later) = subscribed(&mut b, flow, "sip:pbx.example.com", "message-summary");
    assert!(body(&later).contains("2/8"), "a device that comes later sees the last report");

    assert_eq!(report(&mut b, udp(ALICE), BOBS_LINE, "message-summary", waiting), 481, "no trunk");
    assert_eq!(report(&mut b, udp(TRUNK), BOBS_LINE, "dialog", waiting), 489);
    assert_eq!(report(&mut b, udp(TRUNK), "sip:1009@pbx.example.com", "message-summary", waiting), 404);
    assert_eq!(report(&mut b, udp(TRUNK), BOBS_LINE, "message-summary", "Messages-Waiting: perhaps\r\n"), 400);
    b.pass(6_000);
    assert!(is_silent(&b));
}

#[test]
fn a_user_watches_its_own_registrations() {
    let mut b = Bench::new();
    let (flow, address) = alice(&mut b);
    let (_, first) = subscribed(&mut b, flow, ALICE_URI, "reg");
    assert_eq!(first.header(Name::ContentType), Some("application/reginfo+xml"));
    assert!(body(&first).contains("aor=\"sip:alice@pbx.example.com\"") && body(&first).contains(&address));
    b.pass(6_000);
    let second = from_alice(2000, 2);
    b.register(second, "alice");
    let both = accept_notify(&mut b, flow);
    assert!(body(&both).contains("version=\"1\"") && body(&both).contains("198.51.100.77:2000"));
    b.pass(6_000);
    b.register(second, "alice");
    assert!(is_silent(&b), "a refresh changes nothing");
    b.input(Input::FlowFailed { flow: second });
    assert!(!body(&accept_notify(&mut b, flow)).contains("198.51.100.77:2000"));
}
