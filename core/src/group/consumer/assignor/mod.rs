//! Who shall have which partitions. Pure functions of the members' subscriptions, the topics, and who was to have what
//! so far; the server decides (KIP-848), so clients need no assignor of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::Partitions;
use crate::ids::{PartitionIndex, TopicId};

mod range;
mod uniform;

/// A way to assign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Everybody gets as many as the others, give or take one; what can stay where it is stays.
    Uniform,
    /// Everybody gets a range of each topic, so that partitions with the same index of topics that are alike meet.
    Range,
}

/// What there is to assign, and to whom.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// Members by id.
    pub members: BTreeMap<Arc<str>, Subscriber>,
    /// How many partitions each topic has.
    pub topics: BTreeMap<TopicId, i32>,
}

/// A member that takes part.
#[derive(Debug, Clone, Default)]
pub struct Subscriber {
    /// Its instance id.
    pub instance: Option<String>,
    /// The topics that it wants; those that do not exist are left out.
    pub topics: BTreeSet<TopicId>,
    /// What it was to have so far.
    pub before: Partitions,
}

impl Assignor {
    /// All of them; the first is the one that is taken if nobody says.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What every member shall have; nothing is left out that somebody wants.
    pub fn assign(self, problem: &Problem) -> BTreeMap<Arc<str>, Partitions> {
        match self {
            Self::Uniform => uniform::assign(problem),
            Self::Range => range::assign(problem),
        }
    }
}

impl Problem {
    /// Whether all members want the same topics.
    fn is_homogeneous(&self) -> bool {
        let mut subscriptions = self.members.values().map(|member| &member.topics);
        let first = subscriptions.next();
        subscriptions.all(|topics| Some(topics) == first)
    }
}

fn partitions_of(count: i32) -> impl Iterator<Item = PartitionIndex> {
    (0..count.max(0)).map(PartitionIndex)
}

#[cfg(test)]
mod tests;
