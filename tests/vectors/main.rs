//! What the standards print, byte for byte, against what the code does: one module per document.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alloc;
mod corpora;
mod dial_strings;
mod event_documents;
mod libsrtp2;
mod location_documents;
mod rfc4475;
mod rfc5118;
mod srtp;
mod xmllint;
