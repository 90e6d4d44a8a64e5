//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;

use crate::engine::EngineError;

/// Why a store did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process; stop that one first")]
    Locked(PathBuf),
    /// There is no store here. A node that had one has lost its disk.
    #[error("{0} holds no store: either it was never founded, or its disk was lost or is not mounted")]
    Missing(PathBuf),
    /// There is already a store here.
    #[error("{0} already holds a store; it is never overwritten")]
    Exists(PathBuf),
    /// A part of the store is gone or unreadable.
    #[error("{path}: {what}; the store cannot prove that it holds what it acknowledged")]
    Damaged {
        /// The file or directory at fault.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The store was made for another shape of cluster or by another engine.
    #[error("the store in {path} was made with {found}, not {wanted}")]
    Mismatch {
        /// The store's directory.
        path: PathBuf,
        /// What it was made with.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The operating system failed.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), what: what.into() }
    }
}

/// Why a read gave no answer. It must never be taken for "there is nothing".
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The row is there, and damaged.
    #[error("a stored row is damaged: {0}")]
    Damaged(&'static str),
}

/// Why a batch was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk is full. Nothing of the batch was kept, and no later batch is taken before the store is opened
    /// again: later batches were built on this one.
    #[error("the disk is full; nothing of this batch was kept, and the store must be opened again")]
    DiskFull,
    /// A write or sync failed. Whether the batch is on the disk is unknown, and the store takes no more: the
    /// process must end, and the next start will see what is there.
    #[error("the disk failed; the process must end and recover from what is there")]
    Fatal,
    /// A thread of the store panicked, which is a bug. The process must end.
    #[error("a thread of the store panicked; the process must end and recover from what is there")]
    Panicked,
}
