//! Protect and unprotect in place at the sizes of a G.729, a G.711 and a video packet, for each suite, beside `rtc-srtp`
//! doing the same work: a fresh sequence number each time, replay protection on. `transcrypt` is a relay's step, from
//! one leg's key to another's.
//!
//! Names are `srtp/SUITE/BYTES/SUBJECT`.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "criterion_group makes a public function")]

use std::{hint::black_box, time::Duration};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use ringdown::{
    types::Rng,
    wire::srtp::{Inbound, MasterKey, Outbound, Suite, TAG_ROOM_BYTES, transcrypt_rtp},
};
use rtc_srtp::{context::Context, option::srtp_replay_protection, protection_profile::ProtectionProfile};

const SUITES: [(&str, Suite, ProtectionProfile); 6] = [
    ("cm128_32", Suite::AesCm128HmacSha1_32, ProtectionProfile::Aes128CmHmacSha1_32),
    ("cm128_80", Suite::AesCm128HmacSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ("cm256_32", Suite::AesCm256HmacSha1_32, ProtectionProfile::Aes256CmHmacSha1_32),
    ("cm256_80", Suite::AesCm256HmacSha1_80, ProtectionProfile::Aes256CmHmacSha1_80),
    ("gcm128", Suite::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    ("gcm256", Suite::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
];
/// RTP packets, header included.
const SIZES_BYTES: [usize; 3] = [60, 172, 1_200];
const BUFFER_BYTES: usize = 1_200 + TAG_ROOM_BYTES;

fn srtp(criterion: &mut Criterion) {
    for (name, suite, profile) in SUITES {
        for bytes in SIZES_BYTES {
            let mut group = criterion.benchmark_group(format!("srtp/{name}/{bytes}"));
            group.throughput(Throughput::Bytes(u64::try_from(bytes).unwrap()));
            ringdown(&mut group, suite, bytes);
            rtc_srtp(&mut group, suite, profile, bytes);
            transcrypt(&mut group, suite, bytes);
            group.finish();
        }
    }
}

fn ringdown(group: &mut BenchmarkGroup<'_, WallTime>, suite: Suite, bytes: usize) {
    let key = MasterKey::generate(suite, &mut Rng::from_small_seed(1));
    let (mut outbound, mut inbound) = (Outbound::new(suite, &key), Inbound::new(suite, &key, None));
    let (mut packet, mut sequence) = (first_packet(), 0);
    group.bench_function("ringdown", |bencher| {
        bencher.iter(|| {
            write_sequence(&mut packet, &mut sequence);
            let len = outbound.protect_rtp(&mut packet, bytes).unwrap();
            inbound.unprotect_rtp(black_box(&mut packet[..len])).unwrap()
        });
    });
}

fn rtc_srtp(group: &mut BenchmarkGroup<'_, WallTime>, suite: Suite, profile: ProtectionProfile, bytes: usize) {
    let key = MasterKey::generate(suite, &mut Rng::from_small_seed(1));
    let (master, salt) = key.expose().split_at(suite.key_bytes());
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let context = |replay| Context::new(master, salt, profile, replay, None, provider.crypto()).unwrap();
    let (mut sender, mut receiver) = (context(None), context(Some(srtp_replay_protection(64))));
    let (mut packet, mut sequence) = (first_packet(), 0);
    group.bench_function("rtc-srtp", |bencher| {
        bencher.iter(|| {
            write_sequence(&mut packet, &mut sequence);
            let protected = sender.encrypt_rtp(&packet[..bytes]).unwrap();
            receiver.decrypt_rtp(black_box(&protected)).unwrap()
        });
    });
}

fn transcrypt(group: &mut BenchmarkGroup<'_, WallTime>, suite: Suite, bytes: usize) {
    let mut rng = Rng::from_small_seed(1);
    let (key_a, key_b) = (MasterKey::generate(suite, &mut rng), MasterKey::generate(suite, &mut rng));
    let (mut sender, mut inbound) = (Outbound::new(suite, &key_a), Inbound::new(suite, &key_a, None));
    let mut outbound = Outbound::new(suite, &key_b);
    let mut sequence = 0;
    group.bench_function("transcrypt", |bencher| {
        let receive = || {
            let mut packet = first_packet();
            write_sequence(&mut packet, &mut sequence);
            let len = sender.protect_rtp(&mut packet, bytes).unwrap();
            (packet, len)
        };
        bencher.iter_batched_ref(
            receive,
            |(packet, len)| transcrypt_rtp(&mut inbound, &mut outbound, black_box(packet), *len).unwrap().unwrap(),
            BatchSize::SmallInput,
        );
    });
}

fn first_packet() -> [u8; BUFFER_BYTES] {
    let mut packet = [0x5a; BUFFER_BYTES];
    packet[..12].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0xca, 0xfe, 0xba, 0xbe]);
    packet
}

fn write_sequence(packet: &mut [u8], sequence: &mut u16) {
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    *sequence = sequence.wrapping_add(1);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_000));
    targets = srtp
}
criterion_main!(benches);
