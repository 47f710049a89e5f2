//! Offsets: how far groups have read, kept, told, deleted and forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::consumer::Topics;
use super::record::{Key, OffsetValue, Record, TEXT_BYTES_MAX, Value, subscribed_topics};
use super::state::{Group, State};
use super::types::{CommitRequest, CommittedOffset, GroupError, Identity, OffsetCommit, Step};
use super::{Env, Groups};
use crate::cluster::is_reserved;
use crate::mutation::{Mutation, is_on};

impl Groups {
    /// Keeps offsets; says for each whether it is kept.
    ///
    /// # Errors
    /// Who asks may not commit for the group.
    pub fn commit(
        &mut self,
        now_ms: i64,
        request: &CommitRequest,
    ) -> (Result<Vec<Result<(), GroupError>>, GroupError>, Step) {
        let who = &request.who;
        self.commit_if(now_ms, who, &request.offsets, |group, topics, env| {
            match &group.consumer {
                Some(consumer) => consumer.check_commit(who, &request.offsets, topics),
                None => group.check_commit(who, env),
            }
        })
    }

    /// Keeps offsets if the group, where there is one, has nothing against it.
    pub(super) fn commit_if(
        &mut self,
        now_ms: i64,
        who: &Identity,
        offsets: &[OffsetCommit],
        check: impl FnOnce(&mut Group, &Topics, &mut Env<'_>) -> Result<(), GroupError>,
    ) -> (Result<Vec<Result<(), GroupError>>, GroupError>, Step) {
        if who.group.len() > TEXT_BYTES_MAX {
            return (Err(GroupError::InvalidGroupId), Step::default());
        }
        let topics = self.topics.clone();
        let check = |group: &mut Group, env: &mut Env<'_>| check(group, &topics, env);
        let (allowed, mut step) = self.with_group(&who.group, now_ms, check);
        match allowed {
            // Without members anybody may keep offsets in a group, which begins with that.
            None if who.generation < 0 => {}
            None => return (Err(GroupError::IllegalGeneration), step),
            Some(Err(error)) => return (Err(error), step),
            Some(Ok(())) => {}
        }
        let answers = self.write_offsets(&who.group, offsets, now_ms, &mut step);
        (Ok(answers), step)
    }

    /// Writes the offsets that may be kept; says for each whether it is one.
    fn write_offsets(
        &self,
        group: &str,
        offsets: &[OffsetCommit],
        now_ms: i64,
        step: &mut Step,
    ) -> Vec<Result<(), GroupError>> {
        let group: Arc<str> = group.into();
        let metadata_bytes_max = self.config.offset_metadata_bytes_max.min(TEXT_BYTES_MAX);
        let write = |offset: &OffsetCommit| {
            if offset.metadata.len() > metadata_bytes_max || offset.topic.len() > TEXT_BYTES_MAX {
                return Err(GroupError::OffsetMetadataTooLarge);
            }
            step.records.push(offset.record(&group, now_ms));
            Ok(())
        };
        offsets.iter().map(write).collect()
    }

    /// The offset of a group in a partition, if one is kept.
    pub fn offset(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.groups.get(group)?.offsets.get(topic)?.get(&partition)
    }

    /// All offsets of a group, in the order of topics and partitions.
    pub fn offsets(&self, group: &str) -> Vec<CommittedOffset> {
        let topics = self
            .groups
            .get(group)
            .into_iter()
            .flat_map(|group| &group.offsets);
        let rows = topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(|(partition, value)| CommittedOffset {
                topic: topic.clone(),
                partition: *partition,
                offset: value.offset,
                leader_epoch: value.leader_epoch,
                metadata: value.metadata.clone(),
                error: None,
            })
        });
        rows.collect()
    }

    /// Forgets offsets; says for each whether it may be forgotten. One that is not kept may.
    ///
    /// # Errors
    /// The group does not exist, or its members are no consumers.
    pub fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> (Result<Vec<Result<(), GroupError>>, GroupError>, Step) {
        let mut step = Step::default();
        let Some(group) = self.groups.get(group).filter(|group| !group.is_forgotten()) else {
            return (Err(GroupError::GroupIdNotFound), step);
        };
        let are_consumers = group.consumer.is_some() || group.protocol_type.as_deref() == Some(CONSUMER);
        if group.state != State::Empty && !are_consumers {
            return (Err(GroupError::NonEmptyGroup), step);
        }
        let subscribed = group.subscribed_topics();
        let delete = |(topic, partition): &(String, i32)| {
            let is_subscribed = match &group.consumer {
                Some(consumer) => consumer.is_subscribed_to(topic),
                None => subscribed.as_ref().is_none_or(|topics| topics.contains(topic)),
            };
            if is_subscribed {
                return Err(GroupError::GroupSubscribedToTopic);
            }
            if group.has_offset(topic, *partition) || group.pending_offsets.contains(topic, *partition) {
                step.records
                    .push(group.tombstone(&topic.as_str().into(), *partition));
            }
            Ok(())
        };
        (Ok(partitions.iter().map(delete).collect()), step)
    }

    /// Forgets the offsets of topics that are gone.
    pub fn forget_topic(&mut self, topic: &str) -> Step {
        let topic: Arc<str> = topic.into();
        let mut step = Step::default();
        for group in self.groups.values() {
            step.records.extend(group.tombstones_in(&topic));
        }
        step
    }

    /// Forgets a group and its offsets.
    ///
    /// # Errors
    /// The group does not exist or has members.
    pub fn delete_group(&mut self, group: &str) -> (Result<(), GroupError>, Step) {
        let mut step = Step::default();
        let Some(group) = self.groups.get(group).filter(|group| !group.is_forgotten()) else {
            return (Err(GroupError::GroupIdNotFound), step);
        };
        if group.state != State::Empty || group.has_consumer_members() {
            return (Err(GroupError::NonEmptyGroup), step);
        }
        group.bury(&mut step);
        (Ok(()), step)
    }

    /// Forgets offsets that nobody used for the retention time, and groups that have nothing left (KIP-211). Those of
    /// transforms stay until they are deleted: one that has nothing to do for long would begin at the beginning.
    pub fn expire(&mut self, now_ms: i64) -> Step {
        let mut step = Step::default();
        let retention_ms = self.config.offsets_retention_ms;
        let groups = self.groups.iter().filter(|(name, _)| !is_reserved(name));
        for (_, group) in groups {
            let before = step.records.len();
            let mut kept = 0;
            for (topic, partitions) in &group.offsets {
                for (partition, value) in partitions {
                    let is_pending = group.pending_offsets.contains(topic, *partition);
                    if !is_pending && group.has_expired(topic, value, now_ms, retention_ms) {
                        step.records.push(group.tombstone(topic, *partition));
                    } else {
                        kept += 1;
                    }
                }
            }
            let is_written = group.written.is_some() || group.consumer.is_some();
            let is_empty = group.state == State::Empty && !group.has_consumer_members();
            let is_unused = group.pending.is_empty() && group.pending_offsets.is_empty();
            if is_empty && kept == 0 && is_unused && is_written {
                step.records.truncate(before);
                group.bury(&mut step);
            }
        }
        step
    }
}

