//! The world of one scenario, and what its steps do with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringdown::{
    config::{Directory, Forwarding, User},
    types::{Duration, Instant, Transport},
    wire::{sip::Message, srtp::Suite},
};

use crate::{
    net::Loss,
    phone::{Answer, Call, Phone, Registration, State},
    voice::Speaker,
    world::{Plan, USERS, World, user},
};

use super::{
    forms::leak,
    reader::{Args, Check, Step},
};

const LISTENING: Duration = Duration::from_secs(2);
/// Of twenty packets in that time; a bad network may lose some.
const PACKETS_HEARD_MIN: usize = 8;

pub(super) struct Stage {
    pub(super) world: World,
    phones: BTreeMap<String, usize>,
    wishes: BTreeMap<u32, Forwarding>,
    /// Which of several calls a phone's user is at.
    turned_to: BTreeMap<usize, usize>,
    /// Messages received when somebody last did something.
    since: usize,
    /// For each phone, the message that its last `receives` found.
    read: BTreeMap<usize, usize>,
    /// Call records that were looked at.
    records: usize,
}

impl Stage {
    pub(super) fn new(steps: &[Step], seed: u64) -> Self {
        let has_trunk = steps.iter().any(|s| s.form.pattern == "trunk NEW");
        let mut plan = if has_trunk { Plan::with_trunk(seed) } else { Plan::new(seed) };
        plan.company.extend(steps.iter().map(|s| s.args.toml.as_str()));
        Self {
            world: World::new(&plan),
            phones: BTreeMap::new(),
            wishes: BTreeMap::new(),
            turned_to: BTreeMap::new(),
            since: 0,
            read: BTreeMap::new(),
            records: 0,
        }
    }

    pub(super) fn play(&mut self, step: &Step) {
        if step.form.is_deed {
            self.since = self.world.received.len();
        }
        (step.form.run)(self, &step.args);
    }

    /// Everyone hangs up, and nothing may be left anywhere.
    pub(super) fn finish(mut self) {
        assert_eq!(self.world.net.losses_left(), 0, "messages that the network should have lost were never sent");
        self.world.net.heal();
        self.world.finish();
    }

    pub(super) fn id(&self, args: &Args, index: usize) -> usize {
        self.phones[args.text(index)]
    }

    /// The phone that the step begins with.
    pub(super) fn of(&mut self, args: &Args) -> &mut Phone {
        let id = self.id(args, 0);
        &mut self.world.phones[id]
    }

    // Who is there.

    pub(super) fn phone(&mut self, name: &str, extension: u32, transport: Transport) {
        // Neighbours never speak the same suite.
        let suites = [Suite::AesCm128HmacSha1_80, Suite::AeadAes256Gcm];
        let suite = suites[self.phones.len() % suites.len()];
        let id = self.world.phone(extension - 1000, transport, &[suite]);
        self.world.phones[id].profile.answer = Answer::Ring;
        self.phones.insert(name.to_owned(), id);
    }

    pub(super) fn trunk(&mut self, name: &str) {
        let id = self.world.trunk(Answer::Ring);
        self.phones.insert(name.to_owned(), id);
    }

    pub(super) fn add_header(&mut self, args: &Args) {
        let (name, value) = args.text(1).split_once(':').expect("a header reads `Name: value`");
        self.of(args).extra_headers.push((leak(name), value.trim().to_owned()));
    }

    pub(super) fn wish(&mut self, args: &Args, set: impl FnOnce(&mut Forwarding, Option<String>)) {
        let to = args.words().get(1).cloned();
        set(self.wishes.entry(args.number(0) - 1000).or_default(), to);
        let wish = |n| User { forwarding: self.wishes.get(&n).cloned().unwrap_or_default(), ..user(n) };
        let directory = Directory::new((1..=USERS).map(wish));
        self.world.server.set_directory(self.world.now, &mut self.world.net, directory);
    }

    // The network.

    pub(super) fn delay(&mut self, args: &Args) {
        let ms = |index| u32::try_from(args.time(index).as_millis()).expect("a delay of the network is short");
        let (min, max) = (ms(0), ms(1));
        assert!(min <= max, "the shortest delay comes first");
        (self.world.net.weather.delay_ms_min, self.world.net.weather.delay_ms_max) = (min, max);
    }

