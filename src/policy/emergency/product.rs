//! Every case there is of a server and a call to it, and what the specification says of each, row by row: for the test of the
//! decision, and for that of the server that carries it out (`call::tests::decision`).
//!
//! Some kinds of section 4 are one to the server and so are one here: extension only, room device, hot desk and shared line are a
//! user without a direct line.

use super::Source;
use crate::{
    config::{Forwarding, Place, User, parse_address},
    types::Transport,
    wire::sip::digest::Credential,
};

/// The company's callback number.
pub const COMPANY: &str = "+12025550100";
/// The street of the company and that of every private address.
pub const STREETS: [&str; 2] = ["Example", "Sample"];
/// Where nobody is challenged.
pub const SITE_NETWORK: &str = "192.168.0.0/16";
/// Of the two trunks that may be configured for emergency calls.
pub const HOSTS: [&str; 2] = ["203.0.113.5", "203.0.113.8"];
/// Trunks of others, by transport: where calls come from.
pub const CALLING_TRUNKS: [(Transport, &str); 3] =
    [(Transport::Udp, "203.0.113.9"), (Transport::Tcp, "203.0.113.6"), (Transport::Tls, "203.0.113.7")];
/// In the certificate of a trunk that proves itself by one.
pub const TRUNK_NAME: &str = "sip.carrier.example";

/// A server as it is configured, and what has become of its trunks and of its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// `emergency.unauthenticated` allows calls from `site_networks`.
    pub does_policy_allow: bool,
    pub trunks: Trunks,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trunks {
    None,
    Disabled,
    NoPstn,
    NoEmergency,
    One(State),
    Two(State, State),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    Down,
    Draining,
}

/// What must not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    Usual,
    /// The user's and the trunk's calls at once and within a minute, costly calls, spending, call places, media load; and the server
    /// is draining.
    Exhausted,
}

/// One call to a server.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub server: Server,
    pub sender: Sender,
    pub transport: Transport,
    pub line: Line,
    pub is_shared: bool,
    pub has_private_address: bool,
    pub number: Number,
}

/// Who sends the INVITE, and by what that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A telephone with the password of its user.
    Digest,
    /// One without, over the connection or from the address of its own registration.
    Flow,
    /// One that has shown a certificate with the name of its user and nothing else, which section 5 does not count.
    ClientCertificate {
        in_site: bool,
    },
    WrongPassword {
        in_site: bool,
    },
    Nobody {
        in_site: bool,
    },
    TrunkByAddress,
    TrunkByCertificate,
}

/// Of the user whose telephone it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Extension only, room device, hot desk, shared line.
    None,
    /// Member of a hunt group that has no direct line; nor has the user.
    GroupMember,
    Direct,
    /// A hunt group has the same direct line.
    Groups,
    /// The user is a telephone system.
    Pbx,
    /// Direct; somebody else has registered over the same flow, so that a header says which of them it is.
    OneOfSeveral,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Emergency,
    Test,
    Ordinary,
}

/// What becomes of the call.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    NotDecidedHere,
    Refused403,
    Challenged,
    Loop404,
    NotFound404,
    /// There is no place for it.
    Busy503,
    /// Trunks in their order, whose address, whose callback number.
    Routed(Vec<usize>, &'static str, &'static str),
}

const LINES: [Line; 6] = [Line::None, Line::GroupMember, Line::Direct, Line::Groups, Line::Pbx, Line::OneOfSeveral];
const BOTH: [bool; 2] = [false, true];

