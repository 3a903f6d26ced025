//! What a datagram on a media port is, from its first byte (RFC 7983) and, for RTP and RTCP, its second (RFC 5761).

/// Protocols multiplexed on one media port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
    Unknown,
}

/// Total: every byte string has a kind.
pub fn classify(datagram: &[u8]) -> Kind {
    let _ = datagram;
    todo!()
}
