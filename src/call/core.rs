//! The core: takes every input of the server, hands it to the machine that owns it, and owns all calls.

mod callback;
mod capacity;
mod certificates;
mod events;
mod explanation;
mod identification;
mod inspection;
mod messages;
mod notifications;
mod outside;
mod preemption;
mod reach;
mod refusal_tone;
mod registrations;
mod resync;
mod shutdown;
mod test_call;
mod transfer;
mod verification;
mod views;
mod web;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tracing::debug;

use self::{callback::Expected, identification::EmergencyCaller, transfer::Transfer};
use super::{
    abuse::Guard,
    admission::{self, Refusal, called_party, invite_key},
    call::{Call, Caller, NewCall, State},
    capacity::Capacity,
    cdr::Cdr,
    context::{ALLOW, Context, Owner, Pending, SUPPORTED, Side},
    emergency_call::{self, Early, EmergencyInfo, Origin},
    fork::{Attempt, Plan},
    inspection::Inspections,
    interface::{Counters, Input, Output, Setup, Standing, TestCall},
    keep_alive::KeepAlives,
    leg::Peer,
    message::Messages,
    notification::{Notice, Notifications, Outcome},
    overload::loss_percent,
    received_history::ReceivedHistory,
    reflection::Sources,
    refusal_tone::RefusalTones,
    resync::Resyncs,
    subscription::{ALLOW_EVENTS, Package, Subscriptions},
    trunk_pings::TrunkPings,
    trunk_registrations::TrunkRegistrations,
    trunks::Trunks,
    usage::Usage,
    verification::Verifications,
};
use crate::{
    config::Directory,
    media::{self, ports::Ports},
    policy::{
        abuse::is_scanner,
        emergency::{self, Class, Dialled, EmergencyCall, Site},
        routing::{self, Target},
        security::{self, LegSecurity, leg_security},
    },
    sip::{
        auth::{Authenticator, Role, Verdict},
        dialog::is_sips,
        locate,
        registrar::{self, Binding, Gruu, Registrar},
        transaction::{self, Event, Table},
    },
    types::{CallId, ConnectionId, DropReason, Flow, Instant, Transport, TxnId, limits},
    wire::{
        message_summary::MessageSummary,
        sip::{Fault, Message, Method, Name, Uri, build::reason_phrase, salvage, validate},
        stun,
    },
};

fn is_response(bytes: &[u8]) -> bool {
    bytes.starts_with(b"SIP/2.0 ")
}

/// One trunk after the other, each with the location first.
fn emergency_plan(route: &emergency::Route) -> Plan {
    Plan::serial(route.trunks.iter().map(|trunk| Attempt::emergency(*trunk)))
}

/// Within this time the same INVITE, by another path, is no further try of its telephone.
const SECOND_PATH_MS: u64 = 2_000;

/// The whole signalling side of one server.
#[derive(Debug)]
pub struct Core {
    ctx: Context,
    site: Site,
    registrar: Registrar,
    authenticator: Authenticator,
    guard: Guard,
    /// Of datagrams.
    sources: Sources,
    calls: BTreeMap<CallId, Box<Call>>,
    /// How many of them are live.
    live_calls: usize,
    capacity: Capacity,
    /// When a user's last call ended, since the start of the server.
    last_call_ends: HashMap<String, Instant>,
    /// Who may be called back by emergency services, the newest last, by the number that they were shown.
    callbacks: HashMap<String, Vec<Expected>>,
    /// The users whom the certificate of an open connection names, where it names any of ours.
    certified_users: HashMap<ConnectionId, Vec<String>>,
    keep_alives: KeepAlives,
    messages: Messages,
    notifications: Notifications,
    refusal_tones: RefusalTones,
    resyncs: Resyncs,
    inspections: Inspections,
    subscriptions: Subscriptions,
    verifications: Verifications,
    trunk_registrations: TrunkRegistrations,
    trunk_pings: TrunkPings,
    /// The mailbox of each user, as an external system last reported it.
    mailboxes: HashMap<String, MessageSummary>,
    /// Calls by the transaction of the caller's INVITE, for CANCEL; and re-INVITEs of either side.
    invites: HashMap<TxnId, (CallId, Side)>,
    /// [`invite_key`] of each call, to notice a request that arrives twice.
    invite_keys: HashSet<String>,
    /// When each call wants to be told the time.
    timers: BTreeSet<(Instant, CallId)>,
    /// By the call whose party shall come to another one.
    transfers: BTreeMap<CallId, Transfer>,
    /// Transfers one of whose calls has moved.
    moved: BTreeSet<CallId>,
    /// Emergency calls that wait for a port, with the ordinary call that ends for each.
    waiting: BTreeMap<CallId, Option<CallId>>,
    /// Orders of test calls, by their call.
    test_calls: HashMap<CallId, u64>,
    last_test_call: Option<TestCall>,
    next_call: u64,
    /// Live calls above which a new one is refused: `CALLS_MAX`, but for tests.
    pub(super) calls_max: usize,
    is_draining: bool,
}

