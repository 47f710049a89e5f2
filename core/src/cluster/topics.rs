//! Topics and views: how they are made, changed and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::configs::updated_topic;
use super::transforms::{TransformRefusal, check_dead_letters_of, check_view_source};
use super::{ConfigUpdate, Image, Outcome, Partition, Plugin, Refusal, Topic, VIEW_DEPTH_MAX};
use crate::config::{BrokerDefaults, ConfigError, OnError, Role, TopicConfig};
use crate::ids::{BrokerId, TopicId, TopicName};

pub(super) fn create_topic(
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
            new_partitions(image, 0, partitions)?
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

pub(super) fn delete_topic(image: &mut Image, id: TopicId) -> Result<Outcome, Refusal> {
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
    let transforms = image.transforms_of(&topic.name);
    let transforms: Vec<String> = transforms.map(|t| t.spec.name.clone()).collect();
    if !transforms.is_empty() {
        let topic = topic.name.clone();
        return Err(TransformRefusal::TopicInUse { topic, transforms }.into());
    }
    image.topics.remove(&topic.name);
    image.names.remove(&id);
    Ok(Outcome::TopicDeleted(topic))
}

pub(super) fn create_partitions(
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
    let added = new_partitions(image, count, added)?;
    let mut topic = Topic::clone(topic);
    topic.partitions.extend(added);
    Ok(replace_topic(image, topic))
}

pub(super) fn alter_configs(
    image: &mut Image,
    name: &TopicName,
    update: &ConfigUpdate,
) -> Result<Outcome, Refusal> {
    let Some(topic) = image.topic(name) else {
        // As Kafka has it, what is wrong by itself is told first.
        TopicConfig::parse(
            &updated_topic(&BTreeMap::new(), update)?,
            &BrokerDefaults::default(),
        )?;
        return Err(Refusal::UnknownTopic(name.to_string()));
    };
    let configs = updated_topic(&topic.configs, update)?;
    let config = check_configs(image, name, &configs)?;
    if config.view_source.is_some() != topic.is_view() {
        return Err(Refusal::ViewOrNot(name.clone()));
    }
    if let Some(source) = &config.view_source {
        check_view(image, name, source, image.partitions(topic).len())?;
        check_view_source(image, name, source)?;
    }
    check_dead_letters_of(image, name, &config)?;
    let mut topic = Topic::clone(topic);
    topic.configs = configs;
    replace_topic(image, topic);
    image.settle_eligible();
    let altered = image.topic(name).expect("the topic was put there just now");
    Ok(Outcome::Topic(altered.clone()))
}

/// Checks a configuration by itself and against the plugins that there are.
fn check_configs(
    image: &Image,
    name: &TopicName,
    configs: &BTreeMap<String, String>,
) -> Result<TopicConfig, Refusal> {
    let config = TopicConfig::parse(configs, &BrokerDefaults::default())?;
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

pub(super) fn wrong_world(plugin: &Plugin, role: Role) -> Refusal {
    let role = match role {
        Role::Partitioner => "partitioner",
        Role::Ingest => "ingest plugin",
        Role::View => "view plugin",
    };
    Refusal::WrongWorld {
        plugin: format!("{}@{}", plugin.name, plugin.version),
        world: plugin.world,
        role: role.into(),
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

fn new_partitions(
    image: &Image,
    first: usize,
    replicas: &[Vec<BrokerId>],
) -> Result<Vec<Partition>, Refusal> {
    let numbered = replicas.iter().enumerate();
    numbered
        .map(|(n, replicas)| new_partition(image, first + n, replicas))
        .collect()
}

/// A partition that has no records: all of its brokers are in sync that are in service. A lone broker has no others.
fn new_partition(image: &Image, partition: usize, replicas: &[BrokerId]) -> Result<Partition, Refusal> {
    let distinct: BTreeSet<_> = replicas.iter().collect();
    if replicas.is_empty() || distinct.len() != replicas.len() {
        return Err(Refusal::Replicas {
            partition,
            replicas: replicas.to_vec(),
        });
    }
    let mut isr = replicas.to_vec();
    if image.cluster_id.is_some() {
        if let Some(broker) = replicas.iter().find(|id| !image.brokers.contains_key(id)) {
            let broker = *broker;
            return Err(Refusal::UnknownReplica { partition, broker });
        }
        isr.retain(|id| !image.brokers[id].fenced);
    }
    let Some(leader) = isr.first().copied() else {
        return Err(Refusal::NoLiveReplica {
            partition,
            replicas: replicas.to_vec(),
        });
    };
    Ok(Partition {
        replicas: replicas.to_vec(),
        isr,
        leader: Some(leader),
        ..Partition::default()
    })
}

fn replace_topic(image: &mut Image, topic: Topic) -> Outcome {
    let topic = Arc::new(topic);
    image.topics.insert(topic.name.clone(), topic.clone());
    Outcome::Topic(topic)
}

/// Most partitions of one topic.
const PARTITIONS_PER_TOPIC_MAX: usize = 100_000;
