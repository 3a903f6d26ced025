//! SDP (RFC 8866) as SIP phones write it: session, media sections, `a=crypto` (RFC 4568). Text is read through `sdp-types`.

use std::net::IpAddr;

use super::srtp::{MasterKey, Suite};

/// Why a body cannot be used; the text goes into the Warning header of a 488.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpFault {
    NotSdp,
    TooManyLines,
    TooManySections,
    NoMedia,
    BadConnection,
    BadPort,
    BadCrypto,
}

impl SdpFault {
    pub const fn text(self) -> &'static str {
        todo!()
    }
}

/// A whole description. Section order is the answer's order too (RFC 3264 section 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Numeric id and version of the `o=` line; ids beyond 64 bits read as 0.
    pub origin_id: u64,
    pub origin_version: u64,
    /// `b=` lines at session level, as written without `b=`.
    pub bandwidth: Vec<String>,
    pub media: Vec<MediaSection>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaKind {
    Audio,
    Video,
    Other(String),
}

/// Transport profile of an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `RTP/AVP`
    Avp,
    /// `RTP/SAVP` (RFC 3711)
    Savp,
    /// `RTP/AVPF` (RFC 4585)
    Avpf,
    /// `RTP/SAVPF` (RFC 5124)
    Savpf,
    Other(String),
}

/// RFC 3264 section 5.1. An absent attribute reads as `SendRecv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

/// One `a=crypto` line (RFC 4568 section 9.1) whose suite this server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    pub tag: u32,
    pub suite: Suite,
    /// The suite as the peer spelled it; an answer repeats it.
    pub suite_text: String,
    pub key: MasterKey,
    /// Length in bytes of the MKI of the first key, 0 for none.
    pub mki_bytes: usize,
    /// True for `UNENCRYPTED_SRTP`, `UNENCRYPTED_SRTCP` or `UNAUTHENTICATED_SRTP`: never acceptable here.
    pub is_weakened: bool,
}

/// One `m=` section with session-level values already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSection {
    pub kind: MediaKind,
    /// 0: rejected or disabled.
    pub port: u16,
    pub profile: Profile,
    /// Payload types or format names, in order of preference.
    pub formats: Vec<String>,
    pub address: Option<IpAddr>,
    pub direction: Direction,
    /// `a=rtcp:` port and address (RFC 3605).
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    pub has_rtcp_mux: bool,
    pub crypto: Vec<Crypto>,
    pub bandwidth: Vec<String>,
    /// All other attributes in order, `(name, value)`: rtpmap, fmtp, ptime, rtcp-fb, label, content, ...
    pub attributes: Vec<(String, Option<String>)>,
}

/// Reads a description, tolerant of what phones get wrong (missing `s=` or `t=`, long ids, two `c=` lines).
pub fn parse(body: &[u8]) -> Result<Session, SdpFault> {
    let _ = body;
    todo!()
}

/// Writes a description; `address` is this server's own and stands in `o=` and `c=`.
pub fn print(session: &Session, address: IpAddr) -> String {
    let _ = (session, address);
    todo!()
}
