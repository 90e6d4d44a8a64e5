//! Counting a whole put, and a whole get, of three replicas.
#![allow(missing_docs, reason = "the macros make functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gramme_object::Object;
use gramme_quorum::{Ack, GetReply, GetRequest, PutNeeds, PutRequest, Sets, Tenure};
use gramme_ring::NodeId;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn count(criterion: &mut Criterion) {
    let sets = Sets::one(NODES.to_vec(), 2);
    criterion.bench_function("put", |bencher| {
        bencher.iter(|| {
            let mut put = PutRequest::new(black_box(&sets), PutNeeds::default());
            for node in NODES {
                let (tenure, known) = (Tenure::default(), Vec::new());
                black_box(put.on_ack(Ack { node, zone: 0, synced: true, tenure, known }));
            }
        });
    });
    criterion.bench_function("get", |bencher| {
        bencher.iter(|| {
            let mut get = GetRequest::new(black_box(&sets), 0);
            for node in NODES {
                black_box(get.on_reply(node, GetReply::Object(Object::new())));
            }
        });
    });
}

criterion_group!(benches, count);
criterion_main!(benches);
