//! The coordinator of consumer groups: which partition of `__consumer_offsets` keeps a group, and which of them this
//! broker serves: those that it leads, each from the time when it knows all that was acknowledged before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use millstream_core::cluster::{CONSUMER_OFFSETS, Image};
use millstream_core::group::consumer::{OwnConfigs, Topics};
use millstream_core::group::{GroupConfig, GroupError, Groups, Step};
use millstream_core::ids::TopicName;
use millstream_kafka::ErrorCode;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::groups::Setting;
use super::places::{self, Internal, Place, Places};
use super::shard::Shard;
use crate::context::Context;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::topics::Topic;

/// All groups that this broker coordinates.
pub struct GroupCoordinator {
    places: Places<Groups>,
    /// What there is to consume, as far as groups are coordinated here.
    topics: Arc<ArcSwap<Topics>>,
    /// What groups set for themselves.
    own: Arc<ArcSwap<OwnConfigs>>,
    /// What was so when leadership was looked at last. Held while shards start and stop.
    seen: Mutex<Seen>,
    /// Images are carried out on threads of their own.
    runtime: Handle,
}

#[derive(Default)]
struct Seen {
    topics: Arc<Vec<Arc<Topic>>>,
}

impl GroupCoordinator {
    /// Coordinates nothing until [`GroupCoordinator::image_changed`].
    ///
    /// # Panics
    /// Outside of a runtime: the shards will run on the one that this is called on.
    pub fn new(settings: &Settings, metrics: &Arc<Metrics>) -> Self {
        let bounds = GroupConfig {
            session_timeout_ms_min: settings.group_min_session_timeout_ms,
            session_timeout_ms_max: settings.group_max_session_timeout_ms,
            initial_delay_ms: settings.group_initial_rebalance_delay_ms,
            members_max: settings.group_max_size as usize,
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            offset_metadata_bytes_max: settings.offset_metadata_max_bytes as usize,
            consumer: settings.consumer_groups(),
        };
        let expiry_interval_ms = settings.offsets_retention_check_interval_ms;
        // Nothing of what groups write is to be done elsewhere.
        let (follow_ups, _) = mpsc::unbounded_channel();
        let topics = Arc::<ArcSwap<Topics>>::default();
        let own = Arc::<ArcSwap<OwnConfigs>>::default();
        let setting = Setting {
            bounds,
            topics: topics.clone(),
            own: own.clone(),
        };
        Self {
            places: Places::new(setting, expiry_interval_ms, follow_ups, metrics.clone()),
            topics,
            own,
            seen: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Starts and stops shards as this broker gains and loses the lead of partitions of `__consumer_offsets`, and forgets
    /// the offsets of topics that are gone; groups hear what there is to consume. Called whenever another image is carried out; does not block.
    pub fn image_changed(&self, context: &Arc<Context>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let topics = context.topics.all();
        let offsets = context.topics.find(CONSUMER_OFFSETS, Uuid::nil()).ok();
        let wanted = offsets.map_or_else(Vec::new, |offsets| places::places(context, &offsets));
        if wanted.iter().any(|place| matches!(place, Place::Here(_))) {
            self.tell(&context.controller.image());
        }
        self.places.serve(wanted, &context.shutdown);
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

    /// Tells the groups which topics there are and what they set for themselves, if another image says so; most do not.
    /// Owners that are still to read their logs find it when they have.
    fn tell(&self, image: &Image) {
        let known = self.topics.load();
        let topics = (!known.are_known() || !known.are_of(image)).then(|| Arc::new(Topics::of(image)));
        let own = (!Arc::ptr_eq(&self.own.load(), image.group_configs())).then(|| image.group_configs());
        if let Some(topics) = &topics {
            self.topics.store(topics.clone());
        }
        if let Some(own) = own {
            self.own.store(own.clone());
        }
        if topics.is_none() && own.is_none() {
            return;
        }
        for shard in self.shards() {
            shard.act(|groups| {
                if let Some(topics) = &topics {
                    groups.topics_changed(topics.clone());
                }
                if let Some(own) = own {
                    groups.own_configs_changed(own.clone());
                }
                Step::default()
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
        let settings = &context.settings;
        let topic = Internal {
            name: CONSUMER_OFFSETS,
            partitions: settings.offsets_topic_num_partitions,
            replication_factor: settings.offsets_topic_replication_factor,
            min_insync_replicas: None,
        };
        places::create(context, topic).await?;
        self.image_changed(context);
        Ok(())
    }

    /// Whether there is a `__consumer_offsets` to keep groups in.
    pub fn is_started(&self) -> bool {
        self.places.is_started()
    }

    /// The owner of a group.
    ///
    /// # Errors
    /// There is no `__consumer_offsets` yet: nobody has looked for a coordinator. Or its partition that keeps the group
    /// is another broker's, or cannot be served.
    pub fn shard(&self, group: &str) -> Result<Arc<Shard<Groups>>, GroupError> {
        Ok(self.places.shard(group)?)
    }

    /// The owner of the groups of one partition of `__consumer_offsets`.
    ///
    /// # Errors
    /// As [`GroupCoordinator::shard`].
    pub fn shard_at(&self, partition: i32) -> Result<Arc<Shard<Groups>>, GroupError> {
        Ok(self.places.shard_at(partition)?)
    }

    /// Every owner of groups on this broker.
    pub fn shards(&self) -> Vec<Arc<Shard<Groups>>> {
        self.places.shards()
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

/// The partition of `__consumer_offsets` that keeps a group.
///
/// # Errors
/// There is no such topic yet.
pub fn partition_of(context: &Context, group: &str) -> Result<i32, ErrorCode> {
    let offsets = context.topics.find(CONSUMER_OFFSETS, Uuid::nil())?;
    Ok(places::partition_of(group, offsets.partition_count().max(1)))
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

/// Kafka's error code for a refusal of the group coordinator.
pub fn code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::UnsupportedVersion => ErrorCode::UnsupportedVersion,
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
