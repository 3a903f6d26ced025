//! Client certificates over real sockets: who is let in, whom a device may register as, and how a trunk is known.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ringdown::wire::sip::{
    Message, Name, digest,
    frame::{Frame, Framer},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use crate::{
    COMPANY, SECONDS_5,
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Account, BOB, Ringdown, TLS_PORT},
    },
    phone::Phone,
    tls::Ca,
};

/// Certificate and key, PEM.
type Pair = (String, String);

/// What connects to the server, with a certificate or without.
struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    framer: Framer,
    sent: u32,
}

impl Client {
    fn connect(server: &Ringdown, own: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.ca()).expect("the server's CA")).expect("a CA");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("suites for both versions")
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        let stream = TcpStream::connect((server.ip, TLS_PORT)).expect("it listens");
        stream.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
        let connection = ClientConnection::new(Arc::new(config), ServerName::from(server.ip)).expect("a client");
        Self { stream: StreamOwned::new(connection, stream), framer: Framer::new(), sent: 0 }
    }

    /// Sends a request and reads its final answer; `None`: the connection has ended.
    fn ask(&mut self, method: &str, uri: &str, address: &str, more: &str) -> Option<Message> {
        self.send(method, uri, address, &format!("{more}Content-Length: 0\r\n\r\n"))?;
        self.answer()
    }

    fn send(&mut self, method: &str, uri: &str, address: &str, rest: &str) -> Option<()> {
        self.sent += 1;
        let (sent, port) = (self.sent, self.stream.sock.local_addr().ok()?.port());
        let to = if method == "REGISTER" { address } else { uri };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:{port};branch=z9hG4bK{port}x{sent}\r\nMax-Forwards: 70\r\n\
             From: <{address}>;tag=1\r\nTo: <{to}>\r\nCall-ID: {method}-{port}\r\nCSeq: {sent} {method}\r\n\
             Contact: <sip:me@127.0.0.1:{port};transport=tls>\r\n{rest}"
        );
        self.stream.write_all(text.as_bytes()).ok()
    }

    fn answer(&mut self) -> Option<Message> {
        let mut buffer = [0; 4_096];
        loop {
            if let Some(Frame::Message(bytes)) = self.framer.poll().expect("whole messages") {
                let answer = Message::parse(bytes).expect("a message");
                if answer.status() >= 200 {
                    return Some(answer);
                }
                continue;
            }
            let len = self.stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
            self.framer.push(&buffer[..len]);
        }
    }

    fn is_served(&mut self) -> bool {
        self.ask("OPTIONS", "sip:x", "sip:x@y", "").is_some_and(|answer| answer.status() == 200)
    }

    /// Registers with the password.
    fn register(&mut self, server: &Ringdown, account: Account) -> u16 {
        let (uri, address) = (format!("sip:{}", server.ip), format!("sip:{}@{}", account.user, server.ip));
        let challenge = self.ask("REGISTER", &uri, &address, "").expect("a challenge");
        let challenges = challenge.lines(Name::WwwAuthenticate);
        let (user, password) = (account.user, account.password);
        let answer = digest::answer(challenges, user, password, "REGISTER", &uri, b"", "cnonce", 1).expect("digest");
        self.ask("REGISTER", &uri, &address, &format!("Authorization: {answer}\r\n")).expect("an answer").status()
    }
}

/// A server that asks for certificates of this CA; `more`: of the table `[tls]`, and further tables.
fn server(ca: &Ca, more: &str) -> (Ringdown, PathBuf) {
    let mut server = Ringdown::configured("preferred", COMPANY);
    let file = ca.write(server.dir());
    let text = fs::read_to_string(server.config()).expect("it was written");
    let tables = format!("{text}[tls]\nclient_ca = \"{}\"\n{more}", file.display());
    fs::write(server.config(), tables).expect("a writable folder");
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server.start();
    (server, file)
}

