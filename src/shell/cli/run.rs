//! `ringdown run`: the server as a process, with its signals and its first words to the operator.

use std::{fmt::Write as _, num::NonZero, path::Path, thread::available_parallelism, time::Duration};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use crate::{
    shell::{
        failure::Failure,
        logging,
        run::{self, Facts, FirstUsers, Server},
        sandbox::{self, Missing},
        settings::Settings,
        systemd,
        udp_errors::UdpErrors,
    },
    types::Transport,
};

/// The local certificate is renewed while the server runs, too.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(86_400);
/// Changed certificate files are noticed after this time at most.
const FILE_CHECK: Duration = Duration::from_secs(5);
/// Data that has become too old is deleted after this time at most.
const AGE_CHECK: Duration = Duration::from_secs(3_600);

pub(super) fn run(config_file: &Path) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    logging::start(&settings.config.log);
    // Both read what a confined process does not see: the limits of its control group.
    let threads = available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    run::create_state_folder(&settings.config)?;
    let udp_errors = UdpErrors::open();
    let missing = sandbox::confine_process(&settings.config);
    sandbox::accept(settings.config.privacy.sandbox, &missing)?;
    runtime(threads)?.block_on(serve(settings, missing, udp_errors))
}

pub(super) fn runtime(threads: NonZero<usize>) -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.get()).enable_all().build();
    built.map_err(|e| Failure::Internal(format!("the runtime cannot start: {e}.")))
}

async fn serve(settings: Settings, missing: Vec<Missing>, udp_errors: UdpErrors) -> Result<(), Failure> {
    let mut end = End::listen()?;
    let mut hang_up = listen(SignalKind::hangup())?;
    // Sent to whoever writes beyond a limit of file sizes. Caught, the write fails, as on a full disk, and ends no call.
    let _file_limit = listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let first_users = if systemd::keeps_output() { FirstUsers::Leave } else { FirstUsers::Make };
    let mut server = Server::start(settings, missing, udp_errors, first_users).await?;
    announce(&server.facts);
    server.set_ready();
    let mut certificate_check = interval(CERTIFICATE_CHECK);
    certificate_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now, and the certificate is fresh.
    certificate_check.tick().await;
    let mut file_check = interval(FILE_CHECK);
    file_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut age_check = interval(AGE_CHECK);
    age_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            failure = server.failed() => {
                if let Err(also) = server.end_failed().await {
                    error!(failure = %also, "The last records may not be on disk.");
                }
                return Err(failure);
            }
            () = end.asked() => break,
            _ = hang_up.recv() => server.reload_certificates().await,
            _ = certificate_check.tick() => server.reload_certificates().await,
            _ = age_check.tick() => server.delete_old_data(),
            _ = file_check.tick() => server.reload_changed_certificates().await,
        }
    }
    info!("Draining: new calls are refused, live ones go on. A second signal ends at once.");
    tokio::select! {
        () = server.drain() => {}
        () = end.asked() => {}
    }
    server.end().await
}

/// The signals that end the process.
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    /// From now on the signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::Internal(format!("signals cannot be received: {e}.")))
}

fn announce(facts: &Facts) {
    super::print(&greeting(facts));
    systemd::status(&facts.emergency.sentence());
    if facts.emergency.available {
        info!(target: "emergency", "{}", facts.emergency.sentence());
    } else {
        error!(target: "emergency", "{}", facts.emergency.sentence());
    }
    for missing in &facts.missing {
        let Missing { measure, cause, remedy } = missing;
        warn!(measure = measure.label(), cause, remedy, "The sandbox is incomplete.");
    }
    for (transport, address) in &facts.listeners {
        info!(%transport, %address, "Listening.");
    }
}

