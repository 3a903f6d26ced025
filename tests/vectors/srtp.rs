//! SRTP and SRTCP as a peer sees them: whole packets from the RFCs, the traps that deployed implementations fell into,
//! and every packet against `rtc-srtp`.
//!
//! RFC 7714's packets are tested beside the code, because that RFC gives session keys and no master key.

use proptest::prelude::*;
use ringdown::{
    types::{DropReason, Rng, limits::SSRCS_PER_KEY_MAX},
    wire::srtp::{Inbound, MasterKey, Mki, Outbound, Suite, TAG_ROOM_BYTES},
};
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

/// RFC 3711 appendix B.3, master key and salt.
const MASTER_128: &str = "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6";
/// RFC 6188 section 7.2.
const MASTER_256: &str = "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b63b04803de51ee7c96423ab5b78d2";
const RTP_PLAIN: &str = "800f1234decafbadcafebabeabababababababababababababababab";
pub(crate) const RTCP_PLAIN: &str = "81c8000bcafebabeabababababababababababababababab";

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn master(suite: Suite, text: &str) -> MasterKey {
    MasterKey::new(suite, hex(text)).unwrap()
}

/// A plain packet of one payload, as a phone sends it.
pub(crate) fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&u32::from(sequence).wrapping_mul(160).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

pub(crate) fn protect(outbound: &mut Outbound, plain: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + TAG_ROOM_BYTES, 0);
    let len = outbound.protect_rtp(&mut buffer, plain.len())?;
    buffer.truncate(len);
    Ok(buffer)
}

pub(crate) fn protect_rtcp(outbound: &mut Outbound, plain: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut buffer = plain.to_vec();
    buffer.resize(plain.len() + TAG_ROOM_BYTES, 0);
    let len = outbound.protect_rtcp(&mut buffer, plain.len())?;
    buffer.truncate(len);
    Ok(buffer)
}

