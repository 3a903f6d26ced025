//! This server registered at another one, as a carrier asks of its customers (RFC 3261 section 10, the client's side; RFC
//! 6140 for all numbers of a trunk at once).
//!
//! One [`Registration`] per account. It says when a REGISTER is due and writes it; its owner sends it, over whatever flow
//! it finds, and reports what came back. It refreshes in good time, takes a shorter time than it asked for, raises what
//! the registrar finds too brief, and waits longer after each failure.

use crate::{
    sip::{
        MAX_FORWARDS,
        challenge::{Authorization, Challenge},
    },
    types::{
        Duration, Instant, Rng, Secret,
        limits::{ROUTES_BYTES_MAX, ROUTES_MAX},
    },
    wire::sip::{Message, Name, NameAddr, RequestBuilder, Uri},
};

/// Wait after the first failure; each further one in a row doubles it, up to the most. The wait is drawn from its upper half,
/// so that a registrar that comes back does not meet all its customers at once (RFC 5626 section 4.5).
const BACK_OFF_MIN: Duration = Duration::from_secs(30);
const BACK_OFF_MAX: Duration = Duration::from_secs(1_800);
/// A refresh comes this much of the granted time before its end ...
const REFRESH_PART: u32 = 10;
/// ... but at least this long, and at most half of it.
const REFRESH_MARGIN_MIN: Duration = Duration::from_secs(60);
/// A peer that takes the registration and closes the connection, again and again, is not asked more often than this.
const FLOW_LOST_WAIT: Duration = Duration::from_secs(1);
/// Registrars that find the time too brief are followed this often in a row.
const TOO_BRIEF_MAX: u8 = 2;
/// A longer Retry-After is not obeyed: the trunk would be lost for a slip of a pen.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What is registered.
#[derive(Clone, Debug)]
pub struct Account {
    /// `sip:USER@DOMAIN`.
    pub address_of_record: String,
    /// Request-URI: `sip:DOMAIN`.
    pub registrar: String,
    /// For every number of the trunk (RFC 6140).
    pub is_bulk: bool,
    /// Time to ask for.
    pub expires_s: u32,
    /// Digest user and password.
    pub credentials: Option<(String, Secret<String>)>,
}

#[derive(Debug)]
pub enum Input<'m> {
    /// A response to the REGISTER on its way, provisional ones included.
    Response(&'m Message),
    /// The REGISTER on its way has no answer: 408 for none in time, 503 for a broken transport. With `is_alternative_known` there is
    /// another server to ask at once.
    Failed {
        status: u16,
        is_alternative_known: bool,
    },
    /// There is nowhere to send it; [`Input::Reachable`] may come.
    Unreachable,
    /// There is somewhere to send it again.
    Reachable,
    /// The flow over which the registration stands is gone: what the registrar sends there is lost.
    FlowLost,
    /// Take the registration back, and do not register any more.
    Leave,
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send what [`Registration::request`] writes now.
    Register,
    Timeout(Option<Instant>),
}

/// Where a registration stands, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No answer yet, to the first attempt or since the last failure's wait.
    Registering,
    Registered {
        until: Instant,
    },
    /// The last answer, or 408 or 503 for none; tried again then.
    Failed {
        status: u16,
        again_at: Instant,
    },
    /// Taken back.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A REGISTER is to be sent.
    Due,
    /// It is on its way.
    Sent,
    Waiting(Instant),
    /// ... for an address, or until then.
    WaitingForAddress(Instant),
    Left,
}

#[derive(Debug)]
pub struct Registration {
    account: Account,
    call_id: String,
    tag: String,
    cseq: u32,
    step: Step,
    is_leaving: bool,
    /// The REGISTER on its way takes the registration back.
    is_last: bool,
    /// What the next REGISTER asks for: the account's, or what the registrar's 423 says.
    expires_s: u32,
    /// The Contact of the last REGISTER, as a URI.
    contact: String,
    until: Option<Instant>,
    service_route: Vec<String>,
    failures: u32,
    last_failure: u16,
    too_brief: u8,
    challenge: Option<Challenge>,
    /// Challenges answered since the last answer that was none.
    answers: u8,
    rng: Rng,
}

