//! Relations between keys, and between the configuration and the users: what emergency calls need (emergency RULES
//! 3.1 and 3.3).
//!
//! Whether a text is an emergency number is asked of `policy::emergency`, so that loading and calling cannot disagree.

use std::collections::BTreeMap;

use super::{
    Company, Config, Directory, Emergency, Encryption, FromAddress, Media, Network, NotifyTarget, Pbx, Problem,
    Register, Severity, Trunk, TrunkLocation, User, groups, inbound, reader::Section,
};
use crate::{
    policy::{
        emergency::{Class, Site, class_of_user_part, table},
        inbound::find,
        number,
    },
    types::{Transport, limits::TRUNK_SERVERS_MAX},
};

/// Numbers that no configuration can take out of a region that lists them (RULES 2.2).
const ALWAYS_EMERGENCY: [&str; 4] = ["112", "911", "999", "000"];
/// What makes spending count.
pub(super) const RATES: &str = "[trunk.NAME.rates] with the price of a minute by prefix";
/// Prefixes that people and phones put in front by habit, whether or not they are configured.
const HABITUAL_PREFIXES: [&str; 2] = ["9", "0"];

pub(super) fn company(section: &Section<'_>, company: &Company, trunks: &[Trunk]) {
    let none = BTreeMap::new();
    let elements = company.address.as_ref().unwrap_or(&none);
    let has = |name: &str| elements.contains_key(name);
    if trunks.iter().any(|t| t.reaches_pstn) {
        for what in missing_elements(elements) {
            let remedy = "[company.address] with the address emergency services are sent to";
            section.error("address", format!("{what} is missing, and a trunk reaches the PSTN"), remedy);
        }
    }
    let country = company.address.as_ref().and_then(|a| a.get("country"));
    if let Some(country) = country.filter(|c| !company.region.is_empty() && **c != company.region) {
        let message = format!("country {country:?} is not the region {:?}", company.region);
        section.error("address", message, format!("country = {:?}", company.region));
    }
    let is_dispatchable = ["BLD", "FLR", "UNIT", "ROOM", "LOC"].into_iter().any(has);
    if company.region == "US" && company.address.is_some() && !is_dispatchable {
        // 47 CFR 9.3 and 9.16(b)(3).
        let message = "a dispatchable location in the US needs more than the street address";
        section.warn("address", message, "one of BLD, FLR, UNIT, ROOM or LOC");
    }
}

/// What an address lacks without which nobody can be sent there.
fn missing_elements(address: &BTreeMap<String, String>) -> impl Iterator<Item = &'static str> {
    let has = |name: &str| address.contains_key(name);
    let needed = [
        ("country", has("country")),
        ("A1 (state or province) or A3 (city)", has("A1") || has("A3")),
        ("PC (postal code)", has("PC")),
        ("RD and HNO (street and number) or LMK (landmark)", has("RD") && has("HNO") || has("LMK")),
    ];
    needed.into_iter().filter(|(_, is_there)| !is_there).map(|(what, _)| what)
}

