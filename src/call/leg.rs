//! One side of a call: one dialog plus one media leg per media section.

use bytes::Bytes;

use super::{
    cdr::LegRecord,
    context::{Context, Owner, Pending, Side},
    handover::Heir,
};
use crate::{
    config::Network,
    media::{self, Command, Formats, History, LegReport, Remote, Rtcp, Silence},
    policy::{marking, security::LegSecurity},
    sip::{
        challenge::{Authorization, Challenge},
        dialog::Dialog,
        offer_answer::{self, LocalMedia, Settled},
        registrar::Binding,
        session_timer::{OPTION_TAG, SessionTimer},
        transaction,
    },
    types::{CallId, Duration, Flow, Instant, LegId, Secret, TxnId, limits},
    wire::{
        classify::Traffic,
        sdp::{MediaKind, Session},
        sip::{Message, Method, Name},
    },
};

/// How long our re-INVITE may wait for its final answer (RFC 3261 section 16.6, timer C); then it is cancelled.
const REINVITE_MAX: Duration = Duration::from_secs(limits::REINVITE_S_MAX);

/// Who is at the other end of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A user's device; the name in the directory.
    Device(String),
    /// Index into the configuration's trunks.
    Trunk(usize),
    /// An unauthenticated device that may call emergency numbers only.
    Unknown,
}

/// The telephone at the other end of a leg, to know it again.
#[derive(Clone, Debug)]
pub(super) struct Device {
    /// The name in the directory.
    pub user: String,
    /// `+sip.instance` (RFC 5626 section 4.1), if it has one.
    pub instance: Option<String>,
    /// The leg began on the flow of a registration.
    pub is_registered: bool,
}

/// An INVITE, or an UPDATE with an offer, of the peer that has no final answer, or a 2xx without its ACK.
#[derive(Debug)]
pub(super) struct ServerInvite {
    pub pending: Pending,
    pub cseq: u32,
    /// It waits for its ACK.
    pub is_answered: bool,
    /// What a re-INVITE offers; becomes the leg's session when it is accepted.
    pub offer: Option<Session>,
}

impl ServerInvite {
    pub(super) fn new(pending: Pending) -> Self {
        let cseq = pending.request.cseq().map_or(0, |c| c.number);
        Self { pending, cseq, is_answered: false, offer: None }
    }

    pub(super) fn is_update(&self) -> bool {
        self.pending.request.method() == Some(Method::Update)
    }
}

#[derive(Debug)]
pub(super) struct Leg {
    pub id: (CallId, Side),
    pub flow: Flow,
    /// Whose password is shown; `None` for devices and callers.
    pub trunk: Option<usize>,
    pub challenge: Option<Box<Challenge>>,
    /// How many challenges to the request on its way were answered.
    pub answers: u8,
    /// Of our last INVITE; its ACK carries the same (RFC 3261 section 22.1).
    pub invite_authorization: Option<Box<Authorization>>,
    /// `None` for trunks and unknown callers.
    pub device: Option<Device>,
    /// Our own tag of the dialog.
    pub local_tag: String,
    /// Of the dialogs we begin; the A leg has the caller's.
    pub call_id: String,
    /// User part of our Contact, escaped.
    pub contact_user: String,
    /// The dialog begins with a `sips` Request-URI.
    pub is_secure: bool,
    /// It may take the ports that are reserved for emergency calls.
    pub is_urgent: bool,
    pub dialog: Option<Dialog>,
    pub negotiation: offer_answer::Leg,
    /// The peer's last offer or answer, for the other leg to copy formats from.
    pub session: Option<Session>,
    /// One per media section; `None` where nothing is relayed.
    pub media: Vec<Option<LegId>>,
    /// Those in use while the peer is offered others in their place.
    pub former_media: Vec<Option<LegId>>,
    /// Media legs that go on with the streams of others, which are closing, under the same key.
    pub heirs: Vec<Heir>,
    pub server_invite: Option<Box<ServerInvite>>,
    /// Our INVITE or UPDATE towards the peer that has no final answer yet.
    pub client_invite: Option<TxnId>,
    /// Which of them; in a dialog.
    pub client_method: Method,
    /// When it is given up.
    pub client_deadline: Option<Instant>,
    /// Our last re-INVITE, whose 2xx may come again.
    pub last_invite: Option<TxnId>,
    /// Its body, in case it must be sent again.
    pub offer: Option<Secret<String>>,
    /// The peer's last Allow has it.
    pub allows_update: bool,
    /// Our BYE to a trunk has no final answer yet.
    pub is_bye_open: bool,
    /// Our re-INVITE takes back what the peer accepted after it was cancelled.
    pub is_restoring: bool,
    pub session_timer: SessionTimer,
    /// Our re-INVITE refreshes the session and changes nothing.
    pub is_refreshing: bool,
    /// The call is over; BYE follows as soon as the peer has acknowledged our 2xx.
    pub owes_bye: bool,
    /// Why our BYE is sent (RFC 3326), where there is more to say than that somebody hung up.
    pub bye_reason: Option<String>,
    /// The ACK of our last INVITE, sent again for each retransmitted 2xx.
    ack: Option<(u32, Bytes)>,
    /// The peer's 2xx with an offer, whose ACK waits for the answer.
    unanswered: Option<Box<Message>>,
    /// Until their worker has reported them closed.
    pub open_media: Vec<LegId>,
    /// The call is answered: workers tell of the peer's silences.
    is_watched: bool,
    /// Media legs that do not hear the peer, and since when, the longest first.
    pub silences: Vec<(LegId, Instant, Silence)>,
    /// The peer does not want to be known (RFC 3323).
    pub is_private: bool,
    /// A transferor that has hung up: its dialog lives on for the NOTIFYs about the transfer (RFC 6665 section 4.5.1).
    pub has_left: bool,
    /// P-Asserted-Identity of what changes the session: who is at the other end since a transfer.
    pub partner: Option<String>,
    pub record: LegRecord,
}

