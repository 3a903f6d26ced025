//! The contenders, each a process of its own on a loopback address of its own.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{sipp, wait_for};

/// Where SIPp calls from, as a trunk, and where it answers and registers, as devices.
pub(crate) const TRUNK: IpAddr = ip(2);
pub(crate) const DEVICES: IpAddr = ip(3);
pub(crate) const USERS: u32 = 500;
pub(crate) const PASSWORD: &str = "a-password-of-ordinary-length";
const ADMIN_PORT: u16 = 8080;
/// 64*T1, after which no transaction is left, and some more.
const REST: Duration = Duration::from_secs(60);

const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, last))
}

/// Extension and direct line of a user.
pub(crate) fn numbers(user: u32) -> (u32, String) {
    let extension = 1_000 + user;
    (extension, format!("+1202555{extension}"))
}

pub(crate) fn is_installed(program: &str) -> bool {
    let look = format!("PATH=$PATH:/usr/sbin command -v {program}");
    let found = Command::new("sh").args(["-c", &look]).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// What SIPp registers at.
pub(crate) trait Server {
    fn ip(&self) -> IpAddr;
    fn folder(&self) -> &Path;
    /// CPU time so far.
    fn cpu(&self) -> Duration;
}

/// A process that ends with its owner.
pub(crate) struct Process(Child);

impl Process {
    /// Its words go to `FOLDER/NAME.log`.
    pub(crate) fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap_or_else(|e| panic!("{name}: {e}")))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Of every thread of these processes, as the scheduler counts it.
fn cpu_of(processes: &[u32]) -> Duration {
    let tasks = processes.iter().flat_map(|id| fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten());
    let spent = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    spent.sum()
}

pub(crate) struct Ringdown {
    process: Process,
    folder: PathBuf,
}

/// What must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leftovers {
    calls: String,
    media_legs: String,
    descriptors: usize,
}

impl Ringdown {
    pub(crate) fn start(folder: &Path) -> Self {
        let binary = env!("CARGO_BIN_EXE_ringdown");
        fs::write(folder.join("ringdown.toml"), config()).unwrap();
        fs::write(folder.join("users.csv"), users()).unwrap();
        sipp::write_accounts(folder);
        let mut import = Command::new(binary);
        import.args(["user", "import", "users.csv", "--config", "ringdown.toml"]).current_dir(folder);
        let output = import.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut run = Command::new(binary);
        run.args(["run", "--config", "ringdown.toml"]);
        let server = Self { process: Process::start(run, folder, "ringdown"), folder: folder.to_owned() };
        wait_for("ringdown to be ready", Duration::from_secs(20), || server.get("/ready").is_some());
        server
    }

    pub(crate) fn leftovers(&self) -> Leftovers {
        Leftovers {
            calls: self.get("/v1/calls").unwrap(),
            media_legs: self.metric("ringdown_media_legs_live"),
            descriptors: fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count(),
        }
    }

    /// Waits until nothing is left, and the process sleeps.
    pub(crate) fn wait_idle(&self, rested: &Leftovers) {
        wait_for("the calls to leave nothing", REST, || self.leftovers() == *rested);
        wait_for("the last timer", REST, || {
            let before = self.cpu();
            std::thread::sleep(Duration::from_secs(1));
            // The questions of a second, and no transaction that is still to be ended.
            self.cpu() - before < Duration::from_millis(2)
        });
        let log = fs::read_to_string(self.folder.join("ringdown.log")).unwrap();
        assert!(!log.contains("ERROR ringdown::shell::store"), "a record is lost: {log}");
    }

    fn metric(&self, name: &str) -> String {
        let text = self.get("/metrics").unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// The body of an admin page; `None` unless its status is 200.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((self.ip(), ADMIN_PORT)).ok()?;
        let token = fs::read_to_string(self.folder.join("state/admin.token")).ok()?;
        let host = self.ip();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.strip_prefix("HTTP/1.1 200")?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }
}

impl Server for Ringdown {
    fn ip(&self) -> IpAddr {
        ip(1)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn cpu(&self) -> Duration {
        cpu_of(&[self.process.id()])
    }
}

fn config() -> String {
    let own = ip(1);
    format!(
        "[server]\ndomain = \"{own}\"\nstate_dir = \"state\"\n[sip]\nudp = [\"{own}:5060\"]\ntcp = []\ntls = []\n\
         [media]\naddresses = [\"{own}\"]\nports = \"10000-19999\"\nworkers = 1\nload_max_percent = 100\nencryption = \"preferred\"\n\
         [admin]\nlisten = \"{own}:{ADMIN_PORT}\"\n[log]\nlevel = \"warn\"\n\
         [company]\nname = \"Example Corp\"\nregion = \"US\"\n\
         [trunk.carrier]\nhost = \"{TRUNK}\"\nport = 5060\ntransport = \"udp\"\nencryption = \"off\"\npstn = false\n"
    )
}

fn users() -> String {
    let mut rows = "user,password,extension,direct_line\n".to_owned();
    for user in 0..USERS {
        let (extension, line) = numbers(user);
        writeln!(rows, "{extension},{PASSWORD},{extension},{line}").unwrap();
    }
    rows
}

pub(crate) struct Kamailio {
    process: Process,
    folder: PathBuf,
}

impl Kamailio {
    pub(crate) fn start(folder: &Path) -> Self {
        let text = include_str!("registrar.cfg").replace("@OWN@", &ip(9).to_string()).replace("@PASSWORD@", PASSWORD);
        fs::write(folder.join("kamailio.cfg"), text).unwrap();
        let mut command = Command::new("sh");
        let run = "PATH=$PATH:/usr/sbin exec kamailio -DD -E -m 128 -f kamailio.cfg -Y . -P kamailio.pid";
        command.args(["-c", run]);
        let server = Self { process: Process::start(command, folder, "kamailio"), folder: folder.to_owned() };
        // It forks, and binds before that.
        wait_for("kamailio to listen", Duration::from_secs(10), || server.processes().len() > 2);
        std::thread::sleep(Duration::from_secs(1));
        server
    }

    /// The first process and its children.
    fn processes(&self) -> Vec<u32> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
    }
}

impl Server for Kamailio {
    fn ip(&self) -> IpAddr {
        ip(9)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.processes())
    }
}
