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
        server::{Account, Ringdown, TLS_PORT},
    },
    tone,
};

pub(crate) struct Linphone {
    process: Process,
    dir: PathBuf,
    domain: String,
}

impl Linphone {
    /// Over TLS with SDES required, trusting the server's CA; started and registered.
    pub(crate) fn start(server: &Ringdown, account: &Account, hz: u32, answers: bool) -> Self {
        let phone = Self::launch(server, account, &server.ca(), hz, answers);
        phone.wait_debug("to [LinphoneRegistrationOk]");
        phone
    }

    /// Started, with its registration under way.
    pub(crate) fn launch(server: &Ringdown, account: &Account, ca: &Path, hz: u32, answers: bool) -> Self {
        crate::need("linphonec", "linphone-cli");
        let dir = server.dir().join(format!("linphone-{}", account.user));
        fs::create_dir_all(dir.join(".local/share/linphone")).expect("a fresh folder");
        tone::write_wav(&dir.join("tone.wav"), hz, 60).expect("a writable folder");
        fs::write(dir.join("rc"), config(server, account, ca)).expect("a writable folder");
        let mut command = Command::new("linphonec");
        command.env("HOME", &dir).arg("-c").arg(dir.join("rc")).args(["-d", "5", "-l"]).arg(dir.join("debug"));
        let mut process = Process::start(&format!("linphone-{}", account.user), command, &dir, Stdio::piped());
        process.wait_log("linphonec> ", Duration::from_secs(15));
        let mut phone = Self { process, dir, domain: server.ip.to_string() };
        phone.say("ipv6 disable");
        phone.say("soundcard use files");
        let (play, record) = (phone.dir.join("tone.wav"), phone.recording());
        phone.say(&format!("play {}", play.display()));
        phone.say(&format!("record {}", record.display()));
        if answers {
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

    pub(crate) fn pause(&mut self) {
        self.say("pause");
        self.wait_debug("to LinphoneCallPaused");
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
        String::from_utf8_lossy(&fs::read(self.dir.join("debug")).expect("its log")).into_owned()
    }

    pub(crate) fn recording(&self) -> PathBuf {
        self.dir.join("rx.wav")
    }

    fn say(&mut self, line: &str) {
        let input = self.process.stdin().expect("it is piped");
        writeln!(input, "{line}").expect("linphonec listens");
        // It reads one command at a time and forgets what comes too early.
        thread::sleep(Duration::from_millis(100));
    }

    fn wait_debug(&self, text: &str) {
        wait_for(&format!("linphonec's {text:?}"), Duration::from_secs(20), || {
            let log = fs::read(self.dir.join("debug")).ok()?;
            String::from_utf8_lossy(&log).contains(text).then_some(())
        });
    }
}

fn config(server: &Ringdown, account: &Account, ca: &Path) -> String {
    let (ip, domain) = (fresh_ip(), server.ip);
    let (user, password) = (account.user, account.password);
    let proxy = format!("sip:{domain}:{TLS_PORT};transport=tls");
    // It binds RTP to every address, and two that share a port take each other's packets: the system chooses one.
    // Its TLS library does not match addresses in a certificate: the chain is checked, the name is not.
    format!(
        "[sip]\nsip_port=0\nsip_tcp_port=0\nsip_tls_port=5061\nbind_address={ip}\ncontact=sip:{user}@{ip}\n\
         media_encryption=srtp\nmedia_encryption_mandatory=1\ndefault_proxy=0\nguess_hostname=0\nuse_ipv6=0\n\
         root_ca={ca}\nverify_server_certs=1\nverify_server_cn=0\nregister_only_when_network_is_up=0\n\
         ping_with_options=0\ndns_srv_enabled=0\n\n[net]\nfirewall_policy=0\n\n\
         [rtp]\naudio_rtp_port=-1\naudio_rtp_addr={ip}\n\n[sound]\nechocancellation=0\n\n[video]\nenabled=0\n\n\
         [auth_info_0]\nusername={user}\npasswd={password}\n\n\
         [proxy_0]\nreg_proxy=<{proxy}>\nreg_route=<{proxy}>\nreg_identity=sip:{user}@{domain}\nreg_expires=300\n\
         reg_sendregister=1\npublish=0\nquality_reporting_enabled=0\n\n\
         [audio_codec_0]\nmime=PCMU\nrate=8000\nchannels=1\nenabled=1\n",
        ca = ca.display(),
    )
}
