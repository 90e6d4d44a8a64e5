//! One version of a key.

use bytes::{Buf, BufMut, Bytes};
use gramme_codec::{Codec, DecodeError};

use crate::{Stamp, limits};

/// One version: a value with its headers, or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// When it was written, as its coordinator saw it.
    pub stamp: Stamp,
    /// The writer's random id for this write. It tells two writes of equal bytes apart, for `explain` and for
    /// tests that must not trust the clocks they test.
    pub write_id: u64,
    /// From when on it counts as deleted, in milliseconds since 1970; for ever if that is not set. It stays when the
    /// content goes.
    pub expires: Option<u64>,
    /// What was written; `None` is a tombstone.
    pub content: Option<Content>,
}

impl Sibling {
    /// Whether it says that the key was deleted.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        self.content.is_none()
    }

    /// Whether it has a value that counts as deleted at this time, in milliseconds since 1970.
    #[must_use]
    pub fn has_expired(&self, millis: u64) -> bool {
        self.content.is_some() && self.expires.is_some_and(|expires| expires <= millis)
    }

    /// Whether it had a value that expired and was purged.
    #[must_use]
    pub const fn is_purged(&self) -> bool {
        self.content.is_none() && self.expires.is_some()
    }
}

/// A value and the headers that are kept with it.
///
/// Encoded as `headers u16 | (name length u16, name, value length u16, value)* | body`. Cheap to clone: all
/// parts share one buffer once it has been encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    encoded: Bytes,
    body_at: usize,
}

/// Why bytes or headers are not a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Over [`limits::HEADERS`].
    #[error("the headers have {0} bytes together, the limit is 16,384")]
    HeadersTooLarge(usize),
    /// The bytes are not an encoded content.
    #[error("the bytes are not a value with headers")]
    Malformed,
}

impl Content {
    /// Puts headers (name and value, in order) and a body together.
    ///
    /// # Errors
    /// [`ContentError::HeadersTooLarge`] if the headers are over [`limits::HEADERS`].
    pub fn new(headers: &[(&[u8], &[u8])], body: &[u8]) -> Result<Self, ContentError> {
        let size: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
        if size > limits::HEADERS {
            return Err(ContentError::HeadersTooLarge(size));
        }
        let mut encoded = Vec::with_capacity(2 + size + body.len());
        // The limit keeps every count and length below 65,536.
        encoded.put_u16_le(headers.len() as u16);
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            encoded.put_u16_le(part.len() as u16);
            encoded.extend_from_slice(part);
        }
        encoded.extend_from_slice(body);
        Ok(Self { body_at: 2 + size, encoded: encoded.into() })
    }

    /// A body without headers.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Self {
        let mut encoded = Vec::with_capacity(2 + body.len());
        encoded.put_u16_le(0);
        encoded.extend_from_slice(body);
        Self { body_at: 2, encoded: encoded.into() }
    }

    /// Takes the bytes that [`Content::as_bytes`] gave.
    ///
    /// # Errors
    /// [`ContentError`] if they are not an encoded content.
    pub fn from_bytes(encoded: Bytes) -> Result<Self, ContentError> {
        let mut rest = &encoded[..];
        let headers = rest.try_get_u16_le().map_err(|_| ContentError::Malformed)?;
        for _ in 0..usize::from(headers) * 2 {
            take_part(&mut rest).ok_or(ContentError::Malformed)?;
        }
        let body_at = encoded.len() - rest.len();
        if body_at > 2 + limits::HEADERS {
            return Err(ContentError::HeadersTooLarge(body_at - 2));
        }
        Ok(Self { body_at, encoded })
    }

    /// The encoded form.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.encoded
    }

    /// The value itself.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.encoded.slice(self.body_at..)
    }

    /// The headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // `from_bytes` and `new` have checked that the parts are whole.
        let mut rest = &self.encoded[2..self.body_at];
        std::iter::from_fn(move || Some((take_part(&mut rest)?, take_part(&mut rest)?)))
    }

    /// The value of the first header of this name (compared without regard to ASCII case).
    #[must_use]
    pub fn header(&self, name: &[u8]) -> Option<&[u8]> {
        self.headers().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes)", self.encoded.len() - self.body_at)
    }
}

impl Codec for Content {
    const MIN_SIZE: usize = 6;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encoded.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        Self::from_bytes(Bytes::parse(input)?).map_err(|_| DecodeError::Malformed)
    }
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = rest.try_get_u16_le().ok()?;
    let (part, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(part)
}
