//! The server that is looked into: this binary as a process of its own, started as an operator starts it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    config::{self, Config},
    shell::{
        admin::client::Client,
        clock::Clock,
        failure::Failure,
        files,
        selftest::{LOOPBACK, device::Registrar},
        tls::Tls,
        toml_text::quoted,
    },
    types::Secret,
};

use super::taken::Taken;

/// A name that exists nowhere (RFC 6761).
pub(super) const DOMAIN: &str = "prove.invalid";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// It waits 30 s for calls when it ends, and there are none.
const END_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

pub(super) struct Server {
    child: Child,
    folder: PathBuf,
    tls: SocketAddr,
    admin: SocketAddr,
    pub(super) config: Config,
    pub(super) accounts: Vec<(String, Secret<String>)>,
}

impl Server {
    /// In a folder of its own, with media ports that nobody uses.
    pub(super) fn start(folder: &Path, ports: &RangeInclusive<u16>, taken: &Taken) -> Result<Self, Failure> {
        make_certificate(folder)?;
        let config_file = folder.join("conf/ringdown.toml");
        let text = configuration(folder, ports, taken);
        write(&config_file, text.as_bytes())?;
        let (config, _) = config::parse(&text).expect("a configuration of our own");
        let log = files::create(&folder.join("server.log")).map_err(|e| unusable(folder, &e))?;
        let program = std::env::current_exe().map_err(|e| Failure::Internal(format!("where is this program? {e}.")))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(config_file).current_dir(folder);
        // What it says is for its parent.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let child = child.map_err(|e| Failure::Internal(format!("the server cannot be started: {e}.")))?;
        let nowhere = SocketAddr::new(LOOPBACK, 0);
        let (folder, accounts) = (folder.to_owned(), Vec::new());
        let mut server = Self { child, folder, tls: nowhere, admin: nowhere, config, accounts };
        server.read_greeting()?;
        Ok(server)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// As its phones know it.
    pub(super) fn registrar(&self) -> Registrar {
        Registrar { tls: self.tls, ca_file: self.folder.join("own/tls/ca.pem"), domain: DOMAIN.to_owned() }
    }

    /// The body of an admin page.
    pub(super) fn page(&self, path: &str) -> Result<String, String> {
        let server = Client::new(self.admin, &self.state_dir()).map_err(|failure| failure.to_string())?;
        match server.get(path)? {
            (200, body) => Ok(body),
            (status, _) => Err(format!("{path} answers {status}")),
        }
    }

    pub(super) fn log(&self) -> Vec<u8> {
        fs::read(self.log_file()).unwrap_or_default()
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Makes its key file a link to another file that its user may read, and lets it read its certificate again.
    pub(super) fn be_led_astray(&self) -> Result<(), String> {
        let (own, foreign) = (self.folder.join("own/tls/server.key"), self.folder.join("foreign/server.key"));
        let moved = fs::rename(&own, &foreign).and_then(|()| std::os::unix::fs::symlink(&foreign, &own));
        moved.map_err(|e| format!("{}: {e}", own.display()))?;
        self.signal(Signal::HUP)
    }

    /// Ends as by an operator; afterwards all that it keeps is on disk.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        match wait_for(END_TIMEOUT, || self.child.try_wait().ok().flatten()).await {
            Some(status) if ExitStatus::success(&status) => Ok(()),
            Some(status) => Err(format!("the server has ended with {status}")),
            None => Err("the server does not end".to_owned()),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), signal).map_err(|e| format!("the server is gone: {e}"))
    }

    /// What the first start tells an operator: where it listens, and two users with their passwords.
    fn read_greeting(&mut self) -> Result<(), Failure> {
        let output = self.child.stdout.take().expect("it is piped");
        let (lines, heard) = channel();
        // Ends with the server, which `Drop` ends.
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let clock = Clock::start();
        let deadline = clock.now() + START_TIMEOUT;
        loop {
            let Ok(line) = heard.recv_timeout(deadline.since(clock.now())) else {
                let log = String::from_utf8_lossy(&self.log()).into_owned();
                return Err(Failure::Internal(format!("The server does not start. It says:\n{log}")));
            };
            if line == "ready" {
                return Ok(());
            }
            self.hear(&line);
        }
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["listening", "on", "tls", address] => self.tls = address.parse().unwrap_or(self.tls),
            ["admin", "API", "on", url] => {
                self.admin = url.trim_start_matches("http://").parse().unwrap_or(self.admin);
            }
            ["user", name, "password", password] => {
                self.accounts.push((name.to_owned(), Secret::new(password.to_owned())));
            }
            _ => {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, where nothing came in between.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whatever `probe` gives within `limit`.
pub(super) async fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let clock = Clock::start();
    let deadline = clock.now() + limit;
    loop {
        let found = probe();
        if found.is_some() || clock.now() >= deadline {
            return found;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// By the CA that a server makes for itself, in a folder beside the server's own.
fn make_certificate(folder: &Path) -> Result<(), Failure> {
    for name in ["conf", "foreign"] {
        files::create_folder(&folder.join(name)).map_err(|e| unusable(folder, &e))?;
    }
    let text = format!(
        "[server]\ndomain = {}\nstate_dir = {}\n[company]\nname = \"Prove\"\nregion = \"US\"\n",
        quoted(DOMAIN),
        in_folder(folder, "own"),
    );
    let (config, _) = config::parse(&text).expect("a configuration of our own");
    Tls::load(Clock::start().now(), &config).map(drop)
}

fn configuration(folder: &Path, ports: &RangeInclusive<u16>, taken: &Taken) -> String {
    let [(_, privacy), (_, media), (_, log)] = taken.keys();
    let any_port = quoted(&SocketAddr::new(LOOPBACK, 0).to_string());
    format!(
        "[server]\ndomain = {}\nstate_dir = {}\n\
         [sip]\nudp = []\ntcp = []\ntls = [{any_port}]\n\
         [tls]\ncertificate = {}\nkey = {}\n\
         [media]\naddresses = [{}]\nports = {}\n{media}\n\
         [company]\nname = \"Prove\"\nregion = \"US\"\n\
         [admin]\nlisten = {any_port}\n\
         [privacy]\n{privacy}\n\
         [log]\nlevel = \"trace\"\n{log}\n",
        quoted(DOMAIN),
        in_folder(folder, "state"),
        in_folder(folder, "own/tls/server.pem"),
        in_folder(folder, "own/tls/server.key"),
        quoted(&LOOPBACK.to_string()),
        quoted(&format!("{}-{}", ports.start(), ports.end())),
    )
}

fn in_folder(folder: &Path, name: &str) -> String {
    quoted(&folder.join(name).to_string_lossy())
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    files::write(path, content).map_err(|e| unusable(path, &e))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Store(format!("{}: {error}. Set TMPDIR to a folder to write to.", path.display()))
}
