//! What the fuzzer of `fuzz/targets/replica.rs` calls. Not part of the crate as it is used.
use bytes::Bytes;
use gramme_merkle::Leaf;
use gramme_object::Key;
use gramme_vclock::{Actor, Context};

use crate::partition::Partition;
use crate::{PropertyTable, Secrets};

/// Records of partitions and properties, and contexts as clients send them.
pub fn records(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let _ = Partition::begin(Leaf::default(), &bytes, &[], (Actor(1), 1), 1);
    let _ = Partition::begin(Leaf::default(), &Bytes::new(), std::slice::from_ref(&bytes), (Actor(1), 1), 1);
    let _ = PropertyTable::decode(bytes);
    let secrets = Secrets { current: (1, [1; 32]), previous: Some((2, [2; 32])) };
    let Ok(key) = Key::new("default", "b", "k") else { return };
    // Nobody forges a seal by chance.
    assert!(secrets.open(&key, input).is_err() || input.is_empty());
    let mut rest = input;
    if let Ok(context) = Context::decode(&mut rest) {
        assert_eq!(secrets.open(&key, &secrets.seal(&key, &context)), Ok(context));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/replica");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::records(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
