//! Where a server is (RFC 3263): from a configured host, port and transport to the addresses to try, in order.
//!
//! One [`Locator`] per server. It asks for DNS records, keeps what it was told for as long as the records say, and asks
//! again when that time ends. An answer without records, or none at all, never takes away what was known before its grace
//! ends: a broken DNS server must not cut a trunk off, and one broken name must not take the others with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use crate::types::{Duration, Instant, Rng, Transport, limits};

mod health;
mod list;
mod order;
#[cfg(test)]
mod tests;

pub use health::Health;
pub use list::{List, Listed};

/// Records are asked for again this often at most, however short they live,
const TTL_MIN: Duration = Duration::from_secs(30);
/// ... and this often at least, however long they live.
const TTL_MAX: Duration = Duration::from_secs(3_600);
/// Records that could not be asked for again stay in use this long after their time (RFC 8767 section 5).
const GRACE: Duration = Duration::from_secs(86_400);
/// A question whose answer is that there are no records is asked again after this time,
const ABSENT_AGAIN: Duration = Duration::from_secs(300);
/// ... one without an answer, or with records past their time, after this,
const STALE_AGAIN: Duration = Duration::from_secs(30);
/// ... and each without fresh records after this while no address at all is known.
const LOST_AGAIN: Duration = Duration::from_secs(10);

/// The types of record that locate a SIP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordType {
    Naptr,
    Srv,
    A,
    Aaaa,
}

/// What to look up. A name that ends in a dot is complete; another one may be subject to the resolver's search list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    pub name: String,
    pub record_type: RecordType,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// RFC 3403 section 4.1, without the regular expression, which SIP does not use (RFC 3263 section 4.1).
    Naptr {
        order: u16,
        preference: u16,
        flags: String,
        service: String,
        replacement: String,
    },
    /// RFC 2782.
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: String,
    },
    Address(IpAddr),
}

impl Record {
    /// Whether it is of this type. Others that stand in an answer are ignored: they would be in the place of good ones.
    const fn answers(&self, asked: RecordType) -> bool {
        match self {
            Self::Naptr { .. } => matches!(asked, RecordType::Naptr),
            Self::Srv { .. } => matches!(asked, RecordType::Srv),
            Self::Address(IpAddr::V4(_)) => matches!(asked, RecordType::A),
            Self::Address(IpAddr::V6(_)) => matches!(asked, RecordType::Aaaa),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The shortest time to live of the records, those of another type than the one asked for included.
    Found { records: Vec<Record>, ttl: Duration },
    /// The name does not exist, or has no record of this type.
    Absent,
    /// Nobody answered, or nobody could.
    Failed,
}

#[derive(Clone, Debug)]
pub enum Input {
    Answered { question: Question, reply: Reply },
    Timeout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Ask(Question),
    Timeout(Option<Instant>),
}

/// What the operator has said of a server; what is `None` is left to DNS.
#[derive(Clone, Debug)]
pub struct Destination {
    /// A host name or an address; IPv6 with or without brackets.
    pub host: String,
    pub port: Option<u16>,
    pub transport: Option<Transport>,
}

/// One place where a server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub transport: Transport,
    pub address: SocketAddr,
}

/// Targets that stand or fall together in the order: those of one SRV record, or of a host without SRV records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    /// Position of the service, then SRV priority: lower first.
    rank: (usize, u16),
    /// SRV weight among those of the same rank.
    weight: u16,
    targets: Vec<Target>,
}

/// The last answer to a question.
#[derive(Clone, Debug)]
struct Known {
    /// What there is to use; after a negative answer, still the records of the last good one.
    records: Vec<Record>,
    is_stale: bool,
    /// When to ask again.
    ask_at: Instant,
    /// When stale records are given up.
    keep_until: Instant,
    answered_at: Instant,
}

impl Known {
    /// Keeps the records of an earlier answer until their grace ends.
    fn without_answer(now: Instant, earlier: Option<Self>, again: Duration) -> Self {
        match earlier.filter(|known| now < known.keep_until) {
            Some(known) => Self { is_stale: true, ask_at: now + STALE_AGAIN, answered_at: now, ..known },
            None => {
                Self { records: Vec::new(), is_stale: true, ask_at: now + again, keep_until: now, answered_at: now }
            }
        }
    }

    fn usable(&self, now: Instant) -> &[Record] {
        if self.is_stale && self.keep_until <= now { &[] } else { &self.records }
    }
}

#[derive(Debug)]
pub struct Locator {
    destination: Destination,
    known: BTreeMap<Question, Known>,
    /// Asked and not yet answered.
    asked: BTreeSet<Question>,
    outputs: VecDeque<Question>,
    servers: Vec<Server>,
    /// When the records that the servers come from are given up.
    keep_until: Instant,
}

