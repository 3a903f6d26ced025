//! Every step of the decision about a call, in words: by the code that decides, of the configuration alone or of a server as it is now.

use std::fmt::{self, Write as _};

use super::{
    emergency::{self, Class, Decision, Dialled, EmergencyCall, OrdinaryKind, Site, Situation, Source},
    number,
    outside::{self, Standing, Used},
    reach::{self, Arrival},
    routing::{self, Target},
};
use crate::config::{Config, Directory, User};

/// What only a running server knows.
pub trait Present: fmt::Debug {
    /// What is used of a user's limits.
    fn used_by_user(&self, user: &str) -> Used;
    /// What is used of a trunk's limits, by its index.
    fn used_on_trunk(&self, trunk: usize) -> Used;
    fn standing_of(&self, trunk: usize) -> Standing;
    /// How many devices of a user are registered.
    fn devices_of(&self, user: &str) -> usize;
    /// Why no ordinary call is taken now: the phrase of the 503.
    fn refusal(&self) -> Option<&'static str>;
}

/// What a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct World<'w> {
    pub config: &'w Config,
    pub directory: &'w Directory,
    pub site: &'w Site,
    /// `None`: every trunk is up, none is draining, and nothing of any limit is used.
    pub present: Option<&'w dyn Present>,
}

impl World<'_> {
    fn standing(&self, trunk: usize) -> Standing {
        self.present.map_or_else(Standing::default, |present| present.standing_of(trunk))
    }

    fn used_on(&self, trunk: usize) -> Used {
        self.present.map_or_else(Used::default, |present| present.used_on_trunk(trunk))
    }

    fn used_by(&self, user: &User) -> Used {
        self.present.map_or_else(Used::default, |present| present.used_by_user(&user.name))
    }
}

/// Who calls, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Or by extension.
    User(String),
    /// A call that comes in.
    Trunk(String),
}

/// The steps, one a line, the last of them the outcome. `None`: there is no such user or trunk.
pub fn explain(origin: &Origin, dialled: &str, world: &World<'_>) -> Option<String> {
    let mut steps = Steps { text: String::new(), world: *world };
    match origin {
        Origin::User(name) => steps.call_of_user(dialled, world.directory.by_dialled(name)?),
        Origin::Trunk(name) => {
            let source = world.config.trunks.iter().position(|trunk| trunk.name == *name)?;
            steps.call_of_trunk(dialled, source);
        }
    }
    Some(steps.text)
}

const ASSUMED: &str =
    "with every trunk up, none draining and nothing of any limit used (`--now` asks the running server):";

struct Steps<'w> {
    text: String,
    world: World<'w>,
}

