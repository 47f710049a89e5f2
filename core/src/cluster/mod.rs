//! The image of the cluster, and the only way it changes: commands.
//!
//! [`apply`] is pure and deterministic: brokers that apply the same commands in the same order hold the same image,
//! byte for byte once encoded. One broker feeds it from a journal, a quorum of brokers feeds it from their log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::{Attachment, BrokerDefaults, ConfigError, OnError, Role, TopicConfig};
use crate::group::consumer::OwnConfigs;
use crate::ids::{BrokerId, PartitionIndex, TopicId, TopicName};

mod apply;
mod bootstrap;
mod brokers;
mod command;
mod configs;
mod elections;
mod features;
mod outcome;
mod partitions;
pub mod placement;
mod plugins;
mod reassign;
pub mod rebalance;
mod refusal;
mod topics;
mod transforms;

pub use apply::apply;
pub use brokers::Broker;
pub use command::{Command, ConfigChange, ConfigUpdate, Election, PartitionChange, Reassignment};
pub use features::FEATURE_LEVELS;
pub use outcome::{Elected, Outcome};
pub use partitions::Partition;
pub use plugins::{
    PLUGIN_NAME_CHARACTERS_MAX, Plugin, PluginLimits, PluginRef, PluginRefError, PluginUser, PluginVersion,
    World,
};
pub use refusal::{PartitionRefusal, Refusal};
pub use transforms::{
    Assigned, Canary, Guarantee, Release, Start, Transform, TransformChange, TransformRefusal, TransformSink,
    TransformSpec, Trial, is_reserved, transform_group,
};

/// Everything that all brokers agree on. Cheap to clone: topics and plugins are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Image {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    feature_level: u16,
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<TopicName, Arc<Topic>>,
    plugins: BTreeMap<String, BTreeMap<PluginVersion, Arc<Plugin>>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    transforms: BTreeMap<String, Arc<Transform>>,
    next_producer_id: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    default_broker_config: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    broker_configs: BTreeMap<BrokerId, BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    group_configs: Arc<OwnConfigs>,
    #[serde(skip)]
    names: BTreeMap<TopicId, TopicName>,
}

/// A topic or a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its id, never used again.
    pub id: TopicId,
    /// Its partitions, by index; empty for a view, which has its source's (see [`Image::partitions`]).
    pub partitions: Vec<Partition>,
    /// What it sets.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// The topic that this one is a view of.
    pub fn view_source(&self) -> Option<&str> {
        self.configs.get(VIEW_SOURCE).map(String::as_str)
    }

    /// Whether it is computed when it is read.
    pub fn is_view(&self) -> bool {
        self.view_source().is_some()
    }

    /// Whether it is one of the brokers' own.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// Its configuration over a broker's defaults.
    ///
    /// # Errors
    /// A broker default that is no value for a topic.
    pub fn config(&self, defaults: &BrokerDefaults) -> Result<TopicConfig, ConfigError> {
        TopicConfig::parse(&self.configs, defaults)
    }
}

/// Whether a topic is one of the brokers' own.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

impl Image {
    /// Counts the commands that changed the image.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The name of the cluster; none before [`Command::Bootstrap`], and for ever on a lone broker.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// What the cluster's brokers may do: no higher than all of them can.
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// What is set for one broker, or, for none, for all brokers that do not set it themselves (KIP-226).
    pub fn broker_config(&self, broker: Option<BrokerId>) -> &BTreeMap<String, String> {
        static NOTHING: BTreeMap<String, String> = BTreeMap::new();
        match broker {
            Some(id) => self.broker_configs.get(&id).unwrap_or(&NOTHING),
            None => &self.default_broker_config,
        }
    }

    /// What groups set for themselves. The same object as long as none of them changes it.
    pub fn group_configs(&self) -> &Arc<OwnConfigs> {
        &self.group_configs
    }

    /// What a group sets for itself.
    pub fn group_config(&self, group: &str) -> &BTreeMap<String, String> {
        static NOTHING: BTreeMap<String, String> = BTreeMap::new();
        self.group_configs.get(group).unwrap_or(&NOTHING)
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> &BTreeMap<BrokerId, Broker> {
        &self.brokers
    }

    /// Topics and views, in the order of names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// A topic or view, by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// A topic or view, by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// The topic that stores a view's records, through any number of views; a topic that is no view itself.
    pub fn stored_topic<'a>(&'a self, topic: &'a Arc<Topic>) -> &'a Arc<Topic> {
        let mut at = topic;
        for _ in 0..VIEW_DEPTH_MAX {
            match at.view_source().and_then(|source| self.topics.get(source)) {
                Some(source) => at = source,
                None => return at,
            }
        }
        unreachable!("no view is deeper than VIEW_DEPTH_MAX: commands that would make one are refused")
    }

    /// Partitions of a topic; a view has those of the topic that stores its records.
    pub fn partitions<'a>(&'a self, topic: &'a Arc<Topic>) -> &'a [Partition] {
        &self.stored_topic(topic).partitions
    }

    /// One partition of a topic or view.
    pub fn partition<'a>(&'a self, topic: &'a Arc<Topic>, index: PartitionIndex) -> Option<&'a Partition> {
        usize::try_from(index.0)
            .ok()
            .and_then(|n| self.partitions(topic).get(n))
    }

    /// Views that read `topic` directly.
    pub fn views_of<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Arc<Topic>> {
        self.topics
            .values()
            .filter(move |t| t.view_source() == Some(topic))
    }

    /// Every version of every plugin, in the order of names and versions.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.plugins.values().flat_map(BTreeMap::values)
    }

