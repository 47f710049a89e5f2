//! Configs of topics and brokers: describe and change.

use millstream_kafka::api::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use millstream_kafka::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millstream_kafka::wire::Text;

use super::Admin;
use super::topics::said_nothing;
use crate::error::{Error, Result};

/// What has configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
    /// All brokers that do not set it themselves.
    AllBrokers,
}

/// One config and where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Name.
    pub name: String,
    /// Value; `None` where it is secret or unset.
    pub value: Option<String>,
    /// Whether it was set for this very resource.
    pub is_set: bool,
    /// Whether it can be changed at run time.
    pub read_only: bool,
    /// What it means, where the broker tells.
    pub documentation: Option<String>,
}

/// How one config changes (KIP-339).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Takes this value.
    Set,
    /// Goes back to the default.
    Delete,
    /// Adds to a list.
    Append,
    /// Takes away from a list.
    Subtract,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// Name.
    pub name: String,
    /// How it changes.
    pub operation: ConfigOperation,
    /// The value; `None` to delete.
    pub value: Option<String>,
}

impl ConfigChange {
    /// Sets a config.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            operation: ConfigOperation::Set,
            value: Some(value.into()),
        }
    }

    /// Puts a config back to its default.
    pub fn delete(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            operation: ConfigOperation::Delete,
            value: None,
        }
    }
}

impl ConfigResource {
    fn parts(&self) -> (i8, String) {
        match self {
            Self::Topic(name) => (TOPIC, name.clone()),
            Self::Broker(id) => (BROKER, id.to_string()),
            Self::AllBrokers => (BROKER, String::new()),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Topic(name) => format!("topic '{name}'"),
            Self::Broker(id) => format!("broker {id}"),
            Self::AllBrokers => "all brokers".to_owned(),
        }
    }
}

impl Admin {
    /// Every config of a resource, in the broker's order.
    ///
    /// # Errors
    /// The resource does not exist.
    pub async fn describe_configs(&self, resource: &ConfigResource) -> Result<Vec<ConfigEntry>> {
        let (resource_type, resource_name) = resource.parts();
        let asked = DescribeConfigsResource {
            resource_type,
            resource_name: Text::from(resource_name),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![asked],
            include_documentation: true,
            ..Default::default()
        };
        let answer = match resource {
            // Only a broker itself knows what it was started with.
            ConfigResource::Broker(id) => self.ask_broker(*id, &request).await?,
            _ => self.ask_controller(i16::MAX, &request, self.limit()).await?,
        };
        let what = || format!("configs of {}", resource.describe());
        let Some(result) = answer.results.into_iter().next() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, result.error_message.as_deref(), what)?;
        let entries = result.configs.into_iter().map(|entry| ConfigEntry {
            name: entry.name.to_string(),
            value: entry.value.as_deref().map(str::to_owned),
            is_set: SOURCES_AT_RUN_TIME.contains(&entry.config_source),
            read_only: entry.read_only,
            documentation: entry.documentation.as_deref().map(str::to_owned),
        });
        Ok(entries.collect())
    }

    /// Changes configs of a resource, all or none.
    ///
    /// # Errors
    /// An unknown config or a wrong value, in the broker's own words.
    pub async fn alter_configs(&self, resource: &ConfigResource, changes: &[ConfigChange]) -> Result<()> {
        let (resource_type, resource_name) = resource.parts();
        let configs = changes.iter().map(|change| AlterableConfig {
            name: Text::from(change.name.as_str()),
            config_operation: change.operation as i8,
            value: change.value.as_deref().map(Text::from),
            ..Default::default()
        });
        let altered = AlterConfigsResource {
            resource_type,
            resource_name: Text::from(resource_name),
            configs: configs.collect(),
            ..Default::default()
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![altered],
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        let what = || format!("changing {}", resource.describe());
        let Some(result) = answer.responses.first() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, result.error_message.as_deref(), what)
    }
}

/// Kafka's resource type of a topic.
const TOPIC: i8 = 2;
/// Kafka's resource type of a broker.
const BROKER: i8 = 4;
/// Kafka's config sources of what was set at run time: for the topic, for the broker, for all brokers.
const SOURCES_AT_RUN_TIME: [i8; 3] = [1, 2, 3];
