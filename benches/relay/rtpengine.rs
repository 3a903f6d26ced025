//! Debian's rtpengine, in user space, as one contender: AES-CM with long tags on one leg and short ones on the other, because with
//! equal suites it hands the keys through and re-encrypts nothing. It offers the callee the caller's suite with the caller's key,
//! and every other suite it knows with a key of its own; the callee takes that with short tags. The suite that the callee does not
//! take must not be excluded (`SDES-no-...`): it would be taken from the caller's offer as well, and the caller's leg be plain.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ringdown::wire::{
    sdp::inline_key,
    srtp::{MasterKey, Suite},
};

use crate::{
    load::{Devices, SAMPLED, SampleKeys, keys},
    relays::{LOCALHOST, Relay, free_ports, pin},
};

pub(crate) const NAME: &str = "rtpengine, AES-CM-128/80 to AES-CM-128/32";
/// Of the caller's and of the callee's leg.
pub(crate) const SUITES: [Suite; 2] = [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

pub(crate) struct Rtpengine {
    process: Child,
    devices: Arc<Devices>,
    ports: Vec<SocketAddr>,
    /// Those that it has offered.
    sample_keys: Option<SampleKeys>,
}

impl Rtpengine {
    /// `None` where it is not installed.
    pub(crate) fn start(devices: &Arc<Devices>) -> Option<Self> {
        let control = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let listens = UdpSocket::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let range = free_ports(4 * u16::try_from(devices.len()).unwrap());
        // A child starts on the cores of who starts it.
        pin(0);
        let mut command = Command::new("rtpengine");
        command.args(["--foreground", "--table=-1", "--num-threads=1", "--log-stderr", "--log-level=3"]);
        command.arg(format!("--interface={LOCALHOST}")).arg(format!("--listen-ng={listens}"));
        command.arg(format!("--port-min={}", range.start())).arg(format!("--port-max={}", range.end()));
        command.args(["--config-file=none", "--config-section=none"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().ok()?;
        let mut started = Self { process, devices: Arc::clone(devices), ports: Vec::new(), sample_keys: None };
        control.connect(listens).unwrap();
        control.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        started.wait_for_control(&control);
        for caller in (0..devices.len()).step_by(2) {
            started.connect(&control, caller);
        }
        Some(started)
    }

    fn wait_for_control(&mut self, control: &UdpSocket) {
        let give_up = Instant::now() + Duration::from_secs(10);
        // Before it listens, the question is refused.
        while control.send(b"0 d7:command4:pinge").and_then(|_| control.recv(&mut [0; 100])).is_err() {
            assert!(Instant::now() < give_up, "rtpengine does not answer");
            assert!(self.process.try_wait().unwrap().is_none(), "rtpengine has ended");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sets up the call of the devices `caller` and `caller + 1`.
    fn connect(&mut self, control: &UdpSocket, caller: usize) {
        let callee = caller + 1;
        let question = |command: &str, sdp: &str| {
            format!(
                "d4:DTLS3:off3:ICE6:remove{}{}{}{}{}{}{}18:transport-protocol8:RTP/SAVPe",
                "7:call-id",
                bencode(&format!("call-{caller}")),
                "7:command",
                bencode(command),
                "8:from-tag6:caller6:to-tag6:callee",
                "3:sdp",
                bencode(sdp),
            )
        };
        let to_callee = ask(control, &format!("offer-{caller}"), &question("offer", &self.sdp(caller, "1")));
        let line = crypto_line(&to_callee, SUITES[1]);
        let tag = line.split([':', ' ']).nth(1).expect("a tag");
        let to_caller = ask(control, &format!("answer-{caller}"), &question("answer", &self.sdp(callee, tag)));
        if [caller, callee] == SAMPLED {
            let lines = [crypto_line(&to_caller, SUITES[0]), line];
            self.sample_keys = Some([0, 1].map(|side| (SUITES[side], key_of(lines[side], SUITES[side]))));
        }
        // Where the caller sends to is in what the caller is told, and so for the callee.
        self.ports.extend([port_in(&to_caller), port_in(&to_callee)]);
    }

    fn sdp(&self, leg: usize, tag: &str) -> String {
        let suite = SUITES[leg % 2];
        let (address, key) = (self.devices.address(leg), inline_key(&keys(suite, leg).0));
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/SAVP 0\r\n\
             a=crypto:{tag} {name} inline:{key}\r\na=sendrecv\r\n",
            ip = address.ip(),
            port = address.port(),
            name = suite.name(),
            key = key.expose(),
        )
    }
}

impl Drop for Rtpengine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Relay for Rtpengine {
    fn name(&self) -> &str {
        NAME
    }

    fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// It counts for a call alone; what arrives was relayed, and only one contender works at a time.
    fn relayed(&self) -> u64 {
        self.devices.received()
    }

    fn cpu_ns(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap().flatten();
        let spent = |text: String| text.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        tasks.filter_map(|task| spent(fs::read_to_string(task.path().join("schedstat")).ok()?)).sum()
    }

    fn sample_keys(&self) -> Option<&SampleKeys> {
        self.sample_keys.as_ref()
    }
}

fn bencode(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// The session description of the reply. A second question with the same cookie would get the reply to the first.
fn ask(control: &UdpSocket, cookie: &str, question: &str) -> String {
    control.send(format!("{cookie} {question}").as_bytes()).unwrap();
    let mut reply = vec![0; 65_536];
    let len = control.recv(&mut reply).expect("rtpengine answers");
    let text = String::from_utf8_lossy(&reply[..len]).into_owned();
    let found = text.split_once("3:sdp").and_then(|(_, rest)| rest.split_once(':'));
    let sdp = found.and_then(|(len, rest)| rest.get(..len.parse().ok()?));
    sdp.unwrap_or_else(|| panic!("rtpengine refuses: {text}")).to_owned()
}

fn port_in(sdp: &str) -> SocketAddr {
    let port = sdp.split_once("m=audio ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    SocketAddr::new(LOCALHOST, port.expect("a port"))
}

fn crypto_line(sdp: &str, suite: Suite) -> &str {
    let line = sdp.lines().find(|line| line.starts_with("a=crypto:") && line.contains(suite.name()));
    line.unwrap_or_else(|| panic!("rtpengine does not offer {}: {sdp}", suite.name()))
}

fn key_of(line: &str, suite: Suite) -> MasterKey {
    let key = line.split_once("inline:").and_then(|(_, rest)| rest.split('|').next());
    let bytes = key.and_then(|key| STANDARD_NO_PAD.decode(key.trim_end().trim_end_matches('=')).ok());
    bytes.and_then(|bytes| MasterKey::new(suite, bytes)).expect("a whole key")
}
