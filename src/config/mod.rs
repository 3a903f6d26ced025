//! Configuration: text in; one checked, immutable [`Config`] or all errors at once out. Reads no file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
};

pub mod calling;
mod checks;
pub mod directory;
mod groups;
mod inbound;
mod reader;
mod sections;
mod stir;
mod value;

pub use checks::{UserRules, check_directory};
pub use directory::{Directory, Forwarding, Place, PrivateAddress, User};
pub use groups::{Group, Strategy, check_members};
pub use inbound::{Inbound, InboundTarget};
pub use stir::Stir;

use crate::{
    policy::number::NumberForm,
    types::{Private, Secret, Transport},
};

/// Everything an operator can set; see `config/ringdown.toml` for each key's meaning, unit and default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub server: Server,
    pub sip: Sip,
    pub tls: Tls,
    pub dns: Dns,
    pub media: Media,
    pub company: Company,
    pub emergency: Emergency,
    pub dialing: Dialing,
    pub calling: calling::Calling,
    /// By name, in the order of the file.
    pub trunks: Vec<Trunk>,
    pub pbxs: Vec<Pbx>,
    pub admin: Admin,
    pub privacy: Privacy,
    pub log: Log,
    /// By name, in the order of the file.
    pub groups: Vec<Group>,
    /// By name, in the order of the file.
    pub inbound: Vec<Inbound>,
    pub stir: Stir,
}

impl Config {
    /// The telephone system that registers as this user.
    pub fn pbx_of(&self, user: &str) -> Option<&Pbx> {
        self.pbxs.iter().find(|pbx| pbx.user == user)
    }

    /// The telephone system that answers for this E.164 number.
    pub fn pbx_with(&self, number: &str) -> Option<&Pbx> {
        self.pbxs.iter().find(|pbx| pbx.numbers.contains(number))
    }
}

/// A telephone system that registers as one user and answers for many numbers (RFC 6140).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pbx {
    /// Name in the directory.
    pub user: String,
    /// The first of the file: who calls when the PBX names none of its own.
    pub main_number: String,
    /// E.164 with `+`.
    pub numbers: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host part of every address-of-record and the digest realm.
    pub domain: String,
    /// Relative paths are relative to the working directory.
    pub state_dir: PathBuf,
    /// The file with the key that seals stored secrets; without it, one in the state folder.
    pub seal_key: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sip {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
    /// Differentiated services code point (RFC 2474) of signalling, and of floor control among the media.
    pub dscp: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Both or neither: without them a local CA and certificate are made in the state folder.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Who must vouch for the certificates of those who connect to us; `None`: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
    pub client_certificates: ClientCertificates,
}

/// Whether those who connect to us over TLS must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    Optional,
    Required,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Addresses announced in SDP and bound for media: at most one per IP family, the first is preferred.
    pub addresses: Vec<IpAddr>,
    pub ports: RangeInclusive<u16>,
    /// 0 in the file means one per core; resolved by the shell.
    pub workers: u16,
    /// Share of its time that the least loaded worker may be busy for a new call to be taken; 100: whatever it is.
    pub load_max_percent: u16,
    pub encryption: Encryption,
    /// Of voice and fax.
    pub dscp_audio: u8,
    pub dscp_video: u8,
    pub backend: MediaBackend,
    /// Set where the backend is AF_XDP.
    pub xdp_interface: Option<String>,
    /// One for each worker, from the first on; no more than there are workers.
    pub xdp_queues: Vec<u16>,
    /// How long a worker looks for the next packet without sleeping, in microseconds.
    pub spin_us: u16,
}

/// What carries media packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaBackend {
    /// Sockets of the kernel.
    Epoll,
    /// Queues of a network card, past the kernel's network stack (AF_XDP).
    Xdp,
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
    /// A refused caller hears a tone before the answer.
    pub refusal_tone: bool,
    /// By region: what to send to a trunk in the place of a recognised number.
    pub dial_as: BTreeMap<String, BTreeMap<String, String>>,
    /// For so long after an emergency call, a call to its callback number is taken for the answering point's.
    pub callback_window_min: u16,
    /// Who is told of every emergency call.
    pub notify: Vec<NotifyTarget>,
    /// How long an end of the process waits for emergency calls.
    pub drain_max_min: u16,
    /// Calls for which slots and media ports are kept free.
    pub reserved_calls: u16,
    pub unauthenticated: Unauthenticated,
    pub site_networks: Vec<Network>,
}

