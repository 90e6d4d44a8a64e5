//! Two lists of keys with the digests of their clocks: what one lacks of the other.

use std::collections::BTreeMap;

/// What two replicas of a range do not have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences<K> {
    /// Keys that we have and they lack, or have otherwise: theirs to get.
    pub ours: Vec<K>,
    /// Keys that they have and we lack, or have otherwise: ours to get.
    pub theirs: Vec<K>,
}

/// Compares our keys with theirs. A key that both have, and that differs, is in both lists: each may have versions
/// that the other lacks. O(n log n).
///
/// ```
/// use gramme_antientropy::compare;
/// let found = compare([("same", 1), ("old", 2), ("ours", 3)], [("same", 1), ("old", 9), ("theirs", 4)]);
/// assert_eq!(found.ours, ["old", "ours"]);
/// assert_eq!(found.theirs, ["old", "theirs"]);
/// ```
pub fn compare<K: Ord + Clone>(
    ours: impl IntoIterator<Item = (K, u128)>,
    theirs: impl IntoIterator<Item = (K, u128)>,
) -> Differences<K> {
    let ours: BTreeMap<K, u128> = ours.into_iter().collect();
    let theirs: BTreeMap<K, u128> = theirs.into_iter().collect();
    let lacks = |those: &BTreeMap<K, u128>, of: &BTreeMap<K, u128>| {
        let differing = of.iter().filter(|(key, digest)| those.get(*key) != Some(*digest));
        differing.map(|(key, _)| key.clone()).collect()
    };
    Differences { ours: lacks(&theirs, &ours), theirs: lacks(&ours, &theirs) }
}
