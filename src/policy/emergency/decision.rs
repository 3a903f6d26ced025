//! What happens to an emergency or test call (emergency RULES, section 5).

use crate::config::{Config, EmergencyRequestUri, Trunk, Unauthenticated};

use super::site;

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

/// What happens to an emergency or test call (RULES 5, rows D1-D6, D9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 403 with section 5.1's texts.
    Refuse,
    /// Trunk indexes in the order to try; ERL and callback as company or the caller's own line.
    Route { trunks: Vec<usize>, as_company: bool },
    /// Normal 401 or 407 first.
    Challenge,
    /// 404, logged as a loop.
    Loop,
    /// 404: a test number without a trunk.
    NoTest,
}

/// RULES 5, total.
pub fn decide(dialled: Class, source: Source, config: &Config) -> Decision {
    let trunks = trunks_for(dialled, config);
    let is_configured = !trunks.is_empty();
    let is_site_policy = config.emergency.unauthenticated == Unauthenticated::SiteNetworks;
    match (dialled, source) {
        // D6: inbound calls never go out again.
        (Class::Emergency, Source::Trunk) => Decision::Loop,
        (Class::Test, Source::Trunk) => Decision::NoTest,
        // D1 and D5: at once, without a challenge; RULES 2.6 for tests.
        (Class::Emergency, _) if !is_configured => Decision::Refuse,
        (Class::Test, _) if !is_configured => Decision::NoTest,
        // D2 and D9.
        (Class::Emergency | Class::Test, Source::AuthenticatedDevice) => Decision::Route { trunks, as_company: false },
        // D3.
        (Class::Emergency, Source::UnauthenticatedDevice { in_site_networks: true }) if is_site_policy => {
            Decision::Route { trunks, as_company: true }
        }
        // D4; a test has no privilege to skip authentication.
        (Class::Emergency | Class::Test, Source::UnauthenticatedDevice { .. }) => Decision::Challenge,
    }
}

/// Whether at least one enabled trunk has `pstn` and `emergency` (RULES 1).
pub fn is_available(config: &Config) -> bool {
    config.trunks.iter().any(is_eligible)
}

fn is_eligible(trunk: &Trunk) -> bool {
    trunk.is_enabled && trunk.reaches_pstn && trunk.carries_emergency
}

