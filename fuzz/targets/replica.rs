#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_replica::fuzz::records`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_replica::fuzz::records(input));
