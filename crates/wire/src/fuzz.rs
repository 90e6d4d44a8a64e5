//! What the fuzzer of `fuzz/targets/wire.rs` calls. Not part of the crate as it is used.
use bytes::Bytes;

use crate::{ClientMessage, PeerMessage};

/// The number of a message, its version, and its body: a message, which is read from its own bytes again, or an error.
pub fn messages(input: &[u8]) {
    let Some((number, body)) = input.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    if let Ok(message) = PeerMessage::decode(u16::from(*number), body.clone()) {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(PeerMessage::decode(u16::from(*number), out.into()), Ok(message));
    }
    if let Ok(message) = ClientMessage::decode(u16::from(*number), body.clone()) {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(ClientMessage::decode(u16::from(*number), out.into()), Ok(message));
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpus_breaks_nothing() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/wire");
        for entry in std::fs::read_dir(corpus).expect("a corpus") {
            super::messages(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
        }
    }
}
