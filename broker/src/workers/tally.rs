//! What a partition of a transform has done: counted where it is computed, shown once it is committed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::context::now_ms;

/// Counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Records read.
    pub records_in: u64,
    /// Records written to sinks.
    pub records_out: u64,
    /// Records that nothing was made of.
    pub dropped: u64,
    /// Records written to the topic of dead letters.
    pub dead_lettered: u64,
    /// Records that the plugin failed on.
    pub errors: u64,
    /// Time spent in the plugin.
    pub nanoseconds: u64,
    /// Commits.
    pub commits: u64,
    /// The last record that the plugin failed on.
    pub last_error: Option<LastError>,
}

/// A record that a plugin failed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LastError {
    /// The record.
    pub offset: i64,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
}

impl Tally {
    /// Counts a record that the plugin failed on.
    pub fn error(&mut self, offset: i64, reason: &str) {
        self.errors += 1;
        self.last_error = Some(LastError {
            offset,
            reason: reason.to_owned(),
            time_ms: now_ms(),
        });
    }

    /// Adds what happened since.
    pub fn add(&mut self, more: Self) {
        self.records_in += more.records_in;
        self.records_out += more.records_out;
        self.dropped += more.dropped;
        self.dead_lettered += more.dead_lettered;
        self.errors += more.errors;
        self.nanoseconds += more.nanoseconds;
        self.commits += more.commits;
        self.last_error = more.last_error.or(self.last_error.take());
    }
}

/// How a partition of a transform is, for those who ask.
#[derive(Debug, Default)]
pub struct Board(Mutex<Face>);

/// What a [`Board`] shows.
#[derive(Debug, Clone, Default)]
pub struct Face {
    /// What it does.
    pub state: State,
    /// Why.
    pub reason: Option<String>,
    /// What does not pass yet that it tries again and again.
    pub waiting: Option<String>,
    /// What it has done since it was begun here.
    pub tally: Tally,
    /// The offset that was committed last; none before the first.
    pub committed: Option<i64>,
    /// Where it began; none before it has.
    pub from: Option<i64>,
    /// The end of the partition that a reader of committed records saw last; none before the first.
    pub end: Option<i64>,
    /// What it costs.
    pub meter: Meter,
}

/// How much of a core a partition takes, as a mean in which what is longer ago counts for less.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// When it began to measure, and when something came in last.
    times: Option<(Instant, Instant)>,
    /// Nanoseconds in the plugin, with the weight that they had when something came in last.
    spent: f64,
}

impl Meter {
    /// Notes time in the plugin, in nanoseconds.
    fn add(&mut self, now: Instant, nanoseconds: u64) {
        self.spent = self.spent_by(now) + nanoseconds as f64;
        let (begun, _) = self.times.unwrap_or((now, now));
        self.times = Some((begun, now));
    }

    /// Time in the plugin as a part of all time, in thousandths; none before it is known well enough. It is no more than the
    /// one thread that a partition computes on.
    pub fn thousandths(&self, now: Instant) -> Option<u32> {
        let (begun, _) = self.times?;
        let measured = now.saturating_duration_since(begun);
        if measured < MEASURED_MIN {
            return None;
        }
        // What the time since the beginning weighs, by the same rule as what was spent in it.
        let weight = MEMORY.as_secs_f64() * -(-measured.div_duration_f64(MEMORY)).exp_m1();
        let thousandths = self.spent_by(now) / 1e6 / weight;
        Some(thousandths.round().min(1000.0) as u32)
    }

    fn spent_by(&self, now: Instant) -> f64 {
        let passed = self
            .times
            .map_or(Duration::ZERO, |(_, last)| now.saturating_duration_since(last));
        self.spent * (-passed.div_duration_f64(MEMORY)).exp()
    }
}

/// What a partition of a transform does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It begins, or begins anew after something went wrong.
    #[default]
    Starting,
    /// It works, or waits for records.
    Running,
    /// Nothing: the transform is paused.
    Paused,
    /// Nothing: it met what it must not pass.
    Failed,
    /// Nobody runs it.
    Unassigned,
}

impl Board {
    /// What is shown.
    pub fn look(&self) -> Face {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is shown.
    pub fn write(&self, change: impl FnOnce(&mut Face)) {
        let mut face = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = face.tally.nanoseconds;
        change(&mut face);
        let spent = face.tally.nanoseconds.saturating_sub(before);
        face.meter.add(Instant::now(), spent);
    }
}

/// After so long, what a partition took counts for a third.
const MEMORY: Duration = Duration::from_secs(30);
/// How long a partition is measured before it is known what it costs.
const MEASURED_MIN: Duration = match cfg!(test) {
    true => Duration::from_millis(500),
    false => Duration::from_secs(10),
};

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is told after so many seconds, in each of which the plugin took so many milliseconds.
    fn after(meter: &mut Meter, begun: Instant, seconds: &[u64]) -> Option<u32> {
        let mut now = begun;
        meter.add(now, 0);
        for milliseconds in seconds {
            now += SECOND;
            meter.add(now, milliseconds * 1_000_000);
        }
        meter.thousandths(now)
    }

    #[test]
    fn what_a_partition_costs_is_its_share_of_the_time_from_the_beginning_on() {
        let begun = Instant::now();
        assert_eq!(Meter::default().thousandths(begun), None);
        let mut meter = Meter::default();
        meter.add(begun, 0);
        assert_eq!(meter.thousandths(begun + MEASURED_MIN / 2), None, "too early");
        for seconds in [10, 30, 300] {
            let told = after(&mut Meter::default(), begun, &vec![250; seconds]);
            assert!(
                told.is_some_and(|told| (245..=256).contains(&told)),
                "{told:?} after {seconds} s"
            );
        }
    }

    #[test]
    fn what_was_long_ago_counts_for_little() {
        let begun = Instant::now();
        let mut meter = Meter::default();
        let busy = after(&mut meter, begun, &[800; 120]).unwrap();
        assert!((780..=820).contains(&busy), "{busy}");
        let idle = meter.thousandths(begun + 300 * SECOND).unwrap();
        assert!(idle < 10, "{idle}");
    }

    #[test]
    fn a_partition_costs_no_more_than_one_thread() {
        let mut meter = Meter::default();
        assert_eq!(after(&mut meter, Instant::now(), &[0, 90_000]), Some(1000));
    }
}