impl Leg {
    pub(super) fn new(
        ctx: &mut Context,
        id: (CallId, Side),
        flow: Flow,
        security: LegSecurity,
        contact_user: String,
    ) -> Self {
        let record = LegRecord { transport: flow.transport.to_string(), ..LegRecord::default() };
        Self {
            id,
            flow,
            trunk: None,
            challenge: None,
            answers: 0,
            invite_authorization: None,
            device: None,
            local_tag: ctx.tag(),
            call_id: ctx.rng.token(32),
            contact_user,
            is_secure: false,
            is_urgent: false,
            dialog: None,
            negotiation: offer_answer::Leg::new(security, &mut ctx.rng),
            session: None,
            media: Vec::new(),
            former_media: Vec::new(),
            heirs: Vec::new(),
            server_invite: None,
            client_invite: None,
            client_method: Method::Invite,
            client_deadline: None,
            last_invite: None,
            offer: None,
            allows_update: false,
            is_bye_open: false,
            is_restoring: false,
            session_timer: SessionTimer::new(true),
            is_refreshing: false,
            owes_bye: false,
            bye_reason: None,
            ack: None,
            unanswered: None,
            open_media: Vec::new(),
            is_watched: false,
            silences: Vec::new(),
            is_private: false,
            has_left: false,
            partner: None,
            record,
        }
    }

    /// Before anything was sent: the leg takes another flow.
    pub(super) fn follow(&mut self, flow: Flow) {
        self.flow = flow;
        self.record.transport = flow.transport.to_string();
    }

    pub(super) fn contact(&self, ctx: &Context) -> String {
        ctx.contact(&self.flow, &self.contact_user, self.is_secure)
    }

    /// Takes ports on `worker` for every section of `offer` that this leg carries and that has none yet. `false`: exhausted.
    pub(super) fn open_media(
        &mut self,
        ctx: &mut Context,
        call: CallId,
        side: Side,
        worker: u16,
        offer: &Session,
    ) -> bool {
        let address = ctx.media_address(self.flow.remote.ip());
        let sections = offer.media.len().max(self.media.len());
        self.media.reserve_exact(sections - self.media.len());
        self.media.resize(sections, None);
        self.open_media.reserve_exact(offer.media.len());
        for (slot, section) in self.media.iter_mut().zip(&offer.media) {
            if slot.is_some() || !self.negotiation.carries(section) {
                continue;
            }
            // A call for help needs sound, or text of those who cannot hear; pictures may have what is free.
            let may_do_without = self.is_urgent && section.kind == MediaKind::Video;
            let taken = match self.is_urgent && !may_do_without {
                true => ctx.ports.take_reserved(worker, address),
                false => ctx.ports.take(worker, address),
            };
            let leg = match taken {
                Some(leg) => leg,
                None if may_do_without => continue,
                None => return false,
            };
            *slot = Some(leg);
            self.open_media.push(leg);
            ctx.media.insert(leg, (call, side));
            let dscp = marking::dscp(&section.kind, &ctx.config);
            ctx.command(leg, Command::Open { leg, address, dscp });
        }
        true
    }