pub(crate) fn unprotect(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut buffer = packet.to_vec();
    let len = inbound.unprotect_rtp(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

pub(crate) fn unprotect_rtcp(inbound: &mut Inbound, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut buffer = packet.to_vec();
    let len = inbound.unprotect_rtcp(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

fn pair(suite: Suite, seed: u64) -> (Outbound, Inbound) {
    let key = MasterKey::generate(suite, &mut Rng::from_small_seed(seed));
    (Outbound::new(suite, &key), Inbound::new(suite, &key, None))
}

mod whole_packets {
    use super::*;

    /// Master keys of RFC 3711 appendix B.3 and RFC 6188 section 7.2; ciphertext and tags by the RFCs' algorithms.
    #[test]
    fn rtp_packets_are_bit_exact() {
        let cases = [
            (
                Suite::AesCm128HmacSha1_80,
                MASTER_128,
                "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
            ),
            (
                Suite::AesCm128HmacSha1_32,
                MASTER_128,
                "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc",
            ),
            (
                Suite::AesCm256HmacSha1_80,
                MASTER_256,
                "800f1234decafbadcafebabef1d9de17ff251ff1aa007774b0b4b40da08d9d9a5b3a55d8873b",
            ),
        ];
        for (suite, key, expected) in cases {
            let key = master(suite, key);
            let packet = protect(&mut Outbound::new(suite, &key), &hex(RTP_PLAIN)).unwrap();
            assert_eq!(packet, hex(expected), "{suite:?}");
            assert_eq!(unprotect(&mut Inbound::new(suite, &key, None), &packet), Ok(hex(RTP_PLAIN)));
        }
    }

    #[test]
    fn rollover_counter_1_is_bit_exact() {
        let suite = Suite::AesCm128HmacSha1_80;
        let key = master(suite, MASTER_128);
        let mut outbound = Outbound::new(suite, &key);
        for sequence in [0x1233, 0x9000, 0xf000] {
            protect(&mut outbound, &rtp(0xcafe_babe, sequence, &[])).unwrap();
        }
        let packet = protect(&mut outbound, &hex(RTP_PLAIN)).unwrap();
        assert_eq!(packet, hex("800f1234decafbadcafebabe179265c8bf303e4c24e7279f739bb5a6f8b3916fd670057bf1dc"));
    }

    /// RFC 3711 section 5.2: the tag has 80 bits for the `_32` suite too.
    #[test]
    fn rtcp_packets_are_bit_exact() {
        for suite in [Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32] {
            let key = master(suite, MASTER_128);
            let mut outbound = Outbound::new(suite, &key);
            let first = protect_rtcp(&mut outbound, &hex(RTCP_PLAIN)).unwrap();
            let second = protect_rtcp(&mut outbound, &hex(RTCP_PLAIN)).unwrap();
            assert_eq!(second, hex("81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798"));
            let mut inbound = Inbound::new(suite, &key, None);
            assert_eq!(unprotect_rtcp(&mut inbound, &second), Ok(hex(RTCP_PLAIN)));
            assert_eq!(unprotect_rtcp(&mut inbound, &first), Ok(hex(RTCP_PLAIN)));
            assert_eq!(unprotect_rtcp(&mut inbound, &second), Err(DropReason::SrtpReplayed));
        }
    }

    /// RFC 3711 section 3.4: without the E flag the packet is authenticated all the same.
    #[test]
    fn rtcp_without_encryption_needs_its_tag() {
        let suite = Suite::AesCm128HmacSha1_80;
        let packet = hex("81c8000bcafebabeabababababababababababababababab00000001fe88c7fdfd37ebce615d");
        let mut inbound = Inbound::new(suite, &master(suite, MASTER_128), None);
        for bit in 0..packet.len() * 8 {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect_rtcp(&mut inbound, &flipped).is_err(), "bit {bit}");
        }
        assert_eq!(unprotect_rtcp(&mut inbound, &packet), Ok(hex(RTCP_PLAIN)));
    }
}

mod traps {
    use super::*;

    const SSRC: u32 = 0xcafe_babe;

    #[test]
    fn the_first_packet_may_come_from_just_before_a_wrap() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 1);
            for sequence in [0xfffe, 0xffff, 0, 1] {
                let packet = protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap();
                assert!(unprotect(&mut inbound, &packet).is_ok(), "{suite:?} {sequence}");
            }
        }
    }

    /// What was sent before the wrap is lost, or comes later: the receiver joins at rollover counter 1.
    #[test]
    fn the_first_packet_may_come_from_just_after_a_wrap() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 2);
            let [before, late, after, next] =
                [0xfffe, 0xffff, 0, 1].map(|sequence| protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap());
            assert_eq!(unprotect(&mut inbound, &after), Err(DropReason::SrtpBadTag), "{suite:?}");
            assert!(inbound.may_follow_wrap(&after), "{suite:?}");
            assert!(inbound.behind_wrap(|inbound| unprotect(inbound, &after)).is_ok(), "{suite:?}");
            for packet in [&late, &before, &next] {
                assert!(!inbound.may_follow_wrap(packet) && unprotect(&mut inbound, packet).is_ok(), "{suite:?}");
            }
            assert_eq!(unprotect(&mut inbound, &after), Err(DropReason::SrtpReplayed));
        }
    }

    #[test]
    fn reorder_across_a_wrap_keeps_every_packet() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 3);
            let sent: Vec<_> = (0xfff0_u16..=0xffff)
                .chain(0..16)
                .map(|sequence| protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap())
                .collect();
            for four in sent.chunks(4) {
                for packet in four.iter().rev() {
                    assert!(unprotect(&mut inbound, packet).is_ok(), "{suite:?}");
                }
            }
            for packet in &sent {
                assert_eq!(unprotect(&mut inbound, packet), Err(DropReason::SrtpReplayed));
            }
        }
    }

    /// The relay sends what it received, in the order received; its own peer must still read it.
    #[test]
    fn a_sender_protects_packets_overtaken_at_a_wrap_with_the_earlier_counter() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 4);
            for sequence in [0xfffd, 0, 0xffff, 0xfffe, 1, 3, 2] {
                let packet = protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap();
                assert!(unprotect(&mut inbound, &packet).is_ok(), "{suite:?} {sequence}");
            }
        }
    }

    #[test]
    fn a_stream_that_comes_back_keeps_its_rollover_counter() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 5);
            let mut deliver = |ssrc, sequence| {
                let packet = protect(&mut outbound, &rtp(ssrc, sequence, b"x")).unwrap();
                unprotect(&mut inbound, &packet).is_ok()
            };
            assert!([0x7000, 0xf000, 0x2000].into_iter().all(|sequence| deliver(1, sequence)));
            assert!([9, 10].into_iter().all(|sequence| deliver(2, sequence)));
            assert!(deliver(1, 0x2001), "{suite:?}");
        }
    }

    #[test]
    fn loss_of_over_half_the_sequence_space_fails_closed_until_a_new_key() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 6);
            let sent: Vec<_> = (0..=0xffff_u16)
                .chain(0..4)
                .map(|sequence| protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap())
                .collect();
            assert!(unprotect(&mut inbound, &sent[2]).is_ok());
            // The sequence number says "the next packet"; the tag says that a whole cycle was lost.
            assert_eq!(unprotect(&mut inbound, &sent[0x1_0003]), Err(DropReason::SrtpBadTag), "{suite:?}");
            assert!(unprotect(&mut inbound, &sent[3]).is_ok(), "the state did not move");

            // With a cycle behind it, 40 000 lost packets look like a packet from long ago.
            let (mut outbound, mut inbound) = pair(suite, 6);
            for sequence in [0x7000, 0xf000, 0x1000] {
                let packet = protect(&mut outbound, &rtp(SSRC, sequence, b"x")).unwrap();
                assert!(unprotect(&mut inbound, &packet).is_ok());
            }
            protect(&mut outbound, &rtp(SSRC, 0x7000, b"lost")).unwrap();
            let after = protect(&mut outbound, &rtp(SSRC, 0xac40, b"x")).unwrap();
            assert_eq!(unprotect(&mut inbound, &after), Err(DropReason::SrtpReplayed), "{suite:?}");

            let (mut outbound, mut inbound) = pair(suite, 7);
            let packet = protect(&mut outbound, &rtp(SSRC, 4, b"x")).unwrap();
            assert!(unprotect(&mut inbound, &packet).is_ok());
        }
    }

    #[test]
    fn a_forged_first_packet_leaves_no_state_and_500_genuine_ones_pass() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 8);
            // Forgeries of the same SSRC far ahead, and of more SSRCs than there is room for.
            for ssrc in SSRC..SSRC + 100 {
                for sequence in [0, 0x7fff, 0xffff] {
                    let forged = rtp(ssrc, sequence, &[0x5a; 40]);
                    assert_eq!(unprotect(&mut inbound, &forged), Err(DropReason::SrtpBadTag));
                }
            }
            for sequence in 0..500 {
                let packet = protect(&mut outbound, &rtp(SSRC, sequence, b"genuine")).unwrap();
                assert!(unprotect(&mut inbound, &packet).is_ok(), "{suite:?} {sequence}");
            }
        }
    }

    #[test]
    fn one_index_is_never_encrypted_twice_under_one_key() {
        for suite in Suite::ALL {
            let (mut outbound, _) = pair(suite, 9);
            let mut seen = std::collections::HashSet::new();
            for sequence in (0xff00..=0xffff_u16).chain(0..0x100) {
                let key_stream = protect(&mut outbound, &rtp(SSRC, sequence, &[0; 32])).unwrap()[12..44].to_vec();
                assert!(seen.insert(key_stream));
                let refused = protect(&mut outbound, &rtp(SSRC, sequence, &[1; 32]));
                assert_eq!(refused, Err(DropReason::SrtpReplayed), "{suite:?} {sequence}");
            }
            for again in [0xff00, 0xfffe, 0, 0xff] {
                assert_eq!(protect(&mut outbound, &rtp(SSRC, again, &[1; 32])), Err(DropReason::SrtpReplayed));
            }
        }
    }

    #[test]
    fn rtcp_indexes_go_up_by_one_and_never_repeat() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 10);
            let sent: Vec<_> = (0..600).map(|_| protect_rtcp(&mut outbound, &hex(RTCP_PLAIN)).unwrap()).collect();
            let distinct: std::collections::HashSet<_> = sent.iter().collect();
            assert_eq!(distinct.len(), sent.len());
            for packet in &sent {
                assert_eq!(unprotect_rtcp(&mut inbound, packet), Ok(hex(RTCP_PLAIN)));
                assert_eq!(unprotect_rtcp(&mut inbound, packet), Err(DropReason::SrtpReplayed));
            }
        }
    }

    /// Plain RTCP where SRTCP was agreed: whatever its last bytes look like, it has no tag.
    #[test]
    fn cleartext_rtcp_is_dropped_by_name() {
        for suite in Suite::ALL {
            let (_, mut inbound) = pair(suite, 11);
            let mut cleartext = hex(RTCP_PLAIN);
            cleartext.extend_from_slice(&[0; 20]);
            assert_eq!(unprotect_rtcp(&mut inbound, &cleartext), Err(DropReason::SrtcpNotEncrypted), "{suite:?}");
            let flagged = hex("81c8000bcafebabe").into_iter().chain([0xff; 40]).collect::<Vec<_>>();
            assert_eq!(unprotect_rtcp(&mut inbound, &flagged), Err(DropReason::SrtpBadTag), "{suite:?}");
        }
    }

    #[test]
    fn the_last_ssrc_is_served_and_one_more_is_refused() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 12);
            let max = u32::try_from(SSRCS_PER_KEY_MAX).unwrap();
            for ssrc in 0..max {
                let packet = protect(&mut outbound, &rtp(ssrc, 1, b"x")).unwrap();
                assert!(unprotect(&mut inbound, &packet).is_ok());
            }
            assert_eq!(protect(&mut outbound, &rtp(max, 1, b"x")), Err(DropReason::SrtpTooManySsrcs));
            let (mut other, _) = pair(suite, 12);
            let one_more = protect(&mut other, &rtp(max, 1, b"x")).unwrap();
            assert_eq!(unprotect(&mut inbound, &one_more), Err(DropReason::SrtpTooManySsrcs));
            let known = protect(&mut outbound, &rtp(0, 2, b"x")).unwrap();
            assert!(unprotect(&mut inbound, &known).is_ok());
        }
    }

    /// RFC 3711 section 3.1 puts the MKI before the HMAC tag; RFC 7714 sections 8 and 9 put it last.
    #[test]
    fn an_mki_is_looked_for_where_each_rfc_puts_it() {
        for suite in Suite::ALL {
            let key = MasterKey::generate(suite, &mut Rng::from_small_seed(13));
            let mut outbound = Outbound::new(suite, &key);
            let mut inbound = Inbound::new(suite, &key, Mki::new(b"MKI1"));
            let (rtp_tag, rtcp_tag) = match suite {
                Suite::AesCm128HmacSha1_32 | Suite::AesCm256HmacSha1_32 => (4, 10),
                Suite::AesCm128HmacSha1_80 | Suite::AesCm256HmacSha1_80 => (10, 10),
                Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => (0, 0),
            };
            let plain = rtp(SSRC, 1, b"x");
            let mut packet = protect(&mut outbound, &plain).unwrap();
            let at = packet.len() - rtp_tag;
            packet.splice(at..at, *b"MKI1");
            assert_eq!(unprotect(&mut inbound, &packet), Ok(plain), "{suite:?}");

            let mut packet = protect_rtcp(&mut outbound, &hex(RTCP_PLAIN)).unwrap();
            let at = packet.len() - rtcp_tag;
            packet.splice(at..at, *b"MKI1");
            assert_eq!(unprotect_rtcp(&mut inbound, &packet), Ok(hex(RTCP_PLAIN)), "{suite:?}");
        }
    }

    #[test]
    fn every_truncation_is_refused_and_the_whole_still_passes() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 14);
            let packet = protect(&mut outbound, &rtp(SSRC, 1, b"")).unwrap();
            for cut in 0..packet.len() {
                assert_eq!(
                    unprotect(&mut inbound, &packet[..cut]),
                    Err(DropReason::PacketTruncated),
                    "{suite:?} {cut}"
                );
            }
            assert!(unprotect(&mut inbound, &packet).is_ok());

            let packet = protect_rtcp(&mut outbound, &hex("80c90001cafebabe")).unwrap();
            for cut in 0..packet.len() {
                assert_eq!(
                    unprotect_rtcp(&mut inbound, &packet[..cut]),
                    Err(DropReason::PacketTruncated),
                    "{suite:?} {cut}"
                );
            }
            assert!(unprotect_rtcp(&mut inbound, &packet).is_ok());
        }
    }

    #[test]
    fn what_is_not_version_2_or_too_large_is_refused() {
        for suite in Suite::ALL {
            let (mut outbound, mut inbound) = pair(suite, 15);
            assert_eq!(protect(&mut outbound, &[0x40; 40]), Err(DropReason::PacketNotMedia));
            assert_eq!(protect_rtcp(&mut outbound, &[0x40; 40]), Err(DropReason::PacketNotMedia));
            assert_eq!(unprotect(&mut inbound, &[0x40; 60]), Err(DropReason::PacketNotMedia));
            assert_eq!(unprotect_rtcp(&mut inbound, &[0x40; 60]), Err(DropReason::PacketNotMedia));
            assert_eq!(unprotect(&mut inbound, &[0x80; 2_049]), Err(DropReason::PacketOversized));
            assert_eq!(unprotect_rtcp(&mut inbound, &[0x80; 2_049]), Err(DropReason::PacketOversized));
        }
    }
}