impl Registration {
    pub fn new(account: Account, mut rng: Rng) -> Self {
        let (call_id, tag) = (rng.token(32), rng.token(20));
        let expires_s = account.expires_s;
        Self {
            account,
            call_id,
            tag,
            cseq: 0,
            step: Step::Due,
            is_leaving: false,
            is_last: false,
            expires_s,
            contact: String::new(),
            until: None,
            service_route: Vec::new(),
            failures: 0,
            last_failure: 0,
            too_brief: 0,
            challenge: None,
            answers: 0,
            rng,
        }
    }

    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Response(response) if self.step == Step::Sent => self.answered(now, response),
            Input::Failed { status, is_alternative_known } if self.step == Step::Sent => {
                self.failed(now, status, None);
                if let Step::Waiting(_) = self.step
                    && is_alternative_known
                {
                    self.step = Step::Due;
                }
            }
            Input::Unreachable if self.step == Step::Due => self.unreachable(now),
            Input::Reachable if matches!(self.step, Step::WaitingForAddress(_)) => self.step = Step::Due,
            Input::FlowLost if self.until.is_some() => {
                self.until = None;
                if let Step::Waiting(_) = self.step {
                    self.step = Step::Waiting(now + FLOW_LOST_WAIT);
                }
            }
            Input::Leave => self.leave(),
            Input::Timeout => self.timeout(now),
            Input::Response(_) | Input::Failed { .. } | Input::Unreachable | Input::Reachable | Input::FlowLost => {}
        }
    }

    /// Drain until `Timeout`; each `Register` is followed by [`Registration::request`] or [`Input::Unreachable`].
    pub fn poll_output(&self) -> Output {
        match self.step {
            Step::Due => Output::Register,
            Step::Waiting(at) | Step::WaitingForAddress(at) => Output::Timeout(self.wake_at(at)),
            Step::Sent => Output::Timeout(self.until),
            Step::Left => Output::Timeout(None),
        }
    }

    fn wake_at(&self, at: Instant) -> Option<Instant> {
        Some(self.until.map_or(at, |until| until.min(at)))
    }

    /// The REGISTER that is due. `contact`: a Contact value without parameters of its own.
    pub fn request(&mut self, via: &str, contact: &str) -> RequestBuilder {
        self.step = Step::Sent;
        self.is_last = self.is_leaving;
        self.cseq += 1;
        self.contact = NameAddr::parse(contact).map_or(contact, |address| address.uri).to_owned();
        let Account { address_of_record, registrar, is_bulk, .. } = &self.account;
        let expires_s = if self.is_leaving { 0 } else { self.expires_s };
        let mut request = RequestBuilder::new("REGISTER", registrar)
            .header("Via", via)
            .header("Max-Forwards", MAX_FORWARDS)
            .header("From", format_args!("<{address_of_record}>;tag={}", self.tag))
            .header("To", format_args!("<{address_of_record}>"))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format_args!("{} REGISTER", self.cseq))
            .header("Contact", contact)
            .header("Expires", expires_s);
        if *is_bulk {
            // RFC 6140 section 5.1.
            request = request.header("Require", "gin").header("Proxy-Require", "gin").header("Supported", "path");
        }
        match self.authorization() {
            Some((name, value)) => request.header(name, value.expose()),
            None => request,
        }
    }

    fn authorization(&mut self) -> Option<Authorization> {
        let (user, password) = self.account.credentials.as_ref()?;
        let request = ("REGISTER", self.account.registrar.as_str(), &b""[..]);
        self.challenge.as_mut()?.answer((user, password), request, &mut self.rng)
    }

    pub fn state(&self, now: Instant) -> State {
        let standing = self.until.filter(|until| now < *until);
        match (self.step, standing) {
            (Step::Left, _) => State::Left,
            (_, Some(until)) => State::Registered { until },
            (Step::Waiting(again_at) | Step::WaitingForAddress(again_at), None) => {
                State::Failed { status: self.last_failure, again_at }
            }
            (Step::Due | Step::Sent, None) => State::Registering,
        }
    }

    /// The Route of every request that begins something over the registration, as its registrar has it (RFC 3608 section 6.1).
    /// Empty where it says nothing.
    pub fn service_route(&self) -> &[String] {
        &self.service_route
    }

    /// Whether a REGISTER has no answer yet or is to be sent now.
    pub fn is_busy(&self) -> bool {
        matches!(self.step, Step::Due | Step::Sent)
    }

    fn answered(&mut self, now: Instant, response: &Message) {
        match response.status() {
            ..200 => {}
            200..300 if self.is_last => self.step = Step::Left,
            200..300 => self.registered(now, response),
            401 | 407 if self.takes_challenge(response) => self.step = Step::Due,
            423 if self.takes_longer_time(response) => self.step = Step::Due,
            status => self.failed(now, status, retry_after(response)),
        }
    }

    fn registered(&mut self, now: Instant, response: &Message) {
        let granted = Duration::from_secs(granted_s(response, &self.contact, self.expires_s).into());
        if granted.is_zero() {
            // It answers 200 and keeps nothing.
            return self.failed(now, 200, None);
        }
        (self.failures, self.answers, self.too_brief) = (0, 0, 0);
        self.until = Some(now + granted);
        self.service_route = service_route(response);
        let margin = (granted / REFRESH_PART).max(REFRESH_MARGIN_MIN).min(granted / 2);
        self.step = if self.is_leaving { Step::Due } else { Step::Waiting(now + (granted - margin)) };
    }

    fn takes_challenge(&mut self, response: &Message) -> bool {
        let Some(challenge) = Challenge::read(response) else { return false };
        // A challenge that follows upon no answer of ours asks for the first one.
        let is_taken = self.account.credentials.is_some() && challenge.deserves_answer(self.answers);
        if is_taken {
            self.answers += 1;
            self.challenge = Some(challenge);
        }
        is_taken
    }

    /// RFC 3261 section 10.2.8.
    fn takes_longer_time(&mut self, response: &Message) -> bool {
        let asked = response.header(Name::MinExpires).and_then(|value| value.trim().parse::<u32>().ok());
        let Some(longer) = asked.filter(|s| *s > self.expires_s && self.too_brief < TOO_BRIEF_MAX && !self.is_leaving)
        else {
            return false;
        };
        self.too_brief += 1;
        self.expires_s = longer;
        true
    }

    fn failed(&mut self, now: Instant, status: u16, retry_after: Option<Duration>) {
        (self.answers, self.too_brief, self.challenge) = (0, 0, None);
        if self.is_leaving {
            // What stands from before is taken back; once, whatever comes of it.
            self.step = if self.is_last || self.until.is_none() { Step::Left } else { Step::Due };
            return;
        }
        self.last_failure = status;
        let longest = (BACK_OFF_MIN * 2_u32.saturating_pow(self.failures.min(16))).min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let half_ms = u32::try_from(longest.as_millis() / 2).unwrap_or(u32::MAX);
        let drawn = longest / 2 + Duration::from_millis(self.rng.below(half_ms.max(1)).into());
        self.step = Step::Waiting(now + drawn.max(retry_after.unwrap_or_default()));
    }

    fn unreachable(&mut self, now: Instant) {
        self.last_failure = 503;
        self.step = if self.is_leaving { Step::Left } else { Step::WaitingForAddress(now + BACK_OFF_MIN) };
    }

    fn leave(&mut self) {
        self.is_leaving = true;
        self.step = match self.step {
            // Its answer may make a registration, which is taken back then.
            Step::Sent => Step::Sent,
            Step::Due | Step::Waiting(_) | Step::WaitingForAddress(_) if self.until.is_some() => Step::Due,
            Step::Due | Step::Waiting(_) | Step::WaitingForAddress(_) | Step::Left => Step::Left,
        };
    }

    fn timeout(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
        }
        if let Step::Waiting(at) | Step::WaitingForAddress(at) = self.step
            && at <= now
        {
            self.step = Step::Due;
        }
    }
}

