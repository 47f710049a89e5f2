//! DeleteTopics: topics and views go, by name or by id, and groups forget how far they read in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::Command;
use millstream_core::ids::TopicId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use millstream_kafka::wire::Text;
use uuid::Uuid;

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every topic. Views of a topic that is in the same request go first.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let mut asked = request.topics;
    if version < 6 {
        let by_name = |name| DeleteTopicState {
            name: Some(name),
            ..Default::default()
        };
        asked = request.topic_names.into_iter().map(by_name).collect();
    }
    let mut responses: Vec<Option<DeletableTopicResult>> = asked.iter().map(|_| None).collect();
    let mut seen = BTreeSet::new();
    for place in views_first(context, &asked) {
        let DeleteTopicState { name, topic_id, .. } = asked[place].clone();
        let again = !seen.insert((name.clone(), topic_id));
        let deleted = match again {
            true => Err(Denied::new(
                ErrorCode::InvalidRequest,
                "the request names the topic twice",
            )),
            false => delete(context, name.as_ref(), topic_id).await,
        };
        responses[place] = Some(match deleted {
            Ok((name, topic_id)) => DeletableTopicResult {
                name: Some(name),
                topic_id,
                ..Default::default()
            },
            Err(denied) => {
                let (error_code, error_message) = (denied.code.code(), denied.text());
                DeletableTopicResult {
                    name,
                    topic_id,
                    error_code,
                    error_message,
                    ..Default::default()
                }
            }
        });
    }
    DeleteTopicsResponse {
        responses: responses.into_iter().flatten().collect(),
        ..Default::default()
    }
}

/// Places of the request, the deepest views first.
fn views_first(context: &Context, asked: &[DeleteTopicState]) -> Vec<usize> {
    let image = context.controller.image();
    let depth = |state: &DeleteTopicState| {
        let topic = match &state.name {
            Some(name) => image.topic(name),
            None => image.topic_by_id(TopicId(state.topic_id)),
        };
        let mut depth = 0;
        let mut at = topic;
        while let Some(source) = at.and_then(|topic| topic.view_source()) {
            depth += 1;
            at = image.topic(source);
        }
        depth
    };
    let mut places: Vec<usize> = (0..asked.len()).collect();
    places.sort_by_key(|place| std::cmp::Reverse(depth(&asked[*place])));
    places
}

async fn delete(context: &Arc<Context>, name: Option<&Text>, topic_id: Uuid) -> Result<(Text, Uuid), Denied> {
    if !context.settings.delete_topic_enable {
        return Err(Denied::new(
            ErrorCode::TopicDeletionDisabled,
            "delete.topic.enable is false",
        ));
    }
    if name.is_some() && !topic_id.is_nil() {
        return Err(Denied::new(
            ErrorCode::InvalidRequest,
            "a topic is named by name or by id, not by both",
        ));
    }
    let image = context.controller.image();
    let topic = match name {
        Some(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        None => image
            .topic_by_id(TopicId(topic_id))
            .ok_or(ErrorCode::UnknownTopicId),
    };
    let topic = topic.map_err(|code| Denied::new(code, "there is no such topic"))?;
    if topic.is_internal() {
        let message = format!("'{}' is an internal topic and cannot be deleted", topic.name);
        return Err(Denied::new(ErrorCode::PolicyViolation, message));
    }
    admin::apply(context, Command::DeleteTopic { id: topic.id }, false).await?;
    context.groups.forget_topic(&topic.name).await;
    Ok((Text::from(topic.name.as_str()), topic.id.0))
}
