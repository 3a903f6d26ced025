//! A small SIP phone without I/O, as the self-test needs it.
//!
//! Owns one registration and at most one call, over one connection (TCP or TLS) to its server. It insists on one SRTP
//! suite and answers every call at once. It never sends media by itself: [`Media::voices`] gives whoever owns the socket
//! what to send and receive with.
//!
//! ```text
//!         Dial               200, ACK sent            HangUp
//!   Idle ──────► Calling ─────────────────────┐ ┌──────────────► HangingUp ──► Idle
//!     │      INVITE            ACK received   ▼ │      BYE received
//!     └────────────► Answered ─────────────► Up ┴────────────────────────────► Idle
//!                                            │ ▲
//!                                       Hold ▼ │ final response
//!                                          Holding
//! ```

mod describe;
mod hold;
mod interface;
mod voice;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use bytes::Bytes;

use crate::{
    sip::{
        MAX_FORWARDS,
        dialog::Dialog,
        transaction::{self, Table},
    },
    types::{Instant, Rng, Secret, TxnId},
    wire::sip::{
        Message, Method, Name, RequestBuilder, ResponseBuilder,
        build::reason_phrase,
        digest,
        frame::{Frame, Framer, PONG},
        validate,
    },
};

pub use interface::{Config, Event, Input, Output, Refusal};
pub use voice::{Listener, Media, PACKET_BYTES_MAX, PAYLOAD_BYTES_MAX, Speaker, direct};

use describe::Description;

/// The methods this phone answers other than with 405.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE";
/// A phone has a call, a registration and their ends; everything above is somebody else's traffic.
const TRANSACTIONS_MAX: usize = 16;

/// One phone.
pub struct Phone {
    config: Config,
    rng: Rng,
    framer: Framer,
    table: Table,
    /// By client transaction, until its final response.
    attempts: HashMap<TxnId, Attempt>,
    call: Call,
    register_call_id: String,
    register_cseq: u32,
    outputs: VecDeque<Output>,
    wake_at: Option<Instant>,
}

enum Call {
    Idle,
    /// With our offer.
    Calling(Description),
    /// Our 200 awaits its ACK.
    Answered {
        txn: TxnId,
        dialog: Dialog,
        media: Media,
        own: Description,
    },
    /// `ack`: for each retransmission of the 200; `None` where the peer called. `answered`: the peer's INVITE within the call,
    /// until its ACK.
    Up {
        dialog: Dialog,
        ack: Option<Bytes>,
        own: Description,
        answered: Option<TxnId>,
    },
    /// With our INVITE within the call.
    Holding {
        txn: TxnId,
        dialog: Dialog,
        own: Description,
    },
    /// With the transaction of our BYE.
    HangingUp(TxnId),
}

/// A REGISTER or INVITE on its way.
struct Attempt {
    draft: Draft,
    sent: Message,
}

/// A request outside of dialogs that can be written again with credentials.
struct Draft {
    method: Method,
    uri: String,
    /// With its tag.
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
    offer: Option<Secret<String>>,
    /// Header name and value.
    credentials: Option<(&'static str, String)>,
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phone").field("user", &self.config.user).finish_non_exhaustive()
    }
}

impl Phone {
    pub fn new(config: Config, mut rng: Rng) -> Self {
        Self {
            table: Table::new(rng.fork(), TRANSACTIONS_MAX),
            framer: Framer::new(),
            attempts: HashMap::new(),
            call: Call::Idle,
            register_call_id: rng.token(20),
            register_cseq: 0,
            outputs: VecDeque::new(),
            wake_at: None,
            config,
            rng,
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Received(bytes) => self.receive(now, &bytes),
            Input::Register => self.register(now),
            Input::Dial { user } => self.dial(now, &user),
            Input::Hold => self.hold(now),
            Input::HangUp => self.hang_up(now),
            Input::Timeout => self.table.handle_input(now, transaction::Input::Timeout),
        }
        self.drain_table(now);
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or(Output::Timeout(self.wake_at))
    }

