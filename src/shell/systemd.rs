//! The service manager's protocol (`sd_notify`). Without a service manager every call does nothing.

use std::{env, io::stdout, time::Duration};

use rustix::fs::fstat;
use sd_notify::NotifyState;

/// Every port is bound and served.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(NotifyState::Status(text));
}

/// Draining has begun.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// Whether standard output goes to a service manager, which keeps it where others read it. A shell that a terminal's own
/// service has started inherits `JOURNAL_STREAM`, so the stream itself is compared (systemd.exec(5)).
pub fn keeps_output() -> bool {
    let is_service = env::var_os("NOTIFY_SOCKET").is_some();
    let journal = env::var("JOURNAL_STREAM").unwrap_or_default();
    is_service || fstat(stdout()).is_ok_and(|file| is_stream(&journal, file.st_dev, file.st_ino))
}

/// Device and inode, as `JOURNAL_STREAM` names them.
fn is_stream(journal: &str, device: u64, inode: u64) -> bool {
    journal == format!("{device}:{inode}")
}

/// How often [`ping_watchdog`] is due: twice in the time after which the manager would restart the process.
pub fn watchdog_interval() -> Option<Duration> {
    let mut usec = 0;
    sd_notify::watchdog_enabled(false, &mut usec).then(|| Duration::from_micros(usec) / 2)
}

pub fn ping_watchdog() {
    notify(NotifyState::Watchdog);
}

/// A manager that cannot be told is no reason to stop serving.
fn notify(state: NotifyState<'_>) {
    let _ = sd_notify::notify(false, &[state]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode_together() {
        for (journal, is_it) in [("8:41", true), ("8:4", false), ("9:41", false), ("8:41:1", false), ("", false)] {
            assert_eq!(is_stream(journal, 8, 41), is_it, "{journal}");
        }
    }
}
