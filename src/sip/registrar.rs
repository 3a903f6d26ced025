//! The location service (RFC 3261 section 10): which contacts an address-of-record has.
//!
//! Every change is made the same way: the next list of an address-of-record's bindings is worked out aside, and
//! `commit` then puts it in place of the old one, updates the indexes and says what to store. A request that
//! fails changes nothing.

mod extensions;
mod gruu;
mod request;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt::Write,
    net::IpAddr,
    sync::Arc,
};

use crate::{
    types::{ConnectionId, Flow, FlowKey, Instant, Rng, Secret, TxnId, limits::REGISTRATION_EXPIRES_S_MIN},
    wire::sip::{Message, Uri, uri::without_headers},
};

pub use extensions::EXTENSIONS;
pub use gruu::Gruu;
use gruu::Mark;
use request::{Refusal, Registration};

/// One contact of an address-of-record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// User name in the directory.
    pub aor: String,
    /// Contact URI as registered.
    pub contact: String,
    /// Where requests for it go: the flow the REGISTER came on. TCP and TLS bindings of the store have no connection
    /// ([`ConnectionId::NONE`]) until the device registers again.
    pub flow: Flow,
    pub expires_at: Instant,
    pub call_id: String,
    pub cseq: u32,
    /// `+sip.instance` of the contact, if any (RFC 5626 section 4.1).
    pub instance: Option<String>,
    /// This flow's number among those of the instance (RFC 5626 section 4.2); an ordinary contact has none.
    pub reg_id: Option<u32>,
    /// Route values of requests to it, the nearest proxy first (RFC 3327).
    pub path: Vec<String>,
    /// A proxy handed the REGISTER on: the flow is the proxy's, and proves nothing about who else uses it.
    pub is_proxied: bool,
    pub user_agent: String,
}

impl Binding {
    /// What tells the bindings of one address-of-record apart: the contact, or of a flow the device and the number.
    pub fn is_same(&self, other: &Self) -> bool {
        self.reg_id == other.reg_id && self.contact == other.contact && self.instance == other.instance
    }

    /// Request-URI for one number behind it: a bulk contact gets the number in the place of `bnc` (RFC 6140 section 7.1), any
    /// other contact stays as it is.
    pub fn uri_for(&self, number: &str) -> String {
        if !self.is_bulk() {
            return self.request_uri().to_owned();
        }
        let (scheme, rest) = self.request_uri().split_once(':').expect("a contact is a URI");
        let parts: Vec<&str> = rest.split(';').filter(|part| !extensions::is_bnc(part)).collect();
        format!("{scheme}:{number}@{}", parts.join(";"))
    }

    /// The contact as it may stand in a Request-URI.
    pub fn request_uri(&self) -> &str {
        without_headers(&self.contact)
    }

    /// Whether it stands for all numbers of a PBX.
    fn is_bulk(&self) -> bool {
        Uri::parse(&self.contact).is_some_and(|uri| uri.params.has("bnc"))
    }

    /// Whether it is a flow or contact of this device; `instance` with or without its angle brackets.
    pub fn is_of_instance(&self, instance: &str) -> bool {
        self.instance.as_deref().is_some_and(|own| gruu::bare(own) == gruu::bare(instance))
    }

