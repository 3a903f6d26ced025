//! Digest authentication as a server: challenges, nonces, replay (RFC 7616, RFC 8760).

use std::{collections::BTreeMap, fmt, io::Write};

use crate::{
    types::{
        Duration, Instant, Rng, Secret,
        limits::{NONCE_LIFETIME_S, NONCES_MAX},
    },
    wire::{
        keyed,
        sip::{
            Message, Name, Uri,
            digest::{Algorithm, Credential, Response},
        },
    },
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
pub struct Authenticator {
    realm: String,
    /// As it stands between quotes.
    escaped_realm: String,
    rng: Rng,
    nonce_key: Secret<[u8; 32]>,
    /// Computed with when the user is unknown, so that both refusals take the same time.
    nobody: Credential,
    used: BTreeMap<Nonce, Uses>,
    /// Nonces up to this one are forgotten: stale unless still in `used`.
    forgotten: Option<Nonce>,
}

impl Authenticator {
    pub fn new(realm: &str, mut rng: Rng) -> Self {
        Self {
            realm: realm.to_owned(),
            escaped_realm: realm.replace('\\', r"\\").replace('"', r#"\""#),
            nonce_key: Secret::new(rng.bytes()),
            nobody: Credential::derive("", realm, &rng.token(32)),
            rng,
            used: BTreeMap::new(),
            forgotten: None,
        }
    }

    /// One nonce serves whichever algorithm is chosen.
    pub fn challenge(&mut self, now: Instant, is_stale: bool) -> Challenge<'_> {
        let nonce = Nonce { issued_ms: now.unix_ms(), random: self.rng.u64() };
        Challenge { realm: &self.escaped_realm, nonce: nonce.digits(self.nonce_key.expose()), is_stale }
    }

    /// `lookup` finds a user's credential by digest username. An unknown user costs the same time as a wrong password.
    ///
    /// Credentials for another realm or with an unknown algorithm are as good as none. Without `qop` (RFC 2069) a nonce
    /// passes once.
    pub fn check<'a>(
        &mut self,
        now: Instant,
        role: Role,
        request: &Message,
        lookup: impl Fn(&str) -> Option<&'a Credential>,
    ) -> Verdict {
        let Some(response) = self.response(lines(role, request)) else { return Verdict::Missing };
        self.verdict(now, &response, (request.method_text(), request.request_uri(), &request.body()), lookup)
    }

    /// The same for a request over HTTP (RFC 7616 section 3.4). `shown`: its Authorization lines; `target`: as it was sent.
    pub fn check_web<'a>(
        &mut self,
        now: Instant,
        shown: &[String],
        (method, target): (&str, &str),
        lookup: impl Fn(&str) -> Option<&'a Credential>,
    ) -> Verdict {
        let Some(response) = self.response(shown.iter().map(String::as_str)) else { return Verdict::Missing };
        self.verdict(now, &response, (method, target, b""), lookup)
    }

    fn verdict<'a>(
        &mut self,
        now: Instant,
        response: &Response<'_>,
        (method, uri, body): (&str, &str, &[u8]),
        lookup: impl Fn(&str) -> Option<&'a Credential>,
    ) -> Verdict {
        let credential = lookup(&response.username);
        let is_known = credential.is_some();
        let is_match = response.matches(credential.unwrap_or(&self.nobody), method, body);
        if !(is_known && is_match && names_same_resource(&response.uri, uri)) {
            return Verdict::Refused;
        }
        match self.use_nonce(now, response) {
            Use::First => Verdict::Passed(response.username.clone().into_owned()),
            Use::Old => Verdict::Stale,
            Use::Repeated => Verdict::Refused,
        }
    }

    /// The digest username that [`Authenticator::check`] would look up.
    pub fn claimed_user(&self, role: Role, request: &Message) -> Option<String> {
        self.response(lines(role, request)).map(|response| response.username.into_owned())
    }

    /// The digest username that [`Authenticator::check_web`] would look up.
    pub fn claimed_web_user(&self, shown: &[String]) -> Option<String> {
        self.response(shown.iter().map(String::as_str)).map(|response| response.username.into_owned())
    }

    fn response<'m>(&self, lines: impl Iterator<Item = &'m str>) -> Option<Response<'m>> {
        let is_usable = |response: &Response<'_>| response.realm == self.realm && response.algorithm.is_some();
        lines.filter_map(Response::parse).find(is_usable)
    }

    /// Records the use of a nonce by someone who knows the password. Only such people can fill the memory.
    fn use_nonce(&mut self, now: Instant, response: &Response<'_>) -> Use {
        self.forget_expired(now);
        let Some(nonce) = Nonce::read(response.nonce, self.nonce_key.expose()) else { return Use::Old };
        if nonce.is_expired(now) {
            return Use::Old;
        }
        let uses = match self.used.get_mut(&nonce) {
            Some(uses) => uses,
            None if self.forgotten.is_some_and(|last| nonce <= last) => return Use::Old,
            None => self.used.entry(nonce).or_default(),
        };
        let outcome = match (response.qop, response.nc) {
            (None, _) => uses.once(),
            (Some(_), Some(count)) => uses.count(count),
            (Some(_), None) => Use::Repeated,
        };
        if self.used.len() > NONCES_MAX {
            self.forgotten = self.used.pop_first().map(|(nonce, _)| nonce);
        }
        outcome
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some(first) = self.used.first_entry().filter(|first| first.key().is_expired(now)) {
            first.remove();
        }
    }
}

