//! What every call needs and no call owns: the transaction table, the ports, the queues, and who owns what.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use tracing::error;

use super::{
    interface::{Counters, Output},
    trunks::Trunks,
    usage::Usage,
};
use crate::{
    config::{Config, Directory},
    media::{Command, ports::Ports},
    sip::transaction::{self, Table},
    types::{CallId, DropReason, Duration, Flow, Instant, LegId, Rng, Transport, TxnId, limits},
    wire::passport::Signer,
    wire::sip::{Message, RequestBuilder, ResponseBuilder, build::reason_phrase},
};

/// Methods this server answers other than with 405 (RFC 3261 section 20.5).
pub(super) const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REGISTER, PRACK, UPDATE, MESSAGE, SUBSCRIBE, NOTIFY, REFER";

/// How often the log says that a media thread is behind.
const OVERRUN_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Stands for a request that was not sent. No dialog comes of it.
const UNSENT: &[u8] = b"OPTIONS sip:unsent.invalid SIP/2.0\r\n\r\n";

/// Extensions this server knows (RFC 3261 section 20.37).
pub(super) const SUPPORTED: &str = "100rel, timer, replaces";

/// What is refused, and ended, because the server ends.
pub(super) const SHUTTING_DOWN: &str = "Shutting Down";

/// The Server and User-Agent value.
pub(super) const PRODUCT: &str = concat!("ringdown/", env!("CARGO_PKG_VERSION"));

/// One side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    A,
    /// A branch by its number; the answered one is the call's B leg.
    B(u32),
}

/// Whom a client transaction's outcome belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A branch's INVITE.
    Branch(CallId, u32),
    /// A re-INVITE sent towards this side.
    Reinvite(CallId, Side),
    /// A request relayed from one leg to the other.
    Relayed(CallId),
    /// PRACK to a branch, which may ask for the password.
    Prack(CallId, u32),
    /// BYE to a trunk, which may ask for the password.
    Bye(CallId, Side),
    /// NOTIFY of a subscription.
    Notify(u64),
    /// A notice of an emergency call on its way to a desk.
    Notification(u64),
    /// A text message on its way.
    Message(u64),
    /// `check-sync` to a device, by its place among those asked.
    Resync(u64, usize),
    /// REGISTER to the trunk with this index.
    Registration(usize),
    /// OPTIONS to a trunk's server.
    Ping(u64),
    /// Nobody waits for it: any other BYE.
    Nobody,
}

/// A request that waits for our answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub txn: TxnId,
    pub flow: Flow,
    pub request: Message,
}

pub(super) struct Context {
    pub now: Instant,
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    pub listeners: Vec<(Transport, SocketAddr)>,
    pub table: Table,
    pub ports: Ports,
    pub trunks: Trunks,
    pub usage: Usage,
    /// What calls to carriers are signed with.
    pub signer: Option<Signer>,
    pub rng: Rng,
    pub counters: Counters,
    /// What upstream servers are asked to send less (RFC 7339).
    pub loss_percent: u8,
    /// When the log last said that a media thread is behind.
    pub overrun_told_at: Option<Instant>,
    pub outputs: VecDeque<Output>,
    /// Requests that could not be sent; their owners are to hear so.
    pub unsendable: VecDeque<TxnId>,
    pub owners: HashMap<TxnId, Owner>,
    /// By our own tag of a dialog: where an in-dialog request belongs.
    pub dialogs: HashMap<String, (CallId, Side)>,
    /// By user: the legs of their devices, which follow a device to its new connection.
    pub device_legs: HashMap<String, Vec<(CallId, Side)>>,
    /// Media legs in use, until their worker has reported them closed.
    pub media: HashMap<LegId, (CallId, Side)>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("transactions", &self.table.len())
            .field("dialogs", &self.dialogs.len())
            .finish()
    }
}

impl Context {
    /// A tag for one of our dialogs (RFC 3261 section 19.3): 80 random bits.
    pub(super) fn tag(&mut self) -> String {
        self.rng.token(20)
    }

