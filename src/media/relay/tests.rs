//! Packets through a pair of legs, packet by packet.

use super::*;
use crate::{
    media::{
        command::{Command, Event, Protection, Remote, Rtcp},
        testing::*,
    },
    types::limits::SSRCS_PER_KEY_MAX,
    wire::srtp::{Mki, Suite},
};

const PLAIN: Protection = Protection::Plain;

fn encrypted_call() -> (Rig, Phone, Phone) {
    Rig::call(srtp(SUITE, 1), srtp(SUITE, 2))
}

#[test]
fn every_mix_of_suites_and_plain_carries_payload_both_ways() {
    let protections = || Suite::ALL.into_iter().map(|suite| srtp(suite, 1)).chain([PLAIN]);
    for (a, b) in protections().flat_map(|a| protections().map(move |b| (a.clone(), b))) {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        for fill in [1, 2, 3] {
            let packet = a.rtp(fill);
            let (send, bytes) = rig.receive(rtp(0), a.address, &packet).expect("relayed");
            assert_eq!((send.port, send.to, send.is_plain), (rtp(1), b.address, b.receives == PLAIN));
            assert_eq!(b.hears(bytes), plain_rtp(0, a.sequence, fill));
            let packet = b.rtp(fill);
            let (send, bytes) = rig.receive(rtp(1), b.address, &packet).expect("relayed");
            assert_eq!((send.port, send.to, send.is_plain), (rtp(0), a.address, a.receives == PLAIN));
            assert_eq!(a.hears(bytes), plain_rtp(1, b.sequence, fill));
        }
        assert_eq!(rig.worker.packets_relayed(), 6);
    }
}

/// Each side was told the numbers that the other wants (RFC 3264 section 5.1), so none is changed. 64 to 95 are left to RTCP
/// (RFC 5761 section 4).
#[test]
fn every_payload_type_passes_unchanged_with_and_without_marker() {
    let (mut rig, a, mut b) = Rig::call(PLAIN, srtp(SUITE, 2));
    for (sequence, second) in (1..).zip((0..=u8::MAX).filter(|second| !(192..224).contains(second))) {
        let mut packet = plain_rtp(0, sequence, 3);
        packet[1] = second;
        let (_, bytes) = rig.receive(rtp(0), a.address, &packet).expect("relayed");
        assert_eq!(b.hears(bytes), packet);
    }
}

#[test]
fn the_two_legs_of_a_call_never_share_ciphertext() {
    let (mut rig, mut a, _) = encrypted_call();
    let packet = a.rtp(7);
    let (_, relayed) = rig.receive(rtp(0), a.address, &packet).unwrap();
    assert_ne!(packet[12..], relayed[12..]);
    assert!(!relayed.windows(8).any(|window| window == [7; 8]), "plaintext was sent");
}

#[test]
fn forged_replayed_and_truncated_packets_are_refused_by_name() {
    let (mut rig, mut a, _) = encrypted_call();
    let packet = a.rtp(1);
    let mut forged = packet.clone();
    forged[20] ^= 1;
    rig.refuses(DropReason::SrtpBadTag, rtp(0), a.address, &forged);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &packet);
    rig.refuses(DropReason::PacketTruncated, rtp(0), a.address, &packet[..9]);
    assert_eq!(rig.close(0).map(|report| (report.packets_received, report.packets_refused)), Some((1, 2)));
}

#[test]
fn what_is_no_media_is_refused() {
    let (mut rig, mut a, _) = encrypted_call();
    let packet = a.rtp(1);
    for first in [0, 22, 70, 255] {
        rig.refuses(DropReason::PacketNotMedia, rtp(0), a.address, &[first, 0, 0, 0, 0, 0, 0, 0]);
    }
    rig.refuses(DropReason::PacketNotMedia, rtp(0), a.address, &[]);
    rig.refuses(DropReason::PacketNotMedia, rtcp(0), a.address, &packet);
    rig.refuses(DropReason::PacketOversized, rtp(0), a.address, &[0x80; PACKET_BYTES_MAX - TAG_ROOM_BYTES + 1]);
    assert_eq!(rig.events, []);
}

#[test]
fn the_largest_packet_is_relayed() {
    let (mut rig, a, b) = Rig::call(PLAIN, srtp(SUITE, 2));
    let mut packet = plain_rtp(0, 1, 0);
    packet.resize(PACKET_BYTES_MAX - TAG_ROOM_BYTES, 0);
    let (send, _) = rig.receive(rtp(0), a.address, &packet).unwrap();
    assert_eq!((send.to, send.len), (b.address, packet.len() + 10));
}

#[test]
fn a_buffer_without_room_for_a_tag_is_refused_not_overrun() {
    let (mut rig, mut a, _) = encrypted_call();
    let mut packet = a.rtp(1);
    let len = packet.len();
    for len in [len, len + 1, usize::MAX] {
        assert_eq!(rig.worker.receive(rig.now, rtp(0), a.address, &mut packet, len), None);
    }
    assert_eq!(rig.worker.drops().of(DropReason::PacketOversized), 3);
}

#[test]
fn without_leg_configuration_or_peer_nothing_is_relayed() {
    let mut rig = Rig::new(1);
    let mut a = Phone::new(0, srtp(SUITE, 1), "203.0.113.1:4000");
    let packet = a.rtp(1);
    rig.refuses(DropReason::PacketNoLeg, rtp(0), a.address, &packet);
    rig.refuses(DropReason::PacketNoLeg, rtp(9), a.address, &packet);
    rig.open(0);
    rig.refuses(DropReason::PacketNoLeg, rtp(0), a.address, &packet);
    rig.refuses(DropReason::PacketNoLeg, rtcp(0), a.address, &sender_report(0, 1, None));
    rig.configure(&a);
    assert_eq!(rig.events, []);
    rig.refuses(DropReason::PacketNoPeer, rtp(0), a.address, &packet);
    assert_eq!(rig.events, [Event::Flowing { leg: leg(0) }], "it is authentic all the same");
}

#[test]
fn an_authenticated_source_latches_and_a_stranger_does_not() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let nat = at("198.51.100.1:1024");
    for _ in 0..10 {
        let mut noise = a.rtp(0);
        noise[30] ^= 1;
        rig.refuses(DropReason::SrtpBadTag, rtp(0), at("192.0.2.66:1"), &noise);
    }
    let packet = b.rtp(1);
    assert_eq!(rig.receive(rtp(1), b.address, &packet).unwrap().0.to, a.address, "as signalled");
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), nat, &packet).is_some());
    let packet = b.rtp(1);
    assert_eq!(rig.receive(rtp(1), b.address, &packet).unwrap().0.to, nat, "as latched");
    assert_eq!(rig.connects, [(rtp(1), Some(b.address)), (rtp(0), Some(nat))]);
}

