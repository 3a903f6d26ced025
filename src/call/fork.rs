//! Where a call tries to go, and which of several failures the caller hears.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{context::Context, early_dialogs::BeforeUpdate, hunt::Hunt, leg::Leg, provisional::Received};
use crate::{
    policy::number::Destination,
    sip::{challenge::Authorization, registrar::Binding},
    types::{Instant, TxnId},
    wire::sip::{Message, Method, Name, NameAddr},
};

/// One place to send an INVITE to.
#[derive(Clone, Debug)]
pub(super) enum Attempt {
    /// A registered contact of this user.
    Contact { binding: Arc<Binding> },
    /// A trunk by index, with the number in the form its Request-URI carries it.
    Trunk { index: usize, number: String, is_plain: bool },
    /// An emergency or test call by a trunk, with the location unless the trunk refused it (house emergency
    /// specification 5.3).
    Emergency { trunk: usize, has_location: bool, is_plain: bool },
}

impl Attempt {
    pub(super) const fn contact(binding: Arc<Binding>) -> Self {
        Self::Contact { binding }
    }

    pub(super) const fn to_number(index: usize, number: String) -> Self {
        Self::Trunk { index, number, is_plain: false }
    }

    pub(super) const fn emergency(trunk: usize) -> Self {
        Self::Emergency { trunk, has_location: true, is_plain: false }
    }

    /// The trunk has refused SRTP, and is offered none where it need not have it.
    pub(super) const fn is_plain(&self) -> bool {
        match self {
            Self::Contact { .. } => false,
            Self::Trunk { is_plain, .. } | Self::Emergency { is_plain, .. } => *is_plain,
        }
    }

    pub(super) fn without_srtp(mut self) -> Self {
        match &mut self {
            Self::Contact { .. } => {}
            Self::Trunk { is_plain, .. } | Self::Emergency { is_plain, .. } => *is_plain = true,
        }
        self
    }

    /// The user whose device is called.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Self::Contact { binding } => Some(&binding.aor),
            Self::Trunk { .. } | Self::Emergency { .. } => None,
        }
    }

    /// Whom the record names when this attempt is answered. An emergency call's callee is as dialled.
    pub(super) fn party(&self) -> Option<&str> {
        match self {
            // A telephone that nobody knew when it called for help has no user.
            Self::Contact { binding } => Some(binding.aor.as_str()).filter(|user| !user.is_empty()),
            Self::Trunk { number, .. } => Some(number),
            Self::Emergency { .. } => None,
        }
    }

    pub(super) const fn trunk(&self) -> Option<usize> {
        match self {
            Self::Contact { .. } => None,
            Self::Trunk { index, .. } => Some(*index),
            Self::Emergency { trunk, .. } => Some(*trunk),
        }
    }
}

/// Waves of attempts: all of one wave at once, the next when every one of it has failed. When no wave is left, the hunt
/// says whether there is more to try.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    waves: VecDeque<Vec<Attempt>>,
    pub hunt: Hunt,
    /// What each branch of the last wave may make of the call (RFC 5393 section 5.3.3).
    pub branch_breadth: usize,
    /// It leads outside.
    pub outside: Option<Outside>,
}

/// Whose limits a leg outside counts against.
#[derive(Clone, Debug)]
pub(super) struct Outside {
    /// Who called, forwarded or transferred there; `None`: it is a number of ours behind a trunk.
    pub user: Option<String>,
    /// In its canonical form.
    pub number: String,
    pub destination: Destination,
    /// The one that has it, or was tried last; `None`: nothing has left yet.
    pub trunk: Option<usize>,
}

impl Plan {
    /// People are looked for.
    pub(super) fn hunt(hunt: Hunt) -> Self {
        Self { hunt, ..Self::default() }
    }

    /// One after the other.
    pub(super) fn serial(attempts: impl IntoIterator<Item = Attempt>) -> Self {
        Self { waves: attempts.into_iter().map(|a| vec![a]).collect(), ..Self::default() }
    }

    /// The trunks to an outside number.
    pub(super) fn number(number: &str, attempts: impl IntoIterator<Item = Attempt>) -> Self {
        Self { hunt: Hunt::for_number(number), ..Self::serial(attempts) }
    }

    /// Every attempt at once; the first 200 wins.
    pub(super) fn try_at_once(&mut self, attempts: Vec<Attempt>) {
        self.waves.push_back(attempts);
    }

    pub(super) fn next_wave(&mut self) -> Option<Vec<Attempt>> {
        let mut wave = self.waves.pop_front()?;
        // Who may not ring at the same time rings afterwards (RFC 5393 section 5.3.3).
        let rest = wave.split_off(self.hunt.breadth().min(wave.len()));
        if !rest.is_empty() {
            self.waves.push_front(rest);
        }
        self.branch_breadth = self.hunt.breadth() / wave.len().max(1);
        Some(wave)
    }

