//! Where a call goes. Cannot be given an emergency number: it takes [`super::emergency::Ordinary`], which classification
//! never makes of one.

use std::sync::Arc;

use crate::config::{Config, Directory, Group, Inbound, InboundTarget, User};

use super::{
    emergency::{Ordinary, OrdinaryKind, table},
    inbound::{self, Numbers},
    number,
};

/// Where policy sends a call.
#[derive(Clone, Debug)]
pub enum Target {
    /// Every registered contact of this user.
    User(Arc<User>),
    /// A ring group by index into `Config::groups`.
    Group(usize),
    /// A number outside in its canonical form. Whether a call may leave for it, and over which trunks, [`super::outside`] says.
    Outside(String),
    /// A number of ours that the inbound map leaves to what is behind a trunk, by index into `Config::trunks`. Whether the trunk
    /// may have the call, [`super::outside::onward`] says.
    Onward { trunk: usize, number: String },
    /// The final answer: status and reason phrase.
    Refuse(u16, &'static str),
}

/// Routes an ordinary call. `is_from_trunk`: inbound calls reach direct lines and what the inbound map names, and no other number
/// outside.
pub fn route(dialled: &Ordinary, is_from_trunk: bool, config: &Config, directory: &Directory) -> Target {
    match dialled.kind() {
        OrdinaryKind::Foreign => Target::Refuse(404, "Not Our Domain"),
        OrdinaryKind::Invalid => Target::Refuse(404, "Not A Dialable Address"),
        OrdinaryKind::Extension(_) | OrdinaryKind::External(_) if is_from_trunk => {
            inbound(dialled.dialled(), config, directory)
        }
        OrdinaryKind::Extension(user) => {
            inside(user, config, directory).unwrap_or(Target::Refuse(404, "No Such Extension"))
        }
        OrdinaryKind::External(number) => {
            // An extension may be long, or begin with an outside prefix: the directory knows.
            match directory.by_dialled(dialled.dialled()).or_else(|| owner(number, config, directory)) {
                Some(user) => Target::User(Arc::clone(user)),
                None => {
                    let is_it = |g: &Group| g.extension == dialled.dialled() || g.direct_line.as_ref() == Some(number);
                    let own = group(config, is_it).or_else(|| inside_map(number, config, directory));
                    own.unwrap_or_else(|| outbound(number, config))
                }
            }
        }
    }
}

/// The user or group with this extension, or the user with this name.
pub fn inside(dialled: &str, config: &Config, directory: &Directory) -> Option<Target> {
    let user = directory.by_dialled(dialled).map(|user| Target::User(Arc::clone(user)));
    user.or_else(|| group(config, |g| g.extension == dialled))
}

/// A call from a trunk reaches the user or group whose direct line it names, in whichever form the carrier writes it, or whom
/// the inbound map names.
fn inbound(dialled: &str, config: &Config, directory: &Directory) -> Target {
    const NOBODY: Target = Target::Refuse(404, "No Such Direct Line");
    let forms = table::region(&config.company.region).map(|region| number::inbound_forms(dialled, region));
    let forms = forms.unwrap_or_default();
    if let Some(user) = forms.iter().find_map(|form| owner(form, config, directory)) {
        return Target::User(Arc::clone(user));
    }
    let is_it = |g: &Group| g.direct_line.as_ref().is_some_and(|line| forms.contains(line));
    if let Some(group) = group(config, is_it) {
        return group;
    }
    match mapped(dialled, config) {
        Some((number, entry, _)) => target_of(entry, number, config, directory).unwrap_or(NOBODY),
        None => NOBODY,
    }
}

/// What the inbound map says of a number as a carrier writes it: the canonical number, the entry, and which of its numbers.
pub fn mapped<'c>(dialled: &str, config: &'c Config) -> Option<(String, &'c Inbound, &'c Numbers)> {
    let forms = number::inbound_forms(dialled, table::region(&config.company.region)?);
    let find = |form: String| {
        let (entry, numbers) = inbound::find(&form, &config.inbound)?;
        Some((form, entry, numbers))
    };
    forms.into_iter().find_map(find)
}

/// A number of the map that is dialled inside stays inside, unless a carrier's trunk is its target.
fn inside_map(number: &str, config: &Config, directory: &Directory) -> Option<Target> {
    let (entry, _) = inbound::find(number, &config.inbound)?;
    let target = target_of(entry, number.to_owned(), config, directory)?;
    let is_inside = match &target {
        Target::Onward { trunk, .. } => !config.trunks[*trunk].reaches_pstn,
        Target::User(_) | Target::Group(_) | Target::Outside(_) | Target::Refuse(..) => true,
    };
    is_inside.then_some(target)
}