impl Core {
    pub fn new(now: Instant, setup: Setup) -> Self {
        let Setup { config, directory, listeners, workers, trunk_passwords, bindings, gruu_key, mut rng } = setup;
        let own_ips: Vec<_> =
            listeners.iter().map(|(_, a)| a.ip()).chain(config.media.addresses.iter().copied()).collect();
        let site = Site::new(&config, &own_ips);
        let authenticator = Authenticator::new(&config.server.domain, rng.fork());
        let registrar = Registrar::new(&config.server.domain, gruu_key, rng.fork());
        let capacity = Capacity::new(workers, config.media.load_max_percent);
        let mut ctx = Context {
            now,
            table: Table::new(rng.fork(), limits::TRANSACTIONS_MAX),
            ports: Ports::new(&config.media.ports, workers)
                .reserving(preemption::reserved_ports(&config, workers))
                .binding_ahead(&config.media.addresses),
            trunks: Trunks::new(now, Arc::clone(&config), trunk_passwords),
            usage: Usage::default(),
            signer: None,
            config,
            directory,
            listeners,
            rng,
            counters: Counters::default(),
            loss_percent: 0,
            overrun_told_at: None,
            outputs: VecDeque::new(),
            unsendable: VecDeque::new(),
            owners: HashMap::new(),
            dialogs: HashMap::new(),
            device_legs: HashMap::new(),
            media: HashMap::new(),
        };
        let trunk_registrations = TrunkRegistrations::new(&mut ctx);
        let trunk_pings = TrunkPings::new(&mut ctx);
        let mut core = Self {
            ctx,
            site,
            registrar,
            authenticator,
            guard: Guard::new(),
            sources: Sources::default(),
            calls: BTreeMap::new(),
            live_calls: 0,
            capacity,
            last_call_ends: HashMap::new(),
            callbacks: HashMap::new(),
            certified_users: HashMap::new(),
            keep_alives: KeepAlives::default(),
            messages: Messages::new(limits::MESSAGES_MAX),
            notifications: Notifications::default(),
            refusal_tones: RefusalTones::default(),
            resyncs: Resyncs::new(limits::RESYNCS_MAX),
            inspections: Inspections::new(limits::INSPECTIONS_MAX),
            subscriptions: Subscriptions::new(limits::SUBSCRIPTIONS_MAX),
            verifications: Verifications::default(),
            trunk_registrations,
            trunk_pings,
            mailboxes: HashMap::new(),
            invites: HashMap::new(),
            invite_keys: HashSet::new(),
            timers: BTreeSet::new(),
            transfers: BTreeMap::new(),
            moved: BTreeSet::new(),
            waiting: BTreeMap::new(),
            test_calls: HashMap::new(),
            last_test_call: None,
            next_call: 1,
            calls_max: limits::CALLS_MAX,
            is_draining: false,
        };
        core.registrar.handle_input(now, registrar::Input::Restore(bindings));
        core.run_machines();
        core.ctx.bind_ahead();
        core
    }

    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.ctx.now = now;
        let transactions = (self.ctx.table.len(), limits::TRANSACTIONS_MAX);
        let used = [(self.live_calls, self.calls_max), transactions, self.capacity.used()];
        self.ctx.loss_percent = loss_percent(&used);
        match input {
            Input::Received { flow, bytes } => self.received(flow, bytes),
            Input::Unframeable { flow, error } => {
                self.invalid(flow, error.head.as_deref().and_then(salvage), error.fault);
            }
            Input::FlowFailed { flow } => self.flow_failed(flow),
            Input::Alive { flow } => self.heard(&flow),
            Input::Certified { flow, names } => self.certified(flow, &names),
            Input::Resolved { query, question, reply } => {
                if let Some(trunk) = self.ctx.trunks.resolved(now, query, question, reply) {
                    self.trunk_registrations.resolved(&self.ctx, trunk);
                }
            }
            Input::Certificate { query, reply } => self.certificate_arrived(query, reply),
            Input::AnchorsChanged => self.verifications.forget(),
            Input::Signer(signer) => self.ctx.signer = Some(signer),
            Input::Media(media::Event::Load { worker, busy_permille }) => self.capacity.measured(worker, busy_permille),
            Input::Media(event) => self.media_event(&event),
            Input::CdrsOpened(calls) => calls.into_iter().for_each(|call| self.cdr_opened(call)),
            Input::Directory(directory) => self.directory_changed(directory),
            Input::Resync { id, user, is_reboot } => self.resync(id, &user, is_reboot),
            Input::Inspect { id, call } => self.inspect(id, &call),
            Input::TestCall { id } => self.order_test_call(id),
            Input::DrainTrunk { trunk, is_draining } => {
                self.ctx.trunks.set_draining(&trunk, is_draining);
            }
            Input::Unbar { user } => self.ctx.usage.forgive(&user),
            Input::Drain => self.is_draining = true,
            Input::Leave => self.trunk_registrations.leave(now),
            Input::EndCalls(which) => self.end_calls(which),
            Input::Timeout => self.timeout(),
        }
        self.run_machines();
        self.ctx.bind_ahead();
        self.ctx.trunks.note_conditions(&self.ctx.listeners);
    }

    /// Drain until `Timeout`.
    pub fn poll_output(&mut self) -> Output {
        match self.ctx.outputs.pop_front() {
            Some(output) => output,
            None => Output::Timeout(self.next_timeout()),
        }
    }

    /// Whose datagram this is, without a look at more than its first line: whom to serve first when there is too much to do.
    pub fn standing(&mut self, flow: &Flow, bytes: &[u8]) -> Standing {
        if self.is_known(flow) {
            return Standing::Known;
        }
        let uri = bytes.strip_prefix(b"INVITE ").and_then(|rest| rest.split(|byte| *byte == b' ').next());
        let uri = uri.filter(|uri| uri.len() <= limits::SIP_REQUEST_URI_BYTES_MAX);
        let dialled = uri.and_then(|uri| str::from_utf8(uri).ok()).map(|uri| emergency::classify(uri, &self.site));
        match dialled {
            Some(Dialled::Emergency(_)) => Standing::Emergency,
            Some(Dialled::Ordinary(_) | Dialled::Test(_)) | None => Standing::Stranger,
        }
    }

    /// A datagram was dropped because there was too much to do.
    pub const fn note_overload(&mut self) {
        self.ctx.counters.drops.count(DropReason::SipOverload);
    }

    // 1. A message arrives.

    fn heard(&mut self, flow: &Flow) {
        self.keep_alives.heard(self.ctx.now, flow);
        self.ctx.trunks.heard(self.ctx.now, flow);
    }

    fn received(&mut self, flow: Flow, bytes: Bytes) {
        self.heard(&flow);
        if flow.transport == Transport::Udp {
            if !self.is_known(&flow) {
                self.sources.heard(&flow, bytes.len());
            }
            if let Some(answer) = stun::answer(&bytes, flow.remote) {
                return self.answer(flow, answer.into());
            }
        }
        let message = match Message::parse(bytes.clone()) {
            Ok(message) => message,
            Err(fault) => return self.invalid(flow, salvage(&bytes), fault),
        };
        match validate(&message) {
            Ok(()) => {
                if self.is_in_call(&message) {
                    self.sources.prove(self.ctx.now, &flow);
                }
                if let Some(reason) = self.unwelcome(&flow, &message) {
                    return self.ctx.counters.drops.count(reason);
                }
                let input = if self.ctx.table.is_full() && self.is_urgent(&flow, &message) {
                    transaction::Input::Urgent { flow, message }
                } else if self.is_known(&flow) {
                    transaction::Input::Received { flow, message }
                } else {
                    transaction::Input::Stranger { flow, message }
                };
                self.ctx.table.handle_input(self.ctx.now, input);
            }
            Err(fault) => self.invalid(flow, Some(message), fault),
        }
    }

    /// What overload must not stop: requests of the calls there are, which end them, emergency calls of sources that the
    /// emergency RULES does not leave to abuse limits (5.5), and answering points that call back.
    fn is_urgent(&self, flow: &Flow, message: &Message) -> bool {
        match (message.method(), message.to_tag()) {
            (Some(_), Some(tag)) => self.ctx.dialogs.contains_key(tag),
            (Some(Method::Invite), None) => match emergency::classify(message.request_uri(), &self.site) {
                Dialled::Emergency(_) => self.registrar.is_bound(flow) || self.is_in_site_networks(flow),
                Dialled::Ordinary(dialled) => {
                    // A datagram's source can be forged, and so can the mark: only while a callback may come.
                    let trunk = self.ctx.trunks.owner_of(flow).filter(|_| self.expects_callbacks());
                    trunk.is_some_and(|trunk| match self.called_at_account(trunk, message) {
                        Some((dialled, _)) => self.calls_back(message, &dialled),
                        None => self.calls_back(message, &dialled),
                    })
                }
                Dialled::Test(_) => false,
            },
            (Some(_) | None, _) => false,
        }
    }

    /// Why a request is dropped without an answer: a scanner's, or above a limit on refused credentials. Neither holds where
    /// somebody is registered, for trunks, for requests of the calls there are, or for emergency calls (RULES 5.5).
    fn unwelcome(&mut self, flow: &Flow, message: &Message) -> Option<DropReason> {
        let method = message.method().filter(|method| !matches!(method, Method::Ack | Method::Cancel))?;
        // A datagram's source can be forged: nobody may silence a trunk by sending in its name.
        if self.registrar.is_source(flow.source()) || self.ctx.trunks.owner_of(flow).is_some() {
            return None;
        }
        let reason = self.abuse(flow, message)?;
        let is_emergency = || {
            let dialled = emergency::classify(message.request_uri(), &self.site);
            method == Method::Invite && matches!(dialled, Dialled::Emergency(_))
        };
        (!self.is_in_call(message) && !is_emergency()).then_some(reason)
    }

    /// Nobody who has not heard us knows our tags.
    fn is_in_call(&self, message: &Message) -> bool {
        message.to_tag().is_some_and(|tag| self.ctx.dialogs.contains_key(tag))
    }

    fn abuse(&mut self, flow: &Flow, message: &Message) -> Option<DropReason> {
        let now = self.ctx.now;
        if message.header(Name::UserAgent).is_some_and(is_scanner) {
            return Some(DropReason::SipScanner);
        }
        if self.guard.is_barred_source(now, flow.source()) {
            return Some(DropReason::SipBarredSource);
        }
        if !self.guard.has_barred_user(now) {
            return None;
        }
        let claimed = [Role::Registrar, Role::Proxy].map(|role| self.authenticator.claimed_user(role, message));
        let is_barred = claimed.iter().flatten().any(|user| self.guard.is_barred_user(now, user));
        is_barred.then_some(DropReason::SipBarredUser)
    }

    fn is_in_site_networks(&self, flow: &Flow) -> bool {
        self.ctx.config.emergency.site_networks.iter().any(|network| network.contains(flow.remote.ip()))
    }

    /// Drains every machine until none has anything left to say.
    fn run_machines(&mut self) {
        loop {
            match self.ctx.table.poll_output() {
                transaction::Output::Transmit { flow, bytes } if is_response(&bytes) => self.answer(flow, bytes),
                transaction::Output::Transmit { flow, bytes } => self.ctx.transmit(flow, bytes),
                transaction::Output::Event(event) => self.transaction_event(event),
                transaction::Output::Dropped(reason) => self.ctx.counters.drops.count(reason),
                transaction::Output::Timeout(_) => {
                    self.drain_registrar(None);
                    let is_settled = !self.report_unsendable() && !self.advance_transfers() && !self.notify();
                    if is_settled && !self.trunk_registrations.advance(&mut self.ctx) {
                        break;
                    }
                }
            }
        }
        while let (query, locate::Output::Ask(question)) = self.ctx.trunks.poll_output() {
            self.ctx.outputs.push_back(Output::Resolve { query, question });
        }
    }

    /// Tells the owner of a request that it was too large to be sent.
    fn report_unsendable(&mut self) -> bool {
        let Some(txn) = self.ctx.unsendable.pop_front() else { return false };
        self.outcome(txn, 513, "Message Too Large", None);
        self.ctx.owners.remove(&txn);
        true
    }

    // 2. Transactions turn messages into events.

    fn transaction_event(&mut self, event: Event) {
        match event {
            Event::Request { txn, flow, message } => {
                self.ctx.counters.requests += 1;
                self.request(Pending { txn, flow, request: message });
            }
            Event::Ack { message, .. } => self.ack(&message),
            Event::Cancelled { txn, reason } => self.given_up(txn, &reason),
            Event::NotAcknowledged { txn } => self.with_invite(txn, |call, ctx, side| call.not_acknowledged(ctx, side)),
            Event::Response { txn, message } => {
                self.ctx.counters.responses += 1;
                self.outcome(txn, message.status(), message.reason_phrase(), Some(&message));
            }
            Event::TimedOut { txn } => self.outcome(txn, 408, "Request Timeout", None),
            // A caller whose connection broke cannot hear an answer any more.
            Event::TransportFailed { txn }
                if self.invites.contains_key(&txn)
                    || self.verifications.holds(txn)
                    || self.refusal_tones.holds(txn) =>
            {
                self.given_up(txn, "");
            }
            Event::TransportFailed { txn } => self.outcome(txn, 503, "Transport Failed", None),
            Event::Terminated { txn } => {
                self.invites.remove(&txn);
                match self.ctx.owners.remove(&txn) {
                    Some(Owner::Branch(id, number)) => {
                        self.with_call(id, |call, ctx| call.branch_over(ctx, number, txn))
                    }
                    Some(Owner::Reinvite(id, side)) => self.with_call(id, |call, _| call.reinvite_over(side, txn)),
                    Some(_) | None => {}
                }
            }
        }
    }

    /// Whoever sent this INVITE no longer waits for its answer.
    fn given_up(&mut self, txn: TxnId, reason: &str) {
        if self.waiting_given_up(txn) || self.refusal_tones.give_up(&mut self.ctx, txn) {
            return;
        }
        self.with_invite(txn, |call, ctx, side| match (call.state, side) {
            (State::Setup, Side::A) => {
                reason.clone_into(&mut call.reason);
                call.cancelled(ctx);
            }
            _ => call.reinvite_cancelled(ctx, side, reason),
        });
    }

    /// A response, or a status that stands for none, to a request of ours.
    fn outcome(&mut self, txn: TxnId, status: u16, reason: &str, response: Option<&Message>) {
        let Some(owner) = self.ctx.owners.get(&txn).copied() else { return };
        match owner {
            Owner::Nobody => {}
            Owner::Branch(id, branch) => {
                let other_flow = self.other_flow(id, branch, status, response.is_some());
                self.with_call(id, |call, ctx| match (other_flow, response) {
                    (Some(flow), _) => call.change_flow(ctx, branch, flow),
                    (None, Some(response)) => call.branch_response(ctx, branch, response),
                    (None, None) => call.branch_refused(ctx, branch, status, reason),
                });
            }
            Owner::Notify(id) => self.subscriptions.response(self.ctx.now, id, status, response),
            Owner::Notification(id) => self.notifications.response(&mut self.ctx, id, status),
            Owner::Message(id) => self.messages.response(&mut self.ctx, id, status, reason),
            Owner::Resync(id, index) => {
                self.resyncs.response(&mut self.ctx, (id, index), status, response.is_some());
            }
            Owner::Registration(trunk) => self.trunk_registrations.response(&mut self.ctx, trunk, status, response),
            Owner::Ping(id) => self.trunk_pings.response(&mut self.ctx, id, status, response.is_some()),
            Owner::Reinvite(id, side) => self.with_call(id, |call, ctx| match response {
                Some(response) => call.reinvite_response(ctx, side, response),
                None => call.reinvite_failed(ctx, side, status, reason),
            }),
            Owner::Prack(id, branch) => self.with_call(id, |call, ctx| call.prack_response(ctx, branch, response)),
            Owner::Bye(id, side) => self.with_call(id, |call, ctx| call.bye_response(ctx, side, status, response)),
            Owner::Relayed(id) => {
                self.with_call(id, |call, ctx| call.relayed_response(ctx, txn, status, reason, response))
            }
        }
    }

    /// Another flow to a branch's device, whose own has failed or lets nothing through (RFC 5626 section 5.3). What a
    /// proxy reports as failed (430) is forgotten at once.
    fn other_flow(&mut self, id: CallId, branch: u32, status: u16, is_answered: bool) -> Option<Arc<Binding>> {
        // Without an answer: our own timeout, or the end of the connection.
        let is_failure = if is_answered { status == 430 } else { matches!(status, 408 | 503) };
        let failed = self.calls.get(&id).filter(|_| is_failure)?.binding_of_branch(branch)?.clone();
        if is_answered {
            self.registrar.handle_input(self.ctx.now, registrar::Input::FlowFailed(failed.clone()));
        }
        let call = self.calls.get(&id)?;
        self.registrar.flows_of(&failed.aor, failed.instance.as_deref()?).find(|flow| call.may_try(flow)).cloned()
    }

    fn request(&mut self, pending: Pending) {
        // An emergency is recognised before anything may stop a call, or hide from its texter what to do instead.
        let calls_somebody = matches!(pending.request.method(), Some(Method::Invite | Method::Message));
        let is_judged_later = calls_somebody && pending.request.to_tag().is_none();
        if !is_judged_later && let Some(refusal) = admission::inspect(&pending.request) {
            return self.refuse(&pending, &refusal);
        }
        if let Some(tag) = pending.request.to_tag() {
            return self.in_dialog(tag.to_owned(), pending);
        }
        match pending.request.method() {
            Some(Method::Invite) => self.invite(pending),
            Some(Method::Register) => self.register(&pending),
            Some(Method::Options) => self.options(&pending),
            Some(Method::Message) => self.message(pending),
            Some(Method::Subscribe) => self.subscribe(&pending),
            Some(Method::Notify) => self.mailbox_report(&pending),
            Some(Method::Bye | Method::Info | Method::Update | Method::Prack) => {
                self.ctx.refuse(&pending, 481, "");
            }
            Some(Method::Refer) => self.ctx.refuse(&pending, 403, "Transfers Within A Call Only"),
            Some(Method::Other) => self.ctx.refuse_with(&pending, 501, "", &[("Allow", ALLOW)]),
            _ => self.ctx.refuse_with(&pending, 405, "", &[("Allow", ALLOW)]),
        }
    }

    fn in_dialog(&mut self, tag: String, pending: Pending) {
        if self.subscriptions.find(&tag).is_some() {
            return self.within_subscription(&tag, &pending);
        }
        if let Some(invite) = self.refusal_tones.of_dialog(&tag) {
            return self.within_tone(invite, &pending);
        }
        let Some(&(id, side)) = self.ctx.dialogs.get(&tag) else { return self.ctx.refuse(&pending, 481, "") };
        if pending.request.method() == Some(Method::Invite) {
            self.invites.insert(pending.txn, (id, side));
        }
        if pending.request.method() == Some(Method::Refer) {
            return self.refer(id, side, &pending);
        }
        self.with_call(id, |call, ctx| {
            if call.admits(ctx, side, &pending) {
                call.request(ctx, side, pending);
            }
        });
    }

    fn ack(&mut self, ack: &Message) {
        let owner = ack.to_tag().and_then(|tag| self.ctx.dialogs.get(tag)).copied();
        match owner {
            Some((id, side)) => self.with_call(id, |call, ctx| call.ack(ctx, side, ack)),
            None => self.ctx.counters.drops.count(DropReason::SipStrayAck),
        }
    }

    // 3. Classification, before identity, extensions, dial rules and capacity.

    fn invite(&mut self, pending: Pending) {
        match emergency::classify(pending.request.request_uri(), &self.site) {
            Dialled::Emergency(call) => self.emergency_invite(pending, Class::Emergency, &call),
            Dialled::Test(call) => self.emergency_invite(pending, Class::Test, &call),
            Dialled::Ordinary(ordinary) => self.ordinary_invite(pending, &ordinary),
        }
    }

    // 4. Identity and admission.

    fn ordinary_invite(&mut self, pending: Pending, dialled: &emergency::Ordinary) {
        // The same request by another path (RFC 3261 section 8.2.2.2).
        let is_merged = self.invite_keys.contains(&invite_key(&pending.request));
        if let Some(refusal) = admission::inspect_invite(&pending.request, is_merged) {
            return self.refuse(&pending, &refusal);
        }
        let Some(mut caller) = self.identify(&pending) else { return };
        let of_account = match caller.peer {
            Peer::Trunk(trunk) => self.called_at_account(trunk, &pending.request),
            Peer::Device(_) | Peer::Unknown => None,
        };
        let (dialled, uri) = match &of_account {
            Some((dialled, uri)) => (dialled, uri.clone()),
            None => (dialled, pending.request.request_uri().to_owned()),
        };
        match self.verify(&pending, &mut caller, dialled) {
            Some(signatures) => self.await_certificates(pending, caller, uri, signatures),
            None => self.admitted(pending, caller, dialled, &uri),
        }
    }

    /// Who calls, and what is known of the number, is settled. `uri`: what was called.
    fn admitted(&mut self, pending: Pending, caller: Caller, dialled: &emergency::Ordinary, uri: &str) {
        let is_callback =
            |core: &Self| matches!(caller.peer, Peer::Trunk(_)) && core.calls_back(&pending.request, dialled);
        if let Some(rejection) = self.rejection(&pending.request)
            && !is_callback(self)
        {
            return self.reject(&pending, rejection);
        }
        if pending.request.header(Name::Replaces).is_some() {
            return self.replace(pending, caller);
        }
        self.route(pending, caller, dialled, uri);
    }

    fn refuse(&mut self, pending: &Pending, refusal: &Refusal) {
        let header = refusal.header.as_ref().map(|(name, value)| (*name, value.as_str()));
        self.ctx.refuse_with(pending, refusal.status, refusal.reason, header.as_slice());
    }

    // 5. Policy decides where it goes. Emergency first.

    /// The same request by another path (RFC 3261 section 8.2.2.2) is one call, too. Later it is a telephone that has lost its connection
    /// or our answer, and tries once more.
    fn is_second_path(&self, request: &Message) -> bool {
        let key = invite_key(request);
        let now_ms = self.ctx.now.unix_ms();
        let is_it = |call: &Call| call.key == key && now_ms.saturating_sub(call.cdr.start_ms) < SECOND_PATH_MS;
        self.invite_keys.contains(&key) && self.calls.values().any(|call| call.state == State::Setup && is_it(call))
    }

    fn emergency_invite(&mut self, pending: Pending, class: Class, dialled: &EmergencyCall) {
        if self.is_second_path(&pending.request) {
            debug!("An emergency call has come by another path as well.");
            return self.ctx.refuse(&pending, 482, "");
        }
        let EmergencyCaller { caller, source, verdict, is_named } = self.emergency_caller(&pending);
        let decision = self.decide(class, source, &caller, is_named);
        let origin = Origin::of(&pending, &caller);
        let id = self.next_id();
        let early = Early { call: id, class, origin: &origin, dialled };
        emergency_call::log_detected(&self.ctx, &early);
        match decision {
            emergency::Decision::Route(route) => {
                let plan = emergency_plan(&route);
                let info = EmergencyInfo::new(class, dialled, route, origin);
                if class == Class::Emergency {
                    self.ctx.counters.emergency_routed += 1;
                    self.expect_callback(&info, self.calling_device(&pending, &caller));
                    self.make_slot(id, &info);
                } else if let Some(rejection) = self.rejection(&pending.request) {
                    // A test has no priority (RULES 2.6).
                    return self.reject(&pending, rejection);
                }
                self.start_call(id, pending, caller, dialled.dialled.clone(), plan, Some(info));
                self.tell_of_routed(id);
            }
            emergency::Decision::Challenge if verdict != Verdict::Refused || class == Class::Test => {
                self.challenge(&pending, Role::Proxy, &verdict);
            }
            // D4: who has been asked and still is nobody is not asked again, and again. A test is no emergency call for refusal.
            emergency::Decision::Challenge => {
                self.note_refused(&pending, Role::Proxy);
                self.deny_emergency(&pending, (&caller, source), &early);
            }
            emergency::Decision::Refuse => {
                self.refuse_emergency(pending, (&caller, source, &verdict), &early);
            }
            emergency::Decision::Loop => {
                let trunk = self.trunk_of(&pending).map(|trunk| self.ctx.trunks.trunk(trunk).name.as_str());
                emergency_call::log_loop(&self.ctx, &early, trunk);
                self.ctx.refuse(&pending, 404, "");
            }
            emergency::Decision::NoTest => self.ctx.refuse(&pending, 404, ""),
        }
    }

    /// Policy, told what only the core knows. `is_named`: a header says who of several it is, whose private address is then not
    /// given away (RULES 4.1).
    fn decide(&self, class: Class, source: emergency::Source, caller: &Caller, is_named: bool) -> emergency::Decision {
        let user = match &caller.peer {
            Peer::Device(name) if !is_named => self.ctx.directory.by_name(name),
            Peer::Device(_) | Peer::Trunk(_) | Peer::Unknown => None,
        };
        let (user, line) = (user.map(|user| &**user), caller.direct_line.as_deref());
        let situation = emergency::Situation { class, source, user, line, turn: self.ctx.counters.emergency_routed };
        let is_up = |trunk| self.ctx.trunks.is_believed_up(self.ctx.now, trunk, &self.ctx.listeners);
        emergency::decide(&situation, &self.ctx.config, is_up)
    }

    /// `uri`: what was called.
    fn route(&mut self, pending: Pending, caller: Caller, dialled: &emergency::Ordinary, uri: &str) {
        let is_from_trunk = matches!(caller.peer, Peer::Trunk(_));
        let callee = called_party(uri);
        // A sips URI asks for TLS all the way (RFC 3261 section 26.2.2).
        let is_secure = is_sips(pending.request.request_uri());
        let target = routing::route(dialled, is_from_trunk, &self.ctx.config, &self.ctx.directory);
        let (target, device) = self.device_target(uri, is_from_trunk, target);
        let (payer, mut caller) = (caller.user_name().map(str::to_owned), caller);
        let is_presented = !matches!(target, Target::Outside(_)) || self.present(&mut caller, &pending.request);
        let mut plan = if is_presented {
            self.show_onward(&mut caller, &target);
            self.plan(target, uri, is_secure, payer.as_deref(), &caller)
        } else {
            Err((403, "Caller Number Not Allowed"))
        };
        if is_from_trunk {
            let refusal = plan.as_ref().err().copied().unwrap_or_default();
            plan = self.answer_callback(plan.ok(), &pending.request, dialled).ok_or(refusal);
        }
        match plan {
            Ok(mut plan) => {
                let id = self.next_id();
                if let (true, Peer::Trunk(trunk)) = (plan.hunt.is_callback, &caller.peer) {
                    emergency_call::log_callback(&self.ctx, id, (*trunk, &caller.user), &pending, &callee);
                }
                plan.hunt.comes_from(&pending.request);
                if is_from_trunk {
                    plan.hunt.earlier = ReceivedHistory::of(&pending.request);
                }
                plan.hunt.device = device;
                self.start_call(id, pending, caller, callee, plan, None);
            }
            Err((status, reason)) => {
                self.ctx.counters.calls_refused += 1;
                let cdr = Cdr::begin(&mut self.ctx, &caller, &callee, false);
                let phrase = if reason.is_empty() { reason_phrase(status) } else { reason };
                self.ctx.outputs.push_back(Output::StoreCdr(Box::new(cdr.refused(&self.ctx, status, phrase))));
                self.ctx.refuse(&pending, status, phrase);
            }
        }
    }

    /// Where a GRUU leads, and to which device there (RFC 5627 section 5.5). Trunks know direct lines only.
    fn device_target(&self, request_uri: &str, is_from_trunk: bool, target: Target) -> (Target, Option<String>) {
        let uri = Uri::parse(request_uri).filter(|uri| !is_from_trunk && self.site.is_own_host(uri.host));
        match uri.and_then(|uri| self.registrar.gruu(&uri)) {
            None => (target, None),
            Some(Gruu::Public(instance)) => (target, Some(instance)),
            Some(Gruu::Temporary { aor, instance }) => match self.ctx.directory.by_name(&aor) {
                Some(user) => (Target::User(Arc::clone(user)), Some(instance)),
                None => (Target::Refuse(404, "No Such Device"), None),
            },
            Some(Gruu::Invalid) => (Target::Refuse(404, "No Such Device"), None),
        }
    }

    // 6. The call takes over.

    fn start_call(
        &mut self,
        id: CallId,
        pending: Pending,
        caller: Caller,
        callee: String,
        plan: Plan,
        emergency: Option<EmergencyInfo>,
    ) {
        self.invites.insert(pending.txn, (id, Side::A));
        let security = self.caller_security(&caller, emergency.is_some());
        let key = invite_key(&pending.request);
        self.invite_keys.insert(key.clone());
        let is_registered = self.registrar.is_bound(&pending.flow);
        let worker = self.worker_for(&caller, &plan);
        let new = NewCall { id, key, pending, is_registered, caller, callee, security, worker, plan, emergency };
        let call = Call::start(&mut self.ctx, new);
        self.keep_new(call);
    }

    fn keep_new(&mut self, call: Call) {
        self.live_calls += 1;
        self.keep(Box::new(call));
    }

    const fn next_id(&mut self) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        id
    }

    fn caller_security(&self, caller: &Caller, is_emergency: bool) -> LegSecurity {
        let media = self.ctx.config.media.encryption;
        match caller.peer {
            // Nobody is refused an emergency call because the telephone cannot encrypt.
            Peer::Device(_) if is_emergency => LegSecurity::SrtpPreferred,
            Peer::Trunk(index) => leg_security(security::Peer::Trunk(self.ctx.trunks.trunk(index).encryption), media),
            Peer::Device(_) => leg_security(security::Peer::Device, media),
            // Unknown callers get no further than emergency calls.
            Peer::Unknown => LegSecurity::SrtpPreferred,
        }
    }

    fn with_invite(&mut self, txn: TxnId, act: impl FnOnce(&mut Call, &mut Context, Side)) {
        if let Some(&(id, side)) = self.invites.get(&txn) {
            self.with_call(id, |call, ctx| act(call, ctx, side));
        }
    }

    fn with_call(&mut self, id: CallId, act: impl FnOnce(&mut Call, &mut Context)) {
        if let Some(mut call) = self.calls.remove(&id) {
            act(&mut call, &mut self.ctx);
            self.keep(call);
        }
    }

    fn cdr_opened(&mut self, id: CallId) {
        if self.calls.get_mut(&id).is_some_and(|call| call.note_cdr_opened()) {
            self.with_call(id, Call::tell_more);
        }
    }

    /// Puts a call back after it acted: its record is written, its timer set, and what is over is forgotten.
    fn keep(&mut self, call: Box<Call>) {
        self.moved.extend(call.transfer.map(|part| part.transfer));
        self.put(call);
    }

    fn put(&mut self, mut call: Box<Call>) {
        self.serve(&mut call);
        for user in call.users() {
            self.subscriptions.touch(Package::Dialog, user);
        }
        if std::mem::take(&mut call.is_failure_untold) {
            self.tell_of_call(&call, Outcome::Failed);
        }
        if let Some(cdr) = call.take_record() {
            self.live_calls -= 1;
            self.note_idle(&call);
            self.note_spent(&call);
            self.extend_callback(&call);
            self.report_test_call(&call);
            self.ctx.counters.quality.observe(&cdr);
            self.ctx.outputs.push_back(Output::StoreCdr(Box::new(cdr)));
        }
        self.ctx.outputs.extend(call.open_cdr_output());
        if let Some(timer) = call.timer.take() {
            self.timers.remove(&(timer, call.id));
        }
        self.weigh(&mut call);
        self.make_room_for(&call);
        if call.is_over() && call.transfer.is_none() {
            debug!(call = %call.id, "Call forgotten.");
            self.invite_keys.remove(&call.key);
            return;
        }
        call.timer = call.deadline();
        if let Some(timer) = call.timer {
            self.timers.insert((timer, call.id));
        }
        self.calls.insert(call.id, call);
    }

    // Other requests outside a call, and what cannot be read or understood.

    fn options(&mut self, pending: &Pending) {
        let supported = format!("{SUPPORTED}, {}", registrar::EXTENSIONS.join(", "));
        let headers = [
            ("Allow", ALLOW),
            ("Accept", "application/sdp"),
            ("Accept-Encoding", "identity"),
            ("Accept-Language", "en"),
            ("Allow-Events", ALLOW_EVENTS),
            ("Supported", &supported),
        ];
        self.ctx.refuse_with(pending, 200, "", &headers);
    }

    /// A request with a fault is answered without a transaction: the same bytes get the same answer again, whose ACK is known by
    /// its tag. What cannot be answered is counted.
    fn invalid(&mut self, flow: Flow, message: Option<Message>, fault: Fault) {
        let Some(request) = message.filter(Message::is_answerable) else {
            let is_oversized = fault.status == 513;
            let reason = if is_oversized { DropReason::SipOversized } else { DropReason::SipMalformed };
            return self.ctx.counters.drops.count(reason);
        };
        let tag = self.ctx.table.tag_of_refusal(&request);
        let pending = Pending { txn: TxnId(0), flow, request };
        let bytes = self.ctx.response(&pending, fault.status, fault.reason, &tag).finish();
        self.ctx.counters.responses += 1;
        self.answer(flow, bytes);
    }

    /// Lets an answer leave, unless somebody else may be hit by more than was sent in his name.
    fn answer(&mut self, flow: Flow, bytes: Bytes) {
        let is_free = flow.transport != Transport::Udp || self.is_known(&flow);
        if is_free || self.sources.spend(&flow, bytes.len()) {
            self.ctx.transmit(flow, bytes);
        } else {
            self.ctx.counters.drops.count(DropReason::SipUnproven);
        }
    }

    /// Whether somebody whom this server knows has sent this, so that what is sent to the source of a datagram reaches him: a
    /// telephone that is registered from there, has answered a challenge or speaks in a call, a trunk, or a host of the
    /// company's own networks.
    pub fn is_known(&mut self, flow: &Flow) -> bool {
        self.registrar.is_bound(flow)
            || self.ctx.trunks.owner_of(flow).is_some()
            // Whoever may call for help without being known must hear the answers.
            || self.is_in_site_networks(flow)
            || self.sources.is_proven(self.ctx.now, flow)
    }

    // Everything that is not a message.

    fn flow_failed(&mut self, flow: Flow) {
        self.ctx.table.handle_input(self.ctx.now, transaction::Input::FlowFailed { flow });
        if flow.connection != ConnectionId::NONE {
            self.ctx.trunks.connection_failed(flow.connection);
            self.trunk_registrations.connection_failed(self.ctx.now, flow.connection);
            self.certified_users.remove(&flow.connection);
            self.keep_alives.forget(flow.connection);
            let users = self.registrar.users_on(&flow);
            self.registrar.handle_input(self.ctx.now, registrar::Input::ConnectionClosed(flow.connection));
            self.subscribers_lost(flow.connection);
            users.iter().for_each(|user| self.device_has_another_flow(user));
        }
    }

    fn media_event(&mut self, event: &media::Event) {
        let Some(leg) = event.leg() else { return };
        match event {
            media::Event::OpenFailed { .. } => self.ctx.port_failed(leg),
            media::Event::Overrun { .. } => self.ctx.worker_overrun(leg.worker),
            _ => {}
        }
        let Some(&(id, side)) = self.ctx.media.get(&leg) else { return };
        if matches!(event, media::Event::OpenFailed { .. } | media::Event::Overrun { .. }) {
            self.refusal_tones.end(&mut self.ctx, id);
        }
        if matches!(event, media::Event::Closed { .. }) {
            self.ctx.media.remove(&leg);
            self.ctx.ports.give_back(leg);
        }
        self.with_call(id, |call, ctx| call.media_event(ctx, side, event));
        if matches!(event, media::Event::Closed { .. }) {
            self.room_made(leg.worker);
        }
        self.leg_reported(side, event);
    }

    fn directory_changed(&mut self, directory: Arc<Directory>) {
        let gone: Vec<String> =
            self.registrar.iter().map(|b| b.aor.clone()).filter(|aor| directory.by_name(aor).is_none()).collect();
        self.ctx.directory = directory;
        self.last_call_ends.retain(|user, _| self.ctx.directory.by_name(user).is_some());
        let directory = &self.ctx.directory;
        self.ctx.usage.retain(|user| directory.by_name(user).is_some());
        self.users_changed();
        for aor in gone {
            self.registrar.handle_input(self.ctx.now, registrar::Input::Forget { aor });
        }
    }

    fn timeout(&mut self) {
        let now = self.ctx.now;
        self.ctx.table.handle_input(now, transaction::Input::Timeout);
        self.registrar.handle_input(now, registrar::Input::Timeout);
        self.messages.timeout(&mut self.ctx);
        self.resyncs.timeout(&mut self.ctx);
        self.subscriptions.timeout(now);
        self.ctx.trunks.timeout(now);
        self.trunk_registrations.timeout(now);
        self.trunk_pings.timeout(&mut self.ctx);
        self.end_silent_flows();
        self.end_left_connections();
        self.end_late_verifications();
        self.refusal_tones.timeout(&mut self.ctx);
        while let Some(&(at, id)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            self.with_call(id, Call::timed_out);
        }
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        let transaction::Output::Timeout(transactions) = self.ctx.table.poll_output() else {
            unreachable!("every input ends with a drained table")
        };
        let registrar::Output::Timeout(bindings) = self.registrar.poll_output() else {
            unreachable!("every input ends with a drained registrar")
        };
        let calls = self.timers.first().map(|(at, _)| *at);
        let messages = self.messages.next_timeout();
        let resyncs = self.resyncs.next_timeout();
        let subscriptions = self.subscriptions.next_timeout();
        let (_, locate::Output::Timeout(lookups)) = self.ctx.trunks.poll_output() else {
            unreachable!("every input ends with drained trunks")
        };
        let flows = [self.keep_alives.next_timeout(), self.ctx.trunks.next_look()].into_iter().flatten().min();
        let tones = self.refusal_tones.next_timeout();
        let trunks = [self.trunk_registrations.next_timeout(), self.trunk_pings.next_timeout()];
        let verifications = self.verifications.next_timeout();
        let others = [transactions, bindings, calls, messages, resyncs, subscriptions, lookups, flows, verifications];
        others.into_iter().chain(trunks).chain([tones]).flatten().min()
    }

    /// Limits that a test can reach.
    #[cfg(test)]
    pub(super) fn lower_limits(&mut self, messages_max: usize, subscriptions_max: usize) {
        self.messages = Messages::new(messages_max);
        self.subscriptions = Subscriptions::new(subscriptions_max);
    }
}
