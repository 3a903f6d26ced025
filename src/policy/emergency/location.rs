//! The emergency response location and callback number of a call (emergency RULES, section 4).
//!
//! The location is the company address, whatever device or line calls, but for a direct line with a private address that
//! nobody else makes calls on. What the device says of its own location is never read.

use std::collections::BTreeMap;

use crate::{
    config::{Config, PidfElement, PrivateAddress, Trunk, TrunkLocation, User},
    types::{Instant, Private, Rng},
    wire::pidf,
};

/// Whose address the answering point is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Company,
    Private { user: String, address: PrivateAddress },
}

impl Place {
    /// `company` or `private NAME`: never the address itself.
    pub fn label(&self) -> String {
        match self {
            Self::Company => "company".to_owned(),
            Self::Private { user, .. } => format!("private {user}"),
        }
    }

    /// An XML name, for the document.
    const fn id(&self) -> &'static str {
        match self {
            Self::Company => "erl-company",
            Self::Private { .. } => "erl-line",
        }
    }

    fn address(&self, config: &Config) -> pidf::CivicAddress {
        match self {
            Self::Company => company_address(config),
            Self::Private { address, .. } => pidf::CivicAddress::new(address.expose()),
        }
    }
}

/// The place of a call that an authenticated user makes on `line` (section 4); `None` for a user: anybody else.
pub fn place(config: &Config, user: Option<&User>, line: Option<&str>) -> Place {
    let own = user.filter(|user| line.is_some() && user.direct_line.as_deref() == line && !is_shared(config, user));
    match own.and_then(|user| Some((user.name.clone(), user.place.private_address.clone()?))) {
        Some((user, address)) => Place::Private { user, address },
        None => Place::Company,
    }
}

/// Whether others than this user can make calls on its line: 4.1. Several devices of one user are no others.
fn is_shared(config: &Config, user: &User) -> bool {
    let is_groups = || config.groups.iter().any(|g| g.direct_line.is_some() && g.direct_line == user.direct_line);
    user.place.is_shared || config.pbx_of(&user.name).is_some() || is_groups()
}

/// How the location travels in the INVITE to a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Erl {
    /// A body part of type `application/pidf+xml` with this Content-ID (without brackets), named by `Geolocation`.
    Document { content_id: String, body: String },
    /// A header the carrier asked for.
    Header { name: String, value: String },
    /// Nothing: the carrier knows the address of the callback number (4.4).
    ByNumber,
}

/// Whom the answering point calls back, E.164: the caller's direct line, or a number of the company. `turn` hands the
/// company's numbers out one after the other, so that concurrent callers differ (6.3). `direct_line`: `None` also for a
/// device that did not authenticate. `None`: no callback number is configured.
pub fn callback<'c>(config: &'c Config, direct_line: Option<&'c str>, turn: u64) -> Option<&'c str> {
    if direct_line.is_some() {
        return direct_line;
    }
    let numbers = &config.emergency.callback_numbers;
    let index = turn.checked_rem(u64::try_from(numbers.len()).ok()?)?;
    numbers.get(usize::try_from(index).ok()?).map(String::as_str)
}

/// The same over one trunk (4.4): where the carrier knows the location by the number alone, one for which it has the company's
/// address. `callback`: see [`callback`]. A private line keeps its own number.
pub fn callback_over<'c>(trunk: &'c Trunk, place: &Place, callback: &'c str, turn: u64) -> &'c str {
    let is_known = trunk.location != TrunkLocation::Elin || trunk.elins.iter().any(|number| number == callback);
    if is_known || *place != Place::Company {
        return callback;
    }
    let count = u64::try_from(trunk.elins.len()).unwrap_or(u64::MAX);
    let index = turn.checked_rem(count).and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| trunk.elins.get(index)).map_or(callback, String::as_str)
}

/// The location for one call through one trunk. `callback`: see [`callback`]. `now` dates the document, `rng` makes its
/// identifiers.
pub fn erl(config: &Config, trunk: &Trunk, place: &Place, callback: &str, now: Instant, rng: &mut Rng) -> Erl {
    match &trunk.location {
        TrunkLocation::Elin => Erl::ByNumber,
        // The header names the company's place, which would be false; the carrier knows the direct line's.
        TrunkLocation::Header { .. } if *place != Place::Company => Erl::ByNumber,
        TrunkLocation::Header { name, value } => Erl::Header { name: name.clone(), value: value.expose().clone() },
        TrunkLocation::PidfLo => {
            let domain = &config.server.domain;
            let subject = match trunk.pidf_element {
                PidfElement::Tuple => pidf::Subject::Tuple,
                PidfElement::Device => pidf::Subject::Device { uuid: rng.bytes() },
            };
            let document = pidf::Document {
                entity: &pidf::pres_uri(callback, domain),
                id: place.id(),
                subject,
                address: &place.address(config),
                now,
            };
            // A Content-ID is a dot-atom on both sides (RFC 2392 section 2): no brackets or colons of an IPv6 domain.
            let right = domain.trim_matches(['[', ']']).replace(':', "-");
            let content_id = format!("{}.{}@{right}", place.id(), rng.token(16));
            Erl::Document { content_id, body: document.to_string() }
        }
    }
}

