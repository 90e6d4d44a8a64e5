//! Closing dead tenures (`docs/causality.md`, Forgetting).
//!
//! A context says "every dot of A up to 17 that belongs to this key", so it may be forgotten only once everybody has
//! seen all of them. Some of A's dots nobody will ever see: their coordinator ended before anybody had them, or a
//! fallback replaced its own version before it was handed on. As long as A lives it can be asked for them. Once it
//! does not, it is *closed*: marked as over, all of it seen.
//!
//! That is right only if nothing of it can turn up any more. So
//!
//! 1. every member is asked whether it writes under A, and none does: then nobody ever will, since no tenure is taken up
//!    again;
//! 2. every member records that A is closed, and takes no new write of it from then on, not even to keep it for another;
//! 3. every member says that it keeps nothing for the owners: what was kept has arrived;
//! 4. and after that this owner pulls from each other one.
//!
//! Then all that there is of A is here, and the rest is nowhere. A member that is away holds this up; one that is gone
//! for good leaves by an operator's act. Each owner does it for itself, of tenures that keep it from forgetting
//! something, and of those that another one is about to close.

use std::collections::{BTreeMap, BTreeSet};

use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::Actor;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Close, CloseReply, Status, TakeOver};

use super::pull::Whole;
use crate::coordinator::{Around, failure, hear_epoch};
use crate::serve::{reply_header, request_header};
use crate::shard::Writer;

/// Partitions for which this is done at once.
const ROUNDS: usize = 16;
/// Tenures of one partition that are closed at once.
const ACTORS: usize = 256;
/// How often whoever has not answered is asked again, in microseconds.
const AGAIN: u64 = 5_000_000;
/// After how long it is begun anew, in microseconds.
const GIVE_UP: u64 = 300_000_000;
/// How long a partition is left alone after that, in microseconds.
const PAUSE: u64 = 30_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ask,
    Close,
    /// Exchanges that begin from this time on count.
    Pull(u64),
}

/// What is done about the dead tenures of one partition.
#[derive(Debug)]
struct Round {
    actors: Vec<Actor>,
    stage: Stage,
    /// Who has answered in this stage, or been pulled from.
    done: BTreeSet<NodeId>,
    ask_at: u64,
    until: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Closing {
    rounds: BTreeMap<PartitionId, Round>,
    /// Which partition and stage each request is of.
    requests: BTreeMap<u64, (PartitionId, Stage)>,
    /// Partitions that are left alone until then.
    resting: BTreeMap<PartitionId, u64>,
    /// The partition from which on it is looked next for what there is to close.
    next: Option<PartitionId>,
}

impl Closing {
    /// Time passes: begins what is to be begun, and asks again who has not answered.
    pub(super) fn on_time(&mut self, around: &mut Around<'_>) {
        let now = around.cx.now.monotonic;
        self.resting.retain(|_, until| *until > now);
        let over: Vec<_> =
            self.rounds.iter().filter(|(_, round)| round.until <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|partition| self.rest(partition, now));
        let (obstructing, next) = around.shard.obstructing(now, self.next);
        self.next = next;
        for (partition, actors) in obstructing {
            if self.rounds.len() < ROUNDS
                && around.node.map.is_settled(partition)
                && !self.rounds.contains_key(&partition)
                && !self.resting.contains_key(&partition)
            {
                let actors = actors.into_iter().take(ACTORS).collect();
                let (stage, done, until) = (Stage::Ask, BTreeSet::new(), now + GIVE_UP);
                self.rounds.insert(partition, Round { actors, stage, done, ask_at: now, until });
            }
        }
        let due = self.rounds.iter().filter(|(_, round)| round.ask_at <= now);
        for partition in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.ask(around, partition);
            self.advance(around, partition);
        }
        around.cx.stats.partitions_closing = self.rounds.len() as u64;
    }

    /// Partitions have other owners: what was asked of the old ones proves nothing.
    pub(super) fn on_layout(&mut self, now: u64, changed: &[PartitionId]) {
        for &partition in changed {
            if self.rounds.contains_key(&partition) {
                self.rest(partition, now);
            }
        }
    }

    /// This node has lost data: what was done for a proof proves nothing.
    pub(super) fn lose(&mut self, now: u64) {
        for partition in self.rounds.keys().copied().collect::<Vec<_>>() {
            self.rest(partition, now);
        }
    }

    fn rest(&mut self, partition: PartitionId, now: u64) {
        self.rounds.remove(&partition);
        self.requests.retain(|_, (of, _)| *of != partition);
        self.resting.insert(partition, now + PAUSE);
    }

    /// Asks who has not answered in this stage.
    fn ask(&mut self, around: &mut Around<'_>, partition: PartitionId) {
        let Some(round) = self.rounds.get_mut(&partition) else { return };
        let Around { cx, node, .. } = around;
        round.ask_at = cx.now.monotonic + AGAIN;
        if let Stage::Pull(_) = round.stage {
            return;
        }
        self.requests.retain(|_, (of, _)| *of != partition);
        let silent: Vec<_> = node.map.others(cx.me()).filter(|node| !round.done.contains(node)).collect();
        for to in silent {
            let id = cx.next_request();
            self.requests.insert(id, (partition, round.stage));
            let header = request_header(cx, node, partition, id, Class::Background);
            let close = Close { header, actors: round.actors.clone(), is_final: round.stage == Stage::Close };
            cx.send_as(Class::Background, to, id, AGAIN, PeerMessage::Close(close));
        }
    }

