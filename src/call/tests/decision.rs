//! Goal: what becomes of a call for help is what the specification says, whoever makes it by whatever proof, on whatever line and over
//! whatever transport, whatever the state of the trunks, and though every limit is exhausted.
//! Method: every case of `policy::emergency::product`, message by message; each trunk declines, so that all are tried.

use std::sync::LazyLock;

use super::bench::{Bench, SDP, binding};
use crate::{
    call::Input,
    config::User,
    media,
    policy::emergency::product::{
        CALLING_TRUNKS, COMPANY, Case, HOSTS, Limits, Number, STREETS, Sender, Server, State, TRUNK_NAME, Told, Uses,
        users,
    },
    types::{ConnectionId, Flow, Transport, certificate::SubjectNames},
    wire::sip::{Message, Name, digest},
};

static USERS: LazyLock<Vec<User>> = LazyLock::new(users);

/// Is called and answers, and has registered over the flows of others.
const GUEST: &str = "guest";
const SECRET: &str = "secret";
/// Away from every site.
const ELSEWHERE: &str = "198.18";
const AT_SITE: &str = "192.168";

fn guest() -> User {
    super::bench::user(GUEST, "2900", "+12025551900")
}

/// A server in the state of its cases, with telephones over one transport.
struct Walk {
    b: Bench,
    server: Server,
    transport: Transport,
    /// A challenge, and how often it was answered.
    challenge: Vec<String>,
    answers: u32,
}

impl Walk {
    fn new(server: Server, transport: Transport) -> Self {
        let all = USERS.iter().cloned().chain([guest()]);
        let over_udp = transport == Transport::Udp;
        let flows: Vec<(Flow, &str)> = (0..USERS.len()).flat_map(|n| registered(transport, n)).collect();
        let bindings = flows.iter().filter(|_| over_udp).map(|(flow, user)| binding(user, &flow.remote.to_string()));
        let b = Bench::with_users(&server.text(), all, bindings.collect());
        let mut walk = Self { b, server, transport, challenge: Vec::new(), answers: 0 };
        if !over_udp {
            flows.into_iter().for_each(|(flow, user)| walk.b.register(flow, user));
        }
        walk.challenge = walk.ask_for_challenge();
        if server.limits == Limits::Exhausted {
            walk.exhaust();
        }
        walk.bring_trunks_into_state();
        walk
    }

    fn ask_for_challenge(&mut self) -> Vec<String> {
        let flow = self.stranger(ELSEWHERE);
        self.dial(flow, "2999", "stranger@elsewhere.example", "");
        let answer = self.b.take_response("INVITE", &flow.remote.to_string(), 200);
        answer.lines(Name::ProxyAuthenticate).map(str::to_owned).collect()
    }

    /// A peer that nobody has seen before.
    fn stranger(&self, network: &str) -> Flow {
        let serial = self.b.serial;
        peer(
            self.transport,
            &format!("{network}.{}.{}:5060", serial / 200 % 200, serial % 200),
            10_000 + u64::from(serial),
        )
    }

    fn credentials(&mut self, user: &str, password: &str, uri: &str) -> String {
        self.answers += 1;
        let lines = self.challenge.iter().map(String::as_str);
        let answer = digest::answer(lines, user, password, "INVITE", uri, SDP.as_bytes(), "cnonce", self.answers);
        format!("Proxy-Authorization: {}\n", answer.unwrap())
    }

    fn dial(&mut self, flow: Flow, number: &str, from: &str, extra: &str) {
        let uri = uri(number);
        let call_id = format!("call-{}", self.b.serial);
        let (from, to) = (format!("<sip:{from}>;tag={call_id}"), format!("<{uri}>"));
        self.b.request(flow, ("INVITE", &uri), (&from, &to), (&call_id, 1), (extra, SDP));
    }

    fn dial_as(&mut self, flow: Flow, number: &str, user: &str, password: &str) {
        let credentials = self.credentials(user, password, &uri(number));
        self.dial(flow, number, &format!("{user}@pbx.example.com"), &credentials);
    }

