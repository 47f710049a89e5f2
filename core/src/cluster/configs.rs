//! How configurations change: of topics, brokers and groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ConfigChange, ConfigUpdate, Image, Outcome, Refusal};
use crate::config::{ConfigError, Kind, definition};
use crate::ids::BrokerId;

/// Changes what one broker sets, or all that do not set it themselves. Names and values were checked by a broker.
pub(super) fn alter_broker_configs(
    image: &mut Image,
    broker: Option<BrokerId>,
    update: &ConfigUpdate,
) -> Result<Outcome, Refusal> {
    if let Some(id) = broker.filter(|id| !image.brokers.contains_key(id)) {
        return Err(Refusal::UnknownBroker(id));
    }
    let before = image.broker_config(broker);
    let after = updated(before, update, entries_as_set)?;
    if after == *before {
        return Ok(Outcome::Unchanged);
    }
    match broker {
        Some(id) if after.is_empty() => {
            image.broker_configs.remove(&id);
        }
        Some(id) => {
            image.broker_configs.insert(id, after);
        }
        None => image.default_broker_config = after,
    }
    image.settle_eligible();
    Ok(Outcome::Done)
}

/// Changes what a group sets for itself. Names and values were checked by a broker.
pub(super) fn alter_group_configs(
    image: &mut Image,
    group: &str,
    update: &ConfigUpdate,
) -> Result<Outcome, Refusal> {
    let before = image.group_config(group);
    let after = updated(before, update, entries_as_set)?;
    if after == *before {
        return Ok(Outcome::Unchanged);
    }
    let is_new = before.is_empty();
    if is_new && image.group_configs.len() >= CONFIGURED_GROUPS_MAX {
        return Err(Refusal::Exhausted("groups with configurations".into()));
    }
    let configs = Arc::make_mut(&mut image.group_configs);
    match after.is_empty() {
        true => configs.remove(group),
        false => configs.insert(group.to_owned(), after),
    };
    Ok(Outcome::Done)
}

/// A topic's configuration after an update.
pub(super) fn updated_topic(
    before: &BTreeMap<String, String>,
    update: &ConfigUpdate,
) -> Result<BTreeMap<String, String>, ConfigError> {
    updated(before, update, entries)
}

/// The entries of a list as a configuration has them, by its name.
type Entries = fn(&BTreeMap<String, String>, &str) -> Result<Vec<String>, ConfigError>;

fn updated(
    before: &BTreeMap<String, String>,
    update: &ConfigUpdate,
    entries: Entries,
) -> Result<BTreeMap<String, String>, ConfigError> {
    match update {
        ConfigUpdate::Replace(configs) => Ok(configs.clone()),
        ConfigUpdate::Change(changes) => changed(before, changes, entries),
    }
}

/// A configuration after some steps.
fn changed(
    configs: &BTreeMap<String, String>,
    changes: &[ConfigChange],
    entries: Entries,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut configs = configs.clone();
    for change in changes {
        match change {
            ConfigChange::Set(name, value) => {
                configs.insert(name.clone(), value.clone());
            }
            ConfigChange::Delete(name) => {
                configs.remove(name);
            }
            ConfigChange::Append(name, value) => {
                let mut entries = entries(&configs, name)?;
                let more = value
                    .split(',')
                    .filter(|e| !entries.iter().any(|known| known == e));
                let more: Vec<String> = more.map(str::to_owned).collect();
                entries.extend(more);
                configs.insert(name.clone(), entries.join(","));
            }
            ConfigChange::Subtract(name, value) => {
                let mut entries = entries(&configs, name)?;
                entries.retain(|entry| !value.split(',').any(|gone| gone == entry));
                configs.insert(name.clone(), entries.join(","));
            }
        }
    }
    Ok(configs)
}

/// The entries of a list, as the topic or Kafka's default has them.
fn entries(configs: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, ConfigError> {
    let definition = definition(name)?;
    if definition.kind != Kind::List {
        return Err(ConfigError::Conflict {
            name: definition.name.into(),
            reason: "is not a list".to_owned(),
        });
    }
    let value = configs
        .get(name)
        .map(String::as_str)
        .or(definition.default)
        .unwrap_or_default();
    Ok(split(value))
}

/// The entries of a list as it is set; what a list of brokers' is by default, the image does not know.
fn entries_as_set(configs: &BTreeMap<String, String>, name: &str) -> Result<Vec<String>, ConfigError> {
    let value = configs.get(name).map(String::as_str).unwrap_or_default();
    Ok(split(value))
}

fn split(value: &str) -> Vec<String> {
    let entries = value.split(',').filter(|entry| !entry.is_empty());
    entries.map(str::to_owned).collect()
}

/// Most groups that set something for themselves. All brokers keep what they set in memory.
const CONFIGURED_GROUPS_MAX: usize = 100_000;