/// Eligible trunks: those `emergency.trunks` names, in its order; all in file order if it names none that is eligible.
fn trunks_for(class: Class, config: &Config) -> Vec<usize> {
    let eligible = |i: &usize| is_eligible(&config.trunks[*i]);
    let named = config.emergency.trunks.iter().filter_map(|name| config.trunks.iter().position(|t| t.name == *name));
    let mut trunks: Vec<usize> = named.filter(eligible).collect();
    if trunks.is_empty() {
        trunks = (0..config.trunks.len()).filter(eligible).collect();
    }
    if class == Class::Test && site::test_numbers(config).is_empty() {
        // Without a test number only the URN says that it is a test; digits would be the live number.
        trunks.retain(|&i| config.trunks[i].request_uri == EmergencyRequestUri::Urn);
    }
    trunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(trunks: &str) -> Config {
        let text = format!(
            r#"
            [company]
            name = "Example Corp"
            region = "US"
            address = {{ country = "US", A1 = "DC", A3 = "Washington", RD = "Example", HNO = "500", PC = "20001" }}
            [emergency]
            callback_numbers = ["+12025550100"]
            {trunks}"#
        );
        crate::config::parse(&text).unwrap_or_else(|p| panic!("{p:#?}")).0
    }

    fn trunk(name: &str, more: &str) -> String {
        format!("[trunk.{name}]\nhost = \"{name}.example\"\nnumbers = [\"+12025550100\"]\n{more}\n")
    }

    fn route(trunks: &[usize], as_company: bool) -> Decision {
        Decision::Route { trunks: trunks.to_vec(), as_company }
    }

    #[test]
    fn every_class_from_every_source_with_and_without_a_trunk() {
        let without = config("");
        let with = config(&trunk("a", ""));
        let inside = Source::UnauthenticatedDevice { in_site_networks: true };
        let outside = Source::UnauthenticatedDevice { in_site_networks: false };
        let (emergency, test) = (Class::Emergency, Class::Test);
        for (row, class, source, config, decision) in [
            ("D1", emergency, Source::AuthenticatedDevice, &without, Decision::Refuse),
            ("D2", emergency, Source::AuthenticatedDevice, &with, route(&[0], false)),
            ("D3", emergency, inside, &with, route(&[0], true)),
            ("D4", emergency, outside, &with, Decision::Challenge),
            ("D5", emergency, inside, &without, Decision::Refuse),
            ("D5", emergency, outside, &without, Decision::Refuse),
            ("D6", emergency, Source::Trunk, &with, Decision::Loop),
            ("D6", emergency, Source::Trunk, &without, Decision::Loop),
            ("D9", test, Source::AuthenticatedDevice, &with, route(&[0], false)),
            ("2.6", test, Source::AuthenticatedDevice, &without, Decision::NoTest),
            ("2.6", test, inside, &with, Decision::Challenge),
            ("2.6", test, outside, &with, Decision::Challenge),
            ("2.6", test, inside, &without, Decision::NoTest),
            ("2.6", test, outside, &without, Decision::NoTest),
            ("D6", test, Source::Trunk, &with, Decision::NoTest),
            ("D6", test, Source::Trunk, &without, Decision::NoTest),
        ] {
            assert_eq!(decide(class, source, config), decision, "{row}: {class:?} {source:?}");
        }
    }

    #[test]
    fn unauthenticated_devices_can_be_denied_the_shortcut_but_not_refused_unheard() {
        let mut config = config(&trunk("a", ""));
        config.emergency.unauthenticated = Unauthenticated::Deny;
        let inside = Source::UnauthenticatedDevice { in_site_networks: true };
        assert_eq!(decide(Class::Emergency, inside, &config), Decision::Challenge);
    }

    #[test]
    fn only_enabled_pstn_trunks_that_carry_emergency_calls_count() {
        for not_eligible in ["enabled = false", "pstn = false", "emergency = false"] {
            let config = config(&trunk("a", not_eligible));
            assert!(!is_available(&config), "{not_eligible}");
            assert_eq!(decide(Class::Emergency, Source::AuthenticatedDevice, &config), Decision::Refuse);
        }
        assert!(is_available(&config(&trunk("a", ""))));
    }

    #[test]
    fn trunks_are_tried_in_the_configured_order_else_in_file_order() {
        let three = [trunk("z", ""), trunk("a", ""), trunk("m", "")].concat();
        let mut config = config(&three);
        assert_eq!(decide(Class::Emergency, Source::AuthenticatedDevice, &config), route(&[0, 1, 2], false));
        config.emergency.trunks = vec!["m".to_owned(), "z".to_owned()];
        assert_eq!(decide(Class::Emergency, Source::AuthenticatedDevice, &config), route(&[2, 0], false));
        config.trunks[2].is_enabled = false;
        config.trunks[0].is_enabled = false;
        assert_eq!(
            decide(Class::Emergency, Source::AuthenticatedDevice, &config),
            route(&[1], false),
            "an eligible trunk is never left out while none of the named ones is"
        );
    }

    #[test]
    fn a_test_without_a_test_number_goes_to_urn_trunks_only() {
        let mut config = config(&[trunk("digits", ""), trunk("urn", "request_uri = \"urn\"")].concat());
        config.emergency.test_numbers = Some(Vec::new());
        assert_eq!(decide(Class::Test, Source::AuthenticatedDevice, &config), route(&[1], false));
        assert_eq!(decide(Class::Emergency, Source::AuthenticatedDevice, &config), route(&[0, 1], false));
        config.trunks.pop();
        assert_eq!(decide(Class::Test, Source::AuthenticatedDevice, &config), Decision::NoTest);
    }
}
