//! The admin interface for other machines, and the audit log: who gets in, with what, and what is told of it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use ringdown::wire::sip::digest;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    COMPANY, SECONDS_5,
    common::{
        process::wait_for,
        server::{ALICE, BOB, Ringdown},
    },
    files,
};

const TLS_ADMIN_PORT: u16 = 8061;

/// A server whose admin interface other machines reach.
fn configured() -> Ringdown {
    let server = Ringdown::configured("preferred", COMPANY);
    let text = fs::read_to_string(server.config()).expect("it was written");
    let open = format!("[admin]\ntls = [\"{}:{TLS_ADMIN_PORT}\"]\n", server.ip);
    fs::write(server.config(), text.replace("[admin]\n", &open)).expect("a writable folder");
    server
}

/// Makes a token and returns it.
fn token(server: &Ringdown, name: &str, role: &str) -> String {
    let output = server.command(&["token", "add", name, "--role", role], "");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().expect("a line with the token").to_owned()
}

/// The answer to a request over TLS with this token.
fn ask(server: &Ringdown, request: &str, token: &str, body: &str) -> String {
    let credentials = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    exchange(server, request, &credentials, body)
}

/// The same of a user, with the password of its telephone (RFC 7616).
fn ask_as(server: &Ringdown, (user, password): (&str, &str), request: &str, body: &str) -> String {
    let challenged = exchange(server, request, "", body);
    let challenges = challenged.lines().filter_map(|line| line.strip_prefix("www-authenticate: Digest "));
    let challenges: Vec<_> = challenges.map(|rest| format!("Digest {rest}")).collect();
    let (method, target) = request.split_once(' ').expect("method and target");
    let lines = challenges.iter().map(String::as_str);
    match digest::answer(lines, user, password, method, target, b"", "cnonce", 1) {
        Some(answer) => exchange(server, request, &format!("Authorization: {answer}\r\n"), body),
        None => challenged,
    }
}

fn exchange(server: &Ringdown, request: &str, credentials: &str, body: &str) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.ca()).expect("the server's CA")).expect("a CA");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("suites for both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect((server.ip, TLS_ADMIN_PORT)).expect("it listens");
    stream.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(server.ip)).expect("a client");
    let mut stream = StreamOwned::new(connection, stream);
    let text = format!(
        "{request} HTTP/1.1\r\nHost: pbx.example.com\r\nConnection: close\r\n{credentials}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    // A server that ends a connection without close_notify has said all before.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

#[test]
fn other_machines_need_tls_and_a_token_with_the_right_role_and_their_orders_are_recorded() {
    let mut server = configured();
    server.add_user(&ALICE);
    let warned = server.command(&["check"], "");
    let text = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && text.contains("admin.tls") && text.contains("ringdown token add"), "{text}");
    let (reader, chief) = (token(&server, "reader", "read"), token(&server, "chief", "admin"));
    server.start();
    let order = r#"{"user":"alice"}"#;
    for (request, token, wanted) in [
        ("GET /health", "", 401),
        ("GET /metrics", "", 401),
        ("GET /v1/cdrs", "wrong-token-canary-3f71", 401),
        ("GET /v1/cdrs", reader.as_str(), 200),
        ("GET /health", &reader, 200),
        ("GET /v1/cdrs", &chief, 200),
        ("POST /v1/unbar", "", 401),
        ("POST /v1/unbar", &reader, 403),
        ("POST /v1/unbar", &chief, 200),
    ] {
        let answer = ask(&server, request, token, order);
        assert_eq!(status(&answer), wanted, "{request}: {answer}");
        assert_eq!(answer.contains("www-authenticate: Bearer"), wanted == 401, "{answer}");
    }
    assert_eq!(server.get("/metrics").map(|(status, _)| status), Some(200));

    // Plain HTTP gets no page there.
    let mut plain = TcpStream::connect((server.ip, TLS_ADMIN_PORT)).expect("it listens");
    // It may have closed before it has read all.
    let _ = plain.write_all(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", server.ip).as_bytes());
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{:?}", String::from_utf8_lossy(&answer));

    assert!(server.command(&["token", "remove", "reader"], "").status.success());
    wait_for("the removed token to be refused", SECONDS_5, || {
        (status(&ask(&server, "GET /v1/cdrs", &reader, "")) == 401).then_some(())
    });
    assert_eq!(status(&ask(&server, "GET /v1/cdrs", &chief, "")), 200);

    let audit = wait_for("the orders", SECONDS_5, || {
        let output = server.command(&["audit", "list"], "");
        Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| text.contains("403"))
    });
    let words = |line: &str| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    let told: Vec<_> = audit.lines().map(words).collect();
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    for wanted in [
        format!("{uid} user add alice done"),
        format!("{uid} token add chief done"),
        format!("{uid} token remove reader done"),
        "reader POST /v1/unbar - 403".to_owned(),
        "chief POST /v1/unbar alice 200".to_owned(),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} is not in:\n{audit}");
    }

    let mut places = vec![server.process().text().into_bytes(), audit.into_bytes()];
    places.extend(files(&server.state_dir()).iter().map(|file| fs::read(file).expect("a file of ours")));
    for place in places {
        for secret in [reader.as_str(), &chief, "wrong-token-canary-3f71"] {
            assert!(memchr::memmem::find(&place, secret.as_bytes()).is_none(), "a token is kept");
        }
    }
}