/// One for each kind of line, shared or not, with a private address or without.
pub fn users() -> Vec<User> {
    let address = "country = \"US\"\nA1 = \"VA\"\nA3 = \"Arlington\"\nRD = \"Sample\"\nHNO = \"7\"\nPC = \"22201\"\n";
    let mut users = Vec::new();
    for line in LINES {
        for is_shared in BOTH {
            for has_private_address in BOTH {
                let n = users.len();
                let (name, private) = (name(n), || parse_address(address).expect("a complete address"));
                users.push(User {
                    extension: (2000 + n).to_string(),
                    direct_line: line.is_direct().then(|| number(n)),
                    credential: Credential::derive(&name, "pbx.example.com", "secret"),
                    forwarding: Forwarding { always: Some("2998".to_owned()), ..Forwarding::default() },
                    place: Place { private_address: has_private_address.then(private), is_shared },
                    name,
                });
            }
        }
    }
    users
}

fn name(n: usize) -> String {
    format!("u{n}")
}

fn number(n: usize) -> String {
    format!("+1202555{}", 1100 + n)
}

impl Server {
    pub fn all() -> Vec<Self> {
        let states = [State::Up, State::Down, State::Draining];
        let mut trunks = vec![Trunks::None, Trunks::Disabled, Trunks::NoPstn, Trunks::NoEmergency];
        for first in states {
            trunks.push(Trunks::One(first));
            trunks.extend(states.map(|second| Trunks::Two(first, second)));
        }
        let mut all = Vec::new();
        for trunks in trunks {
            for limits in [Limits::Usual, Limits::Exhausted] {
                all.extend(BOTH.map(|does_policy_allow| Self { does_policy_allow, trunks, limits }));
            }
        }
        all
    }

    /// The configuration file. With limits: each of the users may make one call, the trunks may carry one of each.
    pub fn text(self) -> String {
        let limits = |calls: usize| match self.limits {
            Limits::Usual => String::new(),
            Limits::Exhausted => {
                format!("concurrent_calls = {calls}\ncalls_per_minute = {calls}\nrates = {{ \"+\" = \"600\" }}\n")
            }
        };
        let users = LINES.len() * BOTH.len() * BOTH.len();
        let trunk = |index: usize, more: &str| {
            format!(
                "[trunk.t{index}]\nhost = \"{}\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\n\
                 numbers = [\"{COMPANY}\"]\n{more}\n",
                HOSTS[index]
            )
        };
        let configured = match self.trunks {
            Trunks::None => String::new(),
            Trunks::Disabled => trunk(0, "enabled = false"),
            Trunks::NoPstn => trunk(0, "pstn = false"),
            Trunks::NoEmergency => trunk(0, "emergency = false"),
            Trunks::One(_) => trunk(0, &limits(users)),
            Trunks::Two(..) => [trunk(0, &limits(users / 2)), trunk(1, &limits(users / 2))].concat(),
        };
        let mut others = format!(
            "[tls]\nclient_ca = \"ca.pem\"\n[trunk.proven]\nhost = \"203.0.113.20\"\ntransport = \"tls\"\npstn = false\n\
             client_name = \"{TRUNK_NAME}\"\nnumbers = [\"{COMPANY}\"]\n"
        );
        for (transport, host) in CALLING_TRUNKS {
            let (kind, port) = (transport.uri_token(), if transport == Transport::Tls { 5061 } else { 5060 });
            others += &format!(
                "[trunk.from-{kind}]\nhost = \"{host}\"\nport = {port}\ntransport = \"{kind}\"\nencryption = \"off\"\n\
                 pstn = false\nnumbers = [\"{COMPANY}\"]\n"
            );
        }
        let calling = match self.limits {
            Limits::Usual => "",
            Limits::Exhausted => {
                "[calling]\nallow = [\"international\"]\nblocked_prefixes = [\"+49\"]\nconcurrent_calls = 1\n\
                 calls_per_minute = 1\ncostly_calls_per_day = 1\nspend_per_day = \"1\"\n"
            }
        };
        let unauthenticated = if self.does_policy_allow { "site-networks" } else { "deny" };
        let reserved = if self.limits == Limits::Exhausted { "reserved_calls = 0\n" } else { "" };
        let listeners = "[server]\ndomain = \"pbx.example.com\"\n[sip]\nudp = [\"192.0.2.1:5060\"]\n\
                         tcp = [\"192.0.2.1:5060\"]\ntls = [\"192.0.2.1:5061\"]\n[media]\naddresses = [\"192.0.2.1\"]\n\
                         ports = \"20000-20199\"\nworkers = 1\nencryption = \"preferred\"\n";
        let company = format!(
            "[company]\nname = \"Example Corp\"\nregion = \"US\"\naddress = {{ country = \"US\", A1 = \"DC\", \
             A3 = \"Washington\", RD = \"Example\", HNO = \"500\", PC = \"20001\" }}\n[emergency]\n\
             callback_numbers = [\"{COMPANY}\"]\nsite_networks = [\"{SITE_NETWORK}\"]\n\
             unauthenticated = \"{unauthenticated}\"\n{reserved}"
        );
        let lines = users_tables();
        [listeners, &company, &configured, &others, calling, &lines].concat()
    }

