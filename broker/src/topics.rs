//! Topics as they run on this broker: configuration, partitions, plugins. Built from the differences between two
//! images of the cluster, and looked up on the way of every record without a lock.
//!
//! What does not change from one image to the next stays the same object, so that whoever hangs something on a topic
//! or on an attached plugin (a cache, a pool of instances, statistics) finds it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::cluster::{self, Image, Plugin};
use millstream_core::config::{Attachment, BrokerDefaults, Flush, Role, TopicConfig};
use millstream_core::ids::{BrokerId, PartitionIndex, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_storage::LogConfig;
use uuid::Uuid;

use crate::broker_configs;
use crate::context::now_ms;
use crate::metrics::Metrics;
use crate::partitions::{Description, Partition, Store};
use crate::plugins::Slot;
use crate::settings::Settings;

pub use millstream_core::cluster::is_internal;

/// A topic, or Kafka's error for one that is not there.
pub type TopicLookup = Result<Arc<Topic>, ErrorCode>;

/// A topic or a view.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its id, never used again.
    pub id: Uuid,
    /// What it is configured to do.
    pub config: Arc<TopicConfig>,
    described: Arc<cluster::Topic>,
    partitions: Slots,
    attached: Vec<Arc<Attached>>,
    view: Option<Arc<View>>,
}

/// Partitions by index; none where one cannot be opened.
type Slots = Arc<[Option<Arc<Partition>>]>;

/// What makes a topic a view.
#[derive(Debug)]
pub struct View {
    /// The view.
    pub name: TopicName,
    /// Plugins from the stored records to what readers see, in order: those of the views that this one stands on come
    /// first.
    pub chain: Vec<Arc<Attached>>,
}

/// A plugin at work on a topic.
#[derive(Debug)]
pub struct Attached {
    /// The topic or view whose configuration attaches it.
    pub topic: TopicName,
    /// What it is attached as.
    pub role: Role,
    /// Its configuration, limits and what happens when it fails.
    pub attachment: Attachment,
    /// The version that the attachment means now.
    pub plugin: Arc<Plugin>,
    /// What runs it, once it is needed.
    pub slot: Slot,
}

impl Topic {
    /// One of its partitions; a view has those of the topic that stores its records.
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// How many partitions it has, whether they can be served or not.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// What makes it a view; none for a topic that stores records.
    pub fn view(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }

    /// Whether its records meet plugins on their way in.
    pub fn has_ingest_plugins(&self) -> bool {
        self.view.is_none() && !self.attached.is_empty()
    }

    /// The plugin that chooses the partition of every record.
    pub fn partitioner(&self) -> Option<&Arc<Attached>> {
        self.attached
            .iter()
            .find(|attached| attached.role == Role::Partitioner)
    }

    /// The plugins that every record passes on its way in, in order.
    pub fn ingest(&self) -> impl Iterator<Item = &Arc<Attached>> {
        self.attached
            .iter()
            .filter(|attached| attached.role == Role::Ingest)
    }

    /// The partitions that are stored here; none for a view.
    pub fn stored_partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        let stored = if self.view.is_none() {
            &self.partitions[..]
        } else {
            &[]
        };
        stored.iter().flatten()
    }
}

/// Every topic and view.
#[derive(Debug)]
pub struct Topics {
    state: ArcSwap<State>,
    store: Arc<Store>,
    node: BrokerId,
    settings: Settings,
    producer_id_expiration_ms: i64,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of names.
    all: Arc<Vec<Arc<Topic>>>,
    by_name: HashMap<TopicName, Arc<Topic>, foldhash::fast::RandomState>,
    by_id: HashMap<Uuid, Arc<Topic>, foldhash::fast::RandomState>,
    /// What stands behind the configurations of topics.
    defaults: BrokerDefaults,
}

/// What will be under another image: made before the image is decided on, so that plugins can refuse it.
#[derive(Debug)]
pub struct Plan {
    image: Arc<Image>,
    defaults: BrokerDefaults,
    next: BTreeMap<TopicName, Next>,
    fresh: Vec<Arc<Attached>>,
}

#[derive(Debug)]
struct Next {
    config: Arc<TopicConfig>,
    attached: Vec<Arc<Attached>>,
}

