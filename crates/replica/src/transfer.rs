//! Partitions on their way from old owners to new ones (`docs/ring-change.md`): what this node does about it beyond exchanges,
//! which copy them.
//!
//! Three things, a few times a second while anything moves. What this node owns no more it asks the owners to take over, and
//! drops once they have. How far it is it says when it is asked. And the member with the lowest id among those that answer asks
//! everybody, and proposes to the voters what may go on; if two think that they are that one, the votes decide.

use std::collections::{BTreeMap, BTreeSet};

use gramme_gossip::Opinion;
use gramme_plant::planted;
use gramme_ring::{Entry, NodeId, PartitionId};
use gramme_transfer::{Departures, Rank, Report, Stages};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{AskProgress, Class, Progress, Status, TakeOver, TakeOverReply};

use crate::antientropy::Exchanges;
use crate::coordinator::{Around, failure};
use crate::cx::Cx;
use crate::io::{LoadFailed, Page, Ticket};
use crate::request::Response;
use crate::serve::{reply_header, request_header};
use crate::shard::{Level, Writer};
use crate::timers::Timer;

/// How often it is looked for what is to be done, while there is anything, in microseconds.
const INTERVAL: u64 = 250_000;
/// How long an answer is worth waiting for, in microseconds.
const TTL: u64 = 5_000_000;
/// How long after a failure an owner is asked again, in microseconds.
const AGAIN: u64 = 2_000_000;
/// How long it is waited for the word of others when somebody asks, in microseconds.
const WAIT: u64 = 500_000;

/// How far partitions are that move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransfersView {
    /// The generation and version of the layout.
    pub layout: (u32, u64),
    /// Partitions whose new owners are being filled.
    pub joining: usize,
    /// Partitions that readers ask of their new owners, and whose old ones are not let go yet.
    pub leaving: usize,
    /// Each member.
    pub nodes: Vec<TransferNode>,
}

/// How far a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferNode {
    /// Which.
    pub id: NodeId,
    /// What this node thinks of it.
    pub state: Opinion,
    /// Whether it is to leave.
    pub is_leaving: bool,
    /// Whether it has said anything in the last seconds.
    pub has_answered: bool,
    /// Whether it has the present layout on its disk.
    pub has_layout: bool,
    /// Partitions that it is to own and did not own before.
    pub arriving: usize,
    /// Those of them of which it has everything.
    pub complete: usize,
    /// Whether it has something that is not its own: partitions to hand over, copies for others.
    pub keeps: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    departures: Departures,
    stages: Stages,
    /// Who was asked to take over what, under which decision.
    asked: BTreeMap<u64, (PartitionId, NodeId, Rank)>,
    /// The partition whose rows are being dropped.
    dropping: Option<PartitionId>,
    /// Who wants to know how far everything is, since when, and whose word is missing.
    questions: Vec<Ticket>,
    missing: BTreeSet<NodeId>,
    is_set: bool,
}

impl Transfers {
    /// A layout is in force, or a start has begun: there may be something to do.
    pub(crate) fn on_layout(&mut self, cx: &mut Cx) {
        if !self.is_set {
            self.is_set = true;
            cx.timers.set(cx.now.monotonic + INTERVAL, Timer::Transfer);
        }
    }

    /// The layout in force is on the disk: from here on nothing comes to what is not this node's own.
    pub(crate) fn on_fenced(&mut self, around: &mut Around<'_>) {
        if around.node.layouts.fenced() == around.node.map.layout().rank() {
            self.departures.on_layout(around.node.map.layout(), around.shard.left());
        }
        if planted!(DropUnconfirmed) {
            let left: Vec<_> = around.shard.left().collect();
            left.into_iter().for_each(|partition| around.shard.begin_dropping(around.cx, partition));
        }
    }

    /// Returns a step to propose, if there is one.
    pub(crate) fn on_timer(
        &mut self,
        around: &mut Around<'_>,
        exchanges: &Exchanges,
    ) -> Option<gramme_ring::Step> {
        self.is_set = false;
        let layout = around.node.map.layout();
        let is_changing = layout.moving().next().is_some() || !layout.roster().leaving.is_empty();
        let is_dropping = around.shard.next_to_drop().is_some();
        if is_changing || is_dropping || around.shard.left().next().is_some() {
            self.on_layout(around.cx);
        }
        self.ask_to_take(around);
        self.drop_next(around);
        if !is_changing || !is_first(around) {
            return None;
        }
        let (me, now) = (around.cx.me(), around.cx.now.monotonic);
        let own = report_of(&progress(around, exchanges));
        self.stages.on_report(now, me, own);
        ask(around, around.node.map.others(me).collect());
        let peers = around.node.peers();
        let is_there = |node| node == me || peers.state(node) == Opinion::Alive;
        self.stages.next(now, around.node.map.layout(), is_there).filter(|_| !around.node.is_deciding())
    }

