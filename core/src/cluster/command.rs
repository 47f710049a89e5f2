//! Commands: everything that can happen to the image.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{Broker, Image, PluginLimits, PluginRef, PluginVersion, TransformChange, TransformSpec, World};
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicName};

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
    /// Makes an image that of a cluster: the first command of a quorum.
    Bootstrap {
        /// The cluster's name, which its certificates carry.
        cluster_id: String,
        /// What a lone broker held that grows into a cluster; none to begin with nothing.
        #[serde(default, with = "encoded")]
        image: Option<Box<Image>>,
    },
    /// Makes a broker known at its start. A lone broker serves at once; one of a cluster is fenced until
    /// [`Command::UnfenceBroker`]. Whether it is fenced or draining and its epoch are not taken from here.
    RegisterBroker {
        /// The broker.
        broker: Broker,
    },
    /// Lets a broker serve that has caught up with the image.
    UnfenceBroker {
        /// The broker.
        id: BrokerId,
        /// What its registration gave it.
        epoch: u64,
    },
    /// Takes a broker out of service that is silent, or is about to stop.
    FenceBroker {
        /// The broker.
        id: BrokerId,
        /// What its registration gave it.
        epoch: u64,
    },
    /// Says whether a broker is to be emptied: it gets no more replicas, and the rebalance plan moves those that it has.
    DrainBroker {
        /// The broker.
        id: BrokerId,
        /// False to take it back.
        draining: bool,
    },
    /// Forgets a broker that is stopped and empty.
    RemoveBroker {
        /// The broker.
        id: BrokerId,
    },
    /// Changes the in-sync replicas of partitions, as their leader saw them fall behind or catch up (KIP-497).
    AlterPartition {
        /// The leader of all of them.
        broker: BrokerId,
        /// What its registration gave it.
        broker_epoch: u64,
        /// What changes.
        changes: Vec<PartitionChange>,
    },
    /// Makes other replicas leaders (KIP-460).
    ElectLeaders {
        /// Which.
        kind: Election,
        /// Of these partitions; none for all that need it.
        partitions: Option<Vec<(TopicId, PartitionIndex)>>,
    },
    /// Moves partitions to other brokers, or takes such moves back (KIP-455).
    Reassign {
        /// What moves.
        changes: Vec<Reassignment>,
    },
    /// Changes what one broker sets, or all brokers that do not set it themselves (KIP-226).
    AlterBrokerConfigs {
        /// The broker; none for all.
        broker: Option<BrokerId>,
        /// How. Names and values are the broker's to check.
        update: ConfigUpdate,
    },
    /// Changes what a group sets for itself.
    AlterGroupConfigs {
        /// The group, which need not be there.
        group: String,
        /// How. Names and values are the broker's to check.
        update: ConfigUpdate,
    },
    /// Lets brokers do what only binaries from some version on can.
    SetFeatureLevel {
        /// The level, no lower than before.
        level: u16,
    },
    /// Lets a plugin run from topics to topics.
    DeployTransform {
        /// From where to where, and how.
        spec: TransformSpec,
        /// The plugin; the latest version is looked up now.
        plugin: PluginRef,
        /// Configuration that the plugin gets.
        config: String,
        /// Names this transform, and no later one of the same name.
        id: Uuid,
        /// When this is, in milliseconds since 1970.
        at_ms: i64,
    },
    /// Changes a transform.
    ChangeTransform {
        /// Its name.
        name: String,
        /// How.
        change: TransformChange,
        /// When this is, in milliseconds since 1970.
        at_ms: i64,
    },
    /// Removes a transform.
    DeleteTransform {
        /// Its name.
        name: String,
    },
}

/// The in-sync replicas of a partition as its leader wants them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionChange {
    /// The topic.
    pub topic: TopicId,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// The epoch that the leader leads in.
    pub leader_epoch: LeaderEpoch,
    /// The entry that the leader knows: another one means that it decided on old facts.
    pub partition_epoch: i32,
    /// The in-sync replicas from now on.
    pub isr: Vec<BrokerId>,
    /// The broker epochs of `isr`, in its order, under which they told the leader what they hold (KIP-903): one that
    /// registered again since may have lost its disk and is refused. Empty if the leader does not know them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<u64>,
    /// Version of the image that the leader decided on: a broker that came into service later does not come into sync by
    /// it. A change that was refused, because a broker was out of service, is not to be taken when it comes once more,
    /// late: the leader has stopped waiting for that broker.
    #[serde(default = "any_version")]
    pub version: u64,
}

/// What leaders that do not tell their version decided on.
fn any_version() -> u64 {
    u64::MAX
}

/// Which replica becomes leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Election {
    /// The first one, if it is in sync.
    Preferred,
    /// Any that lives, for a partition that has no other: what the others alone hold is lost.
    Unclean,
}

/// A move of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The topic.
    pub topic: TopicId,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// The brokers that are to hold it, the preferred leader first; none takes back the move that is under way.
    pub replicas: Option<Vec<BrokerId>>,
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

/// An image inside of a command, as the text that [`Image::encode`] makes: serde cannot read maps whose keys are numbers
/// inside of a tagged enum.
mod encoded {
    use super::{Deserialize, Deserializer, Image, Serialize, Serializer};

    pub fn serialize<S: Serializer>(image: &Option<Box<Image>>, serializer: S) -> Result<S::Ok, S::Error> {
        let text = image
            .as_ref()
            .map(|image| String::from_utf8(image.encode()).expect("JSON is UTF-8"));
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Image>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| Image::decode(text.as_bytes()).map(Box::new))
            .transpose()
            .map_err(serde::de::Error::custom)
    }
}
