//! Users of the directory at the admin API (RULES 8.2): known by the passwords of their telephones, under the same limits.

use std::sync::Arc;

use super::{
    super::interface::{WebRequest, WebUser},
    Core,
};
use crate::{
    policy::security,
    sip::auth::Verdict,
    types::{Instant, flow::source_of},
};

impl Core {
    /// Who sends a request over HTTP, by its digest credentials (RFC 7616).
    pub fn web_user(&mut self, now: Instant, request: &WebRequest) -> WebUser {
        let (source, shown) = (source_of(request.source), request.shown.expose());
        let claimed = self.authenticator.claimed_web_user(shown);
        let is_barred = self.guard.is_barred_source(now, source)
            || claimed.as_deref().is_some_and(|user| self.guard.is_barred_user(now, user));
        // As for telephones: nobody silences an office by mistyping in it.
        if is_barred && !self.registrar.is_source(source) {
            return WebUser::Barred;
        }
        let directory = Arc::clone(&self.ctx.directory);
        let lookup = |name: &str| directory.by_name(name).map(|user| &user.credential);
        let verdict = self.authenticator.check_web(now, shown, (&request.method, &request.target), lookup);
        match verdict {
            Verdict::Passed(user) => return WebUser::Known(user),
            Verdict::Refused => self.count_refused(now, source, claimed),
            Verdict::Missing | Verdict::Stale => {}
        }
        let algorithms = security::digest_algorithms(&request.user_agent);
        let challenge = self.authenticator.challenge(now, verdict == Verdict::Stale);
        WebUser::Unknown(challenge.values(algorithms).map(|value| value.to_string()).collect())
    }
}