impl Locator {
    pub fn new(now: Instant, destination: Destination) -> Self {
        let mut locator = Self {
            destination,
            known: BTreeMap::new(),
            asked: BTreeSet::new(),
            outputs: VecDeque::new(),
            servers: Vec::new(),
            keep_until: now,
        };
        locator.settle(now);
        locator
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Answered { question, reply } => {
                if self.asked.remove(&question) {
                    self.answered(now, question, reply);
                    self.settle(now);
                }
            }
            Input::Timeout => self.ask_again(now),
        }
    }

    /// Drain until `Timeout`.
    pub fn poll_output(&mut self) -> Output {
        match self.outputs.pop_front() {
            Some(question) => Output::Ask(question),
            None => Output::Timeout(self.next_timeout()),
        }
    }

    /// The targets in the order to try them for one call; the weights are drawn anew each time (RFC 2782).
    pub fn order(&self, rng: &mut Rng) -> Vec<Target> {
        let servers = order::by_weight(&self.servers, |server| (server.rank, server.weight), rng);
        servers.into_iter().flat_map(|server| server.targets.iter().copied()).collect()
    }

    /// Every target, in no particular order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.servers.iter().flat_map(|server| &server.targets)
    }

    fn answered(&mut self, now: Instant, question: Question, reply: Reply) {
        let earlier = self.known.remove(&question);
        let known = match reply {
            Reply::Found { mut records, ttl } if records.iter().any(|record| record.answers(question.record_type)) => {
                records.retain(|record| record.answers(question.record_type));
                records.truncate(limits::DNS_RECORDS_MAX);
                let ask_at = now + ttl.clamp(TTL_MIN, TTL_MAX);
                Known { records, is_stale: false, ask_at, keep_until: ask_at + GRACE, answered_at: now }
            }
            Reply::Found { .. } | Reply::Absent => Known::without_answer(now, earlier, ABSENT_AGAIN),
            Reply::Failed => Known::without_answer(now, earlier, STALE_AGAIN),
        };
        self.known.insert(question, known);
    }

    fn ask_again(&mut self, now: Instant) {
        let due: Vec<_> = self.known.keys().filter(|q| self.ask_at(q).is_some_and(|at| at <= now)).cloned().collect();
        for question in due {
            self.ask(question);
        }
    }

    fn ask(&mut self, question: Question) {
        if self.asked.insert(question.clone()) {
            self.outputs.push_back(question);
        }
    }

    /// `None` while an answer is on its way.
    fn ask_at(&self, question: &Question) -> Option<Instant> {
        let known = self.known.get(question).filter(|_| !self.asked.contains(question))?;
        let is_lost = self.servers.is_empty() && known.is_stale;
        Some(if is_lost { known.answered_at + LOST_AGAIN } else { known.ask_at })
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.known.keys().filter_map(|question| self.ask_at(question)).min()
    }

    /// Follows the records from the destination to addresses, asks for those that are missing, and forgets those that
    /// nothing points to any more. Until every answer is in, the servers known before stay; and where records lead to new
    /// hosts of which none has an address, until their own grace ends.
    fn settle(&mut self, now: Instant) {
        let mut walk = Walk {
            known: &self.known,
            now,
            needed: BTreeSet::new(),
            is_complete: true,
            names_hosts: false,
            keep_until: now,
        };
        let servers = walk.servers(&self.destination);
        let Walk { needed, is_complete, names_hosts, keep_until, .. } = walk;
        if is_complete {
            self.known.retain(|question, _| needed.contains(question));
        }
        let is_lost = servers.is_empty() && names_hosts && now < self.keep_until;
        if is_complete && !is_lost || self.servers.is_empty() {
            (self.servers, self.keep_until) = (servers, keep_until);
        }
        for question in needed {
            if !self.known.contains_key(&question) {
                self.ask(question);
            }
        }
    }
}

/// One pass over what is known.
struct Walk<'a> {
    known: &'a BTreeMap<Question, Known>,
    now: Instant,
    needed: BTreeSet<Question>,
    /// Every question met had an answer.
    is_complete: bool,
    /// Some record or the operator names a host, so that there should be addresses.
    names_hosts: bool,
    /// The end of the grace of the last address met.
    keep_until: Instant,
}

/// A transport and the name of its SRV records.
type Service = (Transport, String);

