//! Reliable provisional responses (RFC 3262): ours to the caller, each repeated until its PRACK, and those of the branches,
//! each acknowledged once and in order.
//!
//! ```text
//! caller                     server                     branch
//!   |  INVITE (100rel)         |  INVITE (100rel)         |
//!   |------------------------->|------------------------->|
//!   |                          |         183 (RSeq 7, SDP)|
//!   |         183 (RSeq 1, SDP)|<-------------------------|
//!   |<-------------------------|  PRACK (RAck 7)          |
//!   |  PRACK (RAck 1)          |------------------------->|
//!   |------------------------->|                   200    |
//!   |                   200    |<-------------------------|
//!   |<-------------------------|
//! ```
//!
//! Decisions
//! - One reliable response is under way to the caller at a time; later ones wait for its PRACK. Section 3 asks for that
//!   only of the first, but order then needs no thought.
//! - A callee's 200 waits for the PRACK of a response with a session description (section 3), for as long as that takes.
//! - A caller that supports 100rel and does not require it gets those with a session description reliably: what it must not
//!   miss. In an emergency only what the caller requires is reliable, and a missing PRACK ends nothing.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    call::{Call, State},
    context::{Context, Owner, Pending, Side},
    fork::{Failure, Progress},
    in_dialog::description,
    leg::Leg,
    outgoing::with_offer,
    passed_headers::PassedHeaders,
};
use crate::{
    sip::{
        dialog::Dialog,
        transaction::{T1, T1_64},
    },
    types::{DropReason, Duration, Instant, TxnId, limits},
    wire::sip::{Message, Method, Name},
};

/// The option tag.
pub(super) const RELIABLE: &str = "100rel";

fn lists(message: &Message, name: Name) -> bool {
    message.values(name).any(|tag| tag.eq_ignore_ascii_case(RELIABLE))
}

/// Whether the sender of a request understands reliable provisional responses.
fn supports(request: &Message) -> bool {
    lists(request, Name::Supported) || lists(request, Name::Require)
}

/// The RSeq of a response that must be acknowledged.
fn reliable_number(response: &Message) -> Option<u32> {
    let number = response.header(Name::RSeq)?.trim().parse().ok()?;
    (number > 0 && lists(response, Name::Require)).then_some(number)
}

/// What a reliable response to the caller says about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    /// The answer to the caller's offer.
    Answer,
    /// The offer of this branch, which the PRACK answers.
    Offer(u32),
}

/// A reliable response without its PRACK.
#[derive(Debug)]
struct Unacknowledged {
    rseq: u32,
    txn: TxnId,
    status: u16,
    response: Bytes,
    content: Content,
    interval: Duration,
    repeat_at: Instant,
    give_up_at: Instant,
}

/// The provisional responses to the caller's INVITE.
#[derive(Debug, Default)]
pub(super) struct Provisionals {
    is_supported: bool,
    is_required: bool,
    /// Of the last one sent reliably; 0 before the first.
    rseq: u32,
    /// A reliable one had a session description: no later response repeats it.
    pub has_settled: bool,
    unacknowledged: Option<Box<Unacknowledged>>,
    /// Status, the branch whose early media comes with it, and headers of the branch's own.
    waiting: VecDeque<(u16, Option<u32>, PassedHeaders)>,
    /// Callees' 200s that wait for the PRACK or the disk, first come first.
    held: VecDeque<(u32, Message)>,
}

impl Provisionals {
    pub(super) fn new(invite: &Message) -> Self {
        Self { is_supported: supports(invite), is_required: lists(invite, Name::Require), ..Self::default() }
    }

    /// Offer and answer of the caller's INVITE are settled, and the caller has said that it knows.
    pub(super) const fn is_settled(&self) -> bool {
        self.has_settled && !self.is_busy()
    }

    const fn is_busy(&self) -> bool {
        self.unacknowledged.is_some()
    }

    fn wait(&mut self, status: u16, source: Option<u32>, passed: PassedHeaders) {
        let one = (status, source, passed);
        if self.waiting.len() < limits::PROVISIONALS_WAITING_MAX && self.waiting.back() != Some(&one) {
            self.waiting.push_back(one);
        }
    }

