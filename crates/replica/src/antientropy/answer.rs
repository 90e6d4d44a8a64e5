//! What this node answers when another compares with it. Nothing is remembered between two questions.

use bytes::Bytes;
use gramme_antientropy::{Config, compare};
use gramme_object::Key;
use gramme_ring::{KeyHash, NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{
    Class, Leaves, LeavesReply, PartitionLeaves, Range, RangeReply, RootsReply, Seen, Status, Sum,
};

use super::{ANSWER, ROWS, TTL, digest, through};
use crate::coordinator::Around;
use crate::io::{LoadFailed, Page};
use crate::serve::reply_header;
use crate::shard::{RangeScan, Scanner, sum_of};

impl Around<'_> {
    /// The sums of the partitions that this node and another both own, but for empty ones.
    pub(super) fn shared_with(&self, peer: NodeId) -> Vec<(PartitionId, Sum)> {
        let layout = self.node.map.layout();
        let owned = self.shard.totals().filter(|(id, total)| total.count > 0 && layout.is_holder(*id, peer));
        owned.map(|(id, total)| (id, sum_of(total))).collect()
    }

    /// The partitions that this node and another both own, and that count for nothing here.
    pub(super) fn uncounted_with(&self, peer: NodeId) -> Vec<PartitionId> {
        if self.shard.all_count() {
            return Vec::new();
        }
        let layout = self.node.map.layout();
        let owned = self.shard.totals().map(|(id, _)| id);
        owned.filter(|id| layout.is_holder(*id, peer) && self.shard.counts(*id).is_err()).collect()
    }

    /// What this node has seen of partitions that another owns and it has, as much as may be said at once.
    pub(super) fn seen_of(&self, peer: NodeId, partitions: &[PartitionId]) -> Vec<Seen> {
        let layout = self.node.map.layout();
        let shared = partitions.iter().filter(|id| layout.is_holder(**id, peer));
        let seen = shared.filter_map(|&partition| {
            let (life, dots) = self.shard.seen(partition)?;
            Some(Seen { partition, life, dots: dots.clone() })
        });
        let mut bytes = 0;
        // One that is too large by itself is sent alone.
        let fits = |seen: &Seen| {
            let before = bytes;
            bytes += 64 + 32 * seen.dots.len() + 16 * seen.dots.gaps();
            before == 0 || bytes <= ANSWER
        };
        seen.take_while(fits).collect()
    }

    /// Answers another node that compares all it shares with this one.
    pub(crate) fn answer_roots(&mut self, (to, id): (NodeId, u64), reply: RootsReply) {
        self.cx.send_as(Class::Background, to, id, TTL, PeerMessage::RootsReply(reply));
    }

    /// Another node asks for the leaves of partitions.
    pub(crate) fn on_leaves(&mut self, (from, id): (NodeId, u64), leaves: &Leaves) {
        let shown = leaves.partitions.iter().filter(|id| self.shard.shows(**id));
        let few = shown.take(Config::USUAL.partitions);
        let leaves = few.filter_map(|&partition| {
            let (life, _) = self.shard.seen(partition)?;
            Some(PartitionLeaves { partition, life, leaves: self.shard.leaves(partition) })
        });
        let leaves = leaves.collect();
        self.cx.send_as(Class::Background, from, id, TTL, PeerMessage::LeavesReply(LeavesReply { leaves }));
    }

    /// Another node asks to compare its keys between two places.
    pub(crate) fn on_range(&mut self, from: NodeId, id: u64, range: Range) {
        let Range { header, first, last, keys } = range;
        let partition = header.partition;
        let admitted = self.admit_partition(from, &header).and_then(|()| {
            let is_crowded = self.shard.is_crowded(self.cx);
            let is_within = |place| self.node.map.layout().partition_of(KeyHash(place)) == partition;
            if !self.shard.shows(partition) {
                Err(Status::NotOwner)
            } else if first > last || !is_within(first) || !is_within(last) {
                Err(Status::Refused)
            } else if is_crowded {
                Err(Status::Busy)
            } else {
                Ok(())
            }
        });
        let scan = RangeScan { to: from, id, partition, last, keys };
        match admitted {
            Ok(()) => {
                let range = (partition, first, last);
                self.shard.scan_range(self.cx, range, ROWS, Scanner::Range(Box::new(scan)));
            }
            Err(status) => self.answer_range(&scan, status, Compared::default()),
        }
    }

    /// The rows that another node's keys are to be compared with were read.
    pub(crate) fn on_range_page(&mut self, scan: &RangeScan, result: Result<Page, LoadFailed>) {
        match result {
            // It may have begun to go while it was read.
            Ok(_) if !self.shard.shows(scan.partition) => {
                self.answer_range(scan, Status::NotOwner, Compared::default());
            }
            Ok(page) => {
                let compared = self.compare(scan, &page);
                self.answer_range(scan, Status::DoneSynced, compared);
            }
            Err(LoadFailed) => self.answer_range(scan, Status::DiskError, Compared::default()),
        }
    }

    fn compare(&self, scan: &RangeScan, page: &Page) -> Compared {
        let mut through = through(page, scan.last);
        let hash = |key: &Key| self.node.map.place(key.clone()).hash.0;
        let theirs: Vec<_> = scan.keys.iter().map(|(key, digest)| ((hash(key), key), *digest)).collect();
        let is_owned = self.shard.owns(scan.partition);
        let is_uncounted = is_owned && self.shard.counts(scan.partition).is_err();
        let mut is_damaged = is_uncounted || !page.unreadable.is_empty();
        let ours = page.rows.iter().filter_map(|(place, stored)| {
            let digest = digest(place, stored);
            is_damaged |= digest.is_err();
            Some(((place.hash.0, &place.key), digest.ok()??))
        });
        let found = compare(ours, theirs.into_iter().filter(|((hash, _), _)| *hash <= through));
        let (mut objects, mut bytes, mut last) = (Vec::new(), 0, None);
        for (hash, key) in found.ours {
            let row = page.rows.iter().find(|(place, _)| place.key == *key);
            let Some((_, stored)) = row else { continue };
            if let Some(last) = last.filter(|last| *last < hash && bytes + stored.len() > ANSWER) {
                // What is left is compared again.
                through = last;
                break;
            }
            last = Some(hash);
            bytes += stored.len();
            objects.push((key.clone(), stored.clone()));
        }
        // What is no more its own only goes.
        let wants = found.theirs.into_iter().filter(|(hash, _)| is_owned && *hash <= through);
        let wants = wants.map(|(_, key)| key.clone()).collect();
        Compared { objects, wants, through, is_damaged }
    }

    fn answer_range(&mut self, scan: &RangeScan, status: Status, compared: Compared) {
        let header = reply_header(self.node, self.shard, scan.partition, status);
        let Compared { objects, wants, through, is_damaged } = compared;
        let reply = RangeReply { header, objects, wants, through, is_damaged };
        self.cx.send_as(Class::Background, scan.to, scan.id, TTL, PeerMessage::RangeReply(reply));
    }
}

/// What came of comparing a page.
#[derive(Default)]
struct Compared {
    objects: Vec<(Key, Bytes)>,
    wants: Vec<Key>,
    through: u64,
    is_damaged: bool,
}
