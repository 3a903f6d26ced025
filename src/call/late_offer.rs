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
        let (call, worker) = (self.id, self.worker(ctx));
        let branch = self.branches.get_mut(&number).ok_or("the branch is gone")?;
        let session = branch.leg.negotiation.read_offer(body).map_err(|fault| fault.text())?;
        let is_open = branch.leg.open_media(ctx, call, Side::B(number), worker, &session)
            && self.a.open_media(ctx, call, Side::A, worker, &session);
        if !is_open {
            return Err("no media port is free");
        }
        let offer = self.a.negotiation.offer(&session, &self.a.local_media(ctx));
        branch.leg.session = Some(session);
        Ok(offer)
    }

    /// The answered branch whose offer the caller's ACK has to answer.
    pub(super) fn awaits_answer(&self) -> Option<u32> {
        let State::Answered(number) = self.state else { return None };
        self.branches.get(&number).filter(|branch| branch.leg.owes_answer()).map(|_| number)
    }

    /// The ACK is here: its answer goes to the callee. Without a usable one there is no session, and both sides hear BYE.
    pub(super) fn read_callers_answer(&mut self, ctx: &mut Context, number: u32, answer: Option<Bytes>) {
        let answer = answer.ok_or("No Answer In ACK").and_then(|body| self.answer_for_b(ctx, number, &body));
        match answer {
            Ok(answer) => {
                if let Some(branch) = self.branches.get_mut(&number) {
                    branch.leg.acknowledge_offer(ctx, Some(&answer));
                }
                self.close_unused_media(ctx);
            }
            Err(text) => self.hang_up_both(ctx, 488, text),
        }
    }

    /// Reads the caller's answer and makes the callee's of it, with the media of both legs joined.
    fn answer_for_b(&mut self, ctx: &mut Context, number: u32, body: &Bytes) -> Result<String, &'static str> {
        let (session, settled) = self.a.negotiation.read_answer(body).map_err(|fault| fault.text())?;
        self.a.configure(ctx, &settled);
        let leg = &mut self.branches.get_mut(&number).ok_or("the branch is gone")?.leg;
        let (answer, settled) =
            leg.negotiation.answer(&session, &leg.local_media(ctx)).map_err(|fault| fault.text())?;
        leg.configure(ctx, &settled);
        self.a.session = Some(session);
        self.join_media(ctx, number);
        Ok(answer)
    }
}
