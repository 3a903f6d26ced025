//! Text messages and subscriptions, over networks that lose, double and delay.

use std::collections::BTreeMap;

use ringdown::{
    call::SyncOutcome,
    types::{Duration, Transport},
    wire::{
        sip::{Message, Method, Name},
        srtp::Suite,
    },
};

use crate::{
    net::{STORM, Weather},
    phone::Answer,
    world::{Plan, World},
};

const SUITES: &[Suite] = &[Suite::AesCm128HmacSha1_80];
const FINE: Weather = Weather { lost_per_mille: 0, doubled_per_mille: 0, delay_ms_min: 5, delay_ms_max: 30 };

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn notifies(w: &World, phone: usize) -> impl Iterator<Item = &Message> {
    w.phones[phone].events.iter().filter(|message| message.method() == Some(Method::Notify))
}

/// Status of the last answer outside calls.
fn last_status(w: &World, phone: usize) -> u16 {
    w.phones[phone].responses.last().map_or(0, Message::status)
}

/// The lamp of a subscriber who takes the documents in the order of their versions, as RFC 4235 section 4 wants it: the
/// state of each dialog.
fn lamp(w: &World, phone: usize) -> BTreeMap<String, String> {
    let mut documents: BTreeMap<u32, String> = BTreeMap::new();
    for notify in notifies(w, phone) {
        let body = String::from_utf8(notify.body().to_vec()).expect("documents are text");
        documents
            .insert(between(&body, "dialog-info\" version=\"", "\"").parse().expect("a version is a number"), body);
    }
    let mut dialogs = BTreeMap::new();
    for body in documents.values() {
        if between(body, " state=\"", "\"") == "full" {
            dialogs.clear();
        }
        for dialog in body.split("<dialog ").skip(1) {
            dialogs.insert(between(dialog, "id=\"", "\"").to_owned(), between(dialog, "<state>", "<").to_owned());
        }
    }
    dialogs
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(inner, _)| inner)
}

fn is_dark(w: &World, phone: usize) -> bool {
    lamp(w, phone).values().all(|state| state == "terminated")
}

/// Subscribes `phone` to the calls of extension 1002. Returns the answer.
fn watch(w: &mut World, phone: usize) -> Message {
    w.act(phone, |p, now| p.subscribe(now, "1002", "dialog", 3600, None));
    let is_answer = |message: &&Message| message.method_text() == "SUBSCRIBE" && message.status() == 200;
    w.until("the first document", s(40), |w| {
        w.phones[phone].responses.iter().any(|m| is_answer(&m)) && notifies(w, phone).next().is_some()
    });
    w.phones[phone].responses.iter().rfind(is_answer).expect("it was answered").clone()
}

#[test]
fn a_text_message_arrives_once_whatever_the_network_does() {
    for seed in 0..20 {
        let mut w = World::new(&Plan::new(5_000 + seed));
        let a = w.registered(1, SUITES);
        let b = w.registered(2, SUITES);
        w.net.weather = STORM;
        w.act(a, |p, now| p.text(now, "1002", "Lunch?"));
        w.run(s(40));
        w.net.weather = FINE;
        let texts: Vec<_> = w.phones[b].events.iter().map(Message::body).collect();
        match last_status(&w, a) {
            200 => assert_eq!(texts, ["Lunch?"], "seed {seed}: the sender was told that it arrived"),
            _ => assert!(texts.len() <= 1, "seed {seed}: twice"),
        }
        w.finish();
    }
}

#[test]
fn a_text_message_to_a_phone_that_is_switched_off_is_not_said_to_have_arrived() {
    let mut w = World::new(&Plan::new(5_100));
    let a = w.registered(1, SUITES);
    let b = w.registered(2, SUITES);
    let (transport, off) = (w.phones[b].profile.transport, w.phones[b].profile.ip);
    assert_eq!(transport, Transport::Udp);
    w.phones[b].profile.ip = "203.0.113.250".parse().expect("an address");
    w.act(a, |p, now| p.text(now, "1002", "Lunch?"));
    w.run(s(35));
    assert_eq!(last_status(&w, a), 480);
    w.phones[b].profile.ip = off;
    w.finish();
}

#[test]
fn a_lamp_shows_ringing_talking_and_silence() {
    let mut w = World::new(&Plan::new(5_200));
    w.net.weather = FINE;
    let a = w.registered(1, SUITES);
    let b = w.registered(2, SUITES);
    let c = w.registered(3, SUITES);
    w.phones[b].profile.answer = Answer::After(s(4));
    let answer = watch(&mut w, c);
    w.run(s(2));
    assert!(lamp(&w, c).is_empty());
    let ac = w.dial(a, "1002");
    w.run(s(2));
    assert_eq!(lamp(&w, c).values().collect::<Vec<_>>(), ["early"]);
    w.run(s(5));
    assert_eq!(lamp(&w, c).values().collect::<Vec<_>>(), ["confirmed"]);
    w.hang_up(a, ac);
    w.run(s(3));
    assert_eq!(lamp(&w, c).values().collect::<Vec<_>>(), ["terminated"]);
    w.act(c, |p, now| p.subscribe(now, "1002", "dialog", 0, Some(&answer)));
    w.run(s(3));
    let last = notifies(&w, c).last().and_then(|notify| notify.header(Name::SubscriptionState));
    assert_eq!(last, Some("terminated;reason=timeout"));
    w.finish();
}

