//! OffsetForLeaderEpoch: where a leader's epoch ended, so that clients notice what was truncated (KIP-320).

use std::sync::Arc;

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use uuid::Uuid;

use super::leaders;
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::TopicLookup;

/// Answers for every partition.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = context.topics.find(&topic.topic, Uuid::nil());
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| answer(context, &found, asked))
            .collect();
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
            ..Default::default()
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

fn answer(context: &Context, topic: &TopicLookup, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset {
        partition: asked.partition,
        leader_epoch: -1,
        end_offset: -1,
        ..Default::default()
    };
    match look_up(context, topic, asked) {
        Ok(Some((epoch, end))) => EpochEndOffset {
            leader_epoch: epoch.0,
            end_offset: end.0,
            ..answer
        },
        Ok(None) => answer,
        Err(code) => EpochEndOffset {
            error_code: code.code(),
            ..answer
        },
    }
}

fn look_up(
    context: &Context,
    topic: &TopicLookup,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let topic = topic.as_ref().map_err(|code| *code)?;
    let partition = leaders::led(context, topic, asked.partition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    Ok(partition.end_of_leader_epoch(LeaderEpoch(asked.leader_epoch)))
}
