//! A member's way from what it has to what it shall have, as Kafka's `CurrentAssignmentBuilder` goes it.
//!
//! First the member gives back what it shall not have any more, and stays in its epoch until it says so. Then it goes to
//! the epoch of the target and gets what is free; for the rest it waits until others gave it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::member::Owned;
use super::record::{ConsumerValue, CurrentValue, Held, MemberState, Part, Partitions};
use super::{ConsumerGroup, ConsumerMember, Draft};
use crate::group::GroupError;
use crate::ids::{PartitionIndex, TopicId};

impl Draft<'_> {
    /// Brings a member as far as it gets now. `owned` is what the member says that it has, if it says so; whether
    /// `subscription_changed`, so that it may have to give back what it does not want any more, although no new target
    /// says so yet.
    pub(super) fn reconcile(
        &mut self,
        id: &Arc<str>,
        owned: Option<&Owned>,
        subscription_changed: bool,
    ) -> Result<(), GroupError> {
        let Some(member) = self.member(id).cloned() else {
            return Ok(());
        };
        let epoch = self.group.target.epoch;
        if !subscription_changed && member.has_reached(epoch) {
            return Ok(());
        }
        let wanted: BTreeSet<TopicId> = self
            .group
            .topics_of(&member)
            .filter_map(|name| self.topics.find(name))
            .map(|facts| facts.id)
            .collect();
        let way = Way {
            member: &member,
            owned,
            wanted,
        };
        let next = match member.has.state {
            MemberState::Stable if member.has.epoch == epoch => way.drop_unwanted(),
            MemberState::UnrevokedPartitions if way.still_owns(&member.has.revoking) => {
                subscription_changed.then(|| way.drop_unwanted()).flatten()
            }
            MemberState::Unknown(_) if owned.is_none_or(|owned| !owned.is_empty()) => {
                // A newer broker knows what it has; it has to begin anew.
                return Err(GroupError::FencedMemberEpoch);
            }
            _ => Some(self.next(id, &way)),
        };
        if let Some(next) = next.filter(|next| *next != member.has) {
            self.write(Part::Current(id.clone()), Some(ConsumerValue::Current(next)));
        }
        Ok(())
    }

    /// The next step towards the target.
    fn next(&self, id: &Arc<str>, way: &Way<'_>) -> CurrentValue {
        let has = &way.member.has;
        let nothing = Partitions::new();
        let target = self.group.targets.get(id).map_or(&nothing, |target| target);
        let shall_have = |topic: &TopicId| target.get(topic).filter(|_| way.wanted.contains(topic));
        let (mut assigned, mut revoking) = (Held::new(), Held::new());
        for (topic, partitions) in &has.assigned {
            for (partition, since) in partitions {
                let keeps = shall_have(topic).is_some_and(|target| target.contains(partition));
                let held = if keeps { &mut assigned } else { &mut revoking };
                held.entry(*topic).or_default().insert(*partition, *since);
            }
        }
        if !revoking.is_empty() && way.still_owns(&revoking) {
            return CurrentValue {
                state: MemberState::UnrevokedPartitions,
                assigned,
                revoking,
                ..has.clone()
            };
        }
        let epoch = self.group.target.epoch;
        let mut state = MemberState::Stable;
        for (topic, partitions) in target.iter().filter(|(topic, _)| way.wanted.contains(topic)) {
            let kept = assigned.remove(topic).unwrap_or_default();
            let mut missing = partitions.clone();
            missing.retain(|partition| !kept.contains_key(partition));
            if !missing.is_empty() && self.group.take_out_held_by_others(id, *topic, &mut missing) {
                state = MemberState::UnreleasedPartitions;
            }
            let mut held = kept;
            held.extend(missing.into_iter().map(|partition| (partition, epoch)));
            if !held.is_empty() {
                assigned.insert(*topic, held);
            }
        }
        CurrentValue {
            epoch,
            previous_epoch: has.epoch,
            state,
            assigned,
            revoking: Held::new(),
        }
    }
}

impl ConsumerGroup {
    /// Takes out what others have, or have not given back. True if there was any.
    pub(super) fn take_out_held_by_others(
        &self,
        id: &Arc<str>,
        topic: TopicId,
        partitions: &mut BTreeSet<PartitionIndex>,
    ) -> bool {
        let before = partitions.len();
        for (_, other) in self.members.iter().filter(|(other, _)| *other != id) {
            for held in [&other.has.assigned, &other.has.revoking] {
                if let Some(held) = held.get(&topic) {
                    partitions.retain(|partition| !held.contains_key(partition));
                }
            }
        }
        partitions.len() < before
    }
}

/// What decides on a member's next step.
struct Way<'a> {
    member: &'a ConsumerMember,
    owned: Option<&'a Owned>,
    /// Topics that it wants and that exist.
    wanted: BTreeSet<TopicId>,
}

impl Way<'_> {
    /// Whether the member has not said yet that it gave all of these back.
    fn still_owns(&self, revoking: &Held) -> bool {
        let Some(owned) = self.owned else {
            return true;
        };
        owned.iter().any(|(topic, partitions)| {
            let revoking = revoking.get(topic);
            revoking.is_some_and(|revoking| {
                partitions
                    .iter()
                    .any(|partition| revoking.contains_key(partition))
            })
        })
    }

    /// Takes back the topics that the member does not want any more; none if there are none.
    fn drop_unwanted(&self) -> Option<CurrentValue> {
        let has = &self.member.has;
        let (assigned, unwanted): (Held, Held) = has
            .assigned
            .clone()
            .into_iter()
            .partition(|(topic, _)| self.wanted.contains(topic));
        if unwanted.is_empty() {
            return None;
        }
        let mut revoking = has.revoking.clone();
        for (topic, partitions) in unwanted {
            let merged: &mut BTreeMap<_, _> = revoking.entry(topic).or_default();
            merged.extend(partitions);
        }
        Some(if self.still_owns(&revoking) {
            CurrentValue {
                state: MemberState::UnrevokedPartitions,
                assigned,
                revoking,
                ..has.clone()
            }
        } else {
            CurrentValue {
                assigned,
                ..has.clone()
            }
        })
    }
}
