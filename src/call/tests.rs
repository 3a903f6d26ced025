//! Call flows that no well-behaved phone produces, message by message: a trunk and devices written by hand.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{Core, Input, Output, Setup};
use crate::{
    config::{self, Directory, User},
    media::{self, LegReport},
    sip::registrar::Binding,
    types::{ConnectionId, Duration, Flow, Instant, LegId, Rng, Secret, Transport},
    wire::sip::{
        Message, Name,
        digest::{self, Credential},
    },
};

const CONFIG: &str = r#"
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

pub(super) const TRUNK: &str = "203.0.113.5:5060";
/// Alice's and Bob's devices; Bob has two.
pub(super) const ALICE: &str = "198.51.100.1:5060";
pub(super) const BOB: &str = "198.51.100.2:5060";
pub(super) const BOB_TOO: &str = "198.51.100.3:5060";

pub(super) const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n\
                              m=audio 4000 RTP/AVP 0\r\n";

/// A server whose every message is seen; its media workers do as they are told.
pub(super) struct Bench {
    pub(super) core: Core,
    pub(super) now: Instant,
    /// Everything sent and not yet taken.
    pub(super) sent: Vec<(Flow, Message)>,
    pub(super) open_legs: Vec<LegId>,
    serial: u32,
}

pub(super) fn udp(remote: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: ConnectionId::NONE,
    }
}

fn user(name: &str, extension: &str, direct_line: &str) -> User {
    User {
        name: name.to_owned(),
        extension: extension.to_owned(),
        direct_line: Some(direct_line.to_owned()),
        credential: Credential::derive(name, "pbx.example.com", "secret"),
    }
}

fn binding(aor: &str, address: &str) -> Binding {
    Binding {
        aor: aor.to_owned(),
        contact: format!("sip:{aor}@{address}"),
        flow: udp(address),
        expires_at: Instant::from_unix_ms(1_800_000_000_000),
        call_id: format!("register-{address}"),
        cseq: 1,
        instance: None,
        user_agent: String::new(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(CONFIG)
    }

    pub(super) fn with(config: &str) -> Self {
        let config = config::parse(config).unwrap_or_else(|problems| panic!("{problems:?}")).0;
        let now = Instant::from_unix_ms(1_700_000_000_000);
        let listener = |t, a: &str| (t, a.parse::<SocketAddr>().unwrap());
        let setup = Setup {
            config: Arc::new(config),
            directory: Arc::new(Directory::new([
                user("alice", "1001", "+12025551001"),
                user("bob", "1002", "+12025551002"),
            ])),
            listeners: vec![
                listener(Transport::Udp, "192.0.2.1:5060"),
                listener(Transport::Tcp, "192.0.2.1:5060"),
                listener(Transport::Tls, "192.0.2.1:5061"),
            ],
            workers: 1,
            trunk_passwords: HashMap::from([("carrier".to_owned(), Secret::new("trunk-secret".to_owned()))]),
            bindings: vec![binding("alice", ALICE), binding("bob", BOB), binding("bob", BOB_TOO)],
            rng: Rng::from_small_seed(7),
        };
        let core = Core::new(now, setup);
        let mut bench = Self { core, now, sent: Vec::new(), open_legs: Vec::new(), serial: 0 };
        bench.drain();
        bench
    }

    pub(super) fn input(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        let mut closed = Vec::new();
        loop {
            match self.core.poll_output() {
                Output::Transmit { flow, bytes } => self.sent.push((flow, Message::parse(bytes).unwrap())),
                Output::Media { command: media::Command::Open { leg, .. }, .. } => self.open_legs.push(leg),
                Output::Media { command: media::Command::Close { leg }, .. } => closed.push(leg),
                Output::Timeout(_) => break,
                Output::Media { .. }
                | Output::Connect { .. }
                | Output::Resolve { .. }
                | Output::StoreBinding(_)
                | Output::StoreCdr(_) => {}
            }
        }
        for leg in closed {
            self.open_legs.retain(|open| *open != leg);
            self.input(Input::Media(media::Event::Closed { leg, report: LegReport::default() }));
        }
    }

    /// Sends `text`, lines ended by line feeds, without its Content-Length.
    pub(super) fn receive(&mut self, flow: Flow, head: &str, body: &str) {
        let head = head.replace('\n', "\r\n");
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
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

    fn told(&self) -> String {
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

#[test]
fn a_call_between_trunk_and_device_begins_and_ends() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

// Answers to our INVITEs.

#[test]
fn a_200_of_another_dialog_than_the_180_is_the_one_acknowledged_and_ended() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.answer(&invite, 180, "early", "Contact: <sip:early@198.51.100.2>\n", "");
    let contact = "Contact: <sip:late@198.51.100.2>\nRecord-Route: <sip:198.51.100.2;lr>\n";
    b.answer(&invite, 200, "late", contact, SDP);
    let ack = b.take_request("ACK", BOB).1;
    assert_eq!((ack.to_tag(), ack.request_uri()), (Some("late"), "sip:late@198.51.100.2"));
    assert_eq!(ack.header(Name::Route), Some("<sip:198.51.100.2;lr>"));
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    let bye = b.take_request("BYE", BOB);
    assert_eq!(bye.1.to_tag(), Some("late"));
    b.answer(&bye, 200, "", "", "");
    b.finish();
}

#[test]
fn a_200_without_contact_makes_no_call() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (invite, other) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&invite, 200, "bob", "", SDP);
    assert!(b.sent.iter().all(|(_, m)| m.status() != 200), "the caller was told of an answer");
    b.accept(&other, "too", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.answer(&invite, 200, "bob", "", SDP);
    assert_eq!(b.core.live_calls(), 1, "its repetition ended the call");
    assert!(b.find_request("BYE", BOB_TOO).is_none());
    b.finish();
}

#[test]
fn a_200_that_comes_again_after_a_re_invite_does_not_end_the_call() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    let first = b.take_request("ACK", BOB).1;
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "INVITE", 2, "", SDP);
    let again = b.take_request("INVITE", BOB);
    b.accept(&again, "", SDP);
    b.take_request("ACK", BOB);
    b.accept(&invite, "bob", SDP);
    let second = b.take_request("ACK", BOB).1;
    assert_eq!(second.header(Name::CSeq), first.header(Name::CSeq));
    assert!(b.find_request("BYE", BOB).is_none());
    assert_eq!(b.core.live_calls(), 1);
    b.finish();
}

