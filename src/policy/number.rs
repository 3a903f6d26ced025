//! Numbers: from what was dialled to one canonical form, from that to what a trunk wants, and what kind of destination each is.
//!
//! The canonical form is E.164 with `+`. It is found by the numbering plan of the site's region (libphonenumber's metadata),
//! and only where the form says that the whole number was dialled: behind an international prefix, behind the region's
//! national prefix, or where the region has none. What may be a local number goes to the trunk as dialled, without its outside
//! prefix, because a wrong guess here would call somebody else.

use phonenumber::{Mode, PhoneNumber, Type, country, metadata::DATABASE};

use super::emergency::table::Region;

/// Longest E.164 number, digits without `+` (ITU-T E.164 section 6).
pub const E164_DIGITS_MAX: usize = 15;
/// Shortest number with `+` that is taken for an E.164 number: a country code and a subscriber.
pub const E164_DIGITS_MIN: usize = 7;
/// Digits up to which a number without `+` or prefix is an extension.
const EXTENSION_DIGITS_MAX: usize = 6;
/// Fewer digits behind an outside prefix are no outside number.
const OUTSIDE_DIGITS_MIN: usize = 3;
/// More digits than a prefix and an international number need are no number.
const DIALLED_DIGITS_MAX: usize = 24;
/// Country codes of satellites and networks, and of premium services everywhere (ITU-T E.164 assigned country codes).
const COSTLY_COUNTRY_CODES: [&str; 8] = ["870", "878", "881", "882", "883", "888", "979", "991"];

/// How a number is written to a trunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberForm {
    E164,
    /// Without the `+`.
    E164Digits,
    /// As it is dialled in the region: numbers of other countries behind the international prefix.
    National,
}

/// What kind of destination a number outside is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A helpline of the region: nothing may keep a call from it.
    Helpline,
    /// In the region, or a short number.
    National,
    /// In another country, or not to be told from that.
    International,
    /// Premium rate, or a satellite or network code.
    Premium,
}

/// `+` and 7 to 15 digits.
pub fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|d| (E164_DIGITS_MIN..=E164_DIGITS_MAX).contains(&d.len()) && is_digits(d))
}

/// Digits, perhaps behind one `+`.
pub fn is_number(text: &str) -> bool {
    is_digits(text.strip_prefix('+').unwrap_or(text))
}

/// At least one digit and nothing else.
pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a dialled number is meant for the outside: it has `+` or an outside prefix, is longer than an extension, or is
/// a helpline of the region.
pub fn is_outside(dialled: &str, region: &Region, outside_prefixes: &[String]) -> bool {
    if dialled.starts_with('+') {
        return is_e164(dialled);
    }
    let rest = without_outside_prefix(dialled, outside_prefixes);
    let has_prefix = rest.len() < dialled.len();
    let is_long = dialled.len() > EXTENSION_DIGITS_MAX && dialled.len() <= DIALLED_DIGITS_MAX;
    has_prefix && dialled.len() <= DIALLED_DIGITS_MAX || is_long || region.is_helpline(dialled)
}

/// E.164 with `+` where the rules above allow it, otherwise the digits behind the outside prefix.
pub fn to_e164(dialled: &str, region: &Region, outside_prefixes: &[String]) -> String {
    if dialled.starts_with('+') {
        return dialled.to_owned();
    }
    let digits = without_outside_prefix(dialled, outside_prefixes);
    let canonical = by_plan(digits, region).or_else(|| by_prefix(digits, region.country_code));
    canonical.unwrap_or_else(|| digits.to_owned())
}

/// Numbers of every country behind `00` or, for country code 1, `011`, also those that no plan knows yet; and the ten and
/// eleven digits of the North American plan.
fn by_prefix(digits: &str, country_code: &str) -> Option<String> {
    let is_american = country_code == "1";
    let international = digits.strip_prefix(if is_american { "011" } else { "00" });
    // The rest begins with a country code, which never begins with 0.
    if let Some(rest) = international.filter(|r| r.len() >= E164_DIGITS_MIN && !r.starts_with('0')) {
        return Some(format!("+{rest}")).filter(|number| is_e164(number));
    }
    let has_area_code = |d: &&str| d.len() == 10 && !d.starts_with(['0', '1']);
    let national = Some(digits.strip_prefix('1').unwrap_or(digits)).filter(|_| is_american).filter(has_area_code)?;
    Some(format!("+1{national}"))
}

