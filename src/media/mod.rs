//! The media plane without I/O: one [`worker::Worker`] per core owns its legs outright. Never imports `sip`.
//!
//! A packet takes one way through it, from [`worker::Worker::receive`] through `relay` to the [`worker::Send`] that comes
//! back: source check, tag, latch, counters, the peer leg's protection. Nothing on that way allocates, locks or logs,
//! and no packet is kept.

pub mod command;
mod latch;
mod leg;
pub mod ports;
mod protection;
mod quality;
mod relay;
#[cfg(test)]
mod testing;
pub mod worker;

pub use command::{Command, Event, LegReport, Protection, Remote};
pub use worker::Worker;