/// None rather than a part of one, or one with a hop that is no address.
fn service_route(response: &Message) -> Vec<String> {
    let hops = || response.values(Name::ServiceRoute);
    let is_usable = hops().count() <= ROUTES_MAX
        && hops().map(str::len).sum::<usize>() <= ROUTES_BYTES_MAX
        && hops().all(|hop| NameAddr::parse(hop).is_some_and(|address| Uri::parse(address.uri).is_some()));
    if is_usable { hops().map(str::to_owned).collect() } else { Vec::new() }
}

/// Seconds for which the registrar keeps our Contact: its own `expires`, else Expires, else what was asked for (RFC 3261 section
/// 10.2.4). The only Contact of an answer is ours, whatever a border element has made of it.
fn granted_s(response: &Message, contact: &str, asked_s: u32) -> u32 {
    let contacts: Vec<_> = response.values(Name::Contact).filter_map(NameAddr::parse).collect();
    let ours = match contacts.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|c| is_same_contact(c.uri, contact)),
    };
    let seconds = |text: &str| text.trim().trim_matches('"').parse::<u32>().ok();
    let of_ours = ours.and_then(|c| c.params.get("expires")).and_then(seconds);
    of_ours.or_else(|| response.header(Name::Expires).and_then(seconds)).unwrap_or(asked_s)
}

/// Registrars write a Contact back with parameters added and case changed: user, host and port tell ours from others'.
fn is_same_contact(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (Uri::parse(a), Uri::parse(b)) else { return false };
    let usual = |uri: &Uri<'_>| if uri.scheme.eq_ignore_ascii_case("sips") { 5061 } else { 5060 };
    let port = |uri: &Uri<'_>| uri.port.unwrap_or_else(|| usual(uri));
    a.user_decoded() == b.user_decoded() && a.host.eq_ignore_ascii_case(b.host) && port(&a) == port(&b)
}

fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header(Name::RetryAfter)?;
    let digits = value.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Duration::from_secs(digits.parse().ok()?).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests;
