//! Groups change their protocol. One without members does whenever a client of the other protocol comes, and keeps its
//! offsets. One with members does if the policy lets it: it becomes one of KIP-848 when the first such member joins, and
//! members of the classic protocol go on in it (`classic.rs`); it becomes a classic one again when the last member of
//! KIP-848 is gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::embedded::{Subscription, decode_assignment, encode_assignment};
use super::record::{
    ClassicValue, ConsumerValue, CurrentValue, EpochValue, Held, MemberState, MemberValue, Part, Partitions,
    TargetValue,
};
use super::{ConsumerGroup, Draft, Topics};
use crate::group::offsets::CONSUMER;
use crate::group::record::{GroupValue, Key, MemberValue as ClassicMemberValue, Record, Value};
use crate::group::state::{Group, State};
use crate::group::{Env, GroupError, Groups, Member, Step, member};
use crate::mutation::{Mutation, is_on};

impl Groups {
    /// What a classic group is as one of KIP-848, and what has to be written and answered for that.
    pub(super) fn upgrade(&self, group: &Group) -> Result<(ConsumerGroup, Step), GroupError> {
        let mut step = Step::default();
        if group.written.is_some() {
            step.records.push(group.tombstone_of_group());
        }
        if group.state == State::Empty {
            return Ok((ConsumerGroup::default(), step));
        }
        let config = &self.config.consumer;
        let may = config.migration.may_upgrade()
            && group.protocol_type.as_deref() == Some(CONSUMER)
            && group.members.len() <= config.members_max;
        if !may {
            return Err(GroupError::GroupIdNotFound);
        }
        let mut draft = Draft::new(self, &group.id, Cow::Owned(ConsumerGroup::default()), 0);
        draft.take_over(group)?;
        step.records.append(&mut draft.records);
        for (id, member) in &group.members {
            let (mut waiting, error) = (member.clone(), GroupError::RebalanceInProgress);
            waiting.answer_waiting_as(id, error, &mut step);
        }
        Ok((draft.group.into_owned(), step))
    }
}

impl Draft<'_> {
    /// Writes the members of a classic group. They have what they had, and the group is where it was.
    fn take_over(&mut self, group: &Group) -> Result<(), GroupError> {
        let mut taken = BTreeSet::new();
        let mut members = Vec::new();
        for (id, member) in &group.members {
            let (wants, assigned) =
                taken_over(group, member, self.topics).ok_or(GroupError::GroupIdNotFound)?;
            let pairs = assigned
                .iter()
                .flat_map(|(topic, p)| p.iter().map(|p| (*topic, *p)));
            // Some assignors give a partition to several members, which this protocol cannot.
            if !pairs.into_iter().all(|pair| taken.insert(pair)) {
                return Err(GroupError::GroupIdNotFound);
            }
            self.write(Part::Member(id.clone()), Some(ConsumerValue::Member(wants)));
            members.push((id.clone(), assigned));
        }
        let value = EpochValue {
            epoch: group.generation,
            metadata_hash: self.topics.hash(self.group.subscribed_topics()),
        };
        self.write(Part::Group, Some(ConsumerValue::Group(value)));
        for (id, assigned) in &members {
            let target = ConsumerValue::TargetOf(assigned.clone());
            self.write(Part::TargetOf(id.clone()), Some(target));
        }
        let target = TargetValue {
            epoch: group.generation,
            made_ms: 0,
        };
        self.write(Part::Target, Some(ConsumerValue::Target(target)));
        for (id, mut assigned) in members {
            if is_on(Mutation::ForgetOnMove) {
                assigned.clear();
            }
            let has = CurrentValue {
                epoch: group.generation,
                previous_epoch: group.generation,
                state: MemberState::Stable,
                assigned: held_since(assigned, group.generation),
                revoking: Held::new(),
            };
            self.write(Part::Current(id), Some(ConsumerValue::Current(has)));
        }
        Ok(())
    }
}

