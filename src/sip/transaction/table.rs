//! Matches messages to transactions and runs their timers.
//!
//! Responses leave on the flow their request came on. For UDP that is the datagram's source address and port, whether or
//! not the sender asked for `rport`: nearly every phone sits behind a NAT, and none listens only elsewhere (RFC 3581).

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, Hash, RandomState},
};

use bytes::Bytes;

use crate::{
    types::{DropReason, Flow, Instant, Rng, Secret, TxnId},
    wire::{
        keyed,
        sip::{Message, Method, Name, ResponseBuilder, build::reason_phrase, reason},
    },
};

use super::{
    action::{Action, Actions},
    invite_client::InviteClient,
    invite_server::InviteServer,
    machine::{Machine, Stimulus},
    non_invite_client::NonInviteClient,
    non_invite_server::NonInviteServer,
    timers::{Queue, Running},
};

/// What the table is told.
pub enum Input {
    /// A parsed and validated message.
    Received { flow: Flow, message: Message },
    /// The same for a request that is served even if the table is full: an emergency call, or the end of a call.
    Urgent { flow: Flow, message: Message },
    /// The same for a message whose sender has proven nothing. Where the first answer to it is a final one that makes no
    /// dialog, its transaction ends with it, as that of a stateless server does (RFC 3261 section 8.2.7): strangers take no
    /// memory. The request repeated is judged anew.
    Stranger { flow: Flow, message: Message },
    /// The sender of this request has proven itself since.
    Identified { txn: TxnId },
    /// Start a client transaction. `request` is complete; its top Via carries the branch of [`Table::reserve`]. An ACK for
    /// a 2xx is no transaction: it is transmitted without the table.
    Send { txn: TxnId, flow: Flow, request: Message },
    /// Give up an INVITE client transaction: the layer sends CANCEL once a provisional response has come (RFC 3261 section
    /// 9.1). The INVITE ends as usual, with 487 or with a 2xx that was faster; without any final response, it times out
    /// 64*T1 after the CANCEL. No effect on other transactions. `reason` is the value of a Reason header (RFC 3326), or
    /// empty.
    Cancel { txn: TxnId, reason: String },
    /// Answer a server transaction. The layer retransmits it as its machine demands; a 2xx to INVITE is retransmitted
    /// until [`Input::Acknowledged`] (RFC 3261 section 13.3.1.4).
    Respond { txn: TxnId, status: u16, response: Bytes },
    /// The ACK for our 2xx arrived (the user of the layer matches it to its dialog).
    Acknowledged { txn: TxnId },
    /// Nothing can be sent on this flow any more.
    FlowFailed { flow: Flow },
    /// A timer may have fired.
    Timeout,
}

/// What the table wants done. Drain until `Timeout`.
#[expect(clippy::large_enum_variant, reason = "handed over at once, never kept")]
pub enum Output {
    Transmit {
        flow: Flow,
        bytes: Bytes,
    },
    Event(Event),
    /// Dropped and counted.
    Dropped(DropReason),
    /// Call again with [`Input::Timeout`] at this time; `None`: no timer runs.
    Timeout(Option<Instant>),
}

/// What happened, for the user of the layer.
#[derive(Debug)]
pub enum Event {
    /// A new server transaction. The layer sends 100 by itself if no answer follows within 200 ms, or 3.5 s for requests other
    /// than INVITE. Those it never answers 408, however asked (RFC 4320).
    Request { txn: TxnId, flow: Flow, message: Message },
    /// A CANCEL for a live INVITE server transaction; the layer has answered the CANCEL with 200. The user answers the
    /// INVITE with 487 unless it has a final response already. `reason` is what the CANCEL says of itself in a form that may
    /// be passed on, or empty.
    Cancelled { txn: TxnId, reason: String },
    /// An ACK that belongs to no transaction: for a 2xx.
    Ack { flow: Flow, message: Message },
    /// A response to a client transaction; 2xx to INVITE is passed up again each time it is retransmitted (RFC 6026).
    Response { txn: TxnId, message: Message },
    /// Client: no final response (timer B or F), to be treated as 408.
    TimedOut { txn: TxnId },
    /// Client or server: the transport failed, to be treated as 503.
    TransportFailed { txn: TxnId },
    /// Server: no ACK for our 2xx within 64*T1; the user ends the dialog with BYE.
    NotAcknowledged { txn: TxnId },
    /// The transaction and its memory are gone.
    Terminated { txn: TxnId },
}

