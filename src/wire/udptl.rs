//! UDPTL (ITU-T T.38 section 9.1), as much of it as tells its packets from RTP. Packed encoding rules (ITU-T X.691), aligned.
//!
//! ```text
//! sequence number (2 bytes) | length | primary IFP packet | 0x00 | count | (length | secondary IFP packet)*
//!                                                         | 0x80 | 1 | FEC packets | count | (length | FEC data)*
//! ```

/// Whether the whole datagram has the form of a UDPTL packet.
pub fn is_packet(datagram: &[u8]) -> bool {
    let rest = datagram.get(2..).and_then(skip_counted).and_then(|rest| match rest.split_first()? {
        (0x00, secondary) => Some(secondary),
        // Number of packets that the FEC data spans: an integer of one byte, behind its length.
        (0x80, [1, _, data @ ..]) => Some(data),
        _ => None,
    });
    rest.and_then(skip_list).is_some_and(<[u8]>::is_empty)
}

/// A count, and so many byte strings.
fn skip_list(bytes: &[u8]) -> Option<&[u8]> {
    let (count, rest) = length(bytes)?;
    (0..count).try_fold(rest, |rest, _| skip_counted(rest))
}

/// A length, and so many bytes.
fn skip_counted(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = length(bytes)?;
    rest.get(length..)
}

/// A length below 128 in one byte, or below 16384 in two that begin with `10`. Longer ones do not fit a packet.
const fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [short @ 0..=0x7f, rest @ ..] => Some((*short as usize, rest)),
        [high @ 0x80..=0xbf, low, rest @ ..] => Some((((*high & 0x3f) as usize) << 8 | *low as usize, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_of_every_form_are_known() {
        let long = [&[0, 9, 0x80, 200][..], &[7; 200], &[0, 0]].concat();
        for packet in [
            &[0, 0, 1, 6, 0, 0][..],                        // indicator, no redundancy
            &[0x80, 1, 2, 0xc0, 1, 0, 2, 1, 6, 2, 8, 8],    // two secondary packets
            &[0xbf, 0xff, 1, 6, 0x80, 1, 3, 2, 1, 9, 1, 9], // FEC over three
            &[0, 1, 0, 0, 0],                               // an empty primary packet
            &long,
        ] {
            assert!(is_packet(packet), "{packet:?}");
            assert!(!is_packet(&packet[..packet.len() - 1]), "cut off");
            assert!(!is_packet(&[packet, &[0]].concat()), "one byte too many");
        }
    }

    #[test]
    fn what_is_none_is_not() {
        for bytes in
            [&[][..], &[0x80], &[0, 0], &[0, 0, 1, 6, 0x40, 0], &[0, 0, 0xff, 1, 2], &[0, 0, 1, 6, 0x80, 2, 1, 0]]
        {
            assert!(!is_packet(bytes), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = is_packet(&bytes);
        }
    }
}