    /// Where our media sections listen, for the negotiation.
    pub(super) fn local_media(&self, ctx: &Context) -> Vec<Option<LocalMedia>> {
        let address = ctx.media_address(self.flow.remote.ip());
        let local = |leg: &Option<LegId>| leg.map(|leg| LocalMedia { address, port: ctx.ports.rtp_port(leg) });
        self.media.iter().map(local).collect()
    }

    /// Tells the worker what was settled, section by section.
    pub(super) fn configure(&mut self, ctx: &mut Context, settled: &[Settled]) {
        for (section, settled) in settled.iter().enumerate() {
            let Some(leg) = self.media.get(section).copied().flatten() else { continue };
            // What its predecessor has heard under another key cannot come under this one.
            let waits = self.heirs.iter().any(|heir| heir.media == leg && heir.has_key_of(settled));
            if !waits {
                self.configure_section(ctx, (section, leg), settled, None);
            }
        }
        if let Some(first) = settled.iter().find(|s| s.remote_rtp.is_some()).or_else(|| settled.first()) {
            self.record.suite = suite_name(&first.receive).to_owned();
        }
        if self.is_watched {
            self.watch(ctx);
        }
    }

    fn configure_section(
        &self,
        ctx: &mut Context,
        (section, leg): (usize, LegId),
        settled: &Settled,
        history: Option<Box<History>>,
    ) {
        let network = self.trunk.and_then(|trunk| ctx.trunks.trunk(trunk).media_network);
        let command = Command::Configure {
            leg,
            traffic: settled.traffic,
            remote: self.remote(settled, network),
            formats: self.formats(section),
            receive: protection(&settled.receive),
            send: protection(&settled.send),
            history,
        };
        ctx.command(leg, command);
    }

    fn remote(&self, settled: &Settled, network: Option<Network>) -> Remote {
        let is_direct = self.dialog.as_ref().is_none_or(|dialog| dialog.route_set.is_empty());
        // Floor control has no direction, and a fax cannot wait: hold is for voice and pictures.
        let is_never_held = settled.traffic == Traffic::Datagrams;
        Remote {
            rtp: settled.remote_rtp,
            rtcp: if settled.has_rtcp_mux { Rtcp::Multiplexed } else { Rtcp::Port(settled.remote_rtcp) },
            host: is_direct.then(|| self.flow.remote.ip()),
            network,
            wants_media: is_never_held || settled.peer_direction.receives(),
            may_send: is_never_held || settled.peer_direction.sends(),
        }
    }

    /// What packets of the peer may carry: what we told it, and what it told us.
    fn formats(&self, section: usize) -> Formats {
        let theirs = self.session.as_ref().and_then(|session| session.media.get(section));
        Formats::of(self.negotiation.section(section).into_iter().chain(theirs))
    }

    /// The call is answered: from now on somebody is expected to speak. Who shows pictures may stop without a word.
    pub(super) fn watch(&mut self, ctx: &mut Context) {
        self.is_watched = true;
        for (section, leg) in self.media.iter().enumerate() {
            let is_audio = self.negotiation.section(section).is_some_and(|section| section.kind == MediaKind::Audio);
            if let Some(leg) = leg.filter(|_| is_audio) {
                ctx.command(leg, Command::Watch { leg });
            }
        }
    }

    /// Gives back the ports of sections that were not accepted, or not kept. Before the first answer all may be needed.
    pub(super) fn close_unused_media(&mut self, ctx: &mut Context) {
        if self.negotiation.settled().is_empty() {
            return;
        }
        let negotiation = &self.negotiation;
        let unused = self.media.iter_mut().enumerate().filter(|(section, _)| !negotiation.is_in_use(*section));
        for leg in unused.filter_map(|(_, slot)| slot.take()) {
            ctx.command(leg, Command::Close { leg });
        }
    }

    pub(super) fn close_media(&mut self, ctx: &mut Context) {
        let former = std::mem::take(&mut self.former_media);
        for leg in std::mem::take(&mut self.media).into_iter().chain(former).flatten() {
            ctx.command(leg, Command::Close { leg });
        }
    }

