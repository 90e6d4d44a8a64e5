#![no_main]
#![forbid(unsafe_code)]
//! See `gramme_node::fuzz::config`.

libfuzzer_sys::fuzz_target!(|input: &[u8]| gramme_node::fuzz::config(input));
