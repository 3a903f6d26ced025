//! One server, its phones and its trunk in one thread and in virtual time. Everything that happens follows from the seed.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use ringdown::{
    call::{CallDetail, InspectionRefusal},
    config::{self, Directory, Forwarding, Place, User},
    types::{Duration, Instant, Rng, Transport},
    wire::{
        sip::{Message, digest::Credential, frame::Frame},
        srtp::Suite,
    },
};

use crate::{
    net::{Happening, Net},
    phone::{Answer, Phone, Profile, State},
    server::Server,
    trunk,
};

pub(crate) const DOMAIN: &str = "pbx.example.com";
pub(crate) const SERVER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const SIP: SocketAddr = SocketAddr::new(SERVER_IP, 5060);
pub(crate) const SIPS: SocketAddr = SocketAddr::new(SERVER_IP, 5061);

/// Longer than any transaction timer (64*T1 = 32 s), twice.
pub(crate) const SETTLE: Duration = Duration::from_secs(70);

/// Stands in every user's password, so that a search would find it.
pub(crate) const PASSWORD_CANARY: &str = "password-canary";

const SERVER: &str = r#"
[server]
domain = "pbx.example.com"
state_dir = "state"
[sip]
udp = ["192.0.2.1:5060"]
tcp = ["192.0.2.1:5060"]
tls = ["192.0.2.1:5061"]
"#;

const MEDIA: &str = r#"
[media]
addresses = ["192.0.2.1"]
ports = "20000-20199"
workers = 2
encryption = "required"
"#;

const DIALING: &str = r#"
[dialing]
outside_prefixes = ["9"]
"#;

const COMPANY: &str = r#"
[company]
name = "Example Corp"
region = "US"
"#;

/// Elements of the company's address in [`trunk::CONFIG`].
pub(crate) const COMPANY_ADDRESS: [(&str, &str); 9] = [
    ("country", "US"),
    ("A1", "DC"),
    ("A3", "Washington"),
    ("PRD", "NW"),
    ("RD", "Example"),
    ("STS", "Avenue"),
    ("HNO", "500"),
    ("PC", "20001"),
    ("FLR", "4"),
];

/// What a world starts with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) media: String,
    pub(crate) company: String,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, media: MEDIA.to_owned(), company: COMPANY.to_owned() }
    }

    pub(crate) fn with_trunk(seed: u64) -> Self {
        Self { company: trunk::CONFIG.to_owned(), ..Self::new(seed) }
    }

    /// Phones need not encrypt.
    #[must_use]
    pub(crate) fn preferring(mut self) -> Self {
        self.media = self.media.replace("\"required\"", "\"preferred\"");
        self
    }

    /// `workers` and port range of the media plane.
    #[must_use]
    pub(crate) fn media(mut self, ports: &str, workers: u16) -> Self {
        self.media = MEDIA.replace("20000-20199", ports).replace("workers = 2", &format!("workers = {workers}"));
        self
    }

    pub(crate) fn config(&self) -> config::Config {
        let text = format!("{SERVER}{}{DIALING}{}", self.media, self.company);
        config::parse(&text).unwrap_or_else(|problems| panic!("the simulation's configuration: {problems:?}")).0
    }
}

/// Users `u1`, `u2`, ...: extensions 1001, 1002, ..., direct lines +1 202 555 1001, ...
pub(crate) fn user(n: u32) -> User {
    let name = format!("u{n}");
    User {
        credential: Credential::derive(&name, DOMAIN, &password(n)),
        extension: extension(n),
        direct_line: Some(format!("+1202555{}", 1000 + n)),
        forwarding: Forwarding::default(),
        place: Place::default(),
        name,
    }
}

pub(crate) fn extension(n: u32) -> String {
    (1000 + n).to_string()
}

pub(crate) fn password(n: u32) -> String {
    format!("{PASSWORD_CANARY}-{n}")
}

