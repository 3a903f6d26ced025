//! Whom a call rings once it is known where it goes: the steps of a ring group, what became of those who were called, and
//! what the caller is told when nobody came.

use std::sync::Arc;

use crate::{
    config::{Directory, Group, Strategy, User},
    types::{Duration, Instant},
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

/// The steps of a group in the order of its strategy. `last_call_end`: of a user's last call; `None` counts as longest ago.
/// Members that are no users are left out.
pub fn steps(group: &Group, directory: &Directory, last_call_end: impl Fn(&User) -> Option<Instant>) -> Vec<Step> {
    let ring = Some(Duration::from_secs(u64::from(group.ring_s)));
    let mut members: Vec<_> = group.members.iter().filter_map(|m| directory.by_dialled(m)).cloned().collect();
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
    use crate::{config::parse, types::Secret, wire::sip::digest::Credential};

    fn user(name: &str, extension: &str) -> User {
        User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: None,
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
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
