//! Two thousand seeds keep every promise, and a build that breaks one is caught.

use storage::Canary;

const SEEDS: u64 = 2000;
const OPERATIONS: u64 = 250;

#[test]
fn two_thousand_seeds_keep_every_promise() {
    let (mut operations, mut crashes) = (0, 0);
    for seed in 0..SEEDS {
        match sim::run_seed(seed, OPERATIONS, None) {
            Ok(outcome) => {
                operations += outcome.operations;
                crashes += outcome.crashes;
            }
            Err(found) => panic!("{found:?}"),
        }
    }
    println!("{SEEDS} seeds, {operations} operations, {crashes} crashes, 0 violations");
    assert!(crashes >= SEEDS, "every seed crashes at least once");
}

#[test]
fn long_lives_keep_every_promise_too() {
    for seed in 100_000..100_200 {
        if let Err(found) = sim::run_seed(seed, 1500, None) {
            panic!("{found:?}");
        }
    }
}

#[test]
fn a_seed_always_does_the_same() {
    for seed in 0..20 {
        assert_eq!(sim::run_seed(seed, 500, None), sim::run_seed(seed, 500, None));
    }
}

fn assert_caught(canary: Canary) {
    let caught = (0..SEEDS).any(|seed| sim::run_seed(seed, OPERATIONS, Some(canary)).is_err());
    assert!(caught, "{canary:?} was not caught");
}

#[test]
fn confirming_before_the_sync_is_caught() {
    assert_caught(Canary::ConfirmBeforeSync);
}

#[test]
fn ignoring_checksums_is_caught() {
    assert_caught(Canary::IgnoreChecksum);
}

#[test]
fn leaving_names_unsynced_is_caught() {
    assert_caught(Canary::DropDirSync);
}
