//! A caller's site: its region's numbers as the configuration amends them, and the test of a number against them
//! (emergency RULES 2.4 to 2.7).

use std::{borrow::Cow, net::IpAddr};

use super::{
    EmergencyCall,
    dial_string::Symbols,
    table::{self, Region},
};
use crate::config::Config;

/// What classification needs to know of the caller's site; built once per configuration.
#[derive(Clone, Debug)]
pub struct Site {
    region: &'static Region,
    /// The caller's table: the region's numbers, those of every region, plus `also`, minus `not`.
    numbers: Vec<Cow<'static, str>>,
    test_numbers: Vec<Cow<'static, str>>,
    outside_prefixes: Vec<String>,
    /// Lower case, without a trailing dot.
    own_names: Vec<String>,
    own_ips: Vec<IpAddr>,
    /// `(recognised, sent)`, the operator's before the built-in ones.
    dial_as: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

/// Codes dialled before a number to show or hide the caller's (RULES 2.5).
const CALLER_ID_CODES: [&str; 4] = ["*67", "*82", "*31#", "#31#"];
const CALLER_ID_CODES_BY_REGION: [(&str, &[&str]); 4] =
    [("GB", &["141", "1470"]), ("AU", &["1831", "1832"]), ("JP", &["184", "186"]), ("HK", &["133"])];

/// Where a recognised number is known not to work from fixed lines (RULES 2.7): region, recognised, sent.
const DIAL_AS: [(&str, &str, &str); 5] =
    [("AU", "112", "000"), ("NZ", "112", "111"), ("NZ", "911", "111"), ("US", "112", "911"), ("CA", "112", "911")];

/// The number that reads the caller's registered address back (RULES 2.6).
const TEST_NUMBERS: [(&str, &str); 2] = [("US", "933"), ("CA", "933")];

/// Services of `urn:service:sos` (RFC 5031 section 4.2).
const SERVICES: [&str; 9] =
    ["ambulance", "animal-control", "fire", "gas", "marine", "mountain", "physician", "poison", "police"];

/// Parts between pauses that are looked at; no number is dialled in more.
const PAUSES_MAX: usize = 32;

impl Site {
    /// `own_ips`: every listening address; they and the domain are matched without port, case or trailing dot.
    pub fn new(config: &Config, own_ips: &[IpAddr]) -> Self {
        let region = table::region(&config.company.region).expect("a checked configuration names a known region");
        let emergency = &config.emergency;
        let mut site = Self::of_region(region);
        site.numbers.extend(emergency.also.iter().cloned().map(Cow::Owned));
        site.numbers.retain(|n| emergency.not.iter().all(|not| not != n));
        site.test_numbers = test_numbers(config);
        if let Some(overrides) = emergency.dial_as.get(region.code) {
            let overrides = overrides.iter().map(|(k, v)| (Cow::Owned(k.clone()), Cow::Owned(v.clone())));
            site.dial_as.splice(..0, overrides);
        }
        site.outside_prefixes.clone_from(&config.dialing.outside_prefixes);
        site.add_own_host(&config.server.domain);
        site.own_ips.extend(own_ips.iter().map(IpAddr::to_canonical));
        site
    }

    /// A site with nothing amended; `None`: no such region.
    pub fn for_region(region: &str, outside_prefixes: &[&str], own_hosts: &[&str]) -> Option<Self> {
        let mut site = Self::of_region(table::region(region)?);
        site.outside_prefixes = outside_prefixes.iter().map(|&p| p.to_owned()).collect();
        own_hosts.iter().for_each(|host| site.add_own_host(host));
        Some(site)
    }

    fn of_region(region: &'static Region) -> Self {
        let of_this = |code: &str| code == region.code;
        let everywhere = table::everywhere().iter().filter(|number| !region.numbers.contains(number));
        Self {
            region,
            numbers: region.numbers.iter().chain(everywhere).map(|&n| Cow::Borrowed(n)).collect(),
            test_numbers: region_test_numbers(region.code),
            outside_prefixes: Vec::new(),
            own_names: Vec::new(),
            own_ips: Vec::new(),
            dial_as: DIAL_AS.iter().filter(|d| of_this(d.0)).map(|d| (d.1.into(), d.2.into())).collect(),
        }
    }

