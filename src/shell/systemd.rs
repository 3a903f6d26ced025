//! The service manager's protocol (`sd_notify`). Without a service manager every call does nothing.

use std::time::Duration;

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
