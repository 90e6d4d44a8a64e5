//! The bytes of contexts and seen-sets, to the letter: other records embed them.

use gramme_codec::DecodeError;
use gramme_vclock::{Actor, Context, Dot, SeenSet};

const CONTEXT: &str = "01000000 0a00000000000000 1100000000000000 \
                       02000000 0a00000000000000 1300000000000000 0b00000000000000 0100000000000000";
const SEEN: &str = "02000000 \
    0a00000000000000 00 0300000000000000 01000000 0600000000000000 0800000000000000 \
    0b00000000000000 01 0000000000000000 00000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

#[test]
fn context() {
    let mut context: Context = [Dot::new(Actor(10), 19), Dot::new(Actor(11), 1)].into_iter().collect();
    context.raise(Actor(10), 17);
    let mut encoded = Vec::new();
    context.encode(&mut encoded);
    assert_eq!(encoded, bytes(CONTEXT));
    assert_eq!(Context::decode(&mut bytes(CONTEXT).as_slice()), Ok(context));
}

#[test]
fn seen_set() {
    let mut seen = SeenSet::new();
    seen.insert_range(Actor(10), 1, 3);
    seen.insert_range(Actor(10), 6, 8);
    seen.finish(Actor(11));
    let mut encoded = Vec::new();
    seen.encode(&mut encoded);
    assert_eq!(encoded, bytes(SEEN));
    assert_eq!(SeenSet::decode(&mut bytes(SEEN).as_slice()), Ok(seen));
}

#[test]
fn a_length_beyond_the_input_allocates_nothing() {
    let huge = [0xff; 4];
    assert_eq!(Context::decode(&mut huge.as_slice()), Err(DecodeError::Truncated));
    assert_eq!(SeenSet::decode(&mut huge.as_slice()), Err(DecodeError::Truncated));
}

#[test]
fn an_outside_dot_under_the_vector_is_refused() {
    let mut under = bytes(CONTEXT);
    under[32] = 0x10;
    assert_eq!(Context::decode(&mut under.as_slice()), Err(DecodeError::Malformed));
}
