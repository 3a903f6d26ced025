//! Floor 0: bytes to types and back. No clock, no log, no state beyond what a format itself has.

pub mod classify;
pub mod dialog_info;
pub mod keyed;
pub mod message_summary;
pub mod passport;
pub mod pidf;
pub mod reg_info;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod sip;
pub mod srtp;
pub mod stun;
pub mod udptl;
pub mod xml;
