//! The real binary over real sockets: what an operator sees and what a restart, a signal or a bad message does.
//!
//! Method: each test has a server of its own on a loopback address of its own, and talks to it with a very small SIP
//! phone.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "tests of a real process read the clock, write files and speak on standard error"
)]

mod admin;
mod canaries;
mod capacity;
mod clients;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "the interop tests use more of it")]
mod common;
mod crash;
mod dns;
mod emergency;
mod floods;
mod phone;
mod privacy;
mod prove;
mod reach;
mod resync;
mod rotation;
mod sandbox;
mod selftest;
mod service;
mod stir;
mod strangers;
mod streams;
mod systemd;
mod tls;
mod torture;
mod trunks;
mod xdp;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use common::{
    process::{Process, fresh_ip, wait_for},
    server::{ALICE, Account, BINARY, BOB, Ringdown},
};
use phone::{AUDIO_CANARY, Dialog, Phone};
use ringdown::wire::sip::Name;
use rustix::process::Signal;

const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";
const SECONDS_5: Duration = Duration::from_secs(5);

fn started(accounts: &[Account]) -> Ringdown {
    Ringdown::started("preferred", COMPANY, accounts)
}

/// Whether a thread of this name handles audio.
fn is_media_thread(name: &str) -> bool {
    let worker = name.trim_end().strip_prefix("media-");
    worker.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Every file under a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn registrations(server: &Ringdown) -> String {
    server.get("/v1/registrations").expect("the admin interface").1
}

/// Alice calls Bob, who answers.
fn connect(alice: &mut Phone, bob: &mut Phone) -> (Dialog, Dialog) {
    let (call_id, cseq) = alice.invite(BOB.extension);
    let b = bob.answer();
    (alice.answered(&call_id, cseq), b)
}

/// Alice calls Bob; both talk; Bob hangs up.
fn call(alice: &mut Phone, bob: &mut Phone) {
    let (a, b) = connect(alice, bob);
    alice.speak(&a, 20);
    bob.speak(&b, 20);
    assert!(bob.hear() > 10 && alice.hear() > 10, "audio does not pass");
    bob.hang_up(&b);
    alice.wait_bye();
}

#[test]
fn the_first_start_makes_two_accounts_and_tells_once_how_to_use_them() {
    let mut server = Ringdown::configured("required", COMPANY);
    server.start();
    let text = server.process().text();
    let ip = server.ip.to_string();
    for wanted in ["1001", "1002", &ip, "EMERGENCY CALLS ARE REFUSED: no PSTN trunk is configured"] {
        assert!(text.contains(wanted), "{wanted:?} is not in:\n{text}");
    }
    let users = server.command(&["user", "list"], "");
    let users = String::from_utf8_lossy(&users.stdout).into_owned();
    assert!(users.contains("1001") && users.contains("1002"), "{users}");
    server.kill();
    server.start();
    let users_again = server.command(&["user", "list"], "");
    assert_eq!(users, String::from_utf8_lossy(&users_again.stdout), "a second start changed the users");
}

#[test]
fn nobody_else_can_read_what_the_server_keeps() {
    let server = started(&[ALICE]);
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&server.state_dir()), 0o700);
    for file in files(&server.state_dir()) {
        assert_eq!(mode(&file) & 0o077, 0, "{} is open to others", file.display());
    }
}

#[test]
fn bindings_survive_a_restart_and_a_kill() {
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    server.process().signal(Signal::TERM);
    let status = server.process().wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    server.start();
    assert!(registrations(&server).contains("alice"), "{}", registrations(&server));
    call(&mut alice, &mut bob);
    server.kill();
    server.start();
    assert!(registrations(&server).contains("bob"), "{}", registrations(&server));
    call(&mut alice, &mut bob);
}

/// The only test on the one IPv6 loopback address that every machine has.
#[test]
fn a_phone_on_ipv4_and_one_on_ipv6_hear_each_other() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    let ip = server.ip;
    let text = fs::read_to_string(server.config()).expect("it was written");
    let text = text
        .replace(&format!("udp = [\"{ip}:5060\"]"), &format!("udp = [\"{ip}:5060\", \"[::1]:5070\"]"))
        .replace(&format!("addresses = [\"{ip}\"]"), &format!("addresses = [\"{ip}\", \"::1\"]"));
    assert_eq!(text.matches("::1").count(), 2);
    fs::write(server.config(), text).expect("a writable folder");
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server.start();
    let mut alice = Phone::new(&server, ALICE);
    let six = "::1".parse().expect("an address");
    let mut bob = Phone::at(six, &server, BOB).by(SocketAddr::new(six, 5070));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call(&mut alice, &mut bob);
    // ... and the other way round.
    let (call_id, cseq) = bob.invite(ALICE.extension);
    let a = alice.answer();
    let b = bob.answered(&call_id, cseq);
    alice.speak(&a, 20);
    bob.speak(&b, 20);
    assert!(bob.hear() > 10 && alice.hear() > 10, "audio does not pass");
    alice.hang_up(&a);
    bob.wait_bye();
}

