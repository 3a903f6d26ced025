//! `ringdown cdr list`: call detail records for other programs.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::{
    call::cdr::{BurstRecord, Cdr, LegRecord},
    shell::{calendar, failure::Failure, run},
    types::limits::CDRS_MAX,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the newest records, oldest first.
    List(ListOptions),
}

#[derive(Debug, Args)]
pub(super) struct ListOptions {
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Only calls that began at or after this time: 2026-01-31, 2026-01-31T08:00:00 (UTC) or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Only calls that began before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// At most this many, the newest. Default: 1000, or every one of the period given.
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

impl ListOptions {
    /// A look at the newest is short; an export of a day or a month is whole, or a bill is wrong.
    fn limit(&self) -> u32 {
        let is_period = self.since.is_some() || self.until.is_some();
        self.limit.unwrap_or(if is_period { CDRS_MAX } else { NEWEST })
    }

    /// Of the newest records since the time given, newest first, those that are asked for, oldest first.
    fn choose(&self, mut cdrs: Vec<Cdr>) -> Vec<Cdr> {
        cdrs.retain(|cdr| self.until.is_none_or(|until| cdr.start_ms < until));
        cdrs.truncate(usize::try_from(self.limit()).unwrap_or(usize::MAX));
        cdrs.reverse();
        cdrs
    }
}

const NEWEST: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

pub(super) fn parse_time(text: &str) -> Result<u64, String> {
    calendar::parse(text).ok_or_else(|| "2026-01-31, 2026-01-31T08:00:00 or an RFC 3339 time is needed".to_owned())
}

pub(super) fn run(config_file: &Path, command: Command) -> Result<(), Failure> {
    let Command::List(options) = command;
    let store = run::open_store(&super::load(config_file)?.config)?;
    let read = if options.until.is_some() { CDRS_MAX } else { options.limit() };
    let cdrs = store.cdrs(options.since.unwrap_or(0), read).map_err(|e| run::store_failure(&e))?;
    let cdrs = options.choose(cdrs);
    let text = match options.format {
        Format::Jsonl => json_lines(&cdrs),
        Format::Csv => csv(&cdrs),
    };
    super::print(&text);
    Ok(())
}

fn json_lines(cdrs: &[Cdr]) -> String {
    let line = |cdr| serde_json::to_string(cdr).expect("a record has only plain fields") + "\n";
    cdrs.iter().map(line).collect()
}

fn csv(cdrs: &[Cdr]) -> String {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(HEADER).expect("memory takes everything");
    for cdr in cdrs {
        writer.serialize(Row::new(cdr)).expect("a row has only plain fields");
    }
    String::from_utf8(writer.into_inner().expect("memory takes everything")).expect("CSV of UTF-8 is UTF-8")
}

const HEADER: [&str; 66] = [
    "id",
    "caller",
    "callee",
    "start",
    "answer",
    "end",
    "duration_s",
    "ended_by",
    "status",
    "reason",
    "emergency",
    "trunk",
    "a_transport",
    "a_suite",
    "a_packets_received",
    "a_packets_sent",
    "a_packets_lost",
    "a_packets_refused",
    "a_jitter_ms",
    "a_round_trip_ms",
    "b_transport",
    "b_suite",
    "b_packets_received",
    "b_packets_sent",
    "b_packets_lost",
    "b_packets_refused",
    "b_jitter_ms",
    "b_round_trip_ms",
    "answered_by",
    "transferred_by",
    "a_codec",
    "a_mos",
    "a_burst_loss_percent",
    "a_burst_ms",
    "a_gap_loss_percent",
    "a_gap_ms",
    "a_far_packets_lost",
    "a_far_jitter_ms",
    "a_far_mos",
    "a_far_burst_loss_percent",
    "a_far_burst_ms",
    "a_far_gap_loss_percent",
    "a_far_gap_ms",
    "a_silences",
    "a_silent_ms",
    "a_silence_cause",
    "b_codec",
    "b_mos",
    "b_burst_loss_percent",
    "b_burst_ms",
    "b_gap_loss_percent",
    "b_gap_ms",
    "b_far_packets_lost",
    "b_far_jitter_ms",
    "b_far_mos",
    "b_far_burst_loss_percent",
    "b_far_burst_ms",
    "b_far_gap_loss_percent",
    "b_far_gap_ms",
    "b_silences",
    "b_silent_ms",
    "b_silence_cause",
    "verstat",
    "attest",
    "a_rating",
    "b_rating",
];

/// One record in the order of [`HEADER`], times as RFC 3339.
#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    caller: &'a str,
    callee: &'a str,
    start: String,
    answer: Option<String>,
    end: String,
    duration_s: u64,
    ended_by: crate::call::cdr::EndedBy,
    status: u16,
    reason: &'a str,
    emergency: bool,
    trunk: Option<&'a str>,
    a: LegColumns<'a>,
    b: LegColumns<'a>,
    answered_by: Option<&'a str>,
    transferred_by: Option<&'a str>,
    a_quality: QualityColumns<'a>,
    b_quality: QualityColumns<'a>,
    verstat: Option<&'a str>,
    attest: Option<&'a str>,
    a_rating: Option<u8>,
    b_rating: Option<u8>,
}

