//! Whether a call may leave for a number outside, and over which trunks in which order: permissions, limits, routes.
//!
//! Emergency and test calls never come here ([`super::emergency`] is asked before), and helplines pass every permission,
//! block and limit of their caller.

use std::{cmp::Reverse, fmt};

use super::{
    emergency::table::Region,
    number::{self, Destination},
};
use crate::config::{
    Config, Trunk,
    calling::{Limits, Money, Profile},
};

/// What a user or a trunk has used of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub concurrent_calls: usize,
    pub calls_in_minute: usize,
    /// International and premium ones.
    pub costly_calls_in_day: usize,
    pub spent_today: Money,
}

/// Why a call does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    NotAllowed(Destination),
    Blocked,
    ConcurrentCalls,
    CallsPerMinute,
    CostlyCallsPerDay,
    SpendPerDay,
    NoTrunk,
    /// Each trunk for the number is at a limit of its own.
    TrunksFull,
    /// An operator keeps calls off each of them.
    TrunksDraining,
}

/// How a trunk is. The least is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// An operator keeps new calls off it.
    pub is_draining: bool,
    /// It cannot be expected to answer before the others.
    pub is_down: bool,
}

impl Denial {
    /// Final response: status and reason phrase.
    pub const fn answer(self) -> (u16, &'static str) {
        match self {
            Self::NotAllowed(Destination::Premium) => (403, "Premium Numbers Not Allowed"),
            Self::NotAllowed(Destination::International) => (403, "International Numbers Not Allowed"),
            Self::NotAllowed(_) => (403, "Outside Numbers Not Allowed"),
            Self::Blocked => (403, "Number Blocked"),
            Self::CostlyCallsPerDay => (403, "Costly Calls Barred"),
            Self::ConcurrentCalls => (403, "Too Many Outside Calls At Once"),
            Self::CallsPerMinute => (403, "Too Many Outside Calls A Minute"),
            Self::SpendPerDay => (403, "Daily Spending Limit Reached"),
            Self::NoTrunk => (404, "No Trunk For This Number"),
            Self::TrunksFull => (480, "Every Trunk Is At Its Limit"),
            Self::TrunksDraining => (480, "Every Trunk Is Draining"),
        }
    }

    /// The limit that somebody should hear of; `None` for what a user simply may not.
    pub const fn alarm(self) -> Option<&'static str> {
        match self {
            Self::ConcurrentCalls => Some("concurrent_calls"),
            Self::CallsPerMinute => Some("calls_per_minute"),
            Self::CostlyCallsPerDay => Some("costly_calls_per_day"),
            Self::SpendPerDay => Some("spend_per_day"),
            Self::NotAllowed(_) | Self::Blocked | Self::NoTrunk | Self::TrunksFull | Self::TrunksDraining => None,
        }
    }
}

/// Every label of [`Denial::alarm`].
pub const LIMITS: [&str; 4] = ["concurrent_calls", "calls_per_minute", "costly_calls_per_day", "spend_per_day"];

