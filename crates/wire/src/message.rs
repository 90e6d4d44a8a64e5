//! How a message is found by its number, and what happens to what this version does not know.
//!
//! A body begins with the version of its sender. A later version adds messages, and fields behind the last
//! one; it changes nothing that is there. So a body of a later version is read as far as this one knows it,
//! a body of this version must be exactly what its encoder writes, and an unknown number is answered with
//! `Unsupported`: two versions serve one cluster without asking each other first.

use gramme_codec::DecodeError;

/// The version that this software writes.
pub const VERSION: u8 = 2;
/// The oldest version whose messages it still understands.
pub const OLDEST: u8 = 2;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The body is not well formed: the connection that brought it is not to be trusted further.
    #[error(transparent)]
    Body(#[from] DecodeError),
    /// There is no such message in this version.
    #[error("there is no message number {0} in this version")]
    Method(u16),
}

/// Defines messages: structs whose fields are encoded in the order in which they stand.
macro_rules! messages {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        gramme_codec::structs! { $name { $($field: $type),* } }
    )*};
}

/// Defines an enum of messages, each with its number.
macro_rules! numbered {
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
                match self { $(Self::$variant(message) => gramme_codec::Codec::encode_to(message, out),)* }
            }

            /// Reads a whole body.
            ///
            /// # Errors
            /// [`WireError`](crate::WireError) if the number is unknown, or the bytes are not a message.
            pub fn decode(method: u16, mut body: bytes::Bytes) -> Result<Self, $crate::WireError> {
                let version = <u8 as gramme_codec::Codec>::parse(&mut body)?;
                if version < $crate::OLDEST {
                    return Err(gramme_codec::DecodeError::Version(version).into());
                }
                let message = match method {
                    $($code => Self::$variant(<$type as gramme_codec::Codec>::parse(&mut body)?),)*
                    _ => return Err($crate::WireError::Method(method)),
                };
                let is_exact = body.is_empty() || version > $crate::VERSION;
                if is_exact { Ok(message) } else { Err(gramme_codec::DecodeError::Malformed.into()) }
            }
        }
    };
}

pub(crate) use {messages, numbered};
