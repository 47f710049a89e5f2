//! Members go: because they say so, or because they are silent for too long.

use std::borrow::Cow;
use std::sync::Arc;

use super::record::{ConsumerValue, CurrentValue, Held, Part};
use super::types::{ConsumerAnswer, ConsumerHeartbeat, PAUSE_EPOCH};
use super::{ConsumerGroup, Draft};
use crate::group::{Event, GroupError, Groups, Step};

impl Groups {
    pub(super) fn consumer_leave(
        &mut self,
        now_ms: i64,
        request: &ConsumerHeartbeat,
    ) -> (Result<ConsumerAnswer, GroupError>, Step) {
        let mut step = Step::default();
        let found = self.groups.get_key_value(request.group.as_str());
        let Some((id, group)) = found.and_then(|(id, group)| Some((id.clone(), group.consumer.as_deref()?)))
        else {
            return (Err(GroupError::GroupIdNotFound), step);
        };
        let member = match group.leaving(&request.member, request.instance.as_deref()) {
            Ok(member) => member,
            Err(error) => return (Err(error), step),
        };
        let answer = ConsumerAnswer {
            member: request.member.clone(),
            epoch: request.epoch,
            ..ConsumerAnswer::default()
        };
        if request.epoch == PAUSE_EPOCH {
            let mut draft = Draft::new(self, &id, Cow::Borrowed(group), now_ms);
            draft.pause(&member);
            step.records = draft.records;
        } else {
            step = self.fence(&id, &[member], now_ms);
        }
        step.events.push(Event::Left);
        (Ok(answer), step)
    }

    /// Takes members out.
    pub(in crate::group) fn fence(&mut self, id: &Arc<str>, members: &[Arc<str>], now_ms: i64) -> Step {
        let mut step = Step::default();
        let group = self.groups.get(id).and_then(|group| group.consumer.as_deref());
        let Some(group) = group.filter(|_| !members.is_empty()) else {
            return step;
        };
        let mut draft = Draft::new(self, id, Cow::Borrowed(group), now_ms);
        draft.fence(members);
        if self.config.consumer.migration.may_downgrade()
            && draft.group.members.len() <= self.config.members_max
            && draft.group.can_downgrade()
        {
            step.records = group.downgraded(&draft);
            self.timers
                .set(id, crate::group::timers::Timer::Converted, now_ms);
        } else {
            step.records = draft.records;
        }
        step
    }
}

impl Draft<'_> {
    /// Takes members out, and with that begins another epoch.
    fn fence(&mut self, members: &[Arc<str>]) {
        for id in members {
            let pattern = self.member(id).and_then(|member| member.wants.pattern.clone());
            self.remove(id);
            self.forget_pattern(pattern.as_ref());
        }
        let metadata_hash = self.topics.hash(self.group.subscribed_topics());
        self.next_epoch(metadata_hash);
    }

    /// A static member leaves and will be back before its session ends: what it had waits for it.
    fn pause(&mut self, id: &Arc<str>) {
        let Some(member) = self.member(id) else {
            return;
        };
        let has = CurrentValue {
            epoch: PAUSE_EPOCH,
            revoking: Held::new(),
            ..member.has.clone()
        };
        self.write(Part::Current(id.clone()), Some(ConsumerValue::Current(has)));
    }
}

impl ConsumerGroup {
    /// The member that wants to leave.
    pub(super) fn leaving(&self, member: &str, instance: Option<&str>) -> Result<Arc<str>, GroupError> {
        match instance {
            None => self.members.get_key_value(member).map(|(id, _)| id.clone()),
            Some(instance) => match self.instances.get(instance) {
                Some(id) if **id != *member => return Err(GroupError::FencedInstanceId),
                known => known.cloned(),
            },
        }
        .ok_or(GroupError::UnknownMemberId)
    }
}
