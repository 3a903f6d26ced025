//! What was found, for people and for programs.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use crate::{KEPT_BYTES_MAX, options::Options, phones::SetUps, process::Held, voices::Heard};

/// A packet that comes later than the next one is as good as lost.
const LATENCY_MS_MAX: f64 = 20.0;
const LOSS_MAX: f64 = 0.0001;

/// One load and what it did.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) wanted: usize,
    pub(crate) calls: usize,
    pub(crate) set_ups: SetUps,
    pub(crate) heard: Heard,
    /// Of the server's process.
    pub(crate) cpu: Option<Duration>,
    pub(crate) bytes_per_call: Option<u64>,
}

/// The tool's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit {
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug)]
pub(crate) struct Report {
    options: Options,
    pub(crate) limit: Limit,
    pub(crate) steps: Vec<Step>,
    pub(crate) ramp: Option<Ramp>,
    /// At rest, before and after.
    pub(crate) held_before: Option<Held>,
    pub(crate) held_after: Option<Held>,
    /// By reason, as the server that was started counts them.
    pub(crate) drops: Vec<(String, u64)>,
}

/// The highest load that was clean, in calls, and why none above it is known to be.
#[derive(Debug)]
pub(crate) struct Ramp {
    pub(crate) highest_clean: usize,
    pub(crate) end: RampEnd,
}

#[derive(Debug)]
pub(crate) enum RampEnd {
    /// So many calls were not clean, twice.
    Unclean(usize),
    /// More are beyond this tool's own limit, its users or its descriptors.
    NoMore,
    Stopped(String),
}

impl RampEnd {
    fn sentence(&self) -> String {
        match self {
            Self::Unclean(calls) => format!("{calls} calls were not clean, twice."),
            Self::NoMore => "More were not tried: this tool cannot do more, or has no more users.".to_owned(),
            Self::Stopped(why) => format!("It stopped there: {why}."),
        }
    }
}

impl Step {
    pub(crate) fn is_clean(&self) -> bool {
        self.calls == self.wanted
            && self.heard.wrong == 0
            && self.heard.lost() as f64 <= LOSS_MAX * self.heard.sent as f64
            && self.heard.latency.per_mille_ms(990) <= LATENCY_MS_MAX
    }

    fn loss_percent(&self) -> f64 {
        100.0 * self.heard.lost() as f64 / self.heard.sent.max(1) as f64
    }

    fn cpu_us_per_packet(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / self.heard.sent.max(1) as f64)
    }

    fn json(&self) -> Value {
        let Heard { sent, wrong, latency, late, .. } = &self.heard;
        let SetUps { tried, established, refused, time } = &self.set_ups;
        json!({
            "calls_wanted": self.wanted,
            "calls": self.calls,
            "set_ups": tried,
            "set_ups_established": established,
            "set_ups_refused": refused,
            "set_up_ms": { "p50": time.per_mille_ms(500), "p99": time.per_mille_ms(990) },
            "packets_per_s": self.heard.packets_per_s(),
            "packets_sent": sent,
            "packets_lost": self.heard.lost(),
            "packets_wrong": wrong,
            "packets_sent_late": late,
            "loss_percent": self.loss_percent(),
            "latency_ms": {
                "p50": latency.per_mille_ms(500),
                "p99": latency.per_mille_ms(990),
                "p999": latency.per_mille_ms(999),
                "max": latency.max_ms(),
            },
            "server_cpu_us_per_packet": self.cpu_us_per_packet(),
            "server_bytes_per_call": self.bytes_per_call,
            "clean": self.is_clean(),
        })
    }

    fn line(&self) -> String {
        let spread = &self.heard.latency;
        let [p50, p99, p999] = [500, 990, 999].map(|per_mille| spread.per_mille_ms(per_mille));
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        format!(
            "{:>7} {:>10.0} {:>9.4} {p50:>9.3} {p99:>9.3} {p999:>9.3} {:>9.1} {:>9} {:>9} {:>7}",
            self.calls,
            self.heard.packets_per_s(),
            self.loss_percent(),
            spread.max_ms(),
            or_none(self.cpu_us_per_packet().map(|us| format!("{us:.2}"))),
            or_none(self.bytes_per_call.map(|bytes| format!("{:.1}", bytes as f64 / 1_024.0))),
            if self.is_clean() { "yes" } else { "no" },
        )
    }
}

impl Limit {
    /// Of the highest load that was clean; 0: none was.
    pub(crate) fn calls(&self) -> usize {
        self.steps.iter().filter(|step| step.is_clean()).map(|step| step.calls).max().unwrap_or(0)
    }

    fn is_reached(&self) -> bool {
        self.steps.last().is_some_and(|step| !step.is_clean())
    }

