//! Locating a trunk through name servers that answer anything, late, or not at all.

use std::collections::BTreeSet;

use ringdown::{
    sip::locate::{Destination, Health, Input, Locator, Output, Question, Record, RecordType, Reply, Target},
    types::{
        Duration, Instant, Rng, Transport,
        limits::{DNS_QUESTIONS_MAX, DNS_RECORDS_MAX},
    },
};

use super::choices::Choices;

const NAMES: [&str; 8] = [
    "carrier.example",
    "carrier.example.",
    "_sip._udp.carrier.example.",
    "_sips._tcp.carrier.example.",
    "one.carrier.example.",
    "two.carrier.example",
    ".",
    "192.0.2.9",
];
const STEPS_MAX: usize = 96;
/// A server has two addresses of each record, of either family.
const TARGETS_MAX: usize = DNS_RECORDS_MAX * DNS_RECORDS_MAX * 2;

struct World {
    locator: Locator,
    health: Health,
    now: Instant,
    asked: BTreeSet<Question>,
    rng: Rng,
    /// A record said that there is no such service.
    is_refused: bool,
}

/// The first choices are the destination; each further one answers a question or lets time pass. However the answers are,
/// what is asked stays bounded, the order holds each target once, and a destination is never given up for good.
pub fn locate(data: &[u8]) {
    let mut choices = Choices::new(data);
    let destination = Destination {
        host: (*choices.of(&["carrier.example", "192.0.2.9", "[2001:db8::1]", "carrier.example."])).to_owned(),
        port: *choices.of(&[None, Some(5070)]),
        transport: *choices.of(&[None, Some(Transport::Udp), Some(Transport::Tcp), Some(Transport::Tls)]),
    };
    let is_literal = destination.host.starts_with(['1', '[']);
    let now = Instant::from_unix_ms(1_700_000_000_000);
    let rng = Rng::from_small_seed(7);
    let locator = Locator::new(now, destination);
    let mut world = World { locator, health: Health::default(), now, asked: BTreeSet::new(), rng, is_refused: false };
    world.drain();
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(&mut choices);
        world.check(is_literal);
    }
}

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(8) {
            0..5 => {
                let Some(question) = choices.one_of(self.asked.iter().cloned()) else { return };
                let had_targets = self.locator.targets().next().is_some();
                let reply = reply(question.record_type, choices);
                let is_negative = matches!(reply, Reply::Absent | Reply::Failed);
                self.is_refused |= refuses(&reply);
                self.asked.remove(&question);
                self.input(Input::Answered { question, reply });
                let has_targets = self.locator.targets().next().is_some();
                let is_kept = has_targets || !had_targets || !is_negative || self.is_refused || self.is_a_day_later();
                assert!(is_kept, "a refusal takes a target away");
            }
            5 => {
                let question = Question { name: choices.text(), record_type: RecordType::A };
                let reply = reply(RecordType::A, choices);
                self.input(Input::Answered { question, reply });
            }
            6 => match choices.one_of(self.locator.targets().copied()) {
                Some(target) if choices.flag() => self.health.failed(self.now, target),
                Some(target) => self.health.answered(target),
                None => {}
            },
            _ => {
                self.now = self.now + Duration::from_millis(choices.time_ms() * 1_000);
                self.input(Input::Timeout);
            }
        }
    }

    /// The grace of old records may have ended.
    fn is_a_day_later(&self) -> bool {
        self.now >= Instant::from_unix_ms(1_700_000_000_000) + Duration::from_secs(86_400)
    }

    fn input(&mut self, input: Input) {
        self.locator.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..=DNS_QUESTIONS_MAX * 2 {
            match self.locator.poll_output() {
                Output::Ask(question) => {
                    assert!(self.asked.insert(question.clone()), "{question:?} is asked again before its answer");
                }
                Output::Timeout(_) => return,
            }
        }
        panic!("answers make the locator ask without end");
    }

    fn check(&mut self, is_literal: bool) {
        let targets: Vec<Target> = self.locator.targets().copied().collect();
        let mut order = self.locator.order(&mut self.rng);
        assert!(targets.len() <= TARGETS_MAX && order.len() == targets.len());
        order.retain(|target| !targets.contains(target));
        assert!(order.is_empty(), "the order holds what is no target");
        let Output::Timeout(again) = self.locator.poll_output() else { unreachable!("every input ends drained") };
        assert!(is_literal || again.is_some() || !self.asked.is_empty(), "nobody will ask again");
        assert!(!is_literal || !targets.is_empty());
        self.health.retain(|target| targets.contains(target));
        for target in &targets {
            let later = self.now + Duration::from_secs(300);
            assert!(!self.health.is_skipped(later, target), "a target is skipped for ever");
        }
    }
}

fn refuses(reply: &Reply) -> bool {
    let is_dot = |record: &Record| matches!(record, Record::Srv { target, .. } if target == ".");
    matches!(reply, Reply::Found { records, .. } if records.iter().any(is_dot))
}

fn reply(record_type: RecordType, choices: &mut Choices<'_>) -> Reply {
    match choices.below(6) {
        0 => Reply::Absent,
        1 => Reply::Failed,
        _ => {
            let ttl = Duration::from_secs(choices.time_ms());
            let records = (0..choices.below(DNS_RECORDS_MAX + 8)).map(|_| record(record_type, choices)).collect();
            Reply::Found { records, ttl }
        }
    }
}

/// Sometimes not what was asked for.
fn record(record_type: RecordType, choices: &mut Choices<'_>) -> Record {
    let record_type = match choices.below(8) {
        0 => *choices.of(&[RecordType::Naptr, RecordType::Srv, RecordType::A, RecordType::Aaaa]),
        _ => record_type,
    };
    let name = |choices: &mut Choices<'_>| match choices.below(NAMES.len() + 2) {
        n if n < NAMES.len() => NAMES[n].to_owned(),
        // Ever new names.
        _ => format!("{}.example.", choices.byte()),
    };
    match record_type {
        RecordType::Naptr => Record::Naptr {
            order: choices.byte().into(),
            preference: choices.byte().into(),
            flags: (*choices.of(&["s", "S", "a", ""])).to_owned(),
            service: (*choices.of(&["SIP+D2U", "sip+d2t", "SIPS+D2T", "E2U+sip", ""])).to_owned(),
            replacement: name(choices),
        },
        RecordType::Srv => Record::Srv {
            priority: u16::from(choices.byte() & 3),
            weight: u16::from(choices.byte()) * 257,
            port: u16::from(choices.byte()),
            target: name(choices),
        },
        RecordType::A => Record::Address([192, 0, 2, choices.byte()].into()),
        RecordType::Aaaa => Record::Address([0x2001, 0xdb8, 0, 0, 0, 0, 0, choices.byte().into()].into()),
    }
}
