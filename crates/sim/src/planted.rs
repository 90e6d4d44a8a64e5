//! Known bugs, put in one after the other: how many seeds until which checker notices.

use std::process::ExitCode;

use gramme_plant::{Bug, plant};
use gramme_sim::check::Promise;
use gramme_sim::{Settings, judge_all};

/// Prints the table of `docs/testing.md`, of those bugs that have `only` in their name. Fails if one stays
/// unnoticed through `seeds` seeds.
pub(crate) fn run(seeds: u64, operations: u64, only: &str) -> ExitCode {
    println!("| planted | seeds until caught | by |\n|---|---|---|");
    let settings: Vec<_> = (1..=seeds).map(|seed| Settings::of_seed(seed, operations)).collect();
    let mut missed = 0;
    for &bug in Bug::ALL.iter().filter(|bug| bug.what().contains(only)) {
        plant(bug);
        let mut caught: Option<(u64, Promise)> = None;
        judge_all(&settings, |judged| {
            caught = judged.violations.first().map(|violation| (judged.settings.seed, violation.promise));
            caught.is_none()
        });
        match caught {
            Some((seed, promise)) => println!("|{} | {seed} | {} |", bug.what(), promise.name()),
            None => {
                missed += 1;
                println!("|{} | not in {seeds} | |", bug.what());
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
