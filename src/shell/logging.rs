//! The log, on standard error: for people or, as JSON, for a collector.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Installs the process's log. The libraries' own events are shown from `warn` on, and what is said of emergency calls always,
/// whatever our level.
pub fn start(log: &Log) {
    let filter = match log.level.as_str() {
        "error" => "error,emergency=info".to_owned(),
        level => format!("warn,ringdown={level},emergency=info"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A second installation (several servers in one test process) keeps the first.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(is_terminal).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
