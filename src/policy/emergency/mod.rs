//! Emergency calling (emergency RULES, sections 2 to 5): is this an emergency call, what happens to it, and what the
//! caller or the answering point is told.
//!
//! [`classify`] runs on every Request-URI before anything else looks at it. Its result is a type: routing takes an
//! [`Ordinary`], and only classification can make one.
//!
//! ```
//! use ringdown::policy::emergency::{Dialled, Site, classify};
//!
//! let site = Site::for_region("GB", &["9"], &["pbx.example.com"]).expect("GB is a region");
//! assert!(matches!(classify("sip:999@pbx.example.com", &site), Dialled::Emergency(call) if call.digits == "999"));
//! assert!(matches!(classify("sip:1001@pbx.example.com", &site), Dialled::Ordinary(_)));
//! ```

mod decision;
mod dial_string;
mod dial_test;
pub mod location;
#[cfg(test)]
pub mod product;
pub mod refusal;
mod site;
pub mod table;
pub mod texts;

pub use decision::{Class, Decision, Route, Situation, Source, decide, eligible_trunks, is_available};
pub use dial_string::ShortText;
pub use dial_test::dial_test;
pub use site::Site;

use super::number;
use dial_string::{Asked, DialString, Symbols};

/// What a Request-URI asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialled {
    Emergency(EmergencyCall),
    /// The carrier's test number or `urn:service:test.sos*`: routed like an emergency call, not counted as one.
    Test(EmergencyCall),
    Ordinary(Ordinary),
}

/// An emergency (or test) number: which digits go to a digits trunk, which URN to a URN trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmergencyCall {
    /// Digits for the trunk by RULES 2.7. Empty for a test URN where the site has no test number: [`decide`] then names
    /// only trunks that take the URN, because the live number must not stand in for a test.
    pub digits: String,
    /// `urn:service:sos` or with a sub-service.
    pub urn: String,
    /// What the caller dialled, normalised, for logs and notifications.
    pub dialled: String,
}

/// Proven not to be an emergency number: only [`classify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordinary {
    pub(super) kind: OrdinaryKind,
    /// For an outside number, what was dialled before it was normalised; empty otherwise.
    dialled: String,
}

impl Ordinary {
    pub const fn kind(&self) -> &OrdinaryKind {
        &self.kind
    }

    /// What was dialled: digits without separators, or the user part. Empty for a foreign or unreadable address.
    pub fn dialled(&self) -> &str {
        match &self.kind {
            OrdinaryKind::Extension(user) => user,
            OrdinaryKind::External(_) => &self.dialled,
            OrdinaryKind::Foreign | OrdinaryKind::Invalid => "",
        }
    }

