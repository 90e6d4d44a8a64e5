//! Batches on their way to the disk, and who waits for them.
//!
//! A disk that is slow, or stands still, must not fill the memory: what is staged and not durable is counted,
//! and over the bound the shard takes no more ([`Commits::is_full`]).

use std::collections::VecDeque;

use gramme_wire::peer::Class;

use super::Waiter;
use crate::config::Bounds;
use crate::cx::Cx;
use crate::io::{Change, Effect};

/// How durable a batch must be before somebody may be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// It survives the end of the process.
    #[default]
    Written,
    /// It survives a loss of power.
    Synced,
}

#[derive(Debug)]
struct Batch {
    sequence: u64,
    level: Level,
    bytes: u64,
    /// When it was staged, if somebody waits for it.
    began: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// The last batch handed to the disk.
    last: u64,
    written: u64,
    synced: u64,
    /// By sequence.
    for_written: VecDeque<(u64, Waiter)>,
    for_synced: VecDeque<(u64, Waiter)>,
    /// Batches that are not as durable as was asked.
    in_flight: VecDeque<Batch>,
    /// Since when somebody waits for each of those that somebody waits for.
    owed: VecDeque<u64>,
    bytes: u64,
}

impl Commits {
    /// Whether batch `sequence` is durable to `level`.
    pub(crate) const fn is_durable(&self, sequence: u64, level: Level) -> bool {
        match level {
            Level::Written => sequence <= self.written,
            Level::Synced => sequence <= self.synced,
        }
    }

    /// Whether the disk shows everything that was staged.
    pub(crate) const fn is_all_written(&self) -> bool {
        self.is_durable(self.last, Level::Written)
    }

    /// How far batches are synced.
    pub(crate) const fn synced(&self) -> u64 {
        self.synced
    }

    /// Whether so much is on its way to the disk, with what is `queued` before it, that no more may be. What
    /// nobody waits for may have half.
    pub(crate) fn is_full(&self, bounds: &Bounds, class: Class, queued: u64) -> bool {
        let share = if class == Class::Background { 2 } else { 1 };
        self.bytes + queued >= bounds.bytes / share || self.in_flight.len() >= bounds.batches / share as usize
    }

    /// Since when the disk has owed somebody a batch.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.owed.front().copied()
    }

    /// Those who wait for a batch.
    pub(crate) fn waiting(&self) -> usize {
        self.for_written.len() + self.for_synced.len()
    }

    pub(crate) fn wait(&mut self, sequence: u64, level: Level, waiter: Waiter) {
        let waiters = match level {
            Level::Written => &mut self.for_written,
            Level::Synced => &mut self.for_synced,
        };
        // Almost always the last one.
        let at = waiters.partition_point(|(other, _)| *other <= sequence);
        waiters.insert(at, (sequence, waiter));
    }

    /// Hands a batch to the disk and returns its number.
    pub(crate) fn commit(&mut self, cx: &mut Cx, changes: Vec<Change>, level: Level, class: Class) -> u64 {
        self.last += 1;
        let sequence = self.last;
        let bytes = changes.iter().map(size).sum();
        let began = (class == Class::Foreground).then_some(cx.now.monotonic);
        self.owed.extend(began);
        self.in_flight.push_back(Batch { sequence, level, bytes, began });
        self.bytes += bytes;
        self.count(cx);
        cx.out.push(Effect::Commit { sequence, changes, sync: level == Level::Synced, class });
        sequence
    }

    /// A batch that is durable to `level` only when everything before it is: the last one, or a new empty one
    /// that asks for a sync.
    pub(crate) fn barrier(&mut self, cx: &mut Cx, level: Level) -> u64 {
        let last = self.last;
        if self.is_durable(last, level) || level == Level::Written {
            return last;
        }
        self.commit(cx, Vec::new(), level, Class::Foreground)
    }

    /// Reports may come out of order; what was durable stays so.
    pub(crate) fn on_committed(&mut self, cx: &mut Cx, written: u64, synced: u64) {
        self.written = self.written.max(written).max(synced);
        self.synced = self.synced.max(synced);
        while let Some(&Batch { sequence, level, bytes, began }) = self.in_flight.front()
            && self.is_durable(sequence, level)
        {
            self.in_flight.pop_front();
            self.bytes -= bytes;
            if let Some(began) = began {
                self.owed.pop_front();
                cx.pace.note(cx.now.monotonic - began);
            }
        }
        self.count(cx);
    }

    /// The next of those whose batch is durable now.
    pub(crate) fn next_ready(&mut self) -> Option<Waiter> {
        let (written, synced) = (self.written, self.synced);
        let ready = self.for_written.pop_front_if(|(sequence, _)| *sequence <= written);
        let ready = ready.or_else(|| self.for_synced.pop_front_if(|(sequence, _)| *sequence <= synced));
        ready.map(|(_, waiter)| waiter)
    }

    fn count(&self, cx: &mut Cx) {
        cx.stats.staged_bytes = self.bytes;
        cx.stats.staged_batches = self.in_flight.len() as u64;
    }
}

/// About how many bytes a change keeps in memory.
fn size(change: &Change) -> u64 {
    let bytes = match change {
        Change::Object { place, object, .. } => place.key.as_bytes().len() + object.len(),
        Change::Removed { place } => place.key.as_bytes().len(),
        Change::Partition { record, .. } => record.len(),
        Change::Note { note, .. } => note.len(),
        Change::Meta { name, value } => name.len() + value.len(),
        Change::Leaf { .. } => 0,
    };
    64 + bytes as u64
}
