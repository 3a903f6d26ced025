//! Emergency calling (house specification, sections 2 and 5): is this an emergency call, and what happens to it.

pub mod table;

use std::net::IpAddr;

use crate::config::Config;

/// What classification needs to know of the caller's site; built once per configuration.
#[derive(Clone, Debug)]
pub struct Site {}

impl Site {
    /// `own_hosts`: the domain and every listening address, matched without port, case or trailing dot.
    pub fn new(config: &Config, own_ips: &[IpAddr]) -> Self {
        let _ = (config, own_ips);
        todo!()
    }

    /// For `dial-test`: a region with the vector settings (outside prefixes 9 and 0, hosts of the vectors).
    pub fn for_region(region: &str, outside_prefixes: &[&str], own_hosts: &[&str]) -> Option<Self> {
        let _ = (region, outside_prefixes, own_hosts);
        todo!()
    }
}

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
    /// Digits for the trunk by SPEC 2.7.
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
}

impl Ordinary {
    pub const fn kind(&self) -> &OrdinaryKind {
        &self.kind
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrdinaryKind {
    /// A user part of our own domain that is not a dialable outside number: extension or user name.
    Extension(String),
    /// An outside number, normalised to E.164 with `+` where the region allows it, otherwise digits.
    External(String),
    /// The user part of a foreign domain; not routed here.
    Foreign,
    /// Not understood.
    Invalid,
}

/// SPEC section 2, on a Request-URI (or a bare dialled string). O(length); no allocation for a plain ASCII extension
/// beyond the returned text.
pub fn classify(request_uri: &str, site: &Site) -> Dialled {
    let _ = (request_uri, site);
    todo!()
}

/// Who sends the emergency INVITE (SPEC 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    AuthenticatedDevice,
    /// Fails or lacks authentication; whether its address is in `site_networks`.
    UnauthenticatedDevice {
        in_site_networks: bool,
    },
    Trunk,
}

/// What happens to an emergency or test call (SPEC 5, rows D1-D6, D9).
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

/// SPEC 5, total.
pub fn decide(dialled: Class, source: Source, config: &Config) -> Decision {
    let _ = (dialled, source, config);
    todo!()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Emergency,
    Test,
}

/// Whether at least one enabled trunk has `pstn` and `emergency` (SPEC 1).
pub fn is_available(config: &Config) -> bool {
    config.trunks.iter().any(|t| t.is_enabled && t.reaches_pstn && t.carries_emergency)
}
