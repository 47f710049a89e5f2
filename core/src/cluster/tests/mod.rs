//! Stories of the image, and rules that hold whatever happens to it.

use super::*;
use uuid::Uuid;

mod brokers;
mod elections;
mod image;
mod partitions;
mod placement;
mod properties;
mod reassign;
mod rebalance;
mod scene;
mod serialized;
mod transform_costs;
mod transform_refusals;
mod transforms;

fn name(text: &str) -> TopicName {
    TopicName::new(text).unwrap()
}

fn id(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

fn create(topic: &str, n: u128, partitions: usize, configs: &[(&str, &str)]) -> Command {
    Command::CreateTopic {
        name: name(topic),
        id: id(n),
        partitions: vec![vec![BrokerId(1)]; partitions],
        configs: configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    }
}

fn push(plugin: &str, sha256: &str, world: World) -> Command {
    Command::RegisterPlugin {
        name: plugin.to_owned(),
        version: None,
        sha256: sha256.to_owned(),
        world,
        size: 10,
        limits: PluginLimits::default(),
        pushed_at_ms: 5,
    }
}

fn set(topic: &str, configs: &[(&str, &str)]) -> Command {
    let set = configs
        .iter()
        .map(|(k, v)| ConfigChange::Set((*k).to_owned(), (*v).to_owned()))
        .collect();
    Command::AlterConfigs {
        topic: name(topic),
        update: ConfigUpdate::Change(set),
    }
}

#[track_caller]
fn refused(image: &mut Image, command: &Command, expected: &str) {
    let before = image.encode();
    assert_eq!(apply(image, command).unwrap_err().to_string(), expected);
    assert_eq!(image.encode(), before, "a refused command changes nothing");
}

#[track_caller]
fn applied(image: &mut Image, command: &Command) -> Outcome {
    let version = image.version();
    let outcome = apply(image, command).unwrap();
    assert_eq!(image.version(), version + 1);
    outcome
}

fn version(text: &str) -> PluginVersion {
    text.parse().unwrap()
}
