//! Child processes that never outlive their test: each leads a process group of its own, writes to a log file, and is
//! ended by its process id.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

const POLL: Duration = Duration::from_millis(20);

/// A loopback address that no other test uses: all of 127/8 is this host, so ports need not be looked for.
pub(crate) fn fresh_ip() -> IpAddr {
    static USED: AtomicU16 = AtomicU16::new(0);
    let n = USED.fetch_add(1, Ordering::Relaxed);
    assert!(n < 2 * 253, "more than 506 loopback addresses in one test binary");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [half, last] = [n / 253, n % 253 + 1].map(|part| u8::try_from(part).expect("it was divided"));
    // 127.0.x.y and 127.1.x.y hold what other programs use.
    IpAddr::V4(Ipv4Addr::new(127, 2 + 125 * half + high % 125, low, last))
}

/// Waits until `probe` gives something; panics with `what` after `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        thread::sleep(POLL);
    }
}

pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in `dir` with standard output and error in `dir/NAME.log`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path, stdin: Stdio) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log).expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command
            .current_dir(dir)
            .env("LC_ALL", "C")
            .stdin(stdin)
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} could not be started: {e}"));
        Self { name: name.to_owned(), child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) const fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Everything it wrote so far.
    pub(crate) fn text(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `text` stands in the log.
    pub(crate) fn wait_log(&mut self, text: &str, limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let log = self.text();
            if log.contains(text) {
                return;
            }
            let ended = self.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "{} ended with {ended:?} before it wrote {text:?}:\n{log}", self.name);
            assert!(Instant::now() < end, "{} did not write {text:?} within {limit:?}:\n{log}", self.name);
            thread::sleep(POLL);
        }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    pub(crate) fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < end, "{} did not end within {limit:?}:\n{}", self.name, self.text());
            thread::sleep(POLL);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child of ours lives or waits to be reaped");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    /// Politely first; then the whole group, so that nothing the child started stays.
    fn drop(&mut self) {
        if thread::panicking() {
            let text = self.text();
            let from = text.char_indices().rev().nth(3_000).map_or(0, |(i, _)| i);
            eprintln!("--- {}:\n{}", self.name, &text[from..]);
        }
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = kill_process_group(self.pid(), Signal::TERM);
            let end = Instant::now() + Duration::from_secs(2);
            while self.child.try_wait().ok().flatten().is_none() && Instant::now() < end {
                thread::sleep(POLL);
            }
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