    /// Each user has a costly call that goes on; then nothing more is possible.
    fn exhaust(&mut self) {
        let is_possible = self.server.trunks.state(0).is_some();
        for n in (0..USERS.len()).filter(|_| is_possible) {
            let (flow, user) = registered(self.transport, n)[0];
            self.dial_as(flow, "+442079460123", user, SECRET);
            let (_, sent) = self.attempt().expect("an ordinary call");
            self.b.accept(&sent, "callee", SDP);
            assert_eq!(self.b.take_response("INVITE", &flow.remote.to_string(), 200).status(), 200, "{user}");
            self.b.sent.clear();
        }
        self.b.pass(20_000);
        for n in (0..USERS.len()).filter(|_| is_possible) {
            let (flow, user) = registered(self.transport, n)[0];
            assert_eq!(self.final_answer_to(flow, "+442079460123", user), 403, "{user} is at its limits");
        }
        assert_eq!(self.b.core.barred().len(), if is_possible { USERS.len() } else { 0 });
        let flow = self.stranger(ELSEWHERE);
        if is_possible {
            assert_eq!(self.final_answer_to(flow, "+442079460123", GUEST), 480, "so are the trunks");
        }
        self.b.input(Input::Media(media::Event::Load { worker: 0, busy_permille: 1_000 }));
        self.b.core.calls_max = 0;
        self.b.input(Input::Drain);
        assert_eq!(self.final_answer_to(flow, "2900", GUEST), 503, "and the server is");
    }

    fn final_answer_to(&mut self, flow: Flow, number: &str, user: &str) -> u16 {
        self.b.sent.clear();
        self.dial_as(flow, number, user, SECRET);
        self.b.take_response("INVITE", &flow.remote.to_string(), 200).status()
    }

    /// A trunk is down that has said 503; of draining an operator decides.
    fn bring_trunks_into_state(&mut self) {
        if self.server.trunks.state(0).is_none() {
            return;
        }
        let flow = self.stranger(ELSEWHERE);
        self.dial_as(flow, "911", GUEST, SECRET);
        self.decline_all();
        for index in 0..HOSTS.len() {
            let is_draining = self.server.trunks.state(index) == Some(State::Draining);
            if is_draining {
                self.b.input(Input::DrainTrunk { trunk: format!("t{index}"), is_draining });
            }
        }
        let states: Vec<_> = self.b.core.trunks().iter().map(|trunk| trunk.state).collect();
        for (index, told) in states.iter().enumerate().take(HOSTS.len()) {
            let wanted = match self.server.trunks.state(index) {
                Some(State::Up) => "up",
                Some(State::Down) => "down",
                Some(State::Draining) => "draining",
                None => continue,
            };
            assert_eq!(*told, wanted, "{index}: {:?}", self.server);
        }
    }

    /// The INVITE to a trunk that carries emergency calls, and which one that is.
    fn attempt(&mut self) -> Option<(usize, (Flow, Message))> {
        let mut attempts = HOSTS.iter().enumerate();
        attempts.find_map(|(index, host)| Some((index, self.b.find_request("INVITE", &format!("{host}:5060"))?)))
    }

    /// Every trunk that is tried, with the INVITE that it was sent.
    fn decline_all(&mut self) -> Vec<(usize, Message)> {
        let mut tried = Vec::new();
        while let Some((index, sent)) = self.attempt() {
            let is_down = self.server.trunks.state(index) == Some(State::Down);
            self.b.answer(&sent, if is_down { 503 } else { 486 }, "psap", "", "");
            tried.push((index, sent.1));
        }
        tried
    }

    /// Sends the INVITE of this case; returns from where.
    fn send(&mut self, case: &Case) -> Flow {
        let number = case.number.digits();
        let user = case.user(&USERS).name.as_str();
        let address = format!("{user}@pbx.example.com");
        let network = |in_site| if in_site { AT_SITE } else { ELSEWHERE };
        let flow = match case.sender {
            Sender::Flow => registered(self.transport, case.user_index())[0].0,
            Sender::Digest => self.stranger(ELSEWHERE),
            Sender::ClientCertificate { in_site } | Sender::WrongPassword { in_site } | Sender::Nobody { in_site } => {
                self.stranger(network(in_site))
            }
            Sender::TrunkByAddress => {
                let (_, host) = CALLING_TRUNKS.iter().find(|(transport, _)| *transport == self.transport).unwrap();
                let port = if self.transport == Transport::Tls { 5061 } else { 5060 };
                peer(self.transport, &format!("{host}:{port}"), 9_000)
            }
            Sender::TrunkByCertificate => self.stranger(ELSEWHERE),
        };
        match case.sender {
            Sender::Digest => self.dial_as(flow, number, user, SECRET),
            Sender::WrongPassword { .. } => self.dial_as(flow, number, user, "wrong"),
            Sender::Flow => self.dial(flow, number, &address, ""),
            Sender::ClientCertificate { .. } => {
                let names = SubjectNames { uris: vec![format!("sip:{address}")], ..SubjectNames::default() };
                self.b.input(Input::Certified { flow, names });
                self.dial(flow, number, &address, "");
            }
            Sender::Nobody { .. } => self.dial(flow, number, "stranger@elsewhere.example", ""),
            Sender::TrunkByAddress => self.dial(flow, number, "+14155550123@carrier.example", ""),
            Sender::TrunkByCertificate => {
                let names = SubjectNames { dns: vec![TRUNK_NAME.to_owned()], ..SubjectNames::default() };
                self.b.input(Input::Certified { flow, names });
                self.dial(flow, number, "+14155550123@carrier.example", "");
            }
        }
        flow
    }

