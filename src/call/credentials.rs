//! A trunk's challenges to the requests of a call, and our answers: whose password is shown for which leg.

use super::{context::Context, leg::Leg};
use crate::{
    sip::challenge::{Authorization, Challenge},
    wire::sip::{Message, Method},
};

impl Leg {
    /// Whether a request of ours that was answered with this challenge should be sent again: the first time, or if only
    /// the nonce was too old.
    pub(super) fn is_challenged(&mut self, response: &Message) -> bool {
        let is_new = self.takes_challenge(response, self.answers);
        self.answers += u8::from(is_new);
        is_new
    }

    /// The same for a request of which `answers` challenges were answered.
    pub(super) fn takes_challenge(&mut self, response: &Message, answers: u8) -> bool {
        let Some(challenge) = self.trunk.and_then(|_| Challenge::read(response)) else { return false };
        let is_new = challenge.deserves_answer(answers);
        if is_new {
            self.challenge = Some(Box::new(challenge));
        }
        is_new
    }

    /// Our answer to the trunk's last challenge, for one request. `None`: there was none, or we have no password.
    pub(super) fn authorization(
        &mut self,
        ctx: &mut Context,
        method: Method,
        uri: &str,
        body: &[u8],
    ) -> Option<Authorization> {
        let trunk = self.trunk?;
        let challenge = self.challenge.as_mut()?;
        let user = ctx.trunks.trunk(trunk).user.as_deref()?;
        let password = ctx.trunks.password(trunk)?;
        let authorization = challenge.answer((user, password), (method.as_str(), uri, body), &mut ctx.rng)?;
        if method == Method::Invite {
            self.invite_authorization = Some(Box::new(authorization.clone()));
        }
        Some(authorization)
    }
}
