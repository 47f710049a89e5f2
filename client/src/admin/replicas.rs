//! Where partitions lie and who leads them: describe, move, elect.

use std::collections::BTreeMap;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use millstream_kafka::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, TopicRequest,
};
use millstream_kafka::api::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use millstream_kafka::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use millstream_kafka::api::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use millstream_kafka::wire::Text;

use super::Admin;
use super::offsets::{ask_leader, refreshed};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// Who becomes leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any replica that lives, where none is in sync: records may be lost.
    Unclean,
}

/// A move of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The partition.
    pub at: TopicPartition,
    /// Brokers that are to hold it, the preferred leader first; `None` takes back the move that is under way.
    pub replicas: Option<Vec<i32>>,
}

/// A move that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReassignmentUnderWay {
    /// The partition.
    pub at: TopicPartition,
    /// Brokers that hold it now, with those that it moves to.
    pub replicas: Vec<i32>,
    /// Those that did not hold it before.
    pub adding: Vec<i32>,
    /// Those that will no longer hold it.
    pub removing: Vec<i32>,
}

/// A partition as the controller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReplicas {
    /// Its index.
    pub index: i32,
    /// Broker that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// Epoch of the leader.
    pub leader_epoch: i32,
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those that hold everything that was acknowledged.
    pub in_sync: Vec<i32>,
    /// Those that may lead besides and lose nothing (KIP-966).
    pub eligible: Vec<i32>,
    /// Those that are not there.
    pub offline: Vec<i32>,
}

impl Admin {
    /// Begins moves, or takes them back. Gives what became of each, in their order.
    ///
    /// # Errors
    /// The request as a whole was refused.
    pub async fn reassign(&self, moves: &[Reassignment]) -> Result<Vec<(TopicPartition, Result<()>)>> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for asked in moves {
            let partition = ReassignablePartition {
                partition_index: asked.at.partition,
                replicas: asked.replicas.clone(),
                ..Default::default()
            };
            topics.entry(&asked.at.topic).or_default().push(partition);
        }
        let topic = |(name, partitions)| ReassignableTopic {
            name: Text::from(name),
            partitions,
            ..Default::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.limit().as_millis() as i32,
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        Error::check(answer.error_code, answer.error_message.as_deref(), || {
            "moving partitions".to_owned()
        })?;
        let mut found = BTreeMap::new();
        for topic in &answer.responses {
            for p in &topic.partitions {
                let at = TopicPartition::new(&*topic.name, p.partition_index);
                let what = || format!("moving {at}");
                let moved = Error::check(p.error_code, p.error_message.as_deref(), what);
                found.insert(at, moved);
            }
        }
        Ok(in_order(moves.iter().map(|asked| &asked.at), found))
    }

