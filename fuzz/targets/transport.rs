#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_transport::fuzz::frames`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_transport::fuzz::frames(input));
