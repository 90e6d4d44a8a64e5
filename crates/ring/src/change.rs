//! How a partition goes from one set of owners to another without a moment in which a reader could miss a write.
//!
//! The obvious ways lose acknowledged writes, and did: to hand over and then copy (the new owners count before they have
//! anything), to copy and then hand over (a coordinator that has not heard yet writes to the old owners, behind the copy),
//! and to let the new owners take writes beside the old ones while nobody refuses what is out of date. The way here has three
//! stages, each decided once for all (never by each side for itself), and every request names the decision that it acts on.
//!
//! In *joining* writes need W of the old owners and W of the new, and readers ask the old. In *leaving* readers ask the new.
//! A replica is *fenced* at a decision when it has durably adopted it: from then on it refuses requests of earlier ones. A new
//! owner is *complete* when it durably has everything that enough fenced old owners held after their fence. What follows is
//! arithmetic over N, R and W: see `docs/ring-change.md`, which has the proof's idea and what fails without each rule. The
//! paper (sections 4.9, 6.2) leaves it at "transfers"; Riak lost writes here (riak_kv#1754).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::NodeId;

/// Where a partition stands between two sets of owners.
///
/// ```
/// use gramme_ring::{Entry, Evidence, NodeId, Quorums};
/// let [a, b, c, d] = [1, 2, 3, 4].map(NodeId);
/// let (quorums, mut evidence) = (Quorums::majority, Evidence::default());
/// let joining = Entry::Settled(vec![a, b, c]).begin(vec![a, b, d]).expect("nothing else changes");
/// assert_eq!((joining.read_set(), joining.write_sets().len()), (&[a, b, c][..], 2));
/// assert_eq!(joining.next(quorums, &evidence), None);
/// evidence.fenced = [a, b].into();
/// evidence.complete = [a, d].into();
/// let leaving = joining.next(quorums, &evidence).expect("enough is known");
/// assert_eq!(leaving.read_set(), [a, b, d]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// These own it.
    Settled(Vec<NodeId>),
    /// The new owners take writes beside the old, and are filled.
    Joining {
        /// The old owners.
        from: Vec<NodeId>,
        /// The new owners.
        to: Vec<NodeId>,
    },
    /// Readers ask the new owners; writes still go to both.
    Leaving {
        /// The old owners.
        from: Vec<NodeId>,
        /// The new owners.
        to: Vec<NodeId>,
    },
}

/// How many replicas the smallest strict read and write wait for, anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorums {
    /// R.
    pub r: usize,
    /// W.
    pub w: usize,
}

impl Quorums {
    /// More than half of so many, for both.
    #[must_use]
    pub const fn majority(owners: usize) -> Self {
        Self { r: owners / 2 + 1, w: owners / 2 + 1 }
    }
}

/// What is known of the replicas of a partition that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Those that have durably adopted the present decision, and count: an amnesiac replica fences nothing.
    pub fenced: BTreeSet<NodeId>,
    /// New owners that durably have all that [`Entry::sources`] fenced old owners held.
    pub complete: BTreeSet<NodeId>,
}

impl Entry {
    /// The sets that a write needs W of each.
    #[must_use]
    pub fn write_sets(&self) -> Vec<&[NodeId]> {
        match self {
            Self::Settled(owners) => [&owners[..]].to_vec(),
            Self::Joining { from, to } | Self::Leaving { from, to } => [&from[..], &to[..]].to_vec(),
        }
    }

    /// The set that a read needs R of.
    #[must_use]
    pub fn read_set(&self) -> &[NodeId] {
        match self {
            Self::Settled(owners) | Self::Joining { from: owners, .. } | Self::Leaving { to: owners, .. } => {
                owners
            }
        }
    }