impl<'a> Walk<'a> {
    fn servers(&mut self, destination: &Destination) -> Vec<Server> {
        let Destination { host, port, transport } = destination;
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        // RFC 3263 section 4.1: without anything that says otherwise, a SIP URI means UDP.
        let transport_or_udp = transport.unwrap_or(Transport::Udp);
        let port_or_default = port.unwrap_or_else(|| transport_or_udp.default_port());
        if let Ok(ip) = literal {
            let target = Target { transport: transport_or_udp, address: SocketAddr::new(ip, port_or_default) };
            return vec![Server { rank: (0, 0), weight: 0, targets: vec![target] }];
        }
        if port.is_none() {
            let Some(services) = self.services(host, *transport) else { return Vec::new() };
            if let Some(servers) = self.by_srv(&services) {
                return servers;
            }
        }
        let targets = self.addresses(host, port_or_default, transport_or_udp);
        vec![Server { rank: (0, 0), weight: 0, targets }].into_iter().filter(|s| !s.targets.is_empty()).collect()
    }

    /// The services to ask for, the preferred one first; `None`: an answer is missing.
    fn services(&mut self, host: &str, transport: Option<Transport>) -> Option<Vec<Service>> {
        let domain = absolute(host);
        let by_name = |transport: Transport| (transport, format!("{}.{domain}", srv_label(transport)));
        if let Some(transport) = transport {
            return Some(vec![by_name(transport)]);
        }
        let mut offered: Vec<_> = self.look(&domain, RecordType::Naptr)?.iter().filter_map(service_of).collect();
        offered.sort();
        if offered.is_empty() {
            // RFC 3263 section 4.1 leaves the order to the client: encrypted first, then what carries large messages.
            return Some([Transport::Tls, Transport::Tcp, Transport::Udp].map(by_name).into());
        }
        Some(offered.into_iter().map(|(_, service)| service).collect())
    }

    /// `None`: there are no SRV records, so the host's own addresses count.
    fn by_srv(&mut self, services: &[Service]) -> Option<Vec<Server>> {
        let (mut servers, mut is_answered, mut has_records) = (Vec::new(), true, false);
        for (position, (transport, name)) in services.iter().enumerate() {
            let Some(records) = self.look(name, RecordType::Srv) else {
                is_answered = false;
                continue;
            };
            for record in records {
                let Record::Srv { priority, weight, port, target } = record else { continue };
                has_records = true;
                // A single dot: decidedly no such service here (RFC 2782).
                if target == "." {
                    continue;
                }
                let targets = self.addresses(&absolute(target), *port, *transport);
                if !targets.is_empty() {
                    servers.push(Server { rank: (position, *priority), weight: *weight, targets });
                }
            }
        }
        servers.truncate(limits::DNS_RECORDS_MAX);
        (has_records || !is_answered).then_some(servers)
    }

    /// IPv6 first (RFC 6724 section 2.1).
    fn addresses(&mut self, host: &str, port: u16, transport: Transport) -> Vec<Target> {
        let mut targets = Vec::new();
        self.names_hosts = true;
        for record_type in [RecordType::Aaaa, RecordType::A] {
            for record in self.look(host, record_type).unwrap_or_default() {
                if let Record::Address(ip) = record {
                    targets.push(Target { transport, address: SocketAddr::new(*ip, port) });
                }
            }
        }
        targets
    }

    /// The records of a question, none if it has none; `None` if it was never answered.
    fn look(&mut self, name: &str, record_type: RecordType) -> Option<&'a [Record]> {
        let question = Question { name: name.to_owned(), record_type };
        let known = self.known.get(&question);
        // What a stranger's zone can make us ask is bounded.
        if known.is_none() && self.needed.len() >= limits::DNS_QUESTIONS_MAX {
            return Some(&[]);
        }
        self.is_complete &= known.is_some();
        self.needed.insert(question);
        let known = known?;
        let usable = known.usable(self.now);
        if matches!(record_type, RecordType::A | RecordType::Aaaa) && !usable.is_empty() {
            self.keep_until = self.keep_until.max(known.keep_until);
        }
        Some(usable)
    }
}

/// With the dot that keeps a resolver's search list away.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

const fn srv_label(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    }
}

/// The service a NAPTR record offers, with what it is sorted by; `None`: none of ours (RFC 3263 section 4.1).
fn service_of(record: &Record) -> Option<((u16, u16), Service)> {
    let Record::Naptr { order, preference, flags, service, replacement } = record else { return None };
    let transport = [("SIPS+D2T", Transport::Tls), ("SIP+D2T", Transport::Tcp), ("SIP+D2U", Transport::Udp)]
        .into_iter()
        .find_map(|(name, transport)| service.eq_ignore_ascii_case(name).then_some(transport))?;
    (flags.eq_ignore_ascii_case("s") && replacement != ".")
        .then(|| ((*order, *preference), (transport, absolute(replacement))))
}
