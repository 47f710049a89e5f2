//! Where the time goes while a batch is computed, for `/metrics` and for `cargo xtask bench`.
//!
//! The clock is read a few times for each slice of a batch, which holds hundreds of records: what that costs is lost in
//! what it measures.

use std::time::{Duration, Instant};

/// What is done to a batch, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading what is stored.
    Read,
    /// Decompressing it.
    Decompress,
    /// Finding the records and their parts, and packing rows for the plugins.
    Index,
    /// Calling the plugins, checking and reading their answers.
    Plugin,
    /// Putting together what is left, compressed again.
    Encode,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 5] = [
        Self::Read,
        Self::Decompress,
        Self::Index,
        Self::Plugin,
        Self::Encode,
    ];

    /// Its name, as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decompress => "decompress",
            Self::Index => "index",
            Self::Plugin => "plugin",
            Self::Encode => "encode",
        }
    }
}

/// Attributes time to stages: what has passed since the last lap belongs to the stage that is named.
#[derive(Debug)]
pub struct Stopwatch {
    /// Records that the time was spent on.
    pub records: u64,
    since: Instant,
    spent: [Duration; Stage::ALL.len()],
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self {
            records: 0,
            since: Instant::now(),
            spent: Default::default(),
        }
    }

    /// Begins to count from now on: what has passed since the last lap belongs to no stage.
    pub fn resume(&mut self) {
        self.since = Instant::now();
    }

    /// A stage has ended.
    pub fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        self.spent[stage as usize] += now - self.since;
        self.since = now;
    }

    /// Time of each stage.
    pub fn spent(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().zip(self.spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_and_pauses_count_nowhere() {
        let begun = Instant::now();
        let mut watch = Stopwatch::start();
        for _ in 0..1000 {
            watch.lap(Stage::Index);
            watch.lap(Stage::Plugin);
        }
        let all = begun.elapsed();
        let spent: Vec<_> = watch.spent().collect();
        let of = |stage: Stage| spent[stage as usize].1;
        assert!(of(Stage::Index) > Duration::ZERO && of(Stage::Plugin) > Duration::ZERO);
        assert_eq!(
            of(Stage::Read) + of(Stage::Decompress) + of(Stage::Encode),
            Duration::ZERO
        );
        assert!(spent.iter().map(|(_, spent)| *spent).sum::<Duration>() <= all);
        let names: Vec<_> = spent.iter().map(|(stage, _)| stage.name()).collect();
        assert_eq!(names, ["read", "decompress", "index", "plugin", "encode"]);
    }
}
