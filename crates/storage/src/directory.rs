//! The store's directory: its lock, its identity, its reserve, and syncing what is in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use gramme_merkle::MAX_BITS;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, statvfs};

use crate::engine::EngineKind;
use crate::error::OpenError;
use crate::files::{private_options, write_atomically};

const MAGIC: &[u8; 8] = b"GRMSTORE";
const VERSION: u32 = 2;
const ENGINE: &str = "engine";
/// Given back when the disk runs full, so that a last checkpoint can be written.
const RESERVE_BYTES: u64 = 16 << 20;

/// What a store is; fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    /// Bits of the hash below a partition that name a leaf of its hash tree.
    pub(crate) leaf_bits: u8,
    pub(crate) engine: EngineKind,
}

/// An open store's directory. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory if needed and locks it.
    pub(crate) fn lock(path: &Path) -> Result<Self, OpenError> {
        let lock_path = path.join("LOCK");
        let lock = private_options()
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(OpenError::io(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(path.to_owned())),
            Err(error) => Err(OpenError::Io { path: lock_path, error: error.into() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The directory of an engine: the store's first, or one that took the place of another.
    pub(crate) fn engine(&self, number: u64) -> PathBuf {
        match number {
            0 => self.path.join(ENGINE),
            number => self.path.join(format!("{ENGINE}-{number}")),
        }
    }

    /// Removes what compactions have left of other engines than this. What looks otherwise is somebody else's.
    pub(crate) fn remove_other_engines(&self, number: u64) {
        let number_of = |name: &str| match name.strip_prefix(ENGINE)? {
            "" => Some(0),
            rest => rest.strip_prefix('-')?.parse::<u64>().ok(),
        };
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let is_other =
                entry.file_name().to_str().and_then(number_of).is_some_and(|other| other != number);
            if is_other && let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::warn!(%error, path = %entry.path().display(), "an old engine could not be removed");
            }
        }
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.path.join("MANIFEST")
    }

    fn identity(&self) -> PathBuf {
        self.path.join("IDENTITY")
    }

    pub(crate) fn write_identity(&self, identity: &Identity) -> Result<(), OpenError> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32_le(VERSION);
        bytes.extend_from_slice(&identity.id);
        bytes.put_u8(identity.leaf_bits);
        bytes.put_u8(identity.engine.code());
        bytes.put_u32_le(crc32fast::hash(&bytes));
        write_atomically(&self.identity(), &bytes).map_err(OpenError::io(self.identity()))
    }

    pub(crate) fn read_identity(&self) -> Result<Identity, OpenError> {
        let path = self.identity();
        let bytes = match fs::read(&path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing(self.path.clone()));
            }
            Err(error) => return Err(OpenError::Io { path, error }),
        };
        decode_identity(&bytes).ok_or_else(|| OpenError::damaged(path, "not the identity of a store"))
    }

    /// Whether writes must stop because less than `minimum` bytes are free.
    pub(crate) fn is_nearly_full(&self, minimum: u64) -> bool {
        // A file system that does not answer is left to fail by itself.
        statvfs(&self.path).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < minimum)
    }

    /// Sets space aside, if it is not yet. A file system that cannot do that goes without.
    pub(crate) fn make_reserve(&self) {
        let file = private_options().create(true).truncate(false).open(self.path.join("RESERVE"));
        if let Ok(file) = file {
            let _ = fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES);
        }
    }

    pub(crate) fn release_reserve(&self) {
        let _ = fs::remove_file(self.path.join("RESERVE"));
    }
}

fn decode_identity(bytes: &Bytes) -> Option<Identity> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) || !body.starts_with(MAGIC) {
        return None;
    }
    let mut rest = &body[MAGIC.len()..];
    if rest.try_get_u32_le().ok()? != VERSION {
        return None;
    }
    let mut id = [0; 16];
    rest.try_copy_to_slice(&mut id).ok()?;
    let leaf_bits = rest.try_get_u8().ok().filter(|bits| *bits <= MAX_BITS)?;
    let engine = EngineKind::from_code(rest.try_get_u8().ok()?)?;
    rest.is_empty().then_some(Identity { id, leaf_bits, engine })
}

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &Bytes) {
    let _ = decode_identity(bytes);
    let _ = decode_identity(&[&bytes[..], &crc32fast::hash(bytes).to_le_bytes()].concat().into());
}
