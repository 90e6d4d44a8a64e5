//! `cargo xtask`: builds, lints, tests and measures. It starts the programs of the workspace and links none
//! of its crates.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a command")]

mod bench;
mod cluster;
mod figures;
mod fuzz;
mod layers;
mod lint;
mod mutants;
mod no_std;
mod prose;
mod run;
mod sim;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all tests of the workspace (with cargo-nextest if it is there)
    Test {
        /// Handed on to the test runner
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Check format, clippy, layers, and what else the architecture forbids
    Lint,
    /// Check which crate depends on which
    Layers,
    /// Test real processes: store files, kill nodes, provoke every error
    Cluster(cluster::Args),
    /// Run seeds in the simulator, judge a history, or put known bugs in
    #[command(disable_help_flag = true)]
    Sim {
        /// Handed on to gramme-sim: --seeds 1000, --seed 7, --planted, --check HISTORY; --help tells them all
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Measure a three-node cluster, and print the tables of docs/performance.md
    Bench(bench::Args),
    /// Put small faults in, and see whether the tests or the simulator notice (needs cargo-mutants)
    Mutants(mutants::Args),
    /// Fuzz every decoder (needs a C++ compiler)
    Fuzz(fuzz::Args),
    /// Compute the paper's figure 8 anew, and write its table and picture to docs/
    Figures,
    /// Build the documentation of all crates, and refuse warnings
    Doc,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Test { rest } => test(&rest),
        Command::Lint => lint::run(),
        Command::Layers => layers::run(),
        Command::Cluster(args) => cluster::run(&args),
        Command::Sim { rest } => sim::run(&rest),
        Command::Bench(args) => bench::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Figures => figures::run(),
        Command::Doc => doc(),
    }
}

fn test(rest: &[String]) -> anyhow::Result<()> {
    let nextest = run::succeeds("cargo", &["nextest", "--version"]);
    let mut args = if nextest { vec!["nextest", "run"] } else { vec!["test"] };
    args.extend(["--workspace", "--locked"]);
    if !nextest {
        args.push("--all-targets");
    }
    args.extend(rest.iter().map(String::as_str));
    run::cargo(&args)?;
    // nextest does not run the examples in the documentation.
    run::cargo(&["test", "--workspace", "--locked", "--doc"])
}

fn doc() -> anyhow::Result<()> {
    let doc = ["doc", "--workspace", "--no-deps", "--locked"];
    run::cargo_with(&doc, &[("RUSTDOCFLAGS", "-D warnings")])
}