    /// Whether the final answer must wait for a PRACK.
    fn holds_answer(&self) -> bool {
        self.unacknowledged.as_ref().is_some_and(|one| one.content != Content::Nothing)
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes back the 200 of a branch that waits.
    pub(super) fn take_held(&mut self, number: u32) -> Option<Message> {
        let at = self.held.iter().position(|(held, _)| *held == number)?;
        self.held.remove(at).map(|(_, response)| response)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unacknowledged.as_ref().map(|one| one.repeat_at.min(one.give_up_at))
    }

    /// Takes the response that a PRACK acknowledges (RFC 3262 section 7.2): RSeq, then CSeq and method of the INVITE.
    fn take_acknowledged(&mut self, prack: &Message, invite_cseq: u32) -> Option<Content> {
        let mut words = prack.header(Name::RAck)?.split_ascii_whitespace();
        let rseq: u32 = words.next()?.parse().ok()?;
        let cseq: u32 = words.next()?.parse().ok()?;
        let is_invite = words.next() == Some(Method::Invite.as_str()) && words.next().is_none();
        let one = self.unacknowledged.take_if(|one| is_invite && one.rseq == rseq && cseq == invite_cseq)?;
        Some(one.content)
    }
}

// Towards the caller.

impl Call {
    /// Branches are offered 100rel. One that is to offer may use it only if the caller can answer in a PRACK of its own.
    pub(super) fn offers_reliability(&self) -> bool {
        self.a.session.is_some() || (self.provisionals.is_supported && self.emergency.is_none())
    }

    /// Tells the caller that something rings; `source` is the branch whose early media it hears with it.
    pub(super) fn tell_ringing(&mut self, ctx: &mut Context, status: u16, source: Option<u32>) {
        if self.provisionals.is_busy() {
            return self.provisionals.wait(status, source, self.passed.clone());
        }
        let is_new = !self.provisionals.has_settled;
        // Its media is joined even where the caller has its answer already.
        let sdp = source.and_then(|number| self.early_answer(ctx, number)).filter(|_| is_new);
        let is_wanted = self.provisionals.is_supported && sdp.is_some() && self.emergency.is_none();
        let is_required = self.provisionals.is_required;
        // The first reliable response to an INVITE without offer would have to carry one (RFC 3261 section 13.2.1).
        let is_possible = self.has_offer || self.a.session.is_some();
        if (is_required || is_wanted) && is_possible {
            let content = if sdp.is_some() { Content::Answer } else { Content::Nothing };
            self.send_reliably(ctx, status, sdp.as_deref(), content);
        } else if !is_required {
            self.answer_a(ctx, status, "", sdp.as_deref());
        }
    }

    fn send_reliably(&mut self, ctx: &mut Context, status: u16, sdp: Option<&str>, content: Content) {
        let contact = self.a.contact(ctx);
        let Some(invite) = self.a.server_invite.as_ref().filter(|i| !i.is_answered) else { return };
        let txn = invite.pending.txn;
        let rseq = match self.provisionals.rseq {
            // Section 3: the first is chosen at random below 2^31.
            0 => ctx.rng.below(i32::MAX.unsigned_abs()) + 1,
            last => last.saturating_add(1),
        };
        let response = ctx
            .response(&invite.pending, status, "", &self.a.local_tag)
            .header("Contact", contact)
            .header("Require", RELIABLE)
            .header("RSeq", rseq);
        let response = self.passed.add_to_response(response);
        let response = match sdp {
            Some(sdp) => response.body("application/sdp", sdp.as_bytes()),
            None => response,
        };
        let response = response.finish();
        ctx.respond(txn, status, response.clone());
        self.provisionals.rseq = rseq;
        self.provisionals.has_settled |= sdp.is_some();
        self.provisionals.unacknowledged = Some(Box::new(Unacknowledged {
            rseq,
            txn,
            status,
            response,
            content,
            interval: T1,
            repeat_at: ctx.now + T1,
            give_up_at: ctx.now + T1_64,
        }));
    }

    /// Repeats what has no PRACK yet, at doubling intervals; after 64*T1 the call fails (section 3).
    pub(super) fn repeat_provisional(&mut self, ctx: &mut Context) {
        let Some(one) = &mut self.provisionals.unacknowledged else { return };
        if one.give_up_at <= ctx.now {
            if self.emergency.is_none() {
                return self.fail(ctx, &Failure::new(504, "No PRACK"), None);
            }
            self.provisionals.unacknowledged = None;
            self.tell_more(ctx);
        } else if one.repeat_at <= ctx.now {
            one.interval *= 2;
            one.repeat_at = ctx.now + one.interval;
            ctx.respond(one.txn, one.status, one.response.clone());
        }
    }

