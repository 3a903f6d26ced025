//! The inbound map: what its tables hold, and how they agree with each other, with other numbers and with their targets.

use super::{
    Config, Directory, Problem, Severity, checks,
    reader::{Fault, Section},
    value,
};
use crate::{policy::inbound::Numbers, types::limits::INBOUND_NUMBERS_MAX};

/// `[inbound.NAME]`: where calls to these numbers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    pub name: String,
    pub numbers: Vec<Numbers>,
    pub to: InboundTarget,
    lines: Lines,
}

/// Where the values stand in the file, 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lines {
    numbers: usize,
    to: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundTarget {
    /// By name.
    User(String),
    Group(String),
    /// With the number as it was called.
    Trunk(String),
}

impl InboundTarget {
    /// What it is, and its name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::User(name) => ("user", name),
            Self::Group(name) => ("group", name),
            Self::Trunk(name) => ("trunk", name),
        }
    }
}

pub(super) fn read(mut root: Section<'_>) -> Vec<Inbound> {
    let mut count = 0_usize;
    let mut map = Vec::new();
    for (name, section) in root.named_sections() {
        let entry = entry(name, section, &mut count);
        map.extend(entry);
    }
    map
}

fn entry(name: String, mut section: Section<'_>, count: &mut usize) -> Option<Inbound> {
    if let Err(Fault { what, remedy }) = value::token(&name) {
        section.error("", format!("the name {name:?} {what}"), remedy);
    }
    let numbers = section.texts("numbers", numbers).unwrap_or_default();
    if !section.has("numbers") {
        section.error("numbers", "this key is missing", "numbers = [\"+12025550170\"]");
    } else if section.is_empty_list("numbers") {
        section.error("numbers", "the list is empty", "at least one number, range or beginning");
    }
    *count += numbers.len();
    if *count > INBOUND_NUMBERS_MAX {
        let message = format!("{count} numbers, ranges and beginnings are in the map so far");
        section.error("numbers", message, format!("at most {INBOUND_NUMBERS_MAX}: ranges instead of single numbers"));
    }
    let to = section.text("to", target);
    if !section.has("to") {
        section.error("to", "this key is missing", TARGETS);
    }
    let lines = Lines { numbers: section.line_of("numbers"), to: section.line_of("to") };
    section.finish();
    to.map(|to| Inbound { name, numbers, to, lines })
}

const TARGETS: &str = "\"user:alice\", \"group:sales\" or \"trunk:branch\"";

fn target(text: &str) -> Result<InboundTarget, Fault> {
    let fault = || Fault::new("is no target", TARGETS);
    let (kind, name) = text.split_once(':').ok_or_else(fault)?;
    let name = value::token(name).map_err(|_| fault())?;
    match kind {
        "user" => Ok(InboundTarget::User(name)),
        "group" => Ok(InboundTarget::Group(name)),
        "trunk" => Ok(InboundTarget::Trunk(name)),
        _ => Err(fault()),
    }
}

fn numbers(text: &str) -> Result<Numbers, Fault> {
    let remedy = "\"+12025550170\", \"+12025550170-+12025550179\" or \"+1202555*\"";
    Numbers::parse(text).map_err(|what| Fault::new(what, remedy))
}

/// What entries must not share with each other, with groups, telephone systems and emergency numbers, and targets that are
/// not there.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let emergency = checks::EmergencyNumbers::of(config);
    let mut problems = Vec::new();
    for (index, entry) in config.inbound.iter().enumerate() {
        for (place, numbers) in entry.numbers.iter().enumerate() {
            let mut error = |message: String, remedy: &str| {
                problems.push(entry.error("numbers", entry.lines.numbers, message, remedy))
            };
            if let Some((other, theirs)) =
                conflict(numbers, &config.inbound[..index], &entry.numbers[..place], &entry.name)
            {
                let message = format!("\"{numbers}\" and \"{theirs}\" of [inbound.{other}] share numbers");
                error(message, "numbers of its own, or a range within the other one");
            }
            if let Some(message) = emergency.as_ref().and_then(|known| numbers_of_emergency(known, numbers)) {
                error(message, "another number: no call to an emergency number is ever sent anywhere else");
            }
            let Some(single) = numbers.single() else { continue };
            if let Some(group) = config.groups.iter().find(|group| group.direct_line.as_deref() == Some(single)) {
                error(format!("{single:?} is already a number of [group.{}]", group.name), "another number");
            }
            if let Some(pbx) = config.pbx_with(single) {
                let message = format!("{single:?} is already a number of the telephone system {:?}", pbx.user);
                error(message, "another number");
            }
        }
        problems.extend(missing_target(config, entry));
    }
    problems
}

