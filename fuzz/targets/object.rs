#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_object::fuzz::objects`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_object::fuzz::objects(input));
