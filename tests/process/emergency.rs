//! Emergency calls as an operator and a desk see them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, TcpListener},
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

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
        tone::{assert_special_information_tone, mu_law},
    },
    phone::Phone,
    tls::Ca,
};

const CARRIER: Account = Account { user: "carrier", extension: "", direct_line: "", password: "" };
const EVE: Account =
    Account { user: "eve", extension: "2003", direct_line: "+12025550103", password: "eve-password-canary-2d6b" };
const HOOK: &str = "/hook-canary-5b1c";
const HTTPS_PORT: u16 = 8443;
const SECONDS_10: Duration = Duration::from_secs(10);

fn company(carrier: IpAddr, more: &str) -> String {
    format!(
        "[company]\nname = \"Example Corp\"\nregion = \"US\"\n\
         address = {{ country = \"US\", A1 = \"DC\", A3 = \"Washington\", RD = \"Example\", HNO = \"500\", PC = \"20001\", \
         ROOM = \"Reception\" }}\n[emergency]\ncallback_numbers = [\"{}\"]\n{more}\n\
         [trunk.carrier]\nhost = \"{carrier}\"\nport = 5060\ntransport = \"udp\"\nnumbers = [\"{}\"]\n",
        ALICE.direct_line, ALICE.direct_line
    )
}

fn is_invite(message: &Message) -> bool {
    message.method() == Some(Method::Invite)
}

/// A web server that refuses the first request and takes the next. Sends what it was told, head and body.
fn desk(ip: IpAddr, ca: &Ca) -> mpsc::Receiver<(String, String)> {
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
    let (told, heard) = mpsc::channel();
    thread::spawn(move || {
        for answer in ["500 Internal Server Error", "204 No Content"] {
            let Ok((stream, _)) = listener.accept() else { return };
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a configuration");
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).is_ok_and(|read| read > 0) {
                    continue;
                }
                return;
            }
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.expect("Content-Length")];
            stream.read_exact(&mut body).expect("the body");
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).expect("an answer");
            stream.get_mut().flush().expect("an answer");
            if told.send((head, String::from_utf8_lossy(&body).into_owned())).is_err() {
                return;
            }
        }
    });
    heard
}

