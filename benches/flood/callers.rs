//! Telephones that call for help, each in a way of its own: of users, one call a second each, to be connected; or of users and
//! of strangers, twenty a second each, to be refused.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use ringdown::{
    phone::{Config, Event, Input, Output, Phone},
    shell::clock::Clock,
    types::{ConnectionId, Flow, Instant, Rng, Secret, Transport},
    wire::srtp::Suite,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{phones::Wire, spread::Spread};

/// A refusal that comes in this time is counted as prompt.
pub(crate) const PROMPT: Duration = Duration::from_millis(100);
/// 64*T1 and some more: by then a telephone has given up by itself.
const PATIENCE: Duration = Duration::from_secs(40);

/// How a telephone reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Registered(Transport),
    /// Over a connection that is opened for each call, with its password.
    Anew,
    /// Of nobody whom the server knows, from a port or over a connection that is opened for each call.
    Stranger(Transport),
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Registered(Transport::Tls) => "TLS",
            Self::Registered(Transport::Tcp) => "TCP",
            Self::Registered(Transport::Udp) => "UDP",
            Self::Anew => "TLS anew",
            Self::Stranger(Transport::Tls) => "TLS stranger",
            Self::Stranger(Transport::Tcp) => "TCP stranger",
            Self::Stranger(Transport::Udp) => "UDP stranger",
        }
    }

    const fn transport(self) -> Transport {
        match self {
            Self::Registered(transport) | Self::Stranger(transport) => transport,
            Self::Anew => Transport::Tls,
        }
    }

    const fn is_registered(self) -> bool {
        matches!(self, Self::Registered(_))
    }
}

/// What is to come of a call for help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// With a PSTN trunk.
    Connected,
    /// Without.
    Refused,
}

impl Goal {
    pub(crate) const fn ways(self) -> &'static [Way] {
        use Transport::{Tcp, Tls, Udp};
        match self {
            Self::Connected => &[Way::Registered(Tls), Way::Registered(Tcp), Way::Registered(Udp), Way::Anew],
            Self::Refused => &[
                Way::Registered(Tls),
                Way::Registered(Tcp),
                Way::Registered(Udp),
                Way::Stranger(Tls),
                Way::Stranger(Tcp),
                Way::Stranger(Udp),
            ],
        }
    }

    /// Between the beginnings of two calls: a hundredth of the refusals of ten seconds is to be more than none.
    const fn pace(self) -> Duration {
        match self {
            Self::Connected => Duration::from_secs(1),
            Self::Refused => Duration::from_millis(50),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
        }
    }
}

/// What came of the calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) placed: usize,
    /// Came to their goal.
    pub(crate) met: usize,
    /// Of them, within [`PROMPT`].
    pub(crate) prompt: usize,
    /// Why not: a status, or what happened instead.
    pub(crate) failures: BTreeMap<String, usize>,
    /// To the ACK, from the INVITE; of a call that is to be connected over a connection of its own, from that one's beginning.
    pub(crate) time: Spread,
}

/// Where they call from and to.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) clock: Clock,
    pub(crate) server: IpAddr,
    pub(crate) port: fn(Transport) -> u16,
    pub(crate) local: IpAddr,
    pub(crate) ca: PathBuf,
    pub(crate) suite: Suite,
}

pub(crate) struct Caller {
    pub(crate) way: Way,
    goal: Goal,
    place: Place,
    account: (String, String),
    rng: Rng,
    media: UdpSocket,
    line: Option<Line>,
}

struct Line {
    clock: Clock,
    phone: Phone,
    wire: Wire,
    events: VecDeque<Event>,
    wake_at: Option<Instant>,
}

impl Caller {
    /// Registered, where its way is to be.
    pub(crate) fn start(
        way: Way,
        goal: Goal,
        place: Place,
        account: (String, String),
        mut rng: Rng,
    ) -> Result<Self, String> {
        let media = UdpSocket::bind((place.local, 0)).map_err(|error| error.to_string())?;
        let rng = rng.fork();
        let mut caller = Self { way, goal, place, account, rng, media, line: None };
        if way.is_registered() {
            caller.connect().map_err(|error| format!("{}: {error}", way.name()))?;
        }
        Ok(caller)
    }

    /// Calls 911 at the pace of its goal until then.
    pub(crate) fn call_until(&mut self, end: Instant) -> Tally {
        let mut tally = Tally::default();
        let clock = self.place.clock;
        let mut next = clock.now();
        while next < end {
            self.idle(next);
            tally.placed += 1;
            let begun = clock.now();
            match self.call() {
                Ok(time) => {
                    tally.met += 1;
                    tally.prompt += usize::from(time <= PROMPT);
                    tally.time.add(time);
                }
                Err(why) => *tally.failures.entry(why).or_default() += 1,
            }
            next = (begun + self.goal.pace()).max(clock.now());
        }
        tally
    }

