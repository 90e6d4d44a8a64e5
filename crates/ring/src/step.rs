//! From one layout to the next: what is decided, and nothing else.
//!
//! A whole layout of a large cluster is a megabyte; what changes is usually little. So what voters decide on is a step: which
//! members there are, and which partitions go on, begin, or go back. Whoever has the layout before it makes the same layout of
//! it; whoever has not is sent the whole.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::{Entry, Layout, LayoutError, NodeId, Roster};

/// What becomes of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// It begins to move to these owners.
    Begin(Vec<NodeId>),
    /// It goes on to its next stage.
    Next,
    /// It goes back.
    Abort,
}

/// What makes the next layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The generation of the layout that it follows.
    pub generation: u32,
    /// The version that it makes: one more than that layout's.
    pub version: u64,
    /// N from now on.
    pub replicas: u8,
    /// Who belongs to the cluster from now on, if that changes.
    pub roster: Option<Roster>,
    /// What becomes of partitions, by prefix.
    pub moves: Vec<(u32, Move)>,
}

/// Why a step does not follow a layout. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It follows another layout.
    #[error("it follows another layout")]
    Base,
    /// A partition cannot do that from where it stands.
    #[error("partition {0:x} cannot do that from where it stands")]
    Move(u32),
    /// What comes of it is no layout.
    #[error("what comes of it is no layout: {0}")]
    Layout(#[from] LayoutError),
}

impl Layout {
    /// A step from this layout that changes nothing yet.
    #[must_use]
    pub const fn step(&self) -> Step {
        let (generation, version, replicas) = (self.generation, self.version + 1, self.replicas);
        Step { generation, version, replicas, roster: None, moves: Vec::new() }
    }

    /// The layout that a step makes of this one. O(partitions).
    ///
    /// # Errors
    /// [`StepError`] if it cannot follow.
    pub fn after(&self, step: &Step) -> Result<Self, StepError> {
        if (step.generation, step.version) != (self.generation, self.version + 1) {
            return Err(StepError::Base);
        }
        let mut next = self.clone();
        (next.version, next.replicas) = (step.version, step.replicas);
        if let Some(roster) = &step.roster {
            next.roster = roster.clone();
        }
        for (prefix, change) in &step.moves {
            let wrong = StepError::Move(*prefix);
            let held = next.partitions.get_mut(*prefix as usize).ok_or(wrong)?;
            if held.epoch == step.version {
                return Err(wrong);
            }
            held.entry = match change {
                Move::Begin(to) => held.entry.begin(to.clone()),
                Move::Next => held.entry.advanced(),
                Move::Abort => held.entry.abort(),
            }
            .ok_or(wrong)?;
            held.epoch = step.version;
        }
        Ok(next.checked()?)
    }

    /// What begins the way to another placement: each partition whose owners differ begins to move.
    #[must_use]
    pub fn moves_to(&self, target: &Self) -> Vec<(u32, Move)> {
        let pairs = self.partitions.iter().zip(&target.partitions).enumerate();
        let differing = pairs.filter(|(_, (now, then))| now.entry.read_set() != then.entry.read_set());
        // At most 65,536 of them.
        differing
            .map(|(prefix, (_, then))| (prefix as u32, Move::Begin(then.entry.read_set().to_vec())))
            .collect()
    }

    /// As this, with one node in the place of another: what a plan starts from that replaces a node and moves nothing else.
    #[must_use]
    pub fn renamed(&self, old: NodeId, new: NodeId) -> Self {
        let mut next = self.clone();
        for held in &mut next.partitions {
            let owners = held.entry.read_set().iter().map(|&owner| if owner == old { new } else { owner });
            held.entry = Entry::Settled(owners.collect());
        }
        next
    }

    /// Whether a node holds nothing, and is to hold nothing.
    #[must_use]
    pub fn is_bare(&self, node: NodeId) -> bool {
        !self.partitions.iter().any(|held| held.entry.is_member(node))
    }
}

impl Roster {
    /// The same without these members, which are gone for good.
    #[must_use]
    pub fn without(&self, gone: &BTreeSet<NodeId>) -> Self {
        let mut roster = self.clone();
        roster.members.retain(|member| !gone.contains(&member.id));
        roster.leaving.retain(|node| !gone.contains(node));
        roster.removed.extend(gone);
        roster.removed.sort_unstable();
        roster.removed.dedup();
        roster
    }
}