/// What every branch of RFC 3261 starts with (section 8.1.1.7).
const MAGIC_COOKIE: &str = "z9hG4bK";

/// When a refused device may try again, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// All transactions of one server.
pub struct Table {
    rng: Rng,
    /// Makes the To tags of the layer's own responses: the same one for each retransmission (RFC 3261 section 8.2.7).
    tag_key: Secret<[u8; 32]>,
    transactions_max: usize,
    last_id: u64,
    hashes: Hashes,
    transactions: HashMap<TxnId, Box<Transaction>>,
    clients: HashMap<Key, TxnId>,
    servers: HashMap<Key, TxnId>,
    /// By a hash of the flow's key: another flow may have the same.
    by_flow: BTreeSet<(u64, TxnId)>,
    timers: Queue,
    /// Room for the actions of a step.
    actions: Actions,
    outputs: VecDeque<Output>,
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Received { message, .. } => write!(f, "Received({message:?})"),
            Self::Urgent { message, .. } => write!(f, "Urgent({message:?})"),
            Self::Stranger { message, .. } => write!(f, "Stranger({message:?})"),
            Self::Identified { txn } => write!(f, "Identified({txn:?})"),
            Self::Send { txn, request, .. } => write!(f, "Send({txn:?}, {request:?})"),
            Self::Cancel { txn, .. } => write!(f, "Cancel({txn:?})"),
            Self::Respond { txn, status, .. } => write!(f, "Respond({txn:?}, {status})"),
            Self::Acknowledged { txn } => write!(f, "Acknowledged({txn:?})"),
            Self::FlowFailed { flow } => write!(f, "FlowFailed({flow:?})"),
            Self::Timeout => f.write_str("Timeout"),
        }
    }
}

/// Bytes on their way are not printed: they may hold credentials and keys.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transmit { flow, bytes } => write!(f, "Transmit({flow:?}, {} bytes)", bytes.len()),
            Self::Event(event) => write!(f, "Event({event:?})"),
            Self::Dropped(reason) => write!(f, "Dropped({reason:?})"),
            Self::Timeout(at) => write!(f, "Timeout({at:?})"),
        }
    }
}

/// Only how many: messages may hold credentials and keys.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} transactions)", self.transactions.len())
    }
}

impl Table {
    /// `transactions_max`: a new request above it is answered 503 with Retry-After, statelessly. Client transactions count
    /// but are never refused: each belongs to a call or trunk that has been admitted.
    pub fn new(mut rng: Rng, transactions_max: usize) -> Self {
        Self {
            tag_key: Secret::new(rng.bytes()),
            rng,
            transactions_max,
            last_id: 0,
            hashes: Hashes::default(),
            transactions: HashMap::new(),
            clients: HashMap::new(),
            servers: HashMap::new(),
            by_flow: BTreeSet::new(),
            timers: Queue::default(),
            actions: Actions::default(),
            outputs: VecDeque::new(),
        }
    }

