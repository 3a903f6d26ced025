//! `ringdown emergency`: whether emergency calls can be made, and what they would be.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::acknowledgement;
use crate::{
    call::dry_run::{Rehearsal, rehearse},
    config::{Config, Directory, Forwarding, Place, User},
    policy::emergency::{self, Site},
    shell::{
        admin::{EMERGENCY_PATH, TEST_CALL_PATH, TestCallOrder, client::Client},
        clock::Clock,
        entropy,
        failure::Failure,
        run,
    },
    types::Secret,
    wire::sip::digest::Credential,
};

/// Who dials where no user is named.
const SOMEBODY: &str = "extension-only";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask the running server whether emergency calls can be made, and what they carry.
    Status(StatusOptions),
    /// Let the running server call the carrier's test number and say who answered; nobody's telephone rings.
    TestCall,
    /// Record that users have acknowledged the notice: what emergency calls of their telephones report, or that there are none.
    /// It must be shown to a user before a telephone is used, and again when it has changed.
    Acknowledge {
        /// Names of the users.
        #[arg(required = true, value_name = "NAME")]
        users: Vec<String>,
    },
    /// Show the notice, and who has acknowledged it, when, and by whom that was recorded.
    Acknowledgements {
        /// Only users who have not acknowledged it as it is now.
        #[arg(long)]
        missing: bool,
    },
    /// Show the INVITE of each emergency number that would leave, or the refusal, without calling anybody.
    DryRun(DryRunOptions),
}

#[derive(Debug, Args)]
pub(super) struct StatusOptions {
    /// As this user sees it.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DryRunOptions {
    /// Who dials; without it, somebody without a direct line.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What is dialled; without it, every emergency and test number of the region, and urn:service:sos.
    number: Option<String>,
}

pub(super) fn run(config_file: &std::path::Path, command: Command) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    match command {
        Command::Status(options) => status(&settings.config, &options),
        Command::TestCall => test_call(&settings.config),
        Command::Acknowledge { users } => acknowledgement::acknowledge(&settings.config, &users),
        Command::Acknowledgements { missing } => acknowledgement::list(&settings.config, missing),
        Command::DryRun(options) => dry_run(&settings.config, &options),
    }
}

// What the server says.

/// The reply of the admin API, as far as people want it.
#[derive(Debug, Deserialize)]
struct Reply {
    available: bool,
    explanation: String,
    region: String,
    numbers: Vec<String>,
    test_numbers: Vec<String>,
    address: String,
    trunks: Vec<String>,
    by_number: BTreeMap<String, Vec<String>>,
    trunk_states: Option<Vec<String>>,
    notify: Vec<String>,
    erl: String,
    callback: Option<String>,
    notice: String,
    acknowledged: Option<Acknowledged>,
    acknowledgement: Option<Acknowledgement>,
}

#[derive(Debug, Deserialize)]
struct Acknowledged {
    users: u32,
    acknowledged: u32,
}

#[derive(Debug, Deserialize)]
struct Acknowledgement {
    is_current: bool,
    time: String,
    recorded_by: String,
}

/// Fails unless a carrier has answered.
fn test_call(config: &Config) -> Result<(), Failure> {
    let server = Client::of(config)?;
    let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {server}: {cause}."));
    let answer = server.post(TEST_CALL_PATH, &TestCallOrder {}).map_err(|cause| unavailable(&cause))?;
    let tested: Tested = match answer {
        (200, body) => serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string()))?,
        (404, _) => {
            let cause = "no trunk carries emergency calls, or no number to test with is known (emergency.test_numbers)";
            return Err(Failure::Usage(format!("{cause}.")));
        }
        (409, _) => return Err(unavailable("another test call is being made")),
        (503, _) => return Err(unavailable("it is busy; try again")),
        (other, _) => return Err(unavailable(&format!("it answered {other}"))),
    };
    let Tested { dialed, is_answered, trunk, status, reason, setup_ms } = tested;
    let trunk = trunk.as_deref().unwrap_or("no trunk");
    match setup_ms.filter(|_| is_answered) {
        Some(setup_ms) => {
            super::print(&format!("{dialed} was answered over {trunk} after {setup_ms} ms\n"));
            Ok(())
        }
        None => Err(Failure::Unavailable(format!(
            "{dialed} was not answered; the last answer of {trunk}: {status} {reason}."
        ))),
    }
}

/// The reply of the admin API.
#[derive(Debug, Deserialize)]
struct Tested {
    dialed: String,
    is_answered: bool,
    trunk: Option<String>,
    status: u16,
    reason: String,
    setup_ms: Option<u64>,
}

