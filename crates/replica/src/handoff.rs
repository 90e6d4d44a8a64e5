//! Hinted handoff (section 4.6 of the paper): what was kept for a node goes to it when it is back.
//!
//! A round looks every few seconds for nodes that copies are kept for and that can be reached; a node that has
//! just come back need not wait for it. The pace, and what happens when a delivery fails, is `gramme-handoff`'s.
//!
//! A copy that was kept for a node which does not own its partition any more goes to all that do, this one perhaps among them,
//! and is let go once all of them have it.

use std::collections::BTreeMap;

use bytes::Bytes;
use gramme_gossip::Opinion;
use gramme_handoff::{Config, Effect, Handoff, Input, Outcome, Progress};
use gramme_object::Object;
use gramme_plant::planted;
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Hint, HintReply, Status};

use crate::coordinator::{Around, hear_epoch};
use crate::cx::Cx;
use crate::io::{LoadFailed, Page};
use crate::pace::Background;
use crate::place::{Place, Space};
use crate::serve::request_header;
use crate::shard::{Brought, Level, Writer};
use crate::timers::Timer;

/// How often it is looked for copies that can be handed on, in microseconds.
const ROUND: u64 = 5_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct HandingOn {
    machine: Handoff<Place>,
    /// Which delivery each request is, and of which partition.
    requests: BTreeMap<u64, (u64, PartitionId)>,
    /// Deliveries to several owners: from how many an answer is missing, and what came of the others.
    shared: BTreeMap<u64, (usize, Outcome)>,
    timer: Option<u64>,
}

impl Background for HandingOn {
    fn is_busy(&self) -> bool {
        self.machine.runs().next().is_some()
    }

    fn set_rate(&mut self, cx: &mut Cx, bytes_per_second: u64) {
        self.machine.set_rate(cx.now.monotonic, bytes_per_second);
        // It may be able to go on sooner than it was.
        cx.timers.hurry(&mut self.timer, self.machine.next_timer(), Timer::Handoff);
    }
}

impl HandingOn {
    pub(crate) fn new() -> Self {
        let (requests, shared) = (BTreeMap::new(), BTreeMap::new());
        Self { machine: Handoff::new(Config::USUAL), requests, shared, timer: None }
    }

    /// The run for a node, if one is under way.
    pub(crate) fn run(&self, target: NodeId) -> Option<Progress> {
        self.machine.runs().find(|run| run.target == target)
    }

    pub(crate) fn on_round(&mut self, around: &mut Around<'_>) {
        let now = around.cx.now.monotonic;
        around.cx.timers.set(now + ROUND, Timer::HandoffRound);
        // What was not answered in time is for nobody.
        self.requests.retain(|_, (delivery, _)| self.machine.awaits(*delivery));
        self.shared.retain(|delivery, _| self.machine.awaits(*delivery));
        let targets: Vec<_> = around.shard.backlogs().keys().copied().collect();
        self.begin(around, targets);
    }

    /// A node can be reached again.
    pub(crate) fn on_back(&mut self, around: &mut Around<'_>, node: NodeId) {
        if around.shard.backlogs().contains_key(&node) {
            self.begin(around, vec![node]);
        }
    }

    pub(crate) fn on_gone(&mut self, around: &mut Around<'_>, node: NodeId) {
        self.step(around, Input::Gone(node));
    }

    fn begin(&mut self, around: &mut Around<'_>, mut targets: Vec<NodeId>) {
        // What is kept for one that is gone for good has other owners.
        let layout = around.node.map.layout();
        let goes = |target: &NodeId| !layout.is_member(*target) || layout.roster().leaving.contains(target);
        targets.retain(|target| goes(target) || around.node.peers().state(*target) == Opinion::Alive);
        if !targets.is_empty() {
            self.step(around, Input::Round(targets));
        }
    }

    pub(crate) fn on_timer(&mut self, around: &mut Around<'_>) {
        self.timer = None;
        self.step(around, Input::Timer);
    }

    pub(crate) fn on_page(
        &mut self,
        around: &mut Around<'_>,
        (run, target): (u64, NodeId),
        result: Result<Page, LoadFailed>,
    ) {
        let Ok(page) = result else { return self.step(around, Input::Unread(run)) };
        around.cx.stats.load_failures += page.unreadable.len() as u64;
        for row in &page.unreadable {
            let place = Place { space: Space::Hints(target), ..around.node.map.place(row.key.clone()) };
            around.shard.check_hint(around.cx, &place);
            // It lacks something that nothing here can bring any more.
            around.cx.dirty.insert(target);
        }
        // The disk knows rows by their names, and not which partition they are of.
        let space = Space::Hints(target);
        let place = |place: Place| Place { space, ..around.node.map.place(place.key) };
        let rows = page.rows.into_iter().map(|(row, object)| (place(row), object)).collect();
        let next = page.next.map(place);
        self.step(around, Input::Page { run, rows, next });
    }

