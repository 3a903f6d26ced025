//! What is measured, and where.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Parser, ValueEnum};
use ringdown::{types::Transport, wire::srtp::Suite};

/// Calls through a SIP server with SRTP on both legs: how late its packets are, how many are lost, and what they cost.
#[derive(Clone, Debug, Parser)]
#[command(name = "latency", about, long_about = None)]
pub(crate) struct Options {
    /// The server, as sip:HOST:PORT with the address in figures; without it, the server of this package is started on loopback
    #[arg(long, value_parser = server, value_name = "URI", requires = "users")]
    pub(crate) server: Option<SocketAddr>,
    /// Domain of the users' addresses; without it, the server's address
    #[arg(long, requires = "server")]
    pub(crate) domain: Option<String>,
    /// Users of the server, one `name,password` a line; the first calls the second, the third the fourth
    #[arg(long, requires = "server")]
    pub(crate) users: Option<PathBuf>,
    /// Process of the server, where it runs on this machine: its CPU time and memory are read
    #[arg(long, requires = "server")]
    pub(crate) pid: Option<u32>,
    /// Program to start instead of the one that was built along
    #[arg(long, conflicts_with = "server", value_name = "FILE")]
    pub(crate) binary: Option<PathBuf>,
    /// How the telephones reach it
    #[arg(long, value_enum, default_value_t = Way::Udp)]
    pub(crate) transport: Way,
    /// CA that signs its certificate, with `--transport tls`; of a server that was started, its own
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Address of the telephones
    #[arg(long, requires = "server")]
    pub(crate) local: Option<IpAddr>,
    /// Calls at the same time; with --ramp, the first step
    #[arg(long, default_value_t = 50)]
    pub(crate) calls: usize,
    /// Calls that are set up in a second
    #[arg(long, default_value_t = 50)]
    pub(crate) rate: u32,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Milliseconds of speech in a packet: 20 is 50 packets a second in each direction of a call
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) ptime: u16,
    #[arg(long, value_parser = suite, default_value = "AES_CM_128_HMAC_SHA1_80")]
    pub(crate) suite: Suite,
    /// Finds the highest load that is clean: no call fails, at most one packet of 10000 is lost, p99 is below 20 ms; each load has
    /// two tries, and no step begins after 12 minutes
    #[arg(long)]
    pub(crate) ramp: bool,
    /// Fails unless the process has as many descriptors and ports as before and no more memory; a first round of calls, which
    /// does not count, comes before
    #[arg(long, conflicts_with = "ramp")]
    pub(crate) leak_check: bool,
    /// Prints JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// As `cargo bench` says
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Udp,
    Tcp,
    Tls,
}

impl Way {
    pub(crate) const fn transport(self) -> Transport {
        match self {
            Self::Udp => Transport::Udp,
            Self::Tcp => Transport::Tcp,
            Self::Tls => Transport::Tls,
        }
    }
}

impl Options {
    /// In both directions.
    pub(crate) fn packets_per_s(&self, calls: usize) -> usize {
        calls * 2_000 / usize::from(self.ptime)
    }
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:")).unwrap_or(text);
    let address = rest.parse::<SocketAddr>().or_else(|_| rest.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 5060)));
    address.map_err(|_| format!("{text:?} is no address; needed: sip:192.0.2.10:5060"))
}

fn suite(text: &str) -> Result<Suite, String> {
    let names = || Suite::ALL.map(Suite::name).join(", ");
    Suite::from_name(text).ok_or_else(|| format!("{text:?} is no suite; needed: one of {}", names()))
}