/// `None`: a user who is not there.
fn target_of(entry: &Inbound, number: String, config: &Config, directory: &Directory) -> Option<Target> {
    match &entry.to {
        InboundTarget::User(name) => directory.by_name(name).map(|user| Target::User(Arc::clone(user))),
        InboundTarget::Group(name) => group(config, |g| g.name == *name),
        InboundTarget::Trunk(name) => {
            let trunk = config.trunks.iter().position(|trunk| trunk.name == *name)?;
            Some(Target::Onward { trunk, number })
        }
    }
}

fn group(config: &Config, is_it: impl Fn(&Group) -> bool) -> Option<Target> {
    config.groups.iter().position(is_it).map(Target::Group)
}

/// Whose direct line a number is, or the user that a PBX with this number registers as.
fn owner<'d>(number: &str, config: &Config, directory: &'d Directory) -> Option<&'d Arc<User>> {
    let of_pbx = || config.pbx_with(number).and_then(|pbx| directory.by_name(&pbx.user));
    directory.by_direct_line(number).or_else(of_pbx)
}

fn outbound(number: &str, config: &Config) -> Target {
    if config.trunks.iter().any(|trunk| trunk.is_enabled && trunk.reaches_pstn) {
        Target::Outside(number.to_owned())
    } else {
        Target::Refuse(404, "No Trunk For Outside Numbers")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, parse},
        policy::emergency::{Dialled, Site, classify},
        types::Secret,
        wire::sip::digest::Credential,
    };

    const TRUNKS: &str = r#"
        [trunk.z]
        host = "z.example"
        numbers = ["+12025550100"]
        [trunk.off]
        host = "off.example"
        numbers = ["+12025550100"]
        enabled = false
        [trunk.internal]
        host = "internal.example"
        pstn = false
        [trunk.a]
        host = "a.example"
        numbers = ["+12025550100"]
        [group.sales]
        extension = "600"
        direct_line = "+12025550160"
        members = ["alice", "bob"]
        [group.long]
        extension = "87654321"
        members = ["alice"]
    "#;

    fn config(trunks: &str) -> Config {
        let text = format!(
            r#"
            [server]
            domain = "pbx.example.com"
            [company]
            name = "Example Corp"
            region = "US"
            address = {{ country = "US", A1 = "DC", A3 = "Washington", RD = "Example", HNO = "500", PC = "20001" }}
            [emergency]
            callback_numbers = ["+12025550100"]
            [dialing]
            outside_prefixes = ["9"]
            {trunks}"#
        );
        parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0
    }

    fn directory() -> Directory {
        let user = |name: &str, extension: &str, direct_line: Option<&str>| User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: direct_line.map(str::to_owned),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        Directory::new([
            user("alice", "1001", Some("+12025550101")),
            user("bob", "9300", None),
            user("carol", "12345678", None),
        ])
    }

    /// The route in one word.
    fn routed(uri: &str, is_from_trunk: bool, trunks: &str) -> String {
        let config = config(trunks);
        let Dialled::Ordinary(dialled) = classify(uri, &Site::new(&config, &[])) else {
            panic!("{uri} is not ordinary")
        };
        match route(&dialled, is_from_trunk, &config, &directory()) {
            Target::User(user) => user.name.clone(),
            Target::Group(index) => format!("group {}", config.groups[index].name),
            Target::Outside(number) => number,
            Target::Onward { trunk, number } => format!("{number} to {}", config.trunks[trunk].name),
            Target::Refuse(status, reason) => format!("{status} {reason}"),
        }
    }

    #[test]
    fn extensions_and_names_reach_their_user() {
        for (uri, user) in [
            ("sip:1001@pbx.example.com", "alice"),
            ("sip:alice@pbx.example.com", "alice"),
            ("sip:9300@pbx.example.com", "bob"),
            ("sip:12345678@pbx.example.com", "carol"),
            ("sip:10-01@pbx.example.com", "alice"),
        ] {
            assert_eq!(routed(uri, false, TRUNKS), user, "{uri}");
        }
        assert_eq!(routed("sip:1002@pbx.example.com", false, TRUNKS), "404 No Such Extension");
        assert_eq!(routed("sip:ALICE@pbx.example.com", false, TRUNKS), "404 No Such Extension");
    }

    #[test]
    fn outside_numbers_need_an_enabled_trunk_that_reaches_the_pstn() {
        assert_eq!(routed("sip:92025550177@pbx.example.com", false, TRUNKS), "+12025550177");
        assert_eq!(routed("sip:988@pbx.example.com", false, TRUNKS), "988");
        assert_eq!(routed("sip:92025550177@pbx.example.com", false, ""), "404 No Trunk For Outside Numbers");
    }

    #[test]
    fn a_direct_line_dialled_inside_stays_inside() {
        assert_eq!(routed("sip:+12025550101@pbx.example.com", false, TRUNKS), "alice");
        assert_eq!(routed("sip:92025550101@pbx.example.com", false, ""), "alice");
    }

    #[test]
    fn a_trunk_reaches_direct_lines_and_nothing_else() {
        for uri in ["+12025550101", "12025550101", "2025550101"] {
            assert_eq!(routed(&format!("sip:{uri}@pbx.example.com"), true, TRUNKS), "alice", "{uri}");
        }
        for uri in ["1001", "alice", "+12025550199", "9300", "92025550101", "988"] {
            let refused = "404 No Such Direct Line";
            assert_eq!(routed(&format!("sip:{uri}@pbx.example.com"), true, TRUNKS), refused, "{uri}");
        }
    }

    #[test]
    fn a_group_is_reached_by_its_extension_and_its_direct_line() {
        for uri in ["sip:600@pbx.example.com", "sip:+12025550160@pbx.example.com", "sip:92025550160@pbx.example.com"] {
            assert_eq!(routed(uri, false, TRUNKS), "group sales", "{uri}");
        }
        assert_eq!(routed("sip:87654321@pbx.example.com", false, TRUNKS), "group long");
        for uri in ["+12025550160", "2025550160"] {
            assert_eq!(routed(&format!("sip:{uri}@pbx.example.com"), true, TRUNKS), "group sales", "{uri}");
        }
        for uri in ["600", "sales"] {
            let uri = format!("sip:{uri}@pbx.example.com");
            assert_eq!(routed(&uri, true, TRUNKS), "404 No Such Direct Line", "{uri}");
        }
        assert_eq!(routed("sip:sales@pbx.example.com", false, TRUNKS), "404 No Such Extension");
    }

    const MAP: &str = r#"
        [inbound.block]
        numbers = ["+12025551*"]
        to = "trunk:internal"
        [inbound.sales]
        numbers = ["+12025551200-+12025551299", "+12025552000"]
        to = "group:sales"
        [inbound.bob]
        numbers = ["+12025551250"]
        to = "user:bob"
        [inbound.gone]
        numbers = ["+12025551251"]
        to = "user:nobody"
        [inbound.back]
        numbers = ["+12025553*"]
        to = "trunk:a"
    "#;

    #[test]
    fn the_narrowest_entry_of_the_inbound_map_decides() {
        let text = format!("{TRUNKS}{MAP}");
        for (dialled, expected) in [
            ("+12025551000", "+12025551000 to internal"),
            ("2025551000", "+12025551000 to internal"),
            ("+12025551200", "group sales"),
            ("12025551299", "group sales"),
            ("+12025551300", "+12025551300 to internal"),
            ("+12025551250", "bob"),
            ("+12025551251", "404 No Such Direct Line"),
            ("+12025552000", "group sales"),
            ("+12025552001", "404 No Such Direct Line"),
            ("+12025553001", "+12025553001 to a"),
            // A direct line is nobody else's, whatever surrounds it.
            ("+12025550101", "alice"),
        ] {
            assert_eq!(routed(&format!("sip:{dialled}@pbx.example.com"), true, &text), expected, "{dialled}");
        }
    }

    #[test]
    fn a_number_of_the_map_dialled_inside_goes_where_it_would_go_from_outside_but_not_to_a_carrier() {
        let text = format!("{TRUNKS}{MAP}");
        for (dialled, expected) in [
            ("+12025551000", "+12025551000 to internal"),
            ("92025551250", "bob"),
            ("+12025551250", "bob"),
            ("+12025551200", "group sales"),
            ("+12025553001", "+12025553001"),
        ] {
            assert_eq!(routed(&format!("sip:{dialled}@pbx.example.com"), false, &text), expected, "{dialled}");
        }
    }

    #[test]
    fn addresses_of_others_are_not_routed() {
        assert_eq!(routed("sip:1001@other.example.net", false, TRUNKS), "404 Not Our Domain");
        assert_eq!(routed("sip:alice@other.example.net", true, TRUNKS), "404 Not Our Domain");
        assert_eq!(routed("urn:service:counseling", false, TRUNKS), "404 Not A Dialable Address");
    }
}
