//! Refused emergency calls whose callers hear the special information tone before the answer (emergency RULES 5.1).
//!
//! Decisions
//! - The call is refused when it comes: it is logged, counted and told to the desks then. The tone delays the final answer by its own
//!   second, whatever media threads and telephone do meanwhile, and whatever stands in its way means the answer at once.
//! - A tone is packets to an address that an INVITE names. They go to the host that the INVITE has come from; elsewhere only for a
//!   caller who has proven by password or connection to be a user of ours.
//! - The answer to the offer is that of any call, and as the caller asks for it: a telephone behind a NAT shows where it hears by what it
//!   sends. Nobody hears that.

use std::collections::BTreeMap;

use super::{
    cdr::{Cdr, EndedBy},
    context::{Context, Pending, Side},
    emergency_call,
    interface::Output,
    leg::Leg,
    outgoing::escaped_user,
};
use crate::{
    media::{self, Command, Law, TONE_TIME, Tone},
    policy::{
        emergency::{EmergencyCall, texts::Language},
        security::LegSecurity,
    },
    sip::dialog::is_sips,
    types::{CallId, Instant, LegId, TxnId, limits::REFUSAL_TONES_MAX},
    wire::{
        sdp::{Direction, MediaKind, MediaSection, Session},
        sip::{Message, Name},
    },
};

/// An emergency call that is refused and has no final answer yet.
#[derive(Debug)]
pub(super) struct Refused {
    pub pending: Pending,
    pub dialled: EmergencyCall,
    pub language: Language,
    /// `None`: a stranger's, of which no record is kept.
    pub cdr: Option<Cdr>,
}

impl Refused {
    /// The final answer, with this tag of ours.
    pub(super) fn answer(self, ctx: &mut Context, tag: &str) {
        let (status, phrase) = emergency_call::answer_refused(ctx, &self.pending, self.language, &self.dialled, tag);
        if let Some(cdr) = self.cdr {
            ctx.outputs.push_back(Output::StoreCdr(Box::new(cdr.refused(ctx, status, phrase))));
        }
    }
}

/// By what its caller may be played a tone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Names the tone's media leg; no call has it.
    pub id: CallId,
    pub worker: u16,
    pub security: LegSecurity,
    /// The caller is a user of ours, by password or connection.
    pub is_proven: bool,
}

#[derive(Debug, Default)]
pub(super) struct RefusalTones(BTreeMap<CallId, Playing>);

#[derive(Debug)]
struct Playing {
    refused: Refused,
    leg: Leg,
    until: Instant,
}

impl RefusalTones {
    /// Begins the tone and tells the caller where it comes from. `Err`: there can be none.
    pub(super) fn begin(&mut self, ctx: &mut Context, terms: Terms, refused: Refused) -> Result<(), Box<Refused>> {
        let Pending { txn, flow, ref request } = refused.pending;
        if self.0.len() >= REFUSAL_TONES_MAX || requires_reliability(request) {
            return Err(Box::new(refused));
        }
        let user = escaped_user(&refused.dialled.dialled);
        let mut leg = Leg::new(ctx, (terms.id, Side::A), flow, terms.security, user);
        leg.is_secure = is_sips(request.request_uri());
        let Some(answer) = play(ctx, terms, request, &mut leg) else {
            leg.close_media(ctx);
            return Err(Box::new(refused));
        };
        let response = ctx.response(&refused.pending, 183, "", &leg.local_tag).header("Contact", leg.contact(ctx));
        let bytes = response.body("application/sdp", answer.as_bytes()).finish();
        ctx.respond(txn, 183, bytes);
        self.0.insert(terms.id, Playing { refused, leg, until: ctx.now + TONE_TIME });
        Ok(())
    }

    /// The final answer, whether the tone is over or not.
    pub(super) fn end(&mut self, ctx: &mut Context, id: CallId) {
        if let Some(Playing { refused, mut leg, .. }) = self.0.remove(&id) {
            leg.close_media(ctx);
            refused.answer(ctx, &leg.local_tag);
        }
    }

    pub(super) fn end_all(&mut self, ctx: &mut Context) {
        while let Some((&id, _)) = self.0.first_key_value() {
            self.end(ctx, id);
        }
    }

