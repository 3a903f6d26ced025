//! Drives baresip 1.0 (Debian package `baresip-core`) without screen or sound card: a tone from a file is its microphone,
//! a recording its loudspeaker, and a TCP socket its keyboard.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    common::{
        process::{Process, fresh_ip, wait_for},
        server::{Account, Ringdown, TLS_PORT},
    },
    tone,
};

const MODULES: &str = "/usr/lib/baresip/modules";
const CONTROL_PORT: u16 = 4444;
/// How long it may take to show something.
const PATIENCE: Duration = Duration::from_secs(20);

/// How one baresip is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) account: Account,
    /// `udp`, `tcp` or `tls`.
    pub(crate) transport: &'a str,
    pub(crate) hz: u32,
    pub(crate) answers: bool,
    /// The CA it is given. This version loads it and checks nothing: linphone does.
    pub(crate) ca: Option<&'a Path>,
    /// `srtp-mand`, or `srtp`: SRTP where the other side offers it in a plain profile (RFC 8643).
    pub(crate) encryption: &'a str,
    /// Asks for its mailbox. This version's module for it now and then subscribes without end as it starts, deaf to
    /// everything else, so only the test that needs it loads it.
    pub(crate) subscribes: bool,
}

impl<'a> Setup<'a> {
    /// SDES over UDP.
    pub(crate) const fn new(account: Account, hz: u32, answers: bool) -> Self {
        Self { account, transport: "udp", hz, answers, ca: None, encryption: "srtp-mand", subscribes: false }
    }

    pub(crate) const fn over(mut self, transport: &'a str, ca: Option<&'a Path>) -> Self {
        self.transport = transport;
        self.ca = ca;
        self
    }
}

pub(crate) struct Baresip {
    process: Process,
    control: TcpStream,
    events: Arc<Mutex<Vec<Value>>>,
    dir: PathBuf,
    domain: IpAddr,
}

impl Baresip {
    /// Started and registered.
    pub(crate) fn start(server: &Ringdown, setup: &Setup<'_>) -> Self {
        let mut phone = Self::launch(server, setup);
        phone.process.wait_log("200 OK", Duration::from_secs(15));
        phone
    }

    /// Started, with its registration under way.
    pub(crate) fn launch(server: &Ringdown, setup: &Setup<'_>) -> Self {
        crate::need("baresip", "baresip-core");
        let ip = fresh_ip();
        let dir = server.dir().join(format!("baresip-{}-{ip}", setup.account.user));
        fs::create_dir(&dir).expect("a fresh folder");
        tone::write_wav(&dir.join("tone.wav"), setup.hz, 60).expect("a writable folder");
        fs::write(dir.join("config"), config(&dir, ip, setup)).expect("a writable folder");
        fs::write(dir.join("accounts"), account(server.ip, setup)).expect("a writable folder");
        fs::write(dir.join("contacts"), "").expect("a writable folder");
        let mut command = Command::new("baresip");
        command.arg("-f").arg(&dir).args(["-v", "-s"]);
        let name = format!("baresip-{}", setup.account.user);
        // Standard input must not be a terminal.
        let mut process = Process::start(&name, command, &dir, Stdio::null());
        process.wait_log("baresip is ready", Duration::from_secs(10));
        let control = TcpStream::connect((ip, CONTROL_PORT)).expect("its control socket");
        let events = Arc::default();
        let reader = control.try_clone().expect("a second handle");
        thread::spawn({
            let events = Arc::clone(&events);
            move || read_events(reader, &events)
        });
        Self { process, control, events, dir, domain: server.ip }
    }

    pub(crate) fn dial(&mut self, number: &str) {
        let uri = format!("sip:{number}@{}", self.domain);
        self.command("dial", &uri);
    }

    pub(crate) fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    pub(crate) fn answer(&mut self) {
        self.command("accept", "");
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: char) {
        self.command("sndcode", &key.to_string());
    }

    /// Waits for it to have shown, this often, a key that the other end pressed.
    pub(crate) fn wait_key(&self, key: char, times: usize) {
        let is_it = |event: &&Value| event["type"] == "CALL_DTMF_START" && event["param"] == key.to_string();
        wait_for(&format!("baresip's key {key}, {times} times"), PATIENCE, || {
            (self.with_events(|events| events.iter().filter(is_it).count()) >= times).then_some(())
        });
    }

    /// What it told so far answers no wait any more.
    pub(crate) fn forget(&mut self) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn hold(&mut self) {
        self.command("hold", "");
    }

    pub(crate) fn resume(&mut self) {
        self.command("resume", "");
    }

    /// Transfers the other end of the call, which it puts on hold first.
    pub(crate) fn transfer(&mut self, number: &str) {
        let uri = format!("sip:{number}@{}", self.domain);
        self.command("transfer", &uri);
    }

    pub(crate) fn wait_incoming(&self) {
        self.wait_event("CALL_INCOMING");
    }

    pub(crate) fn wait_established(&self) {
        self.wait_event("CALL_ESTABLISHED");
    }

    /// Why the call ended, as baresip tells it.
    pub(crate) fn wait_closed(&self) -> String {
        self.wait_event("CALL_CLOSED")
    }

    /// Whether any call ever reached it.
    pub(crate) fn was_called(&self) -> bool {
        self.with_events(|events| events.iter().any(|e| e["type"] == "CALL_INCOMING"))
    }

    /// Everything it printed, SIP messages included.
    pub(crate) fn log(&self) -> String {
        self.process.text()
    }

    /// Waits for it to print this.
    pub(crate) fn wait_log(&mut self, text: &str) {
        self.process.wait_log(text, Duration::from_secs(15));
    }

