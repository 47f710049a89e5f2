//! AlterConfigs: a topic's configuration is replaced as a whole. IncrementalAlterConfigs is the better way.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::{Command, ConfigUpdate};
use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::admin::{self, Denied};
use super::describe_configs::{BROKER, TOPIC};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every resource.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    let key = |resource: &&AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let (_, repeated) = admin::split_repeated(request.resources.iter().collect(), key);
    for resource in &request.resources {
        let altered = match repeated.contains(&key(&resource)) {
            true => Some(Denied::new(
                ErrorCode::InvalidRequest,
                "the request names the resource twice",
            )),
            false => alter(context, resource, request.validate_only).await.err(),
        };
        responses.push(AlterConfigsResourceResponse {
            error_code: altered.as_ref().map_or(0, |denied| denied.code.code()),
            error_message: altered.as_ref().and_then(Denied::text),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        });
    }
    AlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

async fn alter(
    context: &Arc<Context>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Denied> {
    let mut configs = BTreeMap::new();
    for config in &resource.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            Denied::new(
                ErrorCode::InvalidRequest,
                format!("topic config '{}' has no value", &*config.name),
            )
        })?;
        if configs
            .insert(config.name.to_string(), value.to_string())
            .is_some()
        {
            let message = format!("topic config '{}' is in the request twice", &*config.name);
            return Err(Denied::new(ErrorCode::InvalidRequest, message));
        }
    }
    let command = Command::AlterConfigs {
        topic: topic_of(resource.resource_type, &resource.resource_name)?,
        update: ConfigUpdate::Replace(configs),
    };
    admin::apply(context, command, validate_only).await.map(|_| ())
}

/// The topic that a resource is.
///
/// # Errors
/// It is something else: a broker reads its settings when it starts.
pub(super) fn topic_of(resource_type: i8, name: &str) -> Result<TopicName, Denied> {
    match resource_type {
        TOPIC if name.is_empty() => {
            let message = "there are no configurations that all topics share";
            Err(Denied::new(ErrorCode::InvalidRequest, message))
        }
        TOPIC => TopicName::new(name)
            .map_err(|error| Denied::new(ErrorCode::InvalidTopicException, error.to_string())),
        BROKER => {
            let message = "a broker reads its settings when it starts: change them there";
            Err(Denied::new(ErrorCode::InvalidRequest, message))
        }
        _ => Err(Denied::new(
            ErrorCode::InvalidRequest,
            "only topics can be configured",
        )),
    }
}
