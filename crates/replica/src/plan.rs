//! Changing who belongs to the cluster and who owns what: an operator stages changes, looks at what they come to, and commits
//! them together.
//!
//! A plan is made for the layout in force, of which nothing moves. It is kept by the node that it was staged at, in memory, and
//! comes to nothing when another layout is decided meanwhile: what was looked at is what is committed. Committing it is one
//! decision of the members; from there on partitions move by themselves. Cancelling lets those go back that have not arrived.

use gramme_ring::{
    Layout, Member, Move, NodeId, PartitionId, PlanError as Impossible, PlanRequest, Planned, Roster, Step,
    plan,
};

use crate::coordinator::Around;
use crate::cx::Cx;
use crate::io::Ticket;
use crate::request::Response;
use crate::timers::Timer;

/// How long a decision may take, in milliseconds.
const TIMEOUT: u32 = 10_000;
/// How often a decision is asked for again, in microseconds.
const AGAIN: u64 = 250_000;
/// Changes of one plan.
const MOST: usize = 4_096;

/// A change that an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanChange {
    /// A node that has joined owns partitions from then on.
    Add(Member),
    /// A node hands over all that it owns, and goes.
    Remove(NodeId),
    /// A node takes the place of another, which goes; nothing else moves for that.
    Replace {
        /// Who goes.
        old: NodeId,
        /// Who comes.
        new: NodeId,
    },
    /// A node that is never coming back, and owns nothing, goes.
    Forget(NodeId),
    /// A node has another weight.
    Weight(NodeId, u32),
    /// A node lies in another zone.
    Zone(NodeId, String),
    /// N.
    Replicas(u8),
}

/// What an operator wants of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanCommand {
    /// Add changes to what is staged here.
    Stage(Vec<PlanChange>),
    /// Show what is staged, and what it comes to.
    Show,
    /// Have it decided.
    Commit,
    /// Forget what is staged.
    Discard,
    /// Let all partitions go back that move, and have not arrived.
    Cancel,
}

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanView {
    /// The generation and version of the layout that it was made for.
    pub layout: (u32, u64),
    /// The changes, in order.
    pub changes: Vec<PlanChange>,
    /// N before and after.
    pub replicas: (u8, u8),
    /// Each node, with how many partitions it owns before and after.
    pub nodes: Vec<PlanNode>,
    /// Partitions with other owners than before.
    pub partitions: usize,
    /// Copies of partitions that go to a node which has none: what is to be moved.
    pub copies: usize,
    /// About how many bytes that is.
    pub bytes: u64,
    /// Partitions with more owners in one zone than an even spread would have.
    pub crowded: usize,
    /// Partitions that move now, of an earlier plan.
    pub moving: usize,
}

/// A node in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanNode {
    /// Which.
    pub id: NodeId,
    /// Its zone afterwards.
    pub zone: String,
    /// Its weight afterwards; 0 for one that goes.
    pub weight: u32,
    /// Partitions that it owns before.
    pub before: usize,
    /// Partitions that it owns afterwards.
    pub after: usize,
}

