//! Why a command was not applied.

use super::{PluginRefError, PluginUser, PluginVersion, VIEW_DEPTH_MAX, World};
use crate::config::ConfigError;
use crate::ids::{BrokerId, TopicName};

/// Why a command was not applied; the image is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is taken.
    #[error("topic '{0}' already exists")]
    TopicExists(TopicName),
    /// The id is taken.
    #[error("topic id of '{0}' is in use already")]
    TopicIdExists(TopicName),
    /// The name differs from another only in `.` and `_`.
    #[error("topic '{name}' collides with existing topic '{existing}': '.' and '_' are the same in metrics")]
    TopicCollides {
        /// The name that was asked for.
        name: TopicName,
        /// The topic that is there.
        existing: TopicName,
    },
    /// There is no such topic.
    #[error("there is no topic '{0}'")]
    UnknownTopic(String),
    /// A topic must have partitions, and not too many.
    #[error("the number of partitions must be from 1 to {max}, not {asked}")]
    PartitionCount {
        /// What was asked for.
        asked: usize,
        /// The bound.
        max: usize,
    },
    /// The replicas of a partition are none, or name a broker twice.
    #[error("partition {partition}: replicas {replicas:?} are empty or name a broker twice")]
    Replicas {
        /// The partition.
        partition: usize,
        /// What was asked for.
        replicas: Vec<BrokerId>,
    },
    /// A configuration that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The source of a view is missing.
    #[error("view '{view}': there is no topic '{source_topic}' to be a view of")]
    UnknownSource {
        /// The view.
        view: TopicName,
        /// Its source.
        source_topic: TopicName,
    },
    /// A view would be computed from itself.
    #[error("views would form a cycle: {}", path(.0))]
    ViewCycle(Vec<TopicName>),
    /// Too many views on top of each other.
    #[error("view '{0}' would stand on more than {VIEW_DEPTH_MAX} others")]
    ViewTooDeep(TopicName),
    /// A view has the partitions of its source.
    #[error("view '{view}' has the {source_count} partitions of its source, not {asked}")]
    ViewPartitions {
        /// The view.
        view: TopicName,
        /// What was asked for.
        asked: usize,
        /// What its source has.
        source_count: usize,
    },
    /// A topic is a view from the start, or never.
    #[error("topic '{0}' cannot become a view, nor a view a topic: create another one")]
    ViewOrNot(TopicName),
    /// Views read the topic.
    #[error("topic '{topic}' is read by views: {}", names(.views))]
    ReadByViews {
        /// The topic.
        topic: TopicName,
        /// They must go first.
        views: Vec<TopicName>,
    },
    /// Topics send what their plugins fail on to the topic.
    #[error("topic '{topic}' is the dead-letter topic of: {}", names(.users))]
    DeadLetterOf {
        /// The topic.
        topic: TopicName,
        /// They must let go first.
        users: Vec<TopicName>,
    },
    /// The name of a plugin is wrong.
    #[error(transparent)]
    PluginName(#[from] PluginRefError),
    /// There is no such plugin, or no such version.
    #[error("there is no plugin '{0}'")]
    UnknownPlugin(String),
    /// The plugin does something else.
    #[error("plugin '{plugin}' is a {world} and cannot be attached as {role}")]
    WrongWorld {
        /// The plugin.
        plugin: String,
        /// What it is.
        world: World,
        /// What it was attached as.
        role: &'static str,
    },
    /// The version is taken by other bytes.
    #[error("plugin '{name}' has a version {version} already, with other content")]
    PluginVersionExists {
        /// The plugin.
        name: String,
        /// The version.
        version: PluginVersion,
    },
    /// Topics use the plugin.
    #[error("plugin '{plugin}' is in use by {}", listed(.users))]
    PluginInUse {
        /// The plugin.
        plugin: String,
        /// They must let go first.
        users: Vec<PluginUser>,
    },
    /// All numbers are given out.
    #[error("{0} are used up")]
    Exhausted(&'static str),
}

fn path(topics: &[TopicName]) -> String {
    topics.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(" -> ")
}

fn names(topics: &[TopicName]) -> String {
    topics.iter().map(|t| t.as_str()).collect::<Vec<_>>().join(", ")
}

fn listed(users: &[PluginUser]) -> String {
    users
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
