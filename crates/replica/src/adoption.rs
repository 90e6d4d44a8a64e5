//! A later layout comes into force here.
//!
//! It is committed before anything that follows from it is staged, so that whoever has a write of the new epoch on its disk has
//! the epoch there, too. Requests under way whose partitions have other owners now begin again and count from zero. What was
//! asked here under this layout, by nodes that had it earlier, has waited, and is done now.

use std::collections::VecDeque;

use gramme_plant::planted;
use gramme_ring::{Layout, NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::RequestHeader;

use crate::io::Effect;
use crate::node::layout_row;
use crate::replica::Replica;
use crate::serve::epoch_of;

/// Requests that wait for a layout, their bytes, and how long, in microseconds. More are lost, as messages are.
const WAITING: usize = 4_096;
const BYTES: usize = 64 << 20;
const PATIENCE: u64 = 5_000_000;

/// Requests of a later epoch than is known here.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Each with until when; the first ends first.
    waiting: VecDeque<(u64, NodeId, u64, PeerMessage)>,
    bytes: usize,
}

impl Replica {
    /// Whether a message must wait until this node has the layout that its sender acts on.
    pub(crate) fn is_early(&self, message: &PeerMessage) -> bool {
        let is_later = |header: &RequestHeader| epoch_of(header) > self.node.map.epoch(header.partition);
        match message {
            PeerMessage::Read(read) => is_later(&read.header),
            PeerMessage::Write(write) => is_later(&write.header),
            PeerMessage::Repair(repair) => is_later(&repair.header),
            PeerMessage::Forward(forward) => is_later(&forward.header),
            _ => false,
        }
    }

    pub(crate) fn keep_early(&mut self, from: NodeId, id: u64, message: PeerMessage) {
        let now = self.cx.now.monotonic;
        let Early { waiting, bytes } = &mut self.early;
        while let Some((.., message)) = waiting.pop_front_if(|(until, ..)| *until <= now) {
            *bytes -= size(&message);
        }
        if waiting.len() < WAITING && *bytes + size(&message) <= BYTES {
            self.cx.stats.requests_early += 1;
            *bytes += size(&message);
            waiting.push_back((now + PATIENCE, from, id, message));
        }
        self.node.ask_layout(&mut self.cx, from);
    }

    /// Takes a layout, if it is later than ours.
    pub(crate) fn take_layout(&mut self, layout: Layout) {
        let before = self.node.map.layout();
        if layout.rank() <= before.rank() || layout.depth() != before.depth() {
            return;
        }
        if layout.is_removed(self.cx.me()) {
            self.cx.out.push(Effect::Removed);
            return;
        }
        let is_changed = |partition: &PartitionId| {
            let epoch = |layout: &Layout| (layout.generation(), layout.epoch(*partition));
            epoch(before) != epoch(&layout)
        };
        let changed: Vec<PartitionId> = layout.partitions().filter(is_changed).collect();
        self.cx.stats.layouts += 1;
        self.planning.on_layout(&mut self.cx, before, &layout);
        self.shard.take_layout(&mut self.cx, &layout, &changed, layout_row(&layout));
        if planted!(FenceEarly) {
            self.node.layouts.on_stored(layout.rank());
        }
        self.node.set_layout(&mut self.cx, &mut self.shard, layout);
        self.node.prove(&mut self.cx, &mut self.shard);
        let (exchanges, mut around) = self.split_exchanges();
        exchanges.on_layout(&mut around, &changed);
        let (coordinator, mut around) = self.split();
        coordinator.on_layout(&mut around, &changed);
        self.transfers.on_layout(&mut self.cx);
        self.node.send_layout_to_all(&mut self.cx);
        for (_, from, id, message) in std::mem::take(&mut self.early).waiting {
            self.on_message(from, id, message);
        }
    }
}

/// About how many bytes a request holds.
fn size(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Write(write) => write.object.len(),
        PeerMessage::Repair(repair) => repair.object.len(),
        PeerMessage::Forward(forward) => {
            forward.put.content.as_ref().map_or(0, |content| content.as_bytes().len())
        }
        _ => 0,
    }
}
