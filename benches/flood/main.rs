//! A server under floods: what calls lose beside a bare forwarder, whether emergency calls connect, what memory it takes,
//! and how soon it is as before.
//!
//! The server runs as a process of its own, with calls of 50 packets a second each way under SRTP; a loop of `recvfrom` and
//! `sendto` forwards as many streams beside it. One flood after the other comes from strangers, a thousand addresses for
//! datagrams: junk, valid INVITEs, INVITEs to 911, REGISTERs with guessed passwords, TLS handshakes (one in four gone through
//! with), connections that say nothing or half a line, and RTP to every port of the range, those in use included. Each second
//! four telephones call 911 through a trunk that this program plays: over TLS, TCP and UDP, and over a TLS connection opened
//! for the call. Right after a flood a telephone that was not there before registers and is called.
//!
//! With `-- --refused` there is no trunk, so that emergency calls are refused with a 403 that says why: of telephones registered
//! over TLS, TCP and UDP, and of strangers over a connection, or from a port, opened for each call; twenty a second each, with the
//! time from INVITE to ACK, and how many had their refusal within 100 ms.
//!
//! `cargo bench --bench flood` takes some two minutes, with `-- --quick` half a minute; `-- --kind invites` takes one flood only.
//!
//! All of it shares one machine. On two cores the flood, the telephones and the server take the processor from each other, so the rate that
//! is reached is what is left for the sender, and both the server's and the forwarder's packets wait where a router in front
//! of a real server would have dropped nothing. What is compared is the two under the same conditions. Half-open connections
//! of forged addresses (SYN floods) are the kernel's (SYN cookies), and cannot be sent over loopback: these connections are open.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, reads the clock and files, and may stop when anything fails"
)]

mod callers;
mod carrier;
mod floods;
mod forwarder;
#[path = "../latency/phones.rs"]
#[allow(dead_code, reason = "the benchmark of latency uses more of it")]
mod phones;
#[path = "../latency/process.rs"]
#[allow(dead_code, reason = "the benchmark of latency looks for what is left, too")]
mod process;
mod report;
#[path = "../latency/spread.rs"]
mod spread;
#[path = "../latency/voices.rs"]
#[allow(dead_code, reason = "the benchmark of latency uses more of it")]
mod voices;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;
use ringdown::{
    shell::clock::Clock,
    types::{Rng, Transport},
    wire::srtp::Suite,
};

use callers::{Caller, Goal, Place, Way};
use carrier::Carrier;
use floods::{Kind, Sent, Target};
use forwarder::Forwarder;
use phones::{Exchange, Phones};
use process::{Process, Server};
use report::{Memory, Outcome};
use voices::{STRAGGLERS, Voices};

const CARRIER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 3));
const FORWARDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 4));
const CALLERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 5));
const CARRIER_PORT: u16 = 5060;
const SUITE: Suite = Suite::AesCm128HmacSha1_80;
const PTIME_MS: u16 = 20;
/// Calls that are set up in a second.
const SET_UPS_PER_S: u32 = 50;
const WARM_UP: Duration = Duration::from_secs(1);
/// Between two looks at the server's memory.
const LOOK: Duration = Duration::from_millis(50);

