//! Configuration: text in; one checked, immutable [`Config`] or all errors at once out. Reads no file.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

pub mod directory;

pub use directory::{Directory, User};

use crate::types::{Private, Transport};

/// Everything an operator can set; see `config/ringdown.toml` for each key's meaning, unit and default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub server: Server,
    pub sip: Sip,
    pub tls: Tls,
    pub media: Media,
    pub company: Option<Company>,
    pub emergency: Emergency,
    pub dialing: Dialing,
    /// By name, in the order of the file.
    pub trunks: Vec<Trunk>,
    pub admin: Admin,
    pub log: Log,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host part of every address-of-record and the digest realm.
    pub domain: String,
    /// Relative paths are relative to the working directory.
    pub state_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
}

/// Both `None`: a local CA and certificate are made in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Addresses announced in SDP and bound for media: at most one per IP family, the first is preferred.
    pub addresses: Vec<IpAddr>,
    pub ports: RangeInclusive<u16>,
    /// 0 in the file means one per core; resolved by the shell.
    pub workers: u16,
    pub encryption: Encryption,
}

/// Whether a leg must, should or need not be SRTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Required,
    Preferred,
    /// Trunks only.
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    pub name: String,
    /// ISO 3166-1 alpha-2, upper case.
    pub region: String,
    /// Civic address elements of RFC 5139 and RFC 6848 by name (`country`, `A1`, ... `ROOM`).
    pub address: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emergency {
    /// `+` and digits.
    pub callback_numbers: Vec<String>,
    /// Trunk names in order; empty: all eligible trunks in file order.
    pub trunks: Vec<String>,
    pub also: Vec<String>,
    pub not: Vec<String>,
    /// `None`: the region's default (933 in US and CA).
    pub test_numbers: Option<Vec<String>>,
    pub register_warning: bool,
    pub dial_as: BTreeMap<String, String>,
    pub notify: Vec<String>,
    pub unauthenticated: Unauthenticated,
    pub site_networks: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    SiteNetworks,
    Deny,
}

/// An address prefix such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix_bits: u8,
}

impl Network {
    pub fn contains(&self, ip: IpAddr) -> bool {
        let _ = ip;
        todo!()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialing {
    /// Digits dialled for an outside line, such as `9`.
    pub outside_prefixes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub transport: Transport,
    /// Digest user; `None`: the carrier knows us by our address.
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Our numbers on this trunk, E.164 with `+`; the first is the default caller identity.
    pub numbers: Vec<String>,
    pub encryption: Encryption,
    pub is_enabled: bool,
    pub reaches_pstn: bool,
    pub carries_emergency: bool,
    pub location: TrunkLocation,
    pub request_uri: EmergencyRequestUri,
    pub pidf_element: PidfElement,
    pub has_resource_priority: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrunkLocation {
    PidfLo,
    Elin,
    Header { name: String, value: Private<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmergencyRequestUri {
    Digits,
    Urn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidfElement {
    Tuple,
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Loopback only until the admin interface has authentication.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// 1-based; 0 where no line can be named (a missing table).
    pub line: usize,
    /// Dotted, such as `trunk.carrier-a.host`.
    pub key: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What would be accepted.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// Reads and checks a whole configuration. `Err` holds every error (and warnings) at once; `Ok` holds warnings beside
/// the configuration. Relations with the user directory are [`check_directory`]'s.
pub fn parse(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let _ = text;
    todo!()
}

/// Emergency SPEC 3.1: no extension, user part or direct line may equal an emergency number in use.
pub fn check_directory(config: &Config, directory: &Directory) -> Vec<Problem> {
    let _ = (config, directory);
    todo!()
}
