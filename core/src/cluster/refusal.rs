//! Why a command was not applied.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{PluginRefError, PluginUser, PluginVersion, TransformRefusal, VIEW_DEPTH_MAX, World};
use crate::config::ConfigError;
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicName};

/// Why a command was not applied; the image is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
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
        role: Cow<'static, str>,
    },
    /// The version is taken by other bytes.
    #[error("plugin '{name}' has a version {version} already, with other content")]
    PluginVersionExists {
        /// The plugin.
        name: String,
        /// The version.
        version: PluginVersion,
    },
    /// Topics or transforms use the plugin.
    #[error("plugin '{plugin}' is in use by {}", listed(.users))]
    PluginInUse {
        /// The plugin.
        plugin: String,
        /// They must let go first.
        users: Vec<PluginUser>,
    },
    /// A transform cannot be so, or needs what was to go.
    #[error(transparent)]
    Transform(#[from] TransformRefusal),
    /// All numbers are given out.
    #[error("{0} are used up")]
    Exhausted(Cow<'static, str>),
    /// The image is a cluster's already.
    #[error("this is cluster '{0}' already: another broker joins it with --join")]
    Bootstrapped(String),
    /// A quorum begins with its first command, or not at all.
    #[error("a cluster begins with its first command, and this quorum has applied {0} already")]
    NotFirst(u64),
    /// There is no such broker.
    #[error("there is no broker {0} in the cluster; 'millstream cluster brokers' lists them")]
    UnknownBroker(BrokerId),
    /// A broker without an address for other brokers cannot be of a cluster.
    #[error("broker {0} has no cluster address: start it with --voters or --join to be part of the cluster")]
    Alone(BrokerId),
    /// Two brokers with one id.
    #[error(
        "broker id {id} is in use by a broker with another disk at {host}:{port}: give this one another --node-id, or stop that one first"
    )]
    BrokerIdInUse {
        /// The id.
        id: BrokerId,
        /// Where the other one is.
        host: String,
        /// Where the other one is.
        port: u16,
    },
    /// The command is about an earlier life of the broker.
    #[error("broker {id} has epoch {current}, not {given}: it has registered again since")]
    StaleBrokerEpoch {
        /// The broker.
        id: BrokerId,
        /// What the command says.
        given: u64,
        /// What the image says.
        current: u64,
    },
    /// The binary is too old or too new for the cluster.
    #[error(
        "broker {id} can run feature levels {lowest} to {highest}, but the cluster is at level {level}: start it with another version"
    )]
    Features {
        /// The broker.
        id: BrokerId,
        /// The lowest level that it can run.
        lowest: u16,
        /// The highest.
        highest: u16,
        /// The cluster's.
        level: u16,
    },
    /// A broker cannot run the new level.
    #[error(
        "feature level {level} needs all brokers, but broker {broker} can run levels {lowest} to {highest}: upgrade it, or remove it from the cluster"
    )]
    FeatureLevel {
        /// The level.
        level: u16,
        /// The broker.
        broker: BrokerId,
        /// The lowest level that it can run.
        lowest: u16,
        /// The highest.
        highest: u16,
    },
    /// Data may have been written that the lower level cannot read.
    #[error("the cluster is at feature level {current} and cannot go back to {level}")]
    FeatureLevelDown {
        /// What was asked for.
        level: u16,
        /// The cluster's.
        current: u16,
    },
    /// The broker serves.
    #[error("broker {0} is running: stop it before it is removed")]
    BrokerLives(BrokerId),
    /// Replicas would be lost.
    #[error(
        "broker {id} still holds {replicas} replicas: empty it with 'millstream cluster drain {id}' and 'millstream cluster rebalance' before it is removed"
    )]
    BrokerHoldsReplicas {
        /// The broker.
        id: BrokerId,
        /// How many.
        replicas: usize,
    },
    /// More replicas than brokers.
    #[error("replication factor {factor} is not from 1 to {available}, the number of brokers that can take replicas{}", unavailable(.fenced, .draining))]
    ReplicationFactor {
        /// What was asked for.
        factor: usize,
        /// How many brokers can take replicas.
        available: usize,
        /// Those that are fenced.
        fenced: Vec<BrokerId>,
        /// Those that are draining.
        draining: Vec<BrokerId>,
    },
    /// A new partition names a broker that is not there.
    #[error("partition {partition}: there is no broker {broker} in the cluster")]
    UnknownReplica {
        /// The partition.
        partition: usize,
        /// The broker.
        broker: BrokerId,
    },
    /// A new partition would have no leader.
    #[error("partition {partition}: all of its brokers {} are fenced", brokers(.replicas))]
    NoLiveReplica {
        /// The partition.
        partition: usize,
        /// What was asked for.
        replicas: Vec<BrokerId>,
    },
}