    /// An id for a new client transaction and the branch its Via must carry.
    pub fn reserve(&mut self) -> (TxnId, String) {
        (self.next_id(), format!("{MAGIC_COOKIE}{}", self.rng.token(24)))
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Received { flow, message } if message.is_request() => {
                self.receive_request(now, flow, message, Sender::Known);
            }
            Input::Stranger { flow, message } if message.is_request() => {
                self.receive_request(now, flow, message, Sender::Stranger);
            }
            Input::Urgent { flow, message } => self.receive_request(now, flow, message, Sender::Urgent),
            Input::Received { message, .. } | Input::Stranger { message, .. } => self.receive_response(now, message),
            Input::Identified { txn } => {
                if let Some(Side::Server { is_strangers }) = self.transactions.get_mut(&txn).map(|it| &mut it.side) {
                    *is_strangers = false;
                }
            }
            Input::Send { txn, flow, request } => self.send(now, txn, flow, request),
            Input::Cancel { txn, reason } => self.step_client(now, txn, Stimulus::Cancel(reason)),
            Input::Respond { txn, status, response } => self.step(now, txn, Stimulus::Respond { status, response }),
            Input::Acknowledged { txn } => self.step(now, txn, Stimulus::Acknowledged),
            Input::FlowFailed { flow } => self.fail(now, &flow),
            Input::Timeout => {
                while let Some((txn, timer)) = self.timers.due(now) {
                    self.step(now, txn, Stimulus::Timer(timer));
                }
            }
        }
    }

    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.timers.first()))
    }

    /// Live transactions.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// New requests are refused.
    pub fn is_full(&self) -> bool {
        self.len() >= self.transactions_max
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No index outlives the transactions.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.is_empty()
            && self.clients.is_empty()
            && self.servers.is_empty()
            && self.by_flow.is_empty()
            && self.timers.first().is_none()
    }

    #[cfg(test)]
    pub(super) const fn timer_operations(&self) -> usize {
        self.timers.operations
    }

    /// The To tag of an answer to this request that makes no dialog: the same whenever it is answered, and for its CANCEL and ACK.
    pub fn tag_of_refusal(&self, request: &Message) -> String {
        let via = request.via();
        let branch = via.as_ref().and_then(|via| via.branch()).unwrap_or_default();
        let sent_by = via.as_ref().map_or_else(Cow::default, |via| lower_case(via.host));
        let text = [branch, &*sent_by, request.call_id()].join("\n");
        let tag = keyed::tag(self.tag_key.expose(), text.as_bytes());
        format!("{:032x}", u128::from_be_bytes(tag))
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, message: Message, sender: Sender) {
        let Some(key) = Key::server(&self.hashes, &message) else {
            return self.outputs.push_back(Output::Dropped(DropReason::SipUnanswerable));
        };
        match (message.method(), self.servers.get(&key).copied()) {
            (Some(Method::Cancel), _) => self.receive_cancel(now, flow, key, &message),
            (Some(Method::Ack), Some(txn)) => self.step(now, txn, Stimulus::Ack { flow, message }),
            // For a refusal whose transaction is over.
            (Some(Method::Ack), None) if message.to_tag().is_some_and(|tag| tag == self.tag_of_refusal(&message)) => {}
            (Some(Method::Ack), None) => self.outputs.push_back(Output::Event(Event::Ack { flow, message })),
            (_, Some(txn)) => self.step(now, txn, Stimulus::Request),
            (_, None) if self.is_full() && sender != Sender::Urgent => self.refuse(flow, &message),
            (_, None) => self.serve(now, flow, key, message, sender),
        }
    }

    /// A CANCEL needs no state of its own: each copy of it meets the same INVITE and gets the same answer (section 9.2).
    fn receive_cancel(&mut self, now: Instant, flow: Flow, key: Key, cancel: &Message) {
        let Some(&invite) = self.servers.get(&key.with_method(Method::Invite)) else {
            return self.answer(flow, cancel, 481, &self.tag_of_refusal(cancel));
        };
        // The tags of both answers should agree (section 9.2).
        let tag = self.response_tag(invite).unwrap_or_else(|| self.tag_of_refusal(cancel));
        self.answer(flow, cancel, 200, &tag);
        self.step(now, invite, Stimulus::Cancel(reason::passed_on(cancel).unwrap_or_default()));
    }

    fn refuse(&mut self, flow: Flow, request: &Message) {
        let tag = self.tag_of_refusal(request);
        let bytes = ResponseBuilder::to(request, 503, reason_phrase(503), &tag, flow.remote)
            .header("Retry-After", RETRY_AFTER_S)
            .finish();
        self.outputs.push_back(Output::Transmit { flow, bytes });
        self.outputs.push_back(Output::Dropped(DropReason::SipTransactionsFull));
    }

    fn answer(&mut self, flow: Flow, request: &Message, status: u16, tag: &str) {
        let bytes = ResponseBuilder::to(request, status, reason_phrase(status), tag, flow.remote).finish();
        self.outputs.push_back(Output::Transmit { flow, bytes });
    }

    fn serve(&mut self, now: Instant, flow: Flow, key: Key, message: Message, sender: Sender) {
        let txn = self.next_id();
        let (request, out) = (message.bytes().clone(), &mut self.actions);
        let machine = if message.method() == Some(Method::Invite) {
            Machine::InviteServer(InviteServer::new(request, flow.remote, out))
        } else {
            Machine::NonInviteServer(NonInviteServer::new(request, flow.remote, out))
        };
        self.servers.insert(key, txn);
        self.outputs.push_back(Output::Event(Event::Request { txn, flow, message }));
        self.begin(now, txn, machine, flow, key, Side::Server { is_strangers: sender == Sender::Stranger });
    }

    fn receive_response(&mut self, now: Instant, message: Message) {
        // More than one Via means that the response was misrouted to us (section 8.1.3.3).
        let is_ours = message.values(Name::Via).nth(1).is_none();
        let key = Key::client(&self.hashes, &message).filter(|_| is_ours);
        match key.and_then(|key| self.clients.get(&key).copied()) {
            Some(txn) => self.step(now, txn, Stimulus::Response(message)),
            None => self.outputs.push_back(Output::Dropped(DropReason::SipStrayResponse)),
        }
    }

    fn send(&mut self, now: Instant, txn: TxnId, flow: Flow, request: Message) {
        let key = Key::client(&self.hashes, &request).expect("the user of the layer writes Via and CSeq");
        let (bytes, out) = (request.bytes().clone(), &mut self.actions);
        let machine = if request.method() == Some(Method::Invite) {
            Machine::InviteClient(InviteClient::new(bytes, flow.transport, out))
        } else {
            Machine::NonInviteClient(NonInviteClient::new(bytes, flow.transport, out))
        };
        self.clients.insert(key, txn);
        let is_gone = flow.key().is_none();
        if is_gone {
            self.actions.0.clear();
        }
        self.begin(now, txn, machine, flow, key, Side::Client);
        if is_gone {
            // A contact restored from the store, whose connection is gone: nothing can be sent and no failure will be told.
            self.step(now, txn, Stimulus::TransportFailed);
        }
    }

    /// Runs the CANCEL of a client INVITE as a transaction whose outcome is nobody's business but the INVITE's.
    fn start_cancel(&mut self, now: Instant, invite: &Transaction, request: Bytes) {
        let (flow, key) = (invite.flow, invite.key.with_method(Method::Cancel));
        let txn = self.next_id();
        let machine = Machine::NonInviteClient(NonInviteClient::new(request, flow.transport, &mut self.actions));
        self.clients.insert(key, txn);
        self.begin(now, txn, machine, flow, key, Side::OwnClient);
    }

    fn fail(&mut self, now: Instant, flow: &Flow) {
        let Some(hash) = self.hashes.of_flow(flow) else { return };
        let is_on = |txn: &TxnId| self.transactions.get(txn).is_some_and(|t| t.flow.key() == flow.key());
        let alike = self.by_flow.range((hash, TxnId(0))..=(hash, TxnId(u64::MAX))).map(|&(_, txn)| txn);
        let affected: Vec<TxnId> = alike.filter(is_on).collect();
        for txn in affected {
            self.step(now, txn, Stimulus::TransportFailed);
        }
    }

    /// Takes in a new transaction, whose first actions wait.
    fn begin(&mut self, now: Instant, txn: TxnId, machine: Machine, flow: Flow, key: Key, side: Side) {
        self.by_flow.extend(self.hashes.of_flow(&flow).map(|hash| (hash, txn)));
        let mut transaction = Box::new(Transaction { machine, flow, key, side, running: Running::default() });
        self.perform(now, txn, &mut transaction);
        self.transactions.insert(txn, transaction);
    }

    /// The same stimulus means another thing to servers.
    fn step_client(&mut self, now: Instant, txn: TxnId, stimulus: Stimulus) {
        if self.transactions.get(&txn).is_some_and(|t| t.side == Side::Client) {
            self.step(now, txn, stimulus);
        }
    }

    fn step(&mut self, now: Instant, txn: TxnId, stimulus: Stimulus) {
        let Some(mut transaction) = self.transactions.remove(&txn) else { return };
        if let Stimulus::Timer(timer) = stimulus {
            self.timers.clear(txn, &mut transaction.running, timer);
        }
        let is_forgotten = matches!(stimulus, Stimulus::Respond { status, .. } if transaction.is_over_with(status));
        transaction.machine.handle(stimulus, transaction.flow.transport, &mut self.actions);
        self.perform(now, txn, &mut transaction);
        if transaction.machine.is_terminated() || is_forgotten {
            self.forget(txn, *transaction);
        } else {
            self.transactions.insert(txn, transaction);
        }
    }

    /// What the machine has said last.
    fn perform(&mut self, now: Instant, txn: TxnId, transaction: &mut Transaction) {
        // A CANCEL that is started meanwhile has actions of its own.
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.0.drain(..) {
            let running = &mut transaction.running;
            match action {
                Action::Send(bytes) => self.outputs.push_back(Output::Transmit { flow: transaction.flow, bytes }),
                Action::Set(timer, after) => self.timers.set(txn, running, timer, now + after),
                Action::Clear(timer) => self.timers.clear(txn, running, timer),
                Action::PassResponse(message) => self.tell(transaction, Event::Response { txn, message }),
                Action::PassAck { flow, message } => self.tell(transaction, Event::Ack { flow, message }),
                Action::PassCancel(reason) => self.tell(transaction, Event::Cancelled { txn, reason }),
                Action::StartCancel(request) => self.start_cancel(now, transaction, request),
                Action::TimedOut => self.tell(transaction, Event::TimedOut { txn }),
                Action::TransportFailed => self.tell(transaction, Event::TransportFailed { txn }),
                Action::NotAcknowledged => self.tell(transaction, Event::NotAcknowledged { txn }),
                Action::Drop(reason) => self.outputs.push_back(Output::Dropped(reason)),
            }
        }
        self.actions = actions;
    }

    fn tell(&mut self, transaction: &Transaction, event: Event) {
        match transaction.side {
            Side::Client | Side::Server { .. } => self.outputs.push_back(Output::Event(event)),
            Side::OwnClient => {}
        }
    }

    fn forget(&mut self, txn: TxnId, mut transaction: Transaction) {
        self.tell(&transaction, Event::Terminated { txn });
        self.timers.clear_all(txn, &mut transaction.running);
        let Transaction { flow, key, side, .. } = transaction;
        match side {
            Side::Client | Side::OwnClient => self.clients.remove(&key),
            Side::Server { .. } => self.servers.remove(&key),
        };
        if let Some(hash) = self.hashes.of_flow(&flow) {
            self.by_flow.remove(&(hash, txn));
        }
    }

    fn next_id(&mut self) -> TxnId {
        self.last_id += 1;
        TxnId(self.last_id)
    }

    /// The To tag that the user of the layer gave an INVITE server transaction, if it did so yet and the response is kept.
    fn response_tag(&self, invite: TxnId) -> Option<String> {
        let Machine::InviteServer(machine) = &self.transactions.get(&invite)?.machine else { return None };
        let response = Message::parse(machine.response()?.clone()).ok()?;
        response.to_tag().map(str::to_owned)
    }
}