    /// A message is lost this many times, or for ever.
    pub(super) fn lose(&mut self, args: &Args, is_from: bool, times: Option<u32>) {
        let what = args.text(0);
        let start = if is_status(what) { format!("SIP/2.0 {what} ") } else { format!("{what} ") };
        let host = self.world.phones[self.id(args, 1)].profile.ip;
        self.world.net.lose(Loss { host, is_from, start, left: times });
    }

    pub(super) fn cut_off(&mut self, args: &Args) {
        let until = self.world.now + args.time(1);
        let host = self.of(args).profile.ip;
        self.world.net.cut_off(host, until);
    }

    pub(super) fn deafen(&mut self, args: &Args) {
        let until = self.world.now + args.time(1);
        let host = self.of(args).profile.ip;
        self.world.net.deafen(host, until);
    }

    pub(super) fn break_connection(&mut self, args: &Args) {
        let connection = self.of(args).connection.expect("it has a connection");
        self.world.net.cut(self.world.now, connection);
    }

    // What phones and people do.

    pub(super) fn act(&mut self, args: &Args, deed: impl FnOnce(&mut Phone, Instant)) {
        self.world.act(self.id(args, 0), deed);
    }

    pub(super) fn register_all(&mut self) {
        for phone in 0..self.world.phones.len() {
            if self.world.phones[phone].profile.password.is_some() {
                self.world.register(phone);
            }
        }
    }

    /// Waits for the answer, whatever it is.
    pub(super) fn register(&mut self, phone: usize, expires_s: u32) {
        self.world.act(phone, |p, now| p.register(now, expires_s));
        let asked = Registration::Asked;
        self.world.until("an answer", Duration::from_secs(40), |w| w.phones[phone].registration != asked);
    }

    pub(super) fn dial(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        self.turned_to.remove(&phone);
        self.world.dial(phone, args.text(1));
    }

    /// With the call that rings.
    pub(super) fn incoming(&mut self, args: &Args, deed: impl FnOnce(&mut Phone, Instant, usize)) {
        let phone = self.id(args, 0);
        let call = ringing(&self.world, phone).expect("no call rings here");
        self.world.act(phone, |p, now| deed(p, now, call));
    }

    pub(super) fn in_call(&mut self, args: &Args, deed: impl FnOnce(&mut Phone, Instant, usize)) {
        let phone = self.id(args, 0);
        let call = self.current(phone);
        assert_eq!(self.world.state(phone, call), State::Up, "the call is not up");
        self.world.act(phone, |p, now| deed(p, now, call));
    }

    pub(super) fn hold(&mut self, args: &Args, is_holding: bool) {
        self.in_call(args, |p, now, call| {
            p.hold(now, call, is_holding);
            assert_eq!(p.calls[call].is_held_by_us, is_holding, "a re-INVITE of its own is still unanswered");
        });
    }

    pub(super) fn unsubscribe(&mut self, args: &Args) {
        let is_answer = |m: &&Message| m.method_text() == "SUBSCRIBE" && m.status() == 200;
        let answer = self.of(args).responses.iter().rfind(is_answer).expect("it has subscribed").clone();
        self.act(args, |p, now| p.subscribe(now, args.text(2), args.text(1), 0, Some(&answer)));
    }

    pub(super) fn hang_up(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        let call = self.current(phone);
        assert!(!matches!(self.world.state(phone, call), State::Ended(_)), "the call is over already");
        self.world.hang_up(phone, call);
        self.turned_to.remove(&phone);
    }

    pub(super) fn join(&mut self, args: &Args) {
        let number = |index| usize::try_from(args.number(index)).expect("small") - 1;
        self.world.act(self.id(args, 0), |p, now| p.join(now, number(1), number(2)));
    }

    pub(super) fn take_over(&mut self, args: &Args) {
        let (phone, from) = (self.id(args, 0), self.id(args, 1));
        let replaces = self.world.phones[from].replaces(self.current(from));
        self.turned_to.remove(&phone);
        self.world.act(phone, |p, now| _ = p.take_over(now, &replaces));
    }

