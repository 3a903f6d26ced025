//! sipvicious, the scanner that every server on the Internet meets, against the real server.
//!
//! It says who it is and is then dropped, which proves little. So its datagrams also pass a relay that gives it the name of
//! an innocent client, one that the server asks for MD5 alone, which is all that sipvicious can answer.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    COMPANY,
    common::{
        process::{Process, fresh_ip},
        server::{ALICE, BOB, Ringdown, SIP_PORT},
    },
    need,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What sipvicious calls itself, and what the relay makes of it.
const NAMES: (&[u8; 16], &[u8; 16]) = (b"friendly-scanner", b"SIPp 3.6 phone  ");

/// Relays datagrams between one client and the server, and changes the client's name and the length of what it says: very
/// short datagrams of a stranger are answered at their second time only, which sipvicious does not wait for. A source of its
/// own.
struct Disguise {
    ip: IpAddr,
    is_over: Arc<AtomicBool>,
    /// Answers of the server that it passed on.
    answers: Arc<AtomicUsize>,
    relay: Option<JoinHandle<()>>,
}

impl Disguise {
    fn start(server: &Ringdown) -> Self {
        let (ip, server) = (fresh_ip(), server.sip());
        let bind = || {
            let socket = UdpSocket::bind((fresh_ip(), SIP_PORT)).expect("a fresh address");
            socket.set_read_timeout(Some(Duration::from_millis(1))).expect("a valid timeout");
            socket
        };
        let front = UdpSocket::bind((ip, SIP_PORT)).expect("a fresh address");
        front.set_read_timeout(Some(Duration::from_millis(1))).expect("a valid timeout");
        let back = bind();
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let answers = Arc::new(AtomicUsize::new(0));
        let passed = Arc::clone(&answers);
        let relay = thread::spawn(move || {
            let (mut client, mut buffer) = (None, [0; 4096]);
            while !end.load(Ordering::Relaxed) {
                if let Ok((len, from)) = front.recv_from(&mut buffer) {
                    client = Some(from);
                    rename(&mut buffer[..len]);
                    back.send_to(&lengthened(&buffer[..len]), server).expect("loopback");
                }
                if let (Ok(len), Some(client)) = (back.recv(&mut buffer), client) {
                    front.send_to(&buffer[..len], client).expect("loopback");
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { ip, is_over, answers, relay: Some(relay) }
    }
}

/// With a header line that means nothing.
fn lengthened(datagram: &[u8]) -> Vec<u8> {
    let line_end = datagram.windows(2).position(|window| window == b"\r\n").unwrap_or(datagram.len());
    let (line, rest) = datagram.split_at(line_end);
    [line, b"\r\nX-Padding: ", &[b'x'; 600], rest].concat()
}

fn rename(datagram: &mut [u8]) {
    let (old, new) = NAMES;
    if let Some(at) = datagram.windows(old.len()).position(|window| window == old) {
        datagram[at..at + new.len()].copy_from_slice(new);
    }
}

impl Drop for Disguise {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// Everything that one of its programs says.
fn run(program: &str, arguments: &[&str], target: IpAddr) -> String {
    need(program, "sipvicious");
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(program);
    let own = fresh_ip().to_string();
    command.args(arguments).args(["--bindingip", &own, "--externalip", &own, &target.to_string()]);
    command.env("HOME", home.path());
    let mut process = Process::start(program, command, home.path(), Stdio::null());
    process.wait_exit(PATIENCE);
    let text = process.text();
    assert!(!text.contains("Usage:"), "{program} was called wrongly: {text}");
    text
}

fn dictionary(words: impl IntoIterator<Item = String>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let words: Vec<String> = words.into_iter().collect();
    fs::write(file.path(), words.join("\n") + "\n").expect("a writable file");
    file
}

fn crack(target: IpAddr, words: impl IntoIterator<Item = String>) -> String {
    let words = dictionary(words);
    let path = words.path().to_str().expect("a plain path").to_owned();
    run("svcrack", &["-u", ALICE.user, "-d", &path, "--maximumtime", "5"], target)
}

#[test]
fn sipvicious_finds_no_server_and_no_extension() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE, BOB]);
    let found = run("svmap", &[], server.ip);
    assert!(!found.contains("ringdown"), "{found}");
    let found = run("svmap", &[], Disguise::start(&server).ip);
    assert!(found.contains("ringdown"), "the method is broken: {found}");
    for method in ["REGISTER", "INVITE", "OPTIONS"] {
        let range = ["-e", "1995-2005", "-m", method, "--force", "--maximumtime", "5"];
        let found = run("svwar", &range, server.ip);
        assert!(!found.contains(ALICE.extension), "{method}: {found}");
        let disguise = Disguise::start(&server);
        // Without --force it gives up by itself, because an unknown extension is answered like any other.
        let found = run("svwar", &["-e", "1995-2005", "-m", method, "--maximumtime", "5"], disguise.ip);
        assert!(!found.contains(ALICE.extension) && !found.contains(BOB.extension), "{method}: {found}");
        assert!(disguise.answers.load(Ordering::Relaxed) > 0, "the method is broken, {method}: {found}");
    }
}

#[test]
fn sipvicious_finds_a_password_only_if_it_is_among_the_first_guesses() {
    let server = Ringdown::started("preferred", COMPANY, &[ALICE]);
    let disguise = Disguise::start(&server);
    let found = crack(disguise.ip, [ALICE.password.to_owned()]);
    assert!(found.contains(ALICE.password), "the method is broken: {found}");
    let guesses = || (0..40).map(|n| format!("guess-{n}")).chain([ALICE.password.to_owned()]);
    let other = Disguise::start(&server);
    let found = crack(other.ip, guesses());
    assert!(!found.contains(ALICE.password), "{found}");
    let metrics = server.get("/metrics").expect("the admin interface").1;
    let line = metrics.lines().find(|line| line.contains("sip_barred_source")).expect("a counter");
    assert!(!line.ends_with(" 0"), "{line}");
}