impl Plan {
    /// The image that it is for.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// Attached plugins that do not run already.
    pub fn fresh(&self) -> &[Arc<Attached>] {
        &self.fresh
    }
}

impl Topics {
    /// No topics yet; their partitions will be in `store`.
    pub fn new(settings: &Settings, store: Arc<Store>, metrics: Arc<Metrics>) -> Self {
        Self {
            state: ArcSwap::default(),
            store,
            node: BrokerId(settings.node_id),
            settings: settings.clone(),
            producer_id_expiration_ms: i64::from(settings.producer_id_expiration_ms),
            metrics,
        }
    }

    /// A topic by name, or by id where the name is empty.
    ///
    /// # Errors
    /// Kafka's error for a topic that is not there.
    pub fn find(&self, name: &str, id: Uuid) -> TopicLookup {
        let state = self.state.load();
        if name.is_empty() && !id.is_nil() {
            return state.by_id.get(&id).cloned().ok_or(ErrorCode::UnknownTopicId);
        }
        state
            .by_name
            .get(name)
            .cloned()
            .ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Whether the topic of that name has such a partition.
    pub fn has_partition(&self, name: &str, index: i32) -> bool {
        let found = self.find(name, Uuid::nil());
        found.is_ok_and(|topic| (0..topic.partition_count()).contains(&index))
    }

    /// Every topic and view, in the order of names.
    pub fn all(&self) -> Arc<Vec<Arc<Topic>>> {
        self.state.load().all.clone()
    }

    /// Every partition that is stored here.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        let all = self.all();
        all.iter()
            .flat_map(|topic| topic.stored_partitions())
            .cloned()
            .collect()
    }

    /// What would be under `image`.
    pub fn plan(&self, image: Arc<Image>) -> Plan {
        let now = self.state.load_full();
        let defaults = broker_configs::defaults(&self.settings, &image, self.node);
        let has_same_defaults = now.defaults == defaults;
        let mut fresh = Vec::new();
        let mut next = BTreeMap::new();
        for topic in image.topics() {
            let known = now.by_id.get(&topic.id.0);
            let same = known.filter(|known| Arc::ptr_eq(&known.described, topic));
            let config = match same {
                Some(known) if has_same_defaults => known.config.clone(),
                _ => {
                    let config = self.config(topic, &defaults);
                    // What does not change stays the same object.
                    let known = same.filter(|known| *known.config == config);
                    known.map_or_else(|| Arc::new(config), |known| known.config.clone())
                }
            };
            let mut attached: Vec<Arc<Attached>> = Vec::new();
            for (role, attachment) in config.attachments() {
                let plugin = image
                    .plugin(&attachment.plugin)
                    .expect("a plugin that is attached is not deleted");
                // Each stands for one place in the chain: a batch that took two seats at the same one would wait for
                // itself.
                let is_taken = |a: &Arc<Attached>| attached.iter().any(|taken| Arc::ptr_eq(taken, a));
                let runs = known.and_then(|known| {
                    let mut all = known.attached.iter();
                    all.find(|a| a.is(role, attachment, plugin) && !is_taken(a))
                });
                attached.push(runs.cloned().unwrap_or_else(|| {
                    let made = Arc::new(Attached {
                        topic: topic.name.clone(),
                        role,
                        attachment: attachment.clone(),
                        plugin: plugin.clone(),
                        slot: Slot::default(),
                    });
                    fresh.push(made.clone());
                    made
                }));
            }
            next.insert(topic.name.clone(), Next { config, attached });
        }
        Plan {
            image,
            defaults,
            next,
            fresh,
        }
    }

    /// The configuration of a topic. What was set for brokers while they run was checked by one of them, against its own
    /// settings; a broker that was started with others may have to do without.
    fn config(&self, topic: &cluster::Topic, defaults: &BrokerDefaults) -> TopicConfig {
        topic.config(defaults).unwrap_or_else(|error| {
            tracing::warn!(topic = %topic.name, %error, "what is set for brokers at run time does not fit the topic");
            let at_start = self.settings.show().into_iter().collect();
            topic.config(&at_start).expect(
                "the broker's defaults are checked at the start, a topic's values before they are in the image",
            )
        })
    }

