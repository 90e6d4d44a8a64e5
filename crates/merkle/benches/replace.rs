//! One write: a digest is replaced; and what it costs to know the root after each, and after a thousand.
#![allow(missing_docs, reason = "the macros make functions without documentation")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gramme_merkle::{Digest, Tree};

const BITS: u8 = 12;

fn replace(criterion: &mut Criterion) {
    let (old, new) = (Digest::of(b"key", b"old"), Digest::of(b"key", b"new"));
    let mut tree = Tree::new(BITS);
    for leaf in 0..1_u64 << BITS {
        tree.replace(leaf << (64 - BITS), None, Some(old));
    }
    let mut place = 0_u64;
    let mut write = |tree: &mut Tree| {
        place = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
        tree.replace(place, Some(old), Some(black_box(new)));
        tree.replace(place, Some(new), Some(old));
    };
    criterion.bench_function("replace", |bencher| bencher.iter(|| write(&mut tree)));
    criterion.bench_function("replace, then the root", |bencher| {
        bencher.iter(|| {
            write(&mut tree);
            tree.hash(0, 0)
        });
    });
    criterion.bench_function("a thousand, then the root", |bencher| {
        bencher.iter(|| {
            (0..1_000).for_each(|_| write(&mut tree));
            tree.hash(0, 0)
        });
    });
}

criterion_group!(benches, replace);
criterion_main!(benches);
