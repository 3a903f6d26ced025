//! SIP machines without I/O: transactions, dialogs, registrar, authentication, offer/answer.

pub mod auth;
pub mod dialog;
pub mod offer_answer;
pub mod registrar;
pub mod transaction;