    pub(super) fn timeout(&mut self, ctx: &mut Context) {
        while let Some(id) = self.0.iter().find(|(_, playing)| playing.until <= ctx.now).map(|(id, _)| *id) {
            self.end(ctx, id);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.0.values().map(|playing| playing.until).min()
    }

    /// The caller has hung up, or cannot be answered any more. `false`: this is no INVITE that hears a tone.
    pub(super) fn give_up(&mut self, ctx: &mut Context, txn: TxnId) -> bool {
        let Some(id) = self.find(|playing| playing.refused.pending.txn == txn) else { return false };
        let Some(Playing { refused, mut leg, .. }) = self.0.remove(&id) else { return false };
        leg.close_media(ctx);
        let bytes = ctx.response(&refused.pending, 487, "", &leg.local_tag).finish();
        ctx.respond(txn, 487, bytes);
        if let Some(mut cdr) = refused.cdr {
            cdr.end(ctx, EndedBy::Caller, 487, "Request Terminated");
            ctx.outputs.push_back(Output::StoreCdr(Box::new(cdr)));
        }
        true
    }

    pub(super) fn holds(&self, txn: TxnId) -> bool {
        self.find(|playing| playing.refused.pending.txn == txn).is_some()
    }

    /// The INVITE whose early dialog has this tag of ours.
    pub(super) fn of_dialog(&self, tag: &str) -> Option<TxnId> {
        let id = self.find(|playing| playing.leg.local_tag == tag)?;
        Some(self.0[&id].refused.pending.txn)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, is_it: impl Fn(&Playing) -> bool) -> Option<CallId> {
        self.0.iter().find(|(_, playing)| is_it(playing)).map(|(id, _)| *id)
    }
}

/// Its 183 would have to be acknowledged and repeated (RFC 3262).
fn requires_reliability(invite: &Message) -> bool {
    invite.values(Name::Require).any(|tag| tag.eq_ignore_ascii_case("100rel"))
}

/// Takes a port for the tone and starts it. Returns the answer to the offer; `None`: the caller cannot hear it, or no port is free.
fn play(ctx: &mut Context, terms: Terms, invite: &Message, leg: &mut Leg) -> Option<String> {
    let offer = leg.negotiation.read_offer(&invite.sdp()?).ok()?;
    let (at, payload_type, law) = offer.media.iter().enumerate().find_map(|(at, section)| audible(at, section))?;
    let accepted = accepted(offer, at, payload_type);
    if !leg.open_media(ctx, terms.id, Side::A, terms.worker, &accepted) {
        return None;
    }
    let local = leg.local_media(ctx);
    let (answer, settled) = leg.negotiation.answer(&mut ctx.rng, &accepted, &local).ok()?;
    let host = settled[at].remote_rtp?.ip();
    if !terms.is_proven && host != leg.flow.remote.ip() {
        return None;
    }
    leg.session = Some(accepted);
    leg.configure(ctx, &settled);
    let port: LegId = leg.media[at]?;
    let sequence = u16::try_from(ctx.rng.below(1 << 15)).expect("a number below 2^15");
    let tone = Tone { law, payload_type, ssrc: ctx.rng.u32(), sequence, timestamp: ctx.rng.u32() };
    ctx.command(port, Command::Play { leg: port, tone });
    Some(answer)
}

/// Whether the tone can be heard in this section of an offer, and how it is coded there.
fn audible(at: usize, section: &MediaSection) -> Option<(usize, u8, Law)> {
    let is_heard = section.kind == MediaKind::Audio && section.port != 0 && section.direction.receives();
    let (payload_type, law) = media::g711(section).filter(|_| is_heard)?;
    Some((at, payload_type, law))
}

/// What is accepted of an offer: one format of one section, in the directions that the caller offers.
fn accepted(mut offer: Session, at: usize, payload_type: u8) -> Session {
    let format = payload_type.to_string();
    for (i, section) in offer.media.iter_mut().enumerate() {
        if i != at {
            section.port = 0;
        }
    }
    let section = &mut offer.media[at];
    let rtpmap = section.rtpmap(&format).map(|encoding| ("rtpmap", Some(format!("{format} {encoding}"))));
    section.attributes = rtpmap.into_iter().collect();
    section.formats = [format].into_iter().collect();
    section.direction = Direction::SendRecv;
    offer
}
