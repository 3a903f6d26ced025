//! `ringdown audit list`: who has ordered what.

use std::{fmt::Write as _, path::Path};

use clap::{Args, Subcommand, ValueEnum};

use super::cdr::parse_time;
use crate::shell::{calendar, failure::Failure, run, store::AuditEntry};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the newest entries, oldest first: time, who, what, about whom, and what came of it.
    List(ListOptions),
}

#[derive(Debug, Args)]
pub(super) struct ListOptions {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Only orders at or after this time: 2026-01-31, 2026-01-31T08:00:00 (UTC) or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// At most this many, the newest.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Jsonl,
}

pub(super) fn run(config_file: &Path, command: &Command) -> Result<(), Failure> {
    let Command::List(options) = command;
    let store = run::open_store(&super::load(config_file)?.config)?;
    let mut entries = store.audit(options.since.unwrap_or(0), options.limit).map_err(|e| run::store_failure(&e))?;
    entries.reverse();
    super::print(&match options.format {
        Format::Text => lines(&entries),
        Format::Jsonl => json_lines(&entries),
    });
    Ok(())
}

fn lines(entries: &[AuditEntry]) -> String {
    let mut text = String::new();
    for AuditEntry { time_ms, actor, action, subject, outcome, refused: _ } in entries {
        let (time, subject) = (calendar::rfc3339(*time_ms), subject.as_deref().unwrap_or("-"));
        writeln!(text, "{time}  {actor:<16} {action:<26} {subject:<24} {outcome}").expect("strings take everything");
    }
    text
}

fn json_lines(entries: &[AuditEntry]) -> String {
    let line = |entry| serde_json::to_string(entry).expect("an entry has only plain fields") + "\n";
    entries.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line() {
        let entry = AuditEntry {
            time_ms: 1_769_846_400_000,
            actor: "grafana".to_owned(),
            action: "POST /v1/unbar".to_owned(),
            subject: None,
            outcome: "403".to_owned(),
            refused: true,
        };
        let words = ["2026-01-31T08:00:00.000Z", "grafana", "POST", "/v1/unbar", "-", "403"];
        assert!(lines(std::slice::from_ref(&entry)).split_whitespace().eq(words));
        assert!(json_lines(&[entry]).contains("\"actor\":\"grafana\""));
    }
}
