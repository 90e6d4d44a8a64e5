#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_wire::fuzz::messages`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_wire::fuzz::messages(input));
