//! Call detail records: who, when, how long, how well. Never content.

use serde::{Deserialize, Serialize};

use super::{call::Caller, context::Context};
use crate::{
    media::{BurstLoss, Delivery, LegReport},
    policy::stir::Verification,
};

/// One call between two parties, written when it ends, and in its present form when it begins and is answered. Times in milliseconds since the Unix epoch.
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
    /// What is known of the caller's number; absent where nobody has asked, and from records of earlier versions.
    #[serde(default)]
    pub verification: Option<Box<VerificationRecord>>,
    pub a: Option<Box<LegRecord>>,
    pub b: Option<Box<LegRecord>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    Caller,
    Callee,
    Server,
    /// One party left and the other is in a call with somebody else, which has a record of its own.
    Transfer,
    /// The server was killed, or its machine failed: see [`Cdr::interrupted`].
    Interrupted,
}

/// What a signature has told of the caller's number (RFC 8224).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRecord {
    /// `TN-Validation-Passed`, `TN-Validation-Failed` or `No-TN-Validation`.
    pub verstat: String,
    /// `A`, `B` or `C`, where it passed.
    pub attest: Option<String>,
    pub reason: String,
}

impl VerificationRecord {
    fn of(verification: &Verification) -> Self {
        Self {
            verstat: verification.verstat.as_str().to_owned(),
            attest: verification.attest.map(|attest| attest.as_str().to_owned()),
            reason: verification.reason.to_owned(),
        }
    }
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
    /// What follows is absent from records of earlier versions. The codec heard last from the peer.
    #[serde(default)]
    pub codec: Option<String>,
    /// How what came from the peer was lost; absent if nothing was.
    #[serde(default)]
    pub bursts: Option<Box<BurstRecord>>,
    /// Mean opinion score of what came from the peer (ITU-T G.107), 1 to 4.5; absent where it would have to be guessed.
    #[serde(default)]
    pub mos: Option<f64>,
    /// What the peer reported of what was sent to it.
    #[serde(default)]
    pub far: Option<Box<FarRecord>>,
    /// Times the peer was not heard though it was expected to be, and how long altogether.
    #[serde(default)]
    pub silences: u32,
    #[serde(default)]
    pub silent_ms: u64,
    /// Of the last silence: `no_packets`, `authentication`, `payload_type`, `source`, `replay` or `too_many_ssrcs`.
    #[serde(default)]
    pub silence_cause: Option<String>,
    /// How good the call was for the user at this leg, 1 to 5, if the user has said so.
    #[serde(default)]
    pub rating: Option<u8>,
}

/// The other direction of a leg, by the peer's RTCP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FarRecord {
    pub packets_lost: u64,
    pub jitter_ms: f64,
    pub bursts: Option<Box<BurstRecord>>,
    pub mos: Option<f64>,
}

/// How loss is spread (RFC 3611 section 4.7.2): lost packets in hundredths of those expected, and mean durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BurstRecord {
    pub burst_loss_percent: f64,
    pub burst_ms: f64,
    pub gap_loss_percent: f64,
    pub gap_ms: f64,
}

impl LegRecord {
    /// Adds one media section's counts; all that is no count is that of the worst section, to a hundredth.
    pub(super) fn add(&mut self, report: &LegReport) {
        self.packets_received += report.packets_received;
        self.packets_sent += report.packets_sent;
        self.packets_lost += report.received.packets_lost;
        self.packets_refused += report.packets_refused;
        self.jitter_ms = self.jitter_ms.max(hundredths(report.received.jitter_ms));
        self.round_trip_ms = either(self.round_trip_ms, report.round_trip_ms.map(hundredths), f64::max);
        if let Some(name) = report.received.codec.and_then(|codec| codec.name()) {
            self.codec = Some(name.to_owned());
        }
        worst_bursts(&mut self.bursts, report.received.bursts);
        self.mos = either(self.mos, report.received.mos.map(hundredths), f64::min);
        if let Some(sent) = &report.sent {
            self.far.get_or_insert_default().add(sent);
        }
        self.silences += report.silences;
        self.silent_ms += report.silent_ms;
    }
}

impl FarRecord {
    fn add(&mut self, sent: &Delivery) {
        self.packets_lost += sent.packets_lost;
        self.jitter_ms = self.jitter_ms.max(hundredths(sent.jitter_ms));
        worst_bursts(&mut self.bursts, sent.bursts);
        self.mos = either(self.mos, sent.mos.map(hundredths), f64::min);
    }
}

/// Keeps what lost more in its bursts.
fn worst_bursts(kept: &mut Option<Box<BurstRecord>>, new: Option<BurstLoss>) {
    let Some(BurstLoss { burst_loss, burst_ms, gap_loss, gap_ms }) = new else { return };
    let burst_loss_percent = hundredths(burst_loss * 100.0);
    if kept.as_ref().is_none_or(|kept| burst_loss_percent > kept.burst_loss_percent) {
        let [burst_ms, gap_loss_percent, gap_ms] = [burst_ms, gap_loss * 100.0, gap_ms].map(hundredths);
        *kept = Some(Box::new(BurstRecord { burst_loss_percent, burst_ms, gap_loss_percent, gap_ms }));
    }
}

fn either(a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(choose(a, b)),
        (a, b) => a.or(b),
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
            verification: caller.verification.as_ref().map(VerificationRecord::of).map(Box::new),
            a: None,
            b: None,
        }
    }

    /// Of a call that policy refused before it began, with the status and reason phrase it was answered with.
    pub(super) fn refused(mut self, ctx: &Context, status: u16, reason: &str) -> Self {
        self.end(ctx, EndedBy::Server, status, reason);
        self
    }

    /// Of a call that the server did not live to end. `last_known_ms`: when it is last known to have lived, which is taken for the
    /// end, since nobody knows when that was.
    pub fn interrupted(self, last_known_ms: u64) -> Self {
        let end_ms = last_known_ms.max(self.answer_ms.unwrap_or(self.start_ms));
        Self {
            end_ms,
            duration_s: self.answer_ms.map_or(0, |answer| (end_ms - answer) / 1000),
            ended_by: EndedBy::Interrupted,
            status: 500,
            reason: "Interrupted: the server has ended without notice".to_owned(),
            ..self
        }
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
