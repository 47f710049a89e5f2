//! The coordinator of consumer groups: which partition of `__consumer_offsets` keeps a group, and which of them this
//! broker serves: those that it leads, each from the time when it knows all that was acknowledged before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use millstream_core::cluster::{CONSUMER_OFFSETS, Command, Image, placement};
use millstream_core::group::consumer::ConsumerConfig;
use millstream_core::group::{GroupConfig, GroupError};
use millstream_core::ids::{BrokerId, LeaderEpoch, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use super::shard::Shard;
use crate::context::Context;
use crate::handlers::{admin, leaders};
use crate::partitions::Partition;
use crate::settings::Settings;
use crate::topics::Topic;

/// All groups that this broker coordinates.
pub struct GroupCoordinator {
    config: GroupConfig,
    expiry_interval_ms: i64,
    /// By partition. Where a group lies depends on how many partitions there are, so those that are elsewhere keep their
    /// places.
    places: ArcSwap<Vec<Place<Arc<Shard>>>>,
    /// What was so when leadership was looked at last. Held while shards start and stop.
    seen: Mutex<Seen>,
    /// Shards start on whatever thread an image is carried out.
    runtime: Handle,
}

/// Who serves a partition of `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place<T> {
    /// This broker.
    Here(T),
    /// Another one, or none at the moment.
    Elsewhere,
    /// This broker should, but cannot open it.
    Broken,
}

/// A partition that this broker leads, and since when.
type Led = (Arc<Partition>, LeaderEpoch);

#[derive(Default)]
struct Seen {
    topics: Arc<Vec<Arc<Topic>>>,
}