#[test]
fn a_200_that_crosses_our_cancel_after_a_603_is_ended_and_not_connected_without_media() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "", "");
    b.answer(&second, 603, "too", "", "");
    b.take_request("CANCEL", BOB);
    b.accept(&first, "bob", SDP);
    b.take_request("ACK", BOB);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 603);
    b.finish();
}

#[test]
fn a_branch_whose_port_cannot_be_bound_is_cancelled_and_a_late_200_of_it_is_ended() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "", "");
    let leg = b.open_legs[1];
    b.input(Input::Media(media::Event::OpenFailed { leg }));
    b.take_request("CANCEL", BOB);
    b.accept(&first, "bob", SDP);
    b.take_request("ACK", BOB);
    let bye = b.take_request("BYE", BOB);
    b.answer(&bye, 200, "", "", "");
    b.accept(&second, "too", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.finish();
}

// The end of a call.

#[test]
fn a_bye_that_overtakes_the_callees_200_ends_its_branch_and_no_other() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let (first, second) = (b.take_request("INVITE", BOB), b.take_request("INVITE", BOB_TOO));
    b.answer(&first, 180, "bob", "Contact: <sip:bob@198.51.100.2>\n", "");
    b.within(&Leg::of_callee(&first, "bob"), "BYE", 1, "", "");
    assert_eq!(b.take_response("BYE", BOB, 200).status(), 200);
    // It had answered before, and the 200 was late.
    b.accept(&first, "bob", SDP);
    assert!(b.sent.iter().all(|(_, m)| m.is_request() || m.status() < 200), "{}", b.told());
    b.accept(&second, "too", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.finish();
}