    fn sentence(&self, options: &Options) -> String {
        let packets = options.packets_per_s(self.calls());
        match (self.calls(), self.is_reached()) {
            (0, _) => {
                "This tool's own limit on this machine is below this load: the figures are not the server's.".to_owned()
            }
            (calls, true) => format!("This tool's own limit on this machine: {calls} calls, {packets} packets/s."),
            (calls, false) => {
                format!("This tool's own limit on this machine is above {calls} calls, {packets} packets/s.")
            }
        }
    }
}

impl Report {
    pub(crate) const fn new(options: Options, limit: Limit) -> Self {
        Self { options, limit, steps: Vec::new(), ramp: None, held_before: None, held_after: None, drops: Vec::new() }
    }

    /// Nothing was left behind, where that was asked, and a ramp came to its end.
    pub(crate) fn is_good(&self) -> bool {
        let was_stopped = self.ramp.as_ref().is_some_and(|ramp| matches!(ramp.end, RampEnd::Stopped(_)));
        !was_stopped && self.left_nothing()
    }

    fn left_nothing(&self) -> bool {
        self.held_before.zip(self.held_after).is_none_or(|(before, after)| is_same(before, after))
    }

    pub(crate) fn print(&self, as_json: bool) {
        match as_json {
            true => println!("{:#}", self.json()),
            false => print!("{}", self.text()),
        }
    }

    fn json(&self) -> Value {
        let steps = |steps: &[Step]| steps.iter().map(Step::json).collect::<Vec<_>>();
        let held = |held: Option<Held>| {
            held.map(|held| {
                json!({ "descriptors": held.descriptors, "ports": held.ports, "resident_bytes": held.resident_bytes })
            })
        };
        let dropped: serde_json::Map<_, _> = self
            .drops
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, n)| (reason.clone(), (*n).into()))
            .collect();
        json!({
            "ptime_ms": self.options.ptime,
            "suite": self.options.suite.name(),
            "own_limit": { "calls": self.limit.calls(), "is_reached": self.limit.is_reached(), "steps": steps(&self.limit.steps) },
            "steps": steps(&self.steps),
            "highest_clean_calls": self.ramp.as_ref().map(|ramp| ramp.highest_clean),
            "ramp_end": self.ramp.as_ref().map(|ramp| ramp.end.sentence()),
            "held_before": held(self.held_before),
            "held_after": held(self.held_after),
            "nothing_left": self.held_after.map(|_| self.left_nothing()),
            "server_dropped": dropped,
        })
    }

    fn text(&self) -> String {
        let mut out = format!(
            "{:<16} {:>7} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}\n",
            "",
            "calls",
            "packets/s",
            "lost %",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
            "us/packet",
            "KiB/call",
            "clean"
        );
        for (name, steps) in [("without a server", &self.limit.steps), ("with the server", &self.steps)] {
            for step in steps {
                writeln!(out, "{name:<16} {}", step.line()).unwrap();
            }
        }
        let set_ups = self.steps.iter().map(|step| &step.set_ups).filter(|set_ups| set_ups.tried > 0);
        for SetUps { tried, established, refused, time } in set_ups {
            write!(out, "set-up: {established} of {tried} calls").unwrap();
            if *established > 0 {
                let [p50, p99] = [500, 990].map(|per_mille| time.per_mille_ms(per_mille));
                write!(out, ", p50 {p50:.1} ms, p99 {p99:.1} ms").unwrap();
            }
            refused.iter().for_each(|(status, count)| write!(out, ", {count} answered {status}").unwrap());
            out.push('\n');
        }
        out += &self.limit.sentence(&self.options);
        out.push('\n');
        if let Some(Ramp { highest_clean: calls, end }) = &self.ramp {
            let packets = self.options.packets_per_s(*calls);
            writeln!(out, "Highest clean load: {calls} calls, {packets} packets/s. {}", end.sentence()).unwrap();
        }
        for (when, held) in [("before", self.held_before), ("after", self.held_after)] {
            let Some(Held { descriptors, ports, resident_bytes }) = held else { continue };
            let resident_kib = resident_bytes / 1_024;
            writeln!(out, "at rest {when}: {descriptors} descriptors, {ports} UDP ports, {resident_kib} KiB resident")
                .unwrap();
        }
        if self.held_after.is_some() {
            out += if self.left_nothing() { "Nothing was left.\n" } else { "SOMETHING WAS LEFT.\n" };
        }
        for (reason, count) in self.drops.iter().filter(|(_, count)| *count > 0) {
            writeln!(out, "the server dropped: {count} {reason}").unwrap();
        }
        out
    }
}

fn is_same(before: Held, after: Held) -> bool {
    before.descriptors == after.descriptors
        && before.ports == after.ports
        && after.resident_bytes <= before.resident_bytes + KEPT_BYTES_MAX
}
