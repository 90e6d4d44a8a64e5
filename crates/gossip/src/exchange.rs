//! Bringing two tables together: what to answer to a hash, to hashes, to a digest and to records.
//!
//! No state is kept between messages, so none can be out of step. All answers draw on a budget that fills with
//! time; what does not fit is found missing again by a later round. The order in which buckets are taken is
//! drawn anew each time, so that nothing waits for ever behind something large.

use std::collections::BTreeMap;

use gramme_codec::Codec;
use gramme_ring::NodeId;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::message::Message;
use crate::record::{LARGEST, Record};
use crate::table::{ALL, BUCKETS, Table, bucket};

/// The largest message.
const MESSAGE: usize = 16 << 10;
/// What a message of records or hashes has beside them.
const FRAME: usize = 32;

/// Below so much room no answer is begun: it would be work for nothing.
const LEAST: usize = 1_024;

/// Bytes that may be sent. Kept in millionths, so that what a short time brings is not rounded away.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u64,
    left: u64,
    filled: u64,
}

const MILLIONTHS: u64 = 1_000_000;

impl Budget {
    pub(crate) fn new(per_second: u32) -> Self {
        // Whatever is to be sent has to fit once.
        let per_second = u64::from(per_second).max(LARGEST as u64);
        Self { per_second, left: per_second * MILLIONTHS, filled: 0 }
    }

    /// Lets it fill, never above what a second brings.
    pub(crate) fn fill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.filled).min(1_000_000);
        self.left = (self.left + elapsed * self.per_second).min(self.per_second * MILLIONTHS);
        self.filled = now;
    }

    /// Takes the message's bytes, if they are there.
    pub(crate) fn take(&mut self, message: &Message) -> bool {
        let rest = self.left.checked_sub(message.size() as u64 * MILLIONTHS);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    /// How large a message may be now.
    fn room(&self) -> usize {
        (self.left / MILLIONTHS).min(MESSAGE as u64) as usize
    }

    /// Whether an answer is worth making.
    pub(crate) fn has_room(&self) -> bool {
        self.room() >= LEAST
    }
}

/// The answer to the hash of another's table.
pub(crate) fn on_root(table: &Table, root: u64) -> Option<Message> {
    (root != table.root()).then(|| Message::Buckets(table.buckets().to_vec()))
}

/// The answer to the hashes of another's buckets: what is in those that differ, as many as there is room for.
pub(crate) fn on_buckets(
    table: &Table,
    budget: &Budget,
    theirs: &[u64],
    rng: &mut impl Rng,
) -> Option<Message> {
    if theirs.len() != BUCKETS {
        return None;
    }
    let start = rng.random_range(0..BUCKETS);
    let (mut buckets, mut records) = (0, Vec::new());
    let most = budget.room().saturating_sub(FRAME) / 16;
    let differing = (0..BUCKETS).filter(|&at| theirs[at] != table.buckets()[at]);
    let differing = differing.fold(0, |buckets, at| buckets | 1 << at);
    let mut ours: [Vec<_>; BUCKETS] = std::array::from_fn(|_| Vec::new());
    for (record, hash) in table.within(differing, ALL) {
        ours[bucket(record.node)].push((record.node, hash));
    }
    for at in (start..start + BUCKETS).map(|at| at % BUCKETS).filter(|at| differing >> at & 1 == 1) {
        let all = std::mem::take(&mut ours[at]);
        if records.is_empty() && all.len() > most {
            return Some(part(at, &all, most, rng));
        }
        if records.len() + all.len() > most {
            break;
        }
        buckets |= 1 << at;
        records.extend(all);
    }
    let (first, last) = ALL;
    (buckets != 0).then_some(Message::Digest { buckets, first, last, records })
}

/// A part of a bucket that is too large for one message, another one each time.
fn part(at: usize, all: &[(NodeId, u64)], most: usize, rng: &mut impl Rng) -> Message {
    // Room for an answer is room for some.
    let start = rng.random_range(0..all.len().div_ceil(most.max(1))) * most;
    let records = all[start..].iter().copied().take(most).collect::<Vec<_>>();
    let is_end = start + records.len() == all.len();
    let first = if start == 0 { ALL.0 } else { all[start].0 };
    let last = records.last().filter(|_| !is_end).map_or(ALL.1, |(node, _)| *node);
    Message::Digest { buckets: 1 << at, first, last, records }
}

/// The answer to a digest of some buckets, between two ids: the records that are other than the sender's, and a
/// wish for the sender's.
pub(crate) fn on_digest(
    table: &Table,
    budget: &Budget,
    (buckets, ids): (u64, (NodeId, NodeId)),
    theirs: &[(NodeId, u64)],
    rng: &mut impl Rng,
) -> Option<Message> {
    let theirs: BTreeMap<NodeId, u64> = theirs.iter().copied().collect();
    let ours: BTreeMap<NodeId, u64> =
        table.within(buckets, ids).map(|(record, hash)| (record.node, hash)).collect();
    let differ = |node: &NodeId| ours.get(node) != theirs.get(node);
    let mut wants: Vec<_> = theirs.keys().copied().filter(differ).collect();
    wants.shuffle(rng);
    wants.truncate(budget.room().saturating_sub(FRAME) / 16);
    let newer = ours.keys().copied().filter(differ).collect();
    let records = fitting(table, newer, budget.room(), 8 * wants.len(), rng);
    (!records.is_empty() || !wants.is_empty()).then_some(Message::Records { records, wants })
}

/// The answer to a wish for records.
pub(crate) fn on_wants(
    table: &Table,
    budget: &Budget,
    wants: &[NodeId],
    rng: &mut impl Rng,
) -> Option<Message> {
    let records = fitting(table, wants.to_vec(), budget.room(), 0, rng);
    (!records.is_empty()).then_some(Message::Records { records, wants: Vec::new() })
}

/// As many of the records as fit beside so many bytes of other things, others each time.
fn fitting(
    table: &Table,
    mut nodes: Vec<NodeId>,
    room: usize,
    beside: usize,
    rng: &mut impl Rng,
) -> Vec<Record> {
    nodes.shuffle(rng);
    let mut size = FRAME + beside;
    let mut records = Vec::new();
    for record in nodes.into_iter().filter_map(|node| table.get(node)) {
        let bytes = record.to_bytes().len();
        if size + bytes <= room {
            size += bytes;
            records.push(record.clone());
        } else if room < size + LEAST {
            break;
        }
    }
    records
}
