//! Which partitions of an internal topic this broker coordinates by: those that it leads, each from the time when it knows
//! all that was acknowledged before.

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::cluster::{Command, Image, placement};
use millstream_core::ids::{BrokerId, LeaderEpoch, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::machine::{Follow, Machine, Unserved};
use super::shard::Shard;
use crate::context::Context;
use crate::handlers::{admin, leaders};
use crate::metrics::Metrics;
use crate::partitions::Partition;
use crate::topics::Topic;

/// The owners of all partitions of a topic.
pub(super) struct Places<M: Machine> {
    config: M::Config,
    expiry_interval_ms: i64,
    follow_ups: mpsc::UnboundedSender<Follow<M::FollowUp>>,
    metrics: Arc<Metrics>,
    /// By partition. Where a key lies depends on how many partitions there are, so those that are elsewhere keep their
    /// places.
    places: ArcSwap<Vec<Place<Arc<Shard<M>>>>>,
    /// Shards start on whatever thread an image is carried out.
    runtime: Handle,
}

/// Who serves a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place<T> {
    /// This broker.
    Here(T),
    /// Another one, or none at the moment.
    Elsewhere,
    /// This broker should, but cannot open it.
    Broken,
}

/// A partition that this broker leads, and since when.
pub(super) type Led = (Arc<Partition>, LeaderEpoch);

impl<M: Machine> Places<M> {
    /// None yet.
    ///
    /// # Panics
    /// Outside of a runtime: the shards will run on the one that this is called on.
    pub fn new(
        config: M::Config,
        expiry_interval_ms: i64,
        follow_ups: mpsc::UnboundedSender<Follow<M::FollowUp>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            config,
            expiry_interval_ms,
            follow_ups,
            metrics,
            places: ArcSwap::default(),
            runtime: Handle::current(),
        }
    }

    /// Serves these partitions and no others; one call after the other. What is new is read in the background: requests
    /// meanwhile hear that the coordinator is loading.
    pub fn serve(&self, wanted: Vec<Place<Led>>, shutdown: &watch::Sender<bool>) {
        let before = self.places.load_full();
        let runs = |index: usize, partition: &Arc<Partition>, epoch| match before.get(index) {
            Some(Place::Here(shard)) if shard.is_of(partition, epoch) => Some(shard.clone()),
            _ => None,
        };
        let start = |(index, place): (usize, Place<Led>)| match place {
            Place::Here((partition, epoch)) => {
                Place::Here(runs(index, &partition, epoch).unwrap_or_else(|| {
                    let follow_ups = self.follow_ups.clone();
                    let (config, metrics) = (self.config.clone(), self.metrics.clone());
                    let shard = Shard::new(partition, epoch, config, follow_ups, metrics);
                    let running = shard.clone().run(self.expiry_interval_ms, shutdown.subscribe());
                    self.runtime.spawn(running);
                    shard
                }))
            }
            Place::Elsewhere => Place::Elsewhere,
            Place::Broken => Place::Broken,
        };
        let after: Vec<_> = wanted.into_iter().enumerate().map(start).collect();
        self.places.store(Arc::new(after));
        let after = self.places.load();
        for (index, place) in before.iter().enumerate() {
            if let Place::Here(shard) = place
                && !matches!(after.get(index), Some(Place::Here(kept)) if Arc::ptr_eq(kept, shard))
            {
                shard.stop();
            }
        }
    }

    /// Runs something where shards run.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// Whether the topic is there.
    pub fn is_started(&self) -> bool {
        !self.places.load().is_empty()
    }

    /// The owner of a key.
    ///
    /// # Errors
    /// There is no such topic yet; or the partition that keeps the key is another broker's, or cannot be served.
    pub fn shard(&self, key: &str) -> Result<Arc<Shard<M>>, Unserved> {
        let places = self.places.load();
        match i32::try_from(places.len()) {
            Ok(count @ 1..) => served(&places, partition_of(key, count)),
            _ => Err(Unserved::NotAvailable),
        }
    }

    /// The owner of a partition.
    ///
    /// # Errors
    /// As [`Places::shard`].
    pub fn shard_at(&self, partition: i32) -> Result<Arc<Shard<M>>, Unserved> {
        served(&self.places.load(), partition)
    }

    /// Every owner on this broker.
    pub fn shards(&self) -> Vec<Arc<Shard<M>>> {
        let places = self.places.load();
        let here = places.iter().filter_map(|place| match place {
            Place::Here(shard) => Some(shard.clone()),
            _ => None,
        });
        here.collect()
    }
}

