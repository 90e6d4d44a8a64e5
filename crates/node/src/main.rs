//! The `gramme` binary. All of it is in the library beside, where its tests and fuzzers reach it.
#![forbid(unsafe_code)]

/// Objects come and go between threads, for months; the system's allocator is slow at that and keeps holes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gramme_node::main()
}
