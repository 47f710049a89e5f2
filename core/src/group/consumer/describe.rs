//! ConsumerGroupDescribe.

use super::record::Partitions;
use super::types::{AssignedTopic, ConsumerDescription, ConsumerMemberDescription};
use super::{ConsumerConfig, ConsumerGroup, Topics, member};
use crate::group::Groups;

impl Groups {
    /// What a group that follows KIP-848 is doing; none if there is no such group.
    pub fn describe_consumer(&self, group: &str) -> Option<ConsumerDescription> {
        let group = self.groups.get(group)?.consumer.as_deref()?;
        Some(group.describe(&self.topics, &self.config.consumer))
    }
}

impl ConsumerGroup {
    fn describe(&self, topics: &Topics, config: &ConsumerConfig) -> ConsumerDescription {
        let members = self.members.iter().map(|(id, member)| {
            let target = self.targets.get(id);
            ConsumerMemberDescription {
                member: id.clone(),
                instance: member.wants.instance.clone(),
                rack: member.wants.rack.clone(),
                epoch: member.has.epoch,
                client_id: member.wants.client_id.clone(),
                client_host: member.wants.client_host.clone(),
                topics: member.wants.topics.iter().cloned().collect(),
                pattern: member.wants.pattern.clone(),
                state: member.has.state,
                assigned: named(&member::without_epochs(&member.has.assigned), topics),
                target: target.map_or_else(Vec::new, |target| named(target, topics)),
                is_classic: member.wants.classic.is_some(),
            }
        });
        ConsumerDescription {
            state: self.state(),
            epoch: self.written.epoch,
            target_epoch: self.target.epoch,
            assignor: self.preferred_assignor(&config.assignors).name(),
            members: members.collect(),
        }
    }
}

fn named(partitions: &Partitions, topics: &Topics) -> Vec<AssignedTopic> {
    let named = partitions.iter().filter_map(|(id, partitions)| {
        Some(AssignedTopic {
            id: *id,
            name: topics.name(*id)?.clone(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    named.collect()
}
