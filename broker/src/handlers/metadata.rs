//! Metadata: which topics there are, and who leads their partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::{self, Image};
use millstream_core::ids::{TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::leaders::{self, NOBODY};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for the topics that were asked for, creating unknown ones where that is wanted and allowed.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    context.controller.leaders_are_settled().await;
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if all {
        let image = context.controller.image();
        let topics = image.topics().map(|topic| describe(&image, topic, version));
        topics.collect()
    } else {
        let may_create =
            context.settings.auto_create_topics_enable && (version < 4 || request.allow_auto_topic_creation);
        let mut topics = Vec::new();
        let mut seen = BTreeSet::new();
        for asked in request.topics.unwrap_or_default() {
            // An id says more than a name. What is asked for twice is told once.
            let name = asked.name.filter(|_| asked.topic_id.is_nil());
            if seen.insert((name.clone(), asked.topic_id)) {
                topics.push(look_up(context, version, name, asked.topic_id, may_create).await);
            }
        }
        topics
    };
    // The last image knows where all leaders are that those before it named.
    let image = context.controller.image();
    let brokers = image.brokers().values();
    let told = brokers.filter(|broker| context.controller.is_told(broker));
    let brokers = told.map(|broker| MetadataResponseBroker {
        node_id: broker.id.0,
        host: Text::from(broker.host.as_str()),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(Text::from),
        ..Default::default()
    });
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: Some(Text::from(context.cluster_id.as_str())),
        controller_id: leaders::controller_id(context),
        topics,
        ..Default::default()
    }
}

async fn look_up(
    context: &Arc<Context>,
    version: i16,
    name: Option<Text>,
    topic_id: Uuid,
    may_create: bool,
) -> MetadataResponseTopic {
    let image = context.controller.image();
    let (found, error) = match name.as_deref() {
        Some(name) if !name.is_empty() || topic_id.is_nil() => {
            (image.topic(name), ErrorCode::UnknownTopicOrPartition)
        }
        _ => (
            image.topic_by_id(TopicId(topic_id)),
            match topic_id.is_nil() {
                true => ErrorCode::UnknownTopicOrPartition,
                false => ErrorCode::UnknownTopicId,
            },
        ),
    };
    if let Some(topic) = found {
        return describe(&image, topic, version);
    }
    let (error, may_create) = match context.controller.is_out_of_room() {
        // It may have been made meanwhile: whoever asks is to ask again, and somebody else.
        true => (ErrorCode::LeaderNotAvailable, false),
        false => (error, may_create),
    };
    let unknown = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: name.clone(),
        topic_id,
        ..Default::default()
    };
    let Some(asked) = name.as_deref() else {
        return unknown(error);
    };
    let Ok(valid) = TopicName::new(asked) else {
        return unknown(ErrorCode::InvalidTopicException);
    };
    if !may_create {
        return unknown(error);
    }
    if let Err(refusal) = context.controller.create_topic_with_defaults(valid).await {
        return unknown(match refusal.code {
            ErrorCode::RequestTimedOut => ErrorCode::LeaderNotAvailable,
            code => code,
        });
    }
    let image = context.controller.image();
    match image.topic(asked) {
        Some(topic) => describe(&image, topic, version),
        // It was deleted at once.
        None => unknown(error),
    }
}

fn describe(image: &Image, topic: &Arc<cluster::Topic>, version: i16) -> MetadataResponseTopic {
    let partitions = image.partitions(topic).iter().zip(0..);
    MetadataResponseTopic {
        name: Some(Text::from(topic.name.as_str())),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions: partitions
            .map(|(partition, index)| describe_partition(image, partition, index, version))
            .collect(),
        ..Default::default()
    }
}

fn describe_partition(
    image: &Image,
    partition: &cluster::Partition,
    partition_index: i32,
    version: i16,
) -> MetadataResponsePartition {
    let leader = leaders::leader_of(image, partition);
    let offline_replicas = leaders::offline(image, partition);
    let (mut replica_nodes, mut isr_nodes) =
        (leaders::ids(&partition.replicas), leaders::ids(&partition.isr));
    let mut error_code = match leader.id {
        NOBODY => ErrorCode::LeaderNotAvailable.code(),
        _ => 0,
    };
    if version == 0 && !offline_replicas.is_empty() {
        // Clients of that time know only of brokers that serve.
        replica_nodes.retain(|id| !offline_replicas.contains(id));
        isr_nodes.retain(|id| !offline_replicas.contains(id));
        if error_code == 0 {
            error_code = ErrorCode::ReplicaNotAvailable.code();
        }
    }
    MetadataResponsePartition {
        error_code,
        partition_index,
        leader_id: leader.id,
        leader_epoch: leader.epoch.0,
        replica_nodes,
        isr_nodes,
        offline_replicas,
        ..Default::default()
    }
}
