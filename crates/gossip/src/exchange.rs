//! Bringing two tables together: what to answer to a hash, to hashes, to a digest and to records.
//!
//! No state is kept between messages, so none can be out of step. All answers draw on a budget that fills with
//! time; what does not fit is found missing again by a later round. The order in which buckets are taken is
//! drawn anew each time, so that nothing waits for ever behind something large.

use std::collections::BTreeMap;

use gramme_codec::Codec;
use gramme_ring::NodeId;
use rand::{Rng, RngExt};

use crate::message::Message;
use crate::record::Record;
use crate::table::{BUCKETS, Table};

/// The largest message.
const MESSAGE: usize = 16 << 10;
/// What a message of records or hashes has beside them.
const FRAME: usize = 16;

/// Bytes that may be sent.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: u32,
    left: u64,
    filled: u64,
}

impl Budget {
    pub(crate) fn new(per_second: u32, now: u64) -> Self {
        Self { per_second, left: per_second.into(), filled: now }
    }

    /// Lets it fill, never above what a second brings.
    pub(crate) fn fill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.filled).min(1_000_000);
        self.left =
            (self.left + elapsed * u64::from(self.per_second) / 1_000_000).min(self.per_second.into());
        self.filled = now;
    }

    /// Takes the message's bytes, if they are there.
    pub(crate) fn take(&mut self, message: &Message) -> bool {
        let rest = self.left.checked_sub(message.size() as u64);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }

    /// How large a message may be now.
    fn room(&self) -> usize {
        self.left.min(MESSAGE as u64) as usize
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
    let first = rng.random_range(0..BUCKETS);
    let (mut buckets, mut records) = (0, Vec::new());
    for at in (first..first + BUCKETS).map(|at| at % BUCKETS).filter(|&at| theirs[at] != table.buckets()[at])
    {
        let more = table.within(1 << at).map(|(record, hash)| (record.node, hash));
        let before = records.len();
        records.extend(more);
        if FRAME + 16 * records.len() > budget.room() {
            records.truncate(before);
            break;
        }
        buckets |= 1 << at;
    }
    (buckets != 0).then_some(Message::Digest { buckets, records })
}

/// The answer to a digest: the records that are other than the sender's, and a wish for the sender's.
pub(crate) fn on_digest(
    table: &Table,
    budget: &Budget,
    buckets: u64,
    theirs: &[(NodeId, u64)],
) -> Option<Message> {
    let theirs: BTreeMap<NodeId, u64> = theirs.iter().copied().collect();
    let ours: BTreeMap<NodeId, u64> =
        table.within(buckets).map(|(record, hash)| (record.node, hash)).collect();
    let differ = |node: &NodeId| ours.get(node) != theirs.get(node);
    let mut wants: Vec<_> = theirs.keys().copied().filter(differ).collect();
    wants.truncate(budget.room().saturating_sub(FRAME) / 16);
    let newer = ours.keys().filter(|node| differ(node)).filter_map(|node| table.get(*node));
    let records = fitting(newer, budget.room(), 8 * wants.len());
    (!records.is_empty() || !wants.is_empty()).then_some(Message::Records { records, wants })
}

/// The answer to a wish for records.
pub(crate) fn on_wants(table: &Table, budget: &Budget, wants: &[NodeId]) -> Option<Message> {
    let records = fitting(wants.iter().filter_map(|node| table.get(*node)), budget.room(), 0);
    (!records.is_empty()).then_some(Message::Records { records, wants: Vec::new() })
}

/// As many of the records as fit beside so many bytes of other things.
fn fitting<'a>(records: impl Iterator<Item = &'a Record>, room: usize, beside: usize) -> Vec<Record> {
    let mut size = FRAME + beside;
    let fits = |record: &&Record| {
        size += record.to_bytes().len();
        size <= room
    };
    records.take_while(fits).cloned().collect()
}
