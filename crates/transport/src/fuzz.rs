//! What the fuzzer of `fuzz/targets/transport.rs` calls. Not part of the crate as it is used.
use crate::frame::Decoder;

/// A stream of frames, in pieces of any size: frames that are written as they were read, or an error.
pub fn frames(input: &[u8]) {
    let mut decoder = Decoder::new(1 << 16);
    let (mut frames, mut out) = (Vec::new(), Vec::new());
    let piece = usize::from(input.first().copied().unwrap_or(0)) + 1;
    let is_whole = input.chunks(piece).all(|piece| decoder.feed(piece, &mut frames).is_ok());
    frames.iter().for_each(|frame| frame.encode(&mut out));
    assert!(!is_whole || input.starts_with(&out));
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/transport");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::frames(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