    pub(super) fn turn_to(&mut self, args: &Args) {
        let (phone, number) = (self.id(args, 0), usize::try_from(args.number(1)).expect("small"));
        assert!(number <= self.world.phones[phone].calls.len(), "it has had fewer calls");
        self.turned_to.insert(phone, number - 1);
    }

    /// The call its user turned to, or the newest that lives, or the newest.
    fn current(&self, phone: usize) -> usize {
        let p = &self.world.phones[phone];
        let newest = || p.live_calls().last().map(|(i, _)| i).or_else(|| p.calls.len().checked_sub(1));
        self.turned_to.get(&phone).copied().or_else(newest).expect("it has had no call")
    }

    // What must be.

    pub(super) fn rings(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        self.world.until("no call rings here", args.limit, |w| ringing(w, phone).is_some());
    }

    pub(super) fn does_not_ring(&mut self, args: &Args) {
        assert_eq!(ringing(&self.world, self.id(args, 0)), None, "a call rings here");
    }

    pub(super) fn hears_ringing(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        let call = self.current(phone);
        self.world.until("no ringing tone", args.limit, |w| w.state(phone, call) == State::Ringing);
    }

    pub(super) fn is_in_call(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        let is_up = |(_, call): (usize, &Call)| call.state == State::Up;
        self.world.until("no call is up", args.limit, |w| w.phones[phone].live_calls().any(is_up));
    }

    pub(super) fn is_idle(&mut self, args: &Args) {
        let phone = self.id(args, 0);
        self.world.until("a call is left", args.limit, |w| w.phones[phone].live_calls().next().is_none());
    }

    /// Both are up and hear each other.
    pub(super) fn talks(&mut self, args: &Args) {
        let ends = [self.id(args, 0), self.id(args, 1)];
        for phone in ends {
            let is_up = |(_, call): (usize, &Call)| call.state == State::Up && call.voice.is_settled();
            self.world.until("no call is up", args.limit, |w| w.phones[phone].live_calls().any(is_up));
        }
        let [there, back] = [ends, [ends[1], ends[0]]].map(|[a, b]| self.heard(a, b));
        self.world.run(LISTENING);
        for ([a, b], before) in [(ends, there), ([ends[1], ends[0]], back)] {
            let packets = self.heard(a, b) - before;
            assert!(packets >= PACKETS_HEARD_MIN, "{packets} packets in {LISTENING:?}, in one direction");
        }
    }

    pub(super) fn hears(&mut self, args: &Args) {
        let packets = self.listen(args);
        assert!(packets >= PACKETS_HEARD_MIN, "{packets} packets in {LISTENING:?}");
    }

    pub(super) fn does_not_hear(&mut self, args: &Args) {
        // What is under way still arrives.
        self.world.run(Duration::from_millis(500));
        let packets = self.listen(args);
        assert_eq!(packets, 0, "packets in {LISTENING:?}");
    }

    fn listen(&mut self, args: &Args) -> usize {
        let (by, whom) = (self.id(args, 0), self.id(args, 1));
        let before = self.heard(by, whom);
        self.world.run(LISTENING);
        self.heard(by, whom) - before
    }

    /// Packets of one phone's call that the other's has heard.
    fn heard(&self, by: usize, whom: usize) -> usize {
        let of = |phone: usize, call| -> Speaker {
            (self.world.phones[phone].profile.id, u32::try_from(call).expect("few calls"))
        };
        self.world.phones[by].calls[self.current(by)].voice.heard_from(of(whom, self.current(whom)))
    }

    pub(super) fn hears_key(&mut self, args: &Args, key: char) {
        let phone = self.id(args, 0);
        let call = self.current(phone);
        let has_heard = |w: &World| w.phones[phone].calls[call].voice.keys.heard.ends_with(key);
        self.world.until("another key or none was heard", args.limit, has_heard);
    }