    /// Whether a TCP or TLS connection leads to the device. Nobody knows that of a datagram's sender.
    pub fn has_connection(&self) -> bool {
        self.flow.transport.is_reliable() && self.flow.key().is_some()
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed over at once, never kept")]
pub enum Input {
    /// An authenticated REGISTER for `aor`.
    Register {
        txn: TxnId,
        aor: String,
        flow: Flow,
        request: Message,
    },
    /// Bindings of the store at start.
    Restore(Vec<Binding>),
    /// Bindings over this connection are no longer reachable and are removed.
    ConnectionClosed(ConnectionId),
    /// A proxy says that the flow behind it has failed (RFC 5626 section 11.6, status 430).
    FlowFailed(Arc<Binding>),
    /// The user is gone from the directory.
    Forget {
        aor: String,
    },
    Timeout,
}

#[derive(Debug)]
pub enum Output {
    /// Answer the REGISTER. `contacts` are complete header values with `expires`; `headers` further lines.
    Reply {
        txn: TxnId,
        status: u16,
        reason: &'static str,
        contacts: Vec<String>,
        headers: Vec<(&'static str, String)>,
    },
    /// Write through before the reply is sent, so that a crash loses nothing the device was told.
    Store(Change),
    /// This binding made room for a new one of the same user.
    Displaced(Arc<Binding>),
    Timeout(Option<Instant>),
}

/// A change to keep across a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(Arc<Binding>),
    Remove(Arc<Binding>),
}

impl Change {
    /// Whose contact it is.
    pub fn aor(&self) -> &str {
        let (Self::Set(binding) | Self::Remove(binding)) = self;
        &binding.aor
    }
}

/// All bindings. The indexes share the text of each address-of-record.
#[derive(Debug)]
pub struct Registrar {
    /// Most recent first; no list is empty.
    aors: HashMap<Arc<str>, Vec<Arc<Binding>>>,
    /// How many bindings each address-of-record has on a flow.
    flows: HashMap<FlowKey, BTreeMap<Arc<str>, usize>>,
    /// How many bindings there are from each source.
    sources: HashMap<IpAddr, usize>,
    /// Each address-of-record at the earliest expiry of its bindings.
    expiries: BTreeSet<(Instant, Arc<str>)>,
    /// The address-of-record behind each mark of a temporary GRUU.
    marks: HashMap<Mark, Arc<str>>,
    gruus: gruu::Maker,
    rng: Rng,
    len: usize,
    outputs: VecDeque<Output>,
}

impl Registrar {
    /// `gruu_key` makes the GRUUs of `domain`, and should outlive the process.
    pub fn new(domain: &str, gruu_key: Secret<[u8; 32]>, rng: Rng) -> Self {
        Self {
            aors: HashMap::new(),
            flows: HashMap::new(),
            sources: HashMap::new(),
            expiries: BTreeSet::new(),
            marks: HashMap::new(),
            gruus: gruu::Maker::new(domain, gruu_key),
            rng,
            len: 0,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.expire(now);
        match input {
            Input::Register { txn, aor, flow, request } => self.register(now, txn, &aor, flow, &request),
            Input::Restore(bindings) => self.restore(now, bindings),
            Input::ConnectionClosed(connection) => self.disconnect(connection),
            Input::FlowFailed(failed) => self.retain(&failed.aor, |binding| !binding.is_same(&failed)),
            Input::Forget { aor } => self.commit(&aor, Vec::new()),
            Input::Timeout => {}
        }
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.expiries.first().map(|&(at, _)| at)))
    }

    /// Where to call a user: live contacts, most recent first, of each device only the most recent flow (RFC 5626 section
    /// 5.3: one device is never called over two at once).
    pub fn contacts(&self, aor: &str) -> impl Iterator<Item = &Arc<Binding>> {
        let all = self.bindings(aor);
        let is_earlier_flow = |binding: &Binding, others: &[Arc<Binding>]| {
            binding.instance.is_some() && others.iter().any(|other| other.instance == binding.instance)
        };
        all.iter().enumerate().filter(move |(n, binding)| !is_earlier_flow(binding, &all[..*n])).map(|(_, b)| b)
    }

    /// Every flow of one device, most recent first.
    pub fn flows_of(&self, aor: &str, instance: &str) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings(aor).iter().filter(move |binding| binding.is_of_instance(instance))
    }

    /// A user's binding on this flow.
    pub fn binding_on(&self, aor: &str, flow: &Flow) -> Option<&Arc<Binding>> {
        self.bindings(aor).iter().find(|binding| binding.flow.key() == flow.key())
    }

    /// Users with a live binding on this flow.
    pub fn users_on(&self, flow: &Flow) -> Vec<String> {
        let users = flow.key().and_then(|key| self.flows.get(&key));
        users.into_iter().flat_map(BTreeMap::keys).map(|user| user.to_string()).collect()
    }

    /// Which device a URI of our own domain means (RFC 5627 section 5.5); `None` if it is no GRUU.
    pub fn gruu(&self, uri: &Uri<'_>) -> Option<Gruu> {
        Some(match gruu::form(uri)? {
            gruu::Form::Public(instance) => Gruu::Public(instance),
            gruu::Form::Temporary(user) => {
                let marked = self.gruus.read(&user).and_then(|mark| {
                    let bindings = self.bindings(self.marks.get(&mark)?).iter();
                    bindings.into_iter().find(|binding| self.gruus.mark(binding) == Some(mark))
                });
                marked.map_or(Gruu::Invalid, |binding| Gruu::Temporary {
                    aor: binding.aor.clone(),
                    instance: binding.instance.clone().unwrap_or_default(),
                })
            }
        })
    }

    /// Whether `flow` carries a live binding, and whose. For UDP: the same remote address and port; for TCP and TLS: the
    /// same connection. A flow that several users registered over, or a proxy for one, belongs to none of them.
    pub fn owner_of(&self, flow: &Flow) -> Option<&str> {
        let key = flow.key()?;
        let mut owners = self.flows.get(&key)?.keys();
        let owner = owners.next()?;
        let is_own = |binding: &Arc<Binding>| binding.flow.key() != Some(key) || !binding.is_proxied;
        (owners.next().is_none() && self.bindings(owner).iter().all(is_own)).then_some(owner)
    }

