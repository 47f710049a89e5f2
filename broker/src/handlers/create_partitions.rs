//! CreatePartitions: topics grow.

use std::sync::Arc;

use millstream_core::cluster::{Command, placement};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every topic.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let (asked, repeated) = admin::split_repeated(request.topics, |topic| topic.name.clone());
    let mut results = Vec::with_capacity(asked.len() + repeated.len());
    let result = |name, denied: Option<&Denied>| CreatePartitionsTopicResult {
        name,
        error_code: denied.map_or(0, |denied| denied.code.code()),
        error_message: denied.and_then(Denied::text),
        ..Default::default()
    };
    for topic in asked {
        let name = topic.name.clone();
        let refused = grow(context, topic, request.validate_only).await.err();
        results.push(result(name, refused.as_ref()));
    }
    let twice = Denied::new(ErrorCode::InvalidRequest, "the request names the topic twice");
    results.extend(repeated.into_iter().map(|name| result(name, Some(&twice))));
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

async fn grow(
    context: &Arc<Context>,
    asked: CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Denied> {
    let image = context.controller.image();
    let topic = image
        .topic(&asked.name)
        .ok_or_else(|| Denied::new(ErrorCode::UnknownTopicOrPartition, "there is no such topic"))?;
    let invalid = |message: String| Denied::new(ErrorCode::InvalidPartitions, message);
    let there = image.partitions(topic).len() as i32;
    if topic.is_internal() {
        return Err(invalid(format!(
            "'{}' is an internal topic: groups would lie elsewhere",
            topic.name
        )));
    }
    if topic.is_view() {
        return Err(invalid(format!(
            "'{}' is a view and grows with its source",
            topic.name
        )));
    }
    if asked.count <= there {
        let how = if asked.count == there {
            "already has"
        } else {
            "has more, namely"
        };
        return Err(invalid(format!("'{}' {how} {there} partitions", topic.name)));
    }
    let more = asked.count - there;
    admin::check_partition_bound(context, more as usize)?;
    let added = match &asked.assignments {
        None => placement::place_more(&image, topic, more as usize, topic.id.0.as_u64_pair().1)
            .map_err(|refusal| admin::denied(&refusal))?,
        Some(chosen) if chosen.len() != more as usize => {
            let message = format!("{more} partitions are added and {} assigned", chosen.len());
            return Err(Denied::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Some(chosen) => {
            let chosen: Vec<_> = chosen
                .iter()
                .map(|c| admin::chosen_replicas(context, &c.broker_ids))
                .collect::<Result<_, _>>()?;
            let first = topic
                .partitions
                .first()
                .map(|partition| partition.settled().to_vec());
            admin::check_equal_factors(first.iter().chain(&chosen))?;
            chosen
        }
    };
    let command = Command::CreatePartitions {
        topic: topic.name.clone(),
        added,
    };
    admin::apply(context, command, validate_only).await.map(|_| ())
}