#[test]
fn a_roaming_phone_is_followed_after_three_fresh_packets_and_replays_do_not_count() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let packet = a.rtp(1);
    rig.receive(rtp(0), a.address, &packet).unwrap();
    let roamed = at("198.51.100.1:1024");
    rig.advance(1_000);
    let packets = [a.rtp(1), a.rtp(2), a.rtp(3)];
    for (packet, to) in packets.iter().zip([a.address, a.address, roamed]) {
        assert!(rig.receive(rtp(0), roamed, packet).is_some(), "authentic packets are relayed at once");
        rig.refuses(DropReason::SrtpReplayed, rtp(0), at("192.0.2.66:1"), packet);
        let back = b.rtp(1);
        assert_eq!(rig.receive(rtp(1), b.address, &back).unwrap().0.to, to);
    }
}

/// Goal: who sends a few packets a second does not cost a system call for each, and who stops is waited for no longer than a
/// second, or 200 ms after a talk without pauses.
#[test]
fn a_socket_stays_connected_to_a_peer_that_sends_rarely_and_soon_lets_go_of_one_that_stops() {
    for (pause_ms, packets, connects_max) in
        [(20, 1_000, 1), (100, 500, 1), (200, 500, 20), (250, 500, 20), (333, 500, 30), (500, 500, 60), (950, 99, 99)]
    {
        let (mut rig, mut a, _) = encrypted_call();
        for _ in 0..packets {
            let packet = a.rtp(1);
            assert!(rig.receive(rtp(0), a.address, &packet).is_some());
            rig.advance(pause_ms);
        }
        let connects = rig.connects.iter().filter(|(_, remote)| remote.is_some()).count();
        assert!(connects <= connects_max, "{connects} in {packets} packets, one each {pause_ms} ms");
        rig.advance(1_100 - pause_ms);
        assert_eq!(rig.connects.last(), Some(&(rtp(0), None)), "{pause_ms}");
        // It talks on.
        for _ in 0..2_000 {
            let packet = a.rtp(1);
            assert!(rig.receive(rtp(0), a.address, &packet).is_some());
            rig.advance(20);
        }
        assert_eq!(rig.connects.last(), Some(&(rtp(0), Some(a.address))), "{pause_ms}");
        rig.advance(300);
        assert_eq!(rig.connects.last(), Some(&(rtp(0), None)), "{pause_ms}");
    }
}

#[test]
fn a_new_signalled_address_unlatches_and_an_unchanged_one_does_not() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let nat = at("198.51.100.1:1024");
    let packet = a.rtp(1);
    rig.receive(rtp(0), nat, &packet).unwrap();
    rig.configure(&a);
    let packet = b.rtp(1);
    assert_eq!(rig.receive(rtp(1), b.address, &packet).unwrap().0.to, nat);
    a.remote.rtp = Some(at("203.0.113.99:6000"));
    rig.configure(&a);
    assert_eq!(rig.connects.last(), Some(&(rtp(0), None)), "the socket must hear the new address");
    let packet = b.rtp(1);
    assert_eq!(rig.receive(rtp(1), b.address, &packet).unwrap().0.to, at("203.0.113.99:6000"));
}

#[test]
fn plain_packets_of_a_foreign_source_are_refused() {
    let (mut rig, mut a, _) = Rig::call(PLAIN, srtp(SUITE, 2));
    let packet = a.rtp(1);
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.9:4000"), &packet);
    assert!(rig.receive(rtp(0), at("203.0.113.1:5000"), &packet).is_some(), "another port of the same host");
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.1:5001"), &packet);
    assert_eq!(rig.connects, [], "the socket must hear the signalled port");
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.1:5000"), &packet);
    rig.advance(60_000);
    assert_eq!(rig.connects, [(rtp(0), Some(a.address)), (rtp(0), None)], "strangers are heard, to be named");
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.1:5000"), &packet);
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some(), "a plain latch stays through silence");
    assert_eq!(rig.close(0).map(|report| report.packets_refused), Some(4));
}

#[test]
fn hold_stops_media_in_the_direction_signalled_and_keeps_rtcp() {
    let (mut rig, mut a, mut b) = encrypted_call();
    a.remote = Remote { may_send: false, ..a.remote };
    rig.configure(&a);
    let packet = a.rtp(1);
    rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
    let packet = b.rtp(1);
    assert!(rig.receive(rtp(1), b.address, &packet).is_some());

    a.remote = Remote { may_send: true, wants_media: false, ..a.remote };
    rig.configure(&a);
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    let packet = b.rtp(1);
    rig.refuses(DropReason::PacketOnHold, rtp(1), b.address, &packet);
    let report = b.rtcp(sender_report(1, 1, None));
    assert!(rig.receive(rtp(1), b.address, &report).is_some());
}

#[test]
fn packets_sent_during_hold_are_not_replayable_after_it() {
    let (mut rig, mut a, _) = encrypted_call();
    a.remote.may_send = false;
    rig.configure(&a);
    let packet = a.rtp(1);
    rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
    a.remote.may_send = true;
    rig.configure(&a);
    rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &packet);
}

#[test]
fn an_unchanged_key_keeps_its_replay_window() {
    let (mut rig, mut a, _) = encrypted_call();
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    rig.configure(&a);
    rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &packet);
}

#[test]
fn a_replaced_receive_key_is_valid_for_two_seconds_more() {
    for suite in Suite::ALL {
        let (mut rig, mut a, mut b) = Rig::call(srtp(suite, 1), srtp(suite, 2));
        let before = [a.rtp(1), a.rtp(2), a.rtp(3)];
        rig.receive(rtp(0), a.address, &before[0]).unwrap();
        a.rekey(srtp(suite, 3));
        rig.configure(&a);
        let after = a.rtp(4);
        let (_, bytes) = rig.receive(rtp(0), a.address, &after).expect("the new key");
        assert_eq!(b.hears(bytes), plain_rtp(0, a.sequence, 4));
        rig.advance(1_999);
        rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &before[0]);
        let (_, bytes) = rig.receive(rtp(0), a.address, &before[1]).expect("the old key, still");
        assert_eq!(b.hears(bytes), plain_rtp(0, 102, 2));
        rig.advance(1);
        rig.refuses(DropReason::SrtpBadTag, rtp(0), a.address, &before[2]);
    }
}

#[test]
fn two_keys_that_were_replaced_one_after_the_other_are_each_valid_for_their_time() {
    let (mut rig, mut a, _) = encrypted_call();
    let mut speak = |rig: &mut Rig, key| {
        let packets = [a.rtp(1), a.rtp(2), a.rtp(3)];
        assert!(rig.receive(rtp(0), a.address, &packets[0]).is_some());
        a.rekey(srtp(SUITE, key));
        rig.configure(&a);
        packets
    };
    let [first, second, third] = [11, 12, 13].map(|key| {
        let packets = speak(&mut rig, key);
        rig.advance(if key == 13 { 0 } else { 500 });
        packets
    });
    let home = at("203.0.113.1:4000");
    rig.refuses(DropReason::SrtpBadTag, rtp(0), home, &first[1]);
    for packets in [&second, &third] {
        assert!(rig.receive(rtp(0), home, &packets[1]).is_some());
        rig.refuses(DropReason::SrtpReplayed, rtp(0), home, &packets[0]);
    }
    rig.advance(1_500);
    rig.refuses(DropReason::SrtpBadTag, rtp(0), home, &second[2]);
    assert!(rig.receive(rtp(0), home, &third[2]).is_some());
}