    fn idle(&mut self, until: Instant) {
        match &mut self.line {
            Some(line) => _ = line.wait(until, |_| false),
            None => std::thread::sleep(until.since(self.place.clock.now())),
        }
    }

    /// How long it took to come to its goal.
    fn call(&mut self) -> Result<Duration, String> {
        let clock = self.place.clock;
        let begun = clock.now();
        if self.line.is_none() {
            self.connect().map_err(|error| format!("no connection: {error}"))?;
        }
        let begun = if self.way == Way::Anew { begun } else { clock.now() };
        let line = self.line.as_mut().expect("it was connected");
        let result = line.call(self.goal);
        if !self.way.is_registered() || result.is_err() && self.way != Way::Registered(Transport::Udp) {
            self.line = None;
        }
        Ok(result?.since(begun))
    }

    fn connect(&mut self) -> io::Result<()> {
        let Place { clock, server, port, local, ca, suite } = &self.place;
        let transport = self.way.transport();
        let server = SocketAddr::new(*server, port(transport));
        let (wire, address) = Wire::open(transport, *local, server, Some(ca))?;
        let (user, password) = self.account.clone();
        let config = Config {
            user,
            password: Secret::new(password),
            domain: server.ip().to_string(),
            flow: Flow { transport, local: address, remote: server, connection: ConnectionId(1) },
            media: self.media.local_addr()?,
            suite: *suite,
        };
        let phone = Phone::new(config, self.rng.fork());
        let mut line = Line { clock: *clock, phone, wire, events: VecDeque::new(), wake_at: None };
        if self.way.is_registered() {
            line.input(Input::Register);
            let is_over = |event: &Event| matches!(event, Event::Registered | Event::Refused(_));
            match line.wait(clock.now() + PATIENCE, is_over) {
                Ok(Some(Event::Registered)) => {}
                other => return Err(io::Error::other(format!("not registered: {other:?}"))),
            }
        }
        self.line = Some(line);
        Ok(())
    }
}

impl Line {
    /// When it came to its goal.
    fn call(&mut self, goal: Goal) -> Result<Instant, String> {
        self.events.clear();
        self.input(Input::Dial { user: "911".to_owned() });
        let is_over = |event: &Event| matches!(event, Event::Established(_) | Event::Refused(_) | Event::Ended);
        let end = self.clock.now() + PATIENCE;
        let outcome = self.wait(end, is_over).map_err(|error| error.to_string())?;
        let met = self.clock.now();
        if matches!(outcome, Some(Event::Established(_))) {
            self.input(Input::HangUp);
            // How it ends is not what is measured.
            let _ = self.wait(self.clock.now() + PATIENCE, |event| matches!(event, Event::Ended));
        }
        match (outcome, goal) {
            (Some(Event::Established(_)), Goal::Connected) => Ok(met),
            (Some(Event::Established(_)), Goal::Refused) => Err("connected".to_owned()),
            (Some(Event::Refused(refusal)), Goal::Refused) if refusal.is_explained() => Ok(met),
            (Some(Event::Refused(refusal)), _) => Err(refusal.status.to_string()),
            (Some(_), _) => Err("ended".to_owned()),
            (None, _) => Err("no answer".to_owned()),
        }
    }

    /// Drives the telephone until it says what is waited for, or until `end`.
    fn wait(&mut self, end: Instant, is_wanted: impl Fn(&Event) -> bool) -> io::Result<Option<Event>> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if is_wanted(&event) {
                    return Ok(Some(event));
                }
            }
            let now = self.clock.now();
            if now >= end {
                return Ok(None);
            }
            if self.wake_at.is_some_and(|at| at <= now) {
                self.input(Input::Timeout);
                continue;
            }
            let wait = self.wake_at.map_or(end, |at| at.min(end)).since(now);
            let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
            let _ = poll(&mut [PollFd::from_borrowed_fd(self.wire.socket(), PollFlags::IN)], Some(&wait));
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8_192];
        loop {
            match self.wire.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.input(Input::Received(Bytes::copy_from_slice(&buffer[..len]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn input(&mut self, input: Input) {
        self.phone.handle_input(self.clock.now(), input);
        loop {
            match self.phone.poll_output() {
                // What cannot be sent is missed by a timer of the telephone.
                Output::Transmit(bytes) => drop(self.wire.write(&bytes)),
                Output::Event(event) => self.events.push_back(event),
                Output::Timeout(at) => {
                    self.wake_at = at;
                    return;
                }
            }
        }
    }
}
