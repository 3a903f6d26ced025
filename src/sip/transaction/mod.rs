//! The transaction layer (RFC 3261 section 17, RFC 6026): one table that owns every client and server transaction.
//!
//! Four machines, one file each, turn stimuli into actions and know nothing of each other; [`Table`] matches messages to
//! them, keeps their timers and carries out their actions.

mod action;
mod invite_client;
mod invite_server;
mod kept;
mod machine;
mod non_invite_client;
mod non_invite_server;
pub mod table;
mod timers;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use table::{Event, Input, Output, Table};
pub use timers::{T1, T1_64};