    fn drain_table(&mut self, now: Instant) {
        loop {
            match self.table.poll_output() {
                transaction::Output::Transmit { bytes, .. } => self.transmit(bytes),
                transaction::Output::Event(event) => self.transaction_event(now, event),
                transaction::Output::Dropped(_) => self.fault("A message belongs to nothing that this phone has sent"),
                transaction::Output::Timeout(at) => {
                    self.wake_at = at;
                    return;
                }
            }
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.framer.push(bytes);
        loop {
            match self.framer.poll() {
                Ok(Some(Frame::Message(bytes))) => self.receive_message(now, bytes),
                Ok(Some(Frame::Ping)) => self.transmit(Bytes::from_static(PONG)),
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => return,
                Err(error) => return self.fault(error.fault.reason),
            }
        }
    }

    fn receive_message(&mut self, now: Instant, bytes: Bytes) {
        match Message::parse(bytes).and_then(|message| validate(&message).map(|()| message)) {
            Ok(message) => {
                let flow = self.config.flow;
                self.table.handle_input(now, transaction::Input::Received { flow, message });
                self.drain_table(now);
            }
            Err(fault) => self.fault(fault.reason),
        }
    }

    fn transaction_event(&mut self, now: Instant, event: transaction::Event) {
        match event {
            transaction::Event::Request { txn, message, .. } => self.request(now, txn, &message),
            transaction::Event::Ack { message, .. } => self.acknowledged(now, &message),
            transaction::Event::Response { txn, message } => self.response(now, txn, &message),
            transaction::Event::TimedOut { txn } => self.failed(txn, 408),
            transaction::Event::TransportFailed { txn } => self.failed(txn, 503),
            transaction::Event::NotAcknowledged { .. } => {
                self.fault("The 200 to an INVITE is not acknowledged");
                self.hang_up(now);
            }
            // Calls are answered at once, so a CANCEL always comes too late.
            transaction::Event::Cancelled { .. } | transaction::Event::Terminated { .. } => {}
        }
    }

    // Client side.

    fn register(&mut self, now: Instant) {
        self.register_cseq += 1;
        let domain = &self.config.domain;
        let draft = Draft {
            method: Method::Register,
            uri: format!("sip:{domain}"),
            from: format!("{};tag={}", self.address_of(&self.config.user), self.rng.token(16)),
            to: self.address_of(&self.config.user),
            call_id: self.register_call_id.clone(),
            cseq: self.register_cseq,
            offer: None,
            credentials: None,
        };
        self.send(now, draft);
    }

    fn dial(&mut self, now: Instant, user: &str) {
        let Call::Idle = self.call else { return };
        let offer = Description::offer(self.config.suite, self.config.media, &mut self.rng);
        let draft = Draft {
            method: Method::Invite,
            uri: format!("sip:{user}@{}", self.config.domain),
            from: format!("{};tag={}", self.address_of(&self.config.user), self.rng.token(16)),
            to: self.address_of(user),
            call_id: self.rng.token(20),
            cseq: 1,
            offer: Some(offer.text()),
            credentials: None,
        };
        self.call = Call::Calling(offer);
        self.send(now, draft);
    }

    fn hang_up(&mut self, now: Instant) {
        match std::mem::replace(&mut self.call, Call::Idle) {
            Call::Answered { dialog, .. } | Call::Up { dialog, .. } | Call::Holding { dialog, .. } => {
                self.bye(now, dialog);
            }
            call @ (Call::Idle | Call::Calling(_) | Call::HangingUp(_)) => self.call = call,
        }
    }

    fn bye(&mut self, now: Instant, mut dialog: Dialog) {
        let (txn, branch) = self.table.reserve();
        let bytes = dialog.request(Method::Bye, &self.via(&branch)).finish();
        self.call = Call::HangingUp(txn);
        self.start(now, txn, own_message(bytes));
    }

    fn send(&mut self, now: Instant, draft: Draft) {
        let (txn, branch) = self.table.reserve();
        let mut request = RequestBuilder::new(draft.method.as_str(), &draft.uri)
            .header("Via", self.via(&branch))
            .header("Max-Forwards", MAX_FORWARDS)
            .header("From", &draft.from)
            .header("To", &draft.to)
            .header("Call-ID", &draft.call_id)
            .header("CSeq", format_args!("{} {}", draft.cseq, draft.method.as_str()))
            .header("Contact", self.contact())
            .header("Allow", ALLOW);
        if let Some((name, value)) = &draft.credentials {
            request = request.header(name, value);
        }
        if let Some(offer) = &draft.offer {
            request = request.body(describe::CONTENT_TYPE, offer.expose().as_bytes());
        }
        let sent = own_message(request.finish());
        self.attempts.insert(txn, Attempt { draft, sent: sent.clone() });
        self.start(now, txn, sent);
    }

    fn start(&mut self, now: Instant, txn: TxnId, request: Message) {
        let flow = self.config.flow;
        self.table.handle_input(now, transaction::Input::Send { txn, flow, request });
    }

    fn response(&mut self, now: Instant, txn: TxnId, response: &Message) {
        let status = response.status();
        if status < 200 {
            // 181, 182 and 199 say nothing about a bell.
            if matches!(status, 180 | 183) {
                self.tell(Event::Ringing);
            }
            return;
        }
        let Some(Attempt { draft, sent }) = self.attempts.remove(&txn) else {
            return match status {
                _ if self.is_hanging_up_with(txn) => self.ended(),
                200..=299 if self.is_holding_with(txn) => self.held(Ok(response)),
                _ if self.is_holding_with(txn) => self.held(Err(Refusal::read(response))),
                _ => self.acknowledge_again(),
            };
        };
        match (draft.method, status) {
            (_, 401 | 407) if draft.credentials.is_none() => self.authorize(now, draft, response),
            (Method::Invite, 200..=299) => self.answered(now, &draft, &sent, response),
            (_, 200..=299) => self.tell(Event::Registered),
            (method, _) => self.refused(method, Refusal::read(response)),
        }
    }

    fn failed(&mut self, txn: TxnId, status: u16) {
        match self.attempts.remove(&txn) {
            Some(Attempt { draft, .. }) => self.refused(draft.method, Refusal::own(status)),
            None if self.is_hanging_up_with(txn) => self.ended(),
            None if self.is_holding_with(txn) => self.held(Err(Refusal::own(status))),
            None => {}
        }
    }

    /// Once per request: a server that challenges the answer, too, does not know the password.
    fn authorize(&mut self, now: Instant, mut draft: Draft, response: &Message) {
        let (challenge, name) = match response.status() {
            401 => (Name::WwwAuthenticate, "Authorization"),
            _ => (Name::ProxyAuthenticate, "Proxy-Authorization"),
        };
        let cnonce = self.rng.token(16);
        let answer = digest::answer(
            response.lines(challenge),
            &self.config.user,
            self.config.password.expose(),
            draft.method.as_str(),
            &draft.uri,
            draft.offer.as_ref().map_or(&[], |offer| offer.expose().as_bytes()),
            &cnonce,
            1,
        );
        let Some(value) = answer else {
            return self.refused(draft.method, Refusal::read(response));
        };
        draft.credentials = Some((name, value));
        draft.cseq += 1;
        if draft.method == Method::Register {
            self.register_cseq = draft.cseq;
        }
        self.send(now, draft);
    }

    fn refused(&mut self, method: Method, refusal: Refusal) {
        if method == Method::Invite {
            self.call = Call::Idle;
        }
        self.tell(Event::Refused(refusal));
    }

    fn answered(&mut self, now: Instant, draft: &Draft, invite: &Message, response: &Message) {
        let Call::Calling(offer) = std::mem::replace(&mut self.call, Call::Idle) else { return };
        let Some(dialog) = Dialog::uac(invite, response) else {
            return self.fault("The 200 to an INVITE makes no dialog");
        };
        let ack = self.ack(draft, &dialog);
        self.transmit(ack.clone());
        match response.sdp().and_then(|body| offer.read_answer(&body)) {
            Some(media) => {
                self.call = Call::Up { dialog, ack: Some(ack), own: offer, answered: None };
                self.tell(Event::Established(media));
            }
            None => {
                self.fault("The answer to our offer does not choose its suite");
                self.bye(now, dialog);
            }
        }
    }

    /// RFC 3261 section 13.2.2.4: with the credentials of the INVITE.
    fn ack(&mut self, draft: &Draft, dialog: &Dialog) -> Bytes {
        let (_, branch) = self.table.reserve();
        let mut ack = dialog.ack(draft.cseq, &self.via(&branch));
        if let Some((name, value)) = &draft.credentials {
            ack = ack.header(name, value);
        }
        ack.finish()
    }

    fn acknowledge_again(&mut self) {
        if let Call::Up { ack: Some(ack), .. } = &self.call {
            let ack = ack.clone();
            self.transmit(ack);
        }
    }

    // Server side.

    fn request(&mut self, now: Instant, txn: TxnId, request: &Message) {
        match request.method() {
            Some(Method::Invite) if self.has_dialog_of(request) => self.invited_again(now, txn, request),
            Some(Method::Invite) => self.invited(now, txn, request),
            Some(Method::Bye) if self.has_dialog_of(request) => {
                self.respond(now, txn, request, 200);
                if let Call::Answered { txn, .. } = self.call {
                    self.table.handle_input(now, transaction::Input::Acknowledged { txn });
                }
                self.ended();
            }
            Some(Method::Bye) => self.respond(now, txn, request, 481),
            Some(_) | None => self.respond(now, txn, request, 405),
        }
    }

    fn invited(&mut self, now: Instant, txn: TxnId, invite: &Message) {
        let Call::Idle = self.call else {
            return self.respond(now, txn, invite, 486);
        };
        let (suite, own) = (self.config.suite, self.config.media);
        let answer = invite.sdp().and_then(|offer| Description::answer(&offer, suite, own, &mut self.rng));
        let Some((answer, media)) = answer else {
            return self.respond(now, txn, invite, 488);
        };
        let tag = self.rng.token(16);
        let Some(dialog) = Dialog::uas(invite, &tag) else {
            return self.respond(now, txn, invite, 400);
        };
        let contact = self.contact();
        for (status, body) in [(180, None), (200, Some(answer.text()))] {
            let mut response =
                ResponseBuilder::to(invite, status, reason_phrase(status), &tag, self.config.flow.remote)
                    .header("Contact", &contact)
                    .header("Allow", ALLOW);
            if let Some(body) = body {
                response = response.body(describe::CONTENT_TYPE, body.expose().as_bytes());
            }
            self.table.handle_input(now, transaction::Input::Respond { txn, status, response: response.finish() });
        }
        self.call = Call::Answered { txn, dialog, media, own: answer };
    }

    fn acknowledged(&mut self, now: Instant, ack: &Message) {
        if !self.has_dialog_of(ack) {
            return;
        }
        match std::mem::replace(&mut self.call, Call::Idle) {
            Call::Answered { txn, dialog, media, own } => {
                self.table.handle_input(now, transaction::Input::Acknowledged { txn });
                self.call = Call::Up { dialog, ack: None, own, answered: None };
                self.tell(Event::Established(media));
            }
            Call::Up { dialog, ack, own, answered: Some(txn) } => {
                self.table.handle_input(now, transaction::Input::Acknowledged { txn });
                self.call = Call::Up { dialog, ack, own, answered: None };
                self.tell(Event::Held);
            }
            call @ (Call::Idle
            | Call::Calling(_)
            | Call::Up { answered: None, .. }
            | Call::Holding { .. }
            | Call::HangingUp(_)) => self.call = call,
        }
    }

    fn respond(&mut self, now: Instant, txn: TxnId, request: &Message, status: u16) {
        let tag = self.rng.token(16);
        let response = ResponseBuilder::to(request, status, reason_phrase(status), &tag, self.config.flow.remote)
            .header("Allow", ALLOW)
            .finish();
        self.table.handle_input(now, transaction::Input::Respond { txn, status, response });
    }

    fn has_dialog_of(&self, request: &Message) -> bool {
        match &self.call {
            Call::Answered { dialog, .. } | Call::Up { dialog, .. } | Call::Holding { dialog, .. } => {
                dialog.id.call_id == request.call_id()
                    && request.to_tag() == Some(&dialog.id.local_tag)
                    && request.from_tag() == Some(&dialog.id.remote_tag)
            }
            Call::Idle | Call::Calling(_) | Call::HangingUp(_) => false,
        }
    }

    const fn is_hanging_up_with(&self, txn: TxnId) -> bool {
        matches!(self.call, Call::HangingUp(bye) if bye.0 == txn.0)
    }

    // Both sides.

    fn ended(&mut self) {
        self.call = Call::Idle;
        self.tell(Event::Ended);
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn fault(&mut self, text: &'static str) {
        self.tell(Event::Fault(text));
    }

    fn transmit(&mut self, bytes: Bytes) {
        self.outputs.push_back(Output::Transmit(bytes));
    }

    fn via(&self, branch: &str) -> String {
        let flow = &self.config.flow;
        format!("SIP/2.0/{} {};branch={branch};rport", flow.transport.via_token(), flow.local)
    }

    fn contact(&self) -> String {
        let Config { user, flow, .. } = &self.config;
        format!("<sip:{user}@{};transport={}>", flow.local, flow.transport.uri_token())
    }

    fn address_of(&self, user: &str) -> String {
        format!("<sip:{user}@{}>", self.config.domain)
    }
}

fn own_message(bytes: Bytes) -> Message {
    Message::parse(bytes).expect("what the builder writes, the parser reads")
}
