//! SRTP: no packet allocates, not even the first of a leg, a forged one, or one too many. Only the second SSRC of a
//! direction, once authentic, makes room for all that have a window, and the seventeenth for all there may ever be.

use ringdown::{
    types::{Rng, limits::PACKET_BYTES_MAX},
    wire::srtp::{Inbound, MasterKey, Outbound, Suite, transcrypt_rtp},
};

use super::allocations;

const LEN: usize = 1_200;

fn write_header(buffer: &mut [u8], ssrc: u32, sequence: u16) {
    buffer[..2].copy_from_slice(&[0x80, 96]);
    buffer[2..4].copy_from_slice(&sequence.to_be_bytes());
    buffer[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

#[test]
fn no_packet_allocates_but_the_first_of_a_second_and_a_seventeenth_ssrc() {
    let mut rng = Rng::from_small_seed(1);
    for from in Suite::ALL {
        for to in Suite::ALL {
            let (key_a, key_b) = (MasterKey::generate(from, &mut rng), MasterKey::generate(to, &mut rng));
            let (mut sender, mut inbound) = (Outbound::new(from, &key_a), Inbound::new(from, &key_a, None));
            let (mut outbound, mut receiver) = (Outbound::new(to, &key_b), Inbound::new(to, &key_b, None));
            let mut buffer = [0; PACKET_BYTES_MAX];
            let mut relayed = 0;
            let mut relay = |ssrcs: std::ops::Range<u32>| {
                for sequence in 0..8 {
                    for ssrc in ssrcs.clone() {
                        write_header(&mut buffer, ssrc, sequence);
                        let Ok(len) = sender.protect_rtp(&mut buffer, LEN) else { continue };
                        buffer[100] ^= 1;
                        assert!(transcrypt_rtp(&mut inbound, &mut outbound, &mut buffer, len).is_err());
                        buffer[100] ^= 1;
                        let len = transcrypt_rtp(&mut inbound, &mut outbound, &mut buffer, len).unwrap().unwrap();
                        assert_eq!(receiver.unprotect_rtp(&mut buffer[..len]), Ok(LEN));
                        relayed += 1;
                    }
                }
                buffer[..8].copy_from_slice(&[0x80, 200, 0, 6, 0, 0, 0, 1]);
                let len = sender.protect_rtcp(&mut buffer, 28).unwrap();
                assert_eq!(inbound.unprotect_rtcp(&mut buffer[..len]), Ok(28));
            };
            const CONTEXTS: usize = 4;
            assert_eq!(allocations(|| relay(0..1)), 0, "{from:?} to {to:?}, one SSRC");
            assert_eq!(allocations(|| relay(1..2)), CONTEXTS, "{from:?} to {to:?}, the second SSRC");
            assert_eq!(allocations(|| relay(2..16)), 0, "{from:?} to {to:?}, as many as have a window");
            assert_eq!(allocations(|| relay(16..17)), CONTEXTS, "{from:?} to {to:?}, the seventeenth SSRC");
            assert_eq!(allocations(|| relay(17..520)), 0, "{from:?} to {to:?}, all that follow and some too many");
            assert_eq!(relayed, 8 * 512);
        }
    }
}
