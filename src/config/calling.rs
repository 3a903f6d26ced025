//! `[calling]`: what users may call outside, how much of it, and under which numbers; and the same limits of trunks.

use std::fmt;

use super::{
    Trunk, checks,
    reader::{Fault, Section},
    value,
};
use crate::policy::number::{self, Destination};

/// An amount of the currency that the operator counts in, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub u64);

const MILLIONTHS: u64 = 1_000_000;

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.0 % MILLIONTHS);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{}.{fraction:0<2}", self.0 / MILLIONTHS)
    }
}

/// How much may be called. 0 and `None`: any amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub concurrent_calls: u16,
    pub calls_per_minute: u16,
    /// Counted by the rates of the trunks, from midnight to midnight in UTC.
    pub spend_per_day: Option<Money>,
}

/// What may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    pub allow: Vec<Destination>,
    /// Beginnings of E.164 numbers, with `+`.
    pub blocked_prefixes: Vec<String>,
}

impl Permissions {
    /// Every destination.
    pub fn all() -> Self {
        Self { allow: DESTINATIONS.map(|(_, destination)| destination).to_vec(), blocked_prefixes: Vec::new() }
    }

    /// The blocked prefix that a number begins with.
    pub fn blocking_prefix(&self, number: &str) -> Option<&str> {
        self.blocked_prefixes.iter().map(String::as_str).find(|prefix| number.starts_with(prefix))
    }
}

/// What some users may call outside, or everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Empty for everybody's.
    pub name: String,
    /// Names of users; empty for everybody's.
    pub users: Vec<String>,
    pub permissions: Permissions,
    pub limits: Limits,
    /// International and premium calls of one user within 24 hours; the next one bars the user from them. 0: any number.
    pub costly_calls_per_day: u16,
    /// Numbers, beside the own direct line, that a user may present. E.164 with `+`.
    pub presentation_numbers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calling {
    pub everybody: Profile,
    pub profiles: Vec<Profile>,
}

impl Calling {
    /// What holds for this user.
    pub fn profile_of(&self, user: &str) -> &Profile {
        self.profiles.iter().find(|p| p.users.iter().any(|name| name == user)).unwrap_or(&self.everybody)
    }
}

const DESTINATIONS: [(&str, Destination); 3] = [
    ("national", Destination::National),
    ("international", Destination::International),
    ("premium", Destination::Premium),
];

pub(super) fn read(mut section: Section<'_>, trunks: &[Trunk]) -> Calling {
    let is_counted = trunks.iter().any(|trunk| !trunk.rates.is_empty());
    let defaults = Profile {
        name: String::new(),
        users: Vec::new(),
        permissions: Permissions {
            allow: vec![Destination::National, Destination::International],
            blocked_prefixes: Vec::new(),
        },
        limits: Limits { concurrent_calls: 10, calls_per_minute: 20, spend_per_day: None },
        costly_calls_per_day: 30,
        presentation_numbers: Vec::new(),
    };
    let everybody = profile(&mut section, &defaults, is_counted);
    let mut profiles: Vec<Profile> = Vec::new();
    for (name, mut section) in section.section("profile").named_sections() {
        let users = section.texts("users", value::token).unwrap_or_default();
        if users.is_empty() {
            section.error("users", "the profile is nobody's", "users = [\"alice\"]: names of users");
        }
        for user in &users {
            if let Some(other) = profiles.iter().find(|other| other.users.contains(user)) {
                let message = format!("{user:?} is also in [calling.profile.{}]", other.name);
                section.error("users", message, "each user in one profile");
            }
        }
        profiles.push(Profile { name, users, ..profile(&mut section, &everybody, is_counted) });
        section.finish();
    }
    section.finish();
    Calling { everybody, profiles }
}

