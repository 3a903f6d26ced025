//! The whole signalling core, fed by peers that say anything.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use ringdown::{
    call::{Core, Input, Output, Setup},
    config::{self, Config, Directory, Forwarding, Place, User},
    media,
    sip::locate::Question,
    types::{ConnectionId, Duration, Flow, Instant, LegId, Rng, Secret, Transport},
    wire::sip::{
        Message, Name,
        digest::{self, Credential},
        frame::{Frame, Framer},
        validate,
    },
};

const CONFIG: &str = r#"
[server]
domain = "pbx.example.com"
[sip]
udp = ["192.0.2.1:5060"]
tcp = ["192.0.2.1:5060"]
[media]
addresses = ["192.0.2.1"]
ports = "20000-20099"
workers = 1
encryption = "preferred"
[company]
name = "Example Corp"
region = "US"
address = { country = "US", A1 = "DC", A3 = "Washington", RD = "Example", HNO = "500", PC = "20001" }
[emergency]
callback_numbers = ["+12025550100"]
[trunk.carrier]
host = "203.0.113.5"
port = 5060
transport = "udp"
user = "example-corp"
password_file = "unused"
numbers = ["+12025550100"]
encryption = "off"
pstn = true
"#;

/// Who speaks, by the first byte of a step: Alice's and Bob's devices over UDP, the trunk, a stranger, and Alice's device
/// over TCP. All but the stranger are known to the server.
pub(crate) const PEERS: [(u8, &str); 5] = [
    (b'A', "198.51.100.1:5060"),
    (b'B', "198.51.100.2:5060"),
    (b'T', "203.0.113.5:5060"),
    (b'S', "198.51.100.66:5060"),
    (b'C', "198.51.100.1:40000"),
];

/// A call leaves nothing behind within this time: 64*T1, twice, and the longest ringing.
const QUIET: Duration = Duration::from_secs(400);

/// Steps separated by NUL bytes. The first byte of each says who acts and how:
///
/// - a letter of [`PEERS`]: the rest is sent by this peer as it is, a line feed as CRLF, with `%` and a letter standing for
///   a part of the last message that the server sent to this peer: see [`Server::substitute`];
/// - `+`: time passes, as many milliseconds as the rest says;
/// - `x`: the TCP connection breaks;
/// - `m`: a media worker cannot bind the ports of the newest leg.
///
/// Afterwards everybody is silent, and nothing may be left but calls that are up.
pub fn machine(data: &[u8]) {
    static CONFIGURATION: LazyLock<Arc<Config>> = LazyLock::new(|| configuration(""));
    let mut server = Server::new(Arc::clone(&CONFIGURATION));
    for step in data.split(|byte| *byte == 0).take(64) {
        let Some((&kind, rest)) = step.split_first() else { continue };
        match kind {
            b'+' => server.pass(Duration::from_millis(number(rest).min(200_000))),
            b'x' => server.input(Input::FlowFailed { flow: flow(b'C') }),
            b'm' => server.fail_newest_leg(),
            peer if PEERS.iter().any(|(known, _)| *known == peer) => server.hear(peer, rest),
            _ => {}
        }
    }
    server.pass(QUIET);
    if server.core.live_calls() == 0 {
        server.check_idle();
    }
}

