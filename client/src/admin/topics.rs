//! Topics: create, delete, grow.

use std::collections::BTreeMap;

use millstream_kafka::api::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use millstream_kafka::api::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millstream_kafka::api::delete_topics::DeleteTopicsRequest;
use millstream_kafka::wire::Text;

use super::Admin;
use crate::error::{Error, Result};

/// A topic to create.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// Name.
    pub name: String,
    /// Number of partitions; `None`: what the broker has as its default.
    pub partitions: Option<i32>,
    /// Copies of each; `None`: what the broker has as its default.
    pub replicas: Option<i16>,
    /// Configs that differ from the broker's defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replicas: None,
            configs: BTreeMap::new(),
        }
    }
}

impl Admin {
    /// Creates a topic. With `validate_only` nothing is created, and only the errors are told.
    ///
    /// # Errors
    /// The broker's refusal in its own words: the topic exists, a config is wrong, a plugin is unknown or refuses its
    /// configuration.
    pub async fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<()> {
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: Text::from(name.as_str()),
            value: Some(Text::from(value.as_str())),
            ..Default::default()
        });
        let creatable = CreatableTopic {
            name: Text::from(topic.name.as_str()),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replicas.unwrap_or(-1),
            configs: configs.collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![creatable],
            timeout_ms: self.limit().as_millis() as i32,
            validate_only,
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        let what = || format!("creating topic '{}'", topic.name);
        let Some(result) = answer.topics.first() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, result.error_message.as_deref(), what)
    }

    /// Deletes a topic with everything in it.
    ///
    /// # Errors
    /// The topic does not exist, or is in use by views, which the broker names.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest {
            topic_names: vec![Text::from(name)],
            timeout_ms: self.limit().as_millis() as i32,
            ..Default::default()
        };
        let answer = self
            .ask_controller(DELETE_BY_NAME_VERSION_MAX, &request, self.limit())
            .await?;
        let what = || format!("deleting topic '{name}'");
        let Some(result) = answer.responses.first() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, result.error_message.as_deref(), what)
    }

    /// Grows a topic to `partitions` partitions.
    ///
    /// # Errors
    /// The topic does not exist or has as many already.
    pub async fn create_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        let topic = CreatePartitionsTopic {
            name: Text::from(name),
            count: partitions,
            assignments: None,
            ..Default::default()
        };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: self.limit().as_millis() as i32,
            ..Default::default()
        };
        let answer = self.ask_controller(i16::MAX, &request, self.limit()).await?;
        let what = || format!("adding partitions to topic '{name}'");
        let Some(result) = answer.results.first() else {
            return Err(said_nothing(what()));
        };
        Error::check(result.error_code, result.error_message.as_deref(), what)
    }
}

pub(super) fn said_nothing(what: String) -> Error {
    Error::Invalid(format!("{what}: the broker's answer does not mention it"))
}

/// The newest version of DeleteTopics that takes names in a plain list.
const DELETE_BY_NAME_VERSION_MAX: i16 = 5;
