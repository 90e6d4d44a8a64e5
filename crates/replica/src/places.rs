//! Where keys belong.
//!
//! One step asks for the place of its key a dozen times, at each part that the key passes through. Hashing is
//! most of that, so the last answer is kept.

use std::cell::RefCell;

use gramme_object::Key;
use gramme_ring::{KeyHash, Keyspace, PartitionId};

use crate::Replica;

#[derive(Debug)]
pub(crate) struct Places {
    keyspace: Keyspace,
    last: RefCell<Option<(Key, KeyHash)>>,
}

impl Places {
    pub(crate) const fn new(keyspace: Keyspace) -> Self {
        Self { keyspace, last: RefCell::new(None) }
    }

    fn hash(&self, key: &Key) -> KeyHash {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((placed, hash)) if placed == key => *hash,
            _ => last.insert((key.clone(), self.keyspace.hash(key.as_bytes()))).1,
        }
    }
}

impl Replica {
    pub(crate) fn place(&self, key: &Key) -> (KeyHash, PartitionId) {
        let hash = self.places.hash(key);
        (hash, self.config.layout.partition_of(hash))
    }
}
