//! Tests on real processes: a three-node cluster that stores real files while its nodes are killed, and
//! answers every mistake as the interface's documentation says.

mod causality;
mod command_line;
mod copies;
pub(crate) mod dev;
mod disks;
mod errors;
mod files;
mod forgetting;
mod healing;
pub(crate) mod http;
mod interface;
mod jepsen;
mod lifecycle;
mod moves;
mod operations;
mod overwrites;
mod processes;
mod protocol;
mod proxy;
mod riak;
mod ring;
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
    /// Only let clients keep a history while nodes are killed, paused and cut off, and judge it
    #[arg(long, conflicts_with = "only")]
    jepsen: bool,
    /// For how long
    #[arg(long, requires = "jepsen", default_value_t = 60)]
    seconds: u64,
    /// Keep the history in this file
    #[arg(long, requires = "jepsen")]
    history: Option<std::path::PathBuf>,
}

/// The programs under test.
pub(crate) struct Programs {
    pub(crate) gramme: std::path::PathBuf,
    pub(crate) files: std::path::PathBuf,
    pub(crate) cart: std::path::PathBuf,
    pub(crate) sim: std::path::PathBuf,
    /// Whether one test was asked for, and may take its time.
    pub(crate) alone: bool,
}

type Test = fn(&Programs) -> anyhow::Result<()>;

const TESTS: [(&str, Test); 18] = [
    ("interface", interface::run),
    ("riak", riak::run),
    ("protocol", protocol::run),
    ("errors", errors::run),
    ("causality", causality::run),
    ("overwrites", overwrites::run),
    ("copies", copies::run),
    ("command-line", command_line::run),
    ("files", files::run),
    ("healing", healing::run),
    ("forgetting", forgetting::run),
    ("lifecycle", lifecycle::run),
    ("moves", moves::run),
    ("ring", ring::run),
    ("operations", operations::run),
    ("syscalls", syscalls::run),
    ("disks", disks::run),
    ("jepsen", jepsen::short),
];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let programs = Programs {
        gramme: build("gramme-node", &["--bin", "gramme"], args.release)?,
        files: build("gramme-client", &["--example", "files"], args.release)?,
        cart: build("gramme-client", &["--example", "cart"], args.release)?,
        sim: build("gramme-sim", &["--bin", "gramme-sim"], args.release)?,
        alone: args.only.is_some(),
    };
    if args.jepsen {
        return jepsen::run(&programs, args.seconds, args.history.as_deref());
    }
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