impl GroupCoordinator {
    /// Coordinates nothing until [`GroupCoordinator::image_changed`].
    ///
    /// # Panics
    /// Outside of a runtime: the shards will run on the one that this is called on.
    pub fn new(settings: &Settings) -> Self {
        let config = GroupConfig {
            session_timeout_ms_min: settings.group_min_session_timeout_ms,
            session_timeout_ms_max: settings.group_max_session_timeout_ms,
            initial_delay_ms: settings.group_initial_rebalance_delay_ms,
            members_max: settings.group_max_size as usize,
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            offset_metadata_bytes_max: settings.offset_metadata_max_bytes as usize,
            consumer: ConsumerConfig::default(),
        };
        let expiry_interval_ms = settings.offsets_retention_check_interval_ms;
        Self {
            config,
            expiry_interval_ms,
            places: ArcSwap::default(),
            seen: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Starts and stops shards as this broker gains and loses the lead of partitions of `__consumer_offsets`, and forgets
    /// the offsets of topics that are gone. Called whenever another image is carried out; does not block.
    pub fn image_changed(&self, context: &Arc<Context>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = context.topics.all();
        let offsets = context.topics.find(CONSUMER_OFFSETS, Uuid::nil()).ok();
        let places = offsets.map_or_else(Vec::new, |offsets| places(context, &offsets));
        self.serve(places, &context.shutdown);
        let gone = gone(&seen.topics, &topics);
        seen.topics = topics;
        drop(seen);
        if !gone.is_empty() && self.is_started() {
            let context = context.clone();
            self.runtime.spawn(async move {
                for topic in gone {
                    context.groups.forget_topic(&topic).await;
                }
            });
        }
    }

    /// Makes `__consumer_offsets` if there is none: Kafka, too, makes it for the first client that asks.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn ensure_started(&self, context: &Arc<Context>) -> Result<(), ErrorCode> {
        if self.is_started() {
            return Ok(());
        }
        if context.topics.find(CONSUMER_OFFSETS, Uuid::nil()).is_err() {
            create_offsets_topic(context).await?;
        }
        self.image_changed(context);
        Ok(())
    }

    /// Serves these partitions of `__consumer_offsets` and no others. What is new is read in the background: requests
    /// meanwhile hear that the coordinator is loading.
    fn serve(&self, wanted: Vec<Place<Led>>, shutdown: &watch::Sender<bool>) {
        let before = self.places.load_full();
        let runs = |index: usize, partition: &Arc<Partition>, epoch| match before.get(index) {
            Some(Place::Here(shard)) if shard.is_of(partition, epoch) => Some(shard.clone()),
            _ => None,
        };
        let start = |(index, place): (usize, Place<Led>)| match place {
            Place::Here((partition, epoch)) => {
                Place::Here(runs(index, &partition, epoch).unwrap_or_else(|| {
                    let shard = Shard::new(partition, epoch, self.config.clone());
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

    /// Whether there is a `__consumer_offsets` to keep groups in.
    pub fn is_started(&self) -> bool {
        !self.places.load().is_empty()
    }

    /// The owner of a group.
    ///
    /// # Errors
    /// There is no `__consumer_offsets` yet: nobody has looked for a coordinator. Or its partition that keeps the group
    /// is another broker's, or cannot be served.
    pub fn shard(&self, group: &str) -> Result<Arc<Shard>, GroupError> {
        let places = self.places.load();
        let count = i32::try_from(places.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        match &places[partition_of(group, count) as usize] {
            Place::Here(shard) => Ok(shard.clone()),
            Place::Elsewhere => Err(GroupError::NotCoordinator),
            Place::Broken => Err(GroupError::CoordinatorNotAvailable),
        }
    }

    /// Every owner of groups on this broker.
    pub fn shards(&self) -> Vec<Arc<Shard>> {
        let places = self.places.load();
        let here = places.iter().filter_map(|place| match place {
            Place::Here(shard) => Some(shard.clone()),
            _ => None,
        });
        here.collect()
    }

    /// Forgets the offsets of a topic that was deleted.
    pub async fn forget_topic(&self, topic: &str) {
        for shard in self.shards().iter() {
            let forgotten = shard.call(|groups, _| ((), groups.forget_topic(topic))).await;
            if let Err(error) = forgotten {
                tracing::warn!(topic, %error, "offsets of a deleted topic stay until they expire");
            }
        }
    }
}

/// The broker that keeps a group: the one that leads its partition of `__consumer_offsets`. None while nobody does, or
/// there is no such topic.
pub fn coordinator_of(image: &Image, group: &str) -> Option<BrokerId> {
    let topic = image.topic(CONSUMER_OFFSETS)?;
    let count = i32::try_from(topic.partitions.len())
        .ok()
        .filter(|count| *count > 0)?;
    let leader = leaders::leader(image, topic.id.0, partition_of(group, count))?;
    (leader.id != leaders::NOBODY).then_some(BrokerId(leader.id))
}

/// Who serves each partition of `__consumer_offsets`.
fn places(context: &Context, topic: &Topic) -> Vec<Place<Led>> {
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

/// Names of the topics that were there before and are not now. Both lists are in the order of names.
fn gone(before: &Arc<Vec<Arc<Topic>>>, after: &Arc<Vec<Arc<Topic>>>) -> Vec<TopicName> {
    if Arc::ptr_eq(before, after) {
        return Vec::new();
    }
    let after: BTreeSet<&TopicName> = after.iter().map(|topic| &topic.name).collect();
    let gone = before.iter().filter(|topic| !after.contains(&topic.name));
    gone.map(|topic| topic.name.clone()).collect()
}

/// Makes `__consumer_offsets`. Its segments are a sixth of Kafka's, since the log is compacted by load and whole
/// segments are what that frees.
async fn create_offsets_topic(context: &Arc<Context>) -> Result<(), ErrorCode> {
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "16777216"),
    ];
    let id = Uuid::new_v4();
    let image = context.controller.image();
    let alive = image
        .brokers()
        .values()
        .filter(|broker| broker.takes_replicas())
        .count();
    let factor = (context.settings.offsets_topic_replication_factor as usize).min(alive.max(1));
    let partitions = context.settings.offsets_topic_num_partitions as usize;
    let placed = placement::place(&image, partitions, factor, id.as_u64_pair().1);
    let command = Command::CreateTopic {
        name: TopicName::new(CONSUMER_OFFSETS).expect("it is a legal name"),
        id: TopicId(id),
        partitions: placed.map_err(|refusal| admin::denied(&refusal).code)?,
        configs: configs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    let created = context.controller.apply_in_passing(command).await;
    // Somebody else may have made it at the same moment.
    match (context.topics.find(CONSUMER_OFFSETS, Uuid::nil()), created) {
        (Ok(_), _) => Ok(()),
        (Err(_), Err(refusal)) => Err(refusal.code),
        (Err(_), Ok(_)) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}

/// The partition of `__consumer_offsets` that keeps a group: Java's hash of the group id, as Kafka has it, so that a
/// log that Kafka wrote is read by the same partition.
fn partition_of(group: &str, count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash & i32::MAX) % count
}

/// Kafka's error code for a refusal of the group coordinator.
pub fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        GroupError::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
        GroupError::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
        GroupError::UnsupportedAssignor => ErrorCode::UnsupportedAssignor,
        GroupError::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
        GroupError::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
        GroupError::InvalidRegularExpression => ErrorCode::InvalidRegularExpression,
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::ids::PartitionIndex;
    use millstream_core::replica::Term;
    use millstream_storage::LogConfig;

    use super::*;
    use crate::metrics::Metrics;
    use crate::partitions::{Description, Store};

    #[test]
    fn groups_lie_where_kafka_puts_them() {
        // "console-consumer-1".hashCode() and the like, from Java.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 47);
        assert_eq!(partition_of("test", 50), 3_556_498 % 50);
        assert!((0..4).contains(&partition_of("the quick brown fox jumps over the lazy dog", 4)));
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
        let mut places = led(&partitions(&dir), 0);
        places.insert(0, Place::Broken);
        let groups = GroupCoordinator::new(&Settings::default());
        let (shutdown, _) = watch::channel(false);
        groups.serve(places, &shutdown);
        let all = groups.shards();
        let mut met = [0; 3];
        for n in 0..20 {
            let group = format!("g{n}");
            let place = partition_of(&group, 3) as usize;
            met[place] += 1;
            match groups.shard(&group) {
                Ok(shard) => assert!(Arc::ptr_eq(&shard, &all[place - 1])),
                Err(error) => assert_eq!((error, place), (GroupError::CoordinatorNotAvailable, 0)),
            }
        }
        assert!(met.iter().all(|met| *met > 0));
    }

    #[tokio::test]
    async fn groups_leave_with_the_lead_of_their_partition_and_come_back_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = partitions(&dir);
        let groups = GroupCoordinator::new(&Settings::default());
        let (shutdown, _) = watch::channel(false);
        groups.serve(led(&partitions, 0), &shutdown);
        let (kept, lost) = (groups.shards()[0].clone(), groups.shards()[1].clone());
        let mut places = led(&partitions, 0);
        places[1] = Place::Elsewhere;
        groups.serve(places, &shutdown);
        assert!(Arc::ptr_eq(&groups.shards()[0], &kept), "it goes on");
        let of_lost = (0..).map(|n| format!("g{n}")).find(|g| partition_of(g, 2) == 1);
        let refused = groups.shard(&of_lost.unwrap()).err();
        assert_eq!(refused, Some(GroupError::NotCoordinator));
        // Whoever still holds it hears the same.
        assert_eq!(lost.look(|_| ()).err(), Some(GroupError::NotCoordinator));
        groups.serve(led(&partitions, 3), &shutdown);
        assert_eq!(groups.shards().len(), 2);
        assert!(
            !Arc::ptr_eq(&groups.shards()[0], &kept),
            "another term reads anew"
        );
    }
}