pub(super) fn trunk(section: &Section<'_>, trunk: &Trunk) {
    if !section.has("host") {
        section.error("host", "this key is missing", "host = \"sip.carrier.example\"");
    }
    for (present, missing) in [("user", "password_file"), ("password_file", "user")] {
        if section.has(present) && !section.has(missing) {
            let remedy = "both user and password_file, or neither where the carrier knows this server by its address";
            section.error(present, format!("{missing} is missing"), remedy);
        }
    }
    if trunk.servers.len() > TRUNK_SERVERS_MAX {
        section.error("server", format!("{} servers are listed", trunk.servers.len()), "16 servers or fewer");
    }
    if trunk.register != Register::Off && !section.has("user") {
        let remedy = "user and password_file: the account to register";
        section.error("register", "user is missing", remedy);
    }
    if trunk.from == FromAddress::Account && !section.has("user") {
        section.error("from", "user is missing", "user and password_file, or from = \"number\"");
    }
    if section.has("spend_per_day") && trunk.rates.is_empty() {
        section.warn("spend_per_day", "the trunk has no rates, so that nothing is ever spent", RATES);
    }
    if section.has("register_expires_s") && trunk.register == Register::Off {
        section.error("register_expires_s", "the trunk is not registered at", "register = \"on\", or no such time");
    }
    for (present, missing) in [("certificate", "key"), ("key", "certificate")] {
        if section.has(present) && !section.has(missing) {
            let remedy = "both certificate and key, or neither where the carrier asks for none";
            section.error(present, format!("{missing} is missing"), remedy);
        }
    }
    if let Some(transport) = trunk.transport.filter(|transport| *transport != Transport::Tls) {
        for key in ["ca", "certificate"].into_iter().filter(|key| section.has(key)) {
            let message = format!("the trunk is reached over {transport}, without TLS");
            section.error(key, message, format!("transport = \"tls\", or no {key}"));
        }
    }
    if trunk.reaches_pstn && !section.has("numbers") {
        let remedy = "numbers = [\"+12025550100\"]: the first is the caller identity of users without a direct line";
        section.error("numbers", "a trunk that reaches the PSTN has no number", remedy);
    }
    if trunk.encryption != Encryption::Off && trunk.transport != Some(Transport::Tls) {
        let over = trunk.transport.map_or("whatever DNS says, perhaps", Transport::uri_token);
        let message = format!("SRTP keys would travel over {over} in the clear");
        section.warn("encryption", message, "transport = \"tls\"");
    }
    // Emergency specification 4.4: the operator states whose address is registered.
    if trunk.location == TrunkLocation::Elin && trunk.reaches_pstn && trunk.carries_emergency && trunk.elins.is_empty()
    {
        let message = "the carrier knows the location by the number alone, and no number is stated for which it has the company's";
        section.error(
            "elins",
            message,
            "elins = [\"+12025550100\"], once the carrier has registered the company's address for it",
        );
    }
    let is_wide = |network: &Network| network.prefix_bits < if network.address.is_ipv4() { 8 } else { 19 };
    if trunk.media_network.as_ref().is_some_and(is_wide) {
        let remedy = "the network of the carrier's media servers, such as \"203.0.113.0/24\"";
        section.error("media_network", "so wide a network is nobody's: anyone could be heard in a call", remedy);
    }
    let has_document = trunk.carries_emergency && trunk.location == TrunkLocation::PidfLo;
    // RFC 3263 section 4.1: an address, or a port, without a transport.
    let is_udp_by_itself =
        || trunk.transport.is_none() && (trunk.port.is_some() || trunk.host.parse::<std::net::IpAddr>().is_ok());
    let is_udp = trunk.transport == Some(Transport::Udp) || is_udp_by_itself();
    if trunk.reaches_pstn && has_document && is_udp {
        // RFC 3261 section 18.1.1.
        let message = "an emergency INVITE with its location is about 2600 bytes, too large for UDP";
        section.warn("transport", message, "transport = \"tcp\" or \"tls\", or location = \"elin\"");
    }
}

/// Emergency RULES 3: nothing is ever forwarded to an emergency number.
pub(super) fn voicemail(section: &Section<'_>, config: &Config) {
    let Some(number) = &config.dialing.voicemail else { return };
    if let Some(complaint) = EmergencyNumbers::of(config).and_then(|numbers| numbers.complaint(number)) {
        section.error("voicemail", complaint, "the extension or number of the voicemail system");
    }
}

pub(super) fn emergency(section: &Section<'_>, emergency: &Emergency, company: &Company, trunks: &[Trunk]) {
    if trunks.iter().any(|t| t.reaches_pstn) && emergency.callback_numbers.is_empty() {
        let remedy = "callback_numbers = [\"+12025550100\"]: numbers on which emergency services reach this company";
        section.error("callback_numbers", "no number is given, and a trunk reaches the PSTN", remedy);
    }
    emergency_trunks(section, emergency, trunks);
    let is_available = trunks.iter().any(|t| t.is_enabled && t.reaches_pstn && t.carries_emergency);
    if company.region == "US" && is_available && emergency.notify.is_empty() {
        // 47 USC 623(c).
        let message = "nobody here is told of emergency calls, which the law of the US asks for";
        section.warn("notify", message, "notify = [\"sip:reception@pbx.example.com\"], or a web server");
    }
    if let Some(region) = table::region(&company.region) {
        emergency_numbers(section, emergency, region);
    }
}