/// What the region's numbering plan makes of it, where the whole number was dialled.
fn by_plan(digits: &str, region: &Region) -> Option<String> {
    let plan = DATABASE.by_id(region.code)?;
    let is_whole = plan.national_prefix().is_none_or(|prefix| digits.starts_with(prefix));
    let number = phonenumber::parse(region.code.parse().ok(), digits).ok()?;
    // Without an international prefix a country code in front is a guess.
    let is_guess = number.code().source() == country::Source::Number;
    let is_known = is_whole && !is_guess && number.is_valid() && number.extension().is_none();
    is_known.then(|| number.format().mode(Mode::E164).to_string()).filter(|number| is_e164(number))
}

/// The number in the user part of a SIP URI, without its parameters (RFC 3261 section 19.1.6) and visual separators (RFC 3966
/// section 5.1.1). `None`: it is no number.
pub fn of_user_part(user: &str) -> Option<String> {
    let stated = user.split(';').next().unwrap_or_default();
    let number = stated.replace(['-', '.', '(', ')'], "");
    Some(number).filter(|number| is_number(number))
}

/// The ways a carrier may write one of our direct lines in a Request-URI, each as E.164: as it stands, without its `+`,
/// with an international prefix, and as a national number. The first is the likeliest.
pub fn inbound_forms(dialled: &str, region: &Region) -> [String; 3] {
    let national = dialled.strip_prefix('0').unwrap_or(dialled);
    [
        to_e164(dialled, region, &[]),
        format!("+{}", dialled.trim_start_matches('+')),
        format!("+{}{national}", region.country_code),
    ]
}

/// A canonical number as a trunk wants it. What is no E.164 number stays as it is.
pub fn written(number: &str, form: NumberForm, region: &Region) -> String {
    match form {
        NumberForm::National if is_e164(number) => national(number, region),
        NumberForm::E164Digits if is_e164(number) => number.trim_start_matches('+').to_owned(),
        NumberForm::E164 | NumberForm::E164Digits | NumberForm::National => number.to_owned(),
    }
}

fn national(number: &str, region: &Region) -> String {
    let digits = number.trim_start_matches('+');
    match digits.strip_prefix(region.country_code) {
        Some(rest) if region.country_code == "1" => rest.to_owned(),
        Some(rest) => {
            let plan = DATABASE.by_id(region.code);
            format!("{}{rest}", plan.and_then(|plan| plan.national_prefix()).unwrap_or_default())
        }
        None if region.country_code == "1" => format!("011{digits}"),
        None => {
            let plan = DATABASE.by_id(region.code);
            let preferred = plan.and_then(|plan| plan.preferred_international_prefix()).filter(|p| is_digits(p));
            let only = plan.and_then(|plan| plan.international_prefix()).map(ToString::to_string);
            let prefix = preferred.map(str::to_owned).or_else(|| only.filter(|p| is_digits(p)));
            format!("{}{digits}", prefix.as_deref().unwrap_or("00"))
        }
    }
}

/// What kind of destination a canonical number is, seen from the region.
pub fn destination(number: &str, region: &Region) -> Destination {
    if region.is_helpline(number) {
        return Destination::Helpline;
    }
    let Some(digits) = number.strip_prefix('+') else {
        // Not canonical: it may lead anywhere, unless it is too short to.
        let is_short = number.len() <= EXTENSION_DIGITS_MAX;
        return match is_short {
            true => Destination::National,
            false if begins_with_premium(number, Some(region)) => Destination::Premium,
            false => Destination::International,
        };
    };
    if COSTLY_COUNTRY_CODES.iter().any(|code| digits.starts_with(code)) {
        return Destination::Premium;
    }
    let parsed = phonenumber::parse(None, number).ok();
    match parsed.as_ref().map(kind) {
        Some(Type::PremiumRate) => Destination::Premium,
        // Exchanges take no notice of digits behind a whole number.
        Some(Type::Unknown) | None if begins_with_premium(number, None) => Destination::Premium,
        Some(_) if parsed.as_ref().is_some_and(|number| is_of(number, region)) => Destination::National,
        Some(_) | None => Destination::International,
    }
}

