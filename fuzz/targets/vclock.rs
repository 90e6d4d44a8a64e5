#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_vclock::fuzz::clocks`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_vclock::fuzz::clocks(input));