/// Is told each step of a decision, in words.
pub type Steps<'s> = &'s mut dyn FnMut(fmt::Arguments<'_>);

/// The trunks for a call to `number` on behalf of `user`, by index into `Config::trunks` and in the order to try.
/// `of_user` and `of_trunk`: what is used of the limits now. Trunks that are passed over because they are at a limit are added
/// to `full`.
pub fn decide(
    number: &str,
    user: &str,
    of_user: &Used,
    of_trunk: &dyn Fn(usize) -> Used,
    (config, region): (&Config, &Region),
    full: &mut Vec<FullTrunk>,
    steps: Steps<'_>,
) -> Result<Vec<usize>, Denial> {
    let destination = number::destination(number, region);
    steps(format_args!("{number} is {} seen from {}", word(destination), region.code));
    permit(number, destination, config.calling.profile_of(user), of_user, steps)?;
    let mut routes = Vec::new();
    for index in 0..config.trunks.len() {
        match route(number, destination, index, of_trunk(index), config, steps) {
            Ok(route) => routes.push(route),
            Err(limit) => full.extend(limit),
        }
    }
    // Stable: what is alike stays in the order of the file.
    routes.sort_by_key(|route| (Reverse(route.prefix_len), route.price));
    if routes.is_empty() {
        steps(format_args!("no trunk is left"));
        return Err(if full.is_empty() { Denial::NoTrunk } else { Denial::TrunksFull });
    }
    for (position, route) in (1..).zip(&routes) {
        steps(format_args!("{position}. over the trunk {:?}{}", config.trunks[route.trunk].name, Priced(route.price)));
    }
    Ok(routes.into_iter().map(|route| route.trunk).collect())
}

/// Of the trunks that [`decide`] names, those that take the call now, those first that can be expected to answer. Nothing keeps a call
/// from a helpline, and a trunk that is to be emptied still works: it comes last.
pub fn available(
    mut trunks: Vec<usize>,
    number: &str,
    standing: &dyn Fn(usize) -> Standing,
    (config, region): (&Config, &Region),
    steps: Steps<'_>,
) -> Result<Vec<usize>, Denial> {
    let is_helpline = number::destination(number, region) == Destination::Helpline;
    let name = |index: usize| config.trunks[index].name.as_str();
    for index in trunks.iter().copied() {
        match standing(index) {
            Standing { is_draining: true, .. } if is_helpline => {
                steps(format_args!("the trunk {:?} is draining, and is tried last", name(index)));
            }
            Standing { is_draining: true, .. } => {
                steps(format_args!("the trunk {:?} is draining, and gets no new call", name(index)));
            }
            Standing { is_down: true, .. } => {
                steps(format_args!("the trunk {:?} is down, and is tried after the others", name(index)));
            }
            Standing { .. } => {}
        }
    }
    let had_trunks = !trunks.is_empty();
    trunks.retain(|index| is_helpline || !standing(*index).is_draining);
    if had_trunks && trunks.is_empty() {
        return Err(Denial::TrunksDraining);
    }
    trunks.sort_by_key(|index| standing(*index));
    Ok(trunks)
}

/// Whether a trunk may carry a call to a number of ours that the inbound map leaves to it. What it may carry and its limits hold,
/// and no call goes back to where it came from. `source`: the trunk that brings it.
pub fn onward(
    number: &str,
    source: Option<usize>,
    target: usize,
    (used, standing): (Used, Standing),
    (config, region): (&Config, &Region),
    full: &mut Vec<FullTrunk>,
    steps: Steps<'_>,
) -> Result<(), (u16, &'static str)> {
    let name = config.trunks[target].name.as_str();
    if source == Some(target) {
        steps(format_args!("it came from the trunk {name:?}, and is not sent back"));
        return Err((482, "Loop Detected"));
    }
    let destination = number::destination(number, region);
    match carry(number, destination, target, used, config, steps) {
        Ok(route) => steps(format_args!("on over the trunk {name:?}{}", Priced(route.price))),
        Err(limit) => {
            full.extend(limit);
            return Err((503, "Trunk May Not Carry This Call"));
        }
    }
    if standing.is_draining {
        steps(format_args!("the trunk {name:?} is draining, and gets no new call"));
        return Err((480, "The Trunk Is Draining"));
    }
    Ok(())
}

fn permit(
    number: &str,
    destination: Destination,
    profile: &Profile,
    used: &Used,
    steps: Steps<'_>,
) -> Result<(), Denial> {
    let whose = if profile.name.is_empty() { "[calling]" } else { profile.name.as_str() };
    if destination == Destination::Helpline {
        steps(format_args!("helplines are free of all permissions and limits"));
        return Ok(());
    }
    if !profile.permissions.allow.contains(&destination) {
        steps(format_args!("{whose} does not allow {}", word(destination)));
        return Err(Denial::NotAllowed(destination));
    }
    steps(format_args!("{whose} allows {}", word(destination)));
    if let Some(prefix) = profile.permissions.blocking_prefix(number) {
        steps(format_args!("{whose} blocks {prefix}"));
        return Err(Denial::Blocked);
    }
    if destination >= Destination::International {
        within_day(profile, used, steps)?;
    }
    within(&profile.limits, used, whose, steps)
}

fn within_day(profile: &Profile, used: &Used, steps: Steps<'_>) -> Result<(), Denial> {
    let (count, most) = (used.costly_calls_in_day, usize::from(profile.costly_calls_per_day));
    if most == 0 {
        return Ok(());
    }
    steps(format_args!("{count} of {most} international and premium calls within 24 hours are used"));
    if count < most { Ok(()) } else { Err(Denial::CostlyCallsPerDay) }
}

fn within(limits: &Limits, used: &Used, whose: &str, steps: Steps<'_>) -> Result<(), Denial> {
    let counts = [
        ("calls at once", used.concurrent_calls, limits.concurrent_calls, Denial::ConcurrentCalls),
        ("calls within a minute", used.calls_in_minute, limits.calls_per_minute, Denial::CallsPerMinute),
    ];
    for (what, count, most, denial) in counts.into_iter().filter(|(_, _, most, _)| *most > 0) {
        steps(format_args!("{count} of {most} {what} are used of {whose}"));
        if count >= usize::from(most) {
            return Err(denial);
        }
    }
    if let Some(most) = limits.spend_per_day {
        steps(format_args!("{} of {most} are spent today of {whose}", used.spent_today));
        if used.spent_today >= most {
            return Err(Denial::SpendPerDay);
        }
    }
    Ok(())
}

/// A trunk that would carry a call, and the limit of its own that it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FullTrunk {
    pub trunk: usize,
    pub limit: Denial,
}

