//! How a call that is for people finds one: step after step, until somebody answers or nobody is left.
//!
//! The steps are `policy::reach`'s. The call executes them: it says here what became of each branch, and asks for the next
//! step when nothing rings any more. Who is registered and who talks, only the core knows, so the call leaves a
//! [`Request`], and the core serves it before it puts the call back.

use std::{collections::VecDeque, sync::Arc};

use super::{
    admission::allowed_breadth,
    call::{Call, State},
    context::{Context, Side},
    diversion::{self, Party, Stop},
    fork::{Attempt, Branch, Failure, Plan, Progress, redirection},
    received_history::ReceivedHistory,
};
use crate::{
    config::{Group, User},
    policy::reach::{self, Cause, Forward, Outcome, Step},
    types::{Instant, limits::BREADTH_MAX},
    wire::sip::Message,
};

/// What the core is asked to do for a call.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Ring the contacts of these users.
    Ring(Step),
    /// Send the call where its user wants it.
    Forward(Forward),
    /// Ring the desks that are told of emergency calls.
    Alert,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Hunt {
    steps: VecDeque<Step>,
    /// Who rings now.
    users: Vec<Arc<User>>,
    /// The best that became of them.
    outcomes: Vec<(String, Outcome)>,
    group: Option<GroupCall>,
    /// Where the call has been, the last one being where it is.
    stops: Vec<Stop>,
    /// How often it was forwarded before it came here.
    earlier_hops: usize,
    /// Which way it came before, as the trunk that brought it says.
    pub earlier: ReceivedHistory,
    /// How many branches it may have at a time; `None`: as many as any.
    breadth: Option<usize>,
    /// Emergency services call back: nothing may keep the call from the telephones (emergency RULES 9).
    pub is_callback: bool,
    /// When the desks ring too, unless somebody has answered the answering point.
    pub alert_at: Option<Instant>,
    /// When those who ring have rung long enough.
    pub deadline: Option<Instant>,
    request: Option<Request>,
    /// The one device that is meant (RFC 5627), by its `+sip.instance`.
    pub device: Option<String>,
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
        let stops = vec![Stop::user(&user)];
        Self { steps: VecDeque::from([Step { users: vec![user], ring: None }]), stops, ..Self::default() }
    }

    pub(super) fn for_group(group: &Group, steps: Vec<Step>) -> Self {
        let stops = vec![Stop::group(group)];
        let group = Some(GroupCall { name: group.name.clone(), outcomes: Vec::new() });
        Self { steps: steps.into(), group, stops, ..Self::default() }
    }

    /// A PBX is called by this number of its own.
    pub(super) fn by_number(mut self, number: Option<&str>) -> Self {
        if let (Some(stop), Some(number)) = (self.stops.last_mut(), number) {
            stop.line = Some(number.to_owned());
        }
        self
    }

    /// The outside number of whoever is called now.
    pub(super) fn line(&self) -> Option<&str> {
        self.stops.last()?.line.as_deref()
    }

    /// Trunks are tried for this number, and nobody is looked for.
    pub(super) fn for_number(number: &str) -> Self {
        Self { stops: vec![Stop::number(number)], ..Self::default() }
    }

    /// Reads what the caller's INVITE says of the way behind it and ahead of it.
    pub(super) fn comes_from(&mut self, invite: &Message) {
        self.earlier_hops = diversion::count(invite);
        self.breadth = Some(allowed_breadth(invite));
    }

    pub(super) fn breadth(&self) -> usize {
        self.breadth.filter(|_| !self.is_callback).unwrap_or(BREADTH_MAX)
    }

    /// The one user who is called first.
    pub(super) fn first_user(&self) -> Option<&str> {
        match self.steps.front()?.users.as_slice() {
            [user] => Some(&user.name),
            _ => None,
        }
    }

    /// The ring group that was called.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_ref().map(|group| group.name.as_str())
    }

    /// Nobody rings any more. `false`: nobody is left either.
    pub(super) fn go_on(&mut self) -> bool {
        if self.request.is_none() {
            self.deadline = None;
            let forward = self.close_step().map(Request::Forward);
            let step = forward.or_else(|| self.steps.pop_front().map(Request::Ring));
            self.request = step.or_else(|| self.alert_at.take().map(|_| Request::Alert));
        }
        self.request.is_some()
    }

    /// Returns where the user wants the call now. A call to a group follows the forwarding of no member.
    fn close_step(&mut self) -> Option<Forward> {
        let outcomes = std::mem::take(&mut self.outcomes);
        for user in std::mem::take(&mut self.users) {
            let outcome = outcomes.iter().find(|(name, _)| *name == user.name).map(|(_, outcome)| *outcome);
            let outcome = outcome.unwrap_or(Outcome::Unreachable);
            match &mut self.group {
                Some(group) => group.outcomes.push(outcome),
                None if self.is_callback => {}
                None => return reach::after(&user, outcome),
            }
        }
        None
    }

    /// Who is to be called is settled otherwise.
    pub(super) fn forget_steps(&mut self) {
        self.steps.clear();
        self.group = None;
    }

    /// The desks ring now, beside whoever rings already, if it is time.
    pub(super) fn alert_if_due(&mut self, now: Instant) {
        if self.alert_at.is_some_and(|at| at <= now) {
            self.alert_at = None;
            self.request = Some(Request::Alert);
        }
    }

    /// Whether users and groups may send this call elsewhere, or be passed over.
    pub(super) const fn obeys_wishes(&self) -> bool {
        !self.is_callback
    }

    /// The user does not even want it to ring.
    pub(super) fn ask_forward(&mut self, forward: Forward) {
        self.request = Some(Request::Forward(forward));
    }

    /// A device of this user asks for the call to be sent elsewhere. `false`: its user is not the one called.
    pub(super) fn deflect(&mut self, user: &str, target: String) -> bool {
        let is_called = self.group.is_none() && !self.is_callback && self.users.first().is_some_and(|u| u.name == user);
        if is_called {
            self.users.clear();
            self.outcomes.clear();
            self.ask_forward(Forward { target, cause: Cause::Deflection });
        }
        is_called
    }

    pub(super) fn stops(&self) -> &[Stop] {
        &self.stops
    }

    /// The call is not where its caller sent it.
    pub(super) const fn is_forwarded(&self) -> bool {
        self.stops.len() > 1
    }

    /// How often the call was forwarded, here and before.
    pub(super) fn hops(&self) -> usize {
        self.earlier_hops.saturating_add(self.stops.len().saturating_sub(1))
    }

    pub(super) fn has_been_at(&self, party: &Party) -> bool {
        self.stops.iter().any(|stop| stop.party == *party)
    }

    /// The way of `earlier`, which ends because of `cause`, leads here.
    pub(super) fn continues(&mut self, earlier: Self, cause: Cause) {
        let mut stops = earlier.stops;
        if let Some(last) = stops.last_mut() {
            last.cause = Some(cause);
        }
        stops.append(&mut self.stops);
        self.stops = stops;
        self.earlier_hops = earlier.earlier_hops;
        self.earlier = earlier.earlier;
        self.breadth = earlier.breadth;
    }

    /// The last of the stops: whose call it has become.
    pub(super) fn party(&self) -> Option<&Party> {
        self.stops.last().map(|stop| &stop.party)
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
        self.alert_at = None;
    }
}

