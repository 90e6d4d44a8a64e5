//! All versions of one key.

use bytes::Bytes;
use gramme_plant::planted;
use gramme_vclock::{Context, Dot, VersionSet};

use crate::codec::{self, DecodeError};
use crate::{Content, Sibling, Stamp};

/// The siblings of a key under one causal context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    versions: VersionSet<Sibling>,
}

impl Object {
    /// The object of a key that nobody has written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A state that holds one new write and what it replaces: what a coordinator sends to replicas.
    #[must_use]
    pub fn from_write(read: &Context, dot: Dot, sibling: Sibling) -> Self {
        let mut versions = VersionSet::new();
        versions.put(read, dot, sibling);
        Self { versions }
    }

    /// One of its versions alone, with its dot and nothing that it replaced.
    #[must_use]
    pub fn only(&self, dot: Dot) -> Self {
        let live = self.siblings().iter().filter(|(other, _)| *other == dot).cloned().collect();
        Self { versions: VersionSet::from_parts(Context::new(), live) }
    }

    /// The versions with their dots and context.
    #[must_use]
    pub const fn versions(&self) -> &VersionSet<Sibling> {
        &self.versions
    }

    /// The versions, to change.
    pub const fn versions_mut(&mut self) -> &mut VersionSet<Sibling> {
        &mut self.versions
    }

    /// Everything that was ever merged into it.
    #[must_use]
    pub const fn context(&self) -> &Context {
        self.versions.context()
    }

    /// The siblings with their dots, tombstones included.
    #[must_use]
    pub fn siblings(&self) -> &[(Dot, Sibling)] {
        self.versions.versions()
    }

    /// The version of this dot, if it is live.
    fn sibling(&self, dot: Dot) -> Option<&Sibling> {
        let at = self.siblings().binary_search_by_key(&dot, |(dot, _)| *dot).ok()?;
        Some(&self.siblings()[at].1)
    }

    /// Whether a live version of this dot is here that is not the same: one of the two has been purged.
    #[must_use]
    pub fn differs(&self, dot: Dot, sibling: &Sibling) -> bool {
        self.sibling(dot).is_some_and(|ours| ours != sibling)
    }

    /// Whether a reader finds a value: some sibling is not a tombstone.
    #[must_use]
    pub fn has_value(&self) -> bool {
        self.versions.values().any(|sibling| !sibling.is_tombstone())
    }

