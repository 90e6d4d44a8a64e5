//! What the fuzzer of `fuzz/targets/storage.rs` calls. Not part of the crate as it is used.
use bytes::Bytes;

use crate::batch::Batch;
use crate::{directory, log, manifest, rows};

/// Batches, log frames, manifests, identities and sealed rows.
pub fn files(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(batch) = Batch::decode(&bytes) {
        let mut out = Vec::new();
        batch.encode(&mut out);
        assert_eq!(out, input);
    }
    log::fuzz(&bytes);
    manifest::fuzz(&bytes);
    directory::fuzz(&bytes);
    let _ = rows::unseal(b"name", &bytes);
    let _ = rows::decode_partition(bytes);
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/storage");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::files(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