    const fn is_configured(self) -> bool {
        matches!(self.trunks, Trunks::One(_) | Trunks::Two(..))
    }
}

/// Groups and telephone systems of the users that are of such a kind.
fn users_tables() -> String {
    let mut tables = String::new();
    let kinds = LINES.iter().flat_map(|line| [line; 4]).enumerate();
    for (n, line) in kinds {
        let (name, number) = (name(n), number(n));
        let group = format!("[group.g{n}]\nextension = \"{}\"\nmembers = [\"{name}\"]\n", 2500 + n);
        tables += &match line {
            Line::GroupMember => group,
            Line::Groups => format!("{group}direct_line = \"{number}\"\n"),
            Line::Pbx => format!("[pbx.p{n}]\nuser = \"{name}\"\nnumbers = [\"{number}\"]\n"),
            Line::None | Line::Direct | Line::OneOfSeveral => String::new(),
        };
    }
    tables
}

impl Trunks {
    /// Of those that carry emergency calls.
    pub const fn state(self, index: usize) -> Option<State> {
        match (self, index) {
            (Self::One(state) | Self::Two(state, _), 0) | (Self::Two(_, state), 1) => Some(state),
            _ => None,
        }
    }

    /// 5.3: in configured order, those believed up first.
    fn order(self) -> Vec<usize> {
        let configured = [0, 1].into_iter().filter(|index| self.state(*index).is_some());
        let is_up = |index: &usize| self.state(*index) == Some(State::Up);
        configured.clone().filter(is_up).chain(configured.filter(|index| !is_up(index))).collect()
    }
}

impl Line {
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::Groups | Self::Pbx | Self::OneOfSeveral)
    }
}

impl Number {
    pub const fn digits(self) -> &'static str {
        match self {
            Self::Emergency => "911",
            Self::Test => "933",
            Self::Ordinary => "2999",
        }
    }
}

impl Sender {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Digest, Self::Flow];
        for in_site in BOTH {
            all.extend([Self::ClientCertificate { in_site }, Self::Nobody { in_site }]);
        }
        all.extend([Self::TrunkByAddress, Self::TrunkByCertificate]);
        // Last: each counts against its user's name.
        all.extend(BOTH.map(|in_site| Self::WrongPassword { in_site }));
        all
    }

    const fn needs_tls(self) -> bool {
        matches!(self, Self::ClientCertificate { .. } | Self::TrunkByCertificate)
    }

    /// Nobody's telephone has no user, and so no line.
    const fn has_user(self) -> bool {
        !matches!(self, Self::Nobody { .. } | Self::TrunkByAddress | Self::TrunkByCertificate)
    }
}