    fn add_own_host(&mut self, host: &str) {
        match ip_of(host) {
            Some(ip) => self.own_ips.push(ip),
            None => self.own_names.push(host.trim_end_matches('.').to_ascii_lowercase()),
        }
    }

    /// Numbers that are emergency calls here, without prefixes.
    pub fn numbers(&self) -> impl Iterator<Item = &str> {
        self.numbers.iter().map(|number| &**number)
    }

    /// Numbers that are calls to test with.
    pub fn test_numbers(&self) -> impl Iterator<Item = &str> {
        self.test_numbers.iter().map(|number| &**number)
    }

    /// The region of the site.
    pub fn region(&self) -> &'static Region {
        self.region
    }

    pub(super) fn outside_prefixes(&self) -> &[String] {
        &self.outside_prefixes
    }

    /// `host`: as in a URI, perhaps with a port.
    pub fn is_own_host(&self, host: &str) -> bool {
        let name = without_port(host);
        match ip_of(name) {
            Some(ip) => self.own_ips.contains(&ip),
            None => self.own_names.iter().any(|own| own.eq_ignore_ascii_case(name.trim_end_matches('.'))),
        }
    }

    /// The emergency call these symbols ask for, if they do. `context`: digits of a global `phone-context`.
    pub(super) fn emergency(&self, dialled: &Symbols, context: Option<&str>) -> Option<EmergencyCall> {
        let symbols = dialled.as_str();
        if let Some(number) = recognise(symbols, self.region, &self.outside_prefixes, |n| self.has(n)) {
            let is_listed = self.region.numbers.contains(&number.as_str());
            let service = if is_listed { self.region.service_of(&number) } else { None };
            return Some(EmergencyCall {
                digits: self.digits(&number, if is_listed { &number } else { self.region.primary }),
                urn: service_urn(false, service),
                dialled: symbols.to_owned(),
            });
        }
        let abroad = table::main_region(context?)?;
        let is_listed = |n: &str| abroad.numbers.contains(&n) || table::everywhere().contains(&n);
        let number = recognise(symbols, abroad, &self.outside_prefixes, is_listed)?;
        Some(EmergencyCall {
            digits: self.digits(self.region.primary, self.region.primary),
            urn: service_urn(false, abroad.service_of(&number)),
            dialled: symbols.to_owned(),
        })
    }

    /// The test call these symbols ask for (RULES 2.6).
    pub(super) fn test(&self, dialled: &Symbols) -> Option<EmergencyCall> {
        let symbols = dialled.as_str();
        let is_test = |n: &str| self.test_numbers.iter().any(|t| t == n);
        let digits = recognise(symbols, self.region, &self.outside_prefixes, is_test)?;
        Some(EmergencyCall { digits, urn: service_urn(true, None), dialled: symbols.to_owned() })
    }

    /// The call `urn:service:<labels>` asks for, and whether it is a test. `None`: not an emergency service.
    pub(super) fn service(&self, labels: &str) -> Option<(EmergencyCall, bool)> {
        let labels = labels.to_ascii_lowercase();
        let (is_test, labels) = labels.strip_prefix("test.").map_or((false, labels.as_str()), |l| (true, l));
        let mut parts = labels.split('.');
        let is_sos = parts.next() == Some("sos") && parts.clone().all(|label| !label.is_empty());
        if !is_sos {
            return None;
        }
        let service = parts.next().and_then(|label| SERVICES.into_iter().find(|s| *s == label));
        let digits = if is_test {
            self.test_numbers.first().map_or_else(String::new, |n| n.clone().into_owned())
        } else {
            let number = service.and_then(|s| self.region.number_for(s)).unwrap_or(self.region.primary);
            self.digits(number, number)
        };
        let dialled = format!("urn:service:{}{labels}", if is_test { "test." } else { "" });
        Some((EmergencyCall { digits, urn: service_urn(is_test, service), dialled }, is_test))
    }

    fn has(&self, number: &str) -> bool {
        self.numbers.iter().any(|n| n == number)
    }

    /// RULES 2.7: an override of what was recognised, or of what would be sent; else what would be sent.
    fn digits(&self, recognised: &str, sent: &str) -> String {
        let overriding =
            |n: &str| self.dial_as.iter().find(|(from, _)| from == n).map(|(_, to)| to.clone().into_owned());
        overriding(recognised).or_else(|| overriding(sent)).unwrap_or_else(|| sent.to_owned())
    }
}

