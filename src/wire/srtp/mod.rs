//! SRTP and SRTCP (RFC 3711, 6188, 7714): suites, key derivation, replay window, rollover counter, protect and
//! unprotect in place.
//!
//! Owns the cryptographic contexts of a leg and nothing else: it never looks into a payload, never allocates for a
//! packet, and never learns an address.
//!
//! ```
//! use ringdown::{types::Rng, wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES}};
//!
//! let suite = Suite::AesCm128HmacSha1_80;
//! let key = MasterKey::generate(suite, &mut Rng::from_seed([7; 32]));
//! let mut buffer = [0; 16 + TAG_ROOM_BYTES];
//! buffer[0] = 0x80; // RTP version 2, and four bytes of payload
//! let len = Outbound::new(suite, &key).protect_rtp(&mut buffer, 16).unwrap();
//! assert_eq!(Inbound::new(suite, &key, None).unprotect_rtp(&mut buffer[..len]), Ok(16));
//! assert_eq!(buffer[12..16], [0; 4]);
//! ```

mod aes_ctr;
mod cm;
mod gcm;
mod hmac;
mod inbound;
mod kdf;
mod mki;
mod outbound;
mod replay;
mod secrets;
mod srtcp;
mod streams;
mod suite;
#[cfg(test)]
pub mod testing;
mod transcrypt;

pub use inbound::{Inbound, Positions};
pub use mki::Mki;
pub use outbound::Outbound;
pub use secrets::{SessionSecret, session_secrets};
pub use streams::{Novelty, Position};
pub use suite::{Fingerprint, MasterKey, Suite};
pub use transcrypt::transcrypt_rtp;

/// Room a caller leaves behind a packet for tag, SRTCP index and E flag.
pub const TAG_ROOM_BYTES: usize = 32;