    pub(crate) fn on_reply(&mut self, around: &mut Around<'_>, from: NodeId, id: u64, reply: &HintReply) {
        around.node.lineage.hear_point(from, &reply.header.point);
        if let Some((_, partition)) = self.requests.get(&id) {
            let partition = *partition;
            hear_epoch(around, from, partition, &reply.header);
        }
        let outcome = match reply.header.status {
            Status::DoneSynced | Status::Covered => Outcome::Kept,
            // It may be that key's row alone that cannot be read.
            Status::DiskError => Outcome::Refused,
            Status::Refused | Status::Closed | Status::TooLarge => Outcome::Refused,
            Status::DoneBuffered
            | Status::Busy
            | Status::Amnesiac
            | Status::Unproven
            | Status::WriteStopped
            | Status::Stale
            | Status::NotOwner
            | Status::HintsFull
            | Status::Failed => Outcome::Failed,
        };
        self.on_outcome(around, id, outcome);
    }

    /// A delivery has certainly not been taken.
    pub(crate) fn on_failed(&mut self, around: &mut Around<'_>, id: u64) {
        self.on_outcome(around, id, Outcome::Failed);
    }

    /// A copy that was kept for a former owner has come to this node's own data, or has not.
    pub(crate) fn on_own(&mut self, around: &mut Around<'_>, id: u64, status: Status) {
        let is_kept = matches!(status, Status::DoneSynced | Status::Covered);
        self.on_outcome(around, id, if is_kept { Outcome::Kept } else { Outcome::Failed });
    }

    fn on_outcome(&mut self, around: &mut Around<'_>, id: u64, outcome: Outcome) {
        let Some((delivery, _)) = self.requests.remove(&id) else { return };
        let outcome = match self.shared.get_mut(&delivery) {
            None => outcome,
            Some((left, so_far)) => {
                *left = left.saturating_sub(1);
                if *so_far == Outcome::Kept {
                    *so_far = outcome;
                }
                let (is_open, all) = (*left > 0, *so_far);
                if is_open {
                    return;
                }
                self.shared.remove(&delivery);
                all
            }
        };
        self.step(around, Input::Answered { delivery, outcome });
    }

    fn step(&mut self, around: &mut Around<'_>, input: Input<Place>) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            self.machine.step(around.cx.now.monotonic, input, &mut effects);
            inputs.extend(effects.into_iter().filter_map(|effect| self.perform(around, effect)));
        }
        let stats = self.machine.stats();
        around.cx.stats.hints_handed_on = stats.rows;
        around.cx.stats.hints_unwanted = stats.refused;
        around.cx.stats.hints_failed = stats.failed;
        around.cx.timers.hurry(&mut self.timer, self.machine.next_timer(), Timer::Handoff);
    }

    /// Does what is to be done; returns what has come of it at once.
    fn perform(&mut self, around: &mut Around<'_>, effect: Effect<Place>) -> Option<Input<Place>> {
        let Around { cx, shard, .. } = around;
        match effect {
            Effect::Scan { run, target, after, limit } => {
                shard.scan_hints(cx, (run, target), after, limit);
            }
            Effect::Forget { row, object } => shard.forget_hint(cx, &row, object),
            Effect::Deliver { delivery, target, row, object } => {
                if !self.deliver(around, (delivery, target), &row, &object) {
                    return Some(Input::Answered { delivery, outcome: Outcome::Refused });
                }
            }
        }
        None
    }

    /// Hands a copy on to the node that it is kept for, or to the owners that there are instead. Says whether it can.
    fn deliver(
        &mut self,
        around: &mut Around<'_>,
        (delivery, target): (u64, NodeId),
        row: &Place,
        stored: &Bytes,
    ) -> bool {
        let Around { cx, node, shard } = around;
        let me = cx.me();
        let mut owners: Vec<NodeId> = match node.map.layout().is_holder(row.partition, target) {
            true if node.peers().state(target) == Opinion::Alive => vec![target],
            // It owns this still, and cannot be reached.
            true => return false,
            false => node.map.holders(row.partition).collect(),
        };
        let own = owners.contains(&me).then(|| Object::decode(stored));
        if matches!(own, Some(Err(_))) {
            // It is kept, and not taken for nothing.
            return false;
        }
        if planted!(HintGone) {
            shard.forget_hint(cx, row, stored.clone());
        }
        if owners.len() > 1 {
            self.shared.insert(delivery, (owners.len(), Outcome::Kept));
        }
        owners.retain(|owner| *owner != me);
        if let Some(Ok(object)) = own {
            let id = self.name(cx, delivery, row);
            let place = Place { space: Space::Data, ..row.clone() };
            let brought = Brought { object, stored: stored.clone() };
            shard.merge(cx, &place, brought, Writer::Own(id), (Level::Synced, Class::Background));
        }
        for owner in owners {
            let id = self.name(cx, delivery, row);
            let header = request_header(cx, node, row.partition, id, Class::Background);
            let hint = PeerMessage::Hint(Hint { header, key: row.key.clone(), object: stored.clone() });
            cx.send_as(Class::Background, owner, id, Config::USUAL.patience, hint);
        }
        true
    }

    /// A number for one request of a delivery.
    fn name(&mut self, cx: &mut Cx, delivery: u64, row: &Place) -> u64 {
        let id = cx.next_request();
        self.requests.insert(id, (delivery, row.partition));
        id
    }
}
