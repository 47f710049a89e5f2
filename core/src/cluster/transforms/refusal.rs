//! Why a transform is not deployed, changed or deleted, or something that it needs is not.

use serde::{Deserialize, Serialize};

use crate::cluster::{PLUGIN_NAME_CHARACTERS_MAX, World};
use crate::ids::TopicName;

use super::deploy::{
    COMMIT_BYTES, COMMIT_INTERVAL_MS, CONFIG_BYTES_MAX, SINKS_MAX, SOURCES_MAX, TRANSFORMS_MAX, WORKERS,
};

/// Why a command about transforms was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum TransformRefusal {
    /// The name has characters that are not allowed, is empty or too long.
    #[error(
        "transform name '{0}' is not 1 to {PLUGIN_NAME_CHARACTERS_MAX} of a-z, A-Z, 0-9, '.', '_', '-', with no '.' first: choose another one"
    )]
    Name(String),
    /// The name is taken.
    #[error("transform '{0}' exists already: upgrade it, or choose another name")]
    Exists(String),
    /// The id is taken.
    #[error("the id of transform '{0}' is in use already: deploy it with another one")]
    IdExists(String),
    /// There is no such transform.
    #[error("there is no transform '{0}': deploy it first")]
    Unknown(String),
    /// There are as many as there may be.
    #[error("there are {TRANSFORMS_MAX} transforms already: delete one of them first")]
    TooMany,
    /// It would read nothing.
    #[error("transform '{0}' has no source: name at least one topic that it reads")]
    NoSource(String),
    /// It would write nothing.
    #[error("transform '{0}' has no sink: name at least one topic that it writes")]
    NoSink(String),
    /// It would read too many topics.
    #[error("{0} sources are too many: name at most {SOURCES_MAX}")]
    TooManySources(usize),
    /// It would write too many topics.
    #[error("{0} sinks are too many: name at most {SINKS_MAX}")]
    TooManySinks(usize),
    /// A source is missing.
    #[error("there is no topic or view '{0}' to read: create it first")]
    UnknownSource(TopicName),
    /// A sink is missing.
    #[error("there is no topic '{0}' to write to: create it first")]
    UnknownSink(TopicName),
    /// The dead-letter topic is missing.
    #[error("there is no dead-letter topic '{0}': create it first")]
    UnknownDeadLetter(TopicName),
    /// A source is one of the brokers' own topics.
    #[error("topic '{0}' is the brokers' own and cannot be a source: name another one")]
    InternalSource(TopicName),
    /// A sink is one of the brokers' own topics.
    #[error("topic '{0}' is the brokers' own and cannot be a sink: name another one")]
    InternalSink(TopicName),
    /// The dead-letter topic is one of the brokers' own topics.
    #[error("topic '{0}' is the brokers' own and cannot take dead letters: name another one")]
    InternalDeadLetter(TopicName),
    /// Nothing can be written to a view.
    #[error("sink '{0}' is a view: name a topic to write to")]
    SinkIsView(TopicName),
    /// Nothing can be written to a view.
    #[error("dead-letter topic '{0}' is a view: name a topic to write to")]
    DeadLetterIsView(TopicName),
    /// A source twice.
    #[error("source '{0}' is named twice: name it once")]
    SourceTwice(TopicName),
    /// A sink twice.
    #[error("sink '{0}' is named twice: name it once")]
    SinkTwice(TopicName),
    /// Two sinks with one name.
    #[error("two sinks are called '{0}': give each its own name")]
    SinkNameTwice(String),
    /// The plugin could not name the sink.
    #[error("a sink cannot be called '{0}': choose a name as topics have them")]
    SinkName(String),
    /// It would read what it writes.
    #[error("topic '{0}' is source and sink: write to another topic")]
    SinkIsSource(TopicName),
    /// It would read its dead letters.
    #[error("dead-letter topic '{0}' is a source, so that dead letters would come back: name another topic")]
    DeadLetterIsSource(TopicName),
    /// Records would go round without end, along these topics, views and transforms.
    #[error("records would go round without end: {}; write to another topic", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// The plugin does something else.
    #[error("plugin '{plugin}' is a {world}: deploy one that is a filter or a transform")]
    WrongWorld {
        /// The plugin.
        plugin: String,
        /// What it is.
        world: World,
    },
    /// No workers, or too many.
    #[error("{0} workers cannot be: choose {least} to {most}", least = WORKERS.start(), most = WORKERS.end())]
    Workers(u32),
    /// Commits too often, or too seldom.
    #[error(
        "a commit every {0} ms cannot be: choose {least} to {most} ms",
        least = COMMIT_INTERVAL_MS.start(),
        most = COMMIT_INTERVAL_MS.end()
    )]
    CommitInterval(u32),
    /// Commits of too few bytes, or too many.
    #[error(
        "a commit every {0} bytes cannot be: choose {least} to {most} bytes",
        least = COMMIT_BYTES.start(),
        most = COMMIT_BYTES.end()
    )]
    CommitBytes(u32),
    /// The plugin's configuration is too long.
    #[error("a configuration of {0} bytes is too long: keep it to {CONFIG_BYTES_MAX} bytes")]
    ConfigBytes(usize),
    /// No share of the partitions.
    #[error("a canary cannot run on {0} percent of the partitions: choose 1 to 99, or upgrade without one")]
    TrialPercent(u8),
    /// More errors than records.
    #[error("{0} errors among 1000 records cannot be: choose 0 to 1000")]
    TrialErrors(u16),
    /// There is nothing to divide.
    #[error(
        "transform '{0}' reads one partition, so that a canary would leave nothing to what runs now: upgrade without one"
    )]
    TrialOfOnePartition(String),
    /// One upgrade at a time.
    #[error("canary {canary} of transform '{transform}' is under way: promote it or roll it back first")]
    CanaryUnderWay {
        /// The transform.
        transform: String,
        /// What is tried.
        canary: String,
    },
    /// Nothing ran before.
    #[error("transform '{0}' has nothing to roll back to: upgrade it instead")]
    NothingBefore(String),
    /// Transforms read the topic, or write to it.
    #[error("topic '{topic}' is read or written by transforms: delete {} first", .transforms.join(", "))]
    TopicInUse {
        /// The topic.
        topic: TopicName,
        /// They must go first.
        transforms: Vec<String>,
    },
}
