//! The paper's three ways to cut and place the ring (section 6.2), to reproduce its figure 8.
//!
//! The store uses the third, placed by [`plan`](crate::plan) instead of at random. Each function takes the
//! random order as its input and returns each node's load as a share of the whole keyspace times N; use
//! [`efficiency`] on it. Nodes are numbered 0 to S−1.

use alloc::vec;
use alloc::vec::Vec;

/// Mean load over the load of the most loaded node: 1 is perfect balance.
///
/// ```
/// assert_eq!(gramme_ring::strategies::efficiency(&[1.0, 2.0, 3.0]), 2.0 / 3.0);
/// ```
#[must_use]
pub fn efficiency(loads: &[f64]) -> f64 {
    let most = loads.iter().copied().fold(0.0, f64::max);
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    if most == 0.0 { 1.0 } else { mean / most }
}

/// Strategy 1: random tokens, and the ranges between them are the partitions.
///
/// `tokens` holds (position in 0..1, node), in any order. A range belongs to the first `replicas` distinct
/// nodes from its end clockwise. Metadata: the tokens. O(tokens × replicas) after sorting.
#[must_use]
pub fn random_ranges(mut tokens: Vec<(f64, usize)>, nodes: usize, replicas: usize) -> Vec<f64> {
    tokens.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut loads = vec![0.0; nodes];
    for at in 0..tokens.len() {
        let before = if at == 0 { tokens[tokens.len() - 1].0 - 1.0 } else { tokens[at - 1].0 };
        let length = tokens[at].0 - before;
        for node in distinct_clockwise(&tokens, at, replicas) {
            loads[node] += length;
        }
    }
    loads
}

/// Strategy 2: random tokens choose the owners, but the keyspace is cut into `partitions` equal ranges.
///
/// A partition belongs to the first `replicas` distinct nodes clockwise from its end. Metadata: the tokens
/// and the partitions.
#[must_use]
pub fn random_tokens_equal_partitions(
    mut tokens: Vec<(f64, usize)>,
    nodes: usize,
    partitions: usize,
    replicas: usize,
) -> Vec<f64> {
    tokens.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut loads = vec![0.0; nodes];
    for partition in 1..=partitions {
        let end = partition as f64 / partitions as f64;
        let at = tokens.partition_point(|&(position, _)| position < end) % tokens.len();
        for node in distinct_clockwise(&tokens, at, replicas) {
            loads[node] += 1.0 / partitions as f64;
        }
    }
    loads
}

/// Strategy 3: equal partitions, and every node has the same number of tokens (partitions it comes first in).
///
/// `tokens[p]` is the node whose token partition `p` is. The replicas of a partition are its token's node and
/// the next distinct ones. Metadata: the partitions.
#[must_use]
pub fn equal_partitions(tokens: &[usize], nodes: usize, replicas: usize) -> Vec<f64> {
    let placed: Vec<(f64, usize)> = tokens.iter().map(|&node| (0.0, node)).collect();
    let mut loads = vec![0.0; nodes];
    for at in 0..tokens.len() {
        for node in distinct_clockwise(&placed, at, replicas) {
            loads[node] += 1.0 / tokens.len() as f64;
        }
    }
    loads
}

fn distinct_clockwise(tokens: &[(f64, usize)], from: usize, replicas: usize) -> Vec<usize> {
    let mut owners = Vec::with_capacity(replicas);
    for step in 0..tokens.len() {
        let node = tokens[(from + step) % tokens.len()].1;
        if !owners.contains(&node) {
            owners.push(node);
            if owners.len() == replicas {
                break;
            }
        }
    }
    owners
}
