//! A member of a group: what it wants and what it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{CurrentValue, Held, MemberState, MemberValue, Partitions};
use super::types::ConsumerHeartbeat;
use crate::group::GroupError;
use crate::ids::{PartitionIndex, TopicId};

/// A member of a group: its two records.
#[derive(Debug, Clone, Default)]
pub(in crate::group) struct ConsumerMember {
    pub(super) wants: MemberValue,
    pub(super) has: CurrentValue,
}

impl ConsumerMember {
    /// Whether it has all that it shall have in this epoch.
    pub(super) fn has_reached(&self, epoch: i32) -> bool {
        self.has.state == MemberState::Stable && self.has.epoch == epoch
    }

    /// In which member epoch it got a partition that it has not given back.
    pub(super) fn holds_since(&self, topic: TopicId, partition: PartitionIndex) -> Option<i32> {
        let in_held = |held: &Held| held.get(&topic)?.get(&partition).copied();
        in_held(&self.has.assigned).or_else(|| in_held(&self.has.revoking))
    }

    /// Every partition that it may consume or has not given back.
    #[cfg(test)]
    pub(super) fn held(&self) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        let both = self.has.assigned.iter().chain(&self.has.revoking);
        both.flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }

    /// Checks the epoch that it brings. An answer may have been lost: then it brings the epoch before, and has nothing
    /// that it may not consume.
    pub(super) fn check_epoch(&self, epoch: i32, owned: Option<&Owned>) -> Result<(), GroupError> {
        let missed_an_answer = || {
            epoch == self.has.previous_epoch
                && owned.is_some_and(|owned| {
                    owned
                        .iter()
                        .all(|(topic, partitions)| self.has_all(*topic, partitions))
                })
        };
        if epoch == 0 || epoch == self.has.epoch || (epoch < self.has.epoch && missed_an_answer()) {
            Ok(())
        } else {
            Err(GroupError::FencedMemberEpoch)
        }
    }

    fn has_all(&self, topic: TopicId, partitions: &[PartitionIndex]) -> bool {
        let assigned = self.has.assigned.get(&topic);
        assigned.is_some_and(|assigned| {
            partitions
                .iter()
                .all(|partition| assigned.contains_key(partition))
        })
    }

    /// What it wants after this heartbeat, which leaves out what did not change.
    pub(super) fn updated(&self, request: &ConsumerHeartbeat) -> MemberValue {
        let mut wants = self.wants.clone();
        wants.instance = request.instance.clone().or(wants.instance);
        wants.rack = request.rack.clone().or(wants.rack);
        wants.assignor = request.assignor.clone().or(wants.assignor);
        wants.client_id.clone_from(&request.client_id);
        wants.client_host.clone_from(&request.client_host);
        if request.rebalance_timeout_ms != -1 {
            wants.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(topics) = &request.topics {
            wants.topics = topics.iter().map(|topic| Arc::from(topic.as_str())).collect();
        }
        if let Some(pattern) = &request.pattern {
            wants.pattern =
                Some(Arc::from(pattern.as_str())).filter(|pattern: &Arc<str>| !pattern.is_empty());
        }
        wants.classic = None;
        wants
    }
}

/// Partitions as a member says that it has them.
pub(super) type Owned = [(TopicId, Vec<PartitionIndex>)];

/// Partitions without the epochs in which they were given.
pub(super) fn without_epochs(held: &Held) -> Partitions {
    let topics = held.iter();
    topics
        .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
        .collect::<BTreeMap<_, _>>()
}