/// Goal: a user sees what its own emergency calls carry, and acknowledges the notice itself, with the password of its telephone; who
/// guesses at it is stopped as over SIP.
#[test]
fn a_user_asks_about_its_own_emergency_calls_with_the_password_of_its_telephone() {
    let mut server = configured();
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server.start();
    let (alice, bob) = ((ALICE.user, ALICE.password), (BOB.user, BOB.password));
    let first = exchange(&server, "GET /v1/emergency", "", "");
    for algorithm in ["algorithm=SHA-256", "algorithm=MD5"] {
        assert!(status(&first) == 401 && first.contains(algorithm), "{first}");
    }
    let answer = ask_as(&server, alice, "GET /v1/emergency", "");
    assert!(status(&answer) == 200 && answer.contains("\"reason\":\"no-trunk\""), "{answer}");
    assert!(answer.contains("\"acknowledgement\":null") && !answer.contains("trunk_states"), "{answer}");
    assert_eq!(status(&ask_as(&server, bob, "GET /v1/emergency?user=alice", "")), 403);
    assert_eq!(status(&ask_as(&server, alice, "GET /v1/trunks", "")), 401);
    let version =
        answer.split("\"notice_version\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a version");
    let order = |user: &str| format!(r#"{{"user":"{user}","notice":"{version}"}}"#);
    assert_eq!(status(&ask_as(&server, bob, "POST /v1/emergency/acknowledge", &order("alice"))), 403);
    assert_eq!(status(&ask_as(&server, alice, "POST /v1/emergency/acknowledge", &order("alice"))), 204);
    let answer = ask_as(&server, alice, "GET /v1/emergency", "");
    assert!(answer.contains("\"recorded_by\":\"user alice\""), "{answer}");
    let guess = |user| status(&ask_as(&server, (user, "wrong-canary-91c4"), "GET /v1/emergency", ""));
    let mut told: Vec<_> = (0..21).map(|_| guess("eve")).collect();
    assert_eq!((told.remove(0), told.pop()), (401, Some(429)), "{told:?}");
    assert_eq!(status(&ask_as(&server, alice, "GET /v1/emergency", "")), 429, "nor with the right one, from there");
    assert!(!server.process().text().contains("wrong-canary") && !server.process().text().contains(ALICE.password));
}

/// The notice of emergency calls as a portal sees it that sets telephones up: shown, acknowledged, and asked for again when it has
/// changed.
#[test]
fn what_users_must_know_of_emergency_calls_is_acknowledged_recorded_and_asked_for_again() {
    let mut server = configured();
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    let portal = token(&server, "portal", "admin");
    server.start();
    let seen = |server: &Ringdown| -> serde_json::Value {
        let (status, body) = server.get("/v1/emergency?user=alice").expect("the admin interface");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let before = seen(&server);
    assert_eq!(before["notice"], "This service cannot call emergency numbers. Use a mobile or another telephone.");
    assert_eq!((&before["acknowledged"]["users"], &before["acknowledged"]["acknowledged"]), (&2.into(), &0.into()));
    assert!(before["acknowledgement"].is_null(), "{before}");
    let version = before["notice_version"].as_str().expect("a version").to_owned();
    let acknowledge = |user: &str, notice: &str| {
        let order = format!(r#"{{"user":"{user}","notice":"{notice}"}}"#);
        status(&ask(&server, "POST /v1/emergency/acknowledge", &portal, &order))
    };
    assert_eq!(acknowledge("alice", "0123456789abcdef"), 409, "not what was shown");
    assert_eq!(acknowledge("eve", &version), 404);
    assert_eq!(acknowledge("alice", &version), 204);
    let after = seen(&server);
    assert_eq!(after["acknowledged"]["acknowledged"], 1);
    let known = &after["acknowledgement"];
    assert_eq!((&known["is_current"], &known["recorded_by"]), (&true.into(), &"portal".into()), "{after}");

    let run = |server: &Ringdown, arguments: &[&str]| {
        let output = server.command(&[&["emergency"], arguments].concat(), "");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let missing = |server: &Ringdown| -> Vec<String> {
        // Standard output alone: what the configuration warns of goes elsewhere.
        let output = server.command(&["emergency", "acknowledgements", "--missing"], "");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().skip(1).filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    assert_eq!(missing(&server), ["bob"]);
    assert!(run(&server, &["status"]).1.contains("acknowledged   by 1 of 2 users"));
    assert_eq!(run(&server, &["acknowledge", "bob", "eve"]).0, Some(64));
    assert_eq!(missing(&server), ["bob"], "of all or of none");
    assert_eq!(run(&server, &["acknowledge", "bob"]).0, Some(0));
    let (_, text) = run(&server, &["status", "--user", "bob"]);
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    assert!(text.contains(&format!("(recorded by {uid})")), "{text}");
    let audit = wait_for("the orders", SECONDS_5, || {
        let output = server.command(&["audit", "list"], "");
        Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| text.contains(" 204"))
    });
    for wanted in [["portal", "alice", "204"], [uid.as_str(), "bob", "done"]] {
        let is_it = |line: &str| line.contains("acknowledge") && wanted.iter().all(|word| line.contains(word));
        assert!(audit.lines().any(is_it), "{wanted:?} is not in:\n{audit}");
    }

    // With a trunk the notice is another one, which nobody has acknowledged.
    server.kill();
    let text = fs::read_to_string(server.config()).expect("it was written");
    let company = "region = \"US\"\naddress = { country = \"US\", A1 = \"DC\", A3 = \"Washington\", RD = \"Example\", HNO = \"500\", \
                   PC = \"20001\", FLR = \"4\" }\n[emergency]\ncallback_numbers = [\"+12025550100\"]\n[trunk.carrier]\n\
                   host = \"127.0.0.2\"\nnumbers = [\"+12025550100\"]\n";
    fs::write(server.config(), text.replace("region = \"US\"\n", company)).expect("a writable folder");
    server.start();
    let changed = seen(&server);
    assert!(changed["notice"].as_str().is_some_and(|notice| notice.contains("500 Example")), "{changed}");
    assert_eq!(
        (&changed["acknowledgement"]["is_current"], &changed["acknowledged"]["acknowledged"]),
        (&false.into(), &0.into())
    );
    assert_eq!(missing(&server), ["alice", "bob"]);
}

#[test]
fn this_machines_programs_see_whether_it_lives_and_its_operator_the_rest() {
    let mut server = configured();
    server.start();
    let bare = |path: &str| {
        let mut stream = TcpStream::connect((server.ip, 8080)).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.ip).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        status(&answer)
    };
    for (path, wanted) in [("/health", 200), ("/ready", 200), ("/metrics", 200), ("/v1/cdrs", 401), ("/v1/calls", 401)]
    {
        assert_eq!(bare(path), wanted, "{path}");
        assert_eq!(server.get(path).map(|(status, _)| status), Some(200), "{path} with the operator's token");
    }
    let before = server.operator_token();
    assert!(server.command(&["trunk", "list"], "").status.success());
    server.kill();
    let refused = server.command(&["trunk", "list"], "");
    assert_eq!(refused.status.code(), Some(69), "{refused:?}");
    server.start();
    assert_ne!(server.operator_token(), before, "a token of the last run");
    assert!(server.command(&["trunk", "list"], "").status.success());
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let mut server = configured();
    let reader = token(&server, "reader", "read");
    server.start();
    let silent: Vec<_> =
        (0..20).map(|_| TcpStream::connect((server.ip, TLS_ADMIN_PORT)).expect("it listens")).collect();
    assert_eq!(status(&ask(&server, "GET /health", &reader, "")), 200);
    drop(silent);
}

#[test]
fn an_address_that_other_machines_reach_is_refused_without_tls() {
    let server = Ringdown::configured("preferred", COMPANY);
    let text = fs::read_to_string(server.config()).expect("it was written");
    fs::write(
        server.config(),
        text.replace(&format!("listen = \"{}:8080\"", server.ip), "listen = \"192.0.2.1:8080\""),
    )
    .expect("a writable folder");
    let refused = server.command(&["run"], "");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(64), "{text}");
    assert!(text.contains("admin.listen") && text.contains("for other machines tls"), "{text}");
}

#[test]
fn signalling_can_be_tls_alone() {
    let mut server = Ringdown::configured("required", COMPANY);
    let text = fs::read_to_string(server.config()).expect("it was written");
    let plain = format!("udp = [\"{0}:5060\"]\ntcp = [\"{0}:5060\"]\n", server.ip);
    assert!(text.contains(&plain));
    fs::write(server.config(), text.replace(&plain, "udp = []\ntcp = []\n")).expect("a writable folder");
    server.start();
    assert!(TcpStream::connect((server.ip, 5060)).is_err(), "it listens without TLS");
    assert!(std::net::UdpSocket::bind((server.ip, 5060)).is_ok(), "something holds the port");
    assert!(TcpStream::connect((server.ip, 5061)).is_ok());
}