/// Who is told of emergency calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyTarget {
    /// A user or ring group of this server, as it is dialled: by a text message.
    Sip { user: String, host: String },
    /// A web server: by a POST. The path may hold what only it and its owner should know.
    Https { host: String, port: u16, path: Secret<String> },
}

impl NotifyTarget {
    /// For logs: whom it means, without what may be secret.
    pub fn label(&self) -> String {
        match self {
            Self::Sip { user, host } => format!("sip:{user}@{host}"),
            Self::Https { host, port, .. } => format!("https://{host}:{port}"),
        }
    }
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
    /// Compares the first `prefix_bits`. An IPv4 address mapped into IPv6 is its IPv4 self.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let first_of_its_network = Self { address: ip, ..*self }.first();
        ip.is_ipv4() == self.address.is_ipv4() && first_of_its_network == self.first()
    }

    /// The network's lowest address: all bits behind the prefix are zero.
    fn first(&self) -> IpAddr {
        let bits = u32::from(self.prefix_bits);
        // A mask that keeps no bit would be a shift by the whole width, which is no shift at all.
        match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
                (u32::from(ip) & mask).to_be_bytes().into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
                (u128::from(ip) & mask).to_be_bytes().into()
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialing {
    /// Digits dialled for an outside line, such as `9`.
    pub outside_prefixes: Vec<String>,
    /// Number of an external voicemail system: what the forwarding target `voicemail` stands for.
    pub voicemail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    pub name: String,
    pub host: String,
    /// `None`: SRV records or the transport's default decide.
    pub port: Option<u16>,
    /// Where the trunk is, in the place of host and port. Empty: there.
    pub servers: Vec<TrunkServer>,
    /// `None` (`"auto"` in the file): the host's NAPTR and SRV records decide.
    pub transport: Option<Transport>,
    /// Host part of the carrier's addresses; `None`: the host.
    pub domain: Option<String>,
    /// Digest user; `None`: the carrier knows us by our address.
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    /// Who must vouch for the trunk's server over TLS; `None`: a trust anchor of the system.
    pub ca: Option<PathBuf>,
    /// How this server proves itself to the trunk's over TLS; both or neither.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The domain in the certificate that the trunk's servers show when they connect to us; `None`: they are known by their
    /// addresses.
    pub client_name: Option<String>,
    /// Our numbers on this trunk, E.164 with `+`; the first is the default caller identity.
    pub numbers: Vec<String>,
    pub encryption: Encryption,
    pub register: Register,
    /// Seconds for which to register.
    pub register_expires_s: u16,
    /// Seconds between two OPTIONS to each of its servers; 0: none are sent.
    pub options_s: u16,
    /// Final responses, beside those that speak of the trunk itself, after which the next trunk is tried.
    pub failover_codes: Vec<u16>,
    /// Of the numbers that it is sent.
    pub number_form: NumberForm,
    pub from: FromAddress,
    /// Where, beside From, the caller's number stands.
    pub identity: Vec<IdentityHeader>,
    pub permissions: calling::Permissions,
    pub limits: calling::Limits,
    /// Price of a minute by the beginning of the number, the longest first. Empty: it takes every number, at no price.
    pub rates: Vec<(String, calling::Money)>,
    pub is_enabled: bool,
    pub reaches_pstn: bool,
    pub carries_emergency: bool,
    pub location: TrunkLocation,
    /// With [`TrunkLocation::Elin`]: numbers for which the carrier has the company's address registered.
    pub elins: Vec<String>,
    /// Where its media may come from beside the address that it signals.
    pub media_network: Option<Network>,
    pub request_uri: EmergencyRequestUri,
    pub pidf_element: PidfElement,
    pub has_resource_priority: bool,
}

impl Trunk {
    /// Host part of the carrier's addresses.
    pub fn domain(&self) -> &str {
        self.domain.as_deref().unwrap_or(&self.host)
    }
}

/// One of several servers of a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkServer {
    pub host: String,
    pub port: Option<u16>,
    /// Lower first.
    pub priority: u16,
    /// Share of the calls among servers of the same priority.
    pub weight: u16,
}

