//! Listing the keys of a bucket, or of a type: partition by partition, a page of rows at a time.
//!
//! Of each partition one owner is asked: this node, or one that is up. So a listing is weak (it shows what one
//! replica has, and what is written meanwhile or not) and costly (every row is read), and it needs no more
//! memory than a page at either end.
//!
//! Each page is a request with a number of its own, and a listing goes by that of the page it waits for: under
//! one number for all, an answer that comes late or twice would pass for the next page's, and show keys twice.

use bytes::Bytes;
use gramme_gossip::Opinion;
use gramme_object::{Key, Object};
use gramme_quorum::{Failure, GetError, Shortfall};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Class, Keys, KeysReply};

use super::{Around, Coordinator, failure};
use crate::cx::Cx;
use crate::io::{LoadFailed, Now, Page, Ticket};
use crate::node::Node;
use crate::place::Place;
use crate::request::{Cursor, KeysPage, Response};
use crate::serve::request_header;
use crate::shard::Scanner;
use crate::timers::Timer;

/// Rows that are read at once.
pub(crate) const PAGE_ROWS: usize = 1_000;
/// Rows after which a page of keys is answered, however few of them were wanted.
const ANSWER_ROWS: usize = 8 * PAGE_ROWS;

/// A page of a listing under way.
#[derive(Debug)]
pub(super) struct List {
    ticket: Ticket,
    bucket_type: String,
    bucket: Option<Bytes>,
    /// Where it stands.
    cursor: Cursor,
    /// Owners of the present partition that have not been asked, the next one last.
    candidates: Vec<NodeId>,
    asked: Option<NodeId>,
    failed: Vec<(NodeId, Failure)>,
    keys: Vec<Key>,
    rows: usize,
    deadline: u64,
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct AskedKeys {
    pub(crate) bucket_type: String,
    pub(crate) bucket: Option<Bytes>,
    pub(crate) after: Option<Cursor>,
    pub(crate) timeout: u32,
}

impl Coordinator {
    pub(crate) fn start_list(&mut self, around: &mut Around<'_>, ticket: Ticket, asked: AskedKeys) {
        let Around { cx, node, .. } = around;
        let AskedKeys { bucket_type, bucket, after, timeout } = asked;
        if node.buckets.get(&bucket_type, b"").is_none() {
            return cx.reply(ticket, Response::Keys(Err(GetError::UnknownType(bucket_type))));
        }
        if self.is_overloaded(cx) {
            cx.stats.busy += 1;
            return cx.reply(ticket, Response::Keys(Err(GetError::Busy)));
        }
        let first = PartitionId { prefix: 0, depth: node.map.layout().depth() };
        let cursor = after.unwrap_or(Cursor { partition: first, after: None });
        let (id, deadline) = (cx.next_request(), cx.after(timeout));
        let (candidates, failed, keys) = (Vec::new(), Vec::new(), Vec::new());
        let list = List {
            ticket,
            bucket_type,
            bucket,
            cursor,
            candidates,
            asked: None,
            failed,
            keys,
            rows: 0,
            deadline,
        };
        self.lists.insert(id, list);
        cx.timers.set(deadline, Timer::List(id));
        self.list_partition(around, id);
    }

    /// Begins with the present partition: whom to ask, the best one last.
    fn list_partition(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(list) = self.lists.get_mut(&id) else { return };
        let partition = list.cursor.partition;
        let me = around.cx.me();
        let mut owners: Vec<NodeId> = around.node.map.owners(partition).collect();
        let counts = around.shard.counts(partition).is_ok();
        owners.sort_by_key(|&owner| match around.node.peers().state(owner) {
            _ if owner == me && counts => 4,
            Opinion::Alive if owner != me => 3,
            _ if owner == me => 2,
            Opinion::Suspect => 1,
            Opinion::Alive | Opinion::Down => 0,
        });
        list.candidates = owners;
        list.failed.clear();
        self.list_next(around, id);
    }

    /// Partitions have other owners: listings that go through one ask those.
    pub(super) fn on_list_layout(&mut self, around: &mut Around<'_>, changed: &[PartitionId]) {
        let is_changed = |list: &List| changed.binary_search(&list.cursor.partition).is_ok();
        let lists = self.lists.iter().filter(|(_, list)| is_changed(list));
        for id in lists.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.list_partition(around, id);
        }
    }

    /// Asks the next owner for a page.
    fn list_next(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(list) = self.lists.get_mut(&id) else { return };
        let Some(owner) = list.candidates.pop() else {
            let shortfall = Shortfall { needed: 1, answered: Vec::new(), failed: list.failed.clone() };
            return self.conclude_list(around.cx, id, Err(GetError::Unavailable(shortfall)));
        };
        list.asked = Some(owner);
        self.list_page(around, id);
    }

    fn list_page(&mut self, around: &mut Around<'_>, id: u64) {
        let Some(list) = self.lists.remove(&id) else { return };
        let Around { cx, node, shard } = around;
        let (id, before) = (cx.next_request(), id);
        cx.timers.cancel(list.deadline, Timer::List(before));
        cx.timers.set(list.deadline, Timer::List(id));
        let list = &*self.lists.entry(id).or_insert(list);
        let Cursor { partition, after } = list.cursor.clone();
        let Some(owner) = list.asked else { return };
        if owner == cx.me() {
            return shard.scan(cx, partition, after, PAGE_ROWS, Scanner::List(id));
        }
        let header = request_header(cx, node, partition, id, Class::Foreground);
        let (bucket_type, bucket) = (list.bucket_type.clone(), list.bucket.clone());
        let after = after.map(|place| place.key);
        let ttl = list.deadline.saturating_sub(cx.now.monotonic);
        cx.send(owner, id, ttl, PeerMessage::Keys(Keys { header, bucket_type, bucket, after }));
    }