/// Goal: a peer that takes an old key back, however late, and whatever was in between, is heard, and what came under it before is
/// not.
#[test]
fn a_receive_key_that_returns_late_still_knows_its_replays() {
    let protections = [PLAIN, srtp(Suite::AeadAes256Gcm, 3)];
    for (between, ms) in protections.into_iter().flat_map(|between| [(between.clone(), 60_000), (between, 1_000)]) {
        let (mut rig, mut a, mut b) = encrypted_call();
        let first = a.sends.clone();
        let mut recorded = vec![a.rtcp(sender_report(0, 1, None))];
        recorded.extend((0..40).map(|fill| a.rtp(fill)));
        for _ in 0..3 {
            for packet in &recorded {
                rig.receive(rtp(0), a.address, packet);
            }
            for sends in [between.clone(), srtp(SUITE, 4), between.clone(), first.clone()] {
                a.sends = sends;
                rig.configure(&a);
                rig.advance(ms);
            }
            for packet in &recorded {
                rig.refuses(DropReason::SrtpReplayed, rtp(0), at("198.51.100.66:6666"), packet);
            }
            recorded.push(a.rtp(77));
            let (_, bytes) = rig.receive(rtp(0), a.address, recorded.last().unwrap()).expect("new");
            assert_eq!(b.hears(bytes)[12..], plain_rtp(0, 0, 77)[12..]);
        }
    }
}

#[test]
fn a_receive_key_that_returns_at_once_still_knows_its_replays() {
    let (mut rig, mut a, _) = encrypted_call();
    let (first, packet) = (a.sends.clone(), a.rtp(1));
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    for sends in [srtp(SUITE, 3), first] {
        a.sends = sends;
        rig.configure(&a);
    }
    rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &packet);
}

/// Goal: when a leg moves to another worker and its peer keeps the key, nothing that was heard before is heard again, and what
/// is new is heard at once. Method: RTP of two SSRCs over a wrap and RTCP, all of which a stranger repeats to the new leg.
#[test]
fn a_leg_that_goes_on_elsewhere_under_a_key_knows_all_that_was_heard_under_it() {
    for suite in Suite::ALL {
        let (mut rig, mut a, b) = Rig::call(srtp(suite, 1), srtp(suite, 2));
        a.sequence = 65_400;
        let mut recorded = Vec::new();
        for n in 0..300 {
            a.ssrc = u32::from(n % 10 == 0);
            recorded.push(a.rtp(1));
            if n % 50 == 0 {
                recorded.push(a.rtcp(sender_report(a.ssrc, n, None)));
            }
        }
        for packet in &recorded {
            assert!(rig.receive(rtp(0), a.address, packet).is_some());
        }
        let (_, history) = rig.close_for_heir(0).unwrap();
        let (mut rig, _, mut b) = Rig::call(PLAIN, b.sends.clone());
        rig.close(0);
        rig.open(0);
        rig.configure_heir(&a, Some(history));
        rig.command(Command::Connect { a: leg(0), b: leg(1) });
        for packet in &recorded {
            rig.refuses(DropReason::SrtpReplayed, rtp(0), at("198.51.100.66:6666"), packet);
        }
        assert_eq!(rig.connects, []);
        for ssrc in [0, 1] {
            a.ssrc = ssrc;
            let packet = a.rtp(3);
            let (_, bytes) = rig.receive(rtp(0), a.address, &packet).expect("new");
            assert_eq!(b.hears(bytes)[12..], plain_rtp(0, 0, 3)[12..]);
            let packet = a.rtcp(sender_report(ssrc, 1, None));
            assert!(rig.receive(rtp(0), a.address, &packet).is_some());
        }
    }
}

/// Goal: the same for keys that were replaced before the move, should the peer take one back, whether what was heard is known in
/// time or afterwards.
#[test]
fn a_leg_that_goes_on_elsewhere_knows_what_was_heard_under_earlier_keys() {
    for is_known_in_time in [true, false] {
        let (mut rig, mut a, b) = encrypted_call();
        let keys = [1, 3, 4].map(|seed| srtp(SUITE, seed));
        let recorded = keys.clone().map(|key| {
            a.rekey(key);
            rig.configure(&a);
            let packets = [a.rtp(1), a.rtcp(sender_report(0, 1, None))];
            packets.iter().for_each(|packet| assert!(rig.receive(rtp(0), a.address, packet).is_some()));
            packets
        });
        let (_, history) = rig.close_for_heir(0).unwrap();
        let (mut rig, ..) = Rig::call(PLAIN, b.sends.clone());
        rig.close(0);
        rig.open(0);
        rig.command(Command::Connect { a: leg(0), b: leg(1) });
        a.rekey(srtp(SUITE, 5));
        if !is_known_in_time {
            rig.configure(&a);
        }
        rig.configure_heir(&a, Some(history));
        for (key, packets) in keys.iter().zip(&recorded) {
            a.sends = key.clone();
            rig.configure(&a);
            for packet in packets {
                rig.refuses(DropReason::SrtpReplayed, rtp(0), at("198.51.100.66:6666"), packet);
            }
        }
    }
}

#[test]
fn an_mki_may_come_and_go_under_one_key() {
    let (mut rig, mut a, _) = encrypted_call();
    let Protection::Srtp { suite, key, .. } = a.sends.clone() else { unreachable!() };
    for mki in [&[][..], b"MKI1", b"1", b""] {
        a.sends = Protection::Srtp { suite, key: key.clone(), mki: Mki::new(mki) };
        rig.configure(&a);
        for is_rtcp in [false, true] {
            let mut packet = if is_rtcp { a.rtcp(sender_report(0, 1, None)) } else { a.rtp(1) };
            let tag_at = packet.len() - 10;
            packet.splice(tag_at..tag_at, mki.iter().copied());
            if !mki.is_empty() {
                let mut of_another = packet.clone();
                of_another[tag_at] ^= 1;
                rig.refuses(DropReason::SrtpUnknownMki, rtp(0), a.address, &of_another);
            }
            assert!(rig.receive(rtp(0), a.address, &packet).is_some(), "{mki:?}");
            rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, &packet);
        }
    }
}

#[test]
fn a_changed_send_key_is_used_at_once() {
    let (mut rig, mut a, b) = encrypted_call();
    let mut b_after = Phone::new(1, b.sends.clone(), "203.0.113.2:4000");
    b_after.receives = srtp(Suite::AeadAes256Gcm, 9);
    rig.configure(&b_after);
    let packet = a.rtp(1);
    let (_, mut bytes) = rig.receive(rtp(0), a.address, &packet).unwrap();
    let Protection::Srtp { suite, key, .. } = &b_after.receives else { unreachable!() };
    assert!(crate::wire::srtp::Inbound::new(*suite, key, None).unprotect_rtp(&mut bytes).is_ok());
}