    /// PRACK of the caller. Responses of ours to other INVITEs are never reliable.
    pub(super) fn prack(&mut self, ctx: &mut Context, side: Side, pending: &Pending) {
        let cseq = self.a.server_invite.as_ref().map(|invite| invite.cseq).filter(|_| side == Side::A);
        let content = cseq.and_then(|cseq| self.provisionals.take_acknowledged(&pending.request, cseq));
        let Some(content) = content else { return ctx.refuse(pending, 481, "") };
        let body = description(&pending.request);
        match (content, body) {
            (Content::Offer(number), body) => {
                self.confirm(ctx, pending);
                self.answered_in_prack(ctx, number, body);
            }
            (Content::Answer | Content::Nothing, Some(offer)) => self.offered_in_prack(ctx, pending, &offer),
            (Content::Answer | Content::Nothing, None) => self.confirm(ctx, pending),
        }
        self.tell_more(ctx);
    }

    /// The answer to an offer in our response. Without a usable one no session can follow.
    fn answered_in_prack(&mut self, ctx: &mut Context, number: u32, body: Option<Bytes>) {
        if self.state != State::Setup {
            return;
        }
        let read = body.ok_or("No Answer In PRACK").and_then(|body| self.read_answer_of_a(ctx, &body));
        if let Err(text) = read {
            return self.fail(ctx, &Failure::new(488, "Not Acceptable Here"), Some(text));
        }
        // A branch that has failed meanwhile, or was given up, is told nothing more.
        let branch = self.branches.get_mut(&number).filter(|b| b.is_open());
        let Some(response) = branch.and_then(|branch| branch.offered.take()) else { return };
        match self.answer_of_b(ctx, number) {
            Ok(answer) => self.accept_in_prack(ctx, number, &response, &answer),
            Err(text) => self.decline_in_prack(ctx, number, &response, text),
        }
    }

    /// A new offer of the caller (section 5) is answered with what it has heard already: no other is settled yet.
    fn offered_in_prack(&mut self, ctx: &mut Context, pending: &Pending, offer: &Bytes) {
        let local = self.a.local_media(ctx);
        let Some(told) = self.told.as_ref().filter(|_| self.state == State::Setup) else {
            return ctx.refuse(pending, 488, "");
        };
        let negotiation = &mut self.a.negotiation;
        let read = negotiation.read_offer(offer);
        match read.and_then(|session| Ok((session, negotiation.answer(&mut ctx.rng, told, &local)?))) {
            Ok((session, (answer, settled))) => {
                self.a.session = Some(session);
                self.a.configure(ctx, &settled);
                let response = ctx.response(pending, 200, "", "").body("application/sdp", answer.as_bytes());
                ctx.respond(pending.txn, 200, response.finish());
            }
            Err(fault) => {
                self.a.negotiation.roll_back();
                let warning = ctx.warning(fault.text());
                ctx.refuse_with(pending, 488, "", &[("Warning", &warning)]);
            }
        }
    }

    /// The caller may be told more: a callee's 200 before anything else.
    pub(super) fn tell_more(&mut self, ctx: &mut Context) {
        while !self.provisionals.is_busy() && self.state == State::Setup {
            let answer = if self.may_be_answered() { self.provisionals.held.pop_front() } else { None };
            if let Some((number, response)) = answer {
                self.passed = PassedHeaders::of_answer(&response);
                self.branch_answered(ctx, number, &response);
            } else if let Some((status, source, passed)) = self.provisionals.waiting.pop_front() {
                self.passed = passed;
                self.tell_ringing(ctx, status, source);
            } else {
                return;
            }
            self.passed = PassedHeaders::default();
        }
    }

