//! What devices with several connections, and strangers, meet at the real server.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringdown::{
    sip::auth::{Authenticator, Role, Verdict},
    types,
    wire::sip::{
        Message, Name,
        digest::{self, Algorithm, Credential},
    },
};

use crate::{
    common::{
        process::wait_for,
        server::{ALICE, Ringdown},
    },
    registrations, started,
};

/// One connection of Alice's device.
struct Connection {
    stream: TcpStream,
    domain: IpAddr,
    cseq: u32,
}

impl Connection {
    fn open(server: &Ringdown) -> Self {
        let stream = TcpStream::connect(server.sip()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a valid timeout");
        Self { stream, domain: server.ip, cseq: 0 }
    }

    fn read(&mut self) -> Vec<u8> {
        let mut buffer = [0; 8192];
        let len = self.stream.read(&mut buffer).expect("an answer");
        buffer[..len].to_vec()
    }

    /// Registers this connection as the flow with this number.
    fn register(&mut self, reg_id: u32) -> Message {
        let challenge = self.ask(reg_id, "");
        let uri = format!("sip:{}", self.domain);
        let lines = challenge.lines(Name::WwwAuthenticate);
        let answer = digest::answer(lines, ALICE.user, ALICE.password, "REGISTER", &uri, b"", "cnonce", 1);
        self.ask(reg_id, &format!("Authorization: {}\r\n", answer.expect("a challenge")))
    }

    fn ask(&mut self, reg_id: u32, credentials: &str) -> Message {
        self.cseq += 1;
        let (domain, cseq, user) = (self.domain, self.cseq, ALICE.user);
        let text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/TCP {};branch=z9hG4bK-{reg_id}-{cseq}\r\n\
             From: <sip:{user}@{domain}>;tag=r\r\nTo: <sip:{user}@{domain}>\r\nCall-ID: flow-{reg_id}\r\n\
             CSeq: {cseq} REGISTER\r\nMax-Forwards: 70\r\nSupported: outbound\r\n\
             Contact: <sip:{user}@10.0.0.7;transport=tcp>;reg-id={reg_id};+sip.instance=\"<urn:uuid:7>\"\r\n\
             {credentials}Content-Length: 0\r\n\r\n",
            self.stream.local_addr().expect("it is connected"),
        );
        self.stream.write_all(text.as_bytes()).expect("the server reads");
        Message::parse(Bytes::from(self.read())).expect("an answer")
    }
}

fn flows(server: &Ringdown) -> usize {
    registrations(server).matches("\"transport\":\"tcp\"").count()
}

#[test]
fn each_flow_of_a_device_is_bound_while_its_connection_lives() {
    let server = started(&[ALICE]);
    let (mut first, mut second) = (Connection::open(&server), Connection::open(&server));
    for (reg_id, connection) in [(1, &mut first), (2, &mut second)] {
        let answer = connection.register(reg_id);
        assert_eq!((answer.status(), answer.header(Name::Require)), (200, Some("outbound")));
        assert!(answer.header_text("Flow-Timer").is_some());
        connection.stream.write_all(b"\r\n\r\n").expect("the server reads");
        assert_eq!(connection.read(), b"\r\n", "a ping is answered");
    }
    assert_eq!(flows(&server), 2, "{}", registrations(&server));
    drop(first);
    wait_for("the dead flow to be forgotten", Duration::from_secs(2), || (flows(&server) == 1).then_some(()));
    assert_eq!(second.register(2).status(), 200);
    assert_eq!(flows(&server), 1, "a refresh is no second flow");
}

/// Goal: how long a refusal takes tells nobody whether a user exists. Method: the two refusals in turn, many times; the
/// fastest of each, which other programs have disturbed least, are compared.
#[test]
fn an_unknown_user_and_a_wrong_password_take_the_same_time() {
    const ROUNDS: usize = 2_000;
    let now = types::Instant::from_unix_ms(1_700_000_000_000);
    let mut server = Authenticator::new("example.com", types::Rng::from_small_seed(1));
    let challenge = server.challenge(now, false);
    let challenges: Vec<_> = challenge.values(&[Algorithm::Sha256]).map(|value| value.to_string()).collect();
    let credential = Credential::derive("alice", "example.com", "right");
    let requests = ["alice", "nobody"].map(|user| {
        let lines = challenges.iter().map(String::as_str);
        let answer = digest::answer(lines, user, "wrong", "REGISTER", "sip:example.com", b"", "cnonce", 1);
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:{user}@example.com>;tag=a\r\nTo: <sip:{user}@example.com>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\
             Authorization: {}\r\nContent-Length: 0\r\n\r\n",
            answer.expect("a challenge")
        );
        Message::parse(Bytes::from(text)).expect("a request")
    });
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (request, fastest) in requests.iter().zip(&mut fastest) {
            let start = Instant::now();
            let verdict = server.check(now, Role::Registrar, request, |name| (name == "alice").then_some(&credential));
            *fastest = (*fastest).min(start.elapsed());
            assert_eq!(verdict, Verdict::Refused);
        }
    }
    let [known, unknown] = fastest.map(|time| time.as_secs_f64());
    let ratio = known / unknown;
    assert!((0.8..1.25).contains(&ratio), "a known user takes {ratio:.2} times as long");
}