fn conflict<'e>(
    numbers: &Numbers,
    earlier: &'e [Inbound],
    own: &'e [Numbers],
    name: &'e str,
) -> Option<(&'e str, &'e Numbers)> {
    let others = earlier.iter().flat_map(|other| other.numbers.iter().map(move |theirs| (other.name.as_str(), theirs)));
    others.chain(own.iter().map(|theirs| (name, theirs))).find(|(_, theirs)| numbers.conflicts_with(theirs))
}

fn numbers_of_emergency(known: &checks::EmergencyNumbers, numbers: &Numbers) -> Option<String> {
    match numbers {
        Numbers::Range { first, last } => known.complaint(first).or_else(|| known.complaint(last)),
        Numbers::Prefix(_) => None,
    }
}

fn missing_target(config: &Config, entry: &Inbound) -> Option<Problem> {
    let (message, remedy) = match &entry.to {
        // Who the users are, the file does not know.
        InboundTarget::User(_) => return None,
        InboundTarget::Group(name) if config.groups.iter().any(|group| group.name == *name) => return None,
        InboundTarget::Group(name) => (format!("there is no [group.{name}]"), "the name of a ring group"),
        InboundTarget::Trunk(name) => match config.trunks.iter().find(|trunk| trunk.name == *name) {
            None => (format!("there is no [trunk.{name}]"), "the name of a trunk"),
            Some(trunk) if trunk.is_enabled => return None,
            Some(_) => (format!("the trunk {name:?} is not enabled"), "enabled = true there, or another trunk"),
        },
    };
    Some(entry.error("to", entry.lines.to, message, remedy))
}

/// Entries for users who are not there.
pub(super) fn missing_users(config: &Config, directory: &Directory) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in &config.inbound {
        if let InboundTarget::User(name) = &entry.to
            && directory.by_name(name).is_none()
        {
            let message = format!("{name:?} is no user: calls to these numbers are answered 404");
            let remedy = "a name of `ringdown user list`";
            problems
                .push(Problem { severity: Severity::Warning, ..entry.error("to", entry.lines.to, message, remedy) });
        }
    }
    problems
}

/// Numbers that the map and a user both claim.
pub(super) fn shared_with_users(config: &Config, directory: &Directory) -> Vec<Problem> {
    let mut problems = Vec::new();
    for entry in &config.inbound {
        for single in entry.numbers.iter().filter_map(Numbers::single) {
            if let Some(user) = directory.by_direct_line(single) {
                let message = format!("{single:?} is already a number of the user {:?}", user.name);
                problems.push(entry.error("numbers", entry.lines.numbers, message, "another number"));
            }
        }
    }
    problems
}

