//! What commands did.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{PartitionRefusal, Plugin, Topic, Transform};
use crate::ids::{BrokerId, PartitionIndex, ProducerId, TopicId};

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A topic or a view was made or changed.
    Topic(Arc<Topic>),
    /// A topic or a view is gone.
    TopicDeleted(Arc<Topic>),
    /// A plugin is known.
    Plugin {
        /// The plugin.
        plugin: Arc<Plugin>,
        /// False if it was known before, with the same bytes.
        created: bool,
    },
    /// A version of a plugin is gone.
    PluginDeleted(Arc<Plugin>),
    /// Producer ids from `first` on belong to the broker that asked.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// A broker is registered.
    Broker {
        /// The image's version at its registration: it names this life of the broker from now on.
        epoch: u64,
    },
    /// What became of each partition that the command named, in its order.
    Partitions(Vec<Result<(), PartitionRefusal>>),
    /// What became of each election that the command named; of a command that named none, those that took place.
    Elections(Vec<Elected>),
    /// A transform was deployed or changed.
    Transform(Arc<Transform>),
    /// A transform is gone.
    TransformDeleted(Arc<Transform>),
    /// It is done, and there is nothing to say.
    Done,
    /// It was so before: the image is as it was.
    Unchanged,
}

/// An election of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elected {
    /// The topic.
    pub topic: TopicId,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// The leader, or why there is no other one.
    pub result: Result<BrokerId, PartitionRefusal>,
}

impl Outcome {
    /// Whether the image is another one than before.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Plugin { created, .. } => *created,
            Self::Partitions(results) => results.iter().any(Result::is_ok),
            Self::Elections(elections) => elections.iter().any(|election| election.result.is_ok()),
            Self::Unchanged => false,
            _ => true,
        }
    }
}
