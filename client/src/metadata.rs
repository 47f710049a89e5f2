//! What the client knows of the cluster: brokers, topics, who leads which partition.

use std::collections::BTreeMap;
use std::fmt;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::metadata::{MetadataResponse, MetadataResponseTopic};
use uuid::Uuid;

/// A partition of a topic, by name and index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: String,
    /// Index of the partition.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker that clients can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Host it told clients to use.
    pub host: String,
    /// Port it told clients to use.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<String>,
}

impl Broker {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A partition: its leader and replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Index.
    pub index: i32,
    /// Broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// Epoch of the leader.
    pub leader_epoch: i32,
    /// Brokers that store it.
    pub replicas: Vec<i32>,
    /// Brokers whose copy is complete.
    pub in_sync: Vec<i32>,
}

/// A topic and its partitions, in order of their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Id that stays with it for life.
    pub id: Uuid,
    /// Whether it is one of the cluster's own.
    pub internal: bool,
    /// Its partitions, in order.
    pub partitions: Vec<Partition>,
}

/// A picture of the cluster, at one time.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// Id of the cluster.
    pub cluster_id: Option<String>,
    /// Broker that takes administrative requests.
    pub controller: Option<i32>,
    /// Brokers by id.
    pub brokers: BTreeMap<i32, Broker>,
    /// Topics by name: those that were asked for.
    pub topics: BTreeMap<String, Topic>,
    /// Topics that were asked for and cannot be used, and why.
    pub failed: BTreeMap<String, ErrorCode>,
}

impl Metadata {
    /// Replaces brokers, and of the topics those that the answer tells of.
    pub(crate) fn merge(&mut self, answer: MetadataResponse, all_topics: bool) {
        self.cluster_id = answer.cluster_id.as_deref().map(str::to_owned);
        self.controller = (answer.controller_id >= 0).then_some(answer.controller_id);
        self.brokers = answer
            .brokers
            .iter()
            .filter_map(|b| {
                let port = u16::try_from(b.port).ok()?;
                let rack = b.rack.as_deref().map(str::to_owned);
                Some((
                    b.node_id,
                    Broker {
                        id: b.node_id,
                        host: b.host.to_string(),
                        port,
                        rack,
                    },
                ))
            })
            .collect();
        if all_topics {
            self.topics.clear();
            self.failed.clear();
        }
        for topic in answer.topics {
            let Some(name) = topic.name.as_deref().map(str::to_owned) else {
                continue;
            };
            match ErrorCode::from_i16(topic.error_code) {
                // A topic that is just being created has partitions without a leader, which the partitions say.
                ErrorCode::None | ErrorCode::LeaderNotAvailable => {
                    self.failed.remove(&name);
                    self.topics.insert(name.clone(), read_topic(name, &topic));
                }
                code => {
                    self.topics.remove(&name);
                    self.failed.insert(name, code);
                }
            }
        }
    }

    /// The same with another leader of a partition; `None` if that is not newer, or the leader is nobody that is known.
    pub(crate) fn with_leader(
        &self,
        at: &TopicPartition,
        leader: i32,
        epoch: i32,
        endpoint: Option<Broker>,
    ) -> Option<Self> {
        let index = usize::try_from(at.partition).ok()?;
        let known = self.topics.get(&at.topic)?.partitions.get(index)?;
        if epoch <= known.leader_epoch || endpoint.is_none() && !self.brokers.contains_key(&leader) {
            return None;
        }
        let mut changed = self.clone();
        if let Some(broker) = endpoint {
            changed.brokers.insert(leader, broker);
        }
        let partition = changed.topics.get_mut(&at.topic)?.partitions.get_mut(index)?;
        partition.leader = Some(leader);
        partition.leader_epoch = epoch;
        Some(changed)
    }

    /// The leader of a partition, where the topic, the partition and its leader are known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&Broker> {
        let index = usize::try_from(partition).ok()?;
        self.brokers
            .get(&self.topics.get(topic)?.partitions.get(index)?.leader?)
    }
}

fn read_topic(name: String, answer: &MetadataResponseTopic) -> Topic {
    let mut partitions: Vec<Partition> = answer
        .partitions
        .iter()
        .map(|p| Partition {
            index: p.partition_index,
            leader: (p.leader_id >= 0).then_some(p.leader_id),
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.clone(),
            in_sync: p.isr_nodes.clone(),
        })
        .collect();
    partitions.sort_unstable_by_key(|p| p.index);
    partitions.dedup_by_key(|p| p.index);
    // An index is also a place in the list: a server that leaves holes is believed up to the first of them.
    let whole = partitions
        .iter()
        .zip(0..)
        .take_while(|(p, place)| p.index == *place)
        .count();
    partitions.truncate(whole);
    Topic {
        name,
        id: answer.topic_id,
        internal: answer.is_internal,
        partitions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32) -> Broker {
        Broker {
            id,
            host: "h".to_owned(),
            port: 9092,
            rack: None,
        }
    }

    #[test]
    fn a_newer_leader_is_taken_over_and_no_other() {
        let partition = Partition {
            index: 0,
            leader: Some(1),
            leader_epoch: 4,
            replicas: vec![1, 2],
            in_sync: vec![1, 2],
        };
        let topic = Topic {
            name: "t".to_owned(),
            id: Uuid::nil(),
            internal: false,
            partitions: vec![partition],
        };
        let metadata = Metadata {
            brokers: [(1, broker(1))].into(),
            topics: [("t".to_owned(), topic)].into(),
            ..Default::default()
        };
        let at = TopicPartition::new("t", 0);
        let led_by = |leader, epoch, endpoint| {
            let changed = metadata.with_leader(&at, leader, epoch, endpoint)?;
            changed.leader("t", 0).map(|broker| broker.id)
        };
        assert_eq!(led_by(2, 5, Some(broker(2))), Some(2));
        assert_eq!(led_by(1, 5, None), Some(1));
        assert_eq!(led_by(2, 5, None), None);
        assert_eq!(led_by(2, 4, Some(broker(2))), None);
        assert_eq!(led_by(-1, 5, None), None);
        let beyond = TopicPartition::new("t", 1);
        assert!(metadata.with_leader(&beyond, 2, 5, Some(broker(2))).is_none());
    }
}