impl Steps<'_> {
    fn add(&mut self, step: fmt::Arguments<'_>) {
        writeln!(self.text, "{step}").expect("strings take everything");
    }

    fn call_of_trunk(&mut self, called: &str, source: usize) {
        let World { config, directory, site, .. } = self.world;
        match emergency::classify(called, site) {
            Dialled::Emergency(call) | Dialled::Test(call) => {
                let what = "which no trunk's call ever reaches";
                self.add(format_args!("{} is an emergency number or one for tests, {what}", call.dialled));
                self.add(format_args!("the call is answered 404"));
            }
            Dialled::Ordinary(_) if self.is_refused() => {}
            Dialled::Ordinary(ordinary) => {
                match routing::mapped(ordinary.dialled(), config) {
                    Some((number, entry, numbers)) => {
                        let (kind, name) = entry.to.parts();
                        let map = format_args!("[inbound.{}] leaves {numbers} to the {kind} {name:?}", entry.name);
                        self.add(format_args!("of {number}, {map}"));
                    }
                    None => self.add(format_args!("{} is not in the inbound map", ordinary.dialled())),
                }
                match routing::route(&ordinary, true, config, directory) {
                    Target::Onward { trunk, number } => self.onward(&number, Some(source), trunk),
                    target => self.inside(&target),
                }
            }
        }
    }

    fn call_of_user(&mut self, dialled: &str, user: &User) {
        let World { config, directory, site, .. } = self.world;
        match emergency::classify(dialled, site) {
            Dialled::Emergency(call) => self.emergency(Class::Emergency, &call, user),
            Dialled::Test(call) => self.emergency(Class::Test, &call, user),
            Dialled::Ordinary(_) if self.is_refused() => {}
            Dialled::Ordinary(ordinary) => {
                let region = site.region().code;
                match ordinary.kind() {
                    OrdinaryKind::External(number) => {
                        self.add(format_args!("{dialled} is the outside number {number} in {region}"));
                    }
                    OrdinaryKind::Extension(extension) => {
                        self.add(format_args!("{extension} is an internal number or name"));
                    }
                    OrdinaryKind::Foreign => self.add(format_args!("{dialled} is an address of another domain")),
                    OrdinaryKind::Invalid => self.add(format_args!("{dialled} is no address that can be called")),
                }
                match routing::route(&ordinary, false, config, directory) {
                    Target::Outside(number) => self.outside(&number, user),
                    Target::Onward { trunk, number } => self.onward(&number, None, trunk),
                    target => self.inside(&target),
                }
            }
        }
    }

    /// Whether the server takes no ordinary call.
    fn is_refused(&mut self) -> bool {
        let reason = self.world.present.and_then(Present::refusal);
        if let Some(reason) = reason {
            self.add(format_args!("the server takes no calls now but for help"));
            self.add(format_args!("the call is answered 503 {reason}"));
        }
        reason.is_some()
    }

    fn assume(&mut self) {
        if self.world.present.is_none() {
            self.add(format_args!("{ASSUMED}"));
        }
    }

    fn emergency(&mut self, class: Class, call: &EmergencyCall, user: &User) {
        let what = match class {
            Class::Emergency => "an emergency number",
            Class::Test => "a test number of emergency calls",
        };
        self.add(format_args!("{} is {what}, which no permission, block or limit applies to", call.dialled));
        let (config, line) = (self.world.config, user.direct_line.as_deref());
        let situation = Situation { class, source: Source::AuthenticatedDevice, user: Some(user), line, turn: 0 };
        match emergency::decide(&situation, config, |trunk| self.world.standing(trunk) == Standing::default()) {
            // A test has no priority.
            Decision::Route(_) if class == Class::Test && self.is_refused() => {}
            Decision::Route(route) => {
                self.add(format_args!(
                    "it carries the location {:?} and is called back at {}",
                    route.place.label(),
                    route.callback
                ));
                self.assume();
                for (position, trunk) in (1..).zip(route.trunks) {
                    let state = match self.world.standing(trunk) {
                        Standing { is_draining: true, .. } => ", which is draining",
                        Standing { is_down: true, .. } => ", which is down",
                        Standing { .. } => "",
                    };
                    self.add(format_args!("{position}. over the trunk {:?}{state}", config.trunks[trunk].name));
                }
            }
            Decision::Refuse => self.add(format_args!("the call is refused at once: no trunk for emergency calls")),
            Decision::Challenge | Decision::Loop | Decision::NoTest => {
                self.add(format_args!("the call is answered 404"));
            }
        }
    }

    /// A target that no trunk is needed for.
    fn inside(&mut self, target: &Target) {
        match target {
            Target::User(callee) => self.user(callee),
            Target::Group(index) => {
                let group = &self.world.config.groups[*index];
                self.add(format_args!("it is the ring group {:?} of {}", group.name, group.members.join(", ")));
            }
            Target::Refuse(status, reason) => self.add(format_args!("the call is answered {status} {reason}")),
            Target::Outside(_) | Target::Onward { .. } => {}
        }
    }

    fn user(&mut self, callee: &User) {
        self.add(format_args!("it is the user {} with extension {}", callee.name, callee.extension));
        if let Some(present) = self.world.present {
            self.add(format_args!("{} devices of {} are registered", present.devices_of(&callee.name), callee.name));
        }
        match reach::arrival(callee) {
            Arrival::Ring(_) => self.add(format_args!("the user's devices ring")),
            Arrival::Forward(forward) => self.add(format_args!("the user's calls go to {}", forward.target)),
            Arrival::Refuse(status, reason) => self.add(format_args!("the call is answered {status} {reason}")),
        }
    }

    /// `source`: the trunk that brings the call.
    fn onward(&mut self, number: &str, source: Option<usize>, trunk: usize) {
        self.assume();
        let world @ World { config, site, .. } = self.world;
        let now = (world.used_on(trunk), world.standing(trunk));
        let (parties, mut add) = ((config, site.region()), |step: fmt::Arguments<'_>| self.add(step));
        match outside::onward(number, source, trunk, now, parties, &mut Vec::new(), &mut add) {
            Ok(()) => {
                let trunk = &config.trunks[trunk];
                let sent = number::written(number, trunk.number_form, site.region());
                self.add(format_args!("the trunk {:?} is sent {sent}", trunk.name));
            }
            Err((status, reason)) => self.add(format_args!("the call is answered {status} {reason}")),
        }
    }

    fn outside(&mut self, number: &str, user: &User) {
        self.assume();
        let world @ World { config, site, .. } = self.world;
        let (of_user, on_trunk, standing) =
            (world.used_by(user), |trunk| world.used_on(trunk), |trunk| world.standing(trunk));
        let (parties, mut add) = ((config, site.region()), |step: fmt::Arguments<'_>| self.add(step));
        let allowed = outside::decide(number, &user.name, &of_user, &on_trunk, parties, &mut Vec::new(), &mut add);
        match allowed.and_then(|trunks| outside::available(trunks, number, &standing, parties, &mut add)) {
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

    fn explained_as(origin: &Origin, dialled: &str, present: Option<&dyn Present>) -> Option<String> {
        let (config, directory) = world();
        let site = Site::new(&config, &[]);
        explain(origin, dialled, &World { config: &config, directory: &directory, site: &site, present })
    }

    fn alice() -> Origin {
        Origin::User("alice".to_owned())
    }

    fn explained(dialled: &str) -> String {
        explained_as(&alice(), dialled, None).unwrap()
    }

    /// A server in trouble.
    #[derive(Clone, Copy, Debug, Default)]
    struct Busy {
        standing: Standing,
        refusal: Option<&'static str>,
        costly_calls: usize,
    }

    impl Present for Busy {
        fn used_by_user(&self, _: &str) -> Used {
            Used { costly_calls_in_day: self.costly_calls, ..Used::default() }
        }

        fn used_on_trunk(&self, _: usize) -> Used {
            Used::default()
        }

        fn standing_of(&self, _: usize) -> Standing {
            self.standing
        }

        fn devices_of(&self, _: &str) -> usize {
            2
        }

        fn refusal(&self) -> Option<&'static str> {
            self.refusal
        }
    }

    #[test]
    fn a_running_server_is_explained_as_it_is() {
        let up = Busy::default();
        let draining = Busy { standing: Standing { is_draining: true, is_down: false }, ..up };
        let down = Busy { standing: Standing { is_draining: false, is_down: true }, ..up };
        let full = Busy { refusal: Some("Too Many Calls"), ..up };
        let barred = Busy { costly_calls: 30, ..up };
        let outside = "011442079460123";
        let sent = "the trunk \"carrier\" is sent 011442079460123, as a call of 2025550100";
        for (present, dialled, step, last) in [
            (up, outside, "0 of 30 international and premium calls", sent),
            (
                draining,
                outside,
                "\"carrier\" is draining, and gets no new call",
                "the call is answered 480 Every Trunk Is Draining",
            ),
            (
                draining,
                "988",
                "\"carrier\" is draining, and is tried last",
                "the trunk \"carrier\" is sent 988, as a call of 2025550100",
            ),
            (draining, "911", "911 is an emergency number", "1. over the trunk \"carrier\", which is draining"),
            (down, outside, "\"carrier\" is down, and is tried after the others", sent),
            (down, "911", "911 is an emergency number", "1. over the trunk \"carrier\", which is down"),
            (full, outside, "no calls now but for help", "the call is answered 503 Too Many Calls"),
            (full, "911", "911 is an emergency number", "1. over the trunk \"carrier\""),
            (full, "933", "933 is a test number of emergency calls", "the call is answered 503 Too Many Calls"),
            (
                barred,
                outside,
                "30 of 30 international and premium calls",
                "the call is answered 403 Costly Calls Barred",
            ),
            (barred, "1001", "2 devices of alice are registered", "the user's devices ring"),
        ] {
            let steps = explained_as(&alice(), dialled, Some(&present)).unwrap();
            assert!(steps.contains(step) && !steps.contains(ASSUMED), "{present:?} {dialled}: {steps}");
            assert_eq!(steps.lines().last(), Some(last), "{present:?} {dialled}: {steps}");
        }
        let carrier = Origin::Trunk("carrier".to_owned());
        for (present, called, last) in [
            (draining, "+12025551000", "the call is answered 480 The Trunk Is Draining"),
            (full, "+12025551234", "the call is answered 503 Too Many Calls"),
            (full, "911", "the call is answered 404"),
        ] {
            let steps = explained_as(&carrier, called, Some(&present)).unwrap();
            assert_eq!(steps.lines().last(), Some(last), "{present:?} {called}: {steps}");
        }
    }

    #[test]
    fn who_is_unknown_calls_nobody() {
        for origin in [Origin::User("eve".to_owned()), Origin::Trunk("nobody".to_owned())] {
            assert_eq!(explained_as(&origin, "911", None), None);
        }
    }

    #[test]
    fn each_kind_of_call_from_a_trunk_is_explained_to_its_end() {
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
            let source = Origin::Trunk(["carrier", "branch"][source].to_owned());
            let steps = explained_as(&source, called, None).unwrap();
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