type LegColumns<'a> =
    (Option<&'a str>, Option<&'a str>, Option<u64>, Option<u64>, Option<u64>, Option<u64>, Option<f64>, Option<f64>);

/// Codec and score, bursts, the far side's view, silences.
type QualityColumns<'a> = (Option<&'a str>, Option<f64>, BurstColumns, FarColumns, SilenceColumns<'a>);

type BurstColumns = (Option<f64>, Option<f64>, Option<f64>, Option<f64>);

type FarColumns = (Option<u64>, Option<f64>, Option<f64>, BurstColumns);

type SilenceColumns<'a> = (Option<u32>, Option<u64>, Option<&'a str>);

impl<'a> Row<'a> {
    fn new(cdr: &'a Cdr) -> Self {
        Self {
            id: &cdr.id,
            caller: &cdr.caller,
            callee: &cdr.callee,
            start: calendar::rfc3339(cdr.start_ms),
            answer: cdr.answer_ms.map(calendar::rfc3339),
            end: calendar::rfc3339(cdr.end_ms),
            duration_s: cdr.duration_s,
            ended_by: cdr.ended_by,
            status: cdr.status,
            reason: &cdr.reason,
            emergency: cdr.emergency,
            trunk: cdr.trunk.as_deref(),
            a: leg_columns(cdr.a.as_deref()),
            b: leg_columns(cdr.b.as_deref()),
            answered_by: cdr.answered_by.as_deref(),
            transferred_by: cdr.transferred_by.as_deref(),
            a_quality: quality_columns(cdr.a.as_deref()),
            b_quality: quality_columns(cdr.b.as_deref()),
            verstat: cdr.verification.as_ref().map(|verification| verification.verstat.as_str()),
            attest: cdr.verification.as_ref().and_then(|verification| verification.attest.as_deref()),
            a_rating: cdr.a.as_ref().and_then(|leg| leg.rating),
            b_rating: cdr.b.as_ref().and_then(|leg| leg.rating),
        }
    }
}

fn leg_columns(leg: Option<&LegRecord>) -> LegColumns<'_> {
    (
        leg.map(|l| l.transport.as_str()),
        leg.map(|l| l.suite.as_str()),
        leg.map(|l| l.packets_received),
        leg.map(|l| l.packets_sent),
        leg.map(|l| l.packets_lost),
        leg.map(|l| l.packets_refused),
        leg.map(|l| l.jitter_ms),
        leg.and_then(|l| l.round_trip_ms),
    )
}

fn quality_columns(leg: Option<&LegRecord>) -> QualityColumns<'_> {
    let far = leg.and_then(|l| l.far.as_ref());
    (
        leg.and_then(|l| l.codec.as_deref()),
        leg.and_then(|l| l.mos),
        burst_columns(leg.and_then(|l| l.bursts.as_deref())),
        (
            far.map(|f| f.packets_lost),
            far.map(|f| f.jitter_ms),
            far.and_then(|f| f.mos),
            burst_columns(far.and_then(|f| f.bursts.as_deref())),
        ),
        (leg.map(|l| l.silences), leg.map(|l| l.silent_ms), leg.and_then(|l| l.silence_cause.as_deref())),
    )
}

