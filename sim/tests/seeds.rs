//! A few seeds, for every run of the tests; `cargo xtask sim` runs many.

#![allow(
    clippy::unwrap_used,
    reason = "a test panics when something is not as it must be"
)]

use millstream_sim::{Population, run};

#[test]
fn no_rule_is_broken() {
    for seed in 1..=6 {
        let report = run(seed, Population::Log, None, false);
        assert_eq!(report.broken, None, "seed {seed}: {:#?}", report.faults);
        assert!(report.acked > 100, "seed {seed} did something");
    }
}

#[test]
fn no_rule_of_transactions_is_broken() {
    for seed in 1..=4 {
        let report = run(seed, Population::Transactions, None, false);
        assert_eq!(report.broken, None, "seed {seed}: {:#?}", report.faults);
        assert!(report.commits > 20, "seed {seed} did something");
    }
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for (seed, population) in [(11, Population::Log), (12, Population::Transactions)] {
        assert_eq!(
            run(seed, population, None, false),
            run(seed, population, None, false)
        );
    }
}
