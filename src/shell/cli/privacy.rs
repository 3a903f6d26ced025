//! `ringdown privacy`: what is kept about people, and all of it about one person, exported or erased.

use std::{fmt::Write as _, path::Path, thread::sleep, time::Duration};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    config::Config,
    shell::{
        admin::client::Client,
        calendar,
        clock::Clock,
        entropy,
        failure::Failure,
        files, run,
        settings::Settings,
        store::{Erased, Person, Store, StoreError, personal::TABLES},
    },
};

use super::user::refuse_member;

/// A running server forgets a removed user within seconds.
const FORGETTING_TRIES: u32 = 50;
const FORGETTING_PAUSE: Duration = Duration::from_millis(200);
/// What no command here reaches.
const ELSEWHERE: [&str; 4] = [
    "the log that the service manager keeps (journald: its own retention); `privacy table` says what of people stands there",
    "copies and backups of the database",
    "what carriers, the other parties of calls and telephones keep by themselves",
    "the configuration file, where it names the person",
];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show everything that is kept, with purpose, time, who sees it and what erasure does to it.
    Table,
    /// Print all that is kept about a person, as JSON.
    Export(Whom),
    /// Remove a person and every trace of them, and print a receipt, as JSON. Records of emergency calls stay as long as
    /// emergency_records_days says; those of calls over trunks stay for bills, without the person.
    Erase(Whom),
}

#[derive(Debug, Args)]
pub(super) struct Whom {
    /// Name of the user; one who was removed earlier, too.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// A further number that was theirs, such as the extension or direct line of a removed user; may be repeated.
    #[arg(long = "number", value_name = "NUMBER")]
    numbers: Vec<String>,
}

pub(super) fn run(config_file: &Path, command: Command) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &settings.config;
    match command {
        Command::Table => {
            super::print(&table(config));
            Ok(())
        }
        Command::Export(whom) => {
            let mut store = run::open_store(config)?;
            let exported = export(config, &mut store, whom);
            super::record(&mut store, "privacy export", None, exported.as_ref().err())?;
            super::print(&exported?);
            Ok(())
        }
        Command::Erase(whom) => {
            let mut store = run::open_store(config)?;
            let receipt = format!("{:016x}", u64::from_be_bytes(entropy::rng().bytes()));
            let erased = erase(&settings, &mut store, whom, &receipt);
            super::record(&mut store, "privacy erase", Some(&receipt), erased.as_ref().err())?;
            super::print(&erased?);
            Ok(())
        }
    }
}

/// With the numbers that the database knows.
fn person<'c>(config: &'c Config, store: &mut Store, whom: Whom) -> Result<Person<'c>, Failure> {
    let Whom { user: name, mut numbers } = whom;
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    if let Some(user) = directory.by_name(&name) {
        numbers.push(user.extension.clone());
        numbers.extend(user.direct_line.clone());
    }
    if let Some(number) = numbers.iter().find(|number| directory.by_dialled(number).is_some_and(|u| u.name != name)) {
        return Err(Failure::Usage(format!("the number {number} belongs to another user now.")));
    }
    Ok(Person { name, numbers, config })
}

fn export(config: &Config, store: &mut Store, whom: Whom) -> Result<String, Failure> {
    let person = person(config, store, whom)?;
    let data = store.personal_data(&person).map_err(|e| run::store_failure(&e))?;
    if data.values().all(|rows| rows.as_array().is_some_and(Vec::is_empty)) {
        return Err(nothing(&person));
    }
    let export = json!({
        "user": person.name,
        "server": config.server.domain,
        "made": calendar::rfc3339(Clock::start().now().unix_ms()),
        "data": data,
        "explanation": explanation(config),
    });
    Ok(pretty(&export))
}

/// Each kind of data, for who wants to know what it is for.
fn explanation(config: &Config) -> Value {
    let about = |column: &crate::shell::store::personal::Column| {
        json!({
            "what": column.what,
            "purpose": column.purpose,
            "kept": column.kept.text(&config.privacy),
            "seen_by": column.seen_by,
        })
    };
    let of_table = |table: &crate::shell::store::personal::Table| {
        table
            .columns
            .iter()
            .map(move |column| (format!("{}.{}", table.name, column.name), about(column)))
            .collect::<Vec<_>>()
    };
    TABLES.iter().flat_map(of_table).collect::<serde_json::Map<_, _>>().into()
}

fn nothing(person: &Person<'_>) -> Failure {
    Failure::Usage(format!(
        "nothing is kept about `{}`. `ringdown user list` shows all users; numbers of a removed one can be given by --number.",
        person.name
    ))
}

/// What the person gets.
#[derive(Debug, Serialize)]
struct Receipt<'a> {
    receipt: &'a str,
    user: &'a str,
    server: &'a str,
    time: String,
    #[serde(flatten)]
    erased: &'a Erased,
    not_reached: [&'static str; 4],
}

