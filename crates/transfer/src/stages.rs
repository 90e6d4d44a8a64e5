//! Which partitions may go on, by what all nodes say.

use std::collections::{BTreeMap, BTreeSet};

use gramme_ring::{Entry, Evidence, Layout, Move, NodeId, PartitionId, Quorums, Step};

use crate::Rank;

/// After so long without a word, what a node said counts no more, in microseconds.
const STALE: u64 = 5_000_000;

/// How far a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The layout that it has durably: it takes no requests of earlier decisions.
    pub layout: Rank,
    /// Partitions that it is to own and has everything of, durably.
    pub complete: BTreeSet<PartitionId>,
    /// Partitions whose copies count for nothing there.
    pub uncounted: BTreeSet<PartitionId>,
    /// Whether it has something that is not its own.
    pub keeps: bool,
}

/// See the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    reports: BTreeMap<NodeId, (Report, u64)>,
}

impl Stages {
    /// A node says how far it is.
    pub fn on_report(&mut self, now: u64, node: NodeId, report: Report) {
        self.reports.insert(node, (report, now));
    }

    /// What can be decided now: partitions that go on, and members that have left. Nothing if nothing can.
    ///
    /// As many as the rules ask for would do for quorums of more than half. But a write for which a client wanted fewer
    /// acknowledgements may be at one owner alone: so whoever is there is waited for. And a read may ask fewer: so a new owner
    /// is waited for until it has everything, wherever it is. Who was an owner before has what it had then.
    #[must_use]
    pub fn next(&self, now: u64, layout: &Layout, is_there: impl Fn(NodeId) -> bool) -> Option<Step> {
        let mut step = layout.step();
        for (partition, entry) in layout.moving() {
            let epoch = (layout.generation(), layout.epoch(partition));
            let counts = |node: &NodeId| {
                self.report(now, *node)
                    .is_some_and(|report| report.layout >= epoch && !report.uncounted.contains(&partition))
            };
            let is_complete = |node: &NodeId| {
                self.report(now, *node).is_some_and(|report| report.complete.contains(&partition))
            };
            let fenced: BTreeSet<NodeId> = entry.holders().filter(counts).collect();
            let complete = fenced.iter().copied().filter(is_complete).collect();
            let evidence = Evidence { fenced, complete };
            if is_clear(entry, &evidence, &|node| is_there(node) && !self.is_uncounted(now, node, partition))
                && entry.next(Quorums::majority, &evidence).is_some()
            {
                step.moves.push((partition.prefix, Move::Next));
            }
        }
        if let Some(roster) = self.without_those_that_left(now, layout) {
            step.roster = Some(roster);
        }
        (step.roster.is_some() || !step.moves.is_empty()).then_some(step)
    }

    /// What a node said in the last seconds.
    #[must_use]
    pub fn report(&self, now: u64, node: NodeId) -> Option<&Report> {
        let (report, at) = self.reports.get(&node)?;
        (now.saturating_sub(*at) < STALE).then_some(report)
    }

    fn is_uncounted(&self, now: u64, node: NodeId, partition: PartitionId) -> bool {
        self.report(now, node).is_some_and(|report| report.uncounted.contains(&partition))
    }

    /// The roster without the members that were to leave, hold nothing any more, and say that they have handed on everything.
    fn without_those_that_left(&self, now: u64, layout: &Layout) -> Option<gramme_ring::Roster> {
        let has_left = |node: &NodeId| {
            let is_empty =
                self.report(now, *node).is_some_and(|report| report.layout == layout.rank() && !report.keeps);
            is_empty && layout.is_bare(*node)
        };
        let left: BTreeSet<NodeId> = layout.roster().leaving.iter().copied().filter(has_left).collect();
        (!left.is_empty() && layout.moving().next().is_none()).then(|| layout.roster().without(&left))
    }
}

/// Whether all that are there have done their part.
fn is_clear(entry: &Entry, evidence: &Evidence, is_there: &dyn Fn(NodeId) -> bool) -> bool {
    let have = |nodes: &[NodeId], done: &BTreeSet<NodeId>| {
        nodes.iter().all(|node| done.contains(node) || !is_there(*node))
    };
    match entry {
        Entry::Settled(_) => false,
        Entry::Joining { from, to } => {
            let is_filled = |node: &NodeId| from.contains(node) || evidence.complete.contains(node);
            have(from, &evidence.fenced) && have(to, &evidence.complete) && to.iter().all(is_filled)
        }
        Entry::Leaving { from, .. } => have(from, &evidence.fenced),
    }
}
