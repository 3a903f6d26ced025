//! Calls whose INVITE has no offer (RFC 3261 section 13.2.1, RFC 6337 section 2.2). We do not transcode, so only the callee can
//! say what will be spoken: it is called without an offer too, and each leg has its own addresses and keys as ever.
//!
//! ```text
//! caller                 server                 callee
//!   |  INVITE               |  INVITE              |
//!   |---------------------->|--------------------->|
//!   |        200 (offer)    |        200 (offer)   |
//!   |<----------------------|<---------------------|
//!   |  ACK (answer)         |  ACK (answer)        |
//!   |---------------------->|--------------------->|
//! ```

use bytes::Bytes;

use super::{
    call::{Call, State},
    context::{Context, Side},
};

impl Call {
    /// Reads a callee's offer and makes ours to the caller of it; both legs take their ports.
    pub(super) fn offer_for_a(&mut self, ctx: &mut Context, number: u32, body: &Bytes) -> Result<String, &'static str> {
        self.read_offer_of_b(ctx, number, body)?;
        let (call, worker) = (self.id, self.worker);
        let session = self.branches.get(&number).and_then(|branch| branch.leg.session.as_ref());
        let session = session.ok_or("no offer was read")?;
        if !self.a.open_media(ctx, call, Side::A, worker, session) {
            return Err("no media port is free");
        }
        let local = self.a.local_media(ctx);
        self.a.negotiation.offer(&mut ctx.rng, session, &local).map_err(|fault| fault.text())
    }

    pub(super) fn read_offer_of_b(&mut self, ctx: &mut Context, number: u32, body: &Bytes) -> Result<(), &'static str> {
        let (call, worker) = (self.id, self.worker);
        let leg = &mut self.branches.get_mut(&number).ok_or("the branch is gone")?.leg;
        let session = leg.negotiation.read_offer(body).map_err(|fault| fault.text())?;
        if !leg.open_media(ctx, call, Side::B(number), worker, &session) {
            return Err("no media port is free");
        }
        leg.session = Some(session);
        Ok(())
    }

    /// The answered branch whose offer the caller's ACK has to answer.
    pub(super) fn awaits_answer(&self) -> Option<u32> {
        let State::Answered(number) = self.state else { return None };
        self.branches.get(&number).filter(|branch| branch.leg.owes_answer()).map(|_| number)
    }

    /// The ACK is here: its answer goes to the callee. Without a usable one there is no session, and both sides hear BYE.
    pub(super) fn answered_in_ack(&mut self, ctx: &mut Context, number: u32, body: Option<Bytes>) {
        let answered = body.ok_or("No Answer In ACK").and_then(|body| self.read_answer_of_a(ctx, &body));
        match answered.and_then(|()| self.answer_in_ack(ctx, number)) {
            Ok(()) => self.close_unused_media(ctx),
            Err(text) => self.hang_up_both(ctx, 488, text),
        }
    }

    pub(super) fn read_answer_of_a(&mut self, ctx: &mut Context, body: &Bytes) -> Result<(), &'static str> {
        let (session, settled) = self.a.negotiation.read_answer(body).map_err(|fault| fault.text())?;
        self.a.session = Some(session);
        self.a.configure(ctx, &settled);
        Ok(())
    }

    /// Answers the offer in a callee's 2xx with what the caller said, with the media of both legs joined.
    pub(super) fn answer_in_ack(&mut self, ctx: &mut Context, number: u32) -> Result<(), &'static str> {
        let answer = self.answer_of_b(ctx, number)?;
        if let Some(branch) = self.branches.get_mut(&number) {
            branch.leg.acknowledge_offer(ctx, Some(&answer));
            self.join_media(ctx, number);
        }
        Ok(())
    }

    /// Our answer to a callee's offer, made of the caller's.
    pub(super) fn answer_of_b(&mut self, ctx: &mut Context, number: u32) -> Result<String, &'static str> {
        let branch = self.branches.get_mut(&number).ok_or("the branch is gone")?;
        let session = self.a.session.as_ref().ok_or("the caller has not answered")?;
        let local = branch.leg.local_media(ctx);
        let (answer, settled) =
            branch.leg.negotiation.answer(&mut ctx.rng, session, &local).map_err(|fault| fault.text())?;
        branch.leg.configure(ctx, &settled);
        branch.is_negotiated = true;
        Ok(answer)
    }
}
