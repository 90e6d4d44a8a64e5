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

use bytes::{Buf, BufMut, Bytes};
use gramme_codec::{Codec, DecodeError, put_length};

use crate::seen::Seen;
use crate::{Actor, Context, Dot, SeenSet, VersionVector};

const FINISHED: u8 = 1;

impl Context {
    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.vector().len(), out);
        for (actor, counter) in self.vector().iter() {
            put_dot(out, Dot::new(actor, counter));
        }
        put_length(self.outside().len(), out);
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
            return Err(DecodeError::Malformed);
        }
        let entries = entries.into_iter().map(|entry| (entry.actor, entry.counter));
        let vector = VersionVector::from_sorted(entries.collect());
        let outside = get_dots(input)?;
        let unsorted = outside.windows(2).any(|pair| pair[0] >= pair[1]);
        if unsorted || outside.iter().any(|&dot| vector.covers(dot)) {
            return Err(DecodeError::Malformed);
        }
        Ok(Self::from_parts(vector, outside))
    }
}

impl SeenSet {
    /// Appends the encoded form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for (actor, seen) in self.actors() {
            out.put_u64_le(actor.0);
            out.put_u8(if seen.finished { FINISHED } else { 0 });
            out.put_u64_le(seen.base);
            put_length(seen.ranges.len(), out);
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
                return Err(DecodeError::Malformed);
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
            return Err(DecodeError::Malformed);
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
            return Err(DecodeError::Malformed);
        }
        dots.push(dot);
    }
    Ok(dots)
}

fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    out.put_u64_le(dot.actor.0);
    out.put_u64_le(dot.counter);
}

/// A count of items of at least `item` bytes each, checked against what is left.
fn get_len(input: &mut &[u8], item: usize) -> Result<usize, DecodeError> {
    let count = input.try_get_u32_le()? as usize;
    if count.saturating_mul(item) > input.remaining() {
        return Err(DecodeError::Truncated);
    }
    Ok(count)
}

impl Codec for Actor {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        u64::parse(input).map(Self)
    }
}

gramme_codec::structs! { Dot { actor: Actor, counter: u64 } }

/// Reads with a function that moves a slice, from bytes that are shared.
fn parse_with<T>(
    input: &mut Bytes,
    decode: impl FnOnce(&mut &[u8]) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut rest = &input[..];
    let value = decode(&mut rest)?;
    let read = input.len() - rest.len();
    input.advance(read);
    Ok(value)
}

impl Codec for Context {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        parse_with(input, Self::decode)
    }
}

impl Codec for SeenSet {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        parse_with(input, Self::decode)
    }
}
