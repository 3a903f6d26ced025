//! The B2BUA: every call, the only place where signalling and media meet.

mod admission;
#[expect(clippy::module_inception, reason = "the call is what the call floor is about")]
mod call;
pub mod cdr;
mod context;
mod core;
mod credentials;
mod diversion;
mod early;
mod emergency_call;
mod fork;
mod hunt;
mod in_dialog;
mod interface;
mod late_offer;
mod leg;
mod outgoing;
mod provisional;
#[cfg(test)]
mod tests;
mod trunks;

pub use cdr::Cdr;
pub use core::Core;
pub use interface::{CallView, Counters, Input, Output, Setup};
