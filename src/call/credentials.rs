//! What a trunk asks for before it takes our requests, and our answer (RFC 3261 section 22, RFC 7616).

use std::fmt;

use super::{context::Context, leg::Leg};
use crate::{
    types::Secret,
    wire::sip::{Message, Method, Name, digest},
};

/// Challenges to one request that are answered; a trunk whose nonces are stale at once gets no further.
const ANSWERS_MAX: u8 = 3;

/// A trunk's last challenge. It is answered again in each further request of the dialog, which saves a round trip and lets
/// BYE pass at once.
pub(super) struct Challenge {
    /// Of our answer.
    header: &'static str,
    lines: Vec<String>,
    /// The nonce count.
    uses: u32,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({}, used {} times)", self.header, self.uses)
    }
}

/// Header name and value of an answer.
pub(super) type Authorization = (&'static str, Secret<String>);

impl Challenge {
    fn read(response: &Message) -> Option<Self> {
        let (challenge, header) = match response.status() {
            401 => (Name::WwwAuthenticate, "Authorization"),
            407 => (Name::ProxyAuthenticate, "Proxy-Authorization"),
            _ => return None,
        };
        Some(Self { header, lines: response.lines(challenge).map(str::to_owned).collect(), uses: 0 })
    }

    /// The password was right, the nonce too old.
    fn is_stale(&self) -> bool {
        let says_so = |line: &String| line.to_ascii_lowercase().replace(['"', ' '], "").contains("stale=true");
        self.lines.iter().any(says_so)
    }
}

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
        let is_new = answers == 0 || challenge.is_stale() && answers < ANSWERS_MAX;
        if is_new {
            self.challenge = Some(challenge);
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
        let cnonce = ctx.rng.token(16);
        let user = ctx.trunks.trunk(trunk).user.as_deref()?;
        let password = ctx.trunks.password(trunk)?.expose();
        challenge.uses = challenge.uses.saturating_add(1);
        let lines = challenge.lines.iter().map(String::as_str);
        let value = digest::answer(lines, user, password, method.as_str(), uri, body, &cnonce, challenge.uses)?;
        let authorization = (challenge.header, Secret::new(value));
        if method == Method::Invite {
            self.invite_authorization = Some(authorization.clone());
        }
        Some(authorization)
    }
}
