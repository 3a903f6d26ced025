//! Published and house vectors and differential oracles, through the public interface.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dial_strings;
mod location_documents;
mod srtp;
