//! From one leg's keys to the other's in one step.

use crate::{types::DropReason, wire::rtp};

use super::{
    aes_ctr::Aes,
    cm::{Cm, rollover_counter},
    inbound::{Inbound, Verified, verify_rtp},
    kdf::SessionKeys,
    outbound::{Outbound, check_room},
    streams::{Novelty, sequence_of},
};

/// Unprotects `packet[..len]` with `inbound` and protects it with `outbound`; returns the new length. Between two AES-CM
/// legs the egress key stream is applied before the ingress key stream is removed, so plaintext is never in memory.
///
/// # Errors
/// The outer one: `inbound` refuses the packet, which is left as it came. The inner one: the packet is authentic and new, but
/// `outbound` cannot send it.
pub fn transcrypt_rtp(
    inbound: &mut Inbound,
    outbound: &mut Outbound,
    packet: &mut [u8],
    len: usize,
) -> Result<Result<usize, DropReason>, DropReason> {
    let received = packet.get_mut(..len).ok_or(DropReason::PacketOversized)?;
    let (SessionKeys::Cm(ingress), SessionKeys::Cm(egress)) = (&inbound.keys, &outbound.keys) else {
        let plain_len = inbound.unprotect_rtp(received)?;
        return Ok(outbound.relay_rtp(packet, plain_len, Novelty::New));
    };
    let (ingress, egress) = (&ingress.rtp, &egress.rtp);
    let verified = verify_rtp(ingress, (&mut inbound.rtp, inbound.first_cycle), received, inbound.mki_bytes)?;
    let room = check_room(packet, verified.end, egress.tag_bytes());
    let claimed = room.and_then(|()| outbound.rtp.claim_relayed(verified.ssrc, verified.sequence, Novelty::New));
    Ok(claimed.map(|index| {
        rtp::set_sequence(packet, sequence_of(index));
        put_on(egress, index, &verified, packet);
        take_off(ingress, &verified, packet);
        egress.append_tag(packet, verified.end, &rollover_counter(index))
    }))
}

fn put_on(egress: &Cm<Aes>, index: u64, verified: &Verified, packet: &mut [u8]) {
    egress.xor_key_stream(verified.ssrc, index, &mut packet[verified.body()]);
}

fn take_off(ingress: &Cm<Aes>, verified: &Verified, packet: &mut [u8]) {
    ingress.xor_key_stream(verified.ssrc, verified.index, &mut packet[verified.body()]);
}

#[cfg(test)]
mod tests {
    use super::{super::streams::Cycle, *};
    use crate::{
        types::Rng,
        wire::srtp::{MasterKey, Suite, TAG_ROOM_BYTES},
    };

    const HEADER: [u8; 12] = [0x80, 0, 0x12, 0x34, 0, 0, 0, 1, 0xca, 0xfe, 0xba, 0xbe];
    const PLAIN_LEN: usize = 12 + 160;

    /// A leg under `suite`: what its peer sends with, and what we receive with.
    fn leg(suite: Suite, rng: &mut Rng) -> (Outbound, Inbound) {
        let key = MasterKey::generate(suite, rng);
        (Outbound::new(suite, &key), Inbound::new(suite, &key, 0))
    }