#[derive(Debug)]
struct Transaction {
    machine: Machine,
    flow: Flow,
    key: Key,
    side: Side,
    running: Running,
}

impl Transaction {
    /// Whether nothing is left to do after this answer, because the sender repeats its request until it has one.
    const fn is_over_with(&self, status: u16) -> bool {
        let is_final = match &self.machine {
            Machine::InviteServer(machine) => machine.is_unanswered() && status >= 300,
            Machine::NonInviteServer(machine) => machine.is_unanswered() && status >= 200,
            Machine::InviteClient(_) | Machine::NonInviteClient(_) => false,
        };
        is_final && matches!(self.side, Side::Server { is_strangers: true })
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    Known,
    Stranger,
    /// Whoever is served even if the table is full.
    Urgent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    /// A CANCEL of the layer's own.
    OwnClient,
    /// `is_strangers`: of a sender that has proven nothing.
    Server {
        is_strangers: bool,
    },
}

/// Two keyed hash functions. Together they give 128 bits: no two texts have the same by chance, and nobody outside can make
/// some that do.
#[derive(Default)]
struct Hashes([RandomState; 2]);

impl Hashes {
    fn of(&self, texts: impl Hash) -> [u64; 2] {
        self.0.each_ref().map(|state| state.hash_one(&texts))
    }

