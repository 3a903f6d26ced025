//! Signed callers' numbers between real servers: one signs, another fetches the certificate over HTTPS and verifies, and one
//! between them forwards.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, CustomExtension};
use ringdown::wire::sip::{Message, Method, Name, ResponseBuilder};
use rustix::process::Signal;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    common::{
        process::{fresh_ip, wait_for},
        server::{ALICE, Account, BOB, Ringdown},
    },
    phone::Phone,
    tls::Ca,
};

const HTTPS_PORT: u16 = 8443;
const PATH: &str = "/shaken.pem";
/// TNAuthList of one provider (RFC 8226 section 9).
const NUMBERS: [u8; 10] = [0x30, 8, 0xA0, 6, 0x16, 4, b'7', b'0', b'9', b'J'];
const STRANGER: Account = Account { user: "+14155550123", extension: "", direct_line: "", password: "" };

/// A web server that has one file, as it is at the time.
fn web_server(ip: IpAddr, ca: &Ca, content: &Arc<Mutex<String>>) {
    let (certificate, key) = ca.issue(&ip.to_string(), 2090);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider's versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let config = Arc::new(config);
    let listener = TcpListener::bind((ip, HTTPS_PORT)).expect("a loopback address of ours");
    let content = Arc::clone(content);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let content = content.lock().expect("nobody panics with it").clone();
            let is_wanted = head.starts_with(&format!("GET {PATH} HTTP/1.1\r\n"));
            let (status, body) = if is_wanted { ("200 OK", content.as_str()) } else { ("404 Not Found", "") };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nCache-Control: max-age=300\r\n\r\n{body}");
            if stream.get_mut().write_all(answer.as_bytes()).is_ok() {
                let _ = stream.get_mut().flush();
            }
        }
    });
}

fn replace(server: &Ringdown, from: &str, to: &str) {
    let text = fs::read_to_string(server.config()).expect("it was written");
    fs::write(server.config(), text.replace(from, to)).expect("a writable folder");
}

/// What Bob's telephone is told beside the address of the caller; the call is declined.
fn verified(bob: &Phone, server: &Ringdown) -> String {
    let invite: Message = bob.wait(|message| message.method() == Some(Method::Invite));
    let told: Vec<_> = invite.lines(Name::PAssertedIdentity).map(str::to_owned).collect();
    bob.say(&ResponseBuilder::to(&invite, 486, "Busy Here", "b", server.sip()).finish());
    let [_, verified] = told.as_slice() else { panic!("{told:?}") };
    verified.clone()
}

/// What is signed with: a certificate for numbers, and its key.
fn signing_pair(ca: &Ca) -> (String, String) {
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], NUMBERS.to_vec())];
    ca.sign(params, 2090)
}

/// Two servers with Bob at the one that verifies and Alice at the one that signs, and the web server's file.
struct Pair {
    verifier: Ringdown,
    signer: Ringdown,
    stranger: IpAddr,
    /// What is signed with, and where others find the certificate.
    signing: (String, String),
    url: String,
    published: Arc<Mutex<String>>,
}

impl Pair {
    fn start(ca: &Ca) -> Self {
        let mut pair = Self::configured(ca, "", "");
        pair.start_both();
        pair
    }

    /// `tables` and `keys`: what the configuration of the verifying server holds besides, the latter of `[stir]`.
    fn configured(ca: &Ca, tables: &str, keys: &str) -> Self {
        let (web, stranger, signing) = (fresh_ip(), fresh_ip(), signing_pair(ca));
        let (url, published) = (format!("https://{web}:{HTTPS_PORT}{PATH}"), Arc::new(Mutex::new(signing.0.clone())));
        web_server(web, ca, &published);
        let trunks = trunk("signer", "SIGNER", false) + &trunk("stranger", &stranger.to_string(), false);
        let verifier = Ringdown::configured("preferred", &format!("{COMPANY}{trunks}{tables}{VERIFIES}{keys}"));
        let lines = format!("numbers = [\"{0}\"]\n[emergency]\ncallback_numbers = [\"{0}\"]\n", ALICE.direct_line);
        let to_verifier = trunk("carrier", &verifier.ip.to_string(), true);
        let signer = Ringdown::configured("preferred", &format!("{COMPANY}{to_verifier}{lines}[stir]\n{SIGNS}"));
        replace(&verifier, "SIGNER", &signer.ip.to_string());
        let pair = Self { verifier, signer, stranger, signing, url, published };
        for server in [&pair.verifier, &pair.signer] {
            pair.settle(server, ca);
        }
        pair.verifier.add_user(&BOB);
        pair.signer.add_user(&ALICE);
        pair
    }

    /// Puts files where a configuration looks for them.
    fn settle(&self, server: &Ringdown, ca: &Ca) {
        replace(server, "FOLDER", &server.dir().display().to_string());
        replace(server, "URL", &self.url);
        ca.write(server.dir());
        believe(server, ca);
        sign_with(server, &self.signing.0, &self.signing.1);
    }

    fn start_both(&mut self) {
        self.verifier.start();
        self.signer.start();
    }
}