    /// Requests with this tag of ours, and the user's device when it comes back, find their leg from now on.
    pub(super) fn enter_dialog(&mut self, tag: &str, user: Option<&str>, leg: (CallId, Side)) {
        self.dialogs.insert(tag.to_owned(), leg);
        if let Some(user) = user {
            // A telephone is mostly in one call.
            let legs = self.device_legs.entry(user.to_owned()).or_insert_with(|| Vec::with_capacity(1));
            if let Err(place) = legs.binary_search(&leg) {
                legs.insert(place, leg);
            }
        }
    }

    pub(super) fn leave_dialog(&mut self, tag: &str, user: Option<&str>) {
        let Some(leg) = self.dialogs.remove(tag) else { return };
        let Some(user) = user else { return };
        if let Some(legs) = self.device_legs.get_mut(user) {
            legs.retain(|other| *other != leg);
            if legs.is_empty() {
                self.device_legs.remove(user);
            }
        }
    }

    /// The address peers on this flow reach us at: Via sent-by and Contact. Connections we opened have an ephemeral
    /// local port, so the listener of the same transport speaks for them.
    pub(super) fn reachable(&self, flow: &Flow) -> SocketAddr {
        let same_transport = self.listeners.iter().filter(|(t, _)| *t == flow.transport).map(|(_, a)| *a);
        let same_family = |a: &SocketAddr| a.is_ipv4() == flow.remote.is_ipv4();
        let address = match flow.transport {
            Transport::Udp => flow.local,
            Transport::Tcp | Transport::Tls => same_transport
                .clone()
                .find(|a| a.ip() == flow.local.ip())
                .or_else(|| same_transport.clone().find(same_family))
                .unwrap_or(flow.local),
        };
        if address.ip().is_unspecified() {
            SocketAddr::new(self.media_address(flow.remote.ip()), address.port())
        } else {
            address
        }
    }

    /// The media address of the peer's IP family, else the first.
    pub(super) fn media_address(&self, peer: IpAddr) -> IpAddr {
        let addresses = &self.config.media.addresses;
        let same_family = addresses.iter().find(|a| a.is_ipv4() == peer.is_ipv4());
        *same_family.or_else(|| addresses.first()).expect("a checked configuration has a media address")
    }

    /// A Via value for a request on this flow (RFC 3261 section 18.1.1, RFC 3581).
    pub(super) fn via(&self, flow: &Flow, branch: &str) -> String {
        format!("SIP/2.0/{} {};branch={branch};rport", flow.transport.via_token(), self.reachable(flow))
    }

    /// A Contact value; `user` is a user part in its escaped form. It is as secure as the Request-URI (RFC 3261 sections
    /// 8.1.1.8 and 12.1.1).
    pub(super) fn contact(&self, flow: &Flow, user: &str, is_secure: bool) -> String {
        let at = if user.is_empty() { "" } else { "@" };
        let scheme = if is_secure { "sips" } else { "sip" };
        format!("<{scheme}:{user}{at}{};transport={}>", self.reachable(flow), flow.transport.uri_token())
    }

    /// Starts the answer to a request.
    pub(super) fn response(&self, pending: &Pending, status: u16, reason: &str, to_tag: &str) -> ResponseBuilder {
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        ResponseBuilder::to(&pending.request, status, reason, to_tag, pending.flow.remote).header("Server", PRODUCT)
    }

    pub(super) fn respond(&mut self, txn: TxnId, status: u16, response: Bytes) {
        self.counters.responses += 1;
        self.table.handle_input(self.now, transaction::Input::Respond { txn, status, response });
    }

    /// Answers a request without a call, with a tag made for its transaction alone.
    pub(super) fn refuse(&mut self, pending: &Pending, status: u16, reason: &str) {
        self.refuse_with(pending, status, reason, &[]);
    }

    pub(super) fn refuse_with(&mut self, pending: &Pending, status: u16, reason: &str, headers: &[(&str, &str)]) {
        let tag = self.table.tag_of_refusal(&pending.request);
        let mut response = self.response(pending, status, reason, &tag);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        let bytes = response.finish();
        self.respond(pending.txn, status, bytes);
    }

