//! OffsetDelete: a group forgets how far it read in some partitions (KIP-496).

use std::sync::Arc;

use millstream_core::group::GroupError;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers for every partition; an error of the group as a whole stands at the top.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let topics = &request.topics;
    let partitions: Vec<(String, i32)> = topics
        .iter()
        .flat_map(|t| {
            t.partitions
                .iter()
                .map(|p| (t.name.to_string(), p.partition_index))
        })
        .collect();
    let answers = match delete(context, &request.group_id, &partitions).await {
        Ok(answers) => answers,
        Err(error) => {
            return OffsetDeleteResponse {
                error_code: code(error).code(),
                ..Default::default()
            };
        }
    };
    let mut answers = answers.into_iter();
    let mut answered = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = context.topics.find(&topic.name, Uuid::nil());
        let partition = |index: i32| {
            let answer = answers.next().unwrap_or(Ok(()));
            let exists = known
                .as_ref()
                .is_ok_and(|topic| (0..topic.partition_count()).contains(&index));
            let error_code = match answer {
                _ if !exists => ErrorCode::UnknownTopicOrPartition.code(),
                Err(error) => code(error).code(),
                Ok(()) => 0,
            };
            OffsetDeleteResponsePartition {
                partition_index: index,
                error_code,
                ..Default::default()
            }
        };
        let partitions = topic
            .partitions
            .iter()
            .map(|p| p.partition_index)
            .map(partition)
            .collect();
        answered.push(OffsetDeleteResponseTopic {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    OffsetDeleteResponse {
        topics: answered,
        ..Default::default()
    }
}

async fn delete(
    context: &Context,
    group: &str,
    partitions: &[(String, i32)],
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    if group.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    context
        .groups
        .shard(group)?
        .call(|groups, _| groups.delete_offsets(group, partitions))
        .await?
}
