//! `ringdown user resync`: an order to the running server, and what its telephones made of it.

use std::fmt::Write as _;

use clap::Args;
use serde::Deserialize;

use crate::{
    config::Config,
    shell::{
        admin::{RESYNC_PATH, ResyncOrder, client::Client},
        failure::Failure,
    },
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name of the user.
    name: String,
    /// The phones start anew; without it they only look whether their configuration has changed.
    #[arg(long)]
    reboot: bool,
}

/// One device, as the admin API reports it.
#[derive(Debug, Deserialize)]
struct Device {
    transport: String,
    remote: String,
    user_agent: String,
    outcome: String,
    status: Option<u16>,
    reason: Option<String>,
}

/// Fails unless every phone has agreed.
pub(super) fn run(config: &Config, options: Options) -> Result<(), Failure> {
    let Options { name, reboot } = options;
    let server = Client::of(config)?;
    let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {server}: {cause}."));
    let order = ResyncOrder { user: name.clone(), reboot };
    let (status, body) = server.post(RESYNC_PATH, &order).map_err(|cause| unavailable(&cause))?;
    match status {
        200 => {}
        404 => return Err(Failure::Usage(format!("there is no user `{name}`."))),
        503 => return Err(unavailable("it is busy; try again")),
        other => return Err(unavailable(&format!("it answered {other}"))),
    }
    let devices: Vec<Device> = serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string()))?;
    if devices.is_empty() {
        return Err(Failure::Unavailable(format!("no phone of {name} is registered.")));
    }
    super::print(&table(&devices));
    let refusing = devices.iter().filter(|device| !device.has_agreed()).count();
    if refusing == 0 {
        return Ok(());
    }
    Err(Failure::Unavailable(format!("{refusing} of {} phones will not do it.", devices.len())))
}

impl Device {
    fn has_agreed(&self) -> bool {
        self.status.is_some_and(|status| status < 300)
    }

    fn outcome(&self) -> String {
        match (self.outcome.as_str(), self.status) {
            ("answered", Some(status)) => format!("{status} {}", self.reason.as_deref().unwrap_or_default()),
            ("no-answer", _) => "no answer".to_owned(),
            ("no-connection", _) => "no connection".to_owned(),
            ("emergency", _) => "not asked: an emergency call, or one that may be called back".to_owned(),
            (other, _) => other.to_owned(),
        }
    }
}

/// Devices call themselves what they like: nothing of it reaches the terminal as a command.
fn table(devices: &[Device]) -> String {
    let mut text = format!("{:<28} {:<9} {:<32} {}\n", "address", "transport", "phone", "answer");
    for device in devices {
        let Device { transport, remote, user_agent, .. } = device;
        let phone: String = user_agent.chars().filter(|c| !c.is_control()).collect();
        writeln!(text, "{remote:<28} {transport:<9} {phone:<32} {}", device.outcome())
            .expect("strings take everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_put_into_words_and_only_a_2xx_is_agreement() {
        let json = r#"[
            {"transport":"tls","remote":"192.0.2.1:5061","user_agent":"Desk\u001b[31m","outcome":"answered","status":200,"reason":"OK"},
            {"transport":"udp","remote":"192.0.2.2:5060","user_agent":"","outcome":"answered","status":489,"reason":"Bad Event"},
            {"transport":"udp","remote":"192.0.2.3:5060","user_agent":"","outcome":"no-answer"},
            {"transport":"tcp","remote":"192.0.2.4:5060","user_agent":"","outcome":"no-connection"},
            {"transport":"tcp","remote":"192.0.2.5:5060","user_agent":"","outcome":"emergency"}
        ]"#;
        let devices: Vec<Device> = serde_json::from_str(json).unwrap();
        let text = table(&devices);
        let endings = ["answer", "200 OK", "489 Bad Event", "no answer", "no connection", "called back"];
        for (line, ending) in text.lines().zip(endings) {
            assert!(line.ends_with(ending), "{line}");
        }
        assert!(text.contains("Desk[31m") && !text.contains('\u{1b}'));
        assert_eq!(devices.iter().map(Device::has_agreed).collect::<Vec<_>>(), [true, false, false, false, false]);
    }
}