/// One way out.
#[derive(Clone, Copy, Debug)]
struct Route {
    trunk: usize,
    /// Of the rate that the number has there; a trunk without rates takes every number.
    prefix_len: usize,
    price: Option<Money>,
}

fn route(
    number: &str,
    destination: Destination,
    index: usize,
    used: Used,
    config: &Config,
    steps: Steps<'_>,
) -> Result<Route, Option<FullTrunk>> {
    let trunk = &config.trunks[index];
    if !trunk.is_enabled || !trunk.reaches_pstn {
        steps(format_args!("the trunk {:?} is not used for calls outside", trunk.name));
        return Err(None);
    }
    carry(number, destination, index, used, config, steps)
}

/// By what it may carry, its prices and its limits; only these come back as an error with something in it.
fn carry(
    number: &str,
    destination: Destination,
    index: usize,
    used: Used,
    config: &Config,
    steps: Steps<'_>,
) -> Result<Route, Option<FullTrunk>> {
    let trunk = &config.trunks[index];
    let name = trunk.name.as_str();
    let rate = rate(trunk, number);
    let is_free = destination == Destination::Helpline;
    if !is_free
        && (!trunk.permissions.allow.contains(&destination) || trunk.permissions.blocking_prefix(number).is_some())
    {
        steps(format_args!("the trunk {name:?} may not carry it"));
        return Err(None);
    }
    if !is_free && !trunk.rates.is_empty() && rate.is_none() {
        steps(format_args!("the trunk {name:?} has no rate for it"));
        return Err(None);
    }
    if !is_free && let Err(limit) = within(&trunk.limits, &used, name, steps) {
        steps(format_args!("the trunk {name:?} is at its limit"));
        return Err(Some(FullTrunk { trunk: index, limit }));
    }
    let (prefix_len, price) = rate.map_or((0, None), |(prefix, price)| (prefix.len(), Some(price)));
    Ok(Route { trunk: index, prefix_len, price })
}

/// The longest prefix among a trunk's rates that a number begins with, and the price of a minute.
fn rate<'t>(trunk: &'t Trunk, number: &str) -> Option<(&'t str, Money)> {
    let found = trunk.rates.iter().find(|(prefix, _)| number.starts_with(prefix.as_str()))?;
    Some((&found.0, found.1))
}

/// What so much talk to a number costs over a trunk; each begun second counts.
pub fn cost(trunk: &Trunk, number: &str, talked_ms: u64) -> Money {
    let price = rate(trunk, number).map_or(0, |(_, price)| price.0);
    Money((price.saturating_mul(talked_ms.div_ceil(1_000))).div_ceil(60))
}

/// The number that a user may present where it asks for `wanted`: the own direct line, or one that the profile names.
pub fn may_present(profile: &Profile, direct_line: Option<&str>, wanted: &str) -> bool {
    direct_line == Some(wanted) || profile.presentation_numbers.iter().any(|number| number == wanted)
}

const fn word(destination: Destination) -> &'static str {
    match destination {
        Destination::Helpline => "a helpline",
        Destination::National => "national",
        Destination::International => "international",
        Destination::Premium => "premium",
    }
}

struct Priced(Option<Money>);

impl fmt::Display for Priced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |price| write!(f, " at {price} a minute"))
    }
}

#[cfg(test)]
mod tests;