mod differential {
    use super::*;

    const fn profile(suite: Suite) -> ProtectionProfile {
        match suite {
            Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
            Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Suite::AesCm256HmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
            Suite::AesCm256HmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
            Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        }
    }

    fn oracle(suite: Suite, key: &MasterKey) -> Context {
        let (master, salt) = key.expose().split_at(suite.key_bytes());
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        Context::new(master, salt, profile(suite), None, None, provider.crypto()).unwrap()
    }

    /// Three wraps with losses, both directions: what we send is what they send, and each reads the other.
    #[test]
    fn rtp_agrees_with_rtc_srtp_over_three_wraps() {
        for suite in Suite::ALL {
            let mut rng = Rng::from_small_seed(20);
            let key = MasterKey::generate(suite, &mut rng);
            let (mut outbound, mut inbound) = (Outbound::new(suite, &key), Inbound::new(suite, &key, None));
            let (mut their_sender, mut their_receiver) = (oracle(suite, &key), oracle(suite, &key));
            let mut index = 60_000_u32;
            while index < 60_000 + 3 * 65_536 {
                let sequence = u16::try_from(index & 0xffff).unwrap();
                let mut payload = vec![0; usize::try_from(rng.below(200)).unwrap()];
                rng.fill(&mut payload);
                let plain = rtp(0x1234_5678, sequence, &payload);
                let ours = protect(&mut outbound, &plain).unwrap();
                let theirs = their_sender.encrypt_rtp(&plain).unwrap();
                assert_eq!(ours[..], theirs[..], "{suite:?} {index}");
                assert_eq!(their_receiver.decrypt_rtp(&ours).unwrap()[..], plain[..]);
                assert_eq!(unprotect(&mut inbound, &theirs).unwrap(), plain);
                index += 1 + rng.below(40);
            }
        }
    }

