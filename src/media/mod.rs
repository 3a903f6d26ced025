//! The media plane without I/O: one [`worker::Worker`] per core owns its legs outright. Never imports `sip`.

pub mod command;
pub mod latch;
pub mod leg;
pub mod ports;
pub mod quality;
pub mod relay;
pub mod rtcp;
pub mod worker;

pub use command::{Command, Event, LegReport, Protection, Remote};
pub use worker::Worker;