    /// Tries these waves before anything else.
    pub(super) fn devices_first(mut self, waves: Vec<Vec<Attempt>>) -> Self {
        waves.into_iter().rev().for_each(|wave| self.waves.push_front(wave));
        self
    }

    /// Tries these, all at once, before anything else that is left.
    pub(super) fn try_next(&mut self, attempts: Vec<Attempt>) {
        self.waves.push_front(attempts);
    }

    /// Tries this before anything else that is left.
    pub(super) fn retry(&mut self, attempt: Attempt) {
        self.waves.push_front(vec![attempt]);
    }

    /// Tries this after everything else.
    pub(super) fn later(&mut self, attempt: Attempt) {
        self.waves.push_back(vec![attempt]);
    }

    /// Nothing is left that was planned; a hunt may find more.
    pub(super) fn is_empty(&self) -> bool {
        self.waves.is_empty()
    }

    pub(super) fn give_up(&mut self) {
        self.waves.clear();
        self.hunt.give_up();
    }
}

/// How far a branch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing but perhaps a 100.
    Calling,
    /// 101 to 199.
    Ringing,
    /// CANCEL is under way because the next attempt has begun; a 200 that crosses it is still welcome (house emergency
    /// specification 5.3).
    GivenUp,
    /// CANCEL is under way; a 200 that crosses it is ended with BYE.
    Cancelled,
    /// Its final answer came.
    Over,
}

/// One INVITE of ours on its way.
#[derive(Debug)]
pub(super) struct Branch {
    pub leg: Leg,
    /// `None`: the leg was set up in another call, and a transfer brought it here.
    pub attempt: Option<Attempt>,
    pub txn: TxnId,
    /// As sent, to build the dialog from.
    pub invite: Option<Box<Message>>,
    pub progress: Progress,
    pub sent_at: Instant,
    /// When this attempt is given up in favour of the next.
    pub deadline: Option<Instant>,
    /// Its answer came in a provisional response already.
    pub is_negotiated: bool,
    pub received: Received,
    /// Early dialogs in which offer and answer are settled, a reliable response having had its part: To tag, and the answer
    /// if it was the callee's.
    pub settled: Vec<(String, Bytes)>,
    /// What held in all of them before an offer in the first one changed that one.
    pub before_update: Option<Box<BeforeUpdate>>,
    /// The dialog that answered has not seen what the caller has changed since.
    pub is_behind: bool,
    /// The reliable response with its offer, whose PRACK waits for the caller's answer.
    pub offered: Option<Box<Message>>,
    /// The last reliable response and what its PRACK carried, in case it must be sent again.
    pub prack: Option<Box<(Message, Option<String>)>>,
}

impl Branch {
    /// Whether our INVITE had an offer, so that the callee answers; otherwise it offers, and we answer.
    pub(super) fn has_offered(&self) -> bool {
        self.invite.as_ref().is_some_and(|invite| invite.sdp().is_some())
    }

    /// What was settled in this response's dialog, for good: a session description in it says nothing new.
    pub(super) fn settled_in(&self, response: &Message) -> Option<&Bytes> {
        self.settled.iter().find(|(tag, _)| Some(tag.as_str()) == response.to_tag()).map(|(_, answer)| answer)
    }

    /// The same for the early dialog with this To tag.
    pub(super) fn is_settled_with(&self, remote_tag: &str) -> bool {
        self.settled.iter().any(|(tag, _)| tag == remote_tag)
    }

    /// An offer follows in the early dialog of this branch: from now on its leg knows what holds there, not the answer in
    /// that reliable response.
    pub(super) fn outdate_settled(&mut self) {
        let tag = self.leg.dialog.as_ref().map(|dialog| dialog.id.remote_tag.as_str());
        for (_, answer) in self.settled.iter_mut().filter(|(settled, _)| Some(settled.as_str()) == tag) {
            answer.clear();
        }
    }

    pub(super) fn settle_in(&mut self, response: &Message, answer: Bytes) {
        self.settled.extend(response.to_tag().map(|tag| (tag.to_owned(), answer)));
    }
}

impl Branch {
    /// Our answer to the trunk's last challenge, for this branch's INVITE.
    pub(super) fn authorization(&mut self, ctx: &mut Context) -> Option<Authorization> {
        let invite = self.invite.as_ref()?;
        self.leg.authorization(ctx, Method::Invite, invite.request_uri(), &invite.body())
    }
}