    /// A worker reported one of this leg's media legs closed.
    pub(super) fn media_closed(&mut self, ctx: &mut Context, leg: LegId, report: &LegReport, history: &History) {
        self.open_media.retain(|open| *open != leg);
        // Whom it did not hear may be heard by the one in its place.
        self.is_heard_by(leg);
        if let Some(at) = self.heirs.iter().position(|heir| heir.former == leg) {
            let mut heir = self.heirs.swap_remove(at);
            heir.history.append(history.clone());
            self.inherit(ctx, heir);
        }
        self.record.add(report);
    }

    /// Tells a media leg what its predecessors have heard, once all have told.
    fn inherit(&mut self, ctx: &mut Context, heir: Heir) {
        if let Some(other) = self.heirs.iter_mut().find(|other| other.media == heir.media) {
            other.history.append(heir.history);
            return;
        }
        let section = self.media.iter().position(|media| *media == Some(heir.media));
        let settled = section.and_then(|section| Some((section, self.negotiation.settled().get(section)?)));
        if let Some((section, settled)) = settled {
            self.configure_section(ctx, (section, heir.media), settled, Some(Box::new(heir.history)));
        }
    }

    /// This media leg hears the peer, or is not there to hear it. `false`: it was not silent.
    pub(super) fn is_heard_by(&mut self, leg: LegId) -> bool {
        self.silences.extract_if(.., |(silent, ..)| *silent == leg).count() > 0
    }

    /// Closes a media leg whose ports could not be bound. `false`: it was closed before.
    pub(super) fn lose_media(&mut self, ctx: &mut Context, leg: LegId) -> bool {
        let Some(slot) = self.media.iter_mut().find(|slot| **slot == Some(leg)) else { return false };
        *slot = None;
        ctx.command(leg, Command::Close { leg });
        true
    }

    /// An offer of the peer that waits for our answer: it has not been told our ports yet.
    pub(super) fn open_offer(&self) -> Option<&Session> {
        if self.owes_answer() {
            return self.session.as_ref();
        }
        let invite = self.server_invite.as_ref().filter(|invite| !invite.is_answered)?;
        let first = || self.session.as_ref().filter(|_| self.negotiation.settled().is_empty());
        invite.offer.as_ref().or_else(first)
    }

    pub(super) const fn has_open_media(&self) -> bool {
        !self.open_media.is_empty()
    }

    /// Sends a request in the dialog; `None` before there is one.
    pub(super) fn request(
        &mut self,
        ctx: &mut Context,
        method: Method,
        owner: Owner,
        body: Option<(&str, &[u8])>,
    ) -> Option<TxnId> {
        let contact = self.contact(ctx);
        let uri = self.dialog.as_ref()?.request_uri();
        let authorization = self.authorization(ctx, method, &uri, body.map_or(&[], |(_, body)| body));
        let session = self.session_headers(method);
        let dialog = self.dialog.as_mut()?;
        let build = |_: &mut Context, via: &str| {
            let mut request = dialog.request(method, via);
            // RFC 3428 section 4.
            if method != Method::Message {
                request = request.header("Contact", contact);
            }
            if !session.is_empty() {
                request = request.header("Supported", OPTION_TAG);
            }
            for (name, value) in session {
                request = request.header(name, value);
            }
            if let Some((name, value)) = &authorization {
                request = request.header(name, value.expose());
            }
            if let Some(partner) = self.partner.as_ref().filter(|_| matches!(method, Method::Invite | Method::Update)) {
                request = request.header("P-Asserted-Identity", partner);
            }
            if let Some(reason) = self.bye_reason.as_ref().filter(|_| method == Method::Bye) {
                request = request.header("Reason", reason);
            }
            match body {
                Some((content_type, body)) => request.body(content_type, body),
                None => request,
            }
        };
        Some(ctx.send(self.flow, owner, build).0)
    }

    /// Sends a re-INVITE with this offer.
    pub(super) fn reinvite(&mut self, ctx: &mut Context, offer: String) {
        self.modify(ctx, Method::Invite, Some(offer));
    }

    /// Sends a re-INVITE, or an UPDATE with or without an offer.
    pub(super) fn modify(&mut self, ctx: &mut Context, method: Method, offer: Option<String>) {
        self.answers = 0;
        self.client_method = method;
        self.client_deadline = Some(ctx.now + REINVITE_MAX);
        self.offer = offer.map(Secret::new);
        self.reinvite_again(ctx);
    }

