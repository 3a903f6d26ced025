//! SIP machines without I/O: transactions, dialogs, registrar, authentication, offer/answer.

pub mod auth;
pub mod challenge;
pub mod dialog;
pub mod locate;
pub mod offer_answer;
pub mod registrar;
pub mod registration;
pub mod session_timer;
pub mod transaction;

/// Hops a request of ours may take (RFC 3261 section 8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;