    pub(crate) fn on_progress(&mut self, around: &mut Around<'_>, from: NodeId, progress: &Progress) {
        self.stages.on_report(around.cx.now.monotonic, from, report_of(progress));
        if self.missing.remove(&from) && self.missing.is_empty() {
            self.answer(around);
        }
    }

    /// Somebody wants to know how far everything is.
    pub(crate) fn on_question(&mut self, around: &mut Around<'_>, exchanges: &Exchanges, ticket: Ticket) {
        let (me, now) = (around.cx.me(), around.cx.now.monotonic);
        self.stages.on_report(now, me, report_of(&progress(around, exchanges)));
        self.questions.push(ticket);
        if self.missing.is_empty() {
            let peers = around.node.peers();
            let there = around.node.map.others(me).filter(|node| peers.state(*node) == Opinion::Alive);
            self.missing = there.collect();
            ask(around, self.missing.iter().copied().collect());
            around.cx.timers.set(now + WAIT, Timer::Asked);
        }
        if self.missing.is_empty() {
            self.answer(around);
        }
    }

    /// Those who have not answered are not waited for.
    pub(crate) fn on_asked_timer(&mut self, around: &mut Around<'_>) {
        self.missing.clear();
        self.answer(around);
    }

    fn answer(&mut self, around: &mut Around<'_>) {
        for ticket in std::mem::take(&mut self.questions) {
            let view = self.view(around);
            around.cx.reply(ticket, Response::Transfers(view));
        }
    }

    fn view(&self, around: &Around<'_>) -> TransfersView {
        let Around { cx, node, .. } = around;
        let layout = node.map.layout();
        let count = |of: fn(&Entry) -> bool| layout.moving().filter(|(_, entry)| of(entry)).count();
        let view_of = |id: NodeId| {
            let report = self.stages.report(cx.now.monotonic, id);
            let arrives = |entry: &Entry| match entry {
                Entry::Joining { from, to } | Entry::Leaving { from, to } => {
                    to.contains(&id) && !from.contains(&id)
                }
                Entry::Settled(_) => false,
            };
            let arriving: Vec<_> = layout.moving().filter(|(_, entry)| arrives(entry)).collect();
            let is_complete = |(partition, entry): &&(PartitionId, &Entry)| {
                // Readers ask the new owners only once they have everything.
                matches!(entry, Entry::Leaving { .. })
                    || report.is_some_and(|report| report.complete.contains(partition))
            };
            TransferNode {
                id,
                state: if id == cx.me() { Opinion::Alive } else { node.peers().state(id) },
                is_leaving: layout.roster().leaving.contains(&id),
                has_answered: report.is_some(),
                has_layout: report.is_some_and(|report| report.layout == layout.rank()),
                arriving: arriving.len(),
                complete: arriving.iter().filter(is_complete).count(),
                keeps: report.is_some_and(|report| report.keeps),
            }
        };
        TransfersView {
            layout: layout.rank(),
            joining: count(|entry| matches!(entry, Entry::Joining { .. })),
            leaving: count(|entry| matches!(entry, Entry::Leaving { .. })),
            nodes: layout.members().iter().map(|member| view_of(member.id)).collect(),
        }
    }

    // What this node owns no more.

    /// Asks owners to take over what is here.
    fn ask_to_take(&mut self, around: &mut Around<'_>) {
        let now = around.cx.now.monotonic;
        let Self { departures, asked, .. } = self;
        let peers = around.node.peers();
        let due = departures.due(now, |node| peers.state(node) == Opinion::Alive);
        for (partition, owner) in due {
            let Around { cx, node, .. } = around;
            let id = cx.next_request();
            let header = request_header(cx, node, partition, id, Class::Background);
            // The answer to an earlier question was lost.
            asked.retain(|_, (of, whom, _)| (*of, *whom) != (partition, owner));
            asked.insert(id, (partition, owner, (header.generation, header.epoch)));
            cx.send_as(Class::Background, owner, id, TTL, PeerMessage::TakeOver(TakeOver { header }));
        }
    }

