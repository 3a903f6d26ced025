//! The transaction layer (RFC 3261 section 17, RFC 6026): one table that owns every client and server transaction.

pub mod invite_client;
pub mod invite_server;
pub mod non_invite_client;
pub mod non_invite_server;
pub mod table;
pub mod timers;

pub use table::{Event, Input, Output, Table};
