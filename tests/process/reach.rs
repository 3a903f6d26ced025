//! Ring groups and forwarding as an operator sets them up.

use std::{fs, process::Output, time::Duration};

use crate::{
    COMPANY,
    common::{
        process::wait_for,
        server::{ALICE, Account, BOB, Ringdown},
    },
    phone::Phone,
};

const CAROL: Account =
    Account { user: "carol", extension: "2003", direct_line: "+12025550103", password: "carol-password-canary-5d1e" };

fn forward(server: &Ringdown, arguments: &[&str]) -> Output {
    server.command(&[&["user"], arguments].concat(), "")
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Changes a user, and waits until the running server has the change. Returns what the command said.
fn noticed(server: &Ringdown, arguments: &[&str]) -> String {
    let reloads = || server.process_text().matches("The user directory was reloaded").count();
    let before = reloads();
    let text = told(&forward(server, arguments));
    wait_for("the server to notice", Duration::from_secs(10), || (reloads() > before).then_some(()));
    text
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn forwarding_and_do_not_disturb_reach_a_running_server_and_are_shown_in_the_list() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB, CAROL]);
    let [mut alice, mut bob, mut carol] = [ALICE, BOB, CAROL].map(|account| Phone::new(&server, account));
    for phone in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(phone.register(), 200);
    }
    assert!(noticed(&server, &["forward", "bob", "--always", "2003"]).contains("always to 2003"));
    assert!(told(&forward(&server, &["list"])).lines().any(|l| l.contains("bob") && l.ends_with("always to 2003")));
    let (call_id, cseq) = alice.invite(BOB.extension);
    let c = carol.answer();
    let a = alice.answered(&call_id, cseq);
    let calls = server.get("/v1/calls").expect("the admin interface").1;
    assert!(calls.contains("\"callee\":\"2002\"") && calls.contains("\"answered_by\":\"carol\""), "{calls}");
    alice.speak(&a, 20);
    assert!(carol.hear() > 10, "audio does not pass");
    carol.hang_up(&c);
    alice.wait_bye();

    noticed(&server, &["forward", "bob", "--off"]);
    noticed(&server, &["dnd", "bob", "on"]);
    assert_eq!(alice.refusal(BOB.extension).status(), 480);
}

#[test]
fn a_target_that_cannot_be_is_refused_when_it_is_set_and_nothing_changes() {
    let server = Ringdown::configured("required", COMPANY);
    server.add_user(&ALICE);
    server.add_user(&BOB);
    for (target, cause) in [
        ("911", "emergency"),
        ("9911", "emergency"),
        ("2009", "No Such Extension"),
        ("2001", "the same user"),
        ("voicemail", "No Such Extension"),
        ("a b", "no extension"),
    ] {
        let error = refused(&forward(&server, &["forward", "alice", "--busy", target]));
        assert!(error.contains(cause), "{target}: {error}");
    }
    assert!(refused(&forward(&server, &["forward", "eve", "--busy", "2002"])).contains("there is no user `eve`"));
    assert!(refused(&forward(&server, &["forward", "alice", "--after", "30"])).contains("--no-answer"));
    assert!(told(&forward(&server, &["forward", "alice"])).contains("ring the user's phones"));
    assert!(
        told(&forward(&server, &["forward", "alice", "--no-answer", "bob", "--after", "30"])).contains("after 30 s")
    );
}

#[test]
fn a_group_needs_its_members_and_they_need_to_leave_it_before_they_are_removed() {
    let more = format!("{COMPANY}[group.sales]\nextension = \"600\"\nmembers = [\"alice\", \"2002\"]\n");
    let server = Ringdown::configured("required", &more);
    server.add_user(&ALICE);
    let error = refused(&server.command(&["check"], ""));
    let text = fs::read_to_string(server.config()).expect("it was written");
    let line = 1 + text.lines().position(|l| l.starts_with("members")).expect("it is in the file");
    assert!(error.contains(&format!("line {line} ")) && error.contains("\"2002\" is no user"), "{error}");
    server.add_user(&BOB);
    told(&server.command(&["check"], ""));
    assert!(refused(&forward(&server, &["remove", "bob"])).contains("[group.sales]"));
    let taken = forward(&server, &["add", "carol", "--extension", "600"]);
    assert!(refused(&taken).contains("\"600\" is already a number of the user"), "{taken:?}");
}
