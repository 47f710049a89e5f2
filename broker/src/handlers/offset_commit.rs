//! OffsetCommit: how far a group has read.

use std::sync::Arc;

use millstream_core::group::{CommitRequest, GroupError, Identity, OffsetCommit};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers when the offsets are on the disk.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let who = Identity {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        instance: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id_or_member_epoch,
    };
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    // Places of the offsets in the answer, in the order of the offsets.
    let mut places = Vec::new();
    for topic in request.topics {
        let found = context.topics.find(&topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let exists = found.as_ref().map_err(|code| *code).and_then(|topic| {
                let exists = (0..topic.partition_count()).contains(&asked.partition_index);
                if exists {
                    Ok(topic)
                } else {
                    Err(ErrorCode::UnknownTopicOrPartition)
                }
            });
            let error_code = match exists {
                Ok(found) => {
                    places.push((topics.len(), partitions.len()));
                    offsets.push(OffsetCommit {
                        topic: found.name.as_str().to_owned(),
                        partition: asked.partition_index,
                        offset: asked.committed_offset,
                        leader_epoch: asked.committed_leader_epoch,
                        metadata: asked
                            .committed_metadata
                            .map(|text| text.to_string())
                            .unwrap_or_default(),
                    });
                    0
                }
                Err(code) => code.code(),
            };
            let partition_index = asked.partition_index;
            partitions.push(OffsetCommitResponsePartition {
                partition_index,
                error_code,
                ..Default::default()
            });
        }
        let (name, topic_id) = (topic.name, topic.topic_id);
        topics.push(OffsetCommitResponseTopic {
            name,
            topic_id,
            partitions,
            ..Default::default()
        });
    }
    let answers = commit(context, CommitRequest { who, offsets }).await;
    for (n, (topic, partition)) in places.into_iter().enumerate() {
        let answer = answers
            .as_ref()
            .map_or_else(|error| Err(*error), |answers| answers[n]);
        topics[topic].partitions[partition].error_code = answer.err().map_or(0, |error| code(error).code());
    }
    OffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

async fn commit(
    context: &Context,
    request: CommitRequest,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let shard = context.groups.shard(&request.who.group)?;
    shard
        .call(|groups, now_ms| groups.commit(now_ms, &request))
        .await?
}