fn burst_columns(bursts: Option<&BurstRecord>) -> BurstColumns {
    (
        bursts.map(|b| b.burst_loss_percent),
        bursts.map(|b| b.burst_ms),
        bursts.map(|b| b.gap_loss_percent),
        bursts.map(|b| b.gap_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::cdr::{EndedBy, FarRecord};

    fn cdr() -> Cdr {
        Cdr {
            id: "x1".to_owned(),
            caller: "alice".to_owned(),
            callee: "a,\"b\"".to_owned(),
            answered_by: None,
            start_ms: 1_769_846_400_000,
            answer_ms: None,
            end_ms: 1_769_846_401_000,
            duration_s: 0,
            ended_by: EndedBy::Callee,
            status: 486,
            reason: "busy".to_owned(),
            emergency: false,
            transferred_by: Some("bob".to_owned()),
            trunk: None,
            verification: None,
            a: Some(Box::new(LegRecord {
                transport: "tls".to_owned(),
                suite: "plain".to_owned(),
                ..LegRecord::default()
            })),
            b: Some(Box::new(LegRecord {
                codec: Some("PCMU".to_owned()),
                mos: Some(4.1),
                bursts: Some(Box::new(BurstRecord {
                    burst_loss_percent: 50.0,
                    burst_ms: 80.0,
                    ..BurstRecord::default()
                })),
                far: Some(Box::new(FarRecord { packets_lost: 7, mos: Some(3.9), ..FarRecord::default() })),
                silences: 2,
                silent_ms: 4_000,
                silence_cause: Some("no_packets".to_owned()),
                rating: Some(4),
                ..LegRecord::default()
            })),
        }
    }

    #[test]
    fn every_csv_row_has_the_columns_of_the_header() {
        let text = csv(&[cdr()]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from(HEADER.to_vec()));
        let row = reader.records().next().unwrap().unwrap();
        let column = |name| &row[HEADER.iter().position(|h| *h == name).unwrap()];
        assert_eq!(column("callee"), "a,\"b\"");
        assert_eq!(column("start"), "2026-01-31T08:00:00.000Z");
        assert_eq!(column("answer"), "");
        assert_eq!(column("ended_by"), "callee");
        assert_eq!(column("transferred_by"), "bob");
        assert_eq!((column("a_suite"), column("b_suite")), ("plain", ""));
        assert_eq!((column("a_codec"), column("a_far_mos"), column("a_silences")), ("", "", "0"));
        assert_eq!((column("b_codec"), column("b_mos"), column("b_burst_ms")), ("PCMU", "4.1", "80.0"));
        assert_eq!((column("b_far_packets_lost"), column("b_far_mos"), column("b_far_gap_ms")), ("7", "3.9", ""));
        assert_eq!((column("a_rating"), column("b_rating")), ("", "4"));
        assert_eq!((column("b_silent_ms"), column("b_silence_cause")), ("4000", "no_packets"));
    }

    #[test]
    fn an_export_since_some_time_is_whole_unless_a_limit_is_asked_for() {
        let options = |since, until, limit| ListOptions { format: Format::Csv, since, until, limit };
        let limit = |since, limit| options(since, None, limit).limit();
        assert_eq!((limit(None, None), limit(Some(0), None)), (NEWEST, CDRS_MAX));
        assert_eq!((limit(None, Some(7)), limit(Some(0), Some(7))), (7, 7));
        assert_eq!(options(None, Some(9), None).limit(), CDRS_MAX);
    }

    #[test]
    fn a_period_ends_before_its_end_and_a_limit_takes_the_newest_of_it() {
        let records = || (1..=5).rev().map(|start_ms| Cdr { start_ms, ..cdr() }).collect();
        let chosen = |until, limit| {
            let options = ListOptions { format: Format::Csv, since: None, until, limit };
            options.choose(records()).iter().map(|cdr| cdr.start_ms).collect::<Vec<_>>()
        };
        assert_eq!(chosen(None, None), [1, 2, 3, 4, 5]);
        assert_eq!(chosen(Some(4), None), [1, 2, 3]);
        assert_eq!(chosen(Some(4), Some(2)), [2, 3]);
    }

    #[test]
    fn json_lines_read_back_as_the_same_records() {
        let text = json_lines(&[cdr(), cdr()]);
        let back: Vec<Cdr> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(back, [cdr(), cdr()]);
    }
}