    /// Keeps a callee's 200 until the caller has acknowledged what it was told, and the disk has the call. `false`: nothing stands
    /// in its way.
    pub(super) fn is_answer_held(&mut self, number: u32, response: &Message) -> bool {
        let must_wait = self.provisionals.holds_answer() || !self.may_be_answered();
        let is_held = self.state == State::Setup && must_wait;
        if is_held && self.provisionals.held.iter().all(|(held, _)| *held != number) {
            self.provisionals.held.push_back((number, response.clone()));
        }
        is_held
    }
}

// Towards the branches.

/// The last RSeq of each early dialog of one INVITE, by To tag.
#[derive(Debug, Default)]
pub(super) struct Received(Vec<(String, u32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Next,
    Repeated,
    /// One before it is missing, or there are too many dialogs.
    Early,
}

impl Received {
    fn order(&self, tag: &str, rseq: u32) -> Order {
        match self.0.iter().find(|(known, _)| known == tag) {
            Some((_, last)) if rseq <= *last => Order::Repeated,
            Some((_, last)) if rseq - last > 1 => Order::Early,
            None if self.0.len() >= limits::EARLY_DIALOGS_MAX => Order::Early,
            Some(_) | None => Order::Next,
        }
    }

    fn note(&mut self, tag: &str, rseq: u32) {
        match self.0.iter_mut().find(|(known, _)| known == tag) {
            Some((_, last)) => *last = rseq,
            None => self.0.push((tag.to_owned(), rseq)),
        }
    }
}

/// What is to be done with a provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not reliable: heard, but no part of offer and answer that counts.
    Unreliable,
    /// Reliable and acknowledged.
    Reliable,
    /// Reliable, and its PRACK waits for the answer to its offer.
    Offer,
    /// Repeated, out of order, or not wanted before something else: as if it had not come.
    Ignored,
}

impl Call {
    /// Acknowledges a branch's response if it is reliable and the next of its early dialog (section 4).
    pub(super) fn provisional_arrived(&mut self, ctx: &mut Context, number: u32, response: &Message) -> Arrival {
        let can_offer = self.a.session.is_some() || !self.provisionals.is_busy();
        let Some(branch) = self.branches.get_mut(&number) else { return Arrival::Ignored };
        let (Some(rseq), Some(tag)) = (reliable_number(response), response.to_tag()) else {
            return Arrival::Unreliable;
        };
        if !branch.invite.as_deref().is_some_and(supports) {
            return Arrival::Unreliable;
        }
        match branch.received.order(tag, rseq) {
            Order::Next => {}
            Order::Repeated => return Arrival::Ignored,
            Order::Early => {
                ctx.counters.drops.count(DropReason::SipUnorderedProvisional);
                return Arrival::Ignored;
            }
        }
        let has_offer = !branch.has_offered() && !branch.is_negotiated && description(response).is_some();
        if has_offer && !can_offer {
            // It comes again, and finds the caller ready then.
            return Arrival::Ignored;
        }
        branch.received.note(tag, rseq);
        if has_offer {
            return Arrival::Offer;
        }
        self.send_prack(ctx, number, response, None);
        Arrival::Reliable
    }

    /// A branch's offer in a reliable response (section 5).
    pub(super) fn offered_early(&mut self, ctx: &mut Context, number: u32, response: &Message) {
        let body = response.sdp().unwrap_or_default();
        if self.a.session.is_some() {
            let answer = self.read_offer_of_b(ctx, number, &body).and_then(|()| self.answer_of_b(ctx, number));
            return match answer {
                Ok(answer) => self.accept_in_prack(ctx, number, response, &answer),
                Err(text) => self.decline_in_prack(ctx, number, response, text),
            };
        }
        match self.offer_for_a(ctx, number, &body) {
            Ok(offer) => {
                if let Some(branch) = self.branches.get_mut(&number) {
                    branch.offered = Some(Box::new(response.clone()));
                    self.told.clone_from(&branch.leg.session);
                }
                self.send_reliably(ctx, response.status(), Some(&offer), Content::Offer(number));
            }
            Err(text) => self.decline_in_prack(ctx, number, response, text),
        }
    }

    /// Sends our answer to a branch's early offer; the caller hears the branch, if it is the first.
    fn accept_in_prack(&mut self, ctx: &mut Context, number: u32, response: &Message, answer: &str) {
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.settle_in(response, Bytes::new());
        }
        self.send_prack(ctx, number, response, Some(answer));
        self.hear(ctx, number);
    }