    /// Waits until its figures, three seconds from now, show that it receives speech. What does not verify is not counted.
    pub(crate) fn wait_receiving(&self) {
        let (start, _) = self.received().expect("a call");
        wait_for("speech to be received", PATIENCE, || {
            let (second, bits) = self.received()?;
            (second >= start + 3 && bits > 40_000).then_some(())
        });
    }

    /// The second of its call and the bits of audio received in one, as it showed them last:
    /// `[0:00:08] audio=51626/51200 (bit/s)`, sent first.
    fn received(&self) -> Option<(u32, u32)> {
        let log = self.log();
        let (before, shown) = log.rsplit_once("] audio=")?;
        let mut clock = before.rsplit_once('[')?.1.split(':').map(|part| part.parse::<u32>());
        let second = clock.try_fold(0, |sum, part| Some(sum * 60 + part.ok()?))?;
        let bits = shown.split_once(" (bit/s)")?.0.split_once('/')?.1.parse().ok()?;
        Some((second, bits))
    }

    /// What it heard in each call. It stops recording at the first hold and does not begin again.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.dir).expect("its folder").flatten().map(|f| f.path());
        let mut found: Vec<_> = files.filter(|f| f.to_string_lossy().ends_with("-dec.wav")).collect();
        // Their names begin with the time.
        found.sort();
        found
    }

    /// What it heard in its last call.
    pub(crate) fn recording(&self) -> PathBuf {
        self.recordings().pop().unwrap_or_else(|| self.dir.join("no-recording.wav"))
    }

    fn command(&mut self, name: &str, params: &str) {
        let text = serde_json::json!({ "command": name, "params": params, "token": name }).to_string();
        // A netstring: length, colon, text, comma.
        write!(self.control, "{}:{text},", text.len()).expect("baresip listens");
    }

    fn wait_event(&self, kind: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let find = |kind: &str| {
                self.with_events(|events| {
                    let event = events.iter().find(|e| e["type"] == kind)?;
                    Some(event["param"].as_str().unwrap_or_default().to_owned())
                })
            };
            if let Some(param) = find(kind) {
                return param;
            }
            if let Some(reason) = find("CALL_CLOSED") {
                panic!("the call was closed ({reason}) before {kind}");
            }
            assert!(Instant::now() < end, "no {kind} within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn with_events<T>(&self, read: impl FnOnce(&[Value]) -> T) -> T {
        read(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn config(dir: &Path, ip: IpAddr, setup: &Setup<'_>) -> String {
    let modules: String =
        ["g711", "aufile", "aubridge", "sndfile", "srtp"].into_iter().map(|m| format!("module {m}.so\n")).collect();
    let mailbox = if setup.subscribes { "module_app mwi.so\n" } else { "" };
    let ca = setup.ca.map_or_else(String::new, |path| format!("sip_cafile {}\n", path.display()));
    let dir = dir.display();
    // The file source has no player of its own: a bridge that leads nowhere plays, and `sndfile` records.
    // RTP ports are bound on every address, so the range is wide and apart from everybody else's.
    format!(
        "poll_method epoll\nsip_listen {ip}:5060\n{ca}call_local_timeout 60\ncall_max_calls 8\n\
         audio_player aubridge,sink\naudio_source aufile,{dir}/tone.wav\naudio_alert aubridge,alert\n\
         ausrc_format s16\nauplay_format s16\nauenc_format s16\naudec_format s16\naudio_buffer 20-160\n\
         rtp_ports 21000-32000\nrtcp_mux no\njitter_buffer_delay 1-10\nnet_interface {ip}\n\
         module_path {MODULES}\n{modules}\
         module_tmp account.so\nmodule_app menu.so\n{mailbox}module_app debug_cmd.so\nmodule_app ctrl_tcp.so\n\
         ctrl_tcp_listen {ip}:{CONTROL_PORT}\nsnd_path {dir}\n"
    )
}

fn account(server: IpAddr, setup: &Setup<'_>) -> String {
    let Setup { account, transport, encryption, .. } = setup;
    let port = if *transport == "tls" { TLS_PORT } else { crate::common::server::SIP_PORT };
    let outbound = SocketAddr::new(server, port);
    let mode = if setup.answers { "auto" } else { "manual" };
    format!(
        "<sip:{user}@{server};transport={transport}>;auth_user={user};auth_pass={password};\
         outbound=\"sip:{outbound};transport={transport}\";regint=300;answermode={mode};\
         audio_codecs=PCMU/8000;mediaenc={encryption}\n",
        user = account.user,
        password = account.password,
    )
}

/// Reads netstrings of JSON until the socket closes.
fn read_events(mut socket: TcpStream, events: &Mutex<Vec<Value>>) {
    let (mut buffer, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = socket.read(&mut piece) {
        buffer.extend_from_slice(&piece[..n]);
        while let Some((message, rest)) = cut_netstring(&buffer) {
            let event = serde_json::from_slice::<Value>(message).ok().filter(|v| v["event"] == true);
            let rest = rest.to_vec();
            events.lock().unwrap_or_else(PoisonError::into_inner).extend(event);
            buffer = rest;
        }
    }
}

/// The first complete netstring and what follows it.
fn cut_netstring(buffer: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = buffer.iter().position(|b| *b == b':')?;
    let len: usize = std::str::from_utf8(&buffer[..colon]).ok()?.parse().ok()?;
    let message = buffer.get(colon + 1..colon + 1 + len)?;
    buffer.get(colon + 1 + len + 1..).map(|rest| (message, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring_is_cut_only_when_it_is_complete() {
        assert_eq!(cut_netstring(b"5:hello,3:you,"), Some((b"hello".as_slice(), b"3:you,".as_slice())));
        assert_eq!(cut_netstring(b"5:hello"), None);
        assert_eq!(cut_netstring(b"5"), None);
    }
}
