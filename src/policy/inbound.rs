//! The inbound map: whole numbers, ranges and beginnings of numbers of ours, and where a call to one of them goes.
//!
//! Two entries may only have numbers in common where one of them holds the other and more; the narrower one then decides. The
//! configuration is refused otherwise, so there is never a question which entry is meant.

use std::{cmp::Reverse, fmt};

use super::number::{self, E164_DIGITS_MAX};
use crate::config::Inbound;

/// Numbers in their canonical form that stand together in the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Both ends included; they have the same length. One number is a range of itself.
    Range { first: String, last: String },
    /// Every number that begins so.
    Prefix(String),
}

/// Fewest digits of a prefix: a country code and some of an area's.
const PREFIX_DIGITS_MIN: usize = 4;

impl Numbers {
    /// `+12025550170`, `+12025550170-+12025550179` or `+1202555*`. The error says what the text is not.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(prefix) = text.strip_suffix('*') {
            let digits = prefix.strip_prefix('+').filter(|digits| number::is_digits(digits));
            let is_prefix = digits.is_some_and(|d| (PREFIX_DIGITS_MIN..E164_DIGITS_MAX).contains(&d.len()));
            return if is_prefix {
                Ok(Self::Prefix(prefix.to_owned()))
            } else {
                Err("is not the beginning of a number")
            };
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if !number::is_e164(first) || !number::is_e164(last) {
            return Err("is neither a number nor a range nor the beginning of numbers");
        }
        if first.len() != last.len() || first > last {
            return Err("is a range whose ends do not fit together");
        }
        Ok(Self::Range { first: first.to_owned(), last: last.to_owned() })
    }

    /// The number, where it is one.
    pub fn single(&self) -> Option<&str> {
        match self {
            Self::Range { first, last } if first == last => Some(first),
            Self::Range { .. } | Self::Prefix(_) => None,
        }
    }

    /// Digits of the same length compare as numbers do.
    pub fn holds(&self, number: &str) -> bool {
        match self {
            Self::Range { first, last } => {
                number.len() == first.len() && (first.as_str()..=last.as_str()).contains(&number)
            }
            Self::Prefix(prefix) => number.starts_with(prefix.as_str()),
        }
    }

    /// Whether every number of `other` is one of these.
    fn holds_all(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Range { first, last }) => self.holds(first) && self.holds(last),
            (Self::Prefix(ours), Self::Prefix(theirs)) => theirs.starts_with(ours.as_str()),
            (Self::Range { .. }, Self::Prefix(_)) => false,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Range { first, last }, Self::Range { .. }) => {
                other.holds(first) || other.holds(last) || self.holds_all(other)
            }
            (Self::Range { first, last }, Self::Prefix(prefix))
            | (Self::Prefix(prefix), Self::Range { first, last }) => {
                let begins = |number: &String| number.get(..prefix.len()).map(str::to_owned);
                begins(first).zip(begins(last)).is_some_and(|(first, last)| (first..=last).contains(prefix))
            }
            (Self::Prefix(one), Self::Prefix(two)) => one.starts_with(two.as_str()) || two.starts_with(one.as_str()),
        }
    }

    /// Whether a number could be meant for either of two entries that hold it.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.overlaps(other) && self.holds_all(other) == other.holds_all(self)
    }

    /// Ranges before prefixes, since no range ever holds a prefix; of each kind the narrower first.
    fn width(&self) -> (u8, u64, Reverse<usize>) {
        let digits = |number: &str| number.trim_start_matches('+').parse().unwrap_or(u64::MAX);
        match self {
            Self::Range { first, last } => (0, digits(last).saturating_sub(digits(first)), Reverse(0)),
            Self::Prefix(prefix) => (1, 0, Reverse(prefix.len())),
        }
    }
}

