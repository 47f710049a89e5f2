//! Who may commit and fetch offsets of a group that follows KIP-848.

use std::sync::Arc;

use super::{ConsumerGroup, ConsumerMember, Topics};
use crate::group::{GroupError, Groups, Identity, OffsetCommit};
use crate::ids::PartitionIndex;

impl Groups {
    /// Whether somebody is a member by KIP-848. Such a member says its epoch, which old versions of OffsetCommit have no
    /// place for.
    pub fn is_consumer_member(&self, group: &str, member: &str) -> bool {
        let group = self.groups.get(group).and_then(|group| group.consumer.as_deref());
        let member = group.and_then(|group| group.members.get(member));
        member.is_some_and(|member| member.wants.classic.is_none())
    }

    /// Checks that who fetches offsets is a member in its current epoch, if it says that it is a member at all. Groups of
    /// the classic protocol do not check.
    ///
    /// # Errors
    /// It is no member, or of another epoch.
    pub fn check_fetch(&self, group: &str, member: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        let group = self.groups.get(group).and_then(|group| group.consumer.as_deref());
        let Some(group) = group.filter(|_| member.is_some() || epoch >= 0) else {
            return Ok(());
        };
        let member = group.members.get(member.unwrap_or_default());
        let member = member.ok_or(GroupError::UnknownMemberId)?;
        if member.has.epoch == epoch {
            Ok(())
        } else {
            Err(member.stale())
        }
    }
}

impl ConsumerGroup {
    /// Checks that who commits may. Without members anybody may. A member may in its epoch; in an earlier one it may for
    /// partitions that it has had since then (KIP-1251).
    pub(in crate::group) fn check_commit(
        &self,
        who: &Identity,
        offsets: &[OffsetCommit],
        topics: &Topics,
    ) -> Result<(), GroupError> {
        if who.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self
            .members
            .get(who.member.as_str())
            .ok_or(GroupError::UnknownMemberId)?;
        if who.generation == member.has.epoch {
            return Ok(());
        }
        let had = |offset: &OffsetCommit| {
            let id = topics.find(&offset.topic)?.id;
            let since = member.holds_since(id, PartitionIndex(offset.partition))?;
            (since <= who.generation).then_some(())
        };
        let earlier = (0..member.has.epoch).contains(&who.generation) && member.wants.classic.is_none();
        if earlier && offsets.iter().all(|offset| had(offset).is_some()) {
            Ok(())
        } else {
            Err(member.stale())
        }
    }

    /// Whether a member wants a topic.
    pub(in crate::group) fn is_subscribed_to(&self, topic: &str) -> bool {
        let mut members = self.members.values();
        let names = |name: &Arc<str>| **name == *topic;
        members.any(|member| self.topics_of(member).any(names))
    }
}

impl ConsumerMember {
    fn stale(&self) -> GroupError {
        match self.wants.classic {
            Some(_) => GroupError::IllegalGeneration,
            None => GroupError::StaleMemberEpoch,
        }
    }
}
