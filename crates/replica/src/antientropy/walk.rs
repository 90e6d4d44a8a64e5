//! Going through a leaf that differs: what came is merged, what the other lacks is sent, page by page.

use bytes::Bytes;
use gramme_antientropy::Input;
use gramme_quorum::Failure;
use gramme_ring::NodeId;
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Range, RangeReply, Status, WriteReply};

use super::{Asked, Exchanges, ROWS, TTL, digest, send_repair, through};
use crate::coordinator::{Around, failure, hear_epoch};
use crate::io::{LoadFailed, Page};
use crate::place::Place;
use crate::serve::request_header;
use crate::shard::{Scanner, Writer};

impl Exchanges {
    pub(crate) fn on_range_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: RangeReply,
    ) {
        let Some(Asked::Range(number)) = self.asked.remove(&id) else { return };
        around.node.lineage.hear_point(from, &reply.header.point);
        let Some(task) = self.tasks.get_mut(&number).filter(|_| self.machine.awaits(number)) else { return };
        if task.peer != from {
            return;
        }
        hear_epoch(around, from, task.partition, &reply.header);
        self.pulls.on_life((from, task.partition), reply.header.life);
        let is_done = failure(reply.header.status).is_none() && reply.through >= task.next;
        if !is_done || !task.take(around, number, &reply) {
            let peer = task.peer;
            return self.step(around, Input::Failed(peer));
        }
        for (place, stored) in task.take_wanted(&reply) {
            let id = send_repair(around, from, &place, stored);
            self.asked.insert(id, Asked::Mend(number, Box::new(place)));
        }
        let bytes = std::mem::take(&mut task.bytes);
        self.step(around, Input::Compared { task: number, bytes });
        self.advance(around, number);
    }

    /// The other has taken a key's state, or has not: what it has seen replaced of it ends here too. Says whether the
    /// answer is to an exchange.
    pub(crate) fn on_write_reply(
        &mut self,
        around: &mut Around<'_>,
        from: NodeId,
        id: u64,
        reply: &WriteReply,
    ) -> bool {
        if !matches!(self.asked.get(&id), Some(Asked::Mend(..))) {
            return false;
        }
        let Some(Asked::Mend(number, place)) = self.asked.remove(&id) else { return false };
        around.node.lineage.hear_point(from, &reply.header.point);
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.peer == from) else { return true };
        hear_epoch(around, from, task.partition, &reply.header);
        let is_taken = match failure(reply.header.status) {
            // What it has it has, whether it counts or not.
            None | Some(Failure::Amnesiac | Failure::Unproven) => true,
            Some(_) => false,
        };
        // First what replaced it: it may be nowhere else, and the version that goes may be acknowledged.
        let has_both = reply.object.is_empty() || task.merge(around, number, (&place.key, &reply.object));
        if is_taken && has_both && !reply.covered.is_empty() {
            let writer = Writer::Exchange(number, from);
            around.shard.bury(around.cx, &place, reply.covered.clone(), writer);
        } else {
            task.on_merged(is_taken && has_both);
            self.advance(around, number);
        }
        true
    }

    /// Something that an exchange brought is merged, or was not taken.
    pub(crate) fn on_merged(&mut self, around: &mut Around<'_>, number: u64, status: Status) {
        let Some(task) = self.tasks.get_mut(&number) else { return };
        task.on_merged(failure(status).is_none());
        self.advance(around, number);
    }

    /// Goes on with a leaf, once all that came is merged.
    fn advance(&mut self, around: &mut Around<'_>, number: u64) {
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.merging == 0) else { return };
        if task.through < task.last {
            task.next = task.through + 1;
            return self.go_on(around, number);
        }
        // What was sent before and has changed nothing is not mended by sending it again.
        let keys = if task.is_as_before { 0 } else { task.keys };
        let (peer, partition, is_whole) = (task.peer, task.partition, task.is_whole);
        self.tasks.remove(&number);
        self.step(around, Input::Mended { task: number, keys });
        let whole = self.pulls.on_leaf(around, (peer, partition), is_whole);
        self.on_whole(around, &whole);
    }

    /// Rows of a leaf were read: asks the other to compare them with its own.
    pub(crate) fn on_leaf_page(
        &mut self,
        around: &mut Around<'_>,
        number: u64,
        result: Result<Page, LoadFailed>,
    ) {
        let Some(task) = self.tasks.get_mut(&number).filter(|_| self.machine.awaits(number)) else { return };
        let peer = task.peer;
        let Ok(page) = result else { return self.step(around, Input::Failed(peer)) };
        let last = through(&page, task.last);
        task.is_whole &= page.unreadable.is_empty();
        task.rows = page.rows;
        // A row that cannot be read is as good as absent: the other's copy is sent for it.
        let key = |(place, stored): &(Place, Bytes)| Some((place.key.clone(), digest(place, stored).ok()??));
        let keys = task.rows.iter().filter_map(key).collect();
        let Around { cx, node, .. } = around;
        let id = cx.next_request();
        let header = request_header(cx, node, task.partition, id, Class::Background);
        let range = Range { header, first: task.next, last, keys };
        self.asked.insert(id, Asked::Range(number));
        cx.send_as(Class::Background, peer, id, TTL, PeerMessage::Range(range));
    }

    pub(super) fn go_on(&self, around: &mut Around<'_>, number: u64) {
        let Some(task) = self.tasks.get(&number) else { return };
        let range = (task.partition, task.next, task.last);
        around.shard.scan_range(around.cx, range, ROWS, Scanner::Leaf(number));
    }
}