fn lines(role: Role, request: &Message) -> impl Iterator<Item = &str> {
    request.lines(match role {
        Role::Registrar => Name::Authorization,
        Role::Proxy => Name::ProxyAuthorization,
    })
}

/// What is asked of a device.
#[derive(Debug)]
pub struct Challenge<'a> {
    realm: &'a str,
    nonce: NonceDigits,
    is_stale: bool,
}

impl Challenge<'_> {
    /// Header values to send, one for each of `algorithms`, which come strongest first (RFC 8760 section 2.3).
    pub fn values(&self, algorithms: &[Algorithm]) -> impl Iterator<Item = impl fmt::Display> {
        let Self { realm, nonce, is_stale } = self;
        let nonce = std::str::from_utf8(nonce).expect("hexadecimal digits are ASCII");
        let stale = if *is_stale { ", stale=true" } else { "" };
        algorithms.iter().map(move |algorithm| {
            let name = algorithm.as_str();
            fmt::from_fn(move |f| {
                write!(f, r#"Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{stale}"#)
            })
        })
    }
}

/// Written as `issued_ms` and `random` (16 hexadecimal digits each) and a keyed tag of the two (32 digits). Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Nonce {
    issued_ms: u64,
    random: u64,
}

impl Nonce {
    fn digits(self, key: &[u8; 32]) -> NonceDigits {
        let mut digits = [0; 64];
        let (body, tag) = digits.split_at_mut(32);
        write!(&mut *body, "{:016x}{:016x}", self.issued_ms, self.random).expect("two numbers of 16 digits fit");
        write!(&mut *tag, "{:032x}", u128::from_be_bytes(keyed::tag(key, body))).expect("128 bits have 32 digits");
        digits
    }

    /// `None` unless this process made the nonce.
    fn read(text: &str, key: &[u8; 32]) -> Option<Self> {
        let issued_ms = u64::from_str_radix(text.get(..16)?, 16).ok()?;
        let random = u64::from_str_radix(text.get(16..32)?, 16).ok()?;
        let nonce = Self { issued_ms, random };
        keyed::is_equal(&nonce.digits(key), text.as_bytes()).then_some(nonce)
    }

    fn is_expired(self, now: Instant) -> bool {
        now.since(Instant::from_unix_ms(self.issued_ms)) > Duration::from_secs(NONCE_LIFETIME_S)
    }
}

type NonceDigits = [u8; 64];

/// What a request did to its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    First,
    /// Too old to tell whether it was used before.
    Old,
    Repeated,
}

/// The nonce counts seen so far: the highest, and the 64 up to it as a bit map, since UDP reorders.
#[derive(Debug, Default)]
struct Uses {
    highest: u32,
    /// Bit `n`: count `highest - n` was seen.
    seen: u64,
    /// Used without `qop`, hence without a count: used up.
    is_spent: bool,
}

impl Uses {
    fn once(&mut self) -> Use {
        if self.is_spent || self.seen != 0 {
            return Use::Old;
        }
        self.is_spent = true;
        Use::First
    }

    fn count(&mut self, count: u32) -> Use {
        if self.is_spent {
            return Use::Old;
        }
        // Counts start at 1 (RFC 7616 section 3.4).
        if count == 0 {
            return Use::Repeated;
        }
        if let Some(ahead) = count.checked_sub(self.highest).filter(|&ahead| ahead > 0) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return Use::First;
        }
        let behind = self.highest - count;
        match 1_u64.checked_shl(behind) {
            None => Use::Old,
            Some(bit) if self.seen & bit != 0 => Use::Repeated,
            Some(bit) => {
                self.seen |= bit;
                Use::First
            }
        }
    }
}

