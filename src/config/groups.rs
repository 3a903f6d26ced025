//! Ring groups: what their tables hold, and how they agree with each other, with emergency numbers and with the users.

use super::{
    Config, Directory, Problem, Severity, checks,
    reader::{Fault, Section},
    value,
};
use crate::types::limits::{GROUP_MEMBERS_MAX, GROUPS_MAX, RING_S_MAX};

/// `[group.NAME]`: several users under one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// Internal number.
    pub extension: String,
    /// E.164 with `+`, as a trunk delivers it.
    pub direct_line: Option<String>,
    /// User names or extensions, in the order of the file.
    pub members: Vec<String>,
    pub strategy: Strategy,
    /// Seconds that members ring before the next ones do.
    pub ring_s: u16,
    pub lines: Lines,
}

/// In which order members ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All at once; the first answer wins.
    All,
    /// One after the other, as listed.
    InOrder,
    /// One after the other; first the one whose last call ended longest ago.
    LongestIdle,
}

/// Where in the file a group's values stand, for what only shows beside other groups and the users. 1-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    pub extension: usize,
    pub direct_line: usize,
    pub members: usize,
}

const RING_S_DEFAULT: u16 = 20;
const RING_S: std::ops::RangeInclusive<u16> = 5..=180;

pub(super) fn read(mut root: Section<'_>) -> Vec<Group> {
    let sections = root.named_sections();
    for (name, section) in sections.iter().skip(GROUPS_MAX) {
        section.error("", format!("{name:?} is one group too many"), format!("at most {GROUPS_MAX} groups"));
    }
    sections.into_iter().map(|(name, section)| group(name, section)).collect()
}

fn group(name: String, mut section: Section<'_>) -> Group {
    if let Err(Fault { what, remedy }) = value::token(&name) {
        section.error("", format!("the name {name:?} {what}"), remedy);
    }
    for (key, remedy) in
        [("extension", "extension = \"600\": its internal number"), ("members", "members = [\"alice\", \"1002\"]")]
    {
        if !section.has(key) {
            section.error(key, "this key is missing", remedy);
        }
    }
    let strategies = [("all", Strategy::All), ("in_order", Strategy::InOrder), ("longest_idle", Strategy::LongestIdle)];
    let group = Group {
        name,
        extension: section.text("extension", value::extension).unwrap_or_default(),
        direct_line: section.text("direct_line", value::e164),
        members: section.texts("members", value::free_text).unwrap_or_default(),
        strategy: section.choice("strategy", &strategies).unwrap_or(Strategy::All),
        ring_s: section.integer("ring_s", RING_S).unwrap_or(RING_S_DEFAULT),
        lines: Lines {
            extension: section.line_of("extension"),
            direct_line: section.line_of("direct_line"),
            members: section.line_of("members"),
        },
    };
    if section.is_empty_list("members") {
        section.error("members", "the list is empty", "at least one user name or extension");
    }
    if group.members.len() > GROUP_MEMBERS_MAX {
        let message = format!("{} members are listed", group.members.len());
        section.error("members", message, format!("at most {GROUP_MEMBERS_MAX}"));
    }
    let is_serial = matches!(group.strategy, Strategy::InOrder | Strategy::LongestIdle);
    let longest_s = u64::try_from(group.members.len()).unwrap_or(u64::MAX).saturating_mul(u64::from(group.ring_s));
    if is_serial && longest_s > RING_S_MAX {
        let message = format!("the members ring {longest_s} s one after the other, and a call at most {RING_S_MAX} s");
        section.error("ring_s", message, "fewer seconds, fewer members, or strategy = \"all\"");
    }
    section.finish();
    group
}

/// What groups must not share with each other or with emergency numbers (emergency RULES 3).
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let emergency = checks::EmergencyNumbers::of(config);
    for (index, group) in config.groups.iter().enumerate() {
        let earlier = &config.groups[..index];
        for (key, value, line) in group.numbers() {
            let shares = |other: &&Group| other.numbers().any(|(_, theirs, _)| theirs == value);
            if let Some(other) = earlier.iter().find(shares) {
                let message = format!("{value:?} is already a number of [group.{}]", other.name);
                problems.push(group.error(key, line, message, "another number"));
            }
            if let Some(pbx) = config.pbx_with(value) {
                let message = format!("{value:?} is already a number of the telephone system {:?}", pbx.user);
                problems.push(group.error(key, line, message, "another number"));
            }
            if let Some(message) = emergency.as_ref().and_then(|numbers| numbers.complaint(value)) {
                problems.push(group.error(key, line, message, "another number"));
            }
        }
    }
    problems
}

