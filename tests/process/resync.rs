//! Telephones made to fetch their configuration again, as an operator does it.

use std::thread;

use crate::{
    COMPANY,
    common::server::{ALICE, BOB, Ringdown},
    phone::Phone,
};

#[test]
fn an_operator_makes_a_phone_fetch_its_configuration_and_sees_its_answer() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB]);
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    for (options, event) in [(&["--reboot"][..], "check-sync;reboot=true"), (&[], "check-sync;reboot=false")] {
        let arguments = [&["user", "resync", "alice"], options].concat();
        let (output, heard) = thread::scope(|scope| {
            let command = scope.spawn(|| server.command(&arguments, ""));
            let heard = alice.notified();
            (command.join().expect("it does not panic"), heard)
        });
        assert_eq!(heard, event);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(text.lines().any(|line| line.contains("udp") && line.ends_with("200 OK")), "{text}");
    }
}

#[test]
fn an_order_that_reaches_no_phone_fails_and_says_why() {
    let mut server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB]);
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    let fails = |server: &Ringdown, user: &str, code: i32, cause: &str| {
        let output = server.command(&["user", "resync", user], "");
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.code() == Some(code) && text.contains(cause), "{output:?}");
    };
    fails(&server, "bob", 69, "no phone of bob is registered");
    fails(&server, "eve", 64, "there is no user `eve`");
    // Nobody answers for the phone now.
    fails(&server, "alice", 69, "no answer");
    server.kill();
    fails(&server, "alice", 69, "Connection refused");
}
