//! The command line: the only module that writes to standard output and standard error.

#![expect(clippy::disallowed_macros, reason = "this module owns standard error")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rustix::process::getuid;

use crate::config::Problem;

use super::{
    clock::Clock,
    failure::Failure,
    panics,
    run::store_failure,
    settings::Settings,
    store::{AuditEntry, Store, is_plain_name},
};

mod acknowledgement;
mod audit;
mod cdr;
mod check;
mod completions;
mod dial_test;
mod emergency;
mod forwarding;
mod init;
mod keys;
mod manual;
mod place;
mod privacy;
mod prove;
mod resync;
mod route_test;
mod run;
mod selftest;
mod token;
mod trunk;
mod unbar;
mod user;

/// Where the configuration lies unless the operator says so.
const CONFIG_FILE: &str = "config/ringdown.toml";

/// A cloud-calling server for a company's phones: SIP registrar, B2BUA and SRTP relay. It never stores audio.
#[derive(Debug, Parser)]
#[command(name = "ringdown", version, propagate_version = true)]
struct Cli {
    /// The configuration file [default: config/ringdown.toml].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server. The first start makes a certificate and, where no service manager keeps what it prints, two users,
    /// and shows their passwords, once.
    Run,
    /// Check the configuration and everything it names; exit 64 if anything is wrong.
    Check,
    /// Write a configuration file for this machine.
    Init(init::Options),
    /// Add, import, list, forward, place and remove users; a running server notices within seconds.
    #[command(subcommand)]
    User(user::Command),
    /// Show the trunks of the running server, and keep new calls off one.
    #[command(subcommand)]
    Trunk(trunk::Command),
    /// Read call detail records.
    #[command(subcommand)]
    Cdr(cdr::Command),
    /// Make, show and remove tokens of the admin interface; a running server notices within seconds.
    #[command(subcommand)]
    Token(token::Command),
    /// Show what is kept about people; export or erase all of it about one person.
    #[command(subcommand)]
    Privacy(privacy::Command),
    /// Read the audit log: who has ordered what, on this machine and over the admin interface.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Show or change the key that seals stored passwords and private addresses; a running server goes on.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Say how the server classifies a dialled number, without calling anybody.
    DialTest(dial_test::Options),
    /// Show whether emergency calls can be made and what they would be.
    #[command(subcommand)]
    Emergency(emergency::Command),
    /// Say step by step what the server would do with a call of a user to a number, without calling anybody.
    RouteTest(route_test::Options),
    /// Start a server and two phones on loopback, let them call each other over SRTP, and measure the latency.
    Selftest,
    /// Look into a running server during and after calls and show, claim by claim, that it keeps no audio. It is a server of its
    /// own, beside the real one; with --config, one with the settings of that file which bear on this. Exit 0 if every claim is
    /// shown, 69 if one cannot be shown here (some need root), 70 if one fails.
    Prove(prove::Options),
    /// Write the manual pages, one for each command, into a folder.
    Man(manual::Options),
    /// Print what a shell needs to complete the command line.
    Completions(completions::Options),
    /// Show the version.
    Version,
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    panics::install();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; anything else is the operator's mistake.
            let code = if error.use_stderr() { Failure::Usage(String::new()).exit_code() } else { ExitCode::SUCCESS };
            let _ = error.print();
            return code;
        }
    };
    match execute(cli.command, cli.config.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

/// `named`: by the operator.
fn execute(command: Command, named: Option<&Path>) -> Result<(), Failure> {
    let config = named.unwrap_or_else(|| Path::new(CONFIG_FILE));
    match command {
        Command::Run => run::run(config),
        Command::Check => check::run(config),
        Command::Init(options) => init::run(config, &options),
        Command::User(command) => user::run(config, command),
        Command::Trunk(command) => trunk::run(config, &command),
        Command::Cdr(command) => cdr::run(config, command),
        Command::Token(command) => token::run(config, &command),
        Command::Privacy(command) => privacy::run(config, command),
        Command::Audit(command) => audit::run(config, &command),
        Command::Keys(command) => keys::run(config, &command),
        Command::DialTest(options) => dial_test::run(&options),
        Command::Emergency(command) => emergency::run(config, command),
        Command::RouteTest(options) => route_test::run(config, &options),
        Command::Selftest => selftest::run(),
        Command::Prove(options) => prove::run(named, &options),
        Command::Man(options) => manual::run(&options),
        Command::Completions(options) => completions::run(&options),
        Command::Version => {
            print(concat!("ringdown ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(())
        }
    }
}

/// Loads the configuration and shows its warnings.
fn load(config: &Path) -> Result<Settings, Failure> {
    let settings = Settings::load(config)?;
    show_warnings(config, &settings.warnings);
    Ok(settings)
}

fn show_warnings(config: &Path, warnings: &[Problem]) {
    if !warnings.is_empty() {
        eprintln!("{}", super::settings::report(config, warnings));
    }
}

/// Who types commands on this machine.
fn actor() -> String {
    format!("uid {}", getuid().as_raw())
}

/// Records in the audit log what was ordered on this machine, and whether it was done.
fn record<E>(store: &mut Store, action: &str, subject: Option<&str>, error: Option<&E>) -> Result<(), Failure> {
    let entry = AuditEntry {
        time_ms: Clock::start().now().unix_ms(),
        actor: actor(),
        action: action.to_owned(),
        // What is no name may be anything, even a password in the wrong place.
        subject: subject.filter(|subject| is_plain_name(subject)).map(str::to_owned),
        outcome: if error.is_none() { "done" } else { "failed" }.to_owned(),
        refused: false,
    };
    store.record(&[entry]).map_err(|e| store_failure(&e))
}

/// Writes to standard output. A reader that has gone away (`| head`) has read enough.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_the_command() {
        for arguments in [["ringdown", "--config", "x.toml", "check"], ["ringdown", "check", "--config", "x.toml"]] {
            assert_eq!(Cli::try_parse_from(arguments).unwrap().config.as_deref(), Some(Path::new("x.toml")));
        }
        assert_eq!(Cli::try_parse_from(["ringdown", "run"]).unwrap().config, None);
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains(&format!("[default: {CONFIG_FILE}]")), "{help}");
    }
}
