//! Floor 4: the only floor with sockets, clocks, threads and files. Holds no protocol rule.

pub mod admin;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod core_task;
mod dscp;
pub mod entropy;
pub mod failure;
pub mod files;
pub mod held;
pub mod logging;
pub mod media_io;
mod notifier;
pub mod panics;
pub mod prove;
pub mod resolve;
pub mod run;
pub mod sandbox;
pub mod selftest;
pub mod settings;
pub mod stir;
pub mod store;
mod strangers;
pub mod systemd;
pub mod tls;
pub mod toml_text;
pub mod transport;