// Sequence numbers that begin anew.

/// Sends so many packets of A's to B, who must read each as it was sent, if under another number. Returns the last number.
fn talk(rig: &mut Rig, (a, b): (&mut Phone, &mut Phone), packets: u16) -> u16 {
    let mut last = 0;
    for n in 0..packets {
        let fill = u8::try_from(n % 251).unwrap();
        let packet = a.rtp(fill);
        let (_, bytes) = rig.receive(rtp(a.slot), a.address, &packet).expect("a packet that was never heard before");
        let read = b.hears(bytes);
        assert_eq!(read[12..], plain_rtp(0, 0, fill)[12..]);
        last = u16::from_be_bytes([read[2], read[3]]);
    }
    last
}

/// Goal: a telephone that begins its sequence numbers anew is heard at once under a key, and without one at its second packet,
/// if it has to be told from copies. Method: after short and long talk, and after a restart, between all pairs of protections.
#[test]
fn whoever_begins_its_sequence_numbers_anew_is_heard_at_once() {
    let protections = || Suite::ALL.into_iter().map(|suite| srtp(suite, 1)).chain([PLAIN]);
    for (a, b) in protections().flat_map(|a| protections().map(move |b| (a.clone(), b))) {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        a.sequence = 0;
        // Without a key a new start that comes sooner cannot be told from disorder.
        let talks = if a.sends == PLAIN { [300, 200, 900, 200] } else { [300, 9, 900, 1] };
        for (key, before) in (11..).zip(talks) {
            talk(&mut rig, (&mut a, &mut b), before);
            if let Protection::Srtp { suite, .. } = a.sends {
                a.rekey(srtp(suite, key));
                rig.configure(&a);
            }
            // Each time at a number that was sent before.
            a.sequence = 20 * u16::try_from(key - 10).unwrap();
            if a.sends == PLAIN && b.sends != PLAIN {
                let packet = a.rtp(1);
                rig.refuses(DropReason::PacketDuplicate, rtp(0), a.address, &packet);
            }
        }
        talk(&mut rig, (&mut a, &mut b), 10);
        let report = rig.close(1).unwrap();
        assert_eq!(report.packets_sent, u64::from(talks.iter().sum::<u16>()) + 10);
    }
}

/// Goal: what a network delivers twice or late, between packets in time, goes on once and in its place, however late. Method:
/// a stream with copies of many ages, and one packet in a hundred that is held up.
#[test]
fn late_copies_of_plain_packets_are_dropped_and_late_packets_keep_their_place() {
    let (mut rig, mut a, mut b) = Rig::call(PLAIN, srtp(SUITE, 2));
    let packets: Vec<_> = (0..1_200_u16).map(|n| a.rtp(u8::try_from(n % 251).unwrap())).collect();
    let is_held_up = |n: usize| n % 100 == 50;
    for n in 0..packets.len() {
        let late = n.checked_sub(200).filter(|late| is_held_up(*late));
        for arrives in (!is_held_up(n)).then_some(n).into_iter().chain(late) {
            let (_, bytes) = rig.receive(rtp(0), a.address, &packets[arrives]).expect("for the first time");
            assert_eq!(b.hears(bytes), packets[arrives], "{arrives} at {n}");
        }
        for behind in [0, 1, 63, 64, 99, 100, 101, 250, 447, 448, 900] {
            let copy = n.checked_sub(behind).filter(|copy| !is_held_up(*copy));
            if let Some(copy) = copy {
                rig.refuses(DropReason::PacketDuplicate, rtp(0), a.address, &packets[copy]);
            }
        }
    }
}

/// A plain stream goes to a plain leg with the numbers that it has.
#[test]
fn a_plain_leg_is_sent_the_numbers_that_were_received() {
    let (mut rig, mut a, mut b) = Rig::call(srtp(SUITE, 1), PLAIN);
    assert_eq!(talk(&mut rig, (&mut a, &mut b), 9), a.sequence);
    a.rekey(srtp(SUITE, 3));
    rig.configure(&a);
    a.sequence = 0;
    assert_eq!(talk(&mut rig, (&mut a, &mut b), 9), 9);
}

#[test]
fn whoever_talks_on_through_a_long_hold_is_heard_when_it_ends() {
    for (a, b) in [(srtp(SUITE, 1), srtp(SUITE, 2)), (PLAIN, srtp(SUITE, 2))] {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        talk(&mut rig, (&mut a, &mut b), 9);
        for held in [33_000, 40_000, 65_530] {
            b.remote.wants_media = false;
            rig.configure(&b);
            for _ in 0..held {
                let packet = a.rtp(1);
                rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
            }
            b.remote.wants_media = true;
            rig.configure(&b);
            talk(&mut rig, (&mut a, &mut b), 50);
        }
    }
}

/// Goal: a telephone that takes a new SSRC at each hold or transfer is heard however often that happens; and what cannot be sent
/// on, since the other leg's key knows too many, counts for where its sender is all the same.
#[test]
fn ssrcs_may_change_often_and_who_cannot_be_sent_on_is_followed_all_the_same() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let mut talk = |rig: &mut Rig, a: &mut Phone, source, ssrc: u32| {
        a.ssrc = ssrc;
        let packet = a.rtp(1);
        rig.receive(rtp(0), source, &packet).map(|(_, bytes)| b.hears(bytes))
    };
    let max = u32::try_from(SSRCS_PER_KEY_MAX).unwrap();
    for ssrc in (0..max).chain([0, 7, max - 1]) {
        let read = talk(&mut rig, &mut a, at("203.0.113.1:4000"), ssrc).expect("one of those that are told apart");
        assert_eq!(read[8..12], ssrc.to_be_bytes());
    }
    a.rekey(srtp(SUITE, 3));
    rig.configure(&a);
    let roamed = at("198.51.100.1:1024");
    for _ in 0..3 {
        assert_eq!(talk(&mut rig, &mut a, roamed, max), None, "a new key to us, an old one to B");
    }
    assert_eq!(rig.connects.last(), Some(&(rtp(0), Some(roamed))));
    assert_eq!(rig.worker.drops().of(DropReason::SrtpTooManySsrcs), 3);
}

#[test]
fn what_a_receiver_says_of_new_numbers_names_those_of_the_sender() {
    let (mut rig, mut a, mut b) = encrypted_call();
    talk(&mut rig, (&mut a, &mut b), 500);
    a.rekey(srtp(SUITE, 3));
    rig.configure(&a);
    a.sequence = 0;
    let heard = talk(&mut rig, (&mut a, &mut b), 20);
    let offset = heard - 20;
    assert!(offset > 500);
    let compound = |highest: u16, missing: u16| {
        let report = rtcp_packet(1, 201, &[1, 0, 2, highest.into(), 80, 0, 0]);
        [report, rtcp_packet(1, 205, &[1, 0, u32::from(missing) << 16])].concat()
    };
    let packet = b.rtcp(compound(heard, heard - 3));
    let (_, bytes) = rig.receive(rtp(1), b.address, &packet).unwrap();
    assert_eq!(a.hears_rtcp(bytes), compound(20, 17));
    // A hears B's numbers as they are.
    let compound = rtcp_packet(1, 201, &[0, 1, 2, 300, 80, 0, 0]);
    let packet = a.rtcp(compound.clone());
    let (_, bytes) = rig.receive(rtp(0), a.address, &packet).unwrap();
    assert_eq!(b.hears_rtcp(bytes), compound);
}

