//! What a server asks for before it takes our requests, and our answer (RFC 3261 section 22, RFC 7616).

use std::fmt;

use crate::{
    types::{Rng, Secret},
    wire::sip::{Message, Name, digest},
};

/// Challenges to one request that are answered; a server whose nonces are stale at once gets no further.
const ANSWERS_MAX: u8 = 3;

/// A server's last challenge. It is answered again in each further request to it, which saves a round trip.
pub struct Challenge {
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
pub type Authorization = (&'static str, Secret<String>);

impl Challenge {
    /// `None`: the response is neither 401 nor 407.
    pub fn read(response: &Message) -> Option<Self> {
        let (challenge, header) = match response.status() {
            401 => (Name::WwwAuthenticate, "Authorization"),
            407 => (Name::ProxyAuthenticate, "Proxy-Authorization"),
            _ => return None,
        };
        Some(Self { header, lines: response.lines(challenge).map(str::to_owned).collect(), uses: 0 })
    }

    /// Whether a request of which `answers` challenges were answered should be sent again: the first time, or if only the
    /// nonce was too old.
    pub fn deserves_answer(&self, answers: u8) -> bool {
        answers == 0 || self.is_stale() && answers < ANSWERS_MAX
    }

    /// The password was right, the nonce too old.
    fn is_stale(&self) -> bool {
        let says_so = |line: &String| line.to_ascii_lowercase().replace(['"', ' '], "").contains("stale=true");
        self.lines.iter().any(says_so)
    }

    /// Our answer for one request. `None`: it asks for what this side does not know.
    pub fn answer(
        &mut self,
        (user, password): (&str, &Secret<String>),
        (method, uri, body): (&str, &str, &[u8]),
        rng: &mut Rng,
    ) -> Option<Authorization> {
        let cnonce = rng.token(16);
        self.uses = self.uses.saturating_add(1);
        let lines = self.lines.iter().map(String::as_str);
        let value = digest::answer(lines, user, password.expose(), method, uri, body, &cnonce, self.uses)?;
        Some((self.header, Secret::new(value)))
    }
}
