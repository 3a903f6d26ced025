//! SDP (RFC 8866) as SIP phones write it: session, media sections, `a=crypto` (RFC 4568). Text is read through `sdp-types`.
//!
//! Reading is tolerant, writing is strict. [`parse()`] forgives what phones get wrong; [`print()`] writes only attributes
//! that are on a list, so nothing of one side's network (ICE candidates, fingerprints, unknown attributes) can reach
//! the other side. Nothing here decides what is offered or accepted; that is `sip::offer_answer`.
//!
//! ```
//! use ringdown::wire::sdp;
//!
//! let body = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
//! let session = sdp::parse(body).expect("a complete description");
//! assert!(session.media[0].formats.iter().eq(["0"]));
//! assert_eq!(session.media[0].direction, sdp::Direction::SendRecv);
//! ```

mod crypto;
mod parse;
mod print;
mod texts;

use std::{borrow::Cow, net::IpAddr};

use super::{
    classify::Traffic,
    srtp::{MasterKey, Suite},
};

pub use crypto::inline_key;
pub use parse::parse;
pub use print::print;
pub use texts::{Attribute, Attributes, FormatNames};

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
        match self {
            Self::NotSdp => "The session description cannot be read",
            Self::TooManyLines => "The session description has too many lines",
            Self::TooManySections => "The session description has too many media sections",
            Self::NoMedia => "The session description has no media section",
            Self::BadConnection => "A media section has no usable c= line",
            Self::BadPort => "The port of a media section is not a number up to 65535",
            Self::BadCrypto => "No a=crypto line of a media section can be read",
        }
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

impl MediaKind {
    fn from_text(text: &str) -> Self {
        match text {
            "audio" => Self::Audio,
            "video" => Self::Video,
            other => Self::Other(other.to_owned()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Other(text) => text,
        }
    }
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

impl Profile {
    /// The RTP profile with these properties.
    pub const fn rtp(is_secure: bool, has_feedback: bool) -> Self {
        match (is_secure, has_feedback) {
            (false, false) => Self::Avp,
            (true, false) => Self::Savp,
            (false, true) => Self::Avpf,
            (true, true) => Self::Savpf,
        }
    }

    /// One of the four profiles whose packets this server understands.
    pub const fn is_rtp(&self) -> bool {
        match self {
            Self::Avp | Self::Savp | Self::Avpf | Self::Savpf => true,
            Self::Other(_) => false,
        }
    }

    /// SRTP is mandatory (RFC 3711, RFC 5124).
    pub const fn is_secure(&self) -> bool {
        match self {
            Self::Savp | Self::Savpf => true,
            Self::Avp | Self::Avpf | Self::Other(_) => false,
        }
    }

    /// Early RTCP feedback (RFC 4585).
    pub const fn has_feedback(&self) -> bool {
        match self {
            Self::Avpf | Self::Savpf => true,
            Self::Avp | Self::Savp | Self::Other(_) => false,
        }
    }

    fn from_text(text: &str) -> Self {
        match text {
            "RTP/AVP" => Self::Avp,
            "RTP/SAVP" => Self::Savp,
            "RTP/AVPF" => Self::Avpf,
            "RTP/SAVPF" => Self::Savpf,
            other => Self::Other(other.to_owned()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Savp => "RTP/SAVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savpf => "RTP/SAVPF",
            Self::Other(text) => text,
        }
    }
}

/// RFC 3264 section 5.1. An absent attribute reads as `SendRecv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// The direction of one who sends and receives as told.
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    pub const fn sends(self) -> bool {
        match self {
            Self::SendRecv | Self::SendOnly => true,
            Self::RecvOnly | Self::Inactive => false,
        }
    }

    pub const fn receives(self) -> bool {
        match self {
            Self::SendRecv | Self::RecvOnly => true,
            Self::SendOnly | Self::Inactive => false,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive].into_iter().find(|d| d.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// One `a=crypto` line (RFC 4568 section 9.1) whose suite this server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crypto {
    pub tag: u32,
    pub suite: Suite,
    /// The suite as the peer spelled it; an answer repeats it.
    pub suite_text: Cow<'static, str>,
    pub key: MasterKey,
    /// Length in bytes of the MKI of the first key, 0 for none.
    pub mki_bytes: usize,
    /// True for `UNENCRYPTED_SRTP`, `UNENCRYPTED_SRTCP` or `UNAUTHENTICATED_SRTP`: never acceptable here.
    pub is_weakened: bool,
}

/// One `m=` section with session-level values already applied. Copies share its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSection {
    pub kind: MediaKind,
    /// 0: rejected or disabled.
    pub port: u16,
    pub profile: Profile,
    pub formats: FormatNames,
    /// `None` for a host name, a multicast address, or (port 0 only) no `c=` line at all.
    pub address: Option<IpAddr>,
    pub direction: Direction,
    /// `a=rtcp:` port and address (RFC 3605).
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    pub has_rtcp_mux: bool,
    pub crypto: Vec<Crypto>,
    pub bandwidth: Vec<String>,
    /// All other attributes in order, `(name, value)`: rtpmap, fmtp, ptime, rtcp-fb, label, content, ...
    /// Those that carry secrets (`ice-pwd`, `key-mgmt`) are left out.
    pub attributes: Attributes,
}

impl MediaSection {
    /// What its packets are; `None`: nothing this server can carry, such as a protocol over TCP or TLS.
    pub fn traffic(&self) -> Option<Traffic> {
        match (&self.kind, &self.profile) {
            (MediaKind::Audio | MediaKind::Video, profile) => profile.is_rtp().then_some(Traffic::Rtp),
            (MediaKind::Other(kind), Profile::Other(profile)) => {
                // ITU-T T.38 annex D writes `udptl`, as IANA does, and half of the gateways `UDPTL`.
                let is_known = |known: (&str, &str)| kind == known.0 && profile.eq_ignore_ascii_case(known.1);
                [("image", "udptl"), ("application", "UDP/BFCP")]
                    .into_iter()
                    .any(is_known)
                    .then_some(Traffic::Datagrams)
            }
            (MediaKind::Other(_), Profile::Avp | Profile::Savp | Profile::Avpf | Profile::Savpf) => None,
        }
    }

    /// What `a=rtpmap` says of a payload type: `name/clock[/channels]` (RFC 8866 section 6.6).
    pub fn rtpmap(&self, format: &str) -> Option<&str> {
        let rtpmaps = self.attributes.iter().filter(|(name, _)| *name == "rtpmap");
        let described = rtpmaps.filter_map(|(_, value)| value?.split_once(' '));
        described
            .map(|(of, encoding)| (of, encoding.trim()))
            .find(|(of, _)| *of == format)
            .map(|(_, encoding)| encoding)
    }
}