#[test]
fn a_multiplexed_leg_faces_one_with_an_rtcp_port() {
    let (mut rig, mut a, mut b) = Rig::call(srtp(SUITE, 1), srtp(Suite::AeadAes128Gcm, 2));
    b.remote.rtcp = Rtcp::Port(Some(at("203.0.113.2:4001")));
    rig.configure(&b);
    let report = sender_report(0, 0x0000_0001_0000_0000, None);
    let packet = a.rtcp(report.clone());
    let (send, bytes) = rig.receive(rtp(0), a.address, &packet).unwrap();
    assert_eq!((send.port, send.to), (rtcp(1), at("203.0.113.2:4001")));
    assert_eq!(b.hears_rtcp(bytes), report);

    let report = sender_report(1, 0x0000_0002_0000_0000, None);
    let packet = b.rtcp(report.clone());
    let nat = at("198.51.100.2:7001");
    let (send, bytes) = rig.receive(rtcp(1), nat, &packet).unwrap();
    assert_eq!((send.port, send.to), (rtp(0), a.address));
    assert_eq!(a.hears_rtcp(bytes), report);

    let packet = a.rtcp(sender_report(0, 1, None));
    assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, nat, "the RTCP port latches by itself");
}

/// Goal: RTCP of a leg without multiplexing never goes to where RTP is heard (RFC 5761 section 1), whatever is known of its peer.
#[test]
fn rtcp_whose_port_nobody_knows_goes_nowhere_until_it_is_heard_from() {
    let (mut rig, mut a, mut b) = encrypted_call();
    b.remote = Remote { rtp: None, rtcp: Rtcp::Port(None), ..b.remote };
    rig.configure(&b);
    let packet = b.rtp(1);
    assert!(rig.receive(rtp(1), b.address, &packet).is_some(), "RTP latches");
    let packet = a.rtcp(sender_report(0, 1, None));
    rig.refuses(DropReason::PacketNoPeer, rtp(0), a.address, &packet);
    let packet = b.rtcp(sender_report(1, 1, None));
    assert!(rig.receive(rtcp(1), at("198.51.100.2:7001"), &packet).is_some());
    let packet = a.rtcp(sender_report(0, 2, None));
    let (send, _) = rig.receive(rtp(0), a.address, &packet).unwrap();
    assert_eq!((send.port, send.to), (rtcp(1), at("198.51.100.2:7001")));
}

/// RFC 3264 section 8.4: who holds by `c=0.0.0.0` hears neither RTP nor RTCP, but may play music, from where it was before.
#[test]
fn who_holds_by_an_address_of_zeros_may_play_music_and_is_sent_nothing() {
    let protections = || [srtp(SUITE, 1), PLAIN].into_iter();
    let ports = [Rtcp::Multiplexed, Rtcp::Port(Some(at("203.0.113.2:4001")))];
    let cases =
        protections().flat_map(|a| protections().flat_map(move |b| ports.map(|port| (a.clone(), b.clone(), port))));
    for (a, b, port) in cases {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        b.remote.rtcp = port;
        let channel = if port == Rtcp::Multiplexed { rtp(1) } else { rtcp(1) };
        let from = if port == Rtcp::Multiplexed { b.address } else { at("203.0.113.2:4001") };
        rig.configure(&b);
        let talking = b.remote;
        let packet = b.rtp(1);
        assert!(rig.receive(rtp(1), b.address, &packet).is_some());
        let rtcp = if port == Rtcp::Multiplexed { port } else { Rtcp::Port(None) };
        b.remote = Remote { rtp: None, rtcp, wants_media: false, ..talking };
        rig.configure(&b);
        for _ in 0..5 {
            let packet = b.rtp(1);
            assert_eq!(rig.receive(rtp(1), b.address, &packet).expect("music").0.to, a.address);
            let packet = b.rtp(1);
            rig.receive(rtp(1), at("198.51.100.66:6666"), &packet);
            let packet = a.rtp(1);
            rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
        }
        let packet = b.rtcp(sender_report(1, 1, None));
        assert!(rig.receive(channel, from, &packet).is_some());
        let packet = a.rtcp(sender_report(0, 1, None));
        rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
        // It comes back to where it was.
        b.remote = talking;
        rig.configure(&b);
        let packet = a.rtp(1);
        assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, b.address);
        let packet = a.rtcp(sender_report(0, 1, None));
        assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, from);
    }
}

#[test]
fn plain_rtcp_is_taken_from_the_signalled_host_only() {
    let (mut rig, mut a, _) = Rig::call(PLAIN, PLAIN);
    let report = sender_report(0, 1, None);
    rig.refuses(DropReason::PacketForeignSource, rtcp(0), a.address, &report);
    a.remote.rtcp = Rtcp::Port(Some(at("203.0.113.1:4001")));
    rig.configure(&a);
    rig.refuses(DropReason::PacketForeignSource, rtcp(0), at("203.0.113.9:4001"), &report);
    assert!(rig.receive(rtcp(0), at("203.0.113.1:4001"), &report).unwrap().0.is_plain);
}

#[test]
fn malformed_rtcp_is_refused_even_from_a_friend() {
    let (mut rig, mut a, _) = encrypted_call();
    let mut report = sender_report(0, 1, None);
    report[3] = 9;
    let packet = a.rtcp(report);
    rig.refuses(DropReason::RtcpMalformed, rtp(0), a.address, &packet);
}

#[test]
fn forged_rtcp_is_refused() {
    let (mut rig, mut a, _) = encrypted_call();
    let mut packet = a.rtcp(sender_report(0, 1, None));
    packet[10] ^= 1;
    rig.refuses(DropReason::SrtpBadTag, rtp(0), a.address, &packet);
}

#[test]
fn the_round_trip_is_measured_between_relay_and_peer() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let packet = a.rtcp(sender_report(0, 0x0001_2345_6789_0000, None));
    rig.receive(rtp(0), a.address, &packet).unwrap();
    rig.advance(1_080);
    let packet = b.rtcp(sender_report(1, 7 << 16, Some((0x2345_6789, 65_536))));
    rig.receive(rtp(1), b.address, &packet).unwrap();
    let b_ms = rig.close(1).unwrap().round_trip_ms.unwrap();
    assert!((b_ms - 80.0).abs() < 0.1, "{b_ms}");
    assert_eq!(rig.close(0).unwrap().round_trip_ms, None, "A has reported nothing yet");
}