    fn plain() -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.extend((0..160_u8).map(|i| i ^ 0x55));
        packet.resize(PLAIN_LEN + TAG_ROOM_BYTES, 0);
        packet
    }

    #[test]
    fn every_pair_of_suites_delivers_what_was_sent() {
        let mut rng = Rng::from_small_seed(1);
        for from in Suite::ALL {
            for to in Suite::ALL {
                let (mut sender, mut inbound) = leg(from, &mut rng);
                let (mut outbound, mut receiver) = leg(to, &mut rng);
                let mut packet = plain();
                let len = sender.protect_rtp(&mut packet, PLAIN_LEN).unwrap();
                let replay = packet.clone();
                let len = transcrypt_rtp(&mut inbound, &mut outbound, &mut packet, len).unwrap().unwrap();
                assert_eq!(receiver.unprotect_rtp(&mut packet[..len]), Ok(PLAIN_LEN), "{from:?} to {to:?}");
                assert_eq!(packet[..PLAIN_LEN], plain()[..PLAIN_LEN]);

                let again = transcrypt_rtp(&mut inbound, &mut outbound, &mut replay.clone(), len);
                assert_eq!(again, Err(DropReason::SrtpReplayed));
            }
        }
    }

    /// The steps between two AES-CM legs, one by one: after none of them does the buffer hold a run of the plaintext.
    #[test]
    fn plaintext_is_never_in_the_buffer_between_two_aes_cm_legs() {
        let mut rng = Rng::from_small_seed(2);
        let (mut sender, mut inbound) = leg(Suite::AesCm128HmacSha1_80, &mut rng);
        let key = MasterKey::generate(Suite::AesCm256HmacSha1_32, &mut rng);
        let (mut outbound, mut direct) =
            (Outbound::new(Suite::AesCm256HmacSha1_32, &key), Outbound::new(Suite::AesCm256HmacSha1_32, &key));
        let mut packet = plain();
        let received_len = sender.protect_rtp(&mut packet, PLAIN_LEN).unwrap();
        let holds_plaintext = |packet: &[u8]| {
            let (plain, body) = (plain(), &packet[HEADER.len()..PLAIN_LEN]);
            plain[HEADER.len()..PLAIN_LEN].chunks(8).zip(body.chunks(8)).any(|(plain, now)| plain == now)
        };

        let (SessionKeys::Cm(ingress), SessionKeys::Cm(egress)) = (&inbound.keys, &outbound.keys) else {
            panic!("both suites are AES-CM")
        };
        let (ingress, egress) = (&ingress.rtp, &egress.rtp);
        let verified = verify_rtp(ingress, (&mut inbound.rtp, Cycle::First), &mut packet[..received_len], 0).unwrap();
        assert!(!holds_plaintext(&packet), "after the tag is verified");
        let index = outbound.rtp.claim(verified.ssrc, verified.sequence).unwrap();
        put_on(egress, index, &verified, &mut packet);
        assert!(!holds_plaintext(&packet), "under both key streams");
        take_off(ingress, &verified, &mut packet);
        assert!(!holds_plaintext(&packet), "under the egress key stream");

        let len = egress.append_tag(&mut packet, verified.end, &rollover_counter(index));
        let mut expected = plain();
        assert_eq!(direct.protect_rtp(&mut expected, PLAIN_LEN), Ok(len));
        assert_eq!(packet[..len], expected[..len]);
        assert!(holds_plaintext(&plain()), "the check can fail");
    }

    #[test]
    fn a_forged_packet_is_left_as_it_came_and_claims_nothing() {
        let mut rng = Rng::from_small_seed(3);
        for suite in Suite::ALL {
            let (mut sender, mut inbound) = leg(suite, &mut rng);
            let (mut outbound, _) = leg(suite, &mut rng);
            let mut genuine = plain();
            let len = sender.protect_rtp(&mut genuine, PLAIN_LEN).unwrap();
            let mut forged = genuine.clone();
            forged[20] ^= 1;
            let before = forged.clone();
            let refused = transcrypt_rtp(&mut inbound, &mut outbound, &mut forged, len);
            assert_eq!(refused, Err(DropReason::SrtpBadTag), "{suite:?}");
            assert_eq!(forged, before);
            assert!(transcrypt_rtp(&mut inbound, &mut outbound, &mut genuine, len).unwrap().is_ok());
        }
    }

    #[test]
    fn a_packet_without_room_for_the_longer_tag_is_refused() {
        let mut rng = Rng::from_small_seed(4);
        let (mut sender, mut inbound) = leg(Suite::AesCm128HmacSha1_32, &mut rng);
        let (mut outbound, _) = leg(Suite::AesCm128HmacSha1_80, &mut rng);
        let mut packet = plain();
        let len = sender.protect_rtp(&mut packet, PLAIN_LEN).unwrap();
        let refused = transcrypt_rtp(&mut inbound, &mut outbound, &mut packet[..len], len);
        assert_eq!(refused, Ok(Err(DropReason::PacketOversized)));
        assert_eq!(transcrypt_rtp(&mut inbound, &mut outbound, &mut [], 1), Err(DropReason::PacketOversized));
    }
}
