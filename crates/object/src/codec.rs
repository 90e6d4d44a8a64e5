//! The stored form of an object, on disk and on the wire.
//!
//! ```text
//! u8 version = 1 | u8 flags = 0
//! context (see gramme-vclock)
//! u32 siblings | (u64 actor, u64 counter, u8 flags: 1 = tombstone, 2 = expires, u64 stamp, u64 write-id,
//!                 with flag 2: u64 milliseconds since 1970 of the expiry, u32 length, content)*
//! u32 CRC-32 of all that precedes
//! ```
//!
//! Little-endian. A decoder accepts exactly what the encoder writes.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use gramme_vclock::{Actor, Context, Dot, VersionSet};

use crate::{Content, ContentError, Object, Sibling, Stamp};

/// The version that this crate writes, and the only one so far.
pub const FORMAT_VERSION: u8 = 1;

const TOMBSTONE: u8 = 1;
const EXPIRES: u8 = 2;
const SIBLING_HEADER: usize = 8 + 8 + 1 + 8 + 8 + 4;

/// Why bytes are not an object. Whoever reads this from a disk must take it for damage, never for "no object".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The checksum does not fit the bytes.
    #[error("the object's checksum does not fit its bytes")]
    Checksum,
    /// Written by a newer version of this software.
    #[error("the object has format version {0}, this software knows {FORMAT_VERSION}")]
    Version(u8),
    /// The bytes are cut off or not in their canonical order.
    #[error("the object's bytes are not well formed")]
    Malformed,
}

impl From<TryGetError> for DecodeError {
    fn from(_: TryGetError) -> Self {
        Self::Malformed
    }
}

impl From<gramme_codec::DecodeError> for DecodeError {
    fn from(_: gramme_codec::DecodeError) -> Self {
        Self::Malformed
    }
}

impl From<ContentError> for DecodeError {
    fn from(_: ContentError) -> Self {
        Self::Malformed
    }
}

pub(crate) fn encode(object: &Object) -> Vec<u8> {
    let values: usize = object.siblings().iter().map(|(_, sibling)| encoded_content(sibling).len()).sum();
    let siblings = object.siblings().len();
    let expiring = object.siblings().iter().filter(|(_, sibling)| sibling.expires.is_some()).count();
    let mut out = Vec::with_capacity(
        18 + 16 * object.context().len() + siblings * SIBLING_HEADER + expiring * 8 + values,
    );
    out.put_u8(FORMAT_VERSION);
    out.put_u8(0);
    object.context().encode(&mut out);
    // Siblings are limited to far fewer, and a content to MAX_VALUE.
    out.put_u32_le(siblings as u32);
    for (dot, sibling) in object.siblings() {
        let content = encoded_content(sibling);
        out.put_u64_le(dot.actor.0);
        out.put_u64_le(dot.counter);
        let tombstone = if sibling.is_tombstone() { TOMBSTONE } else { 0 };
        out.put_u8(tombstone | if sibling.expires.is_some() { EXPIRES } else { 0 });
        out.put_u64_le(sibling.stamp.0);
        out.put_u64_le(sibling.write_id);
        if let Some(expires) = sibling.expires {
            out.put_u64_le(expires);
        }
        out.put_u32_le(content.len() as u32);
        out.extend_from_slice(content);
    }
    let checksum = crc32fast::hash(&out);
    out.put_u32_le(checksum);
    out
}

fn encoded_content(sibling: &Sibling) -> &[u8] {
    sibling.content.as_ref().map_or(&[], |content| content.as_bytes())
}

pub(crate) fn decode(bytes: &Bytes) -> Result<Object, DecodeError> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(DecodeError::Malformed)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(DecodeError::Checksum);
    }
    let mut rest = body;
    let version = rest.try_get_u8()?;
    if version != FORMAT_VERSION {
        return Err(DecodeError::Version(version));
    }
    if rest.try_get_u8()? != 0 {
        return Err(DecodeError::Malformed);
    }
    let context = Context::decode(&mut rest)?;
    let count = rest.try_get_u32_le()? as usize;
    if count.saturating_mul(SIBLING_HEADER) > rest.len() {
        return Err(DecodeError::Malformed);
    }
    let mut live: Vec<(Dot, Sibling)> = Vec::with_capacity(count);
    for _ in 0..count {
        let (dot, sibling) = decode_sibling(bytes, &mut rest)?;
        let sorted = live.last().is_none_or(|(previous, _)| *previous < dot);
        if !sorted || !context.covers(dot) {
            return Err(DecodeError::Malformed);
        }
        live.push((dot, sibling));
    }
    if !rest.is_empty() {
        return Err(DecodeError::Malformed);
    }
    Ok(Object::from_versions(VersionSet::from_parts(context, live)))
}

fn decode_sibling(bytes: &Bytes, rest: &mut &[u8]) -> Result<(Dot, Sibling), DecodeError> {
    let dot = Dot::new(Actor(rest.try_get_u64_le()?), rest.try_get_u64_le()?);
    let flags = rest.try_get_u8()?;
    let stamp = Stamp(rest.try_get_u64_le()?);
    let write_id = rest.try_get_u64_le()?;
    let expires = (flags & EXPIRES != 0).then(|| rest.try_get_u64_le()).transpose()?;
    let length = rest.try_get_u32_le()? as usize;
    let (content, after) = rest.split_at_checked(length).ok_or(DecodeError::Malformed)?;
    *rest = after;
    let content = match flags & !EXPIRES {
        0 => Some(Content::from_bytes(bytes.slice_ref(content))?),
        TOMBSTONE if content.is_empty() => None,
        _ => return Err(DecodeError::Malformed),
    };
    Ok((dot, Sibling { stamp, write_id, expires, content }))
}