#[test]
fn a_caller_who_says_bye_early_gets_a_487_of_the_dialog_it_knows() {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let first = b.take_request("INVITE", BOB);
    b.answer(&first, 180, "bob", "", "");
    let ringing = b.take_response("INVITE", TRUNK, 180);
    b.within(&Leg::of_caller(udp(TRUNK), &ringing), "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.to_tag()), (487, ringing.to_tag()));
    b.take_request("CANCEL", BOB);
    b.finish();
}

/// A call that Bob has answered and whose caller has not yet acknowledged it.
fn unacknowledged() -> (Bench, Leg, Leg) {
    let mut b = Bench::new();
    b.trunk_calls_bob();
    let invite = b.take_request("INVITE", BOB);
    b.accept(&invite, "bob", SDP);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    (b, trunk, Leg::of_callee(&invite, "bob"))
}

#[test]
fn no_bye_is_sent_before_the_caller_has_acknowledged_the_200() {
    for has_ack in [true, false] {
        let (mut b, trunk, bob) = unacknowledged();
        b.within(&bob, "BYE", 1, "", "");
        assert_eq!(b.take_response("BYE", BOB, 200).status(), 200);
        b.pass(400);
        assert!(b.find_request("BYE", TRUNK).is_none(), "RFC 3261 section 15");
        if has_ack {
            b.acknowledge(&trunk, 1, "");
        } else {
            b.pass(33_000);
        }
        let bye = b.take_request("BYE", TRUNK);
        b.answer(&bye, 200, "", "", "");
        b.finish();
    }
}

#[test]
fn a_caller_who_hangs_up_without_an_ack_is_not_sent_the_200_again() {
    let (mut b, trunk, bob) = unacknowledged();
    b.within(&bob, "BYE", 1, "", "");
    b.within(&trunk, "BYE", 2, "", "");
    assert_eq!(b.take_response("BYE", TRUNK, 200).status(), 200);
    b.sent.clear();
    b.pass(33_000);
    assert!(b.sent.iter().all(|(flow, _)| flow.remote != trunk.flow.remote), "{}", b.told());
    b.finish();
}

#[test]
fn a_re_invite_that_overtakes_the_ack_is_491_and_the_call_goes_on() {
    let (mut b, trunk, bob) = unacknowledged();
    b.within(&trunk, "INVITE", 2, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 491);
    b.within(&bob, "INVITE", 1, "", SDP);
    assert_eq!(b.take_response("INVITE", BOB, 200).status(), 491, "nor is the caller offered anything yet");
    b.acknowledge(&trunk, 1, "");
    b.pass(40_000);
    assert_eq!(b.core.live_calls(), 1);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

// Re-INVITEs.

const VIDEO: &str = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";

#[test]
fn a_refused_re_invite_leaves_no_port_open_and_no_trace_in_later_offers() {
    let mut b = Bench::new();
    let (trunk, bob) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}{VIDEO}"));
    let offer = b.take_request("INVITE", BOB);
    assert_eq!(b.open_legs.len(), 4);
    b.answer(&offer, 488, "", "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 488);
    assert_eq!(b.open_legs.len(), 2, "ports of the refused video");
    b.within(&bob, "INVITE", 1, "", "");
    let ok = b.take_response("INVITE", BOB, 200);
    assert_eq!(ok.status(), 200);
    assert!(!String::from_utf8_lossy(&ok.body()).contains("video"), "what was refused is offered");
    b.acknowledge(&bob, 1, SDP);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn a_section_that_the_callee_refuses_costs_no_port() {
    let mut b = Bench::new();
    let to = "<sip:+12025551001@pbx.example.com>";
    let identity = ("<sip:+14155550123@203.0.113.5>;tag=trunk", to);
    let offer = format!("{SDP}{VIDEO}");
    b.request(udp(TRUNK), ("INVITE", "sip:+12025551001@pbx.example.com"), identity, ("c", 1), ("", &offer));
    let invite = b.take_request("INVITE", ALICE);
    assert_eq!(b.open_legs.len(), 4);
    b.accept(&invite, "alice", &format!("{SDP}m=video 0 RTP/AVP 96\r\n"));
    assert_eq!(b.open_legs.len(), 2);
    let trunk = Leg::of_caller(udp(TRUNK), &b.take_response("INVITE", TRUNK, 200));
    b.acknowledge(&trunk, 1, "");
    b.within(&trunk, "BYE", 2, "", "");
    b.finish();
}

#[test]
fn an_ack_that_owes_an_answer_and_has_none_does_not_block_later_offers() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 2, "");
    b.within(&trunk, "INVITE", 3, "", SDP);
    let offer = b.take_request("INVITE", BOB);
    b.accept(&offer, "", SDP);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 200);
    b.acknowledge(&trunk, 3, "");
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

#[test]
fn a_re_invite_that_is_never_answered_does_not_outlive_its_call() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", SDP);
    let offer = b.take_request("INVITE", BOB);
    b.answer(&offer, 180, "", "", "");
    b.within(&trunk, "BYE", 3, "", "");
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.take_request("CANCEL", BOB);
    b.accept(&offer, "", SDP);
    b.take_request("ACK", BOB);
    b.finish();
}

