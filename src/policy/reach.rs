//! Whom a call rings once it is known where it goes: the steps of a ring group, what became of those who were called, where
//! a user wants the call instead, and what the caller is told when nobody came.

use std::sync::Arc;

use super::{
    emergency::{Dialled, Site, classify},
    routing::{self, Target},
};
use crate::{
    config::{Config, Directory, Group, Strategy, User, directory::NO_ANSWER_S_DEFAULT},
    types::{Duration, Instant, limits::FORWARD_TARGET_CHARS_MAX},
};

/// Who rings at once, and for how long before the next step.
#[derive(Clone, Debug)]
pub struct Step {
    pub users: Vec<Arc<User>>,
    /// `None`: as long as the caller waits.
    pub ring: Option<Duration>,
}

/// What became of a call to a user. The order is that of several devices of one user: what a person did counts more than
/// what a device did, and that more than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// No device is registered, or none could be rung.
    Unreachable,
    /// A device rang.
    NoAnswer,
    /// In a call, or the person declined.
    Busy,
}

impl Outcome {
    /// What a device's final response says of its user. Many phones decline with 603, some with 600.
    pub const fn of(status: u16, has_rung: bool) -> Self {
        match status {
            486 | 600 | 603 => Self::Busy,
            _ if has_rung => Self::NoAnswer,
            _ => Self::Unreachable,
        }
    }
}

/// Why a call goes elsewhere than to the devices of the user it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Unconditional,
    Busy,
    NoAnswer,
    Unreachable,
    DoNotDisturb,
    /// A device answered 302.
    Deflection,
}

impl Cause {
    /// Token of Diversion (RFC 5806 section 4).
    pub const fn diversion_reason(self) -> &'static str {
        match self {
            Self::Unconditional => "unconditional",
            Self::Busy => "user-busy",
            Self::NoAnswer => "no-answer",
            Self::Unreachable => "unavailable",
            Self::DoNotDisturb => "do-not-disturb",
            Self::Deflection => "deflection",
        }
    }

    /// `cause` parameter of the new target in History-Info (RFC 4458 section 2, RFC 7544 section 7).
    pub const fn code(self) -> u16 {
        match self {
            Self::Unconditional => 302,
            Self::Busy => 486,
            Self::NoAnswer => 408,
            Self::Unreachable => 503,
            Self::DoNotDisturb => 404,
            Self::Deflection => 480,
        }
    }
}

/// Send the call there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// As dialled, or a URI.
    pub target: String,
    pub cause: Cause,
}

impl Forward {
    fn to(target: Option<&String>, cause: Cause) -> Option<Self> {
        target.map(|target| Self { target: target.clone(), cause })
    }
}

/// What happens to a call that reaches a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The devices ring, for so long if somebody is to be called afterwards.
    Ring(Option<Duration>),
    Forward(Forward),
    /// Status and reason phrase.
    Refuse(u16, &'static str),
}

/// Before any device rings. A user who does not want to be disturbed is as good as busy, but the answer does not say that
/// somebody talks.
pub fn arrival(user: &User) -> Arrival {
    let forwarding = &user.forwarding;
    if let Some(forward) = Forward::to(forwarding.always.as_ref(), Cause::Unconditional) {
        return Arrival::Forward(forward);
    }
    if forwarding.is_do_not_disturb {
        let forward = Forward::to(forwarding.busy.as_ref(), Cause::DoNotDisturb);
        return forward.map_or(Arrival::Refuse(480, "Do Not Disturb"), Arrival::Forward);
    }
    let after = forwarding.no_answer_after_s.unwrap_or(NO_ANSWER_S_DEFAULT);
    Arrival::Ring(forwarding.no_answer.is_some().then(|| Duration::from_secs(u64::from(after))))
}

/// After every device has failed. Who is not reachable has not answered either, so that one forward is enough for both.
pub fn after(user: &User, outcome: Outcome) -> Option<Forward> {
    let forwarding = &user.forwarding;
    match outcome {
        Outcome::Busy => Forward::to(forwarding.busy.as_ref(), Cause::Busy),
        Outcome::NoAnswer => Forward::to(forwarding.no_answer.as_ref(), Cause::NoAnswer),
        Outcome::Unreachable => Forward::to(forwarding.unreachable.as_ref(), Cause::Unreachable)
            .or_else(|| Forward::to(forwarding.no_answer.as_ref(), Cause::NoAnswer)),
    }
}

/// Whether a user takes calls of a ring group: not with do-not-disturb or when every call goes elsewhere.
pub const fn takes_group_calls(user: &User) -> bool {
    !user.forwarding.is_do_not_disturb && user.forwarding.always.is_none()
}

/// Where a forwarding target leads, with the permissions of a user. `None`: an emergency or test number, which nothing is
/// ever forwarded to (emergency RULES 9).
pub fn target(target: &str, config: &Config, directory: &Directory, site: &Site) -> Option<Target> {
    let text = config.dialing.voicemail.as_deref().filter(|_| target == "voicemail").unwrap_or(target);
    match classify(text, site) {
        Dialled::Ordinary(dialled) => Some(routing::route(&dialled, false, config, directory)),
        Dialled::Emergency(_) | Dialled::Test(_) => None,
    }
}