#[test]
fn a_silent_telephone_is_logged_shown_counted_and_recorded_and_its_call_goes_on() {
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    let (a, b) = connect(&mut alice, &mut bob);
    alice.speak(&a, 20);
    let shown = |path: &str| -> Option<serde_json::Value> {
        let (status, body) = server.get(path)?;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    };
    let id = shown("/v1/calls").expect("the admin interface")[0]["id"].as_str().expect("a call").to_owned();
    let path = format!("/v1/calls/{id}");
    let call = wait_for("Bob's silence", SECONDS_5, || {
        shown(&path).filter(|call| call["b"]["silence"]["cause"] == "no_packets")
    });
    assert_eq!((&call["state"], &call["a"]["packets_received"]), (&"answered".into(), &20.into()));
    assert_eq!((&call["a"]["codec"], &call["b"]["silences"]), (&"PCMU".into(), &1.into()));
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(!metrics.contains("ringdown_leg_silences_total{cause=\"no_packets\"} 0"), "{metrics}");
    bob.hang_up(&b);
    alice.wait_bye();
    server.wait_no_calls();
    assert_eq!(server.get(&path).expect("the admin interface").0, 404);
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("ringdown_leg_mos_count{direction=\"received\"} 1"), "{metrics}");
    let records = wait_for("the record", SECONDS_5, || {
        let output = server.command(&["cdr", "list"], "");
        Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| text.contains(&id))
    });
    assert!(records.contains("\"silence_cause\":\"no_packets\""), "{records}");
    server.process().wait_log("cause=\"no_packets\"", SECONDS_5);
}

#[test]
fn a_wrong_password_is_refused() {
    let server = started(&[ALICE]);
    assert_eq!(Phone::new(&server, Account { password: "guessed", ..ALICE }).register(), 401);
    assert!(!registrations(&server).contains("alice"));
}

#[test]
fn check_names_every_error_with_its_line_and_key_and_exits_64() {
    let server = Ringdown::configured("required", COMPANY);
    assert_eq!(server.command(&["check"], "").status.code(), Some(0));
    let good = fs::read_to_string(server.config()).expect("it was written");
    let bad = good
        .replace("ports = \"20000-20999\"", "ports = \"30000-20000\"")
        .replace("encryption = \"required\"", "encryption = \"sometimes\"")
        .replace("level = \"trace\"", "level = \"trace\"\ncolour = \"blue\"");
    fs::write(server.config(), &bad).expect("a writable folder");
    let output = server.command(&["check"], "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("ringdown.toml"), "{text}");
    for key in ["ports", "encryption", "colour"] {
        let line = 1 + bad.lines().position(|l| l.starts_with(key)).expect("it is in the file");
        let named = text.lines().find(|l| l.contains(key)).unwrap_or_else(|| panic!("{key} is not named:\n{text}"));
        assert!(named.contains(&line.to_string()), "line {line} is not in {named:?}");
    }
    let run = server.command(&["run"], "");
    assert_eq!(run.status.code(), Some(64), "a server started with this configuration");
    assert!(!server.state_dir().exists(), "it made a state folder before it refused");
}

#[test]
fn a_callback_number_that_reaches_nobody_is_warned_of_by_check_and_run_until_somebody_has_it() {
    let trunk = "[company.address]\ncountry = \"US\"\nA3 = \"Washington\"\nRD = \"Example\"\nHNO = \"500\"\nPC = \"20001\"\n\
                 [emergency]\ncallback_numbers = [\"+12025550101\"]\n\
                 [trunk.carrier]\nhost = \"127.0.0.1\"\nnumbers = [\"+12025550101\"]\n";
    let mut server = Ringdown::configured("required", &format!("{COMPANY}{trunk}"));
    server.add_user(&BOB);
    let warning = "emergency services that call back reach nobody";
    let check = |server: &Ringdown| {
        let output = server.command(&["check"], "");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).contains(warning)
    };
    assert!(check(&server), "check says nothing");
    server.start();
    assert!(server.process().text().contains(warning), "run says nothing");
    server.add_user(&ALICE);
    assert!(!check(&server), "alice has that number");
}

