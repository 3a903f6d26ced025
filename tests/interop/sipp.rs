//! Drives SIPp 3.6 (Debian package `sip-tester`, which has no TLS): plain RTP, scenarios of our own under `tests/interop/sipp`.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    common::{
        process::{Process, fresh_ip, wait_for},
        server::{Account, Ringdown},
    },
    tone,
};

/// How many requests of this method stand in a client's messages. One that was sent again counts once.
pub(crate) fn requests(messages: &str, method: &str) -> usize {
    let start = format!("\n{method} sip:");
    let texts = messages.split(&start).skip(1);
    texts.filter_map(|text| text.lines().find(|line| line.starts_with("CSeq:"))).collect::<BTreeSet<_>>().len()
}

/// How one SIPp is run. It plays `tone.ul` where its scenario says so.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    /// File name under `tests/interop/sipp`.
    pub(crate) scenario: &'a str,
    /// `udp` or `tcp`.
    pub(crate) transport: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) hz: u32,
    /// Seconds until it gives up.
    pub(crate) patience_s: u64,
    /// So many calls it waits for, or makes.
    pub(crate) calls: u32,
    /// Sends received RTP back.
    pub(crate) echoes: bool,
    /// Values of `[name]` and `@name@` in the scenario.
    pub(crate) keys: Vec<(&'a str, String)>,
    pub(crate) account: Option<Account>,
    /// The `uri` of its credentials, without scheme; SIPp's own default is the server's address.
    pub(crate) auth_uri: Option<String>,
    /// Starts calls towards this address; otherwise it waits for one.
    pub(crate) remote: Option<SocketAddr>,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(scenario: &'a str, hz: u32) -> Self {
        Self {
            scenario,
            transport: "udp",
            ip: fresh_ip(),
            hz,
            patience_s: 40,
            calls: 1,
            echoes: false,
            keys: Vec::new(),
            account: None,
            auth_uri: None,
            remote: None,
        }
    }
}

pub(crate) struct Sipp {
    process: Process,
    patience: Duration,
    dir: PathBuf,
}

impl Sipp {
    pub(crate) fn start(server: &Ringdown, setup: &Setup<'_>) -> Self {
        crate::need("sipp", "sip-tester");
        let dir = server.dir().join(format!("sipp-{}-{}", setup.ip, setup.scenario));
        fs::create_dir_all(&dir).expect("a writable folder");
        tone::write_ulaw(&dir.join("tone.ul"), setup.hz, 30).expect("a writable folder");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/sipp").join(setup.scenario);
        let mut text = fs::read_to_string(source).expect("a scenario");
        // What stands in a status line must be there before SIPp reads it.
        for (name, value) in &setup.keys {
            text = text.replace(&format!("@{name}@"), value);
        }
        let scenario = dir.join("scenario.xml");
        fs::write(&scenario, text).expect("a writable folder");
        let ip = setup.ip.to_string();
        let mut command = Command::new("sipp");
        command
            .env("TERM", "dumb")
            .arg("-sf")
            .arg(scenario)
            .args(["-i", &ip, "-p", "5060", "-mi", &ip, "-mp", "10000"]);
        let transport = if setup.transport == "tcp" { "t1" } else { "u1" };
        command.args([
            "-m",
            &setup.calls.to_string(),
            "-t",
            transport,
            "-timeout",
            &format!("{}s", setup.patience_s),
            "-timeout_error",
            "-nostdin",
        ]);
        command.args(["-trace_msg", "-message_file", "messages", "-trace_err", "-error_file", "errors"]);
        if let Some(account) = setup.account {
            command.args(["-au", account.user, "-ap", account.password]);
        }
        if let Some(uri) = &setup.auth_uri {
            command.args(["-auth_uri", uri]);
        }
        if setup.echoes {
            command.arg("-rtp_echo");
        }
        for (name, value) in &setup.keys {
            command.args(["-key", name, value]);
        }
        if let Some(remote) = setup.remote {
            command.arg(remote.to_string());
        }
        let process = Process::start(&format!("sipp-{}", setup.scenario), command, &dir, Stdio::null());
        let mut sipp = Self { process, patience: Duration::from_secs(setup.patience_s + 5), dir };
        if setup.remote.is_none() {
            // It says nothing when it listens.
            thread::sleep(Duration::from_millis(500));
            assert!(!sipp.process.has_ended(), "sipp ended: {}", sipp.errors());
        }
        sipp
    }

    /// Waits until it has received or sent this, so often.
    pub(crate) fn wait_message(&self, text: &str, times: usize) {
        wait_for(&format!("sipp's {text:?}, {times} times"), self.patience, || {
            (self.messages().matches(text).count() >= times).then_some(())
        });
    }

    /// What it has sent and received so far.
    pub(crate) fn messages(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("messages")).unwrap_or_default()).into_owned()
    }

    /// Exit status 0 means that the call followed the scenario to its end. Gives every message of it.
    pub(crate) fn wait_done(mut self) -> String {
        let status = self.process.wait_exit(self.patience);
        assert!(status.success(), "sipp ended with {status}: {}", self.errors());
        fs::read_to_string(self.dir.join("messages")).expect("the messages of a call")
    }

    /// What went wrong, and the messages that led to it.
    fn errors(&self) -> String {
        let read = |name| fs::read(self.dir.join(name)).unwrap_or_default();
        ["errors", "messages"].map(|name| String::from_utf8_lossy(&read(name)).into_owned()).join("\n")
    }
}
