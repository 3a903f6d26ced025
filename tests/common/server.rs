//! The real `ringdown` binary on a loopback address of its own, with a state folder that ends with the test.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    namespace::inside,
    process::{Process, fresh_ip, wait_for},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ringdown");
pub(crate) const SIP_PORT: u16 = 5060;
pub(crate) const TLS_PORT: u16 = 5061;
const ADMIN_PORT: u16 = 8080;

/// Extension of a user and what it says to prove itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) user: &'static str,
    pub(crate) extension: &'static str,
    pub(crate) direct_line: &'static str,
    pub(crate) password: &'static str,
}

pub(crate) const ALICE: Account =
    Account { user: "alice", extension: "2001", direct_line: "+12025550101", password: "alice-password-canary-7f3a" };

pub(crate) const BOB: Account =
    Account { user: "bob", extension: "2002", direct_line: "+12025550102", password: "bob-password-canary-91c4" };

/// Writes a secret that nobody else may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("a writable folder");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("a file of ours");
}

/// A configuration and its state folder; the server itself may run or not.
pub(crate) struct Ringdown {
    pub(crate) ip: IpAddr,
    /// Where its admin interface is.
    admin: IpAddr,
    /// The network it lives in, if not ours.
    namespace: Option<String>,
    dir: TempDir,
    process: Option<Process>,
}

impl Ringdown {
    /// Writes a configuration for an address of its own. `more`: further tables. `encryption`: of devices.
    pub(crate) fn configured(encryption: &str, more: &str) -> Self {
        let ip = fresh_ip();
        let media = format!("addresses = [\"{ip}\"]\nworkers = 1\nencryption = \"{encryption}\"\n");
        Self::with(ip, ip, None, &media, more)
    }

    /// The same for a network of its own, in which it has this address. `media`: the keys of that table but for the ports.
    pub(crate) fn inside(namespace: &str, ip: IpAddr, media: &str, more: &str) -> Self {
        Self::with(ip, Ipv4Addr::LOCALHOST.into(), Some(namespace.to_owned()), media, more)
    }

    fn with(ip: IpAddr, admin: IpAddr, namespace: Option<String>, media: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = format!(
            "[server]\ndomain = \"{ip}\"\nstate_dir = \"{}\"\n\
             [sip]\nudp = [\"{ip}:{SIP_PORT}\"]\ntcp = [\"{ip}:{SIP_PORT}\"]\ntls = [\"{ip}:{TLS_PORT}\"]\n\
             [media]\nports = \"20000-20999\"\n{media}\
             [admin]\nlisten = \"{admin}:{ADMIN_PORT}\"\n[log]\nlevel = \"trace\"\n\
             [privacy]\nsandbox = \"best-effort\"\n{more}\n",
            dir.path().join("state").display(),
        );
        fs::write(dir.path().join("ringdown.toml"), text).expect("a writable folder");
        Self { ip, admin, namespace, dir, process: None }
    }

    /// With users, running and ready.
    pub(crate) fn started(encryption: &str, more: &str, accounts: &[Account]) -> Self {
        let mut server = Self::configured(encryption, more);
        for account in accounts {
            server.add_user(account);
        }
        server.start();
        server
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The CA that phones must trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.state_dir().join("tls/ca.pem")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("ringdown.toml")
    }

    /// `ringdown ARGUMENTS --config FILE` with `input` on standard input, to its end.
    pub(crate) fn command(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .binary()
            .args(arguments)
            .arg("--config")
            .arg(self.config())
            .current_dir(self.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary of this package");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).ok();
        child.wait_with_output().expect("a child of ours")
    }

    /// In the network where the server lives.
    fn binary(&self) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(BINARY) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, BINARY]);
        command
    }

    pub(crate) fn add_user(&self, account: &Account) {
        let Account { user, extension, direct_line, password } = account;
        let arguments =
            ["user", "add", user, "--extension", extension, "--direct-line", direct_line, "--password-stdin"];
        let output = self.command(&arguments, &format!("{password}\n"));
        assert!(output.status.success(), "user add: {output:?}");
    }

    /// Starts the server and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(&mut self, environment: &[(&str, &Path)]) {
        let mut command = self.binary();
        command.args(["run", "--config"]).arg(self.config()).envs(environment.iter().copied());
        self.start_by(command);
    }

    /// The same by this command, which becomes the server.
    pub(crate) fn start_by(&mut self, command: Command) {
        let mut process = Process::start("ringdown", command, self.dir.path(), Stdio::null());
        wait_for("ringdown to be ready", Duration::from_secs(20), || {
            assert!(!process.has_ended(), "ringdown ended:\n{}", process.text());
            (self.get("/ready")?.0 == 200).then_some(())
        });
        self.process = Some(process);
    }

    pub(crate) const fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server was started")
    }

    /// Everything the running server wrote.
    pub(crate) fn process_text(&self) -> String {
        self.process.as_ref().map(Process::text).unwrap_or_default()
    }

    /// Ends it without waiting for anything it may still want to do.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("the server was started");
        process.signal(rustix::process::Signal::KILL);
        process.wait_exit(Duration::from_secs(5));
    }

    pub(crate) fn sip(&self) -> SocketAddr {
        SocketAddr::new(self.ip, SIP_PORT)
    }

    /// What this machine's operator shows to the admin interface.
    pub(crate) fn operator_token(&self) -> String {
        let token = self.state_dir().join("admin.token");
        // A server may have a state folder that it alone sees.
        let seen = self.process.as_ref().and_then(|process| {
            let root = PathBuf::from(format!("/proc/{}/root", process.id()));
            fs::read_to_string(root.join(token.strip_prefix("/").expect("an absolute path"))).ok()
        });
        seen.or_else(|| fs::read_to_string(&token).ok()).unwrap_or_default()
    }

    /// Status and body of an admin page; `None` while nobody listens.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        match &self.namespace {
            None => self.get_here(path),
            Some(namespace) => inside(namespace, || self.get_here(path)),
        }
    }

    fn get_here(&self, path: &str) -> Option<(u16, String)> {
        let token = self.operator_token();
        let mut stream = TcpStream::connect((self.admin, ADMIN_PORT)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n",
            self.admin
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Waits until the admin interface shows no call.
    pub(crate) fn wait_no_calls(&self) {
        wait_for("the last call to end", Duration::from_secs(10), || {
            let (status, body) = self.get("/v1/calls")?;
            let calls: serde_json::Value = serde_json::from_str(&body).ok()?;
            (status == 200 && calls.as_array().is_some_and(Vec::is_empty)).then_some(())
        });
    }
}
