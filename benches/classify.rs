//! Emergency numbers: what the test of every Request-URI costs, before anything else looks at a call. It must not grow faster
//! than the text, and a plain extension pays for one look at each byte and the text it returns.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringdown::policy::emergency::{Site, classify};

fn classification(criterion: &mut Criterion) {
    let site = Site::for_region("US", &["9"], &["pbx.example.com"]).expect("US is a region");
    let mut group = criterion.benchmark_group("emergency/classify");
    for (name, uri) in [
        ("extension", "sip:1001@pbx.example.com"),
        ("outside", "sip:+442079460123@pbx.example.com;user=phone"),
        ("911", "sip:911@pbx.example.com"),
        ("9-1-1", "sip:9-1-1@pbx.example.com"),
        ("full-width", "sip:%EF%BC%99%EF%BC%91%EF%BC%91@pbx.example.com"),
        ("urn", "urn:service:sos.police"),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(classify(black_box(uri), &site))));
    }
    for digits in [100, 1_000, 10_000] {
        let uri = format!("sip:{}@pbx.example.com", "9".repeat(digits));
        group.throughput(Throughput::Bytes(uri.len() as u64));
        group.bench_with_input(BenchmarkId::new("digits", digits), &uri, |b, uri| {
            b.iter(|| black_box(classify(black_box(uri), &site)));
        });
    }
    group.finish();
}

criterion_group!(benches, classification);
criterion_main!(benches);
