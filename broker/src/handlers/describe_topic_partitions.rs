//! DescribeTopicPartitions: topics and their partitions, a page at a time (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::{Topic, is_internal};

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
    let names: BTreeSet<Text> = match all {
        true => context
            .topics
            .all()
            .iter()
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
        match context.topics.find(name, Uuid::nil()) {
            Ok(topic) => {
                let end = topic.partition_count().min(first.saturating_add(room));
                answer.topics.push(describe(context, &topic, first..end));
                room -= (end - first).max(0);
                if end < topic.partition_count() {
                    let topic_name = name.clone();
                    answer.next_cursor = Some(Cursor {
                        topic_name,
                        partition_index: end,
                        ..Default::default()
                    });
                    break;
                }
            }
            Err(_) if all => {}
            Err(_) => {
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
    context: &Context,
    topic: &Topic,
    indexes: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let node = context.settings.node_id;
    let partition = |partition_index| DescribeTopicPartitionsResponsePartition {
        partition_index,
        leader_id: node,
        leader_epoch: 0,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        ..Default::default()
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(Text::from(topic.name.as_str())),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions: indexes.map(partition).collect(),
        ..Default::default()
    }
}

/// Most partitions of one page, whatever is asked for: Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;