impl Inbound {
    fn error(&self, key: &str, line: usize, message: String, remedy: &str) -> Problem {
        let key = format!("inbound.{}.{key}", self.name);
        Problem { severity: Severity::Error, line, key, message, remedy: remedy.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";

    /// `line key: message` of every problem of a text that begins on line 4.
    fn problems(text: &str) -> Vec<String> {
        let found = match parse(&format!("{COMPANY}{text}")) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        assert!(found.iter().all(|p| !p.remedy.is_empty()), "{found:?}");
        found.into_iter().map(|p| format!("{} {}: {}", p.line, p.key, p.message)).collect()
    }

    fn entry(name: &str, numbers: &str, to: &str) -> String {
        format!("[inbound.{name}]\nnumbers = [{numbers}]\nto = \"{to}\"\n")
    }

    #[test]
    fn an_entry_holds_numbers_ranges_and_beginnings_and_one_target() {
        let text = entry("a", "\"+12025550170\", \"+12025550180-+12025550189\", \"+1202556*\"", "user:alice");
        let config = parse(&format!("{COMPANY}{text}")).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let [inbound] = config.inbound.as_slice() else { panic!("{:?}", config.inbound) };
        assert_eq!((inbound.numbers.len(), inbound.to.parts()), (3, ("user", "alice")));
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let one = entry("a", "\"+12025550170\"", "user:alice");
        let range = entry("b", "\"+12025550165-+12025550175\"", "user:bob");
        for (text, expected) in [
            ("[inbound.a]\nto = \"user:alice\"\n".to_owned(), "4 inbound.a.numbers: this key is missing"),
            ("[inbound.a]\nnumbers = [\"+12025550170\"]\n".to_owned(), "4 inbound.a.to: this key is missing"),
            (entry("a", "", "user:alice"), "5 inbound.a.numbers: the list is empty"),
            (entry("a", "\"+12025550170\"", "911"), "6 inbound.a.to: \"911\" is no target"),
            (entry("a", "\"+12025550170\"", "number:911"), "6 inbound.a.to: \"number:911\" is no target"),
            (
                entry("a", "\"2025550170\"", "user:alice"),
                "5 inbound.a.numbers: \"2025550170\" is neither a number nor a range nor the beginning of numbers",
            ),
            (entry("a", "\"+12025550170\"", "group:sales"), "6 inbound.a.to: there is no [group.sales]"),
            (entry("a", "\"+12025550170\"", "trunk:branch"), "6 inbound.a.to: there is no [trunk.branch]"),
            (
                format!("{one}{}", entry("b", "\"+12025550170\"", "user:bob")),
                "8 inbound.b.numbers: \"+12025550170\" and \"+12025550170\" of [inbound.a] share numbers",
            ),
            (
                format!("{range}{}", entry("c", "\"+12025550170-+12025550180\"", "user:bob")),
                "8 inbound.c.numbers: \"+12025550170-+12025550180\" and \"+12025550165-+12025550175\" of [inbound.b] \
                 share numbers",
            ),
            (
                format!("{one}[group.s]\nextension = \"600\"\nmembers = [\"x\"]\ndirect_line = \"+12025550170\"\n"),
                "5 inbound.a.numbers: \"+12025550170\" is already a number of [group.s]",
            ),
            (
                format!("{one}[pbx.p]\nuser = \"p\"\nnumbers = [\"+12025550170\"]\n"),
                "5 inbound.a.numbers: \"+12025550170\" is already a number of the telephone system \"p\"",
            ),
        ] {
            assert_eq!(problems(&text), [expected], "{text}");
        }
        assert_eq!(problems(&format!("{one}{range}")), Vec::<String>::new(), "one within the other");
    }

    #[test]
    fn a_trunk_that_is_off_is_no_target() {
        let trunk = "[trunk.branch]\nhost = \"b.example\"\npstn = false\nenabled = false\n";
        let text = format!("{trunk}{}", entry("a", "\"+12025550170\"", "trunk:branch"));
        assert_eq!(problems(&text), ["10 inbound.a.to: the trunk \"branch\" is not enabled"]);
        assert_eq!(problems(&text.replace("enabled = false", "enabled = true")), Vec::<String>::new());
    }

    #[test]
    fn the_last_number_there_is_room_for_is_taken_and_no_further_one() {
        let numbers = |n: usize| (0..n).map(|i| format!("\"+1202555{i:04}\"")).collect::<Vec<_>>().join(",");
        assert_eq!(problems(&entry("a", &numbers(INBOUND_NUMBERS_MAX), "user:x")), Vec::<String>::new());
        let found = problems(&entry("a", &numbers(INBOUND_NUMBERS_MAX + 1), "user:x"));
        assert_eq!(found, ["5 inbound.a.numbers: 2001 numbers, ranges and beginnings are in the map so far"]);
    }
}