    /// A branch whose offer nobody can use is refused and left.
    fn decline_in_prack(&mut self, ctx: &mut Context, number: u32, response: &Message, text: &'static str) {
        tracing::debug!(call = %self.id, reason = text, "The callee's early offer is unusable.");
        let Some(branch) = self.branches.get_mut(&number) else { return };
        let answer = response.sdp().and_then(|offer| branch.leg.negotiation.decline(&offer));
        self.send_prack(ctx, number, response, answer.as_deref());
        self.branch_left(ctx, number, Failure::new(488, "Not Acceptable Here"));
    }

    fn send_prack(&mut self, ctx: &mut Context, number: u32, response: &Message, answer: Option<&str>) {
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.leg.answers = 0;
            if let Some(invite) = &branch.invite {
                branch.leg.prack(ctx, number, invite, response, answer);
            }
            branch.prack = Some(Box::new((response.clone(), answer.map(str::to_owned))));
        }
    }

    /// A response to our PRACK. Only a trunk that asks for the password gets it again; what else goes wrong shows in the
    /// fate of the INVITE.
    pub(super) fn prack_response(&mut self, ctx: &mut Context, number: u32, response: Option<&Message>) {
        let Some(branch) = self.branches.get_mut(&number).filter(|branch| branch.progress != Progress::Over) else {
            return;
        };
        if response.is_some_and(|response| branch.leg.is_challenged(response))
            && let (Some((acknowledged, answer)), Some(invite)) = (branch.prack.as_deref(), &branch.invite)
        {
            branch.leg.prack(ctx, number, invite, acknowledged, answer.as_deref());
        }
    }
}

impl Leg {
    /// Acknowledges a reliable response to our INVITE in its own early dialog. CSeq rises through all dialogs of the INVITE,
    /// so that any of them may become the call's.
    fn prack(&mut self, ctx: &mut Context, number: u32, invite: &Message, response: &Message, answer: Option<&str>) {
        let (Some(rseq), Some(cseq)) = (reliable_number(response), response.cseq().map(|c| c.number)) else { return };
        let Some(mut early) = Dialog::uac(invite, response) else { return };
        if let Some(dialog) = &self.dialog {
            early.local_cseq = dialog.local_cseq.max(early.local_cseq);
        }
        let body = answer.unwrap_or_default().as_bytes();
        let authorization = self.authorization(ctx, Method::Prack, &early.request_uri(), body);
        ctx.send(self.flow, Owner::Prack(self.id.0, number), |_, via| {
            let mut prack = early.request(Method::Prack, via).header("RAck", format_args!("{rseq} {cseq} INVITE"));
            if let Some((name, value)) = &authorization {
                prack = prack.header(name, value.expose());
            }
            with_offer(prack, answer)
        });
        if let Some(dialog) = &mut self.dialog {
            dialog.local_cseq = early.local_cseq;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reliable_responses_count_by_one_in_each_early_dialog() {
        let mut received = Received::default();
        assert_eq!(received.order("a", 4_000_000_000), Order::Next, "any number begins");
        received.note("a", 7);
        for (tag, rseq, order) in [
            ("a", 6, Order::Repeated),
            ("a", 7, Order::Repeated),
            ("a", 8, Order::Next),
            ("a", 9, Order::Early),
            ("a", u32::MAX, Order::Early),
            ("b", 1, Order::Next),
        ] {
            assert_eq!(received.order(tag, rseq), order, "{tag} {rseq}");
        }
    }

    #[test]
    fn early_dialogs_of_an_invite_are_limited() {
        let mut received = Received::default();
        for n in 0..limits::EARLY_DIALOGS_MAX {
            assert_eq!(received.order(&n.to_string(), 1), Order::Next);
            received.note(&n.to_string(), 1);
        }
        assert_eq!(received.order("one more", 1), Order::Early);
        assert_eq!(received.order("0", 2), Order::Next);
    }

    #[test]
    fn responses_that_wait_are_limited_and_not_said_twice_in_a_row() {
        let mut provisionals = Provisionals::default();
        provisionals.wait(180, None, PassedHeaders::default());
        provisionals.wait(180, None, PassedHeaders::default());
        assert_eq!(provisionals.waiting.len(), 1);
        for number in 0..20 {
            provisionals.wait(183, Some(number), PassedHeaders::default());
        }
        assert_eq!(provisionals.waiting.len(), limits::PROVISIONALS_WAITING_MAX);
    }
}
