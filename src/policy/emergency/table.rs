//! The compiled-in number tables: which numbers are emergency numbers in which region, and what to dial instead.
//!
//! The data are the CSV files of `data/`, read once on first use. Most rows come from google/libphonenumber (commit
//! f7e3e88c92b905c8d6edb81f336dbe25edc05b52 of 2026-07-17, Apache License 2.0, Copyright (C) 2013 The Libphonenumber
//! Authors) and from the Android Open Source Project's `eccdata.txt` revision 2 (Apache License 2.0); `data/README.md`
//! says which row comes from where, and each row names its source in its last column.
//!
//! Never decides anything: [`super::classify`] and [`super::decide`] do.

use std::sync::LazyLock;

/// What is known of one region (ISO 3166-1 alpha-2, plus AC and XK).
#[derive(Debug)]
pub struct Region {
    pub code: &'static str,
    /// Country calling code without `+`; empty where a region has none (AQ).
    pub country_code: &'static str,
    /// Whether numbers of a shared country code belong to this region first (US for `1`).
    pub is_main_for_code: bool,
    /// What to dial for the generic emergency service.
    pub primary: &'static str,
    /// Numbers that are emergency calls here, without those of every region.
    pub numbers: Vec<&'static str>,
    /// Helplines and secondary services: ordinary numbers, though as short as an extension.
    pub helplines: Vec<&'static str>,
    /// Which services a number reaches, as in `ambulance|fire`.
    services: Vec<(&'static str, &'static str)>,
}

impl Region {
    /// The number that alone reaches `service` (`police`, `fire`, `ambulance`); `None` if there are several or none.
    pub fn number_for(&self, service: &str) -> Option<&'static str> {
        let mut hits = self.services.iter().filter(|(_, services)| services.split('|').any(|s| s == service));
        match (hits.next(), hits.next()) {
            (Some((number, _)), None) => Some(number),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }

    /// The one service `number` reaches; `None` if it reaches several or is not known.
    pub fn service_of(&self, number: &str) -> Option<&'static str> {
        let (_, services) = self.services.iter().find(|(n, _)| *n == number)?;
        ["police", "fire", "ambulance"].into_iter().find(|s| s == services)
    }

    /// Whether the number is a helpline, or one of North America's three-digit service codes.
    pub fn is_helpline(&self, number: &str) -> bool {
        let is_n11 =
            self.country_code == "1" && matches!(number, "211" | "311" | "411" | "511" | "611" | "711" | "811" | "988");
        is_n11 || self.helplines.contains(&number)
    }
}

/// The region of an ISO 3166-1 code in upper case.
pub fn region(code: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|r| r.code == code)
}

/// All regions, by code.
pub fn regions() -> &'static [Region] {
    &REGIONS
}

/// Numbers that are emergency calls in every region.
pub fn everywhere() -> &'static [&'static str] {
    &EVERYWHERE
}

/// The main region of the country code that `digits` begin with (RFC 3966 section 5.1.5: a context may name more than the
/// country). Country codes are free of prefixes, so there is at most one.
pub fn main_region(digits: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|r| r.is_main_for_code && !r.country_code.is_empty() && digits.starts_with(r.country_code))
}

const NUMBERS: &str = include_str!("data/emergency-numbers.csv");
const HELPLINES: &str = include_str!("data/emergency-numbers-extended.csv");
const SERVICES: &str = include_str!("data/emergency-services.csv");
const DEFAULTS: &str = include_str!("data/region-defaults.csv");

static EVERYWHERE: LazyLock<Vec<&'static str>> = LazyLock::new(|| numbers_of(NUMBERS, "*"));

static REGIONS: LazyLock<Vec<Region>> = LazyLock::new(|| {
    rows(DEFAULTS)
        .map(|[code, country_code, main, primary]| Region {
            code,
            country_code,
            is_main_for_code: main == "yes",
            primary,
            numbers: numbers_of(NUMBERS, code),
            helplines: numbers_of(HELPLINES, code),
            services: rows_of(SERVICES, code).map(|[number, services]| (number, services)).collect(),
        })
        .collect()
});

fn numbers_of(csv: &'static str, region: &str) -> Vec<&'static str> {
    rows_of(csv, region).map(|[number]| number).collect()
}

/// The `N` columns after the region, of that region's rows.
fn rows_of<const N: usize>(csv: &'static str, region: &str) -> impl Iterator<Item = [&'static str; N]> {
    csv.lines().filter_map(move |line| Some(columns(line.strip_prefix(region)?.strip_prefix(',')?)))
}

/// The first `N` columns of every row below the header. The files quote nothing (a test below proves it).
fn rows<const N: usize>(csv: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    csv.lines().skip(1).map(columns)
}

fn columns<const N: usize>(line: &'static str) -> [&'static str; N] {
    let mut columns = line.split(',');
    std::array::from_fn(|_| columns.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_plain_sorted_and_complete() {
        for (csv, columns) in [(NUMBERS, 3), (HELPLINES, 3), (SERVICES, 4), (DEFAULTS, 5)] {
            assert!(!csv.contains('"'), "a quoted field would be misread");
            let lines: Vec<_> = csv.lines().skip(1).collect();
            assert!(lines.iter().all(|l| l.split(',').count() == columns && !l.ends_with(',')));
            assert!(lines.is_sorted(), "rows are in byte order, so that differences can be reviewed");
        }
        assert_eq!(regions().len(), 251, "249 of ISO 3166-1, AC and XK");
        assert_eq!(rows::<1>(NUMBERS).count(), 915);
    }

    #[test]
    fn every_row_belongs_to_a_known_region_and_holds_digits() {
        for csv in [NUMBERS, HELPLINES, SERVICES] {
            for [code, number] in rows::<2>(csv) {
                assert!(code == "*" || region(code).is_some(), "{code}");
                assert!(!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()), "{code} {number}");
            }
        }
    }

    #[test]
    fn what_is_dialled_for_the_generic_service_is_an_emergency_number_of_that_region() {
        for r in regions() {
            assert!(r.numbers.contains(&r.primary) || everywhere().contains(&r.primary), "{} {}", r.code, r.primary);
        }
    }

    #[test]
    fn one_main_region_per_country_code() {
        assert_eq!(main_region("1").map(|r| r.code), Some("US"));
        assert_eq!(main_region("12025550100").map(|r| r.code), Some("US"));
        assert_eq!(main_region("44").map(|r| r.code), Some("GB"));
        assert!(main_region("").is_none());
        assert!(main_region("0").is_none());
        for r in regions().iter().filter(|r| !r.country_code.is_empty()) {
            let mains = regions().iter().filter(|m| m.country_code == r.country_code && m.is_main_for_code).count();
            assert_eq!(mains, 1, "{}", r.country_code);
        }
    }

    #[test]
    fn a_service_has_a_number_only_if_exactly_one_reaches_it() {
        let france = region("FR").unwrap();
        assert_eq!(france.number_for("police"), None, "17 and 112 both reach the police");
        assert_eq!(region("US").unwrap().number_for("police"), Some("911"));
        assert_eq!(region("JP").unwrap().number_for("fire"), Some("119"));
        assert_eq!(region("JP").unwrap().number_for("gas"), None);
        assert_eq!(france.service_of("17"), Some("police"));
        assert_eq!(france.service_of("112"), None, "reaches all three");
    }
}
