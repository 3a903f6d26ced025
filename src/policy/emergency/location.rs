//! The emergency response location and callback number of a call (emergency RULES, section 4).
//!
//! The location is always the company address here, whatever device or line calls. What the device says of its own
//! location is never read.

use crate::{
    config::{Config, PidfElement, Trunk, TrunkLocation},
    types::{Instant, Rng},
    wire::pidf,
};

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

/// The location for one call through one trunk. `callback`: see [`callback`]. `now` dates the document, `rng` makes its
/// identifiers.
pub fn erl(config: &Config, trunk: &Trunk, callback: &str, now: Instant, rng: &mut Rng) -> Erl {
    match &trunk.location {
        TrunkLocation::Elin => Erl::ByNumber,
        TrunkLocation::Header { name, value } => Erl::Header { name: name.clone(), value: value.expose().clone() },
        TrunkLocation::PidfLo => {
            let domain = &config.server.domain;
            let subject = match trunk.pidf_element {
                PidfElement::Tuple => pidf::Subject::Tuple,
                PidfElement::Device => pidf::Subject::Device { uuid: rng.bytes() },
            };
            let document = pidf::Document {
                entity: &pidf::pres_uri(callback, domain),
                id: "erl-company",
                subject,
                address: &company_address(config),
                now,
            };
            // A Content-ID is a dot-atom on both sides (RFC 2392 section 2): no brackets or colons of an IPv6 domain.
            let right = domain.trim_matches(['[', ']']).replace(':', "-");
            Erl::Document { content_id: format!("erl-company.{}@{right}", rng.token(16)), body: document.to_string() }
        }
    }
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
    use crate::config::parse;

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
        let now = Instant::from_unix_ms(1_768_469_400_000);
        erl(config, &config.trunks[0], callback, now, &mut Rng::from_small_seed(seed))
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
    fn an_ipv6_domain_makes_a_content_id_that_fits_a_cid_uri() {
        let mut config = config("");
        config.server.domain = "[2001:db8::10]".to_owned();
        let Erl::Document { content_id, body } = erl_of(&config, "+12025550100", 1) else { panic!() };
        assert!(content_id.ends_with("@2001-db8--10"), "{content_id}");
        assert!(body.contains("entity=\"pres:+12025550100@%5B2001:db8::10%5D\""));
    }

    #[test]
    fn the_trunk_says_how_the_location_travels() {
        assert_eq!(erl_of(&config("location = \"elin\""), "+12025550100", 1), Erl::ByNumber);
        let header = config("location = { header = \"X-Location-Id\", value = \"site-7\" }");
        let expected = Erl::Header { name: "X-Location-Id".to_owned(), value: "site-7".to_owned() };
        assert_eq!(erl_of(&header, "+12025550100", 1), expected);
        let Erl::Document { body, .. } = erl_of(&config("pidf_element = \"device\""), "+12025550100", 1) else {
            panic!()
        };
        assert!(body.contains("<dm:device id=\"erl-company\">") && !body.contains("<tuple"));
    }
}
