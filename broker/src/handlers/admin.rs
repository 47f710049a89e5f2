//! What the handlers of administration have in common: commands to the controller, and what its refusals are in
//! Kafka's terms.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::cluster::{self, Command, Outcome, PartitionRefusal, Refusal};
use millstream_core::config::BrokerDefaults;
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;
use millstream_kafka::wire::Text;

use crate::broker_configs;
use crate::context::Context;

/// A request that is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Kafka's error code.
    pub code: ErrorCode,
    /// A sentence for the user.
    pub message: String,
}

impl Denied {
    /// A refusal with a reason.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The sentence, as answers carry it.
    pub fn text(&self) -> Option<Text> {
        Some(Text::from(self.message.as_str()))
    }
}

/// Parts what a request names once from what it names more often, which is refused with one answer for each.
pub fn split_repeated<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> (Vec<T>, BTreeSet<K>) {
    let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for item in &items {
        if !seen.insert(key(item)) {
            repeated.insert(key(item));
        }
    }
    let once = items
        .into_iter()
        .filter(|item| !repeated.contains(&key(item)))
        .collect();
    (once, repeated)
}

/// Changes the cluster's image, or says whether it could be changed so.
///
/// # Errors
/// The command is refused, or cannot be made durable.
pub async fn apply(context: &Arc<Context>, command: Command, validate_only: bool) -> Result<Outcome, Denied> {
    if validate_only {
        let mut image = cluster::Image::clone(&context.controller.image());
        let outcome = cluster::apply(&mut image, &command).map_err(|refusal| denied(&refusal))?;
        check_plugins(context, image).await?;
        return Ok(outcome);
    }
    context
        .controller
        .apply(command)
        .await
        .map_err(|refusal| Denied::new(refusal.code, refusal.message))
}

/// Lets plugins refuse the configurations that they would get under `image`.
async fn check_plugins(context: &Arc<Context>, image: cluster::Image) -> Result<(), Denied> {
    let context = context.clone();
    let checking = tokio::task::spawn_blocking(move || {
        let plan = context.topics.plan(Arc::new(image));
        plan.fresh()
            .iter()
            .try_for_each(|attached| context.plugins.check(attached))
    });
    match checking.await {
        Ok(checked) => checked.map_err(|reason| Denied::new(ErrorCode::InvalidConfig, reason)),
        Err(error) => Err(Denied::new(ErrorCode::UnknownServerError, error.to_string())),
    }
}

/// Kafka's error code for a refused command, with its reason.
pub fn denied(refusal: &Refusal) -> Denied {
    let code = match refusal {
        Refusal::TopicExists(_) | Refusal::TopicIdExists(_) => ErrorCode::TopicAlreadyExists,
        Refusal::TopicCollides { .. } => ErrorCode::InvalidTopicException,
        Refusal::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        Refusal::PartitionCount { .. } | Refusal::ViewPartitions { .. } => ErrorCode::InvalidPartitions,
        Refusal::Replicas { .. } => ErrorCode::InvalidReplicaAssignment,
        Refusal::Config(_)
        | Refusal::UnknownSource { .. }
        | Refusal::ViewCycle(_)
        | Refusal::ViewTooDeep(_)
        | Refusal::ViewOrNot(_)
        | Refusal::PluginName(_)
        | Refusal::UnknownPlugin(_)
        | Refusal::WrongWorld { .. } => ErrorCode::InvalidConfig,
        Refusal::ReadByViews { .. } | Refusal::DeadLetterOf { .. } => ErrorCode::PolicyViolation,
        Refusal::PluginVersionExists { .. } | Refusal::PluginInUse { .. } => ErrorCode::PolicyViolation,
        Refusal::Transform(_) => ErrorCode::PolicyViolation,
        Refusal::Exhausted(_) => ErrorCode::UnknownServerError,
        Refusal::Bootstrapped(_) | Refusal::NotFirst(_) => ErrorCode::InconsistentClusterId,
        Refusal::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
        Refusal::Alone(_) | Refusal::Features { .. } => ErrorCode::InvalidRegistration,
        Refusal::BrokerIdInUse { .. } => ErrorCode::DuplicateBrokerRegistration,
        Refusal::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
        Refusal::FeatureLevel { .. } | Refusal::FeatureLevelDown { .. } => ErrorCode::FeatureUpdateFailed,
        Refusal::BrokerLives(_) | Refusal::BrokerHoldsReplicas { .. } => ErrorCode::PolicyViolation,
        Refusal::ReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        Refusal::UnknownReplica { .. } | Refusal::NoLiveReplica { .. } => ErrorCode::InvalidReplicaAssignment,
    };
    Denied::new(code, refusal.to_string())
}

