//! What the kernel keeps a running server from doing, as `/proc` and the server's own behaviour show it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    COMPANY, SECONDS_5, call,
    common::{
        process::{Process, wait_for},
        server::{ALICE, BINARY, BOB, Ringdown},
    },
    is_media_thread,
    phone::Phone,
    started,
};

/// What `/proc` says of each thread: its name, and a field of its status.
fn of_threads(process: u32, field: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process of ours").flatten();
    tasks
        .map(|task| {
            let name = fs::read_to_string(task.path().join("comm")).expect("a thread of ours").trim().to_owned();
            (name, field_of(&task.path().join("status"), field))
        })
        .collect()
}

fn field_of(status: &Path, field: &str) -> String {
    let text = fs::read_to_string(status).expect("a process of ours");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {}", status.display())).trim().to_owned()
}

fn sandbox_of(health: &str) -> Value {
    serde_json::from_str::<Value>(health).expect("JSON")["sandbox"].clone()
}

#[test]
fn every_thread_is_confined_and_media_threads_have_a_filter_of_their_own() {
    let mut server = started(&[ALICE, BOB]);
    let id = server.process().id();
    for (name, value) in of_threads(id, "NoNewPrivs") {
        assert_eq!(value, "1", "{name} could gain privileges");
    }
    for (name, mode) in of_threads(id, "Seccomp") {
        assert_eq!(mode, "2", "{name} is under no filter");
    }
    let filters: Vec<(bool, u32)> = of_threads(id, "Seccomp_filters")
        .iter()
        .map(|(name, count)| (is_media_thread(name), count.parse().expect("a number")))
        .collect();
    let of = |media| filters.iter().filter(move |(is_media, _)| *is_media == media).map(|(_, count)| *count);
    let of_process = of(false).max().expect("the core's");
    assert!(of(true).count() > 0 && of(true).all(|count| count > of_process), "{filters:?}");

    let (status, health) = server.get("/health").expect("the admin interface");
    let sandbox = sandbox_of(&health);
    assert_eq!(status, 200);
    for measure in ["files", "dumps", "calls", "media_descriptors", "media_files", "media_calls"] {
        assert_eq!(sandbox[measure], Value::Bool(true), "{measure} in {health}");
    }
    let locked = field_of(Path::new(&format!("/proc/{id}/status")), "VmLck");
    assert_eq!(sandbox["memory"], Value::Bool(!locked.starts_with("0 ")), "{locked} are locked: {health}");

    // All that a call needs is left.
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call(&mut alice, &mut bob);
}

