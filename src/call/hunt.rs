//! How a call that is for people finds one: step after step, until somebody answers or nobody is left.
//!
//! The steps are `policy::reach`'s. The call executes them: it says here what became of each branch, and asks for the next
//! step when nothing rings any more. Who is registered and who talks, only the core knows, so the call leaves a
//! [`Request`], and the core serves it before it puts the call back.

use std::{collections::VecDeque, sync::Arc};

use super::fork::Failure;
use crate::{
    config::User,
    policy::reach::{self, Outcome, Step},
    types::Instant,
};

/// What the core is asked to do for a call.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Ring the contacts of these users.
    Ring(Step),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Hunt {
    steps: VecDeque<Step>,
    /// Who rings now.
    users: Vec<Arc<User>>,
    /// The best that became of them.
    outcomes: Vec<(String, Outcome)>,
    group: Option<GroupCall>,
    /// When those who ring have rung long enough.
    pub deadline: Option<Instant>,
    request: Option<Request>,
}

/// A call to a ring group.
#[derive(Clone, Debug)]
struct GroupCall {
    name: String,
    /// Of members of the steps before.
    outcomes: Vec<Outcome>,
}

impl Hunt {
    pub(super) fn for_user(user: Arc<User>) -> Self {
        Self { steps: VecDeque::from([Step { users: vec![user], ring: None }]), ..Self::default() }
    }

    pub(super) fn for_group(name: &str, steps: Vec<Step>) -> Self {
        let group = Some(GroupCall { name: name.to_owned(), outcomes: Vec::new() });
        Self { steps: steps.into(), group, ..Self::default() }
    }

    /// The ring group that was called.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_ref().map(|group| group.name.as_str())
    }

    /// Nobody rings any more. `false`: nobody is left either.
    pub(super) fn go_on(&mut self) -> bool {
        if self.request.is_none() {
            self.deadline = None;
            self.close_step();
            self.request = self.steps.pop_front().map(Request::Ring);
        }
        self.request.is_some()
    }

    fn close_step(&mut self) {
        let outcomes = std::mem::take(&mut self.outcomes);
        for user in std::mem::take(&mut self.users) {
            let outcome = outcomes.iter().find(|(name, _)| *name == user.name).map(|(_, outcome)| *outcome);
            if let Some(group) = &mut self.group {
                group.outcomes.push(outcome.unwrap_or(Outcome::Unreachable));
            }
        }
    }

    pub(super) fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    /// These users are called now, until the deadline.
    pub(super) fn begin(&mut self, users: Vec<Arc<User>>, deadline: Option<Instant>) {
        self.users = users;
        self.deadline = deadline;
    }

    /// What became of one branch, or of a user who got none.
    pub(super) fn note(&mut self, user: &str, outcome: Outcome) {
        match self.outcomes.iter_mut().find(|(name, _)| name == user) {
            Some((_, known)) => *known = outcome.max(*known),
            None => self.outcomes.push((user.to_owned(), outcome)),
        }
    }

    /// What the caller of a group is told; a user's devices speak for themselves.
    pub(super) fn verdict(&self) -> Option<Failure> {
        let group = self.group.as_ref()?;
        let (status, reason) = reach::group_answer(&group.outcomes);
        Some(Failure::new(status, reason))
    }

    /// Nobody is looked for any more.
    pub(super) fn give_up(&mut self) {
        self.steps.clear();
        self.request = None;
        self.deadline = None;
    }
}
