//! The core and the devices around it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ringdown::{
    call::{Core, Input, Output, Setup},
    config::{self, Directory, Forwarding, Place, User},
    media,
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::sip::{
        Message, Name,
        digest::{self, Credential},
    },
};

use crate::heap;

const DOMAIN: &str = "pbx.example.com";
const PASSWORD: &str = "a password of ordinary length";
const CONFIG: &str = r#"
[server]
domain = "pbx.example.com"
[sip]
udp = ["192.0.2.1:5060"]
tcp = ["192.0.2.1:5060"]
tls = ["192.0.2.1:5061"]
[media]
addresses = ["192.0.2.1"]
ports = "20000-39999"
workers = 1
[company]
name = "Example Corp"
region = "US"
"#;
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                   m=audio 4000 RTP/SAVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
                   a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=sendrecv\r\n\
                   a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n";

/// More than the core says to one input.
const OUTPUTS: usize = 64;

/// The core, the clock it lives by, and what it has sent.
pub(crate) struct Exchange {
    core: Core,
    now: Instant,
    sent: VecDeque<(Flow, Message)>,
    /// Room for what the core says to one input.
    outputs: Vec<Output>,
    spent: Spent,
}

/// Inside the core.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) time: Duration,
    pub(crate) allocations: u64,
}

impl Exchange {
    pub(crate) fn new(users: u32) -> Self {
        let config = config::parse(CONFIG).unwrap_or_else(|problems| panic!("{problems:?}")).0;
        let user = |number| {
            let name = name(number);
            let credential = Credential::derive(&name, DOMAIN, PASSWORD);
            User {
                extension: name.clone(),
                name,
                direct_line: None,
                credential,
                forwarding: Forwarding::default(),
                place: Place::default(),
            }
        };
        let setup = Setup {
            config: Arc::new(config),
            directory: Arc::new(Directory::new((0..users).map(user))),
            listeners: vec![(Transport::Tls, local())],
            workers: 1,
            trunk_passwords: HashMap::new(),
            bindings: Vec::new(),
            gruu_key: Secret::new([1; 32]),
            rng: Rng::from_small_seed(1),
        };
        let now = Instant::from_unix_ms(1_700_000_000_000);
        Self { core: Core::new(now, setup), now, sent: VecDeque::new(), outputs: Vec::new(), spent: Spent::default() }
    }

    /// Since it was last taken.
    pub(crate) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.core.is_idle()
    }

    /// Lets time go by, with every timer on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.input(Input::Timeout).filter(|at| *at <= end) {
            self.now = self.now.max(at);
        }
        self.now = end;
    }

    fn receive(&mut self, flow: Flow, text: String) {
        self.input(Input::Received { flow, bytes: Bytes::from(text) });
    }

    /// Returns when the core must be woken.
    fn input(&mut self, input: Input) -> Option<Instant> {
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.reserve(OUTPUTS);
        let (began, allocations) = (std::time::Instant::now(), heap::allocations());
        self.core.handle_input(self.now, input);
        let timeout = loop {
            match self.core.poll_output() {
                Output::Timeout(at) => break at,
                output => outputs.push(output),
            }
        };
        self.spent.time += began.elapsed();
        self.spent.allocations += heap::allocations() - allocations;
        outputs.drain(..).for_each(|output| self.perform(output));
        self.outputs = outputs;
        timeout
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Transmit { flow, bytes } => self.sent.push_back((flow, Message::parse(bytes).unwrap())),
            Output::Media { command: media::Command::Close { leg }, .. } => {
                self.input(Input::Media(media::Event::Closed {
                    leg,
                    report: Box::default(),
                    history: media::History::default(),
                }));
            }
            Output::OpenCdr { call, .. } => drop(self.input(Input::CdrsOpened(vec![call]))),
            _ => {}
        }
    }

    /// Takes the first message sent to this flow that `is_it`, with all before it.
    fn take(&mut self, flow: Flow, is_it: impl Fn(&Message) -> bool) -> Message {
        while let Some((to, message)) = self.sent.pop_front() {
            if to == flow && is_it(&message) {
                return message;
            }
        }
        panic!("the core did not send what it should have sent");
    }
}

/// A telephone with an address, or on a TLS connection, of its own.
pub(crate) struct Device {
    name: String,
    flow: Flow,
    cseq: u32,
}

/// A dialog of the calling device.
pub(crate) struct Call {
    id: String,
    from: String,
    to: String,
    /// The other device, and the dialog it has with the core.
    callee: Flow,
}

impl Device {
    pub(crate) fn new(number: u32) -> Self {
        let remote = SocketAddr::from(([198, 18, 0, 0], 5061));
        let flow =
            Flow { transport: Transport::Tls, local: local(), remote, connection: ConnectionId(u64::from(number) + 1) };
        Self { name: name(number), flow, cseq: 0 }
    }

    pub(crate) fn over_udp(number: u32) -> Self {
        let device = Self::new(number);
        let flow = Flow { transport: Transport::Udp, connection: ConnectionId::NONE, ..device.flow };
        Self { flow, ..device }
    }

