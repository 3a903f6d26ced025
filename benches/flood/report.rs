//! What was found, for people.

use std::{fmt::Write as _, time::Duration};

use crate::{
    callers::{Goal, PROMPT, Tally, Way},
    floods::{Kind, Sent},
    voices::Heard,
};

/// One flood and what it did.
pub(crate) struct Outcome {
    pub(crate) kind: Option<Kind>,
    pub(crate) goal: Goal,
    pub(crate) sent: Sent,
    pub(crate) calls: Heard,
    pub(crate) forwarder: Heard,
    pub(crate) tallies: Vec<(Way, Tally)>,
    pub(crate) memory: Memory,
    /// Of the server's process, while the flood lasted.
    pub(crate) cpu: Duration,
    /// Until a new telephone was registered and had its call.
    pub(crate) recovery: Result<Duration, String>,
}

/// Resident, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
}

impl Outcome {
    /// Calls lose no packet that the forwarder would not lose, calls for help come to their goal, and afterwards all is as before.
    pub(crate) fn is_kept(&self) -> bool {
        let is_heard = self.loss() <= self.forwarder_loss();
        let is_helped = self.tallies.iter().all(|(_, tally)| tally.met == tally.placed);
        is_heard && is_helped && self.recovery.is_ok()
    }

    fn loss(&self) -> f64 {
        share(self.calls.lost(), self.calls.sent)
    }

    fn forwarder_loss(&self) -> f64 {
        share(self.forwarder.lost(), self.forwarder.sent)
    }

    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let name = self.kind.map_or("no flood", Kind::name);
        let Sent { sent, answered } = self.sent;
        let seconds = self.calls.time.as_secs_f64();
        writeln!(
            out,
            "{name}: {:.0} a second sent, {:.1} % answered",
            sent as f64 / seconds,
            100.0 * share(answered, sent)
        )
        .unwrap();
        for (whose, heard) in [("calls", &self.calls), ("bare forwarder", &self.forwarder)] {
            let [p50, p99] = [500, 990].map(|per_mille| heard.latency.per_mille_ms(per_mille));
            writeln!(
                out,
                "  {whose:<16} {} of {} packets lost, {} not authentic; {p50:.2} ms p50, {p99:.2} ms p99, {:.0} ms at most; {} sent late",
                heard.lost(),
                heard.sent,
                heard.wrong,
                heard.latency.max_ms(),
                heard.late
            )
            .unwrap();
        }
        for (way, Tally { placed, met, prompt, failures, time }) in &self.tallies {
            write!(out, "  emergency calls  {:<12} {met} of {placed} {}", way.name(), self.goal.name()).unwrap();
            match self.goal {
                Goal::Connected if *met > 0 => {
                    write!(out, ", {:.0} ms p50, {:.0} ms at most", time.per_mille_ms(500), time.max_ms()).unwrap();
                }
                Goal::Refused if *met > 0 => {
                    let [p50, p99] = [500, 990].map(|per_mille| time.per_mille_ms(per_mille));
                    write!(out, ", {p50:.1} ms p50, {p99:.1} ms p99, {:.0} ms at most; ", time.max_ms()).unwrap();
                    write!(out, "{prompt} within {} ms", PROMPT.as_millis()).unwrap();
                }
                Goal::Connected | Goal::Refused => {}
            }
            failures.iter().for_each(|(why, count)| write!(out, "; {count} {why}").unwrap());
            out.push('\n');
        }
        let [before, peak, after] =
            [self.memory.before, self.memory.peak, self.memory.after].map(|b| b as f64 / 1_048_576.0);
        let cores = self.cpu.as_secs_f64() / seconds;
        writeln!(out, "  server           {before:.1} MiB before, {peak:.1} MiB at most, {after:.1} MiB after; {cores:.2} cores busy").unwrap();
        match &self.recovery {
            Ok(time) => writeln!(
                out,
                "  recovery         a new telephone was registered and had its call after {:.0} ms",
                time.as_secs_f64() * 1e3
            ),
            Err(error) => writeln!(out, "  recovery         {error}"),
        }
        .unwrap();
        writeln!(out, "  promise          {}", if self.is_kept() { "kept" } else { "NOT KEPT" }).unwrap();
        out
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
