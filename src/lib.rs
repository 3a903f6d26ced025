//! ringdown: SIP registrar, B2BUA and SRTP media relay in one process.
//!
//! The package is a house of five floors; a floor imports only from floors below it (`tests/tidy` proves it):
//!
//! | floor | modules | owns |
//! |---|---|---|
//! | 0 | [`types`], [`wire`] | bytes and typed values; no clock, no log, no state beyond a format's own |
//! | 1 | [`config`], [`policy`] | text to checked configuration; pure, total decisions |
//! | 2 | [`sip`], [`media`] | protocol machines without I/O; the two never import each other |
//! | 3 | [`call`] | the B2BUA: all calls, the only place where signalling meets media |
//! | 3 | [`phone`] | a small phone that the self-test calls with; [`call`] and it never import each other |
//! | 4 | [`shell`] | sockets, clocks, threads, files |
//!
//! Every machine has one contract: `handle_input(now, Input)`, then `poll_output()` until it returns `Timeout`.
//! Time and randomness are arguments, so the whole server runs in virtual time in `tests/sim`.

pub mod types;
pub mod wire;

pub mod config;
pub mod policy;

pub mod media;
pub mod sip;

pub mod call;
pub mod phone;

pub mod shell;
