//! A few seeds, for every run of the tests; `cargo xtask sim` runs many.

#![allow(
    clippy::unwrap_used,
    reason = "a test panics when something is not as it must be"
)]

use millstream_sim::run;

#[test]
fn no_rule_is_broken() {
    for seed in 1..=6 {
        let report = run(seed, None, false);
        assert_eq!(report.broken, None, "seed {seed}: {:#?}", report.faults);
        assert!(report.acked > 100, "seed {seed} did something");
    }
}

#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in [11, 12] {
        assert_eq!(run(seed, None, false), run(seed, None, false));
    }
}