    const fn of(kind: OrdinaryKind) -> Self {
        Self { kind, dialled: String::new() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrdinaryKind {
    /// A user part of our own domain that is not a dialable outside number: extension or user name.
    Extension(ShortText),
    /// An outside number, normalised to E.164 with `+` where the region allows it, otherwise digits.
    External(String),
    /// The user part of a foreign domain; not routed here.
    Foreign,
    /// Not understood.
    Invalid,
}

/// RULES section 2, on a Request-URI (or a bare dialled string). O(length); a plain ASCII extension costs no allocation.
pub fn classify(request_uri: &str, site: &Site) -> Dialled {
    let dialled = match dial_string::read(request_uri) {
        Asked::Service(labels) => {
            return match site.service(&labels) {
                Some((call, false)) => Dialled::Emergency(call),
                Some((call, true)) => Dialled::Test(call),
                None => Dialled::Ordinary(Ordinary::of(OrdinaryKind::Invalid)),
            };
        }
        Asked::User(dialled) => dialled,
        Asked::Nothing => return Dialled::Ordinary(Ordinary::of(OrdinaryKind::Invalid)),
    };
    let is_own = dialled.host.is_none_or(|host| site.is_own_host(host));
    if !is_own && !dialled.is_telephone {
        return Dialled::Ordinary(Ordinary::of(OrdinaryKind::Foreign));
    }
    let symbols = Symbols::read(dialled.text());
    if let Some(symbols) = &symbols
        && let Some(dialled) = special(symbols, dialled.context_digits().as_deref(), site)
    {
        return dialled;
    }
    Dialled::Ordinary(ordinary(&dialled, symbols.as_ref(), is_own, site))
}

/// The class of a text that could become a user part: an extension, user name or direct line in the directory.
pub fn class_of_user_part(text: &str, site: &Site) -> Option<Class> {
    let text = dial_string::percent_decode(text);
    match special(&Symbols::read(text.split(';').next()?)?, None, site)? {
        Dialled::Emergency(_) => Some(Class::Emergency),
        Dialled::Test(_) => Some(Class::Test),
        Dialled::Ordinary(_) => None,
    }
}

fn special(symbols: &Symbols, context: Option<&str>, site: &Site) -> Option<Dialled> {
    let emergency = || site.emergency(symbols, context).map(Dialled::Emergency);
    emergency().or_else(|| site.test(symbols).map(Dialled::Test))
}

/// What is left once a number is known to be neither an emergency nor a test number.
fn ordinary(dialled: &DialString<'_>, symbols: Option<&Symbols>, is_own: bool, site: &Site) -> Ordinary {
    let digits = symbols.map(|s| s.as_str().trim_end_matches('#')).filter(|s| number::is_number(s));
    if let Some(digits) = digits
        && number::is_outside(digits, site.region(), site.outside_prefixes())
    {
        let number = number::to_e164(digits, site.region(), site.outside_prefixes());
        return Ordinary { kind: OrdinaryKind::External(number), dialled: digits.to_owned() };
    }
    let user = digits.unwrap_or_else(|| dialled.text());
    Ordinary::of(if !is_own {
        // `user=phone` with a number that means something only in that domain.
        OrdinaryKind::Foreign
    } else if user.is_empty() || user.contains(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER) {
        OrdinaryKind::Invalid
    } else {
        OrdinaryKind::Extension(user.into())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Directory, Forwarding, Place, User},
        policy::reach,
        types::Secret,
        wire::sip::digest::Credential,
    };

    const OWN: [&str; 2] = ["pbx.example.com", "[2001:db8::10]"];

    fn site(region: &str) -> Site {
        Site::for_region(region, &["9", "0"], &OWN).unwrap()
    }

    fn kind(uri: &str, region: &str) -> OrdinaryKind {
        match classify(uri, &site(region)) {
            Dialled::Ordinary(ordinary) => ordinary.kind,
            special => panic!("{uri}: {special:?}"),
        }
    }

    #[test]
    fn what_is_no_emergency_is_an_extension_an_outside_number_or_not_ours() {
        let extension = |s: &str| OrdinaryKind::Extension(s.into());
        let external = |s: &str| OrdinaryKind::External(s.to_owned());
        assert_eq!(kind("sip:1001@pbx.example.com;transport=tls", "US"), extension("1001"));
        assert_eq!(kind("sip:Alice%20B@pbx.example.com", "US"), extension("Alice B"));
        assert_eq!(kind("10-01", "US"), extension("1001"));
        assert_eq!(kind("911x", "US"), extension("911x"));
        assert_eq!(kind("sip:+442079460123@pbx.example.com", "US"), external("+442079460123"));
        assert_eq!(kind("sip:92025550100@pbx.example.com", "US"), external("+12025550100"));
        assert_eq!(kind("2025550100", "US"), external("+12025550100"));
        assert_eq!(kind("988", "US"), external("988"), "a helpline is never an unknown extension");
        assert_eq!(kind("9988", "US"), external("988"));
        assert_eq!(kind("116123", "DE"), external("116123"));
        assert_eq!(kind("sip:1001@other.example.net", "US"), OrdinaryKind::Foreign);
        assert_eq!(kind("sip:1001@other.example.net;user=phone", "US"), OrdinaryKind::Foreign);
        assert_eq!(kind("sip:+12025550100@other.example.net;user=phone", "US"), external("+12025550100"));
        for invalid in
            ["", " ", "sip:pbx.example.com", "urn:service:counseling", "http://x", "sip:a%00b@pbx.example.com"]
        {
            assert_eq!(kind(invalid, "US"), OrdinaryKind::Invalid, "{invalid}");
        }
    }

    #[test]
    fn an_outside_number_keeps_what_was_dialled() {
        let Dialled::Ordinary(ordinary) = classify("9 202 555 0100", &site("US")) else { panic!() };
        assert_eq!(ordinary.dialled(), "92025550100");
    }

    #[test]
    fn a_number_of_another_country_is_found_through_its_phone_context() {
        let Dialled::Emergency(call) = classify("tel:15;phone-context=+33", &site("DE")) else { panic!() };
        assert_eq!((call.digits.as_str(), call.urn.as_str()), ("112", "urn:service:sos.ambulance"));
        assert!(matches!(classify("tel:15;Phone-Context=%2B33-1", &site("DE")), Dialled::Emergency(_)));
        assert!(matches!(classify("tel:15;phone-context=+49", &site("DE")), Dialled::Ordinary(_)));
        assert!(matches!(classify("sip:15%3Bphone-context=+33@pbx.example.com", &site("DE")), Dialled::Emergency(_)));
    }

    #[test]
    fn the_test_number_is_a_test_in_every_form_and_nowhere_else() {
        for dialled in ["933", "9933", "+1933", "9-3-3", "urn:service:TEST.sos", "sip:933@pbx.example.com"] {
            assert!(matches!(classify(dialled, &site("US")), Dialled::Test(_)), "{dialled}");
        }
        assert!(matches!(classify("933", &site("DE")), Dialled::Ordinary(_)));
        assert!(matches!(classify("933", &site("SZ")), Dialled::Emergency(_)), "fire in Eswatini");
    }

    #[test]
    fn the_longest_message_is_classified_without_going_over_it_again_and_again() {
        let site = site("US");
        for part in
            ["9,", "#", "%", "%39", "*67", "9", "\u{116da}", "\u{fdfa}", ";phone-context=+1", ".", "@", ":", "sip:"]
        {
            let text = part.repeat(65_535 / part.len());
            let _ = classify(&text, &site);
            let _ = classify(&format!("sip:{text}@pbx.example.com"), &site);
        }
    }

    /// Every emergency number of a region, with the region.
    fn emergency_number() -> impl Strategy<Value = (&'static table::Region, &'static str)> {
        let all: Vec<_> = table::regions()
            .iter()
            .flat_map(|r| r.numbers.iter().chain(table::everywhere()).map(move |&n| (r, n)))
            .collect();
        proptest::sample::select(all)
    }

    /// One digit as a phone, a copied text or an attacker may write it.
    fn written(digit: char) -> impl Strategy<Value = String> {
        let offset = u32::from(digit) - u32::from('0');
        let rows = [0x30, 0x660, 0x6f0, 0x966, 0xff10, 0x1d7ce, 0x1d7f6, 0x116da];
        let scripts: Vec<_> = rows.into_iter().filter_map(|zero| char::from_u32(zero + offset)).collect();
        const SEPARATORS: [&str; 13] =
            ["", "", "-", ".", "(", ")", "/", " ", "\u{a0}", "\u{200b}", "\u{2011}", "\u{2212}", "\u{ad}"];
        (proptest::sample::select(scripts), proptest::sample::select(&SEPARATORS[..]), any::<bool>()).prop_map(
            |(c, separator, is_escaped)| {
                let text = format!("{c}{separator}");
                if is_escaped || !text.is_ascii() { text.bytes().map(|b| format!("%{b:02x}")).collect() } else { text }
            },
        )
    }

    fn disguised() -> impl Strategy<Value = (&'static str, String)> {
        emergency_number().prop_flat_map(|(region, number)| {
            let country = format!("+{}", region.country_code);
            let fronts =
                ["", "9", "0", "+", "*67", "*82", "*31%23", "%2331%23", "9,", "*679", "9*67"].map(str::to_owned);
            let front = proptest::sample::select([&fronts[..], &[country]].concat());
            let back = proptest::sample::select(&["", "%23", ",,123", "p1", ";phone-context=+999", ":secret"][..]);
            let frame = proptest::sample::select(&[
                ("sip:", "@pbx.example.com"),
                ("SIPS:", "@PBX.example.com.:5061;transport=tls?a=b"),
                ("sip:", "@[2001:db8::10]"),
                ("sip:", "@elsewhere.example;user=phone"),
                ("tel:", ""),
                ("", "@pbx.example.com"),
            ]);
            let digits: Vec<_> = number.chars().map(written).collect();
            (digits, front, back, frame).prop_map(move |(digits, front, back, (scheme, host))| {
                (region.code, format!("{scheme}{front}{}{back}{host}", digits.concat()))
            })
        })
    }

    /// Everything of a configuration and a directory that could send a number elsewhere: outside prefixes, groups, forwards,
    /// extensions and direct lines of digits near those of emergency numbers.
    fn dial_plan() -> impl Strategy<Value = (Vec<String>, Vec<String>, Vec<String>)> {
        let prefixes = proptest::sample::subsequence(vec!["9", "0", "8", "00", "91", "1"], 0..=6);
        let extensions = proptest::collection::vec("[0-9]{2,6}", 1..6);
        let targets = proptest::collection::vec("[+*#0-9]{1,12}", 1..6);
        (prefixes.prop_map(|list| list.into_iter().map(str::to_owned).collect()), extensions, targets)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Routing takes an [`Ordinary`], which only `classify` makes; so it is enough that none is made, whatever else is
        /// configured, of what is dialled or of where somebody forwards to.
        #[test]
        fn no_dial_plan_forward_or_group_makes_an_emergency_number_ordinary(
            (region, uri) in disguised(),
            (prefixes, extensions, targets) in dial_plan(),
        ) {
            let text = format!("[server]\ndomain = \"pbx.example.com\"\n[company]\nname = \"x\"\nregion = \"{region}\"\n");
            // A group whose number shadows an emergency number is refused at load; the others stay.
            let groups: String = (0..).zip(&extensions).map(|(n, extension)| {
                format!("[group.g{n}]\nextension = \"{extension}\"\nmembers = [\"u{extension}\"]\n")
            }).collect();
            let parsed = crate::config::parse(&format!("{text}{groups}")).or_else(|_| crate::config::parse(&text));
            let mut config = parsed.unwrap().0;
            config.dialing.outside_prefixes = [&["9".to_owned(), "0".to_owned()][..], &prefixes].concat();
            let users = extensions.iter().zip(targets.iter().cycle()).map(|(extension, target)| User {
                name: format!("u{extension}"),
                extension: extension.clone(),
                direct_line: Some(format!("+{extension}")),
                credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
                forwarding: Forwarding { always: Some(target.clone()), ..Forwarding::default() },
                place: Place::default(),
            });
            let directory = Directory::new(users);
            let site = Site::new(&config, &["2001:db8::10".parse().unwrap()]);
            prop_assert!(matches!(classify(&uri, &site), Dialled::Emergency(_)), "{region}: {uri}");
            // A forward to the same, in whatever form, leads nowhere.
            let rest = ["sip:", "SIPS:", "tel:"].into_iter().find_map(|scheme| uri.strip_prefix(scheme)).unwrap_or(&uri);
            let user = rest.split('@').next().unwrap_or_default();
            prop_assert!(reach::target(user, &config, &directory, &site).is_none(), "{region}: {user}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn no_disguise_makes_an_emergency_number_ordinary((region, uri) in disguised()) {
            prop_assert!(matches!(classify(&uri, &site(region)), Dialled::Emergency(_)), "{region}: {uri}");
        }

        #[test]
        fn any_text_is_classified(text in "\\PC*", noise in any::<String>()) {
            let site = site("US");
            for uri in [text.clone(), noise.clone(), format!("sip:{text}@pbx.example.com"), format!("tel:{noise}")] {
                let _ = classify(&uri, &site);
                let _ = class_of_user_part(&uri, &site);
            }
        }

        #[test]
        fn digits_that_dial_no_listed_number_are_ordinary(digits in "[2-8][0-9]{2,12}") {
            let site = Site::for_region("US", &[], &OWN).unwrap();
            prop_assume!(!digits.starts_with("911") && !digits.starts_with("112"));
            prop_assert!(matches!(classify(&digits, &site), Dialled::Ordinary(_)));
        }
    }
}
