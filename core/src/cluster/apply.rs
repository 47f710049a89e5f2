//! What each command does to the image, and when it is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plugins::check_plugin_name;
use super::{
    Command, ConfigChange, ConfigUpdate, Image, Outcome, Partition, Plugin, PluginRef, PluginVersion,
    Refusal, Topic, VIEW_DEPTH_MAX, is_internal,
};
use crate::config::{BrokerDefaults, ConfigError, Kind, OnError, Role, TopicConfig, definition};
use crate::ids::{BrokerId, LeaderEpoch, ProducerId, TopicId, TopicName};

/// Applies a command to the image.
///
/// # Errors
/// Why the command cannot be; the image is untouched then.
pub fn apply(image: &mut Image, command: &Command) -> Result<Outcome, Refusal> {
    let outcome = match command {
        Command::CreateTopic {
            name,
            id,
            partitions,
            configs,
        } => create_topic(image, name, *id, partitions, configs),
        Command::DeleteTopic { id } => delete_topic(image, *id),
        Command::CreatePartitions { topic, added } => create_partitions(image, topic, added),
        Command::AlterConfigs { topic, update } => alter_configs(image, topic, update),
        Command::RegisterPlugin {
            name,
            version,
            sha256,
            world,
            size,
            limits,
            pushed_at_ms,
        } => {
            let plugin = |version| Plugin {
                name: name.clone(),
                version,
                sha256: sha256.clone(),
                world: *world,
                size: *size,
                limits: limits.clone(),
                pushed_at_ms: *pushed_at_ms,
            };
            register_plugin(image, name, *version, plugin)
        }
        Command::DeletePlugin { name, version } => delete_plugin(image, name, *version),
        Command::AllocateProducerIds { broker: _, count } => allocate_producer_ids(image, *count),
        Command::RegisterBroker { broker } => {
            image.brokers.insert(broker.id, broker.clone());
            Ok(Outcome::Broker)
        }
    }?;
    if !matches!(outcome, Outcome::Plugin { created: false, .. }) {
        image.version += 1;
    }
    Ok(outcome)
}

fn create_topic(
    image: &mut Image,
    name: &TopicName,
    id: TopicId,
    partitions: &[Vec<BrokerId>],
    configs: &BTreeMap<String, String>,
) -> Result<Outcome, Refusal> {
    if image.topics.contains_key(name) {
        return Err(Refusal::TopicExists(name.clone()));
    }
    if image.names.contains_key(&id) {
        return Err(Refusal::TopicIdExists(name.clone()));
    }
    let collides = |existing: &&TopicName| existing.collides_with(name);
    if name.has_collision_characters()
        && let Some(existing) = image.topics.keys().find(collides)
    {
        return Err(Refusal::TopicCollides {
            name: name.clone(),
            existing: existing.clone(),
        });
    }
    let config = check_configs(image, name, configs)?;
    let stored = match &config.view_source {
        Some(source) => {
            check_view(image, name, source, partitions.len())?;
            Vec::new()
        }
        None => {
            check_partition_count(partitions.len())?;
            new_partitions(0, partitions)?
        }
    };
    let topic = Arc::new(Topic {
        name: name.clone(),
        id,
        partitions: stored,
        configs: configs.clone(),
    });
    image.topics.insert(name.clone(), topic.clone());
    image.names.insert(id, name.clone());
    Ok(Outcome::Topic(topic))
}

fn delete_topic(image: &mut Image, id: TopicId) -> Result<Outcome, Refusal> {
    let topic = image
        .topic_by_id(id)
        .ok_or_else(|| Refusal::UnknownTopic(id.to_string()))?
        .clone();
    let views: Vec<TopicName> = image
        .views_of(&topic.name)
        .map(|view| view.name.clone())
        .collect();
    if !views.is_empty() {
        return Err(Refusal::ReadByViews {
            topic: topic.name.clone(),
            views,
        });
    }
    let users = image.dead_letter_users(&topic.name);
    if !users.is_empty() {
        return Err(Refusal::DeadLetterOf {
            topic: topic.name.clone(),
            users,
        });
    }
    image.topics.remove(&topic.name);
    image.names.remove(&id);
    Ok(Outcome::TopicDeleted(topic))
}