/// The configured test numbers, or the region's own.
pub(super) fn test_numbers(config: &Config) -> Vec<Cow<'static, str>> {
    match &config.emergency.test_numbers {
        Some(numbers) => numbers.iter().cloned().map(Cow::Owned).collect(),
        None => region_test_numbers(&config.company.region),
    }
}

fn region_test_numbers(region: &str) -> Vec<Cow<'static, str>> {
    TEST_NUMBERS.iter().filter(|(r, _)| *r == region).map(|&(_, number)| Cow::Borrowed(number)).collect()
}

fn service_urn(is_test: bool, service: Option<&str>) -> String {
    let test = if is_test { "test." } else { "" };
    match service {
        Some(service) => format!("urn:service:{test}sos.{service}"),
        None => format!("urn:service:{test}sos"),
    }
}

/// The listed number that these symbols dial: RULES 2.3 item 7, then 2.4 for every part that ends at a pause and for the
/// whole with the pauses removed.
fn recognise(symbols: &str, region: &Region, prefixes: &[String], is_listed: impl Fn(&str) -> bool) -> Option<String> {
    if !symbols.contains(',') {
        return listed_in(symbols, region, prefixes, &is_listed).map(str::to_owned);
    }
    let mut dialled = String::new();
    for part in symbols.split(',').filter(|p| !p.is_empty()).take(PAUSES_MAX) {
        dialled.push_str(part);
        if let Some(number) = listed_in(&dialled, region, prefixes, &is_listed) {
            return Some(number.to_owned());
        }
    }
    None
}

/// RULES 2.4 and 2.5 on symbols without pauses. A caller-ID code may stand before or after the outside prefix: both are
/// dialled, and neither changes whom the caller wants.
fn listed_in<'n>(
    symbols: &'n str,
    region: &Region,
    prefixes: &[String],
    is_listed: &impl Fn(&str) -> bool,
) -> Option<&'n str> {
    let symbols = symbols.trim_end_matches('#');
    let listed = |digits: &'n str| is_listed(digits).then_some(digits);
    let after_prefix = |text: &'n str, read: &dyn Fn(&'n str) -> Option<&'n str>| {
        prefixes.iter().filter_map(|p| text.strip_prefix(p.as_str())).find_map(read)
    };
    let number = |text: &'n str| match text.strip_prefix('+') {
        Some(digits) => listed(digits).or_else(|| listed(digits.strip_prefix(region.country_code)?)),
        None => listed(text).or_else(|| after_prefix(text, &listed)),
    };
    number(symbols)
        .or_else(|| after_caller_id_code(symbols, region.code).find_map(number))
        .or_else(|| after_prefix(symbols, &|rest| after_caller_id_code(rest, region.code).find_map(listed)))
}

/// What follows a caller-ID code at the front, for each code that stands there.
fn after_caller_id_code<'n>(text: &'n str, region: &str) -> impl Iterator<Item = &'n str> {
    let local = CALLER_ID_CODES_BY_REGION.into_iter().filter(move |(r, _)| *r == region).flat_map(|(_, codes)| codes);
    CALLER_ID_CODES.iter().chain(local).filter_map(|code| text.strip_prefix(*code))
}

