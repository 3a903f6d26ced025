//! What phones do in calls, each feature over each transport, by both makes of phone.

use std::{thread, time::Duration};

use crate::{
    CAROL, COMPANY,
    baresip::{self, Baresip},
    common::{
        process::wait_for,
        server::{ALICE, BOB, Ringdown},
    },
    linphone::{self, Linphone},
    phone::{Make, Phone},
    sipp::{self, Sipp},
    tone::{A_HZ, B_HZ, C_HZ},
    trunk_over,
};

/// Each feature as three tests, which run and fail apart from one another.
macro_rules! over_each_transport {
    ($($feature:ident)*) => {
        $(mod $feature {
            #[test]
            fn over_udp() {
                super::$feature("udp");
            }

            #[test]
            fn over_tcp() {
                super::$feature("tcp");
            }

            #[test]
            fn over_tls() {
                super::$feature("tls");
            }
        })*
    };
}

over_each_transport!(hold_and_resume blind_transfer attended_transfer forking keys early_media);

/// The direction that the last session description in a phone's log gives, sent or received.
fn direction(log: &str) -> &str {
    let all = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let last = all.iter().filter_map(|name| Some((log.rfind(name)?, *name))).max();
    last.map_or("", |(_, name)| name)
}

/// One holds the other and resumes.
fn hold(holder: &mut Phone, held: &Phone) {
    let wait = |directions: &[&str]| {
        let is_one = || directions.contains(&direction(&held.log())).then_some(());
        wait_for(&format!("one of {directions:?}"), Duration::from_secs(20), is_one);
    };
    holder.hold();
    wait(&["a=recvonly", "a=inactive"]);
    holder.resume();
    wait(&["a=sendrecv"]);
}

/// Each holds the other, and they hear each other again.
fn hold_and_resume(transport: &str) {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let mut bob = Phone::start(&server, Make::Linphone, transport, BOB, B_HZ, true);
    let mut alice = Phone::start(&server, Make::Baresip, transport, ALICE, A_HZ, false);
    let talk = |alice: &Phone, bob: &Phone| {
        let Phone::Baresip(phone) = alice else { panic!("it is a baresip") };
        phone.wait_receiving();
        bob.wait_heard(A_HZ);
    };
    alice.dial(BOB.extension);
    alice.wait_established();
    bob.wait_established();
    alice.wait_heard(B_HZ);
    talk(&alice, &bob);
    hold(&mut alice, &bob);
    talk(&alice, &bob);
    hold(&mut bob, &alice);
    talk(&alice, &bob);
    alice.hang_up();
    bob.wait_closed();
    server.wait_no_calls();
}

fn blind_transfer(transport: &str) {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB, CAROL]);
    let mut carol = Phone::start(&server, Make::Linphone, transport, CAROL, C_HZ, true);
    let mut bob = Phone::start(&server, Make::Baresip, transport, BOB, B_HZ, true);
    let mut alice = Phone::start(&server, Make::Linphone, transport, ALICE, A_HZ, false);
    alice.dial(BOB.extension);
    alice.wait_established();
    bob.wait_established();
    bob.transfer(CAROL.extension);
    carol.wait_established();
    bob.wait_closed();
    bob.forget();
    alice.wait_heard(C_HZ);
    carol.wait_heard(A_HZ);
    carol.transfer(BOB.extension);
    bob.wait_established();
    carol.wait_closed();
    alice.wait_heard(B_HZ);
    bob.wait_heard(A_HZ);
    alice.hang_up();
    bob.wait_closed();
    server.wait_no_calls();
    for phone in [&bob, &carol] {
        let log = phone.log();
        assert!(log.contains("SIP/2.0 202 Accepted") && log.contains("terminated;reason=noresource"));
    }
}

fn attended_transfer(transport: &str) {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB, CAROL]);
    let mut bob = Phone::start(&server, Make::Linphone, transport, BOB, B_HZ, true);
    let carol = Phone::start(&server, Make::Baresip, transport, CAROL, C_HZ, true);
    let mut alice = Phone::start(&server, Make::Linphone, transport, ALICE, A_HZ, false);
    alice.dial(BOB.extension);
    bob.wait_established();
    alice.wait_established();
    alice.hold();
    alice.dial(CAROL.extension);
    alice.wait_heard(C_HZ);
    let Phone::Linphone(phone) = &mut alice else { panic!("it is a linphone") };
    phone.join();
    phone.wait_transferred();
    bob.wait_heard(C_HZ);
    carol.wait_heard(B_HZ);
    bob.hang_up();
    carol.wait_closed();
    server.wait_no_calls();
    assert!(alice.log().contains("SIP/2.0 202 Accepted"));
}

/// Both devices of Bob ring, one answers, and the other is told to stop; then the other way round.
fn forking(transport: &str) {
    let other = match transport {
        "udp" => "tcp",
        "tcp" => "tls",
        _ => "udp",
    };
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let desk = Phone::start(&server, Make::Baresip, transport, BOB, B_HZ, false);
    let soft = Phone::start(&server, Make::Linphone, other, BOB, C_HZ, false);
    let mut alice = Phone::start(&server, Make::Linphone, transport, ALICE, A_HZ, false);
    let mut devices = [desk, soft];
    for hz in [B_HZ, C_HZ] {
        let [first, second] = &mut devices;
        alice.dial(BOB.extension);
        first.wait_incoming();
        second.wait_incoming();
        first.answer();
        first.wait_established();
        second.wait_closed();
        assert!(second.log().contains("\nCANCEL sip:"), "the device that did not answer is told so");
        alice.wait_heard(hz);
        first.wait_heard(A_HZ);
        alice.hang_up();
        first.wait_closed();
        server.wait_no_calls();
        for phone in [&mut *first, second, &mut alice] {
            phone.forget();
        }
        devices.reverse();
    }
}

