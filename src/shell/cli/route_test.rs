//! `ringdown route-test`: every step of the server's decision about a call, in words, by the code that the server runs.

use std::{fmt::Write as _, path::Path};

use clap::Args;

use crate::{
    config::{Config, Directory, User},
    policy::{
        emergency::{self, Class, Decision, Dialled, EmergencyCall, OrdinaryKind, Site, Situation, Source},
        number,
        outside::{self, Used},
        reach::{self, Arrival},
        routing::{self, Target},
    },
    shell::{failure::Failure, run},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Name or extension of the user who calls.
    #[arg(long, value_name = "USER", required_unless_present = "trunk", conflicts_with = "trunk")]
    from: Option<String>,
    /// Name of the trunk that brings the call.
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    /// What is dialled, or what the trunk asks for: a number, a name or a SIP URI.
    number: String,
}

pub(super) fn run(config_file: &Path, options: &Options) -> Result<(), Failure> {
    let settings = super::load(config_file)?;
    let config = &settings.config;
    let (directory, _) = run::load_directory(&mut run::open_store(config)?, config)?;
    let explained = match (&options.from, &options.trunk) {
        (_, Some(name)) => {
            let trunk = config.trunks.iter().position(|trunk| trunk.name == *name);
            let trunk = trunk.ok_or_else(|| Failure::Usage(format!("there is no trunk `{name}`.")))?;
            explain_inbound(&options.number, trunk, config, &directory)
        }
        (from, None) => {
            let from = from.as_deref().unwrap_or_default();
            let user = directory.by_dialled(from);
            let user = user.ok_or_else(|| Failure::Usage(format!("there is no user `{from}`.")))?;
            explain(&options.number, user, config, &directory)
        }
    };
    super::print(&explained);
    Ok(())
}

fn site(config: &Config) -> Site {
    let listening = [&config.sip.udp, &config.sip.tcp, &config.sip.tls].into_iter().flatten();
    let own: Vec<_> = listening.map(|address| address.ip()).chain(config.media.addresses.iter().copied()).collect();
    Site::new(config, &own)
}

/// As [`explain`], of a call that a trunk brings.
fn explain_inbound(called: &str, source: usize, config: &Config, directory: &Directory) -> String {
    let site = site(config);
    let mut steps = Steps(String::new());
    match emergency::classify(called, &site) {
        Dialled::Emergency(call) | Dialled::Test(call) => {
            let what = "which no trunk's call ever reaches";
            steps.add(format_args!("{} is an emergency number or one for tests, {what}", call.dialled));
            steps.add(format_args!("the call is answered 404"));
        }
        Dialled::Ordinary(ordinary) => {
            match routing::mapped(ordinary.dialled(), config) {
                Some((number, entry, numbers)) => {
                    let (kind, name) = entry.to.parts();
                    let map = format_args!("[inbound.{}] leaves {numbers} to the {kind} {name:?}", entry.name);
                    steps.add(format_args!("of {number}, {map}"));
                }
                None => steps.add(format_args!("{} is not in the inbound map", ordinary.dialled())),
            }
            match routing::route(&ordinary, true, config, directory) {
                Target::Onward { trunk, number } => steps.onward(&number, Some(source), trunk, config, &site),
                target => steps.inside(&target, config),
            }
        }
    }
    steps.0
}

/// The steps, one a line, the last of them the outcome.
fn explain(dialled: &str, user: &User, config: &Config, directory: &Directory) -> String {
    let site = site(config);
    let mut steps = Steps(String::new());
    match emergency::classify(dialled, &site) {
        Dialled::Emergency(call) => steps.emergency(Class::Emergency, &call, user, config),
        Dialled::Test(call) => steps.emergency(Class::Test, &call, user, config),
        Dialled::Ordinary(ordinary) => {
            let region = site.region().code;
            match ordinary.kind() {
                OrdinaryKind::External(number) => {
                    steps.add(format_args!("{dialled} is the outside number {number} in {region}"));
                }
                OrdinaryKind::Extension(extension) => {
                    steps.add(format_args!("{extension} is an internal number or name"))
                }
                OrdinaryKind::Foreign => steps.add(format_args!("{dialled} is an address of another domain")),
                OrdinaryKind::Invalid => steps.add(format_args!("{dialled} is no address that can be called")),
            }
            match routing::route(&ordinary, false, config, directory) {
                Target::Outside(number) => steps.outside(&number, user, config, &site),
                Target::Onward { trunk, number } => steps.onward(&number, None, trunk, config, &site),
                target => steps.inside(&target, config),
            }
        }
    }
    steps.0
}

