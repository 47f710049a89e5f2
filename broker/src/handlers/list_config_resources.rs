//! ListConfigResources: topics, brokers and groups that can be configured, or are (KIP-1142).

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_kafka::ErrorCode;
use millstream_kafka::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use millstream_kafka::wire::Text;

use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::connection::ConnectionInfo;
use crate::context::Context;

/// Lists groups that set something for themselves, brokers and topics; of loggers and of what clients are to measure there
/// are none.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    version: i16,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let mut wanted: BTreeSet<i8> = request.resource_types.into_iter().collect();
    if version == 0 {
        wanted.insert(CLIENT_METRICS);
    } else if wanted.is_empty() {
        wanted.extend(KNOWN);
    }
    if wanted.iter().any(|kind| !KNOWN.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
    }
    let image = context.controller.image();
    let mut config_resources = Vec::new();
    let mut list = |resource_type: i8, names: &mut dyn Iterator<Item = Text>| {
        if wanted.contains(&resource_type) {
            config_resources.extend(names.map(|resource_name| ConfigResource {
                resource_name,
                resource_type,
                ..Default::default()
            }));
        }
    };
    list(
        GROUP,
        &mut image.group_configs().keys().map(|name| Text::from(name.as_str())),
    );
    list(
        BROKER,
        &mut image.brokers().keys().map(|id| Text::from(id.to_string())),
    );
    list(
        TOPIC,
        &mut image.topics().map(|topic| Text::from(topic.name.as_str())),
    );
    ListConfigResourcesResponse {
        config_resources,
        ..Default::default()
    }
}

/// Types of what can be listed.
const KNOWN: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
