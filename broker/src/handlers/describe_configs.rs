//! DescribeConfigs: what topics and this broker are configured to do, and where that comes from (KIP-226, KIP-569).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::config::{self, Described, Kind};
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_kafka::wire::Text;

use super::admin::{self, Denied};
use crate::connection::ConnectionInfo;
use crate::context::Context;
use crate::settings::{self, Settings};

/// Answers for every resource.
pub async fn handle(
    context: &Arc<Context>,
    _info: &ConnectionInfo,
    _version: i16,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let (synonyms, docs) = (request.include_synonyms, request.include_documentation);
    let describe = |asked: DescribeConfigsResource| {
        let described = match asked.resource_type {
            TOPIC => topic(context, &asked.resource_name),
            BROKER => broker(context, &asked.resource_name),
            BROKER_LOGGER | CLIENT_METRICS | GROUP => Ok(Vec::new()),
            kind => Err(Denied::new(
                ErrorCode::InvalidRequest,
                format!("unknown type of resource {kind}"),
            )),
        };
        let answer = DescribeConfigsResult {
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            ..Default::default()
        };
        let mut configs = match described {
            Ok(configs) => configs,
            Err(denied) => {
                let (error_code, error_message) = (denied.code.code(), denied.text());
                return DescribeConfigsResult {
                    error_code,
                    error_message,
                    ..answer
                };
            }
        };
        // An empty list means all, as null does.
        if let Some(keys) = asked.configuration_keys.filter(|keys| !keys.is_empty()) {
            configs.retain(|config| keys.contains(&config.name));
        }
        for config in &mut configs {
            if !synonyms {
                config.synonyms.clear();
            }
            if !docs {
                config.documentation = None;
            }
        }
        DescribeConfigsResult { configs, ..answer }
    };
    DescribeConfigsResponse {
        results: request.resources.into_iter().map(describe).collect(),
        ..Default::default()
    }
}

fn topic(context: &Context, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    let image = context.controller.image();
    let topic = image.topic(name).ok_or_else(|| {
        let valid = millstream_core::ids::TopicName::new(name);
        match valid {
            Ok(_) => Denied::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic '{name}'"),
            ),
            Err(error) => Denied::new(ErrorCode::InvalidTopicException, error.to_string()),
        }
    })?;
    let described = config::describe(&topic.configs, &admin::broker_defaults(context));
    Ok(described.into_iter().map(topic_config).collect())
}

fn topic_config(described: Described) -> DescribeConfigsResourceResult {
    let synonym = |synonym: config::SynonymValue| DescribeConfigsSynonym {
        name: Text::from(synonym.name),
        value: Some(Text::from(synonym.value)),
        source: synonym.source as i8,
        ..Default::default()
    };
    DescribeConfigsResourceResult {
        name: Text::from(described.name),
        value: described.value.map(Text::from),
        config_source: described.source as i8,
        synonyms: described.synonyms.into_iter().map(synonym).collect(),
        config_type: kind(described.kind),
        documentation: Some(Text::from(described.doc)),
        ..Default::default()
    }
}

/// The settings of this broker. They are read when it starts, so none can be changed meanwhile.
fn broker(context: &Context, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    if name.is_empty() {
        // What is set for all brokers at once: nothing.
        return Ok(Vec::new());
    }
    if name.parse() != Ok(context.settings.node_id) {
        let message = format!("this is broker {}, not '{name}'", context.settings.node_id);
        return Err(Denied::new(ErrorCode::InvalidRequest, message));
    }
    let values = context.settings.show();
    let defaults: BTreeMap<&str, String> = Settings::default().show();
    let describe = |definition: &settings::Definition| {
        let value = values.get(definition.name).cloned().unwrap_or_default();
        let is_default = defaults.get(definition.name) == Some(&value);
        let source = if is_default {
            config::Source::Default
        } else {
            config::Source::StaticBroker
        };
        let value = Some(value).filter(|value| !value.is_empty()).map(Text::from);
        let synonym = DescribeConfigsSynonym {
            name: Text::from(definition.name),
            value: value.clone(),
            source: source as i8,
            ..Default::default()
        };
        DescribeConfigsResourceResult {
            name: Text::from(definition.name),
            value,
            read_only: true,
            config_source: source as i8,
            synonyms: vec![synonym],
            config_type: kind_of_setting(definition.kind),
            documentation: Some(Text::from(definition.doc.trim())),
            ..Default::default()
        }
    };
    Ok(settings::DEFINITIONS.iter().map(describe).collect())
}

/// Numbers of types in the protocol.
fn kind(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}

fn kind_of_setting(name: &str) -> i8 {
    match name {
        "boolean" => kind(Kind::Boolean),
        "int" => kind(Kind::Int),
        "long" => kind(Kind::Long),
        _ => kind(Kind::String),
    }
}

/// Types of resources in the protocol.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
