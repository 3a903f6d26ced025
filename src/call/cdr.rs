//! Call detail records: who, when, how long, how well. Never content.

use serde::Serialize;

/// One call, written when it ends. Times in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Cdr {
    /// Unique for ever: start time and random digits.
    pub id: String,
    pub caller: String,
    /// As dialled.
    pub callee: String,
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
    pub trunk: Option<String>,
    pub a: Option<LegRecord>,
    pub b: Option<LegRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    Caller,
    Callee,
    Server,
}

/// One leg's transport and media quality. Counts are sums over its media sections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
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
