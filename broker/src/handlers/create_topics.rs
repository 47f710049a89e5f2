//! CreateTopics: topics and views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::cluster::{Command, Topic, placement};
use millstream_core::config;
use millstream_core::ids::{BrokerId, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every topic; those that can be are made although others cannot.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<Text> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(&topic.name))
        .map(|topic| topic.name.clone())
        .collect();
    let mut refused = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let name = asked.name.clone();
        if repeated.contains(&name) && !refused.insert(name.clone()) {
            // A repeated name is answered once.
            continue;
        }
        let created = match repeated.contains(&name) {
            true => Err(Denied::new(
                ErrorCode::InvalidRequest,
                "the request names the topic twice",
            )),
            false => create(context, asked, request.validate_only).await,
        };
        topics.push(match created {
            Ok(result) => result,
            Err(denied) => CreatableTopicResult {
                name,
                error_code: denied.code.code(),
                error_message: denied.text(),
                num_partitions: -1,
                replication_factor: -1,
                configs: Some(Vec::new()),
                ..Default::default()
            },
        });
    }
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

async fn create(
    context: &Arc<Context>,
    asked: CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Denied> {
    let command = command(context, &asked)?;
    let outcome = admin::apply(context, command, validate_only).await?;
    let millstream_core::cluster::Outcome::Topic(topic) = outcome else {
        return Err(Denied::new(
            ErrorCode::UnknownServerError,
            "the controller answered something else",
        ));
    };
    Ok(describe(context, &topic, validate_only))
}

/// The command that makes a topic as it is asked for.
///
/// # Errors
/// Names, numbers or brokers that cannot be.
pub fn command(context: &Context, asked: &CreatableTopic) -> Result<Command, Denied> {
    let name = TopicName::new(&asked.name)
        .map_err(|error| Denied::new(ErrorCode::InvalidTopicException, error.to_string()))?;
    let configs: BTreeMap<String, String> = asked
        .configs
        .iter()
        .map(|c| match &c.value {
            Some(value) => Ok((c.name.to_string(), value.to_string())),
            None => Err(Denied::new(
                ErrorCode::InvalidConfig,
                format!("topic config '{}' has no value", &*c.name),
            )),
        })
        .collect::<Result<_, _>>()?;
    let id = TopicId(Uuid::new_v4());
    let is_view = configs.contains_key("millstream.view.source");
    let partitions = partitions(context, asked, is_view, id)?;
    admin::check_partition_bound(context, partitions.len())?;
    Ok(Command::CreateTopic {
        name,
        id,
        partitions,
        configs,
    })
}

/// Replicas of the partitions that are asked for; none for a view that leaves the number to its source.
fn partitions(
    context: &Context,
    asked: &CreatableTopic,
    is_view: bool,
    id: TopicId,
) -> Result<Vec<Vec<BrokerId>>, Denied> {
    if !asked.assignments.is_empty() {
        if asked.num_partitions != -1 || asked.replication_factor != -1 {
            let message = "a replica assignment excludes a number of partitions and a replication factor";
            return Err(Denied::new(ErrorCode::InvalidRequest, message));
        }
        return assigned(context, &asked.assignments);
    }
    let factor = factor(context, asked.replication_factor)?;
    let count = match asked.num_partitions {
        -1 if is_view => return Ok(Vec::new()),
        -1 => context.settings.num_partitions,
        count if count < 1 => {
            let message = "the number of partitions must be larger than 0, or -1 for the default";
            return Err(Denied::new(ErrorCode::InvalidPartitions, message));
        }
        count if count > context.settings.partitions_max => {
            let message = format!(
                "{count} partitions are beyond millstream.partitions.max={}",
                context.settings.partitions_max
            );
            return Err(Denied::new(ErrorCode::InvalidPartitions, message));
        }
        count => count,
    };
    let image = context.controller.image();
    placement::place(&image, count as usize, factor, id.0.as_u64_pair().1)
        .map_err(|refusal| admin::denied(&refusal))
}

/// Replicas of each partition. A lone broker keeps the one copy that it can, whatever its default is.
fn factor(context: &Context, asked: i16) -> Result<usize, Denied> {
    let is_alone = context.controller.image().cluster_id().is_none();
    match asked {
        -1 if is_alone => Ok(1),
        -1 => Ok(context.settings.default_replication_factor as usize),
        asked if asked < 1 => {
            let message = "the replication factor must be larger than 0, or -1 for the default";
            Err(Denied::new(ErrorCode::InvalidReplicationFactor, message))
        }
        asked if is_alone && asked > 1 => {
            let message = format!("replication factor {asked} is larger than the 1 broker that there is");
            Err(Denied::new(ErrorCode::InvalidReplicationFactor, message))
        }
        asked => Ok(asked as usize),
    }
}

fn assigned(
    context: &Context,
    assignments: &[CreatableReplicaAssignment],
) -> Result<Vec<Vec<BrokerId>>, Denied> {
    let by_index: BTreeMap<i32, &Vec<i32>> = assignments
        .iter()
        .map(|a| (a.partition_index, &a.broker_ids))
        .collect();
    let consecutive = by_index.keys().copied().eq(0..assignments.len() as i32);
    if !consecutive {
        let message = "the replica assignment must name the partitions from 0 on, each once";
        return Err(Denied::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let chosen: Vec<_> = by_index
        .values()
        .map(|brokers| admin::chosen_replicas(context, brokers))
        .collect::<Result<_, _>>()?;
    admin::check_equal_factors(chosen.iter())?;
    Ok(chosen)
}

fn describe(context: &Context, topic: &Topic, validate_only: bool) -> CreatableTopicResult {
    let image = context.controller.image();
    let partitions = match topic.view_source().and_then(|source| image.topic(source)) {
        Some(source) => image.partitions(source),
        None => &topic.partitions,
    };
    let factor = partitions
        .first()
        .map_or(1, |partition| partition.settled().len());
    let config = |described: config::Described| CreatableTopicConfigs {
        name: Text::from(described.name),
        value: described.value.map(Text::from),
        config_source: described.source as i8,
        ..Default::default()
    };
    let configs = config::describe(&topic.configs, &admin::broker_defaults(context));
    CreatableTopicResult {
        name: Text::from(topic.name.as_str()),
        topic_id: if validate_only { Uuid::nil() } else { topic.id.0 },
        num_partitions: partitions.len() as i32,
        replication_factor: factor as i16,
        configs: Some(configs.into_iter().map(config).collect()),
        ..Default::default()
    }
}