/// Floods, and what they do to a server with calls in progress.
#[derive(Clone, Debug, Parser)]
#[command(name = "flood", about, long_about = None)]
struct Options {
    /// Calls in progress, and half as many streams again through the forwarder
    #[arg(long, default_value_t = 50)]
    calls: usize,
    /// What each flood sends in a second, if the machine can
    #[arg(long, default_value_t = 50_000)]
    rate: u32,
    /// How long each flood lasts
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only floods whose name holds this
    #[arg(long, default_value = "")]
    kind: String,
    /// Without a trunk: how soon emergency calls of telephones and of strangers are refused
    #[arg(long)]
    refused: bool,
    /// Program to start instead of the one that was built along
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Two seconds each, and ten calls
    #[arg(long)]
    quick: bool,
    /// As `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    if options.quick {
        (options.calls, options.seconds) = (10, 2);
    }
    // `cargo bench` says so; `cargo test --all-targets` only wants to see it work.
    if !options.bench {
        (options.calls, options.seconds, options.rate) = (2, 1, 500);
    }
    raise_file_limit();
    match measure(&options) {
        Ok(outcomes) => {
            let is_kept = !options.bench || outcomes.iter().all(Outcome::is_kept);
            if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<Vec<Outcome>, String> {
    let mut bench = Bench::start(options)?;
    let name = |kind: Kind| kind.name().to_ascii_lowercase();
    let kinds = Kind::ALL.into_iter().filter(|kind| name(*kind).contains(&options.kind.to_ascii_lowercase()));
    let mut outcomes = Vec::new();
    // First without any, to see what the machine does by itself.
    for kind in std::iter::once(None).chain(kinds.map(Some)) {
        let outcome = bench.withstand(kind)?;
        print!("{}", outcome.text());
        outcomes.push(outcome);
    }
    for (reason, count) in Server::drops().into_iter().filter(|(_, count)| *count > 0) {
        println!("the server dropped: {count} {reason}");
    }
    Ok(outcomes)
}

/// Fields end in this order: who talks before whom is talked to.
struct Bench<'a> {
    options: &'a Options,
    phones: Phones,
    newcomers: Phones,
    goal: Goal,
    callers: Vec<Caller>,
    voices: Arc<Voices>,
    forwarder_voices: Voices,
    _forwarder: Forwarder,
    _carrier: Option<Carrier>,
    target: Target,
    process: Process,
    _server: Server,
    clock: Clock,
    /// Number of the last flood.
    round: usize,
}

impl<'a> Bench<'a> {
    fn start(options: &'a Options) -> Result<Self, String> {
        let clock = Clock::start();
        let goal = if options.refused { Goal::Refused } else { Goal::Connected };
        let ways = goal.ways();
        // Telephones in calls, those that call for help, and two for each flood that come anew.
        let users = 2 * options.calls + ways.len() + 2 * (Kind::ALL.len() + 1);
        let (carrier, trunk) = match goal {
            Goal::Connected => (Some(Carrier::start((CARRIER, CARRIER_PORT).into())), trunk()),
            Goal::Refused => (None, String::new()),
        };
        let carrier = carrier.transpose().map_err(|error| error.to_string())?;
        let server = Server::start(options.binary.as_deref(), users, &trunk)?;
        let accounts = process::accounts(users);
        let (in_calls, rest) = accounts.split_at(2 * options.calls);
        let (calling, new) = rest.split_at(ways.len());
        let place = Place {
            clock,
            server: process::OWN,
            port: |transport| Server::address(transport == Transport::Tls).port(),
            local: CALLERS,
            ca: server.ca(),
            suite: SUITE,
        };
        let mut rng = Rng::from_small_seed(clock.now().unix_ns());
        let mut callers = Vec::new();
        for (way, account) in ways.iter().zip(calling) {
            let account = match way {
                Way::Stranger(_) => ("stranger".to_owned(), String::new()),
                Way::Registered(_) | Way::Anew => account.clone(),
            };
            callers.push(Caller::start(*way, goal, place.clone(), account, rng.fork())?);
        }
        let voices = Arc::new(Voices::start(clock, PTIME_MS));
        let forwarder_voices = Voices::start(clock, PTIME_MS);
        let forwarder = Forwarder::start(FORWARDER, options.calls, SUITE, &forwarder_voices);
        let forwarder = forwarder.map_err(|error| error.to_string())?;
        let exchange = |accounts: &[(String, String)]| Exchange {
            server: Server::address(false),
            domain: process::OWN.to_string(),
            transport: Transport::Udp,
            ca: None,
            local: process::TELEPHONES,
            suite: SUITE,
            accounts: accounts.to_vec(),
        };
        let mut phones = Phones::new(clock, exchange(in_calls), Arc::clone(&voices), rng.fork());
        let newcomers = Phones::new(clock, exchange(new), Arc::new(Voices::start(clock, PTIME_MS)), rng.fork());
        let set_ups = phones.hold(options.calls, SET_UPS_PER_S)?;
        if set_ups.established < options.calls {
            return Err(format!("{} of {} calls were set up", set_ups.established, options.calls));
        }
        phones.run(WARM_UP)?;
        let target = Target {
            sip: Server::address(false),
            tls: Server::address(true),
            media_ports: process::MEDIA_PORTS,
            ca: server.ca(),
            user: accounts[0].0.clone(),
        };
        let process = server.process();
        Ok(Self {
            options,
            phones,
            newcomers,
            goal,
            callers,
            voices,
            forwarder_voices,
            _forwarder: forwarder,
            _carrier: carrier,
            target,
            process,
            _server: server,
            clock,
            round: 0,
        })
    }

    fn withstand(&mut self, kind: Option<Kind>) -> Result<Outcome, String> {
        self.round += 1;
        let time = Duration::from_secs(self.options.seconds);
        let end = self.clock.now() + time;
        let before = self.process.resident_bytes();
        let (cpu, peak) = (self.process.cpu(), AtomicU64::new(before));
        let opened = self.voices.open(self.round as u64);
        let opened_beside = self.forwarder_voices.open(self.round as u64);
        let is_over = AtomicBool::new(false);
        let (phones, callers, target, process) = (&mut self.phones, &mut self.callers, &self.target, self.process);
        let rate = self.options.rate;
        let (sent, tallies, ran) = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    peak.fetch_max(process.resident_bytes(), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
            });
            let flooding =
                scope.spawn(move || kind.map_or_else(Sent::default, |kind| floods::flood(kind, target, rate, time)));
            let calling: Vec<_> =
                callers.iter_mut().map(|caller| scope.spawn(move || (caller.way, caller.call_until(end)))).collect();
            let ran = phones.run(time);
            let sent = flooding.join().unwrap();
            let times = (self.voices.close(opened), self.forwarder_voices.close(opened_beside));
            let cpu = process.cpu() - cpu;
            // Right after the flood; who has called for help by then may still wait for an answer.
            let recovery = newcomer(&mut self.newcomers, self.round, self.clock);
            let tallies: Vec<_> = calling.into_iter().map(|calling| calling.join().unwrap()).collect();
            is_over.store(true, Ordering::Relaxed);
            ((sent, times, cpu, recovery), tallies, ran)
        });
        ran?;
        let (sent, (time, time_beside), cpu, recovery) = sent;
        self.phones.run(STRAGGLERS)?;
        let memory = Memory { before, peak: peak.into_inner(), after: self.process.resident_bytes() };
        let (calls, forwarder) = (self.voices.heard(time), self.forwarder_voices.heard(time_beside));
        let goal = self.goal;
        Ok(Outcome { kind, goal, sent, calls, forwarder, tallies, memory, cpu, recovery })
    }
}

/// Registers a pair of telephones that was not there before, and has one call the other, and those of earlier floods, too.
fn newcomer(phones: &mut Phones, round: usize, clock: Clock) -> Result<Duration, String> {
    let begun = clock.now();
    phones.register(round, u32::MAX)?;
    let set_ups = phones.hold(round, u32::MAX)?;
    let time = clock.now().since(begun);
    phones.hold(0, u32::MAX)?;
    match set_ups.established == set_ups.tried {
        true => Ok(time),
        false => Err(format!("a call was refused: {:?}", set_ups.refused)),
    }
}

fn trunk() -> String {
    format!(
        "[company.address]\ncountry = \"US\"\nA1 = \"DC\"\nA3 = \"Washington\"\nRD = \"Example\"\nHNO = \"500\"\n\
         PC = \"20001\"\nFLR = \"4\"\n[emergency]\ncallback_numbers = [\"+12025550100\"]\n\
         [trunk.carrier]\nhost = \"{CARRIER}\"\nport = {CARRIER_PORT}\ntransport = \"udp\"\nencryption = \"off\"\n\
         numbers = [\"+12025550100\"]\n"
    )
}

fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
