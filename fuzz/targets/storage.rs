#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_storage::fuzz::files`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_storage::fuzz::files(input));