#[test]
fn a_client_needs_no_certificate_unless_one_is_required_and_one_that_is_shown_must_be_good() {
    let (ours, other) = (Ca::new(), Ca::new());
    let good = ours.issue("phone.test", 2040);
    let (ended, foreign) = (ours.issue("phone.test", 2021), other.issue("phone.test", 2040));
    for (wish, is_one_needed) in [("optional", false), ("required", true)] {
        let (server, _) = server(&ours, &format!("client_certificates = \"{wish}\"\n"));
        let is_served = |own| Client::connect(&server, own).is_served();
        assert_eq!(is_served(None), !is_one_needed, "{wish}");
        assert!(is_served(Some(&good)), "{wish}");
        assert!(!is_served(Some(&ended)), "{wish}");
        assert!(!is_served(Some(&foreign)), "{wish}");
        assert_eq!(Phone::new(&server, ALICE).register(), 200, "UDP knows no certificates");
    }
}

#[test]
fn a_changed_ca_is_taken_into_use_without_closing_a_connection_and_a_bad_one_is_not() {
    let (first, second) = (Ca::new(), Ca::new());
    let [of_first, of_second] = [&first, &second].map(|ca| ca.issue("phone.test", 2040));
    let (mut server, file) = server(&first, "");
    let mut open = Client::connect(&server, Some(&of_first));
    assert!(open.is_served());
    fs::write(&file, "no certificate").expect("a writable folder");
    server.process().wait_log("test-ca.pem holds no certificate", Duration::from_secs(15));
    assert!(Client::connect(&server, Some(&of_first)).is_served(), "the old one stays in use");
    second.write(server.dir());
    wait_for("the second CA", Duration::from_secs(15), || {
        Client::connect(&server, Some(&of_second)).is_served().then_some(())
    });
    assert!(!Client::connect(&server, Some(&of_first)).is_served());
    assert!(open.is_served(), "its certificate was good when it connected");
}

#[test]
fn a_device_registers_only_as_the_user_of_its_certificate() {
    let ca = Ca::new();
    let (server, _) = server(&ca, "");
    let bobs = ca.issue_for_uri(&format!("sip:bob@{}", server.ip), 2040);
    let mut client = Client::connect(&server, Some(&bobs));
    assert_eq!(client.register(&server, ALICE), 403);
    assert_eq!(client.register(&server, Account { password: "guessed", ..BOB }), 401, "the password counts as ever");
    assert_eq!(client.register(&server, BOB), 200);
    assert_eq!(Client::connect(&server, None).register(&server, ALICE), 200);
}

#[test]
fn a_trunk_is_known_by_its_certificate_and_by_nothing_else() {
    let ca = Ca::new();
    // Its address is that from which every client here connects.
    let trunk = "[trunk.carrier]\nhost = \"127.0.0.1\"\npstn = false\nclient_name = \"sip.carrier.test\"\n";
    let (server, _) = server(&ca, trunk);
    let mut alice = Phone::at(fresh_ip(), &server, ALICE);
    assert_eq!(alice.register(), 200);
    let uri = format!("sip:{}@{}", ALICE.direct_line, server.ip);
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n";
    let body = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
    let call = |own: Option<&Pair>| {
        let mut client = Client::connect(&server, own);
        client.send("INVITE", &uri, "sip:+14155550123@sip.carrier.test", &body).expect("it is served");
        client
    };
    assert_eq!(call(None).answer().expect("an answer").status(), 407);
    assert_eq!(call(Some(&ca.issue("other.test", 2040))).answer().expect("an answer").status(), 407);
    for own in [ca.issue("sip.carrier.test", 2040), ca.issue_for_uri("sip:sip.carrier.test", 2040)] {
        let mut carrier = call(Some(&own));
        let dialog = alice.answer();
        assert_eq!(carrier.answer().expect("an answer").status(), 200);
        alice.hang_up(&dialog);
    }
}
