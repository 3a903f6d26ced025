//! Signed callers' numbers between two real servers: one signs, the other fetches the certificate over HTTPS and verifies.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, CustomExtension};
use ringdown::wire::sip::{Message, Method, Name, ResponseBuilder};
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

/// A web server that has one file.
fn web_server(ip: IpAddr, ca: &Ca, content: String) {
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
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
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

#[test]
fn a_number_signed_by_one_server_is_verified_by_another() {
    let (web, stranger, ca) = (fresh_ip(), fresh_ip(), Ca::new());
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], NUMBERS.to_vec())];
    let (certificate, key) = ca.sign(params, 2090);
    web_server(web, &ca, certificate.clone());

    let trunk = |name: &str, ip: &str, pstn| {
        format!("[trunk.{name}]\nhost = \"{ip}\"\nport = 5060\ntransport = \"udp\"\npstn = {pstn}\n")
    };
    let company = "[company]\nname = \"Example Corp\"\nregion = \"US\"\naddress = { country = \"US\", A1 = \"DC\", \
                   A3 = \"Washington\", RD = \"Example\", HNO = \"500\", PC = \"20001\", ROOM = \"Reception\" }\n";
    let verifies = "[stir]\nanchors = \"FOLDER/test-ca.pem\"\nca = \"FOLDER/test-ca.pem\"\nwait_ms = 5000\n\
                    private_networks = [\"127.0.0.0/8\"]\n";
    let trunks = trunk("signer", "SIGNER", false) + &trunk("stranger", &stranger.to_string(), false);
    let mut verifier = Ringdown::configured("preferred", &format!("{company}{trunks}{verifies}"));
    let signs = format!(
        "numbers = [\"{}\"]\n[emergency]\ncallback_numbers = [\"{}\"]\n[stir]\ncertificate = \"FOLDER/own.pem\"\n\
         key = \"FOLDER/own.key\"\ncertificate_url = \"https://{web}:{HTTPS_PORT}{PATH}\"\n",
        ALICE.direct_line, ALICE.direct_line
    );
    let to_verifier = trunk("carrier", &verifier.ip.to_string(), true);
    let mut signer = Ringdown::configured("preferred", &format!("{company}{to_verifier}{signs}"));
    replace(&verifier, "SIGNER", &signer.ip.to_string());
    for server in [&verifier, &signer] {
        replace(server, "FOLDER", &server.dir().display().to_string());
    }
    ca.write(verifier.dir());
    fs::write(signer.dir().join("own.pem"), certificate).expect("a writable folder");
    fs::write(signer.dir().join("own.key"), key).expect("a writable folder");
    verifier.add_user(&BOB);
    signer.add_user(&ALICE);
    verifier.start();
    signer.start();

    let (mut alice, mut bob) = (Phone::new(&signer, ALICE), Phone::new(&verifier, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    alice.invite(BOB.direct_line);
    let found = verified(&bob, &verifier);
    let log = verifier.process_text();
    let why: Vec<_> = log.lines().filter(|line| line.contains("certificate")).collect();
    assert_eq!(found, "<tel:+12025550101;verstat=TN-Validation-Passed>", "{why:#?}");
    let mut stranger = Phone::at(stranger, &verifier, STRANGER);
    stranger.invite(BOB.direct_line);
    assert_eq!(verified(&bob, &verifier), "<tel:+14155550123;verstat=No-TN-Validation>");

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
