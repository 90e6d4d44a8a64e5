//! Reading your own writes, and never less than you have read.
//!
//! A quorum of whoever can be reached promises neither: the next read may ask others. A session remembers, for each key,
//! the contexts of what it read and wrote, and each read says that it wants all of that, from whichever node it asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gramme_object::Key;

/// Contexts of one key that are kept before they are made one by a read.
pub(crate) const MOST: usize = 16;

/// What was read and written through the buckets that were put [in it](crate::Bucket::in_session). Cheap to clone; clones
/// are the same session. It remembers every key that it was used for: make one for a user's visit, not for a process.
#[derive(Clone, Debug, Default)]
pub struct Session {
    seen: Arc<Mutex<BTreeMap<Key, Vec<Bytes>>>>,
}

impl Session {
    /// One that has read and written nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|seen| seen.len())
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn of(&self, key: &Key) -> Vec<Bytes> {
        self.with(|seen| seen.get(key).cloned().unwrap_or_default())
    }

    /// A read that had all of these has shown this.
    pub(crate) fn note_read(&self, key: Key, had: &[Bytes], context: Bytes) {
        self.with(|seen| {
            let contexts = seen.entry(key).or_default();
            contexts.retain(|context| !had.contains(context));
            contexts.push(context);
        });
    }

    /// A write has ended in this context.
    pub(crate) fn note_write(&self, key: Key, context: Bytes) {
        self.with(|seen| seen.entry(key).or_default().push(context));
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Key, Vec<Bytes>>) -> T) -> T {
        // What a panic leaves is a map with some contexts; any is as good.
        work(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_stands_for_what_it_had_and_nothing_that_came_since() {
        let key = || Key::new("default", "b", "k").expect("valid parts");
        let session = Session::new();
        session.note_write(key(), "first".into());
        let had = session.of(&key());
        session.clone().note_write(key(), "meanwhile".into());
        session.note_read(key(), &had, "read".into());
        assert_eq!(session.of(&key()), ["meanwhile", "read"].map(Bytes::from));
        assert_eq!((session.len(), session.is_empty()), (1, false));
    }
}
