//! The bytes of contexts and seen-sets.
//!
//! All integers are little-endian. Neither form carries a version of its own: the records that embed them do
//! (a stored object, a partition record, a client's context token, a message). A decoder accepts exactly what
//! an encoder writes, sorted and minimal, so that equal values have equal bytes; and it allocates no more
//! than the input's length allows.
//!
//! ```text
//! context   u32 vector entries | (u64 actor, u64 counter)* | u32 outside dots | (u64 actor, u64 counter)*
//! seen-set  u32 actors | (u64 actor, u8 flags: 1 = finished, u64 base, u32 ranges, (u64 first, u64 last)*)*
//! ```

use alloc::vec::Vec;

use bytes::{Buf, BufMut};

use crate::seen::Seen;
use crate::{Actor, Context, Dot, SeenSet, VersionVector};

const FINISHED: u8 = 1;

/// Why bytes are not a context or a seen-set. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early, or a length in them is larger than what follows.
    #[error("the bytes end before the value does")]
    Truncated,
    /// The entries are not sorted, repeat, or hold a counter of zero.
    #[error("the entries are not in their canonical order")]
    NotCanonical,
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Truncated
    }
}

impl Context {
    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_len(out, self.vector().len());
        for (actor, counter) in self.vector().iter() {
            put_dot(out, Dot::new(actor, counter));
        }
        put_len(out, self.outside().len());
        for &dot in self.outside() {
            put_dot(out, dot);
        }
    }

    /// Reads one context from the front of `input` and moves past it.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are cut off or not what [`Context::encode`] writes.
    pub fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let entries = get_dots(input)?;
        if entries.windows(2).any(|pair| pair[0].actor >= pair[1].actor) {
            return Err(DecodeError::NotCanonical);
        }
        let entries = entries.into_iter().map(|entry| (entry.actor, entry.counter));
        let vector = VersionVector::from_sorted(entries.collect());
        let outside = get_dots(input)?;
        let unsorted = outside.windows(2).any(|pair| pair[0] >= pair[1]);
        if unsorted || outside.iter().any(|&dot| vector.covers(dot)) {
            return Err(DecodeError::NotCanonical);
        }
        Ok(Self::from_parts(vector, outside))
    }
}

impl SeenSet {
    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_len(out, self.len());
        for (actor, seen) in self.actors() {
            out.put_u64_le(actor.0);
            out.put_u8(if seen.finished { FINISHED } else { 0 });
            out.put_u64_le(seen.base);
            put_len(out, seen.ranges.len());
            for &(first, last) in &seen.ranges {
                out.put_u64_le(first);
                out.put_u64_le(last);
            }
        }
    }

    /// Reads one seen-set from the front of `input` and moves past it.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are cut off or not what [`SeenSet::encode`] writes.
    pub fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut set = Self::new();
        let mut previous = None;
        for _ in 0..get_len(input, 21)? {
            let actor = Actor(input.try_get_u64_le()?);
            let flags = input.try_get_u8()?;
            let base = input.try_get_u64_le()?;
            let ranges = get_ranges(input, base)?;
            if flags > FINISHED || previous.is_some_and(|previous| previous >= actor) {
                return Err(DecodeError::NotCanonical);
            }
            previous = Some(actor);
            set.restore(actor, Seen { base, ranges, finished: flags == FINISHED });
        }
        Ok(set)
    }
}

fn get_ranges(input: &mut &[u8], base: u64) -> Result<Vec<(u64, u64)>, DecodeError> {
    let mut ranges = Vec::new();
    let mut end = base;
    for _ in 0..get_len(input, 16)? {
        let (first, last) = (input.try_get_u64_le()?, input.try_get_u64_le()?);
        // A range that touches the one before would have been joined with it.
        if first > last || first <= end.saturating_add(1) {
            return Err(DecodeError::NotCanonical);
        }
        end = last;
        ranges.push((first, last));
    }
    Ok(ranges)
}

fn get_dots(input: &mut &[u8]) -> Result<Vec<Dot>, DecodeError> {
    let count = get_len(input, 16)?;
    let mut dots = Vec::with_capacity(count);
    for _ in 0..count {
        let dot = Dot::new(Actor(input.try_get_u64_le()?), input.try_get_u64_le()?);
        if dot.counter == 0 {
            return Err(DecodeError::NotCanonical);
        }
        dots.push(dot);
    }
    Ok(dots)
}

fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    out.put_u64_le(dot.actor.0);
    out.put_u64_le(dot.counter);
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    // Four billion entries would be 64 GiB of memory in one key's context: it cannot have been built.
    out.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
}

/// A count of items of at least `item` bytes each, checked against what is left.
fn get_len(input: &mut &[u8], item: usize) -> Result<usize, DecodeError> {
    let count = input.try_get_u32_le()? as usize;
    if count.saturating_mul(item) > input.remaining() {
        return Err(DecodeError::Truncated);
    }
    Ok(count)
}
