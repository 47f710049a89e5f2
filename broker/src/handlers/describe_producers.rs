//! DescribeProducers: who writes to partitions, and where their open transactions begin (KIP-664).
//!
//! Every replica answers from its own log, since the client may want to compare them.

use std::sync::Arc;

use millstream_core::ids::Offset;
use millstream_kafka::api::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use millstream_kafka::wire::Text;
use millstream_storage as storage;
use uuid::Uuid;

use super::leaders;
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::TopicLookup;

/// Answers with the producers of every partition that was asked for.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let found = context.topics.find(&topic.name, Uuid::nil());
        let indexes = topic.partition_indexes.into_iter();
        TopicResponse {
            name: topic.name,
            partitions: indexes.map(|index| answer(context, &found, index)).collect(),
            ..Default::default()
        }
    });
    DescribeProducersResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn answer(context: &Context, topic: &TopicLookup, index: i32) -> PartitionResponse {
    let mut answer = PartitionResponse {
        partition_index: index,
        ..Default::default()
    };
    let code = match topic {
        Ok(topic) => match leaders::local(context, topic, index) {
            Ok(partition) => {
                answer.active_producers = partition.producers().into_iter().map(told).collect();
                return answer;
            }
            Err(code) => code,
        },
        Err(code) => {
            // As Kafka has it: words only about topics.
            answer.error_message = Some(Text::from(code.message()));
            *code
        }
    };
    answer.error_code = code.code();
    answer
}

fn told(producer: storage::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |Offset(first)| first),
        ..Default::default()
    }
}