/// The company's address in one line, as people write it; empty where none is configured.
pub fn company_line(config: &Config) -> String {
    let name = Some(config.company.name.as_str());
    config.company.address.as_ref().map_or_else(String::new, |address| line(name, address))
}

/// The address of a place in one line; `None`: the company's. For its user alone.
pub fn private_line(place: &Place) -> Option<Private<String>> {
    match place {
        Place::Company => None,
        Place::Private { address, .. } => Some(Private::new(line(None, address.expose()))),
    }
}

/// `name`: of whoever is there, where the address has none.
fn line(name: Option<&str>, address: &BTreeMap<String, String>) -> String {
    let words = |names: &[&str]| {
        let words: Vec<_> = names.iter().filter_map(|name| address.get(*name)).map(String::as_str).collect();
        words.join(" ")
    };
    let name = address.get("NAM").map(String::as_str).or(name).unwrap_or_default().to_owned();
    let parts = [
        name,
        words(&["HNP", "HNO", "HNS", "STP", "PRM", "PRD", "RD", "STS", "POD", "POM", "RDSEC", "RDBR", "RDSUBBR"]),
        words(&["LMK"]),
        words(&["BLD"]),
        address.get("FLR").map_or_else(String::new, |floor| format!("floor {floor}")),
        words(&["UNIT", "ROOM", "SEAT"]),
        words(&["LOC"]),
        words(&["A6", "A5", "A4", "A3"]),
        words(&["A2", "A1", "PC"]),
        words(&["country"]),
    ];
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The configured address; the company's name stands in the place of a name of the location that is not configured.
fn company_address(config: &Config) -> pidf::CivicAddress {
    let company = &config.company;
    let mut elements = company.address.clone().unwrap_or_default();
    elements.entry("NAM".to_owned()).or_insert_with(|| company.name.clone());
    pidf::CivicAddress::new(&elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, Forwarding, parse},
        types::Secret,
        wire::sip::digest::Credential,
    };

    fn config(trunk: &str) -> Config {
        let text = format!(
            r#"
            [server]
            domain = "pbx.example.com"
            [company]
            name = "Example Corp & Sons"
            region = "US"
            [company.address]
            country = "US"
            A1 = "DC"
            A3 = "Washington"
            RD = "Example"
            HNO = "500"
            PC = "20001"
            [emergency]
            callback_numbers = ["+12025550100", "+12025550101"]
            [trunk.a]
            host = "trunk.example"
            numbers = ["+12025550100"]
            {trunk}"#
        );
        parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0
    }

    fn erl_of(config: &Config, callback: &str, seed: u64) -> Erl {
        erl_at(config, &Place::Company, callback, seed)
    }

    fn erl_at(config: &Config, place: &Place, callback: &str, seed: u64) -> Erl {
        let now = Instant::from_unix_ms(1_768_469_400_000);
        erl(config, &config.trunks[0], place, callback, now, &mut Rng::from_small_seed(seed))
    }

    const LINE: &str = "+12025550177";

    fn alice() -> User {
        let elements = [("country", "US"), ("RD", "Sample"), ("HNO", "7")];
        let address = elements.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        User {
            name: "alice".to_owned(),
            extension: "1001".to_owned(),
            direct_line: Some(LINE.to_owned()),
            credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
            forwarding: Forwarding::default(),
            place: config::Place { private_address: Some(Private::new(address)), is_shared: false },
        }
    }

    #[test]
    fn only_a_direct_line_that_nobody_shares_is_at_its_private_address() {
        let config = config("");
        let private = place(&config, Some(&alice()), Some(LINE));
        assert_eq!(private.label(), "private alice");
        assert_eq!(
            private_line(&private),
            Some(Private::new("7 Sample, US".to_owned())),
            "for alice, without the company"
        );
        assert_eq!(private_line(&Place::Company), None);
        let Erl::Document { content_id, body } = erl_at(&config, &private, LINE, 1) else { panic!() };
        assert!(content_id.starts_with("erl-line.") && body.contains("<ca:RD>Sample</ca:RD>"));
        assert!(!body.contains("Example") && !body.contains("500"), "nothing of the company's address: {body}");
        assert!(!format!("{private:?}").contains("Sample"));
        let mut shared = alice();
        shared.place.is_shared = true;
        let mut public = alice();
        public.place.private_address = None;
        for (why, user, line) in [
            ("shared", Some(&shared), Some(LINE)),
            ("no private address", Some(&public), Some(LINE)),
            ("another number", Some(&alice()), Some("+12025550100")),
            ("extension only", Some(&alice()), None),
            ("nobody known", None, Some(LINE)),
        ] {
            assert_eq!(place(&config, user, line), Place::Company, "{why}");
        }
    }

    #[test]
    fn the_line_of_a_telephone_system_or_a_group_is_shared() {
        let with = |more: &str| place(&config(more), Some(&alice()), Some(LINE));
        assert_eq!(with(&format!("[pbx.a]\nuser = \"alice\"\nnumbers = [\"{LINE}\"]")), Place::Company);
        let group = "[group.a]\nextension = \"600\"\nmembers = [\"alice\"]\n";
        assert_eq!(with(&format!("{group}direct_line = \"{LINE}\"")), Place::Company);
        assert_ne!(with(group), Place::Company, "a member's own line stays its own");
    }

    #[test]
    fn a_header_that_names_the_companys_place_does_not_go_with_a_private_line() {
        let config = config("location = { header = \"X-Location-Id\", value = \"site-7\" }");
        let private = place(&config, Some(&alice()), Some(LINE));
        assert_eq!(erl_at(&config, &private, LINE, 1), Erl::ByNumber);
    }

    #[test]
    fn the_direct_line_is_called_back_and_the_company_where_there_is_none() {
        let config = config("");
        assert_eq!(callback(&config, Some("+12025550177"), 0), Some("+12025550177"));
        assert_eq!(callback(&config, None, 0), Some("+12025550100"));
        assert_eq!(callback(&config, None, 1), Some("+12025550101"));
        assert_eq!(callback(&config, None, u64::MAX), Some("+12025550101"));
        let mut none = config.clone();
        none.emergency.callback_numbers.clear();
        assert_eq!(callback(&none, None, 7), None);
    }

    #[test]
    fn a_carrier_that_knows_places_by_number_is_shown_one_that_it_knows() {
        let elin = config("location = \"elin\"\nelins = [\"+12025550150\", \"+12025550151\"]");
        let over = |place: &Place, callback: &'static str, turn| {
            callback_over(&elin.trunks[0], place, callback, turn).to_owned()
        };
        let private = place(&elin, Some(&alice()), Some(LINE));
        for (place, callback, turn, shown) in [
            (&Place::Company, LINE, 0, "+12025550150"),
            (&Place::Company, LINE, 1, "+12025550151"),
            (&Place::Company, LINE, u64::MAX, "+12025550151"),
            (&Place::Company, "+12025550151", 0, "+12025550151"),
            (&Place::Company, "+12025550100", 0, "+12025550150"),
            (&private, LINE, 0, LINE),
        ] {
            assert_eq!(over(place, callback, turn), shown, "{callback} {turn}");
        }
        assert_eq!(callback_over(&config("").trunks[0], &Place::Company, LINE, 0), LINE);
    }

    #[test]
    fn every_caller_reports_the_same_company_address() {
        let config = config("");
        let address = |callback, seed| match erl_of(&config, callback, seed) {
            Erl::Document { content_id, body } => {
                let start = body.find("<ca:civicAddress").unwrap();
                let end = body.find("</ca:civicAddress>").unwrap();
                assert!(body.contains(&format!("entity=\"pres:{callback}@pbx.example.com\"")));
                (content_id, body[start..end].to_owned())
            }
            other => panic!("{other:?}"),
        };
        let (first_id, first) = address("+12025550100", 1);
        let (second_id, second) = address("+12025550177", 2);
        assert_eq!(first, second);
        assert_ne!(first_id, second_id);
        assert!(first_id.ends_with("@pbx.example.com"));
        assert!(first.contains("<ca:NAM>Example Corp &amp; Sons</ca:NAM>"));
        assert!(!first.contains("Sons &"));
    }

    #[test]
    fn the_companys_address_is_one_line_for_people() {
        let mut config = config("");
        let address = config.company.address.as_mut().unwrap();
        for (name, text) in [("STS", "Avenue"), ("PRD", "NW"), ("FLR", "4"), ("ROOM", "Reception")] {
            address.insert(name.to_owned(), text.to_owned());
        }
        let line = "Example Corp & Sons, 500 NW Example Avenue, floor 4, Reception, Washington, DC 20001, US";
        assert_eq!(company_line(&config), line);
        config.company.address = None;
        assert_eq!(company_line(&config), "");
    }

    #[test]
    fn an_ipv6_domain_makes_a_content_id_that_fits_a_cid_uri() {
        let mut config = config("");
        config.server.domain = "[2001:db8::10]".to_owned();
        let Erl::Document { content_id, body } = erl_of(&config, "+12025550100", 1) else { panic!() };
        assert!(content_id.ends_with("@2001-db8--10"), "{content_id}");
        assert!(body.contains("entity=\"pres:+12025550100@%5B2001:db8::10%5D\""));
    }

    #[test]
    fn the_trunk_says_how_the_location_travels() {
        let elin = config("location = \"elin\"\nelins = [\"+12025550100\", \"+12025550101\"]");
        assert_eq!(erl_of(&elin, "+12025550100", 1), Erl::ByNumber);
        let header = config("location = { header = \"X-Location-Id\", value = \"site-7\" }");
        let expected = Erl::Header { name: "X-Location-Id".to_owned(), value: "site-7".to_owned() };
        assert_eq!(erl_of(&header, "+12025550100", 1), expected);
        let Erl::Document { body, .. } = erl_of(&config("pidf_element = \"device\""), "+12025550100", 1) else {
            panic!()
        };
        assert!(body.contains("<dm:device id=\"erl-company\">") && !body.contains("<tuple"));
    }
}
