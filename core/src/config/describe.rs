//! A topic's configuration as admin tools see it: every value, where it comes from, and what stands behind it.

use std::collections::BTreeMap;

use super::value::inherited;
use super::{BrokerDefaults, DEFINITIONS, Kind};

/// Where a value comes from, numbered as in `DescribeConfigs` (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// The topic sets it.
    Topic = 1,
    /// The broker was started with it.
    StaticBroker = 4,
    /// Nobody sets it.
    Default = 5,
}

/// One configuration of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// The value in force; none for an optional one that is not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// What sets it, the strongest first; the value in force is the first one's.
    pub synonyms: Vec<SynonymValue>,
    /// Its type.
    pub kind: Kind,
    /// Its meaning.
    pub doc: &'static str,
}

/// A setting that stands behind a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynonymValue {
    /// Name of the topic configuration or the broker setting.
    pub name: &'static str,
    /// Its value, in its own unit.
    pub value: String,
    /// Where that comes from.
    pub source: Source,
}

/// Every configuration of a topic, in the order of names.
pub fn describe(overrides: &BTreeMap<String, String>, defaults: &BrokerDefaults) -> Vec<Described> {
    let describe_one = |definition: &'static super::Definition| {
        let mut synonyms = Vec::new();
        if let Some(value) = overrides.get(definition.name) {
            synonyms.push(SynonymValue {
                name: definition.name,
                value: value.clone(),
                source: Source::Topic,
            });
        }
        let behind = inherited(definition, defaults);
        let by_broker = definition
            .synonyms
            .iter()
            .find_map(|s| defaults.value(s.name).map(|value| (s.name, value)));
        match (by_broker, definition.default) {
            (Some((name, value)), default) => {
                let source = if behind.as_deref() == default {
                    Source::Default
                } else {
                    Source::StaticBroker
                };
                synonyms.push(SynonymValue {
                    name,
                    value: value.to_owned(),
                    source,
                });
            }
            (None, Some(default)) => {
                let name = definition.synonyms.last().map_or(definition.name, |s| s.name);
                let factor = definition.synonyms.last().map_or(1, |s| s.factor);
                let value = match default.parse::<i64>() {
                    Ok(number) if factor != 1 => (number / factor).to_string(),
                    _ => default.to_owned(),
                };
                synonyms.push(SynonymValue {
                    name,
                    value,
                    source: Source::Default,
                });
            }
            (None, None) => {}
        }
        Described {
            name: definition.name,
            value: overrides.get(definition.name).cloned().or(behind),
            source: synonyms.first().map_or(Source::Default, |s| s.source),
            synonyms,
            kind: definition.kind,
            doc: definition.doc,
        }
    };
    DEFINITIONS.iter().map(describe_one).collect()
}
