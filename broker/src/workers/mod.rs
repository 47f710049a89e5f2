//! Deployed transforms at work: a [`task`] for every source partition that the image gives to this broker.
//!
//! Who runs what is decided with the image ([`millstream_core::transform`]) and only carried out here. That two brokers may
//! think for a while that a partition is theirs does no harm: the one that took over last has fenced the other.

#![allow(
    clippy::needless_update,
    reason = "messages get fields with new versions: a worker that asks brokers names those that it decides on"
)]

pub mod balance;
mod bundle;
mod compute;
mod doubt;
mod events;
mod instance;
mod life;
mod platform;
mod reading;
pub mod report;
pub mod reset;
mod tally;
mod task;
#[cfg(test)]
mod tests;
mod trial;
mod writing;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use millstream_core::cluster::{Assigned, Guarantee, Image, PluginRef, Release, Transform, TransformSpec};
use millstream_core::config::BrokerDefaults;
use millstream_core::ids::{PartitionIndex, TopicName};
use millstream_kafka::wire::Text;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::context::Context;
use crate::handlers::admin;
use crate::plugins::CallFailure;
use crate::plugins::worker::Cost;
use crate::settings::Settings;
use compute::{Room, Shape, Sink};
use events::Assignment;
use instance::Instance;
use platform::Who;
use tally::Board;
use task::Task;

pub use events::Events;
pub use tally::{Face, LastError, State, Tally};

/// The partitions of transforms that this broker runs.
pub struct Workers {
    running: Mutex<BTreeMap<Key, Running>>,
    /// Those that were told to stop and that nobody has followed yet. Locked after `running`.
    ending: Mutex<BTreeMap<Key, JoinHandle<()>>>,
    /// Whether nothing is started any more.
    is_ended: AtomicBool,
    /// Instances of workers, while a partition uses them.
    instances: Mutex<HashMap<InstanceKey, Weak<Instance>>>,
    threads: Arc<Semaphore>,
    room: Room,
    decompressed_max: usize,
    /// Images are carried out on threads of their own.
    runtime: Handle,
}

/// A transform's id, a source, and a partition of it.
type Key = (Uuid, TopicName, PartitionIndex);
/// A transform's id, the generation of a release, and a worker's number.
type InstanceKey = (Uuid, u64, u32);

struct Running {
    how: How,
    stop: watch::Sender<bool>,
    board: Arc<Board>,
    task: JoinHandle<()>,
}

/// What a running partition depends on: whatever of it changes, another task takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct How {
    generation: u64,
    since: u64,
    worker: u32,
    /// Whether it is on trial decides who judges it, not what runs.
    canary: bool,
    /// Of sources and sinks: they may grow, or be made anew under their names.
    topics: Vec<(Uuid, usize)>,
    /// What sinks take may change, too.
    sinks: Arc<[Sink]>,
}

impl Workers {
    /// Runs nothing until [`Workers::image_changed`].
    ///
    /// # Panics
    /// Outside of a runtime: the tasks will run on the one that this is called on.
    pub fn new(settings: &Settings) -> Self {
        let threads = match settings.transform_threads {
            0 => available_parallelism().map_or(1, usize::from).div_ceil(2),
            threads => threads as usize,
        };
        Self {
            running: Mutex::default(),
            ending: Mutex::default(),
            is_ended: AtomicBool::new(false),
            instances: Mutex::default(),
            threads: Arc::new(Semaphore::new(threads)),
            room: Room::default(),
            decompressed_max: settings.decompressed_max_bytes as usize,
            runtime: Handle::current(),
        }
    }

