//! What a datagram on a media port is, from its first byte (RFC 7983) and, for RTP and RTCP, its second (RFC 5761).

use super::udptl;

/// What offer and answer settled for a media port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// RTP and RTCP.
    #[default]
    Rtp,
    /// Datagrams of a protocol that passes as it is: fax (ITU-T T.38 annex D, `udptl`) or floor control (RFC 8856,
    /// `UDP/BFCP`).
    Datagrams,
}

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

/// Whether a datagram on a port of [`Traffic::Datagrams`] is a late packet of the audio that was there before.
///
/// The first byte alone does not tell, as it is half of a UDPTL sequence number, which comes to the values of RTP after some
/// 15 minutes of a fax. BFCP begins with its version, 1 or 2, in three bits (RFC 8855 section 5.1), and is never mistaken.
pub fn is_stray_rtp(datagram: &[u8]) -> bool {
    matches!(classify(datagram), Kind::Rtp | Kind::Rtcp) && !udptl::is_packet(datagram)
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

    #[test]
    fn audio_among_datagrams_is_told_from_a_fax_of_any_age_and_from_floor_control() {
        let voice = [&[0x80, 0, 0x12, 0x34, 0, 0, 0, 160, 1, 2, 3, 4][..], &[0xd5; 160]].concat();
        let report = [0x80, 200, 0, 6].into_iter().chain([0; 24]).collect::<Vec<_>>();
        assert!(is_stray_rtp(&voice) && is_stray_rtp(&report));
        for sequence in 0..=u16::MAX {
            let [high, low] = sequence.to_be_bytes();
            assert!(!is_stray_rtp(&[high, low, 1, 6, 0, 0]), "{sequence}");
        }
        for version in [1, 2] {
            assert!(!is_stray_rtp(&[version << 5, 1, 0, 1]), "BFCP version {version}");
        }
        assert!(!is_stray_rtp(&[]));
    }
}
