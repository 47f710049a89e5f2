//! The coordinator of consumer groups: which partition of `__consumer_offsets` keeps a group, and the start of those.

use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::cluster::{CONSUMER_OFFSETS, Command};
use millstream_core::group::{GroupConfig, GroupError};
use millstream_core::ids::{BrokerId, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use tokio::sync::watch;
use uuid::Uuid;

use super::shard::Shard;
use crate::context::Context;
use crate::partitions::Partition;
use crate::settings::Settings;
use crate::topics::Topic;

/// All groups that this broker coordinates.
pub struct GroupCoordinator {
    config: GroupConfig,
    expiry_interval_ms: i64,
    /// By partition; none where one is not served. Where a group lies depends on how many partitions there are, so those
    /// that are missing keep their places.
    shards: ArcSwap<Vec<Option<Arc<Shard>>>>,
    starting: tokio::sync::Mutex<()>,
}

impl GroupCoordinator {
    /// Coordinates nothing until [`GroupCoordinator::start`].
    pub fn new(settings: &Settings) -> Self {
        let config = GroupConfig {
            session_timeout_ms_min: settings.group_min_session_timeout_ms,
            session_timeout_ms_max: settings.group_max_session_timeout_ms,
            initial_delay_ms: settings.group_initial_rebalance_delay_ms,
            members_max: settings.group_max_size as usize,
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            offset_metadata_bytes_max: settings.offset_metadata_max_bytes as usize,
        };
        let expiry_interval_ms = settings.offsets_retention_check_interval_ms;
        Self {
            config,
            expiry_interval_ms,
            shards: ArcSwap::default(),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// Starts with the `__consumer_offsets` that there is; without one nothing happens.
    pub async fn start_if_present(&self, context: &Arc<Context>) {
        if let Ok(topic) = context.topics.find(CONSUMER_OFFSETS, Uuid::nil()) {
            self.start(partitions(&topic), &context.shutdown).await;
        }
    }

    /// Starts, making `__consumer_offsets` if there is none: Kafka, too, makes it for the first client that asks.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn ensure_started(&self, context: &Arc<Context>) -> Result<(), ErrorCode> {
        if self.is_started() {
            return Ok(());
        }
        let topic = match context.topics.find(CONSUMER_OFFSETS, Uuid::nil()) {
            Ok(topic) => topic,
            Err(_) => create_offsets_topic(context).await?,
        };
        self.start(partitions(&topic), &context.shutdown).await;
        Ok(())
    }

    /// Takes over the partitions of `__consumer_offsets`, in the order of their indexes, and reads them in the
    /// background: requests meanwhile hear that the coordinator is loading. Done once; later calls change nothing.
    pub async fn start(&self, partitions: Vec<Option<Arc<Partition>>>, shutdown: &watch::Sender<bool>) {
        let _starting = self.starting.lock().await;
        if self.is_started() {
            return;
        }
        let start = |partition: Arc<Partition>| {
            let shard = Shard::new(partition, self.config.clone());
            tokio::spawn(shard.clone().run(self.expiry_interval_ms, shutdown.subscribe()));
            shard
        };
        self.shards
            .store(Arc::new(partitions.into_iter().map(|p| p.map(start)).collect()));
    }

    /// Whether there is a `__consumer_offsets` to keep groups in.
    pub fn is_started(&self) -> bool {
        !self.shards.load().is_empty()
    }

    /// The owner of a group.
    ///
    /// # Errors
    /// There is no `__consumer_offsets` yet: nobody has looked for a coordinator. Or its partition that keeps the group
    /// cannot be served.
    pub fn shard(&self, group: &str) -> Result<Arc<Shard>, GroupError> {
        let shards = self.shards.load();
        let count = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        if count == 0 {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let shard = &shards[partition_of(group, count) as usize];
        shard.clone().ok_or(GroupError::CoordinatorNotAvailable)
    }

    /// Every owner of groups.
    pub fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.load().iter().flatten().cloned().collect()
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

fn partitions(topic: &Topic) -> Vec<Option<Arc<Partition>>> {
    (0..topic.partition_count())
        .map(|index| topic.partition(index).cloned())
        .collect()
}

/// Makes `__consumer_offsets`. Its segments are a sixth of Kafka's, since the log is compacted by load and whole
/// segments are what that frees.
async fn create_offsets_topic(context: &Arc<Context>) -> Result<Arc<Topic>, ErrorCode> {
    let configs = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "16777216"),
    ];
    let command = Command::CreateTopic {
        name: TopicName::new(CONSUMER_OFFSETS).expect("it is a legal name"),
        id: TopicId(Uuid::new_v4()),
        partitions: vec![
            vec![BrokerId(context.settings.node_id)];
            context.settings.offsets_topic_num_partitions as usize
        ],
        configs: configs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    let created = context.controller.apply(command).await;
    // Somebody else may have made it at the same moment.
    context
        .topics
        .find(CONSUMER_OFFSETS, Uuid::nil())
        .map_err(|_| match created {
            Err(refusal) => refusal.code,
            Ok(_) => ErrorCode::CoordinatorNotAvailable,
        })
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
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::ids::PartitionIndex;
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

    #[tokio::test]
    async fn a_partition_that_is_missing_does_not_move_the_groups_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Metrics::new()).unwrap();
        let description = |index| Description {
            topic: TopicName::new(CONSUMER_OFFSETS).unwrap(),
            topic_id: TopicId(Uuid::from_u128(1)),
            index: PartitionIndex(index),
            log: LogConfig::default(),
            waits_for_disk: true,
        };
        let opened = store.open_all(&[description(1), description(2)]);
        let mut partitions: Vec<_> = opened.into_iter().map(Result::ok).collect();
        partitions.insert(0, None);
        let groups = GroupCoordinator::new(&Settings::default());
        let (shutdown, _) = watch::channel(false);
        groups.start(partitions, &shutdown).await;
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
}