    /// Sends it again, with credentials or whatever else the peer has asked for.
    pub(super) fn reinvite_again(&mut self, ctx: &mut Context) {
        let offer = self.offer.clone();
        let body = offer.as_ref().map(|offer| ("application/sdp", offer.expose().as_bytes()));
        let (call, side) = self.id;
        self.client_invite = self.request(ctx, self.client_method, Owner::Reinvite(call, side), body);
        if self.client_method == Method::Invite {
            self.last_invite = self.client_invite;
        }
    }

    /// What the peer says it can do.
    pub(super) fn note_abilities(&mut self, message: &Message) {
        if message.header(Name::Allow).is_some() {
            self.allows_update = message.values(Name::Allow).any(|method| method == Method::Update.as_str());
        }
    }

    /// Ends the dialog from our side; if our 2xx is not acknowledged yet, then only after that (RFC 3261 section 15).
    pub(super) fn bye(&mut self, ctx: &mut Context) {
        if self.has_left {
            return;
        }
        self.decline(ctx);
        self.owes_bye = self.server_invite.as_ref().is_some_and(|invite| invite.is_answered);
        if !self.owes_bye {
            self.answers = 0;
            self.send_bye(ctx);
        }
    }

    fn send_bye(&mut self, ctx: &mut Context) {
        let (call, side) = self.id;
        let owner = if self.trunk.is_some() { Owner::Bye(call, side) } else { Owner::Nobody };
        let is_sent = self.request(ctx, Method::Bye, owner, None).is_some();
        self.is_bye_open = is_sent && self.trunk.is_some();
    }

    /// A response to our BYE, or a status that stands for none.
    pub(super) fn bye_response(&mut self, ctx: &mut Context, status: u16, response: Option<&Message>) {
        if response.is_some_and(|response| self.is_challenged(response)) {
            self.send_bye(ctx);
        } else if status >= 200 {
            self.is_bye_open = false;
        }
    }

    /// Our 2xx is acknowledged, or never will be: the BYE that waited for it leaves.
    pub(super) fn bye_if_owed(&mut self, ctx: &mut Context) {
        if self.owes_bye {
            self.bye(ctx);
            self.leave_dialog(ctx);
        }
    }

    /// Stops repeating our 2xx: its ACK is here, or the peer has shown otherwise that it knows.
    pub(super) fn acknowledged(&mut self, ctx: &mut Context) -> Option<Box<ServerInvite>> {
        let invite = self.server_invite.take_if(|invite| invite.is_answered)?;
        ctx.table.handle_input(ctx.now, transaction::Input::Acknowledged { txn: invite.pending.txn });
        Some(invite)
    }