/// What only a running server knows.
const ASSUMED: &str =
    "with every trunk up, none draining and nothing of any limit used (`ringdown trunk list` says how they are):";

struct Steps(String);

impl Steps {
    fn add(&mut self, step: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{step}").expect("strings take everything");
    }

    fn emergency(&mut self, class: Class, call: &EmergencyCall, user: &User, config: &Config) {
        let what = match class {
            Class::Emergency => "an emergency number",
            Class::Test => "a test number of emergency calls",
        };
        self.add(format_args!("{} is {what}, which no permission, block or limit applies to", call.dialled));
        let line = user.direct_line.as_deref();
        let situation = Situation { class, source: Source::AuthenticatedDevice, user: Some(user), line, turn: 0 };
        match emergency::decide(&situation, config, |_| true) {
            Decision::Route(route) => {
                self.add(format_args!(
                    "it carries the location {:?} and is called back at {}",
                    route.place.label(),
                    route.callback
                ));
                self.add(format_args!("{ASSUMED}"));
                for (position, trunk) in (1..).zip(route.trunks) {
                    self.add(format_args!("{position}. over the trunk {:?}", config.trunks[trunk].name));
                }
            }
            Decision::Refuse => self.add(format_args!("the call is refused at once: no trunk for emergency calls")),
            Decision::Challenge | Decision::Loop | Decision::NoTest => {
                self.add(format_args!("the call is answered 404"));
            }
        }
    }

    /// A target that no trunk is needed for.
    fn inside(&mut self, target: &Target, config: &Config) {
        match target {
            Target::User(callee) => self.user(callee),
            Target::Group(index) => {
                let group = &config.groups[*index];
                self.add(format_args!("it is the ring group {:?} of {}", group.name, group.members.join(", ")));
            }
            Target::Refuse(status, reason) => self.add(format_args!("the call is answered {status} {reason}")),
            Target::Outside(_) | Target::Onward { .. } => {}
        }
    }