/// What stands in From towards a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromAddress {
    /// The caller's number.
    Number,
    /// The account at the carrier.
    Account,
}

/// A header that tells a trunk the caller's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityHeader {
    /// P-Asserted-Identity (RFC 3325).
    Asserted,
    /// P-Preferred-Identity (RFC 3325).
    Preferred,
    /// Remote-Party-ID (draft-ietf-sip-privacy-04).
    RemoteParty,
}

/// Whether this server registers at a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Off,
    /// One account, reached by one Contact.
    Account,
    /// All the trunk's numbers at once (RFC 6140).
    Bulk,
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
    /// On loopback, without TLS.
    pub listen: Option<SocketAddr>,
    /// For other machines.
    pub tls: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privacy {
    pub sandbox: SandboxMode,
    /// For how long call records are kept.
    pub records_days: u16,
    /// The same of emergency calls.
    pub emergency_records_days: u16,
    /// For how long the audit log is kept.
    pub audit_days: u16,
}

/// What becomes of a server from which the kernel cannot take everything that it needs not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// It does not start.
    Required,
    /// It starts with what there is, and says what is missing.
    BestEffort,
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

/// Reads and checks a whole configuration. `Err` holds every error (and warnings) at once, in the order of the file; `Ok`
/// holds warnings beside the configuration. Relations with the user directory are [`check_directory`]'s.
pub fn parse(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    parse_with(text, |_| Vec::new())
}

/// As [`parse`]; `further` adds what cannot be told from the text. It also sees a configuration with errors, whose wrong
/// values are defaults, so that every error is found at once; nobody else ever does.
pub fn parse_with(
    text: &str,
    further: impl FnOnce(&Config) -> Vec<Problem>,
) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    reader::read(text, sections::config, |config| {
        let mut problems = groups::problems(config);
        problems.extend(inbound::problems(config));
        problems.extend(further(config));
        problems
    })
}