pub(crate) const USERS: u32 = 9;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) net: Net,
    pub(crate) server: Server,
    pub(crate) phones: Vec<Phone>,
    pub(crate) rng: Rng,
    /// What reached addresses where no phone is.
    pub(crate) strays: Vec<(SocketAddr, Bytes)>,
    /// Everything the server sent, in order, with its destination.
    pub(crate) from_server: Vec<(Instant, SocketAddr, Bytes)>,
    /// Every message that reached a phone, in order, with the phone.
    pub(crate) received: Vec<(usize, Bytes)>,
    history: Vec<String>,
    has_trunk: bool,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut rng = Rng::from_small_seed(plan.seed);
        let now = Instant::from_unix_ms(1_767_225_600_000);
        let hosts = HashMap::from([(trunk::HOST.to_owned(), trunk::IP)]);
        let directory = Directory::new((1..=USERS).map(user));
        let server = Server::new(now, SERVER_IP, plan.config(), directory, hosts, rng.fork());
        Self {
            now,
            net: Net::new(rng.fork()),
            server,
            phones: Vec::new(),
            strays: Vec::new(),
            from_server: Vec::new(),
            received: Vec::new(),
            history: Vec::new(),
            has_trunk: plan.company.starts_with(trunk::CONFIG),
            rng,
        }
    }

    /// A phone of user `n`, not yet registered.
    pub(crate) fn phone(&mut self, n: u32, transport: Transport, suites: &[Suite]) -> usize {
        let id = u32::try_from(self.phones.len()).expect("few phones");
        let ip = IpAddr::V4(Ipv4Addr::from(0xc633_640a_u32 + id));
        let profile = Profile {
            id,
            user: format!("u{n}"),
            password: Some(password(n)),
            ip,
            transport,
            suites: suites.to_vec(),
            has_mux: id % 2 == 0,
            answer: Answer::After(Duration::from_millis(800)),
            domain: DOMAIN.to_owned(),
            server: if transport == Transport::Tls { SIPS } else { SIP },
        };
        self.add(profile)
    }

    /// The trunk's far end.
    pub(crate) fn trunk(&mut self, answer: Answer) -> usize {
        self.carrier(trunk::IP, answer)
    }

    /// The far end of a further trunk.
    pub(crate) fn carrier(&mut self, ip: IpAddr, answer: Answer) -> usize {
        let id = u32::try_from(self.phones.len()).expect("few phones");
        self.add(trunk::profile(id, ip, answer))
    }

    fn add(&mut self, profile: Profile) -> usize {
        let rng = self.rng.fork();
        self.phones.push(Phone::new(profile, rng));
        self.phones.len() - 1
    }

    /// A phone of user `n` over UDP, registered.
    pub(crate) fn registered(&mut self, n: u32, suites: &[Suite]) -> usize {
        let phone = self.phone(n, Transport::Udp, suites);
        self.register(phone);
        phone
    }

    pub(crate) fn register(&mut self, phone: usize) {
        self.act(phone, |p, now| p.register(now, 600));
        self.until("registration", Duration::from_secs(40), |w| {
            w.phones[phone].registration == crate::phone::Registration::Done
        });
    }

    /// Lets someone do something with a phone.
    pub(crate) fn act<T>(&mut self, phone: usize, deed: impl FnOnce(&mut Phone, Instant) -> T) -> T {
        let result = deed(&mut self.phones[phone], self.now);
        self.flush(phone);
        result
    }

    pub(crate) fn dial(&mut self, phone: usize, whom: &str) -> usize {
        self.act(phone, |p, now| p.dial(now, whom))
    }

    pub(crate) fn hang_up(&mut self, phone: usize, call: usize) {
        self.act(phone, |p, now| p.hang_up(now, call));
    }

    /// Dials and waits until both are up: the calls' numbers at caller and callee.
    pub(crate) fn connect(&mut self, caller: usize, whom: &str, callee: usize) -> (usize, usize) {
        let a = self.dial(caller, whom);
        self.until("the call to be answered", Duration::from_secs(60), |w| {
            w.state(caller, a) == State::Up && w.phones[callee].live_calls().any(|(_, c)| c.state == State::Up)
        });
        let b = self.phones[callee].live_calls().map(|(i, _)| i).last().expect("it is up");
        (a, b)
    }

    pub(crate) fn state(&self, phone: usize, call: usize) -> State {
        self.phones[phone].calls[call].state
    }

    /// The final response to a call's INVITE.
    pub(crate) fn response(&self, phone: usize, call: usize) -> &Message {
        self.phones[phone].calls[call].response.as_ref().expect("the call has a final response")
    }

    /// What the admin API would show of a call, by the identifier of its record.
    pub(crate) fn look(&mut self, call: &str) -> Result<Box<CallDetail>, InspectionRefusal> {
        self.server.inspect(self.now, &mut self.net, call);
        self.until("what the workers report", Duration::from_secs(1), |w| !w.server.inspected.is_empty());
        self.server.inspected.remove(0)
    }

    /// Sends a datagram from an address where no phone is.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.net.datagram(self.now, from, to, bytes);
    }

    /// The server dies and is started again at once.
    pub(crate) fn crash(&mut self) {
        self.note("the server crashes");
        self.net.cut_all(self.now, SERVER_IP);
        self.server.crash(self.now);
    }

    /// A phone loses power and starts again.
    pub(crate) fn restart(&mut self, phone: usize) {
        self.note(&format!("phone {phone} restarts"));
        if let Some(connection) = self.phones[phone].connection {
            self.net.cut(self.now, connection);
        }
        self.act(phone, Phone::restart);
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until the condition holds; it must within `limit`.
    pub(crate) fn until(&mut self, what: &str, limit: Duration, mut is_met: impl FnMut(&Self) -> bool) {
        let end = self.now + limit;
        while !is_met(self) {
            assert!(self.step(end), "{what}: not within {limit:?}");
        }
    }

    /// Ends every call, lets everything settle, removes every binding and checks that nothing is left.
    pub(crate) fn finish(mut self) {
        for phone in 0..self.phones.len() {
            self.phones[phone].rest();
            let live: Vec<usize> = self.phones[phone].live_calls().map(|(i, _)| i).collect();
            for call in live {
                self.hang_up(phone, call);
            }
        }
        self.run(SETTLE);
        self.assert_no_faults();
        self.server.assert_clean();
        for phone in 0..self.phones.len() {
            assert_eq!(self.phones[phone].live_calls().count(), 0, "phone {phone} still has a call");
            self.act(phone, |p, now| p.unregister_if_registered(now));
        }
        self.run(SETTLE);
        // Bindings of phones that could not say goodbye end by themselves.
        if !self.server.core.bindings().is_empty() {
            self.run(Duration::from_secs(7_300));
        }
        assert!(self.server.core.bindings().is_empty(), "bindings left: {}", self.server.core.bindings().len());
        assert!(self.server.store.bindings.is_empty(), "bindings left in the store");
        self.assert_quiet();
        self.server.assert_clean();
        self.assert_records();
    }

    /// Nothing that must never happen has happened, and no two legs share a key.
    pub(crate) fn assert_no_faults(&self) {
        let faults: Vec<String> = self
            .phones
            .iter()
            .flat_map(|p| p.all_faults().into_iter().map(|f| format!("phone {}: {f}", p.profile.id)))
            .collect();
        assert!(faults.is_empty(), "{faults:#?}");
        let mut keys = BTreeSet::new();
        for (phone, call) in self.phones.iter().flat_map(|p| p.calls.iter().map(move |c| (p, c))) {
            for key in call.voice.own_keys().chain(call.voice.server_keys.iter().map(Vec::as_slice)) {
                assert!(keys.insert(key.to_vec()), "a key of phone {} stands on another leg too", phone.profile.id);
            }
        }
    }

    /// Without a trunk no timer runs at all; with one, only its name is looked up again: nothing is sent.
    fn assert_quiet(&mut self) {
        if !self.has_trunk {
            assert!(!self.server.has_core_timer(), "a timer of the core is left");
        }
        let said = self.from_server.len();
        self.run(Duration::from_secs(600));
        assert_eq!(self.from_server.len(), said, "the server speaks although nobody is there");
    }

    /// Every CDR is of its own call and consistent in itself.
    fn assert_records(&self) {
        let cdrs = &self.server.store.cdrs;
        let ids: BTreeSet<&str> = cdrs.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), cdrs.len(), "two CDRs with one id");
        for cdr in cdrs {
            let answer = cdr.answer_ms.unwrap_or(cdr.end_ms);
            assert!(cdr.start_ms <= answer && answer <= cdr.end_ms, "times out of order: {cdr:?}");
            assert_eq!(cdr.duration_s, (cdr.end_ms - answer) / 1000, "{cdr:?}");
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        let phones = self.phones.iter().filter_map(Phone::next_at);
        let next = phones.chain(self.net.next_at()).chain(self.server.next_at()).min();
        let Some(next) = next.filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(next);
        while let Some(arrival) = self.net.take(self.now) {
            self.arrive(arrival.to, arrival.what);
        }
        self.server.wake(self.now, &mut self.net);
        for phone in 0..self.phones.len() {
            if self.phones[phone].next_at().is_some_and(|at| at <= self.now) {
                self.phones[phone].wake(self.now);
            }
            self.flush(phone);
        }
        self.read_server();
        true
    }

    fn arrive(&mut self, to: SocketAddr, what: Happening) {
        if to.ip() == SERVER_IP {
            self.server.arrive(self.now, &mut self.net, to, what);
            self.read_server();
            return;
        }
        let Some(index) = self.phones.iter().position(|p| p.profile.ip == to.ip()) else {
            if let Happening::Datagram { bytes, .. } = what {
                self.strays.push((to, bytes.into()));
            }
            return;
        };
        let (now, phone) = (self.now, &mut self.phones[index]);
        match what {
            Happening::Datagram { bytes, .. } if to == phone.address => {
                let bytes = Bytes::from(bytes);
                self.received.push((index, bytes.clone()));
                phone.receive(now, bytes);
            }
            Happening::Datagram { from, bytes } => phone.hear(now, from, to, bytes),
            Happening::Accepted { connection, .. } => phone.connection = Some(connection),
            Happening::Bytes { connection, bytes } if phone.connection == Some(connection) => {
                phone.framer.push(&bytes);
                while let Some(frame) = phone.framer.poll().expect("the server's stream can be cut") {
                    if let Frame::Message(bytes) = frame {
                        self.received.push((index, bytes.clone()));
                        phone.receive(now, bytes);
                    }
                }
            }
            Happening::Closed { connection } if phone.connection == Some(connection) => phone.connection_lost(now),
            Happening::Bytes { .. } | Happening::Closed { .. } => {}
        }
        self.flush(index);
    }

    fn flush(&mut self, index: usize) {
        let now = self.now;
        let phone = &mut self.phones[index];
        for packet in phone.packets.drain(..) {
            self.net.datagram(now, packet.from, packet.to, &packet.bytes);
        }
        if phone.is_offline {
            return;
        }
        let outbox: Vec<Bytes> = phone.outbox.drain(..).collect();
        for bytes in outbox {
            let (address, server, transport) = (phone.address, phone.profile.server, phone.profile.transport);
            self.history.push(line(now, &format!("phone {index}"), "server", &bytes));
            if !transport.is_reliable() {
                self.net.datagram(now, address, server, &bytes);
                continue;
            }
            let connection =
                *phone.connection.get_or_insert_with(|| self.net.connect(now, transport, address, server, None));
            let end = self.net.end_of(connection, address);
            if let Some(end) = end {
                self.net.send(now, connection, end, &bytes);
            }
        }
    }

    fn read_server(&mut self) {
        for (at, flow, bytes) in self.server.transmitted.drain(..) {
            let to = self.phones.iter().position(|p| p.profile.ip == flow.remote.ip());
            let name = to.map_or_else(|| flow.remote.to_string(), |i| format!("phone {i}"));
            self.history.push(line(at, "server", &name, &bytes));
            self.from_server.push((at, flow.remote, bytes));
        }
    }

    pub(crate) fn note(&mut self, what: &str) {
        self.history.push(format!("{:>12.3} {what}", seconds(self.now)));
    }
}

impl Drop for World {
    /// A failure shows what was said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A replayed run is told from its beginning.
            let most = if std::env::var_os("RINGDOWN_SIM_SEED").is_some() { usize::MAX } else { 150 };
            let from = self.history.len().saturating_sub(most);
            eprintln!("The last {} messages:\n{}", self.history.len() - from, self.history[from..].join("\n"));
        }
    }
}

fn seconds(at: Instant) -> f64 {
    let ms = at.unix_ms() - 1_767_225_600_000;
    f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
}

/// Time, direction, start line, CSeq and Call-ID of a message.
fn line(at: Instant, from: &str, to: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let head = text.lines().next().unwrap_or_default();
    let field = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    format!("{:>12.3} {from} -> {to}: {head} [{} {}]", seconds(at), field("CSeq"), field("Call-ID"))
}