    /// As a telephone does whose last nonce has expired: asks, is challenged, answers.
    pub(crate) fn register(&mut self, exchange: &mut Exchange) {
        let challenge = self.send_register(exchange, "");
        let uri = format!("sip:{DOMAIN}");
        let lines = challenge.lines(Name::WwwAuthenticate);
        let answer = digest::answer(lines, &self.name, PASSWORD, "REGISTER", &uri, b"", "0a4f113b", 1).unwrap();
        let ok = self.send_register(exchange, &format!("Authorization: {answer}\r\n"));
        assert_eq!(ok.status(), 200);
    }

    fn send_register(&mut self, exchange: &mut Exchange, credentials: &str) -> Message {
        self.cseq += 1;
        let Self { name, flow, cseq, .. } = self;
        let text = format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{1} {0};branch=z9hG4bK{name}x{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{DOMAIN}>;tag=r{name}\r\nTo: <sip:{name}@{DOMAIN}>\r\n\
             Call-ID: registration-of-{name}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{name}@{0};transport={2}>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-00{name:0>10}>\"\r\n\
             Expires: 3600\r\nUser-Agent: A Telephone 1.0\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\n\
             {credentials}Content-Length: 0\r\n\r\n",
            flow.remote,
            flow.transport.via_token(),
            flow.transport,
        );
        if flow.transport == Transport::Udp {
            // Shorter than the challenge, which an address that has proven nothing therefore gets at the second try.
            exchange.receive(*flow, text.clone());
        }
        exchange.receive(*flow, text);
        exchange.take(*flow, |message| message.status() >= 200)
    }

    /// Asks what the server can do; the answer is nobody's business.
    pub(crate) fn ask(&mut self, exchange: &mut Exchange) {
        self.cseq += 1;
        let from = format!("<sip:{}@{DOMAIN}>;tag=o", self.name);
        let id = format!("question-{}-{}", self.name, self.cseq);
        let uri = format!("sip:{DOMAIN}");
        exchange.receive(self.flow, self.request("OPTIONS", &uri, &from, &format!("<{uri}>"), &id, ""));
        exchange.sent.clear();
    }

    /// Calls another device, which rings and answers.
    pub(crate) fn call(&mut self, callee: &Self, exchange: &mut Exchange) -> Call {
        self.cseq += 1;
        let id = format!("call-{}-{}", self.name, self.cseq);
        let from = format!("<sip:{}@{DOMAIN}>;tag=t{}", self.name, self.cseq);
        let target = format!("sip:{}@{DOMAIN}", callee.name);
        exchange.receive(self.flow, self.request("INVITE", &target, &from, &format!("<{target}>"), &id, SDP));
        let invite = exchange.take(callee.flow, Message::is_request);
        exchange.receive(callee.flow, callee.response(&invite, 180, ""));
        exchange.receive(callee.flow, callee.response(&invite, 200, &answer_to(&invite)));
        let ok = exchange.take(self.flow, |message| message.status() == 200);
        let to = ok.header(Name::To).unwrap().to_owned();
        exchange.receive(self.flow, self.request("ACK", "sip:us@192.0.2.1", &from, &to, &id, ""));
        Call { id, from, to, callee: callee.flow }
    }

    pub(crate) fn hang_up(&mut self, call: &Call, exchange: &mut Exchange) {
        self.cseq += 1;
        exchange.receive(self.flow, self.request("BYE", "sip:us@192.0.2.1", &call.from, &call.to, &call.id, ""));
        let bye = exchange.take(call.callee, |message| message.is_request() && message.method_text() == "BYE");
        exchange.receive(call.callee, self.response(&bye, 200, ""));
    }

    fn request(&self, method: &str, uri: &str, from: &str, to: &str, id: &str, body: &str) -> String {
        let Self { name, flow, cseq, .. } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{2} {0};branch=z9hG4bK{name}{method}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{name}@{0};transport={3}>\r\nUser-Agent: A Telephone 1.0\r\nSupported: replaces, timer\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO\r\n{1}",
            flow.remote,
            ending(body),
            flow.transport.via_token(),
            flow.transport,
        )
    }

    fn response(&self, request: &Message, status: u16, body: &str) -> String {
        let header = |name| request.header(name).unwrap_or_default();
        let to = header(Name::To);
        let tag = if to.contains("tag=") { "" } else { ";tag=callee" };
        format!(
            "SIP/2.0 {status} Whatever\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:{}@{};transport=tls>\r\n{}",
            header(Name::Via),
            header(Name::From),
            request.call_id(),
            header(Name::CSeq),
            self.name,
            self.flow.remote,
            ending(body)
        )
    }
}

/// With the offered tag of the suite in [`SDP`].
fn answer_to(invite: &Message) -> String {
    let offer = String::from_utf8(invite.body().to_vec()).unwrap();
    let suites = offer.lines().filter_map(|line| line.strip_prefix("a=crypto:")?.split_once(' '));
    let (tag, _) = suites.into_iter().find(|(_, suite)| suite.starts_with("AES_CM_128_HMAC_SHA1_80 ")).unwrap();
    SDP.replace("a=crypto:1 ", &format!("a=crypto:{tag} "))
}

fn ending(body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn name(number: u32) -> String {
    (1_000_000 + number).to_string()
}

fn local() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5061))
}
