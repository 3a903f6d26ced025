//! A simulated SIP user agent: a phone that registers, or (without an account) a trunk's far end. Its transactions are
//! its own, written straight from RFC 3261 section 17, so that they share no mistake with the server's.

mod deeds;
mod early;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use ringdown::{
    types::{ConnectionId, Duration, Instant, Rng, Transport},
    wire::{
        sip::{Message, Method, Name, RequestBuilder, ResponseBuilder, digest, frame::Framer, validate},
        srtp::Suite,
    },
};

use crate::voice::{Packet, Voice};

use early::Early;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);
/// How long a re-INVITE may take once it was heard of.
const REINVITE_MAX: Duration = Duration::from_secs(180);
/// How long a finished transaction still answers retransmissions.
const LINGER: Duration = Duration::from_secs(40);
pub(crate) const VOICE_EVERY: Duration = Duration::from_millis(100);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
const FIRST_RTP_PORT: u16 = 30_000;

/// What the phone does with an incoming call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Rings, and answers by itself.
    After(Duration),
    Refuse(u16),
    /// Rings until told.
    Ring,
    /// Says nothing at all.
    Silent,
    /// Says nothing, and then answers.
    Late(Duration),
    /// Refuses with this status what has this in its body, and takes everything else at once.
    Unless(&'static str, u16),
}

/// What a phone is.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    /// Number of the phone in its world.
    pub(crate) id: u32,
    /// User part of its addresses and digest user.
    pub(crate) user: String,
    /// `None`: it neither registers nor answers a challenge.
    pub(crate) password: Option<String>,
    pub(crate) ip: IpAddr,
    pub(crate) transport: Transport,
    /// In order of preference; empty: plain RTP.
    pub(crate) suites: Vec<Suite>,
    pub(crate) has_mux: bool,
    pub(crate) answer: Answer,
    pub(crate) domain: String,
    /// The server's address for this transport.
    pub(crate) server: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// INVITE sent.
    Calling,
    /// A 18x was heard, or our own 180 was sent.
    Ringing,
    Up,
    /// With the final status: of the INVITE, or 200 after BYE.
    Ended(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    None,
    Asked,
    Done,
    Refused(u16),
}

/// One call as this phone sees it.
pub(crate) struct Call {
    pub(crate) is_caller: bool,
    pub(crate) state: State,
    /// A 200 passed.
    pub(crate) was_answered: bool,
    /// The peer hung up or cancelled.
    pub(crate) ended_by_peer: bool,
    /// The INVITE received, as callee.
    pub(crate) invite: Option<Message>,
    /// The final response, as caller.
    pub(crate) response: Option<Message>,
    pub(crate) voice: Voice,
    pub(crate) is_held_by_us: bool,
    /// How the last re-INVITE of ours ended.
    pub(crate) reinvite_status: Option<u16>,
    /// How the last REFER of ours was answered.
    pub(crate) refer_status: Option<u16>,
    /// Status lines of the NOTIFYs about it, in order.
    pub(crate) news: Vec<String>,
    /// It took the place of another device's call.
    pub(crate) is_takeover: bool,
    rtp: SocketAddr,
    call_id: String,
    local: String,
    remote: String,
    local_tag: String,
    remote_tag: Option<String>,
    target: String,
    routes: Vec<String>,
    cseq: u32,
    remote_cseq: u32,
    /// The ACK for the last 2xx, sent again for each retransmission of it.
    ack: Option<(u32, Bytes)>,
    wants_cancel: bool,
    is_reinviting: bool,
    early: Early,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Register,
    Invite(usize),
    Reinvite(usize),
    Bye(usize),
    Cancel(usize),
    /// Outside calls: MESSAGE, SUBSCRIBE.
    Other,
    Prack(usize),
    Refer(usize),
}

impl Purpose {
    const fn is_invite(self) -> bool {
        matches!(self, Self::Invite(_) | Self::Reinvite(_))
    }
}

/// A request that can be written again with another CSeq and credentials.
#[derive(Clone, Debug)]
struct Draft {
    method: &'static str,
    uri: String,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    routes: Vec<String>,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

struct Client {
    branch: String,
    draft: Draft,
    bytes: Bytes,
    purpose: Purpose,
    attempts: u8,
    interval: Duration,
    resend_at: Option<Instant>,
    give_up_at: Option<Instant>,
    final_status: Option<u16>,
    forget_at: Option<Instant>,
}

struct Service {
    branch: String,
    request: Message,
    call: Option<usize>,
    response: Option<Bytes>,
    status: u16,
    interval: Duration,
    resend_at: Option<Instant>,
    give_up_at: Option<Instant>,
    forget_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Register,
    Connect,
    Answer(usize),
    Reinvite(usize),
    Voice(usize),
}

pub(crate) struct Phone {
    pub(crate) profile: Profile,
    pub(crate) address: SocketAddr,
    pub(crate) calls: Vec<Call>,
    pub(crate) registration: Registration,
    /// Contacts the last 200 to REGISTER listed.
    pub(crate) contacts_listed: usize,
    /// SIP messages to send.
    pub(crate) outbox: Vec<Bytes>,
    pub(crate) packets: Vec<Packet>,
    /// What must never happen.
    pub(crate) faults: Vec<String>,
    /// Responses of the server to REGISTER and to requests outside calls.
    pub(crate) responses: Vec<Message>,
    /// Every MESSAGE and NOTIFY received.
    pub(crate) events: Vec<Message>,
    /// Every Authorization value sent.
    pub(crate) credentials: Vec<String>,
    pub(crate) connection: Option<ConnectionId>,
    /// Its connection broke and it waits before it opens another; what it says meanwhile leaves then.
    pub(crate) is_offline: bool,
    pub(crate) framer: Framer,
    /// Keeps its registration alive by itself.
    pub(crate) refreshes: bool,
    /// Calls without an offer.
    pub(crate) calls_without_offer: bool,
    /// Rings with a reliable 183 that settles the session, where the caller knows 100rel.
    pub(crate) settles_early: bool,
    /// Added to every initial INVITE.
    pub(crate) extra_headers: Vec<(&'static str, String)>,
    /// Between two packets of its voice.
    pub(crate) voice_every: Duration,
    expires_s: u32,
    rng: Rng,
    register_call_id: String,
    register_cseq: u32,
    nonce: (String, u32),
    clients: Vec<Client>,
    services: Vec<Service>,
    timers: Vec<(Instant, Wake)>,
}

impl Phone {
    pub(crate) fn new(profile: Profile, mut rng: Rng) -> Self {
        Self {
            address: SocketAddr::new(profile.ip, 5060),
            calls: Vec::new(),
            registration: Registration::None,
            contacts_listed: 0,
            outbox: Vec::new(),
            packets: Vec::new(),
            faults: Vec::new(),
            responses: Vec::new(),
            events: Vec::new(),
            credentials: Vec::new(),
            connection: None,
            is_offline: false,
            framer: Framer::new(),
            refreshes: true,
            calls_without_offer: false,
            settles_early: false,
            extra_headers: Vec::new(),
            voice_every: VOICE_EVERY,
            expires_s: 600,
            register_call_id: rng.token(16),
            register_cseq: 0,
            nonce: (String::new(), 0),
            clients: Vec::new(),
            services: Vec::new(),
            timers: Vec::new(),
            profile,
            rng,
        }
    }