#[test]
fn the_report_counts_both_directions_and_loss() {
    let (mut rig, mut a, mut b) = encrypted_call();
    for i in 0..20 {
        let packet = a.rtp(i);
        if i != 5 && i != 6 {
            rig.receive(rtp(0), a.address, &packet).unwrap();
        }
        rig.advance(20);
    }
    let packet = b.rtp(1);
    rig.receive(rtp(1), b.address, &packet).unwrap();
    let report = rig.close(0).unwrap();
    assert_eq!((report.packets_received, report.packets_sent, report.received.packets_lost), (18, 1, 2));
    assert!(report.received.jitter_ms < 0.001, "{}", report.received.jitter_ms);
    assert_eq!(rig.close(1).unwrap().packets_sent, 18);
}

/// A fax between two plain legs.
fn fax() -> (Rig, Phone, Phone) {
    let (mut rig, mut a, mut b) = Rig::call(PLAIN, PLAIN);
    for phone in [&mut a, &mut b] {
        phone.traffic = Traffic::Datagrams;
        rig.configure(phone);
    }
    (rig, a, b)
}

#[test]
fn datagrams_pass_both_ways_unchanged_whatever_they_begin_with() {
    for first in 0..=u8::MAX {
        let (mut rig, a, b) = fax();
        // UDPTL: sequence number, one primary packet, no redundancy.
        let packet = [first, 1, 3, 0xc0, 1, 0x80, 0, 0];
        for (slot, from, to) in [(0, &a, &b), (1, &b, &a)] {
            let (send, bytes) = rig.receive(rtp(slot), from.address, &packet).expect("relayed");
            assert_eq!((send.port, send.to, send.is_plain), (rtp(1 - slot), to.address, true));
            assert_eq!(bytes, packet);
        }
        assert_eq!(rig.events, [Event::Flowing { leg: leg(0) }, Event::Flowing { leg: leg(1) }]);
        let report = rig.close(0).unwrap();
        assert_eq!((report.packets_received, report.packets_sent), (1, 1));
    }
}

#[test]
fn audio_is_not_relayed_as_a_fax_nor_a_fax_as_audio() {
    let (mut rig, mut a, mut b) = fax();
    let voice = a.rtp(1);
    rig.refuses(DropReason::PacketNotMedia, rtp(0), a.address, &voice);
    rig.refuses(DropReason::PacketNotMedia, rtp(0), a.address, &sender_report(0, 1, None));
    rig.refuses(DropReason::PacketNotMedia, rtcp(0), a.address, &[0, 1, 1, 6, 0, 0]);
    assert_eq!((&rig.events[..], &rig.connects[..]), (&[][..], &[][..]), "a stray packet latches nothing");
    b.traffic = Traffic::Rtp;
    rig.configure(&b);
    rig.refuses(DropReason::PacketNotMedia, rtp(1), b.address, &[0, 1, 1, 6, 0, 0]);
    rig.refuses(DropReason::PacketNoPeer, rtp(0), a.address, &[0, 1, 1, 6, 0, 0]);
    let voice = b.rtp(1);
    rig.refuses(DropReason::PacketNoPeer, rtp(1), b.address, &voice);
    b.remote.rtcp = Rtcp::Port(Some(at("203.0.113.2:4001")));
    rig.configure(&b);
    rig.refuses(DropReason::PacketNoPeer, rtcp(1), at("203.0.113.2:4001"), &sender_report(1, 1, None));
}

#[test]
fn datagrams_of_a_foreign_source_are_refused() {
    let (mut rig, a, _) = fax();
    let packet = [0, 1, 1, 6, 0, 0];
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.9:4000"), &packet);
    assert!(rig.receive(rtp(0), a.address, &packet).is_some());
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("203.0.113.1:4001"), &packet);
}

#[test]
fn a_fax_that_takes_the_place_of_audio_latches_anew_and_plain_datagrams_never_reach_an_encrypted_leg() {
    let (mut rig, mut a, mut b) = Rig::call(PLAIN, srtp(SUITE, 2));
    a.remote.rtp = Some(at("10.0.0.1:4000"));
    rig.configure(&a);
    let voice = a.rtp(1);
    assert!(rig.receive(rtp(0), at("198.51.100.1:7"), &voice).is_some(), "behind a NAT, the first");
    for phone in [&mut a, &mut b] {
        phone.traffic = Traffic::Datagrams;
        rig.configure(phone);
    }
    let packet = [0, 1, 1, 6, 0, 0];
    rig.refuses(DropReason::PacketNoPeer, rtp(0), at("198.51.100.1:9"), &packet);
    rig.refuses(DropReason::PacketForeignSource, rtp(0), at("198.51.100.1:7"), &packet);
    rig.refuses(DropReason::PacketNotMedia, rtp(1), b.address, &packet);
}

#[test]
fn after_a_transfer_packets_go_to_the_new_peer_only() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let c = Phone::new(2, srtp(SUITE, 5), "203.0.113.3:4000");
    rig.open(2);
    rig.configure(&c);
    rig.command(Command::Connect { a: leg(0), b: leg(2) });
    let packet = a.rtp(1);
    assert_eq!(rig.receive(rtp(0), a.address, &packet).unwrap().0.to, c.address);
    let packet = b.rtp(1);
    rig.refuses(DropReason::PacketNoPeer, rtp(1), b.address, &packet);
}

// RTCP and its feedback.

fn rtcp_packet(flags: u8, packet_type: u8, words: &[u32]) -> Vec<u8> {
    let mut out = vec![0x80 | flags, packet_type];
    out.extend(u16::try_from(words.len()).unwrap().to_be_bytes());
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    out
}

/// Goal: whatever RTCP carries arrives as it was sent, under the keys of the other leg, whichever side sends it. Method: each
/// kind alone, as reduced-size RTCP (RFC 5506) allows, and behind a report, between all pairs of suites and plain.
#[test]
fn every_kind_of_rtcp_passes_both_ways_as_it_was_sent() {
    let receiver_report = || rtcp_packet(1, 201, &[7, 8, 0x0400_0002, 9, 80, 0, 0]);
    let kinds = [
        ("SR", sender_report(7, 1 << 40, Some((1, 2)))),
        ("RR", receiver_report()),
        ("SDES", rtcp_packet(1, 202, &[7, 0x0103_6140, 0x6200_0000])),
        ("BYE", rtcp_packet(1, 203, &[7])),
        ("APP", rtcp_packet(0, 204, &[7, 0x6e61_6d65, 1])),
        // RFC 4585 section 6.2.1.
        ("NACK", rtcp_packet(1, 205, &[7, 8, 0x0064_0003])),
        // draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
        ("transport-wide CC", rtcp_packet(15, 205, &[7, 8, 0x0001_0002, 0x0000_0a01, 0x2002_0408])),
        // RFC 4585 section 6.3.1.
        ("PLI", rtcp_packet(1, 206, &[7, 8])),
        // RFC 5104 section 4.3.1.
        ("FIR", rtcp_packet(4, 206, &[7, 0, 8, 0x0100_0000])),
        // draft-alvestrand-rmcat-remb-03 section 2.2.
        ("REMB", rtcp_packet(15, 206, &[7, 0, 0x5245_4d42, 0x0112_3456, 8])),
        ("XR", rtcp_packet(0, 207, &[7, 0x0700_0008, 8, 0x0503_8040, 1, 2, 3, 4, 5, 6])),
    ];
    let protections = || Suite::ALL.into_iter().map(|suite| srtp(suite, 1)).chain([PLAIN]);
    for (a, b) in protections().flat_map(|a| protections().map(move |b| (a.clone(), b))) {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        for (name, kind) in &kinds {
            for compound in [kind.clone(), [receiver_report(), kind.clone()].concat()] {
                let packet = a.rtcp(compound.clone());
                let (send, bytes) = rig.receive(rtp(0), a.address, &packet).expect(name);
                assert_eq!((send.to, &b.hears_rtcp(bytes)), (b.address, &compound), "{name}");
                let packet = b.rtcp(compound.clone());
                let (send, bytes) = rig.receive(rtp(1), b.address, &packet).expect(name);
                assert_eq!((send.to, &a.hears_rtcp(bytes)), (a.address, &compound), "{name}");
            }
        }
    }
}

