//! The B2BUA: every call, the only place where signalling and media meet.

pub mod cdr;
pub mod core;

pub use cdr::Cdr;
pub use core::{Core, Input, Output};