    /// Their first SRTCP index is 1 where RFC 3711 says 0, so ours is compared from the second packet on.
    #[test]
    fn rtcp_agrees_with_rtc_srtp() {
        for suite in Suite::ALL {
            let mut rng = Rng::from_small_seed(21);
            let key = MasterKey::generate(suite, &mut rng);
            let (mut outbound, mut inbound) = (Outbound::new(suite, &key), Inbound::new(suite, &key, None));
            let (mut their_sender, mut their_receiver) = (oracle(suite, &key), oracle(suite, &key));
            let plain = hex(RTCP_PLAIN);
            let first = protect_rtcp(&mut outbound, &plain).unwrap();
            assert_eq!(their_receiver.decrypt_rtcp(&first).unwrap()[..], plain[..]);
            for _ in 0..1_000 {
                let ours = protect_rtcp(&mut outbound, &plain).unwrap();
                let theirs = their_sender.encrypt_rtcp(&plain).unwrap();
                assert_eq!(ours[..], theirs[..], "{suite:?}");
                assert_eq!(their_receiver.decrypt_rtcp(&ours).unwrap()[..], plain[..]);
                assert_eq!(unprotect_rtcp(&mut inbound, &theirs).unwrap(), plain);
            }
        }
    }
}

mod properties {
    use super::*;

