//! Figure 8 of the paper: efficiency (mean load over greatest load) at S=30 nodes, N=3, random placement.

use gramme_ring::strategies::{efficiency, equal_partitions, random_ranges, random_tokens_equal_partitions};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const NODES: usize = 30;
pub(crate) const REPLICAS: usize = 3;
/// Metadata units: tokens of strategy 1, partitions of strategy 3.
pub(crate) const METADATA: [usize; 10] = [60, 120, 240, 480, 960, 1_920, 3_840, 7_680, 15_360, 30_720];
/// What the paper's figure shows, strategy by strategy.
pub(crate) const PAPER: [[f64; 10]; 3] = [
    [0.52, 0.61, 0.69, 0.76, 0.82, 0.87, 0.91, 0.93, 0.95, 0.96],
    [0.53, 0.61, 0.70, 0.76, 0.82, 0.85, 0.88, 0.87, 0.85, 0.84],
    [0.86, 0.87, 0.90, 0.92, 0.94, 0.96, 0.97, 0.98, 0.98, 0.99],
];

/// A strategy's efficiency with so much metadata, the mean over enough draws that its own noise is well under
/// a hundredth. The paper does not say how strategy 2 splits its metadata between tokens and partitions: half
/// and half here.
pub(crate) fn ours(strategy: usize, metadata: usize) -> f64 {
    match strategy {
        1 => mean(metadata, |rng| random_ranges(random_tokens(metadata, rng), NODES, REPLICAS)),
        2 => mean(metadata, |rng| {
            let tokens = metadata / 2;
            random_tokens_equal_partitions(random_tokens(tokens, rng), NODES, metadata - tokens, REPLICAS)
        }),
        _ => mean(metadata, |rng| {
            let mut tokens: Vec<usize> = (0..metadata).map(|token| token % NODES).collect();
            tokens.shuffle(rng);
            equal_partitions(&tokens, NODES, REPLICAS)
        }),
    }
}

fn mean(metadata: usize, mut draw: impl FnMut(&mut ChaCha8Rng) -> Vec<f64>) -> f64 {
    let draws = (200_000 / metadata).clamp(20, 400);
    let mut rng = ChaCha8Rng::seed_from_u64(metadata as u64);
    (0..draws).map(|_| efficiency(&draw(&mut rng))).sum::<f64>() / draws as f64
}

fn random_tokens(count: usize, rng: &mut ChaCha8Rng) -> Vec<(f64, usize)> {
    (0..count).map(|token| (rng.random::<f64>(), token % NODES)).collect()
}
