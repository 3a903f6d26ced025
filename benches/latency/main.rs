//! A SIP server under calls: set-up time, packets lost, one-way latency, CPU per packet and memory per call.
//!
//! Telephones register, call each other in pairs and speak in both directions, 50 packets a second (`--ptime`) of 160 bytes under SRTP. Every
//! packet carries when it was sent; its age is read when the thread that receives takes it. The same telephones' voices without any server
//! between, at the same and at higher loads, show what this tool and this machine themselves take: its own limit.
//!
//! ```sh
//! cargo bench --bench latency                                      # this package's server on loopback
//! cargo bench --bench latency -- --server sip:192.0.2.10:5060 --users users.csv --calls 200
//! cargo bench --bench latency -- --ramp --json
//! cargo bench --bench latency -- --calls 2000 --rate 100 --seconds 300 --leak-check      # --ptime 200 where two cores must do
//! cargo bench --bench latency -- --calls 4000 --rate 200 --seconds 5     # memory of a call
//! ```
//!
//! Telephones do not refresh registrations or sessions, so a run should end within 15 minutes.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, reads the clock and files, and may stop when anything fails"
)]

mod direct;
mod options;
mod phones;
mod process;
mod report;
mod spread;
mod voices;

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser as _;
use ringdown::{shell::clock::Clock, types::Rng};

use options::{Options, Way};
use phones::{Exchange, Phones};
use process::{Held, Process, Server};
use report::{Ramp, RampEnd, Report, Step};
use voices::{STRAGGLERS, Voices};

/// Packets of a call that is being set up, and the first look at tables and caches, do not count.
const WARM_UP: Duration = Duration::from_secs(1);
/// 64*T1, after which no transaction is left, and some more.
const REST: Duration = Duration::from_secs(40);
/// Memory that a server may have kept of calls that are over.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// The memory of fewer calls is lost in what the allocator takes at once.
const CALLS_WEIGHED_MIN: usize = 100;
/// Descriptors for everything else.
const OTHER_DESCRIPTORS: u64 = 100;
/// Steps of a ramp: it ends when two are so close.
const RAMP_STEP: f64 = 1.1;
/// No step begins later: registrations and sessions would end.
const RAMP_MAX: Duration = Duration::from_secs(12 * 60);

