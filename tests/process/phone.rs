//! The smallest SIP phone that can register and hold a call: one UDP socket for signalling, one for plain RTP.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringdown::wire::{
    rtp,
    sip::{Message, Method, Name, digest},
};

use crate::common::{
    process::fresh_ip,
    server::{Account, Ringdown},
};

/// Stands in every RTP payload.
pub(crate) const AUDIO_CANARY: &[u8] = b"AUDIO-CANARY-d41d8cd9";

const PATIENCE: Duration = Duration::from_secs(20);
/// A datagram may be lost (RFC 3261 section 17.1.1.1, T1).
const REPEAT_AFTER: Duration = Duration::from_millis(500);
/// Nothing more comes after this.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) struct Phone {
    account: Account,
    ip: IpAddr,
    server: SocketAddr,
    /// The server's own, whatever address the phone reaches it by.
    domain: IpAddr,
    sip: UdpSocket,
    pub(crate) rtp: UdpSocket,
    cseq: u32,
    branches: u32,
    /// The first answer to an INVITE, if it was no challenge.
    first_answer: Option<Message>,
    /// An `a=crypto` line to offer and to answer with.
    crypto: &'static str,
    /// The last request, or 200 to an INVITE, which has no answer yet, and when it is sent again.
    unanswered: RefCell<Option<(Vec<u8>, Instant)>>,
    /// What proved who it is or protects its calls: digest responses, and keys that the server gave it.
    secrets: RefCell<Vec<String>>,
}

/// One end of a call that is up.
pub(crate) struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    pub(crate) media: SocketAddr,
    /// What the server said of its media.
    pub(crate) sdp: String,
}

impl Phone {
    pub(crate) fn new(server: &Ringdown, account: Account) -> Self {
        Self::at(fresh_ip(), server, account)
    }

    pub(crate) fn at(ip: IpAddr, server: &Ringdown, account: Account) -> Self {
        let bind = |port: u16| {
            let socket = UdpSocket::bind((ip, port)).expect("a fresh address");
            socket.set_read_timeout(Some(QUIET)).expect("a valid timeout");
            socket
        };
        Self {
            account,
            ip,
            server: server.sip(),
            domain: server.ip,
            sip: bind(5060),
            rtp: bind(10_000),
            cseq: 0,
            branches: 0,
            first_answer: None,
            crypto: "",
            unanswered: RefCell::default(),
            secrets: RefCell::default(),
        }
    }

    /// Reaches the server by another address than its usual one.
    pub(crate) const fn by(mut self, server: SocketAddr) -> Self {
        self.server = server;
        self
    }

    /// Says in its calls that its audio is encrypted; `crypto` is a line with its end.
    pub(crate) const fn encrypted(mut self, crypto: &'static str) -> Self {
        self.crypto = crypto;
        self
    }

    pub(crate) fn secrets(&self) -> Vec<String> {
        self.secrets.borrow().clone()
    }