/// Ordinary calls keep at least half of the media ports; a call takes four.
pub(super) fn reserved_calls(section: &Section<'_>, emergency: &Emergency, media: &Media) {
    let calls_max = media.ports.len() / 8;
    if section.has("reserved_calls") && usize::from(emergency.reserved_calls) > calls_max {
        let message = format!("{} calls take more than half of the ports in media.ports", emergency.reserved_calls);
        section.error("reserved_calls", message, format!("at most {calls_max}, or a larger media.ports"));
    }
}

/// This server sends text messages to its own users only.
pub(super) fn notify(section: &Section<'_>, emergency: &Emergency, domain: &str) {
    for target in &emergency.notify {
        if let NotifyTarget::Sip { user, host } = target
            && host != domain
        {
            let message = format!("{:?} is not of this server's domain", target.label());
            section.error("notify", message, format!("\"sip:{user}@{domain}\", or an https URL"));
        }
    }
}

fn emergency_trunks(section: &Section<'_>, emergency: &Emergency, trunks: &[Trunk]) {
    for name in &emergency.trunks {
        match trunks.iter().find(|t| t.name == *name) {
            None => {
                let names: Vec<_> = trunks.iter().map(|t| format!("{:?}", t.name)).collect();
                let remedy = if names.is_empty() {
                    "a [trunk.NAME] table".to_owned()
                } else {
                    format!("one of {}", names.join(", "))
                };
                section.error("trunks", format!("{name:?} is not a trunk"), remedy);
            }
            Some(trunk) if !trunk.reaches_pstn || !trunk.carries_emergency => {
                let remedy = format!("pstn = true and emergency = true in [trunk.{name}], or a list without it");
                section.error("trunks", format!("{name:?} does not carry emergency calls"), remedy);
            }
            Some(trunk) if !trunk.is_enabled => {
                section.warn("trunks", format!("{name:?} is not enabled and will not be tried"), "enabled = true");
            }
            Some(_) => {}
        }
    }
    let mut eligible = trunks.iter().filter(|t| t.is_enabled && t.reaches_pstn && t.carries_emergency);
    if let (Some(only), None) = (eligible.next(), eligible.next()) {
        let message = format!("only the trunk {:?} carries emergency calls", only.name);
        section.warn("trunks", message, "a second trunk, for when the first one fails");
    }
}

fn emergency_numbers(section: &Section<'_>, emergency: &Emergency, region: &table::Region) {
    let code = region.code;
    let is_listed = |n: &str| region.numbers.contains(&n) || table::everywhere().contains(&n);
    for number in &emergency.not {
        if ALWAYS_EMERGENCY.contains(&number.as_str()) && region.numbers.contains(&number.as_str()) {
            section.error("not", format!("{number:?} is always an emergency number in {code}"), "a list without it");
        } else if !is_listed(number) {
            section.warn("not", format!("{number:?} is no emergency number in {code} anyway"), "a list without it");
        }
    }
    let is_emergency = |n: &String| (is_listed(n) || emergency.also.contains(n)) && !emergency.not.contains(n);
    for number in emergency.also.iter().filter(|n| emergency.not.contains(n)) {
        section.error("also", format!("{number:?} is also in not"), "the number in one of the two");
    }
    for number in emergency.test_numbers.iter().flatten().filter(|n| is_emergency(n)) {
        let message = format!("{number:?} is an emergency number in {code}: a test would be a real call");
        section.error("test_numbers", message, "the carrier's own test number, or an empty list");
    }
    for (other, numbers) in &emergency.dial_as {
        if other != code {
            section.error(
                "dial_as",
                format!("{other:?} is not the region of this company"),
                format!("[emergency.dial_as.{code}]"),
            );
            continue;
        }
        for number in numbers.keys().filter(|n| !is_emergency(n) && **n != region.primary) {
            let message = format!("{number:?} is no emergency number in {code}");
            section.error("dial_as", message, "an emergency number, or the same number in emergency.also");
        }
    }
}