    /// Starts and stops tasks so that they are what the image gives to this broker. Called whenever another image is carried
    /// out; does not block.
    pub fn image_changed(&self, context: &Arc<Context>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let image = context.controller.image();
        context.metrics.workers.image_changed(&image);
        if running.is_empty() && image.transforms().len() == 0 {
            return;
        }
        let is_ending = self.is_ended.load(Ordering::SeqCst);
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|_, task| !task.is_finished());
        let defaults = admin::broker_defaults(context);
        let mut before = std::mem::take(&mut *running);
        let active = image
            .transforms()
            .filter(|transform| !transform.paused && !is_ending);
        for transform in active {
            if mine(context, transform).next().is_none() {
                continue;
            }
            let Some(sinks) = sinks(&image, &transform.spec, &defaults) else {
                continue;
            };
            for assigned in mine(context, transform) {
                let key = (transform.id, assigned.topic.clone(), assigned.partition);
                let Some(how) = how(&image, transform, assigned, &sinks) else {
                    continue;
                };
                let kept = before.remove(&key);
                let next = match kept {
                    Some(kept) if kept.how == how => Some(kept),
                    Some(old) => {
                        context.metrics.workers.assigned(Assignment::Renewed);
                        old.stop.send_replace(true);
                        self.start(context, &image, (transform, assigned), how, Some(old.task))
                    }
                    None => {
                        context.metrics.workers.assigned(Assignment::Given);
                        let before = ending.remove(&key);
                        self.start(context, &image, (transform, assigned), how, before)
                    }
                };
                if let Some(next) = next {
                    running.insert(key, next);
                }
            }
        }
        for (key, left) in before {
            context.metrics.workers.assigned(Assignment::Taken);
            left.stop.send_replace(true);
            ending.insert(key, left.task);
        }
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.retain(|_, instance| instance.strong_count() > 0);
    }

    fn start(
        &self,
        context: &Arc<Context>,
        image: &Image,
        (transform, assigned): (&Arc<Transform>, &Assigned),
        how: How,
        before: Option<JoinHandle<()>>,
    ) -> Option<Running> {
        let spec = &transform.spec;
        let who = who(transform, &assigned.topic, assigned.partition);
        let board = who.board.clone();
        let task = Task {
            name: spec.name.clone(),
            who,
            shape: Arc::new(self.shape(spec, assigned, &how.sinks)),
            guarantee: spec.guarantee,
            start: transform.start(&assigned.topic, assigned.partition),
            interval: Duration::from_millis(u64::from(spec.commit_interval_ms)),
            bytes: spec.commit_bytes as usize,
            generation: how.generation,
            canary: transform.canary.clone().filter(|_| how.canary),
            instance: self.instance(image, transform, assigned)?,
            threads: self.threads.clone(),
            room: self.room.clone(),
        };
        let (stop, stopping) = watch::channel(false);
        let task = self.runtime.spawn(task.run(context.clone(), stopping, before));
        Some(Running {
            how,
            stop,
            board,
            task,
        })
    }

    /// The instance of a worker: that of the other partitions that it runs.
    fn instance(&self, image: &Image, transform: &Transform, assigned: &Assigned) -> Option<Arc<Instance>> {
        let release = transform.release(assigned);
        let key = (transform.id, release.generation, assigned.worker);
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = instances.get(&key).and_then(Weak::upgrade) {
            return Some(instance);
        }
        let plugin = image.plugin(&release.reference())?.clone();
        let (config, limits) = (release.config.clone(), transform.spec.limits.clone());
        let instance = Arc::new(Instance::new(plugin, config, limits, names(&transform.spec)));
        instances.insert(key, Arc::downgrade(&instance));
        Some(instance)
    }

    fn shape(&self, spec: &TransformSpec, assigned: &Assigned, sinks: &Arc<[Sink]>) -> Shape {
        Shape {
            topic: assigned.topic.clone(),
            partition: assigned.partition.0,
            sinks: sinks.clone(),
            declared: names(spec),
            on_error: spec.on_error.clone(),
            decompressed_max: self.decompressed_max,
        }
    }

    /// Whether anything of a transform runs here, if only to its end.
    pub fn runs(&self, transform: Uuid) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = ending.iter().filter(|(_, task)| !task.is_finished());
        let mut keys = running.keys().chain(unfinished.map(|(key, _)| key));
        keys.any(|(id, ..)| *id == transform)
    }

    /// How a partition is that this broker runs.
    pub fn look(&self, transform: Uuid, topic: &TopicName, partition: PartitionIndex) -> Option<Face> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let found = running.get(&(transform, topic.clone(), partition));
        found.map(|running| running.board.look())
    }

    /// What the plugins cost here: by the transform's id, its worker, and name and version of the plugin.
    pub fn costs(&self) -> Vec<((Uuid, u32, String), Cost)> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let live = instances.iter().filter_map(|((transform, _, worker), instance)| {
            let instance = instance.upgrade()?;
            Some(((*transform, *worker, instance.plugin()), instance.cost()?))
        });
        live.collect()
    }

    /// Ends everything, and waits for what is under way, not for long.
    pub async fn end(&self) {
        self.is_ended.store(true, Ordering::SeqCst);
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let ending = std::mem::take(&mut *self.ending.lock().unwrap_or_else(PoisonError::into_inner));
        for one in running.values() {
            one.stop.send_replace(true);
        }
        let deadline = tokio::time::Instant::now() + END_WAIT;
        let running = running.into_values().map(|one| one.task);
        for task in running.chain(ending.into_values()) {
            let _ = tokio::time::timeout_at(deadline, task).await;
        }
    }
}

