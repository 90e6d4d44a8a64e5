//! What the fuzzer of `fuzz/targets/vclock.rs` calls. Not part of the crate as it is used.
use alloc::vec::Vec;

use crate::{Context, SeenSet};

/// A context or a seen-set, which is written as it was read, or an error.
pub fn clocks(input: &[u8]) {
    let mut rest = input;
    if let Ok(context) = Context::decode(&mut rest) {
        let mut out = Vec::new();
        context.encode(&mut out);
        assert_eq!(out, input[..input.len() - rest.len()]);
    }
    let mut rest = input;
    if let Ok(seen) = SeenSet::decode(&mut rest) {
        let mut out = Vec::new();
        seen.encode(&mut out);
        assert_eq!(out, input[..input.len() - rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/vclock");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::clocks(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