#[test]
fn what_a_peer_reports_of_what_it_hears_is_in_its_legs_report() {
    let (mut rig, mut a, mut b) = encrypted_call();
    for _ in 0..100 {
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
    }
    // B has lost 10 of A's packets, whose SSRC is 0, at a jitter of 10 ms.
    let packet = b.rtcp(rtcp_packet(1, 201, &[1, 0, 0x1900_000a, 200, 80, 0, 0]));
    rig.receive(rtp(1), b.address, &packet).unwrap();
    let sent = rig.close(1).unwrap().sent.unwrap();
    assert_eq!((sent.packets_expected, sent.packets_lost, sent.jitter_ms), (100, 10, 10.0));
    assert!(sent.mos.is_some_and(|mos| mos < 4.0), "{:?}", sent.mos);
    assert_eq!(rig.close(0).unwrap().sent, None);
}

#[test]
fn metrics_of_the_far_telephone_are_in_its_legs_report() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let packet = a.rtp(1);
    rig.receive(rtp(0), a.address, &packet).unwrap();
    // Of A's SSRC 0: bursts lose half, gaps a quarter; MOS-LQ 4.2, MOS-CQ 3.9.
    let xr = [1, 0x0700_0008, 0, 0x0503_8040, 0x0078_2328, 0, 0, 0x5a7f_2a27, 0, 0];
    let packet = b.rtcp(rtcp_packet(0, 207, &xr));
    rig.receive(rtp(1), b.address, &packet).unwrap();
    let sent = rig.close(1).unwrap().sent.unwrap();
    let bursts = sent.bursts.unwrap();
    assert_eq!((sent.mos, bursts.burst_loss, bursts.burst_ms, bursts.gap_ms), (Some(3.9), 0.5, 120.0, 9_000.0));
}

/// Goal: what a telephone says of one partner is not said of the next. Method: another SSRC, as after a transfer or a hold.
#[test]
fn metrics_of_a_stream_that_is_over_are_not_those_of_the_next() {
    let (mut rig, mut a, mut b) = encrypted_call();
    let mut talk = |rig: &mut Rig, ssrc| {
        a.ssrc = ssrc;
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
    };
    talk(&mut rig, 0);
    let xr = [1, 0x0700_0008, 0, 0x0503_8040, 0x0078_2328, 0, 0, 0x5a7f_2a27, 0, 0];
    let report = rtcp_packet(1, 201, &[1, 0, 1, 101, 0, 0, 0]);
    let packet = b.rtcp([report, rtcp_packet(0, 207, &xr)].concat());
    rig.receive(rtp(1), b.address, &packet).unwrap();
    let sent = |rig: &mut Rig| {
        rig.command(Command::Report { leg: leg(1) });
        let Some(Event::Report { report, .. }) = rig.events.pop() else { panic!("{:?}", rig.events) };
        report.sent.unwrap()
    };
    assert_eq!(sent(&mut rig).mos, Some(3.9));
    talk(&mut rig, 9);
    let next = sent(&mut rig);
    assert!(next.bursts.is_none() && next.mos != Some(3.9), "{next:?}");
    assert_eq!((next.packets_expected, next.packets_lost), (2, 1), "what was lost before stays lost");
    talk(&mut rig, 0);
    assert_eq!(sent(&mut rig).mos, Some(3.9), "the first one is back");
}

// What other relays let through.

#[test]
fn a_replayed_packet_is_not_sent_on_encrypted_anew() {
    for suite in Suite::ALL {
        let (mut rig, mut a, _) = Rig::call(srtp(suite, 1), srtp(suite, 2));
        let packets: Vec<_> = (0..100).map(|fill| a.rtp(fill)).collect();
        let report = a.rtcp(sender_report(0, 1, None));
        for packet in packets.iter().chain([&report]) {
            assert!(rig.receive(rtp(0), a.address, packet).is_some());
        }
        for packet in packets.iter().chain([&report]) {
            rig.refuses(DropReason::SrtpReplayed, rtp(0), a.address, packet);
        }
        assert_eq!(rig.worker.packets_relayed(), 101);
    }
}

#[test]
fn a_doubled_packet_passes_once() {
    let protections = || [srtp(SUITE, 1), PLAIN].into_iter();
    for (a, b) in protections().flat_map(|a| protections().map(move |b| (a.clone(), b))) {
        let reason = if a == PLAIN { DropReason::PacketDuplicate } else { DropReason::SrtpReplayed };
        let (mut rig, mut a, _) = Rig::call(a, b);
        let packets: Vec<_> = (0..40).map(|fill| a.rtp(fill)).collect();
        // Two of them change places on the way.
        for at in (0..40).map(|n| n ^ 1) {
            assert!(rig.receive(rtp(0), a.address, &packets[at]).is_some(), "{at}");
            rig.refuses(reason, rtp(0), a.address, &packets[at]);
        }
        let report = rig.close(0).unwrap();
        assert_eq!((report.packets_received, report.received.packets_lost), (40, 0));
    }
}

/// Goal: while a leg's address is learned, nobody else's packets decide where its media goes. Method: before the peer's first
/// packet a stranger sends plain packets, forged ones and, once there is something to copy, copies.
#[test]
fn a_stranger_never_takes_over_while_the_address_is_learned() {
    let stranger = at("198.51.100.66:6666");
    let (mut rig, mut a, mut b) = encrypted_call();
    let heard = |rig: &mut Rig, b: &mut Phone| {
        let packet = b.rtp(1);
        rig.receive(rtp(1), b.address, &packet).unwrap().0.to
    };
    for sequence in 0..10 {
        rig.refuses(DropReason::SrtpBadTag, rtp(0), stranger, &plain_rtp(0, sequence, 1));
    }
    assert_eq!(heard(&mut rig, &mut b), a.address);
    let packets: Vec<_> = (0..10).map(|fill| a.rtp(fill)).collect();
    for packet in &packets {
        assert!(rig.receive(rtp(0), a.address, packet).is_some());
        for _ in 0..5 {
            rig.refuses(DropReason::SrtpReplayed, rtp(0), stranger, packet);
        }
        assert_eq!(heard(&mut rig, &mut b), a.address);
    }
    // Silence opens the socket to everybody; what it hears is judged all the same.
    rig.advance(5_000);
    for packet in &packets {
        rig.refuses(DropReason::SrtpReplayed, rtp(0), stranger, packet);
    }
    assert_eq!(heard(&mut rig, &mut b), a.address);
    assert!(rig.connects.iter().all(|(_, remote)| *remote != Some(stranger)));
}

