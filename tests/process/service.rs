//! The server as a service: what the service manager is told, what it takes away, and the package that brings both.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        ptrace,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::{
    SECONDS_5,
    common::{
        process::wait_for,
        server::{BINARY, Ringdown},
    },
};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/ringdown.service");

/// What a service manager would hear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a writable folder");
        socket.set_nonblocking(true).expect("a socket of ours");
        Self { socket, path }
    }

    fn next(&self) -> Option<String> {
        let mut buffer = [0; 1024];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }

    fn wait(&self, what: &str) {
        wait_for(what, Duration::from_secs(20), || self.next().filter(|text| text.contains(what)).map(drop));
    }

    /// Forgets what it was told so far, and listens for several times the watchdog's time.
    fn is_told_of_life(&self) -> bool {
        while self.next().is_some() {}
        thread::sleep(Duration::from_secs(3));
        std::iter::from_fn(|| self.next()).any(|text| text.contains("WATCHDOG=1"))
    }
}

/// Threads of a process that stand still until this is dropped.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn new(process: u32, is_meant: impl Fn(&str) -> bool) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a process of ours").flatten();
        let meant = tasks.filter(|task| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            is_meant(name.trim())
        });
        let threads: Vec<Pid> = meant
            .map(|task| Pid::from_raw(task.file_name().to_string_lossy().parse().expect("the number of a thread")))
            .collect();
        assert!(!threads.is_empty(), "no such thread");
        for thread in &threads {
            ptrace::seize(*thread, ptrace::Options::empty()).expect("root may");
            ptrace::interrupt(*thread).expect("it was seized");
            waitpid(*thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        }
        Self(threads)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for thread in &self.0 {
            let _ = ptrace::detach(*thread, None);
        }
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT TESTED: only root may stop a thread of a process that cannot be dumped.");
    }
    is_root
}

/// Goal: the watchdog is fed by nobody who would do so for a thread that hangs. Method: the threads of a running server are
/// stopped one by one, as a debugger stops them.
#[test]
fn the_watchdog_is_fed_while_signalling_and_every_media_worker_turn_and_no_longer() {
    if !is_root() {
        return;
    }
    let mut server = Ringdown::configured("preferred", crate::COMPANY);
    let manager = Manager::listen(server.dir());
    server.start_with(&[("NOTIFY_SOCKET", &manager.path), ("WATCHDOG_USEC", Path::new("1000000"))]);
    manager.wait("READY=1");
    manager.wait("WATCHDOG=1");
    let process = server.process().id();
    let health = |server: &Ringdown| server.get("/health").expect("the admin interface");

    let stopped = Stopped::new(process, |name| name == "media-0");
    server.process().wait_log("Media workers do not answer", Duration::from_secs(20));
    assert!(!manager.is_told_of_life(), "a stuck media worker goes unnoticed");
    let (status, page) = health(&server);
    assert!(status == 503 && page.contains("\"media\":false"), "{page}");
    drop(stopped);
    manager.wait("WATCHDOG=1");
    server.process().wait_log("Every media worker answers again", SECONDS_5);
    assert_eq!(health(&server).0, 200);

    let stopped = Stopped::new(process, |name| !crate::is_media_thread(name) && name != "store");
    assert!(!manager.is_told_of_life(), "stuck signalling goes unnoticed");
    drop(stopped);
    manager.wait("WATCHDOG=1");
    assert_eq!(health(&server).0, 200);
}

#[test]
fn every_directive_of_the_unit_has_its_comment_and_the_exposure_is_at_most_one_and_a_half() {
    let unit = fs::read_to_string(UNIT).expect("the unit");
    let (_, service) = unit.split_once("\n[Service]\n").expect("a service");
    let (service, _) = service.split_once("\n[Install]\n").expect("an installation");
    let lines: Vec<&str> = service.lines().collect();
    for pair in lines.windows(2) {
        let is_directive = pair[1].split_once('=').is_some_and(|(key, _)| key.chars().all(char::is_alphanumeric));
        assert!(!is_directive || pair[0].starts_with('#'), "no comment before {}", pair[1]);
    }
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=15", UNIT];
    let output = Command::new("systemd-analyze").args(arguments).output().expect("tests/run installs systemd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Overall exposure level"), "{text}");
}