/// Whether a user's calls can be forwarded to `text`; the error says why not.
pub fn check_target(text: &str, user: &User, config: &Config, directory: &Directory) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "+._-*#".contains(c);
    if !(1..=FORWARD_TARGET_CHARS_MAX).contains(&text.len()) || !text.chars().all(is_plain) {
        return Err(format!("{text:?} is no extension, name or number"));
    }
    match target(text, config, directory, &Site::new(config, &[])) {
        None => Err(format!("{text:?} is an emergency or test number, and nothing is ever forwarded to one")),
        Some(Target::Refuse(_, reason)) => Err(format!("{text:?} reaches nobody: {reason}")),
        Some(Target::User(other)) if other.name == user.name => Err(format!("{text:?} is the same user")),
        Some(Target::User(_) | Target::Group(_) | Target::Outside(_) | Target::Onward { .. }) => Ok(()),
    }
}

/// The users of a group, in the order of the file. Members that are no users are left out.
pub fn members<'d>(group: &Group, directory: &'d Directory) -> impl Iterator<Item = &'d Arc<User>> {
    group.members.iter().filter_map(|member| directory.by_dialled(member))
}

/// The steps of a group in the order of its strategy. `last_call_end`: of a user's last call; `None` counts as longest ago.
/// Members that are no users are left out.
pub fn steps(group: &Group, directory: &Directory, last_call_end: impl Fn(&User) -> Option<Instant>) -> Vec<Step> {
    let ring = Some(Duration::from_secs(u64::from(group.ring_s)));
    let mut members: Vec<_> = members(group, directory).cloned().collect();
    match group.strategy {
        Strategy::All => return vec![Step { users: members, ring }],
        Strategy::InOrder => {}
        // Stable: members who are equally idle stay in the order of the file.
        Strategy::LongestIdle => members.sort_by_key(|user| last_call_end(user)),
    }
    members.into_iter().map(|user| Step { users: vec![user], ring }).collect()
}