    /// What registered over this flow calls itself; `None` where [`Registrar::owner_of`] knows nobody.
    pub fn user_agent_of(&self, flow: &Flow) -> Option<&str> {
        let owner = self.owner_of(flow)?;
        let own = self.bindings(owner).iter().find(|binding| binding.flow.key() == flow.key())?;
        Some(&own.user_agent)
    }

    /// Whether anybody has a live binding on this flow.
    pub fn is_bound(&self, flow: &Flow) -> bool {
        flow.key().is_some_and(|key| self.flows.contains_key(&key))
    }

    /// Whether anybody has a live binding from this source ([`Flow::source`]).
    pub fn is_source(&self, source: IpAddr) -> bool {
        self.sources.contains_key(&source)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.aors.values().flatten()
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bindings(&self, aor: &str) -> &[Arc<Binding>] {
        self.aors.get(aor).map_or(&[], Vec::as_slice)
    }

    fn register(&mut self, now: Instant, txn: TxnId, aor: &str, flow: Flow, request: &Message) {
        let registration = Registration::read(request, &flow);
        let result = registration.and_then(|r| Ok((r.apply(now, aor, flow, self.bindings(aor))?, r)));
        let reply = match result {
            Ok((next, registration)) => {
                if let Some(next) = next {
                    self.commit(aor, next.bindings);
                    self.outputs.extend(next.displaced.into_iter().map(Output::Displaced));
                }
                let contacts = self.contact_values(now, aor, registration.wants_gruu());
                Output::Reply { txn, status: 200, reason: "OK", contacts, headers: registration.reply_headers() }
            }
            Err(Refusal { status, reason }) => {
                let headers = match status {
                    420 => vec![("Unsupported", "path".to_owned())],
                    423 => vec![("Min-Expires", REGISTRATION_EXPIRES_S_MIN.to_string())],
                    _ => Vec::new(),
                };
                Output::Reply { txn, status, reason, contacts: Vec::new(), headers }
            }
        };
        self.outputs.push_back(reply);
    }

    fn contact_values(&mut self, now: Instant, aor: &str, wants_gruu: bool) -> Vec<String> {
        let mut values = Vec::new();
        for binding in self.aors.get(aor).into_iter().flatten() {
            let mut value = contact_value(now, binding);
            if wants_gruu && !binding.is_bulk() {
                value += &self.gruus.params(binding, self.rng.u64());
            }
            values.push(value);
        }
        values
    }

    /// A connection number of the previous process means nothing to this one, and must not make a stranger's connection
    /// look registered.
    fn restore(&mut self, now: Instant, bindings: Vec<Binding>) {
        for mut binding in bindings {
            let aor = binding.aor.clone();
            if binding.expires_at <= now {
                self.outputs.push_back(Output::Store(Change::Remove(binding.into())));
                continue;
            }
            binding.flow.connection = ConnectionId::NONE;
            let mut next = self.bindings(&aor).to_vec();
            next.push(binding.into());
            self.put(&aor, next);
        }
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let key = FlowKey::Connection(connection);
        let affected: Vec<Arc<str>> = self.flows.get(&key).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for aor in affected {
            self.retain(&aor, |binding| binding.flow.key() != Some(key));
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, aor)) = self.expiries.first().cloned() {
            if at > now {
                break;
            }
            self.retain(&aor, |binding| binding.expires_at > now);
        }
    }

    fn retain(&mut self, aor: &str, keep: impl Fn(&Binding) -> bool) {
        let next = self.bindings(aor).iter().filter(|binding| keep(binding)).cloned().collect();
        self.commit(aor, next);
    }

    /// Puts `next` in place of the bindings of `aor` and has the difference stored.
    fn commit(&mut self, aor: &str, next: Vec<Arc<Binding>>) {
        let old = self.put(aor, next);
        let new = self.aors.get(aor).map_or(&[][..], Vec::as_slice);
        let removed = old.iter().filter(|binding| !new.iter().any(|other| other.is_same(binding)));
        let changes = removed
            .cloned()
            .map(Change::Remove)
            .chain(new.iter().filter(|binding| !old.contains(binding)).cloned().map(Change::Set));
        self.outputs.extend(changes.map(Output::Store));
    }

