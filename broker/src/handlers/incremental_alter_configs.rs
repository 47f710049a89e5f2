//! IncrementalAlterConfigs: single configurations of topics, brokers and groups change (KIP-339).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::{ConfigChange, ConfigUpdate};
use millstream_core::config::{Kind, definition};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::admin::{self, Denied};
use super::alter_configs::{change, resource_of};
use super::describe_configs::{BROKER, GROUP};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Answers for every resource.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

async fn alter(
    context: &Arc<Context>,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Denied> {
    let invalid = |message: String| Denied::new(ErrorCode::InvalidRequest, message);
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let name = config.name.to_string();
        if !seen.insert(name.clone()) {
            return Err(invalid(format!("config '{name}' is in the request twice")));
        }
        let value = || {
            let value = config.value.as_ref().map(ToString::to_string);
            value.ok_or_else(|| invalid(format!("config '{}' has no value", &*config.name)))
        };
        changes.push(match config.config_operation {
            SET => ConfigChange::Set(name, value()?),
            DELETE => ConfigChange::Delete(name),
            APPEND => ConfigChange::Append(list(resource.resource_type, &name)?, value()?),
            SUBTRACT => ConfigChange::Subtract(list(resource.resource_type, &name)?, value()?),
            other => return Err(invalid(format!("unknown operation {other}"))),
        });
    }
    let resource = resource_of(context, resource.resource_type, &resource.resource_name)?;
    change(context, resource, ConfigUpdate::Change(changes), validate_only).await
}

/// Sees to it that a configuration is a list, before anything is said of the topic.
fn list(resource_type: i8, name: &str) -> Result<String, Denied> {
    if resource_type == BROKER {
        // Checked where it is known what brokers can set.
        return Ok(name.to_owned());
    }
    let invalid = |message: String| Denied::new(ErrorCode::InvalidConfig, message);
    if resource_type == GROUP {
        return Err(invalid(format!("group config '{name}' is not a list")));
    }
    match definition(name) {
        Ok(definition) if definition.kind == Kind::List => Ok(name.to_owned()),
        Ok(_) => Err(invalid(format!("topic config '{name}' is not a list"))),
        Err(error) => Err(invalid(error.to_string())),
    }
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
