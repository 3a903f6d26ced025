//! Numbers: from what was dialled to one canonical form.
//!
//! Only rules that hold without a numbering plan are applied: a leading plus sign, the international prefixes `00` and (for
//! country code 1) `011`, and the ten and eleven digits of the North American plan. Every other number goes to the trunk as
//! dialled, without its outside prefix, because carriers read national numbers of their own country correctly and a wrong
//! guess here would call somebody else.

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
pub fn to_e164(dialled: &str, country_code: &str, outside_prefixes: &[String]) -> String {
    if dialled.starts_with('+') {
        return dialled.to_owned();
    }
    let digits = without_outside_prefix(dialled, outside_prefixes);
    let is_american = country_code == "1";
    let international = digits.strip_prefix(if is_american { "011" } else { "00" });
    // The rest begins with a country code, which never begins with 0.
    if let Some(rest) = international.filter(|r| r.len() >= E164_DIGITS_MIN && !r.starts_with('0')) {
        return format!("+{rest}");
    }
    let has_area_code = |d: &str| d.len() == 10 && !d.starts_with(['0', '1']);
    match digits.strip_prefix('1') {
        Some(national) if is_american && has_area_code(national) => format!("+1{national}"),
        None if is_american && has_area_code(digits) => format!("+1{digits}"),
        Some(_) | None => digits.to_owned(),
    }
}

/// The ways a carrier may write one of our direct lines in a Request-URI, each as E.164: as it stands, without its `+`,
/// with an international prefix, and as a national number. The first is the likeliest.
pub fn inbound_forms(dialled: &str, country_code: &str) -> [String; 3] {
    let national = dialled.strip_prefix('0').unwrap_or(dialled);
    [
        to_e164(dialled, country_code, &[]),
        format!("+{}", dialled.trim_start_matches('+')),
        format!("+{country_code}{national}"),
    ]
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

    fn prefixes(list: &[&str]) -> Vec<String> {
        list.iter().map(|&p| p.to_owned()).collect()
    }

    #[test]
    fn numbers_become_e164_where_the_form_says_which_country() {
        for (dialled, country_code, outside, expected) in [
            ("+442079460123", "1", &["9"][..], "+442079460123"),
            ("92025550100", "1", &["9"], "+12025550100"),
            ("912025550100", "1", &["9"], "+12025550100"),
            ("2025550100", "1", &[], "+12025550100"),
            ("12025550100", "1", &[], "+12025550100"),
            ("9011442079460123", "1", &["9"], "+442079460123"),
            ("011442079460123", "1", &[], "+442079460123"),
            ("00442079460123", "49", &[], "+442079460123"),
            ("000442079460123", "49", &["0"], "+442079460123"),
            ("02079460123", "44", &[], "02079460123"),
            ("902079460123", "44", &["9"], "02079460123"),
            ("0442079460123", "1", &[], "0442079460123"),
            ("1025550100", "1", &[], "1025550100"),
            ("000000000000", "49", &[], "000000000000"),
            ("9988", "1", &["9"], "988"),
        ] {
            assert_eq!(to_e164(dialled, country_code, &prefixes(outside)), expected, "{dialled}");
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
            assert!(inbound_forms(dialled, "44").contains(&"+442079460123".to_owned()), "{dialled}");
        }
        for dialled in ["+12025550100", "12025550100", "2025550100", "011442079460123"] {
            let forms = inbound_forms(dialled, "1");
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
