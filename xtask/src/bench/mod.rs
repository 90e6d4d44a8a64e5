//! What the system costs: the tables of `docs/performance.md`.

mod admission;
mod against;
mod failover;
mod path;
mod store;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;

use crate::cluster::dev::Dev;
use crate::run::{build, cargo, root};

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Count what one put and one get allocate and execute, and hold it against docs/performance.md
    Path,
    /// Measure what gossip costs and how long it takes, simulated, at 10, 100 and 1,000 members
    Gossip {
        /// What foca and chitchat need for the same instead; takes some minutes
        #[arg(long)]
        compare: bool,
    },
    /// Count what an exchange between two replicas reads and sends, and what keeping the hash tree costs
    Antientropy,
    /// Measure what clients notice of a full repair, and of three times the load that the cluster can bear
    Admission {
        /// How many keys are repaired
        #[arg(long, default_value_t = 50_000)]
        keys: u64,
    },
    /// Measure what clients notice when one of three nodes is killed, or stands still
    Failover,
    /// Measure what depends on how much is stored: new keys, cold reads, starting a node
    Store {
        /// How many keys
        #[arg(long, default_value_t = 300_000)]
        keys: u64,
    },
    /// Measure rows with another build's program too, by turns, and print the ratios
    Against {
        /// The other `gramme`
        program: PathBuf,
        /// How often each has its turn
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[command(flatten)]
        rows: Rows,
    },
}

/// Which rows of the table.
#[derive(Debug, ClapArgs)]
struct Rows {
    /// How long to measure each row, in seconds
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Only these rows: a part of their name, such as "http put"
    #[arg(long)]
    only: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.what {
        None => table::run(&gramme()?, &args.rows),
        Some(What::Path) => path::run(),
        Some(What::Gossip { compare: false }) => example("gramme-gossip", "measure"),
        Some(What::Gossip { compare: true }) => compare_gossip(),
        Some(What::Antientropy) => example("gramme-replica", "mend"),
        Some(What::Admission { keys }) => admission::run(&gramme()?, *keys),
        Some(What::Failover) => failover::run(&gramme()?),
        Some(What::Store { keys }) => store::run(&gramme()?, *keys),
        Some(What::Against { program, rounds, rows }) => against::run(&gramme()?, program, *rounds, rows),
    }
}

fn example(package: &str, name: &str) -> anyhow::Result<()> {
    let program = build(package, &["--example", name], true)?;
    ensure!(Command::new(&program).status()?.success(), "{} has failed", program.display());
    Ok(())
}

/// A workspace of its own: nothing else here needs what it depends on.
fn compare_gossip() -> anyhow::Result<()> {
    let target = root().join("target/compare").display().to_string();
    let manifest = "crates/gossip/compare/Cargo.toml";
    cargo(&["run", "--locked", "--release", "--target-dir", &target, "--manifest-path", manifest])
}

fn gramme() -> anyhow::Result<PathBuf> {
    build("gramme-node", &["--bin", "gramme"], true)
}

/// What `gramme bench` measured.
struct Measured(Value);

impl Measured {
    /// Runs `gramme bench` against a cluster; every operation must succeed.
    fn by(gramme: &Path, dev: &Dev, args: &[&str]) -> anyhow::Result<Self> {
        let output = Command::new(gramme)
            .args(["bench", "--json"])
            .args(["--cluster".as_ref(), dev.cluster_json().as_os_str()])
            .args(args)
            .output()
            .context("cannot start gramme bench")?;
        ensure!(output.status.success(), "gramme bench failed: {}", String::from_utf8_lossy(&output.stderr));
        let measured: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(measured["errors"] == 0, "{args:?}: {} operations failed", measured["errors"]);
        Ok(Self(measured))
    }

    fn figure(&self, name: &str) -> anyhow::Result<f64> {
        self.0[name].as_f64().with_context(|| format!("gramme bench does not say {name}"))
    }

    /// Processor time of all nodes per operation, in microseconds.
    fn cpu(&self) -> anyhow::Result<f64> {
        self.figure("server_cpu_us_per_operation")
    }
}
