//! Plugins attached by configuration: which one, with what configuration, and what happens when it fails.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ConfigError;
use super::value::Values;
use crate::cluster::{PluginLimits, PluginRef};
use crate::ids::TopicName;

/// A plugin at work on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which plugin.
    pub plugin: PluginRef,
    /// Configuration that the plugin gets, as it stands; JSON is in its compact form.
    pub config: String,
    /// What happens to records that it fails on.
    pub on_error: OnError,
    /// Limits that replace those the plugin was pushed with.
    pub limits: PluginLimits,
}

/// What happens to records that a plugin fails on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OnError {
    /// The batch or the fetch fails; nothing is lost.
    #[default]
    Fail,
    /// They are left out; a partitioner leaves them on the partition that the client chose.
    Skip,
    /// They go to this topic.
    DeadLetter(TopicName),
}

impl OnError {
    /// Reads `fail`, `skip` or `dead-letter:TOPIC`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "fail" => Ok(Self::Fail),
            "skip" => Ok(Self::Skip),
            _ => match text.strip_prefix("dead-letter:") {
                Some(topic) => TopicName::new(topic)
                    .map(Self::DeadLetter)
                    .map_err(|error| error.to_string()),
                None => Err("must be fail, skip or dead-letter:TOPIC".to_owned()),
            },
        }
    }
}

impl TryFrom<String> for OnError {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<OnError> for String {
    fn from(policy: OnError) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail => f.write_str("fail"),
            Self::Skip => f.write_str("skip"),
            Self::DeadLetter(topic) => write!(f, "dead-letter:{topic}"),
        }
    }
}

/// Reads the partitioner and its configuration.
pub(super) fn parse_partitioner(values: &Values<'_>) -> Result<Option<Attachment>, ConfigError> {
    let name = "millstream.partitioner.on-error";
    let text = values.text(name);
    let on_error = OnError::parse(&text).map_err(|reason| ConfigError::invalid(name, &text, reason))?;
    if matches!(on_error, OnError::DeadLetter(_)) {
        return Err(ConfigError::invalid(
            name,
            &text,
            "a partitioner can fail or skip only",
        ));
    }
    let Some(reference) = values.optional("millstream.partitioner") else {
        return match values.optional("millstream.partitioner.config") {
            Some(_) => Err(ConfigError::Conflict {
                name: "millstream.partitioner.config".into(),
                reason: "needs 'millstream.partitioner'".to_owned(),
            }),
            None => Ok(None),
        };
    };
    let plugin = PluginRef::parse(&reference)
        .map_err(|error| ConfigError::invalid("millstream.partitioner", &reference, error.to_string()))?;
    let config = values.text("millstream.partitioner.config");
    Ok(Some(Attachment {
        plugin,
        config,
        on_error,
        limits: PluginLimits::default(),
    }))
}

/// Reads a list of plugins: JSON objects, or plain references as short forms of them.
pub(super) fn parse_chain(
    values: &Values<'_>,
    name: &'static str,
    on_error_name: &'static str,
) -> Result<Vec<Attachment>, ConfigError> {
    let policy = values.text(on_error_name);
    let default_policy =
        OnError::parse(&policy).map_err(|e| ConfigError::invalid(on_error_name, &policy, e))?;
    let Some(text) = values.optional(name) else {
        return Ok(Vec::new());
    };
    let invalid = |reason: String| ConfigError::invalid(name, &text, reason);
    let parsed: Value = serde_json::from_str(&text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let Value::Array(entries) = parsed else {
        return Err(invalid("must be a JSON list".to_owned()));
    };
    if entries.len() > CHAIN_PLUGINS_MAX {
        return Err(invalid(format!("more than {CHAIN_PLUGINS_MAX} plugins")));
    }
    let entries = entries.into_iter().enumerate();
    entries
        .map(|(n, entry)| parse_entry(entry, &default_policy).map_err(|e| invalid(format!("entry {n}: {e}"))))
        .collect()
}

fn parse_entry(entry: Value, default_policy: &OnError) -> Result<Attachment, String> {
    let mut fields = match entry {
        Value::String(reference) => {
            serde_json::Map::from_iter([("plugin".to_owned(), Value::String(reference))])
        }
        Value::Object(fields) => fields,
        _ => return Err("must be an object with 'plugin', 'config', 'on-error', 'limits'".to_owned()),
    };
    let Some(Value::String(reference)) = fields.remove("plugin") else {
        return Err("'plugin' must be a text: NAME, NAME@VERSION or NAME@latest".to_owned());
    };
    let on_error = match fields.remove("on-error") {
        None => default_policy.clone(),
        Some(Value::String(policy)) => {
            OnError::parse(&policy).map_err(|reason| format!("'on-error' {reason}"))?
        }
        Some(_) => return Err("'on-error' must be fail, skip or dead-letter:TOPIC".to_owned()),
    };
    let config = match fields.remove("config") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(value) => value.to_string(),
    };
    let limits = match fields.remove("limits") {
        None => PluginLimits::default(),
        Some(limits) => serde_json::from_value(limits).map_err(|error| format!("'limits': {error}"))?,
    };
    if let Some(unknown) = fields.keys().next() {
        return Err(format!(
            "unknown field '{unknown}'; known are plugin, config, on-error, limits"
        ));
    }
    let plugin = PluginRef::parse(&reference).map_err(|error| error.to_string())?;
    Ok(Attachment {
        plugin,
        config,
        on_error,
        limits,
    })
}

/// Most plugins that one list may name.
const CHAIN_PLUGINS_MAX: usize = 16;