    pub(crate) fn on_take_over_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: &TakeOverReply,
    ) {
        let Some((partition, owner, epoch)) = self.asked.remove(&id).filter(|(_, owner, _)| *owner == from)
        else {
            return;
        };
        if failure(reply.header.status).is_some() {
            return self.departures.on_failed(partition, owner, around.cx.now.monotonic + AGAIN);
        }
        if self.departures.on_done(partition, owner, epoch) {
            self.departures.forget(partition);
            around.shard.begin_dropping(around.cx, partition);
            self.drop_next(around);
        }
    }

    /// A request has certainly not been answered.
    pub(crate) fn on_failed(&mut self, now: u64, id: u64) {
        if let Some((partition, owner, _)) = self.asked.remove(&id) {
            self.departures.on_failed(partition, owner, now + AGAIN);
        }
    }

    /// Reads the first rows of what is to be dropped, if none are being read.
    fn drop_next(&mut self, around: &mut Around<'_>) {
        let Around { cx, shard, .. } = around;
        if self.dropping.is_none() && !shard.is_full(cx, Class::Background) {
            self.dropping = shard.next_to_drop();
            if let Some(partition) = self.dropping {
                shard.scan_dropped(cx, partition);
            }
        }
    }

    /// Rows of a partition that is dropped were read.
    pub(crate) fn on_page(
        &mut self,
        around: &mut Around<'_>,
        partition: PartitionId,
        result: Result<Page, LoadFailed>,
    ) {
        self.dropping = None;
        let Around { cx, node, shard } = around;
        // What cannot be read is tried again at the next time.
        let Ok(page) = result else { return };
        for place in page.rows.iter().map(|(place, _)| place).chain(&page.unreadable) {
            shard.drop_row(cx, place);
        }
        if page.rows.is_empty() && page.unreadable.is_empty() {
            shard.end_dropping(cx, node.map.layout(), partition);
        }
        self.drop_next(around);
    }
}

/// Asks nodes how far they are.
fn ask(around: &mut Around<'_>, nodes: Vec<NodeId>) {
    let layout = around.node.map.layout().rank();
    for node in nodes {
        let id = around.cx.next_request();
        let ask = PeerMessage::AskProgress(AskProgress { layout });
        around.cx.send_as(Class::Background, node, id, TTL, ask);
    }
}

/// Whether this node is the first of the members that answer.
fn is_first(around: &Around<'_>) -> bool {
    let Around { cx, node, .. } = around;
    let (me, layout) = (cx.me(), node.map.layout());
    let is_there = |id: NodeId| id == me || node.peers().state(id) == Opinion::Alive;
    layout.members().iter().map(|member| member.id).find(|id| is_there(*id)) == Some(me)
}

/// How far this node is with what moves.
fn progress(around: &Around<'_>, exchanges: &Exchanges) -> Progress {
    let Around { node, shard, .. } = around;
    let fenced = node.layouts.fenced();
    let peers = node.peers();
    let is_moving = |partition: &PartitionId| !node.map.is_settled(*partition);
    let uncounted = |partition: &PartitionId| is_moving(partition) && shard.counts(*partition).is_err();
    let now = around.cx.now.monotonic;
    let is_there = |id: NodeId, partition: PartitionId| peers.is_sound(id, partition, now);
    let mut complete = match planted!(CompleteEarly) {
        true => node.map.layout().moving().map(|(partition, _)| partition).collect(),
        false => exchanges.arrivals().complete(fenced, is_there),
    };
    complete.retain(|partition| !uncounted(partition));
    let uncounted = shard.totals().map(|(id, _)| id).filter(uncounted).collect();
    Progress { layout: fenced, complete, uncounted, keeps: shard.has_foreign() }
}

fn report_of(progress: &Progress) -> Report {
    Report {
        layout: progress.layout,
        complete: progress.complete.iter().copied().collect(),
        uncounted: progress.uncounted.iter().copied().collect::<BTreeSet<_>>(),
        keeps: progress.keeps,
    }
}

impl Around<'_> {
    /// Another node asks how far this one is. What it is told is on the disk.
    pub(crate) fn on_ask_progress(
        &mut self,
        exchanges: &Exchanges,
        from: NodeId,
        id: u64,
        ask: &AskProgress,
    ) {
        if ask.layout > self.node.map.layout().rank() {
            self.node.ask_layout(self.cx, from);
        }
        let progress = Box::new(progress(self, exchanges));
        self.shard.confirm(self.cx, Writer::Progress { to: from, id, progress }, Level::Synced);
    }

    pub(crate) fn answer_take_over(
        &mut self,
        (to, id): (NodeId, u64),
        partition: PartitionId,
        status: Status,
    ) {
        let header = reply_header(self.node, self.shard, partition, status);
        self.cx.send_as(Class::Background, to, id, TTL, PeerMessage::TakeOverReply(TakeOverReply { header }));
    }
}
