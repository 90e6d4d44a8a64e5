//! Partitions on their way from old owners to new ones (`docs/ring-change.md`): what this node does about it beyond exchanges,
//! which copy them.
//!
//! Three things, a few times a second while anything moves. What this node owns no more it asks the owners to take over, and
//! drops once they have. How far it is it says when it is asked. And the member with the lowest id among those that answer asks
//! everybody, and proposes to the voters what may go on; if two think that they are that one, the votes decide.

use std::collections::{BTreeMap, BTreeSet};

use gramme_gossip::Opinion;
use gramme_ring::{NodeId, PartitionId};
use gramme_transfer::{Departures, Rank, Report, Stages};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{AskProgress, Class, Progress, Status, TakeOver, TakeOverReply};

use crate::antientropy::Exchanges;
use crate::coordinator::{Around, failure};
use crate::cx::Cx;
use crate::io::{LoadFailed, Page};
use crate::serve::{reply_header, request_header};
use crate::shard::{Level, Writer};
use crate::timers::Timer;

/// How often it is looked for what is to be done, while there is anything, in microseconds.
const INTERVAL: u64 = 250_000;
/// How long an answer is worth waiting for, in microseconds.
const TTL: u64 = 5_000_000;
/// How long after a failure an owner is asked again, in microseconds.
const AGAIN: u64 = 2_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    departures: Departures,
    stages: Stages,
    /// Who was asked to take over what, under which decision.
    asked: BTreeMap<u64, (PartitionId, NodeId, Rank)>,
    /// The partition whose rows are being dropped.
    dropping: Option<PartitionId>,
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
    pub(crate) fn on_fenced(&mut self, around: &Around<'_>) {
        if around.node.layouts.fenced() == around.node.map.layout().rank() {
            self.departures.on_layout(around.node.map.layout(), around.shard.left());
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
        for node in around.node.map.others(me).collect::<Vec<_>>() {
            let id = around.cx.next_request();
            let layout = around.node.map.layout().rank();
            let ask = PeerMessage::AskProgress(AskProgress { layout });
            around.cx.send_as(Class::Background, node, id, TTL, ask);
        }
        let peers = around.node.peers();
        let is_there = |node| node == me || peers.state(node) == Opinion::Alive;
        self.stages.next(now, around.node.map.layout(), is_there).filter(|_| !around.node.is_deciding())
    }

    pub(crate) fn on_progress(&mut self, now: u64, from: NodeId, progress: &Progress) {
        self.stages.on_report(now, from, report_of(progress));
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
                shard.scan_dropped(cx, partition, None);
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
        match page.next {
            // Some may have been staged and not been there; the next pass finds them.
            None if page.rows.is_empty() && page.unreadable.is_empty() => {
                shard.end_dropping(cx, node.map.layout(), partition);
                self.drop_next(around);
            }
            None => self.drop_next(around),
            Some(next) => {
                self.dropping = Some(partition);
                shard.scan_dropped(cx, partition, Some(next));
            }
        }
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
    let is_there = |id: NodeId| peers.state(id) == Opinion::Alive;
    let mut complete = exchanges.arrivals().complete(fenced, is_there);
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