/// `extra`: what it has beside [`CONFIG`].
pub(crate) fn configuration(extra: &str) -> Arc<Config> {
    Arc::new(config::parse(&format!("{CONFIG}{extra}")).expect("a good configuration").0)
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

pub(crate) fn flow(peer: u8) -> Flow {
    let address = PEERS.iter().find(|(known, _)| *known == peer).expect("one of the peers").1;
    let (transport, connection) =
        if peer == b'C' { (Transport::Tcp, ConnectionId(1)) } else { (Transport::Udp, ConnectionId::NONE) };
    let local = "192.0.2.1:5060".parse().expect("an address");
    Flow { transport, local, remote: address.parse().expect("an address"), connection }
}

/// How many requests of the server are kept for peers to answer.
const REQUESTS_MAX: usize = 32;

pub(crate) struct Server {
    pub(crate) core: Core,
    now: Instant,
    framer: Framer,
    /// The last message sent to each peer.
    pub(crate) last: HashMap<SocketAddr, Message>,
    /// The last 401 or 407 sent to each peer.
    pub(crate) challenges: HashMap<SocketAddr, Message>,
    /// Requests of the server and to whom, the latest last.
    pub(crate) requests: VecDeque<(SocketAddr, Message)>,
    pub(crate) open_legs: Vec<LegId>,
    /// What DNS was asked and has not answered.
    pub(crate) questions: Vec<(u64, Question)>,
}

impl Server {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let now = Instant::from_unix_ms(1_700_000_000_000);
        let user = |name: &str, extension: &str, direct_line: &str| User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: Some(direct_line.to_owned()),
            credential: Credential::derive(name, "pbx.example.com", "secret"),
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
        let address: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let setup = Setup {
            config,
            directory: Arc::new(Directory::new(users)),
            listeners: vec![(Transport::Udp, address), (Transport::Tcp, address)],
            workers: 1,
            trunk_passwords: HashMap::from([("carrier".to_owned(), Secret::new("trunk-secret".to_owned()))]),
            bindings: Vec::new(),
            gruu_key: Secret::new([7; 32]),
            rng: Rng::from_small_seed(7),
        };
        let core = Core::new(now, setup);
        let mut server = Self {
            core,
            now,
            framer: Framer::new(),
            last: HashMap::new(),
            challenges: HashMap::new(),
            requests: VecDeque::new(),
            open_legs: Vec::new(),
            questions: Vec::new(),
        };
        server.drain();
        server.register(b'A', "alice");
        server.register(b'B', "bob");
        server.register(b'C', "alice");
        server
    }

    /// Registers a user's device at a peer.
    fn register(&mut self, peer: u8, user: &str) {
        let ask = |cseq: u32, credentials: &str| {
            format!(
                "REGISTER sip:pbx.example.com SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK-{user}-{peer}-{cseq}\n\
                 From: <sip:{user}@pbx.example.com>;tag=r\nTo: <sip:{user}@pbx.example.com>\nCall-ID: r{peer}\n\
                 CSeq: {cseq} REGISTER\nContact: <sip:{user}@{}>\nExpires: 3600\n{credentials}X-Padding: {}\n\
                 Content-Length: 0\n\n",
                flow(peer).remote,
                // A short datagram of a stranger may be answered at its second time only.
                "x".repeat(600)
            )
        };
        self.hear(peer, ask(1, "").as_bytes());
        let challenge = self.last[&flow(peer).remote].clone();
        let lines = challenge.lines(Name::WwwAuthenticate);
        let answer = digest::answer(lines, user, "secret", "REGISTER", "sip:pbx.example.com", b"", "cnonce", 1);
        self.hear(peer, ask(2, &format!("Authorization: {}\n", answer.expect("a challenge"))).as_bytes());
        assert_eq!(self.last[&flow(peer).remote].status(), 200, "the peers of the target are registered");
    }

    pub(crate) fn hear(&mut self, peer: u8, text: &[u8]) {
        let flow = flow(peer);
        let bytes = self.substitute(flow.remote, text);
        if flow.transport == Transport::Udp {
            return self.input(Input::Received { flow, bytes: Bytes::from(bytes) });
        }
        self.framer.push(&bytes);
        loop {
            match self.framer.poll() {
                Ok(Some(Frame::Message(bytes))) => self.input(Input::Received { flow, bytes }),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => return,
                Err(error) => return self.input(Input::Unframeable { flow, error }),
            }
        }
    }

    /// `%i` Call-ID, `%n` CSeq number, `%m` CSeq method, `%v` Via, `%u` the URI of Contact, `%t` the server's tag, `%o`
    /// the other one.
    fn substitute(&self, peer: SocketAddr, text: &[u8]) -> Vec<u8> {
        let last = self.last.get(&peer);
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut bytes = text.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let part =
                if byte == b'%' { bytes.peek().and_then(|letter| last.and_then(|m| part(m, *letter))) } else { None };
            match (byte, part) {
                (_, Some(part)) => {
                    bytes.next();
                    out.extend_from_slice(part.as_bytes());
                }
                (b'\n', None) if out.last() != Some(&b'\r') => out.extend_from_slice(b"\r\n"),
                (_, None) => out.push(byte),
            }
        }
        out
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        let (mut closed, mut opened) = (Vec::new(), Vec::new());
        loop {
            match self.core.poll_output() {
                Output::Transmit { flow, bytes } => self.sent(flow, bytes),
                Output::Media { command: media::Command::Open { leg, .. }, .. } => self.open_legs.push(leg),
                Output::Media { command: media::Command::Close { leg }, .. } => closed.push(leg),
                Output::Resolve { query, question } => self.questions.push((query, question)),
                Output::OpenCdr { call, .. } => opened.push(call),
                Output::Timeout(_) => break,
                Output::Media { .. }
                | Output::FetchCertificate { .. }
                | Output::Connect { .. }
                | Output::Close { .. }
                | Output::StoreBinding(_)
                | Output::UpdateCdr(_)
                | Output::StoreCdr(_)
                | Output::Resynced { .. }
                | Output::TestCalled { .. }
                | Output::Notify { .. }
                | Output::Inspected { .. } => {}
            }
        }
        if !opened.is_empty() {
            self.input(Input::CdrsOpened(opened));
        }
        for leg in closed {
            self.open_legs.retain(|open| *open != leg);
            self.input(Input::Media(media::Event::Closed {
                leg,
                report: Box::default(),
                history: media::History::default(),
            }));
        }
    }

    /// Whatever the peers say, what the server says is well-formed; an answer may copy what was malformed.
    fn sent(&mut self, flow: Flow, bytes: Bytes) {
        let message = Message::parse(bytes).expect("what the server sends can be indexed");
        if message.is_request() {
            assert_eq!(validate(&message), Ok(()), "a request of the server: {:?}", message.bytes());
            self.requests.push_back((flow.remote, message.clone()));
            if self.requests.len() > REQUESTS_MAX {
                self.requests.pop_front();
            }
        } else if matches!(message.status(), 401 | 407) {
            self.challenges.insert(flow.remote, message.clone());
        }
        self.last.insert(flow.remote, message);
    }

    pub(crate) fn check_idle(&self) {
        assert!(self.core.is_idle(), "no call is up, and something is left");
        assert!(self.open_legs.is_empty(), "no call is up, and media legs are open");
    }

    pub(crate) fn fail_newest_leg(&mut self) {
        if let Some(&leg) = self.open_legs.last() {
            self.input(Input::Media(media::Event::OpenFailed { leg }));
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..20_000 {
            let Output::Timeout(at) = self.core.poll_output() else { unreachable!("every input ends drained") };
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        panic!("the core's timers do not let time pass");
    }
}

fn part(last: &Message, letter: u8) -> Option<String> {
    let tags = (last.from_tag().unwrap_or_default(), last.to_tag().unwrap_or_default());
    let (own, other) = if last.is_request() { tags } else { (tags.1, tags.0) };
    Some(match letter {
        b'i' => last.call_id().to_owned(),
        b'n' => last.cseq()?.number.to_string(),
        b'm' => last.cseq()?.method_text.to_owned(),
        b'v' => last.values(Name::Via).next()?.to_owned(),
        b'u' => last.contact()?.uri.to_owned(),
        b't' => own.to_owned(),
        b'o' => other.to_owned(),
        _ => return None,
    })
}