    /// The next such message, and what stands in it.
    pub(super) fn receives(&mut self, args: &Args, what: &str, method: &str) {
        let phone = self.id(args, 0);
        let from = self.first_unread(phone);
        let find = |w: &World| {
            let is_it = |(to, bytes): &(usize, Bytes)| *to == phone && is_such(bytes, what, method);
            w.received[from..].iter().position(is_it).map(|at| from + at)
        };
        self.world.until("it was not received", args.limit, |w| find(w).is_some());
        let at = find(&self.world).expect("it was received");
        self.read.insert(phone, at + 1);
        let text = String::from_utf8_lossy(&self.world.received[at].1).into_owned();
        assert_checks(&args.checks, &fields(&text), &text);
    }

    pub(super) fn receives_no(&mut self, args: &Args, what: &str) {
        let found = self.unread(args).find(|text| is_such(text.as_bytes(), what, "INVITE"));
        assert_eq!(found, None, "it was received");
    }

    pub(super) fn receives_nothing(&mut self, args: &Args) {
        let found = self.unread(args).next();
        assert_eq!(found, None, "it was received");
    }

    fn unread(&self, args: &Args) -> impl Iterator<Item = String> {
        let phone = self.id(args, 0);
        let received = self.world.received[self.first_unread(phone)..].iter().filter(move |(to, _)| *to == phone);
        received.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
    }

    fn first_unread(&self, phone: usize) -> usize {
        self.since.max(self.read.get(&phone).copied().unwrap_or(0))
    }

    pub(super) fn records(&mut self, args: &Args) {
        let index = self.records;
        self.world.until("no record was written", args.limit, |w| w.server.store.cdrs.len() > index);
        self.records += 1;
        let record = serde_json::to_value(&self.world.server.store.cdrs[index]).expect("a record is JSON");
        let mut fields = Vec::new();
        flatten("", &record, &mut fields);
        assert_checks(&args.checks, &fields, &record.to_string());
    }

    pub(super) fn records_nothing(&mut self, _: &Args) {
        assert_eq!(self.world.server.store.cdrs.len(), self.records, "records were written");
    }
}

/// An incoming call that rings.
fn ringing(w: &World, phone: usize) -> Option<usize> {
    let is_ringing = |call: &Call| !call.is_caller && call.state == State::Ringing;
    w.phones[phone].live_calls().find(|(_, call)| is_ringing(call)).map(|(i, _)| i)
}

fn is_status(what: &str) -> bool {
    what.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a message is a request of this method, or a response of this status to `method`.
fn is_such(bytes: &[u8], what: &str, method: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    if !is_status(what) {
        return text.starts_with(&format!("{what} "));
    }
    let cseq = fields(&text).into_iter().find(|(name, _)| name == "cseq").map(|(_, value)| value);
    text.starts_with(&format!("SIP/2.0 {what} ")) && cseq.is_some_and(|v| v.ends_with(&format!(" {method}")))
}

/// Names in small letters and values: header fields, and `uri`, `reason` and `body`.
fn fields(text: &str) -> Vec<(String, String)> {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let mut start = lines.next().unwrap_or_default().splitn(3, ' ');
    let (first, second, third) = (start.next(), start.next().unwrap_or_default(), start.next().unwrap_or_default());
    let special = if first == Some("SIP/2.0") { ("reason", third) } else { ("uri", second) };
    let headers = lines.filter_map(|l| l.split_once(':')).map(|(name, value)| (name.trim(), value.trim()));
    let all = [special, ("body", body)].into_iter().filter(|(_, value)| !value.is_empty()).chain(headers);
    all.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// `{"a": {"suite": "plain"}}` is `a.suite: plain`; null is nothing.
fn flatten(prefix: &str, value: &serde_json::Value, out: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), value, out);
            }
        }
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => out.push((prefix.to_owned(), text.clone())),
        other => out.push((prefix.to_owned(), other.to_string())),
    }
}

fn assert_checks(checks: &[Check], fields: &[(String, String)], whole: &str) {
    for check in checks {
        let is_it = |(name, value): &(String, String)| *name == check.name && value.contains(&check.value);
        let word = if check.is_wanted { "with" } else { "without" };
        let Check { name, value, .. } = check;
        assert!(fields.iter().any(is_it) == check.is_wanted, "`{word} {name}: {value}` is not so:\n{whole}");
    }
}