    /// As with nothing of any limit used. `source`: the trunk that brings the call.
    fn onward(&mut self, number: &str, source: Option<usize>, trunk: usize, config: &Config, site: &Site) {
        self.add(format_args!("{ASSUMED}"));
        let (parties, mut add) = ((config, site.region()), |step: std::fmt::Arguments<'_>| self.add(step));
        match outside::onward(number, source, trunk, Used::default(), parties, &mut Vec::new(), &mut add) {
            Ok(()) => {
                let trunk = &config.trunks[trunk];
                let sent = number::written(number, trunk.number_form, site.region());
                self.add(format_args!("the trunk {:?} is sent {sent}", trunk.name));
            }
            Err((status, reason)) => self.add(format_args!("the call is answered {status} {reason}")),
        }
    }

    fn user(&mut self, callee: &User) {
        self.add(format_args!("it is the user {} with extension {}", callee.name, callee.extension));
        match reach::arrival(callee) {
            Arrival::Ring(_) => self.add(format_args!("the user's devices ring")),
            Arrival::Forward(forward) => self.add(format_args!("the user's calls go to {}", forward.target)),
            Arrival::Refuse(status, reason) => self.add(format_args!("the call is answered {status} {reason}")),
        }
    }

    /// As with nothing of any limit used.
    fn outside(&mut self, number: &str, user: &User, config: &Config, site: &Site) {
        self.add(format_args!("{ASSUMED}"));
        let unused = |_| Used::default();
        let (parties, mut add) = ((config, site.region()), |step: std::fmt::Arguments<'_>| self.add(step));
        match outside::decide(number, &user.name, &Used::default(), &unused, parties, &mut Vec::new(), &mut add) {
            Ok(trunks) => {
                if let Some(first) = trunks.first().map(|index| &config.trunks[*index]) {
                    let sent = number::written(number, first.number_form, site.region());
                    let line = user.direct_line.as_ref().or_else(|| first.numbers.first());
                    let line = line.map_or_else(
                        || user.extension.clone(),
                        |line| number::written(line, first.number_form, site.region()),
                    );
                    self.add(format_args!("the trunk {:?} is sent {sent}, as a call of {line}", first.name));
                }
            }
            Err(denial) => {
                let (status, reason) = denial.answer();
                self.add(format_args!("the call is answered {status} {reason}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, parse},
        types::Secret,
        wire::sip::digest::Credential,
    };

    const CONFIG: &str = r#"
        [company]
        name = "Example Corp"
        region = "US"
        address = { country = "US", A1 = "DC", A3 = "Washington", RD = "Example", HNO = "500", PC = "20001" }
        [emergency]
        callback_numbers = ["+12025550100"]
        [trunk.carrier]
        host = "carrier.example"
        numbers = ["+12025550100"]
        number_form = "national"
        rates = { "+1" = "0.01", "+44" = "0.03" }
        [trunk.branch]
        host = "branch.example"
        pstn = false
        [inbound.branch]
        numbers = ["+12025551*"]
        to = "trunk:branch"
        [inbound.alice]
        numbers = ["+12025551234"]
        to = "user:alice"
    "#;

    fn world() -> (Config, Directory) {
        let config = parse(CONFIG).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let user = |name: &str, extension: &str, always: Option<&str>| User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: None,
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding { always: always.map(str::to_owned), ..Forwarding::default() },
            place: Place::default(),
        };
        let directory = Directory::new([user("alice", "1001", None), user("bob", "1002", Some("1001"))]);
        (config, directory)
    }

    fn explained(dialled: &str) -> String {
        let (config, directory) = world();
        explain(dialled, directory.by_name("alice").unwrap(), &config, &directory)
    }

    #[test]
    fn each_kind_of_call_from_a_trunk_is_explained_to_its_end() {
        let (config, directory) = world();
        for (source, called, step, last) in [
            (0, "911", "911 is an emergency number", "the call is answered 404"),
            (
                0,
                "2025551000",
                "of +12025551000, [inbound.branch] leaves +12025551* to the trunk \"branch\"",
                "the trunk \"branch\" is sent +12025551000",
            ),
            (1, "+12025551000", "it came from the trunk \"branch\"", "the call is answered 482 Loop Detected"),
            (
                0,
                "+12025551234",
                "of +12025551234, [inbound.alice] leaves +12025551234 to the user \"alice\"",
                "the user's devices ring",
            ),
            (0, "1001", "1001 is not in the inbound map", "the call is answered 404 No Such Direct Line"),
        ] {
            let steps = explain_inbound(called, source, &config, &directory);
            assert!(steps.contains(step), "{called}: {steps}");
            assert_eq!(steps.lines().last(), Some(last), "{called}: {steps}");
        }
    }

    #[test]
    fn each_kind_of_call_is_explained_to_its_end() {
        for (dialled, step, last) in [
            ("911", "911 is an emergency number", "1. over the trunk \"carrier\""),
            ("1001", "it is the user alice with extension 1001", "the user's devices ring"),
            ("1002", "it is the user bob with extension 1002", "the user's calls go to 1001"),
            ("1003", "1003 is an internal number or name", "the call is answered 404 No Such Extension"),
            ("sip:x@elsewhere.example", "is an address of another domain", "the call is answered 404 Not Our Domain"),
            (
                "011442079460123",
                "1. over the trunk \"carrier\" at 0.03 a minute",
                "the trunk \"carrier\" is sent 011442079460123, as a call of 2025550100",
            ),
            (
                "+19005550100",
                "[calling] does not allow premium",
                "the call is answered 403 Premium Numbers Not Allowed",
            ),
            (
                "+33142685300",
                "the trunk \"carrier\" has no rate for it",
                "the call is answered 404 No Trunk For This Number",
            ),
        ] {
            let steps = explained(dialled);
            assert_eq!(steps.contains(ASSUMED), steps.contains("trunk"), "{dialled}: {steps}");
            assert!(steps.contains(step), "{dialled}: {steps}");
            assert_eq!(steps.lines().last(), Some(last), "{dialled}: {steps}");
        }
    }
}
