//! DescribeConfigs: what topics and this broker are configured to do, and where that comes from (KIP-226, KIP-569).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::config::{self, Described, Kind};
use millstream_core::group::consumer::OwnConfig;
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_kafka::wire::Text;

use super::admin::{self, Denied};
use crate::broker_configs;
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
            GROUP => group(context, &asked.resource_name),
            BROKER_LOGGER | CLIENT_METRICS => Ok(Vec::new()),
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
    let overrides = broker_configs::overrides(&image, BrokerId(context.settings.node_id));
    let described = config::describe(&topic.configs, &admin::broker_defaults(context));
    let described = described.into_iter();
    Ok(described.map(|one| topic_config(one, &overrides)).collect())
}

/// What is set for brokers while they run, by name.
type Overrides<'a> = BTreeMap<&'a str, (&'a str, broker_configs::Source)>;

fn topic_config(described: Described, overrides: &Overrides<'_>) -> DescribeConfigsResourceResult {
    let source = |synonym: &config::SynonymValue| match synonym.source {
        config::Source::Topic => synonym.source as i8,
        source => overrides
            .get(synonym.name)
            .map_or(source as i8, |(_, source)| *source as i8),
    };
    let first = described.synonyms.first().map(source);
    let synonym = |synonym: config::SynonymValue| DescribeConfigsSynonym {
        source: source(&synonym),
        name: Text::from(synonym.name),
        value: Some(Text::from(synonym.value)),
        ..Default::default()
    };
    DescribeConfigsResourceResult {
        name: Text::from(described.name),
        value: described.value.map(Text::from),
        config_source: first.unwrap_or(described.source as i8),
        synonyms: described.synonyms.into_iter().map(synonym).collect(),
        config_type: kind(described.kind),
        documentation: Some(Text::from(described.doc)),
        ..Default::default()
    }
}

/// The settings of this broker, or, without a name, what is set for all brokers while they run.
fn broker(context: &Context, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    let image = context.controller.image();
    if name.is_empty() {
        let set = image.broker_config(None);
        let set = settings::DEFINITIONS
            .iter()
            .chain(broker_configs::RATES)
            .filter_map(|definition| Some((definition, set.get(definition.name)?)));
        let all = broker_configs::Source::AllBrokers as i8;
        return Ok(set
            .map(|(definition, value)| setting(definition, vec![(Some(value.clone()), all)]))
            .collect());
    }
    if name.parse() != Ok(context.settings.node_id) {
        let message = format!("this is broker {}, not '{name}'", context.settings.node_id);
        return Err(Denied::new(ErrorCode::InvalidRequest, message));
    }
    let node = BrokerId(context.settings.node_id);
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
        let mut given = Vec::new();
        let set = [
            (Some(node), broker_configs::Source::Broker),
            (None, broker_configs::Source::AllBrokers),
        ];
        for (broker, source) in set {
            let value = image.broker_config(broker).get(definition.name);
            given.extend(value.map(|value| (Some(value.clone()), source as i8)));
        }
        given.push((Some(value).filter(|value| !value.is_empty()), source as i8));
        setting(definition, given)
    };
    let set = broker_configs::overrides(&image, node);
    let rates = broker_configs::RATES
        .iter()
        .filter(|rate| set.contains_key(rate.name));
    Ok(settings::DEFINITIONS.iter().chain(rates).map(describe).collect())
}

/// What holds in a group, which need not be there.
fn group(context: &Context, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Denied> {
    if name.is_empty() {
        let message = "there are no configurations that all groups share";
        return Err(Denied::new(ErrorCode::InvalidRequest, message));
    }
    let image = context.controller.image();
    let own = image.group_config(name);
    let (usual, defaults) = (context.settings.show(), Settings::default().show());
    let described = OwnConfig::ALL.into_iter().map(|config| {
        let setting = config.setting();
        let source = match usual.get(setting) == defaults.get(setting) {
            true => config::Source::Default,
            false => config::Source::StaticBroker,
        };
        let synonym = |name: &'static str, value: &String, source: i8| DescribeConfigsSynonym {
            name: Text::from(name),
            value: Some(Text::from(value.as_str())),
            source,
            ..Default::default()
        };
        let set = own.get(config.name());
        let set = set.map(|value| synonym(config.name(), value, SET_BY_GROUP));
        let usual = usual.get(setting);
        let usual = usual.map(|value| synonym(setting, value, source as i8));
        let synonyms: Vec<_> = set.into_iter().chain(usual).collect();
        let first = synonyms.first().cloned().unwrap_or_default();
        DescribeConfigsResourceResult {
            name: Text::from(config.name()),
            value: first.value,
            config_source: first.source,
            synonyms,
            config_type: kind(Kind::Int),
            documentation: Some(Text::from(config.meaning())),
            ..Default::default()
        }
    });
    Ok(described.collect())
}

/// A setting with all values that it has been given and where, the one that counts first.
fn setting(
    definition: &settings::Definition,
    values: Vec<(Option<String>, i8)>,
) -> DescribeConfigsResourceResult {
    let synonyms: Vec<_> = values
        .into_iter()
        .map(|(value, source)| DescribeConfigsSynonym {
            name: Text::from(definition.name),
            value: value.map(Text::from),
            source,
            ..Default::default()
        })
        .collect();
    let first = synonyms.first().cloned().unwrap_or_default();
    DescribeConfigsResourceResult {
        name: first.name,
        value: first.value,
        read_only: !broker_configs::is_changeable(definition.name),
        config_source: first.source,
        synonyms,
        config_type: kind_of_setting(definition.kind),
        documentation: Some(Text::from(definition.doc.trim())),
        ..Default::default()
    }
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
        "list" => kind(Kind::List),
        _ => kind(Kind::String),
    }
}

/// Number of the source of what a group sets for itself.
const SET_BY_GROUP: i8 = 8;
/// Types of resources in the protocol.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;
