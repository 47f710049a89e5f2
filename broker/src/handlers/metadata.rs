//! Metadata: which topics there are, and who leads their partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::topics::{Topic, is_internal};

/// Answers for the topics that were asked for, creating unknown ones where that is wanted and allowed.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let node = context.settings.node_id;
    let (host, port) = context.advertised();
    let broker = MetadataResponseBroker {
        node_id: node,
        host: Text::from(host.as_str()),
        port: i32::from(port),
        rack: context.settings.broker_rack.as_deref().map(Text::from),
        ..Default::default()
    };
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if all {
        context
            .topics
            .all()
            .iter()
            .map(|topic| describe(context, topic))
            .collect()
    } else {
        let may_create =
            context.settings.auto_create_topics_enable && (version < 4 || request.allow_auto_topic_creation);
        let mut topics = Vec::new();
        let mut seen = BTreeSet::new();
        for asked in request.topics.unwrap_or_default() {
            // An id says more than a name. What is asked for twice is told once.
            let name = asked.name.filter(|_| asked.topic_id.is_nil());
            if seen.insert((name.clone(), asked.topic_id)) {
                topics.push(look_up(context, name, asked.topic_id, may_create).await);
            }
        }
        topics
    };
    MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some(Text::from(context.cluster_id.as_str())),
        controller_id: node,
        topics,
        ..Default::default()
    }
}

async fn look_up(
    context: &Arc<Context>,
    name: Option<Text>,
    topic_id: Uuid,
    may_create: bool,
) -> MetadataResponseTopic {
    let found = context.topics.find(name.as_deref().unwrap_or_default(), topic_id);
    let error = match found {
        Ok(topic) => return describe(context, &topic),
        Err(error) => error,
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
    match context.controller.create_topic_with_defaults(valid).await {
        Ok(topic) => describe(context, &topic),
        Err(refusal) => unknown(refusal.code),
    }
}

fn describe(context: &Context, topic: &Topic) -> MetadataResponseTopic {
    let node = context.settings.node_id;
    let partitions = (0..topic.partition_count())
        .map(|index| MetadataResponsePartition {
            partition_index: index,
            leader_id: node,
            leader_epoch: 0,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..Default::default()
        })
        .collect();
    MetadataResponseTopic {
        name: Some(Text::from(topic.name.as_str())),
        topic_id: topic.id,
        is_internal: is_internal(&topic.name),
        partitions,
        ..Default::default()
    }
}
