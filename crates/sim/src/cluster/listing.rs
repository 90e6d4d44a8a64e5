//! Listings of keys: weak by their nature, for of each partition they show what one replica has.
//!
//! So while things break they are judged by what they may never show: a key twice, a key of another bucket, or
//! one that nobody has ever given a value. In the end, when replicas are equal, they must show every key that
//! has a value, and no other.

use std::collections::BTreeSet;

use bytes::Bytes;
use gramme_object::{Key, Object};
use gramme_replica::{ClientRequest, Cursor, LoadFailed, Page, Place, Response, Rows, Scope, Space, Ticket};
use gramme_ring::PartitionId;
use rand::RngExt;

use super::nemesis::scope_of;
use super::{Cluster, clients, keyspace};
use crate::event::Event;
use crate::history::{Broken, Kind};

/// Rows of a page that a disk reads: few, so that most listings need several.
const PAGE_ROWS: usize = 2;

/// A listing under way.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    node: usize,
    /// A bucket, or a whole type.
    scope: Scope,
    keys: BTreeSet<Key>,
    /// Everything is healed: it must be whole.
    is_last: bool,
}

impl Listing {
    /// Of a bucket of this kind, or of all buckets of its type.
    fn new(node: usize, kind: Kind, is_whole_type: bool, is_last: bool) -> Self {
        let mut scope = scope_of(kind);
        if is_whole_type {
            scope.bucket = None;
        }
        Self { node, scope, keys: BTreeSet::new(), is_last }
    }

    fn asks_for(&self, key: &Key) -> bool {
        key.bucket_type() == self.scope.bucket_type
            && self.scope.bucket.as_ref().is_none_or(|bucket| key.bucket() == &bucket[..])
    }
}

impl Cluster {
    /// Begins one for about every so many operations of clients.
    pub(super) fn list_now_and_then(&mut self) {
        let members = self.members();
        let rng = &mut self.random.listings;
        if rng.random_range(0..64) > 0 {
            return;
        }
        let node = rng.random_range(0..members);
        let kind = Kind::ALL[rng.random_range(0..Kind::ALL.len())];
        let is_whole_type = rng.random_range(0..4) == 0;
        self.ask_page(Listing::new(node, kind, is_whole_type, false), None);
    }

    fn ask_page(&mut self, listing: Listing, after: Option<Cursor>) {
        let ticket = self.ticket();
        let request = ClientRequest::Keys {
            bucket_type: listing.scope.bucket_type.clone(),
            bucket: listing.scope.bucket.clone(),
            after,
            timeout: clients::TIMEOUT,
        };
        let node = listing.node;
        self.listings.insert(ticket, listing);
        let later = self.random.listings.random_range(10..200);
        let request = Box::new(request);
        self.schedule(later, Event::Request { client: None, node, life: None, ticket, request });
    }

    /// A page is answered.
    pub(super) fn take_page(&mut self, ticket: Ticket, response: &Response) {
        let Some(mut listing) = self.listings.remove(&ticket) else { return };
        let page = match response {
            Response::Keys(Ok(page)) => page,
            // Nobody promises that there is somebody to ask, until the end.
            _ if !listing.is_last => return,
            other => return self.broken(Broken::NoProgress(format!("{listing:?}: {other:?}"))),
        };
        for key in &page.keys {
            if let Some(what) = self.why_wrong(&listing, key) {
                self.broken(Broken::Misbehaved(format!("{listing:?} shows {key:?}, {what}")));
            }
            listing.keys.insert(key.clone());
        }
        match &page.next {
            Some(next) => self.ask_page(listing, Some(next.clone())),
            None if listing.is_last => self.demand_whole(&listing),
            None => {}
        }
    }

    fn why_wrong(&self, listing: &Listing, key: &Key) -> Option<&'static str> {
        let number = self.keys.iter().position(|named| named.key == *key);
        let has_value =
            |number| self.history.writes.iter().any(|write| write.key == number && !write.is_delete);
        if !listing.asks_for(key) {
            Some("which it was not asked for")
        } else if listing.keys.contains(key) {
            Some("again")
        } else if !number.is_some_and(has_value) {
            Some("which never had a value")
        } else {
            None
        }
    }

    fn demand_whole(&mut self, listing: &Listing) {
        for (number, named) in self.keys.iter().enumerate() {
            let key = &named.key;
            let last = self.history.last.iter().rev().find(|read| read.key == number);
            let Some(last) = last.filter(|_| listing.asks_for(key)) else {
                continue;
            };
            let is_there = !last.values.is_empty();
            if listing.keys.contains(key) != is_there {
                let what =
                    format!("{listing:?}: key {number} has a value: {is_there}, and it says otherwise");
                return self.broken(Broken::Unequal(what));
            }
        }
    }

    /// Lists every bucket, and every type, through every node.
    pub(super) fn compare_listings(&mut self) {
        for node in self.there() {
            for kind in Kind::ALL {
                for is_whole_type in [false, true] {
                    self.ask_page(Listing::new(node, kind, is_whole_type, true), None);
                    // A node takes only so many requests at once.
                    self.turn_until(self.now + 2_000_000);
                }
            }
        }
        if let Some(listing) = self.listings.values().find(|listing| listing.is_last) {
            self.broken(Broken::NoProgress(format!("{listing:?} does not end")));
        }
    }

    /// What a node's disk reads for a listing.
    pub(super) fn read_page(
        &self,
        node: usize,
        rows: Rows,
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Page, LoadFailed> {
        let disk = &self.nodes[node].disk;
        if disk.fails_reads {
            return Err(LoadFailed);
        }
        let mut rows = match rows {
            Rows::Partition(partition) => self.data(node, partition, (0, u64::MAX)),
            Rows::Range { partition, first, last } => self.data(node, partition, (first, last)),
            Rows::Hints(target) => disk.hints_for(target),
        };
        rows.retain(|(place, _)| after.is_none_or(|after| place > after));
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let most = limit.min(PAGE_ROWS);
        let has_more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| has_more).map(|(place, _)| place.clone());
        // A store finds by its checksum that a row is damaged.
        let damaged = rows.extract_if(.., |(_, stored)| Object::decode(stored).is_err());
        let unreadable = damaged.map(|(place, _)| place).collect();
        Ok(Page { rows, next, unreadable })
    }

    /// The data of a partition between two places, as a node's disk has it.
    fn data(&self, node: usize, of: PartitionId, (first, last): (u64, u64)) -> Vec<(Place, Bytes)> {
        let rows = self.nodes[node].disk.objects().iter().map(|(key, stored)| {
            let hash = keyspace().hash(key.as_bytes());
            let partition = self.layout.partition_of(hash);
            (Place { space: Space::Data, partition, hash, key: key.clone() }, stored.clone())
        });
        rows.filter(|(place, _)| place.partition == of && (first..=last).contains(&place.hash.0)).collect()
    }
}
