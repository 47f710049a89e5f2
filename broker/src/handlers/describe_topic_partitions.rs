//! DescribeTopicPartitions: topics and their partitions, a page at a time (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::{self, Image};
use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millstream_kafka::wire::Text;

use super::leaders::{self, NOBODY};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers in the order of names, from the cursor on, and says where the next page begins.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = request.topics.is_empty();
    if let Some(cursor) = &request.cursor {
        let is_asked = request.topics.iter().any(|topic| topic.name == cursor.topic_name);
        if cursor.partition_index < 0 || !(all || is_asked) {
            return refused(request);
        }
    }
    let image = context.controller.image();
    let names: BTreeSet<Text> = match all {
        true => image
            .topics()
            .map(|topic| Text::from(topic.name.as_str()))
            .collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    let (from_topic, from_partition) = match request.cursor {
        Some(cursor) => (cursor.topic_name, cursor.partition_index.max(0)),
        None => (Text::default(), 0),
    };
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut answer = DescribeTopicPartitionsResponse::default();
    for name in names.range(from_topic.clone()..) {
        let first = if *name == from_topic { from_partition } else { 0 };
        if room == 0 {
            let (topic_name, partition_index) = (name.clone(), first);
            answer.next_cursor = Some(Cursor {
                topic_name,
                partition_index,
                ..Default::default()
            });
            break;
        }
        match image.topic(name) {
            Some(topic) => {
                let count = i32::try_from(image.partitions(topic).len()).unwrap_or(i32::MAX);
                let end = count.min(first.saturating_add(room));
                answer.topics.push(describe(&image, topic, first..end));
                room -= (end - first).max(0);
                if end < count {
                    let topic_name = name.clone();
                    answer.next_cursor = Some(Cursor {
                        topic_name,
                        partition_index: end,
                        ..Default::default()
                    });
                    break;
                }
            }
            None if all => {}
            None => {
                let code = match TopicName::new(name) {
                    Ok(_) => ErrorCode::UnknownTopicOrPartition,
                    Err(_) => ErrorCode::InvalidTopicException,
                };
                answer.topics.push(failed(name.clone(), code));
            }
        }
    }
    answer
}

/// The cursor is none that an answer would have given.
fn refused(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let names = request.topics.into_iter().map(|topic| topic.name);
    DescribeTopicPartitionsResponse {
        topics: names
            .map(|name| failed(name, ErrorCode::InvalidRequest))
            .collect(),
        ..Default::default()
    }
}

fn failed(name: Text, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name),
        ..Default::default()
    }
}

fn describe(
    image: &Image,
    topic: &Arc<cluster::Topic>,
    indexes: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = image.partitions(topic).iter().zip(0..);
    let wanted = partitions.filter(|(_, index)| indexes.contains(index));
    DescribeTopicPartitionsResponseTopic {
        name: Some(Text::from(topic.name.as_str())),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions: wanted
            .map(|(partition, index)| describe_partition(image, partition, index))
            .collect(),
        ..Default::default()
    }
}

fn describe_partition(
    image: &Image,
    partition: &cluster::Partition,
    partition_index: i32,
) -> DescribeTopicPartitionsResponsePartition {
    let leader = leaders::leader_of(image, partition);
    DescribeTopicPartitionsResponsePartition {
        error_code: match leader.id {
            NOBODY => ErrorCode::LeaderNotAvailable.code(),
            _ => 0,
        },
        partition_index,
        leader_id: leader.id,
        leader_epoch: leader.epoch.0,
        replica_nodes: leaders::ids(&partition.replicas),
        isr_nodes: leaders::ids(&partition.isr),
        eligible_leader_replicas: Some(leaders::ids(&partition.elr)),
        last_known_elr: Some(leaders::ids(&partition.lost)),
        offline_replicas: leaders::offline(image, partition),
        ..Default::default()
    }
}

/// Most partitions of one page, whatever is asked for: Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;
