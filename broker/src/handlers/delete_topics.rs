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
    let named: BTreeSet<Text> = asked.iter().filter_map(|state| state.name.clone()).collect();
    let (asked, repeated) = admin::split_repeated(asked, |state| identity(context, state));
    let mut responses: Vec<Option<DeletableTopicResult>> = asked.iter().map(|_| None).collect();
    for place in views_first(context, &asked) {
        let DeleteTopicState { name, topic_id, .. } = asked[place].clone();
        responses[place] = Some(match delete(context, name.as_ref(), topic_id).await {
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
    responses.extend(repeated.into_iter().map(|(name, topic_id)| {
        Some(DeletableTopicResult {
            name: name.filter(|name| named.contains(name)),
            topic_id,
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some(Text::from("the request names the topic twice")),
            ..Default::default()
        })
    }));
    DeleteTopicsResponse {
        responses: responses.into_iter().flatten().collect(),
        ..Default::default()
    }
}

/// What a topic is known by, whether the request names it by name or by id.
fn identity(context: &Context, state: &DeleteTopicState) -> (Option<Text>, Uuid) {
    if state.name.is_some() {
        return (state.name.clone(), Uuid::nil());
    }
    let image = context.controller.image();
    match image.topic_by_id(TopicId(state.topic_id)) {
        Some(topic) => (Some(Text::from(topic.name.as_str())), Uuid::nil()),
        None => (None, state.topic_id),
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
    if name.is_some() != topic_id.is_nil() {
        return Err(Denied::new(
            ErrorCode::InvalidRequest,
            "a topic is named by name or by id, by one of them",
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