fn create_partitions(
    image: &mut Image,
    name: &TopicName,
    added: &[Vec<BrokerId>],
) -> Result<Outcome, Refusal> {
    let topic = image
        .topic(name)
        .ok_or_else(|| Refusal::UnknownTopic(name.to_string()))?;
    let count = image.partitions(topic).len();
    if topic.is_view() {
        let asked = count + added.len();
        return Err(Refusal::ViewPartitions {
            view: name.clone(),
            asked,
            source_count: count,
        });
    }
    if added.is_empty() {
        return Err(Refusal::PartitionCount {
            asked: 0,
            max: PARTITIONS_PER_TOPIC_MAX,
        });
    }
    check_partition_count(count + added.len())?;
    let added = new_partitions(count, added)?;
    let mut topic = Topic::clone(topic);
    topic.partitions.extend(added);
    Ok(replace_topic(image, topic))
}

fn alter_configs(image: &mut Image, name: &TopicName, update: &ConfigUpdate) -> Result<Outcome, Refusal> {
    let configs = |before: &BTreeMap<String, String>| match update {
        ConfigUpdate::Replace(configs) => Ok(configs.clone()),
        ConfigUpdate::Change(changes) => changed(before, changes),
    };
    let Some(topic) = image.topic(name) else {
        // As Kafka has it, what is wrong by itself is told first.
        TopicConfig::parse(&configs(&BTreeMap::new())?, &BrokerDefaults::default())?;
        return Err(Refusal::UnknownTopic(name.to_string()));
    };
    let configs = configs(&topic.configs)?;
    let config = check_configs(image, name, &configs)?;
    if config.view_source.is_some() != topic.is_view() {
        return Err(Refusal::ViewOrNot(name.clone()));
    }
    if let Some(source) = &config.view_source {
        check_view(image, name, source, image.partitions(topic).len())?;
    }
    let mut topic = Topic::clone(topic);
    topic.configs = configs;
    Ok(replace_topic(image, topic))
}

/// The configuration after some steps.
fn changed(
    configs: &BTreeMap<String, String>,
    changes: &[ConfigChange],
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut configs = configs.clone();
    for change in changes {
        match change {
            ConfigChange::Set(name, value) => {
                configs.insert(name.clone(), value.clone());
            }
            ConfigChange::Delete(name) => {
                configs.remove(name);
            }
            ConfigChange::Append(name, value) => {
                let mut entries = entries(&configs, name)?;
                let more = value
                    .split(',')
                    .filter(|e| !entries.iter().any(|known| known == e));
                let more: Vec<String> = more.map(str::to_owned).collect();
                entries.extend(more);
                configs.insert(name.clone(), entries.join(","));
            }
            ConfigChange::Subtract(name, value) => {
                let mut entries = entries(&configs, name)?;
                entries.retain(|entry| !value.split(',').any(|gone| gone == entry));
                configs.insert(name.clone(), entries.join(","));
            }
        }
    }
    Ok(configs)
}

