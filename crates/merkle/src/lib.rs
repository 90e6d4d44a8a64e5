#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The largest number of hash bits that a tree's leaves may tell apart.
pub const MAX_BITS: u8 = 24;

/// What one key adds to its leaf: 128 bits of the hash of its name and its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub u128);

impl Digest {
    /// Of a row that adds nothing to its leaf, and is not counted there: a key with no version. A replica that has
    /// forgotten such a key, and one that has not yet, are the same.
    pub const NOTHING: Self = Self(0);

    /// The digest of `key` with the versions that `clock` encodes.
    #[must_use]
    pub fn of(key: &[u8], clock: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(clock);
        let mut first = [0; 16];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(u128::from_le_bytes(first))
    }
}

/// A bucket of keys: how many there are, and the sum of their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Keys in the bucket.
    pub count: u64,
    /// The sum of their digests, modulo 2^128.
    pub sum: u128,
}

impl Leaf {
    /// Puts `new` in the place of `old`; `None` means that the key is not there, as [`Digest::NOTHING`] does.
    pub fn replace(&mut self, old: Option<Digest>, new: Option<Digest>) {
        if let Some(old) = old.filter(|old| *old != Digest::NOTHING) {
            self.count = self.count.wrapping_sub(1);
            self.sum = self.sum.wrapping_sub(old.0);
        }
        if let Some(new) = new.filter(|new| *new != Digest::NOTHING) {
            self.count = self.count.wrapping_add(1);
            self.sum = self.sum.wrapping_add(new.0);
        }
    }

    /// Adds the keys of another bucket.
    pub const fn add(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The stored form: count and sum, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_le_bytes());
        bytes
    }

    /// Reads the stored form; nothing if it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, sum) = bytes.split_at_checked(8)?;
        let count = u64::from_le_bytes(count.try_into().ok()?);
        Some(Self { count, sum: u128::from_le_bytes(sum.try_into().ok()?) })
    }
}

/// The hash of a subtree.
pub type NodeHash = [u8; 32];

/// The tree: 2^bits leaves, and the interior above them.
///
/// `replace` is O(bits); `hash` is O(1) for what has not changed and O(changed leaves × bits) otherwise.
/// Memory: nothing for an empty tree, 32 bytes a leaf otherwise, and 33 for each of two tree nodes per leaf once
/// a hash was asked for.
#[derive(Clone, Debug)]
pub struct Tree {
    bits: u8,
    leaves: Vec<Leaf>,
    /// A heap: node 1 is the root, the children of `n` are `2n` and `2n + 1`; `None` is not yet hashed.
    interior: RefCell<Vec<Option<NodeHash>>>,
}

impl Tree {
    /// An empty tree whose leaves tell apart the first `bits` bits of a hash (at most [`MAX_BITS`]).
    #[must_use]
    pub fn new(bits: u8) -> Self {
        Self { bits: bits.min(MAX_BITS), leaves: Vec::new(), interior: RefCell::default() }
    }

    /// The leaves, to change: allocated when the first one is.
    fn leaves_mut(&mut self) -> &mut [Leaf] {
        if self.leaves.is_empty() {
            self.leaves = vec![Leaf::default(); 1 << self.bits];
        }
        &mut self.leaves
    }

    /// How many bits of the hash name a leaf.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of the leaf that `hash` lies in.
    #[must_use]
    pub const fn leaf_of(&self, hash: u64) -> u32 {
        leaf_of(hash, self.bits)
    }

    /// Puts a key's new digest in the place of its old one, and returns its leaf's number.
    pub fn replace(&mut self, hash: u64, old: Option<Digest>, new: Option<Digest>) -> u32 {
        let leaf = self.leaf_of(hash);
        self.leaves_mut()[leaf as usize].replace(old, new);
        self.forget_above(leaf);
        leaf
    }

    /// The leaf with this number; an empty one for a number out of range.
    #[must_use]
    pub fn leaf(&self, leaf: u32) -> Leaf {
        self.leaves.get(leaf as usize).copied().unwrap_or_default()
    }

    /// Sets a leaf, as when a stored tree is loaded. A number out of range changes nothing.
    pub fn set_leaf(&mut self, leaf: u32, value: Leaf) {
        if let Some(slot) = self.leaves_mut().get_mut(leaf as usize) {
            *slot = value;
            self.forget_above(leaf);
        }
    }

    /// All keys below the node `prefix` at `depth`, added up. O(leaves below it).
    #[must_use]
    pub fn total(&self, depth: u8, prefix: u32) -> Leaf {
        let mut total = Leaf::default();
        let width = self.bits.saturating_sub(depth);
        let first = (prefix as usize) << width;
        for leaf in self.leaves.iter().skip(first).take(1 << width) {
            total.add(*leaf);
        }
        total
    }

    /// The hash of the subtree of all keys whose hash begins with the `depth` bits of `prefix`. Depth 0 is
    /// the root; a depth beyond the leaves is that of the leaf.
    #[must_use]
    pub fn hash(&self, depth: u8, prefix: u32) -> NodeHash {
        let depth = depth.min(self.bits);
        self.interior.borrow_mut().resize(2 << self.bits, None);
        self.hash_node((1 << depth) + (prefix as usize & ((1 << depth) - 1)))
    }

    fn hash_node(&self, node: usize) -> NodeHash {
        if let Some(hash) = self.interior.borrow()[node] {
            return hash;
        }
        let mut hasher = blake3::Hasher::new();
        match node.checked_sub(1 << self.bits) {
            Some(leaf) => {
                hasher.update(&self.leaf(leaf as u32).to_bytes());
            }
            None => {
                hasher.update(&self.hash_node(2 * node));
                hasher.update(&self.hash_node(2 * node + 1));
            }
        }
        let hash = *hasher.finalize().as_bytes();
        self.interior.borrow_mut()[node] = Some(hash);
        hash
    }

    fn forget_above(&mut self, leaf: u32) {
        let interior = self.interior.get_mut();
        let mut node = (1 << self.bits) + leaf as usize;
        // What is above an unhashed node is unhashed too.
        while node > 0 && interior.get_mut(node).and_then(Option::take).is_some() {
            node /= 2;
        }
    }
}

/// The number of the leaf that `hash` lies in, in a tree of `bits` bits.
#[must_use]
pub const fn leaf_of(hash: u64, bits: u8) -> u32 {
    if bits == 0 { 0 } else { (hash >> (64 - bits)) as u32 }
}