fn profile(section: &mut Section<'_>, defaults: &Profile, is_counted: bool) -> Profile {
    if section.has("spend_per_day") && !is_counted {
        section.warn("spend_per_day", "no trunk has rates, so that nothing is ever spent", checks::RATES);
    }
    Profile {
        permissions: permissions(section, &defaults.permissions),
        limits: limits(section, &defaults.limits),
        costly_calls_per_day: section
            .integer("costly_calls_per_day", 0..=u16::MAX)
            .unwrap_or(defaults.costly_calls_per_day),
        presentation_numbers: section
            .texts("presentation_numbers", value::e164)
            .unwrap_or_else(|| defaults.presentation_numbers.clone()),
        ..defaults.clone()
    }
}

pub(super) fn permissions(section: &mut Section<'_>, defaults: &Permissions) -> Permissions {
    Permissions {
        allow: section.texts("allow", destination).unwrap_or_else(|| defaults.allow.clone()),
        blocked_prefixes: section
            .texts("blocked_prefixes", prefix)
            .unwrap_or_else(|| defaults.blocked_prefixes.clone()),
    }
}

pub(super) fn limits(section: &mut Section<'_>, defaults: &Limits) -> Limits {
    let mut count = |key, default| section.integer(key, 0..=u16::MAX).unwrap_or(default);
    Limits {
        concurrent_calls: count("concurrent_calls", defaults.concurrent_calls),
        calls_per_minute: count("calls_per_minute", defaults.calls_per_minute),
        spend_per_day: section.text("spend_per_day", money).or(defaults.spend_per_day),
    }
}

/// `[trunk.NAME.rates]`: beginning of a number = price of a minute. The longest beginning comes first.
pub(super) fn rates(mut section: Section<'_>) -> Vec<(String, Money)> {
    let mut rates = section.named_texts(|from, price| {
        let prefix = prefix(from).map_err(|f| Fault::new(format!("stands at {from:?}, which {}", f.what), f.remedy))?;
        Ok((prefix, money(price)?))
    });
    rates.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    rates
}

fn destination(text: &str) -> Result<Destination, Fault> {
    let found = DESTINATIONS.iter().find(|(word, _)| *word == text).map(|(_, destination)| *destination);
    found.ok_or_else(|| Fault::new("is not known", "\"national\", \"international\" or \"premium\""))
}

/// `+`, and the first digits of an E.164 number, if any.
fn prefix(text: &str) -> Result<String, Fault> {
    let is_prefix = text.strip_prefix('+').is_some_and(|digits| digits.is_empty() || number::is_digits(digits));
    if !is_prefix || text.len() > number::E164_DIGITS_MAX {
        return Err(Fault::new("is not the beginning of a number", "+ and the first digits, such as \"+44\" or \"+\""));
    }
    Ok(text.to_owned())
}

/// An amount with up to six decimal places.
fn money(text: &str) -> Result<Money, Fault> {
    let fault = || Fault::new("is not an amount", "digits, and up to six behind a point, such as \"0.015\" or \"50\"");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !number::is_digits(whole) || !number::is_digits(fraction) || whole.len() > 9 || fraction.len() > 6 {
        return Err(fault());
    }
    let millionths = format!("{fraction:0<6}").parse::<u64>().map_err(|_| fault())?;
    Ok(Money(whole.parse::<u64>().map_err(|_| fault())? * MILLIONTHS + millionths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_to_the_millionth() {
        for (text, millionths, written) in [
            ("50", 50_000_000, "50.00"),
            ("0.015", 15_000, "0.015"),
            ("1.5", 1_500_000, "1.50"),
            ("0.000001", 1, "0.000001"),
        ] {
            assert_eq!(money(text), Ok(Money(millionths)), "{text}");
            assert_eq!(Money(millionths).to_string(), written);
        }
        for wrong in ["", ".5", "5.", "-1", "1,5", "1.0000001", "1234567890", "1e3"] {
            assert!(money(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_is_plus_and_digits() {
        assert!(prefix("+").is_ok() && prefix("+4479").is_ok());
        for wrong in ["", "44", "0044", "+44x", "+1234567890123456"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }
}