    /// This node's own page.
    pub(crate) fn on_own_page(&mut self, around: &mut Around<'_>, id: u64, result: Result<Page, LoadFailed>) {
        let Some(list) = self.lists.get_mut(&id) else { return };
        let me = around.cx.me();
        match (result, around.shard.counts(list.cursor.partition)) {
            // Half of the keys would look like all of them.
            (Ok(_), Err(why)) => self.on_list_failure(around, id, me, why.into()),
            (Ok(page), Ok(())) => {
                let Around { cx, node, .. } = &*around;
                list.keys.extend(wanted(node, cx.now, &page, &list.bucket_type, list.bucket.as_ref()));
                list.rows += page.rows.len();
                self.on_page(around, id, page.next);
            }
            (Err(LoadFailed), _) => self.on_list_failure(around, id, me, Failure::Disk),
        }
    }

    pub(crate) fn on_keys_reply(&mut self, around: &mut Around<'_>, from: NodeId, id: u64, reply: KeysReply) {
        let Some(list) = self.lists.get_mut(&id).filter(|list| list.asked == Some(from)) else { return };
        if let Some(failure) = failure(reply.header.status) {
            return self.on_list_failure(around, id, from, failure);
        }
        list.keys.extend(reply.keys);
        list.rows += PAGE_ROWS;
        let next = reply.next.map(|key| around.node.map.place(key));
        self.on_page(around, id, next);
    }

    /// A page is there. `next` is where the partition goes on, if it does.
    fn on_page(&mut self, around: &mut Around<'_>, id: u64, next: Option<Place>) {
        let Some(list) = self.lists.get_mut(&id) else { return };
        let has_more = next.is_some();
        list.cursor.after = next;
        if !has_more {
            let next = list.cursor.partition.prefix + 1;
            if next >> list.cursor.partition.depth > 0 {
                let keys = std::mem::take(&mut list.keys);
                return self.conclude_list(around.cx, id, Ok(KeysPage { keys, next: None }));
            }
            list.cursor.partition.prefix = next;
        }
        if list.rows >= ANSWER_ROWS || list.keys.len() >= PAGE_ROWS {
            let (keys, next) = (std::mem::take(&mut list.keys), Some(list.cursor.clone()));
            return self.conclude_list(around.cx, id, Ok(KeysPage { keys, next }));
        }
        match has_more {
            true => self.list_page(around, id),
            false => self.list_partition(around, id),
        }
    }

    pub(super) fn on_list_failure(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        node: NodeId,
        failure: Failure,
    ) {
        if let Some(list) = self.lists.get_mut(&id).filter(|list| list.asked == Some(node)) {
            list.failed.push((node, failure));
            // Another owner has other rows, but their order is the same: it goes on where this one stood.
            self.list_next(around, id);
        }
    }

    pub(crate) fn on_list_deadline(&mut self, cx: &mut Cx, id: u64) {
        if let Some(list) = self.lists.get(&id) {
            let failed = list.asked.map(|node| (node, Failure::Silent)).into_iter().collect();
            let shortfall = Shortfall { needed: 1, answered: Vec::new(), failed };
            self.conclude_list(cx, id, Err(GetError::Unavailable(shortfall)));
        }
    }

    pub(super) fn on_list_peer_down(&mut self, around: &mut Around<'_>, node: NodeId) {
        let waiting = self.lists.iter().filter(|(_, list)| list.asked == Some(node));
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.on_list_failure(around, id, node, Failure::Silent);
        }
    }

    fn conclude_list(&mut self, cx: &mut Cx, id: u64, result: Result<KeysPage, GetError>) {
        if let Some(list) = self.lists.remove(&id) {
            cx.timers.cancel(list.deadline, Timer::List(id));
            cx.reply(list.ticket, Response::Keys(result));
        }
    }
}

/// The keys of a page that are wanted, and have a value for whoever reads them now.
pub(crate) fn wanted(
    node: &Node,
    now: Now,
    page: &Page,
    bucket_type: &str,
    bucket: Option<&Bytes>,
) -> Vec<Key> {
    // A key too many is the weaker mistake.
    let (millis, _) = node.clock.range(now);
    let is_wanted = |key: &Key| {
        key.bucket_type() == bucket_type && bucket.is_none_or(|bucket| key.bucket() == &bucket[..])
    };
    let has_value = |key: &Key, stored: &Bytes| match Object::decode(stored) {
        // Beside the last write there may be values that nobody is shown.
        Ok(object) if node.properties(key).is_some_and(|properties| !properties.allow_mult) => {
            object.last_writer(millis).at_time(millis).has_value()
        }
        Ok(object) => object.at_time(millis).has_value(),
        // A finding of whoever reads it; here it is a key that has something.
        Err(_) => true,
    };
    let rows = page.rows.iter().filter(|(place, _)| is_wanted(&place.key));
    rows.filter(|(place, stored)| has_value(&place.key, stored)).map(|(place, _)| place.key.clone()).collect()
}
