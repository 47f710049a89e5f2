//! OffsetCommit: how far a group has read.

use std::sync::Arc;

use millstream_core::group::{CommitRequest, GroupError, Identity, OffsetCommit, Step};
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
    version: i16,
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
        let count = found.as_ref().map_or(0, |found| found.partition_count());
        let missing = match found {
            Err(_) if version >= TOPIC_IDS_FROM_VERSION => ErrorCode::UnknownTopicId,
            _ => ErrorCode::UnknownTopicOrPartition,
        };
        // As Kafka answers: what is refused without asking the group comes first, of partitions and of topics.
        let (asked, refused): (Vec<_>, Vec<_>) = topic
            .partitions
            .into_iter()
            .partition(|asked| (0..count).contains(&asked.partition_index));
        let answer = |partition_index, code: ErrorCode| OffsetCommitResponsePartition {
            partition_index,
            error_code: code.code(),
            ..Default::default()
        };
        let is_refused = !refused.is_empty();
        let mut partitions: Vec<_> = refused
            .into_iter()
            .map(|refused| answer(refused.partition_index, missing))
            .collect();
        let name = found.map_or_else(|_| String::new(), |found| found.name.as_str().to_owned());
        for asked in asked {
            places.push((topics.len(), partitions.len()));
            partitions.push(answer(asked.partition_index, ErrorCode::None));
            offsets.push(OffsetCommit {
                topic: name.clone(),
                partition: asked.partition_index,
                offset: asked.committed_offset,
                leader_epoch: asked.committed_leader_epoch,
                metadata: asked
                    .committed_metadata
                    .map(|text| text.to_string())
                    .unwrap_or_default(),
            });
        }
        let (name, topic_id) = (topic.name, topic.topic_id);
        let answered = OffsetCommitResponseTopic {
            name,
            topic_id,
            partitions,
            ..Default::default()
        };
        topics.push((is_refused, answered));
    }
    let answers = commit(context, version, CommitRequest { who, offsets }).await;
    for (n, (topic, partition)) in places.into_iter().enumerate() {
        let answer = answers
            .as_ref()
            .map_or_else(|error| Err(*error), |answers| answers[n]);
        topics[topic].1.partitions[partition].error_code = answer.err().map_or(0, |error| code(error).code());
    }
    let (first, rest): (Vec<_>, Vec<_>) = topics.into_iter().partition(|(is_refused, _)| *is_refused);
    let topics = first.into_iter().chain(rest).map(|(_, topic)| topic).collect();
    OffsetCommitResponse {
        topics,
        ..Default::default()
    }
}

async fn commit(
    context: &Context,
    version: i16,
    request: CommitRequest,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let shard = context.groups.shard(&request.who.group)?;
    shard
        .call(|groups, now_ms| {
            let who = &request.who;
            if version < 9 && groups.is_consumer_member(&who.group, &who.member) {
                return (Err(GroupError::UnsupportedVersion), Step::default());
            }
            let (answer, step) = groups.commit(now_ms, &request);
            let answer = answer.map_err(|error| match error {
                // Since version 9 a group that is not there has an error of its own (KIP-848).
                GroupError::IllegalGeneration if version >= 9 && !groups.contains(&who.group) => {
                    GroupError::GroupIdNotFound
                }
                other => other,
            });
            (answer, step)
        })
        .await?
}

/// Version of OffsetCommit from which on topics have ids in the place of names (KIP-848).
const TOPIC_IDS_FROM_VERSION: i16 = 10;