#[test]
fn a_re_invite_is_answered_when_the_server_ends_the_call() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}{VIDEO}"));
    b.take_request("INVITE", BOB);
    let leg = b.open_legs[3];
    b.input(Input::Media(media::Event::OpenFailed { leg }));
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.take_request("BYE", TRUNK);
    b.take_request("BYE", BOB);
    b.finish();
}

#[test]
fn a_re_invite_accepted_although_it_was_cancelled_is_taken_back() {
    let mut b = Bench::new();
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INVITE", 2, "", &format!("{SDP}a=inactive\r\n"));
    let hold = b.take_request("INVITE", BOB);
    let branch = b.sent_branch();
    b.cancel(&trunk, 2, &branch);
    assert_eq!(b.take_response("INVITE", TRUNK, 200).status(), 487);
    b.accept(&hold, "", &format!("{SDP}a=inactive\r\n"));
    let resume = b.take_request("INVITE", BOB);
    assert!(!String::from_utf8_lossy(&resume.1.body()).contains("inactive"));
    b.accept(&resume, "", SDP);
    assert!(b.find_request("INVITE", BOB).is_none(), "once is enough");
    b.within(&trunk, "INVITE", 3, "", SDP);
    b.take_request("INVITE", BOB);
    b.within(&trunk, "BYE", 4, "", "");
    b.finish();
}

// Who may send what.

/// An INVITE from outside any dialog with these identities and headers.
fn invite(b: &mut Bench, flow: Flow, uri: &str, from: &str, extra: &str) {
    let to = format!("<{uri}>");
    let from = format!("{from};tag={}", b.serial);
    let call_id = format!("call-{}", b.serial);
    b.request(flow, ("INVITE", uri), (&from, &to), (&call_id, 1), (extra, SDP));
}

const TRUNK_FROM: &str = "<sip:+14155550123@203.0.113.5>";
const ALICE_FROM: &str = "<sip:alice@pbx.example.com>";
const BOBS_LINE: &str = "sip:+12025551002@pbx.example.com";

#[test]
fn a_required_extension_is_420_and_named_except_in_an_emergency() {
    let mut b = Bench::new();
    let extra = "Require: 100rel, timer\nProxy-Require: sec-agree\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, TRUNK_FROM, extra);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!(refusal.status(), 420);
    assert_eq!(refusal.values(Name::Unsupported).collect::<Vec<_>>(), ["100rel", "timer", "sec-agree"]);
    let (trunk, _) = b.trunk_talks_to_bob();
    b.within(&trunk, "INFO", 2, "Require: x\n", "");
    assert_eq!(b.take_response("INFO", TRUNK, 200).status(), 420);
    b.request(udp(ALICE), ("OPTIONS", "sip:pbx.example.com"), (ALICE_FROM, ALICE_FROM), ("o", 1), (extra, ""));
    assert_eq!(b.take_response("OPTIONS", ALICE, 200).status(), 420);
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, extra);
    b.take_request("INVITE", TRUNK);
    b.within(&trunk, "BYE", 3, "", "");
    b.finish();
}

#[test]
fn an_invite_without_contact_is_400() {
    let mut b = Bench::new();
    let head = format!(
        "INVITE {BOBS_LINE} SIP/2.0\nVia: SIP/2.0/UDP {TRUNK};branch=z9hG4bKx\nMax-Forwards: 70\n\
         From: {TRUNK_FROM};tag=x\nTo: <{BOBS_LINE}>\nCall-ID: x\nCSeq: 1 INVITE\n"
    );
    b.receive(udp(TRUNK), &head, SDP);
    let refusal = b.take_response("INVITE", TRUNK, 200);
    assert_eq!((refusal.status(), refusal.reason_phrase()), (400, "Missing Contact header"));
    b.finish();
}

