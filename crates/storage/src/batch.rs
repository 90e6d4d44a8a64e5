//! What is committed together, and its bytes in the log.
//!
//! ```text
//! u8 version = 2 | u32 rows | row*
//! row = 1 data      name | u128 digest | u32 length, value
//!     | 2 removed   name
//!     | 3 leaf      partition | u32 number | u64 count | u128 sum
//!     | 4 partition partition | u64 count | u128 sum | u32 length, record
//!     | 5 note      partition | u64 count | u128 sum | u32 length, note
//!     | 6 meta      u32 length, name | u32 length, value
//! name      = u8 space: 1 data, 2 hint (then u64 target) | u64 hash | u32 length, key
//! partition = u32 prefix | u8 depth
//! ```

use bytes::{Buf, BufMut, Bytes, TryGetError};
use gramme_codec::Codec;
use gramme_merkle::{Digest, Leaf};
use gramme_ring::PartitionId;

const VERSION: u8 = 2;

/// What an object is kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// It belongs here.
    #[default]
    Data,
    /// It is kept for another node: this one.
    Hint(u64),
}

gramme_codec::enums! { Space { Data = 1, Hint(target) = 2 } }

/// What a row is called. Names are ordered by space, then by the place of their key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What the object is kept for.
    pub space: Space,
    /// The place of its key.
    pub hash: u64,
    /// Its key, encoded.
    pub key: Bytes,
}

gramme_codec::structs! { Name { space: Space, hash: u64, key: Bytes } }

impl Name {
    /// What a filter knows it by.
    pub(crate) const fn filter_hash(&self) -> u64 {
        match self.space {
            Space::Data => self.hash,
            Space::Hint(target) => self.hash ^ target.rotate_left(32) ^ 0x68696e74,
        }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An object: its place, its name, what it adds to its leaf, and its bytes.
    Data {
        /// What it is called.
        name: Name,
        /// What it adds to its leaf of the hash tree.
        digest: Digest,
        /// The stored object.
        value: Bytes,
    },
    /// An object is gone.
    Removed {
        /// What it was called.
        name: Name,
    },
    /// The new content of a leaf of the hash tree.
    Leaf {
        /// The partition.
        partition: PartitionId,
        /// The leaf's number in it.
        number: u32,
        /// Its content.
        leaf: Leaf,
    },
    /// A partition's whole record. The notes since the last one are dropped.
    Partition {
        /// The partition.
        partition: PartitionId,
        /// All keys of the partition, after this batch.
        total: Leaf,
        /// The record; opaque here.
        record: Bytes,
    },
    /// An addition to a partition's record, kept in order behind it.
    Note {
        /// The partition.
        partition: PartitionId,
        /// All keys of the partition, after this batch.
        total: Leaf,
        /// The addition; opaque here.
        note: Bytes,
    },
    /// A record of the node's own, such as its bucket properties.
    Meta {
        /// The record's name.
        name: Bytes,
        /// Its bytes.
        value: Bytes,
    },
}

/// Changes that are committed together: after a crash either all are there or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes; of two to the same thing the later counts.
    pub rows: Vec<Row>,
}

/// The bytes are not a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

impl Batch {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put_u32_le(self.rows.len() as u32);
        for row in &self.rows {
            row.encode(out);
        }
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut rest = bytes.clone();
        if rest.try_get_u8()? != VERSION {
            return Err(Malformed);
        }
        let count = rest.try_get_u32_le()? as usize;
        if count > rest.len() {
            return Err(Malformed);
        }
        let rows = (0..count).map(|_| Row::decode(&mut rest)).collect::<Result<_, _>>()?;
        if rest.is_empty() { Ok(Self { rows }) } else { Err(Malformed) }
    }
}

impl Row {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data { name, digest, value } => {
                out.put_u8(1);
                name.encode_to(out);
                out.put_u128_le(digest.0);
                put_bytes(out, value);
            }
            Self::Removed { name } => {
                out.put_u8(2);
                name.encode_to(out);
            }
            Self::Leaf { partition, number, leaf } => {
                out.put_u8(3);
                partition.encode_to(out);
                out.put_u32_le(*number);
                out.extend_from_slice(&leaf.to_bytes());
            }
            Self::Partition { partition, total, record } => put_partition(out, 4, *partition, total, record),
            Self::Note { partition, total, note } => put_partition(out, 5, *partition, total, note),
            Self::Meta { name, value } => {
                out.put_u8(6);
                put_bytes(out, name);
                put_bytes(out, value);
            }
        }
    }

    fn decode(rest: &mut Bytes) -> Result<Self, Malformed> {
        Ok(match rest.try_get_u8()? {
            1 => Self::Data {
                name: get(rest)?,
                digest: Digest(rest.try_get_u128_le()?),
                value: get_bytes(rest)?,
            },
            2 => Self::Removed { name: get(rest)? },
            3 => Self::Leaf { partition: get(rest)?, number: rest.try_get_u32_le()?, leaf: get_leaf(rest)? },
            4 => Self::Partition { partition: get(rest)?, total: get_leaf(rest)?, record: get_bytes(rest)? },
            5 => Self::Note { partition: get(rest)?, total: get_leaf(rest)?, note: get_bytes(rest)? },
            6 => Self::Meta { name: get_bytes(rest)?, value: get_bytes(rest)? },
            _ => return Err(Malformed),
        })
    }
}

fn get<T: Codec>(rest: &mut Bytes) -> Result<T, Malformed> {
    T::parse(rest).map_err(|_| Malformed)
}

fn put_partition(out: &mut Vec<u8>, kind: u8, partition: PartitionId, total: &Leaf, bytes: &[u8]) {
    out.put_u8(kind);
    partition.encode_to(out);
    out.extend_from_slice(&total.to_bytes());
    put_bytes(out, bytes);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and values are limited far below 4 GiB before they come here.
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

pub(crate) fn get_bytes(rest: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = rest.try_get_u32_le()? as usize;
    if length > rest.len() {
        return Err(Malformed);
    }
    Ok(rest.split_to(length))
}

pub(crate) fn get_leaf(rest: &mut Bytes) -> Result<Leaf, Malformed> {
    if rest.len() < 24 {
        return Err(Malformed);
    }
    Leaf::from_bytes(&rest.split_to(24)).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let leaf = Leaf { count: 2, sum: 3 };
        let partition = PartitionId { prefix: 6, depth: 4 };
        let name = |space, key: &'static str| Name { space, hash: 1, key: key.into() };
        Batch {
            rows: vec![
                Row::Data { name: name(Space::Data, "k"), digest: Digest(4), value: "v".into() },
                Row::Data { name: name(Space::Hint(9), "k"), digest: Digest(4), value: "h".into() },
                Row::Removed { name: name(Space::Data, "gone") },
                Row::Leaf { partition, number: 5, leaf },
                Row::Partition { partition, total: leaf, record: "r".into() },
                Row::Note { partition, total: leaf, note: "n".into() },
                Row::Meta { name: "props".into(), value: "p".into() },
            ],
        }
    }

    /// The bytes in every log. A change here is a new version.
    #[test]
    fn golden() {
        let mut bytes = Vec::new();
        batch().encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/batch-2.hex").trim());
    }

    #[test]
    fn cut_anywhere_it_is_refused() {
        let mut bytes = Vec::new();
        batch().encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        assert_eq!(Batch::decode(&bytes), Ok(batch()));
        for end in 0..bytes.len() {
            assert_eq!(Batch::decode(&bytes.slice(..end)), Err(Malformed), "cut at {end}");
        }
    }
}
