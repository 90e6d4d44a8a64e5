#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod macros;
mod primitives;

use alloc::vec::Vec;

use bytes::Bytes;

/// Why bytes are not a value. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early, or a length in them is larger than what follows.
    #[error("the bytes end before the value does")]
    Truncated,
    /// A value is out of its range or not in its canonical form, or bytes are left over.
    #[error("the bytes are not well formed")]
    Malformed,
    /// Written in a format that this software does not know: by a newer version, most likely.
    #[error("format version {0} is not one that this software knows")]
    Version(u8),
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Truncated
    }
}

/// A value with bytes of its own.
pub trait Codec: Sized {
    /// The fewest bytes that a value takes; bounds how many of them a list may claim to hold.
    const MIN_SIZE: usize;

    /// Appends the value.
    fn encode_to(&self, out: &mut Vec<u8>);

    /// Takes a value from the front.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a valid encoding.
    fn parse(input: &mut Bytes) -> Result<Self, DecodeError>;

    /// Reads a value that is all there is.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a valid encoding, or go on after it.
    fn parse_all(mut input: Bytes) -> Result<Self, DecodeError> {
        let value = Self::parse(&mut input)?;
        if input.is_empty() { Ok(value) } else { Err(DecodeError::Malformed) }
    }

    /// The value alone.
    fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out.into()
    }
}

/// Appends the length that precedes a byte string or a list.
pub fn put_length(length: usize, out: &mut Vec<u8>) {
    // Nothing of 4 GiB is ever built: frames, keys and values are limited far below.
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

#[doc(hidden)]
pub mod private {
    pub use alloc::vec::Vec;

    pub use bytes::Bytes;
}
