//! Crashes, disks that fail and clocks that jump: what the server has said stays true, and calls go on.

use std::{
    collections::BTreeSet,
    fs,
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringdown::wire::sip::{Message, Name, digest};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use crate::{
    COMPANY, SECONDS_5,
    common::{
        process::{Process, fresh_ip, wait_for},
        server::{ALICE, BINARY, BOB, Ringdown},
    },
    connect,
    phone::Phone,
    registrations,
};

const ROUNDS: u64 = 6;
const PHONES: usize = 400;
/// So long that a stranger's datagram is answered at once.
const PADDING: &str = "";
const PASSWORD: &str = "password-of-all";

/// Many telephones behind one socket, each of a user of its own.
struct Phones {
    socket: UdpSocket,
    server: Ringdown,
    cseq: u32,
}

impl Phones {
    fn new(server: Ringdown) -> Self {
        let socket = UdpSocket::bind((fresh_ip(), 5060)).expect("a fresh address");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a valid timeout");
        Self { socket, server, cseq: 0 }
    }

    fn user(n: usize) -> String {
        format!("user{n}")
    }

    /// Whether the server has said that this user is registered; `false` if it says nothing any more.
    fn register(&mut self, n: usize) -> bool {
        let (user, uri) = (Self::user(n), format!("sip:{}", self.server.ip));
        let Some(challenge) = self.ask(&user, &uri, "") else { return false };
        let answer =
            digest::answer(challenge.lines(Name::WwwAuthenticate), &user, PASSWORD, "REGISTER", &uri, b"", "c", 1);
        let credentials = format!("Authorization: {}\r\n", answer.expect("a challenge"));
        self.ask(&user, &uri, &credentials).is_some_and(|answer| answer.status() == 200)
    }

    fn ask(&mut self, user: &str, uri: &str, credentials: &str) -> Option<Message> {
        self.cseq += 1;
        let (cseq, own, domain) = (self.cseq, self.socket.local_addr().expect("it is bound"), self.server.ip);
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK-{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{domain}>;tag=r\r\nTo: <sip:{user}@{domain}>\r\nCall-ID: {user}\r\n\
             CSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{own}>\r\nExpires: 3600\r\n\
             X-Padding: {PADDING:x<600}\r\n\
             {credentials}Content-Length: 0\r\n\r\n"
        );
        self.socket.send_to(text.as_bytes(), self.server.sip()).ok()?;
        let mut buffer = [0; 2_048];
        loop {
            let (len, _) = self.socket.recv_from(&mut buffer).ok()?;
            let answer = Message::parse(Bytes::copy_from_slice(&buffer[..len])).ok()?;
            if answer.cseq().is_some_and(|c| c.number == cseq) {
                return Some(answer);
            }
        }
    }
}

fn registered(server: &Ringdown) -> BTreeSet<String> {
    let bindings: serde_json::Value = serde_json::from_str(&registrations(server)).expect("JSON");
    let users = bindings.as_array().expect("a list").iter().map(|b| b["user"].as_str().expect("a name").to_owned());
    users.collect()
}

/// Identifiers of the records that the server shows.
fn records(server: &Ringdown) -> BTreeSet<String> {
    let (_, page) = server.get("/v1/cdrs?limit=1000").expect("the admin interface");
    let records: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    records.as_array().expect("a list").iter().map(|cdr| cdr["id"].as_str().expect("a text").to_owned()).collect()
}

/// Goal: whatever the server, or a command, has acknowledged when it is killed, is there afterwards, and nothing is there by
/// half. Method: registrations one after the other, a call that is refused and recorded now and then, commands that change
/// users; and SIGKILL at some moment among them, several times.
#[test]
fn a_killed_server_has_kept_all_that_it_acknowledged() {
    let server = Ringdown::configured("preferred", COMPANY);
    let csv = server.dir().join("users.csv");
    let rows: String = (0..PHONES).map(|n| format!("{},{PASSWORD},{}\n", Phones::user(n), 3_000 + n)).collect();
    fs::write(&csv, format!("user,password,extension\n{rows}")).expect("a writable folder");
    assert!(server.command(&["user", "import", &csv.to_string_lossy()], "").status.success());
    server.add_user(&ALICE);
    let mut phones = Phones::new(server);
    phones.server.start();
    let mut alice = Phone::new(&phones.server, ALICE);
    assert_eq!(alice.register(), 200);
    let (mut next, mut known) = (0, BTreeSet::from([ALICE.user.to_owned()]));
    for round in 0..ROUNDS {
        assert_eq!(alice.refusal("1999").status(), 404);
        wait_for("the record", SECONDS_5, || (records(&phones.server).len() as u64 > round).then_some(()));
        let (recorded, target) = (records(&phones.server), format!("{}", 3_000 + round));
        let forward = ["user", "forward", ALICE.user, "--busy", &target];
        assert!(phones.server.command(&forward, "").status.success());
        let process =
            Pid::from_raw(i32::try_from(phones.server.process().id()).expect("a small number")).expect("not 0");
        let adder = add_user_and_kill(&phones.server, round);
        let (acknowledge, acknowledged) = mpsc::channel();
        let killer = thread::spawn(move || {
            // Some registrations later, at another moment of one in each round.
            acknowledged.iter().take(usize::try_from(3 + round).expect("a few")).for_each(drop);
            thread::sleep(Duration::from_millis(7 * round));
            kill_process(process, Signal::KILL)
        });
        // What a dead server's port has said is not for the next.
        let _ = phones.socket.take_error();
        while next < PHONES && phones.register(next) {
            known.insert(Phones::user(next));
            let _ = acknowledge.send(());
            next += 1;
        }
        assert!(next < PHONES, "it was not killed in time");
        killer.join().expect("a thread of ours").expect("a child of ours");
        adder.join().expect("a thread of ours");
        phones.server.kill();
        phones.server.start();
        let found = registered(&phones.server);
        assert!(found.is_superset(&known), "forgotten: {:?}", known.difference(&found).collect::<Vec<_>>());
        assert!(records(&phones.server).is_superset(&recorded), "a record is gone");
        let users = phones.server.command(&["user", "list"], "");
        let users = String::from_utf8_lossy(&users.stdout).into_owned();
        assert!(users.contains(&target), "a setting is gone:\n{users}");
        // Whether the command was killed before or after: never a user without a password or an extension.
        let is_there = |text: String| users.contains(&text);
        assert_eq!(is_there(format!("late{round}")), is_there(format!("{}", 8_000 + round)), "by half:\n{users}");
    }
    assert!(known.len() > 10, "only {} registrations were acknowledged", known.len());
}

/// Goal: no call that anybody has seen answered is without a record, whenever the server is killed: neither one that goes on nor one
/// that has just ended. Method: calls whose telephones answer as fast as they can, and SIGKILL soon after.
#[test]
fn a_killed_server_has_a_record_of_every_call_that_was_answered() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    server.start();
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    for round in 0..ROUNDS {
        assert_eq!((alice.register(), bob.register()), (200, 200));
        let (_, b) = connect(&mut alice, &mut bob);
        thread::sleep(Duration::from_millis(5 * (round / 2)));
        let has_ended = round % 2 == 1;
        if has_ended {
            bob.hang_up(&b);
            alice.wait_bye();
        }
        kill_process(process_of(&mut server).expect("it runs"), Signal::KILL).expect("a child of ours");
        server.kill();
        server.start();
        let (_, page) = server.get("/v1/cdrs?limit=100").expect("the admin interface");
        let records: Vec<serde_json::Value> = serde_json::from_str(&page).expect("a list");
        assert_eq!(records.len() as u64, round + 1, "{page}");
        let newest = &records[0];
        assert_eq!((&newest["caller"], &newest["callee"]), (&ALICE.extension.into(), &BOB.extension.into()));
        let is_interrupted = newest["ended_by"] == "interrupted";
        assert!(is_interrupted || has_ended && newest["ended_by"] == "callee", "{newest}");
        if is_interrupted {
            assert!(newest["end_ms"].as_u64() >= newest["answer_ms"].as_u64() && newest["status"] == 500, "{newest}");
            assert!(server.process_text().contains("ended without notice during calls"));
        }
    }
    let listed = server.command(&["cdr", "list", "--format", "csv"], "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(",interrupted,500,"), "{listed:?}");
}

/// A command that adds a user, killed at another moment in each round.
fn add_user_and_kill(server: &Ringdown, round: u64) -> thread::JoinHandle<()> {
    let mut command = Command::new(BINARY);
    command.args(["user", "add", &format!("late{round}"), "--extension", &format!("{}", 8_000 + round), "--config"]);
    command.arg(server.config()).current_dir(server.dir());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    thread::spawn(move || {
        let mut child = command.spawn().expect("the binary of this package");
        thread::sleep(Duration::from_millis(15 * round));
        let _ = child.kill();
        let _ = child.wait();
    })
}

/// A server in a call between Alice and Bob, whose disk then takes nothing more until `mend`.
struct FailingDisk {
    server: Ringdown,
}

impl FailingDisk {
    /// Goal: calls go on, phones are answered, health is red, the log is clear, and what was to be written is written when the
    /// disk is back.
    fn holds(self, fail: impl Fn(&mut Ringdown), mend: impl Fn(&mut Ringdown)) {
        let Self { mut server } = self;
        let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
        assert_eq!((alice.register(), bob.register()), (200, 200));
        let (call_id, cseq) = alice.invite(BOB.extension);
        let b = bob.answer();
        let a = alice.answered(&call_id, cseq);
        fail(&mut server);
        assert_eq!(alice.register(), 200, "a telephone waits for a disk that fails");
        server.process().wait_log("The store fails; calls go on", SECONDS_5);
        alice.speak(&a, 20);
        bob.speak(&b, 20);
        assert!(bob.hear() > 10 && alice.hear() > 10, "the call is cut");
        bob.hang_up(&b);
        alice.wait_bye();
        let (call_id, cseq) = bob.invite(ALICE.extension);
        let a = alice.answer();
        bob.answered(&call_id, cseq);
        alice.hang_up(&a);
        bob.wait_bye();
        let health = wait_for("both records to wait", SECONDS_5, || {
            let (status, page) = server.get("/health")?;
            (status == 503 && page.contains("\"cdrs_waiting\":2")).then_some(page)
        });
        assert!(health.contains("\"store\":false") && health.contains("\"cdrs_lost\":0"), "{health}");
        let (_, metrics) = server.get("/metrics").expect("the admin interface");
        for line in [
            "ringdown_store_healthy 0",
            "ringdown_store_waiting{kind=\"cdrs\"} 2",
            "ringdown_store_lost_total{kind=\"cdrs\"} 0",
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
        let said = server.process().text().matches("The store fails; calls go on").count();
        assert_eq!(said, 1, "said again at every try");
        mend(&mut server);
        server.process().wait_log("The store works again", SECONDS_5);
        wait_for("health", SECONDS_5, || (server.get("/health")?.0 == 200).then_some(()));
        assert_eq!(records(&server).len(), 2);
        assert!(registered(&server).contains(ALICE.user));
    }
}

fn process_of(server: &mut Ringdown) -> Option<Pid> {
    Pid::from_raw(i32::try_from(server.process().id()).expect("a small number"))
}

/// Goal: a disk that takes no write at all, as one that the kernel has made read-only after an error. Method: the limit of file
/// sizes of the running process, which stops every write to a file.
#[test]
fn a_disk_that_takes_nothing_any_more_ends_no_call_and_loses_no_record() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    // Its log is no file of its own.
    let mut command = Command::new("bash");
    command.args(["-c", "exec \"$0\" run --config ringdown.toml > >(exec cat) 2>&1", BINARY]);
    server.start_by(command);
    let limit = |current| {
        move |server: &mut Ringdown| {
            let process = process_of(server);
            let maximum =
                prlimit(process, Resource::Fsize, Rlimit { current, maximum: None }).map(|before| before.maximum);
            assert_eq!(maximum.expect("a process of ours"), None);
        }
    };
    FailingDisk { server }.holds(limit(Some(0)), limit(None));
}

/// The same with a real disk that is really full: a small one in memory, in a mount namespace of the server's own.
#[test]
fn a_full_disk_ends_no_call_and_loses_no_record() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    let script = "mkdir state.full && cp -a state/. state.full && mount -t tmpfs -o size=3m,mode=700 none state && \
                  cp -a state.full/. state && exec \"$0\" run --config ringdown.toml";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, BINARY]);
    server.start_by(command);
    let filler = |server: &mut Ringdown| {
        let id = server.process().id();
        Path::new(&format!("/proc/{id}/root"))
            .join(server.state_dir().strip_prefix("/").expect("an absolute path"))
            .join("filler")
    };
    let fill = move |server: &mut Ringdown| {
        let error = fs::write(filler(server), vec![0; 4 << 20]).expect_err("the disk is small");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    };
    let empty = move |server: &mut Ringdown| fs::remove_file(filler(server)).expect("it was made");
    FailingDisk { server }.holds(fill, empty);
}