/// Kafka's error code for a partition that a command left as it was, with the reason.
pub fn partition_denied(refusal: &PartitionRefusal) -> Denied {
    let code = match refusal {
        PartitionRefusal::UnknownTopic(_) => ErrorCode::UnknownTopicId,
        PartitionRefusal::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        PartitionRefusal::View { .. } => ErrorCode::InvalidTopicException,
        PartitionRefusal::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        PartitionRefusal::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        PartitionRefusal::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
        PartitionRefusal::StalePartitionEpoch { .. } => ErrorCode::InvalidUpdateVersion,
        PartitionRefusal::InSync { .. } => ErrorCode::InvalidRequest,
        PartitionRefusal::Ineligible(_) => ErrorCode::IneligibleReplica,
        PartitionRefusal::ElectionNotNeeded { .. } => ErrorCode::ElectionNotNeeded,
        PartitionRefusal::PreferredNotAvailable(_) => ErrorCode::PreferredLeaderNotAvailable,
        PartitionRefusal::NobodyLives { .. } | PartitionRefusal::NobodyInSync { .. } => {
            ErrorCode::EligibleLeadersNotAvailable
        }
        PartitionRefusal::Replicas { .. }
        | PartitionRefusal::UnknownBroker(_)
        | PartitionRefusal::BrokerFenced(_)
        | PartitionRefusal::AllFenced { .. }
        | PartitionRefusal::BrokerDraining(_) => ErrorCode::InvalidReplicaAssignment,
        PartitionRefusal::NoReassignment => ErrorCode::NoReassignmentInProgress,
    };
    Denied::new(code, refusal.to_string())
}

/// The broker's settings as far as they stand behind topic configurations, as they are now.
pub fn broker_defaults(context: &Context) -> BrokerDefaults {
    let node = BrokerId(context.settings.node_id);
    broker_configs::defaults(&context.settings, &context.controller.image(), node)
}

/// Replicas that the user chose.
///
/// # Errors
/// A broker that is not there, none, or one twice.
pub fn chosen_replicas(context: &Context, brokers: &[i32]) -> Result<Vec<BrokerId>, Denied> {
    let invalid = |message: String| Denied::new(ErrorCode::InvalidReplicaAssignment, message);
    let image = context.controller.image();
    let unknown = |id: &&i32| !image.brokers().contains_key(&BrokerId(**id));
    if let Some(unknown) = brokers.iter().find(unknown) {
        return Err(invalid(format!(
            "the replica assignment names broker {unknown}, which is not there"
        )));
    }
    let twice = brokers
        .iter()
        .enumerate()
        .any(|(n, id)| brokers[..n].contains(id));
    match brokers {
        [] => Err(invalid(
            "the replica assignment of a partition is empty".to_owned(),
        )),
        _ if twice => Err(invalid("the replica assignment names a broker twice".to_owned())),
        _ => Ok(brokers.iter().map(|id| BrokerId(*id)).collect()),
    }
}

/// Sees to it that all partitions have equally many replicas, as Kafka wants it.
///
/// # Errors
/// Some have more than others.
pub fn check_equal_factors<'a>(mut all: impl Iterator<Item = &'a Vec<BrokerId>>) -> Result<(), Denied> {
    let factor = all.next().map_or(0, Vec::len);
    match all.find(|replicas| replicas.len() != factor) {
        None => Ok(()),
        Some(other) => {
            let message = format!(
                "the replica assignment gives one partition {factor} replicas and another {}",
                other.len()
            );
            Err(Denied::new(ErrorCode::InvalidReplicaAssignment, message))
        }
    }
}

/// Checks how many partitions there would be against the broker's bound.
///
/// # Errors
/// More than that.
pub fn check_partition_bound(context: &Context, more: usize) -> Result<(), Denied> {
    let image = context.controller.image();
    let there: usize = image.topics().map(|topic| topic.partitions.len()).sum();
    let max = context.settings.partitions_max as usize;
    match there.saturating_add(more) <= max {
        true => Ok(()),
        false => {
            let message = format!("{more} more partitions would be beyond millstream.partitions.max={max}");
            Err(Denied::new(ErrorCode::PolicyViolation, message))
        }
    }
}
