//! A server whose peers are written by hand, message by message.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use bytes::Bytes;

use super::super::{
    CallDetail, Cdr, Core, DeviceSync, Input, InspectionRefusal, Notice, Output, Setup, SyncRefusal, TestCall,
    TestRefusal,
};
use crate::{
    config::{self, Directory, Forwarding, Place, User},
    media::{self, Formats, History},
    policy::stir,
    sip::{locate::Question, registrar::Binding},
    types::{CallId, ConnectionId, Duration, Flow, Instant, LegId, Rng, Secret, Transport},
    wire::{
        sip::{
            Message, Name,
            digest::{self, Credential},
        },
        srtp::{MasterKey, Position, Positions, Suite},
    },
};

pub(super) const CONFIG: &str = r#"
[server]
domain = "pbx.example.com"
[sip]
udp = ["192.0.2.1:5060"]
tcp = ["192.0.2.1:5060"]
tls = ["192.0.2.1:5061"]
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
[trunk.stream]
host = "203.0.113.6"
port = 5060
transport = "tcp"
numbers = ["+12025550100"]
encryption = "off"
pstn = false
"#;

/// Where every peer's streams stand when its media leg closes.
pub(super) fn heard() -> History {
    let positions =
        Positions { rtp: vec![Position { ssrc: 7, index: 0x3_8000 }], rtcp: vec![Position { ssrc: 7, index: 9 }] };
    let suite = Suite::AesCm128HmacSha1_80;
    let mut history = History::default();
    history.add(suite, &MasterKey::generate(suite, &mut Rng::from_small_seed(7)), positions);
    history
}

pub(super) const TRUNK: &str = "203.0.113.5:5060";
/// Alice's and Bob's devices; Bob has two.
pub(super) const ALICE: &str = "198.51.100.1:5060";
pub(super) const BOB: &str = "198.51.100.2:5060";
pub(super) const BOB_TOO: &str = "198.51.100.3:5060";
pub(super) const CAROL: &str = "198.51.100.4:5060";

pub(super) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                              m=audio 4000 RTP/AVP 0\r\n";

/// A server whose every message is seen; its media workers do as they are told.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Instant,
    /// Records of calls that have ended.
    pub(super) cdrs: Vec<Cdr>,
    /// Of calls that go on, as they were handed over last.
    pub(super) open_cdrs: BTreeMap<String, Cdr>,
    waiting_for_disk: Vec<CallId>,
    /// It has nothing before [`Bench::disk_writes`].
    pub(super) is_disk_slow: bool,
    /// Everything sent and not yet taken.
    pub(super) sent: Vec<(Flow, Message)>,
    pub(super) open_legs: Vec<LegId>,
    /// Media legs whose ports were to be bound before they open, in this order.
    pub(super) bound: Vec<LegId>,
    /// What each media leg was last told of its peer.
    pub(super) remotes: HashMap<LegId, media::Remote>,
    /// Pairs of legs in the order in which they were told to exchange packets.
    pub(super) joined: Vec<(LegId, LegId)>,
    /// Media legs in the order in which they were told what was settled, and what was heard before.
    pub(super) configured: Vec<(LegId, Option<Box<History>>)>,
    /// Asked of DNS and not yet taken.
    pub(super) questions: Vec<(u64, Question)>,
    /// Certificates asked for and not yet taken.
    pub(super) fetched: Vec<(u64, stir::Place)>,
    /// Connections that the server has closed.
    pub(super) closed: Vec<Flow>,
    pub(super) serial: u32,
    /// What became of orders to call the test number.
    pub(super) tested: Vec<Result<TestCall, TestRefusal>>,
    /// Posted to web servers.
    pub(super) notices: Vec<Notice>,
    pub(super) inspected: Vec<(u64, Result<Box<CallDetail>, InspectionRefusal>)>,
    /// Media legs whose peers are watched, and those that are asked for a report.
    pub(super) watched: Vec<LegId>,
    pub(super) asked: Vec<LegId>,
    /// Tones that media legs were told to play.
    pub(super) played: Vec<(LegId, media::Tone)>,
    /// What each media leg may carry, as configured last.
    pub(super) formats: HashMap<LegId, Formats>,
    /// What became of orders to devices, and not yet taken.
    pub(super) resynced: Vec<(u64, Result<Vec<DeviceSync>, SyncRefusal>)>,
}

/// A header line that means nothing.
pub(super) const PADDING: &str = concat!(
    "X-Padding: ",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "\r\n"
);

pub(super) fn udp(remote: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: ConnectionId::NONE,
    }
}

pub(super) fn user(name: &str, extension: &str, direct_line: &str) -> User {
    User {
        name: name.to_owned(),
        extension: extension.to_owned(),
        direct_line: Some(direct_line.to_owned()),
        credential: Credential::derive(name, "pbx.example.com", "secret"),
        forwarding: Forwarding::default(),
        place: Place::default(),
    }
}