    /// Replaces the bindings of `aor` in the table and all indexes; returns the old ones. What is new enters an index before
    /// what is old leaves it, so that the entries of a refresh stay as they are.
    fn put(&mut self, aor: &str, next: Vec<Arc<Binding>>) -> Vec<Arc<Binding>> {
        let (aor, old) = self.aors.remove_entry(aor).unwrap_or_else(|| (aor.into(), Vec::new()));
        for flow in next.iter().map(|binding| &binding.flow) {
            *self.sources.entry(flow.source()).or_default() += 1;
            if let Some(key) = flow.key() {
                *self.flows.entry(key).or_default().entry(Arc::clone(&aor)).or_default() += 1;
            }
        }
        for flow in old.iter().map(|binding| &binding.flow) {
            self.release_source(flow.source());
            if let Some(key) = flow.key() {
                self.release(key, &aor);
            }
        }
        let is_marked =
            |binding: &Binding, list: &[Arc<Binding>]| list.iter().any(|b| gruu::is_one_registration(b, binding));
        for binding in old.iter().filter(|binding| !is_marked(binding, &next)) {
            self.gruus.mark(binding).map(|mark| self.marks.remove(&mark));
        }
        for binding in next.iter().filter(|binding| !is_marked(binding, &old)) {
            self.gruus.mark(binding).map(|mark| self.marks.insert(mark, Arc::clone(&aor)));
        }
        if let Some(at) = earliest(&old) {
            self.expiries.remove(&(at, Arc::clone(&aor)));
        }
        if let Some(at) = earliest(&next) {
            self.expiries.insert((at, Arc::clone(&aor)));
        }
        self.len = self.len - old.len() + next.len();
        if !next.is_empty() {
            self.aors.insert(aor, next);
        }
        old
    }

    fn release_source(&mut self, source: IpAddr) {
        let Some(count) = self.sources.get_mut(&source) else { return };
        *count -= 1;
        if *count == 0 {
            self.sources.remove(&source);
        }
    }

    fn release(&mut self, key: FlowKey, aor: &str) {
        let Some(owners) = self.flows.get_mut(&key) else { return };
        if let Some(count) = owners.get_mut(aor) {
            *count -= 1;
            if *count == 0 {
                owners.remove(aor);
            }
        }
        if owners.is_empty() {
            self.flows.remove(&key);
        }
    }
}

fn earliest(bindings: &[Arc<Binding>]) -> Option<Instant> {
    bindings.iter().map(|binding| binding.expires_at).min()
}

