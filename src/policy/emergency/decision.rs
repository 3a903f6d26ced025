//! What happens to an emergency or test call (emergency RULES, sections 4 and 5): one pure, total function. Neither limits
//! nor load nor transport are among its arguments.

use crate::config::{Config, EmergencyRequestUri, Trunk, Unauthenticated, User};

use super::{
    location::{self, Place},
    site,
};

/// Who sends the emergency INVITE (RULES 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    AuthenticatedDevice,
    /// Fails or lacks authentication; whether its address is in `site_networks`.
    UnauthenticatedDevice {
        in_site_networks: bool,
    },
    Trunk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Emergency,
    Test,
}

/// One call, as far as it matters to what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub class: Class,
    pub source: Source,
    /// Whose device calls, if that is known by more than a header.
    pub user: Option<&'a User>,
    /// The direct line it calls on, E.164.
    pub line: Option<&'a str>,
    /// Which of the company's callback numbers has its turn.
    pub turn: u64,
}

/// What happens to an emergency or test call (RULES 5, rows D1-D6, D9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 403 with section 5.1's texts.
    Refuse,
    Route(Route),
    /// Normal 401 or 407 first.
    Challenge,
    /// 404, logged as a loop.
    Loop,
    /// 404: a test number without a trunk.
    NoTest,
}

/// How a call goes to the answering point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Indexes in the order to try.
    pub trunks: Vec<usize>,
    pub place: Place,
    /// E.164; empty where none is configured, which no checked configuration with a trunk allows.
    pub callback: String,
    /// As in the [`Situation`].
    pub turn: u64,
}

/// RULES 4 and 5, total. `is_up`: whether a trunk is believed to work; one that is not is tried all the same, later.
pub fn decide(situation: &Situation<'_>, config: &Config, is_up: impl Fn(usize) -> bool) -> Decision {
    let mut trunks = trunks_for(situation.class, config);
    trunks.sort_by_key(|index| !is_up(*index));
    let is_configured = !trunks.is_empty();
    let is_site_policy = config.emergency.unauthenticated == Unauthenticated::SiteNetworks;
    match (situation.class, situation.source) {
        // D6: inbound calls never go out again.
        (Class::Emergency, Source::Trunk) => Decision::Loop,
        (Class::Test, Source::Trunk) => Decision::NoTest,
        // D1 and D5: at once, without a challenge; RULES 2.6 for tests.
        (Class::Emergency, _) if !is_configured => Decision::Refuse,
        (Class::Test, _) if !is_configured => Decision::NoTest,
        // D2 and D9.
        (Class::Emergency | Class::Test, Source::AuthenticatedDevice) => {
            Decision::Route(route(trunks, situation.user, situation.line, situation.turn, config))
        }
        // D3: nothing of its own is shown.
        (Class::Emergency, Source::UnauthenticatedDevice { in_site_networks: true }) if is_site_policy => {
            Decision::Route(route(trunks, None, None, situation.turn, config))
        }
        // D4; a test has no privilege to skip authentication.
        (Class::Emergency | Class::Test, Source::UnauthenticatedDevice { .. }) => Decision::Challenge,
    }
}

fn route(trunks: Vec<usize>, user: Option<&User>, line: Option<&str>, turn: u64, config: &Config) -> Route {
    let callback = location::callback(config, line, turn).unwrap_or_default().to_owned();
    Route { trunks, place: location::place(config, user, line), callback, turn }
}

/// Whether at least one enabled trunk has `pstn` and `emergency` (RULES 1).
pub fn is_available(config: &Config) -> bool {
    config.trunks.iter().any(is_eligible)
}

/// Trunks for emergency calls, in configured order.
pub fn eligible_trunks(config: &Config) -> Vec<usize> {
    trunks_for(Class::Emergency, config)
}

fn is_eligible(trunk: &Trunk) -> bool {
    trunk.is_enabled && trunk.reaches_pstn && trunk.carries_emergency
}

