//! Session timers of a call (RFC 4028): each leg has its own, and each is refreshed or ended on its own.
//!
//! Decisions
//! - A peer's refresh that changes nothing is answered here, not passed on: the other leg has a timer of its own.
//! - Our refresh is an UPDATE without offer where the peer allows that. Else it is a re-INVITE that repeats our session
//!   description as the peer knows it, so that there is nothing to negotiate.
//! - A refresh that meets another INVITE waits until that is done; 491 is followed by another attempt (RFC 3261 section
//!   14.1).
//! - 408 and 481 end the call, in an emergency by [`Call::is_dialog_lost`]. Any other refusal is followed by further attempts, until the session expires.
//! - An emergency call has a timer only where the peer asks for one, and is never ended by it (emergency RULES, section 6).

use super::{
    call::{Call, State},
    context::{Context, SUPPORTED, Side},
    leg::Leg,
};
use crate::{
    sip::session_timer::{Due, Header},
    types::{Duration, Instant, Rng},
    wire::sip::{Message, Method, Name, ResponseBuilder},
};

/// When a refresh is tried again that met another INVITE of its dialog.
const BUSY: Duration = Duration::from_secs(2);

/// How long to wait after a 491, in steps of 10 ms: 2.1 to 4 s if the Call-ID is ours, else up to 2 s (RFC 3261 section
/// 14.1).
fn glare_delay(rng: &mut Rng, is_call_id_ours: bool) -> Duration {
    let steps = if is_call_id_ours { 210 + rng.below(191) } else { rng.below(201) };
    Duration::from_millis(u64::from(steps) * 10)
}

impl Leg {
    /// What a request of ours says about the session; it then supports timers.
    pub(super) fn session_headers(&self, method: Method) -> Vec<Header> {
        let is_refresh = matches!(method, Method::Invite | Method::Update);
        if is_refresh { self.session_timer.offer() } else { Vec::new() }
    }

    /// Completes our 2xx to an INVITE.
    pub(super) fn accept_session(
        &mut self,
        now: Instant,
        request: &Message,
        response: ResponseBuilder,
    ) -> ResponseBuilder {
        let response = response.header("Supported", SUPPORTED);
        let headers = self.session_timer.accept(now, request);
        headers.into_iter().fold(response, |response, (name, value)| response.header(name, value))
    }

    /// No INVITE or UPDATE of either side waits for an answer or for its ACK.
    pub(super) const fn is_quiet(&self) -> bool {
        self.client_invite.is_none() && self.server_invite.is_none() && !self.owes_answer()
    }
}

impl Call {
    /// Whether the re-INVITE that `side` waits for is a refresh, by its own account.
    pub(super) fn is_refresh(&mut self, side: Side) -> bool {
        let invite = self.leg_mut(side).and_then(|leg| leg.server_invite.as_ref());
        invite.is_some_and(|invite| invite.pending.request.header(Name::SessionExpires).is_some())
    }

    /// When [`Call::sessions_due`] is due.
    pub(super) fn sessions_deadline(&self) -> Option<Instant> {
        let State::Answered(number) = self.state else { return None };
        let b = self.branches.get(&number).map(|branch| &branch.leg);
        // A transferor that has hung up has no session any more.
        let present = [Some(&self.a), b].into_iter().flatten().filter(|leg| !leg.has_left);
        present.filter_map(|leg| leg.session_timer.deadline()).min()
    }

    pub(super) fn sessions_due(&mut self, ctx: &mut Context) {
        let State::Answered(number) = self.state else { return };
        for side in [Side::A, Side::B(number)] {
            let leg = self.leg_mut(side).filter(|leg| !leg.has_left);
            match leg.and_then(|leg| leg.session_timer.due(ctx.now)) {
                None => {}
                Some(Due::Refresh) => self.refresh(ctx, side),
                Some(Due::Expired) if self.emergency.is_some() => {}
                Some(Due::Expired) => return self.hang_up_both(ctx, 408, "Session Timer Expired"),
            }
        }
    }

    pub(super) fn refresh(&mut self, ctx: &mut Context, side: Side) {
        let Some(leg) = self.leg_mut(side) else { return };
        if !leg.is_quiet() {
            return leg.session_timer.retry_at(ctx.now, Some(ctx.now + BUSY));
        }
        if leg.allows_update {
            leg.is_refreshing = true;
            leg.modify(ctx, Method::Update, None);
        } else if let Some(offer) = leg.negotiation.repeat() {
            leg.is_refreshing = true;
            leg.reinvite(ctx, offer);
        }
    }

    /// A 2xx to our refresh. Its answer is taken as it is; one that cannot be used changes nothing.
    pub(super) fn refreshed(&mut self, ctx: &mut Context, side: Side, response: &Message) {
        let body = response.sdp().unwrap_or_default();
        let Some(leg) = self.leg_mut(side).filter(|leg| leg.client_method == Method::Invite) else { return };
        match leg.negotiation.read_answer(&body) {
            Ok((session, settled)) => {
                leg.session = Some(session);
                leg.configure(ctx, &settled);
                self.close_unused_media(ctx);
            }
            Err(_) => leg.negotiation.roll_back(),
        }
    }

    pub(super) fn refresh_failed(&mut self, ctx: &mut Context, side: Side, status: u16) {
        if self.is_dialog_lost(side, status) {
            return self.hang_up_both(ctx, status, "");
        }
        let is_call_id_ours = side != Side::A;
        let at = (status == 491).then(|| ctx.now + glare_delay(&mut ctx.rng, is_call_id_ours));
        if let Some(leg) = self.leg_mut(side) {
            leg.session_timer.retry_at(ctx.now, at);
        }
    }
}
