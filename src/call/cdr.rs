//! Call detail records: who, when, how long, how well. Never content.

use serde::{Deserialize, Serialize};

use super::{call::Caller, context::Context};
use crate::media::LegReport;

/// One call between two parties, written when it ends. Times in milliseconds since the Unix epoch.
///
/// A record never changes its parties: a transfer ends the record of each call it takes apart (`ended_by` is `transfer`) and
/// begins one for the call it makes, with `transferred_by`. The packets of a leg that moved on are counted where it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cdr {
    /// Unique for ever: start time and random digits.
    pub id: String,
    pub caller: String,
    /// As dialled; of a ring group, its name.
    pub callee: String,
    /// The user, or the outside number, that answered. Absent from records of earlier versions.
    #[serde(default)]
    pub answered_by: Option<String>,
    pub start_ms: u64,
    pub answer_ms: Option<u64>,
    pub end_ms: u64,
    /// Seconds from answer to end; 0 if never answered.
    pub duration_s: u64,
    pub ended_by: EndedBy,
    /// SIP status that ended or refused the call; 200 for a normal BYE.
    pub status: u16,
    pub reason: String,
    pub emergency: bool,
    /// The user whose transfer made this call.
    #[serde(default)]
    pub transferred_by: Option<String>,
    pub trunk: Option<String>,
    pub a: Option<LegRecord>,
    pub b: Option<LegRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    Caller,
    Callee,
    Server,
    /// One party left and the other is in a call with somebody else, which has a record of its own.
    Transfer,
}

/// One leg's transport and media quality. Counts are sums over its media sections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LegRecord {
    /// Signalling transport.
    pub transport: String,
    /// SRTP suite of the first section, or `plain`.
    pub suite: String,
    pub packets_received: u64,
    pub packets_sent: u64,
    pub packets_lost: u64,
    pub packets_refused: u64,
    pub jitter_ms: f64,
    pub round_trip_ms: Option<f64>,
}

impl LegRecord {
    /// Adds one media section's counts; jitter and round trip are those of the worst section, to a hundredth of a
    /// millisecond.
    pub(super) fn add(&mut self, report: &LegReport) {
        self.packets_received += report.packets_received;
        self.packets_sent += report.packets_sent;
        self.packets_lost += report.packets_lost;
        self.packets_refused += report.packets_refused;
        self.jitter_ms = self.jitter_ms.max(hundredths(report.jitter_ms));
        self.round_trip_ms = match (self.round_trip_ms, report.round_trip_ms.map(hundredths)) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

impl Cdr {
    pub(super) fn begin(ctx: &mut Context, caller: &Caller, callee: &str, emergency: bool) -> Self {
        let start_ms = ctx.now.unix_ms();
        Self {
            id: format!("{start_ms:x}-{}", ctx.rng.token(8)),
            caller: caller.user.clone(),
            callee: callee.to_owned(),
            answered_by: None,
            start_ms,
            answer_ms: None,
            end_ms: start_ms,
            duration_s: 0,
            ended_by: EndedBy::Server,
            status: 0,
            reason: String::new(),
            emergency,
            transferred_by: None,
            trunk: None,
            a: None,
            b: None,
        }
    }

    /// Of a call that policy refused before it began, with the status and reason phrase it was answered with.
    pub(super) fn refused(mut self, ctx: &Context, status: u16, reason: &str) -> Self {
        self.end(ctx, EndedBy::Server, status, reason);
        self
    }

    pub(super) fn end(&mut self, ctx: &Context, ended_by: EndedBy, status: u16, reason: &str) {
        self.end_ms = ctx.now.unix_ms();
        self.duration_s = self.answer_ms.map_or(0, |answer| (self.end_ms - answer) / 1000);
        self.ended_by = ended_by;
        self.status = status;
        reason.clone_into(&mut self.reason);
    }
}

fn hundredths(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