/// The entries of a list, as the topic or Kafka's default has them.
fn entries(configs: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, ConfigError> {
    let definition = definition(name)?;
    if definition.kind != Kind::List {
        return Err(ConfigError::Conflict {
            name: definition.name,
            reason: "is not a list".to_owned(),
        });
    }
    let value = configs
        .get(name)
        .map(String::as_str)
        .or(definition.default)
        .unwrap_or_default();
    Ok(value
        .split(',')
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Checks a configuration by itself and against the plugins that there are.
fn check_configs(
    image: &Image,
    name: &TopicName,
    configs: &BTreeMap<String, String>,
) -> Result<TopicConfig, Refusal> {
    let config = TopicConfig::parse(configs, &BrokerDefaults::default())?;
    if config.compact && !is_internal(name) {
        let value = configs.get("cleanup.policy").cloned().unwrap_or_default();
        let reason = "logs are not compacted yet; use 'delete'";
        return Err(ConfigError::NotBuilt {
            name: "cleanup.policy",
            value,
            reason,
        }
        .into());
    }
    for (role, attachment) in config.attachments() {
        let reference = &attachment.plugin;
        let plugin = image
            .plugin(reference)
            .ok_or_else(|| Refusal::UnknownPlugin(reference.to_string()))?;
        if !plugin.world.serves(role) {
            return Err(wrong_world(plugin, role));
        }
        if let OnError::DeadLetter(topic) = &attachment.on_error {
            let reason = match image.topic(topic) {
                _ if topic == name => "the dead-letter topic is the topic itself",
                None => "there is no such dead-letter topic",
                Some(found) if found.is_view() => "the dead-letter topic is a view",
                Some(_) => continue,
            };
            return Err(ConfigError::invalid("millstream.ingest", topic, reason).into());
        }
    }
    Ok(config)
}

fn wrong_world(plugin: &Plugin, role: Role) -> Refusal {
    let role = match role {
        Role::Partitioner => "partitioner",
        Role::Ingest => "ingest plugin",
        Role::View => "view plugin",
    };
    Refusal::WrongWorld {
        plugin: format!("{}@{}", plugin.name, plugin.version),
        world: plugin.world,
        role,
    }
}

/// Checks a view's source: it exists, has the right number of partitions, and does not lead back to the view.
fn check_view(image: &Image, view: &TopicName, source: &TopicName, partitions: usize) -> Result<(), Refusal> {
    let mut path = vec![view.clone(), source.clone()];
    let mut at = source.clone();
    while at != *view {
        let Some(topic) = image.topic(&at) else {
            return Err(Refusal::UnknownSource {
                view: view.clone(),
                source_topic: source.clone(),
            });
        };
        let Some(next) = topic.view_source() else { break };
        at = TopicName::new(next).expect("configurations are checked before they are in the image");
        path.push(at.clone());
    }
    if at == *view {
        return Err(Refusal::ViewCycle(path));
    }
    if path.len() + depth_above(image, view) > VIEW_DEPTH_MAX {
        return Err(Refusal::ViewTooDeep(view.clone()));
    }
    let source = image
        .topic(source)
        .expect("the path from the view begins with it");
    let source_count = image.partitions(source).len();
    if source.is_internal() {
        let reason = "internal topics cannot be read through a view";
        return Err(ConfigError::invalid("millstream.view.source", &source.name, reason).into());
    }
    if partitions != 0 && partitions != source_count {
        return Err(Refusal::ViewPartitions {
            view: view.clone(),
            asked: partitions,
            source_count,
        });
    }
    Ok(())
}

/// How many views stand on top of each other above `view`.
fn depth_above(image: &Image, view: &TopicName) -> usize {
    image
        .views_of(view)
        .map(|above| 1 + depth_above(image, &above.name))
        .max()
        .unwrap_or(0)
}

fn check_partition_count(asked: usize) -> Result<(), Refusal> {
    match asked {
        1..=PARTITIONS_PER_TOPIC_MAX => Ok(()),
        _ => Err(Refusal::PartitionCount {
            asked,
            max: PARTITIONS_PER_TOPIC_MAX,
        }),
    }
}

fn new_partitions(first: usize, replicas: &[Vec<BrokerId>]) -> Result<Vec<Partition>, Refusal> {
    let make = |(n, replicas): (usize, &Vec<BrokerId>)| {
        let distinct: BTreeSet<_> = replicas.iter().collect();
        if replicas.is_empty() || distinct.len() != replicas.len() {
            return Err(Refusal::Replicas {
                partition: first + n,
                replicas: replicas.clone(),
            });
        }
        Ok(Partition {
            replicas: replicas.clone(),
            isr: replicas.clone(),
            leader: replicas.first().copied(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
        })
    };
    replicas.iter().enumerate().map(make).collect()
}

fn replace_topic(image: &mut Image, topic: Topic) -> Outcome {
    let topic = Arc::new(topic);
    image.topics.insert(topic.name.clone(), topic.clone());
    Outcome::Topic(topic)
}

fn register_plugin(
    image: &mut Image,
    name: &str,
    version: Option<PluginVersion>,
    plugin: impl Fn(PluginVersion) -> Plugin,
) -> Result<Outcome, Refusal> {
    check_plugin_name(name)?;
    let known = image.plugins.get(name);
    let latest = known
        .and_then(|versions| versions.last_key_value())
        .map(|(_, plugin)| plugin);
    let version = match (version, latest) {
        (Some(version), _) => version,
        (None, None) => PluginVersion::FIRST,
        (None, Some(latest)) if latest.is_same(&plugin(latest.version)) => latest.version,
        (None, Some(latest)) => latest
            .version
            .next()
            .ok_or(Refusal::Exhausted("plugin versions"))?,
    };
    let plugin = Arc::new(plugin(version));
    if let Some(existing) = known.and_then(|versions| versions.get(&version)) {
        return match existing.is_same(&plugin) {
            true => Ok(Outcome::Plugin {
                plugin: existing.clone(),
                created: false,
            }),
            false => Err(Refusal::PluginVersionExists {
                name: name.to_owned(),
                version,
            }),
        };
    }
    if latest.is_none_or(|latest| latest.version < version) {
        let floating = image
            .users_of_name(name)
            .into_iter()
            .filter(|user| user.reference.version.is_none());
        for user in floating {
            if !plugin.world.serves(user.role) {
                return Err(wrong_world(&plugin, user.role));
            }
        }
    }
    image
        .plugins
        .entry(name.to_owned())
        .or_default()
        .insert(version, plugin.clone());
    Ok(Outcome::Plugin {
        plugin,
        created: true,
    })
}

impl Plugin {
    /// Whether pushing `other` would change nothing.
    fn is_same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.world == other.world && self.limits == other.limits
    }
}

fn delete_plugin(image: &mut Image, name: &str, version: PluginVersion) -> Result<Outcome, Refusal> {
    let reference = PluginRef {
        name: name.to_owned(),
        version: Some(version),
    };
    let plugin = image
        .plugin(&reference)
        .ok_or_else(|| Refusal::UnknownPlugin(reference.to_string()))?
        .clone();
    let users = image.users_of_plugin(name, version);
    if !users.is_empty() {
        return Err(Refusal::PluginInUse {
            plugin: reference.to_string(),
            users,
        });
    }
    if let Some(versions) = image.plugins.get_mut(name) {
        versions.remove(&version);
        if versions.is_empty() {
            image.plugins.remove(name);
        }
    }
    Ok(Outcome::PluginDeleted(plugin))
}

fn allocate_producer_ids(image: &mut Image, count: u32) -> Result<Outcome, Refusal> {
    let first = image.next_producer_id;
    let next = first
        .checked_add(i64::from(count))
        .filter(|next| *next < PRODUCER_ID_END);
    image.next_producer_id = next.ok_or(Refusal::Exhausted("producer ids"))?;
    Ok(Outcome::ProducerIds {
        first: ProducerId(first),
        count,
    })
}

/// Most partitions of one topic.
const PARTITIONS_PER_TOPIC_MAX: usize = 100_000;
/// Producer ids end here: above are those that partitioners derive, with the entrance partition in their upper bits.
const PRODUCER_ID_END: i64 = ProducerId::DERIVED_FROM;