/// Emergency RULES 3.1: no extension, user part, direct line or forwarding target may equal an emergency number in use,
/// with or without an outside prefix, in any form in which it could be dialled. And no number has two owners.
#[derive(Debug)]
pub struct UserRules<'c> {
    config: &'c Config,
    emergency: Option<EmergencyNumbers>,
}

impl<'c> UserRules<'c> {
    pub fn new(config: &'c Config) -> Self {
        Self { config, emergency: EmergencyNumbers::of(config) }
    }

    /// Every reason why there can be no such user.
    pub fn check(&self, user: &User) -> Vec<Problem> {
        let name = ("name", Some(user.name.as_str()));
        let dialled = [name, ("extension", Some(&user.extension)), ("direct_line", user.direct_line.as_deref())];
        let shadows = dialled.into_iter().filter_map(|(what, text)| self.shadows(what, text?));
        let forwards = user.forwarding.targets().filter_map(|(condition, target)| {
            let message = self.complaint(target)?;
            let remedy = "another target: nothing is ever forwarded to an emergency number";
            Some((format!("forward {condition}"), message, remedy))
        });
        let not_e164 = user.direct_line.as_ref().filter(|line| !number::is_e164(line)).map(|line| {
            let remedy = "+, country code and number without separators";
            ("direct_line".to_owned(), format!("{line:?} is not E.164"), remedy)
        });
        let of_pbx = user.direct_line.as_ref().and_then(|line| {
            let pbx = self.config.pbx_with(line).filter(|pbx| pbx.user != user.name)?;
            let message = format!("{line:?} is already a number of the telephone system {:?}", pbx.user);
            Some(("direct_line".to_owned(), message, "another number"))
        });
        let place = self.private_address(user).map(|(message, remedy)| ("address".to_owned(), message, remedy));
        let problem = |(what, message, remedy): (String, String, &str)| Problem {
            severity: Severity::Error,
            line: 0,
            key: format!("user {:?} {what}", user.name),
            message,
            remedy: remedy.to_owned(),
        };
        let alone = Directory::new([user.clone()]);
        let mut shared = groups::shared_with_users(self.config, &alone);
        shared.extend(inbound::shared_with_users(self.config, &alone));
        shadows.chain(forwards).chain(not_e164).chain(of_pbx).chain(place).map(problem).chain(shared).collect()
    }

    /// What is wrong with a user's private address; nothing of it is repeated.
    fn private_address(&self, user: &User) -> impl Iterator<Item = (String, &'static str)> {
        let address = user.place.private_address.as_ref();
        let missing = address.into_iter().flat_map(|address| missing_elements(address.expose()));
        let missing = missing.map(|what| {
            (format!("{what} is missing in the private address"), "a complete address, as in [company.address]")
        });
        let no_line = address.filter(|_| user.direct_line.is_none()).map(|_| {
            let message = "a private address belongs to a direct line, and the user has none".to_owned();
            (message, "a user with a direct line")
        });
        let country = address.and_then(|address| address.expose().get("country"));
        let abroad = country.filter(|country| **country != self.config.company.region).map(|_| {
            let region = &self.config.company.region;
            let message = format!("the private address is in another country than {region}, which the trunks serve");
            (message, "an address in the region of this server")
        });
        missing.chain(no_line).chain(abroad)
    }