/// What the caller of a group hears when nobody answered, by what became of each member.
pub fn group_answer(outcomes: &[Outcome]) -> (u16, &'static str) {
    if !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome == Outcome::Busy) {
        (486, "All Members Busy")
    } else {
        (480, "No Member Answers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, parse},
        types::Secret,
        wire::sip::digest::Credential,
    };

    fn user_with(forwarding: Forwarding) -> User {
        User { forwarding, ..user("alice", "1001") }
    }

    fn to(target: &str) -> Option<String> {
        Some(target.to_owned())
    }

    #[test]
    fn an_arriving_call_rings_unless_the_user_wants_otherwise() {
        let of = |forwarding| arrival(&user_with(forwarding));
        let nothing = Forwarding::default;
        let forward = |target: &str, cause| Arrival::Forward(Forward { target: target.to_owned(), cause });
        assert_eq!(of(nothing()), Arrival::Ring(None));
        let no_answer = || Forwarding { no_answer: to("1002"), ..nothing() };
        assert_eq!(of(no_answer()), Arrival::Ring(Some(Duration::from_secs(20))));
        let soon = Forwarding { no_answer_after_s: Some(5), ..no_answer() };
        assert_eq!(of(soon), Arrival::Ring(Some(Duration::from_secs(5))));
        let quiet = || Forwarding { is_do_not_disturb: true, ..nothing() };
        assert_eq!(of(quiet()), Arrival::Refuse(480, "Do Not Disturb"));
        assert_eq!(of(Forwarding { busy: to("1002"), ..quiet() }), forward("1002", Cause::DoNotDisturb));
        assert_eq!(of(Forwarding { no_answer: to("1002"), ..quiet() }), Arrival::Refuse(480, "Do Not Disturb"));
        assert_eq!(
            of(Forwarding { always: to("1003"), busy: to("1002"), ..quiet() }),
            forward("1003", Cause::Unconditional)
        );
    }

    #[test]
    fn each_outcome_has_its_forward_and_no_answer_stands_in_for_unreachable() {
        let all = Forwarding { busy: to("b"), no_answer: to("n"), unreachable: to("u"), ..Forwarding::default() };
        let one = Forwarding { no_answer: to("n"), ..Forwarding::default() };
        let none = Forwarding::default();
        for (forwarding, outcome, expected) in [
            (&all, Outcome::Busy, Some(("b", Cause::Busy))),
            (&all, Outcome::NoAnswer, Some(("n", Cause::NoAnswer))),
            (&all, Outcome::Unreachable, Some(("u", Cause::Unreachable))),
            (&one, Outcome::Busy, None),
            (&one, Outcome::Unreachable, Some(("n", Cause::NoAnswer))),
            (&none, Outcome::Busy, None),
            (&none, Outcome::NoAnswer, None),
            (&none, Outcome::Unreachable, None),
        ] {
            let expected = expected.map(|(target, cause)| Forward { target: target.to_owned(), cause });
            assert_eq!(after(&user_with(forwarding.clone()), outcome), expected, "{outcome:?}");
        }
    }

    #[test]
    fn a_target_is_what_the_user_could_dial_and_never_an_emergency_number() {
        let text = "[company]\nname = \"x\"\nregion = \"US\"\n[dialing]\noutside_prefixes = [\"9\"]\nvoicemail = \"1002\"\n\
                    [group.g]\nextension = \"600\"\nmembers = [\"bob\"]\n";
        let config = parse(text).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let directory = Directory::new([user("alice", "1001"), user("bob", "1002")]);
        let check = |text: &str| check_target(text, &user("alice", "1001"), &config, &directory);
        for good in ["1002", "bob", "600", "voicemail"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (wrong, cause) in [
            ("911", "emergency"),
            ("9911", "emergency"),
            ("*67911", "emergency"),
            ("933", "test number"),
            ("1001", "the same user"),
            ("alice", "the same user"),
            ("1009", "No Such Extension"),
            ("92025550177", "No Trunk For Outside Numbers"),
            ("", "no extension"),
            ("sip:1002@elsewhere.example", "no extension"),
            ("10 02", "no extension"),
        ] {
            let error = check(wrong).unwrap_err();
            assert!(error.contains(cause), "{wrong}: {error}");
        }
        let long = |n: usize| "1".repeat(n);
        assert!(!check(&long(FORWARD_TARGET_CHARS_MAX)).unwrap_err().contains("no extension"));
        assert!(check(&long(FORWARD_TARGET_CHARS_MAX + 1)).unwrap_err().contains("no extension"));
    }

    fn user(name: &str, extension: &str) -> User {
        User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: None,
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        }
    }

    /// Names of each step, for a group of `carol`, `alice`, `1002` (bob) and somebody unknown.
    fn steps_of(strategy: &str, last_call_end_s: &[(&str, u64)]) -> Vec<String> {
        let text = format!(
            "[company]\nname = \"x\"\nregion = \"US\"\n[group.g]\nextension = \"600\"\n\
             members = [\"carol\", \"alice\", \"eve\", \"1002\"]\nstrategy = \"{strategy}\"\nring_s = 7\n"
        );
        let config = parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let directory = Directory::new([user("alice", "1001"), user("bob", "1002"), user("carol", "1003")]);
        let end = |user: &User| {
            let found = last_call_end_s.iter().find(|(name, _)| *name == user.name);
            found.map(|(_, s)| Instant::from_unix_ms(s * 1000))
        };
        let steps = steps(&config.groups[0], &directory, end);
        assert!(steps.iter().all(|step| step.ring == Some(Duration::from_secs(7))));
        let names = |step: &Step| step.users.iter().map(|u| u.name.as_str()).collect::<Vec<_>>().join("+");
        steps.iter().map(names).collect()
    }

    #[test]
    fn a_strategy_is_an_order_of_steps() {
        assert_eq!(steps_of("all", &[]), ["carol+alice+bob"]);
        assert_eq!(steps_of("in_order", &[("carol", 9)]), ["carol", "alice", "bob"]);
        assert_eq!(steps_of("longest_idle", &[]), ["carol", "alice", "bob"]);
        assert_eq!(steps_of("longest_idle", &[("carol", 9), ("alice", 5)]), ["bob", "alice", "carol"]);
        assert_eq!(steps_of("longest_idle", &[("carol", 5), ("alice", 5), ("bob", 1)]), ["bob", "carol", "alice"]);
    }

    #[test]
    fn a_groups_answer_is_busy_only_if_everyone_is() {
        use Outcome::{Busy, NoAnswer, Unreachable};
        for (outcomes, status) in [
            (&[Busy, Busy][..], 486),
            (&[Busy], 486),
            (&[Busy, NoAnswer], 480),
            (&[Unreachable, Busy], 480),
            (&[NoAnswer], 480),
            (&[], 480),
        ] {
            assert_eq!(group_answer(outcomes).0, status, "{outcomes:?}");
        }
    }

    #[test]
    fn an_outcome_is_what_the_person_did_if_a_person_did_anything() {
        use Outcome::{Busy, NoAnswer, Unreachable};
        for (status, has_rung, outcome) in [
            (486, false, Busy),
            (486, true, Busy),
            (600, true, Busy),
            (603, true, Busy),
            (480, true, NoAnswer),
            (480, false, Unreachable),
            (408, true, NoAnswer),
            (408, false, Unreachable),
            (503, false, Unreachable),
            (404, false, Unreachable),
        ] {
            assert_eq!(Outcome::of(status, has_rung), outcome, "{status} {has_rung}");
        }
        assert!(Busy > NoAnswer && NoAnswer > Unreachable);
    }
}
