//! What the fuzzer of `fuzz/targets/object.rs` calls. Not part of the crate as it is used.
use bytes::Bytes;

use crate::{Content, Key, Object};

/// A stored object, which is written as it was read, or an error; with the right checksum too, or nothing
/// behind it would ever be reached.
pub fn objects(input: &[u8]) {
    read(Bytes::copy_from_slice(input));
    read([input, &crc32fast::hash(input).to_le_bytes()].concat().into());
    let _ = Content::from_bytes(Bytes::copy_from_slice(input));
    let _ = Key::from_bytes(Bytes::copy_from_slice(input));
}

fn read(bytes: Bytes) {
    if let Ok(object) = Object::decode(&bytes) {
        assert_eq!(object.encode(), bytes);
        let mut merged = object.clone();
        merged.merge(&object);
        assert_eq!(merged, object);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/object");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::objects(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