fn main() -> ExitCode {
    let mut options = Options::parse();
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    if !options.bench {
        (options.calls, options.seconds) = (4, 1);
    }
    raise_file_limit();
    match measure(&options) {
        Ok(report) => {
            report.print(options.json);
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Report, String> {
    let clock = Clock::start();
    let voices = Arc::new(Voices::start(clock, options.ptime));
    let mut report = Report::new(options.clone(), direct::limit(options, &voices)?);
    // A ramp of this package's server may go as far as the tool itself.
    let calls = if options.ramp { report.limit.calls().max(options.calls) } else { options.calls };
    let users = 2 * calls.min(calls_affordable());
    let started = match options.server {
        Some(_) => None,
        None => Some(Server::start(options.binary.as_deref(), users, "")?),
    };
    let mut bench = Bench::new(clock, options, started.as_ref(), users, voices)?;
    if bench.phones.calls_max() < options.calls {
        let descriptors = 4 * options.calls as u64 + OTHER_DESCRIPTORS;
        return Err(format!(
            "{0} calls need {1} users and {descriptors} descriptors",
            options.calls,
            2 * options.calls
        ));
    }
    if options.leak_check {
        bench.warm_up(&mut report)?;
    }
    match options.ramp {
        true => report.ramp = Some(bench.ramp(&mut report.steps)),
        false => report.steps.push(bench.step(options.calls)?),
    }
    match options.leak_check {
        true => bench.check_leaks(&mut report)?,
        // After a ramp that has met the server's end there may be nobody to hang up with.
        false if options.ramp => _ = bench.phones.hold(0, options.rate),
        false => _ = bench.phones.hold(0, options.rate)?,
    }
    if started.is_some() {
        report.drops = Server::drops();
    }
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    phones: Phones,
    voices: Arc<Voices>,
    process: Option<Process>,
    /// Number of the last window.
    window: u64,
}

impl<'a> Bench<'a> {
    fn new(
        clock: Clock,
        options: &'a Options,
        started: Option<&Server>,
        users: usize,
        voices: Arc<Voices>,
    ) -> Result<Self, String> {
        let is_tls = options.transport == Way::Tls;
        let server = options.server.unwrap_or_else(|| Server::address(is_tls));
        let exchange = Exchange {
            server,
            domain: options.domain.clone().unwrap_or_else(|| server.ip().to_string()),
            transport: options.transport.transport(),
            ca: options.ca.clone().or_else(|| started.map(Server::ca)),
            local: match (options.local, options.server) {
                (Some(local), _) => local,
                (None, None) => process::TELEPHONES,
                (None, Some(server)) => own_address(server).map_err(|error| format!("{server}: {error}"))?,
            },
            suite: options.suite,
            accounts: match &options.users {
                Some(file) => read_accounts(file)?,
                None => process::accounts(users),
            },
        };
        let process = started.map(Server::process).or_else(|| options.pid.map(Process));
        // A server may still know the dialogs of an earlier run.
        let rng = Rng::from_small_seed(clock.now().unix_ns());
        let phones = Phones::new(clock, exchange, Arc::clone(&voices), rng);
        Ok(Self { options, phones, voices, process, window: 0 })
    }

    /// So many calls, and what is measured while they last.
    fn step(&mut self, calls: usize) -> Result<Step, String> {
        self.phones.register(calls, self.options.rate)?;
        let rested = self.process.map(Process::resident_bytes);
        let calls_before = self.phones.calls();
        let set_ups = self.phones.hold(calls, self.options.rate)?;
        self.phones.run(WARM_UP)?;
        self.window += 1;
        let cpu_before = self.process.map(Process::cpu);
        let opened = self.voices.open(self.window);
        self.phones.run(Duration::from_secs(self.options.seconds))?;
        let time = self.voices.close(opened);
        let cpu = self.process.map(Process::cpu).zip(cpu_before).map(|(after, before)| after - before);
        let resident = self.process.map(Process::resident_bytes);
        self.phones.run(STRAGGLERS)?;
        let up = self.phones.calls();
        // After a round that does not count, its memory is there already.
        let is_first = calls_before == 0 && up >= CALLS_WEIGHED_MIN && !self.options.leak_check;
        let memory = resident.zip(rested).filter(|_| is_first);
        let bytes_per_call = memory.map(|(after, before)| after.saturating_sub(before) / up as u64);
        Ok(Step { wanted: calls, calls: up, set_ups, heard: self.voices.heard(time), cpu, bytes_per_call })
    }

    /// Doubles until it is not clean any more, and then halves the distance. Whatever ends it, what was found until then stays.
    fn ramp(&mut self, steps: &mut Vec<Step>) -> Ramp {
        let (began, calls_max) = (Instant::now(), self.phones.calls_max());
        let (mut highest_clean, mut unclean) = (0, None);
        let mut calls = self.options.calls;
        let end = loop {
            match self.is_clean(calls, steps) {
                Ok(true) => highest_clean = calls,
                Ok(false) => unclean = Some(calls),
                Err(error) => break RampEnd::Stopped(format!("at {calls} calls, {error}")),
            }
            calls = match unclean {
                None if highest_clean == calls_max => break RampEnd::NoMore,
                None => (2 * highest_clean).min(calls_max),
                Some(unclean) if unclean as f64 <= RAMP_STEP * highest_clean as f64 || unclean - highest_clean <= 1 => {
                    break RampEnd::Unclean(unclean);
                }
                Some(unclean) => usize::midpoint(highest_clean, unclean),
            };
            if began.elapsed() > RAMP_MAX {
                break RampEnd::Stopped(format!("{RAMP_MAX:?} are over, and {calls} calls were not tried"));
            }
        };
        Ramp { highest_clean, end }
    }

    /// Once more, if not at the first try: something else on the machine may have had its moment.
    fn is_clean(&mut self, calls: usize, steps: &mut Vec<Step>) -> Result<bool, String> {
        for _ in 0..2 {
            let step = self.step(calls)?;
            steps.push(step);
            if steps.last().is_some_and(Step::is_clean) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a server takes once, and keeps, does not count as left behind.
    fn warm_up(&mut self, report: &mut Report) -> Result<(), String> {
        self.phones.hold(self.options.calls, self.options.rate)?;
        self.phones.run(WARM_UP)?;
        report.held_before = Some(self.held_at_rest()?);
        Ok(())
    }

    fn check_leaks(&mut self, report: &mut Report) -> Result<(), String> {
        report.held_after = Some(self.held_at_rest()?);
        Ok(())
    }

    /// With every telephone registered and no call.
    fn held_at_rest(&mut self) -> Result<Held, String> {
        self.phones.hold(0, self.options.rate)?;
        self.phones.run(REST)?;
        let server = self.options.server.unwrap_or_else(|| Server::address(false));
        self.process.map(|process| process.held(server.ip())).ok_or_else(|| "--leak-check needs --pid".to_owned())
    }
}

/// From which this machine would send.
fn own_address(server: std::net::SocketAddr) -> std::io::Result<std::net::IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

fn read_accounts(file: &Path) -> Result<Vec<(String, String)>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let rows = text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.split_once(','));
    let account = |row: Option<(&str, &str)>| row.map(|(name, password)| (name.trim().to_owned(), password.to_owned()));
    rows.map(account).collect::<Option<_>>().ok_or_else(|| format!("{}: needed: name,password", file.display()))
}

/// Each of its two telephones takes two descriptors here, and each of its two legs takes two of the server's.
fn calls_affordable() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS) / 4).unwrap_or(usize::MAX)
}

fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