/// Numbers that a group and a user both claim.
pub(super) fn shared_with_users(config: &Config, directory: &Directory) -> Vec<Problem> {
    let mut problems = Vec::new();
    for group in &config.groups {
        for (key, value, line) in group.numbers() {
            if let Some(user) = directory.by_dialled(value).or_else(|| directory.by_direct_line(value)) {
                let message = format!("{value:?} is already a number of the user {:?}", user.name);
                problems.push(group.error(key, line, message, "another number"));
            }
        }
    }
    problems
}

/// Members that are no users, or are the same user twice.
pub fn check_members(config: &Config, directory: &Directory) -> Vec<Problem> {
    let mut problems = Vec::new();
    for group in &config.groups {
        let mut seen = Vec::new();
        for member in &group.members {
            let (message, remedy) = match directory.by_dialled(member) {
                None => {
                    let remedy = "a user name or extension of `ringdown user list`";
                    (format!("{member:?} is no user"), remedy)
                }
                Some(user) if seen.contains(&&user.name) => {
                    (format!("{member:?} is the user {:?}, who is listed already", user.name), "each user once")
                }
                Some(user) => {
                    seen.push(&user.name);
                    continue;
                }
            };
            problems.push(group.error("members", group.lines.members, message, remedy));
        }
    }
    problems
}

impl Group {
    /// Key, value and line of each number under which it is reached.
    fn numbers(&self) -> impl Iterator<Item = (&'static str, &str, usize)> {
        let extension = (!self.extension.is_empty()).then_some(self.extension.as_str());
        let extension = extension.map(|number| ("extension", number, self.lines.extension));
        let direct_line = self.direct_line.as_deref().map(|number| ("direct_line", number, self.lines.direct_line));
        extension.into_iter().chain(direct_line)
    }

    fn error(&self, key: &str, line: usize, message: String, remedy: &str) -> Problem {
        let key = format!("group.{}.{key}", self.name);
        Problem { severity: Severity::Error, line, key, message, remedy: remedy.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, User, parse},
        types::Secret,
        wire::sip::digest::Credential,
    };

    const COMPANY: &str = "[company]\nname = \"Example Corp\"\nregion = \"US\"\n";

    /// `line key: message` of every problem of a text that begins on line 4.
    fn problems(text: &str) -> Vec<String> {
        let found = match parse(&format!("{COMPANY}{text}")) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        found.into_iter().map(|p| format!("{} {}: {}", p.line, p.key, p.message)).collect()
    }

    fn directory() -> Directory {
        let user = |name: &str, extension: &str| User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: Some(format!("+1202555{extension}")),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        Directory::new([user("alice", "1001"), user("bob", "1002")])
    }

