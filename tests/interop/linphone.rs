//! Drives linphonec 5.1 (Debian package `linphone-cli`): commands on standard input, states read from its debug log,
//! because the console drops messages that come before its prompt.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    common::{
        process::{Process, fresh_ip, wait_for},
        server::{Account, Ringdown, SIP_PORT, TLS_PORT},
    },
    tone,
};

/// How one linphone is set up; always with SDES required.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) account: Account,
    /// `udp`, `tcp` or `tls`.
    pub(crate) transport: &'a str,
    pub(crate) hz: u32,
    pub(crate) answers: bool,
    /// The CA it trusts in the place of the server's own.
    pub(crate) ca: Option<&'a Path>,
    /// More lines of its section `[sip]`, each with its end.
    pub(crate) sip: &'a str,
}

impl<'a> Setup<'a> {
    pub(crate) const fn new(account: Account, hz: u32, answers: bool) -> Self {
        Self { account, transport: "tls", hz, answers, ca: None, sip: "" }
    }
}

pub(crate) struct Linphone {
    process: Process,
    dir: PathBuf,
    domain: String,
    /// Bytes of its debug log that are of no interest any more.
    seen: usize,
}

impl Linphone {
    /// Over TLS; started and registered.
    pub(crate) fn start(server: &Ringdown, account: &Account, hz: u32, answers: bool) -> Self {
        Self::start_as(server, &Setup::new(*account, hz, answers))
    }

    /// Started and registered.
    pub(crate) fn start_as(server: &Ringdown, setup: &Setup<'_>) -> Self {
        let phone = Self::launch(server, setup);
        phone.wait_debug("to [LinphoneRegistrationOk]");
        phone
    }

    /// Started, with its registration under way.
    pub(crate) fn launch(server: &Ringdown, setup: &Setup<'_>) -> Self {
        crate::need("linphonec", "linphone-cli");
        let account = &setup.account;
        let dir = server.dir().join(format!("linphone-{}", account.user));
        fs::create_dir_all(dir.join(".local/share/linphone")).expect("a fresh folder");
        tone::write_wav(&dir.join("tone.wav"), setup.hz, 60).expect("a writable folder");
        fs::write(dir.join("rc"), config(server, setup)).expect("a writable folder");
        let mut command = Command::new("linphonec");
        command.env("HOME", &dir).arg("-c").arg(dir.join("rc")).args(["-d", "5", "-l"]).arg(dir.join("debug"));
        let mut process = Process::start(&format!("linphone-{}", account.user), command, &dir, Stdio::piped());
        process.wait_log("linphonec> ", Duration::from_secs(15));
        let mut phone = Self { process, dir, domain: server.ip.to_string(), seen: 0 };
        phone.say("ipv6 disable");
        phone.say("soundcard use files");
        let (play, record) = (phone.dir.join("tone.wav"), phone.dir.join("rx.wav"));
        thread::spawn({
            let dir = phone.dir.clone();
            move || name_recordings(&dir)
        });
        phone.say(&format!("play {}", play.display()));
        phone.say(&format!("record {}", record.display()));
        if setup.answers {
            phone.say("autoanswer enable");
        }
        phone
    }

    pub(crate) fn dial(&mut self, number: &str) {
        let line = format!("call sip:{number}@{}", self.domain);
        self.say(&line);
    }

    pub(crate) fn hang_up(&mut self) {
        self.say("terminate");
    }

    pub(crate) fn answer(&mut self) {
        self.say("answer");
    }

    pub(crate) fn pause(&mut self) {
        self.say("pause");
        self.wait_debug("to LinphoneCallPaused\n");
    }

    pub(crate) fn resume(&mut self) {
        self.say("resume");
    }

    /// Sends the other end of its only call to a number.
    pub(crate) fn transfer(&mut self, number: &str) {
        let line = format!("transfer sip:{number}@{}", self.domain);
        self.say(&line);
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: char) {
        self.say(&key.to_string());
    }

    /// Waits for it to show a key that the other end pressed.
    pub(crate) fn wait_key(&mut self, key: char) {
        self.process.wait_log(&format!("Receiving tone {key} from"), Duration::from_secs(20));
    }

    /// What it logged so far answers no wait any more.
    pub(crate) fn forget(&mut self) {
        self.seen = self.debug().len();
    }

    /// Brings the other ends of its first and its second call together.
    pub(crate) fn join(&mut self) {
        self.say("transfer 1 --to-call 2");
    }

