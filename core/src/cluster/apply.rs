//! What each command does to the image, and when it is refused.

use std::sync::Arc;

use super::bootstrap::bootstrap;
use super::brokers;
use super::configs::{alter_broker_configs, alter_group_configs};
use super::elections::elect_leaders;
use super::features::set_level;
use super::partitions::alter_partitions;
use super::plugins::check_plugin_name;
use super::reassign::reassign;
use super::topics::{alter_configs, create_partitions, create_topic, delete_topic, wrong_world};
use super::transforms::{self, Watch};
use super::{Command, Image, Outcome, Plugin, PluginRef, PluginVersion, Refusal};
use crate::ids::ProducerId;

/// Applies a command to the image.
///
/// # Errors
/// Why the command cannot be; the image is untouched then.
pub fn apply(image: &mut Image, command: &Command) -> Result<Outcome, Refusal> {
    let watch = Watch::new(image, command);
    let outcome = match command {
        Command::CreateTopic {
            name,
            id,
            partitions,
            configs,
        } => create_topic(image, name, *id, partitions, configs),
        Command::DeleteTopic { id } => delete_topic(image, *id),
        Command::CreatePartitions { topic, added } => create_partitions(image, topic, added),
        Command::AlterConfigs { topic, update } => alter_configs(image, topic, update),
        Command::RegisterPlugin {
            name,
            version,
            sha256,
            world,
            size,
            limits,
            pushed_at_ms,
        } => {
            let plugin = |version| Plugin {
                name: name.clone(),
                version,
                sha256: sha256.clone(),
                world: *world,
                size: *size,
                limits: limits.clone(),
                pushed_at_ms: *pushed_at_ms,
            };
            register_plugin(image, name, *version, plugin)
        }
        Command::DeletePlugin { name, version } => delete_plugin(image, name, *version),
        Command::AllocateProducerIds { broker: _, count } => allocate_producer_ids(image, *count),
        Command::Bootstrap {
            cluster_id,
            image: begin_with,
        } => bootstrap(image, cluster_id, begin_with.as_deref()),
        Command::RegisterBroker { broker } => brokers::register(image, broker),
        Command::UnfenceBroker { id, epoch } => brokers::unfence(image, *id, *epoch),
        Command::FenceBroker { id, epoch } => brokers::fence(image, *id, *epoch),
        Command::DrainBroker { id, draining } => brokers::drain(image, *id, *draining),
        Command::RemoveBroker { id } => brokers::remove(image, *id),
        Command::AlterPartition {
            broker,
            broker_epoch,
            changes,
        } => alter_partitions(image, *broker, *broker_epoch, changes),
        Command::ElectLeaders { kind, partitions } => Ok(elect_leaders(image, *kind, partitions.as_deref())),
        Command::Reassign { changes } => Ok(reassign(image, changes)),
        Command::AlterBrokerConfigs { broker, update } => alter_broker_configs(image, *broker, update),
        Command::AlterGroupConfigs { group, update } => alter_group_configs(image, group, update),
        Command::SetFeatureLevel { level } => set_level(image, *level),
        Command::DeployTransform {
            spec,
            plugin,
            config,
            id,
            at_ms,
        } => transforms::deploy(image, spec, plugin, config, *id, *at_ms),
        Command::ChangeTransform { name, change, at_ms } => transforms::change(image, name, change, *at_ms),
        Command::DeleteTransform { name } => transforms::delete(image, name),
    }?;
    if outcome.is_change() {
        watch.settle(image, &outcome);
        image.version += 1;
    }
    Ok(outcome)
}

fn register_plugin(
    image: &mut Image,
    name: &str,
    version: Option<PluginVersion>,
    plugin: impl Fn(PluginVersion) -> Plugin,
) -> Result<Outcome, Refusal> {
    check_plugin_name(name)?;
    let known = image.plugins.get(name);
    let latest = known
        .and_then(|versions| versions.last_key_value())
        .map(|(_, plugin)| plugin);
    let version = match (version, latest) {
        (Some(version), _) => version,
        (None, None) => PluginVersion::FIRST,
        (None, Some(latest)) if latest.is_same(&plugin(latest.version)) => latest.version,
        (None, Some(latest)) => latest
            .version
            .next()
            .ok_or_else(|| Refusal::Exhausted("plugin versions".into()))?,
    };
    let plugin = Arc::new(plugin(version));
    if let Some(existing) = known.and_then(|versions| versions.get(&version)) {
        return match existing.is_same(&plugin) {
            true => Ok(Outcome::Plugin {
                plugin: existing.clone(),
                created: false,
            }),
            false => Err(Refusal::PluginVersionExists {
                name: name.to_owned(),
                version,
            }),
        };
    }
    if latest.is_none_or(|latest| latest.version < version) {
        let floating = image
            .attachments()
            .filter(|(_, _, a)| a.plugin.name == name && a.plugin.version.is_none());
        for (_, role, _) in floating {
            if !plugin.world.serves(role) {
                return Err(wrong_world(&plugin, role));
            }
        }
    }
    image
        .plugins
        .entry(name.to_owned())
        .or_default()
        .insert(version, plugin.clone());
    Ok(Outcome::Plugin {
        plugin,
        created: true,
    })
}

impl Plugin {
    /// Whether pushing `other` would change nothing.
    fn is_same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.world == other.world && self.limits == other.limits
    }
}

fn delete_plugin(image: &mut Image, name: &str, version: PluginVersion) -> Result<Outcome, Refusal> {
    let reference = PluginRef {
        name: name.to_owned(),
        version: Some(version),
    };
    let plugin = image
        .plugin(&reference)
        .ok_or_else(|| Refusal::UnknownPlugin(reference.to_string()))?
        .clone();
    let users = image.users_of_plugin(name, version);
    if !users.is_empty() {
        return Err(Refusal::PluginInUse {
            plugin: reference.to_string(),
            users,
        });
    }
    if let Some(versions) = image.plugins.get_mut(name) {
        versions.remove(&version);
        if versions.is_empty() {
            image.plugins.remove(name);
        }
    }
    Ok(Outcome::PluginDeleted(plugin))
}

fn allocate_producer_ids(image: &mut Image, count: u32) -> Result<Outcome, Refusal> {
    let first = image.next_producer_id;
    let next = first
        .checked_add(i64::from(count))
        .filter(|next| *next < PRODUCER_ID_END);
    image.next_producer_id = next.ok_or_else(|| Refusal::Exhausted("producer ids".into()))?;
    Ok(Outcome::ProducerIds {
        first: ProducerId(first),
        count,
    })
}

/// Producer ids end here: above are those that partitioners derive, with the entrance partition in their upper bits.
const PRODUCER_ID_END: i64 = ProducerId::DERIVED_FROM;