    /// A 2xx to our INVITE arrived: acknowledge it, or its retransmission.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context, cseq: u32) {
        let kept = self.ack.as_ref().filter(|(acked, bytes)| *acked == cseq && !bytes.is_empty());
        if let Some((_, bytes)) = kept {
            ctx.transmit(self.flow, bytes.clone());
        } else {
            self.send_ack(ctx, cseq, None);
        }
    }

    /// Nothing more can come to our last INVITE; what was kept for that is forgotten.
    pub(super) fn invite_over(&mut self) {
        if self.is_quiet() {
            self.negotiation.conclude();
            self.ack = self.ack.take().map(|(cseq, _)| (cseq, Bytes::new()));
        }
    }

    /// A 2xx to our INVITE arrived with the peer's offer: its ACK waits for [`Leg::acknowledge_offer`].
    pub(super) fn acknowledge_later(&mut self, response: &Message) {
        self.unanswered = Some(Box::new(response.clone()));
    }

    pub(super) const fn owes_answer(&self) -> bool {
        self.unanswered.is_some()
    }

    /// Sends the ACK that waited, with our answer.
    pub(super) fn acknowledge_offer(&mut self, ctx: &mut Context, answer: Option<&str>) {
        if let Some(cseq) = self.unanswered.take().and_then(|response| response.cseq().map(|c| c.number)) {
            self.send_ack(ctx, cseq, answer);
        }
    }

    /// The call ends while the peer's offer waits for an answer: all of it is refused, so that BYE can follow (RFC 3261
    /// section 13.2.2.4).
    pub(super) fn decline(&mut self, ctx: &mut Context) {
        let Some(body) = self.unanswered.as_ref().map(|response| response.sdp().unwrap_or_default()) else { return };
        let answer = self.negotiation.decline(&body);
        self.acknowledge_offer(ctx, answer.as_deref());
    }

    fn send_ack(&mut self, ctx: &mut Context, cseq: u32, answer: Option<&str>) {
        let via = ctx.ack_via(&self.flow);
        let Some(dialog) = &self.dialog else { return };
        let mut ack = dialog.ack(cseq, &via);
        if let Some(answer) = answer {
            ack = ack.body("application/sdp", answer.as_bytes());
        }
        if let Some((name, value)) = self.invite_authorization.as_deref() {
            ack = ack.header(name, value.expose());
        }
        let bytes = ack.finish();
        if !self.has_acknowledged(cseq) {
            self.ack = Some((cseq, bytes.clone()));
        }
        ctx.transmit(self.flow, bytes);
    }

    /// Whether a 2xx with this CSeq is a retransmission: of our last INVITE, or late, of an earlier one.
    pub(super) fn has_acknowledged(&self, cseq: u32) -> bool {
        self.ack.as_ref().is_some_and(|(acked, _)| *acked >= cseq)
    }

    /// The early dialog of our INVITE and this provisional response, registered under our tag.
    pub(super) fn enter_dialog(
        &mut self,
        ctx: &mut Context,
        call: CallId,
        side: Side,
        invite: &Message,
        response: &Message,
    ) {
        if self.dialog.is_none() {
            self.dialog = Dialog::uac(invite, response);
            self.enter(ctx, call, side);
        }
    }

    /// The dialog of our INVITE and this 2xx, which replaces the early one: the 2xx may come from somebody else than the
    /// 180 did (RFC 3261 sections 13.2.2.3 and 13.2.2.4). `false`: without Contact or tag it makes none.
    pub(super) fn confirm_dialog(
        &mut self,
        ctx: &mut Context,
        call: CallId,
        side: Side,
        invite: &Message,
        response: &Message,
    ) -> bool {
        let Some(mut confirmed) = Dialog::uac(invite, response) else { return false };
        if let Some(early) = self.dialog.take() {
            // PRACK counts through all early dialogs of the INVITE.
            confirmed.local_cseq = early.local_cseq.max(confirmed.local_cseq);
            confirmed.remote_cseq = early.remote_cseq.filter(|_| early.id == confirmed.id);
        }
        self.dialog = Some(confirmed);
        self.enter(ctx, call, side);
        true
    }

    pub(super) fn enter(&self, ctx: &mut Context, call: CallId, side: Side) {
        ctx.enter_dialog(&self.local_tag, self.user(), (call, side));
    }

    fn user(&self) -> Option<&str> {
        self.device.as_ref().map(|device| device.user.as_str())
    }

    /// Whether a user's new binding is that of the device of this leg, whose own flow is no longer registered: by its
    /// instance, or else, where neither has one, by its address.
    pub(super) fn is_of_device(&self, binding: &Binding) -> bool {
        self.device.as_ref().is_some_and(|device| match (&device.instance, &binding.instance) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => device.is_registered && self.flow.remote.ip() == binding.flow.remote.ip(),
        })
    }

    /// Forgets the dialog, unless BYE is still to come; requests for it are answered 481 from now on.
    pub(super) fn leave_dialog(&self, ctx: &mut Context) {
        if !self.owes_bye {
            ctx.leave_dialog(&self.local_tag, self.user());
        }
    }

    /// Takes the leg to another call or side: dialog, media reports and the device that comes back find it there.
    pub(super) fn move_to(&mut self, ctx: &mut Context, id: (CallId, Side)) {
        ctx.leave_dialog(&self.local_tag, self.user());
        self.id = id;
        self.enter(ctx, id.0, id.1);
        for leg in &self.open_media {
            ctx.media.insert(*leg, id);
        }
    }

    /// The peer is in its call: the dialog is there and the peer has not hung up.
    pub(super) const fn is_present(&self) -> bool {
        self.dialog.is_some() && !self.has_left
    }

    /// No transaction of this leg needs its call any more.
    pub(super) const fn is_settled(&self) -> bool {
        !self.owes_bye && !self.is_bye_open && self.client_invite.is_none()
    }
}

fn protection(from: &offer_answer::Protection) -> media::Protection {
    match from {
        offer_answer::Protection::Plain => media::Protection::Plain,
        offer_answer::Protection::Srtp { suite, key, mki } => {
            media::Protection::Srtp { suite: *suite, key: key.clone(), mki: mki.clone() }
        }
    }
}

const fn suite_name(protection: &offer_answer::Protection) -> &'static str {
    match protection {
        offer_answer::Protection::Plain => "plain",
        offer_answer::Protection::Srtp { suite, .. } => suite.name(),
    }
}
