//! The proof that an operator starts: it runs the real binary against itself.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::common::server::BINARY;

fn prove(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(["prove", "--format", "json"])
        .args(arguments)
        .output()
        .expect("the binary of this package")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Which claims there are, in their order.
fn names(report: &Value) -> Vec<&str> {
    report["claims"].as_array().expect("a list").iter().filter_map(|claim| claim["name"].as_str()).collect()
}

const CLAIMS: [&str; 20] = [
    "filter",
    "process-rules",
    "threads",
    "media-threads",
    "descriptors",
    "plaintext",
    "hold",
    "system-calls",
    "records-in-calls",
    "state-in-calls",
    "plaintext-gcm",
    "rtcp",
    "residue",
    "dumps",
    "swap",
    "records",
    "files",
    "log",
    "files-written",
    "reach",
];

/// Goal: every claim holds on this machine, or is said not to be shown. As root, which tests in CI are, nearly all are shown.
#[test]
fn every_claim_about_audio_is_shown_or_said_not_to_be() {
    let output = prove(&[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = report(&output);
    assert_eq!(names(&report), CLAIMS[..19]);
    let claims = report["claims"].as_array().expect("a list");
    let with = |verdict: &str| claims.iter().filter(|claim| claim["verdict"] == verdict).count();
    assert_eq!(with("failed"), 0, "{text}");
    assert!(claims.iter().all(|claim| claim["how"].as_str().is_some_and(|how| !how.is_empty())));
    let code = if with("not-shown") == 0 { 0 } else { 69 };
    assert_eq!(output.status.code(), Some(code), "{text}");
    if rustix::process::geteuid().is_root() {
        // A container may keep even root from locking memory; whatever it allows, this process could look into the other.
        let not_shown: Vec<_> = claims.iter().filter(|claim| claim["verdict"] == "not-shown").collect();
        assert!(not_shown.iter().all(|claim| claim["name"] == "swap"), "{not_shown:#?}");
    }
    assert!(report["out_of_reach"].as_str().is_some_and(|text| text.contains("kernel")), "{text}");
}

/// Goal: an operator's settings are those under which all this holds, and what was not taken is said. Method: a configuration with
/// other settings than the usual ones, and one that is wrong.
#[test]
fn an_operators_settings_are_taken_where_a_second_server_can() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("own.toml");
    let text = "[server]\nstate_dir = \"state-of-mine\"\n[media]\nworkers = 2\nencryption = \"preferred\"\n\
                [company]\nname = \"x\"\nregion = \"US\"\n[privacy]\nsandbox = \"best-effort\"\n[log]\nformat = \"json\"\n";
    fs::write(&config, text).expect("a writable folder");
    let file = config.to_str().expect("plain letters");
    let output = prove(&["--config", file]);
    let report = report(&output);
    let mut wanted = CLAIMS[..19].to_vec();
    wanted.insert(2, CLAIMS[19]);
    assert_eq!(names(&report), wanted);
    let claims = report["claims"].as_array().expect("a list");
    let failed: Vec<_> = claims.iter().filter(|claim| claim["verdict"] == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let settings = report["settings"].as_str().expect("a sentence");
    for taken in
        [file, "media.workers = 2", "media.encryption = \"preferred\"", "log.format = \"json\"", "Not taken: log.level"]
    {
        assert!(settings.contains(taken), "{taken} is not in {settings}");
    }
    let seen = |name: &str| {
        claims.iter().find(|claim| claim["name"] == name).and_then(|claim| claim["seen"].as_str()).unwrap_or_default()
    };
    assert!(
        seen("reach").contains("writes state-of-mine") && seen("reach").contains("/etc/hosts"),
        "{}",
        seen("reach")
    );
    assert!(seen("threads").contains("media-1"), "{}", seen("threads"));

    fs::write(&config, "nonsense").expect("a writable folder");
    assert_eq!(prove(&["--config", file]).status.code(), Some(64));
}
