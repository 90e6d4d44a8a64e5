//! How values become bytes: integers little-endian, byte strings and lists behind a `u32` length, options
//! behind a `u8` 0 or 1, structs field by field.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use gramme_object::Key;
use gramme_quorum::{Tenure, Threshold};
use gramme_ring::{NodeId, PartitionId};
use gramme_vclock::{Actor, Context, Dot};

/// Why bytes are not a message. The connection that brought them is not to be trusted further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end too early, or a length in them is larger than what follows.
    #[error("the message is cut off")]
    Truncated,
    /// A value is out of its range, or bytes are left over.
    #[error("the message is not well formed")]
    Malformed,
    /// The body has another version.
    #[error("the message has format version {0}, this software knows {version}", version = crate::VERSION)]
    Version(u8),
    /// There is no such message.
    #[error("there is no message number {0}")]
    Method(u16),
}

impl From<TryGetError> for WireError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// A value with bytes of its own.
pub trait Wire: Sized {
    /// The fewest bytes that a value takes; bounds how many of them a list may claim to hold.
    const MIN_SIZE: usize;

    /// Appends the value.
    fn encode_to(&self, out: &mut Vec<u8>);

    /// Takes a value from the front.
    ///
    /// # Errors
    /// [`WireError`] if the bytes are none.
    fn parse(input: &mut Bytes) -> Result<Self, WireError>;
}

macro_rules! integers {
    ($($type:ty, $put:ident, $take:ident;)*) => {$(
        impl Wire for $type {
            const MIN_SIZE: usize = size_of::<$type>();
            fn encode_to(&self, out: &mut Vec<u8>) {
                out.$put(*self);
            }
            fn parse(input: &mut Bytes) -> Result<Self, WireError> {
                Ok(input.$take()?)
            }
        }
    )*};
}

integers! {
    u8, put_u8, try_get_u8;
    u16, put_u16_le, try_get_u16_le;
    u32, put_u32_le, try_get_u32_le;
    u64, put_u64_le, try_get_u64_le;
}

impl Wire for bool {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(*self));
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        match input.try_get_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Malformed),
        }
    }
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    // A frame is limited far below 4 GiB.
    out.put_u32_le(length as u32);
}

impl Wire for Bytes {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let length = input.try_get_u32_le()? as usize;
        if length > input.len() {
            return Err(WireError::Truncated);
        }
        Ok(input.split_to(length))
    }
}

impl Wire for String {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let bytes = Bytes::parse(input)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| WireError::Malformed)
    }
}

impl<T: Wire> Wire for Vec<T> {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|item| item.encode_to(out));
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let count = input.try_get_u32_le()? as usize;
        if count.saturating_mul(T::MIN_SIZE.max(1)) > input.len() {
            return Err(WireError::Truncated);
        }
        (0..count).map(|_| T::parse(input)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.is_some().encode_to(out);
        if let Some(value) = self {
            value.encode_to(out);
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        if bool::parse(input)? { T::parse(input).map(Some) } else { Ok(None) }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const MIN_SIZE: usize = A::MIN_SIZE + B::MIN_SIZE;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
        self.1.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok((A::parse(input)?, B::parse(input)?))
    }
}

impl Wire for [u8; 32] {
    const MIN_SIZE: usize = 32;

    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let mut bytes = [0; 32];
        input.try_copy_to_slice(&mut bytes)?;
        Ok(bytes)
    }
}

impl Wire for NodeId {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        u64::parse(input).map(Self)
    }
}

impl Wire for Actor {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        u64::parse(input).map(Self)
    }
}

impl Wire for Dot {
    const MIN_SIZE: usize = 16;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.actor.encode_to(out);
        self.counter.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(Self { actor: Actor::parse(input)?, counter: u64::parse(input)? })
    }
}

impl Wire for PartitionId {
    const MIN_SIZE: usize = 5;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.prefix.encode_to(out);
        self.depth.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let (prefix, depth) = (u32::parse(input)?, u8::parse(input)?);
        let fits = depth <= gramme_ring::MAX_DEPTH && prefix >> depth == 0;
        if fits { Ok(Self { prefix, depth }) } else { Err(WireError::Malformed) }
    }
}

