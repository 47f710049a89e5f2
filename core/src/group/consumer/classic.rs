//! Members of the classic protocol in a group of KIP-848, while its members move from one to the other. They join, sync
//! and send heartbeats as ever; the group's epoch is their generation, and the coordinator assigns.

use std::borrow::Cow;
use std::sync::Arc;

use super::embedded::{Subscription, encode_assignment};
use super::record::{ClassicValue, MemberState, MemberValue};
use super::{ConsumerGroup, ConsumerMember, Draft};
use crate::group::member::join_error;
use crate::group::offsets::CONSUMER;
use crate::group::timers::Timer;
use crate::group::{
    Event, GroupError, Groups, Identity, JoinRequest, JoinResponse, LeaveMember, Response, Step, SyncRequest,
    SyncResponse, Token,
};

impl Groups {
    /// JoinGroup.
    pub(in crate::group) fn join_consumer_group(
        &mut self,
        now_ms: i64,
        request: &JoinRequest,
        token: Token,
    ) -> Step {
        match self.try_join_consumer_group(now_ms, request, token) {
            Ok(step) => step,
            Err(error) => {
                let mut step = Step::default();
                step.responses.push((token, join_error(&request.member, error)));
                step
            }
        }
    }

    fn try_join_consumer_group(
        &mut self,
        now_ms: i64,
        request: &JoinRequest,
        token: Token,
    ) -> Result<Step, GroupError> {
        if !self.topics.are_known() {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        let found = self.groups.get_key_value(request.group.as_str());
        let (id, group) = found
            .and_then(|(id, group)| Some((id.clone(), group.consumer.as_deref()?)))
            .ok_or(GroupError::UnknownMemberId)?;
        let is_new = request.member.is_empty();
        let member_id: Arc<str> = if is_new {
            let prefix = request.instance.as_deref().unwrap_or(&request.client_id);
            format!("{prefix}-{}", request.unique).into()
        } else {
            request.member.as_str().into()
        };
        if group.members.len() >= self.config.consumer.members_max && !group.members.contains_key(&member_id)
        {
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !group.supports_classic(request) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let mut step = Step::default();
        if is_new && request.instance.is_none() && request.knows_required_ids {
            let answer = join_error(&member_id, GroupError::MemberIdRequired);
            step.responses.push((token, answer));
            return Ok(step);
        }
        let mut draft = Draft::new(self, &id, Cow::Borrowed(group), now_ms);
        let answer = draft.join_classic(&member_id, request)?;
        if self.config.consumer.migration.may_downgrade()
            && draft.group.members.len() <= self.config.members_max
            && draft.group.can_downgrade()
        {
            // It took the place of the last member of the other protocol. It comes again, to the classic group.
            step.records = group.downgraded(&draft);
            let answer = join_error(&member_id, GroupError::RebalanceInProgress);
            step.responses.push((token, answer));
            self.timers.set(&id, Timer::Converted, now_ms);
            return Ok(step);
        }
        step.events = draft.events(is_new);
        step.records = draft.records;
        step.responses.push((token, Response::Join(answer)));
        self.timers.cancel(&id, &Timer::Rejoin(member_id.clone()));
        let session_ms = i64::from(request.session_timeout_ms);
        self.timers
            .set(&id, Timer::Session(member_id.clone()), now_ms + session_ms);
        let rebalance_ms = i64::from(request.rebalance_timeout_ms.max(0));
        self.timers
            .set(&id, Timer::Resync(member_id), now_ms + rebalance_ms);
        Ok(step)
    }

    /// SyncGroup.
    pub(in crate::group) fn sync_consumer_group(
        &mut self,
        now_ms: i64,
        request: &SyncRequest,
    ) -> Result<SyncResponse, GroupError> {
        let (id, group, member_id) = self.classic_member(&request.who)?;
        let member = &group.members[&member_id];
        let (protocol, subscription) = member.first_protocol()?;
        let differs = |asked: &Option<String>, is: &str| asked.as_ref().is_some_and(|asked| asked != is);
        if differs(&request.protocol_type, CONSUMER) || differs(&request.protocol, protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        let answer = SyncResponse {
            error: None,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(protocol.to_owned()),
            assignment: encode_assignment(&member.has.assigned, &self.topics, subscription),
        };
        let session_ms = member.session_timeout_ms(self.times(&id).session_timeout_ms);
        let rebalance_ms = i64::from(member.wants.rebalance_timeout_ms.max(0));
        // One that has to give back partitions first has just joined; it is asked to join again when it did.
        let behind =
            group.written.epoch > member.has.epoch && member.has.state != MemberState::UnrevokedPartitions;
        if behind {
            self.timers
                .set_if_absent(&id, Timer::Rejoin(member_id), now_ms + rebalance_ms);
            return Err(GroupError::RebalanceInProgress);
        }
        self.timers.cancel(&id, &Timer::Resync(member_id.clone()));
        self.timers
            .set(&id, Timer::Session(member_id), now_ms + session_ms);
        Ok(answer)
    }

    /// Heartbeat. The member has to join again when the group has gone on, when it has to give partitions back, and when
    /// those that it waits for are free.
    pub(in crate::group) fn heartbeat_in_consumer_group(
        &mut self,
        now_ms: i64,
        who: &Identity,
    ) -> Result<(), GroupError> {
        let (id, group, member_id) = self.classic_member(who)?;
        let member = &group.members[&member_id];
        let has_to_join = member.has.epoch < group.written.epoch
            || match member.has.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !group.waits_for_others(&member_id, member),
                MemberState::Stable | MemberState::Unknown(_) => false,
            };
        let session_ms = member.session_timeout_ms(self.times(&id).session_timeout_ms);
        let rebalance_ms = i64::from(member.wants.rebalance_timeout_ms.max(0));
        self.timers
            .set(&id, Timer::Session(member_id.clone()), now_ms + session_ms);
        if has_to_join {
            self.timers
                .set_if_absent(&id, Timer::Rejoin(member_id), now_ms + rebalance_ms);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// LeaveGroup; an administrator may name members of either protocol.
    pub(in crate::group) fn leave_consumer_group(
        &mut self,
        now_ms: i64,
        group: &str,
        leaving: &[LeaveMember],
    ) -> (Vec<Result<(), GroupError>>, Step) {
        let found = self.groups.get_key_value(group);
        let Some((id, group)) = found.and_then(|(id, group)| Some((id.clone(), group.consumer.as_deref()?)))
        else {
            return (
                vec![Err(GroupError::UnknownMemberId); leaving.len()],
                Step::default(),
            );
        };
        let mut gone: Vec<Arc<str>> = Vec::new();
        let mut leave = |member: &LeaveMember| {
            let id = match &member.instance {
                Some(instance) if member.member.is_empty() => {
                    let known = group.instances.get(instance).cloned();
                    known.ok_or(GroupError::UnknownMemberId)?
                }
                instance => group.leaving(&member.member, instance.as_deref())?,
            };
            if !gone.contains(&id) {
                gone.push(id);
            }
            Ok(())
        };
        let answers = leaving.iter().map(&mut leave).collect();
        let mut step = self.fence(&id, &gone, now_ms);
        step.events.extend(gone.iter().map(|_| Event::Left));
        (answers, step)
    }

    /// The member that speaks, if it speaks the classic protocol and is of its generation.
    fn classic_member(&self, who: &Identity) -> Result<(Arc<str>, &ConsumerGroup, Arc<str>), GroupError> {
        let found = self.groups.get_key_value(who.group.as_str());
        let (id, group) = found
            .and_then(|(id, group)| Some((id, group.consumer.as_deref()?)))
            .ok_or(GroupError::UnknownMemberId)?;
        let member_id = group.leaving(&who.member, who.instance.as_deref())?;
        let member = &group.members[&member_id];
        if member.wants.classic.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        if member.has.epoch != who.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok((id.clone(), group, member_id))
    }
}

impl Draft<'_> {
    fn join_classic(&mut self, id: &Arc<str>, request: &JoinRequest) -> Result<JoinResponse, GroupError> {
        let (protocol, metadata) = request
            .protocols
            .first()
            .ok_or(GroupError::InconsistentGroupProtocol)?;
        let subscription =
            Subscription::decode(metadata).map_err(|_| GroupError::InconsistentGroupProtocol)?;
        let before = self.welcome_classic(id, request)?;
        let wants = MemberValue {
            instance: request.instance.clone().or(before.wants.instance.clone()),
            rack: subscription.rack.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            topics: subscription.topics.clone(),
            pattern: None,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicValue {
                session_timeout_ms: request.session_timeout_ms,
                protocols: request.protocols.clone(),
            }),
        };
        let changed = self.take_wishes(id, &before, wants)?;
        self.keep_up(changed.epoch);
        let owned = subscription.owned(self.topics);
        self.reconcile(id, Some(&owned), changed.subscription)?;
        let epoch = self.member(id).map_or(0, |member| member.has.epoch);
        Ok(JoinResponse {
            generation: epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(protocol.clone()),
            ..JoinResponse::to(&**id)
        })
    }

    fn welcome_classic(
        &mut self,
        id: &Arc<str>,
        request: &JoinRequest,
    ) -> Result<Arc<ConsumerMember>, GroupError> {
        let Some(instance) = &request.instance else {
            return Ok(self.member(id).cloned().unwrap_or_default());
        };
        match self.group.instances.get(instance).cloned() {
            Some(old) if old == *id => Ok(self.member(id).cloned().unwrap_or_default()),
            Some(old) if request.member.is_empty() => Ok(self.replace(&old, id)),
            Some(_) => Err(GroupError::FencedInstanceId),
            None if request.member.is_empty() => Ok(Arc::default()),
            None => Err(GroupError::UnknownMemberId),
        }
    }
}

impl ConsumerGroup {
    /// Whether a client of the classic protocol and all such members would have an assignor in common.
    fn supports_classic(&self, request: &JoinRequest) -> bool {
        let members = || self.members.values().filter_map(|m| m.wants.classic.as_ref());
        let common = |name: &str| members().all(|member| member.knows(name));
        request.protocol_type == CONSUMER && request.protocols.iter().any(|(name, _)| common(name))
    }

    /// Whether others still have what a member shall have.
    fn waits_for_others(&self, id: &Arc<str>, member: &ConsumerMember) -> bool {
        let Some(target) = self.targets.get(id) else {
            return false;
        };
        target.iter().any(|(topic, partitions)| {
            let mut missing = partitions.clone();
            missing.retain(|partition| member.holds_since(*topic, *partition).is_none());
            self.take_out_held_by_others(id, *topic, &mut missing)
        })
    }
}

impl ConsumerMember {
    /// The assignor that it prefers, and its subscription for that.
    fn first_protocol(&self) -> Result<(&str, &[u8]), GroupError> {
        let classic = self.wants.classic.as_ref();
        let first = classic.and_then(|classic| classic.protocols.first());
        first
            .map(|(name, metadata)| (name.as_str(), &**metadata))
            .ok_or(GroupError::InconsistentGroupProtocol)
    }
}