fn status(config: &Config, options: &StatusOptions) -> Result<(), Failure> {
    let reply = ask(&Client::of(config)?, options.user.as_deref())?;
    super::print(&reply.text(options.user.is_some()));
    Ok(())
}

fn ask(server: &Client, user: Option<&str>) -> Result<Reply, Failure> {
    let unavailable = |cause: &str| Failure::Unavailable(format!("the server at {server}: {cause}."));
    if let Some(user) = user.filter(|user| !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))) {
        return Err(no_such_user(user));
    }
    let path = user.map_or_else(|| EMERGENCY_PATH.to_owned(), |user| format!("{EMERGENCY_PATH}?user={user}"));
    let (status, body) = server.get(&path).map_err(|cause| unavailable(&cause))?;
    match status {
        200 => serde_json::from_str(&body).map_err(|e| unavailable(&e.to_string())),
        404 => Err(no_such_user(user.unwrap_or_default())),
        other => Err(unavailable(&format!("it answered {other}"))),
    }
}

fn no_such_user(name: &str) -> Failure {
    Failure::Usage(format!("there is no user `{name}`."))
}

impl Reply {
    fn text(&self, is_of_user: bool) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| writeln!(out, "{name:<14} {value}").expect("strings take everything");
        line("emergency", if self.available { "available" } else { "REFUSED" });
        line("because", &self.explanation);
        line("region", &format!("{}: {}", self.region, self.numbers.join(", ")));
        line("tests", &list(&self.test_numbers));
        line("location", if self.erl == "private" { "the private address of this line" } else { &self.address });
        line("callback", self.callback.as_deref().unwrap_or("-"));
        for (index, trunk) in self.trunks.iter().enumerate() {
            let state = self.trunk_states.as_ref().and_then(|states| states.get(index));
            let state = state.map_or("unknown", String::as_str);
            let by_number = self.by_number.get(trunk).map_or_else(String::new, |numbers| {
                format!("; location by number: the carrier has registered the company's address for {}", list(numbers))
            });
            line(&format!("trunk {}", index + 1), &format!("{trunk}: {state}{by_number}"));
        }
        line("told", &list(&self.notify));
        line("notice", &self.notice);
        line("acknowledged", &self.acknowledged(is_of_user));
        out
    }

    /// Whether the user has acknowledged the notice, or how many users have.
    fn acknowledged(&self, is_of_user: bool) -> String {
        match (&self.acknowledgement, &self.acknowledged) {
            (_, None) => "unknown".to_owned(),
            (Some(known), _) if known.is_current => format!("{} (recorded by {})", known.time, known.recorded_by),
            (Some(known), _) => format!("no; an earlier notice on {}", known.time),
            (None, _) if is_of_user => "no".to_owned(),
            (None, Some(all)) if all.acknowledged == all.users => format!("by all {} users", all.users),
            (None, Some(all)) => format!(
                "by {} of {} users; `ringdown emergency acknowledgements --missing` names the others",
                all.acknowledged, all.users
            ),
        }
    }
}

