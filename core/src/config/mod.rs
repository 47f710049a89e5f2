//! Configuration of topics: one table of names, types, defaults and meanings, and the typed result.
//!
//! What a topic does not set comes from the broker's settings with Kafka's `log.*` names, then from Kafka's default.
//! Plugins are attached by configuration too (see [`Attachment`]), so every Kafka admin tool can make a view.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::TopicName;

mod attachment;
mod describe;
mod table;
mod throttled;
mod value;

pub use attachment::{Attachment, OnError};
pub use describe::{Described, Source, SynonymValue, describe};
pub use table::{DEFINITIONS, Definition, Kind, Synonym};
pub use throttled::{THROTTLED_FOLLOWERS, THROTTLED_LEADERS, ThrottledReplicas};
pub use value::{Codec, CompressionType, Flush};

use attachment::{parse_chain, parse_partitioner};
use value::Values;

/// Everything that a topic's configuration decides, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// How long records are kept, in milliseconds; -1 is for ever.
    pub retention_ms: i64,
    /// Bytes that a partition keeps; -1 is without limit.
    pub retention_bytes: i64,
    /// Size at which a new segment is begun, in bytes.
    pub segment_bytes: i32,
    /// Age at which a new segment is begun, in milliseconds.
    pub segment_ms: i64,
    /// Largest size of an index file, in bytes.
    pub segment_index_bytes: i32,
    /// Bytes of log between two entries of the offset index.
    pub index_interval_bytes: i32,
    /// How long files of a deleted segment stay, in milliseconds.
    pub file_delete_delay_ms: i64,
    /// Whether only the last value of each key has to be kept. All are kept nevertheless, but in internal topics, which
    /// their owners compact; each record must have a key.
    pub compact: bool,
    /// Whether records go by age and size.
    pub deletes: bool,
    /// Largest record batch, in bytes, after compression.
    pub max_message_bytes: i32,
    /// Whether the broker's time replaces the client's.
    pub log_append_time: bool,
    /// How far timestamps may lie before the broker's clock, in milliseconds (KIP-937).
    pub timestamp_before_max_ms: i64,
    /// How far timestamps may lie after the broker's clock, in milliseconds (KIP-937).
    pub timestamp_after_max_ms: i64,
    /// How batches are compressed when stored.
    pub compression: CompressionType,
    /// Copies that must exist before `acks=all` is answered.
    pub min_insync_replicas: i32,
    /// What `acks=all` waits for.
    pub flush: Flush,
    /// The topic that this view is computed from; none for a topic that stores records.
    pub view_source: Option<TopicName>,
    /// Plugins that a view runs, in order. Empty for a topic that is no view.
    pub view_plugins: Vec<Attachment>,
    /// Plugin that chooses the partition of every record.
    pub partitioner: Option<Attachment>,
    /// Plugins that every record passes on its way in, in order.
    pub ingest: Vec<Attachment>,
}

/// The broker's settings that stand behind topic configurations, by Kafka's names; empty values count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerDefaults(BTreeMap<String, String>);

/// A configuration that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigError {
    /// No configuration has this name.
    #[error("unknown topic config '{name}'{}", nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    Unknown {
        /// The name that was given.
        name: String,
        /// The known name that is nearest, where one is near.
        nearest: Option<Cow<'static, str>>,
    },
    /// The value has the wrong type or lies out of range.
    #[error("invalid value '{value}' for topic config '{name}': {reason}")]
    Invalid {
        /// The configuration.
        name: String,
        /// The value that was given, cut to what a log line can bear.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Kafka knows the value, Millstream does not do it yet.
    #[error("topic config '{name}={value}' is not built: {reason}")]
    NotBuilt {
        /// The configuration.
        name: Cow<'static, str>,
        /// The value that was given.
        value: String,
        /// What to do instead.
        reason: Cow<'static, str>,
    },
    /// Two configurations exclude each other.
    #[error("topic config '{name}' {reason}")]
    Conflict {
        /// The configuration.
        name: Cow<'static, str>,
        /// What it clashes with.
        reason: String,
    },
}

impl ConfigError {
    pub(crate) fn invalid(name: impl Into<String>, value: &str, reason: impl Into<String>) -> Self {
        let value = value.chars().take(SHOWN_CHARACTERS_MAX).collect();
        Self::Invalid {
            name: name.into(),
            value,
            reason: reason.into(),
        }
    }

    fn unknown(name: &str) -> Self {
        let shown: String = name.chars().take(SHOWN_CHARACTERS_MAX).collect();
        let nearest = DEFINITIONS
            .iter()
            .map(|d| (strsim::damerau_levenshtein(&shown, d.name), d.name))
            .min()
            .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
            .map(|(_, known)| Cow::Borrowed(known));
        Self::Unknown { name: shown, nearest }
    }
}