/// `[2001:db8::10]:5060` and `host:5060` without the port.
fn without_port(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn ip_of(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.trim_end_matches('.').parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(region: &str) -> Site {
        Site::for_region(region, &["9"], &["pbx.example.com", "192.0.2.10", "[2001:db8::10]"]).unwrap()
    }

    fn call(site: &Site, dialled: &str) -> Option<EmergencyCall> {
        site.emergency(&Symbols::read(dialled).unwrap(), None)
    }

    fn digits(region: &str, dialled: &str) -> String {
        call(&site(region), dialled).unwrap().digits
    }

    #[test]
    fn own_hosts_are_matched_without_port_case_or_trailing_dot() {
        let site = site("US");
        for own in ["pbx.example.com", "PBX.Example.COM.", "pbx.example.com:5062", "192.0.2.10:5060", "[2001:DB8::10]"]
        {
            assert!(site.is_own_host(own), "{own}");
        }
        for own in ["[2001:db8:0::10]:5061", "[::ffff:192.0.2.10]", "192.0.2.10."] {
            assert!(site.is_own_host(own), "{own}");
        }
        for foreign in ["", "example.com", "xpbx.example.com", "192.0.2.1", "[2001:db8::1]", "["] {
            assert!(!site.is_own_host(foreign), "{foreign}");
        }
    }

    #[test]
    fn digits_sent_are_those_that_work_from_a_trunk() {
        assert_eq!(digits("US", "911"), "911");
        assert_eq!(digits("US", "112"), "911", "built-in dial_as");
        assert_eq!(digits("AU", "112"), "000", "built-in dial_as");
        assert_eq!(digits("NZ", "911"), "111", "built-in dial_as");
        assert_eq!(digits("DE", "911"), "112", "known through * only: primary");
        assert_eq!(digits("DE", "110"), "110", "listed: as listed");
        assert_eq!(digits("GB", "+44999"), "999");
        assert_eq!(digits("JP", "112"), "110", "known through * only: primary");
    }

    #[test]
    fn an_override_applies_to_what_was_recognised_and_to_what_would_be_sent() {
        let mut site = site("DE");
        site.dial_as = vec![("110".into(), "0110".into()), ("112".into(), "0112".into())];
        assert_eq!(call(&site, "110").unwrap().digits, "0110");
        assert_eq!(call(&site, "911").unwrap().digits, "0112");
        assert_eq!(site.service("sos").unwrap().0.digits, "0112");
    }

    #[test]
    fn a_number_of_one_service_has_that_services_urn() {
        assert_eq!(call(&site("JP"), "110").unwrap().urn, "urn:service:sos.police");
        assert_eq!(call(&site("JP"), "119").unwrap().urn, "urn:service:sos");
        assert_eq!(call(&site("US"), "911").unwrap().urn, "urn:service:sos");
    }

    #[test]
    fn service_urns_choose_the_one_number_of_their_service() {
        let of =
            |region: &str, labels: &str| site(region).service(labels).map(|(c, is_test)| (c.digits, c.urn, is_test));
        let some = |digits: &str, urn: &str, is_test| Some((digits.to_owned(), urn.to_owned(), is_test));
        assert_eq!(of("JP", "SOS.Fire"), some("119", "urn:service:sos.fire", false));
        assert_eq!(of("FR", "sos.police"), some("112", "urn:service:sos.police", false), "17 and 112: not one");
        assert_eq!(of("GB", "sos.unknown.x"), some("999", "urn:service:sos", false));
        assert_eq!(of("US", "test.sos"), some("933", "urn:service:test.sos", true));
        assert_eq!(of("US", "test.sos.police"), some("933", "urn:service:test.sos.police", true));
        assert_eq!(of("DE", "test.sos"), some("", "urn:service:test.sos", true), "never a live number for a test");
        for other in ["sosx", "sos.", "sos..fire", "", "counseling", "test.", "test.sos.", "test.test.sos"] {
            assert_eq!(of("US", other), None, "{other}");
        }
    }

    #[test]
    fn caller_id_codes_are_skipped_once_on_either_side_of_the_outside_prefix() {
        for dialled in ["*67911", "*82911", "*31#911", "#31#911", "*679911", "9*67911", "*67+1911", "*67911##"] {
            assert!(call(&site("US"), dialled).is_some(), "{dialled}");
        }
        for dialled in ["*67*67911", "*911", "141911", "99911", "67911", "9+911"] {
            assert!(call(&site("US"), dialled).is_none(), "{dialled}");
        }
        assert!(call(&site("GB"), "141999").is_some());
        assert!(call(&site("GB"), "91470999").is_some());
        assert!(call(&site("JP"), "184110").is_some());
    }

    #[test]
    fn pauses_end_a_number_or_stand_inside_it() {
        for dialled in ["911,,123", "9,911", "9,9,1,1", ",911", "9,911,,5", "*67,911"] {
            assert!(call(&site("US"), dialled).is_some(), "{dialled}");
        }
        for dialled in ["1,911", "123,911", ",", ",,,"] {
            assert!(call(&site("US"), dialled).is_none(), "{dialled}");
        }
    }
}