#[test]
fn after_any_storm_a_lamp_is_dark_when_nobody_talks() {
    let mut survived = 0;
    for seed in 0..20 {
        let mut w = World::new(&Plan::new(5_300 + seed));
        let a = w.registered(1, SUITES);
        let b = w.registered(2, SUITES);
        let c = w.registered(3, SUITES);
        let answer = watch(&mut w, c);
        w.net.weather = STORM;
        for round in 0..3 {
            let ac = w.dial(a, "1002");
            w.run(s(2 + round));
            w.hang_up(a, ac);
            w.run(s(1));
        }
        w.net.weather = FINE;
        w.run(s(80));
        assert_eq!(w.phones[b].live_calls().count(), 0);
        // A subscription that the storm has ended is dark by its end.
        let is_over = w.server.core.subscriptions_len() == 0;
        assert!(is_over || is_dark(&w, c), "seed {seed}: {:?}", lamp(&w, c));
        w.act(c, |p, now| p.subscribe(now, "1002", "dialog", 0, Some(&answer)));
        w.run(s(3));
        assert_eq!(last_status(&w, c), if is_over { 481 } else { 200 }, "seed {seed}");
        survived += usize::from(!is_over);
        w.finish();
    }
    assert!(survived > 15, "only {survived} of 20 subscriptions survived");
}

#[test]
fn a_server_that_was_restarted_knows_no_subscription_and_says_so() {
    let mut w = World::new(&Plan::new(5_400));
    w.net.weather = FINE;
    let c = w.registered(3, SUITES);
    w.registered(2, SUITES);
    let answer = watch(&mut w, c);
    w.crash();
    w.act(c, |p, now| p.subscribe(now, "1002", "dialog", 3600, Some(&answer)));
    w.run(s(3));
    assert_eq!(last_status(&w, c), 481, "the phone subscribes anew");
    let before = notifies(&w, c).count();
    w.act(c, |p, now| p.subscribe(now, "1002", "dialog", 3600, None));
    w.run(s(3));
    assert_eq!((last_status(&w, c), notifies(&w, c).count()), (200, before + 1));
    let answer = w.phones[c].responses.last().expect("it was answered").clone();
    w.act(c, |p, now| p.subscribe(now, "1002", "dialog", 0, Some(&answer)));
    w.finish();
}

#[test]
fn a_subscription_ends_with_the_connection_of_its_phone() {
    let mut w = World::new(&Plan::new(5_500));
    w.net.weather = FINE;
    w.registered(2, SUITES);
    let c = w.phone(3, Transport::Tls, SUITES);
    w.register(c);
    watch(&mut w, c);
    assert_eq!(w.server.core.subscriptions_len(), 1);
    let connection = w.phones[c].connection.expect("it is connected");
    w.net.cut(w.now, connection);
    w.run(s(1));
    assert_eq!(w.server.core.subscriptions_len(), 0);
    w.run(s(10));
    w.finish();
}

// Telephones that fetch their configuration again.

/// Outcomes of an order to the devices of user 1, sorted.
fn resynced(w: &mut World) -> Vec<SyncOutcome> {
    w.server.resync(w.now, &mut w.net, "u1");
    w.until("every device's answer", s(11), |w| !w.server.resynced.is_empty());
    let mut devices = w.server.resynced.remove(0);
    devices.sort_by_key(|device| device.transport);
    devices.into_iter().map(|device| device.outcome).collect()
}

#[test]
fn an_order_to_fetch_the_configuration_reaches_devices_over_every_transport_and_says_which_it_does_not() {
    const TAKEN: SyncOutcome = SyncOutcome::Answered { status: 200, reason: "OK" };
    let mut w = World::new(&Plan::new(5_700));
    w.net.weather = FINE;
    let phones = [Transport::Udp, Transport::Tcp, Transport::Tls].map(|transport| w.phone(1, transport, SUITES));
    phones.into_iter().for_each(|phone| w.register(phone));
    assert_eq!(resynced(&mut w), [TAKEN, TAKEN, TAKEN]);
    for phone in phones {
        let events: Vec<_> = notifies(&w, phone).map(|notify| notify.header(Name::Event)).collect();
        assert_eq!(events, [Some("check-sync;reboot=false")]);
    }
    // Restored from the store, but nothing leads there until the phone comes back.
    w.crash();
    assert_eq!(resynced(&mut w), [SyncOutcome::NoConnection, SyncOutcome::NoConnection, TAKEN], "tcp, tls, udp");
    w.finish();
}
