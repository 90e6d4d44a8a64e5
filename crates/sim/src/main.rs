//! `gramme-sim`: runs seeds and says what broke.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a command")]

use clap::Parser;
use gramme_sim::{Faults, Settings, check, run};

/// Whole clusters in one thread, from a seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Run this one seed.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run the seeds from 1 to this one.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Client operations per seed.
    #[arg(long, default_value_t = 2_000)]
    operations: u64,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let began = std::time::Instant::now();
    let seeds = cli.seed.map_or(1..=cli.seeds, |seed| seed..=seed);
    let mut total = Faults::default();
    let mut traces = blake3::Hasher::new();
    let (mut broken, mut succeeded, mut attempted) = (0, 0, 0);
    for seed in seeds {
        let settings = Settings::of_seed(seed, cli.operations);
        let outcome = run(settings);
        let violations = check::check(&outcome.history);
        if cli.seed.is_some() || !violations.is_empty() {
            println!("{settings:?}\n{:?}", outcome.faults);
        }
        for violation in violations.iter().take(10) {
            println!("seed {seed}: {violation:?}");
        }
        if !violations.is_empty() {
            broken += 1;
            println!("replay: gramme-sim --seed {seed} --operations {}", cli.operations);
        }
        add(&mut total, &outcome.faults);
        traces.update(outcome.trace.as_bytes());
        succeeded += outcome.succeeded;
        attempted += cli.operations;
    }
    // How fast the simulator itself is; nothing in a run sees this clock.
    let per_second = attempted as f64 / began.elapsed().as_secs_f64();
    println!("{succeeded} of {attempted} operations succeeded, {per_second:.0} a second; {total:?}");
    println!("trace {}", traces.finalize().to_hex());
    anyhow::ensure!(broken == 0, "{broken} seeds broke a promise");
    Ok(())
}

fn add(total: &mut Faults, faults: &Faults) {
    total.lost += faults.lost;
    total.duplicated += faults.duplicated;
    total.crashes += faults.crashes;
    total.power_losses += faults.power_losses;
    total.batches_destroyed += faults.batches_destroyed;
}