    /// Makes it so: opens new partitions, configures those there are, deletes those that are gone, leads what is to be led
    /// here. What is not to be led here stays what it is until [`Topics::step_down`]. Blocks. Gives the reasons why
    /// partitions could not be opened; they are served again when the broker is started anew.
    pub fn carry_out(&self, plan: &Plan) -> Vec<String> {
        let now = self.state.load_full();
        let mut failures = Vec::new();
        let slots = self.open_partitions(&now, plan, &mut failures);
        give_roles(&plan.image, &slots, |described| {
            described.leader == Some(self.node)
        });
        let mut state = State {
            defaults: plan.defaults.clone(),
            ..Default::default()
        };
        let mut all = Vec::with_capacity(plan.next.len());
        for described in plan.image.topics() {
            let topic = self.build(&now, plan, &slots, described);
            state.by_name.insert(topic.name.clone(), topic.clone());
            state.by_id.insert(topic.id, topic.clone());
            all.push(topic);
        }
        let is_gone = |topic: &Topic, partition: &Arc<Partition>| {
            let after = state.by_id.get(&topic.id);
            let after = after.and_then(|after| after.partition(partition.index.0));
            after.is_none_or(|after| !Arc::ptr_eq(after, partition))
        };
        let mut gone: Vec<Arc<Partition>> = Vec::new();
        for topic in now.all.iter() {
            let partitions = topic.stored_partitions();
            gone.extend(partitions.filter(|partition| is_gone(topic, partition)).cloned());
        }
        state.all = Arc::new(all);
        self.state.store(Arc::new(state));
        self.store.delete_all(&gone);
        self.metrics.partitions.set(self.partitions().len() as i64);
        failures
    }

    /// Follows in what others lead by the image that was carried out last. Whoever asks for such a partition is refused
    /// from now on, and is to find in the image who leads it.
    pub fn step_down(&self, image: &Image) {
        let state = self.state.load();
        let stored = state.all.iter().filter(|topic| !topic.described.is_view());
        let slots = stored.map(|topic| (TopicId(topic.id), topic.partitions.clone()));
        give_roles(image, &slots.collect(), |described| {
            described.leader != Some(self.node)
        });
    }

    /// The partitions of every topic that stores records.
    fn open_partitions(
        &self,
        now: &State,
        plan: &Plan,
        failures: &mut Vec<String>,
    ) -> BTreeMap<TopicId, Slots> {
        let mut slots: BTreeMap<TopicId, Vec<Option<Arc<Partition>>>> = BTreeMap::new();
        let mut unchanged = BTreeMap::new();
        let mut missing = Vec::new();
        for topic in plan.image.topics().filter(|topic| !topic.is_view()) {
            let known = now.by_id.get(&topic.id.0);
            let config = &plan.next[&topic.name].config;
            let is_same = |known: &&Arc<Topic>| {
                Arc::ptr_eq(&known.described, topic) && Arc::ptr_eq(&known.config, config)
            };
            if let Some(known) = known.filter(is_same) {
                unchanged.insert(topic.id, known.partitions.clone());
                continue;
            }
            let (log, waits_for_disk) = (self.log_config(config), config.flush == Flush::Always);
            let mut of_topic = known.map_or_else(Vec::new, |known| known.partitions.to_vec());
            for partition in of_topic.iter().flatten() {
                partition.configure(log.clone(), waits_for_disk);
            }
            // Those that could not be opened before are not tried again, except where they come here anew.
            let was_here = |place: usize| {
                let before = known.and_then(|known| known.described.partitions.get(place));
                before.is_some_and(|before| before.replicas.contains(&self.node))
            };
            of_topic.resize(topic.partitions.len(), None);
            for (place, partition) in topic.partitions.iter().enumerate() {
                if !partition.replicas.contains(&self.node) {
                    of_topic[place] = None;
                } else if of_topic[place].is_none() && !was_here(place) {
                    missing.push(Description {
                        topic: topic.name.clone(),
                        topic_id: topic.id,
                        index: PartitionIndex(i32::try_from(place).expect("the image bounds partitions")),
                        log: log.clone(),
                        waits_for_disk,
                    });
                }
            }
            slots.insert(topic.id, of_topic);
        }
        for (description, opened) in missing.iter().zip(self.store.open_all(&missing)) {
            let Description {
                topic,
                topic_id,
                index,
                ..
            } = description;
            match (opened, slots.get_mut(topic_id)) {
                (Ok(partition), Some(of_topic)) => of_topic[index.0 as usize] = Some(partition),
                (Ok(_), None) => {}
                (Err(error), _) => {
                    tracing::error!(%topic, partition = index.0, %error, "partition is not served");
                    failures.push(format!("{topic}-{index}: {error}"));
                }
            }
        }
        unchanged.extend(slots.into_iter().map(|(id, of_topic)| (id, of_topic.into())));
        unchanged
    }