/// A member of a classic group as one of a group of KIP-848, and what it has; none if it is no consumer.
fn taken_over(group: &Group, member: &Member, topics: &Topics) -> Option<(MemberValue, Partitions)> {
    let subscription = match &group.protocol {
        Some(protocol) if member.knows(protocol) => member.metadata(protocol),
        _ => member.protocols.first()?.1.clone(),
    };
    let subscription = Subscription::decode(&subscription).ok()?;
    let assigned = decode_assignment(&member.assignment, topics).ok()?;
    let wants = MemberValue {
        instance: member.instance.clone(),
        rack: subscription.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics,
        pattern: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicValue {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Some((wants, assigned))
}

fn held_since(partitions: Partitions, epoch: i32) -> Held {
    let since = |partitions: BTreeSet<_>| {
        partitions
            .into_iter()
            .map(|partition| (partition, epoch))
            .collect()
    };
    partitions
        .into_iter()
        .map(|(topic, partitions)| (topic, since(partitions)))
        .collect()
}

impl ConsumerGroup {
    /// Whether all members speak the classic protocol and could go on in a classic group.
    pub(super) fn can_downgrade(&self) -> bool {
        self.common_protocol().is_some()
    }

    /// An assignor of the classic protocol that all members know; none if there is a member that does not speak it.
    fn common_protocol(&self) -> Option<&str> {
        let mut classic = Vec::new();
        for member in self.members.values() {
            classic.push(member.wants.classic.as_ref()?);
        }
        let (first, others) = classic.split_first()?;
        let mut names = first.protocols.iter().map(|(name, _)| name.as_str());
        names.find(|name| others.iter().all(|member| member.knows(name)))
    }

    /// Records that make a classic group of this one, with the members that `draft` has left.
    pub(super) fn downgraded(&self, draft: &Draft<'_>) -> Vec<Record> {
        let mut records = Vec::new();
        self.bury(draft.id, &mut records);
        let protocol = draft.group.common_protocol().unwrap_or_default();
        let mut members = BTreeMap::new();
        for (id, member) in &draft.group.members {
            let classic = member.wants.classic.as_ref();
            let subscription = classic
                .map(|classic| classic.metadata(protocol))
                .unwrap_or_default();
            let value = ClassicMemberValue {
                instance: member.wants.instance.clone(),
                client_id: member.wants.client_id.clone(),
                client_host: member.wants.client_host.clone(),
                rebalance_timeout_ms: member.wants.rebalance_timeout_ms,
                session_timeout_ms: classic.map_or(0, |classic| classic.session_timeout_ms),
                assignment: encode_assignment(&member.has.assigned, draft.topics, &subscription),
                subscription,
            };
            members.insert(id.clone(), value);
        }
        let value = GroupValue {
            protocol_type: CONSUMER.to_owned(),
            generation: self.written.epoch,
            protocol: Some(protocol.to_owned()),
            // Nobody has assigned in this generation, so the members have to, also after a restart.
            leader: None,
            state_since_ms: Some(draft.now_ms),
            members,
        };
        records.push(Record {
            key: Key::Group {
                group: draft.id.clone(),
            },
            value: Some(Value::Group(value)),
        });
        records
    }
}

impl Group {
    /// The records are replayed that make a classic group of this one: its members get their sessions, and share anew
    /// what there is.
    pub(in crate::group) fn converted(&mut self, env: &mut Env<'_>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.extend_session(&id, env);
        }
        if self.state == State::Stable {
            self.prepare_rebalance(env);
        }
    }
}

impl ClassicValue {
    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Arc<[u8]> {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

impl Member {
    /// Answers what waits with an error that lets the member come again under its id.
    fn answer_waiting_as(&mut self, id: &str, error: GroupError, step: &mut Step) {
        if let Some(token) = self.joining.take() {
            step.responses.push((token, member::join_error(id, error)));
        }
        self.answer_waiting(error, step);
    }
}
