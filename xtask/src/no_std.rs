//! The proof that a crate needs no `std`: a library without `std`, with a panic handler of its own, that
//! depends on it. Anything that pulls `std` in brings a second panic handler, and the compiler refuses.

use std::fs;

use anyhow::Context;

use crate::run::{cargo, root};

const CRATES: [&str; 5] = ["codec", "plant", "vclock", "ring", "merkle"];

const LIBRARY: &str = "\
#![no_std]
use core::alloc::{GlobalAlloc, Layout};
struct Nothing;
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 { core::ptr::null_mut() }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
#[global_allocator]
static ALLOCATOR: Nothing = Nothing;
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
";

pub(crate) fn run() -> anyhow::Result<()> {
    let directory = root().join("target/no-std-proof");
    fs::create_dir_all(directory.join("src"))?;
    let mut manifest = "[package]\nname = \"no-std-proof\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                        [lib]\ncrate-type = [\"staticlib\"]\n\n[profile.dev]\npanic = \"abort\"\n\n\
                        [workspace]\n\n[dependencies]\n"
        .to_owned();
    let mut library = LIBRARY.to_owned();
    for name in CRATES {
        manifest += &format!("gramme-{name} = {{ path = \"../../crates/{name}\" }}\n");
        library += &format!("pub use gramme_{name};\n");
    }
    fs::write(directory.join("Cargo.toml"), manifest)?;
    fs::write(directory.join("src/lib.rs"), library)?;
    // The same versions as the workspace's.
    fs::copy(root().join("Cargo.lock"), directory.join("Cargo.lock"))?;
    let manifest = directory.join("Cargo.toml").display().to_string();
    let target = directory.join("target").display().to_string();
    cargo(&["build", "--quiet", "--manifest-path", &manifest, "--target-dir", &target])
        .context("a crate that is to be no_std pulls std in")
}
