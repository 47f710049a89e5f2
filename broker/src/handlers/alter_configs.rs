//! AlterConfigs: what a topic, a broker or a group sets is replaced as a whole. IncrementalAlterConfigs is the better way.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::{Command, ConfigChange, ConfigUpdate};
use millstream_core::ids::{BrokerId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};

use super::admin::{self, Denied};
use super::describe_configs::{BROKER, GROUP, TOPIC};
use crate::broker_configs;
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
                format!("config '{}' has no value", &*config.name),
            )
        })?;
        if configs
            .insert(config.name.to_string(), value.to_string())
            .is_some()
        {
            let message = format!("config '{}' is in the request twice", &*config.name);
            return Err(Denied::new(ErrorCode::InvalidRequest, message));
        }
    }
    let resource = resource_of(context, resource.resource_type, &resource.resource_name)?;
    change(context, resource, ConfigUpdate::Replace(configs), validate_only).await
}

/// What has a configuration.
pub(super) enum Resource {
    /// A topic.
    Topic(TopicName),
    /// A broker, or, without one, all that do not set it themselves.
    Broker(Option<BrokerId>),
    /// A group, which need not be there.
    Group(String),
}

/// The topic, broker or group that a resource is.
///
/// # Errors
/// It is something else, or a broker that is not there.
pub(super) fn resource_of(context: &Context, resource_type: i8, name: &str) -> Result<Resource, Denied> {
    let invalid = |message: String| Err(Denied::new(ErrorCode::InvalidRequest, message));
    match resource_type {
        TOPIC if name.is_empty() => invalid("there are no configurations that all topics share".to_owned()),
        TOPIC => TopicName::new(name)
            .map(Resource::Topic)
            .map_err(|error| Denied::new(ErrorCode::InvalidTopicException, error.to_string())),
        BROKER if name.is_empty() => Ok(Resource::Broker(None)),
        BROKER => match name.parse().map(BrokerId) {
            Ok(id) if context.controller.image().brokers().contains_key(&id) => {
                Ok(Resource::Broker(Some(id)))
            }
            _ => invalid(format!("there is no broker '{name}' in the cluster")),
        },
        GROUP if name.is_empty() => invalid("there are no configurations that all groups share".to_owned()),
        GROUP => Ok(Resource::Group(name.to_owned())),
        _ => invalid("only topics, brokers and groups can be configured".to_owned()),
    }
}

/// Changes a configuration.
pub(super) async fn change(
    context: &Arc<Context>,
    resource: Resource,
    update: ConfigUpdate,
    validate_only: bool,
) -> Result<(), Denied> {
    let command = match resource {
        Resource::Topic(topic) => Command::AlterConfigs { topic, update },
        Resource::Broker(broker) => {
            let image = context.controller.image();
            broker_configs::check(&context.settings, &image, broker, &update)?;
            Command::AlterBrokerConfigs { broker, update }
        }
        Resource::Group(group) => {
            check_group(context, &group, &update)?;
            Command::AlterGroupConfigs { group, update }
        }
    };
    admin::apply(context, command, validate_only).await.map(|_| ())
}

/// Sees to it that a group may set all that it would set after an update.
fn check_group(context: &Context, group: &str, update: &ConfigUpdate) -> Result<(), Denied> {
    let after = match update {
        ConfigUpdate::Replace(configs) => configs.clone(),
        ConfigUpdate::Change(changes) => {
            let mut after = context.controller.image().group_config(group).clone();
            for change in changes {
                match change {
                    ConfigChange::Set(name, value) => {
                        after.insert(name.clone(), value.clone());
                    }
                    ConfigChange::Delete(name) => {
                        after.remove(name);
                    }
                    // Refused before: groups have no lists.
                    ConfigChange::Append(..) | ConfigChange::Subtract(..) => {}
                }
            }
            after
        }
    };
    let checked = context.settings.consumer_groups().check_own(&after);
    checked.map_err(|error| Denied::new(ErrorCode::InvalidConfig, error.to_string()))
}
