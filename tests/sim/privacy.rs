//! Canaries: a distinctive password, the keys of both legs, credentials and audio go through whole calls with every
//! log line switched on; then everything the server wrote or can print is searched for them.

use std::{cell::RefCell, io};

use base64::{Engine, engine::general_purpose::STANDARD};
use ringdown::{types::Duration, wire::srtp::Suite};

use crate::{
    phone::Answer,
    trunk,
    voice::CANARY,
    world::{PASSWORD_CANARY, Plan, World},
};

thread_local! {
    /// What this thread's log lines are written to, if it wants them: other tests run beside this one.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Capture;

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.iter_mut().for_each(|lines| lines.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What must not be found, with its name.
type Canaries = Vec<(&'static str, String)>;

fn search(place: &str, text: &str, canaries: &Canaries) {
    for (name, canary) in canaries {
        if let Some(at) = text.find(canary.as_str()) {
            let from = (0..=at.saturating_sub(100)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            panic!("{name} stands in {place} after: {}", &text[from..at]);
        }
    }
}

#[test]
fn no_secret_and_no_audio_stands_in_a_log_line_a_record_or_a_debug_print() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Capture).init();
    // Lines that another test reached while this one began must ask again whether anybody listens.
    tracing::callsite::rebuild_interest_cache();
    LINES.set(Some(Vec::new()));
    let mut w = World::new(&Plan::with_trunk(99));
    let t = w.trunk(Answer::After(Duration::from_millis(300)));
    let a = w.registered(1, &[Suite::AesCm128HmacSha1_80]);
    let b = w.registered(2, &[Suite::AeadAes128Gcm]);
    let mut prints = Vec::new();
    for (whom, callee) in [("1002", b), ("+14155550123", t), ("911", t)] {
        let (ac, bc) = w.connect(a, whom, callee);
        w.run(Duration::from_secs(2));
        assert!(!w.phones[callee].calls[bc].voice.heard.is_empty());
        w.act(a, |p, now| p.hold(now, ac, true));
        w.run(Duration::from_secs(1));
        prints.push(format!("{:?}", w.server.core));
        prints.push(format!("{:?}", w.server.core.calls()));
        w.hang_up(a, ac);
        w.run(Duration::from_secs(3));
    }
    prints.push(format!("{:?}", w.server.core));
    prints.push(format!("{:?}", w.server.core.bindings()));
    let canaries = canaries(&w);
    assert!(canaries.len() > 10);
    for print in &prints {
        search("a debug print", print, &canaries);
    }
    for cdr in &w.server.store.cdrs {
        search("a CDR", &serde_json::to_string(cdr).expect("a CDR is JSON"), &canaries);
        search("a CDR's debug print", &format!("{cdr:?}"), &canaries);
    }
    let text = String::from_utf8(LINES.take().expect("it was set above")).expect("log lines are text");
    assert!(text.lines().count() > 3, "the server logs nothing, so this test proves nothing");
    search("the log", &text, &canaries);
    w.finish();
}

fn canaries(w: &World) -> Canaries {
    let mut out = vec![
        ("a password", PASSWORD_CANARY.to_owned()),
        ("the trunk's password", trunk::PASSWORD.to_owned()),
        ("audio", String::from_utf8_lossy(CANARY).into_owned()),
        ("audio as numbers", CANARY.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
        ("audio in hexadecimal", hexadecimal(CANARY)),
    ];
    for phone in &w.phones {
        for value in &phone.credentials {
            let response = value.split("response=\"").nth(1).and_then(|v| v.split('"').next()).unwrap_or_default();
            assert!(response.len() >= 32, "no digest response in {value}");
            out.push(("a digest response", response.to_owned()));
        }
        for voice in phone.calls.iter().map(|c| &c.voice) {
            for key in voice.own_keys().chain(voice.server_keys.iter().map(Vec::as_slice)) {
                out.push(("a key in base64", STANDARD.encode(key)));
                out.push(("a key in hexadecimal", hexadecimal(key)));
                out.push(("a key as numbers", key[..8].iter().map(u8::to_string).collect::<Vec<_>>().join(", ")));
            }
        }
    }
    out
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
#[should_panic(expected = "a password stands in the log after: user=u1 ")]
fn the_search_finds_a_planted_canary() {
    let canaries = vec![("a password", PASSWORD_CANARY.to_owned())];
    search("the log", &format!("user=u1 {PASSWORD_CANARY}-1"), &canaries);
}
