//! `gramme-sim`: runs seeds, and says what broke.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is a command")]

#[cfg(gramme_planted)]
mod planted;
mod tell;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use gramme_sim::{FaultSet, History, Settings, check, judge, judge_all, report};

use crate::tell::Tally;

/// Whole clusters in one thread, from a seed.
///
/// Exits with 0 if no promise was broken, 1 if it could not run, and otherwise with the number of the first
/// broken promise: 10 lost, 11 fresh, 12 contexts, 13 invented, 14 siblings, 15 dots, 16 flicker, 17 equal,
/// 18 bounds, 19 progress, 20 conduct, 21 panic, 22 properties, 23 clocks.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Run this one seed, and tell what it is made of
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Client operations per seed
    #[arg(long, default_value_t = 5_000)]
    operations: u64,
    /// Faults to turn on instead of the seed's own: names with commas between them, all, or none
    #[arg(long)]
    faults: Option<FaultSet>,
    /// Clients, instead of the seed's own number
    #[arg(long)]
    clients: Option<usize>,
    /// Keys, instead of the seed's own number
    #[arg(long)]
    keys: Option<usize>,
    /// Do not search for a shorter run that breaks the same promise
    #[arg(long)]
    no_shrink: bool,
    /// Write the run's history to this file, one line of JSON for each thing
    #[arg(long, requires = "seed")]
    history: Option<PathBuf>,
    /// Judge a history that was written down, instead of running anything
    #[arg(long, value_name = "HISTORY", conflicts_with_all = ["seed", "seeds"])]
    check: Option<PathBuf>,
    /// Put each known bug in, one after the other, and count the seeds until a checker notices
    /// (needs a build with --cfg gramme_planted, which `cargo xtask sim --planted` makes)
    #[arg(long)]
    planted: bool,
    /// Only the bugs with this in their name
    #[arg(long, requires = "planted")]
    only: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(path) = &cli.check {
        return check_history(path);
    }
    // A panic is reported with its seed; the default hook would print between the lines.
    std::panic::set_hook(Box::new(|_| {}));
    if cli.planted {
        return planted(&cli);
    }
    if let Some(seed) = cli.seed {
        return Ok(one(&cli, seed));
    }
    let all: Vec<_> = (cli.from..cli.from + cli.seeds).map(|seed| settings(&cli, seed)).collect();
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    judge_all(&all, |judged| {
        tell::violations(&judged, !cli.no_shrink && !tally.is_broken());
        tally.add(&judged);
        tally.goes_on()
    });
    println!("{}", tally.summary(began.elapsed()));
    println!("trace {}", tally.trace());
    Ok(ExitCode::from(tally.exit_code()))
}

fn settings(cli: &Cli, seed: u64) -> Settings {
    let mut settings = Settings::of_seed(seed, cli.operations);
    settings.faults = cli.faults.unwrap_or(settings.faults);
    settings.clients = cli.clients.unwrap_or(settings.clients).max(1);
    settings.keys = cli.keys.unwrap_or(settings.keys).max(1);
    settings
}

fn one(cli: &Cli, seed: u64) -> ExitCode {
    let settings = settings(cli, seed);
    println!("{settings}");
    if let Some(path) = &cli.history
        && let Err(error) = write_history(settings, path)
    {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let judged = judge(settings);
    println!("fired: {}", judged.counts);
    println!("{}", judged.staleness);
    println!("{}", judged.healed);
    let idle = judged.counts.idle(settings.faults);
    if !idle.is_empty() {
        println!("on, and never fired: {}", idle.into_iter().collect::<FaultSet>());
    }
    tell::violations(&judged, !cli.no_shrink);
    println!("{} of {} operations succeeded", judged.succeeded, settings.operations);
    println!("trace {}", judged.trace);
    ExitCode::from(judged.violations.first().map_or(0, |violation| violation.promise.exit_code()))
}

fn write_history(settings: Settings, path: &Path) -> std::io::Result<()> {
    gramme_sim::run(settings).history.write_to(File::create(path)?)
}

fn check_history(path: &Path) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let history = History::read_from(BufReader::new(file))?;
    let (violations, staleness) = check::check(&history);
    println!("{} writes, {} reads; {staleness}", history.writes.len(), history.reads.len());
    for violation in violations.iter().take(tell::MOST) {
        println!("{violation}");
    }
    if let Some((key, at)) = violations.iter().find_map(|violation| violation.at) {
        println!("{}", report::story_of(&history, key, at));
    }
    println!("{} promises broken", violations.len());
    Ok(ExitCode::from(violations.first().map_or(0, |violation| violation.promise.exit_code())))
}

#[cfg(gramme_planted)]
fn planted(cli: &Cli) -> anyhow::Result<ExitCode> {
    Ok(planted::run(cli.seeds.max(1_000), cli.operations, cli.only.as_deref().unwrap_or_default()))
}

#[cfg(not(gramme_planted))]
fn planted(_: &Cli) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no planted bugs: run `cargo xtask sim --planted`")
}