/// Reads the elements of one address, written as in `[company.address]`. No problem repeats a value.
pub fn parse_address(text: &str) -> Result<PrivateAddress, Vec<Problem>> {
    reader::read(text, sections::private_address, |_| Vec::new()).map(|(address, _)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/ringdown.toml");
    const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";
    const ADDRESS: &str =
        "address = { country = \"US\", A1 = \"DC\", RD = \"Example\", HNO = \"500\", PC = \"20001\", FLR = \"4\" }\n";

    /// `(line, key, severity)` of every problem.
    fn problems(text: &str) -> Vec<Problem> {
        match parse(text) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        }
    }

    /// The only problem of a text, as one line.
    fn problem(text: &str) -> String {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        let p = &problems[0];
        format!("{:?} {} {}: {} | {}", p.severity, p.line, p.key, p.message, p.remedy)
    }

    fn without_prefix<'t>(prefix: &str, text: &'t str, is_wanted: impl Fn(&str) -> bool) -> String {
        let line = |line: &'t str| line.strip_prefix(prefix).filter(|rest| is_wanted(rest)).unwrap_or(line);
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The example with every `#key = value` made a key.
    fn with_defaults(text: &str) -> String {
        without_prefix("#", text, |rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    }

    /// The example with every `#   key = value` made a key too.
    fn with_everything(text: &str) -> String {
        without_prefix("#   ", &with_defaults(text), |_| true)
    }

    #[test]
    fn the_example_file_loads_without_a_warning_and_is_what_defaults_are() {
        let (example, warnings) = parse(EXAMPLE).unwrap();
        assert_eq!(warnings, []);
        // The one exception: the first try must succeed everywhere, and says what is missing.
        assert_eq!(example.privacy.sandbox, SandboxMode::BestEffort);
        let mut defaults = parse(COMPANY).unwrap().0;
        assert_eq!(defaults.privacy.sandbox, SandboxMode::Required);
        defaults.privacy.sandbox = SandboxMode::BestEffort;
        assert_eq!(example, defaults);
        let addresses =
            [&example.sip.udp, &example.sip.tcp, &example.sip.tls].into_iter().flatten().map(SocketAddr::ip);
        assert!(addresses.chain(example.media.addresses.iter().copied()).all(|ip| ip.is_loopback()));
    }

    #[test]
    fn uncommenting_every_default_changes_nothing() {
        let uncommented = with_defaults(EXAMPLE);
        let keys = |text: &str| text.lines().filter(|l| l.contains(" = ") && !l.starts_with('#')).count();
        assert!(keys(&uncommented) > keys(EXAMPLE) + 15, "nothing was uncommented");
        assert_eq!(parse(&uncommented).unwrap(), parse(EXAMPLE).unwrap());
    }

    #[test]
    fn every_key_is_in_the_example_with_a_value_that_is_accepted() {
        let text = with_everything(EXAMPLE)
            .replace("callback_numbers = []", "callback_numbers = [\"+12025550100\"]")
            .replace("notify = []", "notify = [\"sip:reception@127.0.0.1\"]");
        let (config, warnings) = parse(&text).unwrap_or_else(|p| panic!("{p:#?}"));
        assert!(warnings.iter().all(|w| w.message.starts_with("only the trunk")), "{warnings:#?}");
        assert_eq!(config.company.address.unwrap().len(), 35);
        // A key that the example does not set would be named as known beside one that nobody knows.
        for table in [
            "server",
            "sip",
            "tls",
            "dns",
            "media",
            "company",
            "company.address",
            "emergency",
            "dialing",
            "calling",
            "calling.profile.sales",
            "trunk.carrier-a",
            "trunk.carrier-a.server.first",
            "pbx.branch-office",
            "admin",
            "privacy",
            "log",
            "group.sales",
            "inbound.switchboard",
            "stir",
        ] {
            let header = format!("[{table}]\n");
            assert_eq!(text.matches(&header).count(), 1, "{header}");
            let broken = text.replace(&header, &format!("{header}zzzzzzzzzzzzzzzz = 1\n"));
            let remedy = problems(&broken).into_iter().find(|p| p.message.contains("not known")).unwrap().remedy;
            let own = text.split_once(&header).unwrap().1.split("\n[").next().unwrap();
            for key in remedy.rsplit(": ").next().unwrap().split(", ") {
                let is_key = own.lines().any(|l| l.split(" = ").next() == Some(key));
                assert!(is_key || text.contains(&format!("[{table}.{key}")), "{table}.{key} is not in the example");
            }
        }
    }

    #[test]
    fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
        let text = "[sip]\nudp = [\"nowhere\", \"127.0.0.1\", \"0.0.0.0\"]\n[media]\nworkers = \"two\"\nprots = 1\n[recording]\n";
        let found: Vec<_> = problems(text).into_iter().map(|p| (p.line, p.key)).collect();
        let expected = [
            (2, "sip.udp"),
            (2, "sip.udp"),
            (4, "media.workers"),
            (5, "media.prots"),
            (6, "recording"),
            (0, "company.name"),
            (0, "company.region"),
        ];
        assert_eq!(found, expected.map(|(line, key)| (line, key.to_owned())));
    }

    #[test]
    fn each_kind_of_mistake_has_line_key_value_and_remedy() {
        for (text, expected) in [
            (
                "[server]\ndomain = \"a b\"",
                "Error 5 server.domain: \"a b\" is neither a host name nor an IP address | a host name such as pbx.example.com, an IPv4 address, or an IPv6 address in brackets",
            ),
            ("[server]\ndomian = \"a\"", "Error 5 server.domian: this key is not known | did you mean \"domain\"?"),
            ("[server]\ndomain = 5", "Error 5 server.domain: the value is of type integer | text in quotes"),
            (
                "[recording]\nx = 1",
                "Error 4 recording: this key is not known | remove it; known here: sip, admin, server, tls, dns, media, trunk, pbx, company, dialing, calling, emergency, privacy, log, group, inbound, stir",
            ),
            (
                "[sip]\nudp = [\"0.0.0.0\"]\ntcp = []\ntls = []",
                "Error 5 sip.udp: \"0.0.0.0\" is no address that a peer can answer to | each address of this machine that phones can reach, one by one",
            ),
            (
                "[sip]\nudp = \"127.0.0.1\"",
                "Error 5 sip.udp: the value is of type string | a list in brackets, such as [\"...\", \"...\"]",
            ),
            (
                "[sip]\ntls = [\"127.0.0.1:5060\"]",
                "Error 5 sip.tls: 127.0.0.1:5060 is also in tcp | another port for one of them",
            ),
            (
                "[sip]\nudp = []\ntcp = []\ntls = []",
                "Error 4 sip: no phone could connect: udp, tcp and tls are all empty | an address in at least one of them",
            ),
            (
                "[tls]\nkey = \"k.pem\"",
                "Error 5 tls.key: certificate is missing | both key and certificate, or neither",
            ),
            (
                "[tls]\nclient_ca = \"ca.pem\"\nclient_certificates = \"always\"",
                "Error 6 tls.client_certificates: \"always\" is not known | one of \"optional\", \"required\"",
            ),
            (
                "[tls]\nclient_certificates = \"required\"",
                "Error 5 tls.client_certificates: client_ca is missing | client_ca = \"...\": the file with the CAs that sign the certificates",
            ),
            (
                "[sip]\ntls = []\n[tls]\nclient_ca = \"ca.pem\"",
                "Error 7 tls.client_ca: nobody connects over TLS: sip.tls is empty | an address in sip.tls, or no client_ca",
            ),
            (
                "[media]\nencryption = \"off\"",
                "Error 5 media.encryption: \"off\" is not known | one of \"required\", \"preferred\"",
            ),
            (
                "[media]\nports = \"5000-6000\"",
                "Error 5 media.ports: the range holds the SIP address 127.0.0.1:5060 | a range without SIP ports",
            ),
            (
                "[media]\naddresses = [\"192.0.2.1\", \"192.0.2.2\"]",
                "Error 5 media.addresses: 2 addresses are listed | one IPv4 address, one IPv6 address, or one of each",
            ),
            (
                "[media]\ndscp_audio = 64",
                "Error 5 media.dscp_audio: 64 is out of range | a whole number from 0 to 63, without quotes",
            ),
            ("[media]\nbackend = \"dpdk\"", "Error 5 media.backend: \"dpdk\" is not known | one of \"epoll\", \"xdp\""),
            (
                "[media]\nbackend = \"xdp\"",
                "Error 5 media.backend: xdp_interface is missing | xdp_interface = \"...\": the interface that phones are reached by",
            ),
            (
                "[media]\nxdp_interface = \"net/eth0\"",
                "Error 5 media.xdp_interface: \"net/eth0\" is not the name of an interface | 1 to 15 characters as `ip link` shows them, such as \"eth0\"",
            ),
            (
                "[media]\nxdp_queues = []",
                "Error 5 media.xdp_queues: no queue is listed | a list such as [0], one queue for each worker",
            ),
            (
                "[media]\nworkers = 1\nxdp_queues = [0, 1]",
                "Error 6 media.xdp_queues: 2 queues are listed for workers = 1 | at most one queue for each worker",
            ),
            (
                "[media]\nworkers = 257",
                "Error 5 media.workers: 257 is out of range | a whole number from 0 to 256, without quotes",
            ),
            (
                "[emergency]\nregister_warning = \"no\"",
                "Error 5 emergency.register_warning: the value is of type string | true or false, without quotes",
            ),
            (
                "[emergency]\nnot = [\"911\"]",
                "Error 5 emergency.not: \"911\" is always an emergency number in US | a list without it",
            ),
            (
                "[emergency]\nnot = [\"110\"]",
                "Warning 5 emergency.not: \"110\" is no emergency number in US anyway | a list without it",
            ),
            (
                "[emergency]\nalso = [\"55\", \"55\"]",
                "Error 5 emergency.also: \"55\" is listed twice | each entry once",
            ),
            (
                "[emergency]\ntest_numbers = [\"112\"]",
                "Error 5 emergency.test_numbers: \"112\" is an emergency number in US: a test would be a real call | the carrier's own test number, or an empty list",
            ),
            (
                "[emergency]\nreserved_calls = 3\n[media]\nports = \"20000-20015\"",
                "Error 5 emergency.reserved_calls: 3 calls take more than half of the ports in media.ports | at most 2, or a larger media.ports",
            ),
            (
                "[emergency]\nnotify = [\"sip:desk@example.net\"]",
                "Error 5 emergency.notify: \"sip:desk@example.net\" is not of this server's domain | \"sip:desk@127.0.0.1\", or an https URL",
            ),
            ("[emergency]\ntrunks = [\"a\"]", "Error 5 emergency.trunks: \"a\" is not a trunk | a [trunk.NAME] table"),
            (
                "[emergency.dial_as.GB]\n112 = \"999\"",
                "Error 4 emergency.dial_as: \"GB\" is not the region of this company | [emergency.dial_as.US]",
            ),
            (
                "[emergency.dial_as.US]\n110 = \"911\"",
                "Error 4 emergency.dial_as: \"110\" is no emergency number in US | an emergency number, or the same number in emergency.also",
            ),
            (
                "[emergency.dial_as.US]\n112 = \"x\"",
                "Error 5 emergency.dial_as.US.112: \"x\" is not an E.164 number | digits to send, perhaps with + in front",
            ),
            (
                "[admin]\nlisten = \"192.0.2.1:80\"",
                "Error 5 admin.listen: \"192.0.2.1:80\" is reachable from other machines | \"127.0.0.1:8060\", \"[::1]:8060\" or \"off\"; for other machines tls, and a token of `ringdown token add`",
            ),
            (
                "[admin]\ntls = [\"0.0.0.0\"]",
                "Error 5 admin.tls: \"0.0.0.0\" is no address that a peer can answer to | each address of this machine that phones can reach, one by one",
            ),
            (
                "[admin]\ntls = [\"127.0.0.1:5061\"]",
                "Error 5 admin.tls: 127.0.0.1:5061 is also a SIP address | another port for one of them",
            ),
            (
                "[admin]\ntls = [\"127.0.0.1:8060\"]",
                "Error 5 admin.tls: 127.0.0.1:8060 is also in listen | another port for one of them",
            ),
            (
                "[admin]\nlisten = \"127.0.0.1:5060\"",
                "Error 5 admin.listen: 127.0.0.1:5060 is also a SIP address | another port for one of them",
            ),
            (
                "[log]\nlevel = \"loud\"",
                "Error 5 log.level: \"loud\" is not known | one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
            ),
            (
                "[dialing]\nvoicemail = \"911\"",
                "Error 5 dialing.voicemail: \"911\" is an emergency number in US, with or without an outside prefix | the extension or number of the voicemail system",
            ),
            ("sip = 5", "Error 1 sip: the value is of type integer | a table: [sip]"),
        ] {
            let text = if text.starts_with('[') { format!("{COMPANY}{text}") } else { format!("{text}\n{COMPANY}") };
            assert_eq!(problem(&text), expected);
        }
    }

    #[test]
    fn a_wrong_target_of_notices_is_named_by_its_place_and_not_repeated() {
        let text = |list: &str| format!("{COMPANY}[emergency]\nnotify = [{list}]");
        let good = "\"https://desk.example.com/secret-canary\"";
        for (second, what) in [
            ("\"https://desk.example.com/secret canary\"", "is neither a SIP URI with a user nor an https URL"),
            (good, "is listed twice"),
            ("7", "is not text"),
        ] {
            let told = problem(&text(&format!("{good}, {second}")));
            assert!(told.starts_with(&format!("Error 5 emergency.notify: entry 2 {what} | ")), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn a_syntax_error_is_named_with_its_line_and_nothing_else_is_guessed() {
        let found = problems("[server]\ndomain = \n[company]\nregion = US\n");
        assert_eq!(found.iter().map(|p| p.line).collect::<Vec<_>>(), [2, 4], "{found:#?}");
    }

    fn trunk(more: &str) -> String {
        let numbers = "[emergency]\nnotify = [\"sip:1001@127.0.0.1\"]\ncallback_numbers = [\"+12025550100\"]\n";
        format!("{COMPANY}{ADDRESS}{numbers}[trunk.a]\nhost = \"a.example\"\nnumbers = [\"+12025550100\"]\n{more}")
    }

    #[test]
    fn a_trunk_has_safe_defaults() {
        let (config, warnings) = parse(&trunk("")).unwrap();
        let a = &config.trunks[0];
        assert_eq!((a.transport, a.port, a.encryption), (Some(Transport::Tls), None, Encryption::Off));
        assert!(a.is_enabled && a.reaches_pstn && a.carries_emergency && !a.has_resource_priority);
        assert_eq!((&a.location, a.request_uri), (&TrunkLocation::PidfLo, EmergencyRequestUri::Digits));
        assert_eq!(warnings.len(), 1, "only one trunk: {warnings:#?}");
        assert_eq!(parse(&trunk("transport = \"auto\"")).unwrap().0.trunks[0].transport, None);
    }

    #[test]
    fn trunks_keep_the_order_of_the_file() {
        let more = "[trunk.z]\nhost = \"z.example\"\npstn = false\n[trunk.m]\nhost = \"m.example\"\npstn = false\n";
        let names: Vec<_> = parse(&trunk(more)).unwrap().0.trunks.into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["a", "z", "m"]);
    }

    #[test]
    fn a_trunk_to_the_pstn_needs_what_an_emergency_call_needs() {
        let missing = |text: &str, without: &str| {
            assert!(text.contains(without), "{without}");
            let found = problems(&text.replace(without, ""));
            found
                .into_iter()
                .filter(|p| p.severity == Severity::Error)
                .map(|p| format!("{} {}", p.key, p.message))
                .collect::<Vec<_>>()
        };
        let full = trunk("");
        let reaches = "missing, and a trunk reaches the PSTN";
        assert_eq!(missing(&full, "country = \"US\", "), [format!("company.address country is {reaches}")]);
        assert_eq!(
            missing(&full, "A1 = \"DC\", "),
            [format!("company.address A1 (state or province) or A3 (city) is {reaches}")]
        );
        assert_eq!(missing(&full, "PC = \"20001\", "), [format!("company.address PC (postal code) is {reaches}")]);
        let street = format!("company.address RD and HNO (street and number) or LMK (landmark) is {reaches}");
        assert_eq!(missing(&full, "HNO = \"500\", "), [street]);
        assert_eq!(missing(&full, ADDRESS).len(), 4);
        assert_eq!(
            missing(&full, "callback_numbers = [\"+12025550100\"]\n"),
            ["emergency.callback_numbers no number is given, and a trunk reaches the PSTN"]
        );
    }

    #[test]
    fn contradictions_of_a_trunk_are_refused() {
        for (more, expected) in [
            ("user = \"u\"", "trunk.a.user: password_file is missing"),
            ("password_file = \"f\"", "trunk.a.password_file: user is missing"),
            ("password = \"hunter2\"", "trunk.a.password: this key is not known"),
            ("location = { header = \"X-Id\" }", "trunk.a.location.value: this key is missing"),
            ("location = { header = \"X Id\", value = \"v\" }", "trunk.a.location.header: \"X Id\" is not a SIP token"),
            (
                "location = { header = \"X-Id\", value = \"hunter2\\r\\n\" }",
                "trunk.a.location.value: the value is empty or holds control characters",
            ),
            ("port = 0", "trunk.a.port: 0 is out of range"),
            ("certificate = \"c.pem\"", "trunk.a.certificate: key is missing"),
            ("key = \"k.pem\"", "trunk.a.key: certificate is missing"),
            ("ca = \"ca.pem\"\ntransport = \"tcp\"", "trunk.a.ca: the trunk is reached over tcp, without TLS"),
            ("client_name = \"a.example\"", "trunk.a.client_name: no CA vouches for clients"),
            (
                "client_name = \"192.0.2.1\"\n[tls]\nclient_ca = \"ca.pem\"",
                "trunk.a.client_name: \"192.0.2.1\" is not a host name",
            ),
            ("[trunk.b]\npstn = false", "trunk.b.host: this key is missing"),
            ("[trunk.b]\nhost = \"b.example\"", "trunk.b.numbers: a trunk that reaches the PSTN has no number"),
            ("[trunk.\"b c\"]\nhost = \"b.example\"\npstn = false", "trunk.b c: the name \"b c\" is not a SIP token"),
        ] {
            let found: Vec<_> = problems(&trunk(more)).into_iter().filter(|p| p.severity == Severity::Error).collect();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert_eq!(format!("{}: {}", found[0].key, found[0].message), expected);
            assert!(!format!("{found:?}").contains("hunter2"), "a secret is never repeated");
        }
        let wrong_country = trunk("").replace("country = \"US\"", "country = \"CA\"");
        assert!(problems(&wrong_country).iter().any(|p| p.message == "country \"CA\" is not the region \"US\""));
    }

    #[test]
    fn a_trunk_that_knows_places_by_number_or_sends_from_elsewhere_must_say_which() {
        let keys = |text: &str| {
            problems(text).into_iter().filter(|p| p.severity == Severity::Error).map(|p| p.key).collect::<Vec<_>>()
        };
        for bad in ["location = \"elin\"", "location = \"elin\"\nelins = []", "elins = [\"12\"]"] {
            assert_eq!(keys(&trunk(bad)), ["trunk.a.elins"], "{bad}");
        }
        for bad in ["0.0.0.0/0", "203.0.113.0/7", "::/18", "everywhere"] {
            assert_eq!(keys(&trunk(&format!("media_network = \"{bad}\""))), ["trunk.a.media_network"], "{bad}");
        }
        let (config, _) = parse(&trunk("media_network = \"203.0.113.0/24\"")).unwrap();
        assert!(config.trunks[0].media_network.is_some_and(|network| network.contains("203.0.113.9".parse().unwrap())));
    }

    #[test]
    fn weak_settings_load_with_a_warning() {
        let warnings = |text: &str| {
            let (_, warnings) = parse(text).unwrap_or_else(|p| panic!("{p:#?}"));
            warnings.into_iter().filter(|w| !w.message.starts_with("only the trunk")).map(|w| w.key).collect::<Vec<_>>()
        };
        assert_eq!(warnings(&trunk("transport = \"udp\"")), ["trunk.a.transport"]);
        let elin = "location = \"elin\"\nelins = [\"+12025550100\"]";
        assert_eq!(warnings(&trunk(&format!("transport = \"udp\"\n{elin}"))), Vec::<String>::new());
        assert_eq!(warnings(&trunk("transport = \"tcp\"\nencryption = \"required\"")), ["trunk.a.encryption"]);
        assert_eq!(warnings(&trunk("transport = \"auto\"\nencryption = \"required\"")), ["trunk.a.encryption"]);
        assert_eq!(warnings(&trunk("").replace(", FLR = \"4\"", "")), ["company.address"]);
        assert_eq!(warnings(&trunk("").replace("notify = [\"sip:1001@127.0.0.1\"]\n", "")), ["emergency.notify"]);
        let lan = "[sip]\nudp = [\"192.0.2.10\"]\n";
        assert_eq!(warnings(&format!("{COMPANY}{lan}")), ["server.domain", "media.addresses"]);
        for (listen, keys) in [
            ("udp = [\"198.51.100.7\", \"203.0.113.7\"]\ntcp = []\n", &[][..]),
            ("udp = [\"8.8.8.8\"]\ntcp = [\"[2a00::1]\"]\n", &["sip.udp", "sip.tcp"]),
            ("udp = []\ntcp = []\ntls = [\"8.8.8.8\"]\n", &[]),
        ] {
            let far = "[server]\ndomain = \"pbx.example.com\"\n[media]\naddresses = [\"192.0.2.10\"]\n";
            assert_eq!(warnings(&format!("{COMPANY}{far}[sip]\n{listen}")), keys);
        }
        let reachable = "[server]\ndomain = \"pbx.example.com\"\n[media]\naddresses = [\"192.0.2.10\"]\n";
        assert_eq!(warnings(&format!("{COMPANY}{lan}{reachable}")), Vec::<String>::new());
        assert_eq!(
            warnings(&trunk("enabled = false").replace("[emergency]", "[emergency]\ntrunks = [\"a\"]")),
            ["emergency.trunks"]
        );
    }

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        let network = |address: &str, prefix_bits| Network { address: address.parse().unwrap(), prefix_bits };
        for (net, inside, outside) in [
            (network("10.0.0.0", 8), "10.255.0.1", "11.0.0.1"),
            (network("192.0.2.128", 25), "192.0.2.200", "192.0.2.127"),
            (network("192.0.2.1", 32), "192.0.2.1", "192.0.2.2"),
            (network("0.0.0.0", 0), "255.1.2.3", "::1"),
            (network("2001:db8::", 32), "2001:db8:ffff::1", "2001:db9::1"),
            (network("::", 0), "2001:db8::1", "10.0.0.1"),
            (network("10.0.0.0", 8), "::ffff:10.1.2.3", "::10.1.2.3"),
            (network("::1", 128), "::1", "::2"),
        ] {
            assert!(net.contains(inside.parse().unwrap()), "{net:?} {inside}");
            assert!(!net.contains(outside.parse().unwrap()), "{net:?} {outside}");
        }
    }
}
