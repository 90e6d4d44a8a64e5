//! The last checkpoint: up to which batch the engine has everything, and what it must therefore hold.
//!
//! ```text
//! "GRMMANIF" | u32 version = 3 | store id (16) | u64 sequence | u64 first log segment still needed | u64 engine
//! u32 partitions | (u32 prefix | u8 depth | u64 count | u128 sum)* | u32 CRC-32
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use gramme_codec::Codec;
use gramme_merkle::Leaf;
use gramme_ring::PartitionId;

use crate::batch::get_leaf;
use crate::error::OpenError;
use crate::files::write_atomically;

const MAGIC: &[u8; 8] = b"GRMMANIF";
const VERSION: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: [u8; 16],
    /// The engine holds all batches up to this one.
    pub(crate) sequence: u64,
    pub(crate) first_segment: u64,
    /// Which engine's directory it is.
    pub(crate) engine: u64,
    /// All keys of each partition at that point.
    pub(crate) totals: BTreeMap<PartitionId, Leaf>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(56 + 29 * self.totals.len());
        out.extend_from_slice(MAGIC);
        out.put_u32_le(VERSION);
        out.extend_from_slice(&self.store);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.first_segment);
        out.put_u64_le(self.engine);
        out.put_u32_le(self.totals.len() as u32);
        for (partition, total) in &self.totals {
            partition.encode_to(&mut out);
            out.extend_from_slice(&total.to_bytes());
        }
        let checksum = crc32fast::hash(&out);
        out.put_u32_le(checksum);
        out
    }

    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        write_atomically(path, &self.encode())
    }

    pub(crate) fn read(path: &Path) -> Result<Self, OpenError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Bytes::from(bytes),
            Err(error) => return Err(OpenError::damaged(path, format!("the manifest: {error}"))),
        };
        Self::decode(&bytes).ok_or_else(|| OpenError::damaged(path, "not a manifest"))
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let body_len = bytes.len().checked_sub(4)?;
        let checksum = bytes.slice(body_len..).get_u32_le();
        let mut rest = bytes.slice(..body_len);
        if crc32fast::hash(&rest) != checksum || !rest.starts_with(MAGIC) {
            return None;
        }
        rest.advance(MAGIC.len());
        if rest.try_get_u32_le().ok()? != VERSION {
            return None;
        }
        let mut manifest = Self::default();
        rest.try_copy_to_slice(&mut manifest.store).ok()?;
        manifest.sequence = rest.try_get_u64_le().ok()?;
        manifest.first_segment = rest.try_get_u64_le().ok()?;
        manifest.engine = rest.try_get_u64_le().ok()?;
        for _ in 0..rest.try_get_u32_le().ok()? {
            let partition = PartitionId::parse(&mut rest).ok()?;
            // As it is written: in order, each once.
            if manifest.totals.last_key_value().is_some_and(|(last, _)| *last >= partition) {
                return None;
            }
            manifest.totals.insert(partition, get_leaf(&mut rest).ok()?);
        }
        rest.is_empty().then_some(manifest)
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(bytes: &Bytes) {
    let sealed = [&bytes[..], &crc32fast::hash(bytes).to_le_bytes()].concat();
    for bytes in [bytes.clone(), sealed.into()] {
        if let Some(manifest) = Manifest::decode(&bytes) {
            assert_eq!(manifest.encode(), bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let totals = [(PartitionId { prefix: 1, depth: 4 }, Leaf { count: 2, sum: 3 })].into();
        let manifest = Manifest { store: [9; 16], sequence: 7, first_segment: 2, engine: 1, totals };
        let hex: String = manifest.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/manifest-3.hex").trim());
        let bytes = Bytes::from(manifest.encode());
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        assert!((0..bytes.len()).all(|end| Manifest::decode(&bytes.slice(..end)).is_none()));
    }
}