/// Whether the beginning of what was dialled is a premium number. `region`: in whose form it is written, if not as E.164.
fn begins_with_premium(dialled: &str, region: Option<&Region>) -> bool {
    let region = region.and_then(|region| region.code.parse().ok());
    (E164_DIGITS_MIN..dialled.len()).any(|end| {
        let beginning = dialled.get(..end).and_then(|text| phonenumber::parse(region, text).ok());
        beginning.is_some_and(|number| kind(&number) == Type::PremiumRate)
    })
}

fn kind(number: &PhoneNumber) -> Type {
    number.number_type(&DATABASE)
}

/// Countries that share a country code are told apart by their numbers.
fn is_of(number: &PhoneNumber, region: &Region) -> bool {
    let has_code = number.code().value().to_string() == region.country_code;
    let country: Option<country::Id> = number.country().id();
    has_code && country.is_none_or(|country| country.as_ref() == region.code || kind(number) == Type::TollFree)
}

/// One prefix is removed, once, and only from a number.
fn without_outside_prefix<'d>(dialled: &'d str, outside_prefixes: &[String]) -> &'d str {
    let rests = outside_prefixes.iter().filter_map(|p| dialled.strip_prefix(p.as_str()));
    rests.filter(|rest| rest.len() >= OUTSIDE_DIGITS_MIN).min_by_key(|rest| rest.len()).unwrap_or(dialled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::emergency::table;

    fn region_of(code: &str) -> &'static Region {
        table::region(code).unwrap()
    }

    #[test]
    fn a_number_is_written_as_the_trunk_wants_it() {
        for (number, region, national) in [
            ("+12025550100", "US", "2025550100"),
            ("+442079460123", "US", "011442079460123"),
            ("+442079460123", "GB", "02079460123"),
            ("+12025550100", "GB", "0012025550100"),
            ("+390612345678", "IT", "0612345678"),
            ("+12025550100", "AU", "001112025550100"),
            ("988", "US", "988"),
            ("0815", "DE", "0815"),
        ] {
            let region = region_of(region);
            assert_eq!(written(number, NumberForm::National, region), national, "{number}");
            assert_eq!(written(number, NumberForm::E164, region), number);
            assert_eq!(written(number, NumberForm::E164Digits, region), number.trim_start_matches('+'));
        }
    }

    #[test]
    fn each_number_is_a_destination_seen_from_its_region() {
        use Destination::{Helpline, International, National, Premium};
        for (number, region, expected) in [
            ("+12025550100", "US", National),
            ("+18005550100", "US", National),
            ("+14165550100", "US", International),
            ("+18765550100", "US", International),
            ("+19005550100", "US", Premium),
            ("+19002345678", "US", Premium),
            ("+442079460123", "US", International),
            ("+442079460123", "GB", National),
            ("+447400123456", "GB", National),
            ("+499001234567", "DE", Premium),
            ("+499001234567", "US", Premium),
            // With digits too many.
            ("+190023456789", "US", Premium),
            ("+4490912345678", "GB", Premium),
            ("+49900123456789", "DE", Premium),
            ("0900123456789", "DE", Premium),
            ("+120255501001", "US", National),
            ("+881612345678", "US", Premium),
            ("+882161234567", "DE", Premium),
            ("+390612345678", "IT", National),
            ("988", "US", Helpline),
            ("116123", "DE", Helpline),
            ("11833", "DE", National),
            ("0815123456", "DE", International),
            ("+999123456789", "US", International),
        ] {
            assert_eq!(destination(number, region_of(region)), expected, "{number} from {region}");
        }
    }

    fn prefixes(list: &[&str]) -> Vec<String> {
        list.iter().map(|&p| p.to_owned()).collect()
    }

    #[test]
    fn numbers_become_e164_where_the_form_says_which_country() {
        for (dialled, region, outside, expected) in [
            ("+442079460123", "US", &["9"][..], "+442079460123"),
            ("92025550100", "US", &["9"], "+12025550100"),
            ("912025550100", "US", &["9"], "+12025550100"),
            ("2025550100", "US", &[], "+12025550100"),
            ("12025550100", "US", &[], "+12025550100"),
            ("9011442079460123", "US", &["9"], "+442079460123"),
            ("011442079460123", "US", &[], "+442079460123"),
            ("00442079460123", "DE", &[], "+442079460123"),
            ("000442079460123", "DE", &["0"], "+442079460123"),
            ("0011442079460123", "AU", &[], "+442079460123"),
            ("010442079460123", "JP", &[], "+442079460123"),
            ("02079460123", "GB", &[], "+442079460123"),
            ("902079460123", "GB", &["9"], "+442079460123"),
            ("030123456", "DE", &[], "+4930123456"),
            ("0030123456", "DE", &["0"], "+4930123456"),
            ("0612345678", "IT", &[], "+390612345678"),
            ("612345678", "ES", &[], "+34612345678"),
            ("34612345678", "ES", &[], "34612345678"),
            // Perhaps a local number.
            ("30123456", "DE", &[], "30123456"),
            ("2079460123", "GB", &[], "2079460123"),
            ("0442079460123", "US", &[], "0442079460123"),
            ("1025550100", "US", &[], "1025550100"),
            ("000000000000", "DE", &[], "000000000000"),
            ("9988", "US", &["9"], "988"),
            ("116123", "DE", &[], "116123"),
            ("030", "DE", &[], "030"),
        ] {
            assert_eq!(to_e164(dialled, region_of(region), &prefixes(outside)), expected, "{dialled} in {region}");
        }
    }

    #[test]
    fn a_number_is_found_among_its_parameters_and_separators() {
        for (user, expected) in [
            ("+14155550123", Some("+14155550123")),
            ("+14155550123;cpc=ordinary", Some("+14155550123")),
            ("+14155550123;verstat=TN-Validation-Passed;npdi", Some("+14155550123")),
            ("+1-(415).555-0123", Some("+14155550123")),
            ("4155550123;phone-context=+1", Some("4155550123")),
            ("anonymous", None),
            ("ann.b;x=1", None),
            (";cpc=ordinary", None),
            ("+", None),
        ] {
            assert_eq!(of_user_part(user).as_deref(), expected, "{user}");
        }
    }

    #[test]
    fn outside_numbers_are_told_from_extensions_by_form() {
        let us = table::region("US").unwrap();
        let nine = prefixes(&["9"]);
        for outside in ["+12025550100", "92025550100", "9411", "2025550", "988", "311"] {
            assert!(is_outside(outside, us, &nine), "{outside}");
        }
        for inside in ["1001", "911", "91", "999", "202555", "+911", "+1234567890123456", "1111111111111111111111111"] {
            assert!(!is_outside(inside, us, &nine), "{inside}");
        }
        assert!(!is_outside("9411", us, &[]));
    }

    #[test]
    fn one_prefix_is_removed_and_the_longest_wins() {
        assert_eq!(without_outside_prefix("992025550100", &prefixes(&["9"])), "92025550100");
        assert_eq!(without_outside_prefix("992025550100", &prefixes(&["9", "99"])), "2025550100");
        assert_eq!(without_outside_prefix("99", &prefixes(&["9"])), "99");
    }

    #[test]
    fn a_carrier_may_write_a_direct_line_in_several_ways() {
        for dialled in ["+442079460123", "442079460123", "00442079460123", "02079460123", "2079460123"] {
            assert!(inbound_forms(dialled, region_of("GB")).contains(&"+442079460123".to_owned()), "{dialled}");
        }
        for dialled in ["+12025550100", "12025550100", "2025550100", "011442079460123"] {
            let forms = inbound_forms(dialled, region_of("US"));
            assert!(forms.iter().any(|f| f == "+12025550100" || f == "+442079460123"), "{dialled}");
        }
    }

    #[test]
    fn e164_is_plus_and_seven_to_fifteen_digits() {
        assert!(is_e164("+1234567"));
        assert!(is_e164("+123456789012345"));
        for wrong in ["+123456", "+1234567890123456", "12345678", "++1234567", "+12345a7", "+", ""] {
            assert!(!is_e164(wrong), "{wrong}");
        }
    }
}