impl Group {
    fn check_commit(&mut self, who: &Identity, env: &mut Env<'_>) -> Result<(), GroupError> {
        let nobody = who.generation < 0 && who.member.is_empty() && who.instance.is_none();
        if who.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if nobody {
            return Err(GroupError::UnknownMemberId);
        }
        let member = match is_on(Mutation::OldGeneration) {
            true => self.check_member(&who.member, who.instance.as_deref())?,
            false => self.check_identity(who)?,
        };
        match self.state {
            State::CompletingRebalance => Err(GroupError::RebalanceInProgress),
            _ => {
                self.extend_session(&member, env);
                Ok(())
            }
        }
    }

    fn has_expired(&self, topic: &str, value: &OffsetValue, now_ms: i64, retention_ms: i64) -> bool {
        if self
            .consumer
            .as_ref()
            .is_some_and(|consumer| consumer.is_subscribed_to(topic))
        {
            return false;
        }
        let base_ms = match (self.state, &self.protocol_type) {
            (State::Empty, Some(_)) => self.empty_since_ms.unwrap_or(value.commit_ms),
            (State::Empty, None) => value.commit_ms,
            (State::Stable, Some(kind)) if kind == CONSUMER => match self.subscribed_topics() {
                Some(topics) if !topics.iter().any(|t| t == topic) => value.commit_ms,
                _ => return false,
            },
            _ => return false,
        };
        match value.expire_ms {
            expire_ms if expire_ms >= 0 => now_ms >= expire_ms,
            _ => now_ms.saturating_sub(base_ms) >= retention_ms,
        }
    }

    /// Topics that members consume; none if that cannot be known.
    fn subscribed_topics(&self) -> Option<Vec<String>> {
        let Some(protocol) = &self.protocol else {
            return self.members.is_empty().then(Vec::new);
        };
        let mut topics = Vec::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(&member.metadata(protocol))?);
        }
        Some(topics)
    }

    fn tombstone(&self, topic: &Arc<str>, partition: i32) -> Record {
        let key = Key::Offset {
            group: self.id.clone(),
            topic: topic.clone(),
            partition,
        };
        Record { key, value: None }
    }

    fn has_offset(&self, topic: &str, partition: i32) -> bool {
        self.offsets
            .get(topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Says of all offsets in a topic that they are gone, of those that are pending, too.
    fn tombstones_in(&self, topic: &Arc<str>) -> impl Iterator<Item = Record> {
        let kept = self.offsets.get(topic).into_iter().flat_map(BTreeMap::keys);
        let partitions: BTreeSet<i32> = kept
            .copied()
            .chain(self.pending_offsets.partitions(topic))
            .collect();
        partitions
            .into_iter()
            .map(|partition| self.tombstone(topic, partition))
    }

    /// Writes that the group and all its offsets are gone.
    fn bury(&self, step: &mut Step) {
        let topics: BTreeSet<_> = self.offsets.keys().chain(self.pending_offsets.topics()).collect();
        for topic in topics {
            step.records.extend(self.tombstones_in(topic));
        }
        match &self.consumer {
            Some(consumer) => consumer.bury(&self.id, &mut step.records),
            None => step.records.push(self.tombstone_of_group()),
        }
    }
}

impl OffsetCommit {
    fn record(&self, group: &Arc<str>, now_ms: i64) -> Record {
        let key = Key::Offset {
            group: group.clone(),
            topic: self.topic.as_str().into(),
            partition: self.partition,
        };
        let value = OffsetValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            commit_ms: now_ms,
            expire_ms: -1,
        };
        Record {
            key,
            value: Some(Value::Offset(value)),
        }
    }
}

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";