/// Eligible trunks: those that `emergency.trunks` names, in its order, then the others, in file order.
fn trunks_for(class: Class, config: &Config) -> Vec<usize> {
    let eligible = |i: &usize| is_eligible(&config.trunks[*i]);
    let named = config.emergency.trunks.iter().filter_map(|name| config.trunks.iter().position(|t| t.name == *name));
    let mut trunks: Vec<usize> = named.filter(eligible).collect();
    let others: Vec<usize> =
        (0..config.trunks.len()).filter(eligible).filter(|index| !trunks.contains(index)).collect();
    trunks.extend(others);
    if class == Class::Test && site::test_numbers(config).is_empty() {
        // Without a test number only the URN says that it is a test; digits would be the live number.
        trunks.retain(|&i| config.trunks[i].request_uri == EmergencyRequestUri::Urn);
    }
    trunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::emergency::{
        Dialled, Site, classify,
        product::{self, COMPANY, Case, State, Told},
    };

    fn config(trunks: &str) -> Config {
        let text = format!(
            r#"
            [company]
            name = "Example Corp"
            region = "US"
            address = {{ country = "US", A1 = "DC", A3 = "Washington", RD = "Example", HNO = "500", PC = "20001" }}
            [emergency]
            callback_numbers = ["{COMPANY}"]
            {trunks}"#
        );
        crate::config::parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0
    }

    fn trunk(name: &str, more: &str) -> String {
        format!("[trunk.{name}]\nhost = \"{name}.example\"\nnumbers = [\"{COMPANY}\"]\n{more}\n")
    }

    fn of_device(class: Class, config: &Config) -> Decision {
        let source = Source::AuthenticatedDevice;
        decide(&Situation { class, source, user: None, line: None, turn: 0 }, config, |_| true)
    }

    fn trunks_of(class: Class, config: &Config) -> Vec<usize> {
        match of_device(class, config) {
            Decision::Route(route) => route.trunks,
            other => panic!("{other:?}"),
        }
    }

    /// What the server does: recognition, then the decision. Over which transport a call comes and how much is in use is no argument of
    /// either; `call::tests::decision` walks the same cases with messages, all limits exhausted.
    fn told(case: &Case, user: &User, config: &Config, site: &Site) -> Told {
        let uri =
            format!("sip:{}@{};transport={}", case.number.digits(), config.server.domain, case.transport.uri_token());
        let class = match classify(&uri, site) {
            Dialled::Emergency(_) => Class::Emergency,
            Dialled::Test(_) => Class::Test,
            Dialled::Ordinary(_) => return Told::NotDecidedHere,
        };
        // A header that says which user of its telephone calls names nobody's private address.
        let known = Some(user).filter(|_| !case.is_named_by_header());
        let situation =
            Situation { class, source: case.source(), user: known, line: user.direct_line.as_deref(), turn: 0 };
        match decide(&situation, config, |index| case.server.trunks.state(index) == Some(State::Up)) {
            Decision::Refuse => Told::Refused403,
            // Who was asked before is told so by the core.
            Decision::Challenge if case.has_failed_a_challenge() && class == Class::Emergency => Told::Refused403,
            Decision::Challenge => Told::Challenged,
            Decision::Loop => Told::Loop404,
            Decision::NoTest => Told::NotFound404,
            // Of its limits the core knows.
            Decision::Route(_) if case.is_test_without_place() => Told::Busy503,
            Decision::Route(Route { trunks, place, callback, .. }) => {
                let place = if place == Place::Company { "company" } else { "private" };
                let is_line = user.direct_line.as_ref() == Some(&callback);
                Told::Routed(trunks, place, if is_line { "line" } else { "company" })
            }
        }
    }

    #[test]
    fn every_case_there_is_agrees_with_the_table_of_the_specification() {
        let users = product::users();
        let mut uses = product::Uses::default();
        for server in product::Server::all() {
            let config = crate::config::parse(&server.text()).unwrap_or_else(|p| panic!("{p:#?}")).0;
            let site = Site::new(&config, &[]);
            for case in Case::all(server) {
                let row = uses.row(&case);
                let told = told(&case, case.user(&users), &config, &site);
                assert_eq!(told, (row.told)(&case), "{}: {case:?}", row.paragraph);
            }
        }
        assert_eq!(uses.unused(), [""; 0], "no case is one of these");
    }

    #[test]
    fn only_enabled_pstn_trunks_that_carry_emergency_calls_count() {
        for not_eligible in ["enabled = false", "pstn = false", "emergency = false"] {
            let config = config(&trunk("a", not_eligible));
            assert!(!is_available(&config), "{not_eligible}");
            assert_eq!(of_device(Class::Emergency, &config), Decision::Refuse);
        }
        assert!(is_available(&config(&trunk("a", ""))));
    }

    #[test]
    fn trunks_are_tried_in_the_configured_order_else_in_file_order() {
        let three = [trunk("z", ""), trunk("a", ""), trunk("m", "")].concat();
        let mut config = config(&three);
        assert_eq!(trunks_of(Class::Emergency, &config), [0, 1, 2]);
        config.emergency.trunks = vec!["m".to_owned(), "z".to_owned()];
        let reason = "the list is an order: a call that fails on both goes on over the third";
        assert_eq!(trunks_of(Class::Emergency, &config), [2, 0, 1], "{reason}");
        config.trunks[2].is_enabled = false;
        config.trunks[0].is_enabled = false;
        assert_eq!(trunks_of(Class::Emergency, &config), [1]);
    }

    #[test]
    fn a_test_without_a_test_number_goes_to_urn_trunks_only() {
        let mut config = config(&[trunk("digits", ""), trunk("urn", "request_uri = \"urn\"")].concat());
        config.emergency.test_numbers = Some(Vec::new());
        assert_eq!(trunks_of(Class::Test, &config), [1]);
        assert_eq!(trunks_of(Class::Emergency, &config), [0, 1]);
        config.trunks.pop();
        assert_eq!(of_device(Class::Test, &config), Decision::NoTest);
    }
}
