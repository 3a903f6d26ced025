//! Digest authentication as a server: challenges, nonces, replay (RFC 7616, RFC 8760).

use crate::{
    types::{Instant, Rng},
    wire::sip::{Message, digest::Credential},
};

/// The outcome of checking a request's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The digest username.
    Passed(String),
    /// No usable credentials: challenge.
    Missing,
    /// Right password, old or used-up nonce: challenge with `stale=true`.
    Stale,
    /// Wrong password, unknown user, replayed nonce count: challenge again; counted.
    Refused,
}

/// Which pair of headers is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// 401, WWW-Authenticate, Authorization: for REGISTER.
    Registrar,
    /// 407, Proxy-Authenticate, Proxy-Authorization: for everything else.
    Proxy,
}

/// Makes and checks nonces. Nonces carry their time and a keyed tag, so an unknown one costs no memory; nonce counts are
/// remembered for nonces that were used, at most `NONCES_MAX`.
#[derive(Debug)]
pub struct Authenticator {}

impl Authenticator {
    pub fn new(realm: &str, rng: Rng) -> Self {
        let _ = (realm, rng);
        todo!()
    }

    /// Header values to send, strongest algorithm first (RFC 8760 section 2.3).
    pub fn challenge(&mut self, now: Instant, is_stale: bool) -> Vec<String> {
        let _ = (now, is_stale);
        todo!()
    }

    /// `lookup` finds a user's credential by digest username. An unknown user costs the same time as a wrong password.
    pub fn check<'a>(
        &mut self,
        now: Instant,
        role: Role,
        request: &Message,
        lookup: impl Fn(&str) -> Option<&'a Credential>,
    ) -> Verdict {
        let _ = (now, role, request, &lookup);
        todo!()
    }
}
