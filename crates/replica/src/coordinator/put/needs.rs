//! What a put needs, and what it replaces.

use gramme_object::{Object, Sibling, limits};
use gramme_quorum::{PutError, PutNeeds, Threshold};
use gramme_vclock::{Context, Dot};
use gramme_wire::peer;

use super::Put;
use crate::node::{BucketDurability, Properties};
use crate::shard::{Level, Shard};

pub(super) fn put_needs(
    put: &peer::Put,
    properties: &Properties,
    replicas: u8,
) -> Result<PutNeeds, PutError> {
    put.w.resolve_positive(replicas, properties.w)?;
    let primaries = put.pw.resolve(replicas, properties.pw)?;
    let synced = put.dw.resolve(replicas, Threshold::Count(0))?;
    let least = u8::from(properties.durability == BucketDurability::OneOfN);
    Ok(PutNeeds { primaries, synced: synced.max(least) })
}

pub(super) fn check_siblings(put: &Put, object: &Object, stored: usize) -> Result<(), PutError> {
    let bytes = (stored + put.content.as_ref().map_or(0, |content| content.as_bytes().len())) as u64;
    let replaces_all = object.versions().dots().all(|dot| put.read.covers(dot));
    if put.properties.allow_mult && !replaces_all && bytes > limits::OBJECT {
        return Err(PutError::SiblingsTooLarge { bytes, limit: limits::OBJECT });
    }
    let siblings = object.versions().len_after_put(&put.read) as u32;
    let limit = put.properties.max_siblings;
    if put.properties.allow_mult && siblings > limit {
        return Err(PutError::TooManySiblings { siblings, limit });
    }
    Ok(())
}

/// When a put's value expires, if it does.
pub(super) fn expires(put: &Put, millis: u64) -> Result<Option<u64>, PutError> {
    let expires = put.content.as_ref().and_then(|_| put.expiry.instant(put.properties.ttl, millis));
    match expires {
        Some(expires) if expires <= millis => Err(PutError::ExpiresAtOnce),
        expires => Ok(expires),
    }
}

/// A put that brings a value again would take back what somebody else was told in between.
pub(super) fn check_touched(put: &Put, object: &Object, shard: &Shard, millis: u64) -> Result<(), PutError> {
    let Some(touched) = put.touched else { return Ok(()) };
    let is_read = object.versions().dots().all(|dot| put.read.covers(dot));
    let of_it = |(dot, sibling): &(Dot, Sibling)| *dot == touched && !sibling.is_tombstone();
    let is_there = match object.siblings().iter().find(|sibling| of_it(sibling)) {
        Some((_, sibling)) => !sibling.has_expired(millis),
        // This replica may lack it, as long as it does not know better.
        None => !object.context().covers(touched) && !shard.has_seen(put.place.partition, touched),
    };
    if is_read && is_there { Ok(()) } else { Err(PutError::Changed) }
}

/// What a put replaces: what its writer has read; in a last-write-wins bucket also every sibling that is
/// here, since the new stamp is greater than all of theirs.
pub(super) fn replaced(put: &Put, object: &Object) -> Context {
    let mut read = put.read.clone();
    if !put.properties.allow_mult {
        object.versions().dots().for_each(|dot| read.insert(dot));
    }
    read
}

/// How durable the copies of a put must be before they are acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Levels {
    pub(super) own: Level,
    pub(super) others: Level,
}

impl Levels {
    pub(super) const SYNCED: Self = Self { own: Level::Synced, others: Level::Synced };

    /// What the bucket asks, and more where the request wants so many synced acknowledgements. The first of
    /// them is the coordinator's own, if that `counts`.
    pub(super) const fn of(durability: BucketDurability, synced: u8, counts: bool) -> Self {
        let others = synced > if counts { 1 } else { 0 };
        let (own, others) = match durability {
            BucketDurability::Fsync => (true, true),
            BucketDurability::OneOfN => (true, others),
            BucketDurability::Buffered => (synced > 0, others),
        };
        Self { own: level(own), others: level(others) }
    }
}

const fn level(synced: bool) -> Level {
    if synced { Level::Synced } else { Level::Written }
}