/// Why a command left one partition as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionRefusal {
    /// There is no such topic.
    #[error("there is no topic '{0}'")]
    UnknownTopic(TopicId),
    /// The topic has no such partition.
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: PartitionIndex,
    },
    /// A view's records are where its source's are.
    #[error("topic '{view}' is a view: its partitions are those of topic '{stored}'")]
    View {
        /// The view.
        view: TopicName,
        /// The topic that stores its records.
        stored: TopicName,
    },
    /// Another broker leads, or none.
    #[error("broker {broker} does not lead the partition; {}", leader_is(.leader))]
    NotLeader {
        /// Who asked.
        broker: BrokerId,
        /// Who leads.
        leader: Option<BrokerId>,
    },
    /// The broker led once, and leads again since.
    #[error("leader epoch {given} is over: the partition is at {current}")]
    FencedLeaderEpoch {
        /// What the command says.
        given: LeaderEpoch,
        /// What the image says.
        current: LeaderEpoch,
    },
    /// No image has given this epoch out.
    #[error("leader epoch {given} has not begun: the partition is at {current}")]
    UnknownLeaderEpoch {
        /// What the command says.
        given: LeaderEpoch,
        /// What the image says.
        current: LeaderEpoch,
    },
    /// The leader decided on old facts.
    #[error("partition epoch {given} is not the current one, {current}")]
    StalePartitionEpoch {
        /// What the command says.
        given: i32,
        /// What the image says.
        current: i32,
    },
    /// The in-sync replicas cannot be these.
    #[error("in-sync replicas {} must be the leader and other replicas, each once", brokers(.isr))]
    InSync {
        /// What was asked for.
        isr: Vec<BrokerId>,
    },
    /// A member may not be in sync.
    #[error(
        "broker {0} cannot be in sync: it is fenced, or has registered again since it told the leader what it holds"
    )]
    Ineligible(BrokerId),
    /// The leader is the right one.
    #[error("broker {leader} leads the partition already")]
    ElectionNotNeeded {
        /// Who leads.
        leader: BrokerId,
    },
    /// The preferred leader cannot lead.
    #[error("the preferred leader, broker {0}, is not in sync, or is fenced or draining")]
    PreferredNotAvailable(BrokerId),
    /// All replicas are fenced.
    #[error("none of the replicas {} is running: start one of them", brokers(.replicas))]
    NobodyLives {
        /// The replicas.
        replicas: Vec<BrokerId>,
    },
    /// Replicas are none, or name a broker twice.
    #[error("replicas {} are empty or name a broker twice", brokers(.replicas))]
    Replicas {
        /// What was asked for.
        replicas: Vec<BrokerId>,
    },
    /// A new replica is on no broker.
    #[error("there is no broker {0} in the cluster; 'millstream cluster brokers' lists them")]
    UnknownBroker(BrokerId),
    /// A new replica could not begin.
    #[error("broker {0} is fenced: start it, or choose another one")]
    BrokerFenced(BrokerId),
    /// Nobody could serve the partition.
    #[error("all of the brokers {} are fenced: start one of them, or name another one too", brokers(.replicas))]
    AllFenced {
        /// Those that were to hold it.
        replicas: Vec<BrokerId>,
    },
    /// A new replica would have to move again.
    #[error(
        "broker {0} is draining: choose another one, or end the draining with 'millstream cluster drain {0} --cancel'"
    )]
    BrokerDraining(BrokerId),
    /// Nothing moves.
    #[error("the partition is not being reassigned")]
    NoReassignment,
    /// The move cannot be taken back now.
    #[error("none of the replicas {} that would stay is in sync: wait until one of them is", brokers(.replicas))]
    NobodyInSync {
        /// Those that would stay.
        replicas: Vec<BrokerId>,
    },
}

impl PartitionRefusal {
    /// Whether the partition has moved on since the change was decided on: perhaps by this very change, where it was sent
    /// again because its first answer was lost. What became of it is known with the image.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            Self::NotLeader { .. } | Self::FencedLeaderEpoch { .. } | Self::StalePartitionEpoch { .. }
        )
    }
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

fn brokers(ids: &[BrokerId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    format!("[{}]", ids.join(", "))
}

fn unavailable(fenced: &[BrokerId], draining: &[BrokerId]) -> String {
    let listed = |what: &str, ids: &[BrokerId]| match ids {
        [] => String::new(),
        ids => format!("; {what} are {}", brokers(ids)),
    };
    listed("fenced", fenced) + &listed("draining", draining)
}

fn leader_is(leader: &Option<BrokerId>) -> String {
    match leader {
        Some(leader) => format!("broker {leader} does"),
        None => "nobody does".to_owned(),
    }
}
