//! How much less an upstream server shall send while this one is close to a limit (RFC 7339, loss-based).
//!
//! Decisions
//! - Only trunks are told: what strangers know of the load helps nobody but them.
//! - From 80 % of a limit on, the share that is asked for grows until, at the limit, hardly anything new comes; what comes all
//!   the same is refused with 503 and Retry-After. A client spares requests of calls in progress and emergency calls (section
//!   5.10.1), and here nothing is ever done to either.
//! - Of the trunks this server calls it does not ask the same: a trunk in trouble says 503, and the call goes on to the next.

use bytes::Bytes;

use super::context::Context;
use crate::{
    types::Flow,
    wire::sip::overload::{Load, may_be_asked, with_load},
};

/// Percent of a limit up to which nothing is asked for.
const CALM_PERCENT: usize = 80;
/// All of it would keep even the end of a call from being told.
const LOSS_PERCENT_MAX: usize = 95;

/// The loss to ask for where this much of each limit is used.
pub(super) fn loss_percent(used: &[(usize, usize)]) -> u8 {
    let percents = used.iter().map(|(used, limit)| used.saturating_mul(100).checked_div(*limit).unwrap_or(100));
    let above = percents.max().unwrap_or(0).clamp(CALM_PERCENT, 100) - CALM_PERCENT;
    u8::try_from(above * LOSS_PERCENT_MAX / (100 - CALM_PERCENT)).expect("at most LOSS_PERCENT_MAX")
}

impl Context {
    /// A message as it leaves: a response to a trunk that asks for it says how high the load is now.
    pub(super) fn with_load(&self, flow: &Flow, bytes: Bytes) -> Bytes {
        if !may_be_asked(&bytes) || self.trunks.owner_of(flow).is_none() {
            return bytes;
        }
        let load = Load { loss_percent: self.loss_percent, sequence_ms: self.now.unix_ms() };
        with_load(&bytes, load).unwrap_or(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_grows_from_four_fifths_of_the_nearest_limit_on() {
        let of_calls = |used| loss_percent(&[(used, 1_000), (0, 200_000)]);
        assert_eq!([0, 799, 800, 809].map(of_calls), [0; 4]);
        assert_eq!([810, 900, 990, 1_000, 5_000].map(of_calls), [4, 47, 90, 95, 95]);
        assert_eq!(loss_percent(&[(0, 1_000), (180_000, 200_000)]), 47);
        assert_eq!(loss_percent(&[(usize::MAX, usize::MAX), (1, 0)]), 95);
    }
}