/// What the open descriptors of a thread lead to.
fn descriptors_of(task: &Path) -> BTreeSet<String> {
    let links = fs::read_dir(task.join("fd")).expect("root may look").flatten();
    links.filter_map(|link| Some(fs::read_link(link.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// Goal: a media thread could send what it hears to nothing of the process's, whatever that has open. Method: `/proc`, during
/// a call. The table of a process that cannot be dumped is open to root alone.
#[test]
fn a_media_thread_has_descriptors_of_its_own_and_shares_one_socket_with_the_others() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut server = started(&[ALICE, BOB]);
    let (mut alice, mut bob) = (Phone::new(&server, ALICE), Phone::new(&server, BOB));
    assert_eq!((alice.register(), bob.register()), (200, 200));
    call(&mut alice, &mut bob);
    let process = PathBuf::from(format!("/proc/{}", server.process().id()));
    let of_process = descriptors_of(&process);
    assert!(of_process.iter().any(|target| target.ends_with("ringdown.db")), "{of_process:?}");
    let tasks = fs::read_dir(process.join("task")).expect("a process of ours").flatten().map(|task| task.path());
    let is_media = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| is_media_thread(&name));
    let media: Vec<_> = tasks.filter(is_media).collect();
    assert!(!media.is_empty());
    for task in media {
        let own = descriptors_of(&task);
        let kinds = ["socket:", "pipe:", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"];
        assert!(own.iter().all(|target| kinds.iter().any(|kind| target.starts_with(kind))), "{own:?}");
        // Its notices to the core.
        let shared: Vec<_> = own.intersection(&of_process).filter(|t| !t.starts_with("anon_inode:")).collect();
        assert!(shared.len() == 1 && shared[0].starts_with("socket:"), "{shared:?}");
        let sockets = own.iter().filter(|target| target.starts_with("socket:")).count();
        assert!(sockets > 1, "its ports: {own:?}");
    }
}

/// Goal: Landlock holds for the server as it runs, whatever it says of itself. Method: one of its own files becomes a link
/// to another that its user may read, and is taken into use.
#[test]
fn a_running_server_cannot_read_what_is_not_its_own() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    server.start();
    let dir = server.dir().to_owned();
    let path = |name: &str| dir.join(name);
    for folder in ["own", "foreign"] {
        fs::create_dir(path(folder)).expect("a writable folder");
    }
    for name in ["server.pem", "server.key"] {
        for folder in ["own", "foreign"] {
            fs::copy(server.state_dir().join("tls").join(name), path(folder).join(name)).expect("a writable folder");
        }
    }
    let text = fs::read_to_string(server.config()).expect("it was written");
    let tls = "[tls]\ncertificate = \"own/server.pem\"\nkey = \"own/server.key\"\n";
    server.kill();
    let config = path("ringdown.toml");
    fs::write(&config, text + tls).expect("a writable folder");
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(&config);
    let mut process = Process::start("confined", command, server.dir(), Stdio::null());
    process.wait_log("ready\n", Duration::from_secs(20));
    process.signal(Signal::HUP);
    process.wait_log("The certificates were reloaded.", SECONDS_5);
    fs::remove_file(path("own/server.key")).expect("it was copied");
    symlink(path("foreign/server.key"), path("own/server.key")).expect("a writable folder");
    process.signal(Signal::HUP);
    process.wait_log("The certificates cannot be reloaded", SECONDS_5);
    assert!(process.text().contains("Permission denied"), "{}", process.text());
}

/// Goal: renewal works under the sandbox, and whoever keeps certificates where it does not is told. Method: `check` with a
/// certificate in a folder of its own, and with the same one in the folder of temporary files.
#[test]
fn a_certificate_among_other_files_is_named_since_its_successor_could_not_be_read() {
    let mut server = Ringdown::configured("preferred", COMPANY);
    server.start();
    server.kill();
    let text = fs::read_to_string(server.config()).expect("it was written");
    let shared = Path::new("/tmp").join(format!("ringdown-test-{}.pem", std::process::id()));
    fs::copy(server.state_dir().join("tls/server.pem"), &shared).expect("everybody may write there");
    for (certificate, is_warned) in [(server.state_dir().join("tls/server.pem"), false), (shared.clone(), true)] {
        let key = server.state_dir().join("tls/server.key");
        let tls = format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", certificate.display(), key.display());
        fs::write(server.config(), format!("{text}{tls}")).expect("a writable folder");
        let output = server.command(&["check"], "");
        let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(warnings.contains("lies in a folder with much else"), is_warned, "{warnings}");
        assert_eq!(warnings.contains("tls.certificate"), is_warned, "{warnings}");
    }
    fs::remove_file(shared).expect("a file of ours");
}

/// `arguments` of the binary, without the privilege to lock memory and with the limit that distributions ship.
fn with_little_locked_memory(arguments: &[&str], config: &Path) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { "setpriv" } else { "prlimit" });
    if is_root {
        command.args(["--bounding-set", "-ipc_lock,-sys_resource", "prlimit"]);
    }
    command.args(["--memlock=65536:65536", BINARY]).args(arguments).arg("--config").arg(config);
    command
}

#[test]
fn a_low_limit_of_locked_memory_stops_the_server_or_is_named_as_the_operator_wishes() {
    let server = Ringdown::configured("preferred", COMPANY);
    let best_effort = fs::read_to_string(server.config()).expect("it was written");
    let required = best_effort.replace("sandbox = \"best-effort\"", "sandbox = \"required\"");
    assert_ne!(best_effort, required);
    fs::write(server.config(), required).expect("a writable folder");
    for command in ["run", "check"] {
        let output = with_little_locked_memory(&[command], &server.config())
            .current_dir(server.dir())
            .output()
            .expect("util-linux");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{command}: {text}");
        for wanted in ["memory:", "RLIMIT_MEMLOCK allows 64 KiB", "LimitMEMLOCK=infinity", "best-effort"] {
            assert!(text.contains(wanted), "{command}: {wanted} is not in:\n{text}");
        }
    }
    fs::write(server.config(), best_effort).expect("a writable folder");
    let output =
        with_little_locked_memory(&["check"], &server.config()).current_dir(server.dir()).output().expect("util-linux");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("SANDBOX INCOMPLETE: memory: "), "{output:?}");
    let command = with_little_locked_memory(&["run"], &server.config());
    let mut process = Process::start("unlocked", command, server.dir(), Stdio::null());
    let health = wait_for("health", Duration::from_secs(20), || Some(server.get("/health")?.1));
    assert_eq!(sandbox_of(&health)["memory"], Value::Bool(false), "{health}");
    process.wait_log("SANDBOX INCOMPLETE: memory: ", SECONDS_5);
}
