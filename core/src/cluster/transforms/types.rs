//! Deployed transforms as the cluster knows them: what reads which topics and writes which, and who runs each partition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cluster::{PluginLimits, PluginRef, PluginVersion};
use crate::config::OnError;
use crate::ids::{BrokerId, PartitionIndex, TopicName};

/// A plugin that runs from topics to topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transform {
    /// What was asked for.
    pub spec: TransformSpec,
    /// Names this transform, and no later one of the same name.
    pub id: Uuid,
    /// What runs.
    pub current: Release,
    /// What ran before the last upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// An upgrade that runs on some of the partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Whether nothing runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Version of the image since which workers are to have begun anew: the last resume, for example.
    pub since: u64,
    /// Why it was rolled back by itself, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<String>,
    /// How many partitions each source had when it was deployed, where it begins at the latest records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployed_with: Vec<u32>,
    /// Who runs each partition of the sources, in the order of the sources and their partitions; a partition that nobody
    /// can run is not in it.
    pub assignment: Vec<Assigned>,
}

/// What a user says of a transform when it is deployed; `workers` may change later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TransformSpec {
    /// Its name, made as the names of plugins are.
    pub name: String,
    /// The topics or views that it reads.
    pub sources: Vec<TopicName>,
    /// Where it writes; a plugin names them by their place here.
    pub sinks: Vec<TransformSink>,
    /// Workers at most, over all brokers.
    pub workers: u32,
    /// What is promised.
    #[serde(default)]
    pub guarantee: Guarantee,
    /// Longest time between two commits, in milliseconds.
    pub commit_interval_ms: u32,
    /// Bytes read after which there is a commit.
    pub commit_bytes: u32,
    /// Where it begins in partitions that have no offset yet.
    #[serde(default)]
    pub start: Start,
    /// What happens to records that the plugin fails on.
    #[serde(default)]
    pub on_error: OnError,
    /// Limits that replace those that the plugin was pushed with.
    #[serde(default)]
    pub limits: PluginLimits,
}

/// A topic that a transform writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransformSink {
    /// What the plugin calls it.
    pub name: String,
    /// The topic.
    pub topic: TopicName,
}

/// A plugin with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The plugin's name.
    pub plugin: String,
    /// Its version, fixed when it was deployed.
    pub version: PluginVersion,
    /// Configuration that the plugin gets.
    pub config: String,
    /// Version of the image that deployed it: it tells releases apart.
    pub generation: u64,
    /// When that was, in milliseconds since 1970.
    pub deployed_at_ms: i64,
}

impl Release {
    /// The plugin that it runs.
    pub fn reference(&self) -> PluginRef {
        PluginRef {
            name: self.plugin.clone(),
            version: Some(self.version),
        }
    }
}

/// An upgrade on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// What is tried.
    pub release: Release,
    /// How.
    pub trial: Trial,
}

/// How an upgrade is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trial {
    /// Share of the partitions that run it, 1 to 99; at least one partition does.
    pub percent: u8,
    /// Errors among a thousand records from which on it is taken back.
    pub errors_permille_max: u16,
    /// How long it must do well until it runs everywhere, in milliseconds.
    pub promote_after_ms: u64,
}

/// What is promised of a transform's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Output and offsets are one transaction.
    #[default]
    ExactlyOnce,
    /// Output is written, then the offsets: what was between is written again after a failure.
    AtLeastOnce,
}

/// Where a transform begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// With the first record that there is.
    #[default]
    Earliest,
    /// With what comes next.
    Latest,
}

/// Who runs a partition of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The source.
    pub topic: TopicName,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// The broker that runs it.
    pub broker: BrokerId,
    /// The worker that it shares a plugin instance with, counted over all brokers from 0.
    pub worker: u32,
    /// Whether it runs the canary.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// Version of the image that gave it to this broker.
    pub since: u64,
    /// What it is taken to cost: time in the plugin as a part of all time, in thousandths of a core; 0 if that was never
    /// weighed. It is what the last [`TransformChange::Weigh`] that was worth it told, and not how things are now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cost: u32,
}

/// A change of a transform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransformChange {
    /// Stops it; offsets stay.
    Pause,
    /// Goes on; partitions that failed begin anew.
    Resume,
    /// Bounds its workers.
    Scale {
        /// How many at most.
        workers: u32,
    },
    /// Runs another plugin or configuration.
    Upgrade {
        /// The plugin; the latest version is looked up now.
        plugin: PluginRef,
        /// Its configuration; none for the one that is there.
        config: Option<String>,
        /// On some partitions first; none for all at once.
        trial: Option<Trial>,
    },
    /// Runs the canary everywhere.
    Promote {
        /// The canary's, so that a late wish promotes no other one.
        generation: u64,
    },
    /// Runs what ran before the last upgrade, or takes the canary back.
    Rollback {
        /// What is to be taken back, so that a late wish takes back no other one; none for whatever runs.
        generation: Option<u64>,
        /// Why, if it was not a user's wish.
        reason: Option<String>,
    },
    /// Gives partitions out anew by what they cost, if that is worth it.
    Weigh {
        /// The release that was measured, so that a late wish weighs no other one.
        generation: u64,
        /// For each source what its partitions cost, in their order, in thousandths of a core; what is 0 or missing is not
        /// known, and stays as it was. What is no partition of the transform counts for nothing.
        costs: BTreeMap<TopicName, Vec<u32>>,
    },
}

impl Transform {
    /// What runs, what is tried, and what it may go back to.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        let canary = self.canary.as_ref().map(|canary| &canary.release);
        std::iter::once(&self.current).chain(canary).chain(&self.previous)
    }

    /// What a partition runs.
    pub fn release(&self, assigned: &Assigned) -> &Release {
        match &self.canary {
            Some(canary) if assigned.canary => &canary.release,
            _ => &self.current,
        }
    }

    /// Where a partition of a source begins that has no offset yet. One that was added since begins at its first record:
    /// what was written before anybody ran it came after the deployment, too.
    pub fn start(&self, topic: &TopicName, partition: PartitionIndex) -> Start {
        let source = self.spec.sources.iter().position(|source| source == topic);
        let known = source.and_then(|source| self.deployed_with.get(source));
        match known {
            Some(known) if i64::from(partition.0) >= i64::from(*known) => Start::Earliest,
            _ => self.spec.start,
        }
    }

    /// The group that its offsets are kept in.
    pub fn group(&self) -> String {
        transform_group(&self.spec.name)
    }

    /// The transactional id of one partition of a source.
    pub fn transactional_id(&self, topic: &str, partition: PartitionIndex) -> String {
        format!("{RESERVED}{}.{topic}.{partition}", self.id.simple())
    }
}

/// The group that the offsets of a transform of this name are kept in. It outlives the transform if that is wanted.
pub fn transform_group(name: &str) -> String {
    format!("{RESERVED}{name}")
}

/// Whether a group or a transactional id belongs to brokers, so that clients may look at it only.
pub fn is_reserved(id: &str) -> bool {
    id.starts_with(RESERVED)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Groups and transactional ids of transforms begin so.
const RESERVED: &str = "__transform.";