impl Entry {
    /// The next stage, whatever the evidence.
    pub(crate) fn advanced(&self) -> Option<Self> {
        match self {
            Self::Settled(_) => None,
            Self::Joining { from, to } => Some(Self::Leaving { from: from.clone(), to: to.clone() }),
            Self::Leaving { to, .. } => Some(Self::Settled(to.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{Member, PartitionId};

    const FIRST: PartitionId = PartitionId { prefix: 0, depth: 1 };

    fn list(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn layout() -> Layout {
        let members = (1..=4).map(|id| Member::new(NodeId(id))).collect();
        Layout::new(1, 1, 3, members, &[0, 1, 2, 1, 2, 3]).expect("sound")
    }

    fn stepped(layout: &Layout, moves: Vec<(u32, Move)>) -> Result<Layout, StepError> {
        layout.after(&Step { moves, ..layout.step() })
    }

    #[test]
    fn a_partition_goes_through_its_stages_and_its_epoch_follows() {
        let before = layout();
        let joining = stepped(&before, vec![(0, Move::Begin(list(&[1, 2, 4])))]).expect("it may begin");
        assert_eq!((joining.epoch(FIRST), joining.version(), joining.moving().count()), (2, 2, 1));
        assert!(joining.owners(FIRST).eq(list(&[1, 2, 3])) && joining.is_holder(FIRST, NodeId(4)));
        assert_eq!(joining.preference_list(FIRST), list(&[1, 2, 3, 4]));
        let other = PartitionId { prefix: 1, depth: 1 };
        assert_eq!(joining.epoch(other), 1, "another partition's epoch stays");
        let leaving = stepped(&joining, vec![(0, Move::Next)]).expect("it may go on");
        assert!(leaving.owners(FIRST).eq(list(&[1, 2, 4])));
        let settled = stepped(&leaving, vec![(0, Move::Next)]).expect("it may go on");
        assert_eq!((settled.epoch(FIRST), settled.moving().count()), (4, 0));
        assert!(settled.is_holder(FIRST, NodeId(4)) && !settled.is_holder(FIRST, NodeId(3)));
        let back = stepped(&joining, vec![(0, Move::Abort)]).expect("it may go back");
        assert!(back.owners(FIRST).eq(before.owners(FIRST)) && !back.is_holder(FIRST, NodeId(4)));
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let layout = layout();
        let refused = |moves| stepped(&layout, moves).expect_err("it cannot follow");
        assert_eq!(refused(vec![(0, Move::Next)]), StepError::Move(0));
        assert_eq!(refused(vec![(2, Move::Next)]), StepError::Move(2));
        assert_eq!(refused(vec![(0, Move::Begin(list(&[1, 2, 9])))]), LayoutError::Owners.into());
        assert_eq!(refused(vec![(0, Move::Begin(list(&[1, 1, 2])))]), LayoutError::Owners.into());
        assert_eq!(refused(vec![(0, Move::Begin(vec![]))]), LayoutError::Owners.into());
        let twice = vec![(0, Move::Begin(list(&[1, 2, 4]))), (0, Move::Next)];
        assert_eq!(refused(twice), StepError::Move(0));
        let late = Step { version: 3, ..layout.step() };
        assert_eq!(layout.after(&late), Err(StepError::Base));
        assert_eq!(layout.after(&Step { generation: 2, ..layout.step() }), Err(StepError::Base));
        // Nobody goes who still owns something.
        let mut roster = layout.roster().clone();
        roster.removed = vec![roster.members.remove(0).id];
        let step = Step { roster: Some(roster), ..layout.step() };
        assert_eq!(layout.after(&step), Err(LayoutError::Owners.into()));
    }

    #[test]
    fn whoever_holds_nothing_may_go() {
        let settled = Layout::new(1, 1, 1, (1..=2).map(|id| Member::new(NodeId(id))).collect(), &[0, 0])
            .expect("sound");
        assert!(settled.is_bare(NodeId(2)) && !settled.is_bare(NodeId(1)));
        let mut roster = settled.roster().clone();
        roster.removed = vec![roster.members.remove(1).id];
        let gone = settled.after(&Step { roster: Some(roster), ..settled.step() }).expect("it may go");
        assert!(gone.is_removed(NodeId(2)) && !gone.is_member(NodeId(2)));
        let mut both = gone.roster().clone();
        both.members.push(Member::new(NodeId(2)));
        let step = Step { roster: Some(both), ..gone.step() };
        assert_eq!(gone.after(&step), Err(LayoutError::Members.into()), "gone for good");
    }
}
