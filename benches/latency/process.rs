//! The server's process as the kernel shows it, and the server of this package.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Of the server that is started, and of its telephones.
pub(crate) const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 1));
pub(crate) const TELEPHONES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 2));
const SIP_PORT: u16 = 5060;
const TLS_PORT: u16 = 5061;
const ADMIN_PORT: u16 = 8080;
pub(crate) const MEDIA_PORTS: RangeInclusive<u16> = 10_000..=59_999;
const PASSWORD: &str = "a-password-of-ordinary-length";
/// Of the times in `/proc/PID/stat` (`proc_pid_stat(5)`, `USER_HZ`).
const TICKS_PER_S: u32 = 100;
const START: Duration = Duration::from_secs(60);

/// What a process has, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) descriptors: u64,
    /// UDP ports on the server's address.
    pub(crate) ports: usize,
    pub(crate) resident_bytes: u64,
}

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// User and kernel time of all threads, ended ones included (`proc_pid_stat(5)`).
    pub(crate) fn cpu(self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_secs(1) * u32::try_from(ticks(11) + ticks(12)).unwrap() / TICKS_PER_S
    }

    pub(crate) fn held(self, address: IpAddr) -> Held {
        let folder = format!("/proc/{}/fd", self.0);
        // The folder of a process that cannot be dumped is open to root alone; its size is the number (proc(5)).
        let size = || fs::metadata(&folder).map_or(0, |metadata| metadata.len());
        let descriptors = fs::read_dir(&folder).map_or_else(|_| size(), |entries| entries.count() as u64);
        Held { descriptors, ports: udp_ports(address), resident_bytes: self.resident_bytes() }
    }

    pub(crate) fn resident_bytes(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
        line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
    }
}

/// Bound on this address, by whomever.
fn udp_ports(address: IpAddr) -> usize {
    let (file, text) = match address {
        IpAddr::V4(ip) => ("/proc/net/udp", format!("{:08X}", u32::from_ne_bytes(ip.octets()))),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let word = |word: &[u8]| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap()));
            ("/proc/net/udp6", words.chunks(4).map(word).collect())
        }
    };
    let table = fs::read_to_string(file).unwrap_or_default();
    let local = |line: &str| line.split_whitespace().nth(1).is_some_and(|field| field.starts_with(&text));
    table.lines().skip(1).filter(|line| local(line)).count()
}

/// The server of this package, with as many users as are wanted.
pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// `more`: further tables of its configuration.
    pub(crate) fn start(binary: Option<&Path>, users: usize, more: &str) -> Result<Self, String> {
        let binary = binary.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_ringdown")));
        let binary = fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        // Its answers would be taken for those of the one that is started.
        if page("/ready").is_some() {
            return Err(format!("another server runs on {OWN}; its measurement must end first"));
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        fs::write(folder.path().join("ringdown.toml"), config(more)).map_err(|error| error.to_string())?;
        fs::write(folder.path().join("users.csv"), csv(users)).map_err(|error| error.to_string())?;
        let command = |arguments: &[&str]| {
            let mut command = Command::new(&binary);
            command.args(arguments).args(["--config", "ringdown.toml"]).current_dir(folder.path()).stdin(Stdio::null());
            command
        };
        let import = command(&["user", "import", "users.csv"]).output().map_err(|error| error.to_string())?;
        if !import.status.success() {
            return Err(format!("{}: {}", binary.display(), String::from_utf8_lossy(&import.stderr)));
        }
        let log = fs::File::create(folder.path().join("ringdown.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = command(&["run"]).stdout(log).stderr(errors).spawn().map_err(|error| error.to_string())?;
        let mut server = Self { child, folder };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + START;
        while page("/ready").is_none() {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > end {
                let log = fs::read_to_string(self.folder.path().join("ringdown.log")).unwrap_or_default();
                return Err(format!("the server does not start:\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub(crate) fn address(is_tls: bool) -> SocketAddr {
        SocketAddr::new(OWN, if is_tls { TLS_PORT } else { SIP_PORT })
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("state/tls/ca.pem")
    }

    /// Packets lost because the server's sockets were full, and of everything else that it has dropped: as it counts.
    pub(crate) fn drops() -> Vec<(String, u64)> {
        let text = page("/metrics").unwrap_or_default();
        let dropped = text.lines().filter_map(|line| line.strip_prefix("ringdown_dropped_total{reason=\""));
        let pairs = dropped.filter_map(|rest| rest.split_once("\"} "));
        pairs.filter_map(|(reason, count)| Some((reason.to_owned(), count.parse().ok()?))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The body of an admin page; `None` unless its status is 200.
fn page(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((OWN, ADMIN_PORT)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {OWN}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.strip_prefix("HTTP/1.1 200")?.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn config(more: &str) -> String {
    format!(
        "[server]\ndomain = \"{OWN}\"\nstate_dir = \"state\"\n[sip]\nudp = [\"{OWN}:{SIP_PORT}\"]\n\
         tcp = [\"{OWN}:{SIP_PORT}\"]\ntls = [\"{OWN}:{TLS_PORT}\"]\n[media]\naddresses = [\"{OWN}\"]\n\
         ports = \"{}-{}\"\n[admin]\nlisten = \"{OWN}:{ADMIN_PORT}\"\n[log]\nlevel = \"warn\"\n\
         [privacy]\nsandbox = \"best-effort\"\n[company]\nname = \"Example Corp\"\nregion = \"US\"\n{more}",
        MEDIA_PORTS.start(),
        MEDIA_PORTS.end()
    )
}

/// Name and password of each user.
pub(crate) fn accounts(users: usize) -> Vec<(String, String)> {
    (0..users).map(|user| ((1_000_000 + user).to_string(), PASSWORD.to_owned())).collect()
}

fn csv(users: usize) -> String {
    let mut rows = "user,password,extension\n".to_owned();
    for (name, password) in accounts(users) {
        writeln!(rows, "{name},{password},{name}").unwrap();
    }
    rows
}