    fn suites() -> impl Strategy<Value = Suite> {
        prop::sample::select(Suite::ALL.to_vec())
    }

    prop_compose! {
        /// Any well-formed plain packet: CSRC list, extension, payload of any length.
        fn packets()(
            csrcs in prop::collection::vec(any::<u32>(), 0..=15),
            extension in prop::option::of(prop::collection::vec(any::<u32>(), 0..8)),
            padding in any::<bool>(),
            second in any::<u8>(),
            rest in any::<[u8; 10]>(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) -> Vec<u8> {
            let extension_flag = if extension.is_some() { 0x10 } else { 0 };
            let padding_flag = if padding { 0x20 } else { 0 };
            let mut packet = vec![0x80 | padding_flag | extension_flag | u8::try_from(csrcs.len()).unwrap(), second];
            packet.extend_from_slice(&rest);
            packet.extend(csrcs.iter().flat_map(|csrc| csrc.to_be_bytes()));
            if let Some(words) = extension {
                packet.extend_from_slice(&[0xbe, 0xde]);
                packet.extend_from_slice(&u16::try_from(words.len()).unwrap().to_be_bytes());
                packet.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            }
            packet.extend_from_slice(&payload);
            packet
        }
    }

    proptest! {
        #[test]
        fn unprotect_undoes_protect_and_no_packet_passes_twice(suite in suites(), plain in packets(), seed: u64) {
            let (mut outbound, mut inbound) = pair(suite, seed);
            let packet = protect(&mut outbound, &plain).unwrap();
            prop_assert_eq!(unprotect(&mut inbound, &packet), Ok(plain));
            prop_assert_eq!(unprotect(&mut inbound, &packet), Err(DropReason::SrtpReplayed));
        }

        #[test]
        fn no_flipped_bit_passes(suite in suites(), plain in packets(), seed: u64, bit: prop::sample::Index) {
            let (mut outbound, mut inbound) = pair(suite, seed);
            let packet = protect(&mut outbound, &plain).unwrap();
            let bit = bit.index(packet.len() * 8);
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut buffer = flipped.clone();
            prop_assert!(inbound.unprotect_rtp(&mut buffer).is_err());
            prop_assert_eq!(buffer, flipped, "a refused packet is left as it came");
            prop_assert_eq!(unprotect(&mut inbound, &packet), Ok(plain));
        }

        #[test]
        fn no_flipped_bit_of_rtcp_passes(
            suite in suites(),
            body in prop::collection::vec(any::<u8>(), 4..200),
            seed: u64,
            bit: prop::sample::Index,
        ) {
            let plain = [&[0x81, 200, 0, 1][..], &body].concat();
            let (mut outbound, mut inbound) = pair(suite, seed);
            let packet = protect_rtcp(&mut outbound, &plain).unwrap();
            let bit = bit.index(packet.len() * 8);
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unprotect_rtcp(&mut inbound, &flipped).is_err());
            prop_assert_eq!(unprotect_rtcp(&mut inbound, &packet), Ok(plain));
            prop_assert_eq!(unprotect_rtcp(&mut inbound, &packet), Err(DropReason::SrtpReplayed));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_pass(
            suite in suites(),
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            mki_bytes in 0_usize..130,
        ) {
            let key = MasterKey::generate(suite, &mut Rng::from_small_seed(1));
            let mut inbound = Inbound::new(suite, &key, Mki::new(&vec![7; mki_bytes]));
            for first in [bytes.first().copied().unwrap_or(0), 0x80, 0x9f] {
                let mut bytes = bytes.clone();
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                prop_assert!(unprotect(&mut inbound, &bytes).is_err());
                prop_assert!(unprotect_rtcp(&mut inbound, &bytes).is_err());
                let _ = protect(&mut Outbound::new(suite, &key), &bytes);
                let _ = protect_rtcp(&mut Outbound::new(suite, &key), &bytes);
            }
        }
    }
}