    /// Sends bytes as they are.
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.sip.send_to(bytes, self.server).expect("loopback takes it");
    }

    /// Registers with digest; returns the final status.
    pub(crate) fn register(&mut self) -> u16 {
        let domain = self.domain;
        let aor = format!("<sip:{}@{domain}>", self.account.user);
        let contact = format!("Contact: {}\r\nExpires: 600\r\n", self.contact());
        let uri = format!("sip:{domain}");
        let call_id = format!("register-{}", self.ip);
        let mut credentials = String::new();
        for _ in 0..2 {
            self.cseq += 1;
            let extra = format!("{contact}{credentials}");
            self.request("REGISTER", &uri, &format!("{aor};tag=r"), &aor, &call_id, self.cseq, &extra, "");
            let answer = self.response("REGISTER", self.cseq);
            if answer.status() != 401 {
                return answer.status();
            }
            let challenges = answer.lines(Name::WwwAuthenticate);
            credentials = format!("Authorization: {}\r\n", self.credentials(challenges, "REGISTER", &uri));
        }
        401
    }

    /// Sends an INVITE, answers its challenge, and returns how to recognise its answers.
    pub(crate) fn invite(&mut self, whom: &str) -> (String, u32) {
        let domain = self.domain;
        let call_id = format!("call-{}-{}", self.ip, self.cseq);
        let uri = format!("sip:{whom}@{domain}");
        let from = format!("<sip:{}@{domain}>;tag=a", self.account.user);
        let contact = format!("Contact: {}\r\n", self.contact());
        let body = self.sdp();
        let mut credentials = String::new();
        for _ in 0..2 {
            self.cseq += 1;
            let extra = format!("{contact}{credentials}");
            self.request("INVITE", &uri, &from, &format!("<{uri}>"), &call_id, self.cseq, &extra, &body);
            let answer = self.wait(|m| is_answer(m, "INVITE", self.cseq));
            if answer.status() != 407 {
                self.first_answer = Some(answer);
                return (call_id, self.cseq);
            }
            self.acknowledge_refusal(&uri, &call_id, &answer);
            let challenges = answer.lines(Name::ProxyAuthenticate);
            credentials = format!("Proxy-Authorization: {}\r\n", self.credentials(challenges, "INVITE", &uri));
        }
        panic!("{} was challenged again", self.account.user);
    }

    /// The final status of an INVITE, acknowledged.
    pub(crate) fn refusal(&mut self, whom: &str) -> Message {
        let (call_id, cseq) = self.invite(whom);
        self.refused(whom, &call_id, cseq)
    }

    /// The same of an INVITE before whose answer something is played: its payloads, and the answer.
    pub(crate) fn refusal_after_sound(&mut self, whom: &str) -> (Vec<u8>, Message) {
        let (call_id, cseq) = self.invite(whom);
        let sound = self.listen();
        (sound, self.refused(whom, &call_id, cseq))
    }

    fn refused(&mut self, whom: &str, call_id: &str, cseq: u32) -> Message {
        let answer = self.response("INVITE", cseq);
        assert!(answer.status() >= 300, "the call was answered");
        let uri = format!("sip:{whom}@{}", self.domain);
        self.acknowledge_refusal(&uri, call_id, &answer);
        answer
    }

    /// RFC 3261 section 17.1.1.3: with the branch of the INVITE.
    fn acknowledge_refusal(&mut self, uri: &str, call_id: &str, answer: &Message) {
        let from = format!("<sip:{}@{}>;tag=a", self.account.user, self.domain);
        let to = answer.header(Name::To).unwrap_or_default().to_owned();
        self.branches -= 1;
        self.request("ACK", uri, &from, &to, call_id, self.cseq, "", "");
    }

    /// The dialog of an INVITE of ours that was answered.
    pub(crate) fn answered(&mut self, call_id: &str, cseq: u32) -> Dialog {
        let answer = self.response("INVITE", cseq);
        assert_eq!(answer.status(), 200, "{}", answer.reason_phrase());
        let dialog = Dialog {
            call_id: call_id.to_owned(),
            local: format!("<sip:{}@{}>;tag=a", self.account.user, self.domain),
            remote: answer.header(Name::To).expect("To").to_owned(),
            target: answer.contact().expect("Contact").uri.to_owned(),
            media: media_of(&answer),
            sdp: sdp_of(&answer),
        };
        self.request("ACK", &dialog.target, &dialog.local, &dialog.remote, call_id, cseq, "", "");
        dialog
    }

    /// Waits for an INVITE and answers it at once.
    pub(crate) fn answer(&mut self) -> Dialog {
        let invite = self.wait(|m| m.method() == Some(Method::Invite));
        self.answer_this(&invite)
    }

    /// Answers an INVITE and waits for its ACK.
    pub(crate) fn answer_this(&mut self, invite: &Message) -> Dialog {
        let sdp = self.sdp();
        let answer = self.respond(invite, &sdp);
        // Repeated until it is acknowledged (RFC 3261 section 13.3.1.4).
        *self.unanswered.borrow_mut() = Some((answer, Instant::now() + REPEAT_AFTER));
        self.wait(|m| m.method() == Some(Method::Ack));
        *self.unanswered.borrow_mut() = None;
        Dialog {
            call_id: invite.call_id().to_owned(),
            local: format!("{};tag=b", invite.header(Name::To).expect("To")),
            remote: invite.header(Name::From).expect("From").to_owned(),
            target: invite.contact().expect("Contact").uri.to_owned(),
            media: media_of(invite),
            sdp: sdp_of(invite),
        }
    }

    pub(crate) fn hang_up(&mut self, dialog: &Dialog) {
        self.cseq += 1;
        let Dialog { call_id, local, remote, target, .. } = dialog;
        self.request("BYE", target, local, remote, call_id, self.cseq, "", "");
        assert_eq!(self.response("BYE", self.cseq).status(), 200);
    }

    /// Sends a request with a body in the call; its answer is not waited for.
    pub(crate) fn ask_in(&mut self, dialog: &Dialog, method: &str, kind: &str, body: &str) {
        self.cseq += 1;
        let Dialog { call_id, local, remote, target, .. } = dialog;
        let kind = format!("Content-Type: {kind}\r\n");
        self.request(method, target, local, remote, call_id, self.cseq, &kind, body);
    }

    pub(crate) fn accept(&self, request: &Message) {
        self.respond(request, "");
    }

    /// Waits for the other side's BYE, and answers it.
    pub(crate) fn wait_bye(&mut self) -> Message {
        let bye = self.wait(|m| m.method() == Some(Method::Bye));
        self.respond(&bye, "");
        bye
    }

    /// Waits for a NOTIFY and answers it at once. Returns its Event value.
    pub(crate) fn notified(&self) -> String {
        let notify = self.wait(|m| m.method() == Some(Method::Notify));
        self.respond(&notify, "");
        notify.header(Name::Event).unwrap_or_default().to_owned()
    }

    /// Sends `count` RTP packets into the call.
    pub(crate) fn speak(&self, dialog: &Dialog, count: u16) {
        self.speak_on(dialog, 0..count);
    }

    /// The same with these sequence numbers: what was sent before is not relayed again.
    pub(crate) fn speak_on(&self, dialog: &Dialog, sequences: Range<u16>) {
        for sequence in sequences {
            let mut packet = vec![0x80, 0];
            packet.extend(sequence.to_be_bytes());
            packet.extend((u32::from(sequence) * 160).to_be_bytes());
            packet.extend(b"ssrc");
            packet.extend(AUDIO_CANARY);
            self.rtp.send_to(&packet, dialog.media).expect("loopback takes it");
        }
    }

    /// How many RTP packets with the canary arrive until it is quiet. The first may take its time: the machine may be busy.
    pub(crate) fn hear(&self) -> usize {
        let mut buffer = [0; 2048];
        let mut heard = 0;
        self.rtp.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        while let Ok((len, _)) = self.rtp.recv_from(&mut buffer) {
            self.rtp.set_read_timeout(Some(QUIET)).expect("a valid timeout");
            heard += usize::from(buffer[..len].ends_with(AUDIO_CANARY));
        }
        heard
    }

    /// The payloads that arrive until it is quiet, one after the other.
    fn listen(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut payloads = Vec::new();
        self.rtp.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        while let Ok((len, _)) = self.rtp.recv_from(&mut buffer) {
            self.rtp.set_read_timeout(Some(QUIET)).expect("a valid timeout");
            payloads.extend_from_slice(rtp::payload(&buffer[..len]).expect("a packet of audio"));
        }
        payloads
    }

    /// How many of so many packets with the canary arrive.
    pub(crate) fn hear_all(&self, count: usize) -> usize {
        let mut buffer = [0; 2048];
        let mut heard = 0;
        self.rtp.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        while heard < count {
            let Ok((len, _)) = self.rtp.recv_from(&mut buffer) else { break };
            heard += usize::from(buffer[..len].ends_with(AUDIO_CANARY));
        }
        heard
    }

    pub(crate) fn contact(&self) -> String {
        format!("<sip:{}@{}>", self.account.user, SocketAddr::new(self.ip, 5060))
    }

    fn credentials<'a>(&self, challenges: impl Iterator<Item = &'a str>, method: &str, uri: &str) -> String {
        let Account { user, password, .. } = self.account;
        let body = if method == "INVITE" { self.sdp() } else { String::new() };
        let answer = digest::answer(challenges, user, password, method, uri, body.as_bytes(), "cnonce", 1)
            .expect("a challenge that can be answered");
        let response = digest::Response::parse(&answer).expect("an answer of ours").response.to_owned();
        self.secrets.borrow_mut().push(response);
        answer
    }

    fn sdp(&self) -> String {
        let (family, ip) = (if self.ip.is_ipv4() { "IP4" } else { "IP6" }, self.ip);
        let head = format!("v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n");
        format!("{head}m=audio 10000 RTP/AVP 0\r\n{}", self.crypto)
    }

    #[expect(clippy::too_many_arguments, reason = "one for each line of the message")]
    fn request(
        &mut self,
        method: &str,
        uri: &str,
        from: &str,
        to: &str,
        call_id: &str,
        cseq: u32,
        extra: &str,
        body: &str,
    ) {
        self.branches += 1;
        let (address, branch) = (SocketAddr::new(self.ip, 5060), self.branches);
        let name = self.ip.to_string().replace(':', "-");
        let kind =
            if body.is_empty() || extra.contains("Content-Type") { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK-{name}-{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             {extra}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.sip.send_to(text.as_bytes(), self.server).expect("loopback takes it");
        if method != "ACK" {
            *self.unanswered.borrow_mut() = Some((text.into_bytes(), Instant::now() + REPEAT_AFTER));
        }
    }

    /// Sends again what has no answer (RFC 3261 section 17.1.2).
    fn repeat(&self) {
        let mut unanswered = self.unanswered.borrow_mut();
        let Some((text, at)) = unanswered.as_mut().filter(|(_, at)| *at <= Instant::now()) else { return };
        self.sip.send_to(text, self.server).expect("loopback takes it");
        *at += REPEAT_AFTER;
    }

    /// Returns what was sent.
    fn respond(&self, request: &Message, sdp: &str) -> Vec<u8> {
        let mut head = String::from("SIP/2.0 200 OK\r\n");
        for via in request.lines(Name::Via) {
            head += &format!("Via: {via}\r\n");
        }
        let tag = if request.to_tag().is_none() { ";tag=b" } else { "" };
        let value = |name| request.header(name).unwrap_or_default();
        head += &format!(
            "From: {}\r\nTo: {}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nContact: {}\r\n",
            value(Name::From),
            value(Name::To),
            request.call_id(),
            value(Name::CSeq),
            self.contact()
        );
        if !sdp.is_empty() {
            head += "Content-Type: application/sdp\r\n";
        }
        let text = format!("{head}Content-Length: {}\r\n\r\n{sdp}", sdp.len());
        self.sip.send_to(text.as_bytes(), self.server).expect("loopback takes it");
        text.into_bytes()
    }

    /// The final response to a request of ours.
    fn response(&mut self, method: &str, cseq: u32) -> Message {
        if let Some(answer) = self.first_answer.take().filter(|m| m.status() >= 200 && is_answer(m, method, cseq)) {
            return answer;
        }
        self.wait(|m| m.status() >= 200 && is_answer(m, method, cseq))
    }

    pub(crate) fn wait(&self, is_wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < end {
            self.repeat();
            let Ok((len, _)) = self.sip.recv_from(&mut buffer) else { continue };
            let Ok(message) = Message::parse(Bytes::copy_from_slice(&buffer[..len])) else { continue };
            if message.status() > 0 {
                *self.unanswered.borrow_mut() = None;
            }
            let keys = message.sdp().unwrap_or_default();
            let keys = String::from_utf8_lossy(&keys).into_owned();
            let keys = keys.split("inline:").skip(1).filter_map(|rest| rest.lines().next()).map(str::to_owned);
            self.secrets.borrow_mut().extend(keys);
            if is_wanted(&message) {
                return message;
            }
        }
        panic!("{} waited {PATIENCE:?} in vain", self.account.user);
    }
}

fn is_answer(message: &Message, method: &str, cseq: u32) -> bool {
    message.status() > 0 && message.cseq().is_some_and(|c| c.number == cseq && c.method_text == method)
}

fn sdp_of(message: &Message) -> String {
    String::from_utf8_lossy(&message.sdp().expect("a body")).into_owned()
}

fn media_of(message: &Message) -> SocketAddr {
    let text = sdp_of(message);
    let field = |prefix: &str| text.lines().find_map(|l| l.strip_prefix(prefix)).unwrap_or_default().to_owned();
    let port = field("m=audio ").split(' ').next().and_then(|p| p.parse().ok()).expect("a port");
    let address = field("c=IN IP");
    SocketAddr::new(address[1..].trim().parse().expect("an address"), port)
}