/// A running server goes on meanwhile; it may write once more of somebody whom it is about to forget, so the second look
/// comes when it has.
fn erase(settings: &Settings, store: &mut Store, whom: Whom, receipt: &str) -> Result<String, Failure> {
    let config = &settings.config;
    let person = person(config, store, whom)?;
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    refuse_member(config, &directory, &person.name)?;
    // Held to the end: no server starts in between.
    let lock = files::lock(&config.server.state_dir.join("lock"));
    let server = if lock.is_ok() { None } else { Some(Running::of(config)?) };
    if let Some(server) = &server
        && server.has_call_of(&person)?
    {
        return Err(Failure::Unavailable(format!("{} is in a call. Erase when it is over.", person.name)));
    }
    store.ensure_unread().map_err(|e| run::store_failure(&e))?;
    let mut erased = store.erase(&person).map_err(|e| run::store_failure(&e))?;
    if let Some(server) = server {
        server.wait_forgotten(&person)?;
        erased.add(store.erase(&person).map_err(|e| run::store_failure(&e))?);
    }
    let compacted = store.compact();
    if erased.is_nothing() && compacted.is_ok() {
        return Err(nothing(&person));
    }
    let time = calendar::rfc3339(Clock::start().now().unix_ms());
    let (user, server) = (person.name.as_str(), config.server.domain.as_str());
    let receipt = pretty(&Receipt { receipt, user, server, time, erased: &erased, not_reached: ELSEWHERE });
    match compacted {
        Ok(()) => Ok(receipt),
        // What was done is told now: the next time there is nothing left to count.
        Err(e @ StoreError::InUse) => {
            Err(Failure::Unavailable(format!("{} is erased, but {e}\nWhat was done so far:\n{receipt}", person.name)))
        }
        Err(other) => Err(run::store_failure(&other)),
    }
}

/// What a server that is at work says of itself.
struct Running(Client);

#[derive(Debug, Deserialize)]
struct Call {
    caller: String,
    callee: String,
    answered_by: Option<String>,
    transferred_by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Registration {
    user: String,
}

impl Running {
    fn of(config: &Config) -> Result<Self, Failure> {
        let client = Client::of(config).map_err(|failure| {
            Failure::Usage(format!(
                "{failure} It is running and must say when it has forgotten the person; or stop it first."
            ))
        })?;
        Ok(Self(client))
    }

    fn ask<T: for<'d> Deserialize<'d>>(&self, page: &str) -> Result<Vec<T>, Failure> {
        let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {}: {cause}.", self.0));
        match self.0.get(page).map_err(|cause| unavailable(&cause))? {
            (200, body) => serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string())),
            (503, _) => Err(unavailable("it is busy; try again")),
            (status, _) => Err(unavailable(&format!("it answered {status}"))),
        }
    }

    fn has_call_of(&self, person: &Person<'_>) -> Result<bool, Failure> {
        let is_in = |call: &Call| {
            [Some(&call.caller), Some(&call.callee), call.answered_by.as_ref(), call.transferred_by.as_ref()]
                .into_iter()
                .flatten()
                .any(|p| person.is(p))
        };
        Ok(self.ask("/v1/calls")?.iter().any(is_in))
    }

    fn wait_forgotten(&self, person: &Person<'_>) -> Result<(), Failure> {
        for _ in 0..FORGETTING_TRIES {
            sleep(FORGETTING_PAUSE);
            let registrations: Vec<Registration> = self.ask("/v1/registrations")?;
            if registrations.iter().all(|registration| registration.user != person.name) && !self.has_call_of(person)? {
                return Ok(());
            }
        }
        let name = &person.name;
        Err(Failure::Unavailable(format!("the running server has not forgotten {name} yet. Run this again.")))
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts by name are JSON") + "\n"
}

fn table(config: &Config) -> String {
    let mut text = String::new();
    for table in TABLES {
        for column in table.columns {
            let place = format!("{}.{}", table.name, column.name);
            let kept = column.kept.text(&config.privacy);
            writeln!(
                text,
                "{place:<34} {}\n{:34} for: {}; kept: {kept}; seen by: {}; at erasure: {}",
                column.what,
                "",
                column.purpose,
                column.seen_by,
                column.erasure.text()
            )
            .expect("strings take everything");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_times_as_they_are_configured() {
        let text = "[company]\nname = \"x\"\nregion = \"US\"\n[privacy]\nrecords_days = 77\n";
        let text = table(&crate::config::parse(text).unwrap().0);
        assert!(text.contains("cdrs.record.caller                 user or number that called\n"), "{text}");
        assert!(text.contains("kept: 77 days; of emergency calls 730"), "{text}");
    }
}
