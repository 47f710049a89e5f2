//! What a partition of a transform has done: counted where it is computed, shown once it is committed.

use std::sync::{Mutex, PoisonError};

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
    /// What it has done since it was begun here.
    pub tally: Tally,
    /// The offset that was committed last; none before the first.
    pub committed: Option<i64>,
    /// Where it began; none before it has.
    pub from: Option<i64>,
    /// The end of the partition that a reader of committed records saw last; none before the first.
    pub end: Option<i64>,
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
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
