//! From one leg's keys to the other's in one step.

use crate::types::DropReason;

use super::{
    cm::{Cm, rollover_counter},
    inbound::{Inbound, Verified, verify_rtp},
    kdf::Cipher,
    outbound::{Outbound, check_room},
};

/// Unprotects `packet[..len]` with `inbound` and protects it with `outbound`; returns the new length. Between two AES-CM
/// legs the egress key stream is applied before the ingress key stream is removed, so plaintext is never in memory.
pub fn transcrypt_rtp(
    inbound: &mut Inbound,
    outbound: &mut Outbound,
    packet: &mut [u8],
    len: usize,
) -> Result<usize, DropReason> {
    let received = packet.get_mut(..len).ok_or(DropReason::PacketOversized)?;
    let (Cipher::Cm(ingress), Cipher::Cm(egress)) = (&inbound.keys.rtp, &outbound.keys.rtp) else {
        let plain_len = inbound.unprotect_rtp(received)?;
        return outbound.protect_rtp(packet, plain_len);
    };
    let verified = verify_rtp(ingress, &mut inbound.rtp, received, inbound.mki_bytes)?;
    check_room(packet, verified.end, egress.tag_bytes())?;
    let egress_index = outbound.rtp.claim(verified.ssrc, verified.sequence)?;
    put_on(egress, egress_index, &verified, packet);
    take_off(ingress, &verified, packet);
    Ok(egress.append_tag(packet, verified.end, &rollover_counter(egress_index)))
}

fn put_on(egress: &Cm, index: u64, verified: &Verified, packet: &mut [u8]) {
    egress.xor_key_stream(verified.ssrc, index, &mut packet[verified.body()]);
}

fn take_off(ingress: &Cm, verified: &Verified, packet: &mut [u8]) {
    ingress.xor_key_stream(verified.ssrc, verified.index, &mut packet[verified.body()]);
}