#[test]
fn a_telephone_that_cannot_encrypt_and_a_call_that_has_looped_reach_the_emergency_service() {
    let mut b = Bench::with(&CONFIG.replace("\"preferred\"", "\"required\""));
    invite(&mut b, udp(ALICE), "sip:911@pbx.example.com", ALICE_FROM, "");
    let sent = b.take_request("INVITE", TRUNK).1;
    assert_eq!(sent.header(Name::MaxForwards), Some("70"));
    b.finish();
}

/// TCP from the address of the trunk named `stream`.
fn from_stream(connection: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: ConnectionId(connection),
        remote: "203.0.113.6:40000".parse().unwrap(),
        ..udp(TRUNK)
    }
}

#[test]
fn a_telephone_at_a_trunks_address_is_a_telephone() {
    let mut b = Bench::new();
    let flow = from_stream(1);
    let peer = "203.0.113.6:40000";
    invite(&mut b, flow, "sip:1002@pbx.example.com", ALICE_FROM, "");
    assert_eq!(b.take_response("INVITE", peer, 200).status(), 407, "not yet registered");
    b.register(flow, "alice");
    invite(&mut b, flow, "sip:1002@pbx.example.com", "<sip:anonymous@anonymous.invalid>", "");
    let sent = b.take_request("INVITE", BOB).1;
    assert!(sent.header(Name::From).is_some_and(|from| from.starts_with("<sip:1001@pbx.example.com>")));
    invite(&mut b, flow, "sip:911@pbx.example.com", ALICE_FROM, "");
    b.take_request("INVITE", TRUNK);
    // The trunk itself, on a connection of its own.
    b.sent.clear();
    invite(&mut b, from_stream(2), BOBS_LINE, TRUNK_FROM, "");
    let sent = b.take_request("INVITE", BOB).1;
    assert!(sent.header(Name::From).is_some_and(|from| from.contains("+14155550123")));
    invite(&mut b, from_stream(2), "sip:1002@pbx.example.com", TRUNK_FROM, "");
    assert_eq!(b.take_response("INVITE", peer, 200).status(), 404);
}

#[test]
fn a_caller_who_asks_the_carrier_for_privacy_has_it_from_us_too() {
    let mut b = Bench::new();
    let asserted = "P-Asserted-Identity: \"Ann\" <sip:+14155550123@203.0.113.5>\n";
    invite(&mut b, udp(TRUNK), BOBS_LINE, "<sip:a@203.0.113.5>", asserted);
    assert!(b.take_request("INVITE", BOB).1.header(Name::From).is_some_and(|from| from.starts_with("\"Ann\"")));
    let anonymous = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
    invite(&mut b, udp(TRUNK), BOBS_LINE, anonymous, &format!("{asserted}Privacy: user;id\n"));
    let (_, sent) = b.sent.iter().rfind(|(flow, m)| m.is_request() && flow.remote == udp(BOB).remote).unwrap();
    let text = String::from_utf8_lossy(sent.bytes());
    assert!(!text.contains("+1415") && !text.contains("Ann"), "{text}");
}

#[test]
fn a_secure_call_reaches_devices_over_tls_only() {
    let mut b = Bench::new();
    let secure = Flow { transport: Transport::Tls, local: "192.0.2.1:5061".parse().unwrap(), ..from_stream(9) };
    b.register(secure, "bob");
    invite(&mut b, udp(TRUNK), "sips:+12025551002@pbx.example.com", TRUNK_FROM, "");
    let to_bob = b.take_request("INVITE", "203.0.113.6:40000");
    assert!(b.find_request("INVITE", BOB).is_none());
    b.accept(&to_bob, "bob", SDP);
    let ok = b.take_response("INVITE", TRUNK, 200);
    assert!(ok.header(Name::Contact).is_some_and(|contact| contact.starts_with("<sips:")), "RFC 3261 section 12.1.1");
}