pub(super) fn binding(aor: &str, address: &str) -> Binding {
    Binding {
        aor: aor.to_owned(),
        contact: format!("sip:{aor}@{address}"),
        flow: udp(address),
        expires_at: Instant::from_unix_ms(1_800_000_000_000),
        call_id: format!("register-{address}"),
        cseq: 1,
        instance: None,
        reg_id: None,
        path: Vec::new(),
        is_proxied: false,
        user_agent: String::new(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(CONFIG)
    }

    pub(super) fn with(config: &str) -> Self {
        let users = [user("alice", "1001", "+12025551001"), user("bob", "1002", "+12025551002")];
        Self::with_users(config, users, vec![binding("alice", ALICE), binding("bob", BOB), binding("bob", BOB_TOO)])
    }

    pub(super) fn with_users(config: &str, users: impl IntoIterator<Item = User>, bindings: Vec<Binding>) -> Self {
        let config = config::parse(config).unwrap_or_else(|problems| panic!("{problems:?}")).0;
        let now = Instant::from_unix_ms(1_700_000_000_000);
        let workers = config.media.workers;
        let listener = |t, a: &str| (t, a.parse::<SocketAddr>().unwrap());
        let setup = Setup {
            config: Arc::new(config),
            directory: Arc::new(Directory::new(users)),
            listeners: vec![
                listener(Transport::Udp, "192.0.2.1:5060"),
                listener(Transport::Tcp, "192.0.2.1:5060"),
                listener(Transport::Tls, "192.0.2.1:5061"),
            ],
            workers,
            trunk_passwords: HashMap::from([("carrier".to_owned(), Secret::new("trunk-secret".to_owned()))]),
            bindings,
            gruu_key: Secret::new([7; 32]),
            rng: Rng::from_small_seed(7),
        };
        let core = Core::new(now, setup);
        let mut bench = Self {
            core,
            now,
            cdrs: Vec::new(),
            open_cdrs: BTreeMap::new(),
            waiting_for_disk: Vec::new(),
            is_disk_slow: false,
            sent: Vec::new(),
            open_legs: Vec::new(),
            bound: Vec::new(),
            remotes: HashMap::new(),
            joined: Vec::new(),
            configured: Vec::new(),
            questions: Vec::new(),
            fetched: Vec::new(),
            closed: Vec::new(),
            serial: 0,
            tested: Vec::new(),
            notices: Vec::new(),
            inspected: Vec::new(),
            watched: Vec::new(),
            asked: Vec::new(),
            played: Vec::new(),
            formats: HashMap::new(),
            resynced: Vec::new(),
        };
        bench.drain();
        bench
    }

    pub(super) fn input(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        let (mut closed, mut opened) = (Vec::new(), Vec::new());
        loop {
            match self.core.poll_output() {
                Output::Transmit { flow, bytes } => self.sent.push((flow, Message::parse(bytes).unwrap())),
                Output::Media { command: media::Command::Bind { leg, .. }, .. } => self.bound.push(leg),
                Output::Media { command: media::Command::Open { leg, .. }, .. } => self.open_legs.push(leg),
                Output::Media { command: media::Command::Connect { a, b }, .. } => self.joined.push((a, b)),
                Output::Media { command: media::Command::Close { leg }, .. } => closed.push(leg),
                Output::Media { command: media::Command::Watch { leg }, .. } => self.watched.push(leg),
                Output::Media { command: media::Command::Report { leg }, .. } => self.asked.push(leg),
                Output::Media { command: media::Command::Configure { leg, remote, formats, history, .. }, .. } => {
                    self.configured.push((leg, history));
                    self.remotes.insert(leg, remote);
                    self.formats.insert(leg, formats);
                }
                Output::Media { command: media::Command::Play { leg, tone }, .. } => self.played.push((leg, tone)),
                Output::Resolve { query, question } => self.questions.push((query, question)),
                Output::Timeout(_) => break,
                Output::Close { flow } => self.closed.push(flow),
                Output::Connect { .. } | Output::StoreBinding(_) => {}
                Output::OpenCdr { call, cdr } => {
                    opened.push(call);
                    self.open_cdrs.insert(cdr.id.clone(), *cdr);
                }
                Output::UpdateCdr(cdr) => drop(self.open_cdrs.insert(cdr.id.clone(), *cdr)),
                Output::StoreCdr(cdr) => {
                    self.open_cdrs.remove(&cdr.id);
                    self.cdrs.push(*cdr);
                }
                Output::Inspected { id, result } => self.inspected.push((id, result)),
                Output::Resynced { id, result } => self.resynced.push((id, result)),
                Output::TestCalled { result, .. } => self.tested.push(result),
                Output::FetchCertificate { query, place } => self.fetched.push((query, place)),
                Output::Notify { notice, .. } => self.notices.push(*notice),
            }
        }
        self.waiting_for_disk.extend(opened);
        if !self.is_disk_slow {
            self.disk_writes();
        }
        for leg in closed {
            self.open_legs.retain(|open| *open != leg);
            self.input(Input::Media(media::Event::Closed { leg, report: Box::default(), history: heard() }));
        }
    }

    /// What the store was given is on disk.
    pub(super) fn disk_writes(&mut self) {
        let written = std::mem::take(&mut self.waiting_for_disk);
        if !written.is_empty() {
            self.input(Input::CdrsOpened(written));
        }
    }

    /// Sends `text`, lines ended by line feeds, without its Content-Length.
    pub(super) fn receive(&mut self, flow: Flow, head: &str, body: &str) {
        let head = head.replace('\n', "\r\n");
        let has_kind = body.is_empty() || head.contains("Content-Type:");
        let kind = if has_kind { "" } else { "Content-Type: application/sdp\r\n" };
        // As long as what telephones send, so that a datagram from a stranger can be answered at once.
        let is_request = !head.starts_with("SIP/");
        let padding = if is_request && flow.transport == Transport::Udp { PADDING } else { "" };
        let text = format!("{head}{kind}{padding}Content-Length: {}\r\n\r\n{body}", body.len());
        self.input(Input::Received { flow, bytes: Bytes::from(text) });
    }

    /// A new request outside or, with tags in `from` and `to`, inside a dialog. Returns its branch.
    pub(super) fn request(
        &mut self,
        flow: Flow,
        (method, uri): (&str, &str),
        (from, to): (&str, &str),
        (call_id, cseq): (&str, u32),
        (extra, body): (&str, &str),
    ) -> String {
        self.serial += 1;
        let branch = format!("z9hG4bK-{}", self.serial);
        let via = format!("SIP/2.0/{} {};branch={branch}", flow.transport.via_token(), flow.remote);
        let head = format!(
            "{method} {uri} SIP/2.0\nVia: {via}\nMax-Forwards: 70\nFrom: {from}\nTo: {to}\nCall-ID: {call_id}\n\
             CSeq: {cseq} {method}\nContact: <sip:peer@{}>\n{extra}",
            flow.remote
        );
        self.receive(flow, &head, body);
        branch
    }

    /// An INVITE of the trunk to Bob's direct line.
    pub(super) fn trunk_calls_bob(&mut self) {
        let to = "<sip:+12025551002@pbx.example.com>";
        self.request(
            udp(TRUNK),
            ("INVITE", "sip:+12025551002@pbx.example.com"),
            ("<sip:+14155550123@203.0.113.5>;tag=trunk", to),
            ("trunk-call", 1),
            ("", SDP),
        );
    }

    /// Registers a user over a connection.
    pub(super) fn register(&mut self, flow: Flow, user: &str) {
        let address = format!("<sip:{user}@pbx.example.com>");
        let ask = |b: &mut Self, cseq, credentials: &str| {
            let from = format!("{address};tag=r");
            let line = ("REGISTER", "sip:pbx.example.com");
            b.request(flow, line, (&from, &address), ("registration", cseq), (credentials, ""));
            b.take_response("REGISTER", &flow.remote.to_string(), 200)
        };
        let challenge = ask(self, self.serial + 1, "");
        let lines = challenge.lines(Name::WwwAuthenticate);
        let answer = digest::answer(lines, user, "secret", "REGISTER", "sip:pbx.example.com", b"", "cnonce", 1);
        let credentials = format!("Authorization: {}\n", answer.unwrap());
        assert_eq!(ask(self, self.serial + 1, &credentials).status(), 200);
    }

    /// Answers a request of the server as the peer it was sent to.
    pub(super) fn answer(&mut self, request: &(Flow, Message), status: u16, tag: &str, extra: &str, body: &str) {
        let (flow, request) = request;
        let header = |name| request.header(name).unwrap_or_default();
        let to = header(Name::To);
        let to = if to.contains("tag=") || tag.is_empty() { to.to_owned() } else { format!("{to};tag={tag}") };
        let head = format!(
            "SIP/2.0 {status} Whatever\nVia: {}\nFrom: {}\nTo: {to}\nCall-ID: {}\nCSeq: {}\n{extra}",
            header(Name::Via),
            header(Name::From),
            request.call_id(),
            header(Name::CSeq),
        );
        self.receive(*flow, &head, body);
    }

    /// A 200 with a Contact at the peer's address.
    pub(super) fn accept(&mut self, request: &(Flow, Message), tag: &str, body: &str) {
        self.answer(request, 200, tag, &format!("Contact: <sip:peer@{}>\n", request.0.remote), body);
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        match self.core.poll_output() {
            Output::Timeout(at) => at.filter(|at| at.since(self.now) < Duration::from_secs(10_000)),
            other => panic!("{other:?} was left"),
        }
    }

    /// Takes the first request sent with this method to this address.
    pub(super) fn take_request(&mut self, method: &str, to: &str) -> (Flow, Message) {
        self.find_request(method, to).unwrap_or_else(|| panic!("no {method} to {to} among {}", self.told()))
    }

    pub(super) fn find_request(&mut self, method: &str, to: &str) -> Option<(Flow, Message)> {
        let to: SocketAddr = to.parse().unwrap();
        let is_it = |(flow, m): &(Flow, Message)| m.is_request() && m.method_text() == method && flow.remote == to;
        let at = self.sent.iter().position(is_it)?;
        Some(self.sent.remove(at))
    }

    /// Takes the first response sent to this address for this method with a status of at least `from`.
    pub(super) fn take_response(&mut self, method: &str, to: &str, from: u16) -> Message {
        let address: SocketAddr = to.parse().unwrap();
        let is_it = |(flow, m): &(Flow, Message)| {
            !m.is_request() && m.method_text() == method && flow.remote == address && m.status() >= from
        };
        let at = self.sent.iter().position(is_it);
        let at = at.unwrap_or_else(|| panic!("no response to {method} for {to} among {}", self.told()));
        self.sent.remove(at).1
    }

    pub(super) fn told(&self) -> String {
        let line = |(flow, m): &(Flow, Message)| {
            format!("{} {} {} -> {}", m.method_text(), m.status(), m.request_uri(), flow.remote)
        };
        self.sent.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// The trunk's and Bob's legs of a call that Bob's first device answered and everyone acknowledged.
    pub(super) fn trunk_talks_to_bob(&mut self) -> (Leg, Leg) {
        self.trunk_calls_bob();
        let invite = self.take_request("INVITE", BOB);
        let other = self.take_request("INVITE", BOB_TOO);
        self.answer(&other, 486, "busy", "", "");
        self.take_request("ACK", BOB_TOO);
        self.accept(&invite, "bob", SDP);
        self.take_request("ACK", BOB);
        let ok = self.take_response("INVITE", TRUNK, 200);
        assert_eq!(ok.status(), 200);
        let trunk = Leg::of_caller(udp(TRUNK), &ok);
        self.acknowledge(&trunk, 1, "");
        (trunk, Leg::of_callee(&invite, "bob"))
    }

    pub(super) fn acknowledge(&mut self, leg: &Leg, cseq: u32, body: &str) {
        self.within(leg, "ACK", cseq, "", body);
    }

    /// A request of the peer of `leg` in its dialog.
    pub(super) fn within(&mut self, leg: &Leg, method: &str, cseq: u32, extra: &str, body: &str) {
        let dialog = (leg.local.as_str(), leg.remote.as_str());
        self.request(leg.flow, (method, "sip:us@192.0.2.1"), dialog, (&leg.call_id, cseq), (extra, body));
    }

    /// Branch of the last request that a peer sent.
    pub(super) fn sent_branch(&self) -> String {
        format!("z9hG4bK-{}", self.serial)
    }

    /// CANCEL of the INVITE with this branch.
    pub(super) fn cancel(&mut self, leg: &Leg, cseq: u32, branch: &str) {
        let Leg { flow, local, remote, call_id } = leg;
        let head = format!(
            "CANCEL sip:us@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP {};branch={branch}\nMax-Forwards: 70\nFrom: {local}\n\
             To: {remote}\nCall-ID: {call_id}\nCSeq: {cseq} CANCEL\n",
            flow.remote
        );
        self.receive(*flow, &head, "");
    }

    /// Everyone has been silent long enough: nothing may be left.
    pub(super) fn finish(mut self) {
        self.pass(400_000);
        assert!(self.core.is_idle(), "left: {:?}", self.core.calls());
        assert!(self.open_legs.is_empty());
    }
}

/// A dialog as the peer sees it.
pub(super) struct Leg {
    pub(super) flow: Flow,
    /// From of the peer's requests, with tag.
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) call_id: String,
}

impl Leg {
    pub(super) fn of_caller(flow: Flow, ok: &Message) -> Self {
        let header = |name| ok.header(name).unwrap_or_default().to_owned();
        Self { flow, local: header(Name::From), remote: header(Name::To), call_id: ok.call_id().to_owned() }
    }

    pub(super) fn of_callee((flow, invite): &(Flow, Message), tag: &str) -> Self {
        let header = |name| invite.header(name).unwrap_or_default().to_owned();
        let local = format!("{};tag={tag}", header(Name::To));
        Self { flow: *flow, local, remote: header(Name::From), call_id: invite.call_id().to_owned() }
    }
}
