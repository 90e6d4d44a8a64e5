//! The full name of an object.

use std::fmt;

use bytes::Bytes;
use gramme_codec::{Codec, DecodeError};

use crate::limits;

/// Bucket type, bucket and key. Bucket and key are any bytes; a type's name is text.
///
/// ```
/// use gramme_object::Key;
/// let key = Key::new("default", "carts", "alice")?;
/// assert_eq!(key.to_string(), "carts/alice");
/// assert!(Key::new("default", "", "alice").is_err());
/// # Ok::<(), gramme_object::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `type length u8 | type | bucket length u16 | bucket | key`: unambiguous, so it can be hashed.
    encoded: Bytes,
}

/// Why parts do not name an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A bucket of no bytes or more than [`limits::NAME`].
    #[error("a bucket's name has 1 to 1,024 bytes, this one {0}")]
    Bucket(usize),
    /// A key of no bytes or more than [`limits::NAME`].
    #[error("a key has 1 to 1,024 bytes, this one {0}")]
    Key(usize),
    /// A type's name of no bytes or more than [`limits::TYPE`].
    #[error("a bucket type's name has 1 to 255 bytes, this one {0}")]
    Type(usize),
    /// The bytes are not an encoded key.
    #[error("the bytes are not an encoded key")]
    Malformed,
}

impl Key {
    /// Checks the parts' lengths and puts them together.
    ///
    /// # Errors
    /// [`KeyError`] names the part whose length is out of range.
    pub fn new(bucket_type: &str, bucket: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let (bucket, key) = (bucket.as_ref(), key.as_ref());
        check(bucket_type.as_bytes(), bucket, key)?;
        let mut encoded = Vec::with_capacity(3 + bucket_type.len() + bucket.len() + key.len());
        // Both lengths were checked to fit.
        encoded.push(bucket_type.len() as u8);
        encoded.extend_from_slice(bucket_type.as_bytes());
        encoded.extend_from_slice(&(bucket.len() as u16).to_le_bytes());
        encoded.extend_from_slice(bucket);
        encoded.extend_from_slice(key);
        Ok(Self { encoded: encoded.into() })
    }

    /// Takes the bytes that [`Key::as_bytes`] gave.
    ///
    /// # Errors
    /// [`KeyError`] if they are not an encoded key, or one with parts out of range.
    pub fn from_bytes(encoded: Bytes) -> Result<Self, KeyError> {
        let (bucket_type, bucket, key) = split(&encoded).ok_or(KeyError::Malformed)?;
        std::str::from_utf8(bucket_type).map_err(|_| KeyError::Malformed)?;
        check(bucket_type, bucket, key)?;
        Ok(Self { encoded })
    }

    /// The encoded form: what is hashed and stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.encoded
    }

    /// The bucket type's name.
    #[must_use]
    pub fn bucket_type(&self) -> &str {
        std::str::from_utf8(self.parts().0).unwrap_or_default()
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &[u8] {
        self.parts().1
    }

    /// The key within its bucket.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.parts().2
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        // Both constructors have checked that the bytes split.
        split(&self.encoded).unwrap_or_default()
    }
}

fn check(bucket_type: &[u8], bucket: &[u8], key: &[u8]) -> Result<(), KeyError> {
    if !(1..=limits::TYPE).contains(&bucket_type.len()) {
        return Err(KeyError::Type(bucket_type.len()));
    }
    if !(1..=limits::NAME).contains(&bucket.len()) {
        return Err(KeyError::Bucket(bucket.len()));
    }
    if !(1..=limits::NAME).contains(&key.len()) {
        return Err(KeyError::Key(key.len()));
    }
    Ok(())
}

fn split(encoded: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&type_len, rest) = encoded.split_first()?;
    let (bucket_type, rest) = rest.split_at_checked(usize::from(type_len))?;
    let (bucket_len, rest) = rest.split_first_chunk::<2>()?;
    let (bucket, key) = rest.split_at_checked(usize::from(u16::from_le_bytes(*bucket_len)))?;
    Some((bucket_type, bucket, key))
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket().escape_ascii(), self.key().escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{self}", self.bucket_type())
    }
}

impl Codec for Key {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encoded.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        Self::from_bytes(Bytes::parse(input)?).map_err(|_| DecodeError::Malformed)
    }
}
