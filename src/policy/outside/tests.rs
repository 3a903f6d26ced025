use super::*;
use crate::{config::parse, policy::emergency::table};

fn config(tables: &str) -> Config {
    let text = format!(
        r#"
        [company]
        name = "Example Corp"
        region = "DE"
        address = {{ country = "DE", A3 = "Berlin", RD = "Beispielweg", HNO = "5", PC = "10115" }}
        [emergency]
        callback_numbers = ["+493012345600"]
        {tables}"#
    );
    parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0
}

fn trunk(name: &str, more: &str) -> String {
    format!("[trunk.{name}]\nhost = \"{name}.example\"\nnumbers = [\"+493012345600\"]\n{more}\n")
}

#[test]
fn trunks_at_a_limit_of_their_own_are_named_with_it_and_others_are_not() {
    let config =
        config(&[trunk("a", "calls_per_minute = 3\nspend_per_day = \"2\""), trunk("b", ""), trunk("c", "")].concat());
    let full_of = |used: Used| {
        let mut full = Vec::new();
        let parties = (&config, table::region("DE").unwrap());
        let of_trunk = |index| if index == 0 { used } else { Used::default() };
        let trunks = decide(BERLIN, "bob", &Used::default(), &of_trunk, parties, &mut full, &mut |_| {}).unwrap();
        (trunks, full.into_iter().map(|full| (full.trunk, full.limit)).collect::<Vec<_>>())
    };
    assert_eq!(full_of(Used { calls_in_minute: 2, ..Used::default() }), (vec![0, 1, 2], vec![]));
    let per_minute = (vec![1, 2], vec![(0, Denial::CallsPerMinute)]);
    assert_eq!(full_of(Used { calls_in_minute: 3, ..Used::default() }), per_minute);
    let spent = Used { spent_today: config.trunks[0].limits.spend_per_day.unwrap(), ..Used::default() };
    assert_eq!(full_of(spent), (vec![1, 2], vec![(0, Denial::SpendPerDay)]));
}

/// The trunks by name, or the reason phrase; and the steps.
fn decided(
    number: &str,
    user: &str,
    used: &Used,
    of_trunk: &dyn Fn(usize) -> Used,
    config: &Config,
) -> (String, String) {
    let mut steps = String::new();
    let region = table::region("DE").unwrap();
    let result = decide(number, user, used, of_trunk, (config, region), &mut Vec::new(), &mut |step| {
        steps += &format!("{step}\n");
    });
    let names =
        |trunks: Vec<usize>| trunks.iter().map(|i| config.trunks[*i].name.clone()).collect::<Vec<_>>().join(" ");
    (result.map_or_else(|denial| denial.answer().1.to_owned(), names), steps)
}

fn outcome(number: &str, user: &str, used: &Used, config: &Config) -> String {
    decided(number, user, used, &|_| Used::default(), config).0
}

const BERLIN: &str = "+493012345678";
const LONDON: &str = "+442079460123";
const PREMIUM: &str = "+499001234567";

#[test]
fn destinations_need_their_permission_and_premium_is_not_given_by_default() {
    let config = config(&format!("[calling.profile.x]\nusers = [\"ann\"]\nallow = [\"premium\"]\n{}", trunk("a", "")));
    for (number, user, expected) in [
        (BERLIN, "bob", "a"),
        (LONDON, "bob", "a"),
        (PREMIUM, "bob", "Premium Numbers Not Allowed"),
        ("+881612345678", "bob", "Premium Numbers Not Allowed"),
        (PREMIUM, "ann", "a"),
        (BERLIN, "ann", "Outside Numbers Not Allowed"),
        (LONDON, "ann", "International Numbers Not Allowed"),
        ("0815123456", "ann", "International Numbers Not Allowed"),
        ("116123", "ann", "a"),
    ] {
        assert_eq!(outcome(number, user, &Used::default(), &config), expected, "{number} by {user}");
    }
}

#[test]
fn blocked_prefixes_block_whatever_is_allowed_but_no_helpline() {
    let config = config(&format!("[calling]\nblocked_prefixes = [\"+44\", \"+\"]\n{}", trunk("a", "")));
    assert_eq!(outcome(LONDON, "bob", &Used::default(), &config), "Number Blocked");
    assert_eq!(outcome("116123", "bob", &Used::default(), &config), "a");
}

