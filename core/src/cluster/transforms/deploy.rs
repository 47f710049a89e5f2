//! How a transform comes and goes, and what is checked before it comes.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use uuid::Uuid;

use super::cycles::check_cycles;
use super::{Release, Start, Transform, TransformRefusal, TransformSpec};
use crate::cluster::plugins::check_plugin_name;
use crate::cluster::{Image, Outcome, PLUGIN_NAME_CHARACTERS_MAX, PluginRef, Refusal, Topic, World};
use crate::config::OnError;
use crate::ids::TopicName;

/// Deploys a transform that is not there yet.
pub(in crate::cluster) fn deploy(
    image: &mut Image,
    spec: &TransformSpec,
    plugin: &PluginRef,
    config: &str,
    id: Uuid,
    at_ms: i64,
) -> Result<Outcome, Refusal> {
    check_name(image, &spec.name, id)?;
    check_sources(image, spec)?;
    check_sinks(image, spec)?;
    check_dead_letters(image, spec)?;
    check_numbers(spec)?;
    check_cycles(image, spec)?;
    let current = release(image, plugin, config, at_ms)?;
    let transform = Transform {
        spec: spec.clone(),
        id,
        current,
        previous: None,
        canary: None,
        paused: false,
        since: image.version + 1,
        rolled_back: None,
        deployed_with: match spec.start {
            Start::Earliest => Vec::new(),
            Start::Latest => spec.sources.iter().map(|name| count(image, name)).collect(),
        },
        assignment: Vec::new(),
    };
    Ok(image.put_transform(transform))
}

/// Removes a transform.
pub(in crate::cluster) fn delete(image: &mut Image, name: &str) -> Result<Outcome, Refusal> {
    let gone = image.transforms.remove(name);
    let gone = gone.ok_or_else(|| TransformRefusal::Unknown(shortened(name)))?;
    Ok(Outcome::TransformDeleted(gone))
}

impl Image {
    /// Transforms that read a topic or view, write to it or send dead letters there.
    pub fn transforms_of<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = &'a Arc<Transform>> {
        self.transforms.values().filter(move |transform| {
            let spec = &transform.spec;
            spec.sources.contains(topic) || spec.outputs().any(|to| to == topic)
        })
    }

    /// Puts a transform where it was, or where it was not, with its partitions given out.
    pub(super) fn put_transform(&mut self, mut transform: Transform) -> Outcome {
        transform.assignment = self.assignment(&transform);
        let transform = Arc::new(transform);
        self.transforms
            .insert(transform.spec.name.clone(), transform.clone());
        Outcome::Transform(transform)
    }
}

impl TransformSpec {
    /// Where it writes, dead letters too.
    pub fn outputs(&self) -> impl Iterator<Item = &TopicName> {
        let dead_letters = match &self.on_error {
            OnError::DeadLetter(topic) => Some(topic),
            OnError::Fail | OnError::Skip => None,
        };
        self.sinks.iter().map(|sink| &sink.topic).chain(dead_letters)
    }
}

/// What is to run, with the version that the reference means now.
pub(super) fn release(
    image: &Image,
    plugin: &PluginRef,
    config: &str,
    at_ms: i64,
) -> Result<Release, Refusal> {
    let found = image
        .plugin(plugin)
        .ok_or_else(|| Refusal::UnknownPlugin(plugin.to_string()))?;
    match found.world {
        World::Filter | World::Transform => {}
        World::Partitioner => {
            let plugin = format!("{}@{}", found.name, found.version);
            let world = found.world;
            return Err(TransformRefusal::WrongWorld { plugin, world }.into());
        }
    }
    if config.len() > CONFIG_BYTES_MAX {
        return Err(TransformRefusal::ConfigBytes(config.len()).into());
    }
    Ok(Release {
        plugin: found.name.clone(),
        version: found.version,
        config: config.to_owned(),
        generation: image.version + 1,
        deployed_at_ms: at_ms,
    })
}