/// Keys in the audio (RFC 4733) both ways, and by INFO from the linphone, which sends each of its keys both ways.
fn keys(transport: &str) {
    let server = Ringdown::started("required", COMPANY, &[ALICE, BOB]);
    let ca = server.ca();
    let sip = "use_info=1\nuse_rfc2833=1\n";
    let setup = linphone::Setup { transport, sip, ..linphone::Setup::new(BOB, B_HZ, true) };
    let mut bob = Linphone::start_as(&server, &setup);
    let mut alice = Baresip::start(&server, &baresip::Setup::new(ALICE, A_HZ, false).over(transport, Some(&ca)));
    alice.dial(BOB.extension);
    alice.wait_established();
    bob.wait_established();
    alice.press('7');
    bob.wait_key('7');
    bob.press('4');
    alice.wait_log("received DTMF: '4'");
    alice.wait_key('4', 2);
    alice.hang_up();
    server.wait_no_calls();
    assert!(alice.log().contains("\nINFO sip:"));
}

/// The trunk's transport beside a phone's: SIPp has no TLS.
fn trunk_transport(transport: &str) -> &'static str {
    if transport == "udp" { "udp" } else { "tcp" }
}

/// A phone hears what a trunk plays before it answers; afterwards it plays nothing.
fn announced(server: &Ringdown, carrier: &sipp::Setup<'_>, phone: &mut Phone) {
    let carrier = Sipp::start(server, carrier);
    phone.dial("+14155550123");
    phone.wait_heard(C_HZ);
    phone.wait_established();
    phone.hang_up();
    carrier.wait_done();
    server.wait_no_calls();
}

/// Both makes hear it; the linphone can acknowledge that it does, and is asked to.
fn early_media(transport: &str) {
    let beside = trunk_transport(transport);
    let carrier = sipp::Setup { transport: beside, ..sipp::Setup::new("trunk_plays_before_it_answers.xml", C_HZ) };
    let server = Ringdown::started("required", &trunk_over(beside, carrier.ip), &[ALICE, BOB]);
    let mut alice = Phone::start(&server, Make::Baresip, transport, ALICE, A_HZ, false);
    announced(&server, &carrier, &mut alice);
    let sip = "100rel_support_level=1\n";
    let bob = linphone::Setup { transport, sip, ..linphone::Setup::new(BOB, B_HZ, false) };
    let mut bob = Phone::Linphone(Linphone::start_as(&server, &bob));
    announced(&server, &carrier, &mut bob);
    assert!(bob.log().contains("\nPRACK sip:"), "a provisional response with a session description is reliable");
}

/// A linphone that refreshes its session calls a trunk that wants ours refreshed, which takes `methods`. Both happens after
/// 45 seconds, and the trunk is still heard.
fn session_refresh(transport: &str, methods: &'static str) {
    let beside = trunk_transport(transport);
    let carrier = sipp::Setup {
        transport: beside,
        patience_s: 90,
        keys: vec![("methods", methods.to_owned())],
        ..sipp::Setup::new("trunk_is_refreshed.xml", C_HZ)
    };
    let server = Ringdown::started("required", &trunk_over(beside, carrier.ip), &[ALICE]);
    let carrier = Sipp::start(&server, &carrier);
    let sip = "session_expires_enabled=1\nsession_expires_value=90\nsession_expires_refresher_value=2\n";
    let alice = linphone::Setup { transport, sip, ..linphone::Setup::new(ALICE, A_HZ, false) };
    let mut alice = Phone::Linphone(Linphone::start_as(&server, &alice));
    alice.dial("+14155550123");
    alice.wait_established();
    let (refresh, requests) = if methods.contains("UPDATE") { ("UPDATE", 1) } else { ("INVITE", 2) };
    carrier.wait_message(&format!("\n{refresh} sip:"), requests);
    let is_refreshed = || alice.log().contains("\nUPDATE sip:").then_some(());
    wait_for("linphone's refresh", Duration::from_secs(60), is_refreshed);
    alice.wait_heard(C_HZ);
    alice.hang_up();
    let messages = carrier.wait_done();
    server.wait_no_calls();
    assert_eq!(sipp::requests(&messages, refresh), requests, "one refresh is due in this time");
}

/// All at once, because each takes 45 seconds.
#[test]
fn session_refresh_over_each_transport() {
    thread::scope(|scope| {
        scope.spawn(|| session_refresh("udp", "INVITE, ACK, CANCEL, BYE, UPDATE"));
        scope.spawn(|| session_refresh("tcp", "INVITE, ACK, CANCEL, BYE"));
        scope.spawn(|| session_refresh("tls", "INVITE, ACK, CANCEL, BYE, UPDATE"));
    });
}
