//! The `gramme` binary. All of it is in the library beside, where its tests and fuzzers reach it.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    gramme_node::main()
}