/// As in the file.
impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { first, last } if first == last => f.write_str(first),
            Self::Range { first, last } => write!(f, "{first}-{last}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// The narrowest entry that holds a canonical number, and which of its numbers do.
pub fn find<'m>(number: &str, map: &'m [Inbound]) -> Option<(&'m Inbound, &'m Numbers)> {
    let entries = map.iter().flat_map(|entry| entry.numbers.iter().map(move |numbers| (entry, numbers)));
    entries.filter(|(_, numbers)| numbers.holds(number)).min_by_key(|(_, numbers)| numbers.width())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(text: &str) -> Numbers {
        Numbers::parse(text).unwrap_or_else(|what| panic!("{text:?} {what}"))
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for text in ["+12025550170", "+12025550170-+12025550179", "+1202555*", "+44207*"] {
            assert_eq!(numbers(text).to_string(), text);
        }
        for wrong in [
            "",
            "12025550170",
            "911",
            "+911",
            "+1911*x",
            "+*",
            "+120*",
            "*",
            "+123456789012345*",
            "+12025550179-+12025550170",
            "+12025550170-12025550179",
            "+12025550170-+120255501799",
            "+12025550170-",
            "+1202555017x",
            "+12025550170-+12025550175-+12025550179",
        ] {
            assert!(Numbers::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_stands_inside_another_may_share_numbers_with_it() {
        for (one, two, is_conflict) in [
            ("+12025550170", "+12025550170", true),
            ("+12025550170", "+12025550171", false),
            ("+12025550170", "+12025550100-+12025550199", false),
            ("+12025550100-+12025550199", "+12025550100-+12025550199", true),
            ("+12025550100-+12025550199", "+12025550150-+12025550250", true),
            ("+12025550100-+12025550199", "+12025550120-+12025550130", false),
            ("+12025550100-+12025550199", "+12025550200-+12025550250", false),
            ("+1202555*", "+12025550100-+12025550199", false),
            ("+120255501*", "+12025550100-+12025550199", false),
            ("+120255501*", "+12025550150-+12025550250", true),
            ("+120255501*", "+12025550000-+12025550999", true),
            ("+1202555*", "+120255501*", false),
            ("+1202555*", "+1202555*", true),
            ("+1202555*", "+1202556*", false),
            ("+12025550*", "+1202555", false),
        ] {
            let (one, two) = (numbers(one), numbers(two));
            assert_eq!(one.conflicts_with(&two), is_conflict, "{one} {two}");
            assert_eq!(two.conflicts_with(&one), is_conflict, "{two} {one}");
        }
    }

    fn any_numbers() -> impl Strategy<Value = Numbers> {
        let range = (0_u32..200, 0_u32..200).prop_map(|(a, b)| {
            let [first, last] = [a.min(b), a.max(b)].map(|n| format!("+1202555{n:04}"));
            Numbers::Range { first, last }
        });
        let prefix = (0_u32..20, 1_usize..=4)
            .prop_map(|(n, digits)| Numbers::Prefix(format!("+1202555{}", &format!("{n:04}")[..digits])));
        prop_oneof![range, prefix]
    }

    proptest! {
        /// What [`Numbers::conflicts_with`] says of the sets is what their members say.
        #[test]
        fn a_conflict_is_a_number_that_two_sets_share_and_neither_decides(one in any_numbers(), two in any_numbers()) {
            // With longer numbers, which a prefix holds and a range of these does not.
            let all: Vec<_> = (0..1_000).flat_map(|n| [format!("+1202555{n:04}"), format!("+1202555{n:04}0")]).collect();
            let shares = all.iter().any(|n| one.holds(n) && two.holds(n));
            let is_inside = |inner: &Numbers, outer: &Numbers| all.iter().all(|n| !inner.holds(n) || outer.holds(n));
            let is_decided = is_inside(&one, &two) != is_inside(&two, &one);
            prop_assert_eq!(one.conflicts_with(&two), shares && !is_decided, "{} {}", one, two);
        }
    }
}