/// The remaining time is rounded up, so that a fresh binding shows what was granted and a live one never 0.
fn contact_value(now: Instant, binding: &Binding) -> String {
    let left_s = binding.expires_at.since(now).as_millis().div_ceil(1000);
    let mut value = format!("<{}>;expires={left_s}", binding.contact);
    if let Some(reg_id) = binding.reg_id {
        let _ = write!(value, ";reg-id={reg_id}");
    }
    if let Some(instance) = &binding.instance {
        let _ = write!(value, r#";+sip.instance="{instance}""#);
    }
    value
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::{
        Duration, Transport,
        limits::{
            BINDING_TEXT_BYTES_MAX, CONTACTS_PER_AOR_MAX, REGISTRATION_EXPIRES_S_DEFAULT, REGISTRATION_EXPIRES_S_MAX,
        },
    };

    /// A registrar and the store as it would be on disk.
    pub(super) struct Fixture {
        pub(super) registrar: Registrar,
        now: Instant,
        cseq: u32,
        stored: Vec<Arc<Binding>>,
        displaced: Vec<String>,
    }

    impl Default for Fixture {
        fn default() -> Self {
            Self {
                registrar: Registrar::new("example.com", Secret::new([7; 32]), crate::types::Rng::from_small_seed(3)),
                now: Instant::default(),
                cseq: 0,
                stored: Vec::new(),
                displaced: Vec::new(),
            }
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Answer {
        pub(super) status: u16,
        pub(super) contacts: Vec<String>,
        pub(super) headers: Vec<(&'static str, String)>,
    }

    pub(super) fn udp(remote: &str) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: "192.0.2.9:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: ConnectionId::NONE,
        }
    }

    pub(super) fn tls(connection: u64) -> Flow {
        Flow { transport: Transport::Tls, connection: ConnectionId(connection), ..udp("192.0.2.1:49152") }
    }

    impl Fixture {
        pub(super) fn feed(&mut self, input: Input) -> Option<Answer> {
            self.registrar.handle_input(self.now, input);
            let mut answer = None;
            loop {
                match self.registrar.poll_output() {
                    Output::Reply { status, contacts, headers, .. } => {
                        answer = Some(Answer { status, contacts, headers });
                    }
                    Output::Store(change) => {
                        assert_eq!(answer, None, "stored after the reply");
                        let (Change::Set(changed) | Change::Remove(changed)) = &change;
                        self.stored.retain(|b| b.aor != changed.aor || !b.is_same(changed));
                        if let Change::Set(binding) = change {
                            self.stored.push(binding);
                        }
                    }
                    Output::Displaced(binding) => self.displaced.push(binding.contact.clone()),
                    Output::Timeout(_) => return answer,
                }
            }
        }

        /// A REGISTER of `aor` with these header lines, each ended by a line feed, and the next CSeq.
        pub(super) fn register_on(&mut self, aor: &str, flow: Flow, headers: &str) -> Answer {
            self.cseq += 1;
            self.send(aor, flow, "call-1", self.cseq, headers)
        }

        fn register(&mut self, headers: &str) -> Answer {
            self.register_on("alice", udp("192.0.2.1:5062"), headers)
        }

        pub(super) fn send(&mut self, aor: &str, flow: Flow, call_id: &str, cseq: u32, headers: &str) -> Answer {
            let text = format!(
                "REGISTER sip:example.com SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\n\
                 From: <sip:{aor}@example.com>;tag=a\nTo: <sip:{aor}@example.com>\nCall-ID: {call_id}\n\
                 CSeq: {cseq} REGISTER\nUser-Agent: Phone/1\n{headers}Content-Length: 0\n\n"
            );
            let request = Message::parse(Bytes::from(text.replace('\n', "\r\n"))).unwrap();
            self.feed(Input::Register { txn: TxnId(1), aor: aor.to_owned(), flow, request }).expect("an answer")
        }

        fn pass_time(&mut self, ms: u64) {
            self.now = self.now + Duration::from_millis(ms);
            self.feed(Input::Timeout);
        }

        pub(super) fn contacts(&self, aor: &str) -> Vec<&str> {
            self.registrar.bindings(aor).iter().map(|binding| binding.contact.as_str()).collect()
        }

        /// Every index says what the bindings say, and so does the store.
        pub(super) fn check(&self) {
            let r = &self.registrar;
            assert_eq!(r.len(), r.iter().count());
            assert_eq!(r.is_empty(), r.iter().next().is_none());
            let mut flows: HashMap<FlowKey, BTreeMap<Arc<str>, usize>> = HashMap::new();
            for binding in r.iter() {
                if let Some(key) = binding.flow.key() {
                    *flows.entry(key).or_default().entry(binding.aor.as_str().into()).or_default() += 1;
                }
                assert!(binding.expires_at > self.now, "expired: {binding:?}");
            }
            assert_eq!(r.flows, flows);
            let mut sources: HashMap<IpAddr, usize> = HashMap::new();
            r.iter().for_each(|binding| *sources.entry(binding.flow.source()).or_default() += 1);
            assert_eq!(r.sources, sources);
            let expiries = r.aors.iter().map(|(aor, list)| (earliest(list).expect("no list is empty"), aor.clone()));
            assert_eq!(r.expiries, expiries.collect());
            for (aor, list) in &r.aors {
                assert!(list.len() <= CONTACTS_PER_AOR_MAX);
                assert!(list.iter().all(|binding| *binding.aor == **aor));
            }
            let marks = r.iter().filter_map(|b| Some((r.gruus.mark(b)?, b.aor.as_str().into()))).collect();
            assert_eq!(r.marks, marks);
            assert_eq!(self.stored.len(), r.len());
            assert!(r.iter().all(|binding| self.stored.contains(binding)));
        }
    }

    fn ok(contacts: &[&str]) -> Answer {
        let contacts = contacts.iter().map(|&contact| contact.to_owned()).collect();
        Answer { status: 200, contacts, headers: Vec::new() }
    }

    pub(super) fn refused(status: u16) -> Answer {
        Answer { status, contacts: Vec::new(), headers: Vec::new() }
    }

    #[test]
    fn a_contact_is_bound_to_its_flow_and_expires() {
        let mut f = Fixture::default();
        let answer = f.register("Contact: <sip:alice@192.0.2.1:5062>\nExpires: 120\n");
        assert_eq!(answer, ok(&["<sip:alice@192.0.2.1:5062>;expires=120"]));
        assert_eq!(f.registrar.owner_of(&udp("192.0.2.1:5062")), Some("alice"));
        assert_eq!(f.registrar.owner_of(&udp("192.0.2.1:5063")), None);
        assert_eq!(f.registrar.contacts("alice").next().unwrap().user_agent, "Phone/1");
        assert_eq!(f.registrar.user_agent_of(&udp("192.0.2.1:5062")), Some("Phone/1"));
        assert_eq!(f.registrar.user_agent_of(&udp("192.0.2.1:5063")), None);
        f.pass_time(119_001);
        assert_eq!(f.register(""), ok(&["<sip:alice@192.0.2.1:5062>;expires=1"]), "a query");
        f.pass_time(999);
        assert!(f.registrar.is_empty());
        assert_eq!(f.registrar.owner_of(&udp("192.0.2.1:5062")), None);
        assert!(matches!(f.registrar.poll_output(), Output::Timeout(None)));
        f.check();
    }

    #[test]
    fn expires_comes_from_the_parameter_then_the_header_then_the_default() {
        let cases = [
            ("Contact: <sip:a@x>;expires=90\nExpires: 120\n", 90),
            ("Contact: <sip:a@x>\nExpires: 120\n", 120),
            ("Contact: <sip:a@x>\n", REGISTRATION_EXPIRES_S_DEFAULT),
            ("Contact: <sip:a@x>\nExpires: soon\n", REGISTRATION_EXPIRES_S_DEFAULT),
            ("Contact: <sip:a@x>;expires=60\n", REGISTRATION_EXPIRES_S_MIN),
            ("Contact: <sip:a@x>;expires=7200\n", REGISTRATION_EXPIRES_S_MAX),
            ("Contact: <sip:a@x>;expires=7201\n", REGISTRATION_EXPIRES_S_MAX),
            ("Contact: <sip:a@x>;expires=99999999999999999999\n", REGISTRATION_EXPIRES_S_MAX),
        ];
        for (headers, granted) in cases {
            let answer = Fixture::default().register(headers);
            assert_eq!(answer, ok(&[&format!("<sip:a@x>;expires={granted}")]), "{headers}");
        }
    }

    #[test]
    fn too_brief_an_interval_is_refused_with_the_minimum() {
        let mut f = Fixture::default();
        let expected = Answer { headers: vec![("Min-Expires", "60".to_owned())], ..refused(423) };
        for headers in ["Contact: <sip:a@x>;expires=59\n", "Contact: <sip:a@x>\nExpires: 1\n"] {
            assert_eq!(f.register(headers), expected);
        }
        let mixed = "Contact: <sip:a@x>;expires=600, <sip:b@x>;expires=59\n";
        assert_eq!(f.register(mixed), expected);
        assert!(f.registrar.is_empty(), "all or nothing");
    }

    #[test]
    fn several_contacts_are_kept_most_recent_first() {
        let mut f = Fixture::default();
        let answer = f.register("Contact: <sip:a@x>, \"B, b\" <sip:b@x>;expires=60\nContact: sip:c@x\nExpires: 600\n");
        assert_eq!(answer.contacts, ["<sip:c@x>;expires=600", "<sip:b@x>;expires=60", "<sip:a@x>;expires=600"]);
        f.register("Contact: <sip:a@x>\n");
        assert_eq!(f.contacts("alice"), ["sip:a@x", "sip:c@x", "sip:b@x"]);
        f.pass_time(60_000);
        assert_eq!(f.contacts("alice"), ["sip:a@x", "sip:c@x"]);
        assert_eq!(f.register("Contact: <sip:c@x>;expires=0\n").contacts.len(), 1);
        f.check();
    }

    #[test]
    fn the_star_removes_everything_and_only_as_the_rfc_allows() {
        let mut f = Fixture::default();
        f.register("Contact: <sip:a@x>, <sip:b@x>\n");
        for headers in [
            "Contact: *\n",
            "Contact: *\nExpires: 60\n",
            "Contact: *, <sip:a@x>\nExpires: 0\n",
            "Contact: *, *\nExpires: 0\n",
        ] {
            assert_eq!(f.register(headers), refused(400), "{headers}");
        }
        assert_eq!(f.registrar.len(), 2);
        assert_eq!(f.register("Contact: *\nExpires: 0\n"), ok(&[]));
        assert!(f.registrar.is_empty());
        f.check();
    }

    #[test]
    fn malformed_contacts_are_refused() {
        let mut f = Fixture::default();
        let long = format!("Contact: <sip:{}@x>\n", "a".repeat(BINDING_TEXT_BYTES_MAX));
        let instance = format!("Contact: <sip:a@x>;+sip.instance=\"{}\"\n", "a".repeat(BINDING_TEXT_BYTES_MAX + 1));
        let escaped = "Contact: <sip:a@x>;+sip.instance=\"a\\\"b\"\n";
        for headers in ["Contact: <tel:+15550100>\n", "Contact: <sip:a@x>, <>\n", &long, &instance, escaped] {
            assert_eq!(f.register(headers), refused(400), "{headers}");
        }
        let call_id = "c".repeat(BINDING_TEXT_BYTES_MAX + 1);
        let flow = udp("192.0.2.1:5062");
        assert_eq!(f.send("alice", flow, &call_id, 1, "Contact: <sip:a@x>\n"), refused(400));
        assert_eq!(f.send("alice", flow, &call_id[1..], 1, "Contact: <sip:a@x>\n").status, 200);
    }

    #[test]
    fn contacts_are_limited_per_address_of_record() {
        let mut f = Fixture::default();
        for n in 0..CONTACTS_PER_AOR_MAX {
            assert_eq!(f.register(&format!("Contact: <sip:{n}@x>\n")).status, 200);
        }
        assert_eq!(f.register("Contact: <sip:0@x>;expires=0, <sip:more@x>\n").status, 200, "one goes, one comes");
        assert!(f.displaced.is_empty());
        assert_eq!(f.registrar.len(), CONTACTS_PER_AOR_MAX);
        assert_eq!(f.register_on("bob", udp("192.0.2.2:5060"), "Contact: <sip:b@x>\n").status, 200);
        let many: String = (0..=CONTACTS_PER_AOR_MAX).map(|n| format!("Contact: <sip:{n}@y>;expires=0\n")).collect();
        assert_eq!(f.register(&many), refused(403), "in one request");
        f.check();
    }

    #[test]
    fn the_contact_that_expires_soonest_makes_room_and_one_with_a_connection_last() {
        let mut f = Fixture::default();
        f.register_on("alice", tls(1), "Contact: <sip:connected@x>;expires=60\n");
        for n in 1..CONTACTS_PER_AOR_MAX {
            f.register(&format!("Contact: <sip:{n}@x>;expires={}\n", 1000 - n));
        }
        assert!(f.displaced.is_empty(), "nobody goes at the limit");
        assert_eq!(f.register("Contact: <sip:more@x>\n").status, 200, "the limit and one");
        assert_eq!(f.displaced, [format!("sip:{}@x", CONTACTS_PER_AOR_MAX - 1)]);
        assert_eq!(f.registrar.len(), CONTACTS_PER_AOR_MAX);
        assert!(f.contacts("alice").contains(&"sip:connected@x"));
        f.check();
        let all: String = (0..CONTACTS_PER_AOR_MAX).map(|n| format!("Contact: <sip:{n}@y>;expires=60\n")).collect();
        assert_eq!(f.register(&all).status, 200);
        assert!(f.contacts("alice").iter().all(|contact| contact.ends_with("@y")), "what was asked for stays");
        assert_eq!(f.displaced.len(), 1 + CONTACTS_PER_AOR_MAX);
        f.check();
    }

    #[test]
    fn contacts_of_earlier_requests_make_room_even_under_the_same_call_id_and_cseq() {
        let mut f = Fixture::default();
        let flow = udp("192.0.2.1:5062");
        let all: String =
            (0..CONTACTS_PER_AOR_MAX).map(|n| format!("Contact: <sip:{n}@x>;expires={}\n", 60 + n)).collect();
        assert_eq!(f.send("alice", flow, "x", 5, &all).status, 200);
        assert_eq!(f.send("alice", flow, "x", 5, "Contact: <sip:more@x>\n").status, 200);
        assert_eq!(f.displaced, ["sip:0@x"]);
        assert_eq!(f.registrar.len(), CONTACTS_PER_AOR_MAX);
        f.check();
    }

    #[test]
    fn cseq_only_goes_up_within_a_call_id() {
        let mut f = Fixture::default();
        let flow = udp("192.0.2.1:5062");
        let mut send = |call_id, cseq, headers| f.send("alice", flow, call_id, cseq, headers).status;
        assert_eq!(send("one", 5, "Contact: <sip:a@x>, <sip:b@x>\n"), 200);
        assert_eq!(send("one", 5, "Contact: <sip:a@x>;expires=0\n"), 500);
        assert_eq!(send("one", 4, "Contact: <sip:c@x>, <sip:b@x>\n"), 500);
        assert_eq!(send("one", 4, "Contact: *\nExpires: 0\n"), 500);
        assert_eq!(send("one", 4, ""), 200, "a query is not ordered");
        assert_eq!(send("one", 4, "Contact: <sip:d@x>\n"), 200, "nor is a new contact");
        assert_eq!(send("two", 1, "Contact: <sip:a@x>;expires=0\n"), 200, "another Call-ID");
        assert_eq!(send("one", 6, "Contact: <sip:b@x>;expires=0\n"), 200);
        assert_eq!(f.contacts("alice"), ["sip:d@x"], "failures changed nothing");
        f.check();
    }

    #[test]
    fn a_restarted_phone_replaces_its_old_contact() {
        let mut f = Fixture::default();
        let contact = |port: u16, instance: &str| {
            format!("Contact: <sip:a@192.0.2.1:{port}>;+sip.instance=\"<urn:uuid:{instance}>\"\n")
        };
        f.register(&contact(5062, "1"));
        f.register(&contact(5070, "2"));
        let answer = f.send("alice", udp("192.0.2.1:6000"), "reboot", 1, &contact(6000, "1"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.contacts[0], "<sip:a@192.0.2.1:6000>;expires=3600;+sip.instance=\"<urn:uuid:1>\"");
        assert_eq!(f.contacts("alice"), ["sip:a@192.0.2.1:6000", "sip:a@192.0.2.1:5070"]);
        f.check();
    }

    #[test]
    fn a_binding_moves_with_its_flow() {
        let mut f = Fixture::default();
        f.register_on("alice", tls(1), "Contact: <sip:a@x>\n");
        f.register_on("alice", tls(2), "Contact: <sip:a@x>\n");
        assert_eq!(f.registrar.owner_of(&tls(1)), None);
        assert_eq!(f.registrar.owner_of(&tls(2)), Some("alice"));
        f.feed(Input::ConnectionClosed(ConnectionId(1)));
        assert_eq!(f.registrar.len(), 1, "the old connection carries it no more");
        f.feed(Input::ConnectionClosed(ConnectionId(2)));
        assert!(f.registrar.is_empty());
        f.check();
    }

    #[test]
    fn a_shared_flow_belongs_to_nobody() {
        let mut f = Fixture::default();
        f.register_on("alice", tls(1), "Contact: <sip:a@x>\n");
        f.register_on("bob", tls(1), "Contact: <sip:b@x>\n");
        assert_eq!(f.registrar.owner_of(&tls(1)), None);
        f.feed(Input::Forget { aor: "alice".to_owned() });
        assert_eq!(f.registrar.owner_of(&tls(1)), Some("bob"));
        assert_eq!(f.contacts("alice"), Vec::<&str>::new());
        f.check();
    }

    #[test]
    fn bindings_of_the_store_come_back_without_their_connections() {
        let mut f = Fixture::default();
        f.register("Contact: <sip:a@x>;expires=60\n");
        f.register_on("bob", tls(1), "Contact: <sip:b@x>\n");
        f.register_on("bob", udp("192.0.2.2:5060"), "Contact: <sip:c@x>\n");
        let stored = f.stored.iter().map(|binding| Binding::clone(binding)).collect();
        let mut f = Fixture { now: f.now + Duration::from_secs(60), stored: f.stored, ..Fixture::default() };
        f.feed(Input::Restore(stored));
        assert_eq!(f.contacts("alice"), Vec::<&str>::new(), "expired meanwhile");
        assert!(!f.stored.iter().any(|binding| binding.aor == "alice"), "and cleared from the store");
        assert_eq!(f.registrar.len(), 2);
        assert_eq!(f.registrar.owner_of(&tls(1)), None, "a new connection with an old number is a stranger");
        assert_eq!(f.registrar.owner_of(&udp("192.0.2.2:5060")), Some("bob"));
        f.cseq = 10;
        f.register_on("bob", tls(1), "Contact: <sip:b@x>\n");
        assert_eq!(f.registrar.len(), 2, "the device takes its binding up again");
        assert_eq!(f.registrar.owner_of(&tls(1)), Some("bob"));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Contacts by name, instance, `reg-id` and expiry; 0 is none.
        Register {
            aor: usize,
            connection: u64,
            contacts: Vec<(u8, u8, u8, u32)>,
        },
        Close(u64),
        Forget(usize),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let contact = (0..12_u8, 0..4_u8, 0..3_u8, prop_oneof![Just(0), Just(30), 60..400_u32]);
        prop_oneof![
            4 => (0..3_usize, 0..4_u64, prop::collection::vec(contact, 0..4))
                .prop_map(|(aor, connection, contacts)| Step::Register { aor, connection, contacts }),
            1 => (1..4_u64).prop_map(Step::Close),
            1 => (0..3_usize).prop_map(Step::Forget),
            1 => (0..200_000_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn indexes_and_store_agree_with_the_bindings_after_any_steps(steps in prop::collection::vec(step(), 1..60)) {
            const AORS: [&str; 3] = ["alice", "bob", "carol"];
            let mut f = Fixture::default();
            for step in steps {
                match step {
                    Step::Register { aor, connection, contacts } => {
                        let flow = if connection == 0 { udp("192.0.2.1:5062") } else { tls(connection) };
                        let headers: String = contacts
                            .iter()
                            .map(|(name, instance, reg_id, expires)| {
                                let instance = match instance {
                                    0 => String::new(),
                                    n => format!(";+sip.instance=\"<urn:{n}>\""),
                                };
                                let flow = if *reg_id == 0 { String::new() } else { format!(";reg-id={reg_id}") };
                                format!("Contact: <sip:{name}@x>;expires={expires}{instance}{flow}\n")
                            })
                            .collect();
                        let headers = format!("Supported: outbound\n{headers}");
                        f.register_on(AORS[aor], flow, &headers);
                    }
                    Step::Close(connection) => {
                        f.feed(Input::ConnectionClosed(ConnectionId(connection)));
                    }
                    Step::Forget(aor) => {
                        f.feed(Input::Forget { aor: AORS[aor].to_owned() });
                    }
                    Step::Wait(ms) => f.pass_time(ms),
                }
                f.check();
            }
        }
    }
}
