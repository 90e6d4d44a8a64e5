//! A short, fixed set of seeds. `cargo xtask sim` runs more.

use gramme_sim::{Faults, Settings, check, run};

const OPERATIONS: u64 = 1_500;

#[test]
fn fixed_seeds_break_no_promise_and_fire_every_fault() {
    let mut fired = Faults::default();
    for seed in 1..=40 {
        let outcome = run(Settings::of_seed(seed, OPERATIONS));
        let violations = check::check(&outcome.history);
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        assert!(outcome.succeeded > OPERATIONS / 2, "seed {seed}: only {} succeeded", outcome.succeeded);
        fired.lost += outcome.faults.lost;
        fired.duplicated += outcome.faults.duplicated;
        fired.crashes += outcome.faults.crashes;
        fired.power_losses += outcome.faults.power_losses;
        fired.batches_destroyed += outcome.faults.batches_destroyed;
    }
    let Faults { lost, duplicated, crashes, power_losses, batches_destroyed } = fired;
    let counts = [lost, duplicated, crashes, power_losses, batches_destroyed];
    assert!(counts.iter().all(|count| *count > 10), "a fault that hardly fires tests nothing: {fired:?}");
}

#[test]
fn one_seed_is_one_run() {
    let settings = Settings::of_seed(7, OPERATIONS);
    assert_eq!(run(settings).trace, run(settings).trace);
    assert_ne!(run(settings).trace, run(Settings::of_seed(8, OPERATIONS)).trace);
}
