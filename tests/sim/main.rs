//! The whole server, phones and a trunk included, in one thread and in virtual time, under a seeded lossy network.
//!
//! Goal: whatever the network and the people do, every call is up on both sides or gone from both, everyone hears whom
//! they called and nobody else, and nothing is left behind. Method: the real core and media workers, driven as the shell
//! drives them; simulated phones with transactions of their own.
//!
//! `RINGDOWN_SIM_SEEDS=n` sets how many random runs there are, `RINGDOWN_SIM_SEED=n` replays one,
//! `RINGDOWN_SIM_STEPS=name` plays only the step files that are named like that.
#![allow(clippy::disallowed_macros, reason = "a failed test speaks on standard error")]

mod capacity;
mod carriers;
mod events;
mod fax;
mod net;
mod offers;
mod packet_io;
mod phone;
mod privacy;
mod quality;
mod random;
mod reach;
mod scenario;
mod server;
mod steps;
#[path = "../common/tone.rs"]
mod tone;
mod tones;
mod transfer;
mod trunk;
mod voice;
mod world;