    // What a person does.

    pub(crate) fn register(&mut self, now: Instant, expires_s: u32) {
        self.expires_s = expires_s;
        self.timers.retain(|(_, w)| *w != Wake::Register);
        self.register_cseq += 1;
        let aor = self.aor();
        let draft = Draft {
            method: "REGISTER",
            uri: format!("sip:{}", self.profile.domain),
            from: format!("<{aor}>;tag={}", self.rng.token(8)),
            to: format!("<{aor}>"),
            call_id: self.register_call_id.clone(),
            cseq: self.register_cseq,
            routes: Vec::new(),
            headers: vec![("Contact", self.contact()), ("Expires", expires_s.to_string())],
            body: None,
        };
        self.registration = Registration::Asked;
        self.send(now, draft, Purpose::Register, 0);
    }

    /// Removes the binding and stops refreshing.
    pub(crate) fn unregister(&mut self, now: Instant) {
        self.refreshes = false;
        self.register(now, 0);
    }

    /// Refreshes no more, so that nothing happens by itself.
    pub(crate) fn rest(&mut self) {
        self.refreshes = false;
        self.timers.retain(|(_, w)| *w != Wake::Register);
    }

    /// The end of a simulation: whoever has or had a registration gives it up.
    pub(crate) fn unregister_if_registered(&mut self, now: Instant) {
        if self.profile.password.is_some() && self.register_cseq > 0 {
            self.unregister(now);
        }
    }

    /// Calls a user part of the server's domain, or a whole URI. Returns the number of the call.
    pub(crate) fn dial(&mut self, now: Instant, whom: &str) -> usize {
        let uri = if whom.contains(':') { whom.to_owned() } else { format!("sip:{whom}@{}", self.profile.domain) };
        let mut call = self.new_call(true);
        call.remote = format!("<{uri}>");
        call.target.clone_from(&uri);
        call.cseq = 1;
        let body = (!self.calls_without_offer).then(|| call.voice.offer());
        let draft = self.invite_draft(&call, body);
        self.calls.push(call);
        let index = self.calls.len() - 1;
        self.send(now, draft, Purpose::Invite(index), 0);
        index
    }

    /// Sends a text message to an extension.
    pub(crate) fn text(&mut self, now: Instant, whom: &str, body: &str) {
        let draft = self.draft("MESSAGE", whom);
        self.send(now, Draft { body: Some(body.to_owned()), ..draft }, Purpose::Other, 0);
    }

    /// Subscribes to an event of an extension; `within` the dialog that this answer to an earlier SUBSCRIBE began.
    pub(crate) fn subscribe(
        &mut self,
        now: Instant,
        whom: &str,
        event: &str,
        expires_s: u32,
        within: Option<&Message>,
    ) {
        let mut draft = self.draft("SUBSCRIBE", whom);
        if let Some(answer) = within {
            let header = |name| answer.header(name).unwrap_or_default().to_owned();
            (draft.from, draft.to, draft.call_id) = (header(Name::From), header(Name::To), header(Name::CallId));
            draft.cseq = answer.cseq().map_or(0, |cseq| cseq.number) + 1;
        }
        let expires = expires_s.to_string();
        draft.headers = vec![("Contact", self.contact()), ("Event", event.to_owned()), ("Expires", expires)];
        self.send(now, draft, Purpose::Other, 0);
    }

