//! Pure, total decisions: no state, no clock, no I/O. Each takes facts and returns what to do.

pub mod abuse;
pub mod certificate;
pub mod emergency;
pub mod explanation;
pub mod inbound;
pub mod marking;
pub mod number;
pub mod outside;
pub mod reach;
pub mod routing;
pub mod security;
pub mod stir;