    /// Merges all that `other` knows. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        self.versions.merge(&other.versions);
        for (dot, theirs) in other.siblings() {
            if self.differs(*dot, theirs) && self.sibling(*dot).is_some_and(|ours| rank(ours) < rank(theirs))
            {
                self.versions.replace(*dot, theirs.clone());
            }
        }
        if planted!(LastWriteWins) {
            *self = self.last_writer(u64::MAX >> 17);
        }
    }

    /// The object as a last-write-wins bucket reads it: of the siblings, which are concurrent with each
    /// other, only the one with the greatest stamp (then the greatest dot); one that is too far ahead of
    /// `wall_millis` to be believed comes last. The context stays whole, so a write after this read replaces
    /// the losers too.
    #[must_use]
    pub fn last_writer(&self, wall_millis: u64) -> Self {
        let is_believed = |stamp: Stamp| planted!(TrustClock) || !stamp.is_runaway(wall_millis);
        let rank = |(dot, sibling): &&(Dot, Sibling)| (is_believed(sibling.stamp), sibling.stamp, *dot);
        let Some(winner) = self.siblings().iter().max_by_key(rank).map(|(dot, _)| *dot) else {
            return self.clone();
        };
        self.versions_of(|dot| *dot == winner)
    }

    /// The object with only those siblings of which `is_wanted` says so. Its context stays whole.
    #[must_use]
    pub fn versions_of(&self, is_wanted: impl Fn(&Dot) -> bool) -> Self {
        let mut some = self.clone();
        some.versions.retain(|dot, _| is_wanted(&dot));
        some
    }

    /// The object without its values of more than `limit` bytes, and the versions whose values those are: they are here
    /// with an empty value, which gives way to the real one in any merge. Not to be stored.
    #[must_use]
    pub fn withhold(&self, limit: usize) -> (Self, Vec<Dot>) {
        let is_large = |content: &Content| content.as_bytes().len() > limit;
        let large =
            self.siblings().iter().filter(|(_, sibling)| sibling.content.as_ref().is_some_and(is_large));
        let large: Vec<_> = large.map(|(dot, sibling)| (*dot, sibling.clone())).collect();
        let mut hollow = self.clone();
        let mut dots = Vec::with_capacity(large.len());
        for (dot, sibling) in large {
            hollow.versions.replace(dot, Sibling { content: Some(Content::from_body(b"")), ..sibling });
            dots.push(dot);
        }
        (hollow, dots)
    }

    /// What a reader is shown at a time, in milliseconds since 1970: values that have expired are deletes.
    #[must_use]
    pub fn at_time(mut self, millis: u64) -> Self {
        self.purge(millis);
        self
    }

    /// Drops the values that have expired at this time, in milliseconds since 1970; says how many. Their versions stay,
    /// as tombstones, with the same dots: replicas that do this at different times are equal all the while.
    pub fn purge(&mut self, millis: u64) -> usize {
        let expired = self.siblings().iter().filter(|(_, sibling)| sibling.has_expired(millis));
        let expired: Vec<_> = expired.map(|(dot, sibling)| (*dot, sibling.clone())).collect();
        let purged = expired.len();
        for (dot, sibling) in expired {
            self.versions.replace(dot, Sibling { content: None, ..sibling });
        }
        purged
    }

    /// When the first of its values expires, in milliseconds since 1970.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        let values = self.versions.values().filter(|sibling| !sibling.is_tombstone());
        values.filter_map(|sibling| sibling.expires).min()
    }

    /// The greatest stamp of its siblings.
    #[must_use]
    pub fn newest_stamp(&self) -> Stamp {
        self.versions.values().map(|sibling| sibling.stamp).max().unwrap_or_default()
    }

    /// What is left of it when every replica has seen all that it speaks of: its values. Tombstones go, and so does
    /// the context but for the values' own dots: what they replaced is refused by whoever has seen it. Of a
    /// last-write-wins bucket it is to be the [`Self::last_writer`]: a loser must not come back when a tombstone goes.
    #[must_use]
    pub fn reclaimed(&self) -> Self {
        let values = self.siblings().iter().filter(|(_, sibling)| !sibling.is_tombstone());
        Self { versions: VersionSet::from_parts(Context::new(), values.cloned().collect()) }
    }

    /// Whether it says nothing at all: no version, and nothing that was replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.context().is_empty()
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads the stored form. Values share the memory of `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] if the checksum fails, the version is unknown or the bytes are not canonical.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    pub(crate) const fn from_versions(versions: VersionSet<Sibling>) -> Self {
        Self { versions }
    }
}

/// Of two siblings under one dot the greater one stays: the purged one, whose value is gone. Beyond that one dot names one
/// value; if somebody has broken that, all choose the same.
fn rank(sibling: &Sibling) -> impl Ord + '_ {
    let content = sibling.content.as_ref().map(Content::as_bytes);
    (sibling.is_purged(), sibling.expires, sibling.stamp, sibling.write_id, content)
}

/// What a hash tree hashes of a key's versions: the live dots (tombstones' too), when each expires, and nothing else.
/// Replicas with the same dots hold the same values, but for those that one of them has purged, and that is no
/// difference; raw contexts may differ between replicas that agree.
#[must_use]
pub fn clock_bytes(object: &Object) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 * object.versions.len());
    for (dot, sibling) in object.siblings() {
        bytes.extend_from_slice(&dot.actor.0.to_le_bytes());
        bytes.extend_from_slice(&dot.counter.to_le_bytes());
        bytes.extend(sibling.expires.into_iter().flat_map(u64::to_le_bytes));
    }
    bytes
}
