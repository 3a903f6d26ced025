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
    use crate::{
        config::{Forwarding, Place as Telephones},
        policy::emergency::{Dialled, Site, classify},
        types::{Private, Secret},
        wire::sip::digest::Credential,
    };

    const COMPANY: &str = "+12025550100";
    const LINE: &str = "+12025550177";

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

    // The whole cross product against a table that is written from the specification.

    /// One point of the cross product.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        source: Source,
        does_policy_allow: bool,
        trunks: Trunks,
        /// Of the first and of the second trunk.
        are_up: [bool; 2],
        has_line: bool,
        is_shared: bool,
        has_private_address: bool,
        number: Number,
        /// What must not matter.
        limits: Limits,
        transport: &'static str,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Trunks {
        None,
        Disabled,
        NoPstn,
        NoEmergency,
        One,
        Two,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Number {
        Emergency,
        Test,
        Ordinary,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Limits {
        Usual,
        /// Nothing is reserved, and there is room for one call.
        Exhausted,
    }

    impl Case {
        fn all() -> Vec<Self> {
            let sources = [
                Source::AuthenticatedDevice,
                Source::UnauthenticatedDevice { in_site_networks: true },
                Source::UnauthenticatedDevice { in_site_networks: false },
                Source::Trunk,
            ];
            let trunks =
                [Trunks::None, Trunks::Disabled, Trunks::NoPstn, Trunks::NoEmergency, Trunks::One, Trunks::Two];
            let numbers = [Number::Emergency, Number::Test, Number::Ordinary];
            let mut all = Vec::new();
            for source in sources {
                for trunks in trunks {
                    for number in numbers {
                        for limits in [Limits::Usual, Limits::Exhausted] {
                            for transport in ["udp", "tcp", "tls"] {
                                // Six yes-or-no questions.
                                for bits in 0..64_u8 {
                                    let is = |bit: u8| bits & (1 << bit) != 0;
                                    all.push(Self {
                                        source,
                                        does_policy_allow: is(0),
                                        trunks,
                                        are_up: [is(1), is(2)],
                                        has_line: is(3),
                                        is_shared: is(4),
                                        has_private_address: is(5),
                                        number,
                                        limits,
                                        transport,
                                    });
                                }
                            }
                        }
                    }
                }
            }
            all
        }

        fn is_device(&self) -> bool {
            self.source != Source::Trunk
        }

        fn is_authenticated(&self) -> bool {
            self.source == Source::AuthenticatedDevice
        }

        /// "Trunk configured" of section 1: whether it can be reached does not count.
        fn is_configured(&self) -> bool {
            matches!(self.trunks, Trunks::One | Trunks::Two)
        }

        fn may_skip_the_challenge(&self) -> bool {
            self.source == Source::UnauthenticatedDevice { in_site_networks: true } && self.does_policy_allow
        }

        fn is_routed(&self) -> bool {
            self.is_authenticated() && self.is_configured() && self.number != Number::Ordinary
        }

        fn config(&self) -> Config {
            let trunks = match self.trunks {
                Trunks::None => String::new(),
                Trunks::Disabled => trunk("a", "enabled = false"),
                Trunks::NoPstn => trunk("a", "pstn = false"),
                Trunks::NoEmergency => trunk("a", "emergency = false"),
                Trunks::One => trunk("a", ""),
                Trunks::Two => [trunk("a", ""), trunk("b", "")].concat(),
            };
            let mut config = config(&trunks);
            if !self.does_policy_allow {
                config.emergency.unauthenticated = Unauthenticated::Deny;
            }
            if self.limits == Limits::Exhausted {
                config.emergency.reserved_calls = 0;
                config.media.ports = 20_000..=20_003;
            }
            config
        }

        fn user(&self) -> User {
            let elements = [("country".to_owned(), "US".to_owned()), ("RD".to_owned(), "Sample".to_owned())];
            let private_address = self.has_private_address.then(|| Private::new(elements.into()));
            User {
                name: "alice".to_owned(),
                extension: "1001".to_owned(),
                direct_line: self.has_line.then(|| LINE.to_owned()),
                credential: Credential { ha1_md5: Secret::new([0; 16]), ha1_sha256: Secret::new([0; 32]) },
                forwarding: Forwarding { always: Some("1002".to_owned()), ..Forwarding::default() },
                place: Telephones { private_address, is_shared: self.is_shared },
            }
        }

        /// What the server does: recognition, then the decision.
        fn outcome(&self, config: &Config, site: &Site) -> Told {
            let user = self.user();
            let digits = match self.number {
                Number::Emergency => "911",
                Number::Test => "933",
                Number::Ordinary => "1002",
            };
            let uri = format!("sip:{digits}@{};transport={}", config.server.domain, self.transport);
            let class = match classify(&uri, site) {
                Dialled::Emergency(_) => Class::Emergency,
                Dialled::Test(_) => Class::Test,
                Dialled::Ordinary(_) => return Told::NotDecidedHere,
            };
            let line = user.direct_line.as_deref();
            let situation = Situation { class, source: self.source, user: Some(&user), line, turn: 0 };
            match decide(&situation, config, |index| self.are_up[index]) {
                Decision::Refuse => Told::Refused403,
                Decision::Challenge => Told::Challenged,
                Decision::Loop => Told::Loop404,
                Decision::NoTest => Told::NotFound404,
                Decision::Route(Route { trunks, place, callback, .. }) => {
                    let place = if place == Place::Company { "company" } else { "private" };
                    Told::Routed(trunks, place, if callback == LINE { "line" } else { "company" })
                }
            }
        }

        /// 5.3: in configured order, those believed up first.
        fn trunk_order(&self) -> Vec<usize> {
            match (self.trunks, self.are_up) {
                (Trunks::Two, [false, true]) => vec![1, 0],
                (Trunks::Two, [true | false, false] | [true, true]) => vec![0, 1],
                (Trunks::One, _) => vec![0],
                (Trunks::None | Trunks::Disabled | Trunks::NoPstn | Trunks::NoEmergency, _) => Vec::new(),
            }
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        NotDecidedHere,
        Refused403,
        Challenged,
        Loop404,
        NotFound404,
        /// Trunks in their order, whose address, whose callback number.
        Routed(Vec<usize>, &'static str, &'static str),
    }

    struct Row {
        paragraph: &'static str,
        is_for: fn(&Case) -> bool,
        told: fn(&Case) -> Told,
    }

    fn routed(case: &Case, place: &'static str, callback: &'static str) -> Told {
        Told::Routed(case.trunk_order(), place, callback)
    }

    const ROWS: [Row; 15] = [
        Row {
            paragraph: "2.2: not in the table, so no emergency call",
            is_for: |c| c.number == Number::Ordinary,
            told: |_| Told::NotDecidedHere,
        },
        Row {
            paragraph: "D1: authenticated device, no trunk",
            is_for: |c| c.number == Number::Emergency && c.is_authenticated() && !c.is_configured(),
            told: |_| Told::Refused403,
        },
        Row {
            paragraph: "D2, section 4 row 1: extension only",
            is_for: |c| c.number == Number::Emergency && c.is_routed() && !c.has_line,
            told: |c| routed(c, "company", "company"),
        },
        Row {
            paragraph: "D2, section 4 row 2: direct line, no private address",
            is_for: |c| c.number == Number::Emergency && c.is_routed() && c.has_line && !c.has_private_address,
            told: |c| routed(c, "company", "line"),
        },
        Row {
            paragraph: "D2, section 4 row 3: direct line with private address, shared",
            is_for: |c| {
                c.number == Number::Emergency && c.is_routed() && c.has_line && c.has_private_address && c.is_shared
            },
            told: |c| routed(c, "company", "line"),
        },
        Row {
            paragraph: "D2, section 4 row 4: direct line with private address, not shared",
            is_for: |c| {
                c.number == Number::Emergency && c.is_routed() && c.has_line && c.has_private_address && !c.is_shared
            },
            told: |c| routed(c, "private", "line"),
        },
        Row {
            paragraph: "D3: unauthenticated device in site_networks, policy allows",
            is_for: |c| c.number == Number::Emergency && c.may_skip_the_challenge() && c.is_configured(),
            told: |c| routed(c, "company", "company"),
        },
        Row {
            paragraph: "D4: unauthenticated device, other",
            is_for: |c| {
                let is_other = !c.is_authenticated() && !c.may_skip_the_challenge();
                c.number == Number::Emergency && c.is_device() && is_other && c.is_configured()
            },
            told: |_| Told::Challenged,
        },
        Row {
            paragraph: "D5: unauthenticated device, no trunk",
            is_for: |c| {
                let is_stranger = c.is_device() && !c.is_authenticated();
                c.number == Number::Emergency && is_stranger && !c.is_configured()
            },
            told: |_| Told::Refused403,
        },
        Row {
            paragraph: "D6: from a trunk",
            is_for: |c| c.number == Number::Emergency && !c.is_device(),
            told: |_| Told::Loop404,
        },
        Row {
            paragraph: "D9, section 4 rows 1 to 3: a test with the company's address",
            is_for: |c| {
                let is_private = c.has_line && c.has_private_address && !c.is_shared;
                c.number == Number::Test && c.is_routed() && !is_private
            },
            told: |c| routed(c, "company", if c.has_line { "line" } else { "company" }),
        },
        Row {
            paragraph: "D9, section 4 row 4: a test of a private address",
            is_for: |c| {
                let is_private = c.has_line && c.has_private_address && !c.is_shared;
                c.number == Number::Test && c.is_routed() && is_private
            },
            told: |c| routed(c, "private", "line"),
        },
        Row {
            paragraph: "2.6: a test without a trunk",
            is_for: |c| c.number == Number::Test && c.is_device() && !c.is_configured(),
            told: |_| Told::NotFound404,
        },
        Row {
            paragraph: "2.6 and D4: a test is no emergency, so its sender is asked who it is",
            is_for: |c| c.number == Number::Test && c.is_device() && !c.is_authenticated() && c.is_configured(),
            told: |_| Told::Challenged,
        },
        Row {
            paragraph: "2.6 and D6: a test from a trunk",
            is_for: |c| c.number == Number::Test && !c.is_device(),
            told: |_| Told::NotFound404,
        },
    ];

    #[test]
    fn every_case_there_is_agrees_with_the_table_of_the_specification() {
        let mut uses = [0_usize; ROWS.len()];
        let mut configs: Vec<((Trunks, bool, Limits), Config, Site)> = Vec::new();
        for case in Case::all() {
            let key = (case.trunks, case.does_policy_allow, case.limits);
            if configs.iter().all(|(known, ..)| *known != key) {
                let config = case.config();
                let site = Site::new(&config, &[]);
                configs.push((key, config, site));
            }
            let (_, config, site) = configs.iter().find(|(known, ..)| *known == key).expect("it is there by now");
            let fitting: Vec<usize> = (0..ROWS.len()).filter(|&row| (ROWS[row].is_for)(&case)).collect();
            let [row] = fitting.as_slice() else { panic!("{} rows speak of {case:?}", fitting.len()) };
            uses[*row] += 1;
            let Row { paragraph, told, .. } = &ROWS[*row];
            assert_eq!(case.outcome(config, site), told(&case), "{paragraph}: {case:?}");
        }
        for (row, uses) in ROWS.iter().zip(uses) {
            assert!(uses > 0, "no case is one of {}", row.paragraph);
        }
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
        assert_eq!(trunks_of(Class::Emergency, &config), [2, 0]);
        config.trunks[2].is_enabled = false;
        config.trunks[0].is_enabled = false;
        let reason = "an eligible trunk is never left out while none of the named ones is";
        assert_eq!(trunks_of(Class::Emergency, &config), [1], "{reason}");
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