const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\naddress = { country = \"US\", A1 = \"DC\", \
                       A3 = \"Washington\", RD = \"Example\", HNO = \"500\", PC = \"20001\", ROOM = \"Reception\" }\n";
const VERIFIES: &str = "[stir]\nanchors = \"FOLDER/authorities.pem\"\nca = \"FOLDER/test-ca.pem\"\nwait_ms = 5000\n\
                        private_networks = [\"127.0.0.0/8\"]\n";
const SIGNS: &str = "certificate = \"FOLDER/own.pem\"\nkey = \"FOLDER/own.key\"\ncertificate_url = \"URL\"\n";

fn trunk(name: &str, ip: &str, reaches_pstn: bool) -> String {
    format!("[trunk.{name}]\nhost = \"{ip}\"\nport = 5060\ntransport = \"udp\"\npstn = {reaches_pstn}\n")
}

fn believe(verifier: &Ringdown, ca: &Ca) {
    fs::write(verifier.dir().join("authorities.pem"), ca.pem()).expect("a writable folder");
}

fn sign_with(signer: &Ringdown, certificate: &str, key: &str) {
    fs::write(signer.dir().join("own.pem"), certificate).expect("a writable folder");
    fs::write(signer.dir().join("own.key"), key).expect("a writable folder");
}

#[test]
fn a_number_signed_by_one_server_is_verified_by_another() {
    let pair = Pair::start(&Ca::new());
    let Pair { verifier, signer, stranger, .. } = &pair;
    let (mut alice, mut bob) = (Phone::new(signer, ALICE), Phone::new(verifier, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    alice.invite(BOB.direct_line);
    let found = verified(&bob, verifier);
    let log = verifier.process_text();
    let why: Vec<_> = log.lines().filter(|line| line.contains("certificate")).collect();
    assert_eq!(found, "<tel:+12025550101;verstat=TN-Validation-Passed>", "{why:#?}");
    let mut stranger = Phone::at(*stranger, verifier, STRANGER);
    stranger.invite(BOB.direct_line);
    assert_eq!(verified(&bob, verifier), "<tel:+14155550123;verstat=No-TN-Validation>");

    let records = wait_for("both records", Duration::from_secs(10), || {
        let output = verifier.command(&["cdr", "list", "--format", "jsonl"], "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text.lines().count() == 2).then_some(text)
    });
    for part in ["\"verstat\":\"TN-Validation-Passed\",\"attest\":\"A\"", "\"verstat\":\"No-TN-Validation\""] {
        assert!(records.contains(part), "{part} in {records}");
    }
    let (_, metrics) = verifier.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("ringdown_calls_verified_total{verstat=\"TN-Validation-Passed\"} 1\n"), "{metrics}");
}

/// A short-lived certificate is renewed under a running server, by a new authority at that, and a broken one changes nothing.
#[test]
fn renewed_files_are_taken_into_use_and_broken_ones_are_not() {
    let reloaded = |server: &Ringdown| server.process_text().matches("The certificates were reloaded.").count();
    let Pair { verifier, mut signer, published, .. } = Pair::start(&Ca::new());
    let (mut alice, mut bob) = (Phone::new(&signer, ALICE), Phone::new(&verifier, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    let mut call = || {
        alice.invite(BOB.direct_line);
        verified(&bob, &verifier)
    };
    let passed = "<tel:+12025550101;verstat=TN-Validation-Passed>";
    assert_eq!(call(), passed);

    // Nobody gives a signal.
    let renewed = Ca::new();
    let (certificate, key) = signing_pair(&renewed);
    published.lock().expect("nobody panics with it").clone_from(&certificate);
    sign_with(&signer, &certificate, &key);
    believe(&verifier, &renewed);
    for server in [&signer, &verifier] {
        wait_for("the files to be read", Duration::from_secs(20), || (reloaded(server) > 0).then_some(()));
    }
    assert_eq!(call(), passed);

    sign_with(&signer, &certificate, "nonsense");
    signer.process().signal(Signal::HUP);
    let complaint = "own.key holds no private key";
    signer.process().wait_log(complaint, Duration::from_secs(20));
    let log = signer.process_text();
    let line = log.lines().find(|line| line.contains(complaint)).expect("it was waited for");
    assert!(line.contains("the old ones stay in use") && line.contains("ringdown check"), "{line}");
    assert_eq!(call(), passed);
}

/// Bob's calls go to a number behind a third server, which is shown Alice's number and the signatures of both.
#[test]
fn a_forwarded_call_is_verified_behind_the_server_that_forwards() {
    const DORA: Account =
        Account { user: "dora", extension: "2003", direct_line: "+12025553001", password: "dora-password-canary-2b8e" };
    let ca = Ca::new();
    let mut far =
        Ringdown::configured("preferred", &format!("{COMPANY}{}{VERIFIES}", trunk("middle", "MIDDLE", false)));
    let map = "[inbound.far]\nnumbers = [\"+12025553*\"]\nto = \"trunk:far\"\n";
    let tables = trunk("far", &far.ip.to_string(), false) + map;
    let mut pair = Pair::configured(&ca, &tables, SIGNS);
    replace(&far, "MIDDLE", &pair.verifier.ip.to_string());
    pair.settle(&far, &ca);
    far.add_user(&DORA);
    let output = pair.verifier.command(&["user", "forward", BOB.user, "--always", DORA.direct_line], "");
    assert!(output.status.success(), "{output:?}");
    far.start();
    pair.start_both();

    let (mut alice, mut dora) = (Phone::new(&pair.signer, ALICE), Phone::new(&far, DORA));
    assert_eq!((alice.register(), dora.register()), (200, 200));
    alice.invite(BOB.direct_line);
    assert_eq!(verified(&dora, &far), "<tel:+12025550101;verstat=TN-Validation-Passed>");
    let recorded = |server: &Ringdown, reason: &str| {
        wait_for(reason, Duration::from_secs(10), || {
            let output = server.command(&["cdr", "list", "--format", "jsonl"], "");
            String::from_utf8_lossy(&output.stdout).contains(reason).then_some(())
        });
    };
    recorded(&pair.verifier, "the signature is good");
    recorded(&far, "the signatures of the caller and of those who sent the call on are good");
}
