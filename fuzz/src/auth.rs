//! Digest authentication against someone who hears everything and knows no password.

use std::collections::BTreeSet;

use ringdown::{
    sip::auth::{Authenticator, Role, Verdict},
    types::{Duration, Instant, Rng},
    wire::sip::{
        Message, RequestBuilder,
        digest::{self, Algorithm, Credential, Response},
    },
};

use super::choices::Choices;

const REALM: &str = "example.com";
const URI: &str = "sip:example.com";
const STEPS_MAX: usize = 64;

struct World {
    authenticator: Authenticator,
    alice: Credential,
    now: Instant,
    challenges: Vec<String>,
    /// Headers that the right device sent.
    heard: Vec<String>,
    /// Nonce and count of what has passed.
    passed: BTreeSet<(String, Option<u32>)>,
}

/// Each step is a choice: a challenge, credentials of Alice's own device, a copy of them changed somewhere, any text at all,
/// or time. Nothing passes that Alice's device did not make, and nothing passes twice.
pub fn auth(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut world = World {
        authenticator: Authenticator::new(REALM, Rng::from_small_seed(7)),
        alice: Credential::derive("alice", REALM, "secret"),
        now: Instant::from_unix_ms(1_700_000_000_000),
        challenges: Vec::new(),
        heard: Vec::new(),
        passed: BTreeSet::new(),
    };
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
    }
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(7) {
            0 => {
                let algorithms = *choices.of(&[&[Algorithm::Sha256, Algorithm::Md5][..], &[Algorithm::Md5]]);
                let challenge = self.authenticator.challenge(self.now, choices.flag());
                self.challenges = challenge.values(algorithms).map(|value| value.to_string()).collect();
                if choices.flag() {
                    self.challenges.iter_mut().for_each(|line| *line = line.replace(r#", qop="auth""#, ""));
                }
            }
            1 | 2 => {
                let password = *choices.of(&["secret", "wrong"]);
                let Some(header) = self.answer("alice", password, choices) else { return };
                let verdict = self.check(&header);
                assert!(password == "secret" || !matches!(verdict, Verdict::Passed(_)), "a wrong password passes");
                self.heard.push(header);
            }
            3 => {
                let Some(header) = self.answer(&choices.text(), "secret", choices) else { return };
                self.check(&header);
            }
            4 => {
                let Some(header) = choices.one_of(self.heard.iter().cloned()) else { return };
                let at = header.floor_char_boundary(choices.below(256));
                let to = header.floor_char_boundary(at + choices.below(4)).max(at);
                self.check(&format!("{}{}{}", &header[..at], choices.text(), &header[to..]));
            }
            5 => {
                let verdict = self.check(&choices.text());
                assert!(!matches!(verdict, Verdict::Passed(_)), "any text passes");
            }
            _ => self.now = self.now + Duration::from_millis(choices.time_ms() * 8),
        }
    }

    fn answer(&self, user: &str, password: &str, choices: &mut Choices<'_>) -> Option<String> {
        let uri = *choices.of(&[URI, "sip:example.com:5060", "sip:other.example"]);
        let count = u32::from(choices.byte()) * u32::from(choices.byte());
        let lines = self.challenges.iter().map(String::as_str);
        digest::answer(lines, user, password, "REGISTER", uri, b"", "cnonce", count)
    }

    fn check(&mut self, header: &str) -> Verdict {
        let request = RequestBuilder::new("REGISTER", URI)
            .header("Via", "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1")
            .header("From", "<sip:alice@example.com>;tag=f")
            .header("To", "<sip:alice@example.com>")
            .header("Call-ID", "one")
            .header("CSeq", "1 REGISTER")
            .header("Authorization", header);
        let request = Message::parse(request.finish()).expect("a request of the target");
        let claimed = self.authenticator.claimed_user(Role::Registrar, &request);
        let alice = &self.alice;
        let lookup = |user: &str| (user == "alice").then_some(alice);
        assert_eq!(self.authenticator.check(self.now, Role::Proxy, &request, lookup), Verdict::Missing);
        let verdict = self.authenticator.check(self.now, Role::Registrar, &request, lookup);
        if let Verdict::Passed(user) = &verdict {
            assert_eq!((user.as_str(), claimed.as_deref()), ("alice", Some("alice")));
            let response = Response::parse(header).expect("what passes can be read");
            let count = response.qop.and(response.nc);
            assert!(self.passed.insert((response.nonce.to_owned(), count)), "a nonce passes twice with one count");
        }
        verdict
    }
}
