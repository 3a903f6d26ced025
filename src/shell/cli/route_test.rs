//! `ringdown route-test`: every step of the server's decision about a call, in words, by the code that the server runs.

use std::path::Path;

use clap::Args;
use serde::Deserialize;

use crate::{
    config::Config,
    policy::{
        emergency::Site,
        explanation::{self, Origin, World},
    },
    shell::{
        admin::{ROUTE_TEST_PATH, client::Client},
        failure::Failure,
        run,
    },
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name or extension of the user who calls.
    #[arg(long, value_name = "USER", required_unless_present = "trunk", conflicts_with = "trunk")]
    from: Option<String>,
    /// Name of the trunk that brings the call.
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    /// Ask the running server, with its trunks and what is used of the limits as they are now.
    #[arg(long)]
    now: bool,
    /// What is dialled, or what the trunk asks for: a number, a name or a SIP URI.
    number: String,
}

pub(super) fn run(config_file: &Path, options: &Options) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &settings.config;
    let origin = match (&options.trunk, &options.from) {
        (Some(trunk), _) => Origin::Trunk(trunk.clone()),
        (None, from) => Origin::User(from.clone().unwrap_or_default()),
    };
    let explained =
        if options.now { ask(config, &origin, &options.number)? } else { offline(config, &origin, options)? };
    let explained = explained.ok_or_else(|| {
        Failure::Usage(match &origin {
            Origin::Trunk(name) => format!("there is no trunk `{name}`."),
            Origin::User(name) => format!("there is no user `{name}`."),
        })
    })?;
    super::print(&explained);
    Ok(())
}

/// By the configuration and the database alone.
fn offline(config: &Config, origin: &Origin, options: &Options) -> Result<Option<String>, Failure> {
    let (directory, _) = run::load_directory(&mut run::open_store(config)?, config)?;
    let listening = [&config.sip.udp, &config.sip.tcp, &config.sip.tls].into_iter().flatten();
    let own: Vec<_> = listening.map(|address| address.ip()).chain(config.media.addresses.iter().copied()).collect();
    let world = World { config, directory: &directory, site: &Site::new(config, &own), present: None };
    Ok(explanation::explain(origin, &options.number, &world))
}

/// The reply of the admin API.
#[derive(Debug, Deserialize)]
struct Reply {
    steps: Vec<String>,
}

fn ask(config: &Config, origin: &Origin, number: &str) -> Result<Option<String>, Failure> {
    let server = Client::of(config)?;
    let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {server}: {cause}."));
    let (key, name) = match origin {
        Origin::User(name) => ("from", name),
        Origin::Trunk(name) => ("trunk", name),
    };
    let path = format!("{ROUTE_TEST_PATH}?{key}={}&number={}", escaped(name), escaped(number));
    let (status, body) = server.get(&path).map_err(|cause| unavailable(&cause))?;
    match status {
        200 => {
            let Reply { steps } = serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string()))?;
            Ok(Some(steps.into_iter().map(|step| step + "\n").collect()))
        }
        404 => Ok(None),
        503 => Err(unavailable("it is busy; try again")),
        other => Err(unavailable(&format!("it answered {other}"))),
    }
}

/// As a value of a query (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    let byte = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}
