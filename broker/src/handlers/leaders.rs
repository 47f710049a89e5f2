//! Who leads and holds partitions, and where those brokers are, as clients are told.
//!
//! All of it is read off one image, so that an answer never mixes two of them.

use std::sync::Arc;

use millstream_core::cluster::{Broker, Image, Partition};
use millstream_core::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use millstream_kafka::ErrorCode;
use uuid::Uuid;

use crate::context::Context;
use crate::topics::Topic;

/// Stands for no broker.
pub const NOBODY: i32 = -1;

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its broker, or [`NOBODY`].
    pub id: i32,
    /// Which of the partition's leaders it is.
    pub epoch: LeaderEpoch,
}

/// Brokers that an answer has to name the addresses of (KIP-951).
#[derive(Debug, Default)]
pub struct Named(Vec<BrokerId>);

impl Named {
    /// Notes a leader that an answer names.
    pub fn add(&mut self, leader: Leader) {
        let id = BrokerId(leader.id);
        if leader.id != NOBODY && !self.0.contains(&id) {
            self.0.push(id);
        }
    }

    /// Those of them that serve now.
    pub fn endpoints(self, image: &Image) -> Vec<Broker> {
        let known = self.0.into_iter().filter_map(|id| serving(image, id).cloned());
        known.collect()
    }
}

/// A broker that is not fenced.
pub fn serving(image: &Image, id: BrokerId) -> Option<&Broker> {
    image.brokers().get(&id).filter(|broker| !broker.fenced)
}

/// The leader of a partition; nobody where there is no such partition, or its leader does not serve.
pub fn leader(image: &Image, topic: Uuid, index: i32) -> Option<Leader> {
    let topic = image.topic_by_id(TopicId(topic))?;
    let partition = image.partition(topic, PartitionIndex(index))?;
    Some(leader_of(image, partition))
}

/// The leader of a partition of the image; nobody where it does not serve.
pub fn leader_of(image: &Image, partition: &Partition) -> Leader {
    let id = partition.leader.filter(|id| serving(image, *id).is_some());
    Leader {
        id: id.map_or(NOBODY, |id| id.0),
        epoch: partition.leader_epoch,
    }
}

/// The broker that clients are told is the controller: this one. Every broker takes what is the controller's to do and
/// hands it to the quorum's leader, as Kafka's brokers do (KIP-590), so a client needs no second connection.
pub fn controller_id(context: &Context) -> i32 {
    context.settings.node_id
}

/// Kafka's ids of brokers.
pub fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

/// Those replicas of a partition that do not serve.
pub fn offline(image: &Image, partition: &Partition) -> Vec<i32> {
    let replicas = partition.replicas.iter();
    let offline = replicas.filter(|id| serving(image, **id).is_none());
    offline.map(|id| id.0).collect()
}

/// A partition of which this broker is to do something that needs its log.
///
/// # Errors
/// There is no such partition; or it is on other brokers, or not served here.
pub fn local(
    context: &Context,
    topic: &Topic,
    index: i32,
) -> Result<Arc<crate::partitions::Partition>, ErrorCode> {
    if let Some(partition) = topic.partition(index) {
        return Ok(partition.clone());
    }
    let image = context.controller.image();
    let me = BrokerId(context.settings.node_id);
    let described = image
        .topic_by_id(TopicId(topic.id))
        .and_then(|described| image.partition(described, PartitionIndex(index)));
    match described {
        Some(partition) if partition.leader != Some(me) => Err(ErrorCode::NotLeaderOrFollower),
        // It does not exist, or its log cannot be opened.
        _ => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// A partition that this broker leads.
///
/// # Errors
/// As [`local`]; or another broker leads.
pub fn led(
    context: &Context,
    topic: &Topic,
    index: i32,
) -> Result<Arc<crate::partitions::Partition>, ErrorCode> {
    let partition = local(context, topic, index)?;
    match partition.is_leader() {
        true => Ok(partition),
        false => Err(ErrorCode::NotLeaderOrFollower),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use millstream_core::cluster::{self, Command};
    use millstream_core::ids::TopicName;

    use super::*;

    /// Brokers that serve, each in a rack of its own.
    pub fn cluster_of(brokers: i32) -> Image {
        let mut image = Image::default();
        let bootstrap = Command::Bootstrap {
            cluster_id: "c".to_owned(),
            image: None,
        };
        cluster::apply(&mut image, &bootstrap).unwrap();
        for id in 1..=brokers {
            let broker = Broker {
                id: BrokerId(id),
                host: format!("host{id}"),
                port: 9092,
                rack: Some(format!("rack{id}")),
                peer: Some(format!("host{id}:9190")),
                incarnation: id as u64,
                storage: Uuid::from_u128(id as u128),
                features: (image.feature_level(), image.feature_level()),
                ..Broker::default()
            };
            cluster::apply(&mut image, &Command::RegisterBroker { broker }).unwrap();
            let epoch = image.brokers()[&BrokerId(id)].epoch;
            let id = BrokerId(id);
            cluster::apply(&mut image, &Command::UnfenceBroker { id, epoch }).unwrap();
        }
        image
    }

    /// Makes a topic of one partition, or a view.
    pub fn create(image: &mut Image, name: &str, replicas: &[i32], source: Option<&str>) -> Uuid {
        let id = Uuid::new_v4();
        let partitions = match source {
            None => vec![replicas.iter().copied().map(BrokerId).collect()],
            Some(_) => Vec::new(),
        };
        let configs = source.map(|source| ("millstream.view.source".to_owned(), source.to_owned()));
        let command = Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId(id),
            partitions,
            configs: configs.into_iter().collect(),
        };
        cluster::apply(image, &command).unwrap();
        id
    }

    #[test]
    fn a_view_is_led_by_whoever_leads_its_source_and_a_fenced_broker_leads_nothing() {
        let mut image = cluster_of(3);
        create(&mut image, "a", &[2, 3], None);
        let view = create(&mut image, "v", &[], Some("a"));
        assert_eq!(leader(&image, view, 0).unwrap().id, 2);
        assert_eq!(leader(&image, view, 1), None);
        for id in [BrokerId(2), BrokerId(3)] {
            let epoch = image.brokers()[&id].epoch;
            cluster::apply(&mut image, &Command::FenceBroker { id, epoch }).unwrap();
        }
        assert_eq!(leader(&image, view, 0).unwrap().id, NOBODY);
        let topic = image.topic("a").unwrap();
        let partition = image.partition(topic, PartitionIndex(0)).unwrap();
        assert_eq!(offline(&image, partition), [2, 3]);
    }

    #[test]
    fn a_broker_is_named_once_and_only_while_it_serves() {
        let mut image = cluster_of(2);
        let epoch = image.brokers()[&BrokerId(2)].epoch;
        let id = BrokerId(2);
        cluster::apply(&mut image, &Command::FenceBroker { id, epoch }).unwrap();
        let mut named = Named::default();
        for id in [1, 2, NOBODY, 1] {
            named.add(Leader {
                id,
                epoch: LeaderEpoch(0),
            });
        }
        let endpoints = named.endpoints(&image);
        assert_eq!(endpoints.iter().map(|b| b.id.0).collect::<Vec<_>>(), [1]);
    }
}