impl Wire for Context {
    const MIN_SIZE: usize = 8;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        let mut rest = &input[..];
        let context = Self::decode(&mut rest).map_err(|_| WireError::Malformed)?;
        let read = input.len() - rest.len();
        input.advance(read);
        Ok(context)
    }
}

impl Wire for Key {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.as_bytes().encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Self::from_bytes(Bytes::parse(input)?).map_err(|_| WireError::Malformed)
    }
}

impl Wire for Tenure {
    const MIN_SIZE: usize = 9;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.actor.encode_to(out);
        self.born.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(Self { actor: Option::parse(input)?, born: u64::parse(input)? })
    }
}

impl Wire for Threshold {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Default => out.put_u8(0),
            Self::One => out.put_u8(1),
            Self::Quorum => out.put_u8(2),
            Self::All => out.put_u8(3),
            Self::Count(count) => {
                out.put_u8(4);
                out.put_u8(*count);
            }
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, WireError> {
        Ok(match input.try_get_u8()? {
            0 => Self::Default,
            1 => Self::One,
            2 => Self::Quorum,
            3 => Self::All,
            4 => Self::Count(input.try_get_u8()?),
            _ => return Err(WireError::Malformed),
        })
    }
}

/// Defines structs whose fields are encoded in the order in which they stand.
macro_rules! wire_structs {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::codec::Wire for $name {
            const MIN_SIZE: usize = 0 $(+ <$type as $crate::codec::Wire>::MIN_SIZE)*;

            fn encode_to(&self, out: &mut Vec<u8>) {
                let _ = &out;
                $(self.$field.encode_to(out);)*
            }

            fn parse(input: &mut bytes::Bytes) -> Result<Self, $crate::codec::WireError> {
                let _ = &input;
                Ok(Self { $($field: <$type as $crate::codec::Wire>::parse(input)?,)* })
            }
        }
    )*};
}

/// Defines enums of fieldless variants, each with its byte.
macro_rules! wire_codes {
    ($($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $code:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $crate::codec::Wire for $name {
            const MIN_SIZE: usize = 1;

            fn encode_to(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $code,)* });
            }

            fn parse(input: &mut bytes::Bytes) -> Result<Self, $crate::codec::WireError> {
                match u8::parse(input)? {
                    $($code => Ok(Self::$variant),)*
                    _ => Err($crate::codec::WireError::Malformed),
                }
            }
        }
    )*};
}

/// Defines an enum of messages, each with its number.
macro_rules! wire_messages {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident($type:ty) = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant($type),)*
        }

        impl $name {
            /// The message's number in a frame.
            #[must_use]
            pub const fn method(&self) -> u16 {
                match self { $(Self::$variant(_) => $code,)* }
            }

            /// The message's name, for logs and metrics.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)* }
            }

            /// Appends the body.
            pub fn encode(&self, out: &mut Vec<u8>) {
                out.push($crate::VERSION);
                match self { $(Self::$variant(message) => message.encode_to(out),)* }
            }

            /// Reads a whole body.
            ///
            /// # Errors
            /// [`WireError`](crate::WireError) if the number is unknown, or the bytes are not exactly one message.
            pub fn decode(method: u16, mut body: bytes::Bytes) -> Result<Self, $crate::codec::WireError> {
                let version = u8::parse(&mut body)?;
                if version != $crate::VERSION {
                    return Err($crate::codec::WireError::Version(version));
                }
                let message = match method {
                    $($code => Self::$variant(<$type as $crate::codec::Wire>::parse(&mut body)?),)*
                    _ => return Err($crate::codec::WireError::Method(method)),
                };
                if body.is_empty() { Ok(message) } else { Err($crate::codec::WireError::Malformed) }
            }
        }
    };
}

pub(crate) use {wire_codes, wire_messages, wire_structs};