    fn told(&mut self, case: &Case) -> Told {
        self.b.sent.clear();
        let caller = self.send(case).remote.to_string();
        let tried = self.decline_all();
        let answer = self.b.take_response("INVITE", &caller, 200);
        let answer = (answer.status(), answer.reason_phrase());
        if case.number == Number::Ordinary {
            assert!(tried.is_empty() && answer.0 != 200 && !answer.1.contains("Emergency"), "{answer:?}: {case:?}");
            return Told::NotDecidedHere;
        }
        match (tried.first(), answer) {
            (Some((_, first)), (503, "Emergency Call Not Connected")) => {
                let shown = shown(first, case);
                for (_, invite) in &tried {
                    assert_eq!(self::shown(invite, case), shown, "{case:?}");
                }
                Told::Routed(tried.into_iter().map(|(index, _)| index).collect(), shown.0, shown.1)
            }
            (None, (503, "Shutting Down")) => Told::Busy503,
            (None, (403, "Emergency Calls Not Available")) => Told::Refused403,
            (None, (407, _)) => Told::Challenged,
            (None, (404, _)) if case.number == Number::Emergency => Told::Loop404,
            (None, (404, _)) => Told::NotFound404,
            _ => panic!("{answer:?} and {} attempts: {case:?}", tried.len()),
        }
    }
}

/// Whose address and whose callback number an answering point is told.
fn shown(invite: &Message, case: &Case) -> (&'static str, &'static str) {
    let priority = if case.number == Number::Emergency { "emergency" } else { "normal" };
    assert_eq!(invite.header(Name::Priority), Some(priority), "{case:?}");
    let body = String::from_utf8_lossy(&invite.body()).into_owned();
    let place = match STREETS.map(|street| body.contains(&format!(">{street}<"))) {
        [true, false] => "company",
        [false, true] => "private",
        both => panic!("{both:?}: {case:?}"),
    };
    let from = invite.header(Name::From).unwrap_or_default();
    let line = case.user(&USERS).direct_line.as_deref();
    let is_line = line.is_some_and(|line| from.contains(line));
    assert!(is_line || from.contains(COMPANY), "{from}: {case:?}");
    (place, if is_line { "line" } else { "company" })
}

fn uri(number: &str) -> String {
    format!("sip:{number}@pbx.example.com")
}

fn peer(transport: Transport, remote: &str, connection: u64) -> Flow {
    let port = if transport == Transport::Tls { 5061 } else { 5060 };
    let connection = if transport.is_reliable() { ConnectionId(connection) } else { ConnectionId::NONE };
    let local = format!("192.0.2.1:{port}").parse().unwrap();
    Flow { transport, local, remote: remote.parse().unwrap(), connection }
}

/// The flow over which this user's telephone has registered, and who has registered over it.
fn registered(transport: Transport, n: usize) -> Vec<(Flow, &'static str)> {
    let flow = peer(transport, &format!("198.51.100.{}:5060", 10 + n), 100 + u64::try_from(n).unwrap());
    let user = USERS[n].name.as_str();
    // The last kind of line.
    let is_of_several = n >= USERS.len() - 4;
    std::iter::once((flow, user)).chain(is_of_several.then_some((flow, GUEST))).collect()
}

fn walk(transport: Transport) {
    let mut uses = Uses::default();
    for server in Server::all() {
        let mut walk = Walk::new(server, transport);
        for case in Case::over(server, transport) {
            let row = uses.row(&case);
            assert_eq!(walk.told(&case), (row.told)(&case), "{}: {case:?}", row.paragraph);
        }
    }
    assert_eq!(uses.unused(), [""; 0], "no case is one of these");
}

#[test]
fn every_call_over_udp_ends_as_the_table_of_the_specification_says_whatever_is_exhausted() {
    walk(Transport::Udp);
}

#[test]
fn every_call_over_tcp_ends_as_the_table_of_the_specification_says_whatever_is_exhausted() {
    walk(Transport::Tcp);
}

#[test]
fn every_call_over_tls_ends_as_the_table_of_the_specification_says_whatever_is_exhausted() {
    walk(Transport::Tls);
}