#[test]
fn a14_telephone_and_web_server_of_the_desk_are_told_while_the_call_rings() {
    let (carrier_ip, desk_ip, ca) = (fresh_ip(), fresh_ip(), Ca::new());
    let notify = format!("notify = [\"sip:bob@SERVER\", \"https://{desk_ip}:{HTTPS_PORT}{HOOK}\"]");
    let mut server = Ringdown::configured("preferred", &company(carrier_ip, &notify));
    let text = fs::read_to_string(server.config()).expect("it was written");
    fs::write(server.config(), text.replace("SERVER", &server.ip.to_string())).expect("a writable folder");
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    let ca_file = ca.write(server.dir());
    let heard = desk(desk_ip, &ca);
    server.start_with(&[("SSL_CERT_FILE", &ca_file), ("SSL_CERT_DIR", Path::new("/nonexistent"))]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    assert_eq!((alice.register(), bob.register()), (200, 200));

    let (call_id, cseq) = alice.invite("911");
    let invite = carrier.wait(is_invite);
    // It rings, and nobody has answered yet.
    carrier.say(&ResponseBuilder::to(&invite, 180, "Ringing", "b", server.sip()).finish());
    let message = bob.wait(|message| message.method() == Some(Method::Message));
    assert!(String::from_utf8_lossy(&message.body()).contains("alice (extension 2001) has dialed 911"));
    bob.accept(&message);
    let (head, first) = heard.recv_timeout(SECONDS_10).expect("a first attempt");
    assert!(head.starts_with(&format!("POST {HOOK} HTTP/1.1\r\n")), "{head}");
    let (_, second) = heard.recv_timeout(SECONDS_10).expect("a second attempt");
    assert_eq!(first, second);
    let notice: serde_json::Value = serde_json::from_str(&second).expect("JSON");
    for (field, value) in [
        ("event", "emergency-call"),
        ("outcome", "routed"),
        ("dialed", "911"),
        ("extension", "2001"),
        ("user", "alice"),
        ("callback", ALICE.direct_line),
        ("erl", "company"),
        ("address", "Example Corp, 500 Example, Reception, Washington, DC 20001, US"),
    ] {
        assert_eq!(notice[field], value, "{field} in {notice}");
    }
    assert!(notice["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{notice}");

    let outside = carrier.answer_this(&invite);
    alice.answered(&call_id, cseq);
    carrier.hang_up(&outside);
    alice.wait_bye();
    server.wait_no_calls();
    let metrics = server.get("/metrics").expect("the admin interface").1;
    for line in [
        "ringdown_emergency_calls_total{outcome=\"routed\"} 1",
        "ringdown_emergency_attempts_total{trunk=\"carrier\",code=\"200\"} 1",
        "ringdown_emergency_notify_failures_total 0",
        "ringdown_emergency_active 0",
        "ringdown_emergency_setup_seconds_count 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in {metrics}");
    }
    assert!(!server.process().text().contains("hook-canary"), "the path of a hook is a secret");
}

#[test]
fn an_operator_sees_what_emergency_calls_carry_and_can_have_the_test_number_called() {
    let carrier_ip = fresh_ip();
    let mut server = Ringdown::configured("preferred", &company(carrier_ip, ""));
    server.add_user(&ALICE);
    let run = |server: &Ringdown, arguments: &[&str]| {
        let output = server.command(&[&["emergency"], arguments].concat(), "");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = run(&server, &["dry-run", "--user", "alice", "911"]);
    assert_eq!(code, Some(0), "{text}");
    for part in ["first trunk of carrier", "INVITE sip:911@", ALICE.direct_line, "<ca:ROOM>Reception</ca:ROOM>"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert_eq!(run(&server, &["status"]).0, Some(69), "nobody is there to ask");
    server.start();
    let started = server.process().text();
    assert!(started.contains("Emergency calls are available. Region US: 112, 911."), "{started}");
    let (code, text) = run(&server, &["status", "--user", "alice"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("emergency      available") && text.contains(ALICE.direct_line), "{text}");
    assert_eq!(run(&server, &["status", "--user", "eve"]).0, Some(64));

    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    let (code, text) = thread::scope(|scope| {
        let command = scope.spawn(|| run(&server, &["test-call"]));
        let invite = carrier.wait(is_invite);
        assert!(invite.request_uri().starts_with("sip:933@"), "{}", invite.request_uri());
        let outside = carrier.answer_this(&invite);
        carrier.hang_up(&outside);
        command.join().expect("the command ran")
    });
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("933 was answered over carrier after "), "{text}");
    let page = server.get("/v1/emergency").expect("the admin interface").1;
    assert!(page.contains("\"last_test_call\":{") && page.contains("\"is_answered\":true"), "{page}");
}

/// By the media thread under its own clock, through the kernel's sockets.
#[test]
fn a_refused_caller_hears_the_special_information_tone_before_the_refusal() {
    let more = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n[emergency]\nrefusal_tone = true";
    let mut server = Ringdown::started("preferred", more, &[ALICE]);
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    let (sound, refusal) = alice.refusal_after_sound("911");
    assert_eq!((refusal.status(), refusal.reason_phrase()), (403, "Emergency Calls Not Available"));
    assert_special_information_tone(&sound.into_iter().map(mu_law).collect::<Vec<_>>());
    assert!(server.process().text().contains("Emergency call refused."));
}

/// As long as the wait for ordinary calls takes: the emergency call must outlast it.
#[test]
fn a_terminated_server_waits_for_an_emergency_call_longer_than_for_others() {
    let carrier_ip = fresh_ip();
    let mut server = Ringdown::configured("preferred", &company(carrier_ip, ""));
    for account in [ALICE, BOB, EVE] {
        server.add_user(&account);
    }
    server.start();
    let [mut alice, mut bob, mut eve] = [ALICE, BOB, EVE].map(|account| Phone::new(&server, account));
    let mut carrier = Phone::at(carrier_ip, &server, CARRIER);
    assert_eq!([&mut alice, &mut bob, &mut eve].map(Phone::register), [200, 200, 200]);
    let (call_id, cseq) = bob.invite(EVE.extension);
    eve.answer();
    bob.answered(&call_id, cseq);
    let (call_id, cseq) = alice.invite("911");
    let invite = carrier.wait(is_invite);
    let outside = carrier.answer_this(&invite);
    alice.answered(&call_id, cseq);
    server.process().signal(Signal::TERM);
    let limit = Duration::from_secs(60);
    wait_for("the server to wait for the emergency call", limit, || {
        server.process_text().contains("the end waits for it").then_some(())
    });
    // The time of ordinary calls is over.
    for phone in [&mut bob, &mut eve] {
        let reason = phone.wait_bye().header(Name::Reason).map(str::to_owned);
        assert_eq!(reason.as_deref(), Some("SIP;cause=503;text=\"Shutting Down\""));
    }
    carrier.hang_up(&outside);
    alice.wait_bye();
    let status = server.process().wait_exit(SECONDS_10);
    assert!(status.success(), "{status}");
}
