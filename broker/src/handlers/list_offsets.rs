//! ListOffsets: the offset of a time, of the beginning, of the end (KIP-79, KIP-734).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::ids::Offset;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::partitions::Partition;
use crate::topics::TopicLookup;

/// Answers for every partition that was asked for.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut counts: BTreeMap<(Text, i32), u32> = BTreeMap::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            *counts
                .entry((topic.name.clone(), asked.partition_index))
                .or_default() += 1;
        }
    }
    for topic in request.topics {
        let found = context.topics.find(&topic.name, Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            // What is asked for twice is refused, once.
            match counts.remove(&(topic.name.clone(), asked.partition_index)) {
                Some(1) => partitions.push(answer(&found, &asked, version).await),
                Some(_) => partitions.push(ListOffsetsPartitionResponse {
                    error_code: ErrorCode::InvalidRequest.code(),
                    ..nothing(asked.partition_index)
                }),
                None => {}
            }
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

async fn answer(
    topic: &TopicLookup,
    asked: &ListOffsetsPartition,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let mut answer = nothing(asked.partition_index);
    if !is_known(asked.timestamp, version) {
        answer.error_code = ErrorCode::UnsupportedVersion.code();
        return answer;
    }
    let found = match topic {
        Ok(topic) => match topic.partition(asked.partition_index) {
            Some(partition) => match partition.check_leader_epoch(asked.current_leader_epoch) {
                Ok(()) => look_up(partition.clone(), asked.timestamp).await,
                Err(code) => Err(code),
            },
            None => Err(ErrorCode::UnknownTopicOrPartition),
        },
        Err(code) => Err(*code),
    };
    match found {
        Ok(Some((timestamp, offset))) => {
            answer.timestamp = timestamp;
            answer.offset = offset.0;
            answer.leader_epoch = 0;
        }
        Ok(None) => {}
        Err(code) => answer.error_code = code.code(),
    }
    answer
}

fn nothing(partition_index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..Default::default()
    }
}

/// Whether a version of the request knows what a negative time stands for.
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        EARLIEST.. => true,
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        _ => false,
    }
}

async fn look_up(partition: Arc<Partition>, timestamp: i64) -> Result<Option<(i64, Offset)>, ErrorCode> {
    let watermarks = partition.watermarks();
    match timestamp {
        LATEST => Ok(Some((-1, watermarks.high))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((-1, watermarks.log_start))),
        LATEST_TIERED => Ok(None),
        MAX_TIMESTAMP => search(partition, None, watermarks.high).await,
        time if time >= 0 => search(partition, Some(time), watermarks.high).await,
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Looks into segment files, which may have to come from the disk.
async fn search(
    partition: Arc<Partition>,
    timestamp: Option<i64>,
    high: Offset,
) -> Result<Option<(i64, Offset)>, ErrorCode> {
    let searched = tokio::task::spawn_blocking(move || {
        partition.with_log(|log| match timestamp {
            Some(timestamp) => log.offset_for_timestamp(timestamp),
            None => log.offset_of_max_timestamp(),
        })
    });
    match searched.await {
        Ok(Ok(found)) => Ok(found
            .map(|f| (f.timestamp, f.offset))
            .filter(|(_, offset)| *offset < high)),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot search the log by time");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(_) => Err(ErrorCode::UnknownServerError),
    }
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
