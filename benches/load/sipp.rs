//! SIPp as the load.

use std::{
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::servers::{self, PASSWORD, Process};

/// Transactions at one time; SIPp slows down beyond.
const CONCURRENT_MAX: u32 = 3_000;

/// `accounts.csv`: user, credentials and direct line, line by line in turn.
pub(crate) fn write_accounts(folder: &Path) {
    let mut rows = "SEQUENTIAL\n".to_owned();
    for user in 0..servers::USERS {
        let (name, line) = servers::numbers(user);
        writeln!(rows, "{name};[authentication username={name} password={PASSWORD}];{line}").unwrap();
    }
    fs::write(folder.join("accounts.csv"), rows).unwrap();
}

/// One SIPp that starts `count` scenarios, `rate` a second.
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) rate: u32,
    pub(crate) count: u32,
}

impl Run {
    /// Until the last has ended; none may fail. Returns the times that the scenario measures, in milliseconds, sorted.
    pub(crate) fn finish(&self, folder: &Path) -> Vec<u32> {
        let Self { scenario, from, to, rate, count } = self;
        let limit = Duration::from_secs(30 + u64::from(count / rate * 2));
        let mut command = sipp(scenario, *from);
        command.args(["-inf", "accounts.csv", "-r", &rate.to_string(), "-m", &count.to_string()]);
        command.args([
            "-l",
            &CONCURRENT_MAX.to_string(),
            "-timeout",
            &format!("{}s", limit.as_secs()),
            "-timeout_error",
        ]);
        command.args(["-trace_rtt", "-rtt_freq", "1000", &format!("{to}:5060")]);
        let output = command.current_dir(folder).stdin(Stdio::null()).output().unwrap();
        let screen = String::from_utf8_lossy(&output.stdout);
        let log = || fs::read_to_string(folder.join("ringdown.log")).unwrap();
        assert!(output.status.success(), "{scenario}: {}\n{screen}\n{}", output.status, log());
        take_times(folder)
    }
}

/// SIPp writes `SCENARIO_PID_rtt.csv`: date, milliseconds, name.
fn take_times(folder: &Path) -> Vec<u32> {
    let files = fs::read_dir(folder).unwrap().flatten().map(|file| file.path());
    let mut times = Vec::new();
    for file in files.filter(|path| path.to_string_lossy().ends_with("_rtt.csv")) {
        let text = fs::read_to_string(&file).unwrap();
        times.extend(text.lines().filter_map(|line| line.split(';').nth(1)?.parse::<u32>().ok()));
        fs::remove_file(file).unwrap();
    }
    times.sort_unstable();
    times
}

/// The SIPp that answers calls, until dropped.
pub(crate) struct Answerer {
    _process: Process,
}

impl Answerer {
    pub(crate) fn start(folder: &Path) -> Self {
        let process = Process::start(sipp("answer.xml", servers::DEVICES), folder, "answerer");
        std::thread::sleep(Duration::from_millis(500));
        Self { _process: process }
    }
}

fn sipp(scenario: &str, ip: IpAddr) -> Command {
    let scenario = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/load").join(scenario);
    let ip = ip.to_string();
    let mut command = Command::new("sipp");
    command.env("TERM", "dumb").arg("-sf").arg(scenario);
    command.args(["-i", &ip, "-p", "5060", "-mi", &ip, "-t", "u1", "-nostdin", "-buff_size", "4000000"]);
    command
}