impl Case {
    pub fn all(server: Server) -> Vec<Self> {
        let mut all = Vec::new();
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            all.extend(Self::over(server, transport));
        }
        all
    }

    pub fn over(server: Server, transport: Transport) -> Vec<Self> {
        let mut all = Vec::new();
        for sender in Sender::all() {
            if sender.needs_tls() && transport != Transport::Tls {
                continue;
            }
            let (lines, flags) = if sender.has_user() { (&LINES[..], &BOTH[..]) } else { (&LINES[..1], &BOTH[..1]) };
            for &line in lines {
                for &is_shared in flags {
                    for &has_private_address in flags {
                        for number in [Number::Emergency, Number::Test, Number::Ordinary] {
                            all.push(Self { server, sender, transport, line, is_shared, has_private_address, number });
                        }
                    }
                }
            }
        }
        all
    }

    /// Among [`users`].
    pub fn user_index(&self) -> usize {
        let line = LINES.iter().position(|line| *line == self.line).expect("one of them");
        line * 4 + usize::from(self.is_shared) * 2 + usize::from(self.has_private_address)
    }

    pub fn user<'u>(&self, users: &'u [User]) -> &'u User {
        &users[self.user_index()]
    }

    pub const fn source(&self) -> Source {
        match self.sender {
            Sender::Digest | Sender::Flow => Source::AuthenticatedDevice,
            Sender::ClientCertificate { in_site } | Sender::WrongPassword { in_site } | Sender::Nobody { in_site } => {
                Source::UnauthenticatedDevice { in_site_networks: in_site }
            }
            Sender::TrunkByAddress | Sender::TrunkByCertificate => Source::Trunk,
        }
    }

    pub fn is_named_by_header(&self) -> bool {
        self.line == Line::OneOfSeveral && self.sender == Sender::Flow
    }

    pub const fn has_failed_a_challenge(&self) -> bool {
        matches!(self.sender, Sender::WrongPassword { .. })
    }

    fn is_device(&self) -> bool {
        self.source() != Source::Trunk
    }

    fn is_authenticated(&self) -> bool {
        self.source() == Source::AuthenticatedDevice
    }

    fn is_stranger(&self) -> bool {
        self.is_device() && !self.is_authenticated()
    }

    /// D3.
    fn may_skip_the_challenge(&self) -> bool {
        let in_site = Source::UnauthenticatedDevice { in_site_networks: true };
        self.source() == in_site && self.server.does_policy_allow
    }

    fn is_routed(&self, number: Number) -> bool {
        self.number == number && self.is_authenticated() && self.server.is_configured() && !self.is_test_without_place()
    }

    pub fn is_test_without_place(&self) -> bool {
        self.number == Number::Test && self.server.limits == Limits::Exhausted
    }

    /// 4.1.
    fn is_line_shared(&self) -> bool {
        self.is_shared || matches!(self.line, Line::Groups | Line::Pbx) || self.is_named_by_header()
    }

    /// Section 4, row 4.
    fn is_private(&self) -> bool {
        self.line.is_direct() && self.has_private_address && !self.is_line_shared()
    }

    fn routed(&self, place: &'static str, callback: &'static str) -> Told {
        Told::Routed(self.server.trunks.order(), place, callback)
    }
}

#[derive(Debug)]
pub struct Row {
    pub paragraph: &'static str,
    is_for: fn(&Case) -> bool,
    pub told: fn(&Case) -> Told,
}

