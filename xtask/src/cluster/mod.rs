//! Tests on real processes: a three-node cluster that stores real files while its nodes are killed, and
//! answers every mistake as the interface's documentation says.

mod causality;
mod command_line;
pub(crate) mod dev;
mod errors;
mod files;
mod http;
mod interface;
mod lifecycle;
mod syscalls;

use std::path::Path;
use std::time::Instant;

use clap::Args as ClapArgs;

use crate::run::build;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Test release builds
    #[arg(long)]
    release: bool,
    /// Only the tests whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// The programs under test.
pub(crate) struct Programs {
    pub(crate) gramme: std::path::PathBuf,
    pub(crate) files: std::path::PathBuf,
    pub(crate) cart: std::path::PathBuf,
}

type Test = fn(&Programs) -> anyhow::Result<()>;

const TESTS: [(&str, Test); 7] = [
    ("interface", interface::run),
    ("errors", errors::run),
    ("causality", causality::run),
    ("command-line", command_line::run),
    ("files", files::run),
    ("lifecycle", lifecycle::run),
    ("syscalls", syscalls::run),
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let programs = Programs {
        gramme: build("gramme-node", &["--bin", "gramme"], args.release)?,
        files: build("gramme-client", &["--example", "files"], args.release)?,
        cart: build("gramme-client", &["--example", "cart"], args.release)?,
    };
    let mut passed = 0;
    for (name, test) in TESTS {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let began = Instant::now();
        println!("cluster test {name}");
        test(&programs)?;
        println!("cluster test {name} passed in {:.1} s", began.elapsed().as_secs_f64());
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
    Ok(())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