/// What `run` prints: on the first start how to set up two phones, on every start where it listens and whether
/// emergency calls can be made.
fn greeting(facts: &Facts) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("strings take everything");
    if !facts.first_accounts.is_empty() {
        line(format_args!("First start. Enter these users into two phones; the passwords are not shown again.\n"));
        for (name, password) in &facts.first_accounts {
            line(format_args!("  user {name}   password {}", password.expose()));
        }
        line(format_args!("\n  domain / SIP server   {}", facts.domain));
        for (transport, address) in &facts.listeners {
            let name = transport.via_token();
            line(format_args!("  transport and port    {name}, {address}"));
        }
        if let Some(file) = facts.ca_file.as_ref().filter(|_| has_tls(facts)) {
            line(format_args!("  CA to trust for TLS   {}", file.display()));
        }
        line(format_args!("  media encryption      SRTP, keys by SDES\n"));
        line(format_args!("Before a phone is used, its user must know: {}", facts.emergency.notice));
        line(format_args!("`ringdown emergency acknowledge NAME` records that.\n"));
    }
    if facts.lacks_users {
        line(format_args!("There are no users. `ringdown user add NAME` makes one and shows its password, once."));
    }
    for (transport, address) in &facts.listeners {
        line(format_args!("listening on {transport} {address}"));
    }
    if let Some(address) = facts.admin {
        line(format_args!("admin API on http://{address}"));
    }
    for address in &facts.admin_tls {
        line(format_args!("admin API for other machines on https://{address}"));
    }
    if !facts.emergency.available {
        line(format_args!("EMERGENCY CALLS ARE REFUSED: {}", facts.emergency.explanation));
    }
    for missing in &facts.missing {
        line(format_args!("SANDBOX INCOMPLETE: {missing}"));
    }
    line(format_args!("ready"));
    out
}

fn has_tls(facts: &Facts) -> bool {
    facts.listeners.iter().any(|(transport, _)| *transport == Transport::Tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{shell::admin::EmergencyView, types::Secret};

    fn facts() -> Facts {
        Facts {
            domain: "example.test".to_owned(),
            listeners: vec![
                (Transport::Udp, "127.0.0.1:5060".parse().unwrap()),
                (Transport::Tls, "127.0.0.1:5061".parse().unwrap()),
            ],
            admin: None,
            admin_tls: vec!["192.0.2.1:8061".parse().unwrap()],
            ca_file: Some("state/tls/ca.pem".into()),
            emergency: EmergencyView::new(
                &crate::config::parse("[company]\nname = \"x\"\nregion = \"US\"\n").unwrap().0,
            ),
            missing: Vec::new(),
            lacks_users: false,
            first_accounts: vec![("1001".to_owned(), Secret::new("pass-one".to_owned()))],
        }
    }

    #[test]
    fn the_first_start_shows_all_that_a_phone_needs_and_a_later_one_no_password() {
        let first = greeting(&facts());
        for needed in [
            "1001",
            "pass-one",
            "example.test",
            "UDP, 127.0.0.1:5060",
            "TLS, 127.0.0.1:5061",
            "ca.pem",
            "https://192.0.2.1:8061",
        ] {
            assert!(first.contains(needed), "{needed} in {first}");
        }
        let later = greeting(&Facts { first_accounts: Vec::new(), ..facts() });
        assert!(!later.contains("password"), "{later}");
        let without = greeting(&Facts { lacks_users: true, first_accounts: Vec::new(), ..facts() });
        assert!(without.contains("ringdown user add"), "{without}");
        for greeting in [first, later] {
            assert!(greeting.contains("\nEMERGENCY CALLS ARE REFUSED: no PSTN trunk is configured\n"), "{greeting}");
        }
    }

    #[test]
    fn what_the_sandbox_lacks_is_shown_with_cause_and_remedy() {
        let missing =
            Missing { measure: sandbox::Measure::Memory, cause: "the limit is low".to_owned(), remedy: "Lift it" };
        let text = greeting(&Facts { missing: vec![missing], ..facts() });
        assert!(text.contains("\nSANDBOX INCOMPLETE: memory: the limit is low. Lift it.\n"), "{text}");
        assert!(!greeting(&facts()).contains("SANDBOX"));
    }

    #[test]
    fn no_warning_is_shown_where_emergency_calls_work() {
        let mut facts = facts();
        facts.emergency.available = true;
        assert!(!greeting(&facts).contains("EMERGENCY"));
    }
}