    /// The plugin that a reference means now.
    pub fn plugin(&self, reference: &PluginRef) -> Option<&Arc<Plugin>> {
        let versions = self.plugins.get(&reference.name)?;
        match reference.version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, plugin)| plugin),
        }
    }

    /// Deployed transforms, in the order of names.
    pub fn transforms(&self) -> impl ExactSizeIterator<Item = &Arc<Transform>> {
        self.transforms.values()
    }

    /// A deployed transform, by name.
    pub fn transform(&self, name: &str) -> Option<&Arc<Transform>> {
        self.transforms.get(name)
    }

    /// Topics whose configuration attaches this version of a plugin, by number or as the latest, and transforms that run
    /// it.
    pub fn users_of_plugin(&self, name: &str, version: PluginVersion) -> Vec<PluginUser> {
        let means_it = |plugin: &PluginRef| {
            plugin.name == name && self.plugin(plugin).is_some_and(|p| p.version == version)
        };
        let topics = self.attachments().filter(|(_, _, a)| means_it(&a.plugin));
        let topics = topics.map(|(topic, role, a)| PluginUser::Topic {
            topic: topic.name.clone(),
            role,
            reference: a.plugin,
        });
        let runs_it = |transform: &&Arc<Transform>| {
            transform
                .releases()
                .any(|release| release.plugin == name && release.version == version)
        };
        let transforms = self.transforms().filter(runs_it);
        let transforms = transforms.map(|transform| PluginUser::Transform {
            transform: transform.spec.name.clone(),
            reference: PluginRef {
                name: name.to_owned(),
                version: Some(version),
            },
        });
        topics.chain(transforms).collect()
    }

    /// Other topics that send what their plugins fail on to `topic`.
    fn dead_letter_users(&self, topic: &TopicName) -> Vec<TopicName> {
        let goes_there = |a: &Attachment| matches!(&a.on_error, OnError::DeadLetter(to) if to == topic);
        let mut users: Vec<_> = self
            .attachments()
            .filter(|(_, _, a)| goes_there(a))
            .map(|(user, _, _)| user.name.clone())
            .collect();
        users.dedup();
        users
    }

    fn attachments(&self) -> impl Iterator<Item = (&Arc<Topic>, Role, Attachment)> {
        let with_plugins = self
            .topics
            .values()
            .filter(|t| t.configs.keys().any(|k| k.starts_with(PLUGIN_CONFIGS)));
        with_plugins.flat_map(|topic| {
            let config = topic.config(&BrokerDefaults::default());
            let config = config.expect("configurations are checked before they are in the image");
            let attachments: Vec<_> = config
                .attachments()
                .map(|(role, a)| (topic, role, a.clone()))
                .collect();
            attachments
        })
    }

    /// The image as bytes: the same commands give the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an image holds nothing that JSON cannot say")
    }

    /// Reads what [`Image::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that are no image.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut image = Self::deserialize(deserializer)?;
        image.names = image
            .topics
            .values()
            .map(|topic| (topic.id, topic.name.clone()))
            .collect();
        Ok(image)
    }
}

fn is_empty(configs: &Arc<OwnConfigs>) -> bool {
    configs.is_empty()
}

fn is_zero(level: &u16) -> bool {
    *level == 0
}

/// Topics that brokers keep for themselves.
pub const INTERNAL_TOPICS: &[&str] = &[CONSUMER_OFFSETS, TRANSACTION_STATE];
/// Where group coordinators keep their state.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Where transaction coordinators keep their state.
pub const TRANSACTION_STATE: &str = "__transaction_state";
const VIEW_SOURCE: &str = "millstream.view.source";
const PLUGIN_CONFIGS: &str = "millstream.";
/// Most views between a view and the topic that stores its records, and itself.
pub const VIEW_DEPTH_MAX: usize = 8;

#[cfg(test)]
mod tests;
