//! The image of the cluster, and the only way it changes: commands.
//!
//! [`apply`] is pure and deterministic: brokers that apply the same commands in the same order hold the same image,
//! byte for byte once encoded. One broker feeds it from a journal, a quorum of brokers feeds it from their log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Attachment, BrokerDefaults, ConfigError, OnError, Role, TopicConfig};
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, TopicName};

mod apply;
mod plugins;
mod refusal;

pub use apply::apply;
pub use plugins::{Plugin, PluginLimits, PluginRef, PluginRefError, PluginUser, PluginVersion, World};
pub use refusal::Refusal;

/// Everything that all brokers agree on. Cheap to clone: topics and plugins are shared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    version: u64,
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<TopicName, Arc<Topic>>,
    plugins: BTreeMap<String, BTreeMap<PluginVersion, Arc<Plugin>>>,
    next_producer_id: i64,
    #[serde(skip)]
    names: BTreeMap<TopicId, TopicName>,
}

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
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

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those that hold everything that was acknowledged.
    pub isr: Vec<BrokerId>,
    /// The broker that serves it.
    pub leader: Option<BrokerId>,
    /// Counts its leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this entry.
    pub partition_epoch: i32,
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

/// A change of the image. Everything that is random or a time of day is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Makes a topic or a view.
    CreateTopic {
        /// Its name.
        name: TopicName,
        /// Its id, never used before.
        id: TopicId,
        /// The replicas of each partition, the preferred leader first. For a view as many as its source has, or none.
        partitions: Vec<Vec<BrokerId>>,
        /// What it sets.
        configs: BTreeMap<String, String>,
    },
    /// Removes a topic or a view.
    DeleteTopic {
        /// Its id.
        id: TopicId,
    },
    /// Adds partitions to a topic.
    CreatePartitions {
        /// The topic.
        topic: TopicName,
        /// The replicas of each new partition.
        added: Vec<Vec<BrokerId>>,
    },
    /// Changes what a topic sets.
    AlterConfigs {
        /// The topic.
        topic: TopicName,
        /// How.
        update: ConfigUpdate,
    },
    /// Makes a plugin known. Pushing the latest version's bytes again changes nothing.
    RegisterPlugin {
        /// Its name.
        name: String,
        /// Its version; none for the next one.
        version: Option<PluginVersion>,
        /// SHA-256 of its bytes, in hexadecimal.
        sha256: String,
        /// What it can be attached as.
        world: World,
        /// Size in bytes.
        size: u64,
        /// Its limits, unless set where it is attached.
        limits: PluginLimits,
        /// When it was pushed, in milliseconds since 1970.
        pushed_at_ms: i64,
    },
    /// Removes one version of a plugin.
    DeletePlugin {
        /// Its name.
        name: String,
        /// Its version.
        version: PluginVersion,
    },
    /// Gives a broker producer ids that nobody else gives out.
    AllocateProducerIds {
        /// The broker.
        broker: BrokerId,
        /// How many.
        count: u32,
    },
    /// Makes a broker known, or its new address.
    RegisterBroker {
        /// The broker.
        broker: Broker,
    },
}

/// How a topic's configuration changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigUpdate {
    /// To exactly this.
    Replace(BTreeMap<String, String>),
    /// By these steps, in order (KIP-339).
    Change(Vec<ConfigChange>),
}

/// One step of a change of configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigChange {
    /// Sets a value.
    Set(String, String),
    /// Goes back to the default.
    Delete(String),
    /// Adds entries to a list, unless they are in it.
    Append(String, String),
    /// Takes entries out of a list.
    Subtract(String, String),
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A broker is known.
    Broker,
}

impl Image {
    /// Counts the commands that changed the image.
    pub fn version(&self) -> u64 {
        self.version
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

    /// Topics whose configuration attaches this version of a plugin, by number or as the latest.
    pub fn users_of_plugin(&self, name: &str, version: PluginVersion) -> Vec<PluginUser> {
        self.users_of_name(name)
            .into_iter()
            .filter(|user| self.plugin(&user.reference).is_some_and(|p| p.version == version))
            .collect()
    }

    fn users_of_name(&self, name: &str) -> Vec<PluginUser> {
        let attached = self
            .attachments()
            .filter(|(_, _, attachment)| attachment.plugin.name == name);
        attached
            .map(|(topic, role, a)| PluginUser {
                topic: topic.name.clone(),
                role,
                reference: a.plugin,
            })
            .collect()
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
        let mut image: Self = serde_json::from_slice(bytes)?;
        image.names = image
            .topics
            .values()
            .map(|topic| (topic.id, topic.name.clone()))
            .collect();
        Ok(image)
    }
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