fn served<M: Machine>(places: &[Place<Arc<Shard<M>>>], partition: i32) -> Result<Arc<Shard<M>>, Unserved> {
    let place = usize::try_from(partition)
        .ok()
        .and_then(|index| places.get(index));
    match place {
        Some(Place::Here(shard)) => Ok(shard.clone()),
        Some(Place::Elsewhere) => Err(Unserved::Elsewhere),
        Some(Place::Broken) | None => Err(Unserved::NotAvailable),
    }
}

/// The broker that keeps a key: the one that leads its partition of `topic`. None while nobody does, or there is no such
/// topic.
pub fn coordinator_of(image: &Image, topic: &str, key: &str) -> Option<BrokerId> {
    let topic = image.topic(topic)?;
    let count = i32::try_from(topic.partitions.len())
        .ok()
        .filter(|count| *count > 0)?;
    let leader = leaders::leader(image, topic.id.0, partition_of(key, count))?;
    (leader.id != leaders::NOBODY).then_some(BrokerId(leader.id))
}

/// An internal topic, as it is made.
pub(super) struct Internal {
    pub name: &'static str,
    pub partitions: i32,
    /// As far as there are brokers.
    pub replication_factor: i32,
    /// None: as brokers are configured.
    pub min_insync_replicas: Option<i32>,
}