/// Goal: no password stands in the journal, which many may read. Method: the first start as a service, and with standard
/// output as what a journal is known by; a start whose output is another than the one that is named is a person's.
#[test]
fn a_first_start_whose_output_a_service_manager_keeps_makes_no_user_and_says_how() {
    let journal = |named: &str| format!("JOURNAL_STREAM=$(stat -L -c %d:%i {named}) exec \"$0\" run --config \"$1\"");
    for (shell, users) in [
        (format!("NOTIFY_SOCKET=/nowhere {}", journal("/proc/$$/fd/0")), 0),
        (journal("/proc/$$/fd/1"), 0),
        (journal("/proc/$$/fd/0"), 2),
    ] {
        let mut server = Ringdown::configured("preferred", crate::COMPANY);
        let mut command = Command::new("sh");
        command.args(["-c", &shell, BINARY]).arg(server.config());
        server.start_by(command);
        let list = server.command(&["user", "list"], "");
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert_eq!(list.matches("100").count(), users * 2, "{shell}: {list}");
        let text = server.process().text();
        assert_eq!(
            (text.contains("   password "), text.contains("ringdown user add")),
            (users > 0, users == 0),
            "{text}"
        );
    }
}

/// A system of its own that packages are installed into; what the package depends on is taken from this machine.
struct System {
    root: PathBuf,
}

impl System {
    fn new(folder: &Path) -> Self {
        let root = folder.join("root");
        for part in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(part)).expect("a writable folder");
        }
        fs::copy("/var/lib/dpkg/status", root.join("var/lib/dpkg/status")).expect("a Debian system");
        Self { root }
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(&self.root).args(["--force-not-root", "--force-script-chrootless"]);
        succeed(command.args(arguments).output())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn files(&self) -> Vec<PathBuf> {
        let database = self.path("var/lib/dpkg");
        crate::files(&self.root).into_iter().filter(|file| !file.starts_with(&database)).collect()
    }
}

fn succeed(output: std::io::Result<Output>) -> String {
    let output = output.expect("a program of this machine");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_debian_package_is_built_installed_upgraded_removed_and_purged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/package");
    let package = succeed(Command::new(script).arg(BINARY).arg(folder.path()).output());
    let package = package.trim();
    assert!(package.ends_with(".deb"), "{package}");

    let system = System::new(folder.path());
    let said = system.dpkg(&["--install", package]);
    assert!(said.contains("systemctl enable --now ringdown") && said.contains("ringdown user add"), "{said}");
    let version = succeed(Command::new(system.path("usr/bin/ringdown")).arg("version").output());
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let config = system.path("etc/ringdown/ringdown.toml");
    succeed(Command::new(system.path("usr/bin/ringdown")).args(["check", "--config"]).arg(&config).output());
    let text = fs::read_to_string(&config).expect("the configuration");
    assert!(text.contains("state_dir = \"/var/lib/ringdown\"") && text.contains("sandbox = \"required\""), "{text}");

    // The key is root's alone, and an upgrade keeps it.
    let key = system.path("etc/ringdown/seal.key");
    let made = fs::read(&key).expect("the key");
    assert_eq!((made.len(), fs::metadata(&key).expect("the key").permissions().mode() & 0o777), (32, 0o600));
    assert!(text.contains("\nseal_key = \"/etc/ringdown/seal.key\"\n"), "{text}");

    // What the unit names is there.
    let unit = fs::read_to_string(system.path("usr/lib/systemd/system/ringdown.service")).expect("the unit");
    let named = unit.lines().filter(|line| line.starts_with("Exec")).filter_map(|line| line.split_once("/usr/bin/"));
    let named = named.map(|(_, rest)| rest);
    let programs: Vec<_> = named.filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(programs, ["ringdown", "ringdown"]);
    for page in ["ringdown", "ringdown-run", "ringdown-user-add"] {
        let page = system.path(&format!("usr/share/man/man1/{page}.1.gz"));
        assert!(succeed(Command::new("zcat").arg(&page).output()).contains(".SH NAME"), "{}", page.display());
    }
    let bash = "source \"$1\" && complete -p ringdown";
    let bash = Command::new("bash")
        .args(["-c", bash, "bash"])
        .arg(system.path("usr/share/bash-completion/completions/ringdown"))
        .output();
    assert!(succeed(bash).contains("ringdown"));

    // The operator's changes and the server's state outlast an upgrade and a removal.
    fs::write(&config, format!("{text}\n# ours\n")).expect("a writable folder");
    let state = system.path("var/lib/private/ringdown/ringdown.db");
    fs::create_dir_all(state.parent().expect("a folder")).expect("a writable folder");
    fs::write(&state, "users").expect("a writable folder");
    let said = system.dpkg(&["--install", package]);
    assert!(said.contains("systemctl restart ringdown"), "{said}");
    assert_eq!(fs::read(&key).expect("the key"), made);
    system.dpkg(&["--remove", "ringdown"]);
    assert!(!system.path("usr/bin/ringdown").exists());
    assert!(fs::read_to_string(&config).expect("it is kept").ends_with("# ours\n") && state.exists());
    system.dpkg(&["--purge", "ringdown"]);
    assert_eq!(system.files(), Vec::<PathBuf>::new());
}