/// Goal: a server does not start where it could keep nothing, and says why.
#[test]
fn a_server_whose_disk_is_read_only_at_the_start_says_so_and_ends() {
    let server = Ringdown::configured("preferred", COMPANY);
    server.add_user(&ALICE);
    let script = "mount --bind state state && mount -o remount,bind,ro state && exec \"$0\" run --config ringdown.toml";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, BINARY]);
    let mut process = Process::start("read-only", command, server.dir(), Stdio::null());
    let status = process.wait_exit(Duration::from_secs(10));
    let text = process.text();
    assert_eq!(status.code(), Some(74), "{text}");
    assert!(text.contains("Read-only file system") && text.contains("state"), "{text}");
}

/// Goal: whatever the wall clock does, timers, nonces, registrations and records of the running server do not care. Method:
/// the C library's wall clock is moved under it (libfaketime), years ahead and back again, in the middle of a call.
#[test]
fn a_wall_clock_that_jumps_moves_no_timer_no_registration_and_no_record() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    for account in [ALICE, BOB] {
        server.add_user(&account);
    }
    let clock = server.state_dir().join("clock");
    let set = |offset: &str| fs::write(&clock, offset).expect("a writable folder");
    set("+0");
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(server.config());
    command.env("LD_PRELOAD", libfaketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
    command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_DISABLE_SHM", "1")]);
    server.start_by(command);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    let began = Instant::now();
    for offset in ["+3y", "-9y", "+0"] {
        let (a, b) = connect(&mut alice, &mut bob);
        set(offset);
        alice.speak(&a, 20);
        bob.speak(&b, 20);
        assert!(bob.hear() > 10 && alice.hear() > 10, "the call is cut");
        assert_eq!((alice.register(), bob.register()), (200, 200), "a registration cannot be refreshed");
        assert_eq!(registered(&server).len(), 2);
        bob.hang_up(&b);
        alice.wait_bye();
    }
    // The log shows the wall clock, so it shows whether the clock has really moved.
    let log = server.process_text();
    let has_year =
        |years: [i64; 2]| years.iter().any(|year| log.lines().any(|line| line.starts_with(&format!("{year}-"))));
    let this = i64::try_from(1970 + now_ms() / 31_556_952_000).expect("a year");
    assert!(has_year([this + 2, this + 3]) && has_year([this - 9, this - 8]), "the clock has not moved:\n{log}");
    let seconds = began.elapsed().as_secs();
    let (_, page) = wait_for("three records", SECONDS_5, || {
        server.get("/v1/cdrs").filter(|(_, page)| page.matches("\"start_ms\"").count() == 3)
    });
    let records: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    for record in records.as_array().expect("a list") {
        let ms = |key: &str| record[key].as_u64().expect("a number");
        assert!(ms("end_ms") >= ms("start_ms") && ms("end_ms") - ms("start_ms") <= 1_000 * (seconds + 1), "{record}");
        assert!(ms("start_ms").abs_diff(now_ms()) < 3_600_000, "{record}");
    }
}

/// By the clock of the tests, since 1970.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("not yet")
}

fn libfaketime() -> std::path::PathBuf {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .into_iter()
        .map(|machine| Path::new("/usr/lib").join(machine).join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists());
    found.expect("tests/run installs faketime")
}
