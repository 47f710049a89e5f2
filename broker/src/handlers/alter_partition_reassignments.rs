//! AlterPartitionReassignments: partitions move to other brokers, or such moves are taken back (KIP-455, KIP-860).

use std::sync::Arc;

use millstream_core::cluster::{Command, Image, Outcome, Reassignment};
use millstream_core::ids::{BrokerId, PartitionIndex};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every partition; those that can move do although others cannot.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = context.controller.image();
    let may_change_factor = request.allow_replication_factor_change;
    let asked = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let checked = partitions.map(|p| check(&image, &topic.name, p, may_change_factor));
        checked.collect::<Vec<_>>()
    });
    let mut asked: Vec<Vec<Result<Reassignment, Denied>>> = asked.collect();
    let changes: Vec<_> = asked.iter().flatten().flatten().cloned().collect();
    let outcome = match changes.is_empty() {
        true => Ok(Outcome::Partitions(Vec::new())),
        false => admin::apply(context, Command::Reassign { changes }, false).await,
    };
    let mut response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_factor,
        ..Default::default()
    };
    let mut results = match outcome {
        Ok(Outcome::Partitions(results)) => results.into_iter(),
        Ok(_) => unreachable!("a reassignment comes to what became of its partitions"),
        Err(denied) => {
            response.error_code = denied.code.code();
            response.error_message = denied.text();
            return response;
        }
    };
    for (topic, checked) in request.topics.into_iter().zip(&mut asked) {
        let partitions = topic.partitions.iter().zip(checked);
        let answered = partitions.map(|(partition, checked)| {
            let denied = match checked {
                Ok(_) => results
                    .next()
                    .and_then(Result::err)
                    .map(|refusal| admin::partition_denied(&refusal)),
                Err(denied) => Some(denied.clone()),
            };
            ReassignablePartitionResponse {
                partition_index: partition.partition_index,
                error_code: denied.as_ref().map_or(0, |denied| denied.code.code()),
                error_message: denied.as_ref().and_then(Denied::text),
                ..Default::default()
            }
        });
        response.responses.push(ReassignableTopicResponse {
            partitions: answered.collect(),
            name: topic.name,
            ..Default::default()
        });
    }
    response
}

/// What is asked for, as the controller understands it.
fn check(
    image: &Image,
    topic: &str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<Reassignment, Denied> {
    let found = image.topic(topic).ok_or_else(|| {
        let message = format!("there is no topic '{topic}'");
        Denied::new(ErrorCode::UnknownTopicOrPartition, message)
    })?;
    let index = PartitionIndex(asked.partition_index);
    let stored = image.stored_partition(found.id, index);
    let (_, partition) = stored.map_err(|refusal| admin::partition_denied(&refusal))?;
    let replicas = asked
        .replicas
        .as_ref()
        .map(|ids| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>());
    let factor = partition.origin().len();
    if let Some(replicas) = &replicas
        && !may_change_factor
        && replicas.len() != factor
    {
        let message = format!(
            "the partition has {factor} replicas and would have {}",
            replicas.len()
        );
        return Err(Denied::new(ErrorCode::InvalidReplicationFactor, message));
    }
    Ok(Reassignment {
        topic: found.id,
        partition: index,
        replicas,
    })
}
