//! Tables from which the bytes of structs and enums are made.

/// Implements [`Codec`](crate::Codec) for structs: their fields in the order in which the table names them.
///
/// ```
/// #[derive(Debug, PartialEq)]
/// struct Point { x: u8, y: u16 }
/// gramme_codec::structs! { Point { x: u8, y: u16 } }
/// use gramme_codec::Codec;
/// assert_eq!(Point { x: 1, y: 2 }.to_bytes(), [1, 2, 0].as_slice());
/// ```
#[macro_export]
macro_rules! structs {
    ($($name:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        impl $crate::Codec for $name {
            const MIN_SIZE: usize = 0 $(+ <$type as $crate::Codec>::MIN_SIZE)*;

            fn encode_to(&self, out: &mut $crate::private::Vec<u8>) {
                let _ = &out;
                $($crate::Codec::encode_to(&self.$field, out);)*
            }

            fn parse(input: &mut $crate::private::Bytes) -> Result<Self, $crate::DecodeError> {
                let _ = &input;
                Ok(Self { $($field: <$type as $crate::Codec>::parse(input)?,)* })
            }
        }
    )*};
}

/// Implements [`Codec`](crate::Codec) for enums: a byte that names the variant, then what it holds.
///
/// With `| Variant` a byte that is not in the table is read as that variant, so that an older version can
/// go on; without, it is an error.
///
/// ```
/// #[derive(Debug, PartialEq)]
/// enum Answer { Yes, No(u8), Other }
/// gramme_codec::enums! { Answer { Yes = 1, No(reason) = 2, Other = 255 } | Other }
/// use gramme_codec::Codec;
/// assert_eq!(Answer::No(7).to_bytes(), [2, 7].as_slice());
/// assert_eq!(Answer::parse_all(vec![9].into()), Ok(Answer::Other));
/// ```
#[macro_export]
macro_rules! enums {
    ($($name:ident {
        $($variant:ident $(($($part:ident),*))? $({$($field:ident),*})? = $code:literal),* $(,)?
    } $(| $other:ident)?)*) => {$(
        impl $crate::Codec for $name {
            const MIN_SIZE: usize = 1;

            fn encode_to(&self, out: &mut $crate::private::Vec<u8>) {
                match self {
                    $(Self::$variant $(($($part),*))? $({$($field),*})? => {
                        out.push($code);
                        $($($crate::Codec::encode_to($part, out);)*)?
                        $($($crate::Codec::encode_to($field, out);)*)?
                    })*
                }
            }

            fn parse(input: &mut $crate::private::Bytes) -> Result<Self, $crate::DecodeError> {
                match <u8 as $crate::Codec>::parse(input)? {
                    $($code => {
                        $($(let $part = $crate::Codec::parse(input)?;)*)?
                        $($(let $field = $crate::Codec::parse(input)?;)*)?
                        Ok(Self::$variant $(($($part),*))? $({$($field),*})?)
                    })*
                    $(_ => Ok(Self::$other),)?
                    #[allow(unreachable_patterns, reason = "reached where the table has no other")]
                    _ => Err($crate::DecodeError::Malformed),
                }
            }
        }
    )*};
}