impl Call {
    /// The contacts of the users whose turn it is, as the core found them.
    pub(super) fn ring(&mut self, ctx: &mut Context, attempts: Vec<Attempt>) {
        self.plan.try_at_once(attempts);
        self.next_wave(ctx);
    }

    /// The call goes on to whom its user wants it to go; what became of it before does not matter any more.
    pub(super) fn follow(&mut self, ctx: &mut Context, cause: Cause, line: Option<String>, mut plan: Plan) {
        plan.hunt.continues(std::mem::take(&mut self.plan).hunt, cause);
        self.plan = plan;
        self.failure = None;
        // A caller without a number of ours goes out under that of the user on whose behalf the call goes out.
        self.caller.direct_line = self.caller.direct_line.take().or(line);
        // Not to whom: that is the business of those who are called.
        self.tell_ringing(ctx, 181, None);
        self.next_wave(ctx);
    }

    /// Whoever was to be called next cannot be.
    pub(super) fn cannot_go_on(&mut self, ctx: &mut Context, failure: Failure) {
        self.note_failure(failure);
        self.next_wave(ctx);
    }

    /// A device sends the call elsewhere (RFC 3261 section 21.3): its user has decided, so the other devices stop ringing.
    /// `false`: nothing to follow.
    pub(super) fn deflect(&mut self, ctx: &mut Context, number: u32, response: &Message) -> bool {
        let Some(branch) = self.branches.get(&number).filter(|b| b.is_open()) else { return false };
        let (Some(user), Some(target)) = (branch.user(), redirection(response)) else { return false };
        if self.state != State::Setup || !self.plan.hunt.deflect(user, target) {
            return false;
        }
        self.retire_branch(ctx, number);
        self.cancel_branches(ctx, None);
        true
    }

    /// Those whose turn it is have rung long enough.
    pub(super) fn stop_ringing(&mut self, ctx: &mut Context) {
        self.plan.hunt.deadline = None;
        let is_open = |b: &Branch| matches!(b.progress, Progress::Calling | Progress::Ringing);
        let open: Vec<u32> = self.branches.iter().filter(|(_, b)| is_open(b)).map(|(number, _)| *number).collect();
        for number in open {
            let branch = &self.branches[&number];
            if let Some(user) = branch.user() {
                self.plan.hunt.note(user, Outcome::of(408, branch.progress == Progress::Ringing));
            }
            self.stop_waiting(ctx, number);
            self.note_failure(Failure::new(480, "No Answer"));
        }
    }

    /// Whether this side of the call is in a conversation.
    pub(super) fn is_talking(&self, side: Side) -> bool {
        match (self.state, side) {
            (State::Answered(_), Side::A) => true,
            (State::Answered(winner), Side::B(number)) => winner == number,
            (State::Setup | State::Ended, _) => false,
        }
    }

    /// Users who were in the conversation, once it has been one.
    pub(super) fn talkers(&self) -> impl Iterator<Item = &str> {
        let winner = self.winner.and_then(|number| self.branches.get(&number));
        let a = winner.map(|_| &self.a);
        a.into_iter().chain(winner.map(|b| &b.leg)).filter_map(|leg| leg.device.as_ref()).map(|d| d.user.as_str())
    }
}
