//! Merging two replicas' versions of one key, by how many nodes have written it.
#![allow(missing_docs, reason = "the macros make functions without documentation")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gramme_vclock::{Actor, Dot, VersionSet};

/// A key that each of `actors` has overwritten, and then one of them once more.
fn written(actors: u64, last: u64) -> VersionSet<u64> {
    let mut versions = VersionSet::new();
    for actor in (1..=actors).chain([last]) {
        let read = versions.context().clone();
        let dot = Dot::new(Actor(actor), actor + u64::from(actor == last));
        versions.put(&read, dot, actor);
        versions.raise_own_entry(dot);
    }
    versions
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    for actors in [1, 3, 10] {
        let (ours, theirs) = (written(actors, 1), written(actors, actors));
        group.bench_function(BenchmarkId::from_parameter(actors), |bencher| {
            bencher.iter(|| {
                let mut merged = ours.clone();
                merged.merge(black_box(&theirs));
                merged
            });
        });
    }
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
