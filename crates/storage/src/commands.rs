//! What the store's threads ask each other.

use std::sync::mpsc::Sender;

use crate::batch::Batch;

/// What the committer is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Submit {
        sequence: u64,
        batch: Batch,
        sync: bool,
    },
    /// Answers once everything submitted before is committed and synced.
    Barrier(Sender<()>),
    /// Syncs what is written, and answers. Urgent.
    Sync(Sender<()>),
    /// Answers with the first segment that holds a batch after this one. Urgent.
    FirstNeeded {
        sequence: u64,
        reply: Sender<u64>,
    },
    /// Removes the segments before this one, and answers. Urgent.
    DropBefore {
        segment: u64,
        reply: Sender<()>,
    },
    Stop,
}

/// What the checkpointer is asked.
#[derive(Debug)]
pub(crate) enum Request {
    /// The buffer has grown large.
    Soon,
    /// Now, and tell when it is done.
    Now(Sender<()>),
    Stop,
}
