//! DeleteRecords: partitions forget their oldest records (KIP-107).

use std::sync::Arc;

use millstream_core::ids::Offset;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use uuid::Uuid;

use super::leaders;
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::TopicLookup;

/// Answers for every partition with its first offset.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = context.topics.find(&topic.name, Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let deleted = delete(context, &found, asked.partition_index, asked.offset).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: deleted.map_or(-1, |Offset(offset)| offset),
                error_code: deleted.err().map_or(0, ErrorCode::code),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

async fn delete(
    context: &Context,
    topic: &TopicLookup,
    index: i32,
    before: i64,
) -> Result<Offset, ErrorCode> {
    let topic = topic.as_ref().map_err(|code| *code)?;
    if topic.view().is_some() {
        return Err(ErrorCode::PolicyViolation);
    }
    if crate::topics::is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let partition = leaders::led(context, topic, index)?;
    let watermarks = partition.watermarks();
    let before = match before {
        HIGH_WATERMARK => watermarks.high,
        offset if offset < 0 => return Err(ErrorCode::OffsetOutOfRange),
        offset => Offset(offset),
    };
    if before > watermarks.high {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if before <= watermarks.log_start {
        return Ok(watermarks.log_start);
    }
    let deleted = tokio::task::spawn_blocking(move || partition.delete_records_before(before)).await;
    match deleted {
        Ok(Ok(start)) => Ok(start),
        Ok(Err(error)) => {
            tracing::error!(topic = %topic.name, partition = index, %error, "records cannot be deleted");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(_) => Err(ErrorCode::UnknownServerError),
    }
}

/// Stands for everything that consumers can see.
const HIGH_WATERMARK: i64 = -1;
