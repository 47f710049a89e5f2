//! What there is to do: the partitions of the transforms' sources.

use std::sync::Arc;

use millstream_core::cluster::{TRANSACTION_STATE, transform_group};
use uuid::Uuid;

use crate::layout::{INPUT, LANES, Layout, NUMBERS, OUTPUT, SOURCES, STATES};

/// A partition of a transform's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    pub stage: Stage,
    pub lane: i32,
}

/// A transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// From numbers to `in`.
    Numbers,
    /// From `in` to `out`.
    Copies,
}

impl Stage {
    /// Both, in the order in which records pass them.
    pub const ALL: [Self; 2] = [Self::Numbers, Self::Copies];

    /// The transform's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Numbers => "count",
            Self::Copies => "copy",
        }
    }

    /// Names the transform, and no later one of the same name.
    pub fn id(self) -> Uuid {
        Uuid::from_u128(0x7f + self as u128)
    }

    /// The topic that it reads.
    pub fn source(self) -> &'static str {
        match self {
            Self::Numbers => NUMBERS,
            Self::Copies => INPUT,
        }
    }

    /// The topic that it writes.
    pub fn sink(self) -> &'static str {
        match self {
            Self::Numbers => INPUT,
            Self::Copies => OUTPUT,
        }
    }

    /// Partitions of its source.
    pub fn lanes(self) -> usize {
        match self {
            Self::Numbers => SOURCES,
            Self::Copies => LANES,
        }
    }

    /// Its jobs.
    pub fn jobs(self) -> impl Iterator<Item = Job> {
        (0..self.lanes() as i32).map(move |lane| Job { stage: self, lane })
    }
}

impl Job {
    pub fn all() -> impl Iterator<Item = Self> {
        Stage::ALL.into_iter().flat_map(Stage::jobs)
    }

    /// Its transactional id: what `Transform::transactional_id` gives.
    pub fn id(self) -> Arc<str> {
        let (topic, lane) = self.source();
        transform_group(&format!("{}.{topic}.{lane}", self.stage.id().simple())).into()
    }

    /// The job of a transactional id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::all().find(|job| *job.id() == *id)
    }

    /// The group that keeps its offset.
    pub fn group(self) -> String {
        transform_group(self.stage.name())
    }

    /// The partition that it reads.
    pub fn source(self) -> (&'static str, i32) {
        (self.stage.source(), self.lane)
    }

    /// Where its transactions are kept.
    pub fn state_place(self, layout: &Layout) -> i32 {
        let partition = (self.lane as usize + self.stage as usize) % STATES;
        let place = layout.place(TRANSACTION_STATE, partition as i32);
        place.expect("there is such a partition")
    }

    /// The partition that a value goes to: by its number, so that every partition of a source reaches all of a sink.
    pub fn sink(self, number: i64) -> (&'static str, i32) {
        let lane = match self.stage {
            Stage::Numbers => number % LANES as i64,
            Stage::Copies => number / LANES as i64 % LANES as i64,
        };
        (self.stage.sink(), lane as i32)
    }
}