    fn of_flow(&self, flow: &Flow) -> Option<u64> {
        flow.key().map(|key| self.0[0].hash_one(key))
    }
}

/// What makes two messages belong to one transaction. All texts compare byte for byte, but host names in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Of [`Scope`] and, where it has no [`Method`] of its own, the method's name.
    scope: [u64; 2],
    method: Method,
}

#[derive(Hash)]
enum Scope<'a> {
    /// RFC 3261 section 17.1.3: branch of the top Via.
    Client { branch: &'a str },
    /// RFC 3261 section 17.2.3: branch and sent-by.
    Server { branch: &'a str, host: Cow<'a, str>, port: Option<u16> },
    /// The same without the magic cookie: Request-URI, From tag, Call-ID, CSeq number and top Via. The To tag, which an
    /// INVITE lacks and its ACK has, is left out: one user agent server has one per call.
    Rfc2543 { uri: &'a str, from_tag: &'a str, call_id: &'a str, cseq: u32, top_via: &'a str },
}

impl Key {
    /// For a request of ours or its response: by the CSeq method.
    fn client(hashes: &Hashes, message: &Message) -> Option<Self> {
        let scope = Scope::Client { branch: message.via()?.branch()? };
        let cseq = message.cseq()?;
        Some(Self::new(hashes, &scope, cseq.method, cseq.method_text))
    }

    /// An ACK counts as its INVITE.
    fn server(hashes: &Hashes, request: &Message) -> Option<Self> {
        let via = request.via()?;
        let scope = match via.branch().filter(|branch| branch.starts_with(MAGIC_COOKIE)) {
            Some(branch) => Scope::Server { branch, host: lower_case(via.host), port: via.port },
            None => Scope::Rfc2543 {
                uri: request.request_uri(),
                from_tag: request.from_tag().unwrap_or_default(),
                call_id: request.call_id(),
                cseq: request.cseq()?.number,
                top_via: request.values(Name::Via).next()?,
            },
        };
        let method = match request.method()? {
            Method::Ack => Method::Invite,
            method => method,
        };
        Some(Self::new(hashes, &scope, method, request.method_text()))
    }

    fn new(hashes: &Hashes, scope: &Scope<'_>, method: Method, text: &str) -> Self {
        let unknown = if method == Method::Other { text } else { "" };
        Self { scope: hashes.of((scope, unknown)), method }
    }

    const fn with_method(self, method: Method) -> Self {
        Self { method, ..self }
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}
