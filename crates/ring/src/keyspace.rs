//! From a key's bytes to its place.

use core::fmt;

/// The deepest partition: 65,536 partitions.
pub const MAX_DEPTH: u8 = 16;

/// A key's place: 64 bits of keyed blake3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

/// The hash function of one cluster. Its key is drawn when the cluster is founded and given to nodes and
/// native clients, so that nobody else can aim keys at one partition.
#[derive(Clone)]
pub struct Keyspace {
    placement_key: [u8; 32],
}

impl Keyspace {
    /// The keyspace under a cluster's placement key.
    #[must_use]
    pub const fn new(placement_key: [u8; 32]) -> Self {
        Self { placement_key }
    }

    /// The place of `key` (an unambiguous encoding of bucket type, bucket and key).
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let digest = blake3::keyed_hash(&self.placement_key, key);
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        KeyHash(u64::from_be_bytes(first))
    }

    /// The key itself, to hand to a node or native client.
    #[must_use]
    pub const fn placement_key(&self) -> &[u8; 32] {
        &self.placement_key
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyspace { .. }")
    }
}

/// A partition: all hashes that begin with the `depth` bits of `prefix`.
///
/// ```
/// use gramme_ring::{KeyHash, PartitionId};
/// let partition = PartitionId::of(KeyHash(0xabcd << 48), 8);
/// assert_eq!((partition.prefix, partition.depth), (0xab, 8));
/// assert_eq!(partition.to_string(), "ab/8");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The leading bits, right-aligned.
    pub prefix: u32,
    /// How many they are, at most [`MAX_DEPTH`].
    pub depth: u8,
}

impl PartitionId {
    /// The partition of depth `depth` that `hash` lies in.
    #[must_use]
    pub const fn of(hash: KeyHash, depth: u8) -> Self {
        let prefix = if depth == 0 { 0 } else { (hash.0 >> (64 - depth)) as u32 };
        Self { prefix, depth }
    }

    /// Whether `hash` lies in it.
    #[must_use]
    pub fn contains(self, hash: KeyHash) -> bool {
        Self::of(hash, self.depth) == self
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}/{}", self.prefix, self.depth)
    }
}