    pub(super) fn on_reply(&mut self, around: &mut Around<'_>, from: NodeId, id: u64, reply: &CloseReply) {
        let Some((partition, stage)) = self.requests.remove(&id) else { return };
        around.node.lineage.hear_point(from, &reply.header.point);
        hear_epoch(around, from, partition, &reply.header);
        let Some(round) = self.rounds.get_mut(&partition).filter(|round| round.stage == stage) else {
            return;
        };
        if failure(reply.header.status).is_some() {
            return;
        }
        if !reply.alive.is_empty() {
            round.actors.retain(|actor| !reply.alive.contains(actor));
            if round.actors.is_empty() || stage != Stage::Ask {
                around.ask_to_take_over(partition);
                return self.rest(partition, around.cx.now.monotonic);
            }
        }
        if !reply.keeps || stage == Stage::Ask {
            round.done.insert(from);
            self.advance(around, partition);
        }
    }

    /// All that other owners had of partitions is here.
    pub(super) fn on_whole(&mut self, around: &mut Around<'_>, whole: &[Whole]) {
        for whole in whole {
            let Some(round) = self.rounds.get_mut(&whole.partition) else { continue };
            if let Stage::Pull(since) = round.stage
                && whole.began >= since
            {
                round.done.insert(whole.peer);
                self.advance(around, whole.partition);
            }
        }
    }

    /// Goes on to the next stage, if this one is over.
    fn advance(&mut self, around: &mut Around<'_>, partition: PartitionId) {
        let Some(round) = self.rounds.get_mut(&partition) else { return };
        let (me, now) = (around.cx.me(), around.cx.now.monotonic);
        let layout = around.node.map.layout();
        let all_said = around.node.map.others(me).all(|node| round.done.contains(&node));
        let next = match round.stage {
            Stage::Ask if all_said => {
                let alive = around.shard.alive(partition, &round.actors);
                round.actors.retain(|actor| !alive.contains(actor));
                if round.actors.is_empty() {
                    around.ask_to_take_over(partition);
                    return self.rest(partition, now);
                }
                let actors = round.actors.clone();
                around.shard.close(around.cx, partition, &actors, Writer::Nobody);
                Stage::Close
            }
            Stage::Close if all_said && !around.keeps_for_owners(partition) => Stage::Pull(now),
            Stage::Pull(_) if layout.holders_but(partition, me).all(|node| round.done.contains(&node)) => {
                around.cx.stats.tenures_closed += round.actors.len() as u64;
                around.shard.finish(around.cx, partition, &round.actors);
                self.rounds.remove(&partition);
                return;
            }
            _ => return,
        };
        (round.stage, round.done, round.ask_at) = (next, BTreeSet::new(), now);
        if next == Stage::Close {
            self.ask(around, partition);
        }
        // Where there is nobody to ask, everybody has answered.
        self.advance(around, partition);
    }
}

impl Around<'_> {
    /// What others have not seen was written by somebody who still writes, and may be here in a context alone: an owner that
    /// missed it, and has nothing to forget itself, would never ask.
    fn ask_to_take_over(&mut self, partition: PartitionId) {
        let Self { cx, node, .. } = self;
        for to in node.map.layout().holders_but(partition, cx.me()).collect::<Vec<_>>() {
            let id = cx.next_request();
            let header = request_header(cx, node, partition, id, Class::Background);
            cx.send_as(Class::Background, to, id, AGAIN, PeerMessage::TakeOver(TakeOver { header }));
        }
    }

    /// Whether this node keeps something for an owner of a partition, or for one that was, or has owned it itself and not
    /// handed it over yet.
    fn keeps_for_owners(&self, partition: PartitionId) -> bool {
        let owned = |target: &NodeId| self.node.map.may_have_owned(partition, *target);
        self.shard.has_left(partition) || self.shard.backlogs().keys().any(owned)
    }

    /// Another node asks about tenures, or to close them.
    pub(crate) fn on_close(&mut self, from: NodeId, id: u64, close: &Close) {
        let partition = close.header.partition;
        if let Err(status) = self.admit_partition(from, &close.header) {
            return self.answer_close((from, id), partition, (status, Vec::new()));
        }
        if !self.node.map.has(partition) {
            return self.answer_close((from, id), partition, (Status::NotOwner, Vec::new()));
        }
        let alive = self.shard.alive(partition, &close.actors);
        if !close.is_final || !alive.is_empty() || close.actors.len() > ACTORS {
            let is_few = close.actors.len() <= ACTORS;
            let status = if is_few { Status::DoneSynced } else { Status::Refused };
            return self.answer_close((from, id), partition, (status, alive));
        }
        let writer = Writer::Close { to: from, id, partition };
        self.shard.close(self.cx, partition, &close.actors, writer);
    }

    pub(crate) fn answer_close(
        &mut self,
        (to, id): (NodeId, u64),
        partition: PartitionId,
        (status, alive): (Status, Vec<Actor>),
    ) {
        let header = reply_header(self.node, self.shard, partition, status);
        let reply = CloseReply { header, alive, keeps: self.keeps_for_owners(partition) };
        self.cx.send_as(Class::Background, to, id, AGAIN, PeerMessage::CloseReply(reply));
    }
}
