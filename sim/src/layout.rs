//! Which topics a simulated cluster has. Partitions are numbered through all of them: such a number is a *place*.

use std::path::PathBuf;

use millstream_core::cluster::{CONSUMER_OFFSETS, Image, Partition, TRANSACTION_STATE};
use millstream_core::ids::TopicId;
use millstream_core::mutation::Mutation;
use uuid::Uuid;

/// Who lives in a simulated cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Population {
    /// Producers and readers of a replicated log.
    Log,
    /// Transforms that read, write and commit in transactions, and readers of what they committed.
    Transactions,
}

impl Population {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Log, Self::Transactions];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Transactions => "transactions",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|population| population.name() == name)
    }

    /// The one that is to find a bug.
    pub fn that_finds(bug: Mutation) -> Self {
        match bug {
            Mutation::SameProducerEpoch
            | Mutation::ForgetPrepared
            | Mutation::EarlyOffsets
            | Mutation::MarkerAgain
            | Mutation::UnreplicatedMarkers
            | Mutation::LoseAborted
            | Mutation::EndBeforeDurable
            | Mutation::OldOffsets
            | Mutation::SkipVerification
            | Mutation::ForgetSessions
            | Mutation::KeepFencedWorkers
            | Mutation::WorkWhilePaused
            | Mutation::KeepRelease
            | Mutation::OldGeneration
            | Mutation::LeaveBehind
            | Mutation::ForgetOnMove => Self::Transactions,
            _ => Self::Log,
        }
    }

    pub(crate) fn layout(self) -> &'static Layout {
        match self {
            Self::Log => &Layout { topics: &[(LOG, 2)] },
            Self::Transactions => &Layout {
                topics: &[
                    (NUMBERS, SOURCES),
                    (INPUT, LANES),
                    (OUTPUT, LANES),
                    (CONSUMER_OFFSETS, 1),
                    (TRANSACTION_STATE, STATES),
                ],
            },
        }
    }
}

/// The topics and their numbers of partitions.
#[derive(Debug)]
pub struct Layout {
    topics: &'static [(&'static str, usize)],
}

impl Layout {
    /// Number of places.
    pub fn places(&self) -> i32 {
        self.topics.iter().map(|(_, partitions)| *partitions as i32).sum()
    }

    /// The topics and their numbers of partitions.
    pub fn topics(&self) -> &'static [(&'static str, usize)] {
        self.topics
    }

    /// The id that a topic gets.
    pub fn topic_id(&self, topic: &str) -> Option<TopicId> {
        let n = self.topics.iter().position(|(name, _)| *name == topic)?;
        Some(TopicId(Uuid::from_u128(1 + n as u128)))
    }

    /// The topic of that id.
    pub fn topic_of(&self, id: TopicId) -> Option<&'static str> {
        let mut topics = self.topics.iter().map(|(name, _)| *name);
        topics.find(|name| self.topic_id(name) == Some(id))
    }

    /// Topic and partition of a place.
    pub fn at(&self, place: i32) -> (&'static str, i32) {
        let mut left = place;
        for (topic, partitions) in self.topics {
            if left < *partitions as i32 {
                return (topic, left);
            }
            left -= *partitions as i32;
        }
        panic!("there is no place {place}")
    }

    /// The place of a partition.
    pub fn place(&self, topic: &str, partition: i32) -> Option<i32> {
        let mut first = 0;
        for (name, partitions) in self.topics {
            if *name == topic {
                return (0..*partitions as i32)
                    .contains(&partition)
                    .then_some(first + partition);
            }
            first += *partitions as i32;
        }
        None
    }

    /// What an image says of a place.
    pub fn entry<'a>(&self, image: &'a Image, place: i32) -> Option<&'a Partition> {
        let (topic, partition) = self.at(place);
        image.topic(topic)?.partitions.get(partition as usize)
    }

    /// Where a node keeps it.
    pub fn dir(&self, place: i32) -> PathBuf {
        let (topic, partition) = self.at(place);
        PathBuf::from(format!("data/{topic}-{partition}"))
    }

    /// The place that keeps the groups.
    pub fn offsets_place(&self) -> i32 {
        let place = self.place(CONSUMER_OFFSETS, 0);
        place.expect("only clusters with transactions are asked")
    }

    /// Whether values are written there, every one once.
    pub fn holds_values(&self, place: i32) -> bool {
        ![NUMBERS, CONSUMER_OFFSETS, TRANSACTION_STATE].contains(&self.at(place).0)
    }

    /// Whether there are transforms.
    pub fn has_transforms(&self) -> bool {
        self.place(INPUT, 0).is_some()
    }
}

/// The topic of a replicated log's clients.
const LOG: &str = "t";
/// What the first transform reads. Its partitions are led and move as all do, and hold nothing.
pub const NUMBERS: &str = "numbers";
/// What the first transform writes and the second one reads.
pub const INPUT: &str = "in";
/// What the second transform writes.
pub const OUTPUT: &str = "out";
/// Partitions of `in` and of `out`.
pub const LANES: usize = 2;
/// Partitions of `numbers`: more than there are workers now and then, so that it matters which have which.
pub const SOURCES: usize = 3;
/// Partitions of `__transaction_state`.
pub const STATES: usize = 2;
