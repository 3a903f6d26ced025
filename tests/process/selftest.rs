//! `ringdown selftest`, as an operator runs it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{process::wait_for, server::BINARY};

fn selftest(temporary: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("selftest").env("TMPDIR", temporary).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("the folder for temporary files").next().is_none()
}

#[test]
fn the_self_test_passes_prints_its_figures_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let output = selftest(temporary.path()).output().unwrap();
    let (out, err) = text(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(err.is_empty(), "{err}");
    assert!(!out.contains("FAILED"), "{out}");
    for check in ["connection", "registration", "emergency", "call", "keys", "voice", "secrecy", "hang-up", "end"] {
        assert!(out.contains(&format!("\nok      {check}: ")), "{check} in {out}");
    }
    for figure in ["set-up time", "relayed ", "direct ", "added ", "p99.9"] {
        assert!(out.contains(figure), "{figure} in {out}");
    }
    assert!(is_empty(temporary.path()));
}

#[test]
fn an_interrupted_self_test_fails_and_leaves_nothing_either() {
    let temporary = tempfile::tempdir().unwrap();
    let child = selftest(temporary.path()).spawn().unwrap();
    wait_for("the state folder", Duration::from_secs(10), || (!is_empty(temporary.path())).then_some(()));
    // Into the call.
    thread::sleep(Duration::from_secs(1));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(70), "{out}{err}");
    assert!(err.contains("interrupted"), "{err}");
    assert!(!out.contains("FAILED"), "{out}");
    assert!(is_empty(temporary.path()));
}

#[test]
fn a_self_test_that_cannot_start_says_why() {
    let output = selftest(Path::new("/dev/null/none")).output().unwrap();
    let (out, err) = text(&output);
    assert_eq!(output.status.code(), Some(74), "{out}{err}");
    assert!(err.contains("/dev/null/none") && err.contains("TMPDIR"), "{err}");
}