impl Branch {
    /// Nothing more can come to its INVITE.
    pub(super) fn forget_invite(&mut self) {
        self.invite = None;
        self.attempt.take_if(|attempt| attempt.trunk().is_none());
        self.settled = Vec::new();
        self.before_update = None;
        self.prack = None;
        if self.leg.last_invite.is_none() {
            self.leg.invite_over();
        }
    }

    /// The user whose device is called.
    pub(super) fn user(&self) -> Option<&str> {
        self.attempt.as_ref().and_then(Attempt::user)
    }

    pub(super) fn binding(&self) -> Option<&Arc<Binding>> {
        match self.attempt.as_ref()? {
            Attempt::Contact { binding } => Some(binding),
            Attempt::Trunk { .. } | Attempt::Emergency { .. } => None,
        }
    }

    pub(super) fn trunk(&self) -> Option<usize> {
        self.attempt.as_ref().and_then(Attempt::trunk)
    }

    /// Whom the record names when this branch is answered.
    pub(super) fn party(&self) -> Option<&str> {
        match &self.attempt {
            Some(attempt) => attempt.party(),
            None => self.leg.device.as_ref().map(|device| device.user.as_str()),
        }
    }
}

impl Branch {
    /// Its INVITE has no final answer, and one is wanted.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.progress, Progress::Calling | Progress::Ringing)
    }

    pub(super) fn is_ringing(&self) -> bool {
        self.progress == Progress::Ringing
    }
}

/// Why a branch, or a whole call, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: u16,
    pub reason: String,
    /// What the network behind a trunk said of it (RFC 6432): a value of Reason.
    pub cause: Option<String>,
}

impl Failure {
    pub(super) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), cause: None }
    }

    /// The media worker has no port left.
    pub(super) fn no_port() -> Self {
        Self::new(503, "No Media Port Free")
    }

    /// The failure the caller hears of the two (RFC 3261 section 16.7 step 6): 6xx before all, then the lower class, and
    /// in class 4 the answer that a person gave before those that nobody gave.
    pub(super) fn better_of(self, other: Self) -> Self {
        if other.rank() < self.rank() { other } else { self }
    }

    const fn rank(&self) -> u16 {
        match self.status {
            600.. => 0,
            486 => 400,
            415 | 420 | 484 | 488 => 401,
            404 | 410 => 402,
            480 => 403,
            408 => 404,
            487 => 405,
            status => status / 100 * 100 + 50,
        }
    }
}

/// What a status from the B side becomes on the A side. Most pass as they are; those that speak of this server's own
/// standing with the B side do not.
pub(super) fn mapped(status: u16, reason: &str, is_trunk: bool) -> Failure {
    match status {
        // What a trunk, or a device of a group's member, redirects is not followed.
        300..=399 => Failure::new(480, "Redirected"),
        401 | 407 if is_trunk => Failure::new(502, "Trunk Refused Our Credentials"),
        401 | 407 => Failure::new(480, "Device Asks For Credentials"),
        // RFC 3261 section 16.7: a 503 would say that this server is overloaded.
        503 | 430 if is_trunk => Failure::new(502, "Trunk Unavailable"),
        503 | 430 => Failure::new(480, "Device Unavailable"),
        // A session timer is between that side and this server.
        422 => Failure::new(480, "Session Interval Refused"),
        // Our own CANCEL, or the device's mind: to the caller nobody answered.
        487 => Failure::new(480, "Request Terminated"),
        _ => Failure::new(status, reason),
    }
}

/// Where a 3xx sends the call: the Contact with the highest `q`, the first of equals (RFC 3261 section 8.1.3.4).
pub(super) fn redirection(response: &Message) -> Option<String> {
    let contacts = response.values(Name::Contact).filter_map(NameAddr::parse);
    let with_q = contacts.map(|c| (c.params.get("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0), c.uri));
    let best = with_q.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, uri)| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn better(a: u16, b: u16) -> u16 {
        Failure::new(a, "").better_of(Failure::new(b, "")).status
    }

    #[test]
    fn a_persons_answer_beats_silence_and_6xx_beats_all() {
        for (a, b, wins) in [
            (486, 480, 486),
            (480, 486, 486),
            (408, 486, 486),
            (603, 486, 603),
            (486, 603, 603),
            (500, 404, 404),
            (404, 480, 404),
            (502, 488, 488),
        ] {
            assert_eq!(better(a, b), wins, "{a} or {b}");
        }
    }

    #[test]
    fn busy_passes_and_server_trouble_is_renamed() {
        assert_eq!(mapped(486, "Busy Here", false), Failure::new(486, "Busy Here"));
        assert_eq!(mapped(302, "Moved", false).status, 480);
        assert_eq!(mapped(407, "", true).status, 502);
        assert_eq!(mapped(503, "", false).status, 480);
        assert_eq!((mapped(430, "", true).status, mapped(430, "", false).status), (502, 480));
    }
}