impl TopicConfig {
    /// Parses what a topic sets, over the broker's defaults.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a wrong value, or two that exclude each other.
    pub fn parse(
        overrides: &BTreeMap<String, String>,
        defaults: &BrokerDefaults,
    ) -> Result<Self, ConfigError> {
        for name in overrides.keys() {
            definition(name)?;
        }
        let values = Values::new(overrides, defaults);
        let policies = values.text("cleanup.policy");
        let has_policy = |name| policies.split(',').any(|policy| policy.trim() == name);
        refuse_what_is_not_built(&values)?;
        let view_source = values.optional("millstream.view.source").map(|name| {
            TopicName::new(&name)
                .map_err(|e| ConfigError::invalid("millstream.view.source", &name, e.to_string()))
        });
        let config = Self {
            retention_ms: values.number("retention.ms")?,
            retention_bytes: values.number("retention.bytes")?,
            segment_bytes: values.number("segment.bytes")?,
            segment_ms: values.number("segment.ms")?,
            segment_index_bytes: values.number("segment.index.bytes")?,
            index_interval_bytes: values.number("index.interval.bytes")?,
            file_delete_delay_ms: values.number("file.delete.delay.ms")?,
            compact: has_policy("compact"),
            deletes: has_policy("delete"),
            max_message_bytes: values.number("max.message.bytes")?,
            log_append_time: values.choice("message.timestamp.type")? == "LogAppendTime",
            timestamp_before_max_ms: values.number("message.timestamp.before.max.ms")?,
            timestamp_after_max_ms: values.number("message.timestamp.after.max.ms")?,
            compression: CompressionType::parse(&values.choice("compression.type")?),
            min_insync_replicas: values.number("min.insync.replicas")?,
            flush: Flush::parse(&values.choice("millstream.flush")?),
            view_source: view_source.transpose()?,
            view_plugins: parse_chain(&values, "millstream.view.plugins", "millstream.view.on-error")?,
            partitioner: parse_partitioner(&values)?,
            ingest: parse_chain(&values, "millstream.ingest", "millstream.ingest.on-error")?,
        };
        values.check_all()?;
        throttled::check(&values)?;
        config.check_plugins(overrides)?;
        Ok(config)
    }

    /// Every attached plugin, with the configuration that attaches it.
    pub fn attachments(&self) -> impl Iterator<Item = (Role, &Attachment)> {
        let views = self.view_plugins.iter().map(|a| (Role::View, a));
        let ingest = self.ingest.iter().map(|a| (Role::Ingest, a));
        self.partitioner
            .iter()
            .map(|a| (Role::Partitioner, a))
            .chain(ingest)
            .chain(views)
    }

    fn check_plugins(&self, overrides: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        if self.view_source.is_none() {
            if !self.view_plugins.is_empty() {
                let reason = "needs 'millstream.view.source': only views run it".to_owned();
                return Err(ConfigError::Conflict {
                    name: "millstream.view.plugins".into(),
                    reason,
                });
            }
            return Ok(());
        }
        let stored = overrides
            .keys()
            .find_map(|name| definition(name).ok().filter(|d| !d.for_views));
        if let Some(definition) = stored {
            let reason = "cannot be set on a view: a view stores nothing and takes no records".to_owned();
            return Err(ConfigError::Conflict {
                name: definition.name.into(),
                reason,
            });
        }
        if self
            .view_plugins
            .iter()
            .any(|a| matches!(a.on_error, OnError::DeadLetter(_)))
        {
            let reason = "cannot be 'dead-letter' in a view: reading must not write".to_owned();
            return Err(ConfigError::Conflict {
                name: "millstream.view.on-error".into(),
                reason,
            });
        }
        Ok(())
    }
}

/// What a plugin is attached as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It chooses partitions.
    Partitioner,
    /// Records pass it on their way in.
    Ingest,
    /// It computes a view.
    View,
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for BrokerDefaults {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(settings: I) -> Self {
        Self(
            settings
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl BrokerDefaults {
    /// The value of a broker setting, unless it is unset.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// The table's line for a name.
///
/// # Errors
/// No configuration has the name; the error says which is nearest.
pub fn definition(name: &str) -> Result<&'static Definition, ConfigError> {
    DEFINITIONS
        .iter()
        .find(|d| d.name == name)
        .ok_or_else(|| ConfigError::unknown(name))
}

fn refuse_what_is_not_built(values: &Values<'_>) -> Result<(), ConfigError> {
    if values
        .text("unclean.leader.election.enable")
        .eq_ignore_ascii_case("true")
    {
        return Err(ConfigError::NotBuilt {
            name: "unclean.leader.election.enable".into(),
            value: "true".to_owned(),
            reason: "a leader that may have lost records is elected by hand only".into(),
        });
    }
    if values.text("remote.storage.enable").eq_ignore_ascii_case("true") {
        return Err(ConfigError::NotBuilt {
            name: "remote.storage.enable".into(),
            value: "true".to_owned(),
            reason: "records are kept on the brokers' own disks".into(),
        });
    }
    Ok(())
}

/// Longest part of a name or value that an error repeats, in characters.
const SHOWN_CHARACTERS_MAX: usize = 200;

#[cfg(test)]
mod tests;