fn count(image: &Image, topic: &TopicName) -> u32 {
    let count = image
        .topic(topic)
        .map_or(0, |topic| image.partitions(topic).len());
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn check_name(image: &Image, name: &str, id: Uuid) -> Result<(), TransformRefusal> {
    if check_plugin_name(name).is_err() {
        return Err(TransformRefusal::Name(shortened(name)));
    }
    if image.transforms.contains_key(name) {
        return Err(TransformRefusal::Exists(name.to_owned()));
    }
    if image.transforms.values().any(|other| other.id == id) {
        return Err(TransformRefusal::IdExists(name.to_owned()));
    }
    match image.transforms.len() < TRANSFORMS_MAX {
        true => Ok(()),
        false => Err(TransformRefusal::TooMany),
    }
}

fn check_sources(image: &Image, spec: &TransformSpec) -> Result<(), TransformRefusal> {
    match spec.sources.len() {
        0 => return Err(TransformRefusal::NoSource(spec.name.clone())),
        1..=SOURCES_MAX => {}
        asked => return Err(TransformRefusal::TooManySources(asked)),
    }
    let mut named = BTreeSet::new();
    for source in &spec.sources {
        let topic = image.topic(source);
        let topic = topic.ok_or_else(|| TransformRefusal::UnknownSource(source.clone()))?;
        if topic.is_internal() {
            return Err(TransformRefusal::InternalSource(source.clone()));
        }
        if !named.insert(source) {
            return Err(TransformRefusal::SourceTwice(source.clone()));
        }
    }
    Ok(())
}

fn check_sinks(image: &Image, spec: &TransformSpec) -> Result<(), TransformRefusal> {
    match spec.sinks.len() {
        0 => return Err(TransformRefusal::NoSink(spec.name.clone())),
        1..=SINKS_MAX => {}
        asked => return Err(TransformRefusal::TooManySinks(asked)),
    }
    let (mut topics, mut names) = (BTreeSet::new(), BTreeSet::new());
    for sink in &spec.sinks {
        let place = || sink.topic.clone();
        if TopicName::new(&sink.name).is_err() {
            return Err(TransformRefusal::SinkName(shortened(&sink.name)));
        }
        let topic = image
            .topic(&sink.topic)
            .ok_or_else(|| TransformRefusal::UnknownSink(place()))?;
        match place_of(topic) {
            Place::Internal => return Err(TransformRefusal::InternalSink(place())),
            Place::View => return Err(TransformRefusal::SinkIsView(place())),
            Place::Topic if spec.sources.contains(&sink.topic) => {
                return Err(TransformRefusal::SinkIsSource(place()));
            }
            Place::Topic => {}
        }
        if !topics.insert(&sink.topic) {
            return Err(TransformRefusal::SinkTwice(place()));
        }
        if !names.insert(&sink.name) {
            return Err(TransformRefusal::SinkNameTwice(sink.name.clone()));
        }
    }
    Ok(())
}

fn check_dead_letters(image: &Image, spec: &TransformSpec) -> Result<(), TransformRefusal> {
    let OnError::DeadLetter(to) = &spec.on_error else {
        return Ok(());
    };
    let refusal: fn(TopicName) -> TransformRefusal = match image.topic(to).map(|topic| place_of(topic)) {
        None => TransformRefusal::UnknownDeadLetter,
        Some(Place::Internal) => TransformRefusal::InternalDeadLetter,
        _ if spec.sources.contains(to) => TransformRefusal::DeadLetterIsSource,
        Some(Place::View) => TransformRefusal::DeadLetterIsView,
        Some(Place::Topic) => return Ok(()),
    };
    Err(refusal(to.clone()))
}

fn check_numbers(spec: &TransformSpec) -> Result<(), TransformRefusal> {
    check_workers(spec.workers)?;
    if !COMMIT_INTERVAL_MS.contains(&spec.commit_interval_ms) {
        return Err(TransformRefusal::CommitInterval(spec.commit_interval_ms));
    }
    match COMMIT_BYTES.contains(&spec.commit_bytes) {
        true => Ok(()),
        false => Err(TransformRefusal::CommitBytes(spec.commit_bytes)),
    }
}

pub(super) fn check_workers(workers: u32) -> Result<(), TransformRefusal> {
    match WORKERS.contains(&workers) {
        true => Ok(()),
        false => Err(TransformRefusal::Workers(workers)),
    }
}

/// What there is to write to.
enum Place {
    Topic,
    View,
    Internal,
}

fn place_of(topic: &Topic) -> Place {
    match topic {
        _ if topic.is_internal() => Place::Internal,
        _ if topic.is_view() => Place::View,
        _ => Place::Topic,
    }
}

/// A name as refusals show it: no longer than a good one.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(PLUGIN_NAME_CHARACTERS_MAX).collect()
}

/// Most transforms in a cluster.
pub(super) const TRANSFORMS_MAX: usize = 1000;
/// Most topics and views that a transform reads.
pub(super) const SOURCES_MAX: usize = 64;
/// Most topics that a transform writes.
pub(super) const SINKS_MAX: usize = 64;
/// How many workers a transform may have.
pub(super) const WORKERS: RangeInclusive<u32> = 1..=1024;
/// How long it may take from commit to commit.
pub(super) const COMMIT_INTERVAL_MS: RangeInclusive<u32> = 1..=60_000;
/// How much may be read from commit to commit.
pub(super) const COMMIT_BYTES: RangeInclusive<u32> = 1 << 10..=64 << 20;
/// Longest configuration of a plugin.
pub(super) const CONFIG_BYTES_MAX: usize = 64 << 10;