    /// Whether a telephone system can have its numbers.
    fn check_pbx(&self, config: &Config, directory: &Directory, index: usize, pbx: &Pbx) -> Vec<Problem> {
        let problem = |severity, message: String, remedy: &str| Problem {
            severity,
            line: 0,
            key: format!("pbx of {:?}", pbx.user),
            message,
            remedy: remedy.to_owned(),
        };
        let has_other_owner = |number: &String| config.pbxs[..index].iter().any(|p| p.numbers.contains(number));
        let fault = |number: &String| {
            if let Some(message) = self.complaint(number) {
                return Some(problem(Severity::Error, message, "another number"));
            }
            let message = || format!("{number:?} is somebody else's, too");
            has_other_owner(number).then(|| problem(Severity::Error, message(), "a number of its own"))
        };
        let nobody = directory.by_name(&pbx.user).is_none().then(|| {
            let message = "there is no such user: nothing can register".to_owned();
            problem(Severity::Warning, message, "ringdown user add")
        });
        nobody.into_iter().chain(pbx.numbers.iter().filter_map(fault)).collect()
    }

    fn shadows(&self, what: &str, text: &str) -> Option<(String, String, &'static str)> {
        Some((what.to_owned(), self.complaint(text)?, "another number or name"))
    }

    fn complaint(&self, text: &str) -> Option<String> {
        self.emergency.as_ref()?.complaint(text)
    }
}

/// Checks all users by [`UserRules`]. Also warns of callback numbers that reach nobody.
pub fn check_directory(config: &Config, directory: &Directory) -> Vec<Problem> {
    let rules = UserRules::new(config);
    let is_groups = |n: &String| config.groups.iter().any(|group| group.direct_line.as_ref() == Some(n));
    let is_mapped = |n: &String| find(n, &config.inbound).is_some();
    let is_owned = |n: &String| directory.by_direct_line(n).is_some() || config.pbx_with(n).is_some() || is_mapped(n);
    let reaches_nobody = |n: &&String| !is_owned(n) && !is_groups(n);
    let of_company = config.emergency.callback_numbers.iter().map(|n| ("emergency.callback_numbers".to_owned(), n));
    let of_trunks = config.trunks.iter().flat_map(|t| t.elins.iter().map(|n| (format!("trunk.{}.elins", t.name), n)));
    let unreachable = of_company.chain(of_trunks).filter(|(_, number)| reaches_nobody(number));
    let warnings = unreachable.map(|(key, number)| Problem {
        severity: Severity::Warning,
        line: 0,
        key,
        message: format!("{number:?} is nobody's direct line: emergency services that call back reach nobody"),
        remedy: "a user with this direct line, such as the reception".to_owned(),
    });
    let is_known = |dialled: &str| {
        directory.by_dialled(dialled).is_some() || config.groups.iter().any(|group| group.extension == dialled)
    };
    let nobody = config.emergency.notify.iter().filter_map(|target| match target {
        NotifyTarget::Sip { user, .. } if !is_known(user) => Some(Problem {
            severity: Severity::Warning,
            line: 0,
            key: "emergency.notify".to_owned(),
            message: format!("{:?} is neither a user nor a ring group: nobody is told there", target.label()),
            remedy: "a user's name or extension, or the extension of a group".to_owned(),
        }),
        NotifyTarget::Sip { .. } | NotifyTarget::Https { .. } => None,
    });
    let warnings = warnings.chain(nobody);
    let profiles = config.calling.profiles.iter().flat_map(|profile| {
        let strangers = profile.users.iter().filter(|user| directory.by_name(user).is_none());
        strangers.map(|user| Problem {
            severity: Severity::Warning,
            line: 0,
            key: format!("calling.profile.{}.users", profile.name),
            message: format!("{user:?} is no user"),
            remedy: "names of users as `ringdown user list` shows them".to_owned(),
        })
    });
    let warnings = warnings.chain(profiles);
    let by_number = || {
        let is_eligible = |t: &&Trunk| t.is_enabled && t.reaches_pstn && t.carries_emergency;
        config.trunks.iter().filter(is_eligible).find(|t| t.location != TrunkLocation::PidfLo)
    };
    let private = directory.iter().filter(|user| user.place.private_address.is_some());
    let unsent = private.filter_map(|user| {
        let trunk = by_number()?;
        Some(Problem {
            severity: Severity::Warning,
            line: 0,
            key: format!("user {:?} address", user.name),
            message: format!(
                "the trunk {:?} takes no location document, so the private address is not sent",
                trunk.name
            ),
            remedy: "the same address registered with the carrier for the direct line".to_owned(),
        })
    });
    let warnings = warnings.chain(unsent).chain(inbound::missing_users(config, directory));
    let pbxs = config.pbxs.iter().enumerate().flat_map(|(index, pbx)| rules.check_pbx(config, directory, index, pbx));
    directory.iter().flat_map(|user| rules.check(user)).chain(pbxs).chain(warnings).collect()
}

