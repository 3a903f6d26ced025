//! Certificates over real sockets: exchanged while connections are open, and those of trunks.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::{
    COMPANY, SECONDS_5,
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Ringdown, TLS_PORT},
    },
    phone::Phone,
};

/// Signs certificates and writes them where a server looks for them.
pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Certificate and key for a name, PEM.
    pub(crate) fn issue(&self, name: &str, end_year: i32) -> (String, String) {
        self.sign(CertificateParams::new([name.to_owned()]).expect("a name"), end_year)
    }

    /// ... for the owner of a URI.
    pub(crate) fn issue_for_uri(&self, uri: &str, end_year: i32) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
        self.sign(params, end_year)
    }

    pub(crate) fn sign(&self, mut params: CertificateParams, end_year: i32) -> (String, String) {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(end_year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("test-ca.pem");
        fs::write(&file, self.pem()).expect("a writable folder");
        file
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a CA");
        roots
    }
}

fn write_pair(folder: &Path, (certificate, key): &(String, String)) {
    fs::write(folder.join("own.pem"), certificate).expect("a writable folder");
    fs::write(folder.join("own.key"), key).expect("a writable folder");
}

fn der(pair: &(String, String)) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.0.as_bytes()).expect("a certificate")
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(server: &Ringdown, ca: &Ca) -> Client {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("suites for both versions")
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let stream = TcpStream::connect((server.ip, TLS_PORT)).expect("it listens");
    stream.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    let name = ServerName::from(server.ip);
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(connection, stream)
}

/// Sends OPTIONS and reads the status line of the answer.
fn options(client: &mut Client, branch: &str) -> String {
    let text = format!(
        "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:x@y>;tag=1\r\nTo: <sip:x>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    client.write_all(text.as_bytes()).expect("the connection is open");
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    let status = lines.next().unwrap_or_default();
    lines.find(String::is_empty).expect("a whole answer");
    status
}

/// The certificate that a new connection is shown.
fn shown(server: &Ringdown, ca: &Ca, branch: &str) -> CertificateDer<'static> {
    let mut client = connect(server, ca);
    assert_eq!(options(&mut client, branch), "SIP/2.0 200 OK");
    client.conn.peer_certificates().expect("a certificate")[0].clone()
}

#[test]
fn certificates_are_exchanged_under_open_connections_and_bad_ones_are_named_and_not_used() {
    let ca = Ca::new();
    let mut server = Ringdown::configured("required", "");
    let ip = server.ip.to_string();
    let folder = server.dir().to_owned();
    let [first, second, third] = [2040, 2041, 2042].map(|year| ca.issue(&ip, year));
    write_pair(&folder, &first);
    let tables = format!("{COMPANY}[tls]\ncertificate = \"{0}/own.pem\"\nkey = \"{0}/own.key\"\n", folder.display());
    let text = fs::read_to_string(server.config()).expect("it was written") + &tables;
    fs::write(server.config(), text).expect("a writable folder");
    server.start();
    let mut old = connect(&server, &ca);
    assert_eq!(options(&mut old, "a"), "SIP/2.0 200 OK");
    assert_eq!(shown(&server, &ca, "b"), der(&first));

    write_pair(&folder, &second);
    server.process().signal(Signal::HUP);
    wait_for("the second certificate", SECONDS_5, || (shown(&server, &ca, "c") == der(&second)).then_some(()));

    // Without a signal: files that are no pair, one that has ended, then good ones.
    fs::write(folder.join("own.key"), &third.1).expect("a writable folder");
    server.process().wait_log("own.key does not belong to", Duration::from_secs(15));
    write_pair(&folder, &ca.issue(&ip, 2021));
    server.process().wait_log("own.pem ended on 2021-01-01", Duration::from_secs(15));
    assert_eq!(shown(&server, &ca, "d"), der(&second));
    write_pair(&folder, &third);
    let limit = Duration::from_secs(15);
    wait_for("the third certificate", limit, || (shown(&server, &ca, "e") == der(&third)).then_some(()));
    assert_eq!(options(&mut old, "f"), "SIP/2.0 200 OK", "the first connection is still open");

    let warning = |server: &Ringdown| {
        let output = server.command(&["check"], "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(!warning(&server).contains("own.pem"));
    write_pair(&folder, &ca.issue(&ip, 2021));
    let text = warning(&server);
    assert!(text.contains("tls.certificate") && text.contains("own.pem has ended on 2021-01-01"), "{text}");
}

/// A carrier that talks to who has a certificate of its CA; returns the first line that one sends.
fn carrier(listener: TcpListener, ca: &Ca, pair: &(String, String)) -> thread::JoinHandle<Option<String>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ca.roots()), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_slice(pair.1.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("suites for both versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(vec![der(pair)], key)
        .expect("a pair");
    thread::spawn(move || {
        let (stream, _) = listener.accept().ok()?;
        let connection = ServerConnection::new(Arc::new(config)).expect("a server");
        BufReader::new(StreamOwned::new(connection, stream)).lines().next()?.ok()
    })
}

#[test]
fn a_trunk_is_verified_by_its_own_ca_and_shown_our_certificate() {
    for is_vouched_for in [true, false] {
        let (ca, other) = (Ca::new(), Ca::new());
        let ip = fresh_ip();
        let listener = TcpListener::bind((ip, TLS_PORT)).expect("a fresh address");
        let signer = if is_vouched_for { &ca } else { &other };
        let carrier = carrier(listener, &ca, &signer.issue(&ip.to_string(), 2040));
        let mut server = Ringdown::configured("preferred", "");
        let folder = server.dir().to_owned();
        write_pair(&folder, &ca.issue("pbx.test", 2040));
        let tables = format!(
            "{COMPANY}[company.address]\ncountry = \"US\"\nA3 = \"Washington\"\nRD = \"Example\"\nHNO = \"500\"\n\
             PC = \"20001\"\n[emergency]\ncallback_numbers = [\"+12025550101\"]\n[trunk.carrier]\nhost = \"{ip}\"\n\
             numbers = [\"+12025550101\"]\nca = \"{0}\"\ncertificate = \"{1}/own.pem\"\nkey = \"{1}/own.key\"\n",
            ca.write(&folder).display(),
            folder.display()
        );
        let text = fs::read_to_string(server.config()).expect("it was written") + &tables;
        fs::write(server.config(), text).expect("a writable folder");
        server.add_user(&ALICE);
        server.start();
        let mut alice = Phone::new(&server, ALICE);
        assert_eq!(alice.register(), 200);
        alice.invite("+14155550123");
        let line = carrier.join().expect("no panic");
        assert_eq!(line.is_some_and(|line| line.starts_with("INVITE sip:")), is_vouched_for);
    }
}
