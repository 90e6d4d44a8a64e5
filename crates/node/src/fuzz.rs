//! What the fuzzers of `fuzz/targets/http.rs` and `config.rs` call. Not part of the program as it is used.

/// A request's target and headers, as HTTP has them in its text.
pub fn http(input: &[u8]) {
    crate::interfaces::http::fuzz(input);
}

/// A file of settings.
pub fn config(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        crate::config::fuzz(text);
    }
    crate::ring_file::fuzz(input);
}

#[cfg(test)]
mod tests {
    /// What the fuzzers have found interesting runs as an ordinary test.
    #[test]
    fn the_corpora_break_nothing() {
        for (corpus, run) in [("http", super::http as fn(&[u8])), ("config", super::config)] {
            let corpus = format!("{}/tests/corpus/{corpus}", env!("CARGO_MANIFEST_DIR"));
            for entry in std::fs::read_dir(corpus).expect("a corpus") {
                run(&std::fs::read(entry.expect("an entry").path()).expect("an input"));
            }
        }
    }
}
