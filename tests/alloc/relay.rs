//! A media worker: over a million packets of a call, RTCP, moves of both telephones and changes of their SSRCs included, only the
//! second SSRC of each makes room, once; and what a leg takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringdown::{
    media::{
        Command, Formats, Protection, Remote, Rtcp, Worker,
        worker::{Channel, Input, Output, Port},
    },
    types::{Duration, Instant, LegId, Rng, limits::PACKET_BYTES_MAX},
    wire::{
        classify::Traffic,
        sdp,
        srtp::{MasterKey, Outbound, Suite},
    },
};

use super::{allocations, bytes_kept};

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.18.0.1\r\nc=IN IP4 198.18.0.1\r\nm=audio 4000 RTP/SAVP 0 8\r\n";
const RTP_BYTES: usize = 12 + 40;
const PACKETS: u32 = 1_000_000;
const RTCP_EVERY: u32 = 500;
const MOVES_EVERY: u32 = 70_001;
const SSRC_EVERY: u32 = 200_000;
/// At its second SSRC each of two telephones makes room where its RTP and its RTCP are received and where they are sent, and where
/// its delivery is measured.
const ROOMS: usize = 2 * 5;

struct Phone {
    slot: u32,
    outbound: Outbound,
    port: u16,
    ssrc: u32,
    sequence: u16,
}

impl Phone {
    fn address(&self) -> SocketAddr {
        let [_, _, high, low] = self.slot.to_be_bytes();
        SocketAddr::from(([198, 18, high, low], self.port))
    }

    fn write(&mut self, buffer: &mut [u8], is_rtcp: bool) -> usize {
        if is_rtcp {
            buffer[..28].fill(0);
            buffer[..4].copy_from_slice(&[0x80, 200, 0, 6]);
            buffer[4..8].copy_from_slice(&self.ssrc.to_be_bytes());
            return self.outbound.protect_rtcp(buffer, 28).unwrap();
        }
        self.sequence = self.sequence.wrapping_add(1);
        buffer[..RTP_BYTES].fill(0x55);
        buffer[..2].copy_from_slice(&[0x80, 0]);
        buffer[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        buffer[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.outbound.protect_rtp(buffer, RTP_BYTES).unwrap()
    }
}

fn command(worker: &mut Worker, now: Instant, command: Command) {
    worker.handle_input(now, Input::Command(command));
    drain(worker);
}

/// Returns how often a socket was to hear another peer.
fn drain(worker: &mut Worker) -> u32 {
    let mut moves = 0;
    loop {
        match worker.poll_output() {
            Output::Timeout(_) => return moves,
            Output::Connect { remote, .. } => moves += u32::from(remote.is_some()),
            Output::Bind { .. } | Output::Unbind { .. } | Output::Transmit { .. } | Output::Event(_) => {}
        }
    }
}

/// So many legs, joined in pairs, and their telephones.
fn talking(now: Instant, suite: Suite, legs: u32) -> (Worker, Vec<Phone>) {
    let mut worker = Worker::new(0, legs);
    let mut rng = Rng::from_small_seed(1);
    let formats = Formats::of(&sdp::parse(SDP.as_bytes()).unwrap().media);
    let id = |slot| LegId { worker: 0, slot, generation: 1 };
    let phones = (0..legs).map(|slot| {
        let leg = id(slot);
        let [sends, receives] = [(); 2].map(|()| MasterKey::generate(suite, &mut rng));
        let outbound = Outbound::new(suite, &sends);
        let phone = Phone { slot, outbound, port: 4_000, ssrc: slot, sequence: 0 };
        command(&mut worker, now, Command::Open { leg, address: IpAddr::V4(Ipv4Addr::LOCALHOST), dscp: 0 });
        let rtp = Some(phone.address());
        let remote =
            Remote { rtp, rtcp: Rtcp::Multiplexed, host: None, network: None, wants_media: true, may_send: true };
        let [receive, send] = [sends, receives].map(|key| Protection::Srtp { suite, key, mki_bytes: 0 });
        let (traffic, formats) = (Traffic::Rtp, formats.clone());
        command(&mut worker, now, Command::Configure { leg, traffic, remote, formats, receive, send, history: None });
        command(&mut worker, now, Command::Watch { leg });
        if slot % 2 == 1 {
            command(&mut worker, now, Command::Connect { a: id(slot - 1), b: leg });
        }
        phone
    });
    let phones = phones.collect();
    (worker, phones)
}

#[test]
fn a_million_packets_allocate_nothing_but_room_at_a_second_ssrc() {
    let mut now = Instant::from_unix_ms(1_700_000_000_000);
    let (mut worker, mut phones) = talking(now, Suite::AesCm128HmacSha1_80, 2);
    let mut buffer = [0; PACKET_BYTES_MAX];
    let (mut before, mut at_second, mut after, mut moves) = (0, 0, 0, 0);
    for n in 0..PACKETS {
        let phone = &mut phones[usize::from(n % 2 == 1)];
        // An odd number of packets, so that each telephone has its turn.
        if n % MOVES_EVERY == MOVES_EVERY - 1 {
            phone.port += 1;
        }
        phone.ssrc = phone.slot + 100 * (n / SSRC_EVERY);
        let len = phone.write(&mut buffer, n % RTCP_EVERY < 2);
        let (source, port) = (phone.address(), Port { slot: phone.slot, channel: Channel::Rtp });
        now = now + Duration::from_millis(10);
        let count = allocations(|| {
            assert!(worker.receive(now, port, source, &mut buffer, len).is_some(), "packet {n}: {:?}", worker.drops());
            worker.handle_input(now, Input::Timeout);
            moves += drain(&mut worker);
        });
        match n / SSRC_EVERY {
            0 => before += count,
            1 => at_second += count,
            _ => after += count,
        }
    }
    assert_eq!((before, at_second, after), (0, ROOMS, 0));
    assert!(moves >= 2 + PACKETS / MOVES_EVERY, "both latched, and each move was followed: {moves}");
    assert_eq!(worker.packets_relayed(), u64::from(PACKETS));
}

/// The limit that memory for calls is planned by.
#[test]
fn a_leg_takes_at_most_2048_bytes() {
    const LEGS: u32 = 64;
    let now = Instant::from_unix_ms(1_700_000_000_000);
    for suite in Suite::ALL.into_iter().filter(|suite| !matches!(suite, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)) {
        let mut buffer = [0; PACKET_BYTES_MAX];
        let (bytes, (worker, phones)) = bytes_kept(|| {
            let (mut worker, mut phones) = talking(now, suite, LEGS);
            for phone in &mut phones {
                for is_rtcp in [false, true] {
                    let len = phone.write(&mut buffer, is_rtcp);
                    let port = Port { slot: phone.slot, channel: Channel::Rtp };
                    assert!(worker.receive(now, port, phone.address(), &mut buffer, len).is_some());
                }
                drain(&mut worker);
            }
            (worker, phones)
        });
        let (of_phones, ()) = bytes_kept(|| drop(phones));
        let each = (bytes + of_phones) / i64::from(LEGS);
        assert!((1_000..=2_048).contains(&each), "{suite:?}: {each} bytes");
        drop(worker);
    }
}