    fn build(
        &self,
        now: &State,
        plan: &Plan,
        slots: &BTreeMap<TopicId, Slots>,
        described: &Arc<cluster::Topic>,
    ) -> Arc<Topic> {
        let next = &plan.next[&described.name];
        let stored = plan.image.stored_topic(described);
        let partitions = slots[&stored.id].clone();
        let view = described.is_view().then(|| View {
            name: described.name.clone(),
            chain: chain(plan, described),
        });
        if let Some(known) = now.by_id.get(&described.id.0) {
            let is_same = Arc::ptr_eq(&known.described, described)
                && Arc::ptr_eq(&known.config, &next.config)
                && Arc::ptr_eq(&known.partitions, &partitions)
                && are_same(&known.attached, &next.attached)
                && are_same(chain_of(known.view.as_deref()), chain_of(view.as_ref()));
            if is_same {
                return known.clone();
            }
        }
        Arc::new(Topic {
            name: described.name.clone(),
            id: described.id.0,
            config: next.config.clone(),
            described: described.clone(),
            partitions,
            attached: next.attached.clone(),
            view: view.map(Arc::new),
        })
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig {
            segment_bytes: config.segment_bytes as u64,
            segment_ms: config.segment_ms,
            segment_index_bytes: config.segment_index_bytes as u64,
            index_interval_bytes: config.index_interval_bytes as u64,
            // A compacted topic loses what its owner says, not what is old, unless it asks for both.
            retention_ms: if config.deletes { config.retention_ms } else { -1 },
            retention_bytes: if config.deletes {
                config.retention_bytes
            } else {
                -1
            },
            log_append_time: config.log_append_time,
            producer_id_expiration_ms: self.producer_id_expiration_ms,
        }
    }
}

impl Attached {
    fn is(&self, role: Role, attachment: &Attachment, plugin: &Plugin) -> bool {
        self.role == role && self.attachment == *attachment && *self.plugin == *plugin
    }
}

/// Makes those partitions what the image says they are here.
fn give_roles(
    image: &Image,
    slots: &BTreeMap<TopicId, Slots>,
    are_meant: impl Fn(&cluster::Partition) -> bool,
) {
    let now_ms = now_ms();
    for topic in image.topics().filter(|topic| !topic.is_view()) {
        let stored = slots.get(&topic.id).into_iter().flat_map(|slots| slots.iter());
        for (partition, described) in stored
            .zip(&topic.partitions)
            .filter(|(_, described)| are_meant(described))
        {
            if let Some(partition) = partition {
                partition.take_role(described, image.min_insync(topic, described), now_ms);
            }
        }
    }
}

/// The plugins between a view's stored records and its readers.
fn chain(plan: &Plan, view: &Arc<cluster::Topic>) -> Vec<Arc<Attached>> {
    let mut at = view;
    let mut down = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(source) = at.view_source().and_then(|source| plan.image.topic(source)) {
        assert!(seen.insert(&at.name), "cycles of views are refused");
        down.push(&plan.next[&at.name].attached);
        at = source;
    }
    down.into_iter().rev().flatten().cloned().collect()
}

fn chain_of(view: Option<&View>) -> &[Arc<Attached>] {
    view.map_or(&[], |view| &view.chain)
}

fn are_same(left: &[Arc<Attached>], right: &[Arc<Attached>]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| Arc::ptr_eq(left, right))
}

#[cfg(test)]
mod tests;