#[test]
fn users_are_imported_from_csv_and_can_register() {
    let server = Ringdown::configured("preferred", COMPANY);
    let csv = server.dir().join("users.csv");
    let text = format!(
        "user,password,extension,direct_line\n{},{},{},{}\n{},{},{}\n",
        ALICE.user, ALICE.password, ALICE.extension, ALICE.direct_line, BOB.user, BOB.password, BOB.extension
    );
    fs::write(&csv, text).expect("a writable folder");
    let path = csv.to_string_lossy().into_owned();
    let output = server.command(&["user", "import", &path], "");
    assert!(output.status.success(), "{output:?}");
    let output = server.command(&["user", "list"], "");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(list.contains(ALICE.direct_line) && list.contains(BOB.extension), "{list}");
    assert!(!list.contains(ALICE.password), "the list shows a password");
    let output = server.command(&["user", "remove", "bob"], "");
    assert!(output.status.success(), "{output:?}");
    let mut server = server;
    server.start();
    assert_eq!(Phone::new(&server, ALICE).register(), 200);
    assert_eq!(Phone::new(&server, BOB).register(), 401);
}

#[test]
fn the_admin_interface_answers() {
    let server = started(&[ALICE]);
    for path in ["/health", "/ready", "/metrics", "/v1/calls", "/v1/registrations"] {
        assert_eq!(server.get(path).expect("the admin interface").0, 200, "{path}");
    }
    assert_eq!(server.get("/nothing").expect("the admin interface").0, 404);
    let (_, metrics) = server.get("/metrics").expect("the admin interface");
    assert!(metrics.contains("# TYPE") && metrics.contains("sip_malformed"), "{metrics}");
    Phone::new(&server, ALICE).register();
    let list: serde_json::Value = serde_json::from_str(&registrations(&server)).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_malformed_message_is_400_with_its_fault_over_udp_and_tcp_and_the_server_lives_on() {
    let server = started(&[ALICE]);
    let bad = "OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/%T 127.0.0.1:5060;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n\
               From: <sip:x@y>;tag=1\r\nTo: <sip:x>\r\nCSeq: 1 OPTIONS\r\nX-Padding: %P\r\nContent-Length: 0\r\n\r\n";
    // A stranger's datagram that is shorter than its answer is answered at its second time only.
    let bad = bad.replace("%P", &"x".repeat(200));
    let mut buffer = [0; 2048];
    let socket = UdpSocket::bind((fresh_ip(), 5060)).expect("a fresh address");
    socket.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    for noise in [b"\xff\xfe\xfd".as_slice(), b"INVITE sip:x", &[0; 2000]] {
        socket.send_to(noise, server.sip()).expect("loopback takes it");
    }
    socket.send_to(bad.replace("%T", "UDP").as_bytes(), server.sip()).expect("loopback takes it");
    let len = socket.recv(&mut buffer).expect("an answer over UDP");
    let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
    assert!(
        answer.starts_with("SIP/2.0 400 ") && answer.lines().next().is_some_and(|l| l.contains("Call-ID")),
        "{answer}"
    );

    let mut stream = TcpStream::connect(server.sip()).expect("it listens");
    stream.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    stream.write_all(bad.replace("%T", "TCP").as_bytes()).expect("loopback takes it");
    let len = stream.read(&mut buffer).expect("an answer over TCP");
    let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
    assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");

    let mut stream = TcpStream::connect(server.sip()).expect("it listens");
    stream.set_read_timeout(Some(SECONDS_5)).expect("a valid timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n").expect("loopback takes it");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the connection is closed, not left open");
    assert_eq!(Phone::new(&server, ALICE).register(), 200);
}

#[test]
fn a_dialled_911_is_refused_and_an_unknown_number_not_found() {
    let server = started(&[ALICE]);
    let mut alice = Phone::new(&server, ALICE);
    assert_eq!(alice.register(), 200);
    let refusal = alice.refusal("911");
    assert_eq!(refusal.status(), 403);
    assert!(refusal.header(Name::Warning).is_some() && refusal.header(Name::Reason).is_some());
    assert_eq!(alice.refusal("1999").status(), 404);
}

#[test]
fn a_terminated_server_takes_no_new_call_and_ends_with_its_last_one() {
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    let (a, b) = connect(&mut alice, &mut bob);
    server.process().signal(Signal::TERM);
    wait_for("the server to say that it drains", SECONDS_5, || (server.get("/ready")?.0 != 200).then_some(()));
    assert_eq!(bob.refusal(ALICE.extension).status(), 503);
    alice.speak(&a, 20);
    assert!(bob.hear() > 10, "the call is cut");
    bob.hang_up(&b);
    alice.wait_bye();
    let status = server.process().wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
}

/// Goal: whoever ends the server at once leaves nobody on a silent line. Method: a second signal does not wait for the call.
#[test]
fn a_server_that_is_ended_at_once_hangs_up_live_calls_and_says_why() {
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    let (call_id, cseq) = alice.invite(BOB.extension);
    bob.answer();
    alice.answered(&call_id, cseq);
    server.process().signal(Signal::TERM);
    wait_for("the server to say that it drains", SECONDS_5, || (server.get("/ready")?.0 != 200).then_some(()));
    server.process().signal(Signal::TERM);
    for phone in [&mut alice, &mut bob] {
        let reason = phone.wait_bye().header(Name::Reason).map(str::to_owned);
        assert_eq!(reason.as_deref(), Some("SIP;cause=503;text=\"Shutting Down\""));
    }
    let status = server.process().wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    let output = server.command(&["cdr", "list"], "");
    let record = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(record.contains("\"reason\":\"Shutting Down\""), "{record}");
}

#[test]
fn calls_leave_no_descriptor_open_and_no_secret_or_audio_on_disk_or_in_the_log() {
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call(&mut alice, &mut bob);
    server.wait_no_calls();
    let descriptors = |server: &mut Ringdown| {
        let process = PathBuf::from(format!("/proc/{}", server.process().id()));
        let is_media = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| is_media_thread(&name));
        let tasks = fs::read_dir(process.join("task")).expect("a process of ours").flatten().map(|task| task.path());
        // Media threads have tables of their own.
        let tables = tasks.filter(is_media).chain([process]).map(|owner| {
            let folder = owner.join("fd");
            // That of a process that cannot be dumped is open to root alone; its size is the number (proc(5)).
            let size = || fs::metadata(&folder).expect("a process of ours").len();
            fs::read_dir(&folder).map_or_else(|_| usize::try_from(size()).expect("a few"), Iterator::count)
        });
        tables.sum::<usize>()
    };
    let before = descriptors(&mut server);
    for _ in 0..5 {
        call(&mut alice, &mut bob);
    }
    server.wait_no_calls();
    let mut after = 0;
    for _ in 0..50 {
        after = descriptors(&mut server);
        if after <= before {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(after <= before, "{before} descriptors before five calls, {after} after");
    let mut places: Vec<(String, Vec<u8>)> = files(&server.state_dir())
        .into_iter()
        .map(|f| (f.display().to_string(), fs::read(&f).expect("a file of ours")))
        .collect();
    assert!(!places.is_empty());
    places.push(("the log".to_owned(), server.process().text().into_bytes()));
    for (place, bytes) in &places {
        for canary in [ALICE.password.as_bytes(), BOB.password.as_bytes(), AUDIO_CANARY] {
            let is_found = bytes.windows(canary.len()).any(|w| w == canary);
            assert!(!is_found, "{} stands in {place}", String::from_utf8_lossy(canary));
        }
    }
    let output = server.command(&["cdr", "list"], "");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && list.contains(BOB.extension), "{list}");
}

#[test]
fn a_second_server_on_the_same_addresses_says_so_and_ends() {
    let server = started(&[ALICE]);
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(server.config());
    let mut second = Process::start("second", command, server.dir(), std::process::Stdio::null());
    let status = second.wait_exit(Duration::from_secs(10));
    assert!(!status.success());
    assert_eq!(server.get("/health").expect("the first one lives").0, 200);
}

#[test]
fn dial_test_classifies_as_the_server_does() {
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY).args(arguments).output().expect("the binary of this package");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for (dialled, class) in [("911", "emergency"), ("112", "emergency"), ("933", "test"), ("1001", "extension")] {
        let (is_ok, text) = run(&["dial-test", "--region", "US", dialled]);
        assert!(is_ok && text.contains(&format!("{dialled},US,{class}")), "{text}");
    }
    let (is_ok, text) = run(&["version"]);
    assert!(is_ok && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