const ROWS: [Row; 17] = [
    Row {
        paragraph: "2.2: not in the table, so no emergency call",
        is_for: |c| c.number == Number::Ordinary,
        told: |_| Told::NotDecidedHere,
    },
    Row {
        paragraph: "D1: authenticated device, no trunk",
        is_for: |c| c.number == Number::Emergency && c.is_authenticated() && !c.server.is_configured(),
        told: |_| Told::Refused403,
    },
    Row {
        paragraph: "D2, section 4 row 1: extension only, room device, hunt group, shared line, hot desk",
        is_for: |c| c.is_routed(Number::Emergency) && !c.line.is_direct(),
        told: |c| c.routed("company", "company"),
    },
    Row {
        paragraph: "D2, section 4 row 2: direct line, no private address",
        is_for: |c| c.is_routed(Number::Emergency) && c.line.is_direct() && !c.has_private_address,
        told: |c| c.routed("company", "line"),
    },
    Row {
        paragraph: "D2, section 4 row 3 and 4.1: direct line with private address, shared",
        is_for: |c| c.is_routed(Number::Emergency) && c.line.is_direct() && c.has_private_address && c.is_line_shared(),
        told: |c| c.routed("company", "line"),
    },
    Row {
        paragraph: "D2, section 4 row 4: direct line with private address, not shared",
        is_for: |c| c.is_routed(Number::Emergency) && c.is_private(),
        told: |c| c.routed("private", "line"),
    },
    Row {
        paragraph: "D3: device without authentication in site_networks, policy allows",
        is_for: |c| c.number == Number::Emergency && c.may_skip_the_challenge() && c.server.is_configured(),
        told: |c| c.routed("company", "company"),
    },
    Row {
        paragraph: "D4: device without authentication, other: the normal challenge",
        is_for: |c| {
            let is_other = c.is_stranger() && !c.may_skip_the_challenge() && !c.has_failed_a_challenge();
            c.number == Number::Emergency && is_other && c.server.is_configured()
        },
        told: |_| Told::Challenged,
    },
    Row {
        paragraph: "D4: device that fails authentication, other: then 403",
        is_for: |c| {
            let is_other = c.has_failed_a_challenge() && !c.may_skip_the_challenge();
            c.number == Number::Emergency && is_other && c.server.is_configured()
        },
        told: |_| Told::Refused403,
    },
    Row {
        paragraph: "D5: device fails or lacks authentication, no trunk",
        is_for: |c| c.number == Number::Emergency && c.is_stranger() && !c.server.is_configured(),
        told: |_| Told::Refused403,
    },
    Row {
        paragraph: "D6: from a trunk",
        is_for: |c| c.number == Number::Emergency && !c.is_device(),
        told: |_| Told::Loop404,
    },
    Row {
        paragraph: "D9, section 4 rows 1 to 3: a test with the company's address",
        is_for: |c| c.is_routed(Number::Test) && !c.is_private(),
        told: |c| c.routed("company", if c.line.is_direct() { "line" } else { "company" }),
    },
    Row {
        paragraph: "D9, section 4 row 4: a test of a private address",
        is_for: |c| c.is_routed(Number::Test) && c.is_private(),
        told: |c| c.routed("private", "line"),
    },
    Row {
        paragraph: "2.6: a test is no emergency call for priority, so a server without a place for it has none",
        is_for: |c| c.is_test_without_place() && c.is_authenticated() && c.server.is_configured(),
        told: |_| Told::Busy503,
    },
    Row {
        paragraph: "2.6: a test without a trunk",
        is_for: |c| c.number == Number::Test && c.is_device() && !c.server.is_configured(),
        told: |_| Told::NotFound404,
    },
    Row {
        paragraph: "2.6: a test is no emergency call for refusal, so its sender is asked, and asked again",
        is_for: |c| c.number == Number::Test && c.is_stranger() && c.server.is_configured(),
        told: |_| Told::Challenged,
    },
    Row {
        paragraph: "2.6 and D6: a test from a trunk",
        is_for: |c| c.number == Number::Test && !c.is_device(),
        told: |_| Told::NotFound404,
    },
];

/// How many cases each row was for.
#[derive(Debug, Default)]
pub struct Uses([usize; ROWS.len()]);

impl Uses {
    /// The one row that is for this case.
    pub fn row(&mut self, case: &Case) -> &'static Row {
        let fitting: Vec<usize> = (0..ROWS.len()).filter(|row| (ROWS[*row].is_for)(case)).collect();
        let [row] = fitting.as_slice() else { panic!("{} rows speak of {case:?}", fitting.len()) };
        self.0[*row] += 1;
        &ROWS[*row]
    }

    pub fn unused(&self) -> Vec<&'static str> {
        ROWS.iter().zip(self.0).filter(|(_, uses)| *uses == 0).map(|(row, _)| row.paragraph).collect()
    }
}