#[test]
fn a_stream_whose_beginning_was_lost_before_a_wrap_is_heard() {
    for suite in Suite::ALL {
        let (mut rig, mut a, mut b) = Rig::call(srtp(suite, 1), srtp(suite, 2));
        a.sequence = 65_530;
        let lost = [0; 10].map(|fill| a.rtp(fill));
        for _ in 0..3 {
            let packet = a.rtp(3);
            let (_, bytes) = rig.receive(rtp(0), at("198.51.100.1:1024"), &packet).expect("behind a NAT");
            assert_eq!(b.hears(bytes), plain_rtp(0, a.sequence, 3));
        }
        for late in [&lost[9], &lost[0]] {
            assert!(rig.receive(rtp(0), at("198.51.100.1:1024"), late).is_some(), "what came late is");
        }
    }
}

/// Goal: whatever a stranger sends costs one tag check at most, while a key is replaced as well; and a flood under the peer's own
/// address a hundred more in a second. Method: the checks are counted where they are made.
#[test]
fn what_is_not_the_peer_s_costs_one_tag_check() {
    use crate::wire::srtp::testing::tag_checks;
    let stranger = at("198.51.100.66:6666");
    for suite in Suite::ALL {
        let (mut rig, mut a, mut b) = Rig::call(srtp(suite, 1), srtp(suite, 2));
        let mut packets = vec![a.rtp(1), a.rtp(2), a.rtcp(sender_report(0, 1, None))];
        let late = packets.remove(1);
        packets.iter().for_each(|packet| assert!(rig.receive(rtp(0), a.address, packet).is_some()));
        let of_b = b.rtp(1);
        packets.push(rig.receive(rtp(1), b.address, &of_b).expect("which comes back").1);
        a.rekey(srtp(suite, 3));
        rig.configure(&a);
        let fresh = [a.rtp(3), a.rtcp(sender_report(0, 2, None))];
        fresh.iter().for_each(|packet| assert!(rig.receive(rtp(0), a.address, packet).is_some()));
        let forged = [&packets[..], &fresh].concat().into_iter().flat_map(|packet| {
            [20, 8, 3].map(|at| {
                let mut forged = packet.clone();
                forged[at] ^= 1;
                forged
            })
        });
        let flood: Vec<_> = forged.chain(packets).chain(fresh).collect();
        for packet in &flood {
            let before = tag_checks();
            assert_eq!(rig.receive(rtp(0), stranger, packet), None, "{suite:?}");
            assert!(tag_checks() - before <= 1, "{suite:?}: {}", tag_checks() - before);
        }
        let before = tag_checks();
        for packet in flood.iter().cycle().take(1_000) {
            assert_eq!(rig.receive(rtp(0), a.address, packet), None, "{suite:?}");
        }
        assert!(tag_checks() - before <= 1_100, "{suite:?}: {}", tag_checks() - before);
        let packet = a.rtp(4);
        assert!(rig.receive(rtp(0), a.address, &packet).is_some(), "the peer is heard all the same");
        rig.advance(1_000);
        assert!(rig.receive(rtp(0), a.address, &late).is_some(), "and what was late under its old key");
    }
}

#[test]
fn a_stranger_never_takes_over_a_plain_leg_behind_a_nat_either() {
    let (stranger, nat) = (at("198.51.100.66:6666"), at("203.0.113.1:40000"));
    let (mut rig, mut a, mut b) = Rig::call(PLAIN, srtp(SUITE, 2));
    let home = at("192.168.0.9:4000");
    a.remote = Remote { rtp: Some(home), host: Some(nat.ip()), ..a.remote };
    rig.configure(&a);
    for _ in 0..10 {
        let packet = a.rtp(1);
        rig.refuses(DropReason::PacketForeignSource, rtp(0), stranger, &packet);
    }
    let packet = a.rtp(1);
    assert!(rig.receive(rtp(0), nat, &packet).is_some());
    let packet = b.rtp(1);
    assert_eq!(rig.receive(rtp(1), b.address, &packet).unwrap().0.to, nat);
}

/// Goal: what is said while the other side holds is read by nobody, here neither. Method: the relay without the worker, which wipes
/// what it drops.
#[test]
fn what_is_said_on_hold_is_not_decrypted() {
    for suite in Suite::ALL {
        let mut legs = Legs::new(2);
        let mut outputs = VecDeque::new();
        let (mut a, mut b) =
            (Phone::new(0, srtp(suite, 1), "203.0.113.1:4000"), Phone::new(1, srtp(suite, 2), "203.0.113.2:4000"));
        b.remote.wants_media = false;
        for phone in [&a, &b] {
            let mut of_phone = Leg::new(leg(phone.slot));
            let (receive, send) = (phone.sends.clone(), phone.receives.clone());
            let now = Instant::default();
            of_phone.configure(now, Traffic::Rtp, phone.remote, formats(), (receive, None), send, &mut outputs);
            assert!(legs.insert(of_phone));
        }
        legs.join(leg(0), leg(1));
        let packet = a.rtp(7);
        let mut buffer = [0; PACKET_BYTES_MAX];
        buffer[..packet.len()].copy_from_slice(&packet);
        let (source, len) = (a.address, packet.len());
        let datagram = Datagram { now: Instant::default(), port: rtp(0), source, buffer: &mut buffer, len };
        assert_eq!(relay(&mut legs, &mut outputs, datagram), Err(DropReason::PacketOnHold));
        assert_eq!(legs.at(0).unwrap().report(Instant::default()).packets_received, 1, "it is authentic");
        if !matches!(suite, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm) {
            assert_eq!(buffer[..len], packet);
        }
    }
}

#[test]
fn no_media_passes_to_a_leg_on_hold() {
    let protections = || [srtp(SUITE, 1), PLAIN].into_iter();
    for (a, b) in protections().flat_map(|a| protections().map(move |b| (a.clone(), b))) {
        let (mut rig, mut a, mut b) = Rig::call(a, b);
        let packet = a.rtp(1);
        rig.receive(rtp(0), a.address, &packet).unwrap();
        b.remote = Remote { wants_media: false, may_send: false, ..b.remote };
        rig.configure(&b);
        for _ in 0..50 {
            let packet = a.rtp(1);
            rig.refuses(DropReason::PacketOnHold, rtp(0), a.address, &packet);
            let packet = b.rtp(1);
            rig.refuses(DropReason::PacketOnHold, rtp(1), b.address, &packet);
        }
    }
}