    /// Whether its owners do not change.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Settled(_))
    }

    /// All that store it: old owners and new ones, each once.
    pub fn holders(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        let (first, second) = match self {
            Self::Settled(owners) => (owners, &[][..]),
            Self::Joining { from, to } | Self::Leaving { from, to } => (from, &to[..]),
        };
        first.iter().chain(second.iter().filter(|node| !first.contains(node))).copied()
    }

    /// Whether a node takes part: what is sent to others is refused.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.write_sets().iter().any(|set| set.contains(&node))
    }

    /// How many old owners a new one must have everything of, itself counted if it is one: so many that any W of them
    /// include one.
    #[must_use]
    pub const fn sources(replicas: usize, quorums: Quorums) -> usize {
        (replicas + 1).saturating_sub(quorums.w)
    }

    /// Begins a change, if none is under way.
    #[must_use]
    pub fn begin(&self, to: Vec<NodeId>) -> Option<Self> {
        match self {
            Self::Settled(from) => Some(Self::Joining { from: from.clone(), to }),
            Self::Joining { .. } | Self::Leaving { .. } => None,
        }
    }

    /// The next stage, if the evidence allows it. `quorums` says R and W of a set of so many owners: the two may differ in
    /// number.
    ///
    /// From joining to leaving: enough old owners are fenced that no coordinator of an earlier decision reaches W of the
    /// others, and enough new ones are complete that W of them, and any R, include one. From leaving to settled: no reader of
    /// an earlier decision reaches R old owners.
    #[must_use]
    pub fn next(&self, quorums: impl Fn(usize) -> Quorums, evidence: &Evidence) -> Option<Self> {
        let count =
            |nodes: &[NodeId], of: &BTreeSet<NodeId>| nodes.iter().filter(|node| of.contains(node)).count();
        let may = match self {
            Self::Settled(_) => false,
            Self::Joining { from, to } => {
                let (old, new) = (quorums(from.len()), quorums(to.len()));
                let complete = new.w.max((to.len() + 1).saturating_sub(new.r));
                count(from, &evidence.fenced) >= Self::sources(from.len(), old)
                    && count(to, &evidence.complete) >= complete
            }
            Self::Leaving { from, .. } => {
                let fences = (from.len() + 1).saturating_sub(quorums(from.len()).r);
                count(from, &evidence.fenced) >= fences
            }
        };
        if may { self.advanced() } else { None }
    }

    /// The way back. From joining at once: the old owners have everything. From leaving by going the other way without
    /// copying, since both sets have every write; a settled change can only be changed again.
    #[must_use]
    pub fn abort(&self) -> Option<Self> {
        match self {
            Self::Settled(_) => None,
            Self::Joining { from, .. } => Some(Self::Settled(from.clone())),
            Self::Leaving { from, to } => Some(Self::Leaving { from: to.clone(), to: from.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const QUORUMS: Quorums = Quorums { r: 2, w: 2 };

    const fn two_of(_: usize) -> Quorums {
        QUORUMS
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn list(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn joining() -> Entry {
        Entry::Joining { from: list(&[1, 2, 3]), to: list(&[4, 5, 6]) }
    }

    #[test]
    fn readers_go_over_when_old_writers_are_refused_and_new_owners_are_complete() {
        let next = |fenced: &[u64], complete: &[u64]| {
            joining().next(two_of, &Evidence { fenced: set(fenced), complete: set(complete) })
        };
        // Two of O, and two of M; others than those count for nothing.
        for (fenced, complete) in
            [(&[1, 4, 5][..], &[4, 5][..]), (&[1, 2], &[4]), (&[1, 2], &[1, 4]), (&[], &[])]
        {
            assert_eq!(next(fenced, complete), None, "{fenced:?} {complete:?}");
        }
        assert_eq!(
            next(&[1, 3], &[4, 6]),
            Some(Entry::Leaving { from: list(&[1, 2, 3]), to: list(&[4, 5, 6]) })
        );
    }

    /// With W = 1 a single replica may have a write: all must be fenced, copied and complete.
    #[test]
    fn small_quorums_need_more_of_the_others() {
        let quorums = Quorums { r: 3, w: 1 };
        assert_eq!((Entry::sources(3, quorums), Entry::sources(3, QUORUMS)), (3, 2));
        let two = Evidence { fenced: set(&[1, 2]), complete: set(&[4, 5, 6]) };
        assert_eq!(joining().next(|_| quorums, &two), None);
        assert!(joining().next(|_| quorums, &Evidence { fenced: set(&[1, 2, 3]), ..two.clone() }).is_some());
        // R = 1: any of M may be asked alone.
        let all = Evidence { fenced: set(&[1]), complete: set(&[4, 5]) };
        assert_eq!(joining().next(|_| Quorums { r: 1, w: 3 }, &all), None);
        let all = Evidence { complete: set(&[4, 5, 6]), ..all };
        assert!(joining().next(|_| Quorums { r: 1, w: 3 }, &all).is_some());
    }

    /// From one replica to three, and back.
    #[test]
    fn sets_of_different_sizes_have_each_its_own_quorum() {
        let grows = Entry::Joining { from: list(&[1]), to: list(&[1, 2, 3]) };
        let next = |entry: &Entry, fenced: &[u64], complete: &[u64]| {
            let evidence = Evidence { fenced: set(fenced), complete: set(complete) };
            entry.next(Quorums::majority, &evidence).is_some()
        };
        assert!(!next(&grows, &[1], &[1]) && next(&grows, &[1], &[1, 3]));
        let shrinks = Entry::Joining { from: list(&[1, 2, 3]), to: list(&[1]) };
        assert!(!next(&shrinks, &[1], &[1]) && next(&shrinks, &[1, 2], &[1]));
    }

    #[test]
    fn old_owners_are_let_go_when_old_readers_are_refused() {
        let leaving = Entry::Leaving { from: list(&[1, 2, 3]), to: list(&[3, 4, 5]) };
        let next =
            |fenced: &[u64]| leaving.next(two_of, &Evidence { fenced: set(fenced), ..Evidence::default() });
        assert_eq!((next(&[3]), next(&[3, 4, 5])), (None, None));
        assert_eq!(next(&[1, 3]), Some(Entry::Settled(list(&[3, 4, 5]))));
        assert_eq!(Entry::Settled(list(&[1])).next(two_of, &Evidence::default()), None);
    }

    #[test]
    fn the_way_back_keeps_both_sets_where_readers_have_left_the_old_one() {
        assert_eq!(joining().abort(), Some(Entry::Settled(list(&[1, 2, 3]))));
        let leaving = Entry::Leaving { from: list(&[1, 2, 3]), to: list(&[4, 5, 6]) };
        assert_eq!(leaving.abort(), Some(Entry::Leaving { from: list(&[4, 5, 6]), to: list(&[1, 2, 3]) }));
        assert_eq!(Entry::Settled(vec![]).abort(), None);
        assert_eq!((joining().begin(list(&[1])), leaving.begin(list(&[1]))), (None, None));
    }

    #[test]
    fn both_sets_take_writes_and_one_is_read() {
        let leaving = Entry::Leaving { from: list(&[1, 2]), to: list(&[2, 3]) };
        assert_eq!(
            (leaving.write_sets(), leaving.read_set()),
            (vec![&list(&[1, 2])[..], &list(&[2, 3])], &list(&[2, 3])[..])
        );
        assert!(
            leaving.is_member(NodeId(1)) && leaving.is_member(NodeId(3)) && !leaving.is_member(NodeId(4))
        );
    }
}
