//! ConsumerGroupHeartbeat: a client joins, a member says what it has and wants.

use std::borrow::Cow;
use std::sync::Arc;

use super::config::ConsumerConfig;
use super::member::without_epochs;
use super::record::{ConsumerValue, CurrentValue, MemberState, MemberValue, Part, Partitions};
use super::types::{ConsumerAnswer, ConsumerHeartbeat, JOIN_EPOCH, LEAVE_EPOCH, PAUSE_EPOCH};
use super::{ConsumerGroup, ConsumerMember, Draft};
use crate::group::record::TEXT_BYTES_MAX;
use crate::group::timers::Timer;
use crate::group::{GroupError, Groups, Step};

impl Groups {
    /// A client joins, a member says that it lives and what it has and wants, or it leaves.
    ///
    /// # Errors
    /// It cannot join, has to join again, or asks for what cannot be.
    pub fn consumer_heartbeat(
        &mut self,
        now_ms: i64,
        request: &ConsumerHeartbeat,
    ) -> (Result<ConsumerAnswer, GroupError>, Step) {
        if let Err(error) = check(request, &self.config.consumer) {
            return (Err(error), Step::default());
        }
        if request.epoch < JOIN_EPOCH {
            return self.consumer_leave(now_ms, request);
        }
        match self.consumer_beat(now_ms, request) {
            Ok((answer, step)) => (Ok(answer), step),
            Err(error) => (Err(error), Step::default()),
        }
    }