/// Why a plan was not staged, shown or committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is staged here. Nothing was changed.
    #[error("nothing is staged at this node; stage a change first")]
    Empty,
    /// A change names a node that is no member. Nothing was changed.
    #[error("{0} is no member of the cluster")]
    NoMember(NodeId),
    /// A node is to be added that has not joined. Nothing was changed.
    #[error("{0} has not joined: nobody has said where it listens")]
    NotJoined(NodeId),
    /// A node is to be forgotten that still owns partitions. Nothing was changed.
    #[error("{0} owns partitions; remove or replace it first, and wait until nothing moves")]
    Owns(NodeId),
    /// A node is to be added that is a member. Nothing was changed.
    #[error("{0} is a member already")]
    Member(NodeId),
    /// A node is to be added that was removed. Nothing was changed.
    #[error("{0} was removed, and is refused for ever; let it join anew, under another identity")]
    Removed(NodeId),
    /// There is no such placement. Nothing was changed.
    #[error("{0}")]
    Impossible(Impossible),
    /// More changes than a plan may have. Nothing was changed.
    #[error("a plan may have {MOST} changes")]
    TooMany,
    /// Partitions are still moving. Nothing was changed.
    #[error("{moving} partitions are still moving; wait for them, or cancel that")]
    UnderWay {
        /// How many.
        moving: usize,
    },
    /// Nothing moves that could go back. Nothing was changed.
    #[error("nothing moves")]
    Still,
    /// Another layout has been decided since the plan was staged. Nothing was changed, and it is staged no more.
    #[error("the layout has changed since this was staged; stage it again, and look at what it comes to")]
    Outdated,
    /// Too few members have answered, or another layout was decided after it. It may be decided, or may yet be.
    #[error(
        "nobody here knows whether it was decided, or will be: look at what the layout is now, and try again"
    )]
    Undecided,
    /// This node has such a request under way.
    #[error("this node is having another layout decided")]
    Busy,
}

impl From<Impossible> for PlanError {
    fn from(impossible: Impossible) -> Self {
        Self::Impossible(impossible)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Planning {
    /// What is staged, and for which layout.
    staged: Option<((u32, u64), Vec<PlanChange>)>,
    pending: Option<Pending>,
}

/// A step that somebody waits for.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    step: Step,
    view: PlanView,
    deadline: u64,
}

impl Planning {
    /// Does what an operator wants. Returns a step to be decided, if there is one.
    pub(crate) fn on_command(
        &mut self,
        around: &mut Around<'_>,
        ticket: Ticket,
        command: PlanCommand,
    ) -> Option<Step> {
        let result = match command {
            PlanCommand::Stage(changes) => self.stage(around, changes),
            PlanCommand::Show => self.show(around),
            PlanCommand::Discard => self.show(around).inspect(|_| self.staged = None),
            PlanCommand::Commit => return self.commit(around, ticket, Self::committed),
            PlanCommand::Cancel => return self.commit(around, ticket, |_, around| to_cancel(around)),
        };
        around.cx.reply(ticket, Response::Plan(result));
        None
    }

    fn stage(&mut self, around: &Around<'_>, changes: Vec<PlanChange>) -> Result<PlanView, PlanError> {
        let layout = around.node.map.layout();
        let unknown = |change: &PlanChange| match change {
            PlanChange::Add(Member { id: new, .. }) | PlanChange::Replace { new, .. } => {
                let is_known =
                    layout.is_member(*new) || layout.is_removed(*new) || around.node.has_joined(*new);
                (!is_known).then_some(*new)
            }
            _ => None,
        };
        if let Some(node) = changes.iter().find_map(unknown) {
            return Err(PlanError::NotJoined(node));
        }
        let rank = layout.rank();
        let before = self.staged.take().filter(|(of, _)| *of == rank).map(|(_, changes)| changes);
        let before = before.unwrap_or_default();
        let all: Vec<PlanChange> = before.iter().cloned().chain(changes).collect();
        let result = match all.len() > MOST {
            true => Err(PlanError::TooMany),
            false => view(around, &all),
        };
        // What cannot be leaves what was staged as it was.
        let kept = if result.is_ok() { all } else { before };
        self.staged = (!kept.is_empty()).then_some((rank, kept));
        result
    }

    fn staged(&mut self, around: &Around<'_>) -> Result<&[PlanChange], PlanError> {
        let rank = around.node.map.layout().rank();
        match &self.staged {
            None => return Err(PlanError::Empty),
            Some((of, _)) if *of != rank => {
                self.staged = None;
                return Err(PlanError::Outdated);
            }
            Some(_) => {}
        }
        Ok(self.staged.as_ref().map_or(&[][..], |(_, changes)| changes))
    }

