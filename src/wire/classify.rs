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

/// Total: every byte string has a kind. A kind is a guess to dispatch on, not a proof of form.
pub const fn classify(datagram: &[u8]) -> Kind {
    match datagram {
        [0..=3, ..] => Kind::Stun,
        [20..=63, ..] => Kind::Dtls,
        // RFC 5761 section 4: RTCP packet types are where RTP would have a marker and payload types 64 to 95.
        [128..=191, 192..=223, ..] => Kind::Rtcp,
        [128..=191, _, ..] => Kind::Rtp,
        // ZRTP (16 to 19), TURN channels (64 to 79), and what nobody has assigned.
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7983 section 7, every first byte.
    #[test]
    fn the_first_byte_decides_as_in_rfc_7983() {
        for first in 0..=u8::MAX {
            let expected = match first {
                0..4 => Kind::Stun,
                20..64 => Kind::Dtls,
                128..192 => Kind::Rtp,
                4..20 | 64..128 | 192.. => Kind::Unknown,
            };
            assert_eq!(classify(&[first, 0]), expected, "{first}");
        }
    }

    /// RFC 5761 section 4: with and without marker, payload types 64 to 95 are left to RTCP only with the marker's bit set.
    #[test]
    fn the_second_byte_tells_rtcp_from_rtp() {
        for second in 0..=u8::MAX {
            let expected = if (192..224).contains(&second) { Kind::Rtcp } else { Kind::Rtp };
            assert_eq!(classify(&[0x80, second]), expected, "{second}");
        }
    }

    #[test]
    fn short_datagrams_have_a_kind_too() {
        assert_eq!(classify(&[]), Kind::Unknown);
        assert_eq!(classify(&[0x80]), Kind::Unknown);
        assert_eq!(classify(&[0x16]), Kind::Dtls);
    }
}
