//! Placing partitions, from nothing and with one node more.
#![allow(missing_docs, reason = "the macros make functions without documentation")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gramme_ring::{Member, NodeId, PlanRequest, plan};

fn place(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    for nodes in [10, 100] {
        let members: Vec<_> = (1..=nodes).map(|id| Member::new(NodeId(id))).collect();
        let founding = PlanRequest { members: &members, replicas: 3, depth: 10, previous: None };
        group.bench_function(BenchmarkId::new("found", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&founding)));
        });
        let before = plan(&founding).expect("enough members").layout;
        let grown: Vec<_> = (1..=nodes + 1).map(|id| Member::new(NodeId(id))).collect();
        let growing = PlanRequest { members: &grown, replicas: 3, depth: 10, previous: Some(&before) };
        group.bench_function(BenchmarkId::new("grow", nodes), |bencher| {
            bencher.iter(|| plan(black_box(&growing)));
        });
    }
    group.finish();
}

criterion_group!(benches, place);
criterion_main!(benches);
