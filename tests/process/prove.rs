//! The proof that an operator starts: it runs the real binary against itself.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::server::BINARY;

fn prove(format: &str) -> Output {
    Command::new(BINARY).args(["prove", "--format", format]).output().expect("the binary of this package")
}

/// Goal: every claim holds on this machine, or is said not to be shown. As root, which tests in CI are, nearly all are shown.
#[test]
fn every_claim_about_audio_is_shown_or_said_not_to_be() {
    let output = prove("json");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    let claims = report["claims"].as_array().expect("a list");
    let with = |verdict: &str| claims.iter().filter(|claim| claim["verdict"] == verdict).count();
    assert_eq!(with("failed"), 0, "{text}");
    assert!(claims.len() >= 15 && claims.iter().all(|claim| claim["how"].as_str().is_some_and(|how| !how.is_empty())));
    let code = if with("not-shown") == 0 { 0 } else { 69 };
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(claims.iter().any(|claim| claim["name"] == "rtcp"), "{text}");
    if rustix::process::geteuid().is_root() {
        // A container may keep even root from locking memory; whatever it allows, this process could look into the other.
        let not_shown: Vec<_> = claims.iter().filter(|claim| claim["verdict"] == "not-shown").collect();
        assert!(not_shown.iter().all(|claim| claim["name"] == "swap"), "{not_shown:#?}");
    }
    assert!(report["out_of_reach"].as_str().is_some_and(|text| text.contains("kernel")), "{text}");
}