    #[test]
    fn a_group_has_its_defaults() {
        let text = format!("{COMPANY}[group.sales]\nextension = \"600\"\nmembers = [\"alice\", \"1002\"]\n");
        let config = parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let group = &config.groups[0];
        assert_eq!((group.name.as_str(), group.strategy, group.ring_s), ("sales", Strategy::All, 20));
        assert_eq!(group.members, ["alice", "1002"]);
        assert!(check_members(&config, &directory()).is_empty());
        assert!(shared_with_users(&config, &directory()).is_empty());
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        let good = "[group.a]\nextension = \"600\"\nmembers = [\"alice\"]\n";
        for (text, expected) in [
            ("[group.a]\nextension = \"600\"\n", "4 group.a.members: this key is missing"),
            ("[group.a]\nmembers = [\"alice\"]\n", "4 group.a.extension: this key is missing"),
            ("[group.a]\nextension = \"600\"\nmembers = []\n", "6 group.a.members: the list is empty"),
            (
                "[group.\"a b\"]\nextension = \"600\"\nmembers = [\"x\"]\n",
                "4 group.a b: the name \"a b\" is not a SIP token",
            ),
            (&good.replace("600", "6x"), "5 group.a.extension: \"6x\" is not an extension"),
            (
                &good.replace("600", "911"),
                "5 group.a.extension: \"911\" is an emergency number in US, with or without an outside prefix",
            ),
            (
                &good.replace("600", "9933"),
                "5 group.a.extension: \"9933\" is a test number of emergency calls in US, with or without an outside prefix",
            ),
            (&format!("{good}ring_s = 4\n"), "7 group.a.ring_s: 4 is out of range"),
            (&format!("{good}strategy = \"random\"\n"), "7 group.a.strategy: \"random\" is not known"),
            (
                &format!("{good}direct_line = \"2025550100\"\n"),
                "7 group.a.direct_line: \"2025550100\" is not an E.164 number",
            ),
            (
                &format!("{good}{}", good.replace("[group.a]", "[group.b]")),
                "8 group.b.extension: \"600\" is already a number of [group.a]",
            ),
            (&good.replace("\"alice\"", "\"alice\", \"alice\""), "6 group.a.members: \"alice\" is listed twice"),
        ] {
            assert_eq!(problems(text), [expected], "{text}");
        }
    }

    #[test]
    fn the_last_member_and_group_there_is_room_for_are_taken_and_no_further_one() {
        let members = |n: usize| (0..n).map(|i| format!("\"m{i}\"")).collect::<Vec<_>>().join(",");
        let group = |i: usize, n| format!("[group.g{i}]\nextension = \"{}\"\nmembers = [{}]\n", 6000 + i, members(n));
        assert_eq!(problems(&group(0, GROUP_MEMBERS_MAX)), Vec::<String>::new());
        assert_eq!(problems(&group(0, GROUP_MEMBERS_MAX + 1)), ["6 group.g0.members: 21 members are listed"]);
        let groups = |n: usize| (0..n).map(|i| group(i, 1)).collect::<String>();
        assert_eq!(problems(&groups(GROUPS_MAX)), Vec::<String>::new());
        let found = problems(&groups(GROUPS_MAX + 1));
        assert_eq!(found, [format!("{} group.g200: \"g200\" is one group too many", 4 + 3 * GROUPS_MAX)]);
    }

    #[test]
    fn what_only_the_users_show_is_named_with_the_files_line_too() {
        let text =
            "[group.a]\nextension = \"1002\"\ndirect_line = \"+12025551001\"\nmembers = [\"bob\", \"eve\", \"1002\"]\n";
        let config = parse(&format!("{COMPANY}{text}")).unwrap_or_else(|p| panic!("{p:#?}")).0;
        let told = |problems: Vec<Problem>| {
            problems.into_iter().map(|p| format!("{} {}: {}", p.line, p.key, p.message)).collect::<Vec<_>>()
        };
        assert_eq!(
            told(check_members(&config, &directory())),
            [
                "7 group.a.members: \"eve\" is no user",
                "7 group.a.members: \"1002\" is the user \"bob\", who is listed already"
            ]
        );
        assert_eq!(
            told(shared_with_users(&config, &directory())),
            [
                "5 group.a.extension: \"1002\" is already a number of the user \"bob\"",
                "6 group.a.direct_line: \"+12025551001\" is already a number of the user \"alice\""
            ]
        );
    }

    #[test]
    fn members_who_ring_one_after_the_other_all_have_their_turn() {
        let text = |members: usize, ring_s: u16, strategy: &str| {
            let members: Vec<_> = (0..members).map(|n| format!("\"u{n}\"")).collect();
            format!(
                "[company]\nname = \"x\"\nregion = \"US\"\n[group.a]\nextension = \"600\"\nmembers = [{}]\n\
                 strategy = \"{strategy}\"\nring_s = {ring_s}\n",
                members.join(", ")
            )
        };
        for strategy in ["in_order", "longest_idle"] {
            assert!(parse(&text(9, 20, strategy)).is_ok(), "{strategy}");
            let problems = parse(&text(10, 20, strategy)).unwrap_err();
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, "group.a.ring_s"), "{problems:?}");
        }
        assert!(parse(&text(10, 20, "all")).is_ok());
    }
}
