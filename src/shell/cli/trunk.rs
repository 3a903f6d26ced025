//! `ringdown trunk`: how the running server's trunks are, and orders to keep new calls off one.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use clap::Subcommand;
use serde::Deserialize;

use crate::shell::{
    admin::{DRAIN_PATH, DrainOrder, TRUNKS_PATH, client::Client},
    calendar,
    failure::Failure,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every trunk in a line: state, registration, servers that answer, live calls.
    List,
    /// Show one trunk, each of its servers in a line; fails unless it is up.
    Status {
        /// Name of the trunk.
        name: String,
    },
    /// Let a trunk's calls end and give it no new ones but emergency calls, until `resume` or a restart.
    Drain {
        /// Name of the trunk.
        name: String,
    },
    /// Give a drained trunk calls again.
    Resume {
        /// Name of the trunk.
        name: String,
    },
}

/// As the admin API shows it.
#[derive(Debug, Deserialize)]
struct Trunk {
    name: String,
    state: String,
    registration: Option<Registration>,
    servers: Vec<Server>,
    calls: usize,
}

#[derive(Debug, Deserialize)]
struct Registration {
    state: String,
    at_ms: Option<u64>,
    status: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Server {
    transport: String,
    address: SocketAddr,
    up: bool,
}

pub(super) fn run(config_file: &Path, command: &Command) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let server = &Client::of(&settings.config)?;
    match command {
        Command::List => {
            super::print(&table(&trunks(server)?));
            Ok(())
        }
        Command::Status { name } => status(server, name),
        Command::Drain { name } => drain(server, name, true),
        Command::Resume { name } => drain(server, name, false),
    }
}

fn trunks(server: &Client) -> Result<Vec<Trunk>, Failure> {
    let (status, body) = server.get(TRUNKS_PATH).map_err(|cause| unavailable(server, &cause))?;
    read(server, status, &body)
}

fn status(server: &Client, name: &str) -> Result<(), Failure> {
    let trunk = trunks(server)?.into_iter().find(|trunk| trunk.name == name).ok_or_else(|| unknown(name))?;
    super::print(&details(&trunk));
    match trunk.state.as_str() {
        "up" => Ok(()),
        state => Err(Failure::Unavailable(format!("the trunk `{name}` is {state}."))),
    }
}

fn drain(server: &Client, name: &str, drain: bool) -> Result<(), Failure> {
    let order = DrainOrder { trunk: name.to_owned(), drain };
    let (status, body) = server.post(DRAIN_PATH, &order).map_err(|cause| unavailable(server, &cause))?;
    if status == 404 {
        return Err(unknown(name));
    }
    super::print(&details(&read(server, status, &body)?));
    Ok(())
}

fn read<'b, T: Deserialize<'b>>(server: &Client, status: u16, body: &'b str) -> Result<T, Failure> {
    match status {
        200 => serde_json::from_str(body).map_err(|e| unavailable(server, &e.to_string())),
        503 => Err(unavailable(server, "it is busy; try again")),
        other => Err(unavailable(server, &format!("it answered {other}"))),
    }
}

fn unknown(name: &str) -> Failure {
    Failure::Usage(format!("there is no trunk `{name}`."))
}

fn unavailable(server: &Client, cause: &str) -> Failure {
    Failure::Unavailable(format!("the server at {server}: {cause}."))
}

fn table(trunks: &[Trunk]) -> String {
    let mut text = format!("{:<24} {:<9} {:<44} {:<8} {}\n", "trunk", "state", "registration", "servers", "calls");
    for trunk in trunks {
        let up = trunk.servers.iter().filter(|server| server.up).count();
        let servers = format!("{up}/{}", trunk.servers.len());
        writeln!(
            text,
            "{:<24} {:<9} {:<44} {servers:<8} {}",
            trunk.name,
            trunk.state,
            trunk.registration(),
            trunk.calls
        )
        .expect("strings take everything");
    }
    text
}

fn details(trunk: &Trunk) -> String {
    let Trunk { name, state, servers, calls, .. } = trunk;
    let mut text = format!("{name}: {state}\nregistration: {}\nlive calls: {calls}\n", trunk.registration());
    for Server { transport, address, up } in servers {
        let state = if *up { "up" } else { "down" };
        writeln!(text, "server {address} over {transport}: {state}").expect("strings take everything");
    }
    if servers.is_empty() {
        text.push_str("no server: nothing leads to an address\n");
    }
    text
}

impl Trunk {
    fn registration(&self) -> String {
        let Some(Registration { state, at_ms, status }) = &self.registration else { return "none".to_owned() };
        let at = at_ms.map(calendar::rfc3339);
        match (state.as_str(), at, status) {
            ("registered", Some(at), _) => format!("until {at}"),
            ("failed", Some(at), Some(status)) => format!("failed with {status}, again at {at}"),
            (state, ..) => state.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunks() -> Vec<Trunk> {
        let json = r#"[
            {"name":"a","state":"up","registration":{"state":"registered","at_ms":1700000000000,"status":null},
             "servers":[{"transport":"tls","address":"192.0.2.1:5061","up":true},{"transport":"tls","address":"192.0.2.2:5061","up":false}],"calls":3},
            {"name":"b","state":"down","registration":{"state":"failed","at_ms":1700000000000,"status":403},"servers":[],"calls":0},
            {"name":"c","state":"off","registration":null,"servers":[],"calls":0}
        ]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_trunk_is_a_line_of_the_list() {
        let text = table(&trunks());
        let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines[1].starts_with("a up until 2023-11-14T22:13:20") && lines[1].ends_with(" 1/2 3"), "{text}");
        assert!(lines[2].starts_with("b down failed with 403, again at 2023-11-14"), "{text}");
        assert_eq!(lines[3], "c off none 0/0 0");
    }

    #[test]
    fn details_name_every_server() {
        let text = details(&trunks()[0]);
        assert!(text.contains("server 192.0.2.1:5061 over tls: up\nserver 192.0.2.2:5061 over tls: down\n"), "{text}");
        assert!(details(&trunks()[1]).ends_with("no server: nothing leads to an address\n"));
    }
}
