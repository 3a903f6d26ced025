//! SIP: from received bytes to a message that may be acted on, beside `rsip` on the same bytes.
//!
//! `ringdown/index` finds lines and names headers, `ringdown/index+validate` has also read every mandatory header and
//! every address when it is done. `rsip/parse` splits lines and copies values unread; `rsip/parse+typed` then reads
//! Via, From, To and CSeq, which is less than `validate` looks at: its typed Contact cannot read a phone's `+sip.instance`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringdown::wire::sip::{Message, ResponseBuilder, validate};
use rsip::{
    SipMessage,
    prelude::{HeadersExt, ToTypedHeader},
};

const MESSAGES: [(&str, &[u8]); 2] =
    [("invite", include_bytes!("../tests/vectors/invite.sip")), ("ok", include_bytes!("../tests/vectors/ok.sip"))];

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sip/read");
    for (name, text) in MESSAGES {
        let size = format!("{name}/{}B", text.len());
        let bytes = Bytes::from_static(text);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("ringdown/index", &size), |b| {
            b.iter(|| black_box(Message::parse(black_box(&bytes).clone())).is_ok());
        });
        group.bench_function(BenchmarkId::new("ringdown/index+validate", &size), |b| {
            b.iter(|| {
                let message = Message::parse(black_box(&bytes).clone()).expect("an index");
                validate(&message).expect("a valid message");
                message
            });
        });
        group.bench_function(BenchmarkId::new("rsip/parse", &size), |b| {
            b.iter(|| SipMessage::try_from(black_box(text)).expect("a message"));
        });
        group.bench_function(BenchmarkId::new("rsip/parse+typed", &size), |b| {
            b.iter(|| {
                let message = SipMessage::try_from(black_box(text)).expect("a message");
                black_box(message.via_header().expect("Via").typed().expect("typed Via"));
                black_box(message.from_header().expect("From").typed().expect("typed From"));
                black_box(message.to_header().expect("To").typed().expect("typed To"));
                black_box(message.cseq_header().expect("CSeq").typed().expect("typed CSeq"));
                message
            });
        });
    }
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let request = Message::parse(Bytes::from_static(MESSAGES[0].1)).expect("an index");
    let source = "198.51.100.23:49612".parse().expect("an address");
    criterion.bench_function("sip/write/180", |b| {
        b.iter(|| ResponseBuilder::to(black_box(&request), 180, "Ringing", "a1b2c3d4", source).finish());
    });
}

criterion_group!(benches, read, write);
criterion_main!(benches);
