//! The incremental tree equals one built from scratch, and hashes tell exactly where two differ.

use std::collections::BTreeMap;

use gramme_merkle::{Digest, Leaf, Tree};
use proptest::prelude::*;

const BITS: u8 = 6;

fn built(keys: &BTreeMap<u64, Digest>) -> Tree {
    let mut tree = Tree::new(BITS);
    for (&hash, &digest) in keys {
        tree.replace(hash, None, Some(digest));
    }
    tree
}

proptest! {
    #[test]
    fn incremental_equals_rebuilt(writes in prop::collection::vec((0..64_u64, any::<Option<u128>>(), any::<bool>()), 0..80)) {
        let (mut keys, mut tree) = (BTreeMap::new(), Tree::new(BITS));
        for (key, digest, look) in writes {
            let (hash, digest) = (key.wrapping_mul(0x0765_4321_0fed_cba9), digest.map(Digest));
            let old = match digest {
                Some(digest) => keys.insert(hash, digest),
                None => keys.remove(&hash),
            };
            tree.replace(hash, old, digest);
            // Hashing in between must not leave a stale interior.
            if look {
                prop_assert_eq!(tree.hash(0, 0), built(&keys).hash(0, 0));
            }
        }
        let rebuilt = built(&keys);
        for depth in 0..=BITS {
            for prefix in 0..1 << depth {
                prop_assert_eq!(tree.hash(depth, prefix), rebuilt.hash(depth, prefix));
            }
        }
        prop_assert_eq!(tree.total(0, 0).count, keys.len() as u64);
        prop_assert_eq!(tree.total(1, 1).count, keys.keys().filter(|hash| *hash >> 63 == 1).count() as u64);
    }

    #[test]
    fn leaves_survive_their_bytes(count in any::<u64>(), sum in any::<u128>()) {
        let leaf = Leaf { count, sum };
        prop_assert_eq!(Leaf::from_bytes(&leaf.to_bytes()), Some(leaf));
        prop_assert_eq!(Leaf::from_bytes(&leaf.to_bytes()[1..]), None);
    }
}

#[test]
fn one_changed_key_changes_one_path() {
    let keys = (0..64_u64).map(|key| (key << 58, Digest::of(&key.to_le_bytes(), b"1"))).collect();
    let (ours, mut theirs) = (built(&keys), built(&keys));
    theirs.replace(13 << 58, keys.get(&(13 << 58)).copied(), Some(Digest::of(b"13", b"2")));
    for depth in 0..=BITS {
        let differ: Vec<_> =
            (0..1 << depth).filter(|&at| ours.hash(depth, at) != theirs.hash(depth, at)).collect();
        assert_eq!(differ, [13 >> (BITS - depth)]);
    }
}

#[test]
fn a_digest_tells_key_from_clock() {
    assert_ne!(Digest::of(b"ab", b"c"), Digest::of(b"a", b"bc"));
    // Stored, so fixed for ever.
    assert_eq!(Digest::of(b"key", b"clock").0, GOLDEN);
}

const GOLDEN: u128 = 324456733789575380543306136937813648278;