/// The numbers that nothing of ours may be called (RULES 3), habitual prefixes included.
#[derive(Debug)]
pub(super) struct EmergencyNumbers(Site);

impl EmergencyNumbers {
    /// `None`: the configuration names no known region, which is reported elsewhere.
    pub(super) fn of(config: &Config) -> Option<Self> {
        table::region(&config.company.region)?;
        let mut with_habits = config.clone();
        with_habits.dialing.outside_prefixes.extend(HABITUAL_PREFIXES.map(str::to_owned));
        Some(Self(Site::new(&with_habits, &[])))
    }

    /// Why this text may not be an extension, user name, direct line or forwarding target.
    pub(super) fn complaint(&self, text: &str) -> Option<String> {
        let class = match class_of_user_part(text, &self.0)? {
            Class::Emergency => "an emergency number",
            Class::Test => "a test number of emergency calls",
        };
        Some(format!("{text:?} is {class} in {}, with or without an outside prefix", self.0.region().code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Forwarding, Place, User, parse, parse_address},
        types::Secret,
        wire::sip::digest::Credential,
    };

    /// Keys of the errors that one user causes.
    fn errors(region: &str, name: &str, extension: &str, direct_line: Option<&str>) -> Vec<String> {
        let config = parse(&format!("[company]\nname = \"Example Corp\"\nregion = \"{region}\"")).unwrap().0;
        let user = User {
            name: name.to_owned(),
            extension: extension.to_owned(),
            direct_line: direct_line.map(str::to_owned),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        let problems = check_directory(&config, &Directory::new([user]));
        problems.into_iter().filter(|p| p.severity == Severity::Error).map(|p| p.key).collect()
    }

    #[test]
    fn no_extension_may_be_an_emergency_number_in_any_form() {
        for extension in
            ["911", "9911", "0911", "112", "9-1-1", "\u{ff19}\u{ff11}\u{ff11}", "%39%31%31", "911#", "*67911", "933"]
        {
            assert_eq!(errors("US", "alice", extension, None), ["user \"alice\" extension"], "{extension}");
        }
        for extension in ["1001", "1120", "9110", "9111", "99911", "912", "91"] {
            assert_eq!(errors("US", "alice", extension, None), Vec::<String>::new(), "{extension}");
        }
        assert_eq!(errors("JP", "alice", "9110", None).len(), 1, "9 and 110, the police");
        assert_eq!(errors("DE", "alice", "933", None).len(), 0);
    }

    #[test]
    fn no_name_or_direct_line_may_be_one_either() {
        assert_eq!(errors("US", "911", "1001", None), ["user \"911\" name"]);
        assert_eq!(errors("US", "911;x=y", "1001", None), ["user \"911;x=y\" name"]);
        assert_eq!(errors("US", "alice", "1001", Some("+1911")).len(), 2, "and it is no E.164 number");
        assert_eq!(errors("US", "alice", "1001", Some("12025550100")), ["user \"alice\" direct_line"]);
        assert_eq!(errors("US", "alice", "1001", Some("+12025550100")), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_forwarded_to_an_emergency_number_in_any_form() {
        let config = parse("[company]\nname = \"Example Corp\"\nregion = \"US\"").unwrap().0;
        for (target, is_refused) in [("911", true), ("9911", true), ("*67911", true), ("933", true), ("1911x", false)] {
            let user = User {
                name: "alice".to_owned(),
                extension: "1001".to_owned(),
                direct_line: None,
                credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
                forwarding: Forwarding { no_answer: Some(target.to_owned()), ..Forwarding::default() },
                place: Place::default(),
            };
            let keys: Vec<_> = check_directory(&config, &Directory::new([user])).into_iter().map(|p| p.key).collect();
            let expected = if is_refused { vec!["user \"alice\" forward no-answer".to_owned()] } else { vec![] };
            assert_eq!(keys, expected, "{target}");
        }
    }

    #[test]
    fn a_private_address_is_complete_in_the_region_and_of_a_direct_line() {
        let config = parse("[company]\nname = \"Example Corp\"\nregion = \"GB\"").unwrap().0;
        let messages = |line: Option<&str>, text: &str| {
            let place = Place { private_address: Some(parse_address(text).unwrap()), is_shared: false };
            let user = User {
                name: "alice".to_owned(),
                extension: "1001".to_owned(),
                direct_line: line.map(str::to_owned),
                credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
                forwarding: Forwarding::default(),
                place,
            };
            let problems = UserRules::new(&config).check(&user);
            assert!(problems.iter().all(|p| p.key == "user \"alice\" address"), "{problems:?}");
            assert!(!format!("{problems:?} {user:?}").contains("Sample"), "the address is repeated");
            problems.into_iter().map(|p| p.message).collect::<Vec<_>>()
        };
        let good = "country = \"GB\"\nA3 = \"Sampleton\"\nRD = \"Sample Lane\"\nHNO = \"7\"\nPC = \"ZZ99 9ZZ\"\n";
        let line = Some("+442079460123");
        assert_eq!(messages(line, good), Vec::<String>::new());
        assert_eq!(messages(None, good), ["a private address belongs to a direct line, and the user has none"]);
        let abroad = "the private address is in another country than GB, which the trunks serve";
        assert_eq!(messages(line, &good.replace("\"GB\"", "\"IE\"")), [abroad]);
        for (element, what) in [
            ("country", "country"),
            ("A3", "A1 (state or province) or A3 (city)"),
            ("PC", "PC (postal code)"),
            ("HNO", "RD and HNO (street and number) or LMK (landmark)"),
        ] {
            let without: String = good.lines().filter(|l| !l.starts_with(element)).map(|l| format!("{l}\n")).collect();
            assert_eq!(messages(line, &without), [format!("{what} is missing in the private address")]);
        }
    }

    #[test]
    fn a_trunk_that_takes_no_document_is_named_where_there_is_a_private_address() {
        let company =
            "address = { country = \"GB\", A3 = \"London\", RD = \"Example\", HNO = \"5\", PC = \"ZZ99 9ZZ\" }\n";
        let emergency = "[emergency]\ncallback_numbers = [\"+442079460100\"]\n";
        let trunk =
            |location: &str| format!("[trunk.a]\nhost = \"a.example\"\nnumbers = [\"+442079460100\"]\n{location}");
        let warnings = |location: &str| {
            let text = format!("[company]\nname = \"x\"\nregion = \"GB\"\n{company}{emergency}{}", trunk(location));
            let address = company.trim_start_matches("address = { ").trim_end_matches(" }\n").replace(", ", "\n");
            let user = User {
                name: "alice".to_owned(),
                extension: "1001".to_owned(),
                direct_line: Some("+442079460100".to_owned()),
                credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
                forwarding: Forwarding::default(),
                place: Place { private_address: Some(parse_address(&address).unwrap()), is_shared: false },
            };
            let problems = check_directory(&parse(&text).unwrap().0, &Directory::new([user]));
            problems.into_iter().map(|p| (p.severity, p.key)).collect::<Vec<_>>()
        };
        assert_eq!(warnings(""), []);
        let warning = || (Severity::Warning, "user \"alice\" address".to_owned());
        assert_eq!(warnings("location = \"elin\"\nelins = [\"+442079460100\"]"), [warning()]);
        assert_eq!(warnings("location = { header = \"X-Id\", value = \"7\" }"), [warning()]);
    }

    #[test]
    fn a_wrong_line_of_an_address_is_named_and_not_repeated() {
        for (text, key) in [("RD = 5", "RD"), ("RD = \"Sample\\nLane\"", "RD"), ("STREET = \"Sample Lane\"", "STREET")]
        {
            let problems = parse_address(text).unwrap_err();
            assert_eq!((problems.len(), problems[0].line, problems[0].key.as_str()), (1, 1, key), "{problems:?}");
            assert!(!format!("{problems:?}").contains("Sample"), "{problems:?}");
        }
    }

    #[test]
    fn a_pbx_needs_its_user_and_numbers_of_its_own() {
        let text = |numbers: &str| {
            format!("[company]\nname = \"x\"\nregion = \"US\"\n[pbx.a]\nuser = \"alice\"\nnumbers = [{numbers}]\n")
        };
        let alice = |line: Option<&str>| User {
            name: "alice".to_owned(),
            extension: "1001".to_owned(),
            direct_line: line.map(str::to_owned),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        let found = |text: &str, users: Vec<User>| {
            let problems = check_directory(&parse(text).unwrap().0, &Directory::new(users));
            problems.into_iter().map(|p| (p.severity, p.message)).collect::<Vec<_>>()
        };
        let one = text("\"+12025550200\"");
        assert_eq!(found(&one, vec![alice(Some("+12025550200"))]), []);
        assert_eq!(found(&one, vec![])[0].0, Severity::Warning);
        let bob = User { name: "bob".to_owned(), extension: "1002".to_owned(), ..alice(Some("+12025550200")) };
        assert_eq!(found(&one, vec![alice(None), bob])[0].0, Severity::Error);
        let twice = format!("{one}[pbx.b]\nuser = \"alice\"\nnumbers = [\"+12025550200\"]\n");
        assert_eq!(found(&twice, vec![alice(None)])[0].0, Severity::Error);
        for wrong in [text(""), text("\"911\""), one.replace("user", "username")] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_of_a_pbx_is_nobody_elses_direct_line_and_no_groups() {
        let text =
            "[company]\nname = \"x\"\nregion = \"US\"\n[pbx.a]\nuser = \"alice\"\nnumbers = [\"+12025550200\"]\n";
        let user = |name: &str, line: &str| User {
            name: name.to_owned(),
            extension: "1001".to_owned(),
            direct_line: Some(line.to_owned()),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: Place::default(),
        };
        let config = parse(text).unwrap().0;
        let rules = UserRules::new(&config);
        assert_eq!(rules.check(&user("bob", "+12025550200"))[0].key, "user \"bob\" direct_line");
        assert_eq!(rules.check(&user("alice", "+12025550200")), []);
        assert_eq!(rules.check(&user("bob", "+12025550299")), []);
        let group = |line: &str| {
            format!("{text}[group.sales]\nextension = \"600\"\nmembers = [\"bob\"]\ndirect_line = \"{line}\"\n")
        };
        assert!(parse(&group("+12025550299")).is_ok());
        let problems = parse(&group("+12025550200")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key, "group.sales.direct_line");
    }

    #[test]
    fn a_desk_that_does_not_exist_is_worth_a_warning() {
        let text = "[company]\nname = \"x\"\nregion = \"GB\"\n[emergency]\nnotify = [\"sip:desk@127.0.0.1\", \"sip:600@127.0.0.1\"]\n\
                    [group.desks]\nextension = \"600\"\nmembers = [\"desk\"]\n";
        let problems = check_directory(&parse(text).unwrap().0, &Directory::default());
        let told: Vec<_> = problems.iter().map(|p| (p.severity, p.key.as_str())).collect();
        assert_eq!(told, [(Severity::Warning, "emergency.notify")], "{problems:?}");
        assert!(problems[0].message.contains("sip:desk@127.0.0.1"));
    }

    #[test]
    fn a_callback_number_that_reaches_nobody_is_worth_a_warning() {
        let mut config = parse("[company]\nname = \"Example Corp\"\nregion = \"US\"").unwrap().0;
        config.emergency.callback_numbers = vec!["+12025550100".to_owned()];
        let problems = check_directory(&config, &Directory::default());
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].severity, problems[0].key.as_str()), (Severity::Warning, "emergency.callback_numbers"));
    }
}
