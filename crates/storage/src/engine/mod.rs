//! What the store asks of an engine: an index of bytes, nothing about durability until `sync`.

mod kind;
mod memory;
mod redb;
mod sled;

use std::fmt;

use bytes::Bytes;

pub use kind::EngineKind;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineOp {
    /// Sets the value of a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; nothing if it is not there.
    Remove(Vec<u8>),
}

/// An engine failed or panicked. What it holds is unknown until it has been opened and checked again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the {engine} engine failed to {action}: {message}")]
pub struct EngineError {
    /// The engine's name.
    pub engine: &'static str,
    /// What it was to do.
    pub action: &'static str,
    /// What it said.
    pub message: String,
}

/// An index from bytes to bytes.
///
/// Applied changes may be lost in a crash, whole or in part, until `sync` has returned: the log has them.
/// Keys have at most 2,100 bytes, values at most 64 KiB and a little.
pub trait Engine: Send + Sync + fmt::Debug {
    /// The engine's name, as configuration spells it.
    fn name(&self) -> &'static str;

    /// The value of a key.
    ///
    /// # Errors
    /// [`EngineError`], which must not be taken for an absent key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Makes all changes, in order. Readers may see some before the others.
    ///
    /// # Errors
    /// [`EngineError`]; some of the changes may have been made.
    fn apply(&self, ops: Vec<EngineOp>) -> Result<(), EngineError>;

    /// Visits the rows from `from` on and before `to` in the order of their keys' bytes, for as long as `visit`
    /// returns true.
    ///
    /// # Errors
    /// [`EngineError`]; the rows visited so far are valid.
    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), EngineError>;

    /// Returns once all applied changes will survive a loss of power.
    ///
    /// # Errors
    /// [`EngineError`]; nothing may be taken for durable then.
    fn sync(&self) -> Result<(), EngineError>;

    /// Whether rows outlive the process at all. If not, the log keeps everything and is replayed whole.
    fn is_persistent(&self) -> bool;
}

/// Visits the rows whose keys begin with `prefix`.
pub(crate) fn scan(
    engine: &dyn Engine,
    prefix: &[u8],
    visit: &mut dyn FnMut(&[u8], Bytes),
) -> Result<(), EngineError> {
    engine.range(prefix, end_of(prefix).as_deref(), &mut |name, value| {
        visit(name, value);
        true
    })
}

/// Bytes that files below a directory take on the disk.
pub(crate) fn disk_bytes(directory: &std::path::Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // An engine renames and removes files meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// The first key after all that begin with `prefix`; nothing if there is none.
pub(crate) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
