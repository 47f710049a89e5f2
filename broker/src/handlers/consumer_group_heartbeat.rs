//! ConsumerGroupHeartbeat: a member of a group of the new protocol says what it has and wants, and hears what it gets
//! (KIP-848).

use std::sync::Arc;

use millstream_core::group::consumer::{ConsumerAnswer, ConsumerHeartbeat, Partitions};
use millstream_core::group::{GroupError, Groups};
use millstream_core::ids::{PartitionIndex, TopicId};
use millstream_kafka::api::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::coordinators::group::code;

/// Answers when what the heartbeat changed is on the disk.
pub async fn handle(
    context: &Arc<Context>,
    info: &ConnectionInfo,
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    match heartbeat(context, translate(info, version, request)).await {
        Ok(heard) => answer(heard),
        Err(error) => ConsumerGroupHeartbeatResponse {
            error_code: code(error).code(),
            error_message: Some(Text::from(error.to_string())),
            ..Default::default()
        },
    }
}

async fn heartbeat(context: &Context, request: ConsumerHeartbeat) -> Result<ConsumerAnswer, GroupError> {
    let shard = context.groups.shard(&request.group)?;
    let beat = |groups: &mut Groups, now_ms| groups.consumer_heartbeat(now_ms, &request);
    shard.call(beat).await?
}

fn translate(
    info: &ConnectionInfo,
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerHeartbeat {
    let owned = |topic: TopicPartitions| {
        let partitions = topic.partitions.into_iter().map(PartitionIndex);
        (TopicId(topic.topic_id), partitions.collect())
    };
    let topics = request.subscribed_topic_names;
    ConsumerHeartbeat {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        epoch: request.member_epoch,
        instance: request.instance_id.map(|id| id.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        client_id: info.client_id.to_string(),
        client_host: format!("/{}", info.peer.ip()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: topics.map(|topics| topics.iter().map(ToString::to_string).collect()),
        pattern: request.subscribed_topic_regex.map(|pattern| pattern.to_string()),
        assignor: request.server_assignor.map(|assignor| assignor.to_string()),
        owned: request
            .topic_partitions
            .map(|topics| topics.into_iter().map(owned).collect()),
        // Later clients make their ids themselves (KIP-1082).
        unique: if version == 0 {
            Uuid::new_v4().to_string()
        } else {
            String::new()
        },
    }
}

fn answer(heard: ConsumerAnswer) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_id: Some(Text::from(heard.member)),
        member_epoch: heard.epoch,
        heartbeat_interval_ms: heard.heartbeat_interval_ms,
        assignment: heard.assignment.map(|assigned| Assignment {
            topic_partitions: topic_partitions(assigned),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn topic_partitions(assigned: Partitions) -> Vec<TopicPartitions> {
    let topics = assigned.into_iter().map(|(topic, partitions)| TopicPartitions {
        topic_id: topic.0,
        partitions: partitions.into_iter().map(|partition| partition.0).collect(),
        ..Default::default()
    });
    topics.collect()
}