/// Whether the `uri` of the credentials is the Request-URI (RFC 7616 section 3.4). Phones differ in port, parameters and
/// `sip`/`sips`, so the same user at the same host will do.
fn names_same_resource(digest_uri: &str, request_uri: &str) -> bool {
    if digest_uri == request_uri {
        return true;
    }
    let (Some(a), Some(b)) = (Uri::parse(digest_uri), Uri::parse(request_uri)) else { return false };
    let is_same_kind = a.is_sip() == b.is_sip() && (a.is_sip() || a.scheme.eq_ignore_ascii_case(b.scheme));
    is_same_kind && a.user == b.user && a.host.eq_ignore_ascii_case(b.host)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::sip::digest;

    const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

    const REALM: &str = "example.com";
    const URI: &str = "sip:example.com";

    struct Server {
        auth: Authenticator,
        now: Instant,
        alice: Credential,
    }

    impl Server {
        fn new() -> Self {
            Self {
                auth: Authenticator::new(REALM, Rng::from_small_seed(5)),
                now: Instant::from_unix_ms(1_700_000_000_000),
                alice: Credential::derive("alice", REALM, "secret"),
            }
        }

        fn pass_time(&mut self, seconds: u64) {
            self.now = self.now + Duration::from_secs(seconds);
        }

        fn challenge(&mut self) -> Vec<String> {
            challenge(&mut self.auth, self.now, false)
        }

        fn check(&mut self, authorization: &str) -> Verdict {
            let request = register(authorization);
            let Self { auth, now, alice } = self;
            auth.check(*now, Role::Registrar, &request, |user| (user == "alice").then_some(&*alice))
        }
    }

    fn challenge(auth: &mut Authenticator, now: Instant, is_stale: bool) -> Vec<String> {
        auth.challenge(now, is_stale).values(&BOTH).map(|value| value.to_string()).collect()
    }

    fn register(authorization: &str) -> Message {
        let text = format!(
            "REGISTER {URI} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:alice@{REALM}>;tag=a\r\nTo: <sip:alice@{REALM}>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\
             {authorization}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn header(value: &str) -> String {
        format!("Authorization: {value}\r\n")
    }

    /// What a phone sends in answer to `challenges`.
    fn answer(challenges: &[String], user: &str, password: &str, uri: &str, nc: u32) -> String {
        let challenges = challenges.iter().map(String::as_str);
        header(&digest::answer(challenges, user, password, "REGISTER", uri, b"", "0a4f113b", nc).unwrap())
    }

    fn passed() -> Verdict {
        Verdict::Passed("alice".to_owned())
    }

    /// Goal: over HTTP the password is checked as over SIP, and what was said there is worth nothing here.
    #[test]
    fn a_request_over_http_is_checked_by_the_same_secrets_and_nonces() {
        let mut server = Server::new();
        let challenges = server.challenge();
        let answer = |user: &str, password: &str, target: &str, nc: u32| {
            let challenges = challenges.iter().map(String::as_str);
            digest::answer(challenges, user, password, "GET", target, b"", "0a4f113b", nc).unwrap()
        };
        let mut check = |line: String, method: &str, target: &str| {
            let Server { auth, now, alice } = &mut server;
            auth.check_web(*now, &[line], (method, target), |user| (user == "alice").then_some(&*alice))
        };
        let path = "/v1/emergency";
        assert_eq!(check(answer("alice", "secret", path, 1), "GET", path), passed());
        assert_eq!(check(answer("alice", "secret", path, 1), "GET", path), Verdict::Refused, "replayed");
        for (line, method, target) in [
            (answer("alice", "wrong", path, 2), "GET", path),
            (answer("bob", "secret", path, 3), "GET", path),
            (answer("alice", "secret", path, 4), "POST", path),
            (answer("alice", "secret", path, 5), "GET", "/v1/emergency?user=bob"),
            (answer("alice", "secret", URI, 6), "GET", path),
        ] {
            assert_eq!(check(line, method, target), Verdict::Refused, "{method} {target}");
        }
        assert_eq!(check("Bearer x".to_owned(), "GET", path), Verdict::Missing);
        assert_eq!(check(answer("alice", "secret", path, 7), "GET", path), passed());
    }

    #[test]
    fn challenges_are_strongest_first_with_one_nonce() {
        let mut server = Server::new();
        let challenges = server.challenge();
        assert_eq!(challenges.len(), 2);
        assert!(challenges[0].contains("algorithm=SHA-256") && challenges[1].contains("algorithm=MD5"));
        let nonce = |c: &str| c.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        assert_eq!(nonce(&challenges[0]), nonce(&challenges[1]));
        for challenge in &challenges {
            assert!(challenge.starts_with(r#"Digest realm="example.com", "#), "{challenge}");
            assert!(challenge.contains(r#"qop="auth""#) && !challenge.contains("stale"), "{challenge}");
        }
        assert_ne!(nonce(&challenges[0]), nonce(&server.challenge()[0]), "nonces are not reused");
        let stale = challenge(&mut server.auth, server.now, true);
        assert!(stale.iter().all(|challenge| challenge.ends_with(", stale=true")));
    }

    #[test]
    fn the_right_password_passes_with_either_algorithm() {
        let mut server = Server::new();
        let challenges = server.challenge();
        assert_eq!(server.check(&answer(&challenges[..1], "alice", "secret", URI, 1)), passed());
        let challenges = server.challenge();
        assert_eq!(server.check(&answer(&challenges[1..], "alice", "secret", URI, 1)), passed());
    }

    #[test]
    fn wrong_password_and_unknown_user_are_refused() {
        let mut server = Server::new();
        let challenges = server.challenge();
        assert_eq!(server.check(&answer(&challenges, "alice", "wrong", URI, 1)), Verdict::Refused);
        assert_eq!(server.check(&answer(&challenges, "mallory", "secret", URI, 1)), Verdict::Refused);
        assert_eq!(server.check(&answer(&challenges, "alice", "secret", URI, 1)), passed(), "and use up no count");
    }

    #[test]
    fn the_user_that_credentials_claim_is_known_without_checking_them() {
        let mut server = Server::new();
        let challenges = server.challenge();
        let claimed = |auth: &Authenticator, headers: &str| auth.claimed_user(Role::Registrar, &register(headers));
        let wrong = answer(&challenges, "mallory", "wrong", URI, 1);
        assert_eq!(claimed(&server.auth, &wrong).as_deref(), Some("mallory"));
        assert_eq!(claimed(&server.auth, &wrong.replace(REALM, "elsewhere.org")), None);
        assert_eq!(claimed(&server.auth, ""), None);
    }

    #[test]
    fn no_or_foreign_or_unknown_credentials_are_missing() {
        let mut server = Server::new();
        let good = answer(&server.challenge(), "alice", "secret", URI, 1);
        assert_eq!(server.check(""), Verdict::Missing);
        assert_eq!(server.check(&header("Basic YWxpY2U6c2VjcmV0")), Verdict::Missing);
        assert_eq!(server.check(&good.replace(REALM, "elsewhere.org")), Verdict::Missing, "wrong realm");
        assert_eq!(server.check(&good.replace("SHA-256", "SHA-1024")), Verdict::Missing, "unknown algorithm");
        let proxy = good.replace("Authorization:", "Proxy-Authorization:");
        assert_eq!(server.check(&proxy), Verdict::Missing, "the other role's header");
        let both = format!("{}{good}", good.replace(REALM, "elsewhere.org"));
        assert_eq!(server.check(&both), passed(), "credentials for several realms");
    }

    #[test]
    fn the_digest_uri_must_name_the_requested_resource() {
        let mut server = Server::new();
        let challenges = server.challenge();
        for (nc, uri) in (1..).zip(["sip:example.com", "sip:EXAMPLE.com:5060", "sips:example.com;transport=tls"]) {
            assert_eq!(server.check(&answer(&challenges, "alice", "secret", uri, nc)), passed(), "{uri}");
        }
        for (nc, uri) in (11..).zip(["sip:1002@example.com", "sip:example.org", "tel:911", "example.com", ""]) {
            assert_eq!(server.check(&answer(&challenges, "alice", "secret", uri, nc)), Verdict::Refused, "{uri}");
        }
    }

    #[test]
    fn a_nonce_count_passes_once_in_any_order_within_the_window() {
        let mut server = Server::new();
        let challenges = server.challenge();
        let mut check = |nc| server.check(&answer(&challenges, "alice", "secret", URI, nc));
        assert_eq!(check(1), passed());
        assert_eq!(check(1), Verdict::Refused, "replay");
        assert_eq!(check(3), passed());
        assert_eq!(check(2), passed(), "reordered");
        assert_eq!(check(2), Verdict::Refused);
        assert_eq!(check(100), passed());
        assert_eq!(check(37), passed(), "63 behind is remembered");
        assert_eq!(check(36), Verdict::Stale, "64 behind is not");
        assert_eq!(check(100), Verdict::Refused);
        assert_eq!(check(u32::MAX), passed());
        assert_eq!(check(u32::MAX), Verdict::Refused);
        assert_eq!(check(1000), Verdict::Stale, "far behind");
    }

    #[test]
    fn nonce_count_zero_is_refused() {
        let mut server = Server::new();
        let zero = answer(&server.challenge(), "alice", "secret", URI, 0);
        assert_eq!(server.check(&zero), Verdict::Refused);
    }

    #[test]
    fn a_nonce_without_qop_passes_once() {
        let mut server = Server::new();
        let legacy: Vec<String> = server.challenge().iter().map(|c| c.replace(r#", qop="auth""#, "")).collect();
        let authorization = answer(&legacy[1..], "alice", "secret", URI, 1);
        assert!(!authorization.contains("qop"), "{authorization}");
        assert_eq!(server.check(&authorization), passed());
        assert_eq!(server.check(&authorization), Verdict::Stale);
    }

    #[test]
    fn an_old_nonce_is_stale_for_the_right_password_only() {
        let mut server = Server::new();
        let challenges = server.challenge();
        server.pass_time(NONCE_LIFETIME_S);
        assert_eq!(server.check(&answer(&challenges, "alice", "secret", URI, 1)), passed());
        server.pass_time(1);
        assert_eq!(server.check(&answer(&challenges, "alice", "secret", URI, 2)), Verdict::Stale);
        assert_eq!(server.check(&answer(&challenges, "alice", "wrong", URI, 3)), Verdict::Refused);
        let challenges = server.challenge();
        assert_eq!(server.check(&answer(&challenges, "alice", "secret", URI, 1)), passed());
        assert_eq!(server.auth.used.len(), 1, "the expired nonce is forgotten");
    }

    #[test]
    fn a_nonce_of_another_process_or_a_forged_one_is_stale() {
        let mut server = Server::new();
        let foreign = challenge(&mut Authenticator::new(REALM, Rng::from_small_seed(6)), server.now, false);
        assert_eq!(server.check(&answer(&foreign, "alice", "secret", URI, 1)), Verdict::Stale);
        for nonce in ["", "00", "é0000000000000000000000000000000000000000000000000000000000000000"] {
            let forged = vec![format!(r#"Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5, qop="auth""#)];
            assert_eq!(server.check(&answer(&forged, "alice", "secret", URI, 1)), Verdict::Stale, "{nonce}");
        }
        assert!(server.auth.used.is_empty());
    }

    #[test]
    fn the_oldest_nonce_is_forgotten_at_the_maximum_and_cannot_be_replayed() {
        let mut server = Server::new();
        let first = server.challenge();
        assert_eq!(server.check(&answer(&first, "alice", "secret", URI, 1)), passed());
        server.now = server.now + Duration::from_millis(1);
        let fill = |auth: &mut Authenticator, now: Instant, n: usize| {
            for random in 0..n {
                let random = u64::try_from(random).unwrap();
                auth.used.insert(Nonce { issued_ms: now.unix_ms(), random }, Uses::default());
            }
        };
        fill(&mut server.auth, server.now, NONCES_MAX - 1);
        server.now = server.now + Duration::from_millis(1);
        assert_eq!(server.check(&answer(&first, "alice", "secret", URI, 2)), passed(), "remembered at the maximum");
        let last = server.challenge();
        assert_eq!(server.check(&answer(&last, "alice", "secret", URI, 1)), passed());
        assert_eq!(server.auth.used.len(), NONCES_MAX);
        assert_eq!(server.check(&answer(&first, "alice", "secret", URI, 1)), Verdict::Stale, "forgotten above it");
    }

    #[test]
    fn a_realm_with_quotes_stays_one_string() {
        let mut auth = Authenticator::new(r#"a"b\c"#, Rng::from_small_seed(1));
        assert!(challenge(&mut auth, Instant::default(), false)[0].starts_with(r#"Digest realm="a\"b\\c", "#));
    }
}
