//! The media plane without I/O: one [`worker::Worker`] per core owns its legs outright. Never imports `sip`.
//!
//! A packet takes one way through it, from [`worker::Worker::receive`] through `relay` to the [`worker::Send`] that comes
//! back: source check, tag, latch, counters, the peer leg's protection. Nothing on that way allocates, locks or logs,
//! and no packet is kept. The one sound made here is `tone`'s. What carries the packets is behind [`packet_io::PacketIo`].

mod bursts;
pub mod command;
mod emodel;
mod formats;
#[cfg(test)]
mod interleavings;
mod latch;
mod leg;
pub mod packet_io;
pub mod ports;
mod protection;
mod quality;
mod relay;
mod silence;
#[cfg(test)]
mod testing;
mod tone;
pub mod worker;

pub use command::{
    BurstLoss, Command, Delivery, Event, LegReport, Protection, Remote, Rtcp, Silence, SilenceCause, Tone,
};
pub use formats::{Codec, Formats, g711};
pub use protection::History;
pub use tone::{Law, TONE_TIME};
pub use worker::Worker;