    fn show(&mut self, around: &Around<'_>) -> Result<PlanView, PlanError> {
        let changes = self.staged(around)?.to_vec();
        view(around, &changes)
    }

    fn committed(&mut self, around: &Around<'_>) -> Result<(Step, PlanView), PlanError> {
        let changes = self.staged(around)?.to_vec();
        let moving = around.node.map.layout().moving().count();
        if moving > 0 {
            return Err(PlanError::UnderWay { moving });
        }
        Ok((step_of(around.node.map.layout(), &changes)?, view(around, &changes)?))
    }

    fn commit(
        &mut self,
        around: &mut Around<'_>,
        ticket: Ticket,
        step: impl FnOnce(&mut Self, &Around<'_>) -> Result<(Step, PlanView), PlanError>,
    ) -> Option<Step> {
        let step = match self.pending {
            Some(_) => Err(PlanError::Busy),
            None => step(self, around),
        };
        let (step, view) = match step {
            Ok(step) => step,
            Err(error) => {
                around.cx.reply(ticket, Response::Plan(Err(error)));
                return None;
            }
        };
        let deadline = around.cx.after(TIMEOUT);
        around.cx.timers.set(around.cx.now.monotonic + AGAIN, Timer::Plan);
        self.pending = Some(Pending { ticket, step: step.clone(), view, deadline });
        Some(step)
    }

    /// Time passes. Returns what is still to be decided, to be proposed again: another proposal may have stood in its way.
    pub(crate) fn on_timer(&mut self, cx: &mut Cx) -> Option<Step> {
        let pending = self.pending.as_ref()?;
        if cx.now.monotonic >= pending.deadline {
            self.conclude(cx, Err(PlanError::Undecided));
            return None;
        }
        cx.timers.set(cx.now.monotonic + AGAIN, Timer::Plan);
        Some(pending.step.clone())
    }

    /// A layout is in force, that a step has made if this node knows which.
    pub(crate) fn on_layout(&mut self, cx: &mut Cx, before: &Layout, layout: &Layout) {
        let Some(pending) = &self.pending else { return };
        if layout.rank() < (pending.step.generation, pending.step.version) {
            return;
        }
        if layout.rank() > (pending.step.generation, pending.step.version) {
            // The one that it would have made was missed here.
            return self.conclude(cx, Err(PlanError::Undecided));
        }
        let is_ours = before.after(&pending.step).is_ok_and(|next| next == *layout);
        if is_ours {
            self.staged = None;
        }
        let view = pending.view.clone();
        self.conclude(cx, if is_ours { Ok(view) } else { Err(PlanError::Outdated) });
    }

    fn conclude(&mut self, cx: &mut Cx, result: Result<PlanView, PlanError>) {
        if let Some(pending) = self.pending.take() {
            cx.reply(pending.ticket, Response::Plan(result));
        }
    }
}

/// What lets everything go back that moves.
fn to_cancel(around: &Around<'_>) -> Result<(Step, PlanView), PlanError> {
    let layout = around.node.map.layout();
    let moves: Vec<_> = layout.moving().map(|(partition, _)| (partition.prefix, Move::Abort)).collect();
    if moves.is_empty() {
        return Err(PlanError::Still);
    }
    let step = Step { moves, ..layout.step() };
    let view = PlanView { changes: Vec::new(), ..view(around, &[])? };
    Ok((step, view))
}

/// The step that makes the changes.
fn step_of(layout: &Layout, changes: &[PlanChange]) -> Result<Step, PlanError> {
    let (roster, planned) = planned(layout, changes)?;
    let moves = layout.moves_to(&planned.layout);
    Ok(Step { replicas: planned.layout.replicas(), roster: Some(roster), moves, ..layout.step() })
}

fn planned(layout: &Layout, changes: &[PlanChange]) -> Result<(Roster, Planned), PlanError> {
    let (mut roster, mut previous, mut replicas) =
        (layout.roster().clone(), layout.clone(), layout.replicas());
    for change in changes {
        apply(change, &mut roster, &mut previous, &mut replicas)?;
    }
    roster.members.sort_by_key(|member| member.id);
    roster.leaving.sort_unstable();
    let depth = layout.depth();
    let request = PlanRequest { members: &roster.members, replicas, depth, previous: Some(&previous) };
    let planned = plan(&request)?;
    Ok((roster, planned))
}

fn apply(
    change: &PlanChange,
    roster: &mut Roster,
    previous: &mut Layout,
    replicas: &mut u8,
) -> Result<(), PlanError> {
    match change {
        PlanChange::Add(member) => add(roster, member.clone())?,
        PlanChange::Remove(node) => leave(roster, *node)?,
        PlanChange::Forget(node) => forget(roster, previous, *node)?,
        PlanChange::Replace { old, new } => {
            let Member { weight, zone, .. } = member(roster, *old)?.clone();
            add(roster, Member { id: *new, weight, zone })?;
            leave(roster, *old)?;
            *previous = previous.renamed(*old, *new);
        }
        PlanChange::Weight(node, weight) => {
            member(roster, *node)?.weight = *weight;
            roster.leaving.retain(|leaving| leaving != node);
        }
        PlanChange::Zone(node, zone) => member(roster, *node)?.zone.clone_from(zone),
        PlanChange::Replicas(count) => *replicas = *count,
    }
    Ok(())
}

fn member(roster: &mut Roster, node: NodeId) -> Result<&mut Member, PlanError> {
    roster.members.iter_mut().find(|member| member.id == node).ok_or(PlanError::NoMember(node))
}

fn add(roster: &mut Roster, member: Member) -> Result<(), PlanError> {
    if roster.members.iter().any(|known| known.id == member.id) {
        return Err(PlanError::Member(member.id));
    }
    if roster.removed.contains(&member.id) {
        return Err(PlanError::Removed(member.id));
    }
    roster.members.push(member);
    Ok(())
}

fn leave(roster: &mut Roster, node: NodeId) -> Result<(), PlanError> {
    member(roster, node)?.weight = 0;
    if !roster.leaving.contains(&node) {
        roster.leaving.push(node);
    }
    Ok(())
}

/// What a node may still have for others is given up.
fn forget(roster: &mut Roster, layout: &Layout, node: NodeId) -> Result<(), PlanError> {
    member(roster, node)?;
    if !layout.is_bare(node) {
        return Err(PlanError::Owns(node));
    }
    *roster = roster.without(&[node].into());
    Ok(())
}

fn view(around: &Around<'_>, changes: &[PlanChange]) -> Result<PlanView, PlanError> {
    let layout = around.node.map.layout();
    let (roster, planned) = planned(layout, changes)?;
    let owned =
        |layout: &Layout, id| layout.partitions().filter(|p| layout.slot_of(*p, id).is_some()).count();
    let node = |member: &Member| PlanNode {
        id: member.id,
        zone: member.zone.clone(),
        weight: member.weight,
        before: owned(layout, member.id),
        after: owned(&planned.layout, member.id),
    };
    let gains = |partition: PartitionId| {
        let is_new = |id: &NodeId| layout.slot_of(partition, *id).is_none();
        planned.layout.owners(partition).filter(is_new).count()
    };
    let copies = layout.partitions().map(gains).sum();
    let held: usize = layout.partitions().map(|partition| layout.owners(partition).len()).sum();
    let bytes = around.node.bytes_of_all(around.cx);
    Ok(PlanView {
        layout: layout.rank(),
        changes: changes.to_vec(),
        replicas: (layout.replicas(), planned.layout.replicas()),
        nodes: roster.members.iter().map(node).collect(),
        partitions: layout.moves_to(&planned.layout).len(),
        copies,
        bytes: (u128::from(bytes) * copies as u128 / held.max(1) as u128) as u64,
        crowded: planned.crowded.len(),
        moving: layout.moving().count(),
    })
}
