//! The stored form of an object, by the size of its value.
#![allow(missing_docs, reason = "the macros make functions without documentation")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gramme_object::{Content, Object, Sibling, Stamp};
use gramme_vclock::{Actor, Context, Dot};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("object");
    for size in [100, 1_000, 100_000] {
        let content = Some(Content::from_body(&vec![b'v'; size]));
        let sibling = Sibling { stamp: Stamp::at_millis(1), write_id: 1, expires: None, content };
        let object = Object::from_write(&Context::new(), Dot::new(Actor(1), 1), sibling);
        let stored = Bytes::from(object.encode());
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| black_box(&object).encode());
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| Object::decode(black_box(&stored)));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