#[test]
fn each_limit_holds_at_its_number_and_not_before() {
    let keys = "concurrent_calls = 2\ncalls_per_minute = 3\ncostly_calls_per_day = 4\nspend_per_day = \"5\"";
    let config = config(&format!("[calling]\n{keys}\n{}", trunk("a", "rates = { \"+\" = \"0.01\" }")));
    let full = Used { concurrent_calls: 2, calls_in_minute: 3, costly_calls_in_day: 4, spent_today: Money(5_000_000) };
    let almost =
        Used { concurrent_calls: 1, calls_in_minute: 2, costly_calls_in_day: 3, spent_today: Money(4_999_999) };
    assert_eq!(outcome(LONDON, "bob", &almost, &config), "a");
    for (used, expected) in [
        (Used { concurrent_calls: 2, ..almost }, "Too Many Outside Calls At Once"),
        (Used { calls_in_minute: 3, ..almost }, "Too Many Outside Calls A Minute"),
        (Used { costly_calls_in_day: 4, ..almost }, "Costly Calls Barred"),
        (Used { spent_today: Money(5_000_000), ..almost }, "Daily Spending Limit Reached"),
    ] {
        assert_eq!(outcome(LONDON, "bob", &used, &config), expected);
    }
    let costly = Used { costly_calls_in_day: 4, ..almost };
    assert_eq!(outcome(BERLIN, "bob", &costly, &config), "a", "national calls are not counted");
    assert_eq!(outcome("116123", "bob", &full, &config), "a");
}

#[test]
fn zero_is_no_limit() {
    let keys = "concurrent_calls = 0\ncalls_per_minute = 0\ncostly_calls_per_day = 0";
    let config = config(&format!("[calling]\n{keys}\n{}", trunk("a", "")));
    let used = Used { concurrent_calls: 9_999, calls_in_minute: 9_999, costly_calls_in_day: 9_999, ..Used::default() };
    assert_eq!(outcome(LONDON, "bob", &used, &config), "a");
}

#[test]
fn the_longest_prefix_comes_first_then_the_lower_price_then_the_order_of_the_file() {
    let trunks = [
        trunk("plain", ""),
        trunk("dear", "rates = { \"+\" = \"0.05\", \"+44\" = \"0.09\" }"),
        trunk("cheap", "rates = { \"+\" = \"0.05\", \"+44\" = \"0.02\" }"),
        trunk("mobile", "rates = { \"+447\" = \"0.5\" }"),
    ];
    let config = config(&trunks.concat());
    for (number, expected) in [
        ("+447400123456", "mobile cheap dear plain"),
        (LONDON, "cheap dear plain"),
        ("+33123456789", "dear cheap plain"),
        ("0815123456", "plain"),
    ] {
        assert_eq!(outcome(number, "bob", &Used::default(), &config), expected, "{number}");
    }
}

#[test]
fn a_trunk_that_may_not_or_cannot_carry_a_call_is_passed_over() {
    let trunks = [
        trunk("national", "allow = [\"national\"]"),
        trunk("blocked", "blocked_prefixes = [\"+4420\"]"),
        trunk("full", "concurrent_calls = 1"),
        trunk("off", "enabled = false"),
        trunk("last", ""),
    ];
    let config = config(&trunks.concat());
    let of_trunk = |index: usize| Used { concurrent_calls: usize::from(index == 2), ..Used::default() };
    let (trunks, steps) = decided(LONDON, "bob", &Used::default(), &of_trunk, &config);
    assert_eq!(trunks, "last");
    for name in ["national", "blocked", "full", "off", "last"] {
        assert!(steps.contains(&format!("{name:?}")), "{steps}");
    }
    let none = Config { trunks: config.trunks[..4].to_vec(), ..config };
    assert_eq!(decided(LONDON, "bob", &Used::default(), &of_trunk, &none).0, "Every Trunk Is At Its Limit");
}

#[test]
fn every_decision_says_why() {
    let config =
        config(&format!("[calling]\nspend_per_day = \"10\"\n{}", trunk("a", "rates = { \"+44\" = \"0.02\" }")));
    let (_, steps) = decided(LONDON, "bob", &Used::default(), &|_| Used::default(), &config);
    for step in [
        "+442079460123 is international seen from DE",
        "[calling] allows international",
        "0 of 30 international and premium calls within 24 hours are used",
        "0 of 10 calls at once are used of [calling]",
        "0.00 of 10.00 are spent today of [calling]",
        "1. over the trunk \"a\" at 0.02 a minute",
    ] {
        assert!(steps.lines().any(|line| line == step), "{step} is not in\n{steps}");
    }
    let (_, steps) = decided(PREMIUM, "bob", &Used::default(), &|_| Used::default(), &config);
    assert!(steps.ends_with("[calling] does not allow premium\n"), "{steps}");
}

#[test]
fn a_call_costs_its_seconds() {
    let config = config(&trunk("a", "rates = { \"+44\" = \"0.06\" }"));
    for (talked_ms, millionths) in [(0, 0), (1, 1_000), (1_000, 1_000), (1_001, 2_000), (60_000, 60_000)] {
        assert_eq!(cost(&config.trunks[0], LONDON, talked_ms), Money(millionths), "{talked_ms}");
    }
    assert_eq!(cost(&config.trunks[0], BERLIN, 60_000), Money(0));
}

#[test]
fn only_own_and_named_numbers_are_presented() {
    let config = config(&format!("[calling]\npresentation_numbers = [\"+493012345600\"]\n{}", trunk("a", "")));
    let profile = config.calling.profile_of("bob");
    assert!(may_present(profile, Some(BERLIN), BERLIN) && may_present(profile, None, "+493012345600"));
    assert!(!may_present(profile, None, BERLIN) && !may_present(profile, Some(BERLIN), LONDON));
}
