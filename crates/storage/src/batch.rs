//! What is committed together, and its bytes in the log.
//!
//! ```text
//! u8 version = 1 | u32 rows | row*
//! row = 1 data      u64 hash | u32 length, key | u128 digest | u32 length, value
//!     | 2 removed   u64 hash | u32 length, key
//!     | 3 leaf      u32 number | u64 count | u128 sum
//!     | 4 partition u32 prefix | u64 count | u128 sum | u32 length, record
//!     | 5 note      u32 prefix | u64 count | u128 sum | u32 length, note
//!     | 6 meta      u32 length, name | u32 length, value
//! ```

use bytes::{Buf, BufMut, Bytes, TryGetError};
use gramme_merkle::{Digest, Leaf};

const VERSION: u8 = 1;

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An object: its place, its name, what it adds to its leaf, and its bytes.
    Data {
        /// The place of its key.
        hash: u64,
        /// Its key, encoded.
        key: Bytes,
        /// What it adds to its leaf of the hash tree.
        digest: Digest,
        /// The stored object.
        value: Bytes,
    },
    /// An object is gone.
    Removed {
        /// The place of its key.
        hash: u64,
        /// Its key, encoded.
        key: Bytes,
    },
    /// The new content of a leaf of the hash tree.
    Leaf {
        /// The leaf's number.
        number: u32,
        /// Its content.
        leaf: Leaf,
    },
    /// A partition's whole record. The notes since the last one are dropped.
    Partition {
        /// The partition's prefix.
        prefix: u32,
        /// All keys of the partition, after this batch.
        total: Leaf,
        /// The record; opaque here.
        record: Bytes,
    },
    /// An addition to a partition's record, kept in order behind it.
    Note {
        /// The partition's prefix.
        prefix: u32,
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
            Self::Data { hash, key, digest, value } => {
                out.put_u8(1);
                out.put_u64_le(*hash);
                put_bytes(out, key);
                out.put_u128_le(digest.0);
                put_bytes(out, value);
            }
            Self::Removed { hash, key } => {
                out.put_u8(2);
                out.put_u64_le(*hash);
                put_bytes(out, key);
            }
            Self::Leaf { number, leaf } => put_leaf(out, 3, *number, leaf),
            Self::Partition { prefix, total, record } => {
                put_leaf(out, 4, *prefix, total);
                put_bytes(out, record);
            }
            Self::Note { prefix, total, note } => {
                put_leaf(out, 5, *prefix, total);
                put_bytes(out, note);
            }
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
                hash: rest.try_get_u64_le()?,
                key: get_bytes(rest)?,
                digest: Digest(rest.try_get_u128_le()?),
                value: get_bytes(rest)?,
            },
            2 => Self::Removed { hash: rest.try_get_u64_le()?, key: get_bytes(rest)? },
            3 => Self::Leaf { number: rest.try_get_u32_le()?, leaf: get_leaf(rest)? },
            4 => Self::Partition {
                prefix: rest.try_get_u32_le()?,
                total: get_leaf(rest)?,
                record: get_bytes(rest)?,
            },
            5 => {
                Self::Note { prefix: rest.try_get_u32_le()?, total: get_leaf(rest)?, note: get_bytes(rest)? }
            }
            6 => Self::Meta { name: get_bytes(rest)?, value: get_bytes(rest)? },
            _ => return Err(Malformed),
        })
    }
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

fn put_leaf(out: &mut Vec<u8>, kind: u8, number: u32, leaf: &Leaf) {
    out.put_u8(kind);
    out.put_u32_le(number);
    out.extend_from_slice(&leaf.to_bytes());
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
        Batch {
            rows: vec![
                Row::Data { hash: 1, key: "k".into(), digest: Digest(4), value: "v".into() },
                Row::Removed { hash: 2, key: "gone".into() },
                Row::Leaf { number: 5, leaf },
                Row::Partition { prefix: 6, total: leaf, record: "r".into() },
                Row::Note { prefix: 7, total: leaf, note: "n".into() },
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
        assert_eq!(hex, include_str!("../tests/golden/batch-1.hex").trim());
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