    fn consumer_beat(
        &mut self,
        now_ms: i64,
        request: &ConsumerHeartbeat,
    ) -> Result<(ConsumerAnswer, Step), GroupError> {
        // Members would have to give back all that they have.
        if !self.topics.are_known() {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        let joins = request.epoch == JOIN_EPOCH;
        let id: Arc<str> = match self.groups.get_key_value(request.group.as_str()) {
            Some((id, _)) => id.clone(),
            None => request.group.as_str().into(),
        };
        let member_id: Arc<str> = match request.member.as_str() {
            "" => request.unique.as_str().into(),
            member => member.into(),
        };
        let (beat, mut step, records, events, settled, interval_ms, restless_until_ms);
        let times = self.times(&id);
        let usual_ms = times.heartbeat_interval_ms;
        {
            let (group, conversion) = self.consumer_group_to_join(&id, joins)?;
            if group.members.len() >= self.config.consumer.members_max
                && !group.members.contains_key(&member_id)
            {
                return Err(GroupError::GroupMaxSizeReached);
            }
            let was_in = group
                .members
                .get(&member_id)
                .is_some_and(|m| m.has.epoch != PAUSE_EPOCH);
            let mut draft = Draft::new(self, &id, group, now_ms);
            let before = draft.welcome(&member_id, request)?;
            beat = draft.beat(&member_id, &before, request)?;
            settled = draft.has_settled();
            if !settled || draft.group.state() != super::ConsumerState::Stable {
                draft.group.to_mut().restless_until_ms = now_ms + i64::from(usual_ms);
            }
            interval_ms = draft.group.interval_ms(now_ms, usual_ms);
            restless_until_ms = draft.group.restless_until_ms;
            events = draft.events(!was_in);
            records = draft.records;
            step = conversion;
        }
        if let Some(step) = &mut step {
            self.timers.set(&id, Timer::Converted, now_ms);
            step.records.extend(records);
            step.events = events;
        } else if settled {
            self.settle(&id);
        } else {
            step = Some(Step {
                records,
                events,
                ..Step::default()
            });
        }
        if let Some(group) = self.groups.get_mut(&id).and_then(|group| group.consumer.as_mut()) {
            group.restless_until_ms = restless_until_ms;
        }
        let answer = ConsumerAnswer {
            heartbeat_interval_ms: interval_ms,
            ..beat.answer
        };
        let session_ms = i64::from(times.session_timeout_ms);
        self.timers
            .set(&id, Timer::Session(member_id.clone()), now_ms + session_ms);
        let timer = Timer::Revocation(member_id, answer.epoch);
        match beat.revocation {
            Revocation::Within(ms) => self.timers.set(&id, timer, now_ms + ms),
            Revocation::Done => self.timers.cancel(&id, &timer),
            Revocation::AsBefore => {}
        }
        Ok((answer, step.unwrap_or_default()))
    }

    /// Notes that there is nothing to do for a group until something changes.
    fn settle(&mut self, id: &Arc<str>) {
        let version = self.topics.version();
        let group = self.groups.get_mut(id).and_then(|group| group.consumer.as_mut());
        if let Some(group) = group {
            group.settled_at = Some(version);
        }
    }

    /// The group that a heartbeat is for, and what has to be written first to make it one that follows KIP-848.
    fn consumer_group_to_join(
        &self,
        id: &Arc<str>,
        joins: bool,
    ) -> Result<(Cow<'_, ConsumerGroup>, Option<Step>), GroupError> {
        match self.groups.get(id) {
            Some(group) if group.consumer.is_some() => {
                let consumer = group.consumer.as_deref();
                Ok((Cow::Borrowed(consumer.expect("it was looked at just now")), None))
            }
            _ if !joins => Err(GroupError::GroupIdNotFound),
            None => Ok((Cow::Owned(ConsumerGroup::default()), None)),
            Some(group) => {
                let (consumer, step) = self.upgrade(group)?;
                Ok((Cow::Owned(consumer), Some(step)))
            }
        }
    }
}

impl Draft<'_> {
    /// The member that the heartbeat is of, as it was before: an old one, or one that was just let in.
    fn welcome(
        &mut self,
        id: &Arc<str>,
        request: &ConsumerHeartbeat,
    ) -> Result<Arc<ConsumerMember>, GroupError> {
        let joins = request.epoch == JOIN_EPOCH;
        let owned = request.owned.as_deref();
        let known = match &request.instance {
            None => self.member(id).cloned(),
            Some(instance) => match self.group.instances.get(instance).cloned() {
                Some(other) if other != *id && joins => {
                    let old = self.member(&other).cloned().unwrap_or_default();
                    if old.has.epoch != PAUSE_EPOCH && old.wants.classic.is_none() {
                        return Err(GroupError::UnreleasedInstanceId);
                    }
                    return Ok(self.replace(&other, id));
                }
                Some(other) if other != *id => return Err(GroupError::FencedInstanceId),
                Some(_) => self.member(id).cloned(),
                None if joins => self.member(id).cloned(),
                None => None,
            },
        };
        match known {
            Some(member) => {
                member.check_epoch(request.epoch, owned)?;
                Ok(member)
            }
            None if joins => Ok(Arc::default()),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// Puts a static member that came back in the place of its former self.
    pub(super) fn replace(&mut self, old: &Arc<str>, id: &Arc<str>) -> Arc<ConsumerMember> {
        let member = self.member(old).cloned().unwrap_or_default();
        let target = self.group.targets.get(old).cloned();
        self.remove(old);
        let has = CurrentValue {
            epoch: 0,
            previous_epoch: 0,
            ..member.has.clone()
        };
        let wants = ConsumerValue::Member(member.wants.clone());
        self.write(Part::Member(id.clone()), Some(wants));
        if let Some(target) = target {
            let target = ConsumerValue::TargetOf(Partitions::clone(&target));
            self.write(Part::TargetOf(id.clone()), Some(target));
        }
        self.write(Part::Current(id.clone()), Some(ConsumerValue::Current(has)));
        self.member(id).cloned().unwrap_or_default()
    }

    /// Writes that a member is out. In this order, which Kafka needs to read it.
    pub(super) fn remove(&mut self, id: &Arc<str>) {
        self.write(Part::Current(id.clone()), None);
        self.write(Part::TargetOf(id.clone()), None);
        self.write(Part::Member(id.clone()), None);
    }

    /// Takes a member's wishes, decides what follows from them, and answers.
    fn beat(
        &mut self,
        id: &Arc<str>,
        before: &Arc<ConsumerMember>,
        request: &ConsumerHeartbeat,
    ) -> Result<Beat, GroupError> {
        let changed = self.take_wishes(id, before, before.updated(request))?;
        let owned = request.owned.as_deref();
        self.keep_up(changed.epoch);
        self.reconcile(id, owned, changed.subscription)?;
        let member = self.member(id).cloned().unwrap_or_default();
        let is_full = request.rebalance_timeout_ms != -1
            && (request.topics.is_some() || request.pattern.is_some())
            && owned.is_some();
        let has_news = || without_epochs(&member.has.assigned) != without_epochs(&before.has.assigned);
        let told = request.epoch == JOIN_EPOCH
            || is_full
            || request.epoch != before.has.epoch
            || (!Arc::ptr_eq(&member, before) && has_news());
        let answer = ConsumerAnswer {
            member: id.to_string(),
            epoch: member.has.epoch,
            heartbeat_interval_ms: 0,
            assignment: told.then(|| without_epochs(&member.has.assigned)),
        };
        let revocation = match member.has.state {
            _ if member.has == before.has => Revocation::AsBefore,
            MemberState::UnrevokedPartitions => {
                Revocation::Within(i64::from(member.wants.rebalance_timeout_ms.max(0)))
            }
            _ => Revocation::Done,
        };
        Ok(Beat { answer, revocation })
    }

    /// Writes what a member wants now, and resolves patterns.
    pub(super) fn take_wishes(
        &mut self,
        id: &Arc<str>,
        before: &Arc<ConsumerMember>,
        wants: MemberValue,
    ) -> Result<Changed, GroupError> {
        let had = &before.wants;
        let names = had.topics != wants.topics;
        let patterns = had.pattern != wants.pattern;
        if *had != wants || self.member(id).is_none() {
            let value = ConsumerValue::Member(wants.clone());
            self.write(Part::Member(id.clone()), Some(value));
        }
        let resolved = match &wants.pattern {
            Some(pattern) => self.resolve(pattern)?,
            None => false,
        };
        if patterns {
            self.forget_pattern(had.pattern.as_ref());
        }
        Ok(Changed {
            epoch: names || patterns || resolved,
            subscription: names || patterns,
        })
    }
}

/// What comes of a heartbeat beside records.
struct Beat {
    answer: ConsumerAnswer,
    revocation: Revocation,
}

/// How long a member may take to give partitions back.
enum Revocation {
    /// As was said before.
    AsBefore,
    /// So many milliseconds.
    Within(i64),
    /// It has nothing to give back.
    Done,
}

/// What became of a member's wishes.
pub(super) struct Changed {
    /// Whether the group has to begin another epoch.
    pub(super) epoch: bool,
    /// Whether the member wants other topics than before.
    pub(super) subscription: bool,
}

/// What a heartbeat has to have, as Kafka checks it.
fn check(request: &ConsumerHeartbeat, config: &ConsumerConfig) -> Result<(), GroupError> {
    let refuse = |why| Err(GroupError::InvalidRequest(why));
    if request.group.is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if request.member.is_empty() && (request.epoch != JOIN_EPOCH || request.unique.is_empty()) {
        return refuse("MemberId can't be empty.");
    }
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    if is_empty(&request.instance) {
        return refuse("InstanceId can't be empty.");
    }
    if is_empty(&request.rack) {
        return refuse("RackId can't be empty.");
    }
    match request.epoch {
        JOIN_EPOCH if request.rebalance_timeout_ms == -1 => {
            return refuse("RebalanceTimeoutMs must be provided in first request.");
        }
        JOIN_EPOCH if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return refuse("TopicPartitions must be empty when (re-)joining.");
        }
        JOIN_EPOCH if request.topics.is_none() && request.pattern.is_none() => {
            return refuse(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
            );
        }
        PAUSE_EPOCH if request.instance.is_none() => return refuse("InstanceId can't be null."),
        epoch if epoch < PAUSE_EPOCH => return refuse("MemberEpoch is invalid."),
        _ => {}
    }
    let named = [
        &request.instance,
        &request.rack,
        &request.assignor,
        &request.pattern,
    ];
    let texts = [
        &request.group,
        &request.member,
        &request.unique,
        &request.client_id,
        &request.client_host,
    ];
    let named_topics = request.topics.as_ref().map_or(0, Vec::len);
    if named_topics > SUBSCRIBED_TOPICS_MAX {
        return refuse("SubscribedTopicNames has too many names.");
    }
    let topics = request.topics.iter().flatten();
    let mut texts = texts.into_iter().chain(named.into_iter().flatten()).chain(topics);
    if texts.any(|text| text.len() > TEXT_BYTES_MAX / 4) {
        return refuse("A text of the request is too long.");
    }
    match &request.assignor {
        Some(wanted) if request.epoch != LEAVE_EPOCH => {
            let mut known = config.assignors.iter();
            let is_known = known.any(|assignor| assignor.name() == wanted);
            is_known.then_some(()).ok_or(GroupError::UnsupportedAssignor)
        }
        _ => Ok(()),
    }
}

/// Most topics that a member may name.
const SUBSCRIBED_TOPICS_MAX: usize = 50_000;
