//! What the operator reads: one line per check, then the figures.

use std::{fmt::Write as _, time::Duration};

use crate::shell::failure::Failure;

use super::lane::{LATENCY_PACKETS_PER_S, Latencies, Spoken};

/// A check failed without which the next ones are pointless. It has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop;

/// Prints each line at once and counts what failed.
pub(super) struct Report<'a> {
    print: &'a mut (dyn FnMut(&str) + Send),
    checks: usize,
    failed: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(print: &'a mut (dyn FnMut(&str) + Send)) -> Self {
        Self { print, checks: 0, failed: 0 }
    }

    pub(super) fn line(&mut self, text: &str) {
        (self.print)(&format!("{text}\n"));
    }

    pub(super) fn pass(&mut self, what: &str, detail: &str) {
        self.checks += 1;
        self.line(&format!("ok      {what}: {detail}"));
    }

    pub(super) fn check(&mut self, what: &str, result: Result<String, String>) {
        match result {
            Ok(detail) => self.pass(what, &detail),
            Err(reason) => self.fail(what, &reason),
        }
    }

    /// Says nothing yet where the step succeeds: [`Report::pass`] follows.
    pub(super) fn need<T>(&mut self, what: &str, result: Result<T, String>) -> Result<T, Stop> {
        result.map_err(|reason| {
            self.fail(what, &reason);
            Stop
        })
    }

    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::Internal(format!("{failed} of {} checks failed.", self.checks))),
        }
    }

    fn fail(&mut self, what: &str, reason: &str) {
        self.checks += 1;
        self.failed += 1;
        self.line(&format!("FAILED  {what}: {reason}"));
    }
}

/// Set-up time and latency, with how they were measured.
pub(super) fn figures(set_up: Duration, spoken: &Spoken) -> String {
    let (relayed, direct) = (Latencies::of(&spoken.relayed), Latencies::of(&spoken.direct));
    let mut out = format!(
        "\nset-up time   {:.1} ms from dialling until the caller may speak; the callee answers at once\n\n\
         one-way latency of {} packets, {LATENCY_PACKETS_PER_S} per second, in microseconds: the clock at receipt minus the \
         time in the payload\n                 p50      p99    p99.9\n",
        set_up.as_secs_f64() * 1e3,
        spoken.relayed.packets,
    );
    let mut row = |name, values: [f64; 3]| {
        let [p50, p99, p999] = values;
        writeln!(out, "{name:<10} {p50:>9.1}{p99:>9.1}{p999:>9.1}").expect("strings take everything");
    };
    row("relayed", relayed.0);
    row("direct", direct.0);
    row("added", std::array::from_fn(|i| relayed.0[i] - direct.0[i]));
    out.push_str(
        "\nrelayed: phone, server, phone. direct: the same phones' code over one socket pair, in blocks that alternate with\n\
         the relayed ones. added: relayed minus direct.",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was printed, and the verdict.
    fn report(run: impl FnOnce(&mut Report<'_>)) -> (String, Result<(), Failure>) {
        let mut text = String::new();
        let mut print = |line: &str| text.push_str(line);
        let mut report = Report::new(&mut print);
        run(&mut report);
        let verdict = report.verdict();
        (text, verdict)
    }

    #[test]
    fn every_check_has_its_line_and_one_failure_fails_the_test() {
        let (text, verdict) = report(|report| {
            assert_eq!(report.need("first", Ok(7)), Ok(7));
            report.pass("first", "done");
            report.check("second", Err("broken".to_owned()));
            assert_eq!(report.need::<()>("third", Err("gone".to_owned())), Err(Stop));
        });
        assert_eq!(text, "ok      first: done\nFAILED  second: broken\nFAILED  third: gone\n");
        assert_eq!(verdict.unwrap_err().to_string(), "2 of 3 checks failed.");
    }

    #[test]
    fn a_test_without_failure_passes() {
        let (text, verdict) = report(|report| report.check("only", Ok("fine".to_owned())));
        assert_eq!((text.as_str(), verdict), ("ok      only: fine\n", Ok(())));
    }
}
