#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod call;

use std::collections::BTreeMap;

pub use call::{ATTEMPTS, Call, Step, Verdict};

use gramme_ring::{KeyHash, Layout, NodeId};

/// How long a node that failed is asked last, in microseconds.
const AVOID_MICROS: u64 = 1_000_000;
/// A hedge costs this many requests' worth of budget: at most a tenth of reads are asked twice.
const HEDGE_COST: u32 = 10;
/// The budget never exceeds this many hedges, so that a long calm cannot pay for a storm.
const HEDGES_SAVED: u32 = 10;
/// A read is never asked twice sooner than this, in microseconds.
const MIN_HEDGE_MICROS: u64 = 1_000;

/// Whether a request may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A get.
    Read,
    /// A put or delete.
    Write,
}

/// How a request to one node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered after this many microseconds.
    Answered(u64),
    /// The node said that it is too busy and had not begun.
    Busy,
    /// The node said that it could not do it, and that nothing was changed: too few replicas, a full disk.
    Unable,
    /// Not a byte had left: no connection.
    NotSent,
    /// It had left, and no answer came.
    Unknown,
}

impl Outcome {
    /// Whether the same request may go to another node. A write whose outcome is unknown may not: it could be
    /// applied twice.
    #[must_use]
    pub fn may_retry(self, operation: Operation) -> bool {
        match self {
            Self::Answered(_) => false,
            Self::Busy | Self::Unable | Self::NotSent => true,
            Self::Unknown => operation == Operation::Read,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// Moving averages, in microseconds: of the latency and of its deviation.
    latency: u64,
    deviation: u64,
    avoid_until: u64,
}

/// The routing state of one client.
#[derive(Clone, Debug)]
pub struct Router {
    layout: Layout,
    health: BTreeMap<NodeId, Health>,
    budget: u32,
}

impl Router {
    /// A router over `layout`, which knows nothing yet about its nodes.
    #[must_use]
    pub const fn new(layout: Layout) -> Self {
        Self { layout, health: BTreeMap::new(), budget: 0 }
    }

    /// The layout in use.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes a newer layout; an older one is ignored.
    pub fn set_layout(&mut self, layout: Layout) {
        if layout.rank() > self.layout.rank() {
            self.layout = layout;
        }
    }

    /// All nodes in the order in which to ask them for `hash` at time `now` (microseconds): owners before
    /// others, those that failed lately last within each, then by latency. O(S log S).
    #[must_use]
    pub fn candidates(&self, hash: KeyHash, now: u64) -> Vec<NodeId> {
        let partition = self.layout.partition_of(hash);
        let owners = self.layout.owners(partition).len();
        let mut ranked: Vec<_> = self
            .layout
            .preference_list(partition)
            .into_iter()
            .enumerate()
            .map(|(at, node)| {
                let health = self.health.get(&node).copied().unwrap_or_default();
                // Latencies within a factor of two are alike: the order of the ring then spreads the load.
                let latency = u64::BITS - health.latency.leading_zeros();
                (health.avoid_until > now, at >= owners, latency, at, node)
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., node)| node).collect()
    }

    /// After how many microseconds a read of `node` may be asked of a second node as well.
    #[must_use]
    pub fn hedge_after(&self, node: NodeId) -> Option<u64> {
        let health = self.health.get(&node).filter(|health| health.latency > 0)?;
        Some((health.latency + 4 * health.deviation).max(MIN_HEDGE_MICROS))
    }

    /// Takes one hedge out of the budget; says whether there was one.
    pub const fn try_hedge(&mut self) -> bool {
        match self.budget.checked_sub(HEDGE_COST) {
            Some(rest) => {
                self.budget = rest;
                true
            }
            None => false,
        }
    }

    /// Tells it how a request ended at time `now`.
    pub fn on_outcome(&mut self, node: NodeId, outcome: Outcome, now: u64) {
        let health = self.health.entry(node).or_default();
        match outcome {
            Outcome::Answered(micros) => {
                self.budget = (self.budget + 1).min(HEDGE_COST * HEDGES_SAVED);
                health.avoid_until = 0;
                if health.latency == 0 {
                    (health.latency, health.deviation) = (micros.max(1), micros / 2);
                } else {
                    health.deviation = (3 * health.deviation + health.latency.abs_diff(micros)) / 4;
                    health.latency = ((7 * health.latency + micros) / 8).max(1);
                }
            }
            Outcome::Busy | Outcome::Unable | Outcome::NotSent | Outcome::Unknown => {
                health.avoid_until = now.saturating_add(AVOID_MICROS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gramme_ring::{Member, PlanRequest, plan};

    use super::*;

    fn router() -> Router {
        let members: Vec<_> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
        Router::new(
            plan(&PlanRequest { members: &members, replicas: 3, depth: 4, previous: None })
                .expect("a plan")
                .layout,
        )
    }

    #[test]
    fn owners_come_first_and_the_fastest_of_them() {
        let mut router = router();
        let list = router.candidates(KeyHash(0), 0);
        router.on_outcome(list[0], Outcome::Answered(9_000), 0);
        router.on_outcome(list[1], Outcome::Answered(8_000), 0);
        router.on_outcome(list[2], Outcome::Answered(100), 0);
        router.on_outcome(list[4], Outcome::Answered(1), 0);
        let now = router.candidates(KeyHash(0), 0);
        assert_eq!(now[0], list[2]);
        assert!(now[..3].iter().all(|node| list[..3].contains(node)));
    }

    #[test]
    fn a_failed_node_is_asked_last_for_a_while() {
        let mut router = router();
        let first = router.candidates(KeyHash(0), 0)[0];
        router.on_outcome(first, Outcome::Unknown, 0);
        assert_eq!(router.candidates(KeyHash(0), AVOID_MICROS - 1)[4], first);
        assert_eq!(router.candidates(KeyHash(0), AVOID_MICROS)[0], first);
    }

    #[test]
    fn hedges_are_at_most_a_tenth() {
        let mut router = router();
        let mut hedges = 0;
        for _ in 0..1_000 {
            router.on_outcome(NodeId(1), Outcome::Answered(500), 0);
            hedges += u32::from(router.try_hedge());
        }
        assert_eq!(hedges, 100);
        assert_eq!((router.hedge_after(NodeId(1)), router.hedge_after(NodeId(2))), (Some(1_000), None));
    }

    #[test]
    fn a_hedge_waits_for_the_usual_latency_and_four_deviations() {
        let mut router = router();
        router.on_outcome(NodeId(1), Outcome::Answered(8_000), 0);
        assert_eq!(router.hedge_after(NodeId(1)), Some(8_000 + 4 * 4_000));
        router.on_outcome(NodeId(1), Outcome::Answered(16_000), 0);
        assert_eq!(router.hedge_after(NodeId(1)), Some(9_000 + 4 * 5_000));
    }

    #[test]
    fn a_write_is_never_sent_twice() {
        assert!(!Outcome::Unknown.may_retry(Operation::Write));
        assert!(Outcome::Unknown.may_retry(Operation::Read));
        assert!(Outcome::Busy.may_retry(Operation::Write));
    }
}
