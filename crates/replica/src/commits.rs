//! Batches on their way to the disk, and who waits for them.

use std::collections::BTreeMap;
use std::mem;

use crate::Replica;
use crate::io::{Change, Effect};
use crate::keys::Waiter;

/// How durable a batch must be before somebody may be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// It survives the end of the process.
    #[default]
    Written,
    /// It survives a loss of power.
    Synced,
}

#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// The last batch handed to the disk.
    last: u64,
    written: u64,
    synced: u64,
    for_written: BTreeMap<u64, Vec<Waiter>>,
    for_synced: BTreeMap<u64, Vec<Waiter>>,
}

impl Commits {
    /// Whether batch `sequence` is durable to `level`.
    pub(crate) const fn is_durable(&self, sequence: u64, level: Level) -> bool {
        match level {
            Level::Written => sequence <= self.written,
            Level::Synced => sequence <= self.synced,
        }
    }

    pub(crate) fn wait(&mut self, sequence: u64, level: Level, waiter: Waiter) {
        let waiters = match level {
            Level::Written => &mut self.for_written,
            Level::Synced => &mut self.for_synced,
        };
        waiters.entry(sequence).or_default().push(waiter);
    }

    fn take_ready(&mut self) -> Vec<Waiter> {
        let ready = |waiting: &mut BTreeMap<u64, Vec<Waiter>>, through: u64| {
            let later = waiting.split_off(&(through + 1));
            mem::replace(waiting, later).into_values().flatten()
        };
        let mut waiters: Vec<_> = ready(&mut self.for_written, self.written).collect();
        waiters.extend(ready(&mut self.for_synced, self.synced));
        waiters
    }
}

impl Replica {
    /// Hands a batch to the disk and returns its number.
    pub(crate) fn commit(&mut self, changes: Vec<Change>, level: Level) -> u64 {
        self.commits.last += 1;
        let sequence = self.commits.last;
        self.out.push(Effect::Commit { sequence, changes, sync: level == Level::Synced });
        sequence
    }

    /// A batch that is durable to `level` only when everything before it is: the last one, or a new empty one
    /// that asks for a sync.
    pub(crate) fn barrier(&mut self, level: Level) -> u64 {
        let last = self.commits.last;
        if self.commits.is_durable(last, level) || level == Level::Written {
            return last;
        }
        self.commit(Vec::new(), level)
    }

    pub(crate) fn on_committed(&mut self, written: u64, synced: u64) {
        // Reports may come out of order; what was durable stays so.
        self.commits.written = self.commits.written.max(written).max(synced);
        self.commits.synced = self.commits.synced.max(synced);
        self.lives.synced(self.commits.synced);
        for waiter in self.commits.take_ready() {
            self.on_durable(waiter);
        }
    }
}
