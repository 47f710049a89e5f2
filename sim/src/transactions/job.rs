//! What there is to do: the partitions of the transforms' sources.

use std::sync::Arc;

use millstream_core::cluster::{Image, TRANSACTION_STATE, transform_group};

use crate::layout::{INPUT, LANES, Layout, OUTPUT, STATES};

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

impl Job {
    pub fn all() -> impl Iterator<Item = Self> {
        let stages = [Stage::Numbers, Stage::Copies].into_iter();
        stages.flat_map(|stage| (0..LANES as i32).map(move |lane| Self { stage, lane }))
    }

    /// Its transactional id.
    pub fn id(self) -> Arc<str> {
        format!("{}.{}", self.group(), self.lane).into()
    }

    /// The job of a transactional id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::all().find(|job| *job.id() == *id)
    }

    /// The group that keeps its offset.
    pub fn group(self) -> String {
        transform_group(match self.stage {
            Stage::Numbers => "numbers",
            Stage::Copies => "copies",
        })
    }

    /// The partition that it reads.
    pub fn source(self) -> (&'static str, i32) {
        match self.stage {
            Stage::Numbers => ("numbers", self.lane),
            Stage::Copies => (INPUT, self.lane),
        }
    }

    /// Where its transactions are kept.
    pub fn state_place(self, layout: &Layout) -> i32 {
        let partition = (self.lane as usize + self.stage as usize) % STATES;
        let place = layout.place(TRANSACTION_STATE, partition as i32);
        place.expect("there is such a partition")
    }

    /// The partition that a value goes to: by its number, so that every partition of a source reaches all of a sink.
    pub fn sink(self, number: i64) -> (&'static str, i32) {
        match self.stage {
            Stage::Numbers => (INPUT, (number % LANES as i64) as i32),
            Stage::Copies => (OUTPUT, (number / LANES as i64 % LANES as i64) as i32),
        }
    }

    /// The node that is to run it: the one that leads the partition of `in` with its number.
    pub fn runs_on(self, image: &Image) -> Option<u64> {
        let partition = image.topic(INPUT)?.partitions.get(self.lane as usize)?;
        Some(partition.leader?.0 as u64)
    }
}