    /// A request outside calls, to an extension.
    fn draft(&mut self, method: &'static str, whom: &str) -> Draft {
        let uri = format!("sip:{whom}@{}", self.profile.domain);
        Draft {
            method,
            from: format!("<{}>;tag={}", self.aor(), self.rng.token(8)),
            to: format!("<{uri}>"),
            uri,
            call_id: self.rng.token(16),
            cseq: 1,
            routes: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn accept(&mut self, now: Instant, index: usize) {
        let call = &mut self.calls[index];
        if call.is_caller || call.state != State::Ringing {
            return;
        }
        let is_settled = call.early.is_settled;
        if self.awaits_prack(index) {
            // RFC 3262 section 3: no 2xx before the PRACK.
            self.at(now + Duration::from_millis(100), Wake::Answer(index));
            return;
        }
        let session = if is_settled { Some(String::new()) } else { self.session_for(index) };
        let Some(session) = session else {
            self.finish_invite(now, index, 488, None);
            self.end(index, 488, false);
            return;
        };
        let call = &mut self.calls[index];
        call.state = State::Up;
        call.was_answered = true;
        self.finish_invite(now, index, 200, Some(session.as_str()).filter(|session| !session.is_empty()));
        self.start_voice(now, index);
    }

    pub(crate) fn hang_up(&mut self, now: Instant, index: usize) {
        let call = &mut self.calls[index];
        match call.state {
            State::Ended(_) => {}
            State::Up => self.bye(now, index),
            State::Calling | State::Ringing if call.is_caller => {
                call.wants_cancel = true;
                self.try_cancel(now, index);
            }
            State::Calling | State::Ringing => {
                self.finish_invite(now, index, 486, None);
                self.end(index, 486, false);
            }
        }
    }

    pub(crate) fn hold(&mut self, now: Instant, index: usize, is_holding: bool) {
        let call = &mut self.calls[index];
        let is_waiting = self.timers.iter().any(|(_, w)| *w == Wake::Reinvite(index));
        if call.state != State::Up || call.is_reinviting || is_waiting {
            return;
        }
        call.voice.hold(is_holding);
        call.is_held_by_us = is_holding;
        self.reinvite(now, index);
    }

    /// Transfers whoever is at the other end to a user part of the server's domain.
    pub(crate) fn transfer(&mut self, now: Instant, index: usize, whom: &str) {
        let target = format!("<sip:{whom}@{}>", self.profile.domain);
        self.refer(now, index, target);
    }

    /// Brings the other ends of two calls together.
    pub(crate) fn join(&mut self, now: Instant, index: usize, other: usize) {
        let call = &self.calls[other];
        let Some(tag) = &call.remote_tag else { return };
        let replaces = format!("{}%3Bto-tag%3D{tag}%3Bfrom-tag%3D{}", call.call_id, call.local_tag);
        let target = format!("<{}?Replaces={replaces}>", call.target);
        self.refer(now, index, target);
    }

    fn refer(&mut self, now: Instant, index: usize, target: String) {
        let call = &mut self.calls[index];
        if call.state != State::Up {
            return;
        }
        call.refer_status = Some(0);
        call.cseq += 1;
        let headers = vec![("Contact", self.contact()), ("Refer-To", target)];
        let draft = Draft { headers, ..Self::dialog_draft(&self.calls[index], "REFER") };
        self.send(now, draft, Purpose::Refer(index), 0);
    }

    /// Takes a call over from another device of the same user. Returns the number of the call here.
    pub(crate) fn take_over(&mut self, now: Instant, replaces: &str) -> usize {
        self.extra_headers.push(("Replaces", replaces.to_owned()));
        let index = self.dial(now, &self.profile.user.clone());
        self.extra_headers.pop();
        self.calls[index].is_takeover = true;
        index
    }

    /// How another device names this call to take it over (RFC 3891).
    pub(crate) fn replaces(&self, index: usize) -> String {
        let call = &self.calls[index];
        let tag = call.remote_tag.as_deref().unwrap_or_default();
        format!("{};to-tag={tag};from-tag={}", call.call_id, call.local_tag)
    }

    /// Loses its connection: reconnects, registers again and gives up its calls.
    pub(crate) fn connection_lost(&mut self, now: Instant) {
        self.connection = None;
        self.is_offline = true;
        self.framer = Framer::new();
        self.at(now + RECONNECT_AFTER, Wake::Connect);
    }

    // What the world asks.

    pub(crate) fn live_calls(&self) -> impl Iterator<Item = (usize, &Call)> {
        self.calls.iter().enumerate().filter(|(_, c)| !matches!(c.state, State::Ended(_)))
    }

    pub(crate) fn all_faults(&self) -> Vec<String> {
        self.faults.iter().chain(self.calls.iter().flat_map(|c| &c.voice.faults)).cloned().collect()
    }

    pub(crate) fn aor(&self) -> String {
        format!("sip:{}@{}", self.profile.user, self.profile.domain)
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        let clients = self.clients.iter().flat_map(|c| [c.resend_at, c.give_up_at, c.forget_at]);
        let services = self.services.iter().flat_map(|s| [s.resend_at, s.give_up_at, Some(s.forget_at)]);
        clients.chain(services).flatten().chain(self.timers.iter().map(|(at, _)| *at)).min()
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        let due: Vec<Wake> = self.timers.iter().filter(|(at, _)| *at <= now).map(|(_, w)| *w).collect();
        self.timers.retain(|(at, _)| *at > now);
        for wake in due {
            match wake {
                Wake::Register => self.register(now, self.expires_s),
                Wake::Connect => self.reconnect(now),
                Wake::Answer(index) => self.accept(now, index),
                Wake::Reinvite(index) => self.reinvite(now, index),
                Wake::Voice(index) => self.speak(now, index),
            }
        }
        self.wake_clients(now);
        self.wake_services(now);
    }

    pub(crate) fn hear(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let rtp = SocketAddr::new(to.ip(), to.port() & !1);
        if let Some(call) = self.calls.iter_mut().find(|c| c.rtp == rtp) {
            if matches!(call.state, State::Ended(_)) {
                return;
            }
            call.voice.hear(now, from, bytes);
        }
    }

    pub(crate) fn receive(&mut self, now: Instant, bytes: Bytes) {
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(fault) => {
                self.faults.push(format!("the server sent what cannot be read: {fault:?}"));
                return;
            }
        };
        if let Err(fault) = validate(&message) {
            self.faults.push(format!("the server sent an invalid message: {fault:?}"));
        }
        if message.is_request() {
            self.request(now, &message);
        } else {
            self.response(now, &message);
        }
    }

    // Client side.

    fn send(&mut self, now: Instant, draft: Draft, purpose: Purpose, attempts: u8) {
        let branch = match purpose {
            // RFC 3261 section 9.1: a CANCEL has the branch of its INVITE.
            Purpose::Cancel(index) => self.invite_branch(index).unwrap_or_default(),
            _ => format!("z9hG4bK{}", self.rng.token(16)),
        };
        let bytes = self.write(&draft, &branch);
        let is_reliable = self.profile.transport.is_reliable();
        self.outbox.push(bytes.clone());
        self.clients.push(Client {
            branch,
            draft,
            bytes,
            purpose,
            attempts,
            interval: T1,
            resend_at: (!is_reliable).then(|| now + T1),
            give_up_at: Some(now + GIVE_UP),
            final_status: None,
            forget_at: None,
        });
    }

    fn write(&self, draft: &Draft, branch: &str) -> Bytes {
        let mut builder = RequestBuilder::new(draft.method, &draft.uri).header("Via", self.via(branch));
        for route in &draft.routes {
            builder = builder.header("Route", route);
        }
        builder = builder
            .header("Max-Forwards", 70)
            .header("From", &draft.from)
            .header("To", &draft.to)
            .header("Call-ID", &draft.call_id)
            .header("CSeq", format!("{} {}", draft.cseq, draft.method));
        for (name, value) in &draft.headers {
            builder = builder.header(name, value);
        }
        if draft.method == "REGISTER" {
            // Short datagrams of strangers may be answered at their second time only; those of telephones are not so short.
            builder = builder.header("X-Firmware", "0".repeat(500));
        }
        if let Some(body) = &draft.body {
            let kind = if draft.method == "MESSAGE" { "text/plain" } else { "application/sdp" };
            builder = builder.body(kind, body.as_bytes());
        }
        builder.finish()
    }

    fn via(&self, branch: &str) -> String {
        format!("SIP/2.0/{} {};rport;branch={branch}", self.profile.transport.via_token(), self.address)
    }

    fn contact(&self) -> String {
        format!("<sip:{}@{};transport={}>", self.profile.user, self.address, self.profile.transport.uri_token())
    }

    fn invite_draft(&self, call: &Call, body: Option<String>) -> Draft {
        let mut headers = vec![
            ("Contact", self.contact()),
            ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS".to_owned()),
            ("User-Agent", "sim".to_owned()),
        ];
        if call.remote_tag.is_none() {
            headers.extend(self.extra_headers.iter().cloned());
        }
        Draft { body, headers, ..Self::dialog_draft(call, "INVITE") }
    }

    fn dialog_draft(call: &Call, method: &'static str) -> Draft {
        let to = call.remote_tag.as_ref().map_or_else(|| call.remote.clone(), |t| format!("{};tag={t}", call.remote));
        Draft {
            method,
            uri: call.target.clone(),
            from: format!("{};tag={}", call.local, call.local_tag),
            to,
            call_id: call.call_id.clone(),
            cseq: call.cseq,
            routes: call.routes.clone(),
            headers: Vec::new(),
            body: None,
        }
    }

    fn invite_branch(&self, index: usize) -> Option<String> {
        self.clients.iter().rev().find(|c| c.purpose == Purpose::Invite(index)).map(|c| c.branch.clone())
    }

    fn try_cancel(&mut self, now: Instant, index: usize) {
        // RFC 3261 section 9.1: not before a provisional response.
        let has_answer = self.calls[index].state == State::Ringing
            || self.clients.iter().any(|c| c.purpose == Purpose::Invite(index) && c.give_up_at.is_none());
        let is_sent = self.clients.iter().any(|c| c.purpose == Purpose::Cancel(index));
        if !has_answer || is_sent {
            return;
        }
        let mut draft = Self::dialog_draft(&self.calls[index], "CANCEL");
        if let Some(client) = self.clients.iter_mut().find(|c| c.purpose == Purpose::Invite(index)) {
            client.give_up_at = Some(now + GIVE_UP);
            draft.cseq = client.draft.cseq;
        }
        self.send(now, draft, Purpose::Cancel(index), 0);
    }

    fn bye(&mut self, now: Instant, index: usize) {
        self.calls[index].cseq += 1;
        let draft = Self::dialog_draft(&self.calls[index], "BYE");
        self.end(index, 200, false);
        self.send(now, draft, Purpose::Bye(index), 0);
    }

    fn reinvite(&mut self, now: Instant, index: usize) {
        let call = &mut self.calls[index];
        if call.state != State::Up {
            return;
        }
        call.is_reinviting = true;
        call.reinvite_status = None;
        call.cseq += 1;
        let body = call.voice.offer();
        let draft = self.invite_draft(&self.calls[index], Some(body));
        self.send(now, draft, Purpose::Reinvite(index), 0);
    }

    fn wake_clients(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for client in &mut self.clients {
            if client.give_up_at.is_some_and(|at| at <= now) {
                client.give_up_at = None;
                client.resend_at = None;
                client.forget_at = Some(now);
                failed.push(client.purpose);
            } else if client.resend_at.is_some_and(|at| at <= now) {
                client.interval *= 2;
                if !client.purpose.is_invite() {
                    client.interval = client.interval.min(T2);
                }
                client.resend_at = Some(now + client.interval);
                self.outbox.push(client.bytes.clone());
            }
        }
        self.clients.retain(|c| c.forget_at.is_none_or(|at| at > now));
        for purpose in failed {
            self.failed(now, purpose, 408);
        }
    }

    /// No answer came, or one that says that the dialog is gone.
    fn failed(&mut self, now: Instant, purpose: Purpose, status: u16) {
        match purpose {
            Purpose::Register => {
                self.registration = Registration::Refused(status);
                if self.refreshes {
                    self.at(now + Duration::from_secs(5), Wake::Register);
                }
            }
            Purpose::Invite(index) => self.end(index, status, false),
            Purpose::Reinvite(index) => {
                self.calls[index].is_reinviting = false;
                self.calls[index].reinvite_status = Some(status);
                if self.calls[index].state == State::Up {
                    self.bye(now, index);
                }
            }
            Purpose::Refer(index) => self.calls[index].refer_status = Some(status),
            Purpose::Bye(_) | Purpose::Cancel(_) | Purpose::Prack(_) | Purpose::Other => {}
        }
    }

    fn response(&mut self, now: Instant, message: &Message) {
        let status = message.status();
        if status > 100 && message.to_tag().is_none() {
            self.faults.push(format!("a {status} came without a To tag"));
        }
        let branch = message.via().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
        let method = message.cseq().map(|c| c.method_text.to_owned()).unwrap_or_default();
        let Some(at) = self.clients.iter().position(|c| c.branch == branch && c.draft.method == method) else {
            return;
        };
        let purpose = self.clients[at].purpose;
        if status < 200 {
            self.provisional(now, at, status);
            if let Purpose::Invite(index) = purpose {
                self.prack(now, at, index, message);
            }
            return;
        }
        let is_first = self.clients[at].final_status.is_none();
        if purpose.is_invite() && status >= 300 {
            self.ack_failure(at, message);
        }
        if !is_first {
            if let (Purpose::Invite(index) | Purpose::Reinvite(index), 200..=299) = (purpose, status) {
                self.outbox.extend(self.calls[index].ack.iter().map(|(_, bytes)| bytes.clone()));
            }
            return;
        }
        let client = &mut self.clients[at];
        client.final_status = Some(status);
        client.resend_at = None;
        client.give_up_at = None;
        client.forget_at = Some(now + LINGER);
        if matches!(status, 401 | 407) && client.attempts < 2 && self.retry(now, at, message) {
            return;
        }
        self.concluded(now, at, message);
    }

    fn provisional(&mut self, now: Instant, at: usize, status: u16) {
        let is_cancelled = match self.clients[at].purpose {
            Purpose::Invite(index) => self.clients.iter().any(|c| c.purpose == Purpose::Cancel(index)),
            Purpose::Register
            | Purpose::Reinvite(_)
            | Purpose::Bye(_)
            | Purpose::Cancel(_)
            | Purpose::Prack(_)
            | Purpose::Refer(_)
            | Purpose::Other => false,
        };
        let client = &mut self.clients[at];
        if client.final_status.is_some() {
            return;
        }
        if client.purpose.is_invite() {
            client.resend_at = None;
            if let Purpose::Reinvite(_) = client.purpose {
                // Whoever said 100 may have died since.
                client.give_up_at = Some(now + REINVITE_MAX);
            } else if !is_cancelled {
                client.give_up_at = None;
            }
        } else if client.resend_at.is_some() {
            client.interval = T2;
        }
        if let Purpose::Invite(index) = self.clients[at].purpose {
            let call = &mut self.calls[index];
            if status > 100 && call.state == State::Calling {
                call.state = State::Ringing;
            }
            if call.wants_cancel {
                self.try_cancel(now, index);
            }
        }
    }

    /// RFC 3261 section 17.1.1.3.
    fn ack_failure(&mut self, at: usize, message: &Message) {
        let client = &self.clients[at];
        let to = message.header(Name::To).unwrap_or_default().to_owned();
        let draft = Draft { method: "ACK", to, headers: Vec::new(), body: None, ..client.draft.clone() };
        let bytes = self.write(&draft, &client.branch);
        self.outbox.push(bytes);
    }

    /// Sends the request again with credentials; false if the phone has none.
    fn retry(&mut self, now: Instant, at: usize, message: &Message) -> bool {
        let Some(password) = self.profile.password.clone() else { return false };
        let (name, challenge) = if message.status() == 401 {
            ("Authorization", Name::WwwAuthenticate)
        } else {
            ("Proxy-Authorization", Name::ProxyAuthenticate)
        };
        let mut draft = self.clients[at].draft.clone();
        let nonce = message.lines(challenge).find_map(nonce_of).unwrap_or_default().to_owned();
        self.nonce = if self.nonce.0 == nonce { (nonce, self.nonce.1 + 1) } else { (nonce, 1) };
        let cnonce = self.rng.token(16);
        let value = digest::answer(
            message.lines(challenge),
            &self.profile.user,
            &password,
            draft.method,
            &draft.uri,
            draft.body.as_deref().unwrap_or_default().as_bytes(),
            &cnonce,
            self.nonce.1,
        );
        let Some(value) = value else {
            self.faults.push("a challenge that cannot be answered".into());
            return false;
        };
        self.credentials.push(value.clone());
        draft.headers.retain(|(n, _)| *n != name);
        draft.headers.push((name, value));
        let purpose = self.clients[at].purpose;
        draft.cseq = match purpose {
            Purpose::Register => {
                self.register_cseq += 1;
                self.register_cseq
            }
            Purpose::Invite(i)
            | Purpose::Reinvite(i)
            | Purpose::Bye(i)
            | Purpose::Cancel(i)
            | Purpose::Prack(i)
            | Purpose::Refer(i) => {
                self.calls[i].cseq += 1;
                self.calls[i].cseq
            }
            Purpose::Other => draft.cseq + 1,
        };
        let attempts = self.clients[at].attempts + 1;
        // The refused request keeps answering retransmitted refusals, but is no longer the call's INVITE.
        if let Purpose::Invite(index) = purpose {
            self.calls[index].state = State::Calling;
            self.clients[at].purpose = Purpose::Reinvite(index);
        }
        self.send(now, draft, purpose, attempts);
        true
    }

    fn concluded(&mut self, now: Instant, at: usize, message: &Message) {
        let status = message.status();
        match self.clients[at].purpose {
            Purpose::Register => self.registered(now, message),
            Purpose::Invite(index) => {
                self.calls[index].response = Some(message.clone());
                if status < 300 {
                    self.answered(now, at, index, message);
                } else {
                    self.end(index, status, false);
                }
            }
            Purpose::Reinvite(index) => self.reinvited(now, at, index, message),
            Purpose::Refer(index) => self.calls[index].refer_status = Some(status),
            Purpose::Bye(_) | Purpose::Cancel(_) | Purpose::Prack(_) => {}
            Purpose::Other => self.responses.push(message.clone()),
        }
    }

    fn registered(&mut self, now: Instant, message: &Message) {
        self.responses.push(message.clone());
        if message.status() != 200 {
            self.registration = Registration::Refused(message.status());
            return;
        }
        self.contacts_listed = message.values(Name::Contact).count();
        if self.expires_s == 0 {
            self.registration = Registration::None;
            return;
        }
        self.registration = Registration::Done;
        if self.refreshes {
            self.at(now + Duration::from_secs(u64::from(self.expires_s) / 2), Wake::Register);
        }
    }

    fn answered(&mut self, now: Instant, at: usize, index: usize, message: &Message) {
        let cseq = self.clients[at].draft.cseq;
        let call = &mut self.calls[index];
        call.remote_tag = message.to_tag().map(str::to_owned);
        call.routes = message.values(Name::RecordRoute).map(str::to_owned).collect();
        call.routes.reverse();
        if let Some(contact) = message.contact() {
            contact.uri.clone_into(&mut call.target);
        } else {
            self.faults.push("a 200 to INVITE came without Contact".into());
        }
        self.calls[index].was_answered = true;
        let has_offered = self.clients[at].draft.body.is_some();
        let answer = self.read_final(has_offered, index, message);
        self.ack_success(at, index, cseq, answer);
        let call = &mut self.calls[index];
        let was_cancelled = call.wants_cancel;
        call.state = State::Up;
        if was_cancelled {
            // RFC 3261 section 9.1: the 200 crossed our CANCEL.
            self.bye(now, index);
        } else {
            self.start_voice(now, index);
        }
    }

    fn ack_success(&mut self, at: usize, index: usize, cseq: u32, body: Option<String>) {
        let credentials = self.clients[at].draft.headers.iter().filter(|(n, _)| n.ends_with("uthorization"));
        let headers = credentials.cloned().collect();
        let draft = Draft { cseq, headers, body, ..Self::dialog_draft(&self.calls[index], "ACK") };
        let branch = format!("z9hG4bK{}", self.rng.token(16));
        let bytes = self.write(&draft, &branch);
        self.calls[index].ack = Some((cseq, bytes.clone()));
        self.outbox.push(bytes);
    }

    fn reinvited(&mut self, now: Instant, at: usize, index: usize, message: &Message) {
        let status = message.status();
        let cseq = self.clients[at].draft.cseq;
        if !self.calls[index].is_reinviting {
            return;
        }
        if status < 300 {
            if let Some(contact) = message.contact() {
                contact.uri.clone_into(&mut self.calls[index].target);
            }
            self.ack_success(at, index, cseq, None);
            let call = &mut self.calls[index];
            let body = message.sdp().unwrap_or_default();
            if let Err(why) = call.voice.read_answer(&String::from_utf8_lossy(&body)) {
                call.voice.faults.push(why);
            }
        }
        let call = &mut self.calls[index];
        call.is_reinviting = false;
        call.reinvite_status = Some(status);
        if status == 488 {
            call.voice.fax.is_wanted = false;
        }
        match status {
            // RFC 3261 section 14.1: the owner of the Call-ID waits longer.
            491 | 500 if call.state == State::Up => {
                let base = if call.is_caller { 2_100 } else { 0 };
                let wait = base + u64::from(self.rng.below(2_000));
                self.at(now + Duration::from_millis(wait), Wake::Reinvite(index));
            }
            408 | 481 => self.failed(now, Purpose::Reinvite(index), status),
            _ => {}
        }
    }

    // Server side.

    fn request(&mut self, now: Instant, message: &Message) {
        let branch = message.via().and_then(|v| v.branch().map(str::to_owned)).unwrap_or_default();
        if !branch.starts_with("z9hG4bK") {
            self.faults.push("a request without an RFC 3261 branch".into());
        }
        let method = message.method_text();
        if method == "ACK" {
            self.acknowledged(now, &branch, message);
            return;
        }
        if let Some(service) = self.services.iter().find(|s| s.branch == branch && s.request.method_text() == method) {
            self.outbox.extend(service.response.clone());
            return;
        }
        self.services.push(Service {
            branch,
            request: message.clone(),
            call: None,
            response: None,
            status: 0,
            interval: T1,
            resend_at: None,
            give_up_at: None,
            forget_at: now + LINGER,
        });
        let at = self.services.len() - 1;
        match message.method() {
            Some(Method::Invite) if message.to_tag().is_none() => self.invited(now, at),
            Some(Method::Invite) => self.reoffered(now, at),
            Some(Method::Bye) => self.bid_farewell(now, at),
            Some(Method::Cancel) => self.cancelled(now, at),
            Some(Method::Prack) => self.acknowledged_early(now, at),
            Some(Method::Options) => self.reply(now, at, 200, None),
            Some(Method::Notify) if self.calls.iter().any(|c| c.call_id == message.call_id()) => self.notified(now, at),
            Some(Method::Message | Method::Notify) => {
                self.events.push(message.clone());
                self.reply(now, at, 200, None);
            }
            _ => self.reply(now, at, 501, None),
        }
    }

    fn invited(&mut self, now: Instant, at: usize) {
        let request = self.services[at].request.clone();
        let mut call = self.new_call(false);
        request.call_id().clone_into(&mut call.call_id);
        call.remote_tag = request.from_tag().map(str::to_owned);
        call.remote = request.from().map(|f| format!("<{}>", f.uri)).unwrap_or_default();
        call.local = request.to().map(|t| format!("<{}>", t.uri)).unwrap_or_default();
        call.routes = request.values(Name::RecordRoute).map(str::to_owned).collect();
        call.remote_cseq = request.cseq().map_or(0, |c| c.number);
        match request.contact() {
            Some(contact) => contact.uri.clone_into(&mut call.target),
            None => self.faults.push("an INVITE came without Contact".into()),
        }
        let body = request.body();
        call.invite = Some(request);
        self.calls.push(call);
        let index = self.calls.len() - 1;
        self.services[at].call = Some(index);
        // Rings until answered, however long that takes.
        self.services[at].forget_at = now + Duration::from_secs(600);
        match self.profile.answer {
            Answer::Silent => {}
            Answer::Unless(what, status) if String::from_utf8_lossy(&body).contains(what) => {
                self.reply(now, at, status, None);
                self.end(index, status, false);
            }
            Answer::Unless(..) => self.accept(now, index),
            Answer::Late(wait) => self.at(now + wait, Wake::Answer(index)),
            Answer::Refuse(status) => {
                self.reply(now, at, status, None);
                self.end(index, status, false);
            }
            Answer::Ring => self.ring(now, at, index),
            Answer::After(wait) => {
                self.ring(now, at, index);
                self.at(now + wait, Wake::Answer(index));
            }
        }
    }

    fn reoffered(&mut self, now: Instant, at: usize) {
        let request = self.services[at].request.clone();
        let Some(index) = self.dialog_of(&request) else {
            self.reply(now, at, 481, None);
            return;
        };
        self.services[at].call = Some(index);
        // RFC 3261 section 14.2: also while an offer of ours, in a 200, waits for its answer.
        if self.calls[index].is_reinviting || self.calls[index].early.awaits_answer {
            self.reply(now, at, 491, None);
            return;
        }
        let call = &mut self.calls[index];
        if let Some(contact) = request.contact() {
            contact.uri.clone_into(&mut call.target);
        }
        let offer = request.sdp().unwrap_or_default();
        match call.voice.answer(&String::from_utf8_lossy(&offer)) {
            Some(answer) => self.reply(now, at, 200, Some(&answer)),
            None => {
                if call.voice.fax.is_welcome {
                    call.voice.faults.push("a re-INVITE whose offer this phone cannot take".into());
                }
                self.reply(now, at, 488, None);
            }
        }
    }

    fn bid_farewell(&mut self, now: Instant, at: usize) {
        let request = self.services[at].request.clone();
        match self.dialog_of(&request) {
            Some(index) => {
                self.reply(now, at, 200, None);
                self.end(index, 200, true);
            }
            None => self.reply(now, at, 481, None),
        }
    }

    /// News of a transfer, also after we have hung up.
    fn notified(&mut self, now: Instant, at: usize) {
        let request = self.services[at].request.clone();
        let is_its = |c: &Call| {
            c.call_id == request.call_id()
                && request.to_tag() == Some(c.local_tag.as_str())
                && request.from_tag() == c.remote_tag.as_deref()
        };
        let call = self.calls.iter_mut().find(|c| is_its(c) && c.refer_status.is_some_and(|status| status != 200));
        let status = match call {
            Some(call) => {
                call.news.push(String::from_utf8_lossy(&request.body()).trim_end().to_owned());
                200
            }
            None => 481,
        };
        self.reply(now, at, status, None);
    }

    fn cancelled(&mut self, now: Instant, at: usize) {
        let branch = self.services[at].branch.clone();
        let invite =
            self.services.iter().position(|s| s.branch == branch && s.request.method() == Some(Method::Invite));
        let Some(invite) = invite else {
            self.reply(now, at, 481, None);
            return;
        };
        self.reply(now, at, 200, None);
        if self.services[invite].status < 200 {
            self.reply(now, invite, 487, None);
            if let Some(index) = self.services[invite].call {
                self.end(index, 487, true);
            }
        }
    }

    fn acknowledged(&mut self, now: Instant, branch: &str, message: &Message) {
        let cseq = message.cseq().map(|c| c.number);
        let mut answered = None;
        for service in &mut self.services {
            let is_invite = service.request.method() == Some(Method::Invite);
            let is_same = service.request.call_id() == message.call_id()
                && service.request.cseq().map(|c| c.number) == cseq
                && service.request.from_tag() == message.from_tag();
            let matches = if service.status >= 300 { service.branch == branch } else { is_same };
            if is_invite && service.status >= 200 && matches {
                service.resend_at = None;
                service.give_up_at = None;
                answered = service.call.filter(|_| service.status < 300);
            }
        }
        if let Some(index) = answered {
            self.read_late_answer(now, index, message);
        }
    }

    fn finish_invite(&mut self, now: Instant, index: usize, status: u16, body: Option<&str>) {
        let of_call = |s: &Service| s.call == Some(index) && s.request.to_tag().is_none() && s.status < 200;
        if let Some(at) = self.services.iter().position(of_call) {
            self.reply(now, at, status, body);
        }
    }

    fn reply(&mut self, now: Instant, at: usize, status: u16, body: Option<&str>) {
        let request = self.services[at].request.clone();
        let is_invite = request.method() == Some(Method::Invite);
        let tag = match self.services[at].call {
            Some(index) => self.calls[index].local_tag.clone(),
            None => self.rng.token(8),
        };
        let reason = ringdown::wire::sip::build::reason_phrase(status);
        let mut builder = ResponseBuilder::to(&request, status, reason, &tag, self.profile.server);
        if is_invite && status > 100 && status < 300 {
            builder = builder.header("Contact", self.contact());
        }
        if let Some(body) = body {
            builder = builder.body("application/sdp", body.as_bytes());
        }
        let bytes = builder.finish();
        self.outbox.push(bytes.clone());
        let is_reliable = self.profile.transport.is_reliable();
        let service = &mut self.services[at];
        service.response = Some(bytes);
        service.status = status;
        if status >= 200 {
            service.forget_at = now + LINGER;
            if is_invite {
                // RFC 3261 section 13.3.1.4: a 2xx is repeated on every transport.
                service.resend_at = (status < 300 || !is_reliable).then(|| now + T1);
                service.give_up_at = Some(now + GIVE_UP);
            }
        }
    }

    fn wake_services(&mut self, now: Instant) {
        let mut unacknowledged = Vec::new();
        for service in &mut self.services {
            if service.give_up_at.is_some_and(|at| at <= now) {
                service.give_up_at = None;
                service.resend_at = None;
                if service.status < 300 {
                    unacknowledged.extend(service.call);
                }
            } else if service.resend_at.is_some_and(|at| at <= now) {
                service.interval = (service.interval * 2).min(T2);
                service.resend_at = Some(now + service.interval);
                self.outbox.extend(service.response.clone());
            }
        }
        self.services.retain(|s| s.forget_at > now);
        for index in unacknowledged {
            match self.calls[index].state {
                State::Up => self.bye(now, index),
                State::Ringing => self.give_up_early(now, index),
                State::Calling | State::Ended(_) => {}
            }
        }
    }

    /// The live call whose dialog an in-dialog request names.
    fn dialog_of(&mut self, request: &Message) -> Option<usize> {
        let index = self.calls.iter().position(|c| {
            c.call_id == request.call_id()
                && request.to_tag() == Some(c.local_tag.as_str())
                && request.from_tag() == c.remote_tag.as_deref()
                && c.state == State::Up
        })?;
        let call = &mut self.calls[index];
        let cseq = request.cseq().map_or(0, |c| c.number);
        if cseq < call.remote_cseq {
            let earlier = call.remote_cseq;
            call.voice.faults.push(format!("CSeq went back from {earlier} to {cseq}"));
        }
        call.remote_cseq = call.remote_cseq.max(cseq);
        Some(index)
    }

    // Both.

    fn new_call(&mut self, is_caller: bool) -> Call {
        let serial = u32::try_from(self.calls.len()).expect("few calls");
        let port = FIRST_RTP_PORT + 2 * u16::try_from(serial).expect("few calls");
        let rtp = SocketAddr::new(self.profile.ip, port);
        let p = &self.profile;
        Call {
            is_caller,
            state: if is_caller { State::Calling } else { State::Ringing },
            was_answered: false,
            ended_by_peer: false,
            invite: None,
            response: None,
            voice: Voice::new((p.id, serial), rtp, &p.suites, p.has_mux, &mut self.rng),
            is_held_by_us: false,
            reinvite_status: None,
            refer_status: None,
            news: Vec::new(),
            is_takeover: false,
            rtp,
            call_id: self.rng.token(20),
            local: format!("<sip:{}@{}>", p.user, p.domain),
            remote: String::new(),
            local_tag: self.rng.token(8),
            remote_tag: None,
            target: String::new(),
            routes: Vec::new(),
            cseq: 0,
            remote_cseq: 0,
            ack: None,
            wants_cancel: false,
            is_reinviting: false,
            early: Early::default(),
        }
    }

    fn start_voice(&mut self, now: Instant, index: usize) {
        if self.calls[index].voice.is_settled() && !self.timers.iter().any(|(_, w)| *w == Wake::Voice(index)) {
            self.at(now, Wake::Voice(index));
        }
    }

    fn speak(&mut self, now: Instant, index: usize) {
        if self.calls[index].state == State::Up || self.calls[index].early.speaks {
            self.packets.extend(self.calls[index].voice.speak());
            self.at(now + self.voice_every, Wake::Voice(index));
        }
    }

    fn reconnect(&mut self, now: Instant) {
        self.is_offline = false;
        if self.refreshes && self.profile.password.is_some() {
            self.register(now, self.expires_s);
        }
        self.repeat_farewells();
        let live: Vec<usize> = self.live_calls().map(|(i, _)| i).collect();
        for index in live {
            self.hang_up(now, index);
        }
    }

    fn end(&mut self, index: usize, status: u16, by_peer: bool) {
        let call = &mut self.calls[index];
        if !matches!(call.state, State::Ended(_)) {
            call.state = State::Ended(status);
            call.ended_by_peer = by_peer;
        }
        self.timers.retain(|(_, w)| !matches!(w, Wake::Answer(i) | Wake::Voice(i) | Wake::Reinvite(i) if *i == index));
    }

    fn at(&mut self, when: Instant, wake: Wake) {
        self.timers.push((when, wake));
    }
}

fn nonce_of(challenge: &str) -> Option<&str> {
    challenge.split("nonce=\"").nth(1)?.split('"').next()
}
