//! What a media leg takes of memory: the heap of its worker, and what the kernel keeps for its two sockets.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use ringdown::{
    media::{
        Command, Formats, Protection, Remote, Rtcp, Worker,
        ports::Ports,
        worker::{Channel, Input, Output, Port},
    },
    shell::{
        clock::Clock,
        media_io::{Backend, MediaPlane},
    },
    types::{self, LegId, Rng, limits::PACKET_BYTES_MAX},
    wire::{
        classify::Traffic,
        sdp,
        srtp::{MasterKey, Outbound, Suite, TAG_ROOM_BYTES},
    },
};

use crate::heap;

const SUITE: Suite = Suite::AesCm128HmacSha1_80;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FIRST_PORT: u16 = 10_000;
const HEADER_BYTES: usize = 12;
const PACKET_BYTES: usize = 172;
/// What a telephone offers.
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 198.18.0.1\r\nc=IN IP4 198.18.0.1\r\nm=audio 4000 RTP/SAVP 9 0 8 18 101\r\n\
                   a=rtpmap:101 telephone-event/8000\r\n";

/// Bytes for each of so many legs with SRTP, joined in pairs, each of which has had a packet; the table of slots included.
pub(crate) fn heap_each(legs: u32) -> u64 {
    let now = types::Instant::from_unix_ms(1_700_000_000_000);
    let before = heap::bytes_in_use();
    let mut worker = Worker::new(0, legs);
    let mut rng = Rng::from_small_seed(1);
    let ids: Vec<_> = (0..legs).map(|slot| LegId { worker: 0, slot, generation: 1 }).collect();
    let own = ids.capacity() * size_of::<LegId>();
    for leg in &ids {
        let [receive, send] = [(); 2].map(|()| MasterKey::generate(SUITE, &mut rng));
        command(&mut worker, now, Command::Open { leg: *leg, address: LOCALHOST, dscp: 0 });
        command(&mut worker, now, configure(*leg, receive.clone(), send));
        command(&mut worker, now, Command::Watch { leg: *leg });
        if leg.slot % 2 == 1 {
            command(&mut worker, now, Command::Connect { a: ids[leg.slot as usize - 1], b: *leg });
        }
        let (mut packet, len) = packet(&receive);
        let port = Port { slot: leg.slot, channel: Channel::Rtp };
        worker.receive(now, port, device(leg.slot), &mut packet, len);
        drain(&mut worker);
    }
    (heap::bytes_in_use() - before - own as u64) / u64::from(legs)
}

fn command(worker: &mut Worker, now: types::Instant, command: Command) {
    worker.handle_input(now, Input::Command(command));
    drain(worker);
}

fn drain(worker: &mut Worker) {
    while !matches!(worker.poll_output(), Output::Timeout(_)) {}
}

fn configure(leg: LegId, receive: MasterKey, send: MasterKey) -> Command {
    let [receive, send] = [receive, send].map(|key| Protection::Srtp { suite: SUITE, key, mki_bytes: 0 });
    let remote = Remote {
        rtp: Some(device(leg.slot)),
        rtcp: Rtcp::Multiplexed,
        host: None,
        network: None,
        wants_media: true,
        may_send: true,
    };
    let sections = sdp::parse(SDP.as_bytes()).unwrap().media;
    let formats = Formats::of(&sections);
    Command::Configure { leg, traffic: Traffic::Rtp, remote, formats, receive, send, history: None }
}

fn device(slot: u32) -> SocketAddr {
    SocketAddr::from(([198, 18, (slot >> 8) as u8, slot as u8], 4_000))
}

fn packet(key: &MasterKey) -> ([u8; PACKET_BYTES_MAX], usize) {
    let mut packet = [0; PACKET_BYTES_MAX];
    packet[0] = 0x80;
    packet[HEADER_BYTES..PACKET_BYTES].fill(0x55);
    let len =
        Outbound::new(SUITE, key).protect_rtp(&mut packet[..PACKET_BYTES + TAG_ROOM_BYTES], PACKET_BYTES).unwrap();
    (packet, len)
}

/// Bytes of the kernel's slabs for each of so many legs whose sockets are open and empty: two sockets with their files and
/// their places in the epoll set. Whatever else the machine does meanwhile is counted along.
pub(crate) fn kernel_each(legs: u16) -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let range = FIRST_PORT..=FIRST_PORT + 2 * legs - 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _entered = runtime.enter();
    let mut plane = MediaPlane::start(Clock::start(), &range, 1, Backend::default()).unwrap();
    let mut ports = Ports::new(&range, 1);
    let before = slab_bytes();
    for count in 1..=legs {
        let leg = ports.take(0, LOCALHOST).unwrap();
        plane.send(0, Command::Open { leg, address: LOCALHOST, dscp: 0 }).unwrap();
        if count.is_multiple_of(1_000) || count == legs {
            plane.wake();
            wait_for_legs(&plane, count);
        }
    }
    slab_bytes().saturating_sub(before) / u64::from(legs)
}

fn wait_for_legs(plane: &MediaPlane, legs: u16) {
    let end = Instant::now() + Duration::from_secs(10);
    while plane.counters().totals().legs < u64::from(legs) {
        assert!(Instant::now() < end, "the worker does not open its ports");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn slab_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:")?.strip_suffix("kB")).unwrap();
    line.trim().parse::<u64>().unwrap() * 1_024
}