    pub(crate) fn wait_established(&self) {
        self.wait_debug("to LinphoneCallStreamsRunning");
    }

    /// Both calls that were joined are over for it.
    pub(crate) fn wait_transferred(&self) {
        self.wait_debug("to LinphoneCallReleased");
    }

    /// Everything it logged, SIP messages included.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.debug()).into_owned()
    }

    /// What it heard, in order: one recording for each time that a stream started, after a hold for instance.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        (0..).map(|n| recording(&self.dir, n)).take_while(|path| path.exists()).collect()
    }

    /// What it heard last.
    pub(crate) fn recording(&self) -> PathBuf {
        self.recordings().pop().unwrap_or_else(|| self.dir.join("no-recording.wav"))
    }

    fn say(&mut self, line: &str) {
        let input = self.process.stdin().expect("it is piped");
        writeln!(input, "{line}").expect("linphonec listens");
        // It reads one command at a time and forgets what comes too early.
        thread::sleep(Duration::from_millis(100));
    }

    /// Waits until this stands in its debug log, after what it was told to forget.
    pub(crate) fn wait_debug(&self, text: &str) {
        wait_for(&format!("linphonec's {text:?}"), Duration::from_secs(20), || {
            String::from_utf8_lossy(self.debug().get(self.seen..)?).contains(text).then_some(())
        });
    }

    fn debug(&self) -> Vec<u8> {
        fs::read(self.dir.join("debug")).unwrap_or_default()
    }
}

fn recording(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("rx-{n}.wav"))
}

/// Gives each recording a name of its own as soon as it is begun, until the folder is gone: it would append the next one at
/// another rate.
fn name_recordings(dir: &Path) {
    let mut n = 0;
    while dir.exists() {
        n += usize::from(fs::rename(dir.join("rx.wav"), recording(dir, n)).is_ok());
        thread::sleep(Duration::from_millis(10));
    }
}

fn config(server: &Ringdown, setup: &Setup<'_>) -> String {
    let (ip, domain, own_ca) = (fresh_ip(), server.ip, server.ca());
    let Account { user, password, .. } = setup.account;
    let Setup { transport, sip, .. } = setup;
    let ca = setup.ca.unwrap_or(&own_ca);
    let port = |name| if name == *transport { 5060 } else { 0 };
    let (udp, tcp, tls) = (port("udp"), port("tcp"), port("tls"));
    let at = if *transport == "tls" { TLS_PORT } else { SIP_PORT };
    let proxy = format!("sip:{domain}:{at};transport={transport}");
    // A recording has the codec's rate, and only 8 kHz are judged. Codecs that are not named are used.
    let others =
        [("opus", 48_000, 2), ("speex", 16_000, 1), ("speex", 8_000, 1), ("PCMA", 8_000, 1), ("G729", 8_000, 1)];
    let codec = |(n, (mime, rate, channels))| {
        format!("\n[audio_codec_{}]\nmime={mime}\nrate={rate}\nchannels={channels}\nenabled=0\n", n + 1)
    };
    let unused: String = others.into_iter().enumerate().map(codec).collect();
    // It binds RTP to every address, and two that share a port take each other's packets: the system chooses one.
    // Its TLS library does not match addresses in a certificate: the chain is checked, the name is not.
    format!(
        "[sip]\nsip_port={udp}\nsip_tcp_port={tcp}\nsip_tls_port={tls}\nbind_address={ip}\ncontact=sip:{user}@{ip}\n\
         media_encryption=srtp\nmedia_encryption_mandatory=1\ndefault_proxy=0\nguess_hostname=0\nuse_ipv6=0\n\
         root_ca={ca}\nverify_server_certs=1\nverify_server_cn=0\nregister_only_when_network_is_up=0\n\
         ping_with_options=0\ndns_srv_enabled=0\n{sip}\n[net]\nfirewall_policy=0\n\n\
         [rtp]\naudio_rtp_port=-1\naudio_rtp_addr={ip}\n\n[sound]\nechocancellation=0\n\n[video]\nenabled=0\n\n\
         [auth_info_0]\nusername={user}\npasswd={password}\n\n\
         [proxy_0]\nreg_proxy=<{proxy}>\nreg_route=<{proxy}>\nreg_identity=sip:{user}@{domain}\nreg_expires=300\n\
         reg_sendregister=1\npublish=0\nquality_reporting_enabled=0\n\n\
         [audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n{unused}",
        ca = ca.display(),
    )
}