/// Whether a transform can run: its plugin accepts the configuration, before anything is deployed.
///
/// # Errors
/// Why not, for people.
pub async fn check(
    context: &Arc<Context>,
    spec: &TransformSpec,
    plugin: &PluginRef,
    config: &str,
) -> Result<(), String> {
    let image = context.controller.image();
    let found = image.plugin(plugin);
    let found = found
        .ok_or_else(|| format!("there is no plugin '{plugin}'"))?
        .clone();
    let instance = Instance::new(found, config.to_owned(), spec.limits.clone(), names(spec));
    let started = instance.get(context).await;
    let refused = |failure| {
        let (CallFailure::Plugin(reason) | CallFailure::Busy(reason)) = failure;
        format!("plugin '{plugin}': {reason}")
    };
    started.map(|_| ()).map_err(refused)
}

/// What of a transform this broker runs.
fn mine<'a>(context: &Context, transform: &'a Transform) -> impl Iterator<Item = &'a Assigned> {
    let node = context.node;
    transform
        .assignment
        .iter()
        .filter(move |assigned| assigned.broker == node)
}

fn names(spec: &TransformSpec) -> Arc<[String]> {
    spec.sinks.iter().map(|sink| sink.name.clone()).collect()
}

fn who(transform: &Transform, topic: &TopicName, partition: PartitionIndex) -> Who {
    let id = transform.transactional_id(topic, partition);
    Who {
        topic: Text::from(topic.as_str()),
        partition: partition.0,
        group: Text::from(transform.group()),
        transactional_id: (transform.spec.guarantee == Guarantee::ExactlyOnce).then(|| Text::from(id)),
        board: Arc::default(),
    }
}

/// Where a transform writes; behind its sinks the topic of dead letters.
fn sinks(image: &Image, spec: &TransformSpec, defaults: &BrokerDefaults) -> Option<Arc<[Sink]>> {
    spec.outputs().map(|topic| sink(image, topic, defaults)).collect()
}

fn sink(image: &Image, topic: &TopicName, defaults: &BrokerDefaults) -> Option<Sink> {
    let found = image.topic(topic)?;
    let config = found.config(defaults).ok()?;
    let timestamps_ms_max = (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
    Some(Sink {
        topic: topic.clone(),
        partitions: i32::try_from(image.partitions(found).len()).ok()?,
        batch_bytes_max: config.max_message_bytes as usize,
        is_compacted: config.compact,
        timestamps_ms_max: (!config.log_append_time).then_some(timestamps_ms_max),
    })
}

fn how(image: &Image, transform: &Transform, assigned: &Assigned, sinks: &Arc<[Sink]>) -> Option<How> {
    let spec = &transform.spec;
    let release: &Release = transform.release(assigned);
    let topics = spec.sinks.iter().map(|sink| &sink.topic).chain([&assigned.topic]);
    let topics = topics.map(|name| {
        let topic = image.topic(name)?;
        Some((topic.id.0, image.partitions(topic).len()))
    });
    Some(How {
        generation: release.generation,
        since: transform.since,
        worker: assigned.worker,
        canary: assigned.canary && transform.canary.is_some(),
        topics: topics.collect::<Option<_>>()?,
        sinks: sinks.clone(),
    })
}

/// How long commits that are under way may take when the broker ends.
const END_WAIT: Duration = Duration::from_secs(4);