/// Makes an internal topic, unless it is there. Its segments are a sixth of Kafka's, since the log is compacted by
/// load and whole segments are what goes.
///
/// # Errors
/// It cannot be made now.
pub(super) async fn create(context: &Arc<Context>, topic: Internal) -> Result<(), ErrorCode> {
    if context.topics.find(topic.name, Uuid::nil()).is_ok() {
        return Ok(());
    }
    let mut configs = vec![
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", "16777216".to_owned()),
    ];
    let id = Uuid::new_v4();
    let image = context.controller.image();
    let alive = image
        .brokers()
        .values()
        .filter(|broker| broker.takes_replicas())
        .count();
    let factor = (topic.replication_factor as usize).min(alive.max(1));
    if let Some(copies) = topic.min_insync_replicas {
        configs.push(("min.insync.replicas", (copies as usize).min(factor).to_string()));
    }
    let placed = placement::place(&image, topic.partitions as usize, factor, id.as_u64_pair().1);
    let configs = configs.into_iter().map(|(name, value)| (name.to_owned(), value));
    let command = Command::CreateTopic {
        name: TopicName::new(topic.name).expect("it is a legal name"),
        id: TopicId(id),
        partitions: placed.map_err(|refusal| admin::denied(&refusal).code)?,
        configs: configs.collect(),
    };
    let created = context.controller.apply_in_passing(command).await;
    // Somebody else may have made it at the same moment.
    match (context.topics.find(topic.name, Uuid::nil()), created) {
        (Ok(_), _) => Ok(()),
        (Err(_), Err(refusal)) => Err(refusal.code),
        (Err(_), Ok(_)) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

/// Who serves each partition of an internal topic.
pub(super) fn places(context: &Context, topic: &Topic) -> Vec<Place<Led>> {
    let image = context.controller.image();
    let place = |index| match topic.partition(index) {
        Some(partition) if partition.is_leader() => {
            Place::Here((partition.clone(), partition.leader_epoch()))
        }
        Some(_) => Place::Elsewhere,
        None => match leaders::leader(&image, topic.id, index) {
            Some(leader) if leader.id != context.settings.node_id => Place::Elsewhere,
            _ => Place::Broken,
        },
    };
    (0..topic.partition_count()).map(place).collect()
}

/// The partition that keeps a group or a transactional id: Java's hash of it, as Kafka has it, so that a log that Kafka
/// wrote is read by the same partition.
pub fn partition_of(key: &str, count: i32) -> i32 {
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash & i32::MAX) % count
}

#[cfg(test)]
mod tests {
    use millstream_core::cluster::CONSUMER_OFFSETS;
    use millstream_core::group::{CommitRequest, GroupError, Groups, Identity, OffsetCommit};
    use millstream_core::ids::PartitionIndex;
    use millstream_core::replica::Term;
    use millstream_storage::LogConfig;

    use super::*;
    use crate::coordinators::groups::Setting;
    use crate::partitions::{Description, Store};

    #[test]
    fn groups_lie_where_kafka_puts_them() {
        // "console-consumer-1".hashCode() and the like, from Java.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 47);
        assert_eq!(partition_of("test", 50), 3_556_498 % 50);
        assert!((0..4).contains(&partition_of("the quick brown fox jumps over the lazy dog", 4)));
    }

    fn new() -> Places<Groups> {
        counted(Metrics::new())
    }

    fn counted(metrics: Arc<Metrics>) -> Places<Groups> {
        let (follow_ups, _) = mpsc::unbounded_channel();
        Places::new(Setting::default(), 600_000, follow_ups, metrics)
    }

    /// Two partitions that this broker leads, at places 1 and 2.
    fn partitions(dir: &tempfile::TempDir) -> Vec<Arc<Partition>> {
        let store = Store::open(dir.path(), BrokerId(1), Metrics::new()).unwrap();
        let description = |index| Description {
            topic: TopicName::new(CONSUMER_OFFSETS).unwrap(),
            topic_id: TopicId(Uuid::from_u128(1)),
            index: PartitionIndex(index),
            log: LogConfig::default(),
            waits_for_disk: true,
        };
        let opened = store.open_all(&[description(1), description(2)]);
        opened.into_iter().map(Result::unwrap).collect()
    }

    fn led(partitions: &[Arc<Partition>], epoch: i32) -> Vec<Place<Led>> {
        let led = partitions.iter().map(|partition| {
            partition.become_leader(term(epoch), 0);
            Place::Here((partition.clone(), LeaderEpoch(epoch)))
        });
        led.collect()
    }

    fn term(epoch: i32) -> Term {
        Term {
            epoch: LeaderEpoch(epoch),
            partition_epoch: 0,
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            min_insync: 1,
        }
    }

    #[tokio::test]
    async fn a_partition_that_is_missing_does_not_move_the_groups_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = led(&partitions(&dir), 0);
        wanted.insert(0, Place::Broken);
        let places = new();
        let (shutdown, _) = watch::channel(false);
        places.serve(wanted, &shutdown);
        let all = places.shards();
        let mut met = [0; 3];
        for n in 0..20 {
            let group = format!("g{n}");
            let place = partition_of(&group, 3) as usize;
            met[place] += 1;
            match places.shard(&group) {
                Ok(shard) => assert!(Arc::ptr_eq(&shard, &all[place - 1])),
                Err(error) => assert_eq!((error, place), (Unserved::NotAvailable, 0)),
            }
        }
        assert!(met.iter().all(|met| *met > 0));
    }

    #[tokio::test]
    async fn groups_leave_with_the_lead_of_their_partition_and_come_back_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = partitions(&dir);
        let places = new();
        let (shutdown, _) = watch::channel(false);
        places.serve(led(&partitions, 0), &shutdown);
        let (kept, lost) = (places.shards()[0].clone(), places.shards()[1].clone());
        let mut wanted = led(&partitions, 0);
        wanted[1] = Place::Elsewhere;
        places.serve(wanted, &shutdown);
        assert!(Arc::ptr_eq(&places.shards()[0], &kept), "it goes on");
        let of_lost = (0..).map(|n| format!("g{n}")).find(|g| partition_of(g, 2) == 1);
        let refused = places.shard(&of_lost.unwrap()).err();
        assert_eq!(refused, Some(Unserved::Elsewhere));
        // Whoever still holds it hears the same.
        assert_eq!(lost.look(|_| ()).err(), Some(GroupError::NotCoordinator));
        places.serve(led(&partitions, 3), &shutdown);
        assert_eq!(places.shards().len(), 2);
        assert!(
            !Arc::ptr_eq(&places.shards()[0], &kept),
            "another term reads anew"
        );
    }

    #[tokio::test]
    async fn groups_that_are_given_up_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = partitions(&dir);
        let metrics = Metrics::new();
        let places = counted(metrics.clone());
        let (shutdown, _) = watch::channel(false);
        places.serve(led(&partitions, 0), &shutdown);
        let shard = places.shards()[1].clone();
        while shard.look(|_| ()).is_err() {
            tokio::task::yield_now().await;
        }
        let commit = CommitRequest {
            who: Identity {
                group: "g".to_owned(),
                generation: -1,
                ..Identity::default()
            },
            offsets: vec![OffsetCommit {
                topic: "t".to_owned(),
                partition: 0,
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
            }],
        };
        assert!(shard.act(|groups| groups.commit(0, &commit).1));
        let given_up = r#"millstream_coordinator_given_up_total{kind="groups"}"#;
        assert_eq!(metrics.sample(given_up), 0.0);
        let mut wanted = led(&partitions, 0);
        wanted[1] = Place::Elsewhere;
        places.serve(wanted, &shutdown);
        assert_eq!(metrics.sample(given_up), 1.0);
    }
}
