//! Integers, byte strings, lists, options and tuples.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Buf, BufMut, Bytes};

use crate::{Codec, DecodeError, put_length};

macro_rules! integers {
    ($($type:ty, $put:ident, $take:ident;)*) => {$(
        impl Codec for $type {
            const MIN_SIZE: usize = size_of::<$type>();
            fn encode_to(&self, out: &mut Vec<u8>) {
                out.$put(*self);
            }
            fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
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
    u128, put_u128_le, try_get_u128_le;
}

impl Codec for bool {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(*self));
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        match input.try_get_u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl Codec for Bytes {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let length = input.try_get_u32_le()? as usize;
        if length > input.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(input.split_to(length))
    }
}

impl Codec for String {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let bytes = Bytes::parse(input)?;
        core::str::from_utf8(&bytes).map(ToOwned::to_owned).map_err(|_| DecodeError::Malformed)
    }
}

impl<T: Codec> Codec for Vec<T> {
    const MIN_SIZE: usize = 4;

    fn encode_to(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        self.iter().for_each(|item| item.encode_to(out));
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let count = input.try_get_u32_le()? as usize;
        if count.saturating_mul(T::MIN_SIZE.max(1)) > input.len() {
            return Err(DecodeError::Truncated);
        }
        (0..count).map(|_| T::parse(input)).collect()
    }
}

impl<T: Codec> Codec for Option<T> {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.is_some().encode_to(out);
        if let Some(value) = self {
            value.encode_to(out);
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        if bool::parse(input)? { T::parse(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Codec, E: Codec> Codec for Result<T, E> {
    const MIN_SIZE: usize = 1;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.is_ok().encode_to(out);
        match self {
            Ok(value) => value.encode_to(out),
            Err(error) => error.encode_to(out),
        }
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok(if bool::parse(input)? { Ok(T::parse(input)?) } else { Err(E::parse(input)?) })
    }
}

impl<T: Codec> Codec for Box<T> {
    const MIN_SIZE: usize = T::MIN_SIZE;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.as_ref().encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        T::parse(input).map(Self::new)
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    const MIN_SIZE: usize = A::MIN_SIZE + B::MIN_SIZE;

    fn encode_to(&self, out: &mut Vec<u8>) {
        self.0.encode_to(out);
        self.1.encode_to(out);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        Ok((A::parse(input)?, B::parse(input)?))
    }
}

impl<const N: usize> Codec for [u8; N] {
    const MIN_SIZE: usize = N;

    fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn parse(input: &mut Bytes) -> Result<Self, DecodeError> {
        let mut bytes = [0; N];
        input.try_copy_to_slice(&mut bytes)?;
        Ok(bytes)
    }
}