    /// A Warning value with code 399 (RFC 3261 section 20.43).
    pub(super) fn warning(&self, text: impl Display) -> String {
        format!("399 {} \"{}\"", self.config.server.domain, text.to_string().replace(['"', '\\'], "'"))
    }

    /// Sends a request on a client transaction of its own; `build` is given the Via value. Returns the request as sent. One
    /// that would be larger than a message may be is not, whatever peers have said that goes into it: its owner hears 513.
    pub(super) fn send(
        &mut self,
        flow: Flow,
        owner: Owner,
        build: impl FnOnce(&mut Self, &str) -> RequestBuilder,
    ) -> (TxnId, Message) {
        let (txn, branch) = self.table.reserve();
        let via = self.via(&flow, &branch);
        let bytes = build(self, &via).header("User-Agent", PRODUCT).finish();
        self.owners.insert(txn, owner);
        let Ok(request) = Message::parse(bytes) else {
            self.counters.drops.count(DropReason::SipUnsendable);
            self.unsendable.push_back(txn);
            return (txn, Message::parse(Bytes::from_static(UNSENT)).expect("it is a message"));
        };
        self.counters.requests += 1;
        self.table.handle_input(self.now, transaction::Input::Send { txn, flow, request: request.clone() });
        (txn, request)
    }

    pub(super) fn cancel(&mut self, txn: TxnId) {
        self.cancel_because(txn, "");
    }

    /// `reason`: the value of the CANCEL's Reason header (RFC 3326), or empty.
    pub(super) fn cancel_because(&mut self, txn: TxnId, reason: &str) {
        self.table.handle_input(self.now, transaction::Input::Cancel { txn, reason: reason.to_owned() });
    }

    /// ACK for 2xx is no transaction (RFC 3261 section 13.2.2.4): it goes out as it is, again for each retransmission.
    pub(super) fn transmit(&mut self, flow: Flow, bytes: Bytes) {
        let bytes = self.with_load(&flow, bytes);
        if flow.transport == Transport::Udp && bytes.len() > limits::SIP_DATAGRAM_BYTES_MAX {
            self.counters.datagrams_large += 1;
        }
        self.outputs.push_back(Output::Transmit { flow, bytes });
    }

    pub(super) fn command(&mut self, leg: LegId, command: Command) {
        self.outputs.push_back(Output::Media { worker: leg.worker, command });
    }

    /// Keeps as many media ports bound as the next legs may need.
    pub(super) fn bind_ahead(&mut self) {
        while let Some((leg, address)) = self.ports.next_to_bind(self.now) {
            self.command(leg, Command::Bind { leg, address });
        }
    }

    /// Another program has the ports of a leg, or of a slot that was to be bound for one.
    pub(super) fn port_failed(&mut self, leg: LegId) {
        if self.ports.failed(self.now, leg) {
            self.counters.media_ports_occupied += 1;
            let port = self.ports.rtp_port(leg);
            error!(
                port,
                "This media port or the one above it cannot be bound; no call takes them for a minute, while others are free."
            );
        }
    }

    /// A media thread has more to do than it comes to. The ports of the leg are as good as others.
    pub(super) fn worker_overrun(&mut self, worker: u16) {
        self.counters.media_legs_refused += 1;
        self.ports.pause(self.now, worker);
        if self.overrun_told_at.is_none_or(|at| self.now.since(at) >= OVERRUN_TOLD_EVERY) {
            self.overrun_told_at = Some(self.now);
            error!(
                worker,
                "Too many commands wait for a media thread: it opens no further ports until it has caught up."
            );
        }
    }

    /// A Via value for an ACK, whose branch belongs to no transaction.
    pub(super) fn ack_via(&mut self, flow: &Flow) -> String {
        let branch = format!("z9hG4bK{}", self.rng.token(20));
        self.via(flow, &branch)
    }
}
