//! Format, clippy, layers, and what else the architecture forbids.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::run::{cargo, cargo_with, output, root};
use crate::sim::PLANTED;
use crate::{layers, no_std, prose};

/// A file longer than this has more than one concern.
const MAX_LINES: usize = 650;
/// What must not stand in code. Put together here, so that this file does not hold it.
const FORBIDDEN: [(&str, &str); 4] =
    [("TO", "DO"), ("FIX", "ME"), ("#[ig", "nore"), ("#[allow(unsafe", "_code")];

pub(crate) fn run() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // Planted bugs are code like any other, and rot like any other.
    let planted = root().join(PLANTED);
    let planted = [("RUSTFLAGS", "--cfg gramme_planted"), ("CARGO_TARGET_DIR", &*planted.to_string_lossy())];
    cargo_with(
        &["clippy", "--package", "gramme-sim", "--all-targets", "--locked", "--", "-D", "warnings"],
        &planted,
    )?;
    // Workspaces of their own, which nothing else here builds.
    for manifest in ["fuzz/Cargo.toml", "crates/gossip/compare/Cargo.toml"] {
        let metadata = ["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest];
        output("cargo", &metadata)?;
    }
    layers::run()?;
    println!("layers hold");
    check_sources()?;
    println!("sources hold");
    prose::run()?;
    println!("documentation holds");
    no_std::run()?;
    println!("codec, plant, vclock, ring and merkle need no std");
    Ok(())
}

fn check_sources() -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for path in rust_files()? {
        let text = fs::read_to_string(root().join(&path))?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
        for (first, second) in FORBIDDEN {
            let forbidden = format!("{first}{second}");
            if let Some(line) = text.lines().position(|line| line.contains(&forbidden)) {
                wrong.push(format!("{}:{}: {forbidden}", path.display(), line + 1));
            }
        }
        if is_root(&path) && !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{}: does not forbid unsafe code", path.display()));
        }
        if is_root(&path) && !text.starts_with("//!") && !text.starts_with("#![doc") {
            wrong.push(format!("{}: does not say what it is for", path.display()));
        }
    }
    ensure!(root().join("Cargo.lock").is_file(), "Cargo.lock is not there");
    if wrong.is_empty() { Ok(()) } else { bail!("the sources do not hold:\n  {}", wrong.join("\n  ")) }
}

fn is_root(path: &Path) -> bool {
    let is_source = path.parent().is_some_and(|parent| parent.ends_with("src"));
    is_source && (path.ends_with("lib.rs") || path.ends_with("main.rs"))
}

fn rust_files() -> anyhow::Result<Vec<PathBuf>> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])?;
    Ok(listed.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}