fn list(texts: &[String]) -> String {
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

// What would happen.

fn dry_run(config: &Arc<Config>, options: &DryRunOptions) -> Result<(), Failure> {
    let mut store = run::open_store(config)?;
    let directory = store.directory().map_err(|e| run::store_failure(&e))?;
    let user = options.user.as_deref().unwrap_or(SOMEBODY);
    if options.user.is_some() && directory.by_name(user).is_none() {
        return Err(no_such_user(user));
    }
    let directory = Arc::new(with_somebody(&directory));
    let numbers = options.number.clone().map_or_else(|| every_number(config), |number| vec![number]);
    for number in &numbers {
        super::print(&rehearsal(config, &directory, user, number));
    }
    Ok(())
}

fn with_somebody(directory: &Directory) -> Directory {
    let somebody = User {
        name: SOMEBODY.to_owned(),
        extension: SOMEBODY.to_owned(),
        direct_line: None,
        credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
        forwarding: Forwarding::default(),
        place: Place::default(),
    };
    Directory::new(directory.iter().map(|user| User::clone(user)).chain([somebody]))
}

fn every_number(config: &Config) -> Vec<String> {
    let site = Site::new(config, &[]);
    let numbers = site.numbers().chain(site.test_numbers()).chain(["urn:service:sos"]);
    numbers.map(str::to_owned).collect()
}

/// Headed by a line that says what it is.
fn rehearsal(config: &Arc<Config>, directory: &Arc<Directory>, user: &str, number: &str) -> String {
    let region = &config.company.region;
    let (what, message) = match rehearse(Clock::start().now(), (config, directory), user, number, entropy::rng()) {
        Rehearsal::Invite(bytes) => {
            let trunks = emergency::eligible_trunks(config);
            let names: Vec<_> = trunks.iter().map(|index| config.trunks[*index].name.as_str()).collect();
            (format!("first trunk of {}", names.join(", ")), bytes)
        }
        Rehearsal::Refusal(status, bytes) => (format!("refused with {status}"), bytes),
        Rehearsal::Nothing => ("no trunk can be reached from the addresses in [sip]".to_owned(), bytes::Bytes::new()),
    };
    format!("== {region} {number} dialed by {user}: {what}\n{}\n", String::from_utf8_lossy(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPANY: &str = "[server]\ndomain = \"pbx.example.com\"\n[company]\nname = \"x\"\nregion = \"US\"\n";
    const TRUNK: &str = "address = { country = \"US\", A1 = \"DC\", RD = \"Example\", HNO = \"500\", PC = \"20001\" }\n\
                         [emergency]\ncallback_numbers = [\"+12025550100\"]\n[trunk.a]\nhost = \"sip.carrier.example\"\n\
                         numbers = [\"+12025550100\"]\n";

    fn rehearsed(more: &str) -> String {
        let config = Arc::new(crate::config::parse(&format!("{COMPANY}{more}")).unwrap().0);
        let directory = Arc::new(with_somebody(&Directory::default()));
        every_number(&config).iter().map(|number| rehearsal(&config, &directory, SOMEBODY, number)).collect()
    }

    #[test]
    fn every_number_has_its_invite_or_its_refusal() {
        let routed = rehearsed(TRUNK);
        for number in ["911", "112", "933", "urn:service:sos"] {
            assert!(
                routed.contains(&format!("== US {number} dialed by extension-only: first trunk of a\n")),
                "{routed}"
            );
        }
        assert_eq!(routed.matches("\nINVITE sip:911@").count(), 3, "{routed}");
        assert_eq!(routed.matches("\nINVITE sip:933@").count(), 1);
        let refused = rehearsed("");
        assert_eq!(refused.matches("refused with 403\n").count(), 3, "{refused}");
        assert_eq!(refused.matches("refused with 404\n").count(), 1);
    }

    #[test]
    fn a_status_is_for_people() {
        let json = r#"{"available":true,"explanation":"a trunk","region":"US","numbers":["911","112"],"test_numbers":["933"],
            "address":"Example Corp, 500 Example Avenue","trunks":["a","b"],"by_number":{"b":["+12025550100"]},"trunk_states":["up","draining"],
            "notify":[],"erl":"company","callback":"+12025550100","notice":"n","acknowledged":{"users":12,"acknowledged":10}}"#;
        let text = serde_json::from_str::<Reply>(json).unwrap().text(false);
        for line in [
            "emergency      available",
            "region         US: 911, 112",
            "location       Example Corp, 500 Example Avenue",
            "trunk 1        a: up",
            "trunk 2        b: draining; location by number: the carrier has registered the company's address for +12025550100",
            "told           -",
            "acknowledged   by 10 of 12 users; `ringdown emergency acknowledgements --missing` names the others",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_status_tells_whether_a_user_has_acknowledged_the_notice() {
        let reply = |acknowledgement: &str, acknowledged: &str| {
            let json = format!(
                r#"{{"available":false,"explanation":"","region":"US","numbers":[],"test_numbers":[],"address":"","trunks":[],
                "by_number":{{}},"trunk_states":null,"notify":[],"erl":"company","callback":null,"notice":"n",
                "acknowledged":{acknowledged},"acknowledgement":{acknowledgement}}}"#
            );
            serde_json::from_str::<Reply>(&json).unwrap()
        };
        let coverage = |acknowledged: u32| format!(r#"{{"users":2,"acknowledged":{acknowledged}}}"#);
        let of = |is_current: bool| {
            format!(r#"{{"notice":"x","is_current":{is_current},"time":"2026-01-31","recorded_by":"portal"}}"#)
        };
        for (acknowledgement, acknowledged, is_of_user, text) in [
            (of(true), coverage(1), true, "2026-01-31 (recorded by portal)"),
            (of(false), coverage(1), true, "no; an earlier notice on 2026-01-31"),
            ("null".to_owned(), coverage(1), true, "no"),
            ("null".to_owned(), coverage(2), false, "by all 2 users"),
            ("null".to_owned(), "null".to_owned(), false, "unknown"),
        ] {
            assert_eq!(reply(&acknowledgement, &acknowledged).acknowledged(is_of_user), text);
        }
    }
}
