//! Two thousand seeds keep every promise, and a build that breaks one is caught by them.

use sim::OPERATIONS;
use storage::Canary;

const SEEDS: u64 = 2000;

#[test]
fn two_thousand_seeds_keep_every_promise() {
    match sim::run_seeds(0, SEEDS, OPERATIONS, None) {
        Ok(all) => {
            println!("{SEEDS} seeds, {all}, 0 violations");
            assert!(all.crashes >= SEEDS && all.faults > SEEDS && all.rotten > SEEDS / 2, "{all}");
        }
        Err(found) => panic!("{found}"),
    }
}

#[test]
fn a_seed_always_does_the_same() {
    for seed in 0..20 {
        assert_eq!(sim::run_seed(seed, OPERATIONS, None), sim::run_seed(seed, OPERATIONS, None));
    }
}

#[test]
fn every_canary_is_caught() {
    let caught = |canary: &Canary| match sim::run_seeds(0, SEEDS, OPERATIONS, Some(*canary)) {
        Err(found) => {
            println!("{} is caught by seed {}: {}", canary.name(), found.seed, found.what);
            true
        }
        Ok(_) => false,
    };
    let missed: Vec<Canary> = Canary::ALL.into_iter().filter(|canary| !caught(canary)).collect();
    assert!(missed.is_empty(), "not caught by {SEEDS} seeds: {missed:?}");
}