    /// Moves that are under way: of these partitions, or all.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<ReassignmentUnderWay>> {
        let topics = partitions.map(|partitions| {
            let topic = |(name, partition_indexes)| ListPartitionReassignmentsTopics {
                name: Text::from(name),
                partition_indexes,
                ..Default::default()
            };
            by_topic(partitions).into_iter().map(topic).collect()
        });
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.limit().as_millis() as i32,
            topics,
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        Error::check(answer.error_code, answer.error_message.as_deref(), || {
            "listing moves".to_owned()
        })?;
        let mut found = Vec::new();
        for topic in answer.topics {
            found.extend(topic.partitions.into_iter().map(|p| ReassignmentUnderWay {
                at: TopicPartition::new(&*topic.name, p.partition_index),
                replicas: p.replicas,
                adding: p.adding_replicas,
                removing: p.removing_replicas,
            }));
        }
        Ok(found)
    }

    /// Elects leaders: of these partitions, or of all that need it. Gives what became of each; a partition that has
    /// the right leader already is an error only where it was named.
    ///
    /// # Errors
    /// The request as a whole was refused.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<(TopicPartition, Result<()>)>> {
        let topic_partitions = partitions.map(|partitions| {
            let topic = |(name, partitions)| TopicPartitions {
                topic: Text::from(name),
                partitions,
                ..Default::default()
            };
            by_topic(partitions).into_iter().map(topic).collect()
        });
        let request = ElectLeadersRequest {
            election_type: match election {
                Election::Preferred => 0,
                Election::Unclean => 1,
            },
            topic_partitions,
            timeout_ms: self.limit().as_millis() as i32,
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        Error::check(answer.error_code, None, || "electing leaders".to_owned())?;
        let mut found = BTreeMap::new();
        for topic in &answer.replica_election_results {
            for p in &topic.partition_result {
                let at = TopicPartition::new(&*topic.topic, p.partition_id);
                let what = || format!("electing a leader of {at}");
                let elected = Error::check(p.error_code, p.error_message.as_deref(), what);
                found.insert(at, elected);
            }
        }
        Ok(match partitions {
            Some(partitions) => in_order(partitions.iter(), found),
            None => found.into_iter().collect(),
        })
    }

    /// Where the terms up to this one end in the log of the partition's leader: what a leader of a later term begins
    /// with.
    ///
    /// # Errors
    /// The partition has no leader, or does not exist.
    pub async fn end_of_epoch(&self, at: &TopicPartition, leader_epoch: i32) -> Result<i64> {
        let partition = OffsetForLeaderPartition {
            partition: at.partition,
            leader_epoch,
            ..Default::default()
        };
        let topic = OffsetForLeaderTopic {
            topic: Text::from(at.topic.as_str()),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        self.client
            .retry(|| async {
                let seen = self.client.metadata();
                let answer = ask_leader(&self.client, at, &seen, &request).await?;
                let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                let what = || format!("the end of an epoch of {at}");
                let Some(found) = partitions.find(|p| p.partition == at.partition) else {
                    return Err(super::topics::said_nothing(what()));
                };
                let checked = Error::check(found.error_code, None, what);
                refreshed(&self.client, &at.topic, &seen, checked).await?;
                Ok(found.end_offset)
            })
            .await
    }

    /// The partitions of a topic, with everything that is known of their replicas.
    ///
    /// # Errors
    /// The topic does not exist, or brokers are too old to tell.
    pub async fn topic_replicas(&self, topic: &str) -> Result<Vec<PartitionReplicas>> {
        let mut found: Vec<PartitionReplicas> = Vec::new();
        let mut cursor = None;
        loop {
            let asked = TopicRequest {
                name: Text::from(topic),
                ..Default::default()
            };
            let request = DescribeTopicPartitionsRequest {
                topics: vec![asked],
                cursor,
                ..Default::default()
            };
            let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
            for told in answer.topics {
                Error::check(told.error_code, None, || format!("topic '{topic}'"))?;
                found.extend(told.partitions.into_iter().map(|p| PartitionReplicas {
                    index: p.partition_index,
                    leader: (p.leader_id >= 0).then_some(p.leader_id),
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes,
                    in_sync: p.isr_nodes,
                    eligible: p.eligible_leader_replicas.unwrap_or_default(),
                    offline: p.offline_replicas,
                }));
            }
            // A page that brings nothing new would be asked for again and again.
            let next = answer.next_cursor.map(|next| next.partition_index);
            let last = found.last().map_or(-1, |partition| partition.index);
            match next.filter(|next| *next > last) {
                Some(partition_index) => {
                    cursor = Some(Cursor {
                        topic_name: Text::from(topic),
                        partition_index,
                        ..Default::default()
                    });
                }
                None => return Ok(found),
            }
        }
    }
}

fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(&at.topic).or_default().push(at.partition);
    }
    topics
}

/// Results in the order of what was asked for; an error for what the answer leaves out.
fn in_order<'a>(
    asked: impl Iterator<Item = &'a TopicPartition>,
    mut found: BTreeMap<TopicPartition, Result<()>>,
) -> Vec<(TopicPartition, Result<()>)> {
    let result = |at: &TopicPartition| {
        let told = found.remove(at).unwrap_or_else(|| {
            Err(Error::Broker {
                what: at.to_string(),
                code: ErrorCode::UnknownServerError,
                message: Some("the broker's answer does not mention it".to_owned()),
            })
        });
        (at.clone(), told)
    };
    asked.map(result).collect()
}
